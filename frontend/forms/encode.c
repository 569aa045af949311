/* encode.c - "encode f16 [turned]": a weight whose blocks are made of plain numbers (f32, f16 or bf16) by
 * ir/quant/encode.h while it streams. The parts, one behind the other, are the numbers [rows, k]; turned:
 * [k, rows]. */
#include "frontend/forms/form.h"
#include "ir/quant/encode.h"

static const tn_dtype plain[] = {TN_DT_f32, TN_DT_f16, TN_DT_bf16};

static tn_dtype source_of(const tn_form *f) {
  static const char *const names[] = {"f32", "f16", "bf16"};
  for (size_t i = 0; i < TN_COUNT(plain); i++)
    if (form_has(f, names[i])) return plain[i];
  return 0;
}

tn_status form_check_encode(tn_form *f) {
  tn_dtype from = source_of(f);
  uint64_t have = 0, want = 0;
  if (!from) return form_fail(f, TN_INVALID, "does not say f32, f16 or bf16");
  if (!f->q || !tn_encode_can(f->s.dtype))
    return form_fail(f, TN_UNSUPPORTED, "blocks of %s cannot be made", f->q ? f->q->name : "a plain type");
  if (!f->s.nparts) return form_fail(f, TN_INVALID, "the weight has no parts");
  TN_TRY(form_parts(f, f->s.nparts));
  for (uint32_t i = 0; i < f->s.nparts; i++)
    if (!tn_add_u64(have, f->s.parts[i].bytes, &have))
      return form_fail(f, TN_INVALID, "the parts are too large");
  if (!tn_mul_u64(f->rows, tn_encode_row_bytes(from, f->k), &want) || have != want)
    return form_fail(f, TN_INVALID, "its parts have %llu bytes, needed are %llu", (unsigned long long)have,
                     (unsigned long long)want);
  return TN_OK;
}

static float number_at(tn_dtype t, const uint8_t *p) {
  float x;
  uint16_t h;
  if (t == TN_DT_f32) return memcpy(&x, p, sizeof x), x;
  memcpy(&h, p, sizeof h);
  return t == TN_DT_f16 ? tn_f16_to_f32(h) : tn_bf16_to_f32(h);
}

static tn_status read_rows(tn_form *f, tn_dtype t, uint64_t first, uint64_t rows, uint8_t *raw, float *x) {
  uint64_t size = tn_encode_row_bytes(t, 1), n = rows * f->k;
  TN_TRY(f->s.in.read(f->s.in.ctx, first * f->k * size, raw, n * size));
  for (uint64_t i = 0; i < n; i++) x[i] = number_at(t, raw + i * size);
  return TN_OK;
}

/* The columns `first` on of every row of the file; they become rows. */
static tn_status read_columns(tn_form *f, tn_dtype t, uint64_t first, uint64_t rows, uint8_t *raw, float *x) {
  uint64_t size = tn_encode_row_bytes(t, 1);
  for (uint64_t c = 0; c < f->k; c++) {
    TN_TRY(f->s.in.read(f->s.in.ctx, (c * f->rows + first) * size, raw, rows * size));
    for (uint64_t r = 0; r < rows; r++) x[r * f->k + c] = number_at(t, raw + r * size);
  }
  return TN_OK;
}

tn_status form_encode(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst) {
  (void)item; /* the parts are one item */
  tn_dtype t = source_of(f);
  bool turned = form_has(f, "turned");
  uint64_t bad = 0;
  float *x = tn_mem_alloc(rows * f->k * sizeof *x);
  uint8_t *raw = tn_mem_alloc((turned ? rows : rows * f->k) * tn_encode_row_bytes(t, 1));
  tn_status s = x && raw ? TN_OK : form_fail(f, TN_OOM, "out of memory");
  if (s == TN_OK) s = (turned ? read_columns : read_rows)(f, t, first, rows, raw, x);
  if (s == TN_OK) {
    s = tn_encode_rows(f->s.dtype, x, rows, f->k, NULL, dst, &bad);
    if (s == TN_INVALID)
      s = form_fail(f, s, "the number at row %llu, column %llu is not finite",
                    (unsigned long long)(first + bad / f->k), (unsigned long long)(bad % f->k));
    else if (s != TN_OK)
      s = form_fail(f, s, "blocks of %s could not be made", f->q->name);
  }
  tn_mem_free(raw);
  tn_mem_free(x);
  return s;
}
