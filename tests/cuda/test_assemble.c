/* test_assemble.c - how ptxas is found, run and believed: with scripts in its place, and with the real one
 * where there is one (TENON_TEST_PTXAS). */
#include "backends/cuda/assemble.h"
#include "tests/cuda/toy.h"
#include <check.h>
#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the host ------------------------------------------------------------------------------------------ */

static char told[4096], failed[1024];

tn_status tn_cuda_fail(tn_cuda *c, tn_module *m, tn_loc loc, tn_status status, const char *fmt, ...) {
  va_list ap;
  (void)c, (void)m, (void)loc;
  va_start(ap, fmt);
  vsnprintf(failed, sizeof failed, fmt, ap);
  va_end(ap);
  return status;
}
static void diag(void *ctx, tn_module *m, const tn_diag *d) {
  (void)ctx, (void)m;
  ck_assert_int_eq(d->severity, TN_NOTE);
  snprintf(told + strlen(told), sizeof told - strlen(told), "%.*s\n", (int)d->text.len, d->text.ptr);
}
static tn_cuda host = {.host = {.diag = diag}};
static const tn_cuda_target sm_80 = {.target = {.name = "sm_80"}, .cpu = "sm_80"},
                            sm_90a = {.target = {.name = "sm_90a"}, .cpu = "sm_90a"};
static tn_buf cubin, words;

static tn_status assemble(const tn_cuda_target *t, const char *ptx, const char *ptxas, const char *cache) {
  told[0] = failed[0] = 0;
  tn_buf_fini(&cubin);
  tn_buf_fini(&words);
  return tn_cuda_assemble(&host, t, ptx, ptxas, cache, &cubin, &words);
}
static void says(const char *text, const char *what) {
  ck_assert_msg(strstr(text, what) != NULL, "'%s' is not in: %s", what, text);
}

/* ---- scripts ------------------------------------------------------------------------------------------- */

static char folder[64], temp[96];

static char *path(const char *name) {
  static char paths[8][200];
  static int next;
  char *p = paths[next++ % 8];
  snprintf(p, sizeof paths[0], "%s/%s", folder, name);
  return p;
}
static void setup(void) {
  snprintf(folder, sizeof folder, "/tmp/tn-assemble-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(folder));
  snprintf(temp, sizeof temp, "%s/temp", folder);
  mkdir(temp, 0700);
  setenv("TMPDIR", temp, 1);
  setenv("PATH", "/nonexistent", 1);
  unsetenv("TENON_PTXAS");
  unsetenv("CUDA_HOME");
  unsetenv("CUDA_PATH");
}
/* Nothing may be left of a run. */
static void teardown(void) {
  char command[200];
  ck_assert_msg(rmdir(temp) == 0, "%s is not empty", temp);
  snprintf(command, sizeof command, "/bin/rm -r '%s'", folder);
  ck_assert_int_eq(system(command), 0);
  tn_buf_fini(&cubin);
  tn_buf_fini(&words);
}
/* What is in place of ptxas in `name`/ptxas: notes each call in the file "calls". */
static const char *script(const char *name, const char *body) {
  mkdir(path(name), 0700);
  char *file = path("");
  snprintf(file, 200, "%s/%s/ptxas", folder, name);
  FILE *f = fopen(file, "w");
  ck_assert_ptr_nonnull(f);
  fprintf(f,
          "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'Cuda compilation tools, release 12.3, V12.3.%s'; "
          "exit; "
          "fi\necho $2 >> '%s/calls'\n%s\n",
          name, folder, body);
  fclose(f);
  chmod(file, 0700);
  return file;
}
static uint32_t calls(void) {
  char line[64];
  uint32_t n = 0;
  FILE *f = fopen(path("calls"), "r");
  while (f && fgets(line, sizeof line, f)) n++;
  if (f) fclose(f);
  return n;
}
#define COPIES "/bin/cat \"$3\" > \"$5\"; echo \"with $1 $2\""

START_TEST(none) {
  ck_assert_int_eq(assemble(&sm_80, "x", NULL, NULL), TN_OK);
  says(told, "sm_80: no ptxas, so the driver assembles");
  ck_assert_uint_eq(cubin.len, 0);
  setenv("PATH", path("1"), 1);
  script("1", COPIES);
  ck_assert_int_eq(assemble(&sm_80, "x", "none", NULL), TN_OK);
  says(told, "no ptxas");
  ck_assert_uint_eq(calls(), 0);
  ck_assert_int_eq(assemble(&sm_80, "x", path("2/ptxas"), NULL), TN_NOT_FOUND);
  says(failed, "2/ptxas' is not there or cannot be run");
  setenv("TENON_PTXAS", folder, 1); /* a folder */
  ck_assert_int_eq(assemble(&sm_80, "x", NULL, NULL), TN_NOT_FOUND);
}
END_TEST

/* Each is found before those that were set up earlier. */
START_TEST(order) {
  char home[300];
  script("3", COPIES);
  snprintf(home, sizeof home, "::/nonexistent:%s", path("3"));
  setenv("PATH", home, 1);
  ck_assert_int_eq(assemble(&sm_80, "x", NULL, NULL), TN_OK);
  says(told, "3/ptxas (12.3.3)");
  mkdir(path("4"), 0700);
  script("4/bin", COPIES);
  setenv("CUDA_PATH", path("4"), 1);
  ck_assert_int_eq(assemble(&sm_80, "x", NULL, NULL), TN_OK);
  says(told, "4/bin/ptxas");
  mkdir(path("5"), 0700);
  script("5/bin", COPIES);
  setenv("CUDA_HOME", path("5"), 1);
  ck_assert_int_eq(assemble(&sm_80, "x", NULL, NULL), TN_OK);
  says(told, "5/bin/ptxas");
  setenv("TENON_PTXAS", script("6", COPIES), 1);
  ck_assert_int_eq(assemble(&sm_80, "x", NULL, NULL), TN_OK);
  says(told, "6/ptxas (12.3.6)");
  ck_assert_int_eq(assemble(&sm_80, "text", script("7", COPIES), NULL), TN_OK);
  says(told, "sm_80: machine code by ");
  says(told, "7/ptxas (12.3.7)\n");
  ck_assert_str_eq(tn_buf_cstr(&cubin), "text");
  ck_assert_str_eq(tn_buf_cstr(&words), "with -v -arch=sm_80\n");
}
END_TEST

START_TEST(kept) {
  const char *ptxas = script("1", COPIES), *cache = path("cache");
  ck_assert_int_eq(assemble(&sm_80, "one", ptxas, cache), TN_OK);
  ck_assert_int_eq(assemble(&sm_80, "one", ptxas, cache), TN_OK);
  says(told, "kept from before");
  ck_assert_str_eq(tn_buf_cstr(&cubin), "one");
  ck_assert_uint_eq(calls(), 1);
  ck_assert_int_eq(assemble(&sm_80, "two", ptxas, cache), TN_OK);
  ck_assert_int_eq(assemble(&sm_90a, "two", ptxas, cache), TN_OK);
  ck_assert_uint_eq(calls(), 3);
  ck_assert_int_eq(assemble(&sm_80, "two", script("2", COPIES), cache), TN_OK); /* another version */
  ck_assert_uint_eq(calls(), 4);
  ck_assert_int_eq(assemble(&sm_80, "two", ptxas, NULL), TN_OK);
  ck_assert_uint_eq(calls(), 5);
}
END_TEST

static const char text[] =
    ".version 7.0\n.visible .entry tn_add_0(\n.param .u64 p)\n{\nret;\n}\n.visible .entry "
    "tn_mul_1(.param .u64 p)\n{\nfoo;\n}\n";
static const struct {
  const char *body;
  bool named; /* given as an option; else found in PATH */
  tn_status status;
  const char *words; /* of the error or note */
} refusals[] = {
    {"echo \"ptxas $3, line 9; error   : Unknown symbol 'q'\"; exit 255", true, TN_INTERNAL,
     "refuses kernel tn_mul_1 for sm_90a, line 9: Unknown symbol 'q'"},
    {"echo \"ptxas $3, line 5; error   : what\"; exit 1", false, TN_INTERNAL,
     "refuses kernel tn_add_0 for sm_90a, line 5"},
    {"echo 'ptxas fatal   : no space'; exit 1", true, TN_INTERNAL,
     "refuses the kernels for sm_90a: no space"},
    {"exit 1", true, TN_INTERNAL, "it does not say why"},
    {"kill -9 $$", true, TN_INTERNAL, "refuses the kernels"},
    {"exit 0", true, TN_INTERNAL, "made no code and no error"},
    {"echo \"ptxas fatal   : Value 'sm_90a' is not defined for option 'gpu-name'\"; exit 1", true,
     TN_INTERNAL, "is not defined"},
    {"echo \"ptxas fatal   : Value 'sm_90a' is not defined for option 'gpu-name'\"; exit 1", false, TN_OK,
     "does not know sm_90a: Value 'sm_90a' is not defined for option 'gpu-name'; the driver assembles"},
    {"echo \"ptxas $3, line 1; fatal   : Unsupported .version 9.9; current version is '9.0'\"; exit 1", false,
     TN_OK, "Unsupported .version 9.9"},
};
START_TEST(refused) {
  const char *ptxas = script("1", refusals[_i].body);
  setenv("PATH", path("1"), 1);
  ck_assert_int_eq(assemble(&sm_90a, text, refusals[_i].named ? ptxas : NULL, path("cache")),
                   refusals[_i].status);
  says(refusals[_i].status ? failed : told, refusals[_i].words);
  ck_assert_uint_eq(cubin.len, 0);
  ck_assert_int_eq(assemble(&sm_90a, text, refusals[_i].named ? ptxas : NULL, path("cache")),
                   refusals[_i].status);
  ck_assert_uint_eq(calls(), 2); /* nothing was kept */
}
END_TEST

static tn_cuda_usage usages[8];
static uint32_t nusages;
static void take(void *user, const tn_cuda_usage *u) {
  ck_assert_ptr_eq(user, &host);
  if (nusages < 8) usages[nusages++] = *u;
}
START_TEST(usage) {
  static const char log[] =
      "ptxas info    : 11 bytes gmem\n"
      "ptxas info    : Compiling entry function 'a' for 'sm_90a'\n"
      "ptxas info    : Function properties for a\n"
      "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
      "ptxas info    : Used 168 registers, used 9 barriers, 1024 bytes smem, 400 bytes cmem[0]\n"
      "ptxas info    : (C7517) warpgroup.wait is injected in around line 3 by compiler\n"
      "ptxas info    : Compiling entry function 'b' for 'sm_90a'\n"
      "ptxas info    : Function properties for b\n"
      "    32 bytes stack frame, 40 bytes spill stores, 44 bytes spill loads\n"
      "ptxas info    : Used 255 registers, used 0 barriers, 352 bytes cmem[0]";
  ck_assert_uint_eq(tn_cuda_usage_of(TN_STR(log), take, &host), 1);
  ck_assert_uint_eq(nusages, 2);
  ck_assert_str_eq(usages[0].function, "a");
  ck_assert(usages[0].registers == 168 && usages[0].shared == 1024 && !usages[0].spills && !usages[0].stack);
  ck_assert_str_eq(usages[1].function, "b");
  ck_assert(usages[1].registers == 255 && !usages[1].shared && usages[1].spills == 84 &&
            usages[1].stack == 32);
  ck_assert_uint_eq(tn_cuda_usage_of((tn_str){"", 0}, take, &host), 0);
}
END_TEST

/* The real one. */
START_TEST(real) {
  const char *ptxas = getenv("TENON_TEST_PTXAS");
  if (!ptxas || !*ptxas) return;
  tn_bytes package = toy_package(80);
  const tn_cuda_package *h = package.ptr;
  const tn_cuda_image *image =
      (const tn_cuda_image *)(const void *)((const char *)package.ptr + h->images.offset);
  const char *ptx = (const char *)package.ptr + image->offset;
  ck_assert_msg(assemble(&sm_80, ptx, ptxas, NULL) == TN_OK, "%s", failed);
  ck_assert(cubin.len > 64 && !memcmp(cubin.text, "\177ELF", 4));
  ck_assert_uint_eq(tn_cuda_usage_of((tn_str){words.text, words.len}, take, &host), 0);
  ck_assert_uint_eq(nusages, 6);
  for (uint32_t i = 0; i < nusages; i++)
    ck_assert(usages[i].registers > 0 && !usages[i].spills && !usages[i].stack);
  free((void *)package.ptr);
  ck_assert_int_eq(
      assemble(&sm_80, ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\nfoo;\n}\n",
               ptxas, NULL),
      TN_INTERNAL);
  says(failed, "refuses kernel k for sm_80, line 6: ");
}
END_TEST

int main(void) {
  Suite *s = suite_create("cuda assemble");
  TCase *t = tcase_create("assemble");
  tcase_set_timeout(t, 60);
  tcase_add_checked_fixture(t, setup, teardown);
  tcase_add_test(t, none);
  tcase_add_test(t, order);
  tcase_add_test(t, kept);
  tcase_add_loop_test(t, refused, 0, (int)TN_COUNT(refusals));
  tcase_add_test(t, usage);
  tcase_add_test(t, real);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int n = srunner_ntests_failed(r);
  srunner_free(r);
  return n != 0;
}
