/* A picture's bytes, and room for its pixels, in memory that can be handed to the worker. */
#ifndef PICTURE_FILE_H
#define PICTURE_FILE_H

#include <stddef.h>
#include <stdint.h>

struct picture_file {
    int memory_fd;    /* owned; sealed against resizing: the other side cannot pull it away */
    size_t n_bytes;   /* of the file, at offset 0 */
    size_t result_at; /* page-aligned offset of n_result bytes for the pixels */
    size_t n_result;
};

/* Opens and reads path. ERR_INPUT: not a regular file, unreadable, empty, or above max_bytes;
 * ERR_IO: no memory file to be had. */
int picture_file_read(struct picture_file *f, const char *path, size_t max_bytes, size_t n_result);
/* The same from bytes in memory; `name` stands for them in messages. n_bytes 0 is fine here: then
 * there is only room for pixels. */
int picture_file_copy(struct picture_file *f, const char *name, const uint8_t *bytes,
                      size_t n_bytes, size_t n_result);
/* Copies the result area to out [n_result]. */
int picture_file_result(const struct picture_file *f, uint8_t *out);
void picture_file_release(struct picture_file *f);

#endif
