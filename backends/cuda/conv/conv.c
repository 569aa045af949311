/* conv.c - conv and conv_transpose: what is taken, and which way of doing the product is launched. */
#include "backends/cuda/conv/conv.h"
#include "backends/cuda/matmul/gemv.h"

enum {
  SMALL = 64,
  LARGE = 128,            /* sides of tiles */
  BLOCKS = 100,           /* what a device has multiprocessors for, about */
  FEW_BLOCKS = 48,        /* with which most of a device would be idle */
  FEW_OUTPUTS = 8,        /* per group: below, tiles would be mostly empty */
  MOST_WEIGHTS = 1 << 20, /* of a window */
  MOST_PHASES = 4096      /* of a transposed one */
};

static const char *const roots[] = {"conv", "conv_transpose", NULL};

static int64_t product(const tn_attr *list, int64_t most) {
  int64_t n = 1;
  for (uint32_t i = 0; i < list->count && n <= most; i++)
    n = list->u.ints[i] > most ? most + 1 : n * list->u.ints[i];
  return n;
}

static bool claim(const tn_cuda_ask *a, const char **why) {
  tn_type_info w = tn_cuda_type_of(a, a->ir->op_operand(a->m, a->op, 1));
  tn_attr strides = {0};
  int64_t n, weights = 1;
  if (!tn_cuda_plain(a, why)) return false;
  *why = "the window is too large";
  for (uint32_t i = 2; i < w.rank; i++) {
    if (!a->ir->dim_is_const(a->m, w.dims[i], &n) || n > MOST_WEIGHTS) return false;
    weights *= n;
    if (weights > MOST_WEIGHTS) return false;
  }
  *why = "the strides are too large";
  bool transposed = !strcmp(a->name, "conv_transpose");
  return !transposed || !a->ir->op_attr(a->m, a->op, "strides", &strides) ||
         product(&strides, MOST_PHASES) <= MOST_PHASES;
}

typedef void (*writer)(tn_cuda_conv *, uint32_t, tn_dim, void *);

static tn_dim unless(tn_cuda_kernel *k, tn_dim when) {
  return tn_cuda_dim_add(k, tn_cuda_dim_k(k, 1), tn_cuda_dim_mul(k, when, tn_cuda_dim_k(k, -1)));
}

/* For few tiles: k in parts, if it is long enough. Gives what is left of `only`. */
static tn_dim by_parts(tn_cuda_conv *v, writer write, tn_dim only, void *ctx) {
  tn_cuda_kernel *k = v->k;
  tn_dim few = tn_cuda_few(k, tn_cuda_conv_blocks(v, SMALL, SMALL), FEW_BLOCKS);
  tn_dim when = tn_cuda_dim_mul(k, only, few);
  if (tn_cuda_never(k, when)) return only;
  tn_cuda_conv_split(v, when);
  if (!v->parts) return only;
  write(v, SMALL, when, ctx);
  tn_cuda_conv_join(v, when);
  return tn_cuda_dim_mul(k, only, unless(k, few));
}

/* Large tiles where there are enough of them to keep a device busy, else small ones. */
static void by_tiles(tn_cuda_conv *v, writer write, bool large, void *ctx) {
  tn_cuda_kernel *k = v->k;
  int64_t outputs;
  bool narrow = tn_ll_dim_const(&k->body, v->outputs_dim, &outputs) && outputs <= SMALL;
  tn_dim fills = tn_cuda_many(k, tn_cuda_conv_blocks(v, LARGE, LARGE), BLOCKS - 1);
  if (narrow || !large) fills = tn_cuda_dim_k(k, 0);
  if (!tn_cuda_never(k, fills)) write(v, LARGE, fills, ctx);
  tn_dim left = by_parts(v, write, unless(k, fills), ctx);
  if (!tn_cuda_never(k, left)) write(v, SMALL, left, ctx);
}

static void emit(tn_cuda_kernel *k) {
  tn_cuda_conv v;
  tn_cuda_mma kind;
  int64_t outputs;
  tn_cuda_conv_read(&v, k);
  if (tn_ll_dim_const(&k->body, v.outputs_dim, &outputs) && outputs < FEW_OUTPUTS)
    tn_cuda_conv_direct(&v);
  else if (tn_cuda_conv_mma_takes(&v, &kind))
    by_tiles(&v, tn_cuda_conv_mma, tn_cuda_conv_mma_large(&v, kind), &kind);
  else
    by_tiles(&v, tn_cuda_conv_simt, v.acc == TN_DT_f32, NULL);
}

const tn_cuda_skeleton tn_cuda_skeleton_conv = {roots, claim, NULL, tn_cuda_takes_elementwise, emit};
