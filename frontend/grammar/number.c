/* number.c - integers and numbers within limits, digit by digit: a range of integers of the same length is
 * cut at the first digit in which its ends differ. A number within limits is an integer, or has a fixed
 * number of decimals, so that it is a range of integers again. */
#include "frontend/grammar/gen.h"
#include <math.h>

enum { DECIMALS = 4, MAX_DIGITS = 20 };
#define LIMIT 1e12 /* beyond, a limit in a double may not be what was written */

/* Digits a .. b of the same length n; `point`: how many of them are decimals. */
typedef struct digits {
  tn_buf *e;
  int n, point;
} digits;

static void put_digit(const digits *d, int at, char lo, char hi) {
  if (d->point && at == d->n - d->point) tn_buf_puts(d->e, "\".\" ");
  if (lo == hi)
    tn_buf_printf(d->e, "\"%c\" ", lo);
  else
    tn_buf_printf(d->e, "[%c-%c] ", lo, hi);
}

static void put_any(const digits *d, int at) {
  for (; at < d->n; at++) put_digit(d, at, '0', '9');
}

/* s[at ..] and above, or below: one digit further and anything, or the same digit and so on. */
static void put_side(const digits *d, const char *s, int at, bool above) {
  bool all = true;
  for (int i = at; i < d->n; i++) all &= s[i] == (above ? '0' : '9');
  if (at == d->n || all) {
    put_any(d, at);
    return;
  }
  tn_buf_puts(d->e, "(");
  if (above ? s[at] < '9' : s[at] > '0') {
    put_digit(d, at, above ? (char)(s[at] + 1) : '0', above ? '9' : (char)(s[at] - 1));
    put_any(d, at + 1);
    tn_buf_puts(d->e, "| ");
  }
  put_digit(d, at, s[at], s[at]);
  put_side(d, s, at + 1, above);
  tn_buf_puts(d->e, ") ");
}

static void put_same_length(const digits *d, const char *a, const char *b) {
  int at = 0;
  for (; at < d->n && a[at] == b[at]; at++) put_digit(d, at, a[at], a[at]);
  if (at == d->n) return;
  tn_buf_puts(d->e, "(");
  put_digit(d, at, a[at], a[at]);
  put_side(d, a, at + 1, true);
  if (b[at] - a[at] > 1) {
    tn_buf_puts(d->e, "| ");
    put_digit(d, at, (char)(a[at] + 1), (char)(b[at] - 1));
    put_any(d, at + 1);
  }
  tn_buf_puts(d->e, "| ");
  put_digit(d, at, b[at], b[at]);
  put_side(d, b, at + 1, false);
  tn_buf_puts(d->e, ") ");
}

/* 0 <= a <= b, with `point` decimals: at least one digit stands before them. */
static void put_range(tn_buf *e, uint64_t a, uint64_t b, int point) {
  char from[MAX_DIGITS + 2], to[MAX_DIGITS + 2];
  bool first = true;
  uint64_t power = 1;
  for (int n = 1; n <= MAX_DIGITS - 1; n++, power *= 10) {
    uint64_t lo = n == 1 || n <= point + 1 ? 0 : power, hi = power * 10 - 1;
    if (n <= point) continue;
    if (lo < a) lo = a;
    if (hi > b) hi = b;
    if (lo > hi) continue;
    snprintf(from, sizeof from, "%0*llu", n, (unsigned long long)lo);
    snprintf(to, sizeof to, "%0*llu", n, (unsigned long long)hi);
    if (!first) tn_buf_puts(e, "| ");
    first = false;
    put_same_length(&(digits){e, n, point}, from, to);
  }
}

static void put_signed(tn_buf *e, int64_t a, int64_t b, int point) {
  tn_buf_puts(e, "(");
  if (a < 0) {
    tn_buf_puts(e, "\"-\" (");
    put_range(e, b < 0 ? (uint64_t)-b : 1, (uint64_t)-a, point);
    tn_buf_puts(e, ")");
  }
  if (a < 0 && b >= 0) tn_buf_puts(e, " | ");
  if (b >= 0) put_range(e, a > 0 ? (uint64_t)a : 0, (uint64_t)b, point);
  tn_buf_puts(e, ")");
}

/* ---- limits -------------------------------------------------------------------------------------------- */

typedef struct limit {
  bool given, open; /* open: the value itself is outside */
  double value;
} limit;

static tn_status read_limit(tn_schema_gen *g, tn_json *s, const char *closed, const char *open, double sign,
                            limit *out) {
  const char *names[] = {closed, open};
  *out = (limit){0};
  for (int i = 0; i < 2; i++) {
    tn_json *v = tn_json_get(s, names[i]);
    if (!v) continue;
    if (v->kind == TN_JSON_BOOL) { /* draft 4: exclusiveMinimum is a flag */
      out->open |= v->u.b;
      continue;
    }
    if (v->kind != TN_JSON_INT && v->kind != TN_JSON_REAL)
      return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'%s' is %s, expected a number", names[i],
                     tn_json_kind_name(v->kind));
    double x = v->kind == TN_JSON_INT ? (double)v->u.i : v->u.r;
    if (!(fabs(x) < LIMIT)) return tn_schema_refuse(g, names[i], "of 1e12 and more");
    if (!out->given || sign * x > sign * out->value || (x == out->value && i)) out->open = i;
    if (!out->given || sign * x > sign * out->value) out->value = x;
    out->given = true;
  }
  return TN_OK;
}

/* The limit times 10^decimals as an integer inside of it. */
static int64_t scaled(const limit *l, bool lower, int decimals) {
  double scale = pow(10, decimals), near = round(l->value * scale);
  if (near / scale == l->value) return (int64_t)near + (l->open ? (lower ? 1 : -1) : 0);
  return (int64_t)(lower ? ceil(l->value * scale) : floor(l->value * scale));
}

static tn_status check_multiple(tn_schema_gen *g, tn_json *s, bool integer) {
  tn_json *m = tn_json_get(s, "multipleOf");
  bool one = m && ((m->kind == TN_JSON_INT && m->u.i == 1) || (m->kind == TN_JSON_REAL && m->u.r == 1));
  return !m || (one && integer) ? TN_OK : tn_schema_refuse(g, "multipleOf", integer ? "other than 1" : "");
}

/* Integers between the limits, scaled; where one side has none, as far as 15 digits go. */
static bool put_limited(tn_buf *e, const limit *lo, const limit *hi, int decimals) {
  int64_t most = 999999999999999 / (decimals ? 10 : 1);
  int64_t a = lo->given ? scaled(lo, true, decimals) : -most,
          b = hi->given ? scaled(hi, false, decimals) : most;
  if (a > b) return false;
  put_signed(e, a, b, decimals);
  return true;
}

tn_status tn_schema_number(tn_schema_gen *g, tn_json *s, bool integer, tn_buf *e) {
  limit lo, hi;
  TN_TRY(check_multiple(g, s, integer));
  TN_TRY(read_limit(g, s, "minimum", "exclusiveMinimum", 1, &lo));
  TN_TRY(read_limit(g, s, "maximum", "exclusiveMaximum", -1, &hi));
  if (!lo.given && !hi.given) return tn_schema_common(g, e, integer ? "integer" : "number"), TN_OK;
  tn_buf b = {0};
  bool any = put_limited(&b, &lo, &hi, 0);
  if (!integer) {
    tn_buf more = {0};
    if (put_limited(&more, &lo, &hi, DECIMALS))
      tn_buf_printf(&b, "%s%s", any ? " | " : "", tn_buf_cstr(&more)), any = true;
    b.failed |= more.failed;
    tn_buf_fini(&more);
  }
  tn_status status =
      any ? tn_schema_rule(g, &b, e)
          : tn_fail(g->diags, TN_INVALID, g->name, NULL, "no %s lies between the limits %g and %g",
                    integer ? "integer" : "number", lo.value, hi.value);
  tn_buf_fini(&b);
  return status;
}
