/* A run over a data set: replicas that answer, and one coordinator that deals and gathers.
 *
 * Replica r of R is a group of T ranks; its first rank leads it. The coordinator is a thread of
 * rank 0, with messages of its own, so rank 0 computes, too. It reads the input, keeps each
 * replica's queue short, takes results as they come, and is the only one that writes. Nobody waits
 * for a straggler: work goes to whoever asks. All queues are bounded in bytes.
 *
 * What is promised: a record is done when its line in the journal is fsynced; whatever is killed
 * before, the next start does again; after, never. */
#ifndef COORD_H
#define COORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm.h"
#include "dataset.h"
#include "engine.h"
#include "image.h"
#include "results.h"
#include "tokenizer.h"

/* ---- how ranks are grouped ---- */

struct coord_layout {
    int tp, replicas; /* tp * replicas + idle = ranks */
    int idle;         /* ranks without work (--allow-idle) */
    int replica;      /* this rank's, -1: idle */
    int tp_rank; /* -1: idle */
    char why[256]; /* how tp was chosen, one line */
};
struct coord_layout_params { /* the same on all ranks, but for rank */
    int n_ranks, rank;
    int tp, replicas; /* 0: chosen */
    bool allow_idle;
    size_t memory_bytes; /* of each rank */
    /* Planned bytes a rank; SIZE_MAX: the model cannot be split so far. */
    size_t (*bytes_of)(const void *context, int tp);
    const void *context;
};
/* The smallest tp whose bytes fit and (unless ranks may be idle) that divides the ranks; with
 * replicas given, the ranks there are for each. What the user asked for is not doubted. ERR_USAGE
 * names ranks left over unless allow_idle, ERR_NOMEM the numbers when nothing fits. Pure. */
int coord_layout_make(struct coord_layout *out, const struct coord_layout_params *p);

/* ---- the run ---- */

enum { COORD_SHARD_RECORDS = 16 };
struct coord_params { /* the same on all ranks, but for what says "rank 0" */
    struct coord_layout layout;
    int batch;             /* sequences that share decode steps in a replica */
    int max_images;        /* of a record; as many feature slots an engine has at least */
    int n_slots;           /* the engine's max_images */
    int max_prompt_tokens; /* the engine's; longer prompts fail */
    int max_new_tokens;
    struct sampler_params sampler;
    int n_beams;
    double length_penalty;
    bool ignore_eos;
    unsigned tokenizer_flags; /* enum tokenizer_flags */
    struct image_params image;
    /* Bound of each queue: samples ahead, pictures ahead, results not yet written. */
    size_t queue_bytes;
    double comm_timeout_s;
    /* Test aid, as in journal_params: called at named moments of a record's life. It may be called
     * from any thread. NULL: none. */
    void (*moment)(void *context, const char *name);
    void *moment_context;
    /* rank 0: */
    /* With n_shards > 0 only blocks of COORD_SHARD_RECORDS records whose number is `shard` modulo
     * n_shards are worked on, and nothing is packed: see results.h, "several jobs". */
    int shard, n_shards;
    double sync_s;         /* results are fsynced at least so often */
    double max_error_rate; /* of at least 100 records; >= 1: off. Beyond it the run stops */
    int64_t deadline_us;   /* clock_us() at which all is to be written; 0: none */
    double drain_s;        /* longest wait, after a signal, for what is open */
    struct dataset_params dataset;
    struct pack_params pack;  /* n_records and stats_json are filled in */
    const char *metrics_path; /* Prometheus text file, or NULL */
    double progress_s;        /* a line so often */
    bool progress_bar;        /* a bar on stderr, a terminal, instead */
};

enum coord_end {
    COORD_COMPLETE, /* every record has a result or a kept failure; packed, _SUCCESS */
    COORD_STOPPED,  /* signal, deadline, or no space left: exit 75, the same command resumes */
    COORD_ERRORS,   /* more failures than max_error_rate: exit 65 */
};
struct coord_summary {
    enum coord_end end;
    int64_t n_records, n_answered, n_failed, n_resumed; /* n_resumed were done before this start */
    double wall_s, images_per_s, input_wait_share; /* of compute time, the mean over replicas */
};

/* Collective over all ranks of `world`, which has several threads (comm_params.threads). group:
 * this rank's replica; NULL and no engine on idle ranks. helper: started before MPI, at least on
 * the leaders; tokenizer: at least there. journal: on rank 0, open; it is synced, not closed. stop:
 * set by a signal handler: 0 go on, 1 drain, 2 leave now. Rank 0's summary is complete; others'
 * holds `end`. */
struct coord_parts {
    struct comm *world, *group;
    struct engine *engine;
    const struct tokenizer *tokenizer;
    struct image_helper *helper;
    struct journal *journal;
    const volatile int *stop;
};
int coord_run(const struct coord_params *p, const struct coord_parts *parts,
              struct coord_summary *summary);

/* The coordinator against n replicas that wait service_us for each record instead of computing
 * it, in one process: what reading, dealing, gathering and writing cost. dir gets a manifest of
 * n_records lines and the output directory of a run, which is not packed. */
struct coord_simulation {
    int n_replicas, batch; /* records that a replica has under way at a time */
    int64_t n_records, service_us;
};
struct coord_simulated {
    double wall_s, records_per_s;
    double ideal_s;       /* if replicas never waited */
    double starved_share; /* of the replicas' time: waiting for a record, but for the first */
    double busy_s;  /* processor time of the coordinator's thread */
    double sync_s;  /* spent in fsync */
    size_t peak_anonymous_bytes; /* most of RssAnon, looked at ten times a second */
};
int coord_simulate(const struct coord_simulation *s, const char *dir, struct coord_simulated *out);

#endif
