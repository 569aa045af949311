/* compare.c - tensors against tensors, and the values inside a compiled function. */
#include "tools/verify/compare.h"
#include "tools/reports.h"
#include <math.h>

/* Distance in representable float32 values. */
static double ulp_distance(double a, double b) {
  union {
    float f;
    int32_t i;
  } x = {(float)a}, y = {(float)b};
  int64_t p = x.i < 0 ? INT32_MIN - (int64_t)x.i : x.i, q = y.i < 0 ? INT32_MIN - (int64_t)y.i : y.i;
  return fabs((double)(p - q));
}

/* Integers of 64 bits have more digits than a double. */
static double distance(const tn_tensor *a, const tn_tensor *b, int64_t i, double x, double y) {
  if (a->dtype != b->dtype || (a->dtype != TN_DT_i64 && a->dtype != TN_DT_u64)) return fabs(x - y);
  uint64_t p = ((const uint64_t *)a->data)[i], q = ((const uint64_t *)b->data)[i];
  return p == q ? 0 : fmax(1, fabs(x - y));
}

bool tn_compare(const tn_tensor *a, const tn_tensor *b, double atol, double rtol, tn_comparison *out) {
  *out = (tn_comparison){.ok = true, .at = -1};
  if (a->rank != b->rank || memcmp(a->shape, b->shape, a->rank * sizeof *a->shape)) return false;
  double dot = 0, aa = 0, bb = 0, dd = 0, worst = 0;
  for (int64_t i = 0, n = tn_tensor_count(a); i < n; i++) {
    double x = tn_tensor_at(a, i), y = tn_tensor_at(b, i), diff = distance(a, b, i, x, y);
    if (isfinite(x) != isfinite(y) || (!isfinite(x) && x != y && !(isnan(x) && isnan(y)))) {
      *out = (tn_comparison){INFINITY, INFINITY, INFINITY, 0, INFINITY, i, x, y, false};
      return true;
    }
    if (!isfinite(x)) continue;
    dot += x * y, aa += x * x, bb += y * y, dd += diff * diff;
    out->max_abs = fmax(out->max_abs, diff);
    if (y != 0) out->max_rel = fmax(out->max_rel, diff / fabs(y));
    out->max_ulp = fmax(out->max_ulp, ulp_distance(x, y));
    double excess = diff / (atol + rtol * fabs(y) + 1e-300);
    if (!(excess <= worst)) worst = excess, out->at = i, out->a = x, out->b = y;
  }
  out->cosine = aa > 0 && bb > 0 ? dot / sqrt(aa) / sqrt(bb) : aa == bb;
  out->nmse = bb > 0 ? dd / bb : dd;
  out->ok = worst <= 1;
  if (!isfinite(out->cosine)) out->cosine = out->ok; /* squares beyond a double */
  if (!isfinite(out->nmse)) out->nmse = out->ok ? 0 : 1;
  return true;
}

/* ---- values inside a function
 * ------------------------------------------------------------------------------------- */

typedef struct collector {
  tn_module *m;
  tn_session *s;
  tn_func func;
  tn_func_info f;
  const tn_tensor *out; /* outputs of the call, or NULL */
  tn_arena *arena;
  tn_map seen; /* key without number -> how many so far */
} collector;

/* The value of a dim in the call. */
static int64_t dim_value(collector *c, tn_dim d) {
  tn_dim_info i;
  tn_ir_dim_get(c->m, d, &i);
  if (i.kind == TN_DIM_CONST) return i.value;
  if (i.kind == TN_DIM_SYM) return tn_rt_dim(c->s, i.symbol);
  int64_t a = dim_value(c, i.a), b = dim_value(c, i.b);
  switch (i.kind) {
  case TN_DIM_ADD: return a + b;
  case TN_DIM_MUL: return a * b;
  case TN_DIM_FLOORDIV: return b ? a / b : 0;
  case TN_DIM_MOD: return b ? a % b : 0;
  case TN_DIM_MIN: return a < b ? a : b;
  default: return a > b ? a : b;
  }
}

/* The op of a kernel's body whose result `i` of the kernel is, 0 if it is an argument. */
static tn_op yielded_by(tn_module *m, tn_op kernel, uint32_t i) {
  tn_value_info v;
  tn_ir_value_get(m, tn_ir_op_operand(m, tn_ir_last_op(m, 0, kernel), i), &v);
  return v.kind == TN_VALUE_RESULT ? v.op : 0;
}

static bool make_key(collector *c, tn_op op, tn_node *node) {
  tn_buf b = {0};
  tn_report_loc(c->m, tn_ir_op_loc(c->m, op), &b);
  tn_buf_printf(&b, " %s", tn_ir_opcode_name(tn_ir_opcode(c->m, op)));
  uint64_t n = 0;
  tn_str key = {tn_buf_cstr(&b), b.len};
  tn_map_get(&c->seen, key, &n);
  tn_map_put(&c->seen, key, n + 1, NULL);
  node->maker = tn_arena_str(c->arena, key);
  node->key = tn_arena_printf(c->arena, "%s #%llu", tn_buf_cstr(&b), (unsigned long long)n + 1);
  tn_buf_fini(&b);
  return node->maker && node->key;
}

/* The output that a value is returned as, directly or in another shape; -1: none. */
static int output_of(collector *c, tn_value v) {
  for (uint32_t i = 0; i < c->f.nresults; i++) {
    tn_value r = tn_ir_op_operand(c->m, tn_ir_last_op(c->m, c->func, 0), i);
    for (int depth = 0; depth < 8 && r; depth++) {
      if (r == v) return (int)i;
      tn_value_info info;
      tn_ir_value_get(c->m, r, &info);
      bool view = info.kind == TN_VALUE_RESULT && tn_ir_opcode(c->m, info.op) == TN_OPC_reshape;
      r = view ? tn_ir_op_operand(c->m, info.op, 0) : 0;
    }
  }
  return -1;
}

static const char *weight_of(tn_module *m, tn_op kernel) {
  for (uint32_t i = 0; i < tn_ir_op_noperands(m, kernel); i++) {
    tn_value_info v;
    tn_weight_info w;
    tn_ir_value_get(m, tn_ir_op_operand(m, kernel, i), &v);
    if (v.kind != TN_VALUE_WEIGHT) continue;
    tn_ir_weight_get(m, v.weight, &w);
    return w.name;
  }
  return NULL;
}

/* Whether a kernel only turns or converts weights. */
static bool is_plain(tn_module *m, tn_op kernel, tn_op op) {
  const tn_op_spec *spec = tn_op_spec_of(tn_ir_opcode(m, op));
  if (!spec || !((spec->flags & TN_F_VIEW) || tn_ir_opcode(m, op) == TN_OPC_cast)) return false;
  for (uint32_t i = 0; i < tn_ir_op_noperands(m, kernel); i++) {
    tn_value_info v;
    tn_ir_value_get(m, tn_ir_op_operand(m, kernel, i), &v);
    if (v.kind != TN_VALUE_WEIGHT) return false;
  }
  return true;
}

static tn_status value_in_slot(collector *c, tn_node *node, int64_t slot) {
  tn_value_info v;
  tn_type_info t;
  tn_ir_value_get(c->m, node->id, &v);
  tn_ir_type_get(c->m, v.type, &t);
  uint64_t bytes;
  const void *data = slot >= 0 ? tn_rt_slot(c->s, (uint32_t)slot, &bytes) : NULL;
  if (!data || t.rank > TN_MAX_RANK) return TN_NOT_FOUND;
  node->value = (tn_tensor){.data = (void *)(uintptr_t)data, .dtype = t.dtype, .rank = t.rank};
  for (uint32_t r = 0; r < t.rank; r++) node->value.shape[r] = dim_value(c, t.dims[r]);
  return tn_tensor_bytes(&node->value) > bytes ? TN_INTERNAL : TN_OK;
}

static tn_status add_node(collector *c, tn_op kernel, uint32_t i, int64_t slot, tn_nodes *out) {
  tn_op op = yielded_by(c->m, kernel, i);
  if (!op) return TN_OK;
  tn_node node = {.id = tn_ir_op_result(c->m, kernel, i), .weight = weight_of(c->m, kernel)};
  node.plain = is_plain(c->m, kernel, op);
  if (!make_key(c, op, &node)) return TN_OOM;
  tn_status s = value_in_slot(c, &node, slot);
  int output = s == TN_NOT_FOUND && c->out ? output_of(c, node.id) : -1;
  if (output >= 0) node.value = c->out[output], s = TN_OK;
  if (s == TN_NOT_FOUND) return TN_OK;
  return s != TN_OK ? s : tn_vec_push(out, node) ? TN_OK : TN_OOM;
}

/* The variant for one token where there is one and that is what ran. */
tn_func tn_nodes_func(tn_opened *o, tn_session *s, const char *entry) {
  tn_func found = 0;
  for (tn_func f = 1; f <= tn_ir_func_count(o->module); f++) {
    tn_func_info info;
    tn_ir_func_get(o->module, f, &info);
    size_t n = strlen(entry);
    if (!strcmp(info.name, entry)) found = f;
    if (!strncmp(info.name, entry, n) && !strcmp(info.name + n, ".s1") && tn_rt_dim(s, "S") == 1) return f;
  }
  return found;
}

static tn_status add_inputs(collector *c, const tn_tensor *in, tn_nodes *nodes) {
  for (uint32_t i = 0; i < c->f.nargs; i++) {
    const char *name = tn_arena_printf(c->arena, "input %s", c->f.arg_names[i]);
    tn_node node = {.key = name, .maker = name, .id = c->f.args[i], .given = true, .value = in[i]};
    if (!name || !tn_vec_push(nodes, node)) return TN_OOM;
  }
  return TN_OK;
}

tn_status tn_nodes_collect(tn_opened *o, const tn_call *call, tn_arena *arena, tn_nodes *nodes) {
  collector c = {.m = o->module, .s = call->s, .arena = arena, .out = call->out};
  c.func = tn_nodes_func(o, call->s, call->entry);
  if (!c.func) return TN_NOT_FOUND;
  tn_ir_func_get(c.m, c.func, &c.f);
  tn_map_init(&c.seen);
  tn_status st = add_inputs(&c, call->in, nodes);
  for (tn_op op = tn_ir_first_op(c.m, c.func, 0); op && st == TN_OK; op = tn_ir_next_op(c.m, op)) {
    tn_attr slots;
    if (tn_ir_opcode(c.m, op) != TN_OPC_kernel || !tn_ir_op_attr(c.m, op, "slots", &slots)) continue;
    for (uint32_t i = 0; i < tn_ir_op_nresults(c.m, op) && i < slots.count && st == TN_OK; i++)
      st = add_node(&c, op, i, slots.u.ints[i], nodes);
  }
  tn_map_fini(&c.seen);
  return st;
}

const tn_node *tn_nodes_find(const tn_nodes *n, const char *key) {
  for (uint32_t i = 0; i < n->count; i++)
    if (!strcmp(n->items[i].key, key)) return &n->items[i];
  return NULL;
}

uint32_t tn_nodes_made_by(const tn_nodes *n, const char *maker) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < n->count; i++) count += !strcmp(n->items[i].maker, maker);
  return count;
}
