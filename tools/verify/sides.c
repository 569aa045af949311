/* sides.c - a side of a comparison: a model or a library with a level and a backend behind an @
 * (MODEL@O0,ref), or stored tensors. */
#include "tools/verify/verify.h"
#include <stdlib.h>

/* "O0,ref" after the @: a level and a backend, in any order. */
static tn_status parse_settings(tn_verify *v, tn_side *x, const char *text, tn_driver_options *o) {
  for (const char *s = text; *s;) {
    size_t n = strcspn(s, ",");
    char *word = tn_arena_str(&v->arena, (tn_str){s, n});
    if (!word) return TN_OOM;
    if (word[0] == 'O' && word[1] >= '0' && word[1] <= '3' && !word[2])
      o->pipeline = word, x->level = true;
    else
      o->backend = word;
    s += n + (s[n] == ',');
  }
  return TN_OK;
}

static const char *family_of(const tn_side *x) {
  tn_str path = tn_str_of(x->path);
  return x->stored                      ? "tensors"
         : tn_path_is_artefact(x->path) ? "library"
         : tn_str_ends(path, ".gguf")   ? "gguf"
         : tn_str_ends(path, ".onnx")   ? "onnx"
         : tn_str_ends(path, ".tir")    ? "tir"
                                        : "folder";
}

/* The passes of a level without the forming of kernels. */
static const char *apart(tn_verify *v, const char *level) {
  static const char whole[] = ", fuse,";
  const char *text = tn_pipeline_text(level), *at = text ? strstr(text, whole) : NULL;
  if (!at) return level;
  return tn_arena_printf(&v->arena, "%.*s, fuse{max=1},%s", (int)(at - text), text, at + sizeof whole - 1);
}

tn_status tn_side_open(tn_verify *v, tn_side *x, const char *spec) {
  const char *at = strrchr(spec, '@');
  x->spec = spec;
  x->path = tn_arena_str(&v->arena, at ? (tn_str){spec, (uint64_t)(at - spec)} : tn_str_of(spec));
  if (!x->path) return TN_OOM;
  x->family = family_of(x);
  if (x->stored) return TN_OK;
  tn_driver_options o;
  tn_args_driver(v->a, &v->arena, &o);
  o.target = NULL; /* --device says where the sides run that name its backend */
  if (v->level && !o.pipeline) o.pipeline = v->level;
  if (at) TN_TRY(parse_settings(v, x, at + 1, &o));
  if (v->apart) o.pipeline = apart(v, o.pipeline ? o.pipeline : "O3");
  if (v->arena.failed) return TN_OOM;
  x->pipeline = o.pipeline;
  o.keep_values = v->keep;
  return tn_opened_open(&x->o, x->path, &o, v->d);
}

tn_status tn_side_session(tn_verify *v, tn_side *x, int64_t batch) {
  char error[256] = "";
  tn_session_options so = {
      .size = sizeof so, .error = error, .error_size = sizeof error, .threads = v->threads, .batch = batch};
  if (x->o.jit.device) so.device = x->o.device; /* the other side may well run here */
  tn_status s = x->o.api->session_new(x->o.model, &so, &x->s);
  return s == TN_OK ? s : tn_fail(v->d, s, x->spec, NULL, "cannot open a session: %s", error);
}

tn_status tn_side_run(tn_verify *v, tn_side *x) {
  tn_entry_info info;
  x->o.api->entry(x->o.model, (uint32_t)x->entry, &info);
  TN_TRY(tn_side_session(v, x, x->nin && x->in[0].rank && x->in[0].shape[0] > 0 ? x->in[0].shape[0] : 1));
  x->nout = info.noutputs;
  return tn_invoke_alloc(&x->o, x->s, x->entry, x->in, x->out, v->d);
}

void tn_side_end(tn_side *x) {
  for (uint32_t i = 0; i < x->nin; i++)
    if (!x->lent[i]) free(x->in[i].data);
  for (uint32_t i = 0; i < x->nout; i++) free(x->out[i].data);
  if (x->s) x->o.api->session_free(x->s);
  memset(x->lent, 0, sizeof x->lent);
  x->nin = x->nout = 0;
  x->s = NULL;
}

void tn_side_close(tn_side *x) {
  tn_side_end(x);
  if (x->stored) {
    tn_stored_close(&x->tensors);
    memset(&x->tensors, 0, sizeof x->tensors);
  } else {
    tn_opened_close(&x->o);
  }
}
