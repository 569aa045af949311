/* flash_tile.c - see flash.h. */
#include "backends/cuda/attention/flash.h"
#include "backends/llvm/convert.h"

enum { CHUNK = 8, CHUNK_BYTES = 16, AT_ONCE = 4 };

static tn_dtype stage_type(const tn_cuda_att_tile *t) {
  return t->kind == TN_CUDA_MMA_F16 ? TN_DT_f16 : TN_DT_bf16;
}
static int64_t features(const tn_cuda_att_tile *t) { return t->side == &t->a->value ? t->a->dv : t->a->d; }

bool tn_cuda_att_tile_copies(const tn_cuda_att_tile *t) {
  uint32_t none = UINT32_MAX, number = none;
  if (features(t) % CHUNK) return false;
  if (t->side) return t->side->buffer && t->side->t.dtype == stage_type(t) && !t->side->t.layout;
  (void)tn_cuda_buffer(t->a->k, t->a->q, &number);
  return number != none && t->a->tq.dtype == stage_type(t) && !t->a->tq.layout;
}

ll_val tn_cuda_att_thread_again(tn_cuda_att *a) {
  return tn_cuda_asm(a->k, a->k->e->i32, "mov.u32 $0, %tid.x;", "=r", NULL, 0);
}

ll_val tn_cuda_att_chunk(const tn_cuda_att_tile *t, ll_val base, ll_val row, ll_val chunk) {
  tn_ll *e = t->a->k->e;
  tn_cuda_att *a = t->a;
  if (t->width % 64 == 0) chunk = ll_xor(e, chunk, ll_and(e, row, tn_cuda_n32(a, 7)));
  ll_val at = ll_add(e, ll_mul(e, row, tn_cuda_n32(a, tn_cuda_att_tile_stride(t))),
                     ll_shl(e, chunk, tn_cuda_n32(a, 4)));
  return LLVMBuildInBoundsGEP2(e->b, e->i8, base, &at, 1, "");
}
ll_val tn_cuda_att_chunk_at(const tn_cuda_att_tile *t, ll_val base, ll_val row, ll_val chunk, uint32_t rows,
                            uint32_t chunks) {
  tn_ll *e = t->a->k->e;
  uint32_t turned = t->width % 64 ? 0 : chunks % 8; /* what rows turn among is 8 chunks */
  ll_val p = tn_cuda_att_chunk(t, base, row, ll_add(e, chunk, tn_cuda_n32(t->a, turned)));
  ll_val more = tn_cuda_n32(t->a, rows * tn_cuda_att_tile_stride(t) + (chunks - turned) * CHUNK_BYTES);
  return LLVMBuildInBoundsGEP2(e->b, e->i8, p, &more, 1, "");
}

/* ---- one piece ----------------------------------------------------------------------------------------- */

typedef struct piece {
  ll_val row, place; /* in the tile: row, which `more` is added to, and first feature; i32 */
  ll_val at, j;      /* where to read: the row's number, and first feature; i32 */
  ll_val there;      /* i1: not behind the end */
  uint32_t more;
} piece;

/* Piece i + more of the tile, of `n` features. Pieces of a thread that lie in one column are told as such. */
static piece piece_at(const tn_cuda_att_tile *t, ll_val i, uint32_t more, uint32_t n, ll_val first,
                      ll_val end) {
  tn_ll *e = t->a->k->e;
  uint32_t per = t->width / n;
  bool column = more % per == 0;
  if (!column) i = ll_iadd(e, i, tn_cuda_n32(t->a, more));
  piece p = {.row = ll_udiv(e, i, tn_cuda_n32(t->a, per)), .more = column ? more / per : 0};
  p.j = p.place = ll_mul(e, ll_urem(e, i, tn_cuda_n32(t->a, per)), tn_cuda_n32(t->a, n));
  ll_val at = ll_add(e, ll_add(e, first, p.row), tn_cuda_n32(t->a, p.more));
  p.there = ll_icmp(e, LLVMIntSLT, at, end);
  p.at = ll_imin(e, at, ll_sub(e, end, tn_cuda_n32(t->a, 1)));
  if (t->width != features(t)) {
    ll_val inside = ll_icmp(e, LLVMIntSLT, p.j, tn_cuda_n32(t->a, features(t)));
    p.there = ll_and(e, p.there, inside);
    p.j = ll_select(e, inside, p.j, tn_cuda_n32(t->a, 0));
  }
  return p;
}
static ll_val piece_place(const tn_cuda_att_tile *t, ll_val base, const piece *p) {
  tn_ll *e = t->a->k->e;
  ll_val chunk = ll_lshr(e, p->place, tn_cuda_n32(t->a, 3)), more = tn_cuda_n32(t->a, p->more);
  if (p->more % 8) return tn_cuda_att_chunk(t, base, ll_add(e, p->row, more), chunk);
  ll_val at = tn_cuda_att_chunk(t, base, p->row, chunk);
  more = tn_cuda_n32(t->a, p->more * tn_cuda_att_tile_stride(t));
  return LLVMBuildInBoundsGEP2(e->b, e->i8, at, &more, 1, "");
}

static ll_val query_address(const tn_cuda_att_tile *t, const piece *p) {
  tn_cuda_att *a = t->a;
  tn_ll *e = a->k->e;
  ll_val query, head;
  tn_cuda_att_row(a, tn_cuda_i64(a->k, p->at), &query, &head);
  ll_val row = ll_iadd(e, ll_imul(e, a->b, a->nq), query);
  row = ll_iadd(e, ll_imul(e, row, ll_k(e, a->h)), head);
  return ll_at(e, tn_cuda_global(a->k, tn_cuda_buffer(a->k, a->q, NULL)), ll_imul(e, row, ll_k(e, a->d * 2)));
}

static void copy_piece(const tn_cuda_att_tile *t, ll_val base, const piece *p) {
  tn_cuda_att *a = t->a;
  tn_ll *e = a->k->e;
  ll_val row = t->side ? ll_at(e, t->side->base, ll_imul(e, tn_cuda_att_key_row(a, p->at), t->side->step))
                       : query_address(t, p);
  ll_val from = ll_at(e, row, tn_cuda_i64(a->k, ll_shl(e, p->j, tn_cuda_n32(a, 1))));
  tn_cuda_copy_async(a->k, piece_place(t, base, p), from, CHUNK_BYTES, p->there);
}

/* `wide` numbers as 16-bit ones. */
static ll_val narrow(const tn_cuda_att_tile *t, ll_val x) {
  tn_cuda_kernel *k = t->a->k;
  tn_ll *e = k->e;
  ll_val (*pack)(tn_cuda_kernel *, ll_val, ll_val) =
      t->kind == TN_CUDA_MMA_F16 ? tn_cuda_pack_f16 : tn_cuda_pack_bf16;
  if (t->wide == 1) return LLVMBuildTrunc(e->b, pack(k, x, ll_f(e, x, 0)), e->i16, "");
  ll_val r = LLVMGetPoison(LLVMVectorType(e->i32, t->wide / 2));
  for (uint32_t i = 0; i < t->wide / 2; i++)
    r = ll_put(e, r, pack(k, ll_lane(e, x, 2 * i), ll_lane(e, x, 2 * i + 1)), i);
  return r;
}

static ll_val read_piece(const tn_cuda_att_tile *t, const piece *p) {
  tn_cuda_att *a = t->a;
  tn_ll *e = a->k->e;
  ll_val x, query, head;
  if (t->side) {
    x = tn_cuda_att_load(a, t->side, tn_cuda_att_key_row(a, p->at), p->j, t->wide);
  } else {
    tn_cuda_att_row(a, tn_cuda_i64(a->k, p->at), &query, &head);
    x = tn_cuda_att_load_query(a, query, head, p->j, t->wide);
  }
  return narrow(t, ll_select(e, ll_wide(e, p->there, t->wide > 1), x, ll_f(e, x, 0)));
}
static void store_piece(const tn_cuda_att_tile *t, ll_val base, const piece *p, ll_val x) {
  tn_cuda_att *a = t->a;
  tn_ll *e = a->k->e;
  ll_val chunk = piece_place(t, base, p);
  ll_val within = ll_shl(e, ll_and(e, p->place, tn_cuda_n32(a, CHUNK - 1)), tn_cuda_n32(a, 1));
  ll_store(e, x, LLVMBuildInBoundsGEP2(e->b, e->i8, chunk, &within, 1, ""), t->wide * 2);
}

/* ---- all of them --------------------------------------------------------------------------------------- */

/* Some pieces at once, so that their loads are under way together. */
static void read_pieces(const tn_cuda_att_tile *t, ll_val base, ll_val first, ll_val end) {
  tn_cuda_att *a = t->a;
  tn_ll *e = a->k->e;
  uint32_t n = t->rows * (t->width / t->wide), at_once = AT_ONCE;
  while (at_once > 1 && n % (t->threads * at_once)) at_once /= 2;
  ll_val x[AT_ONCE];
  piece p[AT_ONCE];
  ll_loop l;
  ll_loop_begin(e, &l, tn_cuda_att_thread_again(a), tn_cuda_n32(a, n), tn_cuda_n32(a, t->threads * at_once),
                NULL, 0);
  tn_ll_body_forget(&a->k->body);
  for (uint32_t u = 0; u < at_once; u++) {
    p[u] = piece_at(t, l.iv, u * t->threads, t->wide, first, end);
    x[u] = read_piece(t, &p[u]);
  }
  for (uint32_t u = 0; u < at_once; u++) store_piece(t, base, &p[u], x[u]);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&a->k->body);
}

void tn_cuda_att_tile_fill(const tn_cuda_att_tile *t, ll_val base, ll_val first, ll_val end) {
  tn_cuda_att *a = t->a;
  tn_ll *e = a->k->e;
  uint32_t n = t->rows * (t->width / CHUNK);
  if (!t->copied) {
    read_pieces(t, base, first, end);
    return;
  }
  ll_val thread = tn_cuda_att_thread_again(a);
  for (uint32_t at = 0; at < n; at += t->threads) {
    ll_if there;
    bool whole = at + t->threads <= n;
    if (!whole) ll_if_begin(e, &there, ll_icmp(e, LLVMIntSLT, thread, tn_cuda_n32(a, n - at)));
    piece p = piece_at(t, thread, at, CHUNK, first, end);
    copy_piece(t, base, &p);
    if (!whole) ll_if_end(e, &there);
  }
}
