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

static tn_val bi_exists(tn_eval *ev, tn_val *a) {
  if (!is_name(ev, "exists", a[0])) return tn_val_bad();
  for (uint32_t i = 0; i < a[0].u.text.count; i++)
    if (tn_tensor_exists(ev, &a[0].u.text.alts[i])) return tn_val_bool(true);
  return tn_val_bool(false);
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

/* ---- states ---------------------------------------------------------------------------------- */
/* The state of this call site: the line, the prefix in force and the round decide, so that the same block run
 * from two graphs meets the same state. */
static tn_state site_state(tn_eval *ev, const char *name, tn_type type) {
  uint64_t n = 0, id = 0;
  tn_state_info info;
  char key[512];
  const char *prefix = ev->frame->prefix ? ev->frame->prefix : "";
  if (snprintf(key, sizeof key, "%s:%u:%u:%s:%s", ev->file, ev->pos.line, ev->pos.col, name, prefix) >=
      (int)sizeof key)
    return tn_eval_fail(ev, "the prefix of this cache is too long: '%s'", prefix), (tn_state)0;
  tn_map_get(&ev->sites, tn_str_of(key), &n);
  if (tn_map_put(&ev->sites, tn_str_of(key), n + 1, NULL) != TN_OK) return tn_eval_oom(ev), (tn_state)0;
  const char *full = tn_arena_printf(&ev->arena, "%s#%llu", key, (unsigned long long)n);
  if (!full) return tn_eval_oom(ev), (tn_state)0;
  if (tn_map_get(&ev->states, tn_str_of(full), &id)) {
    ev->ir->state_get(ev->m, (tn_state)id, &info);
    if (info.type == type) return (tn_state)id;
    return tn_eval_fail(ev, "the state '%s' is %s in another graph and %s here", info.name,
                        tn_type_show(ev, info.type), tn_type_show(ev, type)),
           (tn_state)0;
  }
  uint32_t same = 0;
  for (uint32_t i = 1; i <= ev->ir->state_count(ev->m); i++) {
    ev->ir->state_get(ev->m, i, &info);
    same += !strncmp(info.name, name, strlen(name)) && info.name[strlen(name)] == '.';
  }
  const char *own = tn_arena_printf(&ev->arena, "%s.%u", name, same);
  tn_state s = own ? ev->ir->state_add(ev->m, own, type) : 0;
  if (!s || tn_map_put(&ev->states, tn_str_of(full), s, NULL) != TN_OK) return tn_eval_oom(ev), (tn_state)0;
  return s;
}

/* all, keys = cached(x, "kcache"): x [b, s, h, d] goes behind what the state [b, C, h, d] holds; keys = P + s
 * rows of the result count. */
static tn_val bi_cached(tn_eval *ev, tn_val *a) {
  tn_val p, c;
  if (a[0].kind == TN_V_BAD || a[1].kind != TN_V_TEXT) return tn_val_bad();
  if (a[0].kind != TN_V_TENSOR || tn_val_type(ev, a[0]).rank != 4)
    return tn_eval_fail(ev, "cached(%s): expected [B, S, heads, head_dim]", tn_val_show(ev, a[0]));
  if (ev->own_capacity)
    return tn_eval_fail(ev, "a graph with a cache cannot name a dim of its inputs P or C");
  if (!tn_eval_name(ev, "P", &p)) return tn_val_bad();
  if (!tn_eval_name(ev, "C", &c)) return tn_val_bad();
  tn_type_info t = tn_val_type(ev, a[0]);
  tn_dim dims[4] = {t.dims[0], c.u.dim, t.dims[2], t.dims[3]};
  tn_dim keys = ev->ir->dim_make(ev->m, TN_DIM_ADD, p.u.dim, t.dims[1]);
  tn_type type = ev->ir->type_make(ev->m, t.dtype, 4, dims, NULL);
  tn_state s = type && keys ? site_state(ev, a[1].u.text.alts[0].raw, type) : 0;
  tn_state_info info;
  if (!s || ev->ir->dim_constrain(ev->m, keys, c.u.dim) != TN_OK) return tn_val_bad();
  ev->ir->state_get(ev->m, s, &info);
  tn_value in[2] = {info.value, a[0].u.tensor};
  tn_named_attr pos = {"pos", {.kind = TN_ATTR_DIM, .u.dim = p.u.dim}};
  tn_val pair[2] = {tn_make_op(ev, "kv_update", in, 2, &pos, 1), tn_val_dim(ev, keys)};
  return tn_val_list(ev, pair, 2);
}

static tn_val bi_rope_config(tn_eval *ev, tn_val *a) {
  if (a[0].kind == TN_V_BAD) return a[0];
  if (a[0].kind != TN_V_INT)
    return tn_eval_fail(ev, "rope_config(%s): expected the size of a head", tn_val_show(ev, a[0]));
  return tn_rope_config(ev, a[0].u.i);
}

static const tn_builtin builtins[] = {
    {"size", {{"x", false}, {"axis", false}}, bi_size},
    {"rank", {{"x", false}}, bi_rank},
    {"dtype", {{"x", false}}, bi_dtype},
    {"transpose", {{"x", false}, {"a", false}, {"b", true}}, bi_transpose},
    {"count", {{"list", false}}, bi_count},
    {"last", {{"list", false}}, bi_last},
    {"reverse", {{"list", false}}, bi_reverse},
    {"pop", {{"list", false}}, bi_pop},
    {"repeat", {{"value", false}, {"times", false}}, bi_repeat},
    {"tensor", {{"name", false}, {"shape", true}}, bi_tensor},
    {"exists", {{"name", false}}, bi_exists},
    {"choose", {{"name", false}, {"suffix", false}}, bi_choose},
    {"constant", {{"value", false}, {"dtype", true}}, bi_constant},
    {"cached", {{"x", false}, {"state", false}}, bi_cached},
    {"rope_config", {{"head_dim", false}}, bi_rope_config},
};

const tn_builtin *tn_find_builtin(const char *name) {
  for (size_t i = 0; i < TN_COUNT(builtins); i++)
    if (!strcmp(builtins[i].name, name)) return &builtins[i];
  return NULL;
}
