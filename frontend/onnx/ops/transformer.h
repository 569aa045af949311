/* transformer.h - what the lowerings of products, norms, attention and quantised tensors share. Builders as
 * those of lower.h: 0 in, 0 out. */
#ifndef TN_ONNX_TRANSFORMER_H
#define TN_ONNX_TRANSFORMER_H
#include "frontend/onnx/lower.h"

bool tn_ox_is_one(tn_ox *x, tn_dim d); /* the constant 1 */
/* v with 1s in front, or at the end, of its dims. */
tn_value tn_ox_rank_up(tn_ox *x, tn_value v, uint32_t rank);
tn_value tn_ox_rank_back(tn_ox *x, tn_value v, uint32_t rank);
/* Nothing of v is lost: a tensor of one element as a scalar, others as they are. */
tn_value tn_ox_as_scalar(tn_ox *x, tn_value v);
/* The node's attribute must be `value` (its only meaning that tenon has). */
tn_status tn_ox_want_int(tn_ox *x, tn_ox_node *n, const char *name, int64_t otherwise, int64_t value);

/* [n, ..., c] as [n, c, ...], and back. */
tn_value tn_ox_channels_first(tn_ox *x, tn_value v, bool back);

/* ---- products (linear.c, integer.c) ---- */
/* Matrices of any number type; operands of rank 2 and more, or, in _numpy, of any rank as numpy.matmul has
 * it. */
tn_value tn_ox_product(tn_ox *x, tn_ox_node *n, tn_value a, tn_value b, bool trans_a, bool trans_b);
tn_value tn_ox_product_numpy(tn_ox *x, tn_ox_node *n, tn_value a, tn_value b);
/* (a - za)(b - zb), exact, i32. Zero points: 0, of one element, one for each row of a or column of b, or of
 * the operand's rank. */
tn_value tn_ox_integer_product(tn_ox *x, tn_ox_node *n, tn_value a, tn_value za, tn_value b, tn_value zb);
/* codes - zero in f32, where a zero of one dim belongs to `axis`. */
tn_value tn_ox_centred(tn_ox *x, tn_ox_node *n, tn_value codes, tn_value zero, int64_t axis);
/* A vector as a tensor of `rank` dims that lies along `axis`; scalars and full ranks stay as they are. */
tn_value tn_ox_along(tn_ox *x, tn_ox_node *n, tn_value v, int64_t axis, uint32_t rank);
/* alpha a b + beta c with the attributes of Gemm. */
tn_value tn_ox_gemm(tn_ox *x, tn_ox_node *n, tn_value a, tn_value b, tn_value c);

/* ---- norms (norm.c) ---- */
/* (v - mean) / sqrt(variance + eps) over the last dim, of any float type. */
tn_value tn_ox_standard(tn_ox *x, tn_value v, double eps);
/* The same times scale plus bias, which are [d] or absent. */
tn_value tn_ox_layer_norm(tn_ox *x, tn_value v, tn_value scale, tn_value bias, double eps);
tn_value tn_ox_rms_norm(tn_ox *x, tn_value v, tn_value scale, double eps);
/* Groups of the channels of [n, c, ...], no scale. */
tn_value tn_ox_group_standard(tn_ox *x, tn_ox_node *n, tn_value v, int64_t groups, double eps);

/* ---- quantised tensors (quant.c) ---- */
/* round(v / scale) + zero in `to`, saturating; float types as QuantizeLinear has them. */
tn_value tn_ox_quantize(tn_ox *x, tn_value v, tn_value scale, tn_value zero, tn_dtype to);
/* (codes - zero) scale in `to`. zero: 0, or as scale. */
tn_value tn_ox_dequantize(tn_ox *x, tn_value codes, tn_value scale, tn_value zero, tn_dtype to);
typedef struct tn_ox_ranged {
  tn_value codes, scale, zero;
} tn_ox_ranged;
/* DynamicQuantizeLinear: u8 codes of v with the scale that spans its range and 0. */
tn_ox_ranged tn_ox_quantize_range(tn_ox *x, tn_value v);

/* ---- attention (attention_core.c) ---- */
/* Tensors are [batch, heads, tokens, features], as in ONNX. */
typedef struct tn_ox_attention {
  tn_value q, k, v;
  tn_value mask,
      bias;      /* bool (true: attend), float added to the scores; both broadcast to [b, h, s, t]; or 0 */
  tn_value sink; /* [h], or a scalar: one more score of every row that takes its share of the softmax; or 0 */
  double scale;  /* 0: 1 / sqrt(features) */
  double softcap;      /* 0: none */
  bool causal;         /* query i sees key j <= i + offset */
  int64_t left, right; /* how far it sees from i + offset; -1: without end */
  tn_dim offset;       /* of all sequences; 0 when offsets is there */
  tn_value offsets;    /* [b] integers, or 0 */
  tn_dtype softmax;    /* 0: f32 */
  int want_scores;     /* -1 none, 0 scaled product, 1 after the softcap, 2 with masks, 3 probabilities */
  tn_value (*modify)(tn_ox *x, tn_ox_node *n, const char *which, tn_value v); /* FlexAttention, or NULL */
} tn_ox_attention;
/* The result [b, s, h, dv], and the scores if they are wanted. */
tn_value tn_ox_attend(tn_ox *x, tn_ox_node *n, const tn_ox_attention *a, tn_value *scores);

/* [b, s, h d] as [b, h, s, d]. */
tn_value tn_ox_heads(tn_ox *x, tn_ox_node *n, tn_value v, int64_t heads);
/* [b, s, h, d] as [b, s, h d]. */
tn_value tn_ox_merge_heads(tn_ox *x, tn_value v);
/* Pairs of the first 2f features of v [b, h, s, d] turned by cosines and sines [b or 1, s, f]. */
tn_value tn_ox_rotate(tn_ox *x, tn_ox_node *n, tn_value v, tn_value cosines, tn_value sines,
                      bool interleaved);
/* Rows of update [b, u, ...] at places start, start + 1, ... of cache [b, c, ...] (integers [b]; circular:
 * modulo c); rows behind the end are dropped. axis: which axis the rows are. size: rows of the result, c or
 * more. */
tn_value tn_ox_place_rows(tn_ox *x, tn_ox_node *n, tn_value cache, tn_value update, tn_value start,
                          int64_t axis, bool circular, tn_dim size);

/* A node's activation by name, with its parameters; refuses what it does not know. */
tn_value tn_ox_activation(tn_ox *x, tn_ox_node *n, const char *name, tn_value v, const float *params,
                          uint32_t count);
tn_value tn_ox_gelu(tn_ox *x, tn_value v, const char *form);

#endif
