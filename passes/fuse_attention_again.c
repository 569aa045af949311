/* fuse_attention_again.c - attention ops that the model had already, as newer opsets do: what stands in front
 * of them is taken apart as in front of a softmax. Keys and values repeated for the heads of a group are read
 * once, those cut out of a cache are read where they are, and masks of positions become attributes. */
#include "passes/fuse_attention.h"

static tn_value operand(tn_attention *a, uint32_t i) {
  return i < tn_ir_op_noperands(a->m, a->last) ? tn_ir_op_operand(a->m, a->last, i) : 0;
}

/* Of keys or values [b, t, h, d]: those before they were repeated; v itself when they were not. */
static tn_value unrepeated(tn_attention *a, tn_value v) {
  tn_value heads = tn_attention_transposed(a, v, 0, 2, 1, 3);
  if (!heads || !tn_attention_peel_repeat(a, &heads, NULL)) return v;
  tn_value x = tn_attention_transposed(a, heads, 0, 2, 1, 3);
  return x ? x : v;
}

static tn_dim heads_of(tn_attention *a, tn_value v) { return tn_rw_type_info(a->m, v).dims[2]; }

/* Masks that say something about positions; false: nothing was learned. */
static bool refine_masks(tn_attention *a, tn_value in[6]) {
  bool was = tn_rw_int(a->m, a->last, "causal");
  if (tn_rw_int(a->m, a->last, "window") || (!in[3] && !in[4])) return false;
  if (in[3] && (tn_rw_type_info(a->m, in[3]).dtype != TN_DT_bool || !tn_attention_add_mask(a, in[3], false)))
    return false;
  if (in[4] && !tn_attention_add_bias(a, in[4])) return false;
  bool learned = (a->causal && !was) || a->window || (in[3] && !a->nmasks) || (in[4] && !a->nbiases) ||
                 (!in[3] && a->nmasks);
  a->causal |= was;
  return learned && tn_attention_operands(a, tn_rw_before(a->last), &in[3], &in[4]);
}

static tn_status replace(tn_attention *a, const tn_value in[6], tn_dim rows, bool masks) {
  tn_named_attr attrs[16];
  const tn_op_spec *s = tn_op_spec_of(TN_OPC_attention);
  for (uint32_t i = 0; i < s->nattrs && i < TN_COUNT(attrs); i++) {
    attrs[i] = (tn_named_attr){s->attrs[i].name, tn_rw_attr(a->m, a->last, s->attrs[i].name)};
    if (rows && !strcmp(attrs[i].name, "keys")) attrs[i].attr.u.dim = rows;
    if (masks && !strcmp(attrs[i].name, "causal")) attrs[i].attr.u.i = a->causal;
    if (masks && !strcmp(attrs[i].name, "window")) attrs[i].attr.u.i = a->window;
  }
  uint32_t n = 6;
  while (!in[n - 1]) n--;
  tn_op_desc d = {"attention", in, n, s->nattrs, attrs, NULL, 0, a->loc};
  tn_op op = tn_rw_try_create(a->m, tn_rw_before(a->last), &d);
  if (!op) return TN_OK;
  tn_value old = tn_ir_op_result(a->m, a->last, 0), new = tn_ir_op_result(a->m, op, 0);
  const char *name = tn_ir_value_name(a->m, old);
  if (tn_rw_type(a->m, old) != tn_rw_type(a->m, new)) return TN_INTERNAL;
  if (name) TN_TRY(tn_ir_value_set_name(a->m, new, name));
  TN_TRY(tn_ir_value_replace(a->m, old, new));
  return tn_ir_op_erase(a->m, a->last);
}

tn_status tn_attention_refine(tn_module *m, tn_op op) {
  tn_attention a = {.m = m, .last = op, .scale = 1, .loc = tn_ir_op_loc(m, op)};
  tn_value in[6];
  if (!tn_rw_dim_is(m, tn_rw_attr(m, op, "keys").u.dim, 0)) return TN_OK; /* it reads a cache already */
  for (uint32_t i = 0; i < 6; i++) in[i] = operand(&a, i);
  a.s = tn_rw_type_info(m, in[0]).dims[1];
  a.t = tn_rw_type_info(m, in[1]).dims[1];
  a.q = in[0];
  tn_value kv[2] = {unrepeated(&a, in[1]), unrepeated(&a, in[2])};
  bool grouped = heads_of(&a, kv[0]) == heads_of(&a, kv[1]) && kv[0] != in[1];
  if (!grouped) kv[0] = in[1], kv[1] = in[2];
  tn_dim rows = tn_attention_first_rows(&a, kv);
  tn_value masks[6];
  memcpy(masks, in, sizeof masks);
  bool learned = refine_masks(&a, masks);
  if (learned) memcpy(in, masks, sizeof in);
  in[1] = kv[0];
  in[2] = kv[1];
  return grouped || rows || learned ? replace(&a, in, rows, learned) : TN_OK;
}
