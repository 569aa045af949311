/* states.c - what a session remembers between calls: caches of keys and values, and the states of
 * recurrences. A state belongs to its call site, so that the same block run from two graphs meets the same
 * one. */
#include "frontend/describe/eval.h"
#include <stdio.h>
#include <stdlib.h>

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

tn_status tn_page_kv(const tn_ir *ir, const char *name, tn_diags *diags, tn_dtype *out) {
  static const char *const names[] = {"f32", "f16", "bf16", "q8_0"};
  *out = 0;
  for (size_t i = 0; name && i < TN_COUNT(names); i++)
    if (!strcmp(names[i], name)) *out = ir->dtype_by_name(name);
  if (!name || *out) return TN_OK;
  return tn_fail(diags, TN_INVALID, NULL, NULL,
                 "caches of keys and values cannot be '%s': f32, f16, bf16 or q8_0", name);
}

/* The element type of caches: what the run asks for, else that of what goes in. */
static tn_dtype cache_type(tn_eval *ev, const tn_type_info *x) {
  tn_dtype dt = ev->run->kv ? ev->run->kv : x->dtype;
  const tn_dtype_info *info = ev->ir->dtype_info(dt);
  tn_dim_info width;
  ev->ir->dim_get(ev->m, x->dims[3], &width);
  if (!info->block_values || (width.kind == TN_DIM_CONST && width.value % info->block_values == 0)) return dt;
  tn_eval_fail(ev, "a cache in %s needs heads of a multiple of %u features, they have %s", info->name,
               info->block_values, tn_dim_show(ev, x->dims[3]));
  return 0;
}

/* Rows of a ring that serves calls of up to CALL tokens: when a call's last token has been written, the first
 * one must still find its whole window. */
enum { CALL = 512 };

/* The runtime needs to know how far back a session may go: the smallest ring, and what it has to spare. */
static bool note_ring(tn_eval *ev, int64_t rows) {
  const char *have = ev->ir->meta_get(ev->m, "ring.rows");
  char text[32], slack[32];
  snprintf(text, sizeof text, "%lld", (long long)rows);
  snprintf(slack, sizeof slack, "%d", CALL);
  if (have && strtoll(have, NULL, 10) <= rows) return true;
  return ev->ir->meta_set(ev->m, "ring.rows", text) == TN_OK &&
         ev->ir->meta_set(ev->m, "ring.slack", slack) == TN_OK;
}

static tn_dim ring_rows(tn_eval *ev, tn_dim capacity, int64_t window, tn_dim s) {
  if (!note_ring(ev, window + CALL - 1)) return tn_eval_oom(ev), (tn_dim)0;
  tn_dim rows = ev->ir->dim_const(ev->m, window + CALL - 1), call = ev->ir->dim_const(ev->m, CALL);
  if (!rows || !call || ev->ir->dim_constrain(ev->m, s, call) != TN_OK) return 0;
  return ev->ir->dim_make(ev->m, TN_DIM_MIN, capacity, rows);
}

static tn_val append(tn_eval *ev, tn_state s, tn_val x, tn_dim pos, bool ring) {
  tn_state_info info;
  ev->ir->state_get(ev->m, s, &info);
  tn_value in[2] = {info.value, x.u.tensor};
  tn_named_attr attrs[2] = {{"pos", {.kind = TN_ATTR_DIM, .u.dim = pos}},
                            {"ring", {.kind = TN_ATTR_BOOL, .u.i = ring}}};
  return tn_make_op(ev, "kv_update", in, 2, attrs, 2);
}

/* all, keys, ring = cached(x, "kcache", window): x [b, s, h, d] goes behind what the state [b, C, h, d]
 * holds; keys = P + s of the result count. With a window that C may outgrow, the state is a ring of the rows
 * that are still needed. */
tn_val tn_builtin_cached(tn_eval *ev, tn_val *a) {
  tn_val p, c;
  bool ring = a[2].kind != TN_V_UNSET && a[2].kind != TN_V_NONE;
  if (a[0].kind == TN_V_BAD || a[1].kind != TN_V_TEXT || a[2].kind == TN_V_BAD) return tn_val_bad();
  if (a[0].kind != TN_V_TENSOR || tn_val_type(ev, a[0]).rank != 4)
    return tn_eval_fail(ev, "cached(%s): expected [B, S, heads, head_dim]", tn_val_show(ev, a[0]));
  if (ring && (a[2].kind != TN_V_INT || a[2].u.i < 1 || a[2].u.i > INT32_MAX))
    return tn_eval_fail(ev, "cached: a window of %s", tn_val_show(ev, a[2]));
  if (ev->own_capacity)
    return tn_eval_fail(ev, "a graph with a cache cannot name a dim of its inputs P or C");
  if (!tn_eval_name(ev, "P", &p)) return tn_val_bad();
  if (!tn_eval_name(ev, "C", &c)) return tn_val_bad();
  tn_type_info t = tn_val_type(ev, a[0]);
  if (ring && ev->most && ev->most <= a[2].u.i) ring = false;
  tn_dim rows = ring ? ring_rows(ev, c.u.dim, a[2].u.i, t.dims[1]) : c.u.dim;
  tn_dim dims[4] = {t.dims[0], rows, t.dims[2], t.dims[3]};
  tn_dim keys = ev->ir->dim_make(ev->m, TN_DIM_ADD, p.u.dim, t.dims[1]);
  tn_dtype dt = cache_type(ev, &t);
  tn_type type = dt && rows ? ev->ir->type_make(ev->m, dt, 4, dims, NULL) : 0;
  tn_state s = type && keys ? site_state(ev, a[1].u.text.alts[0].raw, type) : 0;
  if (!s || ev->ir->dim_constrain(ev->m, keys, c.u.dim) != TN_OK) return tn_val_bad();
  tn_val out[3] = {append(ev, s, a[0], p.u.dim, ring), tn_val_dim(ev, keys), tn_val_bool(ring)};
  return tn_val_list(ev, out, 3);
}

/* s = state("ssm", [B, 8, 4, 16]): what the session holds, zeros before the first call; f32 of rank 4. */
tn_val tn_builtin_state(tn_eval *ev, tn_val *a) {
  tn_dim dims[4];
  if (a[0].kind == TN_V_BAD || a[1].kind == TN_V_BAD) return tn_val_bad();
  if (a[0].kind != TN_V_TEXT || a[1].kind != TN_V_LIST || a[1].u.list.count != 4)
    return tn_eval_fail(ev, "state(%s, %s): expected a name and four sizes", tn_val_show(ev, a[0]),
                        tn_val_show(ev, a[1]));
  for (uint32_t i = 0; i < 4; i++)
    if (!(dims[i] = tn_val_to_dim(ev, a[1].u.list.items[i])))
      return tn_eval_fail(ev, "state: %s is no size", tn_val_show(ev, a[1].u.list.items[i]));
  tn_type type = ev->ir->type_make(ev->m, TN_DT_f32, 4, dims, NULL);
  tn_state s = type ? site_state(ev, a[0].u.text.alts[0].raw, type) : 0;
  tn_state_info info;
  if (!s) return tn_val_bad();
  ev->ir->state_get(ev->m, s, &info);
  return tn_val_tensor(info.value);
}

/* keep(s, x): from the next call on the state s is x. */
tn_val tn_builtin_keep(tn_eval *ev, tn_val *a) {
  if (a[0].kind == TN_V_BAD || a[1].kind == TN_V_BAD) return tn_val_bad();
  tn_value_info info = {0};
  if (a[0].kind == TN_V_TENSOR) ev->ir->value_get(ev->m, a[0].u.tensor, &info);
  if (info.kind != TN_VALUE_STATE || a[1].kind != TN_V_TENSOR)
    return tn_eval_fail(ev, "keep(%s, %s): expected a state and a tensor", tn_val_show(ev, a[0]),
                        tn_val_show(ev, a[1]));
  tn_value in[2] = {a[0].u.tensor, a[1].u.tensor};
  tn_named_attr pos = {"pos", {.kind = TN_ATTR_DIM, .u.dim = ev->ir->dim_const(ev->m, 0)}};
  return tn_make_op(ev, "kv_update", in, 2, &pos, 1);
}
