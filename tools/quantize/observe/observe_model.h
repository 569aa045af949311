/* observe_model.h - a model that is compiled to give chosen values, and texts as its inputs: what observe.c
 * and calibrations that work layer by layer are made of. */
#ifndef TN_OBSERVE_MODEL_H
#define TN_OBSERVE_MODEL_H
#include "tools/quantize/observe/observe_graph.h"
#include "tools/tool.h"

/* The model as imported, ready to be copied and compiled. */
typedef struct tn_observe_source {
  tn_driver driver;
  tn_module *module;
  tn_func func;         /* the function that is observed */
  tn_products products; /* of it */
} tn_observe_source;
/* tn_observe_source_close is safe after a failure. */
tn_status tn_observe_source_open(tn_observe_source *x, const tn_driver_options *o, const char *model,
                                 tn_diags *d);
void tn_observe_source_close(tn_observe_source *x);

/* A copy of it that runs. Its one function is the first entry point; results are in the order of `values`. */
typedef struct tn_observe_run {
  tn_opened o;
  tn_session *s;
  int entry;
  int64_t batch, capacity; /* of the session */
  uint32_t threads;
  tn_tensor *results;
  uint32_t nresults;
} tn_observe_run;
/* Takes the module, a copy of source->module in which the values are, also when it fails. capacity: tokens.
 */
tn_status tn_observe_run_open(tn_observe_run *r, tn_observe_source *source, tn_module *m, tn_func f,
                              const tn_value *values, uint32_t n, uint32_t threads, int64_t capacity,
                              tn_diags *d);
void tn_observe_run_close(tn_observe_run *r);
/* One call from an empty state, of as many sequences as the first input has; r->results are there until the
 * next one. */
tn_status tn_observe_run_call(tn_observe_run *r, const tn_tensor *in, tn_diags *d);

/* ---- text ---- */
/* The tokens of a text: for causal models in chunks of one size, for others one line each. */
typedef struct tn_windows {
  tn_arena arena;
  TN_VEC(int32_t) ids, types;
  TN_VEC(uint32_t) begin; /* count + 1 entries */
  uint32_t count, chunk;  /* chunk: tokens of each; 0: lines */
} tn_windows;
/* chunk 0: 512, or what the model takes; chunks 0: all. tn_windows_fini is safe after a failure. */
tn_status tn_windows_read(tn_windows *w, tn_observe_run *r, const char *path, uint32_t chunk, uint32_t chunks,
                          tn_diags *d);
void tn_windows_fini(tn_windows *w);
/* The inputs of window i, by their names, but for carried ones (observe_graph.h); in the windows' memory. */
tn_status tn_windows_inputs(tn_windows *w, tn_observe_run *r, uint32_t i, tn_tensor *in, uint32_t room,
                            tn_diags *d);
/* Tokens of the longest chunk that the text is read in by the model: `chunk`, or the default. */
uint32_t tn_windows_chunk(const tn_observe_source *x, uint32_t chunk);
bool tn_observe_is_causal(const tn_observe_source *x);
#endif
