/* save.c - tensors on their way into a file: copied where the type stays, else read as numbers and encoded,
 * in bands of rows that threads share. What a band gives does not depend on who made it or when. */
#include "frontend/checkpoint/ck.h"
#include "frontend/checkpoint/pack.h"
#include "ir/quant/encode.h"
#include <math.h>

enum { BAND_VALUES = 1 << 19, BAND_BYTES = 1 << 22 };

typedef struct ck_band_worker { /* one per thread */
  tn_ck_reader *reader;
  float *numbers, *rebuilt;
  uint8_t *bytes;
} ck_band_worker;

typedef struct ck_job { /* one tensor */
  ck_saving *v;
  uint32_t tensor;
  const tn_ck_tensor *t;
  tn_dtype to;
  uint64_t rows, columns, row_bytes; /* of what is written */
  uint64_t band;                     /* rows of one */
  bool copy, packed;                 /* packed: rows as layouts of packed folders take them */
  const float *importance;
  uint64_t importance_rows;
  ck_band_worker *workers;
  tn_ck_error *errors; /* one per band; NULL: nobody asks */
  tn_outfile *out;     /* or else `memory` */
  uint64_t at;
  uint8_t *memory;
} ck_job;

static tn_status fail(const ck_job *j, tn_status s, const char *fmt, ...) TN_PRINTF(3, 4);
static tn_status fail(const ck_job *j, tn_status s, const char *fmt, ...) {
  tn_buf where = {0}, text = {0};
  va_list ap;
  va_start(ap, fmt);
  tn_buf_vprintf(&text, fmt, ap);
  va_end(ap);
  tn_buf_printf(&where, "tensor '%s'", j->t->name);
  tn_fail(j->v->diags, s, j->v->ck->path, tn_buf_cstr(&where), "%s", tn_buf_cstr(&text));
  tn_buf_fini(&where);
  tn_buf_fini(&text);
  return s;
}

tn_dtype ck_saved_type(const ck_saving *v, uint32_t tensor) {
  return v->s->types ? v->s->types[tensor] : v->ck->tensors.items[tensor].pub.dtype;
}

/* ---- one band ---- */

static tn_status put(ck_job *j, uint64_t first, const uint8_t *bytes, uint64_t rows) {
  uint64_t off = first * j->row_bytes, n = rows * j->row_bytes;
  if (j->memory) {
    memcpy(j->memory + off, bytes, n);
    return TN_OK;
  }
  tn_status s = tn_outfile_put(j->out, j->at + off, bytes, n);
  return s == TN_OK ? TN_OK : fail(j, s, "cannot be written: is the disk full?");
}

static tn_status worker_open(ck_job *j, ck_band_worker *w) {
  if (w->reader) return TN_OK;
  w->bytes = tn_mem_alloc(j->band * j->row_bytes + 1);
  if (!j->copy) w->numbers = tn_mem_alloc(j->band * j->columns * sizeof *w->numbers + 1);
  if (j->errors) w->rebuilt = tn_mem_alloc(j->columns * sizeof *w->rebuilt + 1);
  if (!w->bytes || (!j->copy && !w->numbers) || (j->errors && !w->rebuilt))
    return fail(j, TN_OOM, "out of memory");
  return tn_ck_reader_open(j->v->ck, j->tensor, j->v->diags, &w->reader);
}

static void worker_close(ck_band_worker *w) {
  tn_ck_reader_close(w->reader);
  tn_mem_free(w->numbers);
  tn_mem_free(w->rebuilt);
  tn_mem_free(w->bytes);
}

/* f16 ends at 65504: what lies beyond would become infinite. */
static tn_status check_range(const ck_job *j, const float *x, uint64_t n) {
  if (j->to != TN_DT_f16) return TN_OK;
  for (uint64_t i = 0; i < n; i++)
    if (fabsf(x[i]) >= 65520.0f && isfinite(x[i]))
      return fail(j, TN_INVALID, "holds %g, and f16 ends at 65504: use bf16 or f32", (double)x[i]);
  return TN_OK;
}

/* Rows that share one vector of importance. */
static tn_status encode_rows(const ck_job *j, uint64_t first, uint64_t rows, const float *x, uint8_t *out) {
  uint64_t each = j->importance_rows > 1 ? j->rows / j->importance_rows : j->rows, bad = 0;
  while (rows) {
    uint64_t item = each ? first / each : 0, n = each ? (item + 1) * each - first : rows;
    if (n > rows) n = rows;
    const float *importance =
        j->importance ? j->importance + (j->importance_rows > 1 ? item : 0) * j->columns : NULL;
    tn_status s = j->packed ? tn_ck_pack_encode(j->to, x, n, j->columns, importance, out, &bad)
                            : ck_encode(j->to, x, n, j->columns, importance, out, &bad);
    if (s == TN_INVALID)
      return fail(j, s, "number %llu of row %llu is not finite", (unsigned long long)(bad % j->columns),
                  (unsigned long long)(first + bad / j->columns));
    if (s != TN_OK) return fail(j, s, "cannot be encoded as this type");
    x += n * j->columns, out += n * j->row_bytes, first += n, rows -= n;
  }
  return TN_OK;
}

static void measure(const ck_job *j, ck_band_worker *w, uint64_t rows, tn_ck_error *e) {
  for (uint64_t r = 0; r < rows; r++) {
    const float *x = w->numbers + r * j->columns;
    const uint8_t *row = w->bytes + r * j->row_bytes;
    uint64_t blocks = ck_bytes_of(j->to, j->columns);
    float scale = 1;
    if (j->row_bytes > blocks) memcpy(&scale, row + blocks, sizeof scale); /* of the whole row */
    ck_to_f32(j->to, row, j->columns, w->rebuilt);
    for (uint64_t c = 0; c < j->columns; c++) {
      double d = (double)(w->rebuilt[c] * scale) - (double)x[c];
      e->sum += d;
      e->sum_squares += d * d;
      e->squares_of_values += (double)x[c] * (double)x[c];
      if (fabs(d) > e->max_abs) e->max_abs = fabs(d);
    }
  }
  e->values = rows * j->columns;
}

static tn_status convert_band(ck_job *j, ck_band_worker *w, uint64_t first, uint64_t rows, tn_ck_error *e) {
  bool taken = false;
  TN_TRY(tn_ck_reader_rows(w->reader, first, rows, w->numbers));
  if (j->v->s->adjust) j->v->s->adjust(j->v->s->ctx, j->tensor, first, rows, w->numbers);
  TN_TRY(check_range(j, w->numbers, rows * j->columns));
  if (j->v->s->encode)
    TN_TRY(j->v->s->encode(j->v->s->ctx, j->tensor, first, rows, w->numbers, w->bytes, &taken));
  if (!taken) TN_TRY(encode_rows(j, first, rows, w->numbers, w->bytes));
  if (e) measure(j, w, rows, e);
  return TN_OK;
}

static tn_status run_band(void *ctx, uint32_t thread, uint32_t i) {
  ck_job *j = ctx;
  ck_band_worker *w = &j->workers[thread];
  uint64_t first = i * j->band, rows = j->rows - first < j->band ? j->rows - first : j->band;
  TN_TRY(worker_open(j, w));
  if (j->copy)
    TN_TRY(tn_ck_reader_bytes(w->reader, first * j->row_bytes, w->bytes, rows * j->row_bytes));
  else
    TN_TRY(convert_band(j, w, first, rows, j->errors ? &j->errors[i] : NULL));
  return put(j, first, w->bytes, rows);
}

/* ---- one tensor ---- */

static void add_error(tn_ck_error *to, const tn_ck_error *e) {
  to->sum += e->sum;
  to->sum_squares += e->sum_squares;
  to->squares_of_values += e->squares_of_values;
  to->values += e->values;
  if (e->max_abs > to->max_abs) to->max_abs = e->max_abs;
}

static tn_status run_bands(ck_job *j, uint32_t threads, tn_ck_error *sum) {
  uint64_t n = j->rows ? (j->rows + j->band - 1) / j->band : 0;
  if (n > UINT32_MAX) return fail(j, TN_UNSUPPORTED, "has too many rows");
  j->workers = tn_mem_alloc((threads + 1) * sizeof *j->workers);
  bool measured = j->v->s->done && !j->v->s->no_errors && !j->copy;
  if (measured) j->errors = tn_mem_alloc((n + 1) * sizeof *j->errors);
  tn_status s = j->workers && (j->errors || !measured) ? TN_OK : fail(j, TN_OOM, "out of memory");
  if (s == TN_OK) s = tn_parallel(threads, (uint32_t)n, run_band, j);
  for (uint64_t i = 0; s == TN_OK && j->errors && i < n; i++) add_error(sum, &j->errors[i]);
  for (uint32_t i = 0; j->workers && i < threads; i++) worker_close(&j->workers[i]);
  tn_mem_free(j->workers);
  tn_mem_free(j->errors);
  return s;
}

static tn_status run_job(ck_job *j) {
  const ck_tensor *t = &j->v->ck->tensors.items[j->tensor];
  const tn_ck_save *s = j->v->s;
  uint32_t threads = ck_reads_whole(j->v->ck, j->tensor) ? 1 : j->v->threads;
  tn_ck_error sum = {0};
  j->t = &t->pub;
  j->to = ck_saved_type(j->v, j->tensor);
  j->rows = ck_rows_of(j->t);
  j->columns = ck_columns_of(j->t);
  j->row_bytes = j->packed ? tn_ck_pack_row_bytes(j->to, j->columns) : ck_bytes_of(j->to, j->columns);
  bool adjusted = s->adjust && s->adjust(s->ctx, j->tensor, 0, 0, NULL);
  j->copy = !j->packed && !adjusted && j->to == j->t->dtype && t->scale == CK_NONE && t->order == CK_NONE;
  if (!j->row_bytes && j->rows && j->columns)
    return fail(j, TN_INVALID, "its rows of %llu numbers are not whole blocks of the type",
                (unsigned long long)j->columns);
  if (!j->copy && s->importance) j->importance = s->importance(s->ctx, j->tensor, &j->importance_rows);
  uint64_t most = j->copy ? BAND_BYTES / (j->row_bytes + 1) : BAND_VALUES / (j->columns + 1);
  j->band = most ? most : 1;
  if (!j->copy && s->whole && s->whole(s->ctx, j->tensor)) j->band = j->rows;
  if (j->band > j->rows) j->band = j->rows ? j->rows : 1;
  TN_TRY(run_bands(j, threads, &sum));
  if (s->done) s->done(s->ctx, j->tensor, &sum);
  return TN_OK;
}

static void show_progress(const ck_saving *v, uint32_t tensor) {
  if (!v->s->progress) return;
  fprintf(stderr, "\r%u of %u tensors%s", tensor + 1, v->ck->shown, tensor + 1 == v->ck->shown ? "\n" : "");
  fflush(stderr);
}

tn_status ck_fill(ck_saving *v, uint32_t tensor, tn_outfile *out, uint64_t at, uint64_t bytes) {
  ck_job j = {.v = v, .tensor = tensor, .out = out, .at = at};
  (void)bytes;
  TN_TRY(run_job(&j));
  show_progress(v, tensor);
  return TN_OK;
}

tn_status ck_encode_all(ck_saving *v, uint32_t tensor, uint8_t **blocks) {
  const tn_ck_tensor *t = &v->ck->tensors.items[tensor].pub;
  uint64_t bytes = tn_ck_pack_row_bytes(ck_saved_type(v, tensor), ck_columns_of(t)) * ck_rows_of(t);
  *blocks = tn_mem_alloc(bytes + 1);
  if (!*blocks) return tn_fail(v->diags, TN_OOM, v->ck->path, NULL, "out of memory");
  ck_job j = {.v = v, .tensor = tensor, .memory = *blocks, .packed = true};
  tn_status s = run_job(&j);
  if (s != TN_OK) tn_mem_free(*blocks), *blocks = NULL;
  return s;
}

tn_status tn_checkpoint_save(tn_checkpoint *ck, const char *path, const tn_ck_save *s, tn_diags *diags) {
  static const tn_ck_save plain = {0};
  ck_saving v = {.ck = ck, .s = s ? s : &plain, .diags = diags};
  v.threads = v.s->threads ? v.s->threads : tn_processors();
  return ck->format == TN_CK_GGUF ? ck_save_gguf(&v, path) : ck_save_folder(&v, path);
}
