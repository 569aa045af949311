"""Compares tok_main with the `tokenizers` package on random texts: ids, types, offsets, decoded text.

    python differential.py TOK_MAIN [-n COUNT] [--seed N] [PATH ...]

PATH: a tokenizer.json, or a folder, which `transformers` then opens (so that tokenizer_config.json counts).
Without PATH: the files in data/, and T5's kind with the whole nmt_nfkc map when sentencepiece is there.
Exit status 77 when the package is absent: the output says so.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

HERE = os.path.dirname(os.path.abspath(__file__))
try:
    from tokenizers import Tokenizer
except ImportError:
    print("SKIPPED: the tokenizers package is not installed, nothing was compared")
    sys.exit(77)

PIECES = [
    "the",
    "and",
    " ",
    "  ",
    "   ",
    "\n",
    "\t",
    "\r\n",
    "ing",
    "newword",
    "STRIPL",
    "STRIPR",
    "STRIPBOTH",
    "[MASK]",
    "<mask>",
    "<s>",
    "</s>",
    "<|endoftext|>",
    "<unk>",
    "[SEP]",
    "'s",
    "'ll",
    "don't",
    "123",
    "4567",
    "...",
    "é",
    "e\u0301",
    "a\u0323\u0302",
    "中文",
    "日本",
    "ни",
    "한국",
    "\u1112\u1161\u11ab",
    "👩‍👩‍👧",
    "🏽",
    "\u200d",
    "\u00a0",
    "ﬁ",
    "½",
    "ß",
    "İ",
    "ſ",
    "\u2581",
    "\u3000",
    "<0x41>",
    "##ed",
    "ew",
    "\u0338",
    "ा",
    "क्ष",
    "ำ",
    "\ufeff",
    "\u200b",
    "_",
    "-",
    "A",
    "Z",
    "supercalifragilistic",
    "\u0345",
    "Σ",
]


def character(rng):
    kind = rng.random()
    if kind < 0.4:
        return chr(rng.randrange(0x20, 0x7F))
    if kind < 0.8:
        c = chr(
            rng.choice(
                [
                    rng.randrange(0x80, 0x600),
                    rng.randrange(0x600, 0x2100),
                    rng.randrange(0x2000, 0x3100),
                    rng.randrange(0x3100, 0xD7FF),
                    rng.randrange(0xE000, 0x10000),
                ]
            )
        )
    else:
        c = chr(rng.randrange(0x10000, 0x20000))
    return c if unicodedata.category(c) != "Cn" else " "


def text(rng, lines):
    out = []
    for _ in range(rng.randrange(1, 20)):
        kind = rng.random()
        if kind < 0.45:
            out.append(rng.choice(PIECES))
        elif kind < 0.75:
            line = rng.choice(lines)
            at = rng.randrange(len(line) + 1)
            out.append(line[at : at + rng.randrange(1, 12)])
        else:
            out.append(character(rng))
    return "".join(out)


def expected(encode, decode, parts):
    e = encode(*parts)
    starts = []
    for p in parts:
        at = [0]
        for c in p:
            at.append(at[-1] + len(c.encode()))
        starts.append(at)
    tokens = []
    for i, (a, b) in enumerate(e.offsets):
        s = e.sequence_ids[i]
        at = starts[s] if s is not None else [0]
        tokens.append((e.ids[i], e.type_ids[i], at[a], at[b], e.special_tokens_mask[i]))
    return tokens, decode(e.ids, skip_special_tokens=False), decode(e.ids, skip_special_tokens=True)


def parse(line):
    tokens, plain, skipped = line.rstrip("\n").split("|")
    items = (
        [tuple(map(int, x.split(":"))) for x in tokens.split()] if not tokens.startswith("error") else tokens
    )
    return items, bytes.fromhex(plain).decode(), bytes.fromhex(skipped).decode()


def run(tool, path, cases):
    lines = "".join(" ".join(p.encode().hex() for p in c) + "\n" for c in cases)
    got = subprocess.run([tool, path], input=lines, capture_output=True, text=True)
    if got.returncode:
        raise SystemExit("%s %s: exit %d\n%s" % (tool, path, got.returncode, got.stderr))
    return [parse(line) for line in got.stdout.splitlines()]


def load(path):
    """Two functions: encode and decode."""
    if not os.path.isdir(path):
        t = whole = Tokenizer.from_file(path)
    else:
        from transformers import AutoTokenizer

        whole = AutoTokenizer.from_pretrained(path)
        t = whole.backend_tokenizer
    t.no_truncation()
    t.no_padding()
    return t.encode, whole.decode


def compare(tool, path, count, seed, name):
    rng = random.Random(seed)
    with open(os.path.join(HERE, "texts.txt"), encoding="utf-8") as f:
        lines = f.read().splitlines()
    encode, decode = load(path)
    cases = [(line,) for line in lines]
    cases += [
        (text(rng, lines),) if rng.random() < 0.9 else (text(rng, lines), text(rng, lines))
        for _ in range(count)
    ]
    wrong = {"ids": 0, "types": 0, "offsets": 0, "decoded": 0}
    shown = 0
    for case, (tokens, plain, skipped) in zip(cases, run(tool, path, cases)):
        want, want_plain, want_skipped = expected(encode, decode, case)
        kinds = []
        if isinstance(tokens, str) or [x[0] for x in tokens] != [x[0] for x in want]:
            kinds.append("ids")
        elif [(x[1], x[4]) for x in tokens] != [(x[1], x[4]) for x in want]:
            kinds.append("types")
        elif tokens != want:
            kinds.append("offsets")
        if (plain, skipped) != (want_plain, want_skipped):
            kinds.append("decoded")
        for k in kinds:
            wrong[k] += 1
        if kinds and shown < 3 and ("offsets" not in kinds or shown < 1):
            shown += 1
            print(name, kinds, ascii(case))
            if "decoded" in kinds:
                print("   got ", ascii((plain, skipped)), "\n   want", ascii((want_plain, want_skipped)))
            else:
                print("   got ", tokens, "\n   want", want)
    print("%-24s %d texts, wrong: %s" % (name, len(cases), wrong))
    return wrong["ids"] + wrong["types"] + wrong["decoded"]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("tool")
    p.add_argument("paths", nargs="*")
    p.add_argument("-n", type=int, default=500)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    data = os.path.join(HERE, "data")
    paths = a.paths or sorted(os.path.join(data, f) for f in os.listdir(data) if f.endswith(".json"))
    wrong = sum(compare(a.tool, path, a.n, a.seed, os.path.basename(path.rstrip("/"))) for path in paths)
    if not a.paths:
        try:
            import make_tokenizers
        except ImportError:
            print("SKIPPED: sentencepiece is not installed, its whole map was not compared")
        else:
            with tempfile.TemporaryDirectory() as d:
                path = os.path.join(d, "tokenizer.json")
                make_tokenizers.t5(normalization_rule_name="nmt_nfkc").save(path)
                wrong += compare(a.tool, path, a.n, a.seed, "whole nmt_nfkc map")
    sys.exit(wrong != 0)


if __name__ == "__main__":
    main()
