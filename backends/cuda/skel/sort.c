/* sort.c - sort and top_k: lines are cut into tiles, each is sorted by a block in shared memory. If there are
 * several tiles, a second launch finds for every element how many come before it in each other tile, by
 * bisection; that is its place in the whole. Keys order like the numbers, NaN above all; of equal keys the
 * lower index comes first, so no two elements are equal and the order is stable. Of top_k only the first k
 * of each tile are looked at. */
#include "backends/cuda/skel/team.h"
#include "backends/cuda/warp.h"
#include "backends/llvm/convert.h"

enum { TILE = 1024, RANK_THREADS = 256 };

typedef struct order {
  tn_cuda_kernel *k;
  tn_value x;
  tn_type_info t;
  uint32_t axis, tile; /* tile: elements, a power of 2 */
  bool down, whole;    /* whole: a line is one tile */
  tn_dim size, most, lines, tiles;
  tn_dim keys_at, ids_at;            /* scratch: [lines][tiles][tile] of i64, and of i32 in the tile */
  ll_val n, k_most, line, keys, ids; /* k_most: of how many elements places are wanted */
} order;

/* ---- keys ---------------------------------------------------------------------------------------------- */

static ll_val key_of(order *o, ll_val x) {
  tn_ll *e = o->k->e;
  uint32_t cls = tn_ll_dtype_of(o->t.dtype).cls;
  ll_val key;
  if (cls == TN_CLASS_FLOAT) {
    ll_val f = tn_ll_convert(e, o->t.dtype, TN_DT_f64, x), i = ll_cast_bits(e, f, e->i64);
    ll_val size = ll_and(e, i, ll_k(e, INT64_MAX));
    key = ll_select(e, ll_icmp(e, LLVMIntSLT, i, ll_k(e, 0)), ll_sub(e, ll_k(e, 0), size), i);
    key = ll_select(e, ll_fcmp(e, LLVMRealUNO, f, f), ll_k(e, INT64_MAX), key);
  } else {
    key = tn_ll_convert(e, o->t.dtype, TN_DT_i64, x);
    if (cls == TN_CLASS_UINT) key = ll_xor(e, key, ll_k(e, INT64_MIN));
  }
  return o->down ? ll_not(e, key) : key;
}

static tn_ll_index index_at(order *o, const tn_type_info *t, ll_val at) {
  return tn_cuda_line_index(o->k, t, o->axis, o->line, tn_ll_ix_scalar(at));
}

static ll_val id_slot(order *o, ll_val i) {
  return ll_at(o->k->e, o->ids, ll_imul(o->k->e, i, ll_k(o->k->e, 4)));
}
static void put(order *o, ll_val i, ll_val key, ll_val id) {
  tn_cuda_slot_put(o->k, o->keys, i, key);
  ll_store(o->k->e, id, id_slot(o, i), 4);
}
static void get(order *o, ll_val i, ll_val *key, ll_val *id) {
  *key = tn_cuda_slot_get(o->k, o->k->e->i64, o->keys, i);
  *id = ll_load(o->k->e, o->k->e->i32, id_slot(o, i), 4);
}

/* ---- a tile -------------------------------------------------------------------------------------------- */

/* Elements of the tile that begins at `base`; behind the line's end come keys that stay behind all. */
static void fill(order *o, ll_val base, uint32_t threads) {
  tn_ll *e = o->k->e;
  ll_val thread = tn_cuda_i64(o->k, tn_cuda_thread(o->k)), last = ll_sub(e, o->n, ll_k(e, 1));
  for (uint32_t i = 0; i < o->tile; i += threads) {
    ll_val here = ll_iadd(e, thread, ll_k(e, i)), at = ll_iadd(e, base, here);
    tn_ll_index ix = index_at(o, &o->t, ll_imin(e, at, last));
    ll_val key = key_of(o, tn_ll_eval(&o->k->body, o->x, &ix));
    key = ll_select(e, ll_icmp(e, LLVMIntSLE, at, last), key, ll_k(e, INT64_MAX));
    ll_if in;
    if (o->tile < threads) ll_if_begin(e, &in, ll_icmp(e, LLVMIntSLT, here, ll_k(e, o->tile)));
    put(o, here, key, LLVMBuildTrunc(e->b, here, e->i32, ""));
    if (o->tile < threads) ll_if_end(e, &in);
  }
}

/* Puts the pair of elements `stride` apart that this thread has in order: rising in runs of `run` whose
 * number is even, else falling. */
static void exchange(order *o, ll_val thread, ll_val stride, ll_val run) {
  tn_ll *e = o->k->e;
  ll_val ka, kb, a, b, within = ll_and(e, thread, ll_sub(e, stride, ll_k(e, 1)));
  ll_val i = ll_iadd(e, ll_shl(e, ll_sub(e, thread, within), ll_k(e, 1)), within), j = ll_iadd(e, i, stride);
  get(o, i, &ka, &a);
  get(o, j, &kb, &b);
  ll_val tied = ll_and(e, ll_icmp(e, LLVMIntEQ, ka, kb), ll_icmp(e, LLVMIntUGT, a, b));
  ll_val later = ll_or(e, ll_icmp(e, LLVMIntSGT, ka, kb), tied);
  ll_val falls = ll_icmp(e, LLVMIntNE, ll_and(e, i, run), ll_k(e, 0));
  ll_val swap = ll_icmp(e, LLVMIntNE, later, falls);
  put(o, i, ll_select(e, swap, kb, ka), ll_select(e, swap, b, a));
  put(o, j, ll_select(e, swap, ka, kb), ll_select(e, swap, a, b));
}

/* The smallest power of 2 that holds all of the tile that is not behind the line's end; its logarithm. */
static ll_val runs_of(order *o) {
  tn_ll *e = o->k->e;
  ll_val least = ll_imax(e, ll_sub(e, ll_imin(e, o->n, ll_k(e, o->tile)), ll_k(e, 1)), ll_k(e, 0));
  ll_val args[] = {least, LLVMConstInt(e->i1, 0, 0)};
  return ll_sub(e, ll_k(e, 64), ll_call(e, "llvm.ctlz", &e->i64, 1, args, 2));
}

/* Batcher's bitonic network (1968): a pair per thread in every step. What lies behind that power of 2 stays.
 */
static void sort_tile(order *o) {
  tn_ll *e = o->k->e;
  ll_val thread = tn_cuda_i64(o->k, tn_cuda_thread(o->k)), one = ll_k(e, 1), last = runs_of(o);
  ll_val pairs = ll_lshr(e, ll_shl(e, one, last), one);
  ll_loop runs, steps;
  ll_if in;
  tn_cuda_barrier(o->k);
  ll_loop_begin(e, &runs, one, ll_iadd(e, last, one), one, NULL, 0);
  ll_loop_begin(e, &steps, ll_k(e, 0), runs.iv, one, NULL, 0);
  ll_val stride = ll_shl(e, one, ll_sub(e, ll_sub(e, runs.iv, one), steps.iv));
  ll_if_begin(e, &in, ll_icmp(e, LLVMIntSLT, thread, pairs));
  exchange(o, thread, stride, ll_shl(e, one, runs.iv));
  ll_if_end(e, &in);
  tn_cuda_barrier(o->k);
  ll_loop_end(e, &steps, NULL);
  ll_loop_end(e, &runs, NULL);
}

/* The element with index `id` of the line goes to place `to` of the results. */
static void store_pair(order *o, ll_val to, ll_val id) {
  tn_cuda_kernel *k = o->k;
  tn_type_info out = tn_cuda_type(k, tn_cuda_result(k, 0));
  tn_ll_body_forget(&k->body);
  tn_ll_index at = index_at(o, &out, to), from = index_at(o, &o->t, id);
  tn_cuda_store_result(k, 0, &at, tn_ll_eval(&k->body, o->x, &from));
  tn_cuda_store_result(k, 1, &at, id);
  tn_ll_body_forget(&k->body);
}

static void write_tile(order *o, ll_val tile, uint32_t threads, ll_val keys, ll_val ids) {
  tn_ll *e = o->k->e;
  ll_val thread = tn_cuda_i64(o->k, tn_cuda_thread(o->k)), from_keys = o->keys, from_ids = o->ids;
  for (uint32_t i = 0; i < o->tile; i += threads) {
    ll_val here = ll_iadd(e, thread, ll_k(e, i)), key, id, limit = ll_k(e, o->tile);
    ll_if in;
    if (o->whole) limit = ll_imin(e, limit, o->k_most);
    ll_if_begin(e, &in, ll_icmp(e, LLVMIntSLT, here, limit));
    get(o, here, &key, &id);
    if (o->whole) {
      store_pair(o, here, tn_cuda_i64(o->k, id));
    } else {
      ll_val line = ll_iadd(e, ll_imul(e, o->line, tn_ll_dim(&o->k->body, o->tiles)), tile);
      o->keys = keys, o->ids = ids;
      put(o, ll_iadd(e, ll_imul(e, line, ll_k(e, o->tile)), here), key, id);
      o->keys = from_keys, o->ids = from_ids;
    }
    ll_if_end(e, &in);
  }
}

static void begin(order *o) {
  tn_ll_body *b = &o->k->body;
  o->n = tn_ll_dim(b, o->size);
  o->k_most = tn_ll_dim(b, o->most);
}

static void launch_tiles(order *o) {
  tn_cuda_kernel *k = o->k;
  tn_ll *e = k->e;
  uint32_t threads = o->tile / 2 > 32 ? o->tile / 2 : 32;
  tn_cuda_shape shape = {.threads = threads, .grid = {tn_cuda_dim_mul(k, o->lines, o->tiles)}};
  tn_cuda_launch_begin(k, &shape);
  begin(o);
  ll_val keys = NULL, ids = NULL, block = tn_cuda_i64(k, tn_cuda_block(k, 0)), tile = ll_k(e, 0);
  o->line = block;
  if (!o->whole) {
    ll_val tiles = tn_ll_dim(&k->body, o->tiles);
    keys = tn_cuda_scratch_at(k, o->keys_at), ids = tn_cuda_scratch_at(k, o->ids_at);
    tile = ll_imod(e, block, tiles);
    o->line = ll_idiv(e, block, tiles);
  }
  o->keys = tn_cuda_shared(k, o->tile * 8, 8);
  o->ids = tn_cuda_shared(k, o->tile * 4, 4);
  fill(o, ll_imul(e, tile, ll_k(e, o->tile)), threads);
  sort_tile(o);
  write_tile(o, tile, threads, keys, ids);
  tn_cuda_launch_end(k);
}

/* ---- places of elements among all tiles ---------------------------------------------------------------- */

/* How many of the first `count` elements of the tile whose elements begin at `base` come before key; `ties`:
 * those equal to it do. */
static ll_val count_before(order *o, ll_val base, ll_val count, ll_val key, ll_val ties) {
  tn_ll *e = o->k->e;
  ll_val init[] = {ll_k(e, 0), count}, next[2], one = ll_k(e, 1);
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), ll_k(e, __builtin_ctz(o->tile) + 1), one, init, 2);
  ll_val mid = ll_lshr(e, ll_add(e, l.phi[0], l.phi[1]), one);
  ll_val open = ll_icmp(e, LLVMIntSLT, l.phi[0], l.phi[1]), at = ll_select(e, open, mid, ll_k(e, 0));
  ll_val other = tn_cuda_slot_get(o->k, e->i64, o->keys, ll_add(e, base, at));
  ll_val equal = ll_and(e, ties, ll_icmp(e, LLVMIntEQ, other, key));
  ll_val before = ll_or(e, ll_icmp(e, LLVMIntSLT, other, key), equal);
  next[0] = ll_select(e, ll_and(e, open, before), ll_add(e, mid, one), l.phi[0]);
  next[1] = ll_select(e, ll_and(e, open, ll_not(e, before)), mid, l.phi[1]);
  ll_loop_end(e, &l, next);
  return l.out[0];
}

/* How many elements of tile i count: of the last tile only those of the line, of none more than k. */
static ll_val tile_count(order *o, ll_val i) {
  tn_ll *e = o->k->e;
  ll_val left = ll_sub(e, o->n, ll_imul(e, i, ll_k(e, o->tile)));
  return ll_imin(e, ll_imin(e, left, ll_k(e, o->tile)), o->k_most);
}

static void place_element(order *o, ll_val tile, ll_val here) {
  tn_ll *e = o->k->e;
  ll_val tiles = tn_ll_dim(&o->k->body, o->tiles), first = ll_imul(e, o->line, tiles), key, id;
  get(o, ll_iadd(e, ll_imul(e, ll_iadd(e, first, tile), ll_k(e, o->tile)), here), &key, &id);
  ll_loop l;
  ll_if top;
  ll_loop_begin(e, &l, ll_k(e, 0), tiles, ll_k(e, 1), &here, 1);
  ll_val base = ll_imul(e, ll_iadd(e, first, l.iv), ll_k(e, o->tile));
  ll_val own = ll_icmp(e, LLVMIntEQ, l.iv, tile); /* where it is known already */
  ll_val count = ll_select(e, own, ll_k(e, 0), tile_count(o, l.iv));
  ll_val more = count_before(o, base, count, key, ll_icmp(e, LLVMIntSLT, l.iv, tile));
  ll_val next = ll_add(e, l.phi[0], more);
  ll_loop_end(e, &l, &next);
  ll_if_begin(e, &top, ll_icmp(e, LLVMIntSLT, l.out[0], o->k_most));
  store_pair(o, l.out[0], ll_iadd(e, ll_imul(e, tile, ll_k(e, o->tile)), tn_cuda_i64(o->k, id)));
  ll_if_end(e, &top);
}

/* A thread for each element that may count: [lines][tiles][min(k, tile)]. */
static void launch_places(order *o) {
  tn_cuda_kernel *k = o->k;
  tn_ll *e = k->e;
  tn_dim each = tn_cuda_dim_min(k, o->most, tn_cuda_dim_k(k, o->tile));
  tn_dim all = tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, o->lines, o->tiles), each);
  tn_cuda_shape shape = {.threads = RANK_THREADS, .grid = {tn_cuda_dim_ceildiv(k, all, RANK_THREADS)}};
  tn_cuda_launch_begin(k, &shape);
  begin(o);
  o->keys = tn_cuda_scratch_at(k, o->keys_at);
  o->ids = tn_cuda_scratch_at(k, o->ids_at);
  ll_val at = tn_cuda_position(k, RANK_THREADS), per = tn_ll_dim(&k->body, each);
  ll_if in, counts;
  ll_if_begin(e, &in, ll_icmp(e, LLVMIntSLT, at, tn_ll_dim(&k->body, all)));
  ll_val here = ll_imod(e, at, per), tiles = tn_ll_dim(&k->body, o->tiles), number = ll_idiv(e, at, per);
  ll_val tile = ll_imod(e, number, tiles);
  o->line = ll_idiv(e, number, tiles);
  ll_if_begin(e, &counts, ll_icmp(e, LLVMIntSLT, here, tile_count(o, tile)));
  place_element(o, tile, here);
  ll_if_end(e, &counts);
  ll_if_end(e, &in);
  tn_cuda_launch_end(k);
}

/* ---- the kernel ---------------------------------------------------------------------------------------- */

static void emit(tn_cuda_kernel *k) {
  order o = {.k = k, .x = tn_cuda_operand(k, 0), .tile = TILE};
  bool top = !strcmp(k->root_name, "top_k");
  int64_t n;
  if (!tn_cuda_yields_root(k)) return;
  o.t = tn_cuda_type(k, o.x);
  o.axis = tn_ll_axis(tn_ll_attr_int(&k->body, k->root, "axis"), o.t.rank);
  o.down = top || tn_ll_attr_int(&k->body, k->root, "descending");
  o.size = o.t.dims[o.axis];
  o.most = top ? tn_ll_attr(&k->body, k->root, "k").u.dim : o.size;
  o.lines = tn_cuda_lines(k, &o.t, o.axis);
  o.whole = tn_ll_dim_const(&k->body, o.size, &n) && n <= TILE;
  if (o.whole) o.tile = tn_cuda_power(n < 2 ? 2 : n);
  o.tiles = tn_cuda_dim_ceildiv(k, o.size, o.tile);
  if (!o.whole) {
    tn_dim slots = tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, o.lines, o.tiles), tn_cuda_dim_k(k, o.tile));
    o.keys_at = tn_cuda_scratch(k, tn_cuda_dim_mul(k, slots, tn_cuda_dim_k(k, 8)));
    o.ids_at = tn_cuda_scratch(k, tn_cuda_dim_mul(k, slots, tn_cuda_dim_k(k, 4)));
  }
  launch_tiles(&o);
  if (!o.whole) launch_places(&o);
}

static const char *const roots[] = {"sort", "top_k", NULL};
const tn_cuda_skeleton tn_cuda_skeleton_sort = {.roots = roots, .claim = tn_cuda_plain, .emit = emit};
