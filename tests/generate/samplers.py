#!/usr/bin/env python3
"""What comes out of sampling, token for token: the demo model's own scores go through an independent NumPy model of every
penalty and filter, written from their papers and llama.cpp's documentation, and through a Philox generator written from
Salmon et al. 2011. With --llama the NumPy model itself is held against llama.cpp's samplers (llama-cpp-python).

    samplers.py TENON DEMO_FOLDER [--llama [VOCABULARY.gguf]]
"""
import os
import sys
import tempfile

import numpy as np

from binding import Model, Report, Session, compiled

TOKENS = 48


# ---- the model -------------------------------------------------------------------------------------------

def philox(counter, key):
    """Philox 4x32-10 with a 64-bit counter and key; four 32-bit words."""
    mask = 0xffffffff
    c = [counter & mask, counter >> 32, 0, 0]
    k = [key & mask, key >> 32]
    for i in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & mask, (a >> 32) ^ c[3] ^ k[1], a & mask]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return c


def uniform(seed, step):
    r = philox(step, seed)
    return ((r[0] << 32 | r[1]) >> 11) * 2.0 ** -53


def last(ids, n):
    return ids[-n:] if n and n > 0 else ids


def penalties(x, ids, repetition=1, frequency=0, presence=0, last_n=0):
    """Keskar et al. 2019; counts and presence as in the OpenAI API's documentation."""
    seen = last(ids, last_n)
    for t in set(seen):
        x[t] = x[t] * np.float32(repetition) if x[t] <= 0 else x[t] / np.float32(repetition)
        x[t] -= np.float32(seen.count(t)) * np.float32(frequency) + np.float32(presence)


def dry(x, ids, breakers, multiplier, base=1.75, allowed=2, last_n=0):
    """For every token: the longest suffix of the context that was followed by it before. breakers: sequences of tokens."""
    ids = last(ids, last_n)
    limit = len(ids)
    for back in range(len(ids)):  # tokens behind the last breaker
        heads = [b for b in breakers if b[0] == ids[-1 - back] and len(b) - 1 <= back
                 and list(b[1:]) == ids[len(ids) - back:len(ids) - back + len(b) - 1]]
        if heads:
            limit = back - max(len(b) - 1 for b in heads)
            break
    single = {b[0] for b in breakers if len(b) == 1}
    longest = {}
    for i in range(1, len(ids)):  # ids[i] followed what ends at i - 1
        n = 0
        while n < i and n < limit and ids[i - 1 - n] == ids[-1 - n]:
            n += 1
        if n >= allowed:
            longest[ids[i]] = max(n, longest.get(ids[i], 0))
    for t, n in longest.items():
        if t not in single:
            x[t] -= np.float32(multiplier * base ** (n - allowed))


def probabilities(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def ranked(x):
    """Ids by falling score, equal ones by id."""
    return np.lexsort((np.arange(len(x)), -x))


def filtered(x, top_k=0, typical_p=0, top_p=0, min_p=0):
    """Ids that are left, best first."""
    ids = ranked(x)
    if top_k:
        ids = ids[:top_k]
    if 0 < typical_p < 1:  # Meister et al. 2022
        p = probabilities(x[ids])
        surprise = -np.log(p)
        order = np.argsort(np.abs(surprise - (p * surprise).sum()), kind="stable")
        keep = int(np.searchsorted(np.cumsum(p[order]), typical_p, side="right")) + 1
        ids = ids[np.sort(order[:keep])]
    if 0 < top_p < 1:  # Holtzman et al. 2020: the smallest set that has top_p
        p = probabilities(x[ids])
        ids = ids[:int(np.searchsorted(np.cumsum(p), top_p, side="left")) + 1]
    if min_p > 0:  # Nguyen et al. 2024
        p = probabilities(x[ids])
        ids = ids[p >= min_p * p.max()]
    return ids


def pick(x, seed, step, temperature=0, **filters):
    ids = filtered(x, **filters)
    if temperature <= 0:
        return int(ids[0])
    p = probabilities(x[ids] / temperature)
    return int(ids[min(int(np.searchsorted(np.cumsum(p), uniform(seed, step), side="right")), len(ids) - 1)])


# ---- against tenon ---------------------------------------------------------------------------------------

def breakers_of(s, texts, vocabulary):
    """Token sequences that a text can begin with: in whole in a token, or from a token's end on."""
    out = []
    for text in texts:
        for t, word in enumerate(vocabulary):
            if text in word:
                out.append((t,))
                continue
            for n in range(1, len(text)):
                if word.endswith(text[:n]):
                    out.append((t, *s.tokenize(text[n:], 1)))
    return out


def vocabulary_of(s, n):
    """Tokens of a byte-level BPE as text where they are text."""
    return [s.detokenize([i]).decode(errors="replace") for i in range(n)]


def expected(s, prompt, how, eos, breakers):
    ids, out = list(prompt), []
    x = s.scores("next", ids)
    for step in range(TOKENS):
        x = x.astype(np.float32).copy()
        for t, b in how.get("bias", {}).items():
            x[t] += np.float32(b)
        penalties(x, ids, how.get("repetition_penalty", 1), how.get("frequency_penalty", 0),
                  how.get("presence_penalty", 0), how.get("penalty_last_n", 0))
        if how.get("dry_multiplier"):
            dry(x, ids, breakers, how["dry_multiplier"], how.get("dry_base", 1.75), how.get("dry_allowed_length", 2),
                how.get("dry_last_n", 0))
        token = pick(x.astype(np.float64), how.get("seed", 0), step, how.get("temperature", 0),
                     **{k: how[k] for k in ("top_k", "typical_p", "top_p", "min_p") if k in how})
        ids.append(token), out.append(token)
        if token in eos:
            break
        x = s.scores("next", [token])
    return out


CASES = [
    {}, {"temperature": 1.0}, {"temperature": 0.7, "seed": 5}, {"temperature": 2.0, "seed": 2 ** 63 + 11},
    {"temperature": 1.0, "top_k": 1}, {"temperature": 1.3, "top_k": 7, "seed": 1},
    {"temperature": 1.0, "top_p": 0.9, "seed": 2}, {"temperature": 1.5, "top_p": 0.5, "seed": 3},
    {"temperature": 1.2, "min_p": 0.1, "seed": 4}, {"temperature": 1.0, "typical_p": 0.9, "seed": 6},
    {"temperature": 1.4, "typical_p": 0.3, "seed": 7}, {"typical_p": 0.2},
    {"temperature": 0.9, "top_k": 40, "typical_p": 0.95, "top_p": 0.92, "min_p": 0.03, "seed": 8},
    {"repetition_penalty": 1.3}, {"repetition_penalty": 1.2, "penalty_last_n": 8},
    {"frequency_penalty": 0.6}, {"presence_penalty": 1.1, "penalty_last_n": 20},
    {"temperature": 0.8, "repetition_penalty": 1.1, "frequency_penalty": 0.2, "presence_penalty": 0.3, "seed": 9},
    {"dry_multiplier": 0.8}, {"dry_multiplier": 2.0, "dry_base": 1.2, "dry_allowed_length": 1, "dry_last_n": 24},
    {"dry_multiplier": 1.5, "dry_breakers": [" the", ","]}, {"dry_multiplier": 5.0, "dry_breakers": []},
    {"temperature": 0.9, "dry_multiplier": 1.0, "top_p": 0.95, "repetition_penalty": 1.05, "seed": 10},
    {"bias": {262: 12.5, 263: -100.0}}, {"temperature": 1.0, "bias": {300: 4.0}, "top_k": 20, "seed": 12},
]


def against_tenon(tenon, folder, report):
    with tempfile.TemporaryDirectory() as tmp:
        m = Model(compiled(tenon, folder, os.path.join(tmp, "libdemo.so")))
        s, judge = Session(m), Session(m)
        eos = [int(x) for x in m.text("eos").split(",")]
        vocabulary = vocabulary_of(judge, int(m.text("vocab")))
        for i, how in enumerate(CASES):
            prompt = s.tokenize(["In the beginning", "And he said, And he said, And", "\nThe LORD"][i % 3])
            s.reset(), judge.reset()
            got, _, result, _ = s.generate(prompt, TOKENS, **how)
            breakers = breakers_of(judge, how.get("dry_breakers", ["\n", ":", '"', "*"]), vocabulary)
            want = expected(judge, prompt, how, eos, breakers)
            same = sum(1 for a, b in zip(got, want) if a == b)
            report(got == want, "tokens", f"{same} of {len(want)}: {how}")
            if how:
                s.reset()
                plain, _, _, _ = s.generate(prompt, TOKENS, **{k: v for k, v in how.items() if k in ("temperature", "seed")})
                strong = set(how) - {"temperature", "seed"}
                if strong and how != {"typical_p": 0.2} and how.get("dry_breakers") != [" the", ","]:
                    report(plain != got, "has effect", ", ".join(sorted(strong)))


# ---- against llama.cpp -----------------------------------------------------------------------------------

def llama_apply(L, sampler, x):
    import ctypes
    data = (L.llama_token_data * len(x))(*[L.llama_token_data(i, float(v), 0.0) for i, v in enumerate(x)])
    array = L.llama_token_data_array(data, len(x), -1, False)
    L.llama_sampler_apply(sampler, ctypes.byref(array))
    return {array.data[i].id: array.data[i].logit for i in range(array.size)}


def against_llama(path, report):
    import llama_cpp as L
    rng = np.random.default_rng(0)
    rows = [rng.normal(0, 3, 200).astype(np.float32) for _ in range(20)]
    for name, make, ours in (
            ("top_k", lambda v: L.llama_sampler_init_top_k(v), lambda x, v: filtered(x, top_k=v)),
            ("top_p", lambda v: L.llama_sampler_init_top_p(v, 1), lambda x, v: filtered(x, top_p=v)),
            ("min_p", lambda v: L.llama_sampler_init_min_p(v, 1), lambda x, v: filtered(x, min_p=v)),
            ("typical_p", lambda v: L.llama_sampler_init_typical(v, 1), lambda x, v: filtered(x, typical_p=v))):
        for value in ((1, 5, 50) if name == "top_k" else (0.05, 0.3, 0.7, 0.95)):
            ok = all(set(llama_apply(L, make(value), x)) == set(ours(x.astype(np.float64), value).tolist()) for x in rows)
            report(ok, "llama.cpp", f"{name} {value}")
    for values in ((64, 1.3, 0.0, 0.0), (8, 1.0, 0.7, 0.0), (0, 1.1, 0.2, 0.5), (30, 1.1, 0.2, 0.5)):
        history = rng.integers(0, 200, 40).tolist()
        sampler = L.llama_sampler_init_penalties(200, values[0] or 40, *values[1:])
        for t in history:
            L.llama_sampler_accept(sampler, t)
        off = 0
        for x in rows:
            mine = x.copy()
            penalties(mine, history, *values[1:], last_n=values[0])
            theirs = llama_apply(L, sampler, x)
            off = max(off, max(abs(theirs[i] - mine[i]) for i in range(200)))
        report(off < 1e-5, "llama.cpp", f"penalties {values}: {off:.1e}")
    if path:
        against_llama_dry(L, path, report, rng)


def against_llama_dry(L, path, report, rng):
    import ctypes
    model = L.Llama(path, vocab_only=True, verbose=False)
    vocab = L.llama_model_get_vocab(model.model)
    n = L.llama_vocab_n_tokens(vocab)
    words = [L.llama_token_get_text(vocab, i).decode().replace("\u0120", " ").replace("\u010a", "\n") for i in range(n)]
    text = "one two: three four five, one two: three four. Say it again: one two: three four five, one two: three four"
    history = model.tokenize(text.encode(), add_bos=False)
    for texts in ([], [":"], [" four"], ["\n", ":", '"', "*"]):
        c = (ctypes.c_char_p * len(texts))(*[t.encode() for t in texts])
        sampler = L.llama_sampler_init_dry(vocab, 0.8, 1.75, 2, 4096, c, len(texts))
        for t in history:
            L.llama_sampler_accept(sampler, t)
        x = rng.normal(0, 1, n).astype(np.float32)
        mine = x.copy()
        breakers = [(i,) for t in texts for i, w in enumerate(words) if t in w]
        dry(mine, history, breakers, 0.8)
        theirs = llama_apply(L, sampler, x)
        off = max(abs(theirs[i] - mine[i]) for i in range(n))
        report(off < 1e-4, "llama.cpp", f"dry {texts}: {int((mine != x).sum())} tokens changed, {off:.1e}")


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    report = Report()
    # The generator: the known answer of Random123 for a counter and key of zeros.
    report(philox(0, 0) == [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8], "philox", "known answer")
    against_tenon(sys.argv[1], sys.argv[2], report)
    if "--llama" in sys.argv:
        at = sys.argv.index("--llama")
        against_llama(sys.argv[at + 1] if len(sys.argv) > at + 1 else None, report)
    report.end()


if __name__ == "__main__":
    main()
