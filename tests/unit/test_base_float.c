/* test_base_float.c - narrow floats against PyTorch (float_cases.h), and every code of every format there and
 * back. */
#include "ir/base/base.h"
#include "tests/unit/float_cases.h"
#include <check.h>
#include <math.h>

static float of(uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

static uint32_t bits(float f) {
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  return isnan(f) ? 0x7fc00000 : u;
}

START_TEST(narrowing_is_as_in_pytorch) {
  for (size_t i = 0; i < TN_COUNT(float_cases); i++) {
    float f = of(float_cases[i].f32);
    ck_assert_msg(tn_f32_to_f16(f) == float_cases[i].f16, "f16 of %a: %04x", (double)f, tn_f32_to_f16(f));
    ck_assert_msg(tn_f32_to_bf16(f) == float_cases[i].bf16, "bf16 of %a: %04x", (double)f, tn_f32_to_bf16(f));
    ck_assert_msg(tn_f32_to_f8e4m3(f) == float_cases[i].e4m3, "e4m3 of %a: %02x", (double)f,
                  tn_f32_to_f8e4m3(f));
    ck_assert_msg(tn_f32_to_f8e5m2(f) == float_cases[i].e5m2, "e5m2 of %a: %02x", (double)f,
                  tn_f32_to_f8e5m2(f));
  }
}
END_TEST

START_TEST(eight_bit_codes_are_as_in_pytorch) {
  for (uint32_t c = 0; c < 256; c++) {
    ck_assert_uint_eq(bits(tn_f8e4m3_to_f32((uint8_t)c)), e4m3_values[c]);
    ck_assert_uint_eq(bits(tn_f8e5m2_to_f32((uint8_t)c)), e5m2_values[c]);
  }
}
END_TEST

START_TEST(every_code_comes_back) {
  for (uint32_t c = 0; c < 65536; c++) {
    float f = tn_f16_to_f32((uint16_t)c), g = tn_bf16_to_f32((uint16_t)c);
    if (!isnan(f))
      ck_assert_uint_eq(tn_f32_to_f16(f), c);
    else
      ck_assert(isnan(tn_f16_to_f32(tn_f32_to_f16(f))));
    if (!isnan(g))
      ck_assert_uint_eq(tn_f32_to_bf16(g), c);
    else
      ck_assert(isnan(tn_bf16_to_f32(tn_f32_to_bf16(g))));
    if (c > 255) continue;
    float h = tn_f8e4m3_to_f32((uint8_t)c), k = tn_f8e5m2_to_f32((uint8_t)c);
    if (!isnan(h))
      ck_assert_uint_eq(tn_f32_to_f8e4m3(h), c);
    else
      ck_assert(isnan(tn_f8e4m3_to_f32(tn_f32_to_f8e4m3(h))));
    if (!isnan(k))
      ck_assert_uint_eq(tn_f32_to_f8e5m2(k), c);
    else
      ck_assert(isnan(tn_f8e5m2_to_f32(tn_f32_to_f8e5m2(k))));
  }
}
END_TEST

#ifdef __FLT16_MAX__
/* The compiler's own conversion, over many bit patterns. */
START_TEST(f16_is_as_the_compilers) {
  for (uint64_t u = 0; u <= UINT32_MAX; u += 4093) {
    float f = of((uint32_t)u);
    _Float16 h = (_Float16)f;
    uint16_t code;
    memcpy(&code, &h, sizeof code);
    if (!isnan(f)) ck_assert_msg(tn_f32_to_f16(f) == code, "%a", (double)f);
  }
}
END_TEST
#endif

START_TEST(e4m3_saturates) {
  ck_assert_uint_eq(tn_f32_to_f8e4m3(INFINITY), 0x7e);
  ck_assert_uint_eq(tn_f32_to_f8e4m3(-1e9f), 0xfe);
  ck_assert_uint_eq(tn_f32_to_f8e4m3(463.0f), 0x7e);
  ck_assert_uint_eq(tn_f32_to_f8e5m2(INFINITY), 0x7c);
}
END_TEST

int main(void) {
  Suite *s = suite_create("float");
  TCase *t = tcase_create("float");
  tcase_set_timeout(t, 60);
  tcase_add_test(t, narrowing_is_as_in_pytorch);
  tcase_add_test(t, eight_bit_codes_are_as_in_pytorch);
  tcase_add_test(t, every_code_comes_back);
#ifdef __FLT16_MAX__
  tcase_add_test(t, f16_is_as_the_compilers);
#endif
  tcase_add_test(t, e4m3_saturates);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
