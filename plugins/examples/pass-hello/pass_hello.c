/* pass_hello.c - the smallest useful pass plugin: it reports how many ops of one kind a function has.
 *
 *   tenon opt model.tir --plugin pass-hello.so --passes="hello{op=matmul}" */
#include "tenon/ir.h"
#include <stdio.h>

typedef struct hello {
  tn_host host; /* a copy: what is passed in is valid during the call only */
} hello;
static hello instance; /* one host per process; init fills it in */

static tn_status run(void *self, tn_module *m, tn_func f, const tn_options *o) {
  const tn_host *host = &((hello *)self)->host;
  const tn_ir *ir = host->ir;
  const char *wanted = host->option(o, "op");
  uint32_t code = ir->opcode_by_name(wanted ? wanted : "matmul");
  if (!code) {
    ir->report(m, TN_ERROR, 0, "hello: there is no op '%s'", wanted);
    return TN_INVALID;
  }
  unsigned count = 0;
  for (tn_op op = ir->first_op(m, f, 0); op; op = ir->next_op(m, op)) count += ir->opcode(m, op) == code;
  tn_func_info info;
  ir->func_get(m, f, &info);
  ir->report(m, TN_NOTE, 0, "hello from @%s: %u %s", info.name, count, ir->opcode_name(code));
  return TN_OK;
}

static const tn_pass pass = {sizeof pass,      0,  "hello", "counts the ops of one kind", NULL,
                             "op:text=matmul", run};

static tn_status init(const tn_host *host, void **self) {
  tn_take(&instance.host, sizeof instance.host, host);
  if (!instance.host.ir || !instance.host.option) return TN_PRECONDITION;
  *self = &instance;
  return TN_OK;
}

static const void *table(void *self, const char *kind, uint32_t index) {
  (void)self;
  return !strcmp(kind, "tn.pass/1") && index == 0 ? &pass : NULL;
}

static const tn_plugin plugin = {
    sizeof plugin, TN_ABI, "org.example.pass-hello", "1.0", "counts ops", 0, init, NULL, table};

TN_PLUGIN_ENTRY(pass_hello) {
  if (host_abi >> 16 != TN_ABI_MAJOR) {
    *why = "made for tenon ABI 0";
    return NULL;
  }
  return &plugin;
}
