/* tensors.c - tensors of the checkpoint: a name with its alternatives becomes one weight of the module,
 * checked against the shape that the line needs. The prefix that `strip` lists is found with the first tensor
 * and then holds for all. */
#include "frontend/describe/eval.h"

/* The page's own `strip`, or that of the page it extends. */
static tn_names strips_of(const tn_eval *ev) {
  for (const tn_page *p = ev->page; p; p = p->base)
    if (p->strip.count) return p->strip;
  return (tn_names){0};
}

static bool find_as(tn_eval *ev, const char *strip, const char *path, tn_tensor_ref *out, const char **name) {
  *name = *strip ? tn_arena_printf(&ev->arena, "%s%s", strip, path) : path;
  if (!*name) return tn_eval_oom(ev), false;
  return ev->run->tensors.find(ev->run->tensors.ctx, *name, out);
}

/* Finds one alternative; *name is its name in the file. */
static bool find(tn_eval *ev, const tn_alt *a, tn_tensor_ref *out, const char **name) {
  tn_names strips = strips_of(ev);
  *name = a->raw;
  if (!a->path) return false;
  if (a->root || ev->run->tensors.gguf || !strips.count) return find_as(ev, "", a->path, out, name);
  if (ev->strip) return find_as(ev, ev->strip, a->path, out, name);
  for (uint32_t i = 0; i < strips.count; i++) {
    if (!find_as(ev, strips.items[i], a->path, out, name)) continue;
    ev->strip = strips.items[i];
    return true;
  }
  find_as(ev, strips.items[0], a->path, out, name);
  return false;
}

bool tn_tensor_exists(tn_eval *ev, const tn_alt *a) {
  tn_tensor_ref ref;
  const char *name;
  return find(ev, a, &ref, &name);
}

bool tn_tensor_find(tn_eval *ev, tn_text names, tn_tensor_ref *out) {
  const char *name;
  for (uint32_t i = 0; i < names.count; i++)
    if (find(ev, &names.alts[i], out, &name)) return true;
  return false;
}

const char *tn_tensor_name(tn_eval *ev, tn_text names) {
  tn_tensor_ref ref;
  const char *name;
  for (uint32_t i = 0; i < names.count; i++)
    if (find(ev, &names.alts[i], &ref, &name)) return name;
  return NULL;
}

void tn_tensor_ignore(tn_eval *ev, tn_text names) {
  static const char *const ends[] = {"", ".weight", ".bias"};
  for (uint32_t i = 0; i < names.count; i++)
    for (size_t k = 0; k < TN_COUNT(ends); k++) {
      tn_alt a = names.alts[i];
      if (a.path) a.path = tn_arena_printf(&ev->arena, "%s%s", a.path, ends[k]);
      tn_tensor_exists(ev, &a);
    }
}

static tn_val missing(tn_eval *ev, tn_text names) {
  tn_buf b = {0};
  tn_tensor_ref ref;
  const char *name;
  for (uint32_t i = 0; i < names.count; i++)
    if (!names.alts[i].path && !ev->run->tensors.gguf)
      return tn_val_bad(); /* its prefix was wrong, and reported */
  for (uint32_t i = 0; i < names.count; i++) {
    if (names.alts[i].path && !strcmp(names.alts[i].path, "-") && names.count > 1)
      continue; /* no name here */
    if (b.len) tn_buf_puts(&b, " or ");
    find(ev, &names.alts[i], &ref, &name);
    tn_buf_printf(&b, "'%s'%s", name, names.alts[i].path ? "" : " (no GGUF name on the page)");
  }
  tn_val v = tn_eval_fail(ev, "the checkpoint has no tensor %s", tn_buf_cstr(&b));
  tn_buf_fini(&b);
  return v;
}

/* "[64, *]" */
static void show_shape(tn_eval *ev, tn_buf *b, tn_vals shape) {
  tn_buf_puts(b, "[");
  for (uint32_t i = 0; i < shape.count; i++)
    tn_buf_printf(b, "%s%s", i ? ", " : "",
                  shape.items[i].kind == TN_V_NONE ? "*" : tn_val_show(ev, shape.items[i]));
  tn_buf_puts(b, "]");
}

static bool shape_fits(tn_eval *ev, const tn_tensor_ref *ref, tn_vals shape, const char *name) {
  bool same = ref->rank == shape.count;
  for (uint32_t i = 0; i < shape.count; i++) {
    tn_val want = shape.items[i];
    if (want.kind == TN_V_BAD) return true; /* unknown because of an earlier error */
    if (same && want.kind != TN_V_NONE) same = want.kind == TN_V_INT && want.u.i == ref->shape[i];
  }
  if (same) return true;
  tn_buf have = {0}, need = {0};
  for (uint32_t i = 0; i < ref->rank; i++)
    tn_buf_printf(&have, "%s%lld", i ? ", " : "", (long long)ref->shape[i]);
  show_shape(ev, &need, shape);
  tn_eval_fail(ev, "tensor '%s' is [%s], this line needs %s", name, tn_buf_cstr(&have), tn_buf_cstr(&need));
  tn_buf_fini(&have);
  tn_buf_fini(&need);
  return false;
}

tn_weight tn_tensor_weight(tn_eval *ev, const tn_tensor_ref *ref, const char *name) {
  tn_dim dims[TN_MAX_RANK];
  uint64_t id;
  if (tn_map_get(&ev->weights, tn_str_of(name), &id)) return (tn_weight)id;
  if (ref->rank > TN_MAX_RANK)
    return tn_eval_fail(ev, "tensor '%s' has %u dims, at most %d", name, ref->rank, TN_MAX_RANK),
           (tn_weight)0;
  tn_tensor_ref merged = *ref;
  if (!tn_adapters_merge(ev, name, &merged)) return 0;
  ref = &merged;
  for (uint32_t i = 0; i < ref->rank; i++) dims[i] = ev->ir->dim_const(ev->m, ref->shape[i]);
  tn_type type = ev->ir->type_make(ev->m, ref->dtype, ref->rank, dims, NULL);
  tn_part part = {ref->file, ref->offset, ref->bytes};
  tn_weight w = type ? ev->ir->weight_add(ev->m, name, type, ref->form ? ref->parts : &part,
                                          ref->form ? ref->nparts : 1)
                     : 0;
  if (w && ref->form && ev->ir->weight_set_form(ev->m, w, ref->form) != TN_OK) w = 0;
  if (!w) return tn_eval_fail(ev, "tensor '%s' cannot be used", name), (tn_weight)0;
  if (tn_map_put(&ev->weights, tn_str_of(name), w, NULL) != TN_OK) return tn_eval_oom(ev), (tn_weight)0;
  return w;
}

/* name via f(a): f(tensor, a); the shape that the line needs is that of the result. */
static tn_val transform(tn_eval *ev, const tn_via *via, tn_value weight, const tn_val *shape,
                        const char *name) {
  tn_val args[9] = {tn_val_tensor(weight)};
  int64_t sizes[TN_MAX_RANK];
  memcpy(args + 1, via->args.items, via->args.count * sizeof *args);
  tn_val v = tn_call_values(ev, via->callee, args, via->args.count + 1);
  if (v.kind != TN_V_TENSOR || !shape) return v;
  tn_type_info t = tn_val_type(ev, v);
  for (uint32_t i = 0; i < t.rank; i++)
    if (!ev->ir->dim_is_const(ev->m, t.dims[i], &sizes[i]))
      return tn_eval_fail(ev, "'%s' gives a size that changes", via->callee);
  tn_tensor_ref ref = {.rank = t.rank, .shape = sizes};
  return shape_fits(ev, &ref, shape->u.list, name) ? v : tn_val_bad();
}

/* ---- stacks ---------------------------------------------------------------------------------- */
/* The alternative with `number` in the place of its '*'. */
static bool numbered(tn_eval *ev, tn_alt *a, int64_t number) {
  const char *star = a->path ? strchr(a->path, '*') : NULL;
  if (!star) return false;
  a->raw = a->path =
      tn_arena_printf(&ev->arena, "%.*s%lld%s", (int)(star - a->path), a->path, (long long)number, star + 1);
  return a->path || (tn_eval_oom(ev), false);
}

static tn_weight stack_add(tn_eval *ev, const char *name, int64_t count, const tn_tensor_ref *one,
                           const tn_part *parts, uint32_t nparts) {
  tn_dim dims[TN_MAX_RANK];
  if (one->rank + 1 > TN_MAX_RANK)
    return tn_eval_fail(ev, "a stack of tensors of %u dims, at most %d", one->rank, TN_MAX_RANK - 1),
           (tn_weight)0;
  dims[0] = ev->ir->dim_const(ev->m, count);
  for (uint32_t i = 0; i < one->rank; i++) dims[i + 1] = ev->ir->dim_const(ev->m, one->shape[i]);
  tn_type type = ev->ir->type_make(ev->m, one->dtype, one->rank + 1, dims, NULL);
  tn_weight w = type ? ev->ir->weight_add(ev->m, name, type, parts, nparts) : 0;
  if (w && one->form && ev->ir->weight_set_form(ev->m, w, one->form) != TN_OK) w = 0;
  if (!w) tn_eval_fail(ev, "the stack '%s' cannot be used", name);
  return w;
}

/* [count, ...shape] */
static tn_val stack_shape(tn_eval *ev, int64_t count, const tn_val *shape) {
  tn_val items[TN_MAX_RANK] = {tn_val_int(count)};
  uint32_t n = shape ? shape->u.list.count : 0;
  if (n + 1 > TN_MAX_RANK) n = TN_MAX_RANK - 1;
  for (uint32_t i = 0; i < n; i++) items[i + 1] = shape->u.list.items[i];
  return tn_val_list(ev, items, n + 1);
}

/* Are both of one type, shape and form? */
static bool alike(const tn_tensor_ref *a, const tn_tensor_ref *b) {
  bool same = a->dtype == b->dtype && a->rank == b->rank && !a->form == !b->form;
  for (uint32_t i = 0; same && i < a->rank; i++) same = a->shape[i] == b->shape[i];
  return same && (!a->form || (a->nparts == b->nparts && !strcmp(a->form, b->form)));
}

typedef TN_VEC(tn_part) part_list;

/* Tensors 0 .. count of one alternative, all like the first. */
static bool stack_parts(tn_eval *ev, const tn_alt *star, int64_t count, const tn_val *shape, part_list *parts,
                        tn_tensor_ref *first) {
  tn_tensor_ref ref;
  const char *name = NULL;
  for (int64_t i = 0; i < count; i++) {
    tn_alt a = *star;
    if (!numbered(ev, &a, i)) return false;
    if (!find(ev, &a, &ref, &name)) return missing(ev, (tn_text){&a, 1}), false;
    tn_facts_tensor(ev, &a, name, i, 0);
    if (!i) *first = ref;
    if (shape && !shape_fits(ev, &ref, shape->u.list, name)) return false;
    if (!alike(&ref, first))
      return tn_eval_fail(ev, "tensor '%s' has another type or shape than the first of its stack", name),
             false;
    tn_part plain = {ref.file, ref.offset, ref.bytes};
    for (uint32_t k = 0; k < (ref.form ? ref.nparts : 1); k++)
      if (!tn_vec_push(parts, ref.form ? ref.parts[k] : plain)) return tn_eval_oom(ev), false;
  }
  return true;
}

/* One weight [count, ...] for all stacks of this name and count. */
static tn_weight stack_weight(tn_eval *ev, const tn_alt *star, int64_t count, const tn_val *shape) {
  const char *key = tn_arena_printf(&ev->arena, "%s#%lld", star->path, (long long)count);
  part_list parts = {0};
  tn_tensor_ref first = {0};
  uint64_t id = 0;
  if (!key) return tn_eval_oom(ev), (tn_weight)0;
  if (tn_map_get(&ev->weights, tn_str_of(key), &id)) return (tn_weight)id;
  if (stack_parts(ev, star, count, shape, &parts, &first))
    id = stack_add(ev, star->path, count, &first, parts.items, parts.count);
  tn_vec_fini(&parts);
  if (id && tn_map_put(&ev->weights, tn_str_of(key), id, NULL) != TN_OK) return tn_eval_oom(ev), (tn_weight)0;
  return (tn_weight)id;
}

/* count: the tensor is a stack of so many; 0: none. */
static tn_val tensor_load(tn_eval *ev, tn_text names, const tn_val *shape, int64_t count) {
  tn_tensor_ref ref;
  const char *name;
  for (uint32_t i = 0; i < names.count; i++) {
    const tn_alt *a = &names.alts[i];
    if (!find(ev, a, &ref, &name)) continue;
    tn_facts_tensor(ev, a, name, -1, count);
    tn_weight w = tn_tensor_weight(ev, &ref, name);
    tn_weight_info info;
    if (!w) return tn_val_bad();
    if (shape && !a->via && !shape_fits(ev, &ref, shape->u.list, name)) return tn_val_bad();
    ev->ir->weight_get(ev->m, w, &info);
    return a->via ? transform(ev, a->via, info.value, shape, name) : tn_val_tensor(info.value);
  }
  return missing(ev, names);
}

tn_val tn_tensor_load(tn_eval *ev, tn_text names, const tn_val *shape) {
  return tensor_load(ev, names, shape, 0);
}

tn_val tn_tensor_stack(tn_eval *ev, tn_text names, int64_t count, const tn_val *shape) {
  for (uint32_t i = 0; i < names.count; i++) {
    tn_alt a = names.alts[i], first = a;
    tn_weight_info info;
    if (!numbered(ev, &first, 0)) { /* one tensor holds them all */
      if (!tn_tensor_exists(ev, &a)) continue;
      tn_val whole = stack_shape(ev, count, shape);
      return tensor_load(ev, (tn_text){&names.alts[i], 1}, shape ? &whole : NULL, count);
    }
    if (!tn_tensor_exists(ev, &first)) continue;
    tn_weight w = stack_weight(ev, &a, count, shape);
    if (!w) return tn_val_bad();
    ev->ir->weight_get(ev->m, w, &info);
    return tn_val_tensor(info.value);
  }
  return missing(ev, names);
}
