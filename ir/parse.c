/* parse.c - the module level of the text form: name, metadata, dims, weights, states, functions. README.md
 * has the grammar. All errors of a file are reported in one go: an item in error is skipped and the next one
 * is read. */
#include "ir/parse.h"
#include <locale.h>

/* ---- metadata and dims ---- */

static bool parse_meta(tn_parser *p) {
  const char *key, *value;
  tn_token at = p->tok;
  if (!tn_parse_string(p, "a metadata key", &key) || !tn_parse_expect(p, '=', "behind a metadata key") ||
      !tn_parse_string(p, "a metadata value", &value))
    return false;
  tn_parse_place(p, &at);
  return tn_ir_meta_set(p->m, key, value) ? tn_parse_failed(p) : true;
}

static bool parse_at_most(tn_parser *p, tn_dim low) {
  tn_token at = p->tok;
  if (!tn_parse_expect(p, 'L', "in a constraint")) return false;
  tn_dim high = tn_parse_dim(p);
  if (!high) return false;
  tn_parse_place(p, &at);
  return tn_ir_dim_constrain(p->m, low, high) ? tn_parse_failed(p) : true;
}

/* dims B, S <= 512 where P + S <= C */
static bool parse_dims(tn_parser *p) {
  do {
    if (p->tok.kind != TN_TOK_WORD)
      return tn_parse_error(p, &p->tok, "expected the name of a dim, not '%s'", tn_parse_token_text(p));
    tn_dim d = tn_ir_dim_sym(p->m, p->tok.text);
    if (!d) return tn_parse_failed(p);
    tn_parse_next(p);
    if (tn_parse_is(p, 'L') && !parse_at_most(p, d)) return false;
  } while (tn_parse_take(p, ','));
  if (!tn_parse_take_word(p, "where")) return true;
  do {
    tn_dim low = tn_parse_dim(p);
    if (!low || !parse_at_most(p, low)) return false;
  } while (tn_parse_take(p, ','));
  return true;
}

/* ---- weights and states ---- */

static bool parse_symbol(tn_parser *p, const char *what, const char **name, tn_type *t) {
  if (p->tok.kind != TN_TOK_SYMBOL)
    return tn_parse_error(p, &p->tok, "expected the @name of a %s, not '%s'", what, tn_parse_token_text(p));
  *name = p->tok.text;
  tn_parse_next(p);
  return tn_parse_expect(p, ':', "before a type") && (*t = tn_parse_type(p)) != 0;
}

/* "model.safetensors" + 0x0 : 0x90000, a file, an offset and a size in bytes */
static bool parse_part(tn_parser *p, tn_part *out) {
  return tn_parse_string(p, "a file", &out->file) && tn_parse_expect(p, '+', "behind a file") &&
         tn_parse_u64(p, "an offset", &out->offset) && tn_parse_expect(p, ':', "between offset and size") &&
         tn_parse_u64(p, "a size", &out->bytes);
}

static bool parse_weight(tn_parser *p) {
  const char *name;
  tn_type t;
  tn_token at = p->tok;
  TN_VEC(tn_part) parts = {0};
  const char *form = NULL;
  if (!parse_symbol(p, "weight", &name, &t)) return false;
  if (tn_parse_take_word(p, "form") && !tn_parse_string(p, "a form", &form)) return false;
  bool ok = true, more = tn_parse_take(p, '=');
  for (; ok && more; more = ok && tn_parse_take(p, ',')) {
    tn_part part = {0};
    ok = parse_part(p, &part);
    if (ok && !tn_vec_push(&parts, part)) ok = tn_parse_oom(p);
  }
  tn_parse_place(p, &at);
  tn_weight w = ok ? tn_ir_weight_add(p->m, name, t, parts.items, parts.count) : 0;
  if (ok && (!w || (form && tn_ir_weight_set_form(p->m, w, form)))) ok = tn_parse_failed(p);
  tn_vec_fini(&parts);
  return ok;
}

static bool parse_state(tn_parser *p) {
  const char *name;
  tn_type t;
  tn_token at = p->tok;
  if (!parse_symbol(p, "state", &name, &t)) return false;
  tn_parse_place(p, &at);
  return tn_ir_state_add(p->m, name, t) ? true : tn_parse_failed(p);
}

/* ---- functions ---- */

typedef TN_VEC(const char *) name_list;
typedef TN_VEC(tn_type) type_list;

static bool parse_args(tn_parser *p, tn_func f, tn_map *names) {
  if (!tn_parse_expect(p, '(', "behind a function's name")) return false;
  for (uint32_t n = 0; !tn_parse_take(p, ')'); n++) {
    if (n && !tn_parse_expect(p, ',', "between arguments")) return false;
    tn_token name = p->tok;
    if (name.kind != TN_TOK_VALUE)
      return tn_parse_error(p, &name, "expected an argument's name, not '%s'", tn_parse_token_text(p));
    tn_parse_next(p);
    if (!tn_parse_expect(p, ':', "behind an argument's name")) return false;
    tn_type t = tn_parse_type(p);
    if (!t) return false;
    tn_parse_place(p, &name);
    tn_value v = tn_ir_func_arg_add(p->m, f, name.text, t);
    if (!v) return tn_parse_failed(p);
    if (!tn_parse_define(p, names, &name, v)) return false;
  }
  return true;
}

/* (name: type, ...), or one type alone */
static bool parse_results(tn_parser *p, name_list *names, type_list *types) {
  bool list = tn_parse_take(p, '(');
  for (uint32_t n = 0; list ? !tn_parse_take(p, ')') : !n; n++) {
    if (n && !tn_parse_expect(p, ',', "between results")) return false;
    if (list) {
      bool named = p->tok.kind == TN_TOK_WORD || p->tok.kind == TN_TOK_STRING;
      if (!named)
        return tn_parse_error(p, &p->tok, "expected a result's name, not '%s'", tn_parse_token_text(p));
      if (!tn_vec_push(names, p->tok.text)) return tn_parse_oom(p);
      tn_parse_next(p);
      if (!tn_parse_expect(p, ':', "behind a result's name")) return false;
    }
    tn_type t = tn_parse_type(p);
    if (!t) return false;
    if (!tn_vec_push(types, t)) return tn_parse_oom(p);
  }
  return true;
}

static bool parse_func_attrs(tn_parser *p, tn_func f) {
  if (!tn_parse_expect(p, '{', "behind attrs")) return false;
  for (uint32_t n = 0; !tn_parse_take(p, '}'); n++) {
    if (n && !tn_parse_expect(p, ',', "between attributes")) return false;
    if (p->tok.kind != TN_TOK_WORD)
      return tn_parse_error(p, &p->tok, "expected an attribute's name, not '%s'", tn_parse_token_text(p));
    const char *name = p->tok.text;
    tn_attr a = {.kind = TN_ATTR_BOOL, .u.i = 1};
    tn_parse_next(p);
    if (tn_parse_take(p, '=') && !tn_parse_free_attr(p, &a)) return false;
    if (tn_ir_func_set_attr(p->m, f, name, &a)) return tn_parse_failed(p);
  }
  return true;
}

/* The stated results against what the return op gave. */
static void check_results(tn_parser *p, tn_func f, const tn_token *at, const type_list *types) {
  const tn_func_row *row = tn_func_row_of(p->m, f);
  if (!row->results) return; /* no return: the verifier's to say */
  if (row->nresults != types->count) {
    tn_parse_error(p, at, "function @%s states %u results, but returns %u", row->name, types->count,
                   row->nresults);
    return;
  }
  for (uint32_t i = 0; i < types->count; i++) {
    if (row->results[i] == types->items[i]) continue;
    tn_buf stated = {0}, returned = {0};
    tn_type_print(p->m, types->items[i], &stated);
    tn_type_print(p->m, row->results[i], &returned);
    tn_parse_error(p, at, "function @%s states result %u as %s, but returns %s", row->name, i,
                   tn_buf_cstr(&stated), tn_buf_cstr(&returned));
    tn_buf_fini(&stated);
    tn_buf_fini(&returned);
  }
}

static bool parse_func_with(tn_parser *p, tn_map *names, name_list *result_names, type_list *types) {
  tn_token at = p->tok;
  if (at.kind != TN_TOK_SYMBOL)
    return tn_parse_error(p, &at, "expected the @name of a function, not '%s'", tn_parse_token_text(p));
  tn_func f = tn_ir_func_add(p->m, at.text);
  if (!f) return tn_parse_failed(p);
  tn_parse_next(p);
  if (!parse_args(p, f, names) || !tn_parse_expect(p, '>', "behind a function's arguments") ||
      !parse_results(p, result_names, types))
    return false;
  if (result_names->count && tn_ir_func_result_names(p->m, f, result_names->items, result_names->count))
    return tn_parse_failed(p);
  if (tn_parse_take_word(p, "attrs") && !parse_func_attrs(p, f)) return false;
  tn_token open = p->tok;
  if (!tn_parse_expect(p, '{', "before a function's body")) return false;
  tn_parse_body(p, (tn_point){.func = f}, &open, names);
  check_results(p, f, &at, types);
  return true;
}

static bool parse_func(tn_parser *p) {
  tn_map names;
  name_list result_names = {0};
  type_list types = {0};
  tn_map_init(&names);
  bool ok = parse_func_with(p, &names, &result_names, &types);
  tn_map_fini(&names);
  tn_vec_fini(&result_names);
  tn_vec_fini(&types);
  return ok;
}

/* ---- the module ---- */

static const struct {
  const char *word;
  bool (*parse)(tn_parser *);
} items[] = {{"meta", parse_meta},
             {"dims", parse_dims},
             {"weight", parse_weight},
             {"state", parse_state},
             {"func", parse_func}};

static void parse_item(tn_parser *p) {
  tn_token from = p->tok;
  for (size_t i = 0; i < TN_COUNT(items); i++) {
    if (!tn_parse_take_word(p, items[i].word)) continue;
    if (!items[i].parse(p)) tn_parse_skip_line(p, &from);
    return;
  }
  const char *names[TN_COUNT(items)];
  for (size_t i = 0; i < TN_COUNT(items); i++) names[i] = items[i].word;
  int near = p->tok.kind == TN_TOK_WORD ? tn_str_nearest(p->tok.text, names, TN_COUNT(items)) : -1;
  if (p->tok.kind != TN_TOK_BAD)
    tn_parse_error(p, &p->tok, "expected meta, dims, weight, state or func, not '%s'%s%s%s",
                   tn_parse_token_text(p), near < 0 ? "" : "; did you mean '", near < 0 ? "" : names[near],
                   near < 0 ? "" : "'?");
  tn_parse_skip_line(p, &from);
}

static void parse_module(tn_parser *p) {
  tn_parse_next(p);
  tn_token open = p->tok;
  if (!tn_parse_take_word(p, "module")) {
    tn_parse_error(p, &p->tok, "expected a module, not '%s'", tn_parse_token_text(p));
    return;
  }
  if (p->tok.kind == TN_TOK_SYMBOL) {
    if (tn_ir_module_set_name(p->m, p->tok.text)) tn_parse_failed(p);
    tn_parse_next(p);
  }
  if (!tn_parse_expect(p, '{', "behind the module's name")) return;
  while (!tn_parse_is(p, '}') && p->tok.kind != TN_TOK_END) {
    const char *before = p->tok.start;
    parse_item(p);
    if (p->tok.start == before && p->tok.kind != TN_TOK_END) tn_parse_next(p);
  }
  if (!tn_parse_take(p, '}'))
    tn_parse_error(p, &open, "the module that opens here is not closed");
  else if (p->tok.kind != TN_TOK_END && p->tok.kind != TN_TOK_BAD)
    tn_parse_error(p, &p->tok, "'%s' is too much behind the module", tn_parse_token_text(p));
}

static tn_status parse_text(tn_parser *p, tn_str text) {
  uint64_t bad;
  if (!tn_utf8_valid(text, &bad)) {
    for (uint64_t i = 0; i < bad; i++)
      if (text.ptr[i] == '\n') p->line++, p->line_start = text.ptr + i + 1;
    tn_token at = {.line = p->line, .col = (uint32_t)(text.ptr + bad - p->line_start) + 1};
    tn_parse_error(p, &at, "the text is not valid UTF-8");
    return TN_INVALID;
  }
  p->m->reading.file = p->file;
  parse_module(p);
  p->m->reading.file = NULL;
  if (p->dry || p->m->arena.failed) return TN_OOM;
  return p->errors ? TN_INVALID : TN_OK;
}

tn_status tn_module_parse(tn_module *m, const char *name, tn_str text) {
  tn_parser p = {.m = m,
                 .file = name,
                 .at = text.ptr,
                 .end = text.ptr + text.len,
                 .line = 1,
                 .line_start = text.ptr,
                 .fresh = true};
  locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0); /* numbers are read as they are printed */
  if (!c) return tn_module_oom(m);
  tn_arena_init(&p.arena);
  locale_t old = uselocale(c);
  tn_status status = parse_text(&p, text);
  uselocale(old);
  freelocale(c);
  tn_arena_fini(&p.arena);
  return status;
}
