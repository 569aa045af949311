/* session.c - what one caller owns of a model: threads, states and the tables that a call fills in.
 * Everything of fixed size is allocated here, so that a call allocates only when sizes grow. */
#include "backends/runtime/rt.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { DEFAULT_CAPACITY = 4096 };

tn_status tn_rt_fail(tn_session *s, tn_status status, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(s->error, sizeof s->error, fmt, ap);
  va_end(ap);
  return status;
}

static bool allocate(tn_session *s) {
  const tn_model *m = s->model;
  const tn_view *v = &m->view;
#define TABLE(field, n) s->field = tn_arena_alloc(&s->arena, (size_t)(n) * sizeof *s->field)
  TABLE(states, v->nstates);
  TABLE(state_bytes, v->nstates);
  TABLE(rewinds, v->nstates);
  TABLE(converted, m->sizes.inputs);
#undef TABLE
  return tn_rt_frame_tables(m, NULL, &s->top, &s->arena);
}

/* The least limit of the dims that are capacities. */
static int64_t capacity_limit(const tn_model *m) {
  int64_t limit = INT64_MAX;
  for (uint32_t i = 0; i < m->view.ndims; i++)
    if (m->view.dims[i].source == TN_PROG_DIM_CAPACITY && m->limits[i] < limit) limit = m->limits[i];
  return limit;
}

static tn_status choose_sizes(tn_session *s, const tn_session_options *o) {
  int64_t limit = capacity_limit(s->model);
  s->batch = o->batch ? o->batch : 1;
  s->capacity = o->capacity ? o->capacity : limit < DEFAULT_CAPACITY ? limit : DEFAULT_CAPACITY;
  if (s->batch < 1) return tn_rt_fail(s, TN_INVALID, "a batch of %lld, the least is 1", (long long)s->batch);
  if (s->capacity < 1)
    return tn_rt_fail(s, TN_INVALID, "a capacity of %lld, the least is 1", (long long)s->capacity);
  if (s->capacity > limit)
    return tn_rt_fail(s, TN_INVALID, "a capacity of %lld, the limit is %lld", (long long)s->capacity,
                      (long long)limit);
  return TN_OK;
}

/* A state whose size depends on the capacity has places per token, and can go back to an earlier one. */
static bool find_rewinds(tn_session *s) {
  const tn_view *v = &s->model->view;
  bool *of_capacity = tn_arena_alloc(&s->arena, v->nexprs + 1);
  if (!of_capacity) return false;
  for (uint32_t i = 0; i < v->nexprs; i++) {
    const tn_prog_expr *e = &v->exprs[i];
    if (e->kind == TN_DIM_SYM)
      of_capacity[i] = v->dims[e->a].source == TN_PROG_DIM_CAPACITY;
    else if (e->kind != TN_DIM_CONST)
      of_capacity[i] = of_capacity[e->a] || of_capacity[e->b];
  }
  for (uint32_t i = 0; i < v->nstates; i++)
    for (uint32_t k = 0; k < v->states[i].arg.rank; k++)
      s->rewinds[i] |= of_capacity[v->scalars[v->states[i].arg.shape + k]];
  return true;
}

/* States depend on the batch and the capacity only; while sizing them, every dim of an input is the batch. */
static tn_status allocate_states(tn_session *s) {
  const tn_view *v = &s->model->view;
  for (uint32_t i = 0; i < v->ndims; i++) {
    s->top.bound[i] = true;
    s->top.dims[i] = v->dims[i].source == TN_PROG_DIM_CAPACITY ? s->capacity
                     : v->dims[i].source == TN_PROG_DIM_INPUT  ? s->batch
                                                               : 0;
  }
  tn_rt_eval(v, s->top.dims, s->top.bound, s->top.exprs);
  for (uint32_t i = 0; i < v->nstates; i++) {
    const char *name = tn_view_str(v, v->states[i].arg.name);
    if (!tn_rt_arg_bytes(s->top.exprs, v, &v->states[i].arg, &s->state_bytes[i]))
      return tn_rt_fail(s, TN_INVALID, "state '%s' is too large for a batch of %lld and a capacity of %lld",
                        name, (long long)s->batch, (long long)s->capacity);
    if (!tn_rt_memory_grow(&s->states[i], s->state_bytes[i]))
      return tn_rt_fail(s, TN_OOM, "no memory for state '%s': %llu bytes", name,
                        (unsigned long long)s->state_bytes[i]);
  }
  return TN_OK;
}

static tn_status start_threads(tn_session *s, const tn_session_options *o) {
  s->nthreads = o->threads ? o->threads : o->ncores ? o->ncores : tn_pool_cores();
  if (!s->model->near) s->nthreads = 1;
  if (s->nthreads > TN_POOL_MAX_THREADS)
    return tn_rt_fail(s, TN_INVALID, "%u threads, the limit is %u", s->nthreads, TN_POOL_MAX_THREADS);
  s->width.threads = s->nthreads;
  tn_status status = tn_pool_new(s->nthreads, o->cores, o->ncores, &s->pool);
  if (status == TN_INVALID) return tn_rt_fail(s, status, "a thread cannot stay on a core that was asked for");
  return status ? tn_rt_fail(s, status, "%u threads could not be started", s->nthreads) : TN_OK;
}

static tn_status session_init(tn_session *s, const tn_session_options *o) {
  if (!allocate(s)) return tn_rt_fail(s, TN_OOM, "no memory for a session");
  TN_TRY(choose_sizes(s, o));
  if (!find_rewinds(s)) return tn_rt_fail(s, TN_OOM, "no memory for a session");
  if (s->model->view.nstates) TN_TRY(allocate_states(s));
  TN_TRY(tn_rt_device_attach(s, o));
  tn_rt_adapters_default(s);
  return start_threads(s, o);
}

tn_status tn_rt_session_new(tn_model *m, const tn_session_options *options, tn_session **out) {
  tn_session_options o = {0};
  if (!m || !out) return TN_INVALID;
  if (options) tn_take(&o, sizeof o, options);
  *out = NULL;
  tn_session *s = tn_mem_alloc(sizeof *s);
  if (!s) return TN_OOM;
  s->model = m;
  tn_arena_init(&s->arena);
  tn_status status = session_init(s, &o);
  if (status)
    tn_view_fail(o.error, o.error_size, status, "%s", s->error), tn_rt_session_free(s);
  else
    *out = s;
  return status;
}

void tn_rt_session_free(tn_session *s) {
  if (!s) return;
  tn_pool_free(s->pool);
  for (uint32_t i = 0; s->states && i < s->model->view.nstates; i++) tn_rt_memory_free(&s->states[i]);
  for (uint32_t i = 0; s->converted && i < s->model->sizes.inputs; i++) tn_rt_memory_free(&s->converted[i]);
  tn_rt_kept_free(s->kept);
  tn_rt_frame_fini(s, &s->top);
  tn_rt_device_detach(s);
  tn_rt_memory_free(&s->scratch);
  tn_rt_memory_free(&s->tickets);
  tn_rt_logs_free(s);
  tn_arena_fini(&s->arena);
  tn_mem_free(s);
}

tn_status tn_rt_session_reset(tn_session *s) {
  for (uint32_t i = 0; i < s->model->view.nstates; i++)
    /* Gives the pages back: the next touch finds zeros. */
    if (s->states[i].bytes && !tn_view_is_setting(&s->model->view, i) &&
        madvise(s->states[i].base, s->states[i].bytes, MADV_DONTNEED))
      memset(s->states[i].base, 0, s->states[i].bytes);
  s->position = 0;
  return s->device ? tn_rt_device_reset(s) : TN_OK;
}

int64_t tn_rt_position(tn_session *s) { return s->position; }

static int64_t meta_number(const tn_session *s, const char *key) {
  const char *text = tn_view_meta(&s->model->view, key);
  return text ? strtoll(text, NULL, 10) : INT64_MAX;
}

/* A ring that went round has lost its oldest tokens: it can go back as far as calls may be long. */
static tn_status rewind_rings(tn_session *s, int64_t position) {
  int64_t rows = meta_number(s, "ring.rows"), slack = meta_number(s, "ring.slack");
  if (!position || s->position <= rows || s->position - position <= slack) return TN_OK;
  return tn_rt_fail(
      s, TN_UNSUPPORTED,
      "cannot rewind from position %lld to %lld: caches of the sliding window reach back %lld tokens; "
      "reset, and give the first %lld again",
      (long long)s->position, (long long)position, (long long)slack, (long long)position);
}

tn_status tn_rt_rewind(tn_session *s, int64_t position) {
  if (position < 0 || position > s->position)
    return tn_rt_fail(s, TN_INVALID, "cannot rewind to position %lld: the states hold %lld tokens",
                      (long long)position, (long long)s->position);
  TN_TRY(rewind_rings(s, position));
  for (uint32_t i = 0; i < s->model->view.nstates && position < s->position; i++) {
    if (s->rewinds[i] || tn_view_is_setting(&s->model->view, i)) continue;
    if (!position) return tn_rt_session_reset(s);
    return tn_rt_fail(s, TN_UNSUPPORTED,
                      "cannot rewind: state '%s' sums up all tokens; reset, and give the first %lld again",
                      tn_view_str(&s->model->view, s->model->view.states[i].arg.name), (long long)position);
  }
  s->position = position;
  return TN_OK;
}

static uint64_t bytes_of(const tn_rt_memory *m, uint32_t n) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; i++) sum += m[i].bytes;
  return sum;
}

void tn_rt_memory_use(const tn_session *s, tn_rt_use *out) {
  const tn_view *v = &s->model->view;
  *out =
      (tn_rt_use){.scratch = s->scratch_stride * s->nthreads + s->tickets.bytes, .arena = s->top.slots_bytes};
  for (uint32_t i = 0; i < v->nweights; i++) out->weights += v->weights[i].bytes;
  for (uint32_t i = 0; i < v->nstates; i++) out->states += s->state_bytes[i];
  out->borders = bytes_of(s->converted, s->model->sizes.inputs) + bytes_of(s->top.kept, s->top.nkept);
  for (const tn_rt_host *h = s->top.hosts; h; h = h->next) out->arena += h->late.bytes;
  out->device = tn_rt_device_bytes(s);
}

const char *tn_rt_error(tn_session *s) { return s ? s->error : "no session"; }
