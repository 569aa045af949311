/* write.c - see write.h. Inputs come from a world made anew: states have changed meanwhile. */
#include "tests/cuda/gpu/write.h"
#include "tests/cuda/gpu/case.h"
#include <stdio.h>

typedef struct writer {
  const tn_device_run *r;
  tn_world fresh;
  const tn_world *ref;
  tn_op ref_return;
  TN_VEC(void *) places; /* of buffers */
  tn_buf out;
} writer;

static const tn_held *held(const tn_world *w, tn_value v) {
  return v < w->values.count ? &w->values.items[v] : NULL;
}

static uint32_t row_of(writer *w, void *place) {
  for (uint32_t i = 0; i < w->places.count; i++)
    if (w->places.items[i] == place) return i;
  TN_NEED(tn_vec_push(&w->places, place));
  return w->places.count - 1;
}

static tn_value value_at(const writer *w, const void *place) {
  for (tn_value v = 1; v < w->r->at.count; v++)
    if (w->r->at.items[v] == place) return v;
  tn_trial_fail("a buffer that belongs to no value");
}

/* What the reference has for the value that lies there; NULL: nothing that a caller sees. */
static const tn_held *wanted(const writer *w, const void *place) {
  const tn_world *mine = &w->r->trial.w;
  for (uint32_t i = 0; i < tn_ir_op_noperands(w->ref->m, w->ref_return); i++)
    if (w->r->at.items[tn_ir_op_operand(mine->m, w->r->ret, i)] == place)
      return held(w->ref, tn_ir_op_operand(w->ref->m, w->ref_return, i));
  for (uint32_t i = 1; i <= tn_ir_state_count(w->ref->m); i++) {
    tn_state_info info;
    tn_ir_state_get(w->ref->m, i, &info);
    if (w->r->at.items[info.value] == place) return held(w->ref, info.value);
  }
  return NULL;
}

static void put_padded(writer *w, const void *data, uint64_t bytes) {
  static const char zeros[8];
  tn_buf_put(&w->out, data, bytes);
  tn_buf_put(&w->out, zeros, tn_align_up(bytes, 8) - bytes);
}

static void put_buffer(writer *w, const void *place) {
  tn_value v = value_at(w, place);
  const tn_held *x = held(&w->r->trial.w, v), *first = held(&w->fresh, v), *want = wanted(w, place);
  bool data = first && first->t.data;
  case_buffer b = {
      .bytes = x->bytes, .dtype = x->t.dtype, .fill = data ? CASE_DATA : CASE_ZERO, .compare = want != NULL};
  tn_buf_put(&w->out, &b, sizeof b);
  if (data) put_padded(w, first->t.data, b.bytes);
  if (want) put_padded(w, want->t.data, b.bytes);
}

static void put_call(writer *w, const tn_device_step *s) {
  case_call c = {.nbufs = s->nbufs, .ndims = s->row->ndims};
  snprintf(c.symbol, sizeof c.symbol, "%s", s->row->symbol);
  TN_NEED(s->nbufs <= TN_COUNT(c.bufs));
  for (uint32_t i = 0; i < s->nbufs; i++) c.bufs[i] = row_of(w, w->r->bufs.items[s->first_buf + i]);
  for (uint32_t i = 0; i < s->row->ndims; i++) c.dims[i] = w->r->numbers.items[s->first + i];
  tn_buf_put(&w->out, &c, sizeof c);
}

/* As the harness compares. */
static void set_tolerance(const tn_world *ref, case_head *h) {
  h->atol = ref->c->atol;
  h->rtol = ref->c->rtol;
  h->nmse = ref->c->nmse;
  if (h->atol == 0 && h->rtol == 0) h->atol = 1e-5, h->rtol = 1e-4; /* widened per element type by replay */
}

static void put_all(writer *w, const char *where) {
  const tn_trial_package *k = w->r->trial.package;
  uint64_t scratch = 0, bytes = k->image.len;
  for (uint32_t i = 0; i < w->r->steps.count; i++) {
    const tn_device_step *s = &w->r->steps.items[i];
    if (s->row->scratch && (uint64_t)tn_trial_dim(&w->r->trial, s->row->scratch) > scratch)
      scratch = (uint64_t)tn_trial_dim(&w->r->trial, s->row->scratch);
    for (uint32_t b = 0; b < s->nbufs; b++) row_of(w, w->r->bufs.items[s->first_buf + b]);
  }
  case_head h = {.nimages = 1, .nbuffers = w->places.count, .ncalls = w->r->steps.count, .scratch = scratch};
  memcpy(h.magic, CASE_MAGIC, sizeof h.magic);
  snprintf(h.name, sizeof h.name, "%s", where);
  set_tolerance(w->ref, &h);
  tn_buf_put(&w->out, &h, sizeof h);
  tn_buf_put(&w->out, &bytes, 8);
  put_padded(w, k->image.text, k->image.len);
  for (uint32_t i = 0; i < h.nbuffers; i++) put_buffer(w, w->places.items[i]);
  for (uint32_t i = 0; i < w->r->steps.count; i++) put_call(w, &w->r->steps.items[i]);
}

void case_write(const char *folder, const tn_device_run *r, const tn_world *ref, tn_op ref_return,
                const char *where) {
  writer w = {.r = r, .ref = ref, .ref_return = ref_return};
  if (r->trial.package->left.count || !r->steps.count) return;
  tn_world_init(&w.fresh, ref->c);
  put_all(&w, where);
  char path[4096];
  TN_NEED(!w.out.failed);
  snprintf(path, sizeof path, "%s/%016llx.case", folder,
           (unsigned long long)tn_hash_bytes(w.out.text, w.out.len, 0));
  FILE *f = fopen(path, "wb");
  if (!f || fwrite(w.out.text, 1, w.out.len, f) != w.out.len || fclose(f))
    tn_trial_fail("%s: cannot be written", path);
  tn_vec_fini(&w.places);
  tn_buf_fini(&w.out);
  tn_world_fini(&w.fresh);
}
