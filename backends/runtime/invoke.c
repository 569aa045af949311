/* invoke.c - one call: bind the dims, plan the arena for them (kept while they stay the same), point every
 * step at its memory and let all threads walk the steps. */
#include "backends/runtime/rt.h"

enum {
  SLOT_ALIGN = 64,
  SHARED_WORK = 100000 /* floating-point operations: a few microseconds, what meeting at a barrier may cost */
};

tn_status tn_rt_entry_of(tn_session *s, uint32_t entry, const tn_prog_entry **out) {
  const tn_view *v = &s->model->view;
  if (entry >= v->nentries) return tn_rt_fail(s, TN_NOT_FOUND, "entry %u of %u", entry, v->nentries);
  *out = &v->entries[entry];
  return TN_OK;
}

/* ---- the plan ------------------------------------------------------------------------------------------ */

static tn_status size_of(tn_session *s, uint32_t expr, const char *what, uint32_t row, uint64_t *out) {
  const tn_rt_number *n = &s->exprs[expr];
  if (n->state || n->value < 0)
    return tn_rt_fail(s, TN_INVALID, "%s %u: its size %s", what, row, tn_rt_number_why(n->state));
  *out = (uint64_t)n->value;
  return TN_OK;
}

static const tn_prog_variant *choose_variant(const tn_session *s, const tn_prog_entry *e) {
  const tn_prog_variant *var = &s->model->view.variants[e->first_variant];
  while (var->dim != TN_PROG_NONE && !(s->bound[var->dim] && s->dims[var->dim] == var->equals)) var++;
  return var;
}

static tn_status plan_slots(tn_session *s, const tn_prog_variant *var) {
  uint64_t total = SLOT_ALIGN; /* never empty, so that the base is an address */
  for (uint32_t i = 0; i < var->nslots; i++) {
    TN_TRY(size_of(s, s->model->view.slots[var->first_slot + i].bytes, "slot", i, &s->slot_bytes[i]));
    s->slot_at[i] = total;
    if (!tn_add_u64(total, s->slot_bytes[i], &total) || total > INT64_MAX / 2)
      return tn_rt_fail(s, TN_INVALID, "the call needs more memory than there are addresses");
    total = tn_align_up(total, SLOT_ALIGN);
  }
  /* Half as much again, so that sizes that creep up with the position do not cost an allocation each. */
  uint64_t room = s->slots.bytes && total > s->slots.bytes ? total + total / 2 : total;
  if (!tn_rt_memory_grow(&s->slots, room) && !tn_rt_memory_grow(&s->slots, total))
    return tn_rt_fail(s, TN_OOM, "no memory for %llu bytes of intermediate values",
                      (unsigned long long)total);
  return TN_OK;
}

/* A step that one thread does sooner than several can agree to do it. */
static bool small(const tn_session *s, const tn_prog_step *step) {
  if (step->flags & TN_KERNEL_SINGLE) return true;
  const tn_rt_number *work = step->work ? &s->exprs[step->work - 1] : NULL;
  return work && !work->state && work->value < SHARED_WORK;
}

static tn_status plan_steps(tn_session *s, const tn_prog_variant *var) {
  const tn_view *v = &s->model->view;
  uint64_t scratch = SLOT_ALIGN, total;
  int64_t *scalars = s->scalars;
  void **bufs = s->bufs;
  s->shared = false;
  for (uint32_t i = 0; i < var->nsteps; i++) {
    const tn_prog_step *step = &v->steps[var->first_step + i];
    uint64_t bytes = 0;
    if (step->scratch != TN_PROG_NONE) TN_TRY(size_of(s, step->scratch, "scratch of step", i, &bytes));
    if (bytes > scratch) scratch = bytes;
    s->steps[i] =
        (tn_rt_step){s->model->kernels[step->kernel], bufs, scalars, var->first_step + i, small(s, step)};
    s->shared |= !s->steps[i].single;
    for (uint32_t k = 0; k < step->nscalars; k++) {
      const tn_rt_number *n = &s->exprs[v->scalars[step->first_scalar + k]];
      if (n->state)
        return tn_rt_fail(s, TN_INVALID, "step %u: number %u %s", i, k, tn_rt_number_why(n->state));
      scalars[k] = n->value;
    }
    scalars += step->nscalars;
    bufs += step->noperands;
  }
  s->nsteps = var->nsteps;
  s->scratch_stride = scratch > INT64_MAX / 2 ? UINT64_MAX : tn_align_up(scratch, SLOT_ALIGN);
  if (!tn_mul_u64(s->scratch_stride, s->nthreads, &total) || !tn_rt_memory_grow(&s->scratch, total))
    return tn_rt_fail(s, TN_OOM, "no memory for %llu bytes of scratch on each of %u threads",
                      (unsigned long long)scratch, s->nthreads);
  return TN_OK;
}

static tn_status plan(tn_session *s, const tn_prog_entry *e) {
  size_t bytes = s->model->view.ndims * sizeof *s->dims;
  if (s->entry == e && !memcmp(s->planned, s->dims, bytes)) return TN_OK;
  s->entry = NULL;
  s->variant = choose_variant(s, e);
  TN_TRY(plan_slots(s, s->variant));
  TN_TRY(plan_steps(s, s->variant));
  memcpy(s->planned, s->dims, bytes);
  s->entry = e;
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
  if (!tn_rt_arg_bytes(s->exprs, &s->model->view, a, &bytes) || !tn_rt_memory_grow(&s->converted[i], bytes))
    return tn_rt_fail(s, TN_OOM, "no memory to convert input '%s'", name);
  n = bytes / element_bytes(a->dtype);
  s->inputs[i] = s->converted[i].base;
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
    s->inputs[i] = in[i].data;
    if (in[i].dtype != a->dtype) TN_TRY(convert(s, i, a, &in[i]));
  }
  return TN_OK;
}

static tn_status output_shape(tn_session *s, const tn_prog_arg *a, tn_tensor *out) {
  const tn_view *v = &s->model->view;
  out->dtype = a->dtype;
  out->rank = a->rank;
  uint64_t bytes;
  if (tn_rt_shape(s->exprs, v->scalars + a->shape, a->rank, out->shape) &&
      tn_rt_arg_bytes(s->exprs, v, a, &bytes))
    return TN_OK;
  return tn_rt_fail(s, TN_INVALID, "output '%s': its shape %s cannot be worked out from the inputs",
                    tn_view_str(v, a->name), s->model->shapes[a - v->args]);
}

static tn_status take_outputs(tn_session *s, const tn_prog_entry *e, const tn_tensor *out) {
  const tn_view *v = &s->model->view;
  for (uint32_t i = 0; i < e->noutputs; i++) {
    const tn_prog_arg *a = &v->args[e->first_output + i];
    const char *name = tn_view_str(v, a->name);
    tn_tensor want;
    TN_TRY(output_shape(s, a, &want));
    if (out[i].dtype != a->dtype) {
      const char *given = tn_view_dtype_name(out[i].dtype);
      return tn_rt_fail(s, TN_INVALID, "output '%s' has element type %s, expected %s", name,
                        given ? given : "?", tn_view_dtype_name(a->dtype));
    }
    if (out[i].rank != a->rank)
      return tn_rt_fail(s, TN_INVALID, "output '%s' has rank %u, expected %u", name, out[i].rank, a->rank);
    for (uint32_t k = 0; k < a->rank; k++)
      if (out[i].shape[k] != want.shape[k])
        return tn_rt_fail(s, TN_INVALID, "output '%s' has %lld in dim %u, expected %lld: %s", name,
                          (long long)out[i].shape[k], k, (long long)want.shape[k],
                          s->model->shapes[a - v->args]);
    TN_TRY(check_data(s, "output", name, &out[i]));
    s->outputs[i] = out[i].data;
  }
  return TN_OK;
}

/* ---- the walk ------------------------------------------------------------------------------------------ */

static void point(tn_session *s) {
  const tn_view *v = &s->model->view;
  void **bufs = s->bufs;
  for (uint32_t i = 0; i < s->nsteps; i++) {
    const tn_prog_step *step = &v->steps[s->variant->first_step + i];
    for (uint32_t k = 0; k < step->noperands; k++) {
      const tn_prog_operand *o = &v->operands[step->first_operand + k];
      const void *at = NULL;
      if (o->kind == TN_PROG_SLOT)
        at = (char *)s->slots.base + s->slot_at[o->index];
      else if (o->kind == TN_PROG_INPUT)
        at = s->inputs[o->index];
      else if (o->kind == TN_PROG_OUTPUT)
        at = s->outputs[o->index];
      else if (o->kind == TN_PROG_WEIGHT)
        at = s->model->weights[o->index];
      else
        at = s->states[o->index].base;
      *bufs++ = (void *)(uintptr_t)at;
    }
  }
}

static void walk(void *arg, uint32_t thread, uint32_t nthreads) {
  tn_session *s = arg;
  bool timed = s->profile && thread == 0;
  /* Behind the last barrier the session belongs to the caller again: the count is read before. */
  for (uint32_t i = 0, n = s->nsteps; i < n; i++) {
    const tn_rt_step *step = &s->steps[i];
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
    TN_TRY(output_shape(s, &s->model->view.args[e->first_output + i], &out[i]));
  return TN_OK;
}

tn_status tn_rt_invoke(tn_session *s, uint32_t entry, const tn_tensor *in, const tn_tensor *out) {
  const tn_prog_entry *e;
  TN_TRY(tn_rt_entry_of(s, entry, &e));
  TN_TRY(tn_rt_bind(s, e, in));
  TN_TRY(take_inputs(s, e, in));
  TN_TRY(take_outputs(s, e, out));
  TN_TRY(plan(s, e));
  point(s);
  if (s->shared)
    tn_pool_run(s->pool, walk, s);
  else
    walk(s, 0, 1);
  if (s->model->stateful[entry]) s->position += new_tokens(e, in);
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

uint32_t tn_rt_step_times(tn_session *s, tn_rt_step_time *out, uint32_t room) {
  const tn_view *v = &s->model->view;
  if (!s->entry || !s->seconds || !s->calls) return 0;
  for (uint32_t i = 0; i < s->nsteps && i < room; i++) {
    const tn_prog_step *step = &v->steps[s->steps[i].row];
    out[i] = (tn_rt_step_time){tn_view_str(v, v->kernels[step->kernel].symbol),
                               step->loc == TN_PROG_NONE ? "" : tn_view_str(v, step->loc),
                               s->calls[s->steps[i].row], s->seconds[s->steps[i].row]};
  }
  return s->nsteps;
}

const void *tn_rt_slot(tn_session *s, uint32_t slot, uint64_t *bytes) {
  if (!s->model->keep_values || !s->entry || slot >= s->variant->nslots) return NULL;
  *bytes = s->slot_bytes[slot];
  return (char *)s->slots.base + s->slot_at[slot];
}
