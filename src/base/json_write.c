/* Writing JSON text: strings, numbers and members; brackets are the caller's.
 *
 * Strings may come from anywhere (file names, model output), so what is not UTF-8 is replaced by
 * U+FFFD (see utf8.h), and what is written always parses. */
#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "utf8.h"

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
    putc('"', f);
    for (size_t i = 0; i < n_bytes;) {
        char replacement[UTF8_REPLACEMENT_BYTES];
        bool valid;
        const size_t n = utf8_unit(s + i, n_bytes - i, &valid);

        utf8_put_replacement(replacement);
        if (!valid)
            fwrite(replacement, 1, sizeof replacement, f);
        else if (n == 1)
            write_ascii(f, (unsigned char)s[i]);
        else
            fwrite(s + i, 1, n, f);
        i += n;
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

void json_member_string(FILE *f, const char *key, const char *s, size_t n_bytes)
{
    fprintf(f, ",\"%s\":", key);
    json_write_string(f, s, n_bytes);
}

void json_member_real(FILE *f, const char *key, double x)
{
    fprintf(f, ",\"%s\":", key);
    json_write_real(f, x);
}

void json_member_int(FILE *f, const char *key, int64_t x)
{
    fprintf(f, ",\"%s\":%" PRId64, key, x);
}

void json_member_ints(FILE *f, const char *key, const int *x, size_t n)
{
    fprintf(f, ",\"%s\":[", key);
    for (size_t i = 0; i < n; i++)
        fprintf(f, "%s%d", i ? "," : "", x[i]);
    fputc(']', f);
}
