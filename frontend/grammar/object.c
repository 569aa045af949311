/* object.c - objects and arrays. Properties come in the order of the schema; those that are not required may
 * be left out. A rule per property says what may follow once something was written: a comma and that
 * property, or what may follow the next. */
#include "frontend/grammar/gen.h"
#include <stdlib.h>

typedef struct object {
  tn_schema_gen *g;
  tn_json *properties, *required, *rest; /* rest: schema of further properties, NULL: there are none */
  uint32_t n;
  bool *needed;
  tn_str *pairs, *tails; /* per property: "key": value; what may follow it. tails has one more */
} object;

static tn_status keep(object *o, tn_buf *b, tn_str *out) {
  char *text = tn_arena_str(&o->g->arena, (tn_str){tn_buf_cstr(b), b->len});
  bool ok = text && !b->failed;
  *out = (tn_str){text, ok ? b->len : 0};
  tn_buf_fini(b);
  return ok ? TN_OK : TN_OOM;
}

static void put(tn_buf *b, tn_str s) { tn_buf_put(b, s.ptr, s.len); }

#define KEY_CHARACTER "[^\"\\\\\\x00-\\x1F\\x7F]"

/* What is left, the closing quote too, of a key that is none of names[from .. to), which are sorted and share
 * their first `at` bytes. Characters that JSON would escape are left out. */
static tn_status other_key(tn_schema_gen *g, const tn_str *names, uint32_t from, uint32_t to, uint64_t at,
                           tn_buf *e) {
  tn_buf body = {0};
  bool ends = from < to && names[from].len == at;
  if (ends) from++;
  if (from == to) {
    tn_buf_puts(e, ends ? KEY_CHARACTER "+ \"\\\"\"" : KEY_CHARACTER "* \"\\\"\"");
    return TN_OK;
  }
  tn_buf class = {0};
  tn_status s = TN_OK;
  for (uint32_t i = from, end; i < to && !s; i = end) {
    uint64_t n = 1;
    while (at + n < names[i].len && (names[i].ptr[at + n] & 0xc0) == 0x80) n++;
    for (end = i; end < to && names[end].len >= at + n && !memcmp(names[end].ptr + at, names[i].ptr + at, n);)
      end++;
    tn_str c = {names[i].ptr + at, n};
    if (*c.ptr && strchr("]^-[", *c.ptr)) tn_buf_puts(&class, "\\");
    if (*c.ptr == '"' || *c.ptr == '\\' || (unsigned char)*c.ptr < ' ') continue;
    put(&class, c);
    tn_buf_puts(&body, body.len ? " | " : "");
    tn_schema_literal(&body, c);
    tn_buf_puts(&body, " ");
    s = other_key(g, names, i, end, at + n, &body);
  }
  tn_buf_printf(&body, "%s[^\"\\\\\\x00-\\x1F\\x7F%s] " KEY_CHARACTER "* \"\\\"\"", body.len ? " | " : "",
                tn_buf_cstr(&class));
  if (!ends) tn_buf_puts(e, "(\"\\\"\" | ");
  if (!s) s = tn_schema_rule(g, &body, e);
  if (!ends) tn_buf_puts(e, ")");
  tn_buf_fini(&class);
  tn_buf_fini(&body);
  return s;
}

static int compare(const void *x, const void *y) {
  const tn_str *a = x, *b = y;
  int c = memcmp(a->ptr, b->ptr, a->len < b->len ? a->len : b->len);
  return c ? c : (a->len > b->len) - (a->len < b->len);
}

/* A further property: any other key, and a value by `rest`. */
static tn_status rest_pair(object *o, tn_buf *e) {
  tn_schema_gen *g = o->g;
  tn_buf body = {0};
  tn_str *names = tn_arena_alloc(&g->arena, (o->n + 1) * sizeof *names);
  if (!names) return TN_OOM;
  for (uint32_t i = 0; i < o->n; i++) names[i] = tn_str_of(o->properties->u.items[i].key);
  qsort(names, o->n, sizeof *names, compare);
  tn_buf_puts(&body, "\"\\\"\" ");
  tn_status s = TN_OK;
  if (o->n)
    s = other_key(g, names, 0, o->n, 0, &body);
  else
    tn_schema_characters(g, &body, 0, UINT32_MAX), tn_buf_puts(&body, " \"\\\"\"");
  tn_buf_puts(&body, " \":\" ");
  tn_schema_common(g, &body, "ws");
  tn_buf_puts(&body, " ");
  if (!s) s = tn_schema_visit(g, o->rest, &body);
  if (!s) s = tn_schema_rule(g, &body, e);
  tn_buf_fini(&body);
  return s;
}

static tn_status pair(object *o, uint32_t i) {
  tn_json *p = &o->properties->u.items[i];
  tn_buf b = {0}, key = {0}, rule = {0};
  tn_buf_json(&key, tn_str_of(p->key));
  tn_buf_puts(&key, ":");
  tn_schema_literal(&b, (tn_str){tn_buf_cstr(&key), key.len});
  tn_buf_puts(&b, " ");
  tn_schema_common(o->g, &b, "ws");
  tn_buf_puts(&b, " ");
  tn_status s = tn_schema_visit(o->g, p, &b);
  if (!s) s = tn_schema_rule(o->g, &b, &rule);
  tn_buf_fini(&b);
  tn_buf_fini(&key);
  tn_status kept = keep(o, &rule, &o->pairs[i]);
  return s ? s : kept;
}

/* From the last property to the first. */
static tn_status tails(object *o, tn_str rest, uint32_t least, uint32_t most) {
  tn_buf b = {0};
  if (rest.len && most) {
    tn_buf_puts(&b, "(\",\" ");
    tn_schema_common(o->g, &b, "ws");
    tn_buf_printf(&b, " %s)", rest.ptr);
    tn_schema_times(&b, least, most);
  }
  TN_TRY(keep(o, &b, &o->tails[o->n]));
  for (uint32_t i = o->n; i-- > 0;) {
    tn_buf rule = {0};
    tn_buf_puts(&b, o->needed[i] ? "\",\" " : "(\",\" ");
    tn_schema_common(o->g, &b, "ws");
    tn_buf_printf(&b, " %s%s %s", o->pairs[i].ptr, o->needed[i] ? "" : ")?", o->tails[i + 1].ptr);
    tn_status s = tn_schema_rule(o->g, &b, &rule);
    tn_buf_fini(&b);
    tn_status kept = keep(o, &rule, &o->tails[i]);
    TN_TRY(s ? s : kept);
  }
  return TN_OK;
}

/* Members of the object: which one may be the first. */
static tn_status members(object *o, tn_str rest, uint32_t least, uint32_t most, tn_buf *e) {
  uint32_t i = 0;
  tn_buf_puts(e, "(");
  for (; i < o->n; i++) {
    tn_buf_printf(e, "%s%s %s", i ? " | " : "", o->pairs[i].ptr, o->tails[i + 1].ptr);
    if (o->needed[i]) break;
  }
  bool may_be_empty = i == o->n;
  if (may_be_empty && rest.len && most) {
    tn_buf_printf(e, "%s%s (\",\" ", i ? " | " : "", rest.ptr);
    tn_schema_common(o->g, e, "ws");
    tn_buf_printf(e, " %s)", rest.ptr);
    tn_schema_times(e, least ? least - 1 : 0, most == UINT32_MAX ? most : most - 1);
  } else if (may_be_empty && !o->n) {
    tn_buf_puts(e, "\"\"");
  }
  tn_buf_puts(e, " ");
  tn_schema_common(o->g, e, "ws");
  tn_buf_puts(e, may_be_empty && !least ? ")?" : ")");
  return TN_OK;
}

/* Properties that are required but not listed are as additional ones. */
static tn_status add_required(object *o) {
  tn_schema_gen *g = o->g;
  for (uint32_t i = 0; o->required && i < o->required->count; i++) {
    tn_str name = o->required->u.items[i].u.s;
    char *key = o->required->u.items[i].kind == TN_JSON_STRING ? tn_arena_str(&g->arena, name) : NULL;
    if (!key) return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'required' must be a list of names");
    if (tn_json_get(o->properties, key)) continue;
    if (!o->rest)
      return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'required' names '%s', which is not allowed", key);
    tn_json *to = tn_json_add(&g->arena, o->properties, key);
    if (!to) return TN_OOM;
    key = (char *)(uintptr_t)to->key;
    *to = *o->rest;
    to->key = key;
  }
  return TN_OK;
}

static tn_status open_object(object *o, tn_json *s) {
  tn_schema_gen *g = o->g;
  tn_json *listed = tn_json_get(s, "properties"), *rest = tn_json_get(s, "additionalProperties");
  tn_json *any = tn_arena_alloc(&g->arena, sizeof *any);
  o->properties = tn_arena_alloc(&g->arena, sizeof *o->properties);
  o->required = tn_json_get(s, "required");
  if (!o->properties || !any) return TN_OOM;
  if ((listed && listed->kind != TN_JSON_OBJECT) || (o->required && o->required->kind != TN_JSON_LIST))
    return tn_fail(g->diags, TN_INVALID, g->name, NULL,
                   "'properties' must be an object and 'required' a list of names");
  any->kind = TN_JSON_BOOL;
  any->u.b = true;
  o->rest = rest ? rest : any;
  if (rest && rest->kind == TN_JSON_BOOL && !rest->u.b) o->rest = NULL;
  o->properties->kind = TN_JSON_OBJECT;
  for (uint32_t i = 0; listed && i < listed->count; i++) {
    tn_json *to = tn_json_add(&g->arena, o->properties, listed->u.items[i].key);
    if (!to) return TN_OOM;
    const char *key = to->key;
    *to = listed->u.items[i];
    to->key = key;
  }
  TN_TRY(add_required(o));
  /* Where nothing is said, what is listed is all there is: a stricter grammar. */
  if (!rest && o->properties->count) o->rest = NULL;
  o->n = o->properties->count;
  o->needed = tn_arena_alloc(&g->arena, o->n + 1);
  o->pairs = tn_arena_alloc(&g->arena, (o->n + 1) * sizeof *o->pairs);
  o->tails = tn_arena_alloc(&g->arena, (o->n + 1) * sizeof *o->tails);
  return o->needed && o->pairs && o->tails ? TN_OK : TN_OOM;
}

/* How many further properties the limits leave: they count listed ones too. */
static tn_status limits(object *o, tn_json *s, uint32_t needed, uint32_t *least, uint32_t *most) {
  uint32_t min, max;
  TN_TRY(tn_schema_count(o->g, s, "minProperties", 0, &min));
  TN_TRY(tn_schema_count(o->g, s, "maxProperties", UINT32_MAX, &max));
  *least = 0;
  *most = UINT32_MAX;
  if (max < needed || min > max)
    return tn_fail(o->g->diags, TN_INVALID, o->g->name, NULL, "at least %u properties and at most %u",
                   min > needed ? min : needed, max);
  if (min > needed && (o->n || min > 1 || !o->rest))
    return tn_schema_refuse(o->g, "minProperties", "above the number of required properties");
  if (min > needed) *least = 1;
  if (max < UINT32_MAX && o->rest && max >= o->n)
    *most = max - o->n;
  else if (max < o->n || (max < UINT32_MAX && o->rest))
    return tn_schema_refuse(o->g, "maxProperties", "below the number of properties");
  return TN_OK;
}

tn_status tn_schema_object(tn_schema_gen *g, tn_json *s, tn_buf *e) {
  object o = {.g = g};
  tn_buf b = {0};
  tn_str rest = {"", 0};
  uint32_t needed = 0, least, most;
  TN_TRY(open_object(&o, s));
  for (uint32_t i = 0; i < o.n; i++) {
    TN_TRY(pair(&o, i));
    for (uint32_t k = 0; o.required && k < o.required->count; k++)
      o.needed[i] |= tn_str_is(o.required->u.items[k].u.s, o.properties->u.items[i].key);
    needed += o.needed[i];
  }
  TN_TRY(limits(&o, s, needed, &least, &most));
  if (o.rest) {
    TN_TRY(rest_pair(&o, &b));
    TN_TRY(keep(&o, &b, &rest));
  }
  TN_TRY(tails(&o, rest, least, most));
  tn_buf_puts(&b, "\"{\" ");
  tn_schema_common(g, &b, "ws");
  tn_buf_puts(&b, " ");
  tn_status status = members(&o, rest, least, most, &b);
  tn_buf_puts(&b, " \"}\"");
  if (!status) status = tn_schema_rule(g, &b, e);
  tn_buf_fini(&b);
  return status;
}

/* ---- arrays -------------------------------------------------------------------------------------------- */

/* What follows `written` items, the last of which was item i - 1 of the prefix. */
static tn_status items_from(tn_schema_gen *g, tn_json *prefix, uint32_t i, tn_json *item, uint32_t min,
                            uint32_t max, tn_buf *e) {
  uint32_t n = prefix ? prefix->count : 0;
  if (i >= max) return TN_OK;
  if (i >= n && !item) return TN_OK;
  bool may_end = i >= min;
  if (i >= n) {
    tn_buf_puts(e, i ? "(\",\" " : "(");
    if (i) tn_schema_common(g, e, "ws"), tn_buf_puts(e, " ");
    tn_buf value = {0};
    tn_buf rule = {0};
    tn_status s = tn_schema_visit(g, item, &value);
    if (!s) s = tn_schema_rule(g, &value, &rule);
    tn_buf_puts(e, tn_buf_cstr(&rule));
    if (!i) {
      tn_buf_puts(e, " (\",\" ");
      tn_schema_common(g, e, "ws");
      tn_buf_printf(e, " %s)", tn_buf_cstr(&rule));
      tn_schema_times(e, min ? min - 1 : 0, max == UINT32_MAX ? max : max - 1);
      tn_buf_puts(e, may_end ? ")?" : ")");
    } else {
      tn_buf_puts(e, ")");
      tn_schema_times(e, min > i ? min - i : 0, max == UINT32_MAX ? max : max - i);
    }
    tn_buf_fini(&value);
    tn_buf_fini(&rule);
    return s;
  }
  tn_buf_puts(e, i ? "(\",\" " : "(");
  if (i) tn_schema_common(g, e, "ws"), tn_buf_puts(e, " ");
  TN_TRY(tn_schema_visit(g, &prefix->u.items[i], e));
  tn_buf_puts(e, " ");
  TN_TRY(items_from(g, prefix, i + 1, item, min, max, e));
  tn_buf_puts(e, may_end ? ")?" : ")");
  return TN_OK;
}

tn_status tn_schema_array(tn_schema_gen *g, tn_json *s, tn_buf *e) {
  tn_json *prefix = tn_json_get(s, "prefixItems"), *item = tn_json_get(s, "items");
  tn_json *unique = tn_json_get(s, "uniqueItems"), any = {.kind = TN_JSON_BOOL, .u.b = true};
  uint32_t min, max;
  TN_TRY(tn_schema_count(g, s, "minItems", 0, &min));
  TN_TRY(tn_schema_count(g, s, "maxItems", UINT32_MAX, &max));
  if (item && item->kind == TN_JSON_LIST && !prefix) /* as older drafts had it */
    prefix = item, item = tn_json_get(s, "additionalItems");
  if (prefix && (prefix->kind != TN_JSON_LIST || prefix->count > 64))
    return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'prefixItems' must be a list of at most 64 schemas");
  if (unique && unique->kind == TN_JSON_BOOL && unique->u.b && max > 1)
    return tn_schema_refuse(g, "uniqueItems", "of arrays of more than one item");
  if (item && item->kind == TN_JSON_BOOL && !item->u.b)
    item = NULL;
  else if (!item)
    item = &any;
  if (min > max || (!item && min > (prefix ? prefix->count : 0)))
    return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'minItems' is %u, but there are at most %u", min,
                   min > max ? max
                   : prefix  ? prefix->count
                             : 0);
  tn_buf b = {0};
  tn_buf_puts(&b, "\"[\" ");
  tn_schema_common(g, &b, "ws");
  tn_buf_puts(&b, " ");
  tn_status status = items_from(g, prefix, 0, item, min, max, &b);
  tn_buf_puts(&b, " ");
  tn_schema_common(g, &b, "ws");
  tn_buf_puts(&b, " \"]\"");
  if (!status) status = tn_schema_rule(g, &b, e);
  tn_buf_fini(&b);
  return status;
}
