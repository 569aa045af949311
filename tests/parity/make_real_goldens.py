#!/usr/bin/env python3
"""Expected outputs for the two models that are not random: what transformers computes from them in float32.

    make_real_goldens.py demo FOLDER      # tools/demo-model/model -> demo_goldens.safetensors
    make_real_goldens.py minilm FOLDER    # what tools/fetch-minilm got -> minilm_goldens.safetensors

Texts are demo_prompts.txt and minilm_sentences.txt, one a line. demo: `N.ids`, `N.logits` (float32 [S, vocab]),
`N.tokens` (greedy) and `N.gaps` per prompt. minilm: `ids` and `mask`, padded, and `embedding`: mean over the real
tokens, scaled to length 1, of texts cut to 256 tokens, as sentence-transformers does it.
"""
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch
import transformers
from safetensors.torch import save_file

from make_tiny import NEW_TOKENS, greedy, pool

HERE = os.path.dirname(os.path.abspath(__file__))
MINILM_LENGTH = 256


def lines(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as f:
        return f.read().splitlines()


def demo(folder):
    tok = transformers.PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    eos, out = model.generation_config.eos_token_id, {}
    for i, prompt in enumerate(lines("demo_prompts.txt")):
        ids = torch.tensor(tok(prompt)["input_ids"])
        tokens, gaps = greedy(model.eval(), ids)
        end = (tokens == eos).nonzero()
        n = int(end[0]) if len(end) else NEW_TOKENS  # generation ends in front of the end token
        with torch.no_grad():
            out[f"{i}.logits"] = model(input_ids=ids[None]).logits[0].clone()
        out[f"{i}.ids"], out[f"{i}.tokens"], out[f"{i}.gaps"] = ids.int(), tokens[:n].int(), gaps[:n]
        print(f"{prompt!r}: {n} tokens, smallest gap {gaps[:n].min():.4f}\n  {tok.decode(tokens[:n])!r}")
    return out


def minilm(folder):
    tok = transformers.PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"),
                                               pad_token="[PAD]", unk_token="[UNK]")
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    batch = tok(lines("minilm_sentences.txt"), padding=True, truncation=True, max_length=MINILM_LENGTH,
                return_tensors="pt")
    embeddings = []
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"]):
        n = int(mask.sum())
        with torch.no_grad():
            hidden = model(input_ids=ids[None, :n]).last_hidden_state
        embeddings.append(pool(hidden, mask[None, :n], "mean", True))
    print(f"{len(embeddings)} sentences, {batch['attention_mask'].sum(1).tolist()} tokens")
    return {"ids": batch["input_ids"].int(), "mask": batch["attention_mask"].int(), "embedding": torch.cat(embeddings)}


if __name__ == "__main__":
    kinds = {"demo": demo, "minilm": minilm}
    if len(sys.argv) != 3 or sys.argv[1] not in kinds:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    path = os.path.join(HERE, f"{sys.argv[1]}_goldens.safetensors")
    save_file({k: v.contiguous() for k, v in kinds[sys.argv[1]](sys.argv[2]).items()}, path)
    os.chmod(path, 0o644)
