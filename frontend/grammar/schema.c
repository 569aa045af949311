/* schema.c - a JSON Schema (2020-12, and what older drafts called the same) to GBNF: the dispatch by keyword
 * and type, references, alternatives, and the rules that all grammars share. A grammar may be stricter than
 * its schema (properties come in the order of the schema, numbers have bounded digits), never laxer. */
#include "frontend/grammar/gen.h"
#include <stdlib.h>

typedef enum keyword_use {
  DESCRIBES, /* says nothing about documents */
  SUPPORTED,
  REFUSED
} keyword_use;
static const struct {
  const char *name;
  keyword_use use;
} keywords[] = {
    {"$schema", DESCRIBES},
    {"$id", DESCRIBES},
    {"$comment", DESCRIBES},
    {"$defs", DESCRIBES},
    {"definitions", DESCRIBES},
    {"title", DESCRIBES},
    {"description", DESCRIBES},
    {"default", DESCRIBES},
    {"examples", DESCRIBES},
    {"deprecated", DESCRIBES},
    {"readOnly", DESCRIBES},
    {"writeOnly", DESCRIBES},
    {"contentEncoding", DESCRIBES},
    {"contentMediaType", DESCRIBES},
    {"$ref", SUPPORTED},
    {"type", SUPPORTED},
    {"enum", SUPPORTED},
    {"const", SUPPORTED},
    {"anyOf", SUPPORTED},
    {"oneOf", SUPPORTED},
    {"allOf", SUPPORTED},
    {"nullable", SUPPORTED},
    {"properties", SUPPORTED},
    {"required", SUPPORTED},
    {"additionalProperties", SUPPORTED},
    {"minProperties", SUPPORTED},
    {"maxProperties", SUPPORTED},
    {"items", SUPPORTED},
    {"prefixItems", SUPPORTED},
    {"additionalItems", SUPPORTED},
    {"minItems", SUPPORTED},
    {"maxItems", SUPPORTED},
    {"uniqueItems", SUPPORTED},
    {"minLength", SUPPORTED},
    {"maxLength", SUPPORTED},
    {"pattern", SUPPORTED},
    {"format", SUPPORTED},
    {"minimum", SUPPORTED},
    {"maximum", SUPPORTED},
    {"exclusiveMinimum", SUPPORTED},
    {"exclusiveMaximum", SUPPORTED},
    {"multipleOf", SUPPORTED},
};

/* A character of a string; the escapes are those that stand for one character each. Where it is repeated it
 * is written out, not called: what a place in a string allows then depends on the string's rule alone, and
 * its token mask is made once for all strings. */
#define CHARACTER                                                                                            \
  "([^\"\\\\\\x00-\\x1F\\x7F] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" ([0-9a-cA-CefEF] [0-9a-fA-F]{3} | "         \
  "[dD] [0-7] [0-9a-fA-F]{2})))"

/* Rules that all grammars may use; a rule names those that it needs. */
static const struct {
  const char *name, *body, *needs[6];
} commons[] = {
    {"ws", "(\" \" | \"\\n\" [ ]{0,20})?", {0}},
    {"char", CHARACTER, {0}},
    {"string", "\"\\\"\" " CHARACTER "* \"\\\"\"", {0}},
    {"integer", "\"-\"? (\"0\" | [1-9] [0-9]{0,15})", {0}},
    {"number", "integer (\".\" [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?", {"integer"}},
    {"boolean", "\"true\" | \"false\"", {0}},
    {"null", "\"null\"", {0}},
    {"value",
     "object | array | string | number | boolean | null",
     {"object", "array", "string", "number", "boolean", "null"}},
    {"member", "string \":\" ws value", {"string", "ws", "value"}},
    {"object", "\"{\" ws (member (\",\" ws member)* ws)? \"}\"", {"ws", "member"}},
    {"array", "\"[\" ws (value (\",\" ws value)* ws)? \"]\"", {"ws", "value"}},
};

tn_status tn_schema_refuse(tn_schema_gen *g, const char *keyword, const char *why) {
  return tn_fail(g->diags, TN_UNSUPPORTED, g->name, NULL, "'%s'%s%s: no grammar is made of that", keyword,
                 *why ? " " : "", why);
}

static void need_common(tn_schema_gen *g, const char *rule) {
  for (uint32_t i = 0; i < TN_COUNT(commons); i++) {
    if (strcmp(commons[i].name, rule) || g->commons >> i & 1) continue;
    g->commons |= 1ull << i;
    for (uint32_t k = 0; k < TN_COUNT(commons[i].needs) && commons[i].needs[k]; k++)
      need_common(g, commons[i].needs[k]);
  }
}

void tn_schema_common(tn_schema_gen *g, tn_buf *e, const char *rule) {
  need_common(g, rule);
  tn_buf_puts(e, rule);
}

void tn_schema_characters(tn_schema_gen *g, tn_buf *e, uint32_t least, uint32_t most) {
  enum { WRITTEN_OUT = 2000 }; /* times; the grammar has room for no more */
  if (most == UINT32_MAX ? least <= WRITTEN_OUT : most <= WRITTEN_OUT)
    tn_buf_puts(e, CHARACTER);
  else
    tn_schema_common(g, e, "char");
  tn_schema_times(e, least, most);
}

tn_status tn_schema_rule(tn_schema_gen *g, tn_buf *body, tn_buf *e) {
  if (body->failed || e->failed || g->out->failed) return TN_OOM;
  if (g->nrules >= TN_SCHEMA_MAX_RULES || g->out->len > TN_SCHEMA_MAX_TEXT)
    return tn_fail(g->diags, TN_UNSUPPORTED, g->name, NULL, "the schema is too large for a grammar");
  tn_buf_printf(g->out, "r%u ::= %s\n", g->nrules, tn_buf_cstr(body));
  tn_buf_printf(e, "r%u", g->nrules++);
  return TN_OK;
}

void tn_schema_literal(tn_buf *e, tn_str text) {
  tn_buf_puts(e, "\"");
  for (uint64_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.ptr[i];
    if (c == '"' || c == '\\')
      tn_buf_printf(e, "\\%c", c);
    else if (c < ' ' || c == 0x7f)
      tn_buf_printf(e, "\\x%02X", c);
    else
      tn_buf_put(e, &text.ptr[i], 1);
  }
  tn_buf_puts(e, "\"");
}

void tn_schema_times(tn_buf *e, uint32_t least, uint32_t most) {
  if (least == 1 && most == 1) return;
  if (most == UINT32_MAX)
    least <= 1 ? tn_buf_puts(e, least ? "+" : "*") : tn_buf_printf(e, "{%u,}", least);
  else
    tn_buf_printf(e, "{%u,%u}", least, most);
}

tn_status tn_schema_count(tn_schema_gen *g, tn_json *s, const char *keyword, uint32_t fallback,
                          uint32_t *out) {
  tn_json *n = tn_json_get(s, keyword);
  *out = fallback;
  if (!n) return TN_OK;
  int64_t i = n->kind == TN_JSON_INT ? n->u.i : n->kind == TN_JSON_REAL ? (int64_t)n->u.r : -1;
  if (i < 0 || (n->kind == TN_JSON_REAL && (double)i != n->u.r))
    return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'%s' is %s, expected a count", keyword,
                   tn_json_kind_name(n->kind));
  if (i > 100000) return tn_schema_refuse(g, keyword, "above 100000");
  *out = (uint32_t)i;
  return TN_OK;
}

/* ---- values that are given ----------------------------------------------------------------------------- */

static bool has_type(const tn_json *v, tn_str type) {
  static const char *const names[] = {[TN_JSON_NULL] = "null",     [TN_JSON_BOOL] = "boolean",
                                      [TN_JSON_INT] = "integer",   [TN_JSON_REAL] = "number",
                                      [TN_JSON_STRING] = "string", [TN_JSON_LIST] = "array",
                                      [TN_JSON_OBJECT] = "object"};
  return tn_str_is(type, names[v->kind]) || (v->kind == TN_JSON_INT && tn_str_is(type, "number"));
}

static bool type_allows(const tn_json *type, const tn_json *v) {
  if (!type) return true;
  if (type->kind == TN_JSON_STRING) return has_type(v, type->u.s);
  for (uint32_t i = 0; i < type->count; i++)
    if (has_type(v, type->u.items[i].u.s)) return true;
  return false;
}

static void put_value(tn_schema_gen *g, const tn_json *v, tn_buf *e) {
  tn_buf text = {0};
  (void)g;
  tn_json_write(&text, v);
  tn_schema_literal(e, (tn_str){tn_buf_cstr(&text), text.len});
  e->failed |= text.failed;
  tn_buf_fini(&text);
}

/* enum or const: those of the values that the type allows. Other limits beside them are not looked at, so
 * they must not be there. */
static tn_status given_values(tn_schema_gen *g, tn_json *s, tn_buf *e) {
  tn_json *list = tn_json_get(s, "enum"), *one = tn_json_get(s, "const"), *type = tn_json_get(s, "type");
  uint32_t n = one ? 1 : list->count, put = 0;
  if (list && list->kind != TN_JSON_LIST)
    return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'enum' is %s, expected a list",
                   tn_json_kind_name(list->kind));
  for (uint32_t i = 0; i < s->count; i++) {
    const char *key = s->u.items[i].key;
    for (size_t k = 0; k < TN_COUNT(keywords); k++)
      if (!strcmp(keywords[k].name, key) && keywords[k].use == SUPPORTED && strcmp(key, "enum") &&
          strcmp(key, "const") && strcmp(key, "type") && strcmp(key, "nullable"))
        return tn_schema_refuse(g, key, one ? "beside 'const'" : "beside 'enum'");
  }
  tn_buf_puts(e, "(");
  for (uint32_t i = 0; i < n; i++) {
    const tn_json *v = one ? one : &list->u.items[i];
    bool listed = !one || !list;
    for (uint32_t k = 0; one && list && k < list->count; k++) listed |= tn_json_equal(one, &list->u.items[k]);
    if (!listed || !type_allows(type, v)) continue;
    if (put++) tn_buf_puts(e, " | ");
    put_value(g, v, e);
  }
  tn_buf_puts(e, ")");
  return put ? TN_OK
             : tn_fail(g->diags, TN_INVALID, g->name, NULL, "'%s' allows no value", one ? "const" : "enum");
}

/* ---- references ---------------------------------------------------------------------------------------- */

static int hex(char c) {
  return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* One step of a JSON pointer: "~1" is '/', "~0" is '~', "%41" is 'A'. */
static void unescape(tn_str part, tn_buf *out) {
  for (uint64_t i = 0; i < part.len; i++) {
    char c = part.ptr[i];
    if (c == '~' && i + 1 < part.len && (part.ptr[i + 1] == '0' || part.ptr[i + 1] == '1'))
      c = part.ptr[++i] == '1' ? '/' : '~';
    else if (c == '%' && i + 2 < part.len && hex(part.ptr[i + 1]) >= 0 && hex(part.ptr[i + 2]) >= 0)
      c = (char)(hex(part.ptr[i + 1]) << 4 | hex(part.ptr[i + 2])), i += 2;
    tn_buf_put(out, &c, 1);
  }
}

static tn_json *step(tn_json *at, const char *part) {
  if (!at || at->kind != TN_JSON_LIST) return at ? tn_json_get(at, part) : NULL;
  char *end;
  unsigned long i = strtoul(part, &end, 10);
  return *part && !*end && i < at->count ? &at->u.items[i] : NULL;
}

static tn_json *target(tn_schema_gen *g, tn_str ref) {
  tn_json *at = g->root;
  if (!ref.len || ref.ptr[0] != '#' || (ref.len > 1 && ref.ptr[1] != '/')) return NULL;
  for (uint64_t i = 1; i < ref.len && at;) {
    uint64_t begin = ++i;
    while (i < ref.len && ref.ptr[i] != '/') i++;
    tn_buf part = {0};
    unescape((tn_str){ref.ptr + begin, i - begin}, &part);
    at = step(at, tn_buf_cstr(&part));
    tn_buf_fini(&part);
  }
  return at;
}

tn_json *tn_schema_resolve(tn_schema_gen *g, tn_json *schema) {
  for (int i = 0; i < TN_SCHEMA_MAX_DEPTH && schema; i++) {
    tn_json *ref = tn_json_get(schema, "$ref");
    if (!ref || ref->kind != TN_JSON_STRING) return schema;
    schema = target(g, ref->u.s);
  }
  return NULL;
}

/* A rule per target, written later: so may be recursive. */
static tn_status reference(tn_schema_gen *g, tn_json *ref, tn_buf *e) {
  uint64_t i;
  if (ref->kind != TN_JSON_STRING)
    return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'$ref' is %s, expected a string",
                   tn_json_kind_name(ref->kind));
  if (!tn_map_get(&g->refs, ref->u.s, &i)) {
    tn_json *to = target(g, ref->u.s);
    if (!to)
      return tn_fail(
          g->diags, ref->u.s.len && ref->u.s.ptr[0] == '#' ? TN_INVALID : TN_UNSUPPORTED, g->name, NULL,
          "'$ref' to '%.*s': %s", (int)(ref->u.s.len < 200 ? ref->u.s.len : 200), ref->u.s.ptr,
          ref->u.s.len && ref->u.s.ptr[0] == '#' ? "there is nothing"
                                                 : "only places in the same file (#/...) are known");
    i = g->pending.count;
    TN_TRY(tn_map_put(&g->refs, ref->u.s, i, NULL));
    if (!tn_vec_push(&g->pending, to)) return TN_OOM;
  }
  tn_buf_printf(e, "ref%llu", (unsigned long long)i);
  return TN_OK;
}

/* ---- one schema ---------------------------------------------------------------------------------------- */

static tn_status check_keywords(tn_schema_gen *g, const tn_json *s) {
  for (uint32_t i = 0; i < s->count; i++) {
    bool known = false;
    for (size_t k = 0; k < TN_COUNT(keywords) && !known; k++)
      known = !strcmp(keywords[k].name, s->u.items[i].key);
    if (!known) return tn_schema_refuse(g, s->u.items[i].key, "");
  }
  return TN_OK;
}

static bool has_limits(const tn_json *s, const char *but) {
  for (uint32_t i = 0; i < s->count; i++)
    for (size_t k = 0; k < TN_COUNT(keywords); k++)
      if (!strcmp(keywords[k].name, s->u.items[i].key) && keywords[k].use == SUPPORTED &&
          strcmp(s->u.items[i].key, but))
        return true;
  return false;
}

static tn_status check_exclusive(tn_schema_gen *g, tn_json *list) {
  for (uint32_t i = 0; i < list->count; i++)
    for (uint32_t k = i + 1; k < list->count; k++)
      if (!tn_schema_disjoint(g, &list->u.items[i], &list->u.items[k], 0))
        return tn_fail(g->diags, TN_UNSUPPORTED, g->name, NULL,
                       "'oneOf': a document may satisfy both alternatives %u and %u; use 'anyOf' if it may",
                       i, k);
  return TN_OK;
}

/* anyOf and oneOf: each alternative together with what stands beside the keyword. */
static tn_status alternatives(tn_schema_gen *g, tn_json *s, const char *keyword, tn_buf *e) {
  tn_json *list = tn_json_get(s, keyword);
  tn_buf body = {0};
  tn_status status = TN_OK;
  if (list->kind != TN_JSON_LIST || !list->count)
    return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'%s' must be a list that is not empty", keyword);
  if (!strcmp(keyword, "oneOf")) TN_TRY(check_exclusive(g, list));
  for (uint32_t i = 0; i < list->count && !status; i++) {
    tn_json *one = &list->u.items[i];
    if (has_limits(s, keyword)) status = tn_schema_merge(g, one, s, keyword, &one);
    if (i) tn_buf_puts(&body, " | ");
    if (!status) status = tn_schema_visit(g, one, &body);
  }
  if (!status) status = tn_schema_rule(g, &body, e);
  tn_buf_fini(&body);
  return status;
}

static tn_status all_of(tn_schema_gen *g, tn_json *s, tn_buf *e) {
  tn_json *list = tn_json_get(s, "allOf"), *merged = s;
  if (list->kind != TN_JSON_LIST || !list->count)
    return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'allOf' must be a list that is not empty");
  TN_TRY(tn_schema_merge(g, &list->u.items[0], s, "allOf", &merged));
  for (uint32_t i = 1; i < list->count; i++)
    TN_TRY(tn_schema_merge(g, merged, &list->u.items[i], "", &merged));
  return tn_schema_visit(g, merged, e);
}

static tn_status of_type(tn_schema_gen *g, tn_json *s, tn_str type, tn_buf *e) {
  if (tn_str_is(type, "object")) return tn_schema_object(g, s, e);
  if (tn_str_is(type, "array")) return tn_schema_array(g, s, e);
  if (tn_str_is(type, "string")) return tn_schema_string(g, s, e);
  if (tn_str_is(type, "integer")) return tn_schema_number(g, s, true, e);
  if (tn_str_is(type, "number")) return tn_schema_number(g, s, false, e);
  if (tn_str_is(type, "boolean")) return tn_schema_common(g, e, "boolean"), TN_OK;
  if (tn_str_is(type, "null")) return tn_schema_common(g, e, "null"), TN_OK;
  return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'type' is '%.*s', which is none",
                 (int)(type.len < 100 ? type.len : 100), type.ptr);
}

static tn_status of_types(tn_schema_gen *g, tn_json *s, const tn_json *types, tn_buf *e) {
  if (types->kind != TN_JSON_LIST || !types->count)
    return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'type' must be a name or a list of names");
  tn_buf_puts(e, "(");
  for (uint32_t i = 0; i < types->count; i++) {
    if (types->u.items[i].kind != TN_JSON_STRING)
      return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'type' must be a name or a list of names");
    if (i) tn_buf_puts(e, " | ");
    TN_TRY(of_type(g, s, types->u.items[i].u.s, e));
  }
  tn_buf_puts(e, ")");
  return TN_OK;
}

/* Without 'type', keywords tell which one is meant. */
static const struct {
  const char *keyword, *type;
} hints[] = {{"properties", "object"},    {"required", "object"},         {"additionalProperties", "object"},
             {"minProperties", "object"}, {"maxProperties", "object"},    {"items", "array"},
             {"prefixItems", "array"},    {"minItems", "array"},          {"maxItems", "array"},
             {"uniqueItems", "array"},    {"minLength", "string"},        {"maxLength", "string"},
             {"pattern", "string"},       {"format", "string"},           {"minimum", "number"},
             {"maximum", "number"},       {"exclusiveMinimum", "number"}, {"exclusiveMaximum", "number"},
             {"multipleOf", "number"}};

static tn_status plain(tn_schema_gen *g, tn_json *s, tn_buf *e) {
  tn_json *type = tn_json_get(s, "type");
  if (tn_json_get(s, "const") || tn_json_get(s, "enum")) return given_values(g, s, e);
  if (type && type->kind == TN_JSON_STRING) return of_type(g, s, type->u.s, e);
  if (type) return of_types(g, s, type, e);
  for (size_t i = 0; i < TN_COUNT(hints); i++)
    if (tn_json_get(s, hints[i].keyword)) return of_type(g, s, tn_str_of(hints[i].type), e);
  return tn_schema_common(g, e, "value"), TN_OK;
}

static tn_status visit(tn_schema_gen *g, tn_json *s, tn_buf *e) {
  static const char *const several[] = {"anyOf", "oneOf"};
  if (s->kind == TN_JSON_BOOL && s->u.b) return tn_schema_common(g, e, "value"), TN_OK;
  if (s->kind != TN_JSON_OBJECT)
    return tn_fail(g->diags, TN_INVALID, g->name, NULL, "a schema is %s%s",
                   s->kind == TN_JSON_BOOL ? "false: it allows nothing" : tn_json_kind_name(s->kind),
                   s->kind == TN_JSON_BOOL ? "" : ", expected an object");
  TN_TRY(check_keywords(g, s));
  tn_json *ref = tn_json_get(s, "$ref"), *nullable = tn_json_get(s, "nullable");
  bool null = nullable && nullable->kind == TN_JSON_BOOL && nullable->u.b;
  if (null) tn_buf_puts(e, "(\"null\" | ");
  tn_status status;
  if (ref && has_limits(s, "$ref")) {
    tn_json *to = tn_schema_resolve(g, s), *merged;
    if (!to) return reference(g, ref, e);
    TN_TRY(tn_schema_merge(g, to, s, "$ref", &merged));
    status = tn_schema_visit(g, merged, e);
  } else if (ref) {
    status = reference(g, ref, e);
  } else if (tn_json_get(s, "allOf")) {
    status = all_of(g, s, e);
  } else if (tn_json_get(s, several[0]) || tn_json_get(s, several[1])) {
    status = alternatives(g, s, several[!tn_json_get(s, several[0])], e);
  } else {
    status = plain(g, s, e);
  }
  if (null) tn_buf_puts(e, ")");
  return status;
}

tn_status tn_schema_visit(tn_schema_gen *g, tn_json *schema, tn_buf *e) {
  if (g->depth >= TN_SCHEMA_MAX_DEPTH)
    return tn_fail(g->diags, TN_UNSUPPORTED, g->name, NULL, "schemas are nested more than %d deep",
                   TN_SCHEMA_MAX_DEPTH);
  g->depth++;
  tn_status s = visit(g, schema, e);
  g->depth--;
  return s;
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

static tn_status put_refs(tn_schema_gen *g) {
  for (uint32_t i = 0; i < g->pending.count; i++) {
    tn_buf body = {0};
    tn_status s = tn_schema_visit(g, g->pending.items[i], &body);
    tn_buf_printf(g->out, "ref%u ::= %s\n", i, tn_buf_cstr(&body));
    tn_buf_fini(&body);
    TN_TRY(s);
  }
  return TN_OK;
}

tn_status tn_schema_to_gbnf(tn_str json, const char *name, tn_buf *gbnf, tn_diags *diags) {
  tn_schema_gen g = {.name = name, .diags = diags, .out = gbnf};
  tn_buf root = {0};
  tn_arena_init(&g.arena);
  tn_map_init(&g.refs);
  tn_status s = tn_json_parse(&g.arena, json, name, diags, &g.root);
  if (!s) s = tn_schema_visit(&g, g.root, &root);
  if (!s) tn_buf_printf(gbnf, "root ::= %s\n", tn_buf_cstr(&root));
  if (!s) s = put_refs(&g);
  for (uint32_t i = 0; i < TN_COUNT(commons) && !s; i++)
    if (g.commons >> i & 1) tn_buf_printf(gbnf, "%s ::= %s\n", commons[i].name, commons[i].body);
  if (!s && (gbnf->failed || root.failed)) s = TN_OOM;
  tn_buf_fini(&root);
  tn_map_fini(&g.refs);
  tn_vec_fini(&g.pending);
  tn_arena_fini(&g.arena);
  return s;
}
