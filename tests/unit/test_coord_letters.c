/* Letters survive the way to another rank and back, whatever is in them, and what is cut or is no
 * letter is refused; queues keep order and bounds between two threads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/coord/letter.h"
#include "status.h"

static const int32_t tokens[] = {5, -7, 1 << 30};

static struct result full_result(void)
{
    return (struct result){
        .index = 1234567890123,
        .id = "id with \"quotes\"",
        .input = {{1, 2, 3}},
        .rc = ERR_INPUT,
        .why = "",
        .image = "a/b.jpg",
        .image_id = NULL,
        .number = -1,
        .prompt = "answer en \xe6\xbc\xa2",
        .suffix = NULL,
        .text = "two\0parts",
        .n_text = 9,
        .tokens = tokens,
        .n_tokens = 3,
        .finish = RESULT_LENGTH,
        .logprob = -0.1,
        .width_px = 640,
        .height_px = 1,
        .n_images = 2,
        .generate_us = 77,
        .replica = 3,
        .attempt = 1,
    };
}

/* As mail does it: the bytes of one rank are adopted by another. */
static struct letter *by_mail(const struct letter *l, size_t n_bytes)
{
    struct letter *out = NULL;
    void *copy = malloc(n_bytes + 1);

    memcpy(copy, l, n_bytes);
    return letter_adopt(&out, copy, n_bytes) == OK ? out : NULL;
}

static void test_result(void **state)
{
    const struct result r = full_result();
    const struct replica_times times = {.busy_us = 11, .wait_us = 22};
    struct letter *sent = letter_of_result(3, &r, &times), *l;
    struct replica_times seen_times;
    struct result seen;

    (void)state;
    l = by_mail(sent, letter_bytes(sent));
    assert_non_null(l);
    assert_int_equal(l->replica, 3);
    assert_int_equal(letter_read_result(l, &seen, &seen_times), OK);
    assert_int_equal(seen.index, r.index);
    assert_string_equal(seen.id, r.id);
    assert_memory_equal(&seen.input, &r.input, sizeof r.input);
    assert_string_equal(seen.why, "");
    assert_null(seen.image_id);
    assert_null(seen.suffix);
    assert_string_equal(seen.prompt, r.prompt);
    assert_int_equal(seen.n_text, 9);
    assert_memory_equal(seen.text, "two\0parts", 10);
    assert_int_equal(seen.n_tokens, 3);
    assert_memory_equal(seen.tokens, tokens, sizeof tokens);
    assert_true(seen.logprob == r.logprob);
    assert_int_equal(seen_times.wait_us, 22);
    free(l);
    free(sent);
}

/* A letter that ends early, at every length, is refused and reads nothing behind its end. */
static void test_cut(void **state)
{
    const struct result r = full_result();
    const struct replica_times times = {0};
    struct letter *sent = letter_of_result(0, &r, &times);
    struct replica_times seen_times;
    struct result seen;

    (void)state;
    assert_null(by_mail(sent, letter_bytes(sent) - 1));
    assert_null(by_mail(sent, sizeof *sent - 1));
    for (size_t n = 0; n < (size_t)sent->n_bytes; n++) {
        struct letter *l = malloc(sizeof *l + n);

        memcpy(l, sent, sizeof *l + n);
        l->n_bytes = n;
        assert_int_equal(letter_read_result(l, &seen, &seen_times), ERR_COMM);
        free(l);
    }
    free(sent);
}

static void test_not_a_letter(void **state)
{
    struct letter *l = letter_create(LETTER_BEAT, 0, 0), *work;
    struct sample *s;
    const uint8_t *todo;

    (void)state;
    l->item.kind = ITEM_PREPARED; /* never on the way */
    assert_null(by_mail(l, letter_bytes(l)));
    l->item.kind = -1;
    assert_null(by_mail(l, letter_bytes(l)));
    free(l);
    work = letter_create(LETTER_WORK, 0, 16);
    for (work->value = -1; work->value < 20; work->value++)
        assert_int_equal(letter_read_work(work, &s, &todo), ERR_COMM);
    free(work);
}

/* ---- queues ---- */

enum { N_ITEMS = 2000, ITEM_BYTES = 100, LIMIT_BYTES = 350 };

static void *put_all(void *context)
{
    struct queue *q = context;

    for (int i = 0; i < N_ITEMS; i++) {
        struct letter *l = letter_create(LETTER_WORK, i, 0);

        l->item.n_bytes = i % 7 == 0 ? 2 * LIMIT_BYTES : ITEM_BYTES; /* too large is passed alone */
        if (!queue_put(q, &l->item))
            free(l);
    }
    return NULL;
}

static void test_order_and_bound(void **state)
{
    struct queue q;
    pthread_t thread;

    (void)state;
    assert_int_equal(queue_init(&q, LIMIT_BYTES), OK);
    pthread_create(&thread, NULL, put_all, &q);
    for (int i = 0; i < N_ITEMS; i++) {
        struct letter *l = (struct letter *)queue_take(&q, (unsigned)QUEUE_ANY, 10000000);

        assert_non_null(l);
        assert_int_equal(l->replica, i);
        free(l);
        pthread_mutex_lock(&q.lock);
        assert_true(q.n_items <= 1 || q.n_bytes <= LIMIT_BYTES);
        pthread_mutex_unlock(&q.lock);
    }
    pthread_join(thread, NULL);
    assert_null(queue_take(&q, (unsigned)QUEUE_ANY, 0));
    queue_release(&q, letter_free);
}

static void test_urgent_kinds_and_closing(void **state)
{
    struct letter *a = letter_create(LETTER_WORK, 1, 0), *b = letter_create(LETTER_WORK, 2, 0),
                  *c = letter_create(LETTER_LEAVE, 3, 0);
    pthread_t thread;
    struct queue q;

    (void)state;
    assert_int_equal(queue_init(&q, 1), OK); /* full with one */
    assert_true(queue_put(&q, &a->item));
    assert_true(queue_put_urgent(&q, &c->item)); /* does not wait, and comes first */
    assert_null(queue_take(&q, 1u << LETTER_DRAIN, 1000));
    assert_ptr_equal(queue_take(&q, 1u << LETTER_WORK | 1u << LETTER_LEAVE, 0), &c->item);
    pthread_create(&thread, NULL, put_all, &q); /* waits: the queue is full */
    queue_close(&q);
    pthread_join(thread, NULL); /* closing has let it go */
    assert_false(queue_put(&q, &b->item));
    assert_ptr_equal(queue_take(&q, 1u << LETTER_WORK, 0), &a->item); /* what is inside stays */
    queue_release(&q, letter_free);
    free(a);
    free(b);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_result),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_not_a_letter),
        cmocka_unit_test(test_order_and_bound),
        cmocka_unit_test(test_urgent_kinds_and_closing),
    };

    log_init(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
