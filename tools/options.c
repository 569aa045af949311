/* options.c - the command line: one table of options, one of commands; help texts come from the tables. A
 * wrong word gives one line with the nearest match and exit status 2. */
#include "tools/tool.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct option_row {
  const char *name;
  char letter;
  const char *arg, *help;
} option_row;
static const option_row options[OPT_COUNT] = {
#define TN_OPTION(id, name, letter, arg, help) {name, letter, arg, help},
#include "tools/options.def"
#undef TN_OPTION
};

static const tn_command *const commands[] = {
    &tn_cmd_compile,  &tn_cmd_run,      &tn_cmd_chat,    &tn_cmd_bench,      &tn_cmd_perplexity,
    &tn_cmd_grammar,  &tn_cmd_verify,   &tn_cmd_check,   &tn_cmd_inspect,    &tn_cmd_opt,
    &tn_cmd_models,   &tn_cmd_ops,      &tn_cmd_formats, &tn_cmd_plugins,    &tn_cmd_export,
    &tn_cmd_optimize, &tn_cmd_quantize, &tn_cmd_imatrix, &tn_cmd_run_recipe, &tn_cmd_conform,
    &tn_cmd_devices};

/* The argument may be left out: it is given as --name=ARGUMENT only. */
static bool is_optional(const option_row *o) { return o->arg && o->arg[0] == '['; }

static void print_help(void) {
  puts("tenon compiles transformer models: a Hugging Face folder or a GGUF file goes in, a shared library "
       "with a plain C header comes out.\n");
  puts("usage: tenon COMMAND ... (tenon COMMAND --help says more)\n");
  for (size_t i = 0; i < TN_COUNT(commands); i++)
    printf("  %-9s %s\n", commands[i]->name, commands[i]->summary);
}

static void print_command_help(const tn_command *c) {
  printf("%s\n\nusage: tenon %s %s\n", c->summary, c->name, c->usage);
  if (c->details) printf("\n%s\n", c->details);
  puts("");
  for (uint32_t i = 0; i < c->noptions; i++) {
    const option_row *o = &options[c->options[i]];
    char left[64];
    if (o->letter)
      snprintf(left, sizeof left, "-%c, --%s%s%s", o->letter, o->name, o->arg ? " " : "",
               o->arg ? o->arg : "");
    else if (o->name[0] == 'O')
      snprintf(left, sizeof left, "    -%s", o->name);
    else
      snprintf(left, sizeof left, "    --%s%s%s", o->name, o->arg && !is_optional(o) ? " " : "",
               o->arg ? o->arg : "");
    printf("  %-30s %s\n", left, o->help);
  }
}

static int usage_error(const char *fmt, const char *what, const char *near) {
  fputs("tenon: ", stderr);
  fprintf(stderr, fmt, what);
  if (near) fprintf(stderr, "; did you mean '%s'?", near);
  fputc('\n', stderr);
  return 2;
}

static int wrong_option(const tn_command *c, const char *word) {
  char text[64];
  const char *names[OPT_COUNT];
  for (uint32_t i = 0; i < c->noptions; i++) names[i] = options[c->options[i]].name;
  snprintf(text, sizeof text, "%s", word + strspn(word, "-"));
  text[strcspn(text, "=")] = 0;
  int near = tn_str_nearest(text, names, (int)c->noptions);
  char hint[72];
  if (near >= 0) snprintf(hint, sizeof hint, "--%s", names[near]);
  return usage_error("unknown option '%s'", word, near >= 0 ? hint : NULL);
}

/* The option that `word` names among the command's, -1 if none; *value: after '=' or glued to the letter,
 * else NULL. */
static int match_option(const tn_command *c, const char *word, const char **value) {
  *value = NULL;
  for (uint32_t i = 0; i < c->noptions; i++) {
    const option_row *o = &options[c->options[i]];
    size_t n = strlen(o->name);
    const char *text = word[1] == '-' ? word + 2 : o->name[0] == 'O' ? word + 1 : NULL;
    if (text && !strncmp(text, o->name, n) && (!text[n] || (text[n] == '=' && o->arg))) {
      if (text[n]) *value = text + n + 1;
      return c->options[i];
    }
    if (word[1] != '-' && o->letter && word[1] == o->letter && (!word[2] || o->arg)) {
      if (word[2]) *value = word + 2;
      return c->options[i];
    }
  }
  return -1;
}

static int parse(const tn_command *c, int argc, char **argv, tn_args *a, const char **positional) {
  bool only_words = false;
  for (int i = 0; i < argc; i++) {
    const char *word = argv[i], *value;
    if (!only_words && !strcmp(word, "--")) {
      only_words = true;
      continue;
    }
    if (only_words || word[0] != '-' || !word[1]) {
      positional[a->npositional++] = word;
      continue;
    }
    int o = match_option(c, word, &value);
    if (o < 0) return wrong_option(c, word);
    if (options[o].arg && !value && !is_optional(&options[o])) {
      if (++i >= argc) return usage_error("option '%s' needs an argument", word, NULL);
      value = argv[i];
    }
    a->given[o]++;
    a->last[o] = value;
    a->all[a->nall].option = (uint32_t)o;
    a->all[a->nall++].value = value;
  }
  return 0;
}

static int run_command(const tn_command *c, int argc, char **argv) {
  const char **positional = calloc((size_t)argc + 1, sizeof *positional);
  tn_args a = {.positional = positional, .all = calloc((size_t)argc + 1, sizeof *a.all)};
  int rc = !positional || !a.all ? 1 : parse(c, argc, argv, &a, positional);
  if (rc == 0 && a.given[OPT_help])
    print_command_help(c);
  else if (rc == 0 && (a.npositional < c->min_positional || a.npositional > c->max_positional))
    rc = usage_error(a.npositional < c->min_positional ? "too few arguments; usage: tenon %s"
                                                       : "too many arguments; usage: tenon %s",
                     c->usage, NULL);
  else if (rc == 0)
    rc = c->run(&a);
  free(a.all);
  free(positional);
  return rc;
}

int tn_tool_main(int argc, char **argv) {
  if (argc < 2) return print_help(), 2;
  const char *word = argv[1];
  if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) return print_help(), 0;
  if (!strcmp(word, "--version")) return puts("tenon 0.1.0"), 0;
  const char *names[TN_COUNT(commands)];
  for (size_t i = 0; i < TN_COUNT(commands); i++) {
    names[i] = commands[i]->name;
    if (!strcmp(word, names[i])) {
      int rc = run_command(commands[i], argc - 2, argv + 2);
      return fflush(stdout) && rc == 0 ? 1 : rc;
    }
  }
  int near = tn_str_nearest(word, names, (int)TN_COUNT(commands));
  return usage_error("unknown command '%s'", word, near >= 0 ? names[near] : NULL);
}

/* ---- reading arguments
 * ------------------------------------------------------------------------------------------ */

const char *tn_option_name(uint32_t option) { return options[option].name; }

const char *tn_args_nth(const tn_args *a, uint32_t option, uint32_t i) {
  for (uint32_t k = 0; k < a->nall; k++)
    if (a->all[k].option == option && i-- == 0) return a->all[k].value;
  return NULL;
}

static void bad_number(uint32_t option, const char *text, bool *bad) {
  fprintf(stderr, "tenon: --%s: '%s' is not a number\n", options[option].name, text);
  *bad = true;
}

int64_t tn_args_int(const tn_args *a, uint32_t option, int64_t fallback, bool *bad) {
  const char *s = a->last[option];
  if (!s) return fallback;
  char *end;
  errno = 0;
  long long v = strtoll(s, &end, 10);
  if (errno || end == s || *end || v < 0) return bad_number(option, s, bad), fallback;
  return v;
}

double tn_args_real(const tn_args *a, uint32_t option, double fallback, bool *bad) {
  const char *s = a->last[option];
  if (!s) return fallback;
  char *end;
  double v = strtod(s, &end);
  if (end == s || *end || !(v >= 0)) return bad_number(option, s, bad), fallback;
  return v;
}

uint32_t tn_args_list(const tn_args *a, uint32_t option, const char *fallback, int64_t *out, uint32_t room) {
  const char *s = a->last[option] ? a->last[option] : fallback, *at = s;
  uint32_t n = 0;
  bool bad = false;
  while (*at && !bad) {
    char *end;
    errno = 0;
    long long v = strtoll(at, &end, 10);
    if (errno || end == at || (*end && *end != ',') || n == room)
      bad_number(option, s, &bad);
    else
      out[n++] = v, at = *end ? end + 1 : end;
  }
  return bad ? 0 : n;
}

uint32_t tn_args_cores(const tn_args *a, uint32_t *out, uint32_t room, bool *bad) {
  const char *s = a->last[OPT_affinity];
  uint32_t n = 0;
  for (const char *at = s; at && *at;) {
    char *end;
    unsigned long from = strtoul(at, &end, 10), to = from;
    bool ok = end != at;
    if (ok && *end == '-') at = end + 1, to = strtoul(at, &end, 10), ok = end != at;
    if (!ok || (*end && *end != ',') || to < from || to > UINT16_MAX || to - from >= room - n)
      return bad_number(OPT_affinity, s, bad), 0;
    while (from <= to) out[n++] = (uint32_t)from++;
    at = *end ? end + 1 : end;
  }
  return n;
}

/* All values of a repeated option, `between` between; NULL: not given. */
static const char *joined(const tn_args *a, tn_arena *arena, uint8_t option, const char *between) {
  tn_buf list = {0};
  for (uint32_t i = 0; tn_args_nth(a, option, i); i++)
    tn_buf_printf(&list, "%s%s", i ? between : "", tn_args_nth(a, option, i));
  const char *text = list.len ? tn_arena_str(arena, (tn_str){list.text, list.len}) : NULL;
  tn_buf_fini(&list);
  return text;
}

void tn_args_driver(const tn_args *a, tn_arena *arena, tn_driver_options *o) {
  *o = (tn_driver_options){.backend = a->last[OPT_backend],
                           .isa = a->last[OPT_isa],
                           .target = a->last[OPT_target],
                           .require_target = a->given[OPT_require_target],
                           .task = a->last[OPT_task],
                           .progress = !a->given[OPT_json]};
  static const struct {
    uint8_t option;
    const char *level;
  } levels[] = {{OPT_O0, "O0"}, {OPT_O1, "O1"}, {OPT_O2, "O2"}, {OPT_O3, "O3"}};
  for (size_t i = 0; i < TN_COUNT(levels); i++)
    if (a->given[levels[i].option]) o->pipeline = levels[i].level;
  o->device = a->last[OPT_device];
  if (o->device && !o->target && !o->backend) /* "cuda:1" needs kernels for cuda */
    o->target = tn_arena_str(arena, (tn_str){o->device, strcspn(o->device, ":")});
  if (a->last[OPT_passes]) o->pipeline = a->last[OPT_passes];
  const char **plugins = tn_arena_alloc(arena, (a->nall + 1) * sizeof *plugins);
  for (const char *p; plugins && (p = tn_args_nth(a, OPT_plugin, o->nplugins)); o->nplugins++)
    plugins[o->nplugins] = p;
  o->plugins = plugins;
  o->pages = joined(a, arena, OPT_page, ":");
  o->adapters = joined(a, arena, OPT_adapter, ":");
  o->adapter_mode = a->last[OPT_adapter_mode];
  o->kv = a->last[OPT_kv];
  o->precision = a->last[OPT_precision];
  o->quantize = a->last[OPT_quantize];
  o->no_cache = a->given[OPT_no_cache];
  o->tuning = a->last[OPT_tuning];
  o->shapes = a->last[OPT_shapes];
  o->fix = joined(a, arena, OPT_fix, ";");
}

int tn_tool_finish(const tn_args *a, tn_diags *d, tn_status s) {
  bool failed = s != TN_OK || d->errors;
  if (failed && !d->errors)
    tn_diags_add(d, TN_ERROR, NULL, 0, 0, NULL, s == TN_OOM ? "out of memory" : "failed with status %d", s);
  tn_buf out = {0};
  if (a->given[OPT_json] && failed) {
    tn_diags_json(d, &out);
    tn_buf_puts(&out, "\n");
  } else {
    tn_diags_text(d, &out, isatty(STDERR_FILENO));
  }
  fputs(tn_buf_cstr(&out), stderr);
  tn_buf_fini(&out);
  return failed;
}
