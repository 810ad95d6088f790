/* "80GB", "512MiB", "1.5e9": a number of bytes as people write it. */
#ifndef BYTE_SIZE_H
#define BYTE_SIZE_H

/* Units B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB and K, M, G, T (of 1024), in any
 * case; none is bytes. ERR_USAGE names `where` unless the size lies in [1, 1e18]. */
int byte_size_parse(const char *text, const char *where, double *out);

#endif
