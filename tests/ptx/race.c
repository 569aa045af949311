/* race.c - races in shared memory. Every warp has a vector clock: what it knows of each other warp of the
 * gang. A byte keeps who wrote it last and who has read it since; an access that does not know of a
 * conflicting one by another warp is a race. Barriers, mbarriers and cluster barriers pass knowledge on
 * (FastTrack, Flanagan and Freund 2009). */
#include "tests/ptx/inside.h"

typedef struct ptx_touch { /* of a byte; numbers of warps are of the gang, plus 1 */
  uint32_t writer, write_time;
  uint32_t reader; /* the last one; 0: none since the write. When each warp read it is in the list behind */
} ptx_touch;

void ptx_race_begin(ptx_machine *m) {
  if (!(m->launch->flags & PTX_CHECK_RACES)) return;
  for (uint32_t c = 0; c < m->nctas; c++) {
    m->ctas[c].touch = tn_mem_alloc(m->shared_bytes * (sizeof(ptx_touch) + m->nwarps * sizeof(uint32_t)) + 1);
    if (!m->ctas[c].touch) m->fault = PTX_NO_MEMORY;
    for (uint32_t i = 0; i < m->ctas[c].nwarps; i++) {
      ptx_warp *w = &m->ctas[c].warps[i];
      w->clock = tn_mem_alloc(m->nwarps * sizeof *w->clock);
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

static bool knows(const ptx_warp *w, uint32_t warp, uint32_t time) {
  return warp == w->number || w->clock[warp] >= time;
}

static void report(ptx_warp *w, uint64_t offset, int lane, const char *now, const char *before,
                   uint32_t warp) {
  ptx_stop(w, PTX_RACE, lane, "shared byte %llu is %s, and warp %u has %s it with no barrier in between",
           (unsigned long long)offset, now, warp, before);
}

void ptx_race_check(ptx_warp *w, ptx_cta *cta, uint64_t offset, uint64_t bytes, int lane, bool write) {
  ptx_machine *m = w->machine;
  uint32_t *reads = (uint32_t *)(cta->touch + m->shared_bytes), me = w->clock[w->number];
  for (uint64_t i = offset; i < offset + bytes; i++) {
    ptx_touch *t = &cta->touch[i];
    uint32_t *times = reads + i * m->nwarps;
    if (t->writer && !knows(w, t->writer - 1, t->write_time)) {
      report(w, i, lane, write ? "written" : "read", "written", t->writer - 1);
      return;
    }
    if (!write) {
      times[w->number] = me;
      t->reader = w->number + 1;
      continue;
    }
    for (uint32_t r = 0; t->reader && r < m->nwarps; r++) {
      if (times[r] && !knows(w, r, times[r])) {
        report(w, i, lane, "written", "read", r);
        return;
      }
      times[r] = 0;
    }
    *t = (ptx_touch){.writer = w->number + 1, .write_time = me};
  }
}

void ptx_clock_tick(ptx_warp *w) {
  if (w->clock) w->clock[w->number]++;
}

void ptx_clock_join(const ptx_machine *m, uint32_t *into, const uint32_t *from) {
  if (!into || !from) return;
  for (uint32_t i = 0; i < m->nwarps; i++)
    if (from[i] > into[i]) into[i] = from[i];
}
