/* test_chat.c - chat templates: what jinja2 gave in transformers' environment (tests/chat/make_goldens.py),
 * the places of errors, hostile templates, failing memory. */
#include "frontend/chat/chat.h"
#include <check.h>
#include <stdlib.h>

#define CHAT TN_SOURCE_DIR "/tests/chat/"
enum { NOW = 1763800000 };

typedef struct fixture {
  tn_arena arena;
  tn_diags diags;
} fixture;
static fixture f;
static void begin(void) {
  setenv("TZ", "UTC", 1);
  tn_arena_init(&f.arena);
  tn_diags_init(&f.diags);
}
static void end(void) {
  tn_diags_fini(&f.diags);
  tn_arena_fini(&f.arena);
}

static tn_str file_text(const char *path) {
  tn_file m;
  const char *why = "";
  ck_assert_msg(tn_file_map(&m, path, &why) == TN_OK, "%s: %s", path, why);
  tn_str s = {tn_arena_str(&f.arena, (tn_str){(const char *)m.data, m.size}), m.size};
  tn_file_unmap(&m);
  return s;
}

static tn_status render_with(tn_str text, const tn_json *variables, const tn_chat_limits *limits,
                             tn_buf *out) {
  tn_chat *chat;
  tn_status s = tn_chat_parse(text, "t", &f.diags, &chat);
  if (s == TN_OK) s = tn_chat_render(chat, variables, limits, &f.diags, out);
  tn_chat_free(chat);
  return s;
}

/* ---- goldens --------------------------------------------------------------------------------- */
static void check_case(const char *where, tn_str text, const tn_json *variables, const tn_json *golden) {
  const tn_json *want = tn_json_peek(golden, "want");
  const tn_chat_limits limits = {.now = NOW};
  tn_buf out = {0}, words = {0};
  uint32_t errors = f.diags.errors;
  tn_status s = render_with(text, variables, &limits, &out);
  tn_diags_text(&f.diags, &words, false);
  ck_assert_msg((s == TN_OK) == (want != NULL), "%s: %s\n%.*s", where,
                s ? tn_buf_cstr(&words) : "should fail", (int)text.len, text.ptr);
  ck_assert_uint_eq(f.diags.errors - errors, s ? 1 : 0);
  if (want)
    ck_assert_msg(tn_str_eq((tn_str){tn_buf_cstr(&out), out.len}, want->u.s), "%s: got '%s', should be '%s'",
                  where, tn_buf_cstr(&out), want->u.s.ptr);
  tn_buf_fini(&out);
  tn_buf_fini(&words);
}

/* Lines of JSON: the variables first, then the cases. */
static uint32_t check_file(const char *path) {
  tn_str rest = file_text(path);
  tn_json *variables = NULL, *golden;
  uint32_t n = 0;
  for (; rest.len; n++) {
    const char *nl = memchr(rest.ptr, '\n', rest.len);
    uint64_t len = nl ? (uint64_t)(nl - rest.ptr) : rest.len;
    char where[64];
    snprintf(where, sizeof where, "case %u", n);
    ck_assert_int_eq(tn_json_parse(&f.arena, (tn_str){rest.ptr, len}, path, &f.diags, &golden), TN_OK);
    rest = (tn_str){rest.ptr + len + 1, rest.len - len - 1};
    if (!variables) {
      variables = golden;
      continue;
    }
    const tn_json *file = tn_json_peek(golden, "file"), *index = tn_json_peek(golden, "variables");
    char name[256];
    snprintf(name, sizeof name, CHAT "templates/%s", file ? file->u.s.ptr : "");
    tn_str text = file ? file_text(name) : tn_json_peek(golden, "template")->u.s;
    check_case(file ? name : where, text, &variables->u.items[index ? index->u.i : 0], golden);
  }
  return n - 1;
}

START_TEST(expressions) { ck_assert_uint_ge(check_file(CHAT "data/expressions.jsonl"), 140); }
END_TEST
START_TEST(templates) { ck_assert_uint_ge(check_file(CHAT "data/templates.jsonl"), 300); }
END_TEST

/* ---- places of errors ------------------------------------------------------------------------ */
static const struct {
  const char *text, *message;
} places[] = {
    {"a\n{{ 1 + }}", "t:2:8: error: expected an expression, got the end of the expression\n"},
    {"é {{ x.y }}", "t:1:8: error: 'x' is undefined\n"},
    {"{% if x %}\n\n{{ 'a' | nofilter }}{% else %}\n{{ 'a' | nofilter }}{% endif %}",
     "t:4:10: error: no filter named 'nofilter'\n"},
    {"x\n  {{ raise_exception('no ' ~ 'system') }}", "t:2:21: error: the template refuses: no system\n"},
    {"{% for i in [1] %}\n", "t:1:19: error: the template ends where 'else' should be\n"},
    {"{{ 'abc", "t:1:4: error: the string has no end\n"},
    {"{# x", "t:1:1: error: the comment has no end\n"},
    {"{% include 'x' %}", "t:1:4: error: templates that use other files or templates are not supported\n"},
    {"{{ [].append(1) }}", "t:1:13: error: a list cannot be changed by a template\n"},
    {"{{ 1 / 0 }}", "t:1:6: error: division by zero\n"},
    {"{% endfor %}", "t:1:4: error: unknown block 'endfor'\n"},
};
START_TEST(error_places) {
  tn_buf out = {0}, words = {0};
  ck_assert_int_ne(render_with(tn_str_of(places[_i].text), NULL, NULL, &out), TN_OK);
  tn_diags_text(&f.diags, &words, false);
  ck_assert_str_eq(tn_buf_cstr(&words), places[_i].message);
  ck_assert_uint_eq(out.len, 0);
  tn_buf_fini(&words);
}
END_TEST

/* ---- hostile templates ----------------------------------------------------------------------- */
#define TEN(x) x x x x x x x x x x
static const char *const hostile[] = {
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for i in [[]] recursive %}{{ loop([i]) }}{% endfor %}",
    "{{ 'x' * 10**9 }}",
    "{{ 'x' * 9223372036854775807 }}",
    "{{ [0] * 10**10 }}",
    "{{ range(10**9) }}",
    "{{ 2 ** 9999999 }}",
    "{{ 9223372036854775807 + 1 }}",
    "{{ (-9223372036854775807 - 1) // -1 }}",
    "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
    "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l == "
    "[ns.l] }}",
    "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ "
    "ns.l|tojson }}",
    "{% set ns = namespace(l=[1]) %}{% for i in range(64) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l "
    "}}",
    "{% set ns = namespace(l=[1]) %}{% for i in range(64) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
    "{% for i in range(100000) %}{{ 'xxxxxxxxxxxxxxxxxxxx' * 100 }}{% endfor %}",
    "{{ 'a' | center(10**9) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '%s' }}{{ '%s%s%s' % 'a' }}",
    "{{ 'a' | indent(10**9) }}",
    "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
    "{{ ('a,' * 100000).split(',') | join('x' * 100000) }}",
    "{{ [1] | tojson(indent=10**9) }}",
    "{% set x = range(100000) | list %}{% for i in x %}{{ x | sort | length }}{% endfor %}",
    "{% for i in range(100000) %}{% set x = range(100000) | unique | list %}{% endfor %}",
    "{{ " TEN(TEN(TEN("("))) "1" TEN(TEN(TEN(")"))) " }}",
    "{{ " TEN(TEN(TEN("["))) "1" TEN(TEN(TEN("]"))) " }}",
    "{{ " TEN(TEN(TEN("not "))) "1 }}",
    "{{ " TEN(TEN(TEN("-"))) "1 }}",
    "{{ x" TEN(TEN(TEN(" if 1 else x"))) " }}",
    TEN(TEN(TEN("{% if 1 %}"))) TEN(TEN(TEN("{% endif %}"))),
    "{{ 1" TEN(TEN(TEN(" + 1"))) " }}",
    "{{ x" TEN(TEN(TEN(".y"))) " }}",
    "{{ 'a'" TEN(TEN(TEN("|upper"))) " }}",
    "{% for a, b in [1] %}{% endfor %}",
    "{{ namespace(__class__=1) }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ \"\\uD800\" }}",
    "{{ \"\\xZZ\" }}",
    "\xff{{ 1 }}",
};
START_TEST(hostile_templates) {
  tn_buf out = {0};
  double start = tn_now();
  ck_assert_msg(render_with(tn_str_of(hostile[_i]), NULL, NULL, &out) != TN_OK, "%.80s", hostile[_i]);
  ck_assert_uint_eq(f.diags.errors, 1);
  ck_assert_uint_eq(out.len, 0);
  ck_assert_msg(tn_now() - start < 30, "%.80s: %g seconds", hostile[_i], tn_now() - start);
}
END_TEST

/* Limits are the caller's. */
START_TEST(limits) {
  const char *text = "{% for i in range(1000) %}xxxxxxxxxx{% endfor %}";
  const tn_chat_limits small[] = {{.steps = 500}, {.output = 5000}, {.memory = 5000}};
  tn_buf out = {0};
  for (size_t i = 0; i < TN_COUNT(small); i++)
    ck_assert_int_eq(render_with(tn_str_of(text), NULL, &small[i], &out), TN_INVALID);
  ck_assert_int_eq(render_with(tn_str_of(text), NULL, NULL, &out), TN_OK);
  ck_assert_uint_eq(out.len, 10000);
  tn_buf_fini(&out);
}
END_TEST

/* Whatever allocation fails: no memory, said once, or the right text. */
START_TEST(no_memory) {
  const char *text = "{% macro m(a, b=2) %}{{ a ~ b }}{% endmacro %}{% for k, v in {'a': [1, 'x']}|items %}"
                     "{{ m(k) }}{{ v|tojson }}{{ ('%s' % v[1]).upper().split('b') }}{% endfor %}";
  tn_status s = TN_OOM;
  for (long n = 0; s != TN_OK && n < 10000; n++) {
    tn_buf out = {0};
    tn_mem_fail_after(n);
    s = render_with(tn_str_of(text), NULL, NULL, &out);
    tn_mem_fail_after(-1);
    ck_assert(s == TN_OK || s == TN_OOM);
    if (s == TN_OK) ck_assert_str_eq(tn_buf_cstr(&out), "a2[1, \"x\"]['X']");
    tn_buf_fini(&out);
    end();
    begin();
  }
  ck_assert_int_eq(s, TN_OK);
}
END_TEST

START_TEST(builtins) {
  tn_json *v;
  const char *json =
      "{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": \"U\"},"
      "{\"role\": \"assistant\", \"content\": \"A\"}, {\"role\": \"user\", \"content\": \"V\"}],"
      "\"add_generation_prompt\": true, \"bos_token\": \"<b>\", \"eos_token\": \"<e>\"}";
  ck_assert_int_eq(tn_json_parse(&f.arena, tn_str_of(json), "v", &f.diags, &v), TN_OK);
  for (uint32_t i = 0; tn_chat_builtin_name(i); i++) {
    tn_buf out = {0};
    ck_assert_int_eq(render_with(tn_chat_builtin(tn_chat_builtin_name(i)), v, NULL, &out), TN_OK);
    ck_assert_msg(strstr(tn_buf_cstr(&out), "S") && strstr(out.text, "U") && strstr(out.text, "A") &&
                      strstr(out.text, "V"),
                  "%s: %s", tn_chat_builtin_name(i), out.text);
    if (!strcmp(tn_chat_builtin_name(i), "gemma"))
      ck_assert_str_eq(out.text,
                       "<b><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n"
                       "<start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n");
    tn_buf_fini(&out);
  }
  ck_assert_ptr_null(tn_chat_builtin("nothing").ptr);
}
END_TEST

int main(void) {
  Suite *s = suite_create("chat");
  TCase *t = tcase_create("chat");
  tcase_set_timeout(t, 120);
  tcase_add_checked_fixture(t, begin, end);
  tcase_add_test(t, expressions);
  tcase_add_test(t, templates);
  tcase_add_loop_test(t, error_places, 0, TN_COUNT(places));
  tcase_add_loop_test(t, hostile_templates, 0, TN_COUNT(hostile));
  tcase_add_test(t, limits);
  tcase_add_test(t, no_memory);
  tcase_add_test(t, builtins);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
