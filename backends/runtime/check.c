/* check.c - is this blob a step program? Every offset, row, name and expression is checked here, once, so
 * that the rest of the runtime follows them without a second look. The work is bounded by the blob's size: a
 * step belongs to one variant and a variant to one entry. */
#include "backends/runtime/runtime.h"
#include "backends/runtime/view.h"

enum { MAX_ARGS = 256, MAX_OPERANDS = 4096, MAX_DIMS = 65536, MAX_DEPTH = 64 };

typedef struct tn_check {
  tn_view *v;
  char *error;
  uint64_t error_size;
} tn_check;

#define BAD(c, ...) tn_view_fail((c)->error, (c)->error_size, TN_DATA_LOSS, "program: " __VA_ARGS__)

static tn_status check_row(const tn_check *c, const char *what, uint32_t row, const char *names,
                           uint32_t index, uint32_t count) {
  if (index < count) return TN_OK;
  return BAD(c, "%s %u names %s %u of %u", what, row, names, index, count);
}

static tn_status check_rows(const tn_check *c, const char *what, uint32_t row, const char *names,
                            uint32_t first, uint32_t n, uint32_t count) {
  if ((uint64_t)first + n <= count) return TN_OK;
  return BAD(c, "%s %u names %s %u to %llu of %u", what, row, names, first, (unsigned long long)first + n,
             count);
}

static tn_status check_str(const tn_check *c, const char *what, uint32_t row, uint32_t offset,
                           bool optional) {
  uint32_t count = c->v->head->strings.count;
  if (offset < count || (optional && offset == TN_PROG_NONE)) return TN_OK;
  return BAD(c, "%s %u: name at %u of %u string bytes", what, row, offset, count);
}

static tn_status check_span(const tn_check *c, const char *what, tn_prog_span s, uint64_t row,
                            uint64_t align) {
  const tn_prog_header *h = c->v->head;
  if (!s.count) return TN_OK;
  if (s.offset < sizeof *h || s.offset % align || s.offset + s.count * row > h->bytes)
    return BAD(c, "table %s: offset %u and %u rows of %llu bytes do not fit into %llu bytes", what, s.offset,
               s.count, (unsigned long long)row, (unsigned long long)h->bytes);
  return TN_OK;
}

static tn_status check_header(const tn_check *c, tn_bytes blob) {
  const tn_prog_header *h = blob.ptr;
  if (blob.len < sizeof *h)
    return BAD(c, "%llu bytes are too short for a header of %zu", (unsigned long long)blob.len, sizeof *h);
  if ((uintptr_t)blob.ptr % 8) return BAD(c, "the blob does not lie at a multiple of 8");
  if (memcmp(h->magic, TN_PROGRAM_MAGIC, sizeof h->magic))
    return BAD(c, "it does not begin with the magic number");
  if (h->version != TN_PROGRAM_VERSION)
    return tn_view_fail(c->error, c->error_size, TN_UNSUPPORTED, "program: version %u, this runtime reads %u",
                        h->version, TN_PROGRAM_VERSION);
  if (h->bytes != blob.len)
    return BAD(c, "%llu bytes, the header says %llu", (unsigned long long)blob.len,
               (unsigned long long)h->bytes);
  uint64_t hash = tn_hash_bytes((const char *)blob.ptr + sizeof *h, blob.len - sizeof *h, 0);
  if (hash != h->hash)
    return BAD(c, "damaged: its hash is %016llx, the header says %016llx", (unsigned long long)hash,
               (unsigned long long)h->hash);
  return TN_OK;
}

static tn_status check_tables(const tn_check *c) {
  tn_view *v = c->v;
  const tn_prog_header *h = v->head;
  const char *base = (const char *)h;
#define TN_X(table, row)                                                                                     \
  TN_TRY(check_span(c, #table, h->table, sizeof(row), _Alignof(row)));                                       \
  v->table = (const row *)(const void *)(base + (h->table.count ? h->table.offset : 0));                     \
  v->n##table = h->table.count;
  TN_VIEW_TABLES(TN_X)
#undef TN_X
  TN_TRY(check_span(c, "strings", h->strings, 1, 1));
  TN_TRY(check_span(c, "tokenizer", h->tokenizer, 1, 8));
  TN_TRY(check_span(c, "text", h->text, 1, 1));
  if (!h->strings.count || base[h->strings.offset + h->strings.count - 1])
    return BAD(c, "the %u string bytes do not end in NUL", h->strings.count);
  v->strings = base + h->strings.offset;
  if (h->device) TN_TRY(check_str(c, "header", 0, h->device - 1, false));
  return check_str(c, "header", 0, h->name, false);
}

static tn_status check_expr(const tn_check *c, uint32_t i) {
  const tn_prog_expr *e = &c->v->exprs[i];
  if (e->kind == TN_DIM_CONST) return TN_OK;
  if (e->kind == TN_DIM_SYM) return check_row(c, "expression", i, "dim", e->a, c->v->ndims);
  if (e->kind < TN_DIM_ADD || e->kind > TN_DIM_MAX) return BAD(c, "expression %u has kind %u", i, e->kind);
  TN_TRY(check_row(c, "expression", i, "expression", e->a, i));
  return check_row(c, "expression", i, "expression", e->b, i);
}

static tn_status check_dims(const tn_check *c) {
  const tn_view *v = c->v;
  if (v->ndims > MAX_DIMS) return BAD(c, "%u dims, the limit is %u", v->ndims, MAX_DIMS);
  for (uint32_t i = 0; i < v->ndims; i++) {
    TN_TRY(check_str(c, "dim", i, v->dims[i].name, false));
    if (v->dims[i].source > TN_PROG_DIM_CAPACITY) return BAD(c, "dim %u has source %u", i, v->dims[i].source);
    if (v->dims[i].max < 1) return BAD(c, "dim %u has the limit %lld", i, (long long)v->dims[i].max);
  }
  for (uint32_t i = 0; i < v->nexprs; i++) TN_TRY(check_expr(c, i));
  for (uint32_t i = 0; i < v->nscalars; i++)
    TN_TRY(check_row(c, "scalar", i, "expression", v->scalars[i], v->nexprs));
  for (uint32_t i = 0; i < v->nslots; i++)
    if (v->slots[i].bytes != TN_PROG_NONE || !v->slots[i].after)
      TN_TRY(check_row(c, "slot", i, "expression", v->slots[i].bytes, v->nexprs));
  for (uint32_t i = 0; i < v->nconstraints; i++) {
    TN_TRY(check_row(c, "constraint", i, "expression", v->constraints[i].a, v->nexprs));
    TN_TRY(check_row(c, "constraint", i, "expression", v->constraints[i].b, v->nexprs));
  }
  return TN_OK;
}

static tn_status check_tensor(const tn_check *c, const char *what, uint32_t i, uint32_t dtype, uint32_t rank,
                              uint32_t shape) {
  if (!tn_view_dtype_name(dtype)) return BAD(c, "%s %u has element type %u", what, i, dtype);
  if (rank > TN_MAX_RANK) return BAD(c, "%s %u has rank %u, the limit is %u", what, i, rank, TN_MAX_RANK);
  return check_rows(c, what, i, "scalars", shape, rank, c->v->nscalars);
}

/* A weight in row-major order must be as long as its shape says. */
static tn_status check_weight(const tn_check *c, uint32_t i) {
  const tn_prog_weight *w = &c->v->weights[i];
  TN_TRY(check_str(c, "weight", i, w->name, false));
  TN_TRY(check_str(c, "weight", i, w->layout, true));
  TN_TRY(check_str(c, "weight", i, w->file, true));
  TN_TRY(check_tensor(c, "weight", i, w->dtype, w->rank, w->shape));
  uint64_t n = 1, bytes;
  for (uint32_t k = 0; k < w->rank; k++) {
    const tn_prog_expr *e = &c->v->exprs[c->v->scalars[w->shape + k]];
    if (e->kind != TN_DIM_CONST || e->value < 0) return BAD(c, "weight %u: dim %u is not a size", i, k);
    if (!tn_mul_u64(n, (uint64_t)e->value, &n)) return BAD(c, "weight %u is too large", i);
  }
  if (w->layout != TN_PROG_NONE) return TN_OK;
  if (!tn_view_bytes(w->dtype, n, &bytes) || bytes != w->bytes)
    return BAD(c, "weight %u has %llu bytes for %llu values of %s", i, (unsigned long long)w->bytes,
               (unsigned long long)n, tn_view_dtype_name(w->dtype));
  return TN_OK;
}

static tn_status check_things(const tn_check *c) {
  const tn_view *v = c->v;
  for (uint32_t i = 0; i < v->nargs; i++) {
    TN_TRY(check_str(c, "argument", i, v->args[i].name, false));
    TN_TRY(check_tensor(c, "argument", i, v->args[i].dtype, v->args[i].rank, v->args[i].shape));
  }
  for (uint32_t i = 0; i < v->nstates; i++) {
    const tn_prog_arg *a = &v->states[i].arg;
    TN_TRY(check_str(c, "state", i, a->name, false));
    TN_TRY(check_tensor(c, "state", i, a->dtype, a->rank, a->shape));
  }
  for (uint32_t i = 0; i < v->nweights; i++) TN_TRY(check_weight(c, i));
  for (uint32_t i = 0; i < v->nkernels; i++) {
    TN_TRY(check_str(c, "kernel", i, v->kernels[i].symbol, false));
    TN_TRY(check_str(c, "kernel", i, v->kernels[i].backend, false));
  }
  for (uint32_t i = 0; i < v->nmeta; i++) {
    TN_TRY(check_str(c, "metadata", i, v->meta[i].key, false));
    TN_TRY(check_str(c, "metadata", i, v->meta[i].value, false));
  }
  return TN_OK;
}

/* ---- steps --------------------------------------------------------------------------------------------- */

static tn_status check_operand(const tn_check *c, const tn_prog_entry *e, const tn_prog_variant *var,
                               uint32_t i, uint32_t k) {
  const tn_view *v = c->v;
  const tn_prog_step *s = &v->steps[i];
  const tn_prog_operand *o = &v->operands[s->first_operand + k];
  const uint32_t counts[] = {[TN_PROG_SLOT] = var->nslots,
                             [TN_PROG_INPUT] = e->ninputs,
                             [TN_PROG_OUTPUT] = e->noutputs,
                             [TN_PROG_WEIGHT] = v->nweights,
                             [TN_PROG_STATE] = v->nstates};
  bool given =
      (s->kind == TN_PROG_IF || s->kind == TN_PROG_LOOP) && k >= s->noperands - v->calls[s->kernel].nresults;
  if (o->kind == TN_PROG_ABSENT && s->kind == TN_PROG_LOOP && k < 2) return TN_OK;
  if (given && o->kind != TN_PROG_SLOT) return BAD(c, "step %u: operand %u has kind %u", i, k, o->kind);
  if (o->kind >= TN_COUNT(counts)) return BAD(c, "step %u: operand %u has kind %u", i, k, o->kind);
  TN_TRY(check_row(c, "step", i, "operand", o->index, counts[o->kind]));
  if (o->kind != TN_PROG_SLOT) return TN_OK;
  /* A slot that is not there yet; what a call gives is there when the call is done. */
  const tn_prog_slot *slot = &v->slots[var->first_slot + o->index];
  uint32_t after = slot->after, at = i - var->first_step;
  if (at < slot->from || (slot->until && at >= slot->until))
    return BAD(c, "step %u: operand %u is slot %u, which lives from step %u to %u", i, k, o->index,
               var->first_step + slot->from, var->first_step + slot->until);
  if (given ? after == at + 1 && slot->bytes == TN_PROG_NONE : after <= at) return TN_OK;
  return BAD(c, "step %u: operand %u is slot %u, which is there behind step %u", i, k, o->index,
             var->first_step + after);
}

static tn_status check_callee(const tn_check *c, const tn_prog_entry *e, uint32_t i, uint32_t row,
                              uint32_t inputs, uint32_t outputs) {
  const tn_view *v = c->v;
  TN_TRY(check_row(c, "step", i, "entry", row, v->nentries));
  const tn_prog_entry *f = &v->entries[row];
  if (f <= e || row < v->head->npublic)
    return BAD(c, "step %u calls entry %u, which is not behind it", i, row);
  if (f->ninputs == inputs && f->noutputs == outputs) return TN_OK;
  return BAD(c, "step %u calls entry %u with %u inputs and %u outputs, it has %u and %u", i, row, inputs,
             outputs, f->ninputs, f->noutputs);
}

/* Input or output k of a callee is what the caller takes it for; `drop`: leading dims that only the caller
 * sees. */
static tn_status check_passed(const tn_check *c, uint32_t i, const char *what, const tn_prog_arg *theirs,
                              const tn_prog_arg *ours, uint32_t drop) {
  if (theirs->dtype == ours->dtype && theirs->rank + drop == ours->rank) return TN_OK;
  return BAD(c, "step %u: %s '%s' has another type than the call says", i, what,
             c->v->strings + theirs->name);
}

static tn_status check_call(const tn_check *c, const tn_prog_entry *e, uint32_t i) {
  const tn_view *v = c->v;
  const tn_prog_step *s = &v->steps[i];
  const tn_prog_call *call = &v->calls[s->kernel];
  bool loop = s->kind == TN_PROG_LOOP;
  uint32_t lead = loop ? 2 : 1, shift = loop;
  TN_TRY(check_rows(c, "step", i, "arguments", call->first_arg, call->nargs, v->nargs));
  TN_TRY(check_rows(c, "step", i, "arguments", call->first_result, call->nresults, v->nargs));
  if (call->nargs > MAX_ARGS || call->nresults > MAX_ARGS ||
      s->noperands != lead + call->nargs + call->nresults)
    return BAD(c, "step %u has %u operands for a call with %u inputs and %u results", i, s->noperands,
               call->nargs, call->nresults);
  if (loop ? call->carried > call->nargs || call->carried > call->nresults : call->carried)
    return BAD(c, "step %u carries %u values", i, call->carried);
  for (uint32_t side = 0; side < (loop ? 1 : 2); side++) {
    uint32_t row = side ? call->otherwise : call->entry;
    TN_TRY(check_callee(c, e, i, row, call->nargs + shift, call->nresults + shift));
    const tn_prog_arg *in = v->args + v->entries[row].first_input,
                      *out = v->args + v->entries[row].first_output;
    for (uint32_t k = 0; k < call->nargs; k++)
      TN_TRY(check_passed(c, i, "input", &in[k + shift], &v->args[call->first_arg + k], 0));
    for (uint32_t k = 0; k < call->nresults; k++)
      TN_TRY(check_passed(c, i, "output", &out[k + shift], &v->args[call->first_result + k],
                          loop && k >= call->carried));
    for (uint32_t k = 0; k < call->carried && loop; k++)
      TN_TRY(check_passed(c, i, "output", &out[k + 1], &in[k + 1], 0));
    const tn_prog_arg counter = {.dtype = TN_DT_i64}, again = {.dtype = TN_DT_bool};
    if (loop) TN_TRY(check_passed(c, i, "input", &in[0], &counter, 0));
    if (loop) TN_TRY(check_passed(c, i, "output", &out[0], &again, 0));
  }
  return TN_OK;
}

static bool is_integer(uint32_t dtype) { return dtype >= TN_DT_i64 && dtype <= TN_DT_bool; }

/* Inputs are the caller's and weights are where they are wanted: neither is written. */
static tn_status check_copy(const tn_check *c, uint32_t i) {
  const tn_prog_step *s = &c->v->steps[i];
  if (!c->v->head->device) return BAD(c, "step %u is a copy, but the program uses no device", i);
  if (s->kernel > TN_PROG_DOWNLOAD || s->noperands != 1)
    return BAD(c, "step %u copies %u operands in direction %u", i, s->noperands, s->kernel);
  uint32_t kind = c->v->operands[s->first_operand].kind;
  if (kind == TN_PROG_SLOT || kind == TN_PROG_OUTPUT || kind == TN_PROG_STATE ||
      (kind == TN_PROG_INPUT && s->kernel == TN_PROG_UPLOAD))
    return TN_OK;
  return BAD(c, "step %u copies an operand of kind %u in direction %u", i, kind, s->kernel);
}

static tn_status check_host_step(const tn_check *c, const tn_prog_entry *e, uint32_t i) {
  const tn_view *v = c->v;
  const tn_prog_step *s = &v->steps[i];
  if (s->nscalars || s->flags || s->work || s->ahead || s->scratch != TN_PROG_NONE)
    return BAD(c, "step %u is no kernel, but has scalars, scratch, flags, work or steps ahead", i);
  if (s->kind == TN_PROG_COPY) return check_copy(c, i);
  if (s->kind != TN_PROG_BIND) {
    TN_TRY(check_row(c, "step", i, "call", s->kernel, v->ncalls));
    if (s->kind == TN_PROG_LOOP && !is_integer(v->calls[s->kernel].trip))
      return BAD(c, "step %u has a trip count of element type %u", i, v->calls[s->kernel].trip);
    return check_call(c, e, i);
  }
  TN_TRY(check_row(c, "step", i, "bind", s->kernel, v->nbinds));
  const tn_prog_bind *b = &v->binds[s->kernel];
  TN_TRY(check_row(c, "bind", s->kernel, "dim", b->dim, v->ndims));
  if (v->dims[b->dim].source != TN_PROG_DIM_INPUT)
    return BAD(c, "bind %u gives dim %u a value", s->kernel, b->dim);
  if (b->max != TN_PROG_NONE) TN_TRY(check_row(c, "bind", s->kernel, "expression", b->max, v->nexprs));
  if (is_integer(b->dtype) && s->noperands == 1) return TN_OK;
  return BAD(c, "step %u binds a dim to %u operands of element type %u", i, s->noperands, b->dtype);
}

static tn_status check_step(const tn_check *c, const tn_prog_entry *e, const tn_prog_variant *var,
                            uint32_t i) {
  const tn_view *v = c->v;
  const tn_prog_step *s = &v->steps[i];
  if (s->kind > TN_PROG_COPY) return BAD(c, "step %u has kind %u", i, s->kind);
  if (s->kind == TN_PROG_KERNEL) TN_TRY(check_row(c, "step", i, "kernel", s->kernel, v->nkernels));
  TN_TRY(check_rows(c, "step", i, "operands", s->first_operand, s->noperands, v->noperands));
  TN_TRY(check_rows(c, "step", i, "scalars", s->first_scalar, s->nscalars, v->nscalars));
  TN_TRY(check_str(c, "step", i, s->loc, true));
  if (s->noperands > MAX_OPERANDS || s->nscalars > MAX_OPERANDS)
    return BAD(c, "step %u has %u operands and %u scalars, the limit is %u", i, s->noperands, s->nscalars,
               MAX_OPERANDS);
  if (s->scratch != TN_PROG_NONE) TN_TRY(check_row(c, "step", i, "expression", s->scratch, v->nexprs));
  if (s->work) TN_TRY(check_row(c, "step", i, "expression", s->work - 1, v->nexprs));
  if (s->flags & ~(uint32_t)TN_KERNEL_SINGLE) return BAD(c, "step %u has flags %#x", i, s->flags);
  if (s->ahead > i - var->first_step)
    return BAD(c, "step %u goes ahead of %u steps, its variant has %u before it", i, s->ahead,
               i - var->first_step);
  if (s->kind != TN_PROG_KERNEL) TN_TRY(check_host_step(c, e, i));
  for (uint32_t k = 0; k < s->noperands; k++) TN_TRY(check_operand(c, e, var, i, k));
  return TN_OK;
}

static tn_status check_variant(const tn_check *c, const tn_prog_entry *e, uint32_t i, bool last,
                               uint64_t *steps) {
  const tn_view *v = c->v;
  const tn_prog_variant *var = &v->variants[i];
  if (last != (var->dim == TN_PROG_NONE))
    return BAD(c, "variant %u: only an entry's last variant is without condition", i);
  if (!last) TN_TRY(check_row(c, "variant", i, "dim", var->dim, v->ndims));
  TN_TRY(check_rows(c, "variant", i, "steps", var->first_step, var->nsteps, v->nsteps));
  TN_TRY(check_rows(c, "variant", i, "slots", var->first_slot, var->nslots, v->nslots));
  for (uint32_t k = 0; k < var->nslots; k++) {
    const tn_prog_slot *slot = &v->slots[var->first_slot + k];
    if (slot->after > var->nsteps ||
        (slot->after && !tn_view_is_host(&v->steps[var->first_step + slot->after - 1])))
      return BAD(c, "slot %u is there behind step %u, which is no host step of its variant",
                 var->first_slot + k, var->first_step + slot->after);
  }
  *steps += var->nsteps;
  if (*steps > v->nsteps) return BAD(c, "variant %u shares steps with another", i);
  for (uint32_t k = 0; k < var->nsteps; k++) TN_TRY(check_step(c, e, var, var->first_step + k));
  return TN_OK;
}

/* Each call inside a call takes a part of the stack. Calls go to entries behind their own. */
static tn_status check_depth(const tn_check *c) {
  const tn_view *v = c->v;
  tn_arena arena;
  tn_arena_init(&arena);
  uint32_t *depth = tn_arena_alloc(&arena, v->nentries * sizeof *depth), deepest = 0;
  for (uint32_t e = 0; depth && e < v->nentries; e++)
    for (uint32_t i = 0; i < v->entries[e].nvariants; i++) {
      const tn_prog_variant *var = &v->variants[v->entries[e].first_variant + i];
      for (uint32_t s = 0; s < var->nsteps; s++) {
        const tn_prog_step *step = &v->steps[var->first_step + s];
        if (step->kind != TN_PROG_IF && step->kind != TN_PROG_LOOP) continue;
        const tn_prog_call *call = &v->calls[step->kernel];
        uint32_t rows[2] = {call->entry, step->kind == TN_PROG_IF ? call->otherwise : call->entry};
        for (uint32_t k = 0; k < 2; k++)
          if (depth[rows[k]] <= depth[e]) depth[rows[k]] = depth[e] + 1;
        if (depth[e] >= deepest) deepest = depth[e] + 1;
      }
    }
  tn_arena_fini(&arena);
  if (!depth) return tn_view_fail(c->error, c->error_size, TN_OOM, "no memory to check the program");
  if (deepest > MAX_DEPTH) return BAD(c, "calls inside calls, more than %d", MAX_DEPTH);
  return TN_OK;
}

static tn_status check_entries(const tn_check *c) {
  const tn_view *v = c->v;
  uint64_t steps = 0, variants = 0;
  if (v->head->npublic > v->nentries)
    return BAD(c, "%u of %u entries are public", v->head->npublic, v->nentries);
  for (uint32_t i = 0; i < v->nentries; i++) {
    const tn_prog_entry *e = &v->entries[i];
    TN_TRY(check_str(c, "entry", i, e->name, false));
    TN_TRY(check_rows(c, "entry", i, "arguments", e->first_input, e->ninputs, v->nargs));
    TN_TRY(check_rows(c, "entry", i, "arguments", e->first_output, e->noutputs, v->nargs));
    TN_TRY(check_rows(c, "entry", i, "variants", e->first_variant, e->nvariants, v->nvariants));
    if (e->ninputs > MAX_ARGS || e->noutputs > MAX_ARGS || !e->nvariants)
      return BAD(c, "entry %u has %u inputs, %u outputs and %u variants", i, e->ninputs, e->noutputs,
                 e->nvariants);
    variants += e->nvariants;
    if (variants > v->nvariants) return BAD(c, "entry %u shares variants with another", i);
  }
  for (uint32_t i = 0; i < v->nentries; i++) {
    const tn_prog_entry *e = &v->entries[i];
    for (uint32_t k = 0; k < e->nvariants; k++)
      TN_TRY(check_variant(c, e, e->first_variant + k, k + 1 == e->nvariants, &steps));
  }
  return v->ncalls ? check_depth(c) : TN_OK;
}

tn_status tn_view_open(tn_bytes blob, tn_view *v, char *error, uint64_t error_size) {
  tn_check c = {v, error, error_size};
  memset(v, 0, sizeof *v);
  TN_TRY(check_header(&c, blob));
  v->head = blob.ptr;
  TN_TRY(check_tables(&c));
  TN_TRY(check_dims(&c));
  TN_TRY(check_things(&c));
  return check_entries(&c);
}

tn_status tn_prog_check(tn_bytes blob, char *error, uint64_t error_size) {
  tn_view v;
  return tn_view_open(blob, &v, error, error_size);
}
