/* bind.c - from the shapes of a call's inputs to a value for every dim and expression. A dim is solved from
 * the first input that has it bare; everything else is then checked against the values, with both sides in
 * the message. */
#include "backends/runtime/rt.h"
#include <stdio.h>

static tn_rt_number number(int64_t v) { return (tn_rt_number){.value = v}; }
static tn_rt_number no_number(uint32_t state) { return (tn_rt_number){.state = state}; }

/* Rounds towards minus infinity, as the compiler's dims do. */
static tn_rt_number divide(int64_t a, int64_t b, bool remainder) {
  if (!b) return no_number(TN_NUMBER_DIVIDES_BY_ZERO);
  if (b == -1) {
    int64_t r;
    if (remainder) return number(0);
    return __builtin_sub_overflow((int64_t)0, a, &r) ? no_number(TN_NUMBER_OVERFLOW) : number(r);
  }
  int64_t q = a / b, r = a % b;
  if (r && (r < 0) != (b < 0)) q--, r += b;
  return number(remainder ? r : q);
}

static tn_rt_number combine(uint32_t kind, tn_rt_number a, tn_rt_number b) {
  if (a.state) return a;
  if (b.state) return b;
  int64_t r;
  switch (kind) {
  case TN_DIM_ADD:
    return __builtin_add_overflow(a.value, b.value, &r) ? no_number(TN_NUMBER_OVERFLOW) : number(r);
  case TN_DIM_MUL:
    return __builtin_mul_overflow(a.value, b.value, &r) ? no_number(TN_NUMBER_OVERFLOW) : number(r);
  case TN_DIM_FLOORDIV: return divide(a.value, b.value, false);
  case TN_DIM_MOD: return divide(a.value, b.value, true);
  case TN_DIM_MIN: return a.value < b.value ? a : b;
  default: return a.value > b.value ? a : b; /* TN_DIM_MAX: check.c lets no other through */
  }
}

void tn_rt_eval(const tn_view *v, const int64_t *dims, const bool *bound, tn_rt_number *out) {
  for (uint32_t i = 0; i < v->nexprs; i++) {
    const tn_prog_expr *e = &v->exprs[i];
    if (e->kind == TN_DIM_CONST)
      out[i] = number(e->value);
    else if (e->kind == TN_DIM_SYM)
      out[i] = bound[e->a] ? number(dims[e->a]) : no_number(TN_NUMBER_UNBOUND);
    else
      out[i] = combine(e->kind, out[e->a], out[e->b]);
  }
}

const char *tn_rt_number_why(uint32_t state) {
  static const char *const why[] = {"is negative", "depends on a dim that no input gives", "is too large",
                                    "divides by zero"};
  return why[state];
}

bool tn_rt_shape(const tn_rt_number *exprs, const uint32_t *shape, uint32_t rank, int64_t *out) {
  for (uint32_t i = 0; i < rank; i++) {
    const tn_rt_number *n = &exprs[shape[i]];
    if (n->state || n->value < 0) return false;
    out[i] = n->value;
  }
  return true;
}

bool tn_rt_arg_bytes(const tn_rt_number *exprs, const tn_view *v, const tn_prog_arg *a, uint64_t *bytes) {
  int64_t shape[TN_MAX_RANK];
  uint64_t n = 1;
  if (!tn_rt_shape(exprs, v->scalars + a->shape, a->rank, shape)) return false;
  for (uint32_t i = 0; i < a->rank; i++)
    if (!tn_mul_u64(n, (uint64_t)shape[i], &n)) return false;
  return tn_view_bytes(a->dtype, n, bytes);
}

static const char *dim_name(const tn_view *v, uint32_t dim) { return tn_view_str(v, v->dims[dim].name); }
static const char *arg_name(const tn_view *v, const tn_prog_arg *a) { return tn_view_str(v, a->name); }

static bool is_index(uint32_t dtype) { return dtype == TN_DT_i32 || dtype == TN_DT_i64; }

static tn_status check_type(tn_session *s, const tn_prog_arg *a, const tn_tensor *t) {
  const tn_view *v = &s->model->view;
  if (t->dtype != a->dtype && !(is_index(t->dtype) && is_index(a->dtype))) {
    const char *given = tn_view_dtype_name(t->dtype);
    return tn_rt_fail(s, TN_INVALID, "input '%s' has element type %s, expected %s", arg_name(v, a),
                      given ? given : "?", tn_view_dtype_name(a->dtype));
  }
  if (t->rank != a->rank)
    return tn_rt_fail(s, TN_INVALID, "input '%s' has rank %u, expected %u: %s", arg_name(v, a), t->rank,
                      a->rank, s->model->shapes[a - v->args]);
  return TN_OK;
}

static tn_status bind_dim(tn_session *s, const tn_prog_arg *a, uint32_t dim, int64_t value) {
  const tn_view *v = &s->model->view;
  if (value < 1)
    return tn_rt_fail(s, TN_INVALID, "input '%s' has %s = %lld, the least is 1", arg_name(v, a),
                      dim_name(v, dim), (long long)value);
  if (value > s->model->limits[dim])
    return tn_rt_fail(s, TN_INVALID, "input '%s' has %s = %lld, the limit is %lld", arg_name(v, a),
                      dim_name(v, dim), (long long)value, (long long)s->model->limits[dim]);
  s->dims[dim] = value;
  s->bound[dim] = true;
  return TN_OK;
}

static tn_status bind_input(tn_session *s, const tn_prog_arg *a, const tn_tensor *t) {
  const tn_view *v = &s->model->view;
  TN_TRY(check_type(s, a, t));
  for (uint32_t i = 0; i < a->rank; i++) {
    const tn_prog_expr *e = &v->exprs[v->scalars[a->shape + i]];
    if (e->kind == TN_DIM_SYM && !s->bound[e->a]) TN_TRY(bind_dim(s, a, e->a, t->shape[i]));
  }
  return TN_OK;
}

static tn_status check_shape(tn_session *s, const tn_prog_arg *a, const tn_tensor *t) {
  const tn_view *v = &s->model->view;
  for (uint32_t i = 0; i < a->rank; i++) {
    uint32_t row = v->scalars[a->shape + i];
    const tn_rt_number *want = &s->exprs[row];
    if (!want->state && want->value == t->shape[i]) continue;
    tn_buf text = {0};
    tn_view_expr_text(v, row, &text);
    tn_status status;
    if (want->state)
      status = tn_rt_fail(s, TN_INVALID, "input '%s': dim %u, %s, %s", arg_name(v, a), i, tn_buf_cstr(&text),
                          tn_rt_number_why(want->state));
    else if (v->exprs[row].kind == TN_DIM_CONST)
      status = tn_rt_fail(s, TN_INVALID, "input '%s' has %lld in dim %u, expected %lld", arg_name(v, a),
                          (long long)t->shape[i], i, (long long)want->value);
    else
      status = tn_rt_fail(s, TN_INVALID, "input '%s' has %lld in dim %u, expected %s = %lld", arg_name(v, a),
                          (long long)t->shape[i], i, tn_buf_cstr(&text), (long long)want->value);
    tn_buf_fini(&text);
    return status;
  }
  return TN_OK;
}

/* A constraint about dims that this entry does not have says nothing here. */
static tn_status check_constraint(tn_session *s, const tn_prog_constraint *c) {
  const tn_view *v = &s->model->view;
  const tn_rt_number *a = &s->exprs[c->a], *b = &s->exprs[c->b];
  if (a->state == TN_NUMBER_UNBOUND || b->state == TN_NUMBER_UNBOUND) return TN_OK;
  if (!a->state && !b->state && a->value <= b->value) return TN_OK;
  tn_buf left = {0}, right = {0};
  tn_view_expr_text(v, c->a, &left);
  tn_view_expr_text(v, c->b, &right);
  tn_status status;
  if (a->state || b->state)
    status = tn_rt_fail(s, TN_INVALID, "%s <= %s: %s", tn_buf_cstr(&left), tn_buf_cstr(&right),
                        tn_rt_number_why(a->state ? a->state : b->state));
  else
    status = tn_rt_fail(s, TN_INVALID, "%s = %lld is more than %s = %lld%s", tn_buf_cstr(&left),
                        (long long)a->value, tn_buf_cstr(&right), (long long)b->value,
                        v->exprs[c->b].kind == TN_DIM_SYM &&
                                v->dims[v->exprs[c->b].a].source == TN_PROG_DIM_CAPACITY
                            ? ", what the session's states hold"
                            : "");
  tn_buf_fini(&left);
  tn_buf_fini(&right);
  return status;
}

/* States were allocated for one batch and capacity; a call may not change their size. */
static tn_status check_states(tn_session *s) {
  const tn_view *v = &s->model->view;
  for (uint32_t i = 0; i < v->nstates; i++) {
    uint64_t bytes;
    if (!tn_rt_arg_bytes(s->exprs, v, &v->states[i].arg, &bytes))
      return tn_rt_fail(s, TN_INVALID, "state '%s': its size cannot be worked out from the inputs",
                        arg_name(v, &v->states[i].arg));
    if (bytes != s->state_bytes[i])
      return tn_rt_fail(s, TN_INVALID,
                        "the inputs need %llu bytes of state '%s', the session has %llu for a batch of %lld",
                        (unsigned long long)bytes, arg_name(v, &v->states[i].arg),
                        (unsigned long long)s->state_bytes[i], (long long)s->batch);
  }
  return TN_OK;
}

tn_status tn_rt_bind(tn_session *s, const tn_prog_entry *e, const tn_tensor *in) {
  const tn_model *m = s->model;
  const tn_view *v = &m->view;
  bool stateful = m->stateful[e - v->entries];
  for (uint32_t i = 0; i < v->ndims; i++) {
    s->bound[i] = v->dims[i].source != TN_PROG_DIM_INPUT;
    s->dims[i] = v->dims[i].source == TN_PROG_DIM_CAPACITY ? s->capacity : stateful ? s->position : 0;
  }
  for (uint32_t i = 0; i < e->ninputs; i++) TN_TRY(bind_input(s, &v->args[e->first_input + i], &in[i]));
  tn_rt_eval(v, s->dims, s->bound, s->exprs);
  for (uint32_t i = 0; i < e->ninputs; i++) TN_TRY(check_shape(s, &v->args[e->first_input + i], &in[i]));
  for (uint32_t i = 0; i < v->nconstraints; i++) TN_TRY(check_constraint(s, &v->constraints[i]));
  return stateful ? check_states(s) : TN_OK;
}
