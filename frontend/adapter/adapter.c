/* adapter.c - the list of adapters of one import. Names of weights are compared from their ends, because a
 * base checkpoint and the model that an adapter was trained on may carry different prefixes. */
#include "frontend/adapter/adapter.h"
#include <math.h>
#include <stdlib.h>

enum { MAX_ADAPTERS = 16 };

tn_status tn_adapter_add(tn_adapters *all, tn_adapter *a, const tn_lora *l, tn_diags *diags) {
  int64_t rank = l->a.rank == 2 ? l->a.shape[0] : 0;
  if (l->a.rank != 2 || l->b.rank != 2 || rank < 1 || l->b.shape[1] != rank)
    return tn_fail(
        diags, TN_INVALID, a->path, l->weight,
        "the adapter's matrices do not fit together: A has rank %u and %lld rows, B rank %u and %lld "
        "columns",
        l->a.rank, (long long)(l->a.rank ? l->a.shape[0] : 0), l->b.rank,
        (long long)(l->b.rank == 2 ? l->b.shape[1] : 0));
  if (!isfinite(l->scale))
    return tn_fail(diags, TN_INVALID, a->path, l->weight, "the adapter's scale is not a finite number");
  tn_lora copy = *l;
  int64_t *shapes = tn_arena_alloc(&all->arena, 4 * sizeof *shapes);
  copy.weight = tn_arena_str(&all->arena, tn_str_of(l->weight));
  if (!copy.weight || !shapes) return TN_OOM;
  memcpy(shapes, l->a.shape, 2 * sizeof *shapes);
  memcpy(shapes + 2, l->b.shape, 2 * sizeof *shapes);
  copy.a.shape = shapes;
  copy.b.shape = shapes + 2;
  copy.a.file = copy.b.file = a->path;
  return tn_vec_push(&a->loras, copy) ? TN_OK : TN_OOM;
}

tn_status tn_adapter_complete(const tn_adapter *a, uint32_t tensors, tn_diags *diags) {
  uint32_t pairs = a->loras.count;
  if (!tensors) return tn_fail(diags, TN_INVALID, a->path, NULL, "the adapter is empty");
  if (tensors == 2 * pairs) return TN_OK;
  return tn_fail(diags, TN_INVALID, a->path, NULL, "%u tensors make %u pairs: a matrix B has no A", tensors,
                 pairs);
}

/* One "PATH" or "PATH=WEIGHT". */
static tn_status add_one(tn_adapters *all, tn_str text, tn_diags *diags) {
  tn_adapter a = {.weight = 1};
  const char *equals = NULL;
  for (uint64_t i = text.len; i-- > 0 && !equals;)
    if (text.ptr[i] == '=') equals = text.ptr + i;
  char *given =
      tn_arena_str(&all->arena, (tn_str){text.ptr, equals ? (uint64_t)(equals - text.ptr) : text.len});
  char *weight =
      equals ? tn_arena_str(&all->arena, (tn_str){equals + 1, (uint64_t)(text.ptr + text.len - equals - 1)})
             : NULL;
  if (!given || (equals && !weight)) return TN_OOM;
  if (weight) {
    char *end;
    a.weight = strtod(weight, &end);
    if (!*weight || *end || !isfinite(a.weight))
      return tn_fail(diags, TN_INVALID, given, NULL, "the adapter's weight is '%s', expected a number",
                     weight);
  }
  char *full = realpath(given, NULL);
  if (!full) return tn_fail(diags, TN_NOT_FOUND, given, NULL, "there is no such adapter");
  a.path = tn_arena_str(&all->arena, tn_str_of(full));
  free(full);
  if (!a.path) return TN_OOM;
  const char *slash = strrchr(a.path, '/');
  a.name = slash && slash[1] ? slash + 1 : a.path;
  if (all->items.count == MAX_ADAPTERS)
    return tn_fail(diags, TN_INVALID, given, NULL, "more than %d adapters", MAX_ADAPTERS);
  if (!tn_vec_push(&all->items, a)) return TN_OOM;
  tn_adapter *kept = &all->items.items[all->items.count - 1];
  return tn_path_is_dir(a.path) ? tn_adapter_read_peft(all, kept, diags)
                                : tn_adapter_read_gguf(all, kept, diags);
}

static tn_status read_mode(const char *mode, tn_diags *diags, bool *merge) {
  *merge = mode && !strcmp(mode, "merge");
  if (!mode || *merge || !strcmp(mode, "switch")) return TN_OK;
  return tn_fail(diags, TN_INVALID, NULL, "adapter-mode", "'%s' is neither 'switch' nor 'merge'", mode);
}

tn_status tn_adapters_open(const tn_host *host, const tn_options *options, tn_diags *diags,
                           tn_adapters **out) {
  const char *list = host->option(options, "adapters");
  bool merge;
  *out = NULL;
  TN_TRY(read_mode(host->option(options, "adapter-mode"), diags, &merge));
  if (!list || !*list) return TN_OK;
  tn_adapters *a = tn_mem_alloc(sizeof *a);
  if (!a) return TN_OOM;
  tn_arena_init(&a->arena);
  a->merge = merge;
  tn_status s = TN_OK;
  for (const char *p = list; s == TN_OK && *p;) {
    size_t n = strcspn(p, ":");
    if (n) s = add_one(a, (tn_str){p, n}, diags);
    p += n + (p[n] == ':');
  }
  if (s == TN_OK)
    *out = a;
  else
    tn_adapters_close(a);
  return s;
}

void tn_adapters_close(tn_adapters *a) {
  if (!a) return;
  for (uint32_t i = 0; i < a->items.count; i++) tn_vec_fini(&a->items.items[i].loras);
  tn_vec_fini(&a->items);
  tn_arena_fini(&a->arena);
  tn_mem_free(a);
}

/* Equal, or one is the end of the other behind a dot. */
static bool same_weight(const char *a, const char *b) {
  size_t na = strlen(a), nb = strlen(b), n = na < nb ? na : nb;
  if (strcmp(a + na - n, b + nb - n) != 0) return false;
  return na == nb || (na > nb ? a[na - n - 1] : b[nb - n - 1]) == '.';
}

const tn_lora *tn_adapters_find(tn_adapters *a, uint32_t i, const char *weight) {
  tn_adapter *one = &a->items.items[i];
  for (uint32_t k = 0; k < one->loras.count; k++)
    if (same_weight(one->loras.items[k].weight, weight)) {
      one->loras.items[k].used = true;
      return &one->loras.items[k];
    }
  return NULL;
}

static tn_status report_unused(const tn_adapter *a, tn_diags *diags) {
  uint32_t n = 0;
  const char *first = NULL;
  for (uint32_t k = 0; k < a->loras.count; k++)
    if (!a->loras.items[k].used && !n++) first = a->loras.items[k].weight;
  if (!n) return TN_OK;
  return tn_fail(diags, TN_INVALID, a->path, NULL,
                 "%u of the adapter's %u matrices add to no linear layer of this model, the first to '%s'", n,
                 a->loras.count, first);
}

tn_status tn_adapters_finish(tn_adapters *a, const tn_ir *ir, tn_module *m, tn_diags *diags) {
  tn_buf names = {0}, weights = {0};
  tn_status s = TN_OK;
  for (uint32_t i = 0; i < a->items.count; i++) {
    tn_status one = report_unused(&a->items.items[i], diags);
    if (s == TN_OK) s = one;
    tn_buf_printf(&names, "%s%s", i ? "," : "", a->items.items[i].name);
    tn_buf_printf(&weights, "%s%.9g", i ? "," : "", a->items.items[i].weight);
  }
  if (s == TN_OK)
    s = names.failed || weights.failed ? TN_OOM : ir->meta_set(m, "adapters", tn_buf_cstr(&names));
  if (s == TN_OK && !a->merge) s = ir->meta_set(m, "adapter_weights", tn_buf_cstr(&weights));
  tn_buf_fini(&names);
  tn_buf_fini(&weights);
  return s;
}
