/* weights.c - streams weights from their files into the packed weight section, one panel at a time. Files are
 * read with pread, not mapped, so that what passes through does not count as this process's memory. */
#include "tools/driver/driver.h"
#include <errno.h>
#include <fcntl.h>
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

/* Counts what a backend's pack writes, so that a wrong size is found here and not by a kernel. */
typedef struct counting {
  const tn_writer *out;
  uint64_t bytes;
} counting;
static tn_status count_write(void *ctx, const void *data, uint64_t len) {
  counting *c = ctx;
  c->bytes += len;
  return c->out->write(c->out->ctx, data, len);
}

static tn_status pack_one(tn_driver *d, tn_module *m, tn_weight w, uint64_t bytes, const tn_writer *out) {
  tn_weight_reader r;
  tn_weight_reader_init(&r, d, m, w);
  tn_type_info t;
  tn_ir_type_get(m, r.info.type, &t);
  counting c = {out, 0};
  tn_writer counted = {&c, count_write};
  tn_status s;
  if (!t.layout) {
    s = copy_plain(&r, bytes, &counted);
  } else {
    const tn_backend_ref *b = &d->backends.items[0];
    tn_reader in = {&r, tn_weight_reader_read};
    s = b->table.pack ? b->table.pack(b->self, m, w, t.layout, &in, &counted)
                      : tn_fail(d->diags, TN_INTERNAL, NULL, r.info.name,
                                "backend '%s' cannot pack layout '%s'", b->table.name, t.layout);
  }
  tn_weight_reader_fini(&r);
  if (s == TN_OK && c.bytes != bytes)
    s = tn_fail(d->diags, TN_INTERNAL, NULL, r.info.name, "packing wrote %llu bytes, %llu were announced",
                (unsigned long long)c.bytes, (unsigned long long)bytes);
  return s;
}

tn_status tn_driver_pack(tn_driver *d, tn_module *m, const tn_build *b, const tn_writer *out) {
  static const uint8_t zeros[64];
  uint64_t at = 0;
  tn_progress bar;
  tn_progress_begin(&bar, d->options.progress, "packing weights");
  tn_status s = TN_OK;
  for (uint32_t i = 0; s == TN_OK && i < b->weights.count; i++) {
    if (b->weight_offsets.items[i] == UINT64_MAX) continue; /* stays in its file */
    if (b->weight_offsets.items[i] > at) s = out->write(out->ctx, zeros, b->weight_offsets.items[i] - at);
    if (s == TN_OK) s = pack_one(d, m, b->weights.items[i], b->weight_bytes.items[i], out);
    at = b->weight_offsets.items[i] + b->weight_bytes.items[i];
    tn_progress_step(&bar, at, b->weights_total);
  }
  if (s == TN_OK && at < b->weights_total) s = out->write(out->ctx, zeros, b->weights_total - at);
  tn_progress_end(&bar);
  return s;
}
