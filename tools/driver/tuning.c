/* tuning.c - tuning files: read with every word checked, written in one order, so that equal contents are
 * equal bytes. */
#include "tools/driver/tuning.h"
#include "frontend/config/config.h"

#define TUNING_VERSION 1

void tn_tuning_init(tn_tuning *t) {
  *t = (tn_tuning){0};
  tn_arena_init(&t->arena);
}

void tn_tuning_fini(tn_tuning *t) {
  tn_vec_fini(&t->rows);
  tn_arena_fini(&t->arena);
}

/* Where the row is or would be. */
static bool find(const tn_tuning *t, const char *target, const char *key, uint32_t *at) {
  for (*at = 0; *at < t->rows.count; ++*at) {
    const tn_tuning_row *r = &t->rows.items[*at];
    int order = strcmp(r->target, target);
    if (!order) order = strcmp(r->key, key);
    if (order >= 0) return !order;
  }
  return false;
}

const tn_tuning_row *tn_tuning_get(const tn_tuning *t, const char *target, const char *key) {
  uint32_t at;
  return find(t, target, key, &at) ? &t->rows.items[at] : NULL;
}

tn_status tn_tuning_set(tn_tuning *t, const tn_tuning_row *row) {
  uint32_t at;
  bool there = find(t, row->target, row->key, &at);
  tn_tuning_row *rows = t->rows.items;
  tn_tuning_row copy = {tn_arena_str(&t->arena, tn_str_of(row->target)),
                        tn_arena_str(&t->arena, tn_str_of(row->key)),
                        row->note ? tn_arena_str(&t->arena, tn_str_of(row->note)) : NULL,
                        tn_arena_str(&t->arena, tn_str_of(row->numbers))};
  if (!copy.target || !copy.key || !copy.numbers) return TN_OOM;
  if (!there) {
    if (!tn_vec_push(&t->rows, copy)) return TN_OOM;
    rows = t->rows.items;
    memmove(&rows[at + 1], &rows[at], (t->rows.count - 1 - at) * sizeof *rows);
  }
  rows[at] = copy;
  return TN_OK;
}

void tn_tuning_text(const tn_tuning *t, const char *target, tn_buf *out) {
  for (uint32_t i = 0; i < t->rows.count; i++)
    if (!strcmp(t->rows.items[i].target, target) && *t->rows.items[i].numbers)
      tn_buf_printf(out, "%s %s\n", t->rows.items[i].key, t->rows.items[i].numbers);
}

/* ---- reading --------------------------------------------------------------------------------------------
 */

typedef struct reader {
  tn_tuning *t;
  tn_diags *d;
  const char *path;
} reader;

/* Words that go into an option's text: nothing in them may end one. */
static bool is_word(const char *s) {
  return *s && s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_")] == 0;
}

static tn_status bad(const reader *r, const char *where, const char *wants, const tn_json *got) {
  return tn_fail(r->d, TN_INVALID, r->path, where, "is %s, wants %s", tn_json_kind_name(got->kind), wants);
}

static tn_status read_kernel(reader *r, const char *target, const tn_json *k) {
  tn_buf numbers = {0};
  tn_tuning_row row = {target, k->key, NULL, NULL};
  tn_status s = TN_OK;
  if (!is_word(k->key))
    s = tn_fail(r->d, TN_INVALID, r->path, k->key, "is not a kernel's key: small letters and digits");
  else if (k->kind != TN_JSON_OBJECT)
    s = bad(r, k->key, "an object of numbers", k);
  for (uint32_t i = 0; s == TN_OK && i < k->count; i++) {
    const tn_json *x = &k->u.items[i];
    bool note = !strcmp(x->key, "kernel");
    if (note && x->kind == TN_JSON_STRING) {
      row.note = tn_arena_str(&r->t->arena, x->u.s);
    } else if (note) {
      s = bad(r, "kernel", "a text", x);
    } else if (!is_word(x->key)) {
      s = tn_fail(r->d, TN_INVALID, r->path, k->key, "'%s' is not the name of a number", x->key);
    } else if (x->kind != TN_JSON_INT) {
      s = bad(r, x->key, "an integer", x);
    } else {
      tn_buf_printf(&numbers, "%s%s=%lld", numbers.len ? " " : "", x->key, (long long)x->u.i);
    }
  }
  row.numbers = tn_buf_cstr(&numbers);
  if (s == TN_OK) s = numbers.failed ? TN_OOM : tn_tuning_set(r->t, &row);
  tn_buf_fini(&numbers);
  return s;
}

static tn_status read_targets(reader *r, const tn_json *targets) {
  if (targets->kind != TN_JSON_OBJECT) return bad(r, "targets", "an object", targets);
  for (uint32_t i = 0; i < targets->count; i++) {
    const tn_json *t = &targets->u.items[i];
    if (t->kind != TN_JSON_OBJECT) return bad(r, t->key, "an object of kernels", t);
    for (uint32_t k = 0; k < t->count; k++) TN_TRY(read_kernel(r, t->key, &t->u.items[k]));
  }
  return TN_OK;
}

static tn_status read_root(reader *r, const tn_json *root) {
  if (root->kind != TN_JSON_OBJECT) return bad(r, NULL, "an object", root);
  const tn_json *version = tn_json_peek(root, "tenon_tuning"), *targets = tn_json_peek(root, "targets");
  if (!version || !targets)
    return tn_fail(r->d, TN_INVALID, r->path, NULL, "is not a tuning file: it has no key '%s'",
                   version ? "targets" : "tenon_tuning");
  if (version->kind != TN_JSON_INT || version->u.i != TUNING_VERSION)
    return tn_fail(r->d, TN_INVALID, r->path, "tenon_tuning", "has another version than %d", TUNING_VERSION);
  for (uint32_t i = 0; i < root->count; i++)
    if (strcmp(root->u.items[i].key, "tenon_tuning") && strcmp(root->u.items[i].key, "targets"))
      return tn_fail(r->d, TN_INVALID, r->path, NULL, "has an unknown key '%s'", root->u.items[i].key);
  return read_targets(r, targets);
}

tn_status tn_tuning_read(tn_tuning *t, const char *path, tn_diags *d) {
  tn_file f;
  tn_arena arena;
  tn_json *root = NULL;
  const char *why;
  reader r = {t, d, path};
  tn_status s = tn_file_map(&f, path, &why);
  if (s != TN_OK) return tn_fail(d, s, path, NULL, "cannot read the file: %s", why);
  tn_arena_init(&arena);
  s = tn_json_parse(&arena, (tn_str){(const char *)f.data, f.size}, path, d, &root);
  if (s == TN_OK) s = read_root(&r, root);
  tn_arena_fini(&arena);
  tn_file_unmap(&f);
  return s;
}

/* ---- writing --------------------------------------------------------------------------------------------
 */

static void put_row(const tn_tuning_row *r, tn_buf *out) {
  tn_buf_puts(out, "\n      ");
  tn_buf_json(out, tn_str_of(r->key));
  tn_buf_puts(out, ": {");
  const char *between = "";
  if (r->note) {
    tn_buf_puts(out, "\"kernel\": ");
    tn_buf_json(out, tn_str_of(r->note));
    between = ", ";
  }
  for (const char *at = r->numbers; *at;) {
    size_t name = strcspn(at, "="), all = strcspn(at, " ");
    tn_buf_printf(out, "%s\"%.*s\": %.*s", between, (int)name, at, (int)(all - name - 1), at + name + 1);
    between = ", ";
    at += all + (at[all] == ' ');
  }
  tn_buf_puts(out, "}");
}

tn_status tn_tuning_write(const tn_tuning *t, const char *path, tn_diags *d) {
  tn_buf out = {0};
  tn_buf_printf(&out, "{\n  \"tenon_tuning\": %d,\n  \"targets\": {", TUNING_VERSION);
  for (uint32_t i = 0; i < t->rows.count; i++) {
    const tn_tuning_row *r = &t->rows.items[i];
    bool first = i == 0 || strcmp(r[-1].target, r->target);
    if (first) {
      tn_buf_puts(&out, i ? "\n    },\n    " : "\n    ");
      tn_buf_json(&out, tn_str_of(r->target));
      tn_buf_puts(&out, ": {");
    } else {
      tn_buf_puts(&out, ",");
    }
    put_row(r, &out);
  }
  tn_buf_puts(&out, t->rows.count ? "\n    }\n  }\n}\n" : "}\n}\n");
  tn_status s = out.failed ? TN_OOM : tn_text_write(path, &out, d);
  tn_buf_fini(&out);
  return s;
}
