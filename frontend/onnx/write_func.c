/* write_func.c - which functions of the module make the graph, what its inputs and outputs are called, and
 * the walk over the ops. Names and types are those that Optimum gives a model of the task; a function without
 * task keeps its own. Decoders get attention_mask and position_ids, and their states are inputs and outputs.
 */
#include "frontend/onnx/write_graph.h"
#include <string.h>

/* ---- ops -------------------------------------------------------------------------------------------------
 */
typedef struct op_row {
  const char *name, *onnx; /* onnx: the op of the same meaning; NULL: write */
  tn_ow_op_fn write;
  uint32_t bf16; /* the opset from which `onnx` takes it */
} op_row;
static const op_row rows[] = {
#define TN_OW_SAME(op, onnx, bf16) {#op, onnx, NULL, bf16},
#define TN_OW_OP(op, words) {#op, NULL, tn_ow_op_##op, 0},
#define TN_OW_TYPE(dtype, number, opset)
#include "frontend/onnx/export.def"
};

static const op_row *row_of(const char *op) {
  for (uint32_t i = 0; i < TN_COUNT(rows); i++)
    if (!strcmp(rows[i].name, op)) return &rows[i];
  return NULL;
}

static void write_op(tn_ow *w, tn_op op) {
  const char *name = w->ir->opcode_name(w->ir->opcode(w->m, op));
  const op_row *r = row_of(name);
  if (!r) return tn_ow_fail(w, TN_UNSUPPORTED, "op '%s' has no form in ONNX", name);
  if (r->write) return r->write(w, op);
  tn_ov a = tn_ow_in(w, op, 0), b = w->ir->op_noperands(w->m, op) > 1 ? tn_ow_in(w, op, 1) : 0;
  tn_dtype own = tn_ow_dtype(w, a);
  const tn_dtype_info *d = w->ir->dtype_info(own);
  if (d && d->cls == TN_CLASS_FLOAT && (d->bits < 16 || (own == TN_DT_bf16 && w->o.opset < r->bf16)))
    a = tn_ow_cast(w, a, TN_DT_f32), b = tn_ow_cast(w, b, TN_DT_f32);
  tn_ow_out(w, op, 0, tn_ow_cast(w, b ? tn_ow_binary(w, r->onnx, a, b) : tn_ow_unary(w, r->onnx, a), own));
}

void tn_ow_op_return(tn_ow *w, tn_op op) { (void)w, (void)op; }

/* Texts are bytes, starts and lengths in the IR; ONNX's strings cannot be taken apart like that. */
static void of_text(tn_ow *w) {
  tn_ow_fail(w, TN_UNSUPPORTED, "an op on the bytes of texts has no form in ONNX");
}
void tn_ow_op_copy_ranges(tn_ow *w, tn_op op) { (void)op, of_text(w); }
void tn_ow_op_equal_ranges(tn_ow *w, tn_op op) { (void)op, of_text(w); }
void tn_ow_op_split_ranges(tn_ow *w, tn_op op) { (void)op, of_text(w); }
void tn_ow_op_change_case(tn_ow *w, tn_op op) { (void)op, of_text(w); }

void tn_ow_function_body(tn_ow *w, tn_func f, const tn_ov *args, tn_ov *results) {
  tn_func outer = w->func;
  tn_op at = w->op;
  tn_func_info info;
  w->ir->func_get(w->m, f, &info);
  for (uint32_t i = 0; i < info.nargs; i++) tn_ow_bind(w, info.args[i], args[i]);
  w->func = f;
  for (tn_op op = w->ir->first_op(w->m, f, 0); op && !tn_ow_failed(w); op = w->ir->next_op(w->m, op)) {
    w->op = op;
    if (!strcmp(w->ir->opcode_name(w->ir->opcode(w->m, op)), "return"))
      for (uint32_t i = 0; i < info.nresults; i++) results[i] = tn_ow_in(w, op, i);
    else
      write_op(w, op);
  }
  w->func = outer;
  w->op = at;
}

/* ---- tasks -----------------------------------------------------------------------------------------------
 */
typedef struct task_row {
  const char *task, *func, *first; /* first: the function of outputs in front of its own */
} task_row;
static const task_row tasks[] = {
    {"feature-extraction", "encode", NULL},
    {"sentence-similarity", "embed", "encode"},
    {"fill-mask", "fill_mask", NULL},
    {"text-classification", "classify", NULL},
    {"token-classification", "classify_tokens", NULL},
    {"question-answering", "answer", NULL},
    {"text-generation-with-past", "logits", NULL},
    {"text-generation", "logits", NULL},
};

static tn_func func_named(const tn_ow *w, const char *name) {
  tn_func_info info;
  for (tn_func f = 1; name && f <= w->ir->func_count(w->m); f++) {
    w->ir->func_get(w->m, f, &info);
    if (!strcmp(info.name, name)) return f;
  }
  return 0;
}

static bool is_private(const tn_ow *w, tn_func f) {
  tn_attr a;
  return w->ir->func_attr(w->m, f, "private", &a) || w->ir->func_attr(w->m, f, "variant_of", &a);
}

/* Of --task, or of what the model was trained for; NULL: none, the one function is written as it is. */
static const task_row *choose_task(tn_ow *w) {
  const char *task = w->o.task, *own = w->ir->meta_get(w->m, "task");
  tn_buf known = {0};
  const task_row *found = NULL;
  if (w->o.entry || (!task && !own)) return NULL;
  if (!task && func_named(w, "embed")) task = "sentence-similarity";
  if (!task) task = own;
  if (!w->o.task && !strcmp(task, "text-generation") && w->ir->state_count(w->m))
    task = "text-generation-with-past";
  for (uint32_t i = 0; i < TN_COUNT(tasks); i++) {
    if (!func_named(w, tasks[i].func)) continue;
    tn_buf_printf(&known, "%s%s", known.len ? ", " : "", tasks[i].task);
    if (!strcmp(task, tasks[i].task)) found = &tasks[i];
  }
  if (!found && w->o.task)
    tn_ow_fail(w, TN_INVALID, "the model cannot be exported for task '%s'; it can for: %s", task,
               known.len ? tn_buf_cstr(&known) : "none");
  tn_buf_fini(&known);
  return found;
}

static tn_func choose_func(tn_ow *w) {
  tn_func found = 0;
  uint32_t n = 0;
  tn_buf names = {0};
  for (tn_func f = 1; f <= w->ir->func_count(w->m); f++) {
    tn_func_info info;
    if (is_private(w, f)) continue;
    w->ir->func_get(w->m, f, &info);
    tn_buf_printf(&names, "%s%s", n++ ? ", " : "", info.name);
    if (!w->o.entry || !strcmp(w->o.entry, info.name)) found = f;
  }
  if (w->o.entry && !found)
    tn_ow_fail(w, TN_NOT_FOUND, "no entry point '%s'; the model has: %s", w->o.entry, tn_buf_cstr(&names));
  else if (!w->o.entry && n != 1)
    tn_ow_fail(w, TN_INVALID,
               "an ONNX model has one graph, and this module has %u entry points; --entry chooses: %s", n,
               tn_buf_cstr(&names));
  tn_buf_fini(&names);
  return found;
}

/* ---- inputs and outputs
 * ------------------------------------------------------------------------------------ */
typedef struct name_row {
  const char *ours, *theirs;
} name_row;
static const name_row arg_names[] = {
    {"ids", "input_ids"}, {"mask", "attention_mask"}, {"types", "token_type_ids"}};
static const name_row result_names[] = {{"hidden", "last_hidden_state"},
                                        {"start", "start_logits"},
                                        {"end", "end_logits"},
                                        {"embedding", "sentence_embedding"}};

static const char *theirs(const name_row *list, uint32_t n, const char *ours) {
  for (uint32_t i = 0; i < n; i++)
    if (!strcmp(list[i].ours, ours)) return list[i].theirs;
  return ours;
}

static tn_ow_shape type_of(tn_ow *w, tn_type type) {
  tn_type_info t;
  w->ir->type_get(w->m, type, &t);
  tn_ow_shape s = {.dtype = t.dtype, .rank = t.rank};
  for (uint32_t i = 0; i < t.rank; i++) s.dims[i] = tn_ow_settled(w, t.dims[i]);
  return s;
}

static tn_ov size_input(tn_ow *w, const char *name, const tn_ow_shape *t) {
  (void)tn_ow_elem(w, t->dtype);
  tn_ov v = tn_ow_input(w, name, t);
  if (v) tn_ow_sizes_of(w, v);
  return v;
}

static void make_args(tn_ow *w, tn_func f, bool task, tn_ov *args) {
  tn_func_info info;
  w->ir->func_get(w->m, f, &info);
  for (uint32_t i = 0; i < info.nargs; i++) {
    tn_value_info v;
    w->ir->value_get(w->m, info.args[i], &v);
    tn_ow_shape t = type_of(w, v.type), own = t;
    if (task && t.dtype == TN_DT_i32) t.dtype = TN_DT_i64; /* what tokenizers give */
    args[i] = tn_ow_cast(
        w,
        size_input(w, task ? theirs(arg_names, TN_COUNT(arg_names), info.arg_names[i]) : info.arg_names[i],
                   &t),
        own.dtype);
  }
}

/* What the function of a decoder does: are there attentions, is the position of tokens counted from the
 * cache. */
static void look(tn_ow *w, tn_func f, bool *attends, bool *positions) {
  for (tn_op op = w->ir->first_op(w->m, f, 0); op; op = w->ir->next_op(w->m, op)) {
    const char *name = w->ir->opcode_name(w->ir->opcode(w->m, op));
    tn_attr shape, start;
    tn_value_info v = {0};
    if (w->ir->op_nresults(w->m, op)) w->ir->value_get(w->m, w->ir->op_result(w->m, op, 0), &v);
    if (!v.nuses) continue;
    *attends = *attends || !strcmp(name, "attention");
    if (!strcmp(name, "iota") && w->ir->op_attr(w->m, op, "shape", &shape) && shape.count == 1 &&
        w->ir->op_attr(w->m, op, "start", &start))
      *positions = *positions || start.u.dim == w->position;
  }
}

static void decoder_inputs(tn_ow *w, tn_func f) {
  tn_func_info info;
  tn_value_info ids;
  tn_type_info t;
  bool attends = false, positions = false;
  w->ir->func_get(w->m, f, &info);
  w->ir->value_get(w->m, info.args[0], &ids);
  w->ir->type_get(w->m, ids.type, &t);
  look(w, f, &attends, &positions);
  if (t.rank != 2) return;
  tn_dim keys = tn_ow_dmake(w, TN_DIM_ADD, tn_ow_settled(w, w->position), t.dims[1]);
  const tn_ow_shape mask = {TN_DT_i64, 2, {t.dims[0], keys}}, where = {TN_DT_i64, 2, {t.dims[0], t.dims[1]}};
  if (attends) w->attention_mask = size_input(w, "attention_mask", &mask);
  if (positions) w->position_ids = size_input(w, "position_ids", &where);
}

/* kcache.3 is layer 3's key; other states have their own names. */
static const char *state_label(tn_ow *w, const char *state, bool present) {
  const char *dot = strrchr(state, '.'), *layer = dot ? dot + 1 : "";
  if (dot && !strncmp(state, "kcache.", 7))
    return tn_arena_printf(&w->arena, "%s.%s.key", present ? "present" : "past_key_values", layer);
  if (dot && !strncmp(state, "vcache.", 7))
    return tn_arena_printf(&w->arena, "%s.%s.value", present ? "present" : "past_key_values", layer);
  return tn_arena_printf(&w->arena, "%s_%s", present ? "present" : "past", state);
}

static bool uses_state(tn_ow *w, tn_func f, tn_state s) {
  tn_state_info info;
  tn_value_info v;
  w->ir->state_get(w->m, s, &info);
  w->ir->value_get(w->m, info.value, &v);
  for (uint32_t i = 0, operand; i < v.nuses; i++)
    if (w->ir->op_func(w->m, w->ir->value_use(w->m, info.value, i, &operand)) == f) return true;
  return false;
}

static void state_in(tn_ow *w, tn_state s) {
  static const int64_t tokens_first[] = {0, 2, 1, 3};
  tn_state_info info;
  tn_type_info t;
  w->ir->state_get(w->m, s, &info);
  w->ir->type_get(w->m, info.type, &t);
  tn_ow_shape shape = type_of(w, info.type);
  bool grows = tn_ow_state_grows(w, &t);
  if (w->ir->dtype_info(t.dtype)->cls == TN_CLASS_BLOCK)
    return tn_ow_fail(w, TN_UNSUPPORTED, "state '%s' is packed as %s; ONNX caches are f32, f16 or bf16",
                      info.name, w->ir->dtype_info(t.dtype)->name);
  if (grows && !w->position)
    return tn_ow_fail(w, TN_UNSUPPORTED, "the module does not say how many tokens state '%s' holds",
                      info.name);
  if (grows) shape.dims[1] = shape.dims[2], shape.dims[2] = w->position; /* heads in front of tokens */
  const char *name = state_label(w, info.name, false);
  if (!w->past && grows) return;
  if (!name) return tn_ow_fail(w, TN_OOM, "out of memory");
  tn_ov v = w->past ? size_input(w, name, &shape)
                    : tn_ow_expand(w, tn_ow_scalar(w, shape.dtype, 0), shape.dims, shape.rank);
  w->states[s] = grows ? tn_ow_transpose(w, v, tokens_first) : v;
}

static void state_out(tn_ow *w, tn_state s) {
  static const int64_t heads_first[] = {0, 2, 1, 3};
  tn_state_info info;
  tn_type_info t;
  w->ir->state_get(w->m, s, &info);
  w->ir->type_get(w->m, info.type, &t);
  const char *name = state_label(w, info.name, true);
  if (!name) return tn_ow_fail(w, TN_OOM, "out of memory");
  tn_ow_output(w, name,
               tn_ow_state_grows(w, &t) ? tn_ow_transpose(w, w->states[s], heads_first) : w->states[s]);
}

/* Writes one function and adds its results; `rename`: the first result is called so. */
static void add_function(tn_ow *w, tn_func f, const tn_ov *args, bool task, const char *rename) {
  tn_func_info info;
  w->ir->func_get(w->m, f, &info);
  tn_ov *results = tn_arena_alloc(&w->arena, (info.nresults + 1) * sizeof *results);
  if (!results) return tn_ow_fail(w, TN_OOM, "out of memory");
  tn_ow_function_body(w, f, args, results);
  for (uint32_t i = 0; i < info.nresults; i++) {
    const char *own = info.result_names[i];
    tn_ow_output(w,
                 rename && !i ? rename
                 : task       ? theirs(result_names, TN_COUNT(result_names), own)
                              : own,
                 results[i]);
  }
}

static void model_of(tn_ow *w, tn_func f, const task_row *task) {
  tn_func_info info;
  w->ir->func_get(w->m, f, &info);
  tn_ov *args = tn_arena_alloc(&w->arena, (info.nargs + 1) * sizeof *args);
  if (!args) return tn_ow_fail(w, TN_OOM, "out of memory");
  w->func = f;
  const char *module = w->ir->module_name(w->m);
  (void)tn_ow_graph_begin(w, task && module ? module : info.name);
  make_args(w, f, task != NULL, args);
  if (task && w->position && info.nargs == 1) decoder_inputs(w, f);
  for (tn_state s = 1; s <= w->ir->state_count(w->m); s++)
    if (uses_state(w, f, s)) state_in(w, s);
  tn_func first = task ? func_named(w, task->first) : 0;
  if (first) add_function(w, first, args, true, "token_embeddings");
  add_function(w, f, args, task != NULL, NULL);
  for (tn_state s = 1; s <= w->ir->state_count(w->m) && w->past; s++)
    if (uses_state(w, f, s)) state_out(w, s);
  tn_ow_graph_end(w);
}

static tn_dim meta_dim(tn_ow *w, const char *key) {
  const char *name = w->ir->meta_get(w->m, key);
  return name ? w->ir->dim_sym(w->m, name) : 0;
}

void tn_ow_model(tn_ow *w) {
  w->position = meta_dim(w, "dim.position");
  w->capacity = meta_dim(w, "dim.capacity");
  const task_row *task = choose_task(w);
  tn_func f = tn_ow_failed(w) ? 0 : task ? func_named(w, task->func) : choose_func(w);
  w->task = task != NULL;
  w->past = !task || strcmp(task->task, "text-generation");
  if (f) model_of(w, f, task);
}
