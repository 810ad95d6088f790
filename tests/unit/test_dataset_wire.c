// RANKS: 1
/* Samples on their way between ranks, and memory that does not grow with the input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <cmocka.h>

#include "dataset.h"
#include "dataset_case.h"
#include "picture_files.h"
#include "status.h"

static const uint8_t pixels[2 * 3 * 3] = {1, 2, 3};

/* A sample of every kind of picture, and two records. */
static void fill(struct sample *s, struct dataset_image image[3], struct sample_record record[2])
{
    image[0] = (struct dataset_image){.kind = DATASET_IMAGE_FILE, .path = "/a/b.png", .name = "b"};
    image[1] = (struct dataset_image){.kind = DATASET_IMAGE_BYTES,
                                      .path = "s.tar:x",
                                      .name = "x",
                                      .bytes = (const uint8_t *)"JPEG",
                                      .n_bytes = 4};
    image[2] = (struct dataset_image){.kind = DATASET_IMAGE_RAW,
                                      .path = "a.h5",
                                      .name = "row 0",
                                      .bytes = pixels,
                                      .n_bytes = sizeof pixels,
                                      .width_px = 2,
                                      .height_px = 3};
    record[0] = (struct sample_record){
        .id = "i#0", .prompt = "caption en", .suffix = "", .number = -1, .digest = {{1, 2}}};
    record[1] = (struct sample_record){.id = "i#1", .prompt = "", .number = 77, .digest = {{3}}};
    *s = (struct sample){.index = (int64_t)1 << 40,
                         .place = "m.jsonl line 3",
                         .image_id = "42",
                         .n_images = 3,
                         .n_records = 2,
                         .image = image,
                         .record = record,
                         .n_frames = 16,
                         .sampling = DATASET_FPS,
                         .sampling_step = 0.25,
                         .shortage = DATASET_SHORT_REPEAT};
}

static struct sample *there_and_back(const struct sample *s)
{
    size_t n = sample_wire_bytes(s);
    char *wire = malloc(n);
    struct sample *copy;

    sample_write(s, wire);
    assert_int_equal(sample_read(&copy, wire, n), OK);
    free(wire);
    return copy;
}

static void samples_arrive_whole(void **state)
{
    struct sample_record record[2];
    struct dataset_image image[3];
    struct sample s, *copy;

    (void)state;
    fill(&s, image, record);
    copy = there_and_back(&s);
    assert_int_equal(copy->index, (int64_t)1 << 40);
    assert_int_equal(copy->rc, OK);
    assert_null(copy->why);
    assert_string_equal(copy->place, "m.jsonl line 3");
    assert_string_equal(copy->image_id, "42");
    assert_string_equal(copy->image[0].path, "/a/b.png");
    assert_string_equal(copy->image[0].name, "b");
    assert_null(copy->image[0].bytes);
    assert_int_equal(copy->image[1].n_bytes, 4);
    assert_memory_equal(copy->image[1].bytes, "JPEG", 4);
    assert_int_equal(copy->image[2].height_px, 3);
    assert_memory_equal(copy->image[2].bytes, pixels, sizeof pixels);
    assert_string_equal(copy->record[0].suffix, "");
    assert_null(copy->record[1].suffix);
    assert_int_equal(copy->record[1].number, 77);
    assert_memory_equal(&copy->record[1].digest, &record[1].digest, sizeof record[1].digest);
    assert_int_equal(sample_clip(copy).n_frames, 16);
    assert_int_equal(sample_clip(copy).sampling, IMAGE_FPS);
    assert_true(sample_clip(copy).step == 0.25);
    assert_int_equal(sample_clip(copy).shortage, IMAGE_SHORT_REPEAT);
    sample_free(copy);
}

static void failures_arrive_with_their_reason(void **state)
{
    struct sample_record record[2];
    struct dataset_image image[3];
    struct sample s, *copy;

    (void)state;
    fill(&s, image, record);
    s.rc = ERR_INPUT;
    s.why = "line 3: no picture";
    s.n_images = 0;
    copy = there_and_back(&s);
    assert_int_equal(copy->rc, ERR_INPUT);
    assert_string_equal(copy->why, "line 3: no picture");
    sample_free(copy);
}

/* A message that is cut, longer, or says what cannot be. */
static void other_bytes_are_refused(void **state)
{
    struct sample_record record[2];
    struct dataset_image image[3];
    struct sample s, *copy = NULL;
    size_t n;
    char *wire;

    (void)state;
    fill(&s, image, record);
    n = sample_wire_bytes(&s);
    wire = calloc(1, n + 1);
    sample_write(&s, wire);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(sample_read(&copy, wire, i), ERR_COMM);
    assert_int_equal(sample_read(&copy, wire, n + 1), ERR_COMM);
    wire[0] ^= 1;
    assert_int_equal(sample_read(&copy, wire, n), ERR_COMM);
    image[2].width_px = 1; /* no longer the size of its bytes */
    sample_write(&s, wire);
    assert_int_equal(sample_read(&copy, wire, n), ERR_COMM);
    fill(&s, image, record);
    s.rc = ERR_INPUT; /* a failure with pictures */
    s.why = "x";
    free(wire);
    n = sample_wire_bytes(&s);
    wire = malloc(n);
    sample_write(&s, wire);
    assert_int_equal(sample_read(&copy, wire, n), ERR_COMM);
    assert_null(copy);
    free(wire);
}

/* ---- memory ---- */

static long peak_kib(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

static void read_lines(const char *folder, int n)
{
    char path[256];
    struct dataset_params p;
    struct dataset *d;
    struct sample *s;
    FILE *f;

    snprintf(path, sizeof path, "%s/m.jsonl", folder);
    f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < n; i++)
        fprintf(f, "{\"id\": \"record %d\", \"image\": \"images/%d.jpg\", \"prefix\": \"p\"}\n", i,
                i);
    fclose(f);
    p = dataset_case(path, NULL);
    p.scratch_dir = folder;
    assert_int_equal(dataset_open(&d, &p), OK);
    for (int i = 0; i < n; i++) {
        assert_int_equal(dataset_next(d, &s), OK);
        assert_int_equal(s->index, i);
        sample_free(s);
    }
    dataset_close(d);
}

/* Ids are compared, too. */
static void memory_is_flat(void **state)
{
    char *folder = scratch_create();
    long before;

    (void)state;
    read_lines(folder, 1000);
    before = peak_kib();
    read_lines(folder, 100000);
    if (!getenv("ASAN_OPTIONS")) /* AddressSanitizer keeps freed memory for a while */
        assert_true(peak_kib() - before < 1024);
    scratch_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_arrive_whole),
        cmocka_unit_test(failures_arrive_with_their_reason),
        cmocka_unit_test(other_bytes_are_refused),
        cmocka_unit_test(memory_is_flat),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
