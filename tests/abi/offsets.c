/* offsets.c - prints the size of every public struct and the offset of every field; abi.golden holds what they are. A
 * change here is a change of the ABI: append fields only, and raise TN_ABI_MINOR. */
#include "tenon/ir.h"
#include "tenon/model.h"
#include <stdio.h>

#define S(T) printf("%s %zu\n", #T, sizeof(T));
#define F(T, f) printf("  %s %zu\n", #f, offsetof(T, f));

int main(void) {
  printf("abi %u.%u\n", TN_ABI_MAJOR, TN_ABI_MINOR);
  S(tn_str) F(tn_str, ptr) F(tn_str, len)
  S(tn_writer) F(tn_writer, ctx) F(tn_writer, write)
  S(tn_reader) F(tn_reader, ctx) F(tn_reader, read)
  S(tn_diag) F(tn_diag, severity) F(tn_diag, loc) F(tn_diag, status) F(tn_diag, text)
  S(tn_host) F(tn_host, abi) F(tn_host, ctx) F(tn_host, alloc) F(tn_host, diag) F(tn_host, option) F(tn_host, extension) F(tn_host, ir)
  S(tn_target) F(tn_target, score) F(tn_target, name) F(tn_target, triple) F(tn_target, features) F(tn_target, flags)
  S(tn_kcall) F(tn_kcall, bufs) F(tn_kcall, dims) F(tn_kcall, scratch) F(tn_kcall, ctx) F(tn_kcall, thread) F(tn_kcall, nthreads) F(tn_kcall, tickets) F(tn_kcall, launch)
  S(tn_kernel_info) F(tn_kernel_info, op) F(tn_kernel_info, symbol) F(tn_kernel_info, dims) F(tn_kernel_info, ndims) F(tn_kernel_info, flags) F(tn_kernel_info, scratch) F(tn_kernel_info, key) F(tn_kernel_info, choices)
  S(tn_package_sink) F(tn_package_sink, ctx) F(tn_package_sink, image) F(tn_package_sink, kernel) F(tn_package_sink, phase)
  S(tn_backend) F(tn_backend, flags) F(tn_backend, name) F(tn_backend, targets) F(tn_backend, claim) F(tn_backend, fuse) F(tn_backend, layout) F(tn_backend, pack)
  F(tn_backend, compile) F(tn_backend, runs_here) F(tn_backend, load) F(tn_backend, kernel) F(tn_backend, unload)
  S(tn_pass) F(tn_pass, name) F(tn_pass, summary) F(tn_pass, point) F(tn_pass, options) F(tn_pass, run)
  S(tn_rules) F(tn_rules, name) F(tn_rules, text)
  S(tn_frontend) F(tn_frontend, name) F(tn_frontend, summary) F(tn_frontend, probe) F(tn_frontend, import)
  S(tn_plugin) F(tn_plugin, abi) F(tn_plugin, id) F(tn_plugin, version) F(tn_plugin, summary) F(tn_plugin, flags) F(tn_plugin, init) F(tn_plugin, fini) F(tn_plugin, table)
  S(tn_dtype_info) F(tn_dtype_info, bits) F(tn_dtype_info, block_bytes)
  S(tn_type_info) F(tn_type_info, rank) F(tn_type_info, dims) F(tn_type_info, layout)
  S(tn_dim_info) F(tn_dim_info, value) F(tn_dim_info, symbol) F(tn_dim_info, a) F(tn_dim_info, b)
  S(tn_value_info) F(tn_value_info, index) F(tn_value_info, type) F(tn_value_info, op) F(tn_value_info, nuses)
  S(tn_attr) F(tn_attr, count) F(tn_attr, u)
  S(tn_loc_info) F(tn_loc_info, line) F(tn_loc_info, name) F(tn_loc_info, a)
  S(tn_weight_info) F(tn_weight_info, type) F(tn_weight_info, parts) F(tn_weight_info, value)
  S(tn_func_info) F(tn_func_info, nargs) F(tn_func_info, args) F(tn_func_info, result_names)
  S(tn_point) S(tn_op_desc) F(tn_op_desc, operands) F(tn_op_desc, attrs) F(tn_op_desc, results) F(tn_op_desc, loc)
  S(tn_ir)
#define TN_X(ret, name, args) F(tn_ir, name)
  TN_IR_API(TN_X)
#undef TN_X
  S(tn_tensor) F(tn_tensor, dtype) F(tn_tensor, rank) F(tn_tensor, shape)
  S(tn_session_options) F(tn_session_options, threads) F(tn_session_options, batch) F(tn_session_options, capacity)
  S(tn_sampling) F(tn_sampling, max_tokens) F(tn_sampling, temperature) F(tn_sampling, top_p) F(tn_sampling, repetition_penalty) F(tn_sampling, top_k) F(tn_sampling, seed)
  F(tn_sampling, typical_p) F(tn_sampling, frequency_penalty) F(tn_sampling, penalty_last_n) F(tn_sampling, dry_multiplier) F(tn_sampling, dry_last_n)
  F(tn_sampling, dry_breakers) F(tn_sampling, ndry_breakers) F(tn_sampling, bias) F(tn_sampling, stop) F(tn_sampling, nstop) F(tn_sampling, logprobs)
  F(tn_sampling, grammar) F(tn_sampling, on_token) F(tn_sampling, result) F(tn_sampling, draft_tokens) F(tn_sampling, draft_ngram) F(tn_sampling, draft)
  S(tn_new_token) F(tn_new_token, sequence) F(tn_new_token, id) F(tn_new_token, finish) F(tn_new_token, text) F(tn_new_token, len) F(tn_new_token, logprob)
  F(tn_new_token, nalternatives) F(tn_new_token, alternatives)
  S(tn_generation) F(tn_generation, finish) F(tn_generation, prompt_tokens) F(tn_generation, drafted) F(tn_generation, masks) F(tn_generation, mask_seconds)
  S(tn_alternative) S(tn_logit_bias) S(tn_prompt)
  S(tn_model_api) F(tn_model_api, open) F(tn_model_api, session_new) F(tn_model_api, shapes) F(tn_model_api, invoke) F(tn_model_api, tokenize) F(tn_model_api, generate) F(tn_model_api, generate_batch)
#define TN_X(name, bits, cls) printf("dtype %s %d\n", #name, TN_DT_##name);
  TN_DTYPES(TN_X)
  return 0;
}
