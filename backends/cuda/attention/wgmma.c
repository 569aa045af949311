/* wgmma.c - attention of 16-bit floats by warpgroups (sm_90a; Shah et al. 2024). A block has 128 queries of
 * one head. One warpgroup does nothing but ask for tiles of keys and values, which the device copies into two
 * rings in shared memory by itself; two others have 64 queries each. Scores are made from shared memory and
 * become weights in their registers, which are the left operand of the product with the values. While that
 * product is under way, the scores of the next keys are made and weighed.
 *
 * Tiles are pieces of 64 features beside each other, of rows of 128 bytes with their 16-byte chunks exchanged
 * (the 128-byte swizzle of tensor maps). Maps are of whole caches, so that they are the same at every
 * position; values behind the last key, whatever they are, are cleared before they are multiplied by weights
 * of 0.
 *
 * A product writes, and reads, registers until it is waited for. So the wait names the registers: nothing
 * that uses them can move before it. */
#include "backends/cuda/attention/flash.h"
#include "backends/cuda/matmul/gemv.h"

enum {
  THREADS = 384, /* a warpgroup that copies and two that multiply */
  ROWS = 128,    /* queries of a block */
  KEYS = 128,    /* of a step */
  SLOTS = 2,     /* of each ring */
  PART = 64,     /* features of a piece: 128 bytes */
  ROW_BYTES = 128,
  GROUP_ROWS = 64, /* of a warpgroup */
  WARPS = 8,       /* that multiply */
  SCORES = KEYS / 2,
  WEIGHTS = KEYS / 4,     /* pairs */
  MOST_SUMS = 64,         /* of a thread */
  MOST_VALUES = 160,      /* operands of a product */
  LEAST_QUERIES = 65,     /* fewer are left to mma.sync */
  PITCH = (PART + 8) * 4, /* of sums on their way out */
  WIDE = 8,               /* features stored at once */
  REGISTERS_COPY = 40,
  REGISTERS_MULTIPLY = 232,
  SWIZZLE_128 = 3,   /* of tensor maps */
  PROMOTION_256 = 3, /* sectors that a copy brings to the second-level cache */
  CLUSTER_SHARED = 7,
  CACHE_BYTES = 32 << 20 /* of the second-level cache, for keys and values */
};
enum { TYPE_F16 = 6, TYPE_BF16 = 9 };
enum { QUERIES, OF_KEYS, OF_VALUES }; /* maps, and rings */

typedef struct ring {
  ll_val tiles, full, empty; /* shared memory */
} ring;

typedef struct groups {
  tn_cuda_att *a;
  bool f16;
  uint32_t parts, nsums; /* pieces of a row; sums of a thread */
  ring rings[3];         /* of queries: one slot, never given back */
  ll_val room;           /* shared memory: sums on their way out */
  /* of the block; i32 */
  ll_val head, key_head, first, steps; /* first: query */
  /* of the thread */
  ll_val warp, lane; /* warp: among those that multiply */
  ll_val limit[2];   /* keys that its rows may see, i32 */
  ll_val sums[MOST_SUMS], scores[SCORES], weights[WEIGHTS], top[2],
      total[2]; /* memory that becomes registers */
} groups;

static ll_val n32(groups *f, int64_t x) { return tn_cuda_n32(f->a, x); }
static ll_val plus(groups *f, ll_val x, int64_t y) { return ll_iadd(f->a->k->e, x, n32(f, y)); }
static ll_val times(groups *f, ll_val x, int64_t y) { return ll_imul(f->a->k->e, x, n32(f, y)); }
static ll_val at_bytes(groups *f, ll_val base, ll_val bytes) {
  return LLVMBuildInBoundsGEP2(f->a->k->e->b, f->a->k->e->i8, base, &bytes, 1, "");
}
static ll_val call(groups *f, const char *name, ll_val *args, unsigned n) {
  return tn_cuda_call(f->a->k, name, NULL, 0, args, n);
}
static ll_val get(groups *f, ll_val var) {
  return LLVMBuildLoad2(f->a->k->e->b, LLVMGetAllocatedType(var), var, "");
}
static void set(groups *f, ll_val var, ll_val x) { LLVMBuildStore(f->a->k->e->b, x, var); }
static ll_val variable(groups *f, ll_val x) {
  ll_val v = LLVMBuildAlloca(f->a->k->e->b, LLVMTypeOf(x), "");
  set(f, v, x);
  return v;
}
static uint32_t tile_bytes(const groups *f, uint32_t rows) { return f->parts * rows * ROW_BYTES; }

/* ---- barriers in shared memory ------------------------------------------------------------------------- */

static ll_val barrier_at(groups *f, ll_val list, ll_val step) {
  return at_bytes(f, list, times(f, ll_imod(f->a->k->e, step, n32(f, SLOTS)), 8));
}
/* The slot of a step is used for the time whose parity this is. */
static ll_val parity_of(groups *f, ll_val step) {
  tn_ll *e = f->a->k->e;
  return ll_imod(e, ll_idiv(e, step, n32(f, SLOTS)), n32(f, 2));
}

/* Full ones wait for the bytes that one arrival announces, empty ones for all warps. */
static void init_barriers(groups *f) {
  tn_ll *e = f->a->k->e;
  ll_if one;
  ll_if_begin(e, &one, ll_icmp(e, LLVMIntEQ, tn_cuda_thread(f->a->k), n32(f, 0)));
  for (uint32_t i = 0; i < 3 * SLOTS; i++) {
    ll_val full[] = {barrier_at(f, f->rings[i / SLOTS].full, n32(f, i % SLOTS)), n32(f, 1)};
    ll_val empty[] = {barrier_at(f, f->rings[i / SLOTS].empty, n32(f, i % SLOTS)), n32(f, WARPS)};
    call(f, "llvm.nvvm.mbarrier.init.shared", full, 2);
    call(f, "llvm.nvvm.mbarrier.init.shared", empty, 2);
  }
  call(f, "llvm.nvvm.fence.mbarrier_init.release.cluster", NULL, 0);
  call(f, "llvm.nvvm.fence.proxy.async.shared_cta", NULL, 0);
  ll_if_end(e, &one);
  tn_cuda_barrier(f->a->k);
}

static void wait_full(groups *f, uint32_t which, ll_val step) {
  tn_cuda_await(f->a->k, barrier_at(f, f->rings[which].full, step), parity_of(f, step));
}
/* This warp gives a slot back. */
static void give_back(groups *f, uint32_t which, ll_val step) {
  tn_ll *e = f->a->k->e;
  ll_if one;
  ll_if_begin(e, &one, ll_icmp(e, LLVMIntEQ, f->lane, n32(f, 0)));
  ll_val args[] = {barrier_at(f, f->rings[which].empty, step), n32(f, 1)};
  call(f, "llvm.nvvm.mbarrier.arrive.scope.cta.space.cta", args, 2);
  ll_if_end(e, &one);
}

/* ---- the warpgroup that copies ------------------------------------------------------------------------- */

static ll_val tile_at(groups *f, uint32_t which, ll_val step) {
  uint32_t bytes = tile_bytes(f, which == QUERIES ? ROWS : KEYS);
  return at_bytes(f, f->rings[which].tiles, times(f, ll_imod(f->a->k->e, step, n32(f, SLOTS)), bytes));
}

/* A tile of rows from `row` on, for the slot of `step`. */
static void copy_tile(groups *f, uint32_t which, ll_val step, ll_val head, ll_val row) {
  tn_cuda_kernel *k = f->a->k;
  tn_ll *e = k->e;
  uint32_t rows = which == QUERIES ? ROWS : KEYS;
  ll_val full = barrier_at(f, f->rings[which].full, step), tile = tile_at(f, which, step);
  ll_val no = LLVMConstInt(e->i1, 0, 0), batch = tn_cuda_to32(f->a, f->a->b);
  ll_val expect[] = {full, n32(f, tile_bytes(f, rows))};
  call(f, "llvm.nvvm.mbarrier.arrive.expect.tx.scope.cta.space.cta", expect, 2);
  for (uint32_t p = 0; p < f->parts; p++) {
    ll_val to = at_bytes(f, tile, n32(f, p * rows * ROW_BYTES));
    ll_val args[] = {LLVMBuildAddrSpaceCast(e->b, to, tn_cuda_ptr(k, CLUSTER_SHARED), ""),
                     full,
                     k->maps[which],
                     n32(f, p * PART),
                     head,
                     row,
                     batch,
                     LLVMConstInt(e->i16, 0, 0),
                     ll_k(e, 0),
                     no,
                     no,
                     n32(f, 0)};
    call(f, "llvm.nvvm.cp.async.bulk.tensor.g2s.tile.4d", args, 12);
  }
}

static void copy_step(groups *f, uint32_t which, ll_val step) {
  ll_val free = barrier_at(f, f->rings[which].empty, step);
  tn_cuda_await(f->a->k, free, ll_xor(f->a->k->e, parity_of(f, step), n32(f, 1)));
  copy_tile(f, which, step, f->key_head, times(f, step, KEYS));
}

static void copy_all(groups *f) {
  tn_ll *e = f->a->k->e;
  ll_val few = n32(f, REGISTERS_COPY);
  ll_if one;
  ll_loop l;
  call(f, "llvm.nvvm.setmaxnreg.dec.sync.aligned.u32", &few, 1);
  ll_val first = ll_icmp(e, LLVMIntEQ, tn_cuda_thread(f->a->k), n32(f, 0));
  ll_if_begin(e, &one, ll_and(e, first, ll_icmp(e, LLVMIntSGT, f->steps, n32(f, 0))));
  copy_tile(f, QUERIES, n32(f, 0), f->head, f->first);
  ll_loop_begin(e, &l, n32(f, 0), f->steps, n32(f, 1), NULL, 0);
  copy_step(f, OF_KEYS, l.iv);
  copy_step(f, OF_VALUES, l.iv);
  ll_loop_end(e, &l, NULL);
  ll_if_end(e, &one);
}

/* ---- products ------------------------------------------------------------------------------------------ */

/* Of a swizzled tile, in units of 16 bytes: 1024 bytes between 8 rows, `leading` between pieces where memory
 * runs along the columns of the product. */
static ll_val descriptor(groups *f, ll_val at, uint32_t leading) {
  tn_ll *e = f->a->k->e;
  int64_t fixed = (int64_t)1 << 62 | (int64_t)(8 * ROW_BYTES / 16) << 32 | (int64_t)(leading / 16) << 16;
  ll_val address = LLVMBuildPtrToInt(e->b, at, e->i64, "");
  return ll_or(e, ll_lshr(e, ll_and(e, address, ll_k(e, 0x3ffff)), ll_k(e, 4)), ll_k(e, fixed));
}

static void write_list(tn_buf *text, uint32_t first, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) tn_buf_printf(text, "%s$%u", i ? ", " : "{", first + i);
  tn_buf_puts(text, "}");
}

/* PTX that gives `vars` anew. kept: it is given them as they are, before the other operands. */
static void run_text(groups *f, tn_buf *text, ll_val *const *vars, const uint32_t *counts, uint32_t nlists,
                     bool kept, const char *more, ll_val *args, uint32_t nargs) {
  tn_ll *e = f->a->k->e;
  ll_type types[MOST_VALUES];
  ll_val values[2 * MOST_VALUES], where[MOST_VALUES];
  tn_buf constraints = {0};
  uint32_t n = 0;
  for (uint32_t l = 0; l < nlists; l++)
    for (uint32_t i = 0; i < counts[l]; i++) where[n++] = vars[l][i];
  for (uint32_t i = 0; i < n; i++) {
    types[i] = e->f32;
    tn_buf_puts(&constraints, i ? ",=f" : "=f");
  }
  for (uint32_t i = 0; i < n && kept; i++) {
    values[i] = get(f, where[i]);
    tn_buf_printf(&constraints, ",%u", i);
  }
  for (uint32_t i = 0; i < nargs; i++) values[(kept ? n : 0) + i] = args[i];
  tn_buf_puts(&constraints, more);
  if (text->failed || constraints.failed) {
    tn_ll_fail(e, "no memory");
  } else {
    ll_val r = tn_cuda_asm(f->a->k, LLVMStructTypeInContext(e->ctx, types, n, 0), tn_buf_cstr(text),
                           tn_buf_cstr(&constraints), values, (kept ? n : 0) + nargs);
    for (uint32_t i = 0; i < n; i++) set(f, where[i], LLVMBuildExtractValue(e->b, r, i, ""));
  }
  tn_buf_fini(&constraints);
  tn_buf_fini(text);
}

static const char *types_of(const groups *f) { return f->f16 ? "f16.f16" : "bf16.bf16"; }

/* scores = queries * keys of a step. 16 features are 32 bytes of a row. */
static void start_scores(groups *f, ll_val step) {
  tn_buf text = {0};
  ll_val rows = times(f, ll_idiv(f->a->k->e, f->warp, n32(f, 4)), GROUP_ROWS * ROW_BYTES);
  ll_val *list = f->scores;
  uint32_t count = SCORES;
  tn_buf_puts(&text, "{\n.reg .b64 a, b;\nwgmma.fence.sync.aligned;\n");
  for (uint32_t i = 0; i < f->parts * PART / 16; i++) {
    uint32_t part = i / (PART / 16), within = 2 * (i % (PART / 16));
    tn_buf_printf(&text, "add.s64 a, $%u, %u;\nadd.s64 b, $%u, %u;\n", SCORES,
                  part * ROWS * ROW_BYTES / 16 + within, SCORES + 1, part * KEYS * ROW_BYTES / 16 + within);
    tn_buf_printf(&text, "wgmma.mma_async.sync.aligned.m64n%uk16.f32.%s ", KEYS, types_of(f));
    write_list(&text, 0, SCORES);
    tn_buf_printf(&text, ", a, b, %u, 1, 1, 0, 0;\n", i > 0);
  }
  tn_buf_puts(&text, "wgmma.commit_group.sync.aligned;\n}");
  ll_val args[] = {descriptor(f, at_bytes(f, tile_at(f, QUERIES, n32(f, 0)), rows), 16),
                   descriptor(f, tile_at(f, OF_KEYS, step), 16)};
  run_text(f, &text, &list, &count, 1, false, ",l,l", args, 2);
}

/* sums += weights * values of a step. 16 keys are 16 rows; memory runs along the features. */
static void start_sums(groups *f, ll_val step) {
  tn_buf text = {0}, more = {0};
  ll_val args[WEIGHTS + 1], *list = f->sums;
  uint32_t n = f->nsums, last = 2 * n + WEIGHTS;
  tn_buf_puts(&text, "{\n.reg .b64 b;\nwgmma.fence.sync.aligned;\n");
  for (uint32_t i = 0; i < KEYS / 16; i++) {
    tn_buf_printf(&text, "add.s64 b, $%u, %u;\n", last, i * 16 * ROW_BYTES / 16);
    tn_buf_printf(&text, "wgmma.mma_async.sync.aligned.m64n%uk16.f32.%s ", f->parts * PART, types_of(f));
    write_list(&text, 0, n);
    tn_buf_puts(&text, ", ");
    write_list(&text, 2 * n + 4 * i, 4);
    tn_buf_puts(&text, ", b, 1, 1, 1, 1;\n");
  }
  tn_buf_puts(&text, "wgmma.commit_group.sync.aligned;\n}");
  for (uint32_t i = 0; i < WEIGHTS; i++) {
    args[i] = get(f, f->weights[i]);
    tn_buf_puts(&more, ",r");
  }
  args[WEIGHTS] = descriptor(f, tile_at(f, OF_VALUES, step), KEYS * ROW_BYTES);
  tn_buf_puts(&more, ",l");
  if (more.failed)
    tn_ll_fail(f->a->k->e, "no memory");
  else
    run_text(f, &text, &list, &n, 1, true, tn_buf_cstr(&more), args, WEIGHTS + 1);
  tn_buf_fini(&more);
}

/* Until at most `pending` products are under way, which have nothing to do with these registers. */
static void wait_products(groups *f, uint32_t pending, bool scores, bool sums) {
  tn_buf text = {0};
  ll_val *lists[2];
  uint32_t counts[2], n = 0;
  if (scores) lists[n] = f->scores, counts[n++] = SCORES;
  if (sums) lists[n] = f->sums, counts[n++] = f->nsums;
  tn_buf_printf(&text, "wgmma.wait_group.sync.aligned %u;", pending);
  run_text(f, &text, lists, counts, n, true, "", NULL, 0);
}

/* ---- softmax ------------------------------------------------------------------------------------------- */

/* Number i of a thread: half i / 2 % 2 of its rows, which are 8 apart, and column 8 (i / 4) + i % 2 behind
 * twice its lane's place among 4. */
static void find_rows(groups *f) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val t = tn_cuda_to32(a, a->t), row = ll_iadd(e, times(f, f->warp, 16), ll_lshr(e, f->lane, n32(f, 2)));
  for (uint32_t h = 0; h < 2; h++) {
    ll_val at = ll_add(e, ll_iadd(e, f->first, plus(f, row, 8 * h)), tn_cuda_to32(a, a->last));
    f->limit[h] = a->causal ? ll_imin(e, ll_add(e, at, n32(f, 1)), t) : t;
  }
}

/* Rows see the less the earlier they are: lane 0 has the first one. */
static void mask_scores(groups *f, ll_val step) {
  tn_ll *e = f->a->k->e;
  ll_if some;
  ll_val first = times(f, step, KEYS), least = tn_cuda_shuffle(f->a->k, f->limit[0], n32(f, 0));
  ll_if_begin(e, &some, ll_icmp(e, LLVMIntSGT, plus(f, first, KEYS), least));
  first = ll_iadd(e, first, times(f, ll_and(e, f->lane, n32(f, 3)), 2));
  for (uint32_t i = 0; i < SCORES; i++) {
    ll_val left = ll_sub(e, f->limit[i / 2 % 2], first), x = get(f, f->scores[i]);
    ll_val in = ll_icmp(e, LLVMIntSGT, left, n32(f, 8 * (i / 4) + i % 2));
    set(f, f->scores[i], ll_select(e, in, x, ll_f(e, x, -__builtin_inf())));
  }
  ll_if_end(e, &some);
}

/* Of numbers: NaN counts as nothing, and comes back in the weights. */
static ll_val larger(tn_ll *e, ll_val x, ll_val y) { return ll_call2(e, "llvm.maxnum", x, y); }

/* Scores of half h become weights. Gives what the sums so far are worth at the new largest score. */
static ll_val weigh(groups *f, uint32_t h) {
  tn_ll *e = f->a->k->e;
  double factor = f->a->scale * TN_CUDA_LOG2E;
  ll_val old = get(f, f->top[h]), top = old, sum[2] = {ll_real(e, e->f32, 0), ll_real(e, e->f32, 0)};
  for (uint32_t i = 0; i < SCORES / 2; i++)
    top = larger(e, top, get(f, f->scores[i / 2 * 4 + 2 * h + i % 2]));
  top = tn_cuda_warp_reduce(f->a->k, top, 4, larger);
  set(f, f->top[h], top);
  ll_val none = ll_fcmp(e, LLVMRealOEQ, top, ll_f(e, top, -__builtin_inf()));
  ll_val base = ll_select(e, none, ll_f(e, top, 0), ll_fmul(e, top, ll_f(e, top, -factor)));
  for (uint32_t i = 0; i < SCORES / 2; i++) {
    ll_val var = f->scores[i / 2 * 4 + 2 * h + i % 2];
    ll_val p = tn_cuda_ex2(f->a->k, ll_fma(e, get(f, var), ll_f(e, top, factor), base));
    set(f, var, p);
    sum[i % 2] = ll_fadd(e, sum[i % 2], p);
  }
  ll_val alpha = tn_cuda_ex2(f->a->k, ll_fma(e, old, ll_f(e, old, factor), base));
  set(f, f->total[h], ll_fma(e, get(f, f->total[h]), alpha, ll_fadd(e, sum[0], sum[1])));
  return alpha;
}

/* Numbers of a product's result are those of the next one's left operand, in pairs. */
static void pack_weights(groups *f) {
  tn_cuda_kernel *k = f->a->k;
  ll_val (*pack)(tn_cuda_kernel *, ll_val, ll_val) = f->f16 ? tn_cuda_pack_f16 : tn_cuda_pack_bf16;
  for (uint32_t i = 0; i < WEIGHTS; i++)
    set(f, f->weights[i], pack(k, get(f, f->scores[2 * i]), get(f, f->scores[2 * i + 1])));
}

/* ---- the warpgroups that multiply ---------------------------------------------------------------------- */

static void first_step(groups *f) {
  ll_val zero = n32(f, 0);
  wait_full(f, QUERIES, zero);
  wait_full(f, OF_KEYS, zero);
  start_scores(f, zero);
  wait_products(f, 0, true, false);
  give_back(f, OF_KEYS, zero);
  mask_scores(f, zero);
  for (uint32_t h = 0; h < 2; h++) weigh(f, h); /* no sums yet */
  pack_weights(f);
}

/* Weights of a step, while the values of the step before are added up. */
static void next_step(groups *f, ll_val step) {
  tn_ll *e = f->a->k->e;
  ll_val before = plus(f, step, -1), alpha[2];
  wait_full(f, OF_KEYS, step);
  start_scores(f, step);
  wait_full(f, OF_VALUES, before);
  start_sums(f, before);
  wait_products(f, 1, true, false);
  give_back(f, OF_KEYS, step);
  mask_scores(f, step);
  for (uint32_t h = 0; h < 2; h++) alpha[h] = weigh(f, h);
  wait_products(f, 0, true, true);
  give_back(f, OF_VALUES, before);
  for (uint32_t i = 0; i < f->nsums; i++)
    set(f, f->sums[i], ll_fmul(e, get(f, f->sums[i]), alpha[i / 2 % 2]));
  pack_weights(f);
}

/* All that multiply: values of the last step's tile that are behind the last key become 0. The swizzle leaves
 * rows where they are. */
static void clear_tail(groups *f, ll_val step) {
  tn_cuda_kernel *k = f->a->k;
  tn_ll *e = k->e;
  ll_if some;
  ll_loop l;
  ll_val left = ll_sub(e, tn_cuda_to32(f->a, f->a->t), times(f, step, KEYS)),
         tile = tile_at(f, OF_VALUES, step);
  ll_val me = times(f, ll_iadd(e, times(f, f->warp, 32), f->lane), 16);
  ll_if_begin(e, &some, ll_icmp(e, LLVMIntSLT, left, n32(f, KEYS)));
  ll_val first = ll_iadd(e, times(f, left, ROW_BYTES), me);
  ll_loop_begin(e, &l, first, n32(f, KEYS * ROW_BYTES), n32(f, WARPS * 32 * 16), NULL, 0);
  for (uint32_t p = 0; p < f->parts; p++)
    ll_store(e, ll_zero(LLVMVectorType(e->i32, 4)), at_bytes(f, tile, plus(f, l.iv, p * KEYS * ROW_BYTES)),
             16);
  ll_loop_end(e, &l, NULL);
  call(f, "llvm.nvvm.fence.proxy.async.shared_cta", NULL, 0);
  tn_cuda_barrier_of(k, 1, WARPS * 32);
  ll_if_end(e, &some);
}

static void over_keys(groups *f) {
  tn_ll *e = f->a->k->e;
  ll_if some;
  ll_loop l;
  ll_if_begin(e, &some, ll_icmp(e, LLVMIntSGT, f->steps, n32(f, 0)));
  first_step(f);
  ll_loop_begin(e, &l, n32(f, 1), f->steps, n32(f, 1), NULL, 0);
  next_step(f, l.iv);
  ll_loop_end(e, &l, NULL);
  ll_val last = plus(f, f->steps, -1);
  wait_full(f, OF_VALUES, last);
  clear_tail(f, last);
  start_sums(f, last);
  wait_products(f, 0, false, true);
  ll_if_end(e, &some);
}

/* ---- results ------------------------------------------------------------------------------------------- */

/* A piece of this warp's 16 rows, to its part of the room. */
static void leave(groups *f, uint32_t part, ll_val room, const ll_val *inverse) {
  tn_ll *e = f->a->k->e;
  ll_val at =
      ll_iadd(e, times(f, ll_lshr(e, f->lane, n32(f, 2)), PITCH), times(f, ll_and(e, f->lane, n32(f, 3)), 8));
  for (uint32_t i = 0; i < PART / 2; i += 2) {
    uint32_t h = i / 2 % 2, column = i / 4 * 8;
    ll_val pair = LLVMGetPoison(LLVMVectorType(e->f32, 2));
    for (uint32_t j = 0; j < 2; j++)
      pair = ll_put(e, pair, ll_fmul(e, get(f, f->sums[part * PART / 2 + i + j]), inverse[h]), j);
    ll_store(e, pair, at_bytes(f, room, plus(f, at, h * 8 * PITCH + column * 4)), 8);
  }
}

static void store_piece(groups *f, uint32_t part, ll_val room, ll_val rows) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val per = n32(f, PART / WIDE);
  ll_loop l;
  ll_loop_begin(e, &l, f->lane, ll_mul(e, rows, per), n32(f, 32), NULL, 0);
  tn_ll_body_forget(&a->k->body);
  ll_val row = ll_idiv(e, l.iv, per), j = times(f, ll_imod(e, l.iv, per), WIDE);
  ll_val at = ll_iadd(e, times(f, row, PITCH), times(f, j, 4));
  ll_val x = ll_load(e, ll_vec(e, e->f32), at_bytes(f, room, at), 16);
  ll_val query = ll_iadd(e, ll_iadd(e, f->first, times(f, f->warp, 16)), row);
  tn_cuda_att_put(a, tn_cuda_i64(a->k, query), tn_cuda_i64(a->k, f->head), plus(f, j, part * PART), WIDE, x);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&a->k->body);
}

/* Sums go through shared memory, so that neighbouring threads store neighbouring features. */
static void store(groups *f) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val room = at_bytes(f, f->room, times(f, f->warp, 16 * PITCH)), inverse[2];
  ll_val left = ll_sub(e, ll_sub(e, tn_cuda_to32(a, a->nq), f->first), times(f, f->warp, 16));
  for (uint32_t h = 0; h < 2; h++)
    inverse[h] = tn_cuda_att_inverse(a, tn_cuda_warp_reduce(a->k, get(f, f->total[h]), 4, tn_cuda_fadd));
  for (uint32_t p = 0; p < f->parts; p++) {
    leave(f, p, room, inverse);
    tn_cuda_warp_sync(a->k);
    store_piece(f, p, room, ll_imin(e, left, n32(f, 16)));
    tn_cuda_warp_sync(a->k);
  }
}

static void multiply_all(groups *f) {
  tn_ll *e = f->a->k->e;
  ll_val many = n32(f, REGISTERS_MULTIPLY);
  call(f, "llvm.nvvm.setmaxnreg.inc.sync.aligned.u32", &many, 1);
  f->warp = plus(f, tn_cuda_warp(f->a->k), -4);
  f->lane = tn_cuda_lane(f->a->k);
  for (uint32_t h = 0; h < 2; h++) {
    set(f, f->top[h], ll_real(e, e->f32, -__builtin_inf()));
    set(f, f->total[h], ll_real(e, e->f32, 0));
  }
  for (uint32_t i = 0; i < f->nsums; i++) set(f, f->sums[i], ll_real(e, e->f32, 0));
  find_rows(f);
  over_keys(f);
  store(f);
}

/* ---- the launch ---------------------------------------------------------------------------------------- */

/* Which head, and which queries of it. Blocks that run at a time are of so many heads that their keys and
 * values stay in the second-level cache; among those, rows that see many keys come first. */
static void open_block(groups *f, tn_dim chunks) {
  tn_cuda_att *a = f->a;
  tn_cuda_kernel *k = a->k;
  tn_ll *e = k->e;
  ll_val units = tn_cuda_to32(a, ll_imul(e, tn_ll_dim(&k->body, a->batches), ll_k(e, a->h)));
  ll_val n = tn_cuda_to32(a, tn_ll_dim(&k->body, chunks)), t = ll_imax(e, tn_cuda_to32(a, a->t), n32(f, 1));
  ll_val near = ll_imax(e, ll_udiv(e, n32(f, CACHE_BYTES / (4 * a->d)), t), n32(f, 1));
  near = ll_imin(e, times(f, near, a->g), units); /* heads that are taken together */
  ll_val of_group = ll_mul(e, near, n), block = tn_cuda_block(k, 0), within = ll_urem(e, block, of_group);
  ll_val first = ll_mul(e, ll_udiv(e, block, of_group), near);
  ll_val across = ll_imin(e, ll_sub(e, units, first), near), chunk = ll_udiv(e, within, across);
  ll_val unit = ll_add(e, first, ll_urem(e, within, across));
  if (a->causal) chunk = ll_sub(e, ll_sub(e, n, n32(f, 1)), chunk);
  a->b = tn_cuda_i64(k, ll_idiv(e, unit, n32(f, a->h)));
  f->head = ll_imod(e, unit, n32(f, a->h));
  f->key_head = ll_idiv(e, f->head, n32(f, a->g));
  f->first = times(f, chunk, ROWS);
}

/* Keys up to the last that some query of the block sees. */
static void find_steps(groups *f) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val hi = tn_cuda_to32(a, a->t);
  if (a->causal) {
    ll_val end = ll_imin(e, plus(f, f->first, ROWS), tn_cuda_to32(a, a->nq));
    hi = ll_imin(e, ll_add(e, end, tn_cuda_to32(a, a->last)), hi);
  }
  f->steps = ll_ceildiv(e, ll_imax(e, hi, n32(f, 0)), n32(f, KEYS));
}

static void open_memory(groups *f) {
  tn_cuda_kernel *k = f->a->k;
  tn_ll *e = k->e;
  for (uint32_t i = 0; i < 3; i++)
    f->rings[i].tiles =
        tn_cuda_shared(k, i == QUERIES ? tile_bytes(f, ROWS) : SLOTS * tile_bytes(f, KEYS), 1024);
  f->room = tn_cuda_shared(k, WARPS * 16 * PITCH, 16);
  for (uint32_t i = 0; i < 3; i++) {
    f->rings[i].full = tn_cuda_shared(k, SLOTS * 8, 8);
    f->rings[i].empty = tn_cuda_shared(k, SLOTS * 8, 8);
  }
  for (uint32_t i = 0; i < f->nsums; i++) f->sums[i] = variable(f, ll_real(e, e->f32, 0));
  for (uint32_t i = 0; i < SCORES; i++) f->scores[i] = variable(f, ll_real(e, e->f32, 0));
  for (uint32_t i = 0; i < WEIGHTS; i++) f->weights[i] = variable(f, n32(f, 0));
  for (uint32_t h = 0; h < 2; h++) {
    f->top[h] = variable(f, ll_real(e, e->f32, 0));
    f->total[h] = variable(f, ll_real(e, e->f32, 0));
  }
}

/* rows: of memory, never those that are in use. */
static tn_cuda_map map_of(groups *f, tn_value v, const tn_type_info *t, tn_dim rows, uint32_t box) {
  tn_cuda_kernel *k = f->a->k;
  tn_cuda_map m = {.type = f->f16 ? TYPE_F16 : TYPE_BF16,
                   .rank = 4,
                   .swizzle = SWIZZLE_128,
                   .promotion = PROMOTION_256,
                   .sizes = {t->dims[3], t->dims[2], rows, t->dims[0]},
                   .box = {PART, 1, box, 1}};
  m.strides[1] = tn_cuda_dim_mul(k, t->dims[3], tn_cuda_dim_k(k, 2));
  m.strides[2] = tn_cuda_dim_mul(k, m.strides[1], t->dims[2]);
  m.strides[3] = tn_cuda_dim_mul(k, m.strides[2], t->dims[1]);
  (void)tn_cuda_buffer(k, v, &m.buffer);
  return m;
}

static void write_launch(groups *f, tn_dim when) {
  tn_cuda_att *a = f->a;
  tn_cuda_kernel *k = a->k;
  tn_ll *e = k->e;
  tn_dim chunks = tn_cuda_dim_ceildiv(k, a->s, ROWS);
  tn_dim units = tn_cuda_dim_mul(k, a->batches, tn_cuda_dim_k(k, a->h));
  tn_cuda_map maps[] = {map_of(f, a->q, &a->tq, a->s, ROWS),
                        map_of(f, a->key.v, &a->key.t, a->key.t.dims[1], KEYS),
                        map_of(f, a->value.v, &a->value.t, a->value.t.dims[1], KEYS)};
  tn_cuda_shape shape = {.threads = THREADS,
                         .min_blocks = 1,
                         .grid = {tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, units, chunks), when)},
                         .maps = maps,
                         .nmaps = TN_COUNT(maps)};
  ll_if copies;
  e->lanes = WIDE;
  tn_cuda_launch_begin(k, &shape);
  open_memory(f);
  tn_cuda_att_open(a);
  open_block(f, chunks);
  find_steps(f);
  init_barriers(f);
  ll_if_begin(e, &copies, ll_icmp(e, LLVMIntULT, tn_cuda_warp(k), n32(f, 4)));
  copy_all(f);
  ll_if_else(e, &copies);
  multiply_all(f);
  ll_if_end(e, &copies);
  tn_cuda_launch_end(k);
}

/* ---- which attention ----------------------------------------------------------------------------------- */

static bool plain(tn_cuda_att *a, tn_value v, const tn_type_info *t) {
  uint32_t none = UINT32_MAX, number = none; /* the buffers' addresses are only there within a launch */
  (void)tn_cuda_buffer(a->k, v, &number);
  return number != none && t->rank == 4 && t->dtype == a->tq.dtype && !t->layout;
}
static bool takes(tn_cuda_att *a) {
  if (!a->k->u->target->wgmma || (a->tq.dtype != TN_DT_f16 && a->tq.dtype != TN_DT_bf16)) return false;
  if (a->d != a->dv || (a->d != 64 && a->d != 128)) return false;
  if (tn_cuda_att_touches(a) || a->first || a->window || a->ring || !(a->scale > 0)) return false;
  return plain(a, a->q, &a->tq) && plain(a, a->key.v, &a->key.t) && plain(a, a->value.v, &a->value.t);
}

tn_dim tn_cuda_att_wgmma(tn_cuda_att *a, tn_dim only) {
  tn_cuda_kernel *k = a->k;
  if (!takes(a)) return only;
  tn_dim many =
      tn_cuda_dim_mul(k, tn_cuda_many(k, a->s, LEAST_QUERIES - 1), tn_cuda_many(k, a->key.t.dims[1], 0));
  tn_dim minus = tn_cuda_dim_mul(k, many, tn_cuda_dim_k(k, -1));
  tn_dim left = tn_cuda_dim_mul(k, only, tn_cuda_dim_add(k, tn_cuda_dim_k(k, 1), minus));
  groups *f = tn_arena_alloc(k->arena, sizeof *f);
  if (!f) {
    tn_ll_fail(k->e, "no memory");
    return only;
  }
  *f = (groups){.a = a, .f16 = a->tq.dtype == TN_DT_f16, .parts = (uint32_t)a->d / PART};
  f->nsums = f->parts * PART / 2;
  many = tn_cuda_dim_mul(k, many, only);
  if (!tn_cuda_never(k, many)) write_launch(f, many);
  return left;
}
