/* frame.c - an entry while it runs: tables, the plan of its arena (kept while its dims stay the same), and
 * the walk from host step to host step. What a host step makes known (a dim, where a result lies) is taken up
 * before the kernels behind it are pointed at their memory. */
#include "backends/runtime/rt.h"

enum {
  SHARED_WORK = 100000 /* floating-point operations: a few microseconds, what meeting at a barrier may cost */
};

bool tn_rt_frame_tables(const tn_model *m, const tn_prog_entry *e, tn_frame *f, tn_arena *a) {
  const tn_view *v = &m->view;
  tn_rt_sizes z = m->sizes;
  uint64_t rows = 0, constraints = 0;
  if (e) z = (tn_rt_sizes){0}, tn_rt_measure(v, e, &z);
  for (uint32_t i = 0; i < v->nentries; i++) {
    if (e ? e != &v->entries[i] : i >= v->head->npublic) continue;
    if (m->scopes[i].nrows > rows) rows = m->scopes[i].nrows;
    if (m->scopes[i].nconstraints > constraints) constraints = m->scopes[i].nconstraints;
  }
#define TABLE(field, n) f->field = tn_arena_alloc(a, (size_t)(n) * sizeof *f->field)
  TABLE(dims, v->ndims);
  TABLE(bound, v->ndims);
  TABLE(planned, v->ndims);
  TABLE(exprs, v->nexprs);
  TABLE(inputs, z.inputs);
  TABLE(outputs, z.outputs);
  TABLE(kept, z.outputs);
  f->nkept = z.outputs;
  TABLE(results, z.outputs);
  TABLE(slot, z.slots);
  TABLE(slot_bytes, z.slots);
  TABLE(slot_at, z.slots);
  TABLE(slot_room, z.slots);
  TABLE(rooms, z.slots);
  TABLE(steps, z.steps);
  TABLE(bufs, z.operands);
  TABLE(scalars, z.scalars);
  TABLE(late_rows, rows);
  TABLE(open_rows, rows);
  TABLE(open_constraints, constraints);
  if (e) TABLE(planned_bound, v->ndims);
#undef TABLE
  return tn_rt_device_tables(m, &z, f, a) && !a->failed;
}

void tn_rt_frame_fini(tn_session *s, tn_frame *f) {
  for (tn_rt_host *h = f->hosts, *next; h; h = next) {
    next = h->next;
    tn_rt_host_free(s, h);
  }
  for (uint32_t i = 0; f->kept && i < f->nkept; i++) tn_rt_memory_free(&f->kept[i]);
  tn_rt_device_frame_fini(s, f);
  tn_rt_memory_free(&f->slots);
}

/* ---- the plan ------------------------------------------------------------------------------------------ */

static tn_status size_of(tn_session *s, const tn_frame *f, uint32_t expr, const char *what, uint32_t row,
                         uint64_t *out) {
  const tn_rt_number *n = &f->exprs[expr];
  if (n->state || n->value < 0)
    return tn_rt_fail(s, TN_INVALID, "%s %u: its size %s", what, row, tn_rt_number_why(n->state));
  *out = (uint64_t)n->value;
  return TN_OK;
}

static const tn_prog_variant *choose_variant(const tn_session *s, const tn_frame *f, const tn_prog_entry *e) {
  const tn_prog_variant *var = &s->model->view.variants[e->first_variant];
  while (var->dim != TN_PROG_NONE && !(f->bound[var->dim] && f->dims[var->dim] == var->equals)) var++;
  return var;
}

/* Rows of the slots that `h` makes known, or NULL: of those known from the start. */
static bool next_slot(const tn_session *s, const tn_frame *f, const tn_rt_host *h, uint32_t *k, uint32_t *i) {
  const tn_prog_slot *rows = s->model->view.slots + f->variant->first_slot;
  for (uint32_t n = h ? h->nslots : f->variant->nslots; *k < n;) {
    *i = h ? h->slots[*k] : *k;
    ++*k;
    if (h || !rows[*i].after) return true;
  }
  return false;
}

static tn_status size_slots(tn_session *s, tn_frame *f, const tn_rt_host *h, bool *same) {
  const tn_prog_slot *rows = s->model->view.slots + f->variant->first_slot;
  *same = !h && f->packed == f->variant;
  for (uint32_t k = 0, i; next_slot(s, f, h, &k, &i);) {
    uint64_t bytes = 0;
    TN_TRY(size_of(s, f, rows[i].bytes, "slot", i, &bytes));
    if (bytes > INT64_MAX / 2)
      return tn_rt_fail(s, TN_INVALID, "the call needs more memory than there are addresses");
    *same &= bytes <= f->slot_room[i];
    f->slot_bytes[i] = bytes;
  }
  return TN_OK;
}

/* slack: sizes that creep up with the position get some room, so that not every call has to pack. */
static tn_status pack_slots(tn_session *s, tn_frame *f, const tn_rt_host *h, bool slack, uint64_t *total) {
  const tn_prog_slot *rows = s->model->view.slots + f->variant->first_slot;
  uint64_t least;
  uint32_t n = 0;
  for (uint32_t k = 0, i; next_slot(s, f, h, &k, &i);) {
    uint64_t bytes = f->slot_bytes[i], more = slack && bytes > f->slot_room[i] ? bytes / 16 : 0;
    f->slot_room[i] = tn_align_up(bytes + more, TN_RT_SLOT_ALIGN);
    f->rooms[n++] =
        (tn_rt_room){.bytes = f->slot_room[i], .slot = i, .from = rows[i].from, .until = rows[i].until};
  }
  if (!tn_rt_pack(f->rooms, n, total, &least))
    return tn_rt_fail(s, TN_INVALID, "the call needs more memory than there are addresses");
  for (uint32_t i = 0; i < n; i++) f->slot_at[f->rooms[i].slot] = f->rooms[i].at;
  return TN_OK;
}

/* Half as much again, so that sizes that creep up with the position do not cost an allocation each. */
static tn_status grow_slots(tn_session *s, tn_rt_memory *m, uint64_t total) {
  if (total <= m->bytes) return TN_OK;
  uint64_t room = m->bytes ? total + total / 2 : total;
  if (tn_rt_memory_grow(m, room) || tn_rt_memory_grow(m, total)) return TN_OK;
  return tn_rt_fail(s, TN_OOM, "no memory for %llu bytes of intermediate values", (unsigned long long)total);
}

static tn_status place_slots(tn_session *s, tn_frame *f, const tn_rt_host *h, tn_rt_memory *m,
                             uint64_t *total) {
  bool same;
  bool slack = !h && f->packed == f->variant;
  TN_TRY(size_slots(s, f, h, &same));
  if (!h) f->packed = NULL;
  if (!same) TN_TRY(pack_slots(s, f, h, slack, total));
  TN_TRY(grow_slots(s, m, *total ? *total : TN_RT_SLOT_ALIGN)); /* a slot of 0 bytes has an address, too */
  for (uint32_t k = 0, i; next_slot(s, f, h, &k, &i);) f->slot[i] = (char *)m->base + f->slot_at[i];
  if (!h) f->packed = f->variant;
  return TN_OK;
}

/* A step that one thread does sooner than several can agree to do it. */
static bool small(const tn_frame *f, const tn_prog_step *step) {
  if (step->flags & TN_KERNEL_SINGLE) return true;
  const tn_rt_number *work = step->work ? &f->exprs[step->work - 1] : NULL;
  return work && !work->state && work->value < SHARED_WORK;
}

static tn_status grow_scratch(tn_session *s, uint64_t bytes) {
  uint64_t stride = bytes > INT64_MAX / 2 ? UINT64_MAX : tn_align_up(bytes, TN_RT_SLOT_ALIGN), total;
  if (stride <= s->scratch_stride) return TN_OK;
  if (!tn_mul_u64(stride, s->nthreads, &total) || !tn_rt_memory_grow(&s->scratch, total))
    return tn_rt_fail(s, TN_OOM, "no memory for %llu bytes of scratch on each of %u threads",
                      (unsigned long long)bytes, s->nthreads);
  s->scratch_stride = stride;
  return TN_OK;
}

static tn_status grow_tickets(tn_session *s, uint32_t nsteps) {
  if (s->nthreads == 1 || nsteps <= s->ntickets) return TN_OK;
  uint64_t bytes = (uint64_t)nsteps * s->nthreads * TN_RT_TICKET;
  if (!tn_rt_memory_grow(&s->tickets, bytes))
    return tn_rt_fail(s, TN_OOM, "no memory for the tickets of %u steps", nsteps);
  s->ntickets = nsteps;
  return TN_OK;
}

/* What each step has to wait for, in a walk that begins at step `from`. A wait that an earlier one of the
 * same threads implies is left out. */
static void order_steps(const tn_view *v, tn_frame *f, uint32_t from, uint32_t to) {
  uint32_t first = 0, others = 0, alone = 0; /* what is awaited already; alone: by thread 0 */
  f->nsingle = f->nwaits = 0;
  for (uint32_t i = from; i < to; i++) {
    tn_rt_step *step = &f->steps[i];
    uint32_t ahead = v->steps[step->row].ahead, done = i - from > ahead ? i - from - ahead : 0;
    step->shared = !step->single ? i - from + 1 : i > from ? f->steps[i - 1].shared : 0;
    step->first = done > first ? done : 0;
    step->others = done ? f->steps[from + done - 1].shared : 0;
    if (step->others <= (step->single ? alone : others)) step->others = 0;
    f->nwaits += step->others > alone || (!step->single && step->first);
    f->nsingle += step->single;
    if (step->others > alone) alone = step->others;
    if (step->single) continue;
    if (done > first) first = done;
    if (step->others) others = step->others;
  }
}

/* Numbers of the kernels from .. to under the dims of now; *scratch: the most bytes that one needs. */
static tn_status count_numbers(tn_session *s, tn_frame *f, uint32_t from, uint32_t to, uint64_t *scratch) {
  const tn_view *v = &s->model->view;
  const tn_prog_step *step = v->steps + f->variant->first_step + from;
  int64_t *scalars = from < to ? (int64_t *)(uintptr_t)f->steps[from].dims : NULL;
  bool shared = false;
  for (uint32_t i = from; i < to; i++, scalars += step->nscalars, step++) {
    uint64_t bytes = 0;
    if (step->scratch != TN_PROG_NONE) TN_TRY(size_of(s, f, step->scratch, "scratch of step", i, &bytes));
    if (bytes > *scratch) *scratch = bytes;
    shared |= !(f->steps[i].single = small(f, step));
    const uint32_t *rows = v->scalars + step->first_scalar;
    for (uint32_t k = 0; k < step->nscalars; k++) {
      const tn_rt_number *n = &f->exprs[rows[k]];
      if (n->state)
        return tn_rt_fail(s, TN_INVALID, "step %u: number %u %s", i, k, tn_rt_number_why(n->state));
      scalars[k] = n->value;
    }
  }
  f->shared = shared;
  return TN_OK;
}

/* The same for kernels of this side, and their order. */
static tn_status count_steps(tn_session *s, tn_frame *f, uint32_t from, uint32_t to) {
  uint64_t scratch = TN_RT_SLOT_ALIGN;
  TN_TRY(count_numbers(s, f, from, to, &scratch));
  order_steps(&s->model->view, f, from, to);
  TN_TRY(grow_tickets(s, to - from));
  return grow_scratch(s, scratch);
}

/* Where each step finds its numbers and places: the same for all dims. */
static tn_status lay_out_steps(tn_session *s, tn_frame *f) {
  const tn_view *v = &s->model->view;
  if (f->laid_out == f->variant) return TN_OK;
  f->laid_out = NULL;
  int64_t *scalars = f->scalars;
  void **bufs = f->bufs;
  for (uint32_t i = 0; i < f->variant->nsteps; i++) {
    uint32_t row = f->variant->first_step + i;
    const tn_prog_step *step = &v->steps[row];
    bool kernel = step->kind == TN_PROG_KERNEL;
    f->steps[i] = (tn_rt_step){.bufs = bufs, .dims = scalars, .row = row};
    f->steps[i].side = kernel && s->model->far[step->kernel] ? TN_RT_FAR
                       : kernel                              ? TN_RT_NEAR
                       : step->kind == TN_PROG_COPY          ? TN_RT_COPY
                                                             : TN_RT_HOST;
    if (f->steps[i].side == TN_RT_NEAR)
      f->steps[i].kernel = s->model->kernels[step->kernel];
    else if (f->steps[i].side == TN_RT_HOST && !(f->steps[i].kernel.ctx = tn_rt_host_of(s, f, i)))
      return tn_rt_fail(s, TN_OOM, "no memory for a call");
    scalars += step->nscalars;
    bufs += step->noperands;
  }
  f->nsteps = f->variant->nsteps;
  f->laid_out = f->variant;
  return TN_OK;
}

tn_status tn_rt_plan(tn_session *s, tn_frame *f, const tn_prog_entry *e) {
  size_t n = s->model->view.ndims;
  bool same = f->entry == e && !memcmp(f->planned, f->dims, n * sizeof *f->dims);
  if (same && (!f->planned_bound || !memcmp(f->planned_bound, f->bound, n * sizeof *f->bound))) return TN_OK;
  f->entry = NULL;
  f->variant = choose_variant(s, f, e);
  TN_TRY(place_slots(s, f, NULL, &f->slots, &f->slots_bytes));
  TN_TRY(lay_out_steps(s, f));
  if (!s->model->staged[e - s->model->view.entries]) TN_TRY(count_steps(s, f, 0, f->nsteps));
  memcpy(f->planned, f->dims, n * sizeof *f->dims);
  if (f->planned_bound) memcpy(f->planned_bound, f->bound, n * sizeof *f->bound);
  f->entry = e;
  return TN_OK;
}

/* ---- places -------------------------------------------------------------------------------------------- */

static inline const void *place(const tn_session *s, const tn_frame *f, const tn_prog_operand *o) {
  if (o->kind == TN_PROG_SLOT) return f->slot[o->index];
  if (o->kind == TN_PROG_INPUT) return f->inputs[o->index];
  if (o->kind == TN_PROG_OUTPUT) return f->outputs[o->index];
  if (o->kind == TN_PROG_WEIGHT) return s->model->weights[o->index];
  return o->kind == TN_PROG_STATE ? s->states[o->index].base : NULL;
}

const void *tn_rt_place(const tn_session *s, const tn_frame *f, const tn_prog_operand *o) {
  return place(s, f, o);
}

uint64_t tn_rt_operand_bytes(const tn_session *s, const tn_frame *f, const tn_prog_operand *o) {
  const tn_view *v = &s->model->view;
  uint64_t bytes = 0;
  switch (o->kind) {
  case TN_PROG_SLOT: return f->slot_bytes[o->index];
  case TN_PROG_INPUT: tn_rt_arg_bytes(f->exprs, v, &v->args[f->entry->first_input + o->index], &bytes); break;
  case TN_PROG_OUTPUT:
    tn_rt_arg_bytes(f->exprs, v, &v->args[f->entry->first_output + o->index], &bytes);
    break;
  case TN_PROG_WEIGHT: return v->weights[o->index].bytes;
  case TN_PROG_STATE: return s->state_bytes[o->index];
  default: break;
  }
  return bytes;
}

void tn_rt_point(tn_session *s, tn_frame *f, uint32_t from, uint32_t to) {
  const tn_view *v = &s->model->view;
  const tn_prog_step *step = v->steps + f->variant->first_step + from;
  void **bufs = from < to ? (void **)(uintptr_t)f->steps[from].bufs : NULL;
  for (const tn_prog_step *end = step + (to - from); step < end; step++) {
    const tn_prog_operand *o = v->operands + step->first_operand;
    for (uint32_t k = 0; k < step->noperands; k++) *bufs++ = (void *)(uintptr_t)place(s, f, &o[k]);
  }
}

/* ---- outputs ------------------------------------------------------------------------------------------- */

tn_status tn_rt_output_shape(tn_session *s, tn_frame *f, const tn_prog_arg *a, tn_tensor *out) {
  const tn_view *v = &s->model->view;
  uint64_t bytes;
  bool open = false;
  out->dtype = a->dtype;
  out->rank = a->rank;
  for (uint32_t k = 0; k < a->rank; k++) {
    const tn_rt_number *n = &f->exprs[v->scalars[a->shape + k]];
    open |= n->state == TN_NUMBER_UNBOUND;
    out->shape[k] = n->state ? -1 : n->value;
  }
  if (open && f->nlate) return TN_OK;
  if (tn_rt_arg_bytes(f->exprs, v, a, &bytes)) return TN_OK;
  return tn_rt_fail(s, TN_INVALID, "output '%s': its shape %s cannot be worked out from the inputs",
                    tn_view_str(v, a->name), s->model->shapes[a - v->args]);
}

static bool is_known(const tn_tensor *t) {
  for (uint32_t k = 0; k < t->rank; k++)
    if (t->shape[k] < 0) return false;
  return true;
}

/* Half as much again when it has to grow: values that loops make longer grow often. */
static bool keep(tn_rt_memory *m, uint64_t bytes) {
  if (!bytes) bytes = TN_RT_SLOT_ALIGN;
  uint64_t room = m->bytes && bytes > m->bytes ? bytes + bytes / 2 : bytes;
  return tn_rt_memory_grow(m, room) || tn_rt_memory_grow(m, bytes);
}

tn_status tn_rt_frame_outputs(tn_session *s, tn_frame *f) {
  const tn_view *v = &s->model->view;
  for (uint32_t i = 0; i < f->entry->noutputs; i++) {
    const tn_prog_arg *a = &v->args[f->entry->first_output + i];
    uint64_t bytes;
    if (f->outputs[i]) continue;
    TN_TRY(tn_rt_output_shape(s, f, a, &f->results[i]));
    if (!is_known(&f->results[i])) continue;
    if (!tn_rt_arg_bytes(f->exprs, v, a, &bytes) || !keep(&f->kept[i], bytes))
      return tn_rt_fail(s, TN_OOM, "no memory for output '%s'", tn_view_str(v, a->name));
    f->outputs[i] = f->results[i].data = f->kept[i].base;
  }
  return TN_OK;
}

/* ---- running ------------------------------------------------------------------------------------------- */

tn_status tn_rt_frame_learn(tn_session *s, tn_frame *f, uint32_t step) {
  TN_TRY(tn_rt_rebind(s, f));
  tn_rt_host *h = tn_rt_kept_by(&f->steps[step]);
  if (h->nslots) TN_TRY(place_slots(s, f, h, &h->late, &h->late_bytes));
  return tn_rt_frame_outputs(s, f);
}

/* Every kernel finds all its memory. */
static tn_status check_places(tn_session *s, const tn_frame *f, uint32_t from, uint32_t to) {
  const tn_view *v = &s->model->view;
  for (uint32_t i = from; i < to; i++) {
    const tn_prog_step *step = &v->steps[f->steps[i].row];
    for (uint32_t k = 0; k < step->noperands; k++) {
      uint32_t kind = v->operands[step->first_operand + k].kind;
      if (!f->steps[i].bufs[k] && (kind == TN_PROG_SLOT || kind == TN_PROG_OUTPUT))
        return tn_rt_fail(s, TN_INVALID, "step %u: the size of operand %u is not known yet", i, k);
    }
  }
  return TN_OK;
}

static tn_status run_far(tn_session *s, tn_frame *f, uint32_t from, uint32_t to) {
  uint64_t scratch = 0;
  TN_TRY(count_numbers(s, f, from, to, &scratch));
  return tn_rt_device_run(s, f, from, to, scratch);
}

static tn_status run_kernels(tn_session *s, tn_frame *f, uint32_t from, uint32_t to) {
  TN_TRY(count_steps(s, f, from, to));
  tn_rt_point(s, f, from, to);
  TN_TRY(check_places(s, f, from, to));
  tn_rt_walk(s, f, from, to);
  return TN_OK;
}

/* Runs step `from` and all behind it that go with it: kernels of one side run together. */
static tn_status run_stage(tn_session *s, tn_frame *f, uint32_t from, uint32_t *next) {
  uint32_t side = f->steps[from].side, to = from + 1;
  while ((side == TN_RT_NEAR || side == TN_RT_FAR) && to < f->nsteps && f->steps[to].side == side) to++;
  *next = to;
  if (side == TN_RT_NEAR) return run_kernels(s, f, from, to);
  if (side == TN_RT_FAR) return run_far(s, f, from, to);
  if (side == TN_RT_COPY) return tn_rt_device_copy(s, f, from);
  tn_rt_point(s, f, from, to);
  return tn_rt_host_step(s, f, from);
}

tn_status tn_rt_frame_run(tn_session *s, tn_frame *f) {
  const tn_prog_slot *rows = s->model->view.slots + f->variant->first_slot;
  for (uint32_t i = 0; i < f->variant->nslots; i++)
    if (rows[i].after) f->slot[i] = NULL;
  for (uint32_t i = 0; i < f->nsteps;) TN_TRY(run_stage(s, f, i, &i));
  for (uint32_t i = 0; i < f->entry->noutputs; i++)
    if (!f->outputs[i])
      return tn_rt_fail(s, TN_INVALID, "output '%s': its shape %s is not known at the end",
                        tn_view_str(&s->model->view, s->model->view.args[f->entry->first_output + i].name),
                        s->model->shapes[f->entry->first_output + i]);
  return TN_OK;
}

static tn_frame *frame_new(const tn_model *m, const tn_prog_entry *e) {
  tn_arena a;
  tn_arena_init(&a);
  tn_frame *f = tn_arena_alloc(&a, sizeof *f);
  if (!f || !tn_rt_frame_tables(m, e, f, &a)) return tn_arena_fini(&a), NULL;
  f->arena = a;
  return f;
}

tn_status tn_rt_frame_call(tn_session *s, const tn_frame *from, tn_frame **frame, const tn_prog_entry *e,
                           const tn_tensor *in) {
  if (!*frame && !(*frame = frame_new(s->model, e)))
    return tn_rt_fail(s, TN_OOM, "no memory for a call of '%s'", tn_view_str(&s->model->view, e->name));
  tn_frame *f = *frame;
  TN_TRY(tn_rt_bind_call(s, from, f, e, in));
  for (uint32_t i = 0; i < e->ninputs; i++) f->inputs[i] = in[i].data;
  for (uint32_t i = 0; i < e->noutputs; i++) f->outputs[i] = NULL;
  TN_TRY(tn_rt_plan(s, f, e));
  TN_TRY(tn_rt_frame_outputs(s, f));
  return tn_rt_frame_run(s, f);
}
