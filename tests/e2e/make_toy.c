/* make_toy.c - links the toy model (tests/unit/toy.h) into a library and writes its header, as the driver
 * does. make_toy LIBRARY embed|external|inplace|big PLAIN.o BETTER.o [LINKER] Three targets: "plain" for any
 * machine, "better" for any with SSE2, "future" for a feature that none has. */
#include "tests/unit/toy.h"
#include "tools/driver/header.h"
#include "tools/driver/link.h"
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>

/* "big" weights lie behind zeros, beyond 4 GiB: every offset needs all its bits. */
enum { BIG_PIECES = 4200, PIECE = 1 << 20 };
typedef struct weights {
  int big;
} weights;

static uint64_t weights_begin(const weights *w) { return w->big ? (uint64_t)BIG_PIECES * PIECE : 0; }

static tn_status write_weights(void *ctx, const tn_link_place *out, uint64_t *hash) {
  float packed[TOY_WEIGHT_BYTES / 4];
  uint64_t at = weights_begin(ctx);
  toy_weights(packed);
  *hash = tn_hash_bytes(packed, sizeof packed, 0);
  /* In two uneven pieces, the last one first: how the producer goes about it must not matter. */
  TN_TRY(out->write(out->ctx, at + 100, (char *)packed + 100, sizeof packed - 100));
  return out->write(out->ctx, at, packed, 100);
}

static int usage(void) {
  fputs("usage: make_toy LIBRARY embed|external|inplace|big PLAIN.o BETTER.o [LINKER]\n", stderr);
  return 2;
}

static int write_file(const char *path, const void *data, size_t bytes) {
  FILE *f = fopen(path, "wb");
  if (!f) return 1;
  int bad = fwrite(data, bytes, 1, f) != 1;
  return fclose(f) || bad;
}

/* inplace: the table in w.bin, behind eight other bytes. */
static int write_table(const char *library) {
  char folder[4096], path[4200], bytes[168] = "original";
  float packed[TOY_WEIGHT_BYTES / 4];
  snprintf(folder, sizeof folder, "%s", library);
  snprintf(path, sizeof path, "%s/w.bin", dirname(folder));
  toy_weights(packed);
  memcpy(bytes + 8, packed, 160);
  return write_file(path, bytes, sizeof bytes);
}

static int write_header(const char *library, tn_bytes program, const char *name, tn_diags *diags) {
  char folder[4096], path[4400];
  tn_buf text = {0};
  snprintf(folder, sizeof folder, "%s", library);
  snprintf(path, sizeof path, "%s/%s.h", dirname(folder), name);
  int bad = tn_header_write(program, name, &text, diags) != TN_OK || write_file(path, text.text, text.len);
  tn_buf_fini(&text);
  return bad;
}

int main(int argc, char **argv) {
  if (argc < 5) return usage();
  const char *const modes[] = {"embed", "external", "inplace", "big"};
  uint32_t mode = 0;
  while (mode < TN_COUNT(modes) && strcmp(argv[2], modes[mode])) mode++;
  tn_file plain, better;
  if (mode == TN_COUNT(modes) || tn_file_map(&plain, argv[3], NULL) || tn_file_map(&better, argv[4], NULL))
    return usage();
  tn_link_kernel kernels[TOY_KERNELS];
  for (int i = 0; i < TOY_KERNELS; i++) kernels[i] = (tn_link_kernel){toy_kernel_names[i], 0};
  tn_bytes a = {plain.data, plain.size}, b = {better.data, better.size};
  const tn_link_target targets[] = {{"plain", "", 1, 1, &a, kernels},
                                    {"better", "sse2", 5, 1, &b, kernels},
                                    {"future", "warp9", 9, 1, &a, kernels}};
  tn_diags diags;
  tn_diags_init(&diags);
  tn_buf name = {0}, words = {0};
  tn_link_identifier(argv[1], &name);
  tn_buf program = toy_program(tn_buf_cstr(&name), mode == TN_WEIGHTS_INPLACE ? "w.bin" : NULL,
                               mode == 3 ? (uint64_t)BIG_PIECES * PIECE : 0, (tn_bytes){0});
  weights w = {mode == 3};
  tn_link_job job = {.output = argv[1],
                     .name = name.text,
                     .targets = targets,
                     .ntargets = 3,
                     .weights = mode == 3 ? TN_WEIGHTS_EMBED : mode,
                     .program = {program.text, program.len},
                     .weights_bytes = weights_begin(&w) + TOY_WEIGHT_BYTES,
                     .weights_write = write_weights,
                     .ctx = &w,
                     .linker = argc > 5 ? argv[5] : NULL};
  int bad = (mode == TN_WEIGHTS_INPLACE && write_table(argv[1])) || tn_link_artefact(&job, &diags) ||
            write_header(argv[1], job.program, name.text, &diags);
  tn_diags_text(&diags, &words, false);
  fputs(tn_buf_cstr(&words), stderr);
  tn_buf_fini(&words);
  tn_buf_fini(&name);
  tn_buf_fini(&program);
  tn_file_unmap(&plain);
  tn_file_unmap(&better);
  tn_diags_fini(&diags);
  return bad;
}
