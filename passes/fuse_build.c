/* fuse_build.c - writes the groups of fuse.c as kernel ops, in the order of their numbers, in front of the
 * return; the old ops are erased afterwards. A kernel's operands are what its ops read from outside, the
 * root's own operands first; its results are what somebody outside reads. Reshapes whose source is outside
 * stay outside, as aliases. */
#include "passes/fuse.h"
#include "passes/partition.h"
#include <stdio.h>

typedef struct builder {
  tn_fuse *x;
  tn_module *m;
  tn_marks outer; /* old value -> value in the new function body */
  tn_marks inner; /* old value -> value in the kernel body under construction */
  const tn_fgroup *g;
  tn_op kernel;
  TN_VEC(tn_op) ops;        /* of the kernel: members and clones in program order */
  TN_VEC(tn_value) inputs;  /* old values that come from outside */
  TN_VEC(tn_value) touched; /* keys of `inner`, to clear it */
  TN_VEC(tn_value) outputs; /* old values that leave */
  bool oom;
} builder;

static tn_point at_end(builder *b) { return tn_rw_before(b->x->ret); }
static tn_point in_body(builder *b) { return (tn_point){0, b->kernel, 0}; }

/* ---- values in the function body ------------------------------------------------------------- */
static tn_value outer_value(builder *b, tn_value v) {
  tn_op def = tn_rw_def(b->m, v);
  if (!def) return v;
  tn_value known = tn_marks_get(&b->outer, v);
  if (known || !tn_rw_is(b->m, def, TN_OPC_reshape)) return known;
  tn_value from = outer_value(b, tn_ir_op_operand(b->m, def, 0));
  tn_op alias = from ? tn_rw_copy(b->m, def, at_end(b), &from, tn_ir_op_loc(b->m, def)) : 0;
  if (!alias) return 0;
  tn_value made = tn_ir_op_result(b->m, alias, 0);
  if (!tn_marks_set(&b->outer, v, made)) b->oom = true;
  return made;
}

/* ---- what a kernel reads --------------------------------------------------------------------- */
static bool is_inside(builder *b, tn_op def) {
  return def && (tn_fuse_kind(b->m, def) == TN_FK_LEAF || tn_fuse_group_of(b->x, def) == b->g ||
                 tn_fuse_clones(b->g, def));
}

/* A reshape goes into the body exactly when its source is there. */
static bool comes_from_outside(builder *b, tn_value v) { return !is_inside(b, tn_fuse_source_op(b->m, v)); }

static void add_input(builder *b, tn_value v) {
  if (!v || !comes_from_outside(b, v) || tn_marks_get(&b->inner, v)) return;
  if (!tn_vec_push(&b->inputs, v) || !tn_vec_push(&b->touched, v) || !tn_marks_set(&b->inner, v, UINT32_MAX))
    b->oom = true;
}

static void add_inputs_of(builder *b, tn_op op) {
  for (uint32_t i = 0; i < tn_ir_op_noperands(b->m, op); i++) add_input(b, tn_ir_op_operand(b->m, op, i));
}

/* Does anybody outside of g read v, a result of g's op def? Kernels that clone def do not, nor does an op
 * that is only ever cloned beside it. */
static bool is_read(builder *b, const tn_fgroup *g, tn_op def, tn_value v) {
  for (uint32_t i = 0, n = tn_rw_nuses(b->m, v); i < n; i++) {
    uint32_t operand;
    tn_op use = tn_ir_value_use(b->m, v, i, &operand);
    const tn_fgroup *of = tn_fuse_group_of(b->x, use);
    if (use == b->x->ret || tn_fuse_kind(b->m, use) == TN_FK_HOST) return true;
    if (of && of != g && !tn_fuse_clones(of, def)) return true;
    for (uint32_t r = 0; !of && r < tn_ir_op_nresults(b->m, use);
         r++) /* a reshape, or cloned into its readers */
      if (is_read(b, g, def, tn_ir_op_result(b->m, use, r))) return true;
  }
  return false;
}

static void collect(builder *b, const tn_fgroup *g) {
  const tn_marks *pos = &b->x->pos;
  b->g = g;
  b->ops.count = b->inputs.count = b->outputs.count = 0;
  for (uint32_t i = 0; i < g->ops.count + g->clones.count; i++) { /* sorted by position: groups are small */
    tn_op op = i < g->ops.count ? g->ops.items[i] : g->clones.items[i - g->ops.count];
    if (!tn_vec_push(&b->ops, op)) b->oom = true;
    for (uint32_t j = b->ops.count; !b->oom && j > 1; j--) {
      tn_op *p = &b->ops.items[j - 2];
      if (tn_marks_get(pos, p[0]) < tn_marks_get(pos, p[1])) break;
      tn_op t = p[0];
      p[0] = p[1];
      p[1] = t;
    }
  }
  if (!g->loop) add_inputs_of(b, g->root);
  for (uint32_t i = 0; i < b->ops.count; i++) add_inputs_of(b, b->ops.items[i]);
  for (uint32_t i = 0; i < b->ops.count; i++)
    for (uint32_t r = 0; !tn_fuse_clones(g, b->ops.items[i]) && r < tn_ir_op_nresults(b->m, b->ops.items[i]);
         r++) {
      tn_value v = tn_ir_op_result(b->m, b->ops.items[i], r);
      bool effect = tn_rw_flags(b->m, b->ops.items[i]) & TN_F_EFFECT; /* a written state is always named */
      if ((effect || is_read(b, g, b->ops.items[i], v)) && !tn_vec_push(&b->outputs, v)) b->oom = true;
    }
}

/* ---- the body -------------------------------------------------------------------------------- */
static tn_status copy_inside(builder *b, tn_op op);

static tn_value inner_value(builder *b, tn_value v) {
  if (!v) return 0;
  if (!tn_marks_get(&b->inner, v)) { /* a leaf or a reshape: copied when first needed */
    tn_op def = tn_rw_def(b->m, v);
    if (!def || copy_inside(b, def) != TN_OK) return 0;
  }
  return tn_marks_get(&b->inner, v);
}

static tn_status copy_inside(builder *b, tn_op op) {
  TN_VEC(tn_value) in = {0};
  for (uint32_t i = 0; i < tn_ir_op_noperands(b->m, op); i++)
    if (!tn_vec_push(&in, inner_value(b, tn_ir_op_operand(b->m, op, i)))) b->oom = true;
  tn_op copy = b->oom ? 0 : tn_rw_copy(b->m, op, in_body(b), in.items, tn_ir_op_loc(b->m, op));
  tn_vec_fini(&in);
  for (uint32_t i = 0; copy && i < tn_ir_op_nresults(b->m, op); i++) {
    tn_value v = tn_ir_op_result(b->m, op, i);
    if (!tn_vec_push(&b->touched, v) || !tn_marks_set(&b->inner, v, tn_ir_op_result(b->m, copy, i)))
      b->oom = true;
  }
  return b->oom ? TN_OOM : copy ? TN_OK : TN_INTERNAL;
}

static tn_status create_kernel(builder *b, const char *root, uint32_t assigned, tn_loc loc) {
  TN_VEC(tn_value) in = {0};
  TN_VEC(tn_type) types = {0};
  for (uint32_t i = 0; i < b->inputs.count; i++)
    if (!tn_vec_push(&in, outer_value(b, b->inputs.items[i]))) b->oom = true;
  for (uint32_t i = 0; i < b->outputs.count; i++)
    if (!tn_vec_push(&types, tn_rw_type(b->m, b->outputs.items[i]))) b->oom = true;
  tn_named_attr attrs[2] = {{"backend", {.kind = TN_ATTR_STR, .u.s = tn_partition_name(b->x->c, assigned)}},
                            {"root", {.kind = TN_ATTR_STR, .u.s = root}}};
  tn_op_desc d = {"kernel", in.items, in.count, 2, attrs, types.items, types.count, loc};
  b->kernel = b->oom ? 0 : tn_ir_op_create(b->m, at_end(b), &d);
  tn_vec_fini(&in);
  tn_vec_fini(&types);
  if (!b->kernel) return b->oom ? TN_OOM : TN_INTERNAL;
  for (uint32_t i = 0; i < b->inputs.count; i++) {
    tn_value v = b->inputs.items[i], arg = tn_ir_body_arg_add(b->m, b->kernel, tn_rw_type(b->m, v));
    const char *name = tn_ir_value_name(b->m, v);
    if (!arg || (name && tn_ir_value_set_name(b->m, arg, name) != TN_OK)) return TN_OOM;
    if (!tn_marks_set(&b->inner, v, arg)) return TN_OOM;
  }
  return TN_OK;
}

static tn_status create_yield(builder *b, tn_loc loc) {
  TN_VEC(tn_value) out = {0};
  for (uint32_t i = 0; i < b->outputs.count; i++)
    if (!tn_vec_push(&out, inner_value(b, b->outputs.items[i]))) b->oom = true;
  tn_op_desc d = {"yield", out.items, out.count, 0, NULL, NULL, 0, loc};
  tn_op yield = b->oom ? 0 : tn_ir_op_create(b->m, in_body(b), &d);
  tn_vec_fini(&out);
  return b->oom ? TN_OOM : yield ? TN_OK : TN_INTERNAL;
}

static void forget_inner(builder *b) {
  for (uint32_t i = 0; i < b->touched.count; i++) b->inner.v.items[b->touched.items[i]] = 0;
  b->touched.count = 0;
}

static tn_status publish(builder *b) {
  for (uint32_t i = 0; i < b->outputs.count; i++) {
    tn_value old = b->outputs.items[i], made = tn_ir_op_result(b->m, b->kernel, i);
    const char *name = tn_ir_value_name(b->m, old);
    if (name) TN_TRY(tn_ir_value_set_name(b->m, made, name));
    if (!tn_marks_set(&b->outer, old, made)) return TN_OOM;
  }
  return TN_OK;
}

static tn_loc group_loc(builder *b) {
  tn_loc loc = tn_ir_op_loc(b->m, b->g->root);
  for (uint32_t i = 0; i < b->g->ops.count; i++)
    if (b->g->ops.items[i] != b->g->root)
      loc = tn_rw_fuse_locs(b->m, "fuse", loc, tn_ir_op_loc(b->m, b->g->ops.items[i]));
  return loc;
}

static tn_status build_group(builder *b, const tn_fgroup *g) {
  collect(b, g);
  if (b->oom) return TN_OOM;
  const char *root = g->loop ? "loop" : tn_ir_opcode_name(tn_ir_opcode(b->m, g->root));
  tn_loc loc = group_loc(b);
  tn_status status = create_kernel(b, root, g->assigned, loc);
  for (uint32_t i = 0; status == TN_OK && i < b->ops.count; i++)
    if (!tn_marks_get(&b->inner, tn_ir_op_result(b->m, b->ops.items[i], 0)))
      status = copy_inside(b, b->ops.items[i]);
  if (status == TN_OK) status = create_yield(b, loc);
  if (status == TN_OK) status = publish(b);
  forget_inner(b);
  if (status == TN_OK && g->ops.count > 1) {
    char name[80];
    snprintf(name, sizeof name, "kernel.%s", root);
    tn_pass_fusion(b->x->c, name, loc, NULL);
  }
  return status;
}

/* ---- what host ops and the return read --------------------------------------------------------------- */
/* A constant is written by the backend that took it; whoever else is to copy is asked. */
static tn_status choose_copier(builder *b, tn_op leaf) {
  tn_pass_ctx *c = b->x->c;
  if (!c->backends || !c->backends->count) return TN_OK;
  if (leaf && leaf < c->assigned.count && c->assigned.items[leaf]) return TN_OK;
  TN_TRY(tn_partition_op(c, b->kernel));
  const char *name = tn_partition_name(c, c->assigned.items[b->kernel]);
  return tn_ir_op_set_attr(b->m, b->kernel, "backend", &(tn_attr){.kind = TN_ATTR_STR, .u.s = name});
}

/* A kernel that only copies v. Results of a function are buffers of their own, so an argument, weight or
 * state, a leaf, what a host op gives and whatever is returned twice need one; so do leaves that a host op
 * reads. */
static tn_status build_copy(builder *b, tn_value v, tn_value *out) {
  tn_loc loc = tn_ir_op_loc(b->m, b->x->ret);
  tn_op leaf = tn_fuse_source_op(b->m, v), def = tn_rw_def(b->m, v);
  static const tn_fgroup nothing;
  b->g = &nothing;
  b->ops.count = b->inputs.count = b->outputs.count = 0;
  add_input(b, v);
  if (!tn_vec_push(&b->outputs, v)) return TN_OOM;
  uint32_t assigned = leaf && leaf < b->x->c->assigned.count ? b->x->c->assigned.items[leaf] : 0;
  tn_status status =
      b->oom ? TN_OOM : create_kernel(b, "loop", assigned, def ? tn_ir_op_loc(b->m, def) : loc);
  if (status == TN_OK) status = create_yield(b, def ? tn_ir_op_loc(b->m, def) : loc);
  forget_inner(b);
  if (status == TN_OK) status = choose_copier(b, leaf);
  *out = status == TN_OK ? tn_ir_op_result(b->m, b->kernel, 0) : 0;
  return status;
}

static tn_status host_operands(builder *b, tn_op op, tn_value *in) {
  for (uint32_t i = 0; i < tn_ir_op_noperands(b->m, op); i++) {
    tn_value v = tn_ir_op_operand(b->m, op, i);
    tn_op def = v ? tn_fuse_source_op(b->m, v) : 0;
    if (def && tn_fuse_kind(b->m, def) == TN_FK_LEAF)
      TN_TRY(build_copy(b, v, &in[i]));
    else if (v && !(in[i] = outer_value(b, v)))
      return TN_OOM;
  }
  return TN_OK;
}

static tn_status build_host(builder *b, tn_op op) {
  tn_value *in = tn_mem_alloc((tn_ir_op_noperands(b->m, op) + 1) * sizeof *in);
  if (!in) return TN_OOM;
  tn_status status = host_operands(b, op, in);
  tn_op copy = status == TN_OK ? tn_rw_copy(b->m, op, at_end(b), in, tn_ir_op_loc(b->m, op)) : 0;
  tn_mem_free(in);
  if (!copy) return status == TN_OK ? TN_INTERNAL : status;
  for (uint32_t i = 0; i < tn_ir_op_nresults(b->m, op); i++)
    if (!tn_marks_set(&b->outer, tn_ir_op_result(b->m, op, i), tn_ir_op_result(b->m, copy, i))) return TN_OOM;
  return TN_OK;
}

static bool is_state_memory(builder *b, tn_value source) {
  return tn_rw_def_as(b->m, source, TN_OPC_kv_update) || tn_rw_kind(b->m, source) == TN_VALUE_STATE;
}

static tn_status build_returns(builder *b) {
  tn_marks returned = {0};
  tn_status status = TN_OK;
  for (uint32_t i = 0; i < tn_ir_op_noperands(b->m, b->x->ret) && status == TN_OK; i++) {
    tn_value v = tn_ir_op_operand(b->m, b->x->ret, i), source = tn_rw_source(b->m, v), out = 0;
    tn_op def = tn_rw_def(b->m, source);
    uint32_t kind = def ? tn_fuse_kind(b->m, def) : TN_FK_STRUCTURE;
    bool copy = !def || kind == TN_FK_LEAF || kind == TN_FK_HOST || is_state_memory(b, source) ||
                tn_marks_get(&returned, source);
    if (copy)
      status = build_copy(b, v, &out);
    else if (!(out = outer_value(b, v)) || !tn_marks_set(&returned, source, 1))
      status = TN_OOM;
    if (status == TN_OK) status = tn_ir_op_set_operand(b->m, b->x->ret, i, out);
  }
  tn_marks_fini(&returned);
  return status;
}

/* ---- order ----------------------------------------------------------------------------------- */
/* Groups by number: numbers are positions, each taken by at most one group, or by a host op. */
static tn_status build_groups(builder *b) {
  tn_fuse *x = b->x;
  tn_marks at = {0};
  tn_status status = TN_OK;
  for (uint32_t i = 0; i < x->groups.count && status == TN_OK; i++)
    if (!x->groups.items[i].dead && !tn_marks_set(&at, x->groups.items[i].number, i + 1)) status = TN_OOM;
  for (uint32_t n = 1; n <= x->ops.count && status == TN_OK; n++) {
    uint32_t i = tn_marks_get(&at, n);
    if (i) status = build_group(b, &x->groups.items[i - 1]);
    if (tn_fuse_kind(x->m, x->ops.items[n - 1]) == TN_FK_HOST) status = build_host(b, x->ops.items[n - 1]);
  }
  tn_marks_fini(&at);
  return status;
}

tn_status tn_fuse_build(tn_fuse *x) {
  builder b = {.x = x, .m = x->m};
  tn_status status = build_groups(&b);
  if (status == TN_OK) status = build_returns(&b);
  for (uint32_t i = x->ops.count; i-- > 0 && status == TN_OK;) status = tn_ir_op_erase(x->m, x->ops.items[i]);
  tn_marks_fini(&b.outer);
  tn_marks_fini(&b.inner);
  tn_vec_fini(&b.ops);
  tn_vec_fini(&b.inputs);
  tn_vec_fini(&b.touched);
  tn_vec_fini(&b.outputs);
  return status;
}
