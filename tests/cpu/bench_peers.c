/* bench_peers.c - see bench_peers.h. OpenBLAS multiplies by cblas_sgemm, which packs in every call; oneDNN 2
 * by its matmul primitive with weights reordered once, rows of bf16 rounded in every run as ours are. */
#include "tests/cpu/bench_peers.h"
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#if __has_include(<oneapi/dnnl/dnnl.h>)
#include <oneapi/dnnl/dnnl.h>
#endif

struct peer_product {
  int m, n, k;
  const float *a, *w;
  float *c;
  void *impl;
};

static peer_product *product(int m, int n, int k, const float *a, const float *w) {
  peer_product *p = calloc(1, sizeof *p);
  *p = (peer_product){m, n, k, a, w, aligned_alloc(64, ((size_t)m * (size_t)n * 4 + 63) / 64 * 64), NULL};
  return p;
}
static const float *result(peer_product *p) { return p->c; }

/* ---- OpenBLAS ---- */
typedef void (*sgemm_fn)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda,
                         const float *b, int ldb, float beta, float *c, int ldc);
static sgemm_fn sgemm;

static peer_product *blas_prepare(int m, int n, int k, const float *a, const float *w, int threads) {
  void *lib = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  if (!lib) return NULL;
  sgemm = (sgemm_fn)(uintptr_t)dlsym(lib, "cblas_sgemm");
  void (*set)(int) = (void (*)(int))(uintptr_t)dlsym(lib, "openblas_set_num_threads");
  if (!sgemm || !set) return NULL;
  set(threads);
  return product(m, n, k, a, w);
}
static void blas_run(peer_product *p) {
  enum { ROW_MAJOR = 101, AS_IS = 111, TURNED = 112 };
  sgemm(ROW_MAJOR, AS_IS, TURNED, p->m, p->n, p->k, 1, p->a, p->k, p->w, p->k, 0, p->c, p->n);
}
static void blas_end(peer_product *p) {
  free(p->c);
  free(p);
}

/* ---- oneDNN ---- */
#if defined(DNNL_VERSION_MAJOR) && DNNL_VERSION_MAJOR == 2
#define HAS_DNNL
/* Every function that is used, found in the library under its name. */
#define FUNCTIONS(X)                                                                                         \
  X(engine_create)                                                                                           \
  X(stream_create)                                                                                           \
  X(stream_wait)                                                                                             \
  X(stream_destroy)                                                                                          \
  X(engine_destroy)                                                                                          \
  X(memory_create)                                                                                           \
  X(memory_destroy)                                                                                          \
  X(memory_desc_init_by_tag)                                                                                 \
  X(matmul_desc_init)                                                                                        \
  X(primitive_desc_create)                                                                                   \
  X(primitive_desc_query_md)                                                                                 \
  X(primitive_desc_destroy)                                                                                  \
  X(primitive_create)                                                                                        \
  X(primitive_execute)                                                                                       \
  X(primitive_destroy)                                                                                       \
  X(reorder_primitive_desc_create)
#define FIELD(f) __typeof__(dnnl_##f) *f;
static struct {
  FUNCTIONS(FIELD)
} d;

typedef struct dnnl {
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  dnnl_memory_t a, rounded, w, c; /* rounded: a as bf16; NULL: a is taken as it is */
  dnnl_primitive_t multiply, round;
} dnnl;

static bool open_dnnl(int threads) {
  void *lib = dlopen("libdnnl.so.2", RTLD_NOW | RTLD_GLOBAL);
  if (!lib) return false;
#define FIND(f)                                                                                              \
  if (!(d.f = (__typeof__(d.f))(uintptr_t)dlsym(lib, "dnnl_" #f))) return false;
  FUNCTIONS(FIND)
  void (*set)(int) = (void (*)(int))(uintptr_t)dlsym(RTLD_DEFAULT, "omp_set_num_threads");
  if (set) set(threads);
  return set != NULL;
}

static bool fine(dnnl_status_t s) {
  if (s != dnnl_success) fprintf(stderr, "oneDNN: status %d\n", s);
  return s == dnnl_success;
}
static dnnl_memory_t memory(dnnl *o, const dnnl_memory_desc_t *md, void *data) {
  dnnl_memory_t mem = NULL;
  fine(d.memory_create(&mem, md, o->engine, data ? data : DNNL_MEMORY_ALLOCATE));
  return mem;
}
static void execute(dnnl *o, dnnl_primitive_t p, const dnnl_exec_arg_t *args, int n) {
  d.primitive_execute(p, o->stream, n, args);
  d.stream_wait(o->stream);
}
static dnnl_primitive_t reorder(dnnl *o, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to) {
  dnnl_primitive_desc_t pd = NULL;
  dnnl_primitive_t p = NULL;
  if (fine(d.reorder_primitive_desc_create(&pd, from, o->engine, to, o->engine, NULL)))
    fine(d.primitive_create(&p, pd));
  d.primitive_desc_destroy(pd);
  return p;
}

static peer_product *dnnl_prepare(int m, int n, int k, const float *a, const float *w, int threads,
                                  bool bf16) {
  if (!open_dnnl(threads)) return NULL;
  peer_product *p = product(m, n, k, a, w);
  dnnl *o = p->impl = calloc(1, sizeof *o);
  dnnl_dims_t da = {m, k}, dw = {k, n}, dc = {m, n};
  dnnl_data_type_t type = bf16 ? dnnl_bf16 : dnnl_f32;
  dnnl_memory_desc_t plain_a, plain_w, narrow_a, any_w, plain_c;
  dnnl_matmul_desc_t desc;
  dnnl_primitive_desc_t pd = NULL;
  d.memory_desc_init_by_tag(&plain_a, 2, da, dnnl_f32, dnnl_ab);
  d.memory_desc_init_by_tag(&narrow_a, 2, da, type, dnnl_ab);
  d.memory_desc_init_by_tag(&plain_w, 2, dw, dnnl_f32, dnnl_ba);
  d.memory_desc_init_by_tag(&any_w, 2, dw, type, dnnl_format_tag_any);
  d.memory_desc_init_by_tag(&plain_c, 2, dc, dnnl_f32, dnnl_ab);
  if (!fine(d.engine_create(&o->engine, dnnl_cpu, 0)) ||
      !fine(d.stream_create(&o->stream, o->engine, dnnl_stream_default_flags)) ||
      !fine(d.matmul_desc_init(&desc, &narrow_a, &any_w, NULL, &plain_c)) ||
      !fine(d.primitive_desc_create(&pd, &desc, NULL, o->engine, NULL)) ||
      !fine(d.primitive_create(&o->multiply, pd)))
    return NULL;
  const dnnl_memory_desc_t *best = d.primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
  o->a = memory(o, &plain_a, (void *)(uintptr_t)a);
  o->c = memory(o, &plain_c, p->c);
  o->w = memory(o, best, NULL);
  dnnl_memory_t from = memory(o, &plain_w, (void *)(uintptr_t)w);
  dnnl_primitive_t pack = reorder(o, &plain_w, best);
  execute(o, pack, (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, o->w}}, 2);
  d.primitive_destroy(pack);
  d.memory_destroy(from);
  if (bf16) {
    o->rounded = memory(o, &narrow_a, NULL);
    o->round = reorder(o, &plain_a, &narrow_a);
  }
  d.primitive_desc_destroy(pd);
  return p;
}
static peer_product *dnnl_prepare_f32(int m, int n, int k, const float *a, const float *w, int threads) {
  return dnnl_prepare(m, n, k, a, w, threads, false);
}
static peer_product *dnnl_prepare_bf16(int m, int n, int k, const float *a, const float *w, int threads) {
  return dnnl_prepare(m, n, k, a, w, threads, true);
}
static void dnnl_run(peer_product *p) {
  dnnl *o = p->impl;
  if (o->round)
    execute(o, o->round, (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, o->a}, {DNNL_ARG_TO, o->rounded}}, 2);
  dnnl_exec_arg_t args[] = {
      {DNNL_ARG_SRC, o->round ? o->rounded : o->a}, {DNNL_ARG_WEIGHTS, o->w}, {DNNL_ARG_DST, o->c}};
  execute(o, o->multiply, args, 3);
}
static void dnnl_end(peer_product *p) {
  dnnl *o = p->impl;
  if (o->round) d.primitive_destroy(o->round), d.memory_destroy(o->rounded);
  d.primitive_destroy(o->multiply);
  d.memory_destroy(o->a), d.memory_destroy(o->w), d.memory_destroy(o->c);
  d.stream_destroy(o->stream), d.engine_destroy(o->engine);
  free(o);
  free(p->c);
  free(p);
}
#endif

const peer peers[] = {{"OpenBLAS", false, blas_prepare, blas_run, result, blas_end},
#ifdef HAS_DNNL
                      {"oneDNN", false, dnnl_prepare_f32, dnnl_run, result, dnnl_end},
                      {"oneDNN", true, dnnl_prepare_bf16, dnnl_run, result, dnnl_end},
#endif
                      {0}};
