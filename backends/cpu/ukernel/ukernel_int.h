/* ukernel_int.h - the integer micro-kernel: rows prepared as 8-bit integers (rows_int.h) times panels of
 * codes.
 *
 * A panel of codes is, for every block along k: codes u8 [block / 4][16 columns][4 values] in the order of
 * codes_block.h, then per run f32 scale[16] and, where the form has lows, f32 low[16]. A product is, over all
 * runs,
 *     scale * d * sum of (code - bias) * q  +  low * fsum.
 *
 * Packed bytes without scales ("plain") already lie like that, but signed and without numbers between: they
 * are read where they are. */
#ifndef TN_CPU_UKERNEL_INT_H
#define TN_CPU_UKERNEL_INT_H
#include "backends/cpu/ukernel/codes_block.h"
#include "backends/cpu/matmul/rows_int.h"

typedef struct tn_cpu_int_form {
  tn_cpu_codes codes;
  uint32_t block; /* values that share a scale of the rows: 32, or up to 512 where the weight's scales stand
                     elsewhere */
  uint32_t run;   /* values of a scale: 16, 32 or the block */
  bool low, plain;
} tn_cpu_int_form;

/* The form of a block format's codes in rows of `depth` values; false: its levels are no integers of 8 bits.
 */
bool tn_cpu_int_form_of(tn_cpu_kernel *k, const tn_quant *q, tn_dim depth, tn_cpu_int_form *f);
/* Has the target instructions for them that are faster than floats? */
bool tn_cpu_int_fits(const tn_cpu_isa *isa, const tn_cpu_int_form *f);
/* `times` of the rows that are multiplied by such codes. */
int32_t tn_cpu_int_times(const tn_cpu_isa *isa, const tn_cpu_int_form *f);
/* Rows and panels the micro-kernel takes at once. */
uint32_t tn_cpu_int_rows_max(const tn_cpu_isa *isa);
uint32_t tn_cpu_int_panels(const tn_cpu_isa *isa);

/* Bytes of a block of a panel. */
uint32_t tn_cpu_int_block_bytes(const tn_cpu_int_form *f);
/* One panel of a packed weight ("panelq") at `from`, `depth` values, as codes at `to` (64-byte aligned); not
 * of a plain form. */
void tn_cpu_int_unpack(tn_cpu_kernel *k, tn_dtype dt, const tn_cpu_int_form *f, ll_val from, ll_val depth,
                       ll_val to);

typedef struct tn_cpu_int_tile {
  ll_val depth;            /* a multiple of the block */
  ll_val q, d, isum, fsum; /* where a row's arrays begin, of the first row; the others a_stride apart */
  ll_val a_stride;         /* bytes */
  ll_val b, panel_stride;  /* panels of codes */
  ll_val c, c_stride;      /* f32 rows of panels * 16, all written */
  ll_val more;             /* i1: go on from what C holds */
} tn_cpu_int_tile;
/* Calls the micro-kernel for `rows` (i64, 1..tn_cpu_int_rows_max) rows of tn_cpu_int_panels panels. */
void tn_cpu_int_tile_call(tn_cpu_kernel *k, const tn_cpu_int_form *f, ll_val rows, const tn_cpu_int_tile *t);

/* ---- ukernel_int_amx.c: the same in tile registers, TN_CPU_AMX_ROWS rows of TN_CPU_AMX_PANELS panels,
 * between tn_cpu_amx_begin and _end. Rows of A up to the next multiple of 16 are read, but those of C as many
 * as there are; sums of rows (isum, fsum) are not asked for. ---- */
bool tn_cpu_int_amx_fits(const tn_cpu_isa *isa, const tn_cpu_int_form *f);
void tn_cpu_int_amx_call(tn_cpu_kernel *k, const tn_cpu_int_form *f, ll_val rows, const tn_cpu_int_tile *t);

#endif
