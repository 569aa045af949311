/* node.c - one node: its row of onnx.def, its attributes, its messages, and what lowering it means. */
#include "frontend/onnx/import.h"

static const tn_ox_row rows[] = {
#define TN_ONNX(domain, op, first, last, lowering, attributes)                                               \
  {#domain, #op, first, last, tn_ox_lower_##lowering, attributes},
#include "frontend/onnx/onnx.def"
#undef TN_ONNX
    {NULL, "", 0, 0, NULL, ""}};

/* ---- the table
 * ---------------------------------------------------------------------------------------------- */

static const char *const domains[][2] = {{"", "onnx"},
                                         {"ai.onnx", "onnx"},
                                         {"ai.onnx.ml", "ml"},
                                         {"ai.onnx.preview", "preview"},
                                         {"ai.onnx.preview.training", "training"},
                                         {"ai.onnx.training", "training"},
                                         {"com.microsoft", "ms"}};

static const char *short_domain(const char *domain) {
  for (size_t i = 0; i < TN_COUNT(domains); i++)
    if (!strcmp(domains[i][0], domain)) return domains[i][1];
  return domain;
}

const char *tn_ox_domain_name(const char *domain) { return *domain ? domain : "ai.onnx"; }

const tn_ox_row *tn_ox_row_find(const char *domain, const char *op, int64_t version, bool *known) {
  *known = false;
  for (const tn_ox_row *r = rows; r->domain; r++) {
    if (strcmp(r->op, op) || strcmp(r->domain, short_domain(domain))) continue;
    *known = true;
    if (version >= r->first && version <= r->last) return r;
  }
  return NULL;
}

/* ---- messages
 * ----------------------------------------------------------------------------------------------- */

const char *tn_ox_place(tn_ox *x, const tn_ox_node *n) {
  const char *words =
      tn_arena_printf(&x->arena, "node %u '%s%.200s' (%.100s, %.100s %lld)", n->number, n->scope->prefix,
                      n->p->name ? n->p->name : "", n->p->op_type ? n->p->op_type : "",
                      tn_ox_domain_name(n->domain), (long long)n->version);
  return words ? words : "node";
}

static void say(tn_ox *x, tn_ox_node *n, const char *hint, const char *fmt, va_list ap) {
  if (x->failed) return;
  tn_buf text = {0};
  tn_buf_vprintf(&text, fmt, ap);
  if (hint) tn_buf_printf(&text, "; %s", hint);
  tn_diags_add(&x->diags, TN_ERROR, x->model.name, 0, 0, tn_ox_place(x, n), "%s", tn_buf_cstr(&text));
  tn_buf_fini(&text);
  x->failed = true;
}

tn_status tn_ox_fail(tn_ox *x, tn_ox_node *n, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  say(x, n, NULL, fmt, ap);
  va_end(ap);
  x->invalid = true;
  return TN_INVALID;
}

tn_status tn_ox_refuse(tn_ox *x, tn_ox_node *n, const char *hint, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  say(x, n, hint, fmt, ap);
  va_end(ap);
  return TN_UNSUPPORTED;
}

bool tn_ox_failed(const tn_ox *x) { return x->failed; }

static tn_status unknown_op(tn_ox *x, tn_ox_node *n, bool known) {
  const char *op = n->p->op_type, *names[TN_COUNT(rows)];
  int count = 0;
  if (known) {
    int64_t first = INT64_MAX, last = 0;
    for (const tn_ox_row *r = rows; r->domain; r++) {
      if (strcmp(r->op, op) || strcmp(r->domain, short_domain(n->domain))) continue;
      if (r->first < first) first = r->first;
      if (r->last > last) last = r->last;
    }
    return tn_ox_refuse(x, n, "convert the model to such an opset (onnx.version_converter)",
                        "the op is supported for opsets %lld to %lld of its domain", (long long)first,
                        (long long)last);
  }
  for (const tn_ox_row *r = rows; r->domain; r++)
    if (!strcmp(r->domain, short_domain(n->domain))) names[count++] = r->op;
  int near = tn_str_nearest(op, names, count);
  char hint[160] = "export the model without it, or as a function of standard ops";
  if (near >= 0) snprintf(hint, sizeof hint, "there is '%s'", names[near]);
  return tn_ox_refuse(x, n, hint, "there is no lowering for op '%.100s' of domain %.100s", op,
                      tn_ox_domain_name(n->domain));
}

/* ---- attributes
 * --------------------------------------------------------------------------------------------- */

const Onnx__AttributeProto *tn_ox_attr(const tn_ox_node *n, const char *name) {
  for (uint32_t i = 0; i < n->nattrs; i++)
    if (!strcmp(n->attrs[i]->name, name)) return n->attrs[i];
  return NULL;
}

static const char *type_name(int type) {
  static const char *const names[] = {
      "no type", "float",   "int",    "string",        "tensor",         "graph", "floats", "ints",
      "strings", "tensors", "graphs", "sparse_tensor", "sparse_tensors", "type",  "types"};
  return type >= 0 && (size_t)type < TN_COUNT(names) ? names[type] : "no known type";
}

/* The attribute if it is there and of the type; else NULL, and a failure if it is of another. */
static const Onnx__AttributeProto *typed(tn_ox_node *n, const char *name,
                                         Onnx__AttributeProto__AttributeType type) {
  const Onnx__AttributeProto *a = tn_ox_attr(n, name);
  if (!a || a->type == type) return a;
  tn_ox_fail(n->x, n, "attribute '%s' is of type %s, wants %s", name, type_name((int)a->type),
             type_name((int)type));
  return NULL;
}

bool tn_ox_has_attr(const tn_ox_node *n, const char *name) { return tn_ox_attr(n, name) != NULL; }

int64_t tn_ox_int(tn_ox_node *n, const char *name, int64_t otherwise) {
  const Onnx__AttributeProto *a = typed(n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
  return a ? a->i : otherwise;
}

double tn_ox_float(tn_ox_node *n, const char *name, double otherwise) {
  const Onnx__AttributeProto *a = typed(n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
  return a ? (double)a->f : otherwise;
}

static const char *text_of(tn_ox_node *n, const char *name, const ProtobufCBinaryData *b) {
  char *s = tn_arena_str(&n->x->arena, (tn_str){(const char *)b->data, b->len});
  if (s && strlen(s) == b->len && tn_utf8_valid((tn_str){s, b->len}, NULL)) return s;
  tn_ox_fail(n->x, n, "attribute '%s' is not a text in UTF-8", name);
  return "";
}

const char *tn_ox_str(tn_ox_node *n, const char *name, const char *otherwise) {
  const Onnx__AttributeProto *a = typed(n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
  return a ? text_of(n, name, &a->s) : otherwise;
}

const int64_t *tn_ox_ints(tn_ox_node *n, const char *name, uint32_t *count) {
  const Onnx__AttributeProto *a = typed(n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
  static const int64_t none[1];
  *count = a ? (uint32_t)a->n_ints : 0;
  return a ? (a->n_ints ? a->ints : none) : NULL;
}

const float *tn_ox_floats(tn_ox_node *n, const char *name, uint32_t *count) {
  const Onnx__AttributeProto *a = typed(n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS);
  static const float none[1];
  *count = a ? (uint32_t)a->n_floats : 0;
  return a ? (a->n_floats ? a->floats : none) : NULL;
}

const char *const *tn_ox_strs(tn_ox_node *n, const char *name, uint32_t *count) {
  const Onnx__AttributeProto *a = typed(n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS);
  *count = 0;
  if (!a) return NULL;
  const char **list = tn_arena_alloc(&n->x->arena, (a->n_strings + 1) * sizeof *list);
  if (!list) return NULL;
  for (size_t i = 0; i < a->n_strings; i++) list[i] = text_of(n, name, &a->strings[i]);
  *count = (uint32_t)a->n_strings;
  return list;
}

const char *const *tn_ox_tensor_strs(tn_ox *x, tn_ox_node *n, const char *name, uint32_t *count) {
  const Onnx__AttributeProto *a = tn_ox_attr(n, name);
  const tn_ox_tensor_proto *t = a && a->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR ? a->t : NULL;
  *count = 0;
  if (!t || t->data_type != ONNX__TENSOR_PROTO__DATA_TYPE__STRING) return NULL;
  const char **list = tn_arena_alloc(&x->arena, (t->n_string_data + 1) * sizeof *list);
  if (!list) return NULL;
  for (size_t i = 0; i < t->n_string_data; i++) list[i] = text_of(n, name, &t->string_data[i]);
  *count = (uint32_t)t->n_string_data;
  return list;
}

tn_value tn_ox_tensor(tn_ox *x, tn_ox_node *n, const char *name) {
  const Onnx__AttributeProto *a = tn_ox_attr(n, name);
  if (a && a->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSOR && a->sparse_tensor)
    return tn_ox_sparse_value(x, a->sparse_tensor, name);
  a = typed(n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR);
  if (!a) return 0;
  if (a->t) return tn_ox_tensor_value(x, a->t, a->t->name && *a->t->name ? a->t->name : name);
  tn_ox_fail(x, n, "attribute '%s' holds no tensor", name);
  return 0;
}

const tn_ox_graph *tn_ox_graph_attr(tn_ox *x, tn_ox_node *n, const char *name) {
  const Onnx__AttributeProto *a = typed(n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH);
  if (a && a->g) return a->g;
  tn_ox_fail(x, n, "attribute '%s' (a graph) is missing", name);
  return NULL;
}

tn_dtype tn_ox_dtype_of(tn_ox *x, tn_ox_node *n, int64_t onnx_type) {
  char buf[24];
  tn_dtype t = tn_ox_type_dtype(x->ir, onnx_type);
  if (!t)
    tn_ox_refuse(
        x, n,
        onnx_type == ONNX__TENSOR_PROTO__DATA_TYPE__STRING ? "move the work on texts out of the model" : NULL,
        "there is no element type for %s", tn_ox_type_name(onnx_type, buf));
  return t;
}

/* An attribute that refers to one of the function whose body this is. NULL: the call does not give it. */
static Onnx__AttributeProto *referred(tn_ox *x, tn_ox_node *n, const Onnx__AttributeProto *a, bool *ok) {
  const tn_ox_env *env = n->scope->env;
  for (uint32_t i = 0; env && i < env->count; i++) {
    if (strcmp(env->attrs[i]->name, a->ref_attr_name)) continue;
    Onnx__AttributeProto *copy = tn_arena_copy(&x->arena, env->attrs[i], sizeof *copy);
    if (copy) copy->name = a->name;
    *ok = copy != NULL;
    return copy;
  }
  if (!env) {
    tn_ox_fail(x, n, "attribute '%s' refers to '%s' of a function, but this is none", a->name,
               a->ref_attr_name);
    *ok = false;
  }
  return NULL;
}

static tn_status gather_attrs(tn_ox *x, tn_ox_node *n) {
  n->attrs = tn_arena_alloc(&x->arena, (n->p->n_attribute + 1) * sizeof *n->attrs);
  if (!n->attrs) return TN_OOM;
  for (size_t i = 0; i < n->p->n_attribute; i++) {
    Onnx__AttributeProto *a = n->p->attribute[i];
    bool ok = true;
    if (!a->name || !*a->name) return tn_ox_fail(x, n, "attribute %zu has no name", i);
    if (tn_ox_attr(n, a->name)) return tn_ox_fail(x, n, "attribute '%.100s' is given twice", a->name);
    if (a->ref_attr_name && *a->ref_attr_name) a = referred(x, n, a, &ok);
    if (!ok) return TN_INVALID;
    if (a) n->attrs[n->nattrs++] = a;
  }
  return TN_OK;
}

/* Is `word` one of the words of `list`? */
static bool has_word(const char *list, const char *word) {
  size_t len = strlen(word);
  for (const char *s = list; *s;) {
    size_t k = strcspn(s, " ");
    if (k == len && !memcmp(s, word, k)) return true;
    s += k + (s[k] == ' ');
  }
  return false;
}

static tn_status check_attrs(tn_ox *x, tn_ox_node *n) {
  for (uint32_t i = 0; i < n->nattrs; i++)
    if (!has_word(n->row->attrs, n->attrs[i]->name))
      return tn_ox_refuse(x, n, NULL, "attribute '%.100s' is not known; the op has: %s", n->attrs[i]->name,
                          *n->row->attrs ? n->row->attrs : "none");
  return TN_OK;
}

/* ---- lowering
 * ----------------------------------------------------------------------------------------------- */

const char *tn_ox_op(const tn_ox_node *n) { return n->p->op_type; }
uint32_t tn_ox_number(const tn_ox_node *n) { return n->number; }
int64_t tn_ox_version(const tn_ox_node *n) { return n->version; }
uint32_t tn_ox_nin(const tn_ox_node *n) { return (uint32_t)n->p->n_input; }
uint32_t tn_ox_nout(const tn_ox_node *n) { return (uint32_t)n->p->n_output; }
bool tn_ox_wants(const tn_ox_node *n, uint32_t i) { return i < n->p->n_output && *n->p->output[i]; }

static tn_status find_version(tn_ox *x, tn_ox_node *n) {
  n->version = 0;
  for (size_t i = 0; i < n->scope->nopsets; i++) {
    const Onnx__OperatorSetIdProto *o = n->scope->opsets[i];
    if (!strcmp(short_domain(o->domain ? o->domain : ""), short_domain(n->domain))) n->version = o->version;
  }
  if (n->version) return TN_OK;
  return tn_ox_fail(x, n, "the model does not state an opset of domain %.100s", tn_ox_domain_name(n->domain));
}

static bool reads_poison(tn_ox *x, tn_ox_node *n) {
  bool poisoned = false;
  for (size_t i = 0; i < n->p->n_input && !poisoned; i++) {
    if (!*n->p->input[i]) continue;
    tn_ox_item *item = tn_ox_find(x, n->scope, n->p->input[i]);
    if (item) {
      poisoned = item->kind == TN_OX_POISON;
    } else {
      tn_ox_fail(x, n, "input %zu, '%.200s', is no input, initializer or output of any node", i,
                 n->p->input[i]);
      poisoned = true;
    }
  }
  return poisoned;
}

/* Inputs that the lowering never asked for are not the op's. */
static tn_status check_inputs(tn_ox *x, tn_ox_node *n) {
  for (uint32_t i = 0; i < n->p->n_input && i < 64 && !x->failed; i++)
    if (*n->p->input[i] && !(n->read >> i & 1))
      return tn_ox_fail(x, n, "%zu inputs; input %u, '%.200s', is none of the op", n->p->n_input, i,
                        n->p->input[i]);
  return TN_OK;
}

static tn_status lower(tn_ox *x, tn_ox_node *n) {
  bool known, called;
  TN_TRY(gather_attrs(x, n));
  TN_TRY(tn_ox_call(x, n, &called));
  if (called) return x->failed ? TN_INVALID : TN_OK;
  TN_TRY(find_version(x, n));
  n->row = tn_ox_row_find(n->domain, n->p->op_type, n->version, &known);
  if (!n->row) return unknown_op(x, n, known);
  TN_TRY(check_attrs(x, n));
  TN_TRY(n->row->lower(x, n));
  return check_inputs(x, n);
}

/* Every named output gets its item; poison where the lowering stated none. */
static tn_status publish(tn_ox *x, tn_ox_node *n) {
  for (size_t i = 0; i < n->p->n_output; i++) {
    const char *name = n->p->output[i];
    if (!*name) continue;
    if (!n->outs[i] && !x->failed)
      tn_ox_refuse(x, n, NULL, "output %zu, '%.200s', is not supported", i, name);
    tn_ox_item *item = x->failed ? tn_ox_poison(x) : n->outs[i];
    if (!item) return TN_OOM;
    if (item->kind == TN_OX_TENSOR && item->value && !x->ir->value_name(x->m, item->value))
      x->ir->value_set_name(x->m, item->value, name);
    TN_TRY(tn_ox_define(x, n->scope, name, item));
  }
  return TN_OK;
}

enum { MAX_STEPS = 1 << 20 };

tn_status tn_ox_lower_node(tn_ox *x, tn_ox_scope *s, const Onnx__NodeProto *p, uint32_t number) {
  tn_ox_node n = {.x = x, .p = p, .number = number, .scope = s, .domain = p->domain ? p->domain : ""};
  tn_ox_node *outer = x->node;
  bool outer_failed = x->failed;
  char *label = tn_arena_printf(&x->arena, "%s%s", s->prefix, p->name && *p->name ? p->name : p->op_type);
  tn_loc_info place = {.kind = TN_LOC_NODE, .line = number, .name = label ? label : "", .a = x->file};
  n.loc = x->ir->loc_make(x->m, &place);
  n.outs = tn_arena_alloc(&x->arena, (p->n_output + 1) * sizeof *n.outs);
  if (!n.outs || !label || !n.loc) return TN_OOM;
  x->node = &n;
  x->failed = false;
  if (x->steps++ >= MAX_STEPS) {
    tn_ox_refuse(x, &n, NULL, "calls and unrolled loops make more than %d nodes", MAX_STEPS);
    x->broken = TN_UNSUPPORTED;
  } else if (reads_poison(x, &n)) {
    x->failed = true;
  } else {
    tn_status status = lower(x, &n);
    if (status == TN_OOM) x->broken = TN_OOM;
    if (status != TN_OK && !x->failed && !x->broken)
      tn_ox_fail(x, &n, "cannot be imported (status %d)", status);
  }
  tn_status status = x->broken ? x->broken : publish(x, &n);
  x->node = outer;
  x->failed = outer_failed;
  return status;
}
