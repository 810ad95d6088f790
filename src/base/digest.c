/* XXH3-128 digests in canonical (big-endian) byte order, equal on every kind of host.
 *
 * A chain hashes the earlier digest followed by the digest of the new bytes: order and borders of
 * the parts count, and long data is neither copied nor streamed. */
#include "digest.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

static struct digest from_xxh(XXH128_hash_t h)
{
    XXH128_canonical_t canonical;
    struct digest d;

    XXH128_canonicalFromHash(&canonical, h);
    memcpy(d.byte, canonical.digest, sizeof d.byte);
    return d;
}

struct digest digest_of(const void *data, size_t n_bytes)
{
    return from_xxh(XXH3_128bits(data, n_bytes));
}

struct digest digest_chain(struct digest a, const void *data, size_t n_bytes)
{
    struct digest d = digest_of(data, n_bytes);
    uint8_t both[2 * sizeof a.byte];

    memcpy(both, a.byte, sizeof a.byte);
    memcpy(both + sizeof a.byte, d.byte, sizeof d.byte);
    return digest_of(both, sizeof both);
}

int digest_equal(struct digest a, struct digest b)
{
    return memcmp(a.byte, b.byte, sizeof a.byte) == 0;
}

void digest_hex(struct digest d, char out[33])
{
    for (size_t i = 0; i < sizeof d.byte; i++)
        snprintf(out + 2 * i, 3, "%02x", d.byte[i]);
}

uint64_t digest_checksum(const void *data, size_t n_bytes)
{
    return XXH3_64bits(data, n_bytes);
}
