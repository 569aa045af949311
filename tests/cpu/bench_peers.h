/* bench_peers.h - OpenBLAS and oneDNN for bench_matmul: opened at run time, where the machine has them. */
#ifndef TN_TESTS_CPU_BENCH_PEERS_H
#define TN_TESTS_CPU_BENCH_PEERS_H
#include <stdbool.h>

/* C[m, n] = A[m, k] W[n, k]^T, prepared for: weights stay, rows change. */
typedef struct peer_product peer_product;
typedef struct peer {
  const char *name;
  bool bf16;
  /* NULL: the machine does not have it. w and a are f32. */
  peer_product *(*prepare)(int m, int n, int k, const float *a, const float *w, int threads);
  void (*run)(peer_product *p);
  const float *(*result)(peer_product *p);
  void (*end)(peer_product *p);
} peer;

/* Ends with a name of NULL. */
extern const peer peers[];

#endif
