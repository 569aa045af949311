/* imatrix.c - importance matrices in memory, and in GGUF files. The older format is in imatrix_dat.c. */
#include "frontend/gguf/imatrix.h"
#include "frontend/gguf/imatrix_dat.h"
#include "frontend/gguf/write.h"
#include <math.h>
#include <stdlib.h>

static const char sums_suffix[] = ".in_sum2", counts_suffix[] = ".counts";

void tn_imatrix_init(tn_imatrix *m) {
  *m = (tn_imatrix){0};
  tn_arena_init(&m->arena);
  tn_map_init(&m->by_name);
}

void tn_imatrix_fini(tn_imatrix *m) {
  tn_vec_fini(&m->entries);
  tn_map_fini(&m->by_name);
  tn_arena_fini(&m->arena);
}

tn_imatrix_entry *tn_imatrix_find(const tn_imatrix *m, const char *name) {
  uint64_t i;
  return tn_map_get(&m->by_name, tn_str_of(name), &i) ? &m->entries.items[i] : NULL;
}

tn_imatrix_entry *tn_imatrix_add(tn_imatrix *m, const char *name, uint32_t experts, uint32_t columns) {
  tn_imatrix_entry *e = tn_imatrix_find(m, name);
  if (e) return e->experts == experts && e->columns == columns ? e : NULL;
  uint64_t n;
  tn_imatrix_entry made = {
      .name = tn_arena_str(&m->arena, tn_str_of(name)), .experts = experts, .columns = columns};
  if (!tn_mul_u64(experts, columns, &n) || n > SIZE_MAX / sizeof *made.sums) return NULL;
  made.sums = tn_arena_alloc(&m->arena, n * sizeof *made.sums);
  made.counts = tn_arena_alloc(&m->arena, experts * sizeof *made.counts);
  bool ok = made.name && made.sums && made.counts && tn_vec_push(&m->entries, made);
  if (!ok || tn_map_put(&m->by_name, tn_str_of(name), m->entries.count - 1, NULL) != TN_OK) return NULL;
  return &m->entries.items[m->entries.count - 1];
}

tn_status tn_imatrix_fail_size(const tn_imatrix *m, tn_diags *d, const char *path, const char *name,
                               uint32_t experts, uint32_t columns) {
  const tn_imatrix_entry *e = tn_imatrix_find(m, name);
  if (!e) return tn_fail(d, TN_OOM, path, name, "no memory for an importance matrix");
  return tn_fail(d, TN_INVALID, path, name, "has %u x %u numbers, %u x %u were there before", experts,
                 columns, e->experts, e->columns);
}

/* ---- reading ------------------------------------------------------------------------------------------- */

typedef struct reading {
  tn_imatrix *m;
  tn_gguf *g;
  tn_file file;
  const char *path;
  tn_diags *d;
} reading;

/* Adds the tensor's numbers to `to`. */
static tn_status add_numbers(reading *r, const tn_gguf_tensor *t, float *to, uint64_t n) {
  if (t->dtype != TN_DT_f32 || t->bytes != n * sizeof *to || t->offset > r->file.size ||
      t->bytes > r->file.size - t->offset)
    return tn_fail(r->d, TN_INVALID, r->path, t->name, "is not a tensor of %llu f32 numbers",
                   (unsigned long long)n);
  for (uint64_t i = 0; i < n; i++) {
    float x;
    memcpy(&x, r->file.data + t->offset + i * sizeof x, sizeof x);
    if (!isfinite(x) || x < 0)
      return tn_fail(r->d, TN_INVALID, r->path, t->name,
                     "number %llu is %g, sums of squares are not negative", (unsigned long long)i, (double)x);
    to[i] += x;
  }
  return TN_OK;
}

/* [experts, columns], or [columns] of one. */
static tn_status read_entry(reading *r, const tn_gguf_tensor *sums, const char *name) {
  uint64_t columns = sums->rank ? (uint64_t)sums->shape[sums->rank - 1] : 0, experts = 1;
  for (uint32_t i = 0; i + 1 < sums->rank; i++) experts *= (uint64_t)sums->shape[i];
  char *other = tn_arena_printf(&r->m->arena, "%s%s", name, counts_suffix);
  const tn_gguf_tensor *counts = other ? tn_gguf_tensor_find(r->g, other) : NULL;
  if (!other) return TN_OOM;
  if (!counts) return tn_fail(r->d, TN_INVALID, r->path, sums->name, "has no '%s' beside it", other);
  if (!columns || !experts || columns > UINT32_MAX || experts > UINT32_MAX)
    return tn_fail(r->d, TN_INVALID, r->path, sums->name, "has no numbers, or too many");
  tn_imatrix_entry *e = tn_imatrix_add(r->m, name, (uint32_t)experts, (uint32_t)columns);
  if (!e) return tn_imatrix_fail_size(r->m, r->d, r->path, name, (uint32_t)experts, (uint32_t)columns);
  TN_TRY(add_numbers(r, counts, e->counts, experts));
  return add_numbers(r, sums, e->sums, experts * columns);
}

static void read_keys(reading *r) {
  int64_t n;
  tn_str s;
  const tn_gguf_kv *chunks = tn_gguf_find(r->g, "imatrix.chunk_count"),
                   *size = tn_gguf_find(r->g, "imatrix.chunk_size"),
                   *sets = tn_gguf_find(r->g, "imatrix.datasets");
  if (chunks && tn_gguf_int(chunks, 0, &n) && n >= 0 && n <= INT32_MAX) r->m->chunks += (uint32_t)n;
  if (size && tn_gguf_int(size, 0, &n) && n >= 0 && n <= INT32_MAX) r->m->chunk_tokens = (uint32_t)n;
  if (sets && tn_gguf_string(sets, 0, &s)) r->m->dataset = tn_arena_str(&r->m->arena, s);
}

static tn_status read_all(reading *r) {
  tn_str type;
  const tn_gguf_kv *kv = tn_gguf_find(r->g, "general.type");
  if (!kv || !tn_gguf_string(kv, 0, &type) || !tn_str_is(type, "imatrix"))
    return tn_fail(r->d, TN_INVALID, r->path, NULL,
                   "not an importance matrix: its key 'general.type' is not 'imatrix'");
  for (uint32_t i = 0; i < tn_gguf_tensor_count(r->g); i++) {
    const tn_gguf_tensor *t = tn_gguf_tensor_at(r->g, i);
    tn_str name = tn_str_of(t->name);
    if (!tn_str_ends(name, sums_suffix)) continue;
    char *of = tn_arena_str(&r->m->arena, (tn_str){name.ptr, name.len - strlen(sums_suffix)});
    if (!of) return TN_OOM;
    TN_TRY(read_entry(r, t, of));
  }
  read_keys(r);
  return TN_OK;
}

static bool is_gguf(const tn_file *f) { return f->size >= 4 && !memcmp(f->data, "GGUF", 4); }

tn_status tn_imatrix_read(tn_imatrix *m, const char *path, tn_diags *diags) {
  const char *why;
  reading r = {.m = m, .path = path, .d = diags};
  tn_status s = tn_file_map(&r.file, path, &why);
  if (s != TN_OK) return tn_fail(diags, s, path, NULL, "cannot read the file: %s", why);
  if (is_gguf(&r.file)) {
    s = tn_gguf_open(path, diags, &r.g);
    if (s == TN_OK) s = read_all(&r);
    tn_gguf_close(r.g);
  } else {
    s = tn_imatrix_dat_read(m, path, (tn_bytes){r.file.data, r.file.size}, diags);
  }
  tn_file_unmap(&r.file);
  if (s == TN_OK && !m->entries.count)
    return tn_fail(diags, TN_INVALID, path, NULL, "there is no importance matrix in the file");
  return s;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b, void *ctx) {
  const tn_imatrix *m = ctx;
  return strcmp(m->entries.items[*(const uint32_t *)a].name, m->entries.items[*(const uint32_t *)b].name);
}

tn_status tn_imatrix_order(const tn_imatrix *m, uint32_t **order) {
  *order = tn_mem_alloc((m->entries.count + 1) * sizeof **order);
  if (!*order) return TN_OOM;
  for (uint32_t i = 0; i < m->entries.count; i++) (*order)[i] = i;
  qsort_r(*order, m->entries.count, sizeof **order, by_name, (void *)(uintptr_t)m);
  return TN_OK;
}

typedef struct writing {
  const tn_imatrix *m;
  const uint32_t *order;
} writing;

/* Tensors come in pairs: sums, counts. */
static tn_status fill(void *ctx, uint32_t tensor, tn_outfile *out, uint64_t at, uint64_t bytes) {
  const writing *w = ctx;
  const tn_imatrix_entry *e = &w->m->entries.items[w->order[tensor / 2]];
  return tn_outfile_put(out, at, tensor % 2 ? e->counts : e->sums, bytes);
}

static tn_status write_gguf(const tn_imatrix *m, const uint32_t *order, const char *path, tn_diags *diags) {
  tn_gguf_writer w;
  tn_gguf_writer_init(&w);
  tn_arena names;
  tn_arena_init(&names);
  tn_gguf_put_string(&w, "general.type", TN_STR("imatrix"));
  tn_str set = tn_str_of(m->dataset ? m->dataset : "");
  tn_gguf_put_strings(&w, "imatrix.datasets", &set, 1);
  tn_gguf_put_u32(&w, "imatrix.chunk_count", m->chunks);
  tn_gguf_put_u32(&w, "imatrix.chunk_size", m->chunk_tokens);
  for (uint32_t i = 0; i < m->entries.count; i++) {
    const tn_imatrix_entry *e = &m->entries.items[order[i]];
    const int64_t sums[] = {e->experts, e->columns}, counts[] = {e->experts, 1};
    char *a = tn_arena_printf(&names, "%s%s", e->name, sums_suffix),
         *b = tn_arena_printf(&names, "%s%s", e->name, counts_suffix);
    if (!a || !b) break;
    tn_gguf_put_tensor(&w, a, TN_DT_f32, 2, sums);
    tn_gguf_put_tensor(&w, b, TN_DT_f32, 2, counts);
  }
  writing ctx = {m, order};
  tn_status s = names.failed ? TN_OOM : tn_gguf_write(&w, path, fill, &ctx, diags);
  tn_arena_fini(&names);
  tn_gguf_writer_fini(&w);
  return s;
}

tn_status tn_imatrix_write(const tn_imatrix *m, const char *path, tn_diags *diags) {
  uint32_t *order;
  TN_TRY(tn_imatrix_order(m, &order));
  tn_status s = tn_str_ends(tn_str_of(path), ".dat") ? tn_imatrix_dat_write(m, order, path, diags)
                                                     : write_gguf(m, order, path, diags);
  tn_mem_free(order);
  return s;
}
