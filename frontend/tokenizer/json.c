/* json.c - tokenizer.json to blob: the order of things, and access to JSON with places. The parts are read by
 * json_parts.c, the model and added tokens by json_model.c, the folder around them by json_folder.c. */
#include "frontend/tokenizer/engine.h"
#include "frontend/tokenizer/json.h"

static tn_status report(tn_tk_reader *r, tn_status status, const char *where, const char *fmt, va_list ap) {
  tn_buf text = {0};
  tn_buf_vprintf(&text, fmt, ap);
  tn_fail(r->diags, status, r->file, where, "%s", tn_buf_cstr(&text));
  tn_buf_fini(&text);
  return status;
}

tn_status tn_tk_bad(tn_tk_reader *r, const char *where, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  tn_status status = report(r, TN_INVALID, where, fmt, ap);
  va_end(ap);
  return status;
}

tn_status tn_tk_unsupported(tn_tk_reader *r, const char *where, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  tn_status status = report(r, TN_UNSUPPORTED, where, fmt, ap);
  va_end(ap);
  return status;
}

tn_status tn_tk_oom(tn_tk_reader *r) { return tn_fail(r->diags, TN_OOM, r->file, NULL, "out of memory"); }

const char *tn_tk_at(tn_tk_reader *r, const char *where, const char *key) {
  const char *p = *where ? tn_arena_printf(&r->arena, "%s.%s", where, key) : key;
  return p ? p : key;
}

const char *tn_tk_nth(tn_tk_reader *r, const char *where, uint32_t i) {
  const char *p = tn_arena_printf(&r->arena, "%s[%u]", where, i);
  return p ? p : where;
}

static const tn_json *given(const tn_json *o, const char *key) {
  const tn_json *node = tn_json_get(o, key);
  return node && node->kind != TN_JSON_NULL ? node : NULL;
}

static tn_status wrong_kind(tn_tk_reader *r, const char *where, const char *key, tn_json_kind want,
                            const tn_json *got) {
  return tn_tk_bad(r, tn_tk_at(r, where, key), "should be %s, is %s", tn_json_kind_name(want),
                   got ? tn_json_kind_name(got->kind) : "missing");
}

tn_status tn_tk_need(tn_tk_reader *r, const tn_json *o, const char *where, const char *key, tn_json_kind kind,
                     const tn_json **out) {
  *out = tn_json_get(o, key);
  return *out && (*out)->kind == kind ? TN_OK : wrong_kind(r, where, key, kind, *out);
}

tn_status tn_tk_bool(tn_tk_reader *r, const tn_json *o, const char *where, const char *key, bool *value) {
  const tn_json *node = given(o, key);
  if (!node) return TN_OK;
  if (node->kind != TN_JSON_BOOL) return wrong_kind(r, where, key, TN_JSON_BOOL, node);
  *value = node->u.b;
  return TN_OK;
}

tn_status tn_tk_string(tn_tk_reader *r, const tn_json *o, const char *where, const char *key, tn_str *value) {
  const tn_json *node;
  TN_TRY(tn_tk_need(r, o, where, key, TN_JSON_STRING, &node));
  *value = node->u.s;
  return TN_OK;
}

tn_status tn_tk_optional(tn_tk_reader *r, const tn_json *o, const char *where, const char *key,
                         tn_str *value) {
  const tn_json *node = given(o, key);
  *value = (tn_str){NULL, 0};
  if (!node) return TN_OK;
  if (node->kind != TN_JSON_STRING) return wrong_kind(r, where, key, TN_JSON_STRING, node);
  *value = node->u.s;
  return TN_OK;
}

tn_status tn_tk_number(tn_tk_reader *r, const tn_json *node, const char *where, uint32_t limit,
                       uint32_t *value) {
  if (!node || node->kind != TN_JSON_INT)
    return tn_tk_bad(r, where, "should be an integer, is %s",
                     node ? tn_json_kind_name(node->kind) : "missing");
  if (node->u.i < 0 || node->u.i > limit)
    return tn_tk_bad(r, where, "%lld is not in 0 .. %u", (long long)node->u.i, limit);
  *value = (uint32_t)node->u.i;
  return TN_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */
void tn_tk_reader_init(tn_tk_reader *r, const char *file, tn_diags *diags) {
  memset(r, 0, sizeof *r);
  tn_arena_init(&r->arena);
  tn_map_init(&r->vocabulary);
  tn_map_init(&r->added);
  tn_map_init(&r->added_ids);
  r->file = file;
  r->diags = diags;
  r->build.head.unk = TN_TK_UNK_NONE;
  r->build.head.prefix = r->build.head.suffix = (tn_tk_str){TN_TK_NONE, 0};
}

void tn_tk_reader_fini(tn_tk_reader *r) {
  tn_tk_build_fini(&r->build);
  tn_map_fini(&r->vocabulary);
  tn_map_fini(&r->added);
  tn_map_fini(&r->added_ids);
  tn_arena_fini(&r->arena);
}

/* Padding is not ours to do, and truncation only leaves its number. */
static tn_status read_truncation(tn_tk_reader *r, const tn_json *root) {
  const tn_json *node = given(root, "truncation");
  if (!node) return TN_OK;
  if (node->kind != TN_JSON_OBJECT) return wrong_kind(r, "", "truncation", TN_JSON_OBJECT, node);
  return tn_tk_number(r, tn_json_get(node, "max_length"), "truncation.max_length", INT32_MAX,
                      &r->build.head.max_length);
}

tn_status tn_tk_read_root(tn_tk_reader *r, const tn_json *root) {
  tn_str version;
  if (root->kind != TN_JSON_OBJECT)
    return tn_tk_bad(r, NULL, "should be an object, is %s", tn_json_kind_name(root->kind));
  TN_TRY(tn_tk_optional(r, root, "", "version", &version));
  if (version.ptr && !tn_str_is(version, "1.0"))
    return tn_tk_unsupported(r, "version", "'%.*s' is not known, '1.0' is",
                             (int)(version.len > 20 ? 20 : version.len), version.ptr);
  TN_TRY(read_truncation(r, root));
  TN_TRY(tn_tk_read_parts(r, root));
  return tn_tk_read_model(r, root);
}

static tn_status write_blob(tn_tk_reader *r, tn_buf *out) {
  tn_status status = tn_tk_build_write(&r->build, out);
  if (status == TN_INVALID) return tn_tk_bad(r, NULL, "is larger than 4 GiB");
  return status ? tn_tk_oom(r) : TN_OK;
}

/* The blob as it is now, opened. */
static tn_status open_blob(tn_tk_reader *r, const tn_buf *blob, tn_tokenizer **out) {
  const char *why;
  tn_status status = tn_tokenizer_open((tn_bytes){blob->text, blob->len}, out, &why);
  if (status == TN_OOM) return tn_tk_oom(r);
  return status ? tn_tk_bad(r, NULL, "does not fit together: %s", why) : TN_OK;
}

static tn_status normalize_added(tn_tk_reader *r, const tn_tokenizer *t) {
  for (uint32_t i = 0; i < r->build.added.count; i++) {
    tn_tk_build_added *a = &r->build.added.items[i];
    if (!(a->flags & TN_TK_ADDED_NORMALIZED)) continue;
    tn_buf text = {0};
    tn_status status = tn_tk_normalize_text(t, a->text, &text);
    tn_str normal = {text.text ? text.text : "", text.len};
    if (!status && !tn_str_eq(normal, a->text)) {
      const char *copy = tn_arena_str(&r->arena, normal);
      a->normal = (tn_str){copy, normal.len};
      if (!copy) status = TN_OOM;
    }
    tn_buf_fini(&text);
    if (status == TN_OOM) return tn_tk_oom(r);
    if (status)
      return tn_tk_bad(r, "added_tokens", "the normalizer fails on '%.*s'",
                       (int)(a->text.len > 64 ? 64 : a->text.len), a->text.ptr);
  }
  return TN_OK;
}

static tn_status check_template(tn_tk_reader *r) {
  uint32_t size = r->build.tokens.count;
  for (uint32_t i = 0; i < r->build.added.count; i++) {
    if (r->build.added.items[i].id >= size) size = r->build.added.items[i].id + 1;
  }
  for (uint32_t i = 0; i < r->build.pieces.count; i++) {
    int32_t id = r->build.pieces.items[i].id;
    if (id >= 0 && (uint32_t)id >= size)
      return tn_tk_bad(r, "post_processor", "token %d is not in the vocabulary of %u", id, size);
  }
  return TN_OK;
}

/* Twice: what the normalizer makes of added tokens is asked of the tokenizer without them. */
tn_status tn_tk_reader_write(tn_tk_reader *r, tn_buf *out) {
  tn_buf first = {0};
  tn_tokenizer *t = NULL;
  uint64_t before = out->len;
  tn_status status = check_template(r);
  if (!status) status = write_blob(r, &first);
  if (!status) status = open_blob(r, &first, &t);
  if (!status && r->build.parts[TN_TK_STAGE_NORMALIZE].count) status = normalize_added(r, t);
  if (!status) status = write_blob(r, out);
  if (status) out->len = before;
  tn_tokenizer_close(t);
  tn_buf_fini(&first);
  return status;
}

tn_status tn_tokenizer_import_json(tn_str json, const char *name, tn_buf *blob, tn_diags *diags) {
  tn_tk_reader r;
  tn_json *root;
  tn_tk_reader_init(&r, name, diags);
  tn_status status = tn_json_parse(&r.arena, json, name, diags, &root);
  if (!status) status = tn_tk_read_root(&r, root);
  if (!status) status = tn_tk_reader_write(&r, blob);
  tn_tk_reader_fini(&r);
  return status;
}
