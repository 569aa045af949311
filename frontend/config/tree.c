/* tree.c - reading, comparing, extending and writing a tn_json. Looking a key up marks it as used. */
#include "frontend/config/config.h"
#include <math.h>

tn_json *tn_json_peek(const tn_json *object, const char *key) {
  if (!object || object->kind != TN_JSON_OBJECT) return NULL;
  for (uint32_t i = 0; i < object->count; i++)
    if (!strcmp(object->u.items[i].key, key)) return &object->u.items[i];
  return NULL;
}

tn_json *tn_json_get(const tn_json *object, const char *key) {
  tn_json *node = tn_json_peek(object, key);
  if (node) node->used = true;
  return node;
}

tn_json *tn_json_path(const tn_json *object, const char *dotted) {
  char key[128];
  tn_json *node = (tn_json *)object;
  while (node && *dotted) {
    size_t n = strcspn(dotted, ".");
    if (n >= sizeof key) return NULL;
    memcpy(key, dotted, n);
    key[n] = 0;
    node = tn_json_get(node, key);
    dotted += n + (dotted[n] == '.');
  }
  return node;
}

static bool is_number(const tn_json *a) { return a->kind == TN_JSON_INT || a->kind == TN_JSON_REAL; }

static double number_of(const tn_json *a) { return a->kind == TN_JSON_INT ? (double)a->u.i : a->u.r; }

static bool items_equal(const tn_json *a, const tn_json *b) {
  if (a->count != b->count) return false;
  for (uint32_t i = 0; i < a->count; i++) {
    const tn_json *other = a->kind == TN_JSON_LIST ? &b->u.items[i] : tn_json_peek(b, a->u.items[i].key);
    if (!other || !tn_json_equal(&a->u.items[i], other)) return false;
  }
  return true;
}

bool tn_json_equal(const tn_json *a, const tn_json *b) {
  if (is_number(a) && is_number(b) && a->kind != b->kind) return number_of(a) == number_of(b);
  if (a->kind != b->kind) return false;
  switch (a->kind) {
  case TN_JSON_NULL: return true;
  case TN_JSON_BOOL: return a->u.b == b->u.b;
  case TN_JSON_INT: return a->u.i == b->u.i;
  case TN_JSON_REAL: return a->u.r == b->u.r || (isnan(a->u.r) && isnan(b->u.r));
  case TN_JSON_STRING: return tn_str_eq(a->u.s, b->u.s);
  case TN_JSON_LIST:
  case TN_JSON_OBJECT: return items_equal(a, b);
  }
  return false;
}

tn_json *tn_json_add(tn_arena *arena, tn_json *object, const char *key) {
  tn_json *node = tn_json_peek(object, key);
  if (node) return node;
  size_t n = object->count;
  tn_json *items = tn_arena_alloc(arena, (n + 1) * sizeof *items);
  char *name = tn_arena_str(arena, tn_str_of(key));
  if (!items || !name) return NULL;
  if (n) memcpy(items, object->u.items, n * sizeof *items);
  items[n] = (tn_json){.kind = TN_JSON_NULL, .made = true, .key = name};
  object->u.items = items;
  object->count++;
  return &items[n];
}

const char *tn_json_kind_name(tn_json_kind kind) {
  static const char *const names[] = {"null",     "true or false", "an integer", "a number",
                                      "a string", "a list",        "an object"};
  return names[kind];
}

static void write_real(tn_buf *out, double r) {
  if (isnan(r))
    tn_buf_puts(out, "NaN");
  else if (isinf(r))
    tn_buf_puts(out, r > 0 ? "Infinity" : "-Infinity");
  else
    tn_buf_printf(out, "%.17g%s", r, r == floor(r) && fabs(r) < 1e16 ? ".0" : "");
}

static void write_items(tn_buf *out, const tn_json *node) {
  bool object = node->kind == TN_JSON_OBJECT;
  tn_buf_puts(out, object ? "{" : "[");
  for (uint32_t i = 0; i < node->count; i++) {
    if (i) tn_buf_puts(out, ", ");
    if (object) {
      tn_buf_json(out, tn_str_of(node->u.items[i].key));
      tn_buf_puts(out, ": ");
    }
    tn_json_write(out, &node->u.items[i]);
  }
  tn_buf_puts(out, object ? "}" : "]");
}

void tn_json_write(tn_buf *out, const tn_json *node) {
  switch (node->kind) {
  case TN_JSON_NULL: tn_buf_puts(out, "null"); break;
  case TN_JSON_BOOL: tn_buf_puts(out, node->u.b ? "true" : "false"); break;
  case TN_JSON_INT: tn_buf_printf(out, "%lld", (long long)node->u.i); break;
  case TN_JSON_REAL: write_real(out, node->u.r); break;
  case TN_JSON_STRING: tn_buf_json(out, node->u.s); break;
  case TN_JSON_LIST:
  case TN_JSON_OBJECT: write_items(out, node); break;
  }
}
