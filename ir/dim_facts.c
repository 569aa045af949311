/* dim_facts.c - what is known about dims: whether one is at most another, substitution of a symbol, and the
 * text.
 *
 * To show a <= b, the difference d = b - a is brought to a sum without negative terms: a negative term of d
 * is cancelled with a fact e >= 0 (a constraint of the module, or a law of an atom such as min(x, y) <= x),
 * multiplied by what the term has more; then d - e >= 0 is left to show. */
#include "ir/module.h"

#define FACT_STEPS 512
#define FACT_DEPTH 8

typedef struct search {
  tn_module *m;
  uint32_t steps;
} search;

/* The first negative term, or the count of terms. A term with an atom that may be negative counts as
 * negative. */
static uint32_t negative_term(tn_module *m, const tn_poly *d) {
  for (uint32_t i = 0; i < d->terms.count; i++) {
    const tn_poly_term *t = &d->terms.items[i];
    if (t->coef < 0) return i;
    for (uint32_t j = 0; j < t->natoms; j++)
      if (!tn_dim_row_of(m, t->atoms[j])->nonneg) return i;
  }
  return d->terms.count;
}

static bool show(search *s, const tn_poly *d, uint32_t depth);

/* Tries the fact high - low >= 0 against term `at` of d. */
static bool try_fact(search *s, const tn_poly *d, uint32_t at, tn_dim low, int64_t low_scale, tn_dim high,
                     int64_t high_scale, int64_t extra, uint32_t depth) {
  tn_poly e = {.m = s->m};
  tn_poly_add_dim(&e, high, high_scale);
  tn_poly_add_dim(&e, low, -low_scale);
  tn_poly_add(&e, extra, NULL, 0);
  const tn_poly_term *t = &d->terms.items[at];
  bool shown = false;
  for (uint32_t i = 0; !e.why && !shown && i < e.terms.count; i++) {
    const tn_poly_term *u = &e.terms.items[i];
    tn_dim factor[TN_DIM_MAX_DEGREE];
    uint32_t nfactor;
    if (u->coef >= 0 || t->coef >= 0 || t->coef == INT64_MIN) continue;
    if (!tn_poly_divides(u->atoms, u->natoms, t->atoms, t->natoms, factor, &nfactor)) continue;
    bool sound = true;
    for (uint32_t j = 0; j < nfactor; j++) sound &= tn_dim_row_of(s->m, factor[j])->nonneg;
    if (!sound) continue;
    int64_t times = t->coef / u->coef + (t->coef % u->coef != 0);
    tn_poly rest = {.m = s->m};
    for (uint32_t j = 0; j < d->terms.count; j++)
      tn_poly_add(&rest, d->terms.items[j].coef, d->terms.items[j].atoms, d->terms.items[j].natoms);
    int64_t up, down, one;
    if (__builtin_mul_overflow(high_scale, -times, &up) || __builtin_mul_overflow(low_scale, times, &down) ||
        __builtin_mul_overflow(extra, -times, &one))
      rest.why = "overflow";
    if (!rest.why) {
      tn_poly_add_scaled(&rest, high, up, factor, nfactor);
      tn_poly_add_scaled(&rest, low, down, factor, nfactor);
      tn_poly_add(&rest, one, factor, nfactor);
    }
    shown = !rest.why && show(s, &rest, depth + 1);
    tn_poly_fini(&rest);
  }
  tn_poly_fini(&e);
  return shown;
}

/* The laws of the atoms of term `at` that can cancel it. */
static bool try_atoms(search *s, const tn_poly *d, uint32_t at, uint32_t depth) {
  const tn_poly_term t = d->terms.items[at];
  for (uint32_t j = 0; j < t.natoms; j++) {
    tn_dim x = t.atoms[j];
    const tn_dim_row row = *tn_dim_row_of(s->m, x);
    int64_t c;
    if (row.kind == TN_DIM_MIN &&
        (try_fact(s, d, at, x, 1, row.a, 1, 0, depth) || try_fact(s, d, at, x, 1, row.b, 1, 0, depth)))
      return true;
    if (row.kind != TN_DIM_FLOORDIV && row.kind != TN_DIM_MOD) continue;
    bool whole = tn_ir_dim_is_const(s->m, row.b, &c) && c > 0;
    if (row.kind == TN_DIM_FLOORDIV && whole && try_fact(s, d, at, x, c, row.a, 1, 0, depth)) return true;
    /* a mod b <= b - 1, and a mod b <= a where a is not negative */
    if (row.kind == TN_DIM_MOD && try_fact(s, d, at, x, 1, row.b, 1, -1, depth)) return true;
    if (row.kind == TN_DIM_MOD && tn_dim_row_of(s->m, row.a)->nonneg &&
        try_fact(s, d, at, x, 1, row.a, 1, 0, depth))
      return true;
  }
  return false;
}

/* Laws of the atoms in positive terms whose other side cancels term `at`: max(x, y) >= x, and c (x / c) >= x
 * - c + 1. */
static bool try_helpers(search *s, const tn_poly *d, uint32_t at, uint32_t depth) {
  for (uint32_t i = 0; i < d->terms.count; i++) {
    const tn_poly_term t = d->terms.items[i];
    for (uint32_t j = 0; t.coef > 0 && j < t.natoms; j++) {
      tn_dim x = t.atoms[j];
      const tn_dim_row row = *tn_dim_row_of(s->m, x);
      int64_t c;
      if (row.kind == TN_DIM_MAX &&
          (try_fact(s, d, at, row.a, 1, x, 1, 0, depth) || try_fact(s, d, at, row.b, 1, x, 1, 0, depth)))
        return true;
      if (row.kind == TN_DIM_FLOORDIV && tn_ir_dim_is_const(s->m, row.b, &c) && c > 0 &&
          try_fact(s, d, at, row.a, 1, x, c, c - 1, depth))
        return true;
    }
  }
  return false;
}

/* d >= 0? */
static bool show(search *s, const tn_poly *d, uint32_t depth) {
  uint32_t at = negative_term(s->m, d);
  if (at == d->terms.count) return true;
  if (depth == FACT_DEPTH || s->steps++ >= FACT_STEPS) return false;
  for (uint32_t i = 0; i < s->m->constraints.count; i++) {
    tn_dim_pair p = s->m->constraints.items[i];
    if (tn_dim_row_of(s->m, p.a)->kind == TN_DIM_UNKNOWN || tn_dim_row_of(s->m, p.b)->kind == TN_DIM_UNKNOWN)
      continue;
    if (try_fact(s, d, at, p.a, 1, p.b, 1, 0, depth)) return true;
  }
  return try_atoms(s, d, at, depth) || try_helpers(s, d, at, depth);
}

/* Is b - a the difference of a constraint's sides? */
bool tn_dim_stated_le(tn_module *m, tn_dim a, tn_dim b) {
  bool found = false;
  for (uint32_t i = 0; !found && i < m->constraints.count; i++) {
    tn_dim_pair p = m->constraints.items[i];
    if (p.a == a && p.b == b) return true;
    if (tn_dim_row_of(m, p.a)->kind == TN_DIM_UNKNOWN || tn_dim_row_of(m, p.b)->kind == TN_DIM_UNKNOWN)
      continue;
    tn_poly e = {.m = m};
    tn_poly_add_dim(&e, p.b, 1);
    tn_poly_add_dim(&e, p.a, -1);
    tn_poly_add_dim(&e, b, -1);
    tn_poly_add_dim(&e, a, 1);
    found = !e.why && !e.terms.count;
    tn_poly_fini(&e);
  }
  return found;
}

bool tn_dim_known_le(tn_module *m, tn_dim a, tn_dim b) {
  uint32_t ka = tn_dim_row_of(m, a)->kind, kb = tn_dim_row_of(m, b)->kind;
  if (!ka || !kb || ka == TN_DIM_UNKNOWN || kb == TN_DIM_UNKNOWN) return false;
  if (tn_dim_stated_le(m, a, b)) return true;
  tn_poly d = {.m = m};
  tn_poly_add_dim(&d, b, 1);
  tn_poly_add_dim(&d, a, -1);
  search s = {.m = m};
  bool holds = !d.why && show(&s, &d, 0);
  tn_poly_fini(&d);
  return holds;
}

bool tn_dim_known_eq(tn_module *m, tn_dim a, tn_dim b) {
  int64_t va, vb;
  if (a == b) return true;
  if (tn_ir_dim_is_const(m, a, &va) && tn_ir_dim_is_const(m, b, &vb)) return false;
  return tn_dim_known_le(m, a, b) && tn_dim_known_le(m, b, a);
}

/* ---- substitution ---- */

typedef struct swap {
  tn_module *m;
  const char *name;
  tn_dim by;
  tn_dim *memo;
  uint32_t nmemo;
} swap;

static tn_dim swapped(swap *s, tn_dim d) {
  tn_dim_row row = *tn_dim_row_of(s->m, d);
  if (row.kind == TN_DIM_CONST || row.kind == TN_DIM_UNKNOWN || !row.kind) return row.kind ? d : 0;
  if (row.kind == TN_DIM_SYM) return strcmp(row.symbol, s->name) ? d : s->by;
  if (d < s->nmemo && s->memo[d]) return s->memo[d];
  tn_dim a = swapped(s, row.a), b = a ? swapped(s, row.b) : 0;
  tn_dim out = a && b ? tn_ir_dim_make(s->m, row.kind, a, b) : 0;
  if (d < s->nmemo) s->memo[d] = out;
  return out;
}

tn_dim tn_dim_substitute(tn_module *m, tn_dim d, const char *name, tn_dim by) {
  swap s = {m, name, by, NULL, m->dims.count};
  const tn_dim_row *row = tn_dim_row_of(m, d);
  if (row->kind == TN_DIM_CONST || row->kind == TN_DIM_SYM) return swapped(&s, d);
  s.memo = tn_mem_alloc(s.nmemo * sizeof *s.memo);
  tn_dim out = 0;
  if (s.memo)
    out = swapped(&s, d);
  else
    tn_module_oom(m);
  tn_mem_free(s.memo);
  return out;
}

/* ---- text ---- */

static void print_atom(tn_module *m, tn_dim d, bool alone, tn_buf *out);

/* The operand of a division in brackets, unless it is a single word or number. */
static void print_operand(tn_module *m, tn_dim d, tn_buf *out) {
  const tn_dim_row *row = tn_dim_row_of(m, d);
  bool bare = row->kind == TN_DIM_SYM || (row->kind == TN_DIM_CONST && row->value >= 0) ||
              row->kind == TN_DIM_MIN || row->kind == TN_DIM_MAX;
  if (!bare) tn_buf_puts(out, "(");
  tn_dim_print(m, d, out);
  if (!bare) tn_buf_puts(out, ")");
}

static void print_atom(tn_module *m, tn_dim d, bool alone, tn_buf *out) {
  tn_dim_row row = *tn_dim_row_of(m, d);
  if (row.kind == TN_DIM_SYM) {
    tn_buf_puts(out, row.symbol);
  } else if (row.kind == TN_DIM_MIN || row.kind == TN_DIM_MAX) {
    tn_buf_puts(out, row.kind == TN_DIM_MIN ? "min(" : "max(");
    tn_dim_print(m, row.a, out);
    tn_buf_puts(out, ", ");
    tn_dim_print(m, row.b, out);
    tn_buf_puts(out, ")");
  } else {
    if (!alone) tn_buf_puts(out, "(");
    print_operand(m, row.a, out);
    tn_buf_puts(out, row.kind == TN_DIM_MOD ? " % " : " / ");
    print_operand(m, row.b, out);
    if (!alone) tn_buf_puts(out, ")");
  }
}

static void print_term(tn_module *m, const tn_dim_term *t, tn_buf *out) {
  uint64_t size = t->coef < 0 ? 0 - (uint64_t)t->coef : (uint64_t)t->coef;
  bool number = size != 1 || !t->natoms;
  if (number) tn_buf_printf(out, "%llu", (unsigned long long)size);
  for (uint32_t i = 0; i < t->natoms; i++) {
    if (number || i) tn_buf_puts(out, " * ");
    print_atom(m, t->atoms[i], !number && t->natoms == 1, out);
  }
}

/* Positive terms first, so that `512 - S` does not open with a minus. */
void tn_dim_print(tn_module *m, tn_dim d, tn_buf *out) {
  tn_dim_row row = *tn_dim_row_of(m, d);
  if (row.kind == TN_DIM_UNKNOWN || !row.kind) {
    tn_buf_puts(out, "?");
    return;
  }
  bool first = true;
  if (!row.nterms) tn_buf_puts(out, "0");
  for (int minus = 0; minus < 2; minus++)
    for (uint32_t i = 0; i < row.nterms; i++) {
      if ((row.terms[i].coef < 0) != minus) continue;
      if (first)
        tn_buf_puts(out, minus ? "-" : "");
      else
        tn_buf_puts(out, minus ? " - " : " + ");
      first = false;
      print_term(m, &row.terms[i], out);
    }
}
