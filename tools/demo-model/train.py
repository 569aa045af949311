#!/usr/bin/env python3
"""Trains the demo model: a LLaMA of 0.9 million parameters on the King James Bible, small enough to be committed.

The text comes from the Debian packages `bible-kjv` and `bible-kjv-text` (install both; this script installs
nothing). The tokenizer is a byte-level BPE trained on the same text, so the folder that is written stands alone:
config.json, generation_config.json, model.safetensors (bf16), tokenizer.json, tokenizer_config.json, README.md.

    python3 train.py [--out model] [--steps 8000] [--minutes 60] [--bf16]

One thread, one seed: with the same versions and CPU, and unless --minutes ends it early, the weights are the same.
"""
import argparse
import json
import math
import os
import re
import subprocess
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SEED = 1611
BOS, EOS = "<s>", "</s>"
HELD_OUT = 20  # every 20th chapter is for validation
BATCH_TOKENS = 4096
SHORT, LONG = 256, 512  # window; the last tenth of the steps sees long windows


def chapters():
    """The text as chapters of one verse a line, without the "Ge1:1 " in front."""
    out = subprocess.run(["bible", "-f", "Gen1:1-Rev22:21"], check=True, capture_output=True, text=True).stdout
    found = {}
    for line in out.splitlines():
        place, verse = line.split(" ", 1)
        found.setdefault(place.split(":")[0], []).append(re.sub(r"\s+", " ", verse).strip())
    return ["\n".join(verses) for verses in found.values()]


def train_tokenizer(texts, vocab):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[BOS, EOS], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tok.token_to_id(BOS))])
    return tok


def stream(tok, texts):
    eos = tok.token_to_id(EOS)
    ids = []
    for text in texts:
        ids += tok.encode(text).ids + [eos]
    return torch.tensor(ids)


def batch_of(data, length, generator):
    n = BATCH_TOKENS // length
    at = torch.randint(len(data) - length - 1, (n,), generator=generator)
    rows = torch.stack([data[i:i + length + 1] for i in at.tolist()])
    return rows[:, :-1], rows[:, 1:]


def loss_of(model, x, y, bf16):
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        logits = model(input_ids=x, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), y.flatten())


@torch.no_grad()
def held_out_loss(model, data, bf16=False):
    model.eval()
    rows = [data[i:i + LONG + 1] for i in range(0, len(data) - LONG - 1, LONG)]
    losses = []
    for i in range(0, len(rows), 8):
        r = torch.stack(rows[i:i + 8])
        losses.append(loss_of(model, r[:, :-1], r[:, 1:], bf16).item())
    model.train()
    return sum(losses) / len(losses)


def train(model, data, held_out, args):
    decay = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
                            lr=args.lr, betas=(0.9, 0.95))
    g = torch.Generator().manual_seed(SEED)
    start, progress, step = time.time(), 0.0, 0
    while progress < 1.0:
        progress = max(step / args.steps, (time.time() - start) / (60 * args.minutes))
        lr = args.lr * min(1.0, (step + 1) / 100) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
        for group in opt.param_groups:
            group["lr"] = lr
        x, y = batch_of(data, LONG if progress > 0.9 else SHORT, g)
        loss = loss_of(model, x, y, args.bf16)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        if step % 1000 == 0:
            print(f"step {step} ({progress:.0%}, {time.time() - start:.0f} s): loss {loss.item():.3f}, "
                  f"held out {held_out_loss(model, held_out, args.bf16):.3f}", flush=True)
        step += 1
    return step


README = """# The demo model

A LLaMA-architecture language model of {params:,} parameters that writes in the manner of the King James Bible. It is
here so that a chat or a compile can be tried without a download; it knows nothing.

- Text: the King James Version (1611/1769), from the Debian packages `bible-kjv` and `bible-kjv-text` {version}. The
  text is in the public domain (the package's copyright file: "The copyright for the King James Version text of the
  Bible is expired"). Every {held}th chapter was held out.
- Made by `tools/demo-model/train.py {args}`: seed {seed}, {steps} steps of {tokens} tokens, with
  torch {torch} and transformers {transformers}, on one CPU thread{clock}.
- Held-out loss of the bf16 weights: {loss:.3f} nats per token ({bits:.2f} bits per byte); vocabulary {vocab}, byte-level BPE.
- The weights carry the licence of this repository.
"""


def save(model, tok, out, facts):
    os.makedirs(out, exist_ok=True)
    model.to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=tok.token_to_id(BOS), eos_token_id=tok.token_to_id(EOS))
    model.save_pretrained(out)
    tok.save(os.path.join(out, "tokenizer.json"), pretty=False)
    with open(os.path.join(out, "tokenizer_config.json"), "w") as f:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS,
                   "model_max_length": LONG, "clean_up_tokenization_spaces": False}, f, indent=2)
        f.write("\n")
    with open(os.path.join(out, "README.md"), "w") as f:
        f.write(README.format(**facts))
    for f in os.listdir(out):
        os.chmod(os.path.join(out, f), 0o644)


def package_version(name):
    r = subprocess.run(["dpkg-query", "-W", "-f=${Version}", name], capture_output=True, text=True)
    return r.stdout or "(version not known)"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "model"))
    p.add_argument("--steps", type=int, default=8000)
    p.add_argument("--minutes", type=float, default=60, help="ends the schedule early when time runs out")
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--vocab", type=int, default=1024)
    p.add_argument("--bf16", action="store_true", help="autocast: faster where the CPU has bf16 dot products")
    args = p.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)

    texts = chapters()
    tok = train_tokenizer(texts, args.vocab)
    data = stream(tok, [t for i, t in enumerate(texts) if i % HELD_OUT])
    held_texts = texts[::HELD_OUT]
    held = stream(tok, held_texts)
    print(f"{len(texts)} chapters, {len(data)} tokens, {len(held)} held out", flush=True)
    config = transformers.LlamaConfig(
        vocab_size=args.vocab, hidden_size=128, intermediate_size=352, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=LONG, rms_norm_eps=1e-5, tie_word_embeddings=True,
        bos_token_id=tok.token_to_id(BOS), eos_token_id=tok.token_to_id(EOS), initializer_range=0.04)
    model = transformers.LlamaForCausalLM(config)
    params = sum(p.numel() for p in model.parameters())
    print(f"{params:,} parameters", flush=True)
    steps = train(model, data, held, args)
    model.to(torch.bfloat16).float()  # the loss that is reported is that of the weights that are stored
    loss = held_out_loss(model, held)
    bytes_per_token = sum(len(t.encode()) for t in held_texts) / len(held)
    facts = dict(params=params, version=package_version("bible-kjv-text"), held=HELD_OUT, seed=SEED, steps=steps,
                 tokens=BATCH_TOKENS, torch=torch.__version__, transformers=transformers.__version__, loss=loss,
                 bits=loss / math.log(2) / bytes_per_token, vocab=args.vocab,
                 args=f"--steps {args.steps} --minutes {args.minutes:g}" + (" --bf16" if args.bf16 else ""),
                 clock="" if steps > args.steps else ", ended by the clock: another run gives other weights")
    save(model, tok, args.out, facts)
    print(f"held-out loss {loss:.3f}, {steps} steps")


if __name__ == "__main__":
    main()
