/* sync.c - control flow, barriers, and what lanes of a warp tell each other. */
#include "tests/ptx/values.h"

/* ---- special registers
 * --------------------------------------------------------------------------------------------- */
static uint32_t thread_of(const ptx_warp *w, uint32_t lane, int dim) {
  const uint32_t *b = w->machine->launch->block;
  uint32_t t = w->index * PTX_LANES + lane;
  return dim == 0 ? t % b[0] : dim == 1 ? t / b[0] % b[1] : t / b[0] / b[1];
}

uint64_t ptx_special(ptx_warp *w, uint32_t which, uint32_t lane) {
  const ptx_machine *m = w->machine;
  const ptx_launch *l = m->launch;
  const ptx_cta *c = w->cta;
  uint32_t d = which <= PR_cluster_nctaid_z ? which % 3 : 0;
  switch (which) {
  case PR_cluster_ctarank: return c->rank;
  case PR_cluster_nctarank: return (uint64_t)m->cluster[0] * m->cluster[1] * m->cluster[2];
  case PR_laneid: return lane;
  case PR_warpid: return w->index;
  case PR_nwarpid: return c->nwarps;
  case PR_warpsize: return PTX_LANES;
  case PR_smid: return c->id[0] % 4;
  case PR_nsmid: return 4;
  case PR_gridid: return 1;
  case PR_lanemask_eq: return 1u << lane;
  case PR_lanemask_lt: return (1u << lane) - 1;
  case PR_lanemask_le: return (2u << lane) - 1;
  case PR_lanemask_ge: return ~((1u << lane) - 1);
  case PR_lanemask_gt: return ~((2u << lane) - 1);
  case PR_clock:
  case PR_clock64:
  case PR_globaltimer: return m->count.instructions;
  case PR_dynamic_smem_size: return l->dynamic_shared;
  case PR_total_smem_size: return m->shared_bytes;
  case PR_is_explicit_cluster: return l->cluster[0] != 0 || m->kernel->info.cluster[0] != 0;
  default: break;
  }
  switch (which / 3) { /* in threes, as sregs.def has them */
  case 0: return thread_of(w, lane, (int)d);
  case 1: return l->block[d];
  case 2: return c->id[d];
  case 3: return l->grid[d];
  case 4: return c->id[d] / m->cluster[d];
  case 5: return m->grid_clusters[d];
  case 6: return c->id[d] % m->cluster[d];
  default: return m->cluster[d];
  }
}

/* ---- control flow
 * -------------------------------------------------------------------------------------------------- */
static void go(ptx_warp *w, uint32_t lanes, uint32_t pc) {
  if (lanes == w->now->mask)
    w->now->pc = pc;
  else
    ptx_split(w, lanes, pc);
}

void ptx_run_bra(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  if (ptx_has(i, PM_uni) && mask != w->now->mask) {
    ptx_stop(w, PTX_ILLEGAL, -1, "bra.uni, and only the lanes 0x%08x of 0x%08x take it", mask, w->now->mask);
    return;
  }
  go(w, mask, (uint32_t)i->args[0].reg);
}

void ptx_run_brx(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  const ptx_arg *list = &w->machine->kernel->code[i->args[1].reg].args[0];
  uint32_t at[PTX_LANES];
  PTX_EACH(l, mask) {
    at[l] = (uint32_t)ptx_get(w, &i->args[0], l);
    if (at[l] < list->count) continue;
    ptx_stop(w, PTX_ILLEGAL, (int)l, "target %u of %u", at[l], list->count);
    return;
  }
  for (uint32_t left = mask; left;) {
    uint32_t to = (uint32_t)list->items[at[__builtin_ctz(left)]].reg, lanes = 0;
    PTX_EACH(k, left) lanes |= (uint32_t)((uint32_t)list->items[at[k]].reg == to) << k;
    go(w, lanes, to);
    left &= ~lanes;
  }
}

void ptx_run_ret(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  (void)i;
  w->alive &= ~mask;
  w->now->mask &= ~mask;
  ptx_settle(w->machine, w->cta);
}

void ptx_run_trap(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  (void)i;
  ptx_stop(w, PTX_TRAP, __builtin_ctz(mask), "the kernel trapped");
}

void ptx_run_nop(ptx_warp *w, const ptx_ins *i, uint32_t mask) { (void)w, (void)i, (void)mask; }
void ptx_run_fence(ptx_warp *w, const ptx_ins *i, uint32_t mask) { (void)w, (void)i, (void)mask; }
void ptx_run_setmaxnreg(ptx_warp *w, const ptx_ins *i, uint32_t mask) { (void)w, (void)i, (void)mask; }

/* ---- barriers
 * ------------------------------------------------------------------------------------------------------ */
uint32_t ptx_members(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  if (i->collective == PC_WARP) return w->alive;
  const ptx_arg *a = &i->args[i->nargs - 1];
  uint32_t first = 0, seen = 0;
  PTX_EACH(l, mask) {
    uint32_t m = (uint32_t)ptx_get(w, a, l);
    if (!seen++) first = m;
    if (m != first) {
      ptx_stop(w, PTX_ILLEGAL, (int)l, "the lanes give the masks 0x%08x and 0x%08x", first, m);
      return 0;
    }
  }
  return first & w->alive; /* lanes that ended are not waited for */
}

/* Who arrives leaves what it knows. */
static void leave_clock(ptx_warp *w, ptx_barrier *b) {
  if (w->clock && !b->clock) b->clock = tn_mem_alloc(2 * w->machine->nclocks * sizeof *b->clock);
  ptx_clock_join(w->machine, b->clock, w->clock);
  ptx_clock_tick(w);
}

static void complete(const ptx_machine *m, ptx_barrier *b) {
  if (b->clock) memcpy(b->clock + m->nclocks, b->clock, m->nclocks * sizeof *b->clock);
  b->generation++;
  b->arrived = 0;
  b->last_ands = b->ands, b->last_ors = b->ors, b->last_sum = b->sum;
  b->ands = 1, b->ors = b->sum = 0;
}

static uint32_t alive_warps(const ptx_cta *cta) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < cta->nwarps; i++) n += cta->warps[i].alive != 0;
  return n;
}

/* Barriers without a count are for the warps that have not ended. */
void ptx_settle(const ptx_machine *m, ptx_cta *cta) {
  for (uint32_t b = 0; b < PTX_BARRIERS; b++) {
    ptx_barrier *x = &cta->barriers[b];
    if (x->arrived && !x->expected && x->arrived >= alive_warps(cta) * PTX_LANES) complete(m, x);
  }
}

static ptx_barrier *barrier_of(ptx_warp *w, uint64_t number) {
  if (number < PTX_BARRIERS) return &w->cta->barriers[number];
  ptx_stop(w, PTX_ILLEGAL, -1, "barrier %llu; there are %d", (unsigned long long)number, PTX_BARRIERS);
  return NULL;
}

/* Arrives; `wait`: and waits for the rest. */
static void arrive(ptx_warp *w, uint64_t number, uint64_t count, bool wait) {
  ptx_barrier *b = barrier_of(w, number);
  if (!b) return;
  if (count % PTX_LANES || (b->arrived && b->expected != count)) {
    ptx_stop(w, PTX_ILLEGAL, -1,
             "barrier %llu is for %llu threads here and for %u elsewhere; a multiple of 32 is expected",
             (unsigned long long)number, (unsigned long long)count, b->expected);
    return;
  }
  b->expected = (uint32_t)count;
  b->arrived += PTX_LANES;
  leave_clock(w, b);
  w->machine->count.barriers++;
  if (wait) ptx_wait_for(w, PW_BARRIER, (uint32_t)number, b->generation);
  if (b->arrived >= (count ? count : alive_warps(w->cta) * PTX_LANES)) complete(w->machine, b);
}

/* bar.red: the result is read when the barrier is done, by the instruction run a second time. */
static void reduce(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  ptx_barrier *b = barrier_of(w, ptx_get(w, &i->args[1], (uint32_t)__builtin_ctz(mask)));
  if (!b) return;
  if (!b->arrived) b->ands = 1, b->ors = b->sum = 0;
  const ptx_arg *p = &i->args[i->nargs - 1];
  PTX_EACH(l, mask) {
    bool v = ptx_get(w, p, l) & 1;
    b->ands &= v, b->ors |= v, b->sum += v;
  }
  arrive(w, ptx_get(w, &i->args[1], (uint32_t)__builtin_ctz(mask)),
         i->nargs == 4 ? ptx_get(w, &i->args[2], (uint32_t)__builtin_ctz(mask)) : 0, true);
}

bool ptx_may_go(ptx_warp *w, const ptx_group *g) {
  const ptx_ins *at = &w->machine->kernel->code[g->pc], *before = g->pc ? at - 1 : at;
  ptx_barrier *b;
  switch (g->wait) {
  case PW_LANES: {
    uint32_t members = ptx_members(w, at, g->mask);
    return members && (g->mask & members) == members;
  }
  case PW_BARRIER:
    b = &w->cta->barriers[g->barrier];
    if (b->generation == g->generation) return false;
    ptx_clock_join(w->machine, w->clock, b->clock ? b->clock + w->machine->nclocks : NULL);
    if (ptx_has(before, PM_red)) PTX_EACH(l, g->mask)
    ptx_put(w, &before->args[0], l,
            ptx_has(before, PM_popc)  ? b->last_sum
            : ptx_has(before, PM_and) ? b->last_ands
                                      : b->last_ors);
    return true;
  case PW_CLUSTER:
    b = &w->machine->cluster_barriers[w->cta->cluster];
    if (b->generation == g->generation) return false;
    ptx_clock_join(w->machine, w->clock, b->clock ? b->clock + w->machine->nclocks : NULL);
    return true;
  case PW_MBARRIER:
    return ptx_mbarrier_passed(w->machine, g->barrier, g->generation) ||
           ptx_bulk_land(w->machine, g->barrier);
  default: return true;
  }
}

static void cluster_barrier(ptx_warp *w, const ptx_ins *i) {
  ptx_machine *m = w->machine;
  ptx_barrier *b = &m->cluster_barriers[w->cta->cluster];
  if (ptx_has(i, PM_wait)) {
    ptx_wait_for(w, PW_CLUSTER, 0, w->cluster_generation);
    return;
  }
  uint32_t size = m->cluster[0] * m->cluster[1] * m->cluster[2], alive = 0;
  for (uint32_t c = 0; c < size; c++) alive += alive_warps(&m->ctas[w->cta->cluster * size + c]);
  w->cluster_generation = b->generation;
  leave_clock(w, b);
  b->arrived++;
  m->count.barriers++;
  if (b->arrived >= alive) complete(w->machine, b);
}

void ptx_run_bar(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  uint32_t lane = (uint32_t)__builtin_ctz(mask);
  if (ptx_has(i, PM_warp)) return; /* its lanes are here */
  if (ptx_has(i, PM_cluster)) {
    cluster_barrier(w, i);
  } else if (ptx_has(i, PM_red)) {
    reduce(w, i, mask);
  } else {
    uint64_t number = i->nargs ? ptx_get(w, &i->args[0], lane) : 0,
             count = i->nargs > 1 ? ptx_get(w, &i->args[1], lane) : 0;
    arrive(w, number, count, !ptx_has(i, PM_arrive));
  }
}

/* ---- shuffles and votes
 * -------------------------------------------------------------------------------------------- */
void ptx_run_shfl(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  uint64_t in[PTX_LANES], out[PTX_LANES];
  bool there[PTX_LANES];
  PTX_EACH(l, mask) in[l] = ptx_get(w, &i->args[1], l);
  PTX_EACH(k, mask) {
    uint32_t b = (uint32_t)ptx_get(w, &i->args[2], k) & 31, c = (uint32_t)ptx_get(w, &i->args[3], k);
    uint32_t clamp = c & 31, segment = c >> 8 & 31, most = (k & segment) | (clamp & ~segment),
             least = k & segment;
    int32_t from;
    if (ptx_has(i, PM_up))
      from = (int32_t)k - (int32_t)b, there[k] = from >= (int32_t)most;
    else if (ptx_has(i, PM_down))
      from = (int32_t)(k + b), there[k] = from <= (int32_t)most;
    else if (ptx_has(i, PM_bfly))
      from = (int32_t)(k ^ b), there[k] = from <= (int32_t)most;
    else
      from = (int32_t)(least | (b & ~segment)), there[k] = from <= (int32_t)most;
    if (!there[k]) from = (int32_t)k;
    if (!(mask >> from & 1)) {
      ptx_stop(w, PTX_ILLEGAL, (int)k, "reads lane %d, which does not take part", from);
      return;
    }
    out[k] = in[from] & UINT32_MAX;
  }
  PTX_EACH(j, mask) {
    ptx_put(w, &i->args[0], j, out[j]);
    if (i->args[0].also >= 0) w->regs[(uint32_t)i->args[0].also * PTX_LANES + j] = there[j];
  }
}

void ptx_run_vote(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  uint32_t yes = 0;
  PTX_EACH(l, mask) yes |= (uint32_t)(ptx_get(w, &i->args[1], l) & 1) << l;
  uint32_t r = ptx_has(i, PM_ballot) ? yes
               : ptx_has(i, PM_all)  ? yes == mask
               : ptx_has(i, PM_any)  ? yes != 0
                                     : yes == mask || !yes;
  PTX_EACH(k, mask) ptx_put(w, &i->args[0], k, r);
}

void ptx_run_match(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  uint64_t in[PTX_LANES];
  PTX_EACH(l, mask) in[l] = ptx_unsigned((ptx_type)i->type[0], ptx_get(w, &i->args[1], l));
  PTX_EACH(k, mask) {
    uint32_t same = 0;
    PTX_EACH(j, mask) same |= (uint32_t)(in[j] == in[k]) << j;
    bool all = same == mask;
    ptx_put(w, &i->args[0], k, ptx_has(i, PM_all) && !all ? 0 : same);
    if (i->args[0].also >= 0) w->regs[(uint32_t)i->args[0].also * PTX_LANES + k] = all;
  }
}

void ptx_run_activemask(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  PTX_EACH(l, mask) ptx_put(w, &i->args[0], l, mask);
}

void ptx_run_elect(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  uint32_t leader = (uint32_t)__builtin_ctz(mask);
  PTX_EACH(l, mask) {
    ptx_put(w, &i->args[0], l, leader);
    if (i->args[0].also >= 0) w->regs[(uint32_t)i->args[0].also * PTX_LANES + l] = l == leader;
  }
}

static uint64_t redux_two(const ptx_ins *i, ptx_type t, uint64_t a, uint64_t b) {
  if (t == PT_f32) {
    float x = ptx_f32(a), y = ptx_f32(b);
    bool nan = x != x || y != y;
    if (nan) return ptx_has(i, PM_NaN) ? 0x7fffffff : x != x ? b : a;
    return (ptx_has(i, PM_min) ? x < y : x > y) ? a : b;
  }
  bool less = ptx_is_signed(t) ? ptx_signed(t, a) < ptx_signed(t, b) : a < b;
  if (ptx_has(i, PM_and)) return a & b;
  if (ptx_has(i, PM_or)) return a | b;
  if (ptx_has(i, PM_xor)) return a ^ b;
  if (ptx_has(i, PM_min)) return less ? a : b;
  if (ptx_has(i, PM_max)) return less ? b : a;
  return (a + b) & UINT32_MAX;
}

void ptx_run_redux(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  ptx_type t = (ptx_type)i->type[0];
  uint64_t r = 0, seen = 0;
  PTX_EACH(l, mask) {
    uint64_t v = ptx_get(w, &i->args[1], l) & UINT32_MAX;
    if (t == PT_f32 && ptx_has(i, PM_abs)) v &= 0x7fffffff;
    r = seen++ ? redux_two(i, t, r, v) : v;
  }
  PTX_EACH(k, mask) ptx_put(w, &i->args[0], k, r);
}
