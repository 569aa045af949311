"""A compiled model: what it can be asked, and the shortest ways to ask it."""
from __future__ import annotations

import ctypes
import json
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _abi, _arrays, cache
from ._arrays import Array
from .errors import TenonError, TenonNotFoundError
from .generation import Generation, Sampling, Token
from .session import Session
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from .options import CompileOptions
    from typing_extensions import Unpack

    PathLike = str | os.PathLike[str]


LIBRARY = "libmodel.so"  # in a folder of save_pretrained


@dataclass(frozen=True)
class Argument:
    """An input or output of an entry point."""

    name: str
    dtype: str
    """f32, i32, ... as in `tenon inspect`"""
    shape: str
    """with the names of the sizes that are free: [B, S, 384]"""
    rank: int


@dataclass(frozen=True)
class Entry:
    """An entry point."""

    name: str
    number: int
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]


def _release(api: _abi.ModelApi, at: int, handle: ctypes.CDLL, live: set[int]) -> None:
    while live:
        api.session_free(live.pop())
    api.close(at)
    _abi.unload(handle)


class Model:
    """An artefact of `tenon compile`. It needs libc and libm only; its weights are mapped read-only and shared by all
    processes. May be used by several threads: `run`, `embed` and `generate` take turns, sessions do not."""

    def __init__(self, path: PathLike, *, weights_path: PathLike | None = None, threads: int = 0,
                 cores: Sequence[int] = ()) -> None:
        self.path = os.path.abspath(path)
        self.weights_path = None if weights_path is None else os.path.abspath(weights_path)
        self.threads, self.cores = threads, tuple(cores)
        if not os.path.isfile(self.path):
            raise TenonNotFoundError(f"{self.path}: there is no such library")
        handle, self._api = _abi.library(self.path)
        at, words = ctypes.c_void_p(), ctypes.create_string_buffer(512)
        where = None if weights_path is None else os.fsencode(weights_path)
        status = self._api.open(where, ctypes.byref(at), ctypes.addressof(words), len(words))
        if status or at.value is None:
            _abi.unload(handle)
            raise TenonError(f"{self.path}: {words.value.decode(errors='replace')}", status=status)
        self._at = at.value
        self._live: set[int] = set()  # addresses of sessions
        self._finalizer = weakref.finalize(self, _release, self._api, self._at, handle, self._live)
        self.name = self._api.name(self._at).decode()
        self.meta: Mapping[str, str] = MappingProxyType(self._read_meta())
        self.entries: Mapping[str, Entry] = MappingProxyType({e.name: e for e in self._read_entries()})
        self._lock = threading.RLock()
        self._shared: Session | None = None
        self._tokenizer: Tokenizer | None = None

    # ---- lifetime

    def close(self) -> None:
        """Closes its sessions and gives everything back."""
        self._tokenizer = self._shared = None
        self._finalizer()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the same files, and shares their memory."""
        return _reopen, (self.path, self.weights_path, self.threads, self.cores)

    def __repr__(self) -> str:
        return f"<tenon.Model {self.name}: {', '.join(self.entries)}>"

    def _address(self) -> int:
        if not self._finalizer.alive:
            raise ValueError("the model is closed")
        return self._at

    # ---- what it is

    def _read_meta(self) -> dict[str, str]:
        keys = [self._api.meta_key(self._at, i) for i in range(self._api.meta_count(self._at))]
        return {k.decode(): (self._api.meta(self._at, k) or b"").decode() for k in keys}

    def _read_entries(self) -> Iterator[Entry]:
        for number in range(self._api.entry_count(self._at)):
            e = _abi.EntryInfo()
            self._api.entry(self._at, number, ctypes.byref(e))
            inputs = self._arguments(self._api.input, number, e.ninputs)
            outputs = self._arguments(self._api.output, number, e.noutputs)
            yield Entry(e.name.decode(), number, inputs, outputs)

    def _arguments(self, get: Any, entry: int, count: int) -> tuple[Argument, ...]:
        out, a = [], _abi.ArgInfo()
        for i in range(count):
            get(self._at, entry, i, ctypes.byref(a))
            out.append(Argument(a.name.decode(), _arrays.dtype_name(a.dtype), a.shape.decode(), a.rank))
        return tuple(out)

    def entry(self, name: str | None = None) -> Entry:
        """The entry point of that name; without one, the only one."""
        if name is None and len(self.entries) == 1:
            return next(iter(self.entries.values()))
        if name is None or name not in self.entries:
            said = "which entry point" if name is None else f"no entry point {name}"
            raise TenonError(f"{said}: the model has {', '.join(self.entries)}")
        return self.entries[name]

    @property
    def task(self) -> str | None:
        """feature-extraction, text-generation, ... where the model's configuration says so."""
        return self.meta.get("task")

    @property
    def adapters(self) -> list[str]:
        """Names of LoRA adapters whose weights a session may change."""
        return [a.split("=")[0] for a in self.meta.get("adapters", "").split(",") if a]

    @property
    def labels(self) -> dict[int, str]:
        """Names of classes, by number."""
        return {int(k): str(v) for k, v in json.loads(self.meta.get("id2label", "{}")).items()}

    @property
    def max_tokens(self) -> int | None:
        """The longest text that the model takes."""
        limit = self.meta.get("max_seq_length", self.meta.get("max_positions"))
        return None if limit is None else int(limit)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that travels with the model."""
        with self._lock:
            if self._tokenizer is None:
                if "tokenizer" not in self.meta:
                    raise TenonError(f"{self.name}: the model has no tokenizer")
                self._tokenizer = Tokenizer(self)
            return self._tokenizer

    # ---- asking it

    def session(self, *, batch: int = 1, capacity: int = 0, threads: int | None = None,
                cores: Sequence[int] | None = None, device: str | None = None, stream: int | None = None) -> Session:
        """A session of its own for one caller. `batch` and `capacity` are the sequences and tokens that the states of a
        causal model hold (0: its limit, at most 4096). Of a library with code for a GPU: `device` names one ("cuda:1"),
        `stream` is a CUDA stream (its address) to work on, which must outlive the session."""
        return Session(self, threads=self.threads if threads is None else threads, batch=batch, capacity=capacity,
                       cores=self.cores if cores is None else cores, device=device, stream=stream)

    def run(self, inputs: Mapping[str, Any], entry: str | None = None, *,
            out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Runs an entry point from empty states; `Session.run` says what it takes."""
        with self._lock:
            return self._fresh(_rows(inputs)).run(inputs, entry, out=out)

    def _fresh(self, batch: int) -> Session:
        """The model's own session, with empty states for that many sequences."""
        stateful = "dim.position" in self.meta
        if self._shared is not None and stateful and self._shared.batch != batch:
            self._shared.close()
            self._shared = None
        if self._shared is None:
            self._shared = self.session(batch=batch if stateful else 1)
        elif stateful:
            self._shared.reset()
        return self._shared

    def embed(self, texts: str | Sequence[str], *, batch_size: int = 32, normalize: bool = False,
              pooling: str | None = None) -> Array:
        """One vector per text, of a sentence encoder; of any encoder with pooling: mean, max or cls of its hidden states."""
        from .embedder import embed

        single = isinstance(texts, str)
        rows = embed(self, [texts] if isinstance(texts, str) else list(texts), batch_size, normalize, pooling=pooling)
        return rows[0] if single else rows

    def generate(self, prompt: str | Sequence[int], sampling: Sampling | None = None, **options: Any) -> Generation:
        """Continues a text, or token ids; options are the fields of Sampling."""
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        with self.session() as s:
            return s.generate(ids, _sampling(sampling, options))

    def stream(self, prompt: str | Sequence[int], sampling: Sampling | None = None, **options: Any) -> Iterator[Token]:
        """The tokens of `generate`, as they come."""
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        with self.session() as s:
            yield from s.stream(ids, _sampling(sampling, options))


def _reopen(path: str, weights_path: str | None, threads: int, cores: tuple[int, ...]) -> Model:
    return Model(path, weights_path=weights_path, threads=threads, cores=cores)


def _rows(inputs: Mapping[str, Any]) -> int:
    """How many sequences a call is about: the first size of its first input."""
    shape = next((np.shape(x) for x in inputs.values()), ())
    return int(shape[0]) if shape else 1


def _sampling(sampling: Sampling | None, options: Mapping[str, Any]) -> Sampling:
    if sampling is not None and options:
        raise TypeError("give the fields of Sampling, or a Sampling, not both")
    return sampling if sampling is not None else Sampling(**options)


def load(path: PathLike, *, threads: int = 0, cores: Sequence[int] = (), weights_path: PathLike | None = None,
         cache_dir: PathLike | None = None, **options: Unpack[CompileOptions]) -> Model:
    """Opens a model: an artefact, or a folder of `save_pretrained`, at once; a folder, GGUF, ONNX or IR file once it is
    compiled, with the options of `tenon.compile`. What was compiled is kept and found again by the files and the options.
    `weights_path`: the file or folder of weights that lie elsewhere than when they were compiled."""
    if os.path.isfile(os.path.join(path, LIBRARY)):
        path = os.path.join(path, LIBRARY)
    if os.fspath(path).endswith(".so"):
        if options:
            raise TypeError(f"{os.fspath(path)} is compiled already: {', '.join(options)} cannot be applied")
        return Model(path, weights_path=weights_path, threads=threads, cores=cores)
    return Model(cache.compiled(path, cache_dir, options), weights_path=weights_path, threads=threads, cores=cores)
