#!/usr/bin/env python3
"""What generation promises, on the demo model and on folders of other families: a grammar that allows everything changes
nothing; speculation gives the tokens of plain generation and leaves the states as they were; several texts at once give
what each gives alone; stop strings, logprobs, the reasons to end. Log-probabilities are held against NumPy.

    behaviour.py TENON DEMO_FOLDER [FOLDER...]
"""
import os
import sys
import tempfile

import numpy as np

from binding import FINISH, I64, Failed, Model, Report, Session, compiled

REPEATS = "And he said unto them, And he said unto them, And he said unto"
TIE = 1e-3  # scores closer than this may come out in either order


def grammar(m, report):
    s = Session(m)
    for how in ({}, {"temperature": 0.9, "seed": 3}):
        ids = s.tokenize("In the beginning")
        s.reset()
        plain, text, _, _ = s.generate(ids, 60, **how)
        s.reset()
        free, free_text, r, _ = s.generate(ids, 60, grammar="root ::= .*", **how)
        report(plain == free and text == free_text and r.masks == len(free), "grammar of all",
               f"{len(free)} tokens, {1e6 * r.mask_seconds / r.masks:.1f} us each: {how}")
    s.reset()
    tokens, text, r, _ = s.generate(s.tokenize("The number is"), 40, grammar='root ::= " " [1-9] [0-9]{2} "."')
    report(FINISH[r.finish] == "grammar" and len(text) == 5 and text[1:4].isdigit(), "grammar ends", repr(text.decode()))
    s.reset()
    _, text, r, _ = s.generate(s.tokenize("x"), 40, grammar='root ::= ("\\u20ac" | "\\u00e9" | "\\U0001F600"){3}')
    report(FINISH[r.finish] == "grammar" and len(text.decode()) == 3, "split characters", text.decode())
    s.reset()
    tokens, text, r, _ = s.generate(s.tokenize("In the beginning"), 40, grammar='root ::= [ a-z]{3,}', temperature=1.0)
    report(all(c in " abcdefghijklmnopqrstuvwxyz" for c in text.decode()), "grammar holds", repr(text.decode()))
    for bad, words in (("root ::= x", "'x' is not defined"), ("root ::= root", "left recursive")):
        s.reset()
        try:
            s.generate([1], 4, grammar=bad)
            report(False, "bad grammar", bad)
        except Failed as e:
            report(words in str(e), "bad grammar", str(e))
    s.close()


def speculation(m, report, name, prompts, drafts):
    s = Session(m)
    rng = np.random.default_rng(1)
    for ids in prompts:
        for how in ({}, {"temperature": 0.8, "seed": 4, "top_k": 20}, {"repetition_penalty": 1.2}):
            s.reset()
            plain, _, _, _ = s.generate(ids, 48, **how)
            end = s.position()
            after = s.scores("next", plain[-1:])
            for draft, label in drafts:
                for n in (1, 4, 13):
                    s.reset()
                    extra = {"draft": draft} if draft else {"draft_ngram": int(rng.integers(1, 5))}
                    if draft:
                        draft.reset()
                    got, _, r, _ = s.generate(ids, 48, draft_tokens=n, **how, **extra)
                    where = s.position()
                    again = s.scores("next", got[-1:])
                    off = float(np.abs(after - again).max())
                    report(got == plain and where == end and off < TIE, "speculation",
                           f"{name}, {label}, {n}: {r.accepted} of {r.drafted} right, scores after off by {off:.0e}: {how}")
    s.close()


def recurrent(m, report, name, ids):
    """States that sum up all tokens cannot go back: said so, and generation without guesses goes on."""
    s = Session(m)
    try:
        s.generate(ids, 8, draft_tokens=4)
        report(False, "recurrent", name)
    except Failed as e:
        report("sums up all tokens and cannot go back" in str(e), "recurrent", f"{name}: {e}")
    s.reset()
    tokens, _, _, _ = s.generate(ids, 8)
    report(len(tokens) > 0 and m.rewind(s.s, I64(2)) != 0 and b"sums up all tokens" in m.error(s.s), "recurrent",
           m.error(s.s).decode())
    report(m.rewind(s.s, I64(0)) == 0 and s.generate(ids, 8)[0] == tokens, "recurrent", "back to the start")
    s.close()


def ragged(m, report, name, prompts):
    alone = []
    for how in ({}, {"temperature": 1.0, "seed": 9, "repetition_penalty": 1.1}):
        s = Session(m)
        for i, ids in enumerate(prompts):
            s.reset()
            mine = dict(how, seed=how.get("seed", 0) + i)
            tokens, text, r, tops = s.generate(ids, 24, logprobs=2, **mine)
            alone.append((tokens, [top[0][1] - top[1][1] for _, top in tops]))
        s.close()
        b = Session(m, batch=len(prompts) + 1)
        same = 0
        for i, (tokens, text, r) in enumerate(b.generate_batch(prompts, 24, **how)):
            want, gaps = alone[i]
            k = next((k for k, (x, y) in enumerate(zip(tokens, want)) if x != y), None)
            same += tokens == want or (k is not None and not how and gaps[k] < TIE)
        report(same == len(prompts), "batch", f"{name}: {same} of {len(prompts)} as alone, lengths "
                                              f"{[len(p) for p in prompts]}: {how}")
        b.close()
        alone.clear()


def stops(m, report):
    s = Session(m)
    ids = s.tokenize("In the beginning")
    s.reset()
    plain, text, r, _ = s.generate(ids, 60)
    whole = text.decode()
    for stop in ([whole[20:24]], [whole[30:33], "never there"], [whole[10:40]], [whole[-3:]]):
        s.reset()
        first = min(whole.find(x) for x in stop if x in whole)
        tokens, text, r, _ = s.generate(ids, 60, stop=stop)
        report(text.decode() == whole[:first] and FINISH[r.finish] == "stop" and tokens == plain[:len(tokens)], "stop",
               f"{stop}: {len(text)} bytes")
    s.reset()
    _, text, r, _ = s.generate(ids, 60, stop=["\x01never", whole[-5:] + "?"])
    report(text.decode() == whole and FINISH[r.finish] == "length", "no stop", "all that was held back comes")
    s.close()


def logprobs(m, report):
    s, judge = Session(m), Session(m)
    ids = s.tokenize("And it came to pass")
    s.reset()
    tokens, _, _, tops = s.generate(ids, 20, logprobs=5, temperature=1.0, seed=3, repetition_penalty=1.3)
    x = judge.scores("next", ids).astype(np.float64)
    worst, order = 0.0, True
    for token, (logprob, top) in zip(tokens, tops):
        p = x - x.max() - np.log(np.exp(x - x.max()).sum())
        best = np.lexsort((np.arange(len(p)), -p))[:5]
        worst = max(worst, abs(logprob - p[token]), max(abs(v - p[i]) for i, v in top))
        order &= [i for i, _ in top] == best.tolist()
        x = judge.scores("next", [token]).astype(np.float64)
    report(worst < 1e-5 and order, "logprobs", f"20 tokens, 5 alternatives each, off by {worst:.0e}")
    s.close(), judge.close()


def reasons(m, report):
    s = Session(m, capacity=24)
    ids = s.tokenize("In the beginning")
    tokens, _, r, _ = s.generate(ids, 100)
    report(FINISH[r.finish] == "capacity" and len(tokens) == 25 - len(ids) and r.new_tokens == len(tokens)
           and r.prompt_tokens == len(ids), "capacity", f"{len(tokens)} tokens")
    try:
        s.generate(ids, 1)
        report(False, "full")
    except Failed as e:
        report("do not fit: there is room for 0 of 24, 24 are in the states" in str(e), "full", str(e))
    s.reset()
    try:
        s.generate(ids * 4, 1)
        report(False, "too long")
    except Failed as e:
        report(f"{4 * len(ids)} tokens do not fit: there is room for 24" in str(e), "too long", str(e))
    s.reset()
    for draft in (0, 4):
        tokens, _, r, _ = s.generate(ids, 100, stop_at=5, draft_tokens=draft)
        report(FINISH[r.finish] == "cancelled" and len(tokens) == 5 and s.position() == len(ids) + 4, "cancelled",
               f"position {s.position()}, guessing {draft}")
        s.reset()
    eos = int(m.text("eos").split(",")[0])
    tokens, _, r, _ = s.generate(ids, 10, bias={eos: 100.0})
    report(tokens == [eos] and FINISH[r.finish] == "end", "end token")
    s.close()


def folder_name(path):
    return os.path.basename(os.path.normpath(path))


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    tenon, demo, others = sys.argv[1], sys.argv[2], sys.argv[3:]
    report = Report()
    with tempfile.TemporaryDirectory() as tmp:
        m = Model(compiled(tenon, demo, os.path.join(tmp, "libdemo.so")))
        for part in (grammar, stops, logprobs, reasons):
            part(m, report)
        s, twin = Session(m), Session(m, capacity=100)
        texts = [s.tokenize(t) for t in (REPEATS, "In the beginning", "Wherefore")]
        speculation(m, report, "demo", texts[:2], [(None, "n-grams"), (twin, "itself")])
        ragged(m, report, "demo", texts + [texts[0] * 8])
        s.close(), twin.close()
        rng = np.random.default_rng(0)
        for folder in others:
            name = folder_name(folder)
            m = Model(compiled(tenon, folder, os.path.join(tmp, f"lib{name.replace('-', '_')}.so")))
            vocab = int(m.text("vocab"))
            prompts = [rng.integers(0, vocab, n).tolist() for n in (5, 11, 8)]
            prompts[1] = prompts[1][:4] * 3
            twin = Session(m)
            if name.startswith("mamba"):
                recurrent(m, report, name, prompts[0])
            else:
                speculation(m, report, name, prompts[:1], [(None, "n-grams"), (twin, "itself")])
            if "batch" in m.entries:
                ragged(m, report, name, prompts)
            twin.close()
    report.end()


if __name__ == "__main__":
    main()
