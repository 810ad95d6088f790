/* Which way is up: the orientation tag in EXIF and XMP blocks, and the rotation itself. */
#ifndef ORIENTATION_H
#define ORIENTATION_H

#include <stddef.h>
#include <stdint.h>

#include "image.h"

/* Value of tag 0x0112 in the first directory of an EXIF block ("Exif\0\0" may precede the TIFF
 * header), 1..8; 0 when it is missing or the block is malformed, which is no error of the picture. */
int orientation_of_exif(const uint8_t *block, size_t n_bytes);
/* First tiff:Orientation of an XMP packet, as attribute or element; 0 when there is none. */
int orientation_of_xmp(const uint8_t *packet, size_t n_bytes);
/* Turns img upright; values outside 2..8 leave it alone. ERR_NOMEM: img is as it was. */
int orientation_apply(struct image *img, int orientation);

#endif
