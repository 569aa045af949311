"""Tokenizers from GGUF files to folders and from folders to GGUF files: the same ids on texts in more than twenty
scripts, as the tokenizers package, AutoTokenizer (where transformers is there) and llama.cpp (where llama-cpp-python
is there) have them. What the other kind of file cannot say must be refused by name.

    python convert.py TOK_MAIN [FILE.gguf ...]

Exit status 77 without the tokenizers package.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "data")
try:
    from tokenizers import Tokenizer
except ImportError:
    print("SKIPPED: the tokenizers package is not installed, nothing was compared")
    sys.exit(77)
try:
    import llama_cpp
except ImportError:
    llama_cpp = None
try:
    from transformers import AutoTokenizer
except ImportError:
    AutoTokenizer = None

with open(os.path.join(HERE, "scripts.txt"), encoding="utf-8") as f:
    SCRIPTS = f.read().splitlines()
SPACES = ["", " ", "  a", "a  b   c    d", "x\n\ny\r\nz\t\tw  \n", " lead and trail "]

# What the folders of data/ become: None, or words of the refusal. The added tokens of gpt2 and wordpiece stand within
# words, or take spaces, which GGUF files cannot say: a warning, and no text with them.
FOLDERS = {
    "gpt2": None,
    "llama3": None,
    "roberta": None,
    "wordpiece": None,
    "llama2": "the merges are not all pairs of tokens that make another",
    "mistral": "the merges are not all pairs of tokens that make another",
    "wordpiece_cased": '"handle_chinese_chars": false',
    "t5": '"precompiled_charsmap": "..."',
    "unigram_bytes": '"UnicodeScripts"',
    "bpe_affixes": "pieces of words that are marked by '</e>' cannot be said in GGUF files",
    "clip": "pieces of words that are marked by '</w>' cannot be said in GGUF files",
    "ctc": "a model of type WordLevel cannot be said in GGUF files",
    "wordlevel": "a model of type WordLevel cannot be said in GGUF files",
    "folders/bert_cased": None,
    "folders/bert_lower": None,
    "folders/gpt2_bos": None,
    "folders/gpt2_old": None,
    "folders/roberta_old": None,
    "folders/clip_old": "'</w>'",
    "folders/edges": "merges make a special token",
}
PRE = {"gpt2": "gpt-2", "llama3": "llama-bpe", "roberta": "roberta-bpe", "folders/gpt2_bos": "gpt-2"}
WARNED = {"gpt2": "4 added tokens", "wordpiece": "'newword'"}
ADDED = re.compile("ew|newword|STRIP", re.I)

failures = 0


def report(name, what, wrong, total, example=None):
    global failures
    failures += wrong > 0
    print(f"{'FAIL' if wrong else 'ok  '} {name:32} {what:24} {total - wrong} of {total}")
    if wrong and example:
        print("    ", *map(ascii, example))


def expect(name, what, good, shown=""):
    report(name, what, not good, 1, [shown[-400:]])


def run(*args, **more):
    return subprocess.run(args, capture_output=True, text=True, timeout=300, **more)


def tenon(tool, path, texts):
    out = run(tool, path, input="".join(t.encode().hex() + "\n" for t in texts))
    if out.returncode:
        raise SystemExit(f"{path}: {out.stderr}")
    return [[int(x.split(":")[0]) for x in line.split("|")[0].split()] for line in out.stdout.splitlines()]


def compare(name, what, texts, want, got):
    wrong = [(t, w, g) for t, w, g in zip(texts, want, got) if w != g]
    report(name, what, len(wrong), len(texts), wrong[0] if wrong else None)


def package(folder):
    """Ids as the tokenizers package has them; of folders without tokenizer.json, transformers."""
    path = os.path.join(folder, "tokenizer.json")
    if not os.path.exists(path):
        return AutoTokenizer and (lambda t, a=AutoTokenizer.from_pretrained(folder): a(t)["input_ids"])
    t = Tokenizer.from_file(path)
    t.no_truncation()
    t.no_padding()
    return lambda x: t.encode(x).ids


def llama_ids(path, texts):
    model = llama_cpp.Llama(path, vocab_only=True, verbose=False)
    return [model.tokenize(t.encode(), add_bos=True, special=True) for t in texts]


def fits_llama(kind, text):
    """llama.cpp's BERT takes all marks for accents and leaves Hangul together."""
    odd = any(unicodedata.category(c) in ("Mc", "Me") or "\u1100" <= c < "\u1200"
              for c in unicodedata.normalize("NFD", text))
    return text and (kind != "bert" or not odd)


def llama(name, path, kind, texts, want):
    texts, want = zip(*((t, w) for t, w in zip(texts, want) if fits_llama(kind, t)))
    compare(name, "llama.cpp", texts, want, llama_ids(path, texts))


def value(tool, path, key):
    """A key of a GGUF file that is a text: read here, byte by byte."""
    with open(path, "rb") as f:
        data = f.read()
    at = data.find(key.encode() + b"\x08\0\0\0")
    if at < 0:
        return None
    at += len(key) + 4
    size = int.from_bytes(data[at : at + 8], "little")
    return data[at + 8 : at + 8 + size].decode()


def from_gguf(tool, path, tmp):
    name = os.path.basename(path)[:-5]
    folder, again = os.path.join(tmp, name), os.path.join(tmp, name + ".gguf")
    os.mkdir(folder)
    texts = SCRIPTS + SPACES
    want = tenon(tool, path, texts)
    p = run(tool, path, "folder", folder)
    expect(name, "to folder", p.returncode == 0 and not p.stderr, p.stderr)
    if p.returncode:
        return
    compare(name, "tenon, folder", texts, want, tenon(tool, folder, texts))
    compare(name, "tokenizers", texts, want, list(map(package(folder), texts)))
    if AutoTokenizer:
        auto = AutoTokenizer.from_pretrained(folder)
        compare(name, "AutoTokenizer", texts, want, [auto(t)["input_ids"] for t in texts])
    p = run(tool, folder, "gguf", again)
    expect(name, "to GGUF again", p.returncode == 0 and "warning" not in p.stderr, p.stderr)
    compare(name, "tenon, GGUF", texts, want, tenon(tool, again, texts))
    kind, pre = value(tool, path, "tokenizer.ggml.model"), value(tool, path, "tokenizer.ggml.pre")
    expect(name, "kind and splitter", (kind, pre or "default") == (
        value(tool, again, "tokenizer.ggml.model"), value(tool, again, "tokenizer.ggml.pre")))
    # Where llama.cpp has its own view of a splitter or a normal form, it has the same of both files.
    if llama_cpp:
        theirs = llama_ids(path, texts)
        compare(name, "llama.cpp, both files", texts, theirs, llama_ids(again, texts))
        equal = sum(a == b for a, b in zip(theirs, want))
        expect(name, f"llama.cpp: {equal} of {len(texts)}", 3 * equal > 2 * len(texts))


def to_gguf(tool, name, tmp):
    folder = os.path.join(DATA, name)
    if not os.path.isdir(folder):
        folder = os.path.join(tmp, "data-" + name)
        os.mkdir(folder)
        shutil.copy(os.path.join(DATA, name + ".json"), os.path.join(folder, "tokenizer.json"))
    path = os.path.join(tmp, os.path.basename(name) + ".folder.gguf")
    p = run(tool, folder, "gguf", path)
    if FOLDERS[name]:
        expect(name, "refused", p.returncode == 1 and FOLDERS[name] in p.stderr, p.stderr)
        return
    expect(name, "to GGUF", p.returncode == 0 and WARNED.get(name, "") in p.stderr, p.stderr)
    if name in PRE:
        expect(name, "splitter", value(tool, path, "tokenizer.ggml.pre") == PRE[name])
    texts = [t for t in SCRIPTS + SPACES if not ADDED.search(t)]
    encode = package(folder)
    if not encode:
        return
    want = list(map(encode, texts))
    compare(name, "tenon", texts, want, tenon(tool, path, texts))
    if llama_cpp and "space is put in front" not in p.stderr:
        llama(name, path, value(tool, path, "tokenizer.ggml.model"), texts, want)


def edited(tool, tmp, name, change, words, *more, code=1):
    """A folder with tokenizer.json changed, and what is said about it."""
    folder = os.path.join(tmp, "edited-" + name)
    os.mkdir(folder)
    with open(os.path.join(DATA, "llama3.json"), encoding="utf-8") as f:
        t = json.load(f)
    change(t)
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(t, f)
    path = os.path.join(tmp, name + ".edited.gguf")
    p = run(tool, folder, "gguf", path, *more)
    said = words in p.stderr if words or code else not p.stderr
    expect("edited", name, p.returncode == code and said, p.stderr)
    return path


def splits(t):
    return t["pre_tokenizer"]["pretokenizers"][0]


def edits(tool, tmp):
    def pattern(x):
        return lambda t: splits(t)["pattern"].update(Regex=x)

    def same(t):
        pass

    def other_words(t):  # cuts alike, in other words
        splits(t)["pattern"]["Regex"] = splits(t)["pattern"]["Regex"].replace(
            "(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?i:[sdmt]|ll|ve|re)")

    path = edited(tool, tmp, "other-words", other_words, "'llama-bpe' cuts all texts of the comparison alike", code=0)
    expect("edited", "other-words: name", value(tool, path, "tokenizer.ggml.pre") == "llama-bpe")
    edited(tool, tmp, "no-name", pattern("[aeiou]+"), '"Regex": "[aeiou]+"')
    edited(tool, tmp, "pre-hint", pattern("[aeiou]+"), "--pre NAME takes a splitter all the same")
    edited(tool, tmp, "nearest", pattern("[aeiou]+"), "the nearest is '")

    def digits(t):  # StarCoder's, SmolLM's
        t["model"]["ignore_merges"] = False
        t["pre_tokenizer"]["pretokenizers"] = [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        ]

    path = edited(tool, tmp, "digits", digits, "", code=0)
    expect("edited", "digits: name", value(tool, path, "tokenizer.ggml.pre") == "smollm")

    def composed(t):  # Command R's: no name has this and NFC
        digits(t)
        t["normalizer"] = {"type": "NFC"}

    edited(tool, tmp, "composed", composed, "warning: 'smollm' cuts some texts otherwise", code=0)
    path = edited(tool, tmp, "pre", pattern("[aeiou]+"), "warning: 'gpt-2' cuts some texts otherwise", "gpt-2", code=0)
    expect("edited", "pre: name", value(tool, path, "tokenizer.ggml.pre") == "gpt-2")
    edited(tool, tmp, "pre-unknown", same, "--pre: error: 'lama-bpe' is not known; the nearest is llama-bpe", "lama-bpe")
    edited(tool, tmp, "few-rows", same, "the tokenizer has 1200 tokens, but the model's table 1000 rows", "-", "1000")
    path = edited(tool, tmp, "more-rows", same, "", "-", "1300", code=0)
    with open(path, "rb") as f:
        expect("edited", "more-rows: filled", f.read().count(b"[PAD1299]") == 1)
    edited(tool, tmp, "merges-needed", lambda t: t["model"].update(ignore_merges=False), "", code=0)

    def whole_word(t):  # a token that no merge makes: it matters then whether words need merges
        t["model"]["vocab"]["qqqq"] = 1200
        t["model"]["ignore_merges"] = False

    edited(tool, tmp, "whole-words", whole_word, "", code=0)

    def whole(t):  # no name has digits one by one and whole words; the merges make every token, so it does not matter
        digits(t)
        t["model"]["ignore_merges"] = True

    edited(tool, tmp, "whole-all-the-same", whole, "", code=0)

    def whole_matters(t):
        whole(t)
        t["model"]["vocab"]["qqqq"] = 1200

    edited(tool, tmp, "whole-matters", whole_matters, "no key of GGUF files says")

    def normalizer(t):
        t["normalizer"] = {"type": "Lowercase"}

    edited(tool, tmp, "lowercase", normalizer, 'normalizer {"type": "Lowercase"}')

    def around(t):
        for post in t["post_processor"]["processors"]:
            for key in ("single", "pair"):
                if key in post:
                    post[key] = [post[key][0]] * 2 + post[key][1:]

    edited(tool, tmp, "around", around, "are more than a first and a last one: GGUF files cannot say them", code=0)


def memory(tool, tmp):
    for name in ("spm", "t5", "bert", "bpe_qwen2"):
        folder = os.path.join(tmp, "oom-" + name)
        os.mkdir(folder)
        p = run(tool, os.path.join(DATA, "gguf", name + ".gguf"), "oom-folder", folder)
        expect(name, "to folder, no memory", p.returncode == 0, p.stderr)
        p = run(tool, folder, "oom-gguf", folder + ".gguf")
        expect(name, "to GGUF, no memory", p.returncode == 0, p.stderr)


def main():
    tool, files = sys.argv[1], sys.argv[2:]
    data = os.path.join(DATA, "gguf")
    files = files or [os.path.join(data, f) for f in sorted(os.listdir(data)) if f.endswith(".gguf")]
    with tempfile.TemporaryDirectory() as tmp:
        os.mkdir(os.path.join(tmp, "folders"))
        for path in files:
            from_gguf(tool, path, tmp)
        for name in FOLDERS:
            to_gguf(tool, name, tmp)
        edits(tool, tmp)
        memory(tool, tmp)
    if not llama_cpp:
        print("llama-cpp-python is not there: nothing was compared with llama.cpp")
    if not AutoTokenizer:
        print("transformers is not there: nothing was compared with AutoTokenizer")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
