/* The results of a run over a data set: the journal, which is the truth, and what is packed from
 * it.
 *
 * One process writes: the coordinator. An output directory holds
 *   LOCK              who writes here now
 *   run.json          configuration and identity of the run
 *   journal/NNNNNN.jsonl  append-only segments, one for each start: no two processes ever write one
 *                     file, so a job that was thought dead cannot damage its successor's
 *   errors.jsonl results.jsonl results.h5 stats.json ... _SUCCESS    packed at the end
 * A journal line is one JSON object that ends in ,"crc":"<16 hex digits>"} over the bytes before.
 * Lines are written in whole batches and fsynced before anybody calls a record done. A torn tail
 * is cut back to the last valid line at the next start; a bad line in the middle is named, skipped,
 * and its record done again. Of several valid lines for one record the first good answer wins.
 *
 * Every other file is written as NAME.tmp, fsynced, renamed, and the directory fsynced. */
#ifndef RESULTS_H
#define RESULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "digest.h"

/* ---- one result ---- */

enum result_finish { RESULT_EOS, RESULT_LENGTH };

/* Pointers are borrowed for the call. */
struct result {
    int64_t index; /* the record's place in the input */
    const char *id;
    struct digest input; /* sample_record.digest */
    int rc;              /* OK or the status of a record that could not be answered */
    /* Then: the reason; it names the file. Its class is a word: missing (no such file), denied (no
     * permission), else by rc: input, unsupported, io, memory, range, timeout, internal. */
    const char *why;
    const char *image;           /* the first image's name; NULL: none */
    const char *image_id;        /* COCO, or NULL */
    int64_t number;              /* COCO question_id, or -1 */
    const char *prompt, *suffix; /* suffix may be NULL */
    const char *text; /* the answer, UTF-8, <loc> and <seg> as generated; NUL becomes U+FFFD */
    size_t n_text;
    const int32_t *tokens;
    size_t n_tokens;
    enum result_finish finish;
    double logprob;
    int width_px, height_px; /* of the first image, for boxes; 0: unknown */
    int n_images;
    int n_prompt_tokens;
    /* Not part of results.jsonl, which is the same whatever ran it. */
    int64_t wait_us, decode_us, vision_us, prefill_us;
    int64_t generate_us; /* from the first to the last token */
    int replica, attempt;
};

/* ---- the journal ---- */

struct journal;

struct journal_setting { /* one line of the configuration that must not change between starts */
    const char *key, *value;
};
struct journal_params {
    const char *dir; /* made when missing */
    const struct journal_setting *setting;
    size_t n_settings;
    const char *info_json;   /* an object for run.json: versions, machine, arguments; may change */
    bool retry_errors;       /* records that failed count as not done */
    const char *retry_class; /* with it: only failures of this class (else ERR_USAGE); NULL: all */
    const char *job; /* the batch system's name of this job, for others' messages; or NULL */
    double stale_s;  /* a lock whose holder shows no life for so long is taken over; 0: 60 s */
    bool *held;      /* not NULL: set, without a message, when another holds the lock */
    /* Test aid, or NULL: called at named moments, for campaigns that kill there. Of the journal:
     * lock_taken, after_cut (a torn tail), segment_created (still empty), before_write, mid_write
     * (half of the batch is in the file), after_write (not fsynced), after_sync. Of each file that
     * is made whole: "before_rename FILE", "after_rename FILE", as in "before_rename results.h5";
     * run.json first, _SUCCESS last. */
    void (*moment)(void *context, const char *name);
    void *moment_context;
};
struct journal_report {       /* what was found at the start */
    int64_t n_done, n_failed; /* records with an answer, and with a failure that is kept */
    int64_t n_bad_lines, n_cut_bytes, n_segments;
    bool took_over; /* a stale lock */
};

/* Locks dir, reads and repairs the segments, writes run.json; the start's own segment is made with
 * its first line. ERR_IO names the holder of a live lock; ERR_MISMATCH names each setting that
 * differs from the earlier starts' ("prompt: was ..., is ..."). The index of records (16 bytes
 * each) is a mapped file without a name in dir, so memory stays small. */
int journal_open(struct journal **out, const struct journal_params *p,
                 struct journal_report *report);
/* Has this record a result that is kept? ERR_MISMATCH when it was made from another input digest
 * (names id and index): the input changed between two starts. *done is set on OK. */
int journal_find(struct journal *j, int64_t index, struct digest input, bool *done);
/* Queues a line; nothing is durable before journal_sync. A second result for one index in this run
 * is a bug (ASSERT). ERR_NOMEM; ERR_RANGE for a line above 64 MiB. */
int journal_append(struct journal *j, const struct result *r);
/* Writes what is queued and fsyncs. ERR_IO (disk full, quota, I/O error) leaves the file ending in
 * a whole line, and the queue as it was. Also shows life in the lock; when another has taken that,
 * nothing is written, and ERR_IO names the new owner: this process must stop. */
int journal_sync(struct journal *j);
/* Shows life in the lock; at least every few seconds. ERR_IO as above. */
int journal_beat(struct journal *j);
int64_t journal_n_done(const struct journal *j), journal_n_failed(const struct journal *j);
/* Releases the lock. Queued lines that were not synced are dropped. NULL is fine. */
void journal_close(struct journal *j);

/* ---- packing ---- */

enum results_export {
    RESULTS_COCO_CAPTION = 1,   /* coco_captions.json */
    RESULTS_COCO_DETECTION = 2, /* coco_detections.json, and categories.json where none was given */
    RESULTS_VQA = 4,            /* vqa.json */
    RESULTS_OPENAI = 8,         /* openai.jsonl, with errors of records that failed */
    RESULTS_FOLDER = 16,        /* metadata.jsonl */
    RESULTS_H5 = 32,            /* results.h5; on unless asked otherwise */
};
struct pack_params {
    unsigned exports;       /* bits of results_export */
    int64_t n_records;      /* of the whole input; < 0: not known, or the run is not complete */
    const char *categories; /* COCO file with the labels' ids; NULL: numbered as they appear */
    const char *stats_json; /* an object for stats.json; NULL: stats.json stays as it is */
    void (*moment)(void *context, const char *name); /* as in journal_params */
    void *moment_context;
    /* Above 1, as by a second signal: packing ends before the next record. NULL: never. */
    const volatile int *stop;
};
struct pack_report {
    int64_t n_results, n_errors;
    int64_t n_missing; /* of n_records; -1: not known */
    bool was_stopped;  /* nothing was replaced, and the numbers are 0 */
};
/* Everything but run.json is made from the journal. results.jsonl holds the good answers in input
 * order, errors.jsonl the failures (the last one of a record), results.h5 both, a row each; they
 * are functions of the results alone, not of who made them or when. Records from n_records on are
 * left out. _SUCCESS is written last, when n_records is given and none is missing; with one missing
 * it is removed, as it is when a start writes its first line. With a journal that is open for
 * writing pass it (its queue is synced first); for `export` on a finished or interrupted run,
 * results_pack_dir takes the lock itself. The setting "model", the model's digest, is also the
 * attribute model_digest of results.h5 and the model's name in openai.jsonl. */
int results_pack(struct journal *j, const struct pack_params *p, struct pack_report *report);
int results_pack_dir(const char *dir, const struct pack_params *p, struct pack_report *report);
/* ---- one data set, several jobs ----
 * The input is cut into n shards, each with an output directory of its own, DIR/shards-n/NNNN. Its
 * lock is the claim: jobs take the next shard that is neither done nor another's, so a late one
 * takes what is left. When all are done, their segments become DIR/journal, and DIR is an output
 * directory like any other. */
enum { RESULTS_MAX_SHARDS = 999 };
struct results_shards;
/* first: where this job begins to look; jobs should differ. ERR_MISMATCH when DIR is worked on in
 * another number of shards. */
int results_shards_open(struct results_shards **out, const char *dir, int n, int first);
void results_shards_close(struct results_shards *s); /* NULL is fine */
/* Opens the journal of a free shard; p->dir is filled in. *journal NULL, *shard -1: none is free. */
int results_shards_claim(struct results_shards *s, const struct journal_params *p,
                         struct journal **journal, struct journal_report *report, int *shard);
int results_shards_dir(const struct results_shards *s, int shard, char *out, size_t n_out);
/* All records of the claimed shard are done, of an input of n_records; before journal_close. */
int results_shards_finish(struct results_shards *s, int shard, int64_t n_records);
/* *n_left: shards that are not done. None: DIR/journal is complete, and *n_records the input's. */
int results_shards_gather(struct results_shards *s, int *n_left, int64_t *n_records);
/* Number of shards that DIR is worked on in; 0: it is not. */
int results_shards_of(const char *dir, int *n);

/* "coco-caption,vqa" -> bits; RESULTS_H5 is in unless "no-h5" is. ERR_USAGE names the unknown word
 * and what there is. */
int results_exports_parse(const char *text, unsigned *out);

#endif
