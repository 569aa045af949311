#!/usr/bin/env python3
"""tenon imatrix on the demo model: sums and counts equal what transformers' modules are called with (goldens.json),
the gguf package reads the file, .dat holds the same, earlier files add up, and what is wrong is refused.

  imatrix.py TENON MODEL
"""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np

try:
    import gguf
except ImportError:
    sys.exit(77)

HERE = pathlib.Path(__file__).resolve().parent
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down"}


def run(*command, ok=True):
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert (r.returncode == 0) == ok, f"{command}: {r.returncode}\n{r.stderr}"
    return r.stderr if not ok else r.stdout


def gguf_name(name):
    part = name.split(".")
    return f"blk.{part[2]}.{NAMES['.'.join(part[3:5])]}.weight"


def read(path):
    r = gguf.GGUFReader(path)
    keys = {k: f.contents() for k, f in r.fields.items() if not k.startswith("GGUF.")}
    return keys, {t.name: np.array(t.data) for t in r.tensors}


def read_dat(path):
    data, at, out = path.read_bytes(), 0, {}

    def number():
        nonlocal at
        at += 4
        return struct.unpack_from("<i", data, at - 4)[0]

    for _ in range(number()):
        n = number()
        name = data[at:at + n].decode()
        at += n
        chunks, n = number(), number()
        out[name] = (chunks, np.frombuffer(data, "<f4", n, at))
        at += 4 * n
    last, n = number(), number()
    return out, last, data[at:at + n].decode()


def main():
    tenon, model = sys.argv[1], sys.argv[2]
    goldens = json.loads((HERE / "goldens.json").read_text())
    text = HERE / "text.txt"
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        a, dat, twice = work / "a.gguf", work / "a.dat", work / "twice.gguf"
        said = json.loads(run(tenon, "imatrix", model, text, "-c", 64, "-o", a, "--json"))
        chunks = goldens["demo_chunks"]
        assert said["chunks"] == chunks and said["tokens"] == 64 * chunks and said["matrices"] == 28, said
        keys, tensors = read(a)
        assert keys["general.type"] == "imatrix" and keys["imatrix.chunk_count"] == chunks
        assert keys["imatrix.chunk_size"] == 64 and keys["imatrix.datasets"] == [str(text)]
        want = {gguf_name(k): v for k, v in goldens["demo"].items() if k != "lm_head.weight"}
        assert {f"{k}.in_sum2" for k in want} | {f"{k}.counts" for k in want} == set(tensors)
        for name, golden in want.items():
            assert tensors[f"{name}.counts"].shape == (1, 1) and tensors[f"{name}.counts"][0, 0] == golden["rows"]
            np.testing.assert_allclose(tensors[f"{name}.in_sum2"][0], golden["squares"], rtol=1e-3, atol=1e-3,
                                       err_msg=name)

        run(tenon, "imatrix", model, text, "-c", 64, "-o", dat)
        entries, last, dataset = read_dat(dat)
        assert last == chunks and dataset == str(text) and set(entries) == set(want)
        for name, (n, means) in entries.items():
            assert n == chunks
            np.testing.assert_allclose(means, tensors[f"{name}.in_sum2"][0] / (64 * chunks) * chunks, rtol=1e-5)

        run(tenon, "imatrix", model, text, "-c", 64, "-o", twice, "--imatrix", a)
        keys, doubled = read(twice)
        assert keys["imatrix.chunk_count"] == 2 * chunks
        for name in want:
            np.testing.assert_allclose(doubled[f"{name}.in_sum2"], 2 * tensors[f"{name}.in_sum2"], rtol=1e-5)

        # Both formats say the same to the encoders.
        made = []
        for i, file in enumerate((a, dat)):
            made.append(work / f"{i}.gguf")
            run(tenon, "quantize", model, made[-1], "Q4_0", "--pure", "--imatrix", file, "--fallback", "Q8_0")
        x, y = (read(m)[1] for m in made)
        same = [np.array_equal(x[k], y[k]) for k in x]
        assert sum(same) >= len(same) - 2, "the importance of .dat and .gguf differs"

        wrong = work / "wrong.gguf"
        for content, words in ((b"nothing", "not an importance matrix"),
                               (a.read_bytes()[:2000], "gguf"), (dat.read_bytes()[:-40], "wanted at")):
            wrong.write_bytes(content)
            message = run(tenon, "quantize", model, work / "no.gguf", "Q4_0", "--imatrix", wrong, ok=False)
            assert words in message and "error" in message, message
        assert "cannot read the text" in run(tenon, "imatrix", model, work / "absent.txt", ok=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
