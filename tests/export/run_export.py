#!/usr/bin/env python3
"""Exports the tiny folders of tests/parity and compares what the files compute with what transformers computed.

    run_export.py TENON gguf|back|folder [FOLDER...]

gguf: folder -> GGUF; back: folder -> GGUF -> folder, each run by tenon itself; folder: folder -> folder, in shards,
whose tensors must be the same bytes. Entry points that GGUF files have no place for (heads of encoders) are not
compared. Tolerances are those of tests/parity.
"""
import argparse
import json
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PARITY = os.path.join(os.path.dirname(HERE), "parity")
sys.path.insert(0, PARITY)
import golden
import numpy as np
import run_parity


class Runner(run_parity.Runner):
    def __init__(self, tenon, mode):
        super().__init__(argparse.Namespace(tenon=tenon, backend="cpu", level="O1", precision="strict", aot=False,
                                            gguf=False))
        self.mode = mode

    def export(self, *args):
        rc, _, err = self.tenon("export", *args)
        if rc:
            raise RuntimeError(f"export {args[0]}: {err.strip()}")

    def model(self, row, tmp):
        path = os.path.join(PARITY, row["folder"], row.get("file", ""))
        self.typed = "oberta" in path or "distilbert" in path
        twin, folder = os.path.join(tmp, "twin.gguf"), os.path.join(tmp, "folder")
        if self.mode in ("gguf", "back"):
            self.export("gguf", path, twin)
        if self.mode == "back":
            self.export("safetensors", twin, folder)
        if self.mode == "folder":
            self.export("safetensors", path, folder, "--max-shard-size", "100k")
            self.same(row, path, folder)
        return twin if self.mode == "gguf" else folder

    def entry(self, model, tmp, entry, inputs):
        """DistilBERT and RoBERTa are BERT in a GGUF file, with token types of zero."""
        if self.mode == "gguf" and "mask" in inputs and "types" not in inputs and self.typed:
            inputs = dict(inputs, types=np.zeros_like(inputs["ids"]))
        return super().entry(model, tmp, entry, inputs)

    def same(self, row, a, b):
        x, y = raw(a), raw(b)
        self.line(os.path.basename(row["folder"]), "tensors", x == y, f"{len(y)} of {len(x)}")

    def folder(self, row):
        if self.mode != "folder":  # GGUF files hold the model without heads of encoders
            keep = {k: v for k, v in row["entries"].items() if k in ("encode", "embed", "logits", "next", "batch")}
            if not keep:
                return self.line(os.path.basename(row["folder"]), "", False, "no entry point to compare")
            row = dict(row, entries=keep)
        # one case says whether the weights are right; the graphs are tested elsewhere
        return super().folder(dict(row, cases=row["cases"][:1], generate=row["generate"] and self.mode == "gguf"))

    def generate(self, name, model, golds, given):
        if not given:
            super().generate(name, model, golds, given)


def raw(folder):
    """All tensors as type, shape and bytes."""
    out = {}
    for f in sorted(os.listdir(folder)):
        if not f.startswith("model") or not f.endswith(".safetensors"):
            continue
        data = open(os.path.join(folder, f), "rb").read()
        n = int.from_bytes(data[:8], "little")
        for k, v in json.loads(data[8:8 + n]).items():
            if k != "__metadata__":
                begin, end = v["data_offsets"]
                out[k] = (v["dtype"], tuple(v["shape"]), data[8 + n + begin:8 + n + end])
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("tenon")
    p.add_argument("mode", choices=["gguf", "back", "folder"])
    p.add_argument("folders", nargs="*")
    o = p.parse_args()
    rows = {os.path.basename(r["folder"]): r for r in json.load(open(os.path.join(PARITY, "manifest.json")))}
    runner = Runner(o.tenon, o.mode)
    for f in o.folders:
        runner.folder(rows[f])
    print(f"{runner.failures} failures")
    sys.exit(runner.failures > 0)


if __name__ == "__main__":
    main()
