/* attention.h - what the ways of writing attention share: rows by tiles and tensor cores (flash.c), and
 * few rows, or any type, by fma straight from the keys as they lie (few.c).
 *
 * A row is a pair (query, head of the group) of one batch entry and key/value head. Keys go by their
 * position; where they stand in a ring only tn_cuda_att_key_row knows. Positions fit i32.
 *
 * A step of decoding is attention of one query that also writes the newest key and value, of which its own
 * position is the number, into their caches (step.c): one kernel instead of four. */
#ifndef TN_CUDA_ATTENTION_H
#define TN_CUDA_ATTENTION_H
#include "backends/cuda/warp.h"

enum { TN_CUDA_Q8_VALUES = 32, TN_CUDA_Q8_BYTES = 34 }; /* a block of q8_0: f16 scale, signed bytes */
enum { TN_CUDA_ATT_FEW_ROWS = 16 };                     /* of a group: more of 16-bit floats go by tiles */
#define TN_CUDA_LOG2E 1.4426950408889634074

/* Keys or values: rows of a buffer, or what the evaluator gives. */
typedef struct tn_cuda_att_side {
  tn_value v, fresh; /* fresh: the newest row, where this kernel writes it; 0: it does not */
  uint32_t out;      /* then: the cache's number among the kernel's results */
  tn_type_info t;
  bool buffer;
  ll_val base; /* global: row 0 of the block's batch entry and head; set by tn_cuda_att_unit */
  ll_val step; /* bytes from row to row: i64 */
} tn_cuda_att_side;

typedef struct tn_cuda_att {
  tn_cuda_kernel *k;
  tn_value q, mask, bias, first, out; /* 0: absent */
  tn_cuda_att_side key, value;
  tn_type_info tq, to;
  double scale, softcap;
  int64_t window, h, hkv, d, dv, g; /* g: query heads per key head */
  bool causal, ring;
  bool single;              /* one query, which sees every key of its range */
  tn_dim batches, s, keys;  /* sizes: queries, keys */
  ll_val nq, t, last;       /* of the launch: queries, keys, t - nq; i64 */
  ll_val rows, lap, oldest; /* ring: its rows; the position in row 0 of this lap; the first that is there */
  ll_val b, hk;             /* of the block: i64 */
  ll_val least;             /* the first key that may be seen, i64; NULL: 0 */
  ll_val now;               /* what `out` is at the element being stored, f32 */
} tn_cuda_att;

/* ---- attention.c: in a launch ---- */
void tn_cuda_att_open(tn_cuda_att *a);                      /* first of all */
void tn_cuda_att_unit(tn_cuda_att *a, ll_val b, ll_val hk); /* i64: of this block */
/* Keys [lo, hi) (i32) that some of the rows r0 .. r0 + n (i64, n > 0) may see. */
void tn_cuda_att_range(tn_cuda_att *a, ll_val r0, ll_val n, ll_val *lo, ll_val *hi);
/* Query and head (i64) of row r (i64) of the unit. */
void tn_cuda_att_row(tn_cuda_att *a, ll_val r, ll_val *query, ll_val *head);
/* The row (i64) where key (i32) stands. */
ll_val tn_cuda_att_key_row(tn_cuda_att *a, ll_val key);
/* `wide` features from feature j (i32) on of row `row` (i64), as f32: a vector, or a number for wide 1. */
ll_val tn_cuda_att_load(tn_cuda_att *a, const tn_cuda_att_side *s, ll_val row, ll_val j, uint32_t wide);
/* The same of a query. */
ll_val tn_cuda_att_load_query(tn_cuda_att *a, ll_val query, ll_val head, ll_val j, uint32_t wide);
/* Are scores changed by more than positions? */
static inline bool tn_cuda_att_touches(const tn_cuda_att *a) { return a->mask || a->bias || a->softcap > 0; }
/* Narrows `in` (i1) to what the query at position `at` (i32, a key's number) sees of key (i32). */
ll_val tn_cuda_att_sees(tn_cuda_att *a, ll_val in, ll_val at, ll_val key);
/* The score x (f32) of a query for a key (i32, which is there), and `in` narrowed by the mask. */
ll_val tn_cuda_att_score(tn_cuda_att *a, ll_val x, ll_val query, ll_val head, ll_val key, ll_val *in);
/* 2^(x log2(e) + base), where base is what tn_cuda_att_base makes of the largest score. */
ll_val tn_cuda_att_base(tn_cuda_att *a, ll_val top);
ll_val tn_cuda_att_exp(tn_cuda_att *a, ll_val x, ll_val base);
ll_val tn_cuda_att_inverse(tn_cuda_att *a, ll_val sum); /* 1 / sum; 0 where nothing was seen */
/* Stores the kernel's results at features j .. (i32) of a row, where the attention is x (f32). */
void tn_cuda_att_put(tn_cuda_att *a, ll_val query, ll_val head, ll_val j, uint32_t wide, ll_val x);

static inline ll_val tn_cuda_n32(tn_cuda_att *a, int64_t x) {
  return LLVMConstInt(a->k->e->i32, (unsigned long long)x, 1);
}
static inline ll_val tn_cuda_to32(tn_cuda_att *a, ll_val x) {
  return LLVMBuildTrunc(a->k->e->b, x, a->k->e->i32, "");
}

/* ---- step.c ---- */
/* claim side: may the update be part of root's kernel, and the op make rows that root takes once each? */
bool tn_cuda_att_step_takes(const tn_cuda_ask *a);
bool tn_cuda_att_step_makes(const tn_cuda_ask *a);
/* Finds the updates that are part of the kernel; true: there are some. */
bool tn_cuda_att_step_read(tn_cuda_att *a);
/* All threads of the block: the newest row of a side, as it reads back from the cache, f32 numbers in shared
 * memory, `wide` at a time. writes (i1): this block puts it into the cache, too. A barrier is to follow. */
ll_val tn_cuda_att_step_row(tn_cuda_att *a, const tn_cuda_att_side *s, uint32_t threads, uint32_t wide,
                            ll_val writes);

/* state.c: a thread's neighbouring values x (f32) of a block of q8_0 that lies at p; neighbouring threads
 * have the rest. All lanes come here, those that are not `inside` store nothing. Gives what reads back. */
ll_val tn_cuda_att_pack(tn_cuda_kernel *k, ll_val x, ll_val p, ll_val inside);

/* ---- the two ways; only: a factor of all grids, 1 or 0 ---- */
void tn_cuda_att_few(tn_cuda_att *a, tn_dim only);
bool tn_cuda_att_flash_takes(const tn_cuda_att *a);
void tn_cuda_att_flash(tn_cuda_att *a, tn_dim only);
/* A third one, for many rows of 16-bit floats by warpgroups (wgmma.c). Gives what is left of `only`. */
tn_dim tn_cuda_att_wgmma(tn_cuda_att *a, tn_dim only);

#endif
