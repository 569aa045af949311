"""The structures of the package against the C compiler's: every size, every offset, every type number."""
import ctypes
import os
import shutil
import subprocess

import pytest
from conftest import ROOT

from tenon import _abi, _arrays

CC = os.environ.get("TENON_CC") or shutil.which("cc")


def compiled(tmp_path, body):
    if not CC:
        pytest.skip("no C compiler")
    source = tmp_path / "p.c"
    source.write_text('#include "tenon/model.h"\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n' + body +
                      "return 0;\n}\n")
    subprocess.run([CC, f"-I{ROOT}/plugins/include", str(source), "-o", str(tmp_path / "p")], check=True)
    return subprocess.run([str(tmp_path / "p")], check=True, capture_output=True, text=True).stdout.splitlines()


def test_layout(tmp_path):
    rows, want = [], []
    for name, struct in _abi.STRUCTS.items():
        rows.append(f'printf("%zu\\n", sizeof({name}));\n')
        want.append(str(ctypes.sizeof(struct)))
        for field, *_ in struct._fields_:
            rows.append(f'printf("%zu %zu\\n", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));\n')
            member = getattr(struct, field)
            want.append(f"{member.offset} {member.size}")
    assert compiled(tmp_path, "".join(rows)) == want


def test_all_structs_of_the_header_are_known():
    text = (ROOT / "plugins/include/tenon/model.h").read_text()
    named = {line.split()[-1].rstrip(";") for line in text.splitlines() if line.startswith("} tn_")}
    assert named - {"tn_finish"} == set(_abi.STRUCTS)


def test_constants(tmp_path):
    body = 'printf("%u %u %d %d\\n", TN_ABI_MAJOR, TN_ABI_MINOR, TN_MAX_RANK, TN_FINISH_CANCELLED);\n'
    body += 'printf("%d %d %d %d %d %d\\n", TN_OK, TN_CANCELLED, TN_INVALID, TN_NOT_FOUND, TN_TOK_NO_SPECIAL, '
    body += "TN_TOK_SKIP_SPECIAL);\n"
    rows = compiled(tmp_path, body)
    major, minor, rank, last = map(int, rows[0].split())
    assert (major, rank, last) == (_abi.ABI_MAJOR, _abi.MAX_RANK, len(_abi.FINISH) - 1) and minor >= _abi.ABI_MINOR
    assert rows[1] == " ".join(map(str, (_abi.OK, _abi.CANCELLED, _abi.INVALID, _abi.NOT_FOUND, _abi.NO_SPECIAL,
                                         _abi.SKIP_SPECIAL)))


def test_type_numbers(tmp_path):
    body = "\n".join(f'printf("%d\\n", TN_DT_{n});' for n in _arrays.NAMES)
    assert compiled(tmp_path, body) == [str(i + 1) for i in range(len(_arrays.NAMES))]
    assert compiled(tmp_path, 'printf("%d\\n", TN_DT_PLAIN_END);\n') == [str(len(_arrays.NAMES) + 1)]
