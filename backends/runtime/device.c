/* device.c - the run side of a program whose kernels are, some or all, on a device with memory of its own
 * (tn_device_api). A model opens a device once and loads there the weights that its kernels use; a session
 * has a queue, its states and a counterpart of each frame's memory, with the same offsets. Memory is made
 * when a step first wants it and stays where it is, so that equal runs of launches stay equal. */
#include "backends/runtime/rt.h"
#include <stdio.h>

enum { FAR_ALIGN = 256 };

struct tn_rt_device {
  tn_device *d;
  tn_arena arena;
  char *spec, *name, *arch;
  uint32_t *kernels; /* per row of kernels */
  void *block;       /* all weights */
  uint64_t bytes;
  void **weights; /* per row of weights; NULL: no kernel there uses it */
};

/* ---- opening ------------------------------------------------------------------------------------------- */

#define FAIL(status, ...) tn_view_fail(error, error_size, status, __VA_ARGS__)

tn_status tn_rt_device_setup(tn_model *m, char *error, uint64_t error_size) {
  const tn_view *v = &m->view;
  pthread_mutex_init(&m->lock, NULL);
  m->far = tn_arena_alloc(&m->arena, (v->nkernels + 1) * sizeof *m->far);
  m->staged = tn_arena_alloc(&m->arena, v->nentries * sizeof *m->staged);
  if (!m->far || !m->staged) return FAIL(TN_OOM, "no memory");
  for (uint32_t i = 0; i < v->nkernels; i++) {
    m->far[i] = tn_view_is_far(v, i);
    m->near |= !m->far[i];
  }
  for (uint32_t i = 0; i < v->nentries; i++) m->staged[i] = m->dynamic[i];
  for (uint32_t i = 0; i < v->nentries; i++)
    for (uint32_t k = 0; k < v->entries[i].nvariants; k++) {
      const tn_prog_variant *var = &v->variants[v->entries[i].first_variant + k];
      for (uint32_t n = 0; n < var->nsteps; n++) {
        const tn_prog_step *step = &v->steps[var->first_step + n];
        m->staged[i] |= step->kind != TN_PROG_KERNEL || m->far[step->kernel];
      }
    }
  if (v->head->device && !m->device.open)
    return FAIL(TN_UNSUPPORTED, "the program has kernels for '%s', which is not part of this library",
                tn_view_str(v, v->head->device - 1));
  return TN_OK;
}

static void device_close(tn_model *m, tn_rt_device *x) {
  if (!x) return;
  if (x->block) m->device.free(x->d, x->block);
  if (x->d) m->device.close(x->d);
  tn_arena_fini(&x->arena);
  tn_mem_free(x);
}

void tn_rt_devices_close(tn_model *m) {
  for (uint32_t i = 0; i < m->devices.count; i++) device_close(m, m->devices.items[i]);
  tn_vec_fini(&m->devices);
}

static void mark_weights(const tn_model *m, bool *used) {
  const tn_view *v = &m->view;
  for (uint32_t i = 0; i < v->nsteps; i++) {
    const tn_prog_step *step = &v->steps[i];
    if (step->kind != TN_PROG_KERNEL || !m->far[step->kernel]) continue;
    for (uint32_t k = 0; k < step->noperands; k++) {
      const tn_prog_operand *o = &v->operands[step->first_operand + k];
      if (o->kind == TN_PROG_WEIGHT) used[o->index] = true;
    }
  }
}

/* All weights lie in one block: it is there whole or not at all. */
static tn_status load_weights(tn_model *m, tn_rt_device *x, char *error, uint64_t error_size) {
  const tn_view *v = &m->view;
  bool *used = tn_arena_alloc(&x->arena, (v->nweights + 1) * sizeof *used);
  x->weights = tn_arena_alloc(&x->arena, (v->nweights + 1) * sizeof *x->weights);
  if (!used || !x->weights) return FAIL(TN_OOM, "no memory");
  mark_weights(m, used);
  for (uint32_t i = 0; i < v->nweights; i++)
    if (used[i] && !tn_add_u64(x->bytes, tn_align_up(v->weights[i].bytes, FAR_ALIGN), &x->bytes))
      return FAIL(TN_INVALID, "the weights are larger than there are addresses");
  if (!x->bytes) return TN_OK;
  TN_TRY(m->device.alloc(x->d, x->bytes, "the weights", &x->block, error, error_size));
  char *at = x->block;
  for (uint32_t i = 0; i < v->nweights; i++) {
    if (!used[i]) continue;
    x->weights[i] = at;
    if (v->weights[i].bytes)
      TN_TRY(m->device.load(x->d, at, m->weights[i], v->weights[i].bytes, error, error_size));
    at += tn_align_up(v->weights[i].bytes, FAR_ALIGN);
  }
  return TN_OK;
}

static tn_status find_kernels(const tn_model *m, tn_rt_device *x, char *error, uint64_t error_size) {
  const tn_view *v = &m->view;
  x->kernels = tn_arena_alloc(&x->arena, (v->nkernels + 1) * sizeof *x->kernels);
  if (!x->kernels) return FAIL(TN_OOM, "no memory");
  for (uint32_t i = 0; i < v->nkernels; i++) {
    const char *symbol = tn_view_str(v, v->kernels[i].symbol);
    if (m->far[i] && m->device.kernel(x->d, symbol, &x->kernels[i]))
      return FAIL(TN_NOT_FOUND, "kernel '%s' is missing in the code for %s", symbol, x->spec);
  }
  return TN_OK;
}

/* Two ways of naming a device open it once. */
static tn_rt_device *find_device(const tn_model *m, const char *spec) {
  for (uint32_t i = 0; i < m->devices.count; i++)
    if (!strcmp(m->devices.items[i]->spec, spec)) return m->devices.items[i];
  return NULL;
}

static tn_status describe(const tn_model *m, tn_rt_device *x, const char *spec) {
  tn_device_info info = {.size = sizeof info};
  m->device.info(x->d, &info);
  x->spec = tn_arena_str(&x->arena, tn_str_of(info.spec ? info.spec : spec));
  x->name = tn_arena_str(&x->arena, tn_str_of(info.name ? info.name : ""));
  x->arch = tn_arena_str(&x->arena, tn_str_of(info.arch ? info.arch : ""));
  return x->spec && x->name && x->arch ? TN_OK : TN_OOM;
}

/* *keep: it is a new one, whole. */
static tn_status device_fill(tn_model *m, const char *spec, tn_rt_device *x, tn_rt_device **out, char *error,
                             uint64_t error_size) {
  TN_TRY(m->device.open(m->images, m->nimages, spec, &x->d, error, error_size));
  if (describe(m, x, spec)) return FAIL(TN_OOM, "no memory");
  if ((*out = find_device(m, x->spec))) return TN_OK;
  TN_TRY(find_kernels(m, x, error, error_size));
  TN_TRY(load_weights(m, x, error, error_size));
  if (!tn_vec_push(&m->devices, x)) return FAIL(TN_OOM, "no memory");
  *out = x;
  return TN_OK;
}

static tn_status open_device(tn_model *m, const char *spec, tn_rt_device **out, char *error,
                             uint64_t error_size) {
  if ((*out = find_device(m, spec))) return TN_OK;
  tn_rt_device *x = tn_mem_alloc(sizeof *x);
  if (!x) return FAIL(TN_OOM, "no memory");
  tn_arena_init(&x->arena);
  tn_status status = device_fill(m, spec, x, out, error, error_size);
  if (status || *out != x) device_close(m, x);
  return status;
}

/* ---- sessions ------------------------------------------------------------------------------------------ */

static tn_status queue_failed(tn_session *s, tn_status status) {
  const char *why = s->model->device.error(s->queue);
  return tn_rt_fail(s, status, "%s: %s", s->device->spec, why && *why ? why : "failed");
}

static tn_status far_grow(tn_session *s, tn_rt_far *m, uint64_t bytes, const char *what);

/* States that a step there uses. */
static tn_status far_states(tn_session *s) {
  const tn_view *v = &s->model->view;
  for (uint32_t i = 0; i < v->nsteps; i++) {
    const tn_prog_step *step = &v->steps[i];
    if (step->kind != TN_PROG_COPY && (step->kind != TN_PROG_KERNEL || !s->model->far[step->kernel]))
      continue;
    for (uint32_t k = 0; k < step->noperands; k++) {
      const tn_prog_operand *o = &v->operands[step->first_operand + k];
      if (o->kind != TN_PROG_STATE || s->far_states[o->index].base) continue;
      char what[128];
      snprintf(what, sizeof what, "state '%.100s'", tn_view_str(v, v->states[o->index].arg.name));
      TN_TRY(far_grow(s, &s->far_states[o->index], s->state_bytes[o->index], what));
    }
  }
  return TN_OK;
}

tn_status tn_rt_device_attach(tn_session *s, const tn_session_options *o) {
  tn_model *m = s->model;
  char error[sizeof s->error] = "";
  if (!m->view.head->device) {
    if (!o->device && !o->stream) return TN_OK;
    return tn_rt_fail(s, TN_INVALID, "device '%s': the model has no kernels for a device",
                      o->device ? o->device : "of the stream");
  }
  pthread_mutex_lock(&m->lock);
  tn_status status = open_device(m, o->device ? o->device : m->device.name, &s->device, error, sizeof error);
  pthread_mutex_unlock(&m->lock);
  if (status) s->device = NULL;
  if (!status) status = m->device.queue_new(s->device->d, o->stream, &s->queue, error, sizeof error);
  if (status) return tn_rt_fail(s, status, "%s", error);
  s->far_states = tn_arena_alloc(&s->arena, (m->view.nstates + 1) * sizeof *s->far_states);
  if (!s->far_states) return tn_rt_fail(s, TN_OOM, "no memory for a session");
  return far_states(s);
}

/* All is done: memory may go. */
void tn_rt_device_detach(tn_session *s) {
  if (!s->device) return;
  for (uint32_t i = 0; s->far_states && i < s->model->view.nstates; i++) tn_rt_far_free(s, &s->far_states[i]);
  tn_rt_far_free(s, &s->far_scratch);
  if (s->queue) s->model->device.queue_free(s->queue);
}

tn_status tn_rt_device_reset(tn_session *s) {
  for (uint32_t i = 0; s->far_states && i < s->model->view.nstates; i++) {
    const tn_rt_far *m = &s->far_states[i];
    if (!m->base || tn_view_is_setting(&s->model->view, i)) continue;
    tn_status status = s->model->device.zero(s->queue, m->base, s->state_bytes[i]);
    if (status) return queue_failed(s, status);
  }
  return TN_OK;
}

uint64_t tn_rt_device_bytes(const tn_session *s) { return s->device ? s->device->bytes + s->far_bytes : 0; }

void tn_rt_device_used(const tn_session *s, tn_rt_device_use *out) {
  *out = (tn_rt_device_use){0};
  if (!s->device) return;
  *out = (tn_rt_device_use){.spec = s->device->spec,
                            .name = s->device->name,
                            .arch = s->device->arch,
                            .uploads = s->copies[TN_PROG_UPLOAD],
                            .downloads = s->copies[TN_PROG_DOWNLOAD],
                            .upload_bytes = s->copied[TN_PROG_UPLOAD],
                            .download_bytes = s->copied[TN_PROG_DOWNLOAD]};
  if (s->model->device.counts)
    s->model->device.counts(s->queue, &out->runs, &out->eager, &out->recorded, &out->replayed);
}

/* ---- memory -------------------------------------------------------------------------------------------- */

void tn_rt_far_free(tn_session *s, tn_rt_far *m) {
  if (!m->base) return;
  if (s->queue) s->model->device.wait(s->queue);
  s->model->device.free(s->device->d, m->base);
  s->far_bytes -= m->bytes;
  *m = (tn_rt_far){0};
}

/* Contents are lost. What grows again gets half as much more. */
static tn_status far_grow(tn_session *s, tn_rt_far *m, uint64_t bytes, const char *what) {
  if (m->base && bytes <= m->bytes) return TN_OK;
  uint64_t room = m->bytes && bytes <= INT64_MAX / 2 ? bytes + bytes / 2 : bytes ? bytes : 1;
  char error[sizeof s->error] = "";
  tn_rt_far_free(s, m);
  tn_status status = s->model->device.alloc(s->device->d, room, what, &m->base, error, sizeof error);
  if (status && room > bytes)
    status = s->model->device.alloc(s->device->d, room = bytes, what, &m->base, error, sizeof error);
  if (status) return m->base = NULL, tn_rt_fail(s, status, "%s", error);
  m->bytes = room;
  s->far_bytes += room;
  return TN_OK;
}

bool tn_rt_device_tables(const tn_model *m, const tn_rt_sizes *z, tn_frame *f, tn_arena *a) {
  if (!m->view.head->device) return true;
  f->far_inputs = tn_arena_alloc(a, (z->inputs + 1) * sizeof *f->far_inputs);
  f->far_outputs = tn_arena_alloc(a, (z->outputs + 1) * sizeof *f->far_outputs);
  f->far_given = tn_arena_alloc(a, (z->slots + 1) * sizeof *f->far_given);
  f->nfar_inputs = z->inputs, f->nfar_outputs = z->outputs, f->nfar_given = z->slots;
  return f->far_inputs && f->far_outputs && f->far_given;
}

void tn_rt_device_frame_fini(tn_session *s, tn_frame *f) {
  if (!s->device) return;
  for (uint32_t i = 0; f->far_inputs && i < f->nfar_inputs; i++) tn_rt_far_free(s, &f->far_inputs[i]);
  for (uint32_t i = 0; f->far_outputs && i < f->nfar_outputs; i++) tn_rt_far_free(s, &f->far_outputs[i]);
  for (uint32_t i = 0; f->far_given && i < f->nfar_given; i++) tn_rt_far_free(s, &f->far_given[i]);
  tn_rt_far_free(s, &f->far_slots);
}

static tn_status far_slot(tn_session *s, tn_frame *f, uint32_t slot, void **out) {
  const tn_prog_slot *row = &s->model->view.slots[f->variant->first_slot + slot];
  tn_rt_far *m = &f->far_slots;
  uint64_t bytes = f->slots_bytes, at = f->slot_at[slot];
  if (row->bytes == TN_PROG_NONE) {
    m = &f->far_given[slot];
    bytes = f->slot_bytes[slot];
    at = 0;
  } else if (row->after) {
    tn_rt_host *h = tn_rt_kept_by(&f->steps[row->after - 1]);
    m = &h->far_late;
    bytes = h->late_bytes;
  }
  TN_TRY(far_grow(s, m, bytes, "intermediate values"));
  *out = (char *)m->base + at;
  return TN_OK;
}

/* Where an operand is on the device; made if it is not there yet. */
static tn_status far_place(tn_session *s, tn_frame *f, const tn_prog_operand *o, void **out) {
  tn_rt_far *m = NULL;
  const char *what = "an input";
  *out = NULL;
  switch (o->kind) {
  case TN_PROG_SLOT: return far_slot(s, f, o->index, out);
  case TN_PROG_INPUT: m = &f->far_inputs[o->index]; break;
  case TN_PROG_OUTPUT: m = &f->far_outputs[o->index], what = "an output"; break;
  case TN_PROG_WEIGHT: *out = s->device->weights[o->index]; return TN_OK;
  case TN_PROG_STATE: *out = s->far_states[o->index].base; return TN_OK;
  default: return TN_OK;
  }
  TN_TRY(far_grow(s, m, tn_rt_operand_bytes(s, f, o), what));
  *out = m->base;
  return TN_OK;
}

/* ---- steps --------------------------------------------------------------------------------------------- */

static tn_status far_point(tn_session *s, tn_frame *f, uint32_t i) {
  const tn_prog_step *step = &s->model->view.steps[f->steps[i].row];
  const tn_prog_operand *o = s->model->view.operands + step->first_operand;
  void **bufs = (void **)(uintptr_t)f->steps[i].bufs;
  for (uint32_t k = 0; k < step->noperands; k++) {
    /* A slot or output whose size is not known yet has no place here either. */
    if ((o[k].kind == TN_PROG_SLOT || o[k].kind == TN_PROG_OUTPUT) && !tn_rt_place(s, f, &o[k]))
      return tn_rt_fail(s, TN_INVALID, "step %u: the size of operand %u is not known yet", i, k);
    TN_TRY(far_place(s, f, &o[k], &bufs[k]));
  }
  return TN_OK;
}

static tn_status launch(tn_session *s, const tn_rt_step *step) {
  const tn_view *v = &s->model->view;
  const tn_prog_step *row = &v->steps[step->row];
  return s->model->device.launch(s->queue, s->device->kernels[row->kernel], step->bufs, row->noperands,
                                 step->dims, row->nscalars,
                                 row->scratch == TN_PROG_NONE ? NULL : s->far_scratch.base,
                                 row->loc == TN_PROG_NONE ? "" : tn_view_str(v, row->loc));
}

static tn_status run(tn_session *s, const tn_frame *f, uint32_t from, uint32_t to) {
  const tn_view *v = &s->model->view;
  const tn_device_api *api = &s->model->device;
  uint32_t numbers = 0;
  for (uint32_t i = from; i < to; i++) numbers += v->steps[f->steps[i].row].nscalars;
  tn_status status = api->begin(s->queue, f->steps[from].dims, numbers);
  for (uint32_t i = from; !status && i < to; i++) status = launch(s, &f->steps[i]);
  if (!status) status = api->end(s->queue);
  return status ? queue_failed(s, status) : TN_OK;
}

/* One by one, each until it is done. */
static tn_status run_timed(tn_session *s, tn_frame *f, uint32_t from, uint32_t to) {
  tn_rt_log_begin(s, f);
  for (uint32_t i = from; i < to; i++) {
    double begin = tn_now();
    TN_TRY(run(s, f, i, i + 1));
    tn_status status = s->model->device.wait(s->queue);
    if (status) return queue_failed(s, status);
    tn_rt_log_put(&s->logs[0], s->nwalks, f->steps[i].row, begin, tn_now());
  }
  double end = tn_now();
  tn_rt_log_put(&s->logs[0], s->nwalks, TN_PROG_NONE, end, end);
  return TN_OK;
}

tn_status tn_rt_device_run(tn_session *s, tn_frame *f, uint32_t from, uint32_t to, uint64_t scratch) {
  if (scratch) TN_TRY(far_grow(s, &s->far_scratch, scratch, "scratch of the kernels"));
  for (uint32_t i = from; i < to; i++) TN_TRY(far_point(s, f, i));
  s->counts.walks++;
  s->counts.steps += to - from;
  return s->profile ? run_timed(s, f, from, to) : run(s, f, from, to);
}

tn_status tn_rt_device_copy(tn_session *s, tn_frame *f, uint32_t i) {
  const tn_prog_step *step = &s->model->view.steps[f->steps[i].row];
  const tn_prog_operand *o = &s->model->view.operands[step->first_operand];
  uint32_t direction = step->kernel;
  uint64_t bytes = tn_rt_operand_bytes(s, f, o);
  void *here = (void *)(uintptr_t)tn_rt_place(s, f, o), *there;
  if (!here) return tn_rt_fail(s, TN_INVALID, "step %u: the size of its operand is not known yet", i);
  TN_TRY(far_place(s, f, o, &there));
  if (!bytes) return TN_OK;
  s->copies[direction]++;
  s->copied[direction] += bytes;
  tn_status status = direction == TN_PROG_UPLOAD ? s->model->device.upload(s->queue, there, here, bytes)
                                                 : s->model->device.download(s->queue, here, there, bytes);
  return status ? queue_failed(s, status) : TN_OK;
}
