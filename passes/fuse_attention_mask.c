/* fuse_attention_mask.c - what is masked and what is added to the scores, taken apart. Exporters build one
 * big tensor from conditions on positions (causal, a window) and on tokens (padding); the former become
 * attributes, so that blocks of keys are skipped, and only the latter stay operands, small as they were
 * before they were spread out. */
#include "passes/fuse_attention.h"
#include <math.h>

#define DEPTH 24

bool tn_attention_miss(tn_attention *a, tn_op blocker, const char *why) {
  a->why = why;
  a->blocker = blocker;
  return false;
}

bool tn_attention_very_negative(tn_module *m, tn_value v) {
  double c;
  tn_dtype t = tn_rw_type_info(m, v).dtype;
  return tn_rw_splat(m, v, &c) && c <= (t == TN_DT_f16 ? -65504.0 : -1e30);
}

static tn_value operand(tn_attention *a, tn_op op, uint32_t i) { return tn_ir_op_operand(a->m, op, i); }

/* ---- conditions -------------------------------------------------------------------------------- */
static bool keep_mask(tn_attention *a, tn_value cond, bool negate) {
  for (uint32_t i = 0; i < a->nmasks; i++)
    if (a->masks[i] == cond && a->negated[i] == negate) return true;
  if (a->nmasks == TN_ATTENTION_PARTS) return tn_attention_miss(a, tn_rw_def(a->m, cond), "too many masks");
  a->masks[a->nmasks] = cond;
  a->negated[a->nmasks++] = negate;
  return true;
}

static bool known_mask(tn_attention *a, tn_value cond, bool negate) {
  tn_cond c = tn_cond_of(a->m, cond, a->s, a->t, negate);
  switch (c.kind) {
  case TN_COND_ALWAYS: return true;
  case TN_COND_CAUSAL: return a->causal = true;
  case TN_COND_WINDOW:
    if (a->window && a->window <= c.window) return true;
    a->window = c.window;
    a->window_cond = cond;
    a->window_not = negate;
    return true;
  case TN_COND_AHEAD:
    if (a->ahead && a->ahead <= c.window) return true;
    a->ahead = c.window;
    a->ahead_cond = cond;
    a->ahead_not = negate;
    return true;
  default: return keep_mask(a, cond, negate);
  }
}

static bool is_bool(tn_attention *a, tn_value v) { return tn_rw_type_info(a->m, v).dtype == TN_DT_bool; }

/* select(cond, 1, 0), or with the numbers the other way round, as a condition; 0: v is none. */
static tn_value as_condition(tn_attention *a, tn_value v, bool *negate) {
  tn_op op = tn_rw_def_as(a->m, v, TN_OPC_select);
  double yes, no;
  if (!op || !tn_rw_splat(a->m, operand(a, op, 1), &yes) || !tn_rw_splat(a->m, operand(a, op, 2), &no) ||
      (yes != 0) == (no != 0))
    return 0;
  *negate ^= no != 0;
  return operand(a, op, 0);
}

static bool add_mask(tn_attention *a, tn_value cond, bool negate, uint32_t depth) {
  tn_op op = tn_rw_def(a->m, cond);
  tn_value inner;
  if (!op || depth == DEPTH) return known_mask(a, cond, negate);
  switch (tn_ir_opcode(a->m, op)) {
  case TN_OPC_not: return add_mask(a, operand(a, op, 0), !negate, depth + 1);
  case TN_OPC_broadcast: return add_mask(a, operand(a, op, 0), negate, depth + 1);
  case TN_OPC_and: /* not (x and y) does not come apart */
  case TN_OPC_or:
    if (tn_rw_is(a->m, op, TN_OPC_or) != negate) return known_mask(a, cond, negate);
    return add_mask(a, operand(a, op, 0), negate, depth + 1) &&
           add_mask(a, operand(a, op, 1), negate, depth + 1);
  case TN_OPC_cast:
    if (is_bool(a, operand(a, op, 0))) return add_mask(a, operand(a, op, 0), negate, depth + 1);
    inner = as_condition(a, operand(a, op, 0), &negate);
    return inner ? add_mask(a, inner, negate, depth + 1) : known_mask(a, cond, negate);
  default: return known_mask(a, cond, negate);
  }
}

bool tn_attention_add_mask(tn_attention *a, tn_value cond, bool negate) {
  return add_mask(a, cond, negate, 0);
}

/* ---- additive masks ---------------------------------------------------------------------------- */
static bool keep_bias(tn_attention *a, tn_value bias) {
  double c;
  if (tn_rw_splat(a->m, bias, &c) && c == 0) return true;
  if (a->nbiases == TN_ATTENTION_PARTS)
    return tn_attention_miss(a, tn_rw_def(a->m, bias), "too many additive masks");
  a->biases[a->nbiases++] = bias;
  return true;
}

/* Of a float tensor of zeros and ones, the condition it was cast from; 0: none. */
static tn_value indicator(tn_attention *a, tn_value v) {
  tn_op op = tn_rw_def(a->m, v);
  while (tn_rw_is(a->m, op, TN_OPC_broadcast)) op = tn_rw_def(a->m, operand(a, op, 0));
  while (tn_rw_is(a->m, op, TN_OPC_cast) && !is_bool(a, operand(a, op, 0)))
    op = tn_rw_def(a->m, operand(a, op, 0));
  return tn_rw_is(a->m, op, TN_OPC_cast) ? operand(a, op, 0) : 0;
}

/* (1 - seen) * lowest, or hidden * lowest. Minus infinity times zero is no number, so it is not meant. */
static bool product_mask(tn_attention *a, tn_op op, bool *done) {
  double low, one;
  for (uint32_t i = 0; i < 2; i++) {
    if (!tn_rw_splat(a->m, operand(a, op, i), &low) || !(low > -INFINITY) ||
        !tn_attention_very_negative(a->m, operand(a, op, i)))
      continue;
    tn_op sub = tn_rw_def_as(a->m, operand(a, op, 1 - i), TN_OPC_sub);
    bool inverse = sub && tn_rw_splat(a->m, operand(a, sub, 0), &one) && one == 1;
    tn_value cond = indicator(a, inverse ? operand(a, sub, 1) : operand(a, op, 1 - i));
    if (!cond) continue;
    *done = true;
    return tn_attention_add_mask(a, cond, !inverse);
  }
  return true;
}

static bool add_bias(tn_attention *a, tn_value bias, uint32_t depth) {
  tn_op op = tn_rw_def(a->m, bias);
  bool done = false;
  if (!op || depth == DEPTH) return keep_bias(a, bias);
  switch (tn_ir_opcode(a->m, op)) {
  case TN_OPC_broadcast: return add_bias(a, operand(a, op, 0), depth + 1);
  case TN_OPC_add:
    return add_bias(a, operand(a, op, 0), depth + 1) && add_bias(a, operand(a, op, 1), depth + 1);
  case TN_OPC_select:
    for (uint32_t low = 1; low <= 2; low++)
      if (tn_attention_very_negative(a->m, operand(a, op, low)))
        return tn_attention_add_mask(a, operand(a, op, 0), low == 1) &&
               add_bias(a, operand(a, op, 3 - low), depth + 1);
    return keep_bias(a, bias);
  case TN_OPC_mul:
    if (!product_mask(a, op, &done)) return false;
    return done || keep_bias(a, bias);
  default: return keep_bias(a, bias);
  }
}

bool tn_attention_add_bias(tn_attention *a, tn_value bias) { return add_bias(a, bias, 0); }

/* ---- operands ---------------------------------------------------------------------------------- */
static tn_value build(tn_attention *a, tn_point at, uint32_t opcode, tn_value x, tn_value y) {
  tn_value in[2] = {x, y};
  tn_op_desc d = {tn_ir_opcode_name(opcode), in, y ? 2 : 1, 0, NULL, NULL, 0, a->loc};
  tn_op op = x ? tn_rw_try_create(a->m, at, &d) : 0;
  return op ? tn_ir_op_result(a->m, op, 0) : 0;
}

/* A mask or bias over [b * h, s, t] or [1, s, t] as one over [b, h, s, t]. */
static tn_value split_heads(tn_attention *a, tn_point at, tn_value v, bool flat) {
  tn_type_info t = tn_rw_type_info(a->m, v);
  if (!flat || t.rank != 3) return v;
  bool one = tn_rw_dim_is(a->m, t.dims[0], 1);
  tn_dim dims[4] = {one ? t.dims[0] : a->b, one ? t.dims[0] : a->h, t.dims[1], t.dims[2]};
  tn_named_attr attr = {"shape", {.kind = TN_ATTR_DIMS, .count = 4, .u.dims = dims}};
  tn_op_desc d = {"reshape", &v, 1, 1, &attr, NULL, 0, a->loc};
  tn_op op = tn_rw_try_create(a->m, at, &d);
  return op ? tn_ir_op_result(a->m, op, 0) : 0;
}

/* Windows of a bidirectional attention are one attribute: the same both ways, or none. */
static bool settle_windows(tn_attention *a) {
  bool both = a->causal || a->window == a->ahead;
  if (a->window && !both && !keep_mask(a, a->window_cond, a->window_not)) return false;
  if (a->ahead && !both && !keep_mask(a, a->ahead_cond, a->ahead_not)) return false;
  if (!both) a->window = a->ahead = 0;
  return true;
}

bool tn_attention_operands(tn_attention *a, tn_point at, tn_value *mask, tn_value *bias) {
  bool flat = tn_rw_type_info(a->m, a->q).rank == 3;
  *mask = *bias = 0;
  if (!settle_windows(a)) return false;
  for (uint32_t i = 0; i < a->nmasks; i++) {
    tn_value v = split_heads(a, at, a->masks[i], flat);
    if (v && a->negated[i]) v = build(a, at, TN_OPC_not, v, 0);
    if (v && *mask) v = build(a, at, TN_OPC_and, *mask, v);
    if (!(*mask = v)) return false;
  }
  for (uint32_t i = 0; i < a->nbiases; i++) {
    tn_value v = split_heads(a, at, a->biases[i], flat);
    if (v && *bias) v = build(a, at, TN_OPC_add, *bias, v);
    if (!(*bias = v)) return false;
  }
  return true;
}
