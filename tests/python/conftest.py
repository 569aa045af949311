"""What the tests of the Python package share: tiny models with the outputs that transformers computed (tests/parity),
compiled once per run."""
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests" / "parity" / "models"
sys.path[:0] = [str(ROOT / "tests" / "parity"), str(ROOT / "tools" / "python" / "src")]
import golden  # noqa: E402
import tenon  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Compiled models of this run, away from the user's."""
    os.environ["TENON_MODEL_CACHE"] = str(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def tiny():
    """tiny(name): the model of that folder, one for all tests."""
    models = {}

    def get(name):
        if name not in models:
            models[name] = tenon.load(MODELS / name, threads=1)
        return models[name]

    yield get
    for m in models.values():
        m.close()


@pytest.fixture(scope="session")
def demo():
    """The bundled model, which has a tokenizer."""
    with tenon.load(ROOT / "tools" / "demo-model" / "model", threads=1) as m:
        yield m


@pytest.fixture(scope="session")
def goldens():
    """goldens(name): what transformers computes for that folder."""
    return lambda name: golden.load(str(MODELS / name / "goldens.safetensors"))


@pytest.fixture
def close():
    """close(x, r): x is r within the parity table."""

    def check(x, r):
        d = golden.Difference(x, r)
        assert np.shape(x) == np.shape(r)
        assert d.ok, f"max abs {d.abs:.3g}, {d.ratio:.3g} of the tolerance, NMSE {d.nmse:.3g}"

    return check


SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def word_tokenizer(size, causal):
    """A tokenizer whose tokens are w0, w1, ..., as the tokenizers package makes it; skips where that is missing."""
    t = pytest.importorskip("tokenizers")
    words = SPECIAL + [f"w{i}" for i in range(size - len(SPECIAL))]
    made = t.Tokenizer(t.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = t.pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(SPECIAL)
    if not causal:
        made.post_processor = t.processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return made


@pytest.fixture
def with_tokenizer(tmp_path):
    """with_tokenizer(name): a copy of a tiny folder that has the tokenizer of word_tokenizer."""

    def make(name, causal=False):
        folder = tmp_path / name
        shutil.copytree(MODELS / name, folder)
        size = json.loads((folder / "config.json").read_text())["vocab_size"]
        word_tokenizer(size, causal).save(str(folder / "tokenizer.json"))
        return folder

    return make
