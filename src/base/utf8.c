/* UTF-8 validation and replacement (see utf8.h).
 *
 * A lead byte fixes how many bytes follow and, for E0, ED, F0 and F4, narrows the first of them;
 * that narrowing alone keeps out overlong forms, surrogates and values above U+10FFFF. */
#include "utf8.h"

#include <string.h>

size_t utf8_unit(const char *text, size_t n_bytes, bool *valid)
{
    const unsigned char *s = (const unsigned char *)text;
    const unsigned char lead = s[0];
    unsigned char low = 0x80, high = 0xBF;
    size_t length = 1, i;

    if (lead >= 0xC2 && lead <= 0xDF)
        length = 2;
    else if (lead >= 0xE0 && lead <= 0xEF)
        length = 3;
    else if (lead >= 0xF0 && lead <= 0xF4)
        length = 4;
    *valid = lead < 0x80 || length > 1;

    if (lead == 0xE0)
        low = 0xA0;
    else if (lead == 0xED)
        high = 0x9F;
    else if (lead == 0xF0)
        low = 0x90;
    else if (lead == 0xF4)
        high = 0x8F;
    for (i = 1; i < length; i++) {
        if (i >= n_bytes || s[i] < low || s[i] > high) {
            *valid = false;
            return i;
        }
        low = 0x80;
        high = 0xBF;
    }
    return length;
}

bool utf8_is_valid(const char *s, size_t n_bytes)
{
    bool valid = true;

    for (size_t i = 0; i < n_bytes && valid;)
        i += utf8_unit(s + i, n_bytes - i, &valid);
    return valid;
}

void utf8_put_replacement(char out[UTF8_REPLACEMENT_BYTES])
{
    memcpy(out, "\xEF\xBF\xBD", UTF8_REPLACEMENT_BYTES);
}

size_t utf8_replace(char *out, const char *s, size_t n_bytes)
{
    size_t n_out = 0;

    for (size_t i = 0; i < n_bytes;) {
        bool valid;
        size_t length = utf8_unit(s + i, n_bytes - i, &valid);

        if (valid) {
            memcpy(out + n_out, s + i, length);
            n_out += length;
        } else {
            utf8_put_replacement(out + n_out);
            n_out += UTF8_REPLACEMENT_BYTES;
        }
        i += length;
    }
    return n_out;
}
