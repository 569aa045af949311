/* rt.h - inside the runtime: what a model and a session hold, and the functions behind tenon/model.h's table.
 * The latter are also what an artefact exports under its own name (foo_open is tn_rt_model_open). */
#ifndef TN_RT_H
#define TN_RT_H
#include "backends/runtime/pool.h"
#include "backends/runtime/runtime.h"
#include "backends/runtime/view.h"
#include "frontend/tokenizer/tokenizer.h"
#include <pthread.h>
#include <stdatomic.h>

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

/* What an entry with host steps, or one that is called, has to look at when a dim gets a value. */
typedef struct tn_rt_scope {
  uint32_t *rows, *constraints, *late; /* expressions that it needs; constraints about dims that it gives */
  uint32_t nrows, nconstraints, nlate; /* values; dims that its host steps give values */
} tn_rt_scope;

/* Tables of a frame. */
typedef struct tn_rt_sizes {
  uint32_t steps, slots, inputs, outputs; /* the most of any variant or entry */
  uint64_t operands, scalars;             /* of all steps of one variant */
} tn_rt_sizes;
void tn_rt_measure(const tn_view *v, const tn_prog_entry *e, tn_rt_sizes *z);

/* device.c: memory of the device, kept until it has to grow. */
typedef struct tn_rt_far {
  void *base;
  uint64_t bytes;
} tn_rt_far;
typedef struct tn_rt_device tn_rt_device; /* opened for a model, with its weights */

struct tn_model {
  tn_view view;
  tn_arena arena;        /* owns the tables below */
  tn_rt_kernel *kernels; /* per row of kernels */
  const void **weights;  /* per row of weights */
  int64_t *limits;       /* per dim: its largest legal value */
  const char **shapes;   /* per row of args, as text */
  bool *stateful;        /* per entry: its steps use a state */
  bool *dynamic;         /* per entry: it has host steps */
  tn_rt_scope *scopes;   /* per entry; empty unless it is dynamic or called */
  uint32_t nstateful;
  tn_rt_sizes sizes;        /* the largest of any public entry */
  tn_file library, packed;  /* ahead of time: the artefact, the external weights */
  TN_VEC(tn_rt_file) files; /* weights that stay in their original files */
  tn_tokenizer *tokenizer;  /* NULL: none */
  bool keep_values;
  int64_t least;        /* the smallest size of an input: 1, or 0 where the model takes empty ones */
  bool *far;            /* per row of kernels: it runs on the device */
  bool *staged;         /* per entry: it has host steps, copies or kernels on the device */
  bool near;            /* some kernel runs here */
  tn_device_api device; /* its `open` NULL: no kernel needs one */
  const tn_bytes *images;
  uint32_t nimages;
  pthread_mutex_t lock;           /* of what follows */
  TN_VEC(tn_rt_device *) devices; /* opened by sessions, closed with the model */
};

typedef struct tn_rt_memory {
  void *base;
  uint64_t bytes;
} tn_rt_memory;                                          /* anonymous pages, zeroed */
bool tn_rt_memory_grow(tn_rt_memory *m, uint64_t bytes); /* contents are lost; false: no memory, as before */
bool tn_rt_memory_extend(tn_rt_memory *m, uint64_t bytes); /* contents stay */
void tn_rt_memory_free(tn_rt_memory *m);

enum { TN_RT_TICKET = 64 }; /* bytes between two words of tn_kcall.tickets */

/* place.c: one slot, or rather the box that it is. */
enum { TN_RT_SLOT_ALIGN = 64 };
typedef struct tn_rt_room {
  uint64_t bytes, at;         /* at: behind the arena's begin */
  uint32_t slot, from, until; /* steps, as in tn_prog_slot */
  uint32_t next;
  uint64_t key, crowd, best; /* tn_rt_pack's own */
} tn_rt_room;
/* Gives each its place, and another order to all. Bytes are multiples of TN_RT_SLOT_ALIGN. *least: what lives
 * at the fullest step; no plan needs less. false: more than there are addresses. */
bool tn_rt_pack(tn_rt_room *rooms, uint32_t n, uint64_t *total, uint64_t *least);

/* One step, ready to run. */
enum { TN_RT_NEAR, TN_RT_FAR, TN_RT_COPY, TN_RT_HOST }; /* a kernel here, on the device; no kernel */
typedef struct tn_rt_step {
  tn_rt_kernel kernel; /* of a host step: ctx is what it keeps */
  void *const *bufs;
  const int64_t *dims;
  uint32_t side;          /* TN_RT_* */
  uint32_t row, single;   /* thread 0 does a single step, alone */
  uint32_t first, others; /* steps of the walk that must be done before, by thread 0 and by all others */
  uint32_t shared;        /* steps of the walk up to the last one that is not single, this one included */
} tn_rt_step;

/* One entry while it runs: the values of its dims and the memory of its values. The session has one for the
 * entry that is called from outside, and each IF and LOOP step has its own for what it calls, kept from call
 * to call (frame.c). */
typedef struct tn_frame {
  tn_arena arena;             /* of a called entry: owns it and the tables below */
  const tn_prog_entry *entry; /* what the plan is for; NULL: none yet */
  const tn_prog_variant *variant;
  const tn_prog_variant *laid_out; /* what `steps` are of; NULL: none */
  int64_t *dims;                   /* per dim */
  bool *bound;                     /* per dim */
  tn_rt_number *exprs;             /* per expression */
  int64_t *planned;                /* the dims of the plan */
  bool *planned_bound; /* the same; NULL in the session's own frame, where they follow from the entry */
  const void **inputs; /* of the call */
  void **outputs;      /* NULL: where it lies is not known yet */
  tn_rt_memory *kept;  /* per output: memory for it where the caller gave none */
  uint32_t nkept;
  tn_tensor *results;             /* per output: its shape and place, once known */
  tn_rt_memory slots;             /* the arena */
  uint64_t slots_bytes;           /* of it that the plan uses */
  void **slot;                    /* per slot of the variant; NULL: not there yet */
  uint64_t *slot_bytes, *slot_at; /* at: behind the begin of the memory that it lies in */
  uint64_t *slot_room;            /* bytes that it may have there */
  tn_rt_room *rooms;              /* for tn_rt_pack */
  const tn_prog_variant *packed;  /* what the slots known from the start are of; NULL: none */
  tn_rt_step *steps;
  uint32_t nsteps;
  bool shared;                /* some step is for all threads */
  uint32_t nsingle, nwaits;   /* of the steps that were counted last: tn_rt_counts */
  void **bufs;                /* of all steps */
  int64_t *scalars;           /* of all steps */
  uint32_t *late_rows, nlate; /* expressions that had no value when the entry was called */
  uint32_t *open_rows, nopen; /* those that have none now */
  uint32_t *open_constraints, nopen_constraints;
  struct tn_rt_host *hosts; /* what its host steps keep */
  /* On the device: the arena, and memory for what is not in it. */
  tn_rt_far far_slots, *far_inputs, *far_outputs, *far_given; /* given: per slot that an IF or LOOP fills */
  uint32_t nfar_inputs, nfar_outputs, nfar_given;
} tn_frame;

/* width.c: how many threads take part. All of a walk sees the same: a change in the middle of one holds from
 * a step on that no thread can have begun. */
typedef struct tn_rt_width {
  uint32_t threads;      /* that take part at the start of the next walk */
  uint64_t _Atomic turn; /* of the walk: the step from which on fewer take part << 32 | how many; UINT64_MAX
                          */
  double excess, seen;   /* seconds lost lately, less what is tolerated; up to when */
  double lost;           /* by the pool, up to then */
  double again, pause;   /* when to try one thread more, or the trial ends; how long to wait for that */
  bool trial;            /* of one thread more */
} tn_rt_width;
void tn_rt_width_begin(tn_session *s);
/* Thread 0, before it passes step i: are fewer threads better from now on? */
void tn_rt_width_look(tn_session *s, uint32_t i);

struct tn_session {
  tn_model *model;
  tn_pool *pool;
  uint32_t nthreads;
  int64_t batch, capacity, position;
  tn_arena arena;          /* owns the tables below */
  tn_frame top;            /* of the entry that is called from outside */
  tn_rt_memory *states;    /* per state */
  uint64_t *state_bytes;   /* per state: its exact size */
  bool *rewinds;           /* per state: it has places per token; false: it sums up all tokens */
  tn_rt_memory *converted; /* per input: its integers in the declared type */
  tn_rt_memory scratch;
  uint64_t scratch_stride; /* bytes between two threads' scratch */
  tn_rt_memory tickets;    /* of a walk: per step and thread, TN_RT_TICKET bytes apart (tn_kcall) */
  uint32_t ntickets;       /* steps that have some */
  uint32_t launch;         /* of the walk; every walk has another */
  const tn_rt_step *walk;  /* the steps that all threads run now */
  uint32_t nwalk;
  tn_rt_width width;
  tn_rt_counts counts;
  uint32_t nresults;         /* outputs of the last call; 0: it failed */
  struct tn_rt_log *logs;    /* per thread, when profiling */
  uint32_t nwalks;           /* since profiling began */
  TN_VEC(int64_t) walk_dims; /* of each of them: the values of all dims */
  bool profile;
  tn_rt_device *device; /* NULL: all kernels run here */
  tn_queue *queue;
  tn_rt_far *far_states; /* per state */
  tn_rt_far far_scratch;
  uint64_t copies[2], copied[2]; /* by direction: how many, bytes */
  uint64_t far_bytes;            /* of the device that the session holds */
  struct tn_rt_kept *kept;       /* by generation, for its next call; NULL: nothing */
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
/* The same for an entry that another calls, whose frame `from` is; f->entry is set. */
tn_status tn_rt_bind_call(tn_session *s, const tn_frame *from, tn_frame *f, const tn_prog_entry *e,
                          const tn_tensor *in);
/* Dim `dim` gets its value from `what`, which is named `name`; at least `least`. */
tn_status tn_rt_bind_dim(tn_session *s, tn_frame *f, const char *what, const char *name, uint32_t dim,
                         int64_t value, int64_t least);
/* The tensor must have the shape that the arguments' row says. */
tn_status tn_rt_check_shape(tn_session *s, const tn_frame *f, const char *what, const tn_prog_arg *a,
                            const tn_tensor *t);
/* Expressions and constraints that had to wait for a dim: those whose dims all have values now. */
tn_status tn_rt_rebind(tn_session *s, tn_frame *f);
const char *tn_rt_number_why(uint32_t state);

/* frame.c */
bool tn_rt_scopes(tn_model *m); /* fills m->scopes; false: no memory */
/* Tables for entry e; NULL: for any of the public ones, one after the other. */
bool tn_rt_frame_tables(const tn_model *m, const tn_prog_entry *e, tn_frame *f, tn_arena *a);
void tn_rt_frame_fini(tn_session *s, tn_frame *f);
tn_status tn_rt_plan(tn_session *s, tn_frame *f, const tn_prog_entry *e);
void tn_rt_point(tn_session *s, tn_frame *f, uint32_t from, uint32_t to);
/* Shape of output i in f->results; dims that are not known yet are -1. */
tn_status tn_rt_output_shape(tn_session *s, tn_frame *f, const tn_prog_arg *a, tn_tensor *out);
/* Memory for outputs whose shape is known now. */
tn_status tn_rt_frame_outputs(tn_session *s, tn_frame *f);
/* Behind a host step: slots and outputs whose sizes are known now. */
tn_status tn_rt_frame_learn(tn_session *s, tn_frame *f, uint32_t step);
/* Bytes of what an operand names, and where it is in the host's memory. */
uint64_t tn_rt_operand_bytes(const tn_session *s, const tn_frame *f, const tn_prog_operand *o);
const void *tn_rt_place(const tn_session *s, const tn_frame *f, const tn_prog_operand *o);
/* Runs an entry that has more than kernels of this side; its frame is planned. */
tn_status tn_rt_frame_run(tn_session *s, tn_frame *f);
/* Calls entry e from frame `from`; *f is made when first needed. Results are in (*f)->results. */
tn_status tn_rt_frame_call(tn_session *s, const tn_frame *from, tn_frame **f, const tn_prog_entry *e,
                           const tn_tensor *in);

/* host.c: what a host step keeps between calls. */
typedef struct tn_rt_host {
  struct tn_rt_host *next;
  uint32_t row;            /* of steps */
  uint32_t *slots, nslots; /* whose size is known behind it */
  tn_rt_memory late;       /* where they lie */
  uint64_t late_bytes;     /* of it that the plan uses */
  tn_rt_far far_late;      /* the same on the device */
  tn_frame *frames[2];     /* of the entries that it calls */
  tn_arena arena;          /* owns the tables below */
  tn_tensor *args, *results;
  tn_rt_memory *spare; /* LOOP, per carried value: the frame writes one, the next iteration reads the other */
  tn_rt_memory *stacks; /* LOOP, per slice */
} tn_rt_host;
static inline tn_rt_host *tn_rt_kept_by(const tn_rt_step *step) { return step->kernel.ctx; }
tn_rt_host *tn_rt_host_of(tn_session *s, tn_frame *f, uint32_t step); /* NULL: no memory */
void tn_rt_host_free(tn_session *s, tn_rt_host *h);
tn_status tn_rt_host_step(tn_session *s, tn_frame *f, uint32_t step);

/* invoke.c */
tn_status tn_rt_entry_of(tn_session *s, uint32_t entry, const tn_prog_entry **out);
/* Steps from .. to of the frame, all kernels, which were counted and pointed at their memory. */
void tn_rt_walk(tn_session *s, const tn_frame *f, uint32_t from, uint32_t to);

/* device.c */
tn_status tn_rt_device_setup(tn_model *m, char *error, uint64_t error_size); /* m->device is given */
void tn_rt_devices_close(tn_model *m);
tn_status tn_rt_device_attach(tn_session *s, const tn_session_options *o);
void tn_rt_device_detach(tn_session *s);
uint64_t tn_rt_device_bytes(const tn_session *s); /* with the weights */
tn_status tn_rt_device_reset(tn_session *s);      /* states are zero again */
bool tn_rt_device_tables(const tn_model *m, const tn_rt_sizes *z, tn_frame *f, tn_arena *a);
void tn_rt_device_frame_fini(tn_session *s, tn_frame *f);
void tn_rt_far_free(tn_session *s, tn_rt_far *m);
/* Steps from .. to, kernels of the device whose numbers are there; scratch: bytes that the largest needs. */
tn_status tn_rt_device_run(tn_session *s, tn_frame *f, uint32_t from, uint32_t to, uint64_t scratch);
tn_status tn_rt_device_copy(tn_session *s, tn_frame *f, uint32_t step);

/* profile.c: what one thread did since profiling began. */
typedef struct tn_rt_log {
  tn_rt_event *events;
  uint64_t lost; /* events without room */
  uint32_t count, room;
} tn_rt_log;
void tn_rt_log_put(tn_rt_log *log, uint32_t walk, uint32_t row, double begin, double end);
void tn_rt_log_begin(tn_session *s, const tn_frame *f); /* of a walk */
void tn_rt_logs_free(tn_session *s);

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
tn_status tn_rt_result(tn_session *s, uint32_t i, tn_tensor *out);
#pragma GCC visibility pop

#endif
