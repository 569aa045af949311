/* config.c - the metadata of a GGUF file as a config that the pages read. */
#include "frontend/gguf/import.h"
#include <float.h>

enum {
  KEYS_MAX = 512,    /* of the architecture; known models have up to 60 */
  ITEMS_MAX = 65536, /* of an array */
  KEY_MAX = 127      /* bytes of a key */
};

tn_status tn_gguf_fail_key(tn_gguf_import *g, tn_status status, const char *key, const char *fmt, ...) {
  tn_buf where = {0}, text = {0};
  va_list ap;
  va_start(ap, fmt);
  tn_buf_vprintf(&text, fmt, ap);
  va_end(ap);
  tn_buf_printf(&where, "key '%.100s'", key);
  tn_fail(&g->diags, status, g->name, tn_buf_cstr(&where), "%s", tn_buf_cstr(&text));
  tn_buf_fini(&where);
  tn_buf_fini(&text);
  return status;
}

static tn_status oom(tn_gguf_import *g) { return tn_fail(&g->diags, TN_OOM, g->name, NULL, "out of memory"); }

static bool is_plain(tn_str s) {
  return tn_utf8_valid(s, NULL) && !(s.len && memchr(s.ptr, 0, (size_t)s.len));
}

const char *tn_gguf_text(tn_gguf_import *g, const char *key) {
  const tn_gguf_kv *kv = tn_gguf_find(g->file, key);
  tn_str s;
  if (!kv) return NULL;
  if (kv->type != TN_GGUF_STRING || !tn_gguf_string(kv, 0, &s) || !is_plain(s)) {
    tn_gguf_fail_key(g, TN_INVALID, key, "is not a plain text");
    return NULL;
  }
  const char *text = tn_arena_str(&g->arena, s);
  if (!text) oom(g);
  return text;
}

/* ---- what the file is
 * ------------------------------------------------------------------------------------------ */

typedef struct other_kind {
  const char *key, *value, *why;
} other_kind;
static const other_kind others[] = {
    {"general.type", "adapter",
     "the file holds only an adapter: give the model that it was made for, and this file as --adapter"},
    {"general.type", "mmproj", "the file holds only the projector of images, which is not supported"},
    {"general.type", "imatrix", "the file holds the statistics that quantising uses, not a model"},
    {"general.architecture", "clip", "the file holds only the projector of images, which is not supported"},
};

static tn_status read_kind(tn_gguf_import *g) {
  for (size_t i = 0; i < TN_COUNT(others); i++) {
    const char *value = tn_gguf_text(g, others[i].key);
    if (g->diags.errors) return TN_INVALID;
    if (value && !strcmp(value, others[i].value))
      return tn_gguf_fail_key(g, TN_UNSUPPORTED, others[i].key, "is '%s': %s", value, others[i].why);
  }
  g->type = tn_gguf_text(g, "general.architecture");
  if (g->type && *g->type) return TN_OK;
  return tn_gguf_fail_key(g, TN_INVALID, "general.architecture", "is %s", g->type ? "empty" : "missing");
}

/* ---- values
 * ---------------------------------------------------------------------------------------------------- */

/* Item i of a value; false: an integer above 63 bits, or no plain text. */
static bool item_of(tn_gguf_import *g, const tn_gguf_kv *kv, uint64_t i, tn_json *out) {
  tn_str s;
  bool is_bool = (kv->type == TN_GGUF_ARRAY ? kv->item : kv->type) == TN_GGUF_BOOL;
  if (is_bool) {
    out->kind = TN_JSON_BOOL;
    out->u.b = ((const uint8_t *)kv->data)[i];
  } else if (tn_gguf_int(kv, i, &out->u.i)) {
    out->kind = TN_JSON_INT;
  } else if (tn_gguf_string(kv, i, &s)) {
    out->kind = TN_JSON_STRING;
    const char *text = is_plain(s) ? tn_arena_str(&g->arena, s) : NULL;
    out->u.s = (tn_str){text, s.len};
    return text;
  } else if (tn_gguf_real(kv, i, &out->u.r)) {
    out->kind = TN_JSON_REAL;
  } else {
    return false;
  }
  return true;
}

static tn_status value_of(tn_gguf_import *g, const tn_gguf_kv *kv, const char *key, tn_json *out) {
  static const char wrong[] = "is neither a number of 63 bits nor a plain text";
  if (kv->type != TN_GGUF_ARRAY)
    return item_of(g, kv, 0, out) ? TN_OK : tn_gguf_fail_key(g, TN_INVALID, key, wrong);
  if (kv->count > ITEMS_MAX)
    return tn_gguf_fail_key(g, TN_INVALID, key, "is an array of %llu values; at most %d are read",
                            (unsigned long long)kv->count, ITEMS_MAX);
  tn_json *items = tn_arena_alloc(&g->arena, (size_t)(kv->count + 1) * sizeof *items);
  if (!items) return oom(g);
  for (uint64_t i = 0; i < kv->count; i++)
    if (!item_of(g, kv, i, &items[i])) return tn_gguf_fail_key(g, TN_INVALID, key, wrong);
  out->kind = TN_JSON_LIST;
  out->count = (uint32_t)kv->count;
  out->u.items = items;
  return TN_OK;
}

/* The node of a dotted key, made with the objects around it. NULL: reported. */
static tn_json *node_of(tn_gguf_import *g, const char *key, const char *full) {
  char part[KEY_MAX + 1];
  tn_json *at = g->config;
  for (;;) {
    size_t n = strcspn(key, ".");
    memcpy(part, key, n);
    part[n] = 0;
    tn_json *next = tn_json_peek(at, part);
    bool was_there = next, last = !key[n];
    if (!next && !(next = tn_json_add(&g->arena, at, part))) return oom(g), NULL;
    if (was_there ? last || next->kind != TN_JSON_OBJECT : false)
      return tn_gguf_fail_key(g, TN_INVALID, full, "'%s' is a value and has keys inside", part), NULL;
    next->made = false;
    if (last) return next;
    next->kind = TN_JSON_OBJECT;
    key += n + 1;
    at = next;
  }
}

static tn_status add_value(tn_gguf_import *g, const tn_gguf_kv *kv, uint64_t prefix) {
  const char *full = tn_arena_str(&g->arena, kv->key);
  tn_json value = {0};
  if (!full) return oom(g);
  if (kv->key.len > KEY_MAX)
    return tn_gguf_fail_key(g, TN_INVALID, full, "has %llu bytes; the most is %d",
                            (unsigned long long)kv->key.len, KEY_MAX);
  TN_TRY(value_of(g, kv, full, &value));
  tn_json *node = node_of(g, full + prefix, full);
  if (!node) return TN_INVALID;
  value.key = node->key;
  *node = value;
  return TN_OK;
}

/* ---- keys that are added
 * --------------------------------------------------------------------------------------- */

static tn_status add_made(tn_gguf_import *g, const char *key, tn_json value) {
  tn_json *node = tn_json_add(&g->arena, g->config, key);
  if (!node) return oom(g);
  if (node->kind != TN_JSON_NULL) return TN_OK; /* the file has it */
  value.key = node->key;
  value.made = true;
  *node = value;
  return TN_OK;
}

/* The embedding has one row for each token. */
static tn_status add_vocab(tn_gguf_import *g) {
  const tn_gguf_kv *tokens = tn_gguf_find(g->file, "tokenizer.ggml.tokens");
  const tn_gguf_tensor *table = tn_gguf_tensor_find(g->file, "token_embd.weight");
  if (!table || table->rank != 2) return TN_OK; /* the page will miss it */
  int64_t rows = table->shape[0];
  const tn_json *given = tn_json_peek(g->config, "vocab_size");
  if (given && (given->kind != TN_JSON_INT || given->u.i != rows))
    return tn_gguf_fail_key(g, TN_INVALID, "vocab_size",
                            "is not the number of rows of token_embd.weight, %lld", (long long)rows);
  if (tokens && tokens->count != (uint64_t)rows)
    return tn_gguf_fail_key(g, TN_INVALID, "tokenizer.ggml.tokens",
                            "has %llu tokens, but token_embd.weight has %lld rows",
                            (unsigned long long)tokens->count, (long long)rows);
  return add_made(g, "vocab_size", (tn_json){.kind = TN_JSON_INT, .u.i = rows});
}

/* The file says how tokens become one vector, and nothing about its length: as llama.cpp, this makes it 1. */
static tn_status add_pooling(tn_gguf_import *g) {
  static const char *const modes[] = {NULL, "mean", "cls", "lasttoken"};
  const tn_json *type = tn_json_get(g->config, "pooling_type");
  if (!type) return TN_OK;
  if (type->kind != TN_JSON_INT || type->u.i < 0 || type->u.i >= (int64_t)TN_COUNT(modes))
    return tn_gguf_fail_key(g, TN_UNSUPPORTED, "pooling_type",
                            "is not a pooling that is supported: 0 none, 1 mean, 2 cls, 3 last token");
  const char *mode = modes[type->u.i];
  if (!mode) return TN_OK;
  TN_TRY(add_made(g, "pooling", (tn_json){.kind = TN_JSON_STRING, .u.s = tn_str_of(mode)}));
  return add_made(g, "normalize", (tn_json){.kind = TN_JSON_BOOL, .u.b = true});
}

/* ---- checks
 * ---------------------------------------------------------------------------------------------------- */

static tn_status check_size(tn_gguf_import *g, const char *key, const tn_json *n) {
  if (n->kind == TN_JSON_LIST) {
    for (uint32_t i = 0; i < n->count; i++) TN_TRY(check_size(g, key, &n->u.items[i]));
    return TN_OK;
  }
  if (n->kind != TN_JSON_INT)
    return tn_gguf_fail_key(g, TN_INVALID, key, "is %s, not an integer", tn_json_kind_name(n->kind));
  if (n->u.i >= 0 && n->u.i <= INT32_MAX) return TN_OK;
  return tn_gguf_fail_key(g, TN_INVALID, key, "is %lld; it must be from 0 to %d", (long long)n->u.i,
                          INT32_MAX);
}

static tn_status check_count(tn_gguf_import *g, const char *key, const tn_json *n) {
  TN_TRY(check_size(g, key, n));
  if (n->kind == TN_JSON_INT && n->u.i > 0) return TN_OK;
  return tn_gguf_fail_key(g, TN_INVALID, key, "is not one positive number");
}

static tn_status check_positive(tn_gguf_import *g, const char *key, const tn_json *n) {
  if (n->kind != TN_JSON_INT && n->kind != TN_JSON_REAL)
    return tn_gguf_fail_key(g, TN_INVALID, key, "is %s, not a number", tn_json_kind_name(n->kind));
  double value = n->kind == TN_JSON_INT ? (double)n->u.i : n->u.r;
  if (value > 0 && value <= DBL_MAX) return TN_OK;
  return tn_gguf_fail_key(g, TN_INVALID, key, "is %g; it must be positive and finite", value);
}

typedef struct checked_key {
  const char *key;
  tn_status (*check)(tn_gguf_import *g, const char *key, const tn_json *n);
} checked_key;
/* What every graph divides by, multiplies or allocates: no page needs to check it again. */
static const checked_key checked[] = {
    {"vocab_size", check_count},
    {"embedding_length", check_count},
    {"block_count", check_count},
    {"context_length", check_count},
    {"feed_forward_length", check_size},
    {"attention.head_count", check_size},
    {"attention.head_count_kv", check_size},
    {"attention.key_length", check_count},
    {"attention.value_length", check_count},
    {"attention.layer_norm_epsilon", check_positive},
    {"attention.layer_norm_rms_epsilon", check_positive},
    {"rope.freq_base", check_positive},
};

/* As tn_json_path, but the key stays unused. */
static tn_json *peek_path(const tn_gguf_import *g, const char *dotted) {
  char part[KEY_MAX + 1];
  tn_json *node = g->config;
  while (node && *dotted) {
    size_t n = strcspn(dotted, ".");
    memcpy(part, dotted, n);
    part[n] = 0;
    node = tn_json_peek(node, part);
    dotted += n + (dotted[n] == '.');
  }
  return node;
}

static tn_status check_numbers(tn_gguf_import *g) {
  for (size_t i = 0; i < TN_COUNT(checked); i++) {
    const tn_json *n = peek_path(g, checked[i].key);
    if (n) TN_TRY(checked[i].check(g, checked[i].key, n));
  }
  return TN_OK;
}

/* A list with the same number for every layer is that number, to pages whose layers are all alike. */
static void fold_lists(tn_gguf_import *g) {
  static const char *const keys[] = {"attention.head_count", "attention.head_count_kv",
                                     "feed_forward_length"};
  for (size_t i = 0; i < TN_COUNT(keys); i++) {
    tn_json *n = peek_path(g, keys[i]);
    if (!n || n->kind != TN_JSON_LIST || !n->count) continue;
    bool same = true;
    for (uint32_t k = 1; k < n->count; k++) same &= tn_json_equal(&n->u.items[k], &n->u.items[0]);
    if (!same) continue;
    tn_json one = n->u.items[0];
    one.key = n->key;
    *n = one;
  }
}

tn_status tn_gguf_read_config(tn_gguf_import *g) {
  uint32_t n = 0;
  TN_TRY(read_kind(g));
  const char *prefix = tn_arena_printf(&g->arena, "%s.", g->type);
  g->config = tn_arena_alloc(&g->arena, sizeof *g->config);
  if (!g->config || !prefix) return oom(g);
  g->config->kind = TN_JSON_OBJECT;
  for (uint32_t i = 0; i < tn_gguf_kv_count(g->file); i++) {
    const tn_gguf_kv *kv = tn_gguf_kv_at(g->file, i);
    if (!tn_str_starts(kv->key, prefix)) continue;
    if (n++ == KEYS_MAX)
      return tn_fail(&g->diags, TN_INVALID, g->name, NULL, "more than %d keys begin with '%.60s'", KEYS_MAX,
                     prefix);
    TN_TRY(add_value(g, kv, strlen(prefix)));
  }
  TN_TRY(add_vocab(g));
  TN_TRY(add_pooling(g));
  TN_TRY(check_numbers(g));
  fold_lists(g);
  return TN_OK;
}

/* ---- what was not read
 * ----------------------------------------------------------------------------------------- */

/* Sizes that the tensors have as well, and facts about training. */
static const char *const ignored[] = {"feed_forward_length",  "vocab_size",        "block_count",
                                      "embedding_length",     "context_length",    "attention.value_length",
                                      "attention.key_length", "tensor_data_layout"};

static void report(tn_gguf_import *g, const tn_json *node, const char *path) {
  for (size_t i = 0; i < TN_COUNT(ignored); i++)
    if (!strcmp(path, ignored[i])) return;
  tn_buf where = {0};
  tn_buf_printf(&where, "key '%s.%s'", g->type, path);
  if (!node->used && !node->made && node->kind != TN_JSON_NULL)
    tn_diags_add(&g->diags, TN_WARNING, g->name, 0, 0, tn_buf_cstr(&where),
                 "is not known here and has no effect");
  tn_buf_fini(&where);
}

static void report_inside(tn_gguf_import *g, const tn_json *object, const char *path) {
  for (uint32_t i = 0; i < object->count; i++) {
    const tn_json *node = &object->u.items[i];
    char *inner = tn_arena_printf(&g->arena, "%s%s%s", path, *path ? "." : "", node->key);
    if (!inner) return;
    if (node->kind == TN_JSON_OBJECT)
      report_inside(g, node, inner);
    else
      report(g, node, inner);
  }
}

void tn_gguf_report_unknown(tn_gguf_import *g) { report_inside(g, g->config, ""); }
