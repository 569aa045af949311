/* pack_floats.c - codes that are small floats: fp8 with a scale per row, MXFP4, NVFP4, bitsandbytes' nf4 and
 * fp4. frontend/forms/floats.c reads the same back. */
#include "frontend/checkpoint/pack_layouts.h"

/* The type is this row of quant.def, and rows of k are whole blocks. */
static const tn_quant *row_of(tn_dtype t, uint64_t k, const char *name) {
  const tn_quant *q = tn_quant_of(t);
  return q && !strcmp(q->name, name) && k && k % q->values == 0 ? q : NULL;
}

static tn_status compressed_config(const char *format, const char *weights, const char *const *ignored,
                                   uint32_t nignored, tn_buf *out) {
  tn_buf_printf(out,
                "{\"quant_method\": \"compressed-tensors\", \"format\": \"%s\", \"quantization_status\": "
                "\"compressed\", \"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], \"weights\": "
                "{\"type\": \"float\", \"symmetric\": true, %s}, \"input_activations\": null, "
                "\"output_activations\": null}}, ",
                format, weights);
  pack_names(out, "ignore", ignored, nignored);
  tn_buf_puts(out, ", \"kv_cache_scheme\": null}");
  return pack_config_done(out);
}

/* ---- fp8: numbers [rows, k], scales [rows, 1] ---- */

uint32_t pack_f8_parts(tn_dtype t, uint64_t rows, uint64_t k, tn_ck_part_out out[TN_CK_PACK_PARTS]) {
  if (!row_of(t, k, "f8_row")) return 0;
  uint32_t n = pack_matrix(out, 0, "weight", TN_DT_f8e4m3, rows, k);
  return pack_matrix(out, n, "weight_scale", TN_DT_f32, rows, 1);
}

tn_status pack_f8_split(tn_dtype t, uint64_t rows, uint64_t k, const uint8_t *blocks, uint32_t part,
                        void *out) {
  uint8_t *to = out;
  if (!row_of(t, k, "f8_row") || part > 1) return TN_INVALID;
  for (uint64_t i = 0; i < rows; i++, blocks += k + sizeof(float))
    if (part)
      memcpy(to + i * sizeof(float), blocks + k, sizeof(float));
    else
      memcpy(to + i * k, blocks, k);
  return TN_OK;
}

tn_status pack_f8_config(tn_dtype t, const char *const *ignored, uint32_t nignored, tn_buf *out) {
  (void)t;
  return compressed_config("float-quantized", "\"num_bits\": 8, \"strategy\": \"channel\"", ignored, nignored,
                           out);
}

/* ---- fp4: nibbles [rows, k / 2] in order, low ones first; a byte of scale for each `run` values ---- */

/* Low nibbles of the first half and high ones of the second, to nibbles in order. */
static void in_order(const uint8_t *in, uint32_t run, uint8_t *out) {
  for (uint32_t i = 0; i < run; i += 2) {
    uint32_t at = i % (run / 2), shift = i < run / 2 ? 0 : 4;
    out[i / 2] = (uint8_t)((in[at] >> shift & 15) | (in[at + 1] >> shift & 15) << 4);
  }
}

/* Codes (scales false) or scales of all blocks, which are runs' scales and then their codes. */
static void split_fp4(const tn_quant *q, uint64_t blocks, uint32_t run, const uint8_t *in, bool scales,
                      uint8_t *out) {
  uint32_t runs = q->values / run;
  for (uint64_t b = 0; b < blocks; b++, in += q->bytes)
    for (uint32_t j = 0; j < runs; j++)
      if (scales)
        out[b * runs + j] = in[j];
      else
        in_order(in + runs + j * run / 2, run, out + (b * runs + j) * run / 2);
}

uint32_t pack_mxfp4_parts(tn_dtype t, uint64_t rows, uint64_t k, tn_ck_part_out out[TN_CK_PACK_PARTS]) {
  if (!row_of(t, k, "mxfp4")) return 0;
  uint32_t n = pack_matrix(out, 0, "weight_packed", TN_DT_u8, rows, k / 2);
  return pack_matrix(out, n, "weight_scale", TN_DT_u8, rows, k / 32);
}

tn_status pack_mxfp4_split(tn_dtype t, uint64_t rows, uint64_t k, const uint8_t *blocks, uint32_t part,
                           void *out) {
  const tn_quant *q = row_of(t, k, "mxfp4");
  if (!q || part > 1) return TN_INVALID;
  split_fp4(q, rows * (k / q->values), 32, blocks, part == 1, out);
  return TN_OK;
}

tn_status pack_mxfp4_config(tn_dtype t, const char *const *ignored, uint32_t nignored, tn_buf *out) {
  (void)t;
  return compressed_config("mxfp4-pack-quantized",
                           "\"num_bits\": 4, \"strategy\": \"group\", \"group_size\": 32, \"scale_dtype\": "
                           "\"torch.uint8\", \"zp_dtype\": \"torch.uint8\"",
                           ignored, nignored, out);
}

uint32_t pack_nvfp4_parts(tn_dtype t, uint64_t rows, uint64_t k, tn_ck_part_out out[TN_CK_PACK_PARTS]) {
  if (!row_of(t, k, "nvfp4")) return 0;
  uint32_t n = pack_matrix(out, 0, "weight_packed", TN_DT_u8, rows, k / 2);
  n = pack_matrix(out, n, "weight_scale", TN_DT_f8e4m3, rows, k / 16);
  return pack_part(out, n, "weight_global_scale", TN_DT_f32, 1, (int64_t[]){1});
}

tn_status pack_nvfp4_split(tn_dtype t, uint64_t rows, uint64_t k, const uint8_t *blocks, uint32_t part,
                           void *out) {
  const tn_quant *q = row_of(t, k, "nvfp4");
  uint8_t *scales = out;
  if (!q || part > 2) return TN_INVALID;
  if (part == 2) return memcpy(out, (float[]){1}, sizeof(float)), TN_OK;
  split_fp4(q, rows * (k / q->values), 16, blocks, part == 1, out);
  for (uint64_t i = 0; part == 1 && i < rows * (k / 16); i++) {
    scales[i] &= 0x7f; /* blocks ignore bit 7, and 0x7f is 0 there */
    if (scales[i] == 0x7f) scales[i] = 0;
  }
  return TN_OK;
}

tn_status pack_nvfp4_config(tn_dtype t, const char *const *ignored, uint32_t nignored, tn_buf *out) {
  (void)t;
  return compressed_config("nvfp4-pack-quantized",
                           "\"num_bits\": 4, \"strategy\": \"tensor_group\", \"group_size\": 16, "
                           "\"scale_dtype\": \"torch.float8_e4m3fn\"",
                           ignored, nignored, out);
}

/* gpt-oss has the same bytes in blocks of 16. */
uint32_t pack_oss_parts(tn_dtype t, uint64_t rows, uint64_t k, tn_ck_part_out out[TN_CK_PACK_PARTS]) {
  if (!row_of(t, k, "mxfp4")) return 0;
  int64_t shape[3] = {(int64_t)rows, (int64_t)(k / 32), 16};
  uint32_t n = pack_part(out, 0, "weight_blocks", TN_DT_u8, 3, shape);
  return pack_part(out, n, "weight_scales", TN_DT_u8, 2, shape);
}

tn_status pack_oss_split(tn_dtype t, uint64_t rows, uint64_t k, const uint8_t *blocks, uint32_t part,
                         void *out) {
  return pack_mxfp4_split(t, rows, k, blocks, part, out);
}

tn_status pack_oss_config(tn_dtype t, const char *const *ignored, uint32_t nignored, tn_buf *out) {
  (void)t;
  tn_buf_puts(out, "{\"quant_method\": \"mxfp4\", ");
  pack_names(out, "modules_to_not_convert", ignored, nignored);
  tn_buf_puts(out, "}");
  return pack_config_done(out);
}

/* ---- bitsandbytes: nibbles in order, high ones first; f32 scales of 64; the levels; what a JSON text says
 * of them ---- */

static const tn_quant *bnb4_of(tn_dtype t, uint64_t k) {
  const tn_quant *q = row_of(t, k, "nf4_64");
  return q ? q : row_of(t, k, "fp4_64");
}

static int bnb4_state(const tn_quant *q, uint64_t rows, uint64_t k, char text[160]) {
  return snprintf(text, 160,
                  "{\"quant_type\": \"%.3s\", \"blocksize\": 64, \"dtype\": \"float32\", \"shape\": [%llu, "
                  "%llu]}",
                  q->name, (unsigned long long)rows, (unsigned long long)k);
}

uint32_t pack_bnb4_parts(tn_dtype t, uint64_t rows, uint64_t k, tn_ck_part_out out[TN_CK_PACK_PARTS]) {
  const tn_quant *q = bnb4_of(t, k);
  char text[160];
  if (!q) return 0;
  uint32_t n = pack_matrix(out, 0, "weight", TN_DT_u8, rows * k / 2, 1);
  n = pack_part(out, n, "weight.absmax", TN_DT_f32, 1, (int64_t[]){(int64_t)(rows * k / 64)});
  n = pack_part(out, n, "weight.quant_map", TN_DT_f32, 1, (int64_t[]){16});
  return pack_part(out, n,
                   *q->name == 'n' ? "weight.quant_state.bitsandbytes__nf4"
                                   : "weight.quant_state.bitsandbytes__fp4",
                   TN_DT_u8, 1, (int64_t[]){bnb4_state(q, rows, k, text)});
}

tn_status pack_bnb4_split(tn_dtype t, uint64_t rows, uint64_t k, const uint8_t *blocks, uint32_t part,
                          void *out) {
  const tn_quant *q = bnb4_of(t, k);
  uint8_t *to = out;
  char text[160];
  if (!q || part > 3) return TN_INVALID;
  if (part == 2) return memcpy(out, q->table, 16 * sizeof *q->table), TN_OK;
  if (part == 3) return memcpy(out, text, (size_t)bnb4_state(q, rows, k, text)), TN_OK;
  for (uint64_t b = 0; b < rows * (k / 64); b++, blocks += q->bytes)
    if (part)
      memcpy(to + b * 4, blocks, 4);
    else
      for (uint32_t i = 0; i < 32; i++) to[b * 32 + i] = (uint8_t)(blocks[4 + i] >> 4 | blocks[4 + i] << 4);
  return TN_OK;
}

tn_status pack_bnb4_config(tn_dtype t, const char *const *ignored, uint32_t nignored, tn_buf *out) {
  const tn_quant *q = tn_quant_of(t);
  tn_buf_printf(out,
                "{\"quant_method\": \"bitsandbytes\", \"load_in_4bit\": true, \"load_in_8bit\": false, "
                "\"bnb_4bit_quant_type\": \"%.3s\", \"bnb_4bit_use_double_quant\": false, "
                "\"bnb_4bit_quant_storage\": \"uint8\", \"bnb_4bit_compute_dtype\": \"float32\", ",
                q ? q->name : "");
  pack_names(out, "llm_int8_skip_modules", ignored, nignored);
  tn_buf_puts(out, "}");
  return pack_config_done(out);
}
