#!/usr/bin/env python3
"""The two models that are not random, from text to answer, against transformers (make_real_goldens.py).

    run_real.py TENON demo FOLDER     logits of three prompts, and 64 greedy tokens from text
    run_real.py TENON minilm FOLDER   embeddings of twenty sentences from text; skipped (status 77) without FOLDER
"""
import json
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    sys.exit(print("SKIPPED: numpy is not there") or 77)

import golden

HERE = os.path.dirname(os.path.abspath(__file__))
SKIPPED = 77


def call(tenon, *args, text=None):
    p = subprocess.run([tenon, *args], capture_output=True, text=True, input=text, timeout=600)
    if p.returncode:
        sys.exit(f"tenon {' '.join(args)}: exit status {p.returncode}\n{p.stderr}")
    return p.stdout


def line(ok, what, text):
    print(f"{'ok  ' if ok else 'FAIL'} {what:10} {text}")
    return not ok


def entry(tenon, folder, name, output, **inputs):
    with tempfile.TemporaryDirectory() as tmp:
        args = ["run", folder, "--entry", name, "--output-dir", tmp]
        for key, value in inputs.items():
            path = os.path.join(tmp, f"in.{key}.npy")
            np.save(path, value)
            args += ["--input", f"{key}={path}"]
        call(tenon, *args)
        return np.load(os.path.join(tmp, f"{output}.npy"))


def logits_differ(tenon, folder, i, golds):
    x, r = entry(tenon, folder, "logits", "logits", ids=golds[f"{i}.ids"][None])[0], golds[f"{i}.logits"]
    d = golden.Difference(x, r)
    wrong = golden.argmax_differs(x, r, d.abs)
    return d.abs, line(d.ok and not wrong, f"logits {i}", f"max abs {d.abs:.2e}  of tolerance {d.ratio:.3f}")


def demo(tenon, folder):
    golds = golden.load(os.path.join(HERE, "demo_goldens.safetensors"))
    prompts = open(os.path.join(HERE, "demo_prompts.txt"), encoding="utf-8").read().splitlines()
    failures = 0
    for i, prompt in enumerate(prompts):
        err, bad = logits_differ(tenon, folder, i, golds)
        expected, gaps = golds[f"{i}.tokens"].tolist(), golds[f"{i}.gaps"].tolist()
        n = len(expected)
        got = json.loads(call(tenon, "run", folder, "--prompt", prompt, "-n", str(n), "--json"))[0]["ids"]
        same = next((k for k in range(n) if k >= len(got) or got[k] != expected[k]), n)
        tie = same < n and gaps[same] < 10 * err
        failures += bad + line(same == n or tie, f"tokens {i}", f"{same} of {n} equal" + (", then a near tie" if tie else ""))
    return failures


def minilm(tenon, folder):
    golds = golden.load(os.path.join(HERE, "minilm_goldens.safetensors"))
    text = open(os.path.join(HERE, "minilm_sentences.txt"), encoding="utf-8").read()
    answers = json.loads(call(tenon, "run", folder, "--text", "-", "--json", text=text))
    failures = line(len(answers) == len(golds["embedding"]), "count", f"{len(answers)} embeddings")
    batch = entry(tenon, folder, "embed", "embedding", ids=golds["ids"], mask=golds["mask"],
                  types=np.zeros_like(golds["ids"]))
    d = golden.Difference(batch, golds["embedding"])
    failures += line(d.ok, "one batch", f"max abs {d.abs:.2e}  of tolerance {d.ratio:.3f}")
    for i, (answer, r) in enumerate(zip(answers, golds["embedding"])):
        x = np.array(answer["values"], np.float64).reshape(-1)
        if x.shape != r.shape:
            failures += line(False, f"text {i}", f"shape {answer['shape']}, expected {list(r.shape)}")
            continue
        d = golden.Difference(x, r)
        failures += line(d.ok, f"text {i}", f"max abs {d.abs:.2e}  of tolerance {d.ratio:.3f}  cosine {x @ r:.8f}")
    return failures


def main():
    kinds = {"demo": demo, "minilm": minilm}
    if len(sys.argv) != 4 or sys.argv[2] not in kinds:
        sys.exit(__doc__)
    tenon, kind, folder = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3]
    if not os.path.exists(os.path.join(folder, "model.safetensors")):
        print(f"{folder} has no model; skipped")
        sys.exit(SKIPPED)
    failures = kinds[kind](tenon, folder)
    print(f"{failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
