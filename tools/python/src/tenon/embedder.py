"""Sentence embeddings, with the calls that users of sentence-transformers know."""
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrays
from ._arrays import Array
from .errors import TenonError

if TYPE_CHECKING:
    from .model import Entry, Model
    from .options import CompileOptions
    from typing_extensions import Unpack

# Names of inputs on model pages, and those that exporters give them.
NAMES = {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"}
_VECTORS = ("embedding", "sentence_embedding")


def tokens_for(entry: Entry, tokens: dict[str, Array]) -> dict[str, Array]:
    """Of ids, mask and types, what an entry point takes, under its names."""
    known = {**tokens, **{NAMES[k]: v for k, v in tokens.items()}}
    return {a.name: known[a.name] for a in entry.inputs if a.name in known}


def vector_entry(model: Model) -> tuple[Entry, str]:
    """The entry point that gives one vector per text, and the output that it is."""
    for entry in model.entries.values():
        for output in entry.outputs:
            if output.name in _VECTORS:
                return entry, output.name
    raise TenonError(f"{model.name} gives no sentence embeddings: its entry points are {', '.join(model.entries)}")


def _mean(hidden: Array, mask: Array) -> Array:
    weight = mask[..., None].astype(hidden.dtype)
    mean: Array = (hidden * weight).sum(1) / np.maximum(weight.sum(1), 1e-9)
    return mean


def _max(hidden: Array, mask: Array) -> Array:
    largest: Array = np.where(mask[..., None] > 0, hidden, -np.inf).max(1)
    return largest


POOLINGS: dict[str, Callable[[Array, Array], Array]] = {"mean": _mean, "max": _max, "cls": lambda hidden, _: hidden[:, 0]}


def _vectors(model: Model, pooling: str | None) -> Callable[[dict[str, Array]], Array]:
    """From tokens to one vector per text: the model's own, or its hidden states made one."""
    if pooling is None:
        entry, output = vector_entry(model)
        return lambda tokens: model.run(tokens_for(entry, tokens), entry.name)[output]
    if pooling not in POOLINGS:
        raise ValueError(f"no pooling {pooling}: there are {', '.join(POOLINGS)}")
    encode = model.entry("encode")
    return lambda t: POOLINGS[pooling](model.run(tokens_for(encode, t), "encode")["hidden"], t["mask"])


def embed(model: Model, texts: Sequence[str], batch_size: int, normalize: bool, max_length: int | None = None,
          pooling: str | None = None) -> Array:
    """Texts of similar length share a batch."""
    vectors = _vectors(model, pooling)
    if batch_size < 1:
        raise ValueError(f"a batch size of {batch_size}, the least is 1")
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    rows: list[Array] = [np.empty(0, np.float32)] * len(texts)
    for begin in range(0, len(order), batch_size):
        part = order[begin : begin + batch_size]
        for i, vector in zip(part, vectors(model.tokenizer([texts[i] for i in part], max_length=max_length))):
            rows[i] = vector
    out: Array = np.stack(rows) if rows else np.empty((0, 0), np.float32)
    if normalize and rows:
        out = out / np.maximum(np.linalg.norm(out, axis=-1, keepdims=True), 1e-12)
    return out


class TenonEmbedder:
    """A sentence encoder: a folder of sentence-transformers, or what was compiled of it."""

    def __init__(self, model: str | os.PathLike[str] | Model, *, threads: int = 0,
                 **options: Unpack[CompileOptions]) -> None:
        from .model import Model, load

        self.model = model if isinstance(model, Model) else load(model, threads=threads, **options)
        self._entry, self._output = vector_entry(self.model)
        self.max_seq_length = self.model.max_tokens

    def encode(self, sentences: str | Sequence[str], batch_size: int = 32, *, normalize_embeddings: bool = False,
               convert_to_tensor: bool = False, convert_to_numpy: bool = True) -> Any:
        """One vector per sentence: an array [n, d], or [d] for a single sentence; a list of them without
        convert_to_numpy; a torch tensor with convert_to_tensor."""
        single = isinstance(sentences, str)
        texts = [sentences] if isinstance(sentences, str) else list(sentences)
        rows = embed(self.model, texts, batch_size, normalize_embeddings, self.max_seq_length)
        result = rows[0] if single else rows
        if convert_to_tensor:
            import torch  # noqa: F401  (to_torch uses the imported module)

            return _arrays.to_torch(np.ascontiguousarray(result))
        return result if convert_to_numpy or single else list(result)

    def similarity(self, a: Any, b: Any) -> Array:
        """Cosines of every vector of `a` with every one of `b`."""
        def unit(x: Any) -> Array:
            array = np.atleast_2d(_arrays.from_torch(x) if _arrays.is_torch(x) else np.asarray(x))
            norm: Array = array / np.maximum(np.linalg.norm(array, axis=-1, keepdims=True), 1e-12)
            return norm

        cosines: Array = unit(a) @ unit(b).T
        return cosines

    def get_sentence_embedding_dimension(self) -> int:
        """How many numbers a vector has."""
        shape = next(a.shape for a in self._entry.outputs if a.name == self._output)
        return int(shape.strip("[]").split(",")[-1])
