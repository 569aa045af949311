/* cmd_verify.c - tenon verify: do two ways to run a model give the same? Any two of a folder, a GGUF or ONNX
 * file, a library, each with a level and a backend behind an @ (MODEL@O0,ref), and stored tensors: a
 * .safetensors file with their names, or a folder of ONNX test data. */
#include "tools/verify/verify.h"
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

static const uint8_t verify_options[] = {
    OPT_entry,      OPT_input,   OPT_per_node, OPT_atol,     OPT_rtol,         OPT_min_cosine, OPT_max_kl,
    OPT_min_top1,   OPT_max_ppl, OPT_text,     OPT_capacity, OPT_stride,       OPT_chunks,     OPT_batch,
    OPT_prompt_len, OPT_seed,    OPT_threads,  OPT_device,   TN_MODEL_OPTIONS, OPT_plugin,     OPT_report,
    OPT_attention,  OPT_layers,  OPT_json,     OPT_help};

/* ---- outputs ------------------------------------------------------------------------------------------- */

static const char *type_text(tn_verify *v, const tn_tensor *t) {
  tn_buf out = {0};
  const tn_dtype_info *info = tn_ir_dtype_info(t->dtype);
  tn_buf_printf(&out, "%s[", info ? info->name : "?");
  for (uint32_t i = 0; i < t->rank; i++) tn_buf_printf(&out, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
  tn_buf_puts(&out, "]");
  const char *text = tn_arena_str(&v->arena, tn_str_of(tn_buf_cstr(&out)));
  tn_buf_fini(&out);
  return text;
}

static tn_status add_row(tn_verify *v, tn_row row, const tn_tensor *a, const tn_tensor *b, bool typed,
                         bool *ok) {
  if ((typed && a->dtype != b->dtype) || !tn_compare(a, b, v->atol, v->rtol, &row.c)) {
    row.types[0] = type_text(v, a);
    row.types[1] = type_text(v, b);
    row.state = TN_ROW_TYPES;
  } else {
    row.state = row.c.ok ? TN_ROW_OK : v->tolerance ? TN_ROW_DIFFERS : TN_ROW_IGNORED;
    const tn_dtype_info *info = tn_ir_dtype_info(a->dtype);
    if (info && info->cls == TN_CLASS_FLOAT && !(row.c.cosine >= v->cosine)) v->cosine = row.c.cosine;
  }
  *ok = row.state == TN_ROW_OK || row.state == TN_ROW_IGNORED;
  return tn_vec_push(&v->rows, row) ? TN_OK : TN_OOM;
}

/* KL divergence and equal tops over all rows of two f32 outputs of scores; the means are kept. */
static void compare_scores(tn_verify *v, const char *name, const tn_tensor *a, const tn_tensor *b) {
  int64_t columns = a->rank ? a->shape[a->rank - 1] : 0, n = columns > 1 ? tn_tensor_count(a) / columns : 0;
  if (strcmp(name, "logits") || a->dtype != TN_DT_f32 || b->dtype != TN_DT_f32 || !n || v->kl >= 0) return;
  double kl = 0;
  int64_t same = 0;
  for (int64_t i = 0; i < n; i++) {
    bool top;
    kl += tn_score_kl((const float *)a->data + i * columns, (const float *)b->data + i * columns, columns,
                      &top);
    same += top;
  }
  v->kl = kl / (double)n;
  v->top1 = (double)same / (double)n;
}

static tn_status compare_outputs(tn_verify *v, const tn_side *named, bool *ok) {
  tn_side *a = &v->sides[0], *b = &v->sides[1];
  bool typed = a->tensors.onnx || b->tensors.onnx; /* stored in the model's own types */
  int other[TN_VERIFY_TENSORS];
  tn_entry_info e;
  named->o.api->entry(named->o.model, (uint32_t)named->entry, &e);
  if (!a->stored && !b->stored) tn_verify_outputs(a, b, other);
  for (uint32_t i = 0; i < a->nout; i++) {
    tn_arg_info arg;
    named->o.api->output(named->o.model, (uint32_t)named->entry, i, &arg);
    int k = a->stored || b->stored ? (int)i : other[i];
    ok[i] = true;
    if (k < 0) continue;
    tn_row row = {.name = tn_arena_printf(&v->arena, "%s.%s", e.name, arg.name)};
    if (!row.name) return TN_OOM;
    TN_TRY(add_row(v, row, &a->out[i], &b->out[k], typed, &ok[i]));
    if (v->rows.items[v->rows.count - 1].state != TN_ROW_TYPES)
      compare_scores(v, tn_verify_name(arg.name), &a->out[i], &b->out[k]);
  }
  return TN_OK;
}

static tn_status read_outputs(tn_verify *v, const tn_side *runner, tn_side *stored) {
  tn_entry_info e;
  runner->o.api->entry(runner->o.model, (uint32_t)runner->entry, &e);
  for (uint32_t i = 0; i < e.noutputs; i++) {
    tn_arg_info arg;
    runner->o.api->output(runner->o.model, (uint32_t)runner->entry, i, &arg);
    stored->nout = i + 1;
    TN_TRY(tn_stored_read(&stored->tensors, arg.name, &stored->out[i], v->d));
  }
  return TN_OK;
}

/* ---- entry points -------------------------------------------------------------------------------------- */

static tn_status verify_entry(tn_verify *v) {
  tn_side *a = &v->sides[0], *b = &v->sides[1], *runner = a->stored ? b : a;
  bool ok[TN_VERIFY_TENSORS];
  TN_TRY(tn_verify_inputs(v));
  if (!a->stored) TN_TRY(tn_side_run(v, a));
  if (!b->stored) TN_TRY(tn_side_run(v, b));
  if (a->stored || b->stored) TN_TRY(read_outputs(v, runner, a->stored ? a : b));
  TN_TRY(compare_outputs(v, runner, ok));
  if (v->a->given[OPT_report] && !v->keep && !a->stored && !b->stored) TN_TRY(tn_verify_time_sides(v));
  return v->keep ? tn_verify_nodes(v, ok) : TN_OK;
}

/* Against stored tensors: the named entry point, or the first. */
static tn_status verify_stored(tn_verify *v, const char *entry) {
  tn_side *runner = v->sides[0].stored ? &v->sides[1] : &v->sides[0];
  runner->entry = entry ? tn_opened_entry(&runner->o, entry) : 0;
  if (runner->entry < 0)
    return tn_fail(v->d, TN_NOT_FOUND, runner->spec, NULL, "the model has no entry point '%s'", entry);
  return verify_entry(v);
}

static tn_status verify_pairs(tn_verify *v, const char *entry) {
  int other[TN_VERIFY_TENSORS];
  TN_TRY(tn_verify_pairs(v, entry, other, TN_VERIFY_TENSORS));
  for (uint32_t i = 0; i < v->sides[0].o.api->entry_count(v->sides[0].o.model); i++) {
    if (other[i] < 0) continue;
    v->sides[0].entry = (int)i;
    v->sides[1].entry = other[i];
    TN_TRY(verify_entry(v));
    tn_side_end(&v->sides[0]);
    tn_side_end(&v->sides[1]);
  }
  return TN_OK;
}

/* Two files of tensors: all names. */
static tn_status verify_tensors(tn_verify *v) {
  const tn_stored *a = &v->sides[0].tensors, *b = &v->sides[1].tensors;
  if (a->onnx || b->onnx)
    return tn_fail(v->d, TN_INVALID, NULL, NULL,
                   "one side must be a model, a library or a .safetensors file");
  for (uint32_t i = 0; i < a->files.tensors.count; i++) {
    tn_tensor x = {0}, y = {0};
    bool ok;
    tn_row row = {.name = a->files.tensors.items[i].name};
    tn_status s = tn_stored_read(a, row.name, &x, v->d);
    if (s == TN_OK) s = tn_stored_read(b, row.name, &y, v->d);
    if (s == TN_OK) s = add_row(v, row, &x, &y, true, &ok);
    free(x.data), free(y.data);
    TN_TRY(s);
  }
  return TN_OK;
}

static tn_status score_text(tn_verify *v) {
  bool bad = false;
  tn_score_options o = {.text = v->a->last[OPT_text],
                        .context = tn_args_int(v->a, OPT_capacity, TN_SCORE_CONTEXT, &bad),
                        .stride = tn_args_int(v->a, OPT_stride, 0, &bad),
                        .chunks = tn_args_int(v->a, OPT_chunks, 0, &bad),
                        .threads = v->threads,
                        .progress = isatty(STDERR_FILENO)};
  if (bad) return TN_INVALID;
  if (v->sides[0].stored || v->sides[1].stored)
    return tn_fail(v->d, TN_INVALID, NULL, NULL, "--text needs a model or a library on both sides");
  TN_TRY(tn_score_text(&o, &v->sides[1].o, &v->sides[0].o, v->d, &v->scores));
  v->scored = true;
  return TN_OK;
}

/* ---- runs ---------------------------------------------------------------------------------------------- */

static tn_status open_sides(tn_verify *v) {
  const char *const *specs = v->a->positional;
  const char *model = NULL;
  for (int i = 0; i < 2; i++) v->sides[i].stored = tn_stored_is(specs[i]);
  for (int i = 0; i < 2; i++) {
    TN_TRY(tn_side_open(v, &v->sides[i], specs[i]));
    if (!v->sides[i].stored) model = v->sides[i].path;
  }
  for (int i = 0; i < 2; i++)
    if (v->sides[i].stored) TN_TRY(tn_stored_open(&v->sides[i].tensors, specs[i], model, v->d));
  return TN_OK;
}

static tn_status run_once(tn_verify *v, bool text) {
  const char *entry = v->a->last[OPT_entry];
  tn_side_close(&v->sides[0]);
  tn_side_close(&v->sides[1]);
  TN_TRY(open_sides(v));
  bool a = v->sides[0].stored, b = v->sides[1].stored;
  TN_TRY(a && b ? verify_tensors(v) : a || b ? verify_stored(v, entry) : verify_pairs(v, entry));
  return text ? score_text(v) : TN_OK;
}

static uint32_t failed_rows(const tn_verify *v, uint32_t from) {
  uint32_t n = 0;
  for (uint32_t i = from; i < v->rows.count; i++)
    n += v->rows.items[i].state == TN_ROW_DIFFERS || v->rows.items[i].state == TN_ROW_TYPES;
  return n;
}

/* A run with every value kept, of which the values inside are kept as rows. *differ: an output does. */
static tn_status look_inside(tn_verify *v, const char *level, bool *differ) {
  uint32_t from = v->rows.count, kept = from;
  v->keep = true;
  v->level = level;
  v->first = v->first_other = v->first_weight = NULL;
  v->inside = v->common = 0;
  TN_TRY(run_once(v, false));
  *differ = failed_rows(v, from) > 0;
  for (uint32_t i = from; i < v->rows.count; i++)
    if (v->rows.items[i].node) v->rows.items[kept++] = v->rows.items[i];
  v->rows.count = kept;
  return TN_OK;
}

/* Level 0 has every value. Where it does not show the difference the levels that were asked for have to,
 * first with every op as a kernel of its own. */
static tn_status locate(tn_verify *v, bool outputs_differ) {
  static const struct {
    const char *level;
    bool apart;
  } ways[] = {{"O0", false}, {NULL, true}, {NULL, false}};
  bool differ = false, named = v->sides[0].level || v->sides[1].level;
  uint32_t from = v->rows.count;
  for (size_t i = named; i < TN_COUNT(ways); i++) {
    v->rows.count = from;
    v->apart = ways[i].apart;
    TN_TRY(look_inside(v, ways[i].level, &differ));
    if (differ || !outputs_differ) break;
  }
  return TN_OK;
}

static tn_status verify_all(tn_verify *v) {
  bool wanted = v->a->given[OPT_per_node];
  TN_TRY(run_once(v, v->a->given[OPT_text]));
  v->failures = failed_rows(v, 0);
  bool models = v->sides[0].o.module && v->sides[1].o.module;
  if (wanted && !models)
    return tn_fail(v->d, TN_INVALID, NULL, NULL,
                   "--per-node needs models, not libraries or stored tensors, on both sides");
  if (!wanted && (!v->failures || !models)) return TN_OK;
  TN_TRY(locate(v, v->failures));
  v->failures = failed_rows(v, 0);
  return TN_OK;
}

/* ---- limits -------------------------------------------------------------------------------------------- */

static tn_status add_limit(tn_verify *v, uint32_t option, bool most, double value, const char *needs) {
  bool bad = false;
  if (!v->a->given[option]) return TN_OK;
  tn_limit l = {.option = tn_option_name(option), .most = most, .value = value};
  l.limit = tn_args_real(v->a, option, 0, &bad);
  if (bad) return TN_INVALID;
  if (isnan(value)) return tn_fail(v->d, TN_INVALID, NULL, NULL, "--%s needs %s", l.option, needs);
  l.ok = most ? value <= l.limit : value >= l.limit;
  return tn_vec_push(&v->limits, l) ? TN_OK : TN_OOM;
}

static tn_status check_limits(tn_verify *v) {
  const tn_scores *x = &v->scores;
  const char *scores = "language models: an output 'logits', or --text";
  TN_TRY(add_limit(v, OPT_min_cosine, false, v->cosine, "an output of floats"));
  TN_TRY(add_limit(v, OPT_max_kl, true, v->scored ? x->kl_mean : v->kl, scores));
  TN_TRY(add_limit(v, OPT_min_top1, false, v->scored ? x->same_top : v->top1, scores));
  return add_limit(v, OPT_max_ppl, true, v->scored ? x->perplexity / x->base_perplexity - 1 : NAN,
                   "--text FILE");
}

static tn_status read_options(tn_verify *v) {
  const tn_args *a = v->a;
  int64_t batch[2], length[2];
  bool bad = false;
  v->atol = tn_args_real(a, OPT_atol, 1e-4, &bad);
  v->rtol = tn_args_real(a, OPT_rtol, 1e-3, &bad);
  v->seed = tn_args_int(a, OPT_seed, 0, &bad);
  v->threads = (uint32_t)tn_args_int(a, OPT_threads, 0, &bad);
  v->tolerance =
      a->given[OPT_atol] || a->given[OPT_rtol] ||
      !(a->given[OPT_min_cosine] || a->given[OPT_max_kl] || a->given[OPT_min_top1] || a->given[OPT_max_ppl]);
  if (bad) return TN_INVALID;
  if (tn_args_list(a, OPT_batch, "3", batch, 2) != 1 ||
      tn_args_list(a, OPT_prompt_len, "17", length, 2) != 1 || batch[0] < 1 || length[0] < 1)
    return tn_fail(v->d, TN_INVALID, NULL, NULL, "verify takes one positive -b and one --prompt-tokens");
  v->batch = batch[0];
  v->length = length[0];
  return TN_OK;
}

static bool passed(const tn_verify *v) {
  bool ok = !v->failures;
  for (uint32_t i = 0; i < v->limits.count; i++) ok &= v->limits.items[i].ok;
  return ok;
}

static int run_verify(const tn_args *a) {
  tn_diags diags;
  tn_diags_init(&diags);
  tn_verify *v = tn_mem_alloc(sizeof *v);
  if (!v) return tn_tool_finish(a, &diags, TN_OOM);
  *v = (tn_verify){.a = a, .d = &diags, .json = a->given[OPT_json], .cosine = NAN, .kl = NAN, .top1 = NAN};
  tn_arena_init(&v->arena);
  tn_status s = read_options(v);
  if (s == TN_OK) s = verify_all(v);
  if (s == TN_OK) s = check_limits(v);
  tn_verify_show(v, s);
  if (s == TN_OK && a->given[OPT_report]) s = tn_verify_report(v);
  bool ok = passed(v);
  tn_side_close(&v->sides[0]);
  tn_side_close(&v->sides[1]);
  int rc = tn_tool_finish(a, &diags, s);
  tn_vec_fini(&v->rows);
  tn_vec_fini(&v->limits);
  tn_vec_fini(&v->times);
  tn_vec_fini(&v->uses);
  tn_arena_fini(&v->arena);
  tn_diags_fini(&diags);
  tn_mem_free(v);
  return rc ? rc : !ok;
}

const tn_command tn_cmd_verify = {
    "verify",
    "compare two ways to run a model, value by value",
    "A B [--entry NAME] [--per-node] [--atol X] [--rtol X] [--text FILE] [options]",
    "A and B: a folder, a GGUF or ONNX file or a library, optionally with a level and a backend "
    "(MODEL@O0,ref), or\n"
    "stored tensors: a .safetensors file with inputs and outputs by name, or a folder of ONNX test data "
    "(input_0.pb,\n"
    "output_0.pb). A is the one that B is measured by. Without --input the inputs are made up. Where outputs "
    "differ, the\n"
    "first value inside that is to blame is named. Language models are also compared by their scores, over "
    "the tokens\n"
    "of a file with --text FILE.\n"
    "Exit status 1 when a value is outside --atol + --rtol x |B|; when only --min-cosine, --max-kl, "
    "--min-top1 or\n"
    "--max-ppl-increase are given, these decide.",
    verify_options,
    TN_COUNT(verify_options),
    2,
    2,
    run_verify};
