/* importance.c - importance matrices: mean squares of what meets each column, handed to the encoders. Files
 * name tensors as GGUF does; a folder's tensors are found through its GGUF view. */
#include "tools/quantize/quantize.h"

/* The number in "experts.N." of a name, and the name with 0 for it; false: there is none. */
static bool expert_of(const char *name, uint32_t *expert, char *first, size_t room) {
  static const char word[] = "experts.";
  const char *at = strstr(name, word);
  int n = 0;
  if (!at || sscanf(at + strlen(word), "%u%n", expert, &n) != 1) return false;
  at += strlen(word);
  return snprintf(first, room, "%.*s0%s", (int)(at - name), name, at + n) < (int)room;
}

/* The name that imatrix files use for a tensor of a folder: that of the view's tensor with the same source;
 * of an expert that of the stack, whose source is the first one. */
static tn_status name_tensor(tn_quantize *q, tn_qtensor *t, const tn_checkpoint *gguf,
                             const tn_map *by_source) {
  char first[512];
  uint64_t at;
  if (!t->t->source) return TN_OK;
  bool found = tn_map_get(by_source, tn_str_of(t->t->source), &at);
  if (expert_of(t->t->source, &t->expert, first, sizeof first) && !found)
    found = tn_map_get(by_source, tn_str_of(first), &at);
  if (!found) return TN_OK;
  t->gguf_name = tn_arena_str(&q->arena, tn_str_of(tn_checkpoint_at(gguf, (uint32_t)at)->name));
  return t->gguf_name ? TN_OK : TN_OOM;
}

static tn_status name_by_source(tn_quantize *q) {
  tn_checkpoint *gguf;
  tn_map by_source;
  TN_TRY(tn_checkpoint_convert(q->source, TN_CK_GGUF, q->diags, &gguf));
  tn_status s = TN_OK;
  tn_map_init(&by_source);
  for (uint32_t i = 0; s == TN_OK && i < tn_checkpoint_count(gguf); i++) {
    const tn_ck_tensor *t = tn_checkpoint_at(gguf, i);
    if (t->source) s = tn_map_put(&by_source, tn_str_of(t->source), i, NULL);
  }
  for (uint32_t i = 0; s == TN_OK && i < q->count; i++) s = name_tensor(q, &q->tensors[i], gguf, &by_source);
  tn_map_fini(&by_source);
  tn_checkpoint_close(gguf);
  return s;
}

/* Means of an entry. Experts that nothing met count every column alike. */
static const float *means_of(tn_arena *a, const tn_imatrix_entry *e) {
  float *m = tn_arena_alloc(a, (size_t)e->experts * e->columns * sizeof *m);
  for (uint32_t x = 0; m && x < e->experts; x++)
    for (size_t k = (size_t)x * e->columns; k < (size_t)(x + 1) * e->columns; k++)
      m[k] = e->counts[x] > 0 ? e->sums[k] / e->counts[x] : 1;
  return m;
}

static tn_status wrong_size(tn_quantize *q, const tn_qtensor *t, const tn_imatrix_entry *e, uint64_t stack) {
  return tn_fail(q->diags, TN_INVALID, q->args->last[OPT_imatrix], t->gguf_name,
                 "importance of %u x %u, the tensor has %llu x %llu", e->experts, e->columns,
                 (unsigned long long)stack, (unsigned long long)t->columns);
}

static tn_status attach(tn_quantize *q, tn_qtensor *t) {
  if (!t->gguf_name || t->cls == TN_SC_KEEP) return TN_OK;
  const tn_imatrix_entry *e = tn_imatrix_find(&q->imatrix, t->gguf_name);
  if (!e) return TN_OK;
  uint64_t stack = t->t->rank > 2 ? (uint64_t)t->t->shape[0] : 1, numbers = (uint64_t)e->experts * e->columns;
  for (uint64_t i = 0; i < numbers; i++)
    if (!(e->sums[i] >= 0) || e->sums[i] > 3e38f)
      return tn_fail(q->diags, TN_INVALID, q->args->last[OPT_imatrix], t->gguf_name,
                     "importance of column %llu is %g", (unsigned long long)(i % e->columns),
                     (double)e->sums[i]);
  const float *means = means_of(&q->arena, e);
  if (!means) return TN_OOM;
  bool one = e->columns == t->columns && t->t->rank == 2; /* of a plain matrix, or one expert's of a stack */
  if (one && t->expert >= e->experts) return wrong_size(q, t, e, stack);
  if (!one && (numbers != stack * t->columns && (e->columns != t->columns || e->experts != 1)))
    return wrong_size(q, t, e, stack);
  t->importance = one && e->experts > 1 ? means + (size_t)t->expert * e->columns : means;
  t->importance_rows = one ? 1 : numbers / t->columns;
  return TN_OK;
}

/* Matrices inside layers that the files say nothing of: calibration did not reach them, or names differ. */
static void warn_missing(tn_quantize *q) {
  const tn_qtensor *first = NULL;
  uint32_t n = 0;
  for (uint32_t i = 0; i < q->count; i++) {
    const tn_qtensor *t = &q->tensors[i];
    if (t->cls == TN_SC_KEEP || t->cls == TN_SC_EMBEDDING || t->cls == TN_SC_OUTPUT || t->importance)
      continue;
    if (!n++) first = t;
  }
  if (n)
    tn_diags_add(q->diags, TN_WARNING, q->args->last[OPT_imatrix], 0, 0, NULL,
                 "nothing about %u of the matrices, such as '%s': they are encoded without importance", n,
                 first->t->name);
}

tn_status tn_quantize_importance(tn_quantize *q) {
  const char *path;
  uint32_t found = 0;
  if (!q->args->last[OPT_imatrix]) return TN_OK;
  q->has_imatrix = true;
  for (uint32_t i = 0; (path = tn_args_nth(q->args, OPT_imatrix, i)); i++)
    TN_TRY(tn_imatrix_read(&q->imatrix, path, q->diags));
  if (q->format == TN_CK_FOLDER) TN_TRY(name_by_source(q));
  for (uint32_t i = 0; i < q->count; i++) {
    if (q->format == TN_CK_GGUF) q->tensors[i].gguf_name = q->tensors[i].t->name;
    TN_TRY(attach(q, &q->tensors[i]));
    found += q->tensors[i].importance != NULL;
  }
  if (found) warn_missing(q);
  return found ? TN_OK
               : tn_fail(q->diags, TN_INVALID, q->args->last[OPT_imatrix], NULL,
                         "none of its %u entries is of this model", q->imatrix.entries.count);
}
