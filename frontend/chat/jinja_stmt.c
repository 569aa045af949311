/* jinja_stmt.c - statements: text, prints and blocks to a tree; a block's body goes on until one of the names
 * that may end it. */
#include "frontend/chat/jinja.h"

static tn_jn *body_until(tn_jinja_parser *p, const char *const *ends);

static tn_jn *with_kids(tn_jinja_parser *p, tn_jn_kind kind, uint32_t at, tn_jn *a, tn_jn *b) {
  tn_jn *n = tn_jinja_node(p, kind, at);
  tn_jinja_kid(p, n, a);
  tn_jinja_kid(p, n, b);
  return n;
}

static void end_block(tn_jinja_parser *p) {
  const tn_jt *t = tn_jinja_peek(p);
  if (t->kind == TN_JT_BLOCK_END)
    tn_jinja_take(p);
  else
    tn_jinja_wrong(p, TN_INVALID, t->at, "expected the end of the block, got '%.*s'",
                   (int)(t->text.len > 40 ? 40 : t->text.len), t->text.ptr);
}

/* The body up to "{% end %}", which is taken too. */
static tn_jn *body_to(tn_jinja_parser *p, const char *end) {
  const char *ends[] = {end, NULL};
  end_block(p);
  tn_jn *n = body_until(p, ends);
  tn_jinja_take(p);
  return n;
}

static tn_jn *parse_if(tn_jinja_parser *p, uint32_t at) {
  static const char *const ends[] = {"elif", "else", "endif", NULL};
  static const char *const last[] = {"endif", NULL};
  tn_jn *n = tn_jinja_node(p, TN_JN_IF, at);
  do {
    tn_jinja_kid(p, n, tn_jinja_tuple(p, true, NULL));
    end_block(p);
    tn_jinja_kid(p, n, body_until(p, ends));
  } while (!p->status && tn_jinja_skip(p, "elif"));
  if (tn_jinja_skip(p, "else")) {
    end_block(p);
    tn_jinja_kid(p, n, body_until(p, last));
  }
  tn_jinja_expect(p, "endif");
  return n;
}

static tn_jn *parse_for(tn_jinja_parser *p, uint32_t at) {
  static const char *const ends[] = {"else", "endfor", NULL};
  static const char *const last[] = {"endfor", NULL};
  tn_jn *n = tn_jinja_node(p, TN_JN_FOR, at);
  tn_jinja_kid(p, n, tn_jinja_target(p, false));
  tn_jinja_expect(p, "in");
  tn_jinja_kid(p, n, tn_jinja_tuple(p, true, "recursive"));
  tn_jinja_kid(p, n, tn_jinja_skip(p, "if") ? tn_jinja_expression(p) : NULL);
  bool recursive = tn_jinja_skip(p, "recursive");
  end_block(p);
  p->loops++;
  tn_jinja_kid(p, n, body_until(p, ends));
  p->loops--;
  bool otherwise = tn_jinja_skip(p, "else");
  if (otherwise) end_block(p);
  tn_jinja_kid(p, n, otherwise ? body_until(p, last) : NULL);
  tn_jinja_expect(p, "endfor");
  if (!p->status) n->recursive = recursive;
  return n;
}

static tn_jn *parse_set(tn_jinja_parser *p, uint32_t at) {
  tn_jn *target = tn_jinja_target(p, true);
  if (tn_jinja_skip(p, "=")) return with_kids(p, TN_JN_SET, at, target, tn_jinja_tuple(p, false, NULL));
  tn_jn *filter = tn_jinja_skip(p, "|") ? tn_jinja_filters(p, NULL) : NULL;
  tn_jn *n = with_kids(p, TN_JN_CAPTURE, at, target, body_to(p, "endset"));
  tn_jinja_kid(p, n, filter);
  return n;
}

static bool mentions(const tn_jn *n, const char *name) {
  if (!n) return false;
  if (n->kind == TN_JN_NAME && tn_str_is(n->name, name)) return true;
  for (uint32_t i = 0; i < n->nkids; i++)
    if (mentions(n->kids[i], name)) return true;
  return false;
}

/* "(a, b=1)" into the macro's names and defaults (kids from 1 on). */
static void signature(tn_jinja_parser *p, tn_jn *n) {
  bool first = true;
  tn_jinja_expect(p, "(");
  while (!p->status && !tn_jinja_is(p, ")")) {
    if (!first) tn_jinja_expect(p, ",");
    if (tn_jinja_is(p, ")")) break; /* a comma behind the last */
    first = false;
    uint32_t at = tn_jinja_peek(p)->at;
    tn_str name = tn_jinja_expect_name(p);
    bool has = tn_jinja_skip(p, "=");
    if (!has && n->nkids > 1)
      tn_jinja_wrong(p, TN_INVALID, at, "an argument without default behind one with default");
    tn_jinja_named(p, n, name, has ? tn_jinja_expression(p) : NULL);
  }
  tn_jinja_expect(p, ")");
}

/* A loop around the macro is not its own. */
static void macro_body(tn_jinja_parser *p, tn_jn *n, tn_str name, const char *end) {
  uint32_t loops = p->loops;
  p->loops = 0;
  tn_jn *body = body_to(p, end);
  p->loops = loops;
  if (p->status) return;
  n->name = name;
  n->kids[0] = body;
  n->varargs = mentions(body, "varargs");
  n->kwargs = mentions(body, "kwargs");
}

static tn_jn *parse_macro(tn_jinja_parser *p, uint32_t at) {
  tn_jn *n = tn_jinja_node(p, TN_JN_MACRO, at);
  tn_str name = tn_jinja_expect_name(p);
  tn_jinja_kid(p, n, NULL);
  signature(p, n);
  macro_body(p, n, name, "endmacro");
  return n;
}

static tn_jn *parse_call(tn_jinja_parser *p, uint32_t at) {
  tn_jn *macro = tn_jinja_node(p, TN_JN_MACRO, at);
  tn_jinja_kid(p, macro, NULL);
  if (tn_jinja_is(p, "(")) signature(p, macro);
  uint32_t place = tn_jinja_peek(p)->at;
  tn_jn *call = tn_jinja_expression(p);
  if (call->kind != TN_JN_CALL) tn_jinja_wrong(p, TN_INVALID, place, "expected a call");
  macro_body(p, macro, TN_STR("caller"), "endcall");
  return with_kids(p, TN_JN_CALL_BLOCK, at, call, macro);
}

static tn_jn *parse_filter(tn_jinja_parser *p, uint32_t at) {
  tn_jn *filter = tn_jinja_filters(p, NULL);
  return with_kids(p, TN_JN_FILTER_BLOCK, at, filter, body_to(p, "endfilter"));
}

static tn_jn *parse_with(tn_jinja_parser *p, uint32_t at) {
  tn_jn *n = tn_jinja_node(p, TN_JN_WITH, at);
  while (!p->status && tn_jinja_peek(p)->kind != TN_JT_BLOCK_END) {
    if (n->nkids) tn_jinja_expect(p, ",");
    tn_jn *target = tn_jinja_target(p, false);
    tn_jinja_kid(p, n, target);
    tn_jinja_expect(p, "=");
    tn_jinja_kid(p, n, tn_jinja_expression(p));
  }
  tn_jinja_kid(p, n, body_to(p, "endwith"));
  return n;
}

/* What the model says: only marks it, for training. */
static tn_jn *parse_generation(tn_jinja_parser *p, uint32_t at) {
  tn_jn *n = tn_jinja_node(p, TN_JN_SCOPE, at);
  tn_jinja_kid(p, n, body_to(p, "endgeneration"));
  return n;
}

static tn_jn *loop_control(tn_jinja_parser *p, tn_jn_kind kind, uint32_t at) {
  if (!p->loops) tn_jinja_wrong(p, TN_INVALID, at, "there is no loop around it");
  return tn_jinja_node(p, kind, at);
}
static tn_jn *parse_break(tn_jinja_parser *p, uint32_t at) { return loop_control(p, TN_JN_BREAK, at); }
static tn_jn *parse_continue(tn_jinja_parser *p, uint32_t at) { return loop_control(p, TN_JN_CONTINUE, at); }

static tn_jn *refuse(tn_jinja_parser *p, uint32_t at) {
  tn_jinja_wrong(p, TN_UNSUPPORTED, at, "templates that use other files or templates are not supported");
  return tn_jinja_node(p, TN_JN_BODY, at);
}

static const struct {
  const char *name;
  tn_jn *(*parse)(tn_jinja_parser *p, uint32_t at);
} statements[] = {{"if", parse_if},       {"for", parse_for},
                  {"set", parse_set},     {"macro", parse_macro},
                  {"call", parse_call},   {"filter", parse_filter},
                  {"with", parse_with},   {"generation", parse_generation},
                  {"break", parse_break}, {"continue", parse_continue},
                  {"include", refuse},    {"import", refuse},
                  {"from", refuse},       {"extends", refuse},
                  {"block", refuse}};

static tn_jn *statement(tn_jinja_parser *p) {
  const tn_jt *t = tn_jinja_peek(p);
  if (!tn_jinja_enter(p)) return tn_jinja_node(p, TN_JN_BODY, t->at);
  tn_jn *n = NULL;
  for (size_t i = 0; i < TN_COUNT(statements) && !n; i++) {
    if (!tn_jinja_is(p, statements[i].name)) continue;
    tn_jinja_take(p);
    n = statements[i].parse(p, t->at);
  }
  if (!n) {
    tn_jinja_wrong(p, TN_INVALID, t->at, "unknown block '%.*s'", (int)(t->text.len > 40 ? 40 : t->text.len),
                   t->text.ptr);
    n = tn_jinja_node(p, TN_JN_BODY, t->at);
  }
  end_block(p);
  p->depth--;
  return n;
}

static bool is_end(const tn_jinja_parser *p, const char *const *ends) {
  for (; ends && *ends; ends++)
    if (tn_jinja_is(p, *ends)) return true;
  return false;
}

static tn_jn *print(tn_jinja_parser *p) {
  uint32_t at = tn_jinja_take(p)->at;
  tn_jn *n = tn_jinja_node(p, TN_JN_PRINT, at);
  tn_jinja_kid(p, n, tn_jinja_tuple(p, false, NULL));
  if (tn_jinja_peek(p)->kind != TN_JT_PRINT_END)
    tn_jinja_wrong(p, TN_INVALID, tn_jinja_peek(p)->at, "expected the end of the expression, got '%.*s'",
                   (int)(tn_jinja_peek(p)->text.len > 40 ? 40 : tn_jinja_peek(p)->text.len),
                   tn_jinja_peek(p)->text.ptr);
  tn_jinja_take(p);
  return n;
}

/* Stops behind the "{%" of an end, at its name; with ends NULL at the end of the template. */
static tn_jn *body_until(tn_jinja_parser *p, const char *const *ends) {
  tn_jn *body = tn_jinja_node(p, TN_JN_BODY, tn_jinja_peek(p)->at);
  while (!p->status) {
    const tn_jt *t = tn_jinja_peek(p);
    if (t->kind == TN_JT_END) {
      if (ends) tn_jinja_wrong(p, TN_INVALID, t->at, "the template ends where '%s' should be", *ends);
      return body;
    }
    if (t->kind == TN_JT_PRINT_BEGIN) {
      tn_jinja_kid(p, body, print(p));
      continue;
    }
    tn_jinja_take(p);
    if (t->kind == TN_JT_TEXT) {
      tn_jn *text = tn_jinja_node(p, TN_JN_TEXT, t->at);
      if (!p->status) text->value = t->value;
      tn_jinja_kid(p, body, text);
    } else if (is_end(p, ends)) {
      return body;
    } else {
      tn_jinja_kid(p, body, statement(p));
    }
  }
  return body;
}

void tn_jinja_parse(tn_jinja_parser *p) { p->chat->body = body_until(p, NULL); }
