/* choose.c - which of the packages' images a device gets: code for exactly this device, else machine code of
 * the same generation, else PTX that the driver assembles. What the driver does not take after all (PTX that
 * is too new for it, say) is passed over for the next best. */
#include "backends/cuda/run/inside.h"
#include <stdlib.h>

typedef struct candidate {
  uint32_t package, image;
  uint32_t rank; /* 0: not for this device */
} candidate;
typedef struct choice {
  tn_device *d;
  tn_cuda_view *views;
  uint32_t nviews;
  TN_VEC(candidate) list;
  tn_buf refused; /* words of images that the driver did not take */
  tn_buf *why;
} choice;

enum { EXACT = 30000, MACHINE = 20000, TEXT = 10000 };

static uint32_t rank_of(const tn_cuda_device *d, const tn_cuda_package *p, const tn_cuda_image *m) {
  uint32_t cc = (uint32_t)(d->major * 10 + d->minor), cubin = m->kind == TN_CUDA_CUBIN;
  if (p->exact) return p->cc == cc ? EXACT + cubin : 0;
  if (p->cc > cc) return 0;
  if (cubin) return p->cc / 10 == cc / 10 ? MACHINE + p->cc : 0;
  return TEXT + p->cc;
}

static int by_rank(const void *a, const void *b) {
  const candidate *x = a, *y = b;
  return x->rank != y->rank ? (x->rank < y->rank ? 1 : -1) : x->package < y->package ? -1 : 1;
}

static void name_of(const tn_cuda_view *v, uint32_t image, char out[48]) {
  const tn_cuda_image *m = &v->images[image];
  const char *exact = v->head->exact ? "a" : "";
  if (m->kind == TN_CUDA_CUBIN)
    snprintf(out, 48, "cubin sm_%u%s", v->head->cc, exact);
  else
    snprintf(out, 48, "PTX %u.%u sm_%u%s", m->ptx / 10, m->ptx % 10, v->head->cc, exact);
}

static tn_status collect(choice *c) {
  for (uint32_t i = 0; i < c->nviews; i++)
    for (uint32_t k = 0; k < c->views[i].head->images.count; k++) {
      candidate x = {i, k, rank_of(c->d->info, c->views[i].head, &c->views[i].images[k])};
      if (x.rank && !tn_vec_push(&c->list, x)) return TN_OOM;
    }
  if (c->list.count) qsort(c->list.items, c->list.count, sizeof *c->list.items, by_rank);
  return TN_OK;
}

static tn_status nothing_fits(choice *c) {
  const tn_cuda_device *d = c->d->info;
  tn_buf_printf(c->why, "no kernels for %s (%s, compute capability %d.%d); there are: ", c->d->spec, d->name,
                d->major, d->minor);
  for (uint32_t i = 0, n = 0; i < c->nviews; i++)
    for (uint32_t k = 0; k < c->views[i].head->images.count; k++, n++) {
      char name[48];
      name_of(&c->views[i], k, name);
      tn_buf_printf(c->why, "%s%s", n ? ", " : "", name);
    }
  tn_buf_printf(c->why, "; compile with --target cuda:sm_%d%d or a lower one", d->major, d->minor);
  return TN_UNSUPPORTED;
}

/* Errors of the image: another may do. */
static bool passes_over(CUresult r) {
  return r == CUDA_ERROR_NO_BINARY_FOR_GPU || r == CUDA_ERROR_UNSUPPORTED_PTX_VERSION ||
         r == CUDA_ERROR_JIT_COMPILER_NOT_FOUND || r == CUDA_ERROR_INVALID_IMAGE ||
         r == CUDA_ERROR_INVALID_PTX;
}

static CUresult load(choice *c, const candidate *x) {
  char log[4096] = "", doing[80] = "loading the kernels, ";
  const tn_cuda_view *v = &c->views[x->package];
  CUjit_option keys[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void *values[] = {log, (void *)(uintptr_t)sizeof log};
  CUresult r = c->d->driver.api.cuModuleLoadDataEx(&c->d->module, v->base + v->images[x->image].offset,
                                                   TN_COUNT(keys), keys, values);
  if (!r) return r;
  c->d->module = NULL;
  name_of(v, x->image, doing + strlen(doing));
  if (c->refused.len) tn_buf_puts(&c->refused, "; ");
  tn_cuda_words(&c->d->driver, r, doing, &c->refused);
  log[sizeof log - 1] = 0;
  if (log[0]) tn_buf_printf(&c->refused, ": %s", log);
  return r;
}

static tn_status try_all(choice *c, const candidate **taken) {
  CUresult r = CUDA_SUCCESS;
  for (uint32_t i = 0; i < c->list.count; i++) {
    *taken = &c->list.items[i];
    r = load(c, *taken);
    if (!r) return TN_OK;
    if (!passes_over(r)) break;
  }
  tn_buf none = {0};
  tn_buf_puts(c->why, tn_buf_cstr(&c->refused));
  tn_status s = tn_cuda_words(&c->d->driver, r, "", &none);
  tn_buf_fini(&none);
  return s;
}

/* ---- functions ----------------------------------------------------------------------------------------- */

static tn_status refuse(const tn_device *d, CUresult r, const char *function, tn_buf *why) {
  char doing[200];
  snprintf(doing, sizeof doing, "kernel %.160s", function);
  return tn_cuda_words(&d->driver, r, doing, why);
}

/* More than 48 KB of shared memory have to be asked for. */
static tn_status read_function(tn_device *d, uint32_t at, tn_buf *why) {
  const tn_cuda_launch_row *l = d->view.plans[at].row;
  const char *name = d->view.strings + l->function;
  int fixed = 0;
  CUresult r = d->driver.api.cuModuleGetFunction(&d->functions[at], d->module, name);
  if (!r) r = d->driver.api.cuFuncGetAttribute(&fixed, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, d->functions[at]);
  if (r) return refuse(d, r, name, why);
  uint64_t shared = (uint64_t)fixed + l->shared;
  if (shared <= 48 * 1024) return TN_OK;
  if (shared > (uint64_t)d->info->shared_bytes) {
    tn_buf_printf(why, "kernel %s wants %llu bytes of shared memory, %s has %d for a block", name,
                  (unsigned long long)shared, d->spec, d->info->shared_bytes);
    return TN_UNSUPPORTED;
  }
  r = d->driver.api.cuFuncSetAttribute(d->functions[at], CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                       (int)l->shared);
  return r ? refuse(d, r, name, why) : TN_OK;
}

static tn_status read_functions(tn_device *d, tn_buf *why) {
  uint32_t n = d->view.head->launches.count;
  d->functions = tn_mem_alloc((n + 1ull) * sizeof *d->functions);
  if (!d->functions) return TN_OOM;
  for (uint32_t i = 0; i < n; i++) TN_TRY(read_function(d, i, why));
  return TN_OK;
}

static tn_status choose(choice *c, const tn_bytes *packages, uint32_t n) {
  const candidate *taken = NULL;
  c->views = tn_mem_alloc((n + 1ull) * sizeof *c->views);
  if (!c->views) return TN_OOM;
  for (; c->nviews < n; c->nviews++)
    TN_TRY(tn_cuda_view_open(&c->views[c->nviews], packages[c->nviews], c->why));
  TN_TRY(collect(c));
  if (!c->list.count) return nothing_fits(c);
  TN_TRY(try_all(c, &taken));
  name_of(&c->views[taken->package], taken->image, c->d->code);
  c->d->view = c->views[taken->package];
  c->views[taken->package] = (tn_cuda_view){0};
  return read_functions(c->d, c->why);
}

tn_status tn_cuda_choose(tn_device *d, const tn_bytes *packages, uint32_t n, tn_buf *why) {
  choice c = {.d = d, .why = why};
  tn_status s = choose(&c, packages, n);
  if (s == TN_OOM && !why->len) tn_buf_puts(why, "no memory to open the kernels");
  for (uint32_t i = 0; i < c.nviews; i++)
    if (c.views[i].base) tn_cuda_view_close(&c.views[i]);
  tn_mem_free(c.views);
  tn_vec_fini(&c.list);
  tn_buf_fini(&c.refused);
  return s;
}
