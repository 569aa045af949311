/* builtins.c - the few functions that a page cannot write itself: they look at shapes, lists, the checkpoint
 * and the states. Everything else of the library is text, in frontend/models/prelude.model. */
#include "frontend/describe/eval.h"
#include <stdio.h>

static bool given(tn_val v) { return v.kind != TN_V_UNSET && v.kind != TN_V_NONE; }

/* ---- shapes ---------------------------------------------------------------------------------- */
static tn_val bi_size(tn_eval *ev, tn_val *a) {
  if (a[0].kind == TN_V_BAD || a[1].kind == TN_V_BAD) return tn_val_bad();
  if (a[0].kind != TN_V_TENSOR || a[1].kind != TN_V_INT)
    return tn_eval_fail(ev, "size(%s, %s): expected a tensor and an axis", tn_val_show(ev, a[0]),
                        tn_val_show(ev, a[1]));
  tn_type_info t = tn_val_type(ev, a[0]);
  int64_t axis = a[1].u.i < 0 ? a[1].u.i + t.rank : a[1].u.i;
  if (axis < 0 || axis >= t.rank)
    return tn_eval_fail(ev, "axis %lld of %s", (long long)a[1].u.i, tn_val_show(ev, a[0]));
  return tn_val_dim(ev, t.dims[axis]);
}

static tn_val bi_rank(tn_eval *ev, tn_val *a) {
  if (a[0].kind == TN_V_BAD) return a[0];
  if (a[0].kind != TN_V_TENSOR) return tn_eval_fail(ev, "rank(%s): expected a tensor", tn_val_show(ev, a[0]));
  return tn_val_int(tn_val_type(ev, a[0]).rank);
}

static tn_val bi_dtype(tn_eval *ev, tn_val *a) {
  if (a[0].kind == TN_V_BAD) return a[0];
  if (a[0].kind != TN_V_TENSOR)
    return tn_eval_fail(ev, "dtype(%s): expected a tensor", tn_val_show(ev, a[0]));
  return tn_val_text(ev, ev->ir->dtype_info(tn_val_type(ev, a[0]).dtype)->name);
}

static tn_val bi_packed(tn_eval *ev, tn_val *a) {
  if (a[0].kind == TN_V_BAD) return a[0];
  if (a[0].kind != TN_V_TENSOR)
    return tn_eval_fail(ev, "packed(%s): expected a tensor", tn_val_show(ev, a[0]));
  return tn_val_bool(ev->ir->dtype_info(tn_val_type(ev, a[0]).dtype)->cls == TN_CLASS_BLOCK);
}

/* transpose(x, 1, 2) swaps two axes; transpose(x, [0, 2, 1]) permutes all. */
static tn_val bi_transpose(tn_eval *ev, tn_val *a) {
  int64_t perm[TN_MAX_RANK];
  if (a[0].kind == TN_V_BAD || a[1].kind == TN_V_BAD || a[2].kind == TN_V_BAD) return tn_val_bad();
  if (a[0].kind != TN_V_TENSOR)
    return tn_eval_fail(ev, "transpose(%s): expected a tensor", tn_val_show(ev, a[0]));
  uint32_t rank = tn_val_type(ev, a[0]).rank;
  tn_vals l = a[1].kind == TN_V_LIST ? a[1].u.list : (tn_vals){a + 1, 2};
  bool pair = a[1].kind != TN_V_LIST;
  for (uint32_t i = 0; i < rank; i++) perm[i] = i;
  for (uint32_t i = 0; i < l.count; i++) {
    int64_t x = l.items[i].kind == TN_V_INT ? l.items[i].u.i : INT64_MIN;
    if (x < 0 && x != INT64_MIN) x += rank;
    if (x < 0 || x >= rank || (!pair && l.count != rank))
      return tn_eval_fail(ev, "transpose of %s: axis %s", tn_val_show(ev, a[0]),
                          tn_val_show(ev, pair ? l.items[i] : a[1]));
    if (pair)
      a[i + 1].u.i = x;
    else
      perm[i] = x;
  }
  if (pair) perm[a[1].u.i] = a[2].u.i, perm[a[2].u.i] = a[1].u.i;
  tn_named_attr attr = {"perm", {.kind = TN_ATTR_INTS, .count = rank, .u.ints = perm}};
  return tn_make_op(ev, "transpose", &a[0].u.tensor, 1, &attr, 1);
}

/* ---- lists ----------------------------------------------------------------------------------- */
static bool is_list(tn_eval *ev, const char *name, tn_val v, bool filled) {
  if (v.kind == TN_V_BAD) return false;
  if (v.kind != TN_V_LIST || (filled && !v.u.list.count))
    return tn_eval_fail(ev, "%s(%s): expected a list%s", name, tn_val_show(ev, v),
                        filled ? " that is not empty" : ""),
           false;
  return true;
}

static tn_val bi_count(tn_eval *ev, tn_val *a) {
  if (a[0].kind == TN_V_OBJECT) return tn_val_int(a[0].u.object->count);
  return is_list(ev, "count", a[0], false) ? tn_val_int(a[0].u.list.count) : tn_val_bad();
}

static tn_val bi_last(tn_eval *ev, tn_val *a) {
  return is_list(ev, "last", a[0], true) ? a[0].u.list.items[a[0].u.list.count - 1] : tn_val_bad();
}

static tn_val bi_reverse(tn_eval *ev, tn_val *a) {
  if (!is_list(ev, "reverse", a[0], false)) return tn_val_bad();
  tn_val out = tn_val_list(ev, a[0].u.list.items, a[0].u.list.count);
  for (uint32_t i = 0; out.kind == TN_V_LIST && i < a[0].u.list.count; i++)
    out.u.list.items[i] = a[0].u.list.items[a[0].u.list.count - 1 - i];
  return out;
}

/* every(list, x, n, place): x stands at place, place + n, place + 2 n ..., and nowhere else. */
static tn_val bi_every(tn_eval *ev, tn_val *a) {
  if (!is_list(ev, "every", a[0], false)) return tn_val_bad();
  if (a[2].kind != TN_V_INT || a[3].kind != TN_V_INT || a[2].u.i < 1)
    return tn_eval_fail(ev, "every(list, x, %s, %s): expected two numbers", tn_val_show(ev, a[2]),
                        tn_val_show(ev, a[3]));
  bool same = true;
  for (uint32_t i = 0; i < a[0].u.list.count; i++)
    same &= tn_val_equal(a[0].u.list.items[i], a[1]) == (i % a[2].u.i == a[3].u.i);
  return tn_val_bool(same);
}

/* rest, item = pop(list) */
static tn_val bi_pop(tn_eval *ev, tn_val *a) {
  if (!is_list(ev, "pop", a[0], true)) return tn_val_bad();
  tn_vals l = a[0].u.list;
  tn_val pair[2] = {tn_val_list(ev, l.items, l.count - 1), l.items[l.count - 1]};
  return tn_val_list(ev, pair, 2);
}

static tn_val bi_repeat(tn_eval *ev, tn_val *a) {
  if (a[0].kind == TN_V_BAD || a[1].kind == TN_V_BAD) return tn_val_bad();
  if (a[1].kind != TN_V_INT || a[1].u.i < 0 || a[1].u.i > TN_ROUND_LIMIT)
    return tn_eval_fail(ev, "repeat %s times: expected 0 to %d", tn_val_show(ev, a[1]), TN_ROUND_LIMIT);
  tn_val *items = tn_arena_alloc(&ev->arena, (size_t)a[1].u.i * sizeof *items);
  if (!items) return tn_eval_oom(ev);
  for (int64_t i = 0; i < a[1].u.i; i++) items[i] = a[0];
  return (tn_val){.kind = TN_V_LIST, .u.list = {items, (uint32_t)a[1].u.i}};
}

/* ---- the checkpoint -------------------------------------------------------------------------- */
static bool is_name(tn_eval *ev, const char *callee, tn_val v) {
  if (v.kind == TN_V_TEXT && v.u.text.alts[0].name) return true;
  if (v.kind != TN_V_BAD)
    tn_eval_fail(ev, "%s(%s): expected the name of a tensor in quotes", callee, tn_val_show(ev, v));
  return false;
}

static tn_val bi_tensor(tn_eval *ev, tn_val *a) {
  bool shape = given(a[1]) && a[1].kind != TN_V_BAD;
  if (!is_name(ev, "tensor", a[0])) return tn_val_bad();
  if (shape && a[1].kind != TN_V_LIST)
    return tn_eval_fail(ev, "tensor: the shape is %s, expected a list", tn_val_show(ev, a[1]));
  return tn_tensor_load(ev, a[0].u.text, shape ? &a[1] : NULL);
}

/* stack("experts.*.w1.weight" | "ffn_gate_exps.weight", n, shape): see tn_tensor_stack. */
static tn_val bi_stack(tn_eval *ev, tn_val *a) {
  bool shape = given(a[2]) && a[2].kind != TN_V_BAD;
  if (!is_name(ev, "stack", a[0]) || a[1].kind == TN_V_BAD) return tn_val_bad();
  if (a[1].kind != TN_V_INT || a[1].u.i < 1 || a[1].u.i > TN_ROUND_LIMIT)
    return tn_eval_fail(ev, "stack of %s tensors: expected 1 to %d", tn_val_show(ev, a[1]), TN_ROUND_LIMIT);
  if (shape && a[2].kind != TN_V_LIST)
    return tn_eval_fail(ev, "stack: the shape is %s, expected a list", tn_val_show(ev, a[2]));
  return tn_tensor_stack(ev, a[0].u.text, a[1].u.i, shape ? &a[2] : NULL);
}

static tn_val bi_exists(tn_eval *ev, tn_val *a) {
  if (!is_name(ev, "exists", a[0])) return tn_val_bad();
  for (uint32_t i = 0; i < a[0].u.text.count; i++)
    if (tn_tensor_exists(ev, &a[0].u.text.alts[i])) return tn_val_bool(true);
  return tn_val_bool(false);
}

/* extent("name", axis): a size of a tensor of the checkpoint; none: it has none of that name. */
static tn_val bi_extent(tn_eval *ev, tn_val *a) {
  if (!is_name(ev, "extent", a[0]) || a[1].kind != TN_V_INT) return tn_val_bad();
  tn_tensor_ref ref;
  if (!tn_tensor_find(ev, a[0].u.text, &ref)) return tn_val_none();
  if (a[1].u.i < 0 || a[1].u.i >= ref.rank)
    return tn_eval_fail(ev, "extent: axis %lld of a tensor of %u dims", (long long)a[1].u.i, ref.rank);
  return tn_val_int(ref.shape[a[1].u.i]);
}

/* choose(name, ".weight"): of the alternatives, the one for which that tensor is there; else all, so that
 * whoever asks for the tensor reports them all. */
static tn_val bi_choose(tn_eval *ev, tn_val *a) {
  if (!is_name(ev, "choose", a[0]) || a[1].kind != TN_V_TEXT) return tn_val_bad();
  for (uint32_t i = 0; i < a[0].u.text.count; i++) {
    tn_val one = {.kind = TN_V_TEXT, .u.text = {a[0].u.text.alts + i, 1}};
    tn_val longer = tn_eval_binary(ev, TN_BIN_ADD, one, a[1]);
    if (longer.kind == TN_V_TEXT && tn_tensor_exists(ev, longer.u.text.alts)) return one;
  }
  return a[0];
}

/* constant([1, 2], f32), constant(0.5) */
static tn_val bi_constant(tn_eval *ev, tn_val *a) {
  tn_dtype dt = TN_DT_f32;
  if (a[0].kind == TN_V_BAD || a[1].kind == TN_V_BAD) return tn_val_bad();
  if (given(a[1])) dt = a[1].kind == TN_V_TEXT ? ev->ir->dtype_by_name(a[1].u.text.alts[0].raw) : TN_DT_NONE;
  if (!dt) return tn_eval_fail(ev, "constant: %s is no element type", tn_val_show(ev, a[1]));
  if (a[0].kind == TN_V_LIST) return tn_make_constant(ev, dt, a[0].u.list.items, a[0].u.list.count, false);
  return tn_make_scalar(ev, dt, a[0]);
}

static double real_or(tn_val v, double none) {
  return v.kind == TN_V_INT ? (double)v.u.i : v.kind == TN_V_REAL ? v.u.r : none;
}

/* rope_config(head_dim, kind, base, theta): rope.c says what comes out. */
static tn_val bi_rope_config(tn_eval *ev, tn_val *a) {
  tn_rope_options o = {.theta = real_or(a[3], 10000), .base = real_or(a[2], 0)};
  for (int i = 0; i < 4; i++)
    if (a[i].kind == TN_V_BAD) return a[i];
  if (a[0].kind != TN_V_INT)
    return tn_eval_fail(ev, "rope_config(%s): expected the size of a head", tn_val_show(ev, a[0]));
  if (given(a[1]) && a[1].kind != TN_V_TEXT)
    return tn_eval_fail(ev, "rope_config: the kind of layer is %s, expected a text", tn_val_show(ev, a[1]));
  if ((given(a[2]) && !(o.base > 1)) || !(o.theta > 1))
    return tn_eval_fail(ev, "rope_config: a base of %s, expected a number above 1",
                        tn_val_show(ev, o.theta > 1 ? a[2] : a[3]));
  if (given(a[1])) o.kind = a[1].u.text.alts[0].raw;
  return tn_rope_config(ev, a[0].u.i, &o);
}

static const tn_builtin builtins[] = {
    {"size", {{"x", false}, {"axis", false}}, bi_size},
    {"rank", {{"x", false}}, bi_rank},
    {"dtype", {{"x", false}}, bi_dtype},
    {"packed", {{"x", false}}, bi_packed},
    {"transpose", {{"x", false}, {"a", false}, {"b", true}}, bi_transpose},
    {"count", {{"list", false}}, bi_count},
    {"last", {{"list", false}}, bi_last},
    {"reverse", {{"list", false}}, bi_reverse},
    {"pop", {{"list", false}}, bi_pop},
    {"every", {{"list", false}, {"x", false}, {"n", false}, {"place", false}}, bi_every},
    {"repeat", {{"value", false}, {"times", false}}, bi_repeat},
    {"tensor", {{"name", false}, {"shape", true}}, bi_tensor},
    {"stack", {{"name", false}, {"count", false}, {"shape", true}}, bi_stack},
    {"exists", {{"name", false}}, bi_exists},
    {"extent", {{"name", false}, {"axis", false}}, bi_extent},
    {"choose", {{"name", false}, {"suffix", false}}, bi_choose},
    {"constant", {{"value", false}, {"dtype", true}}, bi_constant},
    {"cached", {{"x", false}, {"state", false}, {"window", true}}, tn_builtin_cached},
    {"state", {{"name", false}, {"shape", false}}, tn_builtin_state},
    {"keep", {{"state", false}, {"x", false}}, tn_builtin_keep},
    {"adapted", {{"y", false}, {"x", false}, {"name", false}}, tn_builtin_adapted},
    {"rope_config", {{"head_dim", false}, {"kind", true}, {"base", true}, {"theta", true}}, bi_rope_config},
};

const tn_builtin *tn_find_builtin(const char *name) {
  for (size_t i = 0; i < TN_COUNT(builtins); i++)
    if (!strcmp(builtins[i].name, name)) return &builtins[i];
  return NULL;
}
