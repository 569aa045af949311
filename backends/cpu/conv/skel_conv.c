/* skel_conv.c - conv and conv_transpose with an epilogue: what a tile is, the walk over tiles and blocks of
 * outputs, and the stores. conv.h has the idea. Work is cut into units of (tile) x (block of outputs); a
 * thread takes a contiguous run of them and stages a tile's input once for all its blocks, unless the
 * channels do not fit and come in chunks. Sums run over channels and taps in one order whatever the cut. */
#include "backends/cpu/conv/conv.h"
#include "backends/cpu/ukernel/ukernel.h"
#include "backends/llvm/convert.h"

/* ---- products ---- */
/* Rows behind the last are those of a panel's end; fewer vectors only with all rows. */
static void call_rows(tn_cpu_conv *v, ll_val rows, ll_val vectors, bool masked, const tn_cpu_conv_tile *t) {
  tn_ll *e = v->k->e;
  int64_t outputs;
  LLVMBasicBlockRef end = ll_block(e, "tiled");
  ll_val sw = LLVMBuildSwitch(e->b, rows, end, v->rows);
  for (uint32_t r = 1; r <= v->rows; r++) {
    if (r < v->rows && ll_const(v->outputs, &outputs) && outputs % TN_CPU_PANEL % v->rows != r) continue;
    LLVMBasicBlockRef block = ll_block(e, "rows");
    LLVMAddCase(sw, ll_k(e, r), block);
    LLVMPositionBuilderAtEnd(e->b, block);
    if (r < v->rows) {
      tn_cpu_conv_call(v->k, r, v->vectors, masked, t);
      LLVMBuildBr(e->b, end);
      continue;
    }
    ll_val few = LLVMBuildSwitch(e->b, vectors, end, v->vectors);
    for (uint32_t n = 1; n <= v->vectors; n++) {
      LLVMBasicBlockRef one = ll_block(e, "vectors");
      LLVMAddCase(few, ll_k(e, n), one);
      LLVMPositionBuilderAtEnd(e->b, one);
      tn_cpu_conv_call(v->k, r, n, masked, t);
      LLVMBuildBr(e->b, end);
    }
  }
  LLVMPositionBuilderAtEnd(e->b, end);
}

/* All positions of the tile for outputs o .. o + rows of the block, of one phase. */
static void product_row(tn_cpu_conv *v, ll_val o, ll_val rows, ll_val phase, tn_cpu_conv_tile *t) {
  tn_ll *e = v->k->e;
  ll_val x = t->x, c_row = ll_add(e, ll_mul(e, phase, ll_k(e, v->block_max)), ll_sub(e, o, v->parts_o));
  ll_val c = ll_at(e, v->parts, ll_mul(e, c_row, ll_mul(e, v->parts_row, ll_k(e, 4))));
  int64_t width = (int64_t)v->vectors * e->lanes;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), v->positions, ll_k(e, width), NULL, 0);
  ll_val off = ll_mul(e, l.iv, ll_k(e, 4)), left = ll_sub(e, v->positions, l.iv);
  t->x = ll_at(e, x, off);
  t->c = ll_at(e, c, off);
  t->left = left;
  ll_val vectors = ll_imin(e, ll_ceildiv(e, left, ll_k(e, e->lanes)), ll_k(e, v->vectors));
  if (v->direct) {
    ll_if inside;
    ll_if_begin(e, &inside, ll_icmp(e, LLVMIntSGE, left, ll_k(e, width)));
    call_rows(v, rows, ll_k(e, v->vectors), false, t);
    ll_if_else(e, &inside);
    call_rows(v, rows, vectors, true, t);
    ll_if_end(e, &inside);
  } else {
    call_rows(v, rows, vectors, false, t);
  }
  ll_loop_end(e, &l, NULL);
  t->x = x;
}

static ll_val input_pointer(tn_cpu_conv *v) {
  tn_ll *e = v->k->e;
  if (!v->direct) return v->band;
  const tn_cpu_axis *x = &v->axis[TN_CONV_X], *y = &v->axis[TN_CONV_Y], *z = &v->axis[TN_CONV_Z];
  ll_val first = ll_add(e, ll_mul(e, v->group, v->channels), v->c0),
         all = ll_mul(e, v->channels, ll_k(e, v->groups));
  ll_val channel = ll_add(e, ll_mul(e, v->image, all), first);
  ll_val at = ll_add(e, ll_mul(e, channel, v->channel), ll_mul(e, z->at, v->plane));
  at = ll_add(e, at, ll_add(e, ll_mul(e, y->at, x->in), x->at));
  return ll_at(e, tn_cpu_arg_buffer(v->k, v->x), ll_mul(e, at, ll_k(e, 4)));
}

static ll_val weights_pointer(tn_cpu_conv *v, ll_val panel) {
  tn_ll *e = v->k->e;
  if (!v->packed) return v->weights;
  ll_val per_group = ll_ceildiv(e, v->outputs, ll_k(e, TN_CPU_PANEL));
  ll_val at = ll_mul(e, ll_add(e, ll_mul(e, v->group, per_group), panel), v->channels);
  at = ll_mul(e, ll_add(e, at, v->c0), ll_k(e, v->taps * TN_CPU_PANEL * 4));
  return ll_at(e, tn_cpu_arg_buffer(v->k, v->w), at);
}

/* ---- the epilogue ---- */
/* Where vector j of the row stands among the results: transposed, neighbours are of different phases. */
static ll_val load_parts(tn_cpu_conv *v, tn_ll_ix j, ll_val mask) {
  tn_ll *e = v->k->e;
  const tn_cpu_axis *x = &v->axis[TN_CONV_X];
  ll_val base = ll_add(e, ll_mul(e, v->store_phase, ll_k(e, v->block_max)), v->store_o);
  base = ll_add(e, ll_mul(e, base, v->parts_row), v->store_row);
  ll_type f = ll_vec(e, e->f32);
  if (x->out_phases == 1) {
    ll_val at = ll_sub(e, ll_add(e, j.v, x->low), x->at);
    if (!v->transposed) at = ll_sub(e, j.v, x->at);
    return ll_load(e, f, ll_at(e, v->parts, ll_mul(e, ll_add(e, base, at), ll_k(e, 4))), 4);
  }
  ll_val s = ll_k(e, x->stride), from = ll_sub(e, ll_add(e, j.v, x->low), ll_mul(e, x->at, s));
  ll_val lane = ll_add(e, ll_splat(e, LLVMBuildTrunc(e->b, from, e->i32, "")), ll_steps(e, e->i32));
  ll_val by = ll_splat(e, LLVMBuildTrunc(e->b, s, e->i32, ""));
  ll_type wide = ll_vec(e, e->i64);
  ll_val phase = LLVMBuildZExt(e->b, ll_urem(e, lane, by), wide, "");
  ll_val at = LLVMBuildZExt(e->b, ll_udiv(e, lane, by), wide, "");
  ll_val apart = ll_mul(e, ll_k(e, v->block_max), v->parts_row);
  at = ll_add(e, ll_add(e, at, ll_mul(e, phase, ll_splat(e, apart))), ll_splat(e, base));
  ll_val bytes = ll_mul(e, at, ll_int(e, wide, 4)), p = LLVMBuildGEP2(e->b, e->i8, v->parts, &bytes, 1, "");
  ll_type over[] = {f, LLVMTypeOf(p)};
  ll_val args[] = {p, mask ? mask : LLVMConstAllOnes(ll_vec(e, e->i1)), LLVMConstNull(f)};
  ll_val r = ll_call(e, "llvm.masked.gather", over, 2, args, 3);
  LLVMSetInstrParamAlignment(r, 1, 4);
  return r;
}

/* The root's value in the epilogue. */
static ll_val give_result(void *ctx, const tn_ll_index *ix) {
  tn_cpu_conv *v = ctx;
  tn_ll *e = v->k->e;
  ll_val r = load_parts(v, ix->at[ix->rank - 1], ix->mask);
  if (v->bias) {
    tn_ll_index at = {.rank = 1, .at = {ix->at[1]}};
    r = ll_fadd(e, r, ll_wide(e, tn_ll_eval_f32(&v->k->body, v->bias, &at), true));
  }
  return tn_ll_convert(e, TN_DT_f32, v->to.dtype, r);
}

typedef struct line {
  tn_cpu_conv *v;
  ll_val o, z, y;
} line;

static void store_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  const line *l = ctx;
  tn_cpu_conv *v = l->v;
  tn_ll *e = k->e;
  (void)acc;
  tn_ll_index ix = {.rank = v->to.rank, .mask = mask, .shape = v->to.dims};
  ll_val at[TN_CONV_AXES] = {l->z, l->y};
  ix.at[0] = tn_ll_ix_scalar(v->image);
  ix.at[1] = tn_ll_ix_scalar(ll_add(e, ll_mul(e, v->group, v->outputs), l->o));
  for (uint32_t i = 0; i + 1 < v->spatial; i++)
    ix.at[2 + i] = tn_ll_ix_scalar(at[TN_CONV_AXES - v->spatial + i]);
  if (v->transposed) j.aligned = 0;
  ix.at[v->to.rank - 1] = j;
  tn_cpu_store_yields(k, &ix);
}

/* One row of results: phase (pz, py), row r of the tile. */
static void store_row(tn_cpu_conv *v, line *l, ll_val pz, ll_val py, ll_val r) {
  tn_ll *e = v->k->e;
  const tn_cpu_axis *x = &v->axis[TN_CONV_X], *y = &v->axis[TN_CONV_Y], *z = &v->axis[TN_CONV_Z];
  ll_val lo = x->at, hi = ll_add(e, x->at, x->now), zero = ll_k(e, 0);
  v->store_row = ll_mul(e, r, v->pitch);
  v->store_phase = zero;
  l->z = z->at;
  l->y = ll_add(e, y->at, r);
  if (!v->transposed) {
    tn_cpu_columns(v->k, lo, hi, store_column, l, NULL, 0);
    return;
  }
  v->store_phase = ll_mul(e, ll_add(e, ll_mul(e, pz, ll_k(e, y->out_phases)), py), ll_k(e, x->out_phases));
  l->z = ll_sub(e, ll_add(e, ll_mul(e, l->z, ll_k(e, z->stride)), pz), z->low);
  l->y = ll_sub(e, ll_add(e, ll_mul(e, l->y, ll_k(e, y->stride)), py), y->low);
  lo = ll_imax(e, ll_sub(e, ll_mul(e, lo, ll_k(e, x->stride)), x->low), zero);
  hi = ll_imin(e, ll_sub(e, ll_mul(e, hi, ll_k(e, x->stride)), x->low), x->out);
  ll_val inside = ll_and(e, ll_icmp(e, LLVMIntULT, l->z, z->out), ll_icmp(e, LLVMIntULT, l->y, y->out));
  ll_if in;
  ll_if_begin(e, &in, inside);
  tn_cpu_columns(v->k, lo, hi, store_column, l, NULL, 0);
  ll_if_end(e, &in);
  tn_ll_body_forget(&v->k->body);
}

/* Stores outputs first .. last. */
static void finish(tn_cpu_conv *v, ll_val first, ll_val last) {
  tn_ll *e = v->k->e;
  const tn_cpu_axis *y = &v->axis[TN_CONV_Y], *z = &v->axis[TN_CONV_Z];
  ll_loop o, pz, rows, py;
  line l = {.v = v};
  ll_loop_begin(e, &o, first, last, ll_k(e, 1), NULL, 0);
  v->store_o = ll_sub(e, o.iv, v->parts_o);
  l.o = o.iv;
  if (v->transposed) ll_loop_begin(e, &pz, ll_k(e, 0), ll_k(e, z->out_phases), ll_k(e, 1), NULL, 0);
  ll_loop_begin(e, &rows, ll_k(e, 0), y->now, ll_k(e, 1), NULL, 0);
  if (v->transposed) ll_loop_begin(e, &py, ll_k(e, 0), ll_k(e, y->out_phases), ll_k(e, 1), NULL, 0);
  store_row(v, &l, v->transposed ? pz.iv : NULL, v->transposed ? py.iv : NULL, rows.iv);
  if (v->transposed) ll_loop_end(e, &py, NULL);
  ll_loop_end(e, &rows, NULL);
  if (v->transposed) ll_loop_end(e, &pz, NULL);
  ll_loop_end(e, &o, NULL);
  tn_ll_body_forget(&v->k->body);
}

/* ---- a unit ---- */
/* Outputs of the unit, panel by panel, over the chunk's channels; results are stored after the last chunk. If
 * that is the only one, all panels have the same place for them. */
static void products(tn_cpu_conv *v) {
  tn_ll *e = v->k->e;
  ll_val panel = ll_k(e, TN_CPU_PANEL), rows = ll_k(e, v->rows);
  ll_loop panels, phases, blocks;
  ll_loop_begin(e, &panels, ll_udiv(e, v->o0, panel), ll_ceildiv(e, v->o1, panel), ll_k(e, 1), NULL, 0);
  if (!v->packed) tn_cpu_conv_stage_weights(v, panels.iv);
  ll_val first = ll_mul(e, panels.iv, panel), w = weights_pointer(v, panels.iv);
  ll_val last = ll_imin(e, ll_add(e, first, panel), v->o1);
  v->parts_o = ll_select(e, ll_icmp(e, LLVMIntEQ, v->chunks, ll_k(e, 1)), first, v->o0);
  tn_cpu_conv_tile t = {.channels = v->nc,
                        .w_step = ll_k(e, v->taps * TN_CPU_PANEL * 4),
                        .x = input_pointer(v),
                        .x_step = ll_mul(e, v->channel, ll_k(e, 4)),
                        .c_stride = ll_mul(e, v->parts_row, ll_k(e, 4)),
                        .more = ll_icmp(e, LLVMIntNE, v->c0, ll_k(e, 0))};
  ll_loop_begin(e, &phases, ll_k(e, 0), ll_k(e, v->phases), ll_k(e, 1), NULL, 0);
  t.table = ll_at(e, v->table, ll_mul(e, phases.iv, ll_k(e, v->taps * 16)));
  t.taps = ll_load(e, e->i64, ll_at(e, v->counts, ll_mul(e, phases.iv, ll_k(e, 8))), 8);
  ll_loop_begin(e, &blocks, first, last, rows, NULL, 0);
  t.w = ll_at(e, w, ll_mul(e, ll_sub(e, blocks.iv, first), ll_k(e, 4)));
  product_row(v, blocks.iv, ll_imin(e, ll_sub(e, last, blocks.iv), rows), phases.iv, &t);
  ll_loop_end(e, &blocks, NULL);
  ll_loop_end(e, &phases, NULL);
  ll_if done;
  ll_if_begin(e, &done, ll_icmp(e, LLVMIntSGE, ll_add(e, v->c0, v->nc), v->channels));
  finish(v, first, last);
  ll_if_end(e, &done);
  ll_loop_end(e, &panels, NULL);
}

/* ---- the walk ---- */
/* A block of outputs of the tile; `first`: its input is not staged yet. */
static void unit(tn_cpu_conv *v, ll_val first) {
  tn_ll *e = v->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), v->chunks, ll_k(e, 1), NULL, 0);
  v->c0 = ll_mul(e, l.iv, v->chunk);
  v->nc = ll_imax(e, ll_imin(e, v->chunk, ll_sub(e, v->channels, v->c0)), ll_k(e, 0));
  if (!v->direct) {
    ll_if need;
    ll_if_begin(e, &need, ll_or(e, first, ll_icmp(e, LLVMIntSGT, v->chunks, ll_k(e, 1))));
    tn_cpu_conv_stage(v);
    ll_if_end(e, &need);
  }
  products(v);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&v->k->body);
}

static void place_tile(tn_cpu_conv *v, ll_val i) {
  tn_ll *e = v->k->e;
  for (uint32_t n = TN_CONV_AXES; n-- > 0;) {
    tn_cpu_axis *a = &v->axis[n];
    ll_val tiles = tn_cpu_at_least_one(e, a->tiles), at = ll_mul(e, ll_urem(e, i, tiles), a->tile);
    i = ll_udiv(e, i, tiles);
    a->now = ll_imin(e, a->tile, ll_sub(e, a->count, at));
    a->at = ll_add(e, a->first, at);
  }
  v->group = ll_urem(e, i, ll_k(e, v->groups));
  v->image = ll_udiv(e, i, ll_k(e, v->groups));
  const tn_cpu_axis *x = &v->axis[TN_CONV_X], *y = &v->axis[TN_CONV_Y];
  v->positions = ll_add(e, ll_mul(e, ll_sub(e, y->now, ll_k(e, 1)), v->pitch), x->now);
  v->parts_row = ll_k(e, v->parts_row_max);
}

static void walk(tn_cpu_conv *v) {
  tn_ll *e = v->k->e;
  ll_val tiles = tn_cpu_conv_cut(v), blocks = tn_cpu_at_least_one(e, v->blocks);
  tn_cpu_taking t;
  ll_loop l;
  tn_cpu_take_begin(v->k, &t, ll_mul(e, tiles, v->blocks), blocks, blocks);
  ll_val tile = ll_udiv(e, t.first, blocks), start = ll_mul(e, tile, blocks), from = ll_sub(e, t.first, start);
  place_tile(v, tile);
  ll_loop_begin(e, &l, from, ll_sub(e, t.end, start), ll_k(e, 1), NULL, 0);
  v->o0 = ll_mul(e, l.iv, v->block);
  v->o1 = ll_imin(e, ll_add(e, v->o0, v->block), v->outputs);
  unit(v, ll_icmp(e, LLVMIntEQ, l.iv, from));
  ll_loop_end(e, &l, NULL);
  tn_cpu_take_end(v->k, &t);
}

void tn_cpu_emit_conv(tn_cpu_kernel *k) {
  tn_cpu_conv v = {.k = k};
  if (!strcmp(k->root_name, "conv") && tn_cpu_emit_depthwise(k)) return;
  tn_cpu_conv_plan(&v);
  tn_ll_body_give(&k->body, v.out, give_result, &v);
  walk(&v);
}
