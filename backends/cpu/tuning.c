/* tuning.c - tuned numbers: their names, their limits, and reading them. A value out of its limits is
 * refused: skeletons take what stands here as it is. */
#include "backends/cpu/tuning.h"
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
  const char *name;
  size_t at;
  uint32_t least, most, multiple;
} numbers[] = {{"rows", offsetof(tn_cpu_choice, rows), 2, 1024, 2},
               {"depth", offsetof(tn_cpu_choice, depth), 256, 65536, 256},
               {"panels", offsetof(tn_cpu_choice, panels), 2, 8, 2},
               {"ahead", offsetof(tn_cpu_choice, ahead), 64, 65536, 64}};

const char *tn_cpu_tuning_choices(const char *root) {
  return !strcmp(root, "matmul") ? "rows=28,56,112,224,448 depth=256,512,1024,2048,4096 panels=2,4,8 "
                                   "ahead=512,1024,2048,4096,8192"
                                 : NULL;
}

void tn_cpu_tuning_key(tn_str text, tn_cpu_precision precision, char key[TN_CPU_TUNING_KEY]) {
  snprintf(key, TN_CPU_TUNING_KEY, "%016llx",
           (unsigned long long)tn_hash_bytes(text.ptr, text.len, (uint64_t)precision));
}

typedef struct reader {
  tn_cpu *c;
  tn_module *m;
  const char *at;
  char word[32];
} reader;

/* The letters, digits and underscores from here on. */
static bool take_word(reader *r) {
  size_t n = strspn(r->at, "abcdefghijklmnopqrstuvwxyz0123456789_");
  if (!n || n >= sizeof r->word) return false;
  memcpy(r->word, r->at, n);
  r->word[n] = 0;
  r->at += n;
  return true;
}

static tn_status bad_text(reader *r, const char *key) {
  return tn_cpu_fail(r->c, r->m, 0, TN_INVALID, "tuning of kernel '%s' is not NAME=NUMBER at '%.16s'", key,
                     r->at);
}

static tn_status take_number(reader *r, const char *key, tn_cpu_choice *choice) {
  if (!take_word(r) || *r->at != '=') return bad_text(r, key);
  char *end;
  long long v = strtoll(++r->at, &end, 10);
  if (end == r->at) return bad_text(r, key);
  r->at = end;
  for (size_t i = 0; i < TN_COUNT(numbers); i++) {
    if (strcmp(numbers[i].name, r->word)) continue;
    if (v < numbers[i].least || v > numbers[i].most || v % numbers[i].multiple)
      return tn_cpu_fail(r->c, r->m, 0, TN_INVALID,
                         "tuning of kernel '%s': %s is %lld, wants a multiple of %u from %u to %u", key,
                         r->word, v, numbers[i].multiple, numbers[i].least, numbers[i].most);
    *(uint32_t *)((char *)choice + numbers[i].at) = (uint32_t)v;
    return TN_OK;
  }
  return tn_cpu_fail(r->c, r->m, 0, TN_INVALID, "tuning of kernel '%s': there is no number '%s'", key,
                     r->word);
}

static tn_status take_line(reader *r, tn_cpu_tuning *out) {
  tn_cpu_choice choice = {0};
  char key[sizeof r->word];
  if (!take_word(r)) return bad_text(r, "");
  memcpy(key, r->word, sizeof key);
  while (*r->at == ' ') {
    r->at++;
    TN_TRY(take_number(r, key, &choice));
  }
  if (*r->at && *r->at != '\n') return bad_text(r, key);
  r->at += *r->at == '\n';
  TN_TRY(tn_map_put(&out->keys, tn_str_of(key), out->rows.count, NULL));
  return tn_vec_push(&out->rows, choice) ? TN_OK : TN_OOM;
}

tn_status tn_cpu_tuning_read(tn_cpu *c, tn_module *m, const char *text, tn_cpu_tuning *out) {
  reader r = {.c = c, .m = m, .at = text ? text : ""};
  *out = (tn_cpu_tuning){0};
  tn_map_init(&out->keys);
  while (*r.at) TN_TRY(take_line(&r, out));
  return TN_OK;
}

void tn_cpu_tuning_fini(tn_cpu_tuning *t) {
  tn_map_fini(&t->keys);
  tn_vec_fini(&t->rows);
}

tn_cpu_choice tn_cpu_tuning_of(const tn_cpu_tuning *t, const char *key) {
  uint64_t at;
  return t->rows.count && tn_map_get(&t->keys, tn_str_of(key), &at) ? t->rows.items[at] : (tn_cpu_choice){0};
}
