/* convert.c - the same model under the names of the other format. The page has been run over the checkpoint,
 * so every tensor that a graph reads is known by both names; its convert section says which of them have
 * other shapes, orders or numbers there. The result is a view: no byte is read before it is saved. */
#include "frontend/checkpoint/cut.h"

typedef struct conversion {
  tn_checkpoint *from, *view;
  tn_diags *diags;
  const tn_page_facts *facts;
  bool back;       /* from a GGUF file to a folder */
  uint64_t graphs; /* those whose tensors all have names there */
} conversion;

static tn_status oom(conversion *c) {
  return tn_fail(c->diags, TN_OOM, c->from->path, NULL, "out of memory");
}

static tn_status fail(conversion *c, const char *tensor, const char *fmt, ...) TN_PRINTF(3, 4);
static tn_status fail(conversion *c, const char *tensor, const char *fmt, ...) {
  tn_buf where = {0}, text = {0};
  va_list ap;
  va_start(ap, fmt);
  tn_buf_vprintf(&text, fmt, ap);
  va_end(ap);
  tn_buf_printf(&where, "tensor '%s'", tensor);
  tn_fail(c->diags, TN_UNSUPPORTED, c->from->path, tn_buf_cstr(&where), "%s", tn_buf_cstr(&text));
  tn_buf_fini(&where);
  tn_buf_fini(&text);
  return TN_UNSUPPORTED;
}

/* ---- names ---- */

/* Where `pattern` begins in a name that ends with it, "*" standing for one number or, in front, for anything;
 * NULL: it does not. */
static const char *match_end(const char *name, size_t len, const char *pattern) {
  const char *p = pattern + strlen(pattern), *n = name + len;
  while (p > pattern) {
    p--;
    if (*p == '*' && p == pattern) return name;
    if (*p == '*' && n > name && n[-1] == '*') {
      n--;
    } else if (*p == '*') {
      const char *end = n;
      while (n > name && n[-1] >= '0' && n[-1] <= '9') n--;
      if (n == end) return NULL;
    } else if (n == name || *--n != *p) {
      return NULL;
    }
  }
  return n == name || n[-1] == '.' ? n : NULL;
}

/* A pattern without ending means the weight and the bias. */
static bool matches(const char *name, const char *pattern) {
  static const char *const ends[] = {".weight", ".bias"};
  size_t n = strlen(name);
  if (match_end(name, n, pattern)) return true;
  for (size_t i = 0; i < TN_COUNT(ends); i++)
    if (tn_str_ends(tn_str_of(name), ends[i]) && match_end(name, n - strlen(ends[i]), pattern)) return true;
  return false;
}

static const tn_page_rule *rule_of(const conversion *c, const char *hf) {
  for (uint32_t i = 0; i < c->facts->rules.count; i++)
    if (!c->facts->rules.items[i].as && matches(hf, c->facts->rules.items[i].pattern))
      return &c->facts->rules.items[i];
  return NULL;
}

/* The name in the other format, as the page's `as` lines want it. */
static const char *renamed(conversion *c, const char *name) {
  for (uint32_t i = 0; i < c->facts->rules.count; i++) {
    const tn_page_rule *r = &c->facts->rules.items[i];
    const char *at = r->as ? match_end(name, strlen(name), r->pattern) : NULL;
    if (at) return tn_arena_printf(&c->view->arena, "%.*s%s", (int)(at - name), name, r->as);
  }
  return name;
}

/* The name with a number in the place of its "*". */
static const char *numbered(conversion *c, const char *name, int64_t number) {
  const char *star = strchr(name, '*');
  if (!star) return tn_arena_str(&c->view->arena, tn_str_of(name));
  return tn_arena_printf(&c->view->arena, "%.*s%lld%s", (int)(star - name), name, (long long)number,
                         star + 1);
}

/* The name with `last` behind its last dots: as many parts as `last` has. */
static const char *with_last(conversion *c, const char *name, const char *last) {
  size_t keep = strlen(name);
  for (const char *p = last; p; p = strchr(p, '.') ? strchr(p, '.') + 1 : NULL) {
    while (keep && name[keep - 1] != '.') keep--;
    if (keep) keep--;
  }
  return tn_arena_printf(&c->view->arena, "%.*s%s%s", (int)keep, name, keep ? "." : "", last);
}

/* ---- tensors ---- */

static void to_piece(const ck_cut *k, uint32_t tensor, uint64_t columns, ck_piece *p) {
  uint64_t n = 1;
  *p = (ck_piece){.tensor = tensor, .at = k->at, .loops = k->loops};
  memcpy(p->size, k->size, sizeof p->size);
  memcpy(p->step, k->step, sizeof p->step);
  for (uint32_t i = 0; i < k->loops; i++) n *= k->size[i];
  if (!k->loops) p->loops = 1, p->size[0] = 1, p->step[0] = 1;
  p->rows = columns ? n / columns : 0;
}

/* Adds a tensor of the view: `pieces` are its rows; shape [lead..., those of the cut], lead 0: none. */
static tn_status add(conversion *c, const char *name, const char *hf, const ck_cut *k, int64_t lead,
                     const ck_piece *pieces, uint32_t n) {
  const ck_tensor *first = &c->from->tensors.items[pieces[0].tensor];
  ck_tensor t = {.scale = CK_NONE, .order = CK_NONE, .npieces = n, .math = k->math, .number = k->number};
  uint64_t values = 1;
  if (!name) return oom(c);
  if (tn_map_get(&c->view->by_name, tn_str_of(name), NULL)) return TN_OK; /* two graphs, one tensor */
  t.pieces = tn_arena_copy(&c->view->arena, pieces, n * sizeof *pieces);
  if (!t.pieces) return oom(c);
  t.pub = (tn_ck_tensor){
      .name = name, .source = first->pub.name, .dtype = first->pub.dtype, .form = first->pub.form};
  if (lead) t.pub.shape[t.pub.rank++] = lead;
  for (uint32_t i = 0; i < k->rank; i++) t.pub.shape[t.pub.rank++] = (int64_t)ck_cut_extent(k, i);
  for (uint32_t i = 0; i < t.pub.rank; i++) values *= (uint64_t)t.pub.shape[i];
  bool plain = k->math == CK_AS_IS;
  for (uint32_t i = 0; i < n; i++) {
    const ck_tensor *s = &c->from->tensors.items[pieces[i].tensor];
    plain &= s->pub.dtype == t.pub.dtype && s->scale == CK_NONE && s->order == CK_NONE;
  }
  t.pub.layer = ck_layer_of(name);
  t.pub.role = ck_role_of(c->back ? first->pub.name : name, hf, t.pub.rank);
  if (!plain) t.pub.dtype = TN_DT_f32;
  TN_TRY(ck_add(c->view, &t));
  ck_tensor *now = &c->view->tensors.items[c->view->tensors.count - 1];
  if (ck_is_block(now->pub.dtype) && ck_reads_whole(c->view, c->view->tensors.count - 1))
    now->pub.dtype = TN_DT_f32;
  now->pub.bytes = ck_bytes_of(now->pub.dtype, values);
  if (now->pub.layer >= (int32_t)c->view->layers) c->view->layers = (uint32_t)now->pub.layer + 1;
  return TN_OK;
}

static tn_status add_one(conversion *c, const char *name, const char *hf, const ck_cut *k, uint32_t tensor) {
  ck_piece p;
  to_piece(k, tensor, k->rank ? ck_cut_extent(k, k->rank - 1) : 1, &p);
  return add(c, name, hf, k, 0, &p, 1);
}

static bool run_steps(ck_cut *k, const tn_page_rule *r, bool back) {
  for (uint32_t i = 0; r && i < r->nsteps; i++)
    if (!ck_cut_step(k, &r->steps[back ? r->nsteps - 1 - i : i], back)) return false;
  return true;
}

static bool has_step(const tn_page_rule *r, tn_page_step_kind kind) {
  return r && r->nsteps == 1 && r->steps[0].kind == kind;
}

static tn_status misfit(conversion *c, const tn_page_tensor *t, const tn_page_rule *r) {
  return fail(c, t->name, "does not have the shape that the page's conversion of '%s' needs",
              r ? r->pattern : "it");
}

/* One matrix of which a GGUF file has two: a number of rows of every head in the one, turned, the rest in the
 * other. */
static tn_status heads_apart(conversion *c, const tn_page_tensor *t, const tn_page_rule *r, uint32_t i) {
  const tn_page_step *s = r->steps;
  const tn_ck_tensor *src = &c->from->tensors.items[i].pub;
  int64_t shape[3] = {s->sizes[0], s->count == 3 ? s->sizes[1] + s->sizes[2] : 0,
                      src->rank == 2 ? src->shape[1] : 0};
  for (uint32_t part = 0; part < 2; part++) {
    ck_cut k;
    bool ok = ck_cut_all(&k, src->rank, src->shape) && ck_cut_reshape(&k, 3, shape) &&
              ck_cut_range(&k, 1, part ? (uint64_t)s->sizes[1] : 0, (uint64_t)s->sizes[1 + part]);
    if (!ok) return misfit(c, t, r);
    if (!part) ck_cut_swap(&k, 1, 2);
    TN_TRY(add_one(c, with_last(c, t->other, s->names[part]), t->name, &k, i));
  }
  return TN_OK;
}

/* The same, put together again; the second part comes along with the first. */
static tn_status heads_together(conversion *c, const tn_page_tensor *t, const tn_page_rule *r, uint32_t i) {
  const tn_page_step *s = r->steps;
  uint32_t other = tn_checkpoint_index(c->from, with_last(c, t->name, s->names[1]));
  uint64_t heads = (uint64_t)s->sizes[0], n = 0;
  if (other == CK_NONE) return fail(c, t->name, "'%s', which belongs to it, is missing", s->names[1]);
  const tn_ck_tensor *a = &c->from->tensors.items[i].pub, *b = &c->from->tensors.items[other].pub;
  if (s->count != 3 || a->rank != 3 || b->rank != 3 || a->shape[0] != s->sizes[0] ||
      b->shape[0] != s->sizes[0] || a->shape[2] != s->sizes[1] || b->shape[1] != s->sizes[2] ||
      a->shape[1] != b->shape[2])
    return misfit(c, t, r);
  ck_piece *pieces = tn_mem_alloc(2 * heads * sizeof *pieces);
  if (!pieces) return oom(c);
  for (uint64_t h = 0; h < heads; h++)
    for (uint32_t part = 0; part < 2; part++) {
      ck_cut k;
      ck_cut_all(&k, 3, part ? b->shape : a->shape);
      ck_cut_range(&k, 0, h, 1);
      ck_cut_drop(&k, 0);
      if (!part) ck_cut_swap(&k, 0, 1);
      to_piece(&k, part ? other : i, (uint64_t)b->shape[2], &pieces[n++]);
    }
  ck_cut whole;
  const int64_t shape[2] = {s->sizes[0] * (s->sizes[1] + s->sizes[2]), b->shape[2]};
  ck_cut_all(&whole, 2, shape);
  tn_status st = add(c, with_last(c, t->other, r->pattern), r->pattern, &whole, 0, pieces, (uint32_t)n);
  tn_mem_free(pieces);
  return st;
}

/* Tensors of a GGUF file that `heads_apart` made; `second`: it comes along with the first. */
static const tn_page_rule *together_rule(const conversion *c, const char *gguf, bool *second) {
  for (uint32_t i = 0; c->back && i < c->facts->rules.count; i++) {
    const tn_page_rule *r = &c->facts->rules.items[i];
    if (r->as || !has_step(r, TN_STEP_HEADS)) continue;
    for (uint32_t k = 0; k < 2; k++) {
      *second = k;
      if (match_end(gguf, strlen(gguf), r->steps->names[k])) return r;
    }
  }
  return NULL;
}

static tn_status split(conversion *c, const tn_page_tensor *t, const tn_page_rule *r, uint32_t i) {
  const tn_page_step *s = r->steps;
  const tn_ck_tensor *src = &c->from->tensors.items[i].pub;
  for (uint32_t part = 0; part < 2; part++) {
    ck_cut k;
    if (!ck_cut_all(&k, src->rank, src->shape) || !ck_cut_part(&k, (uint32_t)s->number, part, 2))
      return misfit(c, t, r);
    TN_TRY(add_one(c, with_last(c, t->other ? t->other : t->name, s->names[part]), t->name, &k, i));
  }
  return TN_OK;
}

/* A stack that is one tensor here and many there. */
static tn_status unstack(conversion *c, const tn_page_tensor *t, uint32_t i) {
  const tn_ck_tensor *src = &c->from->tensors.items[i].pub;
  const char *other = renamed(c, t->other);
  for (int64_t e = 0; other && e < t->count; e++) {
    const char *name = numbered(c, other, e);
    const tn_page_rule *r = name ? rule_of(c, name) : NULL;
    ck_cut k;
    if (!ck_cut_all(&k, src->rank, src->shape) || !ck_cut_range(&k, 0, (uint64_t)e, 1))
      return misfit(c, t, r);
    ck_cut_drop(&k, 0);
    if (!run_steps(&k, r, true)) return misfit(c, t, r);
    TN_TRY(add_one(c, name, name, &k, i));
  }
  return other ? TN_OK : oom(c);
}

/* Many tensors here, from `first` on in the facts, that are one there. */
static tn_status stack(conversion *c, uint32_t first) {
  const tn_page_tensor *t = &c->facts->tensors.items[first];
  uint32_t n = 0, all = c->facts->tensors.count;
  const tn_page_rule *r = rule_of(c, t->name);
  ck_piece *pieces = tn_mem_alloc((size_t)all * sizeof *pieces);
  ck_cut k = {0};
  tn_status s = pieces ? TN_OK : oom(c);
  for (uint32_t i = first; s == TN_OK && i < all; i++) {
    const tn_page_tensor *x = &c->facts->tensors.items[i];
    if (!x->other || strcmp(x->other, t->other) != 0) continue;
    uint32_t index = tn_checkpoint_index(c->from, x->name);
    const tn_ck_tensor *src = index == CK_NONE ? NULL : &c->from->tensors.items[index].pub;
    if (!src || x->number != (int64_t)n || !ck_cut_all(&k, src->rank, src->shape) ||
        !run_steps(&k, r, false)) {
      s = misfit(c, x, r);
      break;
    }
    to_piece(&k, index, k.rank ? ck_cut_extent(&k, k.rank - 1) : 1, &pieces[n++]);
  }
  if (s == TN_OK) s = add(c, numbered(c, renamed(c, t->other), 0), t->name, &k, (int64_t)n, pieces, n);
  tn_mem_free(pieces);
  return s;
}

static tn_status convert_tensor(conversion *c, uint32_t fact) {
  const tn_page_tensor *t = &c->facts->tensors.items[fact];
  uint32_t i = tn_checkpoint_index(c->from, t->name);
  bool second = false;
  if (i == CK_NONE) return TN_OK; /* @scale and @order: part of their matrix */
  const tn_page_rule *r = together_rule(c, t->name, &second);
  if (r) return second ? TN_OK : heads_together(c, t, r, i);
  r = rule_of(c, c->back ? t->other : t->name);
  bool star = strchr(t->other, '*');
  if (!c->back && has_step(r, TN_STEP_HEADS)) return heads_apart(c, t, r, i);
  if (!c->back && has_step(r, TN_STEP_SPLIT)) return split(c, t, r, i);
  if (t->count && star) return unstack(c, t, i);
  if (t->number >= 0 && !star) return t->number ? TN_OK : stack(c, fact);
  const tn_ck_tensor *src = &c->from->tensors.items[i].pub;
  ck_cut k;
  if (!ck_cut_all(&k, src->rank, src->shape) || !run_steps(&k, r, c->back)) return misfit(c, t, r);
  const char *other = renamed(c, t->other), *name = other ? numbered(c, other, t->number) : NULL;
  return add_one(c, name, c->back ? name : t->name, &k, i);
}

/* ---- which of them ---- */

static bool has_name(const conversion *c, const tn_page_tensor *t) {
  if (t->other) return true;
  return !c->back && has_step(rule_of(c, t->name), TN_STEP_SPLIT);
}

/* Names of the tensors that stand in the way, and how many there are. */
static uint32_t list_nameless(const conversion *c, uint64_t graphs, tn_buf *out) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < c->facts->tensors.count; i++) {
    const tn_page_tensor *t = &c->facts->tensors.items[i];
    if (has_name(c, t) || !(t->graphs & graphs) || tn_checkpoint_index(c->from, t->name) == CK_NONE) continue;
    if (n < 4) tn_buf_printf(out, "%s%s", n ? ", " : "", t->name);
    n++;
  }
  if (n > 4) tn_buf_puts(out, ", ...");
  return n;
}

static tn_status choose_graphs(conversion *c) {
  uint64_t all = 0, bad = 0;
  tn_buf lost = {0}, graphs = {0};
  const char *format = c->back ? "folders" : "GGUF files";
  for (uint32_t i = 0; i < c->facts->tensors.count; i++) {
    const tn_page_tensor *t = &c->facts->tensors.items[i];
    all |= t->graphs;
    if (!has_name(c, t) && tn_checkpoint_index(c->from, t->name) != CK_NONE) bad |= t->graphs;
  }
  c->graphs = all & ~bad;
  for (uint32_t i = 0; i < c->facts->graphs.count && i < 63; i++)
    if (bad >> i & 1) tn_buf_printf(&graphs, "%s%s", graphs.len ? ", " : "", c->facts->graphs.items[i]);
  list_nameless(c, c->graphs ? bad : all, &lost);
  tn_status s = TN_OK;
  if (!c->graphs)
    s = tn_fail(c->diags, TN_UNSUPPORTED, c->from->path, NULL, "%s: %s has no names for %s in %s",
                c->from->architecture, tn_page_info_of(c->from->page).file, tn_buf_cstr(&lost), format);
  else if (bad)
    tn_diags_add(c->diags, TN_WARNING, c->from->path, 0, 0, NULL,
                 "%s: left out, since %s have no place for its tensors (%s)", tn_buf_cstr(&graphs), format,
                 tn_buf_cstr(&lost));
  tn_buf_fini(&lost);
  tn_buf_fini(&graphs);
  return s;
}

/* Tensors that no graph read and no line of the page ignores. */
static void report_unread(conversion *c) {
  tn_diags own;
  tn_diags_init(&own);
  if (c->from->has_hf) {
    tn_diags *was = &c->from->hf.diags;
    tn_diags saved = *was;
    *was = own;
    tn_hf_report_unused(&c->from->hf);
    own = *was;
    *was = saved;
  } else {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->from->shown; i++) n += !c->from->gguf.tensor_used[i];
    if (n)
      tn_diags_add(&own, TN_WARNING, c->from->path, 0, 0, NULL,
                   "%u tensor%s not used by any graph and left out", n, n == 1 ? " is" : "s are");
  }
  ck_forward(&own, c->diags);
  tn_diags_fini(&own);
}

static tn_status convert_tensors(conversion *c) {
  TN_TRY(choose_graphs(c));
  tn_status s = TN_OK;
  for (uint32_t i = 0; i < c->facts->tensors.count && s != TN_OOM; i++) {
    const tn_page_tensor *t = &c->facts->tensors.items[i];
    if (!(t->graphs & c->graphs) || (t->other && !strcmp(t->other, "-"))) continue;
    tn_status one = convert_tensor(c, i);
    if (one != TN_OK) s = one;
  }
  if (s == TN_OK) report_unread(c);
  return s;
}

/* ---- the view ---- */

static tn_status check_page(tn_checkpoint *ck, tn_diags *diags) {
  if (!ck->page)
    return tn_fail(diags, TN_UNSUPPORTED, ck->path, NULL, "no page describes '%s': it cannot be converted",
                   ck->architecture);
  if (ck->known) return TN_OK;
  ck_forward(&ck->first, diags);
  return diags->errors ? TN_INVALID
                       : tn_fail(diags, TN_INVALID, ck->path, NULL, "its page cannot be run over it");
}

/* The same tensors once more: what a conversion into the same format is. */
static tn_status copy_view(tn_checkpoint *ck, tn_checkpoint *v, tn_diags *diags) {
  conversion c = {.from = ck, .view = v, .diags = diags, .back = ck->format == TN_CK_GGUF};
  for (uint32_t i = 0; i < ck->shown; i++) {
    ck_cut k;
    if (!ck_cut_all(&k, ck->tensors.items[i].pub.rank, ck->tensors.items[i].pub.shape))
      return fail(&c, ck->tensors.items[i].pub.name, "has too many dims");
    TN_TRY(add_one(&c, ck->tensors.items[i].pub.name, ck->tensors.items[i].pub.name, &k, i));
    v->tensors.items[i].pub.role = ck->tensors.items[i].pub.role;
  }
  return TN_OK;
}

static tn_status make_view(tn_checkpoint *ck, tn_ck_format to, tn_checkpoint *v, tn_diags *diags) {
  conversion c = {.from = ck, .view = v, .diags = diags, .facts = &ck->facts, .back = to == TN_CK_FOLDER};
  if (to == ck->format) return copy_view(ck, v, diags);
  TN_TRY(check_page(ck, diags));
  TN_TRY(convert_tensors(&c));
  return to == TN_CK_GGUF ? ck_add_rope_tensors(v, diags) : ck_make_config(v, diags);
}

tn_status tn_checkpoint_convert(tn_checkpoint *ck, tn_ck_format to, tn_diags *diags, tn_checkpoint **view) {
  tn_checkpoint *v = tn_mem_alloc(sizeof *v);
  *view = NULL;
  if (!v) return tn_fail(diags, TN_OOM, ck->path, NULL, "out of memory");
  if (ck->behind) {
    tn_mem_free(v);
    return tn_fail(diags, TN_INVALID, ck->path, NULL, "is converted already");
  }
  tn_arena_init(&v->arena);
  tn_diags_init(&v->first);
  tn_map_init(&v->by_name);
  v->behind = ck;
  v->format = to;
  v->path = ck->path, v->folder = ck->folder, v->architecture = ck->architecture, v->page = ck->page;
  v->diags = diags;
  v->experts = ck->experts;
  tn_status s = make_view(ck, to, v, diags);
  if (s != TN_OK) {
    tn_checkpoint_close(v);
    return s;
  }
  *view = v;
  return TN_OK;
}
