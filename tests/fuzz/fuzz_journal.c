// RANKS: 1
/* Any bytes as a journal: opened, packed, opened again. No crash; the second opening finds what the
 * first found and nothing left to repair; packing twice gives the same bytes.
 *
 * First byte: odd, and every line that ends as ours do gets the checksum it should have,
 * so that the readers behind the checksum are reached; bit 1: the bytes are two segments. */
#define _XOPEN_SOURCE 700 /* nftw */
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "digest.h"
#include "results.h"
#include "status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

#define SEAL ",\"crc\":\""
enum { HEX = 16, SEAL_BYTES = sizeof SEAL - 1 + HEX + 2, MAX_INPUT = 1 << 16 };

/* A folder of this process; /dev/shm where there is one: thousands of files a second are made. */
static const char *scratch(char path[64])
{
    snprintf(path, 64, "%s/paligrid_fuzz_journal_%d",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
    return path;
}

static void mend(char *text, size_t n)
{
    for (size_t begin = 0; begin < n;) {
        const char *newline = memchr(text + begin, '\n', n - begin);
        const size_t end = newline ? (size_t)(newline - text) : n;

        if (end - begin >= SEAL_BYTES &&
            memcmp(text + end - SEAL_BYTES, SEAL, sizeof SEAL - 1) == 0) {
            char hex[HEX + 1];

            snprintf(hex, sizeof hex, "%016llx",
                     (unsigned long long)digest_checksum(text + begin, end - begin - SEAL_BYTES));
            memcpy(text + end - HEX - 2, hex, HEX);
        }
        begin = end + 1;
    }
}

static void put(const char *dir, const char *name, const char *text, size_t n)
{
    char path[128];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "wb");
    if (!f || fwrite(text, 1, n, f) != n || fclose(f) != 0)
        abort();
}

/* Digest of a file; of nothing when it is not there. */
static struct digest digest_file(const char *dir, const char *name)
{
    char path[128], buf[4096];
    struct digest d = digest_of(NULL, 0);
    size_t n;
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "rb");
    while (f && (n = fread(buf, 1, sizeof buf, f)) > 0)
        d = digest_chain(d, buf, n);
    if (f)
        fclose(f);
    return d;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static int open_once(const char *dir, struct journal_report *report)
{
    static const struct journal_setting setting = {"prompt", "caption en"};
    const struct journal_params p = {
        .dir = dir, .setting = &setting, .n_settings = 1, .stale_s = 0.01};
    struct journal *j;
    int rc = journal_open(&j, &p, report);

    if (rc == OK)
        journal_close(j);
    return rc;
}

static void check_packing(const char *dir, const struct journal_report *found)
{
    /* coco_detections.json and results.h5 share their readers with the others, and cost time */
    const struct pack_params p = {.exports = RESULTS_VQA | RESULTS_OPENAI | RESULTS_FOLDER |
                                             RESULTS_COCO_DETECTION,
                                  .n_records = -1};
    static const char *const name[] = {"results.jsonl", "errors.jsonl", "vqa.json", "openai.jsonl",
                                       "coco_detections.json"};
    struct pack_report report[2];
    struct digest first[5];

    for (int round = 0; round < 2; round++) {
        if (results_pack_dir(dir, &p, &report[round]) != OK)
            abort();
        if (report[round].n_results != found->n_done || report[round].n_errors != found->n_failed)
            abort();
        for (int i = 0; i < 5; i++) {
            const struct digest d = digest_file(dir, name[i]);

            if (round == 1 && !digest_equal(d, first[i]))
                abort();
            first[i] = d;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct journal_report first, second;
    char dir[64], sub[96];
    size_t n_first;
    char *text;
    int rc;

    if (n_bytes < 1 || n_bytes > MAX_INPUT)
        return 0;
    text = malloc(n_bytes);
    if (!text)
        return 0;
    memcpy(text, data + 1, n_bytes - 1);
    if (data[0] & 1)
        mend(text, n_bytes - 1);
    n_first = data[0] & 2 ? (n_bytes - 1) / 2 : n_bytes - 1;
    mkdir(scratch(dir), 0700);
    snprintf(sub, sizeof sub, "%s/journal", dir);
    mkdir(sub, 0700);
    put(sub, "000001.jsonl", text, n_first);
    put(sub, "000002.jsonl", text + n_first, n_bytes - 1 - n_first);
    rc = open_once(dir, &first);
    if (rc == OK) {
        if (open_once(dir, &second) != OK || second.n_done != first.n_done ||
            second.n_failed != first.n_failed || second.n_cut_bytes != 0)
            abort();
        check_packing(dir, &first);
    } else if (rc != ERR_MISMATCH && rc != ERR_INPUT && rc != ERR_UNSUPPORTED) {
        abort();
    }
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(text);
    return 0;
}
