/* bench.c - writes the kernels that gpu.sh times as case files: bench PLUGIN FOLDER [TARGET...]. Operands are
 * filled by `replay`, so that a file is as small as its code. Without targets: sm_80 and sm_90a. */
#include "passes/pass.h"
#include "tests/cuda/gpu/case.h"
#include "tools/conform/build.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct bench {
  const char *name, *text, *precision;
  double flops, bytes;
} bench;

#define MATMUL(N)                                                                                            \
  "module @m { func @f(%x: bf16[" N ", " N "], %w: bf16[" N ", " N "]) -> bf16[" N ", " N                    \
  "] {\n %r = matmul %x, %w {trans_b}\n return %r } }"
#define ATTENTION(S)                                                                                         \
  "module @m { func @f(%q: bf16[1, " S ", 32, 128], %k: bf16[1, " S ", 32, 128], %v: bf16[1, " S             \
  ", 32, 128]) -> bf16[1, " S                                                                                \
  ", 32, 128] {\n %r = attention %q, %k, %v {scale = 0x1.6a09e6p-4, causal}\n return "                       \
  "%r } }"
#define GEMV(TYPE, N, K)                                                                                     \
  "module @m { func @f(%x: f32[1, " K "], %w: " TYPE "[" N ", " K "]) -> f32[1, " N                          \
  "] {\n %r = matmul %x, %w "                                                                                \
  "{trans_b}\n return %r } }"
#define COPY "module @m { func @f(%x: f32[268435456]) -> f32[268435456] {\n %r = neg %x\n return %r } }"

static const bench list[] = {
    {"copy 1 GiB", COPY, "strict", 0, 2.0 * 4 * 268435456},
    {"matmul bf16 4096", MATMUL("4096"), "fast", 2.0 * 4096 * 4096 * 4096, 0},
    {"matmul bf16 8192", MATMUL("8192"), "fast", 2.0 * 8192 * 8192 * 8192, 0},
    {"attention causal d128 2048", ATTENTION("2048"), "fast", 2.0 * 32 * 2048 * 2048 * 128, 0},
    {"attention causal d128 8192", ATTENTION("8192"), "fast", 2.0 * 32 * 8192 * 8192 * 128, 0},
    {"gemv bf16 32000 x 2048", GEMV("bf16", "32000", "2048"), "fast", 0, 2.0 * 32000 * 2048},
    {"gemv bf16 11264 x 2048", GEMV("bf16", "11264", "2048"), "fast", 0, 2.0 * 11264 * 2048},
    {"gemv q8_0 32000 x 2048", GEMV("q8_0", "32000", "2048"), "fast", 0, 34.0 / 32 * 32000 * 2048},
    {"gemv q4_0 32000 x 2048", GEMV("q4_0", "32000", "2048"), "fast", 0, 18.0 / 32 * 32000 * 2048},
    {"gemv q4_k 32000 x 2048", GEMV("q4_k", "32000", "2048"), "fast", 0, 144.0 / 256 * 32000 * 2048},
    {"gemv q6_k 32000 x 2048", GEMV("q6_k", "32000", "2048"), "fast", 0, 210.0 / 256 * 32000 * 2048}};

typedef struct job {
  tn_trial_plugin plugin;
  tn_target target;
  tn_module *m;
  tn_diags diags;
  tn_buf image;
  tn_trial_rows rows;
  TN_VEC(tn_value) values; /* of the buffers */
} job;

static const char *name_of(void *ctx, uint32_t b) { return (void)ctx, (void)b, "cuda"; }
static bool claim(void *ctx, uint32_t b, tn_module *m, tn_op op, const char **why) {
  const job *j = ctx;
  return (void)b, j->plugin.backend->claim(j->plugin.self, &j->target, m, op, why);
}
static bool fuse(void *ctx, uint32_t b, tn_module *m, tn_op root, tn_op op, uint32_t role) {
  const job *j = ctx;
  return (void)b, j->plugin.backend->fuse(j->plugin.self, &j->target, m, root, op, role);
}

static tn_status take_image(void *ctx, tn_bytes b) {
  tn_buf_put(&((job *)ctx)->image, b.ptr, b.len);
  return TN_OK;
}
static tn_status take_kernel(void *ctx, const tn_kernel_info *i) {
  tn_trial_row r = {.op = i->op, .ndims = i->ndims, .scratch = i->scratch};
  snprintf(r.symbol, sizeof r.symbol, "%s", i->symbol);
  return tn_vec_push(&((job *)ctx)->rows, r) ? TN_OK : TN_OOM;
}
static void take_target(void *user, const tn_target *t) {
  job *j = user;
  if (!strcmp(t->name, j->target.name)) j->target = *t;
}

static uint32_t row_of(job *j, tn_value v) {
  for (uint32_t i = 0; i < j->values.count; i++)
    if (j->values.items[i] == v) return i;
  TN_NEED(tn_vec_push(&j->values, v));
  return j->values.count - 1;
}

static case_buffer buffer_of(const job *j, tn_value v) {
  tn_value_info i;
  tn_type_info t;
  tn_ir_value_get(j->m, v, &i);
  tn_ir_type_get(j->m, i.type, &t);
  tn_ref_tensor x = {.dtype = t.dtype, .rank = t.rank};
  for (uint32_t k = 0; k < t.rank; k++) TN_NEED(tn_ir_dim_is_const(j->m, t.dims[k], &x.dims[k]));
  return (case_buffer){.bytes = tn_ref_bytes(&tn_ir_table, &x),
                       .dtype = t.dtype,
                       .fill = i.kind == TN_VALUE_RESULT ? CASE_ZERO : CASE_RANDOM};
}

static case_call call_of(job *j, const tn_trial_row *row) {
  case_call c = {.ndims = 0};
  snprintf(c.symbol, sizeof c.symbol, "%s", row->symbol);
  for (uint32_t i = 0; i < tn_ir_op_noperands(j->m, row->op); i++)
    c.bufs[c.nbufs++] = row_of(j, tn_ir_op_operand(j->m, row->op, i));
  for (uint32_t i = 0; i < tn_ir_op_nresults(j->m, row->op); i++)
    c.bufs[c.nbufs++] = row_of(j, tn_ir_op_result(j->m, row->op, i));
  return c;
}

static void compile(job *j, const bench *b) {
  tn_diags_init(&j->diags);
  j->m = tn_module_new(&j->diags);
  tn_pass_backends backends = {j, 1, name_of, claim, fuse};
  tn_pipeline_run run = {.pipeline = "partition, fuse", .backends = &backends};
  tn_status s = tn_module_parse(j->m, b->name, tn_str_of(b->text));
  if (s == TN_OK) s = tn_ir_meta_set(j->m, "precision", b->precision);
  if (s == TN_OK) s = tn_pipeline_exec(j->m, &run);
  tn_pipeline_fini(&run);
  tn_package_sink sink = {.size = sizeof sink, .ctx = j, .image = take_image, .kernel = take_kernel};
  if (s == TN_OK) s = j->plugin.backend->compile(j->plugin.self, &j->target, j->m, NULL, &sink);
  tn_buf text = {0};
  tn_diags_text(&j->diags, &text, false);
  if (s != TN_OK) tn_trial_fail("%s for %s: %s", b->name, j->target.name, tn_buf_cstr(&text));
  tn_buf_fini(&text);
}

static void put_padded(tn_buf *out, const tn_buf *x) {
  static const char zeros[8];
  tn_buf_put(out, x->text, x->len);
  tn_buf_put(out, zeros, tn_align_up(x->len, 8) - x->len);
}

static void write_bench(job *j, const bench *b, const char *folder, uint32_t number) {
  tn_buf out = {0}, calls = {0};
  compile(j, b);
  case_head h = {.nimages = 1, .ncalls = j->rows.count, .flops = b->flops, .bytes = b->bytes};
  for (uint32_t i = 0; i < j->rows.count; i++) {
    case_call c = call_of(j, &j->rows.items[i]);
    int64_t scratch = 0;
    if (j->rows.items[i].scratch) TN_NEED(tn_ir_dim_is_const(j->m, j->rows.items[i].scratch, &scratch));
    if ((uint64_t)scratch > h.scratch) h.scratch = (uint64_t)scratch;
    tn_buf_put(&calls, &c, sizeof c);
  }
  h.nbuffers = j->values.count;
  memcpy(h.magic, CASE_MAGIC, sizeof h.magic);
  snprintf(h.name, sizeof h.name, "%s, %s", b->name, j->target.name);
  tn_buf_put(&out, &h, sizeof h);
  tn_buf_put(&out, &j->image.len, 8);
  put_padded(&out, &j->image);
  for (uint32_t i = 0; i < j->values.count; i++) {
    case_buffer x = buffer_of(j, j->values.items[i]);
    tn_buf_put(&out, &x, sizeof x);
  }
  tn_buf_put(&out, calls.text, calls.len);
  char path[4096];
  snprintf(path, sizeof path, "%s/%02u-%s.case", folder, number, j->target.name);
  FILE *f = fopen(path, "wb");
  if (out.failed || !f || fwrite(out.text, 1, out.len, f) != out.len || fclose(f))
    tn_trial_fail("%s: cannot be written", path);
  tn_buf_fini(&out);
  tn_buf_fini(&calls);
  tn_buf_fini(&j->image);
  j->rows.count = j->values.count = 0;
  tn_module_free(j->m);
  tn_diags_fini(&j->diags);
}

int main(int argc, char **argv) {
  static const char *const usual[] = {"sm_80", "sm_90a"};
  if (argc < 3) tn_trial_fail("bench PLUGIN FOLDER [TARGET...]");
  job j = {.plugin = {.file = argv[1]}};
  tn_trial_plugin_load(&j.plugin);
  uint32_t n = argc > 3 ? (uint32_t)argc - 3 : (uint32_t)TN_COUNT(usual);
  for (uint32_t t = 0; t < n; t++) {
    j.target = (tn_target){.name = argc > 3 ? argv[3 + t] : usual[t]};
    j.plugin.backend->targets(j.plugin.self, take_target, &j);
    for (uint32_t i = 0; i < TN_COUNT(list); i++) write_bench(&j, &list[i], argv[2], i);
  }
  tn_vec_fini(&j.rows);
  tn_vec_fini(&j.values);
  return 0;
}
