/* run.c - from begin to end: the launches of a run are written down first, as numbers that say all about
 * them, and put on the stream at its end, one by one or as a graph. So an equal run is found by comparing. */
#include "backends/cuda/run/inside.h"

enum { MOST_Y = 65535, ROOM = 4096 /* bytes for numbers, at least */ };

/* ---- numbers ------------------------------------------------------------------------------------------- */

/* Room for `bytes` of numbers. Its address is part of every run, so runs that were kept are of no more use.
 */
static tn_status make_room(tn_queue *q, uint64_t bytes) {
  const tn_cuda_api *a = &q->d->driver.api;
  uint64_t room = q->room ? q->room : ROOM;
  if (bytes <= q->room) return TN_OK;
  while (room < bytes) room *= 2;
  CUresult r = tn_cuda_ring_reserve(q, room);
  if (!r) r = a->cuStreamSynchronize(q->stream);
  if (r) return tn_cuda_failed(q, r, "room for the sizes of a run");
  tn_cuda_forget(q);
  if (q->numbers) a->cuMemFree_v2(q->numbers);
  q->numbers = 0, q->room = 0, q->nuploaded = 0;
  int64_t *copy = tn_mem_resize(q->uploaded, room);
  if (!copy) return tn_cuda_refuse(q, TN_OOM, "no memory for the sizes of a run");
  q->uploaded = copy;
  r = a->cuMemAlloc_v2(&q->numbers, room);
  if (r) q->numbers = 0;
  if (!r) q->room = room;
  return tn_cuda_failed(q, r, "room for the sizes of a run");
}

static tn_status put_numbers(tn_queue *q, const int64_t *numbers, uint32_t n) {
  uint64_t bytes = (uint64_t)n * sizeof *numbers;
  TN_TRY(make_room(q, bytes));
  if (!n || (n <= q->nuploaded && !memcmp(numbers, q->uploaded, bytes))) return TN_OK;
  q->nuploaded = 0;
  CUresult r = tn_cuda_ring_copy(q, q->numbers, numbers, bytes);
  if (r) return tn_cuda_failed(q, r, "copying the sizes of a run");
  memcpy(q->uploaded, numbers, bytes);
  q->nuploaded = n;
  return TN_OK;
}

tn_status tn_cuda_begin(tn_queue *q, const int64_t *numbers, uint32_t n) {
  TN_TRY(tn_cuda_idle(q));
  CUresult r = tn_cuda_enter(q->d);
  if (r) return tn_cuda_failed(q, r, "a run");
  tn_status s = put_numbers(q, numbers, n);
  tn_cuda_leave(q->d);
  TN_TRY(s);
  q->steps.count = q->words.count = 0;
  q->locs.len = 0;
  q->locs.failed = false;
  q->from = numbers;
  q->nnumbers = n;
  q->running = true;
  return TN_OK;
}

/* ---- launches ------------------------------------------------------------------------------------------ */

static const char *name_of(const tn_queue *q, const tn_cuda_plan *p) {
  return q->d->view.strings + p->row->function;
}

/* 0 along any axis: nothing is launched, *some is false. */
static tn_status read_grid(tn_queue *q, const tn_cuda_plan *p, const char *loc, uint32_t grid[3],
                           bool *some) {
  static const int64_t most[] = {INT32_MAX, MOST_Y, MOST_Y};
  *some = true;
  for (int i = 0; i < 3; i++) {
    int64_t n = p->grid[i] == TN_CUDA_NONE ? 1 : q->values[p->grid[i]];
    if (n <= 0) *some = false;
    if (n > most[i])
      return tn_cuda_refuse(q, TN_UNSUPPORTED, "kernel %s (%s): %lld blocks along %c, at most %lld",
                            name_of(q, p), loc, (long long)n, "xyz"[i], (long long)most[i]);
    grid[i] = (uint32_t)n;
  }
  uint32_t stay = p->row->resident * (uint32_t)q->d->info->processors;
  if (stay && grid[0] > stay) grid[0] = stay;
  if (*some && grid[0] % p->row->cluster)
    return tn_cuda_refuse(q, TN_INTERNAL, "kernel %s (%s): %u blocks do not make clusters of %u",
                          name_of(q, p), loc, grid[0], p->row->cluster);
  return TN_OK;
}

/* A map's tensor lies in memory that was given, from its offset on. */
static tn_status check_maps(tn_queue *q, const tn_cuda_plan *p, const char *loc, const void *scratch) {
  for (uint32_t m = 0; m < p->row->nmaps; m++) {
    const tn_cuda_map_row *row = &q->d->view.maps.items[p->first_map + m];
    int64_t offset = row->offset == TN_CUDA_NONE ? 0 : q->values[row->offset];
    if (offset < 0 || (row->buffer == p->kernel->nbufs && !scratch))
      return tn_cuda_refuse(q, TN_INVALID, "kernel %s (%s): tensor map %u lies at %lld of %s", name_of(q, p),
                            loc, m, (long long)offset, scratch ? "a buffer" : "scratch that is not there");
  }
  return TN_OK;
}

static bool put_words(tn_queue *q, const tn_cuda_plan *p, const uint32_t grid[3], void *const *bufs,
                      void *scratch, uint64_t number) {
  const tn_cuda_view *v = &q->d->view;
  uint32_t nbufs = p->kernel->nbufs;
  uint64_t *w;
  if (!tn_vec_reserve(&q->words, q->words.count + 5 + nbufs + 10 * p->row->nmaps)) return false;
  w = q->words.items + q->words.count;
  *w++ = (uint64_t)(p - v->plans);
  *w++ = grid[0];
  *w++ = grid[1] | (uint64_t)grid[2] << 32;
  for (uint32_t i = 0; i < nbufs; i++) *w++ = (uint64_t)(uintptr_t)bufs[i];
  *w++ = (uint64_t)(uintptr_t)scratch;
  *w++ = q->numbers + number * sizeof(int64_t);
  for (uint32_t m = 0; m < p->row->nmaps; m++) {
    const tn_cuda_map_row *row = &v->maps.items[p->first_map + m];
    *w++ = row->offset == TN_CUDA_NONE ? 0 : (uint64_t)q->values[row->offset];
    for (uint32_t i = 0; i < row->rank; i++) {
      *w++ = (uint64_t)q->values[row->sizes[i]];
      if (i) *w++ = (uint64_t)q->values[row->strides[i]];
    }
  }
  q->words.count = (uint32_t)(w - q->words.items);
  return true;
}

static tn_status write_down(tn_queue *q, uint32_t plan, void *const *bufs, const int64_t *dims, void *scratch,
                            uint32_t loc) {
  const tn_cuda_plan *p = &q->d->view.plans[plan];
  const char *where = q->locs.text + loc;
  uint32_t grid[3] = {0};
  bool some = false;
  if (!tn_cuda_evaluate(&q->d->view, p, dims, q->values))
    return tn_cuda_refuse(q, TN_INVALID, "kernel %s (%s): a size divides by 0 or is too large", name_of(q, p),
                          where);
  TN_TRY(read_grid(q, p, where, grid, &some));
  if (!some) return TN_OK;
  TN_TRY(check_maps(q, p, where, scratch));
  tn_cuda_step step = {.plan = plan, .loc = loc, .first = q->words.count + 1ull};
  if (!put_words(q, p, grid, bufs, scratch, dims ? (uint64_t)(dims - q->from) : 0) ||
      !tn_vec_push(&q->steps, step))
    return tn_cuda_refuse(q, TN_OOM, "no memory for a run's launches");
  return TN_OK;
}

static tn_status check_launch(tn_queue *q, uint32_t kernel, uint32_t nbufs, const int64_t *dims,
                              uint32_t ndims) {
  const tn_cuda_view *v = &q->d->view;
  if (!q->running) return tn_cuda_refuse(q, TN_PRECONDITION, "a launch outside of a run");
  if (kernel >= v->head->kernels.count)
    return tn_cuda_refuse(q, TN_INVALID, "kernel %u of %u", kernel, v->head->kernels.count);
  const tn_cuda_kernel_row *k = &v->kernels[kernel];
  if (nbufs != k->nbufs || ndims != k->ndims)
    return tn_cuda_refuse(q, TN_INVALID, "kernel %s takes %u buffers and %u sizes, not %u and %u",
                          v->strings + k->symbol, k->nbufs, k->ndims, nbufs, ndims);
  if (ndims && (dims < q->from || (uint64_t)(dims - q->from) > q->nnumbers ||
                ndims > q->nnumbers - (uint64_t)(dims - q->from)))
    return tn_cuda_refuse(q, TN_INVALID, "the sizes of kernel %s are not among those of the run",
                          v->strings + k->symbol);
  return TN_OK;
}

static tn_status launch(tn_queue *q, uint32_t kernel, void *const *bufs, uint32_t nbufs, const int64_t *dims,
                        uint32_t ndims, void *scratch, const char *loc) {
  TN_TRY(check_launch(q, kernel, nbufs, dims, ndims));
  const tn_cuda_kernel_row *k = &q->d->view.kernels[kernel];
  uint32_t at = (uint32_t)q->locs.len;
  tn_buf_put(&q->locs, loc && *loc ? loc : "?", loc && *loc ? strlen(loc) + 1 : 2);
  if (q->locs.failed) return tn_cuda_refuse(q, TN_OOM, "no memory for a run's launches");
  for (uint32_t i = 0; i < k->nlaunches; i++)
    TN_TRY(write_down(q, k->first_launch + i, bufs, ndims ? dims : NULL, scratch, at));
  return TN_OK;
}

/* A launch that fails ends its run. */
tn_status tn_cuda_launch(tn_queue *q, uint32_t kernel, void *const *bufs, uint32_t nbufs, const int64_t *dims,
                         uint32_t ndims, void *scratch, const char *loc) {
  tn_status s = launch(q, kernel, bufs, nbufs, dims, ndims, scratch, loc);
  if (s != TN_OK) q->running = false;
  return s;
}

/* ---- onto the stream ----------------------------------------------------------------------------------- */

/* *at moves behind the map's offset, sizes and strides. */
static CUresult encode(tn_queue *q, const tn_cuda_map_row *row, uint64_t base, const uint64_t **at,
                       CUtensorMap *out) {
  static const uint32_t steps[] = {1, 1, 1, 1, 1};
  uint64_t sizes[5], strides[5];
  void *begin = (void *)(uintptr_t)(base + *(*at)++);
  for (uint32_t i = 0; i < row->rank; i++) {
    sizes[i] = *(*at)++;
    if (i) strides[i - 1] = *(*at)++;
  }
  return q->d->driver.api.cuTensorMapEncodeTiled(out, (CUtensorMapDataType)row->type, row->rank, begin, sizes,
                                                 strides, row->box, steps, 0,
                                                 (CUtensorMapSwizzle)row->swizzle, (int)row->promotion, 0);
}

static CUresult put_launch(tn_queue *q, const tn_cuda_step *s, CUstream stream) {
  const tn_cuda_view *v = &q->d->view;
  const tn_cuda_plan *p = &v->plans[s->plan];
  uint64_t *w = q->words.items + s->first, *params = w + 2;
  uint32_t n = p->kernel->nbufs + 2;
  const uint64_t *sizes = params + n;
  CUtensorMap maps[TN_CUDA_MAX_MAPS];
  void *args[TN_CUDA_MAX_PARAMS / 8 + TN_CUDA_MAX_MAPS];
  for (uint32_t i = 0; i < n; i++) args[i] = &params[i];
  for (uint32_t m = 0; m < p->row->nmaps; m++) {
    const tn_cuda_map_row *row = &v->maps.items[p->first_map + m];
    CUresult r = encode(q, row, params[row->buffer], &sizes, &maps[m]);
    if (r) return r;
    args[n++] = &maps[m];
  }
  CUlaunchAttribute cluster = {.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
                               .value.clusterDim = {p->row->cluster, 1, 1}};
  CUlaunchConfig config = {.gridDimX = (unsigned)w[0],
                           .gridDimY = (unsigned)w[1],
                           .gridDimZ = (unsigned)(w[1] >> 32),
                           .blockDimX = p->row->threads,
                           .blockDimY = 1,
                           .blockDimZ = 1,
                           .sharedMemBytes = p->row->shared,
                           .hStream = stream,
                           .attrs = &cluster,
                           .numAttrs = p->row->cluster > 1};
  return q->d->driver.api.cuLaunchKernelEx(&config, q->d->functions[s->plan], args, NULL);
}

/* Why it may want too much. */
static void tell_resources(tn_queue *q, const tn_cuda_step *s) {
  const tn_cuda_launch_row *l = q->d->view.plans[s->plan].row;
  const uint64_t *w = q->words.items + s->first;
  size_t n = strlen(q->error);
  int registers = 0;
  q->d->driver.api.cuFuncGetAttribute(&registers, CU_FUNC_ATTRIBUTE_NUM_REGS, q->d->functions[s->plan]);
  snprintf(
      q->error + n, sizeof q->error - n,
      "; it has %u x %u x %u blocks of %u threads, %d registers each, and %u bytes of dynamic shared memory",
      (unsigned)w[0], (unsigned)w[1], (unsigned)(w[1] >> 32), l->threads, registers, l->shared);
}

static tn_status launch_failed(tn_queue *q, CUresult r, const tn_cuda_step *s) {
  char doing[400];
  snprintf(doing, sizeof doing, "kernel %.200s (%.150s)", name_of(q, &q->d->view.plans[s->plan]),
           q->locs.text + s->loc);
  tn_status status = tn_cuda_failed(q, r, doing);
  if (r == CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES || r == CUDA_ERROR_INVALID_VALUE) tell_resources(q, s);
  return status;
}

tn_status tn_cuda_launch_all(tn_queue *q, CUstream stream) {
  for (uint32_t i = 0; i < q->steps.count; i++) {
    const tn_cuda_step *s = &q->steps.items[i];
    CUresult r = put_launch(q, s, stream);
    if (!r && q->one_by_one) r = q->d->driver.api.cuStreamSynchronize(stream);
    if (r) return launch_failed(q, r, s);
  }
  return TN_OK;
}

tn_status tn_cuda_end(tn_queue *q) {
  if (!q->running) return tn_cuda_refuse(q, TN_PRECONDITION, "the end of a run that was not begun");
  q->running = false;
  TN_TRY(tn_cuda_idle(q));
  CUresult r = tn_cuda_enter(q->d);
  if (r) return tn_cuda_failed(q, r, "a run");
  tn_status s = TN_OK;
  q->runs++;
  if (q->graphs && q->steps.count) {
    s = tn_cuda_run_again(q);
  } else {
    q->eager++;
    s = tn_cuda_launch_all(q, q->stream);
  }
  tn_cuda_leave(q->d);
  return s;
}
