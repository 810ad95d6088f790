/* Replicas that only take time; see crowd.h. */
#include "crowd.h"

#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "prepare.h"
#include "status.h"

enum { LOOK_US = 100000 };

/* ---- a heap by time ---- */

static void swap(struct crowd_event *a, struct crowd_event *b)
{
    const struct crowd_event t = *a;

    *a = *b;
    *b = t;
}

static int heap_push(struct crowd *c, struct crowd_event e)
{
    size_t i = c->n_events;

    if (c->n_events == c->cap) {
        const size_t cap = c->cap ? 2 * c->cap : 1024;
        struct crowd_event *grown = realloc(c->event, cap * sizeof *grown);

        if (!grown)
            return FAIL(ERR_NOMEM, "%zu simulated answers", cap);
        c->event = grown;
        c->cap = cap;
    }
    c->event[c->n_events++] = e;
    for (; i > 0 && c->event[i].due_us < c->event[(i - 1) / 2].due_us; i = (i - 1) / 2)
        swap(&c->event[i], &c->event[(i - 1) / 2]);
    return OK;
}

static struct crowd_event heap_pop(struct crowd *c)
{
    const struct crowd_event top = c->event[0];
    size_t i = 0;

    c->event[0] = c->event[--c->n_events];
    for (;;) {
        size_t least = i;

        for (size_t k = 2 * i + 1; k <= 2 * i + 2 && k < c->n_events; k++)
            least = c->event[k].due_us < c->event[least].due_us ? k : least;
        if (least == i)
            return top;
        swap(&c->event[i], &c->event[least]);
        i = least;
    }
}

/* ---- letters ---- */

static int take_work(struct crowd *c, struct letter *l)
{
    int64_t *place = c->free_us + (size_t)l->replica * (size_t)c->batch, *first = place;
    const int64_t now = clock_us();

    for (int i = 1; i < c->batch; i++)
        first = place[i] < *first ? &place[i] : first;
    if (*first > 0 && *first < now)
        c->starved_us += now - *first;
    *first = (*first > now ? *first : now) + c->service_us;
    return heap_push(c, (struct crowd_event){*first, l});
}

static int answer(struct crowd *c, const struct letter *work)
{
    static const int32_t tokens[] = {579, 368, 343, 1};
    const struct replica_times times = {.busy_us = clock_us()};
    const uint8_t *todo;
    struct sample *s;

    TRY(letter_read_work(work, &s, &todo));
    for (size_t k = 0; k < s->n_records; k++) {
        struct result r = prepared_result(s, k, work->replica);
        struct letter *l;

        r.text = "a red square";
        r.n_text = 12;
        r.tokens = tokens;
        r.n_tokens = sizeof tokens / sizeof tokens[0];
        r.generate_us = c->service_us;
        r.attempt = 1;
        l = todo[k] ? letter_of_result(work->replica, &r, &times) : NULL;
        if (todo[k] && (!l || !queue_put(c->out, &l->item))) {
            free(l);
            sample_free(s);
            return ERR_NOMEM;
        }
    }
    sample_free(s);
    return OK;
}

static void look_at_memory(struct crowd *c)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    size_t kib = 0;

    while (f && fgets(line, sizeof line, f) && sscanf(line, "RssAnon: %zu kB", &kib) != 1)
        ;
    if (f)
        fclose(f);
    if (kib * 1024 > c->peak_anonymous_bytes)
        c->peak_anonymous_bytes = kib * 1024;
}

/* ---- the thread ---- */

static int answer_due(struct crowd *c)
{
    while (c->n_events > 0 && c->event[0].due_us <= clock_us()) {
        const struct crowd_event e = heap_pop(c);
        const int rc = answer(c, e.work);

        free(e.work);
        TRY(rc);
    }
    return OK;
}

static int64_t next_wait(const struct crowd *c)
{
    const int64_t wait = c->n_events > 0 ? c->event[0].due_us - clock_us() : LOOK_US;

    return wait < 0 ? 0 : wait < LOOK_US ? wait : LOOK_US;
}

/* The coordinator ends the run then, and tells us to leave. */
static void report(struct crowd *c)
{
    struct letter *l = letter_create(LETTER_TROUBLE, 0, 0);

    if (!l)
        return;
    l->value = c->rc;
    if (!queue_put(c->out, &l->item))
        free(l);
}

static void *stand_in(void *context)
{
    struct crowd *c = context;
    int64_t looked_us = 0;

    for (;;) {
        struct letter *l = (struct letter *)queue_take(&c->in, (unsigned)QUEUE_ANY, next_wait(c));
        const int kind = l ? l->item.kind : -1;

        if (kind == LETTER_WORK && c->rc == OK)
            c->rc = take_work(c, l);
        else
            free(l);
        if (kind == LETTER_LEAVE)
            return NULL;
        if (c->rc != OK)
            continue;
        c->rc = answer_due(c);
        if (c->rc != OK)
            report(c);
        if (clock_us() - looked_us > LOOK_US) {
            look_at_memory(c);
            looked_us = clock_us();
        }
    }
}

int crowd_start(struct crowd *c)
{
    TRY(queue_init(&c->in, 0)); /* bounded by what is dealt */
    c->free_us = calloc((size_t)c->n_replicas * (size_t)c->batch, sizeof *c->free_us);
    if (!c->free_us)
        return FAIL(ERR_NOMEM, "%d simulated replicas", c->n_replicas);
    if (pthread_create(&c->thread, NULL, stand_in, c) != 0)
        return FAIL(ERR_NOMEM, "a thread of simulated replicas");
    c->running = true;
    return OK;
}

int crowd_join(struct crowd *c)
{
    if (c->running)
        pthread_join(c->thread, NULL);
    c->running = false;
    return c->rc;
}

void crowd_release(struct crowd *c)
{
    for (size_t i = 0; i < c->n_events; i++)
        free(c->event[i].work);
    free(c->event);
    free(c->free_us);
    queue_release(&c->in, letter_free);
}
