#!/usr/bin/env python3
"""Runs the tiny folders through tenon and compares with what transformers computed.

    run_parity.py TENON [--backend cpu|ref] [--target LIST] [--device SPEC] [--level O3] [--precision strict] [--aot] [--gguf] [--json FILE] [FOLDER...]

Prints one line per output; exits 1 if any is outside the tolerance (golden.py). Positions behind a sequence's end
are not compared. A row that is padding alone must be finite and leave the other rows as they are. Greedy generation
must give the expected tokens, whether the first 5, half or all but one of them are prefilled; where the expected two
best logits are closer than 10 x the error seen on this folder's logits, another token is allowed, and the expected
one is forced to go on.

With --aot, sessions of causal models are checked as well, against the same expected logits: a prefill of k tokens and
then one by one, for k of 1, half and all but one; chunks; sequences of different lengths side by side; past the
window and what the ring of a cache holds (make_tiny.py says which folders have what).

At precision fast the error (NMSE) of every output must stay below FAST_NMSE, tokens are not compared. --json writes the
largest error of each folder, as NMSE and 1 - cosine.
"""
import argparse
import json
import os
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    sys.exit(print("SKIPPED: numpy is not there") or 77)

import golden
import library

FAST_NMSE = 5e-2  # where experts are routed, a rounded activation may choose another one
HERE = os.path.dirname(os.path.abspath(__file__))


class Runner:
    def __init__(self, options):
        self.options = options
        target, device = getattr(options, "target", None), getattr(options, "device", None)
        where = ["--target", target] if target else ["--backend", options.backend]
        self.compiling = [*where, f"-{options.level}", "--precision", options.precision]
        self.flags = ([] if options.aot else self.compiling) + (["--device", device] if device else [])
        self.fast = options.precision == "fast"
        self.failures = 0
        self.errors = {}  # per folder: the largest NMSE and 1 - cosine of any output
        self.worst = 0.0

    def line(self, folder, what, ok, text):
        self.failures += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {folder:20} {what:26} {text}", flush=True)

    def tenon(self, *args):
        return golden.run(self.options.tenon, list(args))

    def model(self, row, tmp):
        """The folder itself, its twin as a GGUF file, or the library that they compile to."""
        path = os.path.join(HERE, row["folder"], row.get("file", ""))
        if self.options.gguf:
            import make_gguf  # skips where the gguf package is not there
            twin = os.path.join(tmp, "twin.gguf")
            make_gguf.convert(path, twin)
            path = twin
        if not self.options.aot:
            return path
        lib = os.path.join(tmp, "libtiny.so")
        rc, _, err = self.tenon("compile", path, "-o", lib, *self.compiling)
        if rc:
            raise RuntimeError(f"compile: {err.strip()}")
        return lib

    def entry(self, model, tmp, entry, inputs):
        args = ["run", model, "--entry", entry, "--output-dir", tmp, *self.flags]
        for name, value in inputs.items():
            path = os.path.join(tmp, f"in.{name}.npy")
            np.save(path, value)
            args += ["--input", f"{name}={path}"]
        rc, _, err = self.tenon(*args)
        if rc:
            raise RuntimeError(err.strip() or f"exit status {rc}")

    def difference(self, name, x, r):
        d = golden.Difference(x, r, FAST_NMSE if self.fast else None)
        a, b = np.asarray(x, np.float64).ravel(), np.asarray(r, np.float64).ravel()
        angle = 1 - float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-300)) if np.isfinite(a).all() and np.isfinite(b).all() else 0.0
        worst = self.errors.setdefault(name, {"nmse": 0.0, "one_minus_cosine": 0.0})
        worst["nmse"], worst["one_minus_cosine"] = max(worst["nmse"], d.nmse), max(worst["one_minus_cosine"], angle)
        return d

    def compare(self, name, entry, case, output, x, r, mask):
        what = f"{entry}.{output} {case}"
        if x.shape != r.shape:
            return self.line(name, what, False, f"shape {list(x.shape)}, expected {list(r.shape)}")
        if mask is not None and r.ndim >= 2 and r.shape[:2] == mask.shape and entry not in ("classify", "embed", "next"):
            x, r = x[mask.astype(bool)], r[mask.astype(bool)]
        d = self.difference(name, x, r)
        if output == "logits":
            self.worst = max(self.worst, d.abs)
        wrong = golden.argmax_differs(x, r, d.abs) if output == "logits" and not self.fast else 0
        self.line(name, what, d.ok and not wrong, f"max abs {d.abs:.2e}  of tolerance {d.ratio:.3f}  nmse {d.nmse:.1e}"
                  + (f"  {wrong} other argmax" if wrong else ""))

    def case(self, row, model, tmp, golds, entry, case):
        name = os.path.basename(row["folder"])
        inputs = {i: golds[f"{case}.in.{i}"] for i in row["entries"][entry]["inputs"]}
        self.entry(model, tmp, entry, inputs)
        for output in row["entries"][entry]["outputs"]:
            x = np.load(os.path.join(tmp, f"{output}.npy"))
            self.compare(name, entry, case, output, x, golds[f"{case}.{entry}.{output}"], inputs.get("mask"))

    def all_padding(self, row, model, tmp, golds, entry):
        """Case a with nothing but padding in its last row."""
        inputs = {i: golds[f"a.in.{i}"].copy() for i in row["entries"][entry]["inputs"]}
        outputs = row["entries"][entry]["outputs"]
        inputs["mask"][-1] = 0
        self.entry(model, tmp, entry, inputs)
        values = [np.load(os.path.join(tmp, f"{o}.npy")) for o in outputs]
        finite = all(np.isfinite(v).all() for v in values)
        keep = inputs["mask"][:-1].astype(bool)
        ok, err = True, 0.0
        for output, v in zip(outputs, values):
            x, r = v[:-1], golds[f"a.{entry}.{output}"][:-1]
            if r.shape[:2] == keep.shape:
                x, r = x[keep], r[keep]
            d = self.difference(os.path.basename(row["folder"]), x, r)
            ok, err = ok and d.ok, max(err, d.ratio)
        self.line(os.path.basename(row["folder"]), f"{entry} padding alone", finite and ok,
                  f"{'finite' if finite else 'not finite'}, other rows at {err:.3f} of tolerance")

    def tokens(self, model, prompt, count):
        ids = ",".join(str(i) for i in prompt)
        rc, out, err = self.tenon("run", model, "--task", "text-generation", "--ids", ids, "-n", str(count), "--json",
                                  *self.flags)
        if rc:
            raise RuntimeError(err.strip() or f"exit status {rc}")
        return json.loads(out)[0]["ids"]

    def generate(self, name, model, golds, given):
        """Greedy tokens behind the prompt and the first `given` of the expected ones."""
        what = f"generate from {given}"
        prompt, expected, gaps = (golds[f"generate.{k}"].tolist() for k in ("prompt", "tokens", "gaps"))
        at, ties = given, 0
        while at < len(expected):
            got = self.tokens(model, prompt + expected[:at], len(expected) - at)
            same = 0
            while at + same < len(expected) and same < len(got) and got[same] == expected[at + same]:
                same += 1
            at += same
            if at == len(expected) and len(got) == same:
                break
            if same >= len(got) or at >= len(expected) or gaps[at] >= 10 * max(self.worst, 1e-6):
                return self.line(name, what, False, f"token {at}: got {got[same:same + 1]}, expected "
                                 f"{expected[at:at + 1]} (gap {gaps[min(at, len(gaps) - 1)]:.2e}); {len(got)} tokens")
            at, ties = at + 1, ties + 1
        self.line(name, what, True, f"{len(expected) - given} tokens equal, {ties} near ties")

    # ---- sessions: with --aot, by the library itself
    def logits(self, what, row, x, r):
        d = self.difference(os.path.basename(row["folder"]), x, r)
        wrong = 0 if self.fast else golden.argmax_differs(x, r, d.abs)
        self.line(os.path.basename(row["folder"]), what, d.ok and not wrong,
                  f"max abs {d.abs:.2e}  of tolerance {d.ratio:.3f}  nmse {d.nmse:.1e}")

    def in_parts(self, what, row, model, ids, r, sizes):
        """Logits of every token, when they are given in parts of these sizes."""
        got, at = [], 0
        with library.Session(model, ids.shape[0], ids.shape[1]) as s:
            for n in sizes:
                got.append(s.run("logits", ids=ids[:, at:at + n])["logits"])
                at += n
        self.logits(what, row, np.concatenate(got, 1)[:, -r.shape[1]:], r)

    def ragged(self, row, model, golds):
        ids, pads, r = (golds[f"batch.{k}"] for k in ("ids", "pads", "logits"))
        first, got = ids.shape[1] - len(r) + 1, []
        with library.Session(model, ids.shape[0], ids.shape[1]) as s:
            got.append(s.run("batch", ids=ids[:, :first], pads=pads)["logits"])
            for i in range(first, ids.shape[1]):
                got.append(s.run("batch", ids=ids[:, i:i + 1], pads=pads)["logits"])
        self.logits("batch of 3 lengths", row, np.stack(got), r)

    def sessions(self, row, path, golds):
        ids, r = golds["a.in.ids"], golds["a.logits.logits"]
        n, long = ids.shape[1], golds.get("long.ids")
        with library.Model(path) as model:
            for k in (1, n // 2, n - 1):
                yield f"prefill {k}, then steps", lambda: self.in_parts(
                    f"prefill {k}, then steps", row, model, ids, r, [k] + [1] * (n - k))
            yield "chunks", lambda: self.in_parts("chunks", row, model, ids, r, [5, 9, 11, n - 25])
            if "batch" in model.entries:
                yield "batch", lambda: self.ragged(row, model, golds)
            if long is not None:
                n = long.shape[1]
                parts = [300, n - 304, 1, 1, 1, 1] if n > 512 else [n]
                yield "long", lambda: self.in_parts(f"long, {len(parts)} parts", row, model, long,
                                                    golds["long.logits"][None], parts)

    def folder(self, row):
        name = os.path.basename(row["folder"])
        golds = golden.load(os.path.join(HERE, row["folder"], "goldens.safetensors"))
        self.worst = 0.0
        with tempfile.TemporaryDirectory() as tmp:
            try:
                model = self.model(row, tmp)
            except (RuntimeError, OSError) as e:
                return self.line(name, "", False, str(e))
            for what, check in self.checks(row, model, tmp, golds):
                try:
                    check()
                except (RuntimeError, OSError, ValueError) as e:
                    self.line(name, what, False, str(e))

    def checks(self, row, model, tmp, golds):
        for entry, ports in row["entries"].items():
            for case in row["cases"]:
                yield f"{entry} {case}", lambda: self.case(row, model, tmp, golds, entry, case)
            if "mask" in ports["inputs"]:
                yield f"{entry} padding alone", lambda: self.all_padding(row, model, tmp, golds, entry)
        if row["generate"] and self.options.aot:
            yield from self.sessions(row, model, golds)
        if row["generate"] and not self.fast:
            n = len(golds["generate.tokens"])
            for given in (0, n // 2, n - 1):
                yield f"generate from {given}", lambda: self.generate(os.path.basename(row["folder"]), model, golds, given)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("tenon")
    p.add_argument("folders", nargs="*", help="names as in manifest.json; all by default")
    p.add_argument("--backend", default="cpu")
    p.add_argument("--target", help="instead of --backend, such as cuda:sm_90a,cpu")
    p.add_argument("--device", help="where to run, such as cuda:1")
    p.add_argument("--level", default="O3")
    p.add_argument("--precision", default="strict", choices=["strict", "high", "fast"])
    p.add_argument("--json", metavar="FILE", help="write the largest error of each folder")
    p.add_argument("--gguf", action="store_true", help="write the folder's weights as a GGUF file, in F32, and run that")
    p.add_argument("--aot", action="store_true", help="compile to a library first and run that")
    options = p.parse_intermixed_args()
    rows = json.load(open(os.path.join(HERE, "manifest.json")))
    known = {os.path.basename(r["folder"]): r for r in rows}
    for f in options.folders:
        if f not in known:
            sys.exit(f"no such folder: {f}")
    runner = Runner(options)
    for f in options.folders or known:
        runner.folder(known[f])
    if options.json:
        with open(options.json, "w") as f:
            json.dump(runner.errors, f, indent=1)
    print(f"{runner.failures} failures")
    sys.exit(runner.failures > 0)


if __name__ == "__main__":
    main()
