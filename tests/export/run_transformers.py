#!/usr/bin/env python3
"""Does transformers read what tenon export safetensors makes of a GGUF file, and compute the same? Tiny folders of
tests/parity go folder -> GGUF -> folder; AutoModel reads the last one with nothing missing and nothing left over, and
its outputs are compared with those of the first.

    run_transformers.py TENON FOLDER...
"""
import json
import os
import sys
import tempfile

try:
    import numpy as np
    import torch
    import transformers
except ImportError:
    sys.exit(print("SKIPPED: torch and transformers are not there") or 77)

HERE = os.path.dirname(os.path.abspath(__file__))
PARITY = os.path.join(os.path.dirname(HERE), "parity")
sys.path.insert(0, PARITY)
import golden


def export(tenon, *args):
    rc, _, err = golden.run(tenon, ["export", *args])
    if rc:
        raise RuntimeError(f"export {args[0]}: {err.strip()}")


def outputs(model, golds, case, decoder):
    ids = torch.tensor(golds[f"{case}.in.ids"].astype(np.int64))
    kw = {} if decoder else {"attention_mask": torch.tensor(golds[f"{case}.in.mask"].astype(np.int64))}
    if f"{case}.in.types" in golds:
        kw["token_type_ids"] = torch.tensor(golds[f"{case}.in.types"].astype(np.int64))
    with torch.no_grad():
        out = model(input_ids=ids, **kw)
    return (out.logits if decoder else out.last_hidden_state).numpy()


def check(tenon, name):
    golds = golden.load(os.path.join(PARITY, "models", name, "goldens.safetensors"))
    with tempfile.TemporaryDirectory() as tmp:
        gguf, folder = os.path.join(tmp, "twin.gguf"), os.path.join(tmp, "folder")
        try:
            export(tenon, "gguf", os.path.join(PARITY, "models", name), gguf)
            export(tenon, "safetensors", gguf, folder, "--outtype", "f32")
            decoder = "a.logits.logits" in golds
            auto = transformers.AutoModelForCausalLM if decoder else transformers.AutoModel
            model, info = auto.from_pretrained(folder, output_loading_info=True, dtype=torch.float32,
                                               attn_implementation="eager")
        except Exception as e:  # whatever transformers says of the folder
            print(f"FAIL {name:20} {type(e).__name__}: {e}", flush=True)
            return False
        model.eval()
        missing = [k for k in info["missing_keys"] if "pooler" not in k]  # GGUF files have none
        extra, wrong = list(info["unexpected_keys"]), list(info["mismatched_keys"])
        ok, worst = not (missing or extra or wrong), 0.0
        for case in "ab":
            r = golds[f"{case}.logits.logits" if decoder else f"{case}.encode.hidden"]
            x = outputs(model, golds, case, decoder)
            if not decoder:
                keep = golds[f"{case}.in.mask"].astype(bool)
                x, r = x[keep], r[keep]
            d = golden.Difference(x, r)
            ok, worst = ok and d.ok, max(worst, d.ratio)
    print(f"{'ok  ' if ok else 'FAIL'} {name:20} {json.load(open(os.path.join(PARITY, 'models', name, 'config.json')))['architectures'][0]}"
          f" as {type(model).__name__}, {worst:.3f} of tolerance"
          + "".join(f", {what} {keys[:4]}" for what, keys in (("missing", missing), ("extra", extra), ("wrong", wrong)) if keys),
          flush=True)
    return ok


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    failures = sum(not check(sys.argv[1], n) for n in sys.argv[2:])
    print(f"{failures} failures")
    sys.exit(failures > 0)
