/* test_pass_manager.c - the pipeline runner and the rule language: what plugins bring (passes at points,
 * rules as text), how backends are asked, and that running out of memory anywhere is an error and nothing
 * worse. */
#include "passes/match.h"
#include <check.h>
#include <stdio.h>

static tn_diags diags;

static tn_module *parse(const char *text) {
  tn_module *m = tn_module_new(&diags);
  ck_assert_int_eq(tn_module_parse(m, "test", tn_str_of(text)), TN_OK);
  ck_assert_int_eq(tn_module_verify(m), TN_OK);
  return m;
}

static void setup(void) { tn_diags_init(&diags); }
static void teardown(void) { tn_diags_fini(&diags); }

/* The function's ops as words: "exp mul return". */
static const char *ops_of(tn_module *m, tn_func f) {
  static char words[512];
  words[0] = 0;
  for (tn_op op = tn_ir_first_op(m, f, 0); op; op = tn_ir_next_op(m, op)) {
    size_t n = strlen(words);
    snprintf(words + n, sizeof words - n, "%s%s", n ? " " : "", tn_ir_opcode_name(tn_ir_opcode(m, op)));
  }
  return words;
}

static const char simple[] =
    "module @t {\n dims B\n func @f(%x: f32[B], %y: f32[B]) -> f32[B] {\n"
    "  %a = exp %x : f32[B]\n  %b = sin %a : f32[B]\n  %r = mul %b, %y : f32[B]\n  return %r\n }\n"
    " func @g(%x: f32[B]) -> f32[B] {\n  %r = cos %x : f32[B]\n  return %r\n }\n}\n";

static tn_status exec(tn_module *m, const char *pipeline, const tn_pass_backends *b) {
  tn_pipeline_run r = {.pipeline = pipeline, .backends = b, .verify_each = true};
  tn_status s = tn_pipeline_exec(m, &r);
  tn_pipeline_fini(&r);
  return s;
}

START_TEST(levels_have_text) {
  for (int i = 0; i < 4; i++) {
    char name[3] = {'O', (char)('0' + i), 0};
    const char *text = tn_pipeline_text(name);
    ck_assert_ptr_nonnull(text);
    ck_assert_ptr_nonnull(strstr(text, "@early"));
    ck_assert_ptr_nonnull(strstr(text, "@fuse"));
    ck_assert_ptr_nonnull(strstr(text, "@late"));
    tn_module *m = parse(simple);
    ck_assert_int_eq(exec(m, name, NULL), TN_OK);
    for (tn_op op = tn_ir_first_op(m, 1, 0); op; op = tn_ir_next_op(m, op)) {
      uint32_t code = tn_ir_opcode(m, op);
      ck_assert(code == TN_OPC_kernel || code == TN_OPC_reshape || code == TN_OPC_return);
    }
    tn_module_free(m);
  }
  ck_assert_ptr_null(tn_pipeline_text("O4"));
}
END_TEST

/* ---- backends -------------------------------------------------------------------------------- */
static const char *two_names(void *ctx, uint32_t b) { return (void)ctx, b ? "second" : "first"; }
static bool claim_by_name(void *ctx, uint32_t b, tn_module *m, tn_op op, const char **why) {
  const char *name = tn_ir_opcode_name(tn_ir_opcode(m, op));
  (void)ctx;
  *why = b ? "knows no trigonometry" : "takes only exp";
  return b ? strcmp(name, "sin") && strcmp(name, "cos") : !strcmp(name, "exp");
}
static bool claim_all(void *ctx, uint32_t b, tn_module *m, tn_op op, const char **why) {
  return (void)ctx, (void)m, (void)op, (void)why, b == 1 || tn_ir_opcode(m, op) == TN_OPC_exp;
}
static bool fuse_all(void *ctx, uint32_t b, tn_module *m, tn_op root, tn_op op, uint32_t role) {
  return (void)ctx, (void)b, (void)m, (void)root, (void)op, (void)role, true;
}

START_TEST(all_unclaimed_ops_are_named) {
  tn_module *m = parse(simple);
  tn_pass_backends b = {NULL, 2, two_names, claim_by_name, fuse_all};
  ck_assert_int_eq(exec(m, "partition", &b), TN_UNSUPPORTED);
  ck_assert_uint_eq(diags.errors, 2); /* sin in @f, cos in @g */
  ck_assert_str_eq(diags.list.items[0].text,
                   "sin: no backend takes this op (first: takes only exp; second: knows no trigonometry)");
  ck_assert_uint_eq(diags.list.items[0].line, 5);
  ck_assert_str_eq(diags.list.items[1].text,
                   "cos: no backend takes this op (first: takes only exp; second: knows no trigonometry)");
  tn_module_free(m);
}
END_TEST

START_TEST(the_first_backend_that_claims_gets_the_op) {
  tn_module *m = parse(simple);
  tn_pass_backends b = {NULL, 2, two_names, claim_all, fuse_all};
  tn_attr a;
  ck_assert_int_eq(exec(m, "partition, fuse", &b), TN_OK);
  ck_assert_str_eq(ops_of(m, 1), "kernel kernel return"); /* nothing fuses across backends */
  tn_op op = tn_ir_first_op(m, 1, 0);
  ck_assert(tn_ir_op_attr(m, op, "backend", &a));
  ck_assert_str_eq(a.u.s, "first");
  ck_assert(tn_ir_op_attr(m, tn_ir_next_op(m, op), "backend", &a));
  ck_assert_str_eq(a.u.s, "second");
  tn_module_free(m);
}
END_TEST

/* Arguments that are results are copied by who says that it can; a constant by who took it. */
static bool claim_copies(void *ctx, uint32_t b, tn_module *m, tn_op op, const char **why) {
  const char *taker = ctx;
  *why = "makes no copies";
  return tn_ir_opcode(m, op) != TN_OPC_kernel || taker[b] == '1';
}
START_TEST(copies_are_asked_for) {
  static const char text[] = "module @t {\n dims B\n func @f(%x: f32[B]) -> (a: f32[B], b: f32[2]) {\n"
                             "  %c = constant {value = [1.0, 2.0]} : f32[2]\n  return %x, %c\n }\n}\n";
  static const struct {
    const char *takers, *name;
  } rows[] = {{"10", "first"}, {"01", "second"}, {"11", "first"}, {"00", NULL}};
  for (size_t i = 0; i < TN_COUNT(rows); i++) {
    tn_module *m = parse(text);
    tn_pass_backends b = {(void *)(uintptr_t)rows[i].takers, 2, two_names, claim_copies, fuse_all};
    tn_attr a;
    ck_assert_int_eq(exec(m, "partition, fuse", &b), rows[i].name ? TN_OK : TN_UNSUPPORTED);
    if (rows[i].name) {
      tn_op op = tn_ir_first_op(m, 1, 0);
      ck_assert(tn_ir_op_attr(m, op, "backend", &a));
      ck_assert_str_eq(a.u.s, rows[i].name);
      ck_assert(tn_ir_op_attr(m, tn_ir_next_op(m, op), "backend", &a));
      ck_assert_str_eq(a.u.s, "first");
    } else {
      ck_assert_str_eq(diags.list.items[0].text, "kernel: no backend takes this op (first: makes no copies; "
                                                 "second: makes no copies)");
    }
    tn_module_free(m);
  }
}
END_TEST

/* ---- passes of plugins ----------------------------------------------------------------------- */
typedef struct seen {
  uint32_t calls;
  char option[32];
  tn_status answer;
} seen;
static tn_status note_call(void *ctx, tn_module *m, tn_func f, const tn_pass_option *o, uint32_t n) {
  seen *s = ctx;
  (void)m;
  s->calls += f;
  for (uint32_t i = 0; i < n; i++) snprintf(s->option, sizeof s->option, "%s:%s", o[i].key, o[i].value);
  return s->answer;
}

START_TEST(plugin_passes_run_at_points_and_by_name) {
  seen early = {0}, named = {0}, bad = {.answer = TN_UNAVAILABLE};
  tn_extra_pass extra[] = {{"first-look", "@early", &early, note_call},
                           {"my-pass", NULL, &named, note_call},
                           {"bad", "@late", &bad, note_call}};
  tn_module *m = parse(simple);
  tn_pipeline_run r = {.pipeline = "@early, cse, my-pass{depth = [1, 2], x=3}, @nothing",
                       .extra = extra,
                       .nextra = 3,
                       .time_passes = true};
  ck_assert_int_eq(tn_pipeline_exec(m, &r), TN_OK);
  ck_assert_uint_eq(early.calls, 1 + 2); /* once for each of both functions */
  ck_assert_uint_eq(named.calls, 1 + 2);
  ck_assert_str_eq(named.option, "x:3");
  ck_assert_uint_eq(r.times.count, 4);
  ck_assert_str_eq(r.times.items[2].name, "my-pass");
  tn_pipeline_fini(&r);
  tn_pipeline_run late = {.pipeline = "O1", .extra = extra, .nextra = 3};
  ck_assert_int_eq(tn_pipeline_exec(m, &late),
                   TN_UNAVAILABLE); /* a failing pass is an error even if it says nothing */
  ck_assert_uint_eq(diags.errors, 1);
  ck_assert_str_eq(diags.list.items[0].where, "@late");
  tn_pipeline_fini(&late);
  tn_pipeline_run typo = {.pipeline = "my-pas", .extra = extra, .nextra = 3};
  ck_assert_int_eq(tn_pipeline_exec(m, &typo), TN_INVALID);
  ck_assert_str_eq(diags.list.items[1].text, "unknown pass 'my-pas'; did you mean 'my-pass'?");
  tn_pipeline_fini(&typo);
  tn_module_free(m);
}
END_TEST

static tn_status break_it(void *ctx, tn_module *m, tn_func f, const tn_pass_option *o, uint32_t n) {
  (void)ctx, (void)o, (void)n;
  tn_op last = tn_ir_last_op(m, f, 0); /* the return moves to the front: its operand is not there yet */
  return tn_ir_op_move(m, last, (tn_point){0, 0, tn_ir_first_op(m, f, 0)});
}

START_TEST(the_verifier_runs_after_each_pass) {
  tn_extra_pass extra = {"break-it", NULL, NULL, break_it};
  tn_module *m = parse(simple);
  tn_pipeline_run r = {.pipeline = "cse, break-it, dce", .extra = &extra, .nextra = 1, .verify_each = true};
  ck_assert_int_eq(tn_pipeline_exec(m, &r), TN_INTERNAL);
  const tn_message *last = &diags.list.items[diags.list.count - 1];
  ck_assert_str_eq(last->where, "break-it");
  ck_assert_str_eq(last->text, "the module does not verify after this pass");
  tn_pipeline_fini(&r);
  tn_module_free(m);
}
END_TEST

/* ---- rules ----------------------------------------------------------------------------------- */
/* Runs rules as a plugin would bring them; the ops of @f afterwards, or NULL after an error. */
static const char *with_rules(const char *rules, const char *text) {
  tn_module *m = parse(text);
  tn_str texts[1] = {tn_str_of(rules)};
  tn_pipeline_run r = {.pipeline = "rules, dce", .rule_texts = texts, .nrule_texts = 1, .verify_each = true};
  tn_status s = tn_pipeline_exec(m, &r);
  const char *ops = s == TN_OK ? ops_of(m, 1) : NULL;
  tn_pipeline_fini(&r);
  tn_module_free(m);
  return ops;
}

#define F(body)                                                                                              \
  "module @t {\n dims B\n func @f(%x: f32[B], %y: f32[B]) -> f32[B] {\n" body "\n  return %r\n }\n}\n"

START_TEST(rules_of_plugins_run) {
  static const char rules[] =
      "/* two rules */\n// of a plugin\nTN_RULE(exp_of_sum, 10, \"(exp (add ?x ?y))\",\n  \"(mul (exp ?x) "
      "\"\n  \"(exp ?y))\", NULL)\n"
      "TN_RULE(fold_sin, 1, \"(sin (neg ?x))\", \"(neg (sin ?x))\", x_not_constant)\n";
  ck_assert_str_eq(with_rules(rules, F("%a = add %x, %y : f32[B]\n%r = exp %a : f32[B]")),
                   "exp exp mul return");
  ck_assert_str_eq(with_rules(rules, F("%a = neg %x : f32[B]\n%r = sin %a : f32[B]")), "sin neg return");
  ck_assert_str_eq(with_rules(rules, F("%r = sin %x : f32[B]")), "sin return");
}
END_TEST

START_TEST(patterns_match_what_they_say) {
  static const struct {
    const char *pattern, *text, *ops;
  } cases[] = {
      /* a name that is repeated is one value */
      {"(mul ?x ?x)", F("%r = mul %x, %x : f32[B]"), "abs return"},
      {"(mul ?x ?x)", F("%r = mul %x, %y : f32[B]"), "mul return"},
      /* :c tries both orders, and goes back on a choice that fails later: here only y * (x + y), sin(x)
         swapped fits */
      {"(sub (mul:c ?x (add:c ?z ?x)) (sin ?z))",
       F("%a = add %x, %y : f32[B]\n%m = mul %a, %y : f32[B]\n%s = sin %x : f32[B]\n%r = sub %m, %s : "
         "f32[B]"),
       "abs return"},
      {"(sub (mul:c ?x (add:c ?z ?x)) (sin ?z))",
       F("%a = add %x, %y : f32[B]\n%m = mul %a, %y : f32[B]\n%s = sin %y : f32[B]\n%r = sub %m, %s : "
         "f32[B]"),
       "add mul sin sub return"},
      /* ! on names and ops */
      {"(exp ?x!)", F("%a = neg %y : f32[B]\n%r = exp %a : f32[B]"), "neg abs return"},
      {"(exp ?x!)", F("%a = neg %y : f32[B]\n%b = exp %a : f32[B]\n%r = add %a, %b : f32[B]"),
       "neg exp add return"},
      {"(exp (neg! ?x))", F("%a = neg %y : f32[B]\n%b = exp %a : f32[B]\n%r = add %a, %b : f32[B]"),
       "neg exp add return"},
      /* numbers: exact and near, of any shape */
      {"(add ?x 0.1)", F("%c = constant {value = [0.1]} : f32[]\n%r = add %x, %c : f32[B]"), "abs return"},
      {"(add ?x 0.1)", F("%c = constant {value = [0.1001]} : f32[]\n%r = add %x, %c : f32[B]"),
       "constant add return"},
      {"(add ?x ~0.7978845608)", F("%c = constant {value = [0.79788]} : f32[1]\n%r = add %x, %c : f32[B]"),
       "abs return"},
      {"(add ?x ~0.7978845608)", F("%c = constant {value = [0.79]} : f32[]\n%r = add %x, %c : f32[B]"),
       "constant add return"},
      /* attributes, by value and captured twice */
      {"(gelu{form=tanh} ?x)", F("%r = gelu %x {form = \"tanh\"} : f32[B]"), "abs return"},
      {"(gelu{form=tanh} ?x)", F("%r = gelu %x : f32[B]"), "gelu return"},
      {"(add (softmax{axis=?a} ?x) (softmax{axis=?a} ?y))",
       F("%a = softmax %x {axis = 0} : f32[B]\n%b = softmax %y {axis = 0} : f32[B]\n%r = add %a, %b : "
         "f32[B]"),
       "abs return"},
      {"(add (softmax{axis=?a} ?x) (softmax{axis=?a} ?y))",
       F("%a = softmax %x {axis = 0} : f32[B]\n%b = softmax %y {axis = -1} : f32[B]\n%r = add %a, %b : "
         "f32[B]"),
       "softmax softmax add return"},
      /* ?d=(...) names what it matches; _ is anything, and %c a constant only */
      {"(sub ?d=(neg ?x) (exp ?d))",
       F("%a = neg %x : f32[B]\n%b = exp %a : f32[B]\n%r = sub %a, %b : f32[B]"), "abs return"},
      {"(sub ?d=(neg ?x) (exp ?d))",
       F("%a = neg %x : f32[B]\n%c = neg %y : f32[B]\n%b = exp %c : f32[B]\n%r = sub %a, %b : f32[B]"),
       "neg neg exp sub return"},
      {"(sub ?x _)", F("%r = sub %x, %y : f32[B]"), "abs return"},
      {"(sub ?x %c)", F("%r = sub %x, %y : f32[B]"), "sub return"},
  };
  for (size_t i = 0; i < TN_COUNT(cases); i++) {
    char rule[256];
    snprintf(rule, sizeof rule, "TN_RULE(r, 1, \"%s\", \"(abs ?x)\", NULL)", cases[i].pattern);
    const char *ops = with_rules(rule, cases[i].text);
    ck_assert_msg(ops && !strcmp(ops, cases[i].ops), "case %zu, %s: got '%s', not '%s'", i, cases[i].pattern,
                  ops ? ops : "an error", cases[i].ops);
  }
}
END_TEST

START_TEST(the_higher_benefit_wins) {
  static const char rules[] =
      "TN_RULE(low, 1, \"(exp ?x)\", \"(abs ?x)\", NULL) TN_RULE(high, 2, \"(exp ?x)\", \"(sin ?x)\", NULL)";
  ck_assert_str_eq(with_rules(rules, F("%r = exp %x : f32[B]")), "sin return");
}
END_TEST

/* A replacement that has another type, or that the ops refuse, does not fire and leaves nothing behind. */
START_TEST(replacements_that_do_not_fit_are_dropped) {
  ck_assert_str_eq(with_rules("TN_RULE(r, 1, \"(exp ?x)\", \"(reduce_sum{axes=[0], keep=1} ?x)\", NULL)",
                              F("%r = exp %x : f32[B]")),
                   "exp return");
  ck_assert_str_eq(
      with_rules("TN_RULE(r, 1, \"(exp ?x)\", \"(matmul (neg ?x) ?x)\", NULL)", F("%r = exp %x : f32[B]")),
      "exp return");
  ck_assert_uint_eq(diags.errors, 0);
  ck_assert_uint_eq(diags.list.count, 0);
}
END_TEST

START_TEST(wrong_rules_are_explained) {
  static const struct {
    const char *rules, *words;
  } cases[] = {
      {"TN_RULE(r, 1, \"(expp ?x)\", \"?x\", NULL)", "r: unknown op 'expp', at column 6"},
      {"TN_RULE(r, 1, \"(exp ?x\", \"?x\", NULL)", "expected ')'"},
      {"TN_RULE(r, 1, \"?x\", \"?x\", NULL)", "a pattern begins with an op"},
      {"TN_RULE(r, 1, \"(exp ?x)\", \"?y\", NULL)", "'y' is not bound by the pattern"},
      {"TN_RULE(r, 1, \"(exp ?x)\", \"?x\", no_such)", "unknown guard 'no_such'"},
      {"TN_RULE(r, 1, \"(gelu{from=tanh} ?x)\", \"?x\", NULL)", "the op has no attribute 'from'"},
      {"TN_RULE(r, 1, \"(exp:c ?x)\", \"?x\", NULL)", "'exp' commutes but has not two operands"},
      {"TN_RULE(r, 1, \"(exp ?x) 3\", \"?x\", NULL)", "unexpected '3' behind the end"},
      {"TN_RULE(r, 1, \"(exp ?x)\", \"(softmax{axis=@axis} ?x)\", NULL)",
       "'@axis' is no word of a replacement"},
      {"\n\nTN_RULE(r, 1, \"(exp ?x)\" \"?x\", NULL)", "expected a string"},
      {"TN_RULES(r)", "expected '('"},
      {"hello", "expected TN_RULE"},
      {"TN_RULE(r, 1, \"(exp ?x", "string without end"},
      {"TN_RULE(a, 1, \"(exp ?x)\", \"(sin ?x)\", NULL) TN_RULE(b, 1, \"(sin ?x)\", \"(exp ?x)\", NULL)",
       "the rules did not settle after"},
  };
  for (size_t i = 0; i < TN_COUNT(cases); i++) {
    tn_diags_fini(&diags);
    tn_diags_init(&diags);
    ck_assert_msg(!with_rules(cases[i].rules, F("%r = exp %x : f32[B]")), "case %zu: no error", i);
    ck_assert_uint_eq(diags.errors, 1);
    ck_assert_msg(strstr(diags.list.items[0].text, cases[i].words), "case %zu: '%s' does not say '%s'", i,
                  diags.list.items[0].text, cases[i].words);
  }
}
END_TEST

/* ---- memory ---------------------------------------------------------------------------------- */
static const char rich[] = "module @t {\n dims B, S, P, C where P + S <= C\n weight @w : f32[8, 8] = \"f\" + "
                           "0x0 : 0x100\n weight @v : f32[8, 8] = \"f\" + 0x100 : 0x100\n"
                           " state @k : f32[B, C, 2, 4]\n func @f(%x: f32[B, S, 8]) -> f32[B, S, 8] {\n  %c "
                           "= constant {value = [2.0]} : f32[]\n  %p = pow %x, %c : f32[B, S, 8]\n"
                           "  %a = matmul %p, @w {trans_b} : f32[B, S, 8]\n  %b = matmul %p, @v {trans_b} : "
                           "f32[B, S, 8]\n  %s = sigmoid %a : f32[B, S, 8]\n"
                           "  %g = mul %a, %s : f32[B, S, 8]\n  %u = mul %g, %b : f32[B, S, 8]\n  %r = "
                           "reshape %u {shape = [B, S, 2, 4]} : f32[B, S, 2, 4]\n"
                           "  %kv = kv_update @k, %r {pos = P} : f32[B, C, 2, 4]\n  %q = attention %r, %kv, "
                           "%kv {scale = 0.5, keys = P + S} : f32[B, S, 2, 4]\n"
                           "  %o = reshape %q {shape = [B, S, 8]} : f32[B, S, 8]\n  return %o\n }\n}\n";

START_TEST(running_out_of_memory_is_an_error) {
  tn_pass_backends b = {NULL, 2, two_names, claim_all, fuse_all};
  bool done = false;
  for (long n = 0; !done; n += n < 300 ? 1 : 7) {
    tn_diags_fini(&diags);
    tn_diags_init(&diags);
    tn_module *m = parse(rich);
    tn_pipeline_run r = {.pipeline = "O3", .backends = &b};
    tn_mem_fail_after(n);
    tn_status s = tn_pipeline_exec(m, &r);
    tn_mem_fail_after(-1);
    done = s == TN_OK;
    ck_assert_msg(n < 100000, "never enough memory");
    tn_pipeline_fini(&r);
    tn_module_free(m);
  }
}
END_TEST

int main(void) {
  Suite *s = suite_create("pass manager");
  TCase *t = tcase_create("manager");
  tcase_set_timeout(t, 120);
  tcase_add_checked_fixture(t, setup, teardown);
  tcase_add_test(t, levels_have_text);
  tcase_add_test(t, all_unclaimed_ops_are_named);
  tcase_add_test(t, the_first_backend_that_claims_gets_the_op);
  tcase_add_test(t, copies_are_asked_for);
  tcase_add_test(t, plugin_passes_run_at_points_and_by_name);
  tcase_add_test(t, the_verifier_runs_after_each_pass);
  tcase_add_test(t, rules_of_plugins_run);
  tcase_add_test(t, patterns_match_what_they_say);
  tcase_add_test(t, the_higher_benefit_wins);
  tcase_add_test(t, replacements_that_do_not_fit_are_dropped);
  tcase_add_test(t, wrong_rules_are_explained);
  tcase_add_test(t, running_out_of_memory_is_an_error);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
