/* pages.c - all pages that can be found, and which one an architecture means. Embedded pages come first, then
 * folders, then single files; a later page replaces an earlier one of the same name. */
#include "frontend/describe/embedded.h"
#include "frontend/describe/page.h"
#include <dirent.h>
#include <stdlib.h>

#define EXTENDS_MAX 8

struct tn_page_set {
  TN_VEC(tn_page *) pages;
  tn_page *prelude;
};

/* ---- reading --------------------------------------------------------------------------------- */
static tn_status add_page(tn_page_set *s, tn_page *page, tn_diags *diags) {
  tn_page **old = NULL;
  if (!strcmp(page->name, "prelude")) old = &s->prelude;
  for (uint32_t i = 0; !old && i < s->pages.count; i++)
    if (!strcmp(s->pages.items[i]->name, page->name)) old = &s->pages.items[i];
  if (old) {
    tn_page_free(*old);
    *old = page;
    return TN_OK;
  }
  if (tn_vec_push(&s->pages, page)) return TN_OK;
  tn_status oom = tn_fail(diags, TN_OOM, page->file, NULL, "no memory for the page");
  tn_page_free(page);
  return oom;
}

static tn_status add_text(tn_page_set *s, tn_str text, const char *file, tn_diags *diags) {
  tn_page *page;
  TN_TRY(tn_page_read(text, file, diags, &page));
  return add_page(s, page, diags);
}

static tn_status add_file(tn_page_set *s, const char *path, tn_diags *diags) {
  tn_file f;
  const char *why = "";
  tn_status st = tn_file_map(&f, path, &why);
  if (st != TN_OK) return tn_fail(diags, st, path, NULL, "%s", why);
  st = add_text(s, (tn_str){(const char *)f.data, f.size}, path, diags);
  tn_file_unmap(&f);
  return st;
}

static int by_name(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* All *.model files of a folder, by name, so that what a run sees does not depend on the file system. */
static tn_status add_folder(tn_page_set *s, const char *folder, tn_diags *diags) {
  TN_VEC(char *) paths = {0};
  tn_arena arena;
  tn_status st = TN_OK;
  DIR *d = opendir(folder);
  if (!d) return tn_fail(diags, TN_NOT_FOUND, folder, NULL, "this folder of model pages cannot be read");
  tn_arena_init(&arena);
  for (struct dirent *e; st == TN_OK && (e = readdir(d));) {
    if (!tn_str_ends(tn_str_of(e->d_name), ".model")) continue;
    char *path = tn_path_join(&arena, folder, e->d_name);
    if (!path || !tn_vec_push(&paths, path))
      st = tn_fail(diags, TN_OOM, folder, NULL, "no memory for the names of pages");
  }
  closedir(d);
  if (paths.count) qsort(paths.items, paths.count, sizeof *paths.items, by_name);
  for (uint32_t i = 0; i < paths.count && st != TN_OOM; i++) {
    tn_status one = add_file(s, paths.items[i], diags);
    if (one != TN_OK) st = one;
  }
  tn_vec_fini(&paths);
  tn_arena_fini(&arena);
  return st;
}

/* ---- linking --------------------------------------------------------------------------------- */
static tn_page *page_named(const tn_page_set *s, const char *name) {
  for (uint32_t i = 0; i < s->pages.count; i++)
    if (!strcmp(s->pages.items[i]->name, name)) return s->pages.items[i];
  return NULL;
}

static tn_status link_base(const tn_page_set *s, tn_page *page, tn_diags *diags) {
  page->prelude = s->prelude;
  if (!page->extends) return TN_OK;
  page->base = page_named(s, page->extends);
  if (!page->base)
    return tn_fail_at(diags, TN_INVALID, page->file, page->extends_pos.line, page->extends_pos.col,
                      "there is no page '%s'", page->extends);
  return TN_OK;
}

static tn_status check_chain(tn_page *page, tn_diags *diags) {
  uint32_t n = 0;
  for (const tn_page *p = page; p; p = p->base)
    if (++n > EXTENDS_MAX)
      return tn_fail_at(diags, TN_INVALID, page->file, page->extends_pos.line, page->extends_pos.col,
                        "'%s' extends '%s' and so on without end", page->name, page->extends);
  return TN_OK;
}

static tn_status push_name(tn_page *page, const char *name, tn_diags *diags) {
  if (name && tn_vec_push(&page->architectures, name)) return TN_OK;
  return tn_fail(diags, TN_OOM, page->file, NULL, "no memory for the page");
}

/* also XLMRoberta = Roberta: every architecture RobertaX of this page or its bases is here XLMRobertaX as
 * well. */
static tn_status link_alias(tn_page *page, const tn_alias *a, tn_diags *diags) {
  bool any = false;
  for (const tn_page *p = page; p; p = p->base)
    for (uint32_t i = 0; i < p->hf.count; i++) {
      if (!tn_str_starts(tn_str_of(p->hf.items[i]), a->to)) continue;
      any = true;
      TN_TRY(push_name(page, tn_arena_printf(&page->arena, "%s%s", a->from, p->hf.items[i] + strlen(a->to)),
                       diags));
    }
  if (any) return TN_OK;
  return tn_fail_at(diags, TN_INVALID, page->file, a->pos.line, a->pos.col,
                    "no architecture of this page begins with '%s'", a->to);
}

static tn_status link_names(tn_page *page, tn_diags *diags) {
  for (uint32_t i = 0; i < page->hf.count; i++) TN_TRY(push_name(page, page->hf.items[i], diags));
  for (uint32_t i = 0; i < page->also.count; i++) TN_TRY(link_alias(page, &page->also.items[i], diags));
  for (uint32_t i = 0; i < page->types.count; i++) TN_TRY(push_name(page, page->types.items[i], diags));
  return TN_OK;
}

static tn_status link_pages(tn_page_set *s, tn_diags *diags) {
  tn_status st = TN_OK, one;
  if (!s->prelude && s->pages.count)
    return tn_fail(diags, TN_INVALID, s->pages.items[0]->file, NULL, "there is no page 'prelude'");
  for (uint32_t i = 0; i < s->pages.count; i++)
    if ((one = link_base(s, s->pages.items[i], diags)) != TN_OK) st = one;
  for (uint32_t i = 0; i < s->pages.count && st == TN_OK; i++) st = check_chain(s->pages.items[i], diags);
  for (uint32_t i = 0; i < s->pages.count && st == TN_OK; i++)
    if ((one = link_names(s->pages.items[i], diags)) != TN_OK) st = one;
  return st;
}

/* ---- the set --------------------------------------------------------------------------------- */
static tn_status open_all(tn_page_set *s, const char *const *folders, uint32_t nfolders,
                          const char *const *files, uint32_t nfiles, tn_diags *diags) {
  tn_status st = TN_OK, one;
  for (const tn_embedded_page *e = tn_embedded_pages; e->name; e++)
    if ((one = add_text(s, (tn_str){(const char *)e->text, e->size}, e->name, diags)) != TN_OK) st = one;
  for (uint32_t i = 0; i < nfolders; i++)
    if ((one = add_folder(s, folders[i], diags)) != TN_OK) st = one;
  for (uint32_t i = 0; i < nfiles; i++)
    if ((one = add_file(s, files[i], diags)) != TN_OK) st = one;
  return st == TN_OK ? link_pages(s, diags) : st;
}

tn_status tn_pages_open(tn_page_set **out, const char *const *folders, uint32_t nfolders,
                        const char *const *files, uint32_t nfiles, tn_diags *diags) {
  *out = NULL;
  tn_page_set *s = tn_mem_alloc(sizeof *s);
  if (!s) return tn_fail(diags, TN_OOM, NULL, NULL, "no memory for the model pages");
  tn_status st = open_all(s, folders, nfolders, files, nfiles, diags);
  if (st == TN_OK)
    *out = s;
  else
    tn_pages_close(s);
  return st;
}

void tn_pages_close(tn_page_set *s) {
  if (!s) return;
  for (uint32_t i = 0; i < s->pages.count; i++) tn_page_free(s->pages.items[i]);
  tn_page_free(s->prelude);
  tn_vec_fini(&s->pages);
  tn_mem_free(s);
}

const tn_page *tn_pages_find(const tn_page_set *s, const char *architecture) {
  if (!architecture) return NULL;
  for (uint32_t i = s->pages.count; i-- > 0;) {
    const tn_page *p = s->pages.items[i];
    for (uint32_t k = 0; k < p->architectures.count; k++)
      if (!strcmp(p->architectures.items[k], architecture)) return p;
  }
  return page_named(s, architecture);
}

const tn_page *tn_pages_find_gguf(const tn_page_set *s, const char *architecture) {
  for (uint32_t i = s->pages.count; i-- > 0;)
    for (uint32_t k = 0; k < s->pages.items[i]->gguf.count; k++)
      if (!strcmp(s->pages.items[i]->gguf.items[k], architecture)) return s->pages.items[i];
  return NULL;
}

uint32_t tn_pages_count(const tn_page_set *s) { return s->pages.count; }

tn_page_info tn_page_info_of(const tn_page *p) {
  const tn_page *says = p; /* the page of the chain that names a task */
  while (says->base && !says->tasks) says = says->base;
  return (tn_page_info){.name = p->name,
                        .summary = p->summary,
                        .file = p->file,
                        .architectures = p->architectures.items,
                        .narchitectures = p->architectures.count,
                        .tasks = says->tasks ? says->tasks : "",
                        .gguf = p->gguf.items,
                        .ngguf = p->gguf.count};
}

void tn_pages_get(const tn_page_set *s, uint32_t i, tn_page_info *out) {
  *out = tn_page_info_of(s->pages.items[i]);
}
