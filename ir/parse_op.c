/* parse_op.c - ops and bodies. What an op in error would have defined is entered as "poisoned": ops that use
 * it are read for their own errors but not built, so one mistake gives one message. */
#include "ir/parse.h"

typedef TN_VEC(tn_token) token_list;

typedef struct op_text {
  tn_token at, name, data; /* first token; mnemonic; first token of a DATA value */
  tn_parser data_at;       /* where to read it, once the type is known */
  token_list results;
  TN_VEC(tn_value) operands;
  TN_VEC(tn_named_attr) attrs;
  TN_VEC(tn_type) types;
  const tn_op_spec *spec;
  tn_loc loc;
  bool poisoned, has_data;
  uint32_t data_attr;
} op_text;

static void op_text_fini(op_text *o) {
  tn_vec_fini(&o->results);
  tn_vec_fini(&o->operands);
  tn_vec_fini(&o->attrs);
  tn_vec_fini(&o->types);
}

/* ---- names ---- */

static bool is_number(const char *s) { return *s && strspn(s, "0123456789") == strlen(s); }

bool tn_parse_define(tn_parser *p, tn_map *names, const tn_token *name, tn_value v) {
  if (tn_map_get(names, tn_str_of(name->text), NULL))
    return tn_parse_error(p, name, "%%%s is defined twice", name->text);
  if (tn_map_put(names, tn_str_of(name->text), v, NULL)) return tn_parse_oom(p);
  const tn_value_row *row = tn_value_row_of(p->m, v);
  bool hint = v && !row->name && !is_number(name->text);
  return !hint || !tn_ir_value_set_name(p->m, v, name->text) ? true : tn_parse_failed(p);
}

static const char *nearest_name(tn_parser *p, const tn_map *names, const char *name) {
  const char **list = tn_arena_alloc(&p->arena, ((size_t)names->count + 1) * sizeof *list);
  for (uint32_t i = 0; list && i < names->count; i++) list[i] = names->entries[i].key;
  int near = list ? tn_str_nearest(name, list, (int)names->count) : -1;
  return near < 0 ? NULL : list[near];
}

static bool parse_operand(tn_parser *p, op_text *o, tn_map *names) {
  uint64_t v = 0;
  bool local = p->tok.kind == TN_TOK_VALUE, global = p->tok.kind == TN_TOK_SYMBOL;
  if (local && !tn_map_get(names, tn_str_of(p->tok.text), &v)) {
    const char *near = nearest_name(p, names, p->tok.text);
    tn_parse_error(p, &p->tok, "%%%s is not defined%s%s%s", p->tok.text, near ? "; did you mean '%" : "",
                   near ? near : "", near ? "'?" : "");
  }
  if (global && !(v = tn_module_symbol(p->m, tn_str_of(p->tok.text)))) {
    const char *near = nearest_name(p, &p->m->symbols, p->tok.text);
    tn_parse_error(p, &p->tok, "there is no weight or state @%s%s%s%s", p->tok.text,
                   near ? "; did you mean '@" : "", near ? near : "", near ? "'?" : "");
  }
  if ((local || global) && !v) o->poisoned = true;
  if (!local && !global && !tn_parse_is_word(p, "_"))
    return tn_parse_error(p, &p->tok, "expected an operand, not '%s'", tn_parse_token_text(p));
  if (!tn_vec_push(&o->operands, (tn_value)v)) return tn_parse_oom(p);
  tn_parse_next(p);
  return true;
}

/* ---- the parts of an op ---- */

/* %a, %b = */
static bool parse_results(tn_parser *p, op_text *o) {
  while (p->tok.kind == TN_TOK_VALUE) {
    if (!tn_vec_push(&o->results, p->tok)) return tn_parse_oom(p);
    tn_parse_next(p);
    if (tn_parse_take(p, '=')) return true;
    if (!tn_parse_expect(p, ',', "or '=' behind the name of a result")) return false;
  }
  return !o->results.count ||
         tn_parse_error(p, &p->tok, "expected the name of a result, not '%s'", tn_parse_token_text(p));
}

static bool parse_mnemonic(tn_parser *p, op_text *o) {
  if (p->tok.kind == TN_TOK_BAD) return false;
  if (p->tok.kind != TN_TOK_WORD)
    return tn_parse_error(p, &p->tok, "expected an op, not '%s'", tn_parse_token_text(p));
  o->name = p->tok;
  o->spec = tn_op_spec_of(tn_ir_opcode_by_name(p->tok.text));
  if (!o->spec) {
    const char *names[TN_OPC_COUNT];
    for (uint32_t i = 1; i < TN_OPC_COUNT; i++) names[i - 1] = tn_ir_opcode_name(i);
    int near = tn_str_nearest(p->tok.text, names, TN_OPC_COUNT - 1);
    return tn_parse_error(p, &p->tok, "there is no op '%s'%s%s%s", p->tok.text,
                          near < 0 ? "" : "; did you mean '", near < 0 ? "" : names[near],
                          near < 0 ? "" : "'?");
  }
  tn_parse_next(p);
  return true;
}

static bool parse_named_attr(tn_parser *p, op_text *o) {
  if (p->tok.kind != TN_TOK_WORD)
    return tn_parse_error(p, &p->tok, "expected an attribute's name, not '%s'", tn_parse_token_text(p));
  int at = tn_attr_find(o->spec, p->tok.text);
  if (at < 0) {
    const char *names[32];
    uint32_t n = 0;
    for (; n < o->spec->nattrs && n < TN_COUNT(names); n++) names[n] = o->spec->attrs[n].name;
    int near = tn_str_nearest(p->tok.text, names, (int)n);
    return tn_parse_error(p, &p->tok, "%s has no attribute '%s'%s%s%s", o->spec->name, p->tok.text,
                          near < 0 ? "" : "; did you mean '", near < 0 ? "" : names[near],
                          near < 0 ? "" : "'?");
  }
  tn_named_attr a = {o->spec->attrs[at].name, {.kind = o->spec->attrs[at].kind}};
  tn_parse_next(p);
  bool data = a.attr.kind == TN_ATTR_DATA, flag = a.attr.kind == TN_ATTR_BOOL && !tn_parse_is(p, '=');
  if (flag)
    a.attr.u.i = 1;
  else if (!tn_parse_expect(p, '=', "behind an attribute's name"))
    return false;
  if (data) {
    o->has_data = true;
    o->data_attr = o->attrs.count;
    o->data_at = *p;
    if (!tn_parse_skip_data(p)) return false;
  } else if (!flag && !tn_parse_attr(p, a.attr.kind, &a.attr))
    return false;
  return tn_vec_push(&o->attrs, a) ? true : tn_parse_oom(p);
}

static bool parse_attrs(tn_parser *p, op_text *o) {
  for (tn_parse_next(p); !tn_parse_take(p, '}');) {
    if (o->attrs.count && !tn_parse_expect(p, ',', "between attributes")) return false;
    if (!parse_named_attr(p, o)) return false;
  }
  return true;
}

/* Re-reads the value of a DATA attribute as elements of the first result's type. */
static bool parse_deferred_data(tn_parser *p, op_text *o) {
  tn_type_info t;
  if (!o->types.count)
    return tn_parse_error(p, &o->name, "%s: the result type must be stated", o->spec->name);
  tn_ir_type_get(p->m, o->types.items[0], &t);
  tn_parser back = o->data_at;
  back.arena = p->arena;
  back.errors = p->errors;
  back.dry = p->dry;
  bool ok = tn_parse_data(&back, t.dtype, &o->attrs.items[o->data_attr].attr.u.data);
  p->arena = back.arena;
  p->errors = back.errors;
  p->dry = back.dry;
  return ok;
}

/* True if the brace ahead opens a body, not attributes. */
static bool body_ahead(tn_parser *p) {
  tn_parser ahead = *p;
  tn_parse_next(&ahead);
  p->arena = ahead.arena;
  p->errors = ahead.errors;
  p->dry = ahead.dry;
  return tn_parse_is(&ahead, '^');
}

static bool parse_types(tn_parser *p, op_text *o) {
  do {
    tn_type t = tn_parse_type(p);
    if (!t) return false;
    if (!tn_vec_push(&o->types, t)) return tn_parse_oom(p);
  } while (tn_parse_take(p, ','));
  return true;
}

/* Everything of an op up to its body. Operands and what follows stand on the op's line, or behind a comma. */
static bool parse_parts(tn_parser *p, op_text *o, tn_map *names) {
  if (!parse_results(p, o) || !parse_mnemonic(p, o)) return false;
  bool operands = !p->tok.first &&
                  (p->tok.kind == TN_TOK_VALUE || p->tok.kind == TN_TOK_SYMBOL || tn_parse_is_word(p, "_"));
  if (operands) {
    do {
      if (!parse_operand(p, o, names)) return false;
    } while (tn_parse_take(p, ','));
  }
  if (tn_parse_is(p, '{') && !(o->spec->flags & TN_F_REGION && body_ahead(p)) && !parse_attrs(p, o))
    return false;
  if (tn_parse_take(p, ':') && !parse_types(p, o)) return false;
  if (tn_parse_take_word(p, "loc") && !(o->loc = tn_parse_loc(p))) return false;
  if (o->has_data && !parse_deferred_data(p, o)) return false;
  bool region = o->spec->flags & TN_F_REGION;
  if (!region && !p->tok.first && !tn_parse_is(p, '}') && p->tok.kind != TN_TOK_END)
    return p->tok.kind != TN_TOK_BAD &&
           tn_parse_error(p, &p->tok, "'%s' is too much behind an op", tn_parse_token_text(p));
  return true;
}

/* ---- building ---- */

static tn_op build(tn_parser *p, op_text *o, tn_point end) {
  if (o->poisoned) return 0;
  if (!o->loc) {
    tn_loc_info info = {.kind = TN_LOC_FILE, .line = o->at.line, .col = o->at.col, .name = p->file};
    o->loc = tn_ir_loc_make(p->m, &info);
  }
  bool stated = o->types.count > 0;
  tn_op_desc d = {.name = o->spec->name,
                  .operands = o->operands.items,
                  .noperands = o->operands.count,
                  .nattrs = o->attrs.count,
                  .attrs = o->attrs.items,
                  .results = stated ? o->types.items : NULL,
                  .nresults = stated ? o->types.count : o->results.count,
                  .loc = o->loc};
  tn_op op = o->loc ? tn_ir_op_create(p->m, end, &d) : 0;
  if (!op) tn_parse_failed(p);
  uint32_t n = tn_ir_op_nresults(p->m, op);
  if (op && n != o->results.count)
    tn_parse_error(p, &o->at, "%s has %u result%s, but %u %s named", o->spec->name, n, n == 1 ? "" : "s",
                   o->results.count, o->results.count == 1 ? "is" : "are");
  return op;
}

/* ^(%a: type, ...): behind the brace */
static bool parse_body_args(tn_parser *p, tn_op kernel, tn_map *names) {
  uint32_t n = 0;
  if (!tn_parse_expect(p, '^', "at the start of a kernel's body") || !tn_parse_expect(p, '(', "behind ^"))
    return false;
  for (; !tn_parse_take(p, ')'); n++) {
    if (n && !tn_parse_expect(p, ',', "between arguments")) return false;
    tn_token name = p->tok;
    if (name.kind != TN_TOK_VALUE)
      return tn_parse_error(p, &name, "expected an argument's name, not '%s'", tn_parse_token_text(p));
    tn_parse_next(p);
    if (!tn_parse_expect(p, ':', "behind an argument's name")) return false;
    tn_type t = tn_parse_type(p);
    tn_value v = t ? tn_ir_body_arg_add(p->m, kernel, t) : 0;
    if (t && !v) tn_parse_failed(p);
    if (!t || !tn_parse_define(p, names, &name, v)) return false;
  }
  return tn_parse_expect(p, ':', "behind the arguments of a body");
}

static void parse_region(tn_parser *p, tn_op kernel) {
  tn_map names;
  tn_token open = p->tok;
  tn_map_init(&names);
  tn_parse_next(p);
  if (parse_body_args(p, kernel, &names))
    tn_parse_body(p, (tn_point){.parent = kernel}, &open, &names);
  else
    tn_parse_skip_block(p);
  tn_map_fini(&names);
}

static void parse_op(tn_parser *p, tn_point end, tn_map *names) {
  op_text o = {.at = p->tok};
  bool read = parse_parts(p, &o, names);
  tn_op op = read ? build(p, &o, end) : 0;
  bool region = read && o.spec->flags & TN_F_REGION;
  if (op && region && tn_parse_is(p, '{'))
    parse_region(p, op);
  else if (op && region)
    tn_parse_error(p, &p->tok, "a kernel needs a body, not '%s'", tn_parse_token_text(p));
  else if (!read || region)
    tn_parse_skip_line(p, &o.at);
  for (uint32_t i = 0; i < o.results.count; i++)
    tn_parse_define(p, names, &o.results.items[i], tn_ir_op_result(p->m, op, i));
  op_text_fini(&o);
}

void tn_parse_body(tn_parser *p, tn_point end, const tn_token *open, tn_map *names) {
  while (!tn_parse_is(p, '}') && p->tok.kind != TN_TOK_END) {
    const char *before = p->tok.start;
    parse_op(p, end, names);
    if (p->tok.start == before && p->tok.kind != TN_TOK_END) tn_parse_next(p); /* never stand still */
  }
  if (!tn_parse_take(p, '}')) tn_parse_error(p, open, "the body that opens here is not closed");
}
