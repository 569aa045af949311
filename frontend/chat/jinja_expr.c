/* jinja_expr.c - expressions: precedence climbing by hand, one function per level, in jinja2's order. */
#include "frontend/chat/jinja.h"

/* ---- tokens ---------------------------------------------------------------------------------- */
const tn_jt *tn_jinja_peek(const tn_jinja_parser *p) { return &p->tokens.items[p->next]; }

const tn_jt *tn_jinja_take(tn_jinja_parser *p) {
  const tn_jt *t = &p->tokens.items[p->next];
  if (p->next + 1 < p->tokens.count) p->next++;
  return t;
}

static bool token_is(const tn_jt *t, const char *text) {
  return (t->kind == TN_JT_NAME || t->kind == TN_JT_OP) && tn_str_is(t->text, text);
}
bool tn_jinja_is(const tn_jinja_parser *p, const char *text) { return token_is(tn_jinja_peek(p), text); }
bool tn_jinja_skip(tn_jinja_parser *p, const char *text) {
  bool is = tn_jinja_is(p, text);
  if (is) tn_jinja_take(p);
  return is;
}

static void unexpected(tn_jinja_parser *p, const char *wanted) {
  const tn_jt *t = tn_jinja_peek(p);
  static const char *const ends[] = {[TN_JT_END] = "the end of the template",
                                     [TN_JT_PRINT_END] = "the end of the expression",
                                     [TN_JT_BLOCK_END] = "the end of the block"};
  if (t->kind < TN_COUNT(ends) && ends[t->kind])
    tn_jinja_wrong(p, TN_INVALID, t->at, "expected %s, got %s", wanted, ends[t->kind]);
  else
    tn_jinja_wrong(p, TN_INVALID, t->at, "expected %s, got '%.*s'", wanted,
                   (int)(t->text.len > 40 ? 40 : t->text.len), t->text.ptr);
}

void tn_jinja_expect(tn_jinja_parser *p, const char *text) {
  char wanted[40];
  if (tn_jinja_skip(p, text)) return;
  snprintf(wanted, sizeof wanted, "'%s'", text);
  unexpected(p, wanted);
}

tn_str tn_jinja_expect_name(tn_jinja_parser *p) {
  if (tn_jinja_peek(p)->kind == TN_JT_NAME) return tn_jinja_take(p)->text;
  unexpected(p, "a name");
  return TN_STR("");
}

/* ---- nodes ----------------------------------------------------------------------------------- */
static void oom(tn_jinja_parser *p) { tn_jinja_wrong(p, TN_OOM, tn_jinja_peek(p)->at, "out of memory"); }

tn_jn *tn_jinja_node(tn_jinja_parser *p, tn_jn_kind kind, uint32_t at) {
  static tn_jn nothing; /* never written: every writer looks at the status first */
  tn_jn *n = p->status ? NULL : tn_arena_alloc(&p->chat->arena, sizeof *n);
  if (!n) {
    oom(p);
    return &nothing;
  }
  n->kind = kind;
  n->at = at;
  return n;
}

void tn_jinja_kid(tn_jinja_parser *p, tn_jn *n, tn_jn *kid) {
  if (p->status) return;
  if (!(n->nkids & (n->nkids - 1))) { /* full at every power of two */
    size_t room = n->nkids ? 2 * (size_t)n->nkids : 1;
    tn_jn **kids = tn_arena_alloc(&p->chat->arena, room * sizeof *kids);
    if (!kids) {
      oom(p);
      return;
    }
    if (n->nkids) memcpy(kids, n->kids, n->nkids * sizeof *kids);
    n->kids = kids;
  }
  n->kids[n->nkids++] = kid;
}

void tn_jinja_named(tn_jinja_parser *p, tn_jn *n, tn_str name, tn_jn *kid) {
  if (p->status) return;
  tn_str *names = tn_arena_alloc(&p->chat->arena, (n->nnames + 1) * sizeof *names);
  if (!names) {
    oom(p);
    return;
  }
  if (n->nnames) memcpy(names, n->names, n->nnames * sizeof *names);
  names[n->nnames++] = name;
  n->names = names;
  if (kid) tn_jinja_kid(p, n, kid);
}

bool tn_jinja_enter(tn_jinja_parser *p) {
  if (p->depth >= TN_JINJA_NEST_MAX)
    tn_jinja_wrong(p, TN_INVALID, tn_jinja_peek(p)->at, "nested deeper than %d", TN_JINJA_NEST_MAX);
  if (p->status) return false;
  p->depth++;
  return true;
}

static tn_jn *with_kid(tn_jinja_parser *p, tn_jn_kind kind, uint32_t at, tn_jn *kid) {
  tn_jn *n = tn_jinja_node(p, kind, at);
  tn_jinja_kid(p, n, kid);
  return n;
}

static tn_jn *constant(tn_jinja_parser *p, uint32_t at, tn_jv v) {
  tn_jn *n = tn_jinja_node(p, TN_JN_CONST, at);
  if (!p->status) n->value = v;
  return n;
}

static void set_op(tn_jinja_parser *p, tn_jn *n, tn_jinja_op op) {
  if (!p->status) n->op = op;
}
static void set_name(tn_jinja_parser *p, tn_jn *n, tn_str name) {
  if (!p->status) n->name = name;
}

/* ---- atoms ----------------------------------------------------------------------------------- */
static tn_jn *unary(tn_jinja_parser *p, bool filters);
static tn_jn *condition(tn_jinja_parser *p, bool plain);

static tn_jn *strings(tn_jinja_parser *p) {
  uint32_t at = tn_jinja_peek(p)->at;
  tn_str all = tn_jinja_take(p)->value.u.s;
  while (tn_jinja_peek(p)->kind == TN_JT_STRING && !p->status) { /* neighbours are one */
    tn_str more = tn_jinja_take(p)->value.u.s;
    char *both = tn_arena_alloc(&p->chat->arena, all.len + more.len + 1);
    if (!both) {
      oom(p);
      break;
    }
    memcpy(both, all.ptr, all.len);
    memcpy(both + all.len, more.ptr, more.len);
    all = (tn_str){both, all.len + more.len};
  }
  return constant(p, at, tn_jv_str(all));
}

static tn_jn *list(tn_jinja_parser *p) {
  tn_jn *n = tn_jinja_node(p, TN_JN_LIST, tn_jinja_take(p)->at);
  while (!p->status && !tn_jinja_is(p, "]")) {
    if (n->nkids) tn_jinja_expect(p, ",");
    if (tn_jinja_is(p, "]")) break;
    tn_jinja_kid(p, n, tn_jinja_expression(p));
  }
  tn_jinja_expect(p, "]");
  return n;
}

static tn_jn *dict(tn_jinja_parser *p) {
  tn_jn *n = tn_jinja_node(p, TN_JN_DICT, tn_jinja_take(p)->at);
  while (!p->status && !tn_jinja_is(p, "}")) {
    if (n->nkids) tn_jinja_expect(p, ",");
    if (tn_jinja_is(p, "}")) break;
    tn_jinja_kid(p, n, tn_jinja_expression(p));
    tn_jinja_expect(p, ":");
    tn_jinja_kid(p, n, tn_jinja_expression(p));
  }
  tn_jinja_expect(p, "}");
  return n;
}

static tn_jn *parentheses(tn_jinja_parser *p) {
  uint32_t at = tn_jinja_take(p)->at;
  tn_jn *n = tn_jinja_is(p, ")") ? tn_jinja_node(p, TN_JN_TUPLE, at) : tn_jinja_tuple(p, false, NULL);
  tn_jinja_expect(p, ")");
  return n;
}

static tn_jn *name(tn_jinja_parser *p) {
  const tn_jt *t = tn_jinja_take(p);
  static const struct {
    const char *name;
    tn_jv_kind kind;
    bool value;
  } known[] = {{"true", TN_JV_BOOL, true},   {"True", TN_JV_BOOL, true},  {"false", TN_JV_BOOL, false},
               {"False", TN_JV_BOOL, false}, {"none", TN_JV_NONE, false}, {"None", TN_JV_NONE, false}};
  for (size_t i = 0; i < TN_COUNT(known); i++)
    if (tn_str_is(t->text, known[i].name))
      return constant(p, t->at, known[i].kind == TN_JV_NONE ? tn_jv_none() : tn_jv_bool(known[i].value));
  tn_jn *n = tn_jinja_node(p, TN_JN_NAME, t->at);
  set_name(p, n, t->text);
  return n;
}

static tn_jn *primary(tn_jinja_parser *p) {
  const tn_jt *t = tn_jinja_peek(p);
  switch (t->kind) {
  case TN_JT_NAME: return name(p);
  case TN_JT_STRING: return strings(p);
  case TN_JT_INT:
  case TN_JT_REAL: return constant(p, t->at, tn_jinja_take(p)->value);
  default: break;
  }
  if (tn_jinja_is(p, "(")) return parentheses(p);
  if (tn_jinja_is(p, "[")) return list(p);
  if (tn_jinja_is(p, "{")) return dict(p);
  unexpected(p, "an expression");
  return tn_jinja_node(p, TN_JN_CONST, t->at);
}

/* ---- what follows an atom -------------------------------------------------------------------- */
static tn_jn *subscript_part(tn_jinja_parser *p) {
  uint32_t at = tn_jinja_peek(p)->at;
  tn_jn *first = tn_jinja_is(p, ":") ? NULL : tn_jinja_expression(p);
  if (!tn_jinja_is(p, ":")) return first;
  tn_jn *slice = with_kid(p, TN_JN_SLICE, at, first);
  for (int i = 0; i < 2; i++) {
    bool given = tn_jinja_skip(p, ":") && !tn_jinja_is(p, ":") && !tn_jinja_is(p, "]");
    tn_jinja_kid(p, slice, given ? tn_jinja_expression(p) : NULL);
  }
  return slice;
}

static tn_jn *subscript(tn_jinja_parser *p, tn_jn *of) {
  const tn_jt *t = tn_jinja_take(p);
  if (tn_str_is(t->text, "[")) {
    tn_jn *n = with_kid(p, TN_JN_ITEM, t->at, of);
    tn_jinja_kid(p, n, subscript_part(p));
    tn_jinja_expect(p, "]");
    return n;
  }
  if (tn_jinja_peek(p)->kind == TN_JT_INT) {
    tn_jn *n = with_kid(p, TN_JN_ITEM, t->at, of);
    const tn_jt *index = tn_jinja_take(p);
    tn_jinja_kid(p, n, constant(p, index->at, index->value));
    return n;
  }
  tn_jn *n = with_kid(p, TN_JN_ATTR, tn_jinja_peek(p)->at, of);
  set_name(p, n, tn_jinja_expect_name(p));
  return n;
}

/* "(a, b, name=c)" into the kids of n; named ones come last. */
static void arguments(tn_jinja_parser *p, tn_jn *n) {
  bool first = true;
  tn_jinja_expect(p, "(");
  while (!p->status && !tn_jinja_is(p, ")")) {
    if (!first) tn_jinja_expect(p, ",");
    if (tn_jinja_is(p, ")")) break;
    first = false;
    const tn_jt *t = tn_jinja_peek(p);
    bool named = t->kind == TN_JT_NAME && p->next + 1 < p->tokens.count && token_is(t + 1, "=");
    if (tn_jinja_is(p, "*") || tn_jinja_is(p, "**"))
      tn_jinja_wrong(p, TN_UNSUPPORTED, t->at, "* and ** before an argument are not supported");
    if (named) {
      tn_str key = tn_jinja_take(p)->text;
      tn_jinja_take(p);
      tn_jinja_named(p, n, key, tn_jinja_expression(p));
    } else {
      if (n->nnames) tn_jinja_wrong(p, TN_INVALID, t->at, "an argument without name behind one with name");
      tn_jinja_kid(p, n, tn_jinja_expression(p));
    }
  }
  tn_jinja_expect(p, ")");
}

static tn_jn *call(tn_jinja_parser *p, tn_jn *of) {
  tn_jn *n = with_kid(p, TN_JN_CALL, tn_jinja_peek(p)->at, of);
  arguments(p, n);
  return n;
}

static tn_str dotted(tn_jinja_parser *p) {
  tn_str s = tn_jinja_expect_name(p);
  while (tn_jinja_is(p, ".") && !p->status) {
    tn_jinja_take(p);
    tn_str more = tn_jinja_expect_name(p);
    s.len = (uint64_t)(more.ptr + more.len - s.ptr);
  }
  return s;
}

tn_jn *tn_jinja_filters(tn_jinja_parser *p, tn_jn *of) {
  do {
    tn_jn *n = with_kid(p, TN_JN_FILTER, tn_jinja_peek(p)->at, of);
    set_name(p, n, dotted(p));
    if (tn_jinja_is(p, "(")) arguments(p, n);
    of = n;
  } while (!p->status && tn_jinja_skip(p, "|"));
  return of;
}

static tn_jn *postfix(tn_jinja_parser *p, tn_jn *n) {
  while (!p->status) {
    if (tn_jinja_is(p, ".") || tn_jinja_is(p, "["))
      n = subscript(p, n);
    else if (tn_jinja_is(p, "("))
      n = call(p, n);
    else
      break;
  }
  return n;
}

/* A test may have one argument without parentheses. */
static bool begins_argument(const tn_jinja_parser *p) {
  const tn_jt *t = tn_jinja_peek(p);
  if (t->kind == TN_JT_NAME) return !token_is(t, "else") && !token_is(t, "or") && !token_is(t, "and");
  return t->kind == TN_JT_STRING || t->kind == TN_JT_INT || t->kind == TN_JT_REAL || token_is(t, "[") ||
         token_is(t, "{");
}

static tn_jn *test(tn_jinja_parser *p, tn_jn *of) {
  uint32_t at = tn_jinja_take(p)->at;
  bool negated = tn_jinja_skip(p, "not");
  tn_jn *n = with_kid(p, TN_JN_TEST, at, of);
  set_name(p, n, dotted(p));
  if (tn_jinja_is(p, "("))
    arguments(p, n);
  else if (tn_jinja_is(p, "is"))
    tn_jinja_wrong(p, TN_INVALID, tn_jinja_peek(p)->at, "tests cannot be chained with is");
  else if (begins_argument(p))
    tn_jinja_kid(p, n, postfix(p, primary(p)));
  if (!negated) return n;
  n = with_kid(p, TN_JN_UNARY, at, n);
  set_op(p, n, TN_OP_NOT);
  return n;
}

static tn_jn *filter_expression(tn_jinja_parser *p, tn_jn *n) {
  while (!p->status) {
    if (tn_jinja_skip(p, "|"))
      n = tn_jinja_filters(p, n);
    else if (tn_jinja_is(p, "is"))
      n = test(p, n);
    else if (tn_jinja_is(p, "("))
      n = call(p, n);
    else
      break;
  }
  return n;
}

/* ---- operators ------------------------------------------------------------------------------- */
static tn_jn *unary(tn_jinja_parser *p, bool filters) {
  const tn_jt *t = tn_jinja_peek(p);
  tn_jn *n;
  if (!tn_jinja_enter(p)) return tn_jinja_node(p, TN_JN_CONST, t->at);
  bool minus = tn_jinja_is(p, "-");
  if (minus || tn_jinja_is(p, "+")) {
    tn_jinja_take(p);
    n = with_kid(p, TN_JN_UNARY, t->at, unary(p, false));
    set_op(p, n, minus ? TN_OP_NEG : TN_OP_POS);
  } else {
    n = primary(p);
  }
  n = postfix(p, n);
  if (filters) n = filter_expression(p, n);
  p->depth--;
  return n;
}

typedef struct level {
  const char *text;
  tn_jinja_op op;
} level;
static const level powers[] = {{"**", TN_OP_POW}},
                   products[] = {{"*", TN_OP_MUL},
                                 {"/", TN_OP_DIV},
                                 {"//", TN_OP_FLOOR_DIV},
                                 {"%", TN_OP_MOD}},
                   joins[] = {{"~", TN_OP_CONCAT}}, sums[] = {{"+", TN_OP_ADD}, {"-", TN_OP_SUB}};
static const struct {
  const level *items;
  uint32_t count;
} levels[] = {{sums, TN_COUNT(sums)},
              {joins, TN_COUNT(joins)},
              {products, TN_COUNT(products)},
              {powers, TN_COUNT(powers)}};

static const level *operator_of(const tn_jinja_parser *p, const level *items, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    if (tn_jinja_is(p, items[i].text)) return &items[i];
  return NULL;
}

/* Left-associative, loosest level first. */
static tn_jn *binary(tn_jinja_parser *p, uint32_t depth) {
  if (depth == TN_COUNT(levels)) return unary(p, true);
  tn_jn *left = binary(p, depth + 1);
  const level *l;
  while (!p->status && (l = operator_of(p, levels[depth].items, levels[depth].count))) {
    tn_jn *n = with_kid(p, TN_JN_BINARY, tn_jinja_take(p)->at, left);
    set_op(p, n, l->op);
    tn_jinja_kid(p, n, binary(p, depth + 1));
    left = n;
  }
  return left;
}

static bool comparison(tn_jinja_parser *p, tn_jinja_op *op) {
  static const level known[] = {{"==", TN_OP_EQ}, {"!=", TN_OP_NE}, {"<", TN_OP_LT}, {"<=", TN_OP_LE},
                                {">", TN_OP_GT},  {">=", TN_OP_GE}, {"in", TN_OP_IN}};
  const level *l = operator_of(p, known, TN_COUNT(known));
  if (l) {
    tn_jinja_take(p);
    *op = l->op;
    return true;
  }
  if (!tn_jinja_is(p, "not") || !token_is(tn_jinja_peek(p) + 1, "in")) return false;
  tn_jinja_take(p);
  tn_jinja_take(p);
  *op = TN_OP_NOT_IN;
  return true;
}

static tn_jn *compare(tn_jinja_parser *p) {
  tn_jn *n = binary(p, 0), *all = NULL;
  tn_jinja_op op = TN_OP_EQ;
  uint32_t at = tn_jinja_peek(p)->at;
  while (!p->status && comparison(p, &op)) {
    if (!all) all = with_kid(p, TN_JN_COMPARE, at, n);
    tn_jinja_op *ops = p->status ? NULL : tn_arena_alloc(&p->chat->arena, all->nkids * sizeof *ops);
    if (!ops) {
      oom(p);
      break;
    }
    if (all->nkids > 1) memcpy(ops, all->ops, (all->nkids - 1) * sizeof *ops);
    ops[all->nkids - 1] = op;
    all->ops = ops;
    tn_jinja_kid(p, all, binary(p, 0));
  }
  return all ? all : n;
}

static tn_jn *negation(tn_jinja_parser *p) {
  const tn_jt *t = tn_jinja_peek(p);
  if (!tn_jinja_is(p, "not")) return compare(p);
  if (!tn_jinja_enter(p)) return tn_jinja_node(p, TN_JN_CONST, t->at);
  tn_jinja_take(p);
  tn_jn *n = with_kid(p, TN_JN_UNARY, t->at, negation(p));
  set_op(p, n, TN_OP_NOT);
  p->depth--;
  return n;
}

/* "and" binds more tightly than "or". */
static tn_jn *logic(tn_jinja_parser *p, bool or) {
  tn_jn *left = or ? logic(p, false) : negation(p);
  while (!p->status && tn_jinja_is(p, or ? "or" : "and")) {
    tn_jn *n = with_kid(p, or ? TN_JN_OR : TN_JN_AND, tn_jinja_take(p)->at, left);
    tn_jinja_kid(p, n, or ? logic(p, false) : negation(p));
    left = n;
  }
  return left;
}

static tn_jn *condition(tn_jinja_parser *p, bool plain) {
  tn_jn *n;
  if (!tn_jinja_enter(p)) return tn_jinja_node(p, TN_JN_CONST, tn_jinja_peek(p)->at);
  n = logic(p, true);
  while (!plain && !p->status && tn_jinja_is(p, "if")) {
    tn_jn *choice = with_kid(p, TN_JN_IF_ELSE, tn_jinja_take(p)->at, n);
    tn_jinja_kid(p, choice, logic(p, true));
    tn_jinja_kid(p, choice, tn_jinja_skip(p, "else") ? condition(p, false) : NULL);
    n = choice;
  }
  p->depth--;
  return n;
}

tn_jn *tn_jinja_expression(tn_jinja_parser *p) { return condition(p, false); }

static bool tuple_ends(const tn_jinja_parser *p, const char *stop) {
  tn_jt_kind k = tn_jinja_peek(p)->kind;
  return k == TN_JT_PRINT_END || k == TN_JT_BLOCK_END || k == TN_JT_END || tn_jinja_is(p, ")") ||
         (stop && tn_jinja_is(p, stop));
}

tn_jn *tn_jinja_tuple(tn_jinja_parser *p, bool plain, const char *stop) {
  uint32_t at = tn_jinja_peek(p)->at;
  tn_jn *first = condition(p, plain);
  if (!tn_jinja_is(p, ",")) return first;
  tn_jn *n = with_kid(p, TN_JN_TUPLE, at, first);
  while (!p->status && tn_jinja_skip(p, ",") && !tuple_ends(p, stop)) tn_jinja_kid(p, n, condition(p, plain));
  return n;
}

/* What for, set and with assign to: names, tuples of them, and, of set, attributes of a namespace. */
static tn_jn *one_target(tn_jinja_parser *p, bool attributes) {
  uint32_t at = tn_jinja_peek(p)->at;
  if (tn_jinja_skip(p, "(")) {
    tn_jn *n = tn_jinja_enter(p) ? tn_jinja_target(p, attributes) : tn_jinja_node(p, TN_JN_TUPLE, at);
    if (!p->status) p->depth--;
    tn_jinja_expect(p, ")");
    return n;
  }
  static const char *const reserved[] = {"true", "True", "false", "False", "none", "None"};
  for (size_t i = 0; i < TN_COUNT(reserved); i++)
    if (tn_jinja_is(p, reserved[i])) tn_jinja_wrong(p, TN_INVALID, at, "cannot assign to '%s'", reserved[i]);
  tn_jn *n = tn_jinja_node(p, TN_JN_NAME, at);
  set_name(p, n, tn_jinja_expect_name(p));
  if (!attributes || !tn_jinja_skip(p, ".")) return n;
  n = with_kid(p, TN_JN_ATTR, at, n);
  set_name(p, n, tn_jinja_expect_name(p));
  return n;
}

tn_jn *tn_jinja_target(tn_jinja_parser *p, bool attributes) {
  tn_jn *first = one_target(p, attributes);
  if (!tn_jinja_is(p, ",")) return first;
  tn_jn *n = with_kid(p, TN_JN_TUPLE, tn_jinja_peek(p)->at, first);
  while (!p->status && tn_jinja_skip(p, ",") && tn_jinja_peek(p)->kind != TN_JT_BLOCK_END &&
         !tn_jinja_is(p, "in") && !tn_jinja_is(p, "=") && !tn_jinja_is(p, ")"))
    tn_jinja_kid(p, n, one_target(p, attributes));
  return n;
}
