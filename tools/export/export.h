/* export.h - formats that tenon export writes without building a graph. */
#ifndef TN_EXPORT_H
#define TN_EXPORT_H
#include "tools/tool.h"

/* export gguf|safetensors MODEL OUT: exit status. */
int tn_export_checkpoint(const tn_args *a);
#endif
