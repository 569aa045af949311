"""Sentence embeddings: of a tiny model against its own entry point on the ids of the tokenizers package, of MiniLM against
transformers' vectors."""
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, golden, word_tokenizer

import tenon

TEXTS = ["w1 w2 w3", "w9", "w4 w5 w6 w7 w8 w10", "", "w20 w21"]


def expected(m, texts, size):
    """One text at a time."""
    t, rows = word_tokenizer(size, causal=False), []
    for text in texts:
        e = t.encode(text)
        rows.append(m.run({"ids": [e.ids], "mask": [e.attention_mask], "types": [e.type_ids]}, "embed")["embedding"][0])
    return np.stack(rows)


@pytest.mark.parametrize("name, size", [("sentence-mean", 101), ("sentence-cls", 101)])
def test_embed(with_tokenizer, close, name, size):
    with tenon.load(with_tokenizer(name)) as m:
        want = expected(m, TEXTS, size)
        for batch_size in (1, 2, 32):
            close(m.embed(TEXTS, batch_size=batch_size), want)
        close(m.embed(TEXTS[2]), want[2])
        close(m.embed(TEXTS, normalize=True), want / np.linalg.norm(want, axis=1, keepdims=True))
        assert m.embed([]).shape[0] == 0
        with pytest.raises(ValueError, match="a batch size of 0"):
            m.embed(TEXTS, batch_size=0)


def test_embedder(with_tokenizer, close):
    e = tenon.TenonEmbedder(with_tokenizer("sentence-mean"))
    want = expected(e.model, TEXTS, 101)
    close(e.encode(TEXTS), want)
    close(e.encode(TEXTS[0]), want[0])
    rows = e.encode(TEXTS, convert_to_numpy=False)
    assert isinstance(rows, list) and len(rows) == len(TEXTS)
    assert e.get_sentence_embedding_dimension() == 48 and e.max_seq_length == e.model.max_tokens
    unit = want / np.linalg.norm(want, axis=1, keepdims=True)
    close(e.similarity(want[:2], want), unit[:2] @ unit.T)
    e.max_seq_length = 4
    short = expected(e.model, ["w4 w5"], 101)
    close(e.encode(["w4 w5 w6 w7"]), short)


def test_pooling(with_tokenizer, close):
    """Of a model that gives no vectors of its own: over the tokens that are no padding."""
    with tenon.load(with_tokenizer("bert-model")) as m:
        t, hidden = word_tokenizer(257, causal=False), []
        for text in TEXTS:
            e = t.encode(text)
            hidden.append(m.run({"ids": [e.ids], "mask": [e.attention_mask], "types": [e.type_ids]})["hidden"][0])
        close(m.embed(TEXTS, pooling="mean"), np.stack([h.mean(0) for h in hidden]))
        close(m.embed(TEXTS, pooling="max"), np.stack([h.max(0) for h in hidden]))
        close(m.embed(TEXTS, pooling="cls"), np.stack([h[0] for h in hidden]))
        with pytest.raises(ValueError, match="no pooling sum: there are mean, max, cls"):
            m.embed(TEXTS, pooling="sum")


def test_tensors(with_tokenizer, close):
    torch = pytest.importorskip("torch")
    e = tenon.TenonEmbedder(with_tokenizer("sentence-mean"))
    got = e.encode(TEXTS, convert_to_tensor=True)
    assert isinstance(got, torch.Tensor)
    close(e.similarity(got, got), e.similarity(e.encode(TEXTS), e.encode(TEXTS)))


def test_what_gives_no_vectors(tiny):
    with pytest.raises(tenon.TenonError, match="bert_cls gives no sentence embeddings: its entry points are encode"):
        tiny("bert-cls").embed(["a"])
    with pytest.raises(tenon.TenonError, match="gives no sentence embeddings"):
        tenon.TenonEmbedder(tiny("bert-cls"))


def test_minilm(tmp_path):
    """The five lines of the README, and the same through ONNX."""
    folder = Path(os.environ.get("TENON_MINILM", ROOT / ".cache" / "minilm"))
    if not (folder / "model.safetensors").exists():
        pytest.skip("tools/fetch-minilm has not run")
    want = golden.load(str(ROOT / "tests/parity/minilm_goldens.safetensors"))["embedding"]
    sentences = (ROOT / "tests/parity/minilm_sentences.txt").read_text(encoding="utf-8").splitlines()
    model = tenon.load(folder)
    got = model.embed(sentences)
    assert np.abs(got - want).max() < 1e-5
    model.close()
