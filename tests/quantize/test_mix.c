/* test_mix.c - the knapsack against all combinations of small problems, and schemes looked up by name. */
#include "passes/quantize/mix.h"
#include "passes/quantize/scheme.h"
#include <check.h>
#include <math.h>

enum { ITEMS = 5, OPTIONS = 4, PROBLEMS = 400 };

typedef struct problem {
  tn_mix_option options[ITEMS][OPTIONS];
  tn_mix_item items[ITEMS];
} problem;

static uint32_t draw(uint64_t *counter) {
  uint32_t r[4];
  tn_philox((*counter)++, 7, r);
  return r[0];
}

/* Costs that fall with the bytes, as errors do, and some that do not. */
static void make(problem *p, uint64_t *counter) {
  for (int i = 0; i < ITEMS; i++) {
    double scale = 1 + draw(counter) % 50;
    for (int k = 0; k < OPTIONS; k++) {
      uint64_t bytes = 10 + draw(counter) % 90;
      bool odd = draw(counter) % 8 == 0;
      p->options[i][k] = (tn_mix_option){bytes, odd ? scale : scale * exp(-(double)bytes / 20)};
    }
    p->items[i] = (tn_mix_item){p->options[i], OPTIONS};
  }
}

static void total(const problem *p, const uint32_t *chosen, uint64_t *bytes, double *cost) {
  *bytes = 0, *cost = 0;
  for (int i = 0; i < ITEMS; i++) {
    *bytes += p->options[i][chosen[i]].bytes;
    *cost += p->options[i][chosen[i]].cost;
  }
}

/* The least cost of all combinations within the budget; infinity: none fits. */
static double exhaustive(const problem *p, uint64_t budget) {
  double best = INFINITY;
  for (uint32_t code = 0; code < 1024; code++) { /* OPTIONS ^ ITEMS */
    uint32_t chosen[ITEMS];
    uint64_t bytes;
    double cost;
    for (int i = 0; i < ITEMS; i++) chosen[i] = code >> 2 * i & 3;
    total(p, chosen, &bytes, &cost);
    if (bytes <= budget && cost < best) best = cost;
  }
  return best;
}

START_TEST(near_the_optimum) {
  uint64_t counter = 0;
  double sum = 0, optimum = 0;
  for (int n = 0; n < PROBLEMS; n++) {
    problem p;
    uint32_t chosen[ITEMS];
    uint64_t bytes;
    double cost;
    make(&p, &counter);
    uint64_t budget = 60 + draw(&counter) % 400;
    double best = exhaustive(&p, budget);
    tn_status s = tn_mix_solve(p.items, ITEMS, budget, chosen);
    ck_assert_int_eq(s, isfinite(best) ? TN_OK : TN_NOT_FOUND);
    if (s) continue;
    total(&p, chosen, &bytes, &cost);
    ck_assert_uint_le(bytes, budget);
    ck_assert_double_ge(cost, best - 1e-9);
    sum += cost, optimum += best;
  }
  ck_assert_double_gt(optimum, 0);
  ck_assert_double_le(sum, 1.08 * optimum); /* five items: the last step weighs much */
}
END_TEST

/* Where one budget is filled exactly by steps along the hulls, nothing is better. */
START_TEST(exact_on_hulls) {
  static const tn_mix_option a[] = {{10, 8}, {20, 4}, {30, 2}}, b[] = {{10, 100}, {30, 20}, {50, 15}};
  static const tn_mix_item items[] = {{a, 3}, {b, 3}};
  uint32_t chosen[2];
  ck_assert_int_eq(tn_mix_solve(items, 2, 50, chosen), TN_OK);
  ck_assert_uint_eq(chosen[0], 1);
  ck_assert_uint_eq(chosen[1], 1);
  ck_assert_int_eq(tn_mix_solve(items, 2, 20, chosen), TN_OK);
  ck_assert_uint_eq(chosen[0], 0);
  ck_assert_uint_eq(chosen[1], 0);
  ck_assert_int_eq(tn_mix_solve(items, 2, 19, chosen), TN_NOT_FOUND);
  ck_assert_int_eq(tn_mix_solve(items, 2, UINT64_MAX / 2, chosen), TN_OK);
  ck_assert_uint_eq(chosen[0], 2);
  ck_assert_uint_eq(chosen[1], 2);
}
END_TEST

START_TEST(no_memory) {
  static const tn_mix_option a[] = {{10, 8}, {20, 4}, {30, 2}};
  static const tn_mix_item items[] = {{a, 3}};
  uint32_t chosen[1];
  tn_status s = TN_OOM;
  for (long n = 0; s == TN_OOM && n < 10; n++) {
    tn_mem_fail_after(n);
    s = tn_mix_solve(items, 1, 100, chosen);
  }
  tn_mem_fail_after(-1);
  ck_assert_int_eq(s, TN_OK);
}
END_TEST

START_TEST(names_of_schemes) {
  for (uint32_t i = 0; i < tn_scheme_count(); i++) {
    const tn_scheme *s = tn_scheme_at(i);
    ck_assert_ptr_eq(tn_scheme_find(s->name), s);
    for (uint32_t k = 0; k < i; k++) ck_assert_str_ne(s->name, tn_scheme_at(k)->name);
  }
  ck_assert_ptr_null(tn_scheme_at(tn_scheme_count()));
  ck_assert_str_eq(tn_scheme_find("q4_k")->name, "Q4_K_M");
  ck_assert_str_eq(tn_scheme_find("iq2_xxs")->name, "IQ2_XXS");
  ck_assert_ptr_null(tn_scheme_find("Q4_K_XL"));
  ck_assert_ptr_null(tn_scheme_find(""));
  const tn_scheme *int4 = tn_scheme_find("int4"), *int8 = tn_scheme_find("int8");
  ck_assert_uint_eq(tn_scheme_group_type(int4, 32, true), tn_ir_dtype_by_name("u4_32"));
  ck_assert_uint_eq(tn_scheme_group_type(int4, 0, false), tn_ir_dtype_by_name("s4_row"));
  ck_assert_uint_eq(tn_scheme_group_type(int8, 64, false), tn_ir_dtype_by_name("s8_64"));
  ck_assert_uint_eq(tn_scheme_group_type(int4, 48, false), 0);
}
END_TEST

int main(void) {
  Suite *s = suite_create("mix");
  TCase *t = tcase_create("all");
  tcase_add_test(t, near_the_optimum);
  tcase_add_test(t, exact_on_hulls);
  tcase_add_test(t, no_memory);
  tcase_add_test(t, names_of_schemes);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
