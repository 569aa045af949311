/* dim_poly.c - the normal form of a dim: a sum of terms, each a coefficient times atoms (symbols and the
 * results of division, remainder, min and max, which the algebra does not look into). Atoms are sorted by
 * content inside a term, terms by degree and then atoms, so the same value has the same form in every run,
 * whatever the order of building. A dim keeps its form and also its two operands as dims, which is what
 * dim_get shows. */
#include "ir/module.h"

void tn_poly_fini(tn_poly *p) { tn_vec_fini(&p->terms); }

/* Larger degree first, then by atoms: a monomial order, so that polynomial division below works. */
int tn_poly_order(tn_module *m, const tn_dim *a, uint32_t na, const tn_dim *b, uint32_t nb) {
  if (na != nb) return na > nb ? -1 : 1;
  for (uint32_t i = 0; i < na; i++) {
    int c = tn_dim_order(m, a[i], b[i]);
    if (c) return c;
  }
  return 0;
}

static void poly_insert(tn_poly *p, uint32_t at, int64_t coef, const tn_dim *atoms, uint32_t natoms) {
  tn_poly_term t = {.coef = coef, .natoms = natoms};
  if (natoms) memcpy(t.atoms, atoms, natoms * sizeof *atoms);
  if (p->terms.count >= TN_DIM_MAX_TERMS)
    p->why = "it has too many terms";
  else if (!tn_vec_push(&p->terms, t))
    p->why = "out of memory";
  if (p->why) return;
  memmove(p->terms.items + at + 1, p->terms.items + at, (p->terms.count - 1 - at) * sizeof t);
  p->terms.items[at] = t;
}

void tn_poly_add(tn_poly *p, int64_t coef, const tn_dim *atoms, uint32_t natoms) {
  if (p->why || !coef) return;
  uint32_t low = 0, high = p->terms.count;
  while (low < high) {
    uint32_t mid = (low + high) / 2;
    tn_poly_term *t = &p->terms.items[mid];
    int c = tn_poly_order(p->m, t->atoms, t->natoms, atoms, natoms);
    if (c < 0)
      low = mid + 1;
    else if (c > 0)
      high = mid;
    else {
      if (__builtin_add_overflow(t->coef, coef, &t->coef) || t->coef == INT64_MIN)
        p->why = "a coefficient does not fit 64 bits";
      else if (!t->coef) {
        p->terms.count--;
        memmove(t, t + 1, (p->terms.count - mid) * sizeof *t);
      }
      return;
    }
  }
  poly_insert(p, low, coef, atoms, natoms);
}

/* Merges two sorted lists of atoms; false: too many. */
static bool merge(tn_module *m, const tn_dim *a, uint32_t na, const tn_dim *b, uint32_t nb, tn_dim *out) {
  if (na + nb > TN_DIM_MAX_DEGREE) return false;
  for (uint32_t i = 0, j = 0; i + j < na + nb;) {
    bool left = j == nb || (i < na && tn_dim_order(m, a[i], b[j]) <= 0);
    *out++ = left ? a[i++] : b[j++];
  }
  return true;
}

void tn_poly_add_scaled(tn_poly *p, tn_dim d, int64_t scale, const tn_dim *atoms, uint32_t natoms) {
  for (uint32_t i = 0; i < tn_dim_row_of(p->m, d)->nterms && !p->why; i++) {
    const tn_dim_term *t = &tn_dim_row_of(p->m, d)->terms[i];
    int64_t coef;
    tn_dim product[TN_DIM_MAX_DEGREE];
    if (__builtin_mul_overflow(t->coef, scale, &coef) || coef == INT64_MIN)
      p->why = "a coefficient does not fit 64 bits";
    else if (!merge(p->m, t->atoms, t->natoms, atoms, natoms, product))
      p->why = "it has too many factors";
    else
      tn_poly_add(p, coef, product, t->natoms + natoms);
  }
}

void tn_poly_add_dim(tn_poly *p, tn_dim d, int64_t scale) { tn_poly_add_scaled(p, d, scale, NULL, 0); }

bool tn_poly_divides(const tn_dim *by, uint32_t nby, const tn_dim *atoms, uint32_t natoms, tn_dim *out,
                     uint32_t *nout) {
  uint32_t taken = 0, n = 0;
  for (uint32_t i = 0; i < natoms; i++) {
    if (taken < nby && by[taken] == atoms[i])
      taken++;
    else
      out[n++] = atoms[i];
  }
  *nout = n;
  return taken == nby;
}

/* ---- from sums to dims ---- */

static bool terms_nonneg(tn_module *m, const tn_poly_term *t, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) {
    if (t[i].coef < 0) return false;
    for (uint32_t j = 0; j < t[i].natoms; j++)
      if (!tn_dim_row_of(m, t[i].atoms[j])->nonneg) return false;
  }
  return true;
}

static const tn_dim_term *terms_copy(tn_module *m, const tn_poly_term *t, uint32_t n) {
  tn_dim_term *copy = tn_arena_alloc(&m->arena, n * sizeof *copy);
  for (uint32_t i = 0; copy && i < n; i++) {
    copy[i] = (tn_dim_term){t[i].coef, t[i].natoms, NULL};
    copy[i].atoms = tn_arena_copy(&m->arena, t[i].atoms, t[i].natoms * sizeof(tn_dim));
    if (!copy[i].atoms) return NULL;
  }
  return copy;
}

static uint32_t terms_depth(tn_module *m, const tn_poly_term *t, uint32_t n) {
  uint32_t depth = 0;
  for (uint32_t i = 0; i < n; i++)
    for (uint32_t j = 0; j < t[i].natoms; j++) {
      uint32_t d = tn_dim_row_of(m, t[i].atoms[j])->depth;
      if (d > depth) depth = d;
    }
  return depth;
}

static tn_dim intern_terms(tn_module *m, const tn_poly_term *t, uint32_t n);

/* The two operands of a sum or product, as dims: all terms but the last and the last; coefficient and atoms;
 * all atoms but the last and the last. */
static bool split_terms(tn_module *m, const tn_poly_term *t, uint32_t n, tn_dim_row *row) {
  row->kind = n > 1 ? TN_DIM_ADD : TN_DIM_MUL;
  if (n > 1) {
    row->a = intern_terms(m, t, n - 1);
    row->b = intern_terms(m, t + n - 1, 1);
  } else if (t->coef != 1) {
    tn_poly_term rest = *t;
    rest.coef = 1;
    row->a = tn_ir_dim_const(m, t->coef);
    row->b = intern_terms(m, &rest, 1);
  } else {
    tn_poly_term rest = *t;
    rest.natoms--;
    row->a = intern_terms(m, &rest, 1);
    row->b = t->atoms[t->natoms - 1];
  }
  return row->a && row->b;
}

static tn_dim intern_terms(tn_module *m, const tn_poly_term *t, uint32_t n) {
  if (!n) return tn_ir_dim_const(m, 0);
  if (n == 1 && !t->natoms) return tn_ir_dim_const(m, t->coef);
  if (n == 1 && t->natoms == 1 && t->coef == 1) return t->atoms[0];
  tn_buf key = {0};
  for (uint32_t i = 0; i < n; i++) {
    tn_buf_put(&key, &t[i].coef, sizeof t[i].coef);
    tn_buf_put(&key, &t[i].natoms, sizeof t[i].natoms);
    tn_buf_put(&key, t[i].atoms, t[i].natoms * sizeof(tn_dim));
  }
  tn_dim id = key.failed ? 0 : tn_interned(m, 'p', key.text, key.len);
  tn_dim_row row = {.nterms = n, .nonneg = terms_nonneg(m, t, n), .depth = terms_depth(m, t, n)};
  if (!id && !key.failed && split_terms(m, t, n, &row) && (row.terms = terms_copy(m, t, n))) {
    id = m->dims.count;
    if (!tn_vec_push(&m->dims, row))
      id = 0;
    else if (tn_interned_put(m, 'p', key.text, key.len, id))
      m->dims.count--, id = 0;
  }
  tn_buf_fini(&key);
  return id;
}

tn_dim tn_poly_dim(tn_poly *p) {
  tn_dim d = p->why ? 0 : intern_terms(p->m, p->terms.items, p->terms.count);
  if (!d) {
    if (p->why)
      tn_module_fail(p->m, TN_INVALID, 0, "a dim expression cannot be kept: %s", p->why);
    else
      tn_module_oom(p->m);
  }
  tn_poly_fini(p);
  return d;
}
