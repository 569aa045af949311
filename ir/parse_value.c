/* parse_value.c - dims, types, numbers, attributes, data and locations. */
#include "ir/parse.h"
#include <errno.h>
#include <stdlib.h>

/* ---- numbers and strings ---- */

bool tn_parse_u64(tn_parser *p, const char *what, uint64_t *out) {
  char *end = NULL;
  errno = 0;
  if (p->tok.kind == TN_TOK_NUMBER) {
    const char *s = p->tok.text;
    *out = strtoull(s, &end, s[0] == '0' && (s[1] | 0x20) == 'x' ? 16 : 10);
  }
  if (!end || *end || errno)
    return tn_parse_error(p, &p->tok, "%s is no number: '%s'", what, tn_parse_token_text(p));
  tn_parse_next(p);
  return true;
}

bool tn_parse_int(tn_parser *p, int64_t *out) {
  tn_token at = p->tok;
  bool minus = tn_parse_take(p, '-');
  uint64_t v, limit = (uint64_t)INT64_MAX + minus;
  if (!tn_parse_u64(p, "an integer", &v)) return false;
  if (v > limit) return tn_parse_error(p, &at, "an integer does not fit 64 bits");
  *out = minus ? (int64_t)(0 - v) : (int64_t)v;
  return true;
}

static bool parse_float(tn_parser *p, double *out) {
  bool minus = tn_parse_take(p, '-'), word = tn_parse_is_word(p, "inf") || tn_parse_is_word(p, "nan");
  char *end = NULL;
  if (p->tok.kind == TN_TOK_NUMBER || word) *out = strtod(p->tok.text, &end);
  if (!end || *end) return tn_parse_error(p, &p->tok, "expected a number, not '%s'", tn_parse_token_text(p));
  if (minus) *out = -*out;
  tn_parse_next(p);
  return true;
}

bool tn_parse_string(tn_parser *p, const char *what, const char **out) {
  if (p->tok.kind == TN_TOK_BAD) return false;
  if (p->tok.kind != TN_TOK_STRING)
    return tn_parse_error(p, &p->tok, "expected %s as a string, not '%s'", what, tn_parse_token_text(p));
  *out = p->tok.text;
  tn_parse_next(p);
  return true;
}

/* ---- dims ---- */

static tn_dim parse_sum(tn_parser *p, uint32_t depth);

static tn_dim dim_or_fail(tn_parser *p, tn_dim d) {
  if (!d) tn_parse_failed(p);
  return d;
}

static tn_dim parse_symbol(tn_parser *p) {
  tn_module *m = p->m;
  for (uint32_t i = 0; i < tn_dim_symbols(m); i++) {
    if (strcmp(tn_dim_symbol(m, i), p->tok.text)) continue;
    tn_parse_next(p);
    return m->dim_symbols.items[i];
  }
  const char *names[64];
  uint32_t n = 0;
  for (; n < tn_dim_symbols(m) && n < TN_COUNT(names); n++) names[n] = tn_dim_symbol(m, n);
  int near = tn_str_nearest(p->tok.text, names, (int)n);
  tn_parse_error(p, &p->tok, "dim '%s' is not declared%s%s%s", p->tok.text,
                 near < 0 ? "" : "; did you mean '", near < 0 ? "" : names[near], near < 0 ? "" : "'?");
  return 0;
}

static tn_dim parse_choice(tn_parser *p, uint32_t kind, uint32_t depth) {
  tn_parse_next(p);
  if (!tn_parse_expect(p, '(', "behind min or max")) return 0;
  tn_dim a = parse_sum(p, depth),
         b = a && tn_parse_expect(p, ',', "between two dims") ? parse_sum(p, depth) : 0;
  if (!b || !tn_parse_expect(p, ')', "behind two dims")) return 0;
  return dim_or_fail(p, tn_ir_dim_make(p->m, kind, a, b));
}

static tn_dim parse_factor(tn_parser *p, uint32_t depth) {
  int64_t v;
  if (depth > TN_PARSE_DEPTH) {
    tn_parse_error(p, &p->tok, "a dim expression is nested more than %d deep", TN_PARSE_DEPTH);
    return 0;
  }
  if (p->tok.kind == TN_TOK_NUMBER) return tn_parse_int(p, &v) ? dim_or_fail(p, tn_ir_dim_const(p->m, v)) : 0;
  if (tn_parse_is_word(p, "min")) return parse_choice(p, TN_DIM_MIN, depth);
  if (tn_parse_is_word(p, "max")) return parse_choice(p, TN_DIM_MAX, depth);
  if (p->tok.kind == TN_TOK_WORD) return parse_symbol(p);
  if (tn_parse_take(p, '?')) return dim_or_fail(p, tn_ir_dim_make(p->m, TN_DIM_UNKNOWN, 0, 0));
  if (tn_parse_take(p, '(')) {
    tn_dim d = parse_sum(p, depth);
    return d && tn_parse_expect(p, ')', "behind a dim") ? d : 0;
  }
  if (p->tok.kind != TN_TOK_BAD)
    tn_parse_error(p, &p->tok, "expected a dim, not '%s'", tn_parse_token_text(p));
  return 0;
}

static tn_dim parse_product(tn_parser *p, uint32_t depth) {
  tn_dim d = parse_factor(p, depth);
  while (d && (tn_parse_is(p, '*') || tn_parse_is(p, '/') || tn_parse_is(p, '%'))) {
    uint32_t kind = tn_parse_is(p, '*') ? TN_DIM_MUL : tn_parse_is(p, '/') ? TN_DIM_FLOORDIV : TN_DIM_MOD;
    tn_parse_next(p);
    tn_dim b = parse_factor(p, depth);
    d = b ? dim_or_fail(p, tn_ir_dim_make(p->m, kind, d, b)) : 0;
  }
  return d;
}

static tn_dim parse_sum(tn_parser *p, uint32_t depth) {
  bool minus = tn_parse_take(p, '-');
  tn_dim d = parse_product(p, depth + 1);
  if (d && minus) d = dim_or_fail(p, tn_dim_mul(p->m, d, tn_ir_dim_const(p->m, -1)));
  while (d && (tn_parse_is(p, '+') || tn_parse_is(p, '-'))) {
    minus = tn_parse_is(p, '-');
    tn_parse_next(p);
    tn_dim b = parse_product(p, depth + 1);
    d = b ? dim_or_fail(p, minus ? tn_dim_sub(p->m, d, b) : tn_dim_add(p->m, d, b)) : 0;
  }
  return d;
}

tn_dim tn_parse_dim(tn_parser *p) { return parse_sum(p, 0); }

/* ---- types ---- */

static tn_dtype parse_dtype(tn_parser *p) {
  if (p->tok.kind != TN_TOK_WORD) {
    if (p->tok.kind != TN_TOK_BAD)
      tn_parse_error(p, &p->tok, "expected an element type, not '%s'", tn_parse_token_text(p));
    return 0;
  }
  tn_dtype t = tn_ir_dtype_by_name(p->tok.text);
  if (t)
    tn_parse_next(p);
  else
    tn_parse_error(p, &p->tok, "there is no element type '%s'", p->tok.text);
  return t;
}

tn_type tn_parse_type(tn_parser *p) {
  tn_dim dims[TN_MAX_RANK];
  uint32_t rank = 0;
  const char *layout = NULL;
  tn_dtype dtype = parse_dtype(p);
  if (!dtype || !tn_parse_expect(p, '[', "behind an element type")) return 0;
  while (!tn_parse_is(p, ']')) {
    if (rank && !tn_parse_expect(p, ',', "between dims")) return 0;
    if (rank == TN_MAX_RANK) {
      tn_parse_error(p, &p->tok, "a type has more than %d dims", TN_MAX_RANK);
      return 0;
    }
    if (!(dims[rank++] = tn_parse_dim(p))) return 0;
  }
  tn_parse_next(p);
  if (p->tok.kind == TN_TOK_SYMBOL) {
    layout = p->tok.text;
    tn_parse_next(p);
  }
  tn_type t = tn_ir_type_make(p->m, dtype, rank, dims, layout);
  if (!t) tn_parse_failed(p);
  return t;
}

/* ---- attributes ---- */

/* [a, b, ...] of integers or dims. */
static bool parse_list(tn_parser *p, bool dims, tn_attr *out) {
  TN_VEC(int64_t) ints = {0};
  TN_VEC(tn_dim) list = {0};
  bool ok = tn_parse_expect(p, '[', "before a list");
  for (uint32_t n = 0; ok && !tn_parse_is(p, ']'); n++) {
    int64_t v = 0;
    tn_dim d = 0;
    if (n) ok = tn_parse_expect(p, ',', "between entries");
    if (ok) ok = dims ? (d = tn_parse_dim(p)) != 0 : tn_parse_int(p, &v);
    if (ok && !(dims ? tn_vec_push(&list, d) : tn_vec_push(&ints, v))) ok = tn_parse_oom(p);
  }
  if (ok) {
    out->count = dims ? list.count : ints.count;
    if (dims)
      out->u.dims = tn_arena_copy(&p->arena, list.items, list.count * sizeof *list.items);
    else
      out->u.ints = tn_arena_copy(&p->arena, ints.items, ints.count * sizeof *ints.items);
    if (p->arena.failed) ok = tn_parse_oom(p);
  }
  tn_vec_fini(&ints);
  tn_vec_fini(&list);
  if (ok) tn_parse_next(p);
  return ok;
}

bool tn_parse_attr(tn_parser *p, uint32_t kind, tn_attr *out) {
  *out = (tn_attr){.kind = kind};
  switch (kind) {
  case TN_ATTR_BOOL:
    out->u.i = tn_parse_is_word(p, "true");
    if (tn_parse_take_word(p, "true") || tn_parse_take_word(p, "false")) return true;
    return tn_parse_error(p, &p->tok, "expected true or false, not '%s'", tn_parse_token_text(p));
  case TN_ATTR_INT: return tn_parse_int(p, &out->u.i);
  case TN_ATTR_FLOAT: return parse_float(p, &out->u.f);
  case TN_ATTR_STR: return tn_parse_string(p, "the value", &out->u.s);
  case TN_ATTR_INTS:
  case TN_ATTR_DIMS: return parse_list(p, kind == TN_ATTR_DIMS, out);
  case TN_ATTR_DIM: return (out->u.dim = tn_parse_dim(p)) != 0;
  case TN_ATTR_DTYPE: return (out->u.i = parse_dtype(p)) != 0;
  }
  return tn_parse_error(p, &p->tok, "an attribute of no known kind");
}

/* Words that name the kind of a function's attribute where its value does not. */
static const struct {
  const char *word;
  uint32_t kind;
} free_kinds[] = {
    {"ints", TN_ATTR_INTS}, {"dim", TN_ATTR_DIM}, {"dims", TN_ATTR_DIMS}, {"type", TN_ATTR_DTYPE}};

bool tn_parse_free_attr(tn_parser *p, tn_attr *out) {
  for (size_t i = 0; i < TN_COUNT(free_kinds); i++)
    if (tn_parse_take_word(p, free_kinds[i].word)) return tn_parse_attr(p, free_kinds[i].kind, out);
  if (tn_parse_take_word(p, "data")) {
    *out = (tn_attr){.kind = TN_ATTR_DATA};
    return tn_parse_data(p, 0, &out->u.data);
  }
  if (p->tok.kind == TN_TOK_STRING) return tn_parse_attr(p, TN_ATTR_STR, out);
  if (tn_parse_is_word(p, "true") || tn_parse_is_word(p, "false")) return tn_parse_attr(p, TN_ATTR_BOOL, out);
  tn_parser ahead = *p; /* a number may stand behind a minus */
  if (tn_parse_is(p, '-')) tn_parse_next(&ahead);
  p->arena = ahead.arena;
  bool integer = ahead.tok.kind == TN_TOK_NUMBER && !strpbrk(ahead.tok.text, ".eEpP");
  return tn_parse_attr(p, integer ? TN_ATTR_INT : TN_ATTR_FLOAT, out);
}

/* ---- data ---- */

bool tn_parse_skip_data(tn_parser *p) {
  int64_t depth = 0;
  do {
    if (p->tok.kind == TN_TOK_END || p->tok.kind == TN_TOK_BAD)
      return p->tok.kind == TN_TOK_BAD ? false : tn_parse_error(p, &p->tok, "the file ends inside a list");
    if (tn_parse_is(p, '[')) depth++;
    if (tn_parse_is(p, ']')) depth--;
    bool sign = tn_parse_is(p, '-');
    tn_parse_next(p);
    if (sign) tn_parse_next(p);
  } while (depth > 0);
  return true;
}

static int nibble(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex_data(tn_parser *p, tn_bytes *out) {
  const char *s = p->tok.text;
  size_t n = strlen(s);
  if (n % 2 || s[0] != '0' || s[1] != 'x')
    return tn_parse_error(p, &p->tok, "bytes are written \"0x...\" with two digits each");
  uint8_t *bytes = tn_arena_alloc(&p->arena, n / 2);
  if (!bytes) return tn_parse_oom(p);
  for (size_t i = 2; i < n; i += 2) {
    int high = nibble(s[i]), low = nibble(s[i + 1]);
    if (high < 0 || low < 0)
      return tn_parse_error(p, &p->tok, "bytes are written with the digits 0-9 and a-f");
    bytes[i / 2 - 1] = (uint8_t)(high << 4 | low);
  }
  *out = (tn_bytes){bytes, n / 2 - 1};
  tn_parse_next(p);
  return true;
}

static bool data_element(tn_parser *p, tn_dtype t, tn_buf *out) {
  const tn_dtype_info *e = tn_ir_dtype_info(t);
  uint8_t bytes[8];
  char text[80] = "-";
  tn_token at = p->tok;
  uint32_t minus = tn_parse_take(p, '-');
  bool word = p->tok.kind == TN_TOK_NUMBER || p->tok.kind == TN_TOK_WORD;
  if (word && strlen(p->tok.text) + 2 <= sizeof text)
    memcpy(text + minus, p->tok.text, strlen(p->tok.text) + 1);
  else
    word = false;
  if (!word || !tn_text_element(text, t, bytes))
    return tn_parse_error(p, &at, "'%s%s' is no element of type %s", minus ? "-" : "", tn_parse_token_text(p),
                          e ? e->name : "none");
  tn_buf_put(out, bytes, e->bits / 8);
  tn_parse_next(p);
  return true;
}

bool tn_parse_data(tn_parser *p, tn_dtype t, tn_bytes *out) {
  if (p->tok.kind == TN_TOK_STRING) return hex_data(p, out);
  if (!t) return tn_parse_error(p, &p->tok, "expected bytes as a string, not '%s'", tn_parse_token_text(p));
  tn_buf bytes = {0};
  bool list = tn_parse_take(p, '['), ok = true;
  if (!list) ok = data_element(p, t, &bytes);
  for (uint32_t n = 0; ok && list && !tn_parse_take(p, ']'); n++)
    ok = (!n || tn_parse_expect(p, ',', "between elements")) && data_element(p, t, &bytes);
  if (ok && bytes.failed) ok = tn_parse_oom(p);
  if (ok) {
    out->len = bytes.len;
    out->ptr = tn_arena_copy(&p->arena, bytes.text, bytes.len);
    if (!out->ptr) ok = tn_parse_oom(p);
  }
  tn_buf_fini(&bytes);
  return ok;
}

/* ---- locations ---- */

static tn_loc parse_loc_body(tn_parser *p, uint32_t depth);

static bool parse_place(tn_parser *p, tn_loc_info *info) {
  uint64_t line, col;
  tn_token at = p->tok;
  if (!tn_parse_u64(p, "a line", &line) || !tn_parse_expect(p, ':', "between line and column") ||
      !tn_parse_u64(p, "a column", &col))
    return false;
  if (line > UINT32_MAX || col > UINT32_MAX) return tn_parse_error(p, &at, "a line or column is too large");
  info->line = (uint32_t)line;
  info->col = (uint32_t)col;
  return true;
}

static bool parse_parts(tn_parser *p, tn_loc_info *info, uint32_t depth) {
  if (!tn_parse_expect(p, '(', "before the parts of a location")) return false;
  if (!(info->a = parse_loc_body(p, depth + 1))) return false;
  if (info->kind == TN_LOC_FUSED && (!tn_parse_expect(p, ',', "between the parts of a location") ||
                                     !(info->b = parse_loc_body(p, depth + 1))))
    return false;
  return tn_parse_expect(p, ')', "behind the parts of a location");
}

static tn_loc parse_loc_body(tn_parser *p, uint32_t depth) {
  static const struct {
    const char *word;
    uint32_t kind;
  } kinds[] = {{"page", TN_LOC_PAGE},
               {"node", TN_LOC_NODE},
               {"tensor", TN_LOC_TENSOR},
               {"fused", TN_LOC_FUSED},
               {"derived", TN_LOC_DERIVED}};
  tn_loc_info info = {.kind = TN_LOC_FILE};
  uint64_t number;
  tn_token at = p->tok;
  if (depth > TN_PARSE_DEPTH) {
    tn_parse_error(p, &at, "a location is nested more than %d deep", TN_PARSE_DEPTH);
    return 0;
  }
  for (size_t i = 0; i < TN_COUNT(kinds) && info.kind == TN_LOC_FILE; i++)
    if (tn_parse_take_word(p, kinds[i].word)) info.kind = kinds[i].kind;
  if (info.kind == TN_LOC_NODE) {
    if (!tn_parse_u64(p, "a node", &number)) return 0;
    if (number > UINT32_MAX) {
      tn_parse_error(p, &at, "a node's number is too large");
      return 0;
    }
    info.line = (uint32_t)number;
  }
  if (!tn_parse_string(p, "the name in a location", &info.name)) return 0;
  bool place = info.kind == TN_LOC_FILE || info.kind == TN_LOC_PAGE;
  if (place && !parse_place(p, &info)) return 0;
  if (info.kind >= TN_LOC_FUSED && !parse_parts(p, &info, depth)) return 0;
  tn_loc l = tn_ir_loc_make(p->m, &info);
  if (!l) tn_parse_failed(p);
  return l;
}

tn_loc tn_parse_loc(tn_parser *p) {
  if (!tn_parse_expect(p, '(', "behind loc")) return 0;
  tn_loc l = parse_loc_body(p, 0);
  return l && tn_parse_expect(p, ')', "behind a location") ? l : 0;
}
