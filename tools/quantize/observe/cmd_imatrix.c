/* cmd_imatrix.c - tenon imatrix: the importance of every column of a model's matrices, from a text, as
 * llama-imatrix measures it. */
#include "frontend/gguf/imatrix.h"
#include "tools/quantize/observe/observe.h"
#include "tools/quantize/observe/weight_names.h"
#include <math.h>
#include <stdio.h>

static const uint8_t imatrix_options[] = {
    OPT_output, OPT_capacity, OPT_chunks, OPT_process_output, OPT_imatrix,  OPT_threads, OPT_page,
    OPT_plugin, OPT_backend,  OPT_isa,    OPT_precision,      OPT_no_cache, OPT_json,    OPT_help};

enum { MOST_NAMES = 4 /* tensors of a GGUF file that one weight becomes */ };

/* Where a weight's squares go. */
typedef struct target {
  const tn_part *parts; /* of the weight, which they tell apart */
  uint32_t expert;
  uint32_t n, entry[MOST_NAMES];
} target;

typedef struct collect {
  const tn_args *a;
  tn_diags *d;
  tn_checkpoint *source, *gguf; /* the model under the names of GGUF files; gguf may be source */
  tn_imatrix matrix;
  TN_VEC(double *) sums; /* of each entry, [experts, columns] */
  TN_VEC(target) targets;
  tn_arena arena;
  double *squares; /* of the value seen last: several weights share it */
  uint64_t room;
  const char *seen; /* its place */
  uint64_t run;
} collect;

/* ---- names --------------------------------------------------------------------------------------------- */

/* Those of the layers; with --process-output also the one that gives the logits. */
static bool is_wanted(const collect *c, const tn_ck_tensor *t) {
  return !strncmp(t->name, "blk.", 4) ||
         (c->a->given[OPT_process_output] && !strcmp(t->name, "output.weight"));
}

static tn_status add_entry(collect *c, const tn_ck_tensor *t, uint32_t columns, uint32_t *out) {
  uint32_t experts = t->rank == 3 ? (uint32_t)t->shape[0] : 1;
  const tn_imatrix_entry *e = tn_imatrix_add(&c->matrix, t->name, experts, columns);
  if (!e) return tn_fail(c->d, TN_INVALID, NULL, t->name, "its importance had another size before");
  *out = (uint32_t)(e - c->matrix.entries.items);
  while (c->sums.count <= *out) {
    const tn_imatrix_entry *next = &c->matrix.entries.items[c->sums.count];
    uint64_t n = (uint64_t)next->experts * next->columns;
    double *sums = tn_arena_alloc(&c->arena, n * sizeof *sums);
    for (uint64_t i = 0; sums && i < n; i++) sums[i] = (double)next->sums[i];
    if (!sums || !tn_vec_push(&c->sums, sums)) return TN_OOM;
  }
  return TN_OK;
}

static tn_status make_target(collect *c, const tn_observed *o, target *t) {
  *t = (target){.parts = o->parts, .expert = o->expert};
  uint32_t at;
  for (uint32_t i = 0; (at = tn_weight_tensor(c->gguf, o, i)) != UINT32_MAX && t->n < MOST_NAMES; i++) {
    const tn_ck_tensor *tensor = tn_checkpoint_at(c->gguf, at);
    bool fits = tensor->rank > 1 && tensor->shape[tensor->rank - 1] == o->columns;
    if (fits && is_wanted(c, tensor)) TN_TRY(add_entry(c, tensor, o->columns, &t->entry[t->n++]));
  }
  return TN_OK;
}

static tn_status target_of(collect *c, const tn_observed *o, const target **out) {
  for (uint32_t i = 0; i < c->targets.count; i++) {
    *out = &c->targets.items[i];
    if ((*out)->parts == o->parts && (*out)->expert == o->expert) return TN_OK;
  }
  target t;
  TN_TRY(make_target(c, o, &t));
  if (!tn_vec_push(&c->targets, t)) return TN_OOM;
  *out = &c->targets.items[c->targets.count - 1];
  return TN_OK;
}

/* ---- sums ---------------------------------------------------------------------------------------------- */

static tn_status square(collect *c, const tn_observed *o) {
  if (o->experts == 1 && c->seen == o->value && c->run == o->run) return TN_OK;
  if (o->columns > c->room) {
    tn_mem_free(c->squares);
    c->squares = tn_mem_alloc(o->columns * sizeof *c->squares);
    c->room = c->squares ? o->columns : 0;
    if (!c->squares) return TN_OOM;
  }
  memset(c->squares, 0, o->columns * sizeof *c->squares);
  for (uint64_t r = 0; r < o->nrows; r++) {
    const float *x = o->rows + r * o->columns;
    for (uint32_t k = 0; k < o->columns; k++) c->squares[k] += (double)x[k] * (double)x[k];
  }
  c->seen = o->experts == 1 ? o->value : NULL;
  c->run = o->run;
  return TN_OK;
}

static tn_status add(void *ctx, const tn_observed *o) {
  collect *c = ctx;
  const target *t;
  TN_TRY(target_of(c, o, &t));
  if (!t->n || !o->nrows) return TN_OK;
  TN_TRY(square(c, o));
  for (uint32_t i = 0; i < t->n; i++) {
    tn_imatrix_entry *e = &c->matrix.entries.items[t->entry[i]];
    uint32_t expert = e->experts > 1 ? o->expert : 0;
    double *sums = c->sums.items[t->entry[i]] + (uint64_t)expert * e->columns;
    for (uint32_t k = 0; k < o->columns; k++) sums[k] += c->squares[k];
    e->counts[expert] += (float)o->nrows;
    if (!isfinite(sums[0]))
      return tn_fail(c->d, TN_INVALID, NULL, o->weight, "meets numbers that are not finite");
  }
  return TN_OK;
}

/* ---- the command --------------------------------------------------------------------------------------- */

static tn_status finish(collect *c, const tn_observe_result *r) {
  const char *out = c->a->last[OPT_output] ? c->a->last[OPT_output] : "imatrix.gguf";
  uint32_t partial = 0;
  for (uint32_t i = 0; i < c->matrix.entries.count; i++) {
    tn_imatrix_entry *e = &c->matrix.entries.items[i];
    bool whole = true;
    for (uint64_t k = 0; i < c->sums.count && k < (uint64_t)e->experts * e->columns; k++)
      e->sums[k] = (float)c->sums.items[i][k];
    for (uint32_t x = 0; x < e->experts; x++) whole &= e->counts[x] > 0;
    partial += !whole;
  }
  c->matrix.chunk_tokens = r->chunk_tokens;
  c->matrix.chunks += (uint32_t)r->runs;
  c->matrix.dataset = c->a->positional[1];
  if (!c->matrix.entries.count)
    return tn_fail(c->d, TN_UNSUPPORTED, c->a->positional[0], NULL,
                   "none of the model's products has a name in GGUF files");
  TN_TRY(tn_imatrix_write(&c->matrix, out, c->d));
  if (c->a->given[OPT_json])
    printf("{\"output\": \"%s\", \"matrices\": %u, \"tokens\": %llu, \"chunks\": %u, \"chunk_tokens\": %u, "
           "\"partial\": %u}\n",
           out, c->matrix.entries.count, (unsigned long long)r->tokens, c->matrix.chunks, r->chunk_tokens,
           partial);
  else
    printf("%s: %u matrices, %llu tokens in %u chunks%s\n", out, c->matrix.entries.count,
           (unsigned long long)r->tokens, c->matrix.chunks, partial ? "; some experts met none" : "");
  return TN_OK;
}

static tn_status imatrix(collect *c, const tn_driver_options *driver) {
  bool bad = false;
  const char *earlier, *model = c->a->positional[0];
  tn_observe_options o = {.text = c->a->positional[1],
                          .chunk_tokens = (uint32_t)tn_args_int(c->a, OPT_capacity, 0, &bad),
                          .chunks = (uint32_t)tn_args_int(c->a, OPT_chunks, 0, &bad),
                          .threads = (uint32_t)tn_args_int(c->a, OPT_threads, 0, &bad),
                          .progress = !c->a->given[OPT_json]};
  tn_observe_result r;
  tn_ck_open how = {.pages = driver->pages};
  if (bad) return TN_INVALID;
  TN_TRY(tn_checkpoint_open(model, &how, c->d, &c->source));
  c->gguf = c->source;
  if (tn_checkpoint_format(c->source) != TN_CK_GGUF)
    TN_TRY(tn_checkpoint_convert(c->source, TN_CK_GGUF, c->d, &c->gguf));
  for (uint32_t i = 0; (earlier = tn_args_nth(c->a, OPT_imatrix, i)); i++)
    TN_TRY(tn_imatrix_read(&c->matrix, earlier, c->d));
  TN_TRY(tn_observe(driver, model, &o, add, c, c->d, &r));
  return finish(c, &r);
}

static int run_imatrix(const tn_args *a) {
  tn_diags d;
  tn_driver_options driver;
  collect c = {.a = a, .d = &d};
  tn_diags_init(&d);
  tn_arena_init(&c.arena);
  tn_imatrix_init(&c.matrix);
  tn_args_driver(a, &c.arena, &driver);
  int rc = tn_tool_finish(a, &d, imatrix(&c, &driver));
  if (c.gguf != c.source) tn_checkpoint_close(c.gguf);
  tn_checkpoint_close(c.source);
  tn_mem_free(c.squares);
  tn_vec_fini(&c.sums);
  tn_vec_fini(&c.targets);
  tn_imatrix_fini(&c.matrix);
  tn_arena_fini(&c.arena);
  tn_diags_fini(&d);
  return rc;
}

const tn_command tn_cmd_imatrix = {
    "imatrix",
    "measure how much each column of a model's matrices matters",
    "MODEL TEXT [-o imatrix.gguf] [-c 512] [--chunks N] [options]",
    "The sum of squares of what meets each column over the text's tokens, in llama.cpp's format (GGUF, or "
    ".dat\n"
    "where the name ends so), for tenon quantize --imatrix and llama-quantize. The text is cut as "
    "llama-imatrix\n"
    "cuts it: chunks of -c tokens, each read from an empty cache. --imatrix FILE: adds to these.",
    imatrix_options,
    TN_COUNT(imatrix_options),
    2,
    2,
    run_imatrix};
