/* test_copies.c - where copies go: right behind what makes a value for the device, right before what wants
 * one here, once per value; states home, outputs here in the end. */
#include "tools/driver/copies.h"
#include <check.h>

/* A step by words: k kernel, d kernel on the device, h host step (bind), l loop; 'u' behind a k or d: it
 * updates its states. Operands: what it reads, then '>' and what it writes; i input, o output, s slot, t
 * state, w weight. */
typedef struct script {
  tn_prog_step steps[16];
  tn_step_use uses[16];
  tn_prog_operand operands[64];
  uint32_t nsteps, noperands;
} script;

static tn_prog_operand operand(const char *word) {
  const char *kinds = "siowt", *at = strchr(kinds, word[0]);
  ck_assert_ptr_nonnull(at);
  return (tn_prog_operand){(uint32_t)(at - kinds), (uint32_t)(word[1] - '0')};
}

static void add_step(script *s, const char *text) {
  tn_prog_step *step = &s->steps[s->nsteps];
  tn_step_use *use = &s->uses[s->nsteps++];
  *step = (tn_prog_step){.first_operand = s->noperands};
  step->kind = text[0] == 'h' ? TN_PROG_BIND : text[0] == 'l' ? TN_PROG_LOOP : TN_PROG_KERNEL;
  *use = (tn_step_use){.device = text[0] == 'd', .updates = text[1] == 'u'};
  bool writes = false;
  for (const char *p = text + 1; *p; p++) {
    if (*p == '>') writes = true;
    if (*p != ' ' || p[1] == '>') continue;
    s->operands[s->noperands++] = operand(p + 1);
    step->noperands++;
    use->nread += !writes;
  }
}

/* Plans, and compares with the copies in words: "2+s0 3-o1": before step 2 slot 0 goes to the device, before
 * step 3 output 1 comes to the host. */
static void expect(const char *const *steps, uint32_t noutputs, const bool *homes, uint32_t nstates,
                   bool keep, const char *want) {
  script s = {0};
  for (; *steps; steps++) add_step(&s, *steps);
  tn_copies c = {.steps = s.steps,
                 .uses = s.uses,
                 .operands = s.operands,
                 .nsteps = s.nsteps,
                 .noutputs = noutputs,
                 .homes = homes,
                 .nstates = nstates,
                 .keep = keep};
  ck_assert(tn_copies_plan(&c));
  tn_buf have = {0};
  for (uint32_t i = 0; i < c.list.count; i++)
    tn_buf_printf(&have, "%s%u%c%c%u", i ? " " : "", c.list.items[i].before,
                  c.list.items[i].direction == TN_PROG_UPLOAD ? '+' : '-', "siowt"[c.list.items[i].what.kind],
                  c.list.items[i].what.index);
  ck_assert_str_eq(tn_buf_cstr(&have), want);
  tn_buf_fini(&have);
  tn_copies_fini(&c);
}
#define STEPS(...) ((const char *const[]){__VA_ARGS__, NULL})

START_TEST(test_sides) {
  expect(STEPS("k i0 > s0", "k s0 > o0"), 1, NULL, 0, false, "");
  expect(STEPS("d i0 w0 > s0", "d s0 > s1", "d s1 i1 > o0"), 1, NULL, 0, false, "0+i0 0+i1 3-o0");
  /* Behind the kernel that makes it, before the one that wants it, once. */
  expect(STEPS("k i0 > s0", "k i0 > s1", "d s0 > s2", "d s0 s2 > s3", "k s3 > s4", "k s3 s4 > o0"), 1, NULL,
         0, false, "1+s0 4-s3");
  /* Written over: another value. */
  expect(STEPS("d i0 > s0", "k s0 > s0", "d s0 > o0"), 1, NULL, 0, false, "0+i0 1-s0 2+s0 3-o0");
  /* An output that is read on the way. */
  expect(STEPS("d i0 > o0", "k o0 > o1"), 2, NULL, 0, false, "0+i0 1-o0");
  /* Host steps. */
  expect(STEPS("d i0 > s0", "h s0", "d s0 > o0"), 1, NULL, 0, false, "0+i0 1-s0 3-o0");
  expect(STEPS("d i0 > s0", "l s0 > s1", "d s1 > o0"), 1, NULL, 0, false, "0+i0 1-s0 2+s1 3-o0");
  /* All values, for looking inside. */
  expect(STEPS("d i0 > s0", "d s0 > s1", "d s1 > o0"), 1, NULL, 0, true, "0+i0 3-s0 3-s1 3-o0");
}
END_TEST

START_TEST(test_states) {
  static const bool there[] = {true}, here[] = {false};
  expect(STEPS("du i0 t0 > t0", "d t0 > o0"), 1, there, 1, false, "0+i0 2-o0");
  expect(STEPS("ku i0 t0 > t0", "k t0 > o0"), 1, here, 1, false, "");
  /* A kernel here in a program whose state lies there, and the other way round. */
  expect(STEPS("ku i0 t0", "d t0 > o0"), 1, there, 1, false, "0-t0 1+t0 2-o0");
  expect(STEPS("k t0 > s0", "d s0 t0 > o0"), 1, there, 1, false, "0-t0 1+s0 2-o0");
  expect(STEPS("d t0 > o0"), 1, here, 1, false, "0+t0 1-o0");
  expect(STEPS("du t0"), 0, here, 1, false, "0+t0 1-t0");
  /* Before another entry runs, and in the end, states are home. */
  expect(STEPS("ku t0", "l i0 > s0", "k t0 > o0"), 1, there, 1, false, "0-t0 1+t0 2-t0");
  expect(STEPS("ku t0"), 0, there, 1, false, "0-t0 1+t0");
}
END_TEST

START_TEST(test_numbers) {
  script s = {0};
  add_step(&s, "k i0 > s0");
  add_step(&s, "d s0 > s1");
  add_step(&s, "h s1");
  add_step(&s, "k s0 > o0");
  tn_copies c = {.steps = s.steps, .uses = s.uses, .operands = s.operands, .nsteps = 4, .noutputs = 1};
  ck_assert(tn_copies_plan(&c)); /* k, upload s0, d, download s1, h, k */
  ck_assert_uint_eq(c.list.count, 2);
  static const uint32_t want[] = {0, 2, 4, 5, 6};
  for (uint32_t i = 0; i < 5; i++) ck_assert_uint_eq(tn_copies_number(&c, i), want[i]);
  tn_prog_slot slots[] = {{.from = 0, .until = 4}, {.from = 1, .until = 3}, {.after = 3, .from = 3}};
  tn_copies_slots(&c, slots, 3);
  ck_assert_uint_eq(slots[0].from, 0);
  ck_assert_uint_eq(slots[0].until, 6);
  ck_assert_uint_eq(slots[1].from, 2);
  ck_assert_uint_eq(slots[1].until, 5);
  ck_assert_uint_eq(slots[2].after, 5);
  ck_assert_uint_eq(slots[2].from, 5);
  ck_assert_uint_eq(slots[2].until, 0);
  tn_copies_fini(&c);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("copies");
  TCase *t = tcase_create("copies");
  tcase_add_test(t, test_sides);
  tcase_add_test(t, test_states);
  tcase_add_test(t, test_numbers);
  suite_add_tcase(suite, t);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
