/* device.c - tn_device_api over the CUDA driver: devices are listed, opened and closed here. The driver is
 * looked for when a device is first asked for, never before. */
#include "backends/cuda/run/device.h"
#include "backends/cuda/run/inside.h"
#include <unistd.h>

/* ---- the context --------------------------------------------------------------------------------------- */

bool tn_cuda_forked(const tn_device *d) { return d->driver.process != (int)getpid(); }

CUresult tn_cuda_enter(tn_device *d) {
  return tn_cuda_forked(d) ? CUDA_ERROR_NOT_INITIALIZED : d->driver.api.cuCtxPushCurrent_v2(d->context);
}
void tn_cuda_leave(tn_device *d) {
  CUcontext was;
  d->driver.api.cuCtxPopCurrent_v2(&was);
}

tn_status tn_cuda_tell(tn_status s, tn_buf *why, char *error, uint64_t error_size) {
  const char *text = why->failed || !why->len ? "no memory" : tn_buf_cstr(why);
  if (s != TN_OK && error_size) snprintf(error, error_size, "%s", text);
  tn_buf_fini(why);
  return s;
}

/* ---- which there are ----------------------------------------------------------------------------------- */

static void describe(const tn_cuda_device *x, char spec[24], char arch[16], tn_device_info *out) {
  snprintf(spec, 24, "cuda:%d", x->ordinal);
  snprintf(arch, 16, "sm_%d%d", x->major, x->minor);
  *out = (tn_device_info){
      .size = sizeof *out, .spec = spec, .name = x->name, .uuid = x->uuid, .arch = arch, .memory = x->memory};
}

/* What is free is not told: only a context knows, and making one takes memory and time. */
static tn_status list(void (*each)(void *user, const tn_device_info *d), void *user, char *error,
                      uint64_t error_size) {
  tn_buf why = {0};
  tn_cuda_driver *driver = tn_mem_alloc(sizeof *driver);
  tn_status s = driver ? tn_cuda_open(driver, NULL, &why) : TN_OOM;
  for (uint32_t i = 0; s == TN_OK && i < driver->ndevices; i++) {
    char spec[24], arch[16];
    tn_device_info info;
    describe(&driver->devices[i], spec, arch, &info);
    each(user, &info);
  }
  if (s == TN_OK) tn_cuda_close(driver);
  tn_mem_free(driver);
  return tn_cuda_tell(s, &why, error, error_size);
}

static void info(const tn_device *d, tn_device_info *out) {
  tn_device *x = (tn_device *)d; /* its names are written again, as they are */
  size_t left = 0, total = 0;
  tn_device_info i;
  describe(d->info, x->spec, x->arch, &i);
  if (tn_cuda_enter(x) == CUDA_SUCCESS) {
    if (!d->driver.api.cuMemGetInfo_v2(&left, &total)) i.free = left;
    tn_cuda_leave(x);
  }
  i.code = d->code;
  *out = i;
}

/* ---- opening ------------------------------------------------------------------------------------------- */

static void drop(tn_device *d) {
  const tn_cuda_api *a = &d->driver.api;
  if (d->context && tn_cuda_enter(d) == CUDA_SUCCESS) {
    tn_cuda_staging_free(d);
    if (d->copies) a->cuStreamDestroy_v2(d->copies);
    if (d->module) a->cuModuleUnload(d->module);
    tn_cuda_leave(d);
    a->cuDevicePrimaryCtxRelease_v2(d->info->id);
  }
  tn_mem_free(d->functions);
  tn_cuda_view_close(&d->view);
  tn_cuda_close(&d->driver);
  pthread_mutex_destroy(&d->lock);
  tn_mem_free(d);
}

static tn_status fill(tn_device *d, const tn_bytes *images, uint32_t n, tn_buf *why) {
  CUresult r = d->driver.api.cuStreamCreate(&d->copies, CU_STREAM_NON_BLOCKING);
  return r ? tn_cuda_words(&d->driver, r, "making a stream", why) : tn_cuda_choose(d, images, n, why);
}

static tn_status start(tn_device *d, const tn_bytes *images, uint32_t n, const char *spec, tn_buf *why) {
  TN_TRY(tn_cuda_open(&d->driver, NULL, why));
  TN_TRY(tn_cuda_pick(&d->driver, spec && *spec ? spec : "cuda", &d->info, why));
  snprintf(d->spec, sizeof d->spec, "cuda:%d", d->info->ordinal);
  CUresult r = d->driver.api.cuDevicePrimaryCtxRetain(&d->context, d->info->id);
  if (r) d->context = NULL;
  if (!r && (r = tn_cuda_enter(d)))
    d->driver.api.cuDevicePrimaryCtxRelease_v2(d->info->id), d->context = NULL;
  if (r) {
    char doing[64];
    snprintf(doing, sizeof doing, "opening %s", d->spec);
    return tn_cuda_words(&d->driver, r, doing, why);
  }
  tn_status s = fill(d, images, n, why);
  tn_cuda_leave(d);
  return s;
}

static tn_status open_device(const tn_bytes *images, uint32_t nimages, const char *spec, tn_device **out,
                             char *error, uint64_t error_size) {
  tn_buf why = {0};
  tn_device *d = tn_mem_alloc(sizeof *d);
  *out = NULL;
  if (!d) {
    tn_buf_puts(&why, "no memory to open a device");
    return tn_cuda_tell(TN_OOM, &why, error, error_size);
  }
  pthread_mutex_init(&d->lock, NULL);
  tn_status s = start(d, images, nimages, spec, &why);
  if (s == TN_OK)
    *out = d;
  else
    drop(d);
  return tn_cuda_tell(s, &why, error, error_size);
}

static void close_device(tn_device *d) {
  if (d) drop(d);
}

static tn_status kernel(tn_device *d, const char *symbol, uint32_t *out) {
  uint64_t at = 0;
  if (!tn_map_get(&d->view.symbols, tn_str_of(symbol), &at)) return TN_NOT_FOUND;
  *out = (uint32_t)at;
  return TN_OK;
}

static const char *error_of(const tn_queue *q) { return q->error; }

static void counts(const tn_queue *q, uint64_t *runs, uint64_t *eager, uint64_t *recorded,
                   uint64_t *replayed) {
  *runs = q->runs, *eager = q->eager, *recorded = q->recorded, *replayed = q->replayed;
}

const tn_device_api tn_cuda_device_api = {.size = sizeof tn_cuda_device_api,
                                          .name = "cuda",
                                          .list = list,
                                          .open = open_device,
                                          .close = close_device,
                                          .info = info,
                                          .kernel = kernel,
                                          .alloc = tn_cuda_alloc,
                                          .free = tn_cuda_free,
                                          .load = tn_cuda_load,
                                          .queue_new = tn_cuda_queue_new,
                                          .queue_free = tn_cuda_queue_free,
                                          .upload = tn_cuda_upload,
                                          .download = tn_cuda_download,
                                          .zero = tn_cuda_zero,
                                          .begin = tn_cuda_begin,
                                          .launch = tn_cuda_launch,
                                          .end = tn_cuda_end,
                                          .wait = tn_cuda_wait,
                                          .error = error_of,
                                          .counts = counts};
