/* Walking the fields of one protobuf message, for tokenizer.model.
 *
 * Only what the format of that file uses: varints, 32 and 64 bit words, and byte strings (which
 * may be messages). Every length is checked against the bytes that are there. */
#ifndef PROTOBUF_H
#define PROTOBUF_H

#include <stddef.h>
#include <stdint.h>

enum pb_wire { PB_VARINT = 0, PB_WORD64 = 1, PB_BYTES = 2, PB_WORD32 = 5 };

struct pb_reader {
    const unsigned char *at, *end; /* borrowed */
};

struct pb_field {
    uint32_t number;
    enum pb_wire wire;
    uint64_t value;             /* PB_VARINT, PB_WORD32, PB_WORD64 */
    const unsigned char *bytes; /* PB_BYTES: borrowed, n_bytes long */
    size_t n_bytes;
};

static inline struct pb_reader pb_reader_of(const void *bytes, size_t n_bytes)
{
    return (struct pb_reader){bytes, (const unsigned char *)bytes + n_bytes};
}

/* 1: *field is the next one; 0: the message is over; -1: the bytes are no message. */
int pb_next(struct pb_reader *r, struct pb_field *field);

#endif
