/* linear.c - matmul, expert_matmul and the norms. */
#include "ops.h"
#include "ir/quant/quant.h"

/* The matrix part of an operand, [rows, cols] after an optional transpose. */
static void matrix(const tn_in *x, bool trans, tn_dim *rows, tn_dim *cols) {
  *rows = x->dims[x->rank - (trans ? 1 : 2)];
  *cols = x->dims[x->rank - (trans ? 2 : 1)];
}

/* Are a block format's values whole numbers of 8 bits, or the difference of two? */
static bool whole(tn_dtype t) {
  const tn_quant *q = tn_quant_of(t);
  bool codes = q && (q->level == TN_QL_SIGNED || (q->level == TN_QL_INT && !q->bias));
  return codes && q->plane[0].bits == 8 && !q->plane[1].bits && q->d == TN_QN_ONE && !q->inner && !q->m_sign;
}

tn_status tn_infer_matmul(tn_infer *c) {
  tn_in in[2];
  TN_TRY(tn_ops_read(c, in, 2));
  if (in[1].cls != TN_CLASS_FLOAT && in[1].cls != TN_CLASS_BLOCK)
    return tn_ops_fail(c, "operand 1 ('rhs') must be floats or a block format, but is %T", in[1].type);
  bool integers = in[0].cls != TN_CLASS_FLOAT;
  if (integers && (in[0].dtype != TN_DT_i8 && in[0].dtype != TN_DT_u8 && in[0].dtype != TN_DT_i16))
    return tn_ops_fail(
        c, "operand 0 ('lhs') must be floats, or integers of 8 or 16 bits: i8, u8, i16, but is %T",
        in[0].type);
  if (integers && !whole(in[1].dtype))
    return tn_ops_fail(c,
                       "operand 1 ('rhs') of a product of %T must be 8-bit codes without scales, but is %T",
                       in[0].type, in[1].type);
  for (int i = 0; i < 2; i++)
    if (in[i].rank < 2)
      return tn_ops_fail(c, "operand %i has rank %i, wants at least 2: %T", i, (int)in[i].rank, in[i].type);
  tn_dim m, k, k2, n;
  matrix(&in[0], c->attrs[TN_A_matmul_trans_a].u.i, &m, &k);
  matrix(&in[1], c->attrs[TN_A_matmul_trans_b].u.i, &k2, &n);
  if (!tn_ops_eq(c, k, k2))
    return tn_ops_fail(c, "inner dims differ: %D and %D, of %T and %T", k, k2, in[0].type, in[1].type);
  tn_shape s = tn_ops_shape(&in[0]);
  s.rank -= 2;
  TN_TRY(tn_ops_broadcast(c, &s, in[1].dims, in[1].rank - 2));
  s.dims[s.rank++] = m;
  s.dims[s.rank++] = n;
  return tn_ops_result(c, 0, integers ? TN_DT_i32 : in[0].dtype, &s);
}

tn_status tn_infer_expert_matmul(tn_infer *c) {
  tn_in in[3];
  TN_TRY(tn_ops_read(c, in, 3));
  const tn_in *x = &in[0], *w = &in[1], *experts = &in[2];
  if (w->cls != TN_CLASS_FLOAT && w->cls != TN_CLASS_BLOCK)
    return tn_ops_fail(c, "operand 1 ('w') must be floats or a block format, but is %T", w->type);
  if (x->rank != 2 && x->rank != 3)
    return tn_ops_fail(c, "operand 0 ('x') has rank %i, wants 2 or 3: %T", (int)x->rank, x->type);
  TN_TRY(tn_ops_rank(c, "w", w, 3));
  TN_TRY(tn_ops_rank(c, "experts", experts, 2));
  TN_TRY(tn_ops_equal(c, "tokens of x and experts", x->dims[0], experts->dims[0]));
  if (x->rank == 3)
    TN_TRY(tn_ops_equal(c, "experts per token of x and experts", x->dims[1], experts->dims[1]));
  if (!tn_ops_eq(c, x->dims[x->rank - 1], w->dims[2]))
    return tn_ops_fail(c, "inner dims differ: %D and %D, of %T and %T", x->dims[x->rank - 1], w->dims[2],
                       x->type, w->type);
  tn_shape s = {3, {experts->dims[0], experts->dims[1], w->dims[1]}};
  return tn_ops_result(c, 0, TN_DT_f32, &s);
}

/* A scale or bias: absent, or [d] in f32 or x's element type. */
static tn_status norm_vector(tn_infer *c, const char *what, const tn_in *x, const tn_in *v) {
  if (!v->value) return TN_OK;
  if (v->dtype != TN_DT_f32 && v->dtype != x->dtype)
    return tn_ops_fail(c, "%s is %s, wants f32%s%s", what, tn_ops_dtype_name(v->dtype),
                       x->dtype == TN_DT_f32 ? "" : " or ",
                       x->dtype == TN_DT_f32 ? "" : tn_ops_dtype_name(x->dtype));
  TN_TRY(tn_ops_rank(c, what, v, 1));
  if (!tn_ops_eq(c, v->dims[0], x->dims[x->rank - 1]))
    return tn_ops_fail(c, "%s has %D elements, the last dim of %T is %D", what, v->dims[0], x->type,
                       x->dims[x->rank - 1]);
  return TN_OK;
}

static tn_status norm(tn_infer *c, double eps) {
  tn_in in[3];
  TN_TRY(tn_ops_read(c, in, 3));
  if (!in[0].rank) return tn_ops_fail(c, "operand 0 ('x') is a scalar, wants a last dim");
  if (!(eps >= 0)) return tn_infer_fail(c, "eps is %g, wants at least 0", eps);
  TN_TRY(norm_vector(c, "scale", &in[0], &in[1]));
  TN_TRY(norm_vector(c, "bias", &in[0], &in[2]));
  return tn_ops_same(c, &in[0], in[0].dtype);
}

tn_status tn_infer_layer_norm(tn_infer *c) { return norm(c, c->attrs[TN_A_layer_norm_eps].u.f); }
tn_status tn_infer_rms_norm(tn_infer *c) { return norm(c, c->attrs[TN_A_rms_norm_eps].u.f); }
