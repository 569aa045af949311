/* test_pack.c - blocks laid out as packed checkpoints (frontend/checkpoint/pack.h) and made into blocks again
 * by the forms that read such checkpoints, which tests/packed checks against the methods' own packages: bit
 * for bit, for every layout and every type that it has a place for. */
#include "frontend/checkpoint/pack.h"
#include "frontend/forms/forms.h"
#include "ir/quant/encode.h"
#include "ir/ir.h"
#include "ir/quant/quant.h"
#include <check.h>
#include <math.h>

enum { ROWS = 96, K = 512 };

/* ---- random blocks ---- */

static uint32_t state;
static uint32_t next(void) {
  state = state * 1664525u + 1013904223u;
  return state >> 8;
}

static bool is_row(const tn_quant *q) { return tn_str_ends(tn_str_of(q->name), "_row"); }
static bool is_int(const tn_quant *q) { return q->level == TN_QL_INT || q->level == TN_QL_SIGNED; }

static void put_number(uint8_t *at, uint8_t kind, float x) {
  uint16_t h = kind == TN_QN_BF16 ? tn_f32_to_bf16(x) : tn_f32_to_f16(x);
  if (kind == TN_QN_F32)
    memcpy(at, &x, sizeof x);
  else if (kind == TN_QN_F16 || kind == TN_QN_BF16)
    memcpy(at, &h, sizeof h);
}

static void set_zeros(const tn_quant *q, uint8_t *block, uint32_t zero) {
  uint32_t runs = q->sub ? q->values / q->sub : 1;
  for (uint32_t i = 0; i < runs * q->zero_bits; i++) {
    uint32_t at = 8u * q->zero_at + i, bit = (zero + i / q->zero_bits) & 3;
    block[at / 8] &= (uint8_t)~(1u << at % 8);
    block[at / 8] |= (uint8_t)((i % q->zero_bits < 2 ? bit >> i % q->zero_bits & 1 : 0) << at % 8);
  }
}

/* Any codes; scales that are numbers; zeros from 0 to 3, which every type has, one for the row where the type
 * is of rows. */
static void fill_row(const tn_quant *q, uint8_t *row) {
  uint32_t zero = next();
  for (uint32_t b = 0; b < K / q->values; b++, row += q->bytes) {
    for (uint32_t i = 0; i < q->bytes; i++) row[i] = (uint8_t)next();
    if (q->inner == TN_QI_F16 || q->inner == TN_QI_BF16)
      for (uint32_t r = 0; r < q->values / q->sub; r++)
        put_number(row + q->inner_at + 2 * r, q->inner == TN_QI_F16 ? TN_QN_F16 : TN_QN_BF16,
                   0.01f + (float)(next() % 100));
    put_number(row + q->d_at, q->d, 0.01f + (float)(next() % 100));
    for (uint32_t r = 0; q->inner == TN_QI_UE4M3_HALF && r < 4; r++) row[r] = (uint8_t)(next() % 0x7f);
    if (q->zero_bits) set_zeros(q, row, is_row(q) ? zero : next());
  }
  if (is_row(q)) put_number(row, TN_QN_F32, 0.01f + (float)(next() % 100));
}

static uint64_t row_bytes(const tn_quant *q) { return K / q->values * q->bytes + (is_row(q) ? 4 : 0); }

/* ---- reading back ---- */

typedef struct parts {
  uint8_t *bytes[TN_CK_PACK_PARTS];
  uint64_t size[TN_CK_PACK_PARTS];
  uint32_t count;
  uint8_t *joined;
} parts;

static tn_status read_joined(void *ctx, uint64_t off, void *dst, uint64_t len) {
  memcpy(dst, (uint8_t *)ctx + off, len);
  return TN_OK;
}

/* The parts that the form reads, in its order; `scale`: the part that stays out of rows' blocks. */
typedef struct reading {
  const char *layout, *form, *order; /* order: indices of the layout's parts */
} reading;
static const reading readings[] = {
    {"pack-quantized", "packed", "031"},
    {"int-quantized", "int8", "021"},
    {"gptq", "gptq v1", "012"},
    {"awq", "awq", "012"},
    {"float-quantized", NULL, "0"},
    {"mxfp4-pack-quantized", "mxfp4", "01"},
    {"nvfp4-pack-quantized", "nvfp4", "01"},
    {"mxfp4", "mxfp4", "01"},
    {"bitsandbytes", "bnb4", "01"},
};

static const reading *reading_of(const char *layout) {
  for (size_t i = 0; i < TN_COUNT(readings); i++)
    if (!strcmp(readings[i].layout, layout)) return &readings[i];
  return NULL;
}

/* The type that readers make: GPTQ has no codes without zeros. */
static tn_dtype read_type(const reading *r, tn_dtype t) {
  char name[32];
  const tn_quant *q = tn_quant_of(t);
  snprintf(name, sizeof name, "%s", q->name);
  if (!strcmp(name, "q8_0")) snprintf(name, sizeof name, "s8_32");
  if (!strcmp(r->layout, "gptq") && name[0] == 's') name[0] = 'u';
  for (uint32_t i = 0; i < tn_quant_count(); i++)
    if (!strcmp(tn_quant_of(TN_DT_BLOCK + (tn_dtype)i)->name, name)) return TN_DT_BLOCK + (tn_dtype)i;
  return t;
}

static void split_all(const tn_ck_pack *p, tn_dtype t, const uint8_t *blocks, parts *out) {
  tn_ck_part_out shapes[TN_CK_PACK_PARTS];
  out->count = p->parts(t, ROWS, K, shapes);
  for (uint32_t i = 0; i < out->count; i++) {
    out->size[i] = tn_ir_dtype_info(shapes[i].dtype)->bits / 8;
    for (uint32_t d = 0; d < shapes[i].rank; d++) out->size[i] *= (uint64_t)shapes[i].shape[d];
    out->bytes[i] = tn_mem_alloc(out->size[i] + 16);
    memset(out->bytes[i], 0xa5, out->size[i] + 16); /* written whole, and nothing behind it */
    ck_assert_int_eq(p->split(t, ROWS, K, blocks, i, out->bytes[i]), TN_OK);
    for (uint32_t b = 0; b < 16; b++) ck_assert_int_eq(out->bytes[i][out->size[i] + b], 0xa5);
  }
  ck_assert_int_eq(p->split(t, ROWS, K, blocks, out->count, out->bytes[0]), TN_INVALID);
}

static void parts_fini(parts *p) {
  for (uint32_t i = 0; i < p->count; i++) tn_mem_free(p->bytes[i]);
  tn_mem_free(p->joined);
}

/* The blocks that the form makes of the parts. */
static uint8_t *read_back(const reading *r, tn_dtype t, parts *p) {
  const tn_quant *q = tn_quant_of(t);
  uint64_t row = K / q->values * q->bytes, at = 0, total = 0;
  tn_part list[4];
  tn_diags diags = {0};
  tn_form *form = NULL;
  uint8_t *out = tn_mem_alloc(ROWS * row);
  for (uint32_t i = 0; i < p->count; i++) total += p->size[i];
  p->joined = tn_mem_alloc(total);
  uint32_t n = 0;
  for (const char *c = r->order; *c; c++) {
    uint32_t i = (uint32_t)(*c - '0');
    bool scale = is_int(q) && is_row(q) && i == 1; /* NAME@scale */
    if (i >= p->count || (i == 3 && !q->zero_bits) || scale) continue;
    memcpy(p->joined + at, p->bytes[i], p->size[i]);
    list[n++] = (tn_part){"x", at, p->size[i]};
    at += p->size[i];
  }
  if (!r->form || (n == 1 && !strcmp(r->form, "int8"))) { /* the part is the blocks */
    memcpy(out, p->joined, ROWS * row);
    return out;
  }
  tn_form_spec s = {"x", r->form, t, 2, {ROWS, K}, list, n, {p->joined, read_joined}};
  tn_diags_init(&diags);
  ck_assert_msg(tn_form_open(&s, &diags, &form) == TN_OK, "%s %s", r->layout, q->name);
  ck_assert_int_eq(tn_form_read(form, 0, out, ROWS * row), TN_OK);
  tn_form_close(form);
  tn_diags_fini(&diags);
  return out;
}

static void expect_same(const tn_quant *from, const uint8_t *a, const tn_quant *to, const uint8_t *b) {
  float x[512], y[512];
  ck_assert_uint_eq(from->values, to->values);
  if (from == to && from->inner != TN_QI_UE4M3_HALF) ck_assert_mem_eq(a, b, from->bytes);
  tn_quant_unpack(from, a, x);
  tn_quant_unpack(to, b, y);
  ck_assert_mem_eq(x, y, from->values * sizeof *x);
}

static void check_scales(const tn_quant *q, const uint8_t *blocks, const parts *p) {
  for (uint64_t i = 0; is_row(q) && i < ROWS; i++)
    ck_assert_mem_eq(blocks + i * row_bytes(q) + K / q->values * q->bytes, p->bytes[1] + 4 * i, 4);
}

START_TEST(test_round_trip) {
  const tn_ck_pack *pack = &tn_ck_packs[_i];
  const reading *r = reading_of(pack->name);
  tn_ck_part_out shapes[TN_CK_PACK_PARTS];
  uint32_t types = 0;
  ck_assert_ptr_nonnull(r);
  for (uint32_t i = 0; i < tn_quant_count(); i++) {
    tn_dtype t = TN_DT_BLOCK + (tn_dtype)i, made = read_type(r, t);
    const tn_quant *q = tn_quant_of(t), *m = tn_quant_of(made);
    if (!pack->parts(t, ROWS, K, shapes)) continue;
    state = 7 + i;
    types++;
    uint8_t *blocks = tn_mem_alloc(ROWS * row_bytes(q));
    for (uint64_t row = 0; row < ROWS; row++) fill_row(q, blocks + row * row_bytes(q));
    parts p = {0};
    split_all(pack, t, blocks, &p);
    uint8_t *back = read_back(r, made, &p);
    check_scales(q, blocks, &p);
    for (uint64_t row = 0; row < ROWS; row++)
      for (uint32_t b = 0; b < K / q->values && q->values == m->values; b++)
        expect_same(q, blocks + row * row_bytes(q) + b * q->bytes, m,
                    back + row * (K / m->values) * m->bytes + b * m->bytes);
    parts_fini(&p);
    tn_mem_free(blocks);
    tn_mem_free(back);
  }
  ck_assert_uint_ge(types, 1);
}
END_TEST

/* A zero that the layout's bits cannot hold is an error, not another number. */
START_TEST(test_zero_too_large) {
  tn_dtype t = 0;
  uint8_t blocks[8 * 4 * 67], out[8 * 512];
  for (uint32_t i = 0; i < tn_quant_count(); i++)
    if (!strcmp(tn_quant_of(TN_DT_BLOCK + (tn_dtype)i)->name, "u4_128")) t = TN_DT_BLOCK + (tn_dtype)i;
  memset(blocks, 0, sizeof blocks);
  blocks[5 * 67 + 2] = 16;
  ck_assert_int_eq(tn_ck_pack_named("pack-quantized")->split(t, 8, 512, blocks, 3, out), TN_INVALID);
  ck_assert_int_eq(tn_ck_pack_named("awq")->split(t, 8, 512, blocks, 1, out), TN_INVALID);
  blocks[5 * 67 + 2] = 15;
  ck_assert_int_eq(tn_ck_pack_named("pack-quantized")->split(t, 8, 512, blocks, 3, out), TN_OK);
}
END_TEST

START_TEST(test_choice) {
  static const char *const want[][2] = {{"s4_128", "pack-quantized"}, {"u4_32_bf16", "pack-quantized"},
                                        {"s8_row", "pack-quantized"}, {"f8_row", "float-quantized"},
                                        {"nf4_64", "bitsandbytes"},   {"mxfp4", "mxfp4-pack-quantized"},
                                        {"u3_128", "gptq"},           {"q4_k", NULL}};
  for (size_t w = 0; w < TN_COUNT(want); w++)
    for (uint32_t i = 0; i < tn_quant_count(); i++) {
      if (strcmp(tn_quant_of(TN_DT_BLOCK + (tn_dtype)i)->name, want[w][0])) continue;
      const tn_ck_pack *p = tn_ck_pack_for(TN_DT_BLOCK + (tn_dtype)i);
      ck_assert_pstr_eq(p ? p->name : NULL, want[w][1]);
    }
  ck_assert_ptr_null(tn_ck_pack_named("zip"));
}
END_TEST

START_TEST(test_config) {
  const char *ignored[] = {"lm_head.weight", "a.b\"c.weight"};
  for (uint32_t i = 0; i < tn_ck_pack_count; i++)
    for (uint32_t k = 0; k < tn_quant_count(); k++) {
      tn_ck_part_out shapes[TN_CK_PACK_PARTS];
      tn_buf text = {0};
      tn_arena arena;
      tn_diags diags;
      tn_json *j = NULL;
      if (!tn_ck_packs[i].parts(TN_DT_BLOCK + (tn_dtype)k, ROWS, K, shapes)) continue;
      tn_arena_init(&arena);
      tn_diags_init(&diags);
      ck_assert_int_eq(tn_ck_packs[i].config(TN_DT_BLOCK + (tn_dtype)k, ignored, 2, &text), TN_OK);
      ck_assert_msg(tn_json_parse(&arena, (tn_str){tn_buf_cstr(&text), text.len}, "x", &diags, &j) == TN_OK,
                    "%s", tn_buf_cstr(&text));
      ck_assert_ptr_nonnull(tn_json_get(j, "quant_method"));
      tn_buf_fini(&text);
      tn_diags_fini(&diags);
      tn_arena_fini(&arena);
    }
}
END_TEST

int main(void) {
  Suite *s = suite_create("pack");
  TCase *c = tcase_create("pack");
  tcase_add_loop_test(c, test_round_trip, 0, (int)tn_ck_pack_count);
  tcase_add_test(c, test_zero_too_large);
  tcase_add_test(c, test_choice);
  tcase_add_test(c, test_config);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
