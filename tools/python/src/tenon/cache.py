"""Where compiled models are kept: one folder each, named by a hash of the files, the options and the compiler."""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import _binary, actions
from .errors import TenonNotFoundError

# Of a folder, what a compile reads.
_SUFFIXES = (".json", ".safetensors", ".txt", ".model", ".jinja", ".onnx", ".gguf", ".data", ".bin")


def folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """`cache_dir`, else $TENON_MODEL_CACHE, $XDG_CACHE_HOME/tenon/models or ~/.cache/tenon/models."""
    given = cache_dir or os.environ.get("TENON_MODEL_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "tenon" / "models"


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for p in sorted(path.rglob("*")):
        if p.suffix in _SUFFIXES and p.is_file():
            yield p


def _state(path: Path) -> list[Any]:
    """What tells whether files changed, without reading them."""
    out: list[Any] = [str(path.resolve())]
    for p in _files(path):
        s = p.stat()
        out.append([str(p), s.st_size, s.st_mtime_ns])
    return out


def _named_files(options: Mapping[str, Any]) -> Iterator[Path]:
    """Adapters, plugins, pages and tuning files count as inputs."""
    for name in ("adapter", "plugin", "model_page", "tuning"):
        value = options.get(name)
        for x in [value] if isinstance(value, (str, os.PathLike)) else list(value or ()):
            yield Path(x)


def key(path: str | os.PathLike[str], options: Mapping[str, Any]) -> str:
    """The name of the folder that holds the compiled model."""
    binary = _binary.find()
    parts = [_state(Path(path)), [_state(p) for p in _named_files(options)], sorted(options.items()),
             [_state(p) for p in [Path(binary), *_binary.parts(binary)]]]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]


def compiled(path: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None,
             options: Mapping[str, Any]) -> str:
    """The library that was compiled of `path` with these options, now or before. Two that come at once both compile; one
    of them is kept."""
    if not os.path.exists(path):
        raise TenonNotFoundError(f"{os.fspath(path)}: there is no such model")
    home = folder(cache_dir) / key(path, options)
    library = home / "libmodel.so"
    if not library.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix=".making-", dir=home.parent)
        try:
            actions.compile(path, os.path.join(made, library.name), **options)
            try:
                os.rename(made, home)
            except OSError:
                if not library.exists():
                    raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return str(library)
