/* skel_library.c - roots that are plain C (backends/lib): the kernel fills in a tn_lib_call, with sizes and
 * attributes as they are now, and calls the function. An operand that is a leaf of the body, which no buffer
 * holds, becomes a constant of the object or is written to scratch first. */
#include "backends/cpu/kernel.h"
#include "backends/lib/lib.h"
#include "backends/llvm/convert.h"

enum { MAX_TABLE = 8 << 20 }; /* bytes of a table that is made when the kernel is compiled */

/* Operands and attributes of every op, in order. */
typedef struct named {
  const char *op, *name;
} named;
static const named operand_rows[] = {
#define TN_OP(name, family, flags, nin0, nin1, nout, doc)
#define TN_IN(op, name, constraint, shape) {#op, #name},
#define TN_OUT(op, name, shape)
#define TN_ATTR(op, name, kind, def, doc)
#define TN_OP_END(op)
#include "ir/ops.def"
#undef TN_IN
#undef TN_ATTR
};
static const named attr_rows[] = {
#define TN_IN(op, name, constraint, shape)
#define TN_ATTR(op, name, kind, def, doc) {#op, #name},
#include "ir/ops.def"
#undef TN_OP
#undef TN_IN
#undef TN_OUT
#undef TN_ATTR
#undef TN_OP_END
};
static uint32_t rows_of(const named *rows, size_t n, const char *op, const named **first) {
  uint32_t count = 0;
  for (size_t i = 0; i < n; i++)
    if (!strcmp(rows[i].op, op) && !count++) *first = &rows[i];
  return count;
}

static void put(tn_ll *e, ll_val base, uint64_t offset, ll_val v, uint32_t bytes) {
  ll_store(e, v, ll_at(e, base, ll_k(e, (int64_t)offset)), bytes);
}
static void put32(tn_ll *e, ll_val base, uint64_t offset, uint32_t v) {
  put(e, base, offset, LLVMConstInt(e->i32, v, 0), 4);
}

/* ---- buffers ------------------------------------------------------------------------------------------ */
static tn_op maker(tn_cpu_kernel *k, tn_value v) {
  tn_value_info i;
  k->u->ir->value_get(k->u->m, v, &i);
  return i.kind == TN_VALUE_RESULT ? i.op : 0;
}
static bool made_as(tn_cpu_kernel *k, tn_op op, const char *name) {
  return op && !strcmp(k->u->ir->opcode_name(k->u->ir->opcode(k->u->m, op)), name);
}

static ll_val written(tn_cpu_kernel *k, tn_value v, const tn_type_info *t) {
  tn_ll *e = k->e;
  ll_val sizes[TN_MAX_RANK];
  tn_dim all = tn_cpu_dim_k(k, 1);
  for (uint32_t i = 0; i < t->rank; i++) {
    sizes[i] = tn_ll_dim(&k->body, t->dims[i]);
    all = tn_cpu_dim_mul(k, all, t->dims[i]);
  }
  ll_val room = tn_cpu_scratch(k, all, tn_ll_dtype_of(t->dtype).bytes);
  tn_cpu_rows r;
  tn_cpu_rows_begin(k, &r, sizes, t->rank, ll_k(e, 0), tn_ll_dim(&k->body, all));
  tn_ll_body_forget(&k->body);
  tn_ll_index ix = {.rank = t->rank};
  for (uint32_t i = 0; i < t->rank; i++) ix.at[i] = r.at[i];
  tn_ll_store_at(&k->body, v, room, &ix, tn_ll_eval(&k->body, v, &ix));
  tn_cpu_rows_end(k, &r);
  tn_ll_body_forget(&k->body);
  return room;
}

static ll_val buffer_of(tn_cpu_kernel *k, tn_value v, const tn_type_info *t) {
  tn_value from = v;
  while (made_as(k, maker(k, from), "reshape")) from = k->u->ir->op_operand(k->u->m, maker(k, from), 0);
  ll_val arg = tn_cpu_arg_buffer(k, from);
  if (arg) return arg;
  if (!made_as(k, maker(k, from), "constant")) return written(k, v, t);
  tn_bytes data = tn_ll_attr(&k->body, maker(k, from), "value").u.data;
  return ll_global(k->e, "operand", data.ptr, data.len);
}

/* ---- the call ----------------------------------------------------------------------------------------- */
static void put_tensor(tn_cpu_kernel *k, ll_val at, tn_value v, ll_val buffer) {
  tn_ll *e = k->e;
  tn_type_info t = tn_cpu_type(k, v);
  put(e, at, offsetof(tn_lib_tensor, data), buffer, 8);
  for (uint32_t i = 0; i < t.rank; i++)
    put(e, at, offsetof(tn_lib_tensor, dims) + 8 * i, tn_ll_dim(&k->body, t.dims[i]), 8);
  put32(e, at, offsetof(tn_lib_tensor, rank), t.rank);
  put32(e, at, offsetof(tn_lib_tensor, dtype), t.dtype);
  put32(e, at, offsetof(tn_lib_tensor, panels), t.layout && !strcmp(t.layout, "panel16"));
}

static ll_val operands(tn_cpu_kernel *k, uint32_t n) {
  tn_ll *e = k->e;
  ll_val base = ll_alloca(e, n * sizeof(tn_lib_tensor));
  for (uint32_t i = 0; i < n; i++) {
    ll_val at = ll_at(e, base, ll_k(e, (int64_t)(i * sizeof(tn_lib_tensor))));
    tn_value v = tn_cpu_operand(k, i);
    if (v) {
      tn_type_info t = tn_cpu_type(k, v);
      put_tensor(k, at, v, buffer_of(k, v, &t));
    } else
      put(e, at, offsetof(tn_lib_tensor, data), ll_zero(e->ptr), 8);
  }
  return base;
}

static ll_val results(tn_cpu_kernel *k) {
  tn_ll *e = k->e;
  uint32_t n = k->u->ir->op_nresults(k->u->m, k->root), found = 0;
  ll_val base = ll_alloca(e, n * sizeof(tn_lib_tensor));
  for (uint32_t i = 0; i < n; i++) {
    ll_val out = ll_zero(e->ptr);
    for (uint32_t y = 0; y < k->nyields; y++)
      if (k->yields[y] == tn_cpu_result(k, i)) out = k->outs[y], found++;
    put_tensor(k, ll_at(e, base, ll_k(e, (int64_t)(i * sizeof(tn_lib_tensor)))), tn_cpu_result(k, i), out);
  }
  if (found != k->nyields) tn_ll_fail(e, "%s shares a kernel with other results", k->root_name);
  return base;
}

static void put_attr(tn_cpu_kernel *k, ll_val at, const tn_attr *a) {
  tn_ll *e = k->e;
  ll_val v = ll_k(e, a->u.i);
  if (a->kind == TN_ATTR_DIM) v = tn_ll_dim(&k->body, a->u.dim);
  if (a->kind == TN_ATTR_FLOAT) v = LLVMConstReal(e->f64, a->u.f);
  if (a->kind == TN_ATTR_STR) v = ll_global(e, "text", a->u.s, strlen(a->u.s) + 1);
  if (a->kind == TN_ATTR_INTS) v = ll_global(e, "ints", a->u.ints, a->count * sizeof *a->u.ints);
  put(e, at, offsetof(tn_lib_attr, u), v, 8);
  put(e, at, offsetof(tn_lib_attr, count), ll_k(e, a->count), 8);
}
static ll_val attributes(tn_cpu_kernel *k) {
  const named *first = NULL;
  uint32_t n = rows_of(attr_rows, TN_COUNT(attr_rows), k->root_name, &first);
  ll_val base = ll_alloca(k->e, (n + 1) * sizeof(tn_lib_attr));
  for (uint32_t i = 0; i < n; i++) {
    tn_attr a = tn_ll_attr(&k->body, k->root, first[i].name);
    put_attr(k, ll_at(k->e, base, ll_k(k->e, (int64_t)(i * sizeof(tn_lib_attr)))), &a);
  }
  return base;
}

/* ---- scratch and tables ------------------------------------------------------------------------------- */
static tn_dim times(tn_cpu_kernel *k, tn_dim d, int64_t n) {
  return tn_cpu_dim_mul(k, d, tn_cpu_dim_k(k, n));
}
static tn_dim whole(tn_cpu_kernel *k, tn_dim d) {
  return times(k, tn_cpu_dim_ceildiv(k, d, TN_LIB_PANEL), TN_LIB_PANEL);
}

/* As recurrent.c lays it out: states, what is put aside, rows of gates, the matrix unless it is packed. */
static tn_dim recurrent_bytes(tn_cpu_kernel *k) {
  tn_type_info r = tn_cpu_type(k, tn_cpu_operand(k, 1));
  int64_t gates = !strcmp(k->root_name, "lstm") ? 4 : !strcmp(k->root_name, "gru") ? 3 : 1;
  tn_dim state = whole(k, r.dims[2]);
  tn_dim floats = times(k, state, TN_LIB_RECUR_ROWS * (4 + 3 * gates));
  tn_dim matrix = tn_cpu_dim_mul(k, whole(k, r.dims[1]), r.dims[2]);
  if (!r.layout || r.dtype != TN_DT_f32) floats = tn_cpu_dim_add(k, floats, matrix);
  return times(k, floats, 4);
}

static tn_dim dft_bytes(tn_cpu_kernel *k, ll_val *table) {
  tn_dim n = tn_ll_attr(&k->body, k->root, "n").u.dim;
  bool wide = tn_cpu_type(k, tn_cpu_operand(k, 0)).dtype == TN_DT_f64;
  int64_t size;
  if (!tn_ll_dim_const(&k->body, n, &size) || size < 1)
    return tn_cpu_dim_add(k, times(k, n, TN_LIB_DFT_MOST), tn_cpu_dim_k(k, 4096));
  uint64_t bytes = tn_lib_dft_table(size, wide, NULL);
  void *made = bytes <= MAX_TABLE ? tn_mem_alloc(bytes) : NULL;
  if (made) {
    tn_lib_dft_table(size, wide, made);
    *table = ll_global(k->e, "dft", made, bytes);
    tn_mem_free(made);
  }
  return tn_cpu_dim_k(k, (int64_t)tn_lib_dft_scratch(size, wide, !made));
}

/* As delta.c lays it out: the state, two rows beside it, three vectors of keys. */
static tn_dim delta_bytes(tn_cpu_kernel *k, const tn_type_info *q) {
  tn_dim width = whole(k, tn_cpu_type(k, tn_cpu_operand(k, 2)).dims[3]), d = q->dims[3];
  tn_dim rows = tn_cpu_dim_mul(k, width, tn_cpu_dim_add(k, d, tn_cpu_dim_k(k, 2)));
  return times(k, tn_cpu_dim_add(k, rows, times(k, d, 3)), 4);
}

static tn_dim scratch_bytes(tn_cpu_kernel *k, ll_val *table) {
  const char *op = k->root_name;
  tn_type_info x = tn_cpu_type(k, tn_cpu_operand(k, 0));
  if (!strcmp(op, "unique")) return times(k, x.dims[0], TN_LIB_UNIQUE_ROW);
  if (!strcmp(op, "nms")) return times(k, x.dims[1], TN_LIB_NMS_BOX);
  if (!strcmp(op, "top_k")) return times(k, tn_ll_attr(&k->body, k->root, "k").u.dim, TN_LIB_TOP_K);
  if (!strcmp(op, "det"))
    return times(k, tn_cpu_dim_mul(k, x.dims[x.rank - 1], x.dims[x.rank - 1]), TN_LIB_DET_ELEMENT);
  if (!strcmp(op, "delta_scan")) return delta_bytes(k, &x);
  if (!strcmp(op, "dft")) return dft_bytes(k, table);
  if (!strcmp(op, "lstm") || !strcmp(op, "gru") || !strcmp(op, "rnn")) return recurrent_bytes(k);
  return 0;
}

void tn_cpu_emit_library(tn_cpu_kernel *k) {
  tn_ll *e = k->e;
  const tn_lib_row *row = tn_lib_find(k->root_name);
  const named *first;
  uint32_t nin = rows_of(operand_rows, TN_COUNT(operand_rows), k->root_name, &first);
  ll_val table = ll_zero(e->ptr), call = ll_alloca(e, sizeof(tn_lib_call)), in = operands(k, nin);
  tn_dim bytes = scratch_bytes(k, &table);
  put(e, call, offsetof(tn_lib_call, in), in, 8);
  put(e, call, offsetof(tn_lib_call, out), results(k), 8);
  put(e, call, offsetof(tn_lib_call, attrs), attributes(k), 8);
  put(e, call, offsetof(tn_lib_call, scratch), bytes ? tn_cpu_scratch(k, bytes, 1) : ll_zero(e->ptr), 8);
  put(e, call, offsetof(tn_lib_call, table), table, 8);
  put(e, call, offsetof(tn_lib_call, thread), LLVMBuildTrunc(e->b, k->thread, e->i32, ""), 4);
  put(e, call, offsetof(tn_lib_call, nthreads), LLVMBuildTrunc(e->b, k->nthreads, e->i32, ""), 4);
  put32(e, call, offsetof(tn_lib_call, isa), k->u->isa->lanes == 16 ? TN_LIB_AVX512 : TN_LIB_AVX2);
  put32(e, call, offsetof(tn_lib_call, nin), nin);
  ll_type type = LLVMFunctionType(e->tvoid, &e->ptr, 1, 0);
  ll_val fn = LLVMGetNamedFunction(e->mod, row->symbol);
  if (!fn) fn = LLVMAddFunction(e->mod, row->symbol, type);
  LLVMBuildCall2(e->b, type, fn, &call, 1, "");
}
