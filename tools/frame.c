/* frame.c - what every command does around its own work: options to a driver or an opened model, messages at
 * the end, the exit status. */
#include "tools/tool.h"

typedef struct frame {
  tn_diags diags;
  tn_arena arena;
  tn_driver_options options;
} frame;

static void frame_begin(frame *f, const tn_args *a) {
  tn_diags_init(&f->diags);
  tn_arena_init(&f->arena);
  tn_args_driver(a, &f->arena, &f->options);
}

static int frame_end(frame *f, const tn_args *a, tn_status s) {
  int rc = tn_tool_finish(a, &f->diags, s);
  tn_arena_fini(&f->arena);
  tn_diags_fini(&f->diags);
  return rc;
}

int tn_tool_with_driver(const tn_args *a, tn_driver_work work) {
  frame f;
  frame_begin(&f, a);
  tn_driver d;
  tn_module *m = NULL;
  tn_status s = tn_driver_init(&d, &f.options, &f.diags);
  if (s == TN_OK) s = work(a, &d, &m);
  tn_module_free(m);
  tn_driver_fini(&d);
  return frame_end(&f, a, s);
}

int tn_tool_with_model(const tn_args *a, tn_model_work work) {
  frame f;
  frame_begin(&f, a);
  tn_opened o;
  tn_status s = tn_opened_open(&o, a->positional[0], &f.options, &f.diags);
  bool bad = false;
  o.ncores = tn_args_cores(a, o.cores, TN_MAX_CORES, &bad);
  if (bad) s = TN_INVALID;
  if (s == TN_OK) s = work(a, &o, &f.diags);
  tn_opened_close(&o);
  return frame_end(&f, a, s);
}
