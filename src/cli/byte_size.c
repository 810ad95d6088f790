/* Sizes with units; see byte_size.h. */
#include "byte_size.h"

#include <math.h>
#include <stdlib.h>
#include <strings.h>

#include "status.h"

int byte_size_parse(const char *text, const char *where, double *out)
{
    static const struct {
        const char *name;
        double bytes;
    } unit[] = {{"", 1},
                {"B", 1},
                {"kB", 1e3},
                {"MB", 1e6},
                {"GB", 1e9},
                {"TB", 1e12},
                {"KiB", 1024},
                {"MiB", 1048576},
                {"GiB", 1073741824},
                {"TiB", 1099511627776.0},
                {"K", 1024},
                {"M", 1048576},
                {"G", 1073741824},
                {"T", 1099511627776.0}};
    char *end;
    const double v = strtod(text, &end);

    for (size_t i = 0; end != text && i < sizeof unit / sizeof unit[0]; i++) {
        if (strcasecmp(end, unit[i].name) != 0)
            continue;
        if (!isfinite(v) || v * unit[i].bytes < 1 || v * unit[i].bytes > 1e18)
            break;
        *out = v * unit[i].bytes;
        return OK;
    }
    return FAIL(ERR_USAGE, "%s: '%.40s' is not a size like 80GB or 512MiB", where, text);
}
