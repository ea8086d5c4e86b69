"""Calls a server of Troupe with kserve's clients, as their users do. Arguments: port of HTTP, port of gRPC, token. One JSON line per call."""

import asyncio
import logging
import sys

import grpc
import httpx
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from mirror_values import VALUES, check, same, told

HTTP, GRPC, TOKEN = sys.argv[1:4]
URL = "http://127.0.0.1:" + HTTP
BEARER = {"authorization": "Bearer " + TOKEN}
PAIRS = tuple(BEARER.items())
# Its JSON has no NaN and no infinity.
PLAIN = dict(VALUES, FP32=VALUES["FP32"][:, :1].repeat(3, 1), FP64=VALUES["FP64"][:, :2].repeat(2, 1)[:, :3])


def request(name, binary, values, asked=None, **more):
    made = InferInput(name, list(values.shape), name)
    made.set_data_from_numpy(values, binary_data=binary)
    outputs = None if asked is None else [RequestedOutput("out_" + name, {"binary_data": asked})]
    return InferRequest("mirror_" + name.lower(), [made], request_outputs=outputs, **more)


async def refused(call, kind, words):
    try:
        await call
    except kind as error:
        said = error.details() if isinstance(error, grpc.RpcError) else str(error)
        check(words in said, said)
        return said.split(", '")[0]
    raise AssertionError("not refused: " + words)


async def rest():
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    check(await client.is_server_live(URL) and await client.is_server_ready(URL), "live and ready")
    check(await client.is_model_ready(URL, "mirror", headers=BEARER), "model ready")
    check(not await client.is_model_ready(URL, "none", headers=BEARER), "no model ready")
    told("InferenceRESTClient: is_server_live, is_server_ready, is_model_ready", True)
    infer = lambda sent, name: client.infer(URL, sent, model_name="mirror_" + name.lower(), headers=dict(BEARER))
    for binary, asked, what in ((True, True, "binary"), (False, None, "JSON"), (True, False, "binary, answered as JSON"), (False, True, "JSON, answered as binary")):
        names = []
        for name, values in (VALUES if binary and asked else PLAIN).items():
            if name == "FP16" and not (binary and asked):
                continue
            result = await infer(request(name, binary, values, asked, request_id="a/7", parameters={"priority": 1}), name)
            check(result.id == "a/7" and result.model_name == "mirror_" + name.lower(), result)
            got = result.get_output_by_name("out_" + name).as_numpy()
            check(same(values, got), "%s %s: %s" % (what, name, got))
            names.append(name)
        told("InferenceRESTClient.infer, " + what, ", ".join(names))
    values = VALUES["INT64"]
    many = await asyncio.gather(*(infer(request("INT64", True, values, True), "INT64") for _ in range(50)))
    check(all(same(values, one.outputs[0].as_numpy()) for one in many), "INT64")
    told("InferenceRESTClient.infer", "50 at once")
    sent = {"inputs": [{"name": "INT8", "shape": [1, 3], "datatype": "INT8", "data": [1, 2, 3]}]}
    told("InferenceRESTClient.infer of a dict", (await client.infer(URL, sent, model_name="mirror_int8", headers=BEARER)).outputs[0].data)
    call = client.infer(URL, request("INT8", False, VALUES["INT8"]), model_name="none", headers=dict(BEARER))
    told("InferenceRESTClient.infer of a model that is not there", await refused(call, httpx.HTTPStatusError, "There is no model"))
    call = client.infer(URL, request("INT8", False, VALUES["INT8"]), model_name="mirror_int8")
    told("InferenceRESTClient.infer without a token", await refused(call, httpx.HTTPStatusError, "token"))
    await client.close()


async def over_grpc():
    client = InferenceGRPCClient("127.0.0.1:" + GRPC)
    check(await client.is_server_live(headers=PAIRS) and await client.is_server_ready(headers=PAIRS), "live and ready")
    check(await client.is_model_ready("mirror", headers=PAIRS), "model ready")
    told("InferenceGRPCClient: is_server_live, is_server_ready, is_model_ready", True)
    for binary, what in ((True, "raw"), (False, "typed contents")):
        names = []
        for name, values in (VALUES if binary else PLAIN).items():
            if name == "FP16" and not binary:
                continue
            result = await client.infer(request(name, binary, values, request_id="a/7"), headers=PAIRS)
            got = result.get_output_by_name("out_" + name).as_numpy()
            check(result.id == "a/7" and same(values, got), "%s %s: %s" % (what, name, got))
            names.append(name)
        told("InferenceGRPCClient.infer, " + what, ", ".join(names))
    sent = request("INT8", True, VALUES["INT8"])
    sent.model_name = "none"
    told("InferenceGRPCClient.infer of a model that is not there", await refused(client.infer(sent, headers=PAIRS), grpc.RpcError, "no model"))
    told("InferenceGRPCClient.infer without a token", await refused(client.infer(request("INT8", True, VALUES["INT8"])), grpc.RpcError, "token"))
    await client.close()


logging.disable()  # What it is refused, it says twice.
asyncio.run(rest())
asyncio.run(over_grpc())
