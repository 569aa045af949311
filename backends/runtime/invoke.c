/* invoke.c - one call from outside: bind the dims, plan the arena for them (kept while they stay the same),
 * point every step at its memory and let all threads walk the steps. Entries with host steps go on in
 * frame.c. */
#include "backends/runtime/rt.h"

tn_status tn_rt_entry_of(tn_session *s, uint32_t entry, const tn_prog_entry **out) {
  const tn_view *v = &s->model->view;
  if (entry >= v->head->npublic)
    return tn_rt_fail(s, TN_NOT_FOUND, "entry %u of %u", entry, v->head->npublic);
  *out = &v->entries[entry];
  return TN_OK;
}

/* ---- borders ------------------------------------------------------------------------------------------- */

static uint64_t element_bytes(uint32_t dtype) {
  uint64_t bytes = 1;
  tn_view_bytes(dtype, 1, &bytes);
  return bytes;
}

static tn_status check_data(tn_session *s, const char *what, const char *name, const tn_tensor *t) {
  if (!t->data) return tn_rt_fail(s, TN_INVALID, "%s '%s' has no data", what, name);
  uint64_t align = element_bytes(t->dtype);
  if ((align & (align - 1)) == 0 && align <= 8 && (uintptr_t)t->data % align)
    return tn_rt_fail(s, TN_INVALID, "%s '%s' does not lie at a multiple of %llu bytes", what, name,
                      (unsigned long long)align);
  return TN_OK;
}

/* i32 to i64 or back; a number that does not fit is an error. */
static tn_status convert(tn_session *s, uint32_t i, const tn_prog_arg *a, const tn_tensor *t) {
  uint64_t n, bytes;
  const char *name = tn_view_str(&s->model->view, a->name);
  if (!tn_rt_arg_bytes(s->top.exprs, &s->model->view, a, &bytes) ||
      !tn_rt_memory_grow(&s->converted[i], bytes))
    return tn_rt_fail(s, TN_OOM, "no memory to convert input '%s'", name);
  n = bytes / element_bytes(a->dtype);
  s->top.inputs[i] = s->converted[i].base;
  if (a->dtype == TN_DT_i64) {
    int64_t *to = s->converted[i].base;
    for (uint64_t k = 0; k < n; k++) to[k] = ((const int32_t *)t->data)[k];
    return TN_OK;
  }
  int32_t *to = s->converted[i].base;
  for (uint64_t k = 0; k < n; k++) {
    int64_t x = ((const int64_t *)t->data)[k];
    if (x < INT32_MIN || x > INT32_MAX)
      return tn_rt_fail(s, TN_INVALID, "input '%s' has %lld at %llu, which does not fit into i32", name,
                        (long long)x, (unsigned long long)k);
    to[k] = (int32_t)x;
  }
  return TN_OK;
}

static tn_status take_inputs(tn_session *s, const tn_prog_entry *e, const tn_tensor *in) {
  const tn_view *v = &s->model->view;
  for (uint32_t i = 0; i < e->ninputs; i++) {
    const tn_prog_arg *a = &v->args[e->first_input + i];
    TN_TRY(check_data(s, "input", tn_view_str(v, a->name), &in[i]));
    s->top.inputs[i] = in[i].data;
    if (in[i].dtype != a->dtype) TN_TRY(convert(s, i, a, &in[i]));
  }
  return TN_OK;
}

/* The caller's memory for output i has the shape `want`. */
static tn_status check_output(tn_session *s, const tn_prog_arg *a, const tn_tensor *out,
                              const tn_tensor *want) {
  const tn_view *v = &s->model->view;
  const char *name = tn_view_str(v, a->name);
  if (out->dtype != a->dtype) {
    const char *given = tn_view_dtype_name(out->dtype);
    return tn_rt_fail(s, TN_INVALID, "output '%s' has element type %s, expected %s", name,
                      given ? given : "?", tn_view_dtype_name(a->dtype));
  }
  if (out->rank != a->rank)
    return tn_rt_fail(s, TN_INVALID, "output '%s' has rank %u, expected %u", name, out->rank, a->rank);
  for (uint32_t k = 0; k < a->rank; k++)
    if (want->shape[k] < 0)
      return tn_rt_fail(s, TN_INVALID, "output '%s': its shape %s is known only after the call; give no data",
                        name, s->model->shapes[a - v->args]);
    else if (out->shape[k] != want->shape[k])
      return tn_rt_fail(s, TN_INVALID, "output '%s' has %lld in dim %u, expected %lld: %s", name,
                        (long long)out->shape[k], k, (long long)want->shape[k],
                        s->model->shapes[a - v->args]);
  return check_data(s, "output", name, out);
}

/* *keep: some output has no memory yet. */
static tn_status take_outputs(tn_session *s, const tn_prog_entry *e, const tn_tensor *out, bool *keep) {
  const tn_view *v = &s->model->view;
  for (uint32_t i = 0; i < e->noutputs; i++) {
    const tn_prog_arg *a = &v->args[e->first_output + i];
    tn_tensor *want = &s->top.results[i];
    TN_TRY(tn_rt_output_shape(s, &s->top, a, want));
    if (out[i].data) TN_TRY(check_output(s, a, &out[i], want));
    s->top.outputs[i] = want->data = out[i].data;
    *keep |= !out[i].data;
  }
  return TN_OK;
}

/* ---- the walk ------------------------------------------------------------------------------------------ */

/* Step i of the walk. */
static void run_step(tn_session *s, uint32_t i, uint32_t thread, uint32_t nthreads) {
  const tn_rt_step *step = &s->walk[i];
  tn_rt_log *log = s->profile ? &s->logs[thread] : NULL;
  double begin = log ? tn_now() : 0;
  tn_kcall call = {.bufs = step->bufs,
                   .dims = step->dims,
                   .scratch = (char *)s->scratch.base + thread * s->scratch_stride,
                   .ctx = step->kernel.ctx,
                   .thread = thread,
                   .nthreads = nthreads,
                   .launch = s->launch};
  if (nthreads > 1)
    call.tickets = (uint64_t *)((char *)s->tickets.base + (uint64_t)i * s->nthreads * TN_RT_TICKET);
  step->kernel.fn(&call);
  if (log) tn_rt_log_put(log, s->nwalks, step->row, begin, tn_now());
}

/* Until the others are where step i needs them. Threads that left at step `from` are awaited up to there. */
static void await_others(tn_session *s, uint32_t thread, uint32_t i, uint32_t width, uint32_t stay,
                         uint32_t from) {
  uint32_t mark = s->walk[i].others, before = from ? s->walk[from - 1].shared : 0;
  if (before > mark) before = mark;
  for (uint32_t t = 1; mark && t < width; t++) tn_pool_await(s->pool, thread, t, t < stay ? mark : before);
}

/* Marks are places in the table. Thread 0 goes from one small step to the next alone; the others learn of
 * them all before the next step that they share. */
static void walk(void *arg, uint32_t thread, uint32_t width) {
  tn_session *s = arg;
  const tn_rt_step *steps = s->walk;
  for (uint32_t i = 0, n = s->nwalk; i < n; i++) {
    const tn_rt_step *step = &steps[i];
    uint32_t stay = width;
    if (thread && step->single) continue;
    if (width > 1) {
      if (step->first) tn_pool_await(s->pool, thread, 0, step->first);
      uint64_t turn = atomic_load_explicit(&s->width.turn, memory_order_relaxed);
      if (i >= turn >> 32) stay = (uint32_t)turn;
      if (thread >= stay) return;
      if (step->others) await_others(s, thread, i, width, stay, stay < width ? (uint32_t)(turn >> 32) : 0);
      if (!thread && step->others) tn_rt_width_look(s, i);
    }
    run_step(s, i, thread, step->single ? 1 : stay);
    if (width > 1 && (!step->single || (i + 1 < n && !step[1].single))) tn_pool_pass(s->pool, thread, i + 1);
  }
}

/* Tickets of earlier walks count for nothing from now on. */
static void next_launch(tn_session *s) {
  if (++s->launch) return;
  memset(s->tickets.base, 0, s->tickets.bytes);
  s->launch = 1;
}

void tn_rt_walk(tn_session *s, const tn_frame *f, uint32_t from, uint32_t to) {
  s->walk = f->steps + from;
  s->nwalk = to - from;
  if (s->profile) tn_rt_log_begin(s, f); /* counts the walk, keeps its dims */
  if (f->shared) tn_rt_width_begin(s);
  bool shared = f->shared && s->width.threads > 1;
  if (shared) next_launch(s);
  s->counts.walks++;
  s->counts.steps += s->nwalk;
  s->counts.single += shared ? f->nsingle : s->nwalk;
  s->counts.waits += shared ? f->nwaits : 0;
  if (shared)
    tn_pool_run(s->pool, s->width.threads, walk, s, s->nwalk);
  else
    walk(s, 0, 1);
  double end = s->profile ? tn_now() : 0;
  if (s->profile) tn_rt_log_put(&s->logs[0], s->nwalks, TN_PROG_NONE, end, end);
}

void tn_rt_count(const tn_session *s, tn_rt_counts *out) { *out = s->counts; }

/* Tokens that a call adds to the states: dim 1 of the first input that has one (ids[B, S]). */
static int64_t new_tokens(const tn_prog_entry *e, const tn_tensor *in) {
  for (uint32_t i = 0; i < e->ninputs; i++)
    if (in[i].rank >= 2) return in[i].shape[1];
  return 0;
}

tn_status tn_rt_shapes(tn_session *s, uint32_t entry, const tn_tensor *in, tn_tensor *out) {
  const tn_prog_entry *e;
  TN_TRY(tn_rt_entry_of(s, entry, &e));
  TN_TRY(tn_rt_bind(s, e, in));
  for (uint32_t i = 0; i < e->noutputs; i++)
    TN_TRY(tn_rt_output_shape(s, &s->top, &s->model->view.args[e->first_output + i], &out[i]));
  return TN_OK;
}

tn_status tn_rt_invoke(tn_session *s, uint32_t entry, const tn_tensor *in, const tn_tensor *out) {
  const tn_prog_entry *e;
  tn_frame *f = &s->top;
  bool keep = false;
  s->nresults = 0;
  TN_TRY(tn_rt_entry_of(s, entry, &e));
  TN_TRY(tn_rt_bind(s, e, in));
  TN_TRY(take_inputs(s, e, in));
  TN_TRY(take_outputs(s, e, out, &keep));
  TN_TRY(tn_rt_plan(s, f, e));
  if (keep) TN_TRY(tn_rt_frame_outputs(s, f));
  if (s->model->staged[entry]) {
    TN_TRY(tn_rt_frame_run(s, f));
  } else {
    tn_rt_point(s, f, 0, f->nsteps);
    tn_rt_walk(s, f, 0, f->nsteps);
  }
  s->nresults = e->noutputs;
  if (s->model->stateful[entry]) s->position += new_tokens(e, in);
  return TN_OK;
}

tn_status tn_rt_result(tn_session *s, uint32_t i, tn_tensor *out) {
  if (i >= s->nresults) return tn_rt_fail(s, TN_NOT_FOUND, "output %u of a call with %u", i, s->nresults);
  *out = s->top.results[i];
  return TN_OK;
}

/* ---- looking inside ------------------------------------------------------------------------------------ */

const void *tn_rt_slot(tn_session *s, uint32_t slot, uint64_t *bytes) {
  if (!s->model->keep_values || !s->top.entry || slot >= s->top.variant->nslots) return NULL;
  *bytes = s->top.slot_bytes[slot];
  return s->top.slot[slot];
}

int64_t tn_rt_dim(tn_session *s, const char *name) {
  const tn_view *v = &s->model->view;
  for (uint32_t i = 0; i < v->ndims; i++)
    if (!strcmp(tn_view_str(v, v->dims[i].name), name)) return s->top.bound[i] ? s->top.dims[i] : 0;
  return 0;
}
