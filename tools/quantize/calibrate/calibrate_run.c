/* calibrate_run.c - one group's run over the text: from what the group before left, through that group's
 * weights as they are once encoded, up to this group's inputs. */
#include "tools/quantize/calibrate/calibrate.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_INPUTS = 32 };

/* ---- files --------------------------------------------------------------------------------------------- */

tn_status tn_cal_file(tn_calibration *c, int *fd) {
  const char *dir = getenv("TMPDIR");
  char *path = tn_arena_printf(&c->arena, "%s/tenon-calibration-XXXXXX", dir && *dir ? dir : "/tmp");
  *fd = path ? mkstemp(path) : -1;
  if (*fd < 0)
    return tn_fail(c->q->diags, TN_UNAVAILABLE, path, NULL, "cannot make a temporary file: %s",
                   strerror(errno));
  unlink(path);
  return TN_OK;
}

tn_status tn_cal_put(tn_calibration *c, int fd, uint64_t at, const void *p, uint64_t n) {
  for (const char *from = p; n;) {
    ssize_t k = pwrite(fd, from, n, (off_t)at);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0)
      return tn_fail(c->q->diags, TN_UNAVAILABLE, NULL, NULL, "cannot write a temporary file: %s",
                     strerror(errno));
    from += k, at += (uint64_t)k, n -= (uint64_t)k;
  }
  return TN_OK;
}

tn_status tn_cal_get(tn_calibration *c, int fd, uint64_t at, void *p, uint64_t n) {
  for (char *to = p; n;) {
    ssize_t k = pread(fd, to, n, (off_t)at);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0)
      return tn_fail(c->q->diags, TN_UNAVAILABLE, NULL, NULL, "cannot read a temporary file: %s",
                     k < 0 ? strerror(errno) : "it ends early");
    to += k, at += (uint64_t)k, n -= (uint64_t)k;
  }
  return TN_OK;
}

/* ---- statistics ---------------------------------------------------------------------------------------- */

static void add_row(tn_cal_input *x, uint32_t expert, const float *row) {
  double *squares = x->squares + (uint64_t)expert * x->columns;
  for (uint32_t k = 0; k < x->columns; k++) {
    squares[k] += (double)row[k] * (double)row[k];
    x->most[k] = fmaxf(x->most[k], fabsf(row[k]));
  }
  x->counts[expert]++;
}

/* ids: which expert each place of each token chose; NULL: none. */
static tn_status add_rows(tn_calibration *c, tn_cal_input *x, const tn_tensor *t, const tn_tensor *ids) {
  uint64_t n = (uint64_t)tn_tensor_count(t) / x->columns;
  const float *rows = t->data;
  if (t->dtype != TN_DT_f32)
    return tn_fail(c->q->diags, TN_UNSUPPORTED, NULL, NULL,
                   "--calibration wants values in f32, a product has %s", tn_ir_dtype_info(t->dtype)->name);
  if (!ids) {
    for (uint64_t r = 0; r < n; r++) add_row(x, 0, rows + r * x->columns);
    return x->moments ? tn_gptq_moments(x->moments, x->columns, rows, n, c->q->threads) : TN_OK;
  }
  uint64_t places = (uint64_t)tn_tensor_count(ids), each = (uint64_t)ids->shape[ids->rank - 1];
  for (uint64_t i = 0; i < places; i++) {
    int64_t expert = (int64_t)tn_tensor_at(ids, (int64_t)i);
    if (expert >= 0 && expert < x->nexperts)
      add_row(x, (uint32_t)expert, rows + (n == places ? i : i / each) * x->columns);
  }
  return TN_OK;
}

/* ---- a group's model ----------------------------------------------------------------------------------- */

typedef struct group {
  tn_calibration *c;
  uint32_t first, end;
  tn_observe_run run;
  tn_value_list given; /* results */
  tn_cal_carry next;
  tn_tensor in[MAX_INPUTS];
  uint32_t ncarried;
} group;

static int64_t index_of(const tn_value_list *l, tn_value v) {
  for (uint32_t i = 0; i < l->count; i++)
    if (l->items[i] == v) return i;
  return -1;
}

/* Values that come from the group before are there already. */
static tn_status give(group *g, tn_value v) {
  if (!v || index_of(&g->given, v) >= 0 || index_of(&g->c->carry.values, v) >= 0) return TN_OK;
  return tn_vec_push(&g->given, v) ? TN_OK : TN_OOM;
}

static tn_status choose(group *g) {
  tn_calibration *c = g->c;
  for (uint32_t i = g->first; i < g->end; i++) {
    TN_TRY(give(g, c->inputs.items[i].value));
    TN_TRY(give(g, c->inputs.items[i].experts));
  }
  if (g->end == c->inputs.count) return TN_OK;
  TN_TRY(tn_observe_live(c->source.module, c->source.func, c->inputs.items[g->first].first, &g->next.values));
  for (uint32_t i = 0; i < g->next.values.count; i++) TN_TRY(give(g, g->next.values.items[i]));
  return TN_OK;
}

static tn_status compile(group *g) {
  tn_calibration *c = g->c;
  tn_module *m = tn_module_clone(c->source.module, c->q->diags);
  if (!m) return TN_OOM;
  tn_status s = tn_observe_carry(m, c->source.func, c->carry.values.items, c->carry.values.count);
  for (uint32_t i = 0; i < c->replaced.count && s == TN_OK; i++)
    s = tn_observe_replace(m, c->replaced.items[i].weight, c->rounded_path, c->replaced.items[i].at);
  if (s != TN_OK) {
    tn_module_free(m);
    return s;
  }
  return tn_observe_run_open(&g->run, &c->source, m, c->source.func, g->given.items, g->given.count,
                             c->q->threads, tn_observe_is_causal(&c->source) ? c->chunk : 0, c->q->diags);
}

/* ---- its runs ------------------------------------------------------------------------------------------ */

/* What was kept of window i, behind the other inputs. */
static tn_status read_carried(group *g, uint32_t i) {
  const tn_cal_carry *k = &g->c->carry;
  tn_entry_info info;
  g->run.o.api->entry(g->run.o.model, (uint32_t)g->run.entry, &info);
  g->ncarried = k->values.count;
  if (info.ninputs > MAX_INPUTS || info.ninputs < g->ncarried)
    return tn_fail(g->c->q->diags, TN_UNSUPPORTED, NULL, info.name, "%u inputs, the most is %d", info.ninputs,
                   (int)MAX_INPUTS);
  for (uint32_t v = 0; v < k->values.count; v++) {
    uint32_t at = i * k->values.count + v;
    tn_tensor *t = &g->in[info.ninputs - k->values.count + v];
    uint64_t bytes = tn_tensor_bytes(&k->shapes.items[at]);
    *t = k->shapes.items[at];
    t->data = tn_arena_alloc(&g->c->windows.arena, bytes + 1);
    if (!t->data) return TN_OOM;
    TN_TRY(tn_cal_get(g->c, k->fd, k->places.items[at], t->data, bytes));
  }
  return TN_OK;
}

static const tn_tensor *value_of(const group *g, tn_value v) {
  int64_t i = index_of(&g->given, v), carried = index_of(&g->c->carry.values, v);
  tn_entry_info info;
  if (i >= 0) return &g->run.results[i];
  g->run.o.api->entry(g->run.o.model, (uint32_t)g->run.entry, &info);
  return &g->in[info.ninputs - g->ncarried + (uint32_t)carried];
}

static tn_status keep(group *g) {
  for (uint32_t v = 0; v < g->next.values.count; v++) {
    tn_tensor t = *value_of(g, g->next.values.items[v]);
    uint64_t bytes = tn_tensor_bytes(&t);
    TN_TRY(tn_cal_put(g->c, g->next.fd, g->next.size, t.data, bytes));
    t.data = NULL;
    if (!tn_vec_push(&g->next.shapes, t) || !tn_vec_push(&g->next.places, g->next.size)) return TN_OOM;
    g->next.size += bytes;
  }
  return TN_OK;
}

static tn_status run_window(group *g, uint32_t i) {
  tn_calibration *c = g->c;
  TN_TRY(tn_windows_inputs(&c->windows, &g->run, i, g->in, MAX_INPUTS, c->q->diags));
  TN_TRY(read_carried(g, i));
  TN_TRY(tn_observe_run_call(&g->run, g->in, c->q->diags));
  for (uint32_t k = g->first; k < g->end; k++) {
    tn_cal_input *x = &c->inputs.items[k];
    TN_TRY(add_rows(c, x, value_of(g, x->value), x->experts ? value_of(g, x->experts) : NULL));
  }
  return keep(g);
}

static tn_status read_windows(group *g) {
  tn_calibration *c = g->c;
  bool bad = false;
  const tn_args *a = c->q->args;
  uint32_t chunks = (uint32_t)tn_args_int(a, OPT_chunks, 0, &bad);
  if (bad) return TN_INVALID;
  if (c->has_windows) return TN_OK;
  c->has_windows = true;
  return tn_windows_read(&c->windows, &g->run, a->last[OPT_calibration], c->chunk, chunks, c->q->diags);
}

static tn_status observe(group *g) {
  tn_calibration *c = g->c;
  TN_TRY(choose(g));
  TN_TRY(compile(g));
  TN_TRY(read_windows(g));
  if (g->next.values.count) TN_TRY(tn_cal_file(c, &g->next.fd));
  for (uint32_t i = 0; i < c->windows.count; i++) TN_TRY(run_window(g, i));
  return TN_OK;
}

void tn_cal_carry_fini(tn_cal_carry *k) {
  if (k->fd >= 0) close(k->fd);
  tn_vec_fini(&k->values);
  tn_vec_fini(&k->shapes);
  tn_vec_fini(&k->places);
  *k = (tn_cal_carry){.fd = -1};
}

tn_status tn_cal_observe(tn_calibration *c, uint32_t first, uint32_t end) {
  group g = {.c = c, .first = first, .end = end, .next = {.fd = -1}};
  tn_status s = observe(&g);
  tn_observe_run_close(&g.run);
  tn_vec_fini(&g.given);
  tn_cal_carry_fini(&c->carry);
  c->carry = g.next;
  return s;
}
