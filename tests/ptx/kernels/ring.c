/* ring.c - C[128, 8 n] = A[128, k] B[k, 8 n], bf16, by cp.async into a ring of three stages, ldmatrix and
 * mma.sync: the shape of a fast kernel, small. 4 warps of 32 rows. Stages hold 32 columns of A and of the
 * turned B. */
#include "kernels.h"

enum { M = 128, N = 32, K = 32, STAGES = 3, ROW = K + 8 };
typedef SHARED unsigned short *tile;
static SHARED unsigned short stage[STAGES][M + N][ROW] __attribute__((aligned(16)));

static void copy(tile to, const GLOBAL unsigned short *from) {
  __nvvm_cp_async_cg_shared_global_16((SHARED void *)to, (const GLOBAL void *)from);
}

static void fetch(const GLOBAL unsigned short *a, const GLOBAL unsigned short *b, int k, int at, int slot) {
  for (int i = TID; i < (M + N) * (K / 8); i += 128) {
    int row = i / (K / 8), column = i % (K / 8) * 8;
    copy(&stage[slot][row][column], row < M ? a + row * k + at + column : b + (row - M) * k + at + column);
  }
}

static void ldmatrix4(unsigned r[4], unsigned at) {
  __asm__ volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                   : "r"(at)
                   : "memory");
}

static void multiply(float c[4], const unsigned a[4], const unsigned b[2]) {
  __asm__ volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                   "{%8, %9}, {%0, %1, %2, %3};"
                   : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* B is given turned: [n, k]. */
KERNEL void ring(GLOBAL float *c, const GLOBAL unsigned short *a, const GLOBAL unsigned short *b, int k) {
  int lane = TID % 32, warp = TID / 32, steps = k / K;
  float sum[2][4][4] = {0};
  for (int s = 0; s < STAGES - 1; s++) {
    if (s < steps) fetch(a, b, k, s * K, s);
    __nvvm_cp_async_commit_group();
  }
  for (int step = 0; step < steps; step++) {
    __nvvm_cp_async_wait_group(STAGES - 2);
    SYNC();
    int slot = step % STAGES, next = step + STAGES - 1;
    if (next < steps) fetch(a, b, k, next * K, next % STAGES);
    __nvvm_cp_async_commit_group();
    for (int kk = 0; kk < K; kk += 16) {
      unsigned fa[2][4], fb[2][4];
      for (int i = 0; i < 2; i++)
        ldmatrix4(fa[i],
                  (unsigned)(unsigned long)&stage[slot][warp * 32 + i * 16 + lane % 16][kk + lane / 16 * 8]);
      for (int j = 0; j < 2; j++)
        ldmatrix4(fb[j], (unsigned)(unsigned long)&stage[slot][M + j * 16 + lane % 8 + lane / 16 * 8]
                                                        [kk + lane / 8 % 2 * 8]);
      for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++) multiply(sum[i][j], fa[i], &fb[j / 2][j % 2 * 2]);
    }
  }
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < 4; j++)
      for (int e = 0; e < 4; e++)
        c[(warp * 32 + i * 16 + lane / 4 + e / 2 * 8) * N + j * 8 + lane % 4 * 2 + e % 2] = sum[i][j][e];
}
