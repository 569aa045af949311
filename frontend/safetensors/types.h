/* types.h - element types by their names in safetensors headers. */
#ifndef TN_ST_TYPES_H
#define TN_ST_TYPES_H
#include "tenon/ir.h"

typedef struct tn_st_type {
  const char *name;
  uint32_t bits;
  tn_dtype dtype; /* TN_DT_NONE: legal in the format, without a counterpart here */
} tn_st_type;
static const tn_st_type tn_st_types[] = {
    {"BOOL", 8, TN_DT_bool},      {"U8", 8, TN_DT_u8},
    {"I8", 8, TN_DT_i8},          {"I16", 16, TN_DT_i16},
    {"U16", 16, TN_DT_u16},       {"I32", 32, TN_DT_i32},
    {"U32", 32, TN_DT_u32},       {"I64", 64, TN_DT_i64},
    {"U64", 64, TN_DT_u64},       {"F16", 16, TN_DT_f16},
    {"BF16", 16, TN_DT_bf16},     {"F32", 32, TN_DT_f32},
    {"F64", 64, TN_DT_f64},       {"F8_E4M3", 8, TN_DT_f8e4m3},
    {"F8_E5M2", 8, TN_DT_f8e5m2}, {"C64", 64, TN_DT_NONE},
    {"F8_E8M0", 8, TN_DT_f8e8m0}, {"F8_E4M3FNUZ", 8, TN_DT_f8e4m3fnuz},
    {"F4", 4, TN_DT_f4e2m1},      {"F6_E2M3", 6, TN_DT_NONE},
    {"F6_E3M2", 6, TN_DT_NONE},   {"F8_E5M2FNUZ", 8, TN_DT_f8e5m2fnuz},
};
#endif
