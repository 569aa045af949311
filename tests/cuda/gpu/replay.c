/* replay.c - runs case files on a CUDA device, or on the fake driver, and compares. Needs neither LLVM nor a
 * toolkit.
 *
 *   replay [--device SPEC] [--time RUNS] [--save DIR] [--against DIR] CASE...
 *
 * --time: median seconds of a run, TFLOP/s and GB/s, without comparing what has no wanted values. --save: the
 * results as DIR/NAME.out; --against: how far they are from results that another device saved there. */
#include "backends/cuda/run/device.h"
#include "backends/ref/ref.h"
#include "ir/ir.h"
#include "tests/cuda/gpu/case.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct options {
  const char *device, *save, *against;
  uint32_t runs;
} options;

typedef struct buffer {
  const case_buffer *row;
  const void *data, *want;
  void *at; /* on the device */
  void *got;
} buffer;

typedef struct job {
  const options *o;
  const char *path;
  tn_file file;
  const case_head *head;
  tn_bytes *images;
  buffer *buffers;
  const case_call *calls;
  uint32_t *kernels;
  tn_device *device;
  tn_queue *queue;
  void *scratch;
  double worst; /* error as a part of what is allowed */
  char error[1024];
} job;

static const tn_device_api *const api = &tn_cuda_device_api;

static int failed(const job *j, const char *what, const char *why) {
  printf("FAIL %s: %s: %s\n", j->path, what, why);
  return 1;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

typedef struct cursor {
  const uint8_t *at;
  uint64_t left;
  bool ok;
} cursor;

static const void *take(cursor *c, uint64_t bytes) {
  const void *p = c->at;
  c->ok = c->ok && bytes <= c->left;
  if (!c->ok) return NULL;
  c->at += bytes;
  c->left -= bytes;
  return p;
}

static bool read_buffers(job *j, cursor *c) {
  for (uint32_t i = 0; i < j->head->nbuffers && c->ok; i++) {
    buffer *b = &j->buffers[i];
    b->row = take(c, sizeof *b->row);
    if (!b->row) return false;
    if (b->row->fill == CASE_DATA) b->data = take(c, tn_align_up(b->row->bytes, 8));
    if (b->row->compare) b->want = take(c, tn_align_up(b->row->bytes, 8));
  }
  return c->ok;
}

static bool read_case(job *j) {
  cursor c = {j->file.data, j->file.size, true};
  j->head = take(&c, sizeof *j->head);
  if (!j->head || memcmp(j->head->magic, CASE_MAGIC, 8) != 0) return false;
  j->images = calloc(j->head->nimages + 1, sizeof *j->images);
  j->buffers = calloc(j->head->nbuffers + 1, sizeof *j->buffers);
  j->kernels = calloc(j->head->ncalls + 1, sizeof *j->kernels);
  if (!j->images || !j->buffers || !j->kernels) return false;
  for (uint32_t i = 0; i < j->head->nimages && c.ok; i++) {
    const uint64_t *bytes = take(&c, 8);
    if (bytes) j->images[i] = (tn_bytes){take(&c, tn_align_up(*bytes, 8)), *bytes};
  }
  if (!read_buffers(j, &c)) return false;
  j->calls = take(&c, (uint64_t)j->head->ncalls * sizeof *j->calls);
  return c.ok;
}

/* ---- running ------------------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *s) {
  uint64_t z = (*s += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  return z ^ (z >> 27);
}

static void fill_random(const buffer *b, void *data, uint64_t seed) {
  tn_ref_tensor t = {.dtype = b->row->dtype, .rank = 1, .data = data};
  const tn_dtype_info *info = tn_ir_dtype_info(b->row->dtype);
  if (info->cls != TN_CLASS_FLOAT) {
    for (uint64_t i = 0; i < b->row->bytes; i++) ((uint8_t *)data)[i] = (uint8_t)(next_random(&seed) & 0x3f);
    return;
  }
  t.dims[0] = (int64_t)(b->row->bytes * 8 / info->bits);
  for (int64_t i = 0; i < t.dims[0]; i++) tn_ref_set(&t, i, (double)(next_random(&seed) >> 11) * 0x1p-52 - 1);
}

static int place_buffers(job *j) {
  for (uint32_t i = 0; i < j->head->nbuffers; i++) {
    buffer *b = &j->buffers[i];
    if (api->alloc(j->device, b->row->bytes ? b->row->bytes : 1, "an operand", &b->at, j->error,
                   sizeof j->error))
      return failed(j, "memory", j->error);
    void *made = NULL;
    if (b->row->fill == CASE_RANDOM && (made = malloc(b->row->bytes + 1))) fill_random(b, made, i + 1);
    const void *from = b->row->fill == CASE_RANDOM ? made : b->data;
    tn_status s = from && b->row->bytes
                      ? api->load(j->device, b->at, from, b->row->bytes, j->error, sizeof j->error)
                      : TN_OK;
    free(made);
    if (s) return failed(j, "loading an operand", j->error);
  }
  if (j->head->scratch &&
      api->alloc(j->device, j->head->scratch, "scratch", &j->scratch, j->error, sizeof j->error))
    return failed(j, "memory", j->error);
  return 0;
}

static tn_status run_once(job *j) {
  int64_t numbers[16 * 64];
  uint32_t n = 0, room = TN_COUNT(numbers);
  for (uint32_t i = 0; i < j->head->ncalls; i++)
    for (uint32_t k = 0; k < j->calls[i].ndims && n < room; k++) numbers[n++] = j->calls[i].dims[k];
  TN_TRY(api->begin(j->queue, numbers, n));
  const int64_t *dims = numbers;
  for (uint32_t i = 0; i < j->head->ncalls; i++) {
    const case_call *c = &j->calls[i];
    void *bufs[TN_COUNT(c->bufs)];
    for (uint32_t k = 0; k < c->nbufs; k++) bufs[k] = j->buffers[c->bufs[k]].at;
    TN_TRY(api->launch(j->queue, j->kernels[i], bufs, c->nbufs, dims, c->ndims, j->scratch, c->symbol));
    dims += c->ndims;
  }
  return api->end(j->queue);
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Runs are queued ten at a time: the host's share of a launch must not be measured. */
static int time_runs(job *j) {
  enum { MOST = 101, GROUP = 10 };
  double seconds[MOST];
  uint32_t n = j->o->runs < MOST ? j->o->runs : MOST;
  for (uint32_t i = 0; i < n + 2; i++) {
    double begin = tn_now();
    tn_status s = TN_OK;
    for (uint32_t k = 0; k < GROUP && s == TN_OK; k++) s = run_once(j);
    if (s == TN_OK) s = api->wait(j->queue);
    if (s) return failed(j, "running", api->error(j->queue));
    if (i >= 2) seconds[i - 2] = (tn_now() - begin) / GROUP;
  }
  qsort(seconds, n, sizeof *seconds, by_value);
  double t = seconds[n / 2];
  printf("%-44s %10.1f us  (%.1f .. %.1f)", j->head->name, t * 1e6, seconds[0] * 1e6, seconds[n - 1] * 1e6);
  if (j->head->flops > 0) printf("  %8.1f TFLOP/s", j->head->flops / t * 1e-12);
  if (j->head->bytes > 0) printf("  %8.1f GB/s", j->head->bytes / t * 1e-9);
  putchar('\n');
  return 0;
}

/* ---- comparing ----------------------------------------------------------------------------------------- */

static int differs(job *j, uint32_t i, const char *what, int64_t at, double got, double want) {
  printf("FAIL %s (%s): buffer %u, %s %lld is %.9g, wants %.9g\n", j->path, j->head->name, i, what,
         (long long)at, got, want);
  return 1;
}

/* The case's, or what its element type can hold. */
static void tolerance(const job *j, tn_dtype t, double *atol, double *rtol) {
  bool usual = j->head->atol == 1e-5 && j->head->rtol == 1e-4;
  *atol = j->head->atol;
  *rtol = j->head->rtol;
  if (usual && t == TN_DT_f16) *atol = 2.5e-3, *rtol = 1e-3;
  if (usual && t == TN_DT_bf16) *atol = 2e-2, *rtol = 1e-2;
}

static int compare(job *j, uint32_t i) {
  const buffer *b = &j->buffers[i];
  const tn_dtype_info *info = tn_ir_dtype_info(b->row->dtype);
  if (info->cls == TN_CLASS_BLOCK || info->bits < 8) {
    for (uint64_t k = 0; k < b->row->bytes; k++) {
      uint8_t got = ((const uint8_t *)b->got)[k], want = ((const uint8_t *)b->want)[k];
      if (got != want) return differs(j, i, "byte", (int64_t)k, got, want);
    }
    return 0;
  }
  tn_ref_tensor got = {.dtype = b->row->dtype, .rank = 1, .data = b->got}, want = got;
  got.dims[0] = want.dims[0] = (int64_t)(b->row->bytes * 8 / info->bits);
  want.data = (void *)(uintptr_t)b->want;
  double error = 0, all = 0, atol, rtol;
  tolerance(j, b->row->dtype, &atol, &rtol);
  bool whole = info->cls == TN_CLASS_FLOAT && j->head->nmse > 0;
  for (int64_t k = 0; k < got.dims[0]; k++) {
    double x = tn_ref_get(&want, k), y = tn_ref_get(&got, k), d = fabs(x - y);
    double allowed = info->cls == TN_CLASS_FLOAT ? atol + rtol * fabs(x) : 0;
    error += d * d;
    all += x * x;
    if (whole || x == y || (isnan(x) && isnan(y))) continue;
    if (!(d <= allowed)) return differs(j, i, "element", k, y, x);
    if (d > j->worst * allowed) j->worst = d / allowed;
  }
  if (whole && !(error <= j->head->nmse * all))
    return differs(j, i, "NMSE, elements", got.dims[0], error / all, j->head->nmse);
  return 0;
}

static int compare_all(job *j) {
  for (uint32_t i = 0; i < j->head->nbuffers; i++) {
    buffer *b = &j->buffers[i];
    if (!b->row->compare) continue;
    b->got = malloc(b->row->bytes + 1);
    if (!b->got) return failed(j, "memory", "none on the host");
    if (api->download(j->queue, b->got, b->at, b->row->bytes))
      return failed(j, "reading back", api->error(j->queue));
    if (compare(j, i)) return 1;
  }
  return 0;
}

/* ---- results of another device ------------------------------------------------------------------------- */

static FILE *open_results(const job *j, const char *folder, const char *mode) {
  const char *slash = strrchr(j->path, '/');
  char path[4096];
  snprintf(path, sizeof path, "%s/%s.out", folder, slash ? slash + 1 : j->path);
  return fopen(path, mode);
}

static int save(const job *j) {
  FILE *f = open_results(j, j->o->save, "wb");
  if (!f) return failed(j, "saving", "the file cannot be written");
  for (uint32_t i = 0; i < j->head->nbuffers; i++)
    if (j->buffers[i].got) fwrite(j->buffers[i].got, 1, j->buffers[i].row->bytes, f);
  return fclose(f) ? failed(j, "saving", "the file cannot be written") : 0;
}

static int against(const job *j) {
  FILE *f = open_results(j, j->o->against, "rb");
  uint64_t bytes = 0, other = 0;
  if (!f) return failed(j, "comparing", "the other device saved nothing");
  for (uint32_t i = 0; i < j->head->nbuffers; i++)
    for (uint64_t k = 0; j->buffers[i].got && k < j->buffers[i].row->bytes; k++, bytes++)
      other += fgetc(f) != ((const uint8_t *)j->buffers[i].got)[k];
  fclose(f);
  printf("%-44s %llu of %llu bytes differ from the saved results\n", j->head->name, (unsigned long long)other,
         (unsigned long long)bytes);
  return 0;
}

/* ---- one file ------------------------------------------------------------------------------------------ */

static int open_case(job *j) {
  const char *why = NULL;
  if (tn_file_map(&j->file, j->path, &why)) return failed(j, "reading", why);
  if (!read_case(j)) return failed(j, "reading", "not a case file, or cut short");
  if (api->open(j->images, j->head->nimages, j->o->device, &j->device, j->error, sizeof j->error))
    return failed(j, "opening", j->error);
  if (api->queue_new(j->device, NULL, &j->queue, j->error, sizeof j->error))
    return failed(j, "queue", j->error);
  for (uint32_t i = 0; i < j->head->ncalls; i++)
    if (api->kernel(j->device, j->calls[i].symbol, &j->kernels[i]))
      return failed(j, j->calls[i].symbol, "no such kernel");
  return place_buffers(j);
}

static int run_case(job *j) {
  if (open_case(j)) return 1;
  if (run_once(j) || api->wait(j->queue)) return failed(j, "running", api->error(j->queue));
  if (compare_all(j)) return 1;
  if (j->o->save && save(j)) return 1;
  if (j->o->against && against(j)) return 1;
  return j->o->runs ? time_runs(j) : 0;
}

static void close_case(job *j) {
  if (j->queue) api->queue_free(j->queue);
  for (uint32_t i = 0; j->device && j->buffers && i < j->head->nbuffers; i++) {
    if (j->buffers[i].at) api->free(j->device, j->buffers[i].at);
    free(j->buffers[i].got);
  }
  if (j->scratch) api->free(j->device, j->scratch);
  if (j->device) api->close(j->device);
  free(j->images);
  free(j->buffers);
  free(j->kernels);
  if (j->file.data) tn_file_unmap(&j->file);
}

int main(int argc, char **argv) {
  options o = {.device = "cuda"};
  int i = 1, bad = 0, files = 0;
  for (; i + 1 < argc && !strncmp(argv[i], "--", 2); i += 2) {
    if (!strcmp(argv[i], "--device")) o.device = argv[i + 1];
    if (!strcmp(argv[i], "--time")) o.runs = (uint32_t)strtoul(argv[i + 1], NULL, 10);
    if (!strcmp(argv[i], "--save")) o.save = argv[i + 1];
    if (!strcmp(argv[i], "--against")) o.against = argv[i + 1];
  }
  double worst = 0;
  for (; i < argc; i++, files++) {
    job j = {.o = &o, .path = argv[i]};
    bad += run_case(&j);
    if (j.worst > worst) worst = j.worst;
    close_case(&j);
  }
  if (!o.runs) printf("%d cases, %d failed, worst error %.2f of what is allowed\n", files, bad, worst);
  return bad != 0;
}
