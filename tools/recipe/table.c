/* table.c - what became of a recipe, as a table and as JSON. The order is that of the recipe, and no times
 * are in it: the same results print the same bytes, however many jobs ran at a time. */
#include "tools/recipe/recipe.h"

static const char *const words[TN_JOB_STATUSES] = {[TN_JOB_WAITING] = "waiting", [TN_JOB_RUNNING] = "running",
                                                   [TN_JOB_DONE] = "done",       [TN_JOB_KEPT] = "kept",
                                                   [TN_JOB_BELOW] = "below",     [TN_JOB_FAILED] = "failed",
                                                   [TN_JOB_SKIPPED] = "skipped"};

const char *tn_job_word(tn_job_status s) { return words[s]; }

/* The last line that says "error:", or the last line; without the line end. */
static tn_str last_error(tn_str text) {
  tn_str best = {NULL, 0};
  bool error = false;
  while (text.len) {
    const char *end = memchr(text.ptr, '\n', text.len);
    tn_str line = {text.ptr, end ? (uint64_t)(end - text.ptr) : text.len};
    bool is = memmem(line.ptr, line.len, "error:", 6) != NULL;
    if (line.len && (is || !error)) best = line, error |= is;
    text.ptr += line.len + (end != NULL), text.len -= line.len + (end != NULL);
  }
  return best;
}

/* With --json commands say what is wrong as {"messages": [...]}: the first error of them. False: no such. */
static bool put_message(tn_buf *b, tn_str text) {
  tn_arena a;
  tn_diags ignored;
  tn_json *root = NULL;
  const tn_json *list = NULL;
  bool found = false;
  tn_arena_init(&a);
  tn_diags_init(&ignored);
  if (text.len && tn_json_parse(&a, text, "", &ignored, &root) == TN_OK) list = tn_json_get(root, "messages");
  for (uint32_t i = 0; list && list->kind == TN_JSON_LIST && i < list->count && !found; i++) {
    const tn_json *m = &list->u.items[i], *severity = tn_json_get(m, "severity");
    found = severity && severity->kind == TN_JSON_STRING && tn_str_is(severity->u.s, "error");
    static const char *const keys[] = {"file", "where", "text"};
    for (size_t k = 0; found && k < TN_COUNT(keys); k++) {
      const tn_json *v = tn_json_get(m, keys[k]);
      if (v && v->kind == TN_JSON_STRING) tn_buf_printf(b, ": %.*s", (int)v->u.s.len, v->u.s.ptr);
    }
  }
  tn_diags_fini(&ignored);
  tn_arena_fini(&a);
  return found;
}

static void put_failure(tn_buf *b, const tn_job *j) {
  tn_file f;
  tn_buf_printf(b, j->exit >= 128 ? "signal %d" : "exit %d", j->exit >= 128 ? j->exit - 128 : j->exit);
  if (tn_file_map(&f, j->stderr_path, NULL) != TN_OK) return;
  tn_str text = {(const char *)f.data, f.size}, line = {NULL, 0};
  if (!put_message(b, text)) line = last_error(text);
  if (line.len) tn_buf_printf(b, ": %.*s", (int)(line.len > 300 ? 300 : line.len), line.ptr);
  tn_file_unmap(&f);
}

/* "path": value pairs without their quotes. */
static void put_shown(tn_buf *b, const tn_job *j) {
  for (uint64_t i = 0; i < j->shown.len; i++)
    if (j->shown.text[i] != '"') tn_buf_put(b, &j->shown.text[i], 1);
}

static void put_note(tn_buf *b, const tn_job *j) {
  if (j->status == TN_JOB_FAILED) put_failure(b, j);
  for (uint32_t i = 0; j->status == TN_JOB_SKIPPED && i < j->needs.count; i++)
    tn_buf_printf(b, "%s", i ? "" : "what it needs failed");
  if (j->status != TN_JOB_FAILED && j->status != TN_JOB_SKIPPED) put_shown(b, j);
}

/* Lines of limits stand below the job. */
static void print_broken(const tn_job *j) {
  tn_str rest = {j->broken.text, j->broken.len};
  while (rest.len) {
    const char *end = memchr(rest.ptr, '\n', rest.len);
    uint64_t n = end ? (uint64_t)(end - rest.ptr) : rest.len;
    printf("  %s: %.*s\n", j->name, (int)n, rest.ptr);
    rest.ptr += n + (end != NULL), rest.len -= n + (end != NULL);
  }
}

static void count(const tn_jobs *jobs, uint32_t out[TN_JOB_STATUSES]) {
  memset(out, 0, TN_JOB_STATUSES * sizeof *out);
  for (uint32_t i = 0; i < jobs->count; i++) out[jobs->items[i].status]++;
}

void tn_recipe_print(const tn_recipe *r, const tn_jobs *jobs) {
  int width[2] = {5, 4};
  uint32_t counts[TN_JOB_STATUSES];
  for (uint32_t i = 0; i < jobs->count; i++) {
    const char *names[2] = {jobs->items[i].owner, jobs->items[i].step->name};
    for (int k = 0; k < 2; k++)
      if ((int)strlen(names[k]) > width[k]) width[k] = (int)strlen(names[k]);
  }
  printf("%-*s  %-*s  %-7s\n", width[0], "model", width[1], "step", "result");
  for (uint32_t i = 0; i < jobs->count; i++) {
    const tn_job *j = &jobs->items[i];
    tn_buf note = {0};
    put_note(&note, j);
    printf("%-*s  %-*s  %-7s%s%s\n", width[0], j->owner, width[1], j->step->name, words[j->status],
           note.len ? "  " : "", tn_buf_cstr(&note));
    tn_buf_fini(&note);
  }
  count(jobs, counts);
  printf("%s: %u done, %u kept, %u below a limit, %u failed, %u skipped\n", r->name, counts[TN_JOB_DONE],
         counts[TN_JOB_KEPT], counts[TN_JOB_BELOW], counts[TN_JOB_FAILED], counts[TN_JOB_SKIPPED]);
  for (uint32_t i = 0; i < jobs->count; i++) print_broken(&jobs->items[i]);
}

static void put_job(tn_buf *b, const tn_job *j) {
  tn_buf_puts(b, "{\"model\": ");
  tn_buf_json(b, tn_str_of(j->owner));
  tn_buf_puts(b, ", \"step\": ");
  tn_buf_json(b, tn_str_of(j->step->name));
  tn_buf_printf(b, ", \"result\": \"%s\", \"exit\": %d, \"command\": [", words[j->status], j->exit);
  for (uint32_t i = 0; i + 1 < j->argv.count; i++) {
    tn_buf_puts(b, i ? ", " : "");
    tn_buf_json(b, tn_str_of(j->argv.items[i]));
  }
  tn_buf_puts(b, "], \"out\": ");
  if (j->out)
    tn_buf_json(b, tn_str_of(j->out));
  else
    tn_buf_puts(b, "null");
  tn_buf_printf(b, ", \"values\": {%s}, \"broken\": [%s]}", j->shown.len ? j->shown.text : "",
                j->broken_json.len ? j->broken_json.text : "");
}

void tn_recipe_json(const tn_recipe *r, const tn_jobs *jobs, tn_buf *out) {
  uint32_t counts[TN_JOB_STATUSES];
  count(jobs, counts);
  tn_buf_puts(out, "{\"recipe\": ");
  tn_buf_json(out, tn_str_of(r->name));
  tn_buf_printf(out, ", \"ok\": %s",
                counts[TN_JOB_BELOW] + counts[TN_JOB_FAILED] + counts[TN_JOB_SKIPPED] ? "false" : "true");
  for (int i = TN_JOB_DONE; i < TN_JOB_STATUSES; i++) tn_buf_printf(out, ", \"%s\": %u", words[i], counts[i]);
  tn_buf_puts(out, ",\n \"jobs\": [");
  for (uint32_t i = 0; i < jobs->count; i++) {
    tn_buf_puts(out, i ? ",\n  " : "\n  ");
    put_job(out, &jobs->items[i]);
  }
  tn_buf_puts(out, "]}\n");
}
