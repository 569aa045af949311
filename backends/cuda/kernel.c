/* kernel.c - from a kernel op to its launches, and what skeletons ask for while they write one. */
#include "backends/cuda/kernel.h"
#include "backends/cuda/warp.h"
#include "backends/cuda/skel/loop.h"
#include <stdio.h>

enum { GLOBAL = 1, SHARED = 3, MAP_BYTES = 128, ALIGN = 16, SCRATCH_ALIGN = 256 };

/* ---- a launch ------------------------------------------------------------------------------------------ */

static void add_attr(tn_ll *e, ll_val fn, unsigned at, const char *name, uint64_t value) {
  unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
  LLVMAddAttributeAtIndex(fn, at, LLVMCreateEnumAttribute(e->ctx, kind, value));
}

static void set_number(tn_ll *e, ll_val fn, const char *key, uint32_t value) {
  char text[16];
  snprintf(text, sizeof text, "%u", value);
  ll_func_attr(e, fn, key, text);
}

static bool writes_states(const tn_cuda_kernel *k) {
  const tn_ir *ir = k->u->ir;
  for (tn_op op = ir->first_op(k->u->m, 0, k->op); op; op = ir->next_op(k->u->m, op))
    if (!strcmp(ir->opcode_name(ir->opcode(k->u->m, op)), "kv_update")) return true;
  return false;
}

/* Buffers do not overlap, except that a state is read and written under two names. */
static void mark_parameters(tn_cuda_kernel *k, ll_val fn, uint32_t nin, uint32_t nbufs) {
  bool apart = !writes_states(k);
  for (uint32_t i = 0; i < nbufs + 2; i++) {
    add_attr(k->e, fn, i + 1, "align", i == nbufs + 1 ? 8 : ALIGN);
    if (apart || i >= nbufs) add_attr(k->e, fn, i + 1, "noalias", 0);
    if ((apart && i < nin) || i == nbufs + 1) add_attr(k->e, fn, i + 1, "readonly", 0);
  }
}

static void mark_function(tn_cuda_kernel *k, ll_val fn, const tn_cuda_shape *s) {
  LLVMSetFunctionCallConv(fn, 71); /* ptx_kernel */
  set_number(k->e, fn, "nvvm.reqntid", s->threads);
  set_number(k->e, fn, "nvvm.minctasm", s->min_blocks ? s->min_blocks : 1); /* unsaid, ptxas may spill */
  if (s->cluster > 1) set_number(k->e, fn, "nvvm.cluster_dim", s->cluster);
  ll_func_attr(k->e, fn, "denormal-fp-math", "ieee,ieee");
  add_attr(k->e, fn, (unsigned)LLVMAttributeFunctionIndex, "nounwind", 0);
}

static void add_maps(tn_cuda_kernel *k, ll_val fn, uint32_t first, uint32_t n) {
  ll_type bytes = LLVMArrayType2(k->e->i8, MAP_BYTES);
  unsigned byval = LLVMGetEnumAttributeKindForName("byval", 5);
  for (uint32_t i = 0; i < n; i++) {
    LLVMAddAttributeAtIndex(fn, first + i + 1, LLVMCreateTypeAttribute(k->e->ctx, byval, bytes));
    add_attr(k->e, fn, first + i + 1, "align", 64);
    LLVMAddAttributeAtIndex(fn, first + i + 1,
                            LLVMCreateStringAttribute(k->e->ctx, "nvvm.grid_constant", 18, "", 0));
    k->maps[i] = LLVMGetParam(fn, first + i);
  }
}

static ll_val generic(tn_cuda_kernel *k, ll_val p) {
  return LLVMBuildAddrSpaceCast(k->e->b, p, k->e->ptr, "");
}

/* Zeros that loads read whose predicate is false. */
static ll_val zeros(tn_cuda_kernel *k) {
  ll_type t = LLVMArrayType2(k->e->i8, 512);
  ll_val g = LLVMGetNamedGlobal(k->e->mod, "zeros");
  if (!g) {
    g = LLVMAddGlobalInAddressSpace(k->e->mod, t, "zeros", GLOBAL);
    LLVMSetInitializer(g, LLVMConstNull(t));
    LLVMSetGlobalConstant(g, 1);
    LLVMSetLinkage(g, LLVMInternalLinkage);
    LLVMSetAlignment(g, 64);
  }
  return LLVMConstAddrSpaceCast(g, k->e->ptr);
}

static void read_sizes(tn_cuda_kernel *k, ll_val dims) {
  unsigned invariant = LLVMGetMDKindIDInContext(k->e->ctx, "invariant.load", 14);
  ll_val none = LLVMMetadataAsValue(k->e->ctx, LLVMMDNodeInContext2(k->e->ctx, NULL, 0));
  for (uint32_t i = 0; i < k->body.nsyms; i++) {
    ll_val v = ll_load(k->e, k->e->i64, ll_at(k->e, dims, ll_k(k->e, 8 * (int64_t)i)), 8);
    LLVMSetMetadata(v, invariant, none);
    k->body.sym_values[i] = v;
  }
}

static ll_val open_function(tn_cuda_kernel *k, const char *name, const tn_cuda_shape *s, uint32_t nin) {
  tn_ll *e = k->e;
  uint32_t nbufs = nin + k->nyields;
  ll_type types[TN_COUNT(k->body.args) + TN_LL_MAX_OUT + 2 + TN_CUDA_MAX_MAPS];
  for (uint32_t i = 0; i < nbufs + 2; i++) types[i] = LLVMPointerTypeInContext(e->ctx, GLOBAL);
  for (uint32_t i = 0; i < s->nmaps; i++) types[nbufs + 2 + i] = e->ptr;
  ll_val fn = LLVMAddFunction(e->mod, name, LLVMFunctionType(e->tvoid, types, nbufs + 2 + s->nmaps, 0));
  mark_function(k, fn, s);
  mark_parameters(k, fn, nin, nbufs);
  add_maps(k, fn, nbufs + 2, s->nmaps);
  e->fn = fn;
  LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->ctx, fn, "entry"));
  for (uint32_t i = 0; i < nin; i++) k->body.args[i] = generic(k, LLVMGetParam(fn, i));
  for (uint32_t i = 0; i < k->nyields; i++) k->outs[i] = generic(k, LLVMGetParam(fn, nin + i));
  k->scratch = generic(k, LLVMGetParam(fn, nbufs));
  k->body.zeros = zeros(k);
  read_sizes(k, LLVMGetParam(fn, nbufs + 1));
  return fn;
}

void tn_cuda_launch_begin(tn_cuda_kernel *k, const tn_cuda_shape *shape) {
  if (k->nlaunches == TN_CUDA_MAX_LAUNCHES) {
    tn_ll_fail(k->e, "a kernel has more than %d launches", TN_CUDA_MAX_LAUNCHES);
    k->nlaunches--;
  }
  tn_cuda_launch *l = &k->launches[k->nlaunches++];
  *l = (tn_cuda_launch){.shape = *shape};
  l->function = k->nlaunches == 1 ? tn_arena_str(k->arena, tn_str_of(k->symbol))
                                  : tn_arena_printf(k->arena, "%s_%u", k->symbol, k->nlaunches);
  if (shape->nmaps > TN_CUDA_MAX_MAPS) {
    tn_ll_fail(k->e, "a launch has %u tensor maps, at most %d", shape->nmaps, TN_CUDA_MAX_MAPS);
    l->shape.nmaps = 0;
  }
  for (uint32_t i = 0; i < l->shape.nmaps; i++) l->maps[i] = shape->maps[i];
  l->shape.maps = l->maps;
  k->shared_used = 0;
  k->shared_base = NULL;
  tn_ll_body_forget(&k->body);
  open_function(k, l->function ? l->function : "kernel", &l->shape, k->u->ir->op_noperands(k->u->m, k->op));
}

void tn_cuda_launch_end(tn_cuda_kernel *k) {
  tn_cuda_launch *l = &k->launches[k->nlaunches - 1];
  LLVMBuildRetVoid(k->e->b);
  l->shared = k->shared_used;
  tn_ll_body_forget(&k->body);
}

/* ---- shared memory and scratch ------------------------------------------------------------------------- */

ll_val tn_cuda_shared(tn_cuda_kernel *k, uint32_t bytes, uint32_t align) {
  tn_ll *e = k->e;
  if (!k->shared_base) {
    char name[200];
    snprintf(name, sizeof name, "%.180s_shared", LLVMGetValueName(e->fn));
    k->shared_base = LLVMAddGlobalInAddressSpace(e->mod, LLVMArrayType2(e->i8, 0), name, SHARED);
    LLVMSetAlignment(k->shared_base, ALIGN);
  }
  if (align > LLVMGetAlignment(k->shared_base)) LLVMSetAlignment(k->shared_base, align);
  uint32_t at = (uint32_t)tn_align_up(k->shared_used, align);
  if (bytes > k->u->target->shared || at > k->u->target->shared - bytes) {
    tn_ll_fail(e, "a block needs %u bytes of shared memory, %s has %u", at + bytes, k->u->target->target.name,
               k->u->target->shared);
    return k->shared_base;
  }
  k->shared_used = at + bytes;
  ll_val offset = LLVMConstInt(e->i32, at, 0);
  return LLVMConstInBoundsGEP2(e->i8, k->shared_base, &offset, 1);
}

tn_dim tn_cuda_scratch(tn_cuda_kernel *k, tn_dim bytes) {
  tn_dim at = k->scratch_bytes ? k->scratch_bytes : tn_cuda_dim_k(k, 0);
  tn_dim size =
      tn_cuda_dim_mul(k, tn_cuda_dim_ceildiv(k, bytes, SCRATCH_ALIGN), tn_cuda_dim_k(k, SCRATCH_ALIGN));
  k->scratch_bytes = tn_cuda_dim_add(k, at, size);
  return at;
}
ll_val tn_cuda_scratch_at(tn_cuda_kernel *k, tn_dim offset) {
  return ll_at(k->e, k->scratch, tn_ll_dim(&k->body, offset));
}

/* ---- dims ---------------------------------------------------------------------------------------------- */

static tn_dim dim_of(tn_cuda_kernel *k, uint32_t kind, tn_dim a, tn_dim b) {
  return k->u->ir->dim_make(k->u->m, kind, a, b);
}
tn_dim tn_cuda_dim_k(tn_cuda_kernel *k, int64_t v) { return k->u->ir->dim_const(k->u->m, v); }
tn_dim tn_cuda_dim_mul(tn_cuda_kernel *k, tn_dim a, tn_dim b) { return dim_of(k, TN_DIM_MUL, a, b); }
tn_dim tn_cuda_dim_add(tn_cuda_kernel *k, tn_dim a, tn_dim b) { return dim_of(k, TN_DIM_ADD, a, b); }
tn_dim tn_cuda_dim_min(tn_cuda_kernel *k, tn_dim a, tn_dim b) { return dim_of(k, TN_DIM_MIN, a, b); }
tn_dim tn_cuda_dim_max(tn_cuda_kernel *k, tn_dim a, tn_dim b) { return dim_of(k, TN_DIM_MAX, a, b); }
tn_dim tn_cuda_dim_ceildiv(tn_cuda_kernel *k, tn_dim d, int64_t n) {
  if (n == 1) return d;
  return dim_of(k, TN_DIM_FLOORDIV, tn_cuda_dim_add(k, d, tn_cuda_dim_k(k, n - 1)), tn_cuda_dim_k(k, n));
}
tn_dim tn_cuda_dim_count(tn_cuda_kernel *k, const tn_type_info *t, uint32_t first, uint32_t last) {
  tn_dim n = tn_cuda_dim_k(k, 1);
  for (uint32_t i = first; i < last; i++) n = tn_cuda_dim_mul(k, n, t->dims[i]);
  return n;
}

/* ---- operands ------------------------------------------------------------------------------------------ */

ll_val tn_cuda_buffer(tn_cuda_kernel *k, tn_value v, uint32_t *number) {
  const tn_ir *ir = k->u->ir;
  tn_value_info i;
  for (;;) {
    if (!v) return NULL;
    ir->value_get(k->u->m, v, &i);
    if (i.kind == TN_VALUE_ARG && i.op == k->op) break;
    if (i.kind != TN_VALUE_RESULT || strcmp(ir->opcode_name(ir->opcode(k->u->m, i.op)), "reshape"))
      return NULL;
    v = ir->op_operand(k->u->m, i.op, 0);
  }
  if (number) *number = i.index;
  return k->body.args[i.index];
}

void tn_cuda_store_yields(tn_cuda_kernel *k, const tn_ll_index *ix) {
  for (uint32_t i = 0; i < k->nyields; i++)
    tn_ll_store_at(&k->body, k->yields[i], k->outs[i], ix, tn_ll_eval(&k->body, k->yields[i], ix));
}

tn_ll_index tn_cuda_index(tn_cuda_kernel *k, const tn_type_info *t, ll_val position) {
  tn_ll_index ix = {.rank = t->rank, .shape = t->dims};
  for (uint32_t i = t->rank; i-- > 1;) {
    ll_val n = tn_ll_dim(&k->body, t->dims[i]);
    ix.at[i] = tn_ll_ix_scalar(ll_imod(k->e, position, n));
    position = ll_idiv(k->e, position, n);
  }
  if (t->rank) ix.at[0] = tn_ll_ix_scalar(position);
  return ix;
}

/* ---- all of a kernel ----------------------------------------------------------------------------------- */

void tn_cuda_kernel_emit(tn_cuda_kernel *k, tn_cuda_unit *u, tn_op op, const char *symbol) {
  tn_arena *arena = k->arena;
  *k = (tn_cuda_kernel){.u = u, .e = &u->e, .op = op, .symbol = symbol, .arena = arena};
  tn_ll_outline outline;
  u->e.lanes = 4;
  tn_ll_body_init(&k->body, k->e, u->ir, u->m, op);
  k->body.buffer_align = ALIGN;
  tn_ll_body_read(&k->body, &outline);
  k->root = outline.root;
  k->root_name = outline.root_name;
  k->nyields = outline.nyields;
  memcpy(k->yields, outline.yields, sizeof k->yields);
  uint32_t nin = u->ir->op_noperands(u->m, op);
  if (nin > TN_COUNT(k->body.args)) {
    tn_ll_fail(k->e, "a kernel has %u operands, at most %zu are handled", nin, TN_COUNT(k->body.args));
    return;
  }
  if (!k->root) {
    tn_cuda_emit_loop(k);
    return;
  }
  const tn_cuda_skeleton *s = tn_cuda_skeleton_of(k->root_name);
  if (s)
    s->emit(k);
  else
    tn_ll_fail(k->e, "no skeleton writes '%s'", k->root_name);
}

void tn_cuda_kernel_fini(tn_cuda_kernel *k) { tn_ll_body_fini(&k->body); }
