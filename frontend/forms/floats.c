/* floats.c - codes that are small floats: fp8 with a scale per tile, MXFP4, NVFP4, bitsandbytes' nf4 and fp4.
 */
#include "frontend/forms/form.h"
#include <math.h>

/* The type must be this row, or one of these two. */
static tn_status check_row(tn_form *f, const char *name, const char *other) {
  if (f->q && (!strcmp(f->q->name, name) || (other && !strcmp(f->q->name, other)))) return TN_OK;
  return form_fail(f, TN_INVALID, "makes %s, not %s", name, f->q ? f->q->name : "numbers");
}

/* ---- fp8: numbers [rows, k], scales of tiles of 128 x 128 ---- */

enum { TILE = 128 };

tn_status form_check_fp8(tn_form *f) {
  TN_TRY(check_row(f, "f8_128", "f8_128_bf16"));
  TN_TRY(form_parts(f, 2));
  f->scale_bytes = f->q->d == TN_QN_F32 ? 4 : 2;
  f->groups = f->k / TILE;
  TN_TRY(form_expect(f, 0, f->rows, f->k));
  return form_expect(f, 1, (f->rows + TILE - 1) / TILE, f->groups * f->scale_bytes);
}

static tn_status fp8_rows(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *codes,
                          uint8_t *dst) {
  uint64_t line = f->groups * f->scale_bytes, tiles = (first + rows - 1) / TILE - first / TILE + 1;
  uint8_t *scales = codes + rows * f->k;
  TN_TRY(form_strip(f, item, 0, f->k, first, rows, 0, f->k, codes));
  TN_TRY(form_strip(f, item, 1, line, first / TILE, tiles, 0, line, scales));
  for (uint64_t r = 0; r < rows; r++) {
    const uint8_t *scale = scales + ((first + r) / TILE - first / TILE) * line;
    for (uint64_t b = 0; b < f->groups; b++, dst += f->q->bytes) {
      memcpy(dst, scale + b * f->scale_bytes, f->scale_bytes);
      memcpy(dst + f->scale_bytes, codes + r * f->k + b * TILE, TILE);
    }
  }
  return TN_OK;
}

tn_status form_fp8(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst) {
  uint8_t *codes = tn_mem_alloc(rows * f->k + (rows / TILE + 2) * f->groups * f->scale_bytes);
  if (!codes) return form_fail(f, TN_OOM, "out of memory");
  tn_status s = fp8_rows(f, item, first, rows, codes, dst);
  tn_mem_free(codes);
  return s;
}

/* ---- fp4 with a byte of scale for each `run` values: nibbles [rows, k / 2] in order, low ones first. ----
 */

static tn_status check_fp4(tn_form *f, const char *name, uint64_t run) {
  TN_TRY(check_row(f, name, NULL));
  TN_TRY(form_parts(f, 2));
  f->groups = f->k / run;
  TN_TRY(form_expect(f, 0, f->rows, f->k / 2));
  return form_expect(f, 1, f->rows, f->groups);
}

tn_status form_check_mxfp4(tn_form *f) { return check_fp4(f, "mxfp4", 32); }
tn_status form_check_nvfp4(tn_form *f) { return check_fp4(f, "nvfp4", 16); }

/* Nibbles of `run` values in order to low nibbles of the first half, high ones of the second. */
static void halve(const uint8_t *in, uint32_t run, uint8_t *out) {
  for (uint32_t i = 0; i < run / 2; i++) {
    uint32_t a = in[i / 2] >> i % 2 * 4 & 15, b = in[(i + run / 2) / 2] >> (i + run / 2) % 2 * 4 & 15;
    out[i] = (uint8_t)(a | b << 4);
  }
}

static tn_status fp4(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint32_t run, uint8_t *dst) {
  uint8_t *codes = tn_mem_alloc(rows * (f->k / 2 + f->groups));
  if (!codes) return form_fail(f, TN_OOM, "out of memory");
  uint8_t *scales = codes + rows * f->k / 2;
  tn_status s = form_strip(f, item, 0, f->k / 2, first, rows, 0, f->k / 2, codes);
  if (s == TN_OK) s = form_strip(f, item, 1, f->groups, first, rows, 0, f->groups, scales);
  uint32_t runs = f->q->values / run;
  for (uint64_t b = 0; s == TN_OK && b < rows * f->k / f->q->values; b++, dst += f->q->bytes) {
    memcpy(dst, scales + b * runs, runs);
    for (uint32_t j = 0; j < runs; j++)
      halve(codes + (b * runs + j) * run / 2, run, dst + runs + j * run / 2);
  }
  tn_mem_free(codes);
  return s;
}

tn_status form_mxfp4(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst) {
  return fp4(f, item, first, rows, 32, dst);
}
tn_status form_nvfp4(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst) {
  return fp4(f, item, first, rows, 16, dst);
}

/* ---- bnb4: nibbles in order, high ones first; a scale for each 64 values: f32, or with `nested` a byte that
 * stands for entry[byte] * (f32 of 256 such) + offset; then the parts are codes, bytes, f32, entries. ---- */

tn_status form_check_bnb4(tn_form *f) {
  TN_TRY(check_row(f, "nf4_64", "fp4_64"));
  bool nested = form_has(f, "nested");
  TN_TRY(form_parts(f, nested ? 4 : 2));
  f->groups = f->k / 64;
  TN_TRY(form_expect(f, 0, f->rows, f->k / 2));
  TN_TRY(form_expect(f, 1, f->rows, f->groups * (nested ? 1 : 4)));
  if (!nested) return TN_OK;
  if (!isfinite(form_number(f, "offset"))) return form_fail(f, TN_INVALID, "has no offset");
  TN_TRY(form_expect(f, 2, (f->rows * f->groups + 255) / 256, 4));
  return form_expect(f, 3, 256, 4);
}

static tn_status nested_scales(tn_form *f, uint64_t item, uint64_t at, uint64_t n, float *out) {
  float entries[256], offset = (float)form_number(f, "offset");
  uint64_t from = at / 256, count = (at + n - 1) / 256 - from + 1;
  uint8_t *bytes = tn_mem_alloc(n + count * sizeof(float) + 4);
  if (!bytes) return form_fail(f, TN_OOM, "out of memory");
  float *outer = (float *)(void *)(bytes + tn_align_up(n, 4));
  tn_status s = form_strip(f, item, 1, 1, at, n, 0, 1, bytes);
  if (s == TN_OK) s = form_strip(f, item, 2, 4, from, count, 0, 4, outer);
  if (s == TN_OK) s = form_strip(f, item, 3, sizeof entries, 0, 1, 0, sizeof entries, entries);
  for (uint64_t i = 0; s == TN_OK && i < n; i++) {
    volatile float scaled = entries[bytes[i]] * outer[(at + i) / 256 - from]; /* rounded before the sum */
    out[i] = scaled + offset;
  }
  tn_mem_free(bytes);
  return s;
}

static tn_status bnb4_rows(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *codes,
                           float *scales, uint8_t *dst) {
  uint64_t at = first * f->groups, n = rows * f->groups;
  TN_TRY(form_strip(f, item, 0, f->k / 2, first, rows, 0, f->k / 2, codes));
  if (form_has(f, "nested"))
    TN_TRY(nested_scales(f, item, at, n, scales));
  else
    TN_TRY(form_strip(f, item, 1, 4, at, n, 0, 4, scales));
  for (uint64_t b = 0; b < n; b++, dst += f->q->bytes, codes += 32) {
    memcpy(dst, scales + b, 4);
    for (uint32_t i = 0; i < 32; i++) dst[4 + i] = (uint8_t)(codes[i] >> 4 | codes[i] << 4);
  }
  return TN_OK;
}

tn_status form_bnb4(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst) {
  uint64_t scales = rows * f->groups * sizeof(float);
  float *mem = tn_mem_alloc(scales + rows * f->k / 2);
  if (!mem) return form_fail(f, TN_OOM, "out of memory");
  tn_status s = bnb4_rows(f, item, first, rows, (uint8_t *)mem + scales, mem, dst);
  tn_mem_free(mem);
  return s;
}
