/* write_int8.c - products and tables in 8 bits, in the spellings that runtimes put together to integer
 * kernels. What is quantized, and with which scales, was decided before (tn_ow_options.int8); codes stream
 * from where they are made. */
#include "frontend/onnx/write_graph.h"
#include <string.h>

enum { CHUNK = 1 << 20 };

static const tn_ow_int8 *row_of(const tn_ow *w, tn_op op) {
  for (uint32_t i = 0; i < w->o.nint8; i++)
    if (w->o.int8[i].op == op) return &w->o.int8[i];
  return NULL;
}

/* The codes; the same ones for all that have the weight in that shape. */
static tn_ov codes_of(tn_ow *w, const tn_ow_int8 *q, int64_t rows, int64_t columns) {
  tn_weight_info info;
  uint32_t row = (uint32_t)(q - w->o.int8);
  tn_ow_shape t = {TN_DT_i8, 2, {tn_ow_d(w, rows), tn_ow_d(w, columns)}};
  if (tn_ow_failed(w)) return 0;
  for (uint32_t i = 0; i < w->inits.count; i++) {
    const tn_ow_init *c = &w->inits.items[i];
    const tn_ow_int8 *other = &w->o.int8[c->row];
    if (c->what == TN_OI_INT8 && c->weight == q->weight && other->scales == q->scales &&
        (other->how == TN_OW_INT8_ROWS) == (q->how == TN_OW_INT8_ROWS))
      return c->value;
  }
  w->ir->weight_get(w->m, q->weight, &info);
  tn_ow_init c = {
      .what = TN_OI_INT8, .weight = q->weight, .row = row, .bytes = (uint64_t)rows * (uint64_t)columns};
  c.value = tn_ow_value_add(w, TN_OV_INIT, &t, tn_arena_printf(&w->arena, "%s.codes", info.name));
  if (c.value) w->values.items[c.value].init = w->inits.count, w->values.items[c.value].graph = 1;
  if (!c.value || !tn_vec_push(&w->inits, c)) return tn_ow_fail(w, TN_OOM, "out of memory"), 0;
  return c.value;
}

static tn_ov floats(tn_ow *w, const float *x, uint32_t n) {
  tn_ow_shape t = {.dtype = TN_DT_f32, .rank = n > 1, .dims = {tn_ow_d(w, n)}};
  return tn_ow_const(w, &t, x, n * sizeof *x);
}

static tn_ov code(tn_ow *w, tn_dtype t, int32_t v) { return tn_ow_scalar(w, t, v); }

/* ---- static: x and the weight are rounded, the product is one of floats that a runtime fuses ---- */

static tn_ov rounded(tn_ow *w, tn_ov x, const tn_ow_int8 *q) {
  tn_ow_shape t = *tn_ow_type(w, x), codes = t;
  tn_ov scale = floats(w, &q->scale, 1), zero = code(w, q->codes, q->zero);
  codes.dtype = q->codes;
  tn_ov c = tn_ow_node1(w, "QuantizeLinear", TN_OW_IN(x, scale, zero), NULL, &codes);
  return tn_ow_node1(w, "DequantizeLinear", TN_OW_IN(c, scale, zero), NULL, &t);
}

static tn_ov static_product(tn_ow *w, tn_ov x, const tn_ow_int8 *q) {
  tn_ow_shape t = {TN_DT_f32, 2, {tn_ow_d(w, q->k), tn_ow_d(w, q->n)}};
  tn_ov in[3] = {codes_of(w, q, q->k, q->n), floats(w, q->scales, q->nscales), 0};
  tn_ow_shape zeros = {TN_DT_i8, q->nscales > 1, {tn_ow_d(w, q->n)}};
  const void *none = tn_arena_alloc(&w->arena, q->nscales);
  if (!none) return tn_ow_fail(w, TN_OOM, "out of memory"), 0;
  in[2] = tn_ow_const(w, &zeros, none, q->nscales); /* runtimes look for it */
  const tn_ow_attr *axis = q->nscales > 1 ? TN_OW_ATTRS(TN_OW_I("axis", 1)) : NULL;
  tn_ov m = tn_ow_node1(w, "DequantizeLinear", in, 3, axis, &t);
  return tn_ow_matmul(w, rounded(w, x, q), m);
}

/* ---- dynamic: an exact product of integers, whose scales are put back behind it ---- */

static tn_ov integers(tn_ow *w, tn_ov x, tn_ov zero, const tn_ow_int8 *q) {
  tn_ow_shape t = *tn_ow_type(w, x);
  t.dtype = TN_DT_i32;
  t.dims[t.rank - 1] = tn_ow_d(w, q->n);
  tn_ov y =
      tn_ow_node1(w, "MatMulInteger", (tn_ov[]){x, codes_of(w, q, q->k, q->n), zero}, zero ? 3 : 2, NULL, &t);
  return tn_ow_cast(w, y, TN_DT_f32);
}

static tn_ov dynamic_product(tn_ow *w, tn_ov x, const tn_ow_int8 *q) {
  tn_ow_shape out[3] = {*tn_ow_type(w, x), {.dtype = TN_DT_f32}, {.dtype = TN_DT_u8}};
  tn_ov made[3];
  out[0].dtype = TN_DT_u8;
  tn_ow_node_typed(w, "DynamicQuantizeLinear", &x, 1, NULL, out, 3, made);
  tn_ov scale = tn_ow_binary(w, "Mul", made[1], floats(w, q->scales, q->nscales));
  return tn_ow_binary(w, "Mul", integers(w, made[0], made[2], q), scale);
}

/* The largest number of each row of x as 127 steps above 128, which is where zero lies: runtimes have faster
 * kernels for u8 times i8 than for i8 times i8. */
static tn_ov token_product(tn_ow *w, tn_ov x, const tn_ow_int8 *q) {
  int64_t last = tn_ow_rank(w, x) - 1;
  tn_ov most = tn_ow_reduce(w, "ReduceMax", tn_ow_unary(w, "Abs", x), &last, 1, true);
  tn_ov step = tn_ow_binary(w, "Mul", most, tn_ow_scalar(w, TN_DT_f32, 1.0 / 127));
  step = tn_ow_binary(w, "Max", step, tn_ow_scalar(w, TN_DT_f32, 0x1p-100)); /* a row of zeros */
  tn_ov c = tn_ow_unary(w, "Round", tn_ow_binary(w, "Div", x, step));
  c = tn_ow_cast(w, tn_ow_binary(w, "Add", c, tn_ow_scalar(w, TN_DT_f32, 128)), TN_DT_u8);
  tn_ov y =
      tn_ow_binary(w, "Mul", integers(w, c, code(w, TN_DT_u8, 128), q), floats(w, q->scales, q->nscales));
  return tn_ow_binary(w, "Mul", y, step);
}

tn_ov tn_ow_int8_product(tn_ow *w, tn_op op, tn_ov x) {
  const tn_ow_int8 *q = tn_ow_failed(w) ? NULL : row_of(w, op);
  if (!q || q->how == TN_OW_INT8_ROWS) return 0;
  x = tn_ow_cast(w, x, TN_DT_f32);
  if (q->factors) x = tn_ow_binary(w, "Mul", x, floats(w, q->factors, (uint32_t)q->k));
  return q->how == TN_OW_INT8_STATIC    ? static_product(w, x, q)
         : q->how == TN_OW_INT8_DYNAMIC ? dynamic_product(w, x, q)
                                        : token_product(w, x, q);
}

/* ---- tables ---- */

tn_ov tn_ow_int8_rows(tn_ow *w, tn_op op, tn_ov indices) {
  const tn_ow_int8 *q = tn_ow_failed(w) ? NULL : row_of(w, op);
  tn_ow_shape result;
  if (!q || q->how != TN_OW_INT8_ROWS) return 0;
  tn_ow_result_type(w, op, 0, &result);
  tn_ov rows = tn_ow_cast(w, tn_ow_gather(w, codes_of(w, q, q->n, q->k), indices, 0), TN_DT_f32);
  tn_ow_shape column = {TN_DT_f32, 2, {tn_ow_d(w, q->n), tn_ow_d(w, 1)}};
  tn_ov scales = tn_ow_const(w, &column, q->scales, q->nscales * sizeof *q->scales);
  return tn_ow_cast(w, tn_ow_binary(w, "Mul", rows, tn_ow_gather(w, scales, indices, 0)), result.dtype);
}

/* ---- streaming ---- */

tn_status tn_ow_int8_stream(const tn_ow_source *src, const tn_ow_init *c, const tn_writer *out) {
  uint8_t *chunk = tn_mem_alloc(CHUNK);
  tn_status s = chunk ? TN_OK : TN_OOM;
  for (uint64_t at = 0; s == TN_OK && at < c->bytes; at += CHUNK) {
    uint64_t n = c->bytes - at < CHUNK ? c->bytes - at : CHUNK;
    s = src->codes(src->ctx, c->row, at, chunk, n);
    if (s == TN_OK) s = out->write(out->ctx, chunk, n);
  }
  tn_mem_free(chunk);
  return s;
}
