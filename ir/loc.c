/* loc.c - where things come from, and messages that say so. Locations are interned; a fused location whose
 * parts would number more than LOC_PARTS keeps only its first part, so that text and recursion stay bounded.
 */
#include "ir/module.h"

#define LOC_PARTS 64

static tn_loc part_of(tn_module *m, tn_loc l) { return l < m->locs.count ? l : 0; }

tn_loc tn_ir_loc_make(tn_module *m, const tn_loc_info *l) {
  if (!l || l->kind < TN_LOC_FILE || l->kind > TN_LOC_DERIVED) {
    tn_module_fail(m, TN_INVALID, 0, "a location of no known kind");
    return 0;
  }
  bool compound = l->kind >= TN_LOC_FUSED;
  tn_loc_row row = {.info = {.kind = l->kind, .line = compound ? 0 : l->line, .col = compound ? 0 : l->col}};
  row.info.a = compound || l->kind == TN_LOC_NODE ? part_of(m, l->a) : 0;
  row.info.b = l->kind == TN_LOC_FUSED ? part_of(m, l->b) : 0;
  if (compound && !row.info.a) {
    tn_module_fail(m, TN_INVALID, 0, "a fused or derived location has no parts");
    return 0;
  }
  if (l->kind == TN_LOC_FUSED && (!row.info.b || row.info.a == row.info.b)) return row.info.a;
  row.size = 1 + (compound ? m->locs.items[row.info.a].size + m->locs.items[row.info.b].size : 0);
  if (row.size > LOC_PARTS) return row.info.a;
  row.info.name = tn_module_text(m, l->name ? l->name : "", "a location's name");
  if (!row.info.name) return 0;
  tn_loc id = tn_interned(m, 'l', &row.info, sizeof row.info);
  if (id) return id;
  id = m->locs.count;
  if (!tn_vec_push(&m->locs, row) || tn_interned_put(m, 'l', &row.info, sizeof row.info, id)) {
    if (m->locs.count > id) m->locs.count--;
    tn_module_oom(m);
    return 0;
  }
  return id;
}

void tn_ir_loc_get(tn_module *m, tn_loc l, tn_loc_info *out) { *out = m->locs.items[part_of(m, l)].info; }

void tn_module_report_v(tn_module *m, uint32_t severity, tn_loc l, const char *prefix, const char *fmt,
                        va_list ap) {
  tn_buf text = {0}, where = {0};
  if (prefix) tn_buf_printf(&text, "%s: ", prefix);
  tn_buf_vprintf(&text, fmt, ap);
  tn_loc_info info;
  tn_ir_loc_get(m, l, &info);
  while (info.kind == TN_LOC_FUSED || info.kind == TN_LOC_DERIVED) tn_ir_loc_get(m, info.a, &info);
  const char *file = NULL;
  if (info.kind == TN_LOC_FILE || info.kind == TN_LOC_PAGE) file = info.name;
  if (info.kind == TN_LOC_NODE) {
    tn_buf_printf(&where, "node %u '%s'", info.line, info.name);
    info.line = 0;
    file = info.a ? m->locs.items[info.a].info.name : NULL;
  }
  if (info.kind == TN_LOC_TENSOR) tn_buf_printf(&where, "tensor '%s'", info.name);
  if (!info.kind && m->reading.file) {
    file = m->reading.file;
    info.line = m->reading.line;
    info.col = m->reading.col;
  }
  tn_diags_add(m->diags, severity, file, file ? info.line : 0, file ? info.col : 0,
               where.len ? where.text : NULL, "%s", text.failed ? "out of memory" : tn_buf_cstr(&text));
  tn_buf_fini(&text);
  tn_buf_fini(&where);
}

void tn_ir_report(tn_module *m, uint32_t severity, tn_loc l, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  tn_module_report_v(m, severity, l, NULL, fmt, ap);
  va_end(ap);
}

tn_status tn_module_fail(tn_module *m, tn_status status, tn_loc l, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  tn_module_report_v(m, TN_ERROR, l, NULL, fmt, ap);
  va_end(ap);
  return status;
}
