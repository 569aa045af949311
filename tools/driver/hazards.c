/* hazards.c - which steps of a variant may run while earlier ones are not done on every thread. Per place in
 * memory the last step that wrote it and the last one that read it are enough: one walk in program order. */
#include "tools/driver/hazards.h"

void tn_hazards_begin(tn_hazards *h, const tn_prog_slot *slots, uint32_t nslots) {
  for (uint32_t i = 0; i < TN_COUNT(h->places); i++) h->places[i].count = 0;
  h->slots = slots;
  h->nslots = nslots;
  h->done = h->host = h->ended = 0;
}

void tn_hazards_fini(tn_hazards *h) {
  for (uint32_t i = 0; i < TN_COUNT(h->places); i++) tn_vec_fini(&h->places[i]);
}

/* NULL: nothing to wait for there, or no memory. */
static tn_hazard *place_of(tn_hazards *h, tn_prog_operand o) {
  if (o.kind >= TN_COUNT(h->places) || o.kind == TN_PROG_WEIGHT || o.kind == TN_PROG_INPUT) return NULL;
  while (h->places[o.kind].count <= o.index)
    if (!tn_vec_push(&h->places[o.kind], ((tn_hazard){0, 0}))) {
      h->oom = true;
      return NULL;
    }
  return &h->places[o.kind].items[o.index];
}

static uint32_t later(uint32_t a, uint32_t b) { return a > b ? a : b; }

void tn_hazards_host(tn_hazards *h) { h->host = ++h->done; }

/* Where slots lie is decided later: one that is written may lie on any that lives no longer. */
static uint32_t hazard_of(tn_hazards *h, tn_prog_operand o, bool writes) {
  const tn_hazard *p = place_of(h, o);
  if (!p) return 0;
  uint32_t nearest = writes ? later(p->written, p->read) : p->written;
  return writes && o.kind == TN_PROG_SLOT ? later(nearest, h->ended) : nearest;
}

static void note(tn_hazards *h, tn_prog_operand o, bool reads, bool writes) {
  tn_hazard *p = place_of(h, o);
  if (p && writes) p->written = h->done;
  if (p && reads) p->read = h->done;
  if (o.kind == TN_PROG_SLOT && o.index < h->nslots && h->slots[o.index].until == h->done) h->ended = h->done;
}

uint32_t tn_hazards_kernel(tn_hazards *h, const tn_prog_operand *o, uint32_t nread, uint32_t n, bool states) {
  uint32_t nearest = h->host, before = h->done;
  for (uint32_t i = 0; i < n; i++)
    nearest = later(nearest, hazard_of(h, o[i], i >= nread || (states && o[i].kind == TN_PROG_STATE)));
  h->done++;
  for (uint32_t i = 0; i < n; i++)
    note(h, o[i], i < nread, i >= nread || (states && o[i].kind == TN_PROG_STATE));
  return h->oom ? 0 : before - nearest;
}
