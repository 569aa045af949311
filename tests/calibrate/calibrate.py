#!/usr/bin/env python3
"""tenon quantize --calibration: what each method does to the demo model's KL divergence, that scaling by itself
changes nothing but roundings, and what is refused.

  calibrate.py TENON MODEL
"""
import collections
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def run(*command, ok=True):
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert (r.returncode == 0) == ok, f"{command}: {r.returncode}\n{r.stderr}"
    return r.stdout if ok else r.stderr


def with_tokenizer(folder, work, text):
    """A copy of a tiny folder that can read words."""
    words = [w for w, _ in collections.Counter(re.findall(r"\w+|[^\w\s]+", text.read_text())).most_common(100)]
    made = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
            "model": {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(["<unk>", *words])},
                      "unk_token": "<unk>"}}
    copy = work / folder.name
    shutil.copytree(folder, copy)
    (copy / "tokenizer.json").write_text(json.dumps(made))
    return copy


def main():
    tenon, model = sys.argv[1], sys.argv[2]
    text = HERE / "text.txt"
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)

        def kl(name, scheme, *more):
            out = work / name
            run(tenon, "quantize", model, out, *scheme, *more)
            said = json.loads(run(tenon, "perplexity", out, text, "-c", 64, "--kl", model, "--json"))
            return said["kl"]["mean"]

        calibration = ("--calibration", text, "-c", 64)
        for scheme, suffix in ((("INT4", "--group-size", 32), ""),
                               (("INT4", "--group-size", 32, "--asymmetric", "--fallback", "auto"), "a"),
                               (("Q4_0", "--pure", "--fallback", "auto", "--token-embedding-type", "Q8_0"), ".gguf")):
            rtn = kl("rtn" + suffix, scheme)
            weighed = kl("weighed" + suffix, scheme, *calibration)
            gptq = kl("gptq" + suffix, scheme, *calibration, "--method", "gptq")
            awq = kl("awq" + suffix, scheme, *calibration, "--method", "awq")
            print(f"{scheme[0]}{suffix}: rtn {rtn:.5f}, importance {weighed:.5f}, awq {awq:.5f}, gptq {gptq:.5f}")
            assert weighed < rtn * 1.02, "importance makes it worse"
            assert gptq < 0.8 * weighed, "GPTQ brings little"
            assert awq < rtn, "scaling makes it worse"

        # The same model in other numbers: GGUF keeps norms in f32 too.
        same = kl("smooth.gguf", ("F32",), *calibration, "--method", "smoothquant")
        assert same < 1e-6, f"SmoothQuant's factors change the model: KL {same}"

        # Norms that are stored less 1, and odd numbers of rows.
        gemma = with_tokenizer(HERE.parent / "parity/models/gemma2", work, text)
        int4 = ("INT4", "--group-size", 32, "--fallback", "auto")
        for name, scheme, method, most in (("g1", ("F32",), "smoothquant", 1e-6), ("g2", int4, "gptq", 0.02)):
            run(tenon, "quantize", gemma, work / name, *scheme, *calibration[:2], "-c", 32, "--method", method)
            said = json.loads(run(tenon, "perplexity", work / name, text, "-c", 32, "--kl", gemma, "--json"))
            assert said["kl"]["mean"] < most, f"gemma2 {method}: {said['kl']['mean']}"

        # One thread or two: the same codes.
        files = []
        for threads in (1, 2):
            files.append(work / f"t{threads}.gguf")
            run(tenon, "quantize", model, files[-1], "Q4_0", "--pure", "--fallback", "auto", *calibration, "--method",
                "gptq", "-t", threads)
        assert files[0].read_bytes() == files[1].read_bytes(), "the number of threads changes the file"

        no = work / "no.gguf"
        for more, words in ((("--method", "gptq"), "--calibration FILE"),
                            (("--method", "gptk", "--calibration", text), "did you mean gptq"),
                            (("--calibration", work / "absent"), "cannot read the text")):
            message = run(tenon, "quantize", model, no, "Q4_0", "--fallback", "auto", *more, ok=False)
            assert words in message, message
        assert not no.exists()
    return 0


if __name__ == "__main__":
    sys.exit(main())
