/* test_hf.c - what the "hf" frontend says about a folder beyond its graphs: metadata, and warnings about what
 * it did not understand. Expected values are those of the folders' own configs (tests/parity/models). */
#include "frontend/frontend.h"
#include "plugins/host.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static tn_diags diags;
static tn_plugins *plugins;
static const tn_frontend_ref *frontend;
static tn_module *m;

static void setup(void) {
  uint32_t n;
  tn_diags_init(&diags);
  ck_assert_int_eq(tn_plugins_new(&plugins, &diags), TN_OK);
  ck_assert_int_eq(tn_plugins_add_builtin(plugins, tn_plugin_query_hf), TN_OK);
  ck_assert_int_eq(tn_plugins_frontends(plugins, &frontend, &n), TN_OK);
  ck_assert_int_eq(n, 1);
  m = tn_module_new(&diags);
}

static void teardown(void) {
  tn_module_free(m);
  tn_plugins_free(plugins);
  tn_diags_fini(&diags);
}

static tn_status import(const char *path, const char *task) {
  const char *keys[] = {"task"}, *values[] = {task};
  tn_options o = {keys, values, task != NULL};
  return frontend->table.import(frontend->self, path, m, &o);
}

static const char *model(const char *name) {
  static char path[512];
  snprintf(path, sizeof path, TN_SOURCE_DIR "/tests/parity/models/%s", name);
  return path;
}

static const struct {
  const char *folder, *key, *value; /* value NULL: not there */
} metas[] = {
    {"bert-cls", "source", "bert-cls"},
    {"bert-cls/", "source", "bert-cls"},
    {"bert-cls", "architecture", "BertForSequenceClassification"},
    {"bert-cls", "model_type", "bert"},
    {"bert-cls", "task", "text-classification"},
    {"bert-cls", "id2label", "{\"0\": \"bad\", \"1\": \"fair\", \"2\": \"good\"}"},
    {"bert-cls", "max_positions", "40"},
    {"bert-cls", "vocab", "257"},
    {"bert-cls", "eos", NULL},
    {"bert-cls", "tokenizer", NULL},
    {"bert-cls", "dim.position", NULL},
    {"roberta-mlm", "task", "fill-mask"},
    {"roberta-mlm", "max_positions", "40"}, /* 42, of which 0 and 1 belong to padding */
    {"roberta-mlm", "bos", "0"},
    {"roberta-mlm", "pad", "1"},
    {"roberta-mlm", "eos", "2"},
    {"distilbert-qa", "task", "question-answering"},
    {"bert-tokens", "task", "token-classification"},
    {"xlm-roberta", "task", "feature-extraction"},
    {"sentence-mean", "pooling", "mean"},
    {"sentence-cls", "pooling", "cls"},
    {"sentence-mean", "max_seq_length", "36"},
    {"gpt2-hub", "task", "text-generation"},
    {"gpt2-hub", "max_positions", "96"},
    {"gpt2-hub", "dim.position", "P"},
    {"gpt2-hub", "dim.capacity", "C"},
};

START_TEST(metadata) {
  ck_assert_int_eq(import(model(metas[_i].folder), NULL), TN_OK);
  ck_assert_pstr_eq(tn_ir_meta_get(m, metas[_i].key), metas[_i].value);
  ck_assert_int_eq(diags.list.count, 0);
}
END_TEST

START_TEST(named) {
  ck_assert_int_eq(import(model("bert-cls"), "feature-extraction"), TN_OK);
  ck_assert_str_eq(tn_ir_meta_get(m, "task"), "feature-extraction");
  ck_assert_str_eq(tn_ir_module_name(m), "bert_cls");
}
END_TEST

/* A copy of a folder, changed by a shell command that runs in it. */
static void import_changed(const char *folder, const char *command) {
  char top[] = "/tmp/tn_hf_XXXXXX", cmd[1200];
  ck_assert_ptr_nonnull(mkdtemp(top));
  snprintf(cmd, sizeof cmd, "cp -r %s/. %s && cd %s && %s", model(folder), top, top, command);
  ck_assert_int_eq(system(cmd), 0);
  tn_status s = import(top, NULL);
  snprintf(cmd, sizeof cmd, "rm -r %s", top);
  ck_assert_int_eq(system(cmd), 0);
  ck_assert_int_eq(s, TN_OK);
}

START_TEST(end_tokens) {
  import_changed("llama-tied",
                 "echo '{\"eos_token_id\": [3, 4], \"bos_token_id\": 9}' >generation_config.json");
  ck_assert_str_eq(tn_ir_meta_get(m, "eos"), "3,4");
  ck_assert_str_eq(tn_ir_meta_get(m, "bos"), "9");
}
END_TEST

static const struct {
  const char *folder, *command, *file, *says;
} warnings[] = {
    {"bert-model", "sed -i '2i \"mystery\": 1,' config.json", "config.json", "key 'mystery'"},
    {"llama-rope-yarn", "sed -i 's/\"rope_type\"/\"mystery\": 1, &/' config.json", "config.json",
     "key 'rope_parameters.mystery'"},
    {"bert-model", "sed -i 's/\"num_hidden_layers\": 2/\"num_hidden_layers\": 1/' config.json",
     "model.safetensors", "16 tensors are not used: encoder.layer.1."},
};

START_TEST(warned) {
  import_changed(warnings[_i].folder, warnings[_i].command);
  ck_assert_int_eq(diags.errors, 0);
  ck_assert_int_eq(diags.warnings, 1);
  ck_assert_str_eq(diags.list.items[0].file, warnings[_i].file);
  ck_assert_msg(strstr(diags.list.items[0].text, warnings[_i].says), "says '%s'", diags.list.items[0].text);
}
END_TEST

START_TEST(probed) {
  ck_assert_int_eq(frontend->table.probe(frontend->self, model("llama")), 90);
  ck_assert_int_eq(frontend->table.probe(frontend->self, model("llama/config.json")), 0);
  ck_assert_int_eq(frontend->table.probe(frontend->self, model("nowhere")), 0);
}
END_TEST

/* Memory that runs out anywhere in an import is an error, never a crash, and never half a module that passes.
 */
START_TEST(no_memory) {
  tn_status s = TN_OOM;
  for (long n = 0; s != TN_OK; n += 23) {
    teardown();
    setup();
    tn_mem_fail_after(n);
    s = import(model("bert-cls"), NULL);
    tn_mem_fail_after(-1);
    ck_assert_int_lt(n, 100000);
  }
  ck_assert_int_eq(tn_module_verify(m), TN_OK);
  ck_assert_str_eq(tn_ir_meta_get(m, "task"), "text-classification");
}
END_TEST

int main(void) {
  Suite *s = suite_create("hf");
  TCase *t = tcase_create("hf");
  tcase_set_timeout(t, 60);
  tcase_add_checked_fixture(t, setup, teardown);
  tcase_add_loop_test(t, metadata, 0, (int)TN_COUNT(metas));
  tcase_add_test(t, named);
  tcase_add_test(t, end_tokens);
  tcase_add_loop_test(t, warned, 0, (int)TN_COUNT(warnings));
  tcase_add_test(t, probed);
  tcase_add_test(t, no_memory);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
