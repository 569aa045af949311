/* share.c - how threads divide a kernel's units. Each has a part of its own, one run of units, so that it
 * mostly reads what it read before; where it takes them little by little, a ticket counts how far it is, and
 * who is done goes on with the others' parts. */
#include "backends/cpu/kernel.h"

#define TICKET_BYTES 64 /* a cache line each */
#define COUNT_BITS 32   /* of a ticket: units taken; above, the launch */
#define FIRST_BITS 40   /* of an answer: the first unit; above, how many */

static void part(tn_ll *e, ll_val n, ll_val thread, ll_val nthreads, ll_val *lo, ll_val *hi) {
  *lo = ll_udiv(e, ll_mul(e, n, thread), nthreads);
  *hi = ll_udiv(e, ll_mul(e, n, ll_add(e, thread, ll_k(e, 1))), nthreads);
}

void tn_cpu_share(tn_cpu_kernel *k, ll_val n, ll_val *lo, ll_val *hi) {
  part(k->e, n, k->thread, k->nthreads, lo, hi);
}

/* ---- taking ---- */
/* `own`: the ticket where there are no shared ones. */
enum { TICKETS, LAUNCH, THREAD, NTHREADS, N, ROW, MOST, OWN, ARGS };

static ll_val read_ticket(tn_ll *e, ll_val at) {
  ll_val v = ll_load(e, e->i64, at, 8);
  LLVMSetOrdering(v, LLVMAtomicOrderingMonotonic);
  return v;
}

/* From the part of thread `owner`, whose ticket is at `ticket`: returns what was taken, or branches to
 * `none`. A stranger leaves the last unit: its owner is faster than whoever has to begin with it. */
static void take_from(tn_ll *e, const ll_val *p, ll_val owner, ll_val ticket, LLVMBasicBlockRef none) {
  LLVMBasicBlockRef again = ll_block(e, "again"), some = ll_block(e, "some"), taken = ll_block(e, "taken");
  ll_val lo, hi;
  part(e, p[N], owner, p[NTHREADS], &lo, &hi);
  ll_val least = LLVMBuildZExt(e->b, ll_icmp(e, LLVMIntNE, owner, p[THREAD]), e->i64, "");
  LLVMBuildBr(e->b, again);
  LLVMPositionBuilderAtEnd(e->b, again);
  ll_val before = read_ticket(e, ticket), launch = ll_lshr(e, before, ll_k(e, COUNT_BITS));
  ll_val count = ll_and(e, before, ll_k(e, (INT64_C(1) << COUNT_BITS) - 1));
  count = ll_select(e, ll_icmp(e, LLVMIntEQ, launch, p[LAUNCH]), count, ll_k(e, 0));
  ll_val first = ll_add(e, lo, count), left = ll_sub(e, hi, first);
  LLVMBuildCondBr(e->b, ll_icmp(e, LLVMIntSGT, left, least), some, none);
  LLVMPositionBuilderAtEnd(e->b, some);
  ll_val n = ll_imin(e, p[MOST], ll_ceildiv(e, left, p[NTHREADS])); /* towards the end less and less */
  n = ll_imin(e, n, ll_sub(e, p[ROW], ll_urem(e, first, p[ROW])));
  ll_val after = ll_or(e, ll_shl(e, p[LAUNCH], ll_k(e, COUNT_BITS)), ll_add(e, count, n));
  ll_val swapped = LLVMBuildAtomicCmpXchg(e->b, ticket, before, after, LLVMAtomicOrderingMonotonic,
                                          LLVMAtomicOrderingMonotonic, false);
  LLVMBuildCondBr(e->b, LLVMBuildExtractValue(e->b, swapped, 1, ""), taken, again);
  LLVMPositionBuilderAtEnd(e->b, taken);
  LLVMBuildRet(e->b, ll_or(e, first, ll_shl(e, n, ll_k(e, FIRST_BITS))));
}

static void write_take(tn_ll *e, const ll_val *p) {
  ll_val shared = ll_icmp(e, LLVMIntNE, p[TICKETS], LLVMConstNull(e->ptr)), owner;
  ll_val most = ll_select(e, shared, p[NTHREADS], ll_k(e, 1));
  LLVMBasicBlockRef none = ll_block(e, "none");
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), most, ll_k(e, 1), NULL, 0);
  owner = ll_urem(e, ll_add(e, p[THREAD], l.iv), p[NTHREADS]);
  ll_val ticket = ll_at(e, p[TICKETS], ll_mul(e, owner, ll_k(e, TICKET_BYTES)));
  take_from(e, p, owner, ll_select(e, shared, ticket, p[OWN]), none);
  LLVMPositionBuilderAtEnd(e->b, none);
  ll_loop_end(e, &l, NULL);
  LLVMBuildRet(e->b, ll_k(e, 0));
}

static ll_val take_function(tn_cpu_kernel *k) {
  static const char name[] = "take_units";
  tn_ll *e = k->e;
  ll_val fn = tn_cpu_shared_find(k->u, name), p[ARGS];
  if (fn) return fn;
  tn_cpu_shared s = tn_cpu_shared_begin(k->u);
  ll_type types[ARGS] = {e->ptr, e->i64, e->i64, e->i64, e->i64, e->i64, e->i64, e->ptr};
  fn = ll_func(e, name, e->i64, types, ARGS, false, true);
  LLVMGetParams(fn, p);
  write_take(e, p);
  return tn_cpu_shared_end(k->u, &s, fn);
}

void tn_cpu_take_begin(tn_cpu_kernel *k, tn_cpu_taking *t, ll_val n, ll_val row, ll_val most) {
  tn_ll *e = k->e;
  ll_val fn = take_function(k), own = ll_alloca(e, 8);
  ll_val args[ARGS] = {k->tickets, k->launch, k->thread, k->nthreads, n, row, most, own};
  LLVMBasicBlockRef some = ll_block(e, "taken");
  t->next = ll_block(e, "take");
  t->none = ll_block(e, "none");
  ll_store(e, ll_shl(e, k->launch, ll_k(e, COUNT_BITS)), own, 8);
  LLVMBuildBr(e->b, t->next);
  LLVMPositionBuilderAtEnd(e->b, t->next);
  ll_val got = LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, ARGS, "");
  ll_val count = ll_lshr(e, got, ll_k(e, FIRST_BITS));
  LLVMBuildCondBr(e->b, ll_icmp(e, LLVMIntNE, count, ll_k(e, 0)), some, t->none);
  LLVMPositionBuilderAtEnd(e->b, some);
  t->first = ll_and(e, got, ll_k(e, (INT64_C(1) << FIRST_BITS) - 1));
  t->end = ll_add(e, t->first, count);
  tn_ll_body_forget(&k->body);
}

void tn_cpu_take_end(tn_cpu_kernel *k, tn_cpu_taking *t) {
  LLVMBuildBr(k->e->b, t->next);
  LLVMPositionBuilderAtEnd(k->e->b, t->none);
  tn_ll_body_forget(&k->body);
}
