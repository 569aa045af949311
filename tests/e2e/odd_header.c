/* odd_header.c - prints the header of a program whose names are as awkward as a model's may be: keywords,
 * digits, comment ends, the names of the library's own functions; and shapes that are expressions. odd_header
 * NAME */
#include "tests/unit/toy.h"
#include "tools/driver/header.h"
#include <stdio.h>

static void entry(toy_blob *t, const char *name, uint32_t input, uint32_t ninputs, uint32_t output,
                  uint32_t variant) {
  uint32_t at = toy_str(t, name);
  TOY_ROW(t, variants, tn_prog_variant, {.dim = TN_PROG_NONE});
  TOY_ROW(t, entries, tn_prog_entry, {at, input, ninputs, output, 1, variant, 1});
}

int main(int argc, char **argv) {
  static const char *const dims[] = {"B", "new", "P", "C"}, *const entries[] = {"open",  "int",    "8 ball",
                                                                                "model", "invoke", "open_"};
  static const uint32_t sources[] = {TN_PROG_DIM_INPUT, TN_PROG_DIM_INPUT, TN_PROG_DIM_POSITION,
                                     TN_PROG_DIM_CAPACITY};
  toy_blob t = {0};
  t.name = toy_str(&t, "a*/b \n /* c");
  uint32_t d[4];
  for (uint32_t i = 0; i < 4; i++) {
    uint32_t name = toy_str(&t, dims[i]);
    TOY_ROW(&t, dims, tn_prog_dim, {name, sources[i], i == 1 ? 77 : INT64_MAX});
    d[i] = toy_sym(&t, i);
  }
  uint32_t total = toy_op(&t, TN_DIM_ADD, d[2], d[1]),
           half = toy_op(&t, TN_DIM_FLOORDIV, total, toy_const(&t, 2));
  uint32_t least = toy_op(&t, TN_DIM_MIN, half, d[3]),
           most = toy_op(&t, TN_DIM_MAX, least, toy_op(&t, TN_DIM_MOD, d[0], toy_const(&t, 3)));
  toy_arg(&t, "new", TN_DT_i32, 2, TOY_SCALARS(&t, d[0], d[1]));
  toy_arg(&t, "s", TN_DT_bf16, 3, TOY_SCALARS(&t, d[0], total, most));
  toy_arg(&t, "class", TN_DT_bool, 1, TOY_SCALARS(&t, least));
  toy_arg(&t, "*/ out", TN_DT_f32, 2, TOY_SCALARS(&t, d[0], toy_const(&t, 7)));
  uint32_t state = toy_str(&t, "state");
  TOY_ROW(&t, states, tn_prog_state, {{state, TN_DT_f32, 2, TOY_SCALARS(&t, d[0], d[3])}});
  TOY_ROW(&t, constraints, tn_prog_constraint, {total, d[3]});
  for (uint32_t i = 0; i < TN_COUNT(entries); i++) entry(&t, entries[i], 0, i % 4, 3, i);
  toy_meta(&t, "architecture", "*/ int x; /*");
  toy_meta(&t, "max_seq_length", "12; evil");
  tn_buf program = toy_finish(&t), text = {0};
  tn_diags diags;
  tn_diags_init(&diags);
  int bad =
      argc != 2 || tn_header_write((tn_bytes){program.text, program.len}, argv[1], &text, &diags) != TN_OK;
  fputs(tn_buf_cstr(&text), stdout);
  tn_buf_fini(&text);
  tn_buf_fini(&program);
  tn_diags_fini(&diags);
  return bad;
}
