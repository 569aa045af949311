"""The commands of tenon as functions: each runs the command with --json and gives what it says."""
from __future__ import annotations

import json
import math
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import _binary
from .errors import Message, TenonError
from .options import flags

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .model import Model
    from .options import (ChatOptions, CheckOptions, CompileOptions, ExportOptions, ImatrixOptions, InspectOptions,
                          OptimizeOptions, PerplexityOptions, QuantizeOptions, RecipeOptions, VerifyOptions)

    PathLike = str | os.PathLike[str]

# The command's words for why an answer ended, as Generation has them.
_FINISH = {"end token": "end", "stop string": "stop", "max tokens": "length"}
_LINE = re.compile(r"^(?:(?P<file>.*?):(?:(?P<line>\d+):(?:\d+:)?)? )?(?P<severity>error|warning|note): (?P<text>.*)$")


@dataclass(frozen=True)
class CommandResult:
    """What a command said."""

    status: int
    """its exit status"""
    data: Any
    """the JSON that it printed; None: none"""
    stdout: str
    stderr: str
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Artefact:
    """A compiled model."""

    library: str
    header: str
    library_bytes: int
    weights_bytes: int
    seconds: float
    peak_memory_bytes: int
    messages: tuple[Message, ...] = ()

    def load(self, **options: Any) -> Model:
        """Opens it; options are those of `tenon.load`."""
        from .model import load

        return load(self.library, **options)


@dataclass(frozen=True)
class Check:
    """What would stop a compile, in `messages`; nothing when `ok`."""

    ok: bool
    architecture: str
    task: str
    messages: tuple[Message, ...]
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """How far a value is from what it is compared with; not a number where the two cannot be compared."""

    name: str
    ok: bool
    max_abs: float
    max_rel: float
    cosine: float
    data: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Verification:
    """Whether two ways to run a model agree: `ok`, value by value, and all that the command says (`data`: also KL divergence
    and top-token agreement of language models)."""

    ok: bool
    first_difference: str | None
    """where the graphs go apart, when they do"""
    values: tuple[Difference, ...]
    messages: tuple[Message, ...]
    data: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What a model says in a conversation."""

    text: str
    finish: str
    """as in Generation"""
    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True)
class Written:
    """A model file or folder that was written, and all that the command says about it."""

    path: str
    messages: tuple[Message, ...]
    data: Any = field(repr=False)


@dataclass(frozen=True)
class TensorChange:
    """What becomes, or became, of a tensor."""

    name: str
    shape: tuple[int, ...]
    before: str
    after: str
    bytes_before: int
    bytes_after: int
    bits_per_weight: float
    rmse: float | None
    """root of the mean squared error; None: not changed, or only planned"""
    data: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Quantization(Written):
    """A quantized model, tensor by tensor."""

    tensors: tuple[TensorChange, ...] = field(repr=False)


@dataclass(frozen=True)
class RecipeJob:
    """A step of a recipe for one model."""

    model: str
    step: str
    result: str
    """done, kept, below, failed or skipped"""
    out: str | None
    values: Mapping[str, Any]
    """what the recipe asked to be shown"""
    broken: tuple[Any, ...]
    """the limits that were not kept"""
    data: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class RecipeRun:
    """What became of a recipe, job by job."""

    ok: bool
    jobs: tuple[RecipeJob, ...]
    messages: tuple[Message, ...]
    data: Mapping[str, Any] = field(repr=False)


def _documents(text: str) -> list[Any]:
    decoder, at = json.JSONDecoder(), 0
    out: list[Any] = []
    while (at := len(text) - len(text[at:].lstrip())) < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError:
            return out
        out.append(value)
    return out


def _messages(documents: Sequence[Any], stderr: str) -> tuple[Message, ...]:
    rows = [m for d in documents if isinstance(d, dict) for m in d.get("messages") or () if isinstance(m, dict)]
    out = [Message(m.get("severity", "error"), m.get("text", ""), m.get("file") or "", m.get("line") or 0,
                   m.get("where") or "") for m in rows]
    for row in stderr.splitlines():
        m = _LINE.match(row)
        if m and m["text"] not in [x.text for x in out]:
            out.append(Message(m["severity"], m["text"], m["file"] or "", int(m["line"] or 0)))
    return tuple(dict.fromkeys(out))


def _word(argument: PathLike) -> str:
    text = os.fspath(argument)
    return "./" + text if text.startswith("-") else text


def command(name: str, *arguments: PathLike, check: bool = True, stdin: str | None = None,
            **options: Any) -> CommandResult:
    """Runs `tenon NAME ARGUMENTS`; `tenon.options` says how keywords become options. An exit status other than 0 is an
    error, with the command's messages, unless `check` is false."""
    binary = _binary.find()
    words = [binary, name, *flags(options), *(_word(a) for a in arguments)]
    done = subprocess.run(words, input=stdin, stdin=subprocess.DEVNULL if stdin is None else None, capture_output=True,
                          text=True, errors="replace", env={**os.environ, "NO_COLOR": "1"}, check=False)
    documents = _documents(done.stdout)
    data = next((d for d in documents if not (isinstance(d, dict) and set(d) == {"messages"})), None)
    messages = _messages([*documents, *_documents(done.stderr)], done.stderr)
    result = CommandResult(done.returncode, data, done.stdout, done.stderr, messages)
    if check and done.returncode:
        raise _failure(name, result)
    return result


def _failure(name: str, r: CommandResult) -> TenonError:
    errors = [m for m in r.messages if m.severity == "error"]
    said = r.stderr.strip().removeprefix("tenon: ") if r.stderr.strip() else f"exit status {r.status}"
    text = "; ".join(str(m) for m in errors[:3]) or said
    if len(errors) > 3:
        text += f"; and {len(errors) - 3} more"
    return TenonError(f"tenon {name}: {text}", messages=r.messages, status=r.status)


def compile(model: PathLike, out: PathLike, **options: Unpack[CompileOptions]) -> Artefact:
    """Compiles a folder, GGUF, ONNX or IR file to the library `out` (libNAME.so) and NAME.h beside it."""
    r = command("compile", model, json=True, output=out, **options)
    d = r.data
    return Artefact(d["library"], d["header"], d["library_bytes"], d["weights_bytes"], d["seconds"],
                    d["peak_memory_bytes"], r.messages)


def check(model: PathLike, **options: Unpack[CheckOptions]) -> Check:
    """Everything that would stop a compile, in one go."""
    r = command("check", model, check=False, json=True, **options)
    if r.data is None and not r.messages:
        raise _failure("check", r)
    d = r.data or {}
    return Check(r.status == 0, d.get("architecture", ""), d.get("task", ""), r.messages, d)


def export(format: str, model: PathLike, out: PathLike, **options: Unpack[ExportOptions]) -> Written:
    """Writes a model as `format`: onnx, gguf or safetensors."""
    r = command("export", format, model, out, json=True, **options)
    return Written(os.fspath(out), r.messages, r.data)


def optimize(model: PathLike, out: PathLike, **options: Unpack[OptimizeOptions]) -> Written:
    """Makes an ONNX file smaller and faster for any runtime."""
    r = command("optimize", model, out, json=True, **options)
    return Written(os.fspath(out), r.messages, r.data)


def quantize(model: PathLike, out: PathLike, scheme: str, **options: Unpack[QuantizeOptions]) -> Quantization:
    """Writes a model with weights of fewer bits; with `dry_run` nothing is written, and the result is the plan."""
    r = command("quantize", model, out, scheme, json=True, **options)
    tensors = tuple(TensorChange(t["name"], tuple(t["shape"]), t["from"], t["to"], t["bytes_before"], t["bytes"],
                                 t["bits_per_weight"], t.get("rmse"), t) for t in (r.data or {}).get("tensors", ()))
    return Quantization(os.fspath(out), r.messages, r.data, tensors)


def imatrix(model: PathLike, text_file: PathLike, out: PathLike, **options: Unpack[ImatrixOptions]) -> Written:
    """Reads a text and writes how much each column of each matrix mattered: what `quantize` takes as imatrix."""
    r = command("imatrix", model, text_file, json=True, output=out, **options)
    return Written(os.fspath(out), r.messages, r.data)


def verify(a: PathLike, b: PathLike, **options: Unpack[VerifyOptions]) -> Verification:
    """Do two ways to run a model give the same? `ok` says so; what cannot be compared is an error."""
    r = command("verify", a, b, check=False, json=True, **options)
    compared = isinstance(r.data, dict) and "ok" in r.data and (r.data["ok"] or r.data.get("values"))
    if not compared:
        raise _failure("verify", r)
    values = tuple(Difference(v["name"], bool(v["ok"]), _number(v.get("max_abs")), _number(v.get("max_rel")),
                              _number(v.get("cosine")), v) for v in r.data.get("values", ()))
    return Verification(bool(r.data["ok"]), r.data.get("first_difference"), values, r.messages, r.data)


def _number(x: Any) -> float:
    return math.nan if x is None else float(x)


def _with_messages(model: PathLike, messages: Sequence[Mapping[str, Any]], **options: Any) -> CommandResult:
    """Messages go through a file; variables of the template as JSON."""
    values = options.get("template_var")
    if isinstance(values, Mapping):
        options["template_var"] = {k: json.dumps(v) for k, v in values.items()}
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as f:
        json.dump(list(messages), f)
        f.flush()
        return command("chat", model, messages=f.name, **options)


def chat(model: PathLike, messages: Sequence[Mapping[str, Any]], **options: Unpack[ChatOptions]) -> Answer:
    """The model's answer to a conversation: a list of {"role": ..., "content": ...}."""
    r = _with_messages(model, messages, json=True, **options)
    if not r.data:
        raise TenonError("tenon chat: the last message is the assistant's, there is nothing to answer")
    d = r.data[-1]
    return Answer(d["answer"], _FINISH.get(d["finish"], d["finish"]), d["prompt_tokens"], d["new_tokens"])


def chat_prompt(model: PathLike, messages: Sequence[Mapping[str, Any]], **options: Unpack[ChatOptions]) -> str:
    """What the model's chat template makes of a conversation: text to be encoded without special tokens."""
    return _with_messages(model, messages, print_prompt=True, **options).stdout


def inspect(model: PathLike, **options: Unpack[InspectOptions]) -> dict[str, Any]:
    """What is in a model or a library."""
    data = command("inspect", model, json=True, **options).data
    return dict(data)


def perplexity(model: PathLike, text_file: PathLike, **options: Unpack[PerplexityOptions]) -> dict[str, Any]:
    """How well a model predicts a text; with `kl` also how far it is from another one."""
    data = command("perplexity", model, text_file, json=True, **options).data
    return dict(data)


def run_recipe(file: PathLike, **options: Unpack[RecipeOptions]) -> RecipeRun:
    """Runs the steps that a recipe describes, those that were done before not again. `ok` says whether every step was done
    and every limit kept."""
    r = command("run-recipe", file, check=False, json=True, **options)
    if not isinstance(r.data, dict) or "jobs" not in r.data:
        raise _failure("run-recipe", r)
    jobs = tuple(RecipeJob(j["model"], j["step"], j["result"], j["out"], j["values"], tuple(j["broken"]), j)
                 for j in r.data["jobs"])
    return RecipeRun(bool(r.data["ok"]), jobs, r.messages, r.data)
