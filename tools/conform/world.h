/* world.h - a module with values of its dims, inputs and results: what the reference computes and what a
 * plugin computes are two of these. Buffers end at an inaccessible page, so an access of the host behind the
 * end of a tensor is a crash. */
#ifndef TN_CONFORM_WORLD_H
#define TN_CONFORM_WORLD_H
#include "backends/ref/ref.h"
#include "tools/conform/case.h"

/* Ends the process, which is that of one test: prints the words on stderr, the exit status is 1. */
_Noreturn void tn_trial_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
#define TN_NEED(cond) ((cond) ? (void)0 : tn_trial_fail("%s:%d: not so: %s", __FILE__, __LINE__, #cond))

/* Memory that ends at a wall. */
typedef struct tn_wall {
  void *map, *data;
  size_t size;
} tn_wall;
tn_wall tn_wall_new(uint64_t bytes);
void tn_wall_free(tn_wall *w);

typedef struct tn_held { /* a value with its memory */
  tn_wall mem;           /* empty: it lies in another tensor's */
  tn_ref_tensor t;
  uint64_t bytes; /* at t.data */
} tn_held;
typedef struct tn_world {
  const tn_case *c;
  tn_diags diags;
  tn_module *m;
  tn_func f;
  TN_VEC(tn_held) values; /* by value id */
} tn_world;

/* Parses the case's module and fills arguments, weights and states. */
void tn_world_init(tn_world *w, const tn_case *c);
void tn_world_fini(tn_world *w);
int64_t tn_world_dim(tn_module *m, const tn_case *c, tn_dim d);
tn_held *tn_world_slot(tn_world *w, tn_value v);
/* Memory for a value. */
tn_held *tn_world_make(tn_world *w, tn_value v);
/* Runs the function op by op; the op `return`. */
tn_op tn_world_reference(tn_world *w);
/* The same, but what the reference cannot run (no kernel, inputs that the op does not allow) is a status. */
tn_status tn_world_try_reference(tn_world *w, tn_op *ret, char error[256]);
/* States, then results: `got` is the other world after its run. `where` is for the message. */
void tn_world_compare(tn_world *want, tn_op want_return, tn_world *got, tn_op got_return, const char *where);
#endif
