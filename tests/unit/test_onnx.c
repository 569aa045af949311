/* test_onnx.c - the ONNX reader by itself: wire format, tensors, external data, names, order. Models are
 * packed here by the generated code; what the format says about them is stated by hand. */
#include "frontend/onnx/model.h"
#include "frontend/onnx/shapes.h"
#include "tools/driver/driver.h"
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct bench {
  char folder[64], path[96];
  tn_diags diags;
  tn_ox_model model;
} bench;

static void begin(bench *b) {
  *b = (bench){.folder = "/tmp/tenon-onnx-XXXXXX"};
  ck_assert_ptr_nonnull(mkdtemp(b->folder));
  snprintf(b->path, sizeof b->path, "%s/m.onnx", b->folder);
  tn_diags_init(&b->diags);
}

static void end(bench *b) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", b->folder);
  ck_assert_int_eq(system(command), 0);
  tn_diags_fini(&b->diags);
}

static void write_file(const char *path, const void *data, size_t n) {
  FILE *f = fopen(path, "wb");
  ck_assert_ptr_nonnull(f);
  ck_assert_uint_eq(fwrite(data, 1, n, f), n);
  fclose(f);
}

static const char *first_error(const bench *b) {
  for (uint32_t i = 0; i < b->diags.list.count; i++)
    if (b->diags.list.items[i].severity == TN_ERROR) return b->diags.list.items[i].text;
  return "";
}

#define expect_error(b, words)                                                                               \
  ck_assert_msg(strstr(first_error(b), words) != NULL, "expected '%s' in '%s'", words, first_error(b))

/* ---- a model: y = Identity(x), and initializers ---- */

typedef struct parts {
  Onnx__ModelProto model;
  Onnx__GraphProto graph;
  Onnx__OperatorSetIdProto opset, *opsets[1];
  Onnx__NodeProto nodes[2], *node_list[2];
  Onnx__ValueInfoProto in, out, *ins[1], *outs[1];
  Onnx__TypeProto type;
  Onnx__TypeProto__Tensor tensor_type;
  Onnx__TensorShapeProto shape;
  Onnx__TensorShapeProto__Dimension dim, *dims[1];
  Onnx__TensorProto tensor, *tensors[1];
  char *node_in[2][1], *node_out[2][1];
  int64_t tensor_dims[1];
} parts;

static void node_init(parts *p, int i, char *in, char *out) {
  onnx__node_proto__init(&p->nodes[i]);
  p->nodes[i].op_type = "Identity";
  p->node_in[i][0] = in;
  p->node_out[i][0] = out;
  p->nodes[i].n_input = p->nodes[i].n_output = 1;
  p->nodes[i].input = p->node_in[i];
  p->nodes[i].output = p->node_out[i];
  p->node_list[i] = &p->nodes[i];
}

static void value_init(parts *p, Onnx__ValueInfoProto *v, char *name) {
  onnx__value_info_proto__init(v);
  v->name = name;
  v->type = &p->type;
}

static void graph_init(parts *p) {
  onnx__graph_proto__init(&p->graph);
  onnx__type_proto__init(&p->type);
  onnx__type_proto__tensor__init(&p->tensor_type);
  onnx__tensor_shape_proto__init(&p->shape);
  onnx__tensor_shape_proto__dimension__init(&p->dim);
  p->dim.value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
  p->dim.dim_value = 4;
  p->dims[0] = &p->dim;
  p->shape.n_dim = 1;
  p->shape.dim = p->dims;
  p->tensor_type.has_elem_type = true;
  p->tensor_type.elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
  p->tensor_type.shape = &p->shape;
  p->type.value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
  p->type.tensor_type = &p->tensor_type;
  value_init(p, &p->in, "x");
  value_init(p, &p->out, "y");
  p->ins[0] = &p->in;
  p->outs[0] = &p->out;
  p->graph.n_input = p->graph.n_output = 1;
  p->graph.input = p->ins;
  p->graph.output = p->outs;
  node_init(p, 0, "x", "y");
  p->graph.n_node = 1;
  p->graph.node = p->node_list;
}

static void parts_init(parts *p) {
  memset(p, 0, sizeof *p);
  graph_init(p);
  onnx__model_proto__init(&p->model);
  onnx__operator_set_id_proto__init(&p->opset);
  p->opset.has_version = true;
  p->opset.version = 17;
  p->opsets[0] = &p->opset;
  p->model.n_opset_import = 1;
  p->model.opset_import = p->opsets;
  p->model.has_ir_version = true;
  p->model.ir_version = 8;
  p->model.graph = &p->graph;
  onnx__tensor_proto__init(&p->tensor);
  p->tensor.name = "w";
  p->tensor.has_data_type = true;
  p->tensor.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
  p->tensor.n_dims = 1;
  p->tensor.dims = p->tensor_dims;
  p->tensors[0] = &p->tensor;
  p->graph.n_initializer = 1;
  p->graph.initializer = p->tensors;
  p->tensor.has_raw_data = true;
}

static uint8_t *pack(const parts *p, size_t *n) {
  *n = onnx__model_proto__get_packed_size(&p->model);
  uint8_t *bytes = malloc(*n + 1);
  ck_assert_ptr_nonnull(bytes);
  onnx__model_proto__pack(&p->model, bytes);
  return bytes;
}

static tn_status open_parts(bench *b, const parts *p) {
  size_t n;
  uint8_t *bytes = pack(p, &n);
  write_file(b->path, bytes, n);
  free(bytes);
  return tn_ox_model_open(&b->model, b->path, "", &b->diags);
}

/* Imports the whole model. */
static tn_status import(bench *b, const parts *p) {
  size_t n;
  uint8_t *bytes = pack(p, &n);
  write_file(b->path, bytes, n);
  free(bytes);
  tn_driver d;
  tn_module *m = NULL;
  tn_status s = tn_driver_init(&d, &(tn_driver_options){.backend = "ref"}, &b->diags);
  if (s == TN_OK) s = tn_driver_load(&d, b->path, &m);
  tn_module_free(m);
  tn_driver_fini(&d);
  return s;
}

/* ---- wire format ---- */

START_TEST(large_data_stays_in_the_file) {
  bench b;
  parts p;
  float data[2][512];
  begin(&b);
  parts_init(&p);
  for (int i = 0; i < 512; i++) data[0][i] = (float)i, data[1][i] = (float)-i;
  p.tensor_dims[0] = 512;
  for (int typed = 0; typed < 2; typed++) {
    p.tensor.has_raw_data = !typed;
    p.tensor.raw_data = (ProtobufCBinaryData){sizeof data[0], (uint8_t *)data[0]};
    p.tensor.n_float_data = typed ? 512 : 0;
    p.tensor.float_data = data[1];
    ck_assert_int_eq(open_parts(&b, &p), TN_OK);
    const tn_ox_tensor_proto *t = b.model.proto->graph->initializer[0];
    ck_assert(t->has_held_offset && !t->has_raw_data && !t->n_float_data);
    tn_ox_data d;
    const char *why;
    ck_assert_int_eq(tn_ox_tensor_read(&b.model, t, &d, &why), TN_OK);
    ck_assert_str_eq(d.file, "m.onnx");
    ck_assert_ptr_eq(d.ptr, b.model.file.data + d.offset);
    ck_assert_mem_eq(d.ptr, data[typed], sizeof data[0]);
    tn_ox_model_close(&b.model);
  }
  end(&b);
}
END_TEST

/* Every beginning of a file is wrong, or right by chance, but never read past its end (sanitizers see). */
START_TEST(cut_files) {
  bench b;
  parts p;
  size_t n;
  uint8_t zeros[16] = {0};
  begin(&b);
  parts_init(&p);
  p.tensor_dims[0] = 4;
  p.tensor.raw_data = (ProtobufCBinaryData){sizeof zeros, zeros};
  uint8_t *bytes = pack(&p, &n);
  for (size_t cut = 0; cut <= n; cut++) {
    write_file(b.path, bytes, cut);
    tn_status s = tn_ox_model_open(&b.model, b.path, "", &b.diags);
    ck_assert(s == TN_OK || b.diags.errors);
    if (cut == n) ck_assert_int_eq(s, TN_OK);
    tn_ox_model_close(&b.model);
    tn_diags_fini(&b.diags);
    tn_diags_init(&b.diags);
  }
  for (size_t i = 0; i < n; i++) /* one wrong byte */
    for (int bit = 0; bit < 8; bit++) {
      bytes[i] ^= (uint8_t)(1 << bit);
      write_file(b.path, bytes, n);
      tn_status s = tn_ox_model_open(&b.model, b.path, "", &b.diags);
      ck_assert(s == TN_OK || b.diags.errors);
      tn_ox_model_close(&b.model);
      tn_diags_fini(&b.diags);
      tn_diags_init(&b.diags);
      bytes[i] ^= (uint8_t)(1 << bit);
    }
  free(bytes);
  end(&b);
}
END_TEST

static void open_bytes(bench *b, const void *bytes, size_t n) {
  write_file(b->path, bytes, n);
  ck_assert_int_ne(tn_ox_model_open(&b->model, b->path, "", &b->diags), TN_OK);
  tn_ox_model_close(&b->model);
}

START_TEST(wire_errors) {
  static const struct {
    const char *bytes;
    size_t n;
    const char *words;
  } cases[] = {
      {"", 0, "the file is empty"},
      {"\x08\x80", 2, "a number that does not end"},
      {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 11, "a number that does not end"},
      {"\x3a\x05\x08", 3, "longer than what holds it"},
      {"\x0b", 1, "a field of no known kind"},
      {"\x00\x01", 2, "a field without a number"},
      {"\x3d\x01\x02\x03\x04", 5, "a field of the wrong kind"},
      {"\x12\x02\xc3\x28", 4, "not UTF-8"},
      {"\x12\x03"
       "a\0b",
       5, "a zero byte"},
      {"\xaa\x06\x00", 3, "neither a version nor a graph"},
  };
  for (size_t i = 0; i < TN_COUNT(cases); i++) {
    bench b;
    begin(&b);
    open_bytes(&b, cases[i].bytes, cases[i].n);
    expect_error(&b, cases[i].words);
    end(&b);
  }
}
END_TEST

/* Graph, node, attribute, graph, ...: 300 of them. */
START_TEST(deep_nesting) {
  bench b;
  uint8_t bytes[2048];
  size_t n = 0;
  begin(&b);
  for (int i = 0; i < 300; i++) { /* from the inside out, lengths first */
    static const uint8_t tags[] = {0x0a, 0x2a,
                                   0x32}; /* GraphProto.node, NodeProto.attribute, AttributeProto.g */
    uint8_t head[4] = {i == 299 ? 0x3a : tags[(298 - i + 3) % 3], (uint8_t)(n & 127), 0, 0};
    size_t h = 2;
    if (n > 127) head[1] |= 128, head[2] = (uint8_t)(n >> 7), h = 3;
    if (n + h > sizeof bytes) break;
    memmove(bytes + h, bytes, n);
    memcpy(bytes, head, h);
    n += h;
  }
  open_bytes(&b, bytes, n);
  expect_error(&b, "nested more than 64 deep");
  end(&b);
}
END_TEST

/* ---- tensors ---- */

static void tensor_fails(parts *p, const char *words) {
  bench b;
  tn_ox_data d;
  const char *why = "";
  begin(&b);
  ck_assert_int_eq(open_parts(&b, p), TN_OK);
  ck_assert_int_ne(tn_ox_tensor_read(&b.model, b.model.proto->graph->initializer[0], &d, &why), TN_OK);
  ck_assert_msg(strstr(why, words) != NULL, "expected '%s' in '%s'", words, why);
  tn_ox_model_close(&b.model);
  end(&b);
}

START_TEST(tensor_errors) {
  parts p;
  uint8_t zeros[16] = {0};
  int64_t huge[3] = {INT64_C(1) << 40, INT64_C(1) << 40, 0}, many[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
  parts_init(&p);
  p.tensor.raw_data = (ProtobufCBinaryData){sizeof zeros, zeros};
  p.tensor_dims[0] = 5;
  tensor_fails(&p, "raw_data has 16 bytes, its sizes and type want 20");
  p.tensor_dims[0] = -4;
  tensor_fails(&p, "dim 0 is negative: -4");
  p.tensor.n_dims = 2;
  p.tensor.dims = huge;
  tensor_fails(&p, "more than 2^63 bits");
  p.tensor.n_dims = 9;
  p.tensor.dims = many;
  tensor_fails(&p, "rank 9");
  p.tensor.n_dims = 1;
  p.tensor.dims = p.tensor_dims;
  p.tensor_dims[0] = 4;
  p.tensor.data_type = 99;
  tensor_fails(&p, "element type 99 is none of ONNX");
  p.tensor.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__STRING;
  tensor_fails(&p, "string");
  p.tensor.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX64;
  tensor_fails(&p, "complex64");
  p.tensor.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
  p.tensor.has_raw_data = false;
  tensor_fails(&p, "has 0 entries, its sizes and type want 4");
}
END_TEST

/* int32_data holds narrower types one element an entry, and sub-byte types one byte an entry. */
START_TEST(typed_fields) {
  static const struct {
    int type;
    int64_t dims;
    int32_t entries[4];
    size_t n;
    uint8_t bytes[8];
    size_t nbytes;
  } cases[] = {
      {ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16, 2, {0x3c00, 0xc000}, 2, {0x00, 0x3c, 0x00, 0xc0}, 4},
      {ONNX__TENSOR_PROTO__DATA_TYPE__INT8, 3, {-1, 2, -128}, 3, {0xff, 2, 0x80}, 3},
      {ONNX__TENSOR_PROTO__DATA_TYPE__BOOL, 2, {1, 0}, 2, {1, 0}, 2},
      {ONNX__TENSOR_PROTO__DATA_TYPE__UINT4, 3, {0x21, 0x03}, 2, {0x21, 0x03}, 2},
      {ONNX__TENSOR_PROTO__DATA_TYPE__INT2, 5, {0xe4, 0x01}, 2, {0xe4, 0x01}, 2},
  };
  for (size_t i = 0; i < TN_COUNT(cases); i++) {
    bench b;
    parts p;
    tn_ox_data d;
    const char *why;
    begin(&b);
    parts_init(&p);
    p.tensor.has_raw_data = false;
    p.tensor.data_type = cases[i].type;
    p.tensor_dims[0] = cases[i].dims;
    p.tensor.n_int32_data = cases[i].n;
    p.tensor.int32_data = (int32_t *)(uintptr_t)cases[i].entries;
    ck_assert_int_eq(open_parts(&b, &p), TN_OK);
    ck_assert_int_eq(tn_ox_tensor_read(&b.model, b.model.proto->graph->initializer[0], &d, &why), TN_OK);
    ck_assert_uint_eq(d.bytes, cases[i].nbytes);
    ck_assert_mem_eq(d.ptr, cases[i].bytes, cases[i].nbytes);
    tn_ox_model_close(&b.model);
    end(&b);
  }
}
END_TEST

/* ---- external data ---- */

typedef struct outside {
  Onnx__StringStringEntryProto e[3], *list[3];
} outside;

static void outside_init(parts *p, outside *o, char *location, char *offset, char *length) {
  char *keys[] = {"location", "offset", "length"}, *values[] = {location, offset, length};
  p->tensor.has_raw_data = false;
  p->tensor.has_data_location = true;
  p->tensor.data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
  p->tensor.external_data = o->list;
  for (int i = 0; i < 3; i++) {
    if (!values[i]) continue;
    onnx__string_string_entry_proto__init(&o->e[i]);
    o->e[i].key = keys[i];
    o->e[i].value = values[i];
    o->list[p->tensor.n_external_data++] = &o->e[i];
  }
}

/* NULL: it can be read. */
static void external_case(char *location, char *offset, char *length, const char *words) {
  bench b;
  parts p;
  outside o;
  tn_ox_data d;
  char data[64], inner[96], sub[160], link_path[160], hard[160], hard2[160];
  const char *why = "";
  begin(&b);
  for (int i = 0; i < 64; i++) data[i] = (char)i;
  snprintf(inner, sizeof inner, "%s/w.bin", b.folder);
  snprintf(sub, sizeof sub, "%s/sub", b.folder);
  snprintf(link_path, sizeof link_path, "%s/link.bin", b.folder);
  snprintf(hard, sizeof hard, "%s/hard.bin", b.folder);
  snprintf(hard2, sizeof hard2, "%s/hard2.bin", b.folder);
  write_file(inner, data, sizeof data);
  write_file(hard, data, sizeof data);
  ck_assert_int_eq(mkdir(sub, 0755), 0);
  ck_assert_int_eq(symlink("/etc/passwd", link_path), 0);
  ck_assert_int_eq(link(hard, hard2), 0);
  snprintf(sub, sizeof sub, "%s/sub/link", b.folder);
  ck_assert_int_eq(symlink("/etc", sub), 0);
  parts_init(&p);
  p.tensor_dims[0] = 4;
  outside_init(&p, &o, location, offset, length);
  ck_assert_int_eq(open_parts(&b, &p), TN_OK);
  tn_status s = tn_ox_tensor_read(&b.model, b.model.proto->graph->initializer[0], &d, &why);
  if (words) {
    ck_assert_int_eq(s, TN_INVALID);
    ck_assert_msg(strstr(why, words) != NULL, "expected '%s' in '%s'", words, why);
  } else {
    ck_assert_int_eq(s, TN_OK);
    ck_assert_mem_eq(d.ptr, data + (offset ? atoi(offset) : 0), 16);
    ck_assert_str_eq(d.file, location);
  }
  tn_ox_model_close(&b.model);
  end(&b);
}

START_TEST(external_data) {
  external_case("w.bin", "16", "16", NULL);
  external_case("w.bin", NULL, NULL, NULL);
  external_case("./w.bin", "0", NULL, NULL);
  external_case("w.bin", "49", "16", "bytes 49 to 65 of a file of 64");
  external_case("w.bin", "18446744073709551615", "16", "of a file of 64");
  external_case("w.bin", "0", "15", "has 15 bytes, its sizes and type want 16");
  external_case("w.bin", "-1", "16", "offset is '-1', wants a number");
  external_case(NULL, "0", "16", "without a location");
  external_case("", NULL, NULL, "the name is empty");
  external_case("/etc/passwd", NULL, NULL, "must be relative");
  external_case("../w.bin", NULL, NULL, "leads out of the model's folder");
  external_case("sub/../w.bin", NULL, NULL, "leads out of the model's folder");
  external_case("none.bin", NULL, NULL, "no such file, or a link");
  external_case("link.bin", NULL, NULL, "no such file, or a link");
  external_case("sub/link/passwd", NULL, NULL, "no such file, or a link");
  external_case("hard.bin", NULL, NULL, "hard links");
  external_case("sub", NULL, NULL, "not a regular file");
}
END_TEST

/* ---- models ---- */

START_TEST(model_errors) {
  bench b;
  parts p;
  for (int i = 0; i < 7; i++) {
    const char *words = "";
    begin(&b);
    parts_init(&p);
    p.tensor_dims[0] = 0;
    switch (i) {
    case 0: p.model.ir_version = 99, words = "IR version 99; known are 3 to 14"; break;
    case 1: p.opset.version = 29, words = "opset 29 of ai.onnx; known are those up to 28"; break;
    case 2: p.model.n_opset_import = 0, words = "states no opset"; break;
    case 3: p.nodes[0].op_type = NULL, words = "node 0 '' has no op_type"; break;
    case 4: p.model.graph = NULL, words = "the model has no graph"; break;
    case 5: p.in.name = "", words = "graph input 0 has no name"; break;
    default: p.tensor.name = "", words = "initializer 0 has no name"; break;
    }
    ck_assert_int_ne(open_parts(&b, &p), TN_OK);
    expect_error(&b, words);
    tn_ox_model_close(&b.model);
    end(&b);
  }
}
END_TEST

START_TEST(graph_errors) {
  bench b;
  parts p;
  for (int i = 0; i < 8; i++) {
    const char *words = "";
    begin(&b);
    parts_init(&p);
    p.graph.n_initializer = 0;
    p.graph.n_node = 2;
    node_init(&p, 0, "x", "a");
    node_init(&p, 1, "a", "y");
    switch (i) {
    case 0:
      node_init(&p, 0, "a", "b"), node_init(&p, 1, "b", "a"), words = "nodes form a cycle: 0 '' -> 1 '' -> 0";
      break;
    case 1:
      p.node_in[0][0] = "nothing", words = "input 0, 'nothing', is no input, initializer or output";
      break;
    case 2: p.node_in[1][0] = "x", p.node_out[1][0] = "a", words = "'a' is the output of two nodes"; break;
    case 3: p.out.name = "z", words = "output 'z' is computed by no node"; break;
    case 4:
      p.nodes[0].op_type = "Identiti",
      words = "no lowering for op 'Identiti' of domain ai.onnx; there is 'Identity'";
      break;
    case 5: p.nodes[0].domain = "org.other", words = "does not state an opset of domain org.other"; break;
    case 6: p.dim.dim_value = -7, words = "dim 0 is negative: -7"; break;
    default: p.tensor_type.shape = NULL, words = "its rank is not known; state its sizes: --shapes x:"; break;
    }
    ck_assert_int_ne(import(&b, &p), TN_OK);
    expect_error(&b, words);
    end(&b);
  }
}
END_TEST

/* Nodes may come in any order; all that is not supported is told in one run, and nothing that follows from
 * it. */
START_TEST(order_and_collection) {
  bench b;
  parts p;
  begin(&b);
  parts_init(&p);
  p.graph.n_initializer = 0;
  p.graph.n_node = 2;
  node_init(&p, 0, "a", "y");
  node_init(&p, 1, "x", "a");
  ck_assert_int_eq(import(&b, &p), TN_OK);
  p.nodes[1].op_type = "NoSuchOp";
  ck_assert_int_eq(import(&b, &p), TN_UNSUPPORTED);
  ck_assert_uint_eq(b.diags.errors, 1);
  p.nodes[0].op_type = "NoSuchOpEither";
  p.node_in[0][0] = "x";
  ck_assert_int_eq(import(&b, &p), TN_UNSUPPORTED);
  ck_assert_uint_eq(b.diags.errors, 3);
  end(&b);
}
END_TEST

/* No allocation that fails leaks or crashes. */
START_TEST(memory) {
  bench b;
  parts p;
  uint8_t zeros[16] = {0};
  begin(&b);
  parts_init(&p);
  p.tensor_dims[0] = 4;
  p.tensor.raw_data = (ProtobufCBinaryData){sizeof zeros, zeros};
  tn_status s = TN_OOM;
  for (long n = 0; s != TN_OK && n < 5000; n++) {
    size_t size;
    uint8_t *bytes = pack(&p, &size);
    write_file(b.path, bytes, size);
    free(bytes);
    tn_mem_fail_after(n);
    s = tn_ox_model_open(&b.model, b.path, "", &b.diags);
    tn_mem_fail_after(-1);
    tn_ox_model_close(&b.model);
  }
  ck_assert_int_eq(s, TN_OK);
  end(&b);
}
END_TEST

/* ---- the option "shapes" ---- */

START_TEST(shapes_option) {
  tn_arena arena;
  tn_diags diags;
  tn_ox_shapes s = {0};
  tn_arena_init(&arena);
  tn_diags_init(&diags);
  ck_assert_int_eq(
      tn_ox_shapes_parse(&arena, "x:1x3xH,in:0:Bx8,scalar:,list:[3],pairs:[2]4xN,maybe:none", &diags, &s),
      TN_OK);
  const tn_ox_shape *x = tn_ox_shapes_find(&s, "x"), *in = tn_ox_shapes_find(&s, "in:0");
  ck_assert_uint_eq(x->rank, 3);
  ck_assert(tn_str_is(tn_ox_shape_dim(x, 2), "H"));
  ck_assert_uint_eq(in->rank, 2);
  ck_assert(tn_str_is(tn_ox_shape_dim(in, 0), "B"));
  ck_assert(tn_ox_shapes_find(&s, "scalar")->has_dims && !tn_ox_shapes_find(&s, "scalar")->rank);
  ck_assert(tn_ox_shapes_find(&s, "list")->is_list && tn_ox_shapes_find(&s, "list")->length == 3);
  ck_assert(!tn_ox_shapes_find(&s, "list")->has_dims && tn_ox_shapes_find(&s, "pairs")->rank == 2);
  ck_assert(tn_ox_shapes_find(&s, "maybe")->none);
  ck_assert_ptr_null(tn_ox_shapes_find(&s, "y"));
  ck_assert_int_eq(tn_ox_shapes_unused(&s, "m.onnx", &diags), TN_OK);
  static const char *const wrong[] = {"x", ":3", "x:3xx4", "x:[", "x:[-1]", "x:[9999]", "x:x"};
  for (size_t i = 0; i < TN_COUNT(wrong); i++)
    ck_assert_int_eq(tn_ox_shapes_parse(&arena, wrong[i], &diags, &s), TN_INVALID);
  tn_vec_fini(&s.list);
  tn_diags_fini(&diags);
  tn_arena_fini(&arena);
}
END_TEST

int main(void) {
  Suite *s = suite_create("onnx");
  TCase *t = tcase_create("reader");
  tcase_set_timeout(t, 120);
  tcase_add_test(t, large_data_stays_in_the_file);
  tcase_add_test(t, cut_files);
  tcase_add_test(t, wire_errors);
  tcase_add_test(t, deep_nesting);
  tcase_add_test(t, tensor_errors);
  tcase_add_test(t, typed_fields);
  tcase_add_test(t, external_data);
  tcase_add_test(t, model_errors);
  tcase_add_test(t, graph_errors);
  tcase_add_test(t, order_and_collection);
  tcase_add_test(t, memory);
  tcase_add_test(t, shapes_option);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
