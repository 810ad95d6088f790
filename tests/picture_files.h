/* Files for the tests of pictures: a folder of their own, good bytes, and small bombs. */
#ifndef PICTURE_FILES_H
#define PICTURE_FILES_H

#include <stddef.h>
#include <stdint.h>

struct bytes {
    uint8_t *p; /* owned: free */
    size_t n;
};

/* A new empty folder; returns its path, owned (free). Removed with what is in it by the second. */
char *scratch_create(void);
void scratch_remove(char *folder);
/* Writes folder/name; path gets it. */
void scratch_write(const char *folder, const char *name, const void *p, size_t n, char path[256]);

struct bytes bytes_of_file(const char *path);
/* A GIF of width x height pixels of one colour; 100 megapixels take 80 kB. */
struct bytes gif_bomb(int width, int height);
/* A square grey PNG whose zlib stream unpacks to n_unpacked bytes of zeros. */
struct bytes png_bomb(int side_px, size_t n_unpacked);

#endif
