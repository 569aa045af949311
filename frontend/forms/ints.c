/* ints.c - integer codes with scales and zeros: GPTQ, AWQ, compressed-tensors. A method lays codes (a byte
 * each), zeros and scales of a band side by side; form_codes_put writes them as blocks. */
#include "frontend/forms/form.h"

typedef form_codes band;

tn_status form_codes_init(tn_form *f, form_codes *b, uint64_t rows, uint64_t raw_bytes) {
  uint64_t scales = rows * f->groups * (f->scale_bytes ? f->scale_bytes : 1);
  uint8_t *p = tn_mem_alloc(rows * f->k + rows * f->groups + scales + f->k + raw_bytes + 16);
  *b = (band){.raw = p}; /* first: aligned */
  if (!p) return form_fail(f, TN_OOM, "out of memory");
  b->codes = p + tn_align_up(raw_bytes, 8);
  b->zeros = b->codes + rows * f->k;
  b->scales = b->zeros + rows * f->groups;
  b->line = b->scales + scales;
  return TN_OK;
}

void form_codes_fini(form_codes *b) { tn_mem_free(b->raw); }

/* ---- blocks ---- */

/* The codes of a block; all planes of these types are runs of one. */
static void put_codes(const tn_quant *q, const uint8_t *codes, uint8_t *block) {
  uint32_t shift = 0;
  for (const tn_quant_plane *p = q->plane; p < q->plane + TN_COUNT(q->plane) && p->bits; p++) {
    uint32_t mask = (1u << p->bits) - 1;
    for (uint32_t i = 0; i < q->values / p->slots; i++) {
      uint32_t byte = 0;
      for (uint32_t s = 0; s < p->slots; s++)
        byte |= (codes[i * p->slots + s] >> shift & mask) << s * p->bits;
      block[p->at + i] = (uint8_t)byte;
    }
    shift += p->bits;
  }
}

static void put_row(const tn_form *f, const uint8_t *codes, const uint8_t *zeros, const uint8_t *scales,
                    uint8_t *dst) {
  const tn_quant *q = f->q;
  uint32_t runs = q->sub ? q->values / q->sub : 1, at = q->inner ? q->inner_at : q->d_at;
  memset(dst, 0, f->row_bytes);
  for (uint64_t b = 0; b < f->k / q->values; b++, dst += q->bytes) {
    uint64_t g = f->scale_bytes ? b * runs : 0;
    put_codes(q, codes + b * q->values, dst);
    if (f->scale_bytes) memcpy(dst + at, scales + g * f->scale_bytes, runs * f->scale_bytes);
    for (uint32_t j = 0; q->zero_bits && j < runs; j++) {
      uint32_t bit = j * q->zero_bits;
      dst[q->zero_at + bit / 8] |= (uint8_t)(zeros[g + j] << bit % 8);
    }
  }
}

void form_codes_put(const tn_form *f, const form_codes *b, uint64_t rows, uint8_t *dst) {
  for (uint64_t r = 0; r < rows; r++) {
    uint8_t *codes = b->codes + r * f->k;
    if (f->order) {
      for (uint64_t i = 0; i < f->k; i++) b->line[i] = codes[f->order[i]];
      codes = b->line;
    }
    put_row(f, codes, b->zeros + r * f->groups, b->scales + r * f->groups * f->scale_bytes,
            dst + r * f->row_bytes);
  }
}

/* ---- bits ---- */

/* 32 codes of `bits` bits from as many words, `stride` words apart. */
static void unpack32(const uint32_t *words, uint64_t stride, uint32_t bits, uint8_t *codes) {
  uint64_t have = 0, left = 0;
  for (uint32_t i = 0; i < 32; i++) {
    if (left < bits) {
      have |= (uint64_t)*words << left;
      words += stride;
      left += 32;
    }
    codes[i] = (uint8_t)(have & ((1u << bits) - 1));
    have >>= bits;
    left -= bits;
  }
}

/* ---- checks ---- */

static uint32_t scale_size(const tn_quant *q) {
  uint8_t kind = q->d != TN_QN_ONE                                 ? q->d
                 : q->inner == TN_QI_F16 || q->inner == TN_QI_BF16 ? TN_QN_F16
                                                                   : TN_QN_ONE;
  return kind == TN_QN_ONE ? 0 : kind == TN_QN_F32 ? 4 : 2;
}

tn_status form_check_type(tn_form *f, bool zeros) {
  const tn_quant *q = f->q;
  if (!q || q->level == TN_QL_GRID || q->level == TN_QL_TRITS || (zeros && !q->zero_bits) || f->k % 32)
    return form_fail(f, TN_INVALID, "cannot make weights of this type");
  for (size_t i = 0; i < TN_COUNT(q->plane) && q->plane[i].bits; i++) {
    if (q->plane[i].run != 1) return form_fail(f, TN_INVALID, "cannot make blocks of '%s'", q->name);
    f->bits += q->plane[i].bits;
  }
  f->scale_bytes = scale_size(q);
  f->group = !f->scale_bytes ? f->k : q->sub ? q->sub : q->values;
  f->groups = f->k / f->group;
  return TN_OK;
}

/* Scales [groups, rows], if the blocks have some, and the columns' groups are the last parts. */
static tn_status check_tail(tn_form *f, uint32_t part, uint64_t scale_rows, uint64_t scale_row) {
  if (f->scale_bytes) TN_TRY(form_expect(f, part++, scale_rows, scale_row * f->scale_bytes));
  return form_has(f, "act") ? form_read_order(f, part) : TN_OK;
}

static uint32_t tail_parts(const tn_form *f) {
  return (f->scale_bytes ? 1 : 0) + (form_has(f, "act") ? 1 : 0);
}

/* ---- gptq: words of codes along the columns [k * bits / 32, rows], of zeros [groups, rows * bits / 32],
 * scales [groups, rows]. v1: zeros are stored less one, by subtraction from whole words. ---- */

tn_status form_check_gptq(tn_form *f) {
  TN_TRY(form_check_type(f, true));
  TN_TRY(form_parts(f, 2 + tail_parts(f)));
  if (f->rows % 32)
    return form_fail(f, TN_INVALID, "%llu rows are not whole words of zeros", (unsigned long long)f->rows);
  TN_TRY(form_expect(f, 0, f->k * f->bits / 32, f->rows * 4));
  TN_TRY(form_expect(f, 1, f->groups, f->rows * f->bits / 8));
  return check_tail(f, 2, f->groups, f->rows);
}

static void gptq_zeros(const tn_form *f, const uint32_t *words, uint64_t g, uint64_t rows, band *b) {
  static const uint32_t ones[] = {[2] = 0x55555555, [4] = 0x11111111, [8] = 0x01010101};
  bool v1 = form_has(f, "v1");
  uint8_t z[32];
  uint32_t own[8];
  for (uint64_t r = 0; r < rows; r += 32, words += f->bits) {
    for (uint32_t i = 0; i < f->bits; i++) own[i] = words[i] + (v1 && f->bits != 3 ? ones[f->bits] : 0);
    unpack32(own, 1, f->bits, z);
    for (uint32_t i = 0; i < 32 && r + i < rows; i++)
      b->zeros[(r + i) * f->groups + g] = v1 && f->bits == 3 ? (z[i] + 1) & 7 : z[i];
  }
}

/* Scales [groups, rows] of the file as [rows, groups]. */
static tn_status turn_scales(tn_form *f, uint64_t item, uint32_t part, uint64_t first, uint64_t rows,
                             band *b) {
  uint64_t n = f->scale_bytes;
  const uint8_t *raw = b->raw;
  if (!n) return TN_OK;
  TN_TRY(form_strip(f, item, part, f->rows * n, 0, f->groups, first * n, rows * n, b->raw));
  for (uint64_t g = 0; g < f->groups; g++)
    for (uint64_t r = 0; r < rows; r++)
      memcpy(b->scales + (r * f->groups + g) * n, raw + (g * rows + r) * n, n);
  return TN_OK;
}

static tn_status gptq_band(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, band *b) {
  const uint32_t *words = b->raw;
  uint64_t zero_bytes = rows * f->bits / 8;
  TN_TRY(form_strip(f, item, 0, f->rows * 4, 0, f->k * f->bits / 32, first * 4, rows * 4, b->raw));
  for (uint64_t c = 0; c < f->k / 32; c++)
    for (uint64_t r = 0; r < rows; r++)
      unpack32(words + c * f->bits * rows + r, rows, f->bits, b->codes + r * f->k + c * 32);
  TN_TRY(
      form_strip(f, item, 1, f->rows * f->bits / 8, 0, f->groups, first * f->bits / 8, zero_bytes, b->raw));
  for (uint64_t g = 0; g < f->groups; g++) gptq_zeros(f, words + g * zero_bytes / 4, g, rows, b);
  return turn_scales(f, item, 2, first, rows, b);
}

tn_status form_gptq(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst) {
  band b;
  uint64_t codes = f->k * f->bits / 8 * rows, scales = f->groups * rows * 4;
  tn_status s = form_codes_init(f, &b, rows, codes > scales ? codes : scales);
  if (s == TN_OK) s = gptq_band(f, item, first, rows, &b);
  if (s == TN_OK) form_codes_put(f, &b, rows, dst);
  form_codes_fini(&b);
  return s;
}

/* ---- awq: words of eight nibbles along the rows, [k, rows / 8] and [groups, rows / 8]; scales [groups,
 * rows]. ---- */

tn_status form_check_awq(tn_form *f) {
  TN_TRY(form_check_type(f, true));
  TN_TRY(form_parts(f, 2 + tail_parts(f)));
  if (f->bits != 4 || f->rows % 8)
    return form_fail(f, TN_INVALID, "%llu rows of %u bits are not whole words of nibbles",
                     (unsigned long long)f->rows, f->bits);
  TN_TRY(form_expect(f, 0, f->k, f->rows / 2));
  TN_TRY(form_expect(f, 1, f->groups, f->rows / 2));
  return check_tail(f, 2, f->groups, f->rows);
}

/* Words [lines, rows / 8] to bytes [rows, lines]. */
static void awq_turn(const uint32_t *words, uint64_t lines, uint64_t rows, uint8_t *out) {
  static const uint8_t place[8] = {0, 4, 1, 5, 2, 6, 3, 7}; /* of row 8 j + i in word j */
  for (uint64_t i = 0; i < lines; i += 64)                  /* a stretch that stays in the cache */
    for (uint64_t r = 0; r < rows; r++)
      for (uint64_t n = i; n < i + 64 && n < lines; n++)
        out[r * lines + n] = words[n * (rows / 8) + r / 8] >> 4 * place[r % 8] & 15;
}

static tn_status awq_band(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, band *b) {
  TN_TRY(form_strip(f, item, 0, f->rows / 2, 0, f->k, first / 2, rows / 2, b->raw));
  awq_turn(b->raw, f->k, rows, b->codes);
  TN_TRY(form_strip(f, item, 1, f->rows / 2, 0, f->groups, first / 2, rows / 2, b->raw));
  awq_turn(b->raw, f->groups, rows, b->zeros);
  return turn_scales(f, item, 2, first, rows, b);
}

tn_status form_awq(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst) {
  band b;
  uint64_t codes = f->k * rows / 2, scales = f->groups * rows * 4;
  tn_status s = form_codes_init(f, &b, rows, codes > scales ? codes : scales);
  if (s == TN_OK) s = awq_band(f, item, first, rows, &b);
  if (s == TN_OK) form_codes_put(f, &b, rows, dst);
  form_codes_fini(&b);
  return s;
}

/* ---- packed (compressed-tensors): words of codes along the rows [rows, k * bits / 32]; if the type has
 * zeros, words of them [rows * bits / 32 rounded up, groups]; scales [rows, groups]. Codes and zeros are
 * 2^(bits - 1) too large. ---- */

static uint64_t zero_lines(const tn_form *f, uint64_t rows) { return (rows * f->bits + 31) / 32; }

tn_status form_check_packed(tn_form *f) {
  TN_TRY(form_check_type(f, false));
  uint32_t zeros = f->q->zero_bits != 0;
  TN_TRY(form_parts(f, 1 + zeros + tail_parts(f)));
  TN_TRY(form_expect(f, 0, f->rows, f->k * f->bits / 8));
  if (zeros) TN_TRY(form_expect(f, 1, zero_lines(f, f->rows), f->groups * 4));
  return check_tail(f, 1 + zeros, f->rows, f->groups);
}

static void packed_zeros(const tn_form *f, uint64_t rows, band *b) {
  uint32_t *words = b->raw; /* zeroed behind the last line, which may be short of 32 values */
  uint8_t z[32];
  for (uint64_t r = 0; r < rows; r += 32)
    for (uint64_t g = 0; g < f->groups; g++) {
      unpack32(words + r / 32 * f->bits * f->groups + g, f->groups, f->bits, z);
      for (uint64_t i = 0; i < 32 && r + i < rows; i++) b->zeros[(r + i) * f->groups + g] = z[i];
    }
}

static tn_status packed_band(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, band *b) {
  uint64_t words = f->k * f->bits / 32, lines = zero_lines(f, rows), line = f->groups * 4;
  uint32_t part = 1;
  TN_TRY(form_strip(f, item, 0, words * 4, first, rows, 0, words * 4, b->raw));
  for (uint64_t c = 0; c < rows * f->k / 32; c++)
    unpack32((const uint32_t *)b->raw + c * f->bits, 1, f->bits, b->codes + c * 32);
  if (f->q->level == TN_QL_SIGNED)
    for (uint64_t i = 0; i < rows * f->k; i++) b->codes[i] ^= 0x80;
  if (f->q->zero_bits) {
    memset((uint8_t *)b->raw + lines * line, 0, (f->bits + 1) * line);
    TN_TRY(form_strip(f, item, part++, line, first * f->bits / 32, lines, 0, line, b->raw));
    packed_zeros(f, rows, b);
  }
  line = f->groups * f->scale_bytes;
  return line ? form_strip(f, item, part, line, first, rows, 0, line, b->scales) : TN_OK;
}

tn_status form_packed(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst) {
  band b;
  uint64_t codes = f->k * f->bits / 8 * rows, zeros = (zero_lines(f, rows) + f->bits + 1) * f->groups * 4;
  tn_status s = form_codes_init(f, &b, rows, codes > zeros ? codes : zeros);
  if (s == TN_OK) s = packed_band(f, item, first, rows, &b);
  if (s == TN_OK) form_codes_put(f, &b, rows, dst);
  form_codes_fini(&b);
  return s;
}

/* ---- int8 (compressed-tensors): signed bytes [rows, k]; if the type has zeros, bytes of them [rows,
 * groups]; scales [rows, groups]. ---- */

tn_status form_check_int8(tn_form *f) {
  TN_TRY(form_check_type(f, false));
  if (f->bits != 8) return form_fail(f, TN_INVALID, "cannot make codes of %u bits", f->bits);
  uint32_t zeros = f->q->zero_bits != 0;
  TN_TRY(form_parts(f, 1 + zeros + tail_parts(f)));
  TN_TRY(form_expect(f, 0, f->rows, f->k));
  if (zeros) TN_TRY(form_expect(f, 1, f->rows, f->groups));
  return check_tail(f, 1 + zeros, f->rows, f->groups);
}

static tn_status int8_band(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, band *b) {
  uint64_t line = f->groups * f->scale_bytes;
  uint32_t part = 1;
  TN_TRY(form_strip(f, item, 0, f->k, first, rows, 0, f->k, b->codes));
  if (f->q->zero_bits) {
    TN_TRY(form_strip(f, item, part++, f->groups, first, rows, 0, f->groups, b->zeros));
    for (uint64_t i = 0; i < rows * (f->k + f->groups); i++) b->codes[i] ^= 0x80; /* the zeros lie behind */
  }
  return line ? form_strip(f, item, part, line, first, rows, 0, line, b->scales) : TN_OK;
}

tn_status form_int8(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst) {
  band b;
  tn_status s = form_codes_init(f, &b, rows, 0);
  if (s == TN_OK) s = int8_band(f, item, first, rows, &b);
  if (s == TN_OK) form_codes_put(f, &b, rows, dst);
  form_codes_fini(&b);
  return s;
}
