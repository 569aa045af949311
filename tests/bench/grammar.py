#!/usr/bin/env python3
"""What a grammar costs per token: mean time of making and applying the mask, on a real model's vocabulary, for the first text
of a session (masks are made) and the next (they are there), beside the time of a token without grammar. By hand.

    grammar.py TENON MODEL [-n 120] [-t THREADS]
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "generate"))
from binding import Model, Session, compiled  # noqa: E402
from schemas import SCHEMAS  # noqa: E402

ANY_JSON = {}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("tenon"), p.add_argument("model")
    p.add_argument("-n", type=int, default=120)
    p.add_argument("-t", type=int, default=1)
    a = p.parse_args()
    grammars = {"any text": "root ::= .*"}
    for name, schema in (("any JSON", ANY_JSON), *[(k, SCHEMAS[k]) for k in ("person", "nested", "tree", "formats", "map")]):
        r = subprocess.run([a.tenon, "grammar", "-"], input=json.dumps(schema), capture_output=True, text=True)
        grammars[name] = r.stdout
    with tempfile.TemporaryDirectory() as tmp:
        m = Model(compiled(a.tenon, a.model, os.path.join(tmp, "libmodel.so")))
        s = Session(m, threads=a.t, capacity=1024)
        ids = s.tokenize("Here is the document: ")
        s.generate(ids, 8)
        s.reset()
        begin = time.time()
        tokens = s.generate(ids, a.n)[0]
        print(f"{m.text('vocab')} tokens in the vocabulary; {1e3 * (time.time() - begin) / len(tokens):.2f} ms per token without")
        print(f"{'grammar':12} {'opening ms':>11} {'first text':>13} {'second text':>13}   us per token")
        for name, text in grammars.items():
            s.reset()
            begin = time.time()
            s.generate(ids, 1, grammar=text)
            opening = time.time() - begin
            costs = []
            for seed in (1, 2):
                s.reset()
                r = s.generate(ids, a.n, grammar=text, temperature=0.8, seed=seed)[2]
                costs.append(1e6 * r.mask_seconds / r.masks)
            print(f"{name:12} {1e3 * opening:11.1f} {costs[0]:13.1f} {costs[1]:13.1f}")


if __name__ == "__main__":
    main()
