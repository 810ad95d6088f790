/* What this process is doing, in a file of its node's memory that other processes can read: for the
 * message of a rank that waits in vain, and for `paligrid status`.
 *
 * One record a process, shared by its communicators, written with relaxed stores and read by others
 * at any time: a reader may see one field newer than another, never half a field. A process that
 * ends in order removes its file; what a killed one leaves is removed by the next start. */
#ifndef COMM_RECORD_H
#define COMM_RECORD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "comm_impl.h"

enum { RECORD_HOST_BYTES = 64, RECORD_WORDS = COMM_NOTE_BYTES / 8 };

/* Text that is replaced while others read it. */
struct record_text {
    _Atomic uint64_t word[RECORD_WORDS]; /* COMM_NOTE_BYTES bytes, NUL-padded */
};

/* Fixed layout: other builds of the program may read it. */
struct comm_record {
    char magic[8];
    uint64_t job; /* the same for all ranks of a job */
    int32_t pid, rank, n_ranks, unused;
    char host[RECORD_HOST_BYTES];
    int64_t start_us; /* clock_us, which the processes of a node share */
    struct record_text phase, place;
    _Atomic int64_t number;            /* of the place; -1: none */
    _Atomic int64_t note_us;           /* when phase or place changed last */
    _Atomic uint64_t call, call_bytes; /* comm_call_id and what one rank gives */
    _Atomic int64_t call_us;           /* when the call began */
    _Atomic uint64_t is_in_call;
};

struct comm_mpi;

/* This process's side of its record. */
struct comm_watch;

/* Collective over the ranks of m, which is the world. dir NULL, or a folder that takes no file:
 * *out is NULL, which all functions below accept: records are a help, not a need. */
int watch_open(struct comm_watch **out, struct comm_mpi *m, const char *dir);
/* Removes the file. */
void watch_close(struct comm_watch *w);

/* A call of the communicator begins, ends. */
void watch_call(struct comm_watch *w, const struct comm *c);
void watch_call_ended(struct comm_watch *w);

/* " [pid 71 is stopped; decode, decoder layer 17 for 3.1 s]" of a rank of m, or "" when it has no
 * record on this node. */
enum { WATCH_TELL_BYTES = 160 };
void watch_tell(const struct comm_mpi *m, int rank, char out[WATCH_TELL_BYTES]);

#endif
