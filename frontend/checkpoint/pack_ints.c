/* pack_ints.c - integer codes as compressed-tensors, GPTQ and AWQ lay them out. A band of rows is taken apart
 * (pack.c) and written where the layout has it; frontend/forms/ints.c reads the same back. */
#include "frontend/checkpoint/pack_layouts.h"

/* What one row is made of. */
typedef struct row_bytes {
  uint8_t *codes, *zeros, *scales;
} row_bytes;

static uint8_t *row_open(const pack_ints *m, row_bytes *r) {
  uint8_t *mem = tn_mem_alloc(m->k + m->groups * (1 + m->scale_bytes));
  *r = (row_bytes){mem, mem ? mem + m->k : NULL, mem ? mem + m->k + m->groups : NULL};
  return mem;
}

/* n codes of `bits` bits into words, low bits first, `stride` words apart. */
static void put_words(const uint8_t *codes, uint64_t n, uint32_t bits, uint32_t *out, uint64_t stride) {
  uint64_t have = 0;
  uint32_t filled = 0;
  for (uint64_t i = 0; i < n; i++) {
    have |= (uint64_t)codes[i] << filled;
    filled += bits;
    if (filled < 32) continue;
    *out = (uint32_t)have;
    out += stride;
    have >>= 32;
    filled -= 32;
  }
  if (filled) *out = (uint32_t)have;
}

/* Codes of a row that lies across the words of others: value i has `bits` bits of word column, which begin
 * at bit `at`. */
static void or_bits(uint32_t *words, uint64_t stride, uint64_t at, uint32_t bits, uint32_t v) {
  uint64_t word = at / 32, shift = at % 32;
  words[word * stride] |= v << shift;
  if (shift + bits > 32) words[(word + 1) * stride] |= v >> (32 - shift);
}

static tn_status split_scales(const pack_ints *m, const uint8_t *blocks, bool turned, uint8_t *out) {
  row_bytes r;
  uint8_t *mem = row_open(m, &r);
  if (!mem) return TN_OOM;
  for (uint64_t i = 0; i < m->rows; i++) {
    pack_ints_scales(m, blocks + i * m->row_bytes, r.scales);
    for (uint64_t g = 0; g < m->groups; g++)
      memcpy(out + (turned ? g * m->rows + i : i * m->groups + g) * m->scale_bytes,
             r.scales + g * m->scale_bytes, m->scale_bytes);
  }
  tn_mem_free(mem);
  return TN_OK;
}

/* Zeros [rows, groups] as bytes. */
static tn_status all_zeros(const pack_ints *m, const uint8_t *blocks, uint8_t *out) {
  tn_status s = TN_OK;
  for (uint64_t i = 0; s == TN_OK && i < m->rows; i++)
    s = pack_ints_zeros(m, blocks + i * m->row_bytes, out + i * m->groups);
  return s;
}

/* Calls `put` with the codes of each row. */
typedef void (*put_row)(const pack_ints *m, uint64_t row, const uint8_t *codes, void *out);
static tn_status each_row(const pack_ints *m, const uint8_t *blocks, put_row put, void *out) {
  row_bytes r;
  uint8_t *mem = row_open(m, &r);
  if (!mem) return TN_OOM;
  for (uint64_t i = 0; i < m->rows; i++) {
    pack_ints_codes(m, blocks + i * m->row_bytes, r.codes);
    put(m, i, r.codes, out);
  }
  tn_mem_free(mem);
  return TN_OK;
}

/* ---- compressed-tensors, pack-quantized: words along the rows; zeros in words down the rows ---- */

static bool packed_of(tn_dtype t, uint64_t rows, uint64_t k, pack_ints *m) {
  return pack_ints_of(t, rows, k, m) && 32 % m->bits == 0 && m->bits > 1;
}

uint32_t pack_packed_parts(tn_dtype t, uint64_t rows, uint64_t k, tn_ck_part_out out[TN_CK_PACK_PARTS]) {
  pack_ints m;
  if (!packed_of(t, rows, k, &m)) return 0;
  uint32_t n = pack_matrix(out, 0, "weight_packed", TN_DT_i32, rows, k * m.bits / 32);
  n = pack_matrix(out, n, "weight_scale", m.scale, rows, m.groups);
  n = pack_part(out, n, "weight_shape", TN_DT_i64, 1, (int64_t[]){2});
  if (m.zeros) n = pack_matrix(out, n, "weight_zero_point", TN_DT_i32, (rows * m.bits + 31) / 32, m.groups);
  return n;
}

static void put_packed(const pack_ints *m, uint64_t row, const uint8_t *codes, void *out) {
  put_words(codes, m->k, m->bits, (uint32_t *)out + row * (m->k * m->bits / 32), 1);
}

static tn_status packed_zeros(const pack_ints *m, const uint8_t *blocks, uint32_t *out) {
  uint8_t *z = tn_mem_alloc(m->rows * m->groups);
  if (!z) return TN_OOM;
  tn_status s = all_zeros(m, blocks, z);
  memset(out, 0, (m->rows * m->bits + 31) / 32 * m->groups * 4);
  for (uint64_t i = 0; i < m->rows; i++)
    for (uint64_t g = 0; g < m->groups; g++)
      or_bits(out + g, m->groups, i * m->bits, m->bits, z[i * m->groups + g]);
  tn_mem_free(z);
  return s;
}

tn_status pack_packed_split(tn_dtype t, uint64_t rows, uint64_t k, const uint8_t *blocks, uint32_t part,
                            void *out) {
  pack_ints m;
  if (!packed_of(t, rows, k, &m) || part > (m.zeros ? 3u : 2u)) return TN_INVALID;
  if (part == 0) return each_row(&m, blocks, put_packed, out);
  if (part == 1) return split_scales(&m, blocks, false, out);
  if (part == 3) return packed_zeros(&m, blocks, out);
  memcpy(out, (int64_t[]){(int64_t)rows, (int64_t)k}, 2 * sizeof(int64_t));
  return TN_OK;
}

/* ---- compressed-tensors, int-quantized: bytes ---- */

uint32_t pack_int8_parts(tn_dtype t, uint64_t rows, uint64_t k, tn_ck_part_out out[TN_CK_PACK_PARTS]) {
  pack_ints m;
  if (!pack_ints_of(t, rows, k, &m) || m.bits != 8) return 0;
  uint32_t n = pack_matrix(out, 0, "weight", TN_DT_i8, rows, k);
  n = pack_matrix(out, n, "weight_scale", m.scale, rows, m.groups);
  return m.zeros ? pack_matrix(out, n, "weight_zero_point", TN_DT_i8, rows, m.groups) : n;
}

static void put_int8(const pack_ints *m, uint64_t row, const uint8_t *codes, void *out) {
  uint8_t *to = (uint8_t *)out + row * m->k;
  for (uint64_t i = 0; i < m->k; i++) to[i] = codes[i] ^ 0x80;
}

tn_status pack_int8_split(tn_dtype t, uint64_t rows, uint64_t k, const uint8_t *blocks, uint32_t part,
                          void *out) {
  pack_ints m;
  uint8_t *z = out;
  if (!pack_ints_of(t, rows, k, &m) || m.bits != 8 || part > (m.zeros ? 2u : 1u)) return TN_INVALID;
  if (part == 0) return each_row(&m, blocks, put_int8, out);
  if (part == 1) return split_scales(&m, blocks, false, out);
  TN_TRY(all_zeros(&m, blocks, z));
  for (uint64_t i = 0; i < rows * m.groups; i++) z[i] ^= 0x80;
  return TN_OK;
}

/* The config of integers; activations: W8A8. */
static tn_status ints_config(tn_dtype t, const char *format, bool activations, const char *const *ignored,
                             uint32_t nignored, tn_buf *out) {
  pack_ints m;
  if (!pack_ints_of(t, 1, 256, &m)) return TN_UNSUPPORTED;
  tn_buf_printf(out,
                "{\"quant_method\": \"compressed-tensors\", \"format\": \"%s\", \"quantization_status\": "
                "\"compressed\", \"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], \"weights\": "
                "{\"num_bits\": %u, \"type\": \"int\", \"symmetric\": %s, ",
                format, m.bits, m.zeros ? "false" : "true");
  if (m.per_row)
    tn_buf_puts(out, "\"strategy\": \"channel\"}");
  else
    tn_buf_printf(out, "\"strategy\": \"group\", \"group_size\": %llu}", (unsigned long long)m.group);
  tn_buf_puts(out, ", \"input_activations\": ");
  tn_buf_puts(out, activations ? "{\"num_bits\": 8, \"type\": \"int\", \"symmetric\": true, \"strategy\": "
                                 "\"token\", \"dynamic\": true}"
                               : "null");
  tn_buf_puts(out, ", \"output_activations\": null}}, ");
  pack_names(out, "ignore", ignored, nignored);
  tn_buf_puts(out, ", \"kv_cache_scheme\": null}");
  return pack_config_done(out);
}

tn_status pack_packed_config(tn_dtype t, const char *const *ignored, uint32_t nignored, tn_buf *out) {
  return ints_config(t, "pack-quantized", false, ignored, nignored, out);
}
tn_status pack_int8_config(tn_dtype t, const char *const *ignored, uint32_t nignored, tn_buf *out) {
  return ints_config(t, "int-quantized", true, ignored, nignored, out);
}

/* ---- GPTQ: words of codes [k * bits / 32, rows], of zeros [groups, rows * bits / 32], scales [groups,
 * rows], the group of each column. Zeros are stored less one, subtracted from whole words; a word of zeros of
 * three bits has them one by one. ---- */

static bool gptq_of(tn_dtype t, uint64_t rows, uint64_t k, pack_ints *m) {
  return pack_ints_of(t, rows, k, m) && !m->per_row && rows % 32 == 0 && m->scale != TN_DT_f32 &&
         (m->bits == 2 || m->bits == 3 || m->bits == 4 || m->bits == 8);
}

uint32_t pack_gptq_parts(tn_dtype t, uint64_t rows, uint64_t k, tn_ck_part_out out[TN_CK_PACK_PARTS]) {
  pack_ints m;
  if (!gptq_of(t, rows, k, &m)) return 0;
  uint32_t n = pack_matrix(out, 0, "qweight", TN_DT_i32, k * m.bits / 32, rows);
  n = pack_matrix(out, n, "qzeros", TN_DT_i32, m.groups, rows * m.bits / 32);
  n = pack_matrix(out, n, "scales", m.scale, m.groups, rows);
  return pack_part(out, n, "g_idx", TN_DT_i32, 1, (int64_t[]){(int64_t)k});
}

static void put_gptq(const pack_ints *m, uint64_t row, const uint8_t *codes, void *out) {
  put_words(codes, m->k, m->bits, (uint32_t *)out + row, m->rows);
}

static tn_status gptq_zeros(const pack_ints *m, const uint8_t *blocks, uint32_t *out) {
  static const uint32_t ones[] = {[2] = 0x55555555, [3] = 0, [4] = 0x11111111, [8] = 0x01010101};
  uint64_t words = m->rows * m->bits / 32;
  uint8_t *z = tn_mem_alloc(m->rows * m->groups + m->rows), *line = z + m->rows * m->groups;
  if (!z) return TN_OOM;
  tn_status s = all_zeros(m, blocks, z);
  for (uint64_t g = 0; s == TN_OK && g < m->groups; g++) {
    for (uint64_t i = 0; i < m->rows; i++) {
      line[i] = z[i * m->groups + g];
      if (m->bits == 3) line[i] = (line[i] + 7) & 7;
    }
    put_words(line, m->rows, m->bits, out + g * words, 1);
    for (uint64_t i = 0; i < words; i++) out[g * words + i] -= ones[m->bits];
  }
  tn_mem_free(z);
  return s;
}

tn_status pack_gptq_split(tn_dtype t, uint64_t rows, uint64_t k, const uint8_t *blocks, uint32_t part,
                          void *out) {
  pack_ints m;
  int32_t *groups = out;
  if (!gptq_of(t, rows, k, &m) || part > 3) return TN_INVALID;
  if (part == 0) return each_row(&m, blocks, put_gptq, out);
  if (part == 1) return gptq_zeros(&m, blocks, out);
  if (part == 2) return split_scales(&m, blocks, true, out);
  for (uint64_t i = 0; i < k; i++) groups[i] = (int32_t)(i / m.group);
  return TN_OK;
}

/* Products that stay plain are rules of `dynamic` that leave their names out. */
tn_status pack_gptq_config(tn_dtype t, const char *const *ignored, uint32_t nignored, tn_buf *out) {
  pack_ints m;
  bool any = false;
  if (!pack_ints_of(t, 32, 256, &m) || m.per_row) return TN_UNSUPPORTED;
  tn_buf_printf(out,
                "{\"quant_method\": \"gptq\", \"bits\": %u, \"group_size\": %llu, \"desc_act\": false, "
                "\"sym\": %s, \"checkpoint_format\": \"gptq\", \"pack_dtype\": \"int32\", \"lm_head\": false",
                m.bits, (unsigned long long)m.group, m.zeros ? "false" : "true");
  for (uint32_t i = 0; i < nignored; i++) {
    tn_buf rule = {0};
    tn_str s = tn_str_of(ignored[i]);
    if (tn_str_ends(s, ".weight")) s.len -= strlen(".weight");
    if (tn_str_is(s, "lm_head")) continue;
    tn_buf_puts(&rule, "-:^");
    for (size_t j = 0; j < s.len; j++) tn_buf_printf(&rule, s.ptr[j] == '.' ? "\\%c" : "%c", s.ptr[j]);
    tn_buf_puts(&rule, "$");
    tn_buf_puts(out, any ? ", " : ", \"dynamic\": {");
    tn_buf_json(out, (tn_str){tn_buf_cstr(&rule), rule.len});
    tn_buf_puts(out, ": {}");
    out->failed |= rule.failed;
    tn_buf_fini(&rule);
    any = true;
  }
  tn_buf_puts(out, any ? "}}" : "}");
  return pack_config_done(out);
}

/* ---- AWQ: words of eight nibbles along the rows, [k, rows / 8] and [groups, rows / 8] ---- */

static bool awq_of(tn_dtype t, uint64_t rows, uint64_t k, pack_ints *m) {
  return pack_ints_of(t, rows, k, m) && !m->per_row && m->bits == 4 && m->zeros && rows % 8 == 0 &&
         m->scale != TN_DT_f32;
}

uint32_t pack_awq_parts(tn_dtype t, uint64_t rows, uint64_t k, tn_ck_part_out out[TN_CK_PACK_PARTS]) {
  pack_ints m;
  if (!awq_of(t, rows, k, &m)) return 0;
  uint32_t n = pack_matrix(out, 0, "qweight", TN_DT_i32, k, rows / 8);
  n = pack_matrix(out, n, "qzeros", TN_DT_i32, m.groups, rows / 8);
  return pack_matrix(out, n, "scales", m.scale, m.groups, rows);
}

/* Row r's values down column r / 8, in the nibble that is its. */
static void awq_column(const uint8_t *values, uint64_t n, uint64_t rows, uint64_t r, uint32_t *out) {
  static const uint8_t place[8] = {0, 4, 1, 5, 2, 6, 3, 7};
  for (uint64_t i = 0; i < n; i++) out[i * (rows / 8) + r / 8] |= (uint32_t)values[i] << 4 * place[r % 8];
}

static void put_awq(const pack_ints *m, uint64_t row, const uint8_t *codes, void *out) {
  awq_column(codes, m->k, m->rows, row, out);
}

static tn_status awq_zeros(const pack_ints *m, const uint8_t *blocks, uint32_t *out) {
  uint8_t *z = tn_mem_alloc(m->groups);
  tn_status s = z ? TN_OK : TN_OOM;
  for (uint64_t r = 0; s == TN_OK && r < m->rows; r++) {
    s = pack_ints_zeros(m, blocks + r * m->row_bytes, z);
    if (s == TN_OK) awq_column(z, m->groups, m->rows, r, out);
  }
  tn_mem_free(z);
  return s;
}

tn_status pack_awq_split(tn_dtype t, uint64_t rows, uint64_t k, const uint8_t *blocks, uint32_t part,
                         void *out) {
  pack_ints m;
  if (!awq_of(t, rows, k, &m) || part > 2) return TN_INVALID;
  if (part == 2) return split_scales(&m, blocks, true, out);
  memset(out, 0, (part ? m.groups : k) * (rows / 8) * 4);
  return part ? awq_zeros(&m, blocks, out) : each_row(&m, blocks, put_awq, out);
}

tn_status pack_awq_config(tn_dtype t, const char *const *ignored, uint32_t nignored, tn_buf *out) {
  pack_ints m;
  if (!pack_ints_of(t, 8, 256, &m) || m.per_row) return TN_UNSUPPORTED;
  tn_buf_printf(out,
                "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": %llu, \"zero_point\": true, "
                "\"version\": \"gemm\", ",
                (unsigned long long)m.group);
  pack_names(out, "modules_to_not_convert", ignored, nignored);
  tn_buf_puts(out, "}");
  return pack_config_done(out);
}
