/* place.c - where slots lie in their arena. Slots that live at different times may share a place, and now
 * that all sizes are numbers they are packed like boxes, one after the other, each as low as it fits between
 * those that live when it does. No order of the boxes is best for all models: a few are tried. */
#include "backends/runtime/rt.h"

#define NONE UINT32_MAX
enum { ATTEMPTS = 32, WORK = 1 << 24 }; /* to find better places; fewer where n * n steps each are too many */

static bool meet(const tn_rt_room *a, const tn_rt_room *b) {
  return (!b->until || a->from < b->until) && (!a->until || b->from < a->until);
}

/* ---- orders -------------------------------------------------------------------------------------------- */

/* What comes first has the largest key; of equal keys the larger box, then the row. */
static bool before(const tn_rt_room *a, const tn_rt_room *b) {
  if (a->key != b->key) return a->key > b->key;
  return a->bytes != b->bytes ? a->bytes > b->bytes : a->slot < b->slot;
}

/* Shell sort: no memory, and the order comes out the same everywhere. */
static void sort(tn_rt_room *rooms, uint32_t n) {
  uint32_t gap = 1;
  while (gap < n / 3) gap = 3 * gap + 1;
  for (; gap; gap /= 3)
    for (uint32_t i = gap; i < n; i++) {
      tn_rt_room x = rooms[i];
      uint32_t k = i;
      for (; k >= gap && before(&x, &rooms[k - gap]); k -= gap) rooms[k] = rooms[k - gap];
      rooms[k] = x;
    }
}

static uint64_t by_size(const tn_rt_room *r) { return r->bytes; }
static uint64_t by_crowd(const tn_rt_room *r) { return r->crowd; }
static uint64_t by_length(const tn_rt_room *r) { return (r->until ? r->until : NONE) - r->from; }
static uint64_t by_time(const tn_rt_room *r) { return NONE - r->from; }
static uint64_t (*const orders[])(const tn_rt_room *r) = {by_crowd, by_size, by_length, by_time};

/* For each box the bytes that live at its fullest step; gives the most of all: no plan needs less. Steps that
 * matter are those where a box begins. */
static uint64_t find_crowds(tn_rt_room *rooms, uint32_t n) {
  uint64_t most = 0;
  for (uint32_t i = 0; i < n; i++) rooms[i].crowd = 0;
  for (uint32_t i = 0; i < n; i++) {
    uint64_t sum = 0;
    const tn_rt_room step = {.from = rooms[i].from, .until = rooms[i].from + 1};
    for (uint32_t k = 0; k < n; k++)
      if (meet(&step, &rooms[k])) sum += rooms[k].bytes;
    for (uint32_t k = 0; k < n; k++)
      if (meet(&step, &rooms[k]) && sum > rooms[k].crowd) rooms[k].crowd = sum;
    most = sum > most ? sum : most;
  }
  return most;
}

/* ---- places -------------------------------------------------------------------------------------------- */

/* The lowest place for rooms[i]; `head` is a list, by place, of those that have one. */
static uint64_t lowest(const tn_rt_room *rooms, uint32_t i, uint32_t head) {
  uint64_t at = 0;
  for (uint32_t k = head; k != NONE; k = rooms[k].next) {
    if (!meet(&rooms[i], &rooms[k])) continue;
    if (rooms[k].at >= at && rooms[k].at - at >= rooms[i].bytes) break;
    uint64_t end = rooms[k].at + rooms[k].bytes;
    if (end > at) at = end;
  }
  return at;
}

/* Places all in the order of their keys; keeps the places if nothing better was found before. */
static bool pack(tn_rt_room *rooms, uint32_t n, uint64_t *best) {
  uint32_t head = NONE;
  uint64_t total = 0;
  sort(rooms, n);
  for (uint32_t i = 0; i < n; i++) {
    uint64_t at = lowest(rooms, i, head), end;
    if (!tn_add_u64(at, rooms[i].bytes, &end) || end > INT64_MAX / 2) return false;
    rooms[i].at = at;
    if (end > total) total = end;
    uint32_t *link = &head;
    while (*link != NONE && rooms[*link].at <= at) link = &rooms[*link].next;
    rooms[i].next = *link;
    *link = i;
  }
  for (uint32_t i = 0; i < n && total < *best; i++) rooms[i].best = rooms[i].at;
  if (total < *best) *best = total;
  return true;
}

/* What stuck out at the top comes first the next time: it is what the others were in the way of. */
static void blame(tn_rt_room *rooms, uint32_t n) {
  uint64_t total = 0;
  for (uint32_t i = 0; i < n; i++)
    if (rooms[i].at + rooms[i].bytes > total) total = rooms[i].at + rooms[i].bytes;
  for (uint32_t i = 0; i < n; i++) rooms[i].key = n - i + (rooms[i].at + rooms[i].bytes == total ? n : 0);
}

bool tn_rt_pack(tn_rt_room *rooms, uint32_t n, uint64_t *total, uint64_t *least) {
  uint64_t sum = 0, best = UINT64_MAX, affordable = WORK / ((uint64_t)n * n + 1) + 1;
  uint32_t attempts = affordable < ATTEMPTS ? (uint32_t)affordable : ATTEMPTS;
  for (uint32_t i = 0; i < n; i++)
    if (!tn_add_u64(sum, rooms[i].bytes, &sum)) return false;
  *least = find_crowds(rooms, n);
  for (uint32_t t = 0; t < attempts && best > *least; t++) {
    uint32_t order = t / (ATTEMPTS / TN_COUNT(orders));
    for (uint32_t i = 0; i < n && t % (ATTEMPTS / TN_COUNT(orders)) == 0; i++)
      rooms[i].key = orders[order](&rooms[i]);
    if (!pack(rooms, n, &best)) return false;
    blame(rooms, n);
  }
  for (uint32_t i = 0; i < n; i++) rooms[i].at = rooms[i].best;
  *total = n ? best : 0;
  return true;
}
