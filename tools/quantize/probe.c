/* probe.c - the model with other types, for a moment: written beside OUT, run on --eval against the model
 * that is read, and removed. */
#include "tools/quantize/quantize.h"
#include "tools/verify/score.h"
#include <stdlib.h>
#include <unistd.h>

struct tn_qprobe {
  tn_quantize *q;
  tn_opened base;
  bool has_base;
  char *path;
  tn_score_options score;
};

static tn_status open_probe(tn_qprobe *p) {
  tn_quantize *q = p->q;
  bool bad = false;
  p->score = (tn_score_options){.text = q->args->last[OPT_eval], .threads = q->threads};
  p->score.context = tn_args_int(q->args, OPT_capacity, TN_SCORE_CONTEXT, &bad);
  p->score.chunks = tn_args_int(q->args, OPT_chunks, 0, &bad);
  if (bad) return TN_INVALID;
  if (!p->score.text)
    return tn_fail(q->diags, TN_INVALID, NULL, NULL, "--max-kld and --sensitivity need a text: --eval FILE");
  if (q->format != TN_CK_GGUF)
    return tn_fail(q->diags, TN_UNSUPPORTED, q->out, NULL, "is measured as a GGUF file only: OUT.gguf");
  const char *tmp = getenv("TMPDIR"), *folder = tmp && *tmp ? tmp : "/tmp";
  p->path = q->out ? tn_arena_printf(&q->arena, "%s.probe-%ld.gguf", q->out, (long)getpid())
                   : tn_arena_printf(&q->arena, "%s/tenon.probe-%ld.gguf", folder, (long)getpid());
  if (!p->path) return TN_OOM;
  p->has_base = true;
  return tn_opened_open(&p->base, q->in, &q->driver, q->diags);
}

tn_status tn_qprobe_open(tn_quantize *q, tn_qprobe **out) {
  *out = tn_mem_alloc(sizeof **out);
  if (!*out) return TN_OOM;
  (*out)->q = q;
  return open_probe(*out);
}

/* What is worth a warning is said when the file itself is written. */
static tn_status save_quietly(tn_quantize *q, const char *path, const tn_ck_save *save) {
  tn_diags d;
  tn_diags_init(&d);
  tn_status s = tn_checkpoint_save(q->view, path, save, &d);
  for (uint32_t i = 0; s && i < d.list.count; i++) {
    const tn_message *m = &d.list.items[i];
    tn_diags_add(q->diags, m->severity, m->file, m->line, m->col, m->where, "%s", m->text);
  }
  tn_diags_fini(&d);
  return s;
}

tn_status tn_qprobe_measure(tn_qprobe *p, const tn_dtype *types, double *kl) {
  tn_quantize *q = p->q;
  tn_ck_save save = q->save;
  tn_opened model;
  tn_scores scores;
  save.types = types;
  save.done = NULL;
  TN_TRY(save_quietly(q, p->path, &save));
  tn_status s = tn_opened_open(&model, p->path, &q->driver, q->diags);
  if (!s) s = tn_score_text(&p->score, &model, &p->base, q->diags, &scores);
  tn_opened_close(&model);
  unlink(p->path);
  if (!s) *kl = scores.kl_mean;
  return s;
}

void tn_qprobe_close(tn_qprobe *p) {
  if (!p) return;
  if (p->has_base) tn_opened_close(&p->base);
  tn_mem_free(p);
}

/* ---- sensitivity --------------------------------------------------------------------------------------- */

/* Tensors of the same layer; those without one are of the embedding, or of what comes behind the layers. */
static bool is_of(const tn_qtensor *t, int32_t layer) {
  if (t->t->layer >= 0 || layer >= 0) return t->t->layer == layer;
  return (t->cls == TN_SC_EMBEDDING) == (layer == -2);
}

static tn_status measure_layer(tn_quantize *q, tn_qprobe *p, int32_t layer, tn_dtype *types) {
  uint64_t before = 0, after = 0;
  double kl;
  char name[32];
  for (uint32_t i = 0; i < q->count; i++) {
    const tn_qtensor *t = &q->tensors[i];
    bool changes = is_of(t, layer) && tn_quantize_encodes(t);
    types[i] = changes ? t->to : t->t->dtype;
    if (changes) before += t->t->bytes, after += t->bytes;
  }
  if (!before) return TN_OK;
  TN_TRY(tn_qprobe_measure(p, types, &kl));
  snprintf(name, sizeof name, layer == -2 ? "embeddings" : layer == -1 ? "head" : "layer %d", layer);
  if (!q->args->given[OPT_json])
    printf("%-12s %12llu -> %12llu bytes, KL divergence %.6f\n", name, (unsigned long long)before,
           (unsigned long long)after, kl);
  tn_report_layer(&q->report, name, before, after, kl);
  return TN_OK;
}

tn_status tn_quantize_sensitivity(tn_quantize *q) {
  tn_qprobe *p;
  tn_dtype *types = tn_arena_alloc(&q->arena, (q->count + 1) * sizeof *types);
  int32_t layers = (int32_t)tn_checkpoint_layers(q->source);
  tn_status s = tn_qprobe_open(q, &p);
  if (!s && !types) s = TN_OOM;
  for (int32_t i = -2; s == TN_OK && i < layers; i++) s = measure_layer(q, p, i, types);
  tn_qprobe_close(p);
  return s;
}
