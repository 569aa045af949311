/* schedule.c - order of kernels. Program order stays, but for one thing: a kernel moves down to just before
 * its first user when that frees its results earlier and keeps no operand alive longer, that is, when each
 * operand is read by somebody at or behind that place anyway. Kernels that touch states stay where they are.
 * One walk from the end. */
#include "passes/passes.h"
#include "passes/rw.h"

typedef struct scheduler {
  tn_module *m;
  tn_func f;
  TN_VEC(tn_op) ops;
  TN_VEC(uint64_t) place; /* by op: position, with room between neighbours for ops that move in */
  tn_marks moved;         /* by op: how many were put before it */
} scheduler;

#define GAP_BITS 32 /* ops are numbered by 32 bits: there is room for all of them before each one */

static uint64_t place_of(scheduler *s, tn_op op) { return op < s->place.count ? s->place.items[op] : 0; }

static bool set_place(scheduler *s, tn_op op, uint64_t at) {
  while (s->place.count <= op)
    if (!tn_vec_push(&s->place, 0)) return false;
  s->place.items[op] = at;
  return true;
}

/* The place of the last use of v that is not by `except`, looking through reshapes. */
static uint64_t last_use(scheduler *s, tn_value v, tn_op except) {
  uint64_t last = 0;
  for (uint32_t i = 0, n = tn_rw_nuses(s->m, v); i < n; i++) {
    uint32_t operand;
    tn_op use = tn_ir_value_use(s->m, v, i, &operand);
    if (use == except) continue;
    uint64_t at = tn_rw_is(s->m, use, TN_OPC_reshape) ? last_use(s, tn_ir_op_result(s->m, use, 0), except)
                                                      : place_of(s, use);
    last = at > last ? at : last;
  }
  return last;
}

static tn_op first_user(scheduler *s, tn_op op) {
  tn_op first = 0;
  for (uint32_t r = 0; r < tn_ir_op_nresults(s->m, op); r++) {
    tn_value v = tn_ir_op_result(s->m, op, r);
    for (uint32_t i = 0, n = tn_rw_nuses(s->m, v); i < n; i++) {
      uint32_t operand;
      tn_op use = tn_ir_value_use(s->m, v, i, &operand);
      if (!first || place_of(s, use) < place_of(s, first)) first = use;
    }
  }
  return first;
}

static bool is_state(scheduler *s, tn_value v) {
  v = tn_rw_source(s->m, v);
  if (tn_rw_kind(s->m, v) == TN_VALUE_STATE) return true;
  tn_op def = tn_rw_def_as(s->m, v, TN_OPC_kernel);
  return def && tn_rw_updated_operand(s->m, def, tn_rw_result_index(s->m, v)) >= 0;
}

static bool may_sink(scheduler *s, tn_op op, tn_op user) {
  if (tn_rw_is(s->m, op, TN_OPC_reshape)) return true;
  if (!tn_rw_is(s->m, op, TN_OPC_kernel)) return false;
  for (uint32_t i = 0; i < tn_ir_op_noperands(s->m, op); i++) {
    tn_value v = tn_rw_source(s->m, tn_ir_op_operand(s->m, op, i));
    if (is_state(s, v)) return false;
    if (tn_rw_kind(s->m, v) == TN_VALUE_RESULT && last_use(s, v, op) < place_of(s, user)) return false;
  }
  return true;
}

static tn_status visit(scheduler *s, tn_op op) {
  tn_op user = first_user(s, op);
  if (!user || tn_ir_next_op(s->m, op) == user || !may_sink(s, op, user)) return TN_OK;
  uint32_t n = tn_marks_get(&s->moved, user) + 1;
  if (!tn_marks_set(&s->moved, user, n) || !set_place(s, op, place_of(s, user) - n)) return TN_OOM;
  /* Several that move before one user keep their order: the later ones are there already. */
  tn_op before = user;
  for (tn_op p; (p = tn_ir_prev_op(s->m, before)) && place_of(s, p) > place_of(s, op);) before = p;
  return tn_ir_op_move(s->m, op, tn_rw_before(before));
}

tn_status tn_pass_schedule(tn_pass_ctx *c, tn_func f) {
  scheduler s = {.m = c->m, .f = f};
  tn_status status = TN_OK;
  for (tn_op op = tn_ir_first_op(c->m, f, 0); op && status == TN_OK; op = tn_ir_next_op(c->m, op)) {
    bool ok = tn_vec_push(&s.ops, op) && set_place(&s, op, (uint64_t)s.ops.count << GAP_BITS);
    if (!ok) status = TN_OOM;
  }
  for (uint32_t i = s.ops.count; i-- > 0 && status == TN_OK;) status = visit(&s, s.ops.items[i]);
  tn_vec_fini(&s.ops);
  tn_vec_fini(&s.place);
  tn_marks_fini(&s.moved);
  return status;
}
