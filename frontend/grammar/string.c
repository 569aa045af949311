/* string.c - strings: lengths, patterns, formats. */
#include "frontend/grammar/gen.h"

#define MONTH_DAY                                                                                            \
  "(((\"01\" | \"03\" | \"05\" | \"07\" | \"08\" | \"10\" | \"12\") \"-\" (\"0\" [1-9] | [12] [0-9] | "      \
  "\"3\" [01]))"                                                                                             \
  " | ((\"04\" | \"06\" | \"09\" | \"11\") \"-\" (\"0\" [1-9] | [12] [0-9] | \"30\"))"                       \
  " | (\"02-\" (\"0\" [1-9] | \"1\" [0-9] | \"2\" [0-8])))"
#define DATE "(([1-9] [0-9]{3}) \"-\" " MONTH_DAY ")"
#define CLOCK "(([01] [0-9] | \"2\" [0-3]) \":\" [0-5] [0-9] \":\" [0-5] [0-9] (\".\" [0-9]{1,6})?)"
#define ZONE "(\"Z\" | [-+] ([01] [0-9] | \"2\" [0-3]) \":\" [0-5] [0-9])"
#define BYTE "(\"25\" [0-5] | \"2\" [0-4] [0-9] | \"1\" [0-9] [0-9] | [1-9]? [0-9])"
#define LABEL "([a-z0-9] ([a-z0-9-]{0,61} [a-z0-9])?)"
#define HOST "(" LABEL " (\".\" " LABEL "){0,3})"

/* RFC 3339, RFC 4122, RFC 2673, RFC 1123, RFC 4291 (full form), RFC 5322 (plain addresses), RFC 3986 (http);
 * no 29th of February. */
static const struct {
  const char *name, *body;
  uint32_t least, most; /* characters */
} formats[] = {
    {"date", DATE, 10, 10},
    {"time", "(" CLOCK " " ZONE ")", 9, 21},
    {"date-time", "(" DATE " \"T\" " CLOCK " " ZONE ")", 20, 32},
    {"duration",
     "(\"P\" [1-9] [0-9]{0,2} [DMY] (\"T\" [1-9] [0-9]{0,2} [HMS])? | \"PT\" [1-9] [0-9]{0,2} [HMS])", 3, 10},
    {"uuid", "([0-9a-f]{8} \"-\" [0-9a-f]{4} \"-\" [0-9a-f]{4} \"-\" [0-9a-f]{4} \"-\" [0-9a-f]{12})", 36,
     36},
    {"ipv4", "(" BYTE " (\".\" " BYTE "){3})", 7, 15},
    {"ipv6", "([0-9a-f]{1,4} (\":\" [0-9a-f]{1,4}){7})", 15, 39},
    {"hostname", HOST, 1, 255},
    {"email", "([a-z0-9] [a-z0-9_+-]{0,30} (\".\" [a-z0-9_+-]{1,16}){0,2} \"@\" " HOST ")", 3, 322},
    {"uri", "(\"http\" \"s\"? \"://\" " HOST " (\"/\" [a-zA-Z0-9._~-]{0,40}){0,6})", 8, 520},
};

static tn_status check_length(tn_schema_gen *g, tn_json *s, const char *what, uint32_t least, uint32_t most,
                              uint32_t min, uint32_t max) {
  if (least < min) return tn_schema_refuse(g, "minLength", what);
  if (most > max) return tn_schema_refuse(g, "maxLength", what);
  (void)s;
  return TN_OK;
}

static tn_status by_format(tn_schema_gen *g, tn_json *s, const tn_json *format, uint32_t min, uint32_t max,
                           tn_buf *e) {
  const char *names[TN_COUNT(formats)];
  if (tn_json_get(s, "pattern")) return tn_schema_refuse(g, "pattern", "beside 'format'");
  for (size_t i = 0; i < TN_COUNT(formats); i++) {
    names[i] = formats[i].name;
    if (format->kind != TN_JSON_STRING || !tn_str_is(format->u.s, names[i])) continue;
    TN_TRY(check_length(g, s, "beside this 'format'", formats[i].least, formats[i].most, min, max));
    tn_buf_printf(e, "\"\\\"\" %s \"\\\"\"", formats[i].body);
    return TN_OK;
  }
  tn_buf text = {0};
  tn_json_write(&text, format);
  tn_status status = tn_schema_refuse(g, "format", tn_buf_cstr(&text));
  tn_buf_fini(&text);
  return status;
}

static tn_status by_pattern(tn_schema_gen *g, tn_json *s, const tn_json *pattern, uint32_t min, uint32_t max,
                            tn_buf *e) {
  uint32_t least, most;
  if (pattern->kind != TN_JSON_STRING)
    return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'pattern' is %s, expected a string",
                   tn_json_kind_name(pattern->kind));
  tn_buf_puts(e, "\"\\\"\" ");
  TN_TRY(tn_schema_pattern(g, pattern->u.s, e, &least, &most));
  tn_buf_puts(e, " \"\\\"\"");
  return check_length(g, s, "beside a 'pattern' that does not keep to it", least, most, min, max);
}

tn_status tn_schema_string(tn_schema_gen *g, tn_json *s, tn_buf *e) {
  tn_json *pattern = tn_json_get(s, "pattern"), *format = tn_json_get(s, "format");
  uint32_t min, max;
  tn_buf b = {0};
  TN_TRY(tn_schema_count(g, s, "minLength", 0, &min));
  TN_TRY(tn_schema_count(g, s, "maxLength", UINT32_MAX, &max));
  if (min > max)
    return tn_fail(g->diags, TN_INVALID, g->name, NULL, "'minLength' is %u, 'maxLength' %u", min, max);
  if (!pattern && !format && !min && max == UINT32_MAX) return tn_schema_common(g, e, "string"), TN_OK;
  tn_status status = TN_OK;
  if (format) {
    status = by_format(g, s, format, min, max, &b);
  } else if (pattern) {
    status = by_pattern(g, s, pattern, min, max, &b);
  } else {
    tn_buf_puts(&b, "\"\\\"\" ");
    tn_schema_characters(g, &b, min, max);
    tn_buf_puts(&b, " \"\\\"\"");
  }
  if (!status) status = tn_schema_rule(g, &b, e);
  tn_buf_fini(&b);
  return status;
}
