/* wgmma.c - products of 16-bit floats by warpgroups (sm_90a). One warpgroup does nothing but ask for tiles of
 * the operands, which the device copies into a ring in shared memory by itself; two others multiply from
 * there, 64 rows each. Barriers in shared memory, one pair per slot of the ring, tell of slots that are full
 * (so many bytes have arrived) and empty (every warp has given it back). Blocks stay and take one tile after
 * the other, so that copies for the next tile run while the results of the last one are written.
 *
 * Rows of the ring's tiles are 128 bytes with their 16-byte chunks exchanged (the 128-byte swizzle of tensor
 * maps). Edges need no care: copies fill with zeros what lies outside of a matrix. Operands that are no
 * such floats, or whose rows begin anywhere, are staged in scratch first, where the copies find them. */
#include "backends/cuda/matmul/gemv.h"
#include "backends/cuda/matmul/matmul.h"

enum {
  THREADS = 384, /* a warpgroup that copies and two that multiply */
  ROWS = 128,    /* of a tile */
  DEPTH = 64,    /* of k in a step: 128 bytes */
  STAGES = 4,
  ROW_BYTES = 128,
  GROUP_ROWS = 64,  /* of a warpgroup; columns of a box where memory runs along them */
  WARPS = 8,        /* that multiply */
  ENOUGH = 100,     /* tiles that are worth being large */
  NEIGHBOURS = 8,   /* rows of tiles that share columns while these are in the second-level cache */
  LEAST_ROWS = 65,  /* fewer are left to mma.sync */
  STAGE_ROWS = 128, /* the same where rhs is staged */
  PIECE = 32,       /* columns that are written at a time */
  PITCH = (PIECE + 8) * 4,
  REGISTERS_COPY = 40,
  REGISTERS_MULTIPLY = 232,
  SWIZZLE_128 = 3,   /* of tensor maps */
  PROMOTION_256 = 3, /* sectors that a copy brings to the second-level cache */
  CLUSTER_SHARED = 7
};
enum { TYPE_F16 = 6, TYPE_BF16 = 9 };

typedef struct product {
  tn_cuda_mm *x;
  bool f16, turned; /* turned: rhs's memory runs along n */
  uint32_t terms;   /* that lhs is the sum of; they lie along k */
  uint32_t columns, sums_count;
  uint32_t a_bytes, slot_bytes;
  ll_val ring, room, full, empty;    /* shared memory */
  ll_val tiles, down, across, steps; /* i32; tiles: of all parts; steps: of k */
  ll_val term;                       /* i32: k of a term */
  ll_val first, some;                /* of the tile's part: its first step, how many; i32 */
  ll_val sums[128];                  /* of this thread */
  ll_val at;                         /* the element being finished, in shared memory */
  uint32_t wide;
} product;

static ll_val i32(product *p, int64_t x) { return ll_int(p->x->k->e, p->x->k->e->i32, x); }
static ll_val plus(product *p, ll_val x, int64_t y) { return ll_iadd(p->x->k->e, x, i32(p, y)); }
static ll_val times(product *p, ll_val x, int64_t y) { return ll_imul(p->x->k->e, x, i32(p, y)); }
static ll_val over(product *p, ll_val x, int64_t y) { return ll_idiv(p->x->k->e, x, i32(p, y)); }
static ll_val rest(product *p, ll_val x, int64_t y) { return ll_imod(p->x->k->e, x, i32(p, y)); }
static ll_val shared_at(product *p, ll_val base, ll_val bytes) {
  return LLVMBuildInBoundsGEP2(p->x->k->e->b, p->x->k->e->i8, base, &bytes, 1, "");
}
static ll_val call(product *p, const char *name, ll_val *args, unsigned n) {
  return tn_cuda_call(p->x->k, name, NULL, 0, args, n);
}

static ll_val size_of(product *p, tn_dim d) {
  return LLVMBuildTrunc(p->x->k->e->b, tn_ll_dim(&p->x->k->body, d), p->x->k->e->i32, "");
}

/* A variable, which the optimiser turns into a register. */
static ll_val variable(tn_ll *e, ll_type type) {
  LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
  LLVMPositionBuilderBefore(e->b, LLVMGetFirstInstruction(LLVMGetEntryBasicBlock(e->fn)));
  ll_val v = LLVMBuildAlloca(e->b, type, "");
  LLVMPositionBuilderAtEnd(e->b, here);
  return v;
}

/* ---- barriers in shared memory ------------------------------------------------------------------------- */

static ll_val barrier_at(product *p, ll_val list, ll_val slot) {
  return shared_at(p, list, times(p, slot, 8));
}

/* One thread: full ones wait for the bytes that one arrival announces, empty ones for all warps. */
static void init_barriers(product *p) {
  tn_ll *e = p->x->k->e;
  ll_if one;
  ll_if_begin(e, &one, ll_icmp(e, LLVMIntEQ, tn_cuda_thread(p->x->k), i32(p, 0)));
  for (uint32_t s = 0; s < STAGES; s++) {
    ll_val full[] = {barrier_at(p, p->full, i32(p, s)), i32(p, 1)};
    ll_val empty[] = {barrier_at(p, p->empty, i32(p, s)), i32(p, WARPS)};
    call(p, "llvm.nvvm.mbarrier.init.shared", full, 2);
    call(p, "llvm.nvvm.mbarrier.init.shared", empty, 2);
  }
  call(p, "llvm.nvvm.fence.mbarrier_init.release.cluster", NULL, 0);
  call(p, "llvm.nvvm.fence.proxy.async.shared_cta", NULL, 0);
  ll_if_end(e, &one);
  tn_cuda_barrier(p->x->k);
}

/* Step `count` of the block's steps uses this slot, for the time whose parity is `parity_of`. */
static ll_val slot_of(product *p, ll_val count) { return rest(p, count, STAGES); }
static ll_val parity_of(product *p, ll_val count) { return rest(p, over(p, count, STAGES), 2); }

/* ---- tiles --------------------------------------------------------------------------------------------- */

/* Sets the part's steps; gives the tile that it belongs to. */
static ll_val open_part(product *p, ll_val number) {
  tn_cuda_mm *x = p->x;
  tn_ll *e = x->k->e;
  p->first = i32(p, 0);
  p->some = p->steps;
  if (!x->cut.used) return number;
  ll_val parts = size_of(p, x->cut.parts);
  x->cut.part = ll_urem(e, number, parts);
  p->first = ll_udiv(e, ll_mul(e, x->cut.part, p->steps), parts);
  p->some = ll_sub(e, ll_udiv(e, ll_mul(e, plus(p, x->cut.part, 1), p->steps), parts), p->first);
  return ll_udiv(e, number, parts);
}

/* Sets the product's row, column and batch. */
static void open_tile(product *p, ll_val number) {
  tn_cuda_mm *x = p->x;
  tn_ll *e = x->k->e;
  ll_val tile = open_part(p, number);
  ll_val all = ll_mul(e, p->down, p->across), within = ll_urem(e, tile, all);
  ll_val of_group = times(p, p->across, NEIGHBOURS);
  ll_val first = times(p, ll_udiv(e, within, of_group), NEIGHBOURS), in_group = ll_urem(e, within, of_group);
  ll_val height = ll_imin(e, ll_sub(e, p->down, first), i32(p, NEIGHBOURS));
  x->batch = tn_cuda_i64(x->k, ll_udiv(e, tile, all));
  x->m0 = times(p, ll_add(e, first, ll_urem(e, in_group, height)), ROWS);
  x->n0 = times(p, ll_udiv(e, in_group, height), p->columns / (x->pair ? 2 : 1));
}

/* A loop over this block's tiles; `count`: the steps before. */
typedef struct tile_loop {
  ll_loop l;
  ll_val count;
} tile_loop;
static void begin_tiles(product *p, tile_loop *t) {
  tn_ll *e = p->x->k->e;
  ll_val zero = i32(p, 0), blocks = call(p, "llvm.nvvm.read.ptx.sreg.nctaid.x", NULL, 0);
  ll_loop_begin(e, &t->l, tn_cuda_block(p->x->k, 0), p->tiles, blocks, &zero, 1);
  t->count = t->l.phi[0];
  tn_ll_body_forget(&p->x->k->body);
  open_tile(p, t->l.iv);
}
static void end_tiles(product *p, tile_loop *t) {
  ll_val next = ll_add(p->x->k->e, t->count, p->some);
  ll_loop_end(p->x->k->e, &t->l, &next);
}

/* ---- the warpgroup that copies ------------------------------------------------------------------------- */

/* A box of operand `map` whose first element is (inner, outer) of its matrix. */
static void copy_box(product *p, uint32_t map, ll_val to, ll_val barrier, ll_val inner, ll_val outer) {
  tn_ll *e = p->x->k->e;
  ll_val into = LLVMBuildAddrSpaceCast(e->b, to, tn_cuda_ptr(p->x->k, CLUSTER_SHARED), "");
  ll_val no = LLVMConstInt(e->i1, 0, 0), batch = LLVMBuildTrunc(e->b, p->x->batch, e->i32, "");
  ll_val args[] = {
      into, barrier, p->x->k->maps[map], inner, outer, batch, LLVMConstInt(e->i16, 0, 0), ll_k(e, 0),
      no,   no,      i32(p, 0)};
  bool flat = p->x->flat;
  if (flat) memmove(args + 5, args + 6, 5 * sizeof *args);
  call(p, flat ? "llvm.nvvm.cp.async.bulk.tensor.g2s.tile.2d" : "llvm.nvvm.cp.async.bulk.tensor.g2s.tile.3d",
       args, flat ? 10 : 11);
}

/* Boxes of rhs: columns of the tile beside each other; of a pair the second half belongs to the other one. */
static void copy_rhs(product *p, ll_val to, ll_val barrier, ll_val k0) {
  tn_cuda_mm *x = p->x;
  uint32_t box = p->turned ? GROUP_ROWS : x->pair ? p->columns / 2 : p->columns, bytes = box * ROW_BYTES;
  for (uint32_t c = 0; c < p->columns; c += box) {
    bool second = x->pair && c >= p->columns / 2;
    ll_val column = plus(p, x->n0, second ? c - p->columns / 2 : c);
    if (second) column = ll_iadd(x->k->e, column, x->n);
    copy_box(p, 1, shared_at(p, to, i32(p, c / box * bytes)), barrier, p->turned ? column : k0,
             p->turned ? k0 : column);
  }
}

/* k0 in lhs, `again` in rhs. */
static void copy_step(product *p, ll_val count, ll_val k0, ll_val again) {
  tn_ll *e = p->x->k->e;
  ll_val slot = slot_of(p, count), full = barrier_at(p, p->full, slot);
  tn_cuda_await(p->x->k, barrier_at(p, p->empty, slot), ll_xor(e, parity_of(p, count), i32(p, 1)));
  ll_val expect[] = {full, i32(p, p->slot_bytes)};
  call(p, "llvm.nvvm.mbarrier.arrive.expect.tx.scope.cta.space.cta", expect, 2);
  ll_val to = shared_at(p, p->ring, times(p, slot, p->slot_bytes));
  copy_box(p, 0, to, full, k0, p->x->m0);
  copy_rhs(p, shared_at(p, to, i32(p, p->a_bytes)), full, again);
}

/* The steps as a number that is not known while code is written: unrolled, the loop would need more registers
 * than the warpgroup keeps. */
static ll_val unknown_steps(product *p) {
  return tn_cuda_asm_pure(p->x->k, p->x->k->e->i32, "mov.b32 $0, $1;", "=r,r", &p->some, 1);
}

static void copy_all(product *p) {
  tn_ll *e = p->x->k->e;
  ll_val few = i32(p, REGISTERS_COPY);
  call(p, "llvm.nvvm.setmaxnreg.dec.sync.aligned.u32", &few, 1);
  ll_if one;
  tile_loop t;
  ll_loop l;
  ll_if_begin(e, &one, ll_icmp(e, LLVMIntEQ, tn_cuda_thread(p->x->k), i32(p, 0)));
  begin_tiles(p, &t);
  ll_val zero = i32(p, 0), begin = times(p, p->first, DEPTH);
  if (p->terms > 1) begin = ll_urem(e, begin, p->term);
  ll_loop_begin(e, &l, zero, unknown_steps(p), i32(p, 1), &begin, p->terms > 1);
  ll_val k0 = times(p, ll_iadd(e, p->first, l.iv), DEPTH), again = p->terms > 1 ? l.phi[0] : k0,
         next = plus(p, again, DEPTH);
  copy_step(p, ll_add(e, t.count, l.iv), k0, again);
  if (p->terms > 1) next = ll_select(e, ll_icmp(e, LLVMIntEQ, next, p->term), zero, next);
  ll_loop_end(e, &l, &next);
  end_tiles(p, &t);
  ll_if_end(e, &one);
}

/* ---- the warpgroups that multiply ---------------------------------------------------------------------- */

/* Four products of 16 k each. A descriptor counts in units of 16 bytes: 16 k are 32 bytes of a row; turned,
 * 16 rows. */
static void write_products(const product *p, tn_buf *text, tn_buf *operands) {
  uint32_t n = p->sums_count, on = p->turned ? 16 * ROW_BYTES / 16 : 2;
  tn_buf_puts(text, "{\n.reg .b64 a, b;\n");
  for (uint32_t k = 0; k < DEPTH / 16; k++) {
    tn_buf_printf(text, "add.s64 a, $%u, %u;\nadd.s64 b, $%u, %u;\n", 2 * n, 2 * k, 2 * n + 1, on * k);
    tn_buf_printf(text, "wgmma.mma_async.sync.aligned.m64n%uk16.f32.%s {", p->columns,
                  p->f16 ? "f16.f16" : "bf16.bf16");
    for (uint32_t i = 0; i < n; i++) tn_buf_printf(text, "%s$%u", i ? ", " : "", i);
    tn_buf_printf(text, "}, a, b, 1, 1, 1, 0, %d;\n", p->turned);
  }
  tn_buf_puts(text, "}");
  for (uint32_t i = 0; i < n; i++) tn_buf_puts(operands, "=f,");
  for (uint32_t i = 0; i < n; i++) tn_buf_printf(operands, "%u,", i);
  tn_buf_puts(operands, "l,l");
}

/* Of a swizzled tile: `group` bytes between 8 rows, `leading` between groups of columns where it is turned.
 */
static ll_val descriptor(product *p, ll_val at, uint32_t leading, uint32_t group) {
  tn_ll *e = p->x->k->e;
  int64_t fixed = (int64_t)1 << 62 | (int64_t)(group / 16) << 32 | (int64_t)(leading / 16) << 16;
  ll_val address = LLVMBuildPtrToInt(e->b, at, e->i64, "");
  return ll_or(e, ll_lshr(e, ll_and(e, address, ll_k(e, 0x3ffff)), ll_k(e, 4)), ll_k(e, fixed));
}

static void multiply(product *p, ll_val slot, ll_val group) {
  tn_ll *e = p->x->k->e;
  tn_buf text = {0}, operands = {0};
  ll_type types[128];
  ll_val args[130];
  write_products(p, &text, &operands);
  for (uint32_t i = 0; i < p->sums_count; i++) {
    types[i] = e->f32;
    args[i] = LLVMBuildLoad2(e->b, e->f32, p->sums[i], "");
  }
  ll_val to = shared_at(p, p->ring, times(p, slot, p->slot_bytes));
  args[p->sums_count] = descriptor(p, shared_at(p, to, times(p, group, GROUP_ROWS * ROW_BYTES)), 16, 1024);
  args[p->sums_count + 1] =
      descriptor(p, shared_at(p, to, i32(p, p->a_bytes)), p->turned ? DEPTH * ROW_BYTES : 16, 8 * ROW_BYTES);
  call(p, "llvm.nvvm.wgmma.fence.sync.aligned", NULL, 0);
  ll_val r = tn_cuda_asm(p->x->k, LLVMStructTypeInContext(e->ctx, types, p->sums_count, 0),
                         tn_buf_cstr(&text), tn_buf_cstr(&operands), args, p->sums_count + 2);
  call(p, "llvm.nvvm.wgmma.commit_group.sync.aligned", NULL, 0);
  for (uint32_t i = 0; i < p->sums_count; i++)
    LLVMBuildStore(e->b, LLVMBuildExtractValue(e->b, r, i, ""), p->sums[i]);
  if (text.failed || operands.failed) tn_ll_fail(e, "no memory");
  tn_buf_fini(&text);
  tn_buf_fini(&operands);
}

static void wait_products(product *p, uint32_t pending) {
  ll_val n = ll_k(p->x->k->e, pending);
  call(p, "llvm.nvvm.wgmma.wait_group.sync.aligned", &n, 1);
}

/* This warp gives back the slot of step `count`, if `when`. */
static void give_back(product *p, ll_val count, ll_val when) {
  tn_ll *e = p->x->k->e;
  ll_if one;
  ll_val first = ll_icmp(e, LLVMIntEQ, tn_cuda_lane(p->x->k), i32(p, 0));
  ll_if_begin(e, &one, ll_and(e, first, when));
  ll_val args[] = {barrier_at(p, p->empty, slot_of(p, count)), i32(p, 1)};
  call(p, "llvm.nvvm.mbarrier.arrive.scope.cta.space.cta", args, 2);
  ll_if_end(e, &one);
}

/* One product stays under way while the next slot is waited for. */
static void multiply_tile(product *p, ll_val count, ll_val group) {
  tn_ll *e = p->x->k->e;
  ll_loop l;
  for (uint32_t i = 0; i < p->sums_count; i++) LLVMBuildStore(e->b, ll_real(e, e->f32, 0), p->sums[i]);
  ll_loop_begin(e, &l, i32(p, 0), p->some, i32(p, 1), NULL, 0);
  ll_val now = ll_add(e, count, l.iv), slot = slot_of(p, now);
  tn_cuda_await(p->x->k, barrier_at(p, p->full, slot), parity_of(p, now));
  multiply(p, slot, group);
  wait_products(p, 1);
  give_back(p, plus(p, now, -1), ll_icmp(e, LLVMIntNE, l.iv, i32(p, 0)));
  ll_loop_end(e, &l, NULL);
  wait_products(p, 0);
  give_back(p, plus(p, ll_add(e, count, p->some), -1), LLVMConstInt(e->i1, 1, 0));
}

/* ---- results ------------------------------------------------------------------------------------------- */

/* 8 columns from `column` of the tile on, of this warp's 16 rows, to its part of the room. */
static void leave(product *p, uint32_t column, ll_val room, uint32_t to) {
  tn_ll *e = p->x->k->e;
  ll_val lane = tn_cuda_lane(p->x->k);
  ll_val at = ll_iadd(e, times(p, over(p, lane, 4), PITCH), times(p, rest(p, lane, 4), 8));
  for (uint32_t h = 0; h < 2; h++) {
    ll_val pair = LLVMGetPoison(LLVMVectorType(e->f32, 2));
    for (uint32_t i = 0; i < 2; i++)
      pair = ll_put(e, pair, LLVMBuildLoad2(e->b, e->f32, p->sums[column / 2 + 2 * h + i], ""), i);
    ll_store(e, pair, shared_at(p, room, plus(p, at, h * 8 * PITCH + to * 4)), 8);
  }
}

static ll_val give_sums(void *ctx, uint32_t half) {
  product *p = ctx;
  tn_ll *e = p->x->k->e;
  ll_type type = p->wide == 1 ? e->f32 : LLVMVectorType(e->f32, p->wide);
  return ll_load(e, type, shared_at(p, p->at, i32(p, half * PIECE / 2 * 4)), p->wide == 1 ? 4 : 16);
}

/* `columns` of the result from `first` of the tile on. */
static void finish_piece(product *p, uint32_t first, uint32_t columns, ll_val warp, ll_val room) {
  tn_ll *e = p->x->k->e;
  uint32_t across = columns / p->wide;
  ll_loop l;
  for (uint32_t c = 0; c < columns; c += 8) {
    leave(p, first + c, room, c);
    if (p->x->pair) leave(p, p->columns / 2 + first + c, room, PIECE / 2 + c);
  }
  tn_cuda_warp_sync(p->x->k);
  ll_loop_begin(e, &l, tn_cuda_lane(p->x->k), i32(p, 16 * across), i32(p, 32), NULL, 0);
  ll_val row = over(p, l.iv, across), column = times(p, rest(p, l.iv, across), p->wide);
  p->at = shared_at(p, room, ll_iadd(e, times(p, row, PITCH), times(p, column, 4)));
  tn_cuda_mm_put(p->x, p->wide, ll_iadd(e, times(p, warp, 16), row), plus(p, column, first));
  ll_loop_end(e, &l, NULL);
  tn_cuda_warp_sync(p->x->k);
}

static void multiply_all(product *p) {
  ll_val many = i32(p, REGISTERS_MULTIPLY);
  call(p, "llvm.nvvm.setmaxnreg.inc.sync.aligned.u32", &many, 1);
  tile_loop t;
  uint32_t part = p->x->pair ? 2 : 1;
  ll_val warp = plus(p, tn_cuda_warp(p->x->k), -4), room = shared_at(p, p->room, times(p, warp, 16 * PITCH));
  begin_tiles(p, &t);
  multiply_tile(p, t.count, over(p, warp, 4));
  for (uint32_t c = 0; c < p->columns / part; c += PIECE / part) finish_piece(p, c, PIECE / part, warp, room);
  end_tiles(p, &t);
}

/* ---- a launch ------------------------------------------------------------------------------------------ */

static tn_dim bytes_of(product *p, tn_dim elements) {
  return tn_cuda_dim_mul(p->x->k, elements, tn_cuda_dim_k(p->x->k, 2));
}

/* The operand's matrices: inner is the size along which memory runs. */
static tn_cuda_map map_of(product *p, bool is_rhs, uint32_t inner_box, uint32_t outer_box) {
  tn_cuda_mm *x = p->x;
  const tn_type_info *t = is_rhs ? &x->tr : &x->tl;
  tn_dim inner = t->dims[t->rank - 1], outer = t->dims[t->rank - 2];
  if (x->flat && !is_rhs) outer = x->m_dim;
  tn_cuda_map m = {.type = p->f16 ? TYPE_F16 : TYPE_BF16,
                   .rank = x->flat ? 2 : 3,
                   .swizzle = SWIZZLE_128,
                   .promotion = PROMOTION_256,
                   .sizes = {inner, outer, x->batch_dim},
                   .box = {inner_box, outer_box, 1}};
  const tn_cuda_mm_staged *staged = &x->staged[is_rhs];
  tn_dim line = staged->used ? staged->line : inner;
  m.strides[1] = bytes_of(p, line);
  m.strides[2] = bytes_of(p, tn_cuda_dim_mul(x->k, line, outer));
  if (!staged->used) {
    (void)tn_cuda_buffer(x->k, is_rhs ? x->rhs : x->lhs, &m.buffer);
    return m;
  }
  m.scratch = staged->at;
  if (!is_rhs && p->terms > 1) m.sizes[0] = line;
  return m;
}

static void open_launch(product *p) {
  tn_cuda_mm *x = p->x;
  tn_ll *e = x->k->e;
  uint32_t across = p->columns / (x->pair ? 2 : 1);
  p->ring = tn_cuda_shared(x->k, STAGES * p->slot_bytes, 1024);
  p->room = tn_cuda_shared(x->k, WARPS * 16 * PITCH, 16);
  p->full = tn_cuda_shared(x->k, STAGES * 8, 8);
  p->empty = tn_cuda_shared(x->k, STAGES * 8, 8);
  tn_cuda_mm_open(x, ROWS, across); /* sizes; the tile is chosen anew */
  p->down = size_of(p, tn_cuda_dim_ceildiv(x->k, x->m_dim, ROWS));
  p->across = size_of(p, tn_cuda_dim_ceildiv(x->k, x->n_dim, across));
  p->tiles = size_of(p, tn_cuda_mm_in_parts(x, tn_cuda_mm_blocks(x, ROWS, across)));
  p->steps = over(p, plus(p, x->depth, DEPTH - 1), DEPTH);
  if (p->terms > 1)
    p->term = size_of(p, x->staged[0].term), p->steps = times(p, over(p, p->term, DEPTH), p->terms);
  for (uint32_t i = 0; i < p->sums_count; i++) p->sums[i] = variable(e, e->f32);
}

static void write_launch(tn_cuda_mm *x, bool f16, uint32_t terms, uint32_t columns, tn_dim when) {
  product p = {.x = x, .f16 = f16, .terms = terms, .turned = !x->trans_b, .columns = columns};
  tn_ll *e = x->k->e;
  tn_dim tiles = tn_cuda_mm_in_parts(x, tn_cuda_mm_blocks(x, ROWS, columns / (x->pair ? 2 : 1)));
  uint32_t box = x->pair ? columns / 2 : columns;
  tn_cuda_map maps[2] = {map_of(&p, false, DEPTH, ROWS),
                         map_of(&p, true, p.turned ? GROUP_ROWS : DEPTH, p.turned ? DEPTH : box)};
  tn_cuda_shape shape = {.threads = THREADS, .min_blocks = 1, .resident = 1, .maps = maps, .nmaps = 2};
  ll_if copies;
  shape.grid[0] = tn_cuda_dim_mul(x->k, tiles, when);
  p.sums_count = columns / 2;
  p.a_bytes = ROWS * ROW_BYTES;
  p.slot_bytes = (ROWS + columns) * ROW_BYTES;
  p.wide = tn_cuda_mm_wide(x);
  e->lanes = p.wide == 1 ? 4 : p.wide;
  tn_cuda_launch_begin(x->k, &shape);
  open_launch(&p);
  init_barriers(&p);
  x->sums = give_sums;
  x->ctx = &p;
  ll_if_begin(e, &copies, ll_icmp(e, LLVMIntULT, tn_cuda_warp(x->k), i32(&p, 4)));
  copy_all(&p);
  ll_if_else(e, &copies);
  multiply_all(&p);
  ll_if_end(e, &copies);
  tn_cuda_launch_end(x->k);
}

/* ---- which products ------------------------------------------------------------------------------------ */

/* All leading sizes are the result's. */
static bool same_batch(const tn_cuda_mm *x, const tn_type_info *t) {
  return t->rank == x->to.rank && !memcmp(t->dims, x->to.dims, (t->rank - 2) * sizeof *t->dims);
}

/* k may not be empty. stage: operands whose lines do not begin at multiples of 16 bytes, or are not of
 * `type`; terms put lhs among them. */
static bool takes(tn_cuda_mm *x, tn_cuda_mma kind, tn_dtype type, uint32_t terms, bool stage[2]) {
  int64_t k;
  if (!x->k->u->target->wgmma || kind == TN_CUDA_MMA_TF32 || x->trans_a) return false;
  if (!x->flat && (!same_batch(x, &x->tl) || !same_batch(x, &x->tr))) return false;
  if (!tn_ll_dim_const(&x->k->body, x->k_dim, &k) || k <= 0) return false;
  for (uint32_t i = 0; i < 2; i++) {
    stage[i] = !tn_cuda_mm_direct(x, i, type) || (!i && terms > 1);
    if (stage[i] && !tn_cuda_mm_stageable(x, i, type)) return false;
  }
  return true;
}

tn_dim tn_cuda_mm_wgmma(tn_cuda_mm *x, tn_cuda_mma kind, uint32_t terms, tn_dim only) {
  tn_cuda_kernel *k = x->k;
  bool stage[2], f16 = kind == TN_CUDA_MMA_F16;
  tn_dtype type = f16 ? TN_DT_f16 : TN_DT_bf16;
  if (!takes(x, kind, type, terms, stage)) return only;
  tn_dim one = tn_cuda_dim_k(k, 1), minus = tn_cuda_dim_k(k, -1);
  tn_dim many = tn_cuda_many(k, x->m_dim, (stage[1] ? STAGE_ROWS : LEAST_ROWS) - 1);
  tn_dim left = tn_cuda_dim_mul(k, only, tn_cuda_dim_add(k, one, tn_cuda_dim_mul(k, many, minus)));
  tn_dim tiles = tn_cuda_mm_blocks(x, ROWS, 256 / (x->pair ? 2 : 1));
  tn_dim large = tn_cuda_many(k, tiles, ENOUGH - 1);
  tn_dim small = tn_cuda_dim_add(k, one, tn_cuda_dim_mul(k, large, minus));
  many = tn_cuda_dim_mul(k, many, only);
  if (tn_cuda_never(k, many)) return left;
  for (uint32_t i = 0; i < 2; i++)
    if (stage[i]) tn_cuda_mm_stage(x, i, type, i ? 1 : terms, many);
  large = tn_cuda_dim_mul(k, large, many);
  small = tn_cuda_dim_mul(k, small, many);
  if (!tn_cuda_never(k, large)) write_launch(x, f16, terms, 256, large);
  tn_dim cut = tn_cuda_mm_cut(x, ROWS, 128 / (x->pair ? 2 : 1), small);
  if (x->cut.used) {
    write_launch(x, f16, terms, 128, cut);
    tn_cuda_mm_join(x, cut);
    small = tn_cuda_dim_add(k, small, tn_cuda_dim_mul(k, cut, minus));
  }
  if (!tn_cuda_never(k, small)) write_launch(x, f16, terms, 128, small);
  for (uint32_t i = 0; i < 2; i++) x->staged[i].used = false;
  return left;
}
