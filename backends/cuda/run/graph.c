/* graph.c - runs that come again. A run that is new is launched kernel by kernel and remembered; when it
 * comes a second time it is recorded as a CUDA graph, and from then on launched as one piece. Recording is
 * done on a stream that nothing else uses, so that the caller's is left alone. */
#include "backends/cuda/run/inside.h"

static void drop(tn_queue *q, tn_cuda_kept *k) {
  if (k->graph) q->d->driver.api.cuGraphExecDestroy(k->graph);
  k->graph = NULL;
  k->never = false;
  k->used = 0;
  k->words.count = 0;
}

void tn_cuda_forget(tn_queue *q) {
  for (size_t i = 0; i < TN_COUNT(q->kept); i++) drop(q, &q->kept[i]);
}

static tn_cuda_kept *find(tn_queue *q) {
  const tn_cuda_words_vec *w = &q->words;
  for (size_t i = 0; i < TN_COUNT(q->kept); i++) {
    tn_cuda_kept *k = &q->kept[i];
    if (k->used && k->words.count == w->count &&
        !memcmp(k->words.items, w->items, w->count * sizeof *w->items))
      return k;
  }
  return NULL;
}

/* The one that was not used for longest among those with (or without) a graph, once there are `most` of them;
 * NULL: there are fewer. Graphs and others do not push each other out. */
static tn_cuda_kept *oldest(tn_queue *q, bool graph, uint32_t most) {
  tn_cuda_kept *old = NULL;
  uint32_t n = 0;
  for (size_t i = 0; i < TN_COUNT(q->kept); i++) {
    tn_cuda_kept *k = &q->kept[i];
    if (!k->used || (k->graph != NULL) != graph) continue;
    n++;
    if (!old || k->used < old->used) old = k;
  }
  return n < most ? NULL : old;
}

/* Remembers the run; without memory it is new again the next time. */
static void keep(tn_queue *q) {
  tn_cuda_kept *k = oldest(q, false, TN_CUDA_SEEN);
  for (size_t i = 0; i < TN_COUNT(q->kept) && !k; i++)
    if (!q->kept[i].used) k = &q->kept[i];
  if (!k) return;
  drop(q, k);
  if (!tn_vec_reserve(&k->words, q->words.count)) return;
  memcpy(k->words.items, q->words.items, q->words.count * sizeof *q->words.items);
  k->words.count = q->words.count;
  k->used = ++q->clock;
}

/* ---- recording ----------------------------------------------------------------------------------------- */

static CUresult capture(tn_queue *q, CUgraph *graph) {
  const tn_cuda_api *a = &q->d->driver.api;
  CUresult r = q->recorder ? CUDA_SUCCESS : a->cuStreamCreate(&q->recorder, CU_STREAM_NON_BLOCKING);
  if (r) return q->recorder = NULL, r;
  r = a->cuStreamBeginCapture_v2(q->recorder, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
  if (r) return r;
  tn_status s = tn_cuda_launch_all(q, q->recorder);
  r = a->cuStreamEndCapture(q->recorder, graph);
  if (r) *graph = NULL;
  return r || s == TN_OK ? r : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
}

/* A stream on which recording failed is not used again. */
static bool record(tn_queue *q, tn_cuda_kept *k) {
  const tn_cuda_api *a = &q->d->driver.api;
  CUgraph graph = NULL;
  tn_cuda_kept *old = oldest(q, true, TN_CUDA_GRAPHS);
  if (old) drop(q, old);
  CUresult r = capture(q, &graph);
  if (!r) r = a->cuGraphInstantiateWithFlags(&k->graph, graph, 0);
  if (graph) a->cuGraphDestroy(graph);
  if (!r) return true;
  k->graph = NULL;
  k->never = true;
  if (q->recorder) a->cuStreamDestroy_v2(q->recorder);
  q->recorder = NULL;
  return false;
}

static tn_status launch_eagerly(tn_queue *q) {
  q->eager++;
  return tn_cuda_launch_all(q, q->stream);
}

tn_status tn_cuda_run_again(tn_queue *q) {
  tn_cuda_kept *k = find(q);
  bool had = k && k->graph;
  if (!k) {
    keep(q);
    return launch_eagerly(q);
  }
  k->used = ++q->clock;
  if (!had && (k->never || !record(q, k))) return launch_eagerly(q);
  *(had ? &q->replayed : &q->recorded) += 1;
  return tn_cuda_failed(q, q->d->driver.api.cuGraphLaunch(k->graph, q->stream), "launching a graph");
}
