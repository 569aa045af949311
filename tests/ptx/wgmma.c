/* wgmma.c - products of a warpgroup: each of its four warps makes 16 of the 64 rows. They are done when their
 * group is waited for, and read shared memory and registers only then, as a device may. Layouts: PTX ISA,
 * "Asynchronous warpgroup level matrix shared memory layout" and "matrix fragments". */
#include "tests/ptx/values.h"

typedef struct product {
  const ptx_ins *i;
  uint32_t group;
  uint64_t a, b; /* descriptors */
  bool keep;     /* scale-d: what was there is added */
} product;
typedef struct ptx_products {
  TN_VEC(product) list;
  uint32_t open;
  bool fenced;
} ptx_products;

/* An element of a matrix in shared memory: row along m or n, byte along k. `turned`: k is the slow dimension.
 */
static uint8_t *element(ptx_warp *w, uint64_t d, uint32_t row, uint32_t k, uint32_t size, bool turned) {
  uint64_t start = (d & 0x3fff) << 4, leading = (d >> 16 & 0x3fff) << 4, stride = (d >> 32 & 0x3fff) << 4;
  static const uint16_t widths[] = {16, 128, 64, 32};
  uint32_t mode = (uint32_t)(d >> 62), width = widths[mode],
           bits = mode ? 4 - mode : 0; /* of the swizzle: 3, 2, 1 */
  uint64_t a;
  if (!turned && !mode) {
    a = start + row / 8 * stride + k * size / 16 * leading + row % 8 * 16 + k * size % 16;
  } else if (!turned) {
    a = start + row / 8 * stride + row % 8 * width + k * size;
  } else if (!mode) {
    a = start + k / 8 * leading + row * size / 16 * stride + k % 8 * 16 + row * size % 16;
  } else {
    a = start + row * size / width * leading + k / 8 * stride + k % 8 * width + row * size % width;
  }
  a = ptx_swizzle(bits, a);
  if (a + size <= w->machine->shared_bytes)
    return ptx_resolve(w, PS_shared, a | (uint64_t)w->cta->rank << PTX_SHARED_RANK, size, 1, 0, 0).data;
  ptx_stop(w, PTX_BAD_ADDRESS, -1, "a descriptor 0x%llx leads to shared address 0x%llx",
           (unsigned long long)d, (unsigned long long)a);
  return NULL;
}

static bool from_shared(ptx_warp *w, uint64_t d, ptx_type t, uint32_t row, uint32_t k, bool turned,
                        double *out) {
  uint64_t bits = 0;
  const uint8_t *p = element(w, d, row, k, ptx_type_bytes[t], turned);
  if (p) memcpy(&bits, p, ptx_type_bytes[t]);
  *out = ptx_number(t, bits);
  return p != NULL;
}

/* A out of registers: the fragment of mma.m16n8. */
static double from_registers(ptx_warp *w, const ptx_arg *list, ptx_type t, uint32_t row, uint32_t k) {
  uint32_t p = 4u / ptx_type_bytes[t], half = k / (4 * p), lane = row % 8 * 4 + k / p % 4;
  return ptx_number(t, ptx_get(w, &list->items[row / 8 + 2 * half], lane) >> (k % p * ptx_type_bytes[t] * 8));
}

static bool turned(const ptx_ins *i, uint32_t arg) { return arg < i->nargs && i->args[arg].value & 1; }

/* Reads A [16, k] of this warp and B [n, k]. */
static bool read_sides(ptx_warp *w, const product *p, double *a, double *b) {
  const ptx_ins *i = p->i;
  ptx_type ta = (ptx_type)i->type[1], tb = (ptx_type)i->type[2];
  bool registers = i->args[1].kind == PK_LIST, sixteen = ptx_type_bytes[ta] == 2;
  /* operands: d, a, b, scale-d, scale-a, scale-b, and of 16-bit types trans-a (not of registers), trans-b */
  double sa = i->nargs > 4 && (int32_t)i->args[4].value == -1 ? -1 : 1,
         sb = i->nargs > 5 && (int32_t)i->args[5].value == -1 ? -1 : 1;
  for (uint32_t r = 0; r < 16; r++)
    for (uint32_t k = 0; k < i->k; k++) {
      double *x = &a[r * i->k + k];
      if (registers)
        *x = from_registers(w, &i->args[1], ta, r, k);
      else if (!from_shared(w, p->a, ta, w->index % 4 * 16 + r, k, sixteen && turned(i, 6), x))
        return false;
      *x *= sa;
    }
  for (uint32_t c = 0; c < i->n; c++)
    for (uint32_t k = 0; k < i->k; k++) {
      if (!from_shared(w, p->b, tb, c, k, sixteen && turned(i, registers ? 6 : 7), &b[c * i->k + k]))
        return false;
      b[c * i->k + k] *= sb;
    }
  return true;
}

/* Number r of a lane's part of D: row g + 8 (r / 2 % 2), column 8 (r / 4) + 2 t + r % 2. */
static void add(ptx_warp *w, const product *p, const double *a, const double *b) {
  const ptx_ins *i = p->i;
  ptx_type td = (ptx_type)i->type[0];
  uint32_t packed = ptx_type_bytes[td] == 2 ? 2 : 1;
  for (uint32_t l = 0; l < PTX_LANES; l++)
    for (uint32_t r = 0; r < i->n / 2 / packed; r++) {
      const ptx_arg *d = &i->args[0].items[r];
      uint64_t old = ptx_get(w, d, l), made = 0;
      for (uint32_t e = 0; e < packed; e++) {
        uint32_t n = r * packed + e, row = l / 4 + 8 * (n / 2 % 2),
                 column = 8 * (n / 4) + 2 * (l % 4) + n % 2;
        double sum = p->keep ? ptx_number(td, old >> 16 * e) : 0;
        for (uint32_t k = 0; k < i->k; k++) sum += a[row * i->k + k] * b[column * i->k + k];
        made |=
            (ptx_is_float(td) ? ptx_float_put(td, sum, PM_rn, false) : (uint64_t)(int64_t)sum & UINT32_MAX)
            << 16 * e;
      }
      ptx_put(w, d, l, made);
    }
}

static void perform(ptx_warp *w, const product *p) {
  const ptx_ins *before = w->machine->at;
  double *a = tn_mem_alloc((16 + p->i->n) * p->i->k * sizeof *a);
  w->machine->at = p->i;
  if (!a)
    ptx_stop(w, PTX_NO_MEMORY, -1, "no memory");
  else if (read_sides(w, p, a, a + 16 * p->i->k))
    add(w, p, a, a + 16 * p->i->k);
  tn_mem_free(a);
  w->machine->at = before;
  w->machine->count.mma++;
}

static void issue(ptx_warp *w, const ptx_ins *i, ptx_products *x) {
  product p = {.i = i, .group = x->open, .b = ptx_get(w, &i->args[2], 0), .keep = true};
  if (i->args[1].kind != PK_LIST) p.a = ptx_get(w, &i->args[1], 0);
  if (i->nargs > 3) p.keep = ptx_get(w, &i->args[3], 0) & 1;
  if (!x->fenced)
    ptx_stop(w, PTX_ILLEGAL, -1, "the first product comes before wgmma.fence");
  else if (!tn_vec_push(&x->list, p))
    ptx_stop(w, PTX_NO_MEMORY, -1, "no memory");
}

void ptx_run_wgmma(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  ptx_products *x = w->products;
  if (!x) x = w->products = tn_mem_alloc(sizeof *x);
  if (mask != UINT32_MAX || w->cta->nwarps % 4) {
    ptx_stop(w, PTX_ILLEGAL, -1, "four whole warps are needed");
  } else if (!x) {
    ptx_stop(w, PTX_NO_MEMORY, -1, "no memory");
  } else if (ptx_has(i, PM_fence)) {
    x->fenced = true;
  } else if (ptx_has(i, PM_commit_group)) {
    x->open++;
  } else if (ptx_has(i, PM_mma_async)) {
    issue(w, i, x);
  } else {
    uint64_t keep = i->args[0].value, end = x->open > keep ? x->open - keep : 0;
    uint32_t n = 0;
    while (n < x->list.count && x->list.items[n].group < end) perform(w, &x->list.items[n++]);
    memmove(x->list.items, x->list.items + n, (x->list.count - n) * sizeof *x->list.items);
    x->list.count -= n;
  }
}

void ptx_wgmma_end(ptx_warp *w) {
  if (!w->products) return;
  tn_vec_fini(&w->products->list);
  tn_mem_free(w->products);
}
