/* cmd_verify.c - tenon verify: do two ways to run a model give the same? Each side is a model or a library,
 * with a level and a backend behind an @ (MODEL@O0,ref), or stored inputs and outputs: a .safetensors file
 * with their names, or a folder of ONNX test data. */
#include "tools/verify/compare.h"
#include "tools/verify/stored.h"
#include "tools/tool.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const uint8_t verify_options[] = {
    OPT_entry, OPT_input,   OPT_per_node,     OPT_atol,   OPT_rtol, OPT_batch, OPT_prompt_len,
    OPT_seed,  OPT_threads, TN_MODEL_OPTIONS, OPT_plugin, OPT_json, OPT_help};

enum { MAX_TENSORS = 256 };
typedef struct side {
  const char *spec;
  tn_opened o;
  tn_session *s;
  bool stored; /* `tensors` instead of a model */
  tn_stored tensors;
  tn_tensor in[MAX_TENSORS], out[MAX_TENSORS];
  uint32_t nin, nout;
} side;

typedef struct verify {
  const tn_args *a;
  tn_diags *d;
  tn_arena arena;
  side sides[2];
  const char *entry, *model; /* model: the path of a side that is one */
  double atol, rtol;
  uint32_t rows, failures;
  bool json, bad;
} verify;

/* ---- opening the sides
 * -------------------------------------------------------------------------------------------- */

/* "O0,ref" after the @: a level and a backend, in any order. */
static tn_status parse_settings(verify *v, const char *text, tn_driver_options *o) {
  for (const char *s = text; *s;) {
    size_t n = strcspn(s, ",");
    char *word = tn_arena_str(&v->arena, (tn_str){s, n});
    if (!word) return TN_OOM;
    if (word[0] == 'O' && word[1] >= '0' && word[1] <= '3' && !word[2])
      o->pipeline = word;
    else
      o->backend = word;
    s += n + (s[n] == ',');
  }
  return TN_OK;
}

/* A side without its level and backend. */
static char *path_of(verify *v, const char *spec) {
  const char *at = strrchr(spec, '@');
  return tn_arena_str(&v->arena, at ? (tn_str){spec, (uint64_t)(at - spec)} : tn_str_of(spec));
}

static tn_status open_side(verify *v, side *x, const char *spec) {
  x->spec = spec;
  const char *at = strrchr(spec, '@');
  char *path = path_of(v, spec);
  if (!path) return TN_OOM;
  if (x->stored) return tn_stored_open(&x->tensors, spec, v->model, v->d);
  tn_driver_options o;
  tn_args_driver(v->a, &v->arena, &o);
  if (at) TN_TRY(parse_settings(v, at + 1, &o));
  o.keep_values = v->a->given[OPT_per_node];
  return tn_opened_open(&x->o, path, &o, v->d);
}

static tn_status start_session(verify *v, side *x, int64_t batch) {
  if (x->stored) return TN_OK;
  char error[256] = "";
  tn_session_options so = {.size = sizeof so,
                           .error = error,
                           .error_size = sizeof error,
                           .threads = (uint32_t)tn_args_int(v->a, OPT_threads, 0, &v->bad),
                           .batch = batch};
  tn_status s = x->o.api->session_new(x->o.model, &so, &x->s);
  return s == TN_OK ? s : tn_fail(v->d, s, x->spec, NULL, "cannot open a session: %s", error);
}

/* ---- inputs
 * ------------------------------------------------------------------------------------------------------- */

/* Random ids; a ragged mask whose first row is full; as ragged a padding; zeros for types. */
static tn_status generated(verify *v, const side *x, const tn_arg_info *arg, int64_t batch, int64_t length,
                           tn_tensor *t) {
  bool pads = arg->rank == 1 && !strcmp(arg->name, "pads");
  if ((arg->rank != 2 && !pads) || arg->dtype != TN_DT_i32)
    return tn_fail(
        v->d, TN_UNSUPPORTED, NULL, arg->name,
        "only i32 inputs of rank 2 are generated, this is %s %s; use --input or a .safetensors file",
        tn_ir_dtype_info(arg->dtype)->name, arg->shape);
  const char *meta = x->o.api->meta(x->o.model, "vocab");
  uint64_t vocab = meta ? strtoull(meta, NULL, 10) : 100,
           seed = (uint64_t)tn_args_int(v->a, OPT_seed, 0, &v->bad);
  int32_t *data = malloc((size_t)(batch * length + 1) * sizeof *data);
  if (!data) return TN_OOM;
  for (int64_t i = 0; i < batch * length; i++) {
    uint32_t r[4];
    tn_philox((uint64_t)i, seed, r);
    int64_t row = i / length, col = i % length, keep = length - (row * length) / (2 * batch);
    data[i] = !strcmp(arg->name, "mask")    ? col < keep
              : !strcmp(arg->name, "types") ? 0
                                            : (int32_t)(r[0] % (vocab ? vocab : 1));
  }
  for (int64_t row = 0; pads && row < batch; row++) data[row] = (int32_t)((row * length) / (2 * batch));
  *t = (tn_tensor){data, TN_DT_i32, arg->rank, {batch, length}};
  return TN_OK;
}

static const char *input_file(const tn_args *a, const char *name) {
  for (uint32_t k = 0; tn_args_nth(a, OPT_input, k); k++) {
    const char *text = tn_args_nth(a, OPT_input, k), *eq = strchr(text, '=');
    if (eq && tn_str_is((tn_str){text, (uint64_t)(eq - text)}, name)) return eq + 1;
  }
  return NULL;
}

static tn_status prepare_inputs(verify *v, side *runner, side *stored) {
  int64_t batch[2], length[2];
  int entry = tn_opened_entry(&runner->o, v->entry);
  if (entry < 0)
    return tn_fail(v->d, TN_NOT_FOUND, runner->spec, NULL, "the model has no entry point '%s'", v->entry);
  if (tn_args_list(v->a, OPT_batch, "3", batch, 2) != 1 ||
      tn_args_list(v->a, OPT_prompt_len, "17", length, 2) != 1 || batch[0] < 1 || length[0] < 1)
    return tn_fail(v->d, TN_INVALID, NULL, NULL, "verify takes one positive -b and one --prompt-tokens");
  tn_entry_info info;
  runner->o.api->entry(runner->o.model, (uint32_t)entry, &info);
  if (info.ninputs > MAX_TENSORS || info.noutputs > MAX_TENSORS) return TN_UNSUPPORTED;
  for (uint32_t i = 0; i < info.ninputs; i++) {
    tn_arg_info arg;
    runner->o.api->input(runner->o.model, (uint32_t)entry, i, &arg);
    const char *file = input_file(v->a, arg.name);
    runner->nin = i + 1;
    TN_TRY(file     ? tn_npy_read(file, &runner->in[i], v->d)
           : stored ? tn_stored_read(&stored->tensors, arg.name, &runner->in[i], v->d)
                    : generated(v, runner, &arg, batch[0], length[0], &runner->in[i]));
  }
  return TN_OK;
}

static tn_status run_side(verify *v, side *x, const side *inputs) {
  int entry = tn_opened_entry(&x->o, v->entry);
  if (entry < 0)
    return tn_fail(v->d, TN_NOT_FOUND, x->spec, NULL, "the model has no entry point '%s'", v->entry);
  tn_entry_info info;
  x->o.api->entry(x->o.model, (uint32_t)entry, &info);
  if (info.ninputs != inputs->nin)
    return tn_fail(v->d, TN_INVALID, x->spec, NULL, "entry '%s' has %u inputs, the other side has %u",
                   v->entry, info.ninputs, inputs->nin);
  TN_TRY(start_session(v, x, inputs->nin && inputs->in[0].rank ? inputs->in[0].shape[0] : 1));
  x->nout = info.noutputs;
  return tn_invoke_alloc(&x->o, x->s, entry, inputs->in, x->out, v->d);
}

/* ---- comparing
 * ---------------------------------------------------------------------------------------------------- */

/* JSON has no infinity and no NaN: a number that no double holds, and null. */
static void json_number(tn_buf *out, const char *key, double x) {
  if (isnan(x))
    tn_buf_printf(out, ", \"%s\": null", key);
  else if (isinf(x))
    tn_buf_printf(out, ", \"%s\": %s1e999", key, x < 0 ? "-" : "");
  else
    tn_buf_printf(out, ", \"%s\": %.12g", key, x);
}

static void show_json(const char *what, const tn_comparison *c, bool first) {
  const struct {
    const char *key;
    double x;
  } numbers[] = {{"max_abs", c->max_abs},
                 {"max_rel", c->max_rel},
                 {"max_ulp", c->max_ulp},
                 {"cosine", c->cosine},
                 {"nmse", c->nmse},
                 {"a", c->a},
                 {"b", c->b}};
  tn_buf out = {0};
  tn_buf_printf(&out, "%s{\"name\": ", first ? "" : ",\n  ");
  tn_buf_json(&out, tn_str_of(what));
  tn_buf_printf(&out, ", \"ok\": %s, \"index\": %lld", c->ok ? "true" : "false", (long long)c->at);
  for (size_t i = 0; i < TN_COUNT(numbers); i++) json_number(&out, numbers[i].key, numbers[i].x);
  printf("%s}", tn_buf_cstr(&out));
  tn_buf_fini(&out);
}

static void show(verify *v, const char *what, const tn_comparison *c) {
  if (v->json) {
    show_json(what, c, !v->rows);
  } else {
    if (!v->rows)
      printf("%-4s %-44s %10s %10s %10s %12s\n", "", "value", "max abs", "max rel", "max ulp", "cosine");
    printf("%-4s %-44s %10.3g %10.3g %10.3g %12.9f\n", c->ok ? "ok" : "FAIL", what, c->max_abs, c->max_rel,
           c->max_ulp, c->cosine);
  }
  v->rows++;
  v->failures += !c->ok;
}

static void type_text(const tn_tensor *t, tn_buf *out) {
  const tn_dtype_info *info = tn_ir_dtype_info(t->dtype);
  tn_buf_printf(out, "%s[", info ? info->name : "?");
  for (uint32_t i = 0; i < t->rank; i++) tn_buf_printf(out, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
  tn_buf_printf(out, "]");
}

static void show_types(verify *v, const char *what, const tn_tensor *a, const tn_tensor *b) {
  tn_buf types[2] = {0}, name = {0};
  type_text(a, &types[0]);
  type_text(b, &types[1]);
  tn_buf_json(&name, tn_str_of(what));
  if (v->json)
    printf("%s{\"name\": %s, \"ok\": false, \"type_a\": \"%s\", \"type_b\": \"%s\"}", v->rows ? ",\n  " : "",
           tn_buf_cstr(&name), tn_buf_cstr(&types[0]), tn_buf_cstr(&types[1]));
  else
    printf("%-4s %-44s %s against %s\n", "FAIL", what, tn_buf_cstr(&types[0]), tn_buf_cstr(&types[1]));
  tn_buf_fini(&types[0]), tn_buf_fini(&types[1]), tn_buf_fini(&name);
  v->rows++;
  v->failures++;
}

static tn_status compare_outputs(verify *v, const char *const *names, uint32_t n) {
  bool typed = v->sides[0].tensors.onnx || v->sides[1].tensors.onnx; /* stored in the model's own types */
  for (uint32_t i = 0; i < n; i++) {
    tn_comparison c;
    const char *what = tn_arena_printf(&v->arena, "%s.%s", v->entry, names[i]);
    if (!what) return TN_OOM;
    const tn_tensor *a = &v->sides[0].out[i], *b = &v->sides[1].out[i];
    if ((!typed || a->dtype == b->dtype) && tn_compare(a, b, v->atol, v->rtol, &c))
      show(v, what, &c);
    else
      show_types(v, what, a, b);
  }
  return TN_OK;
}

static tn_status compare_nodes(verify *v) {
  tn_nodes nodes[2] = {0};
  tn_status s = TN_OK;
  for (int i = 0; i < 2 && s == TN_OK; i++)
    s = v->sides[i].o.module
            ? tn_nodes_collect(&v->sides[i].o, v->sides[i].s, v->entry, &v->arena, &nodes[i])
            : tn_fail(v->d, TN_INVALID, v->sides[i].spec, NULL,
                      "--per-node needs models, not libraries or stored tensors, on both sides");
  uint32_t matched = 0;
  const char *first = NULL;
  for (uint32_t i = 0; s == TN_OK && i < nodes[0].count; i++) {
    const tn_node *other = tn_nodes_find(&nodes[1], nodes[0].items[i].key);
    const char *maker = nodes[0].items[i].maker;
    tn_comparison c;
    if (tn_nodes_made_by(&nodes[0], maker) != tn_nodes_made_by(&nodes[1], maker)) continue;
    if (!other || !tn_compare(&nodes[0].items[i].value, &other->value, v->atol, v->rtol, &c)) continue;
    matched++;
    show(v, nodes[0].items[i].key, &c);
    if (!c.ok && !first) first = nodes[0].items[i].key;
  }
  if (s == TN_OK && !v->json) {
    printf("%u of %u values of the first side exist in both\n", matched, nodes[0].count);
    if (first) printf("first that differs: %s\n", first);
  }
  tn_vec_fini(&nodes[0]);
  tn_vec_fini(&nodes[1]);
  return s;
}

static tn_status output_names(verify *v, const side *runner, const char **names, uint32_t *n) {
  int entry = tn_opened_entry(&runner->o, v->entry);
  tn_entry_info info;
  runner->o.api->entry(runner->o.model, (uint32_t)entry, &info);
  *n = info.noutputs;
  for (uint32_t i = 0; i < info.noutputs; i++) {
    tn_arg_info arg;
    runner->o.api->output(runner->o.model, (uint32_t)entry, i, &arg);
    names[i] = tn_arena_str(&v->arena, tn_str_of(arg.name));
  }
  return TN_OK;
}

/* Frees the tensors and the session of the entry point that was compared last. */
static void end_entry(side *x) {
  for (uint32_t i = 0; i < x->nin; i++) free(x->in[i].data);
  for (uint32_t i = 0; i < x->nout; i++) free(x->out[i].data);
  if (x->s) x->o.api->session_free(x->s);
  x->nin = x->nout = 0;
  x->s = NULL;
}

static tn_status verify_entry(verify *v, side *runner, side *stored) {
  TN_TRY(prepare_inputs(v, runner, stored));
  const char *names[MAX_TENSORS];
  uint32_t n;
  for (int i = 0; i < 2; i++)
    if (!v->sides[i].stored) TN_TRY(run_side(v, &v->sides[i], runner));
  TN_TRY(output_names(v, runner, names, &n));
  for (uint32_t i = 0; stored && i < n; i++) {
    stored->nout = i + 1;
    TN_TRY(tn_stored_read(&stored->tensors, names[i], &stored->out[i], v->d));
  }
  if (v->a->given[OPT_per_node]) TN_TRY(compare_nodes(v));
  return compare_outputs(v, names, n);
}

/* The named entry point; without a name all, or, against a file of tensors, the first. */
static tn_status verify_all(verify *v) {
  for (int i = 0; i < 2; i++) {
    v->sides[i].stored = tn_stored_is(v->a->positional[i]);
    if (!v->sides[i].stored) v->model = path_of(v, v->a->positional[i]);
  }
  if (v->model)
    for (int i = 0; i < 2; i++) TN_TRY(open_side(v, &v->sides[i], v->a->positional[i]));
  if (v->sides[0].stored && v->sides[1].stored)
    return tn_fail(v->d, TN_INVALID, NULL, NULL, "one side must be a model or a library");
  side *runner = v->sides[0].stored ? &v->sides[1] : &v->sides[0];
  side *stored = v->sides[0].stored ? &v->sides[0] : v->sides[1].stored ? &v->sides[1] : NULL;
  if (v->entry) return verify_entry(v, runner, stored);
  uint32_t entries = stored ? 1 : runner->o.api->entry_count(runner->o.model);
  for (uint32_t e = 0; e < entries; e++) {
    tn_entry_info info;
    TN_TRY(runner->o.api->entry(runner->o.model, e, &info));
    v->entry = tn_arena_str(&v->arena, tn_str_of(info.name));
    TN_TRY(verify_entry(v, runner, stored));
    end_entry(&v->sides[0]);
    end_entry(&v->sides[1]);
  }
  return TN_OK;
}

static void close_side(side *x) {
  end_entry(x);
  if (x->stored) {
    tn_stored_close(&x->tensors);
  } else {
    tn_opened_close(&x->o);
  }
}

static int run_verify(const tn_args *a) {
  tn_diags diags;
  tn_diags_init(&diags);
  verify v = {.a = a, .d = &diags, .entry = a->last[OPT_entry], .json = a->given[OPT_json]};
  v.atol = tn_args_real(a, OPT_atol, 1e-4, &v.bad);
  v.rtol = tn_args_real(a, OPT_rtol, 1e-3, &v.bad);
  tn_arena_init(&v.arena);
  if (v.json) printf("{\"values\": [");
  tn_status s = v.bad ? TN_INVALID : verify_all(&v);
  if (v.json)
    printf("], \"ok\": %s}\n", s == TN_OK && !v.failures ? "true" : "false");
  else if (s == TN_OK)
    printf("%s: %u values compared, %u outside atol %g rtol %g\n", v.failures ? "FAILED" : "PASSED", v.rows,
           v.failures, v.atol, v.rtol);
  close_side(&v.sides[0]);
  close_side(&v.sides[1]);
  int rc = tn_tool_finish(a, &diags, s);
  tn_arena_fini(&v.arena);
  tn_diags_fini(&diags);
  return rc ? rc : v.failures != 0;
}

const tn_command tn_cmd_verify = {
    "verify",
    "compare two ways to run a model, value by value",
    "A B [--entry NAME] [--per-node] [--atol X] [--rtol X] [options]",
    "A and B: a model or a library, optionally with a level and a backend (MODEL@O0,ref); one of them may be "
    "a\n"
    ".safetensors file with inputs and outputs by name, or a folder of ONNX test data (input_0.pb, "
    "output_0.pb).\n"
    "Exit status 1 when a value is outside the tolerance.",
    verify_options,
    TN_COUNT(verify_options),
    2,
    2,
    run_verify};
