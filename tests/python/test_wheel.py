"""The wheel, built with the standard tools: pure without a prefix, with the command inside with one; and the latter in a new
environment that has numpy and it alone."""
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import MODELS, ROOT, golden

pytest.importorskip("build")
pytest.importorskip("setuptools")
pytest.importorskip("wheel")

PROGRAM = """
import sys, numpy
import tenon
assert tenon.__file__.startswith(sys.prefix) and tenon.find_binary().startswith(sys.prefix), tenon.find_binary()
packages = {d.metadata["Name"].lower() for d in __import__("importlib.metadata").metadata.distributions()}
assert packages <= {"numpy", "tenon", "pip", "setuptools"}, packages
g = numpy.load(sys.argv[2])
with tenon.load(sys.argv[1]) as m:
    out = m.run({n: g[n] for n in ("ids", "mask", "types")}, "classify")["logits"]
assert numpy.abs(out - g["logits"]).max() < 1e-4
again = tenon.TenonModelForSequenceClassification.from_pretrained(sys.argv[1])
assert numpy.array_equal(again(g["ids"], g["mask"], g["types"]).logits, out)
print("used")
"""


def built(tmp_path, prefix):
    """A copy of the source, so that building leaves nothing in it."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "tools" / "python", source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    env = {k: v for k, v in os.environ.items() if k not in ("TENON_PREFIX", "PYTHONPATH")}
    if prefix is not None:
        env["TENON_PREFIX"] = str(prefix)
    done = subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"),
                           str(source)], env=env, capture_output=True, text=True)
    if done.returncode:
        return None, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    return wheel, done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """What cmake --install makes."""
    if "TENON_BUILD" not in os.environ:
        pytest.skip("no build folder")
    where = tmp_path_factory.mktemp("prefix")
    subprocess.run(["cmake", "--install", os.environ["TENON_BUILD"], "--prefix", str(where)], check=True,
                   capture_output=True)
    return where


def test_pure(tmp_path):
    wheel, log = built(tmp_path, None)
    assert wheel is not None, log
    assert wheel.name.endswith("-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {f"tenon/{p.name}" for p in (ROOT / "tools/python/src/tenon").iterdir() if p.suffix in (".py", ".typed")}
    assert modules <= names and "tenon/py.typed" in modules and not any("_prefix" in n for n in names)


def test_a_prefix_without_tenon(tmp_path):
    (tmp_path / "empty").mkdir()
    wheel, log = built(tmp_path, tmp_path / "empty")
    assert wheel is None and "which has no bin/tenon" in log


def test_clean_environment(tmp_path, prefix):
    wheel, log = built(tmp_path, prefix)
    assert wheel is not None, log
    assert "-py3-none-linux_" in wheel.name
    for n in ("tenon/_prefix/bin/tenon", "tenon/_prefix/include/tenon/model.h"):
        assert n in zipfile.ZipFile(wheel).namelist()
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = str(venv / "bin" / "python")
    env = {k: v for k, v in os.environ.items() if k not in ("TENON", "PYTHONPATH", "PYTHONHOME")}
    env.update(PATH=f"{venv}/bin:/usr/bin:/bin", TENON_MODEL_CACHE=str(tmp_path / "models"))
    subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index", "--no-deps",
                    str(wheel)], check=True, env=env)
    (there,) = (venv / "lib").glob("python*/site-packages")
    home = Path(np.__file__).parents[1]  # numpy as it is installed here: the test needs no network
    for part in home.glob("numpy*"):
        if part.name in ("numpy", "numpy.libs") or part.suffix == ".dist-info":
            shutil.copytree(part, there / part.name, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    checked = subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "check"], env=env, capture_output=True,
                             text=True)
    assert checked.returncode == 0, checked.stdout
    g = golden.load(str(MODELS / "bert-cls" / "goldens.safetensors"))
    np.savez(tmp_path / "g.npz", logits=g["a.classify.logits"], **{n: g[f"a.in.{n}"] for n in ("ids", "mask", "types")})
    shutil.copytree(MODELS / "bert-cls", tmp_path / "bert-cls")
    done = subprocess.run([python, "-c", PROGRAM, str(tmp_path / "bert-cls"), str(tmp_path / "g.npz")], env=env, cwd="/",
                          capture_output=True, text=True)
    assert done.stdout == "used\n", done.stderr
    said = subprocess.run([str(venv / "bin" / "tenon"), "--version"], env=env, capture_output=True, text=True)
    assert said.stdout.startswith("tenon ") and said.returncode == 0
    subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "tenon"], check=True, env=env, capture_output=True)
    assert not (there / "tenon").exists()
