"""GGUF files that have keys and tensors of real architectures but no numbers: for whoever asks only what type a tensor
gets. The data section is a hole in the file."""
import os

import gguf
import numpy as np

F16 = gguf.GGMLQuantizationType.F16
F32 = gguf.GGMLQuantizationType.F32


class File:
    def __init__(self, path, arch, layers, width, ff, heads, kv, vocab=64, experts=0, used=2, words=True, **more):
        self.path, self.arch, self.offset, self.tensors = path, arch, 0, []
        w = self.w = gguf.GGUFWriter(path, arch)
        w.add_block_count(layers)
        w.add_context_length(128)
        w.add_embedding_length(width)
        w.add_feed_forward_length(ff)
        w.add_head_count(heads)
        w.add_head_count_kv(kv)
        w.add_vocab_size(vocab)
        w.add_file_type(1)
        if experts:
            w.add_expert_count(experts)
            w.add_expert_used_count(used)
        for key, value in more.items():
            name = f"{arch}.{key.replace('__', '.')}"
            (w.add_float32 if isinstance(value, float) else w.add_bool if isinstance(value, bool) else w.add_uint32)(name, value)
        w.add_name("shape")
        if not words:
            return w.add_tokenizer_model("none")
        words = ["<unk>", "<s>", "</s>"] + [f"w{i}" for i in range(vocab - 3)]
        w.add_tokenizer_model("llama")
        w.add_token_list(words)
        w.add_token_scores([0.0] * vocab)
        w.add_token_types([2, 3, 3] + [1] * (vocab - 3))
        w.add_bos_token_id(1)
        w.add_eos_token_id(2)

    def matrix(self, name, *shape, dtype=F16):
        n = int(np.prod(shape)) * (2 if dtype == F16 else 4)
        self.w.add_tensor_info(name, shape, np.float16 if dtype == F16 else np.float32, n)
        self.offset += (n + 31) // 32 * 32

    def vector(self, name, n):
        self.matrix(name, n, dtype=F32)

    def close(self):
        w = self.w
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_ti_data_to_file()
        w.close()
        size = (os.path.getsize(self.path) + 31) // 32 * 32
        os.truncate(self.path, size + self.offset)
        return self.path


def llama(path, layers, width, ff, heads, kv, tied=False, vocab=64, experts=0, arch="llama", **more):
    f = File(path, arch, layers, width, ff, heads, kv, vocab, experts, attention__layer_norm_rms_epsilon=1e-5,
             rope__dimension_count=width // heads, **more)
    hd = width // heads
    f.matrix("token_embd.weight", vocab, width)
    for i in range(layers):
        b = f"blk.{i}."
        f.vector(b + "attn_norm.weight", width)
        f.matrix(b + "attn_q.weight", width, width)
        f.matrix(b + "attn_k.weight", kv * hd, width)
        f.matrix(b + "attn_v.weight", kv * hd, width)
        f.matrix(b + "attn_output.weight", width, width)
        f.vector(b + "ffn_norm.weight", width)
        if experts:
            f.matrix(b + "ffn_gate_inp.weight", experts, width, dtype=F32)
            f.matrix(b + "ffn_gate_exps.weight", experts, ff, width)
            f.matrix(b + "ffn_down_exps.weight", experts, width, ff)
            f.matrix(b + "ffn_up_exps.weight", experts, ff, width)
        else:
            f.matrix(b + "ffn_gate.weight", ff, width)
            f.matrix(b + "ffn_down.weight", width, ff)
            f.matrix(b + "ffn_up.weight", ff, width)
    f.vector("output_norm.weight", width)
    if not tied:
        f.matrix("output.weight", vocab, width)
    return f.close()


def falcon(path, layers, width, vocab=64):
    f = File(path, "falcon", layers, width, 4 * width, 4, 1, vocab, attention__layer_norm_epsilon=1e-5)
    f.matrix("token_embd.weight", vocab, width)
    for i in range(layers):
        b = f"blk.{i}."
        f.vector(b + "attn_norm.weight", width)
        f.vector(b + "attn_norm.bias", width)
        f.matrix(b + "attn_qkv.weight", width + width // 2, width)
        f.matrix(b + "attn_output.weight", width, width)
        f.matrix(b + "ffn_up.weight", 4 * width, width)
        f.matrix(b + "ffn_down.weight", width, 4 * width)
    f.vector("output_norm.weight", width)
    f.vector("output_norm.bias", width)
    f.matrix("output.weight", vocab, width)
    return f.close()


def phi3(path, layers, width, ff, heads, vocab=64):
    f = File(path, "phi3", layers, width, ff, heads, heads, vocab, attention__layer_norm_rms_epsilon=1e-5,
             rope__dimension_count=width // heads, rope__scaling__original_context_length=128, attention__sliding_window=64)
    f.matrix("token_embd.weight", vocab, width)
    for i in range(layers):
        b = f"blk.{i}."
        f.vector(b + "attn_norm.weight", width)
        f.matrix(b + "attn_qkv.weight", 3 * width, width)
        f.matrix(b + "attn_output.weight", width, width)
        f.vector(b + "ffn_norm.weight", width)
        f.matrix(b + "ffn_up.weight", 2 * ff, width)
        f.matrix(b + "ffn_down.weight", width, ff)
    f.vector("output_norm.weight", width)
    f.matrix("output.weight", vocab, width)
    return f.close()


def bert(path, layers, width, ff, heads, vocab=64):
    f = File(path, "bert", layers, width, ff, heads, heads, vocab, attention__layer_norm_epsilon=1e-12,
             attention__causal=False, pooling_type=1)
    f.matrix("token_embd.weight", vocab, width)
    f.matrix("position_embd.weight", 128, width)
    f.matrix("token_types.weight", 2, width, dtype=F32)
    for n in ("weight", "bias"):
        f.vector(f"token_embd_norm.{n}", width)
    for i in range(layers):
        b = f"blk.{i}."
        for x in ("attn_q", "attn_k", "attn_v", "attn_output"):
            f.matrix(f"{b}{x}.weight", width, width)
            f.vector(f"{b}{x}.bias", width)
        f.matrix(b + "ffn_up.weight", ff, width)
        f.vector(b + "ffn_up.bias", ff)
        f.matrix(b + "ffn_down.weight", width, ff)
        f.vector(b + "ffn_down.bias", width)
        for x in ("attn_output_norm", "layer_output_norm"):
            for n in ("weight", "bias"):
                f.vector(f"{b}{x}.{n}", width)
    return f.close()


# name -> how to make it; "aside": rows that some blocks do not divide
MODELS = {
    "llama": lambda p: llama(p, 16, 256, 512, 4, 1),
    "tied": lambda p: llama(p, 11, 256, 256, 2, 2, tied=True),
    "wide": lambda p: llama(p, 80, 256, 256, 8, 2),
    "experts8": lambda p: llama(p, 8, 256, 256, 4, 2, experts=8),
    "experts4": lambda p: llama(p, 16, 256, 256, 2, 2, experts=4),
    "falcon": lambda p: falcon(p, 32, 256),
    "phi3": lambda p: phi3(p, 16, 256, 512, 4),
    "bert": lambda p: bert(p, 8, 256, 512, 4),
    "aside": lambda p: llama(p, 8, 320, 1024, 5, 1, tied=True),
}


def fill(path, seed=0):
    """Puts numbers into the hole: norms near one, matrices with a few large columns, as trained models have them."""
    rng = np.random.default_rng(seed)
    places = [(t.data_offset, t.n_elements, t.shape[0], t.tensor_type, len(t.shape)) for t in gguf.GGUFReader(path).tensors]
    with open(path, "r+b") as f:
        for offset, n, columns, kind, rank in places:
            x = rng.standard_normal((n // columns, columns)) * 0.06
            x *= np.exp(0.3 * rng.standard_normal(columns))
            if rank == 1:
                x = 1 + 0.1 * x
            f.seek(offset)
            f.write(x.astype(np.float16 if kind == F16 else np.float32).tobytes())
    return path
