/* clone.c - copies: of a whole module, row by row, so that all ids stay; of a function, op by op through the
 * builder, so that types are inferred anew when a symbol gets a value. */
#include "ir/module.h"

/* ---- modules ---- */

typedef struct copier {
  tn_module *from, *to;
  bool failed;
} copier;

static const char *copy_str(copier *c, const char *s) {
  const char *t = s ? tn_module_intern(c->to, tn_str_of(s)) : NULL;
  if (s && !t) c->failed = true;
  return t;
}

static void *copy_bytes(copier *c, const void *p, uint64_t n) {
  void *q = p ? tn_arena_copy(&c->to->arena, p, n) : NULL;
  if (p && !q) c->failed = true;
  return q;
}

static const char **copy_names(copier *c, const char *const *names, uint32_t n) {
  const char **copy = copy_bytes(c, names, n * sizeof *names);
  for (uint32_t i = 0; copy && i < n; i++) copy[i] = copy_str(c, names[i]);
  return copy;
}

static void copy_attr(copier *c, tn_attr *a) {
  switch (a->kind) {
  case TN_ATTR_STR: a->u.s = copy_str(c, a->u.s); break;
  case TN_ATTR_INTS: a->u.ints = copy_bytes(c, a->u.ints, a->count * sizeof *a->u.ints); break;
  case TN_ATTR_DIMS: a->u.dims = copy_bytes(c, a->u.dims, a->count * sizeof *a->u.dims); break;
  case TN_ATTR_DATA: a->u.data.ptr = copy_bytes(c, a->u.data.ptr, a->u.data.len); break;
  }
}

/* Makes to's array as long as from's and copies the rows; pointers in them are then replaced. */
#define COPY_POOL(c, pool)                                                                                   \
  do {                                                                                                       \
    uint32_t count_ = (c)->from->pool.count;                                                                 \
    if (count_ && !tn_vec_reserve(&(c)->to->pool, count_))                                                   \
      (c)->failed = true;                                                                                    \
    else if (count_) {                                                                                       \
      memcpy((c)->to->pool.items, (c)->from->pool.items, count_ * sizeof *(c)->from->pool.items);            \
      (c)->to->pool.count = count_;                                                                          \
    }                                                                                                        \
  } while (0)

static void copy_dims(copier *c) {
  COPY_POOL(c, dims);
  COPY_POOL(c, dim_symbols);
  COPY_POOL(c, constraints);
  for (uint32_t i = 1; !c->failed && i < c->to->dims.count; i++) {
    tn_dim_row *row = &c->to->dims.items[i];
    row->symbol = copy_str(c, row->symbol);
    tn_dim_term *terms = copy_bytes(c, row->terms, row->nterms * sizeof *terms);
    for (uint32_t j = 0; terms && j < row->nterms; j++)
      terms[j].atoms = copy_bytes(c, terms[j].atoms, terms[j].natoms * sizeof(tn_dim));
    row->terms = terms;
  }
}

static void copy_types(copier *c) {
  COPY_POOL(c, types);
  for (uint32_t i = 1; !c->failed && i < c->to->types.count; i++) {
    tn_type_info *t = &c->to->types.items[i].info;
    t->dims = copy_bytes(c, t->dims, t->rank * sizeof *t->dims);
    t->layout = copy_str(c, t->layout);
  }
  COPY_POOL(c, locs);
  for (uint32_t i = 1; !c->failed && i < c->to->locs.count; i++)
    c->to->locs.items[i].info.name = copy_str(c, c->to->locs.items[i].info.name);
}

static void copy_values(copier *c) {
  COPY_POOL(c, values);
  /* The uses are heap arrays: none may be shared, whatever fails. */
  for (uint32_t i = 0; i < c->to->values.count; i++)
    memset(&c->to->values.items[i].uses, 0, sizeof c->to->values.items[i].uses);
  for (uint32_t i = 1; !c->failed && i < c->to->values.count; i++) {
    tn_value_row *row = &c->to->values.items[i];
    const tn_value_row *old = &c->from->values.items[i];
    row->name = copy_str(c, row->name);
    if (!old->uses.count) continue;
    if (!tn_vec_reserve(&row->uses, old->uses.count))
      c->failed = true;
    else
      memcpy(row->uses.items, old->uses.items, old->uses.count * sizeof *old->uses.items),
          row->uses.count = old->uses.count;
  }
}

static void copy_region(copier *c, tn_region *r) {
  r->args.items = copy_bytes(c, r->args.items, r->args.count * sizeof *r->args.items);
  r->args.capacity = r->args.count;
}

static void copy_ops(copier *c) {
  COPY_POOL(c, ops);
  for (uint32_t i = 1; !c->failed && i < c->to->ops.count; i++) {
    tn_op_row *op = &c->to->ops.items[i];
    if (!op->code) continue;
    const tn_op_spec *s = tn_op_spec_of(op->code);
    op->operands =
        copy_bytes(c, op->operands, (op->operand_room ? op->operand_room : 1) * sizeof *op->operands);
    op->attrs = copy_bytes(c, op->attrs, (s->nattrs ? s->nattrs : 1) * sizeof *op->attrs);
    for (uint32_t k = 0; op->attrs && k < s->nattrs; k++) copy_attr(c, &op->attrs[k]);
    copy_region(c, &op->body);
  }
}

static void copy_funcs(copier *c) {
  COPY_POOL(c, funcs);
  for (uint32_t i = 1; !c->failed && i < c->to->funcs.count; i++) {
    tn_func_row *f = &c->to->funcs.items[i];
    f->name = copy_str(c, f->name);
    copy_region(c, &f->body);
    f->arg_names.items = copy_names(c, f->arg_names.items, f->arg_names.count);
    f->arg_names.capacity = f->arg_names.count;
    f->results = copy_bytes(c, f->results, f->nresults * sizeof *f->results);
    f->result_names = copy_names(c, f->result_names, f->nresult_names);
    f->attrs.items = copy_bytes(c, f->attrs.items, f->attrs.count * sizeof *f->attrs.items);
    f->attrs.capacity = f->attrs.count;
    for (uint32_t k = 0; f->attrs.items && k < f->attrs.count; k++) {
      f->attrs.items[k].name = copy_str(c, f->attrs.items[k].name);
      copy_attr(c, &f->attrs.items[k].attr);
    }
  }
}

static void copy_symbols(copier *c) {
  COPY_POOL(c, weights);
  for (uint32_t i = 1; !c->failed && i < c->to->weights.count; i++) {
    tn_weight_row *w = &c->to->weights.items[i];
    tn_part *parts = copy_bytes(c, w->parts, w->nparts * sizeof *parts);
    for (uint32_t k = 0; parts && k < w->nparts; k++) parts[k].file = copy_str(c, parts[k].file);
    w->parts = parts;
    w->form = copy_str(c, w->form);
    w->name = copy_str(c, w->name);
  }
  COPY_POOL(c, states);
  for (uint32_t i = 1; !c->failed && i < c->to->states.count; i++)
    c->to->states.items[i].name = copy_str(c, c->to->states.items[i].name);
  COPY_POOL(c, meta);
  for (uint32_t i = 0; !c->failed && i < c->to->meta.count; i++) {
    c->to->meta.items[i].key = copy_str(c, c->to->meta.items[i].key);
    c->to->meta.items[i].value = copy_str(c, c->to->meta.items[i].value);
  }
}

/* Keys are text and ids, which stay; only those of locations hold pointers and are made again. */
static void copy_tables(copier *c) {
  const tn_map *maps[] = {&c->from->symbols, &c->from->interned};
  tn_map *copies[] = {&c->to->symbols, &c->to->interned};
  for (int k = 0; k < 2; k++)
    for (uint32_t i = 0; !c->failed && i < maps[k]->count; i++) {
      const tn_map_entry *e = &maps[k]->entries[i];
      if (k == 1 && e->key[0] == 'l') continue;
      if (tn_map_put(copies[k], (tn_str){e->key, e->len}, e->value, NULL)) c->failed = true;
    }
  for (uint32_t i = 1; !c->failed && i < c->to->locs.count; i++) {
    tn_loc_info *info = &c->to->locs.items[i].info;
    if (tn_interned_put(c->to, 'l', info, sizeof *info, i)) c->failed = true;
  }
}

tn_module *tn_module_clone(tn_module *m, tn_diags *diags) {
  copier c = {.from = m, .to = tn_module_new(diags)};
  if (!c.to) return NULL;
  c.to->name = copy_str(&c, m->name);
  copy_dims(&c);
  copy_types(&c);
  copy_values(&c);
  copy_ops(&c);
  copy_funcs(&c);
  copy_symbols(&c);
  copy_tables(&c);
  if (!c.failed) return c.to;
  tn_fail(diags, TN_OOM, NULL, NULL, "out of memory");
  tn_module_free(c.to);
  return NULL;
}

/* ---- functions ---- */

typedef struct func_copy {
  tn_module *m;
  const char *sym; /* NULL: nothing is replaced */
  tn_dim value;
  tn_value *map; /* by old value; 0: itself (weights, states) */
  uint32_t nmap;
} func_copy;

static tn_type swap_type(func_copy *c, tn_type t) {
  tn_type_info info;
  tn_dim dims[TN_MAX_RANK];
  tn_ir_type_get(c->m, t, &info);
  if (!c->sym) return t;
  for (uint32_t i = 0; i < info.rank; i++)
    if (!(dims[i] = tn_dim_substitute(c->m, info.dims[i], c->sym, c->value))) return 0;
  return tn_ir_type_make(c->m, info.dtype, info.rank, dims, info.layout);
}

static tn_status swap_attr(func_copy *c, tn_attr *a) {
  if (!c->sym) return TN_OK;
  if (a->kind == TN_ATTR_DIM && !(a->u.dim = tn_dim_substitute(c->m, a->u.dim, c->sym, c->value)))
    return TN_INVALID;
  if (a->kind != TN_ATTR_DIMS) return TN_OK;
  tn_dim *dims = tn_arena_copy(&c->m->arena, a->u.dims, a->count * sizeof *dims);
  if (!dims) return tn_module_oom(c->m);
  for (uint32_t i = 0; i < a->count; i++)
    if (!(dims[i] = tn_dim_substitute(c->m, dims[i], c->sym, c->value))) return TN_INVALID;
  a->u.dims = dims;
  return TN_OK;
}

static tn_value new_of(const func_copy *c, tn_value v) { return v < c->nmap && c->map[v] ? c->map[v] : v; }

static void map_value(func_copy *c, tn_value from, tn_value to) {
  const char *name = c->m->values.items[from].name;
  c->map[from] = to;
  c->m->values.items[to].name = name;
}

static tn_status copy_region_ops(func_copy *c, tn_op first, tn_point end);

static tn_status copy_kernel_body(func_copy *c, tn_op from, tn_op to) {
  for (uint32_t i = 0; i < tn_ir_body_nargs(c->m, from); i++) {
    tn_value old = tn_ir_body_arg(c->m, from, i);
    tn_type t = swap_type(c, c->m->values.items[old].type);
    tn_value v = t ? tn_ir_body_arg_add(c->m, to, t) : 0;
    if (!v) return TN_INVALID;
    map_value(c, old, v);
  }
  return copy_region_ops(c, c->m->ops.items[from].body.first, (tn_point){.parent = to});
}

static tn_status copy_op(func_copy *c, tn_op from, tn_point end) {
  tn_op_row op = c->m->ops.items[from];
  const tn_op_spec *s = tn_op_spec_of(op.code);
  tn_named_attr attrs[32];
  tn_type types[TN_MAX_RESULTS];
  tn_value *operands = tn_mem_alloc((op.noperands + 1) * sizeof *operands);
  if (!operands) return tn_module_oom(c->m);
  tn_status status = s->nattrs <= TN_COUNT(attrs) && op.nresults <= TN_MAX_RESULTS ? TN_OK : TN_INTERNAL;
  for (uint32_t i = 0; i < op.noperands; i++) operands[i] = new_of(c, op.operands[i]);
  for (uint32_t i = 0; !status && i < s->nattrs; i++) {
    attrs[i] = (tn_named_attr){s->attrs[i].name, op.attrs[i]};
    status = swap_attr(c, &attrs[i].attr);
  }
  for (uint32_t i = 0; !status && i < op.nresults; i++)
    if (!(types[i] = swap_type(c, c->m->values.items[op.results + i].type))) status = TN_INVALID;
  tn_op_desc d = {s->name, operands, op.noperands, s->nattrs, attrs, types, op.nresults, op.loc};
  tn_op to = status ? 0 : tn_ir_op_create(c->m, end, &d);
  tn_mem_free(operands);
  if (!to) return status ? status : TN_INVALID;
  for (uint32_t i = 0; i < op.nresults; i++) map_value(c, op.results + i, tn_ir_op_result(c->m, to, i));
  return op.code == TN_OPC_kernel ? copy_kernel_body(c, from, to) : TN_OK;
}

static tn_status copy_region_ops(func_copy *c, tn_op first, tn_point end) {
  for (tn_op op = first; op; op = c->m->ops.items[op].next) TN_TRY(copy_op(c, op, end));
  return TN_OK;
}

static tn_status copy_func(func_copy *c, tn_func from, tn_func to) {
  tn_func_row f = c->m->funcs.items[from];
  for (uint32_t i = 0; i < f.body.args.count; i++) {
    tn_type t = swap_type(c, c->m->values.items[f.body.args.items[i]].type);
    tn_value v = t ? tn_ir_func_arg_add(c->m, to, f.arg_names.items[i], t) : 0;
    if (!v) return TN_INVALID;
    c->map[f.body.args.items[i]] = v;
  }
  if (f.nresult_names) TN_TRY(tn_ir_func_result_names(c->m, to, f.result_names, f.nresult_names));
  for (uint32_t i = 0; i < f.attrs.count; i++) {
    tn_attr a = f.attrs.items[i].attr;
    TN_TRY(swap_attr(c, &a));
    TN_TRY(tn_ir_func_set_attr(c->m, to, f.attrs.items[i].name, &a));
  }
  return copy_region_ops(c, f.body.first, (tn_point){.func = to});
}

tn_func tn_func_clone(tn_module *m, tn_func f, const char *name, const char *sym, tn_dim value) {
  if (!f || f >= m->funcs.count) {
    tn_module_fail(m, TN_INVALID, 0, "there is no function %u", f);
    return 0;
  }
  tn_func to = tn_ir_func_add(m, name);
  if (!to) return 0;
  func_copy c = {m, sym, value, tn_mem_alloc(m->values.count * sizeof(tn_value)), m->values.count};
  tn_status status = c.map ? copy_func(&c, f, to) : tn_module_oom(m);
  tn_mem_free(c.map);
  return status ? 0 : to;
}
