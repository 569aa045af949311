/* grammar_parse.c - GBNF text to states (Thompson 1968). Every item becomes a contiguous run of states that
 * is entered at its first and left by its last, a jump, so that a repetition is a copy of the run: rule  ::=
 * name "::=" alternatives, ended by a newline outside of parentheses item  ::= "literal" | [class] | [^class]
 * | . | name | ( alternatives ), then any of * + ? {m} {m,} {m,n} A literal and a class know the escapes \n
 * \r \t \\ \" \[ \] \- \^ \xHH \uHHHH \UHHHHHHHH; # begins a comment. */
#include "backends/runtime/grammar.h"
#include <stdio.h>

typedef struct parser {
  const char *at, *end;
  uint32_t line, nesting;
  tn_gr_rules *r;
  tn_gr_ranges ranges;
  char *error;
  uint64_t error_size;
} parser;

static tn_status TN_PRINTF(2, 3) fail(parser *p, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  int n = p->error_size ? snprintf(p->error, p->error_size, "grammar, line %u: ", p->line) : -1;
  if (n >= 0 && (uint64_t)n < p->error_size) vsnprintf(p->error + n, p->error_size - (uint64_t)n, fmt, ap);
  va_end(ap);
  return TN_INVALID;
}

static bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static char peek(const parser *p) { return p->at < p->end ? *p->at : 0; }

/* Past blanks and comments, and past newlines where they mean nothing. */
static void skip(parser *p, bool newlines) {
  for (; p->at < p->end; p->at++) {
    if (*p->at == '#')
      while (p->at + 1 < p->end && p->at[1] != '\n' && p->at[1] != '\r') p->at++;
    else if (*p->at == '\n' && newlines)
      p->line++;
    else if (*p->at != ' ' && *p->at != '\t' && !(*p->at == '\r' && newlines))
      return;
  }
}

/* ---- states -------------------------------------------------------------------------------------------- */

static tn_status put(parser *p, tn_gr_kind kind, uint32_t a, uint32_t b) {
  if (p->r->states.count >= TN_GR_MAX_STATES)
    return fail(p, "the grammar needs more than %d states; repetitions are too large", TN_GR_MAX_STATES);
  tn_gr_state s = {(uint8_t)kind, 0, 0, 0, a, b};
  return tn_vec_push(&p->r->states, s) ? TN_OK : TN_OOM;
}

static uint32_t here(const parser *p) { return p->r->states.count; }
static void aim(parser *p, uint32_t state, uint32_t to) { p->r->states.items[state].a = to; }

/* Room for a state in front of the run that begins at `first`: the run moves up by one. */
static tn_status put_front(parser *p, uint32_t first, tn_gr_state front) {
  TN_TRY(put(p, TN_GR_JUMP, 0, 0));
  tn_gr_state *s = p->r->states.items;
  memmove(s + first + 1, s + first, (here(p) - 1 - first) * sizeof *s);
  for (uint32_t i = first + 1; i < here(p); i++) {
    if (s[i].kind != TN_GR_CALL && s[i].a != TN_GR_NONE && s[i].a >= first) s[i].a++;
    if (s[i].b != TN_GR_NONE && s[i].b >= first && (s[i].kind == TN_GR_SPLIT || s[i].kind == TN_GR_CALL))
      s[i].b++;
  }
  s[first] = front;
  return TN_OK;
}

/* A copy of run[0 .. n), which came from state `from`, behind what is there. */
static tn_status put_copy(parser *p, const tn_gr_state *run, uint32_t n, uint32_t from) {
  uint32_t move = here(p) - from;
  if (n > TN_GR_MAX_STATES - here(p))
    return fail(p, "the grammar needs more than %d states; repetitions are too large", TN_GR_MAX_STATES);
  if (!tn_vec_reserve(&p->r->states, here(p) + n)) return TN_OOM;
  for (uint32_t i = 0; i < n; i++) {
    tn_gr_state s = run[i];
    if (s.kind != TN_GR_CALL && s.a != TN_GR_NONE) s.a += move;
    if (s.kind == TN_GR_SPLIT || s.kind == TN_GR_CALL) s.b += move;
    p->r->states.items[p->r->states.count++] = s;
  }
  return TN_OK;
}

/* ---- characters ---------------------------------------------------------------------------------------- */

static tn_status hex(parser *p, int digits, uint32_t *out) {
  *out = 0;
  for (int i = 0; i < digits; i++, p->at++) {
    char c = peek(p), low = (char)(c | 32);
    if (!((c >= '0' && c <= '9') || (low >= 'a' && low <= 'f')))
      return fail(p, "an escape needs %d hexadecimal digits", digits);
    *out = *out << 4 | (uint32_t)(c <= '9' ? c - '0' : low - 'a' + 10);
  }
  if (*out > 0x10ffff) return fail(p, "U+%X is not a character", *out);
  return TN_OK;
}

static tn_status escape(parser *p, uint32_t *out) {
  static const char from[] = "nrt\\\"[]-^", to[] = "\n\r\t\\\"[]-^";
  char c = peek(p);
  const char *known = c ? strchr(from, c) : NULL;
  p->at++;
  if (known) return *out = (uint8_t)to[known - from], TN_OK;
  if (c == 'x') return hex(p, 2, out);
  if (c == 'u') return hex(p, 4, out);
  if (c == 'U') return hex(p, 8, out);
  p->at--;
  return fail(p, c > ' ' ? "unknown escape \\%c" : "a backslash with nothing behind it", c);
}

/* A character of a literal or class; the text is valid UTF-8. */
static tn_status character(parser *p, uint32_t *out) {
  uint8_t c = (uint8_t)*p->at++;
  if (c == '\\') return escape(p, out);
  if (c == '\n') p->line++;
  uint32_t more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
  *out = more ? c & (0x3fu >> more) : c;
  while (more--) *out = *out << 6 | ((uint8_t)*p->at++ & 0x3f);
  return TN_OK;
}

static tn_status characters(parser *p, bool negated) {
  if (here(p) + 64 > TN_GR_MAX_STATES)
    return fail(p, "the grammar needs more than %d states; repetitions are too large", TN_GR_MAX_STATES);
  tn_status s = tn_gr_characters(p->r, &p->ranges, negated);
  return s == TN_NOT_FOUND ? fail(p, "a class that no character is in") : s;
}

/* Behind the opening quote. */
static tn_status literal(parser *p) {
  TN_TRY(put(p, TN_GR_JUMP, TN_GR_NONE, 0));
  for (;;) {
    uint32_t c;
    if (p->at >= p->end) return fail(p, "a literal without closing '\"'");
    if (*p->at == '"') break;
    TN_TRY(character(p, &c));
    p->ranges.count = 0;
    if (!tn_vec_push(&p->ranges, ((tn_gr_range){c, c}))) return TN_OOM;
    aim(p, here(p) - 1, here(p));
    TN_TRY(characters(p, false));
  }
  p->at++;
  return TN_OK;
}

/* Behind the opening bracket. */
static tn_status class(parser *p) {
  bool negated = peek(p) == '^';
  p->at += negated;
  p->ranges.count = 0;
  for (;;) {
    tn_gr_range x;
    if (p->at >= p->end) return fail(p, "a class without closing ']'");
    if (*p->at == ']') break;
    TN_TRY(character(p, &x.lo));
    x.hi = x.lo;
    if (p->end - p->at >= 2 && *p->at == '-' && p->at[1] != ']') {
      p->at++;
      TN_TRY(character(p, &x.hi));
      if (x.hi < x.lo) return fail(p, "the range U+%04X to U+%04X is empty", x.lo, x.hi);
    }
    if (!tn_vec_push(&p->ranges, x)) return TN_OOM;
  }
  p->at++;
  return characters(p, negated);
}

/* ---- rules --------------------------------------------------------------------------------------------- */

static tn_status alternatives(parser *p, bool nested);

static tn_status rule_of(parser *p, tn_str name, uint32_t *out) {
  uint64_t i;
  if (tn_map_get(&p->r->names, name, &i)) return *out = (uint32_t)i, TN_OK;
  if (p->r->rules.count >= TN_GR_MAX_RULES) return fail(p, "more than %d rules", TN_GR_MAX_RULES);
  tn_gr_rule r = {tn_arena_str(&p->r->arena, name), TN_GR_NONE, p->line, false, false};
  *out = p->r->rules.count;
  if (!r.name || !tn_vec_push(&p->r->rules, r)) return TN_OOM;
  return tn_map_put(&p->r->names, name, *out, NULL);
}

static tn_str name(parser *p) {
  tn_str s = {p->at, 0};
  while (is_name(peek(p))) p->at++, s.len++;
  return s;
}

static tn_status call(parser *p) {
  uint32_t rule;
  TN_TRY(rule_of(p, name(p), &rule));
  TN_TRY(put(p, TN_GR_CALL, rule, here(p) + 1));
  return put(p, TN_GR_JUMP, TN_GR_NONE, 0);
}

static tn_status group(parser *p) {
  p->at++;
  if (++p->nesting > TN_GR_MAX_NESTING)
    return fail(p, "groups are nested more than %d deep", TN_GR_MAX_NESTING);
  skip(p, true);
  TN_TRY(alternatives(p, true));
  if (peek(p) != ')') return fail(p, "a group without closing ')'");
  p->at++;
  p->nesting--;
  return TN_OK;
}

static tn_status item(parser *p) {
  char c = peek(p);
  if (c == '"') return p->at++, literal(p);
  if (c == '[') return p->at++, class(p);
  if (c == '(') return group(p);
  if (is_name(c)) return call(p);
  if (c == '.') return p->at++, p->ranges.count = 0, characters(p, true);
  if (c == '<' || c == '!') return fail(p, "tokens in a grammar (%c) are not supported", c);
  return fail(p, c >= ' ' && c < 0x7f ? "unexpected '%c'" : "unexpected character", c);
}

/* The copy at `first` becomes a loop that may be passed by. */
static tn_status loop(parser *p, uint32_t first) {
  TN_TRY(put_front(p, first, (tn_gr_state){TN_GR_SPLIT, 0, 0, 0, first + 1, here(p) + 1}));
  aim(p, here(p) - 1, first);
  return put(p, TN_GR_JUMP, TN_GR_NONE, 0);
}

/* low copies, then a loop where `high` is not given, else high - low copies in front of each of which a split
 * leads to the end. */
static tn_status put_copies(parser *p, const tn_gr_state *run, uint32_t n, uint32_t first, uint32_t low,
                            uint32_t high) {
  uint32_t times = high == TN_GR_NONE ? low + 1 : high, splits = TN_GR_NONE;
  TN_TRY(put(p, TN_GR_JUMP, TN_GR_NONE, 0));
  for (uint32_t i = 0; i < times; i++) {
    aim(p, here(p) - 1, here(p));
    if (i >= low && high != TN_GR_NONE) {
      TN_TRY(put(p, TN_GR_SPLIT, here(p) + 1, splits));
      splits = here(p) - 1;
    }
    uint32_t copy = here(p);
    TN_TRY(put_copy(p, run, n, first));
    if (i >= low && high == TN_GR_NONE) TN_TRY(loop(p, copy));
  }
  aim(p, here(p) - 1, here(p));
  for (uint32_t before; splits != TN_GR_NONE; splits = before) {
    before = p->r->states.items[splits].b;
    p->r->states.items[splits].b = here(p);
  }
  return put(p, TN_GR_JUMP, TN_GR_NONE, 0);
}

static tn_status repeat(parser *p, uint32_t first, uint32_t low, uint32_t high) {
  uint32_t n = here(p) - first;
  tn_gr_state *run = tn_mem_alloc(n * sizeof *run);
  if (!run) return TN_OOM;
  memcpy(run, p->r->states.items + first, n * sizeof *run);
  p->r->states.count = first;
  tn_status s = put_copies(p, run, n, first, low, high);
  tn_mem_free(run);
  return s;
}

static tn_status number(parser *p, uint32_t *out) {
  uint64_t n = 0;
  const char *begin = p->at;
  for (; peek(p) >= '0' && peek(p) <= '9'; p->at++)
    if ((n = n * 10 + (uint64_t)(*p->at - '0')) > TN_GR_MAX_STATES)
      return fail(p, "a repetition of more than %d times", TN_GR_MAX_STATES);
  if (p->at == begin) return fail(p, "a repetition needs a number: {m}, {m,} or {m,n}");
  *out = (uint32_t)n;
  return TN_OK;
}

/* Behind the opening brace. */
static tn_status bounds(parser *p, uint32_t *low, uint32_t *high) {
  skip(p, false);
  TN_TRY(number(p, low));
  *high = *low;
  skip(p, false);
  if (peek(p) == ',') {
    p->at++;
    skip(p, false);
    *high = TN_GR_NONE;
    if (peek(p) != '}') TN_TRY(number(p, high));
    skip(p, false);
  }
  if (peek(p) != '}') return fail(p, "a repetition without closing '}'");
  if (*high < *low) return fail(p, "a repetition of at least %u and at most %u times", *low, *high);
  p->at++;
  return TN_OK;
}

static tn_status repetitions(parser *p, uint32_t first, bool nested) {
  for (;;) {
    uint32_t low = 0, high = TN_GR_NONE;
    skip(p, nested);
    char c = peek(p);
    if (!c || !strchr("*+?{", c)) return TN_OK;
    p->at++;
    if (c == '+') low = 1;
    if (c == '?') high = 1;
    if (c == '{') TN_TRY(bounds(p, &low, &high));
    TN_TRY(repeat(p, first, low, high));
  }
}

/* Items one after the other, maybe none. */
static tn_status sequence(parser *p, bool nested) {
  TN_TRY(put(p, TN_GR_JUMP, TN_GR_NONE, 0));
  for (;;) {
    skip(p, nested);
    char c = peek(p);
    if (!c || c == '|' || c == ')' || c == '\n' || c == '\r') return TN_OK;
    uint32_t first = here(p);
    aim(p, first - 1, first);
    TN_TRY(item(p));
    TN_TRY(repetitions(p, first, nested));
  }
}

static tn_status alternatives(parser *p, bool nested) {
  uint32_t last = TN_GR_NONE; /* end of the alternative before: chained until the common end is known */
  for (;;) {
    uint32_t first = here(p);
    TN_TRY(sequence(p, nested));
    bool more = peek(p) == '|';
    if (more) TN_TRY(put_front(p, first, (tn_gr_state){TN_GR_SPLIT, 0, 0, 0, first + 1, here(p) + 1}));
    p->r->states.items[here(p) - 1].b = last;
    last = here(p) - 1;
    if (!more) break;
    p->at++;
    skip(p, true);
  }
  for (uint32_t before; last != TN_GR_NONE; last = before) {
    before = p->r->states.items[last].b;
    p->r->states.items[last].b = 0;
    aim(p, last, here(p));
  }
  return put(p, TN_GR_JUMP, TN_GR_NONE, 0);
}

static tn_status rule(parser *p) {
  uint32_t index;
  tn_str s = name(p);
  if (!s.len) return fail(p, "a rule's name is expected");
  TN_TRY(rule_of(p, s, &index));
  skip(p, false);
  if (p->end - p->at < 3 || memcmp(p->at, "::=", 3))
    return fail(p, "'::=' is expected behind the rule's name '%s'", p->r->rules.items[index].name);
  if (p->r->rules.items[index].start != TN_GR_NONE)
    return fail(p, "the rule '%s' is defined twice", p->r->rules.items[index].name);
  p->at += 3;
  p->r->rules.items[index].start = here(p);
  p->r->rules.items[index].line = p->line;
  skip(p, true);
  TN_TRY(alternatives(p, false));
  p->r->states.items[here(p) - 1].kind = TN_GR_END;
  char c = peek(p);
  if (c && c != '\n' && c != '\r') return fail(p, "unexpected '%c'", c);
  skip(p, true);
  return TN_OK;
}

tn_status tn_gr_parse(tn_str text, tn_gr_rules *out, char *error, uint64_t error_size) {
  parser p = {text.ptr, text.ptr + text.len, 1, 0, out, {0}, error, error_size};
  uint64_t bad;
  tn_status s = TN_OK;
  memset(out, 0, sizeof *out);
  tn_map_init(&out->names);
  tn_arena_init(&out->arena);
  if (text.len > TN_GR_MAX_TEXT)
    s = fail(&p, "%llu bytes, the limit is %d", (unsigned long long)text.len, TN_GR_MAX_TEXT);
  else if (!tn_utf8_valid(text, &bad) || memchr(text.ptr, 0, text.len))
    s = fail(&p, "the text is not UTF-8");
  skip(&p, true);
  while (!s && p.at < p.end) s = rule(&p);
  tn_vec_fini(&p.ranges);
  return s ? s : tn_gr_check(out, error, error_size);
}

void tn_gr_rules_fini(tn_gr_rules *r) {
  tn_vec_fini(&r->states);
  tn_vec_fini(&r->rules);
  tn_map_fini(&r->names);
  tn_arena_fini(&r->arena);
}
