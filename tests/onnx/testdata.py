#!/usr/bin/env python3
"""The test models of Debian's libonnx-testdata: the sets simple, pytorch-operator and pytorch-converted, each model with
inputs and expected outputs, through `tenon verify`. A model of IR version 3 and opset 6 is among them: most are.

  testdata.py TENON [FOLDER] [--only REGEX]
"""
import argparse, pathlib, re, sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import nodes

SETS = ("simple", "pytorch-operator", "pytorch-converted")


def run(tenon, model, data):
    """As a node case: once more with all sizes stated and structural inputs fixed when tenon refuses."""
    options = nodes.lengths(model.parent)
    result = nodes.run(tenon, model, data, options)
    if result[0] != "refused":
        return result
    return nodes.run(tenon, model, data, (options or nodes.shapes(model.parent)) + nodes.fixes(model.parent))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("tenon")
    p.add_argument("folder", nargs="?", default="/usr/share/libonnx-testdata/data")
    p.add_argument("--only", default="")
    args = p.parse_args()
    root = pathlib.Path(args.folder)
    if not root.is_dir():
        print(f"SKIP: {root} is not there; it comes with the Debian package libonnx-testdata")
        return 77
    bad = count = 0
    for name in SETS:
        models = sorted(m for m in (root / name).glob("*/model.onnx") if re.search(args.only, m.parent.name))
        passed = 0
        for model in models:
            sets = sorted(model.parent.glob("test_data_set_*"))
            results = [run(args.tenon, model, data) for data in sets]
            failures = [r for r in results if r[0] != "pass"]
            passed += bool(results) and not failures
            for outcome, words in failures[:1]:
                print(f"{name}/{model.parent.name}: {outcome}: {words}")
        print(f"{name}: {passed} of {len(models)} pass")
        bad += len(models) - passed
        count += len(models)
    return 1 if bad or not count else 0


if __name__ == "__main__":
    sys.exit(main())
