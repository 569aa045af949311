"""Generation: the tokens of transformers, and what a caller may ask beside them."""
import threading

import numpy as np
import pytest

import tenon
from tenon import Sampling

DECODERS = ["llama", "gpt2", "mamba", "gemma3", "qwen2-moe"]


@pytest.mark.parametrize("name", DECODERS)
def test_greedy_tokens(tiny, goldens, name):
    """Up to the first place where the two best scores of transformers are too close to call."""
    m, g = tiny(name), goldens(name)
    unsure = np.flatnonzero(g["generate.gaps"] < 1e-4)
    n = int(unsure[0]) if unsure.size else 64
    got = m.generate(g["generate.prompt"], max_tokens=64)
    assert n > 20 and got.ids[:n] == g["generate.tokens"][:n].tolist()
    assert got.finish == "length" and got.prompt_tokens == 5 and len(got.tokens) == 64


def test_stream_equals_generate(demo):
    want = demo.generate("In the beginning", max_tokens=30)
    tokens = list(demo.stream("In the beginning", max_tokens=30))
    assert [t.id for t in tokens] == want.ids and "".join(t.text for t in tokens) == want.text
    assert [t.finish for t in tokens] == [None] * 29 + ["length"]


def test_leaving_a_stream_early(demo):
    before = threading.active_count()
    with demo.session() as s:
        ids = demo.tokenizer.encode("In the beginning")
        for i, _ in enumerate(s.stream(ids, Sampling(max_tokens=200))):
            if i == 2:
                break
        assert threading.active_count() <= before + 1
        s.reset()
        assert s.generate(ids, Sampling(max_tokens=5)).ids == demo.generate(ids, max_tokens=5).ids


def test_batch_equals_one_by_one(demo):
    prompts = [demo.tokenizer.encode(t) for t in ("In the beginning", "And God", "The king said unto the people, Behold")]
    for o in (Sampling(max_tokens=12), Sampling(max_tokens=12, temperature=0.8, seed=5)):
        with demo.session(batch=3) as s:
            got = s.generate_batch(prompts, o)
        for i, (p, g) in enumerate(zip(prompts, got)):
            alone = demo.generate(p, max_tokens=12, temperature=o.temperature, seed=o.seed + i)
            assert g.ids == alone.ids and g.text == alone.text and g.prompt_tokens == len(p)


def test_stop_and_callback(demo):
    whole = demo.generate("In the beginning", max_tokens=40)
    stop = whole.text.split()[3]
    got = demo.generate("In the beginning", max_tokens=40, stop=[stop])
    assert got.finish == "stop" and got.text == whole.text[: whole.text.index(stop)]
    seen = []
    with demo.session() as s:
        g = s.generate(demo.tokenizer.encode("In the beginning"), Sampling(max_tokens=40),
                       on_token=lambda t: seen.append(t.id) or len(seen) < 4)
    assert g.finish == "cancelled" and g.ids == seen == whole.ids[:4]


def test_an_exception_of_the_callback_arrives(demo):
    def fail(_):
        raise ZeroDivisionError("mine")

    with demo.session() as s:
        for call in (lambda: s.generate([5, 6], on_token=fail), lambda: s.generate_batch([[5, 6]], on_token=fail)):
            s.reset()
            with pytest.raises(ZeroDivisionError, match="mine"):
                call()


def test_logprobs_are_the_softmax_of_the_scores(tiny):
    m = tiny("llama")
    g = m.generate([3, 1, 4], max_tokens=4, logprobs=5)
    ids = [3, 1, 4]
    for t in g.tokens:
        row = m.run({"ids": [ids]}, "next")["logits"][0].astype(np.float64)
        logs = row - row.max() - np.log(np.exp(row - row.max()).sum())
        best = np.argsort(-logs)[:5]
        assert [i for i, _ in t.top] == best.tolist()
        assert np.allclose([p for _, p in t.top], logs[best], atol=1e-4)
        assert t.logprob == pytest.approx(logs[t.id], abs=1e-4)
        ids.append(t.id)


def test_what_sampling_is_asked_reaches_the_runtime(demo):
    base = demo.generate("In the beginning", max_tokens=12)
    banned = demo.generate("In the beginning", max_tokens=12, logit_bias={base.ids[0]: float("-inf")})
    assert base.ids[0] not in banned.ids
    drawn = [demo.generate("In the", max_tokens=12, temperature=1.5, seed=s).ids for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert demo.generate("In the", max_tokens=12, temperature=1.5, seed=3, top_k=1).ids == demo.generate(
        "In the", max_tokens=12).ids
    said = demo.generate("Yes or no? ", max_tokens=12, grammar='root ::= "yes" | "no"')
    assert said.text in ("yes", "no") and said.finish in ("grammar", "end")
    guessed = demo.generate("In the beginning", max_tokens=30, draft_tokens=8)
    assert guessed.drafted > 0 and guessed.ids == demo.generate("In the beginning", max_tokens=30).ids
    plain = demo.generate("And the king said", max_tokens=60)
    dry = demo.generate("And the king said", max_tokens=60, dry_multiplier=4.0, dry_breakers=[])
    assert plain.ids != dry.ids
    with pytest.raises(TypeError, match="not both"):
        demo.generate("a", Sampling(), max_tokens=3)
    with pytest.raises(TypeError, match="temprature"):
        demo.generate("a", temprature=3)


def test_a_draft_model(demo):
    ids = demo.tokenizer.encode("In the beginning")
    with demo.session() as s, demo.session() as draft:
        g = s.generate(ids, Sampling(max_tokens=20, draft_tokens=4), draft=draft)
    assert g.ids == demo.generate(ids, max_tokens=20).ids and g.accepted == g.drafted > 0


def test_conversation_goes_on(demo):
    first = demo.tokenizer.encode("In the beginning")
    with demo.session() as s:
        a = s.generate(first, Sampling(max_tokens=5))
        b = s.generate(a.ids[-1:], Sampling(max_tokens=5))  # the last token is not in the states yet
    assert a.ids + b.ids == demo.generate(first, max_tokens=10).ids


def test_refusals(tiny, demo):
    with pytest.raises(ValueError, match="expected a list of token ids"):
        demo.generate([])
    with pytest.raises(tenon.TenonError, match="do not fit"):
        tiny("llama").generate(list(range(97)))
    with pytest.raises(tenon.TenonError, match="grammar, line 1"):
        demo.generate("a", grammar="root ::= (")
    with pytest.raises(tenon.TenonError):
        tiny("bert-cls").session().generate([1, 2])
    assert tiny("llama").generate([1] * 90, max_tokens=64).finish == "capacity"
