"""Recognises files by the model that `troupe serve` has: docs/connect.md. Arguments: a folder, host:port."""

import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton

FOLDER = sys.argv[1] if len(sys.argv) > 1 else "node_modules"
URL = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:8000"
LABELS = (Path(__file__).parents[2] / "models/filetype/labels.txt").read_text().split()
TRACE = b"python".hex().ljust(32, "0")


def sample(path):
    """The beginning of a file and its end, padded with zeros: one row of the model's input."""
    some = path.read_bytes()
    if len(some) > 2048:
        some = some[:1536] + some[-512:]
    return np.frombuffer(some.ljust(2048, b"\0"), np.uint8).reshape(1, 2048)


client = triton.InferenceServerClient(URL)
files = [path for path in sorted(Path(FOLDER).rglob("*")) if path.is_file()]
for number, path in enumerate(files, 1):
    tensor = triton.InferInput("bytes", [1, 2048], "UINT8")
    tensor.set_data_from_numpy(sample(path))
    headers = {"traceparent": "00-%s-%016x-01" % (TRACE, number)}  # of this record's span, for batches.js
    scores = client.infer("filetype", [tensor], headers=headers).as_numpy("scores")[0]
    print("%s: %s" % (path, LABELS[scores.argmax()]), flush=True)
