/* copies.h - which values of a program have to go between the host's memory and the device's, and where. */
#ifndef TN_COPIES_H
#define TN_COPIES_H
#include "ir/base/base.h"
#include "ir/base/program.h"

/* What a step does with its operands: reads 0 .. nread - 1, writes the others and, if `updates`, all its
 * states. */
typedef struct tn_step_use {
  uint32_t nread;
  bool device, updates;
} tn_step_use;

/* A copy that stands before step `before` of the variant as it was. */
typedef struct tn_copy {
  uint32_t before, direction; /* TN_PROG_UPLOAD, TN_PROG_DOWNLOAD */
  tn_prog_operand what;
} tn_copy;

typedef struct tn_copies {
  /* The variant: its steps, what they do, all rows of operands. */
  const tn_prog_step *steps;
  const tn_step_use *uses;
  const tn_prog_operand *operands;
  uint32_t nsteps, noutputs;
  const bool *homes; /* per state: it lies on the device between calls */
  uint32_t nstates;
  bool keep;            /* in the end every slot's value is in the host's memory, too */
  TN_VEC(tn_copy) list; /* in order */
} tn_copies;

/* Fills c->list; false: no memory. */
bool tn_copies_plan(tn_copies *c);
void tn_copies_fini(tn_copies *c);
/* The number that step `i` (0 .. nsteps) has once the copies stand before their steps. */
uint32_t tn_copies_number(const tn_copies *c, uint32_t i);
/* The same for the slots of the variant: where they live and behind which step they are there. */
void tn_copies_slots(const tn_copies *c, tn_prog_slot *slots, uint32_t nslots);

#endif
