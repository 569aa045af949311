/* bits.c - logic, shifts, bit fields, moves and selections. */
#include "tests/ptx/values.h"

static uint64_t logic(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  uint64_t r;
  switch (i->op) {
  case PO_and: r = in[0] & in[1]; break;
  case PO_or: r = in[0] | in[1]; break;
  case PO_xor: r = in[0] ^ in[1]; break;
  case PO_not: r = ~in[0]; break;
  case PO_cnot: r = !ptx_unsigned(t, in[0]); break;
  default: { /* lop3: bit k of the table is the result where a, b, c are the bits of k */
    r = 0;
    for (uint32_t k = 0; k < 8; k++)
      if (in[3] >> k & 1) r |= (k & 4 ? in[0] : ~in[0]) & (k & 2 ? in[1] : ~in[1]) & (k & 1 ? in[2] : ~in[2]);
  }
  }
  return t == PT_pred ? r & 1 : ptx_unsigned(t, r);
}
void ptx_run_and(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 2, logic); }
void ptx_run_or(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 2, logic); }
void ptx_run_xor(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 2, logic); }
void ptx_run_not(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 1, logic); }
void ptx_run_cnot(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 1, logic); }
void ptx_run_lop3(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 4, logic); }

/* Shifts by the width or more give 0, or copies of the sign. */
static uint64_t shift(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  uint32_t n = ptx_type_bytes[t] * 8;
  uint64_t by = in[1] & UINT32_MAX;
  if (i->op == PO_shl) return by >= n ? 0 : ptx_unsigned(t, in[0] << by);
  if (ptx_is_signed(t)) return ptx_unsigned(t, (uint64_t)(ptx_signed(t, in[0]) >> (by >= n ? n - 1 : by)));
  return by >= n ? 0 : ptx_unsigned(t, in[0]) >> by;
}
void ptx_run_shl(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 2, shift); }
void ptx_run_shr(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 2, shift); }

static uint64_t funnel(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  (void)t;
  uint64_t both = (in[1] & UINT32_MAX) << 32 | (in[0] & UINT32_MAX), by = in[2] & UINT32_MAX;
  by = ptx_has(i, PM_wrap) ? by & 31 : by > 32 ? 32 : by;
  return (ptx_has(i, PM_l) ? (by == 32 ? both : both >> (32 - by)) : both >> by) & UINT32_MAX;
}
void ptx_run_shf(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 3, funnel); }

static uint64_t permute(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  (void)t;
  uint64_t both = (in[1] & UINT32_MAX) << 32 | (in[0] & UINT32_MAX), out = 0;
  uint32_t s = (uint32_t)in[2] & 3;
  for (uint32_t k = 0; k < 4; k++) {
    uint32_t pick = (uint32_t)(in[2] >> (4 * k)) & 15;
    if (ptx_has(i, PM_f4e)) pick = (s + k) & 7;
    if (ptx_has(i, PM_b4e)) pick = (s - k) & 7;
    if (ptx_has(i, PM_rc8)) pick = s;
    if (ptx_has(i, PM_ecl)) pick = k > s ? k : s;
    if (ptx_has(i, PM_ecr)) pick = k < s ? k : s;
    if (ptx_has(i, PM_rc16)) pick = (s & 1) * 2 + (k & 1);
    uint8_t b = (uint8_t)(both >> 8 * (pick & 7));
    if (pick & 8) b = b & 0x80 ? 0xff : 0; /* only the sign */
    out |= (uint64_t)b << 8 * k;
  }
  return out;
}
void ptx_run_prmt(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 3, permute); }

static uint64_t extract(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  (void)i;
  uint32_t n = ptx_type_bytes[t] * 8, at = in[1] & 0xff, len = in[2] & 0xff;
  uint64_t v = ptx_unsigned(t, in[0]), r = at >= n ? 0 : v >> at;
  if (!len) return 0;
  if (len < 64) r &= (1ull << len) - 1;
  if (!ptx_is_signed(t)) return r;
  uint32_t top = at + len - 1 < n ? at + len - 1 : n - 1;
  if (!(v >> top & 1)) return r;
  uint32_t have = top >= at ? top - at + 1 : 0;
  return ptx_unsigned(t, have >= 64 ? r : r | ~0ull << have);
}
void ptx_run_bfe(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 3, extract); }

static uint64_t insert(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  (void)i;
  uint32_t n = ptx_type_bytes[t] * 8, at = in[2] & 0xff, len = in[3] & 0xff;
  if (at >= n || !len) return ptx_unsigned(t, in[1]);
  if (len > n - at) len = n - at;
  uint64_t field = (len >= 64 ? ~0ull : (1ull << len) - 1) << at;
  return ptx_unsigned(t, (in[1] & ~field) | (in[0] << at & field));
}
void ptx_run_bfi(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 4, insert); }

static uint64_t find_bit(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  uint32_t n = ptx_type_bytes[t] * 8;
  uint64_t v = ptx_unsigned(t, in[0]);
  if (ptx_is_signed(t) && v >> (n - 1)) v = ptx_unsigned(t, ~v);
  if (!v) return UINT32_MAX;
  uint32_t at = 63u - (uint32_t)__builtin_clzll(v);
  return ptx_has(i, PM_shiftamt) ? n - 1 - at : at;
}
void ptx_run_bfind(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 1, find_bit); }

static uint64_t bit_mask(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  (void)t;
  uint64_t at = in[0] & UINT32_MAX, len = in[1] & UINT32_MAX;
  if (ptx_has(i, PM_wrap)) at &= 31, len &= 31;
  if (at > 31 || !len) return 0;
  return ((len > 31 ? UINT32_MAX : (1ull << len) - 1) << at) & UINT32_MAX;
}
void ptx_run_bmsk(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 2, bit_mask); }

static uint64_t extend(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  uint64_t n = in[1] & UINT32_MAX;
  if (ptx_has(i, PM_wrap)) n &= 31;
  if (n >= 32) return in[0] & UINT32_MAX;
  if (!n) return 0;
  uint64_t v = in[0] & ((1ull << n) - 1);
  return ptx_is_signed(t) && v >> (n - 1) ? (v | ~0ull << n) & UINT32_MAX : v;
}
void ptx_run_szext(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 2, extend); }

static uint64_t count(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  uint64_t v = ptx_unsigned(t, in[0]), r = 0;
  uint32_t n = ptx_type_bytes[t] * 8;
  if (i->op == PO_popc) return (uint64_t)__builtin_popcountll(v);
  if (i->op == PO_clz) return v ? (uint64_t)__builtin_clzll(v) - (64 - n) : n;
  for (uint32_t k = 0; k < n; k++) r |= (v >> k & 1) << (n - 1 - k);
  return r;
}
void ptx_run_brev(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 1, count); }
void ptx_run_popc(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 1, count); }
void ptx_run_clz(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 1, count); }

/* The n-th bit that is set, from `base` up (n > 0) or down. */
static uint64_t nth_set(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  (void)i, (void)t;
  int32_t at = (int32_t)in[1], n = (int32_t)in[2], step = n < 0 ? -1 : 1;
  if (!n) return in[0] >> (at & 31) & 1 ? (uint64_t)(at & 31) : UINT32_MAX;
  for (n = n < 0 ? -n : n; at >= 0 && at < 32; at += step)
    if (in[0] >> at & 1 && !--n) return (uint64_t)at;
  return UINT32_MAX;
}
void ptx_run_fns(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 3, nth_set); }

/* ---- moves
 * ---------------------------------------------------------------------------------------------------------
 */
/* mov {%a, %b}, %c takes apart, mov %c, {%a, %b} puts together. */
void ptx_run_mov(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  const ptx_arg *d = &i->args[0], *s = &i->args[1];
  ptx_type t = (ptx_type)i->type[0];
  uint32_t parts = d->kind == PK_LIST   ? d->count
                   : s->kind == PK_LIST ? s->count
                                        : 0,
           bits = parts ? ptx_type_bytes[t] * 8u / parts : 0;
  uint64_t part = bits >= 64 ? ~0ull : (1ull << bits) - 1;
  PTX_EACH(l, mask) {
    if (t == PT_b128 && !parts) { /* two registers each */
      for (int h = 0; h < 2; h++)
        w->regs[(uint32_t)(d->reg + h) * PTX_LANES + l] =
            s->kind == PK_REG ? w->regs[(uint32_t)(s->reg + h) * PTX_LANES + l]
            : h               ? 0
                              : s->value;
    } else if (t == PT_b128) {
      for (uint32_t k = 0; k < 2; k++)
        if (d->kind == PK_LIST)
          ptx_put(w, &d->items[k], l, w->regs[((uint32_t)s->reg + k) * PTX_LANES + l]);
        else
          w->regs[((uint32_t)d->reg + k) * PTX_LANES + l] = ptx_get(w, &s->items[k], l);
    } else if (d->kind == PK_LIST) {
      uint64_t v = ptx_get(w, s, l);
      for (uint32_t k = 0; k < parts; k++) ptx_put(w, &d->items[k], l, v >> (k * bits) & part);
    } else if (s->kind == PK_LIST) {
      uint64_t v = 0;
      for (uint32_t k = 0; k < parts; k++) v |= (ptx_get(w, &s->items[k], l) & part) << (k * bits);
      ptx_put(w, d, l, v);
    } else {
      ptx_put(w, d, l, t == PT_pred ? ptx_get(w, s, l) & 1 : ptx_unsigned(t, ptx_get(w, s, l)));
    }
  }
}

void ptx_run_selp(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  PTX_EACH(l, mask)
  ptx_put(
      w, &i->args[0], l,
      ptx_unsigned((ptx_type)i->type[0], ptx_get(w, &i->args[ptx_get(w, &i->args[3], l) & 1 ? 1 : 2], l)));
}

void ptx_run_slct(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  PTX_EACH(l, mask) {
    uint64_t c = ptx_get(w, &i->args[3], l);
    bool first = i->type[1] == PT_f32 ? ptx_f32(c) >= 0 : (int32_t)c >= 0;
    ptx_put(w, &i->args[0], l, ptx_unsigned((ptx_type)i->type[0], ptx_get(w, &i->args[first ? 1 : 2], l)));
  }
}
