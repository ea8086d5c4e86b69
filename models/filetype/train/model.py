"""The two networks, and their export to ONNX by hand (weights as float16 or int8, arithmetic in float32)."""
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SIZE = 2048
# An n-gram's bucket is (b0*H0 + b1*H1 + ...) mod M; the sums of up to four fit int32.
HASH = (1000003, 1299709, 611953, 1597463)


def counts(index, width):
    """[n, t] bucket numbers -> log(1 + how often each occurs), [n, width]."""
    n = index.shape[0]
    flat = index + torch.arange(n)[:, None] * width
    return torch.log1p(torch.bincount(flat.flatten(), minlength=n * width).view(n, width).float())


def grams(b, n, modulus):
    t = b.shape[1] - n + 1
    return sum(b[:, k:k + t] * HASH[k] for k in range(n)) % modulus


class Small(nn.Module):
    """Version 1: byte and trigram counts, the first 16 bytes, one hidden layer."""
    head, dim, buckets = 16, 8, 2039

    def __init__(self, labels, hidden=80):
        super().__init__()
        self.embed = nn.Embedding(256, self.dim)
        self.front = nn.Linear(self.head * self.dim, 48)
        self.hist = nn.Linear(256, 32)
        self.tri = nn.Linear(self.buckets, hidden)
        self.norm = nn.BatchNorm1d(48 + 32 + hidden)
        self.drop = nn.Dropout(0.15)
        self.hidden = nn.Linear(48 + 32 + hidden, 96)
        self.out = nn.Linear(96, labels)

    def forward(self, b):
        front = F.relu(self.front(self.embed(b[:, :self.head]).flatten(1)))
        hist = F.relu(self.hist(counts(b, 256)))
        tri = F.relu(self.tri(counts(grams(b, 3, self.buckets), self.buckets)))
        x = self.drop(self.norm(torch.cat([front, hist, tri], 1)))
        return self.out(self.drop(F.relu(self.hidden(x))))


class Large(nn.Module):
    """Version 2: counts of bytes, trigrams and 4-grams, the first 32 bytes, two hidden layers."""
    head, dim, tri_buckets, four_buckets = 32, 16, 4093, 6133

    def __init__(self, labels):
        super().__init__()
        self.embed = nn.Embedding(256, self.dim)
        self.front = nn.Linear(self.head * self.dim, 64)
        self.hist = nn.Linear(256, 48)
        self.tri = nn.Linear(self.tri_buckets, 72)
        self.four = nn.Linear(self.four_buckets, 72)
        width = 64 + 48 + 72 + 72
        self.norm = nn.BatchNorm1d(width)
        self.drop = nn.Dropout(0.25)
        self.hidden = nn.Linear(width, 160)
        self.out = nn.Linear(160, labels)

    def forward(self, b):
        front = F.relu(self.front(self.embed(b[:, :self.head]).flatten(1)))
        hist = F.relu(self.hist(counts(b, 256)))
        tri = F.relu(self.tri(counts(grams(b, 3, self.tri_buckets), self.tri_buckets)))
        four = F.relu(self.four(counts(grams(b, 4, self.four_buckets), self.four_buckets)))
        x = self.drop(self.norm(torch.cat([front, hist, tri, four], 1)))
        return self.out(self.drop(F.relu(self.hidden(x))))


# ---------------------------------------------------------------- export

def export(model, labels, path):
    import onnx
    from onnx import TensorProto as T, helper as h, numpy_helper as nh

    nodes, inits, count = [], [], [0]

    def name(stem):
        count[0] += 1
        return f"{stem}_{count[0]}"

    def const(array, stem="c"):
        n = name(stem)
        inits.append(nh.from_array(np.ascontiguousarray(array), n))
        return n

    def op(kind, *inputs, **attributes):
        out = name(kind)
        nodes.append(h.make_node(kind, list(inputs), [out], **attributes))
        return out

    def weight(array):
        return op("Cast", const(np.asarray(array, np.float16), "w"), to=T.FLOAT)

    def np_(t):
        return t.detach().numpy().astype(np.float64)

    def linear(x, w, b):
        return op("Gemm", x, weight(w), weight(b), transB=1)

    def affine(bn):
        """BatchNorm as x * a + c."""
        a = np_(bn.weight) / np.sqrt(np_(bn.running_var) + bn.eps)
        return a, np_(bn.bias) - np_(bn.running_mean) * a

    def wide(x, layer):
        """A wide layer's weights as int8 with a scale per output; onnxruntime folds this into float32 when it loads."""
        w = np_(layer.weight)
        scale = np.abs(w).max(1, keepdims=True) / 127
        q = op("Cast", const(np.rint(w / scale).astype(np.int8), "q"), to=T.FLOAT)
        w = op("Mul", q, const(scale.astype(np.float32), "s"))
        return op("Relu", op("Gemm", x, w, weight(np_(layer.bias)), transB=1))

    i64 = lambda *v: const(np.array(v, np.int64))
    i32 = lambda v: const(np.array(v, np.int32))
    f32 = lambda v: const(np.array(v, np.float32))
    model.eval()
    b = op("Cast", "bytes", to=T.INT32)
    rows = op("Slice", op("Shape", "bytes"), i64(0), i64(1))

    def histogram(index, width, length):
        zero = op("ConstantOfShape", op("Concat", rows, i64(width), axis=0), value=h.make_tensor("z", T.FLOAT, [1], [0.0]))
        one = op("ConstantOfShape", op("Concat", rows, i64(length), axis=0), value=h.make_tensor("o", T.FLOAT, [1], [1.0]))
        return op("Log", op("Add", op("ScatterElements", zero, index, one, axis=1, reduction="add"), f32(1)))

    def dense(x, layer):
        return op("Relu", linear(x, np_(layer.weight), np_(layer.bias)))

    def gram_counts(n, width):
        t = SIZE - n + 1
        mixed = None
        for k in range(n):
            term = op("Mul", op("Slice", b, i64(k), i64(k + t), i64(1)), i32(HASH[k]))
            mixed = term if mixed is None else op("Add", mixed, term)
        return histogram(op("Mod", mixed, i32(width)), width, t)

    front = op("Gather", weight(np_(model.embed.weight)), op("Slice", b, i64(0), i64(model.head), i64(1)))
    front = dense(op("Reshape", front, i64(-1, model.head * model.dim)), model.front)
    features = [front, dense(histogram(b, 256, SIZE), model.hist)]
    if isinstance(model, Large):
        features += [wide(gram_counts(3, model.tri_buckets), model.tri), wide(gram_counts(4, model.four_buckets), model.four)]
    else:
        features += [dense(gram_counts(3, model.buckets), model.tri)]
    a, c = affine(model.norm)
    w = np_(model.hidden.weight)
    x = op("Relu", linear(op("Concat", *features, axis=1), w * a, np_(model.hidden.bias) + w @ c))
    x = linear(x, np_(model.out.weight), np_(model.out.bias))
    nodes.append(h.make_node("Softmax", [x], ["scores"], axis=1))
    graph = h.make_graph(nodes, "filetype",
                         [h.make_tensor_value_info("bytes", T.UINT8, ["n", SIZE])],
                         [h.make_tensor_value_info("scores", T.FLOAT, ["n", len(labels)])], inits)
    proto = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8, producer_name="troupe")
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
