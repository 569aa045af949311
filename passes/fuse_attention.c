/* fuse_attention.c - attention in the primitive ops that exporters write: matmul(softmax(scores), v), where
 * the scores are q k^T on [b, h, s, d], scaled before or after the product, plus at most one additive mask
 * and one boolean one. The attention op reads [b, s, h, d], so each operand gets a transpose in front and the
 * result one behind; where the exporter had the opposite transposes, canonicalize cancels them. Every softmax
 * that feeds a matmul and does not fit is reported as a near miss, with the reason. */
#include "passes/passes.h"
#include "passes/rw.h"

typedef struct attention {
  tn_module *m;
  tn_op last;                   /* the matmul with v */
  tn_value q, k, v, mask, bias; /* q, k, v: [b, h, s, d] */
  double scale;
  bool trans_b; /* k is [b, h, t, d]; else [b, h, d, t] */
  tn_loc loc;
  const char *why; /* the near miss */
} attention;

static bool miss(attention *a, const char *why) {
  a->why = why;
  return false;
}

static void take(attention *a, tn_op op) {
  a->loc = tn_rw_fuse_locs(a->m, "fuse-attention", a->loc, tn_ir_op_loc(a->m, op));
}

static tn_value operand(attention *a, tn_op op, uint32_t i) { return tn_ir_op_operand(a->m, op, i); }

/* v is an op of that kind whose only use is here: only then does it vanish. */
static tn_op only_use(attention *a, tn_value v, uint32_t opcode) {
  return tn_rw_nuses(a->m, v) == 1 ? tn_rw_def_as(a->m, v, opcode) : 0;
}

/* ---- scores: from the softmax back to the product -------------------------------------------- */
/* mul or div by a constant, on either side for mul. *v becomes the scaled value. */
static bool peel_scale(attention *a, tn_value *v) {
  tn_op op = only_use(a, *v, TN_OPC_mul);
  double c;
  for (uint32_t i = 0; op && i < 2; i++) {
    if (!tn_rw_splat(a->m, operand(a, op, 1 - i), &c) || !tn_rw_same_dims(a->m, operand(a, op, i), *v))
      continue;
    a->scale *= c;
    *v = operand(a, op, i);
    return take(a, op), true;
  }
  op = only_use(a, *v, TN_OPC_div);
  if (!op || !tn_rw_splat(a->m, operand(a, op, 1), &c) || c == 0 ||
      !tn_rw_same_dims(a->m, operand(a, op, 0), *v))
    return false;
  a->scale /= c;
  *v = operand(a, op, 0);
  return take(a, op), true;
}

/* Through scales and adds, the value that leads to a product; 0: none. */
static bool leads_to_matmul(attention *a, tn_value v) {
  for (int depth = 0; depth < 6; depth++) {
    tn_op op = tn_rw_def(a->m, v);
    if (!op) return false;
    switch (tn_ir_opcode(a->m, op)) {
    case TN_OPC_matmul: return true;
    case TN_OPC_mul:
    case TN_OPC_div: {
      double c;
      v = operand(a, op, tn_rw_splat(a->m, operand(a, op, 0), &c) ? 1 : 0);
      break;
    }
    case TN_OPC_add:
      if (leads_to_matmul(a, operand(a, op, 1))) return true;
      v = operand(a, op, 0);
      break;
    case TN_OPC_select: v = operand(a, op, 1); break;
    default: return false;
    }
  }
  return false;
}

static bool peel_bias(attention *a, tn_value *v) {
  tn_op op = only_use(a, *v, TN_OPC_add);
  if (!op) return false;
  uint32_t scores = leads_to_matmul(a, operand(a, op, 0)) ? 0 : 1;
  if (!tn_rw_same_dims(a->m, operand(a, op, scores), *v)) return false;
  if (a->bias) return miss(a, "two additive masks");
  if (a->scale != 1) return miss(a, "the scores are scaled after the mask was added");
  a->bias = operand(a, op, 1 - scores);
  *v = operand(a, op, scores);
  return take(a, op), true;
}

static bool very_negative(attention *a, tn_value v) {
  double c;
  tn_dtype t = tn_rw_type_info(a->m, v).dtype;
  return tn_rw_splat(a->m, v, &c) && c <= (t == TN_DT_f16 ? -65504.0 : -1e30);
}

/* select(mask, scores, -inf); the other way round the mask would have to be negated, which no exporter
 * writes. */
static bool peel_select(attention *a, tn_value *v) {
  tn_op op = only_use(a, *v, TN_OPC_select);
  if (!op) return false;
  if (!very_negative(a, operand(a, op, 2)))
    return miss(a, "a select whose other value is not minus infinity");
  if (!tn_rw_same_dims(a->m, operand(a, op, 1), *v))
    return miss(a, "the boolean mask is larger than the scores");
  if (a->mask) return miss(a, "two boolean masks");
  a->mask = operand(a, op, 0);
  *v = operand(a, op, 1);
  return take(a, op), true;
}

/* ---- operands -------------------------------------------------------------------------------- */
static bool perm_is(attention *a, tn_op op, int64_t p0, int64_t p1, int64_t p2, int64_t p3) {
  tn_attr p = tn_rw_attr(a->m, op, "perm");
  const int64_t want[4] = {p0, p1, p2, p3};
  return p.count == 4 && !memcmp(p.u.ints, want, sizeof want);
}

static tn_value transposed(attention *a, tn_value v, int64_t p0, int64_t p1, int64_t p2, int64_t p3,
                           tn_loc loc) {
  const int64_t perm[4] = {p0, p1, p2, p3};
  tn_named_attr attr = {"perm", {.kind = TN_ATTR_INTS, .count = 4, .u.ints = perm}};
  return v ? tn_rw_build(a->m, tn_rw_before(a->last), TN_OPC_transpose, &v, 1, &attr, 1, loc) : 0;
}

/* k as [b, t, h, d]: from matmul's transposed or plain right operand; the transpose in front of a plain one
 * may also have moved the heads. */
static tn_value keys(attention *a, tn_loc loc) {
  tn_op t = tn_rw_def_as(a->m, a->k, TN_OPC_transpose);
  if (a->trans_b) return transposed(a, a->k, 0, 2, 1, 3, loc);
  if (t && perm_is(a, t, 0, 2, 3, 1)) return operand(a, t, 0);
  return transposed(a, a->k, 0, 3, 1, 2, loc);
}

static bool shapes_fit(attention *a) {
  tn_type_info q = tn_rw_type_info(a->m, a->q), k = tn_rw_type_info(a->m, a->k),
               v = tn_rw_type_info(a->m, a->v);
  if (q.rank != 4 || k.rank != 4 || v.rank != 4)
    return miss(a, "q, k and v are not [batch, heads, tokens, features]");
  if (q.dims[0] != k.dims[0] || q.dims[0] != v.dims[0]) return miss(a, "batch dims differ");
  if (k.dims[1] != v.dims[1]) return miss(a, "heads of k and v differ");
  if (q.dims[1] != k.dims[1])
    return miss(a, "heads of q and k differ"); /* matmul broadcasts, attention groups */
  return k.dims[a->trans_b ? 2 : 3] == v.dims[2] || miss(a, "numbers of keys and values differ");
}

static bool match(attention *a) {
  tn_value p = operand(a, a->last, 0);
  tn_op softmax = tn_rw_def_as(a->m, p, TN_OPC_softmax);
  int64_t rank = tn_rw_type_info(a->m, p).rank, axis = tn_rw_int(a->m, softmax, "axis");
  take(a, a->last);
  take(a, softmax);
  if (tn_rw_nuses(a->m, p) != 1) return miss(a, "the probabilities have other uses");
  if (axis != -1 && axis != rank - 1) return miss(a, "the softmax is not over the last axis");
  if (tn_rw_int(a->m, a->last, "trans_a") || tn_rw_int(a->m, a->last, "trans_b"))
    return miss(a, "the product with v is transposed");
  tn_value v = operand(a, softmax, 0);
  while (!a->why && (peel_select(a, &v) || peel_bias(a, &v) || peel_scale(a, &v))) continue;
  if (a->why) return false;
  tn_op scores = only_use(a, v, TN_OPC_matmul);
  if (!scores)
    return miss(a, tn_rw_def_as(a->m, v, TN_OPC_matmul) ? "the scores have other uses"
                                                        : "the scores are no matmul");
  if (tn_rw_int(a->m, scores, "trans_a")) return miss(a, "q is transposed");
  take(a, scores);
  a->trans_b = tn_rw_int(a->m, scores, "trans_b");
  a->q = operand(a, scores, 0);
  a->k = operand(a, scores, 1);
  a->v = operand(a, a->last, 1);
  while (peel_scale(a, &a->q) || peel_scale(a, &a->k)) continue;
  return shapes_fit(a);
}

/* ---- rewriting ------------------------------------------------------------------------------- */
static tn_status rewrite(tn_pass_ctx *c, attention *a) {
  tn_value in[5] = {transposed(a, a->q, 0, 2, 1, 3, a->loc), keys(a, a->loc),
                    transposed(a, a->v, 0, 2, 1, 3, a->loc), a->mask, a->bias};
  tn_named_attr scale = {"scale", {.kind = TN_ATTR_FLOAT, .u.f = a->scale}};
  tn_op_desc d = {"attention", in, a->bias ? 5 : a->mask ? 4 : 3, 1, &scale, NULL, 0, a->loc};
  if (!in[0] || !in[1] || !in[2]) return TN_INTERNAL;
  tn_op op = tn_rw_try_create(a->m, tn_rw_before(a->last), &d);
  if (!op) {
    tn_pass_fusion(c, "attention", a->loc, "the mask does not broadcast to the scores");
    return TN_OK;
  }
  tn_value old = tn_ir_op_result(a->m, a->last, 0);
  tn_value out = transposed(a, tn_ir_op_result(a->m, op, 0), 0, 2, 1, 3, a->loc);
  if (!out || tn_rw_type(a->m, out) != tn_rw_type(a->m, old)) return TN_INTERNAL;
  const char *name = tn_ir_value_name(a->m, old);
  if (name) TN_TRY(tn_ir_value_set_name(a->m, out, name));
  TN_TRY(tn_ir_value_replace(a->m, old, out));
  tn_pass_fusion(c, "attention", a->loc, NULL);
  return TN_OK;
}

tn_status tn_pass_fuse_attention(tn_pass_ctx *c, tn_func f) {
  for (tn_op op = tn_ir_first_op(c->m, f, 0); op; op = tn_ir_next_op(c->m, op)) {
    if (!tn_rw_is(c->m, op, TN_OPC_matmul) ||
        !tn_rw_def_as(c->m, tn_ir_op_operand(c->m, op, 0), TN_OPC_softmax))
      continue;
    attention a = {.m = c->m, .last = op, .scale = 1};
    if (match(&a))
      TN_TRY(rewrite(c, &a));
    else
      tn_pass_fusion(c, "attention", a.loc, a.why);
  }
  (void)tn_func_dce(c->m, f);
  return TN_OK;
}
