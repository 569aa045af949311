#!/usr/bin/env python3
"""Exports tiny seeded models with both torch exporters, Optimum and ONNX Runtime, and stores what PyTorch computes.

    python3 make.py [--optimum PYTHON] [--goldens] [NAME...]      # all rows of EXPORTS, or those named

Writes models/NAME.onnx, goldens/MODEL.safetensors (shared by all exports of one model) and manifest.json: for each
file the model, the exporter with its version, the opset, and how many fusions of each kind the model has. Sizes are
off every vector width; batch and sequence are dynamic. In the goldens `CASE.in.NAME` and `CASE.out.NAME` are inputs
and outputs of one call (float32, ids int64); decoders with past also have `generate.prompt`, `.tokens` (greedy, by the
model itself with its own cache), `.gaps` (top-1 logit minus top-2 logit, per step) and `.logits` of prompt and tokens.

Optimum's exporter wants transformers 4; --optimum names a Python that has both (pip install optimum-onnx). It gets the
same weights as a folder. What the exporters note about the place where they ran is removed from the files.

With torch 2.13, transformers 5.23, onnxscript 0.7 and optimum-onnx 0.1 these need help or fail:

    whisper decoder   script    aten::diff is not supported; it is not reached when the decoder's mask is given: it is
    t5, whisper       optimum   writes the parts that the torch rows already hold, by the exporter of the script rows
    decoders          dynamo    a size that is 1 in the example becomes the constant 1: the examples have more
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")
import onnx
import torch
import transformers
from safetensors.torch import save_file
from transformers import DynamicCache, EncoderDecoderCache

HERE = os.path.dirname(os.path.abspath(__file__))
HIDDEN, HEADS, LAYERS, VOCAB, HEAD, INNER = 24, 3, 2, 67, 8, 36
NEW_TOKENS = 20
warnings.filterwarnings("ignore")

TEXT = dict(vocab_size=VOCAB, bos_token_id=None, eos_token_id=None, pad_token_id=None)
BERT = dict(vocab_size=VOCAB, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
            intermediate_size=INNER, max_position_embeddings=40, type_vocab_size=2)
DISTIL = dict(vocab_size=VOCAB, dim=HIDDEN, n_layers=LAYERS, n_heads=HEADS, hidden_dim=INNER,
              max_position_embeddings=40)
GPT2 = dict(TEXT, n_embd=HIDDEN, n_layer=LAYERS, n_head=HEADS, n_positions=40, n_inner=INNER)
LLAMA = dict(TEXT, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=2,
             head_dim=8, intermediate_size=INNER, max_position_embeddings=40, tie_word_embeddings=False)
T5 = dict(vocab_size=VOCAB, d_model=HIDDEN, d_kv=HEAD, d_ff=INNER, num_layers=LAYERS, num_heads=HEADS, pad_token_id=0,
          eos_token_id=None, decoder_start_token_id=0, feed_forward_proj="gated-gelu")
VIT = dict(hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=INNER,
           image_size=16, patch_size=4, num_labels=5)
TOWER = dict(hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=INNER)
CLIP = dict(projection_dim=20, text_config=dict(TOWER, vocab_size=VOCAB, max_position_embeddings=24,
                                                eos_token_id=VOCAB - 1, bos_token_id=VOCAB - 2),
            vision_config=dict(TOWER, image_size=16, patch_size=4))
WHISPER = dict(vocab_size=VOCAB, d_model=HIDDEN, encoder_layers=LAYERS, decoder_layers=LAYERS,
               encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, encoder_ffn_dim=INNER,
               decoder_ffn_dim=INNER, num_mel_bins=8, max_source_positions=20, max_target_positions=40, pad_token_id=0,
               bos_token_id=1, eos_token_id=None, decoder_start_token_id=1, suppress_tokens=None,
               begin_suppress_tokens=None)

# Where the versions of the exporters differ, or their spellings do, each is there once.
EXPORTS = {
    name: row for name, *row in (
        ("bert-script-14", "bert", "script", "eager", 14), ("bert-script-17", "bert", "script", "sdpa", 17),
        ("bert-ort", "bert", "ort", "eager", 14), ("bert-dynamo-18", "bert", "dynamo", "sdpa", 18),
        ("bert-optimum", "bert", "optimum", "eager", 18),
        ("distilbert-dynamo-20", "distilbert", "dynamo", "sdpa", 20),
        ("distilbert-optimum", "distilbert", "optimum", "eager", 18),
        ("gpt2-script-14", "gpt2", "script", "eager", 14),
        ("gpt2-dynamo-18", "gpt2", "dynamo", "eager", 18), ("gpt2-dynamo-20", "gpt2", "dynamo", "sdpa", 20),
        ("gpt2-optimum", "gpt2", "optimum", "eager", 18),
        ("llama-script-15", "llama", "script", "eager", 15), ("llama-script-17", "llama", "script", "sdpa", 17),
        ("llama-dynamo-18", "llama", "dynamo", "eager", 18), ("llama-dynamo-20", "llama", "dynamo", "sdpa", 20),
        ("llama-dynamo-23", "llama", "dynamo", "sdpa", 23), ("llama-ort", "llama", "ort", "sdpa", 17),
         ("llama-optimum", "llama", "optimum", "eager", 18),
        ("t5_encoder-script-14", "t5_encoder", "script", "eager", 14),
        ("t5_encoder-dynamo-18", "t5_encoder", "dynamo", "sdpa", 18),
        ("t5_decoder-script-17", "t5_decoder", "script", "sdpa", 17),
        ("t5_decoder-dynamo-18", "t5_decoder", "dynamo", "eager", 18),
        ("t5_decoder_past-script-14", "t5_decoder_past", "script", "eager", 14),
        ("t5_decoder_past-dynamo-20", "t5_decoder_past", "dynamo", "sdpa", 20),
        ("vit-script-16", "vit", "script", "eager", 16), ("vit-dynamo-18", "vit", "dynamo", "sdpa", 18),
        ("clip-script-17", "clip", "script", "sdpa", 17), ("clip-dynamo-18", "clip", "dynamo", "eager", 18),
        ("whisper_encoder-script-17", "whisper_encoder", "script", "sdpa", 17),
        ("whisper_encoder-dynamo-20", "whisper_encoder", "dynamo", "eager", 20),
        ("whisper_decoder-script-14", "whisper_decoder", "script", "eager", 14),
        ("whisper_decoder-dynamo-18", "whisper_decoder", "dynamo", "sdpa", 18),
        ("whisper_decoder_past-script-17", "whisper_decoder_past", "script", "sdpa", 17),
        ("whisper_decoder_past-dynamo-18", "whisper_decoder_past", "dynamo", "eager", 18),
    )
}


def model_of(cls, config, attention):
    torch.manual_seed(sum(map(ord, cls.__name__)))
    config = cls.config_class(**config)
    config._attn_implementation = attention
    model = cls(config).eval()
    with torch.no_grad():  # random biases and norms, so that none is lost unseen; larger logits, so that greedy is sure
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.add_(torch.randn_like(p) * 0.1)
            elif p.dim() == 2:
                p.mul_(4)
    return model


class Plain(torch.nn.Module):
    """A model whose forward takes the inputs by name and gives the outputs named."""

    def __init__(self, model, inputs, outputs):
        super().__init__()
        self.model, self.inputs, self.outputs = model, inputs, outputs

    def forward(self, *args):
        out = self.model(**dict(zip(self.inputs, args)), return_dict=True)
        return tuple(out[name] for name in self.outputs)


def cache_of(past):
    cache = DynamicCache()
    for i in range(0, len(past), 2):
        cache.update(past[i], past[i + 1], i // 2)
    return cache


class Causal(torch.nn.Module):
    """A decoder with past: (ids, attention_mask, position_ids, keys and values...) to (logits, all of them)."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask, positions, *past):
        cache = cache_of(past)
        logits = self.model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache,
                            use_cache=True).logits
        return (logits, *[t for layer in cache.layers for t in (layer.keys, layer.values)])


class Seq2Seq(torch.nn.Module):
    """The decoder of an encoder-decoder, without past or with (self and cross keys and values per layer)."""

    def __init__(self, model, with_past):
        super().__init__()
        self.model, self.with_past = model, with_past

    def forward(self, ids, hidden, *past):
        cache = None
        if self.with_past:
            cache = EncoderDecoderCache(cache_of([t for i in range(0, len(past), 4) for t in past[i:i + 2]]),
                                        cache_of([t for i in range(0, len(past), 4) for t in past[i + 2:i + 4]]))
            for i in range(LAYERS):
                cache.is_updated[i] = True
        more = {}
        if isinstance(self.model, transformers.WhisperForConditionalGeneration):  # else aten::diff, which script lacks
            total = ids.shape[1] + (past[0].shape[2] if past else 0)
            more["decoder_attention_mask"] = ids.new_ones(ids.shape[0], total)
        out = self.model(decoder_input_ids=ids, encoder_outputs=(hidden,), past_key_values=cache,
                         use_cache=self.with_past, **more)
        if not self.with_past:
            return (out.logits,)
        return (out.logits, *[t for layer in cache.self_attention_cache.layers for t in (layer.keys, layer.values)])


class Encoder(torch.nn.Module):
    def __init__(self, encoder, inputs):
        super().__init__()
        self.encoder, self.inputs = encoder, inputs

    def forward(self, *args):
        return (self.encoder(**dict(zip(self.inputs, args))).last_hidden_state,)


class Spec:
    """One model to export: the module, names of its inputs and outputs, their dynamic dims, and inputs for sizes."""

    def __init__(self, module, inputs, outputs, make, sizes, fusions, past=0):
        self.module, self.inputs, self.outputs, self.make, self.sizes = module, inputs, outputs, make, sizes
        self.fusions, self.past = fusions, past


def ids(b, s, most=VOCAB):
    return torch.randint(2, most, (b, s))


def ragged(b, s):
    mask = torch.ones(b, s, dtype=torch.int64)
    for i in range(1, b):
        mask[i, max(1, s - 2 * i):] = 0
    return mask


B, S, P, T = "batch", "sequence", "past", "total"
TEXT_SIZES = [(2, 7), (1, 1), (3, 33)]


def bert(attention):
    m = model_of(transformers.BertModel, BERT, attention)
    names = {"input_ids": {0: B, 1: S}, "attention_mask": {0: B, 1: S}, "token_type_ids": {0: B, 1: S}}
    return Spec(Plain(m, list(names), ["last_hidden_state", "pooler_output"]), names,
                {"last_hidden_state": {0: B, 1: S}, "pooler_output": {0: B}},
                lambda b, s: (ids(b, s), ragged(b, s), torch.randint(0, 2, (b, s))), TEXT_SIZES,
                {"attention": 2, "layer_norm": 5, "gelu": 2})


def distilbert(attention):
    m = model_of(transformers.DistilBertForMaskedLM, DISTIL, attention)
    names = {"input_ids": {0: B, 1: S}, "attention_mask": {0: B, 1: S}}
    return Spec(Plain(m, list(names), ["logits"]), names, {"logits": {0: B, 1: S}},
                lambda b, s: (ids(b, s), ragged(b, s)), TEXT_SIZES, {"attention": 2, "layer_norm": 6, "gelu": 3})


def causal(cls, config, kv_heads, head, fusions):
    def build(attention):
        m = model_of(cls, config, attention)
        names = {"input_ids": {0: B, 1: S}, "attention_mask": {0: B, 1: T}, "position_ids": {0: B, 1: S}}
        outputs = {"logits": {0: B, 1: S}}
        for i in range(LAYERS):
            for kind in ("key", "value"):
                names[f"past_key_values.{i}.{kind}"] = {0: B, 2: P}
                outputs[f"present.{i}.{kind}"] = {0: B, 2: T}

        def make(b, s, p):
            past = [torch.randn(b, kv_heads, p, head) for _ in range(2 * LAYERS)]
            return (ids(b, s), torch.ones(b, p + s, dtype=torch.int64), torch.arange(p, p + s).repeat(b, 1), *past)

        return Spec(Causal(m), names, outputs, make, [(2, 5, 7), (1, 1, 6), (3, 9, 0)], fusions, past=2 * LAYERS)
    return build


gpt2 = causal(transformers.GPT2LMHeadModel, GPT2, HEADS, HEAD, {"attention": 2, "layer_norm": 5, "gelu": 2})
llama = causal(transformers.LlamaForCausalLM, LLAMA, 2, HEAD, {"attention": 2, "rms_norm": 5, "rope": 4, "silu": 2})


def t5_encoder(attention):
    m = model_of(transformers.T5ForConditionalGeneration, T5, attention)
    names = {"input_ids": {0: B, 1: S}, "attention_mask": {0: B, 1: S}}
    return Spec(Encoder(m.encoder, list(names)), names, {"last_hidden_state": {0: B, 1: S}},
                lambda b, s: (ids(b, s), ragged(b, s)), TEXT_SIZES, {"attention": 2, "rms_norm": 5, "gelu": 2})


def seq2seq(cls, config, source, fusions, with_past):
    def build(attention):
        m = model_of(cls, config, attention)
        names = {"input_ids": {0: B, 1: S}, "encoder_hidden_states": {0: B} if source else {0: B, 1: "source"}}
        outputs = {"logits": {0: B, 1: S}}
        for i in range(LAYERS if with_past else 0):
            for kind in ("key", "value"):
                names[f"past_key_values.{i}.decoder.{kind}"] = {0: B, 2: P}
                outputs[f"present.{i}.decoder.{kind}"] = {0: B, 2: T}
            for kind in ("key", "value"):
                names[f"past_key_values.{i}.encoder.{kind}"] = {0: B} if source else {0: B, 2: "source"}

        def make(b, s, t, p=0):
            past = [torch.randn(b, HEADS, p if i % 4 < 2 else t, HEAD) for i in range(4 * LAYERS)] if with_past else []
            return (ids(b, s), torch.randn(b, t, HIDDEN), *past)

        t = source or 9
        sizes = [(2, 7, t), (1, 1, t), (3, 20, source or 5)]
        if with_past:
            sizes = [(2, 3, t, 7), (1, 1, t, 3), (3, 2, source or 4, 12)]
        return Spec(Seq2Seq(m, with_past), names, outputs, make, sizes, fusions)
    return build


T5_DECODER = {"attention": 4, "rms_norm": 7, "gelu": 2}
WHISPER_DECODER = {"attention": 4, "layer_norm": 7, "gelu": 2}
t5_decoder = seq2seq(transformers.T5ForConditionalGeneration, T5, 0, T5_DECODER, False)
t5_decoder_past = seq2seq(transformers.T5ForConditionalGeneration, T5, 0, T5_DECODER, True)
whisper_decoder = seq2seq(transformers.WhisperForConditionalGeneration, WHISPER, 20, WHISPER_DECODER, False)
whisper_decoder_past = seq2seq(transformers.WhisperForConditionalGeneration, WHISPER, 20, WHISPER_DECODER, True)


def whisper_encoder(attention):
    m = model_of(transformers.WhisperForConditionalGeneration, WHISPER, attention)
    return Spec(Encoder(m.model.encoder, ["input_features"]), {"input_features": {0: B}}, {"last_hidden_state": {0: B}},
                lambda b: (torch.randn(b, 8, 40),), [(2,), (1,), (3,)], {"attention": 2, "layer_norm": 5, "gelu": 4})


def vit(attention):
    m = model_of(transformers.ViTForImageClassification, VIT, attention)
    return Spec(Plain(m, ["pixel_values"], ["logits"]), {"pixel_values": {0: B}}, {"logits": {0: B}},
                lambda b: (torch.randn(b, 3, 16, 16),), [(2,), (1,), (3,)],
                {"attention": 2, "layer_norm": 5, "gelu": 2})


def clip(attention):
    m = model_of(transformers.CLIPModel, CLIP, attention)
    names = {"input_ids": {0: "texts", 1: S}, "pixel_values": {0: "images"}, "attention_mask": {0: "texts", 1: S}}
    outputs = {"logits_per_image": {0: "images", 1: "texts"}, "text_embeds": {0: "texts"},
               "image_embeds": {0: "images"}}

    def make(b, s, n):
        tokens = ids(b, s, VOCAB - 2)
        tokens[:, -1] = VOCAB - 1
        return tokens, torch.randn(n, 3, 16, 16), torch.ones(b, s, dtype=torch.int64)

    return Spec(Plain(m, list(names), list(outputs)), names, outputs, make, [(2, 7, 2), (1, 3, 1), (3, 20, 2)],
                {"attention": 4, "layer_norm": 11, "gelu": 4})


MODELS = dict(bert=bert, distilbert=distilbert, gpt2=gpt2, llama=llama, t5_encoder=t5_encoder, t5_decoder=t5_decoder,
              t5_decoder_past=t5_decoder_past, vit=vit, clip=clip, whisper_encoder=whisper_encoder,
              whisper_decoder=whisper_decoder, whisper_decoder_past=whisper_decoder_past)
OPTIMUM_TASKS = dict(gpt2="text-generation-with-past", llama="text-generation-with-past", distilbert="fill-mask",
                     bert="feature-extraction")


def export_script(spec, args, path, opset, options):
    torch.onnx.export(spec.module, args, path, dynamo=False, opset_version=opset, input_names=list(spec.inputs),
                      output_names=list(spec.outputs), dynamic_axes={**spec.inputs, **spec.outputs})


def export_dynamo(spec, args, path, opset, options):
    shapes = [{k: torch.export.Dim.DYNAMIC for k in d} for d in spec.inputs.values()]
    fixed = spec.module.forward.__code__.co_argcount - 1  # *args and *past are one tuple
    shapes = (*shapes[:fixed], tuple(shapes[fixed:])) if len(shapes) > fixed else tuple(shapes)
    program = torch.onnx.export(spec.module, args, dynamo=True, opset_version=opset, input_names=list(spec.inputs),
                                output_names=list(spec.outputs), dynamic_shapes=shapes, verbose=False)
    program.save(path, external_data=False)


def export_optimum(spec, args, path, opset, options):
    model = spec.module.model
    with tempfile.TemporaryDirectory() as tmp:
        folder, out = os.path.join(tmp, "folder"), os.path.join(tmp, "out")
        model.save_pretrained(folder)
        subprocess.run([options.optimum, "-m", "optimum.exporters.onnx", "--model", folder, "--task",
                        OPTIMUM_TASKS[spec.name], "--opset", str(opset), out],
                       check=True, capture_output=True, text=True)
        shutil.copy(os.path.join(out, "model.onnx"), path)


def export_ort(spec, args, path, opset, options):
    """The script exporter's model as ONNX Runtime writes it after its own fusions."""
    import onnxruntime
    with tempfile.TemporaryDirectory() as tmp:
        plain = os.path.join(tmp, "plain.onnx")
        export_script(spec, args, plain, opset, options)
        session = onnxruntime.SessionOptions()
        session.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        session.optimized_model_filepath = path
        session.log_severity_level = 3
        onnxruntime.InferenceSession(plain, session, providers=["CPUExecutionProvider"])


EXPORTERS = {"script": export_script, "dynamo": export_dynamo, "optimum": export_optimum, "ort": export_ort}


def forget(graph):
    """Drops what the exporters note about the source: files and lines of the machine."""
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        for a in node.attribute:
            a.doc_string = ""
            if a.HasField("g"):
                forget(a.g)
    for value in (*graph.value_info, *graph.input, *graph.output):
        del value.metadata_props[:]
    del graph.metadata_props[:]
    del graph.value_info[:]
    graph.doc_string = ""


def clean(path):
    model = onnx.load(path)
    forget(model.graph)
    for f in model.functions:
        forget(f)
    del model.metadata_props[:]
    model.doc_string = ""
    if all(o.domain in ("", "ai.onnx") for o in model.opset_import):
        onnx.checker.check_model(model)
    onnx.save(model, path)


def greedy(spec, prompt):
    model, tokens, gaps = spec.module.model, [], []
    ids = torch.tensor([prompt])
    cache = DynamicCache()
    for _ in range(NEW_TOKENS):
        logits = model(input_ids=ids, past_key_values=cache, use_cache=True).logits[0, -1]
        top = logits.topk(2).values
        tokens.append(int(logits.argmax()))
        gaps.append(float(top[0] - top[1]))
        ids = torch.tensor([tokens[-1:]])
    return tokens, gaps


def goldens(spec, path):
    out = {}
    for n, sizes in enumerate(spec.sizes):
        torch.manual_seed(100 + n)
        args = spec.make(*sizes)
        for name, value in zip(spec.inputs, args):
            out[f"{n}.in.{name}"] = value
        for name, value in zip(spec.outputs, spec.module(*args)):
            out[f"{n}.out.{name}"] = value
    if spec.past:
        prompt = [5, 17, 3, 40, 11]
        tokens, gaps = greedy(spec, prompt)
        logits = spec.module.model(input_ids=torch.tensor([prompt + tokens])).logits[0]
        out.update({"generate.prompt": torch.tensor(prompt), "generate.tokens": torch.tensor(tokens),
                    "generate.gaps": torch.tensor(gaps), "generate.logits": logits})
    save_file({k: v.detach().contiguous().clone() for k, v in out.items()}, path)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--optimum", help="a Python with optimum-onnx")
    p.add_argument("--goldens", action="store_true", help="leave the models as they are")
    p.add_argument("names", nargs="*")
    options = p.parse_args()
    manifest_path = os.path.join(HERE, "manifest.json")
    manifest = json.load(open(manifest_path)) if os.path.exists(manifest_path) else {}
    versions = {m.__name__: m.__version__ for m in (torch, transformers, onnx)}
    for folder in ("models", "goldens"):
        os.makedirs(os.path.join(HERE, folder), exist_ok=True)
    for name, (model, exporter, attention, opset) in EXPORTS.items():
        if (options.names and name not in options.names) or (exporter == "optimum" and not options.optimum):
            continue
        with torch.no_grad():
            spec = MODELS[model](attention)
            spec.name = model
            torch.manual_seed(7)
            path = os.path.join(HERE, "models", name + ".onnx")
            if not options.goldens:
                EXPORTERS[exporter](spec, spec.make(*spec.sizes[0]), path, opset, options)
                clean(path)
            goldens(MODELS[model]("eager"), os.path.join(HERE, "goldens", model + ".safetensors"))
        graph = onnx.load(path).graph
        manifest[name] = dict(model=model, exporter=exporter, attention=attention, opset=opset, entry=graph.name,
                              inputs=[i.name for i in graph.input], fusions=spec.fusions, generates=bool(spec.past),
                              versions=versions)
        print(f"{name:32} {os.path.getsize(path):8}", flush=True)
    with open(manifest_path, "w") as f:
        rows = [f"{json.dumps(k)}: {json.dumps(manifest[k])}" for k in EXPORTS if k in manifest]
        f.write("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
