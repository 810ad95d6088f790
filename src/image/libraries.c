/* Which decoders this program was built with: bytes of pixels depend on them. */
#include "image.h"

/* The build asks the packages; IMAGE_LIBRARIES is a string literal such as
 * "libjpeg-turbo 2.1.5, libwebp 1.2.4, stb_image 2.27, libseccomp 2.5.4". */
const char *image_libraries(void)
{
    return IMAGE_LIBRARIES;
}
