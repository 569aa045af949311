/* inputs.c - what both sides are given: files (--input), stored tensors, or numbers made up from names and
 * shapes: ids below the vocabulary, a ragged mask whose first row is full, positions that count, zeros for
 * types, and floats between -1 and 1. The same seed gives the same numbers. */
#include "backends/ref/ref.h"
#include "tools/verify/verify.h"
#include <ctype.h>
#include <stdlib.h>

/* ---- sizes --------------------------------------------------------------------------------------------- */

static bool mentions(tn_str symbol, const char *word) {
  uint64_t n = strlen(word);
  for (uint64_t i = 0; i + n <= symbol.len; i++)
    if (!strncasecmp(symbol.ptr + i, word, n)) return true;
  return false;
}

/* Sizes by what exporters call them. Pictures are 32 wide; there is no past. */
static int64_t size_of(void *ctx, tn_str symbol) {
  const tn_verify *v = ctx;
  if (tn_str_is(symbol, "B") || tn_str_is(symbol, "N") || mentions(symbol, "batch")) return v->batch;
  if (tn_str_is(symbol, "P") || mentions(symbol, "past")) return 0;
  if (tn_str_is(symbol, "H") || tn_str_is(symbol, "W") || mentions(symbol, "height") ||
      mentions(symbol, "width"))
    return 32;
  return v->length;
}

/* ---- numbers ------------------------------------------------------------------------------------------- */

/* The size of the axis that a value's elements are indices into, where the module's ops say so; 0: they do
 * not. */
static int64_t index_limit(tn_module *m, tn_value x, uint32_t depth) {
  tn_value_info v;
  tn_ir_value_get(m, x, &v);
  for (uint32_t i = 0; i < v.nuses && depth < 8; i++) {
    uint32_t operand;
    tn_op op = tn_ir_value_use(m, x, i, &operand);
    uint32_t code = tn_ir_opcode(m, op);
    int64_t n = 0;
    if (code == TN_OPC_gather && operand == 1) {
      tn_attr axis;
      tn_value_info table;
      tn_type_info t;
      tn_ir_value_get(m, tn_ir_op_operand(m, op, 0), &table);
      tn_ir_type_get(m, table.type, &t);
      int64_t at = tn_ir_op_attr(m, op, "axis", &axis) ? axis.u.i : 0;
      if (at < 0) at += t.rank;
      if (at < 0 || at >= t.rank || !tn_ir_dim_is_const(m, t.dims[at], &n)) n = 0;
    } else if (code == TN_OPC_kernel && operand < tn_ir_body_nargs(m, op)) {
      n = index_limit(m, tn_ir_body_arg(m, op, operand), depth + 1);
    } else if (code == TN_OPC_cast || code == TN_OPC_reshape) {
      n = index_limit(m, tn_ir_op_result(m, op, 0), depth + 1);
    }
    if (n) return n;
  }
  return 0;
}

static int64_t limit_in_module(const tn_side *x, uint32_t input) {
  tn_entry_info e;
  tn_func_info f;
  if (!x->o.module || x->o.api->entry(x->o.model, (uint32_t)x->entry, &e) != TN_OK) return 0;
  for (tn_func i = 1; i <= tn_ir_func_count(x->o.module); i++) {
    tn_ir_func_get(x->o.module, i, &f);
    if (!strcmp(f.name, e.name) && input < f.nargs) return index_limit(x->o.module, f.args[input], 0);
  }
  return 0;
}

/* Ids below the vocabulary of either side; other integers 0 or 1, unless something is looked up with them. */
static int64_t integer_limit(const tn_verify *v, const tn_side *x, uint32_t input, const char *name) {
  int64_t found = limit_in_module(x, input);
  for (int i = 0; i < 2 && !found && !strcmp(name, "ids"); i++) {
    const tn_side *y = &v->sides[i];
    const char *vocab = y->stored ? NULL : y->o.api->meta(y->o.model, "vocab");
    if (vocab) found = strtoll(vocab, NULL, 10);
  }
  return found > 0 ? found : !strcmp(name, "ids") ? 100 : 2;
}

typedef struct maker {
  const char *name; /* as pages have it */
  uint32_t cls;
  int64_t limit, columns, rows;
  uint64_t seed;
} maker;

static double made(const maker *g, int64_t i) {
  uint32_t r[4];
  int64_t row = i / g->columns, column = i % g->columns, left = row * g->columns / (2 * g->rows);
  tn_philox((uint64_t)i, g->seed, r);
  if (!strcmp(g->name, "mask")) return column < g->columns - left;
  if (!strcmp(g->name, "pads")) return (double)(i * g->limit / (2 * g->columns));
  if (!strcmp(g->name, "types")) return 0;
  if (!strcmp(g->name, "positions")) return (double)column;
  if (g->cls == TN_CLASS_FLOAT) return (double)(r[0] >> 8) / (1 << 23) - 1;
  if (g->cls == TN_CLASS_BOOL) return r[0] & 1;
  return r[0] % (uint64_t)g->limit;
}

static tn_status make_input(tn_verify *v, const tn_side *x, uint32_t input, const tn_arg_info *arg,
                            tn_tensor *t) {
  const tn_dtype_info *info = tn_ir_dtype_info(arg->dtype);
  *t = (tn_tensor){.dtype = arg->dtype, .rank = arg->rank};
  if (!info || info->block_values != 1 || info->bits < 8)
    return tn_fail(v->d, TN_UNSUPPORTED, x->spec, arg->name, "no input of type %s is made up; use --input",
                   info ? info->name : "?");
  if (!tn_shape_sizes(arg->shape, size_of, v, t->shape, arg->rank))
    return tn_fail(v->d, TN_UNSUPPORTED, x->spec, arg->name,
                   "no input of the shape %s is made up; use --input or, for ONNX, --shapes", arg->shape);
  uint64_t count = 1;
  for (uint32_t i = 0; i < t->rank; i++)
    if (t->shape[i] < 0 || !tn_mul_u64(count, (uint64_t)t->shape[i], &count) || count > (uint64_t)1 << 32)
      return tn_fail(v->d, TN_INVALID, x->spec, arg->name, "a shape of %s cannot be made", arg->shape);
  t->data = calloc(count + 1, (info->bits + 7) / 8);
  if (!t->data) return TN_OOM;
  maker g = {.name = tn_verify_name(arg->name), .cls = info->cls, .seed = (uint64_t)v->seed + input};
  g.columns = t->rank && t->shape[t->rank - 1] > 0 ? t->shape[t->rank - 1] : 1;
  g.rows = count ? (int64_t)count / g.columns : 1;
  g.limit = !strcmp(g.name, "pads") ? v->length : integer_limit(v, x, input, g.name);
  tn_ref_tensor r = {.dtype = t->dtype, .data = t->data};
  for (uint64_t i = 0; i < count; i++) tn_ref_set(&r, (int64_t)i, made(&g, (int64_t)i));
  return TN_OK;
}

/* ---- both sides ---------------------------------------------------------------------------------------- */

static const char *input_file(const tn_args *a, const char *name) {
  for (uint32_t k = 0; tn_args_nth(a, OPT_input, k); k++) {
    const char *text = tn_args_nth(a, OPT_input, k), *eq = strchr(text, '=');
    if (eq && tn_str_is((tn_str){text, (uint64_t)(eq - text)}, name)) return eq + 1;
  }
  return NULL;
}

static tn_status own_input(tn_verify *v, tn_side *x, const tn_side *stored, uint32_t i,
                           const tn_arg_info *arg) {
  const char *file = input_file(v->a, arg->name);
  if (!file) file = input_file(v->a, tn_verify_name(arg->name));
  if (file) return tn_npy_read(file, &x->in[i], v->d);
  if (stored) return tn_stored_read(&stored->tensors, arg->name, &x->in[i], v->d);
  return make_input(v, x, i, arg, &x->in[i]);
}

/* The input of the other side that has this name, or, where the names tell nothing, this place. */
static const tn_tensor *others_input(const tn_side *x, const tn_side *other, uint32_t i, const char *name) {
  for (uint32_t k = 0; k < other->nin; k++) {
    tn_arg_info arg;
    other->o.api->input(other->o.model, (uint32_t)other->entry, k, &arg);
    if (tn_verify_same(arg.name, name)) return &other->in[k];
  }
  tn_entry_info mine;
  x->o.api->entry(x->o.model, (uint32_t)x->entry, &mine);
  return mine.ninputs == other->nin && mine.ninputs == 1 ? &other->in[i] : NULL;
}

static tn_status fill_side(tn_verify *v, tn_side *x, const tn_side *other, const tn_side *stored) {
  tn_entry_info info;
  x->o.api->entry(x->o.model, (uint32_t)x->entry, &info);
  if (info.ninputs > TN_VERIFY_TENSORS || info.noutputs > TN_VERIFY_TENSORS)
    return tn_fail(v->d, TN_UNSUPPORTED, x->spec, info.name,
                   "%u inputs and %u outputs, at most %d can be compared", info.ninputs, info.noutputs,
                   TN_VERIFY_TENSORS);
  for (uint32_t i = 0; i < info.ninputs; i++) {
    tn_arg_info arg;
    x->o.api->input(x->o.model, (uint32_t)x->entry, i, &arg);
    const tn_tensor *given = other ? others_input(x, other, i, arg.name) : NULL;
    x->lent[i] = given != NULL;
    x->in[i] = given ? *given : (tn_tensor){0};
    x->nin = i + 1;
    if (!given) TN_TRY(own_input(v, x, stored, i, &arg));
  }
  return TN_OK;
}

/* An input that only one side has is made up so that it changes nothing: no token is masked where the other
 * side has no mask. */
static void unmask(tn_side *x) {
  for (uint32_t i = 0; i < x->nin; i++) {
    tn_arg_info arg;
    x->o.api->input(x->o.model, (uint32_t)x->entry, i, &arg);
    if (x->lent[i] || strcmp(tn_verify_name(arg.name), "mask")) continue;
    tn_ref_tensor r = {.dtype = x->in[i].dtype, .data = x->in[i].data};
    for (int64_t k = 0; k < tn_tensor_count(&x->in[i]); k++) tn_ref_set(&r, k, 1);
  }
}

static bool has_input(const tn_side *x, const char *name) {
  tn_entry_info info;
  x->o.api->entry(x->o.model, (uint32_t)x->entry, &info);
  for (uint32_t i = 0; i < info.ninputs; i++) {
    tn_arg_info arg;
    x->o.api->input(x->o.model, (uint32_t)x->entry, i, &arg);
    if (tn_verify_same(arg.name, name)) return true;
  }
  return false;
}

tn_status tn_verify_inputs(tn_verify *v) {
  tn_side *a = &v->sides[0], *b = &v->sides[1];
  const tn_side *stored = a->stored ? a : b->stored ? b : NULL;
  if (stored) return fill_side(v, a->stored ? b : a, NULL, stored);
  TN_TRY(fill_side(v, a, NULL, NULL));
  TN_TRY(fill_side(v, b, a, NULL));
  if (!has_input(a, "mask")) unmask(b);
  if (!has_input(b, "mask")) {
    for (uint32_t i = 0; i < a->nin; i++) a->lent[i] = false;
    unmask(a);
  }
  return TN_OK;
}
