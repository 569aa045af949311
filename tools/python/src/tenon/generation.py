"""Causal generation: what it may be asked for, what comes out, and the calls into the artefact."""
from __future__ import annotations

import ctypes
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _abi
from ._arrays import Array

if TYPE_CHECKING:
    from .session import Session


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; the default is greedy. Scores pass bias, grammar, penalties, DRY, top_k, typical_p, top_p,
    min_p and temperature, in this order, as in `tenon run`. The same seed gives the same tokens."""

    max_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 0.0
    min_p: float = 0.0
    typical_p: float = 0.0
    repetition_penalty: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    penalty_last_n: int = 0
    dry_multiplier: float = 0.0
    dry_base: float = 0.0
    dry_allowed_length: int = 0
    dry_last_n: int = 0
    dry_breakers: Sequence[str] | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop: Sequence[str] = ()
    grammar: str | None = None
    """GBNF; `tenon grammar SCHEMA.json` makes one of a JSON Schema"""
    logprobs: int = 0
    """how many of the likeliest tokens are named with each token"""
    draft_tokens: int = 0
    draft_ngram: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Token:
    """A new token."""

    id: int
    text: str
    """what it adds: nothing while a character is unfinished, or what may become a stop string"""
    finish: str | None = None
    """of the last one, why it is the last: end, stop, grammar, length, capacity or cancelled"""
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()
    sequence: int = 0


@dataclass(frozen=True)
class Generation:
    """A finished generation."""

    ids: list[int]
    text: str
    finish: str
    prompt_tokens: int
    tokens: list[Token]
    drafted: int = 0
    accepted: int = 0


OnToken = Callable[[Token], Any]


class _Call:
    """A call of generate: the C structures, what they point at, and the tokens that came."""

    def __init__(self, o: Sampling, sequences: int, on_token: OnToken | None) -> None:
        self.tokens: list[list[Token]] = [[] for _ in range(sequences)]
        self.results = (_abi.Generation * sequences)()
        for r in self.results:
            r.size = ctypes.sizeof(_abi.Generation)
        self.error: BaseException | None = None
        self._on_token = on_token
        self._parts: list[Any] = []
        self.on_new_token = _abi.OnNewToken(self._new_token)
        self.c = self._sampling(o)

    def _texts(self, texts: Sequence[str]) -> Any:
        data = (ctypes.c_char_p * max(len(texts), 1))(*(t.encode() for t in texts))
        self._parts.append(data)
        return data

    def _sampling(self, o: Sampling) -> _abi.Sampling:
        c = _abi.Sampling(size=ctypes.sizeof(_abi.Sampling), on_token=self.on_new_token, result=self.results)
        for name in ("max_tokens", "temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty",
                     "frequency_penalty", "presence_penalty", "penalty_last_n", "dry_multiplier", "dry_base",
                     "dry_allowed_length", "dry_last_n", "logprobs", "draft_tokens", "draft_ngram"):
            setattr(c, name, getattr(o, name))
        c.seed = o.seed & (1 << 64) - 1
        if o.dry_breakers is not None:
            c.dry_breakers, c.ndry_breakers = self._texts(o.dry_breakers), len(o.dry_breakers)
        c.stop, c.nstop = self._texts(o.stop), len(o.stop)
        if o.grammar is not None:
            c.grammar = o.grammar.encode()
            c.grammar_len = len(o.grammar.encode())
        bias = (_abi.LogitBias * max(len(o.logit_bias), 1))(*(_abi.LogitBias(k, v) for k, v in o.logit_bias.items()))
        self._parts.append(bias)
        c.bias, c.nbias = bias, len(o.logit_bias)
        return c

    def _new_token(self, _user: int | None, at: Any) -> int:
        """Called by the runtime; what is raised here is raised again by the caller of generate."""
        try:
            t = at.contents
            text = ctypes.string_at(t.text, t.len).decode(errors="replace") if t.text and t.len else ""
            top = tuple((t.alternatives[i].id, float(t.alternatives[i].logprob)) for i in range(t.nalternatives))
            token = Token(t.id, text, _abi.FINISH[t.finish] if t.finish else None, float(t.logprob), top, t.sequence)
            self.tokens[t.sequence].append(token)
            return _abi.CANCELLED if self._on_token is not None and self._on_token(token) is False else _abi.OK
        except BaseException as e:
            self.error = e
            return _abi.CANCELLED

    def finish(self, session: Session, status: int) -> list[Generation]:
        if self.error is not None:
            raise self.error
        if status != _abi.CANCELLED:
            session._check(status)
        out = []
        for tokens, r in zip(self.tokens, self.results):
            why = "cancelled" if status == _abi.CANCELLED and not r.finish else _abi.FINISH[r.finish]
            out.append(Generation([t.id for t in tokens], "".join(t.text for t in tokens), why, r.prompt_tokens, tokens,
                                  r.drafted, r.accepted))
        return out


def _ids(ids: Sequence[int] | Array) -> Array:
    array = np.ascontiguousarray(ids, np.int32)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"the prompt is an array of shape {list(array.shape)}, expected a list of token ids")
    return array


def run(session: Session, ids: Sequence[int] | Array, o: Sampling, on_token: OnToken | None,
        draft: Session | None) -> Generation:
    prompt, call = _ids(ids), _Call(o, 1, on_token)
    call.c.draft = draft._address() if draft is not None else None
    status = session._api.generate(session._address(), prompt.ctypes.data, prompt.size, ctypes.byref(call.c), None, None)
    return call.finish(session, status)[0]


def run_batch(session: Session, prompts: Sequence[Sequence[int] | Array], o: Sampling,
              on_token: OnToken | None) -> list[Generation]:
    arrays, call = [_ids(p) for p in prompts], _Call(o, len(prompts), on_token)
    pointer = ctypes.POINTER(ctypes.c_int32)
    rows = (_abi.Prompt * max(len(arrays), 1))(*(_abi.Prompt(x.ctypes.data_as(pointer), x.size) for x in arrays))
    call.c.on_token = _abi.OnNewToken()
    status = session._api.generate_batch(session._address(), rows, len(arrays), ctypes.byref(call.c), call.on_new_token,
                                         None)
    return call.finish(session, status)


def stream(session: Session, ids: Sequence[int] | Array, o: Sampling) -> Iterator[Token]:
    """Runs in a thread of its own, at most one token ahead of the reader."""
    ready: queue.Queue[Token | BaseException | None] = queue.Queue(1)
    left = threading.Event()

    def put(x: Token | BaseException | None) -> bool:
        while not left.is_set():
            try:
                ready.put(x, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            run(session, ids, o, put, None)
            put(None)
        except BaseException as e:
            put(e)

    worker = threading.Thread(target=work, name="tenon-stream", daemon=True)
    worker.start()
    try:
        while (x := ready.get()) is not None:
            if isinstance(x, BaseException):
                raise x
            yield x
    finally:
        left.set()
        worker.join()
