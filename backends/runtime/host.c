/* host.c - the steps that are no kernels: BIND reads a dim, IF and LOOP run other entries. A callee writes
 * its outputs into memory of its own frame; what the caller gets is a pointer there. The values that a loop
 * carries go the same way: the frame writes one of two memories while it reads the other, nothing is copied.
 */
#include "backends/runtime/rt.h"

static void find_slots(const tn_view *v, const tn_prog_variant *var, uint32_t step, tn_rt_host *h) {
  const tn_prog_slot *rows = v->slots + var->first_slot;
  for (uint32_t i = 0; i < var->nslots; i++)
    h->nslots += rows[i].after == step + 1 && rows[i].bytes != TN_PROG_NONE;
  h->slots = tn_arena_alloc(&h->arena, h->nslots * sizeof *h->slots);
  for (uint32_t i = 0, n = 0; h->slots && i < var->nslots; i++)
    if (rows[i].after == step + 1 && rows[i].bytes != TN_PROG_NONE) h->slots[n++] = i;
}

tn_rt_host *tn_rt_host_of(tn_session *s, tn_frame *f, uint32_t at) {
  uint32_t row = f->variant->first_step + at;
  for (tn_rt_host *h = f->hosts; h; h = h->next)
    if (h->row == row) return h;
  const tn_view *v = &s->model->view;
  const tn_prog_step *step = &v->steps[row];
  tn_rt_host *h = tn_mem_alloc(sizeof *h);
  if (!h) return NULL;
  tn_arena_init(&h->arena);
  h->row = row;
  find_slots(v, f->variant, at, h);
  if (step->kind != TN_PROG_BIND) {
    const tn_prog_call *call = &v->calls[step->kernel];
    h->args = tn_arena_alloc(&h->arena, (call->nargs + 1) * sizeof *h->args);
    h->results = tn_arena_alloc(&h->arena, call->nresults * sizeof *h->results);
    h->spare = tn_arena_alloc(&h->arena, call->carried * sizeof *h->spare);
    h->stacks = tn_arena_alloc(&h->arena, call->nresults * sizeof *h->stacks);
  }
  if (h->arena.failed) {
    tn_arena_fini(&h->arena);
    tn_mem_free(h);
    return NULL;
  }
  h->next = f->hosts;
  return f->hosts = h;
}

void tn_rt_host_free(tn_session *s, tn_rt_host *h) {
  const tn_prog_step *step = &s->model->view.steps[h->row];
  const tn_prog_call *call = step->kind == TN_PROG_BIND ? NULL : &s->model->view.calls[step->kernel];
  for (uint32_t i = 0; i < TN_COUNT(h->frames); i++) {
    if (!h->frames[i]) continue;
    tn_arena a = h->frames[i]->arena; /* the frame lies in it */
    tn_rt_frame_fini(s, h->frames[i]);
    tn_arena_fini(&a);
  }
  for (uint32_t i = 0; call && i < call->carried; i++) tn_rt_memory_free(&h->spare[i]);
  for (uint32_t i = 0; call && i < call->nresults; i++) tn_rt_memory_free(&h->stacks[i]);
  tn_rt_memory_free(&h->late);
  if (s->device) tn_rt_far_free(s, &h->far_late);
  tn_arena_fini(&h->arena);
  tn_mem_free(h);
}

static const tn_prog_step *step_of(const tn_session *s, const tn_frame *f, uint32_t step) {
  return &s->model->view.steps[f->steps[step].row];
}

/* Operand k of a step, which has memory of at least `bytes`; NULL: it is absent, or too small. */
static const void *operand(const tn_session *s, const tn_frame *f, uint32_t at, uint32_t k, uint64_t bytes) {
  const tn_prog_operand *o = &s->model->view.operands[step_of(s, f, at)->first_operand + k];
  return tn_rt_operand_bytes(s, f, o) >= bytes ? f->steps[at].bufs[k] : NULL;
}

static tn_status unknown_operand(tn_session *s, uint32_t at, uint32_t k) {
  return tn_rt_fail(s, TN_INVALID, "step %u: operand %u is not there yet, or too small", at, k);
}

static uint64_t width_of(uint32_t dtype) {
  uint64_t bytes = 1;
  tn_view_bytes(dtype, 1, &bytes);
  return bytes;
}

/* ---- BIND ---------------------------------------------------------------------------------------------- */

/* False: an unsigned value that no i64 holds. */
static bool read_integer(const void *p, uint32_t dtype, int64_t *out) {
  union {
    int64_t i64;
    int32_t i32;
    int16_t i16;
    int8_t i8;
    uint64_t u64;
    uint32_t u32;
    uint16_t u16;
    uint8_t u8;
  } x = {0};
  uint64_t bytes = width_of(dtype);
  memcpy(&x, p, bytes < sizeof x ? bytes : sizeof x);
  switch (dtype) {
  case TN_DT_i64: *out = x.i64; break;
  case TN_DT_i32: *out = x.i32; break;
  case TN_DT_i16: *out = x.i16; break;
  case TN_DT_i8: *out = x.i8; break;
  case TN_DT_u64: *out = x.u64 > INT64_MAX ? INT64_MAX : (int64_t)x.u64; return x.u64 <= INT64_MAX;
  case TN_DT_u32: *out = x.u32; break;
  case TN_DT_u16: *out = x.u16; break;
  default: *out = x.u8; break;
  }
  return true;
}

/* "size N", and where in the model. */
static tn_status bind_failed(tn_session *s, const tn_prog_step *step, const char *dim, int64_t value,
                             const char *what, int64_t limit) {
  const tn_view *v = &s->model->view;
  const char *loc = step->loc == TN_PROG_NONE ? "" : tn_view_str(v, step->loc);
  return tn_rt_fail(s, TN_INVALID, "%s = %lld, which the model works out%s%s, %s %lld", dim, (long long)value,
                    *loc ? " at " : "", loc, what, (long long)limit);
}

static tn_status bind(tn_session *s, tn_frame *f, uint32_t at) {
  const tn_view *v = &s->model->view;
  const tn_prog_step *step = step_of(s, f, at);
  const tn_prog_bind *b = &v->binds[step->kernel];
  const char *name = tn_view_str(v, v->dims[b->dim].name);
  int64_t value, max = s->model->limits[b->dim];
  const void *from = operand(s, f, at, 0, width_of(b->dtype));
  if (!from) return unknown_operand(s, at, 0);
  if (!read_integer(from, b->dtype, &value))
    return tn_rt_fail(s, TN_INVALID, "%s is more than 64 bits with a sign hold", name);
  if (b->max != TN_PROG_NONE) {
    const tn_rt_number *n = &f->exprs[b->max];
    if (n->state) return tn_rt_fail(s, TN_INVALID, "the limit of %s %s", name, tn_rt_number_why(n->state));
    if (n->value < max) max = n->value;
  }
  if (value < 0) return bind_failed(s, step, name, value, "the least is", 0);
  if (value > max) return bind_failed(s, step, name, value, "the limit is", max);
  f->dims[b->dim] = value;
  f->bound[b->dim] = true;
  return tn_rt_frame_learn(s, f, at);
}

/* ---- what calls share ---------------------------------------------------------------------------------- */

/* Operands first.. as tensors of the shapes that rows of args say. */
static tn_status take_args(tn_session *s, tn_frame *f, uint32_t at, const tn_prog_call *call, uint32_t first,
                           tn_tensor *out) {
  const tn_view *v = &s->model->view;
  for (uint32_t i = 0; i < call->nargs; i++) {
    const tn_prog_arg *a = &v->args[call->first_arg + i];
    uint64_t bytes;
    out[i] = (tn_tensor){NULL, a->dtype, a->rank, {0}};
    if (!tn_rt_arg_bytes(f->exprs, v, a, &bytes))
      return tn_rt_fail(s, TN_INVALID, "step %u: the size of operand %u, %s, is not known yet", at, first + i,
                        s->model->shapes[call->first_arg + i]);
    tn_rt_shape(f->exprs, v->scalars + a->shape, a->rank, out[i].shape);
    out[i].data = (void *)(uintptr_t)operand(s, f, at, first + i, bytes);
    if (!out[i].data) return unknown_operand(s, at, first + i);
  }
  return TN_OK;
}

/* Makes h->results the step's results: dims that have no value get theirs, others are compared. */
static tn_status give_results(tn_session *s, tn_frame *f, uint32_t at, const tn_prog_call *call) {
  const tn_view *v = &s->model->view;
  const tn_prog_step *step = step_of(s, f, at);
  const tn_prog_arg *rows = v->args + call->first_result;
  const tn_tensor *results = tn_rt_kept_by(&f->steps[at])->results;
  uint32_t first = step->first_operand + step->noperands - call->nresults;
  for (uint32_t i = 0; i < call->nresults; i++) {
    for (uint32_t k = 0; k < rows[i].rank; k++) {
      const tn_prog_expr *e = &v->exprs[v->scalars[rows[i].shape + k]];
      if (e->kind == TN_DIM_SYM && !f->bound[e->a])
        TN_TRY(tn_rt_bind_dim(s, f, "result", tn_view_str(v, rows[i].name), e->a, results[i].shape[k], 0));
    }
    f->slot[v->operands[first + i].index] = results[i].data;
    uint64_t n = 1;
    for (uint32_t k = 0; k < rows[i].rank; k++) n *= (uint64_t)results[i].shape[k]; /* it is in memory */
    tn_view_bytes(rows[i].dtype, n, &f->slot_bytes[v->operands[first + i].index]);
  }
  TN_TRY(tn_rt_frame_learn(s, f, at));
  for (uint32_t i = 0; i < call->nresults; i++)
    TN_TRY(tn_rt_check_shape(s, f, "result", &rows[i], &results[i]));
  return TN_OK;
}

static tn_status run_if(tn_session *s, tn_frame *f, uint32_t at) {
  const tn_view *v = &s->model->view;
  tn_rt_host *h = tn_rt_kept_by(&f->steps[at]);
  const tn_prog_call *call = &v->calls[step_of(s, f, at)->kernel];
  const uint8_t *cond = operand(s, f, at, 0, 1);
  if (!cond) return unknown_operand(s, at, 0);
  uint32_t side = !*cond;
  TN_TRY(take_args(s, f, at, call, 1, h->args));
  const tn_prog_entry *e = &v->entries[side ? call->otherwise : call->entry];
  TN_TRY(tn_rt_frame_call(s, f, &h->frames[side], e, h->args));
  for (uint32_t i = 0; i < call->nresults; i++) h->results[i] = h->frames[side]->results[i];
  return give_results(s, f, at, call);
}

/* ---- LOOP ---------------------------------------------------------------------------------------------- */

typedef struct tn_looping {
  tn_session *s;
  tn_frame *f;
  tn_rt_host *h;
  const tn_prog_call *call;
  uint32_t at;
  int64_t done, trip;
} tn_looping;

/* What the frame wrote becomes what it reads; next time it writes over what it has just read. */
static void carry(tn_looping *x) {
  tn_frame *g = x->h->frames[0];
  for (uint32_t i = 0; i < x->call->carried; i++) {
    tn_rt_memory written = g->kept[i + 1];
    g->kept[i + 1] = x->h->spare[i];
    x->h->spare[i] = written;
    x->h->args[i + 1] = g->results[i + 1];
  }
}

static bool same_shape(const tn_tensor *slice, const tn_tensor *stack) {
  return !memcmp(slice->shape, stack->shape + 1, slice->rank * sizeof *slice->shape);
}

/* Appends this iteration's slices to their stacks, which double when they are full. */
static tn_status stack_slices(tn_looping *x) {
  const tn_view *v = &x->s->model->view;
  for (uint32_t i = x->call->carried; i < x->call->nresults; i++) {
    const tn_tensor *slice = &x->h->frames[0]->results[i + 1];
    tn_tensor *stack = &x->h->results[i];
    const char *name = tn_view_str(v, v->args[x->call->first_result + i].name);
    if (!x->done)
      memcpy(stack->shape + 1, slice->shape, slice->rank * sizeof *slice->shape);
    else if (!same_shape(slice, stack))
      return tn_rt_fail(x->s, TN_INVALID, "result '%s': slice %lld has another shape than those before it",
                        name, (long long)x->done);
    uint64_t n = 1, bytes = 0, end = 0;
    for (uint32_t k = 0; k < slice->rank; k++) n *= (uint64_t)slice->shape[k]; /* it is in memory */
    tn_rt_memory *m = &x->h->stacks[i];
    bool fits = tn_view_bytes(slice->dtype, n, &bytes) && tn_mul_u64(bytes, (uint64_t)x->done + 1, &end);
    uint64_t room = end > m->bytes && m->bytes ? m->bytes * 2 : end;
    if (!fits || !tn_rt_memory_extend(m, room < end ? end : room ? room : 1))
      return tn_rt_fail(x->s, TN_OOM, "no memory for %lld slices of result '%s'", (long long)x->done + 1,
                        name);
    if (bytes) memcpy((char *)m->base + (end - bytes), slice->data, bytes);
  }
  return TN_OK;
}

static tn_status iterate(tn_looping *x) {
  const tn_view *v = &x->s->model->view;
  const tn_prog_entry *e = &v->entries[x->call->entry];
  const uint8_t *cond = x->f->steps[x->at].bufs[1];
  bool again = !cond || *cond;
  for (; again && x->done < x->trip; x->done++) {
    x->h->args[0] = (tn_tensor){&x->done, TN_DT_i64, 0, {0}};
    TN_TRY(tn_rt_frame_call(x->s, x->f, &x->h->frames[0], e, x->h->args));
    again = *(const uint8_t *)x->h->frames[0]->results[0].data;
    TN_TRY(stack_slices(x));
    carry(x);
  }
  return TN_OK;
}

/* A loop that did nothing gives its first values, in memory of its own like all results. */
static tn_status copy_carried(tn_looping *x) {
  const tn_view *v = &x->s->model->view;
  for (uint32_t i = 0; i < x->call->carried; i++) {
    const tn_tensor *t = &x->h->args[i + 1];
    uint64_t bytes = 0;
    if (!tn_rt_arg_bytes(x->f->exprs, v, &v->args[x->call->first_arg + i], &bytes) ||
        !tn_rt_memory_grow(&x->h->spare[i], bytes ? bytes : 1))
      return tn_rt_fail(x->s, TN_OOM, "no memory for a loop's result %u", i);
    memcpy(x->h->spare[i].base, t->data, bytes);
    x->h->args[i + 1].data = x->h->spare[i].base;
  }
  return TN_OK;
}

/* A size that the body would have had: a number, or a symbol of its arguments; else 0. */
static int64_t size_in_body(const tn_looping *x, const tn_prog_expr *e) {
  const tn_view *v = &x->s->model->view;
  const tn_prog_entry *body = &v->entries[x->call->entry];
  if (e->kind != TN_DIM_SYM) return e->kind == TN_DIM_CONST ? e->value : 0;
  for (uint32_t i = 1; i < body->ninputs; i++) {
    const tn_prog_arg *a = &v->args[body->first_input + i];
    for (uint32_t k = 0; k < a->rank; k++) {
      const tn_prog_expr *size = &v->exprs[v->scalars[a->shape + k]];
      if (size->kind == TN_DIM_SYM && size->a == e->a) return x->h->args[i].shape[k];
    }
  }
  return 0;
}

/* The shape of slices that there are none of: what the caller or the body says, else 0. */
static void shape_empty(tn_looping *x, uint32_t i, tn_tensor *stack) {
  const tn_view *v = &x->s->model->view;
  const tn_prog_arg *ours = &v->args[x->call->first_result + i];
  const tn_prog_arg *theirs = &v->args[v->entries[x->call->entry].first_output + i + 1];
  for (uint32_t k = 1; k < stack->rank; k++) {
    const tn_rt_number *n = &x->f->exprs[v->scalars[ours->shape + k]];
    const tn_prog_expr *e = &v->exprs[v->scalars[theirs->shape + k - 1]];
    stack->shape[k] = !n->state && n->value > 0 ? n->value : size_in_body(x, e);
  }
}

static tn_status finish(tn_looping *x) {
  const tn_view *v = &x->s->model->view;
  if (!x->done) TN_TRY(copy_carried(x));
  for (uint32_t i = 0; i < x->call->carried; i++) x->h->results[i] = x->h->args[i + 1];
  for (uint32_t i = x->call->carried; i < x->call->nresults; i++) {
    const tn_prog_arg *a = &v->args[x->call->first_result + i];
    tn_tensor *stack = &x->h->results[i];
    stack->dtype = a->dtype;
    stack->rank = a->rank;
    stack->shape[0] = x->done;
    if (!x->done) shape_empty(x, i, stack);
    if (!tn_rt_memory_extend(&x->h->stacks[i], 1)) return tn_rt_fail(x->s, TN_OOM, "no memory for a loop");
    stack->data = x->h->stacks[i].base;
  }
  return give_results(x->s, x->f, x->at, x->call);
}

static tn_status run_loop(tn_session *s, tn_frame *f, uint32_t at) {
  const tn_view *v = &s->model->view;
  tn_looping x = {.s = s, .f = f, .h = tn_rt_kept_by(&f->steps[at]), .at = at, .trip = INT64_MAX};
  x.call = &v->calls[step_of(s, f, at)->kernel];
  const tn_prog_operand *o = v->operands + step_of(s, f, at)->first_operand;
  for (uint32_t i = 0; i < 2; i++)
    if (o[i].kind != TN_PROG_ABSENT && !operand(s, f, at, i, i ? 1 : width_of(x.call->trip)))
      return unknown_operand(s, at, i);
  if (o[0].kind != TN_PROG_ABSENT) read_integer(f->steps[at].bufs[0], x.call->trip, &x.trip);
  TN_TRY(take_args(s, f, at, x.call, 2, x.h->args + 1));
  TN_TRY(iterate(&x));
  return finish(&x);
}

tn_status tn_rt_host_step(tn_session *s, tn_frame *f, uint32_t at) {
  switch (step_of(s, f, at)->kind) {
  case TN_PROG_BIND: return bind(s, f, at);
  case TN_PROG_IF: return run_if(s, f, at);
  default: return run_loop(s, f, at);
  }
}
