/* mem.c - the heap with its failure switch for tests, arenas, and the growth of arrays. The switch is the one
 * piece of state, and it is per thread. */
#include "ir/base/base.h"
#include <stdio.h>
#include <stdlib.h>

static _Thread_local long fail_after = -1;

void tn_mem_fail_after(long n) { fail_after = n; }

/* True when this allocation is the one that must fail; from then on all do, as when memory has really run
 * out. */
static bool must_fail(void) {
  if (fail_after < 0) return false;
  if (fail_after == 0) return true;
  fail_after--;
  return false;
}

void *tn_mem_alloc(size_t bytes) { return must_fail() ? NULL : calloc(1, bytes ? bytes : 1); }
void *tn_mem_resize(void *p, size_t bytes) { return must_fail() ? NULL : realloc(p, bytes ? bytes : 1); }
void tn_mem_free(void *p) { free(p); }

struct tn_arena_block {
  tn_arena_block *next;
  uint64_t size, used; /* of the bytes behind this header */
};
#define BLOCK_MIN 4096u
#define BLOCK_MAX (1u << 20)
_Static_assert(sizeof(tn_arena_block) <= 32, "the header leaves room for alignment");
#define BLOCK_HEAD 32u /* a multiple of 16 */

void tn_arena_init(tn_arena *a) { memset(a, 0, sizeof *a); }

void tn_arena_fini(tn_arena *a) {
  for (tn_arena_block *b = a->head, *next; b; b = next) {
    next = b->next;
    tn_mem_free(b);
  }
  memset(a, 0, sizeof *a);
}

/* Large requests get a block of their own behind the head, so that the head's free room is not lost. */
static tn_arena_block *arena_grow(tn_arena *a, uint64_t need) {
  uint64_t size = a->head ? a->head->size * 2 : BLOCK_MIN;
  if (size > BLOCK_MAX) size = BLOCK_MAX;
  bool own = need > size / 2 && a->head;
  if (need > size || own) size = need;
  if (size > SIZE_MAX - BLOCK_HEAD) return NULL;
  tn_arena_block *b = tn_mem_alloc((size_t)size + BLOCK_HEAD);
  if (!b) return NULL;
  b->size = size;
  tn_arena_block **at = own ? &a->head->next : &a->head;
  b->next = *at;
  *at = b;
  return b;
}

void *tn_arena_alloc(tn_arena *a, size_t bytes) {
  uint64_t need;
  if (!tn_add_u64(bytes, 15, &need)) {
    a->failed = true;
    return NULL;
  }
  need &= ~(uint64_t)15;
  if (!need) need = 16;
  tn_arena_block *b = a->head;
  if (!b || b->size - b->used < need) b = arena_grow(a, need);
  if (!b) {
    a->failed = true;
    return NULL;
  }
  void *p = (char *)b + BLOCK_HEAD + b->used;
  b->used += need;
  a->used += need;
  return p;
}

void *tn_arena_copy(tn_arena *a, const void *p, size_t bytes) {
  void *q = tn_arena_alloc(a, bytes);
  if (q && bytes) memcpy(q, p, bytes);
  return q;
}

char *tn_arena_str(tn_arena *a, tn_str s) {
  if (s.len == SIZE_MAX) return NULL;
  char *q = tn_arena_alloc(a, (size_t)s.len + 1);
  if (q && s.len) memcpy(q, s.ptr, (size_t)s.len);
  return q;
}

char *tn_arena_printf(tn_arena *a, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(NULL, 0, fmt, ap);
  va_end(ap);
  char *q = n < 0 ? NULL : tn_arena_alloc(a, (size_t)n + 1);
  if (!q) return NULL;
  va_start(ap, fmt);
  vsnprintf(q, (size_t)n + 1, fmt, ap);
  va_end(ap);
  return q;
}

bool tn_vec_reserve_(void *items, uint32_t *capacity, uint32_t need, size_t item) {
  if (need <= *capacity && need) return true;
  uint64_t want = *capacity ? (uint64_t)*capacity * 2 : 8;
  if (want < need) want = need;
  if (want > UINT32_MAX) want = UINT32_MAX;
  uint64_t bytes;
  /* need is 0 when count + 1 wrapped around. */
  if (!need || !tn_mul_u64(want, item, &bytes) || bytes > SIZE_MAX) return false;
  void *p;
  memcpy(&p, items, sizeof p);
  p = tn_mem_resize(p, (size_t)bytes);
  if (!p) return false;
  memcpy(items, &p, sizeof p);
  *capacity = (uint32_t)want;
  return true;
}
