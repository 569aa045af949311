/* ukernel.h - the matrix micro-kernel: C[rows, panels * 16] = A[rows, k] B[k, panels * 16], everything in
 * registers over the whole of k, so each element is one chain of fused multiply-adds in the order of k
 * whatever the blocking. B comes in panels of 16 columns; matmul and attention both live on it. */
#ifndef TN_CPU_UKERNEL_H
#define TN_CPU_UKERNEL_H
#include "backends/cpu/kernel.h"

/* One call. Strides are bytes. Panels from np on (np >= 1) repeat the last one; their results are to be
 * ignored. */
typedef struct tn_cpu_tile {
  ll_val depth;               /* k; even with panels of bf16 */
  ll_val a, a_stride;         /* f32 rows, contiguous in k */
  ll_val b, panel_stride, np; /* panels [k][16] of the element type; of bf16: [k / 2][16][2] */
  ll_val c, c_stride;         /* f32 rows of panels * 16, all written */
  ll_val more;                /* i1: go on from what C holds; NULL: from zeros. Not with a block format */
  ll_val ahead, ahead_step;   /* fetched into the second-level cache meanwhile: per step of k one line of each
                                 panel, at ahead + panel * panel_stride + k * ahead_step. NULL: nothing */
  ll_val pair; /* bytes from a panel of the first half to its partner: the first half of the panels
                  comes from b, the other holds their partners, and np counts pairs. NULL: none */
  bool dot;    /* bf16 only, and isa->bf16: rows of A are bf16 too, multiplied by pairs */
} tn_cpu_tile;

/* Calls the micro-kernel for `rows` (i64, 1..max_rows) rows. dt: f32, f16, bf16 or f8e4m3, the element type
 * of B, or a block format: then panels are those of a packed weight ("panelq", backends/llvm/block.h),
 * `panels` is tn_cpu_block_panels, max_rows at most isa->block_rows, rows of A are prepared ones, and nothing
 * is fetched. */
void tn_cpu_tile_call(tn_cpu_kernel *k, tn_dtype dt, uint32_t panels, uint32_t max_rows, ll_val rows,
                      const tn_cpu_tile *t);
/* The same for any family of micro-kernels: calls the function that `of` gives for `rows` (i64, 1..max_rows).
 */
typedef ll_val (*tn_cpu_ukr_for)(tn_cpu_kernel *k, const void *family, uint32_t rows);
void tn_cpu_tile_switch(tn_cpu_kernel *k, ll_val rows, uint32_t max_rows, const tn_cpu_tile *t,
                        tn_cpu_ukr_for of, const void *family);

/* Several calls that share a fetch of the panels behind theirs: fills the step of each, gives the bytes from
 * one call's part to the next's. */
ll_val tn_cpu_ahead_step(tn_cpu_kernel *k, tn_dtype dt, ll_val depth, ll_val calls, ll_val *step);

/* ---- weights in block formats ----
 * Panel p of a packed weight [n, k] lies at p * tn_cpu_panel_bytes; so does panel p of an f32, f16, bf16 or
 * f8e4m3 one. With few rows of A (up to TN_CPU_BLOCK_FEW) prepare them, then tn_cpu_tile_call with the
 * format. With many, unpack panels one behind the other (depth * 64 bytes each) and go on in f32 with rows as
 * they are. */
#define TN_CPU_BLOCK_FEW 8

bool tn_cpu_block_handled(tn_dtype dt);
uint32_t tn_cpu_block_panels(const tn_cpu_isa *isa, tn_dtype dt);
ll_val tn_cpu_panel_bytes(tn_cpu_kernel *k, tn_dtype dt, ll_val depth);
/* Values at columns j .. of a row, f32. */
typedef ll_val (*tn_cpu_row_fn)(tn_cpu_kernel *k, void *ctx, tn_ll_ix j);
/* Bytes of a prepared row of `depth` values, at most 5 * depth + 128: its stride. */
ll_val tn_cpu_block_row_bytes(tn_cpu_kernel *k, tn_dtype dt, ll_val depth);
void tn_cpu_block_prepare(tn_cpu_kernel *k, tn_dtype dt, ll_val depth, ll_val to, tn_cpu_row_fn get,
                          void *ctx);
/* One panel at `from` as an f32 panel at `to`, or as one of pairs of bf16 (isa->bf16). */
void tn_cpu_block_unpack(tn_cpu_kernel *k, tn_dtype dt, ll_val from, ll_val depth, bool pairs, ll_val to);

/* ---- weights that nobody packed (stage.c) ---- */
/* Values at_k .. of a column of B, f32. */
typedef ll_val (*tn_cpu_column_value)(tn_cpu_kernel *k, void *ctx, ll_val column, tn_ll_ix at_k, ll_val mask);
typedef struct tn_cpu_stage {
  tn_cpu_column_value value;
  void *ctx;
  uint32_t panels;
  ll_val n0, n, depth; /* first column, columns of B, values in each */
  ll_val to, spare;    /* f32 panels; four bytes that may be overwritten */
} tn_cpu_stage;
/* Columns n0 .. n0 + 16 panels as f32 panels, one behind the other; for those behind B's last that one again.
 */
void tn_cpu_stage_columns(tn_cpu_kernel *k, const tn_cpu_stage *s);

/* ---- between ukernel.c and ukernel_block.c ---- */
enum {
  TN_UKR_DEPTH,
  TN_UKR_A,
  TN_UKR_A_STRIDE,
  TN_UKR_B,
  TN_UKR_PANEL_STRIDE,
  TN_UKR_NP,
  TN_UKR_C,
  TN_UKR_C_STRIDE,
  TN_UKR_AHEAD,
  TN_UKR_AHEAD_STEP,
  TN_UKR_MORE,
  TN_UKR_PAIR, /* 0: none */
  TN_UKR_ARGS
};
/* The addresses of a call's panels, from the arguments of a micro-kernel. */
void tn_cpu_ukr_panels(tn_ll *e, const ll_val *args, uint32_t panels, ll_val *out);
enum { TN_UKR_FETCH = 1, TN_UKR_DOT = 2, TN_UKR_TILES = 4 };
typedef ll_val (*tn_cpu_ukr_writer)(tn_cpu_kernel *k, tn_dtype dt, uint32_t rows, uint32_t panels,
                                    uint32_t flags);
/* The function for these numbers, written now if there is none yet. */
ll_val tn_cpu_ukr_of(tn_cpu_kernel *k, tn_dtype dt, uint32_t rows, uint32_t panels, uint32_t flags,
                     tn_cpu_ukr_writer write);
void tn_cpu_block_ukr(tn_cpu_kernel *k, tn_dtype dt, uint32_t rows, uint32_t panels, const ll_val *params);

#endif
