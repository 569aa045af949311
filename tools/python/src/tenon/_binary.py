"""Finding the tenon command: $TENON, the one inside this package (a wheel may carry it), then PATH."""
from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .errors import TenonNotFoundError

PREFIX = Path(__file__).resolve().parent / "_prefix"


def _is_program(path: Path) -> bool:
    """A compiled program: a script of this name may be our own entry point."""
    try:
        with open(path, "rb") as f:
            return os.access(path, os.X_OK) and f.read(4) == b"\x7fELF"
    except OSError:
        return False


def _candidates() -> Iterator[Path]:
    yield PREFIX / "bin" / "tenon"
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        yield Path(folder or ".") / "tenon"


def find() -> str:
    """The path of the command."""
    given = os.environ.get("TENON")
    if given:
        if not os.access(given, os.X_OK) or os.path.isdir(given):
            raise TenonNotFoundError(f"$TENON is {given}, which is not a program")
        return given
    for path in _candidates():
        if _is_program(path):
            return str(path)
    raise TenonNotFoundError("the tenon command was not found: set $TENON to its path, put it on PATH, or install a wheel "
                             "that was built with TENON_PREFIX. Compiled libraries can be loaded without it")


def parts(binary: str) -> list[Path]:
    """What beside the command itself decides what it compiles to: its plugins and the runtime object."""
    home = Path(binary).resolve().parent
    found: set[Path] = set()
    for root, pattern in ((home, "plugins/*.so"), (home, "lib/tenon/*.o"), (home.parent, "lib*/**/tenon/plugins/*.so"),
                          (home.parent, "lib*/**/tenon/tenon-runtime.o")):
        if root != home.parent or home.name == "bin":
            found.update(root.glob(pattern))
    return sorted(found)


def main() -> None:
    """The command `tenon` of this package: becomes the real one."""
    try:
        binary = find()
    except TenonNotFoundError as e:
        sys.exit(f"tenon: {e}")
    os.execv(binary, [binary, *sys.argv[1:]])
