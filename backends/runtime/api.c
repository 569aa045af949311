/* api.c - the table behind tn_model_query and what it says about a model. */
#include "backends/runtime/rt.h"

const char *tn_rt_name(tn_model *m) { return tn_view_str(&m->view, m->view.head->name); }
uint32_t tn_rt_entry_count(tn_model *m) { return m->view.head->npublic; }
uint32_t tn_rt_meta_count(tn_model *m) { return m->view.nmeta; }
const char *tn_rt_meta(tn_model *m, const char *key) { return tn_view_meta(&m->view, key); }
const char *tn_rt_meta_key(tn_model *m, uint32_t i) {
  return i < m->view.nmeta ? tn_view_str(&m->view, m->view.meta[i].key) : NULL;
}

tn_status tn_rt_entry(tn_model *m, uint32_t entry, tn_entry_info *out) {
  if (entry >= m->view.head->npublic) return TN_NOT_FOUND;
  const tn_prog_entry *e = &m->view.entries[entry];
  *out = (tn_entry_info){tn_view_str(&m->view, e->name), e->ninputs, e->noutputs};
  return TN_OK;
}

static tn_status describe(tn_model *m, uint32_t first, uint32_t n, uint32_t i, tn_arg_info *out) {
  if (i >= n) return TN_NOT_FOUND;
  const tn_prog_arg *a = &m->view.args[first + i];
  *out = (tn_arg_info){tn_view_str(&m->view, a->name), a->dtype, a->rank, m->shapes[first + i]};
  return TN_OK;
}

tn_status tn_rt_input(tn_model *m, uint32_t entry, uint32_t i, tn_arg_info *out) {
  if (entry >= m->view.head->npublic) return TN_NOT_FOUND;
  return describe(m, m->view.entries[entry].first_input, m->view.entries[entry].ninputs, i, out);
}

tn_status tn_rt_output(tn_model *m, uint32_t entry, uint32_t i, tn_arg_info *out) {
  if (entry >= m->view.head->npublic) return TN_NOT_FOUND;
  return describe(m, m->view.entries[entry].first_output, m->view.entries[entry].noutputs, i, out);
}

/* clang-format off */
const tn_model_api tn_rt_api = {
    .size = sizeof(tn_model_api), .abi = TN_ABI,
    .open = tn_rt_model_open, .close = tn_rt_model_close, .name = tn_rt_name,
    .entry_count = tn_rt_entry_count, .entry = tn_rt_entry, .input = tn_rt_input, .output = tn_rt_output,
    .meta_count = tn_rt_meta_count, .meta_key = tn_rt_meta_key, .meta = tn_rt_meta,
    .session_new = tn_rt_session_new, .session_free = tn_rt_session_free,
    .session_reset = tn_rt_session_reset,
    .position = tn_rt_position, .rewind = tn_rt_rewind, .error = tn_rt_error,
    .shapes = tn_rt_shapes, .invoke = tn_rt_invoke,
    .tokenize = tn_rt_tokenize, .detokenize = tn_rt_detokenize, .token_text = tn_rt_token_text,
    .token_id = tn_rt_token_id,
    .generate = tn_rt_generate, .generate_batch = tn_rt_generate_batch,
    .adapter = tn_rt_adapter, .result = tn_rt_result,
};
/* clang-format on */

const tn_model_api *tn_model_query(uint32_t abi) { return abi >> 16 == TN_ABI_MAJOR ? &tn_rt_api : NULL; }
