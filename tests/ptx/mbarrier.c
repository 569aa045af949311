/* mbarrier.c - mbarrier objects. The eight bytes in shared memory hold a mark and a number; counts are kept
 * beside, so that an object that was never made, or was overwritten, is found. */
#include "tests/ptx/mbarrier.h"

#define MARK 0xb4221e5000000000ull

static ptx_mbarrier *at(ptx_machine *m, uint32_t index) { return m->mbarriers.items[index]; }

static uint8_t *bytes_of(ptx_warp *w, ptx_space space, uint64_t address, int lane, int write, ptx_place *p) {
  *p = ptx_resolve(w, space, address, 8, 8, -1, write);
  if (p->data && p->space != PS_shared) {
    ptx_stop(w, PTX_BAD_ADDRESS, lane, "an mbarrier that is not in shared memory");
    return NULL;
  }
  return p->data;
}

uint32_t ptx_mbarrier_find(ptx_warp *w, ptx_space space, uint64_t address, int lane) {
  ptx_place p;
  uint64_t v = 0;
  uint8_t *data = bytes_of(w, space, address, lane, 0, &p);
  if (!data) return UINT32_MAX;
  memcpy(&v, data, 8);
  uint32_t index = (uint32_t)v;
  if ((v & ~(uint64_t)UINT32_MAX) != MARK || index >= w->machine->mbarriers.count ||
      !at(w->machine, index)->valid) {
    ptx_stop(w, PTX_ILLEGAL, lane, "shared address 0x%llx holds no mbarrier", (unsigned long long)address);
    return UINT32_MAX;
  }
  return index;
}

bool ptx_mbarrier_passed(ptx_machine *m, uint32_t index, uint32_t phase) {
  return at(m, index)->phase != phase;
}

static void settle(const ptx_machine *m, ptx_mbarrier *b) {
  if (b->pending || b->bytes) return;
  if (b->clock) memcpy(b->clock + m->nclocks, b->clock, m->nclocks * sizeof *b->clock);
  b->phase++;
  b->pending = b->expected;
}

/* Who waits for a copy's bytes knows of its landing. */
void ptx_mbarrier_landed(ptx_machine *m, uint32_t index, int64_t bytes) {
  ptx_mbarrier *b = at(m, index);
  if (m->launch->flags & PTX_CHECK_RACES) {
    if (!b->clock) b->clock = tn_mem_alloc(2 * m->nclocks * sizeof *b->clock);
    if (b->clock) b->clock[m->nwarps] = m->landed;
  }
  ptx_mbarrier_bytes(m, index, bytes);
}

void ptx_mbarrier_bytes(ptx_machine *m, uint32_t index, int64_t bytes) {
  at(m, index)->bytes -= bytes;
  settle(m, at(m, index));
}

void ptx_mbarrier_arrive(ptx_warp *w, uint32_t index, uint32_t count, int lane) {
  ptx_mbarrier *b = at(w->machine, index);
  if (count > b->pending) {
    ptx_stop(w, PTX_ILLEGAL, lane, "%u arrivals, and the mbarrier waits for %u of %u", count, b->pending,
             b->expected);
    return;
  }
  b->pending -= count;
  if (w->clock && !b->clock) b->clock = tn_mem_alloc(2 * w->machine->nclocks * sizeof *b->clock);
  ptx_clock_join(w->machine, b->clock, w->clock);
  ptx_clock_tick(w);
  settle(w->machine, b);
}

static void init(ptx_warp *w, const ptx_ins *i, uint32_t lane, uint64_t address) {
  ptx_machine *m = w->machine;
  ptx_place p;
  uint8_t *data = bytes_of(w, (ptx_space)i->space, address, (int)lane, 1, &p);
  uint64_t count = ptx_get(w, &i->args[1], lane) & UINT32_MAX, v;
  ptx_mbarrier *b = tn_mem_alloc(sizeof *b);
  if (!data || !b || !count || count >= 1 << 20 || !tn_vec_push(&m->mbarriers, b)) {
    tn_mem_free(b);
    ptx_stop(w, PTX_ILLEGAL, (int)lane, "an mbarrier for %llu arrivals", (unsigned long long)count);
    return;
  }
  *b = (ptx_mbarrier){p.cta, p.offset, (uint32_t)count, (uint32_t)count, 0, 0, NULL, true};
  v = MARK | (m->mbarriers.count - 1);
  memcpy(data, &v, 8);
}

/* test_wait and try_wait: a predicate. try_wait is false at the first try, as on a device whose time limit is
 * over; the same one tried again waits, and then is run once more. So a loop costs nothing, and a missing one
 * shows. */
static void wait(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  ptx_machine *m = w->machine;
  bool parity = ptx_has(i, PM_parity), tries = ptx_has(i, PM_try_wait);
  uint32_t waiting = 0, index = 0, phase = 0;
  PTX_EACH(l, mask) {
    index = ptx_mbarrier_find(w, (ptx_space)i->space, ptx_address(w, &i->args[1], l), (int)l);
    if (index == UINT32_MAX) return;
    ptx_mbarrier *b = at(m, index);
    uint64_t asked = ptx_get(w, &i->args[2], l);
    phase = b->phase;
    bool passed = parity ? (b->phase & 1) != (asked & 1) : b->phase != (uint32_t)asked;
    if (passed) ptx_clock_join(m, w->clock, b->clock ? b->clock + m->nclocks : NULL);
    ptx_put(w, &i->args[0], l, passed);
    waiting |= (uint32_t)!passed << l;
  }
  if (!tries || !waiting || waiting != mask) return;
  bool again = w->tried == i && w->tried_phase == phase + 1 && w->tried_barrier == index;
  w->tried = i, w->tried_phase = phase + 1, w->tried_barrier = index;
  if (!again) return;
  w->now->pc--;
  ptx_wait_for(w, PW_MBARRIER, index, phase);
}

void ptx_run_mbarrier(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  if (ptx_has(i, PM_test_wait) || ptx_has(i, PM_try_wait)) {
    wait(w, i, mask);
    return;
  }
  bool arrives = ptx_has(i, PM_arrive) || ptx_has(i, PM_arrive_drop), tx = ptx_has(i, PM_expect_tx);
  PTX_EACH(l, mask) {
    const ptx_arg *where = &i->args[arrives ? 1 : 0];
    uint64_t address = ptx_address(w, where, l);
    if (ptx_has(i, PM_init)) {
      init(w, i, l, address);
      continue;
    }
    uint32_t index = ptx_mbarrier_find(w, (ptx_space)i->space, address, (int)l);
    if (index == UINT32_MAX) return;
    ptx_mbarrier *b = at(w->machine, index);
    uint64_t n = where + 1 < i->args + i->nargs ? ptx_get(w, where + 1, l) & UINT32_MAX : 1;
    if (ptx_has(i, PM_inval)) b->valid = false;
    if (tx) b->bytes += (int64_t)n;
    if (ptx_has(i, PM_complete_tx)) ptx_mbarrier_bytes(w->machine, index, (int64_t)n);
    if (!arrives) continue;
    ptx_put(w, &i->args[0], l, b->phase);
    if (ptx_has(i, PM_arrive_drop)) b->expected--;
    ptx_mbarrier_arrive(w, index, tx ? 1 : (uint32_t)n, (int)l);
  }
}
