/* call.c - calls: how arguments find their parameters, which definition a name means, and the frames that
 * blocks and graphs run in. Inside its own body a name means what the block shadows: `layer_norm` of the
 * prelude calls the op. */
#include "frontend/describe/eval.h"
#include <stdio.h>

#define CALL_DEPTH_MAX 48
#define PARAMS_MAX 32

/* ---- lookup ---------------------------------------------------------------------------------- */
/* The page to look at after p: the one it extends, then the prelude. */
static const tn_page *next_page(const tn_page *p) { return p->base ? p->base : p->prelude; }

static bool named(const tn_names *names, const char *name) {
  for (uint32_t i = 0; i < names->count; i++)
    if (!strcmp(names->items[i], name)) return true;
  return false;
}

static const tn_block *block_from(const tn_page *p, const char *name, bool act) {
  for (; p; p = next_page(p))
    for (uint32_t i = 0; i < p->blocks.count; i++) {
      const tn_block *b = &p->blocks.items[i];
      if ((!act || b->act) && named(&b->names, name)) return b;
    }
  return NULL;
}

/* Code of the page and of its bases sees the overriding blocks; code of the prelude sees the prelude. */
static const tn_page *scope_of(const tn_eval *ev) {
  return ev->frame->page->prelude ? ev->page : ev->frame->page;
}

const tn_block *tn_find_block(const tn_eval *ev, const char *name) {
  const tn_block *self = ev->frame->block;
  if (self && named(&self->names, name)) return block_from(next_page(self->page), name, false);
  return block_from(scope_of(ev), name, false);
}

const tn_graph *tn_find_graph(const tn_eval *ev, const char *name) {
  const tn_graph *self = ev->frame->graph;
  const tn_page *p = ev->page;
  if (!ev->frame->page->prelude || ev->frame->config) return NULL;
  if (self && !strcmp(self->name, name)) p = self->page->base;
  for (; p; p = p->base)
    for (uint32_t i = 0; i < p->graphs.count; i++)
      if (!strcmp(p->graphs.items[i].name, name)) return &p->graphs.items[i];
  return NULL;
}

bool tn_is_function(const tn_eval *ev, const char *name) {
  return tn_find_block(ev, name) || tn_find_graph(ev, name) || tn_find_builtin(name) || tn_op_known(name);
}

/* ---- binding --------------------------------------------------------------------------------- */
static int slot_of(const tn_slot *slots, uint32_t count, const char *name) {
  for (uint32_t i = 0; i < count; i++)
    if (!strcmp(slots[i].name, name)) return (int)i;
  return -1;
}

static bool bind_named(tn_eval *ev, const char *callee, const tn_arg *a, const tn_slot *slots, uint32_t count,
                       tn_val *out, tn_vars *rest) {
  const char *names[PARAMS_MAX];
  int i = slot_of(slots, count, a->name);
  if (i >= 0 && out[i].kind != TN_V_UNSET)
    return tn_eval_fail(ev, "%s gets '%s' twice", callee, a->name), false;
  if (i >= 0) return out[i] = a->v, true;
  if (rest) return tn_vars_set(ev, rest, a->name, a->v);
  for (uint32_t k = 0; k < count; k++) names[k] = slots[k].name;
  tn_eval_fail(ev, "%s has no '%s'%s", callee, a->name, tn_eval_nearest(ev, a->name, names, count));
  return false;
}

/* A bare name that is the name of an optional parameter means that parameter: attend(q, k, v, causal,
 * window). */
static bool bind_one(tn_eval *ev, const char *callee, tn_arg a, const tn_slot *slots, uint32_t count,
                     tn_val *out, tn_vars *rest) {
  int i = a.bare ? slot_of(slots, count, a.name) : -1;
  uint32_t free_slot = 0;
  while (free_slot < count && out[free_slot].kind != TN_V_UNSET) free_slot++;
  bool full = free_slot == count || (a.unknown && slots[free_slot].optional);
  if ((i >= 0 && slots[i].optional) || a.named || (a.bare && full && rest)) {
    if (a.unknown) a.v = tn_val_bool(true);
    return bind_named(ev, callee, &a, slots, count, out, rest);
  }
  if (a.unknown) {
    const char *names[PARAMS_MAX];
    for (uint32_t k = 0; k < count; k++) names[k] = slots[k].name;
    if (!*tn_eval_nearest(ev, a.name, names, count)) return tn_eval_unknown(ev, a.name), false;
    return tn_eval_fail(ev, "%s has no '%s'%s", callee, a.name, tn_eval_nearest(ev, a.name, names, count)),
           false;
  }
  if (free_slot == count)
    return tn_eval_fail(ev, "%s takes %u arguments: %s is one too many", callee, count, tn_val_show(ev, a.v)),
           false;
  out[free_slot] = a.v;
  return true;
}

bool tn_bind(tn_eval *ev, const char *callee, const tn_args *args, const tn_slot *slots, uint32_t count,
             tn_val *out, tn_vars *rest) {
  bool ok = true;
  for (uint32_t i = 0; i < count; i++) out[i].kind = TN_V_UNSET;
  for (uint32_t i = 0; i < args->count; i++)
    ok = bind_one(ev, callee, args->items[i], slots, count, out, rest) && ok;
  for (uint32_t i = 0; i < count && ok; i++)
    if (out[i].kind == TN_V_UNSET && !slots[i].optional)
      ok = tn_eval_fail(ev, "%s needs '%s'", callee, slots[i].name).kind != TN_V_BAD;
  return ok;
}

static bool push_arg(tn_eval *ev, tn_args *args, tn_arg a) {
  if (args->count >= 1024) return tn_eval_fail(ev, "more than 1024 arguments"), false;
  return tn_vec_push(args, a) ? true : (tn_eval_oom(ev), false);
}

/* rest...: what the frame's block collected, or the items of a list. */
static bool spread_arg(tn_eval *ev, tn_args *args, const tn_expr *e) {
  const tn_block *b = ev->frame->block;
  if (e->kind == TN_EX_NAME && b && b->options && !strcmp(b->options_name, e->u.name)) {
    const tn_vars *o = &ev->frame->options;
    for (uint32_t i = 0; i < o->count; i++)
      if (!push_arg(ev, args, (tn_arg){.name = o->items[i].name, .named = true, .v = o->items[i].v}))
        return false;
    return true;
  }
  tn_val v = tn_eval_expr(ev, e);
  if (v.kind != TN_V_LIST)
    return v.kind == TN_V_BAD
               ? false
               : (tn_eval_fail(ev, "'...' behind %s, which is no list", tn_val_show(ev, v)), false);
  for (uint32_t i = 0; i < v.u.list.count; i++)
    if (!push_arg(ev, args, (tn_arg){.v = v.u.list.items[i]})) return false;
  return true;
}

static bool eval_args(tn_eval *ev, const tn_expr *e, tn_args *args) {
  for (uint32_t i = 0; i < e->u.call.count; i++) {
    const tn_call_arg *x = &e->u.call.args[i];
    tn_arg a = {.name = x->name, .named = x->name != NULL};
    if (x->spread) {
      if (!spread_arg(ev, args, x->value)) return false;
      continue;
    }
    if (!a.named && x->value->kind == TN_EX_NAME) {
      a.name = x->value->u.name;
      a.bare = true;
      a.unknown = !tn_eval_name(ev, a.name, &a.v);
    } else {
      a.v = tn_eval_expr(ev, x->value);
    }
    if (!push_arg(ev, args, a)) return false;
  }
  return true;
}

/* ---- blocks ---------------------------------------------------------------------------------- */
static bool enter(tn_eval *ev, tn_frame *f, const char *name) {
  uint32_t depth = 0;
  for (const tn_frame *x = ev->frame; x; x = x->caller, depth++) {
    bool same = f->block ? x->block == f->block : x->graph && x->graph == f->graph;
    if (same) return tn_eval_fail(ev, "'%s' calls itself", name), false;
  }
  if (depth >= CALL_DEPTH_MAX)
    return tn_eval_fail(ev, "more than %d calls inside each other", CALL_DEPTH_MAX), false;
  f->caller = ev->frame;
  ev->frame = f;
  if (f->page->prelude) ev->file = f->page->file;
  return true;
}

static void leave(tn_eval *ev, tn_frame *f, const char *file, tn_pos pos) {
  ev->frame = f->caller;
  ev->file = file;
  ev->pos = pos;
  tn_vec_fini(&f->vars);
  tn_vec_fini(&f->options);
}

static tn_val block_body(tn_eval *ev, const tn_block *b, tn_val *vals) {
  tn_frame *f = ev->frame;
  f->result.kind = TN_V_UNSET;
  for (uint32_t i = 0; i < b->nparams; i++) {
    tn_val v = vals[i].kind == TN_V_UNSET ? tn_eval_expr(ev, b->params[i].def) : vals[i];
    if (!tn_vars_set(ev, &f->vars, b->params[i].name, v)) return tn_val_bad();
  }
  if (b->at) tn_eval_prefix(ev, f, b->at);
  uint32_t errors = ev->errors;
  if (tn_eval_body(ev, &b->body) == TN_FLOW_RETURN) return f->result;
  return errors == ev->errors && !ev->stop ? tn_val_none() : tn_val_bad();
}

/* Runs b; `at` (or NULL) is the prefix on the calling line. */
static tn_val call_block(tn_eval *ev, const tn_block *b, const char *name, const tn_args *args,
                         const tn_expr *at) {
  tn_slot slots[PARAMS_MAX];
  tn_val vals[PARAMS_MAX], v = tn_val_bad();
  tn_frame f = {.page = b->page,
                .block = b,
                .prefix = ev->frame->prefix,
                .other = ev->frame->other,
                .root = ev->frame->root,
                .other_root = ev->frame->other_root};
  const char *file = ev->file;
  tn_pos pos = ev->pos;
  if (b->nparams > PARAMS_MAX) return tn_eval_fail(ev, "'%s' has more than %d parameters", name, PARAMS_MAX);
  for (uint32_t i = 0; i < b->nparams; i++) slots[i] = (tn_slot){b->params[i].name, b->params[i].def != NULL};
  if (at) tn_eval_prefix(ev, &f, at);
  if (!tn_bind(ev, name, args, slots, b->nparams, vals, b->options ? &f.options : NULL) ||
      !enter(ev, &f, name)) {
    tn_vec_fini(&f.options);
    return v;
  }
  v = block_body(ev, b, vals);
  leave(ev, &f, file, pos);
  return v;
}

/* ---- graphs ---------------------------------------------------------------------------------- */
/* The dims of an input name themselves by what is passed: ids[B, S] sets B and S. */
static bool match_dims(tn_eval *ev, const tn_port *p, tn_val v) {
  tn_frame *f = ev->frame;
  if (v.kind != TN_V_TENSOR)
    return v.kind == TN_V_BAD
               ? false
               : (tn_eval_fail(ev, "'%s' is %s, expected a tensor", p->name, tn_val_show(ev, v)), false);
  tn_type_info t = tn_val_type(ev, v);
  if (t.rank != p->dims.count || t.dtype != p->dtype)
    return tn_eval_fail(ev, "'%s' is %s, expected %u dims of %s", p->name, tn_val_show(ev, v), p->dims.count,
                        ev->ir->dtype_info(p->dtype)->name),
           false;
  for (uint32_t i = 0; i < t.rank; i++) {
    const tn_expr *e = p->dims.items[i];
    bool free_name =
        e->kind == TN_EX_NAME && !tn_vars_find(&f->vars, e->u.name) && !tn_vars_find(&ev->config, e->u.name);
    if (free_name) {
      if (!tn_vars_set(ev, &f->vars, e->u.name, tn_val_dim(ev, t.dims[i]))) return false;
      continue;
    }
    tn_val want = tn_eval_expr(ev, e);
    if (want.kind == TN_V_BAD) return false;
    if (tn_val_to_dim(ev, want) != t.dims[i])
      return tn_eval_fail(ev, "dim %u of '%s' is %s, expected %s", i, p->name, tn_dim_show(ev, t.dims[i]),
                          tn_val_show(ev, want)),
             false;
  }
  return true;
}

/* types[B, S] = 0: a tensor full of the default. */
static tn_val default_input(tn_eval *ev, const tn_port *p) {
  tn_dim dims[TN_MAX_RANK];
  tn_val v = tn_make_scalar(ev, p->dtype, tn_eval_expr(ev, p->def));
  if (v.kind != TN_V_TENSOR) return v;
  for (uint32_t i = 0; i < p->dims.count; i++)
    if (!(dims[i] = tn_val_to_dim(ev, tn_eval_expr(ev, p->dims.items[i])))) return tn_val_bad();
  tn_named_attr a = {"shape", {.kind = TN_ATTR_DIMS, .count = p->dims.count, .u.dims = dims}};
  return tn_make_op(ev, "broadcast", &v.u.tensor, 1, &a, 1);
}

static bool graph_inputs(tn_eval *ev, const tn_graph *g, tn_val *vals) {
  tn_frame *f = ev->frame;
  bool ok = true;
  for (uint32_t i = 0; i < g->ninputs; i++)
    if (vals[i].kind != TN_V_UNSET) ok = match_dims(ev, &g->inputs[i], vals[i]) && ok;
  for (uint32_t i = 0; i < g->ninputs; i++) {
    if (vals[i].kind == TN_V_UNSET) vals[i] = ok ? default_input(ev, &g->inputs[i]) : tn_val_bad();
    if (!tn_vars_set(ev, &f->vars, g->inputs[i].name, vals[i])) return false;
  }
  return true;
}

static tn_val output_value(tn_eval *ev, const tn_graph *g, const tn_port *p) {
  const tn_var *v = tn_vars_find(&ev->frame->vars, p->name);
  ev->pos = p->pos;
  if (!v)
    return ev->errors ? tn_val_bad()
                      : tn_eval_fail(ev, "graph '%s' never sets its output '%s'", g->name, p->name);
  if (v->v.kind == TN_V_BAD) return v->v;
  if (v->v.kind != TN_V_TENSOR)
    return tn_eval_fail(ev, "output '%s' is %s, expected a tensor", p->name, tn_val_show(ev, v->v));
  tn_type_info t = tn_val_type(ev, v->v);
  tn_dim dims[TN_MAX_RANK];
  bool same = t.rank == p->dims.count && t.dtype == p->dtype;
  for (uint32_t i = 0; i < p->dims.count; i++) {
    tn_val d = tn_eval_expr(ev, p->dims.items[i]);
    if (d.kind == TN_V_BAD) return d;
    if (!(dims[i] = tn_val_to_dim(ev, d)))
      return tn_eval_fail(ev, "dim %u of '%s' is %s", i, p->name, tn_val_show(ev, d));
    if (same) same = dims[i] == t.dims[i];
  }
  if (same) return v->v;
  tn_type want = ev->ir->type_make(ev->m, p->dtype, p->dims.count, dims, NULL);
  return tn_eval_fail(ev, "output '%s' is declared %s, but is %s", p->name,
                      want ? tn_type_show(ev, want) : "?", tn_val_show(ev, v->v));
}

static tn_val graph_body(tn_eval *ev, const tn_graph *g, tn_val *vals) {
  tn_val out[64];
  bool ok = true;
  if (!graph_inputs(ev, g, vals) || tn_eval_body(ev, &g->body) == TN_FLOW_STOP) return tn_val_bad();
  if (g->noutputs > TN_COUNT(out)) return tn_eval_fail(ev, "more than 64 outputs");
  for (uint32_t i = 0; i < g->noutputs; i++) {
    out[i] = output_value(ev, g, &g->outputs[i]);
    ok = ok && out[i].kind == TN_V_TENSOR;
  }
  if (!ok) return tn_val_bad();
  return g->noutputs == 1 ? out[0] : tn_val_list(ev, out, g->noutputs);
}

tn_val tn_call_graph(tn_eval *ev, const tn_graph *g, const tn_args *args) {
  tn_slot slots[PARAMS_MAX];
  tn_val vals[PARAMS_MAX], v = tn_val_bad();
  tn_frame f = {.page = g->page, .graph = g, .prefix = "", .other = ""};
  const char *file = ev->file;
  tn_pos pos = ev->pos;
  if (g->ninputs > PARAMS_MAX) return tn_eval_fail(ev, "'%s' has more than %d inputs", g->name, PARAMS_MAX);
  for (uint32_t i = 0; i < g->ninputs; i++) slots[i] = (tn_slot){g->inputs[i].name, g->inputs[i].def != NULL};
  if (!tn_bind(ev, g->name, args, slots, g->ninputs, vals, NULL) || !enter(ev, &f, g->name)) return v;
  v = graph_body(ev, g, vals);
  leave(ev, &f, file, pos);
  return v;
}

/* ---- calls ----------------------------------------------------------------------------------- */
static tn_val call_builtin(tn_eval *ev, const tn_builtin *b, const tn_args *args) {
  tn_val vals[TN_COUNT(b->slots)];
  uint32_t n = 0;
  while (n < TN_COUNT(b->slots) && b->slots[n].name) n++;
  return tn_bind(ev, b->name, args, b->slots, n, vals, NULL) ? b->run(ev, vals) : tn_val_bad();
}

static tn_val unknown_function(tn_eval *ev, const char *name) {
  const char *names[512];
  uint32_t n = 0;
  for (const tn_page *p = scope_of(ev); p; p = next_page(p))
    for (uint32_t i = 0; i < p->blocks.count; i++)
      for (uint32_t k = 0; k < p->blocks.items[i].names.count && n < TN_COUNT(names); k++)
        names[n++] = p->blocks.items[i].names.items[k];
  return tn_eval_fail(ev, "there is no block, function or op '%s'%s", name,
                      tn_eval_nearest(ev, name, names, n));
}

/* act(x), where `act` holds the name of an activation from the config. */
static tn_val call_act(tn_eval *ev, const char *name, const tn_args *args) {
  const char *names[128];
  uint32_t n = 0;
  const tn_block *b = block_from(ev->page, name, true);
  if (b) return call_block(ev, b, name, args, NULL);
  for (const tn_page *p = ev->page; p; p = next_page(p))
    for (uint32_t i = 0; i < p->blocks.count; i++)
      for (uint32_t k = 0;
           p->blocks.items[i].act && k < p->blocks.items[i].names.count && n < TN_COUNT(names); k++)
        names[n++] = p->blocks.items[i].names.items[k];
  return tn_eval_fail(ev, "the activation '%s' is not known%s", name, tn_eval_nearest(ev, name, names, n));
}

static tn_val dispatch(tn_eval *ev, const char *name, const tn_args *args, const tn_expr *at) {
  const tn_block *b = ev->frame->config ? NULL : tn_find_block(ev, name);
  const tn_graph *g = b ? NULL : tn_find_graph(ev, name);
  const tn_builtin *f = tn_find_builtin(name);
  if (b) return call_block(ev, b, name, args, at);
  if (at) return tn_eval_fail(ev, "'at' stands behind the call of a block, and '%s' is none", name);
  if (g) return tn_call_graph(ev, g, args);
  if (f) return call_builtin(ev, f, args);
  if (tn_op_known(name)) return tn_call_op(ev, name, args);
  return unknown_function(ev, name);
}

tn_val tn_call_values(tn_eval *ev, const char *callee, const tn_val *args, uint32_t count) {
  tn_arg items[16];
  if (count > TN_COUNT(items))
    return tn_eval_fail(ev, "more than %zu arguments for '%s'", TN_COUNT(items), callee);
  for (uint32_t i = 0; i < count; i++) items[i] = (tn_arg){.v = args[i]};
  tn_args a = {items, count, count};
  return dispatch(ev, callee, &a, NULL);
}

static tn_val call_with(tn_eval *ev, const tn_expr *e, const tn_args *args) {
  const char *name = e->u.call.name;
  const tn_var *v = tn_vars_find(&ev->frame->vars, name);
  if (!v && ev->frame->page->prelude) v = tn_vars_find(&ev->config, name);
  for (uint32_t i = 0; i < args->count; i++)
    if (args->items[i].v.kind == TN_V_MISSING) return args->items[i].v;
  if (v && v->v.kind == TN_V_TEXT) return call_act(ev, v->v.u.text.alts[0].raw, args);
  if (v && v->v.kind == TN_V_BAD) return v->v;
  return dispatch(ev, name, args, e->u.call.at);
}

tn_val tn_eval_call(tn_eval *ev, const tn_expr *e) {
  tn_args args = {0};
  tn_val v = eval_args(ev, e, &args) ? call_with(ev, e, &args) : tn_val_bad();
  tn_vec_fini(&args);
  return v;
}
