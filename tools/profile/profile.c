/* profile.c - from the runtime's events to rows. A kernel's time goes from its begin on thread 0, or the end
 * of the kernel before if that is later, until the last thread is done with it: so the times of kernels and
 * what lies between them add up to the time of the walk, also where threads run ahead of each other. */
#include "tools/profile/profile.h"
#include "tools/reports.h"
#include <stdlib.h>

/* ---- what a step does -----------------------------------------------------------------------------------
 */

typedef struct step_facts {
  tn_dim work, bytes, weights;
  tn_limit_kind arithmetic;
  bool known;
} step_facts;

/* Walks through one session's log. */
typedef struct taking {
  tn_profile *p;
  tn_session *s;
  const char *what;
  int64_t batch, tokens;
  const int64_t *dims; /* of all walks */
  double *now;         /* of this one; 0 where it is not known */
  uint32_t nwalks, ndims, nthreads;
  const tn_rt_event *events[TN_MACHINE_THREADS];
  uint32_t count[TN_MACHINE_THREADS], at[TN_MACHINE_THREADS];
  step_facts *facts;   /* per row of the program's steps */
  uint32_t part, last; /* of the walk, of the one before; plus 1 */
  double begin, end;   /* of the walk, of its kernels so far */
} taking;

static const tn_prog_header *header_of(const tn_profile *p) {
  return (const tn_prog_header *)p->o->build.program.text;
}
#define PROGRAM_ROW(p, T, table, i)                                                                          \
  (&((const T *)((p)->o->build.program.text + header_of(p)->table.offset))[i])
static const char *program_text(const tn_profile *p, uint32_t at) {
  return at == TN_PROG_NONE ? "" : p->o->build.program.text + header_of(p)->strings.offset + at;
}

/* In this walk. The program has its dims in the order of the module's symbols. */
static double value_of(const taking *t, tn_dim d) {
  return tn_dim_value(t->p->o->module, d, t->now, t->ndims);
}

/* The type of what a product's second operand is stored as. */
static tn_dtype weight_type(tn_module *m, tn_op kernel) {
  for (tn_op op = tn_ir_first_op(m, 0, kernel); op; op = tn_ir_next_op(m, op)) {
    uint32_t code = tn_ir_opcode(m, op);
    if (code != TN_OPC_matmul && code != TN_OPC_expert_matmul) continue;
    tn_value_info v;
    tn_type_info t;
    tn_ir_value_get(m, tn_ir_op_operand(m, op, 1), &v);
    tn_ir_type_get(m, v.type, &t);
    return t.dtype;
  }
  return TN_DT_NONE;
}

/* The fastest arithmetic that the precision allows for a kernel, of what this machine has. */
static tn_limit_kind arithmetic_of(const tn_profile *p, tn_op kernel) {
  const char *precision = tn_ir_meta_get(p->o->module, "precision");
  bool fast = precision && !strcmp(precision, "fast");
  tn_dtype t = weight_type(p->o->module, kernel);
  const tn_dtype_info *info = t ? tn_ir_dtype_info(t) : NULL;
  tn_limit_kind kind =
      !info ? TN_LIMIT_F32
      : info->cls == TN_CLASS_INT || info->cls == TN_CLASS_UINT || (fast && info->cls == TN_CLASS_BLOCK)
          ? TN_LIMIT_INT8
      : fast ? TN_LIMIT_BF16
             : TN_LIMIT_F32;
  return p->machine.limits[kind].best > 0 ? kind : TN_LIMIT_F32;
}

static step_facts *facts_of(taking *t, uint32_t row) {
  step_facts *f = &t->facts[row];
  const tn_build *b = &t->p->o->build;
  if (f->known || row >= b->steps.count) return f;
  f->known = true;
  tn_op op = b->steps.items[row].op;
  f->work = tn_kernel_products(t->p->o->module, op);
  f->bytes = tn_kernel_bytes(t->p->o->module, b, op, &f->weights);
  f->arithmetic = arithmetic_of(t->p, op);
  return f;
}

/* ---- rows -----------------------------------------------------------------------------------------------
 */

/* The number of the op among the kernels of its function. */
static uint32_t index_of(const tn_profile *p, uint32_t row) {
  const tn_build_step *steps = p->o->build.steps.items;
  uint32_t n = 0;
  for (uint32_t i = row; i-- > 0 && steps[i].func == steps[row].func;)
    n += PROGRAM_ROW(p, tn_prog_step, steps, i)->kind == TN_PROG_KERNEL;
  return n;
}

static const char *func_name(const tn_profile *p, uint32_t row) {
  tn_func_info f;
  tn_ir_func_get(p->o->module, p->o->build.steps.items[row].func, &f);
  return f.name;
}

static tn_profile_row *row_of(tn_profile *p, tn_profile_part *part, uint32_t row) {
  uint32_t nsteps = header_of(p)->steps.count;
  if (row >= nsteps || row >= p->o->build.steps.count) return NULL;
  if (!part->step_of.count) {
    if (!tn_vec_reserve(&part->step_of, nsteps)) return NULL;
    memset(part->step_of.items, 0, nsteps * sizeof *part->step_of.items);
    part->step_of.count = nsteps;
  }
  if (part->step_of.items[row]) return &part->steps.items[part->step_of.items[row] - 1];
  const tn_prog_step *step = PROGRAM_ROW(p, tn_prog_step, steps, row);
  tn_attr root;
  bool has_root = tn_ir_op_attr(p->o->module, p->o->build.steps.items[row].op, "root", &root);
  tn_profile_row r = {.symbol =
                          program_text(p, PROGRAM_ROW(p, tn_prog_kernel, kernels, step->kernel)->symbol),
                      .root = has_root ? root.u.s : "loop",
                      .loc = program_text(p, step->loc),
                      .func = func_name(p, row),
                      .index = index_of(p, row),
                      .kernel = step->kernel,
                      .steps = 1};
  if (!tn_vec_push(&part->steps, r)) return NULL;
  part->step_of.items[row] = part->steps.count;
  return &part->steps.items[part->steps.count - 1];
}

const tn_profile_part *tn_profile_part_of(const tn_profile *p, const char *what, int64_t batch,
                                          int64_t tokens) {
  for (uint32_t i = 0; p && i < p->parts.count; i++) {
    const tn_profile_part *x = &p->parts.items[i];
    if (!strcmp(x->what, what) && x->batch == batch && x->tokens == tokens) return x;
  }
  return NULL;
}

static tn_status set_part(taking *t, uint32_t row) {
  tn_profile *p = t->p;
  const char *what = t->what ? t->what : row < p->o->build.steps.count ? func_name(p, row) : "";
  const tn_profile_part *old = tn_profile_part_of(p, what, t->batch, t->tokens);
  t->part = old ? (uint32_t)(old - p->parts.items) + 1 : p->parts.count + 1;
  if (old) return TN_OK;
  tn_profile_part part = {
      .what = tn_arena_str(&p->arena, tn_str_of(what)), .batch = t->batch, .tokens = t->tokens};
  return part.what && tn_vec_push(&p->parts, part) ? TN_OK : TN_OOM;
}

/* ---- events ---------------------------------------------------------------------------------------------
 */

/* When the last thread was done with thread 0's event e; adds up what all of them worked. */
static double last_end(taking *t, const tn_rt_event *e, double *busy) {
  double end = e->end;
  *busy = e->end - e->begin;
  for (uint32_t k = 1; k < t->nthreads; k++) {
    while (t->at[k] < t->count[k] && t->events[k][t->at[k]].walk < e->walk) t->at[k]++;
    const tn_rt_event *x = t->at[k] < t->count[k] ? &t->events[k][t->at[k]] : NULL;
    if (!x || x->walk != e->walk || x->row != e->row) continue;
    t->at[k]++;
    *busy += x->end - x->begin;
    if (x->end > end) end = x->end;
  }
  return end;
}

static void add_bound(taking *t, tn_profile_row *r, const step_facts *f) {
  const tn_limit *limits = t->p->machine.limits;
  double work = f->work ? value_of(t, f->work) : 0, bytes = f->bytes ? value_of(t, f->bytes) : 0;
  double read = bytes / limits[TN_LIMIT_READ].best;
  double compute = limits[f->arithmetic].best > 0 ? work / limits[f->arithmetic].best : 0;
  r->work += work;
  r->bytes += bytes;
  r->weights += f->weights ? value_of(t, f->weights) : 0;
  r->bound += read > compute ? read : compute;
  r->by = read > compute ? TN_LIMIT_READ : f->arithmetic;
}

static tn_status take_kernel(taking *t, const tn_rt_event *e) {
  tn_profile_part *part = &t->p->parts.items[t->part - 1];
  tn_profile_row *r = row_of(t->p, part, e->row);
  if (!r) return TN_OOM;
  double busy, end = last_end(t, e, &busy), begin = e->begin > t->end ? e->begin : t->end;
  tn_profile_sample sample = {e->row, r->kernel, end > begin ? end - begin : 0};
  if (end > t->end) t->end = end;
  part->kernels += sample.seconds;
  r->calls++;
  r->total += sample.seconds;
  r->busy += busy;
  add_bound(t, r, facts_of(t, e->row));
  return tn_vec_push(&part->samples, sample) ? TN_OK : TN_OOM;
}

static tn_status take_event(taking *t, const tn_rt_event *e) {
  if (e->row == TN_PROG_NONE) {
    if (t->part) t->p->parts.items[t->part - 1].inside += e->begin - t->begin;
    t->last = t->part;
    if (t->part) tn_trace_event(t->p, 0, t->p->parts.items[t->part - 1].what, NULL, NULL, t->begin, e->begin);
    t->part = 0;
    return TN_OK;
  }
  if (!t->part) { /* a walk begins */
    TN_TRY(set_part(t, e->row));
    t->p->parts.items[t->part - 1].walks++;
    t->begin = t->end = e->begin;
    for (uint32_t i = 0; i < t->ndims; i++)
      t->now[i] = e->walk <= t->nwalks ? (double)t->dims[(uint64_t)(e->walk - 1) * t->ndims + i] : 0;
  }
  return take_kernel(t, e);
}

static void trace_all(taking *t) {
  for (uint32_t k = 0; k < t->nthreads; k++)
    for (uint32_t i = 0; i < t->count[k]; i++) {
      const tn_rt_event *e = &t->events[k][i];
      if (e->row == TN_PROG_NONE || e->row >= t->p->o->build.steps.count) continue;
      const tn_prog_step *step = PROGRAM_ROW(t->p, tn_prog_step, steps, e->row);
      tn_attr root;
      bool has = tn_ir_op_attr(t->p->o->module, t->p->o->build.steps.items[e->row].op, "root", &root);
      tn_trace_event(t->p, k, has && *root.u.s ? root.u.s : "loop",
                     program_text(t->p, PROGRAM_ROW(t->p, tn_prog_kernel, kernels, step->kernel)->symbol),
                     program_text(t->p, step->loc), e->begin, e->end);
    }
}

tn_status tn_profile_take(tn_profile *p, tn_session *s, const char *what, int64_t batch, int64_t tokens,
                          double wall) {
  taking t = {.p = p, .s = s, .what = what, .batch = batch, .tokens = tokens};
  uint64_t lost = 0;
  t.nthreads = tn_rt_threads(s) < TN_MACHINE_THREADS ? tn_rt_threads(s) : TN_MACHINE_THREADS;
  for (uint32_t k = 0; k < t.nthreads; k++) t.count[k] = tn_rt_events(s, k, &t.events[k], k ? NULL : &lost);
  t.nwalks = tn_rt_walks(s, &t.dims, &t.ndims);
  t.facts = tn_mem_alloc((header_of(p)->steps.count + 1) * sizeof *t.facts);
  t.now = tn_mem_alloc((t.ndims + 1) * sizeof *t.now);
  tn_status status = t.facts && t.now ? TN_OK : TN_OOM;
  tn_trace_begin(p, t.nthreads);
  for (uint32_t i = 0; status == TN_OK && i < t.count[0]; i++) status = take_event(&t, &t.events[0][i]);
  if (p->with_trace) trace_all(&t);
  tn_rt_counts counts;
  tn_rt_count(s, &counts);
  if (p->parts.count) p->parts.items[p->parts.count - 1].lost += lost;
  if (t.last) p->parts.items[t.last - 1].waits += counts.waits - p->before.waits;
  const tn_profile_part *part = what ? tn_profile_part_of(p, what, batch, tokens) : NULL;
  if (part) p->parts.items[part - p->parts.items].wall += wall;
  tn_mem_free(t.facts);
  tn_mem_free(t.now);
  return status == TN_OK ? tn_profile_begin(p, s) : status;
}

/* ---- the tables -----------------------------------------------------------------------------------------
 */

static int by_row(const void *a, const void *b) {
  const tn_profile_sample *x = a, *y = b;
  if (x->row != y->row) return x->row < y->row ? -1 : 1;
  return (x->seconds > y->seconds) - (x->seconds < y->seconds);
}
static int by_kernel(const void *a, const void *b) {
  const tn_profile_sample *x = a, *y = b;
  if (x->kernel != y->kernel) return x->kernel < y->kernel ? -1 : 1;
  return (x->seconds > y->seconds) - (x->seconds < y->seconds);
}
static int by_place(const void *a, const void *b) {
  const tn_profile_row *x = a, *y = b;
  int f = strcmp(x->func, y->func);
  return f ? f : x->index < y->index ? -1 : x->index > y->index;
}
static int by_total(const void *a, const void *b) {
  const tn_profile_row *x = a, *y = b;
  return x->total != y->total ? (x->total < y->total ? 1 : -1) : by_place(a, b);
}

/* Least and median of the samples [first, end), which are sorted. */
static void set_times(tn_profile_row *r, const tn_profile_sample *s, uint32_t first, uint32_t end) {
  r->least = s[first].seconds;
  r->median = s[first + (end - first) / 2].seconds;
}

static void time_steps(tn_profile_part *part) {
  const tn_profile_sample *s = part->samples.items;
  if (part->samples.count) qsort(part->samples.items, part->samples.count, sizeof *s, by_row);
  for (uint32_t i = 0, end; i < part->samples.count; i = end) {
    for (end = i; end < part->samples.count && s[end].row == s[i].row;) end++;
    set_times(&part->steps.items[part->step_of.items[s[i].row] - 1], s, i, end);
  }
}

static tn_status make_groups(tn_profile_part *part) {
  const tn_profile_sample *s = part->samples.items;
  if (part->samples.count) qsort(part->samples.items, part->samples.count, sizeof *s, by_kernel);
  for (uint32_t i = 0, end; i < part->samples.count; i = end) {
    for (end = i; end < part->samples.count && s[end].kernel == s[i].kernel;) end++;
    tn_profile_row g = {0};
    for (uint32_t k = 0; k < part->steps.count; k++) {
      const tn_profile_row *r = &part->steps.items[k];
      if (r->kernel != s[i].kernel) continue;
      if (!g.steps) g = (tn_profile_row){r->symbol, r->root, r->loc, r->func, r->index, r->kernel};
      g.steps++;
      g.calls += r->calls, g.total += r->total, g.busy += r->busy;
      g.work += r->work, g.bytes += r->bytes, g.weights += r->weights, g.bound += r->bound, g.by = r->by;
    }
    set_times(&g, s, i, end);
    if (!tn_vec_push(&part->groups, g)) return TN_OOM;
  }
  if (part->groups.count) qsort(part->groups.items, part->groups.count, sizeof(tn_profile_row), by_total);
  return TN_OK;
}

tn_status tn_profile_finish(tn_profile *p) {
  for (uint32_t i = 0; i < p->parts.count; i++) {
    tn_profile_part *part = &p->parts.items[i];
    if (part->groups.count) continue;
    time_steps(part);
    TN_TRY(make_groups(part));
    if (part->steps.count) qsort(part->steps.items, part->steps.count, sizeof(tn_profile_row), by_place);
  }
  return TN_OK;
}

/* ---- asked for on the command line ----------------------------------------------------------------------
 */

bool tn_profile_asked(const tn_args *a) { return a->given[OPT_profile] || a->given[OPT_trace]; }

tn_status tn_profile_start(tn_profile *p, const tn_args *a, const tn_opened *o, tn_session *s,
                           uint32_t threads, tn_diags *d) {
  *p = (tn_profile){0};
  if (!tn_profile_asked(a)) return TN_OK;
  TN_TRY(tn_profile_open(p, o, threads, a->given[OPT_trace], d));
  return tn_profile_begin(p, s);
}

tn_status tn_profile_stop(tn_profile *p, const tn_args *a, tn_session *s) {
  if (!p->o) return TN_OK;
  TN_TRY(tn_profile_take(p, s, NULL, 0, 0, 0));
  TN_TRY(tn_profile_finish(p));
  return tn_profile_deliver(p, a, true);
}

/* ---- life -----------------------------------------------------------------------------------------------
 */

tn_status tn_profile_open(tn_profile *p, const tn_opened *o, uint32_t threads, bool trace, tn_diags *d) {
  *p = (tn_profile){.o = o, .d = d, .with_trace = trace};
  tn_arena_init(&p->arena);
  if (!o->module)
    return tn_fail(d, TN_UNSUPPORTED, NULL, NULL,
                   "a library has no profile; give the model that it was made of, with the same options");
  return tn_machine_measure(threads, &p->machine, d);
}

void tn_profile_close(tn_profile *p) {
  for (uint32_t i = 0; i < p->parts.count; i++) {
    tn_profile_part *part = &p->parts.items[i];
    tn_vec_fini(&part->steps);
    tn_vec_fini(&part->groups);
    tn_vec_fini(&part->samples);
    tn_vec_fini(&part->step_of);
  }
  tn_vec_fini(&p->parts);
  tn_buf_fini(&p->trace);
  tn_arena_fini(&p->arena);
  memset(p, 0, sizeof *p);
}

tn_status tn_profile_begin(tn_profile *p, tn_session *s) {
  tn_status status = tn_rt_profile(s, true);
  tn_rt_count(s, &p->before);
  return status == TN_OK ? TN_OK : tn_fail(p->d, status, NULL, NULL, "%s", p->o->api->error(s));
}
