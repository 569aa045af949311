/* plain.c - kernels of the kinds that a compiler emits: loops, reductions, tiles in shared memory, scans,
 * atomics, divergence, f16 arithmetic, local arrays, switches. */
#include "kernels.h"

static SHARED float partial[32];

/* out[row] = sum of x[row, :]^2, one CTA per row. */
KERNEL void squares(GLOBAL float *out, const GLOBAL float *x, int n) {
  float s = 0;
  for (int i = TID; i < n; i += BLOCK) s += x[CTA * n + i] * x[CTA * n + i];
  for (int m = 16; m; m >>= 1) s += shuffle(s, m);
  if (TID % 32 == 0) partial[TID / 32] = s;
  SYNC();
  if (TID < 32) {
    s = TID < BLOCK / 32 ? partial[TID] : 0;
    for (int m = 16; m; m >>= 1) s += shuffle(s, m);
    if (TID == 0) out[CTA] = s;
  }
}

enum { T = 16 };
static SHARED float left[T][T], right[T][T + 1];

/* C[m, n] = A[m, k] B[k, n] in tiles of 16 by 16, any sizes. */
KERNEL void product(GLOBAL float *c, const GLOBAL float *a, const GLOBAL float *b, int m, int n, int k) {
  int tx = TID % T, ty = TID / T, tiles = (n + T - 1) / T, row = CTA / tiles * T + ty,
      column = CTA % tiles * T + tx;
  float sum = 0;
  for (int at = 0; at < k; at += T) {
    left[ty][tx] = row < m && at + tx < k ? a[row * k + at + tx] : 0;
    right[ty][tx] = column < n && at + ty < k ? b[(at + ty) * n + column] : 0;
    SYNC();
    for (int i = 0; i < T; i++) sum += left[ty][i] * right[i][tx];
    SYNC();
  }
  if (row < m && column < n) c[row * n + column] = sum;
}

static SHARED int scanned[2][256];

/* Inclusive sums of 256 numbers. */
KERNEL void scan(GLOBAL int *out, const GLOBAL int *x) {
  int side = 0;
  scanned[0][TID] = x[CTA * 256 + TID];
  SYNC();
  for (int step = 1; step < 256; step *= 2) {
    scanned[!side][TID] = scanned[side][TID] + (TID >= step ? scanned[side][TID - step] : 0);
    side = !side;
    SYNC();
  }
  out[CTA * 256 + TID] = scanned[side][TID];
}

/* Counts of bytes. */
KERNEL void histogram(GLOBAL int *counts, const GLOBAL unsigned char *x, int n) {
  for (int i = CTA * BLOCK + TID; i < n; i += GRID * BLOCK) __nvvm_atom_add_gen_i((int *)&counts[x[i]], 1);
}

/* Collatz: steps until 1; lanes part and meet again. */
KERNEL void collatz(GLOBAL int *out, int n) {
  int i = CTA * BLOCK + TID;
  if (i >= n) return;
  long long x = i + 1;
  int steps = 0;
  while (x != 1) {
    x = x % 2 ? 3 * x + 1 : x / 2;
    steps++;
  }
  out[i] = steps;
}

KERNEL void halves(GLOBAL _Float16 *out, const GLOBAL _Float16 *x, const GLOBAL _Float16 *y, int n) {
  int i = CTA * BLOCK + TID;
  if (i < n) out[i] = x[i] * y[i] + (_Float16)0.5f;
}

/* Sorts 8 numbers per thread in a local array, indexed by data. */
KERNEL void sort8(GLOBAL int *out, const GLOBAL int *x) {
  int v[8];
  for (int i = 0; i < 8; i++) v[i] = x[(CTA * BLOCK + TID) * 8 + i];
  for (int i = 1; i < 8; i++) {
    int one = v[i], j = i;
    while (j > 0 && v[j - 1] > one) {
      v[j] = v[j - 1];
      j--;
    }
    v[j] = one;
  }
  for (int i = 0; i < 8; i++) out[(CTA * BLOCK + TID) * 8 + i] = v[i];
}

static __attribute__((address_space(4))) const int table[8] = {3, 1, 4, 1, 5, 9, 2, 6};

KERNEL void choose(GLOBAL int *out, const GLOBAL int *x, int n) {
  int i = CTA * BLOCK + TID, y;
  if (i >= n) return;
  switch (x[i] % 7) {
  case 0: y = 11; break;
  case 1: y = x[i] * 3; break;
  case 2: y = ~x[i]; break;
  case 3: y = x[i] >> 2; break;
  case 4: y = table[x[i] & 7]; break;
  case 5: y = x[i] % 10; break;
  default: y = -1;
  }
  out[i] = y;
}

/* Softmax of rows: the largest, the sum, the quotient. */
KERNEL void softmax(GLOBAL float *out, const GLOBAL float *x, int n) {
  float most = -3e38f, sum = 0;
  for (int i = TID; i < n; i += 32) most = __builtin_fmaxf(most, x[CTA * n + i]);
  for (int m = 16; m; m >>= 1) most = __builtin_fmaxf(most, shuffle(most, m));
  for (int i = TID; i < n; i += 32) sum += __nvvm_ex2_approx_f((x[CTA * n + i] - most) * 1.44269504f);
  for (int m = 16; m; m >>= 1) sum += shuffle(sum, m);
  for (int i = TID; i < n; i += 32)
    out[CTA * n + i] = __nvvm_ex2_approx_f((x[CTA * n + i] - most) * 1.44269504f) / sum;
}
