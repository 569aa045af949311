/* write.c - one export from begin to end. */
#include "frontend/onnx/write_graph.h"

static bool begin(tn_ow *w) {
  uint32_t states = w->ir->state_count(w->m) + 1, weights = w->ir->weight_count(w->m) + 1;
  tn_map_init(&w->constants);
  tn_map_init(&w->names);
  tn_map_init(&w->noted);
  w->states = tn_arena_alloc(&w->arena, states * sizeof *w->states);
  bool there = w->states != NULL;
  for (uint32_t i = 0; i < TN_COUNT(w->weights); i++) {
    w->weights[i] = tn_arena_alloc(&w->arena, weights * sizeof *w->weights[i]);
    there = there && w->weights[i];
  }
  return there;
}

static void end(tn_ow *w) {
  for (uint32_t g = 1; g < w->graphs.count; g++) {
    tn_map_fini(&w->graphs.items[g]->made);
    tn_vec_fini(&w->graphs.items[g]->nodes);
    tn_vec_fini(&w->graphs.items[g]->inputs);
    tn_vec_fini(&w->graphs.items[g]->outputs);
  }
  tn_vec_fini(&w->graphs);
  tn_vec_fini(&w->values);
  tn_vec_fini(&w->nodes);
  tn_vec_fini(&w->inits);
  tn_vec_fini(&w->sizes);
  tn_vec_fini(&w->filled);
  tn_map_fini(&w->constants);
  tn_map_fini(&w->names);
  tn_map_fini(&w->noted);
  tn_mem_free(w->of);
  tn_arena_fini(&w->arena);
}

tn_status tn_ow_write(const tn_ir *ir, tn_module *m, const tn_ow_options *o, const tn_ow_source *source,
                      const char *path, tn_diags *diags, tn_ow_report *report) {
  tn_ow w = {.ir = ir, .m = m, .o = *o, .diags = diags};
  tn_arena_init(&w.arena);
  *report = (tn_ow_report){0};
  if (!w.o.opset)
    w.o.opset = o->quantized == TN_OW_DEQUANTIZE ? 21 : TN_OW_OPSET_DEFAULT; /* blocks came with 21 */
  if (w.o.opset < TN_OW_OPSET_MIN || w.o.opset > TN_OW_OPSET_MAX)
    tn_ow_fail(&w, TN_INVALID, "opset %u is not among %d to %d", w.o.opset, TN_OW_OPSET_MIN, TN_OW_OPSET_MAX);
  else if (o->quantized == TN_OW_DEQUANTIZE && w.o.opset < 21)
    tn_ow_fail(&w, TN_INVALID, "DequantizeLinear of blocks needs opset 21, and the model is written for %u",
               w.o.opset);
  if (!begin(&w)) tn_ow_fail(&w, TN_OOM, "out of memory");
  if (!tn_ow_failed(&w)) tn_ow_model(&w);
  report->opset = w.o.opset;
  tn_status s = tn_ow_failed(&w) ? w.status : tn_ow_file(&w, source, path, report);
  end(&w);
  return s;
}
