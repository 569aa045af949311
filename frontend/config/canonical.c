/* canonical.c - the same value under the same name, whatever the family calls it, and the keys nobody
 * understood. The tables are aliases.def and ignore.def. */
#include "frontend/config/config.h"
#include <math.h>

typedef struct alias {
  const char *canonical, *name, *families;
} alias;
static const alias aliases[] = {
#define TN_ALIAS(canonical, name, families) {#canonical, #name, families},
#include "frontend/config/aliases.def"
#undef TN_ALIAS
};

static const char *const ignored[] = {
#define TN_IGNORE(key) key,
#include "frontend/config/ignore.def"
#undef TN_IGNORE
};

static bool in_list(const char *list, tn_str name) {
  while (*list) {
    size_t n = strcspn(list, ",");
    if (tn_str_eq((tn_str){list, n}, name)) return true;
    list += n + (list[n] == ',');
  }
  return false;
}

static bool applies(const alias *a, tn_str family) { return !*a->families || in_list(a->families, family); }

static tn_str family_of(const tn_json *root) {
  const tn_json *t = tn_json_peek(root, "model_type");
  return t && t->kind == TN_JSON_STRING ? t->u.s : TN_STR("");
}

static tn_status conflict(const alias *a, const tn_json *one, const tn_json *two, const char *file,
                          tn_diags *diags) {
  tn_buf x = {0}, y = {0}, where = {0};
  tn_json_write(&x, one);
  tn_json_write(&y, two);
  tn_buf_printf(&where, "key '%s'", a->name);
  tn_status s =
      tn_fail(diags, TN_INVALID, file, tn_buf_cstr(&where), "is %s, but '%s', the same thing, is %s",
              tn_buf_cstr(&y), a->canonical, tn_buf_cstr(&x));
  tn_buf_fini(&x), tn_buf_fini(&y), tn_buf_fini(&where);
  return s;
}

static tn_status add_canonical(tn_arena *arena, tn_json *root, const alias *a, const char *file,
                               tn_diags *diags) {
  const tn_json *from = tn_json_peek(root, a->name);
  if (!from) return TN_OK;
  tn_json value = *from;
  tn_json *to = tn_json_add(arena, root, a->canonical);
  if (!to) return tn_fail(diags, TN_OOM, file, NULL, "out of memory");
  if (to->kind != TN_JSON_NULL && value.kind != TN_JSON_NULL)
    return tn_json_equal(to, &value) ? TN_OK : conflict(a, to, &value, file, diags);
  if (to->kind == TN_JSON_NULL) {
    tn_json copy = value;
    copy.key = to->key, copy.used = to->used, copy.made = to->made;
    *to = copy;
  }
  return TN_OK;
}

/* transformers writes id2label only when it is not the default: two labels. */
static tn_status add_num_labels(tn_arena *arena, tn_json *root, const char *file, tn_diags *diags) {
  const tn_json *names = tn_json_peek(root, "id2label");
  int64_t count = names && names->kind == TN_JSON_OBJECT ? names->count : 2;
  tn_json *n = tn_json_add(arena, root, "num_labels");
  if (!n) return tn_fail(diags, TN_OOM, file, NULL, "out of memory");
  if (n->kind == TN_JSON_NULL) n->kind = TN_JSON_INT, n->u.i = count;
  return TN_OK;
}

/* transformers 5 writes numbers that JSON lacks as {"__float__": "Infinity"}. */
static void plain_floats(tn_json *node) {
  static const struct {
    const char *name;
    double value;
  } words[] = {{"Infinity", INFINITY}, {"-Infinity", -INFINITY}, {"NaN", NAN}};
  bool nested = node->kind == TN_JSON_LIST || node->kind == TN_JSON_OBJECT;
  for (uint32_t i = 0; nested && i < node->count; i++) plain_floats(&node->u.items[i]);
  const tn_json *only = node->kind == TN_JSON_OBJECT && node->count == 1 ? node->u.items : NULL;
  if (!only || strcmp(only->key, "__float__") || only->kind != TN_JSON_STRING) return;
  for (size_t i = 0; i < TN_COUNT(words); i++)
    if (tn_str_is(only->u.s, words[i].name)) {
      node->kind = TN_JSON_REAL;
      node->u.r = words[i].value;
      return;
    }
}

tn_status tn_config_canonical(tn_arena *arena, tn_json *root, const char *file, tn_diags *diags) {
  plain_floats(root);
  tn_str family = family_of(root);
  tn_status status = TN_OK;
  for (size_t i = 0; i < TN_COUNT(aliases); i++) {
    if (!applies(&aliases[i], family)) continue;
    tn_status s = add_canonical(arena, root, &aliases[i], file, diags);
    if (s != TN_OK) status = s;
  }
  if (status != TN_OK) return status;
  return add_num_labels(arena, root, file, diags);
}

static bool is_ignored(const char *key) {
  for (size_t i = 0; i < TN_COUNT(ignored); i++) {
    size_t n = strlen(ignored[i]);
    if (ignored[i][n - 1] == '*' ? !strncmp(ignored[i], key, n - 1) : !strcmp(ignored[i], key)) return true;
  }
  return false;
}

/* Was the value read under another of its names? */
static bool used_by_alias(const tn_json *root, const char *key) {
  tn_str family = family_of(root);
  for (size_t i = 0; i < TN_COUNT(aliases); i++) {
    const alias *a = &aliases[i];
    if (!applies(a, family)) continue;
    const char *other = !strcmp(a->name, key) ? a->canonical : !strcmp(a->canonical, key) ? a->name : NULL;
    const tn_json *node = other ? tn_json_peek(root, other) : NULL;
    if (node && node->used) return true;
  }
  return false;
}

static void report(const tn_json *parent, const tn_json *node, const char *file, tn_diags *diags) {
  tn_buf where = {0};
  tn_buf_printf(&where, "key '%s%s%s'", parent ? parent->key : "", parent ? "." : "", node->key);
  tn_diags_add(diags, TN_WARNING, file, 0, 0, tn_buf_cstr(&where), "is not known here and has no effect");
  tn_buf_fini(&where);
}

/* Inside an object that was read in part, the rest is unknown too. */
static void report_inside(const tn_json *node, const char *file, tn_diags *diags) {
  bool any = false;
  for (uint32_t i = 0; i < node->count; i++) any |= node->u.items[i].used;
  for (uint32_t i = 0; any && i < node->count; i++) {
    const tn_json *item = &node->u.items[i];
    if (!item->used && item->kind != TN_JSON_NULL && !is_ignored(item->key)) report(node, item, file, diags);
  }
}

void tn_config_report_unknown(const tn_json *root, const char *file, tn_diags *diags) {
  if (root->kind != TN_JSON_OBJECT) return;
  for (uint32_t i = 0; i < root->count; i++) {
    const tn_json *node = &root->u.items[i];
    if (node->made || is_ignored(node->key)) continue;
    if (node->used && node->kind == TN_JSON_OBJECT)
      report_inside(node, file, diags);
    else if (!node->used && node->kind != TN_JSON_NULL && !used_by_alias(root, node->key))
      report(NULL, node, file, diags);
  }
}
