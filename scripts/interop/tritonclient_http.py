"""Calls a server of Troupe with tritonclient, as its users do. Arguments: host:port, token, token of an admin. One JSON line per call."""

import asyncio
import json
import sys

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from mirror_values import FILES, VALUES, check, classes, same, texts, told
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

URL, TOKEN, ADMIN = sys.argv[1:4]


def bearer():
    """A new one for each call: the client writes headers of its own into it."""
    return {"Authorization": "Bearer " + TOKEN}


def tensor(name, array, binary=True):
    made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def mirror(client, names, binary_in, binary_out, **options):
    inputs = [tensor(name, VALUES[name], binary_in) for name in names]
    outputs = [triton.InferRequestedOutput("out_" + name, binary_data=binary_out) for name in names]
    name = "mirror_" + names[0].lower() if len(names) == 1 else "mirror"
    result = client.infer(name, inputs, outputs=outputs, headers=bearer(), **options)
    for name in names:
        check(same(VALUES[name], result.as_numpy("out_" + name)), "%s: %s" % (name, result.as_numpy("out_" + name)))
    return result


def classify(client):
    def ask(count, binary):
        outputs = [triton.InferRequestedOutput("scores", binary_data=binary, class_count=count)]
        return client.infer("filetype", [tensor("bytes", FILES)], outputs=outputs, headers=bearer()).as_numpy("scores")

    scores = ask(0, True)
    for count in (1, 3, 1000):
        for binary in (True, False):
            check(texts(ask(count, binary)) == classes(scores, count), "classes: %s" % ask(count, binary))
    told("infer with class_count", "binary and JSON, %s" % ", ".join(texts(ask(1, True))[0] + texts(ask(1, True))[1]))
    send = lambda: client.infer("mirror_fp16", [tensor("FP16", VALUES["FP16"])], outputs=[triton.InferRequestedOutput("out_FP16", class_count=1)], headers=bearer())
    told("infer with class_count of FP16", refused(send, 400, "classes"))


def load(client):
    admin = lambda: {"Authorization": "Bearer " + ADMIN}
    versions = lambda: client.get_model_metadata("filetype", headers=bearer())["versions"]
    config = client.get_model_config("filetype", headers=bearer())
    config["version_policy"] = {"specific": {"versions": [1]}}
    client.load_model("filetype", headers=admin(), config=json.dumps(config))
    check(versions() == ["1"], versions())
    client.load_model("filetype", headers=admin())
    check(versions() == ["2"], versions())
    told("load_model with config", "version_policy specific 1, the rest as get_model_config told it")
    config["max_batch_size"] = 1
    told("load_model with another max_batch_size", refused(lambda: client.load_model("filetype", headers=admin(), config=json.dumps(config)), 501, "max_batch_size"))
    told("load_model with files", refused(lambda: client.load_model("filetype", headers=admin(), config="{}", files={"file:1/model.onnx": b"x"}), 501, "files"))


def refused(call, status, words):
    try:
        call()
    except InferenceServerException as error:
        check(error.status() == str(status), "status %s" % error.status())
        check(words in error.message(), error.message())
        return "%s %s" % (error.status(), error.message())
    raise AssertionError("not refused: " + words)


def sync():
    client = triton.InferenceServerClient(URL, concurrency=8)
    check(client.is_server_live(), "live")
    check(client.is_server_ready(), "ready")
    check(client.is_model_ready("mirror", headers=bearer()), "model ready")
    told("is_server_live, is_server_ready, is_model_ready", True)
    server = client.get_server_metadata(headers=bearer())
    told("get_server_metadata", server["name"] + ": " + ", ".join(server["extensions"]))
    metadata = client.get_model_metadata("mirror", headers=bearer())
    check(sorted(one["datatype"] for one in metadata["inputs"]) == sorted(VALUES), "datatypes")
    told("get_model_metadata", "%d inputs, %d outputs" % (len(metadata["inputs"]), len(metadata["outputs"])))
    config = client.get_model_config("mirror", headers=bearer())
    told("get_model_config", "max_batch_size %d" % config["max_batch_size"])
    index = client.get_model_repository_index(headers=bearer())
    told("get_model_repository_index", "%d models, all %s" % (len(index), "/".join({one["state"] for one in index})))
    names = list(VALUES)
    as_json = [name for name in names if name != "FP16"]
    mirror(client, names, True, True)
    told("infer, binary in and out", ", ".join(names))
    for name in names:
        check(client.infer("mirror_" + name.lower(), [tensor(name, VALUES[name])], headers=bearer()) is not None, name)
    told("infer without requested outputs", "binary_data_output, each datatype alone")
    for name in as_json:
        mirror(client, [name], False, False)
        mirror(client, [name], True, False)
        mirror(client, [name], False, True)
    told("infer, JSON in or out, and mixed", ", ".join(as_json))
    for packing in ("gzip", "deflate"):
        mirror(client, names, True, True, request_compression_algorithm=packing, response_compression_algorithm=packing)
    told("request_compression_algorithm, response_compression_algorithm", "gzip, deflate")
    wide = np.arange(300_000, dtype=np.float32).reshape(100_000 // 2, 6)[:, :3].copy()
    outputs = [triton.InferRequestedOutput("out_FP32")]
    result = client.infer("mirror_fp32", [tensor("FP32", wide)], outputs=outputs, headers=bearer(), response_compression_algorithm="gzip")
    check(np.array_equal(result.as_numpy("out_FP32"), wide), "wide")
    told("infer of a batch", "%d rows in one request, in order" % len(wide))
    result = mirror(client, ["FP32"], True, True, request_id="a/7", priority=1, timeout=5_000_000, sequence_id=3, sequence_start=True, parameters={"own": 1})
    check(result.get_response()["id"] == "a/7", "id")
    told("request_id, priority, timeout, sequence_id, parameters", result.get_response()["id"])
    classify(client)
    waiting = [client.async_infer("mirror_fp32", [tensor("FP32", VALUES["FP32"])], headers=bearer()) for _ in range(50)]
    check(all(one.get_result() is not None for one in waiting), "async_infer")
    told("async_infer", "50 at once over 8 connections")
    stats = client.get_inference_statistics("mirror_fp32", headers=bearer())["model_stats"][0]
    check(stats["inference_stats"]["success"]["count"] >= 50, "statistics")
    told("get_inference_statistics", "%d requests, %d rows, %d batches" % (stats["inference_stats"]["success"]["count"], stats["inference_count"], stats["execution_count"]))
    check(client.get_system_shared_memory_status(headers=bearer()) == [], "no regions")
    client.unregister_system_shared_memory(headers=bearer())
    client.unregister_cuda_shared_memory(headers=bearer())
    told("get_system_shared_memory_status, unregister_*_shared_memory", "none there")
    fp32 = VALUES["FP32"]
    told("infer of a model that is not there", refused(lambda: client.infer("none", [tensor("FP32", fp32)], headers=bearer()), 404, "no model"))
    told("infer with the wrong shape", refused(lambda: client.infer("mirror_fp32", [tensor("FP32", fp32[:, :2])], headers=bearer()), 400, "shape"))
    told("infer without a token", refused(lambda: client.infer("mirror_fp32", [tensor("FP32", fp32)]), 401, "token"))
    told("load_model with a token that may not", refused(lambda: client.load_model("mirror", headers=bearer()), 403, "may not"))
    load(client)
    client.close()


async def asynchronous():
    async with triton_aio.InferenceServerClient(URL) as client:
        check(await client.is_server_ready(), "ready")
        calls = [client.infer("mirror_int64", [tensor("INT64", VALUES["INT64"])], headers=bearer()) for _ in range(50)]
        for result in await asyncio.gather(*calls):
            check(same(VALUES["INT64"], result.as_numpy("out_INT64")), "INT64")
        told("tritonclient.http.aio: infer", "50 at once")


sync()
asyncio.run(asynchronous())
