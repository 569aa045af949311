/* mma.c - products by tensor cores: which products may use them, and with what tiles. */
#include "backends/cuda/matmul/gemv.h"
#include "backends/cuda/matmul/matmul.h"
#include "backends/llvm/convert.h"

enum {
  NARROW = 64,      /* columns that one small tile holds */
  WIDE = 512,       /* columns from which tiles of 128 x 256 pay */
  STAGE_ROWS = 128, /* rows for which weights are converted beforehand */
  TERMS = 3         /* of bf16 that make an f32 */
};

static bool is_f8(tn_dtype t) { return t == TN_DT_f8e4m3 || t == TN_DT_f8e5m2; }
static bool is_half(tn_dtype t) { return t == TN_DT_f16 || t == TN_DT_bf16; }

/* Exact: both operands fit the type that is multiplied. tf32 has the exponent of bf16 and the mantissa of
 * f16. Otherwise they are rounded, which only precision "fast" allows. */
bool tn_cuda_mm_mma_takes(const tn_cuda_mm *x, tn_cuda_mma *kind) {
  tn_dtype l = x->tl.dtype, r = x->tr.dtype;
  if (x->acc != TN_DT_f32) return false;
  *kind = l == TN_DT_f16 ? TN_CUDA_MMA_F16 : TN_CUDA_MMA_BF16;
  if (is_half(l) && (r == l || is_f8(r))) return true;
  if (is_half(l) && is_half(r)) {
    *kind = TN_CUDA_MMA_TF32;
    return true;
  }
  *kind = l == TN_DT_f32 && r == TN_DT_f32 ? TN_CUDA_MMA_TF32 : TN_CUDA_MMA_BF16;
  return x->k->u->precision == TN_CUDA_FAST;
}

static const tn_dtype staged[] = {
    [TN_CUDA_MMA_F16] = TN_DT_f16, [TN_CUDA_MMA_BF16] = TN_DT_bf16, [TN_CUDA_MMA_TF32] = TN_DT_f32};

typedef struct product {
  tn_cuda_tile t;
  bool stage[2];  /* operands that the large form stages */
  uint32_t terms; /* as which lhs is staged; 0: as it is */
  tn_cuda_mma kind;
  tn_cuda_mm_load load[2];
} product;

static void finish(void *ctx, ll_val row, ll_val column) {
  product *p = ctx;
  tn_cuda_mm_put(p->load[0].x, p->t.wide, row, column);
}
static ll_val give_sums(void *ctx, uint32_t half) { return tn_cuda_tile_sums(&((product *)ctx)->t, half); }

static tn_cuda_tile_source source_of(product *p, tn_cuda_mm *x, bool is_rhs, uint32_t paired) {
  tn_dtype stage = staged[p->kind];
  tn_cuda_mm_load *l = &p->load[is_rhs];
  tn_cuda_mm_load_init(l, x, is_rhs, stage, TN_CUDA_CHUNK_BYTES / tn_ll_dtype_of(stage).bytes,
                       tn_cuda_tile_depth(&p->t), paired);
  tn_cuda_tile_source s = {.along_k = l->along_k, .ctx = l, .open = tn_cuda_mm_load_open};
  s.async = tn_cuda_mm_direct(x, is_rhs, stage) && (l->along_k || p->kind != TN_CUDA_MMA_TF32);
  s.address = tn_cuda_mm_load_address;
  s.values = tn_cuda_mm_load_values;
  return s;
}

/* Along lhs's terms rhs is read as many times; the depth of all. */
static ll_val read_terms(product *p, tn_cuda_mm *x) {
  tn_ll *e = x->k->e;
  ll_val term = tn_ll_dim(&x->k->body, x->staged[0].term);
  p->load[1].again = LLVMBuildTrunc(e->b, term, e->i32, "");
  p->load[0].depth = ll_imul(e, p->load[1].again, ll_int(e, e->i32, p->terms));
  return p->load[0].depth;
}

static void write_tiles(tn_cuda_mm *x, const tn_cuda_mm_form *f, tn_dim when, void *ctx) {
  tn_ll *e = x->k->e;
  product *p = ctx;
  p->t = (tn_cuda_tile){.k = x->k, .kind = p->kind, .shape = *(const tn_cuda_tile_shape *)f->own};
  uint32_t wide = tn_cuda_mm_wide(x);
  tn_dim blocks = tn_cuda_mm_in_parts(x, tn_cuda_mm_blocks(x, f->m, f->n));
  tn_cuda_shape shape = {.threads = tn_cuda_tile_threads(&p->t.shape),
                         .grid = {tn_cuda_dim_mul(x->k, blocks, when)}};
  e->lanes = wide == 1 ? 4 : wide;
  tn_cuda_launch_begin(x->k, &shape);
  tn_cuda_mm_open(x, f->m, f->n);
  p->t.a = source_of(p, x, false, 0);
  p->t.b = source_of(p, x, true, p->t.shape.warp_n);
  tn_cuda_tile_run(&p->t, p->terms ? read_terms(p, x) : ll_sub(e, x->k_end, x->k_first));
  x->sums = give_sums;
  x->ctx = p;
  tn_cuda_tile_finish(&p->t, wide, x->pair, finish, p);
  tn_cuda_launch_end(x->k);
}
static void write_large(tn_cuda_mm *x, const tn_cuda_mm_form *f, tn_dim when, void *ctx) {
  product *p = ctx;
  for (uint32_t i = 0; i < 2; i++)
    if (p->stage[i]) tn_cuda_mm_stage(x, i, staged[p->kind], !i && p->terms ? p->terms : 1, when);
  write_tiles(x, f, when, ctx);
  for (uint32_t i = 0; i < 2; i++) x->staged[i].used = false;
}

/* Few tiles come with their k in parts. */
static void write_small(tn_cuda_mm *x, const tn_cuda_mm_form *f, tn_dim when, void *ctx) {
  tn_cuda_kernel *k = x->k;
  tn_dim cut = tn_cuda_mm_cut(x, f->m, f->n, when);
  if (x->cut.used) {
    write_tiles(x, f, cut, ctx);
    tn_cuda_mm_join(x, cut);
    when = tn_cuda_dim_add(k, when, tn_cuda_dim_mul(k, cut, tn_cuda_dim_k(k, -1)));
  }
  if (!k->nlaunches || !tn_cuda_never(k, when)) write_tiles(x, f, when, ctx);
}

/* As many stages as fit, up to 4; steps of half the depth where not even 3 fit. */
static void fit(tn_cuda_tile_shape *s, uint32_t shared) {
  uint32_t room = shared / ((s->m + s->n) * s->bytes);
  if (room < 3) {
    s->bytes /= 2;
    room *= 2;
  }
  s->stages = room < 4 ? room : 4;
}

/* The large form, and what it stages. */
static tn_cuda_tile_shape large_shape(tn_cuda_mm *x, product *p) {
  tn_dtype stage = staged[p->kind];
  int64_t n;
  bool turned = false, copied = true;
  for (uint32_t i = 0; i < 2; i++) {
    p->stage[i] = !tn_cuda_mm_direct(x, i, stage);
    turned |= p->kind == TN_CUDA_MMA_TF32 && !tn_cuda_mm_along_k(x, i);
    copied &= !p->stage[i] || tn_cuda_mm_stageable(x, i, stage);
  }
  if (turned || !copied) {
    p->stage[0] = p->stage[1] = false;
    return (tn_cuda_tile_shape){128, 128, 64, 32, 64, 3};
  }
  bool wide = !p->stage[1] && tn_ll_dim_const(&x->k->body, x->n_dim, &n) && n * (x->pair ? 2 : 1) >= WIDE;
  tn_cuda_tile_shape s = {128, wide ? 256 : 128, 64, 64, wide ? 128 : 64, 4};
  fit(&s, x->k->u->target->shared);
  return s;
}

void tn_cuda_mm_mma(tn_cuda_mm *x, tn_cuda_mma kind, bool few, tn_dim only) {
  product p = {.kind = kind};
  uint32_t part = x->pair ? 2 : 1;
  tn_dtype stage = staged[kind];
  int64_t n;
  bool narrow = few || (tn_ll_dim_const(&x->k->body, x->n_dim, &n) && n * part <= NARROW);
  tn_cuda_tile_shape large = large_shape(x, &p), small = {64, 64, 32, 32, 64, 4};
  if (tn_cuda_mm_direct(x, false, stage) && tn_cuda_mm_direct(x, true, stage))
    small = (tn_cuda_tile_shape){64, 64, 32, 32, 128, 3};
  tn_cuda_mm_form small_form = {small.m, small.n / part, write_small, &small},
                  large_form = {large.m, large.n / part, write_large, &large};
  tn_cuda_mm_forms(x, &small_form, narrow ? NULL : &large_form, p.stage[1] ? STAGE_ROWS : 0, only, &p);
}

tn_dim tn_cuda_mm_split(tn_cuda_mm *x, tn_dim only) {
  tn_cuda_kernel *k = x->k;
  product p = {.kind = TN_CUDA_MMA_BF16, .terms = TERMS};
  bool takes = x->tl.dtype == TN_DT_f32 && x->tr.dtype == TN_DT_bf16 && !x->trans_a;
  if (k->u->precision != TN_CUDA_HIGH || !takes) return only;
  tn_cuda_tile_shape large = large_shape(x, &p);
  if (!p.stage[0]) return only;
  tn_dim left = tn_cuda_mm_wgmma(x, TN_CUDA_MMA_BF16, TERMS, only);
  if (left != only) return left;
  tn_dim many = tn_cuda_many(k, x->m_dim, STAGE_ROWS - 1), when = tn_cuda_dim_mul(k, many, only);
  tn_dim few = tn_cuda_dim_add(k, tn_cuda_dim_k(k, 1), tn_cuda_dim_mul(k, many, tn_cuda_dim_k(k, -1)));
  tn_cuda_mm_form form = {large.m, large.n / (x->pair ? 2 : 1), write_large, &large};
  if (!tn_cuda_never(k, when)) form.write(x, &form, when, &p);
  return tn_cuda_dim_mul(k, only, few);
}
