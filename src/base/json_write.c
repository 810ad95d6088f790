/* Writing JSON text: strings and numbers; brackets and commas are the caller's.
 *
 * Strings may come from anywhere (file names, model output), so bytes that are not UTF-8 are
 * replaced by U+FFFD, one per bad byte, and what is written always parses. Accepted are Unicode's
 * well-formed sequences (table 3-7): no overlong forms, no surrogates, nothing above U+10FFFF. */
#include "json.h"

#include <math.h>
#include <stdlib.h>

/* Length of the well-formed UTF-8 sequence at s, 0 when there is none. n_bytes > 0. */
static size_t utf8_sequence(const unsigned char *s, size_t n_bytes)
{
    unsigned char low = 0x80, high = 0xbf; /* bounds of the second byte */
    size_t n;

    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        n = 2;
    else if (s[0] >= 0xe0 && s[0] <= 0xef)
        n = 3;
    else if (s[0] >= 0xf0 && s[0] <= 0xf4)
        n = 4;
    else
        return 0;
    if (s[0] == 0xe0)
        low = 0xa0;
    else if (s[0] == 0xed)
        high = 0x9f;
    else if (s[0] == 0xf0)
        low = 0x90;
    else if (s[0] == 0xf4)
        high = 0x8f;
    if (n > n_bytes || s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++) {
        if (s[i] < 0x80 || s[i] > 0xbf)
            return 0;
    }
    return n;
}

static void write_ascii(FILE *f, unsigned char c)
{
    switch (c) {
    case '"':
        fputs("\\\"", f);
        break;
    case '\\':
        fputs("\\\\", f);
        break;
    case '\n':
        fputs("\\n", f);
        break;
    case '\t':
        fputs("\\t", f);
        break;
    case '\r':
        fputs("\\r", f);
        break;
    default:
        if (c < 0x20 || c == 0x7f)
            fprintf(f, "\\u%04x", c);
        else
            putc(c, f);
    }
}

void json_write_string(FILE *f, const char *s, size_t n_bytes)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t i = 0;

    putc('"', f);
    while (i < n_bytes) {
        size_t n = utf8_sequence(p + i, n_bytes - i);

        if (n == 1)
            write_ascii(f, p[i]);
        else if (n > 1)
            fwrite(p + i, 1, n, f);
        else
            fputs("\xef\xbf\xbd", f);
        i += n > 0 ? n : 1;
    }
    putc('"', f);
}

void json_write_real(FILE *f, double x)
{
    char text[32];

    if (!isfinite(x)) {
        fputs("null", f);
        return;
    }
    if (x == floor(x) && fabs(x) < 1e15) { /* %g would say 5e+01 for 50 */
        fprintf(f, "%.0f", x);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    fputs(text, f);
}
