/* tuning.h - numbers that were measured to suit a kernel (a tuning file), by the kernel's text. The host
 * reads the file and passes what it says of one target as lines: "KEY rows=112 depth=512". */
#ifndef TN_CPU_TUNING_H
#define TN_CPU_TUNING_H
#include "backends/cpu/kernel.h"
#include "backends/cpu/plugin.h"

typedef struct tn_cpu_tuning {
  tn_map keys; /* to a position in `rows` */
  TN_VEC(tn_cpu_choice) rows;
} tn_cpu_tuning;

/* `text` NULL: empty. What is wrong is reported. */
tn_status tn_cpu_tuning_read(tn_cpu *c, tn_module *m, const char *text, tn_cpu_tuning *out);
void tn_cpu_tuning_fini(tn_cpu_tuning *t);
/* All zeros: nothing was measured. */
tn_cpu_choice tn_cpu_tuning_of(const tn_cpu_tuning *t, const char *key);

enum { TN_CPU_TUNING_KEY = 17 };
/* The key of a kernel text at a precision, as hexadecimal digits. */
void tn_cpu_tuning_key(tn_str text, tn_cpu_precision precision, char key[TN_CPU_TUNING_KEY]);
/* What may be tuned in kernels with this root, with values worth a try: "rows=28,56 depth=512"; NULL:
 * nothing. */
const char *tn_cpu_tuning_choices(const char *root);

#endif
