/* kv_cache.c - generation from decoders that were exported with past. Such a function takes past keys and
 * values, joins the new ones to them and gives all of them back: who calls it copies the whole cache for
 * every token. This pass adds the entry points that generation wants: `logits`, `next` (behind the last
 * token) and `batch` (sequences of different lengths), in which each pair of past and present is a state of
 * capacity C, written at position P by kv_update. What tells a token its place (masks of ones, positions,
 * lengths) is made inside. The function itself stays as it was exported. */
#include "passes/affine.h"
#include "passes/passes.h"
#include <stdio.h>
#include <stdlib.h>

enum { ROLE_NONE, ROLE_IDS, ROLE_MASK, ROLE_POSITIONS, ROLE_PLACES, ROLE_LAST, ROLE_TOTAL, ROLE_PAST };
static const struct {
  const char *name;
  uint32_t role, min_rank, max_rank;
} roles[] = {
    {"input_ids", ROLE_IDS, 2, 2},          {"decoder_input_ids", ROLE_IDS, 2, 2},
    {"attention_mask", ROLE_MASK, 2, 2},    {"decoder_attention_mask", ROLE_MASK, 2, 2},
    {"position_ids", ROLE_POSITIONS, 2, 2}, {"cache_position", ROLE_PLACES, 1, 1},
    {"seqlens_k", ROLE_LAST, 1, 2},         {"total_sequence_length", ROLE_TOTAL, 0, 1},
};

typedef struct pair {
  tn_value past, fresh, joined;
  uint32_t axis; /* that of the tokens: 1 or 2 */
  tn_value state;
} pair;

typedef struct swap {
  const char *symbol;
  tn_dim by;
} swap;

typedef struct cache {
  tn_pass_ctx *c;
  tn_module *m;
  tn_func f;
  tn_func_info info;
  tn_op ret;
  uint32_t *role; /* of each argument */
  TN_VEC(pair) pairs;
  TN_VEC(swap) swaps;
  tn_value ids, logits;
  tn_dim b, s, p, cap, total;
  tn_loc loc;
  const char *why;
  /* one copy */
  tn_func to;
  tn_value *map; /* by old value */
  uint32_t nmap;
  tn_value pads; /* 0: all sequences begin at once */
} cache;

static bool miss(cache *k, const char *fmt, const char *name) {
  char words[160];
  snprintf(words, sizeof words, fmt, name);
  k->why = tn_arena_str(k->c->arena, tn_str_of(words));
  return false;
}

/* ---- what the function takes and gives --------------------------------------------------------- */
/* Past the concats of one operand that some exporters leave. */
static tn_value same_value(cache *k, tn_value v) {
  for (uint32_t operand; tn_rw_nuses(k->m, v) == 1;) {
    tn_op op = tn_ir_value_use(k->m, v, 0, &operand);
    if (!tn_rw_is(k->m, op, TN_OPC_concat) || tn_ir_op_noperands(k->m, op) != 1) break;
    v = tn_ir_op_result(k->m, op, 0);
  }
  return v;
}

static bool is_returned(cache *k, tn_value v) {
  for (uint32_t i = 0; i < tn_ir_op_noperands(k->m, k->ret); i++)
    if (tn_ir_op_operand(k->m, k->ret, i) == v) return true;
  return false;
}

static bool is_symbol(cache *k, tn_dim d, const char **name) {
  tn_dim_info i;
  tn_ir_dim_get(k->m, d, &i);
  if (i.kind != TN_DIM_SYM) return false;
  *name = i.symbol;
  return true;
}

/* concat(past, new), whose result the function gives back, is all that reads the argument. */
static bool find_pair(cache *k, tn_value arg, pair *out) {
  tn_type_info t = tn_rw_type_info(k->m, arg);
  const tn_dtype_info *d = tn_ir_dtype_info(t.dtype);
  uint32_t at;
  if (t.rank != 4 || !d || d->cls != TN_CLASS_FLOAT) return false;
  tn_value v = same_value(k, arg);
  tn_op op = tn_rw_nuses(k->m, v) == 1 ? tn_ir_value_use(k->m, v, 0, &at) : 0;
  if (!tn_rw_is(k->m, op, TN_OPC_concat) || tn_ir_op_noperands(k->m, op) != 2 || at != 0) return false;
  int64_t axis = tn_rw_int(k->m, op, "axis");
  if (axis < 0) axis += 4;
  const char *symbol;
  *out = (pair){arg, tn_ir_op_operand(k->m, op, 1), tn_ir_op_result(k->m, op, 0), (uint32_t)axis, 0};
  return (axis == 1 || axis == 2) && is_symbol(k, t.dims[axis], &symbol) && is_returned(k, out->joined);
}

static uint32_t role_of(cache *k, uint32_t i) {
  tn_type_info t = tn_rw_type_info(k->m, k->info.args[i]);
  const tn_dtype_info *d = tn_ir_dtype_info(t.dtype);
  bool whole = d && (d->cls == TN_CLASS_INT || d->cls == TN_CLASS_UINT || d->cls == TN_CLASS_BOOL);
  for (size_t r = 0; r < TN_COUNT(roles); r++)
    if (!strcmp(roles[r].name, k->info.arg_names[i]) && whole && t.rank >= roles[r].min_rank &&
        t.rank <= roles[r].max_rank)
      return roles[r].role;
  return ROLE_NONE;
}

/* Replaces a symbol; false: it stands for something else already. Numbers are what they are. */
static bool swap_dim(cache *k, tn_dim d, tn_dim by) {
  const char *symbol;
  if (!is_symbol(k, d, &symbol)) return true;
  for (uint32_t i = 0; i < k->swaps.count; i++)
    if (!strcmp(k->swaps.items[i].symbol, symbol))
      return k->swaps.items[i].by == by ||
             miss(k, "the size '%s' is that of past tokens and of others", symbol);
  swap s = {symbol, by};
  return tn_vec_push(&k->swaps, s) || miss(k, "out of memory%s", "");
}

/* A symbol of that name, unless the model has one that is another thing. */
static tn_dim symbol_for(cache *k, const char *name, tn_dim source) {
  const char *mine = "";
  if (source && is_symbol(k, source, &mine) && !strcmp(mine, name)) return source;
  char other[32];
  snprintf(other, sizeof other, "%s", name);
  for (int n = 1;; n++) {
    bool taken = false;
    for (uint32_t i = 0; i < tn_dim_symbols(k->m); i++) taken |= !strcmp(tn_dim_symbol(k->m, i), other);
    if (!taken) return tn_ir_dim_sym(k->m, other);
    snprintf(other, sizeof other, "%s_%d", name, n);
  }
}

static bool find_arguments(cache *k) {
  uint32_t count[ROLE_PAST + 1] = {0};
  for (uint32_t i = 0; i < k->info.nargs; i++) {
    pair p;
    bool past = find_pair(k, k->info.args[i], &p);
    k->role[i] = past ? ROLE_PAST : role_of(k, i);
    count[k->role[i]]++;
    if (past && !tn_vec_push(&k->pairs, p)) return miss(k, "out of memory%s", "");
    if (k->role[i] == ROLE_IDS) k->ids = k->info.args[i];
  }
  for (uint32_t i = 0; !k->pairs.count && i < k->info.nargs; i++)
    if (!strncmp(k->info.arg_names[i], "past_key", 8))
      return miss(k, "'%s' is not joined to new keys or values by a concat that is given back",
                  k->info.arg_names[i]);
  if (!k->pairs.count) return false;
  for (uint32_t i = 0; i < k->info.nargs; i++)
    if (k->role[i] == ROLE_NONE && tn_rw_nuses(k->m, k->info.args[i]))
      return miss(k, "generation does not know what to give for '%s'", k->info.arg_names[i]);
  return count[ROLE_IDS] == 1 || miss(k, "there is no one input of token ids%s", "");
}

/* The only result that is no present. */
static bool find_logits(cache *k) {
  for (uint32_t i = 0; i < k->info.nresults; i++) {
    tn_value v = tn_ir_op_operand(k->m, k->ret, i);
    bool present = false;
    for (uint32_t j = 0; j < k->pairs.count; j++) present |= k->pairs.items[j].joined == v;
    if (present) continue;
    if (k->logits) return miss(k, "'%s' is one result too many", k->info.result_names[i]);
    k->logits = v;
  }
  tn_type_info t = tn_rw_type_info(k->m, k->logits);
  tn_type_info ids = tn_rw_type_info(k->m, k->ids);
  if (t.rank == 3 && t.dims[0] == ids.dims[0] && tn_dim_known_eq(k->m, t.dims[1], ids.dims[1])) return true;
  return miss(k, "the result is not one row of scores per token%s", "");
}

/* Which sizes are the batch, the new tokens, the past ones, and all. */
static bool find_sizes(cache *k) {
  tn_type_info ids = tn_rw_type_info(k->m, k->ids);
  const char *symbol;
  if (!is_symbol(k, ids.dims[1], &symbol)) return miss(k, "the number of new tokens is fixed%s", "");
  k->b = is_symbol(k, ids.dims[0], &symbol) ? symbol_for(k, "B", ids.dims[0]) : ids.dims[0];
  k->s = symbol_for(k, "S", ids.dims[1]);
  pair *first = k->pairs.items;
  k->p = symbol_for(k, "P", tn_rw_type_info(k->m, first->past).dims[first->axis]);
  k->cap = symbol_for(k, "C", 0);
  k->total = k->p && k->s ? tn_dim_add(k->m, k->p, k->s) : 0;
  if (!k->b || !k->s || !k->p || !k->cap || !k->total) return miss(k, "out of memory%s", "");
  if (!swap_dim(k, ids.dims[0], k->b) || !swap_dim(k, ids.dims[1], k->s)) return false;
  for (uint32_t i = 0; i < k->pairs.count; i++) {
    pair *p = &k->pairs.items[i];
    tn_type_info t = tn_rw_type_info(k->m, p->past);
    if (!swap_dim(k, t.dims[0], k->b) || !swap_dim(k, t.dims[p->axis], k->p)) return false;
  }
  for (uint32_t i = 0; i < k->info.nargs; i++) {
    tn_type_info t = tn_rw_type_info(k->m, k->info.args[i]);
    bool all = k->role[i] == ROLE_MASK, some = k->role[i] == ROLE_POSITIONS;
    if ((all || some || k->role[i] == ROLE_LAST) && !swap_dim(k, t.dims[0], k->b)) return false;
    if ((all || some) && !swap_dim(k, t.dims[1], all ? k->total : k->s)) return false;
    if (k->role[i] == ROLE_PLACES && !swap_dim(k, t.dims[0], k->s)) return false;
  }
  return true;
}

/* ---- copying with other sizes ------------------------------------------------------------------ */
static tn_dim swapped(cache *k, tn_dim d) {
  for (uint32_t i = 0; d && i < k->swaps.count; i++)
    d = tn_dim_substitute(k->m, d, k->swaps.items[i].symbol, k->swaps.items[i].by);
  return d;
}

static bool swapped_dims(cache *k, const tn_dim *from, uint32_t n, tn_dim *to) {
  for (uint32_t i = 0; i < n; i++)
    if (!(to[i] = swapped(k, from[i]))) return false;
  return true;
}

static tn_type swapped_type(cache *k, tn_type type) {
  tn_type_info t;
  tn_dim dims[TN_MAX_RANK];
  tn_ir_type_get(k->m, type, &t);
  return swapped_dims(k, t.dims, t.rank, dims) ? tn_ir_type_make(k->m, t.dtype, t.rank, dims, t.layout) : 0;
}

static tn_point end_of(cache *k) { return (tn_point){k->to, 0, 0}; }

/* An op of one result, typed by inference. */
static tn_value make(cache *k, uint32_t opcode, const tn_value *in, uint32_t n, const tn_named_attr *attrs,
                     uint32_t nattrs) {
  for (uint32_t i = 0; i < n; i++)
    if (!in[i]) return 0;
  return tn_rw_build(k->m, end_of(k), opcode, in, n, attrs, nattrs, k->loc);
}

static tn_value make_dims(cache *k, uint32_t opcode, tn_value v, const tn_dim *dims, uint32_t n) {
  tn_named_attr a = {"shape", {.kind = TN_ATTR_DIMS, .count = n, .u.dims = dims}};
  return make(k, opcode, &v, 1, &a, 1);
}

static tn_value make_transpose(cache *k, tn_value v, uint32_t axis) {
  static const int64_t perm[4] = {0, 2, 1, 3};
  tn_named_attr a = {"perm", {.kind = TN_ATTR_INTS, .count = 4, .u.ints = perm}};
  return axis == 1 ? v : make(k, TN_OPC_transpose, &v, 1, &a, 1);
}

static tn_value make_cast(cache *k, tn_value v, tn_dtype to) {
  tn_named_attr a = {"to", {.kind = TN_ATTR_DTYPE, .u.i = to}};
  return tn_rw_type_info(k->m, v).dtype == to ? v : make(k, TN_OPC_cast, &v, 1, &a, 1);
}

static tn_value make_iota(cache *k, tn_dim start, tn_dim size) {
  tn_named_attr a[3] = {{"shape", {.kind = TN_ATTR_DIMS, .count = size ? 1 : 0, .u.dims = &size}},
                        {"start", {.kind = TN_ATTR_DIM, .u.dim = start}},
                        {"dtype", {.kind = TN_ATTR_DTYPE, .u.i = TN_DT_i32}}};
  return make(k, TN_OPC_iota, NULL, 0, a, 3);
}

static tn_value make_slice(cache *k, tn_value v, tn_dim start, tn_dim stop) {
  tn_named_attr a[3] = {{"axis", {.kind = TN_ATTR_INT, .u.i = 1}},
                        {"start", {.kind = TN_ATTR_DIM, .u.dim = start}},
                        {"stop", {.kind = TN_ATTR_DIM, .u.dim = stop}}};
  return make(k, TN_OPC_slice, &v, 1, a, 3);
}

/* ---- arguments that are made inside ------------------------------------------------------------ */
static tn_value pads_column(cache *k) {
  tn_dim dims[2] = {k->b, tn_ir_dim_const(k->m, 1)};
  return make_dims(k, TN_OPC_reshape, k->pads, dims, 2);
}

/* Where each new token stands in its sequence; padding stands at 0. */
static tn_value positions(cache *k) {
  tn_value v = make_iota(k, k->p, k->s);
  tn_dim dims[2] = {k->b, k->s};
  if (!k->pads) return make_dims(k, TN_OPC_broadcast, v, dims, 2);
  tn_value in[2] = {v, pads_column(k)};
  tn_value place = make(k, TN_OPC_sub, in, 2, NULL, 0);
  in[0] = place;
  in[1] = tn_rw_scalar(k->m, end_of(k), TN_DT_i32, 0, k->loc);
  return make(k, TN_OPC_max, in, 2, NULL, 0);
}

/* Ones, or zeros where a sequence has not begun. */
static tn_value seen_tokens(cache *k) {
  tn_dim dims[2] = {k->b, k->total};
  if (!k->pads)
    return make_dims(k, TN_OPC_broadcast, tn_rw_scalar(k->m, end_of(k), TN_DT_i32, 1, k->loc), dims, 2);
  tn_value in[2] = {make_iota(k, tn_ir_dim_const(k->m, 0), k->total), pads_column(k)};
  tn_named_attr a = {"cmp", {.kind = TN_ATTR_STR, .u.s = "ge"}};
  return make(k, TN_OPC_compare, in, 2, &a, 1);
}

static tn_value argument(cache *k, uint32_t i, tn_value ids) {
  tn_type_info t = tn_rw_type_info(k->m, k->info.args[i]);
  tn_dim dims[TN_MAX_RANK], one = tn_ir_dim_const(k->m, 1);
  tn_value v = 0;
  switch (k->role[i]) {
  case ROLE_IDS: v = ids; break;
  case ROLE_MASK: v = seen_tokens(k); break;
  case ROLE_POSITIONS: v = positions(k); break;
  case ROLE_PLACES: v = make_iota(k, k->p, k->s); break;
  case ROLE_LAST: v = make_iota(k, tn_dim_sub(k->m, k->total, one), 0); break;
  case ROLE_TOTAL: v = make_iota(k, k->total, 0); break;
  default: return 0;
  }
  v = v ? make_cast(k, v, t.dtype) : 0;
  if (!v || !swapped_dims(k, t.dims, t.rank, dims)) return 0;
  bool whole = tn_rw_type_info(k->m, v).rank == t.rank;
  return whole ? v : make_dims(k, TN_OPC_broadcast, v, dims, t.rank);
}

/* ---- the body ---------------------------------------------------------------------------------- */
static tn_value new_of(const cache *k, tn_value v) { return v < k->nmap && k->map[v] ? k->map[v] : v; }

/* The state after the write, as the concat's result looked. */
static tn_status copy_join(cache *k, const pair *p) {
  tn_value in[2] = {p->state, make_transpose(k, new_of(k, p->fresh), p->axis)};
  tn_named_attr pos = {"pos", {.kind = TN_ATTR_DIM, .u.dim = k->p}};
  tn_value all = make(k, TN_OPC_kv_update, in, 2, &pos, 1);
  tn_value seen = all ? make_slice(k, all, tn_ir_dim_const(k->m, 0), k->total) : 0;
  k->map[p->joined] = seen ? make_transpose(k, seen, p->axis) : 0;
  return k->map[p->joined] ? TN_OK : TN_INVALID;
}

#define MAX_ATTRS 32

static bool copy_attrs(cache *k, tn_op op, tn_named_attr *attrs, uint32_t *n) {
  const tn_op_spec *s = tn_op_spec_of(tn_ir_opcode(k->m, op));
  if (s->nattrs > MAX_ATTRS) return false;
  for (*n = 0; *n < s->nattrs; ++*n) {
    tn_named_attr *a = &attrs[*n];
    *a = (tn_named_attr){s->attrs[*n].name, tn_rw_attr(k->m, op, s->attrs[*n].name)};
    if (a->attr.kind == TN_ATTR_DIM && a->attr.u.dim && !(a->attr.u.dim = swapped(k, a->attr.u.dim)))
      return false;
    if (a->attr.kind != TN_ATTR_DIMS) continue;
    tn_dim *dims = tn_arena_copy(k->c->arena, a->attr.u.dims, (a->attr.count + 1) * sizeof *dims);
    if (!dims || !swapped_dims(k, a->attr.u.dims, a->attr.count, dims)) return false;
    a->attr.u.dims = dims;
  }
  return true;
}

static tn_status copy_op(cache *k, tn_op op) {
  tn_named_attr attrs[MAX_ATTRS];
  tn_type types[TN_MAX_RESULTS];
  uint32_t nattrs, nin = tn_ir_op_noperands(k->m, op), nout = tn_ir_op_nresults(k->m, op);
  for (uint32_t i = 0; i < k->pairs.count; i++)
    if (nout == 1 && k->pairs.items[i].joined == tn_ir_op_result(k->m, op, 0))
      return copy_join(k, &k->pairs.items[i]);
  tn_value *in = tn_arena_alloc(k->c->arena, (nin + 1) * sizeof *in);
  if (!in || nout > TN_MAX_RESULTS) return TN_OOM;
  if (!copy_attrs(k, op, attrs, &nattrs)) return TN_INVALID;
  for (uint32_t i = 0; i < nin; i++) in[i] = new_of(k, tn_ir_op_operand(k->m, op, i));
  for (uint32_t i = 0; i < nout; i++)
    if (!(types[i] = swapped_type(k, tn_rw_type(k->m, tn_ir_op_result(k->m, op, i))))) return TN_INVALID;
  tn_op_desc d = {
      tn_ir_opcode_name(tn_ir_opcode(k->m, op)), in, nin, nattrs, attrs, types, nout, tn_ir_op_loc(k->m, op)};
  tn_op copy = tn_ir_op_create(k->m, end_of(k), &d);
  if (!copy) return TN_INVALID;
  for (uint32_t i = 0; i < nout; i++) {
    tn_value from = tn_ir_op_result(k->m, op, i), to = tn_ir_op_result(k->m, copy, i);
    const char *name = tn_ir_value_name(k->m, from);
    k->map[from] = to;
    if (name) TN_TRY(tn_ir_value_set_name(k->m, to, name));
  }
  return TN_OK;
}

/* A table that is read at the tokens' positions is as long as a session may be. */
static tn_status note_limit(cache *k, tn_op op) {
  tn_affine index;
  int64_t n;
  if (!tn_rw_is(k->m, op, TN_OPC_gather) || tn_rw_int(k->m, op, "axis") != 0) return TN_OK;
  tn_dim rows = tn_rw_type_info(k->m, tn_ir_op_operand(k->m, op, 0)).dims[0];
  tn_value at = new_of(k, tn_ir_op_operand(k->m, op, 1));
  if (!tn_ir_dim_is_const(k->m, rows, &n) || !tn_affine_of(k->m, at, &index) || index.base != k->p)
    return TN_OK;
  return tn_ir_dim_constrain(k->m, k->cap, rows);
}

/* v for the last token only: [b, 1, n]. Goes down through what works on each token by itself. */
static tn_value last_token(cache *k, tn_value v, uint32_t depth) {
  tn_op op = tn_rw_def(k->m, v);
  tn_value in[3] = {0};
  uint32_t n = op ? tn_ir_op_noperands(k->m, op) : 0, nattrs, flags = op ? tn_rw_flags(k->m, op) : 0;
  tn_named_attr attrs[MAX_ATTRS];
  bool apart = n && n <= 3 && depth < 16 && tn_rw_type_info(k->m, tn_ir_op_operand(k->m, op, 0)).rank == 3;
  for (uint32_t i = 0; apart && i < n; i++) {
    in[i] = tn_ir_op_operand(k->m, op, i);
    apart = !i || !in[i] || tn_rw_type_info(k->m, in[i]).rank <= (tn_rw_is(k->m, op, TN_OPC_matmul) ? 2 : 1);
  }
  bool known = tn_rw_is(k->m, op, TN_OPC_layer_norm) || tn_rw_is(k->m, op, TN_OPC_rms_norm) ||
               (tn_rw_is(k->m, op, TN_OPC_matmul) && !tn_rw_int(k->m, op, "trans_a")) ||
               (flags & TN_F_ELEMENTWISE);
  if (apart && known && copy_attrs(k, op, attrs, &nattrs)) {
    in[0] = last_token(k, in[0], depth + 1);
    tn_op_desc d = {
        tn_ir_opcode_name(tn_ir_opcode(k->m, op)), in, n, nattrs, attrs, NULL, 0, tn_ir_op_loc(k->m, op)};
    tn_op made = in[0] ? tn_ir_op_create(k->m, end_of(k), &d) : 0;
    return made ? tn_ir_op_result(k->m, made, 0) : 0;
  }
  return make_slice(k, v, tn_dim_sub(k->m, k->s, tn_ir_dim_const(k->m, 1)), k->s);
}

static tn_status finish(cache *k, bool last) {
  static const char *const names[] = {"logits"};
  tn_value v = new_of(k, k->logits);
  if (last) {
    tn_type_info t = tn_rw_type_info(k->m, v);
    tn_dim dims[2] = {t.dims[0], t.dims[2]};
    v = last_token(k, v, 0);
    v = v ? make_dims(k, TN_OPC_reshape, v, dims, 2) : 0;
  }
  v = v ? make_cast(k, v, TN_DT_f32) : 0;
  tn_op_desc d = {"return", &v, 1, 0, NULL, NULL, 0, k->loc};
  if (!v || !tn_ir_op_create(k->m, end_of(k), &d)) return TN_INVALID;
  return tn_ir_func_result_names(k->m, k->to, names, 1);
}

static tn_status copy_body(cache *k, const char *name, bool last, bool ragged) {
  tn_dim dims[2] = {k->b, k->s};
  k->to = tn_ir_func_add(k->m, name);
  if (!k->to) return TN_INVALID;
  tn_value ids = tn_ir_func_arg_add(k->m, k->to, "ids", tn_ir_type_make(k->m, TN_DT_i32, 2, dims, NULL));
  k->pads =
      ragged ? tn_ir_func_arg_add(k->m, k->to, "pads", tn_ir_type_make(k->m, TN_DT_i32, 1, dims, NULL)) : 0;
  if (!ids || (ragged && !k->pads)) return TN_INVALID;
  memset(k->map, 0, k->nmap * sizeof *k->map);
  for (uint32_t i = 0; i < k->info.nargs; i++) {
    tn_value v = k->info.args[i];
    bool read = k->role[i] != ROLE_PAST && tn_rw_nuses(k->m, v);
    if (read && !(k->map[v] = argument(k, i, ids))) return TN_INVALID;
  }
  for (tn_op op = tn_ir_first_op(k->m, k->f, 0); op && op != k->ret; op = tn_ir_next_op(k->m, op)) {
    tn_value v = tn_ir_op_nresults(k->m, op) ? tn_ir_op_result(k->m, op, 0) : 0;
    bool passes = tn_rw_is(k->m, op, TN_OPC_concat) && tn_ir_op_noperands(k->m, op) == 1;
    bool past = false; /* a concat of one operand over a past: only the pair reads it */
    for (uint32_t i = 0; passes && i < k->pairs.count; i++)
      past |= same_value(k, k->pairs.items[i].past) == v;
    if (past) continue;
    TN_TRY(copy_op(k, op));
    TN_TRY(note_limit(k, op));
  }
  TN_TRY(finish(k, last));
  (void)tn_func_dce(k->m, k->to);
  return TN_OK;
}

/* ---- the pass ---------------------------------------------------------------------------------- */
static tn_status add_states(cache *k) {
  for (uint32_t i = 0; i < k->pairs.count; i++) {
    pair *p = &k->pairs.items[i];
    tn_type_info t = tn_rw_type_info(k->m, p->past);
    tn_dim dims[4] = {k->b, k->cap, swapped(k, t.dims[3 - p->axis]), swapped(k, t.dims[3])};
    tn_state_info info;
    char name[48];
    snprintf(name, sizeof name, "cache.%u", i);
    tn_state s = tn_ir_state_add(k->m, name, tn_ir_type_make(k->m, t.dtype, 4, dims, NULL));
    if (!s) return TN_INVALID;
    tn_ir_state_get(k->m, s, &info);
    p->state = info.value;
  }
  return TN_OK;
}

static tn_status set_meta(cache *k) {
  const char *p, *c;
  if (!is_symbol(k, k->p, &p) || !is_symbol(k, k->cap, &c)) return TN_INTERNAL;
  TN_TRY(tn_ir_meta_set(k->m, "dim.position", p));
  TN_TRY(tn_ir_meta_set(k->m, "dim.capacity", c));
  const char *most = tn_ir_meta_get(k->m, "max_positions");
  if (most) TN_TRY(tn_ir_dim_constrain(k->m, k->cap, tn_ir_dim_const(k->m, strtoll(most, NULL, 10))));
  return tn_ir_meta_set(k->m, "task", "text-generation");
}

static bool has(const cache *k, uint32_t role) {
  for (uint32_t i = 0; i < k->info.nargs; i++)
    if (k->role[i] == role) return true;
  return false;
}

static tn_status add_entries(cache *k) {
  TN_TRY(tn_ir_dim_constrain(k->m, k->total, k->cap));
  TN_TRY(add_states(k));
  TN_TRY(set_meta(k));
  TN_TRY(copy_body(k, "logits", false, false));
  TN_TRY(copy_body(k, "next", true, false));
  if (has(k, ROLE_MASK) && has(k, ROLE_POSITIONS)) TN_TRY(copy_body(k, "batch", true, true));
  tn_pass_fusion(k->c, "kv-cache", k->loc, NULL);
  return TN_OK;
}

static bool name_taken(tn_module *m, const char *name) {
  for (tn_func f = 1; f <= tn_ir_func_count(m); f++) {
    tn_func_info i;
    tn_ir_func_get(m, f, &i);
    if (!strcmp(i.name, name)) return true;
  }
  return false;
}

static tn_status run(cache *k) {
  tn_ir_func_get(k->m, k->f, &k->info);
  k->ret = tn_ir_last_op(k->m, k->f, 0);
  k->loc = tn_ir_op_loc(k->m, k->ret);
  k->role = tn_arena_alloc(k->c->arena, (k->info.nargs + 1) * sizeof *k->role);
  if (!k->role) return TN_OOM;
  if (!find_arguments(k) || !find_logits(k) || !find_sizes(k)) {
    if (k->why) tn_pass_fusion(k->c, "kv-cache", k->loc, k->why);
    return TN_OK;
  }
  k->nmap = 1;
  for (tn_op op = tn_ir_first_op(k->m, k->f, 0); op; op = tn_ir_next_op(k->m, op))
    for (uint32_t i = 0; i < tn_ir_op_nresults(k->m, op); i++)
      if (tn_ir_op_result(k->m, op, i) >= k->nmap) k->nmap = tn_ir_op_result(k->m, op, i) + 1;
  for (uint32_t i = 0; i < k->info.nargs; i++)
    if (k->info.args[i] >= k->nmap) k->nmap = k->info.args[i] + 1;
  k->map = tn_mem_alloc(k->nmap * sizeof *k->map);
  tn_status s = k->map ? add_entries(k) : TN_OOM;
  tn_mem_free(k->map);
  return s;
}

tn_status tn_pass_kv_cache(tn_pass_ctx *c, tn_func f) {
  (void)f;
  if (tn_ir_state_count(c->m) || name_taken(c->m, "next") || name_taken(c->m, "logits") ||
      name_taken(c->m, "batch"))
    return TN_OK;
  uint32_t n = tn_ir_func_count(c->m);
  for (tn_func g = 1; g <= n && !tn_ir_state_count(c->m); g++) {
    tn_attr private;
    if (tn_ir_func_attr(c->m, g, "private", &private)) continue;
    cache k = {.c = c, .m = c->m, .f = g};
    tn_status s = run(&k);
    tn_vec_fini(&k.pairs);
    tn_vec_fini(&k.swaps);
    TN_TRY(s);
  }
  return TN_OK;
}
