/* fuse.c - grouping, first half: what an op is to fusion, who may be with whom, and the groups around roots.
 * A root's epilogue is the chain of ops behind its result, as long as each is the only user of the one
 * before; its prologue are ops whose results nobody else reads. */
#include "passes/fuse.h"
#include "passes/partition.h"
#include "passes/passes.h"

uint32_t tn_fuse_kind(tn_module *m, tn_op op) {
  switch (tn_ir_opcode(m, op)) {
  case TN_OPC_constant:
  case TN_OPC_iota:
  case TN_OPC_causal_mask:
  case TN_OPC_alibi: return TN_FK_LEAF;
  case TN_OPC_reshape: return TN_FK_ALIAS;
  case TN_OPC_rope:
  case TN_OPC_dequant:
  case TN_OPC_random_uniform: return TN_FK_LOOP;
  default: break;
  }
  uint32_t flags = tn_rw_flags(m, op);
  if (flags & (TN_F_TERMINATOR | TN_F_REGION)) return TN_FK_STRUCTURE;
  if (flags & TN_F_HOST) return TN_FK_HOST;
  return flags & (TN_F_ELEMENTWISE | TN_F_VIEW) ? TN_FK_LOOP : TN_FK_ROOT;
}

tn_fgroup *tn_fuse_group_of(tn_fuse *x, tn_op op) {
  uint32_t i = tn_marks_get(&x->group, op);
  return i ? &x->groups.items[i - 1] : NULL;
}

bool tn_fuse_clones(const tn_fgroup *g, tn_op op) {
  for (uint32_t i = 0; i < g->clones.count; i++)
    if (g->clones.items[i] == op) return true;
  return false;
}

bool tn_fuse_escapes(tn_fuse *x, const tn_fgroup *g, tn_value v, tn_op but) {
  for (uint32_t i = 0, n = tn_rw_nuses(x->m, v); i < n; i++) {
    uint32_t operand;
    tn_op use = tn_ir_value_use(x->m, v, i, &operand);
    if (tn_rw_is(x->m, use, TN_OPC_reshape)) {
      if (tn_fuse_escapes(x, g, tn_ir_op_result(x->m, use, 0), but)) return true;
    } else if (use != but && tn_fuse_group_of(x, use) != g)
      return true;
  }
  return false;
}

bool tn_fuse_any_escapes(tn_fuse *x, const tn_fgroup *g, tn_op op, tn_op but) {
  for (uint32_t i = 0; i < tn_ir_op_nresults(x->m, op); i++)
    if (tn_fuse_escapes(x, g, tn_ir_op_result(x->m, op, i), but)) return true;
  return false;
}

/* The one op that uses v, looking through reshapes; 0: none or several. */
static tn_op sole_user(tn_fuse *x, tn_value v) {
  tn_op found = 0;
  for (uint32_t i = 0, n = tn_rw_nuses(x->m, v); i < n; i++) {
    uint32_t operand;
    tn_op use = tn_ir_value_use(x->m, v, i, &operand);
    if (tn_rw_is(x->m, use, TN_OPC_reshape)) use = sole_user(x, tn_ir_op_result(x->m, use, 0));
    if (!use || (found && use != found)) return 0;
    found = use;
  }
  return found;
}

/* ---- who may be with whom -------------------------------------------------------------------- */
/* What force=1 takes, for tests without a backend: elementwise ops and reshapes behind a root, anything else
 * only before it or in a loop. */
static bool forced(tn_fuse *x, tn_op op, uint32_t role) {
  if (role != TN_FUSE_EPILOGUE) return true;
  return tn_rw_is(x->m, op, TN_OPC_reshape) || (tn_rw_flags(x->m, op) & TN_F_ELEMENTWISE);
}

static uint32_t assigned(tn_fuse *x, tn_op op) {
  return op < x->c->assigned.count ? x->c->assigned.items[op] : 0;
}

bool tn_fuse_near(const tn_fuse *x, const tn_fgroup *g, tn_op op) {
  return tn_marks_get(&x->segment, g->root) == tn_marks_get(&x->segment, op);
}

bool tn_fuse_allowed(tn_fuse *x, const tn_fgroup *g, tn_op op, uint32_t role) {
  const tn_pass_backends *b = x->c->backends;
  if (x->max <= 1) return false;
  if (!tn_rw_is(x->m, op, TN_OPC_reshape) && assigned(x, op) != g->assigned) return false;
  if (x->force) return forced(x, op, role);
  return b && b->fuse && g->assigned && b->fuse(b->ctx, g->assigned - 1, x->m, g->root, op, role);
}

bool tn_fuse_path_allowed(tn_fuse *x, const tn_fgroup *g, tn_value v, uint32_t role) {
  for (tn_op op; (op = tn_rw_def_as(x->m, v, TN_OPC_reshape)); v = tn_ir_op_operand(x->m, op, 0))
    if (!tn_fuse_allowed(x, g, op, role)) return false;
  return true;
}

static bool reads_hazard(tn_fuse *x, tn_value v) {
  v = tn_rw_source(x->m, v);
  tn_op update = tn_rw_def_as(x->m, v, TN_OPC_kv_update);
  return tn_marks_get(&x->hazard, update ? tn_ir_op_operand(x->m, update, 0) : v);
}

bool tn_fuse_ordered(tn_fuse *x, tn_op op) {
  for (uint32_t i = 0; i < tn_ir_op_noperands(x->m, op); i++) {
    tn_value v = tn_ir_op_operand(x->m, op, i);
    if (v && reads_hazard(x, v)) return true;
  }
  return false;
}

static tn_status find_hazards(tn_fuse *x) {
  for (tn_state s = 1; s <= tn_ir_state_count(x->m); s++) {
    tn_state_info info;
    uint32_t reads = 0, writes = 0, operand;
    tn_ir_state_get(x->m, s, &info);
    for (uint32_t i = 0, n = tn_rw_nuses(x->m, info.value); i < n; i++) {
      tn_op use = tn_ir_value_use(x->m, info.value, i, &operand);
      if (tn_ir_op_func(x->m, use) != x->f) continue;
      bool write = tn_rw_is(x->m, use, TN_OPC_kv_update);
      writes += write;
      reads += !write;
    }
    if (writes && reads + writes > 1 && !tn_marks_set(&x->hazard, info.value, 1)) return TN_OOM;
  }
  return TN_OK;
}

/* ---- clones ---------------------------------------------------------------------------------- */
static bool cheap_view(tn_module *m, tn_op op) {
  switch (tn_ir_opcode(m, op)) {
  case TN_OPC_cast:
  case TN_OPC_bitcast:
  case TN_OPC_broadcast:
  case TN_OPC_transpose:
  case TN_OPC_slice:
  case TN_OPC_split: return true;
  default: return false;
  }
}

bool tn_fuse_clonable(tn_fuse *x, tn_op op) {
  if (!cheap_view(x->m, op) || tn_fuse_group_of(x, op) || tn_fuse_ordered(x, op)) return false;
  tn_value v = tn_rw_source(x->m, tn_ir_op_operand(x->m, op, 0));
  tn_op def = tn_rw_def(x->m, v);
  if (!def) return tn_rw_kind(x->m, v) != TN_VALUE_STATE;
  if (tn_fuse_kind(x->m, def) == TN_FK_LEAF) return true;
  const tn_fgroup *g = tn_fuse_group_of(x, def);
  return g ? !g->loop : tn_fuse_clonable(x, def); /* what leaves a root's group is in memory anyway */
}

bool tn_fuse_clone(tn_fuse *x, tn_fgroup *g, tn_op op, uint32_t role) {
  if (tn_fuse_clones(g, op)) return true;
  tn_value v = tn_ir_op_operand(x->m, op, 0);
  if (!tn_fuse_allowed(x, g, op, role)) return false;
  tn_op def = tn_fuse_source_op(x->m, v);
  if (def && tn_fuse_clonable(x, def)) {
    bool inside = tn_fuse_path_allowed(x, g, v, role) && tn_fuse_clone(x, g, def, role);
    if (!inside && !tn_marks_set(&x->needed, def, 1)) x->c->arena->failed = true;
  }
  if (!tn_vec_push(&g->clones, op)) x->c->arena->failed = true;
  return true;
}

/* ---- groups ---------------------------------------------------------------------------------- */
bool tn_fuse_join(tn_fuse *x, tn_fgroup *g, tn_op op) {
  return tn_vec_push(&g->ops, op) && tn_marks_set(&x->group, op, (uint32_t)(g - x->groups.items) + 1);
}

tn_fgroup *tn_fuse_new_group(tn_fuse *x, tn_op root, bool loop) {
  tn_fgroup g = {
      .root = root, .number = tn_marks_get(&x->pos, root), .loop = loop, .assigned = assigned(x, root)};
  if (!tn_vec_push(&x->groups, g)) return NULL;
  tn_fgroup *made = &x->groups.items[x->groups.count - 1];
  return tn_fuse_join(x, made, root) ? made : NULL;
}

/* The way back from what was rounded to be stored (narrow.c): it goes with who reads it. */
static bool widens_rounded(tn_module *m, tn_op u) {
  if (!tn_rw_is(m, u, TN_OPC_cast)) return false;
  tn_op from = tn_rw_def_as(m, tn_rw_source(m, tn_ir_op_operand(m, u, 0)), TN_OPC_cast);
  return from && tn_rw_type_info(m, tn_ir_op_result(m, from, 0)).dtype == TN_DT_bf16 &&
         tn_rw_type_info(m, tn_ir_op_operand(m, from, 0)).dtype == TN_DT_f32 &&
         tn_rw_type_info(m, tn_ir_op_result(m, u, 0)).dtype == TN_DT_f32;
}

/* May u, the only user of v, become the next op of g's epilogue? */
static bool epilogue_takes(tn_fuse *x, const tn_fgroup *g, tn_value v, tn_op u) {
  if ((int64_t)g->ops.count >= x->max) return false;
  if (!u || tn_fuse_kind(x->m, u) != TN_FK_LOOP || tn_fuse_group_of(x, u) || tn_fuse_ordered(x, u) ||
      !tn_fuse_near(x, g, u) || widens_rounded(x->m, u))
    return false;
  bool elementwise = tn_rw_flags(x->m, u) & TN_F_ELEMENTWISE;
  for (uint32_t i = 0; i < tn_ir_op_noperands(x->m, u); i++) {
    tn_value in = tn_ir_op_operand(x->m, u, i);
    if (!in || tn_rw_source(x->m, in) != v) continue;
    if (elementwise && !tn_rw_same_dims(x->m, in, tn_ir_op_result(x->m, u, 0))) return false;
    if (!tn_fuse_path_allowed(x, g, in, TN_FUSE_EPILOGUE)) return false;
  }
  return tn_fuse_allowed(x, g, u, TN_FUSE_EPILOGUE);
}

/* ---- halves: a split of the root's value in two, and the ops that make one value of them again ---- */
/* The first op in program order outside of g that reads, of g's members from `from` on, a value. */
static tn_op next_reader(tn_fuse *x, const tn_fgroup *g, uint32_t from) {
  tn_op first = 0;
  for (uint32_t i = from; i < g->ops.count; i++)
    for (uint32_t r = 0; r < tn_ir_op_nresults(x->m, g->ops.items[i]); r++) {
      tn_value v = tn_ir_op_result(x->m, g->ops.items[i], r);
      for (uint32_t u = 0, n = tn_rw_nuses(x->m, v); u < n; u++) {
        uint32_t operand;
        tn_op use = tn_ir_value_use(x->m, v, u, &operand);
        bool earlier = !first || tn_marks_get(&x->pos, use) < tn_marks_get(&x->pos, first);
        if (tn_fuse_group_of(x, use) != g && earlier) first = use;
      }
    }
  return first;
}

/* May u, which reads halves, be an op of g's epilogue? */
static bool halves_take(tn_fuse *x, const tn_fgroup *g, tn_op u) {
  if ((int64_t)g->ops.count >= x->max || !tn_marks_get(&x->pos, u) || tn_fuse_kind(x->m, u) != TN_FK_LOOP ||
      tn_fuse_group_of(x, u) || tn_fuse_ordered(x, u) || !tn_fuse_near(x, g, u) ||
      !(tn_rw_flags(x->m, u) & TN_F_ELEMENTWISE))
    return false;
  for (uint32_t i = 0; i < tn_ir_op_noperands(x->m, u); i++) {
    tn_value in = tn_ir_op_operand(x->m, u, i);
    tn_op def = in ? tn_rw_def(x->m, in) : 0;
    if (def && tn_fuse_group_of(x, def) == g && !tn_rw_same_dims(x->m, in, tn_ir_op_result(x->m, u, 0)))
      return false;
  }
  return tn_fuse_allowed(x, g, u, TN_FUSE_EPILOGUE);
}

/* Does only the last of g's members from `from` on leave the group? */
static bool one_end(tn_fuse *x, const tn_fgroup *g, uint32_t from) {
  for (uint32_t i = from; i + 1 < g->ops.count; i++)
    if (tn_fuse_any_escapes(x, g, g->ops.items[i], 0)) return false;
  return g->ops.count > from + 1;
}

/* Takes split and what makes one value of its results, or nothing: then *end is 0. */
static tn_status grow_halves(tn_fuse *x, tn_fgroup *g, tn_op split, tn_op *end) {
  uint32_t from = g->ops.count;
  *end = 0;
  if (!tn_fuse_join(x, g, split)) return TN_OOM;
  for (tn_op u; (u = next_reader(x, g, from)) && halves_take(x, g, u) && !one_end(x, g, from);)
    if (!tn_fuse_join(x, g, u)) return TN_OOM;
  if (one_end(x, g, from)) {
    *end = g->ops.items[g->ops.count - 1];
    g->number = tn_marks_get(&x->pos, *end);
    return TN_OK;
  }
  while (g->ops.count > from)
    if (!tn_marks_set(&x->group, g->ops.items[--g->ops.count], 0)) return TN_OOM;
  return TN_OK;
}

static tn_status grow_epilogue(tn_fuse *x, tn_fgroup *g) {
  tn_op tail = g->root;
  if (tn_fuse_ordered(x, tail) || tn_rw_is(x->m, tail, TN_OPC_kv_update)) return TN_OK;
  while (tn_ir_op_nresults(x->m, tail) == 1) {
    tn_value v = tn_ir_op_result(x->m, tail, 0);
    tn_op u = sole_user(x, v);
    if (!epilogue_takes(x, g, v, u)) break;
    if (tn_ir_op_nresults(x->m, u) > 1) {
      TN_TRY(grow_halves(x, g, u, &tail));
      if (!tail) break;
      continue;
    }
    if (!tn_fuse_join(x, g, u)) return TN_OOM;
    g->number = tn_marks_get(&x->pos, u);
    tail = u;
  }
  return TN_OK;
}

static bool prologue_takes(tn_fuse *x, const tn_fgroup *g, tn_value v, tn_op p) {
  return (int64_t)g->ops.count < x->max && tn_fuse_kind(x->m, p) == TN_FK_LOOP && !tn_fuse_group_of(x, p) &&
         !tn_fuse_ordered(x, p) && tn_fuse_near(x, g, p) && !tn_fuse_any_escapes(x, g, p, 0) &&
         tn_fuse_path_allowed(x, g, v, TN_FUSE_PROLOGUE) && tn_fuse_allowed(x, g, p, TN_FUSE_PROLOGUE);
}

/* What op, a member or clone of g, reads: joins, is cloned, or is read from memory. */
static tn_status take_operands(tn_fuse *x, tn_fgroup *g, tn_op op) {
  for (uint32_t i = 0; i < tn_ir_op_noperands(x->m, op); i++) {
    tn_value v = tn_ir_op_operand(x->m, op, i);
    tn_op p = v ? tn_fuse_source_op(x->m, v) : 0;
    if (!p || tn_fuse_group_of(x, p) == g || tn_fuse_clones(g, p)) continue;
    if (prologue_takes(x, g, v, p)) {
      if (!tn_fuse_join(x, g, p)) return TN_OOM;
    } else if (tn_fuse_clonable(x, p)) {
      bool inside =
          tn_fuse_path_allowed(x, g, v, TN_FUSE_PROLOGUE) && tn_fuse_clone(x, g, p, TN_FUSE_PROLOGUE);
      if (!inside && !tn_marks_set(&x->needed, p, 1)) return TN_OOM;
    }
  }
  return TN_OK;
}

/* Walks from the members' operands upwards; what joins is walked in turn. */
static tn_status grow_prologue(tn_fuse *x, tn_fgroup *g) {
  for (uint32_t i = 0, n = g->clones.count; i < n; i++) TN_TRY(take_operands(x, g, g->clones.items[i]));
  for (uint32_t at = 0; at < g->ops.count; at++) TN_TRY(take_operands(x, g, g->ops.items[at]));
  return TN_OK;
}

/* ---- roots before roots ---- */
#define MAX_READERS 4 /* kernels that would each compute a root again */

/* The groups whose roots read v, which h's root made, if they are all its readers and each may compute it for
 * itself. */
static bool readers_take(tn_fuse *x, const tn_fgroup *h, tn_value v, tn_fgroup **readers, uint32_t *n) {
  for (uint32_t i = 0, uses = tn_rw_nuses(x->m, v); i < uses; i++) {
    uint32_t operand;
    tn_op use = tn_ir_value_use(x->m, v, i, &operand);
    if (tn_rw_is(x->m, use, TN_OPC_reshape)) {
      if (!readers_take(x, h, tn_ir_op_result(x->m, use, 0), readers, n)) return false;
      continue;
    }
    tn_fgroup *g = tn_fuse_group_of(x, use);
    if (!g || g == h || use != g->root || *n == MAX_READERS || (int64_t)g->ops.count >= x->max ||
        !tn_fuse_near(x, g, h->root) || !tn_fuse_path_allowed(x, g, v, TN_FUSE_PROLOGUE) ||
        !tn_fuse_allowed(x, g, h->root, TN_FUSE_PROLOGUE))
      return false;
    bool known = false;
    for (uint32_t r = 0; r < *n; r++) known |= readers[r] == g;
    if (!known) readers[(*n)++] = g;
  }
  return true;
}

/* A root that only other roots read (a norm before products) goes into their kernels, if the backend takes it
 * there: into the only one as a member, into several as a clone. */
static tn_status move_root(tn_fuse *x, tn_fgroup *h) {
  tn_fgroup *readers[MAX_READERS];
  uint32_t n = 0;
  if (x->force || h->ops.count != 1 || h->clones.count || tn_ir_op_nresults(x->m, h->root) != 1 ||
      tn_fuse_ordered(x, h->root))
    return TN_OK;
  if (!readers_take(x, h, tn_ir_op_result(x->m, h->root, 0), readers, &n) || !n) return TN_OK;
  h->dead = true;
  if (n == 1) return tn_fuse_join(x, readers[0], h->root) ? TN_OK : TN_OOM;
  if (!tn_marks_set(&x->group, h->root, 0)) return TN_OOM;
  for (uint32_t i = 0; i < n; i++)
    if (!tn_vec_push(&readers[i]->clones, h->root)) return TN_OOM;
  return TN_OK;
}

static tn_status group_roots(tn_fuse *x) {
  for (uint32_t i = 0; i < x->ops.count; i++) {
    if (tn_fuse_kind(x->m, x->ops.items[i]) != TN_FK_ROOT) continue;
    tn_fgroup *g = tn_fuse_new_group(x, x->ops.items[i], false);
    if (!g) return TN_OOM;
    TN_TRY(grow_epilogue(x, g));
  }
  uint32_t n = x->groups.count;
  for (uint32_t i = 0; i < n; i++) TN_TRY(move_root(x, &x->groups.items[i]));
  for (uint32_t i = 0; i < n; i++)
    if (!x->groups.items[i].dead) TN_TRY(grow_prologue(x, &x->groups.items[i]));
  return TN_OK;
}

static tn_status read_ops(tn_fuse *x) {
  uint32_t segment = 0;
  for (tn_op op = tn_ir_first_op(x->m, x->f, 0); op; op = tn_ir_next_op(x->m, op)) {
    if (tn_rw_is(x->m, op, TN_OPC_return))
      x->ret = op;
    else if (!tn_vec_push(&x->ops, op) || !tn_marks_set(&x->pos, op, x->ops.count) ||
             !tn_marks_set(&x->segment, op, segment))
      return TN_OOM;
    segment += tn_fuse_kind(x->m, op) == TN_FK_HOST;
    if (tn_rw_is(x->m, op, TN_OPC_kernel)) {
      tn_ir_report(x->m, TN_ERROR, tn_ir_op_loc(x->m, op), "fuse: the function already has kernels");
      return TN_PRECONDITION;
    }
  }
  return x->ret ? TN_OK : TN_PRECONDITION;
}

static void fini(tn_fuse *x) {
  for (uint32_t i = 0; i < x->groups.count; i++) {
    tn_vec_fini(&x->groups.items[i].ops);
    tn_vec_fini(&x->groups.items[i].clones);
  }
  tn_vec_fini(&x->groups);
  tn_vec_fini(&x->ops);
  tn_marks_fini(&x->pos);
  tn_marks_fini(&x->segment);
  tn_marks_fini(&x->group);
  tn_marks_fini(&x->needed);
  tn_marks_fini(&x->hazard);
}

tn_status tn_pass_fuse(tn_pass_ctx *c, tn_func f) {
  tn_fuse x = {
      .c = c, .m = c->m, .f = f, .max = tn_pass_int(c, "max", 64), .force = tn_pass_int(c, "force", 0)};
  (void)tn_func_dce(c->m, f);
  tn_status status = tn_partition_func(c, f);
  if (status == TN_OK) status = read_ops(&x);
  if (status == TN_OK) status = find_hazards(&x);
  if (status == TN_OK) status = group_roots(&x);
  if (status == TN_OK) status = tn_fuse_loops(&x);
  if (status == TN_OK && c->arena->failed) status = TN_OOM;
  if (status == TN_OK) status = tn_fuse_build(&x);
  fini(&x);
  return status;
}
