/* test_grammar.c - GBNF: what grammars accept (documents worked out by hand from the grammar's text), what is
 * refused with which words, and the masks of small vocabularies against trying every token. */
#include "backends/runtime/grammar.h"
#include <check.h>
#include <stdlib.h>

static tn_grammar *open_grammar(const char *text) {
  tn_grammar *g;
  char why[300] = "";
  tn_status s = tn_grammar_open(tn_str_of(text), &g, why, sizeof why);
  ck_assert_msg(s == TN_OK, "%s", why);
  return g;
}

/* 0: not a beginning of any text; 1: a beginning; 2: a whole text. */
static int try(tn_grammar *g, tn_str text) {
  tn_grammar_state s = {0};
  ck_assert_int_eq(tn_grammar_enter(g, &s), TN_OK);
  tn_status status = tn_grammar_take(g, &s, text);
  int r = status ? 0 : tn_grammar_may_end(g, &s) ? 2 : 1;
  tn_grammar_leave(g, &s);
  return r;
}

static const struct {
  const char *grammar, *whole[6], *part[6], *wrong[8];
} cases[] = {
    {"root ::= \"a\" | \"bc\"", {"a", "bc"}, {"", "b"}, {"c", "ab", "bb", "bcd"}},
    {"root ::= (\"a\" \"b\"?)* # comment\n\n", {"", "a", "ab", "aab", "abab"}, {0}, {"b", "abb"}},
    {"root ::= x+ y\nx ::= [a-c0]\ny ::=\n  [^a-z] |\n  \"!\"",
     {"aX", "0cb1", "a!"},
     {"abc"},
     {"d", "ad", "X"}},
    {"root ::= \"x\"{2,3} \"y\"{2} \"z\"{1,}",
     {"xxyyz", "xxxyyzz"},
     {"xx", "xxxyy"},
     {"xy", "xxxxyyz", "xxyyy"}},
    {"root ::= [a-z]{0,3}", {"", "a", "abc"}, {0}, {"abcd", "A"}},
    {"root ::= \"a\"{0} \"b\"", {"b"}, {""}, {"a"}},
    {"root ::= \"\\x41\\u00e9\\U0001F600\\n\\\"\\\\\"",
     {"A\xc3\xa9\xf0\x9f\x98\x80\n\"\\"},
     {"A\xc3", "A\xc3\xa9\xf0\x9f"},
     {"A\xc3\xa8"}},
    {"root ::= [\\u0400-\\u04FF\xe2\x82\xac]+",
     {"\xd0\x96\xe2\x82\xac"},
     {"\xd0", "\xe2\x82"},
     {"\xcf\xbf", "\xd4\x80", "\xe2\x82\xad", "a"}},
    {"root ::= .",
     {"a", "\n", "\xf4\x8f\xbf\xbf"},
     {"\xf4\x8f"},
     {"ab", "\xff", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80"}},
    {"root ::= [^\\x00-\\x7F]", {"\xc2\x80"}, {"\xc2"}, {"a", "\x7f"}},
    {"root ::= [\\]\\[\\\\^-]+", {"]", "[\\^-"}, {0}, {"a"}},
    {"root ::= \"(\" root? \")\"", {"()", "((()))"}, {"(", "(()"}, {")", "())", "()("}},
    {"root ::= s\ns ::= \"a\" s \"b\" | \"\"", {"", "ab", "aaabbb"}, {"aab"}, {"b", "abb", "aba"}},
    {"root ::= list\nlist ::= \"i\" list | \"i\"", {"i", "iiiiiiii"}, {0}, {"j"}},
    {"root ::= e e\ne ::= \"\" | \"e\"", {"", "e", "ee"}, {0}, {"eee"}},
    {"root ::= ((\"a\" | \"b\")* \"c\")? (\"d\")", {"d", "cd", "abacd"}, {"ab"}, {"dd", "abd"}},
    {"r-1 ::= \"x\"\r\nroot ::= r-1 (r-1\n|\n\"y\" # in a group lines may end\n) \"z\"",
     {"xxz", "xyz"},
     {0},
     {"xz"}},
};

START_TEST(test_language) {
  tn_grammar *g = open_grammar(cases[_i].grammar);
  for (int i = 0; i < 6 && cases[_i].whole[i]; i++)
    ck_assert_msg(try(g, tn_str_of(cases[_i].whole[i])) == 2, "whole: '%s'", cases[_i].whole[i]);
  for (int i = 0; i < 6 && cases[_i].part[i]; i++)
    ck_assert_msg(try(g, tn_str_of(cases[_i].part[i])) == 1, "part: '%s'", cases[_i].part[i]);
  for (int i = 0; i < 8 && cases[_i].wrong[i]; i++)
    ck_assert_msg(try(g, tn_str_of(cases[_i].wrong[i])) == 0, "wrong: '%s'", cases[_i].wrong[i]);
  tn_grammar_close(g);
}
END_TEST

static const struct {
  const char *grammar, *words;
} wrong[] = {
    {"", "grammar: there is no rule 'root'"},
    {"a ::= \"x\"", "grammar: there is no rule 'root'"},
    {"root ::= a", "grammar, line 1: the rule 'a' is not defined"},
    {"root ::= \"a\"\nroot ::= \"b\"", "grammar, line 2: the rule 'root' is defined twice"},
    {"root ::= root \"a\" | \"b\"",
     "grammar, line 1: the rule 'root' is left recursive: it begins with itself"},
    {"root ::= a\na ::= b \"x\"\nb ::= \"y\"? a",
     "grammar, line 2: the rule 'a' is left recursive: it begins with itself"},
    {"root ::= n n root | \"x\"\nn ::= \"n\"?",
     "grammar, line 1: the rule 'root' is left recursive: it begins with itself"},
    {"root ::= \"a", "grammar, line 1: a literal without closing '\"'"},
    {"root ::= [a", "grammar, line 1: a class without closing ']'"},
    {"root ::= [b-a]", "grammar, line 1: the range U+0062 to U+0061 is empty"},
    {"root ::= []", "grammar, line 1: a class that no character is in"},
    {"root ::= (\"a\"", "grammar, line 1: a group without closing ')'"},
    {"root ::= \"a\")", "grammar, line 1: unexpected ')'"},
    {"root ::= \"a\"{3,2}", "grammar, line 1: a repetition of at least 3 and at most 2 times"},
    {"root ::= \"a\"{x}", "grammar, line 1: a repetition needs a number: {m}, {m,} or {m,n}"},
    {"root ::= \"a\"{1", "grammar, line 1: a repetition without closing '}'"},
    {"root ::= *", "grammar, line 1: unexpected '*'"},
    {"root = \"a\"", "grammar, line 1: '::=' is expected behind the rule's name 'root'"},
    {"\n\n%", "grammar, line 3: a rule's name is expected"},
    {"root ::= \"\\q\"", "grammar, line 1: unknown escape \\q"},
    {"root ::= \"\\x4\"", "grammar, line 1: an escape needs 2 hexadecimal digits"},
    {"root ::= \"\\U00110000\"", "grammar, line 1: U+110000 is not a character"},
    {"root ::= \"\xff\"", "grammar, line 1: the text is not UTF-8"},
    {"root ::= ((((\"a\"{1000}){1000}){1000}){1000})",
     "grammar, line 1: the grammar needs more than 1048576 states; repetitions are too large"},
    {"root ::= <think>", "grammar, line 1: tokens in a grammar (<) are not supported"},
};

START_TEST(test_refused) {
  tn_grammar *g = NULL;
  char why[300] = "";
  ck_assert_int_eq(tn_grammar_open(tn_str_of(wrong[_i].grammar), &g, why, sizeof why), TN_INVALID);
  ck_assert_str_eq(why, wrong[_i].words);
  ck_assert_ptr_null(g);
}
END_TEST

/* ---- masks --------------------------------------------------------------------------------------------- */

enum { VOCABULARY = 400, STEPS = 60 };
static const char json_like[] =
    "root ::= ws value ws\nvalue ::= object | array | string | [0-9]{1,4} | \"true\"\n"
    "object ::= \"{\" ws (member (\",\" ws member)*)? \"}\"\nmember ::= string \":\" ws value ws\n"
    "array ::= \"[\" ws (value ws (\",\" ws value ws)*)? \"]\"\n"
    "string ::= \"\\\"\" ([^\"\\\\\\x00-\\x1F] | \"\\\\\" [nt\"])* \"\\\"\"\nws ::= [ \\n]*\n";
static const char *const grammars[] = {json_like, "root ::= [a-c]{0,5} (\"{\" root \"}\")?",
                                       "root ::= ([^a] | \"a\" [^a])*",
                                       "root ::= (\"a\" | \"ab\" | [a-b]{2,4})+ \"\xe2\x82\xac\" root?"};

static uint32_t random_of(uint64_t *state, uint32_t n) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(*state >> 33) % n;
}

/* Pieces of what the grammars are about, of half characters and of other things. */
static void make_vocabulary(tn_vocabulary *v, char texts[VOCABULARY][16], uint64_t *seed) {
  static const char bytes[] = "aabbc{}[]\":, \n0129truenx\\\xe2\x82\xac\xc3\xa9\xff";
  tn_str t[VOCABULARY];
  for (uint32_t i = 0; i < VOCABULARY; i++) {
    uint32_t n = i == 7 ? 0 : 1 + random_of(seed, i % 9 ? 3 : 9);
    for (uint32_t k = 0; k < n; k++) texts[i][k] = bytes[random_of(seed, sizeof bytes - 1)];
    t[i] = (tn_str){texts[i], n};
  }
  for (uint32_t i = 0; i < sizeof bytes - 1; i++) t[i + 10] = (tn_str){&bytes[i], 1};
  ck_assert_int_eq(tn_vocabulary_of(v, t, VOCABULARY), TN_OK);
}

START_TEST(test_masks) {
  tn_grammar *g = open_grammar(grammars[_i]);
  char texts[VOCABULARY][16];
  for (uint64_t seed = 1; seed <= 12; seed++) {
    tn_vocabulary v;
    uint64_t random = seed * 977;
    make_vocabulary(&v, texts, &random);
    if (seed > 1) tn_grammar_close(g), g = open_grammar(grammars[_i]); /* one vocabulary each */
    tn_grammar_state s = {0};
    ck_assert_int_eq(tn_grammar_enter(g, &s), TN_OK);
    for (int step = 0; step < STEPS; step++) {
      const uint64_t *mask;
      uint32_t allowed[VOCABULARY], n = 0;
      ck_assert_int_eq(tn_grammar_mask(g, &v, &s, &mask), TN_OK);
      for (uint32_t i = 0; i < VOCABULARY; i++) {
        tn_grammar_state copy = {0};
        tn_str bytes = tn_vocabulary_bytes(&v, (int32_t)i);
        bool bit = mask[i / 64] >> i % 64 & 1;
        copy.config = s.config;
        bool ok = bytes.len && tn_grammar_take(g, &copy, bytes) == TN_OK;
        ck_assert_msg(bit == ok, "seed %d, step %d, token %u '%.*s': mask %d", (int)seed, step, i,
                      (int)bytes.len, bytes.ptr, bit);
        if (ok) allowed[n++] = i;
      }
      if (!n) break;
      int32_t chosen = (int32_t)allowed[random_of(&random, n)];
      ck_assert_int_eq(tn_grammar_take(g, &s, tn_vocabulary_bytes(&v, chosen)), TN_OK);
    }
    tn_grammar_leave(g, &s);
    tn_vocabulary_close(&v);
  }
  tn_grammar_close(g);
}
END_TEST

/* Nesting without end: the tables are thrown away again and again, places stay. */
START_TEST(test_forgets) {
  tn_grammar *g = open_grammar("root ::= \"(\" x? root? \")\" | \"[\" root* \"]\"\nx ::= [0-9]+ root?");
  tn_grammar_state s = {0};
  uint64_t random = 5;
  char stack[900];
  uint32_t depth = 0;
  ck_assert_int_eq(tn_grammar_enter(g, &s), TN_OK);
  for (int i = 0; i < 400000; i++) {
    bool open = depth == 0 || (depth < 890 && random_of(&random, 100) < 50);
    if (i && !depth) break;
    char c = open ? (random_of(&random, 2) ? '[' : '(') : stack[--depth] == '[' ? ']' : ')';
    if (open && depth && stack[depth - 1] == '(' && random_of(&random, 2)) {
      /* a number may come first */
      tn_status t = tn_grammar_take(g, &s, TN_STR("7"));
      ck_assert(t == TN_OK || t == TN_INVALID);
    }
    tn_status status = tn_grammar_take(g, &s, (tn_str){&c, 1});
    if (status == TN_INVALID && open) { /* a group holds one other at most */
      c = stack[--depth] == '[' ? ']' : ')';
      status = tn_grammar_take(g, &s, (tn_str){&c, 1});
      open = false;
    }
    ck_assert_int_eq(status, TN_OK);
    if (open) stack[depth++] = c;
  }
  tn_grammar_leave(g, &s);
  tn_grammar_close(g);
}
END_TEST

/* Deeper nesting than the limit is not offered, and does no harm. */
START_TEST(test_deep) {
  tn_grammar *g = open_grammar("root ::= \"(\" root? \")\"");
  tn_grammar_state s = {0};
  ck_assert_int_eq(tn_grammar_enter(g, &s), TN_OK);
  uint32_t n = 0;
  while (n < 5000 && tn_grammar_take(g, &s, TN_STR("(")) == TN_OK) n++;
  ck_assert_uint_ge(n, TN_GR_MAX_DEPTH);
  ck_assert_uint_lt(n, TN_GR_MAX_DEPTH + 5);
  for (uint32_t i = 0; i < n; i++) ck_assert_int_eq(tn_grammar_take(g, &s, TN_STR(")")), TN_OK);
  ck_assert(tn_grammar_must_end(g, &s));
  tn_grammar_leave(g, &s);
  tn_grammar_close(g);
}
END_TEST

/* Every allocation may fail: a clean status, nothing leaks. */
START_TEST(test_no_memory) {
  static const tn_str texts[] = {{"a", 1}, {"\"", 1}, {"{\"", 2}, {"[1", 2}};
  for (long k = 1; k < 400; k++) {
    tn_grammar *g = NULL;
    tn_vocabulary v = {0};
    tn_grammar_state s = {0};
    const uint64_t *mask;
    char why[100];
    tn_mem_fail_after(k);
    tn_status status = tn_vocabulary_of(&v, texts, 4);
    if (!status) status = tn_grammar_open(tn_str_of(json_like), &g, why, sizeof why);
    if (!status) status = tn_grammar_enter(g, &s);
    if (!status) status = tn_grammar_mask(g, &v, &s, &mask);
    if (!status) status = tn_grammar_take(g, &s, TN_STR("[1, {\"a\": \"b\"}"));
    tn_mem_fail_after(-1);
    ck_assert_msg(status == TN_OK || status == TN_OOM, "status %d after %ld", status, k);
    if (g) tn_grammar_leave(g, &s);
    tn_grammar_close(g);
    tn_vocabulary_close(&v);
    if (!status) return;
  }
}
END_TEST

int main(void) {
  Suite *s = suite_create("grammar");
  TCase *c = tcase_create("grammar");
  tcase_set_timeout(c, 120);
  tcase_add_loop_test(c, test_language, 0, (int)TN_COUNT(cases));
  tcase_add_loop_test(c, test_refused, 0, (int)TN_COUNT(wrong));
  tcase_add_loop_test(c, test_masks, 0, (int)TN_COUNT(grammars));
  tcase_add_test(c, test_forgets);
  tcase_add_test(c, test_deep);
  tcase_add_test(c, test_no_memory);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
