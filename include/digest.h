/* Digests: XXH3-128 (libxxhash), for comparing identities between ranks. Not against forgery. */
#ifndef DIGEST_H
#define DIGEST_H

#include <stddef.h>
#include <stdint.h>

struct digest {
    uint8_t byte[16];
};

struct digest digest_of(const void *data, size_t n_bytes);
/* Digest of `a` followed by the bytes' digest: chains several parts, borders included. */
struct digest digest_chain(struct digest a, const void *data, size_t n_bytes);
int digest_equal(struct digest a, struct digest b);
void digest_hex(struct digest d, char out[33]);
/* XXH3-64: a checksum of a short text. */
uint64_t digest_checksum(const void *data, size_t n_bytes);

#endif
