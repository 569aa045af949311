"""Options of the commands as Python keywords, and how they become a command line.

Every long option of the command is a keyword, `-` as `_`: `kv_cache="f16"` is `--kv-cache f16`. True gives an option without
an argument, None and False leave it out, lists give it once per item (or joined by commas, where the command takes lists
so), mappings give NAME=VALUE. The types below name the usual ones; the command itself knows all, and refuses the others by
name."""
from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Union

Path = Union[str, "os.PathLike[str]"]
Names = Union[str, Sequence[str]]
if TYPE_CHECKING:
    Paths = Union[Path, Sequence[Path]]
    Shapes = Union[str, Mapping[str, Union[str, Sequence[Union[int, str]]]]]
    Level = Union[int, str]


class _Options(TypedDict, total=False):
    extra: Sequence[str]
    """words of the command line that go as they are"""


class ModelOptions(_Options, total=False):
    """How a model is read: all commands that build a model's graph take these."""

    task: str
    precision: str
    quantize: str
    kv_cache: str
    adapter: Union[Paths, Mapping[str, float]]
    adapter_mode: str
    shapes: Shapes
    fix: Union[Names, Mapping[str, str]]
    model_page: Paths
    plugin: Paths
    no_cache: bool


class CheckOptions(ModelOptions, total=False):
    backend: Names


class CompileOptions(ModelOptions, total=False):
    level: Level
    passes: str
    backend: Names
    isa: Names
    weights: str
    tuning: Path
    tune: Path
    require_fusion: Union[Names, Mapping[str, int]]


class InspectOptions(ModelOptions, total=False):
    level: Level
    passes: str
    backend: Names
    isa: Names
    tensors: bool
    html: Path


class _WriteOptions(TypedDict, total=False):
    level: Level
    passes: str
    opset: int
    external_data: bool
    contrib: bool
    require_fusion: Union[Names, Mapping[str, int]]


class OptimizeOptions(_Options, _WriteOptions, total=False):
    plugin: Paths


class ExportOptions(ModelOptions, _WriteOptions, total=False):
    entry: str
    quantized: str
    outtype: str
    max_shard_size: Union[int, str]
    pre: str
    threads: int


class QuantizeOptions(_Options, total=False):
    dry_run: bool
    tensor_type: Union[Names, Mapping[str, str]]
    tensor_type_file: Path
    output_tensor_type: str
    token_embedding_type: str
    leave_output_tensor: bool
    pure: bool
    allow_requantize: bool
    imatrix: Paths
    fallback: str
    target_bpw: float
    target_size: Union[int, str]
    max_kld: float
    types: Names
    eval: Path
    sensitivity: bool
    group_size: int
    asymmetric: bool
    pack: str
    calibration: Path
    method: str
    calibration_method: str
    percentile: float
    symmetric: bool
    per_tensor: bool
    activation_scales: str
    leave_tables: bool
    exclude: Names
    opset: int
    external_data: bool
    task: str
    shapes: Shapes
    fix: Union[Names, Mapping[str, str]]
    context_size: int
    chunks: int
    model_page: Paths
    plugin: Paths
    report: Path
    threads: int


class VerifyOptions(ModelOptions, total=False):
    entry: str
    input: Union[Names, Mapping[str, str]]
    text: Names
    per_node: bool
    atol: float
    rtol: float
    min_cosine: float
    max_kl: float
    min_top1: float
    max_ppl_increase: float
    batch: int
    prompt_tokens: int
    context_size: int
    seed: int
    report: Path
    threads: int


class PerplexityOptions(_Options, total=False):
    level: Level
    backend: Names
    isa: Names
    precision: str
    quantize: str
    model_page: Paths
    plugin: Paths
    kl: Path
    context_size: int
    stride: int
    chunks: int
    threads: int


class ImatrixOptions(_Options, total=False):
    context_size: int
    chunks: int
    process_output: bool
    imatrix: Paths
    """earlier ones, which are added up"""
    precision: str
    model_page: Paths
    plugin: Paths
    threads: int


class RecipeOptions(_Options, total=False):
    output: Path
    jobs: int
    force: bool


class ChatOptions(ModelOptions, total=False):
    level: Level
    backend: Names
    isa: Names
    system: str
    template: Path
    template_var: Union[Names, Mapping[str, Any]]
    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int
    stop: Names
    grammar: str
    json_schema: Path
    context_size: int
    threads: int


# Options whose argument is a list with commas; others are repeated.
_COMMAS = frozenset(("backend", "isa", "batch", "prompt_tokens", "require_fusion", "affinity", "shapes",
                     "types"))


def _shape(sizes: str | Sequence[int | str]) -> str:
    return sizes if isinstance(sizes, str) else "x".join(str(s) for s in sizes)


def _words(name: str, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        if name == "shapes":
            return [f"{k}:{_shape(v)}" for k, v in value.items()]
        return [f"{os.fspath(k)}={v}" for k, v in value.items()]
    if isinstance(value, (str, bytes, os.PathLike)) or not isinstance(value, Sequence):
        return [str(os.fspath(value)) if isinstance(value, os.PathLike) else str(value)]
    return [str(os.fspath(v)) if isinstance(v, os.PathLike) else str(v) for v in value]


def _level(value: Any) -> str:
    number = str(value).lstrip("-").lstrip("Oo")
    if number not in ("0", "1", "2", "3"):
        raise ValueError(f"level is {value!r}, expected 0 to 3")
    return f"-O{number}"


def flags(options: Mapping[str, Any]) -> Iterator[str]:
    """The words of the command line."""
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if name == "extra":
            yield from value
        elif name == "level":
            yield _level(value)
        elif value is True:
            yield flag
        elif name in _COMMAS:
            yield from (flag, ",".join(_words(name, value)))
        else:
            for word in _words(name, value):
                yield from (flag, word)
