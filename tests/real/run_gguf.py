#!/usr/bin/env python3
"""A real GGUF model, from text to tokens, against what llama.cpp says (make_goldens.py).

    run_gguf.py TENON TOK_MAIN MODEL.gguf GOLDENS.safetensors NMSE     skipped (status 77) without MODEL

Against `exact`, llama.cpp with the same weights and float activations, logits must be equal up to rounding: NMSE. Its
gelu goes through a table of 16-bit floats, so for models with gelu that is 1e-6; else the 1e-9 of float32 models.
Against `quick`, llama.cpp as it runs the file, they cannot: it rounds activations to 8 bits. How far that moves its
own logits is measured here and is the limit for ours.
"""
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "parity"))
import golden  # noqa: E402
import numpy as np  # noqa: E402

QUICK_FACTOR = 1.5
SKIPPED = 77


def call(*args, text=None):
    p = subprocess.run(args, capture_output=True, text=True, input=text, timeout=900)
    if p.returncode:
        sys.exit(f"{' '.join(args)}: exit status {p.returncode}\n{p.stderr}")
    return p.stdout


def line(ok, what, text):
    print(f"{'ok  ' if ok else 'FAIL'} {what:12} {text}")
    return not ok


def nmse(x, r):
    x, r = x.astype(np.float64), r.astype(np.float64)
    return float(((x - r) ** 2).sum() / (r ** 2).sum())


class Model:
    def __init__(self, tenon, path):
        self.tenon, self.path = tenon, path

    def logits(self, ids):
        with tempfile.TemporaryDirectory() as tmp:
            np.save(os.path.join(tmp, "ids.npy"), np.array([ids], np.int32))
            call(self.tenon, "run", self.path, "--entry", "logits", "--input", f"ids={tmp}/ids.npy", "--output-dir",
                 tmp)
            return np.load(os.path.join(tmp, "logits.npy"))[0]

    def generate(self, prompt, n):
        return json.loads(call(self.tenon, "run", self.path, "--prompt", prompt, "-n", str(n), "--json"))[0]


def check_tokens(tok_main, path, golds, prompts):
    with open(os.path.join(HERE, "..", "tokenizer", "texts.txt"), encoding="utf-8") as f:
        texts = [row.rstrip("\n") for row in f]
    ends = np.cumsum(golds["text.lengths"])
    expected = [golds[f"{i}.ids"].tolist() for i in range(len(prompts))]
    expected += [golds["texts"][end - n:end].tolist() for end, n in zip(ends, golds["text.lengths"])]
    rows = call(tok_main, path, text="".join(t.encode().hex() + "\n" for t in prompts + texts)).splitlines()
    got = [[int(x.split(":")[0]) for x in row.split("|")[0].split()] for row in rows]
    wrong = [t for t, a, b in zip(prompts + texts, got, expected) if a != b]
    for t in wrong[:3]:
        print(f"     {t[:80]!r}")
    return line(not wrong and len(got) == len(expected), "texts",
                f"{len(expected) - len(wrong)} of {len(expected)} give the same tokens")


def forced(logits, start, tokens, gaps, err):
    """Of the tokens, each behind those before it: how many are likeliest here too, and how many differ beyond a tie."""
    best = logits[start - 1:start - 1 + len(tokens)].argmax(-1)
    return int((best == tokens).sum()), int(((best != tokens) & (gaps >= 10 * err)).sum())


def compare(model, i, golds, name):
    """(NMSE, largest difference) behind the prompt, tokens equal, tokens wrong."""
    ids, want = golds[f"{i}.ids"].tolist(), golds[f"{name}.{i}.logits"]
    tokens, gaps = golds[f"{name}.{i}.tokens"], golds[f"{name}.{i}.gaps"]
    all_ = model.logits(ids + tokens[:-1].tolist())
    row = all_[len(ids) - 1]
    row = row[::len(row) // 2048]
    err = float(np.abs(row - want).max())
    return nmse(row, want), err, *forced(all_, len(ids), tokens, gaps, err)


def check_prompt(model, i, prompt, golds, limit):
    exact, err, same, wrong = compare(model, i, golds, "exact")
    failures = line(exact <= limit and not wrong, f"exact {i}",
                    f"nmse {exact:.1e}, max abs {err:.1e}, {same} of 64 tokens equal, {wrong} wrong")
    quick, _, same, wrong = compare(model, i, golds, "quick")
    own = nmse(golds[f"quick.{i}.logits"], golds[f"exact.{i}.logits"])
    failures += line(quick <= QUICK_FACTOR * own and not wrong, f"quick {i}",
                     f"nmse {quick:.1e} (its own {own:.1e}), {same} of 64 tokens equal, {wrong} wrong")
    return failures + check_generation(model, i, prompt, golds, err)


def check_generation(model, i, prompt, golds, err):
    expected, gaps = golds[f"exact.{i}.tokens"].tolist(), golds[f"exact.{i}.gaps"].tolist()
    answer = model.generate(prompt, len(expected))
    got = answer["ids"]
    same = next((k for k, (a, b) in enumerate(zip(got, expected)) if a != b), len(got))
    tie = same < len(got) and gaps[same] < 10 * err
    whole = same == len(got) and (same == len(expected) or answer["finish"] != "max tokens")
    return line(whole or tie, f"text {i}", f"{same} of {len(got)} equal" + (", then a near tie" if tie else ""))


def main():
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    tenon, tok_main, path, golds = *map(os.path.abspath, sys.argv[1:4]), golden.load(sys.argv[4])
    if not os.path.exists(path):
        sys.exit(print(f"SKIPPED: {path} is not there (tools/fetch-llm gets it)") or SKIPPED)
    with open(os.path.join(HERE, "prompts.txt"), encoding="utf-8") as f:
        prompts = f.read().splitlines()
    failures = check_tokens(tok_main, path, golds, prompts)
    with tempfile.TemporaryDirectory() as tmp:
        library = os.path.join(tmp, "libmodel.so")
        call(tenon, "compile", path, "-o", library)
        model = Model(tenon, library)
        for i, prompt in enumerate(prompts):
            failures += check_prompt(model, i, prompt, golds, float(sys.argv[5]))
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
