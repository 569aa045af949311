"""Cases of attention, rope and kv_update."""

import numpy as np
import torch
import torch.nn.functional as F
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from goldens import Tensor, f64, normal, rng, tensor, to_type, torch64, ulps


def sdpa(q, k, v, scale, visible, softcap=0.0, bias=None):
    """Attention on [b, s, h, d] in float64 with a score matrix; rows without a visible key give zeros."""
    group = q.shape[2] // k.shape[2]
    k, v = np.repeat(k, group, 2), np.repeat(v, group, 2)
    s = np.einsum("bshd,bthd->bhst", q, k) * scale
    s = softcap * np.tanh(s / softcap) if softcap else s
    s = s + (0 if bias is None else bias)
    s = np.where(visible, s, -np.inf)
    if not softcap:  # torch's own attention must agree wherever a row has a visible key
        m = torch.from_numpy(
            np.where(
                np.broadcast_to(visible, s.shape),
                0 if bias is None else np.broadcast_to(bias, s.shape),
                -np.inf,
            ).astype(np.float64)
        )
        theirs = F.scaled_dot_product_attention(
            *(torch.from_numpy(x.transpose(0, 2, 1, 3).copy()) for x in (q, k, v)), attn_mask=m, scale=scale
        )
    top = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.where(np.isneginf(top), 0, np.exp(s - np.where(np.isneginf(top), 0, top)))
    total = p.sum(-1, keepdims=True)
    out = np.einsum("bhst,bthd->bshd", p / np.where(total == 0, 1, total), v)
    if not softcap:
        rows = np.broadcast_to(~np.isneginf(top), theirs.shape)
        assert np.allclose(theirs.numpy()[rows], out.transpose(0, 2, 1, 3)[rows], rtol=1e-9, atol=1e-12)
    return out


def attention(c):
    def add(
        name,
        b=1,
        s=4,
        t=4,
        h=2,
        hkv=2,
        d=4,
        dv=4,
        causal=0,
        window=0,
        softcap=0.0,
        keys=0,
        mask=None,
        bias=None,
        dtype="f32",
        kv=None,
        dims=None,
        text=("", "", "", ""),
    ):
        q = tensor(dtype, normal(b, s, h, d), text[0] or None)
        k = tensor(kv or dtype, normal(b, t, hkv, d), text[1] or None)
        v = tensor(kv or dtype, normal(b, t, hkv, dv), text[2] or None)
        n = keys or t
        i, j = np.arange(s)[:, None], np.arange(n)
        back = i + n - s - j
        visible = np.ones((s, n), bool) & ((not causal) | (back >= 0)) & ((not window) | (abs(back) < window))
        if mask is not None:
            visible = visible & (mask.values != 0)
        want = sdpa(
            f64(q), f64(k)[:, :n], f64(v)[:, :n], 0.35, visible, softcap, None if bias is None else f64(bias)
        )
        operands = (
            "%a, %b, %c"
            + (", %d" if mask is not None or bias is not None else "")
            + (", %e" if mask is not None and bias is not None else "")
        )
        if mask is None and bias is not None:
            operands = "%a, %b, %c, _, %d"
        shown = text[3] or (str(keys) if keys else "")
        attrs = [
            ("scale = 0.35", 1),
            ("causal = true", causal),
            (f"window = {window}", window),
            (f"softcap = {softcap}", softcap),
            (f"keys = {shown}", keys),
        ]
        attrs = ", ".join(a for a, on in attrs if on)
        c.add(
            f"attention_{name}",
            f"attention {operands} {{{attrs}}}",
            [x for x in (q, k, v, mask, bias) if x is not None],
            [tensor(dtype, want, text[0] or None)],
            ulps(dtype, 8),
            dims,
        )

    add("plain")
    add("odd", b=2, s=3, t=5, h=3, hkv=3, d=5, dv=3)
    add("gqa", b=2, s=3, t=3, h=6, hkv=2)
    add("mqa", s=2, h=4, hkv=1)
    add("causal", s=5, t=5, causal=1)
    add("causal_past", s=2, t=7, causal=1)
    add("causal_long_queries", s=6, t=3, causal=1)
    add("decode", s=1, t=9, causal=1, h=4, hkv=2)
    for w in (1, 3, 4, 5):
        add(f"window{w}", s=6, t=6, causal=1, window=w)
    add("window_both_ways", s=6, t=6, window=2)
    add("softcap", softcap=2.5, causal=1)
    add("keys", s=2, t=9, keys=5, causal=1)
    add(
        "keys_symbolic",
        b=2,
        s=3,
        t=10,
        keys=7,
        causal=1,
        dims={"B": 2, "S": 3, "P": 4, "C": 10},
        text=("B, S, 2, 4", "B, C, 2, 4", "B, C, 2, 4", "P + S"),
    )
    pad = np.array([[1, 1, 0, 0], [1, 1, 1, 1]])[:, None, None, :]
    add("mask_bool", b=2, mask=Tensor("bool", pad != 0))
    add("mask_int", b=2, mask=Tensor("i32", pad.astype(np.int32) * 5), causal=1)
    add("mask_keys", b=2, t=9, keys=4, mask=Tensor("i32", pad.astype(np.int32)))
    add("mask_left", b=2, causal=1, mask=Tensor("bool", pad[..., ::-1] != 0))
    add("mask_none_left", b=2, mask=Tensor("bool", np.array([[0] * 4, [1] * 4])[:, None, None, :] != 0))
    add("mask_full", b=2, h=2, s=3, t=4, mask=Tensor("bool", rng.random((2, 2, 3, 4)) < 0.6))
    add("mask_matrix", s=3, t=4, mask=Tensor("bool", rng.random((3, 4)) < 0.6))
    add("bias", bias=tensor("f32", normal(1, 2, 4, 4)))
    add("bias_row", bias=tensor("f32", normal(2, 1, 4)))
    add("bias_inf", b=2, bias=tensor("f32", np.where(pad, 0.0, -np.inf)))
    add("bias_all_inf", b=2, bias=tensor("f32", np.where(pad[::-1] * [[[[0]]], [[[1]]]], 0.0, -np.inf)))
    add("mask_bias", b=2, mask=Tensor("bool", pad != 0), bias=tensor("f32", normal(1, 2, 1, 4)))
    add("empty_keys", t=0, s=2)
    add("empty_batch", b=0)
    for dtype in ("f16", "bf16", "f64"):
        add(dtype, dtype=dtype, causal=1, s=3, t=6, h=4, hkv=2)
    add("kv_f16", dtype="f32", kv="f16", s=3, t=6, causal=1)
    add("large", s=3, t=40, d=9, dv=5, h=1, hkv=1, causal=1)


def rope(c):
    def add(
        name, positions, f, interleaved=0, factor=1.0, dtype="f32", b=2, s=3, h=2, d=8, text=None, dims=None
    ):
        x = tensor(dtype, normal(b, s, h, d), text)
        inv = tensor("f32", 10000.0 ** (-np.arange(f) / f))
        p = np.broadcast_to(np.asarray(positions, np.float64), (b, s))
        angle = (p[..., None] * f64(inv))[:, :, None]
        sin, cos = np.sin(angle) * factor, np.cos(angle) * factor
        v = f64(x).copy()
        first = np.s_[..., 0 : 2 * f : 2] if interleaved else np.s_[..., :f]
        second = np.s_[..., 1 : 2 * f : 2] if interleaved else np.s_[..., f : 2 * f]
        lo, hi = v[first].copy(), v[second].copy()
        v[first], v[second] = lo * cos - hi * sin, hi * cos + lo * sin
        ids = Tensor(
            "i32",
            np.asarray(positions, np.int32),
            None if text is None else "S" if np.ndim(positions) == 1 else "B, S",
        )
        attrs = "".join([", interleaved = true" * interleaved, f", factor = {factor}" * (factor != 1)])[2:]
        c.add(
            f"rope_{name}",
            "rope %a, %b, %c" + (f" {{{attrs}}}" if attrs else ""),
            [x, ids, inv],
            [tensor(dtype, v, text)],
            ulps(dtype, 4),
            dims,
        )

    add("plain", [0, 1, 2], 4)
    add("far", [4095, 32767, 131071], 4)
    add("batch", [[0, 1, 2], [7, 8, 9]], 4)
    add("partial", [3, 4, 5], 3)
    add("interleaved", [3, 4, 5], 4, interleaved=1)
    add("interleaved_partial", [[3, 4, 5], [0, 0, 1]], 2, interleaved=1)
    add("factor", [0, 10, 20], 4, factor=1.25)
    add("f16", [0, 1, 2], 4, dtype="f16")
    add("symbolic", [5, 6, 7], 4, text="B, S, 2, 8", dims={"B": 2, "S": 3})
    # The rotation of transformers' Llama: cos and sin of concatenated angles with rotate_half.
    q = torch.from_numpy(normal(1, 2, 3, 8))
    inv = torch.from_numpy(tensor("f32", 10000.0 ** (-np.arange(4) / 4)).values.astype(np.float64))
    angle = torch.outer(torch.tensor([5.0, 6, 7], dtype=torch.float64), inv)
    emb = torch.cat([angle, angle], -1)[None]
    x = tensor("f32", q.numpy().transpose(0, 2, 1, 3))
    want, _ = apply_rotary_pos_emb(
        torch64(x).transpose(1, 2), torch64(x).transpose(1, 2), emb.cos(), emb.sin()
    )
    c.add(
        "rope_transformers",
        "rope %a, %b, %c",
        [x, Tensor("i64", np.array([5, 6, 7])), tensor("f32", inv.numpy())],
        [tensor("f32", want.transpose(1, 2).numpy())],
        ulps("f32", 4),
    )


def kv_update(c):
    for state, dtype in (("f32", "f32"), ("f16", "f32"), ("bf16", "bf16")):
        s, x = tensor(state, normal(2, 6, 2, 3)), tensor(dtype, normal(2, 2, 2, 3))
        want = s.values.copy()
        want[:, 3:5] = to_type(f64(x), state)
        c.add(
            f"kv_update_{state}_{dtype}",
            "kv_update @s0, %a {pos = 3}",
            [x],
            [Tensor(state, want)],
            states=[s],
        )
    s, x = tensor("f32", normal(2, 6, 1, 2), "B, C, 1, 2"), tensor("f32", normal(2, 2, 1, 2), "B, S, 1, 2")
    want = s.values.copy()
    want[:, 4:6] = x.values
    c.add(
        "kv_update_symbolic",
        "kv_update @s0, %a {pos = P}",
        [x],
        [Tensor("f32", want, "B, C, 1, 2")],
        states=[s],
        dims={"B": 2, "S": 2, "P": 4, "C": 6},
    )
