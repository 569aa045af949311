/* entry.c - the model's graph as the module's entry point: its inputs as arguments, with the sizes that it or
 * the option "shapes" states, its outputs as results. */
#include "frontend/onnx/fix.h"
#include "frontend/onnx/shapes.h"
#include <stdlib.h>

typedef struct entry {
  tn_ox *x;
  const tn_ox_graph *g;
  tn_ox_scope *scope;
  tn_ox_shapes shapes;
  tn_map symbols; /* name of a symbol -> the dim_param that has it */
  const struct tn_hf *about;
  tn_map plain; /* dim_params that are the whole size of some input */
} entry;

static tn_status bad(entry *e, tn_status status, const char *name, const char *fmt, ...) TN_PRINTF(4, 5);
static tn_status bad(entry *e, tn_status status, const char *name, const char *fmt, ...) {
  tn_buf text = {0}, where = {0};
  va_list ap;
  va_start(ap, fmt);
  tn_buf_vprintf(&text, fmt, ap);
  va_end(ap);
  tn_buf_printf(&where, "input '%.200s'", name);
  e->x->invalid |= status == TN_INVALID;
  tn_fail(&e->x->diags, status, e->x->model.name, tn_buf_cstr(&where), "%s", tn_buf_cstr(&text));
  tn_buf_fini(&text);
  tn_buf_fini(&where);
  return status;
}

/* ---- sizes
 * -------------------------------------------------------------------------------------------------- */

/* A symbol for a name of the model; two names never share one. */
static tn_dim symbol(entry *e, const char *param) {
  const char *name = tn_ox_symbol_name(e->x, param);
  for (uint32_t i = 0;; i++) {
    const char *tried = i ? tn_arena_printf(&e->x->arena, "%s_%u", name, i + 1) : name;
    uint64_t whose;
    if (!tried) return 0;
    if (!tn_map_get(&e->symbols, tn_str_of(tried), &whose)) {
      if (tn_map_put(&e->symbols, tn_str_of(tried), (uint64_t)(uintptr_t)param, NULL)) return 0;
      return e->x->ir->dim_sym(e->x->m, tried);
    }
    if (!strcmp((const char *)(uintptr_t)whose, param)) return e->x->ir->dim_sym(e->x->m, tried);
  }
}

static bool is_plain(entry *e, const char *param) {
  uint64_t v;
  return tn_map_get(&e->plain, tn_str_of(param), &v);
}

/* "past + sequence", where both are sizes by themselves too, or numbers; 0: it is no such sum. */
static tn_dim sum(entry *e, const char *param) {
  tn_dim total = tn_ox_d(e->x, 0);
  for (const char *s = param;; s++) {
    s += strspn(s, " ");
    size_t n = strcspn(s, "+"), len = n;
    while (len && s[len - 1] == ' ') len--;
    char *term = tn_arena_str(&e->x->arena, (tn_str){s, len});
    if (!term || !len) return 0;
    bool digits = strspn(term, "0123456789") == len && len < 10;
    if (!digits && !is_plain(e, term)) return 0;
    total = tn_ox_dadd(e->x, total, digits ? tn_ox_d(e->x, strtoll(term, NULL, 10)) : symbol(e, term));
    s += n;
    if (!*s) return total;
  }
}

static tn_dim axis_symbol(entry *e, const char *input, size_t axis) {
  char *name = tn_arena_printf(&e->x->arena, "%.60s_%zu", input, axis);
  return name ? symbol(e, name) : 0;
}

static tn_dim size_of(entry *e, const char *input, const Onnx__TensorShapeProto__Dimension *d, size_t axis) {
  if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE) {
    if (d->dim_value >= 0) return tn_ox_d(e->x, d->dim_value);
    if (d->dim_value == -1) return axis_symbol(e, input, axis); /* what some exporters write for "any" */

    bad(e, TN_INVALID, input, "dim %zu is negative: %lld; if it stands for any size, name it with --shapes",
        axis, (long long)d->dim_value);
    return 0;
  }
  bool known = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM && *d->dim_param;
  if (!known) return axis_symbol(e, input, axis);
  tn_dim total = strchr(d->dim_param, '+') && !is_plain(e, d->dim_param) ? sum(e, d->dim_param) : 0;
  return total ? total : symbol(e, d->dim_param);
}

/* A size given on the command line. */
static tn_dim given_size(entry *e, tn_str text) {
  char *s = tn_arena_str(&e->x->arena, text);
  if (!s) return 0;
  bool digits = *s && strspn(s, "0123456789") == text.len && text.len < 16;
  return digits ? tn_ox_d(e->x, strtoll(s, NULL, 10)) : symbol(e, s);
}

static tn_type tensor_type(entry *e, const char *name, const Onnx__TypeProto__Tensor *t) {
  tn_ox *x = e->x;
  tn_dim dims[TN_MAX_RANK];
  char buf[24];
  tn_dtype dtype = tn_ox_type_dtype(x->ir, t->elem_type);
  const tn_ox_shape *given = tn_ox_shapes_find(&e->shapes, name);
  bool use = given && given->dims.len + given->has_dims > 0;
  size_t rank = use ? given->rank : t->shape ? t->shape->n_dim : 0;
  if (!dtype) {
    bad(e, TN_UNSUPPORTED, name, "tensors of %s are not supported", tn_ox_type_name(t->elem_type, buf));
    return 0;
  }
  if (!t->shape && !use) {
    bad(e, TN_UNSUPPORTED, name,
        "its rank is not known; state its sizes: --shapes %.60s:1x3x224x224, with names for what varies",
        name);
    return 0;
  }
  if (use && t->shape && t->shape->n_dim != rank) {
    bad(e, TN_INVALID, name, "--shapes gives %zu sizes, the model %zu", rank, t->shape->n_dim);
    return 0;
  }
  if (rank > TN_MAX_RANK) {
    bad(e, TN_UNSUPPORTED, name, "it has rank %zu; the most is %d", rank, TN_MAX_RANK);
    return 0;
  }
  for (size_t i = 0; i < rank; i++) {
    dims[i] =
        use ? given_size(e, tn_ox_shape_dim(given, (uint32_t)i)) : size_of(e, name, t->shape->dim[i], i);
    if (!dims[i]) return 0;
  }
  return x->ir->type_make(x->m, dtype, (uint32_t)rank, dims, NULL);
}

/* ---- inputs
 * ------------------------------------------------------------------------------------------------- */

static tn_value add_arg(entry *e, const char *name, tn_type type) {
  tn_value v = type ? e->x->ir->func_arg_add(e->x->m, e->x->func, name, type) : 0;
  if (type && !v) e->x->invalid = true;
  return v;
}

static tn_ox_item *list_input(entry *e, const char *name, const Onnx__TypeProto *element) {
  tn_ox *x = e->x;
  const tn_ox_shape *given = tn_ox_shapes_find(&e->shapes, name);
  bool tensors = element && element->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
  if (!tensors || !given || !given->is_list) {
    bad(e, TN_UNSUPPORTED, name,
        tensors ? "it is a sequence, whose length has to be known: --shapes '%.60s:[3]'"
                : "it is a sequence of other than tensors",
        name);
    return tn_ox_poison(x);
  }
  tn_value *values = tn_arena_alloc(&x->arena, (given->length + 1) * sizeof *values);
  for (uint32_t i = 0; values && i < given->length; i++) {
    char *item = tn_arena_printf(&x->arena, "%s[%u]", name, i);
    tn_type type = item ? tensor_type(e, given->has_dims ? name : item, element->tensor_type) : 0;
    if (!(values[i] = item ? add_arg(e, item, type) : 0)) return tn_ox_poison(x);
  }
  return values ? (tn_ox_item *)(uintptr_t)tn_ox_list(x, values, given->length) : NULL;
}

/* Strings: the positions of their bytes have the shape. */
static tn_ox_item *text_input(entry *e, const char *name, const Onnx__TypeProto__Tensor *t) {
  Onnx__TypeProto__Tensor positions = *t;
  positions.elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
  tn_type type = tensor_type(e, name, &positions);
  return type ? tn_ox_text_input(e->x, name, type) : tn_ox_poison(e->x);
}

static tn_ox_item *input(entry *e, const char *name, const Onnx__TypeProto *t) {
  tn_ox *x = e->x;
  const tn_ox_shape *given = tn_ox_shapes_find(&e->shapes, name);
  uint32_t kind = t ? (uint32_t)t->value_case : 0;
  if (kind == ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE) {
    if (given && given->none) return (tn_ox_item *)(uintptr_t)tn_ox_none(x);
    t = t->optional_type->elem_type;
    kind = t ? (uint32_t)t->value_case : 0;
  }
  if (kind == ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE) return list_input(e, name, t->sequence_type->elem_type);
  if (kind == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) {
    if (t->tensor_type->elem_type == ONNX__TENSOR_PROTO__DATA_TYPE__STRING)
      return text_input(e, name, t->tensor_type);
    tn_type type = tensor_type(e, name, t->tensor_type);
    const char *fixed = tn_ox_fix_find(x, name);
    tn_value v = fixed && type ? tn_ox_fix_value(x, name, fixed, type) : add_arg(e, name, type);
    return v ? tn_ox_item_of(x, v) : tn_ox_poison(x);
  }
  bad(e, TN_UNSUPPORTED, name,
      kind == ONNX__TYPE_PROTO__VALUE_MAP_TYPE             ? "it is a map"
      : kind == ONNX__TYPE_PROTO__VALUE_SPARSE_TENSOR_TYPE ? "it is a sparse tensor"
                                                           : "it has no type that tenon knows");
  return tn_ox_poison(x);
}

/* Notes the names that are whole sizes, before sums of them are read. */
static tn_status note_plain(entry *e, const Onnx__TypeProto *t) {
  if (t && t->value_case == ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE) t = t->optional_type->elem_type;
  if (!t || t->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || !t->tensor_type->shape) return TN_OK;
  const Onnx__TensorShapeProto *s = t->tensor_type->shape;
  for (size_t i = 0; i < s->n_dim; i++)
    if (s->dim[i]->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM &&
        !strchr(s->dim[i]->dim_param, '+'))
      TN_TRY(tn_map_put(&e->plain, tn_str_of(s->dim[i]->dim_param), 1, NULL));
  return TN_OK;
}

/* Inputs that have an initializer too are constants: files before IR version 4 list those. */
static tn_status inputs(entry *e) {
  tn_map constants;
  uint64_t v;
  tn_map_init(&constants);
  tn_status s = TN_OK;
  for (size_t i = 0; i < e->g->n_initializer && s == TN_OK; i++)
    s = tn_map_put(&constants, tn_str_of(e->g->initializer[i]->name), 1, NULL);
  for (size_t i = 0; i < e->g->n_input && s == TN_OK; i++) s = note_plain(e, e->g->input[i]->type);
  for (size_t i = 0; i < e->g->n_input && s == TN_OK; i++) {
    const Onnx__ValueInfoProto *info = e->g->input[i];
    if (tn_map_get(&constants, tn_str_of(info->name), &v)) continue;
    if (tn_ox_find(e->x, e->scope, info->name)) {
      bad(e, TN_INVALID, info->name, "two inputs have this name");
      continue;
    }
    tn_ox_item *item = input(e, info->name, info->type);
    s = item ? tn_ox_define(e->x, e->scope, info->name, item) : TN_OOM;
  }
  tn_map_fini(&constants);
  return s;
}

/* ---- outputs
 * ------------------------------------------------------------------------------------------------ */

typedef struct results {
  TN_VEC(tn_value) values;
  TN_VEC(const char *) names;
  bool poisoned;
} results;

static tn_status add_result(results *r, tn_value v, const char *name) {
  if (!v || !name) return TN_OOM;
  return tn_vec_push(&r->values, v) && tn_vec_push(&r->names, name) ? TN_OK : TN_OOM;
}

static tn_status output(entry *e, const char *name, results *r) {
  tn_ox *x = e->x;
  tn_ox_item *item = tn_ox_find(x, e->scope, name);
  if (!item) {
    x->invalid = true;
    return tn_fail(&x->diags, TN_INVALID, x->model.name, NULL, "output '%.200s' is computed by no node",
                   name);
  }
  r->poisoned |= item->kind == TN_OX_POISON;
  if (item->kind == TN_OX_POISON) return TN_OK;
  if (item->kind == TN_OX_NONE)
    return tn_fail(&x->diags, TN_UNSUPPORTED, x->model.name, NULL, "output '%.200s' is an empty optional",
                   name);
  if (item->kind == TN_OX_TEXT) {
    tn_ox_text t = tn_ox_text_output(x, item);
    TN_TRY(add_result(r, t.bytes, tn_arena_printf(&x->arena, "%s.bytes", name)));
    TN_TRY(add_result(r, t.starts, tn_arena_printf(&x->arena, "%s.starts", name)));
    return add_result(r, t.lengths, tn_arena_printf(&x->arena, "%s.lengths", name));
  }
  if (item->kind == TN_OX_LIST) {
    for (uint32_t i = 0; i < item->count; i++)
      TN_TRY(add_result(r, item->values[i], tn_arena_printf(&x->arena, "%s[%u]", name, i)));
    return TN_OK;
  }
  tn_value v = tn_ox_item_value(x, item);
  if (!v) return TN_INVALID;
  return add_result(r, v, name);
}

/* Models of sentences: one more output, "embedding". */
static tn_status add_embedding(entry *e, results *r) {
  tn_ox *x = e->x;
  const char *mode = tn_ox_pooling(e->about);
  tn_ox_item *mask = mode ? tn_ox_find(x, e->scope, "attention_mask") : NULL;
  if (!mask || !r->values.count || !tn_ox_is_float(x, r->values.items[0]) ||
      tn_ox_rank(x, r->values.items[0]) != 3)
    return TN_OK;
  tn_value v = tn_ox_pool(x, r->values.items[0], tn_ox_item_value(x, mask), mode, tn_ox_normalizes(e->about));
  return v ? add_result(r, v, "embedding") : TN_INVALID;
}

static tn_status finish(entry *e, results *r) {
  tn_ox *x = e->x;
  for (size_t i = 0; i < e->g->n_output; i++) TN_TRY(output(e, e->g->output[i]->name, r));
  if (r->poisoned || x->diags.errors) return x->invalid ? TN_INVALID : TN_UNSUPPORTED;
  if (!r->values.count)
    return tn_fail(&x->diags, TN_INVALID, x->model.name, NULL, "the graph has no outputs");
  TN_TRY(add_embedding(e, r));
  TN_TRY(x->ir->func_result_names(x->m, x->func, r->names.items, r->names.count));
  tn_op_desc d = {
      .name = "return", .operands = r->values.items, .noperands = r->values.count, .loc = x->node->loc};
  return x->ir->op_create(x->m, (tn_point){.func = x->func}, &d) ? TN_OK : TN_INVALID;
}

static tn_status build(entry *e) {
  tn_ox *x = e->x;
  x->func = x->ir->func_add(x->m, tn_ox_entry_name(x, e->g, e->about));
  x->body = x->bodies = 1;
  x->file = x->ir->loc_make(x->m, &(tn_loc_info){.kind = TN_LOC_FILE, .name = x->model.name});
  e->scope = x->func ? tn_ox_scope_new(x, NULL) : NULL;
  if (!e->scope) return TN_OOM;
  e->scope->opsets = x->model.proto->opset_import;
  e->scope->nopsets = x->model.proto->n_opset_import;
  /* Fixed inputs, and results that are initializers, become values outside of all nodes. */
  Onnx__NodeProto none = ONNX__NODE_PROTO__INIT;
  tn_loc_info place = {.kind = TN_LOC_FILE, .name = x->model.name};
  tn_ox_node n = {.x = x, .p = &none, .scope = e->scope, .domain = "", .loc = x->ir->loc_make(x->m, &place)};
  x->node = &n;
  TN_TRY(tn_ox_fix_unused(x, e->g));
  TN_TRY(inputs(e));
  TN_TRY(tn_ox_run_graph(x, e->scope, e->g));
  x->node = &n;
  results r = {0};
  tn_status s = finish(e, &r);
  x->node = NULL;
  tn_vec_fini(&r.values);
  tn_vec_fini(&r.names);
  return s;
}

tn_status tn_ox_import_entry(tn_ox *x, const struct tn_hf *about) {
  entry e = {.x = x, .g = x->model.proto->graph, .about = about};
  tn_map_init(&e.symbols);
  tn_map_init(&e.plain);
  tn_status s = tn_ox_shapes_parse(&x->arena, x->host->option(x->options, "shapes"), &x->diags, &e.shapes);
  if (s == TN_OK) s = build(&e);
  if (s == TN_OK) s = tn_ox_shapes_unused(&e.shapes, x->model.name, &x->diags);
  tn_vec_fini(&e.shapes.list);
  tn_map_fini(&e.symbols);
  tn_map_fini(&e.plain);
  return s;
}
