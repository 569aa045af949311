/* elf.c - reading and writing just enough of ELF64 (System V ABI, chapters 4 and 5; x86-64 psABI for
 * relocations). */
#include "tools/driver/elf.h"
#include "backends/runtime/runtime.h"
#include <elf.h>

void tn_elf_prefix(const tn_link_target *t, uint32_t object, tn_buf *out) {
  tn_buf_printf(out, "%s.", t->name);
  if (object) tn_buf_printf(out, "%u.", object);
}

/* ---- renaming ------------------------------------------------------------------------------------------ */

typedef struct elf_view {
  tn_bytes bytes;
  const char *name;
  tn_diags *diags;
  Elf64_Ehdr head;
  Elf64_Shdr symtab, strtab;
  uint64_t strtab_header; /* where the section header of strtab lies */
} elf_view;

static tn_status bad(const elf_view *v, const char *what) {
  return tn_fail(v->diags, TN_INVALID, v->name, NULL, "not a relocatable x86-64 object: %s", what);
}

static bool inside(const elf_view *v, uint64_t offset, uint64_t bytes) {
  uint64_t end;
  return tn_add_u64(offset, bytes, &end) && end <= v->bytes.len;
}

static void section(const elf_view *v, uint64_t i, Elf64_Shdr *out) {
  memcpy(out, (const char *)v->bytes.ptr + v->head.e_shoff + i * sizeof *out, sizeof *out);
}

static tn_status read_object(elf_view *v) {
  if (v->bytes.len < sizeof v->head) return bad(v, "too short");
  memcpy(&v->head, v->bytes.ptr, sizeof v->head);
  const Elf64_Ehdr *h = &v->head;
  if (memcmp(h->e_ident, ELFMAG, SELFMAG) || h->e_ident[EI_CLASS] != ELFCLASS64 ||
      h->e_ident[EI_DATA] != ELFDATA2LSB)
    return bad(v, "not a little-endian ELF64 file");
  if (h->e_type != ET_REL || h->e_machine != EM_X86_64) return bad(v, "other type or machine");
  if (h->e_shentsize != sizeof(Elf64_Shdr) || !h->e_shnum ||
      !inside(v, h->e_shoff, (uint64_t)h->e_shnum * sizeof(Elf64_Shdr)))
    return bad(v, "no section headers");
  for (uint32_t i = 0; i < h->e_shnum; i++) {
    Elf64_Shdr s;
    section(v, i, &s);
    if (s.sh_type == SHT_SYMTAB_SHNDX) return bad(v, "too many sections");
    if (s.sh_type == SHT_SYMTAB) v->symtab = s;
  }
  if (v->symtab.sh_type != SHT_SYMTAB || v->symtab.sh_entsize != sizeof(Elf64_Sym) ||
      v->symtab.sh_link >= h->e_shnum || !inside(v, v->symtab.sh_offset, v->symtab.sh_size))
    return bad(v, "no symbol table");
  section(v, v->symtab.sh_link, &v->strtab);
  v->strtab_header = h->e_shoff + v->symtab.sh_link * sizeof(Elf64_Shdr);
  if (v->strtab.sh_type != SHT_STRTAB || !v->strtab.sh_size ||
      !inside(v, v->strtab.sh_offset, v->strtab.sh_size))
    return bad(v, "no symbol names");
  if (((const char *)v->bytes.ptr)[v->strtab.sh_offset + v->strtab.sh_size - 1])
    return bad(v, "unterminated symbol names");
  return TN_OK;
}

/* Renames in place in out[begin..] and collects the names in `names`, which go behind the old string table.
 */
static tn_status rename_symbols(const elf_view *v, const char *prefix, tn_buf *out, uint64_t begin,
                                tn_buf *names, tn_map *defined) {
  const char *strings = (const char *)v->bytes.ptr + v->strtab.sh_offset;
  for (uint64_t i = 0; i < v->symtab.sh_size / sizeof(Elf64_Sym); i++) {
    Elf64_Sym s;
    char *at = out->text + begin + v->symtab.sh_offset + i * sizeof s;
    memcpy(&s, at, sizeof s);
    if (s.st_name >= v->strtab.sh_size) return bad(v, "a symbol's name lies outside");
    if (s.st_shndx == SHN_UNDEF || ELF64_ST_BIND(s.st_info) == STB_LOCAL) continue;
    const char *old = strings + s.st_name;
    TN_TRY(tn_map_put(defined, tn_str_of(old), 1, NULL));
    s.st_name = (Elf64_Word)(v->strtab.sh_size + names->len);
    s.st_other = STV_HIDDEN;
    tn_buf_puts(names, prefix);
    tn_buf_put(names, old, strlen(old) + 1);
    memcpy(at, &s, sizeof s);
  }
  return TN_OK;
}

static tn_status rename_into(elf_view *v, const char *prefix, tn_buf *out, tn_buf *names, tn_map *defined) {
  uint64_t begin = out->len;
  tn_buf_put(out, v->bytes.ptr, v->bytes.len);
  if (out->failed) return TN_OOM;
  TN_TRY(rename_symbols(v, prefix, out, begin, names, defined));
  uint64_t at = v->bytes.len, old = v->strtab.sh_size;
  tn_buf_put(out, (const char *)v->bytes.ptr + v->strtab.sh_offset, old);
  tn_buf_put(out, names->text, names->len);
  if (out->failed || names->failed) return TN_OOM;
  if (old + names->len > UINT32_MAX) return bad(v, "too many symbol names");
  v->strtab.sh_offset = at;
  v->strtab.sh_size = old + names->len;
  memcpy(out->text + begin + v->strtab_header, &v->strtab, sizeof v->strtab);
  return TN_OK;
}

tn_status tn_elf_rename(tn_bytes object, const char *prefix, const char *const *needed, uint32_t nneeded,
                        const char *name, tn_buf *out, tn_diags *diags) {
  elf_view v = {.bytes = object, .name = name, .diags = diags};
  TN_TRY(read_object(&v));
  tn_buf names = {0};
  tn_map defined;
  tn_map_init(&defined);
  tn_status status = rename_into(&v, prefix, out, &names, &defined);
  for (uint32_t i = 0; i < nneeded && !status; i++) {
    uint64_t there;
    if (!tn_map_get(&defined, tn_str_of(needed[i]), &there))
      status = tn_fail(diags, TN_NOT_FOUND, name, NULL, "the object defines no kernel '%s'", needed[i]);
  }
  tn_buf_fini(&names);
  tn_map_fini(&defined);
  return status;
}

/* ---- the table object ---------------------------------------------------------------------------------- */

enum { SEC_NULL, SEC_DATA, SEC_IMAGES, SEC_RELA, SEC_SYMTAB, SEC_STRTAB, SEC_STACK, SEC_COUNT };
enum { SYM_NULL, SYM_DATA, SYM_IMAGES, SYM_TABLES, SYM_ID, SYM_DEVICE, SYM_KERNELS }; /* three are local */
static const char section_names[] =
    "\0.data.rel.ro\0.rodata\0.rela.data.rel.ro\0.symtab\0.strtab\0.note.GNU-stack";
static const char table_symbol[] = "tn_kernel_tables", id_symbol[] = "tn_artefact_id",
                  device_symbol[] = "tn_device_packages";
enum { IMAGE_ALIGN = 64 };

/* data holds rows, pointer arrays and strings; every pointer in it is a relocation. */
typedef struct tables {
  tn_buf data, images, rela, symbols, strings;
  tn_map kernels;
} tables;

static void relocate(tables *t, uint64_t at, uint32_t symbol, uint64_t addend) {
  Elf64_Rela r = {at, ELF64_R_INFO(symbol, R_X86_64_64), (Elf64_Sxword)addend};
  tn_buf_put(&t->rela, &r, sizeof r);
}

static uint64_t put_string(tables *t, const char *s) {
  uint64_t at = t->data.len;
  tn_buf_put(&t->data, s, strlen(s) + 1);
  return at;
}

static void align8(tn_buf *b) {
  while (b->len % 8 && !b->failed) tn_buf_put(b, "", 1);
}

static void put_symbol(tables *t, const char *name, uint8_t info, uint16_t section_index, uint64_t value,
                       uint64_t size) {
  Elf64_Sym s = {.st_name = (Elf64_Word)t->strings.len,
                 .st_info = info,
                 .st_other = STV_HIDDEN,
                 .st_shndx = section_index,
                 .st_value = value,
                 .st_size = size};
  tn_buf_put(&t->strings, name, strlen(name) + 1);
  tn_buf_put(&t->symbols, &s, sizeof s);
}

/* The undefined symbol for a kernel, made when first asked for. */
static tn_status kernel_symbol(tables *t, const char *name, uint32_t *index) {
  uint64_t have;
  if (!tn_map_get(&t->kernels, tn_str_of(name), &have)) {
    have = SYM_KERNELS + t->kernels.count;
    TN_TRY(tn_map_put(&t->kernels, tn_str_of(name), have, NULL));
    put_symbol(t, name, ELF64_ST_INFO(STB_GLOBAL, STT_NOTYPE), SHN_UNDEF, 0, 0);
  }
  *index = (uint32_t)have;
  return TN_OK;
}

static tn_status put_target(tables *t, const tn_link_target *target, uint32_t nkernels, uint64_t row) {
  uint64_t name = put_string(t, target->name),
           features = put_string(t, target->features ? target->features : "");
  align8(&t->data);
  uint64_t list = t->data.len;
  tn_buf symbol = {0};
  tn_status status = TN_OK;
  for (uint32_t i = 0; i < nkernels && !status; i++) {
    if (target->kernels[i].symbol) {
      uint32_t index;
      symbol.len = 0;
      tn_elf_prefix(target, target->kernels[i].object, &symbol);
      tn_buf_puts(&symbol, target->kernels[i].symbol);
      status = symbol.failed ? TN_OOM : kernel_symbol(t, symbol.text, &index);
      if (!status) relocate(t, t->data.len, index, 0);
    }
    tn_buf_put(&t->data, &(uint64_t){0}, 8);
  }
  tn_buf_fini(&symbol);
  tn_kernel_table r = {.score = target->score, .count = nkernels};
  if (!status && !t->data.failed) memcpy(t->data.text + row, &r, sizeof r);
  relocate(t, row + offsetof(tn_kernel_table, target), SYM_DATA, name);
  relocate(t, row + offsetof(tn_kernel_table, features), SYM_DATA, features);
  relocate(t, row + offsetof(tn_kernel_table, kernels), SYM_DATA, list);
  return status;
}

/* The row of tn_device_packages lies at `row`; images go to a section of their own. */
static tn_status put_device(tables *t, const tn_link_device *device, uint64_t row) {
  uint32_t api;
  if (!device->api) return TN_OK;
  align8(&t->data);
  uint64_t list = t->data.len;
  for (uint32_t i = 0; i < device->nimages; i++) {
    while (t->images.len % IMAGE_ALIGN && !t->images.failed) tn_buf_put(&t->images, "", 1);
    relocate(t, t->data.len + offsetof(tn_bytes, ptr), SYM_IMAGES, t->images.len);
    tn_bytes empty = {NULL, device->images[i].len};
    tn_buf_put(&t->data, &empty, sizeof empty);
    tn_buf_put(&t->images, device->images[i].ptr, device->images[i].len);
  }
  TN_TRY(kernel_symbol(t, device->api, &api));
  tn_device_package r = {.nimages = device->nimages};
  if (!t->data.failed) memcpy(t->data.text + row, &r, sizeof r);
  relocate(t, row + offsetof(tn_device_package, api), api, 0);
  relocate(t, row + offsetof(tn_device_package, images), SYM_DATA, list);
  return TN_OK;
}

static tn_status fill(tables *t, const tn_link_target *targets, uint32_t ntargets, uint32_t nkernels,
                      const tn_link_device *device, uint64_t id) {
  uint64_t rows = (uint64_t)(ntargets + 1) * sizeof(tn_kernel_table),
           packages = 2 * sizeof(tn_device_package);
  tn_buf_put(&t->data, &id, sizeof id);
  for (uint64_t i = 0; i < rows + packages; i += 8) tn_buf_put(&t->data, &(uint64_t){0}, 8);
  put_symbol(t, "", 0, SHN_UNDEF, 0, 0);
  put_symbol(t, "", ELF64_ST_INFO(STB_LOCAL, STT_SECTION), SEC_DATA, 0, 0);
  put_symbol(t, "", ELF64_ST_INFO(STB_LOCAL, STT_SECTION), SEC_IMAGES, 0, 0);
  put_symbol(t, table_symbol, ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), SEC_DATA, sizeof id, rows);
  put_symbol(t, id_symbol, ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), SEC_DATA, 0, sizeof id);
  put_symbol(t, device_symbol, ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), SEC_DATA, sizeof id + rows, packages);
  for (uint32_t i = 0; i < ntargets; i++)
    TN_TRY(put_target(t, &targets[i], nkernels, sizeof id + i * sizeof(tn_kernel_table)));
  TN_TRY(put_device(t, device, sizeof id + rows));
  align8(&t->data);
  return t->data.failed || t->images.failed || t->rela.failed || t->symbols.failed || t->strings.failed
             ? TN_OOM
             : TN_OK;
}

static uint32_t name_of(uint32_t nth) {
  uint32_t at = 0;
  while (nth--) at += (uint32_t)strlen(section_names + at) + 1;
  return at;
}

/* Lays out: header, data, images, relocations, symbols, strings (section names first), section headers. */
static void assemble(tables *t, tn_buf *out) {
  Elf64_Shdr s[SEC_COUNT] = {
      [SEC_DATA] = {name_of(1), SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 0, 0, t->data.len, 0, 0, 8, 0},
      [SEC_IMAGES] = {name_of(2), SHT_PROGBITS, SHF_ALLOC, 0, 0, t->images.len, 0, 0, IMAGE_ALIGN, 0},
      [SEC_RELA] = {name_of(3), SHT_RELA, SHF_INFO_LINK, 0, 0, t->rela.len, SEC_SYMTAB, SEC_DATA, 8,
                    sizeof(Elf64_Rela)},
      [SEC_SYMTAB] = {name_of(4), SHT_SYMTAB, 0, 0, 0, t->symbols.len, SEC_STRTAB, SYM_TABLES, 8,
                      sizeof(Elf64_Sym)},
      [SEC_STRTAB] = {name_of(5), SHT_STRTAB, 0, 0, 0, t->strings.len, 0, 0, 1, 0},
      [SEC_STACK] = {name_of(6), SHT_PROGBITS, 0, 0, 0, 0, 0, 0, 1, 0}};
  const tn_buf *parts[] = {[SEC_DATA] = &t->data,
                           [SEC_IMAGES] = &t->images,
                           [SEC_RELA] = &t->rela,
                           [SEC_SYMTAB] = &t->symbols,
                           [SEC_STRTAB] = &t->strings};
  uint64_t at = sizeof(Elf64_Ehdr);
  for (uint32_t i = SEC_DATA; i < SEC_COUNT; i++) {
    if (i == SEC_IMAGES) at = tn_align_up(at, IMAGE_ALIGN);
    if (i == SEC_RELA) at = tn_align_up(at, 8);
    s[i].sh_offset = at;
    at += s[i].sh_size;
  }
  uint64_t headers = tn_align_up(at, 8);
  Elf64_Ehdr h = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                  .e_type = ET_REL,
                  .e_machine = EM_X86_64,
                  .e_version = EV_CURRENT,
                  .e_shoff = headers,
                  .e_ehsize = sizeof h,
                  .e_shentsize = sizeof *s,
                  .e_shnum = SEC_COUNT,
                  .e_shstrndx = SEC_STRTAB};
  tn_buf_put(out, &h, sizeof h);
  uint64_t begin = out->len;
  for (uint32_t i = SEC_DATA; i < TN_COUNT(parts); i++) {
    while (out->len - begin < s[i].sh_offset - sizeof h && !out->failed) tn_buf_put(out, "", 1);
    tn_buf_put(out, parts[i]->text, parts[i]->len);
  }
  tn_buf_put(out, "\0\0\0\0\0\0\0", headers - at);
  tn_buf_put(out, s, sizeof s);
}

tn_status tn_elf_tables(const tn_link_target *targets, uint32_t ntargets, uint32_t nkernels,
                        const tn_link_device *device, uint64_t id, tn_buf *out) {
  tables t = {0};
  tn_map_init(&t.kernels);
  tn_buf_put(&t.strings, section_names, sizeof section_names);
  tn_status status = fill(&t, targets, ntargets, nkernels, device, id);
  if (!status) assemble(&t, out);
  tn_buf *parts[] = {&t.data, &t.images, &t.rela, &t.symbols, &t.strings};
  for (size_t i = 0; i < TN_COUNT(parts); i++) tn_buf_fini(parts[i]);
  tn_map_fini(&t.kernels);
  return status ? status : out->failed ? TN_OOM : TN_OK;
}
