"""Names to labels, cleaning by content, and the 2048-byte rule.

Everything here runs when the data set is made; nothing of it is part of the model.
"""
import json
import re

HEAD, TAIL = 1536, 512
SIZE = HEAD + TAIL

# Label -> extensions. A label that the data does not hold often enough is dropped by train.py's LABELS check.
EXTENSIONS = {
    "javascript": ".js .mjs .cjs .jsx",
    "typescript": ".ts .mts .cts .tsx .d.ts .d.mts .d.cts",
    "json": ".json .map .geojson .webmanifest .ipynb .jsonc",
    "markdown": ".md .markdown",
    "html": ".html .htm .xhtml",
    "css": ".css",
    "scss": ".scss",
    "less": ".less",
    "yaml": ".yaml .yml",
    "toml": ".toml",
    "ini": ".ini .cfg .desktop .editorconfig .service .socket .timer",
    "xml": ".xml .xsd .xsl .xslt .pom .rdf .qrc .rng .wsdl",
    "svg": ".svg",
    "csv": ".csv",
    "c": ".c",
    "cpp": ".cc .cpp .cxx .hpp .hh .hxx .ipp .tpp",
    "python": ".py .pyi .pyw",
    "java": ".java",
    "kotlin": ".kt .kts",
    "go": ".go",
    "rust": ".rs",
    "shell": ".sh .bash",
    "perl": ".pl .pm",
    "ruby": ".rb .rake .gemspec",
    "php": ".php .phtml",
    "lua": ".lua",
    "tcl": ".tcl",
    "elisp": ".el",
    "vim": ".vim",
    "makefile": ".mk .mak",
    "cmake": ".cmake",
    "sql": ".sql",
    "protobuf": ".proto",
    "batch": ".bat .cmd",
    "powershell": ".ps1 .psm1",
    "asm": ".s .asm",
    "rst": ".rst",
    "txt": ".txt",
    "diff": ".diff .patch",
    "po": ".po .pot",
    "tex": ".tex .sty .cls .ltx",
    "troff": "",
    "pem": ".pem",
    "png": ".png .apng",
    "jpeg": ".jpg .jpeg",
    "gif": ".gif",
    "webp": ".webp",
    "ico": ".ico",
    "bmp": ".bmp",
    "tiff": ".tif .tiff",
    "pdf": ".pdf",
    "ps": ".ps .eps",
    "zip": ".zip .jar .whl .war .epub .odt .ods .docx .xlsx .pptx .npz .nupkg .apk .vsix .egg",
    "gzip": ".gz .tgz .tar.gz .svgz",
    "bzip2": ".bz2 .tar.bz2 .tbz2",
    "xz": ".xz .tar.xz .txz",
    "zstd": ".zst .tar.zst",
    "tar": ".tar",
    "deb": ".deb",
    "ttf": ".ttf",
    "otf": ".otf",
    "woff": ".woff",
    "woff2": ".woff2",
    "eot": ".eot",
    "elf": ".so .ko",
    "pe": ".exe .dll .pyd .efi",
    "macho": ".dylib",
    "ar": ".a",
    "class": ".class",
    "pyc": ".pyc",
    "wasm": ".wasm",
    "mo": ".mo .gmo",
    "sqlite": ".sqlite .sqlite3",
    "wav": ".wav",
    "ogg": ".ogg .oga .ogv .opus",
    "mp3": ".mp3",
    "flac": ".flac",
    "mp4": ".mp4 .m4a .m4v .mov",
    "webm": ".webm .mkv",
}
BY_EXTENSION = {e: label for label, all_ in EXTENSIONS.items() for e in all_.split()}

NAMES = {
    "makefile": "makefile", "gnumakefile": "makefile", "makefile.am": "makefile", "makefile.in": "makefile",
    "cmakelists.txt": "cmake", "rakefile": "ruby", "gemfile": "ruby", "license": "txt", "copying": "txt",
    "authors": "txt", "notice": "txt", "cargo.lock": "toml", "poetry.lock": "toml",
    ".eslintrc": None, ".editorconfig": "ini",
}
SKIP_NAMES = re.compile(
    r"(^|/)(license|licence|copying|notice)[^/]*\.(md|rst|markdown|html)$"
    r"|(egg-info|dist-info)/[^/]*\.txt$|/meta-inf/.*\.txt$|requirements[^/]*\.txt$|robots\.txt$|\.min\.json$", re.I)

BINARY = {
    "png": lambda d: d[:8] == b"\x89PNG\r\n\x1a\n",
    "jpeg": lambda d: d[:3] == b"\xff\xd8\xff",
    "gif": lambda d: d[:4] == b"GIF8",
    "webp": lambda d: d[:4] == b"RIFF" and d[8:12] == b"WEBP",
    "ico": lambda d: d[:4] == b"\0\0\1\0" and 0 < d[4] < 64 and d[5] == 0,
    "bmp": lambda d: d[:2] == b"BM" and d[6:10] == b"\0\0\0\0",
    "tiff": lambda d: d[:4] in (b"II*\0", b"MM\0*", b"II+\0"),
    "pdf": lambda d: d[:5] == b"%PDF-",
    "ps": lambda d: d[:4] == b"%!PS" or d[:4] == b"\xc5\xd0\xd3\xc6",
    "zip": lambda d: b"PK\3\4" in d[:4] or d[:4] == b"PK\5\6",
    "gzip": lambda d: d[:3] == b"\x1f\x8b\x08",
    "bzip2": lambda d: d[:3] == b"BZh",
    "xz": lambda d: d[:6] == b"\xfd7zXZ\0",
    "zstd": lambda d: d[:4] == b"\x28\xb5\x2f\xfd",
    "tar": lambda d: d[257:262] == b"ustar",
    "deb": lambda d: d[:21] == b"!<arch>\ndebian-binary",
    "ttf": lambda d: d[:4] in (b"\0\1\0\0", b"true"),
    "otf": lambda d: d[:4] == b"OTTO",
    "woff": lambda d: d[:4] == b"wOFF",
    "woff2": lambda d: d[:4] == b"wOF2",
    "eot": lambda d: d[34:36] == b"LP",
    "elf": lambda d: d[:4] == b"\x7fELF",
    "pe": lambda d: d[:2] == b"MZ",
    "macho": lambda d: d[:4] in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe")
    or (d[:4] == b"\xca\xfe\xba\xbe" and d[4:8] < b"\0\0\0\x14"),
    "ar": lambda d: d[:8] == b"!<arch>\n" and d[8:14] != b"debian",
    "class": lambda d: d[:4] == b"\xca\xfe\xba\xbe" and d[6:8] >= b"\0\x2c",
    "pyc": lambda d: d[2:4] == b"\r\n",
    "wasm": lambda d: d[:4] == b"\0asm",
    "mo": lambda d: d[:4] in (b"\xde\x12\x04\x95", b"\x95\x04\x12\xde"),
    "sqlite": lambda d: d[:16] == b"SQLite format 3\0",
    "wav": lambda d: d[:4] == b"RIFF" and d[8:12] == b"WAVE",
    "ogg": lambda d: d[:4] == b"OggS",
    "mp3": lambda d: d[:3] == b"ID3" or (d[0] == 0xFF and d[1] & 0xE0 == 0xE0),
    "flac": lambda d: d[:4] == b"fLaC",
    "mp4": lambda d: d[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"),
    "webm": lambda d: d[:4] == b"\x1a\x45\xdf\xa3",
}
# These may hold a program's native part under any name.
NATIVE = ("elf", "pe", "macho", "ar")

SHEBANG = [
    ("shell", re.compile(rb"^#!.*/(env )?(ba|da|k|z)?sh\b")),
    ("python", re.compile(rb"^#!.*\bpython")),
    ("perl", re.compile(rb"^#!.*\bperl")),
    ("ruby", re.compile(rb"^#!.*\bruby")),
    ("php", re.compile(rb"^#!.*\bphp")),
    ("tcl", re.compile(rb"^#!.*\b(tclsh|wish|expect)")),
    ("lua", re.compile(rb"^#!.*\blua")),
    ("javascript", re.compile(rb"^#!.*\bnode\b")),
]

CPP_ONLY = re.compile(
    rb"(?m)^\s*(namespace\s+\w|namespace\s*\{|template\s*<|class\s+[\w\s]+[:{;]|using\s+\w|public:|private:|protected:)"
    rb"|\bstd::|\bvirtual\s|\bconstexpr\b|\bstatic_cast<|\boperator\s*[=<>+\-*(\[]|#include\s*<(string|vector|map|memory|iostream|functional|Q\w+)>")
SCSS_ONLY = re.compile(rb"(?m)^\s*//|\$[\w-]+|@(mixin|include|use|extend|function|forward)\b|&[:.\-\s]|#\{")
LESS_ONLY = re.compile(rb"(?m)^\s*//|@[\w-]+\s*:|@\{|\.[\w-]+\(.*\);|&[:.\-\s]|@import \(")
NEED = {
    "ini": re.compile(rb"(?m)^\s*\[[^\]\n]+\]\s*$"),
    "html": re.compile(rb"<[a-zA-Z!/]"),
    "xml": re.compile(rb"<[a-zA-Z!?]"),
    "svg": re.compile(rb"<svg"),
    "pem": re.compile(rb"-----BEGIN "),
    "po": re.compile(rb"(?m)^msg(id|str)"),
    "diff": re.compile(rb"(?m)^(--- |\+\+\+ |@@ |diff |Index: |\*\*\* |[<>] |\d+(,\d+)?[acd]\d+)"),
    "php": re.compile(rb"<\?"),
    "csv": re.compile(rb"[,;\t]"),
    "sql": re.compile(rb"(?i)\b(select|insert|create|alter|drop|update|delete|grant|comment|set|begin|copy|values)\b"),
    "tex": re.compile(rb"\\[a-zA-Z@]+"),
    "perl": re.compile(rb"\b(use|sub|my|our|package|require|print)\b|=head|=pod"),
    "protobuf": re.compile(rb"\b(message|syntax|service|enum|package)\b"),
    "tcl": re.compile(rb"\b(proc|set|package|namespace|puts|if|return)\b"),
    "troff": re.compile(rb"(?m)^['.][A-Za-z\\]"),
    "asm": re.compile(rb"(?m)\b(mov|add|ret|jmp|push|TEXT|\.text|\.globl|global|section|ldr|str|b[eq]|lea|vmov\w*|pxor)\b|^\s*[.#]\w+"),
}
BAD = {
    "typescript": re.compile(rb"^\s*(<\?xml|<!DOCTYPE)|^\x47"),
    "javascript": re.compile(rb"^\s*<"),
    "txt": re.compile(rb"^\s*[<{]|^#!|(?:^|\n)-- [\w./-]+ --\r?\n"),      # the last: Go's txtar test archives
    "css": re.compile(rb"^\s*<"),
    "ini": re.compile(rb"^%%|\\(def|newcommand|ProvidesFile|DeclareOption)\b"),      # TeX has .cfg files too
    "xml": re.compile(rb"<svg|<html|<!DOCTYPE html"),
    "html": re.compile(rb"^\s*<\?php"),
    "vim": re.compile(rb"^\s*\{"),
}
TXT_RST = re.compile(rb"(?m)^\.\. [\w-]+::|^\.\. _")
MAN_PATH = re.compile(r"/man/([a-zA-Z_.@-]+/)?man\d\w*/[^/]+\.\d\w*(\.gz)?$|/man\d?/[^/]+\.\d$|\.(1|3|5|7|8)$")


def sample(data: bytes) -> bytes:
    """The 2048 bytes the model sees."""
    if len(data) <= SIZE:
        return data + bytes(SIZE - len(data))
    return data[:HEAD] + data[-TAIL:]


def by_name(path: str):
    """Candidate label of a path; '' = look at the content; None = not wanted."""
    low = path.lower()
    name = low.rsplit("/", 1)[-1]
    if SKIP_NAMES.search(low):
        return None
    if name in NAMES:
        return NAMES[name]
    if name.endswith(".h"):
        return "header"
    if name.endswith((".o", ".node")) or ".so." in name:
        return "native"
    if name.endswith((".crt", ".key")):
        return "pem"
    if name.endswith((".db", ".db3")):
        return "sqlite"
    if MAN_PATH.search(low):
        return "troff"
    parts = name.split(".")
    for i in range(1, len(parts)):
        label = BY_EXTENSION.get("." + ".".join(parts[i:]))
        if label:
            return label
    if "." not in name.lstrip("."):
        return ""
    return None


def clean(label, data: bytes):
    """Label after a look at the content, or None where name and content disagree."""
    if len(data) < 8:
        return None
    head = data[:65536]
    seen = sample(data)
    seen = seen[:len(data)]
    if label == "native" or label == "" or label in NATIVE:
        for native in NATIVE:
            if BINARY[native](head):
                return native if label in ("native", "", native) else None
        if label == "":
            for script, pattern in SHEBANG:
                if pattern.search(head[:120].split(b"\n")[0]) and b"\0" not in head:
                    return script
        return None
    if label in BINARY and label != "ps":
        return label if BINARY[label](head) else None
    if label == "ps":
        return "ps" if BINARY["ps"](head) else None
    if b"\0" in head or len(head.strip()) < 8:
        return None
    if any(BINARY[b](head) for b in ("pdf", "gzip", "png", "zip", "ps")):
        return None
    if label == "header":
        if CPP_ONLY.search(seen):
            return "cpp"
        return None if CPP_ONLY.search(data) else "c"
    if label == "c" and CPP_ONLY.search(seen) and re.search(rb"\bstd::|^template\s*<|^namespace ", seen, re.M):
        return None
    if label == "scss" and not SCSS_ONLY.search(seen):
        return None
    if label == "less" and not LESS_ONLY.search(seen):
        return None
    if label in NEED and not NEED[label].search(seen):
        return None
    if label in BAD and BAD[label].search(head):
        return None
    if label in ("javascript", "typescript", "txt", "css") and head.lstrip()[:1] in b"{[":
        try:
            json.loads(data)
            return None
        except ValueError:
            pass
    if label == "json" and head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in b"{[/\"":
        return None
    if label == "php" and b"<?php" not in data and b"<?=" not in data:
        return None
    if label == "php" and not re.search(rb"<\?(php|=)", seen):
        return None
    if label == "txt" and TXT_RST.search(head):
        return None
    if label == "csv":
        lines = [l for l in seen[:HEAD].split(b"\n")[:-1] if l.strip()][:12]
        if len(lines) < 2:
            return None
        for sep in (b",", b";", b"\t", b"|"):
            counts = [l.count(sep) for l in lines]
            if min(counts) >= 1 and max(counts) - min(counts) <= max(2, counts[0] // 4):
                return "csv"
        return None
    if label == "troff" and not re.match(rb"(?s)\s*(['.]|.{0,400}\n\.(TH|Dd|SH|so)\b)", head):
        return None
    if label == "html" and head.lstrip()[:5] == b"<?xml" and b"<html" not in head:
        return None
    if label == "vim" and head.lstrip()[:1] == b"{":
        return None
    return label
