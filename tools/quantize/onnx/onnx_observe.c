/* onnx_observe.c - ranges of what meets the products' weights: the model reads the calibration data as it
 * was imported, and every left operand goes into one histogram. */
#include "tools/quantize/observe/observe.h"
#include "tools/quantize/onnx/onnx.h"
#include "tools/verify/stored.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>

/* Of the observed value; index: its number + 1. NULL: no memory. */
static tn_int8_range *range_of(tn_int8 *x, const tn_observed *o, uint32_t *index) {
  for (*index = 1; *index <= x->ranges.count; ++*index)
    if (x->ranges.items[*index - 1]->id == o->id) return x->ranges.items[*index - 1];
  tn_int8_range *r = tn_arena_alloc(&x->arena, sizeof *r);
  float *low = tn_arena_alloc(&x->arena, 2 * o->columns * sizeof *low);
  double *squares = tn_arena_alloc(&x->arena, o->columns * sizeof *squares);
  const char *first = tn_arena_str(&x->arena, tn_str_of(o->weight));
  if (!r || !low || !squares || !first || !tn_vec_push(&x->ranges, r)) return NULL;
  r->id = o->id;
  r->columns = o->columns;
  r->first = first;
  r->low = low;
  r->high = low + o->columns;
  r->squares = squares;
  return r;
}

static tn_status keep_columns(tn_int8_range *r, const tn_observed *o) {
  r->rows += o->nrows;
  for (uint64_t i = 0; i < o->nrows; i++)
    for (uint32_t k = 0; k < o->columns; k++) {
      float v = o->rows[i * o->columns + k];
      r->low[k] = fminf(r->low[k], v);
      r->high[k] = fmaxf(r->high[k], v);
      r->squares[k] += (double)v * (double)v;
    }
  return TN_OK;
}

static tn_status keep_range(tn_int8 *x, tn_int8_range *r, const tn_observed *o) {
  uint64_t n = o->nrows * o->columns;
  float *scaled = r->factors ? tn_mem_alloc(n * sizeof *scaled + 1) : NULL;
  if (r->factors && !scaled) return TN_OOM;
  for (uint64_t i = 0; scaled && i < n; i++) scaled[i] = o->rows[i] * r->factors[i % o->columns];
  tn_status s = tn_range_add(&r->range, scaled ? scaled : o->rows, n);
  tn_mem_free(scaled);
  if (s == TN_OK) return TN_OK;
  return tn_fail(x->d->diags, s, x->in, o->value,
                 "has a number that is not finite for some of the calibration data");
}

static tn_status observe(void *ctx, const tn_observed *o) {
  tn_int8 *x = ctx;
  uint32_t index;
  tn_int8_range *r = range_of(x, o, &index);
  if (!r) return TN_OOM;
  for (uint32_t i = 0; i < x->weights.count; i++)
    if (!strcmp(x->weights.items[i].name, o->weight)) x->weights.items[i].range = index;
  if (strcmp(r->first, o->weight)) return TN_OK; /* the same rows in front of another weight */
  return x->smooth && !x->smoothed ? keep_columns(r, o) : keep_range(x, r, o);
}

/* ---- the data: texts, or stored inputs, each by itself or as folders in a folder ---- */

enum { MOST_INPUTS = 4096 };

static int by_name(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Folders of stored inputs inside `path`, in the order of their names. */
static tn_status add_folders(tn_int8 *x, const char *path, const char **inputs, uint32_t *n) {
  DIR *d = opendir(path);
  uint32_t first = *n;
  tn_status s = TN_OK;
  for (struct dirent *e; d && s == TN_OK && (e = readdir(d));) {
    const char *sub = e->d_name[0] == '.' ? NULL : tn_path_join(&x->arena, path, e->d_name);
    if (!sub || !tn_stored_is(sub)) continue;
    if (*n == MOST_INPUTS) s = TN_UNSUPPORTED;
    if (s == TN_OK) inputs[(*n)++] = sub;
  }
  if (d) closedir(d);
  qsort(inputs + first, *n - first, sizeof *inputs, by_name);
  if (s != TN_OK) return tn_fail(x->d->diags, s, path, NULL, "more than %d inputs", (int)MOST_INPUTS);
  if (*n > first) return TN_OK;
  return tn_fail(x->d->diags, TN_NOT_FOUND, path, NULL, "neither holds stored inputs nor folders of them");
}

static tn_status read_data(tn_int8 *x, tn_observe_options *o) {
  const char **inputs = tn_arena_alloc(&x->arena, MOST_INPUTS * sizeof *inputs), *path;
  if (!inputs) return TN_OOM;
  for (uint32_t i = 0; (path = tn_args_nth(x->args, OPT_calibration, i)); i++) {
    if (tn_stored_is(path) && o->ninputs < MOST_INPUTS)
      inputs[o->ninputs++] = path;
    else if (tn_path_is_dir(path))
      TN_TRY(add_folders(x, path, inputs, &o->ninputs));
    else if (o->text)
      return tn_fail(x->d->diags, TN_INVALID, path, NULL, "one text is enough: put them into one file");
    else
      o->text = path;
  }
  o->inputs = inputs;
  if (!o->text || !o->ninputs) return TN_OK;
  return tn_fail(x->d->diags, TN_INVALID, o->text, NULL, "either a text or stored inputs, not both");
}

tn_status tn_int8_observe(tn_int8 *x) {
  tn_driver_options options;
  const char **only = tn_arena_alloc(&x->arena, (x->weights.count + 1) * sizeof *only);
  tn_observe_options o = {.progress = !x->args->given[OPT_json]};
  tn_observe_result r;
  bool bad = false;
  o.threads = (uint32_t)tn_args_int(x->args, OPT_threads, 0, &bad);
  o.chunks = (uint32_t)tn_args_int(x->args, OPT_chunks, 0, &bad);
  if (bad) return TN_INVALID;
  if (!only) return TN_OOM;
  for (uint32_t i = 0; i < x->weights.count; i++) only[i] = x->weights.items[i].name;
  o.only = only;
  o.nonly = x->weights.count;
  TN_TRY(read_data(x, &o));
  tn_args_driver(x->args, &x->arena, &options);
  TN_TRY(tn_observe(&options, x->in, &o, observe, x, x->d->diags, &r));
  x->tokens = r.tokens;
  if (r.runs) return TN_OK;
  return tn_fail(x->d->diags, TN_INVALID, x->in, NULL, "there is nothing to calibrate with");
}
