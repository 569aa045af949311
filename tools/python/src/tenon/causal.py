"""Causal language models in the place of transformers' ones: scores, and a `generate` that takes what its generate takes as
far as the artefact can do it, and refuses the rest by name. Greedy tokens are those of transformers."""
from __future__ import annotations

import dataclasses
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrays, hub
from ._arrays import Array
from .generation import Generation, Sampling, Token
from .model import Model
from .pretrained import TenonModel, refuse, two_dimensional
from .session import Session

if TYPE_CHECKING:
    import os

_CHUNK = 512  # tokens per call where caches of a sliding window limit it
_DEFAULTS = {"max_length": 20, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "typical_p": 1.0,
             "repetition_penalty": 1.0, "num_return_sequences": 1}
# Parameters that may be there because they do nothing here, and values at which others do nothing.
_IGNORED = frozenset(("use_cache", "bos_token_id", "pad_token_id", "eos_token_id", "do_sample", "max_new_tokens", "min_p",
                      "transformers_version", "return_dict_in_generate", "stop_strings", "suppress_tokens", "tokenizer",
                      "early_stopping", "length_penalty", "num_assistant_tokens", "num_assistant_tokens_schedule",
                      "assistant_confidence_threshold", "assistant_lookbehind", "target_lookbehind", "disable_compile",
                      "remove_invalid_values", "renormalize_logits", "decoder_start_token_id", "seed", "streamer",
                      "cache_implementation", "is_assistant", "max_matching_ngram_size", *_DEFAULTS))
_NEUTRAL = {"num_beams": 1, "min_length": 0, "min_new_tokens": 0, "no_repeat_ngram_size": 0, "epsilon_cutoff": 0.0,
            "encoder_no_repeat_ngram_size": 0, "encoder_repetition_penalty": 1.0, "eta_cutoff": 0.0, "output_scores": False,
            "output_logits": False, "output_attentions": False, "output_hidden_states": False, "token_healing": False,
            "num_beam_groups": 1, "diversity_penalty": 0.0, "guidance_scale": 1.0, "low_memory": False,
            "logits_processor": [], "stopping_criteria": []}


def _parameters(base: Any, given: Any, words: Mapping[str, Any]) -> dict[str, Any]:
    """Words before the given configuration before the model's; None counts as not said."""
    out: dict[str, Any] = {}
    for part in (base.to_diff_dict(), given.to_diff_dict() if given is not None else {}, words):
        out.update((k, v) for k, v in part.items() if v is not None and not k.startswith("_"))
    for name, value in out.items():
        if name not in _IGNORED and not (name in _NEUTRAL and value == _NEUTRAL[name]):
            raise ValueError(f"generate: {name}={value!r} is not supported by a compiled model")
    return out


def _numbers(x: Any) -> list[int]:
    """One token id or several."""
    if x is None:
        return []
    flat: list[int] = np.atleast_1d(_arrays.from_torch(x) if _arrays.is_torch(x) else np.asarray(x)).astype(int).tolist()
    return flat


class _Stop:
    """Ends a sequence at tokens and strings that the artefact itself does not end at, and feeds a streamer."""

    def __init__(self, eos: Sequence[int], strings: Sequence[str], decode: Callable[[list[int]], str] | None,
                 each: Callable[[int], None] | None) -> None:
        self.eos, self.strings, self.decode, self.each = set(eos), list(strings), decode, each
        self.ids: dict[int, list[int]] = {}
        self.done: set[int] = set()

    def token(self, t: Token) -> bool:
        """False: that was the last one."""
        if t.sequence in self.done:
            return False
        ids = self.ids.setdefault(t.sequence, [])
        ids.append(t.id)
        if self.each is not None:
            self.each(t.id)
        if t.id in self.eos or (self.decode is not None and any(s in self.decode(ids) for s in self.strings)):
            self.done.add(t.sequence)
            return False
        return True


class TenonModelForCausalLM(TenonModel):
    """Scores of the next token, and generation."""

    output_class, entry_name, what = "CausalLMOutput", "logits", "text generation"
    auto_mapping = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"
    fields = {"logits": ("logits",)}
    output_modalities = ("text",)

    def __init__(self, model: Model, *, config: Any = None, folder: str | os.PathLike[str] | None = None) -> None:
        super().__init__(model, config=config, folder=folder)
        self.generation_config = hub.generation_config(None if folder is None else Path(folder), self.config)
        self._lock = threading.Lock()  # callers take turns
        self._session: Session | None = None
        self._capacity = 0

    def can_generate(self) -> bool:
        return True

    def _states(self, batch: int, capacity: int) -> Session:
        """A session with empty states for that many sequences and tokens."""
        s = self._session
        if s is not None and (s.batch != batch or self._capacity < capacity):
            s.close()
            s = self._session = None
        if s is None:
            limit = int(self.model.meta.get("max_positions", "0") or 0)
            self._capacity = max(capacity, min(limit or 4096, 4096))
            s = self._session = self.model.session(batch=batch, capacity=self._capacity if self._has_cache() else 0)
        s.reset()
        return s

    def _has_cache(self) -> bool:
        return "dim.capacity" in self.model.meta

    # ---- scores

    def forward(self, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None,
                return_dict: bool | None = None, **others: Any) -> Any:
        """Scores [batch, tokens, vocabulary]. Padding may be on either side; scores there mean nothing."""
        refuse(others)
        ids = two_dimensional(input_ids)
        rows = _unpadded(ids, attention_mask)
        with self._lock:
            got = self._logits(_arrays.padded(rows, 0))
        if any(len(r) != ids.shape[1] for r in rows):
            placed: Array = np.zeros((*ids.shape, got.shape[-1]), got.dtype)
            for i, (begin, row) in enumerate(zip(_begins(ids, attention_mask), rows)):
                placed[i, begin : begin + len(row)] = got[i, : len(row)]
            got = placed
        return self._wrap({"logits": got}, _arrays.is_torch(input_ids), return_dict)

    def _logits(self, ids: Array) -> Array:
        """From empty states; in pieces where the model has a ring for a cache."""
        session = self._states(ids.shape[0], ids.shape[1])
        step = _CHUNK if "ring.rows" in self.model.meta else max(ids.shape[1], 1)
        parts = [session.run({"ids": ids[:, at : at + step]}, self.entry.name)["logits"]
                 for at in range(0, ids.shape[1], step)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    # ---- generation

    def generate(self, input_ids: Any = None, attention_mask: Any = None, generation_config: Any = None,
                 streamer: Any = None, **words: Any) -> Any:
        """Token ids [batch, tokens] with the new ones behind the given, filled up with the padding token. Sampling draws
        other tokens than torch does; the same `seed`, or seed of torch, draws the same again."""
        inputs = words.pop("inputs", None)
        words.pop("token_type_ids", None)  # tokenizers give them, causal models have none
        input_ids = inputs if input_ids is None else input_ids
        torch, p = _arrays.is_torch(input_ids), _parameters(self.generation_config, generation_config, words)
        ids = two_dimensional([[self._bos(p)]] if input_ids is None else input_ids)
        prompts = [list(r) for r in _unpadded(ids, attention_mask) for _ in range(int(p.get("num_return_sequences", 1)))]
        ids = np.repeat(ids, int(p.get("num_return_sequences", 1)), axis=0)
        if streamer is not None:
            if len(prompts) > 1:
                raise ValueError("generate: a streamer takes one sequence")
            streamer.put(_arrays.to_torch(ids) if torch else ids)
        sampling = self._sampling(p, ids.shape[1], torch)
        with self._lock:
            rows = self._continue(prompts, sampling, p, streamer, torch)
        if streamer is not None:
            streamer.end()
        out = self._joined(ids, rows, p)
        sequences = _arrays.to_torch(out) if torch else out
        if p.get("return_dict_in_generate"):
            return hub.output("GenerateDecoderOnlyOutput", {"sequences": sequences})
        return sequences

    def _bos(self, p: Mapping[str, Any]) -> int:
        if p.get("bos_token_id") is None:
            raise ValueError("generate: the prompt is empty, and the model has no token to begin with")
        return int(p["bos_token_id"])

    def _eos(self, p: Mapping[str, Any]) -> list[int]:
        return _numbers(p.get("eos_token_id")) or _numbers(getattr(self.config, "eos_token_id", None))

    def _joined(self, ids: Array, rows: Sequence[Sequence[int]], p: Mapping[str, Any]) -> Array:
        pad = p.get("pad_token_id", getattr(self.config, "pad_token_id", None))
        fill = int(pad) if pad is not None else (self._eos(p) or [0])[0]
        return np.concatenate([ids.astype(np.int64), _arrays.padded(rows, fill, "int64")], axis=1)

    def _sampling(self, p: Mapping[str, Any], width: int, torch: bool) -> Sampling:
        new = p.get("max_new_tokens")
        room = int(new) if new is not None else int(p.get("max_length", _DEFAULTS["max_length"] + width)) - width
        if room < 1:
            raise ValueError(f"generate: max_length leaves no room behind a prompt of {width} tokens")
        penalty = float(p.get("repetition_penalty", 1.0))
        bias = {t: float("-inf") for t in _numbers(p.get("suppress_tokens"))}
        if not p.get("do_sample"):
            return Sampling(max_tokens=room, repetition_penalty=penalty, logit_bias=bias)
        return Sampling(max_tokens=room, repetition_penalty=penalty, logit_bias=bias, seed=_seed(p.get("seed"), torch),
                        temperature=float(p.get("temperature", 1.0)), top_k=int(p.get("top_k", _DEFAULTS["top_k"])),
                        top_p=_share(p.get("top_p")), min_p=float(p.get("min_p", 0.0)),
                        typical_p=_share(p.get("typical_p")))

    def _continue(self, prompts: Sequence[Sequence[int]], o: Sampling, p: Mapping[str, Any], streamer: Any,
                  torch: bool) -> list[list[int]]:
        """The new tokens of each prompt."""
        eos, strings = self._eos(p), p.get("stop_strings") or []
        strings = [strings] if isinstance(strings, str) else list(strings)
        decode = None
        if strings:
            tokenizer = p.get("tokenizer") or self.model.tokenizer
            decode = tokenizer.decode
        own = self.model.meta.get("eos", "").replace(",", " ").split()
        together = len(prompts) > 1 and "batch" in self.model.entries and {int(x) for x in own} <= set(eos)
        capacity = max(len(r) for r in prompts) + o.max_tokens
        limit = int(self.model.meta.get("max_positions", "0") or 0)
        capacity = min(capacity, limit) if limit else capacity
        if together:
            stop = _Stop([], strings, decode, None)
            return self._side_by_side(prompts, o, set(eos), stop, capacity)
        out = []
        for i, prompt in enumerate(prompts):
            each = None if streamer is None else lambda t: streamer.put(
                _arrays.to_torch(np.array([t], np.int64)) if torch else np.array([t]))
            stop = _Stop(eos, strings, decode, each)
            seeded = dataclasses.replace(o, seed=o.seed + i)
            out.append(self._alone(prompt, seeded, stop, capacity))
        return out

    def _alone(self, prompt: Sequence[int], o: Sampling, stop: _Stop, capacity: int) -> list[int]:
        session, ids, new = self._states(1, capacity), list(prompt), []
        while True:
            g: Generation = session.generate(ids, o, on_token=stop.token)
            new += g.ids
            left = o.max_tokens - len(g.ids)
            if g.finish == "capacity":
                self._full(len(prompt), len(new))
            if g.finish != "end" or stop.done or left < 1:
                return new
            ids, o = g.ids[-1:], dataclasses.replace(o, max_tokens=left)  # an end token of the artefact, not of the caller

    def _side_by_side(self, prompts: Sequence[Sequence[int]], o: Sampling, eos: set[int], stop: _Stop,
                      capacity: int) -> list[list[int]]:
        session, rows = self._states(len(prompts), capacity), []
        for g in session.generate_batch(prompts, o):
            if g.finish == "capacity":
                self._full(max(len(r) for r in prompts), len(g.ids))
            end = next((i + 1 for i, t in enumerate(g.ids) if t in eos), len(g.ids))
            if stop.decode is not None:
                end = next((i for i in range(1, end) if any(s in stop.decode(g.ids[:i]) for s in stop.strings)), end)
            rows.append(g.ids[:end])
        return rows

    def _full(self, prompt: int, new: int) -> None:
        limit = self.model.meta.get("max_positions")
        warnings.warn(f"generate: ended early, the model's {limit} positions are full after a prompt of {prompt} tokens and "
                      f"{new} new ones", stacklevel=4)


def _share(p: Any) -> float:
    """A probability of 1 keeps everything: off."""
    return 0.0 if p is None or float(p) >= 1 else float(p)


def _seed(given: Any, torch: bool) -> int:
    if given is not None:
        return int(given)
    if torch:
        import sys

        return int(sys.modules["torch"].randint(0, 2**62, (1,)).item())
    return int(np.random.default_rng().integers(0, 2**62))


def _mask_rows(ids: Array, attention_mask: Any) -> list[Array]:
    """Where each row has tokens; they must be side by side."""
    if attention_mask is None:
        return [np.arange(ids.shape[1])] * len(ids)
    mask = two_dimensional(attention_mask)
    if mask.shape != ids.shape:
        raise TypeError(f"attention_mask is {list(mask.shape)}, input_ids {list(ids.shape)}")
    out = []
    for row in mask:
        at = np.flatnonzero(row)
        if not at.size or at[-1] - at[0] + 1 != at.size:
            raise ValueError("attention_mask: a row's tokens must be side by side, at least one")
        out.append(at)
    return out


def _unpadded(ids: Array, attention_mask: Any) -> list[list[int]]:
    return [[int(t) for t in row[at]] for row, at in zip(ids, _mask_rows(ids, attention_mask))]


def _begins(ids: Array, attention_mask: Any) -> list[int]:
    return [int(at[0]) for at in _mask_rows(ids, attention_mask)]
