/* side.c - what lies beside the tensors of a model folder: copied, but for weights in any format. */
#include "frontend/checkpoint/ck.h"
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

static const uint64_t largest = 256u << 20; /* of a file that is no weights */

/* Ends of names of weights, and what is written anew. */
static const char *const weights[] = {".safetensors", ".safetensors.index.json",
                                      ".bin",         ".bin.index.json",
                                      ".pt",          ".pth",
                                      ".ckpt",        ".h5",
                                      ".msgpack",     ".ot",
                                      ".onnx",        ".gguf",
                                      ".onnx_data",   ".onnx.data",
                                      ".tflite",      ".npz",
                                      ".so",          "config.json"};

static bool is_copied(const char *name) {
  if (name[0] == '.') return false;
  /* generation_config.json and the like end so, too */
  if (tn_str_ends(tn_str_of(name), "config.json") && strcmp(name, "config.json") != 0) return true;
  for (size_t i = 0; i < TN_COUNT(weights); i++)
    if (tn_str_ends(tn_str_of(name), weights[i])) return false;
  return true;
}

static tn_status write_file(const char *folder, const char *name, const void *p, uint64_t n,
                            tn_diags *diags) {
  tn_arena arena;
  tn_arena_init(&arena);
  char *path = tn_path_join(&arena, folder, name);
  tn_status s =
      path ? tn_file_write(path, p, n, diags) : tn_fail(diags, TN_OOM, folder, NULL, "out of memory");
  tn_arena_fini(&arena);
  return s;
}

tn_status ck_write_text(const char *folder, const char *name, tn_buf *text, tn_diags *diags) {
  tn_status s = text->failed ? tn_fail(diags, TN_OOM, name, NULL, "out of memory")
                             : write_file(folder, name, tn_buf_cstr(text), text->len, diags);
  tn_buf_fini(text);
  return s;
}

static tn_status copy_file(const tn_checkpoint *ck, const char *name, const char *to, tn_diags *diags) {
  tn_file f;
  TN_TRY(tn_folder_map(ck->path, name, diags, &f));
  tn_status s = f.size > largest ? TN_OK : write_file(to, name, f.data, f.size, diags);
  tn_file_unmap(&f);
  return s;
}

typedef TN_VEC(char *) name_list;

static tn_status list(tn_arena *arena, const char *folder, name_list *out) {
  DIR *d = opendir(folder);
  tn_status s = TN_OK;
  if (!d) return TN_UNAVAILABLE;
  for (struct dirent *e; s == TN_OK && (e = readdir(d));) {
    char *name = tn_arena_str(arena, tn_str_of(e->d_name));
    if (!name || (is_copied(name) && !tn_vec_push(out, name))) s = TN_OOM;
  }
  closedir(d);
  return s;
}

/* One level of folders: sentence-transformers has its modules there. */
static tn_status copy_inner(const tn_checkpoint *ck, tn_arena *arena, const char *inner, const char *to,
                            tn_diags *diags) {
  char *from = tn_path_join(arena, ck->path, inner), *target = tn_path_join(arena, to, inner);
  name_list names = {0};
  if (!from || !target) return TN_OOM;
  tn_status s = TN_OK;
  char *config = tn_path_join(arena, from, "config.json");
  if (!config || !tn_path_exists(config)) return TN_OK;
  if (mkdir(target, 0777) && errno != EEXIST)
    return tn_fail(diags, TN_UNAVAILABLE, target, NULL, "cannot make the folder: %s", strerror(errno));
  (void)list(arena, from, &names);
  if (!tn_vec_push(&names, "config.json")) s = TN_OOM;
  for (uint32_t i = 0; s == TN_OK && i < names.count; i++) {
    char *name = tn_path_join(arena, inner, names.items[i]),
         *path = name ? tn_path_join(arena, ck->path, name) : NULL;
    if (!path) s = TN_OOM;
    if (path && !tn_path_is_dir(path)) s = copy_file(ck, name, to, diags);
  }
  tn_vec_fini(&names);
  return s;
}

tn_status ck_copy_side(const tn_checkpoint *ck, const char *to, tn_diags *diags) {
  tn_arena arena;
  name_list names = {0};
  tn_arena_init(&arena);
  tn_status s = list(&arena, ck->path, &names);
  for (uint32_t i = 0; s == TN_OK && i < names.count; i++) {
    char *path = tn_path_join(&arena, ck->path, names.items[i]);
    if (!path)
      s = TN_OOM;
    else if (tn_path_is_dir(path))
      s = copy_inner(ck, &arena, names.items[i], to, diags);
    else
      s = copy_file(ck, names.items[i], to, diags);
  }
  tn_vec_fini(&names);
  tn_arena_fini(&arena);
  return s == TN_OOM || s == TN_UNAVAILABLE ? tn_fail(diags, s, ck->path, NULL, "its files cannot be copied")
                                            : s;
}

static void newline(tn_buf *out, uint32_t indent) {
  tn_buf_puts(out, "\n");
  for (uint32_t i = 0; i < indent; i++) tn_buf_puts(out, "  ");
}

/* With as few digits as give the same number. */
static void put_real(tn_buf *out, double x) {
  char text[40];
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, x);
    if (strtod(text, NULL) == x) break;
  }
  tn_buf_puts(out, text);
  if (!strpbrk(text, ".e")) tn_buf_puts(out, ".0");
}

void ck_json_pretty(tn_buf *out, const tn_json *node, uint32_t indent) {
  bool object = node->kind == TN_JSON_OBJECT, flat = true;
  if (node->kind == TN_JSON_REAL && isfinite(node->u.r)) {
    put_real(out, node->u.r);
    return;
  }
  if ((node->kind != TN_JSON_LIST && !object) || !node->count) {
    tn_json_write(out, node);
    return;
  }
  for (uint32_t i = 0; i < node->count; i++)
    flat &= !object && node->u.items[i].kind != TN_JSON_LIST && node->u.items[i].kind != TN_JSON_OBJECT;
  tn_buf_puts(out, object ? "{" : "[");
  for (uint32_t i = 0; i < node->count; i++) {
    if (i) tn_buf_puts(out, flat ? ", " : ",");
    if (!flat) newline(out, indent + 1);
    if (object) {
      tn_buf_json(out, tn_str_of(node->u.items[i].key));
      tn_buf_puts(out, ": ");
    }
    ck_json_pretty(out, &node->u.items[i], indent + 1);
  }
  if (!flat) newline(out, indent);
  tn_buf_puts(out, object ? "}" : "]");
}
