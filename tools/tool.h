/* tool.h - what the commands of the tenon binary share: options, output, opening a model. */
#ifndef TN_TOOL_H
#define TN_TOOL_H
#include "tools/driver/driver.h"

enum {
#define TN_OPTION(id, name, letter, arg, help) OPT_##id,
#include "tools/options.def"
#undef TN_OPTION
  OPT_COUNT
};

/* The command line after parsing. */
typedef struct tn_args {
  const char *const *positional;
  uint32_t npositional;
  uint32_t given[OPT_COUNT];   /* how often */
  const char *last[OPT_COUNT]; /* argument of the last one, or NULL */
  struct {
    uint32_t option;
    const char *value;
  } *all; /* in order */
  uint32_t nall;
} tn_args;

typedef struct tn_command {
  const char *name, *summary, *usage; /* usage: after "tenon NAME " */
  const char *details;                /* a paragraph of help, may be NULL */
  const uint8_t *options;             /* OPT_ ids */
  uint32_t noptions, min_positional, max_positional;
  int (*run)(const tn_args *a); /* exit status */
} tn_command;

extern const tn_command tn_cmd_chat, tn_cmd_compile, tn_cmd_run, tn_cmd_opt, tn_cmd_verify, tn_cmd_check,
    tn_cmd_inspect, tn_cmd_ops, tn_cmd_formats, tn_cmd_models, tn_cmd_plugins, tn_cmd_bench,
    tn_cmd_perplexity, tn_cmd_grammar, tn_cmd_export, tn_cmd_optimize, tn_cmd_quantize, tn_cmd_imatrix,
    tn_cmd_run_recipe, tn_cmd_conform, tn_cmd_devices;

int tn_tool_main(int argc, char **argv);

const char *tn_option_name(uint32_t option); /* without dashes */
/* The i-th argument of a repeated option; NULL past the end. */
const char *tn_args_nth(const tn_args *a, uint32_t option, uint32_t i);
/* Numbers; a wrong one prints a message and exits 2 through *bad. */
int64_t tn_args_int(const tn_args *a, uint32_t option, int64_t fallback, bool *bad);
double tn_args_real(const tn_args *a, uint32_t option, double fallback, bool *bad);
/* "1,2,8" -> numbers; count 0 on a bad list (a message was printed). */
uint32_t tn_args_list(const tn_args *a, uint32_t option, const char *fallback, int64_t *out, uint32_t room);
/* --affinity; 0: not given, or bad (a message was printed, *bad). */
uint32_t tn_args_cores(const tn_args *a, uint32_t *out, uint32_t room, bool *bad);
void tn_args_driver(const tn_args *a, tn_arena *arena, tn_driver_options *o);

/* Prints what was collected on stderr, with --json and an error as JSON, and gives the exit status: 0, or 1
 * when there were errors or s is not TN_OK. */
int tn_tool_finish(const tn_args *a, tn_diags *d, tn_status s);

/* A model ready to run, from an artefact or compiled in this process. */
enum { TN_MAX_CORES = 256 };
typedef struct tn_opened {
  const tn_model_api *api;
  tn_model *model;
  tn_driver driver;
  tn_module *module; /* NULL for an artefact */
  tn_build build;
  tn_jit jit;
  void *library;
  bool has_driver, has_build;
  const char *adapters;                 /* of a library: NAME[=WEIGHT], ':' between; NULL: as it was made */
  uint32_t cores[TN_MAX_CORES], ncores; /* of sessions' threads; ncores 0: any */
  const char *device;                   /* of sessions; NULL: the first one, if any is needed */
} tn_opened;
tn_status tn_opened_open(tn_opened *o, const char *path, const tn_driver_options *options, tn_diags *d);
/* A session, with the adapter weights that the options ask of a library. Errors are reported. */
tn_status tn_opened_session(const tn_opened *o, tn_session_options *options, tn_session **out, tn_diags *d);
void tn_opened_close(tn_opened *o);
bool tn_path_is_artefact(const char *path);
/* Index of an entry point; -1: none. */
int tn_opened_entry(const tn_opened *o, const char *name);

/* frame.c: the frame of a command: makes a driver (or opens the model or library that the first argument
 * names), runs `work`, prints the messages, gives the exit status. The module that work leaves in *m is
 * freed. */
typedef tn_status (*tn_driver_work)(const tn_args *a, tn_driver *d, tn_module **m);
int tn_tool_with_driver(const tn_args *a, tn_driver_work work);
typedef tn_status (*tn_model_work)(const tn_args *a, tn_opened *o, tn_diags *d);
int tn_tool_with_model(const tn_args *a, tn_model_work work);

/* .npy files (NumPy format 1.0 to 3.0, little-endian, C order). The tensor's data is heap memory. */
tn_status tn_npy_read(const char *path, tn_tensor *out, tn_diags *d);
tn_status tn_npy_write(const char *path, const tn_tensor *t, tn_diags *d);
uint64_t tn_tensor_bytes(const tn_tensor *t);
int64_t tn_tensor_count(const tn_tensor *t);
/* Element i as a double, of any plain type. */
double tn_tensor_at(const tn_tensor *t, int64_t i);

/* Runs one entry point: allocates the outputs (heap). */
tn_status tn_invoke_alloc(const tn_opened *o, tn_session *s, int entry, const tn_tensor *in, tn_tensor *out,
                          tn_diags *d);

/* How a model is read: for every command that imports one. */
#define TN_MODEL_OPTIONS                                                                                     \
  OPT_precision, OPT_quantize, OPT_task, OPT_page, OPT_kv, OPT_adapter, OPT_adapter_mode, OPT_shapes,        \
      OPT_fix, OPT_no_cache

/* sampling.c: the options that steer generation, as what the runtime takes. `o` points into the rest. */
#define TN_SAMPLING_OPTIONS                                                                                  \
  OPT_tokens, OPT_temperature, OPT_top_k, OPT_top_p, OPT_min_p, OPT_typical_p, OPT_repetition,               \
      OPT_frequency, OPT_presence, OPT_last_n, OPT_dry_multiplier, OPT_dry_base, OPT_dry_length,             \
      OPT_dry_last_n, OPT_dry_breaker, OPT_logit_bias, OPT_stop, OPT_logprobs, OPT_grammar, OPT_json_schema, \
      OPT_draft, OPT_draft_tokens, OPT_draft_ngram, OPT_seed
typedef struct tn_sampling_args {
  tn_sampling o;
  tn_generation result; /* what o.result points to */
  tn_arena arena;
  tn_buf grammar;
  tn_opened draft;
  bool has_draft;
} tn_sampling_args;
/* The draft's session gets the capacity and threads of `so`. */
tn_status tn_sampling_read(const tn_args *a, const tn_session_options *so, tn_sampling_args *out,
                           tn_diags *d);
void tn_sampling_free(tn_sampling_args *s); /* safe after a failed read */
const char *tn_finish_name(uint32_t finish);

/* tasks.c: the readable tasks of `tenon run`. */
tn_status tn_task_run(const tn_args *a, tn_opened *o, tn_diags *d);

#endif
