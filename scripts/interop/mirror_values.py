"""What the scripts of the clients share: tensors of every datatype, and how they say what they found."""

import json
import pathlib

import numpy as np

VALUES = {
    "BOOL": np.array([[True, False, True]]),
    "UINT8": np.array([[0, 1, 255]], np.uint8),
    "UINT16": np.array([[0, 1, 65535]], np.uint16),
    "UINT32": np.array([[0, 1, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 2**53 + 1, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 0, 127]], np.int8),
    "INT16": np.array([[-(2**15), 0, 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), 0, 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**53 + 1, 2**63 - 1]], np.int64),
    "FP16": np.array([[-0.0, 65504, np.inf]], np.float16),
    "FP32": np.array([[0.1, np.nan, -np.inf]], np.float32),
    "FP64": np.array([[0.1, 5e-324, np.nan]], np.float64),
    "BYTES": np.array([["", "grüße", "a\x00b"]], object),
}


MODEL = pathlib.Path(__file__).parents[2] / "models/filetype"
LABELS = (MODEL / "labels.txt").read_text().splitlines()
FILES = np.stack([np.frombuffer(path.read_bytes()[:2048].ljust(2048, b"\0"), np.uint8) for path in (pathlib.Path(__file__), MODEL / "README.md")])


def classes(scores, count):
    """What a server tells of scores, by the words of the extension: value, index and label, highest first."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return [["%f:%d:%s" % (row[at], at, LABELS[at]) for at in best] for row, best in zip(scores, order)]


def texts(array):
    return [[bytes(text).decode() if isinstance(text, bytes) else text for text in row] for row in array]


def told(what, fact=""):
    print(json.dumps({"what": what, "fact": str(fact)}), flush=True)


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def same(sent, got):
    if sent.dtype == object:
        return [text.encode() for text in sent.flatten()] == [bytes(x) if isinstance(x, bytes) else x.encode() for x in got.flatten()]
    return sent.dtype == got.dtype and sent.shape == got.shape and np.array_equal(sent, got, equal_nan=sent.dtype.kind == "f")
