#!/usr/bin/env python3
"""Writes broken model folders and GGUF files, each with what tenon must say about it.

    make_hostile.py OUT        # OUT/NAME/ per case, and OUT/expected.json

A case breaks one rule of one of the tiny folders of tests/parity, or of a file (hostile_gguf.py). `file` and `words`
must be in the error; `errors` is how many there must be (0: at least one, where one wrong number breaks many
tensors). Standard library only.
"""
import json
import os
import shutil
import sys

import hostile_gguf
import hostile_onnx

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "..", "parity", "models")
CASES = {}


def case(name, base, file, words, errors=1, args=("check", "{}")):
    """Registers the function that breaks a copy of `base` (None: an empty folder)."""
    def register(function):
        assert name not in CASES, name
        CASES[name] = dict(base=base, file=file, words=[words] if isinstance(words, str) else words, errors=errors,
                           args=list(args), function=function)
        return function
    return register


# ---- safetensors -----------------------------------------------------------------------------------------------

class Tensors:
    """A safetensors file as header (name -> entry) and data, both free to be wrong."""

    def __init__(self, path):
        self.path = path
        raw = open(path, "rb").read()
        n = int.from_bytes(raw[:8], "little")
        self.header, self.data = json.loads(raw[8:8 + n]), raw[8 + n:]

    def names(self):
        """By place in the file."""
        return sorted((k for k in self.header if k != "__metadata__"), key=lambda k: self.header[k]["data_offsets"])

    def save(self, text=None, length=None):
        text = json.dumps(self.header).encode() if text is None else text
        with open(self.path, "wb") as f:
            f.write((len(text) if length is None else length).to_bytes(8, "little") + text + self.data)


def st_case(name, words, base="bert-model", errors=1):
    def register(function):
        def change(folder):
            function(Tensors(os.path.join(folder, "model.safetensors")))
        case(name, base, "model.safetensors", words, errors)(change)
    return register


@st_case("st-empty", "cut off: 0 bytes")
def _(t): open(t.path, "wb").close()


@st_case("st-7-bytes", "cut off: 7 bytes")
def _(t): open(t.path, "wb").write(b"\2\0\0\0\0\0\0")


@st_case("st-cut-in-header", "cut off: header length")
def _(t): t.data = b""; t.save(); os.truncate(t.path, 500)


@st_case("st-cut-in-data", ["tensor '", "ends at byte"])
def _(t): t.data = t.data[:-4]; t.save()


@st_case("st-header-length-overflow", "header length 18446744073709551615 is above")
def _(t): t.save(length=2 ** 64 - 1)


@st_case("st-header-length-limit", "header length 100000001 is above")
def _(t): t.save(length=100000001)


@st_case("st-header-length-past-end", "header length 99999999, but")
def _(t): t.save(length=99999999)


@st_case("st-header-length-zero", "does not begin with '{'")
def _(t): t.save(length=0)


@st_case("st-leading-blank", "does not begin with '{'")
def _(t): t.save(b" " + json.dumps(t.header).encode())


@st_case("st-header-list", "does not begin with '{'")
def _(t): t.save(b"[]")


@st_case("st-bad-json", "not valid JSON")
def _(t): t.save(json.dumps(t.header).encode().replace(b":", b"=", 1))


@st_case("st-bad-utf8", "not UTF-8")
def _(t): t.save(json.dumps(t.header).encode().replace(b"word", b"w\xffrd", 1))


@st_case("st-deep", "deeper than 64")
def _(t): t.save(b'{"a":' + b"[" * 100000 + b"]" * 100000 + b"}")


@st_case("st-duplicate-tensor", "duplicate object key")
def _(t):
    name = t.names()[0]
    t.save(json.dumps(t.header)[:-1].encode() + f', "{name}": {json.dumps(t.header[name])}}}'.encode())


@st_case("st-overlap", ["tensor '", "overlaps tensor '"])
def _(t):
    a, b = t.names()[:2]
    n = t.header[a]["data_offsets"][1]
    t.header[a]["data_offsets"], t.header[b]["data_offsets"] = [0, n], [n - 4, t.header[b]["data_offsets"][1] - 4]
    t.save()


@st_case("st-hole", ["tensor '", "begins at byte"])
def _(t):
    n = t.header[t.names()[-1]]["data_offsets"]
    n[0], n[1] = n[0] + 4, n[1] + 4
    t.data += b"\0" * 4
    t.save()


@st_case("st-trailing", "4 bytes of data belong to no tensor")
def _(t): t.data += b"\0" * 4; t.save()


@st_case("st-offset-too-big", "too big integer")
def _(t): t.header[t.names()[0]]["data_offsets"][1] = 2 ** 64; t.save()


@st_case("st-offset-huge", ["tensor '", "ends at byte 4611686018427387904"])
def _(t): t.header[t.names()[0]]["data_offsets"][1] = 2 ** 62; t.save()


@st_case("st-offsets-reversed", ["tensor '", "not two offsets in order"])
def _(t): t.header[t.names()[1]]["data_offsets"].reverse(); t.save()


@st_case("st-offset-negative", ["tensor '", "not two offsets in order"])
def _(t): t.header[t.names()[0]]["data_offsets"] = [-4, 0]; t.save()


@st_case("st-offset-real", ["tensor '", "not two offsets in order"])
def _(t): t.header[t.names()[0]]["data_offsets"][0] = 0.0; t.save()


@st_case("st-shape-overflow", ["tensor '", "64 bits"])
def _(t): t.header[t.names()[0]]["shape"] = [2 ** 40, 2 ** 40]; t.save()


@st_case("st-shape-negative", ["tensor '", "dim 0 of its shape is not a size"])
def _(t): t.header[t.names()[0]]["shape"][0] *= -1; t.save()


@st_case("st-shape-wrong", ["tensor '", "its shape and dtype need"])
def _(t): t.header[t.names()[0]]["shape"][0] += 1; t.save()


@st_case("st-rank-9", ["tensor '", "has 9 dims"])
def _(t):
    e = t.header[t.names()[0]]
    e["shape"] = [1] * (9 - len(e["shape"])) + e["shape"]
    t.save()


@st_case("st-dtype-unknown", ["tensor '", "dtype 'F99'"])
def _(t): t.header[t.names()[0]]["dtype"] = "F99"; t.save()


@st_case("st-dtype-unsupported", ["tensor 'x'", "dtype C64 is not supported"])
def _(t):
    t.header["x"] = dict(dtype="C64", shape=[1], data_offsets=[len(t.data), len(t.data) + 8])
    t.data += b"\0" * 8
    t.save()


@st_case("st-f4-half-byte", ["tensor 'x'", "do not fill whole bytes"])
def _(t):
    t.header["x"] = dict(dtype="F4", shape=[3], data_offsets=[len(t.data), len(t.data) + 1])
    t.data += b"\0"
    t.save()


@st_case("st-metadata-number", ["__metadata__", "not a string"])
def _(t): t.header["__metadata__"] = {"format": 1}; t.save()


@st_case("st-entry-missing-shape", ["tensor '", "has no 'shape'"])
def _(t): del t.header[t.names()[0]]["shape"]; t.save()


@st_case("st-name-control", "control characters")
def _(t): t.header["a\x1b[31m"] = t.header.pop(t.names()[0]); t.save()


@st_case("st-directory", "cannot be read")
def _(t): os.remove(t.path); os.mkdir(t.path)


@st_case("st-fifo", "cannot be read")
def _(t): os.remove(t.path); os.mkfifo(t.path)


@st_case("st-link-out", "leads out of the model folder")
def _(t):
    os.rename(t.path, os.path.join(os.path.dirname(t.path), "..", "outside.safetensors"))
    os.symlink("../outside.safetensors", t.path)


@st_case("st-link-loop", "cannot be opened")
def _(t): os.remove(t.path); os.symlink("model.safetensors", t.path)


@st_case("st-link-dangling", "no such file")
def _(t): os.remove(t.path); os.symlink("nowhere", t.path)


# ---- tensors against the page ------------------------------------------------------------------------------------

@case("tensor-missing", "bert-model", "", "embeddings.LayerNorm.bias")
def _(folder):
    t = Tensors(os.path.join(folder, "model.safetensors"))
    t.header["not.the.name"] = t.header.pop("embeddings.LayerNorm.bias")
    t.save()


@case("tensor-transposed", "bert-model", "", "encoder.layer.1.intermediate.dense.weight")
def _(folder):
    t = Tensors(os.path.join(folder, "model.safetensors"))
    t.header["encoder.layer.1.intermediate.dense.weight"]["shape"].reverse()
    t.save()


@case("tensor-rank", "bert-model", "", "embeddings.LayerNorm.weight")
def _(folder):
    t = Tensors(os.path.join(folder, "model.safetensors"))
    t.header["embeddings.LayerNorm.weight"]["shape"] = [1, 48]
    t.save()


@case("tensor-integer", "bert-model", "bert.model", ["matmul", "i32[48, 84]"])
def _(folder):
    t = Tensors(os.path.join(folder, "model.safetensors"))
    t.header["encoder.layer.0.output.dense.weight"]["dtype"] = "I32"
    t.save()


# ---- shards --------------------------------------------------------------------------------------------------------

INDEX = "model.safetensors.index.json"
SHARD = "model-00002-of-00004.safetensors"


def index_case(name, file, words, errors=1):
    def register(function):
        def change(folder):
            path = os.path.join(folder, INDEX)
            index = json.load(open(path))
            text = function(folder, index)
            with open(path, "w") as f:
                f.write(text if isinstance(text, str) else json.dumps(index))
        case(name, "llama", file, words, errors)(change)
    return register


def first(index):
    return sorted(index["weight_map"])[0]


@index_case("index-missing-shard", SHARD, "no such file")
def _(folder, index): os.remove(os.path.join(folder, SHARD))


@index_case("index-escapes", INDEX, ["tensor 'lm_head.weight'", "plain name", "../outside.safetensors"])
def _(folder, index): index["weight_map"][first(index)] = "../outside.safetensors"


@index_case("index-absolute", INDEX, ["tensor 'lm_head.weight'", "plain name"])
def _(folder, index): index["weight_map"][first(index)] = "/etc/model.safetensors"


@index_case("index-names-itself", INDEX, ["tensor 'lm_head.weight'", "plain name"])
def _(folder, index): index["weight_map"][first(index)] = INDEX


@index_case("index-shard-number", INDEX, ["tensor 'lm_head.weight'", "plain name"])
def _(folder, index): index["weight_map"][first(index)] = 2


@index_case("index-list", INDEX, "a list where an object is expected")
def _(folder, index): return "[]"


@index_case("index-no-map", INDEX, ["weight_map", "is missing"])
def _(folder, index): del index["weight_map"]


@index_case("index-map-list", INDEX, ["weight_map", "not an object"])
def _(folder, index): index["weight_map"] = []


@index_case("index-empty", INDEX, "empty")
def _(folder, index): return ""


@index_case("index-bad-json", INDEX, "not valid JSON")
def _(folder, index): return json.dumps(index)[:-3]


@index_case("index-duplicate", INDEX, "duplicate object key")
def _(folder, index): return json.dumps(index).replace("model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj")


@index_case("index-tensor-elsewhere", INDEX, ["tensor 'ghost'", "is not in its shard"])
def _(folder, index): index["weight_map"]["ghost"] = SHARD


@index_case("index-tensor-unnamed", SHARD, ["tensor '", "is not named by"])
def _(folder, index): del index["weight_map"][next(k for k, v in index["weight_map"].items() if v == SHARD)]


@index_case("index-tensor-twice", "copy.safetensors", ["is also in"], errors=0)
def _(folder, index):
    shutil.copy(os.path.join(folder, SHARD), os.path.join(folder, "copy.safetensors"))
    index["weight_map"]["ghost"] = "copy.safetensors"


@index_case("index-shard-link-out", SHARD, "leads out of the model folder")
def _(folder, index):
    os.rename(os.path.join(folder, SHARD), os.path.join(folder, "..", "outside-shard.safetensors"))
    os.symlink("../outside-shard.safetensors", os.path.join(folder, SHARD))


@index_case("index-shard-cut", SHARD, "ends at byte")
def _(folder, index):
    path = os.path.join(folder, SHARD)
    os.truncate(path, os.path.getsize(path) - 1)


@case("index-link-loop", "llama", INDEX, "cannot be opened")
def _(folder):
    os.remove(os.path.join(folder, INDEX))
    os.symlink("b.json", os.path.join(folder, INDEX))
    os.symlink(INDEX, os.path.join(folder, "b.json"))


# ---- config.json ---------------------------------------------------------------------------------------------------

def config_case(name, words, base="bert-model", file="config.json", errors=1, change=None, text=None):
    """`change`: keys to set (None removes); `text`: a function from the right text to a wrong one."""
    def apply(folder):
        path = os.path.join(folder, "config.json")
        right = open(path).read()
        if change is not None:
            config = json.loads(right)
            for key, value in change.items():
                config.pop(key, None) if value is None else config.__setitem__(key, value)
            right = json.dumps(config, indent=2)
        wrong = text(right) if text else right
        with open(path, "wb") as f:
            f.write(wrong if isinstance(wrong, bytes) else wrong.encode())
    case(name, base, file, words, errors)(apply)


config_case("config-empty", "empty", text=lambda s: "")
config_case("config-list", "a list where an object is expected", text=lambda s: "[]")
config_case("config-number", "an integer where an object is expected", text=lambda s: "3")
config_case("config-bad-json", ["config.json:3", "not valid JSON"], text=lambda s: "{\n\n  'hidden_size': 48}")
config_case("config-cut", "not valid JSON", text=lambda s: s[:100])
config_case("config-trailing", "not valid JSON", text=lambda s: s + "x")
config_case("config-bad-utf8", ["config.json:3", "not UTF-8"], text=lambda s: s.encode().replace(b"arch", b"\xc0\xafrch"))
config_case("config-bom", "not valid JSON", text=lambda s: b"\xef\xbb\xbf" + s.encode())
config_case("config-nul", "control character 0x0", text=lambda s: s.replace("48", "4\0"))
config_case("config-deep", "deeper than 64", text=lambda s: s[:-3] + ', "x": ' + '{"x":' * 5000 + "1" + "}" * 5001)
config_case("config-duplicate", "duplicate object key", text=lambda s: s.replace('"hidden_size"', '"hidden_size": 64, "hidden_size"'))
config_case("config-big-integer", "too big integer", text=lambda s: s.replace("48", "9" * 40))
config_case("config-big-real", "overflow", text=lambda s: s.replace("1e-12", "1e999"))

config_case("config-architecture-unknown", ["BertForMaskedLMs", "did you mean 'BertForMaskedLM'"], change={"architectures": ["BertForMaskedLMs"]})
config_case("config-architecture-far", ["'architectures'", "MadeUpModel"], change={"architectures": ["MadeUpModel"]})
config_case("config-architecture-family", ["LlamaForThinking", "LlamaForCausalLM"], base="llama-tied", change={"architectures": ["LlamaForThinking"]})
config_case("config-architecture-string", "'architectures'", change={"architectures": "BertModel"})
config_case("config-architecture-number", "'architectures'", change={"architectures": [7]})
config_case("config-architecture-empty", "'architectures'", change={"architectures": []})
config_case("config-no-architecture", "'architectures'", change={"architectures": None, "model_type": None})
config_case("config-model-type-number", "'model_type'", change={"model_type": 3})
config_case("config-quantized", ["'quant_method'", "hqq"], change={"quantization_config": {"quant_method": "hqq", "nbits": 4}})
config_case("config-quantized-bits", ["'bits'", "is 5"], change={"quantization_config": {"quant_method": "gptq", "bits": 5}})
config_case("config-quantized-version", ["'version'", "gemv"], change={"quantization_config": {"quant_method": "awq", "bits": 4, "version": "gemv"}})
config_case("config-quantized-list", ["'quantization_config'", "not an object"], change={"quantization_config": [4]})
config_case("config-quantized-none", ["'quant_method'", "no tensor is packed"], change={"quantization_config": {"quant_method": "gptq", "bits": 4}})
config_case("config-alias-conflict", ["'n_embd'", "64", "48"], change={"n_embd": 64})

config_case("config-hidden-zero", ["'hidden_size'", "is 0"], change={"hidden_size": 0})
config_case("config-hidden-string", ["'hidden_size'", "a string"], change={"hidden_size": "48"})
config_case("config-hidden-list", ["'hidden_size'", "a list"], change={"hidden_size": [48]})
config_case("config-heads-real", ["'num_attention_heads'", "a number"], change={"num_attention_heads": 3.0})
config_case("config-layers-negative", ["'num_hidden_layers'", "is -2"], change={"num_hidden_layers": -2})
config_case("config-layers-huge", ["'num_hidden_layers'"], change={"num_hidden_layers": 10 ** 12})
config_case("config-vocab-huge", ["'vocab_size'"], change={"vocab_size": 2 ** 40})
config_case("config-positions-zero", ["'max_position_embeddings'", "is 0"], change={"max_position_embeddings": 0})
config_case("config-eps-nan", ["'layer_norm_eps'"], text=lambda s: s.replace("1e-12", "NaN"))
config_case("config-eps-infinite", ["'layer_norm_eps'"], text=lambda s: s.replace("1e-12", "Infinity"))
config_case("config-eps-negative", ["'layer_norm_eps'"], change={"layer_norm_eps": -1e-5})
config_case("config-eps-string", ["'layer_norm_eps'"], change={"layer_norm_eps": "1e-5"})

# What only the page can see: its message names the page's line and the key or tensor.
config_case("config-hidden-missing", "hidden_size", file="", change={"hidden_size": None})
config_case("config-positions-relative", ["position_embedding_type", "relative_key"], file="", change={"position_embedding_type": "relative_key"})
config_case("config-decoder", "is_decoder", file="", change={"is_decoder": True})
config_case("config-act-unknown", "swishish", file="", change={"hidden_act": "swishish"})
config_case("config-act-number", ["'hidden_act'", "not a string"], change={"hidden_act": 5})
config_case("config-layers-many", "encoder.layer.2.", file="", errors=0, change={"num_hidden_layers": 3})
config_case("config-layers-absurd", "2000000000", file="", change={"num_hidden_layers": 2000000000})
config_case("config-hidden-other", ["48", "96"], file="bert.model", errors=0, change={"hidden_size": 96})
config_case("config-heads-odd", "48 / 5", file="", errors=0, change={"num_attention_heads": 5})
config_case("config-vocab-other", ["word_embeddings", "2147483647"], base="bert-mlm", file="", errors=2, change={"vocab_size": 2 ** 31 - 1})
config_case("config-rope-unknown", "spiral", base="llama-tied", file="", change={"rope_parameters": {"rope_type": "spiral", "rope_theta": 10000.0}})
config_case("config-rope-number", "rope parameters", base="llama-tied", file="", change={"rope_parameters": 3})
config_case("config-rope-no-factor", "factor", base="llama-tied", file="", change={"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0}})
config_case("config-rope-theta-zero", "rope_theta", base="llama-tied", file="", change={"rope_parameters": {"rope_type": "default", "rope_theta": 0}})
config_case("config-kv-heads-odd", "heads", base="llama-tied", file="", errors=0, change={"num_key_value_heads": 2})
config_case("config-cross-attention", "add_cross_attention", base="gpt2", file="", change={"add_cross_attention": True})


@case("config-untied-without-head", "llama", "", "lm_head")
def _(folder):
    index = json.load(open(os.path.join(folder, INDEX)))
    shard = os.path.join(folder, index["weight_map"].pop("lm_head.weight"))
    t = Tensors(shard)
    begin, end = t.header.pop("lm_head.weight")["data_offsets"]
    for e in t.header.values():
        if "data_offsets" in e and e["data_offsets"][0] >= end:
            e["data_offsets"] = [o - (end - begin) for o in e["data_offsets"]]
    t.data = t.data[:begin] + t.data[end:]
    t.save()
    json.dump(index, open(os.path.join(folder, INDEX), "w"))


@case("config-directory", "bert-model", "config.json", "cannot be read")
def _(folder): os.remove(os.path.join(folder, "config.json")); os.mkdir(os.path.join(folder, "config.json"))


@case("config-link-out", "bert-model", "config.json", "leads out of the model folder")
def _(folder):
    os.rename(os.path.join(folder, "config.json"), os.path.join(folder, "..", "outside-config.json"))
    os.symlink("../outside-config.json", os.path.join(folder, "config.json"))


@case("config-missing", "bert-model", "config.json", "no such file")
def _(folder): os.remove(os.path.join(folder, "config.json"))


# ---- other files of the folder ---------------------------------------------------------------------------------------

def write(folder, name, value):
    os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
    with open(os.path.join(folder, name), "w") as f:
        f.write(value if isinstance(value, str) else json.dumps(value))


def replace_weights(folder, name):
    os.rename(os.path.join(folder, "model.safetensors"), os.path.join(folder, name))


case("weights-missing", "bert-model", "model.safetensors", "no such file")(
    lambda f: os.remove(os.path.join(f, "model.safetensors")))
case("weights-pickled", "bert-model", "pytorch_model.bin", "save it again")(lambda f: replace_weights(f, "pytorch_model.bin"))
case("weights-tensorflow", "bert-model", "tf_model.h5", "TensorFlow")(lambda f: replace_weights(f, "tf_model.h5"))
case("weights-adapter", "bert-model", "adapter_model.safetensors", "merge")(
    lambda f: replace_weights(f, "adapter_model.safetensors"))


@case("adapter-only", None, "adapter_config.json", "merge")
def _(folder): write(folder, "adapter_config.json", {"peft_type": "LORA"})


@case("diffusers", None, "model_index.json", "diffusers")
def _(folder): write(folder, "model_index.json", {"_class_name": "StableDiffusionPipeline"})


case("folder-empty", None, "folder-empty", "config.json")(lambda f: None)
case("folder-missing", None, "folder-missing", "")(lambda f: os.rmdir(f))

case("generation-bad-json", "llama-tied", "generation_config.json", "not valid JSON")(
    lambda f: write(f, "generation_config.json", "{"))
case("generation-eos-string", "llama-tied", "generation_config.json", "'eos_token_id'")(
    lambda f: write(f, "generation_config.json", {"eos_token_id": ["x"]}))
case("generation-eos-huge", "llama-tied", "generation_config.json", "'eos_token_id'")(
    lambda f: write(f, "generation_config.json", {"eos_token_id": 2 ** 40}))

MODULES = [dict(type="sentence_transformers.models.Transformer", path=""),
           dict(type="sentence_transformers.models.Pooling", path="1_Pooling")]
for name, file, words, value in (
        ("object", "modules.json", "an object where a list is expected", {}),
        ("dense", "modules.json", "Dense", MODULES + [dict(type="sentence_transformers.models.Dense", path="2_Dense")]),
        ("order", "modules.json", "Pooling", MODULES[::-1]),
        ("no-pooling", "modules.json", "Pooling", MODULES[:1]),
        ("no-type", "modules.json", "'type'", [dict(path="")]),
        ("type-number", "modules.json", "'type'", [dict(type=3)]),
        ("subfolder", "modules.json", "0_Transformer", [dict(MODULES[0], path="0_Transformer"), MODULES[1]]),
        ("escape", "../1_Pooling/config.json", "plain name", [MODULES[0], dict(MODULES[1], path="../1_Pooling")]),
        ("nowhere", "9_Pooling/config.json", "no such file", [MODULES[0], dict(MODULES[1], path="9_Pooling")])):
    case(f"modules-{name}", "sentence-mean", file, words, errors=0 if name == "type-number" else 1)(
        lambda f, value=value: write(f, "modules.json", value))
for name, words, value in (
        ("two", "2 pooling modes", dict(pooling_mode_cls_token=True, pooling_mode_mean_tokens=True)),
        ("none", "0 pooling modes", {}),
        ("sqrt", "pooling_mode_mean_sqrt_len_tokens", dict(pooling_mode_mean_sqrt_len_tokens=True)),
        ("word", "'median'", dict(pooling_mode="median"))):
    case(f"pooling-{name}", "sentence-mean", "1_Pooling/config.json", words)(
        lambda f, value=value: write(f, "1_Pooling/config.json", value))
case("sentence-length", "sentence-mean", "sentence_bert_config.json", "'max_seq_length'")(
    lambda f: write(f, "sentence_bert_config.json", {"max_seq_length": 0}))

COMPILE = ("compile", "{}", "-o", "{}.so")
for name, words, value in (("empty", "empty", ""), ("bad-json", "not valid JSON", "{"), ("list", "", "[]"),
                           ("no-model", "model", "{}"), ("model-unknown", "Tarot", '{"model": {"type": "Tarot"}}')):
    case(f"tokenizer-{name}", "bert-model", "tokenizer.json", words, args=COMPILE)(
        lambda f, value=value: write(f, "tokenizer.json", value))
case("tokenizer-missing", "bert-cls", "", "tokenizer", args=("run", "{}", "--text", "hello"))(lambda f: None)


hostile_gguf.register(case)
hostile_onnx.register(case)


def make(out):
    expected = []
    for name, c in CASES.items():
        folder = os.path.join(out, name)
        os.makedirs(folder)
        if c["base"]:
            shutil.copytree(os.path.join(MODELS, c["base"]), folder, dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("goldens.safetensors"))
        c["function"](folder)
        expected.append(dict(name=name, file=c["file"], words=c["words"], errors=c["errors"],
                             args=[a.format(folder) for a in c["args"]]))
    with open(os.path.join(out, "expected.json"), "w") as f:
        json.dump(expected, f, indent=1)
    return expected


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    os.makedirs(sys.argv[1])
    print(f"{len(make(sys.argv[1]))} folders")
