/* join.c - several relocatable objects become one, as `ld -r` would have it, but no section is moved into
 * another: all keep their bytes, and only the numbers of sections and symbols change (System V ABI, chapter
 * 4). So it takes a symbol table, a string table and headers to write. */
#include "backends/cpu/compile/codegen.h"
#include <elf.h>

typedef struct part {
  tn_bytes bytes;
  const tn_cpu_part *of;
  Elf64_Ehdr head;
  const Elf64_Shdr *sections;
  const Elf64_Sym *symbols;
  const char *strings;
  uint64_t nsymbols, nstrings;
  uint32_t *section_at, *symbol_at; /* numbers here -> numbers in the joined object */
} part;

typedef struct joining {
  part *parts;
  uint32_t nparts;
  tn_buf body, strings; /* sections one behind the other; names of sections and symbols */
  TN_VEC(Elf64_Shdr) headers;
  TN_VEC(Elf64_Sym) locals, globals; /* numbers of globals count from 0 until all locals are known */
  tn_map names;                      /* of globals */
  tn_arena arena;
  const char *why;
} joining;

static tn_status bad(joining *j, const char *why) {
  j->why = why;
  return TN_INTERNAL;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static bool inside(const part *p, uint64_t offset, uint64_t bytes) {
  uint64_t end;
  return tn_add_u64(offset, bytes, &end) && end <= p->bytes.len;
}

static const void *at(const part *p, uint64_t offset) { return (const char *)p->bytes.ptr + offset; }

static tn_status read_symbols(joining *j, part *p, const Elf64_Shdr *s) {
  if (p->symbols || s->sh_link >= p->head.e_shnum || s->sh_entsize != sizeof(Elf64_Sym) || s->sh_offset % 8)
    return bad(j, "an object's symbol table is not as expected");
  const Elf64_Shdr *names = &p->sections[s->sh_link];
  p->symbols = at(p, s->sh_offset);
  p->nsymbols = s->sh_size / sizeof(Elf64_Sym);
  p->strings = at(p, names->sh_offset);
  p->nstrings = names->sh_size;
  if (!p->nstrings || p->strings[p->nstrings - 1]) return bad(j, "an object's names do not end");
  return TN_OK;
}

static tn_status read_part(joining *j, part *p) {
  if (p->bytes.len < sizeof p->head) return bad(j, "an object is too short");
  memcpy(&p->head, p->bytes.ptr, sizeof p->head);
  const Elf64_Ehdr *h = &p->head;
  if (memcmp(h->e_ident, ELFMAG, SELFMAG) || h->e_type != ET_REL || h->e_machine != EM_X86_64 ||
      h->e_shoff % 8 || !inside(p, h->e_shoff, (uint64_t)h->e_shnum * sizeof(Elf64_Shdr)))
    return bad(j, "an object is not a relocatable one for x86-64");
  p->sections = at(p, h->e_shoff);
  for (uint32_t i = 0; i < h->e_shnum; i++)
    if (p->sections[i].sh_type != SHT_NOBITS && !inside(p, p->sections[i].sh_offset, p->sections[i].sh_size))
      return bad(j, "a section lies outside of its object");
  for (uint32_t i = 0; i < h->e_shnum; i++)
    if (p->sections[i].sh_type == SHT_SYMTAB) TN_TRY(read_symbols(j, p, &p->sections[i]));
  p->section_at = tn_arena_alloc(&j->arena, (h->e_shnum + 1) * sizeof *p->section_at);
  p->symbol_at = tn_arena_alloc(&j->arena, (p->nsymbols + 1) * sizeof *p->symbol_at);
  if (!p->symbols || h->e_shstrndx >= h->e_shnum) return bad(j, "an object has no symbols");
  return p->section_at && p->symbol_at ? TN_OK : TN_OOM;
}

/* ---- sections ------------------------------------------------------------------------------------------ */

static uint32_t name_at(joining *j, const char *name, const char *rest) {
  uint32_t place = (uint32_t)j->strings.len;
  tn_buf_puts(&j->strings, name);
  tn_buf_put(&j->strings, rest, strlen(rest) + 1);
  return place;
}

static void align(tn_buf *b, uint64_t to) {
  static const char zeros[64];
  while (b->len % to && !b->failed) tn_buf_put(b, zeros, to - b->len % to < 64 ? to - b->len % to : 64);
}

/* Appends a section whose bytes come next in the body; its number. */
static tn_status put_section(joining *j, Elf64_Shdr s, const void *bytes, uint32_t *number) {
  align(&j->body, s.sh_addralign > 1 ? s.sh_addralign : 1);
  s.sh_offset = sizeof(Elf64_Ehdr) + j->body.len;
  if (s.sh_type != SHT_NOBITS) tn_buf_put(&j->body, bytes, s.sh_size);
  *number = j->headers.count;
  return tn_vec_push(&j->headers, s) ? TN_OK : TN_OOM;
}

static bool stays(const part *p, uint32_t i) {
  const Elf64_Shdr *s = &p->sections[i];
  if (s->sh_type == SHT_RELA) return s->sh_info < p->head.e_shnum && p->section_at[s->sh_info];
  return s->sh_flags & SHF_ALLOC && s->sh_type != SHT_NULL;
}

/* Relocations come last, when the numbers of their sections are known. */
static tn_status take_sections(joining *j, part *p, bool relocations) {
  const Elf64_Shdr *names = &p->sections[p->head.e_shstrndx];
  for (uint32_t i = 0; i < p->head.e_shnum; i++) {
    Elf64_Shdr s = p->sections[i];
    const char *name = at(p, names->sh_offset + s.sh_name);
    if ((s.sh_type == SHT_RELA) != relocations || !stays(p, i)) continue;
    if (s.sh_name >= names->sh_size || !memchr(name, 0, names->sh_size - s.sh_name))
      return bad(j, "a section's name does not end");
    if (relocations) s.sh_info = p->section_at[s.sh_info];
    s.sh_name = name_at(j, name, "");
    TN_TRY(put_section(j, s, at(p, p->sections[i].sh_offset), &p->section_at[i]));
  }
  return TN_OK;
}

/* ---- symbols ------------------------------------------------------------------------------------------- */

/* A kernel's functions get its symbol: "kernel.body" becomes "tn_avx2_matmul_3.body". */
static uint32_t rename_symbol(joining *j, const part *p, const char *name) {
  uint64_t n = strlen(TN_CPU_KERNEL_NAME);
  bool own = !p->of->type && !strncmp(name, TN_CPU_KERNEL_NAME, n);
  return name_at(j, own ? p->of->symbol : name, own ? name + n : "");
}

static tn_status take_global(joining *j, part *p, uint64_t i, Elf64_Sym s) {
  const char *name = j->strings.text + s.st_name;
  uint64_t known = j->globals.count;
  bool there = false;
  if (tn_map_get(&j->names, tn_str_of(name), &known)) there = true;
  p->symbol_at[i] = (uint32_t)known;
  if (!there) {
    TN_TRY(tn_map_put(&j->names, tn_str_of(name), known, NULL));
    return tn_vec_push(&j->globals, s) ? TN_OK : TN_OOM;
  }
  if (s.st_shndx == SHN_UNDEF) return TN_OK;
  if (j->globals.items[known].st_shndx != SHN_UNDEF) return bad(j, "two parts define the same function");
  j->globals.items[known] = s;
  return TN_OK;
}

static tn_status take_symbols(joining *j, part *p) {
  for (uint64_t i = 1; i < p->nsymbols; i++) {
    Elf64_Sym s = p->symbols[i];
    if (s.st_name >= p->nstrings) return bad(j, "a symbol's name lies outside");
    bool placed = s.st_shndx != SHN_UNDEF && s.st_shndx < SHN_LORESERVE;
    if (placed && s.st_shndx >= p->head.e_shnum) return bad(j, "a symbol's section is not there");
    if (placed) s.st_shndx = (Elf64_Half)p->section_at[s.st_shndx];
    if (ELF64_ST_TYPE(s.st_info) == STT_FILE || (placed && !s.st_shndx)) continue;
    s.st_name = rename_symbol(j, p, p->strings + s.st_name);
    if (j->strings.failed) return TN_OOM;
    if (ELF64_ST_BIND(s.st_info) != STB_LOCAL) {
      TN_TRY(take_global(j, p, i, s));
      continue;
    }
    p->symbol_at[i] = j->locals.count;
    if (!tn_vec_push(&j->locals, s)) return TN_OOM;
  }
  return TN_OK;
}

static tn_status renumber(joining *j, const part *p) {
  for (uint32_t i = 0; i < p->head.e_shnum; i++) {
    const Elf64_Shdr *old = &p->sections[i];
    if (old->sh_type != SHT_RELA || !p->section_at[i]) continue;
    char *to = j->body.text + j->headers.items[p->section_at[i]].sh_offset - sizeof(Elf64_Ehdr);
    for (uint64_t k = 0; k < old->sh_size / sizeof(Elf64_Rela); k++) {
      Elf64_Rela r;
      memcpy(&r, to + k * sizeof r, sizeof r);
      uint64_t symbol = ELF64_R_SYM(r.r_info);
      if (symbol >= p->nsymbols) return bad(j, "a relocation's symbol is not there");
      bool local = ELF64_ST_BIND(p->symbols[symbol].st_info) == STB_LOCAL;
      uint64_t number = p->symbol_at[symbol] + (local ? 0 : j->locals.count);
      r.r_info = ELF64_R_INFO(number, ELF64_R_TYPE(r.r_info));
      memcpy(to + k * sizeof r, &r, sizeof r);
    }
  }
  return TN_OK;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static tn_status put_tables(joining *j) {
  uint32_t number, symtab, nlocals = j->locals.count;
  Elf64_Shdr stack = {
      .sh_name = name_at(j, ".note.GNU-stack", ""), .sh_type = SHT_PROGBITS, .sh_addralign = 1};
  Elf64_Shdr table = {.sh_name = name_at(j, ".symtab", ""),
                      .sh_type = SHT_SYMTAB,
                      .sh_info = nlocals,
                      .sh_size = ((uint64_t)nlocals + j->globals.count) * sizeof(Elf64_Sym),
                      .sh_entsize = sizeof(Elf64_Sym),
                      .sh_addralign = 8};
  Elf64_Shdr strings = {.sh_name = name_at(j, ".strtab", ""), .sh_type = SHT_STRTAB, .sh_addralign = 1};
  strings.sh_size = j->strings.len;
  for (uint32_t i = 0; i < j->globals.count; i++)
    if (!tn_vec_push(&j->locals, j->globals.items[i])) return TN_OOM;
  TN_TRY(put_section(j, stack, "", &number));
  TN_TRY(put_section(j, table, j->locals.items, &symtab));
  TN_TRY(put_section(j, strings, j->strings.text, &number));
  for (uint32_t i = 0; i < j->headers.count; i++)
    if (j->headers.items[i].sh_type == SHT_RELA) j->headers.items[i].sh_link = symtab;
  j->headers.items[symtab].sh_link = number;
  return j->headers.count < SHN_LORESERVE ? TN_OK : bad(j, "too many sections");
}

static void assemble(joining *j, tn_buf *out) {
  align(&j->body, 8);
  Elf64_Ehdr h = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                  .e_type = ET_REL,
                  .e_machine = EM_X86_64,
                  .e_version = EV_CURRENT,
                  .e_shoff = sizeof h + j->body.len,
                  .e_ehsize = sizeof h,
                  .e_shentsize = sizeof(Elf64_Shdr),
                  .e_shnum = (Elf64_Half)j->headers.count,
                  .e_shstrndx = (Elf64_Half)(j->headers.count - 1)};
  tn_buf_put(out, &h, sizeof h);
  tn_buf_put(out, j->body.text, j->body.len);
  tn_buf_put(out, j->headers.items, j->headers.count * sizeof(Elf64_Shdr));
}

static tn_status join(joining *j, tn_buf *out) {
  name_at(j, "", "");
  if (!tn_vec_push(&j->headers, (Elf64_Shdr){0}) || !tn_vec_push(&j->locals, (Elf64_Sym){0})) return TN_OOM;
  for (uint32_t i = 0; i < j->nparts; i++) TN_TRY(read_part(j, &j->parts[i]));
  for (uint32_t i = 0; i < j->nparts; i++) TN_TRY(take_sections(j, &j->parts[i], false));
  for (uint32_t i = 0; i < j->nparts; i++) TN_TRY(take_symbols(j, &j->parts[i]));
  for (uint32_t i = 0; i < j->nparts; i++) {
    TN_TRY(take_sections(j, &j->parts[i], true));
    if (j->body.failed) return TN_OOM;
    TN_TRY(renumber(j, &j->parts[i]));
  }
  TN_TRY(put_tables(j));
  assemble(j, out);
  return j->body.failed || j->strings.failed || out->failed ? TN_OOM : TN_OK;
}

tn_status tn_cpu_join(const tn_cpu_part *parts, const tn_buf *objects, uint32_t n, tn_buf *out,
                      const char **why) {
  joining j = {.nparts = n};
  tn_arena_init(&j.arena);
  tn_map_init(&j.names);
  j.parts = tn_arena_alloc(&j.arena, (n + 1) * sizeof *j.parts);
  for (uint32_t i = 0; i < n && j.parts; i++)
    j.parts[i] = (part){.bytes = {objects[i].text, objects[i].len}, .of = &parts[i]};
  tn_status s = j.parts ? join(&j, out) : TN_OOM;
  *why = j.why;
  tn_buf_fini(&j.body);
  tn_buf_fini(&j.strings);
  tn_vec_fini(&j.headers);
  tn_vec_fini(&j.locals);
  tn_vec_fini(&j.globals);
  tn_map_fini(&j.names);
  tn_arena_fini(&j.arena);
  return s;
}
