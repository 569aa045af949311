/* hazards.h - steps that need not wait for one another: tn_prog_step.ahead. */
#ifndef TN_HAZARDS_H
#define TN_HAZARDS_H
#include "ir/base/base.h"
#include "ir/base/program.h"

typedef struct tn_hazard {
  uint32_t written, read; /* 1 + the last step that did; 0: none */
} tn_hazard;
typedef struct tn_hazards {
  TN_VEC(tn_hazard) places[TN_PROG_ABSENT]; /* by kind and index of an operand */
  const tn_prog_slot *slots;
  uint32_t nslots;
  uint32_t done, host; /* steps so far, and up to the last host step */
  uint32_t ended;      /* steps up to the last one behind which a slot's memory may be taken over */
  bool oom;            /* from then on every step waits */
} tn_hazards;

/* Of a variant with these slots, which must outlive its steps. */
void tn_hazards_begin(tn_hazards *h, const tn_prog_slot *slots, uint32_t nslots);
void tn_hazards_fini(tn_hazards *h);
/* The next step is done by one thread, which waits for all before it, and all behind it for it. */
void tn_hazards_host(tn_hazards *h);
/* The next step is a kernel that reads operands 0 .. nread - 1, writes the others and, if `states`, all its
 * states: how many of the steps right before it it need not wait for. */
uint32_t tn_hazards_kernel(tn_hazards *h, const tn_prog_operand *o, uint32_t nread, uint32_t n, bool states);

#endif
