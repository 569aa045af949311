/* test_infer.c - the golden files of tests/ir/ops without the tool: every op has one; what is right parses,
 * verifies and prints back to the same bytes; what is wrong gives exactly the errors its lines name. */
#include "ir/ir.h"
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef TN_SOURCE_DIR
#define TN_SOURCE_DIR "."
#endif
static const char folder[] = TN_SOURCE_DIR "/tests/ir/ops/";

static bool map(tn_file *f, char path[512], const char *name, const char *end) {
  const char *why;
  snprintf(path, 512, "%s%s%s", folder, name, end);
  return tn_file_map(f, path, &why) == TN_OK;
}

/* ---- right uses
 * ------------------------------------------------------------------------------------------------ */
static void print_twice(const char *path, tn_module *m) {
  tn_diags diags;
  tn_diags_init(&diags);
  tn_buf first = {0}, second = {0};
  ck_assert_int_eq(tn_module_print(m, &first), TN_OK);
  tn_module *again = tn_module_new(&diags);
  ck_assert_msg(tn_module_parse(again, path, (tn_str){first.text, first.len}) == TN_OK,
                "%s: cannot read what was printed", path);
  ck_assert_int_eq(tn_module_print(again, &second), TN_OK);
  ck_assert_str_eq(tn_buf_cstr(&first), tn_buf_cstr(&second));
  tn_buf_fini(&first);
  tn_buf_fini(&second);
  tn_module_free(again);
  tn_diags_fini(&diags);
}

static bool uses_op(tn_module *m, uint32_t opcode) {
  for (tn_func f = 1; f <= tn_ir_func_count(m); f++)
    for (tn_op op = tn_ir_first_op(m, f, 0); op; op = tn_ir_next_op(m, op)) {
      if (tn_ir_opcode(m, op) == opcode) return true;
      for (tn_op inner = tn_ir_first_op(m, 0, op); inner; inner = tn_ir_next_op(m, inner))
        if (tn_ir_opcode(m, inner) == opcode) return true;
    }
  return false;
}

START_TEST(right_uses) {
  const char *name = tn_ir_opcode_name((uint32_t)_i);
  char path[512];
  tn_file f;
  tn_diags diags;
  tn_buf words = {0};
  ck_assert_msg(map(&f, path, name, ".tir"), "op '%s' has no golden file", name);
  tn_diags_init(&diags);
  tn_module *m = tn_module_new(&diags);
  tn_status s = tn_module_parse(m, path, (tn_str){(const char *)f.data, f.size});
  if (s == TN_OK) s = tn_module_verify(m);
  tn_diags_text(&diags, &words, false);
  ck_assert_msg(s == TN_OK && !diags.errors, "%s", tn_buf_cstr(&words));
  ck_assert_msg(uses_op(m, (uint32_t)_i), "%s does not use '%s'", path, name);
  print_twice(path, m);
  tn_buf_fini(&words);
  tn_module_free(m);
  tn_diags_fini(&diags);
  tn_file_unmap(&f);
}
END_TEST

/* ---- wrong uses
 * ------------------------------------------------------------------------------------------------ */
/* The errors reported on line `number` of which the text contains `want`. */
static int errors_like(const tn_diags *d, uint32_t number, const char *want) {
  int n = 0;
  for (uint32_t i = 0; i < d->list.count; i++) {
    const tn_message *e = &d->list.items[i];
    n += e->severity == TN_ERROR && e->line == number && strstr(e->text, want);
  }
  return n;
}

/* How many errors the file expects; counts those that are missing in *missing. */
static uint32_t check_lines(const char *path, const tn_file *f, const tn_diags *d, int *missing) {
  const char *p = (const char *)f->data, *end = p + f->size;
  uint32_t expected = 0;
  for (uint32_t number = 1; p < end; number++) {
    const char *nl = memchr(p, '\n', (size_t)(end - p));
    char line[512];
    ck_assert_ptr_nonnull(nl);
    snprintf(line, sizeof line, "%.*s", (int)(nl - p), p);
    p = nl + 1;
    const char *want = strstr(line, "// error: ");
    if (!want) continue;
    want += strlen("// error: ");
    expected++;
    if (errors_like(d, number, want) == 1) continue;
    fprintf(stderr, "%s:%u: no error like '%s'\n", path, number, want);
    ++*missing;
  }
  return expected;
}

static int check_wrong(const char *name) {
  char path[512];
  int bad = 0;
  tn_file f;
  tn_diags diags;
  tn_buf words = {0};
  ck_assert(map(&f, path, name, ""));
  tn_diags_init(&diags);
  tn_module *m = tn_module_new(&diags);
  ck_assert_msg(tn_module_parse(m, path, (tn_str){(const char *)f.data, f.size}) != TN_OK, "%s was taken",
                path);
  tn_diags_text(&diags, &words, false);
  uint32_t expected = check_lines(path, &f, &diags, &bad);
  ck_assert_msg(expected > 0, "%s: no error is expected", path);
  bad += diags.errors != expected;
  if (bad)
    fprintf(stderr, "%s: %u errors are expected, but there are\n%s", path, expected, tn_buf_cstr(&words));
  tn_buf_fini(&words);
  tn_module_free(m);
  tn_diags_fini(&diags);
  tn_file_unmap(&f);
  return bad;
}

START_TEST(wrong_uses) {
  DIR *d = opendir(folder);
  ck_assert_ptr_nonnull(d);
  int n = 0, bad = 0;
  for (struct dirent *e; (e = readdir(d));) {
    if (!tn_str_ends(tn_str_of(e->d_name), "-errors.tir")) continue;
    bad += check_wrong(e->d_name);
    n++;
  }
  closedir(d);
  ck_assert_int_ge(n, 64);
  ck_assert_msg(!bad, "%d wrong or missing errors", bad);
}
END_TEST

int main(void) {
  Suite *s = suite_create("infer");
  TCase *t = tcase_create("golden files");
  tcase_add_loop_test(t, right_uses, 1, TN_OPC_COUNT);
  tcase_add_test(t, wrong_uses);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
