/* parse.c - modules: directives, variables, kernels with their parameters and bodies. */
#include "tests/ptx/parse.h"
#include <ctype.h>
#include <stdlib.h>

/* ---- tokens
 * -------------------------------------------------------------------------------------------------------- */
bool ptx_fail(ptx_parser *p, const char *fmt, ...) {
  if (p->failed) return false;
  p->failed = true;
  int n = snprintf(p->error, PTX_ERROR, "line %u: ", p->t.line);
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(p->error + n, (size_t)(PTX_ERROR - n), fmt, ap);
  va_end(ap);
  return false;
}

bool ptx_next(ptx_parser *p) {
  const char *why = "";
  if (p->failed) return false;
  if (ptx_lex(&p->lexer, &p->t, &why)) return true;
  p->t.line = p->lexer.line;
  return ptx_fail(p, "%s", why);
}

bool ptx_is(const ptx_parser *p, const char *text) {
  return p->t.kind != TK_STRING && p->t.kind != TK_END && tn_str_is((tn_str){p->t.text, p->t.len}, text);
}

bool ptx_take(ptx_parser *p, const char *text) { return !p->failed && ptx_is(p, text) && ptx_next(p); }

bool ptx_expect(ptx_parser *p, const char *text) {
  if (p->failed) return false;
  if (!ptx_is(p, text))
    return ptx_fail(p, "'%s' is expected, not '%.*s'", text, p->t.kind == TK_END ? 3 : (int)p->t.len,
                    p->t.kind == TK_END ? "end" : p->t.text);
  return ptx_next(p);
}

char *ptx_word(ptx_parser *p) { return tn_arena_str(&p->m->arena, (tn_str){p->t.text, p->t.len}); }

bool ptx_integer(ptx_parser *p, uint64_t *out) {
  if (p->failed) return false;
  if (p->t.kind != TK_NUMBER || p->t.literal != 'i') return ptx_fail(p, "an integer is expected");
  *out = p->t.value;
  return ptx_next(p);
}

bool ptx_type_word(ptx_parser *p, ptx_type *out) {
  uint64_t type;
  if (p->failed) return false;
  if (p->t.kind != TK_WORD || p->t.len < 2 || p->t.text[0] != '.' ||
      !tn_map_get(&p->type_of, (tn_str){p->t.text + 1, p->t.len - 1}, &type))
    return ptx_fail(p, "a type is expected, not '%.*s'", (int)p->t.len, p->t.text);
  *out = (ptx_type)type;
  return ptx_next(p);
}

/* ---- names
 * ---------------------------------------------------------------------------------------------------------
 */
bool ptx_name_add(ptx_parser *p, const char *name, const ptx_name *n) {
  bool there;
  if (!name || !tn_vec_push(&p->names, *n) ||
      tn_map_put(&p->scopes[p->depth].names, tn_str_of(name), p->names.count - 1, &there) != TN_OK)
    return ptx_fail(p, "no memory");
  return there ? ptx_fail(p, "'%s' is there twice", name) : true;
}

const ptx_name *ptx_name_find(const ptx_parser *p, tn_str name) {
  uint64_t at;
  for (uint32_t d = p->depth + 1; d-- > 0;)
    if (tn_map_get(&p->scopes[d].names, name, &at)) return &p->names.items[at];
  return NULL;
}

static bool open_scope(ptx_parser *p) {
  if (p->depth + 1 == PTX_SCOPES) return ptx_fail(p, "blocks are nested too deep");
  tn_map_init(&p->scopes[++p->depth].names);
  p->scopes[p->depth].open = p->jumps.count;
  return true;
}

/* Jumps that found no label here may find one in the block around; those of a whole body must have one. */
static bool close_scope(ptx_parser *p) {
  ptx_scope *s = &p->scopes[p->depth];
  uint32_t kept = s->open;
  for (uint32_t i = s->open; i < p->jumps.count; i++) {
    ptx_jump j = p->jumps.items[i];
    uint64_t at;
    bool found = tn_map_get(&s->names, tn_str_of(j.label), &at) && p->names.items[at].kind == PN_LABEL;
    if (!found && p->depth == 1) {
      p->t.line = j.line;
      return ptx_fail(p, "there is no '%s'", j.label);
    }
    if (!found) {
      p->jumps.items[kept++] = j;
      continue;
    }
    ptx_arg *a = &p->code.items[j.instruction].args[j.arg];
    if (j.item) a = &a->items[j.item - 1];
    *a = (ptx_arg){.kind = PK_LABEL, .reg = (int32_t)p->names.items[at].first, .also = -1};
  }
  p->jumps.count = kept;
  tn_map_fini(&s->names);
  p->depth--;
  return true;
}

/* ---- variables
 * ----------------------------------------------------------------------------------------------------- */
typedef struct variable {
  ptx_space space;
  uint64_t align, bytes, count; /* count 0: of unknown length */
  ptx_type type;
  bool external, array;
  const char *name;
} variable;

/* [.align N] [.v2] .type name[count] */
static bool read_variable(ptx_parser *p, variable *v) {
  uint64_t lanes = 1;
  v->align = 0;
  v->count = 1;
  for (;;) {
    if (ptx_take(p, ".align")) {
      if (!ptx_integer(p, &v->align)) return false;
    } else if (ptx_take(p, ".v2")) {
      lanes = 2;
    } else if (ptx_take(p, ".v4")) {
      lanes = 4;
    } else {
      break;
    }
  }
  if (!ptx_type_word(p, &v->type)) return false;
  /* .ptr .global .align 16: what a parameter points to */
  if (ptx_take(p, ".ptr"))
    while (ptx_is(p, ".global") || ptx_is(p, ".const") || ptx_is(p, ".shared") || ptx_is(p, ".local") ||
           ptx_is(p, ".align")) {
      uint64_t ignored;
      bool align = ptx_is(p, ".align");
      if (!ptx_next(p) || (align && !ptx_integer(p, &ignored))) return false;
    }
  if (p->t.kind != TK_WORD) return ptx_fail(p, "a name is expected");
  v->name = ptx_word(p);
  if (!ptx_next(p)) return false;
  v->array = ptx_take(p, "[");
  if (v->array) {
    v->count = 0;
    if (!ptx_is(p, "]") && !ptx_integer(p, &v->count)) return false;
    if (!ptx_expect(p, "]")) return false;
  }
  uint64_t item = ptx_type_bytes[v->type] * lanes;
  if (!v->align) v->align = item;
  if (v->align & (v->align - 1) || v->align > 4096)
    return ptx_fail(p, "an alignment of %llu", (unsigned long long)v->align);
  if (!tn_mul_u64(v->count, item, &v->bytes) || v->bytes > (1ull << 40))
    return ptx_fail(p, "'%s' is too large", v->name);
  return true;
}

/* = {1, 2} of a global variable; numbers only. */
static bool read_initialiser(ptx_parser *p, const variable *v, uint8_t *data) {
  bool list = ptx_take(p, "{");
  uint64_t size = ptx_type_bytes[v->type];
  for (uint64_t i = 0; !p->failed; i++) {
    bool minus = ptx_take(p, "-");
    if (p->t.kind != TK_NUMBER) return ptx_fail(p, "only numbers initialise a variable here");
    uint64_t x = p->t.value;
    if (p->t.literal == 'd' && v->type == PT_f32) x = ptx_bits32((float)ptx_f64(x));
    if (minus) x = 0 - x;
    if ((i + 1) * size > v->bytes)
      return ptx_fail(p, "'%s' has room for %llu numbers", v->name, (unsigned long long)v->count);
    memcpy(data + i * size, &x, size);
    if (!ptx_next(p) || !list || !ptx_take(p, ",")) break;
  }
  return !list || ptx_expect(p, "}");
}

static bool place_global(ptx_parser *p, const variable *v, ptx_name *n) {
  n->symbol.address = ptx_alloc(p->m->memory, v->bytes ? v->bytes : 1);
  uint8_t *data =
      n->symbol.address ? ptx_host(p->m->memory, n->symbol.address, v->bytes ? v->bytes : 1, true) : NULL;
  if (!data) return ptx_fail(p, "no memory for '%s'", v->name);
  memset(data, 0, v->bytes);
  if (ptx_take(p, "=") && !read_initialiser(p, v, data)) return false;
  ptx_symbol s = n->symbol;
  return tn_vec_push(&p->m->symbols, s) ? true : ptx_fail(p, "no memory");
}

static bool add_variable(ptx_parser *p, ptx_space space, bool external) {
  variable v = {.space = space, .external = external};
  do {
    if (!read_variable(p, &v)) return false;
    ptx_name n = {.kind = PN_SYMBOL, .symbol = {v.name, (uint8_t)space, 0, v.bytes}};
    ptx_kernel_info *k = p->kernel ? &p->kernel->info : NULL;
    if (space == PS_global || space == PS_const) {
      if (!place_global(p, &v, &n)) return false;
    } else if (space == PS_shared && external && v.array && !v.count) {
      n.relative = 2;
    } else {
      if (external) return ptx_fail(p, "'%s' is declared elsewhere; one module has all", v.name);
      if (v.array && !v.count) return ptx_fail(p, "'%s' has no length", v.name);
      if (space == PS_local && !k) return ptx_fail(p, "a local variable outside of a kernel");
      uint64_t *end = space == PS_local ? &k->local_bytes : k ? &k->shared_bytes : &p->module_shared;
      n.symbol.address = tn_align_up(*end, v.align);
      n.relative = space == PS_local ? 3 : 1;
      *end = n.symbol.address + v.bytes;
    }
    if (!ptx_name_add(p, v.name, &n)) return false;
  } while (ptx_take(p, ","));
  return ptx_expect(p, ";");
}

/* ---- kernels
 * ------------------------------------------------------------------------------------------------------- */
static bool add_parameters(ptx_parser *p) {
  ptx_kernel_info *k = &p->kernel->info;
  if (!ptx_take(p, "(")) return true;
  while (!ptx_is(p, ")")) {
    variable v = {.space = PS_param};
    if (!ptx_expect(p, ".param") || !read_variable(p, &v)) return false;
    if (k->nparams == PTX_MAX_PARAMS) return ptx_fail(p, "more than %d parameters", PTX_MAX_PARAMS);
    uint64_t at = tn_align_up(k->param_bytes, v.align);
    if (at + v.bytes > 32764) return ptx_fail(p, "more than 32764 bytes of parameters");
    k->offset[k->nparams] = (uint32_t)at;
    k->size[k->nparams++] = (uint32_t)v.bytes;
    k->param_bytes = (uint32_t)(at + v.bytes);
    ptx_name n = {.kind = PN_SYMBOL, .symbol = {v.name, PS_param, at, v.bytes}};
    if (!ptx_name_add(p, v.name, &n)) return false;
    if (!ptx_take(p, ",")) break;
  }
  return ptx_expect(p, ")");
}

static bool three(ptx_parser *p, uint32_t out[3]) {
  uint64_t v;
  for (int i = 0; i < 3; i++) out[i] = 1;
  for (int i = 0; i < 3; i++) {
    if (!ptx_integer(p, &v)) return false;
    out[i] = v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
    if (!ptx_take(p, ",")) return true;
  }
  return ptx_fail(p, "at most three sizes");
}

static bool kernel_directives(ptx_parser *p) {
  ptx_kernel_info *k = &p->kernel->info;
  uint64_t ignored;
  for (;;) {
    bool good = true;
    if (ptx_take(p, ".reqntid"))
      good = three(p, k->required);
    else if (ptx_take(p, ".maxntid"))
      good = three(p, k->most);
    else if (ptx_take(p, ".reqnctapercluster"))
      good = three(p, k->cluster);
    else if (ptx_take(p, ".minnctapersm") || ptx_take(p, ".maxnreg") || ptx_take(p, ".maxclusterrank"))
      good = ptx_integer(p, &ignored);
    else if (!ptx_take(p, ".explicitcluster") && !ptx_take(p, ".blocksareclusters"))
      return !p->failed;
    if (!good) return false;
  }
}

/* .reg .b32 %r<12>, %x; */
static bool add_registers(ptx_parser *p) {
  ptx_type type;
  if (!ptx_type_word(p, &type)) return false;
  do {
    if (p->t.kind != TK_WORD) return ptx_fail(p, "a register's name is expected");
    char *name = ptx_word(p);
    uint64_t count = 0;
    if (!ptx_next(p) || (ptx_take(p, "<") && (!ptx_integer(p, &count) || !ptx_expect(p, ">")))) return false;
    if (count > 100000) return ptx_fail(p, "%llu registers", (unsigned long long)count);
    ptx_name n = {.kind = PN_REGS, .first = p->kernel->registers, .count = (uint32_t)count};
    p->kernel->registers += (count ? (uint32_t)count : 1) * (type == PT_b128 ? 2 : 1);
    if (!ptx_name_add(p, name, &n)) return false;
  } while (ptx_take(p, ","));
  return ptx_expect(p, ";");
}

static bool is_label(ptx_parser *p) {
  if (p->t.kind != TK_WORD || p->t.text[0] == '.') return false;
  const char *s = p->lexer.at;
  while (s < p->lexer.end && isspace((uint8_t)*s)) s++;
  return s < p->lexer.end && *s == ':' && (s + 1 == p->lexer.end || s[1] != ':');
}

static bool skip_line(ptx_parser *p) { /* .loc 1 2 3 */
  const char *eol = memchr(p->lexer.at, '\n', (size_t)(p->lexer.end - p->lexer.at));
  p->lexer.at = eol ? eol : p->lexer.end;
  return ptx_next(p);
}

static bool read_targets(ptx_parser *p, const char *name);

static bool statement(ptx_parser *p) {
  if (ptx_take(p, "{")) return open_scope(p);
  if (ptx_take(p, ".reg")) return add_registers(p);
  if (ptx_take(p, ".shared")) return add_variable(p, PS_shared, false);
  if (ptx_take(p, ".local")) return add_variable(p, PS_local, false);
  if (ptx_is(p, ".loc")) return skip_line(p);
  if (ptx_take(p, ".pragma"))
    return p->t.kind == TK_STRING ? ptx_next(p) && ptx_expect(p, ";") : ptx_fail(p, "a string is expected");
  if (ptx_take(p, ";")) return true;
  if (!is_label(p)) return ptx_parse_instruction(p);
  char *name = ptx_word(p);
  if (!ptx_next(p) || !ptx_expect(p, ":")) return false;
  if (ptx_take(p, ".branchtargets")) return read_targets(p, name);
  ptx_name n = {.kind = PN_LABEL, .first = p->code.count};
  return ptx_name_add(p, name, &n);
}

/* NAME: .branchtargets L1, L2; is kept as an instruction that nothing runs: brx.idx looks its operands up. */
static bool read_targets(ptx_parser *p, const char *name) {
  ptx_name n = {.kind = PN_LABEL, .first = p->code.count};
  ptx_ins i = {.op = PO_nanosleep,
               .run = ptx_run_nop,
               .guard = -1,
               .nargs = 1,
               .line = p->t.line,
               .vector = 1,
               .text = ".branchtargets"};
  TN_VEC(ptx_arg) items = {0};
  do {
    ptx_jump j = {p->code.count, 0, items.count + 1, ptx_word(p), p->t.line};
    if (!tn_vec_push(&items, ((ptx_arg){.also = -1})) || !tn_vec_push(&p->jumps, j)) ptx_fail(p, "no memory");
  } while (ptx_next(p) && ptx_take(p, ","));
  i.args[0] = (ptx_arg){.kind = PK_LIST,
                        .also = -1,
                        .count = (uint16_t)items.count,
                        .items = tn_arena_copy(&p->m->arena, items.items, items.count * sizeof *items.items)};
  tn_vec_fini(&items);
  if (!tn_vec_push(&p->code, i)) ptx_fail(p, "no memory");
  return ptx_name_add(p, name, &n) && ptx_expect(p, ";");
}

static bool body(ptx_parser *p) {
  if (!ptx_expect(p, "{")) return false;
  for (uint32_t base = p->depth; !p->failed;) {
    if (p->t.kind == TK_END) return ptx_fail(p, "the kernel does not end");
    if (!ptx_is(p, "}")) {
      if (!statement(p)) return false;
    } else if (p->depth == base) {
      return ptx_next(p);
    } else if (!close_scope(p) || !ptx_next(p)) {
      return false;
    }
  }
  return false;
}

static bool add_kernel(ptx_parser *p) {
  ptx_kernel *k = p->kernel = tn_arena_alloc(&p->m->arena, sizeof *k);
  if (!k) return ptx_fail(p, "no memory");
  k->module = p->m;
  k->info.name = ptx_word(p);
  k->info.shared_bytes = p->module_shared;
  p->code.count = 0;
  if (!ptx_next(p) || !open_scope(p) || !add_parameters(p) || !kernel_directives(p)) return false;
  if (ptx_take(p, ";")) { /* declared only */
    p->kernel = NULL;
    return close_scope(p);
  }
  if (!body(p) || !close_scope(p)) return false;
  ptx_ins end = {.op = PO_ret,
                 .run = ptx_run_ret,
                 .guard = -1,
                 .text = "end of the kernel",
                 .line = p->t.line,
                 .vector = 1};
  if (!tn_vec_push(&p->code, end)) return ptx_fail(p, "no memory");
  k->code = tn_arena_copy(&p->m->arena, p->code.items, p->code.count * sizeof *k->code);
  k->count = p->code.count;
  k->info.registers = k->registers;
  p->kernel = NULL;
  if (!k->code || !tn_vec_push(&p->m->kernels, k)) return ptx_fail(p, "no memory");
  return true;
}

/* ---- modules
 * ------------------------------------------------------------------------------------------------------- */
/* .target sm_90a, debug */
static bool read_target(ptx_parser *p) {
  if (p->t.kind != TK_WORD || p->t.len < 5 || p->t.len >= sizeof p->m->target || strncmp(p->t.text, "sm_", 3))
    return ptx_fail(p, "a target such as sm_80 is expected");
  memcpy(p->m->target, p->t.text, p->t.len);
  p->m->sm = (uint32_t)strtoul(p->m->target + 3, NULL, 10);
  if (!ptx_next(p)) return false;
  while (ptx_take(p, ","))
    if (!ptx_next(p)) return false;
  return true;
}

static bool read_version(ptx_parser *p) {
  if (p->t.kind != TK_NUMBER || p->t.literal != 'd') return ptx_fail(p, "a version such as 8.0 is expected");
  p->m->version = (uint32_t)(ptx_f64(p->t.value) * 10 + 0.5);
  if (p->m->version < 60 || p->m->version > 90)
    return ptx_fail(p, "PTX %.*s is not known, 6.0 to 9.0 are", (int)p->t.len, p->t.text);
  return ptx_next(p);
}

static bool top_level(ptx_parser *p) {
  uint64_t size;
  if (ptx_take(p, ".version")) return read_version(p);
  if (ptx_take(p, ".target")) return read_target(p);
  if (ptx_take(p, ".address_size"))
    return ptx_integer(p, &size) &&
           (size == 64 || ptx_fail(p, "addresses of %llu bits", (unsigned long long)size));
  if (ptx_is(p, ".file")) return skip_line(p);
  bool external = false;
  while (ptx_is(p, ".visible") || ptx_is(p, ".extern") || ptx_is(p, ".weak") || ptx_is(p, ".common")) {
    external |= ptx_is(p, ".extern");
    if (!ptx_next(p)) return false;
  }
  if (ptx_take(p, ".entry")) return add_kernel(p);
  if (ptx_take(p, ".global")) return add_variable(p, PS_global, external);
  if (ptx_take(p, ".const")) return add_variable(p, PS_const, external);
  if (ptx_take(p, ".shared")) return add_variable(p, PS_shared, external);
  return ptx_fail(p, "'%.*s' is not supported here", (int)p->t.len, p->t.text);
}

/* ---- the tables
 * ---------------------------------------------------------------------------------------------------- */
const char *const ptx_type_names[PT_COUNT] = {
    "",
#define PTX_TYPE(id, bytes, cls) #id,
#include "tests/ptx/types.def"
#undef PTX_TYPE
};
const uint8_t ptx_type_bytes[PT_COUNT] = {
    0,
#define PTX_TYPE(id, bytes, cls) bytes,
#include "tests/ptx/types.def"
#undef PTX_TYPE
};
const char ptx_type_class[PT_COUNT] = {
    0,
#define PTX_TYPE(id, bytes, cls) #cls[0],
#include "tests/ptx/types.def"
#undef PTX_TYPE
};
static const char *const mod_names[PM_COUNT] = {
#define PTX_MOD(id, text) text,
#include "tests/ptx/mods.def"
#undef PTX_MOD
};
static const char *const sreg_names[PR_COUNT] = {
#define PTX_SREG(id, text) text,
#include "tests/ptx/sregs.def"
#undef PTX_SREG
};
static const struct {
  const char *name;
  ptx_handler run;
  uint32_t least, most;
  const char *types, *mods;
} ops[PO_COUNT] = {
#define PTX_OP(name, handler, least, most, types, mods) {#name, ptx_run_##handler, least, most, types, mods},
#include "tests/ptx/ops.def"
#undef PTX_OP
};

/* Sets the bits of the words of a list. */
static void set_bits(const tn_map *of, const char *words, uint64_t *bits) {
  while (*words) {
    uint64_t n = strcspn(words, " "), at;
    if (n && tn_map_get(of, (tn_str){words, n}, &at)) bits[at / 64] |= 1ull << (at % 64);
    words += n + (words[n] == ' ');
  }
}

static bool fill_map(tn_map *map, const char *const *names, uint32_t n) {
  tn_map_init(map);
  for (uint32_t i = 0; i < n; i++)
    if (tn_map_put(map, tn_str_of(names[i]), i, NULL) != TN_OK) return false;
  return true;
}

static bool make_tables(ptx_parser *p) {
  if (!fill_map(&p->type_of, ptx_type_names, PT_COUNT) || !fill_map(&p->mod_of, mod_names, PM_COUNT) ||
      !fill_map(&p->sreg_of, sreg_names, PR_COUNT))
    return ptx_fail(p, "no memory");
  for (uint32_t i = 0; i < PO_COUNT; i++) {
    p->rows[i] =
        (ptx_row){.name = ops[i].name, .run = ops[i].run, .least = ops[i].least, .most = ops[i].most};
    set_bits(&p->type_of, ops[i].types, &p->rows[i].types);
    set_bits(&p->mod_of, ops[i].mods, p->rows[i].mods);
    if (tn_map_put(&p->row_of, tn_str_of(ops[i].name), i, NULL) != TN_OK) return ptx_fail(p, "no memory");
  }
  return true;
}

ptx_module *ptx_load(ptx_memory *memory, const char *text, uint64_t len, char *error) {
  ptx_parser *p = tn_mem_alloc(sizeof *p);
  ptx_module *m = tn_mem_alloc(sizeof *m);
  error[0] = 0;
  if (!p || !m) {
    snprintf(error, PTX_ERROR, "no memory");
    return tn_mem_free(p), tn_mem_free(m), NULL;
  }
  *p = (ptx_parser){.m = m, .error = error, .lexer = {text, text + strnlen(text, len), 1}};
  m->memory = memory;
  tn_arena_init(&m->arena);
  tn_map_init(&p->row_of);
  tn_map_init(&p->scopes[0].names);
  bool good = make_tables(p) && ptx_next(p);
  while (good && p->t.kind != TK_END) good = top_level(p);
  if (good && !m->target[0]) good = ptx_fail(p, "the module has no .target");
  while (p->depth > 0) tn_map_fini(&p->scopes[p->depth--].names);
  tn_map_fini(&p->scopes[0].names);
  tn_map_fini(&p->row_of), tn_map_fini(&p->type_of), tn_map_fini(&p->mod_of), tn_map_fini(&p->sreg_of);
  tn_vec_fini(&p->names), tn_vec_fini(&p->jumps), tn_vec_fini(&p->code);
  tn_mem_free(p);
  if (good) return m;
  ptx_unload(m);
  return NULL;
}

void ptx_unload(ptx_module *m) {
  if (!m) return;
  for (uint32_t i = 0; i < m->symbols.count; i++) ptx_release(m->memory, m->symbols.items[i].address);
  tn_vec_fini(&m->symbols);
  tn_vec_fini(&m->kernels);
  tn_arena_fini(&m->arena);
  tn_mem_free(m);
}

ptx_kernel *ptx_find(const ptx_module *m, const char *name) {
  for (uint32_t i = 0; i < m->kernels.count; i++)
    if (!strcmp(m->kernels.items[i]->info.name, name)) return m->kernels.items[i];
  return NULL;
}

bool ptx_global(const ptx_module *m, const char *name, uint64_t *address, uint64_t *bytes) {
  for (uint32_t i = 0; i < m->symbols.count; i++)
    if (!strcmp(m->symbols.items[i].name, name)) {
      *address = m->symbols.items[i].address;
      *bytes = m->symbols.items[i].bytes;
      return true;
    }
  return false;
}

const char *ptx_target(const ptx_module *m) { return m->target; }
uint32_t ptx_version(const ptx_module *m) { return m->version; }
void ptx_kernel_get(const ptx_kernel *k, ptx_kernel_info *out) { *out = k->info; }
