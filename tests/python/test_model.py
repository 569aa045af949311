"""Models and sessions: what they say of themselves, what they compute, and that they can be closed in any order."""
import concurrent.futures
import gc
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import MODELS, ROOT

import tenon

ENCODERS = ["bert-model", "bert-mlm", "bert-tokens", "bert-qa", "sentence-mean", "modernbert-cls", "xlm-roberta"]
DECODERS = ["llama", "gpt2", "mamba", "gemma3", "mistral-window"]
MANIFEST = {e["folder"].split("/")[-1]: e for e in
            json.loads((MODELS.parent / "manifest.json").read_text())}


@pytest.mark.parametrize("name", ENCODERS + DECODERS)
def test_outputs(tiny, goldens, close, name):
    m, g, said = tiny(name), goldens(name), MANIFEST[name]
    for entry, names in said["entries"].items():
        for case in said["cases"]:
            got = m.run({n: g[f"{case}.in.{n}"] for n in names["inputs"]}, entry)
            assert list(got) == [o.name for o in m.entries[entry].outputs]
            for o in names["outputs"]:
                x, r, mask = got[o], g[f"{case}.{entry}.{o}"], g.get(f"{case}.in.mask")
                if mask is not None and r.shape[:2] == mask.shape:  # what stands at padding means nothing
                    x, r = x[mask == 1], r[mask == 1]
                close(x, r)


def test_description(tiny):
    m = tiny("bert-cls")
    assert list(m.entries) == ["encode", "classify"] and m.task == "text-classification"
    assert m.entry("classify").inputs[0] == tenon.Argument("ids", "i32", "[B, S]", 2)
    assert m.entry("classify").outputs == (tenon.Argument("logits", "f32", "[B, 3]", 2),)
    assert m.labels == {0: "bad", 1: "fair", 2: "good"} and m.meta["vocab"] == "257" and m.max_tokens == 40
    assert m.adapters == []
    assert tiny("bert-model").entry().name == "encode"
    with pytest.raises(tenon.TenonError, match="no entry point embed: the model has encode, classify"):
        m.entry("embed")
    with pytest.raises(tenon.TenonError, match="which entry point"):
        m.entry()
    with pytest.raises(tenon.TenonError, match="no tokenizer"):
        m.tokenizer


def test_wrong_inputs(tiny):
    m = tiny("bert-cls")
    good = {"ids": [[1, 2]], "mask": [[1, 1]], "types": [[0, 0]]}
    with pytest.raises(TypeError, match="missing types; unknown type"):
        m.run({"ids": [[1]], "mask": [[1]], "type": [[0]]}, "classify")
    with pytest.raises(tenon.TenonError) as e:
        m.run({**good, "mask": [[1, 1, 1]]}, "classify")
    assert e.value.status == 3 and "mask" in str(e.value)
    with pytest.raises(tenon.TenonError, match="41"):
        m.run({n: np.zeros((1, 41), np.int32) for n in good}, "classify")
    assert m.run(good, "classify")["logits"].shape == (1, 3)  # as good as before


def test_steps_equal_all_at_once(tiny, goldens, close):
    m, ids = tiny("llama"), goldens("llama")["a.in.ids"]
    want = goldens("llama")["a.logits.logits"]
    with m.session(batch=3) as s:
        got = [s.run({"ids": part}, "logits")["logits"] for part in np.array_split(ids, [1, 2, 20], axis=1)]
        close(np.concatenate(got, axis=1), want)
        assert s.position == 33
        s.rewind(20)
        close(s.run({"ids": ids[:, 20:]}, "logits")["logits"], want[:, 20:])
        s.reset()
        assert s.position == 0
        close(s.run({"ids": ids}, "next")["logits"], want[:, -1])
        with pytest.raises(tenon.TenonError, match="cannot rewind to position 99"):
            s.rewind(99)


def test_session_options(tiny):
    m = tiny("llama")
    for wrong, words in (({"capacity": 97}, "97"), ({"batch": -1}, "-1"), ({"threads": 100000}, "100000 threads")):
        with pytest.raises(tenon.TenonError, match=f"cannot open a session: .*{words}"):
            m.session(**wrong)
    with m.session(capacity=8, threads=2, cores=()) as s:
        with pytest.raises(tenon.TenonError):
            s.run({"ids": np.zeros((1, 9), np.int32)}, "next")


def test_closing():
    m = tenon.Model(tenon.load(MODELS / "bert-model").path)
    s = m.session()
    m.close()
    with pytest.raises(ValueError, match="the session is closed"):
        s.run({"ids": [[1]], "mask": [[1]], "types": [[0]]}, "encode")
    with pytest.raises(ValueError, match="the model is closed"):
        m.session()
    s.close()
    m.close()


def test_collected_in_any_order():
    path = tenon.load(MODELS / "llama").path
    for _ in range(10):
        m = tenon.Model(path, threads=1)
        s = m.session()
        m.run({"ids": [[1, 2]]}, "logits")  # the model keeps a session that keeps the model
        assert s.generate([1], tenon.Sampling(max_tokens=2)).ids
        del m, s
        gc.collect()


def test_the_interpreter_ends_with_models_open():
    path = tenon.load(MODELS / "llama").path
    code = f"import tenon; m = tenon.load({path!r}); s = m.session(); m.run({{'ids': [[1]]}}, 'next'); print('ok')"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tools" / "python" / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and done.stdout == "ok\n", done.stderr


def test_in_other_processes(tiny, goldens, close):
    m, g = tiny("bert-cls"), goldens("bert-cls")
    again = pickle.loads(pickle.dumps(m))
    assert again.path == m.path and again.threads == 1
    inputs = {n: g[f"a.in.{n}"] for n in ("ids", "mask", "types")}
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for got in pool.map(m.run, [inputs] * 3, ["classify"] * 3):
            close(got["logits"], g["a.classify.logits"])


def test_a_new_library_of_the_same_name(tmp_path, goldens, close):
    path = tmp_path / "libm.so"
    for name in ("bert-cls", "bert-qa"):
        tenon.compile(MODELS / name, path)
        with tenon.load(path) as m:
            assert m.task == {"bert-cls": "text-classification", "bert-qa": "question-answering"}[name]


def test_threads(tiny, goldens):
    m, g = tiny("bert-model"), goldens("bert-model")
    inputs = {n: g[f"a.in.{n}"] for n in ("ids", "mask", "types")}
    want, bad = m.run(inputs)["hidden"], []

    def work(own):
        with m.session(threads=1) as s:
            for _ in range(20):
                got = (s if own else m).run(inputs, "encode")["hidden"]
                if not np.array_equal(got, want):
                    bad.append(own)

    threads = [threading.Thread(target=work, args=(i % 2 == 0,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not bad


def test_what_is_no_artefact(tmp_path):
    with pytest.raises(tenon.TenonNotFoundError, match="there is no such library"):
        tenon.load(tmp_path / "libx.so")
    text = tmp_path / "libtext.so"
    text.write_text("not a library")
    with pytest.raises(tenon.TenonError, match="cannot load the library"):
        tenon.load(text)
    cut = tmp_path / "libcut.so"
    whole = tenon.load(MODELS / "bert-cls").path
    shutil.copy(whole, cut)
    with open(cut, "r+b") as f:
        f.truncate(cut.stat().st_size - 100)
    with pytest.raises(tenon.TenonError, match="libcut.so"):
        tenon.load(cut)
    with pytest.raises(TypeError, match="is compiled already: precision"):
        tenon.load(whole, precision="fast")


def test_weights_that_moved(tmp_path, goldens, close):
    tenon.compile(MODELS / "bert-cls", tmp_path / "libm.so", weights="external")
    (tmp_path / "far").mkdir()
    (tmp_path / "libm.weights").rename(tmp_path / "far" / "libm.weights")
    with pytest.raises(tenon.TenonError, match="libm.weights"):
        tenon.load(tmp_path / "libm.so")
    g = goldens("bert-cls")
    with tenon.load(tmp_path / "libm.so", weights_path=tmp_path / "far" / "libm.weights") as m:
        close(m.run({n: g[f"b.in.{n}"] for n in ("ids", "mask", "types")}, "classify")["logits"], g["b.classify.logits"])


def test_sizes_that_only_the_run_knows(tmp_path):
    """NonZero: as many columns as there are nonzeros; the result is the session's, and is copied."""
    onnx = pytest.importorskip("onnx")
    h = onnx.helper
    graph = h.make_graph([h.make_node("NonZero", ["x"], ["y"])], "nonzero",
                         [h.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3])],
                         [h.make_tensor_value_info("y", onnx.TensorProto.INT64, [2, "k"])])
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=9), tmp_path / "nonzero.onnx")
    with tenon.load(tmp_path / "nonzero.onnx") as m:
        for seed in (1, 2):
            x = (np.random.default_rng(seed).random((4, 3)) > 0.5).astype(np.float32)
            (y,) = m.run({"x": x}).values()
            assert y.dtype == np.int64 and (y == np.stack(np.nonzero(x))).all()
