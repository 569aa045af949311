/* ml_tree.c - ensembles of decision trees: all trees of all rows go down at once. A node is a number, its
 * feature, threshold and children are tables, a level is a handful of gathers; leaves lead to themselves, so
 * a fixed number of levels brings every tree to a leaf. */
#include "frontend/onnx/ops/ml.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LEQ, LT, GTE, GT, EQ, NEQ, MEMBER, LEAF }; /* as in TreeEnsemble's nodes_modes */
enum { MAX_DEPTH = 400, MAX_TABLE = 1 << 26 };    /* levels; numbers of a table of leaves */

typedef struct node {
  int64_t feature, yes, no;
  double value;
  uint8_t mode, missing; /* missing: NaN goes to yes */
} node;

typedef struct forest {
  tn_ox *x;
  tn_ox_node *n;
  TN_VEC(node) nodes;
  TN_VEC(int64_t) roots;
  double *weights; /* [nodes, targets], of leaves; `empty` where a leaf says nothing */
  int64_t targets;
  uint32_t modes; /* bits: which there are */
  bool missing;
} forest;

static void fini(forest *f) {
  tn_vec_fini(&f->nodes);
  tn_vec_fini(&f->roots);
  tn_mem_free(f->weights);
}

static bool bad(forest *f, const char *what) {
  tn_ox_fail(f->x, f->n, "the trees are not well formed: %s", what);
  return false;
}

/* ---- depth -------------------------------------------------------------------------------------------- */
/* One level down: the children of `from`, each once. */
static uint32_t below(const forest *f, const int64_t *from, uint32_t n, int64_t *to, uint32_t *seen,
                      uint32_t level) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < n; i++) {
    const node *k = &f->nodes.items[from[i]];
    const int64_t children[] = {k->yes, k->no};
    for (int c = 0; c < 2 && k->mode != LEAF; c++)
      if (seen[children[c]] != level) {
        seen[children[c]] = level;
        to[count++] = children[c];
      }
  }
  return count;
}

/* Levels until all trees are at leaves; -1: more than MAX_DEPTH, which a circle has, or no memory. */
static int64_t depth(const forest *f) {
  uint32_t n = f->nodes.count, at = f->roots.count, level = 0;
  int64_t *lists[2] = {tn_mem_alloc((n + 1) * sizeof **lists), tn_mem_alloc((n + 1) * sizeof **lists)};
  uint32_t *seen = tn_mem_alloc((n + 1) * sizeof *seen);
  bool good = lists[0] && lists[1] && seen && at <= n;
  if (good) memset(seen, 0, n * sizeof *seen);
  if (good) memcpy(lists[0], f->roots.items, at * sizeof **lists);
  while (good && level <= MAX_DEPTH &&
         (at = below(f, lists[level % 2], at, lists[(level + 1) % 2], seen, level + 1)))
    level++;
  tn_mem_free(lists[0]);
  tn_mem_free(lists[1]);
  tn_mem_free(seen);
  return good && level <= MAX_DEPTH ? (int64_t)level : -1;
}

static bool children_exist(const forest *f) {
  int64_t n = f->nodes.count;
  for (uint32_t i = 0; i < f->nodes.count; i++) {
    const node *k = &f->nodes.items[i];
    if (k->yes < 0 || k->yes >= n || k->no < 0 || k->no >= n) return false;
  }
  return true;
}

/* ---- going down --------------------------------------------------------------------------------------- */
static tn_value int_table(forest *f, size_t offset) {
  uint32_t n = f->nodes.count;
  int64_t *v = tn_mem_alloc(n * sizeof *v);
  for (uint32_t i = 0; v && i < n; i++) memcpy(&v[i], (const char *)&f->nodes.items[i] + offset, sizeof *v);
  tn_value made = v ? tn_ox_ints_1d(f->x, v, n) : 0;
  tn_mem_free(v);
  return made;
}
static tn_value double_table(forest *f, tn_dtype t) {
  uint32_t n = f->nodes.count;
  double *v = tn_mem_alloc(n * sizeof *v);
  for (uint32_t i = 0; v && i < n; i++) v[i] = f->nodes.items[i].value;
  tn_value made = v ? tn_ox_floats_1d(f->x, t, v, n) : 0;
  tn_mem_free(v);
  return made;
}
static tn_value byte_table(forest *f, size_t offset) {
  uint32_t n = f->nodes.count;
  int64_t *v = tn_mem_alloc(n * sizeof *v);
  for (uint32_t i = 0; v && i < n; i++) v[i] = ((const uint8_t *)&f->nodes.items[i])[offset];
  tn_value made = v ? tn_ox_ints_1d(f->x, v, n) : 0;
  tn_mem_free(v);
  return made;
}

/* Does each tree's node say yes to v? */
static tn_value answer(forest *f, tn_value v, tn_value at, tn_value values, tn_value modes,
                       tn_value missing) {
  static const char *const compare[] = {"le", "lt", "ge", "gt", "eq", "ne"};
  tn_ox *x = f->x;
  tn_value limit = tn_ox_gather(x, values, at, 0), yes = 0;
  tn_value mode = modes ? tn_ox_gather(x, modes, at, 0) : 0;
  for (uint32_t m = 0; m < TN_COUNT(compare); m++) {
    if (!(f->modes & 1u << m)) continue;
    tn_value one = tn_ox_compare(x, compare[m], v, limit);
    tn_value is = yes ? tn_ox_compare(x, "eq", mode, tn_ox_scalar_int(x, TN_DT_i64, m)) : 0;
    yes = yes ? tn_ox_select(x, is, one, yes) : one;
  }
  if (!missing || !yes) return yes;
  tn_value tracks =
      tn_ox_compare(x, "ne", tn_ox_gather(x, missing, at, 0), tn_ox_scalar_int(x, TN_DT_i64, 0));
  return tn_ox_binary(x, "or", yes, tn_ox_binary(x, "and", tracks, tn_ox_compare(x, "ne", v, v)));
}

/* The leaf of every row and tree: i64 [rows, trees]. */
static tn_value leaves(forest *f, tn_value features) {
  tn_ox *x = f->x;
  bool whole = children_exist(f);
  int64_t levels = whole ? depth(f) : -1;
  if (levels < 0) {
    bad(f, whole ? "more than 400 levels, or a circle" : "a node leads to one that is not there");
    return 0;
  }
  tn_dim rows = tn_ox_dim(x, features, 0), width = tn_ox_dim(x, features, 1),
         all = tn_ox_dmul(x, rows, width);
  tn_dim shape[2] = {rows, tn_ox_d(x, f->roots.count)}, column[2] = {rows, tn_ox_d(x, 1)};
  tn_value flat = tn_ox_reshape(x, features, &all, 1);
  tn_value row = tn_ox_binary(x, "mul", tn_ox_iota(x, TN_DT_i64, column, 2, 0), tn_ox_dim_value(x, width));
  tn_value at = tn_ox_broadcast(x, tn_ox_ints_1d(x, f->roots.items, f->roots.count), shape, 2);
  if (!levels) return at;
  bool several = f->modes & (f->modes - 1);
  tn_value feature = int_table(f, offsetof(node, feature)), yes = int_table(f, offsetof(node, yes)),
           no = int_table(f, offsetof(node, no)), values = double_table(f, tn_ox_dtype(x, features)),
           modes = several ? byte_table(f, offsetof(node, mode)) : 0,
           missing = f->missing ? byte_table(f, offsetof(node, missing)) : 0;
  for (int64_t i = 0; i < levels && !tn_ox_failed(x); i++) {
    tn_value v = tn_ox_gather(x, flat, tn_ox_binary(x, "add", row, tn_ox_gather(x, feature, at, 0)), 0);
    tn_value down = answer(f, v, at, values, modes, missing);
    at = tn_ox_select(x, down, tn_ox_gather(x, yes, at, 0), tn_ox_gather(x, no, at, 0));
  }
  return at;
}

/* What the trees say together: [rows, targets] in f32. `how`: SUM, AVERAGE, MIN or MAX. */
static tn_value together(forest *f, tn_value features, const char *how) {
  tn_ox *x = f->x;
  tn_value at = leaves(f, features);
  tn_dtype t = tn_ox_dtype(x, features);
  tn_value table = tn_ox_table(x, t, f->weights, f->nodes.count, f->targets);
  tn_value v = tn_ox_gather(x, table, at, 0);
  const int64_t trees[] = {1};
  const char *op = !strcmp(how, "MIN") ? "reduce_min" : !strcmp(how, "MAX") ? "reduce_max" : "reduce_sum";
  v = tn_ox_reduce(x, op, v, trees, 1, false);
  if (!strcmp(how, "AVERAGE")) v = tn_ox_number_like(x, v, "div", f->roots.count);
  return v;
}

/* ---- reading the old form: lists of nodes with the number of their tree ------------------------------- */
typedef struct key {
  int64_t tree, id;
  uint32_t at;
} key;
static int by_key(const void *a, const void *b) {
  const key *x = a, *y = b;
  return x->tree != y->tree ? (x->tree < y->tree ? -1 : 1) : (x->id > y->id) - (x->id < y->id);
}
static int64_t find(const key *keys, uint32_t n, int64_t tree, int64_t id) {
  key k = {tree, id, 0};
  const key *hit = bsearch(&k, keys, n, sizeof k, by_key);
  return hit ? (int64_t)hit->at : -1;
}

static int mode_of(const char *name) {
  static const char *const names[] = {"BRANCH_LEQ", "BRANCH_LT",  "BRANCH_GTE", "BRANCH_GT",
                                      "BRANCH_EQ",  "BRANCH_NEQ", "",           "LEAF"};
  for (size_t i = 0; i < TN_COUNT(names); i++)
    if (!strcmp(names[i], name)) return (int)i;
  return -1;
}

typedef struct lists {
  const int64_t *trees, *ids, *features, *yes, *no, *missing;
  const char *const *modes;
  double *values;
  uint32_t n;
} lists;

static bool read_lists(forest *f, lists *l) {
  uint32_t counts[7], modes;
  l->trees = tn_ox_ints(f->n, "nodes_treeids", &l->n);
  l->ids = tn_ox_ints(f->n, "nodes_nodeids", &counts[0]);
  l->features = tn_ox_ints(f->n, "nodes_featureids", &counts[1]);
  l->yes = tn_ox_ints(f->n, "nodes_truenodeids", &counts[2]);
  l->no = tn_ox_ints(f->n, "nodes_falsenodeids", &counts[3]);
  l->missing = tn_ox_ints(f->n, "nodes_missing_value_tracks_true", &counts[4]);
  l->values = tn_ox_numbers(f->x, f->n, "nodes_values", &counts[5]);
  l->modes = tn_ox_strs(f->n, "nodes_modes", &modes);
  if (!counts[4]) l->missing = NULL;
  for (int i = 0; i < 6; i++)
    if (counts[i] != l->n && (i != 4 || counts[i])) return bad(f, "lists of nodes differ in length");
  return (modes == l->n && l->n) || bad(f, "lists of nodes differ in length");
}

static bool put_nodes(forest *f, const lists *l, const key *keys) {
  for (uint32_t i = 0; i < l->n; i++) {
    int mode = mode_of(l->modes[i]);
    if (mode < 0) return bad(f, l->modes[i]);
    node k = {l->features[i], i, i, l->values[i], (uint8_t)mode, l->missing && l->missing[i]};
    if (mode != LEAF) {
      k.yes = find(keys, l->n, l->trees[i], l->yes[i]);
      k.no = find(keys, l->n, l->trees[i], l->no[i]);
      f->modes |= 1u << mode;
      f->missing |= k.missing;
    } else
      k.feature = 0;
    if (!tn_vec_push(&f->nodes, k)) return bad(f, "no memory");
  }
  for (uint32_t i = 0, least; i < l->n;) { /* a tree's root is the node that comes first */
    int64_t tree = keys[i].tree;
    for (least = keys[i].at; i < l->n && keys[i].tree == tree; i++)
      least = keys[i].at < least ? keys[i].at : least;
    if (!tn_vec_push(&f->roots, (int64_t)least)) return bad(f, "no memory");
  }
  return true;
}

/* `prefix`_nodeids, _treeids, _ids and _weights: what leaves say about which target. */
static bool put_weights(forest *f, const key *keys, uint32_t nkeys, const char *prefix, double empty) {
  char name[4][48];
  static const char *const suffix[] = {"nodeids", "treeids", "ids", "weights"};
  uint32_t n, counts[3];
  for (int i = 0; i < 4; i++) snprintf(name[i], sizeof name[i], "%s_%s", prefix, suffix[i]);
  const int64_t *ids = tn_ox_ints(f->n, name[0], &n), *trees = tn_ox_ints(f->n, name[1], &counts[0]),
                *targets = tn_ox_ints(f->n, name[2], &counts[1]);
  double *w = tn_ox_numbers(f->x, f->n, name[3], &counts[2]);
  uint64_t all = 0;
  bool good = counts[0] == n && counts[1] == n && counts[2] == n && f->targets > 0;
  good = good && tn_mul_u64(f->nodes.count, (uint64_t)f->targets, &all) && all < MAX_TABLE;
  if (good) f->weights = tn_mem_alloc((all + 1) * sizeof *f->weights);
  good = good && f->weights;
  for (uint64_t i = 0; good && i < all; i++) f->weights[i] = empty;
  for (uint32_t i = 0; good && i < n; i++) {
    int64_t at = find(keys, nkeys, trees[i], ids[i]);
    good = at >= 0 && targets[i] >= 0 && targets[i] < f->targets;
    double *to = good ? &f->weights[at * f->targets + targets[i]] : NULL;
    if (good) *to = isinf(*to) ? w[i] : *to + w[i];
  }
  tn_mem_free(w);
  return good || bad(f, "weights do not fit the nodes");
}

static bool read_forest(forest *f, const char *prefix, double empty) {
  lists l = {0};
  bool good = read_lists(f, &l);
  key *keys = good ? tn_mem_alloc(l.n * sizeof *keys) : NULL;
  for (uint32_t i = 0; keys && i < l.n; i++) keys[i] = (key){l.trees[i], l.ids[i], i};
  if (keys) qsort(keys, l.n, sizeof *keys, by_key);
  good = good && keys && put_nodes(f, &l, keys) && put_weights(f, keys, l.n, prefix, empty);
  tn_mem_free(keys);
  tn_mem_free(l.values);
  return good;
}

static tn_value add_base(forest *f, tn_value v) {
  uint32_t count;
  double *base = tn_ox_numbers(f->x, f->n, "base_values", &count);
  if (base) v = tn_ox_binary(f->x, "add", v, tn_ox_floats_1d(f->x, tn_ox_dtype(f->x, v), base, count));
  tn_mem_free(base);
  return v;
}

static double empty_of(const char *how) {
  return !strcmp(how, "MIN") ? INFINITY : !strcmp(how, "MAX") ? -INFINITY : 0;
}

tn_status tn_ox_lower_tree_regressor(tn_ox *x, tn_ox_node *n) {
  const char *how = tn_ox_str(n, "aggregate_function", "SUM");
  forest f = {.x = x, .n = n, .targets = tn_ox_int(n, "n_targets", 1)};
  tn_value v = 0, features = tn_ox_features(x, n, 0);
  if (features && read_forest(&f, "target", empty_of(how)))
    v = tn_ox_cast(x, add_base(&f, together(&f, features, how)), TN_DT_f32);
  fini(&f);
  return tn_ox_out(x, n, 0, v ? tn_ox_post(x, n, v) : 0);
}

/* ---- classes ------------------------------------------------------------------------------------------ */
/* Where all weights are of one of two classes, its score decides: above 0.5 if no weight is negative (then
 * the scores add up to 1), else above 0. As in ONNX Runtime the other class has a score of its own only if
 * the one is numbered 0. */
static tn_value binary_scores(forest *f, tn_value both, int64_t one, bool positive, tn_value *which) {
  tn_ox *x = f->x;
  const char *how = tn_ox_str(f->n, "post_transform", "NONE");
  tn_value v = tn_ox_slice(x, both, 1, tn_ox_d(x, one), tn_ox_d(x, one + 1), 1);
  if (!one) v = add_base(f, v);
  tn_value wins = tn_ox_compare(x, "gt", v, tn_ox_scalar_like(x, v, positive ? 0.5 : 0));
  *which = tn_ox_squeeze(x, tn_ox_cast(x, wins, TN_DT_i64), 1);
  if (one) return tn_ox_post(x, f->n, both);
  if (!strcmp(how, "PROBIT")) return tn_ox_post(x, f->n, v);
  if (positive) return tn_ox_two_columns(x, tn_ox_binary(x, "sub", tn_ox_scalar_like(x, v, 1), v), v);
  v = tn_ox_two_columns(x, tn_ox_unary(x, "neg", v), v);
  return !strcmp(how, "LOGISTIC") ? tn_ox_post(x, f->n, v) : v;
}

tn_status tn_ox_lower_tree_classifier(tn_ox *x, tn_ox_node *n) {
  uint32_t count, classes, ids;
  const int64_t *labels = tn_ox_ints(n, "classlabels_int64s", &classes),
                *of = tn_ox_ints(n, "class_ids", &ids);
  forest f = {.x = x, .n = n, .targets = classes};
  tn_value features = tn_ox_features(x, n, 0), v, which;
  if (!labels)
    return tn_ox_refuse(x, n, "map the strings to numbers before the model", "classes that are strings");
  bool one = classes == 2 && ids, positive = true;
  for (uint32_t i = 0; i < ids; i++) one &= of[i] == of[0];
  double *w = tn_ox_numbers(x, n, "class_weights", &count);
  for (uint32_t i = 0; i < count; i++) positive &= w[i] >= 0;
  tn_mem_free(w);
  if (!features || !read_forest(&f, "class", 0)) {
    fini(&f);
    return tn_ox_out(x, n, 0, 0);
  }
  v = together(&f, features, "SUM");
  double *base = tn_ox_numbers(x, n, "base_values", &count);
  tn_mem_free(base);
  if (one) {
    if (count > 1 || (count && of[0]))
      tn_ox_refuse(x, n, NULL, "%u base values for scores of one class", count);
    v = binary_scores(&f, v, of[0], positive, &which);
  } else {
    v = add_base(&f, v);
    which = v ? tn_ox_make(x, "argmax", &v, 1, TN_OX_ATTRS(TN_OX_INT("axis", -1))) : 0;
    v = tn_ox_post(x, n, v);
  }
  fini(&f);
  TN_TRY(tn_ox_out(x, n, 0, tn_ox_labels(x, n, "classlabels", which)));
  return tn_ox_wants(n, 1) ? tn_ox_out(x, n, 1, tn_ox_cast(x, v, TN_DT_f32)) : TN_OK;
}

/* ---- TreeEnsemble (opset 5): branches and leaves apart ------------------------------------------------ */
/* A set becomes a chain of nodes, each asking for one member. */
static bool put_sets(forest *f, uint32_t branches, const double *members, uint32_t count) {
  uint32_t at = 0;
  for (uint32_t i = 0; i < branches; i++) {
    if (f->nodes.items[i].mode != MEMBER) continue;
    int64_t here = i, no = f->nodes.items[i].no;
    f->modes |= 1u << EQ;
    bool any = false;
    for (; at < count && !isnan(members[at]); at++) {
      if (any) {
        node more = f->nodes.items[here];
        f->nodes.items[here].no = f->nodes.count;
        here = f->nodes.count;
        if (!tn_vec_push(&f->nodes, more)) return bad(f, "no memory");
      }
      any = true;
      node *k = &f->nodes.items[here];
      *k = (node){k->feature, k->yes, no, members[at], EQ, k->missing};
    }
    at++;
    if (any) continue;
    f->nodes.items[i].mode = EQ;
    f->nodes.items[i].value = NAN; /* an empty set */
  }
  return true;
}

static double *tensor_numbers(forest *f, const char *name, uint32_t *count) {
  tn_value v = tn_ox_tensor(f->x, f->n, name);
  int64_t n;
  *count = 0;
  if (!v || tn_ox_rank(f->x, v) != 1 || !tn_ox_dconst(f->x, tn_ox_dim(f->x, v, 0), &n) || n < 1) return NULL;
  double *out = tn_mem_alloc((uint64_t)n * sizeof *out);
  if (out && tn_ox_known_floats(f->x, v, out, (uint32_t)n, count)) return out;
  tn_mem_free(out);
  return NULL;
}

static bool put_branches(forest *f, uint32_t leaf_count) {
  static const char *const names[] = {"nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids",
                                      "nodes_trueleafs", "nodes_falseleafs"};
  const int64_t *l[5], *missing;
  uint32_t n, count, nsplits, nmodes, nmissing;
  double *splits = tensor_numbers(f, "nodes_splits", &nsplits),
         *modes = tensor_numbers(f, "nodes_modes", &nmodes);
  bool good = splits && modes && nmodes == nsplits;
  n = nsplits;
  for (int i = 0; i < 5; i++) {
    l[i] = tn_ox_ints(f->n, names[i], &count);
    good &= count == n;
  }
  missing = tn_ox_ints(f->n, "nodes_missing_value_tracks_true", &nmissing);
  for (uint32_t i = 0; good && i < n; i++) {
    good = modes[i] >= 0 && modes[i] <= MEMBER;
    if (!good) break;
    node k = {l[0][i], l[1][i], l[2][i], splits[i], (uint8_t)modes[i], i < nmissing && missing[i]};
    for (int c = 0; c < 2; c++) { /* leaves are numbered from -1 down until all branches are there */
      int64_t *to = c ? &k.no : &k.yes;
      bool leaf = l[3 + c][i];
      good &= *to >= 0 && *to < (leaf ? (int64_t)leaf_count : (int64_t)n);
      if (leaf) *to = -1 - *to;
    }
    if (k.mode != MEMBER) f->modes |= 1u << k.mode;
    f->missing |= k.missing;
    good = good && tn_vec_push(&f->nodes, k);
  }
  tn_mem_free(splits);
  tn_mem_free(modes);
  return good || bad(f, "lists of nodes differ in length, or name nodes that are not there");
}

static bool put_leaves(forest *f, const double *weights, uint32_t n, double empty) {
  uint32_t ids, first = f->nodes.count;
  const int64_t *of = tn_ox_ints(f->n, "leaf_targetids", &ids);
  uint64_t all;
  if (ids != n || !tn_mul_u64(first + (uint64_t)n, (uint64_t)f->targets, &all) || all >= MAX_TABLE)
    return bad(f, "lists of leaves differ in length");
  for (uint32_t i = 0; i < first; i++) {
    node *k = &f->nodes.items[i];
    if (k->yes < 0) k->yes = first - 1 - k->yes;
    if (k->no < 0) k->no = first - 1 - k->no;
  }
  f->weights = tn_mem_alloc((all + 1) * sizeof *f->weights);
  for (uint64_t i = 0; f->weights && i < all; i++) f->weights[i] = empty;
  for (uint32_t i = 0; f->weights && i < n; i++) {
    node k = {.yes = first + i, .no = first + i, .mode = LEAF};
    if (of[i] < 0 || of[i] >= f->targets) return bad(f, "a leaf names a target that is not there");
    f->weights[(first + (uint64_t)i) * (uint64_t)f->targets + (uint64_t)of[i]] = weights[i];
    if (!tn_vec_push(&f->nodes, k)) return bad(f, "no memory");
  }
  return f->weights || bad(f, "no memory");
}

tn_status tn_ox_lower_tree_ensemble(tn_ox *x, tn_ox_node *n) {
  static const char *const ways[] = {"AVERAGE", "SUM", "MIN", "MAX"};
  static const char *const posts[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
  int64_t way = tn_ox_int(n, "aggregate_function", 1), post = tn_ox_int(n, "post_transform", 0);
  if (way < 0 || way > 3) return tn_ox_fail(x, n, "aggregate_function is %lld, wants 0 to 3", (long long)way);
  if (post < 0 || post > 4) return tn_ox_fail(x, n, "post_transform is %lld, wants 0 to 4", (long long)post);
  forest f = {.x = x, .n = n, .targets = tn_ox_int(n, "n_targets", 1)};
  uint32_t nleaves, nroots, nmembers, branches;
  double *weights = tensor_numbers(&f, "leaf_weights", &nleaves),
         *members = tensor_numbers(&f, "membership_values", &nmembers);
  const int64_t *roots = tn_ox_ints(n, "tree_roots", &nroots);
  tn_value v = 0, features = tn_ox_features(x, n, 0);
  bool good = features && weights && f.targets > 0 && put_branches(&f, nleaves);
  branches = f.nodes.count;
  for (uint32_t i = 0; good && i < nroots; i++)
    good = roots[i] >= 0 && roots[i] < (int64_t)branches && tn_vec_push(&f.roots, roots[i]);
  good = good && nroots && put_sets(&f, branches, members, nmembers) &&
         put_leaves(&f, weights, nleaves, empty_of(ways[way]));
  if (good) v = together(&f, features, ways[way]);
  tn_mem_free(weights);
  tn_mem_free(members);
  fini(&f);
  if (!good && !tn_ox_failed(x))
    return tn_ox_fail(x, n, "the trees are not well formed: a root or the leaves are missing");
  return tn_ox_out(x, n, 0, v ? tn_ox_post_named(x, n, v, posts[post]) : 0);
}
