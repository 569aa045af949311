/* hash.c - a fast hash for tables and checks of integrity, SHA-256 (FIPS 180-4) for identities, and the
 * Philox 4x32-10 counter-based generator (Salmon et al., SC 2011). None depends on the machine's byte order.
 */
#include "ir/base/base.h"
#include <stdio.h>

/* The first n <= 8 bytes, the lowest first. */
static uint64_t load_some(const uint8_t *p, uint64_t n) {
  uint64_t w = 0;
  for (uint64_t i = 0; i < n; i++) w |= (uint64_t)p[i] << (8 * i);
  return w;
}
static uint64_t load64(const uint8_t *p) {
  uint64_t w;
  memcpy(&w, p, sizeof w);
  return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? w : __builtin_bswap64(w);
}

/* Folds the 128-bit product: every bit of both factors reaches every bit of the result. */
static uint64_t fold(uint64_t a, uint64_t b) {
  unsigned __int128 r = (unsigned __int128)a * b;
  return (uint64_t)r ^ (uint64_t)(r >> 64);
}

#define HASH_A 0x9e3779b97f4a7c15u
#define HASH_B 0xd6e8feb86659fd93u

uint64_t tn_hash_bytes(const void *p, uint64_t n, uint64_t seed) {
  const uint8_t *s = p;
  uint64_t h = seed ^ fold(n ^ HASH_A, HASH_B), left = n;
  for (; left >= 16; left -= 16, s += 16)
    h = fold(h ^ load64(s) ^ HASH_A, load64(s + 8) ^ HASH_B ^ (h >> 32 | h << 32));
  uint64_t first = left > 8 ? 8 : left;
  if (left)
    h = fold(h ^ load_some(s, first) ^ HASH_A,
             load_some(s + first, left - first) ^ HASH_B ^ (h >> 32 | h << 32));
  return fold(h ^ HASH_B, HASH_A);
}

static const uint32_t sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t ror(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void sha_block(uint32_t h[8], const uint8_t *p) {
  uint32_t w[64], v[8];
  for (int i = 0; i < 16; i++)
    w[i] =
        (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
  for (int i = 16; i < 64; i++) {
    uint32_t s0 = ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ (w[i - 15] >> 3);
    uint32_t s1 = ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ (w[i - 2] >> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  memcpy(v, h, sizeof v);
  for (int i = 0; i < 64; i++) {
    uint32_t s1 = ror(v[4], 6) ^ ror(v[4], 11) ^ ror(v[4], 25),
             s0 = ror(v[0], 2) ^ ror(v[0], 13) ^ ror(v[0], 22);
    uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + sha_k[i] + w[i];
    uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
    memmove(v + 1, v, 7 * sizeof *v);
    v[4] += t1;
    v[0] = t1 + t2;
  }
  for (int i = 0; i < 8; i++) h[i] += v[i];
}

void tn_sha256_init(tn_sha256 *s) {
  static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  memset(s, 0, sizeof *s);
  memcpy(s->h, start, sizeof start);
}

void tn_sha256_add(tn_sha256 *s, const void *p, uint64_t n) {
  const uint8_t *q = p;
  uint64_t have = s->bytes % 64;
  s->bytes += n;
  if (have) {
    uint64_t take = 64 - have < n ? 64 - have : n;
    memcpy(s->tail + have, q, (size_t)take);
    q += take, n -= take;
    if (have + take < 64) return;
    sha_block(s->h, s->tail);
  }
  for (; n >= 64; q += 64, n -= 64) sha_block(s->h, q);
  if (n) memcpy(s->tail, q, (size_t)n);
}

void tn_sha256_hex(tn_sha256 *s, char out[65]) {
  uint8_t end[72] = {0x80};
  uint64_t bits = s->bytes * 8, pad = 64 - (s->bytes + 8) % 64; /* 1..64 bytes of 0x80 0 0 ... */
  for (int i = 0; i < 8; i++) end[pad + (uint64_t)i] = (uint8_t)(bits >> (56 - 8 * i));
  tn_sha256_add(s, end, pad + 8);
  for (int i = 0; i < 8; i++) snprintf(out + 8 * i, 9, "%08x", (unsigned)s->h[i]);
}

void tn_philox(uint64_t counter, uint64_t key, uint32_t out[4]) {
  uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0};
  uint32_t k[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
  for (int round = 0; round < 10; round++) {
    uint64_t a = (uint64_t)0xd2511f53u * c[0], b = (uint64_t)0xcd9e8d57u * c[2];
    uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k[0], (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ k[1],
                        (uint32_t)a};
    memcpy(c, next, sizeof c);
    k[0] += 0x9e3779b9u;
    k[1] += 0xbb67ae85u;
  }
  memcpy(out, c, sizeof c);
}
