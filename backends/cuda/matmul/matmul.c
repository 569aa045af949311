/* matmul.c - matrix products: what may share their kernels, what is launched, and the epilogue. */
#include "backends/cuda/matmul/matmul.h"
#include "backends/cuda/matmul/gemv.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/groups.h"
#include "ir/quant/quant.h"

enum {
  BLOCKS = 100, /* what a device has multiprocessors for, about */
  GROUP = 8,    /* rows of tiles that neighbouring blocks share columns with */
  HALF = 16     /* halves of columns are multiples of this */
};

/* ---- the operands ---------------------------------------------------------------------------------------
 */

static ll_val give_product(void *ctx, const tn_ll_index *ix) {
  tn_cuda_mm *x = ctx;
  (void)ix; /* of the element being finished */
  return tn_ll_convert(x->k->e, x->acc, x->to.dtype, x->sums(x->ctx, x->half));
}

static ll_val give_part(void *ctx, const tn_ll_index *ix) {
  const tn_cuda_mm_part *p = ctx;
  tn_cuda_mm *x = p->x;
  tn_ll_body *b = &x->k->body;
  tn_ll_index at = *ix;
  tn_ll_ix *column = &at.at[at.rank - 1];
  uint32_t before = x->half;
  at.shape = x->to.dims;
  if (p->half) *column = tn_ll_ix_add(b, *column, tn_ll_dim(b, x->n_dim));
  x->half = p->half;
  ll_val v = tn_ll_eval(b, p->whole, &at);
  x->half = before;
  return v;
}

static bool from_product(tn_cuda_mm *x, tn_value v) {
  const tn_ir *ir = x->k->u->ir;
  tn_value_info i;
  if (!v || v == x->out) return v;
  ir->value_get(x->k->u->m, v, &i);
  for (uint32_t o = 0; i.kind == TN_VALUE_RESULT && o < ir->op_noperands(x->k->u->m, i.op); o++)
    if (from_product(x, ir->op_operand(x->k->u->m, i.op, o))) return true;
  return false;
}

/* A split of what is made of the product, if there is one in the kernel. */
static void find_pair(tn_cuda_mm *x) {
  const tn_ir *ir = x->k->u->ir;
  tn_module *m = x->k->u->m;
  for (tn_op op = ir->first_op(m, 0, x->k->op); op && !x->pair; op = ir->next_op(m, op)) {
    if (strcmp(ir->opcode_name(ir->opcode(m, op)), "split")) continue;
    tn_value whole = ir->op_operand(m, op, 0);
    if (!from_product(x, whole)) continue;
    x->pair = true;
    for (uint32_t h = 0; h < 2; h++) {
      x->parts[h] = (tn_cuda_mm_part){x, whole, h};
      tn_ll_body_give(&x->k->body, ir->op_result(m, op, h), give_part, &x->parts[h]);
    }
  }
}

static tn_dtype accumulator(const tn_cuda_mm *x) {
  if (x->to.dtype == TN_DT_i32) return TN_DT_i32;
  return x->tl.dtype == TN_DT_f64 || x->tr.dtype == TN_DT_f64 ? TN_DT_f64 : TN_DT_f32;
}

void tn_cuda_mm_read(tn_cuda_mm *x, tn_cuda_kernel *k) {
  *x = (tn_cuda_mm){.k = k, .lhs = tn_cuda_operand(k, 0), .rhs = tn_cuda_operand(k, 1)};
  x->out = tn_cuda_result(k, 0);
  x->tl = tn_cuda_type(k, x->lhs);
  x->tr = tn_cuda_type(k, x->rhs);
  x->to = tn_cuda_type(k, x->out);
  x->ty = k->nyields ? tn_cuda_type(k, k->yields[0]) : x->to;
  x->trans_a = tn_ll_attr_int(&k->body, k->root, "trans_a");
  x->trans_b = tn_ll_attr_int(&k->body, k->root, "trans_b");
  x->flat = x->tr.rank == 2 && !x->trans_a;
  x->acc = accumulator(x);
  uint32_t last = x->to.rank - 2;
  x->k_dim = x->tl.dims[x->tl.rank - (x->trans_a ? 2 : 1)];
  x->n_dim = x->ty.dims[x->to.rank - 1];
  x->m_dim = x->flat ? tn_cuda_dim_count(k, &x->to, 0, last + 1) : x->to.dims[last];
  x->batch_dim = x->flat ? tn_cuda_dim_k(k, 1) : tn_cuda_dim_count(k, &x->to, 0, last);
  k->body.ngiven = 0;
  tn_ll_body_give(&k->body, x->out, give_product, x);
  find_pair(x);
}

void tn_cuda_mm_coordinates(tn_cuda_mm *x, ll_val r, tn_ll_index *ix) {
  tn_ll *e = x->k->e;
  uint32_t n = x->to.rank - 1;
  if (!x->flat) {
    ix->at[--n] = tn_ll_ix_scalar(r);
    r = x->batch;
  }
  for (uint32_t i = n; i-- > 0;) {
    ll_val size = tn_ll_dim(&x->k->body, x->to.dims[i]);
    ix->at[i] = tn_ll_ix_scalar(i ? ll_imod(e, r, size) : r);
    r = i ? ll_idiv(e, r, size) : r;
  }
}

/* ---- the tiles of a launch ------------------------------------------------------------------------------
 */

tn_dim tn_cuda_mm_blocks(tn_cuda_mm *x, uint32_t m, uint32_t n) {
  tn_dim down = tn_cuda_dim_ceildiv(x->k, x->m_dim, m), across = tn_cuda_dim_ceildiv(x->k, x->n_dim, n);
  return tn_cuda_dim_mul(x->k, tn_cuda_dim_mul(x->k, down, across), x->batch_dim);
}

static ll_val size_of(tn_cuda_mm *x, tn_dim d) {
  return LLVMBuildTrunc(x->k->e->b, tn_ll_dim(&x->k->body, d), x->k->e->i32, "");
}

void tn_cuda_mm_open(tn_cuda_mm *x, uint32_t m, uint32_t n) {
  tn_ll *e = x->k->e;
  ll_val group = ll_int(e, e->i32, GROUP);
  x->m = size_of(x, x->m_dim);
  x->n = size_of(x, x->n_dim);
  x->depth = size_of(x, x->k_dim);
  x->whole_m = tn_ll_dim_multiple(&x->k->body, x->m_dim, m);
  x->whole_n = tn_ll_dim_multiple(&x->k->body, x->n_dim, n);
  ll_val down = size_of(x, tn_cuda_dim_ceildiv(x->k, x->m_dim, m));
  ll_val across = size_of(x, tn_cuda_dim_ceildiv(x->k, x->n_dim, n));
  ll_val all = ll_imul(e, down, across), block = tn_cuda_mm_take_part(x, tn_cuda_block(x->k, 0)),
         tile = block;
  x->batch = ll_k(e, 0);
  if (!x->flat) {
    x->batch = tn_cuda_i64(x->k, ll_udiv(e, block, all));
    tile = ll_urem(e, block, all);
  }
  ll_val of_group = ll_imul(e, group, across), first = ll_mul(e, ll_udiv(e, tile, of_group), group);
  ll_val within = ll_urem(e, tile, of_group), height = ll_imin(e, ll_sub(e, down, first), group);
  ll_val row = ll_add(e, first, ll_urem(e, within, height));
  x->m0 = ll_mul(e, row, ll_int(e, e->i32, m));
  x->n0 = ll_mul(e, ll_udiv(e, within, height), ll_int(e, e->i32, n));
}

void tn_cuda_mm_forms(tn_cuda_mm *x, const tn_cuda_mm_form *small, const tn_cuda_mm_form *large,
                      uint32_t rows, tn_dim only, void *ctx) {
  tn_cuda_kernel *k = x->k;
  tn_dim few = only;
  if (large) {
    tn_dim fills = rows ? tn_cuda_many(k, x->m_dim, rows - 1)
                        : tn_cuda_many(k, tn_cuda_mm_blocks(x, large->m, large->n), BLOCKS - 1);
    tn_dim minus = tn_cuda_dim_mul(k, fills, tn_cuda_dim_k(k, -1)), many = tn_cuda_dim_mul(k, fills, only);
    few = tn_cuda_dim_mul(k, only, tn_cuda_dim_add(k, tn_cuda_dim_k(k, 1), minus));
    if (!tn_cuda_never(k, many)) large->write(x, large, many, ctx);
  }
  if (!k->nlaunches || !tn_cuda_never(k, few)) small->write(x, small, few, ctx);
}

/* ---- the epilogue ---------------------------------------------------------------------------------------
 */

uint32_t tn_cuda_mm_wide(tn_cuda_mm *x) {
  bool narrow = x->k->nyields && tn_ll_dtype_of(x->ty.dtype).bytes <= 2;
  if (narrow && tn_ll_dim_multiple(&x->k->body, x->n_dim, 8)) return 8;
  return tn_ll_dim_multiple(&x->k->body, x->n_dim, 4) && x->acc != TN_DT_f64 ? 4 : 1;
}

void tn_cuda_mm_put(tn_cuda_mm *x, uint32_t wide, ll_val row, ll_val column) {
  tn_ll *e = x->k->e;
  ll_val r = ll_iadd(e, x->m0, row), c = ll_iadd(e, x->n0, column);
  ll_if inside;
  ll_if_begin(e, &inside, ll_and(e, ll_icmp(e, LLVMIntSLT, r, x->m), ll_icmp(e, LLVMIntSLT, c, x->n)));
  if (x->cut.used) {
    tn_cuda_mm_put_part(x, wide, r, c);
    ll_if_end(e, &inside);
    return;
  }
  tn_ll_body_forget(&x->k->body);
  ll_val at = tn_cuda_i64(x->k, r), rows = tn_ll_dim(&x->k->body, x->m_dim);
  tn_ll_index ix = {.rank = x->to.rank, .shape = x->ty.dims};
  tn_cuda_mm_coordinates(x, at, &ix);
  ix.flat = x->flat ? at : ll_iadd(e, ll_imul(e, x->batch, rows), at);
  ll_val c64 = tn_cuda_i64(x->k, c);
  ix.at[ix.rank - 1] = wide == 1 ? tn_ll_ix_scalar(c64) : tn_ll_ix_lanes(c64, true);
  tn_cuda_store_yields(x->k, &ix);
  ll_if_end(e, &inside);
  tn_ll_body_forget(&x->k->body);
}

/* ---- the record -----------------------------------------------------------------------------------------
 */

static const char *const roots[] = {"matmul", NULL};

static bool claim(const tn_cuda_ask *a, const char **why) {
  for (uint32_t i = 0; i < 2; i++) {
    tn_dtype t = tn_cuda_type_of(a, a->ir->op_operand(a->m, a->op, i)).dtype;
    *why = "this operand type is not supported";
    if (t >= TN_DT_BLOCK ? !i || !tn_quant_of(t) : !tn_ll_dtype_of(t).known || tn_ll_dtype_of(t).packed)
      return false;
  }
  return true;
}

/* A product with one matrix: leading dims of lhs are rows. */
static bool rows_by_matrix(const tn_cuda_ask *a) {
  tn_type_info l = tn_cuda_type_of(a, a->ir->op_operand(a->m, a->root, 0)),
               r = tn_cuda_type_of(a, a->ir->op_operand(a->m, a->root, 1));
  return r.rank == 2 && l.rank > 1 && l.dtype != TN_DT_f64 && r.dtype != TN_DT_f64 &&
         !tn_cuda_attr_int(a, a->root, "trans_a", 0);
}

static bool is_norm(const char *name) { return TN_LL_ONE_OF(name, "rms_norm", "layer_norm"); }

/* Left operands are read as they are, or as the norm that makes them, seen through reshapes. */
static bool feeds_left(const tn_cuda_ask *a) {
  tn_cuda_ask at = *a;
  tn_value_info i;
  while (!strcmp(at.name, "reshape")) {
    a->ir->value_get(a->m, a->ir->op_operand(a->m, at.op, 0), &i);
    if (i.kind != TN_VALUE_RESULT) return false;
    at.op = i.op;
    at.name = a->ir->opcode_name(a->ir->opcode(a->m, at.op));
  }
  return is_norm(at.name) && tn_cuda_gemv_takes_norm(&at);
}

static bool prologue(const tn_cuda_ask *a) {
  tn_value l = a->ir->op_operand(a->m, a->root, 0), r = a->ir->op_operand(a->m, a->root, 1);
  if (tn_ll_made_by(a->ir, a->m, l, a->op)) return feeds_left(a);
  if (is_norm(a->name) || !strcmp(a->name, "kv_update")) return false;
  return tn_ll_made_by(a->ir, a->m, r, a->op) ? tn_ll_is_view(a->name) : tn_ll_is_cheap(a->name);
}

/* The two halves of a product's columns. */
static bool halves(const tn_cuda_ask *a) {
  tn_type_info out = tn_cuda_type_of(a, a->ir->op_result(a->m, a->root, 0)),
               in = tn_cuda_type_of(a, a->ir->op_operand(a->m, a->op, 0));
  tn_attr sizes = {0};
  int64_t first, second;
  return rows_by_matrix(a) && tn_ll_same_dims(&out, &in) &&
         tn_ll_axis(tn_cuda_attr_int(a, a->op, "axis", -1), in.rank) == in.rank - 1 &&
         a->ir->op_attr(a->m, a->op, "sizes", &sizes) && sizes.count == 2 &&
         a->ir->dim_is_const(a->m, sizes.u.dims[0], &first) &&
         a->ir->dim_is_const(a->m, sizes.u.dims[1], &second) && first == second && first % HALF == 0;
}
/* Does op work on one half, behind such a split? */
static bool on_half(const tn_cuda_ask *a) {
  tn_type_info out = tn_cuda_type_of(a, a->ir->op_result(a->m, a->root, 0)),
               own = tn_cuda_type_of(a, a->ir->op_result(a->m, a->op, 0));
  uint32_t last = out.rank - 1;
  int64_t whole, half;
  return rows_by_matrix(a) && out.rank == own.rank && !memcmp(out.dims, own.dims, last * sizeof(tn_dim)) &&
         a->ir->dim_is_const(a->m, out.dims[last], &whole) &&
         a->ir->dim_is_const(a->m, own.dims[last], &half) && whole == 2 * half && half % HALF == 0;
}

static bool epilogue(const tn_cuda_ask *a) {
  if (!strcmp(a->name, "split")) return halves(a);
  return tn_cuda_takes_elementwise(a) || (tn_ll_is_elementwise(a->name) && on_half(a));
}

static bool has_norm(tn_cuda_kernel *k) {
  const tn_ir *ir = k->u->ir;
  for (tn_op op = ir->first_op(k->u->m, 0, k->op); op; op = ir->next_op(k->u->m, op))
    if (is_norm(ir->opcode_name(ir->opcode(k->u->m, op)))) return true;
  return false;
}

static void emit(tn_cuda_kernel *k) {
  tn_cuda_mm x;
  tn_cuda_mma kind;
  tn_cuda_ask a = {.c = k->u->c, .ir = k->u->ir, .m = k->u->m, .op = k->root, .name = k->root_name};
  bool few = tn_cuda_gemv_takes(&a);
  if (few) tn_cuda_emit_gemv(k, TN_CUDA_GEMV_ROWS);
  if (few && has_norm(k)) return;
  tn_dim rows = tn_cuda_gemv_rows(k), only = tn_cuda_dim_k(k, 1);
  tn_cuda_mm_read(&x, k);
  if (few) only = tn_cuda_many(k, rows, TN_CUDA_GEMV_ROWS);
  if (!tn_cuda_mm_mma_takes(&x, &kind)) {
    only = tn_cuda_mm_split(&x, only);
    if (!k->nlaunches || !tn_cuda_never(k, only)) tn_cuda_mm_simt(&x, only);
    return;
  }
  tn_dim left = tn_cuda_mm_wgmma(&x, kind, 1, only);
  if (!k->nlaunches || !tn_cuda_never(k, left)) tn_cuda_mm_mma(&x, kind, left != only, left);
}

const tn_cuda_skeleton tn_cuda_skeleton_matmul = {roots, claim, prologue, epilogue, emit};
