"""Inside the pipelines of transformers: the answers of tenon's classes are those of its own models on the same folders."""
import json

import pytest
from conftest import MODELS, ROOT, SPECIAL, word_tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import tenon  # noqa: E402

TEXTS = ["w5 w17 w30 w50", "w7 w8", "w60 w61 w62 w63 w64 w65"]


def tokenizer(name, causal=False):
    size = json.loads((MODELS / name / "config.json").read_text())["vocab_size"]
    words = {f"{n}_token": f"[{n.upper()}]" for n in ("pad", "unk", "cls", "sep", "mask")}
    assert set(words.values()) == set(SPECIAL)
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * name.startswith("bert")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=word_tokenizer(size, causal), model_input_names=names,
                                                **words)


def both(name, kind):
    """transformers' model and tenon's."""
    auto = {"FeatureExtraction": "AutoModel"}.get(kind, f"AutoModelFor{kind}")
    theirs = getattr(transformers, auto).from_pretrained(MODELS / name, dtype=torch.float32).eval()
    return theirs, getattr(tenon, f"TenonModelFor{kind}").from_pretrained(MODELS / name, threads=1)


def same(a, b):
    """Equal but for the rounding of scores."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for k in a:
            same(a[k], b[k])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            same(x, y)
    elif isinstance(a, str) or a is None:
        assert a == b
    else:
        assert float(a) == pytest.approx(float(b), abs=1e-4, rel=1e-3)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("task, name, kind", [
    ("feature-extraction", "bert-model", "FeatureExtraction"), ("feature-extraction", "modernbert", "FeatureExtraction"),
    ("text-classification", "bert-cls", "SequenceClassification"),
    ("text-classification", "distilbert-cls-f16", "SequenceClassification"),
    ("fill-mask", "bert-mlm", "MaskedLM"), ("fill-mask", "roberta-mlm", "MaskedLM"),
    ("token-classification", "bert-tokens", "TokenClassification")])
def test_pipelines(task, name, kind, batch_size, caplog):
    words = {"top_k": 3} if task == "text-classification" else {}
    texts = [t + " [MASK]" for t in TEXTS] if task == "fill-mask" else TEXTS
    got = [transformers.pipeline(task, model=m, tokenizer=tokenizer(name), device=-1)(texts, batch_size=batch_size, **words)
           for m in both(name, kind)]
    same(*got)
    assert "is not supported for" not in caplog.text


@pytest.mark.parametrize("name", ["llama", "gpt2", "mamba", "phi"])
def test_text_generation(name):
    if name == "mamba" and transformers.__version__.startswith("4."):
        pytest.skip("transformers 4 goes wrong behind prompts shorter than Mamba's convolution")
    t = tokenizer(name, causal=True)
    t.padding_side = "left"  # transformers' own answers are wrong for the other side
    pipes = [transformers.pipeline("text-generation", model=m, tokenizer=t, device=-1) for m in both(name, "CausalLM")]
    for batch_size in (1, 3):
        a, b = [p(TEXTS, batch_size=batch_size, max_new_tokens=16, do_sample=False) for p in pipes]
        assert a == b and len(a) == 3
    drawn = pipes[1](TEXTS[0], max_new_tokens=5, do_sample=True, temperature=0.7, num_return_sequences=2)
    assert len(drawn) == 2
    torch.manual_seed(3)
    first = pipes[1](TEXTS[0], max_new_tokens=8, do_sample=True)
    torch.manual_seed(3)
    assert first == pipes[1](TEXTS[0], max_new_tokens=8, do_sample=True)


def test_question_answering():
    theirs, mine = both("bert-qa", "QuestionAnswering")
    t = tokenizer("bert-qa")
    inputs = t(["w1 w2", "w3"], ["w5 w6 w7", "w8 w9"], padding=True, return_tensors="pt")
    with torch.no_grad():
        a, b = theirs(**inputs), mine(**inputs)
    torch.testing.assert_close(a.start_logits, b.start_logits, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(a.end_logits, b.end_logits, atol=1e-4, rtol=1e-3)
    assert type(b).__name__ == "QuestionAnsweringModelOutput"
    if "question-answering" not in transformers.pipelines.SUPPORTED_TASKS:
        return  # transformers 5 has no such pipeline
    words = {"question": "w1 w2 w50", "context": "w5 w6 w7 w99 w31 w32"}
    same(*[transformers.pipeline("question-answering", model=m, tokenizer=t)(**words) for m in (theirs, mine)])


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_generate_equals_generate(name):
    theirs, mine = both(name, "CausalLM")
    t = tokenizer(name, causal=True)
    t.padding_side = "left"
    one = t(TEXTS[0], return_tensors="pt").input_ids
    cases = [{"max_new_tokens": 12}, {"max_length": 10}, {"max_new_tokens": 12, "repetition_penalty": 1.3},
             {"max_new_tokens": 12, "suppress_tokens": [5, 6, 7]}]
    plain = theirs.generate(one, do_sample=False, max_new_tokens=12)
    cases.append({"max_new_tokens": 12, "eos_token_id": int(plain[0, -5]), "pad_token_id": 0})
    for words in cases:
        assert torch.equal(theirs.generate(one, do_sample=False, **words), mine.generate(one, do_sample=False, **words))
    batch = t(TEXTS, padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    for words in ({"max_new_tokens": 9}, {"max_new_tokens": 9, "eos_token_id": int(plain[0, -8]), "pad_token_id": 0}):
        assert torch.equal(theirs.generate(**batch, do_sample=False, **words),
                           mine.generate(**batch, do_sample=False, **words))
    out = mine.generate(one, max_new_tokens=4, return_dict_in_generate=True)
    assert torch.equal(out.sequences, plain[:, : one.shape[1] + 4])
    config = transformers.GenerationConfig(max_new_tokens=3)
    assert mine.generate(one, generation_config=config).shape[1] == one.shape[1] + 3


def test_the_bundled_model():
    """With the tokenizer of its folder: stop strings, end tokens, a batch of texts of different lengths."""
    folder = ROOT / "tools" / "demo-model" / "model"
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    mine = tenon.TenonModelForCausalLM.from_pretrained(folder, threads=1)
    t = transformers.AutoTokenizer.from_pretrained(folder)
    one = t("In the beginning", return_tensors="pt").input_ids
    text = t.decode(theirs.generate(one, do_sample=False, max_new_tokens=24)[0, one.shape[1] :])
    for stop in (text.split()[4], text[10:15]):
        words = {"max_new_tokens": 24, "stop_strings": stop, "tokenizer": t, "do_sample": False}
        assert torch.equal(theirs.generate(one, **words), mine.generate(one, **words))
    texts = ["In the beginning", "And the king said unto the people", "He"]
    t.padding_side = "left"
    t.pad_token = t.pad_token or t.eos_token
    a, b = [transformers.pipeline("text-generation", model=m, tokenizer=t, device=-1)(
        texts, max_new_tokens=20, do_sample=False, batch_size=3) for m in (theirs, mine)]
    assert a == b


def test_streamer(capsys):
    _, mine = both("llama", "CausalLM")
    t = tokenizer("llama", causal=True)
    one = t(TEXTS[0], return_tensors="pt").input_ids
    out = mine.generate(one, max_new_tokens=6, streamer=transformers.TextStreamer(t, skip_prompt=True))
    assert capsys.readouterr().out.split() == t.decode(out[0, one.shape[1] :]).split()


def test_zero_shot_classification():
    answers = []
    for m in both("bert-cls", "SequenceClassification"):
        m.config.label2id = {"contradiction": 0, "neutral": 1, "entailment": 2}
        pipe = transformers.pipeline("zero-shot-classification", model=m, tokenizer=tokenizer("bert-cls"), device=-1)
        answers.append(pipe(TEXTS[0], candidate_labels=["w3", "w4 w5", "w90"], hypothesis_template="w7 {}"))
    same(*answers)


def test_text_classification_of_a_pair():
    a, b = [transformers.pipeline("text-classification", model=m, tokenizer=tokenizer("bert-cls"))(
        {"text": "w1 w2", "text_pair": "w3"}) for m in both("bert-cls", "SequenceClassification")]
    same(a, b)


def test_configuration_of_a_library_alone(tmp_path):
    tenon.compile(MODELS / "bert-cls", tmp_path / "libm.so")
    m = tenon.TenonModelForSequenceClassification.from_pretrained(tmp_path / "libm.so")
    assert isinstance(m.config, transformers.BertConfig) and m.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    got = transformers.pipeline("text-classification", model=m, tokenizer=tokenizer("bert-cls"))("w1 w2")
    assert got[0]["label"] in ("bad", "fair", "good")
