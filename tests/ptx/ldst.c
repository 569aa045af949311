/* ldst.c - loads, stores, atomics, and what they cost: sectors of global memory, wavefronts of shared memory.
 */
#include "tests/ptx/values.h"
#include <math.h>

/* ---- counting
 * ------------------------------------------------------------------------------------------------------ */
/* Global: different sectors of 32 bytes. */
static void count_global(ptx_machine *m, const uint64_t *address, uint32_t mask, uint64_t bytes) {
  uint64_t seen[PTX_LANES * 2];
  uint32_t n = 0;
  PTX_EACH(l, mask)
  for (uint64_t s = address[l] / 32; s <= (address[l] + bytes - 1) / 32; s++) {
    uint32_t k = 0;
    while (k < n && seen[k] != s) k++;
    if (k == n && n < TN_COUNT(seen)) seen[n++] = s;
  }
  m->count.global_requests++;
  m->count.global_sectors += n;
}

/* Shared: 32 banks of 4 bytes; accesses of 8 and 16 bytes go by halves and quarters of the warp. Lanes that
 * want other words of one bank take turns. */
static void count_shared(ptx_machine *m, const uint64_t *address, uint32_t mask, uint64_t bytes) {
  uint32_t parts = bytes > 8 ? 4 : bytes > 4 ? 2 : 1, lanes = PTX_LANES / parts;
  m->count.shared_requests++;
  for (uint32_t p = 0; p < parts; p++) {
    uint64_t words[32][PTX_LANES];
    uint32_t used[32] = {0}, most = 0, on = mask & (uint32_t)(((1ull << lanes) - 1) << (p * lanes));
    PTX_EACH(l, on)
    for (uint64_t a = address[l] / 4; a <= (address[l] + bytes - 1) / 4; a++) {
      uint32_t bank = a % 32, k = 0;
      while (k < used[bank] && words[bank][k] != a) k++;
      if (k == used[bank] && k < PTX_LANES) words[bank][used[bank]++] = a;
      if (used[bank] > most) most = used[bank];
    }
    m->count.shared_wavefronts += most;
  }
}

static bool is_shared(const ptx_ins *i, uint64_t address) {
  return i->space == PS_shared || (i->space == PS_generic && address >> 56 == 1);
}

static void count(ptx_warp *w, const ptx_ins *i, const uint64_t *address, uint32_t mask, uint64_t bytes) {
  uint64_t first = address[__builtin_ctz(mask)];
  if (is_shared(i, first))
    count_shared(w->machine, address, mask, bytes);
  else if (i->space == PS_global || i->space == PS_const || (i->space == PS_generic && !(first >> 56)))
    count_global(w->machine, address, mask, bytes);
}

/* ---- ld, st
 * -------------------------------------------------------------------------------------------------------- */
static void load_lane(ptx_warp *w, const ptx_ins *i, uint32_t lane, const uint8_t *from) {
  ptx_type t = (ptx_type)i->type[0];
  uint32_t size = ptx_type_bytes[t];
  for (uint32_t k = 0; k < i->vector; k++) {
    const ptx_arg *d = i->args[0].kind == PK_LIST ? &i->args[0].items[k] : &i->args[0];
    uint64_t v[2] = {0, 0};
    memcpy(v, from + k * size, size);
    if (ptx_is_signed(t) && size < 8) v[0] = (uint64_t)ptx_signed(t, v[0]); /* a register may be wider */
    ptx_put(w, d, lane, v[0]);
    if (size == 16 && d->kind == PK_REG) w->regs[(uint32_t)(d->reg + 1) * PTX_LANES + lane] = v[1];
  }
}

static void store_lane(ptx_warp *w, const ptx_ins *i, uint32_t lane, uint8_t *to) {
  uint32_t size = ptx_type_bytes[i->type[0]];
  for (uint32_t k = 0; k < i->vector; k++) {
    const ptx_arg *s = i->args[1].kind == PK_LIST ? &i->args[1].items[k] : &i->args[1];
    uint64_t v[2] = {ptx_get(w, s, lane), 0};
    if (size == 16 && s->kind == PK_REG) v[1] = w->regs[(uint32_t)(s->reg + 1) * PTX_LANES + lane];
    memcpy(to + k * size, v, size);
  }
}

static void access(ptx_warp *w, const ptx_ins *i, uint32_t mask, const ptx_arg *where, bool write) {
  uint64_t address[PTX_LANES] = {0}, bytes = (uint64_t)ptx_type_bytes[i->type[0]] * i->vector;
  ptx_space space = i->space ? (ptx_space)i->space : (ptx_space)(where->reg < 0 ? where->space : PS_generic);
  PTX_EACH(l, mask) address[l] = ptx_address(w, where, l);
  count(w, i, address, mask, bytes);
  PTX_EACH(k, mask) {
    ptx_place p = ptx_resolve(w, space, address[k], bytes, bytes, (int)k, write);
    if (!p.data) return;
    if (write)
      store_lane(w, i, k, p.data);
    else
      load_lane(w, i, k, p.data);
  }
}
void ptx_run_ld(ptx_warp *w, const ptx_ins *i, uint32_t mask) { access(w, i, mask, &i->args[1], false); }
void ptx_run_st(ptx_warp *w, const ptx_ins *i, uint32_t mask) { access(w, i, mask, &i->args[0], true); }

/* Nothing is fetched, but the address has to be one. */
void ptx_run_prefetch(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  if (ptx_has(i, PM_tensormap)) return;
  PTX_EACH(l, mask)
  ptx_resolve(w, i->space ? (ptx_space)i->space : PS_generic, ptx_address(w, &i->args[0], l), 1, 1, -1, 0);
}
void ptx_run_createpolicy(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  PTX_EACH(l, mask) ptx_put(w, &i->args[0], l, 0x14f0000000000000ull);
}

/* ---- atomics
 * ------------------------------------------------------------------------------------------------------- */
static uint64_t combine_floats(const ptx_ins *i, ptx_type t, uint64_t old, uint64_t x) {
  double a = ptx_float_get(t, old), b = ptx_float_get(t, x);
  if (ptx_has(i, PM_min)) return a < b || isnan(b) ? old : x;
  if (ptx_has(i, PM_max)) return a > b || isnan(b) ? old : x;
  if (t == PT_f32) return ptx_bits32((float)a + (float)b);
  return ptx_float_put(t, a + b, PM_rn, false);
}

static uint64_t combine(const ptx_ins *i, ptx_type t, uint64_t old, uint64_t x, uint64_t swap) {
  ptx_type half = ptx_half_of(t);
  if (ptx_has(i, PM_exch)) return x;
  if (ptx_has(i, PM_cas)) return old == ptx_unsigned(t, x) ? swap : old;
  if (half)
    return combine(i, half, old & 0xffff, x & 0xffff, 0) | combine(i, half, old >> 16, x >> 16, 0) << 16;
  if (ptx_is_float(t)) return combine_floats(i, t, old, x);
  bool less = ptx_is_signed(t) ? ptx_signed(t, old) < ptx_signed(t, x) : old < x;
  if (ptx_has(i, PM_and)) return old & x;
  if (ptx_has(i, PM_or)) return old | x;
  if (ptx_has(i, PM_xor)) return old ^ x;
  if (ptx_has(i, PM_min)) return less ? old : x;
  if (ptx_has(i, PM_max)) return less ? x : old;
  if (ptx_has(i, PM_inc)) return old >= x ? 0 : old + 1;
  if (ptx_has(i, PM_dec)) return !old || old > x ? x : old - 1;
  return old + x;
}

static void atomic(ptx_warp *w, const ptx_ins *i, uint32_t mask, const ptx_arg *out, const ptx_arg *where,
                   const ptx_arg *in) {
  ptx_type t = (ptx_type)i->type[0];
  uint32_t size = ptx_type_bytes[t], bytes = size * i->vector;
  uint64_t address[PTX_LANES] = {0};
  PTX_EACH(l, mask) address[l] = ptx_address(w, where, l);
  count(w, i, address, mask, bytes);
  PTX_EACH(k, mask) {
    ptx_place p = ptx_resolve(w, (ptx_space)i->space, address[k], bytes, bytes,
                              is_shared(i, address[k]) ? -1 : (int)k, 2);
    if (!p.data) return;
    for (uint32_t v = 0; v < i->vector; v++) {
      const ptx_arg *x = in->kind == PK_LIST ? &in->items[v] : in;
      uint64_t old = 0, made;
      memcpy(&old, p.data + v * size, size);
      made = combine(i, t, old, ptx_unsigned(t, ptx_get(w, x, k)),
                     ptx_has(i, PM_cas) ? ptx_get(w, in + 1, k) : 0);
      memcpy(p.data + v * size, &made, size);
      if (out) ptx_put(w, out->kind == PK_LIST ? &out->items[v] : out, k, old);
    }
  }
}
void ptx_run_atom(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  atomic(w, i, mask, &i->args[0], &i->args[1], &i->args[2]);
}
void ptx_run_red(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  atomic(w, i, mask, NULL, &i->args[0], &i->args[1]);
}
