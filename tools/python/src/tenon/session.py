"""A session: the states (KV cache), memory and threads of one caller."""
from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import _abi, _arrays, generation
from ._arrays import Array
from .errors import TenonError
from .generation import Generation, Sampling, Token

if TYPE_CHECKING:
    from .model import Entry, Model


def _free(api: _abi.ModelApi, at: int, live: set[int]) -> None:
    if at in live:  # else the model went first, with all its sessions
        live.remove(at)
        api.session_free(at)


class Session:
    """What one caller needs to run a model: `model.session()` makes one, one thread at a time uses it.

    A causal model's session keeps what it has read: each call goes on behind the last one, until `reset`."""

    def __init__(self, model: Model, *, threads: int = 0, batch: int = 1, capacity: int = 0,
                 cores: Sequence[int] = (), device: str | None = None, stream: int | None = None) -> None:
        words = ctypes.create_string_buffer(512)
        places = (ctypes.c_uint32 * max(len(cores), 1))(*cores)
        options = _abi.SessionOptions(size=ctypes.sizeof(_abi.SessionOptions), threads=threads, batch=batch,
                                      capacity=capacity, error=ctypes.addressof(words), error_size=len(words),
                                      cores=places, ncores=len(cores),
                                      device=device.encode() if device is not None else None, stream=stream)
        at = ctypes.c_void_p()
        self._api = model._api
        status = self._api.session_new(model._address(), ctypes.byref(options), ctypes.byref(at))
        if status or at.value is None:
            raise TenonError(f"cannot open a session: {words.value.decode(errors='replace')}", status=status)
        self.model, self.batch = model, batch
        self._at = at.value
        self._live = model._live
        self._live.add(self._at)
        self._finalizer = weakref.finalize(self, _free, self._api, self._at, self._live)

    def close(self) -> None:
        """Gives the memory and the threads back."""
        self._finalizer()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _address(self) -> int:
        if self._at not in self._live:
            raise ValueError("the session is closed")
        return self._at

    def _check(self, status: int) -> None:
        if status:
            raise TenonError(self._api.error(self._at).decode(errors="replace"), status=status)

    # ---- running

    def run(self, inputs: Mapping[str, Any], entry: str | None = None, *,
            out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Runs an entry point and gives its outputs by name.

        Inputs are arrays (NumPy's, or torch tensors on the CPU) or nested lists. Contiguous arrays of the declared type
        are read where they are, i32 for i64 and the other way round too. Outputs are new arrays that the kernels write
        into; `out` names arrays to use instead."""
        e = self.model.entry(entry)
        arrays = self._inputs(e, inputs)
        ins = (_abi.Tensor * max(len(arrays), 1))(*(_arrays.tensor(x) for x in arrays))
        outs = (_abi.Tensor * max(len(e.outputs), 1))()
        self._check(self._api.shapes(self._address(), e.number, ins, outs))
        results: dict[str, Array | None] = {}
        for argument, t in zip(e.outputs, outs):
            array = _arrays.output(t, f"output {argument.name}", (out or {}).get(argument.name))
            t.data = None if array is None else array.ctypes.data
            results[argument.name] = array
        self._check(self._api.invoke(self._at, e.number, ins, outs))
        return {name: self._kept(i) if x is None else x for i, (name, x) in enumerate(results.items())}

    def _inputs(self, e: Entry, inputs: Mapping[str, Any]) -> list[Array]:
        names = [a.name for a in e.inputs]
        missing, unknown = [n for n in names if n not in inputs], [n for n in inputs if n not in names]
        if missing or unknown:
            parts = [f"missing {', '.join(missing)}"] * bool(missing) + [f"unknown {', '.join(unknown)}"] * bool(unknown)
            raise TypeError(f"entry {e.name} takes {', '.join(names)}: {'; '.join(parts)}")
        return [_arrays.as_input(inputs[a.name], a.dtype, f"input {a.name}") for a in e.inputs]

    def _kept(self, i: int) -> Array:
        t = _abi.Tensor()
        self._check(self._api.result(self._at, i, ctypes.byref(t)))
        return _arrays.copy_of(t)

    # ---- states

    @property
    def position(self) -> int:
        """How many tokens the states hold."""
        return int(self._api.position(self._address()))

    def reset(self) -> None:
        """Forgets the states."""
        self._check(self._api.session_reset(self._address()))

    def rewind(self, position: int) -> None:
        """Goes back to an earlier position. Models whose states sum up all tokens refuse."""
        self._check(self._api.rewind(self._address(), position))

    def set_adapter(self, name: str, weight: float) -> None:
        """How much of a LoRA adapter is added from the next call on; `model.adapters` has the names."""
        self._check(self._api.adapter(self._address(), name.encode(), weight))

    # ---- generation

    def generate(self, ids: Sequence[int] | Array, sampling: Sampling | None = None, *,
                 on_token: generation.OnToken | None = None, draft: Session | None = None) -> Generation:
        """Continues `ids` behind what the states hold. `on_token` sees each token as it comes; false from it ends the
        generation. `draft` is a session of a smaller model that guesses `sampling.draft_tokens` tokens ahead."""
        return generation.run(self, ids, sampling or Sampling(), on_token, draft)

    def generate_batch(self, prompts: Sequence[Sequence[int] | Array], sampling: Sampling | None = None, *,
                       on_token: generation.OnToken | None = None) -> list[Generation]:
        """Continues several prompts at once, in a session whose batch is that large and that is new or reset."""
        return generation.run_batch(self, prompts, sampling or Sampling(), on_token)

    def stream(self, ids: Sequence[int] | Array, sampling: Sampling | None = None) -> Iterator[Token]:
        """The tokens of `generate`, one by one. Leaving the loop early ends the generation."""
        return generation.stream(self, ids, sampling or Sampling())
