/* compile.c - from the kernel ops of a module to one relocatable object. Kernels with the same text are
 * written once, in the order of their first op, and objects are joined in that order, so the same module
 * gives the same bytes. */
#include "backends/cpu/compile/codegen.h"
#include "backends/llvm/kernels.h"
#include "backends/llvm/key.h"
#include "backends/cpu/tuning.h"
#include <stdio.h>
#include <stdlib.h>

/* A function written: shared by all kernel ops with the same key. */
typedef struct written {
  char *symbol;
  tn_dim syms[TN_LL_MAX_SYMS];
  uint32_t nsyms;
  tn_dim scratch;
  char key[TN_CPU_TUNING_KEY];
  const char *choices; /* what may be tuned; NULL: nothing */
} written;

typedef struct job {
  tn_cpu *c;
  tn_module *m;
  tn_package_sink out;
  tn_cpu_unit unit;
  tn_cpu_emit emit;
  tn_ll_cache cache;
  tn_cpu_tuning tuning;
  tn_arena arena;
  tn_map keys; /* key text -> position in `functions` */
  tn_ll_ops ops;
  TN_VEC(written) functions;
} job;

static tn_status write_kernel(job *j, tn_op op, written *w) {
  tn_attr root = {0};
  j->c->ir.op_attr(j->m, op, "root", &root);
  w->symbol = tn_arena_printf(&j->arena, "tn_%s_%s_%u", j->unit.isa->target.name,
                              root.u.s && *root.u.s ? root.u.s : "loop", j->functions.count);
  tn_cpu_kernel *k = tn_mem_alloc(sizeof *k);
  if (!k || !w->symbol) {
    tn_mem_free(k);
    return TN_OOM;
  }
  w->choices = tn_cpu_tuning_choices(root.u.s ? root.u.s : "");
  j->unit.choice = tn_cpu_tuning_of(&j->tuning, w->key);
  static const char zeros[512] = {0};
  LLVMModuleRef outer = tn_cpu_part_begin(&j->unit);
  j->unit.zeros = ll_global(&j->unit.e, "zeros", zeros, sizeof zeros);
  /* Texts are for people; in an object the place among the kernels would hide that two parts are equal. */
  tn_cpu_kernel_emit(k, &j->unit, op, j->emit == TN_CPU_EMIT_OBJECT ? TN_CPU_KERNEL_NAME : w->symbol);
  tn_cpu_part_end(&j->unit, outer, w->symbol, NULL);
  memcpy(w->syms, k->body.syms, sizeof w->syms);
  w->nsyms = k->body.nsyms;
  w->scratch = k->scratch_bytes;
  tn_cpu_kernel_fini(k);
  tn_mem_free(k);
  if (!j->unit.e.error[0]) return TN_OK;
  return tn_cpu_fail(j->c, j->m, j->c->ir.op_loc(j->m, op), TN_UNSUPPORTED, "kernel '%s': %s", w->symbol,
                     j->unit.e.error);
}

/* The function of a kernel op, written now if its text is new. */
static tn_status function_of(job *j, tn_op op, uint64_t *at) {
  tn_buf key = {0};
  tn_ll_key(&j->c->ir, j->m, op, &key);
  tn_status r = key.failed ? TN_OOM : TN_OK;
  if (r == TN_OK && !tn_map_get(&j->keys, (tn_str){key.text, key.len}, at)) {
    written w = {0};
    *at = j->functions.count;
    tn_cpu_tuning_key((tn_str){key.text, key.len}, j->unit.precision, w.key);
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
    const written *w = &j->functions.items[at];
    tn_kernel_info info = {.size = sizeof info,
                           .op = j->ops.items[i],
                           .symbol = w->symbol,
                           .dims = w->syms,
                           .ndims = w->nsyms,
                           .scratch = w->scratch,
                           .key = w->choices ? w->key : NULL,
                           .choices = w->choices};
    TN_TRY(j->out.kernel(j->out.ctx, &info));
  }
  return TN_OK;
}

/* The object and its trailer, as one stretch of bytes. */
static tn_status put_object(job *j, const tn_buf *made) {
  const tn_target *t = &j->unit.isa->target;
  tn_buf image = {0};
  const char *why = NULL;
  tn_status s = tn_cpu_join(j->unit.parts.items, made, j->unit.parts.count, &image, &why);
  if (s == TN_INTERNAL) tn_cpu_fail(j->c, j->m, 0, s, "the kernels cannot be put together: %s", why);
  if (s == TN_OK) {
    tn_cpu_trailer end = {.hash = tn_cpu_image_hash(t, image.text, image.len)};
    memcpy(end.magic, TN_CPU_MAGIC, sizeof end.magic);
    tn_buf_put(&image, &end, sizeof end);
    s = image.failed ? TN_OOM : j->out.image(j->out.ctx, (tn_bytes){image.text, image.len});
  }
  tn_buf_fini(&image);
  return s;
}

static tn_status put_texts(job *j, const tn_buf *made) {
  tn_buf all = {0};
  for (uint32_t i = 0; i < j->unit.parts.count; i++) tn_buf_put(&all, made[i].text, made[i].len);
  tn_status s = all.failed ? TN_OOM : j->out.image(j->out.ctx, (tn_bytes){all.text, all.len});
  tn_buf_fini(&all);
  return s;
}

/* Tells the host how long something took since `begin`; now. */
static double took(job *j, const char *what, double begin, uint32_t parts, uint32_t found) {
  double now = tn_now();
  if (j->out.phase) j->out.phase(j->out.ctx, what, now - begin, parts, found);
  return now;
}

static tn_status put_image(job *j) {
  uint32_t n = j->unit.parts.count;
  tn_buf *made = tn_mem_alloc((n + 1) * sizeof *made);
  if (!made) return TN_OOM;
  tn_cpu_codegen g = {.c = j->c,
                      .m = j->m,
                      .isa = j->unit.isa,
                      .emit = j->emit,
                      .parts = j->unit.parts.items,
                      .nparts = n,
                      .cache = &j->cache,
                      .made = made};
  double begin = tn_now();
  tn_status s = tn_cpu_codegen_run(&g);
  begin = took(j, "codegen", begin, n, g.found);
  if (s == TN_OK) s = j->emit == TN_CPU_EMIT_OBJECT ? put_object(j, made) : put_texts(j, made);
  took(j, "join", begin, 0, 0);
  for (uint32_t i = 0; i < n; i++) tn_buf_fini(&made[i]);
  tn_mem_free(made);
  return s;
}

static const char *option(const job *j, const tn_options *o, const char *name) {
  return o && j->c->host.option ? j->c->host.option(o, name) : NULL;
}

static tn_status read_options(job *j, const tn_options *o) {
  static const char *const kinds[] = {
      [TN_CPU_EMIT_OBJECT] = "object", [TN_CPU_EMIT_LLVM] = "llvm", [TN_CPU_EMIT_ASM] = "asm"};
  const char *emit = option(j, o, "emit");
  bool known = !emit;
  for (uint32_t i = 0; i < TN_COUNT(kinds) && !known; i++)
    if (!strcmp(emit, kinds[i])) known = true, j->emit = (tn_cpu_emit)i;
  if (!known)
    return tn_cpu_fail(j->c, j->m, 0, TN_INVALID, "option emit is '%s', wants object, llvm or asm", emit);
  tn_ll_cache_open(&j->cache, option(j, o, "cache"), "cpu");
  return tn_cpu_tuning_read(j->c, j->m, option(j, o, "tuning"), &j->tuning);
}

static tn_status run(job *j, const tn_target *t, const tn_options *o) {
  double begin = tn_now();
  TN_TRY(read_options(j, o));
  j->unit.isa = tn_cpu_isa_by_name(t->name);
  if (!j->unit.isa) return tn_cpu_fail(j->c, j->m, 0, TN_INVALID, "there is no cpu target '%s'", t->name);
  tn_status s = tn_cpu_unit_init(&j->unit);
  if (s == TN_INTERNAL) tn_cpu_fail(j->c, j->m, 0, s, "LLVM makes no code for '%s'", j->unit.isa->llvm_cpu);
  TN_TRY(s);
  j->unit.precision = tn_cpu_precision_of(&j->c->ir, j->m);
  j->unit.e.coarse = j->unit.precision == TN_CPU_FAST && j->unit.isa->bf16;
  TN_TRY(tn_ll_kernels(j->unit.ir, j->m, "cpu", &j->ops));
  TN_TRY(write_all(j));
  took(j, "kernels", begin, j->functions.count, 0);
  return put_image(j);
}

tn_status tn_cpu_compile(void *self, const tn_target *t, tn_module *m, const tn_options *o,
                         const tn_package_sink *out) {
  tn_cpu *c = self;
  job *j = tn_mem_alloc(sizeof *j);
  if (!j) return TN_OOM;
  j->c = c;
  j->m = m;
  tn_take(&j->out, sizeof j->out, out);
  j->unit.ir = &c->ir;
  j->unit.m = m;
  tn_arena_init(&j->arena);
  tn_map_init(&j->keys);
  tn_status r = run(j, t, o);
  if (r == TN_OOM) tn_cpu_fail(c, m, 0, TN_OOM, "no memory to compile the kernels");
  tn_ll_cache_close(&j->cache, TN_LL_CACHE_BYTES);
  tn_cpu_unit_fini(&j->unit);
  tn_cpu_tuning_fini(&j->tuning);
  tn_vec_fini(&j->ops);
  tn_vec_fini(&j->functions);
  tn_map_fini(&j->keys);
  tn_arena_fini(&j->arena);
  tn_mem_free(j);
  return r;
}
