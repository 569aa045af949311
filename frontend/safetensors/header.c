/* header.c - one safetensors file: u64 header length, JSON header, one data buffer that the tensors fill from
 * the first byte to the last without holes or overlaps. All sizes come from the file and are checked before
 * use. */
#include "frontend/config/config.h"
#include "frontend/safetensors/header.h"
#include "frontend/safetensors/types.h"
#include <stdlib.h>

enum { MAX_HEADER = 100000000 };

typedef struct span {
  uint64_t begin, end; /* in the data buffer */
  const char *name;
} span;

typedef struct header {
  tn_st_files *files;
  const char *file;
  tn_diags *diags;
  uint64_t start; /* of the data buffer, in the file */
  uint64_t room;  /* bytes of the data buffer */
  TN_VEC(span) spans;
} header;

static tn_status fail_tensor(header *h, tn_status status, const char *name, const char *fmt, ...)
    TN_PRINTF(4, 5);
static tn_status fail_tensor(header *h, tn_status status, const char *name, const char *fmt, ...) {
  tn_buf where = {0}, text = {0};
  va_list ap;
  va_start(ap, fmt);
  tn_buf_printf(&where, "tensor '%s'", name);
  tn_buf_vprintf(&text, fmt, ap);
  va_end(ap);
  tn_fail(h->diags, status, h->file, tn_buf_cstr(&where), "%s", tn_buf_cstr(&text));
  tn_buf_fini(&where);
  tn_buf_fini(&text);
  return status;
}

static const tn_json *field(header *h, const tn_json *entry, const char *key, tn_json_kind kind) {
  const tn_json *f = tn_json_peek(entry, key);
  if (f && f->kind == kind) return f;
  if (f)
    fail_tensor(h, TN_INVALID, entry->key, "'%s' is %s, not %s", key, tn_json_kind_name(f->kind),
                tn_json_kind_name(kind));
  else
    fail_tensor(h, TN_INVALID, entry->key, "has no '%s'", key);
  return NULL;
}

static const tn_st_type *read_dtype(header *h, const tn_json *entry) {
  const tn_json *f = field(h, entry, "dtype", TN_JSON_STRING);
  if (!f) return NULL;
  for (size_t i = 0; i < TN_COUNT(tn_st_types); i++)
    if (tn_str_is(f->u.s, tn_st_types[i].name)) return &tn_st_types[i];
  fail_tensor(h, TN_INVALID, entry->key, "dtype '%.40s' is not one of the format", f->u.s.ptr);
  return NULL;
}

/* Rank, dims and the number of values. */
static tn_status read_shape(header *h, const tn_json *entry, tn_st_tensor *t, uint64_t *values) {
  const tn_json *f = field(h, entry, "shape", TN_JSON_LIST);
  if (!f) return TN_INVALID;
  if (f->count > TN_MAX_RANK)
    return fail_tensor(h, TN_UNSUPPORTED, entry->key, "has %u dims; at most %d are supported", f->count,
                       TN_MAX_RANK);
  *values = 1;
  t->rank = f->count;
  for (uint32_t i = 0; i < f->count; i++) {
    const tn_json *d = &f->u.items[i];
    if (d->kind != TN_JSON_INT || d->u.i < 0)
      return fail_tensor(h, TN_INVALID, entry->key, "dim %u of its shape is not a size", i);
    t->shape[i] = d->u.i;
    if (!tn_mul_u64(*values, (uint64_t)d->u.i, values))
      return fail_tensor(h, TN_INVALID, entry->key, "its shape has more values than 64 bits can count");
  }
  return TN_OK;
}

static tn_status read_offsets(header *h, const tn_json *entry, span *s) {
  const tn_json *f = field(h, entry, "data_offsets", TN_JSON_LIST);
  if (!f) return TN_INVALID;
  const tn_json *i = f->u.items;
  if (f->count != 2 || i[0].kind != TN_JSON_INT || i[1].kind != TN_JSON_INT || i[0].u.i < 0 ||
      i[1].u.i < i[0].u.i)
    return fail_tensor(h, TN_INVALID, entry->key, "'data_offsets' are not two offsets in order");
  *s = (span){(uint64_t)i[0].u.i, (uint64_t)i[1].u.i, entry->key};
  if (s->end <= h->room) return TN_OK;
  return fail_tensor(h, TN_INVALID, entry->key, "ends at byte %llu of the data, which has %llu",
                     (unsigned long long)s->end, (unsigned long long)h->room);
}

static tn_status check_bytes(header *h, const tn_json *entry, const tn_st_type *d, uint64_t values,
                             uint64_t bytes) {
  uint64_t bits;
  if (!tn_mul_u64(values, d->bits, &bits))
    return fail_tensor(h, TN_INVALID, entry->key, "its shape has more bits than 64 bits can count");
  if (bits % 8)
    return fail_tensor(h, TN_INVALID, entry->key, "%llu values of %s do not fill whole bytes",
                       (unsigned long long)values, d->name);
  if (bits / 8 == bytes) return TN_OK;
  return fail_tensor(h, TN_INVALID, entry->key, "its shape and dtype need %llu bytes, its offsets give %llu",
                     (unsigned long long)(bits / 8), (unsigned long long)bytes);
}

static bool name_is_clean(const char *name) {
  for (const unsigned char *p = (const unsigned char *)name; *p; p++)
    if (*p < 32 || *p == 127) return false;
  return *name;
}

static tn_status add_tensor(header *h, const tn_st_tensor *t, const span *s) {
  tn_st_tensor copy = *t;
  copy.name = tn_arena_str(&h->files->arena, tn_str_of(t->name));
  if (!copy.name || !tn_vec_push(&h->files->tensors, copy) || !tn_vec_push(&h->spans, *s))
    return tn_fail(h->diags, TN_OOM, h->file, NULL, "out of memory");
  return TN_OK;
}

static tn_status read_tensor(header *h, const tn_json *entry) {
  tn_st_tensor t = {.name = entry->key, .file = h->file};
  span s;
  uint64_t values;
  if (!name_is_clean(entry->key))
    return tn_fail(h->diags, TN_INVALID, h->file, NULL, "a tensor's name is empty or has control characters");
  if (entry->kind != TN_JSON_OBJECT)
    return fail_tensor(h, TN_INVALID, entry->key, "is described by %s, not an object",
                       tn_json_kind_name(entry->kind));
  const tn_st_type *d = read_dtype(h, entry);
  if (!d) return TN_INVALID;
  TN_TRY(read_shape(h, entry, &t, &values));
  TN_TRY(read_offsets(h, entry, &s));
  TN_TRY(check_bytes(h, entry, d, values, s.end - s.begin));
  if (!d->dtype) return fail_tensor(h, TN_UNSUPPORTED, entry->key, "dtype %s is not supported", d->name);
  t.dtype = d->dtype;
  t.offset = h->start + s.begin;
  t.bytes = s.end - s.begin;
  return add_tensor(h, &t, &s);
}

static tn_status check_metadata(header *h, const tn_json *meta) {
  if (meta->kind != TN_JSON_OBJECT)
    return tn_fail(h->diags, TN_INVALID, h->file, "key '__metadata__'", "is %s, not an object",
                   tn_json_kind_name(meta->kind));
  for (uint32_t i = 0; i < meta->count; i++)
    if (meta->u.items[i].kind != TN_JSON_STRING)
      return tn_fail(h->diags, TN_INVALID, h->file, "key '__metadata__'",
                     "has a value that is %s, not a string", tn_json_kind_name(meta->u.items[i].kind));
  return TN_OK;
}

static int by_begin(const void *a, const void *b) {
  const span *x = a, *y = b;
  if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
  return x->end < y->end ? -1 : x->end > y->end;
}

/* The tensors must tile the data buffer. */
static tn_status check_cover(header *h) {
  uint64_t at = 0;
  const char *before = NULL;
  if (h->spans.count) qsort(h->spans.items, h->spans.count, sizeof *h->spans.items, by_begin);
  for (uint32_t i = 0; i < h->spans.count; i++) {
    const span *s = &h->spans.items[i];
    if (s->begin < at) return fail_tensor(h, TN_INVALID, s->name, "overlaps tensor '%s'", before);
    if (s->begin > at)
      return fail_tensor(h, TN_INVALID, s->name,
                         "begins at byte %llu of the data, but what is before it ends at %llu",
                         (unsigned long long)s->begin, (unsigned long long)at);
    at = s->end;
    before = s->name;
  }
  if (at == h->room) return TN_OK;
  return tn_fail(h->diags, TN_INVALID, h->file, NULL, "%llu bytes of data belong to no tensor",
                 (unsigned long long)(h->room - at));
}

static tn_status read_tensors(header *h, const tn_json *root) {
  tn_status status = TN_OK;
  for (uint32_t i = 0; i < root->count; i++) {
    const tn_json *e = &root->u.items[i];
    tn_status s = strcmp(e->key, "__metadata__") ? read_tensor(h, e) : check_metadata(h, e);
    if (s == TN_OOM) return s;
    if (s != TN_OK) status = s;
  }
  return status == TN_OK ? check_cover(h) : status;
}

/* The header's text, when its length is believable. */
static tn_status find_header(header *h, tn_bytes data, tn_str *text) {
  const unsigned char *p = data.ptr;
  uint64_t n = 0;
  if (data.len < 8)
    return tn_fail(h->diags, TN_INVALID, h->file, NULL,
                   "is cut off: %llu bytes, less than the header's length field",
                   (unsigned long long)data.len);
  for (int i = 7; i >= 0; i--) n = n << 8 | p[i];
  if (n > MAX_HEADER)
    return tn_fail(h->diags, TN_INVALID, h->file, NULL,
                   "header length %llu is above the format's limit of %d", (unsigned long long)n, MAX_HEADER);
  if (n > data.len - 8)
    return tn_fail(h->diags, TN_INVALID, h->file, NULL,
                   "is cut off: header length %llu, but %llu bytes follow", (unsigned long long)n,
                   (unsigned long long)(data.len - 8));
  *text = (tn_str){(const char *)p + 8, n};
  if (!n || p[8] != '{')
    return tn_fail(h->diags, TN_INVALID, h->file, NULL, "the header does not begin with '{'");
  h->start = 8 + n;
  h->room = data.len - h->start;
  return TN_OK;
}

tn_status tn_st_header(tn_st_files *s, const char *file, tn_bytes data, tn_diags *diags) {
  header h = {.files = s, .file = tn_arena_str(&s->arena, tn_str_of(file)), .diags = diags};
  tn_str text;
  tn_json *root;
  tn_arena json;
  if (!h.file) return tn_fail(diags, TN_OOM, file, NULL, "out of memory");
  TN_TRY(find_header(&h, data, &text));
  tn_arena_init(&json);
  tn_status status = tn_json_parse(&json, text, h.file, diags, &root);
  if (status == TN_OK) status = read_tensors(&h, root);
  tn_vec_fini(&h.spans);
  tn_arena_fini(&json);
  return status;
}
