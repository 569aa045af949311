#!/usr/bin/env python3
"""Adapters against what peft computed (make_lora.py): beside the weights, merged, from GGUF files, changed in a library.

    run_lora.py TENON [cpu|library|ref|gguf|wrong]

Tolerance: the whole-model row in float32 (tests/parity/golden.py); weights merged into bf16 are rounded, so that these
compare in the bf16 row.
"""
import json
import os
import shutil
import struct
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "parity"))
import golden  # noqa: E402  skips without numpy

import numpy as np  # noqa: E402
from cases import CASES  # noqa: E402

MODELS = os.path.join(HERE, "..", "parity", "models")
DATA = os.path.join(HERE, "data")


class Runner:
    def __init__(self, tenon, tmp):
        self.tenon, self.tmp, self.failures = tenon, tmp, 0
        self.goldens = golden.load(os.path.join(HERE, "goldens.safetensors"))
        self.ids = os.path.join(tmp, "ids.npy")
        np.save(self.ids, self.goldens["ids"].astype(np.int32))

    def check(self, what, ok, text):
        self.failures += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {what:34} {text}", flush=True)

    def logits(self, model, case, what, *options, half=False):
        out = os.path.join(self.tmp, "out")
        shutil.rmtree(out, ignore_errors=True)
        os.mkdir(out)
        rc, _, err = golden.run(self.tenon, ["run", model, "--entry", "logits", "--input", f"ids={self.ids}",
                                             "--output-dir", out, *options])
        if rc:
            return self.check(what, False, err.strip())
        got, want = np.load(os.path.join(out, "logits.npy")), self.goldens[case]
        d = golden.Difference(got, want)
        ok = d.ok
        if half:
            rms = float(np.sqrt(np.mean(want.astype(np.float64) ** 2)))
            ok = bool(np.all(np.abs(got - want) <= 6e-2 * rms + 1e-2 * np.abs(want))) and d.nmse <= 1e-4
        self.check(what, ok, f"max abs {d.abs:.2e}, NMSE {d.nmse:.1e}")

    def refused(self, what, model, options, *words):
        rc, _, err = golden.run(self.tenon, ["run", model, "--ids", "1,2", "-n", "1", *options])
        lines = [x for x in err.splitlines() if "error" in x]
        self.check(what, rc == 1 and len(lines) == 1 and all(w in err for w in words), err.strip()[:160])


def flags(adapters):
    return [x for name, weight in adapters.items() for x in ("--adapter", f"{os.path.join(DATA, name)}={weight}")]


def in_process(r, backend):
    level = "-O0" if backend == "ref" else "-O3"
    for case, (model, adapters) in CASES.items():
        folder = os.path.join(MODELS, model)
        for mode in ("switch", "merge"):
            r.logits(folder, case, f"{case} {mode} {backend}", *flags(adapters), "--adapter-mode", mode, "--backend",
                     backend, level, half=model.endswith("bf16") and mode == "merge")


def library(r):
    lib = os.path.join(r.tmp, "libtiny.so")
    folder = os.path.join(MODELS, "llama")
    both = ["--adapter", os.path.join(DATA, "attention"), "--adapter", os.path.join(DATA, "mlp") + "=0"]
    rc, _, err = golden.run(r.tenon, ["compile", folder, "-o", lib, *both])
    r.check("compile", rc == 0, err.strip())
    r.logits(lib, "one", "library as made")
    r.logits(lib, "both", "library, both changed", "--adapter", "attention=0.5", "--adapter", "mlp=2")
    r.logits(lib, "rslora", "library, the other one", "--adapter", "attention=0", "--adapter", "mlp=1")
    r.logits(lib, "none", "library, both off", "--adapter", "attention=0")
    r.refused("no such adapter", lib, ["--adapter", "nobody=1"], "nobody", "attention,mlp")
    rc, _, err = golden.run(r.tenon, ["compile", folder, "-o", lib, *both, "--adapter-mode", "merge"])
    r.check("compile, merged", rc == 0, err.strip())
    r.logits(lib, "one", "library, merged")
    r.refused("merged are fixed", lib, ["--adapter", "mlp=1"], "merged")


def gguf(r):
    import make_gguf  # skips where the gguf package is not there
    from make_gguf_adapter import convert
    base = os.path.join(r.tmp, "base.gguf")
    make_gguf.convert(os.path.join(MODELS, "llama"), base)
    adapters = {}
    for name in ("attention", "mlp"):
        adapters[name] = os.path.join(r.tmp, name + ".gguf")
        convert(os.path.join(DATA, name), os.path.join(MODELS, "llama"), adapters[name])
    for case in ("one", "rslora", "both"):
        options = [x for n, w in CASES[case][1].items() for x in ("--adapter", f"{adapters[n]}={w}")]
        for mode in ("switch", "merge"):
            r.logits(base, case, f"{case} {mode} gguf", *options, "--adapter-mode", mode)


def edited(r, name, **changes):
    folder = os.path.join(r.tmp, "edited")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(os.path.join(DATA, name), folder)
    path = os.path.join(folder, "adapter_config.json")
    with open(path) as f:
        config = json.load(f)
    config.update(changes)
    with open(path, "w") as f:
        json.dump(config, f)
    return folder


def wrong(r):
    llama = os.path.join(MODELS, "llama")
    r.refused("another model's", os.path.join(MODELS, "gpt2"), ["--adapter", os.path.join(DATA, "mlp")], "mlp",
              "no linear layer")
    r.refused("not there", llama, ["--adapter", os.path.join(r.tmp, "nothing")], "nothing", "no such adapter")
    r.refused("weight no number", llama, ["--adapter", os.path.join(DATA, "mlp") + "=much"], "much")
    r.refused("mode", llama, ["--adapter", os.path.join(DATA, "mlp"), "--adapter-mode", "mix"], "mix")
    for key, value in (("use_dora", True), ("bias", "all"), ("modules_to_save", ["lm_head"]), ("peft_type", "LOHA"),
                       ("lora_alpha", "8"), ("alpha_pattern", {".*q_proj": 3})):
        r.refused(f"{key} = {value}", llama, ["--adapter", edited(r, "attention", **{key: value})],
                  "adapter_config.json", key)
    folder = edited(r, "attention")
    with open(os.path.join(folder, "adapter_model.safetensors"), "r+b") as f:
        f.truncate(200)
    r.refused("truncated", llama, ["--adapter", folder], "adapter_model.safetensors")
    folder = edited(r, "attention")
    path = os.path.join(folder, "adapter_model.safetensors")
    with open(path, "rb") as f:
        data = f.read()
    with open(path, "wb") as f:  # its A becomes another B: the name has the same length
        f.write(data.replace(b"layers.0.self_attn.q_proj.lora_A", b"layers.9.self_attn.q_proj.lora_B", 1))
    r.refused("a B without its A", llama, ["--adapter", folder], "adapter_model.safetensors", "no A")
    bad = os.path.join(r.tmp, "bad.gguf")
    with open(bad, "wb") as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    r.refused("a GGUF file that is none", llama, ["--adapter", bad], "bad.gguf")


def main():
    with tempfile.TemporaryDirectory() as tmp:
        r = Runner(sys.argv[1], tmp)
        what = sys.argv[2]
        {"library": library, "gguf": gguf, "wrong": wrong}.get(what, lambda x: in_process(x, what))(r)
        print(f"{r.failures} failed")
        return r.failures != 0


if __name__ == "__main__":
    sys.exit(main())
