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

static void walk(void *arg, uint32_t thread, uint32_t nthreads) {
  tn_session *s = arg;
  bool timed = s->profile && thread == 0;
  /* Behind the last barrier the session belongs to the caller again: the count is read before. */
  const tn_rt_step *steps = s->walk;
  for (uint32_t i = 0, n = s->nwalk; i < n; i++) {
    const tn_rt_step *step = &steps[i];
    double begin = timed ? tn_now() : 0;
    if (thread == 0 || !step->single) {
      tn_kcall call = {step->bufs,       step->dims, (char *)s->scratch.base + thread * s->scratch_stride,
                       step->kernel.ctx, thread,     step->single ? 1 : nthreads};
      step->kernel.fn(&call);
    }
    /* Thread 0 goes from one small step to the next alone. */
    if (nthreads > 1 && (!step->single || i + 1 == n || !step[1].single)) tn_pool_barrier(s->pool);
    if (timed) s->seconds[step->row] += tn_now() - begin, s->calls[step->row]++;
  }
}

void tn_rt_walk(tn_session *s, const tn_rt_step *steps, uint32_t n, bool shared) {
  s->walk = steps;
  s->nwalk = n;
  if (shared)
    tn_pool_run(s->pool, walk, s);
  else
    walk(s, 0, 1);
}

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
  if (s->model->dynamic[entry]) {
    TN_TRY(tn_rt_frame_run(s, f));
  } else {
    tn_rt_point(s, f, 0, f->nsteps);
    tn_rt_walk(s, f->steps, f->nsteps, f->shared);
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

tn_status tn_rt_profile(tn_session *s, bool on) {
  uint32_t n = s->model->view.nsteps;
  if (on && !s->seconds) s->seconds = tn_mem_alloc(n * sizeof *s->seconds);
  if (on && !s->calls) s->calls = tn_mem_alloc(n * sizeof *s->calls);
  if (on && (!s->seconds || !s->calls))
    return tn_rt_fail(s, TN_OOM, "no memory for a profile of %u steps", n);
  if (on) memset(s->seconds, 0, n * sizeof *s->seconds), memset(s->calls, 0, n * sizeof *s->calls);
  s->profile = on;
  return TN_OK;
}

/* The kernels of the variant; behind them those of entries that host steps called. */
uint32_t tn_rt_step_times(tn_session *s, tn_rt_step_time *out, uint32_t room) {
  const tn_view *v = &s->model->view;
  const tn_frame *f = &s->top;
  uint32_t n = 0;
  if (!f->entry || !s->seconds || !s->calls) return 0;
  bool dynamic = s->model->dynamic[f->entry - v->entries];
  uint32_t first = f->variant->first_step, end = dynamic ? v->nsteps : first + f->nsteps;
  for (uint32_t row = first; row < end; row++) {
    const tn_prog_step *step = &v->steps[row];
    if (step->kind != TN_PROG_KERNEL || (row >= first + f->nsteps && !s->calls[row])) continue;
    if (n < room)
      out[n] = (tn_rt_step_time){tn_view_str(v, v->kernels[step->kernel].symbol),
                                 step->loc == TN_PROG_NONE ? "" : tn_view_str(v, step->loc), s->calls[row],
                                 s->seconds[row]};
    n++;
  }
  return n;
}

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
