/* names.c - runs the model's page over a checkpoint: the graphs are thrown away, what is kept is which
 * tensors they read and how the page calls them in the other format. */
#include "frontend/checkpoint/ck.h"
#include "ir/ir.h"

static bool find_gguf(void *ctx, const char *name, tn_tensor_ref *out) {
  tn_gguf_import *g = ctx;
  const tn_gguf_tensor *t = tn_gguf_tensor_find(g->file, name);
  if (!t) return false;
  g->tensor_used[t - tn_gguf_tensor_at(g->file, 0)] = true;
  *out = (tn_tensor_ref){t->dtype, t->rank, t->shape, t->file, t->offset, t->bytes};
  return true;
}

void ck_forward(const tn_diags *from, tn_diags *to) {
  for (uint32_t i = 0; i < from->list.count; i++) {
    const tn_message *m = &from->list.items[i];
    tn_diags_add(to, m->severity, m->file, m->line, m->col, m->where, "%s", m->text);
  }
}

tn_status ck_run_page(tn_checkpoint *ck, tn_page_facts *facts, tn_diags *diags) {
  tn_diags own;
  tn_diags_init(&own);
  tn_module *m = tn_module_new(&own);
  tn_page_run run = {.page = ck->page,
                     .architecture = ck->architecture,
                     .config = ck->has_hf ? ck->hf.config : ck->gguf.config,
                     .ir = &tn_ir_table,
                     .m = m,
                     .diags = &own,
                     .facts = facts};
  run.tensors = ck->has_hf ? tn_hf_tensor_source(&ck->hf) : (tn_tensor_source){&ck->gguf, find_gguf, true};
  tn_status s = m ? tn_page_build(&run) : TN_OOM;
  if (s == TN_OK && own.errors) s = TN_INVALID;
  ck_forward(&own, diags);
  if (m) tn_module_free(m);
  tn_diags_fini(&own);
  return s;
}
