/* Where each record's line lies, in a file that nobody else sees: 16 bytes a record.
 *
 * The file is made of blocks of 4096 records, taken as records come, so that memory (4 bytes a
 * block) and disk stay small even when the first record's number is large. It is mapped and has no
 * name; space is reserved before it is touched, so a full disk is an error code, not SIGBUS. */
#ifndef JOURNAL_INDEX_H
#define JOURNAL_INDEX_H

#include <stdint.h>

enum index_flags {
    INDEX_OK = 1,     /* an answer */
    INDEX_FAILED = 2, /* a failure */
    INDEX_RETRY = 4,  /* a failure of an earlier start that this one does again */
    INDEX_OURS = 8,   /* written by this start */
};
enum { INDEX_MAX_SEGMENT = (1 << 20) - 1 };

struct index_entry {
    int segment;
    int64_t offset; /* below 2^40 */
    unsigned flags; /* 0: nothing is known of the record */
    uint64_t input; /* first eight bytes of its digest */
};

struct record_index;

int record_index_create(struct record_index **out, const char *dir);
void record_index_destroy(struct record_index *ix); /* NULL is fine */
/* Makes room for a record; index is below RESULTS_MAX_INDEX. */
int record_index_reserve(struct record_index *ix, int64_t index);
struct index_entry record_index_get(const struct record_index *ix, int64_t index);
/* The record was reserved. */
void record_index_put(struct record_index *ix, int64_t index, struct index_entry e);
/* The first record >= from that is known, or -1. */
int64_t record_index_next(const struct record_index *ix, int64_t from);

#endif
