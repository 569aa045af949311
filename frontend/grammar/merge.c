/* merge.c - two schemas as one that says what both say, and whether two exclude each other. */
#include "frontend/grammar/gen.h"

/* How two values of a keyword become one. */
typedef enum rule { SAME, LEAST, MOST, UNION, TYPES, PROPERTIES, LATTER } rule;
static const struct {
  const char *name;
  rule rule;
} rules[] = {{"minimum", MOST},          {"exclusiveMinimum", MOST},
             {"maximum", LEAST},         {"exclusiveMaximum", LEAST},
             {"minLength", MOST},        {"maxLength", LEAST},
             {"minItems", MOST},         {"maxItems", LEAST},
             {"minProperties", MOST},    {"maxProperties", LEAST},
             {"required", UNION},        {"type", TYPES},
             {"properties", PROPERTIES}, {"title", LATTER},
             {"description", LATTER},    {"default", LATTER},
             {"examples", LATTER},       {"$comment", LATTER},
             {"$defs", LATTER},          {"definitions", LATTER},
             {"$schema", LATTER},        {"$id", LATTER},
             {"deprecated", LATTER}};

static double number(const tn_json *v) { return v->kind == TN_JSON_INT ? (double)v->u.i : v->u.r; }
static bool is_number(const tn_json *v) { return v->kind == TN_JSON_INT || v->kind == TN_JSON_REAL; }

static tn_json *list_of(tn_schema_gen *g, uint32_t room) {
  tn_json *l = tn_arena_alloc(&g->arena, sizeof *l);
  if (!l) return NULL;
  l->kind = TN_JSON_LIST;
  l->u.items = tn_arena_alloc(&g->arena, (room + 1) * sizeof *l->u.items);
  return l->u.items ? l : NULL;
}

static bool in_list(const tn_json *l, const tn_json *v) {
  for (uint32_t i = 0; i < l->count; i++)
    if (tn_json_equal(&l->u.items[i], v)) return true;
  return false;
}

static void set(tn_json *to, const tn_json *value) {
  const char *key = to->key;
  *to = *value;
  to->key = key;
}

static tn_status unite(tn_schema_gen *g, tn_json *to, const tn_json *b) {
  if (to->kind != TN_JSON_LIST || b->kind != TN_JSON_LIST)
    return tn_schema_refuse(g, to->key, "in two parts");
  tn_json *l = list_of(g, to->count + b->count);
  if (!l) return TN_OOM;
  for (uint32_t i = 0; i < to->count; i++) l->u.items[l->count++] = to->u.items[i];
  for (uint32_t i = 0; i < b->count; i++)
    if (!in_list(to, &b->u.items[i])) l->u.items[l->count++] = b->u.items[i];
  return set(to, l), TN_OK;
}

static bool type_in(const tn_json *types, const tn_json *t) {
  bool integer = t->kind == TN_JSON_STRING && tn_str_is(t->u.s, "integer");
  for (uint32_t i = 0, n = types->kind == TN_JSON_LIST ? types->count : 1; i < n; i++) {
    const tn_json *x = types->kind == TN_JSON_LIST ? &types->u.items[i] : types;
    if (tn_json_equal(x, t) || (integer && x->kind == TN_JSON_STRING && tn_str_is(x->u.s, "number")))
      return true;
  }
  return false;
}

/* Types that are in both. */
static tn_status common_types(tn_schema_gen *g, tn_json *to, const tn_json *b) {
  const tn_json *sides[] = {to, b};
  tn_json *l = list_of(g, 16);
  if (!l) return TN_OOM;
  for (int k = 0; k < 2; k++)
    for (uint32_t i = 0, n = sides[k]->kind == TN_JSON_LIST ? sides[k]->count : 1; i < n && l->count < 16;
         i++) {
      const tn_json *x = sides[k]->kind == TN_JSON_LIST ? &sides[k]->u.items[i] : sides[k];
      if (type_in(sides[!k], x) && !in_list(l, x)) l->u.items[l->count++] = *x;
    }
  if (!l->count)
    return tn_fail(g->diags, TN_INVALID, g->name, NULL,
                   "'type': what must hold together excludes each other");
  return set(to, l->count == 1 ? &l->u.items[0] : l), TN_OK;
}

/* {"allOf": [a, b]} */
static tn_json *both(tn_schema_gen *g, const tn_json *a, const tn_json *b) {
  tn_json *o = tn_arena_alloc(&g->arena, sizeof *o), *l = list_of(g, 2);
  if (!o || !l) return NULL;
  l->u.items[l->count++] = *a;
  l->u.items[l->count++] = *b;
  o->kind = TN_JSON_OBJECT;
  tn_json *at = tn_json_add(&g->arena, o, "allOf");
  if (at) set(at, l);
  return at ? o : NULL;
}

static tn_status join_properties(tn_schema_gen *g, tn_json *to, const tn_json *b) {
  if (to->kind != TN_JSON_OBJECT || b->kind != TN_JSON_OBJECT)
    return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'properties' must be an object");
  tn_json copy = *to;
  copy.u.items = tn_arena_copy(&g->arena, to->u.items, to->count * sizeof *to->u.items);
  if (to->count && !copy.u.items) return TN_OOM;
  for (uint32_t i = 0; i < b->count; i++) {
    const tn_json *p = &b->u.items[i], *old = tn_json_get(&copy, p->key);
    const tn_json *value = old ? both(g, old, p) : p;
    tn_json *at = value ? tn_json_add(&g->arena, &copy, p->key) : NULL;
    if (!at) return TN_OOM;
    set(at, value);
  }
  return set(to, &copy), TN_OK;
}

static tn_status join(tn_schema_gen *g, tn_json *to, const tn_json *b) {
  rule r = SAME;
  for (size_t i = 0; i < TN_COUNT(rules); i++)
    if (!strcmp(rules[i].name, to->key)) r = rules[i].rule;
  if (tn_json_equal(to, b) || r == LATTER) return TN_OK;
  if (r == UNION) return unite(g, to, b);
  if (r == TYPES) return common_types(g, to, b);
  if (r == PROPERTIES) return join_properties(g, to, b);
  if (r == SAME || !is_number(to) || !is_number(b))
    return tn_schema_refuse(g, to->key, "with two values that must both hold");
  if ((number(b) > number(to)) == (r == MOST)) set(to, b);
  return TN_OK;
}

/* 'additionalProperties' speaks of the properties beside it only: what the other side lists is additional. */
static tn_status check_closed(tn_schema_gen *g, tn_json *a, tn_json *b) {
  tn_json *sides[] = {a, b};
  for (int k = 0; k < 2; k++) {
    const tn_json *closed = tn_json_get(sides[k], "additionalProperties");
    const tn_json *mine = tn_json_get(sides[k], "properties"), *other = tn_json_get(sides[!k], "properties");
    if (!closed || !other || (closed->kind == TN_JSON_BOOL && closed->u.b)) continue;
    for (uint32_t i = 0; i < other->count; i++)
      if (!mine || !tn_json_get(mine, other->u.items[i].key))
        return tn_schema_refuse(g, "additionalProperties", "beside properties that another part lists");
  }
  return TN_OK;
}

/* What a reference leads to, together with what stands beside it. */
static tn_status flatten(tn_schema_gen *g, tn_json **s) {
  tn_json *ref = tn_json_get(*s, "$ref"), *to = tn_schema_resolve(g, *s);
  if (!ref) return TN_OK;
  if (!to) return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'$ref' leads nowhere");
  if ((*s)->count == 1) return *s = to, TN_OK;
  return tn_schema_merge(g, to, *s, "$ref", s);
}

tn_status tn_schema_merge(tn_schema_gen *g, tn_json *a, tn_json *b, const char *skip, tn_json **out) {
  tn_json *m = tn_arena_alloc(&g->arena, sizeof *m);
  TN_TRY(flatten(g, &a));
  if (!*skip) TN_TRY(flatten(g, &b));
  if (!m) return TN_OOM;
  if (a->kind == TN_JSON_BOOL && a->u.b) a = b;
  if (b->kind == TN_JSON_BOOL && b->u.b) b = a;
  if (a->kind != TN_JSON_OBJECT || b->kind != TN_JSON_OBJECT)
    return tn_fail(g->diags, TN_INVALID, g->name, NULL, "a schema is %s, expected an object",
                   tn_json_kind_name((a->kind == TN_JSON_OBJECT ? b : a)->kind));
  TN_TRY(check_closed(g, a, b));
  m->kind = TN_JSON_OBJECT;
  for (uint32_t k = 0; k < 2; k++)
    for (uint32_t i = 0; i < (k ? b : a)->count; i++) {
      const tn_json *v = &(k ? b : a)->u.items[i];
      if (k && !strcmp(v->key, skip)) continue;
      bool there = tn_json_get(m, v->key);
      tn_json *to = tn_json_add(&g->arena, m, v->key);
      if (!to) return TN_OOM;
      if (!there)
        set(to, v);
      else
        TN_TRY(join(g, to, v));
    }
  *out = m;
  return TN_OK;
}

/* ---- exclusion ----------------------------------------------------------------------------------------- */

static const tn_json *values_of(const tn_json *s, uint32_t *n) {
  const tn_json *one = tn_json_get(s, "const"), *list = tn_json_get(s, "enum");
  *n = one ? 1 : list && list->kind == TN_JSON_LIST ? list->count : 0;
  return one ? one : list && list->kind == TN_JSON_LIST ? list->u.items : NULL;
}

static const char *type_of_value(const tn_json *v) {
  static const char *const names[] = {"null", "boolean", "integer", "number", "string", "array", "object"};
  return names[v->kind];
}

/* The types of a schema as bits; all where it says nothing. */
static uint32_t type_bits(const tn_json *s) {
  static const char *const names[] = {"null", "boolean", "integer", "number", "string", "array", "object"};
  const tn_json *t = tn_json_get(s, "type");
  uint32_t bits = 0, n;
  const tn_json *v = values_of(s, &n);
  for (uint32_t i = 0; i < TN_COUNT(names); i++) {
    bool on = !t && !v;
    for (uint32_t k = 0; t && k < (t->kind == TN_JSON_LIST ? t->count : 1); k++) {
      const tn_json *x = t->kind == TN_JSON_LIST ? &t->u.items[k] : t;
      on |= x->kind == TN_JSON_STRING && tn_str_is(x->u.s, names[i]);
    }
    for (uint32_t k = 0; !t && k < n; k++) on |= !strcmp(type_of_value(&v[k]), names[i]);
    if (on) bits |= 1u << i;
  }
  if (bits & 1u << TN_JSON_REAL) bits |= 1u << TN_JSON_INT; /* numbers hold integers */
  return bits;
}

static bool different_values(const tn_json *a, const tn_json *b) {
  uint32_t na, nb;
  const tn_json *va = values_of(a, &na), *vb = values_of(b, &nb);
  if (!va || !vb) return false;
  for (uint32_t i = 0; i < na; i++)
    for (uint32_t k = 0; k < nb; k++)
      if (tn_json_equal(&va[i], &vb[k])) return false;
  return true;
}

static bool requires(const tn_json *s, const char *key) {
  const tn_json *r = tn_json_get(s, "required");
  for (uint32_t i = 0; r && r->kind == TN_JSON_LIST && i < r->count; i++)
    if (r->u.items[i].kind == TN_JSON_STRING && tn_str_is(r->u.items[i].u.s, key)) return true;
  return false;
}

bool tn_schema_disjoint(tn_schema_gen *g, tn_json *a, tn_json *b, int depth) {
  a = tn_schema_resolve(g, a), b = tn_schema_resolve(g, b);
  if (!a || !b || depth > 8 || a->kind != TN_JSON_OBJECT || b->kind != TN_JSON_OBJECT) return false;
  uint32_t ta = type_bits(a), tb = type_bits(b), object = 1u << TN_JSON_OBJECT;
  if (!(ta & tb) || different_values(a, b)) return true;
  if ((ta & tb) != object) return false;
  const tn_json *pa = tn_json_get(a, "properties"), *pb = tn_json_get(b, "properties");
  if (!pa || !pb || pa->kind != TN_JSON_OBJECT || pb->kind != TN_JSON_OBJECT) return false;
  const tn_json *closed[] = {tn_json_get(a, "additionalProperties"), tn_json_get(b, "additionalProperties")};
  for (uint32_t i = 0; i < pa->count; i++) {
    tn_json *mine = &pa->u.items[i], *other = tn_json_get(pb, mine->key);
    bool in_a = requires(a, mine->key);
    if (other && in_a && requires(b, mine->key) && tn_schema_disjoint(g, mine, other, depth + 1)) return true;
    if (!other && in_a && closed[1] && closed[1]->kind == TN_JSON_BOOL && !closed[1]->u.b) return true;
  }
  for (uint32_t i = 0; i < pb->count; i++)
    if (!tn_json_get(pa, pb->u.items[i].key) && requires(b, pb->u.items[i].key) && closed[0] &&
        closed[0]->kind == TN_JSON_BOOL && !closed[0]->u.b)
      return true;
  return false;
}
