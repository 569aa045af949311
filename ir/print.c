/* print.c - the canonical text of a module (README.md has the grammar). Value names are hints made unique
 * within a body, values without one are numbered in order; so names, like everything else, come back the same
 * when the text is read and printed again. */
#include "ir/module.h"
#include <locale.h>

typedef struct printer {
  tn_module *m;
  tn_buf *out;
  uint32_t flags;
  tn_arena arena;     /* unique names */
  const char **names; /* by value; NULL: not defined yet */
} printer;

typedef struct scope {
  tn_map used;
  uint32_t next; /* number of the next value without a hint */
} scope;

static void scope_name(printer *p, scope *s, tn_value v) {
  const char *hint = p->m->values.items[v].name, *name = hint;
  /* An argument may be called 0: then the numbers begin behind it. */
  while (!hint && (name = tn_arena_printf(&p->arena, "%u", s->next++)) &&
         tn_map_get(&s->used, tn_str_of(name), NULL)) {}
  for (uint32_t n = 1; hint && name && tn_map_get(&s->used, tn_str_of(name), NULL); n++)
    name = tn_arena_printf(&p->arena, "%s_%u", hint, n);
  if (!name || (hint && tn_map_put(&s->used, tn_str_of(name), 0, NULL)))
    p->out->failed = true;
  else
    p->names[v] = name;
}

static void print_value(printer *p, tn_value v) {
  const tn_value_row *row = tn_value_row_of(p->m, v);
  if (!v)
    tn_buf_puts(p->out, "_");
  else if (row->kind == TN_VALUE_WEIGHT || row->kind == TN_VALUE_STATE)
    tn_text_name(p->out, "@", row->name);
  else if (v < p->m->values.count && p->names[v])
    tn_text_name(p->out, "%", p->names[v]);
  else
    tn_buf_printf(p->out, "%%\"? value %u\"", v); /* not visible here: the verifier says so */
}

/* ---- attributes and locations ---- */

static void print_list(printer *p, const tn_attr *a) {
  tn_buf_puts(p->out, "[");
  for (uint32_t i = 0; i < a->count; i++) {
    if (i) tn_buf_puts(p->out, ", ");
    if (a->kind == TN_ATTR_INTS)
      tn_buf_printf(p->out, "%lld", (long long)a->u.ints[i]);
    else
      tn_dim_print(p->m, a->u.dims[i], p->out);
  }
  tn_buf_puts(p->out, "]");
}

static void print_attr(printer *p, const tn_attr *a, tn_type data_type) {
  tn_type_info t;
  switch (a->kind) {
  case TN_ATTR_BOOL: tn_buf_puts(p->out, a->u.i ? "true" : "false"); break;
  case TN_ATTR_INT: tn_buf_printf(p->out, "%lld", (long long)a->u.i); break;
  case TN_ATTR_FLOAT: tn_text_f64(p->out, a->u.f); break;
  case TN_ATTR_STR: tn_buf_json(p->out, tn_str_of(a->u.s)); break;
  case TN_ATTR_INTS:
  case TN_ATTR_DIMS: print_list(p, a); break;
  case TN_ATTR_DIM: tn_dim_print(p->m, a->u.dim, p->out); break;
  case TN_ATTR_DTYPE: tn_buf_puts(p->out, tn_ir_dtype_info((tn_dtype)a->u.i)->name); break;
  case TN_ATTR_DATA:
    tn_ir_type_get(p->m, data_type, &t);
    tn_text_data(p->out, t.dtype, t.dtype && !t.rank, a->u.data);
    break;
  }
}

static void print_op_attrs(printer *p, const tn_op_row *op, const tn_op_spec *s) {
  tn_type data_type = op->nresults ? p->m->values.items[op->results].type : 0;
  bool open = false;
  for (uint32_t i = 0; i < s->nattrs; i++) {
    const tn_attr *a = &op->attrs[i];
    if (tn_attr_is_default(p->m, &s->attrs[i], a)) continue;
    tn_buf_printf(p->out, "%s%s", open ? ", " : " {", s->attrs[i].name);
    open = true;
    if (a->kind == TN_ATTR_BOOL && a->u.i) continue;
    tn_buf_puts(p->out, " = ");
    print_attr(p, a, data_type);
  }
  if (open) tn_buf_puts(p->out, "}");
}

/* An op's table tells the kind of an attribute; a function's attributes say it themselves where the value
 * does not. */
static void print_func_attrs(printer *p, const tn_func_row *f) {
  static const char *const words[] = {[TN_ATTR_INTS] = "ints ",
                                      [TN_ATTR_DIM] = "dim ",
                                      [TN_ATTR_DIMS] = "dims ",
                                      [TN_ATTR_DTYPE] = "type ",
                                      [TN_ATTR_DATA] = "data "};
  if (!f->attrs.count) return;
  tn_buf_puts(p->out, " attrs {");
  for (uint32_t i = 0; i < f->attrs.count; i++) {
    const tn_attr *a = &f->attrs.items[i].attr;
    const char *word = words[a->kind];
    tn_buf_printf(p->out, "%s%s = %s", i ? ", " : "", f->attrs.items[i].name, word ? word : "");
    print_attr(p, a, 0);
  }
  tn_buf_puts(p->out, "}");
}

static void print_loc_body(printer *p, tn_loc l) {
  tn_loc_info info;
  tn_ir_loc_get(p->m, l, &info);
  static const char *const words[] = {[TN_LOC_NODE] = "node ",
                                      [TN_LOC_TENSOR] = "tensor ",
                                      [TN_LOC_PAGE] = "page ",
                                      [TN_LOC_FUSED] = "fused ",
                                      [TN_LOC_DERIVED] = "derived "};
  if (!info.kind) return;
  if (words[info.kind]) tn_buf_puts(p->out, words[info.kind]);
  if (info.kind == TN_LOC_NODE) tn_buf_printf(p->out, "%u ", info.line);
  tn_buf_json(p->out, tn_str_of(info.name));
  if (info.kind == TN_LOC_FILE || info.kind == TN_LOC_PAGE)
    tn_buf_printf(p->out, " %u:%u", info.line, info.col);
  if (info.kind < TN_LOC_FUSED) return;
  tn_buf_puts(p->out, " (");
  print_loc_body(p, info.a);
  if (info.b) tn_buf_puts(p->out, ", ");
  if (info.b) print_loc_body(p, info.b);
  tn_buf_puts(p->out, ")");
}

static void print_loc(printer *p, tn_loc l) {
  if (p->flags & TN_PRINT_NO_LOCS) return;
  tn_buf_puts(p->out, " loc(");
  print_loc_body(p, l);
  tn_buf_puts(p->out, ")");
}

/* ---- ops ---- */

static void print_region(printer *p, scope *s, tn_op first, const char *indent);

static void print_body(printer *p, const tn_op_row *op, const char *indent) {
  scope inner = {0};
  tn_map_init(&inner.used);
  tn_buf_printf(p->out, " {\n%s  ^(", indent);
  for (uint32_t i = 0; i < op->body.args.count; i++) {
    tn_value v = op->body.args.items[i];
    scope_name(p, &inner, v);
    if (i) tn_buf_puts(p->out, ", ");
    print_value(p, v);
    tn_buf_puts(p->out, ": ");
    tn_type_print(p->m, p->m->values.items[v].type, p->out);
  }
  tn_buf_puts(p->out, "):\n");
  print_region(p, &inner, op->body.first, "      ");
  tn_buf_printf(p->out, "%s}", indent);
  tn_map_fini(&inner.used);
}

static void print_op(printer *p, scope *s, tn_op id, const char *indent) {
  const tn_op_row *op = &p->m->ops.items[id];
  const tn_op_spec *spec = tn_op_spec_of(op->code);
  tn_buf_puts(p->out, indent);
  for (uint32_t i = 0; i < op->nresults; i++) {
    scope_name(p, s, op->results + i);
    if (i) tn_buf_puts(p->out, ", ");
    print_value(p, op->results + i);
  }
  tn_buf_printf(p->out, "%s%s", op->nresults ? " = " : "", spec->name);
  for (uint32_t i = 0; i < op->noperands; i++) {
    tn_buf_puts(p->out, i ? ", " : " ");
    print_value(p, op->operands[i]);
  }
  print_op_attrs(p, op, spec);
  for (uint32_t i = 0; i < op->nresults; i++) {
    tn_buf_puts(p->out, i ? ", " : " : ");
    tn_type_print(p->m, p->m->values.items[op->results + i].type, p->out);
  }
  print_loc(p, op->loc);
  if (spec->flags & TN_F_REGION) print_body(p, op, indent);
  tn_buf_puts(p->out, "\n");
}

static void print_region(printer *p, scope *s, tn_op first, const char *indent) {
  for (tn_op op = first; op; op = p->m->ops.items[op].next) print_op(p, s, op, indent);
}

/* ---- module level ---- */

static void print_result_name(printer *p, const char *name) {
  if (tn_name_is_word(name))
    tn_buf_puts(p->out, name);
  else
    tn_buf_json(p->out, tn_str_of(name));
}

static void print_func(printer *p, const tn_func_row *f) {
  scope s = {0};
  tn_map_init(&s.used);
  tn_text_name(p->out, "\n  func @", f->name);
  tn_buf_puts(p->out, "(");
  for (uint32_t i = 0; i < f->body.args.count; i++) {
    tn_value v = f->body.args.items[i];
    scope_name(p, &s, v);
    if (i) tn_buf_puts(p->out, ", ");
    print_value(p, v);
    tn_buf_puts(p->out, ": ");
    tn_type_print(p->m, p->m->values.items[v].type, p->out);
  }
  tn_buf_puts(p->out, ") -> (");
  for (uint32_t i = 0; i < f->nresults; i++) {
    if (i) tn_buf_puts(p->out, ", ");
    print_result_name(p, f->result_names[i]);
    tn_buf_puts(p->out, ": ");
    tn_type_print(p->m, f->results[i], p->out);
  }
  tn_buf_puts(p->out, ")");
  print_func_attrs(p, f);
  tn_buf_puts(p->out, " {\n");
  print_region(p, &s, f->body.first, "    ");
  tn_buf_puts(p->out, "  }\n");
  tn_map_fini(&s.used);
}

/* The constraint that stands beside the symbol (`S <= 512`): the first with that left side and a constant. */
static uint32_t inline_constraint(tn_module *m, tn_dim symbol) {
  int64_t v;
  uint32_t i = 0;
  for (; i < m->constraints.count; i++)
    if (m->constraints.items[i].a == symbol && tn_ir_dim_is_const(m, m->constraints.items[i].b, &v)) break;
  return i;
}

static void print_dims(printer *p) {
  tn_module *m = p->m;
  if (!m->dim_symbols.count) return;
  tn_buf_puts(p->out, "  dims ");
  for (uint32_t i = 0; i < m->dim_symbols.count; i++) {
    tn_buf_puts(p->out, i ? ", " : "");
    tn_dim_print(m, m->dim_symbols.items[i], p->out);
    uint32_t at = inline_constraint(m, m->dim_symbols.items[i]);
    if (at == m->constraints.count) continue;
    tn_buf_puts(p->out, " <= ");
    tn_dim_print(m, m->constraints.items[at].b, p->out);
  }
  bool any = false;
  for (uint32_t i = 0; i < m->constraints.count; i++) {
    tn_dim_pair c = m->constraints.items[i];
    if (m->dims.items[c.a].kind == TN_DIM_SYM && inline_constraint(m, c.a) == i) continue;
    tn_buf_puts(p->out, any ? ", " : " where ");
    tn_dim_print(m, c.a, p->out);
    tn_buf_puts(p->out, " <= ");
    tn_dim_print(m, c.b, p->out);
    any = true;
  }
  tn_buf_puts(p->out, "\n");
}

static void print_symbol(printer *p, const char *word, const char *name, tn_value v) {
  tn_buf_printf(p->out, "  %s ", word);
  tn_text_name(p->out, "@", name);
  tn_buf_puts(p->out, " : ");
  tn_type_print(p->m, p->m->values.items[v].type, p->out);
}

static void print_weight(printer *p, const tn_weight_row *w) {
  print_symbol(p, "weight", w->name, w->value);
  if (w->form) {
    tn_buf_puts(p->out, " form ");
    tn_buf_json(p->out, tn_str_of(w->form));
  }
  for (uint32_t i = 0; i < w->nparts; i++) {
    tn_buf_puts(p->out, i ? ", " : " = ");
    tn_buf_json(p->out, tn_str_of(w->parts[i].file));
    tn_buf_printf(p->out, " + 0x%llx : 0x%llx", (unsigned long long)w->parts[i].offset,
                  (unsigned long long)w->parts[i].bytes);
  }
  tn_buf_puts(p->out, "\n");
}

static void print_module(printer *p) {
  tn_module *m = p->m;
  tn_text_name(p->out, "module @", m->name);
  tn_buf_puts(p->out, " {\n");
  for (uint32_t i = 0; i < m->meta.count; i++) {
    tn_buf_puts(p->out, "  meta ");
    tn_buf_json(p->out, tn_str_of(m->meta.items[i].key));
    tn_buf_puts(p->out, " = ");
    tn_buf_json(p->out, tn_str_of(m->meta.items[i].value));
    tn_buf_puts(p->out, "\n");
  }
  print_dims(p);
  for (uint32_t i = 1; i < m->weights.count; i++) print_weight(p, &m->weights.items[i]);
  for (uint32_t i = 1; i < m->states.count; i++) {
    print_symbol(p, "state", m->states.items[i].name, m->states.items[i].value);
    tn_buf_puts(p->out, "\n");
  }
  for (uint32_t i = 1; i < m->funcs.count; i++) print_func(p, &m->funcs.items[i]);
  tn_buf_puts(p->out, "}\n");
}

tn_status tn_module_print_flags(tn_module *m, tn_buf *out, uint32_t flags) {
  printer p = {.m = m, .out = out, .flags = flags};
  tn_arena_init(&p.arena);
  p.names = tn_mem_alloc(m->values.count * sizeof *p.names);
  locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0); /* the program's locale may write 1,5 */
  if (p.names && c) {
    locale_t old = uselocale(c);
    print_module(&p);
    uselocale(old);
  }
  bool ok = p.names && c && !out->failed;
  if (c) freelocale(c);
  tn_mem_free(p.names);
  tn_arena_fini(&p.arena);
  return ok ? TN_OK : tn_module_oom(m);
}

tn_status tn_module_print(tn_module *m, tn_buf *out) { return tn_module_print_flags(m, out, 0); }
