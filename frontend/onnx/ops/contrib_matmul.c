/* contrib_matmul.c - products of com.microsoft: with packed weights, with quantised operands, with epilogues.
 * Packed weights stay packed (packed.h) where a block format of the IR fits; the others are rebuilt. */
#include "frontend/onnx/ops/transformer.h"
#include "frontend/onnx/packed.h"

/* ---- MatMulNBits ---- */

typedef struct nbits {
  int64_t n, k, bits, block, blocks;
  tn_value codes, scales, zeros;
  bool float_zeros;
} nbits;

static bool read_nbits(tn_ox *x, tn_ox_node *n, nbits *a) {
  *a = (nbits){.n = tn_ox_int(n, "N", 0),
               .k = tn_ox_int(n, "K", 0),
               .bits = tn_ox_int(n, "bits", 4),
               .block = tn_ox_int(n, "block_size", 0)};
  a->codes = tn_ox_in(x, n, 1), a->scales = tn_ox_in(x, n, 2), a->zeros = tn_ox_in(x, n, 3);
  if (!a->codes || !a->scales) return false;
  if (a->bits != 2 && a->bits != 4 && a->bits != 8) {
    tn_ox_refuse(x, n, NULL, "weights of %lld bits; 2, 4 and 8 are supported", (long long)a->bits);
    return false;
  }
  if (a->n < 1 || a->k < 1 || a->block < 16 || a->block > 1 << 20 || a->n > INT32_MAX || a->k > INT32_MAX) {
    tn_ox_fail(x, n, "N is %lld, K %lld and block_size %lld", (long long)a->n, (long long)a->k,
               (long long)a->block);
    return false;
  }
  a->blocks = (a->k + a->block - 1) / a->block;
  a->float_zeros = a->zeros && tn_ox_is_float(x, a->zeros);
  return true;
}

static tn_dtype codes_type(int64_t bits) { return bits == 2 ? TN_DT_u2 : bits == 4 ? TN_DT_u4 : TN_DT_u8; }

/* The zero points [n, blocks, 1] in f32, or the number that stands for none. */
static tn_value zeros_of(tn_ox *x, tn_ox_node *n, const nbits *a) {
  int64_t per_byte = 8 / a->bits, row = (a->blocks + per_byte - 1) / per_byte * per_byte;
  if (!a->zeros) return tn_ox_scalar(x, TN_DT_f32, (double)(1 << (a->bits - 1)));
  tn_value z = a->zeros;
  if (a->float_zeros)
    z = tn_ox_reshape(x, z, (tn_dim[]){tn_ox_d(x, a->n), tn_ox_d(x, a->blocks)}, 2);
  else
    z = tn_ox_same_bytes(x, n, z, codes_type(a->bits), (int64_t[]){a->n, row}, 2);
  z = tn_ox_slice(x, tn_ox_cast(x, z, TN_DT_f32), 1, tn_ox_d(x, 0), tn_ox_d(x, a->blocks), 1);
  return tn_ox_unsqueeze(x, z, 2);
}

/* The matrix [n, k] in f32. */
static tn_value rebuilt(tn_ox *x, tn_ox_node *n, const nbits *a) {
  tn_dim rows = tn_ox_d(x, a->n), zero = tn_ox_d(x, 0);
  tn_value w =
      tn_ox_same_bytes(x, n, a->codes, codes_type(a->bits), (int64_t[]){a->n, a->blocks, a->block}, 3);
  tn_value s = tn_ox_reshape(x, a->scales, (tn_dim[]){rows, tn_ox_d(x, a->blocks), tn_ox_d(x, 1)}, 3);
  w = tn_ox_binary(x, "sub", tn_ox_cast(x, w, TN_DT_f32), zeros_of(x, n, a));
  w = tn_ox_binary(x, "mul", w, tn_ox_cast(x, s, TN_DT_f32));
  w = tn_ox_reshape(x, w, (tn_dim[]){rows, tn_ox_d(x, a->blocks * a->block)}, 2);
  return a->k == a->blocks * a->block ? w : tn_ox_slice(x, w, 1, zero, tn_ox_d(x, a->k), 1);
}

/* The matrix as blocks [n, padded k]; 0: no format fits. */
static tn_value kept_packed(tn_ox *x, const nbits *a) {
  tn_ox_packing p = {.codes = a->codes,
                     .scales = a->scales,
                     .zeros = a->zeros,
                     .rows = a->n,
                     .columns = a->blocks * a->block,
                     .group = a->block,
                     .bits = (uint32_t)a->bits,
                     .zero_rows_padded = true};
  return a->float_zeros ? 0 : tn_ox_pack(x, &p);
}

/* v with zeros behind its last dim, up to `to`. */
static tn_value widened(tn_ox *x, tn_value v, int64_t from, int64_t to) {
  int64_t low[TN_MAX_RANK] = {0}, high[TN_MAX_RANK] = {0};
  if (!v || from == to) return v;
  high[tn_ox_rank(x, v) - 1] = to - from;
  return tn_ox_pad(x, v, low, high, 0);
}

tn_status tn_ox_lower_matmul_nbits(tn_ox *x, tn_ox_node *n) {
  nbits a;
  tn_value v = tn_ox_in(x, n, 0), bias = tn_ox_in(x, n, 5);
  if (!v || !read_nbits(x, n, &a)) return tn_ox_out(x, n, 0, 0);
  TN_TRY(tn_ox_want_int(x, n, "weight_prepacked", 0, 0));
  if (tn_ox_in(x, n, 4)) return tn_ox_refuse(x, n, NULL, "input g_idx is not supported");
  tn_ox_same(x, n, tn_ox_dim(x, v, -1), tn_ox_d(x, a.k));
  tn_value w = kept_packed(x, &a);
  if (w)
    v = widened(x, v, a.k, a.blocks * a.block);
  else
    w = rebuilt(x, n, &a);
  tn_value y = tn_ox_matmul(x, v, w, false, true);
  return tn_ox_out(x, n, 0, bias ? tn_ox_binary(x, "add", y, bias) : y);
}

/* ---- MatMulBnb4 ---- */

/* Levels of bitsandbytes: codes 0 to 15 of fp4 and of the normal float of QLoRA. */
static const double bnb_levels[2][16] = {
    {0, 5.208333333e-03, 0.66666667, 1, 0.33333333, 0.5, 0.16666667, 0.25, -0.0, -5.208333333e-03,
     -0.66666667, -1, -0.33333333, -0.5, -0.16666667, -0.25},
    {-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
     -0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725,
     0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023,
     1}};

static tn_value bnb_matrix(tn_ox *x, tn_ox_node *n, tn_value codes, tn_value absmax, int64_t rows,
                           int64_t columns) {
  int64_t block = tn_ox_int(n, "block_size", 0), type = tn_ox_int(n, "quant_type", -1),
          count = rows * columns;
  if ((type != 0 && type != 1) || block < 16 || count % block || count % 2) {
    tn_ox_refuse(x, n, NULL, "quant_type is %lld, block_size %lld and the matrix %lld x %lld",
                 (long long)type, (long long)block, (long long)rows, (long long)columns);
    return 0;
  }
  /* the high nibble comes first: bytes as pairs, turned */
  tn_value c = tn_ox_same_bytes(x, n, codes, TN_DT_u4, (int64_t[]){count / 2, 2}, 2);
  c = tn_ox_cast(x, c, TN_DT_i32);
  tn_dim zero = tn_ox_d(x, 0), one = tn_ox_d(x, 1), two = tn_ox_d(x, 2);
  c = tn_ox_concat(x, (tn_value[]){tn_ox_slice(x, c, 1, one, two, 1), tn_ox_slice(x, c, 1, zero, one, 1)}, 2,
                   1);
  tn_value table = tn_ox_floats_1d(x, TN_DT_f32, bnb_levels[type], 16);
  tn_value w = tn_ox_gather(
      x, table, tn_ox_reshape(x, c, (tn_dim[]){tn_ox_d(x, count / block), tn_ox_d(x, block)}, 2), 0);
  w = tn_ox_binary(x, "mul", w, tn_ox_unsqueeze(x, tn_ox_cast(x, absmax, TN_DT_f32), 1));
  return tn_ox_reshape(x, w, (tn_dim[]){tn_ox_d(x, rows), tn_ox_d(x, columns)}, 2);
}

tn_status tn_ox_lower_matmul_bnb4(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), codes = tn_ox_in(x, n, 1), absmax = tn_ox_in(x, n, 2);
  int64_t rows = tn_ox_int(n, "N", 0), columns = tn_ox_int(n, "K", 0);
  if (!v || !codes || !absmax) return tn_ox_out(x, n, 0, 0);
  if (rows < 1 || columns < 1 || rows > INT32_MAX || columns > INT32_MAX)
    return tn_ox_fail(x, n, "N is %lld and K %lld", (long long)rows, (long long)columns);
  tn_ox_packing p = {.codes = codes,
                     .scales = absmax,
                     .rows = rows,
                     .columns = columns,
                     .group = tn_ox_int(n, "block_size", 0),
                     .bits = 4,
                     .levels = tn_ox_int(n, "quant_type", -1) ? TN_OX_NF4 : TN_OX_BNB_FP4};
  tn_value w = tn_ox_pack(x, &p);
  if (!w) w = bnb_matrix(x, n, codes, absmax, rows, columns);
  return tn_ox_out(x, n, 0, tn_ox_product(x, n, v, w, false, tn_ox_int(n, "transB", 1) != 0));
}

/* ---- FusedMatMul, FusedGemm ---- */

/* The first dim goes behind the other leading ones. */
static tn_value first_inside(tn_ox *x, tn_value v) {
  int64_t perm[TN_MAX_RANK];
  if (!v) return 0;
  uint32_t rank = tn_ox_rank(x, v);
  if (rank < 3) return v;
  for (uint32_t i = 0; i + 2 < rank; i++) perm[i] = i + 1;
  perm[rank - 2] = 0;
  perm[rank - 1] = rank - 1;
  return tn_ox_transpose(x, v, perm);
}

tn_status tn_ox_lower_fused_matmul(tn_ox *x, tn_ox_node *n) {
  tn_value a = tn_ox_in(x, n, 0), b = tn_ox_in(x, n, 1), y;
  bool trans_a = tn_ox_int(n, "transA", 0) != 0, trans_b = tn_ox_int(n, "transB", 0) != 0;
  double alpha = tn_ox_float(n, "alpha", 1);
  if (!a || !b) return tn_ox_out(x, n, 0, 0);
  if (tn_ox_int(n, "transBatchA", 0)) a = first_inside(x, a);
  if (tn_ox_int(n, "transBatchB", 0)) b = first_inside(x, b);
  bool vector = tn_ox_rank(x, a) < 2 || tn_ox_rank(x, b) < 2;
  y = vector ? tn_ox_product_numpy(x, n, a, b) : tn_ox_product(x, n, a, b, trans_a, trans_b);
  if (alpha != 1) y = tn_ox_binary(x, "mul", y, tn_ox_scalar_like(x, y, alpha));
  return tn_ox_out(x, n, 0, y);
}

tn_status tn_ox_lower_fused_gemm(tn_ox *x, tn_ox_node *n) {
  const float params[] = {(float)tn_ox_float(n, "activation_alpha", 0),
                          (float)tn_ox_float(n, "activation_beta", 0)};
  uint32_t count = tn_ox_has_attr(n, "activation_alpha") ? 2 : 0;
  tn_value y = tn_ox_gemm(x, n, tn_ox_in(x, n, 0), tn_ox_in(x, n, 1), tn_ox_in(x, n, 2));
  return tn_ox_out(x, n, 0, tn_ox_activation(x, n, tn_ox_str(n, "activation", ""), y, params, count));
}

/* ---- quantised operands, float results ---- */

static tn_value to_float(tn_ox *x, tn_ox_node *n, tn_value product, tn_value sa, tn_value sb, tn_value bias) {
  if (!product) return 0;
  uint32_t rank = tn_ox_rank(x, product);
  tn_dtype t = tn_ox_dtype(x, sb);
  tn_value by = tn_ox_binary(x, "mul", tn_ox_cast(x, tn_ox_as_scalar(x, sa), TN_DT_f32),
                             tn_ox_cast(x, tn_ox_along(x, n, sb, -1, rank), TN_DT_f32));
  tn_value y = tn_ox_cast(x, tn_ox_binary(x, "mul", tn_ox_cast(x, product, TN_DT_f32), by), t);
  return bias ? tn_ox_binary(x, "add", y, bias) : y;
}

tn_status tn_ox_lower_dynamic_quantize_matmul(tn_ox *x, tn_ox_node *n) {
  tn_ox_ranged a = tn_ox_quantize_range(x, tn_ox_in(x, n, 0));
  tn_value p = tn_ox_integer_product(x, n, a.codes, a.zero, tn_ox_in(x, n, 1), tn_ox_in(x, n, 3));
  return tn_ox_out(x, n, 0, to_float(x, n, p, a.scale, tn_ox_in(x, n, 2), tn_ox_in(x, n, 4)));
}

tn_status tn_ox_lower_matmul_integer_to_float(tn_ox *x, tn_ox_node *n) {
  tn_value p =
      tn_ox_integer_product(x, n, tn_ox_in(x, n, 0), tn_ox_in(x, n, 4), tn_ox_in(x, n, 1), tn_ox_in(x, n, 5));
  return tn_ox_out(x, n, 0, to_float(x, n, p, tn_ox_in(x, n, 2), tn_ox_in(x, n, 3), tn_ox_in(x, n, 6)));
}

/* a, its scale and zero, b, its scale and zero, c: i32 in units of both scales, y's scale and zero or none.
 */
tn_status tn_ox_lower_qgemm(tn_ox *x, tn_ox_node *n) {
  tn_value in[9];
  double alpha = tn_ox_float(n, "alpha", 1);
  for (uint32_t i = 0; i < 9; i++) in[i] = tn_ox_in(x, n, i);
  if (!in[0] || !in[3]) return tn_ox_out(x, n, 0, 0);
  tn_value a = tn_ox_int(n, "transA", 0) ? tn_ox_swap(x, in[0], 0, 1) : in[0];
  tn_value b = tn_ox_int(n, "transB", 0) ? tn_ox_swap(x, in[3], 0, 1) : in[3];
  tn_value p = tn_ox_integer_product(x, n, a, in[2], b, in[5]);
  if (in[6]) p = tn_ox_binary(x, "add", p, in[6]);
  tn_value y = to_float(x, n, p, in[1], in[4], 0);
  if (alpha != 1) y = tn_ox_binary(x, "mul", y, tn_ox_scalar_like(x, y, alpha));
  if (in[7] && in[8])
    y = tn_ox_quantize(x, y, tn_ox_as_scalar(x, in[7]), tn_ox_as_scalar(x, in[8]), tn_ox_dtype(x, in[8]));
  return tn_ox_out(x, n, 0, y);
}

/* ---- GatherBlockQuantized ---- */

typedef struct table {
  tn_value codes, scales, zeros;
  int64_t gather, quantize, block;
} table;

/* Codes of less than a byte in bytes along the last dim. */
static tn_value unpacked(tn_ox *x, tn_ox_node *n, tn_value v, int64_t bits, int64_t last) {
  int64_t dims[TN_MAX_RANK];
  if (!v || bits == 8 || tn_ox_dtype(x, v) != TN_DT_u8) return v;
  uint32_t rank = tn_ox_rank(x, v);
  for (uint32_t i = 0; i < rank; i++)
    if (!tn_ox_dconst(x, tn_ox_dim(x, v, i), &dims[i])) {
      tn_ox_refuse(x, n, NULL, "packed codes have to be a constant");
      return 0;
    }
  dims[rank - 1] *= 8 / bits;
  v = tn_ox_same_bytes(x, n, v, codes_type(bits), dims, rank);
  return last && last < dims[rank - 1] ? tn_ox_slice(x, v, -1, tn_ox_d(x, 0), tn_ox_d(x, last), 1) : v;
}

/* Each scale for `block` places along the axis, as many as there are. */
static tn_value repeated(tn_ox *x, tn_value s, int64_t axis, int64_t block, tn_dim want) {
  tn_dim dims[TN_MAX_RANK + 1];
  if (!s) return 0;
  uint32_t rank = tn_ox_rank(x, s), at = (uint32_t)axis;
  if (rank == TN_MAX_RANK) return 0;
  tn_ox_dims(x, s, dims);
  memmove(dims + at + 2, dims + at + 1, (rank - at - 1) * sizeof *dims);
  dims[at + 1] = tn_ox_d(x, block);
  s = tn_ox_broadcast(x, tn_ox_unsqueeze(x, s, at + 1), dims, rank + 1);
  dims[at] = tn_ox_dmul(x, dims[at], dims[at + 1]);
  memmove(dims + at + 1, dims + at + 2, (rank - at - 1) * sizeof *dims);
  s = tn_ox_reshape(x, s, dims, rank);
  return dims[at] == want ? s : tn_ox_slice(x, s, at, tn_ox_d(x, 0), want, 1);
}

static tn_value numbers(tn_ox *x, const table *t, int64_t axis) {
  if (!t->codes || !t->scales) return 0;
  tn_dim want = tn_ox_dim(x, t->codes, axis);
  tn_value v = tn_ox_cast(x, t->codes, TN_DT_f32);
  if (t->zeros) {
    tn_value z = tn_ox_cast(x, t->zeros, TN_DT_f32);
    v = tn_ox_binary(x, "sub", v, tn_ox_rank(x, z) ? repeated(x, z, axis, t->block, want) : z);
  }
  tn_value s = repeated(x, tn_ox_cast(x, t->scales, TN_DT_f32), axis, t->block, want);
  return tn_ox_cast(x, tn_ox_binary(x, "mul", v, s), tn_ox_dtype(x, t->scales));
}

tn_status tn_ox_lower_gather_block_quantized(tn_ox *x, tn_ox_node *n) {
  tn_value indices = tn_ox_in(x, n, 1);
  table t = {tn_ox_in(x, n, 0), tn_ox_in(x, n, 2), tn_ox_in(x, n, 3), 0, 0, tn_ox_int(n, "block_size", 128)};
  int64_t bits = tn_ox_int(n, "bits", 4), blocks;
  if (!t.codes || !t.scales || !indices) return tn_ox_out(x, n, 0, 0);
  uint32_t rank = tn_ox_rank(x, t.codes), more = tn_ox_rank(x, indices);
  t.gather = tn_ox_axis(x, n, tn_ox_int(n, "gather_axis", 0), rank);
  t.quantize = tn_ox_axis(x, n, tn_ox_int(n, "quantize_axis", 1), rank);
  bool bytes = tn_ox_dtype(x, t.codes) == TN_DT_u8;
  if (t.block < 16 || (bits != 2 && bits != 4 && bits != 8) || tn_ox_is_float(x, t.codes))
    return tn_ox_refuse(
        x, n, NULL,
        "block_size is %lld and bits %lld, of integer codes 16 and more, and 2, 4 or 8 are supported",
        (long long)t.block, (long long)bits);
  t.codes = unpacked(x, n, t.codes, bits, 0);
  if (!tn_ox_dconst(x, tn_ox_dim(x, t.scales, -1), &blocks)) blocks = 0;
  if (t.zeros)
    t.zeros = unpacked(x, n, t.zeros, bits, blocks);
  else if (bytes)
    t.zeros = tn_ox_scalar(x, TN_DT_f32, (double)(1 << (bits - 1)));
  if (t.gather == t.quantize)
    return tn_ox_out(x, n, 0, tn_ox_gather(x, numbers(x, &t, t.quantize), indices, t.gather));
  t.codes = tn_ox_gather(x, t.codes, indices, t.gather);
  t.scales = tn_ox_gather(x, t.scales, indices, t.gather);
  if (t.zeros && tn_ox_rank(x, t.zeros)) t.zeros = tn_ox_gather(x, t.zeros, indices, t.gather);
  return tn_ox_out(x, n, 0, numbers(x, &t, t.quantize > t.gather ? t.quantize + more - 1 : t.quantize));
}
