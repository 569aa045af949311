/* base.h - what every part of tenon may use: allocation, arenas, growable arrays, maps, strings, checked
 * sizes, mapped files, atomic output files, hashing. libc only. All functions return tn_status or cannot
 * fail; the words of an error go to a tn_diags (diag.h). */
#ifndef TN_BASE_H
#define TN_BASE_H
#include "tenon/plugin.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#define TN_TRY(expr)                                                                                         \
  do {                                                                                                       \
    tn_status tn_try_ = (expr);                                                                              \
    if (tn_try_ != TN_OK) return tn_try_;                                                                    \
  } while (0)
#define TN_COUNT(a) (sizeof(a) / sizeof *(a))
#define TN_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

/* ---- memory
 * ------------------------------------------------------------------------------------------------ */
/* Heap with a failure switch for tests: after tn_mem_fail_after(n) the n-th allocation from now gives NULL
 * (negative: never, the default). Per thread. */
void *tn_mem_alloc(size_t bytes);           /* zeroed; NULL: no memory */
void *tn_mem_resize(void *p, size_t bytes); /* the new part is not zeroed */
void tn_mem_free(void *p);
void tn_mem_fail_after(long n);

/* a*b and a+b in uint64; false on overflow. */
static inline bool tn_mul_u64(uint64_t a, uint64_t b, uint64_t *r) {
  return !__builtin_mul_overflow(a, b, r);
}
static inline bool tn_add_u64(uint64_t a, uint64_t b, uint64_t *r) {
  return !__builtin_add_overflow(a, b, r);
}
static inline uint64_t tn_align_up(uint64_t x, uint64_t a) { return (x + a - 1) / a * a; }

/* Arena: allocations that live and die together. Never returns NULL after a failed reserve: it records the
 * failure (`failed`) and returns NULL once; callers check the pointer. Zeroed, 16-byte aligned. */
typedef struct tn_arena_block tn_arena_block;
typedef struct tn_arena {
  tn_arena_block *head;
  uint64_t used;
  bool failed;
} tn_arena;
void tn_arena_init(tn_arena *a);
void tn_arena_fini(tn_arena *a);
void *tn_arena_alloc(tn_arena *a, size_t bytes);
void *tn_arena_copy(tn_arena *a, const void *p, size_t bytes);
char *tn_arena_str(tn_arena *a, tn_str s); /* NUL-terminated copy */
char *tn_arena_printf(tn_arena *a, const char *fmt, ...) TN_PRINTF(2, 3);

/* Growable array of plain values: `TN_VEC(int) v = {0}; tn_vec_push(&v, 3); v.items[0]; tn_vec_fini(&v)`. */
#define TN_VEC(T)                                                                                            \
  struct {                                                                                                   \
    T *items;                                                                                                \
    uint32_t count, capacity;                                                                                \
  }
bool tn_vec_reserve_(void *items, uint32_t *capacity, uint32_t need, size_t item);
#define tn_vec_reserve(v, n) tn_vec_reserve_(&(v)->items, &(v)->capacity, (n), sizeof *(v)->items)
/* false: no memory, nothing pushed */
#define tn_vec_push(v, x)                                                                                    \
  (tn_vec_reserve((v), (v)->count + 1) ? ((v)->items[(v)->count++] = (x), true) : false)
#define tn_vec_fini(v) (tn_mem_free((v)->items), (v)->items = NULL, (v)->count = (v)->capacity = 0)

/* ---- strings
 * ----------------------------------------------------------------------------------------------- */
static inline tn_str tn_str_of(const char *s) { return (tn_str){s, s ? strlen(s) : 0}; }
#define TN_STR(lit) ((tn_str){lit, sizeof(lit) - 1})
bool tn_str_eq(tn_str a, tn_str b);
bool tn_str_is(tn_str a, const char *b);
bool tn_str_starts(tn_str a, const char *prefix);
bool tn_str_ends(tn_str a, const char *suffix);
bool tn_utf8_valid(tn_str s, uint64_t *bad_at); /* strict: no surrogates, no overlong forms */
/* Edit distance for "did you mean"; index of the nearest of n names within distance 3, or -1. */
int tn_str_nearest(const char *name, const char *const *names, int n);

/* Growing text; a failed allocation sets `failed` and drops the rest. Always NUL-terminated (text may be NULL
 * only while empty: use tn_buf_cstr). */
typedef struct tn_buf {
  char *text;
  uint64_t len, capacity;
  bool failed;
} tn_buf;
void tn_buf_fini(tn_buf *b);
void tn_buf_put(tn_buf *b, const void *p, uint64_t n);
void tn_buf_puts(tn_buf *b, const char *s);
void tn_buf_printf(tn_buf *b, const char *fmt, ...) TN_PRINTF(2, 3);
void tn_buf_vprintf(tn_buf *b, const char *fmt, va_list ap);
void tn_buf_json(tn_buf *b, tn_str s); /* quoted and escaped as JSON */
const char *tn_buf_cstr(tn_buf *b);

/* ---- maps
 * -------------------------------------------------------------------------------------------------- */
/* String -> uint64. Keys are copied. Iterates in insertion order: map.entries[0 .. map.count). */
typedef struct tn_map_entry {
  const char *key;
  uint64_t len, hash, value;
} tn_map_entry;
typedef struct tn_map {
  tn_map_entry *entries;
  uint32_t *index;
  uint32_t count, capacity, nindex;
  tn_arena keys;
} tn_map;
void tn_map_init(tn_map *m);
void tn_map_fini(tn_map *m);
bool tn_map_get(const tn_map *m, tn_str key, uint64_t *value);
tn_status tn_map_put(tn_map *m, tn_str key, uint64_t value, bool *was_there); /* was_there may be NULL */

/* ---- hashing
 * ------------------------------------------------------------------------------------------------ */
uint64_t tn_hash_bytes(const void *p, uint64_t n, uint64_t seed); /* fast, stable across machines and runs */
typedef struct tn_sha256 {
  uint32_t h[8];
  uint64_t bytes;
  uint8_t tail[64];
} tn_sha256;
void tn_sha256_init(tn_sha256 *s);
void tn_sha256_add(tn_sha256 *s, const void *p, uint64_t n);
void tn_sha256_hex(tn_sha256 *s, char out[65]);

/* Philox 4x32-10 (Salmon et al. 2011): four 32-bit words for a counter and a key. */
void tn_philox(uint64_t counter, uint64_t key, uint32_t out[4]);

/* ---- floats
 * ------------------------------------------------------------------------------------------------- */
float tn_f16_to_f32(uint16_t h);
uint16_t tn_f32_to_f16(float f); /* to nearest even */
static inline float tn_bf16_to_f32(uint16_t h) {
  union {
    uint32_t u;
    float f;
  } x = {(uint32_t)h << 16};
  return x.f;
}
uint16_t tn_f32_to_bf16(float f); /* to nearest even; NaN stays NaN */
/* Floats of 8 and 4 bits. FNUZ: no infinities, no -0, the code of -0 is NaN. f4e2m1 has neither infinity nor
 * NaN: it always saturates, and NaN becomes -0. */
typedef enum tn_f8 { TN_F8E4M3, TN_F8E5M2, TN_F8E4M3FNUZ, TN_F8E5M2FNUZ, TN_F4E2M1 } tn_f8;
float tn_f8_to_f32(tn_f8 form, uint8_t code);
/* To nearest even. Beyond the largest number: that number, or infinity or NaN, whichever the form has. */
uint8_t tn_f32_to_f8(tn_f8 form, float f, bool saturate);
static inline float tn_f8e4m3_to_f32(uint8_t h) { return tn_f8_to_f32(TN_F8E4M3, h); }
static inline float tn_f8e5m2_to_f32(uint8_t h) { return tn_f8_to_f32(TN_F8E5M2, h); }
/* As arithmetic in these types rounds: e4m3 saturates to 448, e5m2 overflows to infinity. */
static inline uint8_t tn_f32_to_f8e4m3(float f) { return tn_f32_to_f8(TN_F8E4M3, f, true); }
static inline uint8_t tn_f32_to_f8e5m2(float f) { return tn_f32_to_f8(TN_F8E5M2, f, false); }
/* f8e8m0: powers of two, 2^-127 to 2^127, and NaN (0xff). The sign is lost; 0 becomes 2^-127. `up`: 1 to the
 * next power above, -1 below, 0 to the nearer one. */
float tn_f8e8m0_to_f32(uint8_t code);
uint8_t tn_f32_to_f8e8m0(float f, int up, bool saturate);

/* ---- files
 * -------------------------------------------------------------------------------------------------- */
/* A read-only mapped file. Empty files map to data = "", size 0. */
typedef struct tn_file {
  const uint8_t *data;
  uint64_t size;
  int fd;
} tn_file;
/* TN_NOT_FOUND, TN_UNAVAILABLE (not a regular file, no permission), TN_OOM; *why is static text. */
tn_status tn_file_map(tn_file *f, const char *path, const char **why);
void tn_file_unmap(tn_file *f);
bool tn_path_exists(const char *path);
bool tn_path_is_dir(const char *path);
char *tn_path_join(tn_arena *a, const char *dir, const char *name);

/* An output that appears whole or not at all: written to a temporary file beside `path`, renamed by commit.
 */
typedef struct tn_outfile {
  int fd;
  char *path, *tmp;
  uint64_t size;
} tn_outfile;
tn_status tn_outfile_open(tn_outfile *o, const char *path, const char **why);
tn_status tn_outfile_write(tn_outfile *o, const void *p, uint64_t n); /* buffered by the caller */
/* It will have n bytes: a full disk shows now, and writing is faster. */
tn_status tn_outfile_reserve(tn_outfile *o, uint64_t n);
/* False: a device or pipe, which takes bytes in order only. */
bool tn_outfile_seekable(const tn_outfile *o);
/* Adds n bytes to the end of a seekable one. They are for tn_outfile_put, which may be called on
 * several threads; what is not put is zeros. */
tn_status tn_outfile_extend(tn_outfile *o, uint64_t n);
tn_status tn_outfile_put(tn_outfile *o, uint64_t at, const void *p, uint64_t n);
tn_status tn_outfile_commit(tn_outfile *o, uint32_t mode); /* mode: permission bits, e.g. 0644 */
void tn_outfile_abort(tn_outfile *o);                      /* removes the temporary file; safe after commit */

double tn_now(void); /* monotonic seconds */

/* ---- threads
 * ------------------------------------------------------------------------------------------------ */
uint32_t tn_processors(void); /* that this process may use: at least 1, at most 256 */
/* Calls fn for every i below n, on up to `threads` threads of which the caller is one; `thread` is below that
 * number and tells them apart. After a failure no more pieces are begun; the first one's status is returned.
 */
tn_status tn_parallel(uint32_t threads, uint32_t n, tn_status (*fn)(void *ctx, uint32_t thread, uint32_t i),
                      void *ctx);

#endif
