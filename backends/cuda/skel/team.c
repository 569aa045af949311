/* team.c - see team.h. */
#include "backends/cuda/skel/team.h"
#include "backends/cuda/warp.h"
#include "backends/llvm/convert.h"

enum { WARP = 32, SLOT = 8 };

static ll_val i32_of(tn_cuda_kernel *k, int64_t x) {
  return LLVMConstInt(k->e->i32, (unsigned long long)x, 1);
}

void tn_cuda_team_begin(tn_cuda_team *t, tn_cuda_kernel *k, uint32_t threads, uint32_t width) {
  tn_ll *e = k->e;
  *t = (tn_cuda_team){.k = k, .threads = threads, .width = width};
  if (width > WARP) t->room = tn_cuda_shared(k, threads / WARP * TN_CUDA_TEAM_VALUES * SLOT, SLOT);
  ll_val thread = tn_cuda_thread(k), block = tn_cuda_i64(k, tn_cuda_block(k, 0));
  t->member = tn_cuda_i64(k, ll_and(e, thread, i32_of(k, width - 1)));
  ll_val team = tn_cuda_i64(k, ll_lshr(e, thread, i32_of(k, __builtin_ctz(width))));
  t->number = ll_iadd(e, ll_imul(e, block, ll_k(e, threads / width)), width == threads ? ll_k(e, 0) : team);
}

/* ---- slots --------------------------------------------------------------------------------------------- */

static ll_val slot(tn_cuda_kernel *k, ll_val base, ll_val i) {
  return ll_at(k->e, base, ll_imul(k->e, i, ll_k(k->e, SLOT)));
}
void tn_cuda_slot_put(tn_cuda_kernel *k, ll_val base, ll_val i, ll_val v) {
  if (LLVMTypeOf(v) == k->e->i1) v = LLVMBuildZExt(k->e->b, v, k->e->i8, "");
  ll_store(k->e, v, slot(k, base, i), SLOT);
}
ll_val tn_cuda_slot_get(tn_cuda_kernel *k, ll_type t, ll_val base, ll_val i) {
  tn_ll *e = k->e;
  if (t != e->i1) return ll_load(e, t, slot(k, base, i), SLOT);
  return LLVMBuildTrunc(e->b, ll_load(e, e->i8, slot(k, base, i), SLOT), e->i1, "");
}

/* ---- folds --------------------------------------------------------------------------------------------- */

static void lanes_of_warp(tn_cuda_kernel *k, uint32_t width, ll_val *acc, uint32_t n, tn_cuda_fold fold,
                          void *ctx) {
  ll_val other[TN_CUDA_TEAM_VALUES];
  for (uint32_t by = width / 2; by; by /= 2) {
    for (uint32_t i = 0; i < n; i++) other[i] = tn_cuda_shuffle_xor(k, acc[i], by);
    fold(ctx, acc, other);
  }
}

/* Every warp leaves its part in the room; then each warp folds all parts. */
void tn_cuda_team_fold(tn_cuda_team *t, ll_val *acc, uint32_t n, tn_cuda_fold fold, void *ctx) {
  tn_cuda_kernel *k = t->k;
  tn_ll *e = k->e;
  uint32_t warps = t->width / WARP;
  ll_if first;
  lanes_of_warp(k, t->width < WARP ? t->width : WARP, acc, n, fold, ctx);
  if (warps < 2) return;
  ll_val warp = tn_cuda_i64(k, ll_lshr(e, tn_cuda_thread(k), i32_of(k, 5)));
  ll_val lane = tn_cuda_lane(k), part = tn_cuda_i64(k, ll_and(e, lane, i32_of(k, warps - 1)));
  ll_if_begin(e, &first, ll_icmp(e, LLVMIntEQ, lane, i32_of(k, 0)));
  for (uint32_t i = 0; i < n; i++)
    tn_cuda_slot_put(k, t->room, ll_iadd(e, warp, ll_k(e, (int64_t)i * warps)), acc[i]);
  ll_if_end(e, &first);
  tn_cuda_barrier(k);
  for (uint32_t i = 0; i < n; i++)
    acc[i] = tn_cuda_slot_get(k, LLVMTypeOf(acc[i]), t->room, ll_iadd(e, part, ll_k(e, (int64_t)i * warps)));
  tn_cuda_barrier(k); /* the room may be used again */
  lanes_of_warp(k, warps, acc, n, fold, ctx);
}

void tn_cuda_lanes_fold(tn_cuda_kernel *k, ll_val *acc, uint32_t n, tn_cuda_fold fold, void *ctx) {
  ll_val lane[64][TN_CUDA_TEAM_VALUES];
  uint32_t lanes = k->e->lanes;
  if (!ll_is_vec(acc[0])) return;
  for (uint32_t l = 0; l < lanes; l++)
    for (uint32_t i = 0; i < n; i++) lane[l][i] = ll_lane(k->e, acc[i], l);
  for (uint32_t half = lanes / 2; half; half /= 2)
    for (uint32_t l = 0; l < half; l++) fold(ctx, lane[l], lane[l + half]);
  for (uint32_t i = 0; i < n; i++) acc[i] = lane[0][i];
}

/* ---- running sums -------------------------------------------------------------------------------------- */

/* v of the lane `by` below; neutral where there is none. */
static ll_val from_below(tn_cuda_kernel *k, ll_val v, uint32_t by, ll_val neutral) {
  ll_val lane = tn_cuda_lane(k), up = tn_cuda_shuffle_up(k, v, by);
  return ll_select(k->e, ll_icmp(k->e, LLVMIntUGE, lane, i32_of(k, by)), up, neutral);
}

/* What the warps before this one have; `sum`: the warp's own, in its last lane. */
static ll_val over_warps(tn_cuda_team *t, const tn_cuda_sum *s, ll_val sum, ll_val *all) {
  tn_cuda_kernel *k = t->k;
  tn_ll *e = k->e;
  ll_val lane = tn_cuda_lane(k), last = i32_of(k, WARP - 1), before = s->neutral;
  ll_if end;
  *all = s->neutral;
  if (t->width == WARP) {
    *all = tn_cuda_shuffle(k, sum, last);
    return before;
  }
  ll_val warp = tn_cuda_i64(k, ll_lshr(e, tn_cuda_thread(k), i32_of(k, 5)));
  ll_if_begin(e, &end, ll_icmp(e, LLVMIntEQ, lane, last));
  tn_cuda_slot_put(k, t->room, warp, sum);
  ll_if_end(e, &end);
  tn_cuda_barrier(k);
  for (uint32_t w = 0; w < t->width / WARP; w++) {
    before = ll_select(e, ll_icmp(e, LLVMIntEQ, warp, ll_k(e, w)), *all, before);
    *all = s->join(s->ctx, *all, tn_cuda_slot_get(k, LLVMTypeOf(sum), t->room, ll_k(e, w)));
  }
  tn_cuda_barrier(k);
  return before;
}

ll_val tn_cuda_team_scan(tn_cuda_team *t, const tn_cuda_sum *s, ll_val v, ll_val *all) {
  tn_cuda_kernel *k = t->k;
  for (uint32_t by = 1; by < WARP; by *= 2) v = s->join(s->ctx, from_below(k, v, by, s->neutral), v);
  ll_val before = over_warps(t, s, v, all);
  return s->join(s->ctx, before, from_below(k, v, 1, s->neutral));
}

/* ---- shapes -------------------------------------------------------------------------------------------- */

uint32_t tn_cuda_power(int64_t n) {
  uint32_t p = 1;
  while (p < n && p < 1u << 30) p *= 2;
  return p;
}

uint32_t tn_cuda_wide(tn_cuda_kernel *k, tn_dim axis) {
  const tn_ir *ir = k->u->ir;
  if (!tn_ll_dim_multiple(&k->body, axis, k->e->lanes)) return 1;
  for (uint32_t i = 0; i < ir->op_noperands(k->u->m, k->op); i++)
    if (tn_cuda_type(k, ir->op_operand(k->u->m, k->op, i)).dtype >= TN_DT_BLOCK) return 1;
  return k->e->lanes;
}

uint32_t tn_cuda_team_width(int64_t units, uint32_t *threads) {
  enum { BLOCK = 256, SMALL = 128, PER_LANE = 4 };
  *threads = SMALL;
  if (units && units <= WARP * PER_LANE) return units < WARP ? tn_cuda_power(units) : WARP;
  return *threads = BLOCK;
}

tn_dim tn_cuda_lines(tn_cuda_kernel *k, const tn_type_info *t, uint32_t axis) {
  return tn_cuda_dim_mul(k, tn_cuda_dim_count(k, t, 0, axis), tn_cuda_dim_count(k, t, axis + 1, t->rank));
}

tn_ll_index tn_cuda_line_index(tn_cuda_kernel *k, const tn_type_info *t, uint32_t axis, ll_val line,
                               tn_ll_ix at) {
  tn_dim dims[TN_MAX_RANK];
  tn_type_info rest = {.rank = t->rank - 1, .dims = dims};
  for (uint32_t i = 0; i < rest.rank; i++) dims[i] = t->dims[i < axis ? i : i + 1];
  tn_ll_index lead = tn_cuda_index(k, &rest, line), ix = {.rank = t->rank, .shape = t->dims};
  for (uint32_t i = 0; i < t->rank; i++)
    if (i != axis) ix.at[i] = lead.at[i < axis ? i : i - 1];
  ix.at[axis] = at;
  if (axis == t->rank - 1) ix.flat = line;
  return ix;
}

/* ---- results ------------------------------------------------------------------------------------------- */

bool tn_cuda_yields_root(tn_cuda_kernel *k) {
  for (uint32_t y = 0; y < k->nyields; y++) {
    bool own = false;
    for (uint32_t i = 0; i < k->u->ir->op_nresults(k->u->m, k->root); i++)
      own |= k->yields[y] == tn_cuda_result(k, i);
    if (!own) {
      tn_ll_fail(k->e, "%s shares a kernel with other results", k->root_name);
      return false;
    }
  }
  return true;
}

void tn_cuda_store_result(tn_cuda_kernel *k, uint32_t i, const tn_ll_index *ix, ll_val x) {
  tn_value v = tn_cuda_result(k, i);
  for (uint32_t y = 0; y < k->nyields; y++)
    if (k->yields[y] == v) tn_ll_store_at(&k->body, v, k->outs[y], ix, x);
}
