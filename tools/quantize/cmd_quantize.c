/* cmd_quantize.c - `tenon quantize`: opens a model, plans, encodes it tensor by tensor into a new file or
 * folder, and says what that cost. */
#include "tools/quantize/quantize.h"
#include "tools/report/attention.h"
#include <stdlib.h>
#include <strings.h>
#include <sys/resource.h>
#include <unistd.h>

static const uint8_t quantize_options[] = {
    OPT_dry_run,      OPT_tensor_type, OPT_tensor_type_file, OPT_output_type, OPT_embedding_type,
    OPT_leave_output, OPT_pure,        OPT_allow_requantize, OPT_imatrix,     OPT_fallback,
    OPT_target_bpw,   OPT_target_size, OPT_max_kld,          OPT_types,       OPT_eval,
    OPT_chunks,       OPT_capacity,    OPT_sensitivity,      OPT_attention,   OPT_layers,
    OPT_group_size,   OPT_asymmetric,  OPT_calibration,      OPT_method,      OPT_report,
    OPT_pack,         OPT_page,        OPT_plugin,           OPT_backend,     OPT_isa,
    OPT_threads,      OPT_json,        OPT_verbose,          OPT_help,        TN_INT8_OPTIONS};

enum { QUANTIZATION_VERSION = 2 /* of the block formats in GGUF files */ };

/* ---- what is asked ------------------------------------------------------------------------------------- */

static tn_status wrong_scheme(tn_diags *d, const char *name) {
  const char *names[128];
  char low[64];
  uint32_t n = tn_scheme_count() < TN_COUNT(names) ? tn_scheme_count() : TN_COUNT(names);
  for (uint32_t i = 0; i < n; i++) names[i] = tn_scheme_at(i)->name;
  snprintf(low, sizeof low, "%s", name);
  for (char *p = low; *p; p++) *p = (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
  int near = tn_str_nearest(low, names, (int)n);
  if (near < 0)
    return tn_fail(d, TN_INVALID, NULL, NULL, "'%s' is no scheme; `tenon quantize --help` lists them", name);
  return tn_fail(d, TN_INVALID, NULL, NULL, "'%s' is no scheme; did you mean %s?", name, names[near]);
}

/* IN OUT SCHEME; IN SCHEME with --dry-run; IN OUT where a search finds the types. */
static tn_status read_words(tn_quantize *q) {
  const tn_args *a = q->args;
  const char *last = a->positional[a->npositional - 1];
  q->in = a->positional[0];
  q->out = a->npositional > 2 ? a->positional[1] : NULL;
  q->scheme = tn_scheme_find(last);
  if (!q->scheme && a->npositional == 2 && tn_quantize_searches(a)) {
    q->out = last;
    q->scheme = tn_scheme_find("Q4_K_M");
  }
  if (!q->scheme) return wrong_scheme(q->diags, last);
  if (!q->out && !a->given[OPT_dry_run])
    return tn_fail(q->diags, TN_INVALID, NULL, NULL,
                   "where to? IN OUT SCHEME, or --dry-run to write nothing");
  bool folder =
      (q->scheme->flags & TN_SCHEME_FOLDER) || (q->scheme->type < TN_DT_BLOCK && tn_path_is_dir(q->in));
  if (q->out) folder = !tn_str_ends(tn_str_of(q->out), ".gguf");
  q->format = folder ? TN_CK_FOLDER : TN_CK_GGUF;
  if (q->format == TN_CK_GGUF && (q->scheme->flags & TN_SCHEME_FOLDER))
    return tn_fail(q->diags, TN_INVALID, q->out, NULL,
                   "%s is for packed folders; in GGUF files Q8_0, Q4_0, IQ4_NL and MXFP4 are closest",
                   q->scheme->name);
  return TN_OK;
}

/* The type of most matrices, and how a folder holds it. */
static tn_status read_type(tn_quantize *q) {
  const tn_args *a = q->args;
  bool bad = false, asymmetric = a->given[OPT_asymmetric];
  q->type = q->scheme->type;
  if ((a->given[OPT_group_size] || asymmetric) && !(q->scheme->flags & TN_SCHEME_GROUP))
    return tn_fail(q->diags, TN_INVALID, NULL, NULL,
                   "%s has no groups to choose; INT8, INT4, INT3 and INT2 have", q->scheme->name);
  if (a->given[OPT_group_size] || asymmetric) {
    bool row = strstr(tn_ir_dtype_info(q->type)->name, "_row") != NULL;
    int64_t group = tn_args_int(a, OPT_group_size, row ? 0 : 128, &bad);
    bool has_zero = asymmetric || tn_ir_dtype_info(q->type)->name[0] == 'u';
    if (bad) return TN_INVALID;
    q->type = tn_scheme_group_type(q->scheme, (uint32_t)group, has_zero);
    if (!q->type)
      return tn_fail(q->diags, TN_INVALID, NULL, NULL, "--group-size: %lld is none of 32, 64, 128 and 0",
                     (long long)group);
  }
  if (q->format != TN_CK_FOLDER || q->type < TN_DT_BLOCK) return TN_OK;
  const char *name = a->last[OPT_pack];
  if (!name && (q->scheme->flags & TN_SCHEME_DYNAMIC)) name = "int-quantized";
  q->pack = name ? tn_ck_pack_named(name) : tn_ck_pack_for(q->type);
  if (name && !q->pack)
    return tn_fail(q->diags, TN_INVALID, NULL, NULL, "--pack: there is no layout '%s'", name);
  return TN_OK;
}

/* ---- what saving asks ---------------------------------------------------------------------------------- */

static const float *importance(void *ctx, uint32_t i, uint64_t *rows) {
  tn_quantize *q = ctx;
  *rows = q->tensors[i].importance_rows;
  return q->tensors[i].importance;
}

static void done(void *ctx, uint32_t i, const tn_ck_error *e) {
  tn_quantize *q = ctx;
  q->tensors[i].error = *e;
  q->done++;
  if (q->args->given[OPT_json] || (!isatty(STDERR_FILENO) && !q->args->given[OPT_verbose])) return;
  fprintf(stderr, "\r[%u/%u] %-48.48s", q->done, q->count, q->tensors[i].t->name);
  if (q->done == q->count) fputs("\r\033[K", stderr);
}

/* The file type that a mix is nearest to: of the scheme whose type has the most values. */
static int32_t file_type(const tn_quantize *q) {
  if (!tn_quantize_searches(q->args) && !q->args->given[OPT_pure]) return q->scheme->file_type;
  uint64_t most = 0;
  int32_t best = q->scheme->file_type;
  for (uint32_t i = 0; i < tn_scheme_count(); i++) {
    const tn_scheme *s = tn_scheme_at(i);
    uint64_t n = 0;
    for (uint32_t k = 0; s->file_type >= 0 && k < q->count; k++)
      if (q->tensors[k].to == s->type) n += q->tensors[k].rows * q->tensors[k].columns;
    if (n > most) most = n, best = s->file_type;
  }
  return best;
}

static void keys(void *ctx, tn_gguf_writer *w) {
  tn_quantize *q = ctx;
  int32_t type = file_type(q);
  tn_gguf_put_u32(w, "general.quantization_version", QUANTIZATION_VERSION);
  if (type >= 0) tn_gguf_put_u32(w, "general.file_type", (uint32_t)type);
  if (!q->has_imatrix) return;
  tn_gguf_put_string(w, "quantize.imatrix.file", tn_str_of(q->args->last[OPT_imatrix]));
  if (q->imatrix.dataset) tn_gguf_put_string(w, "quantize.imatrix.dataset", tn_str_of(q->imatrix.dataset));
  tn_gguf_put_u32(w, "quantize.imatrix.entries_count", q->imatrix.entries.count);
  tn_gguf_put_u32(w, "quantize.imatrix.chunks_count", q->imatrix.chunks);
}

static void set_save(tn_quantize *q) {
  q->save = (tn_ck_save){.threads = q->threads,
                         .types = q->types,
                         .importance = q->has_imatrix ? importance : NULL,
                         .done = done,
                         .keys = keys,
                         .pack = q->pack,
                         .ctx = q};
}

/* ---- the run ------------------------------------------------------------------------------------------- */

/* Packed layouts are of matrices whose rows are what products sum over. */
static tn_status check_layout(tn_quantize *q) {
  const char *arch = tn_checkpoint_architecture(q->source);
  if (!q->pack || !arch || strncasecmp(arch, "gpt2", 4)) return TN_OK;
  return tn_fail(
      q->diags, TN_UNSUPPORTED, q->in, NULL,
      "matrices of GPT-2 lie transposed in folders, which packed layouts have no place for: write a "
      "GGUF file (OUT.gguf)");
}

static tn_status open_model(tn_quantize *q) {
  tn_ck_open o = {.pages = q->driver.pages};
  TN_TRY(tn_checkpoint_open(q->in, &o, q->diags, &q->source));
  TN_TRY(check_layout(q));
  TN_TRY(tn_checkpoint_convert(q->source, q->format, q->diags, &q->view));
  q->count = tn_checkpoint_count(q->view);
  q->tensors = tn_arena_alloc(&q->arena, (q->count + 1) * sizeof *q->tensors);
  q->types = tn_arena_alloc(&q->arena, (q->count + 1) * sizeof *q->types);
  return q->tensors && q->types ? TN_OK : TN_OOM;
}

/* Reading and writing the same files would destroy the model. */
static tn_status check_out(tn_quantize *q) {
  char *in = realpath(q->in, NULL), *out = q->out ? realpath(q->out, NULL) : NULL;
  bool same = in && out && !strcmp(in, out);
  free(in), free(out);
  return same ? tn_fail(q->diags, TN_INVALID, q->out, NULL, "is the model that is read") : TN_OK;
}

static void report_run(tn_quantize *q, double seconds) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  tn_quantize_report(q);
  tn_report_phase(&q->report, "quantize", seconds);
  tn_report_memory(&q->report, "peak of the run", 0, (uint64_t)u.ru_maxrss * 1024);
}

static tn_status quantize(tn_quantize *q) {
  double begin = tn_now();
  TN_TRY(read_words(q));
  TN_TRY(check_out(q));
  TN_TRY(read_type(q));
  TN_TRY(open_model(q));
  TN_TRY(tn_quantize_plan(q));
  set_save(q);
  if (tn_quantize_searches(q->args)) TN_TRY(tn_quantize_search(q));
  if (!q->args->given[OPT_dry_run]) TN_TRY(tn_quantize_calibrated(q));
  if (q->args->given[OPT_sensitivity]) TN_TRY(tn_quantize_sensitivity(q));
  if (q->args->given[OPT_dry_run]) {
    tn_quantize_print(q, true, 0);
    return TN_OK;
  }
  TN_TRY(tn_checkpoint_save(q->view, q->out, &q->save, q->diags));
  tn_quantize_print(q, false, tn_now() - begin);
  report_run(q, tn_now() - begin);
  TN_TRY(tn_report_attention_asked(&q->report, q->args, q->out, q->diags));
  const char *place = q->args->last[OPT_report];
  return tn_report_write(&q->report, place ? place : q->out, q->diags);
}

static void close_all(tn_quantize *q) {
  tn_quantize_calibrated_end(q);
  tn_report_fini(&q->report);
  tn_imatrix_fini(&q->imatrix);
  if (q->view && q->view != q->source) tn_checkpoint_close(q->view);
  if (q->source) tn_checkpoint_close(q->source);
  tn_arena_fini(&q->arena);
}

/* Schemes for ONNX files have a way of their own. */
static bool is_onnx(const tn_args *a) {
  const tn_scheme *s = tn_scheme_find(a->positional[a->npositional - 1]);
  return s && (s->flags & TN_SCHEME_ONNX) && a->npositional == 3;
}

static int run_quantize(const tn_args *a) {
  if (is_onnx(a)) return tn_quantize_onnx(a);
  tn_quantize q = {.args = a};
  tn_diags diags;
  bool bad = false;
  tn_diags_init(&diags);
  tn_arena_init(&q.arena);
  tn_imatrix_init(&q.imatrix);
  tn_report_init(&q.report, "quantize", a);
  q.diags = &diags;
  tn_args_driver(a, &q.arena, &q.driver);
  q.threads = (uint32_t)tn_args_int(a, OPT_threads, 0, &bad);
  tn_status s = bad ? TN_INVALID : quantize(&q);
  close_all(&q);
  int rc = bad ? 2 : tn_tool_finish(a, &diags, s);
  tn_diags_fini(&diags);
  return rc;
}

const tn_command tn_cmd_quantize = {
    "quantize",
    "make a model smaller: block formats, mixes, packed folders",
    "IN OUT SCHEME [options]",
    "IN is a Hugging Face folder or a GGUF file; OUT.gguf is written as GGUF, any other OUT as a folder.\n"
    "GGUF, with the mixes of llama-quantize: Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q4_K_M, Q4_K_S, Q3_K_L, Q3_K_M, "
    "Q3_K_S,\n"
    "Q2_K, Q2_K_S, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, IQ4_XS, IQ3_M, IQ3_S, IQ3_XS, IQ3_XXS, IQ2_M, IQ2_S, "
    "IQ2_XS,\n"
    "IQ2_XXS, IQ1_M, IQ1_S, TQ2_0, TQ1_0, Q2_0, Q1_0, MXFP4, MXFP4_MOE, NVFP4. Packed folders: INT8, INT4, "
    "INT3,\n"
    "INT2, NF4, FP4, FP8, W8A8, MXFP4, NVFP4. Both: F32, F16, BF16, COPY. ONNX: INT8-DYNAMIC, INT8-STATIC.\n"
    "--dry-run prints the plan: type, bits per weight and bytes of each tensor. A tensor whose rows do not "
    "fit the\n"
    "blocks of its type is an error, unless --fallback says what becomes of it. --target-bpw, --target-size "
    "and\n"
    "--max-kld search a mix of their own.",
    quantize_options,
    TN_COUNT(quantize_options),
    2,
    3,
    run_quantize};
