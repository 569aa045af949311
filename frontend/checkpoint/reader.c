/* reader.c - the bytes and numbers of one tensor. A stored one is read from its file, or made by its form;
 * one of a view is gathered from tensors of the checkpoint behind. Nothing is kept but a strip of rows,
 * except where numbers that stand side by side in the view lie far apart in the file: then the tensor behind
 * is. */
#include "frontend/checkpoint/ck.h"
#include "frontend/forms/forms.h"
#include <errno.h>
#include <math.h>
#include <unistd.h>

enum { STRIP = 1 << 20 }; /* bytes of rows on their way to f32 */

struct tn_ck_reader {
  tn_checkpoint *ck;
  const ck_tensor *t;
  tn_diags *diags;
  uint64_t rows, columns, row_bytes;
  uint8_t *strip; /* rows in the tensor's own type */
  float *line;    /* one row as f32 */
  /* stored */
  tn_form *form;
  float *scale;
  uint64_t nscale;
  int32_t *order;
  /* of a view: the tensor behind that is open */
  tn_ck_reader *from;
  uint32_t from_index;
  uint8_t *whole; /* its numbers, in the view's type; NULL: it is read in place */
};

static tn_status fail(const tn_ck_reader *r, tn_status s, const char *what) {
  tn_buf where = {0};
  tn_buf_printf(&where, "tensor '%s'", r->t->pub.name);
  tn_fail(r->diags, s, r->ck->path, tn_buf_cstr(&where), "%s", what);
  tn_buf_fini(&where);
  return s;
}

/* ---- stored tensors ---- */

static tn_status read_part(tn_ck_reader *r, const tn_part *part, uint64_t off, uint8_t *dst, uint64_t len) {
  const ck_file *f = ck_file_named(r->ck, part->file);
  if (!f) return fail(r, TN_INTERNAL, "its file is not open");
  while (len) {
    ssize_t n = pread(f->map.fd, dst, len > 1u << 30 ? 1u << 30 : len, (off_t)(part->offset + off));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail(r, TN_DATA_LOSS, "its file ends early or cannot be read");
    dst += n, off += (uint64_t)n, len -= (uint64_t)n;
  }
  return TN_OK;
}

static tn_status read_parts(void *ctx, uint64_t off, void *dst, uint64_t len) {
  tn_ck_reader *r = ctx;
  uint8_t *to = dst;
  for (uint32_t i = 0; i < r->t->pub.nparts && len; i++) {
    const tn_part *part = &r->t->pub.parts[i];
    if (off >= part->bytes) {
      off -= part->bytes;
      continue;
    }
    uint64_t n = part->bytes - off < len ? part->bytes - off : len;
    TN_TRY(read_part(r, part, off, to, n));
    to += n, len -= n, off = 0;
  }
  return len ? fail(r, TN_INTERNAL, "is read past its end") : TN_OK;
}

static tn_status read_stored(tn_ck_reader *r, uint64_t off, void *dst, uint64_t len) {
  return r->form ? tn_form_read(r->form, off, dst, len) : read_parts(r, off, dst, len);
}

static tn_status open_form(tn_ck_reader *r) {
  const tn_ck_tensor *t = &r->t->pub;
  tn_form_spec s = {.name = t->name,
                    .text = t->form,
                    .dtype = t->dtype,
                    .rank = t->rank,
                    .parts = t->parts,
                    .nparts = t->nparts,
                    .in = {r, read_parts}};
  memcpy(s.dims, t->shape, sizeof s.dims);
  return tn_form_open(&s, r->diags, &r->form);
}

/* All numbers of a small tensor as f32. */
static tn_status read_all(tn_ck_reader *of, uint32_t tensor, float **out, uint64_t *n) {
  tn_ck_reader *r;
  TN_TRY(tn_ck_reader_open(of->ck, tensor, of->diags, &r));
  *n = r->rows * r->columns;
  *out = tn_mem_alloc((*n + 1) * sizeof **out);
  tn_status s = *out ? tn_ck_reader_rows(r, 0, r->rows, *out) : TN_OOM;
  tn_ck_reader_close(r);
  return s;
}

static tn_status open_order(tn_ck_reader *r) {
  float *numbers = NULL;
  uint64_t n;
  TN_TRY(read_all(r, r->t->order, &numbers, &n));
  r->order = n == r->columns ? tn_mem_alloc((n + 1) * sizeof *r->order) : NULL;
  for (uint64_t i = 0; r->order && i < n; i++) {
    r->order[i] = (int32_t)numbers[i];
    if (r->order[i] < 0 || (uint64_t)r->order[i] >= n) r->order[i] = 0;
  }
  tn_mem_free(numbers);
  return r->order ? TN_OK
                  : fail(r, n == r->columns ? TN_OOM : TN_INVALID, "the order of its columns does not fit");
}

static tn_status open_stored(tn_ck_reader *r) {
  if (r->t->pub.form) TN_TRY(open_form(r));
  if (r->t->scale != CK_NONE) {
    TN_TRY(read_all(r, r->t->scale, &r->scale, &r->nscale));
    if (r->nscale != 1 && r->nscale != r->rows)
      return fail(r, TN_INVALID, "the scales of its rows do not fit");
  }
  return r->t->order != CK_NONE ? open_order(r) : TN_OK;
}

/* ---- views ---- */

/* How many numbers follow each other in the tensor behind. */
static uint64_t run_of(const ck_piece *p) {
  uint64_t run = 1;
  for (uint32_t i = p->loops; i-- > 0 && (p->step[i] == run || p->size[i] == 1);) run *= p->size[i];
  return run;
}

/* Where number i of the piece is. */
static uint64_t place_of(const ck_piece *p, uint64_t i) {
  uint64_t at = p->at;
  for (uint32_t k = p->loops; k-- > 0; i /= p->size[k]) at += i % p->size[k] * p->step[k];
  return at;
}

static bool decoded(const ck_tensor *t, const ck_tensor *behind) {
  return behind->pub.dtype != t->pub.dtype || behind->scale != CK_NONE || behind->order != CK_NONE;
}

/* Whether rows of the view are pieces of rows behind that can be read by themselves. */
static bool in_place(const ck_tensor *t, const ck_piece *p, const ck_tensor *behind) {
  const tn_quant *q = tn_quant_of(behind->pub.dtype);
  uint64_t run = run_of(p), whole = q ? q->values : 1, columns = ck_columns_of(&t->pub);
  if (decoded(t, behind)) whole = ck_columns_of(&behind->pub);
  return run % columns == 0 && run % whole == 0 && p->at % whole == 0 && columns % whole == 0;
}

bool ck_reads_whole(const tn_checkpoint *ck, uint32_t tensor) {
  const ck_tensor *t = &ck->tensors.items[tensor];
  for (uint32_t i = 0; ck->behind && i < t->npieces; i++)
    if (!in_place(t, &t->pieces[i], &ck->behind->tensors.items[t->pieces[i].tensor])) return true;
  return false;
}

/* The whole tensor behind, in the view's type. */
static tn_status load_whole(tn_ck_reader *r) {
  tn_ck_reader *f = r->from;
  uint64_t bytes = ck_bytes_of(r->t->pub.dtype, f->rows * f->columns);
  if (ck_is_block(r->t->pub.dtype)) return fail(r, TN_INTERNAL, "cuts through blocks");
  r->whole = tn_mem_alloc(bytes + 1);
  if (!r->whole) return fail(r, TN_OOM, "out of memory");
  if (!decoded(r->t, f->t)) return tn_ck_reader_bytes(f, 0, r->whole, bytes);
  return tn_ck_reader_rows(f, 0, f->rows, (float *)(void *)r->whole);
}

static tn_status open_behind(tn_ck_reader *r, const ck_piece *p) {
  if (!r->from || r->from_index != p->tensor) {
    tn_ck_reader_close(r->from);
    tn_mem_free(r->whole);
    r->whole = NULL;
    r->from = NULL;
    TN_TRY(tn_ck_reader_open(r->ck->behind, p->tensor, r->diags, &r->from));
    r->from_index = p->tensor;
  }
  return r->whole || in_place(r->t, p, r->from->t) ? TN_OK : load_whole(r);
}

/* Numbers i .. i + n of a piece, which are read in place: `n` is within a run. */
static tn_status read_run(tn_ck_reader *r, const ck_piece *p, uint64_t i, uint64_t n, uint8_t *dst) {
  tn_ck_reader *f = r->from;
  uint64_t at = place_of(p, i);
  if (decoded(r->t, f->t)) return tn_ck_reader_rows(f, at / f->columns, n / f->columns, (float *)(void *)dst);
  return tn_ck_reader_bytes(f, ck_bytes_of(f->t->pub.dtype, at), dst, ck_bytes_of(f->t->pub.dtype, n));
}

static void gather(const tn_ck_reader *r, const ck_piece *p, uint64_t i, uint64_t n, uint8_t *dst) {
  uint64_t size = ck_bytes_of(r->t->pub.dtype, 1), last = p->size[p->loops - 1], step = p->step[p->loops - 1];
  while (n) {
    uint64_t at = place_of(p, i), most = last - i % last;
    if (most > n) most = n;
    for (uint64_t k = 0; k < most; k++, dst += size) memcpy(dst, r->whole + (at + k * step) * size, size);
    i += most, n -= most;
  }
}

/* Rows first .. first + rows of a piece. */
static tn_status read_piece(tn_ck_reader *r, const ck_piece *p, uint64_t first, uint64_t rows, uint8_t *dst) {
  uint64_t i = first * r->columns, n = rows * r->columns;
  TN_TRY(open_behind(r, p));
  if (r->whole) {
    gather(r, p, i, n, dst);
    return TN_OK;
  }
  uint64_t run = run_of(p);
  while (n) {
    uint64_t most = run - i % run;
    if (most > n) most = n;
    TN_TRY(read_run(r, p, i, most, dst));
    dst += ck_bytes_of(r->t->pub.dtype, most);
    i += most, n -= most;
  }
  return TN_OK;
}

static void calculate(const ck_tensor *t, float *x, uint64_t n) {
  for (uint64_t i = 0; i < n; i++) switch (t->math) {
    case CK_AS_IS: return;
    case CK_ADD: x[i] = (float)((double)x[i] + t->number); break;
    case CK_NEG_EXP: x[i] = (float)-exp((double)x[i]); break;
    case CK_LOG_NEG: x[i] = (float)log(-(double)x[i]); break;
    }
}

static tn_status view_rows(tn_ck_reader *r, uint64_t first, uint64_t rows, uint8_t *dst) {
  uint64_t at = 0;
  uint8_t *to = dst;
  if (r->t->made) {
    memcpy(dst, r->t->made + first * r->columns, rows * r->row_bytes);
    return TN_OK;
  }
  uint64_t left = rows;
  for (uint32_t i = 0; i < r->t->npieces && left; at += r->t->pieces[i++].rows) {
    const ck_piece *p = &r->t->pieces[i];
    if (first >= at + p->rows) continue;
    uint64_t n = at + p->rows - first < left ? at + p->rows - first : left;
    TN_TRY(read_piece(r, p, first - at, n, to));
    to += n * r->row_bytes, first += n, left -= n;
  }
  if (left) return fail(r, TN_INTERNAL, "is read past its end");
  if (r->t->math != CK_AS_IS) calculate(r->t, (float *)(void *)dst, rows * r->columns);
  return TN_OK;
}

/* Any bytes of a view: whole rows go to their place if numbers may stand there, the rest through a strip of
 * one row. */
static tn_status view_bytes(tn_ck_reader *r, uint64_t off, uint8_t *dst, uint64_t len) {
  while (len) {
    uint64_t row = off / r->row_bytes, skip = off % r->row_bytes, n = len / r->row_bytes;
    if (!skip && n && (uintptr_t)dst % sizeof(float) == 0) {
      TN_TRY(view_rows(r, row, n, dst));
      n *= r->row_bytes;
    } else {
      n = r->row_bytes - skip < len ? r->row_bytes - skip : len;
      if (!r->strip && !(r->strip = tn_mem_alloc(r->row_bytes > STRIP ? r->row_bytes : STRIP)))
        return fail(r, TN_OOM, "out of memory");
      TN_TRY(view_rows(r, row, 1, r->strip));
      memcpy(dst, r->strip + skip, n);
    }
    dst += n, off += n, len -= n;
  }
  return TN_OK;
}

/* ---- both ---- */

tn_status tn_ck_reader_open(tn_checkpoint *ck, uint32_t tensor, tn_diags *diags, tn_ck_reader **out) {
  tn_ck_reader *r = tn_mem_alloc(sizeof *r);
  *out = NULL;
  if (!r || tensor >= ck->tensors.count) {
    tn_mem_free(r);
    return tn_fail(diags, r ? TN_INVALID : TN_OOM, ck->path, NULL, r ? "no such tensor" : "out of memory");
  }
  *r = (tn_ck_reader){.ck = ck, .t = &ck->tensors.items[tensor], .diags = diags};
  r->rows = ck_rows_of(&r->t->pub);
  r->columns = ck_columns_of(&r->t->pub);
  r->row_bytes = ck_bytes_of(r->t->pub.dtype, r->columns);
  tn_status s = ck->behind ? TN_OK : open_stored(r);
  if (s != TN_OK) {
    tn_ck_reader_close(r);
    return s;
  }
  *out = r;
  return TN_OK;
}

tn_status tn_ck_reader_bytes(tn_ck_reader *r, uint64_t offset, void *dst, uint64_t len) {
  return r->ck->behind ? view_bytes(r, offset, dst, len) : read_stored(r, offset, dst, len);
}

/* The scale and the order of columns that packed matrices have apart. */
static tn_status apply(tn_ck_reader *r, uint64_t first, uint64_t rows, float *x) {
  for (uint64_t i = 0; r->scale && i < rows; i++)
    for (uint64_t c = 0; c < r->columns; c++)
      x[i * r->columns + c] *= r->scale[r->nscale == 1 ? 0 : first + i];
  if (!r->order) return TN_OK;
  if (!r->line && !(r->line = tn_mem_alloc(r->columns * sizeof *r->line)))
    return fail(r, TN_OOM, "out of memory");
  for (uint64_t i = 0; i < rows; i++, x += r->columns) {
    for (uint64_t c = 0; c < r->columns; c++) r->line[r->order[c]] = x[c];
    memcpy(x, r->line, r->columns * sizeof *x);
  }
  return TN_OK;
}

tn_status tn_ck_reader_rows(tn_ck_reader *r, uint64_t first, uint64_t rows, float *dst) {
  uint64_t room = r->row_bytes > STRIP ? r->row_bytes : STRIP,
           most = r->row_bytes ? room / r->row_bytes : rows;
  if (!r->row_bytes && rows && r->columns)
    return fail(r, TN_UNSUPPORTED, "its type cannot be read as numbers");
  if (!r->strip && !(r->strip = tn_mem_alloc(room))) return fail(r, TN_OOM, "out of memory");
  while (rows) {
    uint64_t n = rows < most ? rows : most;
    bool direct = r->t->pub.dtype == TN_DT_f32;
    void *to = direct ? (void *)dst : (void *)r->strip;
    if (r->ck->behind)
      TN_TRY(view_rows(r, first, n, to));
    else
      TN_TRY(read_stored(r, first * r->row_bytes, to, n * r->row_bytes));
    if (!direct) ck_to_f32(r->t->pub.dtype, r->strip, n * r->columns, dst);
    TN_TRY(apply(r, first, n, dst));
    dst += n * r->columns, first += n, rows -= n;
  }
  return TN_OK;
}

void tn_ck_reader_close(tn_ck_reader *r) {
  if (!r) return;
  tn_form_close(r->form);
  tn_ck_reader_close(r->from);
  tn_mem_free(r->scale);
  tn_mem_free(r->order);
  tn_mem_free(r->whole);
  tn_mem_free(r->strip);
  tn_mem_free(r->line);
  tn_mem_free(r);
}
