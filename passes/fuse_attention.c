/* fuse_attention.c - attention in the primitive ops that exporters write: matmul(softmax(scores), v), where
 * the scores are q k^T, scaled before or after the product, with masks selected or added. Tensors are [b, h,
 * s, d], or [b * h, s, d] with a reshape in front; keys and values of grouped heads may be repeated by
 * reshape, broadcast, reshape. The attention op reads [b, s, h, d], so each operand gets a transpose in front
 * and the result one behind; where the exporter had the opposite transposes, canonicalize cancels them. Every
 * softmax that feeds a matmul and does not fit is reported as a near miss, with the op that blocks it and the
 * reason. */
#include "passes/fuse_attention.h"
#include <math.h>
#include "passes/passes.h"

typedef tn_attention attention;

static void take(attention *a, tn_op op) {
  a->loc = tn_rw_fuse_locs(a->m, "fuse-attention", a->loc, tn_ir_op_loc(a->m, op));
}

static tn_value operand(attention *a, tn_op op, uint32_t i) { return tn_ir_op_operand(a->m, op, i); }

/* v is an op of that kind whose only use is here: only then does it vanish. */
static tn_op only_use(attention *a, tn_value v, uint32_t opcode) {
  return tn_rw_nuses(a->m, v) == 1 ? tn_rw_def_as(a->m, v, opcode) : 0;
}

static bool broadcasts(attention *a, tn_value part, tn_value whole) {
  return !tn_rw_same_dims(a->m, part, whole);
}

/* ---- scores: from the softmax back to the product -------------------------------------------- */
/* mul or div by a constant, on either side for mul. *v becomes the scaled value, *c the factor. */
static tn_op constant_factor(attention *a, tn_value *v, double *c) {
  tn_op op = only_use(a, *v, TN_OPC_mul);
  for (uint32_t i = 0; op && i < 2; i++) {
    if (!tn_rw_splat(a->m, operand(a, op, 1 - i), c) || broadcasts(a, operand(a, op, i), *v)) continue;
    *v = operand(a, op, i);
    return op;
  }
  op = only_use(a, *v, TN_OPC_div);
  if (!op || !tn_rw_splat(a->m, operand(a, op, 1), c) || *c == 0 || broadcasts(a, operand(a, op, 0), *v))
    return 0;
  *c = 1 / *c;
  *v = operand(a, op, 0);
  return op;
}

static bool peel_scale(attention *a, tn_value *v) {
  double c;
  tn_op op = constant_factor(a, v, &c);
  if (!op) return false;
  a->scale *= c;
  return take(a, op), true;
}

/* cap * tanh(scores / cap): the factor outside has been taken for a scale. */
static bool peel_softcap(attention *a, tn_value *v) {
  tn_op tanh = only_use(a, *v, TN_OPC_tanh);
  double inner = 1;
  if (!tanh) return false;
  tn_value x = operand(a, tanh, 0);
  tn_op op = constant_factor(a, &x, &inner);
  if (!op || a->softcap || fabs(a->scale * inner - 1) > 1e-5)
    return tn_attention_miss(a, tanh, "a tanh of the scores that is no soft cap");
  a->softcap = a->scale;
  a->scale = 1;
  *v = x;
  return take(a, op), take(a, tanh), true;
}

/* Through scales and adds, the value that leads to a product; 0: none. */
static bool leads_to_matmul(attention *a, tn_value v, int depth) {
  for (; depth < 8; depth++) {
    tn_op op = tn_rw_def(a->m, v);
    double c;
    if (!op) return false;
    switch (tn_ir_opcode(a->m, op)) {
    case TN_OPC_matmul: return true;
    case TN_OPC_mul:
    case TN_OPC_div: v = operand(a, op, tn_rw_splat(a->m, operand(a, op, 0), &c) ? 1 : 0); break;
    case TN_OPC_add:
      if (leads_to_matmul(a, operand(a, op, 1), depth + 1)) return true;
      v = operand(a, op, 0);
      break;
    case TN_OPC_select: v = operand(a, op, 1); break;
    case TN_OPC_tanh:
    case TN_OPC_reshape: v = operand(a, op, 0); break;
    default: return false;
    }
  }
  return false;
}

static bool peel_bias(attention *a, tn_value *v) {
  tn_op op = only_use(a, *v, TN_OPC_add);
  if (!op) return false;
  uint32_t scores = leads_to_matmul(a, operand(a, op, 0), 0) ? 0 : 1;
  if (broadcasts(a, operand(a, op, scores), *v)) return false;
  if (a->scale != 1) return tn_attention_miss(a, op, "the scores are scaled after the mask was added");
  if (!tn_attention_add_bias(a, operand(a, op, 1 - scores))) return false;
  *v = operand(a, op, scores);
  return take(a, op), true;
}

/* select(mask, scores, -inf), or the other way round. */
static bool peel_select(attention *a, tn_value *v) {
  tn_op op = only_use(a, *v, TN_OPC_select);
  if (!op) return false;
  uint32_t scores = tn_attention_very_negative(a->m, operand(a, op, 1)) ? 2 : 1;
  if (!tn_attention_very_negative(a->m, operand(a, op, 3 - scores)))
    return tn_attention_miss(a, op, "a select whose other value is not minus infinity");
  if (broadcasts(a, operand(a, op, scores), *v))
    return tn_attention_miss(a, op, "the boolean mask is larger than the scores");
  if (!tn_attention_add_mask(a, operand(a, op, 0), scores == 2)) return false;
  *v = operand(a, op, scores);
  return take(a, op), true;
}

/* max(scores, lowest) keeps sums of masks from overflowing. */
static bool peel_floor(attention *a, tn_value *v) {
  tn_op op = only_use(a, *v, TN_OPC_max);
  for (uint32_t i = 0; op && i < 2; i++)
    if (tn_attention_very_negative(a->m, operand(a, op, i)))
      return *v = operand(a, op, 1 - i), take(a, op), true;
  return false;
}

/* Between [b * h, s, t] and [b, h, s, t]. */
static bool peel_reshape(attention *a, tn_value *v) {
  tn_op op = only_use(a, *v, TN_OPC_reshape);
  if (!op) return false;
  tn_type_info to = tn_rw_type_info(a->m, *v), from = tn_rw_type_info(a->m, operand(a, op, 0));
  uint32_t n = from.rank;
  if (n + to.rank != 7 || (n != 3 && n != 4) || from.dims[n - 1] != to.dims[to.rank - 1] ||
      from.dims[n - 2] != to.dims[to.rank - 2])
    return false;
  const tn_dim *split = n == 4 ? from.dims : to.dims;
  a->b = split[0];
  a->h = split[1];
  *v = operand(a, op, 0);
  return take(a, op), true;
}

/* ---- operands -------------------------------------------------------------------------------- */
tn_value tn_attention_transposed(tn_attention *a, tn_value v, int64_t p0, int64_t p1, int64_t p2,
                                 int64_t p3) {
  const int64_t perm[4] = {p0, p1, p2, p3};
  tn_op back = tn_rw_def_as(a->m, v, TN_OPC_transpose);
  tn_attr p = tn_rw_attr(a->m, back, "perm");
  bool undone = back && p.count == 4;
  for (uint32_t i = 0; undone && i < 4; i++) undone = p.u.ints[perm[i]] == (int64_t)i;
  if (undone) return operand(a, back, 0);
  tn_named_attr attr = {"perm", {.kind = TN_ATTR_INTS, .count = 4, .u.ints = perm}};
  return v ? tn_rw_build(a->m, tn_rw_before(a->last), TN_OPC_transpose, &v, 1, &attr, 1, a->loc) : 0;
}

static bool perm_is(attention *a, tn_op op, uint32_t n, const int64_t *want) {
  tn_attr p = tn_rw_attr(a->m, op, "perm");
  return p.count == n && !memcmp(p.u.ints, want, n * sizeof *want);
}

/* Keys or values [b, hkv, t, d] that were repeated for the heads of a group: [b, hkv, 1, t, d] made
 * [b, hkv, g, t, d], then [b, h, t, d]. `turned` (keys only): the last two axes swap on the way. */
bool tn_attention_peel_repeat(tn_attention *a, tn_value *v, bool *turned) {
  static const int64_t swap[5] = {0, 1, 2, 4, 3};
  tn_op merge = tn_rw_def_as(a->m, *v, TN_OPC_reshape);
  if (!merge) return false;
  tn_value wide = operand(a, merge, 0);
  tn_op turn = tn_rw_def_as(a->m, wide, TN_OPC_transpose);
  if (turn && (!turned || !perm_is(a, turn, 5, swap))) return false;
  tn_op repeat = tn_rw_def_as(a->m, turn ? operand(a, turn, 0) : wide, TN_OPC_broadcast);
  tn_op split = repeat ? tn_rw_def_as(a->m, operand(a, repeat, 0), TN_OPC_reshape) : 0;
  if (!split) return false;
  tn_type_info to = tn_rw_type_info(a->m, *v), five = tn_rw_type_info(a->m, wide),
               one = tn_rw_type_info(a->m, operand(a, repeat, 0)),
               x = tn_rw_type_info(a->m, operand(a, split, 0)),
               many = tn_rw_type_info(a->m, tn_ir_op_result(a->m, repeat, 0));
  if (to.rank != 4 || five.rank != 5 || one.rank != 5 || x.rank != 4 || !tn_rw_dim_is(a->m, one.dims[2], 1))
    return false;
  for (uint32_t i = 0; i < 4; i++) {
    uint32_t k = i + (i > 1);
    if (x.dims[i] != one.dims[k] || one.dims[k] != many.dims[k]) return false;
    if (i != 1 && to.dims[i] != five.dims[k]) return false;
  }
  *v = operand(a, split, 0);
  if (turn) *turned = !*turned;
  return true;
}

static void peel_keys(attention *a) {
  while (peel_scale(a, &a->k) || tn_attention_peel_repeat(a, &a->k, &a->trans_b)) continue;
  static const int64_t swap[4] = {0, 1, 3, 2};
  tn_op turn = tn_rw_def_as(a->m, a->k, TN_OPC_transpose);
  if (turn && perm_is(a, turn, 4, swap)) { /* keys that were turned before they were scaled */
    a->k = operand(a, turn, 0);
    a->trans_b = !a->trans_b;
    while (peel_scale(a, &a->k) || tn_attention_peel_repeat(a, &a->k, &a->trans_b)) continue;
  }
}

/* k as [b, t, h, d]: from matmul's transposed or plain right operand; the transpose in front of a plain one
 * may also have moved the heads. */
static tn_value keys(attention *a) {
  static const int64_t moved[4] = {0, 2, 3, 1};
  tn_op t = tn_rw_def_as(a->m, a->k, TN_OPC_transpose);
  if (a->trans_b) return tn_attention_transposed(a, a->k, 0, 2, 1, 3);
  if (t && perm_is(a, t, 4, moved)) return operand(a, t, 0);
  return tn_attention_transposed(a, a->k, 0, 3, 1, 2);
}

/* Of [b * h, m, n]: the value it was merged from, as far as b and h are known or become known. */
static tn_value merged_from(attention *a, tn_value v) {
  tn_op op = tn_rw_def_as(a->m, v, TN_OPC_reshape);
  tn_type_info to = tn_rw_type_info(a->m, v);
  if (!op || to.rank != 3) return 0;
  tn_type_info from = tn_rw_type_info(a->m, operand(a, op, 0));
  if (from.rank != 4 || from.dims[2] != to.dims[1] || from.dims[3] != to.dims[2]) return 0;
  if (a->b && (a->b != from.dims[0] || a->h != from.dims[1])) return 0;
  a->b = from.dims[0];
  a->h = from.dims[1];
  return operand(a, op, 0);
}

static tn_value unmerge(attention *a, tn_value v) {
  tn_value source = merged_from(a, v);
  tn_type_info t = tn_rw_type_info(a->m, v);
  if (source) return source;
  tn_dim dims[4] = {a->b, a->h, t.dims[1], t.dims[2]};
  tn_named_attr attr = {"shape", {.kind = TN_ATTR_DIMS, .count = 4, .u.dims = dims}};
  tn_op_desc d = {"reshape", &v, 1, 1, &attr, NULL, 0, a->loc};
  tn_op op = tn_rw_try_create(a->m, tn_rw_before(a->last), &d);
  return op ? tn_ir_op_result(a->m, op, 0) : 0;
}

static bool shapes_fit(attention *a) {
  tn_type_info q = tn_rw_type_info(a->m, a->q), k = tn_rw_type_info(a->m, a->k),
               v = tn_rw_type_info(a->m, a->v);
  tn_op op = a->last;
  int64_t h, hkv;
  if (q.rank != k.rank || q.rank != v.rank || (q.rank != 4 && q.rank != 3))
    return tn_attention_miss(a, op, "q, k and v are not [batch, heads, tokens, features]");
  uint32_t t = q.rank - 2;
  if (!tn_dim_known_eq(a->m, q.dims[0], k.dims[0]) || !tn_dim_known_eq(a->m, q.dims[0], v.dims[0]))
    return tn_attention_miss(a, op, "batch dims differ");
  if (!tn_dim_known_eq(a->m, k.dims[a->trans_b ? t : t + 1], v.dims[t]))
    return tn_attention_miss(a, op, "numbers of keys and values differ");
  if (q.rank == 3) return true;
  if (k.dims[1] != v.dims[1]) return tn_attention_miss(a, op, "heads of k and v differ");
  bool known = tn_ir_dim_is_const(a->m, q.dims[1], &h) && tn_ir_dim_is_const(a->m, k.dims[1], &hkv);
  if (known ? hkv < 1 || h % hkv : q.dims[1] != k.dims[1])
    return tn_attention_miss(a, op, "heads of q and k differ");
  return true;
}

/* Heads that matmul repeats by itself: [b, 1, t, d] under [b, h, s, d] is a group of all. */
static bool match_scores(attention *a, tn_value v) {
  while (!a->why && (peel_select(a, &v) || peel_bias(a, &v) || peel_floor(a, &v) || peel_scale(a, &v) ||
                     peel_softcap(a, &v) || peel_reshape(a, &v)))
    continue;
  if (a->why) return false;
  tn_op scores = only_use(a, v, TN_OPC_matmul);
  if (!scores)
    return tn_attention_miss(a, tn_rw_def(a->m, v),
                             tn_rw_def_as(a->m, v, TN_OPC_matmul) ? "the scores have other uses"
                                                                  : "the scores are no matmul");
  if (tn_rw_int(a->m, scores, "trans_a")) return tn_attention_miss(a, scores, "q is transposed");
  take(a, scores);
  a->trans_b = tn_rw_int(a->m, scores, "trans_b");
  a->q = operand(a, scores, 0);
  a->k = operand(a, scores, 1);
  return true;
}

static bool match(attention *a) {
  tn_value p = operand(a, a->last, 0);
  take(a, a->last);
  for (tn_op op; (op = tn_rw_def_as(a->m, p, TN_OPC_reshape)) && tn_rw_nuses(a->m, p) == 1;)
    if (!peel_reshape(a, &p)) return tn_attention_miss(a, op, "the probabilities are reshaped");
  tn_op softmax = tn_rw_def_as(a->m, p, TN_OPC_softmax);
  tn_type_info type = tn_rw_type_info(a->m, p);
  int64_t rank = type.rank, axis = tn_rw_int(a->m, softmax, "axis");
  take(a, softmax);
  if (tn_rw_nuses(a->m, p) != 1) return tn_attention_miss(a, softmax, "the probabilities have other uses");
  if (rank < 3 || (axis != -1 && axis != rank - 1))
    return tn_attention_miss(a, softmax, "the softmax is not over the last axis");
  if (tn_rw_int(a->m, a->last, "trans_a") || tn_rw_int(a->m, a->last, "trans_b"))
    return tn_attention_miss(a, a->last, "the product with v is transposed");
  a->s = type.dims[rank - 2];
  a->t = type.dims[rank - 1];
  a->v = operand(a, a->last, 1);
  if (!match_scores(a, operand(a, softmax, 0))) return false;
  while (peel_scale(a, &a->q)) continue;
  peel_keys(a);
  while (tn_attention_peel_repeat(a, &a->v, NULL)) continue;
  return shapes_fit(a);
}

/* ---- rewriting ------------------------------------------------------------------------------- */
/* q, k and v as [b, h, s, d]; where nothing says how many heads there are, each is a batch of its own. */
static bool split_batch(attention *a) {
  tn_type_info q = tn_rw_type_info(a->m, a->q);
  if (q.rank == 4) return true;
  (void)(merged_from(a, a->q) || merged_from(a, a->v) || merged_from(a, a->k));
  if (!a->b) a->b = q.dims[0], a->h = tn_ir_dim_const(a->m, 1);
  a->q = unmerge(a, a->q);
  a->k = unmerge(a, a->k);
  a->v = unmerge(a, a->v);
  return a->q && a->k && a->v;
}

/* Keys and values that are the first rows of a longer tensor, as a cache is: how many; 0: they are all. */
tn_dim tn_attention_first_rows(tn_attention *a, tn_value in[2]) {
  tn_dim stop[2];
  for (int i = 0; i < 2; i++) {
    tn_op op = tn_rw_def_as(a->m, in[i], TN_OPC_slice);
    if (!op || tn_rw_int(a->m, op, "axis") != 1 || tn_rw_int(a->m, op, "step") != 1 ||
        !tn_rw_dim_is(a->m, tn_rw_attr(a->m, op, "start").u.dim, 0))
      return 0;
    stop[i] = tn_rw_attr(a->m, op, "stop").u.dim;
  }
  tn_type_info k = tn_rw_type_info(a->m, operand(a, tn_rw_def(a->m, in[0]), 0)),
               v = tn_rw_type_info(a->m, operand(a, tn_rw_def(a->m, in[1]), 0));
  if (stop[0] != stop[1] || k.dims[1] != v.dims[1]) return 0;
  for (int i = 0; i < 2; i++) in[i] = operand(a, tn_rw_def(a->m, in[i]), 0);
  return stop[0];
}

static tn_value merge_back(attention *a, tn_value v, tn_type_info t) {
  tn_named_attr attr = {"shape", {.kind = TN_ATTR_DIMS, .count = t.rank, .u.dims = t.dims}};
  if (t.rank == 4) return v;
  return v ? tn_rw_build(a->m, tn_rw_before(a->last), TN_OPC_reshape, &v, 1, &attr, 1, a->loc) : 0;
}

static tn_status rewrite(tn_pass_ctx *c, attention *a) {
  tn_value in[5] = {0};
  if (!tn_attention_operands(a, tn_rw_before(a->last), &in[3], &in[4]) || !split_batch(a)) {
    tn_pass_near_miss(c, "attention", a->loc, a->blocker ? a->blocker : a->last,
                      a->why ? a->why : "the mask does not broadcast to the scores");
    return TN_OK;
  }
  in[0] = tn_attention_transposed(a, a->q, 0, 2, 1, 3);
  in[1] = keys(a);
  in[2] = tn_attention_transposed(a, a->v, 0, 2, 1, 3);
  if (!in[0] || !in[1] || !in[2]) return TN_INTERNAL;
  tn_dim rows = tn_attention_first_rows(a, in + 1);
  tn_named_attr attrs[5] = {{"scale", {.kind = TN_ATTR_FLOAT, .u.f = a->scale}},
                            {"causal", {.kind = TN_ATTR_BOOL, .u.i = a->causal}},
                            {"window", {.kind = TN_ATTR_INT, .u.i = a->window}},
                            {"softcap", {.kind = TN_ATTR_FLOAT, .u.f = a->softcap}},
                            {"keys", {.kind = TN_ATTR_DIM, .u.dim = rows}}};
  tn_op_desc d = {"attention", in, in[4] ? 5 : in[3] ? 4 : 3, rows ? 5 : 4, attrs, NULL, 0, a->loc};
  tn_op op = tn_rw_try_create(a->m, tn_rw_before(a->last), &d);
  if (!op) {
    tn_pass_near_miss(c, "attention", a->loc, a->last, "the mask does not broadcast to the scores");
    return TN_OK;
  }
  tn_value old = tn_ir_op_result(a->m, a->last, 0);
  tn_value out = tn_attention_transposed(a, tn_ir_op_result(a->m, op, 0), 0, 2, 1, 3);
  out = merge_back(a, out, tn_rw_type_info(a->m, old));
  if (!out || tn_rw_type(a->m, out) != tn_rw_type(a->m, old)) return TN_INTERNAL;
  const char *name = tn_ir_value_name(a->m, old);
  if (name) TN_TRY(tn_ir_value_set_name(a->m, out, name));
  TN_TRY(tn_ir_value_replace(a->m, old, out));
  tn_pass_fusion(c, "attention", a->loc, NULL);
  return TN_OK;
}

/* The probabilities, perhaps reshaped, are the product's left operand. */
static bool begins(tn_module *m, tn_op op) {
  return tn_rw_is(m, op, TN_OPC_matmul) &&
         tn_rw_def_as(m, tn_rw_source(m, tn_ir_op_operand(m, op, 0)), TN_OPC_softmax);
}

tn_status tn_pass_fuse_attention(tn_pass_ctx *c, tn_func f) {
  for (tn_op op = tn_ir_first_op(c->m, f, 0), next; op; op = next) {
    next = tn_ir_next_op(c->m, op);
    if (tn_rw_is(c->m, op, TN_OPC_attention)) TN_TRY(tn_attention_refine(c->m, op));
    if (!begins(c->m, op)) continue;
    attention a = {.m = c->m, .last = op, .scale = 1};
    if (match(&a))
      TN_TRY(rewrite(c, &a));
    else
      tn_pass_near_miss(c, "attention", a.loc, a.blocker, a.why);
  }
  (void)tn_func_dce(c->m, f);
  return TN_OK;
}
