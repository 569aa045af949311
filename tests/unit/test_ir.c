/* test_ir.c - building, reading, rewriting, verifying and copying modules, and what happens when memory runs
 * out on the way. */
#include "ir/ir.h"
#include <check.h>
#include <stdio.h>

static tn_diags diags;
static tn_module *m;
static tn_loc loc;

static tn_loc page(uint32_t line, uint32_t col) {
  return tn_ir_loc_make(m,
                        &(tn_loc_info){.kind = TN_LOC_PAGE, .line = line, .col = col, .name = "bert.model"});
}

static void setup(void) {
  tn_diags_init(&diags);
  m = tn_module_new(&diags);
  loc = m ? page(12, 3) : 0;
}

static void teardown(void) {
  tn_module_free(m);
  tn_diags_fini(&diags);
}

static tn_type f32(uint32_t rank, tn_dim a, tn_dim b, tn_dim c) {
  return tn_ir_type_make(m, TN_DT_f32, rank, (tn_dim[]){a, b, c}, NULL);
}
static tn_dim num(int64_t v) { return tn_ir_dim_const(m, v); }

static tn_op make(tn_point at, const char *name, const tn_value *in, uint32_t nin, const tn_named_attr *attrs,
                  uint32_t nattrs, tn_type result) {
  tn_op_desc d = {
      .name = name, .operands = in, .noperands = nin, .attrs = attrs, .nattrs = nattrs, .loc = loc};
  if (result) d.results = &result, d.nresults = 1;
  return tn_ir_op_create(m, at, &d);
}

static tn_value unary(tn_point at, const char *name, tn_value x) {
  return tn_ir_op_result(m, make(at, name, &x, 1, NULL, 0, 0), 0);
}
static tn_value binary(tn_point at, const char *name, tn_value x, tn_value y) {
  return tn_ir_op_result(m, make(at, name, (tn_value[]){x, y}, 2, NULL, 0, 0), 0);
}
static uint32_t uses(tn_value v) {
  tn_value_info i;
  tn_ir_value_get(m, v, &i);
  return i.nuses;
}

static const char *last_error(void) {
  static tn_buf b;
  tn_buf_fini(&b);
  if (!diags.list.count) return "";
  tn_diags one = {0};
  one.list.items = &diags.list.items[diags.list.count - 1];
  one.list.count = 1;
  tn_diags_text(&one, &b, false);
  return tn_buf_cstr(&b);
}

START_TEST(tables_come_from_ops_def) {
  const tn_op_spec *s = tn_op_spec_of(tn_ir_opcode_by_name("rms_norm"));
  ck_assert_str_eq(s->name, "rms_norm");
  ck_assert_str_eq(s->family, "norm");
  ck_assert(s->flags == (TN_F_PURE | TN_F_REDUCES) && s->min_in == 1 && s->max_in == 2 && s->nout == 1);
  ck_assert(s->n_in == 2 && s->n_out == 1 && s->nattrs == 2);
  ck_assert(!s->in[0].optional && s->in[1].optional && s->in[0].constraint == TN_C_FLOAT);
  ck_assert_str_eq(s->attrs[0].name, "eps");
  ck_assert(s->attrs[0].required && !s->attrs[1].required && s->attrs[0].kind == TN_ATTR_FLOAT);
  ck_assert(tn_op_spec_of(0) == NULL && tn_op_spec_of(TN_OPC_COUNT) == NULL);
  ck_assert_uint_eq(tn_ir_opcode_by_name("nothing"), 0);
  for (uint32_t c = 1; c < TN_OPC_COUNT; c++)
    ck_assert_uint_eq(tn_ir_opcode_by_name(tn_ir_opcode_name(c)), c);
  ck_assert_uint_eq(tn_ir_table.size, sizeof(tn_ir));
  ck_assert(tn_ir_table.op_create == tn_ir_op_create && tn_ir_table.report == tn_ir_report);
}
END_TEST

START_TEST(element_types) {
  ck_assert_uint_eq(tn_ir_dtype_info(TN_DT_bf16)->bits, 16);
  ck_assert_uint_eq(tn_ir_dtype_info(TN_DT_bool)->cls, TN_CLASS_BOOL);
  ck_assert_uint_eq(tn_ir_dtype_info(TN_DT_i4)->bits, 4);
  tn_dtype q = tn_ir_dtype_by_name("q5_1");
  ck_assert(q >= TN_DT_BLOCK && tn_ir_dtype_info(q)->block_values == 32 &&
            tn_ir_dtype_info(q)->block_bytes == 24);
  ck_assert(!tn_ir_dtype_info(0) && !tn_ir_dtype_info(TN_DT_PLAIN_END) && !tn_ir_dtype_info(9999));
  ck_assert_uint_eq(tn_ir_dtype_by_name("float"), 0);
}
END_TEST

START_TEST(defaults_are_filled_and_kinds_checked) {
  tn_func f = tn_ir_func_add(m, "f");
  tn_point at = {.func = f};
  tn_value x = tn_ir_func_arg_add(m, f, "x", f32(2, num(4), num(8), 0));
  tn_named_attr eps = {"eps", {.kind = TN_ATTR_FLOAT, .u.f = 1e-6}};
  tn_op op = make(at, "rms_norm", &x, 1, &eps, 1, 0);
  tn_attr a;
  ck_assert(tn_ir_op_attr(m, op, "eps", &a) && a.kind == TN_ATTR_FLOAT && a.u.f == 1e-6);
  ck_assert(tn_ir_op_attr(m, op, "offset", &a) && a.u.f == 0);
  ck_assert(!tn_ir_op_attr(m, op, "epsilon", &a));
  op = make(at, "gelu", &x, 1, NULL, 0, 0);
  ck_assert(tn_ir_op_attr(m, op, "form", &a) && !strcmp(a.u.s, "erf"));
  ck_assert_int_eq(tn_ir_op_set_attr(m, op, "form", &(tn_attr){.kind = TN_ATTR_STR, .u.s = "tanh"}), TN_OK);
  ck_assert(tn_ir_op_attr(m, op, "form", &a) && !strcmp(a.u.s, "tanh"));
  ck_assert_uint_eq(diags.errors, 0);

  ck_assert_uint_eq(make(at, "rms_norm", &x, 1, NULL, 0, 0), 0);
  ck_assert_str_eq(last_error(), "bert.model:12:3: error: rms_norm: attribute 'eps' is missing\n");
  tn_named_attr wrong = {"epd", {.kind = TN_ATTR_FLOAT}};
  ck_assert_uint_eq(make(at, "rms_norm", &x, 1, &wrong, 1, 0), 0);
  ck_assert_str_eq(last_error(),
                   "bert.model:12:3: error: rms_norm: there is no attribute 'epd'; did you mean 'eps'?\n");
  wrong = (tn_named_attr){"eps", {.kind = TN_ATTR_INT, .u.i = 1}};
  ck_assert_uint_eq(make(at, "rms_norm", &x, 1, &wrong, 1, 0), 0);
  ck_assert_str_eq(last_error(), "bert.model:12:3: error: attribute 'eps' wants float, not integer\n");
  tn_named_attr twice[2] = {eps, eps};
  ck_assert_uint_eq(make(at, "rms_norm", &x, 1, twice, 2, 0), 0);
  ck_assert_uint_eq(make(at, "rmsnorm", &x, 1, &eps, 1, 0), 0);
  tn_loc keep = loc;
  loc = 0;
  ck_assert_uint_eq(make(at, "neg", &x, 1, NULL, 0, 0), 0);
  ck_assert_str_eq(last_error(), "error: neg: an op needs a location\n");
  loc = keep;
  ck_assert_int_eq(tn_ir_op_set_attr(m, op, "form", &(tn_attr){.kind = TN_ATTR_INT}), TN_INVALID);
}
END_TEST

START_TEST(operands_are_checked) {
  tn_func f = tn_ir_func_add(m, "f"), g = tn_ir_func_add(m, "g");
  tn_point at = {.func = f};
  tn_dim four = num(4);
  tn_value x = tn_ir_func_arg_add(m, f, "x", f32(1, four, 0, 0)),
           y = tn_ir_func_arg_add(m, g, "y", f32(1, four, 0, 0));
  tn_value ids = tn_ir_func_arg_add(m, f, "ids", tn_ir_type_make(m, TN_DT_i32, 1, &four, NULL));
  ck_assert_uint_eq(binary(at, "add", x, y), 0); /* of another function */
  ck_assert_uint_eq(diags.errors, 1);
  ck_assert_uint_eq(binary(at, "add", x, 999), 0);
  ck_assert_uint_eq(binary(at, "add", x, 0), 0);
  ck_assert_uint_eq(unary(at, "add", x), 0);
  ck_assert_uint_eq(unary(at, "exp", ids), 0);
  ck_assert_uint_eq(diags.errors, 5);
  tn_type stated = f32(1, num(5), 0, 0);
  ck_assert_uint_eq(make(at, "neg", &x, 1, NULL, 0, stated), 0);
  ck_assert_str_eq(last_error(),
                   "bert.model:12:3: error: neg: result 0 is stated as f32[5], but is f32[4]\n");
  tn_dim s[4] = {num(1), num(8), num(2), num(4)};
  tn_type t = tn_ir_type_make(m, TN_DT_f32, 4, s, NULL);
  tn_value x4 = tn_ir_func_arg_add(m, f, "x4", t), in[2] = {x4, x4};
  tn_state_info state;
  tn_ir_state_get(m, tn_ir_state_add(m, "k", t), &state);
  tn_named_attr pos = {"pos", {.kind = TN_ATTR_DIM, .u.dim = num(0)}};
  ck_assert_uint_eq(make(at, "kv_update", in, 2, &pos, 1, 0), 0); /* not a state */
  in[0] = state.value;
  tn_value once = tn_ir_op_result(m, make(at, "kv_update", in, 2, &pos, 1, 0), 0);
  ck_assert(once);
  in[0] = once; /* the state after a write is a state */
  ck_assert(make(at, "kv_update", in, 2, &pos, 1, 0));
  ck_assert_uint_eq(tn_ir_func_arg_add(m, f, "x", t), 0);
  ck_assert_uint_eq(tn_ir_func_add(m, "f"), 0);
  ck_assert_uint_eq(tn_ir_state_add(m, "k", t), 0);
  ck_assert_uint_eq(tn_ir_weight_add(m, "k", t, NULL, 0), 0);
  ck_assert_uint_eq(tn_ir_weight_add(m, "\xff", t, NULL, 0), 0);
  ck_assert_uint_eq(tn_ir_weight_add(m, "w", 0, NULL, 0), 0);
}
END_TEST

START_TEST(messages_name_the_place) {
  tn_loc node =
      tn_ir_loc_make(m, &(tn_loc_info){.kind = TN_LOC_NODE, .line = 217, .name = "layer.3/MatMul_1"});
  tn_loc tensor = tn_ir_loc_make(m, &(tn_loc_info){.kind = TN_LOC_TENSOR, .name = "wte"});
  tn_loc fused = tn_ir_loc_make(m, &(tn_loc_info){.kind = TN_LOC_FUSED, .a = node, .b = tensor});
  tn_loc derived = tn_ir_loc_make(m, &(tn_loc_info){.kind = TN_LOC_DERIVED, .name = "fold", .a = fused});
  ck_assert_uint_eq(
      node, tn_ir_loc_make(m, &(tn_loc_info){.kind = TN_LOC_NODE, .line = 217, .name = "layer.3/MatMul_1"}));
  tn_ir_report(m, TN_WARNING, derived, "%d and %d", 64, 32);
  ck_assert_str_eq(last_error(), "node 217 'layer.3/MatMul_1': warning: 64 and 32\n");
  tn_ir_report(m, TN_NOTE, tensor, "x");
  ck_assert_str_eq(last_error(), "tensor 'wte': note: x\n");
  tn_ir_report(m, TN_ERROR, page(1, 2), "x");
  ck_assert_str_eq(last_error(), "bert.model:1:2: error: x\n");
  ck_assert_uint_eq(tn_ir_loc_make(m, &(tn_loc_info){.kind = 99}), 0);
  ck_assert_uint_eq(tn_ir_loc_make(m, &(tn_loc_info){.kind = TN_LOC_DERIVED}), 0);
  for (int i = 0; i < 200; i++)
    fused = tn_ir_loc_make(m, &(tn_loc_info){.kind = TN_LOC_FUSED, .a = fused, .b = page(7, (uint32_t)i)});
  tn_loc_info info;
  uint32_t depth = 0;
  for (tn_ir_loc_get(m, fused, &info); info.kind == TN_LOC_FUSED; tn_ir_loc_get(m, info.a, &info)) depth++;
  ck_assert_uint_lt(depth, 64);
}
END_TEST

/* x -> a = neg x, b = exp a, c = add b a, return c */
typedef struct chain {
  tn_func f;
  tn_value x, a, b, c;
  tn_op end;
} chain;
static chain chain_make(const char *name) {
  chain t = {.f = tn_ir_func_add(m, name)};
  tn_point at = {.func = t.f};
  t.x = tn_ir_func_arg_add(m, t.f, "x", f32(2, tn_ir_dim_sym(m, "B"), num(8), 0));
  t.a = unary(at, "neg", t.x);
  t.b = unary(at, "exp", t.a);
  t.c = binary(at, "add", t.b, t.a);
  t.end = make(at, "return", &t.c, 1, NULL, 0, 0);
  return t;
}

static tn_op def(tn_value v) {
  tn_value_info i;
  tn_ir_value_get(m, v, &i);
  return i.op;
}

START_TEST(uses_are_exact) {
  chain t = chain_make("f");
  uint32_t operand = 9;
  ck_assert_int_eq(tn_module_verify(m), TN_OK);
  ck_assert(uses(t.x) == 1 && uses(t.a) == 2 && uses(t.b) == 1 && uses(t.c) == 1);
  ck_assert_uint_eq(tn_ir_value_use(m, t.a, 1, &operand), def(t.c));
  ck_assert_uint_eq(operand, 1);
  ck_assert_uint_eq(tn_ir_value_use(m, t.a, 2, &operand), 0);
  ck_assert_int_eq(tn_ir_op_set_operand(m, def(t.c), 1, t.b), TN_OK);
  ck_assert(uses(t.a) == 1 && uses(t.b) == 2);
  ck_assert_int_eq(tn_ir_op_set_operand(m, def(t.c), 2, t.b), TN_INVALID);
  ck_assert_int_eq(tn_ir_op_set_operand(m, def(t.c), 1, 0), TN_INVALID);
  ck_assert_int_eq(tn_ir_value_replace(m, t.b, t.a), TN_OK);
  ck_assert(uses(t.a) == 3 && uses(t.b) == 0);
  ck_assert_int_eq(tn_module_verify(m), TN_OK);
  ck_assert_int_eq(tn_ir_op_erase(m, def(t.a)), TN_PRECONDITION);
  tn_op gone = def(t.b);
  ck_assert_int_eq(tn_ir_op_erase(m, gone), TN_OK);
  ck_assert_int_eq(tn_ir_op_erase(m, gone), TN_INVALID);
  ck_assert(uses(t.a) == 2 && tn_ir_opcode(m, gone) == 0 && tn_ir_op_noperands(m, gone) == 0 &&
            !tn_ir_op_result(m, gone, 0));
  tn_value_info i;
  tn_ir_value_get(m, t.b, &i);
  ck_assert_uint_eq(i.kind, 0);
  ck_assert_int_eq(tn_ir_value_replace(m, t.a, t.b), TN_INVALID);
  ck_assert_uint_ne(unary((tn_point){.before = t.end}, "neg", t.a), t.b); /* ids are not used again */
  ck_assert_int_eq(tn_module_verify(m), TN_OK);
}
END_TEST

START_TEST(optional_operands_come_and_go) {
  tn_func f = tn_ir_func_add(m, "f");
  tn_value x = tn_ir_func_arg_add(m, f, "x", f32(2, num(3), num(8), 0)),
           s = tn_ir_func_arg_add(m, f, "s", f32(1, num(8), 0, 0));
  tn_named_attr eps = {"eps", {.kind = TN_ATTR_FLOAT, .u.f = 1e-6}};
  tn_value in[3] = {x, 0, 0};
  tn_op op = make((tn_point){.func = f}, "layer_norm", in, 3, &eps, 1, 0);
  ck_assert_uint_eq(tn_ir_op_noperands(m, op), 1); /* absent ones at the end are not counted */
  ck_assert_int_eq(tn_ir_op_set_operand(m, op, 2, s), TN_OK);
  ck_assert(tn_ir_op_noperands(m, op) == 3 && tn_ir_op_operand(m, op, 1) == 0 &&
            tn_ir_op_operand(m, op, 2) == s && uses(s) == 1);
  ck_assert_int_eq(tn_ir_op_set_operand(m, op, 2, 0), TN_OK);
  ck_assert(tn_ir_op_noperands(m, op) == 1 && uses(s) == 0);
  ck_assert_int_eq(tn_ir_op_set_operand(m, op, 0, 0), TN_INVALID);
}
END_TEST

START_TEST(a_function_returns_once) {
  chain t = chain_make("f");
  ck_assert_uint_eq(make((tn_point){.func = t.f}, "return", &t.a, 1, NULL, 0, 0), 0);
  ck_assert_str_eq(last_error(), "bert.model:12:3: error: return: function 'f' has one already\n");
  ck_assert_int_eq(tn_ir_func_result_names(m, t.f, (const char *[]){"a", "b"}, 2), TN_INVALID);
  tn_func_info i;
  tn_ir_func_get(m, t.f, &i);
  ck_assert(i.nresults == 1 && i.results[0] == f32(2, tn_ir_dim_sym(m, "B"), num(8), 0));
  ck_assert_str_eq(i.result_names[0], "out");
}
END_TEST

START_TEST(ops_move_and_the_verifier_sees_order) {
  chain t = chain_make("f");
  ck_assert_int_eq(tn_ir_op_move(m, def(t.b), (tn_point){.before = def(t.a)}), TN_OK);
  ck_assert_uint_eq(tn_ir_first_op(m, t.f, 0), def(t.b));
  ck_assert_int_eq(tn_module_verify(m), TN_INVALID);
  ck_assert_str_eq(last_error(),
                   "bert.model:12:3: error: exp: operand 0, %2, is not defined before its use\n");
  ck_assert_int_eq(tn_ir_op_move(m, def(t.b), (tn_point){.before = def(t.c)}), TN_OK);
  ck_assert_int_eq(tn_module_verify(m), TN_OK);
  ck_assert_int_eq(tn_ir_op_move(m, def(t.b), (tn_point){.func = t.f}), TN_OK); /* behind the return */
  ck_assert_uint_eq(tn_ir_last_op(m, t.f, 0), def(t.b));
  ck_assert_int_eq(tn_module_verify(m), TN_INVALID);
  ck_assert_int_eq(tn_ir_op_move(m, def(t.b), (tn_point){.func = 77}), TN_INVALID);
}
END_TEST

START_TEST(the_verifier_infers_again) {
  tn_func f = tn_ir_func_add(m, "f");
  tn_value x = tn_ir_func_arg_add(m, f, "x", f32(2, num(3), num(8), 0)),
           y = tn_ir_func_arg_add(m, f, "y", f32(2, num(5), num(8), 0));
  tn_value a = unary((tn_point){.func = f}, "neg", x);
  make((tn_point){.func = f}, "return", &a, 1, NULL, 0, 0);
  ck_assert_int_eq(tn_ir_op_set_operand(m, def(a), 0, y), TN_OK);
  ck_assert_int_eq(tn_module_verify(m), TN_INVALID);
  ck_assert_str_eq(last_error(),
                   "bert.model:12:3: error: result 0 is f32[3, 8], but is inferred as f32[5, 8]\n");
  ck_assert_int_eq(tn_ir_op_set_operand(m, def(a), 0, x), TN_OK);
  ck_assert_int_eq(tn_module_verify(m), TN_OK);
  ck_assert_int_eq(tn_ir_op_set_operand(m, tn_ir_last_op(m, f, 0), 0, y), TN_OK);
  ck_assert_int_eq(tn_module_verify(m), TN_INVALID);
  ck_assert_str_eq(
      last_error(),
      "bert.model:12:3: error: return: operand 0 is f32[5, 8], but the function states f32[3, 8]\n");
}
END_TEST

START_TEST(weights_have_their_bytes) {
  tn_part parts[2] = {{"a", 0, 64}, {"b", 8, 60}};
  tn_weight w = tn_ir_weight_add(m, "w", f32(2, num(4), num(8), 0), parts, 2);
  ck_assert_int_eq(tn_module_verify(m), TN_INVALID);
  ck_assert_str_eq(last_error(), "error: weight 'w': its type has 128 bytes, but its parts have 124\n");
  tn_weight_info i;
  tn_ir_weight_get(m, w, &i);
  ck_assert(i.nparts == 2 && i.parts[1].bytes == 60 && !strcmp(i.parts[1].file, "b"));
  parts[1].bytes = 64;
  ck_assert(tn_ir_weight_add(m, "w2", i.type, parts, 2));
  parts[1].bytes = UINT64_MAX - 8;
  ck_assert(tn_ir_weight_add(m, "w3", i.type, parts, 2));
  diags.errors = 0;
  ck_assert_int_eq(tn_module_verify(m), TN_INVALID);
  ck_assert_uint_eq(diags.errors, 2); /* w and w3 */
}
END_TEST

/* r = kernel(x, w) { y = mul x w; yield y } */
static tn_op kernel_make(tn_func f, tn_value x, tn_value w) {
  tn_value_info i;
  tn_ir_value_get(m, x, &i);
  tn_op k = make((tn_point){.func = f}, "kernel", (tn_value[]){x, w}, 2, NULL, 0, i.type);
  tn_value a = tn_ir_body_arg_add(m, k, i.type);
  tn_ir_value_get(m, w, &i);
  tn_value b = tn_ir_body_arg_add(m, k, i.type), y = binary((tn_point){.parent = k}, "mul", a, b);
  make((tn_point){.parent = k}, "yield", &y, 1, NULL, 0, 0);
  return k;
}

START_TEST(kernels_are_isolated) {
  tn_func f = tn_ir_func_add(m, "f");
  tn_type t = f32(2, num(3), num(8), 0);
  tn_value x = tn_ir_func_arg_add(m, f, "x", t);
  tn_weight_info w;
  tn_ir_weight_get(m, tn_ir_weight_add(m, "w", t, NULL, 0), &w);
  tn_op k = kernel_make(f, x, w.value);
  tn_value r = tn_ir_op_result(m, k, 0), b = tn_ir_body_arg(m, k, 1);
  make((tn_point){.func = f}, "return", &r, 1, NULL, 0, 0);
  ck_assert_int_eq(tn_module_verify(m), TN_OK);
  ck_assert(tn_ir_body_nargs(m, k) == 2 && tn_ir_parent_op(m, tn_ir_first_op(m, 0, k)) == k &&
            tn_ir_op_func(m, tn_ir_first_op(m, 0, k)) == f);
  ck_assert_uint_eq(tn_ir_body_arg_add(m, k, t), 0); /* no third operand */
  ck_assert_uint_eq(unary((tn_point){.parent = k}, "neg", x), 0);
  ck_assert_str_eq(last_error(), "bert.model:12:3: error: neg: operand 0, %x, is not visible here\n");
  ck_assert_uint_eq(unary((tn_point){.func = f}, "neg", b), 0);
  ck_assert_uint_eq(make((tn_point){.parent = k}, "kernel", NULL, 0, NULL, 0, t), 0);
  ck_assert_int_eq(tn_ir_op_move(m, k, (tn_point){.parent = k}), TN_INVALID);

  ck_assert_int_eq(tn_ir_weight_set_type(m, 7, t), TN_INVALID);
  ck_assert_int_eq(
      tn_ir_weight_set_type(m, 1, tn_ir_type_make(m, TN_DT_f32, 2, (tn_dim[]){num(3), num(8)}, "panel16")),
      TN_OK);
  tn_value_info i;
  tn_ir_value_get(m, b, &i); /* the body's argument follows the weight */
  tn_type_info ti;
  tn_ir_type_get(m, i.type, &ti);
  ck_assert_str_eq(ti.layout, "panel16");
  ck_assert_int_eq(tn_ir_weight_set_type(m, 1, t), TN_OK);

  ck_assert_int_eq(tn_ir_op_set_operand(m, tn_ir_first_op(m, 0, k), 1, w.value), TN_OK);
  ck_assert_int_eq(tn_module_verify(m), TN_INVALID);
  ck_assert_str_eq(last_error(),
                   "bert.model:12:3: error: mul: operand 1, @w, cannot be read inside a kernel\n");
  ck_assert_int_eq(tn_ir_op_set_operand(m, tn_ir_first_op(m, 0, k), 1, b), TN_OK);
  ck_assert_int_eq(tn_ir_op_set_operand(m, tn_ir_last_op(m, f, 0), 0, x), TN_OK);
  ck_assert_int_eq(tn_ir_op_erase(m, k), TN_OK); /* with its body */
  ck_assert_uint_eq(uses(w.value), 0);
  ck_assert_int_eq(tn_module_verify(m), TN_OK);
}
END_TEST

START_TEST(states_pass_through_kernels) {
  tn_func f = tn_ir_func_add(m, "f");
  tn_type t = tn_ir_type_make(m, TN_DT_f32, 4, (tn_dim[]){num(1), num(8), num(2), num(4)}, NULL);
  tn_value x = tn_ir_func_arg_add(m, f, "x", t);
  tn_state_info s;
  tn_ir_state_get(m, tn_ir_state_add(m, "k", t), &s);
  tn_named_attr pos = {"pos", {.kind = TN_ATTR_DIM, .u.dim = num(0)}};
  tn_value state = s.value;
  for (int i = 0; i < 3; i++) { /* each kernel writes the state that the one before it wrote */
    tn_op k = make((tn_point){.func = f}, "kernel", (tn_value[]){state, x}, 2, NULL, 0, t);
    tn_value in[2] = {tn_ir_body_arg_add(m, k, t), tn_ir_body_arg_add(m, k, t)};
    tn_value y = tn_ir_op_result(m, make((tn_point){.parent = k}, "kv_update", in, 2, &pos, 1, 0), 0);
    make((tn_point){.parent = k}, "yield", &y, 1, NULL, 0, 0);
    state = tn_ir_op_result(m, k, 0);
  }
  make((tn_point){.func = f}, "return", &x, 1, NULL, 0, 0);
  ck_assert_int_eq(tn_module_verify(m), TN_OK);
  ck_assert_uint_eq(tn_func_dce(m, f), 0); /* they write a state */
}
END_TEST

START_TEST(dead_ops_go) {
  chain t = chain_make("f");
  tn_value w[2] = {unary((tn_point){.before = t.end}, "exp", t.c), 0};
  w[1] = unary((tn_point){.before = t.end}, "neg", w[0]);
  kernel_make(t.f, w[1], w[1]);
  tn_ir_op_move(m, t.end, (tn_point){.func = t.f});
  tn_op live = kernel_make(t.f, t.c, t.c);
  tn_ir_op_move(m, t.end, (tn_point){.func = t.f});
  unary((tn_point){.before = tn_ir_last_op(m, 0, live)}, "exp", tn_ir_body_arg(m, live, 0));
  tn_ir_op_set_operand(m, t.end, 0, tn_ir_op_result(m, live, 0));
  ck_assert_int_eq(tn_module_verify(m), TN_OK);
  ck_assert_uint_eq(tn_func_dce(m, t.f),
                    4); /* the dead kernel, its two inputs, the exp inside the live one */
  ck_assert_int_eq(tn_module_verify(m), TN_OK);
  ck_assert(uses(t.c) == 2);
  ck_assert_uint_eq(tn_func_dce(m, t.f), 0);
}
END_TEST

static char *text_of(tn_module *x) {
  tn_buf b = {0};
  ck_assert_int_eq(tn_module_print(x, &b), TN_OK);
  return b.text;
}

START_TEST(a_clone_stands_alone) {
  chain t = chain_make("f");
  tn_ir_module_set_name(m, "one");
  tn_ir_meta_set(m, "k", "v");
  tn_ir_dim_constrain(m, tn_ir_dim_sym(m, "B"), num(512));
  tn_ir_value_set_name(m, t.b, "b");
  kernel_make(t.f, t.c, t.c);
  tn_ir_op_move(m, t.end, (tn_point){.func = t.f});
  tn_diags other;
  tn_diags_init(&other);
  tn_module *copy = tn_module_clone(m, &other);
  char *first = text_of(m), *second = text_of(copy);
  ck_assert_str_eq(first, second);
  tn_module *was = m;
  m = copy; /* the same ids; the original may go */
  tn_module_free(was);
  ck_assert_int_eq(tn_module_verify(m), TN_OK);
  ck_assert_uint_eq(tn_ir_dim_sym(m, "B"), tn_ir_dim_sym(m, "B"));
  ck_assert_uint_eq(tn_dim_symbols(m), 1);
  ck_assert(page(12, 3) == loc); /* interned in the copy as well */
  ck_assert_uint_eq(f32(2, tn_ir_dim_sym(m, "B"), num(8), 0), 1);
  ck_assert_int_eq(tn_ir_value_replace(m, t.b, t.a), TN_OK);
  ck_assert(uses(t.a) == 3);
  ck_assert_uint_eq(tn_ir_func_add(m, "f"), 0); /* names are taken there too */
  ck_assert_uint_eq(other.errors, 1);
  tn_mem_free(first);
  tn_mem_free(second);
  tn_module_free(m);
  tn_diags_fini(&other);
  m = NULL;
}
END_TEST

START_TEST(functions_specialise) {
  tn_dim B = tn_ir_dim_sym(m, "B"), S = tn_ir_dim_sym(m, "S");
  tn_func f = tn_ir_func_add(m, "f"), g;
  tn_point at = {.func = f};
  tn_value x = tn_ir_func_arg_add(m, f, "x", f32(3, B, S, num(8)));
  tn_dim shape[2] = {tn_dim_mul(m, B, S), num(8)};
  tn_named_attr a = {"shape", {.kind = TN_ATTR_DIMS, .count = 2, .u.dims = shape}};
  tn_value y = tn_ir_op_result(m, make(at, "reshape", &x, 1, &a, 1, 0), 0);
  tn_ir_value_set_name(m, y, "flat");
  tn_op k = kernel_make(f, y, y);
  tn_value r = tn_ir_op_result(m, k, 0);
  ck_assert_int_eq(tn_ir_func_result_names(m, f, (const char *[]){"y"}, 1), TN_OK);
  make(at, "return", &r, 1, NULL, 0, 0);
  tn_attr slots = {.kind = TN_ATTR_DIMS, .count = 1, .u.dims = shape};
  tn_ir_func_set_attr(m, f, "slots", &slots);
  g = tn_func_clone(m, f, "f_decode", "S", num(1));
  ck_assert_uint_eq(g, 2);
  ck_assert_int_eq(tn_module_verify(m), TN_OK);
  tn_func_info i;
  tn_ir_func_get(m, g, &i);
  ck_assert_uint_eq(i.results[0], f32(2, B, num(8), 0));
  ck_assert_str_eq(i.result_names[0], "y");
  tn_attr got;
  ck_assert(tn_ir_func_attr(m, g, "slots", &got) && got.count == 1 && got.u.dims[0] == B);
  ck_assert(tn_ir_op_attr(m, tn_ir_first_op(m, g, 0), "shape", &got) && got.u.dims[0] == B);
  ck_assert_str_eq(tn_ir_value_name(m, tn_ir_op_result(m, tn_ir_first_op(m, g, 0), 0)), "flat");
  tn_ir_func_get(m, f, &i);
  ck_assert_uint_eq(i.results[0], f32(2, shape[0], num(8), 0)); /* the original stays */
  ck_assert_uint_eq(tn_func_clone(m, f, "f", NULL, 0), 0);
  ck_assert_uint_eq(tn_func_clone(m, f, "plain", NULL, 0), 3);
  ck_assert_int_eq(tn_module_verify(m), TN_OK);
}
END_TEST

/* ---- when memory runs out ---- */

static tn_status build_and_use(char **text) {
  setup();
  tn_status status = TN_OOM;
  tn_buf out = {0};
  if (m && loc) {
    chain t = chain_make("f");
    tn_part part = {"file", 0, 256};
    tn_weight w = tn_ir_weight_add(m, "w", f32(2, num(8), num(8), 0), &part, 1);
    tn_op k = kernel_make(t.f, t.c, t.c);
    tn_value r = tn_ir_op_result(m, k, 0);
    bool ok = t.end && k && w && !tn_ir_op_move(m, t.end, (tn_point){.func = t.f}) &&
              !tn_ir_op_set_operand(m, t.end, 0, r) && !tn_ir_meta_set(m, "k", "v") &&
              !tn_ir_value_set_name(m, r, "r");
    tn_module *copy = ok ? tn_module_clone(m, &diags) : NULL;
    ok = copy && tn_func_clone(copy, t.f, "g", "B", tn_ir_dim_const(copy, 2)) && !tn_module_verify(copy);
    status = ok ? tn_module_print(copy, &out) : TN_OOM;
    tn_module_free(copy);
  }
  tn_mem_fail_after(-1);
  if (status) tn_buf_fini(&out);
  *text = out.text;
  teardown();
  return status;
}

START_TEST(no_allocation_may_fail_unseen) {
  char *whole = NULL, *text = NULL;
  ck_assert_int_eq(build_and_use(&whole), TN_OK);
  long n = 0;
  for (;; n++) {
    tn_mem_fail_after(n);
    tn_status status = build_and_use(&text);
    tn_mem_fail_after(-1);
    if (status == TN_OK) break;
    ck_assert_ptr_null(text);
  }
  ck_assert_int_gt(n, 100); /* as many as it takes */
  ck_assert_str_eq(text, whole);
  tn_mem_free(text);
  tn_mem_free(whole);
}
END_TEST

int main(void) {
  Suite *s = suite_create("ir");
  TCase *t = tcase_create("ir");
  tcase_set_timeout(t, 120);
  tcase_add_checked_fixture(t, setup, teardown);
  tcase_add_test(t, tables_come_from_ops_def);
  tcase_add_test(t, element_types);
  tcase_add_test(t, defaults_are_filled_and_kinds_checked);
  tcase_add_test(t, operands_are_checked);
  tcase_add_test(t, messages_name_the_place);
  tcase_add_test(t, uses_are_exact);
  tcase_add_test(t, optional_operands_come_and_go);
  tcase_add_test(t, a_function_returns_once);
  tcase_add_test(t, ops_move_and_the_verifier_sees_order);
  tcase_add_test(t, the_verifier_infers_again);
  tcase_add_test(t, weights_have_their_bytes);
  tcase_add_test(t, kernels_are_isolated);
  tcase_add_test(t, states_pass_through_kernels);
  tcase_add_test(t, dead_ops_go);
  tcase_add_test(t, a_clone_stands_alone);
  tcase_add_test(t, functions_specialise);
  suite_add_tcase(s, t);
  TCase *memory = tcase_create("memory");
  tcase_set_timeout(memory, 120);
  tcase_add_test(memory, no_allocation_may_fail_unseen);
  suite_add_tcase(s, memory);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
