/* Base64 (RFC 4648), the ordinary and the URL alphabet. */
#ifndef BASE64_H
#define BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Enough bytes for n_text characters. */
size_t base64_room(size_t n_text);
/* White space is passed over, padding may be missing; anything else that is no base64 is false. */
bool base64_decode(uint8_t *out, size_t *n_out, const char *text, size_t n_text);

#endif
