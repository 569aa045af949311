/* test_ir_dim.c - the algebra of dims against plain integer arithmetic: expressions built at random are
 * evaluated twice, from how they were built and from the normal form that the module keeps. */
#include "ir/ir.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static tn_diags diags;
static tn_module *m;
static tn_dim sym[4]; /* B C P S */
static int64_t at[4];
static const char *const names[4] = {"B", "C", "P", "S"};

static void setup(void) {
  tn_diags_init(&diags);
  m = tn_module_new(&diags);
  for (int i = 0; i < 4; i++) sym[i] = tn_ir_dim_sym(m, names[i]);
}

static void teardown(void) {
  tn_module_free(m);
  tn_diags_fini(&diags);
}

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

static int64_t apply(uint32_t kind, int64_t a, int64_t b) {
  switch (kind) {
  case TN_DIM_ADD: return a + b;
  case TN_DIM_MUL: return a * b;
  case TN_DIM_FLOORDIV: return floor_div(a, b);
  case TN_DIM_MOD: return a - b * floor_div(a, b);
  case TN_DIM_MIN: return a < b ? a : b;
  }
  return a > b ? a : b;
}

/* The value of a dim as the module shows it, with the symbols at `at`. */
static int64_t eval(tn_dim d) {
  tn_dim_info i;
  tn_ir_dim_get(m, d, &i);
  if (i.kind == TN_DIM_CONST) return i.value;
  for (int k = 0; i.kind == TN_DIM_SYM && k < 4; k++)
    if (!strcmp(i.symbol, names[k])) return at[k];
  return apply(i.kind, eval(i.a), eval(i.b));
}

static uint64_t seed = 1;
static uint32_t roll(uint32_t n) {
  uint32_t out[4];
  tn_philox(seed++, 42, out);
  return out[0] % n;
}

/* A random expression, as a dim and as its values at NPOINTS places. Divisors are positive at all of them. */
#define NPOINTS 12
static int64_t points[NPOINTS][4];
typedef struct expr {
  tn_dim d;
  int64_t v[NPOINTS];
} expr;

static expr combine(uint32_t kind, const expr *a, const expr *b) {
  expr e = {tn_ir_dim_make(m, kind, a->d, b->d), {0}};
  for (int i = 0; i < NPOINTS; i++) e.v[i] = apply(kind, a->v[i], b->v[i]);
  return e;
}

static expr leaf(void) {
  expr e = {0};
  uint32_t which = roll(7);
  int64_t c = (int64_t)roll(9) - 2;
  e.d = which < 4 ? sym[which] : tn_ir_dim_const(m, c);
  for (int i = 0; i < NPOINTS; i++) e.v[i] = which < 4 ? points[i][which] : c;
  return e;
}

static expr random_expr(uint32_t depth) {
  if (!depth || !roll(5)) return leaf();
  static const uint32_t kinds[] = {TN_DIM_ADD, TN_DIM_ADD, TN_DIM_MUL, TN_DIM_FLOORDIV,
                                   TN_DIM_MOD, TN_DIM_MIN, TN_DIM_MAX};
  uint32_t kind = kinds[roll(TN_COUNT(kinds))];
  expr a = random_expr(depth - 1), b = random_expr(depth - 1);
  bool divides = kind == TN_DIM_FLOORDIV || kind == TN_DIM_MOD;
  for (int i = 0; divides && i < NPOINTS; i++)
    if (b.v[i] <= 0) kind = TN_DIM_ADD, divides = false;
  for (int i = 0; kind == TN_DIM_MUL && i < NPOINTS; i++)
    if (llabs(a.v[i]) > 1 << 20 || llabs(b.v[i]) > 1 << 20) kind = TN_DIM_ADD;
  return combine(kind, &a, &b);
}

static void random_points(int64_t low) {
  for (int i = 0; i < NPOINTS; i++)
    for (int k = 0; k < 4; k++) points[i][k] = low + roll(i < 4 ? 4 : 40);
}

static const char *text(tn_dim d) {
  static tn_buf b[2];
  static int which;
  tn_buf *out = &b[which ^= 1];
  tn_buf_fini(out);
  tn_dim_print(m, d, out);
  return tn_buf_cstr(out);
}

START_TEST(normal_form_keeps_the_value) {
  for (int round = 0; round < 1200; round++) {
    random_points(1);
    expr e = random_expr(1 + roll(5));
    if (!e.d) { /* too large for the algebra: said so */
      ck_assert_uint_gt(diags.errors, 0);
      continue;
    }
    for (int i = 0; i < NPOINTS; i++) {
      memcpy(at, points[i], sizeof at);
      ck_assert_msg(eval(e.d) == e.v[i], "round %d: %s at B=%lld C=%lld P=%lld S=%lld: %lld, want %lld",
                    round, text(e.d), (long long)at[0], (long long)at[1], (long long)at[2], (long long)at[3],
                    (long long)eval(e.d), (long long)e.v[i]);
    }
  }
  ck_assert_uint_lt(diags.errors, 120);
}
END_TEST

/* Laws that hold for all integers must give the same id. */
START_TEST(equal_forms_have_equal_ids) {
  for (int round = 0; round < 500; round++) {
    random_points(1);
    tn_dim a = random_expr(1 + roll(3)).d, b = random_expr(1 + roll(3)).d, c = random_expr(1 + roll(2)).d;
    tn_dim two = tn_ir_dim_const(m, 2), three = tn_ir_dim_const(m, 3);
    if (!a || !b || !c) continue;
    ck_assert_uint_eq(tn_dim_add(m, a, b), tn_dim_add(m, b, a));
    ck_assert_uint_eq(tn_dim_add(m, tn_dim_add(m, a, b), c), tn_dim_add(m, a, tn_dim_add(m, b, c)));
    ck_assert_uint_eq(tn_dim_mul(m, a, b), tn_dim_mul(m, b, a));
    ck_assert_uint_eq(tn_dim_mul(m, tn_dim_mul(m, a, b), c), tn_dim_mul(m, a, tn_dim_mul(m, b, c)));
    ck_assert_uint_eq(tn_dim_mul(m, a, tn_dim_add(m, b, c)),
                      tn_dim_add(m, tn_dim_mul(m, a, b), tn_dim_mul(m, a, c)));
    ck_assert_uint_eq(tn_dim_sub(m, tn_dim_add(m, a, b), a), b);
    ck_assert_uint_eq(tn_ir_dim_make(m, TN_DIM_FLOORDIV, tn_dim_mul(m, a, two), two), a);
    ck_assert_uint_eq(tn_ir_dim_make(m, TN_DIM_MOD, tn_dim_add(m, tn_dim_mul(m, a, three), two), three), two);
    for (uint32_t kind = TN_DIM_MIN; kind <= TN_DIM_MAX; kind++) {
      ck_assert_uint_eq(tn_ir_dim_make(m, kind, a, b), tn_ir_dim_make(m, kind, b, a));
      ck_assert_uint_eq(tn_ir_dim_make(m, kind, a, a), a);
    }
  }
}
END_TEST

static tn_dim op(uint32_t kind, tn_dim a, tn_dim b) { return tn_ir_dim_make(m, kind, a, b); }
static tn_dim num(int64_t v) { return tn_ir_dim_const(m, v); }

START_TEST(text_of_dims) {
  tn_dim B = sym[0], C = sym[1], P = sym[2], S = sym[3];
  struct {
    tn_dim d;
    const char *want;
  } cases[] = {
      {tn_dim_sub(m, tn_dim_add(m, P, S), P), "S"},
      {op(TN_DIM_FLOORDIV, tn_dim_mul(m, S, num(2)), num(2)), "S"},
      {tn_dim_mul(m, tn_dim_mul(m, B, S), num(3)), "3 * B * S"},
      {tn_dim_add(m, num(1), tn_dim_mul(m, num(2), tn_dim_mul(m, S, B))), "2 * B * S + 1"},
      {tn_dim_sub(m, num(512), S), "512 - S"},
      {tn_dim_sub(m, num(-1), S), "-S - 1"},
      {op(TN_DIM_FLOORDIV, S, num(2)), "S / 2"},
      {op(TN_DIM_FLOORDIV, tn_dim_add(m, S, num(1)), num(2)), "(S + 1) / 2"},
      {op(TN_DIM_FLOORDIV, tn_dim_add(m, S, num(-1)), num(2)), "(S + 1) / 2 - 1"},
      {tn_dim_mul(m, num(2), op(TN_DIM_FLOORDIV, S, num(2))), "2 * (S / 2)"},
      {op(TN_DIM_FLOORDIV, op(TN_DIM_FLOORDIV, S, num(2)), num(3)), "S / 6"},
      {op(TN_DIM_FLOORDIV, tn_dim_mul(m, S, num(4)), num(6)), "(2 * S) / 3"},
      {op(TN_DIM_MOD, tn_dim_add(m, tn_dim_mul(m, S, num(4)), num(6)), num(8)), "2 * ((2 * S + 3) % 4)"},
      {op(TN_DIM_FLOORDIV, tn_dim_mul(m, B, S), S), "B"},
      {op(TN_DIM_FLOORDIV, tn_dim_mul(m, tn_dim_add(m, P, S), B), tn_dim_add(m, S, P)), "B"},
      {op(TN_DIM_MIN, S, num(0)), "0"},
      {op(TN_DIM_MIN, tn_dim_add(m, S, B), S), "S"},
      {op(TN_DIM_MAX, op(TN_DIM_MIN, S, C), num(1)), "max(1, min(C, S))"},
      {op(TN_DIM_UNKNOWN, 0, 0), "?"},
      {tn_dim_mul(m, op(TN_DIM_UNKNOWN, 0, 0), S), "?"}};
  for (size_t i = 0; i < TN_COUNT(cases); i++) ck_assert_str_eq(text(cases[i].d), cases[i].want);
  ck_assert_uint_eq(diags.errors, 0);
}
END_TEST

START_TEST(faults_are_reported) {
  tn_dim big = num(INT64_MAX), S = sym[3];
  ck_assert_uint_eq(tn_dim_add(m, big, num(1)), 0);
  ck_assert_uint_eq(diags.errors, 1);
  ck_assert_uint_eq(tn_dim_mul(m, tn_dim_mul(m, big, S), num(3)), 0);
  ck_assert_uint_eq(op(TN_DIM_FLOORDIV, S, num(0)), 0);
  ck_assert_uint_eq(op(TN_DIM_MOD, S, num(0)), 0);
  ck_assert_uint_eq(num(INT64_MIN), 0);
  ck_assert_uint_eq(tn_ir_dim_sym(m, "a b"), 0);
  ck_assert_uint_eq(tn_ir_dim_sym(m, "min"), 0);
  ck_assert_uint_eq(op(77, S, S), 0);
  ck_assert_uint_eq(diags.errors, 8);
  tn_dim d = S; /* degree, and nesting */
  for (int i = 0; d && i < 40; i++) d = tn_dim_mul(m, d, S);
  ck_assert_uint_eq(d, 0);
  d = S;
  for (int i = 0; d && i < 100; i++) d = tn_dim_add(m, op(TN_DIM_MOD, d, num(1000 - i)), S);
  ck_assert_uint_eq(d, 0);
  d = num(1);
  for (int i = 0; d && i < 16; i++)
    d = tn_dim_mul(m, d, tn_dim_add(m, tn_dim_add(m, sym[0], sym[1]), tn_dim_add(m, sym[2], num(i + 1))));
  ck_assert_uint_eq(d, 0); /* too many terms */
  ck_assert_int_eq(tn_ir_dim_constrain(m, num(3), num(2)), TN_INVALID);
}
END_TEST

/* Random constraints; whatever is claimed must hold at every point that satisfies them. */
START_TEST(known_le_is_sound) {
  uint32_t claimed = 0;
  for (int round = 0; round < 40; round++) {
    if (round) teardown(), setup();
    random_points(1);
    expr low[3], high[3];
    for (int i = 0; i < 3; i++) {
      low[i] = random_expr(1 + roll(2)), high[i] = random_expr(1 + roll(2));
      if (low[i].d && high[i].d && tn_ir_dim_constrain(m, low[i].d, high[i].d)) low[i] = high[i];
    }
    for (int pair = 0; pair < 30; pair++) {
      expr a = random_expr(1 + roll(3)), b = random_expr(1 + roll(3));
      if (!a.d || !b.d || !tn_dim_known_le(m, a.d, b.d)) continue;
      claimed++;
      for (int i = 0; i < NPOINTS; i++) {
        bool allowed = true;
        for (int k = 0; k < 3; k++) allowed &= !low[k].d || !high[k].d || low[k].v[i] <= high[k].v[i];
        if (allowed) ck_assert_msg(a.v[i] <= b.v[i], "%s <= %s", text(a.d), text(b.d));
      }
    }
  }
  ck_assert_uint_gt(claimed, 100);
}
END_TEST

START_TEST(known_le_finds_what_matters) {
  tn_dim B = sym[0], C = sym[1], P = sym[2], S = sym[3], half = op(TN_DIM_FLOORDIV, S, num(2));
  tn_ir_dim_constrain(m, S, num(512));
  tn_ir_dim_constrain(m, tn_dim_add(m, P, S), C);
  tn_ir_dim_constrain(m, C, num(2048));
  struct {
    tn_dim a, b;
    bool want;
  } cases[] = {{S, num(512), true},
               {S, num(511), false},
               {P, C, true},
               {C, P, false},
               {S, tn_dim_add(m, S, B), true},
               {tn_dim_add(m, P, S), num(2048), true},
               {tn_dim_mul(m, S, num(4)), num(2048), true},
               {tn_dim_mul(m, tn_dim_mul(m, B, S), num(4)), tn_dim_mul(m, B, num(2048)), true},
               {num(0), P, true},
               {num(1), P, false},
               {half, S, true},
               {tn_dim_mul(m, half, num(2)), S, true},
               {S, tn_dim_add(m, tn_dim_mul(m, half, num(2)), num(1)), true},
               {S, tn_dim_mul(m, half, num(2)), false},
               {op(TN_DIM_MIN, S, B), num(512), true},
               {B, op(TN_DIM_MAX, S, B), true},
               {op(TN_DIM_MOD, S, num(8)), num(7), true},
               {op(TN_DIM_MOD, P, num(8)), num(6), false},
               {op(TN_DIM_UNKNOWN, 0, 0), op(TN_DIM_UNKNOWN, 0, 0), false},
               {tn_dim_sub(m, S, num(1)), num(511), true}};
  for (size_t i = 0; i < TN_COUNT(cases); i++)
    ck_assert_msg(tn_dim_known_le(m, cases[i].a, cases[i].b) == cases[i].want, "case %zu: %s <= %s", i,
                  text(cases[i].a), text(cases[i].b));
}
END_TEST

/* True if all divisors in d are numbers, so that no substitution makes one 0. */
static bool total(tn_dim d) {
  tn_dim_info i, b;
  tn_ir_dim_get(m, d, &i);
  if (i.kind == TN_DIM_CONST || i.kind == TN_DIM_SYM) return true;
  tn_ir_dim_get(m, i.b, &b);
  bool divides = i.kind == TN_DIM_FLOORDIV || i.kind == TN_DIM_MOD;
  return (!divides || b.kind == TN_DIM_CONST) && total(i.a) && total(i.b);
}

START_TEST(substitution_is_evaluation) {
  uint32_t tried = 0;
  for (int round = 0; round < 800; round++) {
    random_points(1);
    expr e = random_expr(1 + roll(4)), by = roll(2) ? leaf() : random_expr(1);
    bool positive = true; /* S stands for sizes */
    for (int i = 0; i < NPOINTS; i++) positive &= by.v[i] >= 1;
    if (!e.d || !by.d || !positive || !total(e.d)) continue;
    uint32_t errors = diags.errors;
    tn_dim d = tn_dim_substitute(m, e.d, "S", by.d);
    if (!d) {
      ck_assert_uint_gt(diags.errors, errors);
      continue;
    }
    tried++;
    for (int i = 0; i < NPOINTS; i++) {
      memcpy(at, points[i], sizeof at);
      int64_t got = eval(d);
      at[3] = by.v[i];
      ck_assert_int_eq(got, eval(e.d));
    }
  }
  ck_assert_uint_gt(tried, 300);
  ck_assert_uint_eq(tn_dim_substitute(m, tn_dim_add(m, sym[2], sym[3]), "S", num(1)),
                    tn_dim_add(m, sym[2], num(1)));
  ck_assert_uint_eq(tn_dim_substitute(m, op(TN_DIM_FLOORDIV, num(8), sym[3]), "S", num(0)), 0);
}
END_TEST

START_TEST(sizes_of_types) {
  tn_dim q[2] = {sym[0], num(64)}, v;
  int64_t n;
  tn_type t = tn_ir_type_make(m, TN_DT_f16, 2, q, NULL);
  ck_assert_str_eq(text(tn_type_bytes(m, t)), "128 * B");
  t = tn_ir_type_make(m, tn_ir_dtype_by_name("q4_0"), 2, q, NULL);
  ck_assert_str_eq(text(tn_type_bytes(m, t)), "36 * B"); /* 64 values: two blocks of 18 bytes */
  q[0] = num(3);
  q[1] = num(5);
  v = tn_type_bytes(m, tn_ir_type_make(m, TN_DT_i4, 2, q, NULL));
  ck_assert(tn_ir_dim_is_const(m, v, &n) && n == 8); /* 15 nibbles */
  ck_assert_uint_eq(tn_ir_type_make(m, tn_ir_dtype_by_name("q4_0"), 2, q, NULL), 0);
  q[0] = num(-1);
  ck_assert_uint_eq(tn_ir_type_make(m, TN_DT_f32, 2, q, NULL), 0);
  ck_assert_uint_eq(tn_ir_type_make(m, TN_DT_f32, TN_MAX_RANK + 1, q, NULL), 0);
  ck_assert_uint_eq(tn_ir_type_make(m, 999, 0, q, NULL), 0);
  t = tn_ir_type_make(m, TN_DT_f32, 1, q + 1, "panel16");
  ck_assert(t && t == tn_ir_type_make(m, TN_DT_f32, 1, q + 1, "panel16"));
  ck_assert(t != tn_ir_type_make(m, TN_DT_f32, 1, q + 1, NULL));
  ck_assert_uint_eq(tn_type_bytes(m, t), 0);
  ck_assert_uint_eq(diags.errors, 5);
}
END_TEST

int main(void) {
  Suite *s = suite_create("dim");
  TCase *t = tcase_create("dim");
  tcase_set_timeout(t, 120);
  tcase_add_checked_fixture(t, setup, teardown);
  tcase_add_test(t, normal_form_keeps_the_value);
  tcase_add_test(t, equal_forms_have_equal_ids);
  tcase_add_test(t, text_of_dims);
  tcase_add_test(t, faults_are_reported);
  tcase_add_test(t, known_le_is_sound);
  tcase_add_test(t, known_le_finds_what_matters);
  tcase_add_test(t, substitution_is_evaluation);
  tcase_add_test(t, sizes_of_types);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
