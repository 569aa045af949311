"""Writes tests/ops/*.cases: inputs and expected outputs for every op of ir/ops.def.

They come from NumPy in float64, from PyTorch where NumPy has no such function, from the gguf package for
block formats, and from the onnx package and ml_dtypes for narrow floats. Run it in this folder.
"""

from attention import attention, kv_update, rope
from caches import cache_attention, cache_update, far_rope
from elementwise import binary, broadcasting, cast, compare, unary
from goldens import Cases
from irregular import det, dft, nms, nonzero, scatter, unique
from linear import dequant, experts, matmul, norms
from moves import leaves, views
from reductions import along_axis, reductions
from narrow import bits, functions, indices, narrow
from recurrent import recurrent
from scan import delta_scan, ssm_scan
from spatial import convs, pools

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
    "scan": [ssm_scan, delta_scan],
    "irregular": [scatter, nonzero, unique, nms, det, dft],
    "recurrent": [recurrent],
    "narrow": [functions, bits, indices, narrow],
    "spatial": [convs, pools],
}

if __name__ == "__main__":
    for file, parts in FILES.items():
        cases = Cases()
        for part in parts:
            part(cases)
        cases.write(f"{file}.cases")
        print(file, len(cases.text))
