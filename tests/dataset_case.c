/* See dataset_case.h. */
#define _GNU_SOURCE
#include "dataset_case.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "status.h"

struct dataset_params dataset_case(const char *source, const char *const prompt[])
{
    struct dataset_params p = {.source = source, .prompt = prompt, .limit = -1};

    while (prompt && prompt[p.n_prompts])
        p.n_prompts++;
    return p;
}

static const char *below(const char *path, const char *folder)
{
    size_t n = folder ? strlen(folder) : 0;

    return n > 0 && strncmp(path, folder, n) == 0 && path[n] == '/' ? path + n + 1 : path;
}

static void put_images(FILE *f, const struct sample *s, const char *folder)
{
    for (size_t i = 0; i < s->n_images; i++) {
        const struct dataset_image *image = &s->image[i];
        fprintf(f, "%s%s", i ? " " : "", below(image->path, folder));
        if (image->kind == DATASET_IMAGE_BYTES)
            fprintf(f, ":%.*s", (int)(image->n_bytes < 8 ? image->n_bytes : 8),
                    (const char *)image->bytes);
        if (image->kind == DATASET_IMAGE_RAW)
            fprintf(f, ":%dx%d:%d", image->width_px, image->height_px, image->bytes[0]);
        if (image->kind == DATASET_IMAGE_VIDEO)
            fprintf(f, ":video");
    }
}

static void put_sample(FILE *f, const struct sample *s, const char *folder)
{
    for (size_t k = 0; k < s->n_records; k++) {
        const struct sample_record *r = &s->record[k];
        fprintf(f, "%" PRId64 " %s", s->index + (int64_t)k, r->id);
        if (s->rc != OK) {
            fprintf(f, " !\n");
            assert_non_null(s->why);
            continue;
        }
        fprintf(f, " %s", r->prompt);
        if (r->suffix)
            fprintf(f, " -> %s", r->suffix);
        fprintf(f, k == 0 ? " [" : " +");
        if (k == 0) {
            put_images(f, s, folder);
            fputc(']', f);
        }
        if (r->number >= 0)
            fprintf(f, " number=%" PRId64, r->number);
        if (s->image_id)
            fprintf(f, " image_id=%s", s->image_id);
        fputc('\n', f);
    }
}

/* There and back, and both give the same bytes. */
static void check_wire(const struct sample *s)
{
    size_t n = sample_wire_bytes(s);
    char *wire = malloc(n), *again = malloc(n);
    struct sample *copy;

    sample_write(s, wire);
    assert_int_equal(sample_read(&copy, wire, n), OK);
    assert_int_equal(sample_wire_bytes(copy), n);
    sample_write(copy, again);
    assert_memory_equal(wire, again, n);
    sample_free(copy);
    free(wire);
    free(again);
}

char *dataset_describe(const struct dataset_params *p, const char *folder)
{
    char *text = NULL;
    size_t n_text;
    FILE *f = open_memstream(&text, &n_text);
    struct dataset *d = NULL;
    struct sample *s = NULL;
    int64_t index = 0;
    int rc = dataset_open(&d, p);

    while (rc == OK && (rc = dataset_next(d, &s)) == OK && s) {
        assert_int_equal(s->index, index);
        index += (int64_t)s->n_records;
        put_sample(f, s, folder);
        check_wire(s);
        sample_free(s);
    }
    if (rc != OK)
        fprintf(f, "%s\n", status_name(rc));
    dataset_close(d);
    fclose(f);
    return text;
}

void dataset_check(const struct dataset_params *p, const char *folder, const char *expected)
{
    char *text = dataset_describe(p, folder);

    if (strcmp(text, expected) != 0)
        fail_msg("%s: got\n%s\nexpected\n%s", p->source, text, expected);
    free(text);
}
