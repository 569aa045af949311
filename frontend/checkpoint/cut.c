/* cut.c - the steps of a conversion as changes of loops: no number is moved before somebody reads it. */
#include "frontend/checkpoint/cut.h"

bool ck_cut_reshape(ck_cut *c, uint32_t rank, const int64_t *shape) {
  uint64_t have = 1, want = 1;
  for (uint32_t i = c->loops; i-- > 0; have *= c->size[i])
    if (c->step[i] != have && c->size[i] != 1) return false;
  if (rank > CK_LOOPS) return false;
  c->rank = c->loops = rank;
  for (uint32_t i = rank; i-- > 0; want *= (uint64_t)shape[i]) {
    c->inner[i] = 1;
    c->size[i] = (uint64_t)shape[i];
    c->step[i] = want;
  }
  return have == want;
}

bool ck_cut_all(ck_cut *c, uint32_t rank, const int64_t *shape) {
  uint64_t n = 1;
  *c = (ck_cut){.rank = rank, .loops = rank};
  if (rank > CK_LOOPS) return false;
  for (uint32_t i = rank; i-- > 0; n *= (uint64_t)shape[i]) {
    c->inner[i] = 1;
    c->size[i] = (uint64_t)shape[i];
    c->step[i] = n;
  }
  return true;
}

/* The first loop of an axis. */
static uint32_t first_loop(const ck_cut *c, uint32_t axis) {
  uint32_t at = 0;
  for (uint32_t i = 0; i < axis; i++) at += c->inner[i];
  return at;
}

uint64_t ck_cut_extent(const ck_cut *c, uint32_t axis) {
  uint64_t n = 1;
  for (uint32_t i = first_loop(c, axis), end = i + c->inner[axis]; i < end; i++) n *= c->size[i];
  return n;
}

bool ck_cut_range(ck_cut *c, uint32_t axis, uint64_t first, uint64_t count) {
  uint32_t l = first_loop(c, axis);
  if (axis >= c->rank || c->inner[axis] != 1 || first + count > c->size[l]) return false;
  c->at += first * c->step[l];
  c->size[l] = count;
  return true;
}

bool ck_cut_part(ck_cut *c, uint32_t axis, uint64_t part, uint64_t parts) {
  uint64_t n = axis < c->rank ? ck_cut_extent(c, axis) : 0;
  return n && n % parts == 0 && ck_cut_range(c, axis, n / parts * part, n / parts);
}

void ck_cut_drop(ck_cut *c, uint32_t axis) {
  uint32_t l = first_loop(c, axis), n = c->inner[axis];
  for (uint32_t i = l; i + n < c->loops; i++) c->size[i] = c->size[i + n], c->step[i] = c->step[i + n];
  for (uint32_t i = axis; i + 1 < c->rank; i++) c->inner[i] = c->inner[i + 1];
  c->loops -= n;
  c->rank--;
}

void ck_cut_swap(ck_cut *c, uint32_t a, uint32_t b) {
  ck_cut old = *c;
  uint32_t to = 0, inner = c->inner[a];
  c->inner[a] = c->inner[b];
  c->inner[b] = inner;
  for (uint32_t i = 0; i < old.rank; i++) {
    uint32_t from = i == a ? b : i == b ? a : i, l = first_loop(&old, from);
    for (uint32_t k = 0; k < old.inner[from]; k++, to++) {
      c->size[to] = old.size[l + k];
      c->step[to] = old.step[l + k];
    }
  }
}

/* The first axis, one loop, becomes loops of these sizes, of which number order[i] is at place i. */
static bool cut_rows(ck_cut *c, uint32_t n, const int64_t *sizes, const int64_t *order) {
  uint64_t steps[CK_LOOPS], all = c->step[0], room = c->loops + n - 1;
  if (c->inner[0] != 1 || room > CK_LOOPS) return false;
  for (uint32_t i = n; i-- > 0; all *= (uint64_t)sizes[i]) steps[i] = all;
  if (all != c->size[0] * c->step[0]) return false;
  for (uint32_t i = c->loops; i-- > 1;) c->size[i + n - 1] = c->size[i], c->step[i + n - 1] = c->step[i];
  for (uint32_t i = 0; i < n; i++) {
    if (order[i] < 0 || order[i] >= n) return false;
    c->size[i] = (uint64_t)sizes[order[i]];
    c->step[i] = steps[order[i]];
  }
  c->loops = (uint32_t)room;
  c->inner[0] = n;
  return true;
}

static bool rows_back(ck_cut *c, const tn_page_step *s) {
  int64_t sizes[TN_MAX_RANK], order[TN_MAX_RANK];
  for (uint32_t i = 0; i < s->count; i++) {
    if (s->order[i] >= s->count) return false;
    sizes[i] = s->sizes[s->order[i]];
    order[s->order[i]] = i;
  }
  return cut_rows(c, s->count, sizes, order);
}

bool ck_cut_step(ck_cut *c, const tn_page_step *s, bool back) {
  switch (s->kind) {
  case TN_STEP_ROWS:
    if (!c->rank) return false;
    return back ? rows_back(c, s) : cut_rows(c, s->count, s->sizes, s->order);
  case TN_STEP_SHAPE:
    return back ? ck_cut_reshape(c, s->nback, s->back) : ck_cut_reshape(c, s->count, s->sizes);
  case TN_STEP_TURN:
    if (c->rank == 2) ck_cut_swap(c, 0, 1);
    return c->rank <= 2;
  case TN_STEP_ADD:
    c->math = CK_ADD;
    c->number = back ? -s->number : s->number;
    return true;
  case TN_STEP_RATES: c->math = back ? CK_LOG_NEG : CK_NEG_EXP; return true;
  case TN_STEP_BEHIND: {
    uint64_t n = c->rank && s->number >= 0 ? (uint64_t)s->number : UINT64_MAX;
    return !back && c->rank && n < ck_cut_extent(c, 0) && ck_cut_range(c, 0, n, ck_cut_extent(c, 0) - n);
  }
  case TN_STEP_SPLIT:
  case TN_STEP_HEADS: break; /* several tensors: their callers' */
  }
  return false;
}
