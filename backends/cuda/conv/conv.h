/* conv.h - convolutions and their adjoints as products: rows are the outputs of a group, columns the
 * positions of the result (images and spatial coordinates together), and k counts channels and, within each,
 * taps. No matrix of windows is made: an element of it is found where it is needed.
 *
 * The adjoint is taken apart by phase, the remainder of a result's coordinate by the stride: the results of
 * one phase see the same taps, and each is an ordinary convolution with those. window.c has the arithmetic;
 * direct.c, simt.c and mma.c are three ways to do the product. Where there are few tiles but k is long, k is
 * cut into parts: their sums go to scratch, and split.c takes them together. */
#ifndef TN_CUDA_CONV_H
#define TN_CUDA_CONV_H
#include "backends/cuda/warp.h"

enum { TN_CONV_AXES = 3 };

/* A spatial axis; where there are fewer than three the first ones have size 1. Numbers in the kernel: i32. */
typedef struct tn_cuda_conv_axis {
  int64_t size, stride, dilation;
  int64_t phases;                             /* 1; transposed: the stride */
  int64_t taps;                               /* that a phase has at most */
  int64_t step, delta;                        /* between taps of a phase: in the window; in x */
  tn_dim in_dim, out_dim, low_dim, count_dim; /* count: results of a phase, or one more */
  ll_val in, out, low, count;
  ll_val first;       /* transposed: the first result's (coordinate + low) / stride */
  ll_val phase, tap0; /* of the block; the first tap it has, maybe behind the last */
} tn_cuda_conv_axis;

typedef struct tn_cuda_conv {
  tn_cuda_kernel *k;
  tn_value x, w, bias, out;
  tn_type_info tx, tw, to;
  tn_dtype acc; /* f32, f64 */
  bool transposed;
  uint32_t spatial;
  int64_t groups, phases, taps, weights; /* taps: of a phase; weights: of a window */
  tn_cuda_conv_axis axis[TN_CONV_AXES];
  tn_dim outputs_dim, channels_dim, positions_dim; /* of a group; of a phase */
  /* of the launch being written */
  ll_val outputs, channels, positions, depth; /* i32 */
  ll_val plane;                               /* i64: elements of a channel of x */
  ll_val group;                               /* i32, of the block */
  ll_val which;                               /* i32: phase of the group */
  ll_val begin, end;                          /* k of the block */
  uint32_t parts;                             /* of k, that go to scratch; 0: all at once, to the results */
  int64_t part_depth;                         /* a multiple of 32 */
  ll_val part;                                /* of the block */
  tn_dim scratch;                             /* [part][group, phase][output][position] in `acc` */
  ll_val sum;                                 /* what the epilogue finds at its element, in `acc` */
} tn_cuda_conv;

/* A column: where its window begins in x, where its result stands. */
typedef struct tn_cuda_conv_place {
  ll_val ok;                                            /* i1: there is such a result */
  ll_val position;                                      /* i32 */
  ll_val image, at[TN_CONV_AXES], result[TN_CONV_AXES]; /* i32 */
  ll_val offset; /* i64, bytes: the group's first channel of the image */
} tn_cuda_conv_place;

/* A value of k. */
typedef struct tn_cuda_conv_tap {
  ll_val ok;                                   /* i1: there is such a tap */
  ll_val channel, weight, shift[TN_CONV_AXES]; /* i32; weight: in the window */
} tn_cuda_conv_tap;

/* ---- window.c ---- */
void tn_cuda_conv_read(tn_cuda_conv *v, tn_cuda_kernel *k);
/* At the begin of a launch: the sizes. Then group and phase of the block, taken from `which` (i32), which
 * counts phases within groups. */
void tn_cuda_conv_open(tn_cuda_conv *v);
void tn_cuda_conv_select(tn_cuda_conv *v, ll_val which);
tn_cuda_conv_place tn_cuda_conv_place_of(tn_cuda_conv *v, ll_val position);
tn_cuda_conv_tap tn_cuda_conv_tap_of(tn_cuda_conv *v, ll_val k);
/* Elements in `acc`; 0 where there is none. o: i32, of the group. */
ll_val tn_cuda_conv_input(tn_cuda_conv *v, const tn_cuda_conv_place *p, const tn_cuda_conv_tap *t);
ll_val tn_cuda_conv_weight(tn_cuda_conv *v, ll_val o, const tn_cuda_conv_tap *t);
/* The same as they are in memory: floats of 16 bits as their bits. */
ll_val tn_cuda_conv_input_raw(tn_cuda_conv *v, const tn_cuda_conv_place *p, const tn_cuda_conv_tap *t);
ll_val tn_cuda_conv_weight_raw(tn_cuda_conv *v, ll_val o, const tn_cuda_conv_tap *t);
/* The epilogue for output o (i32, of the group) at p, with v->sum; nothing where there is no such result.
 * wide: neighbours along the last axis that sum is a vector of. */
void tn_cuda_conv_put(tn_cuda_conv *v, ll_val o, const tn_cuda_conv_place *p, uint32_t wide);
/* How many of them the epilogue takes at once: 1 or 4. */
uint32_t tn_cuda_conv_wide(const tn_cuda_conv *v);
/* Blocks for tiles of rows x columns, of all groups and phases. */
tn_dim tn_cuda_conv_blocks(tn_cuda_conv *v, uint32_t rows, uint32_t columns);
/* Which tile is this block's: first row and column; selects. */
void tn_cuda_conv_tile(tn_cuda_conv *v, uint32_t rows, uint32_t columns, ll_val *row, ll_val *column);

/* ---- direct.c, simt.c, mma.c ---- */
void tn_cuda_conv_direct(tn_cuda_conv *v);
/* split.c: where the parts' sum for output o at p is kept, if `part` (i32) is its. */
ll_val tn_cuda_conv_part(tn_cuda_conv *v, ll_val part, ll_val o, const tn_cuda_conv_place *p);
/* Cuts k: v->parts is 0 if it is too short for that. when: 1 or 0. */
void tn_cuda_conv_split(tn_cuda_conv *v, tn_dim when);
/* The launch behind those of the parts; v->parts is 0 then. */
void tn_cuda_conv_join(tn_cuda_conv *v, tn_dim when);
/* A launch with tiles of side x side, 64 or 128; only: factor of its grid. ctx: of mma, the kind. */
void tn_cuda_conv_simt(tn_cuda_conv *v, uint32_t side, tn_dim only, void *ctx);
void tn_cuda_conv_mma(tn_cuda_conv *v, uint32_t side, tn_dim only, void *ctx);
/* Is it one for tensor cores? */
bool tn_cuda_conv_mma_large(tn_cuda_conv *v, tn_cuda_mma kind); /* are large tiles good? */
bool tn_cuda_conv_mma_takes(const tn_cuda_conv *v, tn_cuda_mma *kind);

/* i32 numbers; 0 and 1 vanish. */
static inline ll_val tn_conv_k(tn_cuda_conv *v, int64_t x) { return ll_int(v->k->e, v->k->e->i32, x); }
static inline ll_val tn_conv_add(tn_cuda_conv *v, ll_val x, int64_t y) {
  return ll_iadd(v->k->e, x, tn_conv_k(v, y));
}
static inline ll_val tn_conv_mul(tn_cuda_conv *v, ll_val x, int64_t y) {
  return ll_imul(v->k->e, x, tn_conv_k(v, y));
}
static inline ll_val tn_conv_div(tn_cuda_conv *v, ll_val x, int64_t y) {
  return ll_idiv(v->k->e, x, tn_conv_k(v, y));
}
static inline ll_val tn_conv_mod(tn_cuda_conv *v, ll_val x, int64_t y) {
  return ll_imod(v->k->e, x, tn_conv_k(v, y));
}
#endif
