/* write_dims.c - sizes: as texts (dim_param) and as values, read with Shape from whatever has them and
 * computed from there. Nodes are made once, so each size is read once. */
#include "frontend/onnx/write_graph.h"
#include <string.h>

tn_dim tn_ow_d(tn_ow *w, int64_t k) { return w->ir->dim_const(w->m, k); }

tn_dim tn_ow_dmake(tn_ow *w, uint32_t kind, tn_dim a, tn_dim b) {
  return a && b ? w->ir->dim_make(w->m, kind, a, b) : 0;
}

tn_dim tn_ow_dsub(tn_ow *w, tn_dim a, tn_dim b) {
  return tn_ow_dmake(w, TN_DIM_ADD, a, tn_ow_dmake(w, TN_DIM_MUL, b, tn_ow_d(w, -1)));
}

bool tn_ow_dconst(tn_ow *w, tn_dim d, int64_t *k) { return d && w->ir->dim_is_const(w->m, d, k); }

static bool leaf(const tn_dim_info *i) {
  return i->kind == TN_DIM_CONST || i->kind == TN_DIM_SYM || i->kind == TN_DIM_UNKNOWN;
}

tn_dim tn_ow_settled(tn_ow *w, tn_dim d) {
  if (w->past || !w->position || !d) return d;
  tn_dim_info i;
  w->ir->dim_get(w->m, d, &i);
  if (d == w->position) return tn_ow_d(w, 0);
  if (leaf(&i)) return d;
  tn_dim a = tn_ow_settled(w, i.a), b = tn_ow_settled(w, i.b);
  return a == i.a && b == i.b ? d : tn_ow_dmake(w, i.kind, a, b);
}

static bool mentions(tn_ow *w, tn_dim d, tn_dim symbol) {
  tn_dim_info i;
  w->ir->dim_get(w->m, d, &i);
  return d == symbol || (!leaf(&i) && (mentions(w, i.a, symbol) || mentions(w, i.b, symbol)));
}

/* ---- text ------------------------------------------------------------------------------------------------
 */
/* What the symbols of decoders and encoders are called elsewhere; other names stay. */
static const char *symbol_text(tn_ow *w, tn_dim d, const char *symbol) {
  if (!w->task) return symbol;
  if (d == w->position) return "past_sequence_length";
  if (!strcmp(symbol, "B")) return "batch_size";
  return !strcmp(symbol, "S") ? "sequence_length" : symbol;
}

void tn_ow_dim_text(tn_ow *w, tn_dim d, tn_buf *out) {
  static const char *const infix[] = {
      [TN_DIM_ADD] = " + ", [TN_DIM_MUL] = "*", [TN_DIM_FLOORDIV] = "/", [TN_DIM_MOD] = "%"};
  tn_dim_info i;
  w->ir->dim_get(w->m, d, &i);
  if (i.kind == TN_DIM_CONST) {
    tn_buf_printf(out, "%lld", (long long)i.value);
  } else if (i.kind == TN_DIM_SYM) {
    tn_buf_puts(out, symbol_text(w, d, i.symbol));
  } else if (leaf(&i)) {
    tn_buf_puts(out, "unknown");
  } else if (i.kind == TN_DIM_MIN || i.kind == TN_DIM_MAX) {
    tn_buf_puts(out, i.kind == TN_DIM_MIN ? "min(" : "max(");
    tn_ow_dim_text(w, i.a, out);
    tn_buf_puts(out, ", ");
    tn_ow_dim_text(w, i.b, out);
    tn_buf_puts(out, ")");
  } else {
    tn_dim_info a, b;
    w->ir->dim_get(w->m, i.a, &a);
    w->ir->dim_get(w->m, i.b, &b);
    bool pa = i.kind != TN_DIM_ADD && !leaf(&a), pb = i.kind != TN_DIM_ADD && !leaf(&b);
    tn_buf_puts(out, pa ? "(" : "");
    tn_ow_dim_text(w, i.a, out);
    tn_buf_printf(out, "%s%s%s", pa ? ")" : "", infix[i.kind], pb ? "(" : "");
    tn_ow_dim_text(w, i.b, out);
    tn_buf_puts(out, pb ? ")" : "");
  }
}

/* ---- values ----------------------------------------------------------------------------------------------
 */
static void size_add(tn_ow *w, tn_dim d, tn_ov v, int32_t axis) {
  tn_ow_size s = {d, v, axis, w->graph};
  if (!tn_ow_failed(w) && v && !tn_vec_push(&w->sizes, s)) tn_ow_fail(w, TN_OOM, "out of memory");
}

void tn_ow_sizes_of(tn_ow *w, tn_ov v) {
  tn_ow_shape t = *tn_ow_type(w, v);
  int64_t k;
  for (uint32_t i = 0; i < t.rank; i++)
    if (!tn_ow_dconst(w, t.dims[i], &k)) size_add(w, t.dims[i], v, (int32_t)i);
}

void tn_ow_size_is(tn_ow *w, tn_dim d, tn_ov scalar) { size_add(w, d, scalar, -1); }

static bool visible(const tn_ow *w, uint32_t graph) {
  for (uint32_t g = w->graph; g; g = w->graphs.items[g]->parent)
    if (g == graph) return true;
  return false;
}

static tn_ov read_size(tn_ow *w, const tn_ow_size *s) {
  const tn_ow_shape one = {TN_DT_i64, 1, {tn_ow_d(w, 1)}},
                    all = {TN_DT_i64, 1, {tn_ow_d(w, tn_ow_rank(w, s->value))}};
  const int64_t front = 0;
  if (s->axis < 0) return tn_ow_unsqueeze(w, s->value, &front, 1);
  if (w->o.opset >= 15)
    return tn_ow_node1(w, "Shape", TN_OW_IN(s->value),
                       TN_OW_ATTRS(TN_OW_I("start", s->axis), TN_OW_I("end", s->axis + 1)), &one);
  int64_t at = s->axis;
  tn_ov shape = tn_ow_node1(w, "Shape", TN_OW_IN(s->value), NULL, &all);
  return tn_ow_gather(w, shape, tn_ow_ints_1d(w, &at, 1), 0);
}

/* k * symbol or symbol + rest, where rest is readable: the first such size gives the symbol. */
static tn_ov solve(tn_ow *w, tn_dim symbol, const tn_ow_size *s, bool only_check) {
  tn_dim_info i;
  int64_t k;
  w->ir->dim_get(w->m, s->dim, &i);
  if (i.kind == TN_DIM_MUL && (i.a == symbol || i.b == symbol) &&
      tn_ow_dconst(w, i.a == symbol ? i.b : i.a, &k) && k > 0)
    return only_check ? 1 : tn_ow_binary(w, "Div", read_size(w, s), tn_ow_ints_1d(w, &k, 1));
  tn_dim rest = tn_ow_dsub(w, s->dim, symbol);
  if (i.kind != TN_DIM_ADD || mentions(w, rest, symbol)) return 0;
  return only_check ? 1 : tn_ow_binary(w, "Sub", read_size(w, s), tn_ow_dim_value(w, rest));
}

static tn_ov symbol_value(tn_ow *w, tn_dim d, const char *symbol) {
  for (uint32_t k = 0; k < w->sizes.count; k++) {
    tn_ow_size s = w->sizes.items[k];
    if (visible(w, s.graph) && s.dim != d && mentions(w, s.dim, d) && solve(w, d, &s, true))
      return solve(w, d, &s, false);
  }
  if (d == w->capacity)
    tn_ow_fail(w, TN_UNSUPPORTED,
               "the result depends on the capacity '%s' of the cache, which an ONNX graph does not have",
               symbol);
  else
    tn_ow_fail(w, TN_UNSUPPORTED, "no input of the graph has the size '%s'", symbol);
  return 0;
}

bool tn_ow_may_be_negative(tn_ow *w, tn_dim d) {
  tn_dim_info i;
  w->ir->dim_get(w->m, d, &i);
  if (leaf(&i)) return i.kind == TN_DIM_CONST && i.value < 0;
  return tn_ow_may_be_negative(w, i.a) || tn_ow_may_be_negative(w, i.b);
}

static tn_ov arithmetic(tn_ow *w, const tn_dim_info *i) {
  static const char *const ops[] = {[TN_DIM_ADD] = "Add", [TN_DIM_MUL] = "Mul", [TN_DIM_FLOORDIV] = "Div",
                                    [TN_DIM_MOD] = "Mod", [TN_DIM_MIN] = "Min", [TN_DIM_MAX] = "Max"};
  tn_ov a = tn_ow_dim_value(w, i->a), b = tn_ow_dim_value(w, i->b);
  if (i->kind == TN_DIM_FLOORDIV && tn_ow_may_be_negative(w, i->a)) /* Div rounds towards zero */
    a = tn_ow_binary(w, "Sub", a, tn_ow_binary(w, "Mod", a, b));
  return tn_ow_binary(w, ops[i->kind], a, b);
}

tn_ov tn_ow_dim_value(tn_ow *w, tn_dim d) {
  int64_t k;
  tn_dim_info i;
  if (tn_ow_failed(w)) return 0;
  if (!d) return tn_ow_fail(w, TN_INTERNAL, "a size is missing"), 0;
  if (tn_ow_dconst(w, d, &k)) return tn_ow_ints_1d(w, &k, 1);
  for (uint32_t s = 0; s < w->sizes.count; s++)
    if (w->sizes.items[s].dim == d && visible(w, w->sizes.items[s].graph)) {
      tn_ow_size size = w->sizes.items[s];
      return read_size(w, &size);
    }
  w->ir->dim_get(w->m, d, &i);
  if (i.kind == TN_DIM_UNKNOWN) return tn_ow_fail(w, TN_UNSUPPORTED, "a size is not known"), 0;
  return i.kind == TN_DIM_SYM ? symbol_value(w, d, i.symbol) : arithmetic(w, &i);
}

tn_ov tn_ow_dim_scalar(tn_ow *w, tn_dim d) {
  const int64_t front = 0;
  const tn_ow_shape scalar = {.dtype = TN_DT_i64};
  int64_t k;
  if (tn_ow_dconst(w, d, &k)) return tn_ow_const(w, &scalar, &k, sizeof k);
  for (uint32_t s = 0; s < w->sizes.count; s++)
    if (w->sizes.items[s].dim == d && w->sizes.items[s].axis < 0 && visible(w, w->sizes.items[s].graph))
      return w->sizes.items[s].value;
  return tn_ow_squeeze(w, tn_ow_dim_value(w, d), &front, 1);
}

tn_ov tn_ow_shape_value(tn_ow *w, const tn_dim *dims, uint32_t rank) {
  int64_t known[TN_MAX_RANK] = {0};
  tn_ov parts[TN_MAX_RANK];
  uint32_t n = 0;
  bool all = true;
  for (uint32_t i = 0; i < rank; i++) all = tn_ow_dconst(w, dims[i], &known[i]) && all;
  if (all) return tn_ow_ints_1d(w, known, rank);
  for (uint32_t i = 0; i < rank;) { /* a run of known sizes is one part */
    uint32_t run = i;
    int64_t k;
    while (run < rank && tn_ow_dconst(w, dims[run], &k)) run++;
    parts[n++] = run > i ? tn_ow_ints_1d(w, known + i, run - i) : tn_ow_dim_value(w, dims[i]);
    i = run > i ? run : i + 1;
  }
  return tn_ow_concat(w, parts, n, 0);
}
