/* scatter.c - rows of data replaced by, or combined with, rows of updates. Every thread owns a stretch of the
 * result's rows: it copies them and then goes through all indices, so equal indices meet in order whatever
 * the number of threads. */
#include "backends/lib/lib.h"
#include <math.h>

typedef void (*combine)(void *to, const void *from, int64_t n);

/* Integers wrap, through their unsigned type U. */
#define INTEGERS(T, U)                                                                                       \
  static void add_##T(void *to, const void *from, int64_t n) {                                               \
    U *x = to;                                                                                               \
    for (int64_t i = 0; i < n; i++) x[i] = (U)(x[i] + ((const U *)from)[i]);                                 \
  }                                                                                                          \
  static void mul_##T(void *to, const void *from, int64_t n) {                                               \
    U *x = to;                                                                                               \
    for (int64_t i = 0; i < n; i++) x[i] = (U)((uint64_t)x[i] * (uint64_t)((const U *)from)[i]);             \
  }                                                                                                          \
  static void min_##T(void *to, const void *from, int64_t n) {                                               \
    T *x = to;                                                                                               \
    for (int64_t i = 0; i < n; i++)                                                                          \
      if (((const T *)from)[i] < x[i]) x[i] = ((const T *)from)[i];                                          \
  }                                                                                                          \
  static void max_##T(void *to, const void *from, int64_t n) {                                               \
    T *x = to;                                                                                               \
    for (int64_t i = 0; i < n; i++)                                                                          \
      if (((const T *)from)[i] > x[i]) x[i] = ((const T *)from)[i];                                          \
  }
INTEGERS(int64_t, uint64_t)
INTEGERS(int32_t, uint32_t)
INTEGERS(int16_t, uint16_t)
INTEGERS(int8_t, uint8_t)
INTEGERS(uint64_t, uint64_t)
INTEGERS(uint32_t, uint32_t)
INTEGERS(uint16_t, uint16_t)
INTEGERS(uint8_t, uint8_t)

/* C is the type that computes; min and max give NaN if either is. */
#define FLOATS(T, M, C, GET, SET)                                                                            \
  static void add_##T(void *to, const void *from, int64_t n) {                                               \
    for (int64_t i = 0; i < n; i++) ((M *)to)[i] = SET(GET(((M *)to)[i]) + GET(((const M *)from)[i]));       \
  }                                                                                                          \
  static void mul_##T(void *to, const void *from, int64_t n) {                                               \
    for (int64_t i = 0; i < n; i++) ((M *)to)[i] = SET(GET(((M *)to)[i]) * GET(((const M *)from)[i]));       \
  }                                                                                                          \
  static void min_##T(void *to, const void *from, int64_t n) {                                               \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      C x = GET(((M *)to)[i]), y = GET(((const M *)from)[i]);                                                \
      if (y < x || isnan(y)) ((M *)to)[i] = ((const M *)from)[i];                                            \
    }                                                                                                        \
  }                                                                                                          \
  static void max_##T(void *to, const void *from, int64_t n) {                                               \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      C x = GET(((M *)to)[i]), y = GET(((const M *)from)[i]);                                                \
      if (y > x || isnan(y)) ((M *)to)[i] = ((const M *)from)[i];                                            \
    }                                                                                                        \
  }
#define SAME(x) (x)
FLOATS(f64, double, double, SAME, SAME)
FLOATS(f32, float, float, SAME, SAME)
FLOATS(f16, uint16_t, float, tn_f16_to_f32, tn_f32_to_f16)
FLOATS(bf16, uint16_t, float, tn_bf16_to_f32, tn_f32_to_bf16)

static combine combine_of(uint32_t dtype, const char *how) {
  static const struct {
    uint32_t dtype;
    combine fn[4];
  } rows[] = {
#define ROW(dt, T)                                                                                           \
  {                                                                                                          \
    TN_DT_##dt, { add_##T, mul_##T, min_##T, max_##T }                                                       \
  }
      ROW(f64, f64),
      ROW(f32, f32),
      ROW(f16, f16),
      ROW(bf16, bf16),
      ROW(i64, int64_t),
      ROW(i32, int32_t),
      ROW(i16, int16_t),
      ROW(i8, int8_t),
      ROW(u64, uint64_t),
      ROW(u32, uint32_t),
      ROW(u16, uint16_t),
      ROW(u8, uint8_t),
      /* of bools: or, and, and, or */
      {TN_DT_bool, {max_uint8_t, min_uint8_t, min_uint8_t, max_uint8_t}}};
  static const char *const names[] = {"add", "mul", "min", "max"};
  for (size_t i = 0; i < TN_COUNT(rows); i++)
    for (size_t k = 0; rows[i].dtype == dtype && k < TN_COUNT(names); k++)
      if (!strcmp(names[k], how)) return rows[i].fn[k];
  return NULL; /* none: replaces */
}

/* Rows of one element, which come by the million: no call, no question per row. */
#define ONE(T, I)                                                                                            \
  static void one_##T##_##I(T *out, const T *from, const I *at, int64_t m, int64_t n, int64_t lo,            \
                            int64_t hi) {                                                                    \
    for (int64_t i = 0; i < m; i++) {                                                                        \
      int64_t k = at[i] < 0 ? at[i] + n : at[i];                                                             \
      if (k >= lo && k < hi) out[k] = from[i];                                                               \
    }                                                                                                        \
  }
ONE(uint8_t, int64_t)
ONE(uint16_t, int64_t)
ONE(uint32_t, int64_t)
ONE(uint64_t, int64_t)
ONE(uint8_t, int32_t)
ONE(uint16_t, int32_t)
ONE(uint32_t, int32_t)
ONE(uint64_t, int32_t)

static bool single(const tn_lib_call *c, size_t bytes, int64_t n, int64_t lo, int64_t hi) {
  void *out = c->out[0].data;
  const void *from = c->in[2].data, *at = c->in[1].data;
  int64_t m = c->in[1].dims[0];
  uint32_t index = c->in[1].dtype;
  if (index != TN_DT_i64 && index != TN_DT_i32) return false;
#define CASE(bits)                                                                                           \
  case bits / 8:                                                                                             \
    if (index == TN_DT_i64)                                                                                  \
      one_uint##bits##_t_int64_t(out, from, at, m, n, lo, hi);                                               \
    else                                                                                                     \
      one_uint##bits##_t_int32_t(out, from, at, m, n, lo, hi);                                               \
    return true;
  switch (bytes) {
    CASE(8)
    CASE(16)
    CASE(32)
    CASE(64)
  default: return false;
  }
}

void tn_lib_scatter(const tn_lib_call *c) {
  const tn_lib_tensor *data = &c->in[0], *indices = &c->in[1];
  combine fn = combine_of(data->dtype, c->attrs[TN_LIB_A_scatter_reduce].u.s);
  int64_t n = data->dims[0], m = indices->dims[0], row = 1, lo, hi;
  for (uint32_t i = 1; i < data->rank; i++) row *= data->dims[i];
  size_t bytes = (size_t)row * tn_lib_bytes(data->dtype);
  uint8_t *out = c->out[0].data;
  const uint8_t *from = c->in[2].data;
  tn_lib_share(c, n, &lo, &hi);
  if (hi > lo && out != data->data)
    memcpy(out + (size_t)lo * bytes, (const uint8_t *)data->data + (size_t)lo * bytes,
           (size_t)(hi - lo) * bytes);
  if (!fn && single(c, bytes, n, lo, hi)) return;
  bool is_signed = indices->dtype == TN_DT_i64 || indices->dtype == TN_DT_i32 ||
                   indices->dtype == TN_DT_i16 || indices->dtype == TN_DT_i8;
  for (int64_t i = 0; i < m; i++) {
    int64_t at = tn_lib_int(indices, i);
    if (at < 0 && is_signed) at += n;
    if (at < lo || at >= hi) continue;
    uint8_t *to = out + (size_t)at * bytes;
    if (fn)
      fn(to, from + (size_t)i * bytes, row);
    else
      memcpy(to, from + (size_t)i * bytes, bytes);
  }
}
