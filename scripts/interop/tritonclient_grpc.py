"""Calls a server of Troupe with tritonclient over gRPC, as its users do. Arguments: host:port, token, token of an admin. One JSON line per call."""

import asyncio
import json
import queue
import sys

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from mirror_values import FILES, VALUES, check, classes, same, texts, told
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

URL, TOKEN, ADMIN = sys.argv[1:4]
BEARER = {"authorization": "Bearer " + TOKEN}
FP32 = VALUES["FP32"]


def tensor(name, array):
    made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


def mirror(client, names, **options):
    inputs = [tensor(name, VALUES[name]) for name in names]
    outputs = [triton.InferRequestedOutput("out_" + name) for name in names]
    name = "mirror_" + names[0].lower() if len(names) == 1 else "mirror"
    result = client.infer(name, inputs, outputs=outputs, headers=BEARER, **options)
    for name in names:
        check(same(VALUES[name], result.as_numpy("out_" + name)), "%s: %s" % (name, result.as_numpy("out_" + name)))
    return result


def refused(call, status, words):
    try:
        call()
    except InferenceServerException as error:
        check(error.status() == "StatusCode." + status, "status %s" % error.status())
        check(words in error.message(), error.message())
        return "%s %s" % (status, error.message())
    raise AssertionError("not refused: " + words)


def describe(client):
    check(client.is_server_live(), "live")
    check(client.is_server_ready(), "ready")
    check(client.is_model_ready("mirror", headers=BEARER), "model ready")
    check(not client.is_model_ready("none", headers=BEARER), "no model ready")
    told("is_server_live, is_server_ready, is_model_ready", True)
    server = client.get_server_metadata(headers=BEARER)
    told("get_server_metadata", server.name + ": " + ", ".join(server.extensions))
    metadata = client.get_model_metadata("mirror", headers=BEARER)
    check(sorted(one.datatype for one in metadata.inputs) == sorted(VALUES), "datatypes")
    told("get_model_metadata", "%d inputs, %d outputs" % (len(metadata.inputs), len(metadata.outputs)))
    config = client.get_model_config("mirror", headers=BEARER).config
    check([one.data_type for one in config.input][0] == 1, "TYPE_BOOL")
    told("get_model_config", "max_batch_size %d, %d inputs" % (config.max_batch_size, len(config.input)))
    index = client.get_model_repository_index(headers=BEARER).models
    told("get_model_repository_index", "%d models, all %s" % (len(index), "/".join({one.state for one in index})))
    check(not client.get_system_shared_memory_status(headers=BEARER).regions, "no regions")
    client.unregister_system_shared_memory(headers=BEARER)
    client.unregister_cuda_shared_memory(headers=BEARER)
    told("get_system_shared_memory_status, unregister_*_shared_memory", "none there")


def infer(client):
    names = list(VALUES)
    mirror(client, names)
    for name in names:
        mirror(client, [name])
    told("infer", ", ".join(names))
    for packing in ("gzip", "deflate"):
        mirror(client, names, compression_algorithm=packing)
    told("infer with compression_algorithm", "gzip, deflate")
    wide = np.arange(3_000_000, dtype=np.float32).reshape(-1, 3)
    many = [client.infer("mirror_fp32", [tensor("FP32", part)], headers=BEARER) for part in np.split(wide, 20)]
    check(np.array_equal(np.concatenate([one.as_numpy("out_FP32") for one in many]), wide), "wide")
    told("infer of batches", "20 requests of 50000 rows, in order")
    options = {"request_id": "a/7", "priority": 1, "timeout": 5_000_000, "sequence_id": 3, "sequence_start": True}
    result = mirror(client, ["FP32"], client_timeout=20, parameters={"own": 1, "more": "text"}, **options)
    check(result.get_response().id == "a/7", "id")
    told("request_id, priority, timeout, client_timeout, sequence_id, parameters", result.get_response().id)
    done = queue.Queue()
    for _ in range(50):
        client.async_infer("mirror_fp32", [tensor("FP32", FP32)], lambda result, error: done.put(error), headers=BEARER)
    check(all(done.get(timeout=60) is None for _ in range(50)), "async_infer")
    told("async_infer", "50 at once")
    stats = client.get_inference_statistics("mirror_fp32", headers=BEARER).model_stats[0]
    check(stats.inference_stats.success.count >= 50, "statistics")
    told("get_inference_statistics", "%d requests, %d rows" % (stats.inference_stats.success.count, stats.inference_count))


def classify(client):
    inputs = [tensor("bytes", FILES)]
    scores = client.infer("filetype", inputs, headers=BEARER).as_numpy("scores")
    got = queue.Queue()
    client.start_stream(lambda result, error: got.put((result, error)), headers=BEARER)
    for count in (1, 3, 1000):
        outputs = [triton.InferRequestedOutput("scores", class_count=count)]
        one = client.infer("filetype", inputs, outputs=outputs, headers=BEARER).as_numpy("scores")
        check(texts(one) == classes(scores, count), "classes: %s" % one)
        client.async_stream_infer("filetype", inputs, outputs=outputs)
        result, error = got.get(timeout=60)
        check(error is None and texts(result.as_numpy("scores")) == classes(scores, count), "classes of a stream: %s" % error)
    client.stop_stream()
    told("infer and async_stream_infer with class_count", ", ".join(row[0] for row in texts(one)))
    less = [triton.InferRequestedOutput("scores", class_count=-1)]
    told("infer with class_count -1", refused(lambda: client.infer("filetype", inputs, outputs=less, headers=BEARER), "INVALID_ARGUMENT", "classification"))


def stream(client):
    got = queue.Queue()
    client.start_stream(lambda result, error: got.put((result, error)), headers=BEARER, compression_algorithm="gzip")
    for index in range(200):
        array = np.full((1, 3), index, np.float32)
        client.async_stream_infer("mirror_fp32", [tensor("FP32", array)], request_id=str(index), enable_empty_final_response=True)
    for index in range(200):
        result, error = got.get(timeout=60)
        check(error is None, error)
        check(result.get_response().id == str(index), "order")
        check(result.get_response().parameters["triton_final_response"].bool_param, "final")
        check(result.as_numpy("out_FP32")[0][0] == index, "value")
    told("start_stream, async_stream_infer", "200 answers in their order, each final")
    client.async_stream_infer("none", [tensor("FP32", FP32)], request_id="lost")
    client.async_stream_infer("mirror_fp32", [tensor("FP32", FP32)])
    _, error = got.get(timeout=60)
    check("no model" in error.message(), error)
    result, later = got.get(timeout=60)
    check(later is None and same(FP32, result.as_numpy("out_FP32")), "the stream goes on")
    client.stop_stream()
    told("async_stream_infer of a model that is not there", "%s; the stream goes on" % error.message())
    client.start_stream(lambda result, error: got.put((result, error)), headers={**BEARER, "triton_grpc_error": "true"})
    client.async_stream_infer("none", [tensor("FP32", FP32)])
    _, error = got.get(timeout=60)
    check(error.status() == "StatusCode.NOT_FOUND", error.status())
    client.stop_stream()
    told("the same with triton_grpc_error", "the stream ends with NOT_FOUND")


def text(words, **more):
    given = {"text_input": words, **more}
    kinds = {str: np.object_, bool: np.bool_}
    return [tensor(name, np.array([value], dtype=kinds[type(value)])) for name, value in given.items()]


def decoupled(client):
    config = client.get_model_config("words", headers=BEARER).config
    check(config.model_transaction_policy.decoupled, "decoupled")
    told("get_model_config of a text model", "decoupled, max_batch_size %d" % config.max_batch_size)
    once = lambda: client.infer("words", text("a b"), headers=BEARER)
    told("infer of a text model", refused(once, "UNIMPLEMENTED", "several times"))
    got = queue.Queue()
    client.start_stream(lambda result, error: got.put((result, error)), headers=BEARER)
    words = " ".join("word%d" % index for index in range(50))
    for index in range(20):
        client.async_stream_infer("words", text(words), request_id=str(index), enable_empty_final_response=True)
    pieces = {str(index): [] for index in range(20)}
    ended = set()
    while len(ended) < 20:
        result, error = got.get(timeout=60)
        check(error is None, error)
        response = result.get_response()
        check(response.id not in ended, "after its last answer")
        if response.parameters["triton_final_response"].bool_param:
            check(response.model_name == "words" and not response.outputs, "an empty last answer")
            ended.add(response.id)
        else:
            pieces[response.id].append(result.as_numpy("text_output")[0].decode())
    check(all(len(one) == 50 and "".join(one) == words for one in pieces.values()), pieces)
    told("async_stream_infer of a text model, enable_empty_final_response", "20 texts of 50 answers each, and the empty last ones")
    sampling = '{"max_tokens": "9", "temperature": 0}'
    client.async_stream_infer("words", text("a b", stream=False, sampling_parameters=sampling, exclude_input_in_output=True))
    result, error = got.get(timeout=60)
    check(error is None and result.as_numpy("text_output")[0] == b"a b", error)
    check(result.get_response().parameters["triton_final_response"].bool_param, "final")
    told("the same with stream false and sampling_parameters", "one answer, which is the last")
    client.async_stream_infer("words", text("one FAIL"))
    result, error = got.get(timeout=60)
    check(error is None and result.as_numpy("text_output")[0] == b"one", error)
    _, error = got.get(timeout=60)
    check("out of words" in error.message(), error)
    client.stop_stream()
    told("a text that fails after its first answer", error.message())


def fail(client):
    send = lambda name, array, **options: lambda: client.infer(name, [tensor("FP32", array)], **options)
    told("infer of a model that is not there", refused(send("none", FP32, headers=BEARER), "NOT_FOUND", "no model"))
    told("infer with the wrong shape", refused(send("mirror_fp32", FP32[:, :2], headers=BEARER), "INVALID_ARGUMENT", "shape"))
    told("infer without a token", refused(send("mirror_fp32", FP32), "UNAUTHENTICATED", "token"))
    late = send("slow", FP32, headers=BEARER, client_timeout=0.2)
    refused(late, "DEADLINE_EXCEEDED", "eadline")  # The client or the server says it first.
    told("infer with a client_timeout that passes", "DEADLINE_EXCEEDED")
    load = lambda: client.load_model("mirror", headers=BEARER)
    told("load_model with a token that may not", refused(load, "PERMISSION_DENIED", "may not"))
    register = lambda: client.register_system_shared_memory("r", "/r", 8, headers=BEARER)
    told("register_system_shared_memory", refused(register, "UNIMPLEMENTED", "shared memory"))


def load(client):
    admin = {"authorization": "Bearer " + ADMIN}
    versions = lambda: list(client.get_model_metadata("filetype", headers=BEARER).versions)
    config = client.get_model_config("filetype", headers=BEARER, as_json=True)["config"]
    config["version_policy"] = {"specific": {"versions": ["1"]}}
    client.load_model("filetype", headers=admin, config=json.dumps(config))
    check(versions() == ["1"], versions())
    client.load_model("filetype", headers=admin)
    check(versions() == ["2"], versions())
    told("load_model with config", "version_policy specific 1, the rest as get_model_config told it")
    files = lambda: client.load_model("filetype", headers=admin, config="{}", files={"file:1/model.onnx": b"x"})
    told("load_model with files", refused(files, "UNIMPLEMENTED", "files"))


async def asynchronous():
    async with triton_aio.InferenceServerClient(URL) as client:
        check(await client.is_server_ready(), "ready")
        array = VALUES["INT64"]
        calls = [client.infer("mirror_int64", [tensor("INT64", array)], headers=BEARER) for _ in range(50)]
        for result in await asyncio.gather(*calls):
            check(same(array, result.as_numpy("out_INT64")), "INT64")
        told("tritonclient.grpc.aio: infer", "50 at once")

        async def requests():
            for index in range(50):
                yield {"model_name": "mirror_int64", "inputs": [tensor("INT64", array)], "request_id": str(index)}

        seen = []
        async for result, error in client.stream_infer(requests(), headers=BEARER):
            check(error is None and same(array, result.as_numpy("out_INT64")), error)
            seen.append(result.get_response().id)
        check(seen == [str(index) for index in range(50)], seen)
        told("tritonclient.grpc.aio: stream_infer", "50 answers in their order")


with triton.InferenceServerClient(URL) as one:
    describe(one)
    infer(one)
    classify(one)
    stream(one)
    decoupled(one)
    fail(one)
    load(one)
asyncio.run(asynchronous())
