"""Writes tests/ops/*.cases: inputs and expected outputs for every op of ir/ops.def.

They come from NumPy in float64, from PyTorch where NumPy has no such function, and from the gguf package for
block formats. Run it in this folder.
"""

from attention import attention, kv_update, rope
from caches import cache_attention, cache_update, far_rope
from elementwise import binary, broadcasting, cast, compare, unary
from goldens import Cases
from linear import dequant, experts, matmul, norms
from moves import leaves, views
from reductions import along_axis, reductions
from scan import ssm_scan

FILES = {
    "unary": [unary],
    "cast": [cast],
    "binary": [binary, broadcasting],
    "compare": [compare],
    "leaf": [leaves],
    "view": [views],
    "reduce": [reductions],
    "axis": [along_axis],
    "linear": [matmul, norms],
    "quant": [dequant],
    "expert": [experts],
    "attention": [attention, rope, kv_update],
    "cache": [cache_attention, cache_update, far_rope],
    "scan": [ssm_scan],
}

if __name__ == "__main__":
    for file, parts in FILES.items():
        cases = Cases()
        for part in parts:
            part(cases)
        cases.write(f"{file}.cases")
        print(file, len(cases.text))
