/* form.c - forms of weights: the methods, and the band of rows that a reader goes through. */
#include "frontend/forms/form.h"
#include <math.h>
#include <stdlib.h>

static const form_method methods[] = {
    {"gptq", form_check_gptq, form_gptq},
    {"awq", form_check_awq, form_awq},
    {"packed", form_check_packed, form_packed},
    {"int8", form_check_int8, form_int8},
    {"blocks", form_check_blocks, form_blocks},
    {"fp8", form_check_fp8, form_fp8},
    {"mxfp4", form_check_mxfp4, form_mxfp4},
    {"nvfp4", form_check_nvfp4, form_nvfp4},
    {"bnb4", form_check_bnb4, form_bnb4},
    {"order", form_check_order, form_order},
    {"reciprocal", form_check_vector, form_reciprocal},
    {"over127", form_check_vector, form_over127},
    {"lora", form_check_lora, form_lora},
    {"encode", form_check_encode, form_encode},
};

/* ---- words and errors ---- */

tn_status form_fail(tn_form *f, tn_status s, const char *fmt, ...) {
  tn_buf text = {0}, where = {0};
  va_list ap;
  va_start(ap, fmt);
  tn_buf_vprintf(&text, fmt, ap);
  va_end(ap);
  tn_buf_printf(&where, "weight '%s'", f->s.name);
  tn_fail(f->diags, s, NULL, tn_buf_cstr(&where), "form '%s': %s", f->s.text, tn_buf_cstr(&text));
  tn_buf_fini(&text);
  tn_buf_fini(&where);
  return s;
}

/* The next word from *at on, which moves behind it; empty at the end. */
static tn_str next_word(const char **at) {
  while (**at == ' ') (*at)++;
  tn_str w = {*at, strcspn(*at, " ")};
  *at += w.len;
  return w;
}

bool form_has(const tn_form *f, const char *word) {
  const char *at = f->s.text;
  for (tn_str w = next_word(&at); w.len; w = next_word(&at))
    if (tn_str_is(w, word)) return true;
  return false;
}

double form_number(const tn_form *f, const char *key) {
  const char *at = f->s.text;
  size_t n = strlen(key);
  for (tn_str w = next_word(&at); w.len; w = next_word(&at))
    if (w.len > n && !memcmp(w.ptr, key, n) && w.ptr[n] == '=') return strtod(w.ptr + n + 1, NULL);
  return NAN;
}

/* ---- parts ---- */

tn_status form_parts(tn_form *f, uint32_t nparts) {
  f->nparts = nparts;
  f->items = nparts ? f->s.nparts / nparts : 0;
  if (!f->items || f->s.nparts % nparts || f->rows % f->items)
    return form_fail(f, TN_INVALID, "needs %u parts for each of its items, the weight has %u", nparts,
                     f->s.nparts);
  f->rows /= f->items;
  return TN_OK;
}

tn_status form_expect(tn_form *f, uint32_t part, uint64_t rows, uint64_t row_bytes) {
  uint64_t want;
  if (!tn_mul_u64(rows, row_bytes, &want)) return form_fail(f, TN_INVALID, "part %u is too large", part);
  for (uint64_t i = part; i < f->s.nparts; i += f->nparts)
    if (f->s.parts[i].bytes != want)
      return form_fail(f, TN_INVALID, "part %llu has %llu bytes, needed are %llu", (unsigned long long)i,
                       (unsigned long long)f->s.parts[i].bytes, (unsigned long long)want);
  return TN_OK;
}

tn_status form_strip(tn_form *f, uint64_t item, uint32_t part, uint64_t row_bytes, uint64_t first,
                     uint64_t rows, uint64_t at, uint64_t bytes, void *dst) {
  uint8_t *to = dst;
  uint64_t from = f->part_at[item * f->nparts + part] + first * row_bytes + at;
  if (bytes == row_bytes) return f->s.in.read(f->s.in.ctx, from, to, rows * bytes);
  for (uint64_t r = 0; r < rows; r++)
    TN_TRY(f->s.in.read(f->s.in.ctx, from + r * row_bytes, to + r * bytes, bytes));
  return TN_OK;
}

/* ---- opening ---- */

static tn_status set_method(tn_form *f) {
  const char *at = f->s.text;
  tn_str name = next_word(&at);
  for (size_t i = 0; i < TN_COUNT(methods); i++)
    if (tn_str_is(name, methods[i].name)) f->method = &methods[i];
  return f->method ? TN_OK
                   : form_fail(f, TN_UNSUPPORTED, "there is no method '%.*s'", (int)name.len, name.ptr);
}

static tn_status set_shape(tn_form *f) {
  uint64_t bytes;
  f->q = tn_quant_of(f->s.dtype);
  f->rows = 1;
  if (!f->s.rank) return form_fail(f, TN_INVALID, "the weight is a scalar");
  for (uint32_t i = 0; i < f->s.rank; i++) {
    if (f->s.dims[i] <= 0)
      return form_fail(f, TN_INVALID, "the weight has a size of %lld", (long long)f->s.dims[i]);
    if (i + 1 < f->s.rank && !tn_mul_u64(f->rows, (uint64_t)f->s.dims[i], &f->rows))
      return form_fail(f, TN_INVALID, "the weight is too large");
  }
  f->k = (uint64_t)f->s.dims[f->s.rank - 1];
  if (f->q && f->k % f->q->values)
    return form_fail(f, TN_INVALID, "rows of %llu values are not blocks of %u", (unsigned long long)f->k,
                     f->q->values);
  bool half = f->s.dtype == TN_DT_f16 || f->s.dtype == TN_DT_bf16;
  if (!f->q && !half && f->s.dtype != TN_DT_f32 && f->s.dtype != TN_DT_i32)
    return form_fail(f, TN_INVALID, "the weight is neither of a block type nor of f32, f16, bf16 or i32");
  if (!tn_mul_u64(f->q ? f->k / f->q->values : f->k,
                  f->q   ? f->q->bytes
                  : half ? 2
                         : 4,
                  &f->row_bytes) ||
      !tn_mul_u64(f->row_bytes, f->rows, &bytes) || f->k > UINT32_MAX)
    return form_fail(f, TN_INVALID, "the weight is too large");
  return TN_OK;
}

static tn_status place_parts(tn_form *f) {
  uint64_t *at = tn_arena_alloc(&f->arena, (f->s.nparts + 1) * sizeof *at), sum = 0;
  if (!at) return form_fail(f, TN_OOM, "out of memory");
  for (uint32_t i = 0; i < f->s.nparts; i++) {
    at[i] = sum;
    if (!tn_add_u64(sum, f->s.parts[i].bytes, &sum))
      return form_fail(f, TN_INVALID, "the parts are too large");
  }
  f->part_at = at;
  return TN_OK;
}

static tn_status open_form(tn_form *f) {
  TN_TRY(set_method(f));
  TN_TRY(set_shape(f));
  TN_TRY(place_parts(f));
  TN_TRY(f->method->check(f));
  f->band_rows = FORM_BAND / f->k / 32 * 32;
  if (f->band_rows < 32) f->band_rows = 32;
  if (f->band_rows > f->rows) f->band_rows = f->rows;
  f->band = tn_mem_alloc(f->band_rows * f->row_bytes);
  return f->band ? TN_OK : form_fail(f, TN_OOM, "out of memory");
}

tn_status tn_form_open(const tn_form_spec *s, tn_diags *diags, tn_form **out) {
  *out = NULL;
  tn_form *f = tn_mem_alloc(sizeof *f);
  if (!f) return tn_fail(diags, TN_OOM, NULL, s->name, "out of memory");
  f->s = *s;
  f->diags = diags;
  tn_arena_init(&f->arena);
  tn_status status = open_form(f);
  if (status == TN_OK)
    *out = f;
  else
    tn_form_close(f);
  return status;
}

void tn_form_close(tn_form *f) {
  if (!f) return;
  tn_mem_free(f->band);
  tn_arena_fini(&f->arena);
  tn_mem_free(f);
}

/* ---- reading ---- */

static tn_status make_band(tn_form *f, uint64_t row) {
  uint64_t item = row / f->rows, first = row % f->rows / f->band_rows * f->band_rows;
  uint64_t count = f->rows - first < f->band_rows ? f->rows - first : f->band_rows;
  f->band_count = 0;
  TN_TRY(f->method->make(f, item, first, count, f->band));
  f->band_first = item * f->rows + first;
  f->band_count = count;
  return TN_OK;
}

tn_status tn_form_read(tn_form *f, uint64_t off, void *dst, uint64_t len) {
  uint8_t *to = dst;
  uint64_t total = f->items * f->rows * f->row_bytes;
  if (off > total || len > total - off)
    return form_fail(f, TN_INTERNAL, "a read goes past the weight's %llu bytes", (unsigned long long)total);
  while (len) {
    uint64_t row = off / f->row_bytes;
    if (row < f->band_first || row >= f->band_first + f->band_count) TN_TRY(make_band(f, row));
    uint64_t at = off - f->band_first * f->row_bytes, n = f->band_count * f->row_bytes - at;
    if (n > len) n = len;
    memcpy(to, f->band + at, n);
    to += n, off += n, len -= n;
  }
  return TN_OK;
}
