/* text.c - the ops on text are those of backends/lib, which their tests hold against Python. */
#include "backends/lib/lib.h"
#include "kernels.h"

tn_status tn_ref_op_copy_ranges(tn_ref_call *c) { return tn_ref_library(c, "copy_ranges", NULL, 0); }

tn_status tn_ref_op_equal_ranges(tn_ref_call *c) { return tn_ref_library(c, "equal_ranges", NULL, 0); }

tn_status tn_ref_op_split_ranges(tn_ref_call *c) {
  tn_lib_attr attrs[TN_LIB_A_split_ranges_COUNT] = {0};
  attrs[TN_LIB_A_split_ranges_delimiter].u.s = tn_ref_attr(c, "delimiter").u.s;
  attrs[TN_LIB_A_split_ranges_most].u.i = tn_ref_attr_int(c, "most");
  return tn_ref_library(c, "split_ranges", attrs, 0);
}

tn_status tn_ref_op_change_case(tn_ref_call *c) {
  tn_lib_attr attrs[TN_LIB_A_change_case_COUNT] = {0};
  attrs[TN_LIB_A_change_case_upper].u.i = tn_ref_attr_int(c, "upper");
  return tn_ref_library(c, "change_case", attrs, 0);
}
