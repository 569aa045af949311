/* lora.c - "lora n=2 s0=.. a0=.. b0=.. r0=..": a plain weight with LoRA adapters merged into it,
 * W + sum of s_i B_i A_i. Parts: W [out, in], then A_i [r, in] and B_i [out, r] of every adapter; a_i and b_i
 * are their element types, as numbers of TN_DT_*. "transposed": W is [in, out]. Sums are in f64. */
#include "frontend/forms/form.h"
#include <math.h>
#include <stdio.h>

typedef struct lora {
  uint64_t rank;
  double scale;
  float *a, *b; /* [r, in], [out, r] */
} lora;

static double numbered(const tn_form *f, char letter, uint32_t i) {
  char key[16];
  snprintf(key, sizeof key, "%c%u", letter, i);
  return form_number(f, key);
}

static uint32_t element(tn_dtype t) { return t == TN_DT_f32 ? 4 : t == TN_DT_f16 || t == TN_DT_bf16 ? 2 : 0; }

static float to_float(tn_dtype t, const uint8_t *p) {
  uint16_t half;
  float x;
  if (t == TN_DT_f32) return memcpy(&x, p, 4), x;
  memcpy(&half, p, 2);
  return t == TN_DT_f16 ? tn_f16_to_f32(half) : tn_bf16_to_f32(half);
}

static void from_double(tn_dtype t, double x, uint8_t *p) {
  float f = (float)x;
  uint16_t half = t == TN_DT_f16 ? tn_f32_to_f16(f) : tn_f32_to_bf16(f);
  if (t == TN_DT_f32)
    memcpy(p, &f, 4);
  else
    memcpy(p, &half, 2);
}

/* A whole matrix of the adapter, as floats in the form's arena. */
static tn_status load(tn_form *f, uint32_t part, uint64_t rows, uint64_t columns, double type, float **out) {
  tn_dtype t = (tn_dtype)type;
  uint64_t n, bytes;
  if (!element(t) || !tn_mul_u64(rows, columns, &n) || !tn_mul_u64(n, sizeof(float), &bytes))
    return form_fail(f, TN_INVALID, "part %u is of no type that can be merged", part);
  TN_TRY(form_expect(f, part, rows, columns * element(t)));
  *out = tn_arena_alloc(&f->arena, bytes);
  uint8_t *raw = tn_mem_alloc(n * element(t) + 1);
  if (!*out || !raw) return tn_mem_free(raw), form_fail(f, TN_OOM, "out of memory");
  tn_status s = form_strip(f, 0, part, columns * element(t), 0, rows, 0, columns * element(t), raw);
  for (uint64_t i = 0; s == TN_OK && i < n; i++) (*out)[i] = to_float(t, raw + i * element(t));
  tn_mem_free(raw);
  return s;
}

static tn_status read_one(tn_form *f, uint32_t i, uint64_t in, uint64_t out, lora *l) {
  double rank = numbered(f, 'r', i), a = numbered(f, 'a', i), b = numbered(f, 'b', i);
  l->scale = numbered(f, 's', i);
  if (!(rank >= 1 && rank <= 1 << 20) || !(a > 0 && a < 64) || !(b > 0 && b < 64) || !isfinite(l->scale))
    return form_fail(f, TN_INVALID, "adapter %u has no rank, types or scale", i);
  l->rank = (uint64_t)rank;
  TN_TRY(load(f, 1 + 2 * i, l->rank, in, a, &l->a));
  return load(f, 2 + 2 * i, out, l->rank, b, &l->b);
}

tn_status form_check_lora(tn_form *f) {
  double n = form_number(f, "n");
  if (!element(f->s.dtype))
    return form_fail(f, TN_UNSUPPORTED, "only f32, f16 and bf16 weights can be merged");
  if (!(n >= 1 && n <= 64)) return form_fail(f, TN_INVALID, "the number of adapters is not 1 to 64");
  TN_TRY(form_parts(f, 1 + 2 * (uint32_t)n));
  if (f->items != 1) return form_fail(f, TN_INVALID, "stacks of weights cannot be merged");
  return form_expect(f, 0, f->rows, f->row_bytes);
}

/* Adds what the adapter adds to a row of W. */
static void add_row(const tn_form *f, const lora *l, uint64_t row, bool transposed, double *sum) {
  for (uint64_t r = 0; r < l->rank; r++) {
    double c = l->scale * (double)(transposed ? l->a[r * f->rows + row] : l->b[row * l->rank + r]);
    for (uint64_t k = 0; k < f->k; k++)
      sum[k] += c * (double)(transposed ? l->b[k * l->rank + r] : l->a[r * f->k + k]);
  }
}

typedef struct merged {
  double *sum; /* a row */
  lora adapters[];
} merged;

/* The adapters, read when the first row is asked for. */
static tn_status open_all(tn_form *f, uint32_t n, bool transposed, merged **out) {
  if (f->state) return *out = f->state, TN_OK;
  merged *m = tn_arena_alloc(&f->arena, sizeof *m + n * sizeof *m->adapters);
  double *sum = tn_arena_alloc(&f->arena, f->k * sizeof *sum);
  if (!m || !sum) return form_fail(f, TN_OOM, "out of memory");
  m->sum = sum;
  for (uint32_t i = 0; i < n; i++)
    TN_TRY(read_one(f, i, transposed ? f->rows : f->k, transposed ? f->k : f->rows, &m->adapters[i]));
  f->state = *out = m;
  return TN_OK;
}

tn_status form_lora(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst) {
  uint32_t n = (uint32_t)form_number(f, "n"), size = element(f->s.dtype);
  bool transposed = form_has(f, "transposed");
  merged *m;
  TN_TRY(open_all(f, n, transposed, &m));
  TN_TRY(form_strip(f, item, 0, f->row_bytes, first, rows, 0, f->row_bytes, dst));
  for (uint64_t r = 0; r < rows; r++) {
    uint8_t *row = dst + r * f->row_bytes;
    for (uint64_t k = 0; k < f->k; k++) m->sum[k] = (double)to_float(f->s.dtype, row + k * size);
    for (uint32_t i = 0; i < n; i++) add_row(f, &m->adapters[i], first + r, transposed, m->sum);
    for (uint64_t k = 0; k < f->k; k++) from_double(f->s.dtype, m->sum[k], row + k * size);
  }
  return TN_OK;
}
