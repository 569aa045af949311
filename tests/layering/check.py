"""Holds the include lines of the tree against tests/layering.txt. Exit status 1 and one line per offence."""
import pathlib
import re
import sys

THIRD_PARTIES = ("jansson.h", "pcre2.h", "utf8proc.h", "llvm-c/", "protobuf-c/", "cuda")


def read_rules(path):
    rules = []
    for line in path.read_text().splitlines():
        line = line.split("#")[0].strip()
        if line:
            room, allowed = line.split(":", 1)
            rules.append((room.strip(), allowed.split()))
    return sorted(rules, key=lambda r: -len(r[0]))  # the most exact room first


def offences(root, rules):
    for path in sorted(root.rglob("*.[ch]")):
        name = path.relative_to(root).as_posix()
        rule = next((r for r in rules if name.startswith(r[0] + "/")), None)
        if rule is None:
            if not name.startswith(("build", ".")):
                yield f"{name}: the folder is not in tests/layering.txt"
            continue
        room, allowed = rule
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            m = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
            if not m:
                continue
            quoted, header = m.group(1) == '"', m.group(2)
            if quoted and (header.startswith(room + "/") or header.startswith(tuple(a for a in allowed if a[0] != "<"))):
                continue
            if not quoted and (not header.startswith(THIRD_PARTIES) or any(header.startswith(a.strip("<>")) for a in allowed if a[0] == "<")):
                continue
            if quoted and "/" not in header and (path.parent / header).exists():
                continue
            yield f"{name}:{number}: {room} may not include {header}"


def main():
    root = pathlib.Path(sys.argv[1])
    bad = list(offences(root, read_rules(root / "tests" / "layering.txt")))
    print("\n".join(bad) if bad else "layering: every include is allowed")
    return bool(bad)


sys.exit(main())
