/* pack.c - the list of packed layouts, and blocks of integers taken apart: what ir/quant/quant.def says of a
 * type decides, so a new type needs no line here. */
#include "frontend/checkpoint/pack_layouts.h"

const tn_ck_pack tn_ck_packs[] = {
    {"pack-quantized", "compressed-tensors: integers of 2, 4 or 8 bits in words", pack_packed_parts,
     pack_packed_split, pack_packed_config},
    {"float-quantized", "compressed-tensors: 8-bit floats, a scale for each row", pack_f8_parts,
     pack_f8_split, pack_f8_config},
    {"mxfp4-pack-quantized", "compressed-tensors: OCP Microscaling fp4", pack_mxfp4_parts, pack_mxfp4_split,
     pack_mxfp4_config},
    {"nvfp4-pack-quantized", "compressed-tensors: fp4 with a scale for each 16", pack_nvfp4_parts,
     pack_nvfp4_split, pack_nvfp4_config},
    {"bitsandbytes", "bitsandbytes: nf4 and fp4 in blocks of 64", pack_bnb4_parts, pack_bnb4_split,
     pack_bnb4_config},
    {"int-quantized", "compressed-tensors: bytes, activations in 8 bits too (W8A8)", pack_int8_parts,
     pack_int8_split, pack_int8_config},
    {"gptq", "GPTQ: words of codes along the columns", pack_gptq_parts, pack_gptq_split, pack_gptq_config},
    {"awq", "AWQ (gemm): nibbles along the rows", pack_awq_parts, pack_awq_split, pack_awq_config},
    {"mxfp4", "gpt-oss: NAME_blocks and NAME_scales", pack_oss_parts, pack_oss_split, pack_oss_config},
};
const uint32_t tn_ck_pack_count = TN_COUNT(tn_ck_packs);

const tn_ck_pack *tn_ck_pack_named(const char *name) {
  for (uint32_t i = 0; i < tn_ck_pack_count; i++)
    if (!strcmp(tn_ck_packs[i].name, name)) return &tn_ck_packs[i];
  return NULL;
}

const tn_ck_pack *tn_ck_pack_for(tn_dtype t) {
  tn_ck_part_out parts[TN_CK_PACK_PARTS];
  for (uint32_t i = 0; i < tn_ck_pack_count; i++)
    if (tn_ck_packs[i].parts(t, 256, 256, parts)) return &tn_ck_packs[i];
  return NULL;
}

/* ---- parts ---- */

uint32_t pack_part(tn_ck_part_out *parts, uint32_t n, const char *suffix, tn_dtype t, uint32_t rank,
                   const int64_t *shape) {
  parts[n] = (tn_ck_part_out){.suffix = suffix, .dtype = t, .rank = rank};
  memcpy(parts[n].shape, shape, rank * sizeof *shape);
  return n + 1;
}

uint32_t pack_matrix(tn_ck_part_out *parts, uint32_t n, const char *suffix, tn_dtype t, uint64_t rows,
                     uint64_t columns) {
  return pack_part(parts, n, suffix, t, 2, (int64_t[]){(int64_t)rows, (int64_t)columns});
}

/* ---- integers ---- */

static bool scale_of(const tn_quant *q, pack_ints *m) {
  if (q->inner != TN_QI_NONE && (q->d != TN_QN_ONE || (q->inner != TN_QI_F16 && q->inner != TN_QI_BF16)))
    return false;
  m->per_row = q->inner == TN_QI_NONE && q->d == TN_QN_ONE;
  m->scale = q->inner == TN_QI_F16 || q->d == TN_QN_F16     ? TN_DT_f16
             : q->inner == TN_QI_BF16 || q->d == TN_QN_BF16 ? TN_DT_bf16
                                                            : TN_DT_f32;
  m->scale_bytes = m->scale == TN_DT_f32 ? 4 : 2;
  return m->per_row || q->inner != TN_QI_NONE || q->d == TN_QN_F16 || q->d == TN_QN_BF16 || q->d == TN_QN_F32;
}

bool pack_ints_of(tn_dtype t, uint64_t rows, uint64_t k, pack_ints *m) {
  const tn_quant *q = tn_quant_of(t);
  *m = (pack_ints){.q = q, .rows = rows, .k = k};
  if (!q || !k || k % q->values || k % 32 || (q->level != TN_QL_INT && q->level != TN_QL_SIGNED))
    return false;
  if (q->grid || q->m != TN_QN_ONE || q->m_sign || !scale_of(q, m)) return false;
  for (size_t i = 0; i < TN_COUNT(q->plane) && q->plane[i].bits; i++) {
    if (q->plane[i].run != 1) return false;
    m->bits += q->plane[i].bits;
  }
  m->is_signed = q->level == TN_QL_SIGNED;
  m->zeros = q->zero_bits != 0;
  if (m->bits > 8 || (!m->zeros && !m->is_signed && q->bias != 1u << (m->bits - 1))) return false;
  m->group = m->per_row ? k : q->sub ? q->sub : q->values;
  m->groups = k / m->group;
  m->row_bytes = k / q->values * q->bytes + (m->per_row ? sizeof(float) : 0);
  return true;
}

void pack_ints_codes(const pack_ints *m, const uint8_t *row, uint8_t *codes) {
  const tn_quant *q = m->q;
  memset(codes, 0, m->k);
  for (uint64_t b = 0; b < m->k / q->values; b++, row += q->bytes, codes += q->values) {
    uint32_t shift = 0;
    for (const tn_quant_plane *p = q->plane; p < q->plane + TN_COUNT(q->plane) && p->bits; p++) {
      uint32_t mask = (1u << p->bits) - 1;
      for (uint32_t i = 0; i < q->values; i++)
        codes[i] |= (uint8_t)((row[p->at + i / p->slots] >> i % p->slots * p->bits & mask) << shift);
      shift += p->bits;
    }
    if (m->is_signed)
      for (uint32_t i = 0; i < q->values; i++) codes[i] ^= (uint8_t)(1u << (m->bits - 1));
  }
}

tn_status pack_ints_zeros(const pack_ints *m, const uint8_t *row, uint8_t *zeros) {
  const tn_quant *q = m->q;
  uint64_t blocks = m->k / q->values, per = m->per_row ? 1 : q->values / m->group;
  if (!m->zeros) {
    memset(zeros, 1 << (m->bits - 1), m->groups);
    return TN_OK;
  }
  for (uint64_t b = 0; b < blocks; b++, row += q->bytes)
    for (uint64_t j = 0; j < per; j++) {
      uint64_t bit = 8u * q->zero_at + j * q->zero_bits;
      uint32_t z = row[bit / 8] >> bit % 8 & ((1u << q->zero_bits) - 1);
      uint8_t *to = zeros + (m->per_row ? 0 : b * per + j);
      if (z >> m->bits || (m->per_row && b && *to != z)) return TN_INVALID;
      *to = (uint8_t)z;
    }
  return TN_OK;
}

void pack_ints_scales(const pack_ints *m, const uint8_t *row, uint8_t *scales) {
  const tn_quant *q = m->q;
  uint64_t blocks = m->k / q->values, n = q->values / (m->per_row ? q->values : m->group) * m->scale_bytes;
  if (m->per_row) {
    memcpy(scales, row + blocks * q->bytes, sizeof(float));
    return;
  }
  for (uint64_t b = 0; b < blocks; b++)
    memcpy(scales + b * n, row + b * q->bytes + (q->inner ? q->inner_at : q->d_at), n);
}

/* ---- quantization_config ---- */

void pack_names(tn_buf *out, const char *key, const char *const *names, uint32_t count) {
  tn_buf_printf(out, "\"%s\": [", key);
  for (uint32_t i = 0; i < count; i++) {
    tn_str s = tn_str_of(names[i]);
    if (tn_str_ends(s, ".weight")) s.len -= strlen(".weight");
    if (i) tn_buf_puts(out, ", ");
    tn_buf_json(out, s);
  }
  tn_buf_puts(out, "]");
}

tn_status pack_config_done(const tn_buf *out) { return out->failed ? TN_OOM : TN_OK; }
