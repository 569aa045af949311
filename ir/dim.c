/* dim.c - symbolic sizes: constants, symbols, the arithmetic that brings an expression into normal form
 * (dim_poly.c), and constraints. Symbols stand for integers >= 0, divisors for integers > 0; division rounds
 * down and the remainder has the divisor's sign, as in Python. Rewriting uses only what holds for all values
 * of the symbols, never the constraints, so a form does not depend on when it was made. */
#include "ir/module.h"

const tn_dim_row *tn_dim_row_of(tn_module *m, tn_dim d) { return &m->dims.items[d < m->dims.count ? d : 0]; }

/* ---- leaves and atoms ---- */

/* Adds a row whose form is itself (an atom), under the key of a table. */
static tn_dim atom_add(tn_module *m, tn_dim_row row, char table, const void *key, size_t n) {
  tn_dim id = m->dims.count;
  tn_dim_term *self = tn_arena_alloc(&m->arena, sizeof *self);
  tn_dim *atom = tn_arena_copy(&m->arena, &id, sizeof id);
  if (self && atom) {
    *self = (tn_dim_term){1, 1, atom};
    row.terms = self;
    row.nterms = 1;
    if (tn_vec_push(&m->dims, row)) {
      if (!tn_interned_put(m, table, key, n, id)) return id;
      m->dims.count--;
    }
  }
  tn_module_oom(m);
  return 0;
}

tn_dim tn_ir_dim_const(tn_module *m, int64_t v) {
  struct {
    uint64_t kind;
    int64_t value;
  } key = {TN_DIM_CONST, v};
  tn_dim id = tn_interned(m, 'd', &key, sizeof key);
  if (id) return id;
  if (v == INT64_MIN) { /* it has no negative, and no text that reads back */
    tn_module_fail(m, TN_INVALID, 0, "a dim does not fit 64 bits");
    return 0;
  }
  tn_dim_row row = {.kind = TN_DIM_CONST, .value = v, .nonneg = v >= 0, .nterms = v != 0};
  tn_dim_term *t = tn_arena_alloc(&m->arena, sizeof *t);
  id = m->dims.count;
  if (t) {
    t->coef = v;
    row.terms = t;
    if (tn_vec_push(&m->dims, row)) {
      if (!tn_interned_put(m, 'd', &key, sizeof key, id)) return id;
      m->dims.count--;
    }
  }
  tn_module_oom(m);
  return 0;
}

static tn_dim dim_unknown(tn_module *m) {
  uint64_t key = TN_DIM_UNKNOWN;
  tn_dim id = tn_interned(m, 'd', &key, sizeof key);
  return id ? id : atom_add(m, (tn_dim_row){.kind = TN_DIM_UNKNOWN}, 'd', &key, sizeof key);
}

tn_dim tn_ir_dim_sym(tn_module *m, const char *name) {
  if (!name || !tn_name_is_word(name) || !strcmp(name, "min") || !strcmp(name, "max") ||
      !strcmp(name, "where")) {
    tn_module_fail(m, TN_INVALID, 0, "'%s' cannot be the name of a dim", name ? name : "");
    return 0;
  }
  const char *s = tn_module_intern(m, tn_str_of(name));
  if (!s) return 0;
  tn_dim id = tn_interned(m, 's', s, strlen(s));
  if (id) return id;
  if (!tn_vec_reserve(&m->dim_symbols, m->dim_symbols.count + 1)) {
    tn_module_oom(m);
    return 0;
  }
  id = atom_add(m, (tn_dim_row){.kind = TN_DIM_SYM, .symbol = s, .nonneg = true}, 's', s, strlen(s));
  if (id) (void)tn_vec_push(&m->dim_symbols, id);
  return id;
}

static bool atom_nonneg(uint32_t kind, const tn_dim_row *a, const tn_dim_row *b) {
  if (kind == TN_DIM_FLOORDIV || kind == TN_DIM_MIN) return a->nonneg && b->nonneg;
  return kind == TN_DIM_MOD ? b->nonneg : a->nonneg || b->nonneg;
}

static tn_dim atom_make(tn_module *m, uint32_t kind, tn_dim a, tn_dim b) {
  struct {
    uint32_t kind;
    tn_dim a, b;
  } key = {kind, a, b};
  tn_dim id = a && b ? tn_interned(m, 'd', &key, sizeof key) : 0;
  if (id || !a || !b) return id;
  const tn_dim_row *x = tn_dim_row_of(m, a), *y = tn_dim_row_of(m, b);
  tn_dim_row row = {.kind = kind, .a = a, .b = b, .depth = 1 + (x->depth > y->depth ? x->depth : y->depth)};
  row.nonneg = atom_nonneg(kind, x, y);
  if (row.depth <= TN_DIM_MAX_DEPTH) return atom_add(m, row, 'd', &key, sizeof key);
  tn_module_fail(m, TN_INVALID, 0, "a dim expression is nested more than %d deep", TN_DIM_MAX_DEPTH);
  return 0;
}

int tn_dim_order(tn_module *m, tn_dim a, tn_dim b) {
  if (a == b) return 0;
  const tn_dim_row *x = tn_dim_row_of(m, a), *y = tn_dim_row_of(m, b);
  if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
  if (x->kind == TN_DIM_CONST) return x->value < y->value ? -1 : 1;
  if (x->kind == TN_DIM_SYM) return strcmp(x->symbol, y->symbol);
  if (x->kind != TN_DIM_ADD && x->kind != TN_DIM_MUL)
    return x->a != y->a ? tn_dim_order(m, x->a, y->a) : tn_dim_order(m, x->b, y->b);
  for (uint32_t i = 0; i < x->nterms && i < y->nterms; i++) {
    const tn_dim_term *s = &x->terms[i], *t = &y->terms[i];
    int c = tn_poly_order(m, s->atoms, s->natoms, t->atoms, t->natoms);
    if (c) return c;
    if (s->coef != t->coef) return s->coef < t->coef ? -1 : 1;
  }
  return x->nterms < y->nterms ? -1 : 1;
}

/* ---- division ---- */

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b && (a ^ b) < 0); } /* b > 0 */
static int64_t gcd(int64_t a, int64_t b) {
  while (b) {
    int64_t t = a % b;
    a = b;
    b = t;
  }
  return a < 0 ? -a : a;
}

/* a = c * *q + *r with the coefs of r in [0, c). */
static void split_by(tn_module *m, tn_dim a, int64_t c, tn_poly *q, tn_poly *r) {
  for (uint32_t i = 0; i < tn_dim_row_of(m, a)->nterms; i++) {
    const tn_dim_term *t = &tn_dim_row_of(m, a)->terms[i];
    int64_t left = t->coef % c;
    tn_poly_add(q, floor_div(t->coef, c), t->atoms, t->natoms);
    tn_poly_add(r, left < 0 ? left + c : left, t->atoms, t->natoms);
  }
}

/* Divides out the greatest common divisor of c and the coefs; the constant term counts only if
 * `with_constant`, else it is rounded down, which floor((g x + k) / (g c)) = floor((x + floor(k / g)) / c)
 * allows. Returns it. */
static int64_t reduce(tn_poly *r, int64_t *c, bool with_constant) {
  int64_t g = *c;
  for (uint32_t i = 0; i < r->terms.count; i++)
    if (with_constant || r->terms.items[i].natoms) g = gcd(g, r->terms.items[i].coef);
  uint32_t kept = 0;
  for (uint32_t i = 0; i < r->terms.count; i++) {
    tn_poly_term t = r->terms.items[i];
    t.coef = floor_div(t.coef, g);
    if (t.coef) r->terms.items[kept++] = t;
  }
  r->terms.count = kept;
  *c /= g;
  return g;
}

/* (x / n + k) / c, as (x + k n) / (c n): when d is such a sum with n constant. */
static bool is_quotient(tn_module *m, tn_dim d, int64_t *n, int64_t *k, tn_dim *x) {
  const tn_dim_row *row = tn_dim_row_of(m, d);
  if (!row->nterms || row->nterms > 2 || row->terms[0].coef != 1 || row->terms[0].natoms != 1) return false;
  if (row->nterms == 2 && row->terms[1].natoms) return false;
  *k = row->nterms == 2 ? row->terms[1].coef : 0;
  const tn_dim_row *atom = tn_dim_row_of(m, row->terms[0].atoms[0]);
  *x = atom->a;
  return atom->kind == TN_DIM_FLOORDIV && tn_ir_dim_is_const(m, atom->b, n);
}

static tn_dim div_const(tn_module *m, tn_dim a, int64_t c) {
  if (c == 1) return a;
  tn_poly q = {.m = m}, r = {.m = m};
  split_by(m, a, c, &q, &r);
  if (!r.why) reduce(&r, &c, false);
  if (r.why) q.why = r.why;
  tn_dim whole = tn_poly_dim(&q), x;
  if (!r.why && c == 1) return whole ? tn_dim_add(m, whole, tn_poly_dim(&r)) : (tn_poly_fini(&r), 0);
  tn_dim rest = whole ? tn_poly_dim(&r) : (tn_poly_fini(&r), 0);
  int64_t v, n, k;
  if (!rest) return 0;
  if (tn_ir_dim_is_const(m, rest, &v)) return whole; /* 0 <= v < c */
  if (is_quotient(m, rest, &n, &k, &x) && !__builtin_mul_overflow(k, n, &k) &&
      !__builtin_mul_overflow(c, n, &n))
    return tn_dim_add(m, whole, div_const(m, tn_dim_add(m, x, tn_ir_dim_const(m, k)), n));
  return tn_dim_add(m, whole, atom_make(m, TN_DIM_FLOORDIV, rest, tn_ir_dim_const(m, c)));
}

static tn_dim mod_const(tn_module *m, tn_dim a, int64_t c) {
  tn_poly q = {.m = m}, r = {.m = m};
  split_by(m, a, c, &q, &r);
  tn_poly_fini(&q);
  int64_t g = r.why ? 1 : reduce(&r, &c, true), v, n;
  tn_dim rest = tn_poly_dim(&r), out;
  if (!rest) return 0;
  const tn_dim_row *row = tn_dim_row_of(m, rest);
  if (tn_ir_dim_is_const(m, rest, &v))
    out = c == 1 ? tn_ir_dim_const(m, 0) : rest;
  else if (c == 1)
    out = tn_ir_dim_const(m, 0);
  else if (row->kind == TN_DIM_MOD && tn_ir_dim_is_const(m, row->b, &n) && n <= c)
    out = rest;
  else if (row->kind == TN_DIM_MOD && tn_ir_dim_is_const(m, row->b, &n) && n % c == 0)
    out = mod_const(m, row->a, c);
  else
    out = atom_make(m, TN_DIM_MOD, rest, tn_ir_dim_const(m, c));
  return out ? tn_dim_mul(m, out, tn_ir_dim_const(m, g)) : 0;
}

/* The polynomial q with a = q b, or 0 if there is none (nothing is reported). */
static tn_dim divide_exactly(tn_module *m, tn_dim a, tn_dim b) {
  tn_poly q = {.m = m}, rest = {.m = m};
  tn_poly_add_dim(&rest, a, 1);
  const tn_dim_term *lead = tn_dim_row_of(m, b)->terms;
  bool ok = true;
  for (uint32_t steps = 0; ok && rest.terms.count; steps++) {
    tn_poly_term *t = &rest.terms.items[0];
    tn_dim atoms[TN_DIM_MAX_DEGREE];
    uint32_t n;
    ok = steps < TN_DIM_MAX_TERMS && !(lead->coef == -1 && t->coef == INT64_MIN) &&
         t->coef % lead->coef == 0 &&
         tn_poly_divides(lead->atoms, lead->natoms, t->atoms, t->natoms, atoms, &n);
    int64_t coef = ok ? t->coef / lead->coef : 0;
    ok = ok && coef != INT64_MIN;
    if (!ok) break;
    tn_poly_add(&q, coef, atoms, n);
    tn_poly_add_scaled(&rest, b, -coef, atoms, n);
    ok = !q.why && !rest.why;
  }
  tn_poly_fini(&rest);
  if (ok) return tn_poly_dim(&q);
  tn_poly_fini(&q);
  return 0;
}

/* Atoms that every term of a and of b has, and the common divisor of all coefs: what a quotient may cancel.
 */
static uint32_t common_factor(tn_module *m, tn_dim a, tn_dim b, tn_dim *atoms, int64_t *g) {
  const tn_dim_row *rows[2] = {tn_dim_row_of(m, a), tn_dim_row_of(m, b)};
  uint32_t n = rows[1]->terms[0].natoms;
  memcpy(atoms, rows[1]->terms[0].atoms, n * sizeof *atoms);
  *g = 0;
  for (uint32_t k = 0; k < 2; k++)
    for (uint32_t i = 0; i < rows[k]->nterms; i++) {
      const tn_dim_term *t = &rows[k]->terms[i];
      uint32_t kept = 0;
      for (uint32_t x = 0, y = 0; x < n;
           x++) { /* both are sorted and the shared ones come in the same order */
        while (y < t->natoms && tn_dim_order(m, t->atoms[y], atoms[x]) < 0) y++;
        if (y < t->natoms && t->atoms[y] == atoms[x]) atoms[kept++] = atoms[x], y++;
      }
      n = kept;
      *g = gcd(*g, t->coef == INT64_MIN ? 1 : t->coef);
    }
  return n;
}

/* d without the factor; exact by construction. */
static tn_dim cancel(tn_module *m, tn_dim d, int64_t g, const tn_dim *atoms, uint32_t n) {
  tn_poly p = {.m = m};
  for (uint32_t i = 0; i < tn_dim_row_of(m, d)->nterms; i++) {
    const tn_dim_term *t = &tn_dim_row_of(m, d)->terms[i];
    tn_dim rest[TN_DIM_MAX_DEGREE];
    uint32_t nrest = 0;
    tn_poly_divides(atoms, n, t->atoms, t->natoms, rest, &nrest);
    tn_poly_add(&p, t->coef / g, rest, nrest);
  }
  return tn_poly_dim(&p);
}

static tn_dim divide(tn_module *m, uint32_t kind, tn_dim a, tn_dim b) {
  int64_t v;
  bool quotient = kind == TN_DIM_FLOORDIV;
  if (!a || !b) return 0;
  if (tn_ir_dim_is_const(m, b, &v)) {
    if (!v) {
      tn_module_fail(m, TN_INVALID, 0, "a dim expression divides by zero");
      return 0;
    }
    if (v > 0) return quotient ? div_const(m, a, v) : mod_const(m, a, v);
    tn_dim minus = tn_ir_dim_const(m, -1), na = tn_dim_mul(m, a, minus), nb = tn_dim_mul(m, b, minus);
    if (!na || !nb) return 0;
    return quotient ? divide(m, kind, na, nb) : tn_dim_mul(m, divide(m, kind, na, nb), minus);
  }
  tn_dim exact = divide_exactly(m, a, b);
  if (exact) return quotient ? exact : tn_ir_dim_const(m, 0);
  if (!quotient) return atom_make(m, kind, a, b);
  tn_dim atoms[TN_DIM_MAX_DEGREE];
  int64_t g;
  uint32_t n = common_factor(m, a, b, atoms, &g);
  if (n || g > 1) return divide(m, kind, cancel(m, a, g, atoms, n), cancel(m, b, g, atoms, n));
  return atom_make(m, kind, a, b);
}

/* ---- min and max ---- */

#define CHOICES 16

/* 1: a <= b for all values of the symbols; -1: b <= a; 0: not known. */
static int compare_always(tn_module *m, tn_dim a, tn_dim b) {
  for (int sign = 1; sign >= -1; sign -= 2) {
    tn_poly p = {.m = m};
    tn_poly_add_dim(&p, b, sign);
    tn_poly_add_dim(&p, a, -sign);
    bool holds = !p.why;
    for (uint32_t i = 0; holds && i < p.terms.count; i++) {
      holds = p.terms.items[i].coef > 0;
      for (uint32_t j = 0; holds && j < p.terms.items[i].natoms; j++)
        holds = tn_dim_row_of(m, p.terms.items[i].atoms[j])->nonneg;
    }
    tn_poly_fini(&p);
    if (holds) return sign;
  }
  return 0;
}

/* Adds d (and, if it is a choice of the same kind, its operands) to the sorted list without what others
 * decide. */
static bool choices_add(tn_module *m, uint32_t kind, tn_dim d, tn_dim *list, uint32_t *n) {
  const tn_dim_row *row = tn_dim_row_of(m, d);
  if (row->kind == kind) {
    tn_dim a = row->a, b = row->b;
    return choices_add(m, kind, a, list, n) && choices_add(m, kind, b, list, n);
  }
  int wanted = kind == TN_DIM_MIN ? 1 : -1;
  for (uint32_t i = 0; i < *n; i++)
    if (list[i] == d || compare_always(m, list[i], d) == wanted) return true;
  uint32_t kept = 0;
  for (uint32_t i = 0; i < *n; i++)
    if (compare_always(m, d, list[i]) != wanted) list[kept++] = list[i];
  if (kept == CHOICES) return false;
  uint32_t at = kept;
  for (; at && tn_dim_order(m, list[at - 1], d) > 0; at--) list[at] = list[at - 1];
  list[at] = d;
  *n = kept + 1;
  return true;
}

static tn_dim choose(tn_module *m, uint32_t kind, tn_dim a, tn_dim b) {
  tn_dim list[CHOICES];
  uint32_t n = 0;
  if (!choices_add(m, kind, a, list, &n) || !choices_add(m, kind, b, list, &n)) {
    tn_module_fail(m, TN_INVALID, 0, "a dim expression chooses among more than %d values", CHOICES);
    return 0;
  }
  tn_dim d = list[0];
  for (uint32_t i = 1; d && i < n; i++) d = atom_make(m, kind, d, list[i]);
  return d;
}

/* ---- the table's functions ---- */

tn_dim tn_ir_dim_make(tn_module *m, uint32_t kind, tn_dim a, tn_dim b) {
  if (kind == TN_DIM_UNKNOWN) return dim_unknown(m);
  const tn_dim_row *x = tn_dim_row_of(m, a), *y = tn_dim_row_of(m, b);
  if (!x->kind || !y->kind) return 0; /* its maker has reported why */
  if (x->kind == TN_DIM_UNKNOWN || y->kind == TN_DIM_UNKNOWN) return dim_unknown(m);
  tn_poly p = {.m = m};
  switch (kind) {
  case TN_DIM_ADD:
    tn_poly_add_dim(&p, a, 1);
    tn_poly_add_dim(&p, b, 1);
    return tn_poly_dim(&p);
  case TN_DIM_MUL:
    for (uint32_t i = 0; i < tn_dim_row_of(m, b)->nterms; i++) {
      const tn_dim_term *t = &tn_dim_row_of(m, b)->terms[i];
      tn_poly_add_scaled(&p, a, t->coef, t->atoms, t->natoms);
    }
    return tn_poly_dim(&p);
  case TN_DIM_FLOORDIV:
  case TN_DIM_MOD: return divide(m, kind, a, b);
  case TN_DIM_MIN:
  case TN_DIM_MAX: return choose(m, kind, a, b);
  }
  tn_module_fail(m, TN_INVALID, 0, "there is no dim operation %u", kind);
  return 0;
}

tn_dim tn_dim_sub(tn_module *m, tn_dim a, tn_dim b) {
  return tn_dim_add(m, a, tn_dim_mul(m, b, tn_ir_dim_const(m, -1)));
}

void tn_ir_dim_get(tn_module *m, tn_dim d, tn_dim_info *out) {
  const tn_dim_row *row = tn_dim_row_of(m, d);
  *out =
      (tn_dim_info){.kind = row->kind, .value = row->value, .symbol = row->symbol, .a = row->a, .b = row->b};
}

uint32_t tn_ir_dim_is_const(tn_module *m, tn_dim d, int64_t *v) {
  const tn_dim_row *row = tn_dim_row_of(m, d);
  if (row->kind != TN_DIM_CONST) return 0;
  *v = row->value;
  return 1;
}

tn_status tn_ir_dim_constrain(tn_module *m, tn_dim a, tn_dim b) {
  int64_t x, y;
  if (!tn_dim_row_of(m, a)->kind || !tn_dim_row_of(m, b)->kind)
    return tn_module_fail(m, TN_INVALID, 0, "a constraint lacks one of its sides");
  if (tn_ir_dim_is_const(m, a, &x) && tn_ir_dim_is_const(m, b, &y)) {
    if (x <= y) return TN_OK;
    return tn_module_fail(m, TN_INVALID, 0, "the constraint %lld <= %lld does not hold", (long long)x,
                          (long long)y);
  }
  for (uint32_t i = 0; i < m->constraints.count; i++)
    if (m->constraints.items[i].a == a && m->constraints.items[i].b == b) return TN_OK;
  return tn_vec_push(&m->constraints, ((tn_dim_pair){a, b})) ? TN_OK : tn_module_oom(m);
}

uint32_t tn_dim_symbols(tn_module *m) { return m->dim_symbols.count; }

const char *tn_dim_symbol(tn_module *m, uint32_t i) {
  return i < m->dim_symbols.count ? tn_dim_row_of(m, m->dim_symbols.items[i])->symbol : NULL;
}

uint32_t tn_dim_constraints(tn_module *m) { return m->constraints.count; }

void tn_dim_constraint(tn_module *m, uint32_t i, tn_dim *a, tn_dim *b) {
  tn_dim_pair none = {0}, *p = i < m->constraints.count ? &m->constraints.items[i] : &none;
  *a = p->a;
  *b = p->b;
}
