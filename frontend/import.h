/* import.h - what the frontends share: the model pages that the options name, messages on their way to the
 * host, metadata of the module. */
#ifndef TN_IMPORT_H
#define TN_IMPORT_H
#include "frontend/describe/describe.h"
#include "tenon/plugin.h"

/* init and fini of a plugin whose `self` is its copy of the host. */
tn_status tn_import_start(const tn_host *host, void **self);
void tn_import_stop(void *self);

/* All pages, with those of the options "page-folders" and "page" (paths, ':' between). */
tn_status tn_import_pages(const tn_host *host, const tn_options *options, tn_diags *diags, tn_page_set **out);
/* The same, given the lists themselves; NULL: none. */
tn_status tn_import_pages_named(const char *folders, const char *pages, tn_diags *diags, tn_page_set **out);
/* Builds the graphs of run->page, with what the options "kv" and "adapters" ask for. */
tn_status tn_import_build(const tn_host *host, const tn_options *options, tn_page_run *run);
/* Hands an import's messages to the host. */
void tn_import_forward(const tn_host *host, tn_module *m, const tn_diags *diags);

/* Sets a key of the module's metadata unless it is there; NULL: nothing to set. */
tn_status tn_import_meta(const tn_ir *ir, tn_module *m, const char *key, const char *value);
/* Names a module without name: `source` as a C identifier, since it becomes a part of the artefact's symbols.
 */
tn_status tn_import_name(const tn_ir *ir, tn_module *m, const char *source);
#endif
