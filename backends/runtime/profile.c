/* profile.c - what every thread did and when: one event per kernel call, in a log of each thread's own, so
 * that writing one needs no lock. Sums per step are made of thread 0's log when they are asked for. */
#include "backends/runtime/rt.h"

enum { FIRST_ROOM = 4096, MOST_EVENTS = 1 << 21 }; /* per thread; beyond that they are only counted */

void tn_rt_log_put(tn_rt_log *log, uint32_t walk, uint32_t row, double begin, double end) {
  if (log->count == log->room) {
    uint64_t room = log->room ? 2 * log->room : FIRST_ROOM;
    tn_rt_event *more = room <= MOST_EVENTS ? tn_mem_resize(log->events, (size_t)room * sizeof *more) : NULL;
    if (!more) {
      log->lost++;
      return;
    }
    log->events = more;
    log->room = (uint32_t)room;
  }
  log->events[log->count++] = (tn_rt_event){begin, end, walk, row};
}

void tn_rt_log_begin(tn_session *s, const tn_frame *f) {
  uint32_t n = s->model->view.ndims, at = s->walk_dims.count;
  s->nwalks++;
  if ((uint64_t)at + n > MOST_EVENTS || at != (s->nwalks - 1) * n || !tn_vec_reserve(&s->walk_dims, at + n))
    return;
  for (uint32_t i = 0; i < n; i++) s->walk_dims.items[at + i] = f->bound[i] ? f->dims[i] : 0;
  s->walk_dims.count += n;
}

tn_status tn_rt_profile(tn_session *s, bool on) {
  if (on && !s->logs) s->logs = tn_mem_alloc(s->nthreads * sizeof *s->logs);
  if (on && !s->logs) return tn_rt_fail(s, TN_OOM, "no memory for a profile of %u threads", s->nthreads);
  for (uint32_t t = 0; on && t < s->nthreads; t++) s->logs[t].count = 0, s->logs[t].lost = 0;
  if (on) s->nwalks = s->walk_dims.count = 0;
  s->profile = on;
  return TN_OK;
}

void tn_rt_logs_free(tn_session *s) {
  for (uint32_t t = 0; s->logs && t < s->nthreads; t++) tn_mem_free(s->logs[t].events);
  tn_mem_free(s->logs);
  tn_vec_fini(&s->walk_dims);
}

uint32_t tn_rt_events(const tn_session *s, uint32_t thread, const tn_rt_event **out, uint64_t *lost) {
  if (!s->logs || thread >= s->nthreads) return 0;
  *out = s->logs[thread].events;
  if (lost) *lost = s->logs[thread].lost;
  return s->logs[thread].count;
}

uint32_t tn_rt_walks(const tn_session *s, const int64_t **dims, uint32_t *ndims) {
  *dims = s->walk_dims.items;
  *ndims = s->model->view.ndims;
  return *ndims ? s->walk_dims.count / *ndims : s->nwalks;
}

uint32_t tn_rt_threads(const tn_session *s) { return s->nthreads; }

/* Adds up what thread 0 spent per row: in the kernel, and waiting behind it for the others. */
static void add_up(const tn_session *s, tn_rt_step_time *sums) {
  const tn_rt_log *log = &s->logs[0];
  for (uint32_t i = 0; i < log->count; i++) {
    const tn_rt_event *e = &log->events[i], *next = i + 1 < log->count ? e + 1 : NULL;
    if (e->row == TN_PROG_NONE) continue;
    sums[e->row].calls++;
    sums[e->row].seconds += (next && next->walk == e->walk ? next->begin : e->end) - e->begin;
  }
}

/* The kernels of the variant; behind them those of entries that host steps called. */
uint32_t tn_rt_step_times(tn_session *s, tn_rt_step_time *out, uint32_t room) {
  const tn_view *v = &s->model->view;
  const tn_frame *f = &s->top;
  uint32_t n = 0;
  if (!f->entry || !s->logs) return 0;
  tn_rt_step_time *sums = tn_mem_alloc((v->nsteps + 1) * sizeof *sums);
  if (!sums) return 0;
  add_up(s, sums);
  bool dynamic = s->model->dynamic[f->entry - v->entries];
  uint32_t first = f->variant->first_step, end = dynamic ? v->nsteps : first + f->nsteps;
  for (uint32_t row = first; row < end; row++) {
    const tn_prog_step *step = &v->steps[row];
    if (step->kind != TN_PROG_KERNEL || (row >= first + f->nsteps && !sums[row].calls)) continue;
    if (n < room)
      out[n] = (tn_rt_step_time){tn_view_str(v, v->kernels[step->kernel].symbol),
                                 step->loc == TN_PROG_NONE ? "" : tn_view_str(v, step->loc), sums[row].calls,
                                 sums[row].seconds};
    n++;
  }
  tn_mem_free(sums);
  return n;
}
