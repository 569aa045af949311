/* ukernel_block.h - levels of a packed block format, 16 rows at a time: what the two writers of
 * ukernel_block.c share with level_block.c. Private to these files. */
#ifndef TN_CPU_UKERNEL_BLOCK_H
#define TN_CPU_UKERNEL_BLOCK_H
#include "backends/cpu/ukernel/ukernel.h"
#include "backends/llvm/block.h"

#define TN_CPU_STEP 32u /* values that are written out side by side; blocks are whole steps */
#define TN_CPU_BLOCK_VECTORS 8
#define TN_CPU_BLOCK_WHOLE 64 /* values of a block that is written out whole */

/* The 16 blocks being read of each panel, and the step in them. */
typedef struct tn_cpu_blocks {
  tn_cpu_kernel *k;
  tn_ll *e;
  const tn_quant *q;
  uint32_t panels, per; /* per: vectors of a panel */
  bool fixed;           /* steps are written one by one, at known places */
  ll_val group[8];      /* per panel */
  ll_val step;          /* i64; known if fixed */
  /* codebooks: what was read last, of 8 values or fewer */
  uint32_t row_of, signs_of, delta_of;
  ll_val row[TN_CPU_BLOCK_VECTORS], signs[TN_CPU_BLOCK_VECTORS], delta[TN_CPU_BLOCK_VECTORS];
} tn_cpu_blocks;

/* Bytes of the 16 blocks of panel p as vector v of its rows. */
typedef struct tn_cpu_lanes {
  tn_cpu_blocks *b;
  uint32_t panel, vec;
} tn_cpu_lanes;
tn_block_reader tn_cpu_lanes_reader(tn_cpu_lanes *l);

/* Where value t of the step is in a plane: byte + byte_k, slot + slot_k; the parts that are not known before
 * run time, i64, are NULL when 0. */
typedef struct tn_cpu_spot {
  ll_val byte, slot;
  uint32_t byte_k, slot_k;
} tn_cpu_spot;
tn_cpu_spot tn_cpu_spot_of(const tn_cpu_blocks *b, const tn_quant_plane *p, uint32_t t);
/* The field of `size` bytes there. */
ll_val tn_cpu_spot_load(tn_cpu_lanes *l, const tn_quant_plane *p, tn_cpu_spot s, uint32_t size);
const tn_quant_plane *tn_cpu_planes_end(const tn_quant *q); /* behind the last plane */
/* Codes are bytes: do four of them stay together in a packed weight? */
bool tn_cpu_byte_words(const tn_quant *q);
/* The number of value t of the step, divided by `per`: i32. */
ll_val tn_cpu_block_position(tn_cpu_blocks *b, uint32_t t, uint32_t per);

/* Can steps be a loop? Otherwise they must be written out. */
bool tn_cpu_block_loops(const tn_quant *q);
/* Levels come as level * 2^shift: the shift of value t of a step. */
uint32_t tn_cpu_level_shift(const tn_quant *q, uint32_t t);
/* What is still to be subtracted from a level. */
uint32_t tn_cpu_level_bias(const tn_quant *q);
/* The level of value t of the step, f32. */
ll_val tn_cpu_level(tn_cpu_lanes *l, uint32_t t);
/* Codebooks: makes row[], signs[] and delta[] those of value t of the step, for all panels. */
void tn_cpu_grid_read(tn_cpu_blocks *b, uint32_t t);
/* Forgets what was read: at the start of every step. */
void tn_cpu_level_forget(tn_cpu_blocks *b);
/* The values of a step in the order in which their bytes are read. */
void tn_cpu_level_order(const tn_quant *q, uint32_t first, uint32_t count, uint32_t *order);

/* ---- scales_block.c ---- */
uint32_t tn_cpu_block_chunk(const tn_quant *q); /* values that share a product by their scale */
bool tn_cpu_block_fixed(const tn_quant *q);     /* are all steps of a block written out? */

typedef struct tn_cpu_scales {
  tn_cpu_blocks b;
  ll_val d[TN_CPU_BLOCK_VECTORS], m[TN_CPU_BLOCK_VECTORS]; /* of the block */
  ll_val scale[TN_CPU_BLOCK_VECTORS],
      low[TN_CPU_BLOCK_VECTORS]; /* of a run; low, if any, is added to values */
  ll_val kept;                   /* runs' scales and lows, in memory while the steps are a loop */
  uint32_t run_of;               /* the run that scale[] and low[] are of, if fixed */
} tn_cpu_scales;
bool tn_cpu_scales_low(const tn_quant *q); /* are there lows? */
static inline uint32_t tn_cpu_scales_vectors(const tn_cpu_scales *s) { return s->b.panels * s->b.per; }
tn_cpu_lanes tn_cpu_scales_lanes(tn_cpu_scales *s, uint32_t i);
void tn_cpu_scales_init(tn_cpu_scales *s, tn_cpu_kernel *k, tn_dtype dt, uint32_t panels);
/* What the runs of a new block need; the blocks are those at b.group. */
void tn_cpu_scales_read(tn_cpu_scales *s);
/* Makes scale[] and low[] those of value t of the step. */
void tn_cpu_scales_enter(tn_cpu_scales *s, uint32_t t);

#endif
