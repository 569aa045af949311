# How lit runs the .tir files of passes/ and rules/: `tenon`, `FileCheck` and `not` come from the build and from LLVM.
import os

import lit.formats

config.name = "tenon"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".tir"]
config.excludes = ["Inputs"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(lit_config.params["out"], "tests")
tools = [os.path.dirname(lit_config.params["tenon"]), lit_config.params["llvm"]]
config.environment["PATH"] = os.pathsep.join([*tools, config.environment["PATH"]])
config.environment["TENON_CACHE_DIR"] = os.environ.get("TENON_CACHE_DIR", "")  # empty: no cache
if os.path.exists(os.path.join(tools[0], "plugins", "tenon-cpu.so")):
    config.available_features.add("cpu")
