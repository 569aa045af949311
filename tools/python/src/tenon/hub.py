"""What transformers gives where it is installed - configurations, output types, its lists of models - and plain Python in
its place where it is not."""
from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .errors import TenonNotFoundError
from .model import Model


def transformers() -> Any:
    """The package; None: it is not installed."""
    try:
        return importlib.import_module("transformers")
    except ImportError:
        return None


class Output(dict[str, Any]):
    """The outputs of a model by name: as a mapping, as attributes, and by number."""

    def __getitem__(self, key: str | int | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(self.values())


def output(kind: str, values: Mapping[str, Any]) -> Any:
    """transformers' output type of that name, filled."""
    t = transformers()
    if t is None:
        return Output(values)
    module = "generation" if kind.startswith("Generate") else "modeling_outputs"
    return getattr(importlib.import_module(f"transformers.{module}"), kind)(**values)


class Config(SimpleNamespace):
    """A config.json, or what an artefact says of itself."""

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def to_diff_dict(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if v is not None}

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        Path(folder, "config.json").write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")


def _from_meta(model: Model) -> dict[str, Any]:
    """What a configuration says, as far as the artefact knows it."""
    eos = [int(x) for x in model.meta.get("eos", "").replace(",", " ").split()]
    values: dict[str, Any] = {"model_type": model.meta.get("model_type", "tenon")}
    for key, name in (("vocab", "vocab_size"), ("pad", "pad_token_id"), ("bos", "bos_token_id"),
                      ("max_positions", "max_position_embeddings")):
        if model.meta.get(key, "").isdigit():
            values[name] = int(model.meta[key])
    if eos:
        values["eos_token_id"] = eos[0] if len(eos) == 1 else eos
    if model.labels:
        values["id2label"] = model.labels
        values["label2id"] = {v: k for k, v in model.labels.items()}
        values["num_labels"] = len(model.labels)
    for key in ("architecture", "problem_type"):
        if key in model.meta:
            values["architectures" if key == "architecture" else key] = (
                [model.meta[key]] if key == "architecture" else model.meta[key])
    return values


def config(folder: Path | None, model: Model) -> Any:
    """The configuration of a folder, or of an artefact alone."""
    t, path = transformers(), folder / "config.json" if folder else None
    if path is not None and path.is_file():
        if t is not None:
            return t.AutoConfig.from_pretrained(str(folder))
        values = json.loads(path.read_text(encoding="utf-8"))
        labels = {int(k): v for k, v in (values.get("id2label") or {0: "LABEL_0", 1: "LABEL_1"}).items()}
        return Config(**{**values, "id2label": labels, "label2id": {v: k for k, v in labels.items()},
                         "num_labels": len(labels)})
    values = _from_meta(model)
    if t is None:
        return Config(**values)
    kind = values.pop("model_type")
    values.pop("num_labels", None)
    known = t.CONFIG_MAPPING[kind] if kind in t.CONFIG_MAPPING else t.PretrainedConfig
    return known(**values)


def generation_config(folder: Path | None, config: Any) -> Any:
    """generation_config.json, or what the configuration says about generation."""
    t, path = transformers(), folder / "generation_config.json" if folder else None
    there = path is not None and path.is_file()
    if t is not None:
        return t.GenerationConfig.from_pretrained(str(folder)) if there else t.GenerationConfig.from_model_config(config)
    if path is not None and there:
        return Config(**json.loads(path.read_text(encoding="utf-8")))
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return Config(**{n: getattr(config, n, None) for n in names})


def register(class_name: str, mapping: str) -> None:
    """Adds a class to the list of those that a pipeline of transformers takes without a complaint."""
    if mapping and transformers() is not None:
        auto = importlib.import_module("transformers.models.auto.modeling_auto")
        getattr(auto, mapping, {}).setdefault("tenon", class_name)


def local(model_id: str | os.PathLike[str], revision: str | None, local_files_only: bool, token: Any) -> Path:
    """A path as it is; the name of a repository as the folder that huggingface_hub keeps it in."""
    path = Path(model_id)
    if path.exists():
        return path
    name = os.fspath(model_id)
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise TenonNotFoundError(f"{name}: there is no such model")
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError:
        raise TenonNotFoundError(f"{name}: there is no such folder or file; to fetch it by name, install huggingface_hub"
                                 ) from None
    wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    return Path(hub.snapshot_download(name, revision=revision, allow_patterns=wanted, token=token,
                                      local_files_only=local_files_only))
