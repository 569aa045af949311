"""The structures of tenon/model.h, and the table that every artefact gives out.

Structs begin with their size where the header says so: an artefact of another version reads what it knows of. Fields are
declared twice, for ctypes and for type checkers; tests/python compares every offset with what the C compiler says.
"""
from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from typing import Any

from .errors import TenonError

ABI_MAJOR, ABI_MINOR, MAX_RANK = 0, 2, 8
OK, CANCELLED, INVALID, NOT_FOUND = 0, 1, 3, 5
NO_SPECIAL, SKIP_SPECIAL = 1, 2
FINISH = ("none", "end", "stop", "grammar", "length", "capacity", "cancelled")


class Tensor(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("dtype", c_uint32), ("rank", c_uint32), ("shape", c_int64 * MAX_RANK)]
    data: int | None
    dtype: int
    rank: int
    shape: Any


class ArgInfo(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("dtype", c_uint32), ("rank", c_uint32), ("shape", c_char_p)]
    name: bytes
    dtype: int
    rank: int
    shape: bytes


class EntryInfo(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("ninputs", c_uint32), ("noutputs", c_uint32)]
    name: bytes
    ninputs: int
    noutputs: int


class SessionOptions(ctypes.Structure):
    _fields_ = [("size", c_uint32), ("threads", c_uint32), ("batch", c_int64), ("capacity", c_int64),
                ("error", c_void_p), ("error_size", c_uint64), ("cores", POINTER(c_uint32)), ("ncores", c_uint32),
                ("reserved", c_uint32), ("device", c_char_p), ("stream", c_void_p)]
    size: int
    threads: int
    batch: int
    capacity: int
    error: int | None
    error_size: int
    cores: Any
    ncores: int
    device: bytes | None
    stream: int | None


class Alternative(ctypes.Structure):
    _fields_ = [("id", c_int32), ("logprob", c_float)]
    id: int
    logprob: float


class NewToken(ctypes.Structure):
    _fields_ = [("size", c_uint32), ("sequence", c_uint32), ("id", c_int32), ("finish", c_uint32), ("text", c_void_p),
                ("len", c_uint64), ("logprob", c_float), ("nalternatives", c_uint32),
                ("alternatives", POINTER(Alternative))]
    size: int
    sequence: int
    id: int
    finish: int
    text: int | None
    len: int
    logprob: float
    nalternatives: int
    alternatives: Any


class Generation(ctypes.Structure):
    _fields_ = [("size", c_uint32), ("finish", c_uint32), ("prompt_tokens", c_uint64), ("new_tokens", c_uint64),
                ("drafted", c_uint64), ("accepted", c_uint64), ("masks", c_uint64), ("mask_seconds", c_double)]
    size: int
    finish: int
    prompt_tokens: int
    new_tokens: int
    drafted: int
    accepted: int
    masks: int
    mask_seconds: float


class LogitBias(ctypes.Structure):
    _fields_ = [("token", c_int32), ("bias", c_float)]


class Prompt(ctypes.Structure):
    _fields_ = [("ids", POINTER(c_int32)), ("nids", c_uint64)]


OnNewToken = ctypes.CFUNCTYPE(c_int, c_void_p, POINTER(NewToken))


class Sampling(ctypes.Structure):
    _fields_ = [("size", c_uint32), ("max_tokens", c_uint32), ("temperature", c_float), ("top_p", c_float),
                ("min_p", c_float), ("repetition_penalty", c_float), ("top_k", c_uint32), ("seed", c_uint64),
                ("typical_p", c_float), ("frequency_penalty", c_float), ("presence_penalty", c_float),
                ("penalty_last_n", c_int32), ("dry_multiplier", c_float), ("dry_base", c_float),
                ("dry_allowed_length", c_uint32), ("dry_last_n", c_int32), ("dry_breakers", POINTER(c_char_p)),
                ("ndry_breakers", c_uint32), ("nbias", c_uint32), ("bias", POINTER(LogitBias)),
                ("stop", POINTER(c_char_p)), ("nstop", c_uint32), ("logprobs", c_uint32), ("grammar", c_char_p),
                ("grammar_len", c_uint64), ("on_token", OnNewToken), ("result", POINTER(Generation)),
                ("draft_tokens", c_uint32), ("draft_ngram", c_uint32), ("draft", c_void_p)]


def _function(result: Any, *arguments: Any) -> Any:
    return ctypes.CFUNCTYPE(result, *arguments)


class ModelApi(ctypes.Structure):
    """tn_model_api. Calls through it release the interpreter's lock."""

    _fields_ = [
        ("size", c_uint32), ("abi", c_uint32),
        ("open", _function(c_int, c_char_p, POINTER(c_void_p), c_void_p, c_uint64)),
        ("close", _function(None, c_void_p)),
        ("name", _function(c_char_p, c_void_p)),
        ("entry_count", _function(c_uint32, c_void_p)),
        ("entry", _function(c_int, c_void_p, c_uint32, POINTER(EntryInfo))),
        ("input", _function(c_int, c_void_p, c_uint32, c_uint32, POINTER(ArgInfo))),
        ("output", _function(c_int, c_void_p, c_uint32, c_uint32, POINTER(ArgInfo))),
        ("meta_count", _function(c_uint32, c_void_p)),
        ("meta_key", _function(c_char_p, c_void_p, c_uint32)),
        ("meta", _function(c_char_p, c_void_p, c_char_p)),
        ("session_new", _function(c_int, c_void_p, POINTER(SessionOptions), POINTER(c_void_p))),
        ("session_free", _function(None, c_void_p)),
        ("session_reset", _function(c_int, c_void_p)),
        ("position", _function(c_int64, c_void_p)),
        ("rewind", _function(c_int, c_void_p, c_int64)),
        ("error", _function(c_char_p, c_void_p)),
        ("shapes", _function(c_int, c_void_p, c_uint32, POINTER(Tensor), POINTER(Tensor))),
        ("invoke", _function(c_int, c_void_p, c_uint32, POINTER(Tensor), POINTER(Tensor))),
        ("tokenize", _function(c_int, c_void_p, c_char_p, c_uint64, c_char_p, c_uint64, c_uint32, c_void_p, c_void_p,
                               POINTER(c_uint64))),
        ("detokenize", _function(c_int, c_void_p, c_void_p, c_uint64, c_uint32, c_void_p, POINTER(c_uint64))),
        ("token_text", _function(c_void_p, c_void_p, c_int32, POINTER(c_uint64))),
        ("token_id", _function(c_int, c_void_p, c_char_p, POINTER(c_int32))),
        ("generate", _function(c_int, c_void_p, c_void_p, c_uint64, POINTER(Sampling), c_void_p, c_void_p)),
        ("generate_batch", _function(c_int, c_void_p, POINTER(Prompt), c_uint32, POINTER(Sampling), OnNewToken,
                                     c_void_p)),
        ("adapter", _function(c_int, c_void_p, c_char_p, c_float)),
        ("result", _function(c_int, c_void_p, c_uint32, POINTER(Tensor))),
    ]
    size: int
    abi: int
    open: Any
    close: Any
    name: Any
    entry_count: Any
    entry: Any
    input: Any
    output: Any
    meta_count: Any
    meta_key: Any
    meta: Any
    session_new: Any
    session_free: Any
    session_reset: Any
    position: Any
    rewind: Any
    error: Any
    shapes: Any
    invoke: Any
    tokenize: Any
    detokenize: Any
    token_text: Any
    token_id: Any
    generate: Any
    generate_batch: Any
    adapter: Any
    result: Any


STRUCTS = {"tn_tensor": Tensor, "tn_arg_info": ArgInfo, "tn_entry_info": EntryInfo,
           "tn_session_options": SessionOptions, "tn_alternative": Alternative, "tn_new_token": NewToken,
           "tn_generation": Generation, "tn_logit_bias": LogitBias, "tn_prompt": Prompt, "tn_sampling": Sampling,
           "tn_model_api": ModelApi}


def library(path: str) -> tuple[ctypes.CDLL, ModelApi]:
    """Loads an artefact: the library, which its owner unloads, and its table."""
    try:
        handle = ctypes.CDLL(path)
    except OSError as e:
        raise TenonError(f"{path}: cannot load the library: {e}") from None
    try:
        query = handle.tn_model_query
    except AttributeError:
        unload(handle)
        raise TenonError(f"{path}: not a tenon artefact: it has no symbol tn_model_query") from None
    query.restype = POINTER(ModelApi)
    query.argtypes = [c_uint32]
    table = query(ABI_MAJOR << 16 | ABI_MINOR)
    if not table or table.contents.size < ctypes.sizeof(ModelApi):
        unload(handle)
        raise TenonError(f"{path}: the artefact was made for another version of tenon")
    return handle, table.contents


def unload(handle: ctypes.CDLL) -> None:
    """Lets the system forget the library once nobody else holds it, so that a new file of that name can be loaded."""
    import _ctypes

    _ctypes.dlclose(handle._handle)
