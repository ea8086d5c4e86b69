"""Write ../golden.json: small fixtures made here (snippets below, files made by the tools), none of anybody else's.

Usage: python make_golden.py     (needs pillow, fonttools, brotli, onnxruntime, zstandard; gcc, ar, javac, msgfmt,
       dpkg-deb and ffmpeg where present; a type whose tool is absent is left out)
A record is kept when version 2 is right with a score of at least 0.8.
"""
import base64
import bz2
import gzip
import importlib._bootstrap_external as boot
import io
import json
import lzma
import math
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import tarfile
import tempfile
import wave
import zipfile

import numpy as np

import labels as L
from collect import find_ffmpeg
from data import LABELS, MODELS
from evaluate import session

HERE = os.path.dirname(os.path.abspath(__file__))
rng = random.Random(7)


def snippets():
    """train/golden/NAME.LABEL: the file as it is."""
    folder = os.path.join(HERE, "golden")
    for f in sorted(os.listdir(folder)):
        yield f.rsplit(".", 1)[1], open(os.path.join(folder, f), "rb").read()


def picture(width=120, height=80):
    from PIL import Image
    image = Image.new("RGB", (width, height))
    for x in range(width):
        for y in range(height):
            image.putpixel((x, y), (x * 2, y * 3, (x * y) % 256))
    return image


def pictures():
    image = picture()
    for label, kind, options in (("png", "PNG", {}), ("jpeg", "JPEG", {"quality": 80}), ("gif", "GIF", {}), ("webp", "WEBP", {}),
                                 ("bmp", "BMP", {}), ("tiff", "TIFF", {}), ("ico", "ICO", {}), ("pdf", "PDF", {})):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        yield label, buffer.getvalue()


def archives(text):
    yield "gzip", gzip.compress(text * 3)
    yield "bzip2", bz2.compress(text * 3)
    yield "xz", lzma.compress(text * 3)
    try:
        import zstandard
        yield "zstd", zstandard.compress(text * 3)
    except ImportError:
        pass
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("docs/one.txt", text)
        z.writestr("docs/two.txt", text * 2)
    yield "zip", buffer.getvalue()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as t:
        info = tarfile.TarInfo("docs/one.txt")
        info.size, info.mtime = len(text), 1700000000
        t.addfile(info, io.BytesIO(text))
    yield "tar", buffer.getvalue()


def fonts():
    try:
        from fontTools.fontBuilder import FontBuilder
        from fontTools.pens.t2CharStringPen import T2CharStringPen
        from fontTools.pens.ttGlyphPen import TTGlyphPen
    except ImportError:
        return
    names = [".notdef"] + [chr(c) for c in range(65, 91)]
    for otf in (False, True):
        builder = FontBuilder(1000, isTTF=not otf)
        builder.setupGlyphOrder(names)
        builder.setupCharacterMap({ord(n): n for n in names[1:]})
        glyphs = {}
        for k, n in enumerate(names):
            pen = T2CharStringPen(600, None) if otf else TTGlyphPen(None)
            pen.moveTo((50, 0)); pen.lineTo((500 + k, 0)); pen.lineTo((500, 700 - k * 9)); pen.lineTo((50, 700)); pen.closePath()
            glyphs[n] = pen.getCharString() if otf else pen.glyph()
        if otf:
            builder.setupCFF("TroupeTest", {"FullName": "Troupe Test"}, glyphs, {})
        else:
            builder.setupGlyf(glyphs)
        builder.setupHorizontalMetrics({n: (600, 50) for n in names})
        builder.setupHorizontalHeader(ascent=800, descent=-200)
        builder.setupNameTable({"familyName": "Troupe Test", "styleName": "Regular"})
        builder.setupOS2(sTypoAscender=800)
        builder.setupPost()
        for flavor in (None, "woff", "woff2") if not otf else (None,):
            buffer = io.BytesIO()
            try:
                builder.font.flavor = flavor
                builder.font.save(buffer)
            except ImportError:
                continue
            yield flavor or ("otf" if otf else "ttf"), buffer.getvalue()


def programs(tmp):
    def tool(*command, **options):
        if not shutil.which(command[0]):
            return False
        return subprocess.run(command, cwd=tmp, capture_output=True, **options).returncode == 0

    def made(name):
        return open(os.path.join(tmp, name), "rb").read()

    def put(name, text):
        open(os.path.join(tmp, name), "w").write(text)

    put("a.c", "#include <stdio.h>\nint twice(int x) { return 2 * x; }\nint main(void) { printf(\"%d\\n\", twice(21)); return 0; }\n")
    if tool("gcc", "-O1", "-c", "a.c", "-o", "a.o"):
        yield "elf", made("a.o")
    if tool("gcc", "-O1", "a.c", "-o", "a.out"):
        yield "elf", made("a.out")
    if tool("gcc", "-shared", "-fPIC", "a.c", "-o", "a.so"):
        yield "elf", made("a.so")
    if tool("ar", "rc", "a.a", "a.o"):
        yield "ar", made("a.a")
    put("Twice.java", "public class Twice { private int n; public int twice(int x) { n++; return 2 * x + n; }\n"
        "public static void main(String[] args) { System.out.println(new Twice().twice(args.length)); } }\n")
    if tool("javac", "Twice.java"):
        yield "class", made("Twice.class")
    put("a.po", 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "file"\nmsgstr "Datei"\n\nmsgid "open"\nmsgstr "öffnen"\n')
    if tool("msgfmt", "a.po", "-o", "a.mo"):
        yield "mo", made("a.mo")
    os.makedirs(os.path.join(tmp, "deb/DEBIAN"))
    put("deb/DEBIAN/control", "Package: troupe-test\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: test\n")
    if tool("dpkg-deb", "-b", "deb", "a.deb"):
        yield "deb", made("a.deb")
    code = compile(open(__file__).read(), "make_golden.py", "exec")
    yield "pyc", bytes(boot._code_to_timestamp_pyc(code, 1700000000, 5000))
    db = sqlite3.connect(os.path.join(tmp, "a.db"))
    db.execute("create table people (id integer primary key, name text)")
    db.executemany("insert into people (name) values (?)", [(f"person {k}",) for k in range(50)])
    db.commit()
    db.close()
    yield "sqlite", made("a.db")
    with wave.open(os.path.join(tmp, "a.wav"), "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(22050)
        w.writeframes(b"".join(struct.pack("<h", int(9000 * math.sin(k / 9) + rng.randint(-200, 200))) for k in range(22050)))
    yield "wav", made("a.wav")
    ffmpeg = find_ffmpeg()
    if ffmpeg:
        for label, extra in (("mp3", []), ("ogg", ["-c:a", "libvorbis"]), ("flac", []), ("mp4", ["-c:a", "aac"]), ("webm", ["-c:a", "libopus"])):
            if subprocess.run([ffmpeg, "-v", "error", "-y", "-i", "a.wav", *extra, "b." + label], cwd=tmp).returncode == 0:
                yield label, made("b." + label)
    # A module with one exported function, (i32, i32) -> i32, written out by hand, and a name section.
    section = lambda kind, body: bytes([kind, len(body)]) + body
    yield "wasm", (b"\0asm\1\0\0\0" + section(1, b"\1\x60\2\x7f\x7f\1\x7f") + section(3, b"\1\0") + section(7, b"\1\3add\0\0")
                   + section(10, b"\1\7\0\x20\0\x20\1\x6a\x0b") + section(0, b"\4name\1\6\1\0\3add\2\7\1\0\2\0\1a\1\1b"))


def main():
    model = session(os.path.join(MODELS, "2", "model.onnx"))
    with tempfile.TemporaryDirectory() as tmp:
        text = b"".join(b"%d green bottles, standing on the wall; %d more to count.\n" % (k, 99 - k) for k in range(40))
        files = [*snippets(), *pictures(), *archives(text), *fonts(), *programs(tmp)]
    out, seen = [], set()
    for label, data in files:
        x = L.sample(data)
        score = model.run(None, {"bytes": np.frombuffer(x, np.uint8)[None]})[0][0]
        guess = LABELS[int(score.argmax())]
        mark = "" if guess == label and score.max() >= 0.8 else "   <- left out"
        print(f"{label:11s} {guess:11s} {score.max():.3f} {len(data)}{mark}")
        if not mark:
            seen.add(label)
            out.append({"label": label, "expectedV2": guess, "base64": base64.b64encode(x).decode()})
    with open(os.path.join(MODELS, "golden.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(r) for r in out) + "\n]\n")
    print(len(out), "records,", len(seen), "types")


if __name__ == "__main__":
    main()
