/* matrix.c - ldmatrix, stmatrix, movmatrix and mma: fragments of matrices that lie over the lanes of a warp.
 *
 * One rule places all fragments: with g = lane / 4, t = lane % 4 and p numbers to a register, register r of A
 * holds row g + 8 (r % 2), columns t p + 4 p (r / 2) and on; register r of B rows t p + 4 p r and on, column
 * g; number r of C row g + 8 (r / 2), column 2 t + r % 2 (PTX ISA, "Matrix Fragments for mma"). */
#include "tests/ptx/values.h"

static bool whole_warp(ptx_warp *w, uint32_t mask) {
  if (mask == UINT32_MAX) return true;
  ptx_stop(w, PTX_ILLEGAL, -1, "all 32 lanes are needed, here are 0x%08x", mask);
  return false;
}

/* ---- ldmatrix
 * ------------------------------------------------------------------------------------------------------ */
static uint32_t matrices_of(const ptx_ins *i) { return ptx_has(i, PM_x4) ? 4 : ptx_has(i, PM_x2) ? 2 : 1; }

/* The 8 rows of matrix x; lanes 8 x .. 8 x + 7 have their addresses. */
static bool rows_of(ptx_warp *w, const ptx_ins *i, const ptx_arg *where, uint32_t x, uint8_t *rows[8],
                    bool write) {
  uint32_t turns[8] = {0}, most = 0;
  for (uint32_t r = 0; r < 8; r++) {
    uint64_t a = ptx_address(w, where, 8 * x + r);
    ptx_place p =
        ptx_resolve(w, i->space ? (ptx_space)i->space : PS_generic, a, 16, 16, (int)(8 * x + r), write);
    if (!p.data) return false;
    if (p.space != PS_shared) {
      ptx_stop(w, PTX_BAD_ADDRESS, (int)(8 * x + r), "a row that is not in shared memory");
      return false;
    }
    rows[r] = p.data;
    uint32_t n = ++turns[a / 16 % 8]; /* rows in one group of four banks take turns */
    if (n > most) most = n;
  }
  w->machine->count.shared_wavefronts += most;
  return true;
}

void ptx_run_ldmatrix(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  if (!whole_warp(w, mask)) return;
  bool trans = ptx_has(i, PM_trans);
  w->machine->count.shared_requests++;
  uint64_t out[4][PTX_LANES];
  for (uint32_t x = 0; x < matrices_of(i); x++) {
    uint8_t *rows[8];
    if (!rows_of(w, i, &i->args[1], x, rows, false)) return;
    for (uint32_t l = 0; l < PTX_LANES; l++) {
      uint16_t v[2];
      for (uint32_t e = 0; e < 2; e++) {
        uint32_t row = trans ? 2 * (l % 4) + e : l / 4, column = trans ? l / 4 : 2 * (l % 4) + e;
        memcpy(&v[e], rows[row] + 2 * column, 2);
      }
      out[x][l] = v[0] | (uint64_t)v[1] << 16;
    }
  }
  for (uint32_t x = 0; x < matrices_of(i); x++)
    for (uint32_t l = 0; l < PTX_LANES; l++)
      ptx_put(w, i->args[0].kind == PK_LIST ? &i->args[0].items[x] : &i->args[0], l, out[x][l]);
}

void ptx_run_stmatrix(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  if (!whole_warp(w, mask)) return;
  bool trans = ptx_has(i, PM_trans);
  w->machine->count.shared_requests++;
  for (uint32_t x = 0; x < matrices_of(i); x++) {
    uint8_t *rows[8];
    if (!rows_of(w, i, &i->args[0], x, rows, true)) return;
    for (uint32_t l = 0; l < PTX_LANES; l++) {
      uint64_t v = ptx_get(w, i->args[1].kind == PK_LIST ? &i->args[1].items[x] : &i->args[1], l);
      for (uint32_t e = 0; e < 2; e++) {
        uint32_t row = trans ? 2 * (l % 4) + e : l / 4, column = trans ? l / 4 : 2 * (l % 4) + e;
        uint16_t part = (uint16_t)(v >> 16 * e);
        memcpy(rows[row] + 2 * column, &part, 2);
      }
    }
  }
}

void ptx_run_movmatrix(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  uint16_t m[8][8];
  if (!whole_warp(w, mask)) return;
  for (uint32_t l = 0; l < PTX_LANES; l++)
    for (uint32_t e = 0; e < 2; e++)
      m[l / 4][2 * (l % 4) + e] = (uint16_t)(ptx_get(w, &i->args[1], l) >> 16 * e);
  for (uint32_t l = 0; l < PTX_LANES; l++)
    ptx_put(w, &i->args[0], l, m[2 * (l % 4)][l / 4] | (uint64_t)m[2 * (l % 4) + 1][l / 4] << 16);
}

/* ---- mma
 * -----------------------------------------------------------------------------------------------------------
 */
enum { MOST_M = 16, MOST_N = 8, MOST_K = 64 };
typedef struct tile {
  double a[MOST_M][MOST_K], b[MOST_K][MOST_N], c[MOST_M][MOST_N];
} tile;

static const ptx_arg *item(const ptx_arg *list, uint32_t r) {
  return list->kind == PK_LIST ? &list->items[r] : list;
}

/* Number e of register r. */
static double fragment(ptx_warp *w, const ptx_arg *list, uint32_t r, uint32_t e, ptx_type t, uint32_t lane) {
  return ptx_number(t, ptx_get(w, item(list, r), lane) >> (e * ptx_type_bytes[t] * 8 % 64));
}

static uint32_t packed(ptx_type t) { return ptx_type_bytes[t] >= 4 ? 1 : 4u / ptx_type_bytes[t]; }

static void read_tile(ptx_warp *w, const ptx_ins *i, tile *x) {
  ptx_type ta = (ptx_type)i->type[1], tb = (ptx_type)i->type[2], tc = (ptx_type)i->type[3];
  uint32_t pa = packed(ta), pb = packed(tb), pc = ptx_type_bytes[tc] == 2 ? 2 : 1, rows = i->m / 8;
  for (uint32_t l = 0; l < PTX_LANES; l++) {
    uint32_t g = l / 4, t = l % 4;
    for (uint32_t r = 0; r < rows * (i->k / (4 * pa)); r++)
      for (uint32_t e = 0; e < pa; e++)
        x->a[g + 8 * (r % rows)][t * pa + e + r / rows * 4 * pa] = fragment(w, &i->args[1], r, e, ta, l);
    for (uint32_t r = 0; r < i->k / (4 * pb); r++)
      for (uint32_t e = 0; e < pb; e++)
        x->b[t * pb + e + r * 4 * pb][g] = fragment(w, &i->args[2], r, e, tb, l);
    for (uint32_t r = 0; r < 2 * rows; r++)
      x->c[g + 8 * (r / 2)][2 * t + r % 2] = fragment(w, &i->args[3], r / pc, r % pc, tc, l);
  }
}

static void write_tile(ptx_warp *w, const ptx_ins *i, const tile *x) {
  ptx_type td = (ptx_type)i->type[0];
  uint32_t rows = i->m / 8, pd = ptx_type_bytes[td] == 2 ? 2 : 1;
  for (uint32_t l = 0; l < PTX_LANES; l++)
    for (uint32_t r = 0; r < 2 * rows / pd; r++) {
      uint64_t bits = 0;
      for (uint32_t e = 0; e < pd; e++) {
        uint32_t n = r * pd + e;
        double v = x->c[l / 4 + 8 * (n / 2)][2 * (l % 4) + n % 2];
        uint64_t one =
            ptx_is_float(td) ? ptx_float_put(td, v, PM_rn, false) : (uint64_t)(int64_t)v & UINT32_MAX;
        bits |= one << (16 * e);
      }
      ptx_put(w, item(&i->args[0], r), l, bits);
    }
}

void ptx_run_mma(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  tile x;
  if (!whole_warp(w, mask)) return;
  read_tile(w, i, &x);
  for (uint32_t r = 0; r < i->m; r++)
    for (uint32_t c = 0; c < i->n; c++) {
      double sum = x.c[r][c];
      for (uint32_t k = 0; k < i->k; k++) sum += x.a[r][k] * x.b[k][c];
      if (ptx_has(i, PM_satfinite)) sum = sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : sum;
      x.c[r][c] = sum;
    }
  write_tile(w, i, &x);
  w->machine->count.mma++;
}
