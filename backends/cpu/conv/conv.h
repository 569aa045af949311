/* conv.h - convolution and its adjoint as one product per tap. A tile of the result is a run of positions q
 * of a plane whose rows are as wide as the input they need; then the input of each tap lies at q plus an
 * offset that is the same for all of them, and a micro-kernel goes over channels and taps with plain loads.
 * Strides take the input apart by phase (coordinate mod stride) while it is copied to scratch, and so do the
 * outputs of a transposed convolution, each phase of which is a convolution with some of the taps. */
#ifndef TN_CPU_CONV_H
#define TN_CPU_CONV_H
#include "backends/cpu/kernel.h"

enum { TN_CONV_Z, TN_CONV_Y, TN_CONV_X, TN_CONV_AXES };

/* One spatial axis; of fewer than three the first ones have size 1. Coordinates of a tile are those of the
 * result, or (transposed) of its phases: the result's coordinate + low is then phase + stride * coordinate.
 */
typedef struct tn_cpu_axis {
  int64_t size, stride, dilation;
  int64_t reach;      /* how many coordinates a window extends beyond its own: (size - 1) dilation / stride */
  int64_t in_phases;  /* of the input, that taps read; 1 if transposed */
  int64_t out_phases; /* 1, or the stride if transposed */
  ll_val in, out, low;         /* sizes of x and of the result, padding */
  ll_val first, count;         /* the coordinates there are: first .. first + count */
  ll_val tile, tiles, at, now; /* coordinates per tile, tiles; of the tile being written: its first one (of
                                  first ..), and how many it has */
} tn_cpu_axis;

typedef struct tn_cpu_conv {
  tn_cpu_kernel *k;
  tn_value x, w, bias, out;
  tn_type_info tx, tw, to;
  uint32_t spatial;
  bool transposed, direct, packed; /* direct: x is read where it lies; packed: so is w */
  int64_t groups, taps, phases;    /* phases: of the result, over all axes */
  tn_cpu_axis axis[TN_CONV_AXES];
  tn_dim outputs_dim, channels_dim; /* of a group */
  ll_val n, channels, outputs;      /* images; of a group */
  uint32_t rows, vectors;           /* of the micro-kernel: outputs, and vectors of positions */
  int64_t width_max, positions_max, block_max, band_max, parts_row_max;
  /* elements: a row of positions, a plane of one phase, all planes of one z, one channel */
  ll_val pitch, region, plane, channel;
  ll_val table, counts;        /* per phase its taps: where in x, where in w (bytes); and how many */
  ll_val band, parts, weights; /* scratch: input, results [phase][output][parts_row], a panel of weights */
  ll_val spare;                /* four bytes that may be overwritten */
  ll_val chunk, chunks;        /* channels at a time, and how often */
  ll_val block, blocks;        /* outputs at a time, and how often, of a group */
  ll_val parts_row, positions; /* of the tile being written */
  ll_val image, group, c0, nc, o0, o1; /* of the unit being written */
  ll_val parts_o;                      /* the output that parts begin with */
  ll_val store_o, store_row; /* of the epilogue: output in the block, and position of the row's first */
  ll_val store_phase;        /* of the epilogue, transposed: the phase of (z, y) */
} tn_cpu_conv;

static inline ll_val tn_cpu_at_least_one(tn_ll *e, ll_val x) { return ll_imax(e, x, ll_k(e, 1)); }

/* Reads the op, decides on sizes, asks for scratch (conv_plan.c). */
void tn_cpu_conv_plan(tn_cpu_conv *v);
/* Writes code that cuts the result into tiles and blocks and fills the table of taps; gives how many tiles.
 */
ll_val tn_cpu_conv_cut(tn_cpu_conv *v);
/* Is a window small enough for scratch? Per spatial dim its size, stride and dilation. */
bool tn_cpu_conv_fits(uint32_t spatial, const int64_t *size, const int64_t *stride, const int64_t *dilation,
                      bool transposed);
/* Copies the channels c0 .. c0 + nc that the tile needs to the band (conv_stage.c). */
void tn_cpu_conv_stage(tn_cpu_conv *v);
/* Panel `panel` of the group's weights, those channels, as [nc * taps][16] f32. */
void tn_cpu_conv_stage_weights(tn_cpu_conv *v, ll_val panel);

/* C[rows, vectors] (+)= for all channels and taps w[16] x[positions]: conv_ukernel.c. */
typedef struct tn_cpu_conv_tile {
  ll_val channels, taps, table;
  ll_val w, w_step; /* a panel from its first row on; bytes between channels */
  ll_val x, x_step;
  ll_val c, c_stride;
  ll_val more; /* i1: go on from what C holds */
  ll_val left; /* masked: positions that may be read */
} tn_cpu_conv_tile;
void tn_cpu_conv_call(tn_cpu_kernel *k, uint32_t rows, uint32_t vectors, bool masked,
                      const tn_cpu_conv_tile *t);

#endif
