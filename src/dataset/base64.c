/* Four characters carry three bytes; see base64.h.
 *
 * What follows a '=' can only be padding. Bits that no byte uses must be zero, so that one picture
 * has one text. */
#include "base64.h"

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

size_t base64_room(size_t n_text)
{
    return n_text / 4 * 3 + 3;
}

bool base64_decode(uint8_t *out, size_t *n_out, const char *text, size_t n_text)
{
    uint32_t bits = 0;
    size_t n = 0, n_digits = 0, n_padding = 0;

    for (size_t i = 0; i < n_text; i++) {
        int digit = digit_of(text[i]);
        if (text[i] == '\n' || text[i] == '\r' || text[i] == ' ' || text[i] == '\t')
            continue;
        if (text[i] == '=') {
            n_padding++;
            continue;
        }
        if (digit < 0 || n_padding > 0)
            return false;
        bits = (bits << 6 | (uint32_t)digit) & 0xffffff;
        if (++n_digits % 4 != 1)
            out[n++] = (uint8_t)(bits >> (6 - 2 * ((n_digits + 3) % 4)));
    }
    *n_out = n;
    switch (n_digits % 4) {
    case 0:
        return n_padding == 0;
    case 2:
        return (n_padding == 0 || n_padding == 2) && (bits & 0xf) == 0;
    case 3:
        return n_padding <= 1 && (bits & 0x3) == 0;
    default:
        return false;
    }
}
