"""mypy --strict finds nothing, neither in the package nor in a program that uses its types."""
import subprocess
import sys

import pytest
from conftest import ROOT

pytest.importorskip("mypy")

PROGRAM = """
import numpy as np
import tenon

model = tenon.load("minilm", threads=2, precision="fast", level=3, adapter={"a": 0.5})
vectors = model.embed(["a", "b"], normalize=True)
norm: float = float(np.linalg.norm(vectors))
with model.session(capacity=64) as s:
    g: tenon.Generation = s.generate([1, 2], tenon.Sampling(max_tokens=4))
    words: str = g.text
for token in model.stream("a", max_tokens=3):
    i: int = token.id
a: tenon.Artefact = tenon.compile("m", "libm.so", isa=["avx2"], shapes={"x": ("B", 3)})
ok: bool = tenon.verify("m", "libm.so", atol=1e-5).ok
c = tenon.TenonModelForCausalLM.from_pretrained("m", threads=1, kv_cache="f16")
c.save_pretrained("there")
"""
MISTAKES = ['tenon.compile("m", "l.so", presicion="fast")', 'tenon.load("m", level=[1])', 'tenon.Sampling(top_k="3")',
            'tenon.load("m").embed(3)', 'tenon.verify("a", "b").okay']


def mypy(*words):
    return subprocess.run([sys.executable, "-m", "mypy", "--cache-dir", "/dev/null", *words], capture_output=True, text=True,
                          cwd=ROOT / "tools" / "python")


def test_package_and_program(tmp_path):
    (tmp_path / "good.py").write_text(PROGRAM)
    done = mypy("--strict", str(tmp_path / "good.py"), "src/tenon")
    assert done.returncode == 0, done.stdout


def test_mistakes_are_found(tmp_path):
    (tmp_path / "bad.py").write_text("import tenon\n" + "\n".join(MISTAKES) + "\n")
    done = mypy("--strict", str(tmp_path / "bad.py"))
    found = {row.split(":")[1] for row in done.stdout.splitlines() if "bad.py:" in row and " error:" in row}
    assert found == {str(i + 2) for i in range(len(MISTAKES))}, done.stdout
