/* claim.c - what this backend takes: single ops, and which ops may share a kernel. Roots are asked of their
 * skeletons; everything else that can be evaluated element by element goes into loops. */
#include "backends/cuda/claim.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/groups.h"

#define TN_CUDA_SKELETON(name) &tn_cuda_skeleton_##name,
static const tn_cuda_skeleton *const skeletons[] = {
#include "backends/cuda/skeletons.def"
    NULL};
#undef TN_CUDA_SKELETON

const tn_cuda_skeleton *tn_cuda_skeleton_of(const char *root) {
  for (const tn_cuda_skeleton *const *s = skeletons; *s; s++)
    if (tn_ll_one_of(root, (*s)->roots)) return *s;
  return NULL;
}

/* ---- what skeletons ask -------------------------------------------------------------------------------- */

tn_type_info tn_cuda_type_of(const tn_cuda_ask *a, tn_value v) {
  tn_value_info i;
  tn_type_info t = {0};
  if (!v) return t;
  a->ir->value_get(a->m, v, &i);
  a->ir->type_get(a->m, i.type, &t);
  return t;
}

static bool plain(tn_dtype t) { return tn_ll_dtype_of(t).known && !tn_ll_dtype_of(t).packed; }

bool tn_cuda_plain(const tn_cuda_ask *a, const char **why) {
  *why = "this element type is not supported";
  for (uint32_t i = 0; i < a->ir->op_noperands(a->m, a->op); i++) {
    tn_value v = a->ir->op_operand(a->m, a->op, i);
    if (v && !plain(tn_cuda_type_of(a, v).dtype)) return false;
  }
  for (uint32_t i = 0; i < a->ir->op_nresults(a->m, a->op); i++)
    if (!plain(tn_cuda_type_of(a, a->ir->op_result(a->m, a->op, i)).dtype)) return false;
  return true;
}

int64_t tn_cuda_attr_int(const tn_cuda_ask *a, tn_op op, const char *name, int64_t otherwise) {
  tn_attr x = {0};
  return a->ir->op_attr(a->m, op, name, &x) ? x.u.i : otherwise;
}

bool tn_cuda_takes_elementwise(const tn_cuda_ask *a) {
  tn_type_info root = tn_cuda_type_of(a, a->ir->op_result(a->m, a->root, 0)),
               own = tn_cuda_type_of(a, a->ir->op_result(a->m, a->op, 0));
  return tn_ll_is_elementwise(a->name) && tn_ll_same_dims(&root, &own);
}

/* ---- claim --------------------------------------------------------------------------------------------- */

static bool sizes_known(const tn_cuda_ask *a, tn_value v) {
  tn_type_info t = tn_cuda_type_of(a, v);
  for (uint32_t i = 0; i < t.rank; i++) {
    tn_dim_info d;
    a->ir->dim_get(a->m, t.dims[i], &d);
    if (d.kind == TN_DIM_UNKNOWN) return false;
  }
  return true;
}

static bool all_sizes_known(const tn_cuda_ask *a) {
  for (uint32_t i = 0; i < a->ir->op_noperands(a->m, a->op); i++)
    if (!sizes_known(a, a->ir->op_operand(a->m, a->op, i))) return false;
  for (uint32_t i = 0; i < a->ir->op_nresults(a->m, a->op); i++)
    if (!sizes_known(a, a->ir->op_result(a->m, a->op, i))) return false;
  return true;
}

static bool results_plain(const tn_cuda_ask *a) {
  for (uint32_t i = 0; i < a->ir->op_nresults(a->m, a->op); i++)
    if (!plain(tn_cuda_type_of(a, a->ir->op_result(a->m, a->op, i)).dtype)) return false;
  return true;
}

/* What a loop writes besides: integers of less than a byte, and rows of blocks as they are, gathered or (of a
 * kernel that gives what it gets) all of them. */
static bool results_written(const tn_cuda_ask *a) {
  for (uint32_t i = 0; i < a->ir->op_nresults(a->m, a->op); i++) {
    tn_dtype t = tn_cuda_type_of(a, a->ir->op_result(a->m, a->op, i)).dtype;
    bool whole = TN_LL_ONE_OF(a->name, "gather", "kernel");
    if (t >= TN_DT_BLOCK ? !whole : !tn_ll_dtype_of(t).known) return false;
  }
  return true;
}

static tn_cuda_ask ask_about(tn_cuda *c, tn_module *m, tn_op root, tn_op op) {
  tn_cuda_ask a = {.c = c, .ir = &c->ir, .m = m, .root = root, .op = op};
  a.name = c->ir.opcode_name(c->ir.opcode(m, op));
  a.root_name = root ? c->ir.opcode_name(c->ir.opcode(m, root)) : "";
  return a;
}

uint32_t tn_cuda_claim(void *self, const tn_target *t, tn_module *m, tn_op op, const char **why) {
  tn_cuda_ask a = ask_about(self, m, 0, op);
  const char *none;
  (void)t;
  if (!why) why = &none;
  *why = "a size is only known at run time";
  if (!all_sizes_known(&a)) return 0;
  const tn_cuda_skeleton *s = tn_cuda_skeleton_of(a.name);
  if (s) return !s->claim || s->claim(&a, why);
  if (strcmp(a.name, "kernel") && !tn_ll_can_eval(a.ir, m, op, why)) return 0;
  *why = "blocks are only copied and gathered, not made";
  return results_written(&a);
}

/* Kernels that may begin with a norm of their rows, or write the state that they read. */
static bool takes_roots(const char *root) {
  return TN_LL_ONE_OF(root, "matmul", "expert_matmul", "attention");
}

uint32_t tn_cuda_fuse(void *self, const tn_target *t, tn_module *m, tn_op root, tn_op op, uint32_t role) {
  tn_cuda_ask a = ask_about(self, m, root, op);
  const char *why;
  (void)t;
  const tn_cuda_skeleton *s = tn_cuda_skeleton_of(a.root_name);
  bool own_root = tn_cuda_skeleton_of(a.name) != NULL;
  if (own_root) return role == TN_FUSE_PROLOGUE && takes_roots(a.root_name) && s->prologue && s->prologue(&a);
  if (!tn_ll_can_eval(a.ir, m, op, &why)) return 0;
  if (role == TN_FUSE_LOOP) return !s && results_written(&a);
  if (!s || !results_plain(&a)) return 0;
  return role == TN_FUSE_EPILOGUE ? s->epilogue && s->epilogue(&a) : s->prologue && s->prologue(&a);
}
