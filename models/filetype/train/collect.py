"""Make the data set: 2048-byte samples with label, package and size.

Reads packages as they were downloaded (fetch.sh): Debian packages, npm tarballs,
PyPI wheels and source distributions, crates, Go module zips, jars; optionally the
files of the Debian packages installed on this machine and any node_modules tree.

Usage: python collect.py --out data.npz [--deb DIR] [--npm DIR] [--pypi DIR]
       [--crates DIR] [--gomod DIR] [--maven DIR] [--node-modules DIR] [--system]
"""
import argparse
import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from concurrent.futures import ProcessPoolExecutor

import numpy as np

import labels as L

CAP_TEXT, CAP_BINARY, MAX_BYTES = 24, 12, 8 << 20
CAPS = {"javascript": 40, "typescript": 40, "class": 30}      # else as above, per package and label
PYC_MAGIC = [3379, 3394, 3413, 3425, 3439, 3495, 3531, 3571]  # CPython 3.6 to 3.13
SPLIT_SALT = "troupe-filetype-1"

# ---------------------------------------------------------------- packages and the split

PREFIXES = re.compile(
    r"^(types/|python3?-|py-|node-|ruby-|php-|lua-|golang-|fonts-|ttf-|otf-|elpa-|vim-|r-cran-|tree-sitter-|"
    r"postgresql-\d+-|libjs-|gir1\.2-|django-|flask-|rust-|go-|js-|font-|typeface-|texlive:)")


def project(name: str) -> str:
    """One key for the same project under different distributors: the first word of the bare name."""
    name = name.lower().strip()
    if name.startswith("@fontsource/") or name.startswith("@types/"):
        name = name.split("/", 1)[1]
    name = name.lstrip("@")
    for _ in range(3):
        name = PREFIXES.sub("", name)
    words = [w for w in re.split(r"[^a-z0-9]+", name) if w]
    word = words[0] if words else name
    word = re.sub(r"^lib(?=[a-z]{3})", "", word)
    word = re.sub(r"\d+$", "", word) or word
    word = re.sub(r"(js|py|rs|pp)$", "", word) if len(word) > 4 else word
    return word


def side(key: str) -> str:
    """'test' (20 %), 'val' (10 %) or 'train', from the project's key alone."""
    h = int.from_bytes(hashlib.sha256(f"{SPLIT_SALT}:{key}".encode()).digest()[:4], "big") % 100
    return "test" if h < 20 else "val" if h < 30 else "train"


# ---------------------------------------------------------------- reading packages

def rank(seed: str, path: str) -> bytes:
    return hashlib.md5(f"{seed}|{path}".encode()).digest()


def choose(package, entries):
    """(path, handle, size) -> those to read: at most a cap per label, picked by hash; unnamed files more freely."""
    buckets = {}
    for path, handle, size in entries:
        if size < 8 or size > MAX_BYTES * 8:
            continue
        label = L.by_name(path)
        if label is not None:
            buckets.setdefault(label, []).append((rank(package, path), path, handle, size))
    chosen = []
    for label, files in buckets.items():
        files.sort(key=lambda f: f[0])
        cap = CAPS.get(label) or (CAP_BINARY if label in L.BINARY or label == "native" else CAP_TEXT)
        chosen += [(label, *f[1:]) for f in files[: cap * (3 if label == "" else 1)]]
    return chosen


def records(package, chosen, read):
    out, plain_headers = [], []
    for label, path, handle, size in chosen:
        try:
            data = read(handle, size)
        except Exception:
            continue
        if not data:
            continue
        if label == "troff" and data[:2] == b"\x1f\x8b":
            out.append((data, "gzip", package, path, 0))
            try:
                data = gzip.decompress(data)
            except Exception:
                continue
        elif label == "gzip" and L.BINARY["gzip"](data) and path.endswith((".txt.gz", ".md.gz", ".rst.gz", ".html.gz", ".sql.gz", ".patch.gz", ".po.gz")):
            try:
                plain = gzip.decompress(data)
                inner = L.by_name(path[:-3])
                cleaned = L.clean(inner, plain) if inner else None
                if cleaned:
                    out.append((plain, cleaned, package, path[:-3], 0))
            except Exception:
                pass
        got = L.clean(label, data)
        if got:
            row = (data, got, package, path, 0)
            (plain_headers if label == "header" and got == "c" else out).append(row)
    # A header without a trace of C++ in a C++ package may be either: left out.
    if sum(r[1] == "cpp" for r in out) <= len(plain_headers) // 3:
        out += plain_headers
    return out


def read_tar(package, tar, rename=None):
    groups = {}
    for m in tar.getmembers():
        if m.isfile():
            name = m.name.lstrip("./")
            key = rename(package, name) if rename else package
            groups.setdefault(key, []).append((name, m, m.size))
    out = []
    for key, entries in groups.items():
        chosen = choose(key, entries)
        chosen.sort(key=lambda c: c[2].offset_data)
        out += records(key, chosen, lambda m, size: tar.extractfile(m).read(MAX_BYTES))
    return out


def read_zip(package, archive):
    entries = [(i.filename, i, i.file_size) for i in archive.infolist() if not i.is_dir()]
    chosen = choose(package, entries)
    return records(package, chosen, lambda i, size: archive.open(i).read(MAX_BYTES))


def texlive(package, path):
    """TeX Live bundles thousands of upstream packages; its folders name them."""
    m = re.match(r"usr/share/tex(?:live/texmf-dist|mf)/\w+/[\w-]+/([^/]+)/", path)
    return f"texlive:{m.group(1)}" if m else package


def from_deb(path):
    package = os.path.basename(path).split("_")[0]
    source = subprocess.run(["dpkg-deb", "-f", path, "Source"], capture_output=True, text=True).stdout.split()
    name = source[0] if source else package
    if name.startswith("fonts-") or package.startswith("fonts-"):
        name = package
    whole = open(path, "rb").read()
    out = [(whole, "deb", name, path, 0)]
    for kind, start in deb_members(whole):
        out.append((start, kind, name, path + ":" + kind, 0))
    with tempfile.TemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as tmp:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", path], stdout=tmp, check=True)
        tmp.seek(0)
        with tarfile.open(fileobj=tmp) as tar:
            out += read_tar(name, tar, texlive if name.startswith("texlive") else None)
    return out


def deb_members(whole):
    """control.tar.xz and data.tar.xz inside a .deb (an ar archive)."""
    at = 8
    while at + 60 <= len(whole):
        name, size = whole[at:at + 16].strip().decode("latin-1"), int(whole[at + 48:at + 58])
        body = whole[at + 60:at + 60 + size]
        kind = "xz" if name.endswith(".xz") else "zstd" if name.endswith(".zst") else "gzip" if name.endswith(".gz") else None
        if kind and L.BINARY[kind](body):
            yield kind, body
        at += 60 + size + (size & 1)


def from_archive(path, package):
    """.tgz, .tar.gz, .crate, .whl, .zip, .jar; the archive itself is a sample too."""
    whole = open(path, "rb").read()
    if whole[:2] == b"PK":
        out = [(whole, "zip", package, path, 0)]
        with zipfile.ZipFile(io.BytesIO(whole)) as z:
            return out + read_zip(package, z)
    raw = gzip.decompress(whole) if whole[:2] == b"\x1f\x8b" else whole
    out = [(whole, "gzip", package, path, 0), (raw, "tar", package, path, 1)]
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        return out + read_tar(package, tar)


def from_tree(package, files):
    entries = []
    for f in files:
        try:
            if os.path.isfile(f) and not os.path.islink(f):
                entries.append((f, f, os.path.getsize(f)))
        except OSError:
            pass
    return records(package, choose(package, entries), lambda f, size: open(f, "rb").read(MAX_BYTES))


# ---------------------------------------------------------------- derived files

def find_ffmpeg():
    if shutil.which("ffmpeg"):
        return "ffmpeg"
    try:
        import imageio_ffmpeg
        return imageio_ffmpeg.get_ffmpeg_exe()
    except ImportError:
        return None


def derive(package, found):
    """Rare formats made from this package's own files with the real tools; marked as derived."""
    rng = random.Random(package)
    out = []
    by = {}
    for data, label, _, path, _ in found:
        by.setdefault(label, []).append((data, path))
    texts = [f for label, files in by.items() if label not in L.BINARY for f in files if len(f[0]) > 200]
    every = texts + [f for label, files in by.items() if label in ("elf", "ttf", "wav", "class") for f in files]

    def add(kind, data):
        if data and L.BINARY[kind](data):
            out.append((data, kind, package, "derived." + kind, 1))

    if texts and rng.random() < 0.45:
        data, path = rng.choice(every)
        kind = rng.choice(["bzip2", "xz", "zstd", "zip", "tar", "sqlite", "pyc", "pyc"])
        some = rng.sample(every, min(len(every), rng.randint(1, 6)))
        if kind == "bzip2":
            add(kind, bz2.compress(data, rng.randint(1, 9)))
        elif kind == "xz":
            add(kind, lzma.compress(data, preset=rng.randint(0, 6), check=rng.choice([lzma.CHECK_CRC32, lzma.CHECK_CRC64])))
        elif kind == "zstd":
            import zstandard
            add(kind, zstandard.ZstdCompressor(level=rng.choice([1, 3, 9, 19]), write_checksum=rng.random() < 0.5,
                                               write_content_size=rng.random() < 0.6).compress(data))
        elif kind == "zip":
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as z:
                for d, p in some:
                    z.writestr(p[-80:], d)
            add(kind, buffer.getvalue())
        elif kind == "tar":
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w", format=rng.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])) as t:
                for d, p in some:
                    info = tarfile.TarInfo(p[-80:])
                    info.size, info.mtime, info.mode = len(d), rng.randint(10**9, 17 * 10**8), rng.choice([0o644, 0o755])
                    info.uname, info.gname = rng.choice([("root", "root"), ("", ""), ("user", "users")])
                    t.addfile(info, io.BytesIO(d))
            add(kind, buffer.getvalue())
        elif kind == "sqlite":
            with tempfile.TemporaryDirectory() as tmp:
                f = os.path.join(tmp, "x.db")
                db = sqlite3.connect(f)
                db.execute(f"pragma page_size={rng.choice([1024, 4096, 4096, 8192])}")
                words = [w for w in re.findall(r"[a-z]{4,}", data.decode("latin-1"))[:60] if not sqlite3.complete_statement(w)] or ["word"]
                for n, w in enumerate(rng.sample(words, min(len(words), rng.randint(1, 5)))):
                    db.execute(f"create table \"{w}_{n}\" (id integer primary key, {', '.join('c%d %s' % (k, rng.choice(['text', 'integer', 'blob'])) for k in range(rng.randint(1, 6)))})")
                    for d, p in some:
                        db.execute(f"insert into \"{w}_{n}\" (c0) values (?)", (d[:rng.randint(20, 3000)].decode("latin-1"),))
                db.commit()
                db.close()
                add(kind, open(f, "rb").read())
        elif kind == "pyc" and by.get("python"):
            import importlib._bootstrap_external as boot
            d, p = rng.choice(by["python"])
            try:
                code = compile(d, os.path.basename(p), "exec")
                raw = bytes(boot._code_to_timestamp_pyc(code, rng.randint(10**9, 17 * 10**8), len(d)))
                magic = rng.choice(PYC_MAGIC)
                add(kind, magic.to_bytes(2, "little") + raw[2:])
            except Exception:
                pass
    pictures = by.get("png", []) + by.get("jpeg", [])
    if pictures and rng.random() < 0.6:
        from PIL import Image
        for kind, fmt in rng.sample([("bmp", "BMP"), ("tiff", "TIFF"), ("webp", "WEBP"), ("gif", "GIF"), ("ico", "ICO"), ("jpeg", "JPEG")], 2):
            try:
                image = Image.open(io.BytesIO(rng.choice(pictures)[0]))
                image.load()
                image.thumbnail((400, 400))
                options = {}
                if kind in ("jpeg", "bmp"):
                    image = image.convert(rng.choice(["RGB", "L"]))
                if kind == "tiff":
                    options = {"compression": rng.choice([None, "tiff_lzw", "tiff_deflate"])}
                if kind == "webp":
                    options = {"lossless": rng.random() < 0.4}
                buffer = io.BytesIO()
                image.save(buffer, fmt, **options)
                add(kind, buffer.getvalue())
            except Exception:
                pass
    sounds = [f for k in ("wav", "ogg", "flac", "mp3") for f in by.get(k, [])]
    ffmpeg = find_ffmpeg()
    if ffmpeg and (sounds or pictures) and rng.random() < 0.7:
        jobs = []
        if sounds:
            jobs += [(k, rng.choice(sounds)[0]) for k in rng.sample(["wav", "ogg", "mp3", "flac"], 2)]
        if pictures and rng.random() < 0.5 or sounds and rng.random() < 0.5:
            jobs += [(rng.choice(["mp4", "webm"]), None)]
        for kind, data in jobs:
            with tempfile.TemporaryDirectory() as tmp:
                src, dst = os.path.join(tmp, "in"), os.path.join(tmp, "out." + kind)
                if data is None:
                    moving = bool(pictures) and (not sounds or rng.random() < 0.6)
                    data = rng.choice(pictures if moving else sounds)[0]
                    if kind == "webm":
                        tail = ["-t", "1", "-vf", "scale=96:64", "-c:v", "libvpx", "-an"] if moving else ["-t", "3", "-vn", "-c:a", "libopus"]
                    else:
                        tail = ["-t", "1", "-vf", "scale=96:64", "-pix_fmt", "yuv420p", "-an", "-c:v", rng.choice(["libx264", "mpeg4"])] if moving else ["-t", "3", "-vn", "-c:a", "aac"]
                        tail += rng.choice([[], ["-movflags", "+faststart"]])
                else:
                    tail = ["-t", "4", "-vn", "-map_metadata", rng.choice(["-1", "0"])]
                    tail += rng.choice([[], ["-metadata", "title=" + package]])
                    if kind == "mp3":
                        tail += rng.choice([["-id3v2_version", "0"], [], ["-write_xing", "0"]]) + ["-b:a", rng.choice(["64k", "128k", "192k"])]
                    if kind == "ogg":
                        tail += ["-c:a", rng.choice(["libvorbis", "libopus"])]
                    if kind == "wav":
                        tail += ["-c:a", rng.choice(["pcm_s16le", "pcm_u8", "pcm_f32le", "adpcm_ms"])]
                open(src, "wb").write(data)
                try:
                    subprocess.run([ffmpeg, "-v", "error", "-threads", "1", "-y", "-i", src, *tail, dst], timeout=20,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    add(kind, open(dst, "rb").read())
                except Exception:
                    pass
    return out


# ---------------------------------------------------------------- jobs

def jobs_of(options):
    if options.deb:
        for f in sorted(os.listdir(options.deb)):
            if f.endswith(".deb"):
                yield "deb", os.path.join(options.deb, f), None
    if options.npm:
        for f in sorted(os.listdir(options.npm)):
            if f.endswith(".tgz"):
                yield "npm", os.path.join(options.npm, f), f[:-4].replace("+", "/")
    if options.pypi:
        for f in sorted(os.listdir(options.pypi)):
            if f.endswith((".whl", ".tar.gz", ".zip")):
                yield "pypi", os.path.join(options.pypi, f), re.split(r"-\d", f)[0]
    if options.crates:
        seen = set()
        for root, _, files in os.walk(options.crates):
            for f in sorted(files):
                if f.endswith(".crate"):
                    name = re.split(r"-\d", f)[0]
                    if name not in seen:
                        seen.add(name)
                        yield "crates", os.path.join(root, f), name
    if options.gomod:
        for root, dirs, files in os.walk(options.gomod):
            dirs.sort()
            for f in sorted(files):
                if f.endswith(".zip"):
                    module = root.split("/cache/download/")[-1].split("/@v")[0]
                    parts = [p for p in module.split("/") if not re.fullmatch(r"v\d+", p)]
                    yield "go", os.path.join(root, f), parts[2] if len(parts) > 2 else parts[-1]
    if options.maven:
        for root, _, files in os.walk(options.maven):
            for f in sorted(files):
                if f.endswith(".jar"):
                    yield "maven", os.path.join(root, f), re.split(r"[-_]\d", f)[0]
    for tree in options.node_modules or []:
        for name in sorted(os.listdir(tree)):
            inner = [f"{name}/{n}" for n in sorted(os.listdir(os.path.join(tree, name)))] if name.startswith("@") else [name]
            for n in inner:
                if not n.startswith(".") and os.path.isdir(os.path.join(tree, n)):
                    yield "tree", os.path.join(tree, n), n
    for tree in options.site_packages or []:
        for name in sorted(os.listdir(tree)):
            if os.path.isdir(os.path.join(tree, name)):
                yield "site", os.path.join(tree, name), name
    if options.system:
        info = "/var/lib/dpkg/info"
        query = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${source:Package}\n"], capture_output=True, text=True)
        source = dict(line.split() for line in query.stdout.splitlines())
        for f in sorted(os.listdir(info)):
            if f.endswith(".list"):
                name = f[:-5].split(":")[0]
                yield "dpkg", os.path.join(info, f), source.get(name, name)


def run(job):
    kind, path, package = job
    try:
        if kind == "deb":
            found = from_deb(path)
        elif kind == "site":
            found = from_tree(package, [os.path.join(r, f) for r, _, fs in os.walk(path) for f in fs if f.endswith(".pyc")])
        elif kind == "tree":
            found = from_tree(package, [os.path.join(r, f) for r, _, fs in os.walk(path) for f in fs])
        elif kind == "dpkg":
            found = from_tree(package, [l for l in open(path).read().splitlines() if l.startswith("/usr/")])
        else:
            found = from_archive(path, package)
            if kind == "maven" and path.endswith("-sources.jar"):
                found = [r for r in found if r[1] != "zip"] + found[:1]
        if kind in ("deb", "npm", "pypi", "crates", "go"):
            found += derive(found[0][2] if found else package, found)
    except Exception as error:
        return [], f"{path}: {error!r}"
    rows = []
    for data, label, name, inner, derived in found:
        seen = L.sample(data)
        rows.append((seen, label, name, len(data), derived, kind, hashlib.sha1(seen).digest()[:8]))
    return rows, None


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", required=True)
    for o in ("deb", "npm", "pypi", "crates", "gomod", "maven"):
        ap.add_argument("--" + o)
    ap.add_argument("--node-modules", action="append")
    ap.add_argument("--site-packages", action="append", help="its compiled modules (.pyc), package by package")
    ap.add_argument("--system", action="store_true")
    ap.add_argument("--workers", type=int, default=2)
    options = ap.parse_args()
    jobs = list(jobs_of(options))
    print(len(jobs), "packages", flush=True)
    by_hash, cap = {}, {}
    with ProcessPoolExecutor(options.workers) as pool:
        for n, (rows, problem) in enumerate(pool.map(run, jobs, chunksize=4)):
            if problem:
                print(problem[:200], flush=True)
            for row in rows:
                key = project(row[2])
                k = (key, row[1])
                if cap.get(k, 0) >= 120:     # a project with hundreds of packages stays one project
                    continue
                old = by_hash.get(row[6])
                if old is None:
                    by_hash[row[6]] = (*row, key)
                    cap[k] = cap.get(k, 0) + 1
                elif old[1] != row[1]:
                    by_hash[row[6]] = (*old[:1], None, *old[2:])   # two labels for the same bytes: neither
            if n % 200 == 0:
                print(n, len(by_hash), flush=True)
    rows = [r for r in by_hash.values() if r[1]]
    names = sorted({r[1] for r in rows})
    np.savez(options.out,
             x=np.frombuffer(b"".join(r[0] for r in rows), np.uint8).reshape(len(rows), L.SIZE),
             y=np.array([names.index(r[1]) for r in rows], np.int16), names=np.array(names),
             package=np.array([r[2] for r in rows]), project=np.array([r[7] for r in rows]),
             side=np.array([side(r[7]) for r in rows]),
             size=np.array([r[3] for r in rows], np.int64), derived=np.array([r[4] for r in rows], np.uint8),
             source=np.array([r[5] for r in rows]))
    print(len(rows), "samples,", len(names), "labels")


if __name__ == "__main__":
    sys.exit(main())
