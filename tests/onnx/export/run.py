#!/usr/bin/env python3
"""Runs the exported models through tenon and compares with what PyTorch computed.

    run.py TENON [NAME...]

Each model runs as a library, by cpu at O3, and by ref at O0, with the inputs of every case of its goldens (make.py),
within the whole model row of the parity table (tests/parity/golden.py). --require-fusion demands what the model is made
of: as many attentions, norms, activations and rotations as there are, in every function that tenon makes of it, and the
report may hold no near miss of an attention or rotation. Decoders with past also generate: greedy tokens equal
PyTorch's, where its two best logits are not closer than 10 x the error seen; logits token by token, in parts and of
sequences of different lengths are those of the whole; and the states take the place of past and present: each is
written in place and read by attention as it lies.
"""
import json
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "parity"))
import golden  # skips where numpy is not there
import library
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
FUNCTIONS = 7  # of a decoder with past: itself; logits, next and batch; and these for one token
FUSE = "kv-cache, canonicalize, fold, cse, recover, fuse-rope, fuse-attention, canonicalize, fold, cse, dce"


class Runner:
    def __init__(self, tenon):
        self.tenon, self.failures = tenon, 0

    def line(self, name, what, ok, text):
        self.failures += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {name:32} {what:18} {text}", flush=True)

    def case(self, name, row, golds, n, flags, tmp):
        """One call with the inputs of case n; the largest absolute error of the scores."""
        args = ["run", row["path"] if flags else row["library"], "--entry", row["entry"], *flags, "--output-dir", tmp]
        for i, k in enumerate(row["inputs"]):
            file = os.path.join(tmp, f"in.{i}.npy")
            np.save(file, golds[f"{n}.in.{k}"])
            args += ["--input", f"{k}={file}"]
        rc, _, err = golden.run(self.tenon, args)
        what, worst, bad, seen, scores = f"{' '.join(flags) or 'library'} case {n}", 0.0, "", 0, 0.0
        if rc:
            return self.line(name, what, False, err.strip()[:300])
        for k, r in golds.items():
            output = k.split(".out.", 1)[-1]
            file = os.path.join(tmp, output + ".npy")
            if not k.startswith(f"{n}.out.") or not os.path.exists(file):
                continue
            x, seen = np.load(file), seen + 1
            os.remove(file)
            if x.shape != r.shape:
                bad += f" {output} is {list(x.shape)}, expected {list(r.shape)}"
                continue
            d = golden.Difference(x, r)
            worst = max(worst, d.ratio)
            if output == "logits":
                scores = d.abs
            if not d.ok:
                bad += f" {output}: ratio {d.ratio:.3g} nmse {d.nmse:.1e}"
        self.line(name, what, seen and not bad, f"{seen} outputs, worst {worst:.3f} of tolerance{bad}")
        return scores

    def fusions(self, name, out, need):
        """--require-fusion was met; and nothing that looks like attention or a rotation was left."""
        found = next((json.loads(l)["fusions"] for l in out.splitlines() if l.startswith('{"fusions"')), [])
        missed = [f"{f['pattern']}: {m['why']}" for f in found if f["pattern"] in ("attention", "rope")
                  for m in f["near_misses"]]
        self.line(name, "fusions", bool(found) and not missed, "; ".join(missed) or need)

    def tokens(self, path, prompt, count):
        ids = ",".join(str(i) for i in prompt)
        args = ["run", path, "--task", "text-generation", "--ids", ids, "-n", str(count), "--json"]
        rc, out, err = golden.run(self.tenon, args)
        if rc:
            raise RuntimeError(err.strip() or f"exit status {rc}")
        return json.loads(out)[0]["ids"]

    def generate(self, name, row, golds, worst):
        prompt, expected, gaps = (golds[f"generate.{k}"].tolist() for k in ("prompt", "tokens", "gaps"))
        at, ties = 0, 0
        while at < len(expected):
            got = self.tokens(row["library"], prompt + expected[:at], len(expected) - at)
            while got and at < len(expected) and got[0] == expected[at]:
                got, at = got[1:], at + 1
            if at == len(expected):
                break
            if not got or gaps[at] >= 10 * max(worst, 1e-6):
                return self.line(name, "generate", False,
                                 f"token {at}: got {got[:1]}, expected {expected[at]}, gap {gaps[at]:.2e}")
            at, ties = at + 1, ties + 1
        self.line(name, "generate", True, f"{len(expected)} tokens equal, {ties} near ties")

    def sessions(self, name, row, golds):
        """One token after the other, in parts, and sequences of three lengths side by side, through the library."""
        ids = np.concatenate([golds["generate.prompt"], golds["generate.tokens"]]).astype(np.int32)
        r, n = golds["generate.logits"], len(ids)
        pads = np.array([0, 4, 9], np.int32)
        with library.Model(row["library"]) as model:
            for what, sizes in (("steps", [1] * n), ("parts", [3, 1, 9, n - 13])):
                at, got = 0, []
                with library.Session(model, 1, n) as s:
                    for k in sizes:
                        got.append(s.run("logits", ids=ids[None, at:at + k])["logits"][0])
                        at += k
                d = golden.Difference(np.concatenate(got), r)
                self.line(name, what, d.ok, f"worst {d.ratio:.3f} of tolerance")
            rows = np.stack([np.concatenate([np.zeros(p, np.int32), ids[:n - p]]) for p in pads])
            with library.Session(model, 3, n) as s:
                s.run("batch", ids=rows[:, :n - 3], pads=pads)
                for i in (n - 3, n - 2, n - 1):
                    got = s.run("batch", ids=rows[:, i:i + 1], pads=pads)["logits"]
            d = golden.Difference(got, np.stack([r[n - p - 1] for p in pads]))
            self.line(name, "three lengths", d.ok, f"worst {d.ratio:.3f} of tolerance")

    def no_copies(self, name, row):
        """In `next` each cache is written once, in place, and attention reads it as it lies: nothing copies it."""
        rc, out, err = golden.run(self.tenon, ["opt", row["path"], "--passes", FUSE, "--no-locs"])
        body = out.split("func @next(", 1)[-1].split("\n  }", 1)[0]
        writes = re.findall(r"%(\S+) = kv_update @cache\.\d+, ", body)
        reads = [re.search(rf"attention %\S+, (%\S+, )?%{re.escape(w)}[ ,].*keys = P \+ S", body) for w in writes]
        ok = rc == 0 and len(writes) == 2 * row["fusions"]["attention"] and all(reads)
        ok &= all(len(re.findall(rf"%{re.escape(w)}\b", body)) == 2 for w in writes)
        self.line(name, "no copies", ok, f"{len(writes)} caches" if not rc else err.strip()[:200])

    def model(self, name, row):
        row["path"] = os.path.join(HERE, "models", name + ".onnx")
        golds = golden.load(os.path.join(HERE, "goldens", row["model"] + ".safetensors"))
        worst = 0.0
        with tempfile.TemporaryDirectory() as tmp:
            row["library"] = os.path.join(tmp, "libexported.so")
            times = FUNCTIONS if row["generates"] else 1
            need = ",".join(f"{k}={v * times}" for k, v in row["fusions"].items())
            args = ["compile", row["path"], "-o", row["library"], "--fusion-report", "--json", "--require-fusion", need]
            rc, out, err = golden.run(self.tenon, args)
            if rc:
                return self.line(name, "compile", False, err.strip()[:300])
            self.fusions(name, out, need)
            for flags in ([], ["-O0", "--backend", "ref"]):
                for n in range(len({k.split(".")[0] for k in golds} - {"generate"})):
                    worst = max(worst, self.case(name, row, golds, n, flags, tmp) or 0.0)
            if row["generates"]:
                try:
                    self.generate(name, row, golds, worst)
                except RuntimeError as e:
                    self.line(name, "generate", False, str(e)[:300])
                self.sessions(name, row, golds)
                self.no_copies(name, row)


def main():
    with open(os.path.join(HERE, "manifest.json")) as f:
        manifest = json.load(f)
    names = sys.argv[2:] or list(manifest)
    runner = Runner(sys.argv[1])
    for name in names:
        runner.model(name, manifest[name])
    print(f"{len(names)} models, {runner.failures} failures")
    return runner.failures > 0


if __name__ == "__main__":
    sys.exit(main())
