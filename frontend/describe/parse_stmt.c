/* parse_stmt.c - what stands on lines: statements of a body, lines of the config, and the heads of blocks and
 * graphs. */
#include "frontend/describe/parse.h"

static const struct {
  const char *text;
  tn_stmt_kind kind;
} keywords[] = {{"return", TN_ST_RETURN}, {"for", TN_ST_FOR},     {"if", TN_ST_IF},          {"in", TN_ST_IN},
                {"ignore", TN_ST_IGNORE}, {"limit", TN_ST_LIMIT}, {"require", TN_ST_REQUIRE}};

const char *tn_token_text(tn_parser *p, uint32_t first) {
  tn_buf b = {0};
  for (uint32_t i = first; i < p->at; i++) {
    const tn_page_token *t = &p->tokens[i];
    if (i > first && t->spaced) tn_buf_puts(&b, " ");
    if (t->text) tn_buf_printf(&b, t->kind == TN_TK_STRING ? "\"%s\"" : "%s", t->text);
  }
  char *text = tn_arena_str(&p->page->arena, tn_str_of(tn_buf_cstr(&b)));
  if (!text || b.failed) p->oom = true;
  tn_buf_fini(&b);
  return text;
}

tn_names tn_parse_name_list(tn_parser *p, const char *what) {
  TN_VEC(const char *) v = {0};
  do {
    const char *name = tn_expect_name(p, what);
    if (name && !tn_vec_push(&v, name)) p->oom = true;
  } while (!p->bad && !p->oom && tn_take_is(p, ","));
  tn_names out = {.count = v.count};
  out.items = tn_settle(p, v.items, v.count, sizeof *v.items);
  return out;
}

/* a, b = value;  a += value;  f(x) alone does nothing and is refused. */
static void parse_assign(tn_parser *p, tn_stmt *s) {
  s->targets = tn_parse_name_list(p, "a statement");
  if (p->bad) return;
  if (tn_take_is(p, "+=")) {
    s->plus = true;
    if (s->targets.count != 1) tn_page_syntax(p, s->pos, "'+=' takes one name");
  } else if (!tn_take_is(p, "=")) {
    tn_page_syntax(p, tn_peek(p)->pos, "expected '=' behind '%s'",
                   s->targets.items ? s->targets.items[0] : "");
  }
  if (p->bad) return;
  s->value = tn_parse_expr(p);
  tn_expect_line_end(p);
}

static void parse_for(tn_parser *p, tn_stmt *s) {
  s->targets = tn_parse_name_list(p, "a loop variable");
  if (!p->bad && s->targets.count > 2)
    tn_page_syntax(p, s->pos, "a loop has one variable, or a value and its number");
  if (!p->bad && !tn_take_word(p, "in")) tn_page_syntax(p, tn_peek(p)->pos, "expected 'in'");
  if (p->bad) return;
  s->value = tn_parse_expr(p);
  s->body = tn_page_body(p);
}

static bool parse_stmt(tn_parser *p, tn_stmt *s);

/* The rest of an if; `elif` is an if alone in the else. */
static void parse_if(tn_parser *p, tn_stmt *s) {
  s->value = tn_parse_expr(p);
  s->body = tn_page_body(p);
  if (p->bad) return;
  if (tn_take_word(p, "else")) {
    s->other = tn_page_body(p);
  } else if (tn_peek_word(p, "elif")) {
    tn_stmt *other = tn_arena_alloc(&p->page->arena, sizeof *other);
    if (!other) {
      p->oom = true;
      return;
    }
    other->kind = TN_ST_IF;
    other->pos = tn_peek(p)->pos;
    p->at++;
    if (++p->depth > 64)
      tn_page_syntax(p, other->pos, "more than 64 'elif' in a row");
    else
      parse_if(p, other);
    p->depth--;
    s->other = (tn_body){other, 1};
  }
}

static void parse_limit(tn_parser *p, tn_stmt *s) {
  tn_expr *e = tn_parse_expr(p);
  if (p->bad) return;
  if (e->kind != TN_EX_BINARY || e->u.bin.op != TN_BIN_LE) {
    tn_page_syntax(p, s->pos, "expected 'limit SMALLER <= LARGER'");
    return;
  }
  s->value = e->u.bin.a;
  s->limit = e->u.bin.b;
  tn_expect_line_end(p);
}

static void parse_keyword(tn_parser *p, tn_stmt *s) {
  uint32_t first = p->at;
  switch (s->kind) {
  case TN_ST_ASSIGN: parse_assign(p, s); break;
  case TN_ST_FOR: parse_for(p, s); break;
  case TN_ST_IF: parse_if(p, s); break;
  case TN_ST_LIMIT: parse_limit(p, s); break;
  case TN_ST_IN:
    s->value = tn_parse_names(p);
    s->body = tn_page_body(p);
    break;
  case TN_ST_RETURN:
  case TN_ST_IGNORE:
    s->values = tn_parse_exprs(p);
    tn_expect_line_end(p);
    break;
  case TN_ST_REQUIRE:
    s->value = tn_parse_expr(p);
    s->text = tn_token_text(p, first);
    tn_expect_line_end(p);
    break;
  }
}

static bool parse_stmt(tn_parser *p, tn_stmt *s) {
  const tn_page_token *t = tn_peek(p);
  memset(s, 0, sizeof *s);
  s->pos = t->pos;
  s->kind = TN_ST_ASSIGN;
  for (size_t i = 0; i < TN_COUNT(keywords); i++) {
    if (!tn_take_word(p, keywords[i].text)) continue;
    s->kind = keywords[i].kind;
    break;
  }
  parse_keyword(p, s);
  return !p->bad;
}

tn_body tn_page_body(tn_parser *p) {
  TN_VEC(tn_stmt) v = {0};
  tn_body out = {0};
  tn_expect_line_end(p);
  if (p->bad) return out;
  if (tn_peek(p)->kind != TN_TK_INDENT) {
    tn_page_syntax(p, tn_peek(p)->pos, "expected indented lines");
    return out;
  }
  p->at++;
  while (tn_peek(p)->kind != TN_TK_DEDENT && tn_peek(p)->kind != TN_TK_END) {
    tn_stmt s;
    if (!parse_stmt(p, &s))
      tn_recover(p);
    else if (!tn_vec_push(&v, s))
      p->oom = true;
  }
  if (tn_peek(p)->kind == TN_TK_DEDENT) p->at++;
  out.count = v.count;
  out.items = tn_settle(p, v.items, v.count, sizeof *v.items);
  return out;
}

/* ---- config ---------------------------------------------------------------------------------- */
static const char *parse_key(tn_parser *p) {
  const char *name = tn_expect_name(p, "a key of the config");
  while (name && tn_take_is(p, ".")) {
    const char *more = tn_expect_name(p, "the rest of a dotted key");
    if (!more) return NULL;
    name = tn_arena_printf(&p->page->arena, "%s.%s", name, more);
    if (!name) p->oom = true;
  }
  return name;
}

static bool config_push(tn_parser *p, tn_config_line line) {
  if (!tn_vec_push(&p->page->config, line)) p->oom = true;
  return !p->bad;
}

/* require KEY = literal [or literal ...], or require CONDITION */
static bool parse_require(tn_parser *p, tn_pos pos) {
  uint32_t first = p->at;
  tn_config_line line = {.kind = TN_CF_REQUIRE, .pos = pos};
  uint32_t i = p->at;
  while (p->tokens[i].kind == TN_TK_NAME && p->tokens[i + 1].kind == TN_TK_PUNCT &&
         !strcmp(p->tokens[i + 1].text, "."))
    i += 2;
  const tn_page_token *t = &p->tokens[i];
  if (t->kind == TN_TK_NAME && t[1].kind == TN_TK_PUNCT && !strcmp(t[1].text, "=")) {
    line.kind = TN_CF_REQUIRE_KEY;
    line.name = parse_key(p);
    tn_expect(p, "=");
    if (p->bad) return false;
    line.hf = tn_parse_expr(p);
  } else {
    line.hf = tn_parse_expr(p);
  }
  line.text = tn_token_text(p, first);
  tn_expect_line_end(p);
  return config_push(p, line);
}

static bool parse_ignore_keys(tn_parser *p, tn_pos pos) {
  do {
    tn_config_line line = {.kind = TN_CF_IGNORE, .pos = pos, .name = parse_key(p)};
    if (!line.name || !config_push(p, line)) return false;
  } while (tn_take_is(p, ","));
  tn_expect_line_end(p);
  return !p->bad;
}

bool tn_parse_config_line(tn_parser *p) {
  tn_config_line line = {.kind = TN_CF_VALUE, .pos = tn_peek(p)->pos};
  if (tn_take_word(p, "require")) return parse_require(p, line.pos);
  if (tn_take_word(p, "ignore")) return parse_ignore_keys(p, line.pos);
  line.name = tn_expect_name(p, "the name of a value");
  if (!line.name || !tn_expect(p, "=")) return false;
  line.hf = tn_parse_expr(p);
  if (tn_take_is(p, "|")) line.gguf = tn_parse_expr(p);
  tn_expect_line_end(p);
  return config_push(p, line);
}

/* ---- convert --------------------------------------------------------------------------------- */
static bool parse_convert_key(tn_parser *p, tn_convert_line *line) {
  if (tn_take_word(p, "require")) {
    uint32_t first = p->at;
    line->kind = line->kind == TN_CV_HF ? TN_CV_HF_REQUIRE : TN_CV_GGUF_REQUIRE;
    line->value = tn_parse_expr(p);
    line->key = tn_token_text(p, first);
    return !p->bad;
  }
  line->key = parse_key(p);
  if (!line->key || !tn_expect(p, "=")) return false;
  line->value = tn_parse_expr(p);
  return true;
}

static const char *parse_quoted(tn_parser *p) {
  const tn_page_token *t = tn_peek(p);
  if (t->kind == TN_TK_STRING) return p->at++, t->text;
  tn_page_syntax(p, t->pos, "expected hf, gguf, or the name of a tensor in quotes");
  return NULL;
}

/* "name", "name" = step, step; "name" as "name" */
static bool parse_convert_tensor(tn_parser *p, tn_convert_line *line) {
  TN_VEC(const char *) v = {0};
  do {
    const char *name = parse_quoted(p);
    if (name && !tn_vec_push(&v, name)) p->oom = true;
  } while (!p->bad && tn_take_is(p, ","));
  line->names = (tn_names){.count = v.count};
  line->names.items = tn_settle(p, v.items, v.count, sizeof *v.items);
  if (p->bad) return false;
  line->kind = tn_take_word(p, "as") ? TN_CV_NAME : TN_CV_TENSOR;
  if (line->kind == TN_CV_NAME)
    line->as = parse_quoted(p);
  else if (tn_expect(p, "="))
    line->steps = tn_parse_exprs(p);
  return !p->bad;
}

bool tn_parse_convert_line(tn_parser *p) {
  tn_convert_line line = {.pos = tn_peek(p)->pos};
  bool hf = tn_take_word(p, "hf"), key = hf || tn_take_word(p, "gguf"), ok;
  line.kind = hf ? TN_CV_HF : TN_CV_GGUF;
  ok = key ? parse_convert_key(p, &line) : parse_convert_tensor(p, &line);
  if (!ok) return false;
  tn_expect_line_end(p);
  if (!tn_vec_push(&p->page->convert, line)) p->oom = true;
  return !p->bad;
}

/* ---- blocks and graphs ----------------------------------------------------------------------- */
static void parse_params(tn_parser *p, tn_block *b) {
  TN_VEC(tn_param) v = {0};
  tn_expect(p, "(");
  while (!tn_peek_is(p, ")") && !p->bad && !p->oom) {
    tn_param x = {.pos = tn_peek(p)->pos, .name = tn_expect_name(p, "a parameter")};
    if (b->options) tn_page_syntax(p, x.pos, "'%s...' is the last parameter", b->options_name);
    if (tn_take_is(p, "...")) {
      b->options = true;
      b->options_name = x.name;
    } else {
      if (tn_take_is(p, "="))
        x.def = tn_parse_expr(p);
      else if (v.count && v.items[v.count - 1].def)
        tn_page_syntax(p, x.pos, "'%s' needs a default value, as the parameter before it has one",
                       x.name ? x.name : "");
      if (!tn_vec_push(&v, x)) p->oom = true;
    }
    if (!tn_take_is(p, ",")) break;
  }
  tn_expect(p, ")");
  b->nparams = v.count;
  b->params = tn_settle(p, v.items, v.count, sizeof *v.items);
}

bool tn_parse_block(tn_parser *p, bool act) {
  tn_block b = {.page = p->page, .pos = tn_peek(p)->pos, .act = act};
  b.names = tn_parse_name_list(p, "the name of a block");
  if (p->bad) return false;
  parse_params(p, &b);
  if (!p->bad && tn_take_word(p, "at")) b.at = tn_parse_names(p);
  if (p->bad) return false;
  b.body = tn_page_body(p);
  if (p->bad) return false;
  if (!tn_vec_push(&p->page->blocks, b)) p->oom = true;
  return true;
}

/* ids[B, S], mel: f32[B, T], types[B, S] = 0 */
static tn_port parse_port(tn_parser *p) {
  static const char *const ints[] = {"ids", "mask", "types", "pads"};
  tn_port x = {.pos = tn_peek(p)->pos, .name = tn_expect_name(p, "the name of a tensor"), .dtype = TN_DT_f32};
  for (size_t i = 0; x.name && i < TN_COUNT(ints); i++)
    if (!strcmp(ints[i], x.name)) x.dtype = TN_DT_i32;
  if (tn_take_is(p, ":")) {
    static const struct {
      const char *name;
      tn_dtype dtype;
    } types[] = {
#define TN_X(name, bits, cls) {#name, TN_DT_##name},
        TN_DTYPES(TN_X)
#undef TN_X
    };
    tn_pos pos = tn_peek(p)->pos;
    const char *name = tn_expect_name(p, "an element type");
    x.dtype = TN_DT_NONE;
    for (size_t i = 0; name && i < TN_COUNT(types); i++)
      if (!strcmp(types[i].name, name)) x.dtype = types[i].dtype;
    if (name && !x.dtype) tn_page_syntax(p, pos, "'%s' is no element type", name);
  }
  tn_expect(p, "[");
  if (!p->bad && !tn_peek_is(p, "]")) x.dims = tn_parse_exprs(p);
  tn_expect(p, "]");
  if (x.dims.count > TN_MAX_RANK) tn_page_syntax(p, x.pos, "%u dims: at most %d", x.dims.count, TN_MAX_RANK);
  return x;
}

static tn_port *parse_ports(tn_parser *p, const char *close, uint32_t *count) {
  TN_VEC(tn_port) v = {0};
  while ((!close || !tn_peek_is(p, close)) && !p->bad && !p->oom) {
    tn_port x = parse_port(p);
    if (close && tn_take_is(p, "=")) x.def = tn_parse_expr(p);
    if (!tn_vec_push(&v, x)) p->oom = true;
    if (!tn_take_is(p, ",")) break;
  }
  *count = v.count;
  return tn_settle(p, v.items, v.count, sizeof *v.items);
}

bool tn_parse_graph(tn_parser *p) {
  tn_graph g = {.page = p->page, .pos = tn_peek(p)->pos};
  if (!tn_peek_is(p, "(")) g.name = tn_expect_name(p, "the name of a graph");
  if (p->bad) return false;
  tn_expect(p, "(");
  g.inputs = parse_ports(p, ")", &g.ninputs);
  if (!p->bad) tn_expect(p, ")");
  if (!p->bad) tn_expect(p, "->");
  if (p->bad) return false;
  g.outputs = parse_ports(p, NULL, &g.noutputs);
  if (p->bad || p->oom) return false;
  if (!g.name) g.name = g.outputs[0].name;
  if (tn_take_word(p, "when")) g.when = tn_parse_expr(p);
  if (p->bad) return false;
  g.body = tn_page_body(p);
  if (p->bad) return false;
  if (!tn_vec_push(&p->page->graphs, g)) p->oom = true;
  return true;
}
