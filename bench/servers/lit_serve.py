"""LitServe with two APIs, /noop and /mlp: {"x": [...]} is answered with {"y": [...]}, in batches."""
import sys

import litserve as ls
import numpy as np

BATCH = {"max_batch_size": 32, "batch_timeout": 0.001}


class Noop(ls.LitAPI):
    def setup(self, device):
        pass

    def decode_request(self, request):
        return request["x"]

    def batch(self, inputs):
        return inputs

    def predict(self, records):
        return records

    def unbatch(self, outputs):
        return outputs

    def encode_response(self, output):
        return {"y": output}


class Mlp(Noop):
    def __init__(self, model, **options):
        super().__init__(**options)
        self.model = model

    def setup(self, device):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])

    def predict(self, records):
        return self.session.run(None, {"x": np.asarray(records, dtype=np.float32)})[0].tolist()


if __name__ == "__main__":
    port, model = int(sys.argv[1]), sys.argv[2]
    apis = [Noop(api_path="/noop", **BATCH), Mlp(model, api_path="/mlp", **BATCH)]
    server = ls.LitServer(apis, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=port, num_api_servers=1, log_level="warning", generate_client_file=False)
