/* Inside of the journal: its state, and how its segments are read. */
#ifndef JOURNAL_IMPL_H
#define JOURNAL_IMPL_H

#include "journal_index.h"
#include "journal_lock.h"
#include "results_impl.h"

enum { JOURNAL_OPEN_SEGMENTS = 16 };

/* A segment that is open for reading. */
struct open_segment {
    int number; /* 0: none */
    int fd;
};

struct queued { /* a line that is not synced yet */
    int64_t index;
    size_t offset; /* in the queue */
    unsigned flags;
    uint64_t input;
};

struct journal {
    char dir[RESULTS_MAX_PATH], segments_dir[RESULTS_MAX_PATH];
    struct settings settings;
    uint64_t config;
    struct lock *lock;
    struct record_index *index;
    struct moments moments;
    bool retry_errors;
    char *retry_class; /* NULL: every class */
    int64_t n_done, n_failed;
    struct open_segment open[JOURNAL_OPEN_SEGMENTS];

    /* The segment of this start; made when the first line is written. */
    int segment, fd; /* fd -1: not there yet */
    int64_t n_synced;
    bool has_unsynced; /* the file may be longer than n_synced */
    char *queue;       /* lines, the segment's header first */
    size_t n_queue, cap_queue;
    struct queued *queued;
    size_t n_queued, cap_queued;
};

int journal_segment_path(char out[RESULTS_MAX_PATH], const struct journal *j, int number);
/* Reads all segments into the index, cuts torn tails, and finds the next segment's number. With
 * settings that are not known (item NULL) they are taken from the journal. */
int journal_scan(struct journal *j, struct journal_report *report);
/* Takes a record into the index if it is better than what is known, and counts it. */
int journal_note(struct journal *j, int64_t index, struct index_entry e);
/* The line of a record that is in the index. */
int journal_read(struct journal *j, int64_t index, struct line *out);
/* What run.json says the settings are; absent: *out stays. */
int journal_read_run(const char *dir, struct settings *out);
/* As journal_open for a directory that is there; its settings are the journal's own. */
int journal_open_existing(struct journal **out, const char *dir, const struct pack_params *p);
int journal_keep_alive(struct journal *j);

#endif
