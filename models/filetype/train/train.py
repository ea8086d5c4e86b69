"""Train version 1 or 2 and write its ONNX file.

Usage: python train.py --version 1|2 --epochs E data.npz [more.npz]
The weights are a running mean over steps; the epoch kept is the best one on the validation packages; the test packages are not looked at here.
"""
import argparse
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

import model as M
from data import LABELS, MODELS, TEXT, load

SEED = 20
FLOOR, CEILING = 200, 1300                         # samples of one label in an epoch
MORE = {"javascript": 4500, "typescript": 4500, "json": 1800, "markdown": 1800, "txt": 2200, "c": 1600, "cpp": 1500}
WHOLE = {"pem", "xml", "svg", "html", "ps", "diff", "po", "csv", "troff", "rst", "markdown"}   # the beginning matters


def augment(x, y, size, rng):
    """Text only: sometimes a shorter file, sometimes one that starts some lines later."""
    for i in np.flatnonzero(TEXT[y]):
        p = rng.random()
        if p >= 0.35:
            continue
        row = x[i]
        end = min(int(size[i]), 2048 if size[i] <= 2048 else 1536)
        start = 0
        if p < 0.12 and LABELS[y[i]] not in WHOLE:
            breaks = np.flatnonzero(row[:end] == 10)
            if len(breaks) > 3:
                start = int(breaks[rng.integers(len(breaks) * 2 // 3)]) + 1
        if end - start < 64:
            continue
        length = end - start
        if p < 0.27:
            length = int(np.exp(rng.uniform(np.log(48), np.log(length + 1))))
        if start + length > 1536 and size[i] > 2048:
            continue
        cut = row[start:start + length].copy()
        if not cut.any():
            continue
        row[:] = 0
        row[:len(cut)] = cut
    return x


def scores(net, x, batch=512):
    net.eval()
    out = []
    with torch.no_grad():
        for k in range(0, len(x), batch):
            out.append(net(torch.from_numpy(x[k:k + batch].astype(np.int64))).numpy())
    return np.concatenate(out)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("data", nargs="+")
    ap.add_argument("--version", type=int, required=True)
    ap.add_argument("--epochs", type=int, required=True)
    ap.add_argument("--batch", type=int, default=256)
    ap.add_argument("--lr", type=float, default=3e-3)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--out")
    o = ap.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    sides = load(o.data)
    train, val = sides["train"], sides["val"]
    print({k: len(v) for k, v in sides.items()}, len(LABELS), "labels", flush=True)
    of = [np.flatnonzero(train.y == k) for k in range(len(LABELS))]
    want = [min(MORE.get(l, CEILING), max(FLOOR, len(of[k]))) for k, l in enumerate(LABELS)]
    steps = (sum(want) // o.batch) * o.epochs
    net = (M.Small if o.version == 1 else M.Large)(len(LABELS))
    decay = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}], lr=o.lr)
    plan = torch.optim.lr_scheduler.OneCycleLR(opt, o.lr, total_steps=steps + 1, pct_start=0.2)
    mean = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995), use_buffers=True)
    best = 0.0
    big = val.size >= 128
    for epoch in range(o.epochs):
        start, total = time.time(), 0.0
        order = np.concatenate([rng.choice(ix, n, replace=n > len(ix)) for ix, n in zip(of, want) if len(ix)])
        rng.shuffle(order)
        net.train()
        for k in range(0, len(order) - o.batch + 1, o.batch):
            ix = order[k:k + o.batch]
            x = augment(train.x[ix], train.y[ix], train.size[ix], rng)
            loss = F.cross_entropy(net(torch.from_numpy(x.astype(np.int64))), torch.from_numpy(train.y[ix].astype(np.int64)),
                                   label_smoothing=0.03)
            opt.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            opt.step()
            mean.update_parameters(net)
            if plan.last_epoch < steps:
                plan.step()
            total += loss.item()
            if k // o.batch % 50 == 0:
                print(f"  {k // o.batch}/{len(order) // o.batch} {loss.item():.3f} {time.time() - start:.0f} s", flush=True)
        right = scores(mean.module, val.x).argmax(1) == val.y
        per = [right[big & (val.y == k)].mean() for k in range(len(LABELS)) if (big & (val.y == k)).any()]
        micro, macro = right[big].mean(), float(np.mean(per))
        print(f"epoch {epoch + 1} loss {total / (len(order) // o.batch):.3f} val >=128 {micro:.4f} macro {macro:.4f} "
              f"all {right.mean():.4f} {time.time() - start:.0f} s", flush=True)
        if micro + macro >= best:
            best = micro + macro
            out = o.out or os.path.join(MODELS, str(o.version), "model.onnx")
            os.makedirs(os.path.dirname(out), exist_ok=True)
            M.export(mean.module, LABELS, out)
    print("best", best / 2, flush=True)


if __name__ == "__main__":
    main()
