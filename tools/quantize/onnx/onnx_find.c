/* onnx_find.c - which ops of a module are written in 8 bits: products with a matrix that is a weight, and
 * look-ups of rows of one. */
#include "frontend/tokenizer/regex.h"
#include "passes/rw.h"
#include "tools/quantize/onnx/onnx.h"

typedef struct excluded {
  TN_VEC(tn_tk_regex *) patterns;
  TN_VEC(const char *) texts;
  TN_VEC(bool) used;
  tn_tk_matcher matcher;
} excluded;

static tn_status read_patterns(tn_int8 *x, excluded *e) {
  const char *text;
  char why[160] = "";
  for (uint32_t i = 0; (text = tn_args_nth(x->args, OPT_exclude, i)); i++) {
    tn_tk_regex *r = tn_tk_regex_new(tn_str_of(text), why, sizeof why);
    if (!r) return tn_fail(x->d->diags, TN_INVALID, NULL, NULL, "--exclude: '%s': %s", text, why);
    if (!tn_vec_push(&e->patterns, r) || !tn_vec_push(&e->texts, text) || !tn_vec_push(&e->used, false))
      return TN_OOM;
  }
  return TN_OK;
}

static bool matches(excluded *e, const char *name) {
  uint32_t from, to;
  bool any = false;
  for (uint32_t i = 0; name && i < e->patterns.count; i++)
    if (tn_tk_regex_find(e->patterns.items[i], &e->matcher, name, (uint32_t)strlen(name), 0, &from, &to) ==
        TN_OK)
      any = e->used.items[i] = true;
  return any;
}

/* The name of the node that an op comes from; NULL: none. */
static const char *node_name(tn_module *m, tn_loc l) {
  tn_loc_info i;
  for (; l;) {
    tn_ir_loc_get(m, l, &i);
    if (i.kind == TN_LOC_NODE) return i.name;
    l = i.kind == TN_LOC_FUSED || i.kind == TN_LOC_DERIVED ? i.a : 0;
  }
  return NULL;
}

static bool is_excluded(tn_int8 *x, excluded *e, tn_op op, const char *weight) {
  bool by_weight = matches(e, weight), by_node = matches(e, node_name(x->m, tn_ir_op_loc(x->m, op)));
  return by_weight || by_node;
}

/* A matrix of floats of a known size. */
static bool matrix_of(tn_int8 *x, tn_weight id, tn_int8_weight *out) {
  tn_weight_info w;
  tn_type_info t;
  int64_t rows, columns;
  tn_ir_weight_get(x->m, id, &w);
  tn_ir_type_get(x->m, w.type, &t);
  const tn_dtype_info *d = tn_ir_dtype_info(t.dtype);
  bool floats = t.dtype == TN_DT_f32 || t.dtype == TN_DT_f16 || t.dtype == TN_DT_bf16 ||
                (d && d->cls == TN_CLASS_BLOCK);
  if (t.rank != 2 || !floats || !tn_ir_dim_is_const(x->m, t.dims[0], &rows) ||
      !tn_ir_dim_is_const(x->m, t.dims[1], &columns) || rows < 1 || columns < 1)
    return false;
  *out = (tn_int8_weight){
      .weight = id, .name = w.name, .dtype = t.dtype, .rows = (uint64_t)rows, .columns = (uint64_t)columns};
  return true;
}

/* The same weight used the same way has the same codes. */
static tn_status add(tn_int8 *x, const tn_int8_weight *w, tn_ow_int8 row) {
  uint32_t at = 0;
  for (; at < x->weights.count; at++) {
    const tn_int8_weight *other = &x->weights.items[at];
    if (other->weight == w->weight && other->turned == w->turned && other->table == w->table) break;
  }
  if (at == x->weights.count && !tn_vec_push(&x->weights, *w)) return TN_OOM;
  return tn_vec_push(&x->rows, row) && tn_vec_push(&x->weight_of, at) ? TN_OK : TN_OOM;
}

static tn_status add_product(tn_int8 *x, excluded *e, const tn_product *p) {
  tn_int8_weight w;
  if (p->experts || !matrix_of(x, p->weight, &w) || is_excluded(x, e, p->op, w.name)) {
    x->plain++;
    return TN_OK;
  }
  w.turned = !p->transposed; /* codes lie as [k, n] */
  tn_ow_int8 row = {.op = p->op, .weight = p->weight, .how = x->how};
  row.k = (int64_t)(p->transposed ? w.rows : w.columns);
  row.n = (int64_t)(p->transposed ? w.columns : w.rows);
  return add(x, &w, row);
}

/* Tables smaller than this are not worth two look-ups. */
enum { TABLE = 1 << 16 };

static tn_status add_table(tn_int8 *x, excluded *e, tn_op op) {
  tn_int8_weight w;
  tn_value_info v;
  if (!tn_rw_is(x->m, op, TN_OPC_gather) || tn_rw_int(x->m, op, "axis") != 0) return TN_OK;
  tn_ir_value_get(x->m, tn_ir_op_operand(x->m, op, 0), &v);
  if (v.kind != TN_VALUE_WEIGHT || !matrix_of(x, v.weight, &w) || w.rows * w.columns < TABLE) return TN_OK;
  if (is_excluded(x, e, op, w.name)) return TN_OK;
  tn_ow_int8 row = {.op = op, .weight = v.weight, .how = TN_OW_INT8_ROWS};
  row.k = (int64_t)w.columns;
  row.n = (int64_t)w.rows;
  w.table = true;
  return add(x, &w, row);
}

static tn_status find(tn_int8 *x, excluded *e, tn_products *all) {
  TN_TRY(read_patterns(x, e));
  for (tn_func f = 1; f <= tn_ir_func_count(x->m); f++) TN_TRY(tn_products_find(x->m, f, all));
  for (uint32_t i = 0; i < all->count; i++) TN_TRY(add_product(x, e, &all->items[i]));
  for (tn_func f = 1; x->tables && f <= tn_ir_func_count(x->m); f++)
    for (tn_op op = tn_ir_first_op(x->m, f, 0); op; op = tn_ir_next_op(x->m, op)) TN_TRY(add_table(x, e, op));
  for (uint32_t i = 0; i < e->patterns.count; i++)
    if (!e->used.items[i])
      return tn_fail(x->d->diags, TN_INVALID, NULL, NULL, "--exclude: no weight and no node matches '%s'",
                     e->texts.items[i]);
  if (x->rows.count) return TN_OK;
  return tn_fail(x->d->diags, TN_INVALID, x->in, NULL, "there is no product with a matrix of weights");
}

tn_status tn_int8_find(tn_int8 *x) {
  excluded e = {0};
  tn_products all = {0};
  tn_status s = find(x, &e, &all);
  for (uint32_t i = 0; i < e.patterns.count; i++) tn_tk_regex_free(e.patterns.items[i]);
  tn_vec_fini(&e.patterns);
  tn_vec_fini(&e.texts);
  tn_vec_fini(&e.used);
  tn_tk_matcher_fini(&e.matcher);
  tn_vec_fini(&all);
  return s;
}
