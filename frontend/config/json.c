/* json.c - text to tn_json through jansson. A scan before jansson sees the text finds what jansson cannot do:
 * it limits the depth, and it replaces Python's NaN and Infinity by zeros of the same length (so that columns
 * stay right). Both scan and conversion meet the reals in the order of the text, so a real's number finds it
 * again. */
#include "frontend/config/config.h"
#include <jansson.h>
#include <math.h>

enum { MAX_DEPTH = 64 };

typedef struct literal {
  const char *text, *instead; /* of the same length, a real */
  double value;
} literal;
static const literal literals[] = {
    {"NaN", "0.0", NAN}, {"Infinity", "0.000000", INFINITY}, {"-Infinity", "-0.000000", -INFINITY}};

typedef struct odd_real {
  uint64_t number; /* which real of the text, from 0 */
  double value;
} odd_real;

typedef struct reader {
  tn_arena *arena;
  const char *file;
  tn_diags *diags;
  char *text; /* NULL until something was replaced; then a copy */
  TN_VEC(odd_real) odd;
  uint64_t reals;
  uint32_t next_odd;
} reader;

typedef struct place {
  uint32_t line, col;
} place;

static place place_of(tn_str text, uint64_t at) {
  place p = {1, 1};
  for (uint64_t i = 0; i < at; i++) {
    if (text.ptr[i] == '\n')
      p = (place){p.line + 1, 1};
    else
      p.col++;
  }
  return p;
}

static tn_status fail_at(reader *r, tn_str text, uint64_t at, const char *what) {
  place p = place_of(text, at);
  return tn_fail_at(r->diags, TN_INVALID, r->file, p.line, p.col, "%s", what);
}

static tn_status out_of_memory(reader *r) {
  return tn_fail(r->diags, TN_OOM, r->file, NULL, "out of memory");
}

static bool one_of(const char *set, char c) { return c && strchr(set, c); }

/* The literal that stands here as a value of its own, or NULL. */
static const literal *literal_at(tn_str text, uint64_t at) {
  if (at && !one_of(" \t\r\n[,:", text.ptr[at - 1])) return NULL;
  for (size_t i = 0; i < TN_COUNT(literals); i++) {
    size_t n = strlen(literals[i].text);
    if (text.len - at < n || memcmp(text.ptr + at, literals[i].text, n)) continue;
    if (text.len - at == n || one_of(" \t\r\n],}", text.ptr[at + n])) return &literals[i];
  }
  return NULL;
}

static tn_status replace(reader *r, tn_str text, uint64_t at, const literal *l) {
  if (!r->text) {
    r->text = tn_mem_alloc(text.len);
    if (!r->text) return out_of_memory(r);
    memcpy(r->text, text.ptr, text.len);
  }
  memcpy(r->text + at, l->instead, strlen(l->instead));
  return tn_vec_push(&r->odd, ((odd_real){r->reals++, l->value})) ? TN_OK : out_of_memory(r);
}

static uint64_t skip_string(tn_str text, uint64_t at) {
  for (at++; at < text.len && text.ptr[at] != '"'; at++) {
    if (text.ptr[at] == '\\') at++;
  }
  return at < text.len ? at + 1 : text.len;
}

/* Skips a number as jansson's lexer would; counts it when it is a real. */
static uint64_t skip_number(reader *r, tn_str text, uint64_t at) {
  bool real = false;
  for (; at < text.len && one_of("+-.0123456789eE", text.ptr[at]); at++) real |= one_of(".eE", text.ptr[at]);
  r->reals += real;
  return at;
}

static tn_status scan(reader *r, tn_str text) {
  int depth = 0;
  for (uint64_t at = 0; at < text.len;) {
    char c = text.ptr[at];
    const literal *l = c == 'N' || c == 'I' || c == '-' ? literal_at(text, at) : NULL;
    if (l) {
      TN_TRY(replace(r, text, at, l));
      at += strlen(l->text);
    } else if (c == '"') {
      at = skip_string(text, at);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
      at = skip_number(r, text, at);
    } else {
      depth += c == '{' || c == '[';
      depth -= c == '}' || c == ']';
      if (depth > MAX_DEPTH) return fail_at(r, text, at, "nested deeper than 64 levels");
      at++;
    }
  }
  return TN_OK;
}

static tn_status convert(reader *r, const json_t *j, tn_json *out);

static tn_status convert_string(reader *r, const char *text, size_t len, tn_str *out) {
  *out = (tn_str){tn_arena_str(r->arena, (tn_str){text, len}), len};
  return out->ptr ? TN_OK : out_of_memory(r);
}

static tn_status convert_items(reader *r, const json_t *j, tn_json *out) {
  size_t n = json_is_object(j) ? json_object_size(j) : json_array_size(j);
  if (n > UINT32_MAX / 2)
    return tn_fail(r->diags, TN_INVALID, r->file, NULL, "a list of %zu items is too long", n);
  out->count = (uint32_t)n;
  out->u.items = n ? tn_arena_alloc(r->arena, n * sizeof *out->u.items) : NULL;
  if (n && !out->u.items) return out_of_memory(r);
  if (json_is_array(j)) {
    for (size_t i = 0; i < n; i++) TN_TRY(convert(r, json_array_get(j, i), &out->u.items[i]));
    return TN_OK;
  }
  tn_json *item = out->u.items;
  json_t *object = (json_t *)j; /* jansson's iterators take it non-const, but only read */
  for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it), item++) {
    tn_str key;
    TN_TRY(convert_string(r, json_object_iter_key(it), strlen(json_object_iter_key(it)), &key));
    TN_TRY(convert(r, json_object_iter_value(it), item));
    item->key = key.ptr;
  }
  return TN_OK;
}

static double convert_real(reader *r, double value) {
  bool odd = r->next_odd < r->odd.count && r->odd.items[r->next_odd].number == r->reals;
  r->reals++;
  return odd ? r->odd.items[r->next_odd++].value : value;
}

static tn_status convert(reader *r, const json_t *j, tn_json *out) {
  switch (json_typeof(j)) {
  case JSON_NULL: out->kind = TN_JSON_NULL; return TN_OK;
  case JSON_TRUE:
  case JSON_FALSE: out->kind = TN_JSON_BOOL, out->u.b = json_is_true(j); return TN_OK;
  case JSON_INTEGER: out->kind = TN_JSON_INT, out->u.i = json_integer_value(j); return TN_OK;
  case JSON_REAL: out->kind = TN_JSON_REAL, out->u.r = convert_real(r, json_real_value(j)); return TN_OK;
  case JSON_STRING:
    out->kind = TN_JSON_STRING;
    return convert_string(r, json_string_value(j), json_string_length(j), &out->u.s);
  case JSON_ARRAY: out->kind = TN_JSON_LIST; return convert_items(r, j, out);
  case JSON_OBJECT: out->kind = TN_JSON_OBJECT; return convert_items(r, j, out);
  }
  return TN_INTERNAL;
}

/* jansson quotes the text near the error, which may hold anything. */
static tn_status jansson_failed(reader *r, const json_error_t *e) {
  if (json_error_code(e) == json_error_out_of_memory) return out_of_memory(r);
  char text[JSON_ERROR_TEXT_LENGTH];
  size_t n = 0;
  for (; n + 1 < sizeof text && e->text[n]; n++) text[n] = (unsigned char)e->text[n] < 32 ? ' ' : e->text[n];
  text[n] = 0;
  uint32_t line = e->line > 0 ? (uint32_t)e->line : 0, col = e->column > 0 ? (uint32_t)e->column : 0;
  return tn_fail_at(r->diags, TN_INVALID, r->file, line, col, "not valid JSON: %s", text);
}

static tn_status parse(reader *r, tn_str text, tn_json **out) {
  TN_TRY(scan(r, text));
  json_error_t e;
  const char *source = r->text ? r->text : text.ptr;
  json_t *root = json_loadb(source, text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
  if (!root) return jansson_failed(r, &e);
  r->reals = 0;
  *out = tn_arena_alloc(r->arena, sizeof **out);
  tn_status status = *out ? convert(r, root, *out) : out_of_memory(r);
  json_decref(root);
  return status;
}

tn_status tn_json_parse(tn_arena *arena, tn_str text, const char *file, tn_diags *diags, tn_json **out) {
  reader r = {.arena = arena, .file = file, .diags = diags};
  uint64_t bad;
  *out = NULL;
  if (!text.len) return tn_fail(diags, TN_INVALID, file, NULL, "not valid JSON: the file is empty");
  if (!tn_utf8_valid(text, &bad)) return fail_at(&r, text, bad, "not valid JSON: the text is not UTF-8");
  const char *nul = memchr(text.ptr, 0, text.len); /* jansson skips one behind a number */
  if (nul) return fail_at(&r, text, (uint64_t)(nul - text.ptr), "not valid JSON: control character 0x0");
  tn_status status = parse(&r, text, out);
  tn_mem_free(r.text);
  tn_vec_fini(&r.odd);
  return status;
}
