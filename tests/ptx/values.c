/* values.c - conversions between the bits of registers and numbers, and what instructions do with packed
 * types. */
#include "tests/ptx/values.h"
#include <fenv.h>
#include <math.h>

ptx_type ptx_half_of(ptx_type t) {
  switch (t) {
  case PT_f16x2: return PT_f16;
  case PT_bf16x2: return PT_bf16;
  case PT_f32x2: return PT_f32;
  case PT_u16x2: return PT_u16;
  case PT_s16x2: return PT_s16;
  case PT_e4m3x2: return PT_e4m3;
  case PT_e5m2x2: return PT_e5m2;
  default: return PT_none;
  }
}

ptx_mod ptx_rounding(const ptx_ins *i) {
  static const uint8_t all[] = {PM_rz, PM_rm, PM_rp, PM_rna, PM_rni, PM_rzi, PM_rmi, PM_rpi};
  for (size_t k = 0; k < TN_COUNT(all); k++)
    if (ptx_has(i, all[k])) return all[k];
  return PM_rn;
}

double ptx_round(double x, int digits, int least, ptx_mod how) {
  if (x == 0 || !isfinite(x)) return x;
  int e = ilogb(x);
  if (e < least) e = least;
  double q = ldexp(x, digits - 1 - e);
  switch (how) {
  case PM_rz:
  case PM_rzi: q = trunc(q); break;
  case PM_rm:
  case PM_rmi: q = floor(q); break;
  case PM_rp:
  case PM_rpi: q = ceil(q); break;
  case PM_rna: q = round(q); break;
  default: q = nearbyint(q);
  }
  return ldexp(q, e - digits + 1);
}

typedef struct format {
  int digits, least;
  double most;
} format;
static format format_of(ptx_type t) {
  switch (t) {
  case PT_f16: return (format){11, -14, 65504};
  case PT_bf16: return (format){8, -126, 0x1.fep127};
  case PT_tf32: return (format){11, -126, 0x1.ffcp127};
  case PT_f32: return (format){24, -126, 0x1.fffffep127};
  case PT_e4m3: return (format){4, -6, 448};
  case PT_e5m2: return (format){3, -14, 57344};
  default: return (format){53, -1022, 0x1.fffffffffffffp1023};
  }
}

double ptx_flush(ptx_type t, double x) {
  return x != 0 && fabs(x) < ldexp(1, format_of(t).least) ? copysign(0, x) : x;
}

double ptx_float_get(ptx_type t, uint64_t bits) {
  switch (t) {
  case PT_f16: return tn_f16_to_f32((uint16_t)bits);
  case PT_bf16: return tn_bf16_to_f32((uint16_t)bits);
  case PT_f64: return ptx_f64(bits);
  case PT_e4m3: return tn_f8e4m3_to_f32((uint8_t)bits);
  case PT_e5m2: return tn_f8e5m2_to_f32((uint8_t)bits);
  case PT_tf32: return ptx_f32(bits & 0xffffe000u);
  default: return ptx_f32(bits);
  }
}

uint64_t ptx_float_put(ptx_type t, double x, ptx_mod how, bool saturate_finite) {
  format f = format_of(t);
  if (t != PT_f64) x = ptx_round(x, f.digits, f.least, how);
  if (fabs(x) > f.most && !isnan(x)) {
    bool stays = saturate_finite ||
                 (isfinite(x) && (how == PM_rz || (how == PM_rm && x > 0) || (how == PM_rp && x < 0)));
    x = copysign(stays ? f.most : INFINITY, x);
  }
  switch (t) {
  case PT_f16: return isnan(x) ? 0x7fff : tn_f32_to_f16((float)x);
  case PT_bf16: return isnan(x) ? 0x7fff : tn_f32_to_bf16((float)x);
  case PT_f64: return ptx_bits64(x);
  case PT_e4m3: return tn_f32_to_f8(TN_F8E4M3, (float)x, saturate_finite);
  case PT_e5m2: return tn_f32_to_f8(TN_F8E5M2, (float)x, saturate_finite);
  default: return isnan(x) ? 0x7fffffff : ptx_bits32((float)x);
  }
}

void ptx_apply(ptx_warp *w, const ptx_ins *i, uint32_t mask, uint32_t nin, ptx_scalar fn) {
  ptx_type t = (ptx_type)i->type[0], half = ptx_half_of(t);
  PTX_EACH(l, mask) {
    uint64_t in[4], lo[4], hi[4];
    for (uint32_t k = 0; k < nin; k++) in[k] = ptx_get(w, &i->args[k + 1], l);
    if (!half) {
      ptx_put(w, &i->args[0], l, fn(i, t, in));
      continue;
    }
    uint32_t n = ptx_type_bytes[half] * 8;
    for (uint32_t k = 0; k < nin; k++)
      lo[k] = ptx_unsigned(half, in[k]), hi[k] = ptx_unsigned(half, in[k] >> n);
    uint64_t a = ptx_unsigned(half, fn(i, half, lo)), b = ptx_unsigned(half, fn(i, half, hi));
    ptx_put(w, &i->args[0], l, a | b << n);
  }
}
