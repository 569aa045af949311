/* check.c - what has to hold of a model before its graph is looked at: versions, and that everything that has
 * to have a name or a type has one. Names that no node states, and sizes, are seen where they are used. */
#include "frontend/onnx/model.h"

enum { MIN_IR = 3, MAX_IR = 14, MIN_OPSET = 1, MAX_OPSET = 28, MAX_ATTRIBUTES = 256, MAX_OPSETS = 256 };

static tn_status bad(tn_ox_model *x, const char *where, const char *fmt, ...) TN_PRINTF(3, 4);
static tn_status bad(tn_ox_model *x, const char *where, const char *fmt, ...) {
  tn_buf text = {0};
  va_list ap;
  va_start(ap, fmt);
  tn_buf_vprintf(&text, fmt, ap);
  va_end(ap);
  tn_status s = tn_fail(x->diags, TN_INVALID, x->name, where, "%s", tn_buf_cstr(&text));
  tn_buf_fini(&text);
  return s;
}

const char *tn_ox_function_key(tn_ox_model *x, const char *domain, const char *name, const char *overload) {
  if (domain && !strcmp(domain, "ai.onnx")) domain = "";
  return tn_ox_words(x, "%s\n%s\n%s", domain ? domain : "", name, overload ? overload : "");
}

static bool named(const char *s) { return s && *s; }

static tn_status check_graph(tn_ox_model *x, const char *where, const tn_ox_graph *g);

static tn_status check_node(tn_ox_model *x, const char *where, const Onnx__NodeProto *p, size_t i) {
  if (!named(p->op_type)) return bad(x, where, "node %zu '%.200s' has no op_type", i, p->name ? p->name : "");
  if (p->n_attribute > MAX_ATTRIBUTES)
    return bad(x, where, "node %zu '%.200s' has %zu attributes; the most is %d", i, p->name ? p->name : "",
               p->n_attribute, MAX_ATTRIBUTES);
  for (size_t k = 0; k < p->n_attribute; k++) {
    const Onnx__AttributeProto *a = p->attribute[k];
    if (!a->has_type && !named(a->ref_attr_name))
      return bad(x, where, "node %zu '%.200s': attribute '%.100s' has no type", i, p->name ? p->name : "",
                 a->name ? a->name : "");
    const char *inside =
        a->g || a->n_graphs ? tn_ox_words(x, "%s%snode %zu", where ? where : "", where ? ", " : "", i) : NULL;
    if (a->g) TN_TRY(check_graph(x, inside, a->g));
    for (size_t j = 0; j < a->n_graphs; j++) TN_TRY(check_graph(x, inside, a->graphs[j]));
  }
  return TN_OK;
}

static tn_status check_graph(tn_ox_model *x, const char *where, const tn_ox_graph *g) {
  for (size_t i = 0; i < g->n_input; i++)
    if (!named(g->input[i]->name)) return bad(x, where, "graph input %zu has no name", i);
  for (size_t i = 0; i < g->n_output; i++)
    if (!named(g->output[i]->name)) return bad(x, where, "graph output %zu has no name", i);
  for (size_t i = 0; i < g->n_initializer; i++)
    if (!named(g->initializer[i]->name)) return bad(x, where, "initializer %zu has no name", i);
  for (size_t i = 0; i < g->n_sparse_initializer; i++)
    if (!g->sparse_initializer[i]->values || !named(g->sparse_initializer[i]->values->name))
      return bad(x, where, "sparse initializer %zu has no name", i);
  for (size_t i = 0; i < g->n_node; i++) TN_TRY(check_node(x, where, g->node[i], i));
  return TN_OK;
}

static tn_status check_function(tn_ox_model *x, size_t i) {
  const Onnx__FunctionProto *f = x->proto->functions[i];
  if (!named(f->name)) return bad(x, NULL, "function %zu has no name", i);
  const char *where = tn_ox_words(x, "function '%.200s'", f->name);
  for (size_t k = 0; k < f->n_attribute_proto; k++)
    if (!named(f->attribute_proto[k]->name)) return bad(x, where, "attribute %zu has no name", k);
  bool was;
  TN_TRY(
      tn_map_put(&x->functions, tn_str_of(tn_ox_function_key(x, f->domain, f->name, f->overload)), i, &was));
  if (was) return bad(x, where, "stated twice");
  for (size_t k = 0; k < f->n_node; k++) TN_TRY(check_node(x, where, f->node[k], k));
  return TN_OK;
}

static const char *domain_of(const Onnx__OperatorSetIdProto *o) {
  return o->domain && *o->domain ? o->domain : "ai.onnx";
}

static tn_status check_opsets(tn_ox_model *x) {
  const Onnx__ModelProto *m = x->proto;
  if (!m->n_opset_import) return bad(x, NULL, "the model states no opset");
  if (m->n_opset_import > MAX_OPSETS)
    return bad(x, NULL, "the model states %zu opsets; the most is %d", m->n_opset_import, MAX_OPSETS);
  for (size_t i = 0; i < m->n_opset_import; i++) {
    const Onnx__OperatorSetIdProto *o = m->opset_import[i];
    const char *domain = o->domain ? o->domain : "";
    bool standard = !*domain || !strcmp(domain, "ai.onnx");
    if (standard) domain = "ai.onnx";
    for (size_t k = 0; k < i; k++)
      if (!strcmp(domain, domain_of(m->opset_import[k])) && o->version != m->opset_import[k]->version)
        return bad(x, NULL, "the opset of domain '%.100s' is stated twice, as %lld and %lld", domain,
                   (long long)m->opset_import[k]->version, (long long)o->version);
    if (o->version < MIN_OPSET)
      return bad(x, NULL, "opset %lld of domain '%.100s'", (long long)o->version, domain);
    if (standard && o->version > MAX_OPSET)
      return tn_fail(x->diags, TN_UNSUPPORTED, x->name, NULL,
                     "opset %lld of ai.onnx; known are those up to %d", (long long)o->version, MAX_OPSET);
  }
  return TN_OK;
}

tn_status tn_ox_model_check(tn_ox_model *x) {
  const Onnx__ModelProto *m = x->proto;
  if (!m->has_ir_version && !m->graph)
    return bad(x, NULL, "not an ONNX model: it has neither a version nor a graph");
  if (m->ir_version < MIN_IR || m->ir_version > MAX_IR)
    return tn_fail(x->diags, TN_UNSUPPORTED, x->name, NULL, "IR version %lld; known are %d to %d",
                   (long long)m->ir_version, MIN_IR, MAX_IR);
  if (!m->graph) return bad(x, NULL, "the model has no graph");
  TN_TRY(check_opsets(x));
  for (size_t i = 0; i < m->n_functions; i++) TN_TRY(check_function(x, i));
  return check_graph(x, NULL, m->graph);
}
