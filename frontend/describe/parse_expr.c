/* parse_expr.c - expressions, by precedence climbing over one table of operators. */
#include "frontend/describe/parse.h"

#define DEPTH_MAX 64 /* brackets in brackets */
#define CHAIN_MAX 64 /* operators, or [..] and `at`, in a row: the evaluator recurses over them */

typedef struct binary_row {
  const char *text;
  bool word;
  int level;
  tn_binary op;
  bool config_only;
} binary_row;
static const binary_row binaries[] = {
    {"or", true, 1, TN_BIN_OR, false},    {"default", true, 1, TN_BIN_DEFAULT, true},
    {"and", true, 2, TN_BIN_AND, false},  {"==", false, 4, TN_BIN_EQ, false},
    {"!=", false, 4, TN_BIN_NE, false},   {"<", false, 4, TN_BIN_LT, false},
    {">", false, 4, TN_BIN_GT, false},    {"<=", false, 4, TN_BIN_LE, false},
    {">=", false, 4, TN_BIN_GE, false},   {"has", true, 4, TN_BIN_HAS, false},
    {"++", false, 5, TN_BIN_JOIN, false}, {"+", false, 6, TN_BIN_ADD, false},
    {"-", false, 6, TN_BIN_SUB, false},   {"*", false, 7, TN_BIN_MUL, false},
    {"/", false, 7, TN_BIN_DIV, false},   {"%", false, 7, TN_BIN_MOD, false},
};
#define LEVEL_NOT 3
static const char *const reserved[] = {"and", "or", "not", "has",    "if",  "else",
                                       "for", "in", "at",  "return", "via", "when"};

static tn_expr *expr_new(tn_parser *p, tn_expr_kind kind, tn_pos pos) {
  tn_expr *e = tn_arena_alloc(&p->page->arena, sizeof *e);
  if (!e) {
    p->oom = true;
    memset(&p->spare, 0, sizeof p->spare);
    e = &p->spare;
  }
  e->kind = kind;
  e->pos = pos;
  return e;
}

static tn_expr *parse_level(tn_parser *p, int level);

static const binary_row *peek_binary(const tn_parser *p, int level) {
  for (size_t i = 0; i < TN_COUNT(binaries); i++) {
    const binary_row *b = &binaries[i];
    if (b->level < level || (b->config_only && !p->config)) continue;
    if (b->word ? tn_peek_word(p, b->text) : tn_peek_is(p, b->text)) return b;
  }
  return NULL;
}

static bool is_reserved(const char *name) {
  for (size_t i = 0; i < TN_COUNT(reserved); i++)
    if (!strcmp(reserved[i], name)) return true;
  return false;
}

/* (a, name = b, rest...) behind a callee. */
static void parse_args(tn_parser *p, tn_expr *call) {
  TN_VEC(tn_call_arg) args = {0};
  tn_expect(p, "(");
  while (!tn_peek_is(p, ")") && !p->bad && !p->oom) {
    tn_call_arg a = {0};
    const tn_page_token *t = tn_peek(p);
    if (t->kind == TN_TK_NAME && t[1].kind == TN_TK_PUNCT && !strcmp(t[1].text, "=")) {
      a.name = t->text;
      p->at += 2;
    }
    a.value = tn_parse_expr(p);
    a.spread = tn_take_is(p, "...");
    if (!tn_vec_push(&args, a)) p->oom = true;
    if (!tn_take_is(p, ",")) break;
  }
  tn_expect(p, ")");
  call->u.call.count = args.count;
  call->u.call.args = tn_settle(p, args.items, args.count, sizeof *args.items);
}

/* f, f(x): what stands behind `via`. */
static tn_expr *parse_via(tn_parser *p) {
  tn_expr *e = expr_new(p, TN_EX_CALL, tn_peek(p)->pos);
  e->u.call.name = tn_expect_name(p, "the name of a function");
  if (tn_peek_is(p, "(")) parse_args(p, e);
  return e;
}

static tn_name_side parse_side(tn_parser *p) {
  tn_name_side s = {0};
  const tn_page_token *t = tn_peek(p);
  if (t->kind != TN_TK_STRING) {
    tn_page_syntax(p, t->pos, "expected the name of a tensor in quotes");
    return s;
  }
  s.text = t->text;
  p->at++;
  if (tn_take_word(p, "via")) s.via = parse_via(p);
  return s;
}

static tn_expr *parse_string(tn_parser *p) {
  tn_expr *e = expr_new(p, TN_EX_STRING, tn_peek(p)->pos);
  e->u.s.hf = parse_side(p);
  if ((!p->config || p->convert) && tn_take_is(p, "|")) e->u.s.gguf = parse_side(p);
  return e;
}

static tn_expr *parse_name(tn_parser *p) {
  const tn_page_token *t = tn_peek(p);
  const char *name = t->text;
  static const struct {
    const char *text;
    tn_expr_kind kind;
    bool b;
  } words[] = {{"none", TN_EX_NONE, false}, {"true", TN_EX_BOOL, true}, {"false", TN_EX_BOOL, false}};
  for (size_t i = 0; i < TN_COUNT(words); i++) {
    if (strcmp(words[i].text, name) != 0) continue;
    tn_expr *e = expr_new(p, words[i].kind, t->pos);
    e->u.b = words[i].b;
    p->at++;
    return e;
  }
  if (is_reserved(name)) {
    tn_page_syntax(p, t->pos, "expected a value, not '%s'", name);
    return expr_new(p, TN_EX_NONE, t->pos);
  }
  p->at++;
  while (p->config && tn_peek_is(p, ".") && name) {
    p->at++;
    const char *more = tn_expect_name(p, "the rest of a dotted key");
    if (!more) break;
    name = tn_arena_printf(&p->page->arena, "%s.%s", name, more);
  }
  if (!name) p->oom = true;
  tn_expr *e = expr_new(p, tn_peek_is(p, "(") ? TN_EX_CALL : TN_EX_NAME, t->pos);
  if (e->kind == TN_EX_NAME)
    e->u.name = name;
  else
    e->u.call.name = name, parse_args(p, e);
  return e;
}

static tn_expr *parse_list(tn_parser *p) {
  TN_VEC(tn_expr *) items = {0};
  tn_expr *e = expr_new(p, TN_EX_LIST, tn_peek(p)->pos);
  tn_expect(p, "[");
  while (!tn_peek_is(p, "]") && !p->bad && !p->oom) {
    if (!tn_vec_push(&items, tn_parse_expr(p))) p->oom = true;
    if (!tn_take_is(p, ",")) break;
  }
  tn_expect(p, "]");
  e->u.list.count = items.count;
  e->u.list.items = tn_settle(p, items.items, items.count, sizeof *items.items);
  return e;
}

static tn_expr *parse_primary(tn_parser *p) {
  const tn_page_token *t = tn_peek(p);
  tn_expr *e;
  switch (t->kind) {
  case TN_TK_INT:
    e = expr_new(p, TN_EX_INT, t->pos);
    e->u.i = t->i;
    p->at++;
    return e;
  case TN_TK_REAL:
    e = expr_new(p, TN_EX_REAL, t->pos);
    e->u.r = t->r;
    p->at++;
    return e;
  case TN_TK_STRING: return parse_string(p);
  case TN_TK_NAME: return parse_name(p);
  case TN_TK_PUNCT:
    if (!strcmp(t->text, "[")) return parse_list(p);
    if (tn_take_is(p, "(")) {
      e = tn_parse_expr(p);
      tn_expect(p, ")");
      return e;
    }
    break;
  case TN_TK_END:
  case TN_TK_NEWLINE:
  case TN_TK_INDENT:
  case TN_TK_DEDENT: break;
  }
  tn_page_syntax(p, t->pos, "expected a value%s%s%s", t->kind == TN_TK_PUNCT ? ", not '" : "",
                 t->kind == TN_TK_PUNCT ? t->text : "", t->kind == TN_TK_PUNCT ? "'" : "");
  return expr_new(p, TN_EX_NONE, t->pos);
}

/* :, new, 3, a .. b, .. b, a .. */
static tn_index parse_index_item(tn_parser *p) {
  tn_index x = {.kind = TN_IX_RANGE};
  if (tn_take_is(p, ":")) return x;
  if (tn_peek_word(p, "new")) {
    p->at++;
    x.kind = TN_IX_NEW;
    return x;
  }
  if (!tn_peek_is(p, "..")) x.from = tn_parse_expr(p);
  if (!tn_take_is(p, "..")) {
    x.kind = TN_IX_AT;
    return x;
  }
  if (!tn_peek_is(p, "]") && !tn_peek_is(p, ",")) x.to = tn_parse_expr(p);
  return x;
}

static tn_expr *parse_index(tn_parser *p, tn_expr *base) {
  TN_VEC(tn_index) items = {0};
  tn_expr *e = expr_new(p, TN_EX_INDEX, tn_peek(p)->pos);
  e->u.index.base = base;
  tn_expect(p, "[");
  do {
    if (!tn_vec_push(&items, parse_index_item(p))) p->oom = true;
  } while (tn_take_is(p, ",") && !p->bad && !p->oom);
  tn_expect(p, "]");
  e->u.index.count = items.count;
  e->u.index.items = tn_settle(p, items.items, items.count, sizeof *items.items);
  return e;
}

static tn_expr *parse_postfix(tn_parser *p) {
  tn_expr *e = parse_primary(p);
  for (int n = 0; !p->bad && !p->oom; n++) {
    const tn_page_token *t = tn_peek(p);
    if (n == CHAIN_MAX)
      tn_page_syntax(p, t->pos, "more than %d indices in a row", CHAIN_MAX);
    else if (tn_peek_is(p, "["))
      e = parse_index(p, e);
    else if (e->kind == TN_EX_CALL && !e->u.call.at && tn_take_word(p, "at"))
      e->u.call.at = tn_parse_names(p);
    else if (tn_peek_word(p, "at"))
      tn_page_syntax(p, t->pos, "'at' stands behind a call");
    else
      break;
  }
  return e;
}

static tn_expr *parse_unary(tn_parser *p) {
  tn_pos pos = tn_peek(p)->pos;
  if (!tn_take_is(p, "-")) return parse_postfix(p);
  tn_expr *e = expr_new(p, TN_EX_UNARY, pos);
  e->u.bin.op = '-';
  if (++p->depth > DEPTH_MAX)
    tn_page_syntax(p, pos, "nested too deeply: more than %d levels", DEPTH_MAX);
  else
    e->u.bin.a = parse_unary(p);
  p->depth--;
  return e;
}

static tn_expr *parse_not(tn_parser *p) {
  tn_expr *e = expr_new(p, TN_EX_UNARY, tn_peek(p)->pos);
  p->at++;
  e->u.bin.op = '!';
  e->u.bin.a = parse_level(p, LEVEL_NOT);
  return e;
}

static tn_expr *parse_level(tn_parser *p, int level) {
  tn_pos pos = tn_peek(p)->pos;
  if (++p->depth > DEPTH_MAX) {
    tn_page_syntax(p, pos, "nested too deeply: more than %d levels", DEPTH_MAX);
    p->depth--;
    return expr_new(p, TN_EX_NONE, pos);
  }
  tn_expr *a = level <= LEVEL_NOT && tn_peek_word(p, "not") ? parse_not(p) : parse_unary(p);
  const binary_row *b;
  for (int n = 0; !p->bad && !p->oom && (b = peek_binary(p, level)); n++) {
    if (n == CHAIN_MAX) tn_page_syntax(p, tn_peek(p)->pos, "more than %d operators in a row", CHAIN_MAX);
    tn_expr *e = expr_new(p, TN_EX_BINARY, tn_peek(p)->pos);
    p->at++;
    e->u.bin.op = b->op;
    e->u.bin.a = a;
    e->u.bin.b = parse_level(p, b->level + 1);
    a = e;
  }
  p->depth--;
  return a;
}

/* a if c else b. */
tn_expr *tn_parse_expr(tn_parser *p) {
  tn_expr *a = parse_level(p, 1);
  tn_pos pos = tn_peek(p)->pos;
  if (p->bad || p->oom || !tn_take_word(p, "if")) return a;
  tn_expr *e = expr_new(p, TN_EX_IF, pos);
  e->u.choice.yes = a;
  e->u.choice.when = parse_level(p, 1);
  if (!tn_take_word(p, "else")) tn_page_syntax(p, tn_peek(p)->pos, "expected 'else' and the other value");
  if (++p->depth > DEPTH_MAX) tn_page_syntax(p, pos, "nested too deeply: more than %d levels", DEPTH_MAX);
  e->u.choice.no = p->bad ? a : tn_parse_expr(p);
  p->depth--;
  return e;
}

tn_exprs tn_parse_exprs(tn_parser *p) {
  TN_VEC(tn_expr *) items = {0};
  tn_exprs out = {0};
  do {
    if (!tn_vec_push(&items, tn_parse_expr(p))) p->oom = true;
  } while (!p->bad && !p->oom && tn_take_is(p, ","));
  out.count = items.count;
  out.items = tn_settle(p, items.items, items.count, sizeof *items.items);
  return out;
}

tn_expr *tn_parse_names(tn_parser *p) {
  const tn_page_token *t = tn_peek(p);
  if (t->kind == TN_TK_STRING) return parse_string(p);
  tn_page_syntax(p, t->pos, "expected a prefix in quotes");
  return expr_new(p, TN_EX_NONE, t->pos);
}
