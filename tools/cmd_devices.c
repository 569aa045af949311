/* cmd_devices.c - tenon devices: the devices that sessions can run on, as each backend with devices of its
 * own lists them. A backend that finds none says why; that is no error. */
#include "tools/tool.h"
#include <stdio.h>

typedef struct listing {
  bool json;
  uint32_t rows;
  tn_buf out;
} listing;

static void put(tn_buf *out, const char *key, const char *value, const char *end) {
  tn_buf_printf(out, "\"%s\": ", key);
  tn_buf_json(out, tn_str_of(value ? value : ""));
  tn_buf_puts(out, end);
}

static void put_device(void *user, const tn_device_info *d) {
  listing *l = user;
  if (!l->json) {
    tn_buf_printf(&l->out, "%-8s %s, %s, %.1f GiB\n         %s\n", d->spec, d->name, d->arch,
                  (double)d->memory * 0x1p-30, d->uuid);
    return;
  }
  tn_buf_puts(&l->out, l->rows++ ? ",\n {" : "{");
  put(&l->out, "device", d->spec, ", ");
  put(&l->out, "name", d->name, ", ");
  put(&l->out, "arch", d->arch, ", ");
  put(&l->out, "uuid", d->uuid, ", ");
  tn_buf_printf(&l->out, "\"memory\": %llu}", (unsigned long long)d->memory);
}

static void put_backend(listing *l, const tn_device_api *api) {
  char error[1024] = "";
  if (api->list(put_device, l, error, sizeof error) == TN_OK) return;
  if (!l->json) {
    tn_buf_printf(&l->out, "%s: %s\n", api->name, error);
    return;
  }
  tn_buf_puts(&l->out, l->rows++ ? ",\n {" : "{");
  put(&l->out, "backend", api->name, ", ");
  put(&l->out, "error", error, "}");
}

/* Every "backend:NAME" of what a plugin provides. */
static tn_status list_provided(tn_driver *d, const char *provides, listing *l) {
  static const char mark[] = "backend:";
  for (const char *p = provides; p && (p = strstr(p, mark));) {
    char name[64];
    tn_backend_ref ref;
    p += sizeof mark - 1;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(p, ", "), p);
    TN_TRY(tn_plugins_backend(d->plugins, name, &ref));
    const tn_device_api *api = ref.table.device ? ref.table.device(ref.self) : NULL;
    if (api && api->list) put_backend(l, api);
  }
  return TN_OK;
}

static tn_status list_devices(const tn_args *a, tn_driver *d, tn_module **m) {
  listing l = {.json = a->given[OPT_json]};
  tn_status s = TN_OK;
  (void)m;
  if (l.json) tn_buf_puts(&l.out, "[");
  for (uint32_t i = 0; i < tn_plugins_count(d->plugins) && s == TN_OK; i++) {
    tn_plugin_row r;
    tn_plugins_get(d->plugins, i, &r);
    s = list_provided(d, r.provides, &l);
  }
  if (l.json) tn_buf_puts(&l.out, "]\n");
  if (s == TN_OK && (l.out.failed || fputs(tn_buf_cstr(&l.out), stdout) < 0)) s = TN_UNAVAILABLE;
  tn_buf_fini(&l.out);
  return s;
}

static int run(const tn_args *a) { return tn_tool_with_driver(a, list_devices); }

static const uint8_t options[] = {OPT_plugin, OPT_json, OPT_help};
const tn_command tn_cmd_devices = {
    "devices",
    "list the devices that models can run on besides this machine's CPU",
    "[--plugin FILE]",
    "What is listed is what --device takes: cuda:1, or cuda: and the beginning of "
    "a UUID. Only devices that the driver shows are there (CUDA_VISIBLE_DEVICES).",
    options,
    TN_COUNT(options),
    0,
    0,
    run};
