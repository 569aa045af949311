/* test_checkpoint.c - steps of conversions against loops in plain C, and files of safetensors as they are
 * written, read back byte by byte. Models as a whole are compared by run_export.py. */
#include "frontend/checkpoint/cut.h"
#include "frontend/safetensors/write.h"
#include <check.h>
#include <stdlib.h>
#include <unistd.h>

/* Number i of a cut: where it is in the tensor behind. */
static uint64_t place(const ck_cut *k, uint64_t i) {
  uint64_t at = k->at;
  for (uint32_t l = k->loops; l-- > 0; i /= k->size[l]) at += i % k->size[l] * k->step[l];
  return at;
}

static uint64_t count(const ck_cut *k) {
  uint64_t n = 1;
  for (uint32_t l = 0; l < k->loops; l++) n *= k->size[l];
  return n;
}

/* ---- steps ---- */

START_TEST(rows_put_halves_side_by_side) {
  enum { HEADS = 3, HALF = 4, COLUMNS = 5 };
  const int64_t shape[2] = {HEADS * 2 * HALF, COLUMNS};
  tn_page_step s = {.kind = TN_STEP_ROWS, .count = 3, .sizes = {HEADS, 2, HALF}, .order = {0, 2, 1}};
  ck_cut k;
  ck_assert(ck_cut_all(&k, 2, shape) && ck_cut_step(&k, &s, false));
  ck_assert_uint_eq(ck_cut_extent(&k, 0), HEADS * 2 * HALF);
  uint64_t i = 0;
  for (uint64_t h = 0; h < HEADS; h++)
    for (uint64_t f = 0; f < HALF; f++)
      for (uint64_t half = 0; half < 2; half++)
        for (uint64_t c = 0; c < COLUMNS; c++)
          ck_assert_uint_eq(place(&k, i++), ((h * 2 + half) * HALF + f) * COLUMNS + c);
  ck_assert_uint_eq(i, count(&k));
}
END_TEST

START_TEST(vectors_go_as_their_matrices) {
  const int64_t shape[1] = {12};
  tn_page_step s = {.kind = TN_STEP_ROWS, .count = 3, .sizes = {2, 2, 3}, .order = {0, 2, 1}};
  static const uint64_t want[12] = {0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11};
  ck_cut k;
  ck_assert(ck_cut_all(&k, 1, shape) && ck_cut_step(&k, &s, false));
  for (uint64_t i = 0; i < 12; i++) ck_assert_uint_eq(place(&k, i), want[i]);
}
END_TEST

/* What a step does, the same step does back, for any order. */
START_TEST(steps_go_back) {
  static const int64_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  const int64_t shape[2] = {2 * 3 * 5, 7};
  for (int o = 0; o < 6; o++) {
    tn_page_step s = {.kind = TN_STEP_ROWS, .count = 3, .sizes = {2, 3, 5}};
    ck_cut there, back;
    memcpy(s.order, orders[o], sizeof orders[o]);
    ck_assert(ck_cut_all(&there, 2, shape) && ck_cut_step(&there, &s, false));
    ck_assert(ck_cut_all(&back, 2, shape) && ck_cut_step(&back, &s, true));
    for (uint64_t i = 0; i < count(&there); i++) ck_assert_uint_eq(place(&there, place(&back, i)), i);
  }
}
END_TEST

START_TEST(parts_are_cut_out) {
  const int64_t shape[3] = {4, 6, 5};
  ck_cut k;
  ck_assert(ck_cut_all(&k, 3, shape) && ck_cut_part(&k, 1, 1, 2));
  for (uint64_t a = 0, i = 0; a < 4; a++)
    for (uint64_t b = 3; b < 6; b++)
      for (uint64_t c = 0; c < 5; c++) ck_assert_uint_eq(place(&k, i++), (a * 6 + b) * 5 + c);
  ck_assert(ck_cut_all(&k, 3, shape) && ck_cut_range(&k, 0, 2, 1));
  ck_cut_drop(&k, 0);
  ck_cut_swap(&k, 0, 1);
  ck_assert_uint_eq(k.rank, 2);
  for (uint64_t c = 0, i = 0; c < 5; c++)
    for (uint64_t b = 0; b < 6; b++) ck_assert_uint_eq(place(&k, i++), (2 * 6 + b) * 5 + c);
}
END_TEST

START_TEST(what_does_not_fit_is_refused) {
  const int64_t shape[2] = {12, 4}, other[2] = {5, 5};
  tn_page_step rows = {.kind = TN_STEP_ROWS, .count = 2, .sizes = {5, 2}, .order = {1, 0}},
               wrong = {.kind = TN_STEP_ROWS, .count = 2, .sizes = {6, 2}, .order = {1, 3}},
               behind = {.kind = TN_STEP_BEHIND, .number = 12};
  ck_cut k;
  ck_assert(ck_cut_all(&k, 2, shape) && !ck_cut_step(&k, &rows, false));
  ck_assert(ck_cut_all(&k, 2, shape) && !ck_cut_step(&k, &wrong, false));
  ck_assert(ck_cut_all(&k, 2, shape) && !ck_cut_step(&k, &behind, false));
  ck_assert(ck_cut_all(&k, 2, shape) && !ck_cut_reshape(&k, 2, other));
  ck_assert(ck_cut_all(&k, 2, shape) && !ck_cut_part(&k, 0, 0, 5));
  ck_assert(!ck_cut_part(&k, 2, 0, 2));
}
END_TEST

/* ---- safetensors ---- */

typedef struct stuff {
  uint8_t bytes[3][64];
} stuff;

static tn_status put_stuff(void *ctx, uint32_t i, tn_outfile *out, uint64_t at, uint64_t bytes) {
  return tn_outfile_put(out, at, ((stuff *)ctx)->bytes[i], bytes);
}

typedef struct fixture {
  char folder[64];
  tn_diags diags;
  tn_st_writer w;
  stuff s;
} fixture;

static void begin(fixture *f) {
  static const int64_t a[2] = {2, 3}, b[1] = {5}, c[3] = {1, 4, 2};
  memset(f, 0, sizeof *f);
  strcpy(f->folder, "/tmp/tn-checkpoint-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(f->folder));
  tn_diags_init(&f->diags);
  tn_st_writer_init(&f->w);
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < 64; k++) f->s.bytes[i][k] = (uint8_t)(i * 64 + k);
  tn_st_put_meta(&f->w, "format", TN_STR("pt"));
  tn_st_put_tensor(&f->w, "b\"\xc3\xa4.weight", TN_DT_f32, 2, a);
  tn_st_put_tensor(&f->w, "a", TN_DT_u8, 1, b);
  tn_st_put_tensor(&f->w, "c", TN_DT_bf16, 3, c);
}

static void end(fixture *f) {
  char command[128];
  tn_st_writer_fini(&f->w);
  tn_diags_fini(&f->diags);
  snprintf(command, sizeof command, "rm -rf '%s'", f->folder);
  ck_assert_int_eq(system(command), 0);
}

/* The file of a tensor holds the bytes that were given. */
static void check_bytes(fixture *f, const tn_st_files *files, const char *name, uint32_t i, uint64_t bytes) {
  const tn_st_tensor *t = tn_st_find(files, name);
  ck_assert_ptr_nonnull(t);
  tn_arena arena;
  tn_file map;
  tn_arena_init(&arena);
  ck_assert_int_eq(tn_file_map(&map, tn_path_join(&arena, f->folder, t->file), NULL), TN_OK);
  ck_assert_uint_eq(t->bytes, bytes);
  ck_assert_mem_eq(map.data + t->offset, f->s.bytes[i], bytes);
  tn_file_unmap(&map);
  tn_arena_fini(&arena);
}

static void check_folder(uint64_t shard) {
  fixture f;
  tn_st_files files;
  begin(&f);
  ck_assert_int_eq(tn_st_write_folder(&f.w, f.folder, shard, put_stuff, &f.s, &f.diags), TN_OK);
  tn_st_init(&files);
  ck_assert_int_eq(tn_st_open_folder(&files, f.folder, &f.diags), TN_OK);
  ck_assert_uint_eq(files.tensors.count, 3);
  check_bytes(&f, &files, "b\"\xc3\xa4.weight", 0, 24);
  check_bytes(&f, &files, "a", 1, 5);
  check_bytes(&f, &files, "c", 2, 16);
  tn_st_fini(&files);
  end(&f);
}

START_TEST(one_file_and_shards_read_back) {
  check_folder(0);
  check_folder(24);
  check_folder(1);
}
END_TEST

/* What an earlier run left is not found any more. */
START_TEST(the_other_kind_of_folder_goes_away) {
  fixture f;
  tn_st_files files;
  begin(&f);
  ck_assert_int_eq(tn_st_write_folder(&f.w, f.folder, 1, put_stuff, &f.s, &f.diags), TN_OK);
  ck_assert_int_eq(tn_st_write_folder(&f.w, f.folder, 0, put_stuff, &f.s, &f.diags), TN_OK);
  f.s.bytes[1][0] ^= 255;
  ck_assert_int_eq(tn_st_write_folder(&f.w, f.folder, 1, put_stuff, &f.s, &f.diags), TN_OK);
  tn_st_init(&files);
  ck_assert_int_eq(tn_st_open_folder(&files, f.folder, &f.diags), TN_OK);
  check_bytes(&f, &files, "a", 1, 5);
  tn_st_fini(&files);
  end(&f);
}
END_TEST

static tn_status stop(void *ctx, uint32_t i, tn_outfile *out, uint64_t at, uint64_t bytes) {
  return i == 1 ? TN_DATA_LOSS : put_stuff(ctx, i, out, at, bytes);
}

START_TEST(a_failure_leaves_nothing) {
  fixture f;
  tn_arena arena;
  tn_arena_init(&arena);
  begin(&f);
  const char *path = tn_path_join(&arena, f.folder, "model.safetensors");
  ck_assert_int_eq(tn_st_write(&f.w, path, stop, &f.s, &f.diags), TN_DATA_LOSS);
  ck_assert(!tn_path_exists(path));
  static const int64_t one[1] = {1};
  tn_st_put_tensor(&f.w, "a", TN_DT_u8, 1, one); /* twice */
  ck_assert_int_eq(tn_st_write(&f.w, path, put_stuff, &f.s, &f.diags), TN_INVALID);
  ck_assert(!tn_path_exists(path));
  tn_arena_fini(&arena);
  end(&f);
}
END_TEST

/* ---- checkpoints ---- */

/* Rows and bytes of a tensor say the same, from any place; every allocation may fail. */
START_TEST(readers_agree_with_themselves) {
  static const char *const models[] = {"llama", "mixtral", "deepseek-v3", "gpt2", "mamba2"};
  for (size_t m = 0; m < TN_COUNT(models); m++) {
    tn_diags diags;
    tn_checkpoint *ck, *view;
    tn_arena arena;
    tn_diags_init(&diags);
    tn_arena_init(&arena);
    const char *path = tn_arena_printf(&arena, "%s/tests/parity/models/%s", TN_SOURCE_DIR, models[m]);
    ck_assert_int_eq(tn_checkpoint_open(path, NULL, &diags, &ck), TN_OK);
    ck_assert_int_eq(tn_checkpoint_convert(ck, TN_CK_GGUF, &diags, &view), TN_OK);
    for (uint32_t i = 0; i < tn_checkpoint_count(view); i++) {
      const tn_ck_tensor *t = tn_checkpoint_at(view, i);
      tn_ck_reader *r;
      uint64_t columns = ck_columns_of(t), rows = ck_rows_of(t);
      if (t->dtype != TN_DT_f32) continue;
      float *all = malloc(t->bytes), *one = malloc(columns * sizeof *one);
      ck_assert_int_eq(tn_ck_reader_open(view, i, &diags, &r), TN_OK);
      ck_assert_int_eq(tn_ck_reader_bytes(r, 0, all, t->bytes), TN_OK);
      for (uint64_t k = rows; k-- > 0;) {
        ck_assert_int_eq(tn_ck_reader_rows(r, k, 1, one), TN_OK);
        ck_assert_mem_eq(one, all + k * columns, columns * sizeof *one);
      }
      uint8_t some[7];
      uint64_t at = t->bytes / 2 > 7 ? t->bytes / 2 - 3 : 0, n = t->bytes - at < 7 ? t->bytes - at : 7;
      ck_assert_int_eq(tn_ck_reader_bytes(r, at, some, n), TN_OK);
      ck_assert_mem_eq(some, (uint8_t *)all + at, n);
      tn_ck_reader_close(r);
      free(all);
      free(one);
    }
    tn_checkpoint_close(view);
    tn_checkpoint_close(ck);
    tn_arena_fini(&arena);
    tn_diags_fini(&diags);
  }
}
END_TEST

START_TEST(memory_may_run_out) {
  for (long n = 0;; n += 1 + n / 16) {
    tn_diags diags;
    tn_checkpoint *ck = NULL, *view = NULL;
    tn_diags_init(&diags);
    tn_mem_fail_after(n);
    tn_status s = tn_checkpoint_open(TN_SOURCE_DIR "/tests/parity/models/deepseek-v3", NULL, &diags, &ck);
    if (s == TN_OK) s = tn_checkpoint_convert(ck, TN_CK_GGUF, &diags, &view);
    tn_mem_fail_after(-1);
    tn_checkpoint_close(view);
    tn_checkpoint_close(ck);
    tn_diags_fini(&diags);
    if (s == TN_OK) {
      ck_assert_int_gt(n, 100);
      break;
    }
  }
}
END_TEST

START_TEST(roles_are_known_by_both_names) {
  static const struct {
    const char *gguf, *hf;
    uint32_t rank;
    tn_ck_role role;
  } cases[] = {
      {"blk.3.attn_q.weight", NULL, 2, TN_CK_QUERY},
      {"blk.3.attn_q_norm.weight", NULL, 1, TN_CK_OTHER},
      {"blk.11.ffn_down_exps.weight", NULL, 3, TN_CK_DOWN},
      {"token_embd.weight", NULL, 2, TN_CK_EMBEDDING},
      {"output.weight", NULL, 2, TN_CK_OUTPUT},
      {"blk.0.attn_output.weight", NULL, 2, TN_CK_ATTN_OUT},
      {"blk.0.ffn_gate_inp.weight", NULL, 2, TN_CK_ROUTER},
      {"blk.0.ssm_in.weight", NULL, 2, TN_CK_MATRIX},
      {NULL, "model.layers.0.self_attn.k_proj.weight", 2, TN_CK_KEY},
      {NULL, "model.layers.0.self_attn.k_proj.bias", 1, TN_CK_OTHER},
      {NULL, "encoder.layer.2.attention.output.dense.weight", 2, TN_CK_ATTN_OUT},
      {NULL, "encoder.layer.2.output.dense.weight", 2, TN_CK_DOWN},
      {NULL, "classifier.weight", 2, TN_CK_MATRIX},
  };
  for (size_t i = 0; i < TN_COUNT(cases); i++)
    ck_assert_int_eq(ck_role_of(cases[i].gguf, cases[i].hf, cases[i].rank), cases[i].role);
  ck_assert_int_eq(ck_layer_of("blk.12.attn_q.weight"), 12);
  ck_assert_int_eq(ck_layer_of("model.layers.3.mlp.experts.7.up_proj.weight"), 3);
  ck_assert_int_eq(ck_layer_of("token_embd.weight"), -1);
}
END_TEST

int main(void) {
  Suite *s = suite_create("checkpoint");
  TCase *c = tcase_create("checkpoint");
  tcase_set_timeout(c, 120);
  tcase_add_test(c, rows_put_halves_side_by_side);
  tcase_add_test(c, vectors_go_as_their_matrices);
  tcase_add_test(c, steps_go_back);
  tcase_add_test(c, parts_are_cut_out);
  tcase_add_test(c, what_does_not_fit_is_refused);
  tcase_add_test(c, one_file_and_shards_read_back);
  tcase_add_test(c, the_other_kind_of_folder_goes_away);
  tcase_add_test(c, a_failure_leaves_nothing);
  tcase_add_test(c, readers_agree_with_themselves);
  tcase_add_test(c, memory_may_run_out);
  tcase_add_test(c, roles_are_known_by_both_names);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed ? 1 : 0;
}
