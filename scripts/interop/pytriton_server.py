"""A Triton Inference Server whose models give every tensor back: mirror_fp32 takes FP32 [-1, 3] and gives out_FP32.
So do `picky`, which throws at a 13, and `slow`, which takes its time.

Arguments: ports of HTTP, gRPC and metrics. Says `ready` with the version of the server, and ends with its stdin.
"""

import sys
import time

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

HTTP, GRPC, METRICS = map(int, sys.argv[1:4])
DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.bytes_,
}


@batch
def mirror(**inputs):
    return {"out_" + name: values for name, values in inputs.items()}


@batch
def picky(FP32):
    if (FP32 == 13).any():
        raise ValueError("no 13")
    return {"out_FP32": FP32}


@batch
def slow(FP32):
    time.sleep(3)
    return {"out_FP32": FP32}


config = TritonConfig(http_port=HTTP, grpc_port=GRPC, metrics_port=METRICS, http_address="127.0.0.1", grpc_address="127.0.0.1")
with Triton(config=config) as triton:
    models = [("mirror_" + name.lower(), mirror, name, dtype) for name, dtype in DTYPES.items()]
    for model_name, infer_func, name, dtype in models + [("picky", picky, "FP32", np.float32), ("slow", slow, "FP32", np.float32)]:
        triton.bind(
            model_name=model_name,
            infer_func=infer_func,
            inputs=[Tensor(name=name, dtype=dtype, shape=(3,))],
            outputs=[Tensor(name="out_" + name, dtype=dtype, shape=(3,))],
            config=ModelConfig(max_batch_size=32),
        )
    triton.run()
    print("ready", flush=True)
    sys.stdin.read()
