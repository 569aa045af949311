/* write_wire.c - the graph as bytes of a ModelProto. The outer messages are counted before they are written,
 * so that weights can stream through between their headers: nothing larger than the graph without its weights
 * is in memory. Field numbers are those of onnx.proto. */
#include "frontend/onnx/write_graph.h"
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 4096, SMALL = 1024 }; /* of external data: where tensors begin; what stays in the model */
static const uint64_t MODEL_LIMIT = 2000000000; /* protobuf ends at 2^31 */

/* ---- wire format ------------------------------------------------------------------------------------------
 */
static void put_varint(tn_buf *b, uint64_t v) {
  uint8_t out[10];
  uint32_t n = 0;
  do {
    out[n] = (uint8_t)(v & 127) | (v > 127 ? 128 : 0);
    n++, v >>= 7;
  } while (v);
  tn_buf_put(b, out, n);
}

static void put_int(tn_buf *b, uint32_t field, int64_t v) {
  put_varint(b, field << 3);
  put_varint(b, (uint64_t)v);
}

static void put_head(tn_buf *b, uint32_t field, uint64_t len) {
  put_varint(b, field << 3 | 2);
  put_varint(b, len);
}

static void put_bytes(tn_buf *b, uint32_t field, const void *p, uint64_t n) {
  put_head(b, field, n);
  tn_buf_put(b, p, n);
}

static void put_text(tn_buf *b, uint32_t field, const char *s) { put_bytes(b, field, s, strlen(s)); }

/* A message that was made in a buffer of its own; frees that. */
static void put_message(tn_buf *b, uint32_t field, tn_buf *message) {
  put_bytes(b, field, message->text, message->len);
  b->failed = b->failed || message->failed;
  tn_buf_fini(message);
}

/* ---- types ------------------------------------------------------------------------------------------------
 */
typedef struct type_row {
  tn_dtype dtype;
  uint32_t number, opset;
} type_row;
static const type_row types[] = {
#define TN_OW_TYPE(name, number, opset) {TN_DT_##name, number, opset},
#define TN_OW_SAME(op, onnx, bf16)
#define TN_OW_OP(op, words)
#include "frontend/onnx/export.def"
};

uint32_t tn_ow_elem(tn_ow *w, tn_dtype t) {
  const tn_dtype_info *d = w->ir->dtype_info(t);
  for (uint32_t i = 0; i < TN_COUNT(types); i++) {
    if (types[i].dtype != t) continue;
    if (types[i].opset > w->o.opset)
      tn_ow_fail(w, TN_UNSUPPORTED, "type %s needs opset %u, and the model is written for %u", d->name,
                 types[i].opset, w->o.opset);
    return types[i].number;
  }
  tn_ow_fail(w, TN_UNSUPPORTED, "ONNX has no type like %s", d ? d->name : "?");
  return 0;
}

static void put_value_info(tn_ow *w, tn_buf *b, uint32_t field, tn_ov v) {
  const tn_ow_value *value = &w->values.items[v];
  tn_buf info = {0}, type = {0}, tensor = {0}, shape = {0};
  for (uint32_t i = 0; i < value->type.rank; i++) {
    tn_buf dim = {0}, text = {0};
    int64_t k;
    if (tn_ow_dconst(w, value->type.dims[i], &k)) {
      put_int(&dim, 1, k);
    } else {
      tn_ow_dim_text(w, value->type.dims[i], &text);
      put_text(&dim, 2, tn_buf_cstr(&text));
    }
    tn_buf_fini(&text);
    put_message(&shape, 1, &dim);
  }
  put_int(&tensor, 1, tn_ow_elem(w, value->type.dtype));
  put_message(&tensor, 2, &shape);
  put_message(&type, 1, &tensor);
  put_text(&info, 1, value->name);
  put_message(&info, 2, &type);
  put_message(b, field, &info);
}

/* ---- nodes ------------------------------------------------------------------------------------------------
 */
static void put_graph(tn_ow *w, uint32_t graph, tn_buf *nodes, tn_buf *rest);

static void put_attr(tn_ow *w, tn_buf *b, const tn_ow_attr *a) {
  tn_buf m = {0}, list = {0}, graph = {0};
  float f = (float)a->f;
  put_text(&m, 1, a->name);
  switch (a->kind) {
  case TN_OA_FLOAT:
    put_varint(&m, 2 << 3 | 5);
    tn_buf_put(&m, &f, sizeof f);
    break;
  case TN_OA_INT: put_int(&m, 3, a->i); break;
  case TN_OA_STRING: put_text(&m, 4, a->s); break;
  case TN_OA_INTS:
    for (uint32_t i = 0; i < a->count; i++) put_varint(&list, (uint64_t)a->ints[i]);
    put_message(&m, 8, &list);
    break;
  case TN_OA_FLOATS:
    for (uint32_t i = 0; i < a->count; i++) {
      f = (float)a->floats[i];
      tn_buf_put(&list, &f, sizeof f);
    }
    put_message(&m, 7, &list);
    break;
  case TN_OA_STRINGS:
    for (const char *at = a->s; *at; at += strcspn(at, "\n"), at += *at != 0)
      put_bytes(&m, 9, at, strcspn(at, "\n"));
    break;
  case TN_OA_GRAPH:
    put_graph(w, (uint32_t)a->i, &graph, &list);
    tn_buf_put(&graph, list.text, list.len);
    tn_buf_fini(&list);
    put_message(&m, 6, &graph);
    break;
  default: break;
  }
  put_int(&m, 20, a->kind);
  put_message(b, 5, &m);
}

static void put_node(tn_ow *w, tn_buf *b, const tn_ow_node *n, uint32_t number) {
  tn_buf m = {0};
  char name[96];
  for (uint32_t i = 0; i < n->nin; i++) put_text(&m, 1, n->in[i] ? w->values.items[n->in[i]].name : "");
  for (uint32_t i = 0; i < n->nout; i++) put_text(&m, 2, w->values.items[n->out[i]].name);
  snprintf(name, sizeof name, "%s_%u", n->op, number);
  put_text(&m, 3, name);
  put_text(&m, 4, n->op);
  for (uint32_t i = 0; i < n->nattrs; i++) put_attr(w, &m, &n->attrs[i]);
  if (n->domain) put_text(&m, 7, n->domain);
  put_message(b, 1, &m);
}

static bool is_output(const tn_ow_graph *g, tn_ov v) {
  for (uint32_t i = 0; i < g->outputs.count; i++)
    if (g->outputs.items[i] == v) return true;
  return false;
}

/* `nodes`: what comes before the initialisers; `rest`: what comes behind them. */
static void put_graph(tn_ow *w, uint32_t graph, tn_buf *nodes, tn_buf *rest) {
  const tn_ow_graph *g = w->graphs.items[graph];
  tn_buf infos = {0};
  for (uint32_t i = 0; i < g->nodes.count; i++) {
    const tn_ow_node *n = &w->nodes.items[g->nodes.items[i]];
    if (!n->live) continue;
    put_node(w, nodes, n, g->nodes.items[i]);
    for (uint32_t k = 0; k < n->nout; k++)
      if (!is_output(g, n->out[k])) put_value_info(w, &infos, 13, n->out[k]);
  }
  put_text(nodes, 2, g->name);
  for (uint32_t i = 0; i < g->inputs.count; i++) put_value_info(w, rest, 11, g->inputs.items[i]);
  for (uint32_t i = 0; i < g->outputs.count; i++) put_value_info(w, rest, 12, g->outputs.items[i]);
  tn_buf_put(rest, infos.text, infos.len);
  rest->failed = rest->failed || infos.failed;
  tn_buf_fini(&infos);
}

/* ---- what is used, and its names
 * --------------------------------------------------------------------------- */
/* In reverse order: users come behind what they use, and the nodes of a body before the node that owns it. */
static void mark(tn_ow *w) {
  const tn_ow_graph *top = w->graphs.items[1];
  for (uint32_t i = 0; i < top->outputs.count; i++) w->values.items[top->outputs.items[i]].live = true;
  for (uint32_t k = w->nodes.count; k-- > 0;) {
    tn_ow_node *n = &w->nodes.items[k];
    for (uint32_t i = 0; i < n->nout; i++) n->live = n->live || w->values.items[n->out[i]].live;
    if (!n->live) continue;
    for (uint32_t i = 0; i < n->nout; i++)
      w->values.items[n->out[i]].live = true; /* few ops can leave one out */
    for (uint32_t i = 0; i < n->nin; i++) w->values.items[n->in[i]].live = true;
    for (uint32_t i = 0; i < n->nattrs; i++) {
      if (n->attrs[i].kind != TN_OA_GRAPH) continue;
      const tn_ow_graph *g = w->graphs.items[n->attrs[i].i];
      for (uint32_t o = 0; o < g->outputs.count; o++) w->values.items[g->outputs.items[o]].live = true;
    }
  }
}

static void name_value(tn_ow *w, tn_ov v) {
  tn_ow_value *value = &w->values.items[v];
  if (value->name || !value->live) return;
  const char *base = value->hint;
  if (!base) base = value->from == TN_OV_INIT ? "const" : w->nodes.items[value->node].op;
  const char *name = base;
  uint64_t taken;
  for (uint32_t n = v;
       !name || tn_map_get(&w->names, tn_str_of(name), &taken) || (name == base && !value->hint); n++)
    if (!(name = tn_arena_printf(&w->arena, "%s_%u", base, n))) break;
  if (!name || tn_map_put(&w->names, tn_str_of(name), v, NULL) != TN_OK)
    tn_ow_fail(w, TN_OOM, "out of memory");
  value->name = name;
}

/* ---- initialisers
 * ------------------------------------------------------------------------------------------- */
static uint64_t place_inits(tn_ow *w) {
  uint64_t total = 0, at = 0;
  for (uint32_t i = 0; i < w->inits.count; i++)
    if (w->values.items[w->inits.items[i].value].live && !tn_add_u64(total, w->inits.items[i].bytes, &total))
      tn_ow_fail(w, TN_INVALID, "the weights are larger than 2^64 bytes");
  if (!w->o.external && total < MODEL_LIMIT) return 0;
  for (uint32_t i = 0; i < w->inits.count; i++) {
    tn_ow_init *c = &w->inits.items[i];
    if (!w->values.items[c->value].live || c->what == TN_OI_BYTES || c->bytes < SMALL) continue;
    c->external = true;
    c->offset = tn_align_up(at, ALIGN);
    at = c->offset + c->bytes;
  }
  return at;
}

static void put_pair(tn_buf *b, uint32_t field, const char *key, const char *value) {
  tn_buf m = {0};
  put_text(&m, 1, key);
  put_text(&m, 2, value);
  put_message(b, field, &m);
}

/* All of a TensorProto but the raw bytes. */
static void put_tensor_head(tn_ow *w, tn_buf *b, const tn_ow_init *c, const char *location) {
  const tn_ow_value *v = &w->values.items[c->value];
  tn_buf dims = {0};
  char number[24];
  for (uint32_t i = 0; i < v->type.rank; i++) {
    int64_t k = 0;
    if (!tn_ow_dconst(w, v->type.dims[i], &k)) tn_ow_fail(w, TN_INVALID, "the size of a weight is not known");
    put_varint(&dims, (uint64_t)k);
  }
  put_message(b, 1, &dims);
  put_int(b, 2, tn_ow_elem(w, v->type.dtype));
  put_text(b, 8, v->name);
  if (!c->external) return;
  put_pair(b, 13, "location", location);
  snprintf(number, sizeof number, "%llu", (unsigned long long)c->offset);
  put_pair(b, 13, "offset", number);
  snprintf(number, sizeof number, "%llu", (unsigned long long)c->bytes);
  put_pair(b, 13, "length", number);
  put_int(b, 14, 1);
}

/* ---- writing ----------------------------------------------------------------------------------------------
 */
typedef struct sink {
  tn_outfile file;
  tn_buf pending;
  uint64_t bytes;
} sink;

static tn_status sink_flush(sink *s) {
  tn_status st = s->pending.failed ? TN_OOM : tn_outfile_write(&s->file, s->pending.text, s->pending.len);
  s->pending.len = 0;
  return st;
}

static tn_status sink_put(void *ctx, const void *p, uint64_t n) {
  sink *s = ctx;
  s->bytes += n;
  if (n >= 1 << 18) {
    TN_TRY(sink_flush(s));
    return tn_outfile_write(&s->file, p, n);
  }
  tn_buf_put(&s->pending, p, n);
  return s->pending.len >= 1 << 18 ? sink_flush(s) : TN_OK;
}

static tn_status stream(tn_ow *w, const tn_ow_source *src, const tn_ow_init *c, sink *s) {
  const tn_writer out = {s, sink_put};
  uint64_t before = s->bytes;
  TN_TRY(tn_ow_init_stream(w, src, c, &out));
  if (s->bytes - before == c->bytes) return TN_OK;
  return tn_fail(w->diags, TN_INTERNAL, NULL, w->values.items[c->value].name,
                 "%llu bytes were written, %llu announced", (unsigned long long)(s->bytes - before),
                 (unsigned long long)c->bytes);
}

static tn_status write_data(tn_ow *w, const tn_ow_source *src, sink *s) {
  static const uint8_t zeros[ALIGN];
  for (uint32_t i = 0; i < w->inits.count; i++) {
    const tn_ow_init *c = &w->inits.items[i];
    if (!c->external) continue;
    TN_TRY(sink_put(s, zeros, c->offset - s->bytes));
    TN_TRY(stream(w, src, c, s));
  }
  return TN_OK;
}

/* The graph's length is known before it is written: all heads are made first, raw bytes are counted. */
typedef struct pieces {
  tn_buf model, nodes, rest, tail;
  tn_buf *inits; /* by initialiser: tag, length and all but the raw bytes */
  uint64_t graph_bytes;
} pieces;

static void make_init_piece(tn_ow *w, const tn_ow_init *c, const char *location, tn_buf *out) {
  tn_buf head = {0}, raw = {0};
  put_tensor_head(w, &head, c, location);
  if (!c->external) put_head(&raw, 9, c->bytes);
  put_head(out, 5, head.len + raw.len + (c->external ? 0 : c->bytes));
  tn_buf_put(out, head.text, head.len);
  tn_buf_put(out, raw.text, raw.len);
  out->failed = out->failed || head.failed || raw.failed;
  tn_buf_fini(&head);
  tn_buf_fini(&raw);
}

static void put_opset(tn_buf *b, const char *domain, uint32_t version) {
  tn_buf m = {0};
  put_text(&m, 1, domain);
  put_int(&m, 2, version);
  put_message(b, 8, &m);
}

/* The IR version that came with an opset: onnx 1.9 to 1.21. */
static uint32_t ir_version(uint32_t opset) {
  static const uint8_t of[] = {7, 8, 8, 8, 8, 9, 9, 10, 10, 11, 12, 13, 13}; /* 14 .. 26 */
  return of[opset - TN_OW_OPSET_MIN];
}

static void make_pieces(tn_ow *w, const char *location, pieces *p) {
  put_int(&p->model, 1, ir_version(w->o.opset));
  put_text(&p->model, 2, "tenon");
  put_text(&p->model, 3, "0.1.0");
  put_graph(w, 1, &p->nodes, &p->rest);
  p->graph_bytes = p->nodes.len + p->rest.len;
  for (uint32_t i = 0; i < w->inits.count; i++) {
    const tn_ow_init *c = &w->inits.items[i];
    if (!w->values.items[c->value].live) continue;
    make_init_piece(w, c, location, &p->inits[i]);
    p->graph_bytes += p->inits[i].len + (c->external ? 0 : c->bytes);
    p->model.failed = p->model.failed || p->inits[i].failed;
  }
  put_head(&p->model, 7, p->graph_bytes);
  put_opset(&p->tail, "", w->o.opset);
  if (w->microsoft) put_opset(&p->tail, "com.microsoft", 1);
  p->model.failed = p->model.failed || p->nodes.failed || p->rest.failed || p->tail.failed;
}

static tn_status write_model(tn_ow *w, const tn_ow_source *src, const pieces *p, sink *s) {
  TN_TRY(sink_put(s, p->model.text, p->model.len));
  TN_TRY(sink_put(s, p->nodes.text, p->nodes.len));
  for (uint32_t i = 0; i < w->inits.count; i++) {
    const tn_ow_init *c = &w->inits.items[i];
    if (!w->values.items[c->value].live) continue;
    TN_TRY(sink_put(s, p->inits[i].text, p->inits[i].len));
    if (!c->external) TN_TRY(stream(w, src, c, s));
  }
  TN_TRY(sink_put(s, p->rest.text, p->rest.len));
  return sink_put(s, p->tail.text, p->tail.len);
}

typedef tn_status (*write_fn)(tn_ow *w, const tn_ow_source *src, const pieces *p, sink *s);
static tn_status write_data_piece(tn_ow *w, const tn_ow_source *src, const pieces *p, sink *s) {
  (void)p;
  return write_data(w, src, s);
}

/* One output file, whole or not at all; left open for the caller's commit. */
static tn_status write_one(tn_ow *w, const tn_ow_source *src, const pieces *p, const char *path, write_fn fn,
                           sink *s) {
  const char *why = "";
  tn_status st = tn_outfile_open(&s->file, path, &why);
  if (st != TN_OK) return tn_fail(w->diags, st, path, NULL, "cannot write: %s", why);
  st = fn(w, src, p, s);
  if (st == TN_OK) st = sink_flush(s);
  tn_buf_fini(&s->pending);
  if (st != TN_OK && !w->diags->errors) (void)tn_fail(w->diags, st, path, NULL, "writing failed");
  return st;
}

static void count(const tn_ow *w, tn_ow_report *r) {
  for (uint32_t i = 0; i < w->nodes.count; i++) r->nodes += w->nodes.items[i].live;
  for (uint32_t i = 0; i < w->inits.count; i++)
    r->initializers += w->values.items[w->inits.items[i].value].live;
}

static tn_status write_files(tn_ow *w, const tn_ow_source *src, const char *path, const char *data, pieces *p,
                             tn_ow_report *r) {
  sink model = {.file = {.fd = -1}}, weights = {.file = {.fd = -1}};
  const char *slash = data ? strrchr(data, '/') : NULL;
  make_pieces(w, data ? (slash ? slash + 1 : data) : "", p);
  if (tn_ow_failed(w)) return w->status;
  if (p->model.failed) return TN_OOM;
  tn_status st = data ? write_one(w, src, p, data, write_data_piece, &weights) : TN_OK;
  if (st == TN_OK) st = write_one(w, src, p, path, write_model, &model);
  r->model_bytes = model.bytes;
  r->data_bytes = weights.bytes;
  if (st == TN_OK && data) st = tn_outfile_commit(&weights.file, 0644);
  if (st == TN_OK) st = tn_outfile_commit(&model.file, 0644);
  if (st != TN_OK && !w->diags->errors)
    (void)tn_fail(w->diags, st, path, NULL, "cannot put the file into its place");
  tn_outfile_abort(&weights.file);
  tn_outfile_abort(&model.file);
  return st;
}

tn_status tn_ow_file(tn_ow *w, const tn_ow_source *src, const char *path, tn_ow_report *report) {
  mark(w);
  for (tn_ov v = 1; v < w->values.count && !tn_ow_failed(w); v++)
    if (w->values.items[v].from == TN_OV_INIT && w->values.items[v].hint)
      name_value(w, v); /* weights keep theirs */
  for (tn_ov v = 1; v < w->values.count && !tn_ow_failed(w); v++) name_value(w, v);
  bool external = place_inits(w) != 0;
  if (tn_ow_failed(w)) return w->status;
  pieces p = {.inits = tn_mem_alloc((w->inits.count + 1) * sizeof *p.inits)};
  const char *data = external ? tn_arena_printf(&w->arena, "%s.data", path) : NULL;
  tn_status st = p.inits && (data || !external) ? write_files(w, src, path, data, &p, report) : TN_OOM;
  tn_buf *all[] = {&p.model, &p.nodes, &p.rest, &p.tail};
  for (uint32_t i = 0; i < TN_COUNT(all); i++) tn_buf_fini(all[i]);
  for (uint32_t i = 0; p.inits && i < w->inits.count; i++) tn_buf_fini(&p.inits[i]);
  tn_mem_free(p.inits);
  if (st == TN_OK) count(w, report);
  return st;
}
