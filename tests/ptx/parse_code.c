/* parse_code.c - instructions: guard, opcode with its modifiers and types, operands. */
#include "tests/ptx/parse.h"
#include <ctype.h>
#include <stdlib.h>

/* ---- opcodes
 * ------------------------------------------------------------------------------------------------------- */
/* m16n8k16, m8n8 */
static bool shape_word(tn_str s, ptx_ins *i) {
  unsigned m, n, k = 0;
  int end = 0;
  char text[24];
  if (s.len >= sizeof text) return false;
  memcpy(text, s.ptr, s.len);
  text[s.len] = 0;
  bool whole = (sscanf(text, "m%un%uk%u%n", &m, &n, &k, &end) == 3 && (uint64_t)end == s.len) ||
               (k = 0, sscanf(text, "m%un%u%n", &m, &n, &end) == 2 && (uint64_t)end == s.len);
  if (whole) i->m = m, i->n = n, i->k = k;
  return whole;
}

static void read_mod(ptx_ins *i, ptx_mod m) {
  i->mods[m / 64] |= 1ull << (m % 64);
  if (m == PM_v2) i->vector = 2;
  if (m == PM_v4) i->vector = 4;
  if (m == PM_v8) i->vector = 8;
  bool joins = m == PM_and || m == PM_or || m == PM_xor || m == PM_ftz;
  if ((i->op == PO_setp || i->op == PO_set) && !joins) i->compare = (uint8_t)m;
  switch (m) {
  case PM_global: i->space = PS_global; break;
  case PM_shared:
  case PM_shared_cta:
  case PM_shared_cluster: i->space = PS_shared; break;
  case PM_local: i->space = PS_local; break;
  case PM_param: i->space = PS_param; break;
  case PM_const: i->space = PS_const; break;
  default: break;
  }
}

static bool read_piece(ptx_parser *p, const ptx_row *row, ptx_ins *i, tn_str s) {
  uint64_t at;
  if (tn_map_get(&p->type_of, s, &at) && row->types >> at & 1) {
    if (i->ntypes == PTX_MAX_TYPES) return ptx_fail(p, "%s: too many types", row->name);
    i->type[i->ntypes++] = (uint8_t)at;
    return true;
  }
  if (tn_map_get(&p->mod_of, s, &at) && row->mods[at / 64] >> (at % 64) & 1)
    return read_mod(i, (ptx_mod)at), true;
  bool shapes = row->mods[PM_shape / 64] >> (PM_shape % 64) & 1;
  if (shapes && shape_word(s, i)) return true;
  return ptx_fail(p, "%s: '.%.*s' is not known", row->name, (int)s.len, s.ptr);
}

/* "ld.global.v4.b32" */
static bool read_opcode(ptx_parser *p, ptx_ins *i) {
  const char *s = p->t.text, *end = s + p->t.len, *dot = memchr(s, '.', p->t.len);
  uint64_t at;
  if (!dot) dot = end;
  if (p->t.kind != TK_WORD || !tn_map_get(&p->row_of, (tn_str){s, (uint64_t)(dot - s)}, &at))
    return ptx_fail(p, "'%.*s' is not an instruction that is known", (int)p->t.len, s);
  i->op = (uint8_t)at;
  i->run = p->rows[at].run;
  while (dot < end) {
    const char *from = dot + 1;
    dot = memchr(from, '.', (size_t)(end - from));
    if (!dot) dot = end;
    if (!read_piece(p, &p->rows[at], i, (tn_str){from, (uint64_t)(dot - from)})) return false;
  }
  return ptx_next(p);
}

/* ---- operands
 * ------------------------------------------------------------------------------------------------------ */
static bool operand(ptx_parser *p, ptx_ins *i, ptx_arg *a);

static int32_t find_register(ptx_parser *p, tn_str name) {
  const ptx_name *n = ptx_name_find(p, name);
  if (n) return n->kind == PN_REGS && !n->count ? (int32_t)n->first : -1;
  uint64_t len = name.len, number = 0, scale = 1;
  while (len && isdigit((uint8_t)name.ptr[len - 1]) && scale < 1000000)
    number += (uint64_t)(name.ptr[--len] - '0') * scale, scale *= 10;
  n = len < name.len ? ptx_name_find(p, (tn_str){name.ptr, len}) : NULL;
  return n && n->kind == PN_REGS && number < n->count ? (int32_t)(n->first + number) : -1;
}

static void place_symbol(ptx_arg *a, const ptx_name *n) {
  a->space = n->symbol.space;
  a->value = n->symbol.address;
  a->relative = n->relative;
}

/* A name: register, special register, variable; any other is a label that is yet to come. */
static bool named(ptx_parser *p, ptx_arg *a, const char **label) {
  tn_str s = {p->t.text, p->t.len};
  uint64_t at;
  a->also = -1;
  *label = NULL;
  const ptx_name *n;
  if (tn_str_is(s, "_")) {
    a->kind = PK_SINK;
  } else if (tn_map_get(&p->sreg_of, s, &at)) {
    *a = (ptx_arg){.kind = PK_SPECIAL, .reg = (int32_t)at, .also = -1};
  } else if ((a->reg = find_register(p, s)) >= 0) {
    a->kind = PK_REG;
  } else if ((n = ptx_name_find(p, s)) && n->kind == PN_SYMBOL) {
    a->kind = PK_SYMBOL;
    place_symbol(a, n);
  } else if (s.ptr[0] == '%') {
    return ptx_fail(p, "there is no register '%.*s'", (int)s.len, s.ptr);
  } else {
    a->kind = PK_LABEL;
    *label = ptx_word(p);
  }
  return ptx_next(p);
}

static bool offset(ptx_parser *p, uint64_t *value) {
  while (ptx_is(p, "+") || ptx_is(p, "-")) {
    bool minus = false;
    while (ptx_is(p, "+") || ptx_is(p, "-")) {
      minus ^= ptx_is(p, "-");
      if (!ptx_next(p)) return false;
    }
    uint64_t v;
    if (!ptx_integer(p, &v)) return false;
    *value += minus ? 0 - v : v;
  }
  return !p->failed;
}

static bool list(ptx_parser *p, ptx_ins *i, ptx_arg *a, const char *end) {
  ptx_arg items[PTX_LANES * 4 + 1];
  uint32_t n = 0;
  while (!ptx_is(p, end)) {
    if (n == TN_COUNT(items)) return ptx_fail(p, "a list of more than %zu", TN_COUNT(items));
    if (!operand(p, i, &items[n++])) return false;
    if (!ptx_take(p, ",")) break;
  }
  if (!ptx_expect(p, end)) return false;
  a->items = tn_arena_copy(&p->m->arena, items, n * sizeof *items);
  a->count = (uint16_t)n;
  return a->items || !n ? true : ptx_fail(p, "no memory");
}

/* [%rd1+16], [name], [%rd1, {%r1, %r2}] */
static bool address(ptx_parser *p, ptx_ins *i, ptx_arg *a) {
  *a = (ptx_arg){.kind = PK_ADDRESS, .reg = -1, .also = -1};
  if (p->t.kind == TK_NUMBER) {
    if (!ptx_integer(p, &a->value)) return false;
  } else {
    ptx_arg base = {0};
    const char *label;
    if (p->t.kind != TK_WORD || !named(p, &base, &label)) return ptx_fail(p, "an address is expected");
    if (base.kind != PK_REG && base.kind != PK_SYMBOL)
      return ptx_fail(p, "'%s' is no address", label ? label : "?");
    a->reg = base.kind == PK_REG ? base.reg : -1;
    a->value = base.value;
    a->space = base.space;
    a->relative = base.relative;
  }
  if (!offset(p, &a->value)) return false;
  if (ptx_take(p, ",")) return list(p, i, a, "]");
  return ptx_expect(p, "]");
}

static bool literal(ptx_parser *p, const ptx_ins *i, ptx_arg *a) {
  bool minus = ptx_take(p, "-");
  if (p->t.kind != TK_NUMBER) return ptx_fail(p, "an operand is expected");
  uint64_t v = p->t.value;
  ptx_type type = i->ntypes ? (ptx_type)i->type[i->ntypes - 1] : PT_none;
  if (p->t.literal == 'd' && p->t.text[0] != '0' && type == PT_f32) v = ptx_bits32((float)ptx_f64(v));
  if (minus) v = p->t.literal == 'i' ? 0 - v : p->t.literal == 'f' ? v ^ 0x80000000u : v ^ 1ull << 63;
  *a = (ptx_arg){.kind = PK_IMM, .value = v, .also = -1};
  return ptx_next(p);
}

static bool operand(ptx_parser *p, ptx_ins *i, ptx_arg *a) {
  *a = (ptx_arg){.also = -1};
  if (ptx_take(p, "{")) {
    a->kind = PK_LIST;
    return list(p, i, a, "}");
  }
  if (ptx_take(p, "[")) return address(p, i, a);
  bool negated = ptx_take(p, "!");
  if (p->t.kind != TK_WORD) return literal(p, i, a);
  const char *label;
  if (!named(p, a, &label)) return false;
  a->negated = negated;
  if (label) {
    ptx_jump j = {p->code.count, i->nargs, 0, label, p->t.line};
    return tn_vec_push(&p->jumps, j) ? true : ptx_fail(p, "no memory");
  }
  if (a->kind == PK_SYMBOL) return offset(p, &a->value);
  if (ptx_take(p, "|")) {
    if (ptx_take(p, "_")) return true;
    if (p->t.kind != TK_WORD) return ptx_fail(p, "a second register is expected");
    a->also = find_register(p, (tn_str){p->t.text, p->t.len});
    if (a->also < 0) return ptx_fail(p, "there is no register '%.*s'", (int)p->t.len, p->t.text);
    return ptx_next(p);
  }
  return true;
}

/* ---- instructions
 * -------------------------------------------------------------------------------------------------- */
static bool guard(ptx_parser *p, ptx_ins *i) {
  if (!ptx_take(p, "@")) return !p->failed;
  i->guard_not = ptx_take(p, "!");
  if (p->t.kind != TK_WORD) return ptx_fail(p, "a predicate is expected");
  i->guard = find_register(p, (tn_str){p->t.text, p->t.len});
  if (i->guard < 0) return ptx_fail(p, "there is no register '%.*s'", (int)p->t.len, p->t.text);
  return ptx_next(p);
}

bool ptx_parse_instruction(ptx_parser *p) {
  ptx_ins i = {.guard = -1, .vector = 1, .line = p->t.line};
  const char *from = p->t.text;
  if (!guard(p, &i) || !read_opcode(p, &i)) return false;
  while (!ptx_is(p, ";")) {
    if (i.nargs == PTX_MAX_ARGS) return ptx_fail(p, "more than %d operands", PTX_MAX_ARGS);
    if (!operand(p, &i, &i.args[i.nargs])) return false;
    i.nargs++;
    if (!ptx_take(p, ",")) break;
  }
  const ptx_row *row = &p->rows[i.op];
  i.text = tn_arena_str(&p->m->arena, (tn_str){from, (uint64_t)(p->t.text - from)});
  if (!ptx_is(p, ";")) return ptx_expect(p, ";");
  if (i.nargs < row->least || i.nargs > row->most)
    return ptx_fail(p, "%s has %u operands, between %u and %u are expected", row->name, i.nargs, row->least,
                    row->most);
  if (row->types && !i.ntypes && row->least && i.op != PO_bar && i.op != PO_barrier && i.op != PO_cp &&
      i.op != PO_nanosleep)
    return ptx_fail(p, "%s has no type", row->name);
  const char *why = ptx_check(&i, p->m->sm, p->m->version);
  if (why) return ptx_fail(p, "%s: %s", row->name, why);
  if (!i.text || !tn_vec_push(&p->code, i)) return ptx_fail(p, "no memory");
  return ptx_expect(p, ";");
}
