"""The tokenizer inside an artefact against the tokenizers package."""
import shutil
import threading

import numpy as np
import pytest
from conftest import MODELS, ROOT, word_tokenizer

import tenon

tokenizers = pytest.importorskip("tokenizers")
TEXTS = (ROOT / "tests" / "tokenizer" / "texts.txt").read_text(encoding="utf-8").splitlines()
KINDS = ["gpt2", "llama2", "llama3", "roberta", "t5", "wordpiece"]


@pytest.fixture(scope="module")
def carried(tmp_path_factory):
    """carried(kind): a model that carries that tokenizer; what it computes does not matter here."""
    models = {}

    def get(kind):
        if kind not in models:
            folder = tmp_path_factory.mktemp(kind) / "model"
            shutil.copytree(MODELS / "bert-model", folder)
            shutil.copy(ROOT / "tests" / "tokenizer" / "data" / f"{kind}.json", folder / "tokenizer.json")
            models[kind] = tenon.load(folder, threads=1)
        return models[kind]

    yield get
    for m in models.values():
        m.close()


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_text(carried, kind):
    mine = carried(kind).tokenizer
    theirs = tokenizers.Tokenizer.from_file(str(ROOT / "tests" / "tokenizer" / "data" / f"{kind}.json"))
    theirs.no_truncation(), theirs.no_padding()
    for text in TEXTS:
        for special in (True, False):
            want = theirs.encode(text, add_special_tokens=special)
            assert mine.encode(text, add_special_tokens=special) == want.ids, text
        assert mine.decode(want.ids) == theirs.decode(want.ids, skip_special_tokens=False), text
        with_special = theirs.encode(text).ids
        assert mine.decode(with_special, skip_special_tokens=True) == theirs.decode(with_special), text


def test_the_bundled_model(demo):
    theirs = tokenizers.Tokenizer.from_file(str(ROOT / "tools" / "demo-model" / "model" / "tokenizer.json"))
    t = demo.tokenizer
    for text in TEXTS:
        assert t.encode(text) == theirs.encode(text).ids
    token = theirs.id_to_token(100)
    assert t.id_to_token(100) == token and t.token_to_id(token) == 100
    assert t.token_to_id("no such token, surely") is None
    with pytest.raises(tenon.TenonError, match="no token 1000000"):
        t.id_to_token(1000000)
    assert (t.bos_id, t.eos_ids, t.vocab_size) == (0, [1], 1024)
    assert t.decode([]) == "" and t.decode(np.array([100], np.int64)) == theirs.decode([100])


def test_side_by_side(with_tokenizer):
    folder = with_tokenizer("bert-model")
    theirs = word_tokenizer(257, causal=False)
    theirs.enable_padding(pad_id=0)
    first, second = ["w1 w2 w3", "w9", "w4 nothing"], ["w7", "w8 w10 w11 w12", "w200 w201"]
    with tenon.load(folder) as m:
        for pairs in (None, second):
            got = m.tokenizer(first, pairs)
            want = theirs.encode_batch(first if pairs is None else list(zip(first, pairs)))
            assert got["ids"].tolist() == [e.ids for e in want]
            assert got["mask"].tolist() == [e.attention_mask for e in want]
            assert got["types"].tolist() == [e.type_ids for e in want]
        with pytest.raises(ValueError, match="3 texts and 1 pairs"):
            m.tokenizer(first, ["a"])


def test_long_texts_lose_their_end(with_tokenizer):
    long = " ".join(f"w{i}" for i in range(100))
    with tenon.load(with_tokenizer("bert-model")) as m:
        ids = m.tokenizer(long)["ids"]
        assert ids.shape == (1, 40) and ids[0, 0] == 2 and ids[0, -1] == 3 and ids[0, 38] == 5 + 37
        assert m.tokenizer(long, max_length=5)["ids"].tolist() == [[2, 5, 6, 7, 3]]
        assert len(m.tokenizer.encode(long)) == 102
        assert m.tokenizer.encode(long, max_length=4) == [2, 5, 6, 3]


def test_from_several_threads(demo):
    want, wrong = [demo.tokenizer.encode(t) for t in TEXTS], []

    def work():
        if [demo.tokenizer.encode(t) for t in TEXTS] != want:
            wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
