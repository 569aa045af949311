/* einsum.c - Einsum. Every axis has a letter; an ellipsis stands for letters of its own, counted from the
 * right. The operands are taken together from left to right: letters that nobody needs any more are summed
 * away, in a matrix product where both operands have them. */
#include "frontend/onnx/ops/math.h"

enum { LETTERS = 52, MAX_LABELS = LETTERS + TN_MAX_RANK, MAX_TERMS = 64 };

typedef struct term {
  uint8_t label[TN_MAX_RANK]; /* of each axis */
  uint32_t n;
  tn_value v;
} term;

typedef struct einsum {
  tn_ox *x;
  tn_ox_node *node;
  term in[MAX_TERMS], out;
  uint32_t nin, dots;         /* dots: axes of an ellipsis */
  uint32_t times[MAX_LABELS]; /* how often a letter stands on the left */
} einsum;

static bool fail(einsum *s, const char *what, const char *at) {
  tn_ox_fail(s->x, s->node, "%s in the equation at '%.40s'", what, at);
  return false;
}

static int label_of(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  return c >= 'a' && c <= 'z' ? c - 'a' + 26 : -1;
}

/* ---- the equation
 * ------------------------------------------------------------------------------------------- */

/* The letters of one term; `dots`: how many axes its ellipsis has. */
static bool read_term(einsum *s, const char **p, term *t, uint32_t dots) {
  const char *c = *p;
  bool seen = false;
  for (; *c && *c != ',' && strncmp(c, "->", 2); c++) {
    uint32_t more = 1;
    int label = label_of(*c);
    if (*c == ' ') continue;
    if (!strncmp(c, "...", 3) && !seen) {
      seen = true;
      more = dots;
      label = LETTERS + TN_MAX_RANK - (int)dots;
      c += 2;
    } else if (label < 0) {
      return fail(s, "no letter", c);
    }
    if (t->n + more > TN_MAX_RANK) return fail(s, "too many letters", *p);
    for (uint32_t i = 0; i < more; i++) t->label[t->n++] = (uint8_t)(label + (int)i);
  }
  *p = c;
  return true;
}

/* Letters of a term without its ellipsis, which *has reports. */
static uint32_t letters(const char *p, bool *has) {
  uint32_t n = 0;
  *has = false;
  for (; *p && *p != ',' && strncmp(p, "->", 2); p++) {
    *has |= *p == '.';
    n += label_of(*p) >= 0;
  }
  return n;
}

static bool read_operand(einsum *s, const char **p) {
  tn_ox *x = s->x;
  bool has;
  if (s->nin == MAX_TERMS || s->nin == tn_ox_nin(s->node)) return fail(s, "more terms than operands", *p);
  term *t = &s->in[s->nin];
  *t = (term){.v = tn_ox_required(x, s->node, s->nin)};
  if (!t->v) return false;
  uint32_t rank = tn_ox_rank(x, t->v), n = letters(*p, &has);
  if (has ? n > rank : n != rank) return fail(s, "a term whose operand has another rank", *p);
  if (!read_term(s, p, t, rank - n)) return false;
  if (has && rank - n > s->dots) s->dots = rank - n;
  for (uint32_t i = 0; i < t->n; i++) s->times[t->label[i]]++;
  s->nin++;
  return true;
}

/* Without "->": the ellipsis, then the letters that stand once, in the order of their codes. */
static void implicit(einsum *s) {
  for (uint32_t i = 0; i < s->dots; i++)
    s->out.label[s->out.n++] = (uint8_t)(LETTERS + TN_MAX_RANK - s->dots + i);
  for (uint32_t i = 0; i < LETTERS && s->out.n < TN_MAX_RANK; i++)
    if (s->times[i] == 1) s->out.label[s->out.n++] = (uint8_t)i;
}

static bool read_equation(einsum *s) {
  const char *text = tn_ox_str(s->node, "equation", ""), *p = text;
  for (;; p++) {
    if (!read_operand(s, &p)) return false;
    if (*p != ',') break;
  }
  if (s->nin != tn_ox_nin(s->node)) return fail(s, "fewer terms than operands", text);
  if (!*p) {
    implicit(s);
    return true;
  }
  p += 2;
  const char *output = p;
  if (!read_term(s, &p, &s->out, s->dots)) return false;
  if (*p) return fail(s, "a second result", p);
  for (uint32_t i = 0; i < s->out.n; i++) {
    if (!s->times[s->out.label[i]]) return fail(s, "a letter that no operand has", output);
    for (uint32_t j = 0; j < i; j++)
      if (s->out.label[i] == s->out.label[j]) return fail(s, "a letter twice", output);
  }
  return true;
}

/* ---- one operand
 * -------------------------------------------------------------------------------------------- */

static int find(const term *t, uint32_t label) {
  for (uint32_t i = 0; i < t->n; i++)
    if (t->label[i] == label) return (int)i;
  return -1;
}

static void drop(einsum *s, term *t, uint32_t axis) {
  int64_t at = axis;
  t->v = tn_ox_reduce(s->x, "reduce_sum", t->v, &at, 1, false);
  memmove(t->label + axis, t->label + axis + 1, t->n - axis - 1);
  t->n--;
}

/* A letter twice in a term: the diagonal, by a sum over one of the axes where both are equal. */
static void take_diagonals(einsum *s, term *t) {
  tn_ox *x = s->x;
  for (uint32_t j = 1; j < t->n; j++) {
    int i = find(t, t->label[j]);
    tn_dim one[TN_MAX_RANK], rows[TN_MAX_RANK];
    if (i >= (int)j) continue;
    tn_ox_same(x, s->node, tn_ox_dim(x, t->v, i), tn_ox_dim(x, t->v, j));
    for (uint32_t k = 0; k < t->n; k++) one[k] = rows[k] = tn_ox_d(x, 1);
    one[j] = tn_ox_dim(x, t->v, j);
    rows[i] = tn_ox_dim(x, t->v, i);
    tn_value same = tn_ox_compare(x, "eq", tn_ox_iota(x, TN_DT_i64, rows, t->n, i),
                                  tn_ox_iota(x, TN_DT_i64, one, t->n, j));
    t->v = tn_ox_select(x, same, t->v, tn_ox_scalar_like(x, t->v, 0));
    drop(s, t, j--);
  }
}

static bool needed(const einsum *s, uint32_t label, uint32_t from) {
  for (uint32_t i = from; i < s->nin; i++)
    if (find(&s->in[i], label) >= 0) return true;
  return find(&s->out, label) >= 0;
}

/* Sums away what neither `other` nor a term from `from` on has. */
static void reduce_lonely(einsum *s, term *t, const term *other, uint32_t from) {
  for (uint32_t i = 0; i < t->n; i++)
    if (!needed(s, t->label[i], from) && (!other || find(other, t->label[i]) < 0)) drop(s, t, i--);
}

/* The axes of t in the order of `order`, of which it may lack some: those have size 1 unless `skip`. */
static tn_value arrange(einsum *s, const term *t, const uint8_t *order, uint32_t n, bool skip) {
  tn_ox *x = s->x;
  int64_t perm[TN_MAX_RANK];
  tn_dim dims[TN_MAX_RANK];
  uint32_t rank = 0, have = 0;
  for (uint32_t i = 0; i < n; i++) {
    int at = find(t, order[i]);
    if (at < 0 && skip) continue;
    if (at >= 0) perm[have++] = at;
    dims[rank++] = at < 0 ? tn_ox_d(x, 1) : tn_ox_dim(x, t->v, at);
  }
  return tn_ox_reshape(x, tn_ox_transpose(x, t->v, perm), dims, rank);
}

/* ---- two operands
 * ------------------------------------------------------------------------------------------- */

/* The letters of two terms by what becomes of them. */
typedef struct plan {
  uint8_t both[TN_MAX_RANK], left[TN_MAX_RANK], right[TN_MAX_RANK], gone[TN_MAX_RANK];
  uint32_t nboth, nleft, nright, ngone;
} plan;

static void make_plan(const einsum *s, const term *a, const term *b, uint32_t from, plan *p) {
  *p = (plan){.nboth = 0};
  for (uint32_t i = 0; i < a->n; i++) {
    uint8_t label = a->label[i];
    if (find(b, label) < 0)
      p->left[p->nleft++] = label;
    else if (needed(s, label, from))
      p->both[p->nboth++] = label;
    else
      p->gone[p->ngone++] = label;
  }
  for (uint32_t i = 0; i < b->n; i++)
    if (find(a, b->label[i]) < 0) p->right[p->nright++] = b->label[i];
}

/* Sizes of shared letters: equal, or 1 in one of the terms, which is repeated. */
static void make_equal(einsum *s, term *a, term *b) {
  tn_ox *x = s->x;
  tn_dim da[TN_MAX_RANK], db[TN_MAX_RANK];
  tn_ox_dims(x, a->v, da);
  tn_ox_dims(x, b->v, db);
  for (uint32_t i = 0; i < a->n; i++) {
    int64_t k;
    int j = find(b, a->label[i]);
    if (j < 0 || da[i] == db[j]) continue;
    if (tn_ox_dconst(x, da[i], &k) && k == 1)
      da[i] = db[j];
    else if (tn_ox_dconst(x, db[j], &k) && k == 1)
      db[j] = da[i];
    else
      da[i] = db[j] = tn_ox_same(x, s->node, da[i], db[j]);
  }
  a->v = tn_ox_broadcast(x, a->v, da, a->n);
  b->v = tn_ox_broadcast(x, b->v, db, b->n);
}

static tn_dim joined(einsum *s, const term *t, const uint8_t *labels, uint32_t n) {
  tn_dim d = tn_ox_d(s->x, 1);
  for (uint32_t i = 0; i < n; i++) d = tn_ox_dmul(s->x, d, tn_ox_dim(s->x, t->v, find(t, labels[i])));
  return d;
}

/* t as [both, rows, columns], each of them letters in a row. */
static tn_value matrix(einsum *s, const term *t, const plan *p, const uint8_t *rows, uint32_t nrows,
                       const uint8_t *columns, uint32_t ncolumns) {
  uint8_t order[TN_MAX_RANK];
  uint32_t n = 0;
  for (uint32_t i = 0; i < p->nboth; i++) order[n++] = p->both[i];
  for (uint32_t i = 0; i < nrows; i++) order[n++] = rows[i];
  for (uint32_t i = 0; i < ncolumns; i++) order[n++] = columns[i];
  tn_dim dims[3] = {joined(s, t, p->both, p->nboth), joined(s, t, rows, nrows),
                    joined(s, t, columns, ncolumns)};
  tn_value v = arrange(s, t, order, n, false);
  return p->nboth ? tn_ox_reshape(s->x, v, dims, 3) : tn_ox_reshape(s->x, v, dims + 1, 2);
}

static tn_value product(einsum *s, term *a, term *b, const plan *p, const term *out) {
  tn_ox *x = s->x;
  tn_dim dims[TN_MAX_RANK];
  for (uint32_t i = 0; i < out->n; i++) {
    int at = find(a, out->label[i]);
    dims[i] = at >= 0 ? tn_ox_dim(x, a->v, at) : tn_ox_dim(x, b->v, find(b, out->label[i]));
  }
  tn_value l = matrix(s, a, p, p->left, p->nleft, p->gone, p->ngone);
  tn_value r = matrix(s, b, p, p->gone, p->ngone, p->right, p->nright);
  return tn_ox_reshape(x, tn_ox_matmul(x, l, r, false, false), dims, out->n);
}

/* Without a matrix product: every letter gets an axis, and those that are gone are summed at the end. */
static tn_value elementwise(einsum *s, term *a, term *b, const plan *p, const term *out) {
  tn_ox *x = s->x;
  uint8_t order[TN_MAX_RANK];
  int64_t gone[TN_MAX_RANK];
  uint32_t n = 0;
  for (uint32_t i = 0; i < out->n; i++) order[n++] = out->label[i];
  for (uint32_t i = 0; i < p->ngone; i++) {
    gone[i] = n;
    order[n++] = p->gone[i];
  }
  tn_value v = tn_ox_binary(x, "mul", arrange(s, a, order, n, false), arrange(s, b, order, n, false));
  return p->ngone ? tn_ox_reduce(x, "reduce_sum", v, gone, p->ngone, false) : v;
}

static bool combine(einsum *s, term *a, term *b, uint32_t from) {
  plan p;
  term out = {.n = 0};
  reduce_lonely(s, a, b, from);
  reduce_lonely(s, b, a, from);
  make_equal(s, a, b);
  make_plan(s, a, b, from, &p);
  if (p.nboth + p.nleft + p.nright + p.ngone > TN_MAX_RANK) {
    tn_ox_refuse(s->x, s->node, NULL, "two terms with more than %d letters between them", TN_MAX_RANK);
    return false;
  }
  memcpy(out.label, p.both, p.nboth);
  memcpy(out.label + p.nboth, p.left, p.nleft);
  memcpy(out.label + p.nboth + p.nleft, p.right, p.nright);
  out.n = p.nboth + p.nleft + p.nright;
  bool matmul = p.ngone && a->v && tn_ox_is_float(s->x, a->v);
  out.v = matmul ? product(s, a, b, &p, &out) : elementwise(s, a, b, &p, &out);
  *a = out;
  return out.v != 0;
}

tn_status tn_ox_lower_einsum(tn_ox *x, tn_ox_node *n) {
  einsum s = {.x = x, .node = n};
  if (!read_equation(&s)) return tn_ox_out(x, n, 0, 0);
  for (uint32_t i = 0; i < s.nin; i++) take_diagonals(&s, &s.in[i]);
  term all = s.in[0];
  for (uint32_t i = 1; i < s.nin; i++)
    if (!combine(&s, &all, &s.in[i], i + 1)) return tn_ox_out(x, n, 0, 0);
  reduce_lonely(&s, &all, NULL, s.nin);
  return tn_ox_out(x, n, 0, arrange(&s, &all, s.out.label, s.out.n, false));
}
