/* fuzz_ir_text.c - any bytes as IR text: the parser must not crash; what it accepts must print, read back and
 * print as the same bytes; and a sound module's copy must print the same too. */
#include "ir/ir.h"
#include <stdio.h>
#include <stdlib.h>

static void require(bool holds, const char *what, const tn_diags *d) {
  if (holds) return;
  tn_buf text = {0};
  tn_diags_text(d, &text, false);
  fprintf(stderr, "%s\n%s", what, tn_buf_cstr(&text));
  abort();
}

static void check_copy(tn_module *m, const tn_buf *first, tn_diags *d) {
  tn_buf text = {0};
  tn_module *copy = tn_module_clone(m, d);
  require(copy && !tn_module_print(copy, &text), "the copy does not print", d);
  require(text.len == first->len && !memcmp(text.text, first->text, text.len),
          "the copy prints something else", d);
  for (tn_func f = 1; f <= tn_ir_func_count(copy); f++) tn_func_dce(copy, f);
  require(!tn_module_verify(copy), "removing dead ops makes the copy unsound", d);
  tn_buf_fini(&text);
  tn_module_free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  tn_diags d;
  tn_buf first = {0}, second = {0};
  tn_diags_init(&d);
  tn_module *m = tn_module_new(&d), *again = tn_module_new(&d);
  tn_status status = tn_module_parse(m, "fuzz", (tn_str){(const char *)data, size});
  require(status || !d.errors, "accepted in spite of an error", &d);
  require(!status || d.errors, "refused without a word", &d);
  if (!status) {
    require(!tn_module_print(m, &first), "does not print", &d);
    require(!tn_module_parse(again, "fuzz", (tn_str){first.text, first.len}), "its text is not accepted", &d);
    require(!tn_module_print(again, &second), "does not print again", &d);
    require(first.len == second.len && !memcmp(first.text, second.text, first.len),
            "prints differently the second time", &d);
    if (!tn_module_verify(m)) check_copy(m, &first, &d);
  }
  tn_buf_fini(&first);
  tn_buf_fini(&second);
  tn_module_free(m);
  tn_module_free(again);
  tn_diags_fini(&d);
  return 0;
}
