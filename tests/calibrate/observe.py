#!/usr/bin/env python3
"""What tn_observe shows of tiny folders, against what transformers' modules are called with (goldens.json), and that
the rows of stacked experts are all of a layer's, each of those that its router chose.

  observe.py OBSERVE_MAIN MODELS
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent


def read_safetensors(path):
    data = path.read_bytes()
    n = int.from_bytes(data[:8], "little")
    head = json.loads(data[8:8 + n])
    return {k: (v, data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]]) for k, v in head.items()
            if k != "__metadata__"}


def write_safetensors(path, tensors):
    head, at, blobs = {}, 0, []
    for name, (info, blob) in tensors.items():
        head[name] = {"dtype": info["dtype"], "shape": info["shape"], "data_offsets": [at, at + len(blob)]}
        at += len(blob)
        blobs.append(blob)
    text = json.dumps(head).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def observe(binary, folder, work, *more):
    given = {k[5:]: v for k, v in read_safetensors(folder / "goldens.safetensors").items() if k.startswith("a.in.")}
    inputs = work / f"{folder.name}.safetensors"
    write_safetensors(inputs, given)
    r = subprocess.run([binary, folder, inputs, "0", "0", *more], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)


def check_plain(binary, models, work, name, golden):
    seen = {o["name"]: o for o in observe(binary, models / name, work)}
    for weight, want in golden.items():
        if weight not in seen and weight == "lm_head.weight":  # tied: it is called by the embedding's name
            continue
        if weight == "pooler.dense.weight":  # what transformers adds to the folder
            continue
        got = seen[weight]
        assert got["rows"] == want["rows"], f"{name} {weight}: {got['rows']} rows, {want['rows']} expected"
        np.testing.assert_allclose(got["squares"], want["squares"], rtol=2e-4, atol=1e-4, err_msg=f"{name} {weight}")


def check_experts(binary, models, work):
    shown = observe(binary, models / "qwen3-moe", work)
    router = {o["name"]: o for o in shown}["model.layers.0.mlp.gate.weight"]
    gate = [o for o in shown if "layers.0.mlp.experts" in o["name"] and "gate_proj" in o["name"]]
    assert [o["expert"] for o in gate] == list(range(gate[0]["experts"]))
    assert all(f".{o['expert']}." in o["name"] for o in gate)
    chosen = sum(o["rows"] for o in gate)
    assert chosen == 2 * router["rows"], f"{chosen} rows of experts, {router['rows']} tokens with 2 each"
    total = np.sum([o["squares"] for o in gate], axis=0)
    np.testing.assert_allclose(total, 2 * np.array(router["squares"]), rtol=1e-5)


def check_values(binary, models, work):
    """Every value too: those that weights meet are among them, maybe in another shape."""
    shown = observe(binary, models / "sentence-mean", work, "values")
    values = [o for o in shown if not o["weight"]]
    assert len({o["name"] for o in values}) == len(values) > 30
    sums = [np.array(o["squares"]) for o in values]
    for o in shown:
        if o["weight"]:
            assert any(np.isclose(s.sum(), np.sum(o["squares"]), rtol=1e-6) for s in sums), o["name"]


def main():
    binary, models = sys.argv[1], pathlib.Path(sys.argv[2])
    goldens = json.loads((HERE / "goldens.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        for name in ("llama", "gpt2", "sentence-mean"):
            check_plain(binary, models, work, name, goldens[name])
        check_experts(binary, models, work)
        check_values(binary, models, work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
