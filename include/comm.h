/* A group of ranks that compute one thing together.
 *
 * Every function taking a `struct comm *` is collective unless marked [local]: all ranks make the
 * same calls in the same order. Which library moves the bytes is fixed at creation; host memory
 * only. Every wait has the communicator's deadline: a peer that does not arrive in time gives
 * ERR_TIMEOUT, and the message names the call, the peer and its host, and every rank that does not
 * answer a roll call (over shared memory: every missing peer, and the call it was last seen in).
 * Ranks that make different calls get ERR_COMM or ERR_TIMEOUT. After a failed collective only
 * comm_abort is legal: the communicator (and those it was split from) remembers the failure and
 * returns its code at once from every further call, so a caller may pass the code up through its
 * usual comm_agree. */
#ifndef COMM_H
#define COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "digest.h"
#include "dtype.h"

struct comm; /* opaque: src/comm/comm_impl.h */

/* Creators store an owned object in *out, or leave it untouched on error. */
int comm_create_self(struct comm **out); /* [local] one rank, no library */

enum comm_transport {
    COMM_AUTO, /* COMM_SHM if a node has several ranks and lets them share memory, else COMM_MPI */
    COMM_MPI,  /* messages of MPI, inside a node too */
    COMM_SHM,  /* memory shared by the ranks of a node, messages of MPI between nodes */
};
struct comm_params {
    double timeout_s;              /* > 0: bounds every wait */
    enum comm_transport transport; /* results are the same to the bit */
    int node_ranks; /* 0: nodes as they are; else at most so many ranks make a node, for tests */
    bool threads;   /* the world: mail may be used beside the collectives, from other threads */
    const char *watch_dir; /* the world: where ranks tell what they do (below); NULL: nowhere */
};

/* Starts MPI (MPI_Init_thread) and takes all its ranks. ERR_MISMATCH when they want different
 * transports. ERR_UNSUPPORTED when threads are wanted that this MPI does not allow.
 * Refuses N singletons: when OMPI_COMM_WORLD_SIZE, PMI_SIZE, SLURM_NTASKS or the like say that
 * more ranks were started than the library sees, ERR_COMM with the fix. A plain start without a
 * launcher is a world of one rank. Sets the log's rank. Once per process. On failure MPI may be
 * running already: leave by comm_abort(NULL, ...). */
int comm_create_world(struct comm **out, const struct comm_params *params);
/* The ranks that give the same colour (>= 0), ordered by their rank here. It inherits deadline and
 * transport, and is destroyed before c. */
int comm_split(struct comm *c, int colour, struct comm **out);
/* The same ranks over a transport of their own, to compare two in one process. It is destroyed
 * before c. */
int comm_duplicate(struct comm *c, const struct comm_params *params, struct comm **out);
/* NULL is fine. The world also ends MPI; when a collective has failed before, or the peers do not
 * come to the end within the deadline, MPI cannot end in order and the job is aborted instead. */
void comm_destroy(struct comm *c);
/* [local] Ends the whole job with this exit status; does not return. c may be NULL (the world is
 * meant), which makes it fit for log_set_abort. */
_Noreturn void comm_abort(struct comm *c, int exit_status);

int comm_rank(const struct comm *c);         /* [local] */
int comm_size(const struct comm *c);         /* [local] */
const char *comm_name(const struct comm *c); /* [local] "self", "mpi", "shm" */
/* [local] The library that moves the bytes and its version, e.g. "Open MPI v4.1.4", for info and
 * reports. Answers before comm_create_world, too. */
enum { COMM_LIBRARY_BYTES = 128 };
void comm_library(char out[COMM_LIBRARY_BYTES]);

/* buf[i] becomes the sum over ranks; n_elems and type are equal on every rank.
 * I64 and I32 only: integer sums are associative, which is what makes results independent of the
 * rank count. Floating-point partial sums are refused. Wraps modulo 2^n; callers keep the range. */
int comm_allreduce_sum(struct comm *c, void *buf, size_t n_elems, enum dtype t);
/* buf[i] becomes the largest over ranks. F32 or I64. The same bits on every rank: +0 is above -0,
 * and a NaN on any rank becomes a NaN on all. */
int comm_allreduce_max(struct comm *c, void *buf, size_t n_elems, enum dtype t);
/* Every rank gives n_bytes (equal everywhere); out gets comm_size * n_bytes, in rank order.
 * In both gathers `in` may be this rank's place in `out`; otherwise they do not overlap. */
int comm_allgather(struct comm *c, const void *in, void *out, size_t n_bytes);
/* Rank r gives n_bytes[r]; out gets them one after the other. n_bytes is equal on every rank. */
int comm_allgatherv(struct comm *c, const void *in, void *out, const size_t *n_bytes);
int comm_bcast(struct comm *c, void *buf, size_t n_bytes, int root);

/* ---- sums in two steps ----
 * Between the steps of a sum this rank may compute, best the terms of the next one. Sums begin and
 * finish in order on every rank; while one is under way, no other call of this communicator is
 * legal. Where ranks share memory nothing is copied: terms are added by who needs the sum, with all
 * its threads. */
enum { COMM_MAX_SUMS = 2, COMM_MAX_TERMS = 8 };
/* Room for sums of at most n_bytes; again when they become longer. Rooms take comm_sums_bytes of
 * this rank's memory. */
int comm_sums_reserve(struct comm *c, size_t n_bytes);
size_t comm_sums_bytes(size_t n_bytes); /* [local] at most, for any communicator of several ranks */
/* [local] Where this rank's terms of the next sum go, one place until that begins. At most one sum is
 * under way, and of what earlier ones finished with nothing is read any more. */
void *comm_sum_room(struct comm *c);
/* n_elems and type as in comm_allreduce_sum; waits for nobody. At most COMM_MAX_SUMS are under way.
 * From here on the room belongs to the exchange, until comm_sum_room gives it again. */
int comm_sum_begin(struct comm *c, size_t n_elems, enum dtype t);
/* The oldest: element i of the sum is that of element i of all terms, modulo 2^n. They may be read
 * until the next comm_sum_room. */
struct comm_terms {
    const void *term[COMM_MAX_TERMS];
    int n_terms;
};
int comm_sum_finish(struct comm *c, struct comm_terms *out);

/* The end of a phase that may fail on one rank: every rank gives its rc, every rank returns the
 * worst (smallest) one. The failing rank has logged its own message; the others stay silent. */
int comm_agree(struct comm *c, int rc);
/* ERR_MISMATCH on every rank unless all ranks give equal digests; rank 0 names what differs
 * ("build", "options", ...) from its own, and on which ranks; the others stay silent.
 * n <= COMM_MAX_SAME. Call before any other exchange. */
enum { COMM_MAX_SAME = 32 };
int comm_check_same(struct comm *c, const char *const *what, const struct digest *d, size_t n);

/* ---- where ranks are ----
 * Each process keeps what it does in a small file of comm_params.watch_dir, best in its node's
 * memory ("/dev/shm"): a rank that waits in vain tells where those are that it waits for, and
 * others can look. The files go when the world is destroyed; those of dead processes go when the
 * next job starts. Notes cost a few stores and a look at the clock, so they may be in the token
 * loop. */
enum { COMM_NOTE_BYTES = 24, COMM_HOST_BYTES = 64 };
/* [local] What this rank does ("prefill"), and where in it ("decoder layer" 17; number -1: none).
 * A new phase has no place yet. Longer text is cut. */
void comm_note_phase(struct comm *c, const char *phase);
void comm_note_place(struct comm *c, const char *place, int number);

struct comm_where { /* one process, as it was a moment ago */
    uint64_t job;   /* the same for all ranks of a job */
    int pid, rank, n_ranks;
    char host[COMM_HOST_BYTES];
    char phase[COMM_NOTE_BYTES], place[COMM_NOTE_BYTES];
    int number;
    double place_s, age_s; /* since the last note, since the start */
    const char *call;      /* the last collective: static text */
    uint64_t call_number, call_bytes;
    double call_s; /* since it began */
    bool is_in_call;
    char state; /* of the process, as in /proc: comm_state_name */
};
/* [local] Needs no MPI. Processes of all jobs in a folder, by job and rank; at most cap. */
size_t comm_where_list(const char *dir, struct comm_where *out, size_t cap);
const char *comm_state_name(char state); /* "running", "waiting", "stopped", "dead", ... */

/* ---- mail ----
 * Letters from one rank to another, for what is not collective. Mail has a communicator of its own
 * underneath, so with comm_params.threads it may be used while another thread is in a collective.
 * Letters of one sender arrive in order. One thread may receive; any may send. */
struct comm_mail;

enum { COMM_MAIL_MAX_BYTES = 1 << 30 };

/* Collective over c, which may be any communicator but those of comm_duplicate with pretended
 * nodes; mail is destroyed before it. */
int comm_mail_create(struct comm *c, struct comm_mail **out);
void comm_mail_destroy(struct comm_mail *m); /* collective; NULL is fine */
/* [local] Returns when data may be used again. `to` is another rank and must go on receiving:
 * after the communicator's deadline ERR_TIMEOUT names it. */
int comm_mail_send(struct comm_mail *m, int to, const void *data, size_t n_bytes);
/* [local] *data: the next letter (caller frees) and its sender, or NULL when none has come. Does
 * not wait, but for the rest of a letter that has begun. */
int comm_mail_receive(struct comm_mail *m, int *from, void **data, size_t *n_bytes);
const char *comm_mail_host(const struct comm_mail *m, int rank); /* [local] for messages */

#endif
