#!/usr/bin/env python3
"""tenon perplexity and its divergence against transformers on the same tokens, chunks and windows. A second model is the
demo model with weights rounded to eight bits.

    perplexity.py TENON DEMO_FOLDER
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import torch
    import transformers
    from safetensors.torch import load_file, save_file
except ImportError as e:
    print(f"skipped: no {e.name}")
    sys.exit(77)
from binding import Report

# The first verses of Genesis, King James Version (1611, public domain), over and over would be dull: each once.
TEXT = """In the beginning God created the heaven and the earth.
And the earth was without form, and void; and darkness was upon the face of the deep. And the Spirit of God moved upon the face of the waters.
And God said, Let there be light: and there was light.
And God saw the light, that it was good: and God divided the light from the darkness.
And God called the light Day, and the darkness he called Night. And the evening and the morning were the first day.
And God said, Let there be a firmament in the midst of the waters, and let it divide the waters from the waters.
And God made the firmament, and divided the waters which were under the firmament from the waters which were above the firmament: and it was so.
And God called the firmament Heaven. And the evening and the morning were the second day.
And God said, Let the waters under the heaven be gathered together unto one place, and let the dry land appear: and it was so.
And God called the dry land Earth; and the gathering together of the waters called he Seas: and God saw that it was good.
"""


def scores(model, ids):
    with torch.no_grad():
        x = model(torch.tensor([ids])).logits[0].double()
    return torch.log_softmax(x, -1).numpy()


def by_chunks(model, ids, context, bos):
    """llama-perplexity: the second half of each chunk, whose first token is BOS."""
    rows, targets = [], []
    for i in range(len(ids) // context):
        chunk = ids[i * context:(i + 1) * context]
        rows.append(scores(model, [bos] + chunk[1:])[context // 2:-1])
        targets += chunk[context // 2 + 1:]
    return np.concatenate(rows), np.array(targets)


def by_windows(model, ids, context, stride):
    """The sliding window of the transformers documentation."""
    rows, targets, end = [], [], 1
    for begin in range(0, len(ids), stride):
        window = ids[begin:begin + context]
        first = max(end - begin - 1, 0)
        rows.append(scores(model, window)[first:-1])
        targets += window[first + 1:]
        end = begin + len(window)
        if end == len(ids):
            break
    return np.concatenate(rows), np.array(targets)


def perplexity(rows, targets):
    return float(np.exp(-rows[np.arange(len(targets)), targets].mean()))


def tenon_says(tenon, *args):
    r = subprocess.run([tenon, "perplexity", *args, "--json"], capture_output=True, text=True)
    if r.returncode:
        sys.exit(r.stderr)
    return json.loads(r.stdout)


def rounded(folder, target):
    """Every matrix with 256 levels per row: what a quantised model would be."""
    shutil.copytree(folder, target)
    path = os.path.join(target, "model.safetensors")
    tensors = load_file(path)
    for k, w in tensors.items():
        if w.dim() == 2:
            scale = w.float().abs().amax(1, keepdim=True) / 15
            tensors[k] = (torch.round(w.float() / scale) * scale).to(w.dtype).contiguous()
    save_file(tensors, path, metadata={"format": "pt"})


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    tenon, folder = sys.argv[1:]
    report = Report()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as tmp:
        text, other = os.path.join(tmp, "text.txt"), os.path.join(tmp, "rounded")
        open(text, "w", encoding="utf-8").write(TEXT)
        rounded(folder, other)
        tok = transformers.PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"))
        ids = tok.encode(TEXT)
        base, small = (transformers.AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32) for f in (folder, other))
        for context in (64, 128):
            rows, targets = by_chunks(base, ids, context, ids[0])
            want, got = perplexity(rows, targets), tenon_says(tenon, folder, text, "-c", str(context))
            off = abs(got["perplexity"] / want - 1)
            report(off < 1e-4 and got["scored"] == len(targets) and got["tokens"] == len(ids), "chunks",
                   f"{got['perplexity']:.4f}, transformers {want:.4f}, {got['scored']} tokens")
        for context, stride in ((96, 40), (64, 64), (500, 100)):
            rows, targets = by_windows(base, ids, context, stride)
            want, got = perplexity(rows, targets), tenon_says(tenon, folder, text, "-c", str(context), "--stride", str(stride))
            report(abs(got["perplexity"] / want - 1) < 1e-4 and got["scored"] == len(targets), "windows",
                   f"{got['perplexity']:.4f}, transformers {want:.4f}, {got['scored']} tokens")
        p, targets = by_chunks(base, ids, 64, ids[0])
        q, _ = by_chunks(small, ids, 64, ids[0])
        kl, top = (np.exp(p) * (p - q)).sum(-1), 100 * (p.argmax(-1) == q.argmax(-1)).mean()
        got = tenon_says(tenon, other, text, "-c", "64", "--kl", folder)
        for name, mine, want in (("kl mean", got["kl"]["mean"], kl.mean()), ("kl max", got["kl"]["max"], kl.max()),
                                 ("kl median", got["kl"]["median"], np.quantile(kl, 0.5, method="nearest")),
                                 ("perplexity", got["perplexity"], perplexity(q, targets)),
                                 ("base", got["base_perplexity"], perplexity(p, targets))):
            report(abs(mine / want - 1) < 2e-3, name, f"{mine:.6f}, transformers {want:.6f}")
        report(abs(got["same_top_percent"] - top) < 1.0, "same top", f"{got['same_top_percent']:.2f} %, transformers {top:.2f} %")
        for args, words in ((["-c", "9999"], "the limit is 512"), (["-c", "400"], "two chunks of 400"), (["-c", "1"], "the least is 2")):
            r = subprocess.run([tenon, "perplexity", folder, text, *args], capture_output=True, text=True)
            report(r.returncode == 1 and words in r.stderr, "refused", r.stderr.strip())
    report.end()


if __name__ == "__main__":
    main()
