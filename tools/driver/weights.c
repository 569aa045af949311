/* weights.c - streams weights from their files into the packed weight section: several weights at once, each
 * on one thread, a few panels at a time. Files are read with pread, not mapped, so that what passes through
 * does not count as this process's memory. */
#include "tools/driver/driver.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

void tn_weight_reader_init(tn_weight_reader *r, tn_driver *d, tn_module *m, tn_weight w) {
  *r = (tn_weight_reader){.d = d, .m = m, .fd = -1};
  tn_ir_weight_get(m, w, &r->info);
}

void tn_weight_reader_fini(tn_weight_reader *r) {
  if (r->fd >= 0) close(r->fd);
  r->fd = -1;
  tn_form_close(r->form);
  r->form = NULL;
}

uint64_t tn_weight_bytes(tn_module *m, const tn_weight_info *info) {
  int64_t size = 0;
  uint64_t n = 0;
  if (info->form) /* the verifier has seen that it is a constant */
    return tn_ir_dim_is_const(m, tn_type_bytes(m, info->type), &size) ? (uint64_t)size : 0;
  for (uint32_t i = 0; i < info->nparts; i++) n += info->parts[i].bytes;
  return n;
}

static tn_status reader_open(tn_weight_reader *r, const char *file) {
  if (r->open_file && !strcmp(r->open_file, file)) return TN_OK;
  if (r->fd >= 0) close(r->fd);
  tn_arena a;
  tn_arena_init(&a);
  char *path = tn_path_join(&a, r->d->folder, file);
  r->fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  tn_arena_fini(&a);
  r->open_file = r->fd >= 0 ? file : NULL;
  if (r->fd < 0)
    return tn_fail(r->d->diags, TN_UNAVAILABLE, file, NULL, "cannot open the weight file: %s",
                   strerror(errno));
  return TN_OK;
}

static tn_status read_exactly(tn_weight_reader *r, const tn_part *part, uint64_t off, uint8_t *dst,
                              uint64_t len) {
  TN_TRY(reader_open(r, part->file));
  while (len) {
    ssize_t n = pread(r->fd, dst, len > (1u << 30) ? 1u << 30 : len, (off_t)(part->offset + off));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return tn_fail(r->d->diags, TN_DATA_LOSS, part->file, NULL, "weight '%s' ends early at byte %llu%s%s",
                     r->info.name, (unsigned long long)(part->offset + off), n < 0 ? ": " : "",
                     n < 0 ? strerror(errno) : "");
    dst += n, off += (uint64_t)n, len -= (uint64_t)n;
  }
  return TN_OK;
}

static tn_status read_parts(void *ctx, uint64_t off, void *dst, uint64_t len) {
  tn_weight_reader *r = ctx;
  uint8_t *to = dst;
  for (uint32_t i = 0; i < r->info.nparts && len; i++) {
    const tn_part *part = &r->info.parts[i];
    if (off >= part->bytes) {
      off -= part->bytes;
      continue;
    }
    uint64_t n = part->bytes - off < len ? part->bytes - off : len;
    TN_TRY(read_exactly(r, part, off, to, n));
    to += n, len -= n, off = 0;
  }
  if (len)
    return tn_fail(r->d->diags, TN_INTERNAL, NULL, r->info.name,
                   "a read goes %llu bytes past the weight's end", (unsigned long long)len);
  return TN_OK;
}

static tn_status open_form(tn_weight_reader *r) {
  tn_type_info t;
  tn_ir_type_get(r->m, r->info.type, &t);
  tn_form_spec spec = {.name = r->info.name,
                       .text = r->info.form,
                       .dtype = t.dtype,
                       .rank = t.rank,
                       .parts = r->info.parts,
                       .nparts = r->info.nparts,
                       .in = {r, read_parts}};
  for (uint32_t i = 0; i < t.rank; i++)
    if (!tn_ir_dim_is_const(r->m, t.dims[i], &spec.dims[i]))
      return tn_fail(r->d->diags, TN_INVALID, NULL, r->info.name, "a size of the weight is not known");
  return tn_form_open(&spec, r->d->diags, &r->form);
}

tn_status tn_weight_reader_read(void *ctx, uint64_t off, void *dst, uint64_t len) {
  tn_weight_reader *r = ctx;
  if (!r->info.form) return read_parts(ctx, off, dst, len);
  if (!r->form) TN_TRY(open_form(r));
  return tn_form_read(r->form, off, dst, len);
}

static tn_status copy_plain(tn_weight_reader *r, uint64_t bytes, const tn_writer *out) {
  enum { CHUNK = 4 << 20 };
  uint8_t *chunk = tn_mem_alloc(CHUNK);
  if (!chunk) return TN_OOM;
  tn_status s = TN_OK;
  for (uint64_t off = 0; s == TN_OK && off < bytes; off += CHUNK) {
    uint64_t n = bytes - off < CHUNK ? bytes - off : CHUNK;
    s = tn_weight_reader_read(r, off, chunk, n);
    if (s == TN_OK) s = out->write(out->ctx, chunk, n);
  }
  tn_mem_free(chunk);
  return s;
}

/* ---- packing ------------------------------------------------------------------------------------------- */

#define PIECE (1u << 20) /* bytes that are hashed and written at once */

/* All weights on their way; every thread has a buffer. */
typedef struct packing {
  tn_driver *d;
  tn_module *m;
  const tn_build *b;
  const tn_link_place *out;
  uint32_t *order;  /* rows of the program's weights, the largest first */
  uint64_t *hashes; /* one per row */
  uint8_t **pieces; /* one per thread */
  tn_progress bar;
  uint64_t done;   /* atomic: bytes */
  bool hashed;     /* somebody wants to know */
  uint32_t failed; /* atomic: the first of `order` that failed */
} packing;

/* One weight: counted, so that a wrong size is found here and not by a kernel. */
typedef struct stream {
  packing *p;
  uint8_t *piece;
  uint64_t at, end, fill, bytes, hash;
  bool shows; /* the thread that may draw the bar */
} stream;

/* Pieces are hashed as they are cut: PIECE bytes each but a weight's last, however they came. */
static tn_status put_piece(stream *s, const uint8_t *data, uint64_t n) {
  if (n > s->end - s->at) return TN_INTERNAL; /* words come when all is counted */
  if (s->p->hashed) s->hash = tn_hash_bytes(data, n, s->hash);
  TN_TRY(s->p->out->write(s->p->out->ctx, s->at, data, n));
  uint64_t done = __atomic_add_fetch(&s->p->done, n, __ATOMIC_RELAXED);
  if (s->shows) tn_progress_step(&s->p->bar, done, s->p->b->weights_total);
  s->at += n;
  return TN_OK;
}

static tn_status flush(stream *s) {
  uint64_t n = s->fill;
  s->fill = 0;
  return put_piece(s, s->piece, n);
}

static tn_status stream_write(void *ctx, const void *data, uint64_t len) {
  stream *s = ctx;
  s->bytes += len;
  for (const uint8_t *from = data; len;) {
    uint64_t n = PIECE - s->fill < len ? PIECE - s->fill : len;
    if (n == PIECE) {
      TN_TRY(put_piece(s, from, n));
    } else {
      memcpy(s->piece + s->fill, from, n);
      s->fill += n;
      if (s->fill == PIECE) TN_TRY(flush(s));
    }
    from += n, len -= n;
  }
  return TN_OK;
}

static tn_status pack_weight(packing *p, uint32_t row, stream *to) {
  tn_driver *d = p->d;
  tn_weight w = p->b->weights.items[row];
  uint64_t bytes = p->b->weight_bytes.items[row];
  tn_weight_reader r;
  tn_weight_reader_init(&r, d, p->m, w);
  tn_type_info t;
  tn_ir_type_get(p->m, r.info.type, &t);
  tn_writer out = {to, stream_write};
  tn_status s;
  if (!t.layout) {
    s = copy_plain(&r, bytes, &out);
  } else {
    const tn_backend_ref *b = &d->backends.items[p->b->weight_owners.items[row]];
    tn_reader in = {&r, tn_weight_reader_read};
    s = b->table.pack ? b->table.pack(b->self, p->m, w, t.layout, &in, &out)
                      : tn_fail(d->diags, TN_INTERNAL, NULL, r.info.name,
                                "backend '%s' cannot pack layout '%s'", b->table.name, t.layout);
  }
  if (s == TN_OK) s = flush(to);
  if ((s == TN_OK || s == TN_INTERNAL) && to->bytes != bytes)
    s = tn_fail(d->diags, TN_INTERNAL, NULL, r.info.name, "packing wrote %llu bytes, %llu were announced",
                (unsigned long long)to->bytes, (unsigned long long)bytes);
  tn_weight_reader_fini(&r);
  return s;
}

/* Notes that piece i failed; the first one in order is kept. */
static void note_failure(packing *p, uint32_t i) {
  uint32_t first = __atomic_load_n(&p->failed, __ATOMIC_RELAXED);
  while (i < first &&
         !__atomic_compare_exchange_n(&p->failed, &first, i, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

static tn_status pack_row(void *ctx, uint32_t thread, uint32_t i) {
  packing *p = ctx;
  uint32_t row = p->order[i];
  uint64_t at = p->b->weight_offsets.items[row], bytes = p->b->weight_bytes.items[row];
  if (!p->pieces[thread] && !(p->pieces[thread] = tn_mem_alloc(PIECE))) return TN_OOM;
  stream s = {
      .p = p, .piece = p->pieces[thread], .at = at, .end = at + bytes, .hash = row, .shows = thread == 0};
  tn_status status = pack_weight(p, row, &s);
  p->hashes[row] = s.hash;
  if (status) note_failure(p, i);
  return status;
}

/* All rows. Of several that fail at the same time only the first is reported, whatever the number of threads:
 * it is packed once more, alone. */
static tn_status pack_rows(packing *p, uint32_t threads, uint32_t n) {
  tn_diags *d = p->d->diags;
  uint32_t messages = d->list.count, errors = d->errors;
  p->failed = n;
  tn_status s = tn_parallel(threads, n, pack_row, p);
  if (s == TN_OK || p->failed == n || d->errors <= errors + 1) return s;
  d->list.count = messages;
  d->errors = errors;
  return pack_row(p, 0, p->failed);
}

static int by_size(const void *a, const void *b, void *ctx) {
  const tn_build *build = ctx;
  uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
  uint64_t x = build->weight_bytes.items[i], y = build->weight_bytes.items[j];
  return x != y ? (x < y ? 1 : -1) : i < j ? -1 : 1;
}

/* The rows that are packed; the others stay in their files. */
static uint32_t list_rows(packing *p) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < p->b->weights.count; i++)
    if (p->b->weight_offsets.items[i] != UINT64_MAX) p->order[n++] = i;
  if (!p->out->in_order) qsort_r(p->order, n, sizeof *p->order, by_size, (void *)(uintptr_t)p->b);
  return n;
}

tn_status tn_driver_pack(tn_driver *d, tn_module *m, const tn_build *b, const tn_link_place *out,
                         uint64_t *hash) {
  uint32_t threads = out->in_order ? 1 : tn_processors(), count = b->weights.count;
  packing p = {.d = d,
               .m = m,
               .b = b,
               .out = out,
               .hashed = hash != NULL,
               .order = tn_mem_alloc((count + 1) * sizeof *p.order),
               .hashes = tn_mem_alloc((count + 1) * sizeof *p.hashes),
               .pieces = tn_mem_alloc(threads * sizeof *p.pieces)};
  tn_status s = TN_OOM;
  if (p.order && p.hashes && p.pieces) {
    tn_progress_begin(&p.bar, d->options.progress, "packing weights");
    s = pack_rows(&p, threads, list_rows(&p));
    tn_progress_end(&p.bar);
    for (uint32_t i = 0; i < threads; i++) tn_mem_free(p.pieces[i]);
    if (hash) *hash = tn_hash_bytes(p.hashes, count * sizeof *p.hashes, 0);
  }
  tn_mem_free(p.order);
  tn_mem_free(p.hashes);
  tn_mem_free(p.pieces);
  return s;
}
