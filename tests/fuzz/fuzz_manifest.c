// RANKS: 1
/* Text formats on any bytes: no crash, no gap in the numbers, the same samples twice, and each of them
 * survives the wire. The first byte chooses format, prompts and limits. */
#define _GNU_SOURCE /* memfd_create */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dataset.h"
#include "status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void need(int ok)
{
    if (!ok)
        abort();
}

static void check_sample(const struct sample *s, int64_t index)
{
    size_t n = sample_wire_bytes(s);
    char *wire = malloc(n);
    struct sample *copy;

    need(wire != NULL && s->index == index && s->n_records >= 1 && s->place);
    need(s->rc == OK ? s->n_images >= 1 : s->rc == ERR_INPUT && s->why && s->n_images == 0);
    sample_write(s, wire);
    need(sample_read(&copy, wire, n) == OK);
    sample_free(copy);
    free(wire);
}

/* Digest over all records. */
static struct digest read_all(const struct dataset_params *p)
{
    struct digest all = digest_of("", 0);
    struct dataset *d;
    struct sample *s = NULL;
    int64_t index = 0;

    if (dataset_open(&d, p) != OK)
        return all;
    while (dataset_next(d, &s) == OK && s) {
        check_sample(s, index);
        index += (int64_t)s->n_records;
        for (size_t k = 0; k < s->n_records; k++)
            all = digest_chain(all, &s->record[k].digest, sizeof all);
        sample_free(s);
    }
    need(p->limit < 0 || index <= p->limit);
    dataset_close(d);
    return all;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static const char *const prompt[] = {"caption {id}", "{{{image}} {text} {question}"};
    static const enum dataset_format format[] = {DATASET_MANIFEST, DATASET_OPENAI, DATASET_FOLDER,
                                                 DATASET_LIST,     DATASET_COCO,   DATASET_AUTO};
    struct dataset_params p = {.limit = -1, .prompt = prompt, .images_dir = "/nowhere"};
    char path[64];
    int fd;

    if (n_bytes < 1)
        return 0;
    p.format = format[data[0] % 6];
    p.n_prompts = data[0] / 6 % 3;
    p.n_frames = data[0] / 18 % 3;
    p.max_record_bytes = data[0] & 128 ? 40 : 0;
    p.limit = data[0] % 7 == 0 ? 3 : -1;
    fd = memfd_create("fuzz", 0);
    need(fd >= 0 && write(fd, data + 1, n_bytes - 1) == (ssize_t)n_bytes - 1);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    p.source = path;
    if (p.format != DATASET_AUTO) {
        struct digest first = read_all(&p);
        need(digest_equal(first, read_all(&p)));
    } else {
        read_all(&p);
    }
    close(fd);
    return 0;
}
