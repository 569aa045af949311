/* plan_memory.c - which memory each kernel result needs, and when. Results live from their kernel to their
 * last reader (also through reshapes, which are the same memory). Each gets a slot of the arena with its
 * size, as a dim, and the steps in which it lives; slots that do not live at the same time may lie in the
 * same place. Where they lie is for the runtime to say, which knows the numbers. A result never shares memory
 * with an operand of its own kernel: both live then.
 *
 * A size that only a let_dim, if or loop of the function makes known is planned the same way, in memory of
 * its own. So is what an if or loop gives: its slots have the size 0.
 *
 * Written down: `slots` of each kernel, if and loop (-1: an output of the function, -2 - i: the kernel's
 * operand i, a state, in place), and of the function `slots`, the sizes in bytes, multiples of 64; `live`, of
 * each slot the first step, a kernel or host op, in which it lives and the first behind it in which it does
 * not, 0 for to the end; `arena`, what lives at the fullest moment of those known from the start (where that
 * depends on the dims, the maximum of the first few moments, for people to read); and unless all are,
 * `slots_after`: how many steps run before each size is known. */
#include "ir/late.h"
#include "passes/passes.h"
#include "passes/rw.h"

enum { MOMENTS = 8 };

typedef struct slot {
  tn_dim size;          /* a multiple of 64 */
  uint32_t after;       /* place of the op that makes the size known; 0: known from the start */
  uint32_t from, until; /* steps; until 0: to the end */
} slot;

typedef struct planner {
  tn_module *m;
  tn_func f;
  bool reuse;
  tn_marks place;  /* by op: 1 + position */
  tn_marks output; /* by value: returned */
  tn_marks step;   /* by place: kernels and host ops up to there */
  tn_late late;
  TN_VEC(slot) slots;
  TN_VEC(uint32_t) live; /* slots of the arena that live at the step that is planned */
  TN_VEC(tn_dim) sums;   /* of what lives at once: none is known to be less than another */
} planner;

static tn_status number_ops(planner *p) {
  uint32_t n = 0, steps = 0;
  for (tn_op op = tn_ir_first_op(p->m, p->f, 0); op; op = tn_ir_next_op(p->m, op)) {
    bool step = tn_rw_is(p->m, op, TN_OPC_kernel) || (tn_rw_flags(p->m, op) & TN_F_HOST);
    if (!step && !tn_rw_is(p->m, op, TN_OPC_reshape) && !tn_rw_is(p->m, op, TN_OPC_return)) {
      tn_ir_report(p->m, TN_ERROR, tn_ir_op_loc(p->m, op),
                   "plan-memory: '%s' is in no kernel; fuse comes first",
                   tn_ir_opcode_name(tn_ir_opcode(p->m, op)));
      return TN_PRECONDITION;
    }
    steps += step;
    if (!tn_marks_set(&p->place, op, ++n) || !tn_marks_set(&p->step, n, steps)) return TN_OOM;
  }
  return TN_OK;
}

static tn_status note_outputs(planner *p) {
  tn_op ret = tn_ir_last_op(p->m, p->f, 0);
  for (uint32_t i = 0; ret && i < tn_ir_op_noperands(p->m, ret); i++) {
    tn_value v = tn_rw_source(p->m, tn_ir_op_operand(p->m, ret, i));
    if (!tn_rw_def_as(p->m, v, TN_OPC_kernel) || tn_marks_get(&p->output, v)) {
      tn_ir_report(p->m, TN_ERROR, tn_ir_op_loc(p->m, ret),
                   "plan-memory: result %u of the function has no buffer of its own", i + 1);
      return TN_PRECONDITION;
    }
    if (!tn_marks_set(&p->output, v, 1)) return TN_OOM;
  }
  return TN_OK;
}

/* Position of the last reader of v, looking through reshapes. */
static uint32_t last_use(planner *p, tn_value v) {
  uint32_t last = 0;
  for (uint32_t i = 0, n = tn_rw_nuses(p->m, v); i < n; i++) {
    uint32_t operand, at;
    tn_op use = tn_ir_value_use(p->m, v, i, &operand);
    at = tn_rw_is(p->m, use, TN_OPC_reshape) ? last_use(p, tn_ir_op_result(p->m, use, 0))
                                             : tn_marks_get(&p->place, use);
    last = at > last ? at : last;
  }
  return last;
}

/* ---- the arena ------------------------------------------------------------------------------- */

static tn_dim round_up(planner *p, tn_dim bytes) {
  tn_dim line = tn_ir_dim_const(p->m, 64), more = tn_dim_add(p->m, bytes, tn_ir_dim_const(p->m, 63));
  return tn_dim_mul(p->m, tn_ir_dim_make(p->m, TN_DIM_FLOORDIV, more, line), line);
}

/* The sum of what lives now, unless another is known to be as large. */
static tn_status note_sum(planner *p) {
  tn_dim sum = tn_ir_dim_const(p->m, 0);
  for (uint32_t i = 0; i < p->live.count && sum; i++)
    sum = tn_dim_add(p->m, sum, p->slots.items[p->live.items[i]].size);
  if (!sum) return TN_OOM;
  uint32_t kept = 0;
  for (uint32_t i = 0; i < p->sums.count; i++) {
    if (tn_dim_known_le(p->m, sum, p->sums.items[i])) return TN_OK; /* then it is above none of the others */
    if (!tn_dim_known_le(p->m, p->sums.items[i], sum)) p->sums.items[kept++] = p->sums.items[i];
  }
  p->sums.count = kept;
  if (kept == MOMENTS) return TN_OK;
  return tn_vec_push(&p->sums, sum) ? TN_OK : TN_OOM;
}

/* Slots that nobody reads behind step `done` - 1 live no longer. */
static void release(planner *p, uint32_t done) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < p->live.count; i++) {
    uint32_t until = p->slots.items[p->live.items[i]].until;
    if (!until || until > done) p->live.items[kept++] = p->live.items[i];
  }
  p->live.count = kept;
}

/* ---- kernels --------------------------------------------------------------------------------- */

/* The slot of a value that `op` makes. */
static tn_status add_slot(planner *p, tn_op op, tn_value v, tn_dim size, uint32_t after, int64_t *out) {
  uint32_t here = tn_marks_get(&p->place, op), last = last_use(p, v);
  uint32_t from = tn_marks_get(&p->step, here) - 1, until = tn_marks_get(&p->step, last > here ? last : here);
  *out = p->slots.count;
  if (!size || !tn_vec_push(&p->slots, ((slot){size, after, from, p->reuse ? until : 0}))) return TN_OOM;
  return after || tn_vec_push(&p->live, (uint32_t)*out) ? TN_OK : TN_OOM;
}

static tn_status place_result(planner *p, tn_op kernel, tn_value v, int64_t *out) {
  if (tn_marks_get(&p->output, v)) return *out = -1, TN_OK;
  tn_dim bytes = tn_type_bytes(p->m, tn_rw_type(p->m, v));
  if (!bytes) return TN_INVALID;
  return add_slot(p, kernel, v, round_up(p, bytes), tn_late_place(&p->late, bytes), out);
}

static tn_status place_kernel(planner *p, tn_op kernel) {
  int64_t slots[TN_MAX_RESULTS];
  uint32_t n = tn_ir_op_nresults(p->m, kernel);
  if (n > TN_MAX_RESULTS) return TN_INVALID;
  for (uint32_t i = 0; i < n; i++) {
    int64_t state = tn_rw_updated_operand(p->m, kernel, i);
    slots[i] = -2 - state;
    if (state < 0) TN_TRY(place_result(p, kernel, tn_ir_op_result(p->m, kernel, i), &slots[i]));
  }
  if (p->reuse) TN_TRY(note_sum(p));
  tn_attr a = {.kind = TN_ATTR_INTS, .count = n, .u.ints = slots};
  return tn_ir_op_set_attr(p->m, kernel, "slots", &a);
}

/* What an if or loop gives: memory of its own, there when it is done. */
static tn_status place_call(planner *p, tn_op call) {
  int64_t slots[TN_MAX_RESULTS];
  uint32_t n = tn_ir_op_nresults(p->m, call), here = tn_marks_get(&p->place, call);
  for (uint32_t i = 0; i < n; i++)
    TN_TRY(add_slot(p, call, tn_ir_op_result(p->m, call, i), tn_ir_dim_const(p->m, 0), here, &slots[i]));
  tn_attr a = {.kind = TN_ATTR_INTS, .count = n, .u.ints = slots};
  return tn_ir_op_set_attr(p->m, call, "slots", &a);
}

static tn_status place_op(planner *p, tn_op op) {
  tn_status status = TN_OK;
  if (tn_rw_is(p->m, op, TN_OPC_kernel)) status = place_kernel(p, op);
  if (tn_rw_is(p->m, op, TN_OPC_if) || tn_rw_is(p->m, op, TN_OPC_loop)) status = place_call(p, op);
  release(p, tn_marks_get(&p->step, tn_marks_get(&p->place, op)));
  return status;
}

static tn_status write_plan(planner *p) {
  TN_VEC(tn_dim) sizes = {0};
  TN_VEC(int64_t) after = {0}, live = {0};
  tn_dim most = p->sums.count ? p->sums.items[0] : tn_ir_dim_const(p->m, 0);
  bool ok = true, late = false;
  for (uint32_t i = 1; i < p->sums.count; i++)
    most = tn_ir_dim_make(p->m, TN_DIM_MAX, most, p->sums.items[i]);
  for (uint32_t i = 0; i < p->slots.count && ok; i++) {
    const slot *s = &p->slots.items[i];
    ok = tn_vec_push(&sizes, s->size) && tn_vec_push(&after, (int64_t)tn_marks_get(&p->step, s->after)) &&
         tn_vec_push(&live, (int64_t)s->from) && tn_vec_push(&live, (int64_t)s->until);
    late |= s->after != 0;
  }
  tn_attr list = {.kind = TN_ATTR_DIMS, .count = sizes.count, .u.dims = sizes.items},
          total = {.kind = TN_ATTR_DIM, .u.dim = most},
          steps = {.kind = TN_ATTR_INTS, .count = live.count, .u.ints = live.items},
          behind = {.kind = TN_ATTR_INTS, .count = after.count, .u.ints = after.items};
  tn_status status = ok && most ? tn_ir_func_set_attr(p->m, p->f, "slots", &list) : TN_OOM;
  if (status == TN_OK) status = tn_ir_func_set_attr(p->m, p->f, "live", &steps);
  if (status == TN_OK) status = tn_ir_func_set_attr(p->m, p->f, "arena", &total);
  if (status == TN_OK && late) status = tn_ir_func_set_attr(p->m, p->f, "slots_after", &behind);
  tn_vec_fini(&sizes);
  tn_vec_fini(&after);
  tn_vec_fini(&live);
  return status;
}

tn_status tn_pass_plan_memory(tn_pass_ctx *c, tn_func f) {
  planner p = {.m = c->m, .f = f, .reuse = tn_pass_int(c, "reuse", 1)};
  tn_status status = tn_late_find(c->m, f, &p.late) ? number_ops(&p) : TN_OOM;
  if (status == TN_OK) status = note_outputs(&p);
  for (tn_op op = tn_ir_first_op(c->m, f, 0); op && status == TN_OK; op = tn_ir_next_op(c->m, op))
    status = place_op(&p, op);
  if (status == TN_OK && p.late.oom) status = TN_OOM;
  if (status == TN_OK && !p.reuse) status = note_sum(&p);
  if (status == TN_OK) status = write_plan(&p);
  tn_marks_fini(&p.place);
  tn_marks_fini(&p.output);
  tn_marks_fini(&p.step);
  tn_late_fini(&p.late);
  tn_vec_fini(&p.slots);
  tn_vec_fini(&p.live);
  tn_vec_fini(&p.sums);
  return status;
}
