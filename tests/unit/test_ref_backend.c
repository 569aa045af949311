/* test_ref_backend.c - the reference as a backend, through the plugin interface: compile, load, launch; and
 * tn_ref_eval, the constant folder's entry. Expected numbers are small enough to be read off. */
#include "backends/ref/ref.h"
#include "ir/ir.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>

static const char text[] =
    "module @m {\n"
    "  dims B, S, P, C where P + S <= C\n"
    "  state @kv : f32[B, C, 1, 2]\n"
    "  func @f(%x: f32[B, S, 4], %w: f32[2, 4]) -> f32[B, S * 2] {\n"
    "    %r = kernel %x, %w {backend = \"ref\", root = \"matmul\"} : f32[B, S * 2] {\n"
    "      ^(%a: f32[B, S, 4], %b: f32[2, 4]):\n"
    "      %c = constant {value = [10, 20]} : f32[2]\n"
    "      %y = matmul %a, %b {trans_b} : f32[B, S, 2]\n"
    "      %z = add %y, %c : f32[B, S, 2]\n"
    "      %u = relu %z : f32[B, S, 2]\n"
    "      %v = reshape %u {shape = [B, S * 2]} : f32[B, S * 2]\n"
    "      yield %v\n"
    "    }\n"
    "    return %r\n"
    "  }\n"
    "  func @g(%x: f32[B, S, 1, 2]) -> f32[B, C, 1, 2] {\n"
    "    %r = kernel @kv, %x {backend = \"ref\", root = \"kv_update\"} : f32[B, C, 1, 2] {\n"
    "      ^(%s: f32[B, C, 1, 2], %a: f32[B, S, 1, 2]):\n"
    "      %n = neg %a : f32[B, S, 1, 2]\n"
    "      %y = kv_update %s, %n {pos = P} : f32[B, C, 1, 2]\n"
    "      yield %y\n"
    "    }\n"
    "    return %r\n"
    "  }\n"
    "  func @h(%x: f32[B, 3]) -> (p: f32[B, 1], q: f32[B, 2], a: f32[B, 3], s: f32[B, S]) {\n"
    "    %0, %1, %2, %3 = kernel %x {backend = \"ref\", root = \"loop\"} : f32[B, 1], f32[B, 2], f32[B, 3], "
    "f32[B, S] {\n"
    "      ^(%a: f32[B, 3]):\n"
    "      %p, %q = split %a {axis = 1, sizes = [1, 2]} : f32[B, 1], f32[B, 2]\n"
    "      %s = slice %a {axis = 1, start = 0, stop = S} : f32[B, S]\n"
    "      yield %p, %q, %a, %s\n"
    "    }\n"
    "    return %0, %1, %2, %3\n"
    "  }\n"
    "  func @other(%x: f32[B]) -> f32[B] {\n"
    "    %r = kernel %x {backend = \"cpu\"} : f32[B] {\n"
    "      ^(%a: f32[B]):\n"
    "      %y = neg %a : f32[B]\n"
    "      yield %y\n"
    "    }\n"
    "    return %r\n"
    "  }\n"
    "}\n";

typedef struct row {
  tn_op op;
  char symbol[32];
  tn_dim dims[8];
  uint32_t ndims, flags;
} row;
static struct {
  tn_diags diags;
  tn_module *m;
  void *self;
  const tn_plugin *plugin;
  const tn_backend *backend;
  tn_buf image;
  row rows[8];
  uint32_t nrows, errors;
} t;

static void note(void *ctx, tn_module *m, const tn_diag *d) {
  (void)ctx, (void)m;
  ck_assert_uint_gt(d->text.len, 0);
  t.errors++;
}
static tn_status take_image(void *ctx, tn_bytes image) {
  (void)ctx;
  tn_buf_put(&t.image, image.ptr, image.len);
  return TN_OK;
}
static tn_status take_kernel(void *ctx, const tn_kernel_info *i) {
  (void)ctx;
  row *r = &t.rows[t.nrows++];
  *r = (row){.op = i->op, .ndims = i->ndims, .flags = i->flags};
  strcpy(r->symbol, i->symbol);
  memcpy(r->dims, i->dims, i->ndims * sizeof *i->dims);
  return TN_OK;
}

static void setup(void) {
  static const tn_host host = {.size = sizeof host, .abi = TN_ABI, .diag = note, .ir = &tn_ir_table};
  const char *why = NULL;
  memset(&t, 0, sizeof t);
  tn_diags_init(&t.diags);
  t.m = tn_module_new(&t.diags);
  tn_status s = tn_module_parse(t.m, "test", TN_STR(text));
  if (s == TN_OK) s = tn_module_verify(t.m);
  tn_buf words = {0};
  tn_diags_text(&t.diags, &words, false);
  ck_assert_msg(s == TN_OK, "%s", tn_buf_cstr(&words));
  tn_buf_fini(&words);
  t.plugin = tn_plugin_query_ref(TN_ABI, &why);
  ck_assert_ptr_nonnull(t.plugin);
  ck_assert_int_eq(t.plugin->init(&host, &t.self), TN_OK);
  t.backend = t.plugin->table(t.self, "tn.backend/1", 0);
  tn_package_sink sink = {sizeof sink, 0, NULL, take_image, take_kernel};
  ck_assert_int_eq(t.backend->compile(t.self, NULL, t.m, NULL, &sink), TN_OK);
}

static void teardown(void) {
  t.plugin->fini(t.self);
  tn_module_free(t.m);
  tn_diags_fini(&t.diags);
  tn_buf_fini(&t.image);
}

static int64_t value_of(tn_dim d) {
  static const struct {
    const char *name;
    int64_t value;
  } values[] = {{"B", 1}, {"S", 2}, {"P", 3}, {"C", 6}};
  for (size_t i = 0; i < TN_COUNT(values); i++)
    if (tn_ir_dim_sym(t.m, values[i].name) == d) return values[i].value;
  return -1;
}

/* Launches kernel `k` on all of two threads. */
static void launch(tn_exec *x, uint32_t k, void *const *bufs, int64_t s) {
  tn_kcall call = {.bufs = bufs, .nthreads = 2};
  tn_kernel_fn fn = NULL;
  int64_t dims[8];
  for (uint32_t i = 0; i < t.rows[k].ndims; i++)
    dims[i] = t.rows[k].dims[i] == tn_ir_dim_sym(t.m, "S") ? s : value_of(t.rows[k].dims[i]);
  ck_assert_int_eq(t.backend->kernel(x, t.rows[k].symbol, &fn, &call.ctx), TN_OK);
  call.dims = dims;
  for (call.thread = 0; call.thread < 2; call.thread++) fn(&call);
}

static tn_exec *load(void) {
  tn_exec *x = NULL;
  ck_assert_int_eq(t.backend->load(t.self, NULL, (tn_bytes){t.image.text, t.image.len}, &x), TN_OK);
  return x;
}

START_TEST(compiles_its_own_kernels) {
  ck_assert_uint_eq(t.nrows, 3);
  for (uint32_t i = 0; i < 3; i++) {
    ck_assert_uint_eq(t.rows[i].flags, TN_KERNEL_SINGLE);
    for (uint32_t d = 0; d < t.rows[i].ndims; d++) ck_assert_int_gt(value_of(t.rows[i].dims[d]), 0);
  }
  ck_assert_uint_eq(t.rows[0].ndims, 2);
  ck_assert_uint_eq(t.rows[1].ndims, 4);
}
END_TEST

START_TEST(runs_a_fused_body) {
  float x[8] = {1, 0, 0, 0, 0, 1, 0, 2}, w[8] = {1, 2, 3, 4, -30, 6, 7, -20}, y[4] = {0};
  tn_exec *e = load();
  launch(e, 0, (void *const[]){x, w, y}, 2);
  t.backend->unload(e);
  /* rows of x times rows of w: (1, -30) and (10, -34); plus (10, 20); not below 0 */
  ck_assert(y[0] == 11 && y[1] == 0 && y[2] == 20 && y[3] == 0);
}
END_TEST

START_TEST(updates_a_state_in_place) {
  float kv[12] = {0}, x[4] = {1, 2, 3, 4};
  tn_exec *e = load();
  launch(e, 1, (void *const[]){kv, x, kv}, 2);
  t.backend->unload(e);
  for (int i = 0; i < 12; i++) ck_assert(kv[i] == (i >= 6 && i < 10 ? (float)-(i - 5) : 0));
}
END_TEST

START_TEST(gives_several_results) {
  float x[3] = {1, 2, 3}, p = 0, q[2] = {0}, a[3] = {0}, s[2] = {0};
  tn_exec *e = load();
  launch(e, 2, (void *const[]){x, &p, q, a, s}, 2);
  t.backend->unload(e);
  ck_assert(p == 1 && q[0] == 2 && q[1] == 3 && a[0] == 1 && a[2] == 3 && s[0] == 1 && s[1] == 2);
}
END_TEST

/* A slice that is too long shows only when S is known: no read out of bounds, a message, and NaN. */
START_TEST(reports_and_poisons) {
  float x[3] = {1, 2, 3}, p = 0, q[2] = {0}, a[3] = {0}, s[9] = {0};
  tn_exec *e = load();
  launch(e, 2, (void *const[]){x, &p, q, a, s}, 9);
  t.backend->unload(e);
  ck_assert_uint_eq(t.errors, 1);
  ck_assert(isnan(p) && isnan(q[1]) && isnan(a[2]) && isnan(s[8]));
}
END_TEST

START_TEST(refuses_wrong_images) {
  static const char *const images[] = {"",
                                       "tenon-ref",
                                       "tenon-ref 0\n",
                                       "tenon-ref 2\n",
                                       "tenon-ref 1\nkernel 0\n",
                                       "tenon-ref 1\nkernel 999999\n",
                                       "tenon-ref 1\nkernel 1x\n",
                                       "tenon-ref 1\nkern",
                                       "tenon-ref 99999999999999999999\n"};
  tn_exec *x = NULL;
  for (size_t i = 0; i < TN_COUNT(images); i++) {
    tn_bytes image = {images[i], strlen(images[i])};
    ck_assert_msg(t.backend->load(t.self, NULL, image, &x) == TN_INVALID, "image %zu was taken", i);
  }
  x = load();
  tn_kernel_fn fn;
  void *ctx;
  ck_assert_int_eq(t.backend->kernel(x, "ref_0", &fn, &ctx), TN_NOT_FOUND);
  t.backend->unload(x);
}
END_TEST

START_TEST(no_memory_is_a_status) {
  int failed = 0;
  for (long n = 0; n < 100; n++) {
    tn_exec *x = NULL;
    tn_mem_fail_after(n);
    tn_status s = t.backend->load(t.self, NULL, (tn_bytes){t.image.text, t.image.len}, &x);
    tn_mem_fail_after(-1);
    if (s == TN_OK) {
      t.backend->unload(x);
      break;
    }
    ck_assert_int_eq(s, TN_OOM);
    failed++;
  }
  ck_assert_int_gt(failed, 2);
}
END_TEST

static void count_target(void *user, const tn_target *target) {
  ck_assert_str_eq(target->name, "any");
  ++*(int *)user;
}

START_TEST(answers_as_a_plugin) {
  const char *why = NULL;
  int n = 0;
  ck_assert_ptr_null(tn_plugin_query_ref((TN_ABI_MAJOR + 1) << 16, &why));
  ck_assert_ptr_nonnull(why);
  ck_assert_ptr_null(t.plugin->table(t.self, "tn.backend/1", 1));
  ck_assert_ptr_null(t.plugin->table(t.self, "tn.pass/1", 0));
  ck_assert_int_eq(t.backend->targets(t.self, count_target, &n), TN_OK);
  ck_assert_int_eq(n, 1);
  ck_assert_uint_eq(t.backend->claim(t.self, NULL, t.m, t.rows[0].op, NULL), 1);
  ck_assert_uint_eq(t.backend->claim(t.self, NULL, t.m, tn_ir_first_op(t.m, 0, t.rows[0].op), NULL), 1);
  ck_assert_uint_eq(t.backend->claim(t.self, NULL, t.m, tn_ir_last_op(t.m, 1, 0), &why), 0);
}
END_TEST

START_TEST(evaluates_one_op) {
  tn_module *m = tn_module_new(&t.diags);
  tn_status s = tn_module_parse(m, "test",
                                TN_STR("module @e {\n  dims B\n"
                                       "  func @f(%a: f32[2], %b: f32[B]) -> f32[B] {\n"
                                       "    %r = add %a, %a : f32[2]\n"
                                       "    %s = neg %b : f32[B]\n"
                                       "    return %s\n  }\n}\n"));
  ck_assert_int_eq(s, TN_OK);
  float a[2] = {1.5f, -4};
  tn_ref_tensor x = {TN_DT_f32, 1, {2}, a}, in[2] = {x, x}, out = {0};
  tn_arena arena;
  tn_arena_init(&arena);
  tn_op op = tn_ir_first_op(m, 1, 0);
  ck_assert_int_eq(tn_ref_eval(&tn_ir_table, m, op, in, 2, &out, &arena), TN_OK);
  ck_assert(out.rank == 1 && out.dims[0] == 2 && out.dtype == TN_DT_f32);
  ck_assert(((float *)out.data)[0] == 3 && ((float *)out.data)[1] == -8);
  op = tn_ir_next_op(m, op);
  ck_assert_int_eq(tn_ref_eval(&tn_ir_table, m, op, in, 1, &out, &arena), TN_PRECONDITION);
  op = tn_ir_next_op(m, op);
  ck_assert_int_eq(tn_ref_eval(&tn_ir_table, m, op, in, 1, &out, &arena), TN_UNSUPPORTED);
  tn_arena_fini(&arena);
  tn_module_free(m);
}
END_TEST

int main(void) {
  Suite *s = suite_create("ref backend");
  TCase *c = tcase_create("backend");
  tcase_add_checked_fixture(c, setup, teardown);
  tcase_add_test(c, compiles_its_own_kernels);
  tcase_add_test(c, runs_a_fused_body);
  tcase_add_test(c, updates_a_state_in_place);
  tcase_add_test(c, gives_several_results);
  tcase_add_test(c, reports_and_poisons);
  tcase_add_test(c, refuses_wrong_images);
  tcase_add_test(c, no_memory_is_a_status);
  tcase_add_test(c, answers_as_a_plugin);
  tcase_add_test(c, evaluates_one_op);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
