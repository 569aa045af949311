/* fuse_loop.c - grouping, second half: loop kernels of the ops that no root took. Ops are visited in program
 * order and join the group that feeds them, if the numbers allow it (fuse.h) and the shapes agree: all
 * results that leave a loop kernel have one shape, and nothing costly is computed again for each element of a
 * larger one. */
#include "passes/fuse.h"

static bool costly(tn_module *m, tn_op op) {
  switch (tn_ir_opcode(m, op)) {
  case TN_OPC_exp:
  case TN_OPC_log:
  case TN_OPC_sqrt:
  case TN_OPC_rsqrt:
  case TN_OPC_tanh:
  case TN_OPC_sigmoid:
  case TN_OPC_erf:
  case TN_OPC_sin:
  case TN_OPC_cos:
  case TN_OPC_silu:
  case TN_OPC_gelu:
  case TN_OPC_pow:
  case TN_OPC_div:
  case TN_OPC_rope:
  case TN_OPC_random_uniform:
  case TN_OPC_dequant: return true;
  default: return false;
  }
}

static bool any_costly(tn_fuse *x, const tn_fgroup *g) {
  for (uint32_t i = 0; i < g->ops.count; i++)
    if (costly(x->m, g->ops.items[i])) return true;
  return false;
}

static tn_dim elements(tn_fuse *x, tn_op op) {
  return tn_type_elements(x->m, tn_rw_type(x->m, tn_ir_op_result(x->m, op, 0)));
}

/* Computing g's ops inside op's loop does not repeat work that matters. */
static bool work_agrees(tn_fuse *x, const tn_fgroup *g, tn_op op) {
  if (elements(x, g->ops.items[g->ops.count - 1]) == elements(x, op)) return true;
  switch (tn_ir_opcode(x->m, op)) {
  case TN_OPC_slice:
  case TN_OPC_split: return true; /* less is computed, not more */
  default: return !any_costly(x, g);
  }
}

/* Whatever leaves g, apart from what op alone reads, has op's shape; so have all of op's own results. */
static bool shapes_agree(tn_fuse *x, const tn_fgroup *g, tn_op op) {
  tn_value out = tn_ir_op_result(x->m, op, 0);
  for (uint32_t i = 1; i < tn_ir_op_nresults(x->m, op); i++)
    if (!tn_rw_same_dims(x->m, out, tn_ir_op_result(x->m, op, i))) return false;
  for (uint32_t i = 0; i < g->ops.count; i++)
    for (uint32_t r = 0; r < tn_ir_op_nresults(x->m, g->ops.items[i]); r++) {
      tn_value v = tn_ir_op_result(x->m, g->ops.items[i], r);
      if (!tn_rw_same_dims(x->m, v, out) && tn_fuse_escapes(x, g, v, op)) return false;
    }
  return true;
}

/* ---- joining the group that feeds an op ------------------------------------------------------ */
/* The number behind which value v is there for group g, which clones what it may. */
static uint32_t number_of(tn_fuse *x, const tn_fgroup *g, tn_value v) {
  tn_op def = v ? tn_fuse_source_op(x->m, v) : 0;
  if (!def || tn_fuse_kind(x->m, def) == TN_FK_LEAF) return 0;
  const tn_fgroup *of = tn_fuse_group_of(x, def);
  if (of) return of == g ? 0 : of->number;
  if (tn_fuse_kind(x->m, def) == TN_FK_HOST) return tn_marks_get(&x->pos, def);
  bool inside = tn_fuse_path_allowed(x, g, v, TN_FUSE_LOOP) && tn_fuse_allowed(x, g, def, TN_FUSE_LOOP);
  return inside ? number_of(x, g, tn_ir_op_operand(x->m, def, 0)) : tn_marks_get(&x->pos, def);
}

/* The group of the highest number that feeds op. */
static tn_fgroup *feeding_group(tn_fuse *x, tn_op op) {
  tn_fgroup *best = NULL;
  for (uint32_t i = 0; i < tn_ir_op_noperands(x->m, op); i++) {
    tn_value v = tn_ir_op_operand(x->m, op, i);
    tn_op def = v ? tn_fuse_source_op(x->m, v) : 0;
    tn_fgroup *g = def ? tn_fuse_group_of(x, def) : NULL;
    if (g && (!best || g->number > best->number)) best = g;
  }
  return best;
}

static bool may_join(tn_fuse *x, const tn_fgroup *g, tn_op op) {
  if (!g->loop || (int64_t)g->ops.count >= x->max || tn_fuse_ordered(x, op) || tn_fuse_ordered(x, g->root) ||
      !tn_fuse_near(x, g, op))
    return false;
  for (uint32_t i = 0; i < tn_ir_op_noperands(x->m, op); i++) {
    tn_value v = tn_ir_op_operand(x->m, op, i);
    if (number_of(x, g, v) > g->number) return false;
    tn_op def = v ? tn_fuse_source_op(x->m, v) : 0;
    if (def && tn_fuse_group_of(x, def) == g && !tn_fuse_path_allowed(x, g, v, TN_FUSE_LOOP)) return false;
  }
  return shapes_agree(x, g, op) && work_agrees(x, g, op) && tn_fuse_allowed(x, g, op, TN_FUSE_LOOP);
}

/* What op reads and is cheap is cloned beside it; else it must be made. */
static tn_status clone_operands(tn_fuse *x, tn_fgroup *g, tn_op op) {
  for (uint32_t i = 0; i < tn_ir_op_noperands(x->m, op); i++) {
    tn_value v = tn_ir_op_operand(x->m, op, i);
    tn_op def = v ? tn_fuse_source_op(x->m, v) : 0;
    if (!def || !tn_fuse_clonable(x, def)) continue;
    bool inside = tn_fuse_path_allowed(x, g, v, TN_FUSE_LOOP) && tn_fuse_clone(x, g, def, TN_FUSE_LOOP);
    if (!inside && !tn_marks_set(&x->needed, def, 1)) return TN_OOM;
  }
  return TN_OK;
}

static tn_status place(tn_fuse *x, tn_op op) {
  tn_fgroup *g = feeding_group(x, op);
  if (!g || !may_join(x, g, op))
    g = tn_fuse_new_group(x, op, true);
  else if (!tn_fuse_join(x, g, op))
    return TN_OOM;
  return g ? clone_operands(x, g, op) : TN_OOM;
}

/* ---- groups that feed only one other --------------------------------------------------------- */
static bool may_absorb(tn_fuse *x, const tn_fgroup *g, const tn_fgroup *h) {
  if (!h->loop || h->dead || h == g || (int64_t)(g->ops.count + h->ops.count) > x->max) return false;
  if (tn_fuse_ordered(x, h->root) || tn_fuse_ordered(x, g->root) || !tn_fuse_near(x, g, h->root))
    return false;
  for (uint32_t i = 0; i < h->ops.count; i++) {
    tn_op op = h->ops.items[i];
    if (!tn_fuse_allowed(x, g, op, TN_FUSE_LOOP)) return false;
    for (uint32_t r = 0; r < tn_ir_op_nresults(x->m, op); r++) { /* used only in g, or in h itself */
      tn_value v = tn_ir_op_result(x->m, op, r);
      if (tn_fuse_escapes(x, h, v, 0) && tn_fuse_escapes(x, g, v, 0)) return false;
    }
  }
  for (uint32_t i = 0; i < h->clones.count; i++)
    if (!tn_fuse_allowed(x, g, h->clones.items[i], TN_FUSE_LOOP)) return false;
  return work_agrees(x, h, g->ops.items[g->ops.count - 1]);
}

static tn_status absorb(tn_fuse *x, tn_fgroup *g, tn_fgroup *h) {
  for (uint32_t i = 0; i < h->ops.count; i++)
    if (!tn_fuse_join(x, g, h->ops.items[i])) return TN_OOM;
  for (uint32_t i = 0; i < h->clones.count; i++)
    if (!tn_fuse_clones(g, h->clones.items[i]) && !tn_vec_push(&g->clones, h->clones.items[i])) return TN_OOM;
  h->dead = true;
  return TN_OK;
}

static tn_status absorb_feeders(tn_fuse *x, tn_fgroup *g) {
  for (uint32_t at = 0; at < g->ops.count; at++) {
    tn_op op = g->ops.items[at];
    for (uint32_t i = 0; i < tn_ir_op_noperands(x->m, op); i++) {
      tn_value v = tn_ir_op_operand(x->m, op, i);
      tn_op def = v ? tn_fuse_source_op(x->m, v) : 0;
      tn_fgroup *h = def ? tn_fuse_group_of(x, def) : NULL;
      if (!h || !may_absorb(x, g, h) || !tn_fuse_path_allowed(x, g, v, TN_FUSE_LOOP)) continue;
      TN_TRY(absorb(x, g, h));
    }
  }
  return TN_OK;
}

/* What a return or a host op reads is in memory. */
static tn_status need_operands(tn_fuse *x, tn_op op) {
  for (uint32_t i = 0; i < tn_ir_op_noperands(x->m, op); i++) {
    tn_value v = tn_ir_op_operand(x->m, op, i);
    tn_op def = v ? tn_fuse_source_op(x->m, v) : 0;
    if (def && !tn_marks_set(&x->needed, def, 1)) return TN_OOM;
  }
  return TN_OK;
}

tn_status tn_fuse_loops(tn_fuse *x) {
  TN_TRY(need_operands(x, x->ret));
  for (uint32_t i = 0; i < x->ops.count; i++)
    if (tn_fuse_kind(x->m, x->ops.items[i]) == TN_FK_HOST) TN_TRY(need_operands(x, x->ops.items[i]));
  for (uint32_t i = 0; i < x->ops.count; i++) {
    tn_op op = x->ops.items[i];
    if (tn_fuse_kind(x->m, op) != TN_FK_LOOP || tn_fuse_group_of(x, op)) continue;
    if (!tn_fuse_clonable(x, op)) TN_TRY(place(x, op));
  }
  uint32_t n = x->groups.count;
  for (uint32_t i = 0; i < n; i++)
    if (x->groups.items[i].loop && !x->groups.items[i].dead) TN_TRY(absorb_feeders(x, &x->groups.items[i]));
  for (uint32_t i = x->ops.count; i-- > 0;) { /* backwards: a needed op may need another */
    tn_op op = x->ops.items[i];
    if (!tn_marks_get(&x->needed, op) || tn_fuse_group_of(x, op) || tn_fuse_kind(x->m, op) != TN_FK_LOOP)
      continue;
    tn_fgroup *g = tn_fuse_new_group(x, op, true);
    if (!g) return TN_OOM;
    TN_TRY(clone_operands(x, g, op));
  }
  return TN_OK;
}
