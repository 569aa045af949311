/* write_attention.c - attention, its masks and positions, and the cache of keys and values.
 *
 * The IR has heads behind tokens, [b, s, h, d]; ONNX and its exporters have them in front. Each function here
 * works on [b, h, s, d] between two transposes, and transposes that meet cancel (tn_ow_transpose). */
#include "frontend/onnx/write_graph.h"
#include <math.h>
#include <string.h>

static const int64_t heads_first[] = {0, 2, 1, 3};

/* ---- masks
 * ------------------------------------------------------------------------------------------------- */
/* Query i (of q) sees key j (of k): j <= i + k - q, and not further back than the window; without `causal`
 * the window also bounds the keys in front. 0: all are seen. bool [q, k]. */
static tn_ov band(tn_ow *w, tn_dim q, tn_dim k, bool causal, int64_t window) {
  static const int64_t behind = 1;
  if (!causal && !window) return 0;
  tn_ov rows = tn_ow_unsqueeze(w, tn_ow_range(w, tn_ow_dsub(w, k, q), q), &behind, 1);
  tn_ov cols = tn_ow_range(w, tn_ow_d(w, 0), k), mask = 0;
  if (causal) mask = tn_ow_compare(w, "LessOrEqual", cols, rows);
  if (!window) return mask;
  tn_ov size = tn_ow_scalar(w, TN_DT_i64, (double)window);
  tn_ov near = tn_ow_compare(w, "Less", tn_ow_binary(w, "Sub", rows, cols), size);
  if (!causal) mask = tn_ow_compare(w, "Less", tn_ow_binary(w, "Sub", cols, rows), size);
  return tn_ow_compare(w, "And", near, mask);
}

void tn_ow_op_causal_mask(tn_ow *w, tn_op op) {
  tn_ow_out(w, op, 0,
            band(w, tn_ow_dim(w, op, "q"), tn_ow_dim(w, op, "k"), true, tn_ow_int(w, op, "window")));
}

/* Slopes of the paper: powers of 2^(-8/n) for the power of two n below, then every second one of the next. */
static void alibi_slopes(int64_t heads, float *out) {
  int64_t n = 1;
  while (n * 2 <= heads) n *= 2;
  for (int64_t h = 0; h < heads; h++)
    out[h] = (float)(h < n ? exp2(-8.0 * (double)(h + 1) / (double)n)
                           : exp2(-4.0 * (double)(2 * (h - n) + 1) / (double)n));
}

void tn_ow_op_alibi(tn_ow *w, tn_op op) {
  int64_t heads = tn_ow_int(w, op, "heads");
  float *slopes = tn_arena_alloc(&w->arena, (size_t)heads * sizeof *slopes);
  if (!slopes) return tn_ow_fail(w, TN_OOM, "out of memory");
  alibi_slopes(heads, slopes);
  tn_dim one = tn_ow_d(w, 1);
  const tn_ow_shape t = {TN_DT_f32, 4, {one, tn_ow_d(w, heads), one, one}};
  tn_ov s = tn_ow_const(w, &t, slopes, (uint64_t)heads * sizeof *slopes);
  tn_ov keys = tn_ow_cast(w, tn_ow_range(w, tn_ow_d(w, 0), tn_ow_dim(w, op, "k")), TN_DT_f32);
  tn_ow_out(w, op, 0, tn_ow_binary(w, "Mul", s, keys));
}

static tn_ov both(tn_ow *w, tn_ov a, tn_ov b) { return a && b ? tn_ow_compare(w, "And", a, b) : a ? a : b; }

/* bool: key j >= first[b], as [b, 1, 1, t]. */
static tn_ov from_first(tn_ow *w, tn_ov first, tn_dim keys) {
  static const int64_t behind[] = {1, 2, 3};
  if (!first) return 0;
  first = tn_ow_unsqueeze(w, tn_ow_cast(w, first, TN_DT_i64), behind, 3);
  return tn_ow_compare(w, "GreaterOrEqual", tn_ow_range(w, tn_ow_d(w, 0), keys), first);
}

/* ---- attention
 * ---------------------------------------------------------------------------------------------- */
typedef struct attention {
  tn_ov q, k, v; /* [b, h, s, d], [b, hkv, t, d] */
  tn_ov mask;    /* of data: bool; a row of it may be all false */
  tn_ov band;    /* of positions: bool; every row sees something */
  tn_ov bias;    /* added to the scores */
  tn_dim s, t;
  double scale, softcap;
  bool plain_causal; /* band is the lower triangle of equally many queries and keys */
  bool blind;        /* the bias may hide everything from a row, which then has no softmax */
} attention;

/* Keys or values: the first `keys` rows, or all. What was a ring in the cache has all rows here, in order. */
static tn_ov cache_operand(tn_ow *w, tn_op op, uint32_t i, tn_dim keys) {
  tn_ov x = tn_ow_in(w, op, i);
  int64_t none, have;
  bool known = tn_ow_dconst(w, keys, &none), all = (known && !none) || tn_ow_size_of(w, x, 1) == keys;
  if (!all && tn_ow_int(w, op, "ring") &&
      !(known && tn_ow_dconst(w, tn_ow_size_of(w, x, 1), &have) && none <= have))
    return tn_ow_fail(w, TN_UNSUPPORTED, "the rows of a ring that is not a state cannot be put in order"), 0;
  return tn_ow_transpose(w, all ? x : tn_ow_slice(w, x, 1, tn_ow_d(w, 0), keys, 1), heads_first);
}

static bool is_alibi(tn_ow *w, tn_op op) {
  tn_value_info info;
  w->ir->value_get(w->m, w->ir->op_operand(w->m, op, 4), &info);
  return info.kind == TN_VALUE_RESULT && !strcmp(w->ir->opcode_name(w->ir->opcode(w->m, info.op)), "alibi");
}

static void read_masks(tn_ow *w, tn_op op, attention *a) {
  static const int64_t middle[] = {1, 2};
  bool causal = tn_ow_int(w, op, "causal");
  int64_t window = tn_ow_int(w, op, "window");
  a->band = band(w, a->s, a->t, causal, window);
  a->plain_causal = causal && !window && a->s == a->t;
  a->mask = tn_ow_in(w, op, 3);
  if (a->band && tn_ow_may_be_negative(w, tn_ow_dsub(w, a->t, a->s))) { /* the first queries see nothing */
    a->mask = both(w, a->mask ? tn_ow_cast(w, a->mask, TN_DT_bool) : 0, a->band);
    a->band = 0;
  }
  if (a->mask && tn_ow_dtype(w, a->mask) != TN_DT_bool) a->mask = tn_ow_cast(w, a->mask, TN_DT_bool);
  a->bias = tn_ow_in(w, op, 4);
  if (a->bias) a->bias = tn_ow_cast(w, a->bias, tn_ow_dtype(w, a->q));
  a->blind = a->bias && !is_alibi(w, op);
  a->mask = both(w, a->mask, from_first(w, tn_ow_in(w, op, 5), a->t));
  if (w->attention_mask && tn_ow_size_of(w, w->attention_mask, 1) == a->t)
    a->mask = both(w, a->mask, tn_ow_unsqueeze(w, tn_ow_cast(w, w->attention_mask, TN_DT_bool), middle, 2));
}

/* Each head of keys or values for the h / hkv heads of queries that share it. */
static tn_ov repeat_heads(tn_ow *w, tn_ov x, tn_dim heads) {
  static const int64_t behind = 2;
  tn_ow_shape t = *tn_ow_type(w, x);
  int64_t h = 0, kv = 0;
  if (!x || t.dims[1] == heads) return x;
  if (!tn_ow_dconst(w, heads, &h) || !tn_ow_dconst(w, t.dims[1], &kv))
    return tn_ow_fail(w, TN_UNSUPPORTED, "the number of heads is not known"), 0;
  tn_dim each = tn_ow_d(w, h / kv), one = tn_ow_d(w, 1);
  const tn_ow_shape wide = {t.dtype, 5, {t.dims[0], t.dims[1], each, t.dims[2], t.dims[3]}};
  tn_ov shape = tn_ow_shape_value(w, (tn_dim[]){one, one, each, one, one}, 5);
  x = tn_ow_node1(w, "Expand", TN_OW_IN(tn_ow_unsqueeze(w, x, &behind, 1), shape), NULL, &wide);
  return tn_ow_reshape(w, x, (tn_dim[]){t.dims[0], heads, t.dims[2], t.dims[3]}, 4);
}

/* As far below every score as the type goes, but finite: a row of nothing else has a softmax. */
static tn_ov lowest(tn_ow *w, tn_dtype t) {
  return tn_ow_scalar(w, t, t == TN_DT_f16 ? -65504.0 : -3.3895313892515355e38);
}

static tn_ov attention_steps(tn_ow *w, const attention *a) {
  static const int64_t features_first[] = {0, 1, 3, 2};
  tn_dim heads = tn_ow_size_of(w, a->q, 1);
  tn_dtype t = tn_ow_dtype(w, a->q);
  tn_ov q = a->scale == 1 ? a->q : tn_ow_binary(w, "Mul", a->q, tn_ow_scalar(w, t, a->scale));
  tn_ov k = tn_ow_transpose(w, repeat_heads(w, a->k, heads), features_first);
  tn_ov p = tn_ow_matmul(w, q, k), mask = both(w, a->band, a->mask);
  if (a->softcap != 0) {
    tn_ov cap = tn_ow_scalar(w, t, a->softcap);
    p = tn_ow_binary(w, "Mul", tn_ow_unary(w, "Tanh", tn_ow_binary(w, "Div", p, cap)), cap);
  }
  if (a->bias) p = tn_ow_binary(w, "Add", p, a->bias);
  if (mask) p = tn_ow_where(w, mask, p, lowest(w, t));
  p = tn_ow_softmax(w, p, 3);
  tn_ov none = tn_ow_scalar(w, t, 0); /* a row that sees nothing gives zeros */
  if (a->mask) p = tn_ow_where(w, mask, p, none);
  if (a->blind) p = tn_ow_where(w, tn_ow_test(w, "IsNaN", p), none, p);
  return tn_ow_matmul(w, p, repeat_heads(w, a->v, heads));
}

/* The op of opset 23 has no softcap in front of the mask, and a bias stands in the mask's place. */
static bool fits_op(const tn_ow *w, const attention *a) {
  return w->o.opset >= 23 && a->softcap == 0 && !a->mask && !a->blind;
}

static tn_ov attention_op(tn_ow *w, const attention *a) {
  tn_ow_shape t = *tn_ow_type(w, a->q);
  tn_dim one = tn_ow_d(w, 1);
  bool causal = a->plain_causal && !a->bias;
  tn_ov mask = causal ? 0 : a->band;
  if (a->bias) mask = mask ? tn_ow_where(w, mask, a->bias, lowest(w, t.dtype)) : a->bias;
  if (mask && tn_ow_rank(w, mask) == 4 && tn_ow_size_of(w, mask, 2) == one) {
    tn_ow_shape all = *tn_ow_type(w, mask);
    all.dims[2] = a->s;
    mask = tn_ow_expand(w, mask, all.dims, 4);
  }
  t.dims[3] = tn_ow_size_of(w, a->v, 3);
  return tn_ow_node1(w, "Attention", TN_OW_IN(a->q, a->k, a->v, mask),
                     TN_OW_ATTRS(TN_OW_F("scale", a->scale), TN_OW_I("is_causal", causal)), &t);
}

void tn_ow_op_attention(tn_ow *w, tn_op op) {
  tn_dim keys = tn_ow_dim(w, op, "keys");
  attention a = {.q = tn_ow_transpose(w, tn_ow_in(w, op, 0), heads_first),
                 .k = cache_operand(w, op, 1, keys),
                 .v = cache_operand(w, op, 2, keys)};
  a.scale = tn_ow_float(w, op, "scale"), a.softcap = tn_ow_float(w, op, "softcap");
  a.s = tn_ow_size_of(w, a.q, 2), a.t = tn_ow_size_of(w, a.k, 2);
  if (tn_ow_failed(w)) return;
  if (tn_ow_int(w, op, "ring") && !tn_ow_int(w, op, "window"))
    return tn_ow_fail(
        w, TN_UNSUPPORTED,
        "a ring without a window forgets keys by the size of its memory, which an ONNX graph does not have");
  tn_dtype t = tn_ow_dtype(w, a.q);
  a.k = tn_ow_cast(w, a.k, t), a.v = tn_ow_cast(w, a.v, t);
  read_masks(w, op, &a);
  if (tn_ow_failed(w)) return;
  tn_ov r = fits_op(w, &a) ? attention_op(w, &a) : attention_steps(w, &a);
  tn_ow_out(w, op, 0, tn_ow_transpose(w, r, heads_first));
}

/* ---- rotary positions -------------------------------------------------------------------------------------
 */
/* positions * inv_freq, [s, f] or [b, s, f]. */
static tn_ov angles(tn_ow *w, tn_ov positions, tn_ov inv_freq) {
  int64_t last = tn_ow_rank(w, positions);
  tn_ov p = tn_ow_unsqueeze(w, tn_ow_cast(w, positions, TN_DT_f32), &last, 1);
  return tn_ow_binary(w, "Mul", p, tn_ow_cast(w, inv_freq, TN_DT_f32));
}

/* Cosine or sine times the factor, in x's type. */
static tn_ov turn(tn_ow *w, const char *op, tn_ov angle, double factor, tn_dtype t) {
  tn_ov v = tn_ow_unary(w, op, angle);
  if (factor != 1) v = tn_ow_binary(w, "Mul", v, tn_ow_scalar(w, TN_DT_f32, factor));
  return tn_ow_cast(w, v, t);
}

/* x [b, h, s, 2f], in halves: x cos + (-x2, x1) sin, with cos and sin [.., s, 2f]. */
static tn_ov rotate_halves(tn_ow *w, tn_ov x, tn_ov cos, tn_ov sin) {
  tn_dim d = tn_ow_size_of(w, x, 3), f = tn_ow_dmake(w, TN_DIM_FLOORDIV, d, tn_ow_d(w, 2));
  tn_ov x1 = tn_ow_slice(w, x, 3, tn_ow_d(w, 0), f, 1), x2 = tn_ow_slice(w, x, 3, f, d, 1);
  tn_ov half = tn_ow_concat(w, (tn_ov[]){tn_ow_unary(w, "Neg", x2), x1}, 2, 3);
  return tn_ow_binary(w, "Add", tn_ow_binary(w, "Mul", x, cos), tn_ow_binary(w, "Mul", half, sin));
}

/* x [b, h, s, 2f], in pairs, with cos and sin [.., s, f]. */
static tn_ov rotate_pairs(tn_ow *w, tn_ov x, tn_ov cos, tn_ov sin) {
  static const int64_t behind = 4;
  const tn_ow_shape t = *tn_ow_type(w, x);
  tn_dim one = tn_ow_d(w, 1), two = tn_ow_d(w, 2), f = tn_ow_dmake(w, TN_DIM_FLOORDIV, t.dims[3], two);
  tn_ov pairs = tn_ow_reshape(w, x, (tn_dim[]){t.dims[0], t.dims[1], t.dims[2], f, two}, 5);
  tn_ov x1 = tn_ow_squeeze(w, tn_ow_slice(w, pairs, 4, tn_ow_d(w, 0), one, 1), &behind, 1);
  tn_ov x2 = tn_ow_squeeze(w, tn_ow_slice(w, pairs, 4, one, two, 1), &behind, 1);
  tn_ov y1 = tn_ow_binary(w, "Sub", tn_ow_binary(w, "Mul", x1, cos), tn_ow_binary(w, "Mul", x2, sin));
  tn_ov y2 = tn_ow_binary(w, "Add", tn_ow_binary(w, "Mul", x2, cos), tn_ow_binary(w, "Mul", x1, sin));
  tn_ov y[2] = {tn_ow_unsqueeze(w, y1, &behind, 1), tn_ow_unsqueeze(w, y2, &behind, 1)};
  return tn_ow_reshape(w, tn_ow_concat(w, y, 2, 4), t.dims, 4);
}

static tn_ov rope_steps(tn_ow *w, tn_ov x, tn_ov angle, tn_dim turned, double factor, bool interleaved) {
  static const int64_t head = 1;
  tn_dim d = tn_ow_size_of(w, x, 3);
  tn_dtype t = tn_ow_dtype(w, x);
  uint32_t rank = tn_ow_rank(w, angle);
  if (!interleaved) angle = tn_ow_concat(w, (tn_ov[]){angle, angle}, 2, rank - 1);
  tn_ov cos = turn(w, "Cos", angle, factor, t), sin = turn(w, "Sin", angle, factor, t);
  if (rank == 3) cos = tn_ow_unsqueeze(w, cos, &head, 1), sin = tn_ow_unsqueeze(w, sin, &head, 1);
  tn_ov part = tn_ow_slice(w, x, 3, tn_ow_d(w, 0), turned, 1);
  part = interleaved ? rotate_pairs(w, part, cos, sin) : rotate_halves(w, part, cos, sin);
  if (turned == d) return part;
  return tn_ow_concat(w, (tn_ov[]){part, tn_ow_slice(w, x, 3, turned, d, 1)}, 2, 3);
}

static tn_ov rope_op(tn_ow *w, tn_ov x, tn_ov angle, tn_dim turned, double factor, bool interleaved) {
  static const int64_t front = 0;
  tn_ow_shape t = *tn_ow_type(w, x), table = *tn_ow_type(w, angle);
  int64_t rotary = 0;
  tn_ov cs[2] = {turn(w, "Cos", angle, factor, t.dtype), turn(w, "Sin", angle, factor, t.dtype)};
  for (uint32_t i = 0; i < 2; i++) {
    if (table.rank == 2) cs[i] = tn_ow_unsqueeze(w, cs[i], &front, 1);
    cs[i] = tn_ow_expand(w, cs[i], (tn_dim[]){t.dims[0], t.dims[2], table.dims[table.rank - 1]}, 3);
  }
  if (turned != t.dims[3]) (void)tn_ow_dconst(w, turned, &rotary);
  return tn_ow_node1(
      w, "RotaryEmbedding", TN_OW_IN(x, cs[0], cs[1]),
      TN_OW_ATTRS(TN_OW_I("interleaved", interleaved), TN_OW_I("rotary_embedding_dim", rotary)), &t);
}

void tn_ow_op_rope(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_transpose(w, tn_ow_in(w, op, 0), heads_first), inv_freq = tn_ow_in(w, op, 2);
  tn_ov angle = angles(w, tn_ow_in(w, op, 1), inv_freq);
  bool interleaved = tn_ow_int(w, op, "interleaved");
  double factor = tn_ow_float(w, op, "factor");
  if (tn_ow_failed(w)) return;
  tn_dim turned = tn_ow_dmake(w, TN_DIM_MUL, tn_ow_size_of(w, inv_freq, 0), tn_ow_d(w, 2));
  tn_ov y = w->o.opset >= 23 ? rope_op(w, x, angle, turned, factor, interleaved)
                             : rope_steps(w, x, angle, turned, factor, interleaved);
  tn_ow_out(w, op, 0, tn_ow_transpose(w, y, heads_first));
}

/* ---- the cache
 * ----------------------------------------------------------------------------------------------- */
static bool mentions_capacity(tn_ow *w, tn_dim d) {
  tn_dim_info i;
  if (!d || !w->capacity) return false;
  w->ir->dim_get(w->m, d, &i);
  if (d == w->capacity) return true;
  return i.a && i.b && i.kind >= TN_DIM_ADD && i.kind <= TN_DIM_MAX &&
         (mentions_capacity(w, i.a) || mentions_capacity(w, i.b));
}

bool tn_ow_state_grows(tn_ow *w, const tn_type_info *t) {
  return t->rank == 4 && mentions_capacity(w, t->dims[1]);
}

void tn_ow_op_kv_update(tn_ow *w, tn_op op) {
  tn_value_info info;
  tn_state_info state;
  tn_type_info t;
  tn_ov x = tn_ow_in(w, op, 1);
  w->ir->value_get(w->m, w->ir->op_operand(w->m, op, 0), &info);
  w->ir->state_get(w->m, info.state, &state);
  w->ir->type_get(w->m, state.type, &t);
  tn_dim pos = tn_ow_dim(w, op, "pos");
  int64_t at;
  if (tn_ow_failed(w)) return;
  x = tn_ow_cast(w, x, t.dtype);
  if (tn_ow_state_grows(w, &t)) {
    if (pos != tn_ow_settled(w, w->position))
      return tn_ow_fail(w, TN_UNSUPPORTED, "state '%s' is not written behind its tokens", state.name);
    tn_ov now = tn_ow_transpose(w, x, heads_first);
    if (w->past)
      now = tn_ow_concat(w, (tn_ov[]){tn_ow_transpose(w, w->states[info.state], heads_first), now}, 2, 2);
    x = tn_ow_transpose(w, now, heads_first);
  } else if (!tn_ow_dconst(w, pos, &at) || at != 0 || tn_ow_size_of(w, x, 1) != tn_ow_settled(w, t.dims[1])) {
    return tn_ow_fail(w, TN_UNSUPPORTED, "state '%s' is written in part", state.name);
  }
  w->states[info.state] = x;
  tn_ow_bind(w, w->ir->op_result(w->m, op, 0), x);
}
