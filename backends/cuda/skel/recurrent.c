/* recurrent.c - lstm, gru and rnn: a block takes one direction of one sequence through all its steps. A step
 * is a product, in which each warp makes some rows of the matrix at a time with its lanes along them, and
 * then the gates, a unit per thread. The states live in shared memory where their size is known and small,
 * else in scratch. */
#include "backends/cuda/skel/team.h"
#include "backends/cuda/warp.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/math.h"
#include <stdlib.h>

enum { LANES = 32, ROWS = 4, SHARED_MOST = 48 << 10, UNITS_MANY = 128 };
enum { Y, LAST, CELL }; /* results */

typedef struct curve {
  char name[20];
  double a, b;
} curve;

typedef struct recur recur;
struct recur {
  tn_cuda_kernel *k;
  uint32_t gates, curves, threads, wide, bytes; /* wide: elements of r at once; bytes: of a number */
  tn_dtype number;                              /* what is computed in: f32, or f64 for f64 */
  ll_type t;
  tn_value x, r, h, c, more, lengths; /* more: peepholes, or the bias of gru */
  tn_type_info tx, tr;
  curve list[2][3]; /* of each direction */
  double clip;
  bool reversed, both;
  void (*step)(recur *s);
  tn_dim units, room_at;
  uint64_t shared;                           /* bytes of all states; 0: they lie in scratch */
  ll_val n, batch, steps, sequence, dir, at; /* at: the step that x and y have */
  ll_val hidden, other, made;                /* other: the cell of lstm; h times the reset gate of gru */
};

/* ---- activations --------------------------------------------------------------------------------------- */

/* Entry i of "sigmoid, elu 0.5, affine 2 1", which the verifier has read. */
static curve curve_of(const char *list, uint32_t i) {
  curve c = {0};
  while (i-- && (list = strchr(list, ','))) list++;
  if (!list) return c;
  list += strspn(list, " ");
  size_t n = strcspn(list, " ,");
  if (n >= sizeof c.name) return c;
  memcpy(c.name, list, n);
  char *end = (char *)(uintptr_t)(list + n);
  if (*end == ' ') c.a = strtod(end, &end);
  if (*end == ' ') c.b = strtod(end, &end);
  return c;
}

static ll_val affine(tn_ll *e, const curve *c, ll_val x) {
  return ll_fma(e, ll_f(e, x, c->a), x, ll_f(e, x, c->b));
}

/* The ones with a branch at a limit. */
static ll_val bent(tn_ll *e, const curve *c, ll_val x) {
  ll_val zero = ll_f(e, x, 0), below = ll_fcmp(e, LLVMRealOLT, x, zero), left = zero;
  if (!strcmp(c->name, "thresholded_relu"))
    return ll_select(e, ll_fcmp(e, LLVMRealOGT, x, ll_f(e, x, c->a)), x, zero);
  if (!strcmp(c->name, "leaky_relu")) left = ll_fmul(e, ll_f(e, x, c->a), x);
  if (!strcmp(c->name, "elu")) left = ll_fmul(e, ll_f(e, x, c->a), tn_ll_expm1(e, x));
  return ll_select(e, below, left, x);
}

static ll_val curve_value(tn_ll *e, const curve *c, ll_val x) {
  ll_val one = ll_f(e, x, 1), zero = ll_f(e, x, 0);
  if (!strcmp(c->name, "sigmoid")) return tn_ll_sigmoid(e, x);
  if (!strcmp(c->name, "tanh")) return tn_ll_tanh(e, x);
  if (!strcmp(c->name, "affine")) return affine(e, c, x);
  if (!strcmp(c->name, "scaled_tanh"))
    return ll_fmul(e, ll_f(e, x, c->a), tn_ll_tanh(e, ll_fmul(e, ll_f(e, x, c->b), x)));
  if (!strcmp(c->name, "softsign")) return ll_fdiv(e, x, ll_fadd(e, one, ll_call1(e, "llvm.fabs", x)));
  if (!strcmp(c->name, "hard_sigmoid")) {
    ll_val y = ll_fmax(e, affine(e, c, x), zero);
    return ll_select(e, ll_fcmp(e, LLVMRealOLT, y, one), y, one);
  }
  if (!strcmp(c->name, "softplus")) {
    ll_val some = ll_fcmp(e, LLVMRealOGT, x, ll_f(e, x, 20));
    return ll_select(e, some, x, tn_ll_log1p(e, tn_ll_exp(e, ll_select(e, some, zero, x))));
  }
  return bent(e, c, x);
}

/* Activation `which` of this block's direction. */
static ll_val activate(recur *s, uint32_t which, ll_val x) {
  tn_ll *e = s->k->e;
  const curve *c = &s->list[0][which], *other = &s->list[1][which];
  ll_val y = curve_value(e, c, x);
  if (!s->both || (!strcmp(c->name, other->name) && c->a == other->a && c->b == other->b)) return y;
  return ll_select(e, ll_icmp(e, LLVMIntEQ, s->dir, ll_k(e, 0)), y, curve_value(e, other, x));
}
static ll_val gate(recur *s, uint32_t which, ll_val x) {
  tn_ll *e = s->k->e;
  if (s->clip > 0) {
    ll_val hi = ll_f(e, x, s->clip), lo = ll_f(e, x, -s->clip);
    x = ll_select(e, ll_fcmp(e, LLVMRealOGT, x, lo), x, lo);
    x = ll_select(e, ll_fcmp(e, LLVMRealOLT, x, hi), x, hi);
  }
  return activate(s, which, x);
}

/* ---- numbers ------------------------------------------------------------------------------------------- */

static ll_val slot(recur *s, ll_val room, ll_val i) {
  return ll_at(s->k->e, room, ll_imul(s->k->e, i, ll_k(s->k->e, s->bytes)));
}
static ll_val get(recur *s, ll_val room, ll_val i) {
  return ll_load(s->k->e, s->t, slot(s, room, i), s->bytes);
}
static void put(recur *s, ll_val room, ll_val i, ll_val v) {
  ll_store(s->k->e, v, slot(s, room, i), s->bytes);
}
/* Row `g` of units, element j. */
static ll_val row(recur *s, uint32_t g, ll_val j) {
  return ll_iadd(s->k->e, ll_imul(s->k->e, ll_k(s->k->e, g), s->n), j);
}

/* An operand's element as a number. */
static ll_val element(recur *s, tn_value v, const ll_val *at, uint32_t n) {
  tn_type_info t = tn_cuda_type(s->k, v);
  tn_ll_index ix = {.rank = n, .shape = t.dims};
  for (uint32_t i = 0; i < n; i++) ix.at[i] = tn_ll_ix_scalar(at[i]);
  return tn_ll_convert(s->k->e, t.dtype, s->number, tn_ll_eval(&s->k->body, v, &ix));
}
/* What gate g of unit j gets from the input alone, and with the product. */
static ll_val input(recur *s, uint32_t g, ll_val j) {
  return element(s, s->x, (ll_val[]){s->at, s->sequence, s->dir, row(s, g, j)}, 4);
}
static ll_val whole(recur *s, uint32_t g, ll_val j) {
  return ll_fadd(s->k->e, input(s, g, j), get(s, s->made, row(s, g, j)));
}
static ll_val extra(recur *s, uint32_t g, ll_val j) {
  return element(s, s->more, (ll_val[]){s->dir, row(s, g, j)}, 2);
}
static void result(recur *s, uint32_t i, const ll_val *at, uint32_t n, ll_val v) {
  tn_type_info t = tn_cuda_type(s->k, tn_cuda_result(s->k, i));
  tn_ll_index ix = {.rank = n, .shape = t.dims};
  for (uint32_t d = 0; d < n; d++) ix.at[d] = tn_ll_ix_scalar(at[d]);
  tn_cuda_store_result(s->k, i, &ix, tn_ll_convert(s->k->e, s->number, t.dtype, v));
}

/* A thread's units, between these two. */
static ll_val units_begin(recur *s, ll_loop *l) {
  tn_ll *e = s->k->e;
  ll_loop_begin(e, l, tn_cuda_i64(s->k, tn_cuda_thread(s->k)), s->n, ll_k(e, s->threads), NULL, 0);
  tn_ll_body_forget(&s->k->body);
  return l->iv;
}
static void units_end(recur *s, ll_loop *l) {
  ll_loop_end(s->k->e, l, NULL);
  tn_ll_body_forget(&s->k->body);
}

/* ---- the product --------------------------------------------------------------------------------------- */

/* acc += rows [first, first + ROWS) of the matrix times v, elements i to i + wide; rows behind the last: it.
 */
static void multiply(recur *s, ll_val v, ll_val first, ll_val last, ll_val i, ll_val *acc) {
  tn_ll *e = s->k->e;
  ll_type t = s->wide > 1 ? ll_vec(e, s->t) : s->t;
  uint32_t align = s->wide * s->bytes > 16 ? 16 : s->wide * s->bytes;
  ll_val x = ll_load(e, t, slot(s, v, i), align);
  for (uint32_t n = 0; n < ROWS; n++) {
    ll_val at = ll_imin(e, ll_iadd(e, first, ll_k(e, n)), last);
    tn_ll_index ix = {.rank = 3, .shape = s->tr.dims, .at = {tn_ll_ix_scalar(s->dir), tn_ll_ix_scalar(at)}};
    ix.at[2] = s->wide > 1 ? tn_ll_ix_lanes(i, true) : tn_ll_ix_scalar(i);
    ll_val w = tn_ll_convert(e, s->tr.dtype, s->number, tn_ll_eval(&s->k->body, s->r, &ix));
    acc[n] = ll_fma(e, ll_wide(e, w, s->wide > 1 && !ll_is_vec(w)), x, acc[n]);
  }
}

/* made = matrix times v, for gates [from, to). */
static void product(recur *s, ll_val v, uint32_t from, uint32_t to) {
  tn_cuda_kernel *k = s->k;
  tn_ll *e = k->e;
  ll_val acc[ROWS], end = ll_imul(e, ll_k(e, to), s->n), last = ll_sub(e, end, ll_k(e, 1));
  ll_val warp = tn_cuda_i64(k, tn_cuda_warp(k)), lane = tn_cuda_lane(k),
         begin = ll_imul(e, ll_k(e, from), s->n);
  ll_loop rows, l;
  ll_if first;
  ll_loop_begin(e, &rows, ll_iadd(e, begin, ll_imul(e, warp, ll_k(e, ROWS))), end,
                ll_k(e, s->threads / LANES * ROWS), NULL, 0);
  for (uint32_t i = 0; i < ROWS; i++) acc[i] = ll_zero(s->wide > 1 ? ll_vec(e, s->t) : s->t);
  ll_loop_begin(e, &l, ll_imul(e, tn_cuda_i64(k, lane), ll_k(e, s->wide)), s->n, ll_k(e, s->wide * LANES),
                acc, ROWS);
  tn_ll_body_forget(&k->body);
  for (uint32_t i = 0; i < ROWS; i++) acc[i] = l.phi[i];
  multiply(s, v, rows.iv, last, l.iv, acc);
  ll_loop_end(e, &l, acc);
  tn_ll_body_forget(&k->body);
  for (uint32_t i = 0; i < ROWS; i++) {
    acc[i] = ll_is_vec(l.out[i]) ? ll_reduce_fadd(e, l.out[i]) : l.out[i];
    acc[i] = tn_cuda_warp_reduce(k, acc[i], LANES, tn_cuda_fadd);
  }
  ll_if_begin(e, &first, ll_icmp(e, LLVMIntEQ, lane, ll_int(e, e->i32, 0)));
  for (uint32_t i = 0; i < ROWS; i++)
    put(s, s->made, ll_iadd(e, rows.iv, ll_k(e, i)), acc[i]); /* it has room */
  ll_if_end(e, &first);
  ll_loop_end(e, &rows, NULL);
  tn_ll_body_forget(&k->body);
  tn_cuda_barrier(k);
}

/* ---- steps --------------------------------------------------------------------------------------------- */

static void put_state(recur *s, ll_val j, ll_val v) {
  put(s, s->hidden, j, v);
  result(s, Y, (ll_val[]){s->at, s->dir, s->sequence, j}, 4, v);
}

/* Gates i, o, f, c. */
static void step_lstm(recur *s) {
  tn_ll *e = s->k->e;
  ll_loop l;
  product(s, s->hidden, 0, 4);
  ll_val j = units_begin(s, &l), c = get(s, s->other, j);
  ll_val i = whole(s, 0, j), o = whole(s, 1, j), f = whole(s, 2, j), g = whole(s, 3, j);
  if (s->more) i = ll_fma(e, extra(s, 0, j), c, i), f = ll_fma(e, extra(s, 2, j), c, f);
  i = gate(s, 0, i);
  f = tn_ll_attr_int(&s->k->body, s->k->root, "coupled") ? ll_fsub(e, ll_f(e, i, 1), i) : gate(s, 0, f);
  c = ll_fma(e, f, c, ll_fmul(e, i, gate(s, 1, g)));
  if (s->more) o = ll_fma(e, extra(s, 1, j), c, o);
  put(s, s->other, j, c);
  put_state(s, j, ll_fmul(e, gate(s, 0, o), activate(s, 2, c)));
  units_end(s, &l);
}

static ll_val mix(recur *s, ll_val z, ll_val n, ll_val j) {
  tn_ll *e = s->k->e;
  return ll_fma(e, z, get(s, s->hidden, j), ll_fmul(e, ll_fsub(e, ll_f(e, z, 1), z), n));
}
/* Gates z, r, n. */
static void step_gru_after(recur *s) {
  tn_ll *e = s->k->e;
  ll_loop l;
  product(s, s->hidden, 0, 3);
  ll_val j = units_begin(s, &l), z = gate(s, 0, whole(s, 0, j)), r = gate(s, 0, whole(s, 1, j));
  ll_val n = get(s, s->made, row(s, 2, j));
  if (s->more) n = ll_fadd(e, n, extra(s, 0, j));
  n = gate(s, 1, ll_fma(e, r, n, input(s, 2, j)));
  put_state(s, j, mix(s, z, n, j));
  units_end(s, &l);
}
static void step_gru(recur *s) {
  tn_ll *e = s->k->e;
  ll_loop l;
  product(s, s->hidden, 0, 2);
  ll_val j = units_begin(s, &l);
  put(s, s->other, j, ll_fmul(e, gate(s, 0, whole(s, 1, j)), get(s, s->hidden, j)));
  units_end(s, &l);
  tn_cuda_barrier(s->k);
  product(s, s->other, 2, 3);
  j = units_begin(s, &l);
  ll_val z = gate(s, 0, whole(s, 0, j)), n = gate(s, 1, whole(s, 2, j));
  put_state(s, j, mix(s, z, n, j));
  units_end(s, &l);
}
static void step_rnn(recur *s) {
  ll_loop l;
  product(s, s->hidden, 0, 1);
  ll_val j = units_begin(s, &l);
  put_state(s, j, gate(s, 0, whole(s, 0, j)));
  units_end(s, &l);
}

/* ---- the walk ------------------------------------------------------------------------------------------ */

/* The states at the start, or 0. */
static void load_states(recur *s) {
  ll_loop l;
  ll_val j = units_begin(s, &l), at[] = {s->dir, s->sequence, j}, zero = ll_real(s->k->e, s->t, 0);
  put(s, s->hidden, j, s->h ? element(s, s->h, at, 3) : zero);
  /* the other one has a value also where it means nothing: wide loads take it along */
  put(s, s->other, j, s->c ? element(s, s->c, at, 3) : zero);
  units_end(s, &l);
}
static void store_states(recur *s) {
  ll_loop l;
  ll_val j = units_begin(s, &l), at[] = {s->dir, s->sequence, j};
  result(s, LAST, at, 3, get(s, s->hidden, j));
  if (s->gates == 4) result(s, CELL, at, 3, get(s, s->other, j));
  units_end(s, &l);
}

/* Steps of this sequence. */
static ll_val length(recur *s) {
  tn_ll *e = s->k->e;
  if (!s->lengths) return s->steps;
  tn_type_info t = tn_cuda_type(s->k, s->lengths);
  tn_ll_index ix = {.rank = 1, .shape = t.dims, .at = {tn_ll_ix_scalar(s->sequence)}};
  ll_val n = tn_ll_convert(e, t.dtype, TN_DT_i64, tn_ll_eval(&s->k->body, s->lengths, &ix));
  return ll_imin(e, ll_imax(e, n, ll_k(e, 0)), s->steps);
}

static void walk(recur *s) {
  tn_ll *e = s->k->e;
  ll_val zero = ll_k(e, 0), one = ll_k(e, 1), n = length(s);
  ll_loop steps, l;
  load_states(s);
  tn_cuda_barrier(s->k);
  ll_loop_begin(e, &steps, zero, n, one, NULL, 0);
  tn_ll_body_forget(&s->k->body);
  ll_val back = ll_sub(e, ll_sub(e, n, one), steps.iv);
  s->at = s->reversed ? back : steps.iv;
  if (s->both) s->at = ll_select(e, ll_icmp(e, LLVMIntEQ, s->dir, zero), steps.iv, back);
  s->step(s);
  tn_cuda_barrier(s->k);
  ll_loop_end(e, &steps, NULL);
  tn_ll_body_forget(&s->k->body);
  ll_loop_begin(e, &steps, n, s->steps, one, NULL, 0); /* behind the end: zeros */
  ll_val j = units_begin(s, &l);
  result(s, Y, (ll_val[]){steps.iv, s->dir, s->sequence, j}, 4, ll_real(e, s->t, 0));
  units_end(s, &l);
  ll_loop_end(e, &steps, NULL);
  tn_ll_body_forget(&s->k->body);
  store_states(s);
}

/* Numbers of all states as [made, with rows to spare][hidden][cell or reset]. */
static tn_dim room_of(recur *s) {
  tn_cuda_kernel *k = s->k;
  return tn_cuda_dim_add(k, tn_cuda_dim_mul(k, s->units, tn_cuda_dim_k(k, s->gates + 2)),
                         tn_cuda_dim_k(k, ROWS));
}

static void place_states(recur *s) {
  tn_cuda_kernel *k = s->k;
  tn_ll *e = k->e;
  ll_val block = tn_cuda_i64(k, tn_cuda_block(k, 0)), room;
  if (s->shared) {
    room = tn_cuda_shared(k, (uint32_t)s->shared, 16);
  } else {
    ll_val each = ll_imul(e, tn_ll_dim(&k->body, room_of(s)), ll_k(e, s->bytes));
    room = ll_at(e, tn_cuda_scratch_at(k, s->room_at), ll_imul(e, block, each));
  }
  s->hidden = room; /* first, so that vectors of it are aligned */
  s->other = slot(s, room, s->n);
  s->made = slot(s, s->other, s->n);
  s->sequence = ll_imod(e, block, s->batch);
  s->dir = ll_idiv(e, block, s->batch);
}

static void read_op(recur *s) {
  tn_cuda_kernel *k = s->k;
  tn_ll_body *b = &k->body;
  const char *direction = tn_ll_attr_str(b, k->root, "direction");
  const char *list = tn_ll_attr_str(b, k->root, "activations");
  bool lstm = *k->root_name == 'l', gru = *k->root_name == 'g';
  s->x = tn_cuda_operand(k, 0);
  s->r = tn_cuda_operand(k, 1);
  s->h = tn_cuda_operand(k, 2);
  if (lstm) s->c = tn_cuda_operand(k, 3);
  if (lstm || gru) s->more = tn_cuda_operand(k, lstm ? 4 : 3);
  s->lengths = tn_cuda_operand(k, lstm ? 5 : gru ? 4 : 3);
  s->gates = lstm ? 4 : gru ? 3 : 1;
  s->curves = lstm ? 3 : gru ? 2 : 1;
  s->step = lstm                                        ? step_lstm
            : !gru                                      ? step_rnn
            : tn_ll_attr_int(b, k->root, "reset_after") ? step_gru_after
                                                        : step_gru;
  s->reversed = !strcmp(direction, "reverse");
  s->both = !strcmp(direction, "both");
  s->clip = tn_ll_attr_float(b, k->root, "clip");
  for (uint32_t d = 0; d < 1 + (uint32_t)s->both; d++)
    for (uint32_t i = 0; i < s->curves; i++) s->list[d][i] = curve_of(list, d * s->curves + i);
}

static void read_types(recur *s) {
  tn_cuda_kernel *k = s->k;
  int64_t n;
  s->tx = tn_cuda_type(k, s->x);
  s->tr = tn_cuda_type(k, s->r);
  s->units = s->tr.dims[2];
  s->number = s->tx.dtype == TN_DT_f64 ? TN_DT_f64 : TN_DT_f32;
  s->bytes = s->number == TN_DT_f64 ? 8 : 4;
  s->t = tn_ll_register_type(k->e, s->number);
  s->wide = tn_cuda_wide(k, s->units);
  s->threads = 512;
  if (!tn_ll_dim_const(&k->body, s->units, &n)) return;
  if (n <= UNITS_MANY) s->threads = 128;
  uint64_t bytes = n < SHARED_MOST ? ((uint64_t)n * (s->gates + 2) + ROWS) * s->bytes : SHARED_MOST + 1;
  if (bytes <= SHARED_MOST) s->shared = bytes;
}

static void emit(tn_cuda_kernel *k) {
  recur s = {.k = k};
  if (!tn_cuda_yields_root(k)) return;
  read_op(&s);
  read_types(&s);
  tn_dim blocks = tn_cuda_dim_mul(k, s.tx.dims[1], s.tx.dims[2]);
  tn_dim bytes = tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, blocks, room_of(&s)), tn_cuda_dim_k(k, s.bytes));
  if (!s.shared) s.room_at = tn_cuda_scratch(k, bytes);
  tn_cuda_shape shape = {.threads = s.threads, .grid = {blocks}};
  tn_cuda_launch_begin(k, &shape);
  s.n = tn_ll_dim(&k->body, s.units);
  s.steps = tn_ll_dim(&k->body, s.tx.dims[0]);
  s.batch = tn_ll_dim(&k->body, s.tx.dims[1]);
  place_states(&s);
  walk(&s);
  tn_cuda_launch_end(k);
}

static const char *const roots[] = {"lstm", "gru", "rnn", NULL};
const tn_cuda_skeleton tn_cuda_skeleton_recurrent = {.roots = roots, .claim = tn_cuda_plain, .emit = emit};
