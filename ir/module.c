/* module.c - life of a module, its string and name tables, and what stands at module level: metadata,
 * weights, states, functions. */
#include "ir/module.h"

tn_module *tn_module_new(tn_diags *diags) {
  tn_module *m = tn_mem_alloc(sizeof *m);
  if (!m) return NULL;
  m->diags = diags;
  tn_arena_init(&m->arena);
  tn_map_init(&m->strings);
  tn_map_init(&m->interned);
  tn_map_init(&m->symbols);
  m->name = "";
  bool ok = tn_vec_push(&m->dims, (tn_dim_row){0}) && tn_vec_push(&m->types, (tn_type_row){0}) &&
            tn_vec_push(&m->locs, (tn_loc_row){0}) && tn_vec_push(&m->values, (tn_value_row){0}) &&
            tn_vec_push(&m->ops, (tn_op_row){0}) && tn_vec_push(&m->funcs, (tn_func_row){0}) &&
            tn_vec_push(&m->weights, (tn_weight_row){0}) && tn_vec_push(&m->states, (tn_state_row){0});
  if (ok) return m;
  tn_module_free(m);
  return NULL;
}

void tn_module_free(tn_module *m) {
  if (!m) return;
  for (uint32_t i = 0; i < m->values.count; i++) tn_vec_fini(&m->values.items[i].uses);
  tn_vec_fini(&m->meta);
  tn_vec_fini(&m->dims);
  tn_vec_fini(&m->dim_symbols);
  tn_vec_fini(&m->constraints);
  tn_vec_fini(&m->types);
  tn_vec_fini(&m->locs);
  tn_vec_fini(&m->values);
  tn_vec_fini(&m->ops);
  tn_vec_fini(&m->funcs);
  tn_vec_fini(&m->weights);
  tn_vec_fini(&m->states);
  tn_map_fini(&m->strings);
  tn_map_fini(&m->interned);
  tn_map_fini(&m->symbols);
  tn_arena_fini(&m->arena);
  tn_mem_free(m);
}

tn_diags *tn_module_diags(tn_module *m) { return m->diags; }

tn_status tn_module_oom(tn_module *m) { return tn_module_fail(m, TN_OOM, 0, "out of memory"); }

/* ---- tables ---- */

const char *tn_module_intern(tn_module *m, tn_str s) {
  uint64_t at;
  if (!tn_map_get(&m->strings, s, &at)) {
    at = m->strings.count;
    if (tn_map_put(&m->strings, s, at, NULL)) {
      tn_module_oom(m);
      return NULL;
    }
  }
  return m->strings.entries[at].key;
}

const char *tn_module_text(tn_module *m, const char *s, const char *what) {
  uint64_t bad;
  if (!s) return NULL;
  if (!tn_utf8_valid(tn_str_of(s), &bad)) {
    tn_module_fail(m, TN_INVALID, 0, "%s is not valid UTF-8 at byte %llu", what, (unsigned long long)bad);
    return NULL;
  }
  return tn_module_intern(m, tn_str_of(s));
}

#define KEY_MAX 512
static tn_str table_key(char *room, tn_buf *heap, char table, const void *key, size_t n) {
  if (n < KEY_MAX) {
    room[0] = table;
    memcpy(room + 1, key, n);
    return (tn_str){room, n + 1};
  }
  tn_buf_put(heap, &table, 1);
  tn_buf_put(heap, key, n);
  return (tn_str){heap->text, heap->len};
}

uint32_t tn_interned(tn_module *m, char table, const void *key, size_t n) {
  char room[KEY_MAX];
  tn_buf heap = {0};
  tn_str k = table_key(room, &heap, table, key, n);
  uint64_t id = 0;
  if (!heap.failed) tn_map_get(&m->interned, k, &id);
  tn_buf_fini(&heap);
  return (uint32_t)id;
}

tn_status tn_interned_put(tn_module *m, char table, const void *key, size_t n, uint32_t id) {
  char room[KEY_MAX];
  tn_buf heap = {0};
  tn_str k = table_key(room, &heap, table, key, n);
  tn_status status = heap.failed ? TN_OOM : tn_map_put(&m->interned, k, id, NULL);
  tn_buf_fini(&heap);
  return status;
}

bool tn_list_grow_(tn_module *m, void *items, uint32_t count, uint32_t *capacity, size_t item) {
  if (count < *capacity) return true;
  uint32_t want = *capacity ? *capacity * 2 : 4;
  uint64_t bytes;
  void *old, *now = NULL;
  memcpy(&old, items, sizeof old);
  if (want > *capacity && tn_mul_u64(want, item, &bytes) && bytes < SIZE_MAX)
    now = tn_arena_alloc(&m->arena, bytes);
  if (!now) return false;
  if (count) memcpy(now, old, count * item);
  memcpy(items, &now, sizeof now);
  *capacity = want;
  return true;
}

/* ---- rows ---- */

tn_value_row *tn_value_row_of(tn_module *m, tn_value v) {
  return &m->values.items[v < m->values.count ? v : 0];
}
tn_op_row *tn_op_row_of(tn_module *m, tn_op op) { return &m->ops.items[op < m->ops.count ? op : 0]; }
tn_func_row *tn_func_row_of(tn_module *m, tn_func f) { return &m->funcs.items[f < m->funcs.count ? f : 0]; }

tn_region *tn_region_of(tn_module *m, tn_func f, tn_op parent) {
  if (parent) {
    tn_op_row *o = tn_op_row_of(m, parent);
    return o->code == TN_OPC_kernel ? &o->body : NULL;
  }
  return f && f < m->funcs.count ? &m->funcs.items[f].body : NULL;
}

tn_value tn_value_new(tn_module *m, uint32_t kind, uint32_t index, tn_type t, uint32_t owner) {
  tn_value_row row = {.kind = kind, .index = index, .type = t, .owner = owner};
  if (!tn_vec_push(&m->values, row)) {
    tn_module_oom(m);
    return 0;
  }
  return m->values.count - 1;
}

tn_value tn_module_symbol(tn_module *m, tn_str name) {
  uint64_t v = 0;
  return tn_map_get(&m->symbols, name, &v) ? (tn_value)v : 0;
}

/* ---- name and metadata ---- */

tn_status tn_ir_module_set_name(tn_module *m, const char *name) {
  const char *s = tn_module_text(m, name, "the module's name");
  if (!s) return TN_INVALID;
  m->name = s;
  return TN_OK;
}

const char *tn_ir_module_name(tn_module *m) { return m->name; }

static uint32_t meta_find(tn_module *m, const char *key) {
  uint32_t i = 0;
  while (i < m->meta.count && strcmp(m->meta.items[i].key, key)) i++;
  return i;
}

tn_status tn_ir_meta_set(tn_module *m, const char *key, const char *value) {
  if (!key || !*key) return tn_module_fail(m, TN_INVALID, 0, "a metadata entry has no key");
  uint32_t i = meta_find(m, key);
  if (!value) {
    if (i < m->meta.count) {
      memmove(m->meta.items + i, m->meta.items + i + 1, (m->meta.count - i - 1) * sizeof *m->meta.items);
      m->meta.count--;
    }
    return TN_OK;
  }
  tn_meta_row row = {tn_module_text(m, key, "a metadata key"), tn_module_text(m, value, "a metadata value")};
  if (!row.key || !row.value) return TN_INVALID;
  if (i < m->meta.count)
    m->meta.items[i] = row;
  else if (!tn_vec_push(&m->meta, row))
    return tn_module_oom(m);
  return TN_OK;
}

const char *tn_ir_meta_get(tn_module *m, const char *key) {
  uint32_t i = key ? meta_find(m, key) : m->meta.count;
  return i < m->meta.count ? m->meta.items[i].value : NULL;
}

uint32_t tn_ir_meta_count(tn_module *m) { return m->meta.count; }
const char *tn_ir_meta_key(tn_module *m, uint32_t i) {
  return i < m->meta.count ? m->meta.items[i].key : NULL;
}

/* ---- weights and states ---- */

/* Interns a name for `what` and checks that it is free in the symbol table under `prefix`; NULL after
 * reporting. */
static const char *fresh_name(tn_module *m, const char *name, const char *prefix, const char *what,
                              tn_buf *key) {
  if (!name || !*name) {
    tn_module_fail(m, TN_INVALID, 0, "a %s has no name", what);
    return NULL;
  }
  const char *s = tn_module_text(m, name, what);
  if (!s) return NULL;
  tn_buf_puts(key, prefix);
  tn_buf_puts(key, s);
  if (key->failed) {
    tn_module_oom(m);
    return NULL;
  }
  if (!tn_map_get(&m->symbols, (tn_str){key->text, key->len}, NULL)) return s;
  tn_module_fail(m, TN_INVALID, 0, "%s '%s' is defined twice", what, s);
  return NULL;
}

static bool type_given(tn_module *m, tn_type t, const char *what, const char *name) {
  if (t && t < m->types.count) return true;
  tn_module_fail(m, TN_INVALID, 0, "%s '%s' has no type", what, name);
  return false;
}

static tn_part *parts_copy(tn_module *m, const tn_part *parts, uint32_t n) {
  tn_part *copy = tn_arena_alloc(&m->arena, n * sizeof *copy);
  if (!copy) tn_module_oom(m);
  for (uint32_t i = 0; copy && i < n; i++) {
    const char *file = parts[i].file ? parts[i].file : "";
    copy[i] = (tn_part){tn_module_text(m, file, "a weight's file name"), parts[i].offset, parts[i].bytes};
    if (!copy[i].file) return NULL;
  }
  return copy;
}

/* Adds value and symbol of a weight or state whose row will be number `id`. */
static tn_value symbol_add(tn_module *m, uint32_t kind, uint32_t id, const char *name, tn_type t,
                           tn_str key) {
  tn_value v = tn_value_new(m, kind, 0, t, id);
  if (v && tn_map_put(&m->symbols, key, v, NULL)) {
    tn_module_oom(m);
    m->values.items[v].kind = 0;
    return 0;
  }
  if (v) m->values.items[v].name = name;
  return v;
}

tn_weight tn_ir_weight_add(tn_module *m, const char *name, tn_type t, const tn_part *parts, uint32_t nparts) {
  tn_buf key = {0};
  tn_weight id = 0;
  tn_weight_row row = {.name = fresh_name(m, name, "", "weight", &key), .nparts = nparts};
  if (row.name && type_given(m, t, "weight", row.name) && (row.parts = parts_copy(m, parts, nparts))) {
    if (!tn_vec_reserve(&m->weights, m->weights.count + 1))
      tn_module_oom(m);
    else {
      row.value = symbol_add(m, TN_VALUE_WEIGHT, m->weights.count, row.name, t, (tn_str){key.text, key.len});
      if (row.value) id = m->weights.count, (void)tn_vec_push(&m->weights, row);
    }
  }
  tn_buf_fini(&key);
  return id;
}

uint32_t tn_ir_weight_count(tn_module *m) { return m->weights.count - 1; }

void tn_ir_weight_get(tn_module *m, tn_weight w, tn_weight_info *out) {
  const tn_weight_row *row = &m->weights.items[w < m->weights.count ? w : 0];
  *out = (tn_weight_info){.name = row->name,
                          .type = m->values.items[row->value].type,
                          .nparts = row->nparts,
                          .parts = row->parts,
                          .value = row->value,
                          .form = row->form};
}

tn_status tn_ir_weight_set_form(tn_module *m, tn_weight w, const char *form) {
  if (!w || w >= m->weights.count) return tn_module_fail(m, TN_INVALID, 0, "there is no weight %u", w);
  const char *own = form ? tn_module_text(m, form, "a weight's form") : NULL;
  if (form && !own) return TN_INVALID;
  m->weights.items[w].form = own;
  return TN_OK;
}

/* The arguments of kernel bodies that stand for the weight follow its type. */
tn_status tn_ir_weight_set_type(tn_module *m, tn_weight w, tn_type t) {
  if (!w || w >= m->weights.count) return tn_module_fail(m, TN_INVALID, 0, "there is no weight %u", w);
  if (!type_given(m, t, "weight", m->weights.items[w].name)) return TN_INVALID;
  tn_value_row *v = &m->values.items[m->weights.items[w].value];
  v->type = t;
  for (uint32_t i = 0; i < v->uses.count; i++) {
    tn_use use = v->uses.items[i];
    tn_region *body = &m->ops.items[use.op].body;
    if (use.operand < body->args.count) m->values.items[body->args.items[use.operand]].type = t;
  }
  return TN_OK;
}

tn_state tn_ir_state_add(tn_module *m, const char *name, tn_type t) {
  tn_buf key = {0};
  tn_state id = 0;
  tn_state_row row = {.name = fresh_name(m, name, "", "state", &key)};
  if (row.name && type_given(m, t, "state", row.name)) {
    if (!tn_vec_reserve(&m->states, m->states.count + 1))
      tn_module_oom(m);
    else {
      row.value = symbol_add(m, TN_VALUE_STATE, m->states.count, row.name, t, (tn_str){key.text, key.len});
      if (row.value) id = m->states.count, (void)tn_vec_push(&m->states, row);
    }
  }
  tn_buf_fini(&key);
  return id;
}

uint32_t tn_ir_state_count(tn_module *m) { return m->states.count - 1; }

void tn_ir_state_get(tn_module *m, tn_state s, tn_state_info *out) {
  const tn_state_row *row = &m->states.items[s < m->states.count ? s : 0];
  *out = (tn_state_info){row->name, m->values.items[row->value].type, row->value};
}

/* ---- functions ---- */

tn_func tn_ir_func_add(tn_module *m, const char *name) {
  tn_buf key = {0};
  tn_func id = 0;
  tn_func_row row = {.name = fresh_name(m, name, "@", "function", &key)};
  if (row.name) {
    bool ok = tn_vec_reserve(&m->funcs, m->funcs.count + 1) &&
              !tn_map_put(&m->symbols, (tn_str){key.text, key.len}, m->funcs.count, NULL);
    if (ok)
      id = m->funcs.count, (void)tn_vec_push(&m->funcs, row);
    else
      tn_module_oom(m);
  }
  tn_buf_fini(&key);
  return id;
}

/* Their names stay taken. */
tn_status tn_ir_func_drop(tn_module *m, tn_func f) {
  if (!f || f >= m->funcs.count) return tn_module_fail(m, TN_INVALID, 0, "there is no function %u", f);
  while (m->funcs.count > f) {
    tn_func_row *row = &m->funcs.items[m->funcs.count - 1];
    for (tn_op op; (op = row->body.last);) TN_TRY(tn_ir_op_erase(m, op));
    for (uint32_t i = 0; i < row->body.args.count; i++) m->values.items[row->body.args.items[i]].kind = 0;
    m->funcs.count--;
  }
  return TN_OK;
}

uint32_t tn_ir_func_count(tn_module *m) { return m->funcs.count - 1; }

void tn_ir_func_get(tn_module *m, tn_func f, tn_func_info *out) {
  const tn_func_row *row = tn_func_row_of(m, f);
  *out = (tn_func_info){.name = row->name,
                        .nargs = row->body.args.count,
                        .nresults = row->nresults,
                        .args = row->body.args.items,
                        .arg_names = row->arg_names.items,
                        .results = row->results,
                        .result_names = row->result_names};
}

tn_value tn_ir_func_arg_add(tn_module *m, tn_func f, const char *name, tn_type t) {
  if (!f || f >= m->funcs.count) {
    tn_module_fail(m, TN_INVALID, 0, "there is no function %u", f);
    return 0;
  }
  tn_func_row *row = &m->funcs.items[f];
  const char *s = tn_module_text(m, name && *name ? name : "arg", "an argument's name");
  if (!s || !type_given(m, t, "argument", s)) return 0;
  for (uint32_t i = 0; i < row->arg_names.count; i++) {
    if (strcmp(row->arg_names.items[i], s)) continue;
    tn_module_fail(m, TN_INVALID, 0, "function '%s' has two arguments '%s'", row->name, s);
    return 0;
  }
  tn_value v = tn_value_new(m, TN_VALUE_ARG, row->body.args.count, t, f);
  if (!v) return 0;
  m->values.items[v].of_func = true;
  m->values.items[v].name = s;
  if (tn_list_push(m, &row->body.args, v)) {
    if (tn_list_push(m, &row->arg_names, s)) return v;
    row->body.args.count--;
  }
  m->values.items[v].kind = 0;
  tn_module_oom(m);
  return 0;
}

tn_status tn_ir_func_result_names(tn_module *m, tn_func f, const char *const *names, uint32_t n) {
  if (!f || f >= m->funcs.count) return tn_module_fail(m, TN_INVALID, 0, "there is no function %u", f);
  tn_func_row *row = &m->funcs.items[f];
  if (row->results && row->nresults != n)
    return tn_module_fail(m, TN_INVALID, 0, "function '%s' returns %u values, but %u names are given",
                          row->name, row->nresults, n);
  const char **copy = tn_arena_alloc(&m->arena, (n ? n : 1) * sizeof *copy);
  if (!copy) return tn_module_oom(m);
  for (uint32_t i = 0; i < n; i++) {
    if (names[i] && !(copy[i] = tn_module_text(m, names[i], "a result's name"))) return TN_INVALID;
    for (uint32_t j = 0; names[i] && j < i; j++)
      if (copy[j] && !strcmp(copy[j], copy[i]))
        return tn_module_fail(m, TN_INVALID, 0, "function '%s' has two results '%s'", row->name, copy[i]);
  }
  row->result_names = copy;
  row->nresult_names = n;
  return TN_OK;
}

tn_status tn_ir_func_set_attr(tn_module *m, tn_func f, const char *name, const tn_attr *a) {
  if (!f || f >= m->funcs.count) return tn_module_fail(m, TN_INVALID, 0, "there is no function %u", f);
  tn_func_row *row = &m->funcs.items[f];
  tn_named_attr entry = {tn_module_text(m, name ? name : "", "an attribute's name"), {0}};
  if (!entry.name) return TN_INVALID;
  if (!tn_name_is_word(entry.name))
    return tn_module_fail(m, TN_INVALID, 0, "function '%s': '%s' is no attribute name", row->name,
                          entry.name);
  TN_TRY(tn_attr_copy(m, 0, entry.name, a->kind, a, &entry.attr));
  for (uint32_t i = 0; i < row->attrs.count; i++) {
    if (strcmp(row->attrs.items[i].name, entry.name)) continue;
    row->attrs.items[i] = entry;
    return TN_OK;
  }
  return tn_list_push(m, &row->attrs, entry) ? TN_OK : tn_module_oom(m);
}

uint32_t tn_ir_func_attr(tn_module *m, tn_func f, const char *name, tn_attr *out) {
  const tn_func_row *row = tn_func_row_of(m, f);
  for (uint32_t i = 0; i < row->attrs.count; i++) {
    if (strcmp(row->attrs.items[i].name, name)) continue;
    *out = row->attrs.items[i].attr;
    return 1;
  }
  return 0;
}
