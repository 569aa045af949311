/* memory.c - the address spaces. Global memory: allocations in a range of addresses of its own, never used
 * twice, so that what is behind an end, or freed, is found. Shared, local and parameter memory have windows
 * among the generic addresses. */
#include "tests/ptx/inside.h"

#define FIRST_ADDRESS 0x7000000000ull
enum { GAP = 4096, POISON = 0xcb };

typedef struct allocation {
  uint64_t base, bytes;
  uint8_t *data, *written; /* NULL: freed */
} allocation;
struct ptx_memory {
  TN_VEC(allocation) list; /* by address */
  uint64_t next;
  uint32_t last; /* found last */
};

ptx_memory *ptx_memory_new(uint32_t device) {
  ptx_memory *m = tn_mem_alloc(sizeof *m);
  if (m) m->next = FIRST_ADDRESS + ((uint64_t)device << 42);
  return m;
}

void ptx_memory_free(ptx_memory *m) {
  if (!m) return;
  for (uint32_t i = 0; i < m->list.count; i++)
    tn_mem_free(m->list.items[i].data), tn_mem_free(m->list.items[i].written);
  tn_vec_fini(&m->list);
  tn_mem_free(m);
}

uint64_t ptx_alloc(ptx_memory *m, uint64_t bytes) {
  allocation a = {.base = m->next, .bytes = bytes};
  if (!bytes || bytes > 1ull << 40) return 0;
  a.data = tn_mem_alloc(bytes);
  a.written = tn_mem_alloc(bytes);
  if (!a.data || !a.written || !tn_vec_push(&m->list, a))
    return tn_mem_free(a.data), tn_mem_free(a.written), 0;
  memset(a.data, POISON, bytes);
  m->next += tn_align_up(bytes, 256) + GAP;
  return a.base;
}

/* The last allocation at or before the address; NULL: none. */
static allocation *find(ptx_memory *m, uint64_t address) {
  if (m->last < m->list.count) {
    allocation *a = &m->list.items[m->last];
    if (address - a->base < a->bytes) return a;
  }
  uint32_t lo = 0, hi = m->list.count;
  while (lo < hi) {
    uint32_t mid = (lo + hi) / 2;
    if (m->list.items[mid].base <= address)
      lo = mid + 1;
    else
      hi = mid;
  }
  if (!lo) return NULL;
  m->last = lo - 1;
  return &m->list.items[lo - 1];
}

bool ptx_release(ptx_memory *m, uint64_t address) {
  allocation *a = find(m, address);
  if (!a || a->base != address || !a->data) return false;
  tn_mem_free(a->data), tn_mem_free(a->written);
  a->data = a->written = NULL;
  return true;
}

void *ptx_host(ptx_memory *m, uint64_t address, uint64_t bytes, bool write) {
  allocation *a = find(m, address);
  if (!a || !a->data || address - a->base > a->bytes || bytes > a->bytes - (address - a->base)) return NULL;
  if (write) memset(a->written + (address - a->base), 1, bytes);
  return a->data + (address - a->base);
}

bool ptx_range_of(ptx_memory *m, uint64_t address, uint64_t *base, uint64_t *bytes) {
  allocation *a = find(m, address);
  if (!a || !a->data || address - a->base >= a->bytes) return false;
  *base = a->base;
  *bytes = a->bytes;
  return true;
}

/* ---- from a kernel
 * ------------------------------------------------------------------------------------------------- */
static const char *const space_names[] = {"generic", "global", "shared", "local", "param", "const"};

/* The written-marks of shared and global memory: looked at, or set. */
static bool marks(ptx_warp *w, uint8_t *written, uint64_t bytes, int write, ptx_space space, uint64_t address,
                  int lane) {
  if (write == 1) {
    memset(written, 1, bytes);
    return true;
  }
  if (w->machine->launch->flags & PTX_CHECK_UNWRITTEN)
    for (uint64_t i = 0; i < bytes; i++)
      if (!written[i]) {
        ptx_stop(w, PTX_UNWRITTEN, lane, "%s address 0x%llx is read, and byte %llu of %llu was never written",
                 space_names[space], (unsigned long long)address, (unsigned long long)i,
                 (unsigned long long)bytes);
        return false;
      }
  if (write) memset(written, 1, bytes);
  return true;
}

static ptx_place global_place(ptx_warp *w, uint64_t address, uint64_t bytes, int lane, int write) {
  allocation *a = find(w->machine->memory, address);
  ptx_place p = {.space = PS_global};
  unsigned long long at = address, n = bytes;
  if (!a || address - a->base >= tn_align_up(a->bytes, 256) + GAP) {
    ptx_stop(w, PTX_BAD_ADDRESS, lane, "global address 0x%llx is in no allocation", at);
  } else if (!a->data) {
    ptx_stop(w, PTX_BAD_ADDRESS, lane, "global address 0x%llx was freed", at);
  } else if (address - a->base > a->bytes || bytes > a->bytes - (address - a->base)) {
    ptx_stop(w, PTX_BAD_ADDRESS, lane,
             "%llu bytes at 0x%llx go beyond the allocation of %llu bytes at 0x%llx by %llu", n, at,
             (unsigned long long)a->bytes, (unsigned long long)a->base,
             (unsigned long long)(address + bytes - a->base - a->bytes));
  } else if (marks(w, a->written + (address - a->base), bytes, write, PS_global, address, lane)) {
    p.data = a->data + (address - a->base);
    p.offset = address - a->base;
  }
  return p;
}

ptx_cta *ptx_cta_of_rank(const ptx_cta *cta, const ptx_machine *m, uint64_t rank) {
  uint64_t size = (uint64_t)m->cluster[0] * m->cluster[1] * m->cluster[2];
  return rank < size ? &m->ctas[cta->cluster * size + rank] : NULL;
}

static ptx_place shared_place(ptx_warp *w, uint64_t address, uint64_t bytes, int lane, int write) {
  ptx_machine *m = w->machine;
  uint64_t offset = address & ((1u << PTX_SHARED_RANK) - 1);
  ptx_cta *cta = ptx_cta_of_rank(w->cta, m, address >> PTX_SHARED_RANK);
  ptx_place p = {.space = PS_shared, .cta = cta, .offset = offset};
  if (!cta || offset + bytes > m->shared_bytes) {
    ptx_stop(w, PTX_BAD_ADDRESS, lane, "%llu bytes at shared address 0x%llx: the CTA has %llu bytes",
             (unsigned long long)bytes, (unsigned long long)address, (unsigned long long)m->shared_bytes);
    return p;
  }
  if (!marks(w, cta->written + offset, bytes, write, PS_shared, address, lane)) return p;
  p.data = cta->shared + offset;
  if (m->launch->flags & PTX_CHECK_RACES && lane >= 0)
    ptx_race_check(w, cta, offset, bytes, lane, write != 0);
  return p;
}

static ptx_place small_place(ptx_warp *w, ptx_space space, uint64_t address, uint64_t bytes, int lane,
                             int write) {
  const ptx_kernel_info *k = &w->machine->kernel->info;
  uint64_t size = space == PS_local ? k->local_bytes : k->param_bytes;
  ptx_place p = {.space = space, .offset = address};
  if (address > size || bytes > size - address || (space == PS_param && write))
    ptx_stop(w, PTX_BAD_ADDRESS, lane, "%llu bytes at %s address %llu%s: there are %llu",
             (unsigned long long)bytes, space_names[space], (unsigned long long)address,
             write ? " are written" : "", (unsigned long long)size);
  else if (space == PS_local)
    p.data = w->cta->local + (w->index * PTX_LANES + (uint32_t)lane) * size + address;
  else
    p.data = (uint8_t *)(uintptr_t)w->machine->launch->params + address; /* read only: `write` was refused */
  return p;
}

ptx_place ptx_resolve(ptx_warp *w, ptx_space space, uint64_t address, uint64_t bytes, uint64_t align,
                      int lane, int write) {
  if (address & (align - 1)) {
    ptx_stop(w, PTX_MISALIGNED, lane, "%s address 0x%llx is no multiple of %llu", space_names[space],
             (unsigned long long)address, (unsigned long long)align);
    return (ptx_place){.space = space};
  }
  uint64_t window = space == PS_generic ? address >> 56 : 0, low = address & ((1ull << 56) - 1);
  if (space == PS_shared || window == 1) return shared_place(w, low, bytes, lane, write);
  if (space == PS_local || window == 2) return small_place(w, PS_local, low, bytes, lane, write);
  if (space == PS_param || window == 3) return small_place(w, PS_param, low, bytes, lane, write);
  if (space == PS_const && write) {
    ptx_stop(w, PTX_BAD_ADDRESS, lane, "constant memory is written");
    return (ptx_place){.space = space};
  }
  return global_place(w, address, bytes, lane, write);
}

uint8_t *ptx_resolve_quiet(ptx_warp *w, ptx_space space, uint64_t address, uint64_t bytes, bool write) {
  return ptx_resolve(w, space, address, bytes, 1, -1, write).data;
}

uint64_t ptx_address(ptx_warp *w, const ptx_arg *a, uint32_t lane) {
  uint64_t v = a->value;
  if (a->kind == PK_ADDRESS && a->reg >= 0) v += w->regs[(uint32_t)a->reg * PTX_LANES + lane];
  if (a->relative == 2) v += tn_align_up(w->machine->kernel->info.shared_bytes, 1024);
  if (a->relative == 1 || a->relative == 2) v += (uint64_t)w->cta->rank << PTX_SHARED_RANK;
  return v;
}
