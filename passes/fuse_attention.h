/* fuse_attention.h - one match of the pass fuse-attention, which fuse_attention.c and fuse_attention_mask.c
 * fill in. */
#ifndef TN_FUSE_ATTENTION_H
#define TN_FUSE_ATTENTION_H
#include "passes/affine.h"

#define TN_ATTENTION_PARTS 8
typedef struct tn_attention {
  tn_module *m;
  tn_op last;            /* the matmul with v */
  tn_value q, k, v;      /* [b, h, s, d], or [b * h, s, d] until they are split */
  tn_dim b, h, s, t;     /* b and h 0: not known yet */
  double scale, softcap; /* softcap 0: none */
  bool trans_b;          /* k is [.., t, d]; else [.., d, t] */
  bool causal;
  int64_t window, ahead; /* how far a query sees back and ahead; 0: all */
  tn_value window_cond, ahead_cond;
  bool window_not, ahead_not;
  tn_value masks[TN_ATTENTION_PARTS], biases[TN_ATTENTION_PARTS]; /* all of them hold */
  bool negated[TN_ATTENTION_PARTS];                               /* masks: true where nothing is seen */
  uint32_t nmasks, nbiases;
  tn_loc loc;
  const char *why; /* the near miss */
  tn_op blocker;   /* the op that does not fit */
} tn_attention;

/* Notes the near miss; gives false. */
bool tn_attention_miss(tn_attention *a, tn_op blocker, const char *why);
/* A lowest finite number or minus infinity of its type: what stands where nothing is to be seen. */
bool tn_attention_very_negative(tn_module *m, tn_value v);
/* Sorts a condition under which keys are seen (negate: not seen) into causality, windows and masks. */
bool tn_attention_add_mask(tn_attention *a, tn_value cond, bool negate);
/* The same for what is added to the scores: masks in additive form, and the rest. */
bool tn_attention_add_bias(tn_attention *a, tn_value bias);
/* Builds the mask and bias operands at `at`; 0: none. False: no memory, or shapes that do not fit. */
bool tn_attention_operands(tn_attention *a, tn_point at, tn_value *mask, tn_value *bias);

/* ---- fuse_attention.c ---- */
/* v [b, h, s, d] with its axes in another order, in front of a->last. */
tn_value tn_attention_transposed(tn_attention *a, tn_value v, int64_t p0, int64_t p1, int64_t p2, int64_t p3);
/* From keys or values repeated for the heads of a group to those that were repeated. *turned (or NULL: they
 * may not) flips when the last two axes swap on the way. */
bool tn_attention_peel_repeat(tn_attention *a, tn_value *v, bool *turned);
/* Keys and values, [b, t, h, d], that are the first rows of longer tensors become those; how many rows, 0:
 * all. */
tn_dim tn_attention_first_rows(tn_attention *a, tn_value kv[2]);

/* ---- fuse_attention_again.c ---- */
/* The same for an attention op that the model had already: repeated heads, first rows, masks of positions. */
tn_status tn_attention_refine(tn_module *m, tn_op op);
#endif
