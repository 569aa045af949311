/* check.c - which combinations of types, modifiers and operands an instruction allows, beyond the lists of
 * ops.def, and which lanes have to meet at it. What is refused here is either not PTX or not done by the
 * interpreter. */
#include "tests/ptx/values.h"

/* add, sub and fma whose operands, but for the last, are of another type. */
static const char *check_mixed(const ptx_ins *i, uint32_t sm) {
  ptx_type to = (ptx_type)i->type[0], from = (ptx_type)i->type[1];
  if (to != PT_f32 || (from != PT_f16 && from != PT_bf16))
    return "operands of another type are f16 or bf16, the result is f32";
  if (sm < 100) return "operands of another type need sm_100";
  if (ptx_has(i, PM_ftz)) return ".ftz is not for operands of another type";
  return NULL;
}

static const char *check_float(const ptx_ins *i, uint32_t sm) {
  ptx_type t = (ptx_type)i->type[0];
  const char *mixed = i->ntypes > 1 ? check_mixed(i, sm) : NULL;
  if (mixed) return mixed;
  bool whole = !ptx_is_float(t), part = ptx_has(i, PM_lo) || ptx_has(i, PM_hi) || ptx_has(i, PM_wide);
  bool rounds = ptx_has(i, PM_rn) || ptx_has(i, PM_rz) || ptx_has(i, PM_rm) || ptx_has(i, PM_rp);
  if (whole && rounds) return "integers are not rounded";
  if (whole && ptx_has(i, PM_ftz)) return ".ftz is for floats";
  if (!whole && part) return ".lo, .hi and .wide are for integers";
  if (whole && !part && (i->op == PO_mul || i->op == PO_mad || i->op == PO_madc))
    return "integers need .lo, .hi or .wide";
  if (!whole && !rounds && (i->op == PO_fma || (i->op == PO_mad && t == PT_f64)))
    return "a rounding is needed";
  if (!whole && i->op == PO_div && !rounds && !ptx_has(i, PM_approx) && !ptx_has(i, PM_full))
    return "a rounding, .approx or .full is needed";
  if ((t == PT_f16 || t == PT_bf16 || t == PT_f16x2 || t == PT_bf16x2) &&
      (ptx_has(i, PM_rz) || ptx_has(i, PM_rm) || ptx_has(i, PM_rp)))
    return "16-bit floats round to nearest only";
  return NULL;
}

static const char *check_math(const ptx_ins *i) {
  bool approx = ptx_has(i, PM_approx) || i->op == PO_ex2 || i->op == PO_tanh;
  bool rounds = ptx_has(i, PM_rn) || ptx_has(i, PM_rz) || ptx_has(i, PM_rm) || ptx_has(i, PM_rp);
  if (!approx && !rounds) return "a rounding or .approx is needed";
  if ((i->op == PO_sin || i->op == PO_cos || i->op == PO_lg2 || i->op == PO_rsqrt) && !ptx_has(i, PM_approx))
    return ".approx is needed";
  return NULL;
}

static const char *check_cvt(const ptx_ins *i) {
  if (i->ntypes != 2) return "two types are needed";
  ptx_type d = (ptx_type)i->type[0], s = (ptx_type)i->type[1];
  bool to = ptx_is_float(d), from = ptx_is_float(s), half = ptx_half_of(d) && !ptx_half_of(s);
  uint32_t roundings = 0;
  static const uint8_t all[] = {PM_rn, PM_rz, PM_rm, PM_rp, PM_rna, PM_rni, PM_rzi, PM_rmi, PM_rpi};
  for (size_t k = 0; k < TN_COUNT(all); k++) roundings += ptx_has(i, all[k]);
  if (roundings > 1) return "one rounding is enough";
  if (i->nargs != (half ? 3u : 2u)) return half ? "two numbers make a packed one" : "one operand is needed";
  if (!to && from && roundings == 0) return "a float becomes an integer by .rni, .rzi, .rmi or .rpi";
  if (to && !from && roundings == 0) return "an integer becomes a float by .rn, .rz, .rm or .rp";
  if (to && from && roundings == 0 && ptx_type_bytes[d] < ptx_type_bytes[s] && !ptx_half_of(s))
    return "a rounding is needed";
  if (!to && !from && roundings) return "integers are not rounded";
  return NULL;
}

static const char *check_memory(const ptx_ins *i) {
  if (i->ntypes != 1) return "one type is needed";
  const ptx_arg *data = &i->args[i->op == PO_st ? 1 : 0], *where = &i->args[i->op == PO_st ? 0 : 1];
  uint32_t bytes = ptx_type_bytes[i->type[0]] * i->vector;
  if (where->kind != PK_ADDRESS) return "an address in brackets is expected";
  if (i->vector > 1 && (data->kind != PK_LIST || data->count != i->vector))
    return "the list has another length than the vector";
  if (i->vector == 1 && data->kind == PK_LIST && data->count != 1) return "a list without a vector";
  if (bytes > 32 || (bytes > 16 && i->space != PS_global))
    return "more than 16 bytes at once (32 of global memory)";
  if (i->op == PO_st && i->space == PS_param) return "parameters are not written";
  return NULL;
}

static const char *check_atom(const ptx_ins *i) {
  static const uint8_t all[] = {PM_and, PM_or,  PM_xor, PM_cas, PM_exch,
                                PM_add, PM_inc, PM_dec, PM_min, PM_max};
  uint32_t ops = 0;
  for (size_t k = 0; k < TN_COUNT(all); k++) ops += ptx_has(i, all[k]);
  if (ops != 1 || i->ntypes != 1) return "one operation and one type are needed";
  if (ptx_has(i, PM_async)) return ".async is not supported";
  if (i->type[0] == PT_b128) return "128 bits are not supported";
  if (ptx_has(i, PM_cas) && i->nargs != 4) return ".cas has four operands";
  if (i->args[i->op == PO_atom ? 1 : 0].kind != PK_ADDRESS) return "an address in brackets is expected";
  return NULL;
}

static const char *check_mma(const ptx_ins *i) {
  if (i->ntypes != 4) return "four types are needed";
  ptx_type d = (ptx_type)i->type[0], a = (ptx_type)i->type[1], b = (ptx_type)i->type[2],
           c = (ptx_type)i->type[3];
  uint32_t bits = ptx_type_bytes[a] * 8u;
  if (!ptx_has(i, PM_sync) || !ptx_has(i, PM_aligned) || !ptx_has(i, PM_row) || !ptx_has(i, PM_col))
    return ".sync.aligned and .row.col are needed";
  if (d != c && !(d == PT_f32 && c == PT_f32)) return "the types of c and d differ";
  if (a == PT_s4 || a == PT_u4 || a == PT_f64) return "4-bit integers and f64 are not supported";
  bool whole = a == PT_s8 || a == PT_u8, bytes = whole || a == PT_e4m3 || a == PT_e5m2;
  bool mixes = whole ? b == PT_s8 || b == PT_u8 : bytes ? b == PT_e4m3 || b == PT_e5m2 : a == b;
  if (!mixes || (whole != (d == PT_s32))) return "these types do not go together";
  if (ptx_has(i, PM_satfinite) && !whole) return ".satfinite is for integers";
  bool shape = i->n == 8 && (i->m == 16 || (whole && i->m == 8 && i->k == 16));
  uint32_t most = 256 / bits;
  if (!shape || (i->k != most && i->k != most / 2) || (a != PT_tf32 && !bytes && i->k < 8) ||
      (bytes && !whole && i->k != 32))
    return "this shape is not known for the type";
  return NULL;
}

static const char *check_matrix(const ptx_ins *i) {
  if (i->type[0] != PT_b16 || i->m != 8 || i->n != 8) return "only .m8n8 of .b16 is supported";
  const ptx_arg *list = &i->args[i->op == PO_stmatrix ? 1 : 0];
  uint32_t n = ptx_has(i, PM_x4) ? 4 : ptx_has(i, PM_x2) ? 2 : 1;
  if (i->op != PO_movmatrix && (list->kind == PK_LIST ? list->count : 1) != n)
    return "the list has another length than .x1, .x2, .x4";
  return ptx_has(i, PM_sync) && ptx_has(i, PM_aligned) ? NULL : ".sync.aligned is needed";
}

static const char *check_wgmma(const ptx_ins *i, uint32_t sm) {
  if (sm != 90) return "wgmma is of sm_90a only";
  if (!ptx_has(i, PM_mma_async))
    return ptx_has(i, PM_wait_group) == (i->nargs == 1) ? NULL
                                                        : "wait_group has a number, the others have none";
  ptx_type a = (ptx_type)i->type[1], d = (ptx_type)i->type[0];
  uint32_t packed = ptx_type_bytes[d] == 2 ? 2 : 1;
  if (i->ntypes != 3 || i->m != 64 || !i->n || i->n % 8 || i->n > 256 || i->k != 32u / ptx_type_bytes[a])
    return "this shape is not known for the types";
  if (i->args[0].kind != PK_LIST || i->args[0].count != i->n / 2 / packed)
    return "d has another number of registers";
  if (i->args[1].kind == PK_LIST && i->args[1].count != 4) return "a has four registers";
  return NULL;
}

static const char *check_cp(const ptx_ins *i, uint32_t sm) {
  if (ptx_has(i, PM_reduce) || ptx_has(i, PM_im2col) || ptx_has(i, PM_cta_group_1) ||
      ptx_has(i, PM_cta_group_2))
    return "this kind of copy is not supported";
  if (!ptx_has(i, PM_async)) return ".async is needed";
  if (ptx_has(i, PM_bulk)) return sm < 90 ? "bulk copies begin with sm_90" : NULL;
  if (sm < 80) return "cp.async begins with sm_80";
  if (ptx_has(i, PM_commit_group) || ptx_has(i, PM_wait_group) || ptx_has(i, PM_wait_all) ||
      ptx_has(i, PM_mbarrier))
    return NULL;
  if (i->nargs < 3 || i->args[2].kind != PK_IMM) return "two addresses and a number of bytes are needed";
  uint64_t n = i->args[2].value;
  if (n != 16 && (ptx_has(i, PM_cg) || (n != 4 && n != 8))) return "4, 8 or 16 bytes, .cg only 16";
  return NULL;
}

static const char *check_bar(const ptx_ins *i) {
  if (ptx_has(i, PM_warp)) return ptx_has(i, PM_sync) && i->nargs == 1 ? NULL : "bar.warp.sync has one mask";
  bool kind = ptx_has(i, PM_sync) || ptx_has(i, PM_arrive) || ptx_has(i, PM_red) || ptx_has(i, PM_wait);
  if (!kind) return ".sync, .arrive or .red is needed";
  if (ptx_has(i, PM_arrive) && !ptx_has(i, PM_cluster) && i->nargs != 2)
    return "an arrival says for how many threads";
  return NULL;
}

static uint8_t collective(const ptx_ins *i) {
  switch (i->op) {
  case PO_shfl:
  case PO_vote:
  case PO_match:
  case PO_redux:
  case PO_elect: return PC_MASK;
  case PO_bar:
  case PO_barrier: return ptx_has(i, PM_warp) ? PC_MASK : PC_WARP;
  case PO_ldmatrix:
  case PO_stmatrix:
  case PO_movmatrix:
  case PO_mma:
  case PO_wgmma:
  case PO_setmaxnreg: return PC_WARP;
  default: return PC_NONE;
  }
}

static uint32_t most_types(const ptx_ins *i) {
  switch (i->op) {
  case PO_mma:
  case PO_wgmma: return 4;
  case PO_add: /* see check_mixed */
  case PO_sub:
  case PO_fma:
  case PO_cvt:
  case PO_slct:
  case PO_set:
  case PO_dp2a:
  case PO_dp4a: return 2;
  default: return 1;
  }
}

const char *ptx_check(ptx_ins *i, uint32_t sm, uint32_t version) {
  i->collective = collective(i);
  if (i->ntypes > most_types(i)) return most_types(i) == 1 ? "one type is needed" : "too many types";
  switch (i->op) {
  case PO_add:
  case PO_sub:
  case PO_mul:
  case PO_mad:
  case PO_madc:
  case PO_fma:
  case PO_div: return check_float(i, sm);
  case PO_rcp:
  case PO_sqrt:
  case PO_rsqrt:
  case PO_sin:
  case PO_cos:
  case PO_lg2:
  case PO_ex2:
  case PO_tanh: return check_math(i);
  case PO_cvt: return check_cvt(i);
  case PO_ld:
  case PO_ldu:
  case PO_st: return check_memory(i);
  case PO_atom:
  case PO_red: return check_atom(i);
  case PO_setp:
  case PO_set: return i->compare ? NULL : "a comparison is needed";
  case PO_slct:
  case PO_dp4a:
  case PO_dp2a: return i->ntypes == 2 ? NULL : "two types are needed";
  case PO_shfl:
  case PO_vote:
  case PO_match:
  case PO_redux: return ptx_has(i, PM_sync) ? NULL : ".sync is needed";
  case PO_mma: return check_mma(i);
  case PO_ldmatrix:
  case PO_stmatrix:
  case PO_movmatrix: return check_matrix(i);
  case PO_wgmma: return check_wgmma(i, sm);
  case PO_cp: return check_cp(i, sm);
  case PO_bar:
  case PO_barrier: return check_bar(i);
  case PO_cvta: return i->space == PS_param && version < 77 ? "cvta.param is of PTX 7.7 and newer" : NULL;
  case PO_bra: return i->args[0].kind == PK_LABEL ? NULL : "a label is expected";
  case PO_brx: return i->args[1].kind == PK_LABEL ? NULL : "a list of targets is expected";
  default: return NULL;
  }
}
