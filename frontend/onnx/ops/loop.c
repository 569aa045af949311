/* ops/loop.c - Loop and Scan. Few iterations whose number is known, and all that carry lists, are written
 * out; others become an IR loop over a function. What sizes of carried tensors stay the same is found by
 * building the body with the first sizes, seeing which come out different, and building it again with symbols
 * for those. */
#include "frontend/onnx/body.h"

enum { MAX_UNROLLED = 256, MAX_LIST_TRIPS = 1024, MAX_ROUNDS = 6, MAX_CARRIED = 256 };

typedef struct loop {
  tn_ox *x;
  tn_ox_node *n;
  const tn_ox_graph *g;
  uint32_t carried, slices; /* inputs that are carried; outputs that are stacked */
  const tn_ox_item *init[MAX_CARRIED];
  tn_value trip, cond;
  int64_t known_trip; /* -1: not known */
  /* Scan: inputs that are cut, each along its axis, forwards or backwards. */
  uint32_t nscanned;
  tn_value scanned[MAX_CARRIED];
  uint32_t axes[MAX_CARRIED];
  bool back[MAX_CARRIED];
  bool scan;
  tn_dim count; /* iterations of a Scan */
} loop;

static uint32_t outputs_before(const loop *l) { return l->scan ? 0 : 1; } /* the condition */

/* ---- written out
 * -------------------------------------------------------------------------------------------- */

/* Element i of a scanned input in the body that is being built. */
static tn_value cut(loop *l, uint32_t k, tn_value from, tn_value i) {
  tn_ox *x = l->x;
  if (l->back[k]) {
    tn_value last = tn_ox_dim_value(x, tn_ox_dsub(x, tn_ox_dim(x, from, l->axes[k]), tn_ox_d(x, 1)));
    i = tn_ox_binary(x, "sub", last, i);
  }
  return tn_ox_gather(x, from, i, l->axes[k]);
}

/* Lowers the body once. `again` (may be NULL): the condition. */
static tn_ox_scope *iterate(loop *l, const tn_ox_item **carried, tn_value i, tn_value *again) {
  tn_ox *x = l->x;
  const tn_ox_item *in[2 * MAX_CARRIED + 2];
  uint32_t nin = 0;
  if (!l->scan) {
    in[nin++] = i ? tn_ox_item_of(x, i) : NULL;
    tn_value go = tn_ox_constant(x, TN_DT_bool, NULL, 0, "\1", 1);
    in[nin++] = go ? tn_ox_item_of(x, go) : NULL;
  }
  for (uint32_t k = 0; k < l->carried; k++) in[nin++] = carried[k];
  for (uint32_t k = 0; k < l->nscanned; k++) {
    tn_value v = cut(l, k, l->scanned[k], i);
    in[nin++] = v ? tn_ox_item_of(x, v) : NULL;
  }
  tn_ox_scope *s = tn_ox_graph_inline(x, l->n, l->g, in, nin);
  if (s && again && !l->scan) *again = tn_ox_item_value(x, tn_ox_graph_output(x, l->n, s, l->g, 0));
  return s;
}

static tn_status stack_outputs(loop *l, tn_value *parts, uint32_t trips) {
  tn_ox *x = l->x;
  for (uint32_t k = 0; k < l->slices; k++) {
    tn_value *own = parts + (size_t)k * trips;
    for (uint32_t i = 0; i < trips; i++) own[i] = tn_ox_unsqueeze(x, own[i], 0);
    TN_TRY(tn_ox_out(x, l->n, l->carried + k, tn_ox_concat(x, own, trips, 0)));
  }
  return TN_OK;
}

/* *done false: the condition depends on data, nothing was stated. */
static tn_status unroll(loop *l, uint32_t trips, bool *done) {
  tn_ox *x = l->x;
  const tn_ox_item *carried[MAX_CARRIED];
  tn_value *parts = tn_arena_alloc(&x->arena, ((size_t)l->slices * trips + 1) * sizeof *parts), again = 0;
  uint32_t first = outputs_before(l), made = 0, one;
  if (!parts) return TN_OOM;
  memcpy(carried, l->init, sizeof carried);
  for (int64_t go = 1; made < trips && go; made++) {
    tn_ox_scope *s = iterate(l, carried, tn_ox_scalar_int(x, TN_DT_i64, made), &again);
    if (!s) return x->broken ? x->broken : TN_INVALID;
    for (uint32_t k = 0; k < l->carried + l->slices; k++) {
      tn_ox_item *item = tn_ox_graph_output(x, l->n, s, l->g, first + k);
      if (!item) return TN_INVALID;
      if (k < l->carried)
        carried[k] = item->kind == TN_OX_INIT ? tn_ox_item_of(x, tn_ox_item_value(x, item)) : item;
      else
        parts[(size_t)(k - l->carried) * trips + made] = tn_ox_item_value(x, item);
    }
    if (!l->scan && !tn_ox_known_ints(x, again, &go, 1, &one)) return TN_OK;
  }
  *done = true;
  for (uint32_t k = 0; k < l->slices && made < trips; k++) /* it ended early: close the gaps */
    memmove(parts + (size_t)k * made, parts + (size_t)k * trips, made * sizeof *parts);
  for (uint32_t k = 0; k < l->carried; k++) TN_TRY(tn_ox_out_item(x, l->n, k, carried[k]));
  return stack_outputs(l, parts, made);
}

/* ---- as a function
 * ------------------------------------------------------------------------------------------ */

typedef struct built {
  tn_ox_body body;
  tn_value args[MAX_CARRIED], results[2 * MAX_CARRIED];
  tn_type types[MAX_CARRIED];           /* of the carried arguments */
  bool fresh[MAX_CARRIED][TN_MAX_RANK]; /* sizes that change */
  bool endless;                         /* the condition is true whatever happens */
} built;

static tn_type carried_type(loop *l, const tn_ox_outside *out, const built *b, uint32_t k) {
  tn_ox *x = l->x;
  tn_type_info t;
  tn_dim dims[TN_MAX_RANK];
  tn_type type = tn_ox_type_inward(x, out, tn_ox_type_of(x, l->init[k]->value));
  if (!type) return 0;
  x->ir->type_get(x->m, type, &t);
  for (uint32_t i = 0; i < t.rank; i++) dims[i] = b->fresh[k][i] ? tn_ox_fresh_dim(x, "carried") : t.dims[i];
  return x->ir->type_make(x->m, t.dtype, t.rank, dims, NULL);
}

/* The graph's outputs as the function's results. */
static tn_status collect(loop *l, built *b, tn_ox_scope *s, tn_value again) {
  tn_ox *x = l->x;
  int64_t go = 0;
  uint32_t one, n = 0;
  if (!l->scan && again && tn_ox_rank(x, again)) again = tn_ox_reshape(x, again, NULL, 0);
  if (l->scan) again = tn_ox_constant(x, TN_DT_bool, NULL, 0, "\1", 1);
  b->endless = tn_ox_known_ints(x, again, &go, 1, &one) && go;
  b->results[n++] = again;
  for (uint32_t k = 0; k < l->carried + l->slices; k++) {
    tn_ox_item *item = tn_ox_graph_output(x, l->n, s, l->g, outputs_before(l) + k);
    if (item && item->kind != TN_OX_TENSOR && item->kind != TN_OX_INIT)
      return tn_ox_refuse(
          x, l->n, "make the number of iterations a constant",
          "it carries a sequence or an optional, and the number of iterations depends on data");
    b->results[n++] = tn_ox_item_value(x, item);
  }
  return x->failed ? TN_INVALID : TN_OK;
}

static tn_status build_body(loop *l, tn_ox_outside *out, built *b) {
  tn_ox *x = l->x;
  const tn_ox_item *carried[MAX_CARRIED];
  TN_TRY(tn_ox_outside_renew(x, out));
  TN_TRY(tn_ox_body_open(x, l->n, "body", &b->body));
  tn_value i = tn_ox_body_arg(x, &b->body, "i", x->ir->type_make(x->m, TN_DT_i64, 0, NULL, NULL));
  for (uint32_t k = 0; k < l->carried; k++) {
    b->types[k] = carried_type(l, out, b, k);
    b->args[k] = tn_ox_body_arg(x, &b->body, "carried", b->types[k]);
    carried[k] = b->args[k] ? tn_ox_item_of(x, b->args[k]) : NULL;
  }
  tn_status s = x->failed ? TN_INVALID : tn_ox_body_outside(x, &b->body, out);
  /* The scanned inputs are the first of the outside values. */
  loop inner = *l;
  for (uint32_t k = 0; k < l->nscanned && s == TN_OK; k++) inner.scanned[k] = b->body.outside[k];
  tn_ox_node n = *l->n;
  n.scope = b->body.scope;
  inner.n = &n;
  tn_value again = 0;
  tn_ox_scope *scope = s == TN_OK ? iterate(&inner, carried, i, &again) : NULL;
  if (s == TN_OK) s = scope ? collect(&inner, b, scope, again) : x->broken ? x->broken : TN_INVALID;
  return s;
}

/* Notes which carried sizes come out other than they went in. */
static bool settled(loop *l, built *b, bool *same) {
  tn_ox *x = l->x;
  *same = true;
  for (uint32_t k = 0; k < l->carried; k++) {
    tn_type_info in, out;
    x->ir->type_get(x->m, b->types[k], &in);
    x->ir->type_get(x->m, tn_ox_type_of(x, b->results[1 + k]), &out);
    if (in.dtype != out.dtype || in.rank != out.rank) {
      tn_ox_refuse(x, l->n, NULL,
                   "carried value %u has rank %u, and rank %u or another type after an iteration", k, in.rank,
                   out.rank);
      return false;
    }
    for (uint32_t i = 0; i < in.rank; i++) {
      if (in.dims[i] == out.dims[i] || b->fresh[k][i]) continue;
      b->fresh[k][i] = true;
      *same = false;
    }
  }
  return true;
}

/* Builds the function for good; it is open no more. */
static tn_status settle(loop *l, tn_ox_outside *out, built *b) {
  tn_ox *x = l->x;
  for (uint32_t round = 0; round < MAX_ROUNDS; round++) {
    bool same;
    TN_TRY(build_body(l, out, b));
    if (!settled(l, b, &same)) return TN_UNSUPPORTED;
    if (same) return tn_ox_body_close(x, &b->body, b->results, 1 + l->carried + l->slices);
    TN_TRY(tn_ox_body_drop(x, &b->body));
  }
  return tn_ox_refuse(x, l->n, NULL, "the sizes of what it carries depend on each other in too many ways");
}

static tn_status emit(loop *l, const tn_ox_outside *out, built *b) {
  tn_ox *x = l->x;
  uint32_t nin = 2, count = l->carried + l->slices;
  tn_value *in = tn_arena_alloc(&x->arena, (2 + l->carried + out->values.count) * sizeof *in);
  tn_type *types = tn_arena_alloc(&x->arena, (count + 1) * sizeof *types);
  if (!in || !types) return TN_OOM;
  in[0] = l->trip;
  in[1] = l->cond;
  for (uint32_t k = 0; k < l->carried; k++) in[nin++] = l->init[k]->value;
  for (uint32_t k = 0; k < out->values.count; k++) in[nin++] = out->values.items[k];
  tn_dim times = l->scan ? l->count : 0;
  uint32_t one = 0;
  if (b->endless && !l->cond && !l->scan && !(l->trip && tn_ox_known_dims(x, l->trip, &times, 1, &one)))
    times = 0;
  if (!times) times = tn_ox_fresh_dim(x, "trips");
  for (uint32_t k = 0; k < count; k++)
    types[k] = k < l->carried ? tn_ox_type_outward(x, out, b->types[k], 0)
                              : tn_ox_type_outward(x, out, tn_ox_type_of(x, b->results[1 + k]), times);
  for (uint32_t k = 0; k < count; k++)
    if (!types[k]) return TN_INVALID;
  tn_op op = tn_ox_make_typed(x, "loop", in, nin,
                              TN_OX_ATTRS(TN_OX_STR("body", b->body.name), TN_OX_INT("carried", l->carried)),
                              types, count);
  for (uint32_t k = 0; k < count && op; k++) TN_TRY(tn_ox_out(x, l->n, k, tn_ox_result(x, op, k)));
  return op ? TN_OK : TN_INVALID;
}

static tn_status repeat(loop *l) {
  tn_ox *x = l->x;
  tn_ox_outside out = {0};
  built *b = tn_mem_alloc(sizeof *b);
  tn_status s = b ? TN_OK : TN_OOM;
  for (uint32_t k = 0; k < l->carried && s == TN_OK; k++) {
    if (!l->init[k] || l->init[k]->kind != TN_OX_TENSOR)
      s = tn_ox_refuse(x, l->n, "make the number of iterations a constant",
                       "it carries a sequence or an optional, and the number of iterations depends on data");
  }
  for (uint32_t k = 0; k < l->nscanned && s == TN_OK; k++) s = tn_ox_outside_value(x, l->scanned[k], &out);
  if (s == TN_OK) s = tn_ox_outside_add(x, l->n, l->g, &out);
  if (s == TN_OK) s = settle(l, &out, b);
  if (s == TN_OK) s = emit(l, &out, b);
  tn_ox_outside_fini(&out);
  tn_mem_free(b);
  return s;
}

/* ---- Loop
 * --------------------------------------------------------------------------------------------------- */

static bool read_items(loop *l, uint32_t from) {
  for (uint32_t k = 0; k < l->carried; k++) {
    l->init[k] = tn_ox_in_item(l->x, l->n, from + k);
    if (!l->init[k]) return tn_ox_fail(l->x, l->n, "input %u is missing", from + k), false;
  }
  return !l->x->failed;
}

static bool any_list(const loop *l) {
  for (uint32_t k = 0; k < l->carried; k++)
    if (l->init[k]->kind != TN_OX_TENSOR) return true;
  return false;
}

static tn_status run(loop *l) {
  int64_t trips = l->known_trip;
  bool few = trips > 0 && trips * (int64_t)(l->g->n_node + 1) <= MAX_UNROLLED, lists = any_list(l),
       done = false;
  if (!l->cond && trips >= 0 && (few || (lists && trips <= MAX_LIST_TRIPS))) {
    if (!trips && !l->slices) {
      for (uint32_t k = 0; k < l->carried; k++) TN_TRY(tn_ox_out_item(l->x, l->n, k, l->init[k]));
      return TN_OK;
    }
    if (trips) TN_TRY(unroll(l, (uint32_t)trips, &done));
  }
  return done ? TN_OK : repeat(l);
}

tn_status tn_ox_lower_loop(tn_ox *x, tn_ox_node *n) {
  loop l = {.x = x, .n = n, .g = tn_ox_graph_attr(x, n, "body"), .known_trip = -1};
  int64_t k;
  uint32_t one, nin = tn_ox_nin(n);
  if (!l.g || nin < 2) return tn_ox_fail(x, n, "%u inputs, wants at least 2", nin);
  l.trip = tn_ox_in(x, n, 0);
  l.cond = tn_ox_in(x, n, 1);
  l.carried = nin - 2;
  if (l.carried > MAX_CARRIED || l.g->n_output > MAX_CARRIED)
    return tn_ox_refuse(x, n, NULL, "it carries more than %d values", MAX_CARRIED);
  if (l.g->n_output < l.carried + 1 || tn_ox_nout(n) > l.g->n_output - 1)
    return tn_ox_fail(x, n, "its graph has %zu outputs, wants %u and the stacked ones", l.g->n_output,
                      l.carried + 1);
  l.slices = (uint32_t)l.g->n_output - 1 - l.carried;
  if (!read_items(&l, 2)) return TN_INVALID;
  if (l.trip && tn_ox_known_ints(x, l.trip, &k, 1, &one)) l.known_trip = k < 0 ? 0 : k;
  if (l.cond && tn_ox_known_ints(x, l.cond, &k, 1, &one)) {
    l.cond = 0;
    if (!k) l.known_trip = 0, l.trip = tn_ox_scalar_int(x, TN_DT_i64, 0);
  }
  if (l.trip && tn_ox_rank(x, l.trip)) l.trip = tn_ox_reshape(x, l.trip, NULL, 0);
  if (l.cond && tn_ox_rank(x, l.cond)) l.cond = tn_ox_reshape(x, l.cond, NULL, 0);
  return x->failed ? TN_INVALID : run(&l);
}

/* ---- Scan
 * --------------------------------------------------------------------------------------------------- */

static bool int_list(tn_ox *x, tn_ox_node *n, const char *name, uint32_t want, const int64_t **out) {
  uint32_t count;
  *out = tn_ox_ints(n, name, &count);
  if (*out && count != want) tn_ox_fail(x, n, "%s has %u entries, wants %u", name, count, want);
  return !x->failed;
}

/* Stacks lie along axis 0; elsewhere they are wanted, and perhaps in reverse. */
static tn_status place_outputs(loop *l, const int64_t *axes, const int64_t *directions) {
  tn_ox *x = l->x;
  for (uint32_t k = 0; k < l->slices; k++) {
    tn_ox_item *item = l->n->outs[l->carried + k];
    if (!item) continue;
    tn_value v = item->value;
    int64_t perm[TN_MAX_RANK];
    uint32_t rank = tn_ox_rank(x, v), axis = axes ? tn_ox_axis(x, l->n, axes[k], rank) : 0;
    if (directions && directions[k])
      v = tn_ox_slice(x, v, 0, tn_ox_dsub(x, tn_ox_dim(x, v, 0), tn_ox_d(x, 1)), tn_ox_d(x, -1), -1);
    for (uint32_t i = 0; i < rank; i++) perm[i] = i < axis ? i + 1 : i == axis ? 0 : i;
    TN_TRY(tn_ox_out(x, l->n, l->carried + k, v ? tn_ox_transpose(x, v, perm) : 0));
  }
  return TN_OK;
}

static bool read_scanned(loop *l) {
  tn_ox *x = l->x;
  const int64_t *axes, *directions;
  if (!int_list(x, l->n, "scan_input_axes", l->nscanned, &axes)) return false;
  if (!int_list(x, l->n, "scan_input_directions", l->nscanned, &directions)) return false;
  for (uint32_t k = 0; k < l->nscanned; k++) {
    tn_value v = l->scanned[k] = tn_ox_in(x, l->n, l->carried + k);
    if (!v) return tn_ox_fail(x, l->n, "input %u is missing", l->carried + k), false;
    l->axes[k] = tn_ox_axis(x, l->n, axes ? axes[k] : 0, tn_ox_rank(x, v));
    l->back[k] = directions && directions[k];
    tn_dim count = x->failed ? 0 : tn_ox_dim(x, v, l->axes[k]);
    l->count = l->count ? tn_ox_same(x, l->n, count, l->count) : count;
  }
  return !x->failed;
}

tn_status tn_ox_lower_scan(tn_ox *x, tn_ox_node *n) {
  loop l = {.x = x, .n = n, .g = tn_ox_graph_attr(x, n, "body"), .known_trip = -1, .scan = true};
  const int64_t *axes, *directions;
  int64_t count = tn_ox_int(n, "num_scan_inputs", 0), nin = tn_ox_nin(n);
  if (!l.g || count < 1 || count > nin || count > MAX_CARRIED || nin - count > MAX_CARRIED)
    return tn_ox_fail(x, n, "%lld of %lld inputs are scanned", (long long)count, (long long)nin);
  l.nscanned = (uint32_t)count;
  l.carried = (uint32_t)(nin - count);
  if (l.g->n_output < l.carried || l.g->n_output > MAX_CARRIED || tn_ox_nout(n) > l.g->n_output)
    return tn_ox_fail(x, n, "its graph has %zu outputs, and %u values are carried", l.g->n_output, l.carried);
  l.slices = (uint32_t)l.g->n_output - l.carried;
  if (!int_list(x, n, "scan_output_axes", l.slices, &axes)) return TN_INVALID;
  if (!int_list(x, n, "scan_output_directions", l.slices, &directions)) return TN_INVALID;
  if (!read_items(&l, 0) || !read_scanned(&l)) return TN_INVALID;
  if (!tn_ox_dconst(x, l.count, &l.known_trip)) l.known_trip = -1;
  l.trip = tn_ox_dim_value(x, l.count);
  TN_TRY(run(&l));
  return place_outputs(&l, axes, directions);
}
