/* bulk.c - asynchronous copies: cp.async, which writes when its group is waited for, and bulk and tensor
 * copies, which write when somebody waits for their mbarrier or group: as late as a device may. */
#include "tests/ptx/mbarrier.h"
#include "tests/ptx/tensor_map.h"

/* ---- cp.async
 * ------------------------------------------------------------------------------------------------------ */
static void perform(ptx_warp *w, const ptx_copy *c) {
  uint8_t data[16] = {0};
  if (c->filled) {
    ptx_place from = ptx_resolve(w, PS_global, c->from, c->filled, 1, c->lane, 0);
    if (!from.data) return;
    memcpy(data, from.data, c->filled);
  }
  ptx_place to = ptx_resolve(w, PS_shared, c->to, c->bytes, 1, c->lane, 1);
  if (to.data) memcpy(to.data, data, c->bytes);
}

/* Performs a lane's groups below `end`. */
static void finish_groups(ptx_warp *w, uint32_t lane, uint32_t end) {
  uint32_t kept = 0;
  for (uint32_t k = 0; k < w->copies.count; k++) {
    ptx_copy c = w->copies.items[k];
    if (c.lane == lane && c.group < end)
      perform(w, &c);
    else
      w->copies.items[kept++] = c;
  }
  w->copies.count = kept;
}

static void issue(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  uint64_t size = i->args[2].value;
  uint64_t address[PTX_LANES] = {0};
  PTX_EACH(l, mask) {
    uint64_t filled = size;
    if (i->nargs > 3 && i->args[3].kind != PK_SINK && !(ptx_has(i, PM_L2_cache_hint) && i->nargs == 4))
      filled = ptx_get(w, &i->args[3], l) & UINT32_MAX;
    ptx_copy c = {.from = ptx_address(w, &i->args[1], l),
                  .to = ptx_address(w, &i->args[0], l),
                  .bytes = (uint32_t)size,
                  .filled = (uint32_t)(filled > size ? size : filled),
                  .group = w->group_open[l],
                  .lane = (uint8_t)l};
    address[l] = c.from;
    if (c.from % size || c.to % size) {
      ptx_stop(w, PTX_MISALIGNED, (int)l, "a copy of %llu bytes from 0x%llx to 0x%llx",
               (unsigned long long)size, (unsigned long long)c.from, (unsigned long long)c.to);
      return;
    }
    if (!tn_vec_push(&w->copies, c)) {
      ptx_stop(w, PTX_NO_MEMORY, (int)l, "no memory");
      return;
    }
  }
  w->machine->count.global_requests++;
  uint64_t last = ~0ull;
  PTX_EACH(k, mask) {
    if (address[k] / 32 != last) w->machine->count.global_sectors++;
    last = address[k] / 32;
  }
}

/* cp.async.mbarrier.arrive: when this lane's copies are done; here at once, after them. */
static void arrive_after(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  PTX_EACH(l, mask) {
    finish_groups(w, l, w->group_open[l] + 1);
    uint32_t index = ptx_mbarrier_find(w, (ptx_space)i->space, ptx_address(w, &i->args[0], l), (int)l);
    if (index == UINT32_MAX) return;
    if (ptx_has(i, PM_noinc)) ptx_mbarrier_arrive(w, index, 1, (int)l);
  }
}

/* ---- bulk copies
 * --------------------------------------------------------------------------------------------------- */
typedef struct ptx_bulk { /* towards shared memory: one row of bytes, or a box of a tensor */
  ptx_warp *warp;
  const ptx_ins *at;
  ptx_cta *cta;    /* where it writes */
  uint32_t *known; /* the warp's clock when it asked; NULL without race checks */
  uint64_t from, to;
  uint32_t bytes, mbarrier;
  bool tensor;
  ptx_tensor_map map;
  int32_t origin[5];
} ptx_bulk;

/* Copies every element of the box between the tensor (outside of it: zeros) and shared memory. known: of a
 * load, for race checks. */
static bool walk_box(ptx_warp *w, const ptx_tensor_map *t, const int32_t *origin, ptx_cta *cta, uint64_t to,
                     bool store, const uint32_t *known) {
  uint64_t n = 1, size = t->element;
  for (uint32_t d = 0; d < t->rank; d++) n *= t->box[d];
  for (uint64_t e = 0; e < n; e++) {
    uint64_t rest = e, address = t->base;
    bool inside = true;
    for (uint32_t d = 0; d < t->rank; d++) {
      int64_t x = origin[d] + (int64_t)(rest % t->box[d]);
      rest /= t->box[d];
      inside &= x >= 0 && (uint64_t)x < t->size[d];
      address += (uint64_t)x * (d ? t->stride[d - 1] : size);
    }
    uint64_t offset = ptx_swizzle(t->swizzle, to + e * size);
    if (offset + size > w->machine->shared_bytes) {
      ptx_stop(w, PTX_BAD_ADDRESS, -1, "a box of %llu bytes at shared address 0x%llx",
               (unsigned long long)(n * size), (unsigned long long)to);
      return false;
    }
    uint8_t *here = cta->shared + offset;
    uint8_t *there = inside ? ptx_resolve_quiet(w, PS_global, address, size, store) : NULL;
    if (inside && !there) return false;
    if (!store) {
      if (there)
        memcpy(here, there, size);
      else
        memset(here, 0, size);
      memset(cta->written + offset, 1, size);
      ptx_race_land(w, known, cta, offset, size);
    } else if (there) {
      memcpy(there, here, size);
    }
  }
  return true;
}

static void land(ptx_machine *m, ptx_bulk *b) {
  const ptx_ins *before = m->at;
  m->at = b->at;
  bool good = true;
  m->landed++;
  if (b->tensor) {
    good = walk_box(b->warp, &b->map, b->origin, b->cta, b->to, false, b->known);
  } else {
    uint8_t *from = ptx_resolve_quiet(b->warp, PS_global, b->from, b->bytes, false);
    uint8_t *to = ptx_resolve_quiet(b->warp, PS_shared, b->to | (uint64_t)b->cta->rank << PTX_SHARED_RANK,
                                    b->bytes, true);
    good = from && to;
    if (good) memcpy(to, from, b->bytes);
    if (good) ptx_race_land(b->warp, b->known, b->cta, b->to, b->bytes);
  }
  if (good) ptx_mbarrier_landed(m, b->mbarrier, b->bytes);
  m->at = before;
}

bool ptx_bulk_land(ptx_machine *m, int mbarrier) {
  for (uint32_t k = 0; k < m->flying.count; k++) {
    ptx_bulk *b = m->flying.items[k];
    if (mbarrier >= 0 && b->mbarrier != (uint32_t)mbarrier) continue;
    memmove(m->flying.items + k, m->flying.items + k + 1,
            (m->flying.count - k - 1) * sizeof *m->flying.items);
    m->flying.count--;
    land(m, b);
    tn_mem_free(b->known);
    tn_mem_free(b);
    return true;
  }
  return false;
}

static const ptx_tensor_map *map_of(ptx_warp *w, uint64_t address, uint32_t lane, const ptx_ins *i) {
  ptx_place p = ptx_resolve(w, PS_generic, address, 128, 64, (int)lane, 0);
  const ptx_tensor_map *t = (const ptx_tensor_map *)(const void *)p.data;
  uint32_t rank = ptx_has(i, PM__1d)   ? 1
                  : ptx_has(i, PM__2d) ? 2
                  : ptx_has(i, PM__3d) ? 3
                  : ptx_has(i, PM__4d) ? 4
                                       : 5;
  if (!t) return NULL;
  if (t->mark == PTX_TENSOR_MAP && t->rank == rank) return t;
  ptx_stop(w, PTX_ILLEGAL, (int)lane,
           t->mark == PTX_TENSOR_MAP ? "a tensor map of rank %u for %u coordinates" : "no tensor map there",
           t->rank, rank);
  return NULL;
}

static uint64_t box_bytes(const ptx_tensor_map *t) {
  uint64_t n = t->element;
  for (uint32_t d = 0; d < t->rank; d++) n *= t->box[d];
  return n;
}

/* Sends a copy on its way; `one` becomes the machine's. */
static void fly(ptx_warp *w, const ptx_bulk *one, uint32_t lane) {
  ptx_bulk *b = tn_mem_alloc(sizeof *b);
  if (!b || !tn_vec_push(&w->machine->flying, b)) {
    tn_mem_free(b);
    ptx_stop(w, PTX_NO_MEMORY, (int)lane, "no memory");
    return;
  }
  *b = *one;
  if (w->clock) b->known = tn_mem_alloc(w->machine->nclocks * sizeof *b->known);
  ptx_clock_join(w->machine, b->known, w->clock);
}

static void coordinates(ptx_warp *w, const ptx_arg *a, uint32_t lane, uint32_t rank, int32_t *out) {
  const ptx_arg *list = a->count && a->items[0].kind == PK_LIST ? &a->items[0] : a;
  for (uint32_t d = 0; d < rank && d < list->count; d++) out[d] = (int32_t)ptx_get(w, &list->items[d], lane);
}

/* Tensor or row to shared memory, signalling an mbarrier; .multicast: to several CTAs of the cluster. */
static void load(ptx_warp *w, const ptx_ins *i, uint32_t lane) {
  bool tensor = ptx_has(i, PM_tensor);
  const ptx_arg *bar = &i->args[tensor ? 2 : 3];
  ptx_bulk b = {.warp = w, .at = i, .tensor = tensor, .from = ptx_address(w, &i->args[1], lane)};
  uint64_t to = ptx_address(w, &i->args[0], lane), low = (1u << PTX_SHARED_RANK) - 1;
  if (to >> 56 == 1) to &= (1ull << 56) - 1;
  uint64_t barrier = ptx_address(w, bar, lane), mask = 0;
  if (tensor) {
    const ptx_tensor_map *t = map_of(w, b.from, lane, i);
    if (!t) return;
    b.map = *t;
    b.bytes = (uint32_t)box_bytes(t);
    coordinates(w, &i->args[1], lane, t->rank, b.origin);
  } else {
    b.bytes = (uint32_t)ptx_get(w, &i->args[2], lane);
  }
  if ((to & low) % (tensor ? 128 : 16) || b.bytes % 16 || (!tensor && b.from % 16)) {
    ptx_stop(w, PTX_MISALIGNED, (int)lane, "%u bytes to shared address 0x%llx", b.bytes,
             (unsigned long long)to);
    return;
  }
  if (ptx_has(i, PM_multicast_cluster)) mask = ptx_get(w, bar + 1, lane) & 0xffff;
  b.to = to & low;
  for (uint32_t rank = 0; rank < 16; rank++) {
    if (mask ? !(mask >> rank & 1) : rank != to >> PTX_SHARED_RANK) continue;
    b.cta = ptx_cta_of_rank(w->cta, w->machine, rank);
    if (!b.cta) {
      ptx_stop(w, PTX_BAD_ADDRESS, (int)lane, "there is no CTA %u in the cluster", rank);
      return;
    }
    uint64_t home = mask ? (barrier & low) | (uint64_t)rank << PTX_SHARED_RANK : barrier;
    b.mbarrier = ptx_mbarrier_find(w, PS_shared, home & ((1ull << 56) - 1), (int)lane);
    if (b.mbarrier == UINT32_MAX) return;
    fly(w, &b, lane);
  }
}

/* Shared memory to a tensor or to a row of global memory; done at once, since its source may be changed only
 * after the group was waited for, which is checked by the counts. */
static void store(ptx_warp *w, const ptx_ins *i, uint32_t lane) {
  uint64_t low = (1u << PTX_SHARED_RANK) - 1;
  if (ptx_has(i, PM_tensor)) {
    const ptx_tensor_map *t = map_of(w, ptx_address(w, &i->args[0], lane), lane, i);
    int32_t origin[5] = {0};
    if (!t) return;
    coordinates(w, &i->args[0], lane, t->rank, origin);
    walk_box(w, t, origin, w->cta, ptx_address(w, &i->args[1], lane) & low, true, NULL);
    return;
  }
  uint64_t bytes = ptx_get(w, &i->args[2], lane) & UINT32_MAX;
  uint8_t *from = ptx_resolve_quiet(w, PS_shared, ptx_address(w, &i->args[1], lane), bytes, false);
  uint8_t *to = ptx_resolve_quiet(w, PS_global, ptx_address(w, &i->args[0], lane), bytes, true);
  if (from && to) memcpy(to, from, bytes);
}

static void groups(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  PTX_EACH(l, mask) {
    if (ptx_has(i, PM_commit_group))
      w->group_open[l]++;
    else
      finish_groups(w, l,
                    ptx_has(i, PM_wait_all)
                        ? w->group_open[l] + 1
                        : w->group_open[l] - (uint32_t)(i->args[0].value < w->group_open[l]
                                                            ? i->args[0].value
                                                            : w->group_open[l]));
    if (ptx_has(i, PM_wait_all)) w->group_open[l]++;
  }
}

void ptx_run_cp(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  bool bulk = ptx_has(i, PM_bulk);
  if (!bulk && (ptx_has(i, PM_commit_group) || ptx_has(i, PM_wait_group) || ptx_has(i, PM_wait_all))) {
    groups(w, i, mask);
  } else if (!bulk && ptx_has(i, PM_mbarrier)) {
    arrive_after(w, i, mask);
  } else if (!bulk) {
    issue(w, i, mask);
  } else if (!ptx_has(i, PM_commit_group) && !ptx_has(i, PM_wait_group) && !ptx_has(i, PM_prefetch)) {
    bool loads = ptx_has(i, PM_mbarrier_complete_tx_bytes);
    PTX_EACH(l, mask) {
      if (loads)
        load(w, i, l);
      else
        store(w, i, l);
    }
  }
}

void ptx_async_end(ptx_machine *m) {
  for (uint32_t k = 0; k < m->flying.count; k++) {
    tn_mem_free(m->flying.items[k]->known);
    tn_mem_free(m->flying.items[k]);
  }
  m->flying.count = 0;
  for (uint32_t k = 0; k < m->mbarriers.count; k++) {
    tn_mem_free(m->mbarriers.items[k]->clock);
    tn_mem_free(m->mbarriers.items[k]);
  }
  m->mbarriers.count = 0;
}
