"""The commands as functions: what they are called with, what they give back, how they fail."""
import json
import os
import re
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from conftest import MODELS, ROOT

import tenon
from tenon import _binary, actions, cache, options
from tenon.errors import Message


def test_options_become_words():
    words = list(options.flags({
        "level": 2, "kv_cache": "f16", "isa": ["avx2", "avx512"], "external_data": True, "contrib": False, "task": None,
        "adapter": {"a/b": 0.5, Path("c"): 1}, "plugin": ["x.so", Path("y.so")], "shapes": {"x": ("B", 3, 224), "y": "1x2"},
        "require_fusion": {"attention": 6}, "tensor_type": {"blk.*": "q8_0"}, "extra": ["-j", "2"], "target_bpw": 4.5}))
    assert words == ["-O2", "--kv-cache", "f16", "--isa", "avx2,avx512", "--external-data", "--adapter", "a/b=0.5",
                     "--adapter", "c=1", "--plugin", "x.so", "--plugin", "y.so", "--shapes", "x:Bx3x224,y:1x2",
                     "--require-fusion", "attention=6", "--tensor-type", "blk.*=q8_0", "-j", "2", "--target-bpw", "4.5"]
    assert [list(options.flags({"level": x})) for x in ("O3", "-O0", 1)] == [["-O3"], ["-O0"], ["-O1"]]
    with pytest.raises(ValueError, match="level is 4"):
        list(options.flags({"level": 4}))


@pytest.mark.parametrize("name", ["check", "compile", "inspect", "optimize", "export", "quantize", "verify", "perplexity",
                                  "chat", "imatrix"])
def test_every_typed_option_is_one_of_the_command(name):
    known = set(re.findall(r"^ +(?:-\w, )?--?([\w-]+)", tenon.command(name, help=True).stdout, re.MULTILINE))
    typed = getattr(options, f"{name.capitalize()}Options").__annotations__
    besides = {"extra", "level"} if "O3" in known else {"extra"}
    assert len(typed) > 5 and {n.replace("_", "-") for n in typed} - known <= besides


def test_compile(tmp_path, goldens, close):
    a = tenon.compile(MODELS / "bert-cls", tmp_path / "libm.so", level=2, isa="avx2")
    assert Path(a.library).samefile(tmp_path / "libm.so") and Path(a.header).exists()
    assert a.library_bytes == os.path.getsize(a.library) > a.weights_bytes > 0
    g = goldens("bert-cls")
    with a.load() as m:
        close(m.run({n: g[f"a.in.{n}"] for n in ("ids", "mask", "types")}, "classify")["logits"], g["a.classify.logits"])


def test_errors_have_messages(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["NoSuchModel"], "model_type": "none"}))
    with pytest.raises(tenon.TenonError) as e:
        tenon.compile(folder, tmp_path / "libm.so")
    assert e.value.status == 1 and any("NoSuchModel" in m.text for m in e.value.messages)
    assert all(m.severity in ("error", "note", "warning") for m in e.value.messages)
    c = tenon.check(folder)
    assert not c.ok and any("NoSuchModel" in m.text for m in c.messages)
    with pytest.raises(tenon.TenonError, match=r"unknown option '--kv-cach'; did you mean '--kv-cache'\?"):
        tenon.compile(MODELS / "bert-cls", tmp_path / "libm.so", kv_cach="f16")
    with pytest.raises(tenon.TenonError, match="unknown command 'no-such'"):
        tenon.command("no-such")
    assert tenon.command("no-such", check=False).status == 2


def test_check_and_inspect():
    c = tenon.check(MODELS / "bert-cls")
    assert c.ok and c.architecture == "BertForSequenceClassification" and c.task == "text-classification"
    assert c.messages == () and c.data["entries"] == 2
    library = tenon.load(MODELS / "bert-cls").path
    assert [e["name"] for e in tenon.inspect(library)["entries"]] == ["encode", "classify"]


def test_verify(tmp_path):
    v = tenon.verify(f"{MODELS}/bert-cls@O0,ref", MODELS / "bert-cls")
    assert v.ok and {x.name for x in v.values} == {"encode.hidden", "classify.logits"}
    assert all(x.ok and x.cosine > 0.9999 for x in v.values)
    wrong = tenon.verify(MODELS / "bert-cls", MODELS / "bert-cls", precision="fast", atol=0, rtol=0)
    other = tenon.verify(f"{MODELS}/bert-cls@O0,ref", MODELS / "bert-cls", atol=0, rtol=0)
    assert wrong.ok and not other.ok and any(not x.ok and x.max_abs > 0 for x in other.values)
    apart = tenon.verify(MODELS / "bert-cls", MODELS / "bert-mlm", entry="encode")
    assert not apart.ok and apart.first_difference
    with pytest.raises(tenon.TenonError, match="libnone.so: cannot load the library"):
        tenon.verify(MODELS / "bert-cls", tmp_path / "libnone.so")


def test_export_and_optimize(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    w = tenon.export("onnx", MODELS / "bert-cls", tmp_path / "m.onnx", opset=17)
    assert w.path == str(tmp_path / "m.onnx")
    tenon.optimize(w.path, tmp_path / "small.onnx", level=2)
    inputs = {n: np.ones((2, 5), np.int64) for n in ("input_ids", "attention_mask", "token_type_ids")}
    want = onnxruntime.InferenceSession(w.path).run(None, inputs)[0]
    got = onnxruntime.InferenceSession(str(tmp_path / "small.onnx")).run(None, inputs)[0]
    with tenon.load(w.path) as m:
        mine = m.run(inputs)["logits"]
    assert np.allclose(got, want, atol=1e-5) and np.allclose(mine, want, atol=1e-5)


def test_quantize(tmp_path):
    """The plan and the result; what the error of a tensor is, by the gguf package."""
    gguf = pytest.importorskip("gguf")
    model, out = ROOT / "tools/demo-model/model", tmp_path / "q.gguf"
    plan = tenon.quantize(model, out, "Q8_0", dry_run=True)
    assert not out.exists() and plan.data["scheme"] == "Q8_0"
    done = tenon.quantize(model, out, "q8_0", tensor_type={"attn_k": "f16"})
    assert [t.name for t in plan.tensors] == [t.name for t in done.tensors]
    stored = {t.name: t for t in gguf.GGUFReader(out).tensors}
    for t in done.tensors:
        assert stored[t.name].tensor_type.name.lower() == t.after and stored[t.name].n_bytes == t.bytes_after
        assert t.shape == tuple(int(x) for x in reversed(stored[t.name].shape))
        assert t.after == ("f16" if "attn_k" in t.name and len(t.shape) == 2 else
                           "q8_0" if len(t.shape) == 2 else t.before) or len(t.shape) == 1
    changed = [t for t in done.tensors if t.after == "q8_0"]
    assert changed and all(t.rmse is not None and 0 < t.rmse < 0.01 and t.bits_per_weight == 8.5 for t in changed)
    with tenon.load(out) as m, tenon.load(model) as whole:
        assert m.generate("In the", max_tokens=4).ids == whole.generate("In the", max_tokens=4).ids
    with pytest.raises(tenon.TenonError, match="no whole blocks"):
        tenon.quantize(MODELS / "llama", out, "Q4_K_M")


def test_imatrix(tmp_path):
    gguf = pytest.importorskip("gguf")
    text = tmp_path / "t.txt"
    text.write_text("In the beginning God created the heaven and the earth. " * 40)
    model = ROOT / "tools/demo-model/model"
    w = tenon.imatrix(model, text, tmp_path / "m.gguf", context_size=64, chunks=2)
    sums = {t.name: t.data for t in gguf.GGUFReader(w.path).tensors}
    assert (sums["blk.0.attn_q.weight.in_sum2"] > 0).all()
    done = tenon.quantize(model, tmp_path / "q.gguf", "q4_0", imatrix=w.path, pure=True)
    assert any(t.data["importance"] for t in done.tensors)


def test_export_of_checkpoints(tmp_path, goldens, close):
    tenon.export("gguf", MODELS / "llama", tmp_path / "m.gguf", outtype="f32")
    tenon.export("safetensors", tmp_path / "m.gguf", tmp_path / "folder")
    for path in (tmp_path / "m.gguf", tmp_path / "folder"):
        with tenon.load(path) as m:
            close(m.run({"ids": goldens("llama")["a.in.ids"]}, "logits")["logits"], goldens("llama")["a.logits.logits"])


def test_recipe(tmp_path):
    """Two steps; the second run keeps them; a limit that cannot be kept is named."""
    steps = [{"name": "lib", "run": "compile", "out": "libm.so"},
             {"name": "same", "run": "verify", "with": "{lib}", "require": {"values.*.cosine": {"min": 0.999}}}]
    recipe = {"name": "r", "models": [{"name": "cls", "path": str(MODELS / "bert-cls")}], "steps": steps}
    file = tmp_path / "r.json"
    file.write_text(json.dumps(recipe))
    first, second = tenon.run_recipe(file, jobs=2), tenon.run_recipe(file)
    said = [(j.model, j.step, j.result) for j in first.jobs]
    assert first.ok and said == [("cls", "lib", "done"), ("cls", "same", "done")]
    assert second.ok and [j.result for j in second.jobs] == ["kept", "kept"]
    steps[1]["require"]["values.*.cosine"]["min"] = 2
    file.write_text(json.dumps(recipe))
    third = tenon.run_recipe(file)
    assert not third.ok and third.jobs[1].broken and "cosine" in json.dumps(third.jobs[1].broken)
    file.write_text("{}")
    with pytest.raises(tenon.TenonError, match="run-recipe"):
        tenon.run_recipe(file)


def test_perplexity(tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("In the beginning God created the heaven and the earth. " * 20)
    p = tenon.perplexity(ROOT / "tools/demo-model/model", text, context_size=64)
    assert p["perplexity"] > 1


def test_chat(demo):
    """ChatML as its description has it; the answer is what generation gives for that prompt."""
    talk = [{"role": "system", "content": "Short."}, {"role": "user", "content": "In the beginning"}]
    prompt = tenon.chat_prompt(demo.path, talk, template="chatml")
    assert prompt == ("<|im_start|>system\nShort.<|im_end|>\n<|im_start|>user\nIn the beginning<|im_end|>\n"
                      "<|im_start|>assistant\n")
    a = tenon.chat(demo.path, talk, template="chatml", max_tokens=12)
    ids = demo.tokenizer.encode(prompt, add_special_tokens=False)
    g = demo.generate(ids, max_tokens=12)
    assert a.text == g.text and a.prompt_tokens == len(ids) and a.new_tokens == 12 and a.finish == "length"
    with pytest.raises(tenon.TenonError, match="nothing to answer"):
        tenon.chat(demo.path, [*talk, {"role": "assistant", "content": "x"}], template="chatml")
    with pytest.raises(tenon.TenonError, match="template"):
        tenon.chat(demo.path, talk)


def test_messages_of_stderr():
    rows = actions._messages([], "a.onnx:3: error: no such op\nwarning: slow\nmodel: note: see there\nnothing\n")
    assert rows == (Message("error", "no such op", "a.onnx", 3), Message("warning", "slow"),
                    Message("note", "see there", "model"))
    assert [str(m) for m in rows] == ["a.onnx:3: no such op", "slow", "model: see there"]
    assert str(Message("error", "bad", "a", 0, "node n")) == "a (node n): bad"
    assert str(Message("error", "bad", where="tensor t")) == "tensor t: bad"


def test_finding_the_command(tmp_path, monkeypatch):
    real = _binary.find()
    monkeypatch.setenv("TENON", str(tmp_path / "none"))
    with pytest.raises(tenon.TenonNotFoundError, match=r"\$TENON is"):
        _binary.find()
    monkeypatch.delenv("TENON")
    monkeypatch.setattr(_binary, "PREFIX", tmp_path / "prefix")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    with pytest.raises(tenon.TenonNotFoundError, match="was not found"):
        tenon.command("formats")
    (tmp_path / "path").mkdir()
    script = tmp_path / "path" / "tenon"
    script.write_text("#!/bin/sh\nexit 9\n")
    script.chmod(0o755)
    with pytest.raises(tenon.TenonNotFoundError):  # our own entry point may be a script of that name
        _binary.find()
    script.unlink()
    script.symlink_to(real)
    assert _binary.find() == str(script)
    (tmp_path / "prefix" / "bin").mkdir(parents=True)
    (tmp_path / "prefix" / "bin" / "tenon").symlink_to(real)
    assert _binary.find() == str(tmp_path / "prefix" / "bin" / "tenon")


def test_cache(tmp_path, monkeypatch):
    folder = tmp_path / "m"
    folder.mkdir()
    for file in (MODELS / "bert-cls").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    made = []
    real = actions.compile
    monkeypatch.setattr(actions, "compile", lambda *a, **k: made.append(k) or real(*a, **k))
    home = tmp_path / "cache"
    paths = [cache.compiled(folder, home, o) for o in ({}, {}, {"precision": "fast"}, {"precision": "fast"})]
    assert len(made) == 2 and paths[0] == paths[1] != paths[2] == paths[3]
    os.utime(folder / "config.json", ns=(1, 1))
    assert cache.compiled(folder, home, {}) not in paths and len(made) == 3
    (folder / "README.md").write_text("not read by a compile")
    cache.compiled(folder, home, {})
    assert len(made) == 3
    with pytest.raises(tenon.TenonError):
        cache.compiled(folder, home, {"precision": "none"})
    with pytest.raises(tenon.TenonNotFoundError, match="there is no such model"):
        cache.compiled(tmp_path / "none", home, {})
    assert all((p / "libmodel.so").is_file() for p in home.iterdir()) and len(list(home.iterdir())) == 3
    monkeypatch.setenv("TENON_MODEL_CACHE", str(tmp_path / "elsewhere"))
    assert cache.folder() == tmp_path / "elsewhere" and cache.folder(home) == home
    monkeypatch.delenv("TENON_MODEL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache.folder() == Path("/x/tenon/models")
