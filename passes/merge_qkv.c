/* merge_qkv.c - several matmuls of one left operand with weights [n, k] become one matmul with a weight [n1 +
 * n2 + ..., k] and a split: query, key and value; gate and up. So do the scales and biases that follow each
 * of them. No byte moves: the new weight is the list of the old ones' parts.
 *
 * A weight may be used in several functions. So groups are collected first over the whole module, under the
 * list of their weights, and a list is merged only if every use of each of its weights is in a group of
 * exactly that list. */
#include "passes/passes.h"
#include "passes/rw.h"

#define MAX_PARTS 8
#define MAX_STEPS 2

/* What follows every matmul of a group: a product with, or the addition of, a weight [n] of one element type.
 */
typedef struct step {
  uint32_t code;
  tn_op op[MAX_PARTS];
  tn_weight weight[MAX_PARTS];
} step;

typedef struct group {
  tn_op matmul[MAX_PARTS];
  tn_weight weight[MAX_PARTS];
  uint32_t n, nsteps;
  step steps[MAX_STEPS];
} group;

typedef struct merger {
  tn_pass_ctx *c;
  tn_module *m;
  TN_VEC(group) groups;
  tn_map made; /* list of weights -> merged weight */
} merger;

static tn_weight weight_of(tn_module *m, tn_value v) {
  tn_value_info i;
  tn_ir_value_get(m, v, &i);
  return i.kind == TN_VALUE_WEIGHT ? i.weight : 0;
}

static tn_weight_info weight_info(tn_module *m, tn_weight w) {
  tn_weight_info i;
  tn_ir_weight_get(m, w, &i);
  return i;
}

/* ---- candidates ------------------------------------------------------------------------------ */
/* All uses of weight w are right operands [n, k] of matmuls. */
static bool only_matmuls(tn_module *m, tn_value w) {
  for (uint32_t i = 0, n = tn_rw_nuses(m, w); i < n; i++) {
    uint32_t operand;
    tn_op use = tn_ir_value_use(m, w, i, &operand);
    if (!tn_rw_is(m, use, TN_OPC_matmul) || operand != 1 || !tn_rw_int(m, use, "trans_b")) return false;
  }
  return true;
}

static bool candidate(tn_module *m, tn_op op) {
  if (!tn_rw_is(m, op, TN_OPC_matmul) || !tn_rw_int(m, op, "trans_b") || tn_rw_int(m, op, "trans_a"))
    return false;
  tn_value rhs = tn_ir_op_operand(m, op, 1);
  tn_weight w = weight_of(m, rhs);
  tn_type_info t = tn_rw_type_info(m, rhs);
  int64_t n;
  return w && !weight_info(m, w).form && t.rank == 2 && !t.layout && tn_ir_dim_is_const(m, t.dims[0], &n) &&
         only_matmuls(m, rhs);
}

static bool same_rows(tn_module *m, tn_weight a, tn_weight b) {
  tn_type_info x, y;
  tn_ir_type_get(m, weight_info(m, a).type, &x);
  tn_ir_type_get(m, weight_info(m, b).type, &y);
  return x.dtype == y.dtype && x.rank == y.rank && x.dims[x.rank - 1] == y.dims[y.rank - 1];
}

/* The product with, or addition of, a weight [n] that follows op: the weight, maybe cast to the result's
 * type. */
static tn_weight find_step(tn_module *m, tn_op op, tn_op *next) {
  tn_value v = tn_ir_op_result(m, op, 0);
  uint32_t operand;
  if (tn_rw_nuses(m, v) != 1) return 0;
  *next = tn_ir_value_use(m, v, 0, &operand);
  if (!tn_rw_is(m, *next, TN_OPC_add) && !tn_rw_is(m, *next, TN_OPC_mul)) return 0;
  if (tn_rw_type(m, tn_ir_op_result(m, *next, 0)) != tn_rw_type(m, v)) return 0;
  tn_value b = tn_ir_op_operand(m, *next, 1 - operand);
  tn_op cast = tn_rw_def_as(m, b, TN_OPC_cast);
  tn_weight w = weight_of(m, cast ? tn_ir_op_operand(m, cast, 0) : b);
  tn_type_info t;
  if (!w || weight_info(m, w).form) return 0;
  tn_ir_type_get(m, weight_info(m, w).type, &t);
  tn_dim n = tn_rw_type_info(m, v).dims[tn_rw_type_info(m, v).rank - 1];
  return t.rank == 1 && t.dims[0] == n ? w : 0;
}

/* The next step of all parts; false: they do not go on alike. */
static bool common_step(tn_module *m, const group *g, step *s) {
  for (uint32_t i = 0; i < g->n; i++) {
    tn_op last = g->nsteps ? g->steps[g->nsteps - 1].op[i] : g->matmul[i];
    s->weight[i] = find_step(m, last, &s->op[i]);
    if (!s->weight[i]) return false;
    s->code = tn_ir_opcode(m, s->op[0]);
    tn_type_info a, b;
    tn_ir_type_get(m, weight_info(m, s->weight[0]).type, &a);
    tn_ir_type_get(m, weight_info(m, s->weight[i]).type, &b);
    if (tn_ir_opcode(m, s->op[i]) != s->code || a.dtype != b.dtype) return false;
  }
  return true;
}

/* The matmuls that share op's left operand, in program order; op is the first of them. */
static tn_status collect(merger *x, tn_op op, const tn_marks *next) {
  tn_module *m = x->m;
  group g = {0};
  tn_weight first = weight_of(m, tn_ir_op_operand(m, op, 1));
  for (tn_op at = op; at && g.n < MAX_PARTS; at = tn_marks_get(next, at)) {
    tn_weight w = weight_of(m, tn_ir_op_operand(m, at, 1));
    if (!same_rows(m, first, w)) continue;
    g.matmul[g.n] = at;
    g.weight[g.n++] = w;
  }
  if (g.n < 2) return TN_OK;
  while (g.nsteps < MAX_STEPS && common_step(m, &g, &g.steps[g.nsteps])) g.nsteps++;
  return tn_vec_push(&x->groups, g) ? TN_OK : TN_OOM;
}

/* Candidates of one function are chained by left operand: `last` by value, `next` by op. */
static tn_status collect_func(merger *x, tn_func f) {
  tn_marks last = {0}, next = {0}, inner = {0};
  bool ok = true;
  for (tn_op op = tn_ir_first_op(x->m, f, 0); op && ok; op = tn_ir_next_op(x->m, op)) {
    if (!candidate(x->m, op)) continue;
    tn_value lhs = tn_ir_op_operand(x->m, op, 0);
    tn_op before = tn_marks_get(&last, lhs);
    if (before) ok = tn_marks_set(&next, before, op) && tn_marks_set(&inner, op, 1);
    ok = ok && tn_marks_set(&last, lhs, op);
  }
  tn_status status = ok ? TN_OK : TN_OOM;
  for (tn_op op = tn_ir_first_op(x->m, f, 0); op && status == TN_OK; op = tn_ir_next_op(x->m, op))
    if (tn_marks_get(&next, op) && !tn_marks_get(&inner, op)) status = collect(x, op, &next);
  tn_marks_fini(&last);
  tn_marks_fini(&next);
  tn_marks_fini(&inner);
  return status;
}

/* ---- agreement across functions -------------------------------------------------------------- */
static bool same_list(const group *a, const group *b) {
  return a->n == b->n && !memcmp(a->weight, b->weight, a->n * sizeof *a->weight);
}

/* Uses of each weight of group g that lie in groups of the same list must be all its uses. `by_weight` chains
 * the groups by their first weight. */
static bool covered(merger *x, const group *g, const uint32_t *chain, uint32_t first) {
  uint32_t groups = 0;
  for (uint32_t i = first; i; i = chain[i - 1]) groups += same_list(&x->groups.items[i - 1], g);
  for (uint32_t i = 0; i < g->n; i++)
    if (tn_rw_nuses(x->m, weight_info(x->m, g->weight[i]).value) != groups) return false;
  return true;
}

/* ---- rewriting ------------------------------------------------------------------------------- */
/* One weight of all rows: its parts are the others' in order. */
static tn_weight merged_weight(merger *x, const tn_weight *list, uint32_t n) {
  tn_str key = {(const char *)list, n * sizeof *list};
  uint64_t known;
  if (tn_map_get(&x->made, key, &known)) return (tn_weight)known;
  tn_module *m = x->m;
  tn_buf name = {0};
  TN_VEC(tn_part) parts = {0};
  tn_type_info t;
  tn_ir_type_get(m, weight_info(m, list[0]).type, &t);
  tn_dim dims[2] = {tn_ir_dim_const(m, 0), t.rank == 2 ? t.dims[1] : 0};
  bool ok = true;
  for (uint32_t i = 0; i < n; i++) {
    tn_weight_info w = weight_info(m, list[i]);
    tn_type_info u;
    tn_ir_type_get(m, w.type, &u);
    dims[0] = tn_dim_add(m, dims[0], u.dims[0]);
    tn_buf_printf(&name, "%s%s", i ? "+" : "", w.name);
    for (uint32_t p = 0; p < w.nparts; p++) ok = ok && tn_vec_push(&parts, w.parts[p]);
  }
  tn_type type = tn_rw_type_of(m, t.dtype, t.rank, dims);
  tn_weight made = ok && !name.failed && type
                       ? tn_ir_weight_add(m, tn_buf_cstr(&name), type, parts.items, parts.count)
                       : 0;
  if (made && tn_map_put(&x->made, key, made, NULL) != TN_OK) made = 0;
  tn_buf_fini(&name);
  tn_vec_fini(&parts);
  return made;
}

static tn_value merged_step(merger *x, const group *g, const step *st, tn_point at, tn_value v, tn_loc loc) {
  tn_weight w = merged_weight(x, st->weight, g->n);
  if (!w) return 0;
  tn_value b = weight_info(x->m, w).value;
  tn_dtype want = tn_rw_type_info(x->m, v).dtype;
  if (tn_rw_type_info(x->m, b).dtype != want) {
    tn_named_attr to = {"to", {.kind = TN_ATTR_DTYPE, .u.i = want}};
    b = tn_rw_build(x->m, at, TN_OPC_cast, &b, 1, &to, 1, loc);
  }
  tn_value operands[2] = {v, b};
  return b ? tn_rw_build(x->m, at, st->code, operands, 2, NULL, 0, loc) : 0;
}

static tn_op build_split(merger *x, const group *g, tn_point at, tn_value v, tn_loc loc) {
  tn_dim sizes[MAX_PARTS];
  for (uint32_t i = 0; i < g->n; i++) {
    tn_type_info t;
    tn_ir_type_get(x->m, weight_info(x->m, g->weight[i]).type, &t);
    sizes[i] = t.dims[0];
  }
  tn_named_attr attrs[2] = {
      {"axis", {.kind = TN_ATTR_INT, .u.i = (int64_t)tn_rw_type_info(x->m, v).rank - 1}},
      {"sizes", {.kind = TN_ATTR_DIMS, .count = g->n, .u.dims = sizes}}};
  tn_op_desc d = {"split", &v, 1, 2, attrs, NULL, g->n, loc};
  return tn_ir_op_create(x->m, at, &d);
}

static tn_loc group_loc(merger *x, const group *g) {
  tn_loc loc = 0;
  for (uint32_t i = 0; i < g->n; i++) {
    loc = tn_rw_fuse_locs(x->m, "merge-qkv", loc, tn_ir_op_loc(x->m, g->matmul[i]));
    for (uint32_t j = 0; j < g->nsteps; j++)
      loc = tn_rw_fuse_locs(x->m, "merge-qkv", loc, tn_ir_op_loc(x->m, g->steps[j].op[i]));
  }
  return loc;
}

static tn_status replace_part(merger *x, const group *g, uint32_t i, tn_value part) {
  tn_op last = g->nsteps ? g->steps[g->nsteps - 1].op[i] : g->matmul[i];
  tn_value old = tn_ir_op_result(x->m, last, 0);
  const char *name = tn_ir_value_name(x->m, old);
  if (name) TN_TRY(tn_ir_value_set_name(x->m, part, name));
  TN_TRY(tn_ir_value_replace(x->m, old, part));
  for (uint32_t j = g->nsteps; j-- > 0;) TN_TRY(tn_ir_op_erase(x->m, g->steps[j].op[i]));
  return tn_ir_op_erase(x->m, g->matmul[i]);
}

/* Everything goes to the place of the first matmul: the left operand is there, and weights are everywhere. */
static tn_status merge(merger *x, const group *g) {
  tn_point at = tn_rw_before(g->matmul[0]);
  tn_loc loc = group_loc(x, g);
  tn_weight w = merged_weight(x, g->weight, g->n);
  if (!w || !loc) return TN_OOM;
  /* Read now: the left operand may itself be a part of a group merged before. */
  tn_value operands[2] = {tn_ir_op_operand(x->m, g->matmul[0], 0), weight_info(x->m, w).value};
  tn_named_attr trans = {"trans_b", {.kind = TN_ATTR_BOOL, .u.i = 1}};
  tn_value v = tn_rw_build(x->m, at, TN_OPC_matmul, operands, 2, &trans, 1, loc);
  for (uint32_t j = 0; v && j < g->nsteps; j++) v = merged_step(x, g, &g->steps[j], at, v, loc);
  tn_op split = v ? build_split(x, g, at, v, loc) : 0;
  if (!split) return TN_INTERNAL;
  for (uint32_t i = 0; i < g->n; i++) TN_TRY(replace_part(x, g, i, tn_ir_op_result(x->m, split, i)));
  tn_pass_fusion(x->c, "merge-qkv", loc, NULL);
  return TN_OK;
}

/* Steps that all groups of a list of weights take with the same weights of their own: others stay apart. */
static uint32_t steps_agreed(merger *x, const group *g, const uint32_t *chain, uint32_t first) {
  uint32_t n = g->nsteps;
  for (uint32_t i = first; i; i = chain[i - 1]) {
    const group *o = &x->groups.items[i - 1];
    if (!same_list(o, g)) continue;
    uint32_t same = 0;
    while (same < n && same < o->nsteps && o->steps[same].code == g->steps[same].code &&
           !memcmp(o->steps[same].weight, g->steps[same].weight, g->n * sizeof *g->steps->weight))
      same++;
    n = same;
  }
  return n;
}

static tn_status merge_all(merger *x) {
  uint32_t n = x->groups.count;
  tn_marks heads = {0}; /* by first weight: 1 + the last group that has it */
  uint32_t *chain = tn_mem_alloc((n + 1) * sizeof *chain);
  bool *ok = tn_mem_alloc(n + 1);
  tn_status status = chain && ok ? TN_OK : TN_OOM;
  for (uint32_t i = 0; i < n && status == TN_OK; i++) {
    chain[i] = tn_marks_get(&heads, x->groups.items[i].weight[0]);
    if (!tn_marks_set(&heads, x->groups.items[i].weight[0], i + 1)) status = TN_OOM;
  }
  for (uint32_t i = 0; i < n && status == TN_OK; i++) { /* decide first: merging changes the counts of uses */
    group *g = &x->groups.items[i];
    uint32_t first = tn_marks_get(&heads, g->weight[0]);
    ok[i] = covered(x, g, chain, first);
    if (!ok[i])
      tn_pass_fusion(x->c, "merge-qkv", tn_ir_op_loc(x->m, g->matmul[0]),
                     "a weight is also used outside of this group");
    else
      g->nsteps = steps_agreed(x, g, chain, first);
  }
  for (uint32_t i = 0; i < n && status == TN_OK; i++)
    if (ok[i]) status = merge(x, &x->groups.items[i]);
  tn_marks_fini(&heads);
  tn_mem_free(chain);
  tn_mem_free(ok);
  return status;
}

tn_status tn_pass_merge_qkv(tn_pass_ctx *c, tn_func f) {
  (void)f;
  merger x = {.c = c, .m = c->m};
  tn_status status = TN_OK;
  tn_map_init(&x.made);
  for (tn_func g = 1; status == TN_OK && g <= tn_ir_func_count(c->m); g++) status = collect_func(&x, g);
  if (status == TN_OK) status = merge_all(&x);
  tn_vec_fini(&x.groups);
  tn_map_fini(&x.made);
  return status;
}
