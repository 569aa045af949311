/* adapters.c - what adapters (frontend/adapter) add to a linear layer: scale * weight * B (A x). The weights
 * are a state of the session, [1, adapters, 1, 1], so that they can be changed between calls. */
#include "frontend/adapter/adapter.h"
#include "frontend/describe/eval.h"

static tn_value call(tn_eval *ev, const char *op, const tn_value *in, uint32_t n, const tn_named_attr *attrs,
                     uint32_t nattrs) {
  tn_val v = tn_make_op(ev, op, in, n, attrs, nattrs);
  return v.kind == TN_V_TENSOR ? v.u.tensor : 0;
}

/* x W^T */
static tn_value product(tn_eval *ev, tn_value x, tn_value w) {
  tn_named_attr trans = {"trans_b", {.kind = TN_ATTR_BOOL, .u.i = 1}};
  tn_value in[2] = {x, w};
  return x && w ? call(ev, "matmul", in, 2, &trans, 1) : 0;
}

static tn_value weights_state(tn_eval *ev) {
  static const char name[] = "adapters";
  uint64_t id = 0;
  tn_state_info info;
  if (!tn_map_get(&ev->states, tn_str_of(name), &id)) {
    tn_dim one = ev->ir->dim_const(ev->m, 1);
    tn_dim dims[4] = {one, ev->ir->dim_const(ev->m, ev->run->adapters->items.count), one, one};
    id = ev->ir->state_add(ev->m, name, ev->ir->type_make(ev->m, TN_DT_f32, 4, dims, NULL));
    if (!id || tn_map_put(&ev->states, tn_str_of(name), id, NULL) != TN_OK) return 0;
  }
  ev->ir->state_get(ev->m, (tn_state)id, &info);
  return info.value;
}

/* The weight of adapter i times its scale, [1]. */
static tn_value factor_of(tn_eval *ev, uint32_t i, double scale) {
  tn_value state = weights_state(ev);
  tn_dim one = ev->ir->dim_const(ev->m, 1);
  tn_named_attr at[] = {{"axis", {.kind = TN_ATTR_INT, .u.i = 1}},
                        {"start", {.kind = TN_ATTR_DIM, .u.dim = ev->ir->dim_const(ev->m, i)}},
                        {"stop", {.kind = TN_ATTR_DIM, .u.dim = ev->ir->dim_const(ev->m, i + 1)}}};
  tn_value part = state ? call(ev, "slice", &state, 1, at, 3) : 0;
  tn_val flat = part ? tn_make_reshape(ev, tn_val_tensor(part), &one, 1) : tn_val_bad();
  tn_val by = tn_make_scalar(ev, TN_DT_f32, tn_val_real(scale));
  tn_value in[2] = {flat.u.tensor, by.u.tensor};
  if (flat.kind != TN_V_TENSOR || by.kind != TN_V_TENSOR) return 0;
  return call(ev, "mul", in, 2, NULL, 0);
}

static tn_value matrix(tn_eval *ev, const tn_lora *l, uint32_t i, const char *which) {
  const tn_tensor_ref *ref = *which == 'A' ? &l->a : &l->b;
  const char *name = tn_arena_printf(&ev->arena, "adapter.%u.%s.lora_%s", i, l->weight, which);
  tn_weight_info info;
  tn_weight w = name ? tn_tensor_weight(ev, ref, name) : 0;
  if (!w) return 0;
  ev->ir->weight_get(ev->m, w, &info);
  return info.value;
}

static bool fits(tn_eval *ev, const tn_lora *l, tn_val y, tn_val x, const char *weight) {
  tn_type_info ty = tn_val_type(ev, y), tx = tn_val_type(ev, x);
  int64_t in = 0, out = 0;
  ev->ir->dim_is_const(ev->m, tx.dims[tx.rank - 1], &in);
  ev->ir->dim_is_const(ev->m, ty.dims[ty.rank - 1], &out);
  if (l->a.shape[1] == in && l->b.shape[0] == out) return true;
  tn_eval_fail(ev, "the adapter '%s' goes from %lld to %lld features, but '%s' from %lld to %lld", l->a.file,
               (long long)l->a.shape[1], (long long)l->b.shape[0], weight, (long long)in, (long long)out);
  return false;
}

static tn_value one_adapter(tn_eval *ev, const tn_lora *l, uint32_t i, tn_value x) {
  tn_value low = product(ev, x, matrix(ev, l, i, "A")), factor = low ? factor_of(ev, i, l->scale) : 0;
  tn_value in[2] = {low, factor};
  tn_value scaled = factor ? call(ev, "mul", in, 2, NULL, 0) : 0;
  return scaled ? product(ev, scaled, matrix(ev, l, i, "B")) : 0;
}

/* adapted(y, x, name): y and what the adapters of the weight `name` make of x. */
tn_val tn_builtin_adapted(tn_eval *ev, tn_val *a) {
  tn_adapters *all = ev->run->adapters;
  if (!all || all->merge || a[0].kind != TN_V_TENSOR || a[1].kind != TN_V_TENSOR || a[2].kind != TN_V_TEXT)
    return a[0];
  const char *name = tn_tensor_name(ev, a[2].u.text);
  tn_value y = a[0].u.tensor;
  for (uint32_t i = 0; name && i < all->items.count; i++) {
    const tn_lora *l = tn_adapters_find(all, i, name);
    if (!l) continue;
    if (!fits(ev, l, a[0], a[1], name)) return tn_val_bad();
    tn_value in[2] = {y, one_adapter(ev, l, i, a[1].u.tensor)};
    if (!in[1] || !(y = call(ev, "add", in, 2, NULL, 0))) return tn_val_bad();
  }
  return tn_val_tensor(y);
}

/* ---- merged ---- */

static bool can_merge(tn_eval *ev, const char *name, const tn_tensor_ref *ref, const tn_lora *l) {
  bool plain = ref->dtype == TN_DT_f32 || ref->dtype == TN_DT_f16 || ref->dtype == TN_DT_bf16;
  if (!plain || ref->form || ref->rank != 2)
    return tn_eval_fail(ev,
                        "an adapter cannot be merged into '%s', which is %s; leave it beside the weights "
                        "(adapter mode 'switch')",
                        name, ev->ir->dtype_info(ref->dtype)->name),
           false;
  if (ref->shape[l->transposed] == l->b.shape[0] && ref->shape[!l->transposed] == l->a.shape[1]) return true;
  tn_eval_fail(ev, "the adapter '%s' goes from %lld to %lld features, but '%s' is [%lld, %lld]", l->a.file,
               (long long)l->a.shape[1], (long long)l->b.shape[0], name, (long long)ref->shape[0],
               (long long)ref->shape[1]);
  return false;
}

static tn_part part_of(const tn_tensor_ref *r) { return (tn_part){r->file, r->offset, r->bytes}; }

bool tn_adapters_merge(tn_eval *ev, const char *name, tn_tensor_ref *ref) {
  tn_adapters *all = ev->run->adapters;
  if (!all || !all->merge) return true;
  tn_part *parts = tn_arena_alloc(&ev->arena, (1 + 2 * (size_t)all->items.count) * sizeof *parts);
  if (!parts) return tn_eval_oom(ev), false;
  tn_buf words = {0};
  uint32_t n = 0;
  bool ok = true;
  parts[0] = part_of(ref);
  for (uint32_t i = 0; ok && i < all->items.count; i++) {
    const tn_lora *l = tn_adapters_find(all, i, name);
    if (!l) continue;
    ok = can_merge(ev, name, ref, l);
    parts[1 + 2 * n] = part_of(&l->a);
    parts[2 + 2 * n] = part_of(&l->b);
    tn_buf_printf(&words, " r%u=%lld s%u=%.17g a%u=%u b%u=%u", n, (long long)l->a.shape[0], n,
                  l->scale * all->items.items[i].weight, n, l->a.dtype, n, l->b.dtype);
    if (!n++ && l->transposed) tn_buf_puts(&words, " transposed");
  }
  if (ok && n) {
    ref->form = tn_arena_printf(&ev->arena, "lora n=%u%s", n, tn_buf_cstr(&words));
    ref->parts = parts;
    ref->nparts = 1 + 2 * n;
    ok = ref->form && !words.failed;
    if (!ok) tn_eval_oom(ev);
  }
  tn_buf_fini(&words);
  return ok;
}
