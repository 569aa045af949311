#!/usr/bin/env python3
"""Import, export, import: the same module, after canonicalisation.

    roundtrip.py TENON [-v] [MODEL...]

Reads a model, writes it as ONNX, reads that, and compares the texts of both modules after the passes of `graph-O2`. Names
of values, the order of ops that is left open, and where a file has its weights, do not count. Models are those of tests/onnx/export,
the tiny folders and the .tir files here (what is compared is their first export). What differs must be named in
roundtrip.allow with the reason, and must come back the same from then on.
"""
import glob
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.join(HERE, "..", "..")
FOLDERS = ["bert-model", "sentence-mean", "gpt2", "llama", "gemma3", "bloom", "modernbert", "mistral-window", "phi3-longrope",
           "distilbert-cls-f16", "llama-bf16", "qwen3-moe", "mamba"]


def tenon(binary, *args):
    p = subprocess.run([binary, *args], capture_output=True, text=True, errors="replace")
    if p.returncode:
        raise RuntimeError((p.stderr.strip().splitlines() or ["no message"])[0])
    return p.stdout


def text(binary, path):
    """The module without what a file happens to call things: places in files, names of values."""
    out = tenon(binary, "opt", path, "--no-locs", "--passes", "graph-O2")
    out = re.sub(r'= "[^"]*" \+ 0x[0-9a-f]+ :', "= FILE :", out)
    out = re.sub(r'meta "source" = .*', "", out)
    out = re.sub(r"module @\S+", "module", out)
    return "\n".join(in_order(out.splitlines()))


NAME = re.compile(r'%(?:[\w.]+|"[^"]*")')
EFFECTS = re.compile(r"= (if|loop|kv_update) |^(let_dim|return) ")


def in_order(lines):
    """Ops in the order in which the results need them, values numbered in that order."""
    out, body = [], None
    for line in lines:
        if line.startswith("  func "):
            body, head = [], line
        elif line == "  }":
            out += ordered(head, body)
            body = None
        elif body is not None:
            body.append(line.strip())
        elif line.strip():
            out.append(line)
    return out


def ordered(head, body):
    made = {}
    for line in body:
        left, eq, right = line.partition(" = ")
        for name in NAME.findall(left) if eq and left.startswith("%") else []:
            made[name] = line
    done, out = set(), []

    def visit(line):
        stack = [(line, iter(NAME.findall(line)))]
        while stack:
            at, names = stack[-1]
            need = next((made[n] for n in names if n in made and made[n] is not at and id(made[n]) not in done), None)
            if need is None:
                stack.pop()
                if id(at) not in done:
                    done.add(id(at))
                    out.append(at)
            elif all(need is not x for x, _ in stack):
                stack.append((need, iter(NAME.findall(need))))

    for line in body:
        if EFFECTS.search(line):
            visit(line)
    names = {}
    return [NAME.sub(lambda m: f"%{names.setdefault(m.group(0), len(names))}", line) for line in [head, *out, "}"]]


def differing(a, b):
    a, b = a.splitlines(), b.splitlines()
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return at, (a[at:] or [""])[0].strip()[:150], (b[at:] or [""])[0].strip()[:150]


def one(binary, model, tmp):
    first, second = os.path.join(tmp, "model.onnx"), os.path.join(tmp, "again.onnx")
    if not model.endswith(".onnx"):
        tenon(binary, "export", "onnx", model, first)
        model = first
    opset = ["--opset", "23"] if "-23" in model else []
    a = text(binary, model)
    tenon(binary, "export", "onnx", model, second, *opset)
    b = text(binary, second)
    if a == b:
        return "", True
    third = os.path.join(tmp, "third.onnx")
    tenon(binary, "export", "onnx", second, third, *opset)
    return "line %d: '%s' became '%s'" % differing(a, b), text(binary, third) == b


def main():
    args = [a for a in sys.argv[1:] if a != "-v"]
    binary, models = args[0], args[1:]
    if not models:
        models = sorted(glob.glob(os.path.join(TESTS, "onnx", "export", "models", "*.onnx")))
        models += [os.path.join(TESTS, "parity", "models", f) for f in FOLDERS] + sorted(glob.glob(os.path.join(HERE, "*.tir")))
    rows = [line.split(None, 1) for line in open(os.path.join(HERE, "roundtrip.allow")) if line.strip() and line[0] != "#"]
    allow, failures, same = dict(rows), 0, 0
    for model in models:
        name = os.path.basename(model)
        with tempfile.TemporaryDirectory() as tmp:
            try:
                words, settles = one(binary, model, tmp)
            except RuntimeError as e:
                words, settles = str(e), False
        if words and not settles:
            words += " (and again, when that is written and read)"
        bad = bool(words) != (name in allow) or not settles
        failures += bad
        same += not words
        if bad or "-v" in sys.argv:
            print(f"{'FAIL' if bad else 'ok  '} {name}: {words or 'the same, but it is in roundtrip.allow'}" if words or bad
                  else f"ok   {name}", flush=True)
    print(f"{same} of {len(models)} the same")
    return failures > 0 or not models


if __name__ == "__main__":
    sys.exit(main())
