/* skel_matmul.c - matrix product with an epilogue. Work is cut into units of (block of rows) x (group of
 * panels); each thread takes a contiguous run of units, so a weight panel is read once per block of rows and
 * a thread mostly reads its own panels. A unit's tiles go through a small buffer, where the epilogue is
 * evaluated row by row.
 *
 * rhs is either a weight in panels already (layout panel16, panel16k or panelq), or anything else: then the
 * unit packs its panels into scratch first. So do panels of a block format, but for a few rows: those take
 * the codes as they come. lhs is read in place if it is a buffer of what is multiplied: f32, or bf16
 * (precision "fast", a target with such products; then rhs is bf16 too). Else rows are evaluated into
 * scratch; so are many rows a multiple of a page apart. With AMX many rows meet panels of bf16 in tile
 * registers (ukernel_amx.h), whatever the weight's type was; but bytes without scales in a row meet bytes. */
#include "backends/cpu/matmul/matmul.h"

#define PAGE_BYTES 4096
#define SET_ROWS 10 /* rows whose lines may share a set of the first-level cache with those of panels */
#define FEW_COLUMNS 1536

/* Rows that the product rounds to bf16 may have been stored so: then the cast back is looked through. */
static void look_through_cast(tn_cpu_mm *x) {
  tn_cpu_kernel *k = x->k;
  const tn_ir *ir = k->u->ir;
  tn_value_info i;
  ir->value_get(k->u->m, x->lhs, &i);
  if (!x->dot || i.kind != TN_VALUE_RESULT || strcmp(ir->opcode_name(ir->opcode(k->u->m, i.op)), "cast"))
    return;
  tn_value from = ir->op_operand(k->u->m, i.op, 0);
  if (tn_cpu_type(k, from).dtype != TN_DT_bf16 || !tn_cpu_arg_buffer(k, from)) return;
  x->lhs = from;
  x->tl = tn_cpu_type(k, from);
}

static void read_operands(tn_cpu_mm *x) {
  tn_cpu_kernel *k = x->k;
  x->lhs = tn_cpu_operand(k, 0);
  x->rhs = tn_cpu_operand(k, 1);
  x->out = tn_cpu_result(k, 0);
  x->tl = tn_cpu_type(k, x->lhs);
  x->tr = tn_cpu_type(k, x->rhs);
  x->to = tn_cpu_type(k, x->out);
  x->ty = k->nyields ? tn_cpu_type(k, k->yields[0]) : x->to;
  x->trans_a = tn_ll_attr_int(&k->body, k->root, "trans_a");
  x->trans_b = tn_ll_attr_int(&k->body, k->root, "trans_b");
  x->packed = x->tr.layout && tn_cpu_arg_buffer(k, x->rhs);
  x->blocks = x->packed && x->tr.dtype >= TN_DT_BLOCK;
  bool pairs = x->packed && tn_ll_layout_pairs(x->tr.layout);
  const char *wants = x->blocks    ? TN_BLOCK_LAYOUT
                      : x->trans_b ? pairs ? "panel16p2" : "panel16"
                      : pairs      ? "panel16kp2"
                                   : "panel16k";
  if (x->tr.layout && strcmp(x->tr.layout, wants))
    tn_ll_fail(k->e, "matmul does not read layout '%s'", x->tr.layout);
  x->flat = x->tr.rank == 2 && !x->trans_a;
  bool fast = k->u->isa->bf16 && k->u->precision == TN_CPU_FAST;
  bool round = fast && !x->packed && k->u->ir->dtype_info(x->tr.dtype)->cls == TN_CLASS_FLOAT;
  x->dt = pairs || round ? TN_DT_bf16 : x->packed && !x->blocks ? x->tr.dtype : TN_DT_f32;
  x->dot = (pairs && fast) || round;
  x->k_dim = x->tl.dims[x->tl.rank - (x->trans_a ? 2 : 1)];
  x->bytes = tn_cpu_mm_in_bytes(x);
  x->amx = k->u->isa->amx && fast && (x->dot || x->blocks) && !x->bytes;
  x->split = k->u->isa->amx && k->u->precision != TN_CPU_STRICT && x->packed && !x->amx && !x->bytes;
  look_through_cast(x);
  x->readable = x->tl.dtype == (x->dot ? TN_DT_bf16 : TN_DT_f32) && !x->trans_a &&
                tn_cpu_arg_buffer(k, x->lhs) && !(pairs && !tn_ll_dim_multiple(&k->body, x->k_dim, 2));
  x->n_dim = x->ty.dims[x->to.rank - 1];
  x->depth = tn_ll_dim(&k->body, x->k_dim);
  x->n = tn_ll_dim(&k->body, x->n_dim);
  uint32_t last = x->to.rank - 2;
  x->m = x->flat ? tn_ll_dims(&k->body, x->to.dims, 0, last + 1) : tn_ll_dim(&k->body, x->to.dims[last]);
  x->batches = x->flat ? ll_k(k->e, 1) : tn_ll_dims(&k->body, x->to.dims, 0, last);
}

/* Bytes of a row of lhs where there are many. */
static tn_dim row_bytes(tn_cpu_mm *x) {
  tn_cpu_kernel *k = x->k;
  tn_dim row = x->amx ? tn_cpu_amx_row_dim(k, x->k_dim, 2)
                      : tn_cpu_dim_mul(k, x->k_dim, tn_cpu_dim_k(k, tn_cpu_mm_lhs_bytes(x)));
  return tn_cpu_dim_add(k, row, tn_cpu_dim_k(k, 64));
}

/* Scratch for rows of lhs, and for panels of rhs. */
static void ask_scratch(tn_cpu_mm *x, bool direct) {
  tn_cpu_kernel *k = x->k;
  bool own = x->split || x->bytes; /* many rows have scratch of their own */
  tn_dim limit = tn_cpu_dim_k(k, own ? TN_CPU_BLOCK_FEW : tn_cpu_mm_rows_limit(x));
  tn_dim few = tn_cpu_dim_add(k, tn_cpu_dim_mul(k, x->k_dim, tn_cpu_dim_k(k, 8)), tn_cpu_dim_k(k, 128));
  tn_dim width = tn_cpu_dim_k(k, (int64_t)tn_cpu_mm_panels(x, k->u->isa->panels) * TN_CPU_PANEL);
  tn_dim rows = direct ? 0 : tn_cpu_dim_mul(k, row_bytes(x), limit);
  if (x->blocks) {
    few = tn_cpu_dim_mul(k, few, tn_cpu_dim_k(k, TN_CPU_BLOCK_FEW));
    rows = rows ? k->u->ir->dim_make(k->u->m, TN_DIM_MAX, rows, few) : few;
  }
  if (rows) x->a_stage = tn_cpu_scratch(k, rows, 1);
  if (own) return;
  if (!x->packed || x->blocks) {
    tn_dim depth = tn_cpu_mm_in_chunks(x) ? tn_cpu_dim_k(k, tn_cpu_mm_chunk(x)) : x->k_dim;
    x->b_stage = tn_cpu_scratch(k, tn_cpu_dim_mul(k, depth, width), 4);
  }
  if (!tn_cpu_mm_in_chunks(x)) return;
  x->parts = tn_cpu_scratch(k, tn_cpu_dim_mul(k, limit, width), 4 * TN_CPU_MM_GROUPS);
}

/* How many rows of lhs the micro-kernel may read in place, 0: none. Rows a multiple of a page apart all fall
 * into one set of the first-level cache: then fewer of them, or, where many columns pay for the copy, none.
 */
static uint32_t rows_in_place(tn_cpu_mm *x) {
  int64_t n, most = x->k->u->isa->mr;
  if (!x->readable || x->amx) return 0;
  int64_t page = PAGE_BYTES / tn_cpu_mm_lhs_bytes(x);
  if (most <= SET_ROWS || !tn_ll_dim_multiple(&x->k->body, x->k_dim, page)) return (uint32_t)most;
  return tn_ll_dim_const(&x->k->body, x->n_dim, &n) && n <= FEW_COLUMNS ? SET_ROWS : 0;
}

/* Many rows in tile registers. Panels of a block format become bf16: then tiles are faster than integer
 * products whose sums want a scale every 32 values, and the rows keep more of their digits. */
static void write_tiles(tn_cpu_mm *x) {
  tn_cpu_kernel *k = x->k;
  tn_dtype dt = x->dt;
  bool dot = x->dot;
  x->dt = TN_DT_bf16;
  x->dot = true;
  tn_cpu_mm_path p = {TN_CPU_AMX_PANELS, TN_CPU_AMX_ROWS, .stage = tn_cpu_mm_stage_lhs,
                      .unit = tn_cpu_mm_unit, .tiles = true};
  p.a_stride = ll_iadd(k->e, tn_cpu_amx_row(k, x->depth, 2), ll_k(k->e, 64));
  if (x->parts) p.groups = TN_CPU_MM_GROUPS;
  tn_cpu_amx_begin(k);
  tn_cpu_mm_walk(x, &p);
  tn_cpu_amx_end(k);
  x->dt = dt;
  x->dot = dot;
}

/* Many rows. */
static void write_many(tn_cpu_mm *x) {
  const tn_cpu_isa *isa = x->k->u->isa;
  uint32_t in_place = rows_in_place(x);
  if (x->amx) {
    write_tiles(x);
    return;
  }
  if (tn_cpu_matmul_int_amx(x) || tn_cpu_matmul_parts(x) || tn_cpu_matmul_int(x)) return;
  tn_cpu_mm_path p = {isa->panels, in_place ? in_place : isa->mr, .unit = tn_cpu_mm_unit};
  if (!in_place) p.stage = tn_cpu_mm_stage_lhs;
  if (x->parts) p.groups = TN_CPU_MM_GROUPS;
  tn_cpu_mm_walk(x, &p);
}

/* A few rows of a packed weight. Where a block format's codes do not meet integers: its levels as floats, by
 * prepared rows. */
static void write_few(tn_cpu_mm *x) {
  const tn_cpu_isa *isa = x->k->u->isa;
  if (tn_cpu_matmul_few(x)) return;
  x->prepared = true;
  x->dt = x->tr.dtype;
  tn_cpu_mm_path p = {tn_cpu_block_panels(isa, x->dt), isa->block_rows,
                      tn_cpu_block_row_bytes(x->k, x->dt, x->depth), tn_cpu_mm_stage_lhs, tn_cpu_mm_unit};
  tn_cpu_mm_walk(x, &p);
  x->prepared = false;
  x->dt = TN_DT_f32;
}

void tn_cpu_emit_matmul(tn_cpu_kernel *k) {
  tn_ll *e = k->e;
  const tn_cpu_isa *isa = k->u->isa;
  tn_cpu_mm x = {.k = k};
  if (tn_cpu_type(k, tn_cpu_operand(k, 0)).dtype == TN_DT_f64 ||
      tn_cpu_type(k, tn_cpu_operand(k, 1)).dtype == TN_DT_f64) {
    tn_cpu_emit_matmul64(k);
    return;
  }
  read_operands(&x);
  tn_cpu_mm_find_pair(&x);
  tn_cpu_mm_find_norm(&x);
  if (tn_cpu_matmul_whole(&x)) return;
  ask_scratch(&x, rows_in_place(&x) != 0);
  uint32_t cells = (x.amx ? TN_CPU_AMX_ROWS : isa->mr) * tn_cpu_mm_panels(&x, isa->panels);
  uint32_t few = isa->block_rows * isa->block_panels;
  if (few > cells) cells = few;
  x.tile = ll_alloca(e, cells * TN_CPU_PANEL * 4);
  tn_ll_body_give(&k->body, x.out, tn_cpu_mm_product, &x);
  if (!x.packed) {
    write_many(&x);
    return;
  }
  ll_if path;
  ll_if_begin(e, &path, ll_icmp(e, LLVMIntSLE, x.m, ll_k(e, tn_cpu_matmul_few_rows(&x))));
  write_few(&x);
  ll_if_else(e, &path);
  tn_ll_body_forget(&k->body);
  write_many(&x);
  ll_if_end(e, &path);
}
