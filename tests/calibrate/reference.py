#!/usr/bin/env python3
"""Int4 in groups by tenon and by GPTQModel, on the same folder with the same calibration: perplexity of each. Needs
torch, transformers and gptqmodel; run by hand (tens of minutes for 135 million parameters on two cores).

  reference.py TENON FOLDER TEXT [GROUP [CHUNKS]]

The first 64 % of TEXT calibrate, in chunks of 512 tokens; the rest is what is measured."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

CHUNK = 512


def gptqmodel(folder, text, out, group, chunks):
    os.cpu_count = lambda: 8  # its pools want more workers than small machines have cores
    import torch
    from gptqmodel import GPTQModel, QuantizeConfig
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(text.read_text(), add_special_tokens=False)["input_ids"]
    rows = [{"input_ids": torch.tensor([ids[i:i + CHUNK]]), "attention_mask": torch.ones(1, CHUNK, dtype=torch.long)}
            for i in range(0, len(ids) - CHUNK + 1, CHUNK)][:chunks]
    model = GPTQModel.load(str(folder), QuantizeConfig(bits=4, group_size=group, sym=True), device="cpu")
    model.quantize(rows, batch_size=1)
    model.save(str(out))


def main():
    tenon, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    whole = pathlib.Path(sys.argv[3]).read_bytes()
    group = int(sys.argv[4]) if len(sys.argv) > 4 else 128
    chunks = int(sys.argv[5]) if len(sys.argv) > 5 else 28
    with tempfile.TemporaryDirectory() as scratch:
        work = pathlib.Path(scratch)
        learn, judge = work / "learn.txt", work / "judge.txt"
        at = whole.rfind(b"\n", 0, len(whole) * 64 // 100) + 1
        learn.write_bytes(whole[:at])
        judge.write_bytes(whole[at:])

        def perplexity(model):
            p = subprocess.run([tenon, "perplexity", model, judge, "--json"], capture_output=True, text=True, check=True)
            return json.loads(p.stdout)["perplexity"]

        plain = perplexity(folder)
        results = {}
        for method in ("rtn", "gptq"):
            out = work / method
            subprocess.run([tenon, "quantize", folder, out, "INT4", "--group-size", str(group), "--method", method,
                            "--calibration", learn, "--chunks", str(chunks)], check=True, capture_output=True)
            results[f"tenon {method}"] = perplexity(out)
        gptqmodel(folder, learn, work / "theirs", group, chunks)
        results["GPTQModel"] = perplexity(work / "theirs")
    print(f"plain {plain:.3f}")
    for name, value in results.items():
        print(f"{name:12} {value:.3f}  +{value - plain:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
