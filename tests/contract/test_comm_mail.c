// RANKS: 1 2 4
/* Mail: every rank sends to every other, in order and of every size around the slice of 1 MiB, while
 * another thread of the rank is in collectives all the time. Sizes and bytes are functions of
 * sender, receiver and number, so nothing can be lost, doubled or mixed up unseen. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "comm.h"
#include "ranks.h"
#include "status.h"

static const size_t sizes[] = {0, 1, 9, 70000, 1 << 20, (1 << 20) + 1, 3 << 20, 5};
enum { N_SIZES = sizeof sizes / sizeof sizes[0], MAX_RANKS = 8 };

static unsigned char byte_of(int from, int to, size_t number, size_t i)
{
    return (unsigned char)((size_t)from * 31 + (size_t)to * 7 + number * 13 + i * 5 + (i >> 8));
}

struct sender {
    struct comm_mail *mail;
    int rank, size, rc;
};

static void *send_all(void *context)
{
    struct sender *s = context;

    for (size_t k = 0; k < N_SIZES; k++) {
        for (int to = 0; to < s->size; to++) {
            unsigned char *data = malloc(sizes[k] + 1);

            if (to != s->rank) {
                for (size_t i = 0; i < sizes[k]; i++)
                    data[i] = byte_of(s->rank, to, k, i);
                if (s->rc == OK)
                    s->rc = comm_mail_send(s->mail, to, data, sizes[k]);
            }
            free(data);
        }
    }
    return NULL;
}

struct receiver {
    struct comm_mail *mail;
    int rank, size, rc;
    size_t n_wrong, next[MAX_RANKS]; /* number of the next letter of each sender */
};

static void check_letter(struct receiver *r, int from, const unsigned char *data, size_t n)
{
    size_t k = r->next[from]++;

    if (k >= N_SIZES || n != sizes[k]) {
        r->n_wrong++;
        return;
    }
    for (size_t i = 0; i < n; i++)
        r->n_wrong += data[i] != byte_of(from, r->rank, k, i);
}

static void *receive_all(void *context)
{
    struct receiver *r = context;
    size_t left = N_SIZES * (size_t)(r->size - 1);

    while (left > 0 && r->rc == OK) {
        void *data;
        size_t n;
        int from = -1;

        r->rc = comm_mail_receive(r->mail, &from, &data, &n);
        if (r->rc == OK && data) {
            check_letter(r, from, data, n);
            free(data);
            left--;
        } else {
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        }
    }
    return NULL;
}

static void exchange(struct comm *world, struct comm *group)
{
    struct comm_mail *mail = NULL;
    struct sender s = {.rank = comm_rank(group), .size = comm_size(group)};
    struct receiver r = {.rank = s.rank, .size = s.size};
    pthread_t sending, receiving;
    int sums_rc = OK;
    int64_t n_wrong_sums = 0;

    ASSERT_ALL(world, comm_mail_create(group, &mail) == OK);
    s.mail = r.mail = mail;
    pthread_create(&sending, NULL, send_all, &s);
    pthread_create(&receiving, NULL, receive_all, &r);
    for (int i = 0; i < 300 && sums_rc == OK; i++) {
        int64_t sum = s.rank + 1;

        sums_rc = comm_allreduce_sum(group, &sum, 1, DTYPE_I64);
        n_wrong_sums += sum != (int64_t)s.size * (s.size + 1) / 2;
    }
    pthread_join(sending, NULL);
    pthread_join(receiving, NULL);
    ASSERT_ALL(world, sums_rc == OK && n_wrong_sums == 0);
    ASSERT_ALL(world, s.rc == OK && r.rc == OK);
    ASSERT_ALL(world, r.n_wrong == 0);
    comm_mail_destroy(mail);
}

static void test_world(void **state)
{
    exchange(*state, *state);
}

static void test_halves(void **state)
{
    struct comm *half = NULL;

    ASSERT_ALL(*state, comm_split(*state, comm_rank(*state) % 2, &half) == OK);
    exchange(*state, half);
    comm_destroy(half);
}

static void test_self(void **state)
{
    struct comm_mail *mail = NULL;
    struct comm *self = NULL;
    void *data = &self;
    size_t n;
    int from;

    assert_int_equal(comm_create_self(&self), OK);
    assert_int_equal(comm_mail_create(self, &mail), OK);
    assert_int_equal(comm_mail_receive(mail, &from, &data, &n), OK);
    assert_null(data);
    assert_int_equal(comm_mail_send(mail, 0, "x", 1), ERR_INTERNAL); /* nobody writes to himself */
    comm_mail_destroy(mail);
    comm_destroy(self);
    ASSERT_ALL(*state, 1);
}

/* Who does not receive is named, in time, and so is who does not send the rest. The letter is too
 * long for the library's own buffers; its first slice is still under way when the call gives up. */
static void test_deadline(void **state)
{
    static char letter[2 << 20];
    const struct comm_params p = {.timeout_s = 0.3, .transport = COMM_MPI};
    struct comm_mail *mail = NULL;
    struct comm *hasty = NULL;
    int rc = ERR_TIMEOUT, from = -1;
    void *data = NULL;
    size_t n;

    if (comm_size(*state) == 1)
        skip();
    ASSERT_ALL(*state, comm_duplicate(*state, &p, &hasty) == OK);
    ASSERT_ALL(*state, comm_mail_create(hasty, &mail) == OK);
    if (comm_rank(*state) == 0)
        rc = comm_mail_send(mail, 1, letter, sizeof letter);
    ASSERT_ALL(*state, rc == ERR_TIMEOUT);
    ASSERT_ALL(*state, comm_rank(*state) != 0 || strstr(log_last_error(), "for rank 1 on "));
    if (comm_rank(*state) == 1) {
        do
            rc = comm_mail_receive(mail, &from, &data, &n);
        while (rc == OK && !data);
    }
    ASSERT_ALL(*state, rc == ERR_TIMEOUT);
    ASSERT_ALL(*state, comm_rank(*state) != 1 || strstr(log_last_error(), "for rank 0 on "));
    comm_mail_destroy(mail);
    comm_destroy(hasty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_world),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_self),
        cmocka_unit_test(test_deadline),
    };

    return cmocka_run_group_tests(tests, ranks_setup_threads, ranks_teardown);
}
