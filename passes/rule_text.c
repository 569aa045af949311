/* rule_text.c - the reader of rules: patterns and replacements into trees, and TN_RULE(...) texts into rules.
 * The built-in rules pass through the same reader as a plugin's. */
#include "passes/match.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct reader {
  tn_ruleset *set;
  tn_rule *rule;
  tn_diags *diags;
  const char *text, *p;
  bool replacement;
} reader;

static tn_status fail(reader *r, const char *fmt, const char *what) {
  char words[200];
  snprintf(words, sizeof words, fmt, what);
  return tn_fail(r->diags, TN_INVALID, NULL, "rewrite rule", "%s: %s, at column %d of \"%.200s\"",
                 r->rule->name, words, (int)(r->p - r->text) + 1, r->text);
}

static void skip(reader *r) {
  while (isspace((unsigned char)*r->p)) r->p++;
}

static bool is_word(char c) { return isalnum((unsigned char)c) || c == '_' || c == '.'; }

static const char *read_word(reader *r) {
  const char *from = r->p;
  while (is_word(*r->p)) r->p++;
  return tn_arena_str(&r->set->arena, (tn_str){from, (uint64_t)(r->p - from)});
}

static tn_status read_number(reader *r, double *out) {
  char *end;
  *out = strtod(r->p, &end);
  if (end == r->p) return fail(r, "expected a number%s", "");
  r->p = end;
  return TN_OK;
}

/* ?x and %x name bindings of the rule; a replacement may only use what the pattern (or its guard) binds. */
static tn_status read_binding(reader *r, uint32_t *out) {
  r->p++;
  const char *name = read_word(r);
  if (!name) return TN_OOM;
  if (!*name) return fail(r, "expected a name behind '%s'", "?");
  for (uint32_t i = 0; i < r->rule->nnames; i++)
    if (!strcmp(r->rule->names[i], name)) return *out = i, TN_OK;
  if (r->replacement && !r->rule->guard) return fail(r, "'%s' is not bound by the pattern", name);
  if (r->rule->nnames == TN_RULE_NAMES) return fail(r, "too many names; '%s' is one more than fit", name);
  *out = r->rule->nnames;
  r->rule->names[r->rule->nnames++] = name;
  return TN_OK;
}

static const tn_attr_spec *attr_of(const tn_op_spec *s, const char *name) {
  for (uint32_t i = 0; i < s->nattrs; i++)
    if (!strcmp(s->attrs[i].name, name)) return &s->attrs[i];
  return NULL;
}

static tn_status read_list(reader *r, tn_pat_attr *a) {
  a->kind = TN_PATTR_LIST;
  r->p++;
  skip(r);
  while (*r->p != ']') {
    double v;
    if (a->count == TN_MAX_RANK) return fail(r, "list of '%s' is too long", a->attr);
    TN_TRY(read_number(r, &v));
    a->list[a->count++] = (int64_t)v;
    skip(r);
    if (*r->p == ',') r->p++;
    skip(r);
  }
  r->p++;
  return TN_OK;
}

static tn_status read_attr_value(reader *r, tn_pat_attr *a) {
  if (*r->p == '?' || *r->p == '%') return a->kind = TN_PATTR_NAME, read_binding(r, &a->name);
  if (*r->p == '[') return read_list(r, a);
  if (*r->p == '@') {
    r->p++;
    const char *word = read_word(r);
    if (!word) return TN_OOM;
    a->kind = !strcmp(word, "shape") ? TN_PATTR_SHAPE : !strcmp(word, "dtype") ? TN_PATTR_DTYPE : 0;
    return a->kind && r->replacement ? TN_OK : fail(r, "'@%s' is no word of a replacement", word);
  }
  if (isdigit((unsigned char)*r->p) || *r->p == '-')
    return a->kind = TN_PATTR_NUMBER, read_number(r, &a->number);
  a->kind = TN_PATTR_WORD;
  a->word = read_word(r);
  if (!a->word) return TN_OOM;
  return *a->word ? TN_OK : fail(r, "expected a value of attribute '%s'", a->attr);
}

static tn_status read_attrs(reader *r, tn_pat *p) {
  const tn_op_spec *s = tn_op_spec_of(p->opcode);
  r->p++;
  p->attrs = tn_arena_alloc(&r->set->arena, (s->nattrs + 1) * sizeof *p->attrs);
  if (!p->attrs) return TN_OOM;
  for (skip(r); *r->p != '}'; skip(r)) {
    const char *name = read_word(r);
    const tn_attr_spec *spec = name ? attr_of(s, name) : NULL;
    if (!spec || p->nattrs == s->nattrs) return fail(r, "the op has no attribute '%s'", name);
    tn_pat_attr *a = &p->attrs[p->nattrs++];
    a->attr = spec->name;
    skip(r);
    if (*r->p++ != '=') return fail(r, "expected '=' behind attribute '%s'", name);
    skip(r);
    TN_TRY(read_attr_value(r, a));
    skip(r);
    if (*r->p == ',')
      r->p++;
    else if (*r->p != '}')
      return fail(r, "expected '}' behind attribute '%s'", name);
  }
  r->p++;
  return TN_OK;
}

static tn_status read_pattern(reader *r, tn_pat **out, uint32_t depth);

static tn_status read_operands(reader *r, tn_pat *p, uint32_t depth) {
  tn_pat *list[TN_RULE_NAMES];
  for (skip(r); *r->p != ')'; skip(r)) {
    if (!*r->p) return fail(r, "expected ')'%s", "");
    if (p->noperands == TN_COUNT(list)) return fail(r, "too many operands%s", "");
    TN_TRY(read_pattern(r, &list[p->noperands++], depth + 1));
  }
  r->p++;
  if (!p->noperands) return TN_OK;
  p->operands = tn_arena_copy(&r->set->arena, list, p->noperands * sizeof *list);
  return p->operands ? TN_OK : TN_OOM;
}

static tn_status read_op(reader *r, tn_pat *p, uint32_t depth) {
  r->p++;
  skip(r);
  const char *name = read_word(r);
  if (!name) return TN_OOM;
  p->kind = TN_PAT_OP;
  p->opcode = tn_ir_opcode_by_name(name);
  if (!p->opcode) return fail(r, "unknown op '%s'", name);
  if (!strncmp(r->p, ":c", 2)) {
    r->p += 2;
    p->commutes = true;
  }
  if (*r->p == '!') {
    r->p++;
    p->one_use = true;
  }
  if (*r->p == '{') TN_TRY(read_attrs(r, p));
  TN_TRY(read_operands(r, p, depth));
  return p->commutes && p->noperands != 2 ? fail(r, "'%s' commutes but has not two operands", name) : TN_OK;
}

/* ?x, ?x!, %c and, in a pattern, ?x=(...). */
static tn_status read_name(reader *r, tn_pat *p, uint32_t depth) {
  p->kind = *r->p == '?' ? TN_PAT_VAR : TN_PAT_CONST;
  TN_TRY(read_binding(r, &p->name));
  if (*r->p == '!') {
    r->p++;
    p->one_use = true;
  }
  if (*r->p != '=' || r->replacement) return TN_OK;
  r->p++;
  p->operands = tn_arena_alloc(&r->set->arena, sizeof *p->operands);
  if (!p->operands) return TN_OOM;
  p->noperands = 1;
  return read_pattern(r, &p->operands[0], depth + 1);
}

static tn_status read_leaf(reader *r, tn_pat *p, uint32_t depth) {
  if (*r->p == '?' || *r->p == '%') return read_name(r, p, depth);
  if (*r->p == '_' && !r->replacement) {
    r->p++;
    p->kind = TN_PAT_ANY;
    return TN_OK;
  }
  p->kind = TN_PAT_NUMBER;
  if (*r->p == '~') {
    r->p++;
    p->near = true;
  }
  return read_number(r, &p->number);
}

static tn_status read_pattern(reader *r, tn_pat **out, uint32_t depth) {
  tn_pat *p = tn_arena_alloc(&r->set->arena, sizeof *p);
  if (!p) return TN_OOM;
  *out = p;
  if (depth > TN_RULE_OPS / 2) return fail(r, "pattern is nested too deeply%s", "");
  skip(r);
  return *r->p == '(' ? read_op(r, p, depth) : read_leaf(r, p, depth);
}

static tn_status read_side(reader *r, const char *text, bool replacement, tn_pat **out) {
  r->text = r->p = text;
  r->replacement = replacement;
  TN_TRY(read_pattern(r, out, 0));
  skip(r);
  return *r->p ? fail(r, "unexpected '%.20s' behind the end", r->p) : TN_OK;
}

tn_status tn_ruleset_add(tn_ruleset *s, tn_diags *d, const tn_rule_source *src) {
  tn_rule rule = {.name = tn_arena_str(&s->arena, tn_str_of(src->name)), .benefit = src->benefit};
  if (!rule.name) return TN_OOM;
  reader r = {s, &rule, d, "", "", false};
  if (src->guard && strcmp(src->guard, "NULL")) {
    rule.guard = tn_guard_by_name(src->guard);
    if (!rule.guard)
      return tn_fail(d, TN_INVALID, NULL, "rewrite rule", "%s: unknown guard '%s'", src->name, src->guard);
  }
  rule.order = s->rules.count;
  TN_TRY(read_side(&r, src->pattern, false, &rule.pattern));
  if (rule.pattern->kind != TN_PAT_OP) return fail(&r, "a pattern begins with an op%s", "");
  TN_TRY(read_side(&r, src->replacement, true, &rule.replacement));
  return tn_vec_push(&s->rules, rule) ? TN_OK : TN_OOM;
}

/* ---- TN_RULE(...) as text -------------------------------------------------------------------- */
typedef struct file_reader {
  tn_ruleset *set;
  tn_diags *diags;
  const char *file, *from, *p, *end;
} file_reader;

static uint32_t line_of(const file_reader *f) {
  uint32_t line = 1;
  for (const char *p = f->from; p < f->p; p++) line += *p == '\n';
  return line;
}

static tn_status file_fail(file_reader *f, const char *what) {
  return tn_fail_at(f->diags, TN_INVALID, f->file, line_of(f), 0, "%s", what);
}

static bool at(const file_reader *f, const char *s) {
  size_t n = strlen(s);
  return (size_t)(f->end - f->p) >= n && !memcmp(f->p, s, n);
}

static void skip_blank(file_reader *f) {
  while (f->p < f->end) {
    if (isspace((unsigned char)*f->p))
      f->p++;
    else if (at(f, "//"))
      while (f->p < f->end && *f->p != '\n') f->p++;
    else if (at(f, "/*")) {
      f->p += 2;
      while (f->p < f->end && !at(f, "*/")) f->p++;
      f->p += at(f, "*/") ? 2 : 0;
    } else
      return;
  }
}

static tn_status expect(file_reader *f, char c) {
  char words[48];
  skip_blank(f);
  snprintf(words, sizeof words, "expected '%c' in TN_RULE(...)", c);
  if (f->p == f->end || *f->p != c) return file_fail(f, words);
  f->p++;
  return TN_OK;
}

static tn_status read_ident(file_reader *f, const char **out) {
  skip_blank(f);
  const char *from = f->p;
  while (f->p < f->end && (is_word(*f->p) || *f->p == '-')) f->p++;
  if (from == f->p) return file_fail(f, "expected a name or number in TN_RULE(...)");
  *out = tn_arena_str(&f->set->arena, (tn_str){from, (uint64_t)(f->p - from)});
  return *out ? TN_OK : TN_OOM;
}

/* One string, or several in a row. Rule texts need no escapes, so a backslash is refused. */
static tn_status read_string(file_reader *f, const char **out) {
  tn_buf text = {0};
  tn_status status = TN_OK;
  skip_blank(f);
  if (f->p == f->end || *f->p != '"') return file_fail(f, "expected a string in TN_RULE(...)");
  for (; status == TN_OK && f->p < f->end && *f->p == '"'; skip_blank(f)) {
    const char *from = ++f->p;
    while (f->p < f->end && *f->p != '"' && *f->p != '\n' && *f->p != '\\') f->p++;
    if (f->p == f->end || *f->p != '"') status = file_fail(f, "string without end in TN_RULE(...)");
    tn_buf_put(&text, from, (uint64_t)(f->p - from));
    f->p += status == TN_OK;
  }
  *out = tn_arena_str(&f->set->arena, tn_str_of(tn_buf_cstr(&text)));
  bool failed = text.failed || !*out;
  tn_buf_fini(&text);
  return status != TN_OK ? status : failed ? TN_OOM : TN_OK;
}

static tn_status read_rule(file_reader *f) {
  tn_rule_source s = {0};
  const char *benefit;
  if (!at(f, "TN_RULE")) return file_fail(f, "expected TN_RULE(name, benefit, pattern, replacement, guard)");
  f->p += strlen("TN_RULE");
  TN_TRY(expect(f, '('));
  TN_TRY(read_ident(f, &s.name));
  TN_TRY(expect(f, ','));
  TN_TRY(read_ident(f, &benefit));
  s.benefit = atoi(benefit);
  TN_TRY(expect(f, ','));
  TN_TRY(read_string(f, &s.pattern));
  TN_TRY(expect(f, ','));
  TN_TRY(read_string(f, &s.replacement));
  TN_TRY(expect(f, ','));
  TN_TRY(read_ident(f, &s.guard));
  TN_TRY(expect(f, ')'));
  return tn_ruleset_add(f->set, f->diags, &s);
}

tn_status tn_ruleset_add_text(tn_ruleset *s, tn_diags *d, const char *file, tn_str text) {
  file_reader f = {s, d, file, text.ptr, text.ptr, text.ptr + text.len};
  for (skip_blank(&f); f.p < f.end; skip_blank(&f)) TN_TRY(read_rule(&f));
  return TN_OK;
}
