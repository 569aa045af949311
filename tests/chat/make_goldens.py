"""Writes what jinja2 makes of chat templates in the environment that transformers sets up: the expected values of
test_chat.c and the comparison of differential.py.

    python make_goldens.py                  # writes data/expressions.jsonl and data/templates.jsonl
    python make_goldens.py --check TOOL     # compares TOOL (chat_main) with jinja2 on all of it instead

expressions.txt has a template a line, with \\n for line ends outside of tags. templates/ has templates written in the
style of the published ones; conversations.json what they are run on. A golden line is a JSON object: "template" (a text)
or "file", "variables" (index in the first line of the file), and "want" (the text) or "error": true.
"""

import json
import os
import re
import subprocess
import sys
import time
from datetime import datetime

try:
    import jinja2
    import transformers.utils.chat_template_utils as chat
except ImportError:
    print("SKIPPED: jinja2 and transformers are not installed, nothing was compared")
    sys.exit(77)

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "data")
NOW = 1763800000


class Clock:
    """datetime whose now() is fixed: strftime_now must give the same in every run."""

    @staticmethod
    def now():
        return datetime.fromtimestamp(NOW)


chat.datetime = Clock
VARIABLES = {
    "messages": [
        {"role": "system", "content": " Be brief. "},
        {"role": "user", "content": "Hi <b>there</b> é", "n": 1},
        {"role": "assistant", "content": "Hello!", "n": 2},
        {"role": "user", "content": "Bye"},
    ],
    "data": {"a": 1, "b": "two", "nested": {"list": [1, 2, 3], "none": None}, "real": 2.5},
}


def lines_of_text(line):
    """\\n and \\t outside of tags."""
    parts = re.split(r"(\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\})", line)
    return "".join(p if i % 2 else p.replace("\\n", "\n").replace("\\t", "\t") for i, p in enumerate(parts))


def render(text, variables):
    """What transformers renders; None: an error."""
    try:
        return chat._compile_jinja_template(text).render(**variables)
    except (jinja2.exceptions.TemplateError, TypeError, ValueError, ZeroDivisionError, OverflowError, SyntaxError, RecursionError):
        return None


def expressions():
    with open(os.path.join(HERE, "expressions.txt"), encoding="utf-8") as f:
        for line in f.read().splitlines():
            yield {"template": lines_of_text(line)}, VARIABLES


def templates():
    with open(os.path.join(HERE, "conversations.json"), encoding="utf-8") as f:
        conversations = json.load(f)
    for name in sorted(os.listdir(os.path.join(HERE, "templates"))):
        with open(os.path.join(HERE, "templates", name), encoding="utf-8") as f:
            text = f.read()
        for i, variables in enumerate(conversations):
            yield {"file": name, "variables": i, "template": text}, variables


def write(name, cases, head):
    count = errors = 0
    os.makedirs(DATA, exist_ok=True)
    with open(os.path.join(DATA, name), "w", encoding="utf-8") as out:
        out.write(json.dumps(head, ensure_ascii=False) + "\n")
        for case, variables in cases:
            want = render(case["template"], variables)
            case = {k: v for k, v in case.items() if k != "template" or "file" not in case}
            case.update({"error": True} if want is None else {"want": want})
            out.write(json.dumps(case, ensure_ascii=False) + "\n")
            count += 1
            errors += want is None
    print("%s: %d cases, %d of them errors" % (name, count, errors))


def check(tool):
    cases = list(expressions()) + list(templates())
    jobs = "".join(
        json.dumps({"template": c["template"], "variables": v, "now": NOW}, ensure_ascii=False) + "\n" for c, v in cases
    )
    got = subprocess.run([tool], input=jobs, capture_output=True, text=True, check=True).stdout.splitlines()
    wrong = 0
    for (case, variables), line in zip(cases, got):
        want, have = render(case["template"], variables), json.loads(line)
        failed = isinstance(have, dict)
        if failed != (want is None) or (not failed and have != want):
            wrong += 1
            print("%s\n  jinja2: %r\n  got:    %r" % (case.get("file", case["template"]), want, have))
    print("%d compared, %d wrong" % (len(cases), wrong))
    return wrong or len(got) != len(cases)


def main():
    os.environ["TZ"] = "UTC"
    time.tzset()
    if "--check" in sys.argv:
        return check(sys.argv[sys.argv.index("--check") + 1])
    with open(os.path.join(HERE, "conversations.json"), encoding="utf-8") as f:
        conversations = json.load(f)
    write("expressions.jsonl", expressions(), [VARIABLES])
    write("templates.jsonl", templates(), conversations)
    return 0


if __name__ == "__main__":
    sys.exit(main())
