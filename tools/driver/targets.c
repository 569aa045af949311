/* targets.c - which backends make the kernels, and for which processors: what --target, --backend and --isa
 * say. Ops that a backend with a device does not take are left to the next one, cpu unless another is named;
 * each kind is told once. */
#include "tools/driver/tuning.h"

/* ---- names ----------------------------------------------------------------------------------------------
 */

/* Calls each for every non-empty part of a list. */
static tn_status for_each_name(tn_driver *d, const char *list, char between,
                               tn_status (*each)(tn_driver *, void *, const char *), void *ctx) {
  const char stop[2] = {between, 0};
  for (const char *s = list; *s;) {
    size_t n = strcspn(s, stop);
    char *name = tn_arena_str(&d->arena, (tn_str){s, n});
    if (!name) return TN_OOM;
    if (n) TN_TRY(each(d, ctx, name));
    s += n + (s[n] != 0);
  }
  return TN_OK;
}

/* ---- targets of one backend -----------------------------------------------------------------------------
 */

typedef struct target_list {
  tn_driver *d;
  uint32_t backend;
  tn_driver_targets all;
} target_list;

static void collect_target(void *user, const tn_target *theirs) {
  target_list *l = user;
  tn_target *t = tn_arena_alloc(&l->d->arena, sizeof *t);
  if (!t) return;
  tn_take(t, sizeof *t, theirs);
  t->name = tn_arena_str(&l->d->arena, tn_str_of(t->name));
  if (!tn_vec_push(&l->all, t)) l->d->arena.failed = true;
}

static tn_status add_target(tn_driver *d, void *ctx, const char *name) {
  const target_list *l = ctx;
  tn_buf have = {0};
  for (uint32_t i = 0; i < l->all.count; i++) {
    if (!strcmp(l->all.items[i]->name, name)) {
      tn_buf_fini(&have);
      return tn_vec_push(&d->targets.items[l->backend], l->all.items[i]) ? TN_OK : TN_OOM;
    }
    tn_buf_printf(&have, "%s%s", i ? ", " : "", l->all.items[i]->name);
  }
  tn_status s = tn_fail(d->diags, TN_NOT_FOUND, NULL, NULL, "backend '%s' has no target '%s'; it has: %s",
                        d->backends.items[l->backend].table.name, name, tn_buf_cstr(&have));
  tn_buf_fini(&have);
  return s;
}

/* Is a target among those to choose from when none is named? */
static bool by_default(const tn_driver *d, const tn_target *t) {
  bool strict = !d->options.precision || !strcmp(d->options.precision, "strict");
  return !(t->flags & TN_TARGET_OPT_IN) && !(t->flags & TN_TARGET_FAST && strict);
}

/* The highest score that runs here. Code for a device can be made and looked at where there is none: it is
 * then for the least demanding one, and opening a session says what is missing. */
static tn_status best_target(tn_driver *d, const target_list *l) {
  const tn_backend_ref *b = &d->backends.items[l->backend];
  tn_target *best = NULL, *least = NULL;
  for (uint32_t i = 0; i < l->all.count; i++) {
    tn_target *t = l->all.items[i];
    if (!by_default(d, t)) continue;
    if (!least || t->score < least->score) least = t;
    if (b->table.runs_here && b->table.runs_here(b->self, t) != TN_OK) continue;
    if (!best || t->score > best->score) best = t;
  }
  if (!best && b->table.device) best = least;
  if (!best)
    return tn_fail(d->diags, TN_UNSUPPORTED, NULL, NULL, "no target of backend '%s' runs on this machine",
                   b->table.name);
  return tn_vec_push(&d->targets.items[l->backend], best) ? TN_OK : TN_OOM;
}

static tn_status choose_targets(tn_driver *d, target_list *l, const char *isa, bool all) {
  if (!l->all.count && !isa) return TN_OK; /* a backend without targets compiles for all machines */
  if (isa) return for_each_name(d, isa, strchr(isa, '+') ? '+' : ',', add_target, l);
  if (!all) return best_target(d, l);
  for (uint32_t i = 0; i < l->all.count; i++)
    if (by_default(d, l->all.items[i]) && !tn_vec_push(&d->targets.items[l->backend], l->all.items[i]))
      return TN_OOM;
  return TN_OK;
}

/* ---- backends -------------------------------------------------------------------------------------------
 */

typedef struct picking {
  bool all;
  const char *isa; /* of the first backend; NULL: not said */
} picking;

/* "cpu", "cuda:sm_80+sm_90a". */
static tn_status add_backend(tn_driver *d, void *ctx, const char *spec) {
  const picking *p = ctx;
  size_t n = strcspn(spec, ":");
  const char *isa = spec[n] ? spec + n + 1 : !d->backends.count ? p->isa : NULL;
  char *name = tn_arena_str(&d->arena, (tn_str){spec, n});
  if (!name) return TN_OOM;
  tn_backend_ref ref;
  TN_TRY(tn_plugins_backend(d->plugins, name, &ref));
  for (uint32_t i = 0; i < d->backends.count; i++)
    if (!strcmp(d->backends.items[i].table.name, ref.table.name))
      return tn_fail(d->diags, TN_INVALID, NULL, NULL, "backend '%s' is named twice; join its targets with +",
                     name);
  if (!tn_vec_push(&d->backends, ref) || !tn_vec_push(&d->targets, (tn_driver_targets){0})) return TN_OOM;
  target_list l = {.d = d, .backend = d->backends.count - 1};
  tn_status s = ref.table.targets ? ref.table.targets(ref.self, collect_target, &l) : TN_OK;
  if (s == TN_OK) s = choose_targets(d, &l, isa, p->all);
  tn_vec_fini(&l.all);
  return s;
}

static tn_status read_tuning(tn_driver *d) {
  if (!d->options.tuning) return TN_OK;
  d->tuning = tn_arena_alloc(&d->arena, sizeof *d->tuning);
  if (!d->tuning) return TN_OOM;
  tn_tuning_init(d->tuning);
  return tn_tuning_read(d->tuning, d->options.tuning, d->diags);
}

tn_status tn_driver_pick(tn_driver *d, bool all) {
  const tn_driver_options *o = &d->options;
  picking p = {all, o->isa};
  TN_TRY(read_tuning(d));
  if (o->target && (o->backend || o->isa))
    return tn_fail(d->diags, TN_INVALID, NULL, NULL, "--target says what --backend and --isa say; give one");
  TN_TRY(for_each_name(d, o->target ? o->target : o->backend ? o->backend : "cpu", ',', add_backend, &p));
  if (!d->backends.count) return tn_fail(d->diags, TN_INVALID, NULL, NULL, "no backend named");
  p.isa = NULL;
  if (d->backends.count == 1 && d->backends.items[0].table.device && !o->require_target)
    TN_TRY(add_backend(d, &p, "cpu"));
  tn_driver_phase(d, "plugins");
  return TN_OK;
}

tn_target *tn_driver_target(const tn_driver *d, uint32_t backend, uint32_t i) {
  return i < d->targets.items[backend].count ? d->targets.items[backend].items[i] : NULL;
}

uint32_t tn_driver_ntargets(const tn_driver *d, uint32_t backend) {
  return d->targets.items[backend].count ? d->targets.items[backend].count : 1;
}

/* ---- what a device does not take ------------------------------------------------------------------------
 */

void tn_driver_refused(tn_driver *d, uint32_t backend, const char *op, const char *why) {
  for (uint32_t i = 0; i < d->refused.count; i++) {
    const tn_driver_refusal *r = &d->refused.items[i];
    if (r->backend == backend && r->why == why && !strcmp(r->op, op)) return;
  }
  tn_driver_refusal r = {backend, op, why};
  if (!tn_vec_push(&d->refused, r)) d->arena.failed = true;
}

tn_status tn_driver_tell_refused(tn_driver *d) {
  for (uint32_t i = 0; i < d->refused.count; i++) {
    const tn_driver_refusal *r = &d->refused.items[i];
    const char *name = d->backends.items[r->backend].table.name;
    tn_diags_add(d->diags, TN_NOTE, NULL, 0, 0, NULL,
                 "%s: left to the next backend, '%s' does not take it: %s", r->op, name,
                 r->why ? r->why : "no reason given");
  }
  d->refused.count = 0;
  return TN_OK;
}
