/* view.h - a checked step program as typed pointers into its blob. Everything that reads a program goes
 * through here: after tn_view_open every offset, index, name and expression row in it is safe to follow. */
#ifndef TN_VIEW_H
#define TN_VIEW_H
#include "ir/base/base.h"
#include "ir/base/program.h"

/* X(table, row type): the tables of fixed-size rows. */
/* clang-format off */
#define TN_VIEW_TABLES(X)                                                                      \
  X(dims, tn_prog_dim) X(constraints, tn_prog_constraint) X(exprs, tn_prog_expr)               \
  X(entries, tn_prog_entry) X(variants, tn_prog_variant) X(args, tn_prog_arg)                  \
  X(slots, tn_prog_slot) X(steps, tn_prog_step) X(operands, tn_prog_operand)                   \
  X(scalars, uint32_t) X(weights, tn_prog_weight) X(states, tn_prog_state)                     \
  X(kernels, tn_prog_kernel) X(meta, tn_prog_meta) X(binds, tn_prog_bind)                      \
  X(calls, tn_prog_call)
/* clang-format on */

typedef struct tn_view {
  const tn_prog_header *head;
  const char *strings;
#define TN_X(table, row)                                                                                     \
  const row *table;                                                                                          \
  uint32_t n##table;
  TN_VIEW_TABLES(TN_X)
#undef TN_X
} tn_view;

/* Checks the whole blob (which must be 8-byte aligned) and fills v, which points into it. TN_DATA_LOSS:
 * damaged; TN_UNSUPPORTED: another version; `error` gets the words. */
tn_status tn_view_open(tn_bytes blob, tn_view *v, char *error, uint64_t error_size);

static inline const char *tn_view_str(const tn_view *v, uint32_t offset) { return v->strings + offset; }
const char *tn_view_meta(const tn_view *v, const char *key); /* NULL: none */
/* "P + S" and "[B, S, 384]". */
void tn_view_expr_text(const tn_view *v, uint32_t expr, tn_buf *out);
void tn_view_shape_text(const tn_view *v, uint32_t rank, uint32_t shape, tn_buf *out);
/* The dim's largest legal value: its own limit and every constraint `dim <= number`. */
int64_t tn_view_limit(const tn_view *v, uint32_t dim);
/* The weights of adapters (adapter.c): a setting of the session, no memory of tokens. */
bool tn_view_is_setting(const tn_view *v, uint32_t state);
/* Per entry: whether any of its steps, or of an entry that it calls, uses a state. */
void tn_view_find_stateful(const tn_view *v, bool *out);
/* A step that is neither kernel nor copy. */
static inline bool tn_view_is_host(const tn_prog_step *s) {
  return s->kind != TN_PROG_KERNEL && s->kind != TN_PROG_COPY;
}
/* Per kernel row: it runs on the device. */
static inline bool tn_view_is_far(const tn_view *v, uint32_t kernel) {
  return v->head->device &&
         !strcmp(tn_view_str(v, v->kernels[kernel].backend), tn_view_str(v, v->head->device - 1));
}
/* Whether the entry has host steps: sizes that only the run makes known. */
bool tn_view_is_dynamic(const tn_view *v, const tn_prog_entry *e);
/* Bytes of one row-major tensor of n values; false on overflow or an unknown type. */
bool tn_view_bytes(uint32_t dtype, uint64_t n, uint64_t *bytes);
const char *tn_view_dtype_name(uint32_t dtype); /* NULL: no such type */

/* What was found wrong, as text. Returns `status`. error may be NULL. */
tn_status tn_view_fail(char *error, uint64_t error_size, tn_status status, const char *fmt, ...)
    TN_PRINTF(4, 5);

#endif
