/* plan_memory.c - where each kernel result lies. Results live from their kernel to their last reader (also
 * through reshapes, which are the same memory) and get slots of the arena; a slot is given on when nobody
 * reads it any more, but never to a result of the very kernel that reads it last. Sizes are dims: a slot's
 * size is the largest of its tenants', as max(...) where the order is not known.
 *
 * A size that only a let_dim, if or loop of the function makes known is planned the same way, but its slot is
 * shared only with others that become known there. What an if or loop gives lies in memory of its own: its
 * slots have the size 0.
 *
 * Written down: `slots` of each kernel, if and loop (-1: an output of the function, -2: a state in place),
 * and of the function `slots`, the sizes in bytes, multiples of 64, `arena`, the sum of those known from the
 * start, and unless all are, `slots_after`: how many kernels and host ops run before each size is known. */
#include "ir/late.h"
#include "passes/passes.h"
#include "passes/rw.h"

typedef struct slot {
  tn_dim bytes,
      size;       /* of the largest tenant; size is a multiple of 64 (kept apart: bytes compare more often) */
  uint32_t after; /* place of the op that makes the size known; 0: known from the start */
  bool free;
} slot;
typedef struct tenant {
  uint32_t slot, next;
} tenant;

typedef struct planner {
  tn_module *m;
  tn_func f;
  bool reuse;
  tn_marks place;  /* by op: 1 + position */
  tn_marks output; /* by value: returned */
  tn_marks step;   /* by place: kernels and host ops up to there */
  tn_late late;
  TN_VEC(slot) slots;
  TN_VEC(uint32_t) ends; /* by position: 1 + first row of `tenants` that ends there */
  TN_VEC(tenant) tenants;
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
    if (!tn_marks_set(&p->place, op, ++n) || !tn_marks_set(&p->step, n, steps) || !tn_vec_push(&p->ends, 0))
      return TN_OOM;
  }
  return tn_vec_push(&p->ends, 0) ? TN_OK : TN_OOM;
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

/* ---- slots ----------------------------------------------------------------------------------- */
/* How well a free slot suits, the lower the better: same size, larger, smaller, not known. */
static int rank(planner *p, const slot *s, tn_dim bytes) {
  if (s->bytes == bytes) return 0;
  if (tn_dim_known_le(p->m, bytes, s->bytes)) return 1;
  return tn_dim_known_le(p->m, s->bytes, bytes) ? 2 : 3;
}

/* Of two slots of one rank: of larger ones the smaller, of smaller ones the larger; else the first. */
static bool better(planner *p, int r, const slot *a, const slot *b) {
  if (r == 1) return tn_dim_known_le(p->m, a->bytes, b->bytes) && a->bytes != b->bytes;
  return r == 2 && tn_dim_known_le(p->m, b->bytes, a->bytes) && a->bytes != b->bytes;
}

static tn_dim round_up(planner *p, tn_dim bytes) {
  tn_dim line = tn_ir_dim_const(p->m, 64), more = tn_dim_add(p->m, bytes, tn_ir_dim_const(p->m, 63));
  return tn_dim_mul(p->m, tn_ir_dim_make(p->m, TN_DIM_FLOORDIV, more, line), line);
}

static int64_t take_slot(planner *p, tn_dim bytes) {
  tn_dim size = round_up(p, bytes);
  uint32_t after = tn_late_place(&p->late, bytes);
  int best = -1, best_rank = 4;
  for (uint32_t i = 0; p->reuse && i < p->slots.count && best_rank; i++) {
    const slot *s = &p->slots.items[i];
    if (!s->free || s->after != after) continue;
    int r = rank(p, s, bytes);
    if (r > best_rank || (r == best_rank && !better(p, r, s, &p->slots.items[best]))) continue;
    best = (int)i;
    best_rank = r;
  }
  if (best < 0)
    return tn_vec_push(&p->slots, ((slot){bytes, size, after, false})) ? (int64_t)p->slots.count - 1 : -3;
  slot *s = &p->slots.items[best];
  s->free = false;
  if (best_rank == 2) s->bytes = bytes, s->size = size;
  if (best_rank == 3) {
    s->bytes = tn_ir_dim_make(p->m, TN_DIM_MAX, s->bytes, bytes);
    s->size = tn_ir_dim_make(p->m, TN_DIM_MAX, s->size, size);
  }
  return best;
}

static bool ends_at(planner *p, uint32_t place, uint32_t slot_index) {
  if (!tn_vec_push(&p->tenants, ((tenant){slot_index, p->ends.items[place]}))) return false;
  p->ends.items[place] = p->tenants.count;
  return true;
}

static void release(planner *p, uint32_t place) {
  for (uint32_t row = p->ends.items[place]; row; row = p->tenants.items[row - 1].next)
    p->slots.items[p->tenants.items[row - 1].slot].free = true;
}

/* ---- kernels --------------------------------------------------------------------------------- */
static tn_status place_result(planner *p, tn_op kernel, tn_value v, int64_t *out) {
  uint32_t here = tn_marks_get(&p->place, kernel), last = last_use(p, v);
  if (tn_marks_get(&p->output, v)) return *out = -1, TN_OK;
  tn_dim bytes = tn_type_bytes(p->m, tn_rw_type(p->m, v));
  if (!bytes) return TN_INVALID;
  *out = take_slot(p, bytes);
  return *out >= 0 && ends_at(p, last > here ? last : here, (uint32_t)*out) ? TN_OK : TN_OOM;
}

static tn_status place_kernel(planner *p, tn_op kernel) {
  int64_t slots[TN_MAX_RESULTS];
  uint32_t n = tn_ir_op_nresults(p->m, kernel);
  bool in_place = !strcmp(tn_rw_attr(p->m, kernel, "root").u.s, "kv_update");
  if (n > TN_MAX_RESULTS) return TN_INVALID;
  for (uint32_t i = 0; i < n; i++) {
    slots[i] = -2;
    if (!in_place) TN_TRY(place_result(p, kernel, tn_ir_op_result(p->m, kernel, i), &slots[i]));
  }
  release(p, tn_marks_get(&p->place, kernel));
  tn_attr a = {.kind = TN_ATTR_INTS, .count = n, .u.ints = slots};
  return tn_ir_op_set_attr(p->m, kernel, "slots", &a);
}

/* What an if or loop gives: memory of its own, there when it is done. */
static tn_status place_call(planner *p, tn_op call) {
  int64_t slots[TN_MAX_RESULTS];
  uint32_t n = tn_ir_op_nresults(p->m, call), here = tn_marks_get(&p->place, call);
  tn_dim none = tn_ir_dim_const(p->m, 0);
  for (uint32_t i = 0; i < n; i++) {
    slots[i] = p->slots.count;
    if (!none || !tn_vec_push(&p->slots, ((slot){none, none, here, false}))) return TN_OOM;
  }
  release(p, here);
  tn_attr a = {.kind = TN_ATTR_INTS, .count = n, .u.ints = slots};
  return tn_ir_op_set_attr(p->m, call, "slots", &a);
}

static tn_status place_op(planner *p, tn_op op) {
  if (tn_rw_is(p->m, op, TN_OPC_kernel)) return place_kernel(p, op);
  if (tn_rw_is(p->m, op, TN_OPC_if) || tn_rw_is(p->m, op, TN_OPC_loop)) return place_call(p, op);
  release(p, tn_marks_get(&p->place, op));
  return TN_OK;
}

static tn_status write_sizes(planner *p) {
  TN_VEC(tn_dim) sizes = {0};
  TN_VEC(int64_t) after = {0};
  tn_dim sum = tn_ir_dim_const(p->m, 0);
  bool ok = true, late = false;
  for (uint32_t i = 0; i < p->slots.count && ok; i++) {
    const slot *s = &p->slots.items[i];
    if (!s->after) sum = tn_dim_add(p->m, sum, s->size);
    ok = s->size && sum && tn_vec_push(&sizes, s->size) &&
         tn_vec_push(&after, (int64_t)tn_marks_get(&p->step, s->after));
    late |= s->after != 0;
  }
  tn_attr list = {.kind = TN_ATTR_DIMS, .count = sizes.count, .u.dims = sizes.items},
          total = {.kind = TN_ATTR_DIM, .u.dim = sum},
          behind = {.kind = TN_ATTR_INTS, .count = after.count, .u.ints = after.items};
  tn_status status = ok ? tn_ir_func_set_attr(p->m, p->f, "slots", &list) : TN_OOM;
  if (status == TN_OK) status = tn_ir_func_set_attr(p->m, p->f, "arena", &total);
  if (status == TN_OK && late) status = tn_ir_func_set_attr(p->m, p->f, "slots_after", &behind);
  tn_vec_fini(&sizes);
  tn_vec_fini(&after);
  return status;
}

tn_status tn_pass_plan_memory(tn_pass_ctx *c, tn_func f) {
  planner p = {.m = c->m, .f = f, .reuse = tn_pass_int(c, "reuse", 1)};
  tn_status status = tn_late_find(c->m, f, &p.late) ? number_ops(&p) : TN_OOM;
  if (status == TN_OK) status = note_outputs(&p);
  for (tn_op op = tn_ir_first_op(c->m, f, 0); op && status == TN_OK; op = tn_ir_next_op(c->m, op))
    status = place_op(&p, op);
  if (status == TN_OK && p.late.oom) status = TN_OOM;
  if (status == TN_OK) status = write_sizes(&p);
  tn_marks_fini(&p.place);
  tn_marks_fini(&p.output);
  tn_marks_fini(&p.step);
  tn_late_fini(&p.late);
  tn_vec_fini(&p.slots);
  tn_vec_fini(&p.ends);
  tn_vec_fini(&p.tenants);
  return status;
}
