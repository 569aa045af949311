"""models.py DIR [--decode LIBRARY]: libraries that were compiled elsewhere, on this machine's GPU.

DIR/models has pairs of libNAME.so and NAME.safetensors (inputs and what transformers computed): every entry point is run and
compared in the tolerance of the parity table. --decode LIBRARY.so: tokens per second of a language model whose weights are made
up here; LIBRARY.tail has the last bytes of its weight file. NumPy only."""
import argparse
import json
import pathlib
import statistics
import sys
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "parity")]
import golden  # noqa: E402
import library  # noqa: E402

TRAILER = 248  # bytes: tn_trailer


def compare(folder, name, row, table):
    golds = golden.load(folder / f"{name}.safetensors")
    failures = 0
    with library.Model(str(folder / f"lib{name}.so")) as model:
        for entry, names in row["entries"].items():
            for case in row["cases"]:
                inputs = {i: golds[f"{case}.in.{i}"] for i in names["inputs"]}
                batch, length = inputs["ids"].shape
                with library.Session(model, batch, length) as session:
                    results = session.run(entry, **inputs)
                for output in names["outputs"]:
                    x, r = results[output], golds[f"{case}.{entry}.{output}"]
                    mask = inputs.get("mask")
                    if mask is not None and r.ndim >= 2 and r.shape[:2] == mask.shape and entry != "next":
                        x, r = x[mask.astype(bool)], r[mask.astype(bool)]
                    d = golden.Difference(x, r)
                    failures += not d.ok
                    table.append(f"{'ok  ' if d.ok else 'FAIL'} {name:14} {entry}.{output} {case}  of tolerance {d.ratio:.3f}")
    return failures


def make_weights(library_path):
    """A weight file of normal bf16 numbers, which the library takes for its own."""
    path = library_path.with_suffix(".weights")
    tail = library_path.with_suffix(".tail").read_bytes()
    size, trailer = int.from_bytes(tail[:8], "little"), tail[8:]
    if path.exists() and path.stat().st_size == size:
        return path
    chunk = (np.random.default_rng(1).standard_normal(1 << 24, np.float32) * 0.02).view(np.uint32) >> 16
    chunk = chunk.astype(np.uint16).tobytes()
    with open(path, "wb") as f:
        left = size - len(trailer)
        while left:
            f.write(chunk[:left])
            left -= min(left, len(chunk))
        f.write(trailer)
    return path


def decode(path, context=384, steps=128):
    weights = make_weights(path)
    with library.Model(str(path), str(weights)) as model, library.Session(model, 1, context + steps + 8) as session:
        ids = np.arange(context, dtype=np.int32)[None] % 1000
        session.run("next", ids=ids)
        seconds = []
        for i in range(steps):
            begin = time.perf_counter()
            session.run("next", ids=ids[:, :1])
            seconds.append(time.perf_counter() - begin)
    t = statistics.median(seconds[8:])
    print(f"decode {path.stem}: {1 / t:.1f} tokens/s, {weights.stat().st_size / t * 1e-9:.1f} GB/s of weights")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=pathlib.Path)
    p.add_argument("--decode", type=pathlib.Path)
    o = p.parse_args()
    if o.decode:
        return decode(o.decode)
    rows = {pathlib.Path(r["folder"]).name: r for r in json.loads((o.folder / "manifest.json").read_text())}
    table, failures = [], 0
    for file in sorted((o.folder / "models").glob("lib*.so")):
        name = file.stem[3:]
        if (o.folder / "models" / f"{name}.safetensors").exists():
            failures += compare(o.folder / "models", name, rows[name], table)
    print("\n".join(table), f"\n{len(table)} outputs, {failures} outside the tolerance")
    sys.exit(failures != 0 or not table)


main()
