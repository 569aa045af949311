"""Broken GGUF files for make_hostile.py: one rule of the format, or of the metadata of models, broken in each."""
import os

from gguf_file import (ARRAY, BOOL, F32, I32, STRING, T_F16, T_Q8_0, U8, U16, U32, U64, split, tiny_llama)


def register(case):
    def one(name, words, change, errors=1, file="m.gguf", args=("check", "{}/m.gguf")):
        def make(folder):
            g = tiny_llama()
            data = change(g)
            with open(os.path.join(folder, "m.gguf"), "wb") as f:
                f.write(data if isinstance(data, bytes) else g.bytes())
        case(f"gguf-{name}", None, file, words, errors, args)(make)

    def parts(name, words, change, file, count=3):
        """change(parts) may break them; a part that is None is not written."""
        def make(folder):
            files = split(tiny_llama(2), count)
            names = change(files) or {}
            for i, p in enumerate(files):
                path = os.path.join(folder, names.get(i, f"m-{i + 1:05}-of-{count:05}.gguf"))
                if p:
                    with open(path, "wb") as f:
                        f.write(p.bytes())
        first = "{}/m-00001-of-%05d.gguf" % count
        case(f"gguf-split-{name}", None, file, words, 1, ("check", first))(make)

    # ---- cut off, in every structure --------------------------------------------------------------------------
    for name, mark, more, words in (
            ("magic", "magic", 0, "the magic"), ("version", "version", 0, "the version"),
            ("tensor-count", "tensors", 0, "number of tensors"), ("key-count", "keys", 0, "number of keys"),
            ("in-key", "llama.block_count", 11, "a key of 17 bytes"),
            ("in-value", "llama.rope.freq_base:value", 2, "1 values of f32"),
            ("in-string", "general.type:value", 10, "a string of 5 bytes"),
            ("array-type", "tokenizer.ggml.tokens:value", 2, "a value's type"),
            ("array-length", "tokenizer.ggml.tokens:value", 7, "an array's length"),
            ("array-strings", "tokenizer.ggml.tokens:value", 30, "6 strings"),
            ("array-numbers", "tokenizer.ggml.scores:value", 20, "6 values of f32"),
            ("tensor-name", "output_norm.weight", 12, "a tensor's name of 18 bytes"),
            ("tensor-dims", "output_norm.weight:dims", 4, "a tensor's dim"),
            ("tensor-type", "output_norm.weight:dims", 10, "a tensor's type"),
            ("tensor-offset", "output_norm.weight:dims", 14, "a tensor's offset")):
        def cut(g, mark=mark, more=more):
            keys = [row[0] for row in g.kvs]
            if mark.split(":")[0] in keys:  # so that not the counts are what cannot fit
                g.ntensors, g.nkvs = 1, keys.index(mark.split(":")[0]) + 1
            data = g.bytes()
            return data[:g.marks[mark] + more]
        one(f"cut-{name}", words, cut)
    one("empty", "the magic of 4 bytes, but 0 are left", lambda g: b"")
    one("cut-data", ["tensor 'blk.0.ffn_down.weight'", "cut off"], lambda g: g.bytes()[:-40])
    one("cut-all-data", ["tensor 'token_embd.weight'", "cut off"], lambda g: g.bytes()[:g.marks["data"]])

    # ---- header -----------------------------------------------------------------------------------------------
    def setting(**values):
        return lambda g: [setattr(g, k, v) for k, v in values.items()] and None
    one("magic", "not with 'GGUF'", setting(magic=b"GGML"))
    one("text", "not with 'GGUF'", lambda g: b"{ this is not a model }\n" * 9)
    one("version-0", "version 0", setting(version=0))
    one("version-1", "version 1 of the format is not supported", setting(version=1))
    one("version-4", "version 4", setting(version=4))
    one("big-endian", "big-endian", setting(order=">"))
    one("tensors-many", ["byte 8", "18446744073709551615 tensors"], setting(ntensors=2 ** 64 - 1))
    one("tensors-few-bytes", ["byte 8", "1000000 tensors"], setting(ntensors=1000000))
    one("keys-many", ["byte 16", "9223372036854775808 keys"], setting(nkvs=2 ** 63))

    # ---- keys and values --------------------------------------------------------------------------------------
    def key(k, kind, v):
        return lambda g: g.kv(k, kind, v)
    one("key-empty", "a key of 0 bytes is empty", key("", U32, 1))
    one("key-not-text", "not plain UTF-8", lambda g: g.kvs.append([b"\xff\xfe", U32, 1]))
    one("key-control", "not plain UTF-8", key("a\nb", U32, 1))
    one("key-twice", ["key 'llama.block_count'", "twice"], lambda g: g.kvs.append(["llama.block_count", U32, 1]))
    one("key-huge", "a key of 18446744073709551615 bytes; the most is",
        lambda g: _patch(g, "llama.block_count", 0, b"\xff" * 8))
    one("string-huge", "a string of 2147483648 bytes; the most is",
        lambda g: _patch(g, "general.type:value", 0, (2 ** 31).to_bytes(8, "little")))
    one("type-13", ["key 'x'", "value type 13"], lambda g: g.kvs.append(["x", 13, b"\0" * 4]))
    one("type-array-item", ["key 'x'", "value type 99"], lambda g: g.kvs.append(["x", ARRAY, (99, [])]))
    one("array-nested", ["key 'x'", "array of arrays"], key("x", ARRAY, (ARRAY, [(U8, [1])])))
    one("array-absurd", ["key 'x'", "1099511627776 values"], key("x", ARRAY, (U8, [1], 2 ** 40)))
    one("array-longer", ["key 'x'", "1000000 values of f32"], key("x", ARRAY, (F32, [1.0], 1000000)))
    one("array-overflow", ["key 'x'", "strings"], key("x", ARRAY, (STRING, ["a"], 2 ** 29)))
    one("bool-2", ["key 'x'", "a bool of 2"], key("x", BOOL, 2))
    one("alignment-0", ["general.alignment", "0, not a power of two"], key("general.alignment", U32, 0))
    one("alignment-3", ["general.alignment", "3, not a power of two"], key("general.alignment", U32, 3))
    one("alignment-type", ["general.alignment", "u64, not u32"], key("general.alignment", U64, 32))
    one("alignment-absurd", ["tensor 'output_norm.weight'", "is at offset"], key("general.alignment", U32, 2 ** 31))

    # ---- tensors ----------------------------------------------------------------------------------------------
    def norm(place, v):
        def change(g):
            g.row("output_norm.weight")[place] = v
        return change
    where = "tensor 'output_norm.weight'"
    one("tensor-name-long", "a tensor's name has 64 bytes; the most is 63", norm(0, "n" * 64))
    one("tensor-name-empty", "a tensor's name is empty", norm(0, ""))
    one("tensor-name-control", "not plain UTF-8", norm(0, "a\0b"))
    one("tensor-twice", ["tensor 'token_embd.weight'", "twice"], norm(0, "token_embd.weight"))
    one("dims-5", [where, "5 dims; the most is 4"], norm(1, [8, 1, 1, 1, 1]))
    one("dims-negative", [where, "negative: -8"], norm(1, [-8]))
    one("dims-overflow", [where, "more values than 63 bits"], norm(1, [2 ** 40, 2 ** 40]))
    one("bytes-overflow", [where, "more bytes than 64 bits"], norm(1, [2 ** 62]))
    one("dims-too-large", ["tensor 'blk.0.attn_norm.weight'", "is at offset"], norm(1, [8, 1024]))
    for kind, said in ((4, "Q4_2 (4) was removed"), (5, "Q4_3 (5) was removed"), (9, "Q8_1 (9) is for activations"),
                       (15, "Q8_K (15)"), (31, "Q4_0_4_4 (31) was removed"), (33, "Q4_0_8_8"),
                       (36, "IQ4_NL_4_4 (36) was removed"), (38, "IQ4_NL_8_8"), (43, "type 43 is unknown"),
                       (2 ** 32 - 1, "type 4294967295 is unknown")):
        one(f"type-{said.split()[0].lower() if kind < 43 else kind}", [where, said], norm(2, kind))
    one("row-not-blocks", [where, "rows of 8 values are not whole blocks of 32 (Q8_0)"], norm(2, T_Q8_0))
    one("scalar-block", ["tensor 's'", "rows of 1 values"], lambda g: g.tensor("s", [], b"\0" * 34, T_Q8_0))
    one("offset-overlap", [where, "is at offset 0, but the tensors before it end at 192"], norm(4, 0))
    one("offset-hole", [where, "is at offset 256"], norm(4, 256))
    one("offset-huge", [where, "is at offset 18446744073709551584"], norm(4, 2 ** 64 - 32))
    one("type-smaller", [where, "is at offset 192, but the tensors before it end at 96"],
        lambda g: g.row("token_embd.weight").__setitem__(2, T_F16))

    # ---- splits -----------------------------------------------------------------------------------------------
    parts("missing", "no such file", lambda p: p.__setitem__(1, None), "m-00002-of-00003.gguf")
    parts("number", ["key 'split.no'", "is 2, but the file's name says part 1"],
          lambda p: p[1].kv("split.no", U16, 2), "m-00002-of-00003.gguf")
    parts("count", ["key 'split.count'", "is 4, but the first part says 3"],
          lambda p: p[2].kv("split.count", U16, 4), "m-00003-of-00003.gguf")
    parts("tensors", ["key 'split.tensors.count'", "is 99"],
          lambda p: p[0].kv("split.tensors.count", I32, 99), "m-00003-of-00003.gguf")
    parts("twice", ["tensor 'token_embd.weight'", "is also in 'm-00001-of-00003.gguf'"],
          lambda p: p[1].tensors.append(list(p[0].tensors[0])), "m-00002-of-00003.gguf")
    parts("broken", "not with 'GGUF'", lambda p: setattr(p[2], "magic", b"GGUX"), "m-00003-of-00003.gguf")
    parts("name", ["key 'split.count'", "does not end in '-00001-of-00004.gguf'"],
          lambda p: p[0].kv("split.count", U16, 4), "m-00001-of-00003.gguf")
    parts("negative", ["key 'split.tensors.count'", "-1"],
          lambda p: p[0].kv("split.tensors.count", I32, -1), "m-00001-of-00003.gguf")
    one("split-later", ["key 'split.no'", "open the first one"],
        lambda g: g.kvs.extend([["split.no", U16, 1], ["split.count", U16, 2]]))

    # ---- what a model needs -----------------------------------------------------------------------------------
    one("no-architecture", ["key 'general.architecture'", "is missing"], lambda g: g.drop("general.architecture"))
    one("architecture-number", ["key 'general.architecture'", "not a plain text"],
        key("general.architecture", U32, 3))
    one("architecture-unknown", ["no page describes 'tarot'", "llama"], key("general.architecture", STRING, "tarot"))
    one("adapter", "only an adapter", key("general.type", STRING, "adapter"))
    one("mmproj", "projector", key("general.type", STRING, "mmproj"))
    one("clip", "projector", key("general.architecture", STRING, "clip"))
    one("layers-0", ["'block_count'", "not one positive number"], key("llama.block_count", U32, 0))
    one("layers-huge", ["'block_count'", "is 4294967295"], key("llama.block_count", U32, 2 ** 32 - 1))
    one("heads-text", ["'attention.head_count'", "a string, not an integer"],
        key("llama.attention.head_count", STRING, "2"))
    one("eps-0", ["'attention.layer_norm_rms_epsilon'", "is 0"],
        key("llama.attention.layer_norm_rms_epsilon", F32, 0.0))
    one("eps-nan", ["'attention.layer_norm_rms_epsilon'", "is nan"],
        key("llama.attention.layer_norm_rms_epsilon", F32, float("nan")))
    one("value-and-object", ["'rope' is a value and has keys inside"], key("llama.rope", U32, 1))
    one("vocab-size", ["'vocab_size'", "token_embd.weight, 6"], key("llama.vocab_size", U32, 7))
    one("tokens-few", ["'tokenizer.ggml.tokens'", "has 5 tokens", "6 rows"],
        lambda g: g.kv("tokenizer.ggml.tokens", ARRAY, (STRING, ["a"] * 5)))
    one("key-array-long", ["'llama.x'", "70000 values; at most 65536"], key("llama.x", ARRAY, (U8, [0] * 70000)))
    one("keys-of-model", "more than 512 keys begin with 'llama.'",
        lambda g: [g.kv(f"llama.x{i}", U8, 0) for i in range(600)] and None)
    one("no-key", "no key 'embedding_length'", lambda g: g.drop("llama.embedding_length"), errors=0, file="llama")
    one("no-tensor", ["no tensor", "'blk.0.attn_k.weight'"],
        lambda g: g.tensors.remove(g.row("blk.0.attn_k.weight")), file="llama")
    one("wrong-shape", ["tensor 'blk.0.attn_norm.weight' is [4], this line needs [8]"], _shrink, file="llama")


def _patch(g, mark, at, data):
    whole = bytearray(g.bytes())
    at += g.marks[mark]
    whole[at:at + len(data)] = data
    return bytes(whole)


def _shrink(g):
    row = g.row("blk.0.attn_norm.weight")
    row[1], row[3] = [4], b"\0" * 16
