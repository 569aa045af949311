/* tok_main.c - the tokenizer as a filter, for differential.py and for timing.
 *   tok_main PATH            reads lines: a text in hex, and optionally the pair in hex behind a space;
 * writes one line each: "id:type:start:end:special ..." "|" ids decoded in hex "|" without special tokens
 *   tok_main PATH bench FILE tokenizes the file's lines, then the file as one text, and prints tokens per
 *                            second
 *   tok_main FOLDER gguf FILE [PRE|- [ROWS]]  writes the folder's tokenizer as a GGUF file
 *   tok_main FILE.gguf folder FOLDER the other way round
 *   ... oom-gguf, oom-folder         as gguf and folder, with allocations that fail, later and later
 * PATH is a folder, a tokenizer.json or a .gguf. */
#include "frontend/gguf/gguf.h"
#include "frontend/tokenizer/gguf_convert.h"
#include "frontend/tokenizer/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>

static tn_status load(const char *path, tn_buf *blob) {
  tn_diags diags;
  tn_buf words = {0};
  tn_diags_init(&diags);
  tn_status status;
  if (tn_str_ends(tn_str_of(path), ".gguf")) {
    tn_gguf *g = NULL;
    status = tn_gguf_open(path, &diags, &g);
    if (!status) status = tn_tokenizer_from_gguf(g, blob, &diags);
    tn_gguf_close(g);
  } else if (tn_path_is_dir(path)) {
    status = tn_tokenizer_import(path, blob, &diags);
  } else {
    tn_file file;
    const char *why = "";
    status = tn_file_map(&file, path, &why);
    if (status) fprintf(stderr, "%s: %s\n", path, why);
    if (!status) {
      status = tn_tokenizer_import_json((tn_str){(const char *)file.data, file.size}, path, blob, &diags);
      tn_file_unmap(&file);
    }
  }
  tn_diags_text(&diags, &words, false);
  fputs(tn_buf_cstr(&words), stderr);
  tn_buf_fini(&words);
  tn_diags_fini(&diags);
  return status;
}

static int digit(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

/* In place; returns where the hex ends. */
static char *unhex(char *line, tn_str *out) {
  char *p = line, *to = line;
  for (; *p && *p != ' ' && *p != '\n'; p += 2) *to++ = (char)(digit(p[0]) << 4 | digit(p[1]));
  *out = (tn_str){line, (uint64_t)(to - line)};
  return p;
}

static void print_decoded(const tn_tokenizer *t, const int32_t *ids, uint32_t n, uint32_t flags) {
  tn_buf out = {0};
  if (tn_tokenizer_decode(t, ids, n, flags, &out)) fputs("error", stdout);
  fputc('|', stdout);
  for (uint64_t i = 0; i < out.len; i++) printf("%02x", (unsigned char)out.text[i]);
  tn_buf_fini(&out);
}

static void print_line(const tn_tokenizer *t, tn_str text, tn_str pair) {
  tn_tokens tokens = {0};
  TN_VEC(int32_t) ids = {0};
  tn_status status = tn_tokenizer_encode(t, text, pair, 0, &tokens);
  if (status) printf("error %d", status);
  for (uint32_t i = 0; i < tokens.count; i++) {
    tn_token *k = &tokens.items[i];
    printf("%s%d:%u:%llu:%llu:%d", i ? " " : "", k->id, k->type, (unsigned long long)k->start,
           (unsigned long long)k->end, k->special);
    if (!tn_vec_push(&ids, k->id)) exit(1);
  }
  print_decoded(t, ids.items, ids.count, 0);
  print_decoded(t, ids.items, ids.count, TN_DETOKENIZE_SKIP_SPECIAL);
  putchar('\n');
  tn_vec_fini(&tokens);
  tn_vec_fini(&ids);
}

static void filter(const tn_tokenizer *t) {
  char *line = NULL;
  size_t room = 0;
  while (getline(&line, &room, stdin) > 0) {
    tn_str text, pair = {NULL, 0};
    char *end = unhex(line, &text);
    if (*end == ' ') unhex(end + 1, &pair);
    print_line(t, text, pair);
  }
  free(line);
}

static uint64_t count(const tn_tokenizer *t, tn_str text) {
  tn_tokens tokens = {0};
  if (tn_tokenizer_encode(t, text, (tn_str){NULL, 0}, 0, &tokens)) fputs("error\n", stderr);
  uint64_t n = tokens.count;
  tn_vec_fini(&tokens);
  return n;
}

static int bench(const tn_tokenizer *t, const char *path) {
  tn_file file;
  const char *why;
  if (tn_file_map(&file, path, &why)) return fprintf(stderr, "%s: %s\n", path, why), 1;
  const char *p = (const char *)file.data, *end = p + file.size;
  uint64_t n = 0;
  double start = tn_now();
  for (const char *next; p < end; p = next) {
    const char *line = memchr(p, '\n', (size_t)(end - p));
    next = line ? line + 1 : end;
    n += count(t, (tn_str){p, (uint64_t)((line ? line : end) - p)});
  }
  double lines = tn_now() - start;
  uint64_t m = count(t, (tn_str){(const char *)file.data, file.size});
  double whole = tn_now() - start - lines;
  printf("lines %llu tokens %.0f per second; whole %llu tokens %.0f per second\n", (unsigned long long)n,
         (double)n / lines, (unsigned long long)m, (double)m / whole);
  tn_file_unmap(&file);
  return 0;
}

static tn_status no_tensor(void *ctx, uint32_t tensor, tn_outfile *out, uint64_t at, uint64_t bytes) {
  (void)ctx, (void)tensor, (void)out, (void)at, (void)bytes;
  return TN_OK;
}

static tn_status to_gguf(const char *folder, const char *path, char **more, tn_diags *diags) {
  const char *pre = more[0] && strcmp(more[0], "-") != 0 ? more[0] : NULL;
  uint32_t rows = more[0] && more[1] ? (uint32_t)atoi(more[1]) : 0;
  tn_gguf_writer w;
  tn_gguf_writer_init(&w);
  tn_gguf_put_string(&w, "general.architecture", TN_STR("llama"));
  tn_status s = tn_tokenizer_to_gguf(folder, rows, pre, &w, diags);
  if (s == TN_OK) s = tn_gguf_write(&w, path, no_tensor, NULL, diags);
  tn_gguf_writer_fini(&w);
  return s;
}

static tn_status to_folder(const char *path, const char *folder, tn_diags *diags) {
  tn_gguf *g = NULL;
  tn_status s = tn_gguf_open(path, diags, &g);
  if (s == TN_OK) s = tn_tokenizer_to_folder(g, folder, diags);
  tn_gguf_close(g);
  return s;
}

/* Every failure must be told as one, or not matter, until none is met. */
static int without_memory(char **argv) {
  tn_status s = TN_OOM;
  uint32_t tries = 0;
  for (long n = 0; s != TN_OK; n += 1 + n / 24, tries++) {
    tn_diags diags;
    tn_diags_init(&diags);
    tn_mem_fail_after(n);
    s = !strcmp(argv[2], "oom-gguf") ? to_gguf(argv[1], argv[3], argv + 4, &diags)
                                     : to_folder(argv[1], argv[3], &diags);
    tn_mem_fail_after(-1);
    tn_diags_fini(&diags);
    if (s != TN_OK && s != TN_OOM) return fprintf(stderr, "allocation %ld: status %d\n", n, s), 1;
  }
  printf("%u tries\n", tries);
  return 0;
}

static int convert(char **argv) {
  tn_diags diags;
  tn_buf words = {0};
  if (tn_str_starts(tn_str_of(argv[2]), "oom-")) return without_memory(argv);
  tn_diags_init(&diags);
  tn_status s = !strcmp(argv[2], "gguf") ? to_gguf(argv[1], argv[3], argv + 4, &diags)
                                         : to_folder(argv[1], argv[3], &diags);
  tn_diags_text(&diags, &words, false);
  fprintf(stderr, "%s", tn_buf_cstr(&words));
  if (s == TN_NOT_FOUND) fputs("there is no tokenizer\n", stderr);
  tn_buf_fini(&words);
  tn_diags_fini(&diags);
  return s != TN_OK;
}

int main(int argc, char **argv) {
  tn_buf blob = {0};
  tn_tokenizer *t = NULL;
  const char *why = "";
  if (argc < 2) return fprintf(stderr, "usage: %s PATH [bench FILE]\n", argv[0]), 2;
  if (argc > 3 && strcmp(argv[2], "bench") != 0) return convert(argv);
  int status = load(argv[1], &blob);
  if (!status) status = tn_tokenizer_open((tn_bytes){blob.text, blob.len}, &t, &why);
  if (status) {
    fprintf(stderr, "status %d %s\n", status, why);
  } else if (argc > 3) {
    status = bench(t, argv[3]);
  } else {
    filter(t);
  }
  tn_tokenizer_close(t);
  tn_buf_fini(&blob);
  return status != 0;
}
