#!/usr/bin/env python3
"""Holds the list of ops in frontend/onnx/README.md against onnx.def; --write brings it up to date."""
import pathlib, re, sys, textwrap

ROOM = pathlib.Path(__file__).parents[2] / "frontend" / "onnx"
MARK = "<!-- made by tests/onnx/readme.py from onnx.def -->\n"
DOMAINS = {"onnx": "ai.onnx", "ml": "ai.onnx.ml", "preview": "ai.onnx.preview",
           "training": "ai.onnx.preview.training", "ms": "com.microsoft"}


def listing():
    ops = {}
    for domain, op in re.findall(r"^\s*TN_ONNX\((\w+), (\w+),", (ROOM / "onnx.def").read_text(), re.M):
        ops.setdefault(domain, set()).add(op)
    parts = []
    for domain, name in DOMAINS.items():
        if domain in ops:
            words = f"**{name}** ({len(ops[domain])}): " + " ".join(sorted(ops[domain]))
            parts.append(textwrap.fill(words, 125, break_on_hyphens=False))
    return "\n" + "\n\n".join(parts) + "\n"


def main():
    path = ROOM / "README.md"
    head, tail = path.read_text().split(MARK)
    if "--write" in sys.argv:
        path.write_text(head + MARK + listing())
    elif tail != listing():
        sys.exit("frontend/onnx/README.md does not list the ops of onnx.def: run tests/onnx/readme.py --write")


main()
