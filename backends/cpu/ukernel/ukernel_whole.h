/* ukernel_whole.h - products of whole numbers, exact in i32: rows of integers of 16 bits or fewer times
 * panels of 8-bit codes.
 *
 * With VNNI both are bytes: a row is stored less its smallest value, as the low and the high byte of what is
 * left (two products, the second only where some value needs it), and the smallest value times the sums of
 * the panel's columns is added. Codes lose 128 to become signed; where a format stores zeros, (128 - zero)
 * times the row's sum is added. Without VNNI both are 16-bit words. With AMX bytes meet in tile registers. */
#ifndef TN_CPU_UKERNEL_WHOLE_H
#define TN_CPU_UKERNEL_WHOLE_H
#include "backends/cpu/ukernel/ukernel_amx.h"
#include "backends/cpu/ukernel/ukernel_block.h"

typedef struct tn_cpu_whole {
  const tn_quant *q;     /* NULL: rhs is not packed */
  bool bytes;            /* else words */
  bool zeros;            /* bytes: start from a row's sums too */
  bool tiles;            /* bytes: in tile registers; panels are whole steps of them */
  uint32_t chunk;        /* of k at a time, at most: one that has the same zeros */
  uint32_t rows, panels; /* the micro-kernel takes at once */
} tn_cpu_whole;

/* Is the format one of 8-bit codes without scales? */
bool tn_cpu_whole_format(const tn_quant *q);
tn_cpu_whole tn_cpu_whole_of(const tn_cpu_isa *isa, const tn_quant *q);

/* A staged row: bytes or words, then i32: the smallest value, and the sums of the row's chunks. */
typedef struct tn_cpu_whole_rows {
  ll_val least, sums, bytes; /* i64: where these begin, and the stride of rows */
} tn_cpu_whole_rows;
tn_cpu_whole_rows tn_cpu_whole_rows_of(tn_cpu_kernel *k, const tn_cpu_whole *w, ll_val depth);
tn_dim tn_cpu_whole_row_dim(tn_cpu_kernel *k, tn_dim depth); /* an upper bound of `bytes` */
/* Stages a row at `to`, and with bytes its high bytes at `high`; gives i1: are any of those not 0? (NULL with
 * words.) depth is a multiple of 32. */
ll_val tn_cpu_whole_row(tn_cpu_kernel *k, const tn_cpu_whole *w, const tn_cpu_whole_rows *r, ll_val depth,
                        ll_val to, ll_val high, tn_cpu_row_fn get, void *ctx);

/* Bytes of a panel of `depth` values: codes, then i32 [16] sums of columns and [16] 128 - zero. */
ll_val tn_cpu_whole_panel_bytes(tn_cpu_kernel *k, const tn_cpu_whole *w, ll_val depth);
/* A packed panel's values at `from`, at most a chunk, as such a panel. */
void tn_cpu_whole_unpack(tn_cpu_kernel *k, const tn_cpu_whole *w, ll_val from, ll_val depth, ll_val to);

typedef struct tn_cpu_whole_tile {
  ll_val depth;                    /* a multiple of 32 */
  ll_val a, least, sums, a_stride; /* of the first row, from the chunk on */
  ll_val b, panel_stride;
  ll_val c, c_stride; /* i32 rows */
  ll_val more;        /* i1: go on from what C holds */
  ll_val shift;       /* i32: products count 2^shift */
} tn_cpu_whole_tile;
/* Calls the micro-kernel for `rows` (i64, 1..w->rows) rows and w->panels panels; in tiles, between
 * tn_cpu_amx_begin and _end, and rows of A up to the next multiple of 16 are read. */
void tn_cpu_whole_tile_call(tn_cpu_kernel *k, const tn_cpu_whole *w, ll_val rows, const tn_cpu_whole_tile *t);

#endif
