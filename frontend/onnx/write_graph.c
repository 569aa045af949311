/* write_graph.c - the graph in memory: values, nodes made once, and what an op of the IR reads and states. */
#include "frontend/onnx/write_graph.h"
#include <string.h>

void tn_ow_fail(tn_ow *w, tn_status s, const char *fmt, ...) {
  if (w->status != TN_OK) return;
  w->status = s;
  char text[512], where[256];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  tn_func_info f;
  if (!w->func) {
    (void)tn_fail(w->diags, s, NULL, NULL, "%s", text);
    return;
  }
  w->ir->func_get(w->m, w->func, &f);
  const char *op = w->op ? w->ir->opcode_name(w->ir->opcode(w->m, w->op)) : "", *name = NULL;
  if (w->op && w->ir->op_nresults(w->m, w->op))
    name = w->ir->value_name(w->m, w->ir->op_result(w->m, w->op, 0));
  snprintf(where, sizeof where, "function '%s'%s%s%s%s%s", f.name, w->op ? ", op " : "", op, name ? " '" : "",
           name ? name : "", name ? "'" : "");
  (void)tn_fail(w->diags, s, NULL, where, "%s", text);
}

static void *oom(tn_ow *w) {
  tn_ow_fail(w, TN_OOM, "out of memory");
  return NULL;
}

/* ---- values -------------------------------------------------------------------------------------------- */
static const tn_ow_shape no_type;

const tn_ow_shape *tn_ow_type(const tn_ow *w, tn_ov v) {
  return v && v < w->values.count ? &w->values.items[v].type : &no_type;
}

tn_dtype tn_ow_dtype(const tn_ow *w, tn_ov v) { return tn_ow_type(w, v)->dtype; }
uint32_t tn_ow_rank(const tn_ow *w, tn_ov v) { return tn_ow_type(w, v)->rank; }

tn_dim tn_ow_size_of(const tn_ow *w, tn_ov v, int64_t axis) {
  const tn_ow_shape *t = tn_ow_type(w, v);
  int64_t at = axis < 0 ? axis + t->rank : axis;
  return at >= 0 && at < (int64_t)t->rank ? t->dims[at] : 0;
}

bool tn_ow_is_float(const tn_ow *w, tn_dtype t) {
  const tn_dtype_info *i = w->ir->dtype_info(t);
  return i && i->cls == TN_CLASS_FLOAT;
}

tn_ov tn_ow_value_add(tn_ow *w, uint32_t from, const tn_ow_shape *t, const char *hint) {
  if (tn_ow_failed(w)) return 0;
  tn_ow_value v = {.from = from, .type = *t, .hint = hint, .graph = w->graph};
  if (!w->values.count && !tn_vec_push(&w->values, (tn_ow_value){0})) return oom(w), 0;
  if (!tn_vec_push(&w->values, v)) return oom(w), 0;
  return w->values.count - 1;
}

tn_ov tn_ow_input(tn_ow *w, const char *name, const tn_ow_shape *t) {
  tn_ov v = tn_ow_value_add(w, TN_OV_INPUT, t, NULL);
  if (!v) return 0;
  w->values.items[v].name = tn_arena_str(&w->arena, tn_str_of(name));
  bool there = false;
  if (!w->values.items[v].name || tn_map_put(&w->names, tn_str_of(name), v, &there) != TN_OK)
    return oom(w), 0;
  if (there) return tn_ow_fail(w, TN_INVALID, "two inputs would be called '%s'", name), 0;
  if (!tn_vec_push(&w->graphs.items[w->graph]->inputs, v)) return oom(w), 0;
  return v;
}

/* An output has a name of its own: what is an input, an initialiser, another output or from an outer graph
 * goes through Identity. */
void tn_ow_output(tn_ow *w, const char *name, tn_ov v) {
  if (tn_ow_failed(w) || !v) return;
  tn_ow_value *o = &w->values.items[v];
  if (o->from != TN_OV_NODE || o->name || o->graph != w->graph) {
    tn_ow_shape t = o->type;
    v = tn_ow_node_typed(w, "Identity", TN_OW_IN(v), TN_OW_ATTRS(TN_OW_S("tenon_output", name)), &t, 1, NULL);
    if (!v) return;
    w->nodes.items[w->values.items[v].node].nattrs = 0; /* it only kept the node apart from others */
    o = &w->values.items[v];
  }
  o->name = tn_arena_str(&w->arena, tn_str_of(name));
  bool there = false;
  if (!o->name || tn_map_put(&w->names, tn_str_of(name), v, &there) != TN_OK) {
    oom(w);
    return;
  }
  if (there) tn_ow_fail(w, TN_INVALID, "two inputs or outputs would be called '%s'", name);
  if (!tn_vec_push(&w->graphs.items[w->graph]->outputs, v)) oom(w);
}

uint32_t tn_ow_graph_begin(tn_ow *w, const char *name) {
  if (tn_ow_failed(w)) return 0;
  tn_ow_graph *g = tn_arena_alloc(&w->arena, sizeof *g);
  if (!w->graphs.count && !tn_vec_push(&w->graphs, NULL)) return oom(w), 0;
  if (!g || !tn_vec_push(&w->graphs, g)) return oom(w), 0;
  *g = (tn_ow_graph){.name = name, .parent = w->graph};
  tn_map_init(&g->made);
  return w->graph = w->graphs.count - 1;
}

void tn_ow_graph_end(tn_ow *w) {
  if (w->graph && w->graph < w->graphs.count) w->graph = w->graphs.items[w->graph]->parent;
}

/* ---- nodes --------------------------------------------------------------------------------------------- */
static void key_attrs(tn_buf *key, const tn_ow_attr *attrs) {
  for (const tn_ow_attr *a = attrs; a && a->name; a++) {
    tn_buf_puts(key, a->name);
    tn_buf_put(key, &a->kind, sizeof a->kind);
    tn_buf_put(key, &a->f, sizeof a->f);
    tn_buf_put(key, &a->i, sizeof a->i);
    if (a->s) tn_buf_put(key, a->s, strlen(a->s) + 1);
    if (a->ints) tn_buf_put(key, a->ints, a->count * sizeof *a->ints);
    if (a->floats) tn_buf_put(key, a->floats, a->count * sizeof *a->floats);
  }
}

static const tn_ow_attr *keep_attrs(tn_ow *w, const tn_ow_attr *attrs, uint32_t *count) {
  uint32_t n = 0;
  while (attrs && attrs[n].name) n++;
  *count = n;
  tn_ow_attr *copy = n ? tn_arena_copy(&w->arena, attrs, n * sizeof *attrs) : NULL;
  for (uint32_t i = 0; copy && i < n; i++) {
    if (copy[i].s) copy[i].s = tn_arena_str(&w->arena, tn_str_of(copy[i].s));
    if (copy[i].ints) copy[i].ints = tn_arena_copy(&w->arena, copy[i].ints, copy[i].count * sizeof(int64_t));
    if (copy[i].floats)
      copy[i].floats = tn_arena_copy(&w->arena, copy[i].floats, copy[i].count * sizeof(double));
  }
  return copy;
}

/* A node of this or an outer graph that was made with the same key. */
static tn_ow_node *made_before(tn_ow *w, const tn_buf *key) {
  uint64_t at;
  for (uint32_t g = w->graph; g; g = w->graphs.items[g]->parent)
    if (tn_map_get(&w->graphs.items[g]->made, (tn_str){key->text, key->len}, &at)) return &w->nodes.items[at];
  return NULL;
}

static tn_ow_node *make(tn_ow *w, const char *op, const tn_ov *in, uint32_t nin, const tn_ow_attr *attrs,
                        const tn_ow_shape *out, uint32_t nout) {
  tn_ow_node n = {.op = op, .nin = nin, .nout = nout, .graph = w->graph};
  const char *colon = strchr(op, ':');
  if (colon) {
    n.domain = tn_arena_str(&w->arena, (tn_str){op, (uint64_t)(colon - op)});
    n.op = colon + 1;
    w->microsoft = true;
  }
  n.in = tn_arena_copy(&w->arena, in, nin * sizeof *in);
  tn_ov *outs = tn_arena_alloc(&w->arena, nout * sizeof *outs);
  n.out = outs;
  n.attrs = keep_attrs(w, attrs, &n.nattrs);
  for (uint32_t i = 0; outs && i < nout; i++) {
    outs[i] = tn_ow_value_add(w, TN_OV_NODE, &out[i], NULL);
    if (outs[i]) w->values.items[outs[i]].node = w->nodes.count;
  }
  if (w->arena.failed || !tn_vec_push(&w->nodes, n) ||
      !tn_vec_push(&w->graphs.items[w->graph]->nodes, w->nodes.count - 1))
    return oom(w);
  return &w->nodes.items[w->nodes.count - 1];
}

tn_ov tn_ow_node_typed(tn_ow *w, const char *op, const tn_ov *in, uint32_t nin, const tn_ow_attr *attrs,
                       const tn_ow_shape *out, uint32_t nout, tn_ov *outs) {
  for (uint32_t i = 0; outs && i < nout; i++) outs[i] = 0;
  if (tn_ow_failed(w)) return 0;
  while (nin && !in[nin - 1]) nin--; /* absent inputs at the end are left out */
  tn_buf key = {0};
  tn_buf_put(&key, op, strlen(op) + 1);
  tn_buf_put(&key, in, nin * sizeof *in);
  tn_buf_put(&key, &nout, sizeof nout);
  key_attrs(&key, attrs);
  tn_ow_node *n = key.failed ? oom(w) : made_before(w, &key);
  if (!n && !tn_ow_failed(w)) {
    n = make(w, op, in, nin, attrs, out, nout);
    if (n && tn_map_put(&w->graphs.items[w->graph]->made, (tn_str){key.text, key.len}, w->nodes.count - 1,
                        NULL) != TN_OK)
      n = oom(w);
  }
  tn_buf_fini(&key);
  if (!n || tn_ow_failed(w)) return 0;
  for (uint32_t i = 0; outs && i < nout; i++) outs[i] = n->out[i];
  return n->out[0];
}

tn_ov tn_ow_node1(tn_ow *w, const char *op, const tn_ov *in, uint32_t nin, const tn_ow_attr *attrs,
                  const tn_ow_shape *out) {
  tn_ov v = 0;
  return tn_ow_node_typed(w, op, in, nin, attrs, out, 1, &v);
}

/* ---- the op being written -------------------------------------------------------------------------------
 */
static tn_attr attr_of(tn_ow *w, tn_op op, const char *name) {
  tn_attr a = {0};
  if (!w->ir->op_attr(w->m, op, name, &a)) tn_ow_fail(w, TN_INTERNAL, "the op has no attribute '%s'", name);
  return a;
}

int64_t tn_ow_int(tn_ow *w, tn_op op, const char *name) { return attr_of(w, op, name).u.i; }
double tn_ow_float(tn_ow *w, tn_op op, const char *name) { return attr_of(w, op, name).u.f; }
const char *tn_ow_str(tn_ow *w, tn_op op, const char *name) {
  tn_attr a = attr_of(w, op, name);
  return a.kind == TN_ATTR_STR && a.u.s ? a.u.s : "";
}
tn_dim tn_ow_dim(tn_ow *w, tn_op op, const char *name) {
  return tn_ow_settled(w, attr_of(w, op, name).u.dim);
}

const int64_t *tn_ow_ints(tn_ow *w, tn_op op, const char *name, uint32_t *count) {
  tn_attr a = attr_of(w, op, name);
  *count = a.kind == TN_ATTR_INTS ? a.count : 0;
  return a.u.ints;
}

uint32_t tn_ow_dims(tn_ow *w, tn_op op, const char *name, tn_dim out[TN_MAX_RANK]) {
  tn_attr a = attr_of(w, op, name);
  if (a.kind != TN_ATTR_DIMS || a.count > TN_MAX_RANK) return 0;
  for (uint32_t i = 0; i < a.count; i++) out[i] = tn_ow_settled(w, a.u.dims[i]);
  return a.count;
}

uint32_t tn_ow_axis(tn_ow *w, tn_op op, tn_ov of) {
  int64_t axis = tn_ow_int(w, op, "axis");
  return (uint32_t)(axis < 0 ? axis + tn_ow_rank(w, of) : axis);
}

tn_ov tn_ow_in(tn_ow *w, tn_op op, uint32_t i) {
  tn_value v = i < w->ir->op_noperands(w->m, op) ? w->ir->op_operand(w->m, op, i) : 0;
  tn_value_info info;
  if (!v || tn_ow_failed(w)) return 0;
  w->ir->value_get(w->m, v, &info);
  tn_ov out = 0;
  if (info.kind == TN_VALUE_WEIGHT)
    out = tn_ow_weight(w, info.weight);
  else if (info.kind == TN_VALUE_STATE)
    out = w->states[info.state];
  else if (v < w->nof)
    out = w->of[v];
  if (!out) tn_ow_fail(w, TN_INTERNAL, "operand %u was not written", i);
  return out;
}

void tn_ow_result_type(tn_ow *w, tn_op op, uint32_t i, tn_ow_shape *out) {
  tn_value_info info;
  tn_type_info t;
  w->ir->value_get(w->m, w->ir->op_result(w->m, op, i), &info);
  w->ir->type_get(w->m, info.type, &t);
  *out = (tn_ow_shape){.dtype = t.dtype, .rank = t.rank};
  for (uint32_t k = 0; k < t.rank; k++) out->dims[k] = tn_ow_settled(w, t.dims[k]);
}

static bool bind(tn_ow *w, tn_value v, tn_ov to) {
  if (v >= w->nof) {
    uint32_t n = v + v / 2 + 64;
    tn_ov *more = tn_mem_resize(w->of, n * sizeof *more);
    if (!more) return oom(w), false;
    memset(more + w->nof, 0, (n - w->nof) * sizeof *more);
    w->of = more, w->nof = n;
  }
  w->of[v] = to;
  return true;
}

void tn_ow_bind(tn_ow *w, tn_value v, tn_ov to) {
  if (!to || tn_ow_failed(w) || !bind(w, v, to)) return;
  const char *name = w->ir->value_name(w->m, v);
  if (name && !w->values.items[to].hint) w->values.items[to].hint = name;
}

void tn_ow_out(tn_ow *w, tn_op op, uint32_t i, tn_ov v) {
  if (tn_ow_failed(w)) return;
  tn_ow_shape want;
  tn_ow_result_type(w, op, i, &want);
  const tn_ow_shape *got = tn_ow_type(w, v);
  const tn_dtype_info *block = w->ir->dtype_info(want.dtype);
  if (!v || (want.dtype != got->dtype && block && block->cls != TN_CLASS_BLOCK))
    return tn_ow_fail(w, TN_INTERNAL, "result %u was written as %s", i,
                      v ? w->ir->dtype_info(got->dtype)->name : "nothing");
  if (want.rank != got->rank && !w->position_ids)
    return tn_ow_fail(w, TN_INTERNAL, "result %u was written with %u dims", i, got->rank);
  tn_ow_bind(w, w->ir->op_result(w->m, op, i), v);
}
