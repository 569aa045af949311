/* copies.c - plans the copies of a variant in one walk over its steps: per place in memory, on which sides
 * its value is. A copy to the device stands right behind the step that made the value, so that kernels there
 * follow one another without a gap; a copy to the host stands right before the step that wants it, so that
 * the host waits as late as possible. */
#include "tools/driver/copies.h"
#include <stdlib.h>

typedef struct place {
  bool host, device; /* its value is there */
  uint32_t since;    /* the step from which on it has this value */
} place;

typedef struct planner {
  tn_copies *c;
  TN_VEC(place) places[TN_PROG_ABSENT]; /* by kind and index of an operand */
  bool oom;
} planner;

/* Where a value is when the variant begins. */
static place first_place(const planner *p, uint32_t kind, uint32_t index) {
  bool device = kind == TN_PROG_STATE && index < p->c->nstates && p->c->homes[index];
  return (place){!device, device, 0};
}

/* NULL: a weight, which is where it is wanted; nothing; no memory. */
static place *place_of(planner *p, tn_prog_operand o) {
  if (o.kind >= TN_PROG_ABSENT || o.kind == TN_PROG_WEIGHT) return NULL;
  while (p->places[o.kind].count <= o.index) {
    place first = first_place(p, o.kind, p->places[o.kind].count);
    if (!tn_vec_push(&p->places[o.kind], first)) {
      p->oom = true;
      return NULL;
    }
  }
  return &p->places[o.kind].items[o.index];
}

/* Step `at` finds the value on that side. */
static void want(planner *p, uint32_t at, tn_prog_operand o, bool device) {
  place *x = place_of(p, o);
  if (!x || (device ? x->device : x->host)) return;
  tn_copy copy = {device ? x->since : at, device ? TN_PROG_UPLOAD : TN_PROG_DOWNLOAD, o};
  p->oom |= !tn_vec_push(&p->c->list, copy);
  x->device = x->host = true;
}

static void give(planner *p, uint32_t at, tn_prog_operand o, bool device) {
  place *x = place_of(p, o);
  if (x) *x = (place){!device, device, at + 1};
}

/* Every state is where it lies between calls: `at` is the end, or a step that runs another entry. */
static void send_home(planner *p, uint32_t at) {
  for (uint32_t i = 0; i < p->c->nstates; i++)
    want(p, at, (tn_prog_operand){TN_PROG_STATE, i}, p->c->homes[i]);
}

static void plan_step(planner *p, uint32_t i) {
  const tn_prog_step *step = &p->c->steps[i];
  const tn_step_use *use = &p->c->uses[i];
  const tn_prog_operand *o = p->c->operands + step->first_operand;
  bool calls = step->kind == TN_PROG_IF || step->kind == TN_PROG_LOOP;
  for (uint32_t k = 0; k < use->nread; k++) want(p, i, o[k], use->device);
  if (calls) send_home(p, i);
  for (uint32_t k = 0; calls && k < p->c->nstates; k++)
    give(p, i, (tn_prog_operand){TN_PROG_STATE, k}, p->c->homes[k]);
  for (uint32_t k = 0; k < step->noperands; k++)
    if (k >= use->nread || (use->updates && o[k].kind == TN_PROG_STATE)) give(p, i, o[k], use->device);
}

static int by_place(const void *a, const void *b) {
  const tn_copy *x = a, *y = b;
  if (x->before != y->before) return x->before < y->before ? -1 : 1;
  if (x->direction != y->direction) return x->direction < y->direction ? -1 : 1;
  if (x->what.kind != y->what.kind) return x->what.kind < y->what.kind ? -1 : 1;
  return x->what.index < y->what.index ? -1 : x->what.index > y->what.index;
}

bool tn_copies_plan(tn_copies *c) {
  planner p = {.c = c};
  for (uint32_t i = 0; i < c->nsteps; i++) plan_step(&p, i);
  for (uint32_t i = 0; i < c->noutputs; i++) want(&p, c->nsteps, (tn_prog_operand){TN_PROG_OUTPUT, i}, false);
  for (uint32_t i = 0; c->keep && i < p.places[TN_PROG_SLOT].count; i++)
    want(&p, c->nsteps, (tn_prog_operand){TN_PROG_SLOT, i}, false);
  send_home(&p, c->nsteps);
  if (c->list.count) qsort(c->list.items, c->list.count, sizeof *c->list.items, by_place);
  for (uint32_t i = 0; i < TN_COUNT(p.places); i++) tn_vec_fini(&p.places[i]);
  return !p.oom;
}

void tn_copies_fini(tn_copies *c) { tn_vec_fini(&c->list); }

uint32_t tn_copies_number(const tn_copies *c, uint32_t i) {
  uint32_t n = 0;
  while (n < c->list.count && c->list.items[n].before <= i) n++;
  return i + n;
}

/* Copies of a slot's value stand between the step that makes it and the last one that wants it. */
void tn_copies_slots(const tn_copies *c, tn_prog_slot *slots, uint32_t nslots) {
  for (uint32_t i = 0; c->list.count && i < nslots; i++) {
    slots[i].from = tn_copies_number(c, slots[i].from);
    if (slots[i].until) slots[i].until = tn_copies_number(c, slots[i].until - 1) + 1;
    if (slots[i].after) slots[i].after = tn_copies_number(c, slots[i].after - 1) + 1;
  }
}
