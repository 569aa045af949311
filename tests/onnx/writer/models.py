#!/usr/bin/env python3
"""Exports the tiny folders as ONNX and runs them with ONNX Runtime.

    models.py TENON [--opset N] [--quantized HOW] [--folders DIR] [FOLDER...]

Each file must pass onnx.checker with strict shape inference, and give the outputs that transformers computed, within
the table (tests/parity/golden.py). Decoders are exported with past: all tokens at once; a prefill of half and then one
token at a time through past_key_values; three sequences padded on the left. One line per folder; exits 1 if any fails.
"""
import argparse
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import onnx
    import onnxruntime as ort
except ImportError as e:
    sys.exit(print(f"SKIPPED: {e.name} is not there") or 77)

HERE = os.path.dirname(os.path.abspath(__file__))
PARITY = os.path.join(HERE, "..", "..", "parity")
sys.path.insert(0, PARITY)
import golden
import json

NAMES = {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"}
OUTPUTS = {"hidden": "last_hidden_state", "start": "start_logits", "end": "end_logits",
           "embedding": "sentence_embedding", "logits": "logits"}
LAST = ["answer", "classify", "classify_tokens", "fill_mask", "embed", "logits", "encode"]  # the entry that is exported


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def check(path):
    """Strict shape inference must agree with what the file says, and the file must say a type for every value."""
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    known = {v.name for v in [*model.graph.value_info, *model.graph.output]}
    missing = [o for n in model.graph.node for o in n.output if o and o not in known]
    if missing:
        raise AssertionError(f"no type for {missing[:3]}")
    return model


class Decoder:
    """A session of a graph with past, fed as transformers.js does."""

    def __init__(self, s):
        self.s = s
        self.past = {}
        self.types = {i.name: i for i in s.get_inputs()}

    def empty(self, batch):
        for name, i in self.types.items():
            if name.startswith("past"):
                shape = [batch if d == "batch_size" else 0 if isinstance(d, str) else d for d in i.shape]
                self.past[name] = np.zeros(shape, np.float16 if "float16" in i.type else np.float32)

    def run(self, ids, mask):
        """mask: of all tokens so far."""
        feeds = {"input_ids": ids.astype(np.int64), **self.past}
        if "attention_mask" in self.types:
            feeds["attention_mask"] = mask.astype(np.int64)
        if "position_ids" in self.types:
            feeds["position_ids"] = np.maximum(np.cumsum(mask, 1) - 1, 0)[:, -ids.shape[1]:].astype(np.int64)
        names = [o.name for o in self.s.get_outputs()]
        out = dict(zip(names, self.s.run(names, feeds)))
        for name in self.past:
            self.past[name] = out[name.replace("past_key_values", "present") if "key_values" in name
                                  else name.replace("past_", "present_", 1)]
        return out["logits"]


class Check:
    def __init__(self):
        self.worst = 0.0
        self.what = []

    def same(self, what, x, r):
        d = golden.Difference(x, r) if x.shape == r.shape else None
        self.worst = max(self.worst, d.ratio if d else np.inf)
        if not d or not d.ok:
            self.what.append(f"{what}: {f'{d.ratio:.2f} of tolerance' if d else f'{x.shape}, expected {r.shape}'}")


def encoder(path, row, golds, entry, c):
    s = session(path)
    wanted = {i.name for i in s.get_inputs()}
    for case in row["cases"]:
        feeds = {NAMES[i]: golds[f"{case}.in.{i}"].astype(np.int64) for i in row["entries"][entry]["inputs"]}
        outs = dict(zip([o.name for o in s.get_outputs()], s.run(None, {k: v for k, v in feeds.items() if k in wanted})))
        mask = feeds["attention_mask"].astype(bool)
        for o in row["entries"][entry]["outputs"]:
            x, r = outs[OUTPUTS[o]], golds[f"{case}.{entry}.{o}"]
            if r.shape[:2] == mask.shape and entry not in ("classify", "embed"):
                x, r = x[mask], r[mask]
            c.same(f"{case} {o}", x, r)
        if entry == "embed":
            c.same(f"{case} token_embeddings", outs["token_embeddings"][mask], golds[f"{case}.encode.hidden"][mask])


def decoder(path, row, golds, c):
    d = Decoder(session(path))
    for case in row["cases"]:
        ids, r = golds[f"{case}.in.ids"], golds[f"{case}.logits.logits"]
        d.empty(len(ids))
        c.same(f"{case} at once", d.run(ids, np.ones_like(ids)), r)
    ids, r = golds["a.in.ids"], golds["a.logits.logits"]
    half = ids.shape[1] // 2
    d.empty(len(ids))
    parts = [d.run(ids[:, :half], np.ones((len(ids), half)))]
    parts += [d.run(ids[:, t:t + 1], np.ones((len(ids), t + 1))) for t in range(half, ids.shape[1])]
    c.same("with past", np.concatenate(parts, 1), r)
    if "batch.pads" in golds and "attention_mask" in d.types:
        ids, pads, r = golds["batch.ids"], golds["batch.pads"], golds["batch.logits"]
        mask = (np.arange(ids.shape[1])[None] >= pads[:, None]).astype(np.int64)
        first = ids.shape[1] - len(r) + 1
        d.empty(len(ids))
        for k in range(len(r)):
            at = slice(0, first) if k == 0 else slice(first + k - 1, first + k)
            c.same(f"padded, step {k}", d.run(ids[:, at], mask[:, :at.stop])[:, -1], r[k])
    if "long.ids" in golds:
        ids, r = golds["long.ids"], golds["long.logits"]
        d.empty(1)
        c.same("past the window", d.run(ids, np.ones_like(ids))[0, -len(r):], r)


def one(tenon, row, flags, tmp):
    folder = os.path.join(PARITY, row["folder"])
    out = os.path.join(tmp, "model.onnx")
    p = subprocess.run([tenon, "export", "onnx", os.path.join(folder, row.get("file", "")), out, *flags],
                       capture_output=True, text=True)
    if p.returncode:
        return p.stderr.strip().splitlines()[0], 0
    try:
        model = check(out)
        golds = golden.load(os.path.join(folder, "goldens.safetensors"))
        entry = next(e for e in LAST if e in row["entries"])
        c = Check()
        if entry == "logits":
            decoder(out, row, golds, c)
        else:
            encoder(out, row, golds, entry, c)
        return "; ".join(c.what[:3]) or f"{len(model.graph.node)} nodes, {c.worst:.3f} of tolerance", not c.what
    except Exception as e:
        return f"{type(e).__name__}: {' '.join(str(e).split())[:300]}", False


def main():
    a = argparse.ArgumentParser()
    a.add_argument("tenon")
    a.add_argument("folders", nargs="*")
    options, flags = a.parse_known_args()
    rows = json.load(open(os.path.join(PARITY, "manifest.json")))
    if options.folders:
        rows = [r for r in rows if os.path.basename(r["folder"]) in options.folders]
    failed = 0
    for row in rows:
        with tempfile.TemporaryDirectory() as tmp:
            text, ok = one(options.tenon, row, flags, tmp)
        failed += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {os.path.basename(row['folder']):22} {text}", flush=True)
    print(f"{len(rows) - failed} of {len(rows)} folders")
    return failed > 0 or not rows


if __name__ == "__main__":
    sys.exit(main())
