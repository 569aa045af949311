/* test_package.c - packages on their way to a device: which image is taken, and that no damage is believed.
 */
#include "backends/cuda/run/device.h"
#include "backends/cuda/run/reader.h"
#include "tenon/ir.h"
#include "tests/cuda/toy.h"
#include <check.h>
#include <dlfcn.h>
#include <stdlib.h>

static const tn_device_api *const api = &tn_cuda_device_api;

/* ---- choice -------------------------------------------------------------------------------------------- */

static const char *code_of(uint32_t cc, const char *end, uint32_t version) {
  static char text[200];
  snprintf(
      text, sizeof text,
      ".version %u.%u\n.target sm_%u%s\n.address_size 64\n.visible .entry k(.param .u64 k_0, .param .u64 "
      "k_1)\n{\nret;\n}\n",
      version / 10, version % 10, cc, end);
  return text;
}
/* A kernel k without buffers: PTX, and before it what looks like machine code. */
static tn_bytes small(uint32_t cc, bool exact, uint32_t version, bool cubin, bool ptx) {
  toy t = {0};
  toy_kernel(&t, "k", 0, 0);
  toy_launch(&t, "k", 32, TN_CUDA_NONE);
  if (cubin) toy_cubin(&t);
  if (ptx) toy_ptx(&t, version, code_of(cc, exact ? "a" : "", version));
  return toy_finish(&t, cc, exact);
}

typedef struct choice {
  const char *settings;
  const char *list; /* of "80 70 ptx cubin", "90a ..." */
  const char *code; /* taken, or NULL: */
  const char *words[3];
} choice;
static const choice choices[] = {
    {"sm=80", "80", "PTX 7.0 sm_80", {0}},
    {"sm=80", "80 90a", "PTX 7.0 sm_80", {0}},
    {"sm=90", "80 90a", "PTX 8.0 sm_90a", {0}},
    {"sm=90", "90a 80", "PTX 8.0 sm_90a", {0}},
    {"sm=90", "80 89 90", "PTX 7.8 sm_90", {0}},
    {"sm=89", "80 89 90", "PTX 7.8 sm_89", {0}},
    {"sm=100", "80 89 90a", "PTX 7.8 sm_89", {0}},
    {"sm=120", "80 90a 100a 120", "PTX 8.7 sm_120", {0}},
    {"sm=80", "90a", NULL, {"no kernels for cuda:0", "compute capability 8.0", "PTX 8.0 sm_90a"}},
    {"sm=80", "90a 89", NULL, {"PTX 7.8 sm_89", "PTX 8.0 sm_90a", "cuda:sm_80"}},
    /* the driver refuses: the next best */
    {"sm=90", "80c 90ac", "PTX 8.0 sm_90a", {0}},
    {"sm=86", "80c", "PTX 7.0 sm_80", {0}},
    {"sm=120,driver=12000", "80 120", "PTX 7.0 sm_80", {0}},
    {"sm=120,driver=12000",
     "120",
     NULL,
     {"PTX 8.7 sm_120: CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222)", "update", "driver"}},
    {"sm=80", "80C", NULL, {"cubin sm_80: CUDA_ERROR_NO_BINARY_FOR_GPU (209)", "compile for", ""}},
    {"sm=90", "80C 90aC", NULL, {"cubin sm_90a: CUDA_ERROR_NO_BINARY", "compile", ""}},
};

/* "80": PTX for sm_80; a: exact; c: with machine code; C: machine code only. */
static uint32_t packages_of(const char *list, tn_bytes out[4]) {
  uint32_t n = 0;
  for (char *end; *list; list = *end == ' ' ? end + 1 : end) {
    uint32_t cc = (uint32_t)strtoul(list, &end, 10);
    bool exact = *end == 'a';
    end += exact;
    uint32_t version = cc == 80                           ? 70
                       : cc == 89 || (cc == 90 && !exact) ? 78
                       : cc == 90                         ? 80
                       : cc == 100                        ? 86
                                                          : 87;
    out[n++] = small(cc, exact, version, *end == 'c' || *end == 'C', *end != 'C');
    end += *end == 'c' || *end == 'C';
  }
  return n;
}
START_TEST(chosen) {
  const choice *c = &choices[_i];
  tn_bytes packages[4];
  char words[2048] = "";
  tn_device *d = NULL;
  setenv("TENON_FAKE_CUDA", c->settings, 1);
  ck_assert_ptr_nonnull(dlopen(FAKE_CUDA, RTLD_NOW | RTLD_LOCAL));
  uint32_t n = packages_of(c->list, packages);
  tn_status s = api->open(packages, n, NULL, &d, words, sizeof words);
  if (c->code) {
    tn_device_info i;
    ck_assert_msg(s == TN_OK, "%s", words);
    api->info(d, &i);
    ck_assert_str_eq(i.code, c->code);
    api->close(d);
  } else {
    ck_assert_int_eq(s, TN_UNSUPPORTED);
    ck_assert_ptr_null(d);
    for (int i = 0; i < 3; i++)
      ck_assert_msg(strstr(words, c->words[i]) != NULL, "'%s' is not in: %s", c->words[i], words);
  }
  for (uint32_t i = 0; i < n; i++) free((void *)packages[i].ptr);
}
END_TEST

/* What the driver says about the text comes through; shared memory that the device has not is told. */
START_TEST(refusals) {
  char words[2048];
  tn_device *d = NULL;
  toy t = {0};
  setenv("TENON_FAKE_CUDA", "sm=86", 1);
  ck_assert_ptr_nonnull(dlopen(FAKE_CUDA, RTLD_NOW | RTLD_LOCAL));
  toy_kernel(&t, "k", 0, 0);
  toy_launch(&t, "k", 32, TN_CUDA_NONE);
  toy_ptx(&t, 70, ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\nnonsense;\n}\n");
  tn_bytes p = toy_finish(&t, 80, false);
  ck_assert_int_eq(api->open(&p, 1, "cuda", &d, words, sizeof words), TN_INTERNAL);
  ck_assert_msg(strstr(words, "CUDA_ERROR_INVALID_PTX") && strstr(words, "nonsense"), "%s", words);
  free((void *)p.ptr);
  toy_kernel(&t, "k", 0, 0);
  toy_launch(&t, "k", 32, TN_CUDA_NONE)->shared = 160 * 1024;
  toy_ptx(&t, 70, code_of(80, "", 70));
  p = toy_finish(&t, 80, false);
  ck_assert_int_eq(api->open(&p, 1, "cuda", &d, words, sizeof words), TN_UNSUPPORTED);
  ck_assert_msg(strstr(words, "k wants 163840 bytes of shared memory, cuda:0 has 101376"), "%s", words);
  free((void *)p.ptr);
  toy_kernel(&t, "k", 0, 0);
  toy_launch(&t, "other", 32, TN_CUDA_NONE);
  toy_ptx(&t, 70, code_of(80, "", 70));
  p = toy_finish(&t, 80, false);
  ck_assert_int_eq(api->open(&p, 1, "cuda", &d, words, sizeof words), TN_INTERNAL);
  ck_assert_msg(strstr(words, "kernel other: CUDA_ERROR_NOT_FOUND (500)"), "%s", words);
  free((void *)p.ptr);
}
END_TEST

/* ---- damage -------------------------------------------------------------------------------------------- */

static tn_status read_it(tn_bytes b, bool evaluate) {
  tn_cuda_view v;
  tn_buf why = {0};
  tn_status s = tn_cuda_view_open(&v, b, &why);
  ck_assert(s == TN_OK ? !why.len : s == TN_DATA_LOSS && why.len);
  if (s == TN_OK) {
    int64_t *values = calloc(v.most_exprs + 1u, sizeof *values), *dims;
    for (uint32_t i = 0; i < v.head->launches.count && evaluate; i++) {
      dims = calloc(v.plans[i].kernel->ndims + 1u, sizeof *dims); /* as many as it says it reads */
      if (dims) tn_cuda_evaluate(&v, &v.plans[i], dims, values);
      free(dims);
    }
    free(values);
    tn_cuda_view_close(&v);
  }
  tn_buf_fini(&why);
  return s;
}

START_TEST(every_bit) {
  tn_bytes b = toy_package(90);
  uint8_t *p = (uint8_t *)b.ptr;
  ck_assert_int_eq(read_it(b, true), TN_OK);
  for (uint64_t i = 0; i < b.len; i++)
    for (int k = 0; k < 8; k++) {
      p[i] ^= (uint8_t)(1 << k);
      ck_assert_msg(read_it(b, false) == TN_DATA_LOSS, "bit %d of byte %llu", k, (unsigned long long)i);
      p[i] ^= (uint8_t)(1 << k);
    }
  for (uint64_t n = 0; n < b.len; n += n < 200 ? 1 : 37) {
    uint8_t *part = malloc(n + 1);
    memcpy(part, p, n);
    ck_assert_int_eq(read_it((tn_bytes){part, n}, false), TN_DATA_LOSS);
    free(part);
  }
  free(p);
}
END_TEST

/* With the sum put right, only the checks behind it are left: what they let through can be evaluated. */
START_TEST(every_word) {
  static const uint32_t values[] = {0, 1, 7, 255, 4096, 0x7fffffff, 0x80000000, 0xffffffff};
  tn_bytes b = toy_package(90);
  uint32_t *w = (uint32_t *)b.ptr, refused = 0;
  const tn_cuda_package *h = b.ptr;
  uint32_t end = h->images.offset + h->images.count * (uint32_t)sizeof(tn_cuda_image);
  for (uint32_t i = 0; i < end / 4; i++) {
    if (i == offsetof(tn_cuda_package, hash) / 4 || i == offsetof(tn_cuda_package, hash) / 4 + 1) continue;
    uint32_t was = w[i];
    for (size_t k = 0; k < TN_COUNT(values) + 2; k++) {
      w[i] = k < TN_COUNT(values) ? values[k] : k == TN_COUNT(values) ? was + 1 : was - 1;
      toy_seal(b);
      refused += read_it(b, true) != TN_OK;
    }
    w[i] = was;
  }
  toy_seal(b);
  ck_assert_int_eq(read_it(b, true), TN_OK);
  ck_assert_uint_gt(refused, 1000);
  free((void *)b.ptr);
}
END_TEST

/* ---- values -------------------------------------------------------------------------------------------- */

static const struct {
  uint32_t kind;
  int64_t a, b, want;
  bool fails;
} sums[] = {
    {TN_DIM_ADD, 3, -5, -2, false},      {TN_DIM_ADD, INT64_MAX, 1, 0, true},
    {TN_DIM_MUL, -3, 5, -15, false},     {TN_DIM_MUL, INT64_MAX, 2, 0, true},
    {TN_DIM_FLOORDIV, 7, 2, 3, false},   {TN_DIM_FLOORDIV, -7, 2, -4, false},
    {TN_DIM_FLOORDIV, 7, -2, -4, false}, {TN_DIM_FLOORDIV, -8, 2, -4, false},
    {TN_DIM_FLOORDIV, 1, 0, 0, true},    {TN_DIM_FLOORDIV, INT64_MIN, -1, 0, true},
    {TN_DIM_MOD, 7, 4, 3, false},        {TN_DIM_MOD, -7, 4, 1, false},
    {TN_DIM_MOD, 7, -4, -1, false},      {TN_DIM_MOD, 8, -4, 0, false},
    {TN_DIM_MOD, 1, 0, 0, true},         {TN_DIM_MIN, -1, 2, -1, false},
    {TN_DIM_MAX, -1, 2, 2, false},
};
START_TEST(arithmetic) {
  toy t = {0};
  tn_cuda_view v;
  tn_buf why = {0};
  int64_t got[4], dims[] = {sums[_i].a, sums[_i].b};
  toy_kernel(&t, "k", 0, 2);
  toy_const(&t, 99); /* nobody asks for it */
  toy_launch(&t, "k", 32, toy_expr(&t, sums[_i].kind, toy_sym(&t, 0), toy_sym(&t, 1)));
  toy_cubin(&t);
  tn_bytes b = toy_finish(&t, 80, false);
  ck_assert_msg(tn_cuda_view_open(&v, b, &why) == TN_OK, "%s", tn_buf_cstr(&why));
  ck_assert_uint_eq(v.plans[0].n, 3);
  ck_assert_int_eq(tn_cuda_evaluate(&v, &v.plans[0], dims, got), !sums[_i].fails);
  if (!sums[_i].fails) ck_assert_int_eq(got[v.plans[0].grid[0]], sums[_i].want);
  tn_cuda_view_close(&v);
  free((void *)b.ptr);
}
END_TEST

/* x + x, forty times: 2 to the 40 additions, or forty. */
START_TEST(shared_terms) {
  toy t = {0};
  tn_cuda_view v;
  tn_buf why = {0};
  int64_t got[64], dims[] = {3};
  toy_kernel(&t, "k", 0, 1);
  uint32_t x = toy_sym(&t, 0);
  for (int i = 0; i < 40; i++) x = toy_expr(&t, TN_DIM_ADD, x, x);
  toy_launch(&t, "k", 32, x);
  toy_cubin(&t);
  tn_bytes b = toy_finish(&t, 80, false);
  ck_assert_int_eq(tn_cuda_view_open(&v, b, &why), TN_OK);
  ck_assert(tn_cuda_evaluate(&v, &v.plans[0], dims, got));
  ck_assert_int_eq(got[v.plans[0].grid[0]], 3ll << 40);
  tn_cuda_view_close(&v);
  free((void *)b.ptr);
}
END_TEST

int main(void) {
  Suite *s = suite_create("cuda package");
  TCase *t = tcase_create("package");
  tcase_set_timeout(t, 120);
  tcase_add_loop_test(t, chosen, 0, (int)TN_COUNT(choices));
  tcase_add_test(t, refusals);
  tcase_add_test(t, every_bit);
  tcase_add_test(t, every_word);
  tcase_add_loop_test(t, arithmetic, 0, (int)TN_COUNT(sums));
  tcase_add_test(t, shared_terms);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
