/* attention.h - what the two ways of writing attention share: many rows by panels and a micro-kernel
 * (attention_many.c, attention_tile.c, attention_amx.c), few rows straight from the keys as they lie
 * (attention_few.c).
 *
 * A row is a pair (query, head of the group) of one batch entry and key/value head; queries are scaled as
 * they are staged. */
#ifndef TN_CPU_ATTENTION_H
#define TN_CPU_ATTENTION_H
#include "backends/cpu/kernel.h"

typedef struct tn_cpu_att {
  tn_cpu_kernel *k;
  tn_value q, key, v, mask, bias, first, out;
  tn_type_info tq, tk, tv, to;
  double scale, softcap;
  int64_t window;
  bool causal, ring;
  bool narrow;                   /* products of bf16 */
  bool single;                   /* one query, which sees every key of its range */
  bool even;                     /* blocks begin at multiples of a vector */
  ll_val s, h, hkv, d, dv, t, g; /* g: query heads per key head */
  ll_val last;                   /* t - s */
  ll_val rows, lap, oldest; /* ring: its rows; the position in row 0 of this lap; the first that is there */
  ll_val q_stride, acc_stride; /* bytes of a row of qs (f32, or bf16 where narrow) and of acc (f32) */
  ll_val qs, acc, top, sum;    /* per row of the unit: query, weighted sum, largest score, sum of weights */
  /* of the unit */
  ll_val b, hk, r0, nrows;
  ll_val least;            /* the first key that may be seen; NULL: 0 */
  ll_val kb, kn;           /* first key of the block, keys in it */
  ll_val inverse, acc_row; /* of the row being finished */
  struct {
    tn_value x;         /* the new row of keys or values, [b, 1, hkv, d]; 0: another kernel wrote it */
    ll_val cache, made; /* the state; scratch for the row in the state's type */
    ll_val row;         /* scratch for the row as it is read back, f32 */
  } step[2];            /* keys, values */
} tn_cpu_att;

/* ---- skel_attention.c ---- */
ll_val tn_cpu_att_elem(tn_cpu_att *a, ll_val base, ll_val i); /* f32 element i */
/* Query and head of unit row i. */
void tn_cpu_att_row(tn_cpu_att *a, ll_val i, ll_val *query, ll_val *head);
/* Columns of row buffers are rounded up to whole vectors. */
tn_dim tn_cpu_att_width(tn_cpu_att *a, tn_dim d, uint32_t granule);
void tn_cpu_att_take_rows(tn_cpu_att *a, tn_dim rows, uint32_t granule); /* scratch for qs, acc, top, sum */
void tn_cpu_att_stage_queries(tn_cpu_att *a);
void tn_cpu_att_clear(tn_cpu_att *a); /* no keys seen yet */
void tn_cpu_att_finish(tn_cpu_att *a);
void tn_cpu_att_least(tn_cpu_att *a); /* a->least, for this batch entry */
/* Keys [lo, hi) that some row of the unit may see. */
void tn_cpu_att_range(tn_cpu_att *a, ll_val *lo, ll_val *hi);
/* The row where a key stands. A ring has its last keys only: others, which the mask hides, get any row. */
ll_val tn_cpu_att_key_row(tn_cpu_att *a, ll_val key);
/* Features j of a key of k or v, as f32; masked lanes are 0. */
ll_val tn_cpu_att_load(tn_cpu_att *a, tn_value v, ll_val key, tn_ll_ix j, ll_val mask);
ll_val tn_cpu_att_row_step(tn_cpu_att *a, tn_value v); /* bytes from row to row of a cache */
/* Bytes from a cache's beginning to row `row` of this unit's head. */
ll_val tn_cpu_att_row_bytes(tn_cpu_att *a, tn_value v, ll_val row);
/* Features from j on of a row at `at` in element type t. */
ll_val tn_cpu_att_load_at(tn_cpu_att *a, tn_dtype t, ll_val at, ll_val j, ll_val mask);
/* Fetches `n` keys of k or v from `key` on into the second-level cache: rows of one head lie far apart in a
 * cache, which the hardware does not foresee. What lies behind the end is fetched in vain. buffer NULL:
 * nothing. */
void tn_cpu_att_fetch(tn_cpu_att *a, tn_value v, ll_val buffer, ll_val key, ll_val n);
/* Scores of a vector of keys kb + j ..; -inf where the row's query does not see the key. */
ll_val tn_cpu_att_mask(tn_cpu_att *a, ll_val x, ll_val query, ll_val head, ll_val j);
/* What the mask operand says of a vector of keys kb + j ..; of lanes behind the block's last, anything. */
ll_val tn_cpu_att_mask_at(tn_cpu_att *a, ll_val query, ll_val head, ll_val j);
/* Does every score of a block need tn_cpu_att_mask? */
static inline bool tn_cpu_att_touches(const tn_cpu_att *a) { return a->mask || a->bias || a->softcap > 0; }
/* exp(x - top); `base`, of x's shape, is what tn_cpu_att_base makes of top. */
ll_val tn_cpu_att_base(tn_cpu_att *a, ll_val top);
ll_val tn_cpu_att_exp(tn_cpu_att *a, ll_val x, ll_val base);

/* ---- the two ways ---- */
void tn_cpu_att_many(tn_cpu_att *a);
/* Are queries, heads, key heads and sizes of heads those of few rows? */
bool tn_cpu_att_few_fit(int64_t s, int64_t h, int64_t hkv, int64_t d, int64_t dv);
bool tn_cpu_att_is_few(tn_cpu_att *a);
void tn_cpu_att_few(tn_cpu_att *a);

/* ---- attention_step.c: a kernel that also writes the newest key and value into their caches ----
 * or one of them. The unit that has the first row of a group writes the group's rows. Nobody reads them from
 * there in this kernel: each unit makes them for itself, so units need not wait for each other. */
static inline bool tn_cpu_att_is_step(const tn_cpu_att *a) { return a->step[0].x || a->step[1].x; }
void tn_cpu_att_step_read(tn_cpu_att *a);
void tn_cpu_att_step_scratch(tn_cpu_att *a, uint32_t granule);
/* Makes the rows and lets every row of the unit begin with them: top, sum and acc. */
void tn_cpu_att_step_begin(tn_cpu_att *a);

/* ---- attention_tile.c: C[rows, panels * 16] = A B, or C * alpha + A B ----
 * A: rows of f32, or of pairs of bf16; B: panels [steps][16] of f32 or of pairs of bf16. */
typedef struct tn_cpu_att_tile {
  bool narrow;
  uint32_t panels;
  ll_val steps;       /* values, or pairs, along the sum */
  ll_val a, a_stride; /* strides are bytes */
  ll_val b, panel_stride;
  ll_val c, c_stride; /* f32 */
  ll_val alpha;       /* a factor of each row of C, f32; NULL: C begins at 0 */
} tn_cpu_att_tile;
void tn_cpu_att_tile_call(tn_cpu_kernel *k, uint32_t max_rows, ll_val rows, const tn_cpu_att_tile *t);

/* ---- attention_amx.c: the same in tile registers, between tn_cpu_amx_begin and _end ----
 * `columns` columns of C, whatever t->panels says, from panels one behind the other; narrow. Rows of A and C
 * up to the next multiple of 16 are read and written, pairs and columns up to the next of 16 and 32. */
void tn_cpu_att_amx_call(tn_cpu_kernel *k, ll_val rows, ll_val columns, const tn_cpu_att_tile *t);
/* Before queries are staged: what is behind d in their rows becomes 0. */
void tn_cpu_att_amx_clear(tn_cpu_att *a);

/* ---- skel_state.c: one block of a q8_0 cache from 32 values, e->lanes to a vector ---- */
void tn_cpu_pack_q8(tn_cpu_kernel *k, const ll_val *x, ll_val p);

#endif
