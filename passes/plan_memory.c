/* plan_memory.c - where each kernel result lies. Results live from their kernel to their last reader (also
 * through reshapes, which are the same memory) and get slots of the arena; a slot is given on when nobody
 * reads it any more, but never to a result of the very kernel that reads it last. Sizes are dims: a slot's
 * size is the largest of its tenants', as max(...) where the order is not known.
 *
 * Written down: `slots` of each kernel (-1: an output of the function, -2: a state in place), and of the
 * function `slots`, the sizes in bytes, multiples of 64, and `arena`, their sum. */
#include "passes/passes.h"
#include "passes/rw.h"

typedef struct slot {
  tn_dim bytes,
      size; /* of the largest tenant; size is a multiple of 64 (kept apart: bytes compare more often) */
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
  TN_VEC(slot) slots;
  TN_VEC(uint32_t) ends; /* by position: 1 + first row of `tenants` that ends there */
  TN_VEC(tenant) tenants;
} planner;

static tn_status number_ops(planner *p) {
  uint32_t n = 0;
  for (tn_op op = tn_ir_first_op(p->m, p->f, 0); op; op = tn_ir_next_op(p->m, op)) {
    bool known = tn_rw_is(p->m, op, TN_OPC_kernel) || tn_rw_is(p->m, op, TN_OPC_reshape) ||
                 tn_rw_is(p->m, op, TN_OPC_return);
    if (!known) {
      tn_ir_report(p->m, TN_ERROR, tn_ir_op_loc(p->m, op),
                   "plan-memory: '%s' is in no kernel; fuse comes first",
                   tn_ir_opcode_name(tn_ir_opcode(p->m, op)));
      return TN_PRECONDITION;
    }
    if (!tn_marks_set(&p->place, op, ++n) || !tn_vec_push(&p->ends, 0)) return TN_OOM;
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
  int best = -1, best_rank = 4;
  for (uint32_t i = 0; p->reuse && i < p->slots.count && best_rank; i++) {
    const slot *s = &p->slots.items[i];
    if (!s->free) continue;
    int r = rank(p, s, bytes);
    if (r > best_rank || (r == best_rank && !better(p, r, s, &p->slots.items[best]))) continue;
    best = (int)i;
    best_rank = r;
  }
  if (best < 0)
    return tn_vec_push(&p->slots, ((slot){bytes, size, false})) ? (int64_t)p->slots.count - 1 : -3;
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

static tn_status write_sizes(planner *p) {
  TN_VEC(tn_dim) sizes = {0};
  tn_dim sum = tn_ir_dim_const(p->m, 0);
  bool ok = true;
  for (uint32_t i = 0; i < p->slots.count && ok; i++) {
    tn_dim d = p->slots.items[i].size;
    sum = tn_dim_add(p->m, sum, d);
    ok = d && sum && tn_vec_push(&sizes, d);
  }
  tn_attr list = {.kind = TN_ATTR_DIMS, .count = sizes.count, .u.dims = sizes.items},
          total = {.kind = TN_ATTR_DIM, .u.dim = sum};
  tn_status status = ok ? tn_ir_func_set_attr(p->m, p->f, "slots", &list) : TN_OOM;
  if (status == TN_OK) status = tn_ir_func_set_attr(p->m, p->f, "arena", &total);
  tn_vec_fini(&sizes);
  return status;
}

tn_status tn_pass_plan_memory(tn_pass_ctx *c, tn_func f) {
  planner p = {.m = c->m, .f = f, .reuse = tn_pass_int(c, "reuse", 1)};
  tn_status status = number_ops(&p);
  if (status == TN_OK) status = note_outputs(&p);
  for (tn_op op = tn_ir_first_op(c->m, f, 0); op && status == TN_OK; op = tn_ir_next_op(c->m, op))
    if (tn_rw_is(c->m, op, TN_OPC_kernel)) status = place_kernel(&p, op);
  if (status == TN_OK) status = write_sizes(&p);
  tn_marks_fini(&p.place);
  tn_marks_fini(&p.output);
  tn_vec_fini(&p.slots);
  tn_vec_fini(&p.ends);
  tn_vec_fini(&p.tenants);
  return status;
}
