#!/usr/bin/env python3
"""Documents that a grammar made of a JSON Schema lets through: each must satisfy the schema, by the `jsonschema` package.
The demo model draws them at a high temperature, many at once; only documents that it finished count.

    schemas.py TENON DEMO_FOLDER [--count 25] [--only NAME] [--show]
"""
import argparse
import datetime
import json
import os
import sys
import tempfile
import time

try:
    import jsonschema
except ImportError:
    print("skipped: no jsonschema")
    sys.exit(77)
from binding import FINISH, Model, Report, Session, compiled

import subprocess

BATCH = 25
SCHEMAS = {
    "person": {"type": "object", "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 20},
                                                "age": {"type": "integer", "minimum": 0, "maximum": 120},
                                                "email": {"type": "string", "format": "email"}},
               "required": ["name", "age"], "additionalProperties": False},
    "optional": {"type": "object", "properties": {k: {"type": "boolean"} for k in "abcde"}, "required": ["c"],
                 "additionalProperties": False},
    "integers": {"type": "array", "items": {"type": "integer", "minimum": -37, "maximum": 1205}, "minItems": 3,
                 "maxItems": 12},
    "exclusive": {"type": "array", "items": {"type": "integer", "exclusiveMinimum": 99, "exclusiveMaximum": 131},
                  "minItems": 2, "maxItems": 9},
    "numbers": {"type": "array", "items": {"type": "number", "minimum": -1.25, "maximum": 12.5}, "minItems": 1,
                "maxItems": 8},
    "one_sided": {"type": "object", "properties": {"low": {"type": "integer", "minimum": 17},
                                                   "high": {"type": "number", "exclusiveMaximum": -0.5},
                                                   "free": {"type": "number"}},
                  "required": ["low", "high", "free"]},
    "enum": {"enum": ["red", "green", 3, 4.5, None, {"a": [1, "\"x\"\n"]}, True]},
    "const": {"type": "object", "properties": {"version": {"const": 2}, "kind": {"const": "caf\u00e9 \\ \"x\""}},
              "required": ["version", "kind"]},
    "any_of": {"anyOf": [{"type": "string", "maxLength": 8}, {"type": "integer"}, {"type": "null"}]},
    "one_of": {"oneOf": [{"type": "object", "properties": {"shape": {"const": "circle"}, "r": {"type": "number", "minimum": 0}},
                          "required": ["shape", "r"]},
                         {"type": "object", "properties": {"shape": {"const": "box"}, "w": {"type": "integer"},
                                                           "h": {"type": "integer"}},
                          "required": ["shape", "w", "h"]}]},
    "all_of": {"allOf": [{"type": "object", "properties": {"id": {"type": "integer", "minimum": 5}}, "required": ["id"]},
                         {"properties": {"id": {"maximum": 60}, "tag": {"type": "string", "maxLength": 5}},
                          "required": ["tag"]}]},
    "tree": {"$defs": {"node": {"type": "object", "properties": {
        "value": {"type": "integer", "minimum": 0, "maximum": 9},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2}},
        "required": ["value", "children"], "additionalProperties": False}}, "$ref": "#/$defs/node"},
    "tuple": {"type": "array", "prefixItems": [{"type": "string", "maxLength": 4}, {"type": "integer"}, {"type": "boolean"}],
              "items": {"type": "null"}, "minItems": 2, "maxItems": 5},
    "pattern": {"type": "object", "properties": {
        "plate": {"type": "string", "pattern": "^[A-Z]{1,3}-[0-9]{2,4}(E|H)?$"},
        "phone": {"type": "string", "pattern": "^(\\([0-9]{3}\\))?[0-9]{3}-[0-9]{4}$"},
        "odd": {"type": "string", "pattern": "^[^a-z0-9]{1,5}\\\\\\w{1,4}\\s.\"$"},
        "within": {"type": "string", "pattern": "[aeiou] ?[a-z]"}}, "required": ["plate", "phone", "odd"]},
    "formats": {"type": "object", "properties": {
        "day": {"type": "string", "format": "date"}, "when": {"type": "string", "format": "date-time"},
        "id": {"type": "string", "format": "uuid"}, "host": {"type": "string", "format": "ipv4"},
        "six": {"type": "string", "format": "ipv6"}, "clock": {"type": "string", "format": "time"}},
        "required": ["day", "when", "id", "host", "six", "clock"]},
    "map": {"type": "object", "properties": {"key": {"type": "integer"}, "kept": {"type": "null"}},
            "required": ["key"], "additionalProperties": {"type": "boolean"}, "maxProperties": 6},
    "required_only": {"type": "object", "required": ["a", "b"], "properties": {"b": {"type": "boolean"}},
                      "additionalProperties": {"enum": [1, 2]}},
    "nullable": {"type": "object", "properties": {"a": {"type": ["string", "null"], "maxLength": 6},
                                                  "b": {"type": ["integer", "boolean"]}}, "required": ["a", "b"]},
    "nested": {"type": "object", "properties": {"items": {"type": "array", "minItems": 1, "maxItems": 3, "items": {
        "type": "object", "properties": {"sku": {"type": "string", "pattern": "^[a-z]{2}[0-9]{3}$"},
                                         "count": {"type": "integer", "minimum": 1, "maximum": 99},
                                         "price": {"type": "number", "minimum": 0, "maximum": 999.99}},
        "required": ["sku", "count", "price"]}}, "total": {"type": "number", "minimum": 0}},
        "required": ["items", "total"]},
    "unicode": {"type": "object", "properties": {"\u540d\u524d": {"type": "string", "minLength": 2, "maxLength": 10},
                                                 "\"quoted\"": {"type": "integer"}},
                "required": ["\u540d\u524d", "\"quoted\""], "additionalProperties": False},
}

# What no grammar is made of is refused by the keyword's name.
REFUSED = [
    ({"not": {"type": "string"}}, "'not'"), ({"type": "object", "patternProperties": {"a": {}}}, "'patternProperties'"),
    ({"if": {}, "then": {}}, "'if'"), ({"type": "array", "uniqueItems": True}, "'uniqueItems'"),
    ({"type": "array", "contains": {}}, "'contains'"), ({"type": "number", "multipleOf": 0.5}, "'multipleOf'"),
    ({"type": "string", "format": "idn-email"}, "'format'"), ({"type": "string", "pattern": "^(?=a)b$"}, "'pattern'"),
    ({"type": "string", "pattern": "^(a)\\1$"}, "'pattern'"), ({"type": "string", "pattern": "^a$|b"}, "'pattern'"),
    ({"type": "string", "pattern": "^a*$", "maxLength": 3}, "'maxLength'"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "'oneOf'"),
    ({"$ref": "other.json"}, "'$ref'"), ({"$ref": "#/$defs/none"}, "'$ref'"), ({"$anchor": "x"}, "'$anchor'"),
    ({"type": "object", "propertyNames": {}}, "'propertyNames'"), ({"dependentRequired": {}}, "'dependentRequired'"),
    ({"type": "integer", "minimum": 5, "maximum": 4}, "no integer"), ({"type": "strnig"}, "'strnig'"),
    ({"enum": ["a"], "maxLength": 3}, "'maxLength'"), (False, "false"), ({"unevaluatedProperties": False}, "'unevaluatedProperties'"),
    ({"allOf": [{"properties": {"a": {}}, "additionalProperties": False}, {"properties": {"b": {}}}]}, "'additionalProperties'"),
    ({"type": "object", "minProperties": 3}, "'minProperties'"), ({"type": "number", "minimum": 1e300}, "'minimum'"),
]


def checker():
    f = jsonschema.FormatChecker()

    @f.checks("date-time", raises=ValueError)
    def is_date_time(value):
        return not isinstance(value, str) or datetime.datetime.fromisoformat(value.replace("Z", "+00:00")).tzinfo is not None

    @f.checks("time", raises=ValueError)
    def is_time(value):
        return not isinstance(value, str) or datetime.time.fromisoformat(value.replace("Z", "+00:00")).tzinfo is not None

    return f


def grammar_of(tenon, schema):
    r = subprocess.run([tenon, "grammar", "-"], input=json.dumps(schema), capture_output=True, text=True)
    return (r.stdout, None) if r.returncode == 0 else (None, r.stderr)


def documents(s, grammar, count, bias):
    """Finished documents, how many were not, and microseconds of grammar per token."""
    done, open_, tokens, seconds, seed = [], 0, 0, 0.0, 1
    prompts = [s.tokenize("And the answer was: ")] * BATCH
    while len(done) < count and seed < 20 * count + 200:
        s.reset()
        for ids, text, r in s.generate_batch(prompts, 400, temperature=1.6, seed=seed, grammar=grammar, bias=bias):
            finished = FINISH[r.finish] in ("grammar", "end")
            done += [text] if finished else []
            open_ += not finished
            tokens += r.masks
            seconds += r.mask_seconds
        seed += BATCH
    return done[:count], open_, 1e6 * seconds / max(tokens, 1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("tenon"), p.add_argument("folder")
    p.add_argument("--count", type=int, default=25)
    p.add_argument("--only")
    p.add_argument("--show", action="store_true")
    a = p.parse_args()
    report, formats = Report(), checker()
    for schema, words in REFUSED:
        _, error = grammar_of(a.tenon, schema)
        report(error is not None and words in error, "refused", f"{json.dumps(schema)[:60]}: {(error or 'accepted').strip()}")
    with tempfile.TemporaryDirectory() as tmp:
        m = Model(compiled(a.tenon, a.folder, os.path.join(tmp, "libdemo.so")))
        s = Session(m, threads=2, batch=BATCH, capacity=512)
        # The demo model has hardly seen a closing quote: texts would not end.
        bias = {t: b for c, b in (('"', 15.0), ("}", 5.0)) for t in s.tokenize(c, 1)}
        for name, schema in SCHEMAS.items():
            if a.only and name != a.only:
                continue
            grammar, error = grammar_of(a.tenon, schema)
            if error:
                report(False, name, error.strip())
                continue
            begin = time.time()
            texts, unfinished, cost = documents(s, grammar, a.count, bias)
            validator = jsonschema.Draft202012Validator(schema, format_checker=formats)
            wrong = ""
            for t in texts:
                try:
                    errors = [e.message for e in validator.iter_errors(json.loads(t))]
                except ValueError as e:
                    errors = [str(e)]
                if errors and not wrong:
                    wrong = f"{t!r}: {errors[0]}"
            if a.show:
                print(*sorted({t.decode() for t in texts})[:6], sep="\n")
            report(not wrong and len(texts) == a.count, name,
                   wrong or f"{len(texts)} valid, {len(set(texts))} different, {unfinished} not finished, "
                            f"{cost:.0f} us of grammar per token, {time.time() - begin:.1f} s")
        s.close()
    report.end()


if __name__ == "__main__":
    main()
