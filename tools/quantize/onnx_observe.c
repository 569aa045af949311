/* onnx_observe.c - ranges of what meets the products' weights: the model reads the calibration data as it
 * was imported, and every left operand goes into one histogram. */
#include "tools/quantize/observe.h"
#include "tools/quantize/onnx.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>

/* Of the observed value; index: its number + 1. NULL: no memory. */
static tn_int8_range *range_of(tn_int8 *x, const tn_observed *o, uint32_t *index) {
  for (*index = 1; *index <= x->ranges.count; ++*index)
    if (x->ranges.items[*index - 1]->id == o->id) return x->ranges.items[*index - 1];
  tn_int8_range *r = tn_arena_alloc(&x->arena, sizeof *r);
  float *most = tn_arena_alloc(&x->arena, o->columns * sizeof *most);
  const char *first = tn_arena_str(&x->arena, tn_str_of(o->weight));
  if (!r || !most || !first || !tn_vec_push(&x->ranges, r)) return NULL;
  r->id = o->id;
  r->columns = o->columns;
  r->first = first;
  r->most = most;
  return r;
}

static tn_status keep_largest(tn_int8_range *r, const tn_observed *o) {
  for (uint64_t i = 0; i < o->nrows; i++)
    for (uint32_t k = 0; k < o->columns; k++)
      r->most[k] = fmaxf(r->most[k], fabsf(o->rows[i * o->columns + k]));
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
  return x->smooth && !r->factors ? keep_largest(r, o) : keep_range(x, r, o);
}

/* ---- the data: a text, or stored inputs: a folder of them, or folders in a folder ---- */

static bool holds_folders(const char *path, tn_arena *a, const char *(*out)[256], uint32_t *n) {
  DIR *d = opendir(path);
  *n = 0;
  for (struct dirent *e; d && *n < TN_COUNT(*out) && (e = readdir(d));) {
    const char *sub = e->d_name[0] == '.' ? NULL : tn_path_join(a, path, e->d_name);
    if (sub && tn_path_is_dir(sub)) (*out)[(*n)++] = sub;
  }
  if (d) closedir(d);
  return *n > 0;
}

static int by_name(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

tn_status tn_int8_observe(tn_int8 *x) {
  tn_driver_options options;
  const char *inputs[256], **only = NULL;
  tn_observe_options o = {.progress = !x->args->given[OPT_json]};
  tn_observe_result r;
  bool bad = false;
  const char *data = x->args->last[OPT_calibration];
  o.threads = (uint32_t)tn_args_int(x->args, OPT_threads, 0, &bad);
  o.chunks = (uint32_t)tn_args_int(x->args, OPT_chunks, 0, &bad);
  if (bad) return TN_INVALID;
  only = tn_arena_alloc(&x->arena, (x->weights.count + 1) * sizeof *only);
  if (!only) return TN_OOM;
  for (uint32_t i = 0; i < x->weights.count; i++) only[i] = x->weights.items[i].name;
  o.only = only;
  o.nonly = x->weights.count;
  if (!tn_path_is_dir(data)) {
    o.text = data;
  } else if (holds_folders(data, &x->arena, &inputs, &o.ninputs)) {
    qsort(inputs, o.ninputs, sizeof *inputs, by_name);
    o.inputs = inputs;
  } else {
    inputs[0] = data;
    o.inputs = inputs;
    o.ninputs = 1;
  }
  tn_args_driver(x->args, &x->arena, &options);
  TN_TRY(tn_observe(&options, x->in, &o, observe, x, x->d->diags, &r));
  x->tokens = r.tokens;
  if (r.runs) return TN_OK;
  return tn_fail(x->d->diags, TN_INVALID, data, NULL, "there is nothing to calibrate with");
}
