/* The files of a checkpoint against a list of their SHA-256 digests, as sha256sum writes it. */
#ifndef CHECK_WEIGHTS_H
#define CHECK_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct check_weights {
    int n_files, n_listed,
        n_unlisted; /* compared; lines of the list; files the list does not name */
    int64_t n_bytes;
    char unlisted[256]; /* the first of those */
};

/* model: a folder, or one file. index: the list, or NULL for SHA256SUMS in the folder. ERR_MODEL
 * names the first file that is missing or differs, or line and list; ERR_IO when the list cannot
 * be read. */
int check_weights(struct check_weights *out, const char *model, const char *index);
/* Is there a list to compare with? */
bool check_weights_has_index(const char *model, const char *index);
/* Writes the list: temporary file, fsync, rename. */
int check_weights_write(struct check_weights *out, const char *model, const char *index);

#endif
