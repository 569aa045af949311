/* driver.h - from a model on disk to something that runs: load, optimise, compile, then either a model in
 * this process (JIT) or a shared library (ahead of time). Both take the same path up to the packed weights.
 *
 *   tn_driver d; tn_driver_init(&d, &options, &diags);
 *   tn_driver_load(&d, "folder", &m);  tn_driver_optimize(&d, m, &run);
 *   tn_build b; tn_driver_build(&d, m, mode, &b);  tn_driver_jit(&d, m, &b, &jit)  or  tn_driver_aot(...) */
#ifndef TN_DRIVER_H
#define TN_DRIVER_H
#include "backends/runtime/runtime.h"
#include "frontend/forms/forms.h"
#include "passes/pass.h"
#include "plugins/host.h"
#include "tools/driver/link.h"

typedef struct tn_driver_options {
  const char *backend;  /* "cpu", "ref", or several by preference: "toy,ref"; NULL: "cpu". A backend with a
                           device alone is followed by "cpu" */
  const char *pipeline; /* "O0".."O3" or pass text; NULL: "O3" */
  const char *isa;      /* targets of the first, comma separated; NULL: the best one here (JIT), all (AOT) */
  const char *target;   /* both in one: "cuda:sm_80+sm_90a,cpu:avx2"; NULL: not given */
  bool require_target;  /* ops that a backend with a device does not take are not left to cpu */
  const char *device;   /* of sessions: "cuda:1"; NULL: the first one, if any is needed */
  const char *task;     /* NULL: as the model says */
  const char *const *plugins; /* --plugin, in order */
  uint32_t nplugins;
  const char *pages;     /* --model-page files, ':' between */
  const char *precision; /* strict, high or fast; NULL: strict. Becomes the module's meta "precision" */
  const char
      *quantize;  /* block format of weights that meet products; becomes the meta "quantize"; NULL: none */
  const char *kv; /* element type of the KV cache; NULL: f32 */
  const char *adapters;     /* PATH[=WEIGHT], ':' between; NULL: none */
  const char *adapter_mode; /* switch or merge; NULL: switch */
  const char *fix;          /* inputs of an ONNX model that are constants: "axes=0,2;ratio=0.5"; NULL: none */
  const char *tuning;       /* file with tuned numbers of kernels (tune.h); NULL: none */
  const char *shapes;       /* of an ONNX model's inputs: "x:1x3,y:Bx3"; NULL: as the model says */
  const char *ptxas;        /* path, "auto" or "none": machine code beside PTX; NULL: none */
  bool no_cache;            /* kernels are compiled whether or not the object cache has them */
  bool report;              /* notes on what is in the model, as the frontend sees it */
  bool keep_values;         /* every value keeps its own slot, for verify --per-node */
  bool progress;            /* a bar on stderr for the long steps */
} tn_driver_options;

/* A step of the way from a model to what runs, in the order they were taken. */
typedef struct tn_phase {
  const char *name, *target; /* target: NULL if it is for all */
  double seconds;
  uint32_t parts, kept; /* things made, and how many of them were found in the cache; 0: not counted */
  bool pass;            /* one of the pipeline's */
} tn_phase;

typedef TN_VEC(tn_target *) tn_driver_targets;

/* An op that a backend with a device does not take. */
typedef struct tn_driver_refusal {
  uint32_t backend;
  const char *op, *why; /* static; why may be NULL */
} tn_driver_refusal;

typedef struct tn_driver {
  tn_driver_options options;
  tn_diags *diags;
  tn_plugins *plugins;
  tn_arena arena;
  TN_VEC(tn_backend_ref) backends;   /* in order of preference */
  TN_VEC(tn_driver_targets) targets; /* of each of them; empty: it knows none */
  TN_VEC(tn_driver_refusal) refused; /* each kind once */
  char *path;                        /* of the loaded model */
  char *folder;                      /* where its weight files lie */
  TN_VEC(tn_phase) phases;
  double began, mark;       /* when the driver was made, and when the last phase ended */
  struct tn_tuning *tuning; /* NULL: none */
} tn_driver;

tn_status tn_driver_init(tn_driver *d, const tn_driver_options *o, tn_diags *diags);
void tn_driver_fini(tn_driver *d);

/* phase.c: a step ends now, or (timed) took so many seconds of the time since the last one ended. Together
 * they are all the time since the driver was made. */
void tn_driver_phase(tn_driver *d, const char *name);
void tn_driver_phase_timed(tn_driver *d, const tn_phase *p);
/* The folder of the object cache, TENON_CACHE_DIR or tenon in XDG_CACHE_HOME or ~/.cache; NULL: none. */
const char *tn_driver_cache(tn_driver *d);

/* Resolves options.target, or backend and isa. `all`: every target of each backend unless they are named;
 * else the best that runs here. Must come before optimize and build. */
tn_status tn_driver_pick(tn_driver *d, bool all);
/* Target i of a backend; NULL: it knows none. How often a backend compiles. */
tn_target *tn_driver_target(const tn_driver *d, uint32_t backend, uint32_t i);
uint32_t tn_driver_ntargets(const tn_driver *d, uint32_t backend);
void tn_driver_refused(tn_driver *d, uint32_t backend, const char *op, const char *why);
tn_status tn_driver_tell_refused(tn_driver *d); /* as notes */

/* A .tir file, or whatever a frontend takes. *m is freed by the caller, also on failure when not NULL. */
tn_status tn_driver_load(tn_driver *d, const char *path, tn_module **m);

/* Runs options.pipeline. `run` carries reports in and out; its pipeline, backends and plugin parts are filled
 * in. */
tn_status tn_driver_optimize(tn_driver *d, tn_module *m, tn_pipeline_run *run);

/* One kernel op's row for all targets. */
typedef struct tn_build_kernel {
  tn_op op;
  const char *const *symbols; /* one per target of its backend */
  tn_dim *dims;
  uint32_t ndims, flags, row; /* row: of the program's kernels */
  uint32_t backend;
  tn_dim scratch;
  const char *key, *choices; /* as in tn_kernel_info */
} tn_build_kernel;

typedef struct tn_build_image {
  uint32_t backend, target;
  tn_buf bytes;
} tn_build_image;

/* Where a step of the program comes from. */
typedef struct tn_build_step {
  tn_op op;
  tn_func func;
} tn_build_step;

typedef struct tn_build {
  tn_arena arena;
  TN_VEC(tn_build_kernel) kernels; /* in op id order */
  TN_VEC(uint32_t) rows;           /* program kernel row -> index into kernels (first with those symbols) */
  TN_VEC(tn_build_image) images;
  TN_VEC(tn_weight) weights;       /* program weight row -> weight */
  TN_VEC(uint64_t) weight_offsets; /* in the weight section; parallel to weights */
  TN_VEC(uint64_t) weight_bytes;
  TN_VEC(uint32_t) weight_owners; /* the backend that packs it; where it stays plain: any */
  uint64_t weights_total;
  tn_buf tokenizer;            /* blob; empty: none */
  tn_buf program;              /* the step program */
  TN_VEC(tn_build_step) steps; /* in the order of the program's rows */
} tn_build;

/* Lays out weights, compiles every kernel for every target, writes the step program. `inplace`: plain weights
 * in one file stay there (program rows name file and offset). mode: TN_WEIGHTS_* of link.h. */
tn_status tn_driver_build(tn_driver *d, tn_module *m, uint32_t mode, tn_build *b);
void tn_build_fini(tn_build *b);
/* The row of a kernel op; NULL: no backend compiled it. */
tn_build_kernel *tn_build_kernel_of(const tn_build *b, tn_op op);

/* Streams the weight section into `out`, on as many threads as it allows; memory stays near the largest panel
 * on each. *hash: of what was written; may be NULL. */
tn_status tn_driver_pack(tn_driver *d, tn_module *m, const tn_build *b, const tn_link_place *out,
                         uint64_t *hash);

/* A model of this process. */
typedef struct tn_jit {
  tn_model *model;
  tn_rt_kernel *kernels;
  void *weights;
  uint64_t weights_bytes;
  const tn_device_api *device; /* NULL: no kernel runs on one */
  tn_bytes *images;            /* for it */
  uint32_t nimages;
  TN_VEC(struct {
    tn_exec *exec;
    uint32_t backend;
  })
  execs;
} tn_jit;
tn_status tn_driver_jit(tn_driver *d, tn_module *m, const tn_build *b, tn_jit *out);
void tn_jit_fini(tn_driver *d, tn_jit *j);

/* aot.c: writes `path` (libfoo.so) and the header beside it (foo.h). `name` NULL: from the path. */
typedef struct tn_aot_result {
  char *header;
  uint64_t library_bytes, weights_bytes;
} tn_aot_result;
tn_status tn_driver_aot(tn_driver *d, tn_module *m, const tn_build *b, uint32_t mode, const char *path,
                        tn_aot_result *out);

/* program.c: the step program of the lowered module. */
tn_status tn_program_write(tn_driver *d, tn_module *m, tn_build *b);

/* work.c: floating-point operations of a kernel, roughly; 0: not known. */
tn_dim tn_kernel_work(tn_module *m, tn_op kernel);
/* The same, 0 for kernels that only pass over their operands, for which it is a guess. */
tn_dim tn_kernel_products(tn_module *m, tn_op kernel);
/* traffic.c: bytes that it has to read and write: weights as they are stored, of tables and caches only what
 * is looked at. *weights: the part of it that is weights. 0: none. */
tn_dim tn_kernel_bytes(tn_module *m, const tn_build *b, tn_op kernel, tn_dim *weights);

/* value.c: the value of a dim when the module's symbols, in order, have the `n` values; others are 0. Exact
 * below 2^53. */
double tn_dim_value(tn_module *m, tn_dim d, const double *values, uint32_t n);

/* plan.c: bytes of a function's arena for these values of the module's symbols. Zeros before plan-memory. */
typedef struct tn_plan_size {
  uint64_t plan;  /* what the runtime takes */
  uint64_t least; /* what lives at the fullest moment: no plan needs less */
} tn_plan_size;
tn_status tn_plan_measure(tn_module *m, tn_func f, const double *values, uint32_t n, tn_plan_size *out);

/* weights.c: reads a weight's plain bytes from its parts, or out of them as its form says. */
typedef struct tn_weight_reader {
  tn_driver *d;
  tn_module *m;
  tn_weight_info info;
  tn_form *form; /* opened by the first read */
  int fd;
  const char *open_file;
} tn_weight_reader;
/* Bytes of the weight's plain type: without a form those of its parts. */
uint64_t tn_weight_bytes(tn_module *m, const tn_weight_info *info);
void tn_weight_reader_init(tn_weight_reader *r, tn_driver *d, tn_module *m, tn_weight w);
tn_status tn_weight_reader_read(void *r, uint64_t off, void *dst, uint64_t len);
void tn_weight_reader_fini(tn_weight_reader *r);

/* progress.c: one line on stderr, only on a terminal and only after a second. */
typedef struct tn_progress {
  const char *what;
  double begin, shown;
  bool on;
} tn_progress;
void tn_progress_begin(tn_progress *p, bool on, const char *what);
void tn_progress_step(tn_progress *p, uint64_t done, uint64_t total);
void tn_progress_end(tn_progress *p);

#endif
