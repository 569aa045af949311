/* observe_main.c - prints what tn_observe shows, as JSON: for each call, weight and expert the number of rows
 * and their sums of squares by column.
 *
 *   observe_main MODEL TEXT|INPUTS.safetensors CHUNK CHUNKS [values] */
#include "tools/quantize/observe/observe.h"
#include <stdio.h>
#include <stdlib.h>

static bool first = true;

static tn_status show(void *ctx, const tn_observed *o) {
  (void)ctx;
  tn_buf name = {0};
  tn_buf_json(&name, tn_str_of(o->weight ? o->weight : o->value));
  printf("%s{\"name\": %s, \"weight\": %s, \"run\": %llu, \"expert\": %u, \"experts\": %u, \"rows\": %llu, "
         "\"squares\": [",
         first ? "" : ",\n", tn_buf_cstr(&name), o->weight ? "true" : "false", (unsigned long long)o->run,
         o->expert, o->experts, (unsigned long long)o->nrows);
  first = false;
  for (uint32_t k = 0; k < o->columns; k++) {
    double sum = 0;
    for (uint64_t r = 0; r < o->nrows; r++)
      sum += (double)o->rows[r * o->columns + k] * (double)o->rows[r * o->columns + k];
    printf("%s%.9g", k ? ", " : "", sum);
  }
  printf("]}");
  tn_buf_fini(&name);
  return TN_OK;
}

int main(int argc, char **argv) {
  if (argc < 5) return 2;
  tn_diags d;
  tn_diags_init(&d);
  tn_driver_options driver = {0};
  bool stored = tn_str_ends(tn_str_of(argv[2]), ".safetensors");
  const char *const inputs[] = {argv[2]};
  tn_observe_options o = {.text = stored ? NULL : argv[2],
                          .inputs = inputs,
                          .ninputs = stored,
                          .chunk_tokens = (uint32_t)atoi(argv[3]),
                          .chunks = (uint32_t)atoi(argv[4]),
                          .values = argc > 5,
                          .threads = 2};
  tn_observe_result r;
  printf("[");
  tn_status s = tn_observe(&driver, argv[1], &o, show, NULL, &d, &r);
  printf("]\n");
  tn_buf text = {0};
  tn_diags_text(&d, &text, false);
  fputs(tn_buf_cstr(&text), stderr);
  tn_buf_fini(&text);
  tn_diags_fini(&d);
  return s != TN_OK;
}
