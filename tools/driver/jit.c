/* jit.c - a built model in this process: weights packed into anonymous memory, images loaded by their
 * backends. */
#include "tools/driver/driver.h"
#include <errno.h>
#include <sys/mman.h>

static tn_status memory_write(void *ctx, uint64_t at, const void *data, uint64_t len) {
  const tn_jit *j = ctx;
  if (at > j->weights_bytes || len > j->weights_bytes - at) return TN_INTERNAL;
  memcpy((uint8_t *)j->weights + at, data, len);
  return TN_OK;
}

static tn_status pack_to_memory(tn_driver *d, tn_module *m, const tn_build *b, tn_jit *j) {
  if (!b->weights_total) return TN_OK;
  void *p = mmap(NULL, b->weights_total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
  if (p == MAP_FAILED)
    return tn_fail(d->diags, TN_OOM, NULL, NULL, "no memory for %llu bytes of weights: %s",
                   (unsigned long long)b->weights_total, strerror(errno));
  madvise(p, b->weights_total, MADV_HUGEPAGE);
  j->weights = p;
  j->weights_bytes = b->weights_total;
  return tn_driver_pack(d, m, b, &(tn_link_place){j, memory_write, false}, NULL);
}

/* All images of the backend with a device: it takes the one that suits. */
static tn_status take_device(tn_driver *d, const tn_build *b, tn_jit *j) {
  j->images = tn_mem_alloc((b->images.count + 1) * sizeof *j->images);
  if (!j->images) return TN_OOM;
  for (uint32_t i = 0; i < b->images.count; i++) {
    const tn_build_image *im = &b->images.items[i];
    const tn_backend_ref *ref = &d->backends.items[im->backend];
    if (!ref->table.device) continue;
    j->device = ref->table.device(ref->self);
    j->images[j->nimages++] = (tn_bytes){im->bytes.text, im->bytes.len};
  }
  return TN_OK;
}

static tn_status load_images(tn_driver *d, const tn_build *b, tn_jit *j) {
  for (uint32_t i = 0; i < b->images.count; i++) {
    const tn_build_image *im = &b->images.items[i];
    const tn_backend_ref *ref = &d->backends.items[im->backend];
    if (im->target || ref->table.device) continue;
    const tn_target *t = tn_driver_target(d, im->backend, 0);
    if (t && ref->table.runs_here && ref->table.runs_here(ref->self, t) != TN_OK)
      return tn_fail(d->diags, TN_UNSUPPORTED, NULL, NULL, "target '%s' does not run on this machine",
                     t->name);
    tn_exec *x = NULL;
    tn_status s = ref->table.load(ref->self, t, (tn_bytes){im->bytes.text, im->bytes.len}, &x);
    if (s != TN_OK)
      return tn_fail(d->diags, s, NULL, NULL, "backend '%s' cannot load its own package (status %d)",
                     ref->table.name, s);
    if (!tn_vec_reserve(&j->execs, j->execs.count + 1)) return TN_OOM;
    j->execs.items[j->execs.count].exec = x;
    j->execs.items[j->execs.count++].backend = im->backend;
  }
  return TN_OK;
}

static tn_status find_kernels(tn_driver *d, const tn_build *b, tn_jit *j) {
  j->kernels = tn_mem_alloc((b->rows.count + 1) * sizeof *j->kernels);
  if (!j->kernels) return TN_OOM;
  for (uint32_t i = 0; i < b->rows.count; i++) {
    const tn_build_kernel *k = &b->kernels.items[b->rows.items[i]];
    tn_status s = d->backends.items[k->backend].table.device ? TN_OK : TN_NOT_FOUND;
    for (uint32_t x = 0; x < j->execs.count && s != TN_OK; x++)
      if (j->execs.items[x].backend == k->backend)
        s = d->backends.items[k->backend].table.kernel(j->execs.items[x].exec, k->symbols[0],
                                                       &j->kernels[i].fn, &j->kernels[i].ctx);
    if (s != TN_OK)
      return tn_fail(d->diags, TN_INTERNAL, NULL, k->symbols[0], "the loaded package lacks the kernel");
  }
  return TN_OK;
}

tn_status tn_driver_jit(tn_driver *d, tn_module *m, const tn_build *b, tn_jit *out) {
  memset(out, 0, sizeof *out);
  TN_TRY(pack_to_memory(d, m, b, out));
  TN_TRY(take_device(d, b, out));
  TN_TRY(load_images(d, b, out));
  TN_TRY(find_kernels(d, b, out));
  tn_rt_source src = {{b->program.text, b->program.len},
                      out->kernels,
                      out->weights,
                      out->weights_bytes,
                      d->folder,
                      d->options.keep_values,
                      out->device,
                      out->images,
                      out->nimages};
  char error[512] = "";
  tn_status s = tn_rt_open(&src, &out->model, error, sizeof error);
  return s == TN_OK ? TN_OK
                    : tn_fail(d->diags, s, NULL, NULL, "the compiled program does not open: %s", error);
}

void tn_jit_fini(tn_driver *d, tn_jit *j) {
  if (j->model) tn_rt_api.close(j->model);
  for (uint32_t i = 0; i < j->execs.count; i++) {
    const tn_backend_ref *ref = &d->backends.items[j->execs.items[i].backend];
    if (ref->table.unload) ref->table.unload(j->execs.items[i].exec);
  }
  tn_vec_fini(&j->execs);
  tn_mem_free(j->kernels);
  tn_mem_free(j->images);
  if (j->weights) munmap(j->weights, j->weights_bytes);
  memset(j, 0, sizeof *j);
}
