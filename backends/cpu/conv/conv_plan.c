/* conv_plan.c - what a convolution kernel works on: the window, the shape of the micro-kernel, scratch; and,
 * in the kernel itself, how the result is cut into tiles and blocks, and where each tap finds its input. */
#include "backends/cpu/conv/conv.h"
#include "backends/cpu/ukernel/ukernel.h"

#define BAND 65536         /* elements of input staged at a time: within the second-level cache */
#define POSITIONS 640      /* of a tile, about */
#define FEW_POSITIONS 3072 /* the same with one or two outputs per group, where windows cost little */
#define WIDTH 512          /* positions in a row at most */
#define BLOCK 256          /* outputs of a unit at most */
#define LIMIT (1 << 24)    /* elements of scratch that a window may need */

/* ---- what the op says ---- */
static int64_t list_at(tn_cpu_conv *v, const char *name, uint32_t i) {
  tn_attr a = tn_ll_attr(&v->k->body, v->k->root, name);
  return i < a.count ? a.u.ints[i] : 1;
}
static ll_val dim_at(tn_cpu_conv *v, const char *name, uint32_t i) {
  tn_attr a = tn_ll_attr(&v->k->body, v->k->root, name);
  return i < a.count ? tn_ll_dim(&v->k->body, a.u.dims[i]) : ll_k(v->k->e, 0);
}

static ll_val floor_div(tn_ll *e, ll_val a, int64_t b) {
  if (b == 1) return a;
  ll_val r = ll_srem(e, a, ll_k(e, b)), q = ll_sdiv(e, a, ll_k(e, b));
  return ll_select(e, ll_icmp(e, LLVMIntSLT, r, ll_k(e, 0)), ll_sub(e, q, ll_k(e, 1)), q);
}

static void set_window(tn_cpu_axis *a, bool transposed) {
  a->reach = (a->size - 1) * a->dilation / a->stride;
  a->in_phases = 1;
  a->out_phases = transposed ? a->stride : 1;
  for (int64_t t = 0; !transposed && t < a->size && a->in_phases < a->stride; t++)
    if (t * a->dilation % a->stride >= a->in_phases) a->in_phases = t * a->dilation % a->stride + 1;
}

static void read_axis(tn_cpu_conv *v, uint32_t i) {
  tn_ll *e = v->k->e;
  tn_cpu_axis *a = &v->axis[i];
  *a = (tn_cpu_axis){
      .size = 1, .stride = 1, .dilation = 1, .in = ll_k(e, 1), .out = ll_k(e, 1), .low = ll_k(e, 0)};
  if (i >= TN_CONV_AXES - v->spatial) {
    uint32_t s = i + v->spatial - TN_CONV_AXES;
    tn_ll_dim_const(&v->k->body, v->tw.dims[2 + s], &a->size);
    a->stride = list_at(v, "strides", s);
    a->dilation = list_at(v, "dilations", s);
    a->in = tn_ll_dim(&v->k->body, v->tx.dims[2 + s]);
    a->out = tn_ll_dim(&v->k->body, v->to.dims[2 + s]);
    a->low = dim_at(v, "low", s);
  }
  set_window(a, v->transposed);
  a->first = ll_k(e, 0);
  a->count = a->out;
  if (v->transposed) {
    a->first = floor_div(e, a->low, a->stride);
    ll_val last = floor_div(e, ll_add(e, ll_sub(e, a->out, ll_k(e, 1)), a->low), a->stride);
    a->count = ll_add(e, ll_sub(e, last, a->first), ll_k(e, 1));
    a->count = ll_select(e, ll_icmp(e, LLVMIntSGT, a->out, ll_k(e, 0)), a->count, ll_k(e, 0));
  }
}

/* May x be read where it lies? */
static bool reads_directly(tn_cpu_conv *v) {
  int64_t plane = 1, n, zero;
  if (v->transposed || v->tx.dtype != TN_DT_f32 || !tn_cpu_arg_buffer(v->k, v->x)) return false;
  for (uint32_t i = 0; i < TN_CONV_AXES; i++)
    if (v->axis[i].stride != 1 || !ll_const(v->axis[i].low, &zero) || zero) return false;
  for (uint32_t i = 0; i < v->spatial; i++) {
    tn_attr high = tn_ll_attr(&v->k->body, v->k->root, "high");
    if (i < high.count && (!tn_ll_dim_const(&v->k->body, high.u.dims[i], &zero) || zero)) return false;
    plane = tn_ll_dim_const(&v->k->body, v->tx.dims[2 + i], &n) ? plane * n % 1024 : 1;
  }
  return plane != 0; /* channels a page apart would fall into one set of the cache */
}

static void read_op(tn_cpu_conv *v) {
  tn_cpu_kernel *k = v->k;
  tn_ll *e = k->e;
  v->transposed = !strcmp(k->root_name, "conv_transpose");
  v->x = tn_cpu_operand(k, 0);
  v->w = tn_cpu_operand(k, 1);
  v->bias = tn_cpu_operand(k, 2);
  v->out = tn_cpu_result(k, 0);
  v->tx = tn_cpu_type(k, v->x);
  v->tw = tn_cpu_type(k, v->w);
  v->to = tn_cpu_type(k, v->out);
  v->spatial = v->tx.rank - 2;
  v->groups = tn_ll_attr_int(&k->body, k->root, "groups");
  v->packed = v->tw.layout != NULL;
  if (v->packed && strcmp(v->tw.layout, v->transposed ? "window16t" : "window16"))
    tn_ll_fail(e, "%s does not read layout '%s'", k->root_name, v->tw.layout);
  v->taps = v->phases = 1;
  for (uint32_t i = 0; i < TN_CONV_AXES; i++) {
    tn_cpu_axis *a = &v->axis[i];
    read_axis(v, i);
    v->taps *= a->size;
    v->phases *= a->out_phases;
  }
  v->n = tn_ll_dim(&k->body, v->tx.dims[0]);
  v->channels_dim = v->tw.dims[v->transposed ? 0 : 1];
  v->outputs_dim = v->tw.dims[v->transposed ? 1 : 0];
  ll_val channels = tn_ll_dim(&k->body, v->channels_dim), outputs = tn_ll_dim(&k->body, v->outputs_dim);
  v->channels = v->transposed ? ll_idiv(e, channels, ll_k(e, v->groups)) : channels;
  v->outputs = v->transposed ? outputs : ll_idiv(e, outputs, ll_k(e, v->groups));
  v->direct = reads_directly(v);
}

/* ---- sizes ---- */
static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* Elements of a channel in the band: `run` positions in rows of `pitch`, in every phase and plane. */
static double channel_size(const tn_cpu_axis *a, bool transposed, int64_t run, int64_t pitch, int64_t lanes) {
  const tn_cpu_axis *x = &a[TN_CONV_X], *y = &a[TN_CONV_Y], *z = &a[TN_CONV_Z];
  double region = (double)run + (double)y->reach * (double)pitch + (double)lanes;
  double planes = transposed ? (double)z->reach + 1 : (double)z->size;
  return region * (double)x->in_phases * (double)y->in_phases * planes;
}

bool tn_cpu_conv_fits(uint32_t spatial, const int64_t *size, const int64_t *stride, const int64_t *dilation,
                      bool transposed) {
  tn_cpu_axis a[TN_CONV_AXES];
  double taps = 1, phases = 1;
  for (uint32_t i = 0; i < TN_CONV_AXES; i++) {
    uint32_t s = i + spatial - TN_CONV_AXES;
    bool there = i >= TN_CONV_AXES - spatial;
    a[i] = (tn_cpu_axis){.size = 1, .stride = 1, .dilation = 1};
    if (there) a[i] = (tn_cpu_axis){.size = size[s], .stride = stride[s], .dilation = dilation[s]};
    if (a[i].size > LIMIT || a[i].stride > LIMIT || a[i].dilation > LIMIT) return false;
    set_window(&a[i], transposed);
    taps *= (double)a[i].size;
    phases *= (double)a[i].out_phases;
  }
  int64_t pitch = WIDTH + a[TN_CONV_X].reach, run = pitch > FEW_POSITIONS ? pitch : FEW_POSITIONS;
  double parts = phases * TN_CPU_PANEL * (double)pitch;
  return channel_size(a, transposed, run, pitch, 64) < LIMIT && taps * phases < LIMIT && parts < LIMIT;
}

/* The shape of the micro-kernel, and what scratch has to hold at most. */
static void plan(tn_cpu_conv *v) {
  const tn_cpu_isa *isa = v->k->u->isa;
  int64_t lanes = isa->lanes, outputs, channels, count;
  uint32_t cells = isa->mr * isa->panels * TN_CPU_PANEL / isa->lanes;
  bool known = ll_const(v->outputs, &outputs);
  v->rows = cells >= 24 ? 8 : 4;
  if (known && outputs < v->rows) v->rows = outputs > 1 ? (uint32_t)outputs : 1;
  v->vectors = (cells > 24 ? 24 : cells) / v->rows;
  if (v->vectors > 8) v->vectors = 8;
  v->block_max = known && outputs < BLOCK ? outputs : BLOCK;
  if (v->phases > 1 && v->block_max > TN_CPU_PANEL)
    v->block_max = v->phases > 4 ? TN_CPU_PANEL : round_up(BLOCK / v->phases, TN_CPU_PANEL);
  if (v->block_max < 1) v->block_max = 1;
  const tn_cpu_axis *x = &v->axis[TN_CONV_X], *y = &v->axis[TN_CONV_Y];
  int64_t apart = v->phases * x->in_phases * y->in_phases;
  v->positions_max = (known && outputs <= 2 ? FEW_POSITIONS : POSITIONS) / v->phases;
  if (ll_const(v->channels, &channels) && apart * channels < BAND / 64)
    apart *= channels; /* all at once if may be */
  if (apart > 1 && v->positions_max > BAND / apart - lanes) v->positions_max = BAND / apart - lanes;
  if (v->positions_max < 64) v->positions_max = 64;
  v->width_max = WIDTH;
  if (ll_const(x->count, &count) && count < WIDTH) v->width_max = count > 1 ? count : 1;
  int64_t pitch = v->width_max + x->reach, run = pitch > v->positions_max ? pitch : v->positions_max;
  double channel = channel_size(v->axis, v->transposed, run, pitch, lanes);
  v->parts_row_max = round_up(run, v->vectors * lanes) + lanes;
  v->band_max = (channel > BAND ? (int64_t)channel : BAND) + v->vectors * lanes + lanes;
}

static void ask_scratch(tn_cpu_conv *v) {
  tn_cpu_kernel *k = v->k;
  v->table = tn_cpu_scratch(k, tn_cpu_dim_k(k, v->phases * v->taps), 16);
  v->counts = tn_cpu_scratch(k, tn_cpu_dim_k(k, v->phases), 8);
  if (!v->direct) v->band = tn_cpu_scratch(k, tn_cpu_dim_k(k, v->band_max), 4);
  v->parts = tn_cpu_scratch(k, tn_cpu_dim_k(k, v->phases * v->block_max * v->parts_row_max), 4);
  if (v->packed) return;
  tn_dim depth = tn_cpu_dim_mul(k, v->channels_dim, tn_cpu_dim_k(k, v->taps * TN_CPU_PANEL));
  v->weights = tn_cpu_scratch(k, depth, 4);
  v->spare = ll_alloca(k->e, 64);
}

/* What `rows` rows of a tile cost: calls of the micro-kernel, those with few vectors dearer for what they do.
 */
static ll_val tile_cost(tn_cpu_conv *v, ll_val rows) {
  tn_ll *e = v->k->e;
  ll_val whole = ll_k(e, (int64_t)v->vectors * e->lanes), lanes = ll_k(e, e->lanes);
  ll_val q = ll_add(e, ll_mul(e, ll_sub(e, rows, ll_k(e, 1)), v->pitch), v->axis[TN_CONV_X].tile);
  ll_val rest = ll_ceildiv(e, ll_urem(e, q, whole), lanes), some = ll_icmp(e, LLVMIntSGT, rest, ll_k(e, 0));
  ll_val tail = ll_select(e, some, ll_add(e, ll_mul(e, rest, ll_k(e, 3)), ll_k(e, 3)), ll_k(e, 0));
  return ll_add(e, ll_mul(e, ll_udiv(e, q, whole), ll_k(e, 4 * v->vectors)), tail);
}

/* The height of tiles, 1 .. most, that costs least among those that make `want` tiles or more. */
static ll_val tile_height(tn_cpu_conv *v, ll_val most, ll_val want) {
  tn_ll *e = v->k->e;
  const tn_cpu_axis *y = &v->axis[TN_CONV_Y];
  ll_val state[] = {ll_k(e, 1), ll_k(e, INT64_MAX)}, one = ll_k(e, 1);
  ll_loop l;
  ll_loop_begin(e, &l, one, ll_add(e, most, one), one, state, 2);
  ll_val tiles = tn_cpu_at_least_one(e, ll_ceildiv(e, y->count, l.iv)), full = ll_sub(e, tiles, one);
  ll_val last = ll_sub(e, y->count, ll_mul(e, full, l.iv));
  ll_val cost = ll_add(e, ll_mul(e, full, tile_cost(v, l.iv)), tile_cost(v, last));
  cost = ll_add(e, cost, tiles); /* the rows that neighbours share are staged twice */
  ll_val better = ll_and(e, ll_icmp(e, LLVMIntSLE, cost, l.phi[1]), ll_icmp(e, LLVMIntSGE, tiles, want));
  state[0] = ll_select(e, better, l.iv, l.phi[0]);
  state[1] = ll_select(e, better, cost, l.phi[1]);
  ll_loop_end(e, &l, state);
  return l.out[0];
}

/* Tiles along x and y: whole rows if they fit, enough tiles for the threads. */
static void cut_tiles(tn_cpu_conv *v, ll_val images) {
  tn_ll *e = v->k->e;
  tn_cpu_axis *x = &v->axis[TN_CONV_X], *y = &v->axis[TN_CONV_Y], *z = &v->axis[TN_CONV_Z];
  z->tile = ll_k(e, 1);
  z->tiles = z->count;
  x->tiles = ll_ceildiv(e, x->count, ll_k(e, WIDTH));
  ll_val even = ll_ceildiv(e, x->count, tn_cpu_at_least_one(e, x->tiles)), lanes = ll_k(e, e->lanes);
  ll_val one = ll_icmp(e, LLVMIntSLE, x->tiles, ll_k(e, 1));
  x->tile = ll_select(e, one, x->count, ll_mul(e, ll_ceildiv(e, even, lanes), lanes));
  x->tile = tn_cpu_at_least_one(e, x->tile);
  x->tiles = ll_ceildiv(e, x->count, x->tile);
  v->pitch = v->direct ? x->in : ll_add(e, x->tile, ll_k(e, x->reach));
  ll_val most =
      tn_cpu_at_least_one(e, ll_udiv(e, ll_k(e, v->positions_max), tn_cpu_at_least_one(e, v->pitch)));
  if (v->direct) most = ll_select(e, one, most, ll_k(e, 1));
  most = tn_cpu_at_least_one(e, ll_imin(e, most, y->count));
  /* outputs are cut as well, into fewer pieces where every piece stages the input again */
  ll_val others =
      ll_mul(e, images, ll_ceildiv(e, v->outputs, ll_k(e, v->direct ? TN_CPU_PANEL : 4 * TN_CPU_PANEL)));
  others = tn_cpu_at_least_one(e, ll_mul(e, others, ll_mul(e, z->tiles, x->tiles)));
  ll_val want = ll_ceildiv(e, ll_mul(e, v->k->nthreads, ll_k(e, 4)), others);
  want =
      ll_imin(e, ll_select(e, ll_icmp(e, LLVMIntEQ, v->k->nthreads, ll_k(e, 1)), ll_k(e, 1), want), y->count);
  y->tile = tile_height(v, most, want);
  y->tiles = ll_ceildiv(e, y->count, y->tile);
}

static void cut_blocks(tn_cpu_conv *v, ll_val tiles) {
  tn_ll *e = v->k->e;
  ll_val panel = ll_k(e, TN_CPU_PANEL), most = ll_k(e, v->block_max);
  ll_val want = ll_ceildiv(e, ll_mul(e, v->k->nthreads, ll_k(e, 4)), tn_cpu_at_least_one(e, tiles));
  want = ll_select(e, ll_icmp(e, LLVMIntEQ, v->k->nthreads, ll_k(e, 1)), ll_k(e, 1), want);
  v->blocks = ll_imax(e, ll_ceildiv(e, v->outputs, most), ll_imin(e, want, ll_ceildiv(e, v->outputs, panel)));
  ll_val even = ll_ceildiv(e, v->outputs, tn_cpu_at_least_one(e, v->blocks));
  v->block = tn_cpu_at_least_one(e, ll_imin(e, ll_mul(e, ll_ceildiv(e, even, panel), panel), most));
  v->blocks = ll_ceildiv(e, v->outputs, v->block);
}

static void cut_channels(tn_cpu_conv *v) {
  tn_ll *e = v->k->e;
  const tn_cpu_axis *x = &v->axis[TN_CONV_X], *y = &v->axis[TN_CONV_Y], *z = &v->axis[TN_CONV_Z];
  if (v->direct) {
    v->region = v->plane = ll_mul(e, y->in, x->in);
    v->channel = ll_mul(e, v->plane, z->in);
    v->chunk = ll_k(e, 512);
  } else {
    int64_t planes = v->transposed ? z->reach + 1 : z->size;
    v->region = ll_add(e, ll_mul(e, ll_add(e, y->tile, ll_k(e, y->reach)), v->pitch), ll_k(e, e->lanes));
    v->plane = ll_mul(e, v->region, ll_k(e, x->in_phases * y->in_phases));
    v->channel = ll_mul(e, v->plane, ll_k(e, planes));
    v->chunk = tn_cpu_at_least_one(e, ll_udiv(e, ll_k(e, BAND), v->channel));
  }
  v->chunks = tn_cpu_at_least_one(e, ll_ceildiv(e, v->channels, v->chunk));
  v->chunk = ll_ceildiv(e, v->channels, v->chunks);
}

/* ---- the table of taps ---- */
/* Of tap t along an axis: its phase of the result, and how far from position 0 it reads. */
static void tap_of(tn_cpu_conv *v, const tn_cpu_axis *a, ll_val t, ll_val *out_phase, ll_val *in_phase,
                   ll_val *step) {
  tn_ll *e = v->k->e;
  ll_val at = ll_mul(e, t, ll_k(e, a->dilation)), phase = ll_imod(e, at, ll_k(e, a->stride));
  ll_val by = ll_idiv(e, at, ll_k(e, a->stride));
  *out_phase = v->transposed ? phase : ll_k(e, 0);
  *in_phase = v->transposed ? ll_k(e, 0) : phase;
  *step = v->transposed ? ll_sub(e, ll_k(e, a->reach), by) : by;
}

static void add_tap(tn_cpu_conv *v, const ll_val *t) {
  tn_ll *e = v->k->e;
  const tn_cpu_axis *x = &v->axis[TN_CONV_X], *y = &v->axis[TN_CONV_Y], *z = &v->axis[TN_CONV_Z];
  ll_val out[TN_CONV_AXES], in[TN_CONV_AXES], step[TN_CONV_AXES];
  for (uint32_t i = 0; i < TN_CONV_AXES; i++) tap_of(v, &v->axis[i], t[i], &out[i], &in[i], &step[i]);
  /* planes are staged one by one for each tap, as they follow each other in z */
  ll_val plane = v->transposed ? step[TN_CONV_Z]
                 : v->direct   ? ll_mul(e, t[TN_CONV_Z], ll_k(e, z->dilation))
                               : t[TN_CONV_Z];
  ll_val region = ll_add(e, ll_mul(e, in[TN_CONV_Y], ll_k(e, x->in_phases)), in[TN_CONV_X]);
  ll_val from = ll_add(e, ll_mul(e, plane, v->plane), ll_mul(e, region, v->region));
  from = ll_add(e, from, ll_add(e, ll_mul(e, step[TN_CONV_Y], v->pitch), step[TN_CONV_X]));
  ll_val phase = ll_add(e, ll_mul(e, out[TN_CONV_Z], ll_k(e, y->out_phases)), out[TN_CONV_Y]);
  phase = ll_add(e, ll_mul(e, phase, ll_k(e, x->out_phases)), out[TN_CONV_X]);
  ll_val tap =
      ll_add(e, ll_mul(e, ll_add(e, ll_mul(e, t[0], ll_k(e, y->size)), t[1]), ll_k(e, x->size)), t[2]);
  ll_val count = ll_at(e, v->counts, ll_mul(e, phase, ll_k(e, 8))), n = ll_load(e, e->i64, count, 8);
  ll_val entry = ll_mul(e, ll_add(e, ll_mul(e, phase, ll_k(e, v->taps)), n), ll_k(e, 16));
  ll_val to = ll_at(e, v->table, entry);
  ll_store(e, ll_mul(e, from, ll_k(e, 4)), to, 8);
  ll_store(e, ll_mul(e, tap, ll_k(e, TN_CPU_PANEL * 4)), ll_at(e, to, ll_k(e, 8)), 8);
  ll_store(e, ll_add(e, n, ll_k(e, 1)), count, 8);
}

static void write_table(tn_cpu_conv *v) {
  tn_ll *e = v->k->e;
  ll_loop l[TN_CONV_AXES];
  ll_val t[TN_CONV_AXES];
  ll_loop_begin(e, &l[0], ll_k(e, 0), ll_k(e, v->phases), ll_k(e, 1), NULL, 0);
  ll_store(e, ll_k(e, 0), ll_at(e, v->counts, ll_mul(e, l[0].iv, ll_k(e, 8))), 8);
  ll_loop_end(e, &l[0], NULL);
  for (uint32_t i = 0; i < TN_CONV_AXES; i++) {
    ll_loop_begin(e, &l[i], ll_k(e, 0), ll_k(e, v->axis[i].size), ll_k(e, 1), NULL, 0);
    t[i] = l[i].iv;
  }
  add_tap(v, t);
  for (uint32_t i = TN_CONV_AXES; i-- > 0;) ll_loop_end(e, &l[i], NULL);
}

/* ---- both parts ---- */
void tn_cpu_conv_plan(tn_cpu_conv *v) {
  read_op(v);
  plan(v);
  ask_scratch(v);
}

ll_val tn_cpu_conv_cut(tn_cpu_conv *v) {
  tn_ll *e = v->k->e;
  ll_val images = ll_mul(e, v->n, ll_k(e, v->groups)), tiles = images;
  cut_tiles(v, images);
  for (uint32_t i = 0; i < TN_CONV_AXES; i++) tiles = ll_mul(e, tiles, v->axis[i].tiles);
  cut_blocks(v, tiles);
  cut_channels(v);
  write_table(v);
  return tiles;
}
