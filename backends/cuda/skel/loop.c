/* loop.c - kernels of elementwise and view ops: each thread evaluates every result at one element, or at four
 * neighbours of the last axis where its size allows it. Results of several shapes share the launch; each has
 * as many threads at work as it needs. */
#include "backends/cuda/skel/loop.h"
#include "backends/cuda/skel/packed.h"
#include "backends/cuda/warp.h"
#include "backends/llvm/groups.h"

enum { THREADS = 256, WIDE = 4 };

/* Results of one shape. */
typedef struct group {
  tn_type_info t;
  bool mine[TN_LL_MAX_OUT];
  bool packs;    /* elements share bytes: one result */
  bool line;     /* the space is walked without coordinates */
  uint32_t wide; /* elements per thread */
  tn_dim units;  /* threads */
} group;

/* Do all values that the kernel reads have elements of whole bytes? Codes of blocks are read one by one. */
static bool plain_inputs(tn_cuda_kernel *k) {
  const tn_ir *ir = k->u->ir;
  for (uint32_t i = 0; i < ir->op_noperands(k->u->m, k->op); i++)
    if (tn_cuda_type(k, ir->op_operand(k->u->m, k->op, i)).dtype >= TN_DT_BLOCK) return false;
  return true;
}

static void take_group(tn_cuda_kernel *k, uint32_t first, bool *done, group *g) {
  *g = (group){.t = tn_cuda_type(k, k->yields[first]), .wide = 1, .line = true};
  g->packs = tn_cuda_is_packed(g->t.dtype);
  if (g->packs) {
    g->mine[first] = done[first] = true;
    g->units = tn_cuda_packed_units(k, k->yields[first]);
    return;
  }
  for (uint32_t i = first; i < k->nyields; i++) {
    tn_type_info t = tn_cuda_type(k, k->yields[i]);
    g->mine[i] = tn_ll_same_dims(&t, &g->t) && !tn_cuda_is_packed(t.dtype) && !done[i];
    done[i] |= g->mine[i];
    if (g->mine[i]) g->line = g->line && tn_ll_is_line(&k->body, k->yields[i], &g->t);
  }
  if (g->t.rank && tn_ll_dim_multiple(&k->body, g->t.dims[g->t.rank - 1], WIDE) && plain_inputs(k))
    g->wide = WIDE;
  g->units = tn_cuda_dim_ceildiv(k, tn_cuda_dim_count(k, &g->t, 0, g->t.rank), g->wide);
}

static void store_group(tn_cuda_kernel *k, const group *g, const tn_ll_index *ix) {
  for (uint32_t i = 0; i < k->nyields; i++)
    if (g->mine[i])
      tn_ll_store_at(&k->body, k->yields[i], k->outs[i], ix, tn_ll_eval(&k->body, k->yields[i], ix));
}

static void store_packed(tn_cuda_kernel *k, const group *g, ll_val unit) {
  for (uint32_t i = 0; i < k->nyields; i++)
    if (g->mine[i]) tn_cuda_packed_write(k, k->yields[i], k->outs[i], unit);
}

static void store_units(tn_cuda_kernel *k, const group *g, ll_val unit) {
  tn_ll *e = k->e;
  ll_val first = ll_imul(e, unit, ll_k(e, g->wide));
  tn_ll_index ix = {.rank = g->t.rank, .shape = g->t.dims, .collapsed = 1, .line = tn_ll_ix_scalar(first)};
  if (!g->line) ix = tn_cuda_index(k, &g->t, first);
  tn_ll_ix *last = g->line || !g->t.rank ? &ix.line : &ix.at[g->t.rank - 1];
  if (g->wide > 1) *last = tn_ll_ix_lanes(last->v, true);
  store_group(k, g, &ix);
}

static void emit_group(tn_cuda_kernel *k, const group *g) {
  tn_ll *e = k->e;
  ll_val unit = tn_cuda_position(k, THREADS);
  ll_if inside;
  ll_if_begin(e, &inside, ll_icmp(e, LLVMIntSLT, unit, tn_ll_dim(&k->body, g->units)));
  tn_ll_body_forget(&k->body);
  if (g->packs)
    store_packed(k, g, unit);
  else
    store_units(k, g, unit);
  ll_if_end(e, &inside);
  tn_ll_body_forget(&k->body);
}

void tn_cuda_emit_loop(tn_cuda_kernel *k) {
  bool done[TN_LL_MAX_OUT] = {false};
  group *groups = tn_arena_alloc(k->arena, (k->nyields + 1) * sizeof *groups);
  uint32_t n = 0;
  tn_dim most = 0;
  if (!groups) {
    tn_ll_fail(k->e, "no memory");
    return;
  }
  for (uint32_t i = 0; i < k->nyields; i++) {
    if (done[i]) continue;
    take_group(k, i, done, &groups[n]);
    most = most ? tn_cuda_dim_max(k, most, groups[n].units) : groups[n].units;
    n++;
  }
  tn_cuda_shape shape = {.threads = THREADS, .grid = {most ? tn_cuda_dim_ceildiv(k, most, THREADS) : 0}};
  tn_cuda_launch_begin(k, &shape);
  for (uint32_t i = 0; i < n; i++) emit_group(k, &groups[i]);
  tn_cuda_launch_end(k);
}
