/* memory.c - memory of a device, and loading what is large into it: pages of a mapped file are not pinned, so
 * they go through two pinned buffers, one being filled while the other is on its way. */
#include "backends/cuda/run/inside.h"

/* ---- allocating ---------------------------------------------------------------------------------------- */

static tn_status no_room(tn_device *d, CUresult r, uint64_t bytes, const char *what, tn_buf *why) {
  size_t left = 0, total = 0;
  char doing[256];
  if (r != CUDA_ERROR_OUT_OF_MEMORY || d->driver.api.cuMemGetInfo_v2(&left, &total)) {
    snprintf(doing, sizeof doing, "memory for %.150s on %s", what, d->spec);
  } else {
    snprintf(doing, sizeof doing, "%.150s: %.2f GiB wanted, %.2f of %.2f GiB free on %s", what,
             (double)bytes * 0x1p-30, (double)left * 0x1p-30, (double)total * 0x1p-30, d->spec);
  }
  return tn_cuda_words(&d->driver, r, doing, why);
}

tn_status tn_cuda_alloc(tn_device *d, uint64_t bytes, const char *what, void **out, char *error,
                        uint64_t error_size) {
  const tn_cuda_api *a = &d->driver.api;
  CUdeviceptr p = 0;
  tn_buf why = {0};
  tn_status s = TN_OK;
  CUresult r = tn_cuda_enter(d);
  *out = NULL;
  if (r) return tn_cuda_tell(tn_cuda_words(&d->driver, r, what, &why), &why, error, error_size);
  if (!bytes) bytes = 1;
  r = a->cuMemAlloc_v2(&p, bytes);
  bool got = !r;
  if (!r) r = a->cuMemsetD8Async(p, 0, bytes, d->copies);
  if (!r) r = a->cuStreamSynchronize(d->copies);
  if (r) {
    if (got) a->cuMemFree_v2(p);
    s = no_room(d, r, bytes, what, &why);
  }
  tn_cuda_leave(d);
  if (!r) *out = (void *)(uintptr_t)p;
  return tn_cuda_tell(s, &why, error, error_size);
}

void tn_cuda_free(tn_device *d, void *p) {
  if (!p || tn_cuda_enter(d)) return;
  d->driver.api.cuMemFree_v2((CUdeviceptr)(uintptr_t)p);
  tn_cuda_leave(d);
}

/* ---- loading ------------------------------------------------------------------------------------------- */

static CUresult staging_new(tn_device *d) {
  const tn_cuda_api *a = &d->driver.api;
  CUresult r = CUDA_SUCCESS;
  for (int i = 0; i < 2 && !r; i++) {
    if (!d->staging[i] && (r = a->cuMemHostAlloc(&d->staging[i], TN_CUDA_STAGING, 0))) d->staging[i] = NULL;
    if (!r && !d->copied[i] && (r = a->cuEventCreate(&d->copied[i], CU_EVENT_DISABLE_TIMING)))
      d->copied[i] = NULL;
  }
  return r;
}

void tn_cuda_staging_free(tn_device *d) {
  for (int i = 0; i < 2; i++) {
    if (d->copied[i]) d->driver.api.cuEventDestroy_v2(d->copied[i]);
    if (d->staging[i]) d->driver.api.cuMemFreeHost(d->staging[i]);
    d->copied[i] = NULL, d->staging[i] = NULL;
  }
}

static CUresult load_staged(tn_device *d, CUdeviceptr to, const char *from, uint64_t bytes) {
  const tn_cuda_api *a = &d->driver.api;
  CUresult r = staging_new(d);
  for (uint64_t at = 0, i = 0; at < bytes && !r; at += TN_CUDA_STAGING, i++) {
    uint64_t n = bytes - at < TN_CUDA_STAGING ? bytes - at : TN_CUDA_STAGING;
    uint32_t b = i % 2;
    if (i >= 2) r = a->cuEventSynchronize(d->copied[b]);
    if (!r) memcpy(d->staging[b], from + at, n);
    if (!r) r = a->cuMemcpyHtoDAsync_v2(to + at, d->staging[b], n, d->copies);
    if (!r) r = a->cuEventRecord(d->copied[b], d->copies);
  }
  CUresult last = a->cuStreamSynchronize(d->copies); /* after a failure, too: buffers may be on their way */
  return r ? r : last;
}

tn_status tn_cuda_load(tn_device *d, void *to, const void *from, uint64_t bytes, char *error,
                       uint64_t error_size) {
  tn_buf why = {0};
  CUresult r = tn_cuda_enter(d);
  if (!r) {
    pthread_mutex_lock(&d->lock);
    if (bytes) r = load_staged(d, (CUdeviceptr)(uintptr_t)to, from, bytes);
    pthread_mutex_unlock(&d->lock);
    tn_cuda_leave(d);
  }
  return tn_cuda_tell(tn_cuda_words(&d->driver, r, "loading weights", &why), &why, error, error_size);
}
