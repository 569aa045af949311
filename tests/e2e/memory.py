#!/usr/bin/env python3
"""memory.py TENON MEMORY_PROGRAM - a run needs its weights, its cache and the planned arena, and within 5 % no more.

A LLaMA-shaped library of 350 MB reads 512 tokens and makes 8 in a program that does nothing else; the most memory that
it had, less what it had before the library was loaded, is held against the sum that the plan says. The table of
embeddings is mapped but only its rows that are looked up are read, so the sum is an upper bound."""
import json
import pathlib
import subprocess
import sys
import tempfile

TOKENS, NEW, CAPACITY = 512, 8, 2048
tenon, program = sys.argv[1:3]
root = pathlib.Path(__file__).resolve().parents[2]
bad = 0
with tempfile.TemporaryDirectory(dir=".") as tmp:
    folder, library = f"{tmp}/llama", f"{tmp}/libllama.so"
    subprocess.run([sys.executable, root / "tests/big/make_llama.py", folder, "--layers", "1", "--shards", "1"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([tenon, "compile", folder, "-o", library], check=True, stdout=subprocess.DEVNULL)
    for threads in (1, 2):
        rows = json.loads(subprocess.run([tenon, "bench", folder, "--json", "-r", "1", "-t", str(threads), "--prompt-tokens", str(TOKENS), "-n", str(NEW),
                                          "-c", str(CAPACITY)], check=True, capture_output=True, text=True).stdout)
        rows = rows["rows"] if isinstance(rows, dict) else rows
        plan = next(r for r in rows if r["what"] == "prefill")["memory"]
        planned = sum(plan.values())
        before, most = map(int, subprocess.run([program, library, str(TOKENS), str(NEW), str(CAPACITY), str(threads)], check=True, capture_output=True,
                                               text=True).stdout.split())
        ratio = (most - before) / planned
        parts = ", ".join(f"{k} {v / 1e6:.1f}" for k, v in plan.items() if v)
        print(f"{threads} threads: {(most - before) / 1e6:.1f} MB, planned {planned / 1e6:.1f} MB ({parts}): {ratio:.3f}")
        bad += not 0.5 < ratio <= 1.05
sys.exit(bool(bad))
