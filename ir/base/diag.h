/* diag.h - collected messages. Code reports here and returns a status; the tool prints, as text or as JSON.
 * A message: "FILE[:LINE[:COL]]: error: TEXT", or "PLACE: error: TEXT" where the place is a node, tensor or
 * key. */
#ifndef TN_DIAG_H
#define TN_DIAG_H
#include "ir/base/base.h"

typedef struct tn_message {
  uint32_t severity;  /* TN_NOTE, TN_WARNING, TN_ERROR */
  uint32_t line, col; /* 1-based; 0: none */
  const char *file;   /* path or page name, or NULL */
  const char *where;  /* "node 12 'layer.0/MatMul'", "tensor 'wte.weight'", "key 'n_head'", or NULL */
  const char *text;   /* lower case, no full stop */
} tn_message;

typedef struct tn_diags {
  tn_arena arena;
  TN_VEC(tn_message) list;
  uint32_t errors, warnings;
  uint32_t limit; /* errors kept; more are counted but dropped. 0: 100 */
  uint32_t busy;  /* atomic: 1 while a thread adds a message; several may */
} tn_diags;

void tn_diags_init(tn_diags *d);
void tn_diags_fini(tn_diags *d);
void tn_diags_add(tn_diags *d, uint32_t severity, const char *file, uint32_t line, uint32_t col,
                  const char *where, const char *fmt, ...) TN_PRINTF(7, 8);
/* Adds an error and returns `status`, for `return tn_fail(...)`. */
tn_status tn_fail(tn_diags *d, tn_status status, const char *file, const char *where, const char *fmt, ...)
    TN_PRINTF(5, 6);
tn_status tn_fail_at(tn_diags *d, tn_status status, const char *file, uint32_t line, uint32_t col,
                     const char *fmt, ...) TN_PRINTF(6, 7);
/* A small file, which appears whole or not at all; a failure is reported. */
tn_status tn_file_write(const char *path, const void *p, uint64_t n, tn_diags *d);
tn_status tn_text_write(const char *path, const tn_buf *text, tn_diags *d);
void tn_diags_text(const tn_diags *d, tn_buf *out, bool colour);
void tn_diags_json(const tn_diags *d,
                   tn_buf *out); /* {"messages": [{"severity", "file", "line", "col", "where", "text"}]} */
#endif
