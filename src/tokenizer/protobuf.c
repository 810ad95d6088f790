/* Walking the fields of one protobuf message (see protobuf.h).
 *
 * A field is a varint key (number << 3 | wire type) and its value; a varint is little-endian in
 * groups of 7 bits, at most 10 bytes. Groups (wire types 3 and 4) are refused: nothing here
 * uses them, and skipping them would need recursion. */
#include "protobuf.h"

#include <stdbool.h>
#include <string.h>

static bool read_varint(struct pb_reader *r, uint64_t *value)
{
    uint64_t v = 0;

    for (int shift = 0; shift < 70 && r->at < r->end; shift += 7) {
        const unsigned char byte = *r->at++;

        v |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *value = v;
            return true;
        }
    }
    return false;
}

static bool read_word(struct pb_reader *r, size_t n_bytes, uint64_t *value)
{
    uint64_t v = 0;

    if ((size_t)(r->end - r->at) < n_bytes)
        return false;
    for (size_t i = 0; i < n_bytes; i++)
        v |= (uint64_t)r->at[i] << (8 * i);
    r->at += n_bytes;
    *value = v;
    return true;
}

static bool read_bytes(struct pb_reader *r, struct pb_field *field)
{
    uint64_t n;

    if (!read_varint(r, &n) || n > (uint64_t)(r->end - r->at))
        return false;
    field->bytes = r->at;
    field->n_bytes = (size_t)n;
    r->at += n;
    return true;
}

int pb_next(struct pb_reader *r, struct pb_field *field)
{
    uint64_t key;
    bool ok = false;

    if (r->at == r->end)
        return 0;
    memset(field, 0, sizeof *field);
    if (!read_varint(r, &key) || key >> 3 == 0 || key >> 3 > UINT32_MAX >> 3)
        return -1;
    field->number = (uint32_t)(key >> 3);
    switch (key & 7) {
    case PB_VARINT:
        ok = read_varint(r, &field->value);
        break;
    case PB_WORD64:
        ok = read_word(r, 8, &field->value);
        break;
    case PB_WORD32:
        ok = read_word(r, 4, &field->value);
        break;
    case PB_BYTES:
        ok = read_bytes(r, field);
        break;
    default:
        break;
    }
    field->wire = (enum pb_wire)(key & 7);
    return ok ? 1 : -1;
}
