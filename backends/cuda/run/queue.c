/* queue.c - a queue is a CUDA stream, its own or the caller's, with what its runs need: a ring of pinned
 * memory for small copies, and room for the numbers that kernels read. */
#include "backends/cuda/run/inside.h"
#include <stdlib.h>

/* ---- errors -------------------------------------------------------------------------------------------- */

enum { TOLD = 4 /* launches that an error names */ };

/* The last launches, the newest first: one of them may be to blame. */
static void tell_launches(const tn_queue *q, tn_buf *why) {
  uint32_t n = q->steps.count;
  const char *and = "; launched last: ";
  for (uint32_t i = n; i > 0 && i + TOLD > n; i--) {
    const tn_cuda_step *s = &q->steps.items[i - 1];
    const tn_cuda_plan *p = &q->d->view.plans[s->plan];
    tn_buf_printf(why, "%s%s (%s)", and, q->d->view.strings + p->row->function, q->locs.text + s->loc);
    and = ", ";
  }
  if (n && !q->one_by_one) tn_buf_puts(why, "; TENON_CUDA_SYNC=1 waits after each launch and names the one");
}

tn_status tn_cuda_failed(tn_queue *q, CUresult r, const char *doing) {
  tn_buf why = {0};
  if (r && tn_cuda_forked(q->d)) r = CUDA_ERROR_NOT_INITIALIZED;
  tn_status s = tn_cuda_words(&q->d->driver, r, doing, &why);
  if (tn_cuda_sticky(r)) tell_launches(q, &why);
  return tn_cuda_tell(s, &why, q->error, sizeof q->error);
}

tn_status tn_cuda_refuse(tn_queue *q, tn_status s, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(q->error, sizeof q->error, fmt, ap);
  va_end(ap);
  return s;
}

tn_status tn_cuda_idle(tn_queue *q) {
  if (tn_cuda_forked(q->d)) return tn_cuda_failed(q, CUDA_ERROR_NOT_INITIALIZED, "a queue");
  return q->running ? tn_cuda_refuse(q, TN_PRECONDITION, "only launches may come between begin and end")
                    : TN_OK;
}

/* ---- the ring ------------------------------------------------------------------------------------------ */

static void ring_free(tn_queue *q) {
  const tn_cuda_api *a = &q->d->driver.api;
  for (int i = 0; i < TN_CUDA_SLOTS; i++)
    if (q->ring.read[i]) a->cuEventDestroy_v2(q->ring.read[i]);
  if (q->ring.memory) a->cuMemFreeHost(q->ring.memory);
  q->ring = (tn_cuda_ring){0};
}

/* Slots of at least `bytes`. The stream is idle when they have to be made anew. */
CUresult tn_cuda_ring_reserve(tn_queue *q, uint64_t bytes) {
  const tn_cuda_api *a = &q->d->driver.api;
  void *memory = NULL;
  if (q->ring.memory && bytes <= q->ring.bytes) return CUDA_SUCCESS;
  CUresult r = q->ring.memory ? a->cuStreamSynchronize(q->stream) : CUDA_SUCCESS;
  if (r) return r;
  ring_free(q);
  bytes = tn_align_up(bytes > TN_CUDA_SLOT ? bytes : TN_CUDA_SLOT, 4096);
  r = a->cuMemHostAlloc(&memory, bytes * TN_CUDA_SLOTS, 0);
  if (r) return r;
  q->ring.memory = memory;
  for (int i = 0; i < TN_CUDA_SLOTS && !r; i++)
    if ((r = a->cuEventCreate(&q->ring.read[i], CU_EVENT_DISABLE_TIMING))) q->ring.read[i] = NULL;
  q->ring.bytes = bytes;
  if (r) ring_free(q);
  return r;
}

CUresult tn_cuda_ring_copy(tn_queue *q, CUdeviceptr to, const void *from, uint64_t bytes) {
  const tn_cuda_api *a = &q->d->driver.api;
  uint32_t i = q->ring.next;
  CUresult r = q->ring.busy[i] ? a->cuEventSynchronize(q->ring.read[i]) : CUDA_SUCCESS;
  if (r) return r;
  char *slot = q->ring.memory + i * q->ring.bytes;
  q->ring.busy[i] = false;
  memcpy(slot, from, bytes);
  r = a->cuMemcpyHtoDAsync_v2(to, slot, bytes, q->stream);
  if (!r) r = a->cuEventRecord(q->ring.read[i], q->stream);
  q->ring.busy[i] = !r;
  q->ring.next = (i + 1) % TN_CUDA_SLOTS;
  return r;
}

/* ---- queues -------------------------------------------------------------------------------------------- */

static bool is_set(const char *name, bool otherwise) {
  const char *v = getenv(name);
  return v && *v ? strcmp(v, "0") != 0 : otherwise;
}

static void drop(tn_queue *q) {
  const tn_cuda_api *a = &q->d->driver.api;
  if (tn_cuda_enter(q->d) == CUDA_SUCCESS) {
    if (q->stream) a->cuStreamSynchronize(q->stream);
    tn_cuda_forget(q);
    ring_free(q);
    if (q->numbers) a->cuMemFree_v2(q->numbers);
    if (q->recorder) a->cuStreamDestroy_v2(q->recorder);
    if (q->own && q->stream) a->cuStreamDestroy_v2(q->stream);
    tn_cuda_leave(q->d);
  }
  for (size_t i = 0; i < TN_COUNT(q->kept); i++) tn_vec_fini(&q->kept[i].words);
  tn_mem_free(q->uploaded);
  tn_mem_free(q->values);
  tn_vec_fini(&q->steps);
  tn_vec_fini(&q->words);
  tn_buf_fini(&q->locs);
  tn_mem_free(q);
}

/* A stream of the caller's belongs to the context that the device has: its GPU's primary one. */
static tn_status take_stream(tn_queue *q, void *stream, tn_buf *why) {
  const tn_cuda_api *a = &q->d->driver.api;
  CUcontext of = q->d->context;
  CUresult r = CUDA_SUCCESS;
  q->own = !stream;
  q->stream = stream;
  if (stream)
    r = a->cuStreamGetCtx(stream, &of);
  else if ((r = a->cuStreamCreate(&q->stream, CU_STREAM_NON_BLOCKING)))
    q->stream = NULL;
  if (r) return tn_cuda_words(&q->d->driver, r, stream ? "the caller's stream" : "making a stream", why);
  if (of == q->d->context) return TN_OK;
  tn_buf_printf(why, "the caller's stream is of another device or context than %s", q->d->spec);
  return TN_INVALID;
}

static tn_status fill(tn_queue *q, void *stream, tn_buf *why) {
  q->values = tn_mem_alloc((q->d->view.most_exprs + 1ull) * sizeof *q->values);
  if (!q->values) return TN_OOM;
  q->one_by_one = is_set("TENON_CUDA_SYNC", false);
  q->graphs = !q->one_by_one && is_set("TENON_CUDA_GRAPHS", true);
  CUresult r = tn_cuda_enter(q->d);
  if (r) return tn_cuda_words(&q->d->driver, r, "making a queue", why);
  tn_status s = take_stream(q, stream, why);
  if (s == TN_OK)
    s = tn_cuda_words(&q->d->driver, tn_cuda_ring_reserve(q, 0), "pinned memory of a queue", why);
  tn_cuda_leave(q->d);
  return s;
}

tn_status tn_cuda_queue_new(tn_device *d, void *stream, tn_queue **out, char *error, uint64_t error_size) {
  tn_buf why = {0};
  tn_queue *q = tn_mem_alloc(sizeof *q);
  tn_status s = TN_OOM;
  *out = NULL;
  if (q) {
    q->d = d;
    s = fill(q, stream, &why);
  }
  if (s == TN_OOM && !why.len) tn_buf_puts(&why, "no memory for a queue");
  if (s == TN_OK)
    *out = q;
  else if (q)
    drop(q);
  return tn_cuda_tell(s, &why, error, error_size);
}

void tn_cuda_queue_free(tn_queue *q) {
  if (q) drop(q);
}

/* ---- copies -------------------------------------------------------------------------------------------- */

/* Pageable or pinned, large memory has been read when the stream is done with it. */
static CUresult upload(tn_queue *q, CUdeviceptr to, const void *from, uint64_t bytes) {
  const tn_cuda_api *a = &q->d->driver.api;
  if (bytes <= q->ring.bytes) return tn_cuda_ring_copy(q, to, from, bytes);
  CUresult r = a->cuMemcpyHtoDAsync_v2(to, from, bytes, q->stream);
  return r ? r : a->cuStreamSynchronize(q->stream);
}

tn_status tn_cuda_upload(tn_queue *q, void *to, const void *from, uint64_t bytes) {
  TN_TRY(tn_cuda_idle(q));
  CUresult r = tn_cuda_enter(q->d);
  if (!r) {
    if (bytes) r = upload(q, (CUdeviceptr)(uintptr_t)to, from, bytes);
    tn_cuda_leave(q->d);
  }
  return tn_cuda_failed(q, r, "copying to the device");
}

tn_status tn_cuda_download(tn_queue *q, void *to, const void *from, uint64_t bytes) {
  const tn_cuda_api *a = &q->d->driver.api;
  TN_TRY(tn_cuda_idle(q));
  CUresult r = tn_cuda_enter(q->d);
  if (!r) {
    if (bytes) r = a->cuMemcpyDtoHAsync_v2(to, (CUdeviceptr)(uintptr_t)from, bytes, q->stream);
    if (!r) r = a->cuStreamSynchronize(q->stream);
    tn_cuda_leave(q->d);
  }
  return tn_cuda_failed(q, r, "copying from the device");
}

tn_status tn_cuda_zero(tn_queue *q, void *to, uint64_t bytes) {
  TN_TRY(tn_cuda_idle(q));
  CUresult r = tn_cuda_enter(q->d);
  if (!r) {
    if (bytes) r = q->d->driver.api.cuMemsetD8Async((CUdeviceptr)(uintptr_t)to, 0, bytes, q->stream);
    tn_cuda_leave(q->d);
  }
  return tn_cuda_failed(q, r, "zeroing memory of the device");
}

tn_status tn_cuda_wait(tn_queue *q) {
  TN_TRY(tn_cuda_idle(q));
  CUresult r = tn_cuda_enter(q->d);
  if (!r) {
    r = q->d->driver.api.cuStreamSynchronize(q->stream);
    tn_cuda_leave(q->d);
  }
  return tn_cuda_failed(q, r, "waiting for the device");
}
