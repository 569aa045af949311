/* fuzz_program.c - any bytes as a step program. The hash is put right first, so that the search reaches what
 * lies behind it; what is accepted can be opened, described and bound to shapes. Kernels are not run: they
 * trust their program. */
#include "backends/runtime/runtime.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void nothing(const tn_kcall *c) { (void)c; }

static void describe(const tn_model_api *api, tn_model *m, uint32_t entry) {
  tn_entry_info e;
  tn_arg_info a;
  if (api->entry(m, entry, &e)) abort();
  for (uint32_t i = 0; i < e.ninputs; i++)
    if (api->input(m, entry, i, &a) || !a.name || !a.shape) abort();
  for (uint32_t i = 0; i < e.noutputs; i++)
    if (api->output(m, entry, i, &a) || !a.name || !a.shape) abort();
}

/* Shapes of 2, 3, ... that fit the declared ranks and types; most are refused, which must leave words. */
static void bind(const tn_model_api *api, tn_model *m, tn_session *s, uint32_t entry) {
  static tn_tensor in[256], out[256]; /* the limit of a program */
  tn_entry_info e;
  api->entry(m, entry, &e);
  for (uint32_t i = 0; i < e.ninputs; i++) {
    tn_arg_info a;
    api->input(m, entry, i, &a);
    in[i] = (tn_tensor){.dtype = a.dtype, .rank = a.rank};
    for (uint32_t k = 0; k < a.rank; k++) in[i].shape[k] = 2 + k;
  }
  if (api->shapes(s, entry, in, out) && !api->error(s)[0]) abort();
}

static void use(tn_bytes program, const tn_prog_header *h) {
  tn_rt_source src = {
      .program = program, .weights = program.ptr, .weights_bytes = program.len, .folder = "/nonexistent"};
  tn_rt_kernel *kernels = calloc(h->kernels.count + 1u, sizeof *kernels);
  tn_model *m;
  char why[200];
  if (!kernels) return;
  for (uint32_t i = 0; i < h->kernels.count; i++) kernels[i].fn = nothing;
  src.kernels = kernels;
  if (!tn_rt_open(&src, &m, why, sizeof why)) {
    tn_session_options o = {.size = sizeof o, .threads = 1, .capacity = 8};
    tn_session *s = NULL;
    bool session = !tn_rt_api.session_new(m, &o, &s);
    for (uint32_t i = 0; i < tn_rt_api.entry_count(m); i++) {
      describe(&tn_rt_api, m, i);
      if (session) bind(&tn_rt_api, m, s, i);
    }
    tn_rt_api.session_free(s);
    tn_rt_api.close(m);
  }
  free(kernels);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char why[200] = "";
  uint8_t *copy = malloc(size ? size : 1);
  if (!copy) return 0;
  memcpy(copy, data, size);
  tn_prog_header *h = (tn_prog_header *)(void *)copy;
  if (size >= sizeof *h) {
    memcpy(h->magic, TN_PROGRAM_MAGIC, sizeof h->magic);
    h->version = TN_PROGRAM_VERSION;
    h->bytes = size;
    h->hash = tn_hash_bytes(copy + sizeof *h, size - sizeof *h, 0);
  }
  tn_status status = tn_prog_check((tn_bytes){copy, size}, why, sizeof why);
  if (status && !why[0]) abort();
  if (!status) use((tn_bytes){copy, size}, h);
  free(copy);
  return 0;
}
