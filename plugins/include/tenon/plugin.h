/* tenon/plugin.h - the contract between tenon and a plugin: status, tables, and how versions meet.
 *
 * A plugin is a shared library with one exported symbol, tn_plugin_query. Everything else is fetched from the
 * tn_plugin it answers with, by a versioned string id: "tn.backend/1", "tn.pass/1", "tn.rules/1",
 * "tn.frontend/1". Every table begins with its own size; both sides copy the other's table with tn_take and
 * from then on only test entries for NULL. C11 and C++17; no padding holes; needs libc headers only.
 *
 * Ownership: the table that makes an object frees it. Pointers passed in are valid during the call. Nothing
 * that is returned by pointer has to be freed. A plugin never aborts the process and never prints: the words
 * of an error go to host->diag, the status is only a number. */
#ifndef TENON_PLUGIN_H
#define TENON_PLUGIN_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __cplusplus
extern "C" {
#endif

#define TN_ABI_MAJOR 0u /* while 0, nothing is promised; a change that breaks bumps it */
#ifndef TN_ABI_MINOR
#define TN_ABI_MINOR 4u /* a field appended to a table bumps it: both sides keep working */
#endif
#define TN_ABI ((TN_ABI_MAJOR << 16) | TN_ABI_MINOR)

typedef int32_t tn_status;
enum {
  TN_OK = 0,
  TN_CANCELLED = 1,
  TN_INVALID = 3,      /* the input is wrong: a file, an argument, a shape */
  TN_NOT_FOUND = 5,    /* a named thing is not there */
  TN_OOM = 8,          /* memory ran out */
  TN_PRECONDITION = 9, /* the call is not legal now */
  TN_UNSUPPORTED = 12, /* a legal thing that this code does not implement */
  TN_INTERNAL = 13,    /* a defect of ours */
  TN_UNAVAILABLE = 14, /* a device or file cannot be reached */
  TN_DATA_LOSS = 15    /* stored data is damaged */
};

typedef struct tn_str {
  const char *ptr;
  uint64_t len;
} tn_str; /* UTF-8; need not end in NUL */
typedef struct tn_bytes {
  const void *ptr;
  uint64_t len;
} tn_bytes;

typedef struct tn_module tn_module; /* host-owned; read and changed only through the tn_ir table */
typedef uint32_t tn_func, tn_op, tn_value, tn_type, tn_dim, tn_loc, tn_weight, tn_state; /* ids; 0 is none */
struct tn_ir;                                                                            /* tenon/ir.h */

typedef struct tn_options tn_options; /* host-owned key/value pairs; read with host->option */
typedef struct tn_exec tn_exec;       /* plugin-owned: a loaded kernel package */

/* Bytes of unknown length go out through a writer. */
typedef struct tn_writer {
  void *ctx;
  tn_status (*write)(void *ctx, const void *data, uint64_t len);
} tn_writer;

/* Bytes come in through a reader: copies len bytes at offset off into dst. */
typedef struct tn_reader {
  void *ctx;
  tn_status (*read)(void *ctx, uint64_t off, void *dst, uint64_t len);
} tn_reader;

enum { TN_NOTE = 0, TN_WARNING = 1, TN_ERROR = 2 };
typedef struct tn_diag {
  uint32_t size, severity; /* TN_NOTE, TN_WARNING, TN_ERROR */
  tn_loc loc;              /* 0: no place in the module */
  tn_status status;
  tn_str text; /* lower case, no full stop; names the thing and gives both values */
} tn_diag;

typedef struct tn_host {
  uint32_t size, abi;
  void *ctx;
  void *(*alloc)(void *ctx, void *old, uint64_t old_size,
                 uint64_t new_size);                           /* new_size 0 frees; NULL: no memory */
  void (*diag)(void *ctx, tn_module *m, const tn_diag *d);     /* copies its text */
  const char *(*option)(const tn_options *o, const char *key); /* NULL: not given */
  const void *(*extension)(void *ctx, const char *id);         /* NULL: not there */
  const struct tn_ir *ir;                                      /* read, build, rewrite */
} tn_host;

/* A processor that a backend can compile for. */
typedef struct tn_target {
  uint32_t size;
  uint32_t score;       /* of the variants that run on a machine, the highest score is taken */
  const char *name;     /* "avx2", "avx512": unique in the backend; also the cache key's first part */
  const char *triple;   /* "x86_64-linux-gnu" */
  const char *features; /* cpuid names the machine must have, comma separated; "" for none */
  uint32_t flags;       /* TN_TARGET_* */
  uint32_t reserved;
} tn_target;
enum {                       /* when a target is left out unless it is asked for by name */
       TN_TARGET_FAST = 1,   /* at precision "strict": it would make the same code as one of a lower score */
       TN_TARGET_OPT_IN = 2, /* always */
};

/* How the kernel of a fused region is called, on every thread of the pool at once. A kernel splits its work
 * by thread and nthreads, so that the result does not depend on nthreads. It never blocks or allocates.
 * A thread that is done may take over work of another, where both count what they took: tickets has a word per
 * thread, 64 bytes apart, that all threads of the launch read and change by atomic operations. A word whose
 * upper half is not `launch` is left from an earlier launch and stands for 0; tickets NULL: each thread does
 * its own part, whether the others run or not. */
typedef struct tn_kcall {
  void *const *bufs;   /* inputs, then outputs, in the order of the region's operands and results */
  const int64_t *dims; /* values of the dim expressions that the kernel's tn_kernel_info lists */
  void *scratch;       /* this thread's own scratch bytes, 64-byte aligned */
  void *ctx;           /* as given with the kernel at load */
  uint32_t thread, nthreads;
  uint64_t *tickets;
  uint32_t launch, reserved;
} tn_kcall;
typedef void (*tn_kernel_fn)(const tn_kcall *call);

/* What the compile side tells the host about each kernel, in the order of the function's kernel ops. */
typedef struct tn_kernel_info {
  uint32_t size;
  tn_op op;           /* the kernel op of the function */
  const char *symbol; /* unique in the package */
  const tn_dim *dims; /* dim expressions whose values the kernel reads from tn_kcall.dims */
  uint32_t ndims;
  uint32_t flags; /* TN_KERNEL_SINGLE: only thread 0 does work */
  tn_dim scratch; /* bytes of scratch per thread; 0: none */
  uint32_t reserved;
  /* What the compile option "tuning" may say about this kernel, in a line "KEY NAME=NUMBER ...": its key
   * (letters, digits and _, the same for all kernels with the same code), and the names with numbers worth a
   * try, such as "rows=28,56 depth=512,1024". NULL: nothing. */
  const char *key, *choices;
} tn_kernel_info;
enum { TN_KERNEL_SINGLE = 1 };

/* Where a backend's compile puts its package: one image, and a row per kernel. */
typedef struct tn_package_sink {
  uint32_t size, flags;
  void *ctx;
  tn_status (*image)(void *ctx, tn_bytes image);              /* once; copied */
  tn_status (*kernel)(void *ctx, const tn_kernel_info *info); /* once per kernel op; copied */
  /* optional: a step of the compile took so long; it went over `parts` things, of which `kept` were found
   * made already (both 0: it did not count). */
  void (*phase)(void *ctx, const char *name, double seconds, uint32_t parts, uint32_t kept);
} tn_package_sink;

enum {                       /* what tn_backend.fuse is asked */
       TN_FUSE_PROLOGUE = 1, /* may `op`, which feeds `root`, move into root's kernel? */
       TN_FUSE_EPILOGUE = 2, /* may `op`, which uses root's result, move into root's kernel? */
       TN_FUSE_LOOP = 3      /* may elementwise or view `op` join the loop kernel that `root` began? */
};

/* ---- devices with memory of their own (ABI minor 3) ----------------------------------------------------
 * A backend whose kernels run on a device gives a tn_device_api. The host plans what lies where: weights are
 * loaded once per device, values and states live in memory that it asks for, and copies are steps of its
 * program. Addresses of a device are void *, never followed by the host. A library that was compiled ahead of
 * time carries the same table, so nothing here needs a tn_host: words of an error go where the call says,
 * shortened to fit and ended by NUL. Functions of a tn_device may be called from any thread, those of a
 * tn_queue from one at a time. */
typedef struct tn_device tn_device; /* plugin-owned: an opened device with the kernels of one package */
typedef struct tn_queue tn_queue;   /* plugin-owned: work in order, one per session */

typedef struct tn_device_info {
  uint32_t size, flags;
  const char *spec, *name; /* "cuda:0", "NVIDIA H100 80GB HBM3" */
  const char *uuid;        /* "GPU-8a41...": "cuda:GPU-8a41" is a spec, too */
  const char *arch;        /* "sm_90" */
  uint64_t memory, free;   /* bytes; free: 0 in a list, where it is not known */
  const char *code;        /* of an opened device: which image it took, "cubin sm_90a"; NULL in a list */
} tn_device_info;

typedef struct tn_device_api {
  uint32_t size, flags;
  const char *name; /* the backend's: specs begin with it */
  tn_status (*list)(void (*each)(void *user, const tn_device_info *d), void *user, char *error,
                    uint64_t error_size);
  /* Opens the device that spec names ("cuda", "cuda:1", "cuda:UUID") and takes from `images` (one per target,
   * as compile gave them; they must outlive the device) the one that suits it best. */
  tn_status (*open)(const tn_bytes *images, uint32_t nimages, const char *spec, tn_device **out, char *error,
                    uint64_t error_size);
  void (*close)(tn_device *d);
  void (*info)(const tn_device *d, tn_device_info *out);
  /* The kernel of that symbol, for launch. TN_NOT_FOUND. */
  tn_status (*kernel)(tn_device *d, const char *symbol, uint32_t *out);
  /* Zeroed memory, at a multiple of 256 bytes. `what` names it in an error: "the KV cache". */
  tn_status (*alloc)(tn_device *d, uint64_t bytes, const char *what, void **out, char *error,
                     uint64_t error_size);
  void (*free)(tn_device *d, void *p);
  /* Copies to the device and waits until it is done: weights. Fast from pages that are not pinned. */
  tn_status (*load)(tn_device *d, void *to, const void *from, uint64_t bytes, char *error,
                    uint64_t error_size);

  /* stream: the caller's own (a CUstream), which must outlive the queue; NULL: the queue makes one. */
  tn_status (*queue_new)(tn_device *d, void *stream, tn_queue **out, char *error, uint64_t error_size);
  void (*queue_free)(tn_queue *q);
  /* In order with all else in the queue. upload has read `from` when it returns; download has written `to`.
   */
  tn_status (*upload)(tn_queue *q, void *to, const void *from, uint64_t bytes);
  tn_status (*download)(tn_queue *q, void *to, const void *from, uint64_t bytes);
  tn_status (*zero)(tn_queue *q, void *to, uint64_t bytes);
  /* A run of launches: `numbers` are the tn_kcall.dims of all of them, in the order of launches. Between
   * begin and end come launches only. A run whose launches (kernels, addresses, grids) are those of an
   * earlier one may be replayed as one piece; the numbers may differ. */
  tn_status (*begin)(tn_queue *q, const int64_t *numbers, uint32_t nnumbers);
  /* bufs, dims as in tn_kcall; addresses of the device. dims points into begin's numbers. loc: for errors. */
  tn_status (*launch)(tn_queue *q, uint32_t kernel, void *const *bufs, uint32_t nbufs, const int64_t *dims,
                      uint32_t ndims, void *scratch, const char *loc);
  tn_status (*end)(tn_queue *q);
  tn_status (*wait)(tn_queue *q);          /* until all is done; tells errors of earlier work */
  const char *(*error)(const tn_queue *q); /* words of the queue's last failure */
  /* optional: how often runs were begun, launched kernel by kernel, recorded, and replayed, since the start
   */
  void (*counts)(const tn_queue *q, uint64_t *runs, uint64_t *eager, uint64_t *recorded, uint64_t *replayed);
} tn_device_api;

typedef struct tn_backend { /* table "tn.backend/1" */
  uint32_t size, flags;
  const char *name; /* "cpu", "ref" */
  /* Compile side: needs no device, so it works on any machine. */
  tn_status (*targets)(void *self, void (*each)(void *user, const tn_target *t), void *user);
  /* 1 if the backend can run `op` of module m for target t, else 0; `why` (static text) may name the reason.
   * A `kernel` op that is asked about only gives what it gets: a copy of an argument, a weight or a state
   * that is a result of the function. Who says no gets no such kernel. */
  uint32_t (*claim)(void *self, const tn_target *t, tn_module *m, tn_op op, const char **why);
  /* optional: 1 if `op` may be part of root's kernel in role `role`; NULL means never. */
  uint32_t (*fuse)(void *self, const tn_target *t, tn_module *m, tn_op root, tn_op op, uint32_t role);
  /* optional: the layout (static name, e.g. "panel16") in which kernels want weight w, NULL for plain. Must
   * be the same for all targets of the backend; *bytes gets the packed size. */
  const char *(*layout)(void *self, tn_module *m, tn_weight w, uint64_t *bytes);
  /* optional, needed with layout: streams one weight from plain row-major order into `layout`. Several
   * threads may call it at once, each for another weight; the module does not change meanwhile. */
  tn_status (*pack)(void *self, tn_module *m, tn_weight w, const char *layout, const tn_reader *in,
                    const tn_writer *out);
  /* Compiles all kernel ops of module m whose backend attribute is this backend, in id order. */
  tn_status (*compile)(void *self, const tn_target *t, tn_module *m, const tn_options *o,
                       const tn_package_sink *out);
  /* Run side. */
  tn_status (*runs_here)(void *self, const tn_target *t); /* TN_OK if this machine can run target t */
  tn_status (*load)(void *self, const tn_target *t, tn_bytes image, tn_exec **out);
  tn_status (*kernel)(tn_exec *x, const char *symbol, tn_kernel_fn *fn,
                      void **ctx); /* TN_NOT_FOUND: no such kernel */
  void (*unload)(tn_exec *x);
  /* optional (minor 3): kernels run on a device with memory of its own; load, kernel and unload are not used.
   * The symbols of a kernel are then the same for all targets. */
  const tn_device_api *(*device)(void *self);
} tn_backend;
enum {                       /* flags */
       TN_BACKEND_AOT = 1,   /* images are ELF relocatable objects that a linker can put into an artefact */
       TN_BACKEND_EMBED = 2, /* images are data; the artefact's runtime has the tn_device_api for them */
};

typedef struct tn_pass { /* table "tn.pass/1" */
  uint32_t size, flags;
  const char *name, *summary; /* "fuse-attention" */
  const char *point;          /* "@fuse": where the default pipeline takes it; NULL: only by name */
  const char *options;        /* "max-heads:int=64, strict:bool=0"; NULL: none */
  tn_status (*run)(void *self, tn_module *m, tn_func f, const tn_options *o);
} tn_pass;

typedef struct tn_rules { /* table "tn.rules/1": rewrite rules as text, in the form of passes/rules/ */
  uint32_t size, flags;
  const char *name;
  tn_str text;
} tn_rules;

typedef struct tn_frontend { /* table "tn.frontend/1" */
  uint32_t size, flags;
  const char *name, *summary;
  uint32_t (*probe)(void *self, const char *path); /* 0 not mine ... 100 surely mine */
  tn_status (*import)(void *self, const char *path, tn_module *m, const tn_options *o);
} tn_frontend;

typedef struct tn_plugin {
  uint32_t size, abi;                 /* what the plugin was compiled with */
  const char *id, *version, *summary; /* "org.tenon.cpu" */
  uint64_t flags;
  tn_status (*init)(const tn_host *host, void **self);
  void (*fini)(void *self);
  const void *(*table)(void *self, const char *kind, uint32_t index); /* NULL ends the list */
} tn_plugin;

/* The one symbol a plugin exports. It answers for the host's version, or gives NULL and says why in a static
 * string. It must not allocate, start threads or touch a device: hosts call it to list plugins. */
typedef const tn_plugin *(*tn_plugin_query_fn)(uint32_t host_abi, const char **why);
#ifdef TN_STATIC
#define TN_PLUGIN_SYM(name) tn_plugin_query_##name
#define TN_EXPORT
#else
#define TN_PLUGIN_SYM(name) tn_plugin_query
#define TN_EXPORT __attribute__((visibility("default")))
#endif
#define TN_PLUGIN_ENTRY(name)                                                                                \
  TN_EXPORT const tn_plugin *TN_PLUGIN_SYM(name)(uint32_t host_abi, const char **why);                       \
  TN_EXPORT const tn_plugin *TN_PLUGIN_SYM(name)(uint32_t host_abi, const char **why)

/* Copies a table of the other side into a zero-filled one of this side's size. */
static inline void tn_take(void *mine, uint32_t my_size, const void *theirs) {
  uint32_t n;
  memcpy(&n, theirs, sizeof n);
  memset(mine, 0, my_size);
  memcpy(mine, theirs, n < my_size ? n : my_size);
  memcpy(mine, &my_size, sizeof my_size);
}

#ifdef __cplusplus
}
#endif
#endif
