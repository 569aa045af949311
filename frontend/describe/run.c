/* run.c - statements, and the build: for each graph whose `when` holds one function of the module. */
#include "frontend/describe/eval.h"

/* ---- statements ------------------------------------------------------------------------------ */
/* Messages from here on are about this place; the prelude's are about the line of the page that called it. */
static void place(tn_eval *ev, tn_pos pos) {
  if (ev->frame->page->prelude) ev->pos = pos;
}

/* The value of a condition; false: no condition, reported. */
static bool condition(tn_eval *ev, const tn_expr *e, bool *yes) {
  tn_val v = tn_eval_expr(ev, e);
  place(ev, e->pos);
  return tn_val_truth(ev, v, yes);
}

/* Variables of the page name the values they hold, so that the IR reads like the page. */
static void hint(tn_eval *ev, const char *name, tn_val v) {
  tn_value_info info;
  if (v.kind != TN_V_TENSOR || !ev->frame->page->prelude) return;
  ev->ir->value_get(ev->m, v.u.tensor, &info);
  if (info.kind == TN_VALUE_RESULT && !ev->ir->value_name(ev->m, v.u.tensor))
    ev->ir->value_set_name(ev->m, v.u.tensor, name);
}

static void assign(tn_eval *ev, const char *name, tn_val v) {
  hint(ev, name, v);
  tn_vars_set(ev, &ev->frame->vars, name, v);
}

static void run_assign(tn_eval *ev, const tn_stmt *s) {
  tn_val v = tn_eval_expr(ev, s->value);
  uint32_t n = s->targets.count;
  if (s->plus) {
    tn_val old;
    if (!tn_eval_name(ev, s->targets.items[0], &old)) old = tn_eval_unknown(ev, s->targets.items[0]);
    v = tn_eval_binary(ev, TN_BIN_ADD, old, v);
  }
  if (n == 1) {
    assign(ev, s->targets.items[0], v);
    return;
  }
  bool fits = v.kind == TN_V_LIST && v.u.list.count == n;
  if (v.kind == TN_V_LIST && !fits)
    tn_eval_fail(ev, "%u names for %u values", n, v.u.list.count);
  else if (!fits && v.kind != TN_V_BAD)
    tn_eval_fail(ev, "%u names for %s", n, tn_val_show(ev, v));
  for (uint32_t i = 0; i < n; i++) assign(ev, s->targets.items[i], fits ? v.u.list.items[i] : tn_val_bad());
}

static tn_flow run_for(tn_eval *ev, const tn_stmt *s) {
  tn_val over = tn_eval_expr(ev, s->value);
  place(ev, s->value->pos);
  if (over.kind == TN_V_BAD) return TN_FLOW_NEXT;
  if (over.kind != TN_V_INT && over.kind != TN_V_LIST)
    return tn_eval_fail(ev, "a loop over %s: expected a count or a list", tn_val_show(ev, over)),
           TN_FLOW_NEXT;
  int64_t n = over.kind == TN_V_INT ? over.u.i : over.u.list.count;
  if (n < 0 || n > TN_ROUND_LIMIT)
    return tn_eval_fail(ev, "a loop of %lld rounds: expected 0 to %d", (long long)n, TN_ROUND_LIMIT),
           TN_FLOW_NEXT;
  for (int64_t i = 0; i < n; i++) {
    tn_val item = over.kind == TN_V_INT ? tn_val_int(i) : over.u.list.items[i];
    if (!tn_vars_set(ev, &ev->frame->vars, s->targets.items[0], item)) return TN_FLOW_STOP;
    if (s->targets.count == 2 && !tn_vars_set(ev, &ev->frame->vars, s->targets.items[1], tn_val_int(i)))
      return TN_FLOW_STOP;
    tn_flow f = tn_eval_body(ev, &s->body);
    if (f != TN_FLOW_NEXT) return f;
  }
  return TN_FLOW_NEXT;
}

static tn_flow run_in(tn_eval *ev, const tn_stmt *s) {
  tn_frame *f = ev->frame;
  const char *before = f->prefix, *other = f->other;
  bool root = f->root, other_root = f->other_root;
  tn_eval_prefix(ev, f, s->value);
  tn_flow flow = tn_eval_body(ev, &s->body);
  f->prefix = before, f->other = other;
  f->root = root, f->other_root = other_root;
  return flow;
}

static tn_flow run_return(tn_eval *ev, const tn_stmt *s) {
  tn_val items[64];
  uint32_t n = s->values.count;
  if (n > TN_COUNT(items)) return tn_eval_fail(ev, "more than 64 results"), TN_FLOW_RETURN;
  for (uint32_t i = 0; i < n; i++) items[i] = tn_eval_expr(ev, s->values.items[i]);
  ev->frame->result = n == 1 ? items[0] : tn_val_list(ev, items, n);
  return TN_FLOW_RETURN;
}

static void run_ignore(tn_eval *ev, const tn_stmt *s) {
  for (uint32_t i = 0; i < s->values.count; i++) {
    tn_val v = tn_eval_expr(ev, s->values.items[i]);
    if (v.kind == TN_V_TEXT && v.u.text.alts[0].name)
      tn_tensor_ignore(ev, v.u.text);
    else if (v.kind != TN_V_BAD)
      tn_eval_fail(ev, "ignore %s: expected the name of a tensor in quotes", tn_val_show(ev, v));
  }
}

/* limit C <= 4096 also tells caches that a window of 4096 is none. */
static void note_limit(tn_eval *ev, tn_dim d, tn_val limit) {
  tn_dim_info info;
  ev->ir->dim_get(ev->m, d, &info);
  if (info.kind != TN_DIM_SYM || strcmp(info.symbol, "C") || limit.kind != TN_V_INT) return;
  if (!ev->most || limit.u.i < ev->most) ev->most = limit.u.i;
}

static void run_limit(tn_eval *ev, const tn_stmt *s) {
  tn_val a = tn_eval_expr(ev, s->value), b = tn_eval_expr(ev, s->limit);
  if (a.kind == TN_V_BAD || b.kind == TN_V_BAD) return;
  tn_dim x = tn_val_to_dim(ev, a), y = tn_val_to_dim(ev, b);
  if (!x || !y)
    tn_eval_fail(ev, "limit %s <= %s: expected dims", tn_val_show(ev, a), tn_val_show(ev, b));
  else if (b.kind == TN_V_INT && b.u.i < 1)
    tn_eval_fail(ev, "limit %s <= %lld leaves nothing", tn_val_show(ev, a), (long long)b.u.i);
  else if (a.kind == TN_V_INT && b.kind == TN_V_INT && a.u.i > b.u.i)
    tn_eval_fail(ev, "limit %lld <= %lld", (long long)a.u.i, (long long)b.u.i);
  else if (ev->ir->dim_constrain(ev->m, x, y) != TN_OK)
    ev->errors++;
  else
    note_limit(ev, x, b);
}

static tn_flow run_stmt(tn_eval *ev, const tn_stmt *s) {
  bool yes;
  place(ev, s->pos);
  switch (s->kind) {
  case TN_ST_ASSIGN: run_assign(ev, s); break;
  case TN_ST_RETURN: return run_return(ev, s);
  case TN_ST_FOR: return run_for(ev, s);
  case TN_ST_IN: return run_in(ev, s);
  case TN_ST_IGNORE: run_ignore(ev, s); break;
  case TN_ST_LIMIT: run_limit(ev, s); break;
  case TN_ST_IF:
    if (condition(ev, s->value, &yes)) return tn_eval_body(ev, yes ? &s->body : &s->other);
    break;
  case TN_ST_REQUIRE:
    if (!condition(ev, s->value, &yes) || yes) break;
    place(ev, s->pos);
    tn_eval_fail(ev, "required is %s", s->text);
    break;
  }
  return TN_FLOW_NEXT;
}

tn_flow tn_eval_body(tn_eval *ev, const tn_body *body) {
  for (uint32_t i = 0; i < body->count; i++) {
    if (!tn_eval_step(ev)) return TN_FLOW_STOP;
    tn_flow f = run_stmt(ev, &body->items[i]);
    if (f != TN_FLOW_NEXT) return f;
  }
  return TN_FLOW_NEXT;
}

/* ---- graphs ---------------------------------------------------------------------------------- */
/* An architecture of the page, or one that `also` makes it stand for. */
static bool means(const tn_page *page, const char *architecture, const char *name) {
  if (!architecture) return false;
  if (!strcmp(architecture, name)) return true;
  for (const tn_page *p = page; p; p = p->base)
    for (uint32_t i = 0; i < p->also.count; i++) {
      const tn_alias *a = &p->also.items[i];
      size_t from = strlen(a->from), to = strlen(a->to);
      if (!strncmp(architecture, a->from, from) && !strncmp(name, a->to, to) &&
          !strcmp(architecture + from, name + to))
        return true;
    }
  return false;
}

/* `when` sees the values of the config, and every architecture of the page as true or false. */
static bool graph_wanted(tn_eval *ev, const tn_graph *g) {
  tn_frame f = {.page = g->page, .prefix = "", .other = ""};
  bool yes = true;
  if (!g->when) return true;
  ev->frame = &f;
  ev->file = g->page->file;
  for (const tn_page *p = ev->page; p; p = p->base)
    for (uint32_t i = 0; i < p->hf.count; i++)
      tn_vars_set(ev, &f.vars, p->hf.items[i],
                  tn_val_bool(means(ev->page, ev->run->architecture, p->hf.items[i])));
  if (!condition(ev, g->when, &yes)) yes = false;
  ev->frame = NULL;
  tn_vec_fini(&f.vars);
  return yes;
}

/* The type of an input of the function: names that the config does not have are symbols. */
static tn_type input_type(tn_eval *ev, const tn_port *p) {
  tn_dim dims[TN_MAX_RANK];
  for (uint32_t i = 0; i < p->dims.count; i++) {
    const tn_expr *e = p->dims.items[i];
    bool symbol = e->kind == TN_EX_NAME && !tn_vars_find(&ev->config, e->u.name);
    ev->pos = e->pos;
    if (symbol) {
      dims[i] = ev->ir->dim_sym(ev->m, e->u.name);
      if (!strcmp(e->u.name, "P") || !strcmp(e->u.name, "C")) ev->own_capacity = true;
      if (!strcmp(e->u.name, "S")) ev->seq = dims[i];
      if (dims[i] && !tn_vars_set(ev, &ev->frame->vars, e->u.name, tn_val_dim(ev, dims[i]))) return 0;
    } else {
      tn_val v = tn_eval_expr(ev, e);
      if (v.kind == TN_V_BAD) return 0;
      if (v.kind == TN_V_INT && v.u.i < 1)
        return tn_eval_fail(ev, "dim %u of '%s' is %lld", i, p->name, (long long)v.u.i), (tn_type)0;
      dims[i] = tn_val_to_dim(ev, v);
      if (!dims[i])
        return tn_eval_fail(ev, "dim %u of '%s' is %s", i, p->name, tn_val_show(ev, v)), (tn_type)0;
    }
    if (!dims[i]) return 0;
  }
  return ev->ir->type_make(ev->m, p->dtype, p->dims.count, dims, NULL);
}

/* An input called pads says how many tokens in front of each sequence are padding. */
static void take_pads(tn_eval *ev, tn_value v) {
  tn_type_info t = tn_val_type(ev, tn_val_tensor(v));
  if (t.rank != 1 || t.dtype != TN_DT_i32)
    tn_eval_fail(ev, "the input 'pads' is %s, expected i32 of one dim", tn_val_show(ev, tn_val_tensor(v)));
  else
    ev->pads = v;
}

/* Adds the inputs; an input that has no type leaves a BAD argument, so that the body still reports its own
 * errors. */
static void graph_args(tn_eval *ev, const tn_graph *g, tn_arg *args) {
  tn_frame f = {.page = g->page, .graph = g, .prefix = "", .other = ""};
  ev->frame = &f;
  for (uint32_t i = 0; i < g->ninputs; i++) {
    tn_type t = input_type(ev, &g->inputs[i]);
    tn_value v = t ? ev->ir->func_arg_add(ev->m, ev->func, g->inputs[i].name, t) : 0;
    if (v && !strcmp(g->inputs[i].name, "pads")) take_pads(ev, v);
    args[i] = (tn_arg){.v = tn_val_tensor(v)};
  }
  ev->frame = NULL;
  tn_vec_fini(&f.vars);
}

static void graph_finish(tn_eval *ev, const tn_graph *g, tn_val result) {
  tn_value values[64];
  const char *names[64];
  uint32_t n = result.kind == TN_V_LIST ? result.u.list.count : 1;
  if (result.kind == TN_V_BAD || n > TN_COUNT(values) || n != g->noutputs) return;
  for (uint32_t i = 0; i < n; i++) {
    values[i] = result.kind == TN_V_LIST ? result.u.list.items[i].u.tensor : result.u.tensor;
    names[i] = g->outputs[i].name;
  }
  ev->file = g->page->file;
  ev->pos = g->pos;
  tn_op_desc d = {.name = "return", .operands = values, .noperands = n, .loc = tn_eval_loc(ev)};
  if (!ev->ir->op_create(ev->m, (tn_point){.func = ev->func}, &d))
    ev->errors++;
  else if (ev->ir->func_result_names(ev->m, ev->func, names, n) != TN_OK)
    ev->errors++;
}

static void build_graph(tn_eval *ev, const tn_graph *g) {
  tn_arg args[32];
  if (g->ninputs > TN_COUNT(args)) {
    tn_eval_fail_at(ev, g->page->file, g->pos, NULL, "more than %zu inputs", TN_COUNT(args));
    return;
  }
  ev->file = g->page->file;
  ev->pos = g->pos;
  ev->seq = 0;
  ev->positions = 0;
  ev->pads = 0;
  ev->own_capacity = false;
  tn_map_init(&ev->constants);
  tn_map_init(&ev->sites);
  tn_facts_graph(ev, g);
  ev->func = ev->ir->func_add(ev->m, g->name);
  if (ev->func) {
    graph_args(ev, g, args);
    tn_args list = {args, g->ninputs, g->ninputs};
    tn_frame root = {.page = g->page, .prefix = "", .other = ""};
    ev->frame = &root;
    tn_val v = tn_call_graph(ev, g, &list);
    ev->frame = NULL;
    if (!ev->stop) graph_finish(ev, g, v);
  } else {
    ev->errors++;
  }
  ev->func = 0;
  ev->graph++;
  tn_map_fini(&ev->constants);
  tn_map_fini(&ev->sites);
}

/* A graph of the derived page hides the one of that name in its base. */
static bool hidden(const tn_eval *ev, const tn_page *page, const char *name) {
  for (const tn_page *p = ev->page; p != page; p = p->base)
    for (uint32_t i = 0; i < p->graphs.count; i++)
      if (!strcmp(p->graphs.items[i].name, name)) return true;
  return false;
}

static uint32_t build_graphs(tn_eval *ev, const tn_page *page) {
  uint32_t built = page->base ? build_graphs(ev, page->base) : 0;
  for (uint32_t i = 0; i < page->graphs.count && !ev->stop; i++) {
    const tn_graph *g = &page->graphs.items[i];
    ev->pos = g->pos;
    if (hidden(ev, page, g->name) || !graph_wanted(ev, g)) continue;
    build_graph(ev, g);
    built++;
  }
  return built;
}

tn_status tn_page_build(tn_page_run *r) {
  tn_eval ev = {.run = r, .ir = r->ir, .m = r->m, .page = r->page, .file = r->page->file, .pos = {1, 1}};
  uint32_t before = r->diags->errors;
  tn_arena_init(&ev.arena);
  tn_map_init(&ev.weights);
  tn_map_init(&ev.states);
  tn_map_init(&ev.reported);
  tn_eval_config(&ev);
  if (!ev.stop && !build_graphs(&ev, r->page) && !ev.errors)
    tn_eval_fail_at(&ev, r->page->file, (tn_pos){1, 1}, NULL,
                    "this page has no graph for the architecture '%s'",
                    r->architecture ? r->architecture : "");
  if (r->facts && !ev.stop && !ev.errors) tn_facts_convert(&ev);
  tn_status s = ev.oom || ev.arena.failed                ? TN_OOM
                : ev.errors || r->diags->errors > before ? TN_INVALID
                                                         : TN_OK;
  if (s == TN_OOM) tn_fail(r->diags, TN_OOM, r->page->file, NULL, "no memory to build the model");
  tn_vec_fini(&ev.config);
  tn_map_fini(&ev.weights);
  tn_map_fini(&ev.states);
  tn_map_fini(&ev.reported);
  tn_arena_fini(&ev.arena);
  return s;
}
