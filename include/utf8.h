/* UTF-8: is it valid, and what stands for the parts that are not.
 *
 * "Invalid" is Unicode's strict sense: overlong forms, surrogates and values above U+10FFFF are
 * refused. Replacing follows Python's errors="replace": one U+FFFD per maximal subpart, that is
 * per longest prefix of a valid sequence that is not itself one (or per single byte). */
#ifndef UTF8_H
#define UTF8_H

#include <stdbool.h>
#include <stddef.h>

enum { UTF8_REPLACEMENT_BYTES = 3 }; /* U+FFFD as UTF-8 */

/* Bytes of the unit at s, n_bytes >= 1: a whole sequence (*valid), or a maximal bad subpart. */
size_t utf8_unit(const char *s, size_t n_bytes, bool *valid);
bool utf8_is_valid(const char *s, size_t n_bytes);
/* Copies s to out, invalid parts replaced; returns the bytes written, at most 3 * n_bytes. */
size_t utf8_replace(char *out, const char *s, size_t n_bytes);
/* Writes one U+FFFD. */
void utf8_put_replacement(char out[UTF8_REPLACEMENT_BYTES]);

#endif
