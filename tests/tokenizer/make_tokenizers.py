"""Trains one small tokenizer of each kind with the `tokenizers` package (one map with sentencepiece) on
texts.txt, and writes what the package makes of every line and of every code point: the expected values of
test_tokenizer.c.

    python make_tokenizers.py            # writes everything in data/
    python make_tokenizers.py --folders  # only data/folders and its goldens, from the others and `transformers`

The package breaks ties by the order of a hash, so every run trains other vocabularies: the files of one run
belong together.

A golden line is: ids, then the 64-bit FNV-1a of "type:start:end:special;" of each token (bytes), then the ids
decoded, then decoded without special tokens, with tabs between and texts.txt's escapes. "-": the text is not
valid UTF-8, so the package's offsets are of another text.
points.golden: per tokenizer the FNV-1a of the ids (little-endian int32, closed by -1) of "a" + c + "b" for every
code point c of points.txt. parts.jsonl: a model, then a hash of ids and texts with one component each.
"""

import json
import os
import re
import sys
import tempfile
import unicodedata

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "data")
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CLIP = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


# ---- texts --------------------------------------------------------------------------------------------------------
def unescape(line):
    simple = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"\\": b"\\"}

    def one(m):
        return bytes([int(m[1][1:], 16)]) if m[1][:1] == b"x" else simple[m[1]]

    return [re.sub(rb"\\(x[0-9a-f]{2}|[ntr\\])", one, part) for part in line.split(b"\\p")]


def escape(text):
    out = text.encode().replace(b"\\", b"\\\\")
    for a, b in ((b"\n", b"\\n"), (b"\t", b"\\t"), (b"\r", b"\\r"), (b"\0", b"\\x00")):
        out = out.replace(a, b)
    return out


def texts():
    with open(os.path.join(HERE, "texts.txt"), "rb") as f:
        return [unescape(line.rstrip(b"\n")) for line in f]


def corpus():
    return [p.decode("utf-8", "replace").replace("\0", "") for parts in texts() for p in parts]


# ---- tokenizers ---------------------------------------------------------------------------------------------------
def train(tokenizer, trainer):
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def odd_tokens(tokenizer):
    """Added tokens with every flag."""
    tokenizer.add_tokens(
        [
            AddedToken("newword", single_word=True, normalized=True),
            AddedToken("STRIPL", lstrip=True, normalized=False),
            AddedToken("STRIPR", rstrip=True, normalized=False),
            AddedToken("STRIPBOTH", lstrip=True, rstrip=True, normalized=True),
            AddedToken("ew", normalized=True),
        ]
    )
    return tokenizer


def bert_template(t):
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", t.token_to_id("[CLS]")), ("[SEP]", t.token_to_id("[SEP]"))],
    )


BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def wordpiece():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer()
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    train(t, trainers.WordPieceTrainer(vocab_size=1500, special_tokens=BERT, show_progress=False))
    t.post_processor = bert_template(t)
    t.decoder = decoders.WordPiece()
    t.enable_truncation(128)
    return odd_tokens(t)


def wordpiece_cased():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20))
    t.normalizer = normalizers.BertNormalizer(lowercase=False, handle_chinese_chars=False)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    train(t, trainers.WordPieceTrainer(vocab_size=1500, special_tokens=BERT, show_progress=False))
    t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    t.decoder = decoders.WordPiece(cleanup=False)
    return t


def byte_level(prefix, special, **options):
    t = Tokenizer(models.BPE(**options))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    t.decoder = decoders.ByteLevel()
    return train(
        t,
        trainers.BpeTrainer(
            vocab_size=1200,
            special_tokens=special,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )


def gpt2():
    t = byte_level(False, ["<|endoftext|>"])
    t.post_processor = processors.ByteLevel(trim_offsets=True)
    return odd_tokens(t)


def roberta():
    t = byte_level(True, ["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>")
    t.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return t


def llama3():
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    t.decoder = decoders.ByteLevel()
    train(
        t,
        trainers.BpeTrainer(
            vocab_size=1200,
            special_tokens=["<|begin_of_text|>", "<|endoftext|>"],
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    t.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A",
                pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                special_tokens=[("<|begin_of_text|>", 0)],
            ),
        ]
    )
    return t


def sentencepiece_bpe():
    t = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    special = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % i for i in range(256)]
    train(
        t, trainers.BpeTrainer(vocab_size=900, special_tokens=special, show_progress=False, limit_alphabet=60)
    )
    j = json.loads(t.to_str())
    j["added_tokens"] = [a for a in j["added_tokens"] if a["id"] < 3]  # the bytes are not matched in text
    return Tokenizer.from_str(json.dumps(j))


def llama2():
    t = sentencepiece_bpe()
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    t.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return t


def mistral():
    t = llama2()
    t.normalizer = None
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return t


def charsmap_rules():
    """Part of what SentencePiece's nmt_nfkc maps; the whole map would be 240 KB. differential.py takes the whole."""
    rules = {
        chr(c): " "
        for c in (9, 10, 12, 13, 0x1680, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD, *range(0x200B, 0x2010))
    }
    rules.update({chr(c): "" for c in (*range(1, 9), 0xB, *range(0xE, 0x20), 0x7F, 0x8F, 0x9F)})
    for block in (
        (0xA0, 0x17F),
        (0x1E00, 0x1EFF),
        (0x2000, 0x22FF),
        (0x2460, 0x24FF),
        (0x3300, 0x33FF),
        (0xFB00, 0xFB4F),
        (0xFF00, 0xFFEF),
    ):
        for c in range(block[0], block[1] + 1):
            form, parts_ = unicodedata.normalize("NFKC", chr(c)), unicodedata.normalize("NFD", chr(c))
            if form != chr(c):
                rules.setdefault(chr(c), form)
            if len(parts_) > 1 and unicodedata.normalize("NFC", parts_) == chr(c):
                rules[parts_] = chr(c)
    return rules


def sentencepiece_model(**options):
    with tempfile.TemporaryDirectory() as d:
        with open(os.path.join(d, "text"), "w") as f:
            f.write("\n".join(corpus()))
        with open(os.path.join(d, "rules"), "w") as f:
            for a, b in charsmap_rules().items():
                f.write("%s\t%s\n" % (" ".join("%X" % ord(c) for c in a), " ".join("%X" % ord(c) for c in b)))
        options = options or {"normalization_rule_tsv": os.path.join(d, "rules")}
        sentencepiece.SentencePieceTrainer.train(
            input=os.path.join(d, "text"),
            model_prefix=os.path.join(d, "m"),
            vocab_size=900,
            hard_vocab_limit=False,
            character_coverage=0.98,
            minloglevel=2,
            **options
        )
        m = sentencepiece_model_pb2.ModelProto()
        with open(os.path.join(d, "m.model"), "rb") as f:
            m.ParseFromString(f.read())
    return m


def t5(**options):
    m = sentencepiece_model(**options)
    t = Tokenizer(models.Unigram([(p.piece, p.score) for p in m.pieces], unk_id=0))
    t.normalizer = normalizers.Sequence([normalizers.Precompiled(m.normalizer_spec.precompiled_charsmap)])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    t.decoder = decoders.Metaspace()
    t.add_special_tokens(["<unk>", "<s>", "</s>"])
    t.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 2)]
    )
    return t


def unigram_bytes():
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence(
        [
            normalizers.Nmt(),
            normalizers.NFKC(),
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Strip(),
            normalizers.Lowercase(),
        ]
    )
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.UnicodeScripts(),
            pre_tokenizers.Digits(True),
        ]
    )
    train(
        t,
        trainers.UnigramTrainer(
            vocab_size=1300, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        ),
    )
    j = json.loads(t.to_str())
    low = min(s for _, s in j["model"]["vocab"])
    j["model"]["vocab"] = [v for v in j["model"]["vocab"] if len(v[0]) > 1 or ord(v[0]) < 0x500]
    j["model"]["vocab"] += [["<0x%02X>" % i, low - 20] for i in range(256)]
    j["model"]["byte_fallback"] = True
    t = Tokenizer.from_str(json.dumps(j))
    t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return odd_tokens(t)


def wordlevel():
    t = Tokenizer(models.WordLevel(unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    return train(t, trainers.WordLevelTrainer(vocab_size=1000, special_tokens=["<unk>"], show_progress=False))


def clip():
    t = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    t.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    t.decoder = decoders.Sequence([decoders.BPEDecoder("</w>"), decoders.ByteLevel()])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|startoftext|>", "<|endoftext|>"] + sorted(alphabet) + sorted(a + "</w>" for a in alphabet)
    train(
        t,
        trainers.BpeTrainer(
            vocab_size=1400,
            special_tokens=special,
            show_progress=False,
            end_of_word_suffix="</w>",
            initial_alphabet=alphabet,
        ),
    )
    j = json.loads(t.to_str())
    j["added_tokens"] = [a for a in j["added_tokens"] if a["id"] < 2]
    t = Tokenizer.from_str(json.dumps(j))
    t.post_processor = processors.RobertaProcessing(
        ("<|endoftext|>", 1), ("<|startoftext|>", 0), trim_offsets=False, add_prefix_space=False
    )
    return t


def bpe_affixes():
    t = Tokenizer(models.BPE(continuing_subword_prefix="##", end_of_word_suffix="</e>", unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.Replace(Regex(r"\p{Mn}"), "")])
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Punctuation("merged_with_previous"),
            pre_tokenizers.Digits(),
            pre_tokenizers.WhitespaceSplit(),
        ]
    )
    t.decoder = decoders.BPEDecoder("</e>")
    return train(
        t,
        trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=["<unk>"],
            show_progress=False,
            limit_alphabet=80,
            continuing_subword_prefix="##",
            end_of_word_suffix="</e>",
        ),
    )


def ctc():
    chars = "|".join("abcdefghijklmnopqrstuvwxyz'").split("|")
    vocab = {c: i for i, c in enumerate(["<pad>", "<unk>", "|"] + chars)}
    t = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "|")])
    t.pre_tokenizer = pre_tokenizers.FixedLength(1)
    t.decoder = decoders.CTC()
    return t


TOKENIZERS = [
    wordpiece,
    wordpiece_cased,
    gpt2,
    roberta,
    llama3,
    llama2,
    mistral,
    t5,
    unigram_bytes,
    wordlevel,
    clip,
    bpe_affixes,
    ctc,
]


# ---- parts: one component at a time, over a model that shows every byte --------------------------------------------
def parts():
    regexes = [
        r"\d+",
        r"\w+|[^\w\s]",
        r"(?i)the|AND",
        r"[^\s\p{L}]+|\p{Lu}",
        r"\p{Han}|[\p{Hiragana}\p{Katakana}]+",
        r"a{,2}",
        r"(?:ab){2,3}+",
        r"\s+$",
        r"^\w",
        r"\b",
        r"\Bn",
        r"[[:punct:]]+",
        r"[\p{L}&&[^a-z]]+",
        r"[a-e[x-z]]+",
        r"\h+",
        r"(?m:a.b)",
        r"é|\u00e9",
        r"\x{41}",
        r"\p{^L}",
        r"\P{L}+",
        r"(?<=a)b",
        r"(?<!a)b",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
        r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"",
        r"x*",
        r"[\s\S]",
        r"[\W]",
        r"[^\W_]+",
        r"a++b|a*+",
        r"(a|b)c",
        r"(?<n>a)\k<n>",
        r"[]a]",
        r"\S+",
        r"[\S]+",
        r"\D",
        r"(?-i:A)",
        r"\p{Punct}",
        r"[[:graph:]]+",
        r"[[:print:]\n]",
        r"[[:^upper:]]+|[[:digit:]]",
        r"[[:space:]x]",
        r"[^\W\d]+",
        r"a{2}?",
        r"\p{Letter}+|\p{Uppercase_Letter}",
        r"\p{Lowercase}",
        r"\p{L}{2,}?",
        r"(?:a|b)(?=\s)",
        r"[a\]b\-c]+",
        r"[^[a-m]&&[^e]]",
        r"(?x: a b )",
        r"\u0061+",
        r"[\u0061-\u0063]",
        r"(?<!\p{L})\p{Lu}",
        r"\R|\X",
    ]
    behaviours = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
    out = []
    for i, x in enumerate(regexes):
        out.append({"pre_tokenizer": pre_tokenizers.Split(Regex(x), behaviours[i % 5], invert=i % 7 == 3)})
        out.append({"normalizer": normalizers.Replace(Regex(x), ["", "_", "▁<é>"][i % 3])})
    for b in behaviours:
        out.append({"pre_tokenizer": pre_tokenizers.Split(" ", b)})
        out.append({"pre_tokenizer": pre_tokenizers.Split("e", b, invert=True)})
        out.append({"pre_tokenizer": pre_tokenizers.Punctuation(b)})
        out.append({"pre_tokenizer": pre_tokenizers.Split(Regex(r"\s+|[a-c]"), b)})
    for p in [
        pre_tokenizers.CharDelimiterSplit("e"),
        pre_tokenizers.Digits(False),
        pre_tokenizers.Digits(True),
        pre_tokenizers.FixedLength(3),
        pre_tokenizers.UnicodeScripts(),
        pre_tokenizers.Whitespace(),
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.BertPreTokenizer(),
        pre_tokenizers.ByteLevel(True),
        pre_tokenizers.ByteLevel(False, use_regex=False),
    ]:
        out.append({"pre_tokenizer": p})
    for scheme in ("always", "first", "never"):
        for split in (False, True):
            out.append({"pre_tokenizer": pre_tokenizers.Metaspace("_", scheme, split)})
    for n in [
        normalizers.NFC(),
        normalizers.NFD(),
        normalizers.NFKC(),
        normalizers.NFKD(),
        normalizers.Lowercase(),
        normalizers.Nmt(),
        normalizers.StripAccents(),
        normalizers.Strip(True, True),
        normalizers.Strip(True, False),
        normalizers.Strip(False, True),
        normalizers.Prepend("xy"),
        normalizers.ByteLevel(),
        normalizers.Replace("the", "THE!"),
        normalizers.Replace(" ", ""),
        normalizers.Replace("", "-"),
        normalizers.BertNormalizer(True, True, False, False),
        normalizers.BertNormalizer(False, True, True, False),
        normalizers.BertNormalizer(False, False, False, True),
        normalizers.Sequence([]),
    ]:
        out.append({"normalizer": n})
    for d in [
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip("e", 2, 0),
        decoders.Strip("e", 0, 1),
        decoders.Metaspace("e"),
        decoders.Metaspace("e", "never"),
        decoders.WordPiece("a", True),
        decoders.BPEDecoder("e"),
        decoders.CTC("e", " ", False),
        decoders.CTC("e", "|", True),
        decoders.Replace(Regex("[aeiou]"), "<>"),
        decoders.Replace("t", ""),
        decoders.ByteLevel(),
        decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.WordPiece("##", True)]),
    ]:
        out.append({"decoder": d})
    return out


def byte_model():
    vocab = {"<0x%02X>" % i: i for i in range(256)}
    vocab.update({chr(c): 256 + i for i, c in enumerate(range(32, 127))})
    vocab["##"] = 400
    return Tokenizer(models.BPE(vocab, [], byte_fallback=True))


def write_parts():
    lines = []
    some = [t for t in texts() if len(t) == 1][::2] + [[b"aab abab xyz abAB \xc3\xa9 don't"]]
    for p in parts():
        t = byte_model()
        for key, value in p.items():
            setattr(t, key, value)
        j = json.loads(t.to_str())
        got = fnv()
        for text in some:
            e = t.encode(text[0].decode("utf-8", "replace"))
            got = fnv(got, ids_bytes(e.ids))
            got = fnv(got, t.decode(e.ids).encode())
        keep = {k: j[k] for k in ("normalizer", "pre_tokenizer", "decoder") if j[k]}
        lines.append("%016x %s" % (got, json.dumps(keep, ensure_ascii=True)))
    model = json.loads(byte_model().to_str())
    with open(os.path.join(DATA, "parts.jsonl"), "w") as f:
        f.write(json.dumps(model["model"]) + "\n")
        f.write("\n".join(lines) + "\n")


# ---- goldens --------------------------------------------------------------------------------------------------------
def fnv(h=0xCBF29CE484222325, data=b""):
    for b in data:
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def ids_bytes(ids):
    return b"".join(i.to_bytes(4, "little") for i in ids) + b"\xff" * 4


def offsets_hash(e, parts_):
    """Offsets in bytes; the package counts characters."""
    starts = []
    for p in parts_:
        at = [0]
        for c in p:
            at.append(at[-1] + len(c.encode()))
        starts.append(at)
    h = fnv()
    for i, (a, b) in enumerate(e.offsets):
        s = e.sequence_ids[i]
        at = starts[s] if s is not None else [0]
        h = fnv(h, b"%d:%d:%d:%d;" % (e.type_ids[i], at[a], at[b], e.special_tokens_mask[i]))
    return "%016x" % h


def golden(t, name, raw):
    lines = []
    for parts_ in raw:
        p = [x.decode("utf-8", "replace") for x in parts_]
        valid = all(x.encode() == y for x, y in zip(p, parts_))
        e = t.encode(*p)
        offsets = offsets_hash(e, p) if valid else "-"
        lines.append(
            b"\t".join(
                [
                    " ".join(map(str, e.ids)).encode(),
                    offsets.encode(),
                    escape(t.decode(e.ids, skip_special_tokens=False)),
                    escape(t.decode(e.ids, skip_special_tokens=True)),
                ]
            )
        )
    with open(os.path.join(DATA, name + ".golden"), "wb") as f:
        f.write(b"\n".join(lines) + b"\n")


def points():
    """Code points that Unicode 14 has, and whose category has not changed since: later ones are not the same in every
    version of pcre2 and utf8proc."""
    known = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    changed = set()
    for category in sorted({unicodedata.category(chr(c)) for c in known}):
        split = pre_tokenizers.Split(Regex(r"\p{%s}" % category), "isolated")
        inside = "a" if category != "Ll" else "A"
        for c in known:
            is_it = len(split.pre_tokenize_str(inside + chr(c) + inside)) == 3
            if is_it != (unicodedata.category(chr(c)) == category):
                changed.add(c)
    print("category changed since Unicode 14:", " ".join("%x" % c for c in sorted(changed)), file=sys.stderr)
    return [c for c in known if c not in changed]


def write_points(hashes, all_points):
    ranges = []
    for c in all_points:
        if ranges and ranges[-1][1] == c - 1:
            ranges[-1][1] = c
        else:
            ranges.append([c, c])
    with open(os.path.join(DATA, "points.golden"), "w") as f:
        for name, h in hashes:
            f.write("%s %016x\n" % (name, h))
    with open(os.path.join(DATA, "points.txt"), "w") as f:
        for a, b in ranges:
            f.write("%x %x\n" % (a, b))


# ---- folders: what transformers makes of one with or without tokenizer.json ------------------------------------------
def write_folder(name, files, config, model_type):
    from transformers import AutoTokenizer

    folder = os.path.join(DATA, "folders", name)
    os.makedirs(folder, exist_ok=True)
    files = dict(
        files,
        **{"tokenizer_config.json": json.dumps(config), "config.json": json.dumps({"model_type": model_type})}
    )
    for file, content in files.items():
        with open(os.path.join(folder, file), "w", encoding="utf-8") as f:
            f.write(content)
    t = AutoTokenizer.from_pretrained(folder)
    backend = t.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()

    class Both:  # encodes as the backend does, decodes as transformers does (clean_up_tokenization_spaces)
        encode = staticmethod(backend.encode)
        decode = staticmethod(t.decode)

    golden(Both, "folders/" + name, texts()[::4] + texts()[-10:-4])


def write_folders():
    def read(name):
        with open(os.path.join(DATA, name + ".json"), encoding="utf-8") as f:
            return json.load(f)

    def vocab_and_merges(name):
        m = read(name)["model"]
        merges = "".join("%s %s\n" % tuple(x) for x in m["merges"])
        return {
            "vocab.json": json.dumps(m["vocab"], ensure_ascii=False),
            "merges.txt": "#version: 0.2\n" + merges,
        }

    vocab = sorted(read("wordpiece_cased")["model"]["vocab"].items(), key=lambda x: x[1])
    vocab_txt = "".join(x + "\n" for x, _ in vocab)
    write_folder(
        "bert_cased",
        {"vocab.txt": vocab_txt},
        {"tokenizer_class": "BertTokenizer", "do_lower_case": False},
        "bert",
    )
    write_folder(
        "bert_lower",
        {"vocab.txt": vocab_txt},
        {"clean_up_tokenization_spaces": True, "model_max_length": 77},
        "bert",
    )
    write_folder(
        "gpt2_old",
        vocab_and_merges("gpt2"),
        {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True},
        "gpt2",
    )
    write_folder(
        "gpt2_bos",
        vocab_and_merges("gpt2"),
        {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True},
        "gpt2",
    )
    write_folder(
        "roberta_old", vocab_and_merges("roberta"), {"tokenizer_class": "RobertaTokenizer"}, "roberta"
    )
    write_folder("clip_old", vocab_and_merges("clip"), {"tokenizer_class": "CLIPTokenizer"}, "clip")
    fast = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": {
            "__type": "AddedToken",
            "content": "</s>",
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "single_word": False,
        },
    }
    small = read("mistral")
    write_folder(
        "edges",
        {"tokenizer.json": json.dumps(small)},
        dict(
            fast,
            add_bos_token=True,
            add_eos_token=True,
            pad_token="<pad>",
            image_token="of",
            extra_special_tokens=["<extra>", "the"],
            added_tokens_decoder={
                "900": {
                    "content": "newword",
                    "lstrip": True,
                    "normalized": False,
                    "rstrip": False,
                    "single_word": True,
                    "special": False,
                }
            },
        ),
        "llama",
    )


def main():
    if "--folders" in sys.argv:
        return write_folders()
    assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version
    os.makedirs(DATA, exist_ok=True)
    raw, hashes, all_points = texts(), [], points()
    for make in TOKENIZERS:
        name = make.__name__
        t = make()
        t.save(os.path.join(DATA, name + ".json"), pretty=False)
        t.no_truncation()
        golden(t, name, raw)
        h = fnv()
        for c in all_points:
            h = fnv(h, ids_bytes(t.encode("a" + chr(c) + "b").ids))
        hashes.append((name, h))
        print(name, t.get_vocab_size(), file=sys.stderr)
    write_points(hashes, all_points)
    write_parts()
    write_folders()


if __name__ == "__main__":
    main()
