/* run_device.c - see run.h. */
#include "passes/rw.h"
#include "tools/conform/run.h"
#include <stdlib.h>

/* ---- a package on a device ---- */
typedef struct opened {
  const tn_device_api *api;
  tn_device *device;
  tn_queue *queue;
} opened;

static opened *open_package(tn_trial_package *k, const tn_device_api *api) {
  opened *o = calloc(1, sizeof *o);
  tn_bytes image = {k->image.text, k->image.len};
  char error[512] = "";
  TN_NEED(o);
  o->api = api;
  if (api->open(&image, 1, api->name, &o->device, error, sizeof error) != TN_OK)
    tn_trial_fail("open: %s", error);
  if (api->queue_new(o->device, NULL, &o->queue, error, sizeof error) != TN_OK)
    tn_trial_fail("queue: %s", error);
  return o;
}
static void drop(tn_trial_package *k) {
  opened *o = k->user;
  if (!o) return;
  o->api->queue_free(o->queue);
  o->api->close(o->device);
  free(o);
}

/* ---- memory ---- */
#define CALL(r, call)                                                                                        \
  do {                                                                                                       \
    if ((call) != TN_OK)                                                                                     \
      tn_trial_fail("%s, %s: %s\n%s", (r)->target, #call, (r)->api->error((r)->queue),                       \
                    (r)->trial.w.c->text);                                                                   \
  } while (0)

static void **at(tn_device_run *r, tn_value v) {
  while (r->at.count <= v) TN_NEED(tn_vec_push(&r->at, NULL));
  return &r->at.items[v];
}
static void upload(tn_device_run *r, void *to, const void *from, uint64_t bytes) {
  if (bytes) CALL(r, r->api->upload(r->queue, to, from, bytes));
}
/* Memory filled with 0xcd, `before` bytes behind the start of a block that ends with it. */
static void *memory_new(tn_device_run *r, uint64_t bytes, uint64_t before) {
  char error[512] = "";
  uint64_t all = before + bytes + !bytes;
  void *block, *poison = malloc(all);
  TN_NEED(poison);
  if (r->api->alloc(r->device, all, "a tensor", &block, error, sizeof error) != TN_OK)
    tn_trial_fail("%s", error);
  TN_NEED(tn_vec_push(&r->blocks, block));
  memset(poison, 0xcd, all);
  upload(r, block, poison, all);
  free(poison);
  return (char *)block + before;
}
static void *value_new(tn_device_run *r, tn_value v) {
  return *at(r, v) = memory_new(r, tn_world_slot(&r->trial.w, v)->bytes, v % 2 * 64);
}
static void fetch(tn_device_run *r, tn_value v) {
  tn_held *x = tn_world_slot(&r->trial.w, v);
  if (x->bytes) CALL(r, r->api->download(r->queue, x->t.data, *at(r, v), x->bytes));
}
/* Arguments, weights and states to the device. */
static void place_inputs(tn_device_run *r) {
  for (tn_value v = 1; v < r->trial.w.values.count; v++) {
    tn_held *x = tn_world_slot(&r->trial.w, v);
    if (x->t.data) upload(r, value_new(r, v), x->t.data, x->bytes);
  }
}

/* ---- kernels ---- */
static void launch_all(tn_device_run *r) {
  CALL(r, r->api->begin(r->queue, r->numbers.items, r->numbers.count));
  for (uint32_t i = 0; i < r->steps.count; i++) {
    const tn_device_step *s = &r->steps.items[i];
    void **bufs = &r->bufs.items[s->first_buf];
    const int64_t *dims = s->row->ndims ? &r->numbers.items[s->first] : NULL;
    CALL(r, r->api->launch(r->queue, s->kernel, bufs, s->nbufs, dims, s->row->ndims, s->scratch,
                           s->row->symbol));
  }
  CALL(r, r->api->end(r->queue));
  CALL(r, r->api->wait(r->queue));
}
static void flush(tn_device_run *r) {
  if (r->steps.count && !r->flushed) launch_all(r);
  r->flushed = true;
}

/* Results get memory; those that are updated states lie where the states lie. */
static void make_results(tn_device_run *r, tn_op op) {
  tn_world *w = &r->trial.w;
  for (uint32_t i = 0; i < tn_ir_op_nresults(w->m, op); i++) {
    tn_value v = tn_ir_op_result(w->m, op, i);
    int64_t state = tn_rw_updated_operand(w->m, op, i);
    tn_held *x = tn_world_make(w, v);
    if (state < 0) {
      value_new(r, v);
      continue;
    }
    tn_value old = tn_ir_op_operand(w->m, op, (uint32_t)state);
    x->t.data = tn_world_slot(w, old)->t.data;
    void *same = *at(r, old);
    *at(r, v) = same;
  }
}
static void add_step(tn_device_run *r, tn_op op, const tn_trial_row *row) {
  if (r->flushed) r->steps.count = r->numbers.count = r->bufs.count = 0;
  r->flushed = false;
  tn_world *w = &r->trial.w;
  tn_device_step s = {.row = row, .first = r->numbers.count, .first_buf = r->bufs.count};
  uint32_t nin = tn_ir_op_noperands(w->m, op), nout = tn_ir_op_nresults(w->m, op);
  s.nbufs = nin + nout;
  for (uint32_t i = 0; i < nin; i++) TN_NEED(tn_vec_push(&r->bufs, *at(r, tn_ir_op_operand(w->m, op, i))));
  for (uint32_t i = 0; i < nout; i++) TN_NEED(tn_vec_push(&r->bufs, *at(r, tn_ir_op_result(w->m, op, i))));
  for (uint32_t i = 0; i < row->ndims; i++)
    TN_NEED(tn_vec_push(&r->numbers, tn_trial_dim(&r->trial, row->dims[i])));
  if (row->scratch) s.scratch = memory_new(r, (uint64_t)tn_trial_dim(&r->trial, row->scratch), 0);
  if (r->api->kernel(r->device, row->symbol, &s.kernel) != TN_OK) tn_trial_fail("no kernel %s", row->symbol);
  TN_NEED(tn_vec_push(&r->steps, s));
}
/* An op of the reference: over the host. */
static void run_left(tn_device_run *r, tn_op op, const tn_trial_row *row) {
  tn_world *w = &r->trial.w;
  void *bufs[128];
  int64_t dims[TN_COUNT(row->dims)];
  uint32_t n = 0, nin = tn_ir_op_noperands(w->m, op), nout = tn_ir_op_nresults(w->m, op);
  TN_NEED(nin + nout <= TN_COUNT(bufs));
  flush(r);
  for (uint32_t i = 0; i < nin; i++) fetch(r, tn_ir_op_operand(w->m, op, i));
  for (uint32_t i = 0; i < nin; i++) bufs[n++] = tn_world_slot(w, tn_ir_op_operand(w->m, op, i))->t.data;
  for (uint32_t i = 0; i < nout; i++) bufs[n++] = tn_world_slot(w, tn_ir_op_result(w->m, op, i))->t.data;
  for (uint32_t i = 0; i < row->ndims; i++) dims[i] = tn_trial_dim(&r->trial, row->dims[i]);
  tn_kernel_fn fn;
  void *ctx;
  tn_trial_left_kernel(r->trial.package, row, &fn, &ctx);
  fn(&(tn_kcall){.bufs = bufs, .dims = dims, .ctx = ctx, .nthreads = 1});
  for (uint32_t i = 0; i < nout; i++) {
    tn_held *x = tn_world_slot(w, tn_ir_op_result(w->m, op, i));
    upload(r, *at(r, tn_ir_op_result(w->m, op, i)), x->t.data, x->bytes);
  }
}

static void run_op(tn_device_run *r, tn_op op) {
  bool left;
  const tn_trial_row *row = tn_trial_row_of(r->trial.package, op, &left);
  make_results(r, op);
  if (left)
    run_left(r, op, row);
  else
    add_step(r, op, row);
}
/* Results and states to the host. */
static void fetch_all(tn_device_run *r) {
  const tn_world *w = &r->trial.w;
  for (uint32_t i = 0; i < tn_ir_op_noperands(w->m, r->ret); i++) fetch(r, tn_ir_op_operand(w->m, r->ret, i));
  for (uint32_t i = 1; i <= tn_ir_state_count(w->m); i++) {
    tn_state_info info;
    tn_ir_state_get(w->m, i, &info);
    fetch(r, info.value);
  }
}
static void poison_results(tn_device_run *r) {
  const tn_world *w = &r->trial.w;
  for (uint32_t i = 0; i < tn_ir_op_noperands(w->m, r->ret); i++) {
    tn_value v = tn_ir_op_operand(w->m, r->ret, i);
    tn_held *x = tn_world_slot(&r->trial.w, v);
    if (x->bytes) memset(x->t.data, 0xcd, x->bytes);
    upload(r, *at(r, v), x->t.data, x->bytes);
  }
}

void tn_device_run_all(tn_device_run *r) {
  place_inputs(r);
  tn_world *w = &r->trial.w;
  for (tn_op op = tn_ir_first_op(w->m, w->f, 0); op; op = tn_ir_next_op(w->m, op)) {
    const char *name = tn_ir_opcode_name(tn_ir_opcode(w->m, op));
    if (!strcmp(name, "return")) {
      r->ret = op;
    } else if (!strcmp(name, "reshape")) {
      tn_value from = tn_ir_op_operand(w->m, op, 0), to = tn_ir_op_result(w->m, op, 0);
      tn_world_make(w, to)->t.data = tn_world_slot(w, from)->t.data;
      void *same = *at(r, from);
      *at(r, to) = same;
    } else {
      TN_NEED(!strcmp(name, "kernel"));
      run_op(r, op);
    }
  }
  flush(r);
  fetch_all(r);
}
void tn_device_run_again(tn_device_run *r) {
  poison_results(r);
  launch_all(r);
  fetch_all(r);
}

void tn_device_run_init(tn_device_run *r, tn_trial_plugin *p, const tn_target *t, const tn_case *c,
                        const char *pipeline) {
  *r = (tn_device_run){.api = p->backend->device(p->self), .target = t->name};
  tn_trial_init(&r->trial, p, t, c, pipeline, drop);
  tn_trial_package *k = r->trial.package;
  if (!k->user) k->user = open_package(k, r->api);
  r->device = ((opened *)k->user)->device;
  r->queue = ((opened *)k->user)->queue;
}
void tn_device_run_fini(tn_device_run *r) {
  for (uint32_t i = 0; i < r->blocks.count; i++) r->api->free(r->device, r->blocks.items[i]);
  tn_vec_fini(&r->at);
  tn_vec_fini(&r->blocks);
  tn_vec_fini(&r->steps);
  tn_vec_fini(&r->numbers);
  tn_vec_fini(&r->bufs);
  tn_trial_fini(&r->trial);
}
