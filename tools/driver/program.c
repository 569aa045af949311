/* program.c - writes the step program (ir/base/program.h) of a lowered module: every kernel op becomes a
 * step, every dim expression a row, names go to one pool. Rows come in id order, so equal modules give equal
 * bytes. */
#include "tools/driver/copies.h"
#include "tools/driver/driver.h"
#include "tools/driver/hazards.h"
#include <stdlib.h>

typedef struct writer {
  tn_driver *d;
  tn_module *m;
  tn_build *b;
  tn_map names, expr_of; /* text -> offset in strings; dim id (as bytes) -> expr row */
  tn_buf strings;
  TN_VEC(tn_prog_dim) dims;
  TN_VEC(tn_prog_constraint) constraints;
  TN_VEC(tn_prog_expr) exprs;
  TN_VEC(tn_prog_entry) entries;
  TN_VEC(tn_prog_variant) variants;
  TN_VEC(tn_prog_arg) args;
  TN_VEC(tn_prog_slot) slots;
  TN_VEC(tn_prog_step) steps;
  TN_VEC(tn_prog_operand) operands;
  TN_VEC(uint32_t) scalars;
  TN_VEC(tn_prog_weight) weights;
  TN_VEC(tn_prog_state) states;
  TN_VEC(tn_prog_kernel) kernels;
  TN_VEC(tn_prog_meta) meta;
  TN_VEC(tn_prog_bind) binds;
  TN_VEC(tn_prog_call) calls;
  TN_VEC(tn_func)
  order; /* the functions in the order of their entries: public ones, callers before callees */
  uint32_t npublic;
  TN_VEC(tn_step_use) uses; /* of the variant's steps */
  bool *homes;              /* per state: it lies on the device between calls */
  uint32_t device;          /* the backend with one, + 1; 0: none */
  tn_hazards hazards;
  bool oom;
} writer;

/* Appends to a table; a failed allocation is noticed once, at the end. */
#define PUT(w, vec, x) ((w)->oom |= !tn_vec_push(&(w)->vec, (x)))

static uint32_t put_name(writer *w, const char *s) {
  uint64_t at;
  tn_str key = tn_str_of(s);
  if (tn_map_get(&w->names, key, &at)) return (uint32_t)at;
  at = w->strings.len;
  tn_buf_put(&w->strings, s, key.len + 1);
  w->oom |= tn_map_put(&w->names, key, at, NULL) != TN_OK;
  return (uint32_t)at;
}

static uint32_t symbol_row(writer *w, const char *symbol) {
  for (uint32_t i = 0; i < tn_dim_symbols(w->m); i++)
    if (!strcmp(tn_dim_symbol(w->m, i), symbol)) return i;
  return TN_PROG_NONE;
}

static uint32_t put_expr(writer *w, tn_dim d) {
  uint64_t row;
  tn_str key = {(const char *)&d, sizeof d};
  if (tn_map_get(&w->expr_of, key, &row)) return (uint32_t)row;
  tn_dim_info info;
  tn_ir_dim_get(w->m, d, &info);
  tn_prog_expr e = {.kind = info.kind};
  if (info.kind == TN_DIM_CONST)
    e.value = info.value;
  else if (info.kind == TN_DIM_SYM)
    e.a = symbol_row(w, info.symbol);
  else if (info.kind != TN_DIM_UNKNOWN)
    e.a = put_expr(w, info.a), e.b = put_expr(w, info.b);
  row = w->exprs.count;
  PUT(w, exprs, e);
  w->oom |= tn_map_put(&w->expr_of, key, row, NULL) != TN_OK;
  return (uint32_t)row;
}

static uint32_t put_shape(writer *w, const tn_dim *dims, uint32_t n) {
  uint32_t rows[64];
  for (uint32_t i = 0; i < n; i++) {
    uint32_t row = put_expr(w, dims[i]);
    if (n <= TN_COUNT(rows)) rows[i] = row;
  }
  uint32_t first = w->scalars.count;
  for (uint32_t i = 0; i < n; i++) PUT(w, scalars, n <= TN_COUNT(rows) ? rows[i] : put_expr(w, dims[i]));
  return first;
}

static tn_prog_arg make_arg(writer *w, const char *name, tn_type type) {
  tn_type_info t;
  tn_ir_type_get(w->m, type, &t);
  return (tn_prog_arg){put_name(w, name), t.dtype, t.rank, put_shape(w, t.dims, t.rank)};
}

/* ---- module tables
 * -------------------------------------------------------------------------------------------- */

static void put_dims(writer *w) {
  const char *position = tn_ir_meta_get(w->m, "dim.position"),
             *capacity = tn_ir_meta_get(w->m, "dim.capacity");
  for (uint32_t i = 0; i < tn_dim_symbols(w->m); i++) {
    const char *s = tn_dim_symbol(w->m, i);
    uint32_t source = position && !strcmp(s, position)   ? TN_PROG_DIM_POSITION
                      : capacity && !strcmp(s, capacity) ? TN_PROG_DIM_CAPACITY
                                                         : TN_PROG_DIM_INPUT;
    tn_prog_dim row = {put_name(w, s), source, INT64_MAX};
    PUT(w, dims, row);
  }
  for (uint32_t i = 0; i < tn_dim_constraints(w->m); i++) {
    tn_dim a, b;
    tn_dim_constraint(w->m, i, &a, &b);
    tn_dim_info info;
    tn_ir_dim_get(w->m, a, &info);
    int64_t limit;
    if (info.kind == TN_DIM_SYM && tn_ir_dim_is_const(w->m, b, &limit)) {
      uint32_t row = symbol_row(w, info.symbol);
      if (row < w->dims.count && limit < w->dims.items[row].max) w->dims.items[row].max = limit;
    }
    tn_prog_constraint c = {put_expr(w, a), put_expr(w, b)};
    PUT(w, constraints, c);
  }
}

static void put_weights(writer *w) {
  for (uint32_t i = 0; i < w->b->weights.count; i++) {
    tn_weight_info info;
    tn_type_info t;
    tn_ir_weight_get(w->m, w->b->weights.items[i], &info);
    tn_ir_type_get(w->m, info.type, &t);
    uint64_t at = w->b->weight_offsets.items[i];
    bool stays = at == UINT64_MAX;
    tn_prog_weight row = {put_name(w, info.name),
                          t.dtype,
                          t.layout ? put_name(w, t.layout) : TN_PROG_NONE,
                          t.rank,
                          put_shape(w, t.dims, t.rank),
                          stays ? put_name(w, info.parts[0].file) : TN_PROG_NONE,
                          stays ? info.parts[0].offset : at,
                          w->b->weight_bytes.items[i]};
    PUT(w, weights, row);
  }
}

static void put_states_kernels_meta(writer *w) {
  for (tn_state s = 1; s <= tn_ir_state_count(w->m); s++) {
    tn_state_info info;
    tn_ir_state_get(w->m, s, &info);
    tn_prog_state row = {make_arg(w, info.name, info.type)};
    PUT(w, states, row);
  }
  for (uint32_t i = 0; i < w->b->rows.count; i++) {
    const tn_build_kernel *k = &w->b->kernels.items[w->b->rows.items[i]];
    tn_prog_kernel row = {put_name(w, k->symbols[0]),
                          put_name(w, w->d->backends.items[k->backend].table.name)};
    PUT(w, kernels, row);
  }
  for (uint32_t i = 0; i < tn_ir_meta_count(w->m); i++) {
    const char *key = tn_ir_meta_key(w->m, i);
    tn_prog_meta row = {put_name(w, key), put_name(w, tn_ir_meta_get(w->m, key))};
    PUT(w, meta, row);
  }
}

/* ---- steps
 * ---------------------------------------------------------------------------------------------------- */

static uint32_t weight_row(const writer *w, tn_weight weight) {
  for (uint32_t i = 0; i < w->b->weights.count; i++)
    if (w->b->weights.items[i] == weight) return i;
  return TN_PROG_NONE;
}

/* Which output of the function a kernel's result is: the position in `return` of it, or of a reshape of it.
 */
static uint32_t output_of(writer *w, tn_value v) {
  tn_value_info info;
  tn_ir_value_get(w->m, v, &info);
  for (uint32_t i = 0; i < info.nuses; i++) {
    uint32_t operand;
    tn_op user = tn_ir_value_use(w->m, v, i, &operand);
    if (tn_ir_opcode(w->m, user) == TN_OPC_return) return operand;
    if (tn_ir_opcode(w->m, user) == TN_OPC_reshape) {
      uint32_t out = output_of(w, tn_ir_op_result(w->m, user, 0));
      if (out != TN_PROG_NONE) return out;
    }
  }
  return TN_PROG_NONE;
}

static tn_prog_operand place_of(writer *w, tn_value v) {
  tn_value_info info;
  tn_ir_value_get(w->m, v, &info);
  switch (info.kind) {
  case TN_VALUE_ARG: return (tn_prog_operand){TN_PROG_INPUT, info.index};
  case TN_VALUE_WEIGHT: return (tn_prog_operand){TN_PROG_WEIGHT, weight_row(w, info.weight)};
  case TN_VALUE_STATE: return (tn_prog_operand){TN_PROG_STATE, info.state - 1};
  default: break;
  }
  if (tn_ir_opcode(w->m, info.op) == TN_OPC_reshape) return place_of(w, tn_ir_op_operand(w->m, info.op, 0));
  tn_attr slots;
  if (!tn_ir_op_attr(w->m, info.op, "slots", &slots) || info.index >= slots.count)
    return (tn_prog_operand){TN_PROG_SLOT, TN_PROG_NONE};
  int64_t slot = slots.u.ints[info.index];
  if (slot < -1) return place_of(w, tn_ir_op_operand(w->m, info.op, (uint32_t)(-2 - slot)));
  if (slot == -1) return (tn_prog_operand){TN_PROG_OUTPUT, output_of(w, v)};
  return (tn_prog_operand){TN_PROG_SLOT, (uint32_t)slot};
}

/* The places of a fused location, each once, the first six: "bert.model:29, bert.model:30". */
static void loc_text(writer *w, tn_loc loc, tn_buf *out, int depth) {
  tn_loc_info l;
  if (!loc || depth > 24 || out->len > 160) return;
  tn_ir_loc_get(w->m, loc, &l);
  if (l.kind == TN_LOC_FUSED || l.kind == TN_LOC_DERIVED) {
    loc_text(w, l.a, out, depth + 1);
    if (l.kind == TN_LOC_FUSED) loc_text(w, l.b, out, depth + 1);
    return;
  }
  char place[128];
  snprintf(place, sizeof place, l.line ? "%.100s:%u" : "%.100s", l.name ? l.name : "?", l.line);
  for (const char *at = tn_buf_cstr(out), *hit; (hit = strstr(at, place)); at = hit + 1)
    if (!hit[strlen(place)] || hit[strlen(place)] == ',') return;
  tn_buf_printf(out, "%s%s", out->len ? ", " : "", place);
}

static uint32_t put_loc(writer *w, tn_op op) {
  tn_buf loc = {0};
  loc_text(w, tn_ir_op_loc(w->m, op), &loc, 0);
  uint32_t at = put_name(w, tn_buf_cstr(&loc));
  tn_buf_fini(&loc);
  return at;
}

/* Where the op's operands and results lie. */
static tn_status put_operands(writer *w, tn_op op, uint32_t *first, uint32_t *count) {
  uint32_t nin = tn_ir_op_noperands(w->m, op), nout = tn_ir_op_nresults(w->m, op);
  *first = w->operands.count;
  *count = nin + nout;
  for (uint32_t i = 0; i < nin + nout; i++) {
    tn_value v = i < nin ? tn_ir_op_operand(w->m, op, i) : tn_ir_op_result(w->m, op, i - nin);
    tn_prog_operand o = v ? place_of(w, v) : (tn_prog_operand){TN_PROG_ABSENT, 0};
    if (o.index == TN_PROG_NONE) {
      tn_ir_report(w->m, TN_ERROR, tn_ir_op_loc(w->m, op), "operand %u of the %s has no place in memory", i,
                   tn_ir_opcode_name(tn_ir_opcode(w->m, op)));
      return TN_INTERNAL;
    }
    PUT(w, operands, o);
  }
  return TN_OK;
}

/* A kernel that updates states in place; its results are other names for them. */
static bool writes_states(writer *w, tn_op kernel) {
  for (tn_op op = tn_ir_first_op(w->m, 0, kernel); op; op = tn_ir_next_op(w->m, op))
    if (tn_ir_opcode(w->m, op) == TN_OPC_kv_update) return true;
  return false;
}

static tn_status put_kernel(writer *w, tn_op op) {
  const tn_build_kernel *k = tn_build_kernel_of(w->b, op);
  if (!k) {
    tn_ir_report(w->m, TN_ERROR, tn_ir_op_loc(w->m, op), "no backend compiled this kernel");
    return TN_INTERNAL;
  }
  tn_prog_step step = {.kernel = k->row, .nscalars = k->ndims, .flags = k->flags};
  TN_TRY(put_operands(w, op, &step.first_operand, &step.noperands));
  step.scratch = k->scratch ? put_expr(w, k->scratch) : TN_PROG_NONE;
  step.first_scalar = put_shape(w, k->dims, k->ndims);
  step.loc = put_loc(w, op);
  tn_dim work = tn_kernel_work(w->m, op);
  step.work = work ? put_expr(w, work) + 1 : 0;
  tn_step_use use = {tn_ir_op_noperands(w->m, op), k->backend + 1 == w->device, writes_states(w, op)};
  PUT(w, uses, use);
  PUT(w, steps, step);
  return TN_OK;
}

static tn_type type_of(writer *w, tn_value v) {
  tn_value_info info;
  tn_ir_value_get(w->m, v, &info);
  return info.type;
}

static tn_dtype dtype_of(writer *w, tn_value v) {
  tn_type_info t;
  tn_ir_type_get(w->m, type_of(w, v), &t);
  return t.dtype;
}

static uint32_t put_bind(writer *w, tn_op op) {
  tn_attr dim, max;
  tn_dim_info info;
  int64_t none;
  tn_ir_op_attr(w->m, op, "dim", &dim);
  tn_ir_op_attr(w->m, op, "max", &max);
  tn_ir_dim_get(w->m, dim.u.dim, &info);
  bool limited = !tn_ir_dim_is_const(w->m, max.u.dim, &none) || none;
  tn_prog_bind b = {symbol_row(w, info.symbol), dtype_of(w, tn_ir_op_operand(w->m, op, 0)),
                    limited ? put_expr(w, max.u.dim) : TN_PROG_NONE, 0};
  PUT(w, binds, b);
  return w->binds.count - 1;
}

static uint32_t entry_row(const writer *w, tn_op op, const char *attr) {
  tn_attr name;
  if (!tn_ir_op_attr(w->m, op, attr, &name)) return TN_PROG_NONE;
  for (uint32_t i = 0; i < w->order.count; i++) {
    tn_func_info info;
    tn_ir_func_get(w->m, w->order.items[i], &info);
    if (!strcmp(info.name, name.u.s)) return i;
  }
  return TN_PROG_NONE;
}

static uint32_t put_call(writer *w, tn_op op) {
  bool loop = tn_ir_opcode(w->m, op) == TN_OPC_loop;
  uint32_t lead = loop ? 2 : 1, nin = tn_ir_op_noperands(w->m, op);
  tn_attr carried;
  tn_prog_call c = {.entry = entry_row(w, op, loop ? "body" : "then"),
                    .otherwise = entry_row(w, op, "else"),
                    .first_arg = w->args.count,
                    .nargs = nin - lead,
                    .nresults = tn_ir_op_nresults(w->m, op)};
  tn_value trip = tn_ir_op_operand(w->m, op, 0);
  if (loop && tn_ir_op_attr(w->m, op, "carried", &carried)) c.carried = (uint32_t)carried.u.i;
  if (loop) c.trip = trip ? dtype_of(w, trip) : TN_DT_i64;
  for (uint32_t i = lead; i < nin; i++)
    PUT(w, args, make_arg(w, "", type_of(w, tn_ir_op_operand(w->m, op, i))));
  c.first_result = w->args.count;
  for (uint32_t i = 0; i < c.nresults; i++) {
    tn_value v = tn_ir_op_result(w->m, op, i);
    const char *name = tn_ir_value_name(w->m, v);
    PUT(w, args, make_arg(w, name ? name : "", type_of(w, v)));
  }
  PUT(w, calls, c);
  return w->calls.count - 1;
}

static tn_status put_step(writer *w, tn_op op) {
  uint32_t code = tn_ir_opcode(w->m, op);
  if (code == TN_OPC_kernel) return put_kernel(w, op);
  tn_prog_step step = {.scratch = TN_PROG_NONE,
                       .kind = code == TN_OPC_let_dim ? TN_PROG_BIND
                               : code == TN_OPC_if    ? TN_PROG_IF
                                                      : TN_PROG_LOOP};
  TN_TRY(put_operands(w, op, &step.first_operand, &step.noperands));
  step.kernel = step.kind == TN_PROG_BIND ? put_bind(w, op) : put_call(w, op);
  step.loc = put_loc(w, op);
  tn_step_use use = {.nread = tn_ir_op_noperands(w->m, op)};
  PUT(w, uses, use);
  PUT(w, steps, step);
  return TN_OK;
}

/* Slots in which an if or loop leaves what it gives have no size. */
static void note_given(writer *w, tn_op op, uint32_t first_slot) {
  tn_attr slots;
  uint32_t code = tn_ir_opcode(w->m, op);
  if ((code != TN_OPC_if && code != TN_OPC_loop) || !tn_ir_op_attr(w->m, op, "slots", &slots)) return;
  for (uint32_t i = 0; i < slots.count; i++)
    if (first_slot + slots.u.ints[i] < w->slots.count)
      w->slots.items[first_slot + slots.u.ints[i]].bytes = TN_PROG_NONE;
}

static void put_slots(writer *w, tn_func f, tn_prog_variant *v) {
  tn_attr sizes, after = {0}, live = {0};
  if (!tn_ir_func_attr(w->m, f, "slots", &sizes)) return;
  if (!tn_ir_func_attr(w->m, f, "slots_after", &after)) after.count = 0;
  if (!tn_ir_func_attr(w->m, f, "live", &live)) live.count = 0;
  for (uint32_t i = 0; i < sizes.count; i++) {
    tn_prog_slot s = {.bytes = put_expr(w, sizes.u.dims[i])};
    if (i < after.count) s.after = (uint32_t)after.u.ints[i];
    if (2 * i + 1 < live.count)
      s.from = (uint32_t)live.u.ints[2 * i], s.until = (uint32_t)live.u.ints[2 * i + 1];
    PUT(w, slots, s);
  }
  v->nslots = sizes.count;
}

/* ---- variants
 * ------------------------------------------------------------------------------------------------- */

/* Of kernels in the host's memory; what runs on the device, and copies, come between walks of the threads. */
static void find_hazards(writer *w, const tn_prog_variant *v) {
  tn_hazards_begin(&w->hazards, w->slots.items + v->first_slot, v->nslots);
  for (uint32_t i = 0; i < v->nsteps; i++) {
    tn_prog_step *step = &w->steps.items[v->first_step + i];
    const tn_step_use *use = &w->uses.items[i];
    if (step->kind != TN_PROG_KERNEL || use->device)
      tn_hazards_host(&w->hazards);
    else
      step->ahead = tn_hazards_kernel(&w->hazards, w->operands.items + step->first_operand, use->nread,
                                      step->noperands, use->updates);
  }
}

/* The copy has the place in the model of the step that it stands before, or of the last one. */
static void put_copy(writer *w, const tn_copy *c, const tn_prog_step *near, const tn_build_step *from) {
  tn_prog_step step = {.kernel = c->direction,
                       .first_operand = w->operands.count,
                       .noperands = 1,
                       .scratch = TN_PROG_NONE,
                       .loc = near->loc,
                       .kind = TN_PROG_COPY};
  PUT(w, operands, c->what);
  PUT(w, steps, step);
  PUT(w, uses, (tn_step_use){0});
  PUT(w, b->steps, *from);
}

/* Writes the variant's steps again, with the copies between them. */
static tn_status splice(writer *w, tn_prog_variant *v, const tn_copies *c) {
  uint32_t n = v->nsteps, at = 0;
  tn_prog_step *steps = tn_mem_alloc((n + 1) * sizeof *steps);
  tn_step_use *uses = tn_mem_alloc((n + 1) * sizeof *uses);
  tn_build_step *from = tn_mem_alloc((n + 1) * sizeof *from);
  if (steps && uses && from && n) {
    memcpy(steps, w->steps.items + v->first_step, n * sizeof *steps);
    memcpy(uses, w->uses.items, n * sizeof *uses);
    memcpy(from, w->b->steps.items + v->first_step, n * sizeof *from);
    w->steps.count = w->b->steps.count = v->first_step;
    w->uses.count = 0;
    for (uint32_t i = 0; i <= n; i++) {
      uint32_t near = i < n ? i : n - 1;
      for (; at < c->list.count && c->list.items[at].before <= i; at++)
        put_copy(w, &c->list.items[at], &steps[near], &from[near]);
      if (i == n) break;
      PUT(w, steps, steps[i]);
      PUT(w, uses, uses[i]);
      PUT(w, b->steps, from[i]);
    }
    v->nsteps = w->steps.count - v->first_step;
  } else {
    w->oom |= !steps || !uses || !from;
  }
  tn_mem_free(steps), tn_mem_free(uses), tn_mem_free(from);
  return w->oom ? TN_OOM : TN_OK;
}

static tn_status place_copies(writer *w, tn_prog_variant *v, uint32_t noutputs) {
  tn_copies c = {.steps = w->steps.items + v->first_step,
                 .uses = w->uses.items,
                 .operands = w->operands.items,
                 .nsteps = v->nsteps,
                 .noutputs = noutputs,
                 .homes = w->homes,
                 .nstates = w->states.count,
                 .keep = w->d->options.keep_values};
  if (w->oom || !w->device) return w->oom ? TN_OOM : TN_OK;
  tn_status s = tn_copies_plan(&c) ? TN_OK : TN_OOM;
  if (s == TN_OK) tn_copies_slots(&c, w->slots.items + v->first_slot, v->nslots);
  if (s == TN_OK && c.list.count) s = splice(w, v, &c);
  tn_copies_fini(&c);
  return s;
}

static tn_status put_variant(writer *w, tn_func f) {
  tn_prog_variant v = {TN_PROG_NONE, w->steps.count, 0, w->slots.count, 0, 0, 0};
  tn_attr a;
  if (tn_ir_func_attr(w->m, f, "when_dim", &a)) v.dim = symbol_row(w, a.u.s);
  if (tn_ir_func_attr(w->m, f, "when_value", &a)) v.equals = a.u.i;
  put_slots(w, f, &v);
  w->uses.count = 0;
  for (tn_op op = tn_ir_first_op(w->m, f, 0); op; op = tn_ir_next_op(w->m, op)) {
    uint32_t code = tn_ir_opcode(w->m, op);
    if (code == TN_OPC_kernel || (tn_op_spec_of(code)->flags & TN_F_HOST)) {
      TN_TRY(put_step(w, op));
      tn_build_step from = {op, f};
      PUT(w, b->steps, from);
    }
    note_given(w, op, v.first_slot);
  }
  v.nsteps = w->steps.count - v.first_step;
  tn_func_info info;
  tn_ir_func_get(w->m, f, &info);
  TN_TRY(place_copies(w, &v, info.nresults));
  find_hazards(w, &v);
  PUT(w, variants, v);
  return TN_OK;
}

static bool is_variant_of(writer *w, tn_func f, const char *name) {
  tn_attr a;
  return tn_ir_func_attr(w->m, f, "variant_of", &a) && (!name || !strcmp(a.u.s, name));
}

static tn_status put_entry(writer *w, tn_func f) {
  tn_func_info info;
  tn_ir_func_get(w->m, f, &info);
  tn_prog_entry e = {put_name(w, info.name), w->args.count,     info.nargs, 0,
                     info.nresults,          w->variants.count, 0};
  for (uint32_t i = 0; i < info.nargs; i++) {
    tn_value_info v;
    tn_ir_value_get(w->m, info.args[i], &v);
    PUT(w, args, make_arg(w, info.arg_names[i], v.type));
  }
  e.first_output = w->args.count;
  for (uint32_t i = 0; i < info.nresults; i++)
    PUT(w, args, make_arg(w, info.result_names[i], info.results[i]));
  for (tn_func g = 1; g <= tn_ir_func_count(w->m); g++)
    if (is_variant_of(w, g, info.name)) TN_TRY(put_variant(w, g));
  TN_TRY(put_variant(w, f));
  e.nvariants = w->variants.count - e.first_variant;
  PUT(w, entries, e);
  return TN_OK;
}

/* ---- the order of entries
 * -------------------------------------------------------------------------------------- */

static bool is_private(writer *w, tn_func f) {
  tn_attr a;
  return tn_ir_func_attr(w->m, f, "private", &a) && a.kind == TN_ATTR_INT && a.u.i;
}

static tn_func function_of(writer *w, const char *name) {
  for (tn_func f = 1; f <= tn_ir_func_count(w->m); f++) {
    tn_func_info info;
    tn_ir_func_get(w->m, f, &info);
    if (!strcmp(info.name, name)) return f;
  }
  return 0;
}

/* Puts what f (and its variants) call, and then f itself, into `list`: callees first. The verifier refuses
 * functions that call themselves. */
static void order_from(writer *w, tn_func f, bool *placed, tn_func *list, uint32_t *n) {
  static const char *const attrs[] = {"then", "else", "body"};
  if (!f || placed[f]) return;
  placed[f] = true;
  tn_func_info info;
  tn_ir_func_get(w->m, f, &info);
  for (tn_func g = 1; g <= tn_ir_func_count(w->m); g++)
    if (is_variant_of(w, g, info.name)) order_from(w, g, placed, list, n);
  for (tn_op op = tn_ir_first_op(w->m, f, 0); op; op = tn_ir_next_op(w->m, op))
    for (uint32_t i = 0; (tn_op_spec_of(tn_ir_opcode(w->m, op))->flags & TN_F_HOST) && i < TN_COUNT(attrs);
         i++) {
      tn_attr name;
      if (tn_ir_op_attr(w->m, op, attrs[i], &name)) order_from(w, function_of(w, name.u.s), placed, list, n);
    }
  list[(*n)++] = f;
}

static void order_entries(writer *w) {
  tn_func count = tn_ir_func_count(w->m);
  uint32_t n = 0;
  bool *placed = tn_mem_alloc((count + 1) * sizeof *placed);
  tn_func *list = tn_mem_alloc((count + 1) * sizeof *list);
  w->oom |= !placed || !list;
  for (tn_func f = 1; f <= count && !w->oom; f++) {
    if (!is_private(w, f) && !is_variant_of(w, f, NULL)) PUT(w, order, f);
    order_from(w, f, placed, list, &n);
  }
  w->npublic = w->order.count;
  while (n-- > 0 && !w->oom)
    if (is_private(w, list[n]) && !is_variant_of(w, list[n], NULL)) PUT(w, order, list[n]);
  tn_mem_free(placed);
  tn_mem_free(list);
}

/* ---- the blob
 * ------------------------------------------------------------------------------------------------- */

static tn_prog_span put_table(tn_buf *out, const void *rows, uint64_t count, size_t size) {
  static const char zeros[8];
  if (out->len % 8) tn_buf_put(out, zeros, 8 - out->len % 8);
  tn_prog_span s = {(uint32_t)out->len, (uint32_t)count};
  tn_buf_put(out, rows, count * size);
  return s;
}
#define TABLE(name) h.name = put_table(out, w->name.items, w->name.count, sizeof *w->name.items)

static tn_status put_blob(writer *w) {
  tn_buf *out = &w->b->program;
  tn_prog_header h = {.version = TN_PROGRAM_VERSION};
  if (w->device) h.device = put_name(w, w->d->backends.items[w->device - 1].table.name) + 1;
  memcpy(h.magic, TN_PROGRAM_MAGIC, sizeof h.magic);
  const char *model = tn_ir_module_name(w->m);
  h.name = put_name(w, model && *model ? model : "model");
  h.npublic = w->npublic;
  tn_buf text = {0};
  if (w->d->options.keep_values) TN_TRY(tn_module_print(w->m, &text));
  tn_buf_put(out, &h, sizeof h);
  TABLE(dims), TABLE(constraints), TABLE(exprs), TABLE(entries), TABLE(variants), TABLE(args), TABLE(slots);
  TABLE(steps), TABLE(operands), TABLE(scalars), TABLE(weights), TABLE(states), TABLE(kernels), TABLE(meta);
  TABLE(binds), TABLE(calls);
  h.strings = put_table(out, w->strings.text, w->strings.len, 1);
  h.tokenizer = put_table(out, w->b->tokenizer.text, w->b->tokenizer.len, 1);
  h.text = put_table(out, text.text, text.len, 1);
  tn_buf_fini(&text);
  if (out->failed || w->oom) return TN_OOM;
  if (out->len > UINT32_MAX)
    return tn_fail(w->d->diags, TN_UNSUPPORTED, NULL, NULL, "the program has %llu bytes, the limit is 4 GiB",
                   (unsigned long long)out->len);
  h.bytes = out->len;
  h.hash = tn_hash_bytes(out->text + sizeof h, out->len - sizeof h, 0);
  memcpy(out->text, &h, sizeof h);
  return TN_OK;
}

/* Which backend has a device. */
static tn_status find_device(writer *w) {
  for (uint32_t i = 0; i < w->b->kernels.count; i++) {
    uint32_t backend = w->b->kernels.items[i].backend;
    const tn_backend_ref *refs = w->d->backends.items;
    if (!refs[backend].table.device || w->device == backend + 1) continue;
    if (w->device)
      return tn_fail(w->d->diags, TN_UNSUPPORTED, NULL, NULL,
                     "backends '%s' and '%s' both have devices of their own; a program uses one",
                     refs[w->device - 1].table.name, refs[backend].table.name);
    w->device = backend + 1;
  }
  return TN_OK;
}

/* States that kernels on the device use lie there. Settings are written by the host between calls. */
static tn_status find_homes(writer *w) {
  w->homes = tn_mem_alloc((w->states.count + 1) * sizeof *w->homes);
  if (!w->homes) return TN_OOM;
  for (uint32_t i = 0; i < w->b->kernels.count; i++) {
    const tn_build_kernel *k = &w->b->kernels.items[i];
    for (uint32_t n = tn_ir_op_noperands(w->m, k->op), j = 0; j < n; j++) {
      tn_value v = tn_ir_op_operand(w->m, k->op, j);
      tn_prog_operand o = v ? place_of(w, v) : (tn_prog_operand){TN_PROG_ABSENT, 0};
      if (o.kind != TN_PROG_STATE || o.index >= w->states.count || k->backend + 1 != w->device) continue;
      const char *name = w->strings.text + w->states.items[o.index].arg.name;
      w->homes[o.index] = strcmp(name, TN_PROG_SETTING) != 0;
    }
  }
  return TN_OK;
}

static tn_status write_all(writer *w) {
  put_dims(w);
  put_weights(w);
  put_states_kernels_meta(w);
  TN_TRY(find_device(w));
  if (w->oom) return TN_OOM;
  TN_TRY(find_homes(w));
  order_entries(w);
  for (uint32_t i = 0; i < w->order.count; i++) TN_TRY(put_entry(w, w->order.items[i]));
  return put_blob(w);
}

tn_status tn_program_write(tn_driver *d, tn_module *m, tn_build *b) {
  writer w = {.d = d, .m = m, .b = b};
  tn_map_init(&w.names);
  tn_map_init(&w.expr_of);
  tn_status s = write_all(&w);
  tn_map_fini(&w.names);
  tn_map_fini(&w.expr_of);
  tn_hazards_fini(&w.hazards);
  tn_mem_free(w.homes);
  tn_vec_fini(&w.uses);
  tn_buf_fini(&w.strings);
  tn_vec_fini(&w.dims), tn_vec_fini(&w.constraints), tn_vec_fini(&w.exprs), tn_vec_fini(&w.entries),
      tn_vec_fini(&w.variants);
  tn_vec_fini(&w.args), tn_vec_fini(&w.slots), tn_vec_fini(&w.steps), tn_vec_fini(&w.operands),
      tn_vec_fini(&w.scalars);
  tn_vec_fini(&w.weights), tn_vec_fini(&w.states), tn_vec_fini(&w.kernels), tn_vec_fini(&w.meta);
  tn_vec_fini(&w.binds), tn_vec_fini(&w.calls), tn_vec_fini(&w.order);
  return s;
}
