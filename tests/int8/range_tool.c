/* range_tool.c - the numbers of passes/quantize/range.h for a script: reads f32 from stdin in chunks of
 * argv[1] numbers, prints low, high, scale, zero for each way to choose: METHOD SYMMETRIC PERCENTILE. */
#include "passes/quantize/range.h"
#include <stdlib.h>

int main(int argc, char **argv) {
  static tn_range r;
  static float x[1 << 16];
  size_t chunk = argc > 1 ? (size_t)atoi(argv[1]) : 0, n;
  if (!chunk || chunk > TN_COUNT(x)) return 2;
  while ((n = fread(x, sizeof *x, chunk, stdin)))
    if (tn_range_add(&r, x, n) != TN_OK) return puts("not finite") < 0;
  for (int i = 2; i + 2 < argc; i += 3) {
    tn_range_choice c = {.symmetric = atoi(argv[i + 1]) != 0, .percentile = atof(argv[i + 2])};
    float low, high, scale;
    int32_t zero;
    if (!tn_range_method_named(argv[i], &c.method)) return 2;
    tn_range_choose(&r, &c, &low, &high);
    tn_range_step(low, high, c.symmetric, &scale, &zero);
    printf("%.9g %.9g %.9g %d\n", (double)low, (double)high, (double)scale, (int)zero);
  }
  return 0;
}
