/* memory.c - zeroed pages for states, slots and scratch, straight from the system: large, aligned, returned
 * whole. */
#include "backends/runtime/rt.h"
#include <sys/mman.h>

enum { PAGE = 4096, HUGE_PAGE = 2 << 20 };

bool tn_rt_memory_grow(tn_rt_memory *m, uint64_t bytes) {
  if (bytes <= m->bytes) return true;
  if (bytes > SIZE_MAX / 2) return false;
  bytes = tn_align_up(bytes, bytes >= HUGE_PAGE ? HUGE_PAGE : PAGE);
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return false;
  if (bytes >= HUGE_PAGE) madvise(p, bytes, MADV_HUGEPAGE); /* a wish; fewer misses where it is granted */
  tn_rt_memory_free(m);
  *m = (tn_rt_memory){p, bytes};
  return true;
}

bool tn_rt_memory_extend(tn_rt_memory *m, uint64_t bytes) {
  if (bytes <= m->bytes) return true;
  if (!m->bytes) return tn_rt_memory_grow(m, bytes);
  if (bytes > SIZE_MAX / 2) return false;
  bytes = tn_align_up(bytes, bytes >= HUGE_PAGE ? HUGE_PAGE : PAGE);
  void *p = mremap(m->base, m->bytes, bytes, MREMAP_MAYMOVE);
  if (p == MAP_FAILED) return false;
  *m = (tn_rt_memory){p, bytes};
  return true;
}

void tn_rt_memory_free(tn_rt_memory *m) {
  if (m->bytes) munmap(m->base, m->bytes);
  *m = (tn_rt_memory){0};
}
