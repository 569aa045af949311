"""Writes small GGUF files with a tokenizer of each kind, and what the original tokenizer makes of every line of
texts.txt: the expected values of test_tokenizer_gguf.c.

    python make_gguf.py                 # writes data/gguf/*.gguf and *.golden
    python make_gguf.py --llama         # says, too, on how many lines llama.cpp gives the same ids
    python make_gguf.py --real FOLDER   # what llama.cpp makes of the lines with the models of tools/fetch-llm

The vocabularies are trained here (sentencepiece) or come from the other files of data/. A golden line is: ids with the
special tokens around, then the ids decoded, with a tab between and texts.txt's escapes. Lines are those of texts.txt
that are one valid text without NUL.
"""

import io
import json
import os
import sys

import gguf
import sentencepiece as spm
from make_tokenizers import DATA, corpus, escape, texts
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from sentencepiece import sentencepiece_model_pb2 as spm_pb2

OUT = os.path.join(DATA, "gguf")
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
# The pre-tokenizers of the models' own tokenizer.json, written again and not taken from pre.def.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = GPT4O.replace(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace(r"\p{N}{1,3}", r"\p{N}")
DEEPSEEK3 = [
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
]
BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"
PRE = {
    "gpt-2": [GPT2],
    "smollm": [r"\p{N}", GPT2],
    "llama-bpe": [LLAMA3],
    "qwen2": [QWEN2],
    "gpt-4o": [GPT4O],
    "tekken": [TEKKEN],
    "deepseek-v3": DEEPSEEK3,
    "bloom": [BLOOM],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"],
}


def lines():
    out = []
    for parts in texts():
        try:
            text = parts[0].decode()
        except UnicodeDecodeError:
            continue
        if len(parts) == 1 and text and "\0" not in text:
            out.append(text)
    return out


def write(name, kind, tokens, types, scores=None, merges=None, pre=None, **more):
    w = gguf.GGUFWriter(os.path.join(OUT, name + ".gguf"), "llama")
    w.add_context_length(512)
    w.add_embedding_length(8)
    w.add_block_count(1)
    w.add_head_count(1)
    w.add_feed_forward_length(8)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_tokenizer_model(kind)
    if pre:
        w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types(types)
    if scores:
        w.add_token_scores(scores)
    if merges:
        w.add_token_merges(merges)
    for key, value in more.items():
        if isinstance(value, bool):
            w.add_bool("tokenizer.ggml." + key, value)
        elif isinstance(value, bytes):
            w.add_array("tokenizer.ggml." + key, list(value)) if not value else w.add_key_value(
                "tokenizer.ggml." + key, value, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT8
            )
        elif isinstance(value, str):
            w.add_string(key, value)
        else:
            w.add_uint32("tokenizer.ggml." + key, value)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def golden(name, encode, decode):
    rows, same, compared = [], 0, 0
    reference = None
    if "--llama" in sys.argv:
        import llama_cpp

        reference = llama_cpp.Llama(os.path.join(OUT, name + ".gguf"), vocab_only=True, verbose=False)
    for text in lines():
        ids = encode(text)
        rows.append(" ".join(map(str, ids)).encode() + b"\t" + escape(decode(ids)))
        if reference:
            compared += 1
            same += reference.tokenize(text.encode(), add_bos=True, special=True) == ids
    with open(os.path.join(OUT, name + ".golden"), "wb") as f:
        f.write(b"\n".join(rows) + b"\n")
    size = os.path.getsize(os.path.join(OUT, name + ".gguf"))
    print(name, size, "bytes", "llama.cpp: %d of %d lines the same" % (same, compared) if reference else "")


# ---- sentencepiece --------------------------------------------------------------------------------------------------
def train(model_type, vocab, **more):
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=model,
        model_type=model_type,
        vocab_size=vocab,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
        **more,
    )
    proto = spm_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    return spm.SentencePieceProcessor(model_proto=model.getvalue()), proto


def pieces(proto):
    kinds = {1: NORMAL, 2: UNKNOWN, 3: CONTROL, 4: USER, 5: UNUSED, 6: BYTE}
    return (
        [p.piece for p in proto.pieces],
        [kinds[p.type] for p in proto.pieces],
        [p.score for p in proto.pieces],
    )


def with_specials(p, proto, bos, eos):
    """sentencepiece itself does not find control tokens in text; readers of GGUF do, and begin anew behind each."""
    control = {x.piece: i for i, x in enumerate(proto.pieces) if x.type in (2, 3)}

    def encode(text):
        parts, at = [], 0
        while at < len(text):
            found = [(text.find(c, at), -len(c), c) for c in control if text.find(c, at) >= 0]
            if not found:
                break
            start, _, c = min(found)
            parts += [text[at:start], control[c]]
            at = start + len(c)
        parts.append(text[at:])
        ids = []
        for part in parts:
            ids += [part] if isinstance(part, int) else p.encode(part)
        return bos + ids + eos

    return encode


def spm_decode(p, proto):
    """As HF's decoders: bytes that are no UTF-8 become one U+FFFD each, and special tokens stay."""
    t = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
        + ([decoders.Strip(" ", 1, 0)] if proto.normalizer_spec.add_dummy_prefix else [])
    )
    return lambda ids: t.decode([proto.pieces[i].piece for i in ids])


def make_spm():
    common = dict(normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True)
    p, proto = train("bpe", 1600, byte_fallback=True, character_coverage=0.98, **common)
    tokens, types, scores = pieces(proto)
    write("spm", "llama", tokens, types, scores, bos_token_id=1, eos_token_id=2, unknown_token_id=0)
    golden("spm", with_specials(p, proto, [1], []), spm_decode(p, proto))
    p, proto = train(
        "bpe", 1600, byte_fallback=True, character_coverage=0.98, add_dummy_prefix=False,
        split_by_whitespace=False, **common
    )
    tokens, types, scores = pieces(proto)
    write("spm_across", "llama", tokens, types, scores, bos_token_id=1, eos_token_id=2, unknown_token_id=0,
          add_space_prefix=False, add_bos_token=False, add_eos_token=True)  # fmt: skip
    golden("spm_across", with_specials(p, proto, [], [2]), spm_decode(p, proto))


def make_t5():
    rules = os.path.join(OUT, "rules.tsv")
    with open(rules, "w", encoding="utf-8") as f:  # a small map: full-width letters, a ligature, some spaces
        for a, b in [("Ａ", "A"), ("ﬁ", "fi"), ("½", "1/2"), ("\u00a0", " "), ("\u3000", " "), ("\t", " "), ("\n", " ")]:
            f.write(" ".join("%X" % ord(c) for c in a) + "\t" + " ".join("%X" % ord(c) for c in b) + "\n")
    p, proto = train("unigram", 1300, character_coverage=0.98, normalization_rule_tsv=rules, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    os.remove(rules)
    tokens, types, scores = pieces(proto)
    write("t5", "t5", tokens, types, scores, eos_token_id=1, unknown_token_id=2, padding_token_id=0,
          add_space_prefix=True, remove_extra_whitespaces=True,
          precompiled_charsmap=proto.normalizer_spec.precompiled_charsmap)  # fmt: skip
    decoder = decoders.Metaspace()
    # sentencepiece normalizes; the segmentation is that of the tokenizers package, which adds scores in double precision
    # (sentencepiece does in float, where ties of equal pieces in another order fall by rounding).
    unigram = Tokenizer(models.Unigram(list(zip(tokens, scores)), unk_id=2))

    class Both:
        encode = staticmethod(lambda text: unigram.encode(p.normalize(text)).ids)

    golden("t5", with_specials(Both, proto, [], [1]),
           lambda ids: decoder.decode([proto.pieces[i].piece for i in ids]))  # fmt: skip


# ---- byte-level BPE and WordPiece -----------------------------------------------------------------------------------
def read(name):
    with open(os.path.join(DATA, name + ".json"), encoding="utf-8") as f:
        return json.load(f)["model"]


def make_bpe():
    model = read("llama3")
    vocab = {k: v for k, v in model["vocab"].items()}
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    size = max(vocab.values()) + 1
    extra = [("<|bos|>", CONTROL), ("<|im_end|>", NORMAL), ("  \n", USER), ("<tool_call>", USER)]
    tokens = ["[PAD%d]" % i for i in range(size)]
    types = [UNUSED] * size
    for t, i in vocab.items():
        tokens[i], types[i] = t, CONTROL if t.startswith("<|") else NORMAL
    for t, kind in extra:
        tokens.append(t)
        types.append(kind)
    for pre, patterns in PRE.items():
        whole, bos = pre in ("llama-bpe", "tekken"), pre in ("llama-bpe", "tekken")
        t = Tokenizer(models.BPE({x: i for i, x in enumerate(tokens)}, merges, ignore_merges=whole))
        if pre == "qwen2":
            t.normalizer = normalizers.NFC()
        t.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(x), "isolated") for x in patterns]
            + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        t.decoder = decoders.ByteLevel()
        t.add_special_tokens(
            [AddedToken(x, special=True, normalized=False) for x, k in zip(tokens, types) if k == CONTROL]
            + [AddedToken("<|im_end|>", special=True, normalized=False)]
        )
        t.add_tokens([AddedToken(x, normalized=False) for x, k in zip(tokens, types) if k == USER])
        if bos:
            t.post_processor = processors.TemplateProcessing("<|bos|> $A", None, [("<|bos|>", size)])
        name = "bpe_" + pre.replace("-", "_").replace(".", "_")
        write(name, "gpt2", tokens, types, merges=[" ".join(m) for m in merges], pre=pre, bos_token_id=size,
              eos_token_id=size + 1)  # fmt: skip
        golden(name, lambda x: t.encode(x).ids, lambda ids: t.decode(ids, skip_special_tokens=False))


def make_bert():
    vocab = sorted(read("wordpiece")["vocab"].items(), key=lambda x: x[1])
    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    tokens = [x if x in special else x[2:] if x.startswith("##") else "\u2581" + x for x, _ in vocab]
    types = [CONTROL if x in special else NORMAL for x, _ in vocab]
    ids = dict(vocab)
    assert [i for _, i in vocab] == list(range(len(vocab)))
    t = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer()
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.add_special_tokens([AddedToken(x, special=True) for x in special])
    t.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", None, [("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    write("bert", "bert", tokens, types, [0.0] * len(tokens), unknown_token_id=ids["[UNK]"],
          bos_token_id=ids["[CLS]"], seperator_token_id=ids["[SEP]"], eos_token_id=ids["[SEP]"],
          padding_token_id=ids["[PAD]"], mask_token_id=ids["[MASK]"], cls_token_id=ids["[CLS]"])  # fmt: skip
    golden("bert", lambda x: t.encode(x).ids, lambda x: t.decode(x, skip_special_tokens=False))


def make_real(folder):
    import llama_cpp

    for file, name in (("gemma3-270m-q4_k_m.gguf", "real_gemma3"), ("SmolLM2-135M-Instruct.Q4_1.gguf", "real_smollm2")):
        model = llama_cpp.Llama(os.path.join(folder, file), vocab_only=True, verbose=False)
        pieces = [model._model.token_get_text(i) for i in range(model.n_vocab())]
        byte_level = decoders.ByteLevel()
        spm_level = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
        decoder = spm_level if "gemma" in name else byte_level
        with open(os.path.join(OUT, name + ".golden"), "wb") as f:
            for text in lines():
                ids = model.tokenize(text.encode(), add_bos=True, special=True)
                decoded = decoder.decode([pieces[i] for i in ids])
                f.write(" ".join(map(str, ids)).encode() + b"\t" + escape(decoded) + b"\n")


def main():
    os.makedirs(OUT, exist_ok=True)
    if "--real" in sys.argv:
        return make_real(sys.argv[sys.argv.index("--real") + 1])
    make_spm()
    make_t5()
    make_bpe()
    make_bert()


if __name__ == "__main__":
    main()
