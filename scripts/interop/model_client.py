"""Calls a server of Troupe with the clients of nvidia-pytriton, as their users do. Arguments: port of HTTP, port of gRPC. One JSON line per call."""

import asyncio
import sys
import warnings

import numpy as np
from mirror_values import VALUES, check, same, told
from pytriton.client import AsyncioModelClient, FuturesModelClient, ModelClient
from pytriton.client.exceptions import PyTritonClientInferenceServerError, PyTritonClientTimeoutError

URLS = {"http": "http://127.0.0.1:" + sys.argv[1], "grpc": "grpc://127.0.0.1:" + sys.argv[2]}

warnings.simplefilter("ignore")  # That a time-out of ours is shorter than one of its own.


def refused(call, kind, words):
    try:
        call()
    except kind as error:
        check(words in str(error), str(error))
        return "%s: %s" % (kind.__name__, words)
    raise AssertionError("not refused: " + words)


def sent(name):
    values = VALUES[name]
    return np.char.encode(values.astype(str), "utf-8").astype(object) if name == "BYTES" else values


def plain(way, url):
    for name in VALUES:
        with ModelClient(url, "mirror_" + name.lower()) as client:
            check(client.is_batching_supported, "batches")
            batch = client.infer_batch(sent(name))["out_" + name]
            sample = client.infer_sample(**{name: sent(name)[0]})["out_" + name]
            check(same(VALUES[name], batch) and same(VALUES[name][0], sample), "%s: %s" % (name, batch))
    told("ModelClient over %s: infer_batch, infer_sample" % way, ", ".join(VALUES))
    with ModelClient(url, "mirror", lazy_init=False, init_timeout_s=30) as client:
        config = client.model_config
        told("ModelClient over %s: model_config" % way, "%d inputs, %d outputs, max_batch_size %d" % (len(config.inputs), len(config.outputs), config.max_batch_size))
    with ModelClient(url, "mirror_int64", model_version="1") as client:
        rows = np.arange(96, dtype=np.int64).reshape(32, 3)
        check(same(rows, client.infer_batch(rows, parameters={"tenant": "a"}, headers={"x-tenant": "a"})["out_INT64"]), "rows")
        told("ModelClient over %s: infer_batch with version, parameters, headers" % way, "32 rows")
        wrong = lambda: client.infer_batch(np.zeros((1, 2), np.int64))
        told("ModelClient over %s: infer_batch of the wrong shape" % way, refused(wrong, PyTritonClientInferenceServerError, "shape must be [-1, 3], got [1, 2]"))
    none = lambda: ModelClient(url, "none", lazy_init=False, init_timeout_s=2)
    told("ModelClient over %s of a model that is not there" % way, refused(none, PyTritonClientTimeoutError, "Waiting for model none/<latest> to be ready timed out"))
    with ModelClient(url, "slow", inference_timeout_s=0.5) as client:
        late = lambda: client.infer_batch(VALUES["FP32"])
        told("ModelClient over %s: infer_batch with an inference_timeout_s that passes" % way, refused(late, PyTritonClientTimeoutError, "Timeout"))


def of_futures(way, url):
    with FuturesModelClient(url, "mirror_fp32", max_workers=8) as client:
        waiting = [client.infer_batch(VALUES["FP32"]) for _ in range(50)]
        check(all(same(VALUES["FP32"], one.result()["out_FP32"]) for one in waiting), "FP32")
        told("FuturesModelClient over %s: infer_batch" % way, "50 at once")


async def asynchronous(way, url):
    async with AsyncioModelClient(url, "mirror_bytes") as client:
        for result in await asyncio.gather(*(client.infer_batch(sent("BYTES")) for _ in range(50))):
            check(same(VALUES["BYTES"], result["out_BYTES"]), "BYTES")
        told("AsyncioModelClient over %s: infer_batch" % way, "50 at once")


for each in URLS.items():
    plain(*each)
    asyncio.run(asynchronous(*each))
# Its second worker forgets that the first one's address was of gRPC, whatever the server.
of_futures("http", URLS["http"])
