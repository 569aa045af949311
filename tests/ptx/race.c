/* race.c - races in shared memory. Every warp has a vector clock: what it knows of each other warp of the
 * gang. A byte keeps who wrote it last and who has read it since; an access that does not know of a
 * conflicting one by another warp is a race. Barriers, mbarriers and cluster barriers pass knowledge on
 * (FastTrack, Flanagan and Freund 2009). Bulk copies have a clock of their own: who waited for one's mbarrier
 * knows of it, and it knows what its warp knew when it asked for it. */
#include "tests/ptx/inside.h"
#include <stdio.h>

typedef struct ptx_touch { /* of a byte; numbers of warps are of the gang, plus 1 */
  uint32_t writer, write_time;
  uint32_t reader; /* the last one; 0: none since the write. When each warp read it is in the list behind */
} ptx_touch;

void ptx_race_begin(ptx_machine *m) {
  if (!(m->launch->flags & PTX_CHECK_RACES)) return;
  for (uint32_t c = 0; c < m->nctas; c++) {
    m->ctas[c].touch =
        tn_mem_alloc(m->shared_bytes * (sizeof(ptx_touch) + m->nclocks * sizeof(uint32_t)) + 1);
    if (!m->ctas[c].touch) m->fault = PTX_NO_MEMORY;
    for (uint32_t i = 0; i < m->ctas[c].nwarps; i++) {
      ptx_warp *w = &m->ctas[c].warps[i];
      w->clock = tn_mem_alloc(m->nclocks * sizeof *w->clock);
      if (!w->clock) {
        m->fault = PTX_NO_MEMORY;
        return;
      }
      w->clock[w->number] = 1;
    }
  }
}

void ptx_race_end(ptx_machine *m) {
  for (uint32_t c = 0; c < m->nctas; c++) {
    tn_mem_free(m->ctas[c].touch);
    for (uint32_t i = 0; i < m->ctas[c].nwarps; i++) tn_mem_free(m->ctas[c].warps[i].clock);
  }
}

typedef struct actor { /* a warp, or a copy that lands */
  ptx_warp *w;
  const uint32_t *clock;
  uint32_t number, time;
  int lane;
  bool copy;
} actor;

static bool knows(const actor *a, uint32_t who, uint32_t time) {
  return (who == a->number && !a->copy) || a->clock[who] >= time;
}

static void report(const actor *a, uint64_t offset, const char *now, const char *before, uint32_t who) {
  char other[32] = "a bulk copy";
  if (who < a->w->machine->nwarps) snprintf(other, sizeof other, "warp %u", who);
  ptx_stop(a->w, PTX_RACE, a->lane, "shared byte %llu is %s%s, and %s has %s it with no barrier in between",
           (unsigned long long)offset, now, a->copy ? " by a bulk copy" : "", other, before);
}

static void access(const actor *a, ptx_cta *cta, uint64_t offset, uint64_t bytes, bool write) {
  ptx_machine *m = a->w->machine;
  uint32_t *reads = (uint32_t *)(cta->touch + m->shared_bytes);
  for (uint64_t i = offset; i < offset + bytes; i++) {
    ptx_touch *t = &cta->touch[i];
    uint32_t *times = reads + i * m->nclocks;
    if (t->writer && !knows(a, t->writer - 1, t->write_time)) {
      report(a, i, write ? "written" : "read", "written", t->writer - 1);
      return;
    }
    if (!write) {
      times[a->number] = a->time;
      t->reader = a->number + 1;
      continue;
    }
    for (uint32_t r = 0; t->reader && r < m->nclocks; r++) {
      if (times[r] && !knows(a, r, times[r])) {
        report(a, i, "written", "read", r);
        return;
      }
      times[r] = 0;
    }
    *t = (ptx_touch){.writer = a->number + 1, .write_time = a->time};
  }
}

void ptx_race_check(ptx_warp *w, ptx_cta *cta, uint64_t offset, uint64_t bytes, int lane, bool write) {
  const actor a = {w, w->clock, w->number, w->clock[w->number], lane, false};
  access(&a, cta, offset, bytes, write);
}

void ptx_race_land(ptx_warp *w, const uint32_t *known, ptx_cta *cta, uint64_t offset, uint64_t bytes) {
  const actor a = {w, known, w->machine->nwarps, w->machine->landed, -1, true};
  if (known) access(&a, cta, offset, bytes, true);
}

void ptx_clock_tick(ptx_warp *w) {
  if (w->clock) w->clock[w->number]++;
}

void ptx_clock_join(const ptx_machine *m, uint32_t *into, const uint32_t *from) {
  if (!into || !from) return;
  for (uint32_t i = 0; i < m->nclocks; i++)
    if (from[i] > into[i]) into[i] = from[i];
}
