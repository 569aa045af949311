"""The tokenizer inside an artefact."""
from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import _abi, _arrays
from ._arrays import Array
from .errors import TenonError

if TYPE_CHECKING:
    from .model import Model


class Tokenizer:
    """`model.tokenizer`. May be used by several threads."""

    def __init__(self, model: Model) -> None:
        self._model, self._api = model, model._api
        capacity = 1 if "dim.capacity" in model.meta else 0
        self._session = model.session(threads=1, cores=(), capacity=capacity)
        self._lock = threading.Lock()
        self.pad_id = int(model.meta.get("pad", "0") or 0)
        self.bos_id = _first(model.meta.get("bos"))
        self.eos_ids = [int(x) for x in model.meta.get("eos", "").replace(",", " ").split()]
        self.vocab_size = int(model.meta.get("vocab", "0"))

    def encode(self, text: str, pair: str | None = None, *, add_special_tokens: bool = True,
               max_length: int | None = None) -> list[int]:
        """Token ids of a text, or of two that belong together."""
        return self._encode(text, pair, add_special_tokens, max_length)[0]

    def _encode(self, text: str, pair: str | None, special: bool, limit: int | None) -> tuple[list[int], list[int]]:
        data, other = text.encode(), None if pair is None else pair.encode()
        flags = 0 if special else _abi.NO_SPECIAL
        room = len(data) + len(other or b"") + 16
        with self._lock:
            at = self._session._address()
            while True:
                ids, types, n = np.empty(room, np.int32), np.empty(room, np.int32), ctypes.c_uint64(room)
                status = self._api.tokenize(at, data, len(data), other, len(other or b""), flags, ids.ctypes.data,
                                            types.ctypes.data, ctypes.byref(n))
                if status != _abi.INVALID or n.value <= room:
                    break
                room = n.value
            self._session._check(status)
        tokens, kinds = ids[: n.value].tolist(), types[: n.value].tolist()
        if limit is not None and len(tokens) > limit:  # the last token, a separator, stays
            tokens, kinds = [*tokens[: limit - 1], tokens[-1]][:limit], [*kinds[: limit - 1], kinds[-1]][:limit]
        return tokens, kinds

    def __call__(self, texts: str | Sequence[str], pairs: str | Sequence[str] | None = None, *,
                 add_special_tokens: bool = True, max_length: int | None = None) -> dict[str, Array]:
        """ids, mask and types of several texts, side by side and filled up on the right: what encoders take. Texts are
        cut to the model's limit, or to `max_length`."""
        first = [texts] if isinstance(texts, str) else list(texts)
        second = [pairs] if isinstance(pairs, str) else [None] * len(first) if pairs is None else list(pairs)
        if len(first) != len(second):
            raise ValueError(f"{len(first)} texts and {len(second)} pairs")
        limit = self._model.max_tokens if max_length is None else max_length
        rows = [self._encode(a, b, add_special_tokens, limit) for a, b in zip(first, second)]
        ids = _arrays.padded([r[0] for r in rows], self.pad_id)
        mask = _arrays.padded([[1] * len(r[0]) for r in rows], 0)
        return {"ids": ids, "mask": mask, "types": _arrays.padded([r[1] for r in rows], 0)}

    def decode(self, ids: Sequence[int] | Array, *, skip_special_tokens: bool = False) -> str:
        """The text of token ids."""
        array = np.ascontiguousarray(ids, np.int32).reshape(-1)
        flags = _abi.SKIP_SPECIAL if skip_special_tokens else 0
        room = 16 * array.size + 64
        with self._lock:
            at = self._session._address()
            while True:
                text, n = ctypes.create_string_buffer(room), ctypes.c_uint64(room)
                status = self._api.detokenize(at, array.ctypes.data, array.size, flags, text, ctypes.byref(n))
                if status != _abi.INVALID or n.value <= room:
                    break
                room = n.value + 1
            self._session._check(status)
            return text.raw[: n.value].decode(errors="replace")

    def id_to_token(self, token_id: int) -> str:
        """The token itself, as the vocabulary has it."""
        n = ctypes.c_uint64()
        with self._lock:
            at = self._api.token_text(self._session._address(), token_id, ctypes.byref(n))
        if not at:
            raise TenonError(f"no token {token_id}")
        return ctypes.string_at(at, n.value).decode(errors="replace")

    def token_to_id(self, token: str) -> int | None:
        """None: there is no such token."""
        out = ctypes.c_int32()
        with self._lock:
            status = self._api.token_id(self._session._address(), token.encode(), ctypes.byref(out))
        return out.value if status == _abi.OK else None


def _first(ids: str | None) -> int | None:
    return int(ids.replace(",", " ").split()[0]) if ids else None
