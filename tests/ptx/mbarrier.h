/* mbarrier.h - barriers in shared memory that also count bytes, between mbarrier.c and bulk.c. */
#ifndef PTX_MBARRIER_H
#define PTX_MBARRIER_H
#include "tests/ptx/values.h"

typedef struct ptx_mbarrier {
  ptx_cta *cta;
  uint64_t offset; /* in its shared memory */
  uint32_t expected, pending, phase;
  int64_t bytes; /* that are still to come */
  uint32_t *clock;
  bool valid;
} ptx_mbarrier;

/* The object at an address; UINT32_MAX: none, and a fault was raised. */
uint32_t ptx_mbarrier_find(ptx_warp *w, ptx_space space, uint64_t address, int lane);
/* Bytes that came, or that are to come (negative). */
void ptx_mbarrier_bytes(ptx_machine *m, uint32_t index, int64_t bytes);
/* Those of the bulk copy that landed last. */
void ptx_mbarrier_landed(ptx_machine *m, uint32_t index, int64_t bytes);
void ptx_mbarrier_arrive(ptx_warp *w, uint32_t index, uint32_t count, int lane);
#endif
