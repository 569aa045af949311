/* compile.c - from the kernel ops of a module to one package. Kernels with the same text are written once, in
 * the order of their first op; their symbols say nothing of the target, so a program serves all. */
#include "backends/cuda/assemble.h"
#include "backends/cuda/claim.h"
#include "backends/cuda/compile/unit.h"
#include "backends/llvm/kernels.h"
#include "backends/llvm/key.h"

typedef struct job {
  tn_cuda *c;
  tn_module *m;
  tn_package_sink out;
  tn_cuda_unit unit;
  tn_cuda_emit emit;
  const char *ptxas, *cache;
  tn_arena arena;
  tn_map keys; /* key text -> position in `functions` */
  tn_ll_ops ops;
  TN_VEC(tn_cuda_written) functions;
} job;

static tn_status write_kernel(job *j, tn_op op, tn_cuda_written *w) {
  tn_attr root = {0};
  j->c->ir.op_attr(j->m, op, "root", &root);
  w->symbol =
      tn_arena_printf(&j->arena, "tn_%s_%u", root.u.s && *root.u.s ? root.u.s : "loop", j->functions.count);
  return tn_cuda_unit_write(&j->unit, op, &j->arena, w);
}

/* The function of a kernel op, written now if its text is new. */
static tn_status function_of(job *j, tn_op op, uint64_t *at) {
  tn_buf key = {0};
  tn_ll_key(&j->c->ir, j->m, op, &key);
  tn_status r = key.failed ? TN_OOM : TN_OK;
  if (r == TN_OK && !tn_map_get(&j->keys, (tn_str){key.text, key.len}, at)) {
    tn_cuda_written w = {0};
    *at = j->functions.count;
    r = write_kernel(j, op, &w);
    if (r == TN_OK) r = tn_map_put(&j->keys, (tn_str){key.text, key.len}, *at, NULL);
    if (r == TN_OK && !tn_vec_push(&j->functions, w)) r = TN_OOM;
  }
  tn_buf_fini(&key);
  return r;
}

static tn_status write_all(job *j) {
  for (uint32_t i = 0; i < j->ops.count; i++) {
    uint64_t at = 0;
    TN_TRY(function_of(j, j->ops.items[i], &at));
    const tn_cuda_written *w = &j->functions.items[at];
    tn_kernel_info info = {.size = sizeof info,
                           .op = j->ops.items[i],
                           .symbol = w->symbol,
                           .dims = w->syms,
                           .ndims = w->nsyms,
                           .scratch = w->scratch};
    TN_TRY(j->out.kernel(j->out.ctx, &info));
  }
  return TN_OK;
}

/* Tells the host how long something took since `begin`; now. */
static double took(job *j, const char *what, double begin) {
  double now = tn_now();
  if (j->out.phase) j->out.phase(j->out.ctx, what, now - begin, j->functions.count, 0);
  return now;
}

/* Machine code, if somebody wants it; empty: the driver makes it. */
static tn_status assemble(job *j, tn_buf *ptx, tn_buf *cubin) {
  bool must = j->emit == TN_CUDA_EMIT_CUBIN, wanted = j->ptxas && strcmp(j->ptxas, "none") != 0;
  if (!must && (j->emit != TN_CUDA_EMIT_PACKAGE || !wanted)) return TN_OK;
  tn_buf log = {0};
  double begin = tn_now();
  const char *named = wanted && strcmp(j->ptxas, "auto") != 0 ? j->ptxas : NULL;
  tn_status s = tn_cuda_assemble(j->c, j->unit.target, tn_buf_cstr(ptx), named, j->cache, cubin, &log);
  tn_buf_fini(&log);
  took(j, "ptxas", begin);
  if (s == TN_OK && must && !cubin->len)
    s = tn_cuda_fail(j->c, j->m, 0, TN_NOT_FOUND,
                     "no ptxas is found, which makes a cubin; set CUDA_HOME or TENON_PTXAS");
  return s;
}

static tn_status put_image(job *j) {
  tn_buf text = {0}, cubin = {0}, image = {0};
  double begin = tn_now();
  tn_status s = tn_cuda_codegen(&j->unit, j->functions.items, j->functions.count, j->emit, &text);
  took(j, "codegen", begin);
  if (s == TN_OK) s = assemble(j, &text, &cubin);
  bool whole = j->emit == TN_CUDA_EMIT_PACKAGE;
  if (s == TN_OK && whole)
    s = tn_cuda_package_write(&j->unit, j->functions.items, j->functions.count,
                              (tn_bytes){cubin.text, cubin.len}, (tn_str){text.text, text.len}, &image);
  tn_buf *out = whole ? &image : j->emit == TN_CUDA_EMIT_CUBIN ? &cubin : &text;
  if (s == TN_OK) s = j->out.image(j->out.ctx, (tn_bytes){out->text, out->len});
  tn_buf_fini(&text);
  tn_buf_fini(&cubin);
  tn_buf_fini(&image);
  return s;
}

static const char *option(const job *j, const tn_options *o, const char *name) {
  return o && j->c->host.option ? j->c->host.option(o, name) : NULL;
}

static tn_status read_options(job *j, const tn_options *o) {
  static const char *const kinds[] = {[TN_CUDA_EMIT_PACKAGE] = "package",
                                      [TN_CUDA_EMIT_LLVM] = "llvm",
                                      [TN_CUDA_EMIT_PTX] = "ptx",
                                      [TN_CUDA_EMIT_CUBIN] = "cubin"};
  const char *emit = option(j, o, "emit");
  bool known = !emit;
  for (uint32_t i = 0; i < TN_COUNT(kinds) && !known; i++)
    if (!strcmp(emit, kinds[i])) known = true, j->emit = (tn_cuda_emit)i;
  if (!known)
    return tn_cuda_fail(j->c, j->m, 0, TN_INVALID, "option emit is '%s', wants package, llvm, ptx or cubin",
                        emit);
  j->ptxas = option(j, o, "ptxas");
  j->cache = option(j, o, "cache");
  return TN_OK;
}

static tn_cuda_precision precision_of(const tn_ir *ir, tn_module *m) {
  const char *level = ir->meta_get(m, "precision");
  return level && !strcmp(level, "fast")   ? TN_CUDA_FAST
         : level && !strcmp(level, "high") ? TN_CUDA_HIGH
                                           : TN_CUDA_STRICT;
}

static tn_status run(job *j, const tn_target *t, const tn_options *o) {
  double begin = tn_now();
  TN_TRY(read_options(j, o));
  j->unit.target = t ? tn_cuda_target_by_name(t->name) : NULL;
  if (!j->unit.target)
    return tn_cuda_fail(j->c, j->m, 0, TN_INVALID, "there is no cuda target '%s'", t ? t->name : "");
  tn_status s = tn_cuda_unit_init(&j->unit);
  if (s == TN_INTERNAL) tn_cuda_fail(j->c, j->m, 0, s, "LLVM makes no code for '%s'", j->unit.target->cpu);
  TN_TRY(s);
  j->unit.precision = precision_of(&j->c->ir, j->m);
  TN_TRY(tn_ll_kernels(j->unit.ir, j->m, "cuda", &j->ops));
  TN_TRY(write_all(j));
  took(j, "kernels", begin);
  return put_image(j);
}

tn_status tn_cuda_compile(void *self, const tn_target *t, tn_module *m, const tn_options *o,
                          const tn_package_sink *out) {
  job *j = tn_mem_alloc(sizeof *j);
  if (!j) return TN_OOM;
  j->c = self;
  j->m = m;
  tn_take(&j->out, sizeof j->out, out);
  j->unit.c = self;
  j->unit.m = m;
  tn_arena_init(&j->arena);
  tn_map_init(&j->keys);
  tn_status r = run(j, t, o);
  if (r == TN_OOM) tn_cuda_fail(j->c, m, 0, TN_OOM, "no memory to compile the kernels");
  for (uint32_t i = 0; i < j->functions.count; i++)
    if (j->functions.items[i].bitcode) LLVMDisposeMemoryBuffer(j->functions.items[i].bitcode);
  tn_cuda_unit_fini(&j->unit);
  tn_vec_fini(&j->ops);
  tn_vec_fini(&j->functions);
  tn_map_fini(&j->keys);
  tn_arena_fini(&j->arena);
  tn_mem_free(j);
  return r;
}
