/* nodes.c - which value inside the model is the first to blame for a difference of the outputs.
 *
 * A value of the first side is settled when the second side has its equal: the value of the same op of the
 * same line where both come from the same page or file, else, between formats or levels, any value with the
 * same numbers, also transposed, or, of a GGUF file's queries and keys, in another order. A value that is not
 * settled is to blame only if a wrong output can be reached from it through values that are not settled
 * either; what exists on one side alone, because the other computes it in another way, also must not lead to
 * anything that is settled. The first that is to blame, in the order of computing, is what differs first. */
#include "tools/verify/verify.h"
#include <math.h>
#include <stdlib.h>

typedef struct signature {
  uint64_t count, odd; /* odd: no finite numbers, or marks of masked places */
  double norm, sum;
} signature;

typedef struct graph {
  tn_opened *o;
  tn_func func;
  tn_nodes nodes;
  signature *signs;
  int64_t *match; /* per node: of the other side, -1: none */
  bool *settled;  /* per node */
  bool *paired;   /* per node: the other side has the same op of the same line */
  uint8_t *good;  /* per value id: is settled */
  uint8_t *bad;   /* per value id: reaches a wrong output */
  uint8_t *used;  /* per value id: something settled is computed from it */
  uint32_t nvalues;
} graph;

/* ---- equal numbers ------------------------------------------------------------------------------------- */

static signature sign(const tn_tensor *t) {
  signature s = {.count = (uint64_t)tn_tensor_count(t)};
  for (uint64_t i = 0; i < s.count; i++) {
    double x = tn_tensor_at(t, (int64_t)i);
    bool odd = !(fabs(x) < 1e30);
    s.odd += odd;
    if (!odd) s.norm += x * x, s.sum += x;
  }
  s.norm = sqrt(s.norm);
  return s;
}

/* Whether two values can be equal within the tolerances, by the triangle inequality. */
static bool may_equal(const signature *a, const signature *b, double atol, double rtol) {
  double room = atol * sqrt((double)a->count) + rtol * b->norm + 1e-300;
  return a->count == b->count && a->odd == b->odd && fabs(a->norm - b->norm) <= room &&
         fabs(a->sum - b->sum) <= room * sqrt((double)a->count);
}

static tn_tensor flat(const tn_tensor *t) {
  tn_tensor f = {.data = t->data, .dtype = t->dtype, .rank = 1};
  f.shape[0] = tn_tensor_count(t);
  return f;
}

static int by_size(const void *x, const void *y) {
  double a = *(const double *)x, b = *(const double *)y;
  return (a > b) - (a < b);
}

static bool sorted(const tn_tensor *t, tn_tensor *out) {
  int64_t n = tn_tensor_count(t);
  double *x = malloc(((uint64_t)n + 1) * sizeof *x);
  if (!x) return false;
  for (int64_t i = 0; i < n; i++) x[i] = tn_tensor_at(t, i);
  qsort(x, (size_t)n, sizeof *x, by_size);
  *out = (tn_tensor){.data = x, .dtype = TN_DT_f64, .rank = 1, .shape = {n}};
  return true;
}

/* Sorted numbers of like distributions are close to each other: the tolerance is that of rounding, on the
 * scale of the middle half, which no marks of masked places (-1e9, -3.4e38) are part of. */
static bool equal_sorted(const tn_tensor *a, const tn_tensor *b, tn_comparison *c) {
  tn_tensor x = {0}, y = {0};
  bool equal = sorted(a, &x) && sorted(b, &y);
  if (equal) {
    const double *n = x.data;
    double spread = n[3 * x.shape[0] / 4] - n[x.shape[0] / 4];
    equal = tn_compare(&x, &y, isfinite(spread) ? 2e-5 * spread : 0, 2e-5, c) && c->ok;
  }
  free(x.data), free(y.data);
  return equal;
}

/* Whether b with its axes in the order `axes` has a's numbers, one by one. */
static bool equal_turned(const tn_tensor *a, const tn_tensor *b, const uint32_t *axes, double atol,
                         double rtol) {
  int64_t step[TN_MAX_RANK], at[TN_MAX_RANK] = {0}, from = 0;
  for (uint32_t k = 0; k < b->rank; k++) {
    step[k] = 1;
    for (uint32_t i = axes[k] + 1; i < b->rank; i++) step[k] *= b->shape[i];
  }
  for (int64_t i = 0, n = tn_tensor_count(a); i < n; i++) {
    double x = tn_tensor_at(a, i), y = tn_tensor_at(b, from);
    if (!(fabs(x - y) <= atol + rtol * fabs(y)) && x != y) return false;
    for (uint32_t k = b->rank; k-- > 0;) {
      from += step[k];
      if (++at[k] < b->shape[axes[k]]) break;
      from -= step[k] * b->shape[axes[k]];
      at[k] = 0;
    }
  }
  return true;
}

/* The next order of n axes, by the alphabet; false after the last. */
static bool next_order(uint32_t *axes, uint32_t n) {
  uint32_t i = n, k = n;
  while (i > 1 && axes[i - 2] > axes[i - 1]) i--;
  if (i < 2) return false;
  while (axes[k - 1] < axes[i - 2]) k--;
  uint32_t x = axes[i - 2];
  axes[i - 2] = axes[k - 1], axes[k - 1] = x;
  for (k = n; i < k; i++, k--) x = axes[i - 1], axes[i - 1] = axes[k - 1], axes[k - 1] = x;
  return true;
}

static bool is_transposed(const tn_tensor *a, const tn_tensor *b, double atol, double rtol) {
  uint32_t axes[TN_MAX_RANK];
  for (uint32_t k = 0; k < b->rank; k++) axes[k] = k;
  while (b->rank <= 5 && next_order(axes, b->rank))
    if (equal_turned(a, b, axes, atol, rtol)) return true;
  return false;
}

/* GGUF files have the rows of queries and keys of some families in another order. */
static bool may_be_shuffled(const tn_verify *v, const tn_node *n) {
  static const char *const names[] = {"attn_q", "attn_k", "q_proj", "k_proj",
                                      "q_norm", "k_norm", "qkv",    "query_key"};
  bool gguf = !strcmp(v->sides[0].family, "gguf") != !strcmp(v->sides[1].family, "gguf");
  for (size_t i = 0; gguf && n->weight && i < TN_COUNT(names); i++)
    if (strstr(n->weight, names[i])) return true;
  return gguf && !n->weight && strstr(n->maker, " rope");
}

/* A value of b with the numbers of a's node i, in the same order if possible; -1: none. */
static int64_t find_equal(const tn_verify *v, const graph *a, const graph *b, uint32_t i, tn_row *row) {
  const signature *s = &a->signs[i];
  const tn_node *n = &a->nodes.items[i];
  double rms = s->count ? s->norm / sqrt((double)s->count) : 0, atol = fmin(v->atol, 1e-3 * rms);
  bool shuffled = may_be_shuffled(v, n);
  tn_tensor x = flat(&n->value);
  if (s->count < 2) return -1;
  for (int order = 0; order < 2; order++)
    for (uint32_t k = 0; k < b->nodes.count; k++) {
      if (!may_equal(s, &b->signs[k], atol, v->rtol)) continue;
      const tn_tensor *other = &b->nodes.items[k].value;
      tn_tensor y = flat(other);
      bool equal = order ? is_transposed(&x, other, atol, v->rtol) ||
                               is_transposed(&y, &n->value, atol, v->rtol) ||
                               (shuffled && equal_sorted(&x, &y, &row->c))
                         : tn_compare(&x, &y, atol, v->rtol, &row->c) && row->c.ok;
      if (!equal) continue;
      row->state = order ? TN_ROW_ORDER : TN_ROW_OK;
      return k;
    }
  return -1;
}

/* ---- the graph ----------------------------------------------------------------------------------------- */

static tn_status make_graph(tn_verify *v, tn_side *x, graph *g) {
  tn_entry_info e;
  if (!x->o.module)
    return tn_fail(v->d, TN_INVALID, x->spec, NULL,
                   "values inside are compared of models only, not of libraries or stored tensors");
  x->o.api->entry(x->o.model, (uint32_t)x->entry, &e);
  *g = (graph){.o = &x->o, .func = tn_nodes_func(&x->o, x->s, e.name)};
  tn_call call = {x->s, e.name, x->in, x->out};
  tn_status s = tn_nodes_collect(&x->o, &call, &v->arena, &g->nodes);
  if (s != TN_OK) return tn_fail(v->d, s, x->spec, e.name, "the values inside cannot be reached");
  g->nvalues = 0;
  for (tn_op op = tn_ir_first_op(x->o.module, g->func, 0); op; op = tn_ir_next_op(x->o.module, op)) {
    for (uint32_t i = 0; i < tn_ir_op_nresults(x->o.module, op); i++)
      if (tn_ir_op_result(x->o.module, op, i) > g->nvalues) g->nvalues = tn_ir_op_result(x->o.module, op, i);
    for (uint32_t i = 0; i < tn_ir_op_noperands(x->o.module, op); i++)
      if (tn_ir_op_operand(x->o.module, op, i) > g->nvalues)
        g->nvalues = tn_ir_op_operand(x->o.module, op, i);
  }
  uint32_t n = g->nodes.count + 1;
  g->signs = tn_arena_alloc(&v->arena, n * sizeof *g->signs);
  g->match = tn_arena_alloc(&v->arena, n * sizeof *g->match);
  g->settled = tn_arena_alloc(&v->arena, n);
  g->paired = tn_arena_alloc(&v->arena, n);
  g->good = tn_arena_alloc(&v->arena, g->nvalues + 1);
  g->used = tn_arena_alloc(&v->arena, g->nvalues + 1);
  g->bad = tn_arena_alloc(&v->arena, g->nvalues + 1);
  if (v->arena.failed) return TN_OOM;
  for (uint32_t i = 0; i < g->nodes.count; i++) {
    g->signs[i] = sign(&g->nodes.items[i].value);
    g->match[i] = -1;
    g->settled[i] = g->nodes.items[i].given;
  }
  return TN_OK;
}

/* Marks what reaches a wrong output, and what reaches something settled, through values that are not settled.
 */
static void mark_back(graph *g, tn_op op) {
  tn_module *m = g->o->module;
  bool bad = false, used = false;
  for (uint32_t i = 0; i < tn_ir_op_nresults(m, op); i++) {
    tn_value r = tn_ir_op_result(m, op, i);
    bad |= g->bad[r];
    used |= g->good[r] || g->used[r];
  }
  for (uint32_t i = 0; i < tn_ir_op_noperands(m, op); i++) {
    tn_value x = tn_ir_op_operand(m, op, i);
    if (!x || g->good[x]) continue;
    g->bad[x] |= bad;
    g->used[x] |= used;
  }
}

static void blame(graph *g, const bool *output_ok, uint32_t noutputs) {
  tn_module *m = g->o->module;
  for (uint32_t i = 0; i < g->nodes.count; i++) g->good[g->nodes.items[i].id] = g->settled[i];
  tn_op last = tn_ir_last_op(m, g->func, 0);
  for (uint32_t i = 0; i < noutputs && i < tn_ir_op_noperands(m, last); i++)
    if (!output_ok[i]) g->bad[tn_ir_op_operand(m, last, i)] = 1;
  for (tn_op op = tn_ir_prev_op(m, last); op; op = tn_ir_prev_op(m, op)) mark_back(g, op);
}

/* Weights in another order are their reader's fault. What has no counterpart by name, and leads to something
 * equal, is right. */
static const tn_node *first_to_blame(const graph *g) {
  for (uint32_t i = 0; i < g->nodes.count; i++) {
    const tn_node *n = &g->nodes.items[i];
    if (!g->settled[i] && !n->plain && g->bad[n->id] && (g->paired[i] || !g->used[n->id])) return n;
  }
  return NULL;
}

/* ---- both sides ---------------------------------------------------------------------------------------- */

static tn_status match_node(tn_verify *v, graph *a, graph *b, uint32_t i, bool search) {
  const tn_node *n = &a->nodes.items[i];
  tn_row row = {.name = n->key, .weight = n->weight, .node = true};
  const tn_node *pair = tn_nodes_made_by(&a->nodes, n->maker) == tn_nodes_made_by(&b->nodes, n->maker)
                            ? tn_nodes_find(&b->nodes, n->key)
                            : NULL;
  if (pair && !tn_compare(&n->value, &pair->value, v->atol, v->rtol, &row.c)) pair = NULL;
  if (n->given) return TN_OK;
  a->paired[i] = pair != NULL;
  if (pair) b->paired[pair - b->nodes.items] = true;
  if (pair && row.c.ok) {
    a->match[i] = pair - b->nodes.items;
  } else if (search) {
    tn_comparison c = row.c;
    a->match[i] = find_equal(v, a, b, i, &row);
    if (a->match[i] < 0) row.c = c;
    if (a->match[i] >= 0) row.other = b->nodes.items[a->match[i]].key;
  }
  a->settled[i] = a->match[i] >= 0;
  if (a->settled[i]) b->settled[a->match[i]] = true;
  if (!a->settled[i]) row.state = TN_ROW_DIFFERS;
  if (!pair && !a->settled[i]) return TN_OK;
  v->common++;
  return tn_vec_push(&v->rows, row) ? TN_OK : TN_OOM;
}

/* What is left of the second side: its equal may be one that already has another. */
static void settle_rest(tn_verify *v, graph *b, const graph *a) {
  tn_row row;
  for (uint32_t i = 0; i < b->nodes.count; i++)
    if (!b->settled[i]) b->settled[i] = find_equal(v, b, a, i, &row) >= 0;
}

/* Rows that differ without consequence say so. */
static void absolve(tn_verify *v, const graph *g, uint32_t from) {
  for (uint32_t r = from; r < v->rows.count; r++) {
    tn_row *row = &v->rows.items[r];
    const tn_node *n = tn_nodes_find(&g->nodes, row->name);
    if (row->state == TN_ROW_DIFFERS && n && !g->bad[n->id]) row->state = TN_ROW_LOST;
  }
}

static void outputs_of_other(const tn_verify *v, const bool *output_ok, bool *other_ok) {
  int other[TN_VERIFY_TENSORS];
  tn_verify_outputs(&v->sides[0], &v->sides[1], other);
  for (uint32_t k = 0; k < v->sides[1].nout; k++) other_ok[k] = true;
  for (uint32_t i = 0; i < v->sides[0].nout; i++)
    if (other[i] >= 0) other_ok[other[i]] = output_ok[i];
}

static tn_status compare_graphs(tn_verify *v, graph *a, graph *b, const bool *output_ok) {
  const tn_side *x = &v->sides[0], *y = &v->sides[1];
  bool levels =
      x->pipeline != y->pipeline && (!x->pipeline || !y->pipeline || strcmp(x->pipeline, y->pipeline));
  bool search = levels || strcmp(x->family, y->family) || !strcmp(x->family, "onnx");
  uint32_t from = v->rows.count;
  bool other_ok[TN_VERIFY_TENSORS];
  for (uint32_t i = 0; i < a->nodes.count; i++) TN_TRY(match_node(v, a, b, i, search));
  if (search) settle_rest(v, b, a);
  v->inside += a->nodes.count;
  v->looked = true;
  outputs_of_other(v, output_ok, other_ok);
  blame(a, output_ok, v->sides[0].nout);
  blame(b, other_ok, v->sides[1].nout);
  absolve(v, a, from);
  const tn_node *p = first_to_blame(a), *q = first_to_blame(b);
  if (v->first || (!p && !q)) return TN_OK;
  v->first = p ? p->key : q->key;
  v->first_other = p && q && strcmp(p->key, q->key) ? q->key : NULL;
  v->first_weight = p && p->weight ? p->weight : q ? q->weight : NULL;
  return TN_OK;
}

tn_status tn_verify_nodes(tn_verify *v, const bool *output_ok) {
  graph g[2] = {0};
  tn_status s = TN_OK;
  for (int i = 0; i < 2 && s == TN_OK; i++) s = make_graph(v, &v->sides[i], &g[i]);
  if (s == TN_OK) s = compare_graphs(v, &g[0], &g[1], output_ok);
  tn_vec_fini(&g[0].nodes);
  tn_vec_fini(&g[1].nodes);
  return s;
}
