/* window.c - see conv.h: what the op says, and where elements of x, w and the result are. */
#include "backends/cuda/conv/conv.h"
#include "backends/llvm/convert.h"

/* ---- what the op says ---------------------------------------------------------------------------------- */

static int64_t steps_of(tn_cuda_conv *v, const char *name, uint32_t i) {
  tn_attr a = tn_ll_attr(&v->k->body, v->k->root, name);
  return i < a.count ? a.u.ints[i] : 1;
}

static int64_t gcd(int64_t a, int64_t b) { return b ? gcd(b, a % b) : a; }

/* Results of a phase: their (coordinate + low) / stride are neighbours. */
static tn_dim phase_count(tn_cuda_kernel *k, const tn_cuda_conv_axis *a) {
  const tn_ir *ir = k->u->ir;
  tn_dim stride = tn_cuda_dim_k(k, a->stride), minus = tn_cuda_dim_k(k, -1);
  tn_dim last = tn_cuda_dim_add(k, tn_cuda_dim_add(k, a->out_dim, minus), a->low_dim);
  tn_dim from = ir->dim_make(k->u->m, TN_DIM_FLOORDIV, a->low_dim, stride);
  tn_dim to = ir->dim_make(k->u->m, TN_DIM_FLOORDIV, last, stride);
  tn_dim n = tn_cuda_dim_add(k, tn_cuda_dim_add(k, to, tn_cuda_dim_mul(k, from, minus)), tn_cuda_dim_k(k, 1));
  return tn_cuda_dim_mul(k, n, tn_cuda_dim_min(k, a->out_dim, tn_cuda_dim_k(k, 1)));
}

static void read_axis(tn_cuda_conv *v, uint32_t i) {
  tn_cuda_kernel *k = v->k;
  tn_cuda_conv_axis *a = &v->axis[i];
  tn_dim one = tn_cuda_dim_k(k, 1);
  *a = (tn_cuda_conv_axis){.size = 1, .stride = 1, .dilation = 1, .in_dim = one, .out_dim = one};
  a->low_dim = tn_cuda_dim_k(k, 0);
  if (i + v->spatial >= TN_CONV_AXES) {
    uint32_t s = i + v->spatial - TN_CONV_AXES;
    tn_attr low = tn_ll_attr(&k->body, k->root, "low");
    tn_ll_dim_const(&k->body, v->tw.dims[2 + s], &a->size);
    a->stride = steps_of(v, "strides", s);
    a->dilation = steps_of(v, "dilations", s);
    a->in_dim = v->tx.dims[2 + s];
    a->out_dim = v->to.dims[2 + s];
    if (s < low.count) a->low_dim = low.u.dims[s];
  }
  int64_t common = gcd(a->stride, a->dilation);
  a->phases = v->transposed ? a->stride : 1;
  a->step = v->transposed ? a->stride / common : 1;
  a->delta = v->transposed ? -(a->dilation / common) : a->dilation;
  a->taps = (a->size + a->step - 1) / a->step;
  a->count_dim = v->transposed ? phase_count(k, a) : a->out_dim;
}

static tn_dim per_group(tn_cuda_conv *v, tn_dim d) { return tn_cuda_dim_ceildiv(v->k, d, v->groups); }

void tn_cuda_conv_read(tn_cuda_conv *v, tn_cuda_kernel *k) {
  *v = (tn_cuda_conv){.k = k, .x = tn_cuda_operand(k, 0), .w = tn_cuda_operand(k, 1), .taps = 1};
  v->bias = tn_cuda_operand(k, 2);
  v->out = tn_cuda_result(k, 0);
  v->tx = tn_cuda_type(k, v->x);
  v->tw = tn_cuda_type(k, v->w);
  v->to = tn_cuda_type(k, v->out);
  v->acc = v->tx.dtype == TN_DT_f64 || v->tw.dtype == TN_DT_f64 ? TN_DT_f64 : TN_DT_f32;
  v->transposed = !strcmp(k->root_name, "conv_transpose");
  v->spatial = v->tx.rank - 2;
  v->groups = tn_ll_attr_int(&k->body, k->root, "groups");
  v->phases = v->weights = 1;
  v->positions_dim = v->tx.dims[0];
  for (uint32_t i = 0; i < TN_CONV_AXES; i++) {
    read_axis(v, i);
    v->phases *= v->axis[i].phases;
    v->taps *= v->axis[i].taps;
    v->weights *= v->axis[i].size;
    v->positions_dim = tn_cuda_dim_mul(k, v->positions_dim, v->axis[i].count_dim);
  }
  v->outputs_dim = v->transposed ? v->tw.dims[1] : per_group(v, v->tw.dims[0]);
  v->channels_dim = v->transposed ? per_group(v, v->tw.dims[0]) : v->tw.dims[1];
}

/* ---- a launch ------------------------------------------------------------------------------------------ */

static ll_val size_of(tn_cuda_conv *v, tn_dim d) {
  return LLVMBuildTrunc(v->k->e->b, tn_ll_dim(&v->k->body, d), v->k->e->i32, "");
}

/* i32 of any sign, divided towards minus infinity. */
static ll_val floor_div(tn_cuda_conv *v, ll_val a, int64_t b) {
  tn_ll *e = v->k->e;
  if (b == 1) return a;
  ll_val by = tn_conv_k(v, b), below = ll_icmp(e, LLVMIntSLT, ll_srem(e, a, by), tn_conv_k(v, 0));
  return ll_sub(e, ll_sdiv(e, a, by), LLVMBuildZExt(e->b, below, e->i32, ""));
}

void tn_cuda_conv_open(tn_cuda_conv *v) {
  tn_ll *e = v->k->e;
  v->outputs = size_of(v, v->outputs_dim);
  v->channels = size_of(v, v->channels_dim);
  v->positions = size_of(v, v->positions_dim);
  v->depth = tn_conv_mul(v, v->channels, v->taps);
  v->plane = ll_k(e, 1);
  for (uint32_t i = 0; i < TN_CONV_AXES; i++) {
    tn_cuda_conv_axis *a = &v->axis[i];
    a->in = size_of(v, a->in_dim);
    a->out = size_of(v, a->out_dim);
    a->low = size_of(v, a->low_dim);
    a->count = size_of(v, a->count_dim);
    a->first = floor_div(v, a->low, a->stride);
    v->plane = ll_imul(e, v->plane, tn_ll_dim(&v->k->body, a->in_dim));
  }
}

/* The least number whose product with a is 1 modulo n. */
static int64_t inverse(int64_t a, int64_t n) {
  int64_t i = 0;
  while (i < n && i * (a % n) % n != 1 % n) i++;
  return i;
}

/* The first tap t for which dilation * t is the phase modulo the stride; behind the last if there is none. */
static ll_val first_tap(tn_cuda_conv *v, const tn_cuda_conv_axis *a) {
  tn_ll *e = v->k->e;
  int64_t common = a->stride / a->step;
  ll_val of = tn_conv_div(v, a->phase, common), none = tn_conv_mod(v, a->phase, common);
  ll_val tap = tn_conv_mod(v, tn_conv_mul(v, of, inverse(a->dilation / common, a->step)), a->step);
  return ll_select(e, ll_icmp(e, LLVMIntEQ, none, tn_conv_k(v, 0)), tap, tn_conv_k(v, a->size));
}

void tn_cuda_conv_select(tn_cuda_conv *v, ll_val which) {
  v->begin = tn_conv_k(v, 0);
  v->end = v->depth;
  if (v->parts) {
    v->part = tn_conv_mod(v, which, v->parts);
    which = tn_conv_div(v, which, v->parts);
    v->begin = tn_conv_mul(v, v->part, v->part_depth);
    v->end = ll_imin(v->k->e, tn_conv_add(v, v->begin, v->part_depth), v->depth);
  }
  v->which = which;
  for (uint32_t i = TN_CONV_AXES; i-- > 0;) {
    tn_cuda_conv_axis *a = &v->axis[i];
    a->phase = tn_conv_mod(v, which, a->phases);
    which = tn_conv_div(v, which, a->phases);
    a->tap0 = v->transposed ? first_tap(v, a) : tn_conv_k(v, 0);
  }
  v->group = which;
}

/* ---- elements ------------------------------------------------------------------------------------------ */

static ll_val below(tn_cuda_conv *v, ll_val x, ll_val n) { return ll_icmp(v->k->e, LLVMIntULT, x, n); }
static ll_val to64(tn_cuda_conv *v, ll_val x) { return LLVMBuildSExt(v->k->e->b, x, v->k->e->i64, ""); }

static void place_axis(tn_cuda_conv *v, const tn_cuda_conv_axis *a, ll_val q, tn_cuda_conv_place *p,
                       uint32_t i) {
  tn_ll *e = v->k->e;
  p->result[i] = q;
  p->at[i] = ll_sub(e, tn_conv_mul(v, q, a->stride), a->low);
  if (!v->transposed) return;
  q = ll_iadd(e, q, a->first);
  ll_val back = ll_sub(e, tn_conv_mul(v, a->tap0, a->dilation), a->phase);
  p->at[i] = ll_sub(e, q, ll_sdiv(e, back, tn_conv_k(v, a->stride)));
  p->result[i] = ll_sub(e, ll_iadd(e, tn_conv_mul(v, q, a->stride), a->phase), a->low);
  p->ok = ll_and(e, p->ok, below(v, p->result[i], a->out));
}

tn_cuda_conv_place tn_cuda_conv_place_of(tn_cuda_conv *v, ll_val position) {
  tn_ll *e = v->k->e;
  tn_cuda_conv_place p = {.ok = below(v, position, v->positions), .position = position};
  for (uint32_t i = TN_CONV_AXES; i-- > 0;) {
    const tn_cuda_conv_axis *a = &v->axis[i];
    place_axis(v, a, ll_imod(e, position, a->count), &p, i);
    position = ll_idiv(e, position, a->count);
  }
  p.image = position;
  ll_val all = tn_ll_dim(&v->k->body, v->tx.dims[1]);
  ll_val channel = ll_imul(e, to64(v, v->group), tn_ll_dim(&v->k->body, v->channels_dim));
  channel = ll_iadd(e, ll_imul(e, to64(v, p.image), all), channel);
  p.offset = ll_imul(e, ll_imul(e, channel, v->plane), ll_k(e, tn_ll_dtype_of(v->tx.dtype).bytes));
  return p;
}

tn_cuda_conv_tap tn_cuda_conv_tap_of(tn_cuda_conv *v, ll_val k) {
  tn_ll *e = v->k->e;
  ll_val tap = tn_conv_mod(v, k, v->taps);
  tn_cuda_conv_tap t = {.ok = below(v, k, v->end), .channel = tn_conv_div(v, k, v->taps)};
  int64_t pitch = 1;
  t.weight = tn_conv_k(v, 0);
  for (uint32_t i = TN_CONV_AXES; i-- > 0;) {
    const tn_cuda_conv_axis *a = &v->axis[i];
    ll_val n = tn_conv_mod(v, tap, a->taps), at = ll_iadd(e, a->tap0, tn_conv_mul(v, n, a->step));
    tap = tn_conv_div(v, tap, a->taps);
    t.shift[i] = tn_conv_mul(v, n, a->delta);
    if (v->transposed) t.ok = ll_and(e, t.ok, below(v, at, tn_conv_k(v, a->size)));
    t.weight = ll_iadd(e, t.weight, tn_conv_mul(v, at, pitch));
    pitch *= a->size;
  }
  return t;
}

static ll_val load(tn_cuda_conv *v, tn_dtype type, ll_val base, ll_val at, ll_val ok) {
  tn_ll *e = v->k->e;
  uint32_t bytes = tn_ll_dtype_of(type).bytes;
  tn_ll_index ix = {.pred = ok};
  ll_val p = ll_at(e, base, ll_imul(e, at, ll_k(e, bytes)));
  return tn_ll_load_guarded(&v->k->body, tn_ll_memory_type(e, type), p, &ix, bytes);
}

static ll_val in_acc(tn_cuda_conv *v, tn_dtype type, ll_val x) {
  return tn_ll_convert(v->k->e, type, v->acc, tn_ll_from_memory(v->k->e, type, x));
}

ll_val tn_cuda_conv_input_raw(tn_cuda_conv *v, const tn_cuda_conv_place *p, const tn_cuda_conv_tap *t) {
  tn_ll *e = v->k->e;
  ll_val ok = ll_and(e, p->ok, t->ok), within = NULL;
  for (uint32_t i = 0; i < TN_CONV_AXES; i++) {
    ll_val at = ll_iadd(e, p->at[i], t->shift[i]);
    ok = ll_and(e, ok, below(v, at, v->axis[i].in));
    within = within ? ll_add(e, ll_mul(e, within, v->axis[i].in), at) : at;
  }
  ll_val at = ll_add(e, ll_mul(e, to64(v, t->channel), v->plane), to64(v, within));
  return load(v, v->tx.dtype, ll_at(e, tn_cuda_buffer(v->k, v->x, NULL), p->offset), at, ok);
}

ll_val tn_cuda_conv_weight_raw(tn_cuda_conv *v, ll_val o, const tn_cuda_conv_tap *t) {
  tn_ll *e = v->k->e;
  ll_val slow = v->transposed ? t->channel : o, fast = v->transposed ? o : t->channel;
  ll_val slows = v->transposed ? v->channels : v->outputs, fasts = v->transposed ? v->outputs : v->channels;
  ll_val row = ll_add(e, ll_imul(e, v->group, slows), slow);
  ll_val at = ll_add(e, ll_mul(e, to64(v, row), to64(v, fasts)), to64(v, fast));
  at = ll_add(e, ll_mul(e, at, ll_k(e, v->weights)), to64(v, t->weight));
  return load(v, v->tw.dtype, tn_cuda_buffer(v->k, v->w, NULL), at,
              ll_and(e, t->ok, below(v, o, v->outputs)));
}

ll_val tn_cuda_conv_input(tn_cuda_conv *v, const tn_cuda_conv_place *p, const tn_cuda_conv_tap *t) {
  return in_acc(v, v->tx.dtype, tn_cuda_conv_input_raw(v, p, t));
}
ll_val tn_cuda_conv_weight(tn_cuda_conv *v, ll_val o, const tn_cuda_conv_tap *t) {
  return in_acc(v, v->tw.dtype, tn_cuda_conv_weight_raw(v, o, t));
}

/* ---- results ------------------------------------------------------------------------------------------- */

static ll_val give_sum(void *ctx, const tn_ll_index *ix) {
  tn_cuda_conv *v = ctx;
  tn_ll *e = v->k->e;
  ll_val sum = v->sum;
  if (v->bias) {
    tn_ll_index at = {.rank = 1, .at = {ix->at[1]}};
    tn_dtype type = tn_cuda_type(v->k, v->bias).dtype;
    ll_val b = tn_ll_convert(e, type, v->acc, tn_ll_eval(&v->k->body, v->bias, &at));
    sum = ll_fadd(e, sum, ll_wide(e, b, ll_is_vec(sum)));
  }
  return tn_ll_convert(e, v->acc, v->to.dtype, sum);
}

uint32_t tn_cuda_conv_wide(const tn_cuda_conv *v) {
  bool lined = tn_ll_dim_multiple(&v->k->body, v->axis[TN_CONV_AXES - 1].out_dim, 4);
  return lined && !v->transposed && v->acc == TN_DT_f32 ? 4 : 1;
}

void tn_cuda_conv_put(tn_cuda_conv *v, ll_val o, const tn_cuda_conv_place *p, uint32_t wide) {
  tn_ll *e = v->k->e;
  ll_if inside;
  v->k->body.ngiven = 0;
  tn_ll_body_give(&v->k->body, v->out, give_sum, v);
  ll_if_begin(e, &inside, ll_and(e, p->ok, below(v, o, v->outputs)));
  if (v->parts) {
    uint32_t bytes = tn_ll_dtype_of(v->acc).bytes * wide;
    ll_store(e, v->sum, tn_cuda_conv_part(v, v->part, o, p), bytes);
    ll_if_end(e, &inside);
    return;
  }
  tn_ll_body_forget(&v->k->body);
  tn_ll_index ix = {.rank = v->to.rank, .shape = v->to.dims};
  ll_val output = ll_iadd(e, ll_imul(e, v->group, v->outputs), o);
  ix.at[0] = tn_ll_ix_scalar(to64(v, p->image));
  ix.at[1] = tn_ll_ix_scalar(to64(v, output));
  for (uint32_t i = 0; i < v->spatial; i++)
    ix.at[2 + i] = tn_ll_ix_scalar(to64(v, p->result[TN_CONV_AXES - v->spatial + i]));
  if (wide > 1) ix.at[ix.rank - 1] = tn_ll_ix_lanes(ix.at[ix.rank - 1].v, true);
  tn_cuda_store_yields(v->k, &ix);
  ll_if_end(e, &inside);
  tn_ll_body_forget(&v->k->body);
}

/* ---- tiles --------------------------------------------------------------------------------------------- */

tn_dim tn_cuda_conv_blocks(tn_cuda_conv *v, uint32_t rows, uint32_t columns) {
  tn_dim down = tn_cuda_dim_ceildiv(v->k, v->outputs_dim, rows);
  tn_dim across = tn_cuda_dim_ceildiv(v->k, v->positions_dim, columns);
  tn_dim n = tn_cuda_dim_mul(v->k, down, across);
  return tn_cuda_dim_mul(v->k, n, tn_cuda_dim_k(v->k, v->groups * v->phases * (v->parts ? v->parts : 1)));
}

/* Rows are the fastest: blocks beside each other read the same part of x. */
void tn_cuda_conv_tile(tn_cuda_conv *v, uint32_t rows, uint32_t columns, ll_val *row, ll_val *column) {
  tn_ll *e = v->k->e;
  ll_val down = size_of(v, tn_cuda_dim_ceildiv(v->k, v->outputs_dim, rows));
  ll_val across = size_of(v, tn_cuda_dim_ceildiv(v->k, v->positions_dim, columns));
  ll_val block = tn_cuda_block(v->k, 0);
  *row = tn_conv_mul(v, ll_imod(e, block, down), rows);
  block = ll_idiv(e, block, down);
  *column = tn_conv_mul(v, ll_imod(e, block, across), columns);
  tn_cuda_conv_select(v, ll_idiv(e, block, across));
}
