/* run_host.c - see run.h. */
#include "passes/rw.h"
#include "tools/conform/run.h"

static void add_call(tn_host_run *r, tn_op op) {
  bool left;
  const tn_trial_row *row = tn_trial_row_of(r->trial.package, op, &left);
  tn_world *w = &r->trial.w;
  tn_host_call c = {0};
  uint32_t nin = tn_ir_op_noperands(w->m, op), nout = tn_ir_op_nresults(w->m, op);
  TN_NEED(nin + nout <= TN_COUNT(c.bufs));
  if (left)
    tn_trial_left_kernel(r->trial.package, row, &c.fn, &c.ctx);
  else if (r->plugin->backend->kernel(r->exec, row->symbol, &c.fn, &c.ctx) != TN_OK)
    tn_trial_fail("no symbol %s", row->symbol);
  for (uint32_t i = 0; i < nout; i++) {
    tn_held *x = tn_world_make(w, tn_ir_op_result(w->m, op, i));
    int64_t state = tn_rw_updated_operand(w->m, op, i);
    if (state >= 0) x->t.data = tn_world_slot(w, tn_ir_op_operand(w->m, op, (uint32_t)state))->t.data;
  }
  for (uint32_t i = 0; i < nin; i++) c.bufs[i] = tn_world_slot(w, tn_ir_op_operand(w->m, op, i))->t.data;
  for (uint32_t i = 0; i < nout; i++)
    c.bufs[nin + i] = tn_world_slot(w, tn_ir_op_result(w->m, op, i))->t.data;
  for (uint32_t i = 0; i < row->ndims; i++) c.dims[i] = tn_trial_dim(&r->trial, row->dims[i]);
  if (row->scratch) c.scratch = (uint64_t)tn_trial_dim(&r->trial, row->scratch);
  TN_NEED(tn_vec_push(&r->calls, c));
}

static void list_calls(tn_host_run *r) {
  tn_world *w = &r->trial.w;
  for (tn_op op = tn_ir_first_op(w->m, w->f, 0); op; op = tn_ir_next_op(w->m, op)) {
    const char *name = tn_ir_opcode_name(tn_ir_opcode(w->m, op));
    if (!strcmp(name, "return")) {
      r->ret = op;
    } else if (!strcmp(name, "reshape")) {
      tn_held *x = tn_world_make(w, tn_ir_op_result(w->m, op, 0));
      x->t.data = tn_world_slot(w, tn_ir_op_operand(w->m, op, 0))->t.data;
    } else {
      TN_NEED(!strcmp(name, "kernel"));
      add_call(r, op);
    }
  }
}

void tn_host_run_init(tn_host_run *r, tn_trial_plugin *p, const tn_target *t, const tn_case *c,
                      const char *pipeline) {
  *r = (tn_host_run){.plugin = p};
  tn_trial_init(&r->trial, p, t, c, pipeline, NULL);
  tn_bytes image = {r->trial.package->image.text, r->trial.package->image.len};
  if (p->backend->load(p->self, t, image, &r->exec) != TN_OK)
    tn_trial_fail("%s: the package is not loaded: %s", t->name, p->words);
  list_calls(r);
  uint64_t most = 0;
  for (uint32_t i = 0; i < r->calls.count; i++)
    if (r->calls.items[i].scratch > most) most = r->calls.items[i].scratch;
  for (int i = 0; i < TN_HOST_THREADS; i++) {
    r->scratch[i] = tn_wall_new(tn_align_up(most, 64));
    memset(r->scratch[i].data, 0xff, most); /* NaNs, for what nobody wrote must not count, not even times 0 */
  }
}

void tn_host_run_threads(tn_host_run *r, uint32_t nthreads) {
  for (uint32_t i = 0; i < r->calls.count; i++) {
    tn_host_call *c = &r->calls.items[i];
    tn_kcall k = {.bufs = c->bufs, .dims = c->dims, .ctx = c->ctx, .nthreads = nthreads};
    k.launch = ++r->launch; /* what the words hold is of the launch before */
    k.tickets = nthreads % 2 ? NULL : r->tickets;
    for (k.thread = 0; k.thread < nthreads; k.thread++) {
      k.scratch = r->scratch[k.thread].data;
      c->fn(&k);
    }
  }
}

void tn_host_run_fini(tn_host_run *r) {
  r->plugin->backend->unload(r->exec);
  for (int i = 0; i < TN_HOST_THREADS; i++) tn_wall_free(&r->scratch[i]);
  tn_vec_fini(&r->calls);
  tn_trial_fini(&r->trial);
}
