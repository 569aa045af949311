/* test_ir_text.c - the text form: every file of tests/ir reads, prints, reads back and prints as the same
 * bytes; names, limits, damaged text, and memory that runs out. What the files print is stated in them
 * (tests/ir, FileCheck). */
#include "ir/ir.h"
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

static tn_diags diags;
static tn_module *m;

static void setup(void) {
  tn_diags_init(&diags);
  m = tn_module_new(&diags);
}

static void teardown(void) {
  tn_module_free(m);
  tn_diags_fini(&diags);
}

static void again(void) {
  teardown();
  setup();
}

static const char *messages(void) {
  static tn_buf b;
  tn_buf_fini(&b);
  tn_diags_text(&diags, &b, false);
  return tn_buf_cstr(&b);
}

static tn_status parse(const char *text) { return tn_module_parse(m, "t.tir", tn_str_of(text)); }

/* Reads text, prints it, and checks that the print reads back as the same bytes. The caller frees. */
static char *round_trip(const char *name, tn_str text, uint32_t flags) {
  tn_buf first = {0}, second = {0};
  ck_assert_msg(!tn_module_parse(m, name, text), "%s", messages());
  ck_assert_msg(!tn_module_verify(m), "%s", messages());
  ck_assert_int_eq(tn_module_print_flags(m, &first, flags), TN_OK);
  again();
  ck_assert_msg(!tn_module_parse(m, name, (tn_str){first.text, first.len}), "%s", messages());
  ck_assert_int_eq(tn_module_print_flags(m, &second, flags), TN_OK);
  ck_assert_str_eq(first.text, second.text);
  tn_buf_fini(&second);
  return first.text;
}

/* Calls each for the files NAME.tir under tests/ir. */
static int each_file(const char *folder, void (*each)(const char *path, tn_str text)) {
  int n = 0;
  DIR *d = opendir(folder);
  ck_assert_ptr_nonnull(d);
  for (struct dirent *e; (e = readdir(d));) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
    if (e->d_name[0] != '.' && tn_path_is_dir(path)) n += each_file(path, each);
    if (!tn_str_ends(tn_str_of(e->d_name), ".tir")) continue;
    tn_file f;
    const char *why;
    ck_assert_int_eq(tn_file_map(&f, path, &why), TN_OK);
    again();
    each(path, (tn_str){(const char *)f.data, f.size});
    tn_file_unmap(&f);
    n++;
  }
  closedir(d);
  return n;
}

static uint32_t count_of(tn_str text, const char *what) {
  uint32_t n = 0;
  for (uint64_t i = 0; i + strlen(what) <= text.len; i++) n += !memcmp(text.ptr + i, what, strlen(what));
  return n;
}

static void check_file(const char *path, tn_str text) {
  uint32_t expected = count_of(text, "// error");
  if (expected) {
    tn_status status = tn_module_parse(m, path, text);
    if (!status) status = tn_module_verify(m);
    ck_assert_int_eq(status, TN_INVALID);
    ck_assert_msg(diags.errors == expected, "%s: %u errors are stated, %u are given\n%s", path, expected,
                  diags.errors, messages());
    return;
  }
  free(round_trip(path, text, 0));
  again();
  free(round_trip(path, text, TN_PRINT_NO_LOCS));
}

START_TEST(files_round_trip) { ck_assert_int_gt(each_file(TN_SOURCE_DIR "/tests/ir", check_file), 6); }
END_TEST

START_TEST(names_stay_unique) {
  tn_func f = tn_ir_func_add(m, "f");
  tn_dim four = tn_ir_dim_const(m, 4);
  tn_value x = tn_ir_func_arg_add(m, f, "x", tn_ir_type_make(m, TN_DT_f32, 1, &four, NULL));
  tn_loc loc = tn_ir_loc_make(m, &(tn_loc_info){.kind = TN_LOC_TENSOR, .name = "t"});
  static const char *const hints[] = {"q", "q", "q_1", "x", NULL, "12", "a/b", "q", "\"", NULL};
  for (size_t i = 0; i < TN_COUNT(hints); i++) {
    tn_op op = tn_ir_op_create(m, (tn_point){.func = f},
                               &(tn_op_desc){.name = "neg", .operands = &x, .noperands = 1, .loc = loc});
    x = tn_ir_op_result(m, op, 0);
    ck_assert_int_eq(tn_ir_value_set_name(m, x, hints[i]), TN_OK);
  }
  tn_ir_op_create(m, (tn_point){.func = f},
                  &(tn_op_desc){.name = "return", .operands = &x, .noperands = 1, .loc = loc});
  tn_buf b = {0};
  tn_module_print_flags(m, &b, TN_PRINT_NO_LOCS);
  const char *want = "module @\"\" {\n\n"
                     "  func @f(%x: f32[4]) -> (out: f32[4]) {\n"
                     "    %q = neg %x : f32[4]\n"
                     "    %q_1 = neg %q : f32[4]\n"
                     "    %q_1_1 = neg %q_1 : f32[4]\n"
                     "    %x_1 = neg %q_1_1 : f32[4]\n"
                     "    %0 = neg %x_1 : f32[4]\n"
                     "    %v12 = neg %0 : f32[4]\n"
                     "    %\"a/b\" = neg %v12 : f32[4]\n"
                     "    %q_2 = neg %\"a/b\" : f32[4]\n"
                     "    %\"\\\"\" = neg %q_2 : f32[4]\n"
                     "    %1 = neg %\"\\\"\" : f32[4]\n"
                     "    return %1\n"
                     "  }\n"
                     "}\n";
  ck_assert_str_eq(tn_buf_cstr(&b), want);
  again();
  free(round_trip("t", (tn_str){b.text, b.len}, TN_PRINT_NO_LOCS));
  tn_buf_fini(&b);
}
END_TEST

START_TEST(damaged_text_is_refused_with_a_place) {
  static const struct {
    const char *text, *want;
  } cases[] = {
      {"", "t.tir:1:1: error: expected a module, not 'the end of the file'\n"},
      {"module @a {", "t.tir:1:1: error: the module that opens here is not closed\n"},
      {"module @a {}\n}", "t.tir:2:1: error: '}' is too much behind the module\n"},
      {"module @a {\n  meta \"k\" = \"v", "t.tir:2:14: error: the string does not end on its line\n"},
      {"module @a { $ }", "t.tir:1:13: error: the character 0x24 has no meaning here\n"},
      {"module @a {\n func @f(",
       "t.tir:2:10: error: expected an argument's name, not 'the end of the file'\n"},
      {"\xff", "t.tir:1:1: error: the text is not valid UTF-8\n"},
      {"module @a {\n  // caf\xe9\n}", "t.tir:2:9: error: the text is not valid UTF-8\n"}};
  for (size_t i = 0; i < TN_COUNT(cases); i++) {
    again();
    ck_assert_int_eq(parse(cases[i].text), TN_INVALID);
    ck_assert_msg(!strncmp(messages(), cases[i].want, strlen(cases[i].want)), "case %zu: %s", i, messages());
  }
  again();
  ck_assert_int_eq(tn_module_parse(m, "t.tir", (tn_str){"module @a {\0}", 13}), TN_INVALID);
}
END_TEST

/* Every prefix of a file, and the file with every byte changed: an answer, and words when it is no. */
static void damage(const char *path, tn_str text) {
  char *copy = malloc(text.len);
  uint64_t step = text.len / 150 + 1;
  for (uint64_t i = 0; i < text.len; i += step) {
    again();
    tn_status status = tn_module_parse(m, path, (tn_str){text.ptr, i});
    ck_assert(!status == !diags.errors);
    memcpy(copy, text.ptr, text.len);
    copy[i] ^= (char)(1 + i % 127);
    again();
    status = tn_module_parse(m, path, (tn_str){copy, text.len});
    ck_assert(!status == !diags.errors);
    if (!status) tn_module_verify(m);
  }
  free(copy);
}

START_TEST(cut_and_changed_files) { each_file(TN_SOURCE_DIR "/tests/ir", damage); }
END_TEST

START_TEST(depth_and_size_are_limited) {
  tn_buf b = {0};
  tn_buf_puts(&b, "module @a { dims S func @f(%x: f32[");
  for (int i = 0; i < 100000; i++) tn_buf_puts(&b, "(");
  ck_assert_int_eq(parse(b.text), TN_INVALID);
  tn_buf_fini(&b);
  again();
  tn_buf_puts(&b, "module @a { func @f(%x: f32[1]) -> f32[1] { %y = neg %x loc(");
  for (int i = 0; i < 100000; i++) tn_buf_puts(&b, "derived \"d\" (");
  ck_assert_int_eq(parse(b.text), TN_INVALID);
  tn_buf_fini(&b);
  again();
  tn_buf_puts(&b, "module @a {");
  for (int i = 0; i < 100000; i++) tn_buf_puts(&b, "\nx");
  diags.limit = 10;
  ck_assert_int_eq(parse(b.text), TN_INVALID);
  ck_assert(diags.errors <= 1100 && diags.list.count == 10);
  tn_buf_fini(&b);
  again();
  ck_assert_int_eq(parse("module @a { func @f(%x: f32[1,1,1,1,1,1,1,1,1]) -> () { return } }"), TN_INVALID);
  ck_assert_ptr_nonnull(strstr(messages(), "a type has more than 8 dims"));
}
END_TEST

static const char *const sample =
    "module @s {\n"
    "  meta \"a\" = \"b\"\n"
    "  dims B, S <= 8, C where S + B <= C\n"
    "  weight @w : f32[8, 8] = \"file\" + 0x0 : 0x100\n"
    "  state @k : f32[B, C, 2, 4]\n"
    "  func @f(%x: f32[B, S, 8]) -> (y: f32[B, S, 8]) attrs {when = dim S / 2, l = ints [1, 2], s = dims "
    "[S]} {\n"
    "    %a = matmul %x, @w {trans_b} loc(fused \"\" (node 3 \"n\", derived \"p\" (page \"g\" 1:2)))\n"
    "    %l, %r = split %a {axis = 2, sizes = [4, 4]}\n"
    "    %c = concat %r, %l {axis = -1}\n"
    "    %k = kernel %c {root = \"loop\"} : f32[B, S, 8] {\n"
    "      ^(%c: f32[B, S, 8]):\n"
    "      %o = constant {value = [1, 2, 3, 4, 5, 6, 7, 8]} : f32[8]\n"
    "      %m = mul %c, %o\n"
    "      yield %m\n"
    "    }\n"
    "    return %k\n"
    "  }\n"
    "}\n";

START_TEST(no_allocation_may_fail_unseen) {
  teardown();
  tn_buf whole = {0};
  for (long n = -1;; n++) {
    tn_buf out = {0};
    tn_mem_fail_after(n);
    tn_diags_init(&diags);
    m = tn_module_new(&diags);
    tn_status status = m ? parse(sample) : TN_OOM;
    if (!status) status = tn_module_verify(m);
    if (!status) status = tn_module_print(m, &out);
    tn_mem_fail_after(-1);
    ck_assert_msg(!m || !status == !diags.errors, "at %ld: status %d, %u errors\n%s", n, status, diags.errors,
                  messages());
    if (n < 0) {
      ck_assert_msg(!status, "%s", messages());
      whole = out;
    } else if (!status) {
      ck_assert_str_eq(out.text, whole.text);
      tn_buf_fini(&out);
      ck_assert_int_gt(n, 100);
      break;
    } else
      tn_buf_fini(&out);
    teardown();
  }
  tn_buf_fini(&whole);
}
END_TEST

int main(void) {
  Suite *s = suite_create("ir text");
  TCase *t = tcase_create("text");
  tcase_set_timeout(t, 300);
  tcase_add_checked_fixture(t, setup, teardown);
  tcase_add_test(t, files_round_trip);
  tcase_add_test(t, names_stay_unique);
  tcase_add_test(t, damaged_text_is_refused_with_a_place);
  tcase_add_test(t, cut_and_changed_files);
  tcase_add_test(t, depth_and_size_are_limited);
  tcase_add_test(t, no_allocation_may_fail_unseen);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
