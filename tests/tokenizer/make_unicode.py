"""Writes frontend/tokenizer/unicode.def: the character classes of the `tokenizers` package, found by asking it about
every code point. Its parts use crates of different Unicode versions (categories of Unicode 8, lower case of 16,
normal forms of 12), so no single Unicode library gives the same answers; these tables do.

    python make_unicode.py ../../frontend/tokenizer/unicode.def
"""

import sys
import unicodedata

import tokenizers
from tokenizers import normalizers as N
from tokenizers import pre_tokenizers as P

POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    # Surrogates cannot be asked about: join over them, so that tables stay small.
    joined = []
    for r in out:
        if joined and joined[-1][1] == 0xD7FF and r[0] == 0xE000:
            joined[-1][1] = r[1]
        else:
            joined.append(r)
    return joined


def bert(**on):
    flags = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return N.BertNormalizer(**{**flags, **on})


def removed(normalizer):
    return {c for c in POINTS if normalizer.normalize_str("a" + chr(c) + "a") == "aa"}


def pieces(pre_tokenizer, n):
    return {c for c in POINTS if len(pre_tokenizer.pre_tokenize_str("a" + chr(c) + "a")) == n}


def lower_rows():
    """Rows (first, last, step, delta) with lower(c) = c + delta for first, first + step .. last."""
    lower = N.Lowercase()
    pairs = {}
    for c in POINTS:
        to = lower.normalize_str(chr(c))
        if to == chr(c):
            continue
        if len(to) > 1:
            assert c == 0x130 and to == "i\u0307", hex(c)  # the only one: in the code, not in the table
            continue
        pairs[c] = ord(to) - c
    rows = []
    for c in sorted(pairs):
        d = pairs[c]
        if rows and rows[-1][3] == d:
            first, last, step, _ = rows[-1]
            if first == last and c - last in (1, 2):
                rows[-1] = (first, c, c - last, d)
                continue
            if c - last == step:
                rows[-1] = (first, c, step, d)
                continue
        rows.append((c, c, 1, d))
    return rows


def newer_forms():
    """Runs of code points that the package leaves alone, where a newer Unicode does or may do something: later
    versions of utf8proc then make no difference. What nobody changes may be in a run as well."""
    nfd, nfkd = N.NFD(), N.NFKD()

    def affected(
        ch,
    ):  # has a decomposition, or a combining class: then it moves across U+0334 (1) or U+0301 (230)
        return (
            nfkd.normalize_str(ch) != ch
            or nfd.normalize_str(ch + "\u0334") != ch + "\u0334"
            or nfd.normalize_str("\u0301" + ch) != "\u0301" + ch
        )

    alone = {c for c in POINTS if c >= 0x300 and not affected(chr(c))}
    maybe = {
        c
        for c in alone
        if unicodedata.category(chr(c)) == "Cn"
        or unicodedata.decomposition(chr(c))
        or unicodedata.combining(chr(c))
    }
    out = set()
    for first, last in ranges(alone):
        run = [c for c in range(first, last + 1) if c in maybe]
        if run:
            out.update(range(run[0], run[-1] + 1))
    return out


def script_rows():
    """(first, script) rows; script numbers are arbitrary, 0 is the one that never splits."""
    pre = P.UnicodeScripts()

    def same(a, b):
        return len(pre.pre_tokenize_str("x" + chr(a) + chr(b))) == len(pre.pre_tokenize_str("x" + chr(a)))

    def neutral(c):  # neither starts a piece itself nor lets the next character start one
        return len(pre.pre_tokenize_str(chr(c))) == 0

    known, rows, last = [], [], None
    for c in POINTS:
        if neutral(c):
            number = 0
        elif last and known[last - 1] is not None and same(known[last - 1], c):
            number = last
        else:
            number = next((i + 1 for i, k in enumerate(known) if same(k, c)), 0)
            if not number:
                known.append(c)
                number = len(known)
        if number != last:
            rows.append((c, number))
        last = number
    return rows


def wrapped(items, out):
    line = ""
    for item in items:
        if len(line) + len(item) + 1 > 108:
            out.append(line)
            line = ""
        line += (" " if line else "") + item
    out.append(line)


def main():
    out = [
        "/* unicode.def - character classes of the `tokenizers` package %s, asked for every code point by"
        % tokenizers.__version__,
        " * tests/tokenizer/make_unicode.py. They differ from one Unicode version's: see that script. */",
    ]
    tables = [
        (
            "OTHER",
            "BertNormalizer removes it (clean_text): categories Cc, Cf, Co, some unassigned",
            removed(bert(clean_text=True)),
        ),
        ("NONSPACING", "BertNormalizer strips it (strip_accents)", removed(bert(strip_accents=True))),
        ("MARK", "StripAccents removes it", removed(N.StripAccents())),
        ("PUNCT", "BertPreTokenizer and Punctuation split there", pieces(P.Punctuation(), 3)),
        ("NUMERIC", "Digits", pieces(P.Digits(individual_digits=True), 3)),
        ("WORD", "\\w of Whitespace and of added tokens with single_word", pieces(P.Whitespace(), 1)),
        ("NEWER", "normal forms leave it alone, whatever a newer Unicode has there", newer_forms()),
    ]
    for name, what, points in tables:
        out += ["", "/* %s */" % what, "#ifdef TN_TK_%s" % name]
        wrapped(["TN_TK_%s(0x%x, 0x%x)" % (name, a, b) for a, b in ranges(points)], out)
        out += ["#undef TN_TK_%s" % name, "#endif"]
    out += ["", "/* lower case: first, last, step, delta */", "#ifdef TN_TK_LOWER"]
    wrapped(["TN_TK_LOWER(0x%x, 0x%x, %d, %d)" % r for r in lower_rows()], out)
    out += ["#undef TN_TK_LOWER", "#endif"]
    out += ["", "/* UnicodeScripts: first code point, script (0: never splits) */", "#ifdef TN_TK_SCRIPT"]
    wrapped(["TN_TK_SCRIPT(0x%x, %d)" % r for r in script_rows()], out)
    out += ["#undef TN_TK_SCRIPT", "#endif"]
    with open(sys.argv[1], "w", encoding="ascii") as f:
        f.write("\n".join(out) + "\n")


main()
