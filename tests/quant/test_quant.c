/* test_quant.c - every row of ir/quant/quant.def against vectors/TYPE.bin (make_vectors.py): blocks, then
 * their values, bit by bit. A row without a file fails. */
#include "backends/ref/ref.h"
#include "ir/base/base.h"
#include "ir/quant/quant.h"
#include <check.h>
#include <stdlib.h>

static void check_values(const tn_quant *q, const float *got, const uint8_t *want, uint64_t n) {
  for (uint64_t i = 0; i < n; i++) {
    float w;
    memcpy(&w, want + i * sizeof w, sizeof w);
    ck_assert_msg(!memcmp(&got[i], &w, sizeof w), "%s: value %llu of block %llu is %a, not %a", q->name,
                  (unsigned long long)(i % q->values), (unsigned long long)(i / q->values), (double)got[i],
                  (double)w);
  }
}

START_TEST(row_is_exact) {
  tn_dtype type = TN_DT_BLOCK + (tn_dtype)_i;
  const tn_quant *q = tn_quant_of(type);
  tn_arena a;
  tn_file f;
  const char *why = "";
  tn_arena_init(&a);
  char *path = tn_arena_printf(&a, "%s/tests/quant/vectors/%s.bin", TN_SOURCE_DIR, q->name);
  ck_assert_msg(tn_file_map(&f, path, &why) == TN_OK, "%s: %s", path, why);
  uint64_t one = q->bytes + q->values * sizeof(float), n = f.size / one;
  ck_assert_msg(n >= 4 && n * one == f.size, "%s has %llu bytes, not a multiple of %llu", path,
                (unsigned long long)f.size, (unsigned long long)one);
  float *got = malloc(n * q->values * sizeof *got);
  uint8_t *blocks = malloc(n * q->bytes); /* exactly them, for sanitizers */
  ck_assert(got && blocks);
  memcpy(blocks, f.data, n * q->bytes);
  ck_assert_int_eq(tn_ref_dequant(type, blocks, got, (int64_t)(n * q->values)), TN_OK);
  check_values(q, got, f.data + n * q->bytes, n * q->values);
  free(blocks);
  free(got);
  tn_file_unmap(&f);
  tn_arena_fini(&a);
}
END_TEST

/* Codes fill their bits and no more; planes, scales and zeros lie inside the block. */
START_TEST(row_is_sound) {
  const tn_quant *q = tn_quant_of(TN_DT_BLOCK + (tn_dtype)_i);
  uint32_t bits = 0;
  ck_assert(q->values && q->bytes && q->values <= 256);
  ck_assert(!q->sub || q->values % q->sub == 0);
  if (q->level == TN_QL_GRID || q->level == TN_QL_TRITS) return;
  for (size_t i = 0; i < TN_COUNT(q->plane) && q->plane[i].bits; i++) {
    const tn_quant_plane *p = &q->plane[i];
    ck_assert(p->bits * p->slots <= 8 && q->values % (p->run * p->slots) == 0);
    ck_assert_uint_le(p->at + q->values / p->slots, q->bytes);
    bits += p->bits;
  }
  ck_assert(bits >= 1 && bits <= 8);
  ck_assert(q->level != TN_QL_TABLE || (q->table && bits <= 4));
}
END_TEST

START_TEST(no_row_past_the_last) {
  ck_assert_ptr_null(tn_quant_of(TN_DT_f32));
  ck_assert_ptr_null(tn_quant_of(TN_DT_BLOCK + tn_quant_count()));
  float out[256];
  ck_assert_int_eq(tn_ref_dequant(TN_DT_BLOCK + tn_quant_count(), "", out, 0), TN_UNSUPPORTED);
}
END_TEST

int main(void) {
  Suite *s = suite_create("quant");
  TCase *t = tcase_create("rows");
  tcase_add_loop_test(t, row_is_exact, 0, (int)tn_quant_count());
  tcase_add_loop_test(t, row_is_sound, 0, (int)tn_quant_count());
  tcase_add_test(t, no_row_past_the_last);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
