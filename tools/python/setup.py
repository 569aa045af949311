"""Metadata is in pyproject.toml. With TENON_PREFIX set to an installed prefix (cmake --install), the wheel carries the tenon
command, its plugins, the runtime object, the model pages and the headers, and is for this platform only; without, it is pure
Python and finds the command on the machine.

    TENON_PREFIX=/opt/tenon python -m build --wheel tools/python
"""
import os
import shutil
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70
    from wheel.bdist_wheel import bdist_wheel

PREFIX = os.environ.get("TENON_PREFIX")
# What the command looks for, relative to the prefix; each must match something.
PARTS = ("bin/tenon", "lib*/**/tenon/plugins/*", "lib*/**/tenon/tenon-runtime.o", "share/tenon/models/*.model",
         "include/tenon/*.h")


class BuildPy(build_py):
    def run(self):
        super().run()
        target = Path(self.build_lib, "tenon", "_prefix")
        shutil.rmtree(target, ignore_errors=True)
        if not PREFIX:
            return
        for pattern in PARTS:
            found = [p for p in Path(PREFIX).glob(pattern) if p.is_file()]
            if not found:
                raise SystemExit(f"TENON_PREFIX is {PREFIX}, which has no {pattern}: is tenon installed there?")
            for p in found:
                copy = target / p.relative_to(PREFIX)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(p.resolve(), copy)


class PlatformWheel(bdist_wheel):
    """The same for every Python 3, but for one processor and C library."""

    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = not PREFIX

    def get_tag(self):
        python, abi, platform = super().get_tag()
        return ("py3", "none", platform) if PREFIX else (python, abi, platform)


class PlatformDistribution(Distribution):
    """Files of one platform go where such files belong."""

    def has_ext_modules(self):
        return bool(PREFIX)


setup(cmdclass={"build_py": BuildPy, "bdist_wheel": PlatformWheel}, distclass=PlatformDistribution)
