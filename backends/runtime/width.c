/* width.c - fewer threads while others use the processors. Where the system stops a thread, all wait for it:
 * n threads that stand still for a part f of the time do the work of n (1 - f), so one less is faster where f
 * is beyond 1 / n. What is lost flows into a bucket with a hole of that size: now and then a stall does no
 * harm, stalls all the time cost a thread. Results do not depend on how many threads there are. */
#include "backends/runtime/rt.h"

static const double most = 8e-3, most_on_trial = 2e-3;  /* seconds in the bucket that cost a thread */
static const double first_pause = 20e-3, longest = 0.3; /* seconds until one thread more is tried */

static void leave(tn_session *s, double now) {
  tn_rt_width *w = &s->width;
  w->threads--;
  w->excess = 0;
  bool soon = now < w->again; /* the last attempt did not last */
  w->pause = !soon ? first_pause : w->pause * 2 < longest ? w->pause * 2 : longest;
  w->again = now + w->pause;
  w->trial = false;
  tn_pool_spin(s->pool, true);
}

/* Whether the stalls are too many. */
static bool pour(tn_session *s, double now) {
  tn_rt_width *w = &s->width;
  double lost = tn_pool_lost(s->pool);
  w->excess -= (now - w->seen) / w->threads;
  if (w->excess < 0) w->excess = 0;
  w->excess += lost - w->lost;
  w->lost = lost;
  w->seen = now;
  if (w->trial && now >= w->again) w->trial = false;
  return w->excess > (w->trial ? most_on_trial : most);
}

void tn_rt_width_begin(tn_session *s) {
  tn_rt_width *w = &s->width;
  atomic_store_explicit(&w->turn, UINT64_MAX, memory_order_relaxed);
  if (s->nthreads == 1 || (w->threads == s->nthreads && !w->trial && w->lost == tn_pool_lost(s->pool)))
    return;
  double now = tn_now();
  if (w->threads > 1 && pour(s, now)) {
    leave(s, now);
  } else if (w->trial) {
    return;
  } else if (w->threads < s->nthreads && now >= w->again) {
    w->threads++;
    w->again = now + 4 * w->pause;
    w->trial = true;
  } else if (w->threads == s->nthreads) {
    tn_pool_spin(s->pool, false);
  }
}

/* A thread that has awaited step i, or a later one, of thread 0 sees what is written here. From the first
 * shared step that awaits that on, all do. */
void tn_rt_width_look(tn_session *s, uint32_t i) {
  tn_rt_width *w = &s->width;
  if (i % 16 == 0) tn_pool_count_lost(s->pool);
  if (w->lost == tn_pool_lost(s->pool)) return;
  double now = tn_now();
  if (!pour(s, now) || atomic_load_explicit(&w->turn, memory_order_relaxed) != UINT64_MAX) return;
  for (uint32_t k = i + 1; k < s->nwalk; k++) {
    if (s->walk[k].single || s->walk[k].first <= i) continue;
    leave(s, now);
    atomic_store_explicit(&w->turn, (uint64_t)k << 32 | w->threads, memory_order_relaxed);
    return;
  }
}
