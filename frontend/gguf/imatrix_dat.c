/* imatrix_dat.c - importance matrices as .dat files: i32 number of entries; each i32 length, name, i32
 * chunks, i32 numbers, then f32 numbers, which are mean squares times the chunks; i32 chunks in all; i32
 * length, name of the text. Little-endian. */
#include "frontend/gguf/imatrix_dat.h"
#include <math.h>

enum { CHUNK = 512 /* tokens of a chunk where nothing says: what llama-imatrix reads by default */ };

/* ---- reading ------------------------------------------------------------------------------------------- */

typedef struct cursor {
  const char *path;
  tn_bytes file;
  uint64_t at;
  tn_diags *d;
} cursor;

static tn_status take(cursor *c, uint64_t n, const uint8_t **p) {
  if (n > c->file.len - c->at)
    return tn_fail(c->d, TN_INVALID, c->path, NULL,
                   "not an importance matrix: %llu bytes are wanted at %llu, the file has %llu",
                   (unsigned long long)n, (unsigned long long)c->at, (unsigned long long)c->file.len);
  *p = (const uint8_t *)c->file.ptr + c->at;
  c->at += n;
  return TN_OK;
}

static tn_status take_count(cursor *c, const char *what, int32_t least, int32_t *out) {
  const uint8_t *p = NULL;
  TN_TRY(take(c, sizeof *out, &p));
  memcpy(out, p, sizeof *out);
  if (*out >= least) return TN_OK;
  return tn_fail(c->d, TN_INVALID, c->path, NULL, "not an importance matrix: %d %s", *out, what);
}

static tn_status take_text(cursor *c, tn_arena *a, char **out) {
  int32_t n;
  const uint8_t *p = NULL;
  TN_TRY(take_count(c, "bytes of a name", 0, &n));
  TN_TRY(take(c, (uint64_t)n, &p));
  *out = tn_arena_str(a, (tn_str){(const char *)p, (uint64_t)n});
  return *out ? TN_OK : TN_OOM;
}

/* The entry of that name, which other files may have split by experts. */
static tn_imatrix_entry *entry_of(tn_imatrix *m, const char *name, uint32_t n) {
  tn_imatrix_entry *e = tn_imatrix_find(m, name);
  return e && (uint64_t)e->experts * e->columns == n ? e : tn_imatrix_add(m, name, 1, n);
}

static tn_status read_entry(tn_imatrix *m, cursor *c) {
  char *name;
  int32_t chunks, n;
  const uint8_t *p = NULL;
  TN_TRY(take_text(c, &m->arena, &name));
  TN_TRY(take_count(c, "chunks", 0, &chunks));
  TN_TRY(take_count(c, "numbers", 1, &n));
  TN_TRY(take(c, (uint64_t)n * sizeof(float), &p));
  tn_imatrix_entry *e = entry_of(m, name, (uint32_t)n);
  if (!e) return tn_imatrix_fail_size(m, c->d, c->path, name, 1, (uint32_t)n);
  float tokens = (float)(m->chunk_tokens ? m->chunk_tokens : CHUNK);
  if (!chunks) chunks = 1; /* some writers leave it out: the numbers are means */
  for (int32_t i = 0; i < n; i++) {
    float x;
    memcpy(&x, p + (uint64_t)i * sizeof x, sizeof x);
    if (!isfinite(x) || x < 0)
      return tn_fail(c->d, TN_INVALID, c->path, name, "number %d is %g, means of squares are not negative", i,
                     (double)x);
    e->sums[i] += x * tokens;
  }
  for (uint32_t i = 0; i < e->experts; i++) e->counts[i] += (float)chunks * tokens;
  return TN_OK;
}

tn_status tn_imatrix_dat_read(tn_imatrix *m, const char *path, tn_bytes file, tn_diags *diags) {
  cursor c = {path, file, 0, diags};
  int32_t entries, chunks;
  char *dataset;
  TN_TRY(take_count(&c, "entries", 1, &entries));
  for (int32_t i = 0; i < entries; i++) TN_TRY(read_entry(m, &c));
  if (c.at == file.len) return TN_OK; /* the oldest files end here */
  TN_TRY(take_count(&c, "chunks", 0, &chunks));
  TN_TRY(take_text(&c, &m->arena, &dataset));
  m->chunks += (uint32_t)chunks;
  m->dataset = dataset;
  return TN_OK;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static void put_count(tn_buf *out, uint64_t n) {
  int32_t v = n > INT32_MAX ? INT32_MAX : (int32_t)n;
  tn_buf_put(out, &v, sizeof v);
}

static void put_text(tn_buf *out, const char *s) {
  put_count(out, strlen(s));
  tn_buf_puts(out, s);
}

/* Experts that no token met get ones, as everything without data does in this format. */
static void put_entry(const tn_imatrix *m, const tn_imatrix_entry *e, tn_buf *out) {
  float most = 0, tokens = (float)(m->chunk_tokens ? m->chunk_tokens : CHUNK);
  for (uint32_t i = 0; i < e->experts; i++) most = fmaxf(most, e->counts[i]);
  float chunks = ceilf(most / tokens);
  put_text(out, e->name);
  put_count(out, (uint64_t)chunks);
  put_count(out, (uint64_t)e->experts * e->columns);
  for (uint64_t i = 0; i < (uint64_t)e->experts * e->columns; i++) {
    float count = e->counts[i / e->columns], x = (count > 0 ? e->sums[i] / count : 1) * chunks;
    tn_buf_put(out, &x, sizeof x);
  }
}

static bool has_data(const tn_imatrix_entry *e) {
  for (uint32_t i = 0; i < e->experts; i++)
    if (e->counts[i] > 0) return true;
  return false;
}

tn_status tn_imatrix_dat_write(const tn_imatrix *m, const uint32_t *order, const char *path,
                               tn_diags *diags) {
  tn_buf out = {0};
  uint64_t n = 0;
  for (uint32_t i = 0; i < m->entries.count; i++) n += has_data(&m->entries.items[i]);
  put_count(&out, n);
  for (uint32_t i = 0; i < m->entries.count; i++)
    if (has_data(&m->entries.items[order[i]])) put_entry(m, &m->entries.items[order[i]], &out);
  put_count(&out, m->chunks);
  put_text(&out, m->dataset ? m->dataset : "");
  tn_status s = tn_text_write(path, &out, diags);
  tn_buf_fini(&out);
  return s;
}
