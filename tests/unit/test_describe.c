/* test_describe.c - the reader of model pages. Three kinds of evidence: pages of tests/describe become
 * exactly the IR beside them (read and agreed by hand); wrong pages give exactly the messages written behind
 * `#!` on their lines; rotary frequencies equal what transformers computes. Tensors come from a made-up
 * checkpoint. */
#include "frontend/describe/describe.h"
#include "ir/ir.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- a made-up checkpoint -------------------------------------------------------------------- */
typedef struct fake {
  const char *name;
  tn_dtype dtype;
  uint32_t rank;
  int64_t shape[4];
} fake;
typedef struct source {
  const fake *tensors;
  uint32_t used;
} source;

static const fake tensors[] = {
    {"emb.weight", TN_DT_f32, 2, {10, 4}},   {"lin.weight", TN_DT_bf16, 2, {6, 4}},
    {"lin.bias", TN_DT_bf16, 1, {6}},        {"square.weight", TN_DT_f32, 2, {4, 4}},
    {"odd.weight", TN_DT_f32, 2, {4, 4}},    {"odd.bias", TN_DT_f32, 1, {5}},
    {"norm.weight", TN_DT_f16, 1, {4}},      {"norm.bias", TN_DT_f16, 1, {4}},
    {"old.gamma", TN_DT_f32, 1, {4}},        {"old.beta", TN_DT_f32, 1, {4}},
    {"at.0.x.weight", TN_DT_f32, 2, {4, 4}}, {"blk.0.y.weight", TN_DT_f32, 2, {4, 4}},
    {"e.0.w.weight", TN_DT_f32, 2, {6, 4}},  {"e.1.w.weight", TN_DT_f32, 2, {6, 4}},
    {"e.2.w.weight", TN_DT_bf16, 2, {6, 4}}, {NULL, 0, 0, {0}}};

/* features.model: below "toy.", but for norm. */
static const fake toy[] = {{"toy.emb.weight", TN_DT_f32, 2, {4, 4}},
                           {"toy.first.tower.pair.0.left.proj.weight", TN_DT_f16, 2, {4, 4}},
                           {"toy.first.tower.pair.0.left.proj.bias", TN_DT_f16, 1, {4}},
                           {"toy.first.tower.pair.0.shared.weight", TN_DT_f32, 2, {4, 4}},
                           {"toy.first.tower.pair.right.0.weight", TN_DT_f32, 2, {4, 4}},
                           {"norm.weight", TN_DT_f32, 1, {4}},
                           {"norm.bias", TN_DT_f32, 1, {4}},
                           {NULL, 0, 0, {0}}};

static const fake cache[] = {{"emb.weight", TN_DT_bf16, 2, {10, 8}},
                             {"layers.0.qkv.weight", TN_DT_bf16, 2, {8, 24}},
                             {"layers.0.qkv.bias", TN_DT_f32, 1, {24}},
                             {"layers.1.qkv.weight", TN_DT_bf16, 2, {8, 24}},
                             {NULL, 0, 0, {0}}};

static const fake experts[] = {{"emb.weight", TN_DT_bf16, 2, {10, 4}},
                               {"gate.weight", TN_DT_f32, 2, {3, 4}},
                               {"e.1.up.weight", TN_DT_bf16, 2, {6, 4}},
                               {"e.0.up.weight", TN_DT_bf16, 2, {6, 4}},
                               {"e.2.up.weight", TN_DT_bf16, 2, {6, 4}},
                               {"down", TN_DT_f32, 3, {3, 4, 6}},
                               {NULL, 0, 0, {0}}};

static uint64_t bytes_of(const fake *f) {
  uint64_t n = f->dtype == TN_DT_f32 ? 4 : 2;
  for (uint32_t i = 0; i < f->rank; i++) n *= (uint64_t)f->shape[i];
  return n;
}

static bool find(void *ctx, const char *name, tn_tensor_ref *out) {
  source *s = ctx;
  uint64_t offset = 0;
  for (uint32_t i = 0; s->tensors[i].name; offset += bytes_of(&s->tensors[i]), i++) {
    const fake *f = &s->tensors[i];
    if (strcmp(f->name, name) != 0) continue;
    *out = (tn_tensor_ref){f->dtype, f->rank, f->shape, "fake.safetensors", offset, bytes_of(f)};
    s->used |= 1u << i;
    return true;
  }
  return false;
}

/* ---- running --------------------------------------------------------------------------------- */
typedef struct run {
  tn_diags diags;
  tn_arena arena;
  tn_page_set *pages;
  tn_module *m;
  tn_json *config;
  source source;
  tn_status status;
} run;

static void run_init(run *r) {
  memset(r, 0, sizeof *r);
  tn_diags_init(&r->diags);
  tn_arena_init(&r->arena);
}

static void run_fini(run *r) {
  tn_module_free(r->m);
  tn_pages_close(r->pages);
  tn_arena_fini(&r->arena);
  tn_diags_fini(&r->diags);
}

static void run_files(run *r, const char *const *files, uint32_t n, const char *architecture,
                      const char *config, const fake *from, bool gguf) {
  r->source.tensors = from;
  r->status = tn_json_parse(&r->arena, tn_str_of(config), "config.json", &r->diags, &r->config);
  if (r->status != TN_OK || (r->status = tn_pages_open(&r->pages, NULL, 0, files, n, &r->diags)) != TN_OK)
    return;
  r->m = tn_module_new(&r->diags);
  tn_page_run p = {.page = tn_pages_find(r->pages, architecture),
                   .architecture = architecture,
                   .config = r->config,
                   .tensors = {&r->source, find, gguf},
                   .ir = &tn_ir_table,
                   .m = r->m,
                   .diags = &r->diags};
  if (!r->m)
    r->status = TN_OOM;
  else if (!p.page)
    r->status = TN_NOT_FOUND;
  else
    r->status = tn_page_build(&p);
}

static const char *const case_file = TN_BINARY_DIR "/test_describe.model";

static void write_case(tn_str text) {
  FILE *f = fopen(case_file, "wb");
  ck_assert_ptr_nonnull(f);
  ck_assert_uint_eq(fwrite(text.ptr, 1, text.len, f), text.len);
  ck_assert_int_eq(fclose(f), 0);
}

static tn_str read_file(tn_file *f, const char *path) {
  const char *why = "";
  if (tn_file_map(f, path, &why) != TN_OK) ck_abort_msg("%s: %s", path, why);
  return (tn_str){(const char *)f->data, f->size};
}

static void no_messages(const run *r) {
  tn_buf b = {0};
  tn_diags_text(&r->diags, &b, false);
  if (r->diags.errors || r->status != TN_OK) ck_abort_msg("status %d: %s", r->status, tn_buf_cstr(&b));
  tn_buf_fini(&b);
}

/* ---- pages become this IR -------------------------------------------------------------------- */
/* The paths of pages in locations are those of this checkout: the last part is kept. */
static void drop_folders(tn_buf *b) {
  const char *folder = TN_SOURCE_DIR "/tests/describe/";
  for (char *p; b->text && (p = strstr(b->text, folder));)
    memmove(p, p + strlen(folder), strlen(p + strlen(folder)) + 1);
}

static void expect_ir(const char *const *files, uint32_t n, const char *architecture, const char *config,
                      const fake *from, const char *golden) {
  run r;
  tn_buf b = {0};
  tn_file f;
  run_init(&r);
  run_files(&r, files, n, architecture, config, from, false);
  no_messages(&r);
  ck_assert_int_eq(tn_module_verify(r.m), TN_OK);
  ck_assert_int_eq(tn_module_print(r.m, &b), TN_OK);
  drop_folders(&b);
  tn_str want = read_file(&f, golden);
  char *text = tn_arena_str(&r.arena, want);
  ck_assert_str_eq(tn_buf_cstr(&b), text);
  for (uint32_t i = 0; from[i].name; i++)
    ck_assert_msg(r.source.used & 1u << i, "%s was not used", from[i].name);
  tn_file_unmap(&f);
  tn_buf_fini(&b);
  run_fini(&r);
}

#define PAGE(name) TN_SOURCE_DIR "/tests/describe/" name
static const char *const feature_files[] = {PAGE("features_base.model"), PAGE("features.model")};
static const char *const cache_files[] = {PAGE("cache.model")};
static const char feature_config[] = "{\"hidden_size\": 4, \"block_types\": [\"PairBlock\", \"Skip\", "
                                     "\"PairBlock\"], \"mode\": \"simple\", \"comment\": 1}";
static const char cache_config[] = "{\"hidden_size\": 8, \"num_attention_heads\": 2, \"rope_theta\": 100.0}";

START_TEST(features_give_this_ir) {
  expect_ir(feature_files, 2, "Features", feature_config, toy, PAGE("features.tir"));
}
END_TEST
START_TEST(aliases_mean_the_same) {
  expect_ir(feature_files, 2, "Renamed", feature_config, toy, PAGE("features.tir"));
}
END_TEST
START_TEST(two_graphs_share_a_cache) {
  expect_ir(cache_files, 1, "Cache", cache_config, cache, PAGE("cache.tir"));
}
END_TEST

START_TEST(tensors_are_stacked) {
  static const char *const files[] = {PAGE("experts.model")};
  expect_ir(files, 1, "Experts", "{\"hidden_size\": 4}", experts, PAGE("experts.tir"));
}
END_TEST

START_TEST(keys_are_marked_used) {
  run r;
  run_init(&r);
  run_files(&r, feature_files, 2, "Features",
            "{\"hidden_size\": 4, \"block_types\": [\"PairBlock\", \"Skip\", \"PairBlock\"], \"comment\": 1, "
            "\"unread\": 2}",
            toy, false);
  no_messages(&r);
  for (uint32_t i = 0; i < r.config->count; i++)
    ck_assert_int_eq(r.config->u.items[i].used, strcmp(r.config->u.items[i].key, "unread") != 0);
  run_fini(&r);
}
END_TEST

/* ---- wrong pages give these messages --------------------------------------------------------- */
typedef struct expected {
  uint32_t line, col;
  tn_str text;
  bool seen;
} expected;

/* #! COL: text, several on a line. */
static uint32_t read_expected(tn_str text, expected *out, uint32_t max) {
  uint32_t n = 0, line = 1;
  for (const char *p = text.ptr, *end = p + text.len; p < end; p++) {
    if (*p == '\n') line++;
    if (*p != '#' || p + 2 >= end || p[1] != '!') continue;
    char *at;
    ck_assert_uint_lt(n, max);
    out[n].line = line;
    out[n].col = (uint32_t)strtoul(p + 2, &at, 10);
    ck_assert_int_eq(*at, ':');
    at += 2;
    const char *stop = at;
    while (stop < end && *stop != '\n' &&
           !(stop[0] == ' ' && stop + 2 < end && stop[1] == '#' && stop[2] == '!'))
      stop++;
    out[n++].text = (tn_str){at, (uint64_t)(stop - at)};
  }
  return n;
}

static void check_case(const char *name, tn_str text, tn_buf *wrong) {
  expected want[32] = {0};
  char config[512] = "{\"hidden_size\": 4, \"layers\": 2, \"names\": [\"a\", \"b\"], \"act\": \"gelu\", "
                     "\"flag\": true, \"odd\": 3, \"nothing\": null}";
  uint32_t n = read_expected(text, want, TN_COUNT(want));
  const char *c = memmem(text.ptr, text.len, "#config ", 8);
  run r;
  if (!n) tn_buf_printf(wrong, "\n%s: expects nothing", name);
  if (c) snprintf(config, sizeof config, "%.*s", (int)strcspn(c + 8, "\n"), c + 8);
  write_case(text);
  run_init(&r);
  run_files(&r, &case_file, 1, "Wrong", config, tensors, memmem(text.ptr, text.len, "#gguf", 5) != NULL);
  if (r.status != TN_INVALID) tn_buf_printf(wrong, "\n%s: status %d", name, r.status);
  for (uint32_t i = 0; i < r.diags.list.count; i++) {
    const tn_message *m = &r.diags.list.items[i];
    bool found = false;
    for (uint32_t k = 0; k < n && !found; k++) {
      if (want[k].seen || want[k].line != m->line || want[k].col != m->col ||
          !tn_str_is(want[k].text, m->text))
        continue;
      want[k].seen = found = true;
    }
    if (!found) tn_buf_printf(wrong, "\n%s: unexpected %u:%u: %s", name, m->line, m->col, m->text);
  }
  for (uint32_t k = 0; k < n; k++)
    if (!want[k].seen)
      tn_buf_printf(wrong, "\n%s: missing %u:%u: %.*s", name, want[k].line, want[k].col,
                    (int)want[k].text.len, want[k].text.ptr);
  run_fini(&r);
}

START_TEST(wrong_pages_are_explained) {
  tn_file f;
  tn_str all = read_file(&f, PAGE("wrong.cases"));
  tn_buf wrong = {0};
  uint32_t n = 0;
  const char *end = all.ptr + all.len;
  for (const char *p = memmem(all.ptr, all.len, "\n=== ", 5), *next; p; p = next, n++) {
    const char *title = p + 5, *body = memchr(title, '\n', (size_t)(end - title));
    char name[64];
    ck_assert_ptr_nonnull(body++);
    next = memmem(body, (size_t)(end - body), "\n=== ", 5);
    snprintf(name, sizeof name, "%.*s", (int)(body - title - 1), title);
    check_case(name, (tn_str){body, (uint64_t)((next ? next + 1 : end) - body)}, &wrong);
  }
  ck_assert_msg(!wrong.len, "%s", tn_buf_cstr(&wrong));
  ck_assert_uint_ge(n, 50);
  tn_buf_fini(&wrong);
  tn_file_unmap(&f);
}
END_TEST

START_TEST(absurd_counts_stop_soon) {
  static const char page[] = "model w \"w\"\n  hf Wrong\nconfig\n  n = layers\ngraph g(ids[B, S]) -> x[B, S, "
                             "4]\n  x = embedding(ids, \"emb\")\n"
                             "  for i in n\n    x = linear(x, \"layer.{i}\")\n";
  static const char loops[] = "model w \"w\"\n  hf Wrong\nconfig\n  n = layers\ngraph g(ids[B, S]) -> x[B, "
                              "S, 4]\n  x = embedding(ids, \"emb\")\n"
                              "  y = 0\n  for i in n\n    for j in n\n      for k in n\n        y = y + 1\n";
  static const struct {
    const char *page, *config;
    uint32_t errors;
    const char *text;
  } cases[] = {{page, "{\"layers\": 1000000000}", 1, "a loop of 1000000000 rounds: expected 0 to 65536"},
               {page, "{\"layers\": -1}", 1, "a loop of -1 rounds: expected 0 to 65536"},
               {page, "{\"layers\": 60000}", 100, "the checkpoint has no tensor 'layer.0.weight'"},
               {loops, "{\"layers\": 2000}", 1,
                "the page ran for more than 2000000 steps: a count in the config is too large"}};
  for (size_t i = 0; i < TN_COUNT(cases); i++) {
    run r;
    run_init(&r);
    write_case(tn_str_of(cases[i].page));
    run_files(&r, &case_file, 1, "Wrong", cases[i].config, tensors, false);
    ck_assert_int_eq(r.status, TN_INVALID);
    ck_assert_uint_eq(r.diags.errors, cases[i].errors);
    ck_assert_str_eq(r.diags.list.items[0].text, cases[i].text);
    run_fini(&r);
  }
}
END_TEST

/* ---- rotary frequencies ---------------------------------------------------------------------- */
/* From transformers 5.23: LlamaRotaryEmbedding(config).inv_freq and .attention_scaling, for a head of 8. */
static const struct {
  const char *config;
  double factor, freq[4];
} ropes[] = {
#include "tests/describe/rope.inc"
};

START_TEST(rope_is_that_of_transformers) {
  static const char page[] =
      "model w \"w\"\n  hf Wrong\nconfig\n  rope = rope_config(8)\ngraph g(pos: i32[S]) -> x[4], y[]\n"
      "  x = constant(rope[0])\n  y = constant(rope[1])\n";
  tn_attr a;
  run r;
  float got[4];
  write_case(tn_str_of(page));
  run_init(&r);
  run_files(&r, &case_file, 1, "Wrong", ropes[_i].config, tensors, false);
  no_messages(&r);
  tn_op op = tn_ir_first_op(r.m, 1, 0);
  ck_assert_uint_eq(tn_ir_op_attr(r.m, op, "value", &a), 1);
  ck_assert_uint_eq(a.u.data.len, sizeof got);
  memcpy(got, a.u.data.ptr, sizeof got);
  for (int i = 0; i < 4; i++)
    ck_assert_float_eq_tol(got[i], (float)ropes[_i].freq[i], (float)ropes[_i].freq[i] * 3e-7f);
  ck_assert_uint_eq(tn_ir_op_attr(r.m, tn_ir_next_op(r.m, op), "value", &a), 1);
  memcpy(got, a.u.data.ptr, sizeof *got);
  ck_assert_float_eq_tol(got[0], (float)ropes[_i].factor, 2e-7f);
  run_fini(&r);
}
END_TEST

/* ---- memory runs out ------------------------------------------------------------------------- */
/* Allocation number n fails, for every n until the build needs no more: an error each time, and no crash or
 * leak. */
START_TEST(every_allocation_may_fail) {
  for (long n = 0;; n += 1 + n / 64) {
    run r;
    run_init(&r);
    tn_mem_fail_after(n);
    run_files(&r, cache_files, 1, "Cache", cache_config, cache, false);
    tn_mem_fail_after(-1);
    tn_status s = r.status;
    run_fini(&r);
    if (s == TN_OK) break;
    ck_assert_msg(n < 100000, "still failing after %ld allocations", n);
  }
}
END_TEST

static Suite *suite(void) {
  Suite *s = suite_create("describe");
  TCase *t = tcase_create("build");
  tcase_set_timeout(t, 60);
  tcase_add_test(t, features_give_this_ir);
  tcase_add_test(t, aliases_mean_the_same);
  tcase_add_test(t, two_graphs_share_a_cache);
  tcase_add_test(t, tensors_are_stacked);
  tcase_add_test(t, keys_are_marked_used);
  tcase_add_test(t, wrong_pages_are_explained);
  tcase_add_test(t, absurd_counts_stop_soon);
  tcase_add_loop_test(t, rope_is_that_of_transformers, 0, TN_COUNT(ropes));
  tcase_add_test(t, every_allocation_may_fail);
  suite_add_tcase(s, t);
  return s;
}

int main(void) {
  SRunner *r = srunner_create(suite());
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  unlink(case_file);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
