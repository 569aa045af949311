"""A GGUF file in pieces that are all free to be wrong. Standard library only.

    g = tiny_llama(); g.kv("general.alignment", U32, 3); open(path, "wb").write(g.bytes())

    gguf_file.py OUT    writes the seeds of the fuzz target
"""
import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACK = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
T_F32, T_F16, T_Q8_0 = 0, 1, 8


def text(s):
    b = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(b)) + b


def value(kind, v):
    """v of an ARRAY: (item kind, list) or (item kind, list, a length that may be wrong)."""
    if kind == STRING:
        return text(v)
    if kind == ARRAY:
        item, items, count = (*v, len(v[1]))[:3]
        return struct.pack("<IQ", item, count) + b"".join(value(item, x) for x in items)
    return struct.pack("<" + PACK[kind], v) if kind in PACK else v


class Gguf:
    def __init__(self):
        self.magic, self.version, self.order = b"GGUF", 3, "<"
        self.kvs, self.tensors = [], []  # [key, kind, value]; [name, dims as in the file, type, data, offset]
        self.ntensors = self.nkvs = None  # what the header says, when it lies
        self.alignment = 32
        self.marks = {}                   # name -> byte, of the last bytes()

    def kv(self, key, kind, v):
        """Adds a key, or changes the one that is there."""
        for row in self.kvs:
            if row[0] == key:
                row[1:] = kind, v
                return
        self.kvs.append([key, kind, v])

    def drop(self, key):
        self.kvs = [row for row in self.kvs if row[0] != key]

    def tensor(self, name, dims, data=None, kind=T_F32):
        n = 1
        for d in dims:
            n *= d
        self.tensors.append([name, list(dims), kind, b"\0" * (4 * n) if data is None else data, None])

    def row(self, name):
        return next(t for t in self.tensors if t[0] == name)

    def header(self):
        return self.magic + struct.pack(self.order + "IQQ", self.version,
                                        len(self.tensors) if self.ntensors is None else self.ntensors,
                                        len(self.kvs) if self.nkvs is None else self.nkvs)

    def bytes(self):
        out = bytearray(self.header())
        self.marks = {"magic": 2, "version": 6, "tensors": 12, "keys": 20}
        for key, kind, v in self.kvs:
            name = key if isinstance(key, str) else repr(key)
            self.marks[name] = len(out)
            out += text(key) + struct.pack("<I", kind)
            self.marks[name + ":value"] = len(out)
            out += value(kind, v)
        at, data = 0, bytearray()
        for name, dims, kind, bytes_, offset in self.tensors:
            self.marks[name] = len(out)
            out += text(name) + struct.pack("<I", len(dims))
            self.marks[name + ":dims"] = len(out)
            out += b"".join(struct.pack("<q" if d < 0 else "<Q", d) for d in dims)
            out += struct.pack("<IQ", kind, at if offset is None else offset)
            pad = -len(bytes_) % self.alignment
            data += bytes_ + b"\0" * pad
            at += len(bytes_) + pad
        out += b"\0" * (-len(out) % self.alignment)
        self.marks["data"] = len(out)
        return bytes(out + data)


TOKENS = ["<unk>", "<s>", "</s>", "a", "b", "\u2581"]


def tiny_llama(layers=1):
    """A model that tenon takes: 8 features, 2 heads, 6 tokens of a sentencepiece vocabulary."""
    g = Gguf()
    for key, kind, v in (
            ("general.architecture", STRING, "llama"), ("general.type", STRING, "model"),
            ("llama.block_count", U32, layers), ("llama.context_length", U32, 64),
            ("llama.embedding_length", U32, 8), ("llama.feed_forward_length", U32, 16),
            ("llama.attention.head_count", U32, 2), ("llama.attention.head_count_kv", U32, 1),
            ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5), ("llama.rope.freq_base", F32, 10000.0),
            ("llama.rope.dimension_count", U32, 4), ("llama.vocab_size", U32, len(TOKENS)),
            ("tokenizer.ggml.model", STRING, "llama"), ("tokenizer.ggml.tokens", ARRAY, (STRING, TOKENS)),
            ("tokenizer.ggml.scores", ARRAY, (F32, [0.0] * 3 + [-1.0, -2.0, -3.0])),
            ("tokenizer.ggml.token_type", ARRAY, (I32, [2, 3, 3, 1, 1, 1])),
            ("tokenizer.ggml.bos_token_id", U32, 1), ("tokenizer.ggml.eos_token_id", U32, 2)):
        g.kv(key, kind, v)
    g.tensor("token_embd.weight", [8, len(TOKENS)])
    g.tensor("output_norm.weight", [8])
    for i in range(layers):
        for name, dims in (("attn_norm", [8]), ("attn_q", [8, 8]), ("attn_k", [8, 4]), ("attn_v", [8, 4]),
                           ("attn_output", [8, 8]), ("ffn_norm", [8]), ("ffn_gate", [8, 16]), ("ffn_up", [8, 16]),
                           ("ffn_down", [16, 8])):
            g.tensor(f"blk.{i}.{name}.weight", dims)
    return g


def split(g, count):
    """The parts of a file as gguf-split writes them: keys in the first one only."""
    parts = []
    for no in range(count):
        p = Gguf()
        p.kvs = [list(row) for row in g.kvs] if no == 0 else []
        p.tensors = [list(t) for t in g.tensors[len(g.tensors) * no // count:len(g.tensors) * (no + 1) // count]]
        p.kv("split.no", U16, no)
        p.kv("split.count", U16, count)
        p.kv("split.tensors.count", I32, len(g.tensors))
        parts.append(p)
    return parts


def seeds():
    """Small files for tests/fuzz/corpus/fuzz_gguf: every kind of tokenizer and of value."""
    yield "llama", tiny_llama()
    for kind, extra in (
            ("gpt2", (("tokenizer.ggml.pre", STRING, "llama-bpe"),
                      ("tokenizer.ggml.merges", ARRAY, (STRING, ["a b", "\u0120 a"])))),
            ("bert", (("tokenizer.ggml.cls_token_id", U32, 1), ("tokenizer.ggml.seperator_token_id", U32, 2))),
            ("t5", (("tokenizer.ggml.add_space_prefix", BOOL, 1),
                    ("tokenizer.ggml.precompiled_charsmap", ARRAY, (U8, [0] * 16))))):
        g = tiny_llama()
        g.tensors = g.tensors[:2]
        g.kv("tokenizer.ggml.model", STRING, kind)
        g.kv("tokenizer.ggml.add_bos_token", BOOL, 1)
        g.kv("tokenizer.chat_template", STRING, "{{ messages }}")
        for row in extra:
            g.kv(*row)
        yield kind, g
    g = Gguf()
    for kind, v in ((U8, 1), (I8, -1), (U16, 1), (I16, -1), (U32, 1), (I32, -1), (F32, 1.5), (BOOL, 1), (STRING, "x"),
                    (U64, 2 ** 63), (I64, -1), (F64, 1.5), (ARRAY, (I16, [1, 2]))):
        g.kv(f"llama.a.b{kind}", kind, v)
    g.kv("general.architecture", STRING, "llama")
    g.tensor("blocks", [64, 2], b"\0" * 136, T_Q8_0)
    yield "types", g


if __name__ == "__main__":
    import os
    import sys
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    os.makedirs(sys.argv[1], exist_ok=True)
    for seed, gguf in seeds():
        with open(os.path.join(sys.argv[1], seed + ".gguf"), "wb") as out:
            out.write(gguf.bytes())
