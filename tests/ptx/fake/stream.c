/* stream.c - streams, events, captured graphs. A stream is a queue that runs when somebody waits for it. */
#include "tests/ptx/fake/fake.h"

/* ---- operations
 * ---------------------------------------------------------------------------------------------------- */
void fake_op_free(fake_op *op) {
  tn_mem_free(op->params);
  tn_mem_free(op->staged);
  op->params = op->staged = NULL;
}

bool fake_op_copy(fake_op *to, const fake_op *from) {
  *to = *from;
  to->params = to->staged = NULL;
  if (from->params) {
    uint64_t n = from->function->info.param_bytes + 1u;
    to->params = tn_mem_alloc(n);
    if (to->params) memcpy(to->params, from->params, n);
  }
  if (from->staged) {
    to->staged = tn_mem_alloc(from->bytes);
    if (to->staged) memcpy(to->staged, from->staged, from->bytes);
  }
  bool good = !from->params == !to->params && !from->staged == !to->staged;
  if (!good) fake_op_free(to);
  return good;
}

static void free_ops(fake_ops *ops) {
  for (uint32_t i = 0; i < ops->count; i++) fake_op_free(&ops->items[i]);
  tn_vec_fini(ops);
}

static CUstream stream_of(CUstream s, CUcontext c) { return s ? s : c->legacy; }

bool fake_any_capture(CUcontext c) {
  for (CUstream s = fake.streams; s; s = s->next)
    if (s->context == c && s->capturing) return true;
  return false;
}

CUresult fake_push(CUstream s, CUcontext c, const fake_op *op) {
  fake_op mine = *op;
  s = stream_of(s, c);
  if (s == c->legacy && fake_any_capture(c)) {
    fake_op_free(&mine);
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  if (s->capturing && op->kind == FAKE_FREE) s->broken = true;
  if (tn_vec_push(s->capturing ? &s->captured : &s->queue, mine)) return CUDA_SUCCESS;
  fake_op_free(&mine);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

/* Runs all that is queued. After a fault the rest is dropped: the context is dead. */
CUresult fake_drain(CUstream s) {
  CUresult r = s->context->sticky;
  fake_ops now = s->queue;
  s->queue = (fake_ops){0};
  for (uint32_t i = 0; i < now.count; i++) {
    if (!r) r = fake_run(s, s->context, &now.items[i]);
    fake_op_free(&now.items[i]);
  }
  tn_vec_fini(&now);
  return r;
}

CUresult fake_drain_context(CUcontext c) {
  CUresult r = CUDA_SUCCESS;
  for (CUstream s = fake.streams; s; s = s->next)
    if (s->context == c && !s->capturing) {
      CUresult one = fake_drain(s);
      if (!r) r = one;
    }
  CUresult last = c->legacy ? fake_drain(c->legacy) : CUDA_SUCCESS;
  return r ? r : last;
}

/* ---- streams
 * ------------------------------------------------------------------------------------------------------- */
CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
  CUcontext c;
  FAKE_ENTER(cuStreamCreate);
  CUresult r = fake_current(&c);
  if (r) return r;
  CUstream s = tn_mem_alloc(sizeof *s);
  if (!s) return CUDA_ERROR_OUT_OF_MEMORY;
  s->context = c;
  s->flags = flags;
  s->next = fake.streams;
  fake.streams = *stream = s;
  return CUDA_SUCCESS;
}

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority) {
  (void)priority;
  FAKE_ENTER(cuStreamCreateWithPriority);
  return cuStreamCreate(stream, flags);
}

CUresult cuStreamDestroy_v2(CUstream stream) {
  FAKE_ENTER(cuStreamDestroy_v2);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  if (!stream->capturing) fake_drain(stream);
  for (CUstream *at = &fake.streams; *at; at = &(*at)->next)
    if (*at == stream) {
      *at = stream->next;
      break;
    }
  free_ops(&stream->queue);
  free_ops(&stream->captured);
  tn_mem_free(stream);
  return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream stream) {
  CUcontext c;
  FAKE_ENTER(cuStreamSynchronize);
  CUresult r = fake_current(&c);
  if (r) return r;
  CUstream s = stream_of(stream, c);
  if (s->capturing) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  return s == c->legacy ? fake_drain_context(c) : fake_drain(s);
}

CUresult cuStreamQuery(CUstream stream) {
  CUcontext c;
  FAKE_ENTER(cuStreamQuery);
  CUresult r = fake_current(&c);
  return r ? r : stream_of(stream, c)->queue.count ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  CUcontext c;
  (void)flags;
  FAKE_ENTER(cuStreamWaitEvent);
  CUresult r = fake_current(&c);
  if (r) return r;
  if (!event) return CUDA_ERROR_INVALID_HANDLE;
  if (event->stream && event->stream->capturing != stream_of(stream, c)->capturing)
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  return fake_push(stream, c, &(fake_op){.kind = FAKE_WAIT, .event = event, .ticket = event->recorded});
}

CUresult cuStreamGetCtx(CUstream stream, CUcontext *context) {
  CUcontext c;
  FAKE_ENTER(cuStreamGetCtx);
  CUresult r = fake_current(&c);
  *context = stream ? stream->context : c;
  return r;
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn fn, void *user) {
  CUcontext c;
  FAKE_ENTER(cuLaunchHostFunc);
  CUresult r = fake_current(&c);
  return r    ? r
         : fn ? fake_push(stream, c, &(fake_op){.kind = FAKE_HOST, .fn = fn, .user = user})
              : CUDA_ERROR_INVALID_VALUE;
}

/* ---- events
 * -------------------------------------------------------------------------------------------------------- */
CUresult cuEventCreate(CUevent *event, unsigned flags) {
  CUcontext c;
  FAKE_ENTER(cuEventCreate);
  CUresult r = fake_current(&c);
  if (r) return r;
  *event = tn_mem_alloc(sizeof **event);
  if (!*event) return CUDA_ERROR_OUT_OF_MEMORY;
  (*event)->context = c;
  (*event)->flags = flags;
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent event) {
  FAKE_ENTER(cuEventDestroy_v2);
  if (!event) return CUDA_ERROR_INVALID_HANDLE;
  fake_drain_context(event->context);
  tn_mem_free(event);
  return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  CUcontext c;
  FAKE_ENTER(cuEventRecord);
  CUresult r = fake_current(&c);
  if (r) return r;
  if (!event) return CUDA_ERROR_INVALID_HANDLE;
  event->stream = stream_of(stream, c);
  event->recorded++;
  return fake_push(stream, c, &(fake_op){.kind = FAKE_RECORD, .event = event, .ticket = event->recorded});
}

CUresult cuEventSynchronize(CUevent event) {
  FAKE_ENTER(cuEventSynchronize);
  if (!event) return CUDA_ERROR_INVALID_HANDLE;
  if (!event->stream || event->reached >= event->recorded) return event->context->sticky;
  return event->stream->capturing ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : fake_drain(event->stream);
}

CUresult cuEventQuery(CUevent event) {
  FAKE_ENTER(cuEventQuery);
  if (!event) return CUDA_ERROR_INVALID_HANDLE;
  return event->reached >= event->recorded ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent end) {
  FAKE_ENTER(cuEventElapsedTime);
  if (!start || !end || !start->recorded || !end->recorded) return CUDA_ERROR_INVALID_HANDLE;
  if ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) return CUDA_ERROR_INVALID_HANDLE;
  if (start->reached < start->recorded || end->reached < end->recorded) return CUDA_ERROR_NOT_READY;
  *ms = (float)((end->time - start->time) * 1e3);
  return CUDA_SUCCESS;
}

/* ---- graphs
 * -------------------------------------------------------------------------------------------------------- */
CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
  (void)mode;
  FAKE_ENTER(cuStreamBeginCapture_v2);
  if (!stream) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED; /* the stream NULL is never captured */
  if (stream->capturing) return CUDA_ERROR_ILLEGAL_STATE;
  stream->capturing = true;
  stream->broken = false;
  return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  FAKE_ENTER(cuStreamEndCapture);
  if (!stream || !stream->capturing) return CUDA_ERROR_ILLEGAL_STATE;
  stream->capturing = false;
  *graph = NULL;
  if (stream->broken) {
    free_ops(&stream->captured);
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  }
  CUgraph g = tn_mem_alloc(sizeof *g);
  if (!g) return CUDA_ERROR_OUT_OF_MEMORY;
  g->context = stream->context;
  g->ops = stream->captured;
  stream->captured = (fake_ops){0};
  *graph = g;
  return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  FAKE_ENTER(cuStreamIsCapturing);
  *status = !stream || !stream->capturing ? CU_STREAM_CAPTURE_STATUS_NONE
            : stream->broken              ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                          : CU_STREAM_CAPTURE_STATUS_ACTIVE;
  return CUDA_SUCCESS;
}

static bool copy_ops(fake_ops *to, const fake_ops *from) {
  for (uint32_t i = 0; i < from->count; i++) {
    fake_op op;
    if (!fake_op_copy(&op, &from->items[i])) return false;
    if (!tn_vec_push(to, op)) return fake_op_free(&op), false;
  }
  return true;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
  (void)flags;
  FAKE_ENTER(cuGraphInstantiateWithFlags);
  if (!graph) return CUDA_ERROR_INVALID_HANDLE;
  CUgraphExec e = tn_mem_alloc(sizeof *e);
  if (!e) return CUDA_ERROR_OUT_OF_MEMORY;
  e->context = graph->context;
  if (!copy_ops(&e->ops, &graph->ops)) {
    free_ops(&e->ops);
    tn_mem_free(e);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  *exec = e;
  return CUDA_SUCCESS;
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count) {
  FAKE_ENTER(cuGraphGetNodes);
  if (!graph || nodes) return CUDA_ERROR_INVALID_VALUE; /* only their number */
  *count = graph->ops.count;
  return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  CUcontext c;
  FAKE_ENTER(cuGraphLaunch);
  CUresult r = fake_current(&c);
  if (r) return r;
  if (!exec || exec->context != c) return CUDA_ERROR_INVALID_HANDLE;
  CUstream s = stream_of(stream, c);
  return copy_ops(s->capturing ? &s->captured : &s->queue, &exec->ops) ? CUDA_SUCCESS
                                                                       : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuGraphDestroy(CUgraph graph) {
  FAKE_ENTER(cuGraphDestroy);
  if (!graph) return CUDA_ERROR_INVALID_HANDLE;
  free_ops(&graph->ops);
  tn_mem_free(graph);
  return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  FAKE_ENTER(cuGraphExecDestroy);
  if (!exec) return CUDA_ERROR_INVALID_HANDLE;
  fake_drain_context(exec->context);
  free_ops(&exec->ops);
  tn_mem_free(exec);
  return CUDA_SUCCESS;
}
