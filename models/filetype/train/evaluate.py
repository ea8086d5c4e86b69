"""Measure both versions on the held-out packages; write ../metrics.json and the tables of ../README.md.

Usage: python evaluate.py data.npz [more.npz]
"""
import argparse
import collections
import json
import os
import re
import time

import numpy as np
import onnxruntime as ort

from data import LABELS, MODELS, load


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(model, x):
    return np.concatenate([model.run(None, {"bytes": x[k:k + 64]})[0] for k in range(0, len(x), 64)])


def speed(model, x):
    times = []
    for k in range(60):
        at = (k * 32) % (len(x) - 32)
        start = time.perf_counter()
        model.run(None, {"bytes": x[at:at + 32]})
        times.append((time.perf_counter() - start) / 32 * 1e3)
    return {"best": round(min(times), 3), "median": round(float(np.median(times)), 3)}


def share(mask):
    return round(float(mask.mean()), 4) if len(mask) else None


def measure(path, test):
    model = session(path)
    scores = run(model, test.x)
    guess = scores.argmax(1)
    right, big = guess == test.y, test.size >= 128
    top3 = (np.argsort(-scores, 1)[:, :3] == test.y[:, None]).any(1)
    per = {}
    for k, label in enumerate(LABELS):
        m = (test.y == k) & big
        told = (guess == k) & big
        wrong = collections.Counter(LABELS[g] for g in guess[m] if g != k).most_common(3)
        per[label] = {"files": int(m.sum()), "recall": share(right[m]), "precision": share(right[told]), "mistaken_for": wrong}
    pairs = collections.Counter((LABELS[t], LABELS[g]) for t, g in zip(test.y[big], guess[big]) if t != g)
    sizes = {}
    for low, high in ((8, 64), (64, 128), (128, 256), (256, 512), (512, 2049), (2049, 1 << 60)):
        m = (test.size >= low) & (test.size < high)
        sizes[f"{low}-{high - 1}" if high < 1 << 60 else f"{low}-"] = {"files": int(m.sum()), "top1": share(right[m])}
    top = scores.max(1)
    sure = {str(t): {"share": share(top[big] >= t), "top1": share(right[big & (top >= t)])} for t in (0.5, 0.8, 0.9)}
    recalls = [v["recall"] for v in per.values() if v["files"]]
    return {
        "bytes": os.path.getsize(path),
        "top1_128_bytes_and_more": share(right[big]), "files_128_bytes_and_more": int(big.sum()),
        "top1_all": share(right), "files_all": len(right),
        "top3_128_bytes_and_more": share(top3[big]),
        "macro_128_bytes_and_more": round(float(np.mean(recalls)), 4),
        "top1_real_files_only": share(right[big & (test.derived == 0)]),
        "by_size": sizes, "by_confidence": sure, "per_type": per,
        "confusions": [[t, g, n] for (t, g), n in pairs.most_common(25)],
        "ms_per_file_batch_32_one_core": speed(model, test.x),
    }


def tables(metrics):
    v1, v2 = metrics["versions"]["1"], metrics["versions"]["2"]
    pc = lambda v: "–" if v is None else f"{v * 100:.1f}"
    out = ["| | version 1 | version 2 |", "| --- | ---: | ---: |",
           f"| model.onnx, bytes | {v1['bytes']:,} | {v2['bytes']:,} |"]
    for text, key in (("top-1, held-out packages, files ≥ 128 bytes, %", "top1_128_bytes_and_more"),
                      ("the same, every type weighing the same, %", "macro_128_bytes_and_more"),
                      ("the same, without derived files, %", "top1_real_files_only"),
                      ("top-3, files ≥ 128 bytes, %", "top3_128_bytes_and_more"),
                      ("top-1, all sizes, %", "top1_all")):
        out.append(f"| {text} | {pc(v1[key])} | {pc(v2[key])} |")
    out.append("| ms per file, batch 32, one core, best / median | " + " | ".join(
        f"{v['ms_per_file_batch_32_one_core']['best']} / {v['ms_per_file_batch_32_one_core']['median']}" for v in (v1, v2)) + " |")
    head = "\n".join(out)
    out = ["| | files | of them derived | packages | projects |", "| --- | ---: | ---: | ---: | ---: |"]
    for k, name in (("train", "training"), ("val", "validation"), ("test", "test")):
        t = metrics["total"][k]
        out.append(f"| {name} | {t['files']:,} | {t['derived']:,} | {t['packages']:,} | {t['projects']:,} |")
    totals = "\n".join(out)
    out = ["| file size, bytes | files | version 1, % | version 2, % |", "| --- | ---: | ---: | ---: |"]
    for k in v1["by_size"]:
        out.append(f"| {k} | {v1['by_size'][k]['files']} | {pc(v1['by_size'][k]['top1'])} | {pc(v2['by_size'][k]['top1'])} |")
    sizes = "\n".join(out)
    out = ["| version 2's score at least | share of files, % | top-1 among them, % |", "| --- | ---: | ---: |"]
    for k, v in v2["by_confidence"].items():
        out.append(f"| {k} | {pc(v['share'])} | {pc(v['top1'])} |")
    sure = "\n".join(out)
    out = ["| type | train files / projects | validation | test | test ≥ 128 bytes | v1 recall, % | v2 recall, % | v2 precision, % | v2 mistakes it for |",
           "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
    for label in LABELS:
        d, a, b = metrics["data"][label], v1["per_type"][label], v2["per_type"][label]
        cell = lambda s: f"{d[s]['files']} / {d[s]['projects']}"
        out.append(f"| {label} | {cell('train')} | {cell('val')} | {cell('test')} | {a['files']} | {pc(a['recall'])} | {pc(b['recall'])} | "
                   f"{pc(b['precision'])} | {', '.join(f'{g} {n}' for g, n in b['mistaken_for'])} |")
    per = "\n".join(out)
    out = ["| is | taken for | files |", "| --- | --- | ---: |"] + [f"| {t} | {g} | {n} |" for t, g, n in v2["confusions"][:20]]
    return {"head": head, "totals": totals, "sizes": sizes, "sure": sure, "types": per, "confusions": "\n".join(out)}


def write_card(metrics):
    card = os.path.join(MODELS, "README.md")
    text = open(card).read()
    for name, table in tables(metrics).items():
        text = re.sub(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m: m.group(1) + table + "\n" + m.group(2), text, flags=re.S)
    with open(card, "w") as f:
        f.write(text)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("data", nargs="+")
    o = ap.parse_args()
    sides = load(o.data)
    data = {label: {s: {"files": int((v.y == k).sum()), "projects": len(set(v.project[v.y == k])),
                        "derived": int(v.derived[v.y == k].sum())} for s, v in sides.items()} for k, label in enumerate(LABELS)}
    total = {s: {"files": len(v), "projects": len(set(v.project)), "packages": len(set(v.package)),
                 "derived": int(v.derived.sum()), "sources": dict(collections.Counter(v.source.tolist()))} for s, v in sides.items()}
    assert not set(sides["train"].project) & set(sides["test"].project)
    metrics = {"labels": LABELS, "total": total, "data": data,
               "versions": {v: measure(os.path.join(MODELS, v, "model.onnx"), sides["test"]) for v in ("1", "2")}}
    with open(os.path.join(MODELS, "metrics.json"), "w") as f:
        json.dump(metrics, f, indent=1, ensure_ascii=False)
        f.write("\n")
    write_card(metrics)
    for v, m in metrics["versions"].items():
        print(v, {k: m[k] for k in m if k not in ("per_type", "confusions")})
        print([(l, p["files"], p["recall"]) for l, p in m["per_type"].items() if p["files"] and p["recall"] < 0.9])
        print(m["confusions"][:20])


if __name__ == "__main__":
    main()
