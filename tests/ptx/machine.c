/* machine.c - a launch: gangs of CTAs that run together, warps in turns, groups of lanes inside a warp. The
 * group with the lowest pc goes first, and groups that meet become one: so loops and branches come together
 * again where the compiler has them do so. */
#include "tests/ptx/inside.h"

enum { TURN = 256 };

const char *ptx_fault_name(ptx_fault f) {
  static const char *const names[] = {
      "ok",        "bad launch", "bad address",         "misaligned", "deadlock", "race",
      "unwritten", "trap",       "illegal instruction", "limit",      "no memory"};
  return names[f];
}

void ptx_stop(ptx_warp *w, ptx_fault f, int lane, const char *fmt, ...) {
  ptx_machine *m = w->machine;
  if (m->fault) return;
  m->fault = f;
  const ptx_cta *c = w->cta;
  int n = snprintf(m->error, PTX_ERROR, "%s: kernel %s, CTA (%u, %u, %u), warp %u", ptx_fault_name(f),
                   m->kernel->info.name, c->id[0], c->id[1], c->id[2], w->index);
  if (lane >= 0) n += snprintf(m->error + n, (size_t)(PTX_ERROR - n), ", lane %d", lane);
  if (m->at)
    n += snprintf(m->error + n, (size_t)(PTX_ERROR - n), ", line %u '%.120s'", m->at->line, m->at->text);
  if (n > PTX_ERROR - 3) return;
  n += snprintf(m->error + n, (size_t)(PTX_ERROR - n), ": ");
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(m->error + n, (size_t)(PTX_ERROR - n), fmt, ap);
  va_end(ap);
}

uint64_t ptx_random(ptx_machine *m) { /* xorshift64* (Vigna 2016) */
  m->random ^= m->random >> 12;
  m->random ^= m->random << 25;
  m->random ^= m->random >> 27;
  return m->random * 0x2545f4914f6cdd1dull;
}

/* ---- groups
 * -------------------------------------------------------------------------------------------------------- */
static void drop_group(ptx_warp *w, ptx_group *g) { *g = w->groups[--w->ngroups]; }

void ptx_split(ptx_warp *w, uint32_t lanes, uint32_t pc) {
  w->now->mask &= ~lanes;
  w->groups[w->ngroups++] = (ptx_group){.pc = pc, .mask = lanes};
  w->machine->count.divergences++;
}

void ptx_wait_for(ptx_warp *w, ptx_wait why, uint32_t barrier, uint32_t generation) {
  w->now->wait = (uint8_t)why;
  w->now->barrier = barrier;
  w->now->generation = generation;
}

/* Groups at one place become one, also those that wait there for other lanes. */
static void merge(ptx_warp *w) {
  for (uint32_t i = 0; i < w->ngroups; i++)
    for (uint32_t j = i + 1; j < w->ngroups;) {
      ptx_group *a = &w->groups[i], *b = &w->groups[j];
      bool together = a->pc == b->pc && (a->wait == PW_NONE || a->wait == PW_LANES) &&
                      (b->wait == PW_NONE || b->wait == PW_LANES);
      if (!together) {
        j++;
        continue;
      }
      a->mask |= b->mask;
      a->wait = PW_NONE;
      drop_group(w, b);
    }
}

static ptx_group *choose(ptx_warp *w) {
  if (w->ngroups > 1) merge(w);
  ptx_group *best = NULL;
  for (uint32_t i = 0; i < w->ngroups; i++) {
    ptx_group *g = &w->groups[i];
    if ((!best || g->pc < best->pc) && (g->wait == PW_NONE || ptx_may_go(w, g))) best = g;
  }
  return best;
}

static uint32_t guarded(const ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  if (i->guard < 0) return mask;
  uint32_t on = 0;
  PTX_EACH(l, mask)
  on |= (uint32_t)((w->regs[(uint32_t)i->guard * PTX_LANES + l] & 1) ^ i->guard_not) << l;
  return on;
}

/* A warp-wide instruction runs when all its lanes are here. False: the group waits. */
static bool gathered(ptx_warp *w, const ptx_ins *i, uint32_t on) {
  uint32_t members = ptx_members(w, i, on);
  if (w->machine->fault) return false;
  if (on & ~members) {
    ptx_stop(w, PTX_ILLEGAL, __builtin_ctz(on & ~members), "the lane is not in the mask 0x%08x that it gives",
             members);
    return false;
  }
  if ((on & members) == members) return true;
  w->now->wait = PW_LANES;
  return false;
}

/* One instruction of the running group. */
static void step(ptx_warp *w) {
  ptx_machine *m = w->machine;
  const ptx_ins *i = &m->kernel->code[w->now->pc];
  m->at = i;
  uint32_t on = guarded(w, i, w->now->mask);
  if (i->collective) {
    if (on && on != w->now->mask) { /* those that do not take part go ahead */
      ptx_split(w, w->now->mask & ~on, w->now->pc + 1);
    }
    if (on && !gathered(w, i, on)) return;
  }
  m->count.instructions++;
  m->count.lane_instructions += (uint64_t)__builtin_popcount(on);
  w->now->pc++;
  if (on) i->run(w, i, on);
}

/* Runs a warp for some time; false: it could do nothing. */
static bool turn(ptx_warp *w, uint64_t most) {
  ptx_machine *m = w->machine;
  bool moved = false;
  m->warp = w;
  for (uint64_t n = 0; n < most && w->ngroups && !m->fault; n++) {
    w->now = choose(w);
    if (!w->now) break;
    w->now->wait = PW_NONE;
    step(w);
    moved = true; /* also if all it did was to begin to wait: others of its warp may go next */
    for (uint32_t g = 0; g < w->ngroups;)
      if (w->groups[g].mask)
        g++;
      else
        drop_group(w, &w->groups[g]);
  }
  return moved;
}

/* ---- gangs
 * ---------------------------------------------------------------------------------------------------------
 */
static void free_gang(ptx_machine *m) {
  ptx_race_end(m);
  ptx_async_end(m);
  for (uint32_t c = 0; c < m->nctas; c++) {
    ptx_cta *cta = &m->ctas[c];
    for (uint32_t i = 0; cta->warps && i < cta->nwarps; i++) {
      ptx_warp *w = &cta->warps[i];
      ptx_wgmma_end(w);
      tn_mem_free(w->regs);
      tn_vec_fini(&w->copies);
    }
    for (uint32_t b = 0; b < PTX_BARRIERS; b++) tn_mem_free(cta->barriers[b].clock);
    tn_mem_free(cta->shared), tn_mem_free(cta->written), tn_mem_free(cta->local), tn_mem_free(cta->warps);
  }
  for (uint32_t c = 0; c < m->nclusters; c++) tn_mem_free(m->cluster_barriers[c].clock);
  tn_mem_free(m->cluster_barriers);
  tn_mem_free(m->ctas);
  m->ctas = NULL;
  m->cluster_barriers = NULL;
  m->nctas = m->nclusters = 0;
}

static bool start_warp(ptx_machine *m, ptx_cta *cta, uint32_t index) {
  ptx_warp *w = &cta->warps[index];
  uint64_t left = m->threads - (uint64_t)index * PTX_LANES, n = (uint64_t)m->kernel->registers * PTX_LANES;
  *w = (ptx_warp){.machine = m, .cta = cta, .index = index, .number = cta->first_warp + index};
  w->alive = left >= PTX_LANES ? UINT32_MAX : (1u << left) - 1;
  w->groups[0] = (ptx_group){.mask = w->alive};
  w->ngroups = 1;
  w->regs = tn_mem_alloc((n + 1) * sizeof *w->regs);
  for (uint64_t i = 0; w->regs && i < n; i++) w->regs[i] = 0xdeadbeefcafef00dull;
  return w->regs != NULL;
}

static bool start_cta(ptx_machine *m, ptx_cta *cta, uint32_t nwarps) {
  cta->warps = tn_mem_alloc(nwarps * sizeof *cta->warps);
  cta->shared = tn_mem_alloc(m->shared_bytes + 1);
  cta->written = tn_mem_alloc(m->shared_bytes + 1);
  cta->local = tn_mem_alloc(nwarps * PTX_LANES * m->kernel->info.local_bytes + 1);
  if (!cta->warps || !cta->shared || !cta->written || !cta->local) return false;
  memset(cta->shared, 0xcb, m->shared_bytes);
  memset(cta->local, 0xcb, nwarps * PTX_LANES * m->kernel->info.local_bytes);
  for (cta->nwarps = 0; cta->nwarps < nwarps; cta->nwarps++)
    if (!start_warp(m, cta, cta->nwarps)) return false;
  return true;
}

/* Clusters first .. first + n of the grid. */
static bool start_gang(ptx_machine *m, uint64_t first, uint32_t n) {
  uint32_t size = m->cluster[0] * m->cluster[1] * m->cluster[2], nwarps = (uint32_t)((m->threads + 31) / 32);
  m->ctas = tn_mem_alloc((uint64_t)n * size * sizeof *m->ctas);
  m->cluster_barriers = tn_mem_alloc(n * sizeof *m->cluster_barriers);
  m->nwarps = n * size * nwarps;
  m->nclocks = m->nwarps + 1;
  if (!m->ctas || !m->cluster_barriers) return false;
  m->nclusters = n;
  for (uint32_t i = 0; i < n * size; i++) {
    ptx_cta *c = &m->ctas[m->nctas++];
    uint64_t cl = first + i / size, rank = i % size, at[3], in[3];
    for (int d = 0; d < 3; d++) {
      at[d] = cl % m->grid_clusters[d], cl /= m->grid_clusters[d];
      in[d] = rank % m->cluster[d], rank /= m->cluster[d];
      c->id[d] = (uint32_t)(at[d] * m->cluster[d] + in[d]);
    }
    c->rank = i % size;
    c->cluster = i / size;
    c->first_warp = i * nwarps;
    if (!start_cta(m, c, nwarps)) return false;
  }
  ptx_race_begin(m);
  return !m->fault;
}

/* What the waiting warps wait for. */
static void report_deadlock(ptx_machine *m) {
  static const char *const waits[] = {"nothing", "other lanes of its warp", "a barrier",
                                      "the cluster's barrier", "an mbarrier"};
  for (uint32_t c = 0; c < m->nctas; c++)
    for (uint32_t i = 0; i < m->ctas[c].nwarps; i++) {
      ptx_warp *w = &m->ctas[c].warps[i];
      if (!w->ngroups) continue;
      const ptx_group *g = &w->groups[0];
      m->at = &m->kernel->code[g->wait == PW_NONE || g->wait == PW_LANES || !g->pc ? g->pc : g->pc - 1];
      ptx_stop(w, PTX_DEADLOCK, -1, "lanes 0x%08x wait for %s (number %u), and nobody can go on", g->mask,
               waits[g->wait], g->barrier);
      return;
    }
}

static void run_gang(ptx_machine *m) {
  uint32_t left = m->nwarps, nwarps = m->nwarps / (m->nctas ? m->nctas : 1);
  bool wild = m->launch->seed != 0;
  while (left && !m->fault) {
    bool moved = false;
    left = 0;
    uint32_t shift = wild ? (uint32_t)(ptx_random(m) % m->nwarps) : 0;
    for (uint32_t i = 0; i < m->nwarps && !m->fault; i++) {
      uint32_t at = (i + shift) % m->nwarps;
      ptx_warp *w = &m->ctas[at / nwarps].warps[at % nwarps];
      if (!w->ngroups) continue;
      if (wild && ptx_random(m) % 4 == 0) ptx_bulk_land(m, -1);
      moved |= turn(w, wild && ptx_random(m) % 8 ? 1 + ptx_random(m) % 24 : TURN);
      left += w->ngroups != 0;
    }
    if (m->count.instructions > m->steps) {
      m->fault = PTX_LIMIT;
      snprintf(m->error, PTX_ERROR, "limit: kernel %s ran %llu instructions of warps", m->kernel->info.name,
               (unsigned long long)m->steps);
    }
    if (!moved && left && !m->fault && !ptx_bulk_land(m, -1)) report_deadlock(m);
  }
}

/* ---- launching
 * ----------------------------------------------------------------------------------------------------- */
static bool bad(ptx_machine *m, const char *what, uint64_t is, uint64_t limit) {
  m->fault = PTX_BAD_LAUNCH;
  snprintf(m->error, PTX_ERROR, "bad launch: kernel %s: %s is %llu, %llu is allowed", m->kernel->info.name,
           what, (unsigned long long)is, (unsigned long long)limit);
  return false;
}

static bool check_launch(ptx_machine *m) {
  const ptx_launch *l = m->launch;
  const ptx_kernel_info *k = &m->kernel->info;
  const uint32_t grid_limit[3] = {INT32_MAX, 65535, 65535}, block_limit[3] = {1024, 1024, 64};
  m->threads = 1;
  for (int d = 0; d < 3; d++) {
    if (!l->grid[d] || l->grid[d] > grid_limit[d])
      return bad(m, "a size of the grid", l->grid[d], grid_limit[d]);
    if (!l->block[d] || l->block[d] > block_limit[d])
      return bad(m, "a size of the block", l->block[d], block_limit[d]);
    m->threads *= l->block[d];
    m->cluster[d] = l->cluster[d] ? l->cluster[d] : k->cluster[d] ? k->cluster[d] : 1;
    if (l->grid[d] % m->cluster[d])
      return bad(m, "the grid's rest over its clusters", l->grid[d] % m->cluster[d], 0);
    m->grid_clusters[d] = l->grid[d] / m->cluster[d];
    if (k->required[0] && k->required[d] != l->block[d])
      return bad(m, "a size of the block", l->block[d], k->required[d]);
  }
  uint64_t most = k->most[0] ? (uint64_t)k->most[0] * k->most[1] * k->most[2] : 1024;
  if (most > 1024) most = 1024;
  if (m->threads > most) return bad(m, "the number of threads", m->threads, most);
  uint64_t limit = l->shared_limit ? l->shared_limit : 227 * 1024;
  m->shared_bytes = k->shared_bytes;
  if (l->dynamic_shared) m->shared_bytes = tn_align_up(k->shared_bytes, 1024) + l->dynamic_shared;
  uint64_t asked = k->shared_bytes + l->dynamic_shared;
  return asked > limit ? bad(m, "shared memory", asked, limit) : true;
}

ptx_fault ptx_run(const ptx_kernel *k, const ptx_launch *l, ptx_counters *counters, char *error) {
  ptx_machine m = {
      .kernel = k, .launch = l, .memory = k->module->memory, .error = error, .random = l->seed | 1};
  error[0] = 0;
  m.steps = l->step_limit ? l->step_limit : 4000000000ull;
  if (check_launch(&m)) {
    uint64_t all = (uint64_t)m.grid_clusters[0] * m.grid_clusters[1] * m.grid_clusters[2];
    uint32_t gang = l->flags & PTX_RESIDENT ? (uint32_t)all : 1;
    for (uint64_t i = 0; i < all && !m.fault; i += gang) {
      if (start_gang(&m, i, gang))
        run_gang(&m);
      else if (!m.fault)
        m.fault = PTX_NO_MEMORY;
      free_gang(&m);
    }
  }
  if (m.fault == PTX_NO_MEMORY) snprintf(error, PTX_ERROR, "no memory for kernel %s", k->info.name);
  tn_vec_fini(&m.mbarriers);
  tn_vec_fini(&m.flying);
  if (counters) {
    uint64_t *to = (uint64_t *)counters, *from = (uint64_t *)&m.count;
    for (size_t i = 0; i < sizeof m.count / sizeof *to; i++) to[i] += from[i];
  }
  return m.fault;
}
