"""Ray Serve with two applications, `noop` and `mlp`: {"x": [...]} is answered with {"y": [...]}, in batches."""
import sys

import numpy as np
import ray
from ray import serve
from starlette.requests import Request

PORT, MODEL = int(sys.argv[1]), sys.argv[2]
REPLICA = {"num_replicas": 1, "max_ongoing_requests": 256, "ray_actor_options": {"num_cpus": 1}}
BATCH = {"max_batch_size": 32, "batch_wait_timeout_s": 0.001}


@serve.deployment(**REPLICA)
class Noop:
    @serve.batch(**BATCH)
    async def predict(self, records):
        return records

    async def __call__(self, request: Request):
        return {"y": await self.predict((await request.json())["x"])}


@serve.deployment(**REPLICA)
class Mlp:
    def __init__(self, model):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @serve.batch(**BATCH)
    async def predict(self, records):
        return self.session.run(None, {"x": np.asarray(records, dtype=np.float32)})[0].tolist()

    async def __call__(self, request: Request):
        return {"y": await self.predict((await request.json())["x"])}


if __name__ == "__main__":
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=128 * 2**20,
    )
    quiet = {"enable_access_log": False, "log_level": "ERROR"}
    serve.start(http_options={"host": "127.0.0.1", "port": PORT}, logging_config=quiet)
    serve.run(Noop.bind(), name="noop", route_prefix="/noop", logging_config=quiet)
    serve.run(Mlp.bind(MODEL), name="mlp", route_prefix="/mlp", logging_config=quiet)
    print("up", flush=True)
    sys.stdin.read()
