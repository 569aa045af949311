/* verify.h - what the parts of `tenon verify` share: the two sides, the rows that are shown, the steps of a
 * run. A run opens both sides, pairs their entry points and the names of inputs and outputs, runs them on the
 * same inputs and compares; where outputs differ it opens them again with every value kept and looks for the
 * first value that is to blame. */
#ifndef TN_VERIFY_H
#define TN_VERIFY_H
#include "tools/report/report.h"
#include "tools/verify/compare.h"
#include "tools/verify/score.h"
#include "tools/verify/stored.h"

enum { TN_VERIFY_TENSORS = 256 };
typedef struct tn_side {
  const char *spec, *path; /* path: spec without its settings */
  const char *family;      /* "folder", "gguf", "onnx", "tir", "library", "tensors" */
  const char *pipeline;    /* that it is opened with; NULL: the default */
  bool stored;             /* `tensors` instead of a model */
  bool level;              /* the spec names a level */
  tn_opened o;
  tn_stored tensors;
  tn_session *s;
  int entry;
  tn_tensor in[TN_VERIFY_TENSORS], out[TN_VERIFY_TENSORS];
  bool lent[TN_VERIFY_TENSORS]; /* in[i].data is the other side's */
  uint32_t nin, nout;
} tn_side;

typedef enum tn_row_state {
  TN_ROW_OK,
  TN_ROW_DIFFERS,
  TN_ROW_ORDER,  /* equal but for the order of the elements */
  TN_ROW_LOST,   /* differs, but nothing that is computed from it does */
  TN_ROW_TYPES,  /* shapes or types differ: `types` */
  TN_ROW_IGNORED /* outside the tolerance, which is not asked for */
} tn_row_state;
typedef struct tn_row {
  const char *name, *other; /* other: name on the second side, if it is another one; else NULL */
  const char *weight;       /* of a node: the weight that its op reads, or NULL */
  const char *types[2];
  tn_comparison c;
  tn_row_state state;
  bool node;
} tn_row;
typedef struct tn_limit {
  const char *option, *key;
  double limit, value;
  bool most, ok; /* most: the value may be at most the limit; else at least */
} tn_limit;

/* Of an entry point on both sides. */
typedef struct tn_verify_time {
  const char *what;
  double ms[2];
} tn_verify_time;
typedef struct tn_verify_use {
  const char *what;
  uint64_t bytes[2];
} tn_verify_use;

typedef struct tn_verify {
  const tn_args *a;
  tn_diags *d;
  tn_arena arena;
  tn_side sides[2];
  double atol, rtol;
  bool tolerance; /* whether values outside it count as failures */
  int64_t batch, length, seed;
  uint32_t threads;
  bool json, keep, bad, looked; /* keep: open with every value kept; looked: values inside were compared */
  const char *level;            /* of sides that name none; NULL: the default */
  bool apart;                   /* open with the passes of the level, but every op as a kernel of its own */
  TN_VEC(tn_row) rows;
  TN_VEC(tn_limit) limits;
  TN_VEC(tn_verify_time) times; /* with --report */
  TN_VEC(tn_verify_use) uses;
  uint32_t failures, inside, common; /* inside: values of the first side; common: of these on both */
  const char *first, *first_other;   /* the first value that differs, NULL: none */
  const char *first_weight;
  /* accuracy */
  double cosine, kl,
      top1; /* least cosine of an output; mean KL divergence and part of equal tops, NaN: no scores */
  bool scored;
  tn_scores scores;
} tn_verify;

/* sides.c */
tn_status tn_side_open(tn_verify *v, tn_side *x, const char *spec);
void tn_side_close(tn_side *x);
tn_status tn_side_session(tn_verify *v, tn_side *x, int64_t batch);
void tn_side_end(tn_side *x); /* frees the tensors and the session of one entry point */
tn_status tn_side_run(tn_verify *v, tn_side *x);

/* names.c: input_ids is ids, and so on. */
const char *tn_verify_name(const char *name); /* what a name is called on a page; else itself */
bool tn_verify_same(const char *a, const char *b);
/* For each entry point of the first side, the one of the second; -1: none. TN_NOT_FOUND: no pair. */
tn_status tn_verify_pairs(tn_verify *v, const char *wanted, int *other, uint32_t room);
/* Which output of the second side each of the first side is; -1: none. */
void tn_verify_outputs(const tn_side *a, const tn_side *b, int *other);

/* inputs.c: fills both sides' inputs, from files, stored tensors or numbers made up. */
tn_status tn_verify_inputs(tn_verify *v);
/* Sizes of a shape in the text form of tn_arg_info; false: not of that form. */
typedef int64_t (*tn_size_of)(void *ctx, tn_str symbol);
bool tn_shape_sizes(const char *text, tn_size_of symbol, void *ctx, int64_t *out, uint32_t rank);

/* nodes.c: compares the values inside, after both sides ran with v->keep; sets v->first. output_ok: of the
 * first side's outputs. */
tn_status tn_verify_nodes(tn_verify *v, const bool *output_ok);

/* timing.c: how long both sides take for the inputs they have, and what memory; after they ran. */
tn_status tn_verify_time_sides(tn_verify *v);

/* show.c */
void tn_verify_show(tn_verify *v, tn_status s);
tn_status tn_verify_report(tn_verify *v);

#endif
