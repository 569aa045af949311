/* parse.c - the frame of a page: its head and its sections. A wrong line is reported and skipped with
 * everything indented below it, so that one reading finds all wrong lines. */
#include "frontend/describe/parse.h"
#include <stdio.h>

const tn_page_token *tn_peek(const tn_parser *p) {
  return p->oom || p->at >= p->count ? &p->tokens[p->count - 1] : &p->tokens[p->at];
}

bool tn_peek_is(const tn_parser *p, const char *punct) {
  const tn_page_token *t = tn_peek(p);
  return t->kind == TN_TK_PUNCT && !strcmp(t->text, punct);
}

bool tn_peek_word(const tn_parser *p, const char *name) {
  const tn_page_token *t = tn_peek(p);
  return t->kind == TN_TK_NAME && !strcmp(t->text, name);
}

bool tn_take_is(tn_parser *p, const char *punct) {
  if (p->bad || !tn_peek_is(p, punct)) return false;
  p->at++;
  return true;
}

bool tn_take_word(tn_parser *p, const char *name) {
  if (p->bad || !tn_peek_word(p, name)) return false;
  p->at++;
  return true;
}

/* Only the first error of a line is worth its space. */
void tn_page_syntax(tn_parser *p, tn_pos pos, const char *fmt, ...) {
  char text[400];
  va_list ap;
  if (p->bad) return;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  tn_diags_add(p->diags, TN_ERROR, p->page->file, pos.line, pos.col, NULL, "%s", text);
  p->bad = p->failed = true;
}

static const char *describe(const tn_page_token *t) {
  switch (t->kind) {
  case TN_TK_END: return "the end of the page";
  case TN_TK_NEWLINE: return "the end of the line";
  case TN_TK_INDENT: return "deeper indentation";
  case TN_TK_DEDENT: return "the end of the indented lines";
  case TN_TK_NAME:
  case TN_TK_INT:
  case TN_TK_REAL:
  case TN_TK_STRING:
  case TN_TK_PUNCT: break;
  }
  return NULL;
}

static void expected(tn_parser *p, const char *what, bool quote) {
  const tn_page_token *t = tn_peek(p);
  const char *q = quote ? "'" : "", *d = describe(t);
  if (d)
    tn_page_syntax(p, t->pos, "expected %s%s%s, found %s", q, what, q, d);
  else
    tn_page_syntax(p, t->pos, "expected %s%s%s, found '%s'", q, what, q, t->text);
}

bool tn_expect(tn_parser *p, const char *punct) {
  if (tn_take_is(p, punct)) return true;
  expected(p, punct, true);
  return false;
}

const char *tn_expect_name(tn_parser *p, const char *what) {
  const tn_page_token *t = tn_peek(p);
  if (p->bad) return NULL;
  if (t->kind != TN_TK_NAME) {
    expected(p, what, false);
    return NULL;
  }
  p->at++;
  return t->text;
}

void tn_expect_line_end(tn_parser *p) {
  if (p->bad || p->oom) return;
  if (tn_peek(p)->kind == TN_TK_NEWLINE)
    p->at++;
  else
    expected(p, "the end of the line", false);
}

void tn_recover(tn_parser *p) {
  uint32_t depth = 0;
  p->bad = false;
  for (; tn_peek(p)->kind != TN_TK_END; p->at++) {
    tn_token_kind k = tn_peek(p)->kind;
    if (k == TN_TK_INDENT)
      depth++;
    else if (k == TN_TK_DEDENT && !depth)
      return;
    else if (k == TN_TK_DEDENT && !--depth)
      break;
    else if (k == TN_TK_NEWLINE && !depth && p->tokens[p->at + 1].kind != TN_TK_INDENT)
      break;
  }
  if (tn_peek(p)->kind != TN_TK_END) p->at++;
}

void *tn_settle(tn_parser *p, void *items, uint32_t count, size_t size) {
  void *out = count ? tn_arena_copy(&p->page->arena, items, count * size) : NULL;
  if (count && !out) p->oom = true;
  tn_mem_free(items);
  return out;
}

/* ---- head ------------------------------------------------------------------------------------ */
/* Words with dashes: "text-generation", "xlm-roberta". */
static const char *parse_dashed(tn_parser *p, const char *what) {
  const char *name = tn_expect_name(p, what);
  while (name && tn_peek_is(p, "-") && !tn_peek(p)->spaced) {
    p->at++;
    const char *more = tn_expect_name(p, what);
    if (!more) return NULL;
    name = tn_arena_printf(&p->page->arena, "%s-%s", name, more);
    if (!name) p->oom = true;
  }
  return name;
}

static tn_names parse_dashed_list(tn_parser *p, const char *what) {
  TN_VEC(const char *) v = {0};
  do {
    const char *name = parse_dashed(p, what);
    if (name && !tn_vec_push(&v, name)) p->oom = true;
  } while (!p->bad && tn_take_is(p, ","));
  tn_names out = {.count = v.count};
  out.items = tn_settle(p, v.items, v.count, sizeof *v.items);
  return out;
}

static void parse_strip(tn_parser *p) {
  TN_VEC(const char *) v = {0};
  do {
    const tn_page_token *t = tn_peek(p);
    if (t->kind != TN_TK_STRING) {
      expected(p, "a prefix in quotes", false);
      break;
    }
    if (!tn_vec_push(&v, t->text)) p->oom = true;
    p->at++;
  } while (tn_take_word(p, "or"));
  p->page->strip.count = v.count;
  p->page->strip.items = tn_settle(p, v.items, v.count, sizeof *v.items);
}

static void parse_also(tn_parser *p) {
  tn_alias a = {.pos = tn_peek(p)->pos, .from = tn_expect_name(p, "the new name")};
  tn_expect(p, "=");
  a.to = tn_expect_name(p, "the name it stands for");
  if (!p->bad && !tn_vec_push(&p->page->also, a)) p->oom = true;
}

/* Lines of architectures add up. */
static void parse_hf(tn_parser *p) {
  tn_names old = p->page->hf, more = tn_parse_name_list(p, "an architecture");
  const char **all = tn_arena_alloc(&p->page->arena, (old.count + more.count) * sizeof *all);
  if (!all) {
    p->oom = true;
    return;
  }
  if (old.count) memcpy(all, old.items, old.count * sizeof *all);
  if (more.count) memcpy(all + old.count, more.items, more.count * sizeof *all);
  p->page->hf = (tn_names){all, old.count + more.count};
}

static bool parse_head_line(tn_parser *p) {
  tn_page *page = p->page;
  if (tn_take_word(p, "hf"))
    parse_hf(p);
  else if (tn_take_word(p, "gguf"))
    page->gguf = parse_dashed_list(p, "a GGUF architecture");
  else if (tn_take_word(p, "type"))
    page->types = parse_dashed_list(p, "a model type");
  else if (tn_take_word(p, "task"))
    page->tasks = parse_dashed(p, "a task");
  else if (tn_take_word(p, "strip"))
    parse_strip(p);
  else if (tn_take_word(p, "also"))
    parse_also(p);
  else
    expected(p, "hf, gguf, type, task, strip or also", false);
  tn_expect_line_end(p);
  return !p->bad;
}

static void parse_lines(tn_parser *p, bool (*line)(tn_parser *)) {
  if (tn_peek(p)->kind != TN_TK_INDENT) return;
  p->at++;
  while (tn_peek(p)->kind != TN_TK_DEDENT && tn_peek(p)->kind != TN_TK_END)
    if (!line(p)) tn_recover(p);
  if (tn_peek(p)->kind == TN_TK_DEDENT) p->at++;
}

static bool parse_model(tn_parser *p) {
  tn_page *page = p->page;
  if (page->name) {
    tn_page_syntax(p, tn_peek(p)->pos, "a page has one model, and '%s' is already here", page->name);
    return false;
  }
  page->name = parse_dashed(p, "the name of the model");
  if (tn_peek(p)->kind == TN_TK_STRING)
    page->summary = tn_peek(p)->text, p->at++;
  else
    expected(p, "a summary in quotes", false);
  if (tn_take_word(p, "extends")) {
    page->extends_pos = tn_peek(p)->pos;
    page->extends = parse_dashed(p, "the name of a page");
  }
  tn_expect_line_end(p);
  if (p->bad) return false;
  parse_lines(p, parse_head_line);
  return true;
}

static bool parse_config(tn_parser *p) {
  tn_expect_line_end(p);
  if (p->bad) return false;
  p->config = true;
  parse_lines(p, tn_parse_config_line);
  p->config = false;
  return true;
}

static bool parse_convert(tn_parser *p) {
  tn_expect_line_end(p);
  if (p->bad) return false;
  p->config = p->convert = true;
  parse_lines(p, tn_parse_convert_line);
  p->config = p->convert = false;
  return true;
}

static bool parse_section(tn_parser *p) {
  if (tn_take_word(p, "model")) return parse_model(p);
  if (!p->page->name) {
    expected(p, "model", true);
    return false;
  }
  if (tn_take_word(p, "config")) return parse_config(p);
  if (tn_take_word(p, "convert")) return parse_convert(p);
  if (tn_take_word(p, "block")) return tn_parse_block(p, false);
  if (tn_take_word(p, "act")) return tn_parse_block(p, true);
  if (tn_take_word(p, "graph")) return tn_parse_graph(p);
  expected(p, "config, convert, block, act or graph", false);
  return false;
}

/* ---- the page -------------------------------------------------------------------------------- */
static void check_twice(tn_parser *p) {
  const tn_page *g = p->page;
  for (uint32_t i = 0; i < g->graphs.count; i++)
    for (uint32_t j = 0; j < i; j++)
      if (!strcmp(g->graphs.items[i].name, g->graphs.items[j].name)) {
        p->bad = false;
        tn_page_syntax(p, g->graphs.items[i].pos, "graph '%s' is already on line %u", g->graphs.items[i].name,
                       g->graphs.items[j].pos.line);
      }
  for (uint32_t i = 0; i < g->config.count; i++)
    for (uint32_t j = 0; j < i; j++) {
      const tn_config_line *a = &g->config.items[i], *b = &g->config.items[j];
      if (a->kind != TN_CF_VALUE || b->kind != TN_CF_VALUE || strcmp(a->name, b->name) != 0) continue;
      p->bad = false;
      tn_page_syntax(p, a->pos, "'%s' is already set on line %u", a->name, b->pos.line);
    }
}

void tn_page_free(tn_page *p) {
  if (!p) return;
  tn_vec_fini(&p->also);
  tn_vec_fini(&p->architectures);
  tn_vec_fini(&p->config);
  tn_vec_fini(&p->convert);
  tn_vec_fini(&p->blocks);
  tn_vec_fini(&p->graphs);
  tn_arena_fini(&p->arena);
  tn_mem_free(p);
}

static tn_status parse_tokens(tn_page *page, tn_token_list *tokens, tn_diags *diags) {
  tn_parser p = {.page = page, .diags = diags, .tokens = tokens->items, .count = tokens->count};
  while (tn_peek(&p)->kind != TN_TK_END) {
    if (tn_peek(&p)->kind == TN_TK_DEDENT || tn_peek(&p)->kind == TN_TK_INDENT) {
      tn_page_syntax(&p, tn_peek(&p)->pos, "expected no indentation");
      p.at++;
      tn_recover(&p);
    } else if (!parse_section(&p)) {
      tn_recover(&p);
    }
  }
  if (!p.failed && !page->name) tn_page_syntax(&p, tn_peek(&p)->pos, "the page is empty: expected 'model'");
  if (!p.failed) check_twice(&p);
  if (p.oom) return tn_fail(diags, TN_OOM, page->file, NULL, "no memory for the page");
  return p.failed ? TN_INVALID : TN_OK;
}

tn_status tn_page_read(tn_str text, const char *file, tn_diags *diags, tn_page **out) {
  tn_token_list tokens = {0};
  *out = NULL;
  tn_page *page = tn_mem_alloc(sizeof *page);
  if (!page) return tn_fail(diags, TN_OOM, file, NULL, "no memory for the page");
  tn_arena_init(&page->arena);
  page->file = tn_arena_str(&page->arena, tn_str_of(file));
  tn_status s = page->file ? TN_OK : tn_fail(diags, TN_OOM, file, NULL, "no memory for the page");
  if (s == TN_OK) s = tn_page_lex(&page->arena, text, page->file, diags, &tokens);
  if (s == TN_OK) s = parse_tokens(page, &tokens, diags);
  tn_mem_free(tokens.items);
  if (s != TN_OK) {
    tn_page_free(page);
    return s;
  }
  *out = page;
  return TN_OK;
}

tn_status tn_page_parse(tn_str text, const char *name, tn_diags *diags) {
  tn_page *page;
  TN_TRY(tn_page_read(text, name, diags, &page));
  tn_page_free(page);
  return TN_OK;
}
