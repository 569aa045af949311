"""The classes in the place of transformers' models, with arrays and without transformers: against what transformers computed
for the tiny folders."""
import json
import shutil
import threading
import warnings

import numpy as np
import pytest
from conftest import MODELS

import tenon
from tenon import hub

HEADS = [(tenon.TenonModelForFeatureExtraction, "bert-model", {"last_hidden_state": "encode.hidden"}),
         (tenon.TenonModelForFeatureExtraction, "modernbert", {"last_hidden_state": "encode.hidden"}),
         (tenon.TenonModelForSequenceClassification, "bert-cls", {"logits": "classify.logits"}),
         (tenon.TenonModelForSequenceClassification, "roberta-cls", {"logits": "classify.logits"}),
         (tenon.TenonModelForTokenClassification, "bert-tokens", {"logits": "classify_tokens.logits"}),
         (tenon.TenonModelForMaskedLM, "modernbert-mlm", {"logits": "fill_mask.logits"}),
         (tenon.TenonModelForQuestionAnswering, "distilbert-qa",
          {"start_logits": "answer.start", "end_logits": "answer.end"})]


@pytest.fixture(params=["with transformers", "without"])
def surroundings(request, monkeypatch):
    """Both ways where transformers is installed."""
    if request.param == "without":
        monkeypatch.setattr(hub, "transformers", lambda: None)
    elif hub.transformers() is None:
        pytest.skip("transformers is not there")
    return request.param


def arguments(g, case):
    names = {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"}
    return {names[n]: g[f"{case}.in.{n}"] for n in names if f"{case}.in.{n}" in g}


@pytest.mark.parametrize("cls, name, fields", HEADS)
def test_heads(surroundings, goldens, close, cls, name, fields):
    m, g = cls.from_pretrained(MODELS / name), goldens(name)
    for case in "abc":
        out = m(**arguments(g, case))
        assert list(out.keys()) == list(fields)
        for i, (field, key) in enumerate(fields.items()):
            x, r = out[field], g[f"{case}.{key}"]
            if r.shape[:2] == g[f"{case}.in.mask"].shape:  # what stands at padding means nothing
                keep = g[f"{case}.in.mask"] == 1
                x, r = x[keep], r[keep]
            close(x, r)
            assert out[i] is getattr(out, field) and isinstance(out[i], np.ndarray)
    assert isinstance(m(**arguments(g, "b"), return_dict=False), tuple)
    assert m.config.model_type == json.loads((MODELS / name / "config.json").read_text())["model_type"]
    assert not m.can_generate() and str(m.device) == "cpu" and m.eval() is m
    m.model.close()


def test_only_the_ids_are_needed(goldens, close):
    m, g = tenon.TenonModelForSequenceClassification.from_pretrained(MODELS / "bert-cls"), goldens("bert-cls")
    assert (g["b.in.mask"] == 1).all()
    close(m(g["b.in.ids"], token_type_ids=g["b.in.types"]).logits, g["b.classify.logits"])
    close(m(g["b.in.ids"].tolist(), None, g["b.in.types"]).logits, g["b.classify.logits"])


@pytest.mark.parametrize("name", ["llama", "mamba", "gemma3"])
def test_causal(surroundings, goldens, close, name):
    m, g = tenon.TenonModelForCausalLM.from_pretrained(MODELS / name), goldens(name)
    for case in "abc":
        close(m(g[f"{case}.in.ids"]).logits, g[f"{case}.logits.logits"])
    sure = np.flatnonzero(g["generate.gaps"] < 1e-4)
    n = int(sure[0]) if sure.size else 64
    got = m.generate(g["generate.prompt"][None], max_new_tokens=64)
    assert got.shape == (1, 69) and got.dtype == np.int64
    assert got[0, :5].tolist() == g["generate.prompt"].tolist()
    assert got[0, 5 : 5 + n].tolist() == g["generate.tokens"][:n].tolist()
    m.model.close()


def test_padding_on_either_side(goldens, close):
    """Scores of padded rows are those of the rows alone; generation goes on behind the padding."""
    m, g = tenon.TenonModelForCausalLM.from_pretrained(MODELS / "llama"), goldens("llama")
    ids = g["a.in.ids"]
    rows = [ids[0, :12], ids[1, :5], ids[2, :9]]
    for side in ("left", "right"):
        padded, mask = np.full((3, 12), 7, np.int64), np.zeros((3, 12), np.int64)
        for i, row in enumerate(rows):
            at = slice(12 - len(row), 12) if side == "left" else slice(0, len(row))
            padded[i, at], mask[i, at] = row, 1
        got = m(padded, mask).logits
        for i, row in enumerate(rows):
            close(got[i][mask[i] == 1], g["a.logits.logits"][i, : len(row)])
    new = m.generate(padded, mask, max_new_tokens=6)
    assert (new[:, :12] == padded).all()
    for i, row in enumerate(rows):
        assert new[i, 12:].tolist() == m.generate(row[None], max_new_tokens=6)[0, len(row) :].tolist()
    with pytest.raises(ValueError, match="side by side"):
        m(padded, np.tile([1, 0], (3, 6)))
    with pytest.raises(TypeError, match="attention_mask is"):
        m(padded, mask[:, :4])


def test_generation_parameters(goldens):
    m, g = tenon.TenonModelForCausalLM.from_pretrained(MODELS / "llama"), goldens("llama")
    prompt, tokens = g["generate.prompt"][None], g["generate.tokens"].tolist()
    assert m.generate(prompt).shape == (1, 25)  # transformers' 20 new tokens
    assert m.generate(prompt, max_length=9).shape == (1, 9)
    end = tokens[6]
    first = tokens.index(end)
    assert m.generate(prompt, max_new_tokens=40, eos_token_id=end)[0, 5:].tolist() == tokens[: first + 1]
    assert m.generate(prompt, max_new_tokens=40, eos_token_id=[256, end])[0, 5:].tolist() == tokens[: first + 1]
    assert tokens[0] not in m.generate(prompt, max_new_tokens=8, suppress_tokens=[tokens[0]])[0, 5:]
    two = m.generate(np.repeat(prompt, 2, 0), max_new_tokens=10, eos_token_id=end, pad_token_id=9)
    assert two.shape == (2, 5 + min(first + 1, 10)) and (two[0] == two[1]).all()
    drawn = [m.generate(prompt, do_sample=True, temperature=1.3, seed=s, num_return_sequences=3, max_new_tokens=8)
             for s in (1, 1, 2)]
    assert drawn[0].shape == (3, 13) and (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
    assert len({tuple(r) for r in drawn[0].tolist()}) > 1
    for wrong in ({"num_beams": 4}, {"no_repeat_ngram_size": 2}, {"penalty_alpha": 0.6}, {"no_such_thing": 1}):
        with pytest.raises(ValueError, match=f"generate: {next(iter(wrong))}="):
            m.generate(prompt, **wrong)
    with pytest.raises(ValueError, match="leaves no room"):
        m.generate(prompt, max_length=5)
    with pytest.warns(UserWarning, match="96 positions are full"):
        assert m.generate(prompt, max_new_tokens=500).shape[1] <= 97
    with pytest.raises(ValueError, match="no token to begin with"):
        m.generate()


def test_two_threads_take_turns(goldens):
    m, g = tenon.TenonModelForCausalLM.from_pretrained(MODELS / "llama", threads=1), goldens("llama")
    prompt = g["generate.prompt"][None]
    want, wrong = m.generate(prompt, max_new_tokens=16), []

    def work():
        for _ in range(4):
            if not np.array_equal(m.generate(prompt, max_new_tokens=16), want):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_refused_arguments():
    m = tenon.TenonModelForSequenceClassification.from_pretrained(MODELS / "bert-cls")
    ids = np.ones((1, 3), np.int64)
    m(ids, output_attentions=False, use_cache=True, labels=None)
    for wrong in ({"output_attentions": True}, {"inputs_embeds": ids}, {"labels": ids}, {"anything": 1}):
        with pytest.raises(TypeError, match=f"{next(iter(wrong))}="):
            m(ids, **wrong)
    with pytest.raises(TypeError, match="input_ids is missing"):
        m()
    with pytest.raises(TypeError, match=r"expected integers \[batch, tokens\], got float64"):
        m(np.zeros((1, 3)))
    with pytest.warns(UserWarning, match="stays on the CPU"):
        m.to("cuda:0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        m.to("cpu")


def test_the_wrong_class():
    with pytest.raises(tenon.TenonError, match="bert_cls is no model for question answering|model is no model for question"):
        tenon.TenonModelForQuestionAnswering.from_pretrained(MODELS / "bert-cls")


def test_saving(surroundings, tmp_path, goldens, close, monkeypatch):
    m = tenon.TenonModelForSequenceClassification.from_pretrained(MODELS / "bert-cls", precision="fast", threads=1)
    g, there = goldens("bert-cls"), tmp_path / "saved"
    want = m(**arguments(g, "a")).logits
    m.save_pretrained(there)
    m.save_pretrained(there)  # over itself
    assert {p.name for p in there.iterdir()} >= {"libmodel.so", "config.json"}
    monkeypatch.setenv("TENON", str(tmp_path / "none"))  # nothing is compiled any more
    again = tenon.TenonModelForSequenceClassification.from_pretrained(there, export=False)
    assert (again(**arguments(g, "a")).logits == want).all() and again.config.id2label == m.config.id2label
    with pytest.raises(TypeError, match="is compiled already: precision"):
        tenon.TenonModelForSequenceClassification.from_pretrained(there, precision="fast")
    with pytest.raises(tenon.TenonNotFoundError, match="export=False forbids"):
        tenon.TenonModelForSequenceClassification.from_pretrained(MODELS / "bert-cls", export=False)
    with tenon.load(there) as plain:
        assert plain.path == str(there / "libmodel.so")
    alone = tmp_path / "libalone.so"
    shutil.copy(there / "libmodel.so", alone)
    bare = tenon.TenonModelForSequenceClassification.from_pretrained(alone)
    assert bare.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    bare.save_pretrained(tmp_path / "bare")
    assert json.loads((tmp_path / "bare" / "config.json").read_text())["id2label"]


def test_saving_weights_that_lie_apart(tmp_path, goldens, close):
    cls, g = tenon.TenonModelForSequenceClassification, goldens("bert-cls")
    cls.from_pretrained(MODELS / "bert-cls", weights="external").save_pretrained(tmp_path / "a")
    again = cls.from_pretrained(tmp_path / "a")
    again.save_pretrained(tmp_path / "b")
    shutil.rmtree(tmp_path / "a")
    assert (tmp_path / "b" / "libmodel.weights").stat().st_size > 200000
    close(cls.from_pretrained(tmp_path / "b")(**arguments(g, "a")).logits, g["a.classify.logits"])
    with pytest.raises(tenon.TenonError, match="is compiled already, export=True needs a model"):
        cls.from_pretrained(tmp_path / "b" / "libmodel.so", export=True)
    shutil.copy(tmp_path / "b" / "libmodel.so", tmp_path / "b" / "libother.so")
    (tmp_path / "b" / "libmodel.so").rename(tmp_path / "b" / "libone.so")
    with pytest.raises(tenon.TenonError, match="holds several libraries"):
        cls.from_pretrained(tmp_path / "b")
    cls.from_pretrained(tmp_path / "b", file_name="libone.so")


def test_onnx_and_gguf(tmp_path, goldens, close):
    pytest.importorskip("onnxruntime")  # a place that has packages
    tenon.export("onnx", MODELS / "bert-cls", tmp_path / "model.onnx")
    shutil.copy(MODELS / "bert-cls" / "config.json", tmp_path)
    g = goldens("bert-cls")
    (tmp_path / "other.onnx").write_bytes((tmp_path / "model.onnx").read_bytes())
    for path, file_name in ((tmp_path, None), (tmp_path / "model.onnx", None), (tmp_path, "other.onnx")):
        m = tenon.TenonModelForSequenceClassification.from_pretrained(path, file_name=file_name)
        close(m(**arguments(g, "a")).logits, g["a.classify.logits"])
        assert m.config.id2label[2] == "good"
    (tmp_path / "llm").mkdir()
    tenon.export("onnx", MODELS / "llama", tmp_path / "llm" / "model.onnx")
    causal = tenon.TenonModelForCausalLM.from_pretrained(tmp_path / "llm" / "model.onnx")
    close(causal(goldens("llama")["a.in.ids"]).logits, goldens("llama")["a.logits.logits"])


def test_providers():
    load = tenon.TenonModelForFeatureExtraction.from_pretrained
    m = load(MODELS / "bert-model", provider="CPUExecutionProvider", provider_options={"threads": 2})
    assert m.model.threads == 2
    with pytest.raises(tenon.TenonError, match="no provider CUDAExecutionProvider: there is cpu"):
        load(MODELS / "bert-model", provider="CUDAExecutionProvider")
    with pytest.raises(tenon.TenonError, match="provider_options: arena are not known"):
        load(MODELS / "bert-model", provider_options={"arena": 1})


def test_a_repository_by_name(monkeypatch, tmp_path, goldens):
    """What is asked of huggingface_hub, and that its folder is used."""
    import sys
    import types

    asked = []

    def snapshot_download(name, **options):
        asked.append((name, options["revision"], options["local_files_only"]))
        return str(MODELS / "bert-cls")

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download))
    monkeypatch.chdir(tmp_path)
    m = tenon.TenonModelForSequenceClassification.from_pretrained("someone/bert-cls", revision="v1", local_files_only=True)
    assert asked == [("someone/bert-cls", "v1", True)] and m.config.id2label[0] == "bad"
    with pytest.raises(tenon.TenonNotFoundError, match="there is no such model"):
        tenon.TenonModelForSequenceClassification.from_pretrained("./someone/bert-cls")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(tenon.TenonNotFoundError, match="install huggingface_hub"):
        tenon.TenonModelForSequenceClassification.from_pretrained("someone/bert-cls")
