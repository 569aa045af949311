/* jinja_tests.c - what stands behind "is". */
#include "frontend/chat/jinja.h"

#define TEST(name) static tn_jv test_##name(tn_jinja_run *r, tn_jv v, const tn_jinja_args *a)
#define KIND_TEST(name, expr)                                                                                \
  TEST(name) {                                                                                               \
    (void)r, (void)a;                                                                                        \
    return tn_jv_bool(expr);                                                                                 \
  }
KIND_TEST(defined, v.kind != TN_JV_UNDEFINED)
KIND_TEST(undefined, v.kind == TN_JV_UNDEFINED)
KIND_TEST(none, v.kind == TN_JV_NONE)
KIND_TEST(boolean, v.kind == TN_JV_BOOL)
KIND_TEST(yes, v.kind == TN_JV_BOOL && v.u.b)
KIND_TEST(no, v.kind == TN_JV_BOOL && !v.u.b)
KIND_TEST(integer, v.kind == TN_JV_INT)
KIND_TEST(float, v.kind == TN_JV_REAL)
KIND_TEST(number, tn_jv_is_number(v))
KIND_TEST(string, v.kind == TN_JV_STR)
KIND_TEST(mapping, v.kind == TN_JV_DICT)
KIND_TEST(iterable, tn_jv_iterable(v))
KIND_TEST(sequence,
          v.kind == TN_JV_STR || tn_jv_is_seq(v) || v.kind == TN_JV_DICT || v.kind == TN_JV_UNDEFINED)
KIND_TEST(callable, v.kind == TN_JV_MACRO || v.kind == TN_JV_FUNCTION || v.kind == TN_JV_LOOP ||
                        v.kind == TN_JV_CYCLER || v.kind == TN_JV_JOINER || v.kind == TN_JV_UNDEFINED)

/* Nothing is marked as safe for HTML: templates of chats make no HTML. */
TEST(escaped) { return (void)r, (void)v, (void)a, tn_jv_bool(0); }

static tn_jv with_other(tn_jinja_run *r, tn_jv v, const tn_jinja_args *a, const char *name, tn_jinja_op op) {
  if (!tn_jinja_takes(r, a, name, 1, 1)) return tn_jv_bool(false);
  return tn_jv_bool(tn_jinja_compare(r, op, v, a->count ? a->items[0] : a->named[0]));
}
TEST(eq) { return with_other(r, v, a, "eq", TN_OP_EQ); }
TEST(ne) { return with_other(r, v, a, "ne", TN_OP_NE); }
TEST(lt) { return with_other(r, v, a, "lt", TN_OP_LT); }
TEST(le) { return with_other(r, v, a, "le", TN_OP_LE); }
TEST(gt) { return with_other(r, v, a, "gt", TN_OP_GT); }
TEST(ge) { return with_other(r, v, a, "ge", TN_OP_GE); }
TEST(in) { return with_other(r, v, a, "in", TN_OP_IN); }

TEST(sameas) {
  if (!tn_jinja_takes(r, a, "sameas", 1, 1)) return tn_jv_bool(false);
  tn_jv other = tn_jinja_arg(a, 0, "other");
  if (v.kind != other.kind) return tn_jv_bool(false);
  if (v.kind == TN_JV_STR) return tn_jv_bool(v.u.s.ptr == other.u.s.ptr && v.u.s.len == other.u.s.len);
  return tn_jv_bool(v.kind <= TN_JV_REAL ? tn_jv_equal(r, v, other) : v.u.dict == other.u.dict);
}

TEST(divisibleby) {
  if (!tn_jinja_takes(r, a, "divisibleby", 1, 1)) return tn_jv_bool(false);
  tn_jv rest = tn_jinja_binary(r, TN_OP_MOD, v, tn_jinja_arg(a, 0, "num"));
  return tn_jv_bool(tn_jv_is_number(rest) && tn_jv_double(rest) == 0);
}
TEST(odd) {
  (void)a;
  tn_jv rest = tn_jinja_binary(r, TN_OP_MOD, v, tn_jv_int(2));
  return tn_jv_bool(tn_jv_is_number(rest) && tn_jv_double(rest) == 1);
}
TEST(even) {
  (void)a;
  tn_jv rest = tn_jinja_binary(r, TN_OP_MOD, v, tn_jv_int(2));
  return tn_jv_bool(tn_jv_is_number(rest) && tn_jv_double(rest) == 0);
}

static tn_jv cased(tn_jinja_run *r, tn_jv v, tn_jinja_class class) {
  v = tn_jv_text(r, v);
  return tn_jv_bool(v.kind == TN_JV_STR && tn_jinja_all(v.u.s, class));
}
TEST(lower) { return (void)a, cased(r, v, TN_CLASS_LOWER); }
TEST(upper) { return (void)a, cased(r, v, TN_CLASS_UPPER); }
TEST(filter);
TEST(test);

static const tn_jinja_row tests[] = {{"defined", test_defined},
                                     {"undefined", test_undefined},
                                     {"none", test_none},
                                     {"boolean", test_boolean},
                                     {"true", test_yes},
                                     {"false", test_no},
                                     {"integer", test_integer},
                                     {"float", test_float},
                                     {"number", test_number},
                                     {"string", test_string},
                                     {"mapping", test_mapping},
                                     {"iterable", test_iterable},
                                     {"sequence", test_sequence},
                                     {"callable", test_callable},
                                     {"escaped", test_escaped},
                                     {"eq", test_eq},
                                     {"==", test_eq},
                                     {"equalto", test_eq},
                                     {"ne", test_ne},
                                     {"!=", test_ne},
                                     {"lt", test_lt},
                                     {"<", test_lt},
                                     {"lessthan", test_lt},
                                     {"le", test_le},
                                     {"<=", test_le},
                                     {"gt", test_gt},
                                     {">", test_gt},
                                     {"greaterthan", test_gt},
                                     {"ge", test_ge},
                                     {">=", test_ge},
                                     {"in", test_in},
                                     {"sameas", test_sameas},
                                     {"divisibleby", test_divisibleby},
                                     {"odd", test_odd},
                                     {"even", test_even},
                                     {"lower", test_lower},
                                     {"upper", test_upper},
                                     {"filter", test_filter},
                                     {"test", test_test}};

TEST(filter) {
  (void)a;
  return tn_jv_bool(v.kind == TN_JV_STR && tn_jinja_has_filter(v.u.s) && !r->status);
}
TEST(test) {
  (void)a;
  return tn_jv_bool(v.kind == TN_JV_STR && tn_jinja_row_of(tests, TN_COUNT(tests), v.u.s) && !r->status);
}

bool tn_jinja_test(tn_jinja_run *r, tn_str name, tn_jv self, const tn_jinja_args *a) {
  const tn_jinja_row *row = tn_jinja_row_of(tests, TN_COUNT(tests), name);
  if (!row) {
    tn_jinja_fail(r, "no test named '%.*s'", (int)(name.len > 40 ? 40 : name.len), name.ptr);
    return false;
  }
  return tn_jv_true(row->call(r, self, a)) && !r->status;
}
