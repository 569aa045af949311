"""Models shaped like those of transformers: from_pretrained, tensors in, transformers' output types out. torch tensors give
torch tensors, arrays give arrays; nothing of torch or transformers is needed for the latter."""
from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from . import _arrays, cache, hub
from ._arrays import Array
from .embedder import tokens_for
from .errors import TenonError, TenonNotFoundError
from .model import LIBRARY, Entry, Model

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .options import CompileOptions

    PathLike = str | os.PathLike[str]

_PROVIDERS = ("cpu", "CPUExecutionProvider")
# Beside a model, what from_pretrained and AutoTokenizer look for.
_COMPANIONS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
               "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt", "added_tokens.json",
               "chat_template.jinja", "preprocessor_config.json")
Self = TypeVar("Self", bound="TenonModel")


def _library_in(path: Path, file_name: str | None) -> Path | None:
    """The compiled model at a path, if there is one."""
    if not path.is_dir():
        return path if path.suffix == ".so" else None
    if file_name is not None:
        return path / file_name if file_name.endswith(".so") else None
    made = path / LIBRARY
    found = [made] if made.is_file() else sorted(path.glob("lib*.so"))
    if len(found) > 1:
        raise TenonError(f"{path} holds several libraries: name one with file_name")
    return found[0] if found else None


def _source_in(folder: Path, file_name: str | None) -> Path:
    """The model of a folder that is to be compiled: the folder itself, or the one model file in it."""
    if file_name is not None:
        return folder / file_name
    if any(folder.glob("*.safetensors")):
        return folder
    for pattern in ("model.onnx", "onnx/model.onnx", "*.gguf", "*.onnx"):
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            raise TenonError(f"{folder} holds several models: give the path of one")
        if found:
            return found[0]
    return folder


def _made(path: Path, file_name: str | None, export: bool | None, cache_dir: PathLike | None,
          options: Mapping[str, Any]) -> Path:
    """The library that is compiled of what lies at a path."""
    if export is False:
        raise TenonNotFoundError(f"{path} holds no compiled model, and export=False forbids to compile it")
    if path.suffix == ".so":
        raise TenonError(f"{path} is compiled already, export=True needs a model")
    return Path(cache.compiled(_source_in(path, file_name) if path.is_dir() else path, cache_dir, options))


def _copy(source: Path, target: Path) -> None:
    """A copy in place of what was there, which others may have open; nothing where there is no such file."""
    if not source.is_file() or (target.exists() and source.samefile(target)):
        return
    half = target.with_name(target.name + ".part")
    shutil.copyfile(source, half)
    half.replace(target)


class PreTrainedModel:
    """Pipelines of transformers 4 ask for an ancestor of this name."""


class TenonModel(PreTrainedModel):
    """What the classes for each task share. A model is compiled once and kept (`cache_dir`); a folder that
    `save_pretrained` wrote holds it compiled."""

    auto_mapping: ClassVar[str] = ""
    """the list of transformers that names the models of this task"""
    output_class: ClassVar[str] = ""
    entry_name: ClassVar[str] = ""
    """of the entry point on model pages"""
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """fields of the output type, and the names of the output that fills it"""
    what: ClassVar[str] = ""
    main_input_name: ClassVar[str] = "input_ids"
    base_model_prefix: ClassVar[str] = "model"
    input_modalities: ClassVar[tuple[str, ...]] = ("text",)
    hf_device_map: ClassVar[None] = None

    def __init__(self, model: Model, *, config: Any = None, folder: PathLike | None = None) -> None:
        self.model = model
        self.folder = None if folder is None else Path(folder)
        self.config = hub.config(self.folder, model) if config is None else config
        self.entry = self._find_entry()
        hub.register(type(self).__name__, self.auto_mapping)

    @classmethod
    def from_pretrained(cls: type[Self], model_id: PathLike, *, export: bool | None = None, config: Any = None,
                        file_name: str | None = None, cache_dir: PathLike | None = None, revision: str | None = None,
                        local_files_only: bool = False, token: Any = None, provider: str = "cpu",
                        provider_options: Mapping[str, Any] | None = None, threads: int = 0,
                        cores: Sequence[int] = (), **options: Unpack[CompileOptions]) -> Self:
        """Opens a model: a folder of transformers, a GGUF or ONNX file, a library of `tenon compile`, a folder that
        `save_pretrained` wrote, or the name of a repository where huggingface_hub is installed.

        `file_name` is a library or model file in the folder. export=True compiles even where a library lies in the folder, False never compiles. `options` are those of
        `tenon.compile`. provider_options: threads and cores, as the arguments of these names."""
        if provider not in _PROVIDERS:
            raise TenonError(f"no provider {provider}: there is cpu")
        given = dict(provider_options or {})
        threads, cores = int(given.pop("threads", threads)), given.pop("cores", cores)
        if given:
            raise TenonError(f"provider_options: {', '.join(given)} are not known; there are threads and cores")
        path = hub.local(model_id, revision, local_files_only, token)
        folder = path if path.is_dir() else path.parent
        library = _library_in(path, file_name)
        if library is None or export:
            library = _made(path, file_name, export, cache_dir, options)
        elif options:
            raise TypeError(f"{library} is compiled already: {', '.join(options)} cannot be applied; use export=True")
        return cls(Model(library, threads=threads, cores=cores), config=config, folder=folder)

    def save_pretrained(self, folder: PathLike, **_: Any) -> None:
        """Writes the library, and the configuration and tokenizer files, so that from_pretrained finds them."""
        target, library = Path(folder), Path(self.model.path)
        target.mkdir(parents=True, exist_ok=True)
        _copy(library, target / LIBRARY)
        weights = library.with_suffix(".weights")  # of weights="external"; the library knows the name
        _copy(Path(self.model.weights_path or weights), target / weights.name)
        if self.folder is not None:
            for name in _COMPANIONS:
                _copy(self.folder / name, target / name)
        if not (target / "config.json").exists():
            self.config.save_pretrained(target)

    # ---- what pipelines ask

    def can_generate(self) -> bool:
        return False

    @property
    def device(self) -> Any:
        t = _torch()
        return "cpu" if t is None else t.device("cpu")

    @property
    def dtype(self) -> Any:
        t = _torch()
        return np.dtype(np.float32) if t is None else t.float32

    def to(self: Self, *args: Any, **_: Any) -> Self:
        """Models stay on the CPU; tensors on another device are copied."""
        device = next((str(a) for a in args if str(a).split(":")[0] not in ("cpu", "torch.float32")), None)
        if device is not None:
            warnings.warn(f"a tenon model stays on the CPU, it does not go to {device}", stacklevel=2)
        return self

    def eval(self: Self) -> Self:
        return self

    # ---- running

    def _find_entry(self) -> Entry:
        """By the name that model pages give it; of an ONNX file, the entry point that has the outputs."""
        named = self.model.entries.get(self.entry_name)
        if named is not None:
            return named
        pages = any(e in self.model.entries for e in ("encode", "logits"))
        for e in () if pages else self.model.entries.values():
            names = [o.name for o in e.outputs]
            if all(any(n in names for n in sources) for sources in self.fields.values()):
                return e
        raise TenonError(f"{self.model.name} is no model for {self.what}: its entry points are "
                         f"{', '.join(self.model.entries)}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(self, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None,
                return_dict: bool | None = None, **others: Any) -> Any:
        """The outputs for token ids [batch, tokens]; where the mask is 0 there is padding."""
        refuse(others)
        ids = two_dimensional(input_ids)
        mask = np.ones_like(ids) if attention_mask is None else two_dimensional(attention_mask)
        types = np.zeros_like(ids) if token_type_ids is None else two_dimensional(token_type_ids)
        tokens = tokens_for(self.entry, {"ids": ids, "mask": mask, "types": types})
        return self._wrap(self.model.run(tokens, self.entry.name), _arrays.is_torch(input_ids), return_dict)

    def _wrap(self, got: Mapping[str, Array], torch: bool, return_dict: bool | None) -> Any:
        values = {field: got[next(n for n in names if n in got)] for field, names in self.fields.items()}
        converted = {k: _arrays.to_torch(v) if torch else v for k, v in values.items()}
        return tuple(converted.values()) if return_dict is False else hub.output(self.output_class, converted)


def _torch() -> Any:
    import sys

    return sys.modules.get("torch")


def two_dimensional(x: Any) -> Array:
    """Token ids, a mask or types as an array [batch, tokens] of integers."""
    if x is None:
        raise TypeError("input_ids is missing")
    array: Array = _arrays.from_torch(x) if _arrays.is_torch(x) else np.asarray(x)
    if array.ndim != 2 or array.dtype.kind not in "iub":
        raise TypeError(f"expected integers [batch, tokens], got {array.dtype}{list(array.shape)}")
    return array if array.dtype.kind != "b" else array.astype(np.int64)


def refuse(others: Mapping[str, Any]) -> None:
    """Arguments of transformers' models that would change the result are refused by name."""
    for name, value in others.items():
        off = value is False and name in ("output_attentions", "output_hidden_states")
        if value is not None and name != "use_cache" and not off:
            raise TypeError(f"{name}={' '.join(repr(value).split())[:40]} is not supported by a compiled model")


class TenonModelForFeatureExtraction(TenonModel):
    """Hidden states, in place of AutoModel."""

    output_class, entry_name, what = "BaseModelOutput", "encode", "feature extraction"
    auto_mapping = "MODEL_MAPPING_NAMES"
    fields = {"last_hidden_state": ("hidden", "last_hidden_state", "token_embeddings")}


class TenonModelForSequenceClassification(TenonModel):
    """Scores of classes for a text."""

    output_class, entry_name, what = "SequenceClassifierOutput", "classify", "text classification"
    auto_mapping = "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES"
    fields = {"logits": ("logits",)}


class TenonModelForTokenClassification(TenonModel):
    """Scores of classes for each token."""

    output_class, entry_name, what = "TokenClassifierOutput", "classify_tokens", "token classification"
    auto_mapping = "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES"
    fields = {"logits": ("logits",)}


class TenonModelForQuestionAnswering(TenonModel):
    """Scores of each token as the beginning and the end of an answer."""

    output_class, entry_name, what = "QuestionAnsweringModelOutput", "answer", "question answering"
    auto_mapping = "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES"
    fields = {"start_logits": ("start", "start_logits"), "end_logits": ("end", "end_logits")}


class TenonModelForMaskedLM(TenonModel):
    """Scores of the vocabulary for each token."""

    output_class, entry_name, what = "MaskedLMOutput", "fill_mask", "mask filling"
    auto_mapping = "MODEL_FOR_MASKED_LM_MAPPING_NAMES"
    fields = {"logits": ("logits",)}
