/* rt.h - inside the runtime: what a model and a session hold, and the functions behind tenon/model.h's table.
 * The latter are also what an artefact exports under its own name (foo_open is tn_rt_model_open). */
#ifndef TN_RT_H
#define TN_RT_H
#include "backends/runtime/pool.h"
#include "backends/runtime/runtime.h"
#include "backends/runtime/view.h"
#include "frontend/tokenizer/tokenizer.h"

/* The value of an expression row under the dims of now. */
enum { TN_NUMBER_OK = 0, TN_NUMBER_UNBOUND, TN_NUMBER_OVERFLOW, TN_NUMBER_DIVIDES_BY_ZERO };
typedef struct tn_rt_number {
  int64_t value;
  uint32_t state, reserved;
} tn_rt_number;

typedef struct tn_rt_file {
  const char *path;
  tn_file map;
} tn_rt_file;

struct tn_model {
  tn_view view;
  tn_arena arena;        /* owns the tables below */
  tn_rt_kernel *kernels; /* per row of kernels */
  const void **weights;  /* per row of weights */
  int64_t *limits;       /* per dim: its largest legal value */
  const char **shapes;   /* per row of args, as text */
  bool *stateful;        /* per entry: its steps use a state */
  uint32_t nstateful;
  uint32_t max_steps, max_slots, max_inputs; /* of any variant or entry */
  uint64_t max_operands, max_scalars;        /* of all steps of any variant */
  tn_file library, packed;                   /* ahead of time: the artefact, the external weights */
  TN_VEC(tn_rt_file) files;                  /* weights that stay in their original files */
  tn_tokenizer *tokenizer;                   /* NULL: none */
  bool keep_values;
};

typedef struct tn_rt_memory {
  void *base;
  uint64_t bytes;
} tn_rt_memory;                                          /* anonymous pages, zeroed */
bool tn_rt_memory_grow(tn_rt_memory *m, uint64_t bytes); /* contents are lost; false: no memory, as before */
void tn_rt_memory_free(tn_rt_memory *m);

/* One step, ready to run. */
typedef struct tn_rt_step {
  tn_rt_kernel kernel;
  void *const *bufs;
  const int64_t *dims;
  uint32_t row, single;
} tn_rt_step;

struct tn_session {
  tn_model *model;
  tn_pool *pool;
  uint32_t nthreads;
  int64_t batch, capacity, position;
  tn_arena arena;          /* owns the tables below */
  int64_t *dims;           /* per dim */
  bool *bound;             /* per dim */
  tn_rt_number *exprs;     /* per expression */
  tn_rt_memory *states;    /* per state */
  uint64_t *state_bytes;   /* per state: its exact size */
  bool *rewinds;           /* per state: it has places per token; false: it sums up all tokens */
  tn_rt_memory *converted; /* per input: its integers in the declared type */
  const void **inputs;     /* of the call: the caller's data or `converted` */
  void **outputs;
  tn_rt_memory slots, scratch;
  uint64_t scratch_stride;        /* bytes between two threads' scratch */
  uint64_t *slot_at, *slot_bytes; /* per slot of the variant: offset in `slots`, size */
  tn_rt_step *steps;
  uint32_t nsteps;
  bool shared;                /* some step is for all threads */
  void **bufs;                /* of all steps */
  int64_t *scalars;           /* of all steps */
  const tn_prog_entry *entry; /* what the plan below `dims` is for; NULL: none yet */
  const tn_prog_variant *variant;
  int64_t *planned; /* the dims of that plan */
  double *seconds;  /* per row of steps, when profiling */
  uint64_t *calls;
  bool profile;
  struct tn_rt_kept *kept; /* by generation, for its next call; NULL: nothing */
  char error[1024];
};
void tn_rt_kept_free(struct tn_rt_kept *k); /* sequence.c */
void tn_rt_adapters_default(tn_session *s); /* adapter.c: the weights that the model was made with */

/* Keeps the words in s->error and returns `status`. */
tn_status tn_rt_fail(tn_session *s, tn_status status, const char *fmt, ...) TN_PRINTF(3, 4);

/* bind.c */
void tn_rt_eval(const tn_view *v, const int64_t *dims, const bool *bound, tn_rt_number *out);
/* Values of a shape; false unless every dim is known and not negative. */
bool tn_rt_shape(const tn_rt_number *exprs, const uint32_t *shape, uint32_t rank, int64_t *out);
bool tn_rt_arg_bytes(const tn_rt_number *exprs, const tn_view *v, const tn_prog_arg *a, uint64_t *bytes);
/* Gives the dims their values from the inputs' shapes, evaluates every expression and checks all limits. */
tn_status tn_rt_bind(tn_session *s, const tn_prog_entry *e, const tn_tensor *in);
const char *tn_rt_number_why(uint32_t state);

/* invoke.c */
tn_status tn_rt_entry_of(tn_session *s, uint32_t entry, const tn_prog_entry **out);

/* load.c: what both ways of opening share. m->view and m->kernels are filled in. On failure the caller closes
 * m. */
tn_status tn_rt_model_prepare(tn_model *m, const void *weights, uint64_t weights_bytes, const char *folder,
                              char *error, uint64_t error_size);

/* ---- tenon/model.h's table ----------------------------------------------------------------------------- */
/* Visible, so that the link step can export them under the model's name; its version script hides all others.
 */
#pragma GCC visibility push(default)
const tn_model_api *tn_model_query(uint32_t abi);
tn_status tn_rt_model_open(const char *path, tn_model **out, char *error, uint64_t error_size);
void tn_rt_model_close(tn_model *m);
const char *tn_rt_name(tn_model *m);
uint32_t tn_rt_entry_count(tn_model *m);
tn_status tn_rt_entry(tn_model *m, uint32_t entry, tn_entry_info *out);
tn_status tn_rt_input(tn_model *m, uint32_t entry, uint32_t i, tn_arg_info *out);
tn_status tn_rt_output(tn_model *m, uint32_t entry, uint32_t i, tn_arg_info *out);
uint32_t tn_rt_meta_count(tn_model *m);
const char *tn_rt_meta_key(tn_model *m, uint32_t i);
const char *tn_rt_meta(tn_model *m, const char *key);
tn_status tn_rt_session_new(tn_model *m, const tn_session_options *o, tn_session **out);
void tn_rt_session_free(tn_session *s);
tn_status tn_rt_session_reset(tn_session *s);
int64_t tn_rt_position(tn_session *s);
tn_status tn_rt_rewind(tn_session *s, int64_t position);
const char *tn_rt_error(tn_session *s);
tn_status tn_rt_shapes(tn_session *s, uint32_t entry, const tn_tensor *in, tn_tensor *out);
tn_status tn_rt_invoke(tn_session *s, uint32_t entry, const tn_tensor *in, const tn_tensor *out);
tn_status tn_rt_tokenize(tn_session *s, const char *text, uint64_t len, const char *pair, uint64_t pair_len,
                         uint32_t flags, int32_t *ids, int32_t *types, uint64_t *n);
tn_status tn_rt_detokenize(tn_session *s, const int32_t *ids, uint64_t nids, uint32_t flags, char *text,
                           uint64_t *len);
const char *tn_rt_token_text(tn_session *s, int32_t id, uint64_t *len);
tn_status tn_rt_token_id(tn_session *s, const char *token, int32_t *id);
tn_status tn_rt_generate(tn_session *s, const int32_t *ids, uint64_t nids, const tn_sampling *o,
                         tn_on_token each, void *user);
tn_status tn_rt_generate_batch(tn_session *s, const tn_prompt *prompts, uint32_t n, const tn_sampling *o,
                               tn_on_new_token each, void *user);
tn_status tn_rt_adapter(tn_session *s, const char *name, float weight);
#pragma GCC visibility pop

#endif
