"""Runtimes of MLServer: the tensor `x` is answered with the tensor `y`."""
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Noop(MLModel):
    async def load(self):
        return True

    def run(self, records):
        return records

    async def predict(self, payload):
        records = NumpyCodec.decode_input(payload.inputs[0])
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", self.run(records))])


class Mlp(Noop):
    async def load(self):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        model = self.settings.parameters.uri
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return True

    def run(self, records):
        return self.session.run(None, {"x": records})[0]
