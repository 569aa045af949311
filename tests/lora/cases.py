"""The cases that make_lora.py computes and run_lora.py checks: base folder of tests/parity, weight of each adapter."""

CASES = {
    "one": ("llama", {"attention": 1.0}),
    "rslora": ("llama", {"mlp": 1.0}),
    "both": ("llama", {"attention": 0.5, "mlp": 2.0}),
    "none": ("llama", {"attention": 0.0}),
    "half": ("llama-bf16", {"attention": 1.0, "mlp": 1.0}),
    "gpt2": ("gpt2", {"gpt2": -1.5}),
}
