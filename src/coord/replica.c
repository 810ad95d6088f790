/* The compute loop of a replica's leader; see replica.h.
 *
 *     orders, if there are any
 *     take what is prepared, while there are places;  encode its pictures together;  admit
 *     one step for all that is open;  send the answers of those that have ended
 *
 * Places are refilled between two steps, so a long answer holds up nobody. Pictures wait for their
 * turn in the engine's feature slots, which are free again once all prompts about them have been
 * admitted: keys and values are in the cache by then. */
#include "replica.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "status.h"

enum { ORDERS = 1u << LETTER_ALL_DEALT | 1u << LETTER_DRAIN | 1u << LETTER_LEAVE };

int64_t coord_beat_us(const struct coord_params *p)
{
    const double quarter = p->comm_timeout_s / 4;

    return (int64_t)((quarter < 1 ? quarter : 1) * 1e6) + 1;
}

/* ---- results ---- */

static int send(struct replica *r, struct letter *l)
{
    if (!l)
        return ERR_NOMEM;
    if (!queue_put(r->to, &l->item))
        free(l);
    return OK;
}

/* Fills in what the compute knows, and sends. The text is made here, from the tokens. */
static int send_answer(struct replica *r, const struct prepared *d, size_t k,
                       const struct answer *a)
{
    struct result out = prepared_result(d->sample, k, r->params->layout.replica);
    struct letter *l;
    char *text;

    TRY(tokenizer_decode(r->parts->tokenizer, a->tokens, (size_t)a->n_tokens, &text, &out.n_text));
    out.text = text;
    out.tokens = a->tokens;
    out.n_tokens = (size_t)a->n_tokens;
    out.finish = a->finish == FINISH_EOS ? RESULT_EOS : RESULT_LENGTH;
    out.logprob = a->logprob;
    out.width_px = d->info.width_px;
    out.height_px = d->info.height_px;
    out.n_images = d->n_images;
    out.n_prompt_tokens = (int)d->record[k].n_ids;
    out.wait_us = d->encoded_us - d->arrived_us - d->decode_us;
    out.decode_us = d->decode_us;
    out.vision_us = d->vision_us;
    out.prefill_us = a->prefill_us;
    out.generate_us = a->decode_us;
    out.attempt = 1;
    r->times.busy_us = r->group.busy_us;
    l = letter_of_result(r->params->layout.replica, &out, &r->times);
    free(text);
    coord_moment(r->params, "after_answer");
    return send(r, l);
}

static int send_failure(struct replica *r, const struct prepared *d, size_t k)
{
    struct result out = prepared_result(d->sample, k, r->params->layout.replica);

    out.rc = ERR_INPUT;
    out.why = log_last_error();
    out.width_px = d->info.width_px;
    out.height_px = d->info.height_px;
    out.decode_us = d->decode_us;
    out.vision_us = d->vision_us;
    out.attempt = 1;
    return send(r, letter_of_result(r->params->layout.replica, &out, &r->times));
}

/* A record is through, with or without an answer. */
static void finish_record(struct prepared *d)
{
    if (--d->n_open == 0)
        prepared_free(&d->item);
}

/* ---- waiting samples ---- */

static void skip_done(struct prepared *d)
{
    while (d->next < d->sample->n_records && !d->record[d->next].ids)
        d->next++;
}

static void wait_append(struct replica *r, struct prepared *d)
{
    skip_done(d);
    d->after = NULL;
    *r->waiting_end = d;
    r->waiting_end = &d->after;
    r->n_waiting += d->n_todo;
}

/* The first one's records have all been admitted (or failed): its slots are free. */
static void wait_pop(struct replica *r)
{
    struct prepared *d = r->waiting;

    for (int i = 0; i < d->n_images; i++) {
        if (d->slot[i] >= 0)
            r->slot_used[d->slot[i]] = 0;
    }
    r->waiting = d->after;
    if (!r->waiting)
        r->waiting_end = &r->waiting;
}

static void wait_drop_all(struct replica *r)
{
    while (r->waiting) {
        struct prepared *d = r->waiting;

        wait_pop(r);
        d->n_open -= d->n_todo;
        if (d->n_open == 0)
            prepared_free(&d->item);
    }
    r->n_waiting = 0;
}

/* ---- vision ---- */

static bool find_slots(struct replica *r, struct prepared *d)
{
    int n = 0;

    for (int s = 0; s < r->params->n_slots && n < d->n_images; s++) {
        if (!r->slot_used[s])
            d->slot[n++] = s;
    }
    if (n < d->n_images) {
        for (int i = 0; i < d->n_images; i++)
            d->slot[i] = -1;
        return false;
    }
    for (int i = 0; i < n; i++)
        r->slot_used[d->slot[i]] = 1;
    return true;
}

/* Pictures of the next samples that will be admitted, as many as have slots, in one call. */
static int encode_waiting(struct replica *r, int n_free)
{
    const size_t px = (size_t)r->params->image.out_px, picture_bytes = px * px * 3;
    const uint8_t *rgb[GROUP_MAX_IMAGES];
    struct prepared *first = NULL, *last = NULL;
    int slot[GROUP_MAX_IMAGES], n = 0;
    int64_t start = clock_us(), took;

    for (struct prepared *d = r->waiting; d && n_free > 0; d = d->after) {
        n_free -= (int)(d->n_todo < (size_t)n_free ? d->n_todo : (size_t)n_free);
        if (d->slot[0] >= 0)
            continue;
        if (n + d->n_images > r->group.n_encode || !find_slots(r, d))
            break;
        for (int i = 0; i < d->n_images; i++, n++) {
            slot[n] = d->slot[i];
            rgb[n] = d->rgb + (size_t)i * picture_bytes;
        }
        d->encoded_us = start;
        first = first ? first : d;
        last = d->after;
    }
    if (n == 0)
        return OK;
    TRY(group_encode(&r->group, rgb, slot, n));
    took = clock_us() - start;
    for (struct prepared *d = first; d != last; d = d->after) {
        if (d->encoded_us != start)
            continue;
        d->vision_us = took * d->n_images / n;
        free(d->rgb); /* seen; a waiting sample need not keep it */
        d->rgb = NULL;
    }
    return OK;
}

/* ---- answers ---- */

static int take_seat(struct replica *r, struct prepared *d, size_t k, int seq)
{
    ASSERT(seq >= 0 && seq < r->params->batch && !r->seat[seq].prepared);
    r->seat[seq] = (struct seat){.prepared = d, .k = k, .admitted_us = clock_us()};
    r->n_open++;
    return OK;
}

/* Beams have the engine for themselves. */
static int answer_beams(struct replica *r, struct prepared *d, size_t k,
                        const struct group_prompt *p)
{
    TRY(group_generate(&r->group, p));
    TRY(send_answer(r, d, k, &r->group.answer[0]));
    finish_record(d);
    return OK;
}

static int admit_record(struct replica *r, struct prepared *d, size_t k)
{
    const struct group_prompt p = {
        .ids = d->record[k].ids,
        .n_ids = d->record[k].n_ids,
        .slot = d->slot,
        .n_images = d->n_images,
        .record = d->sample->index + (int64_t)k,
    };
    int seq = -1, rc;

    if (r->params->n_beams > 1) {
        rc = answer_beams(r, d, k, &p);
    } else {
        rc = group_admit(&r->group, &p, &seq);
        if (rc == OK)
            return take_seat(r, d, k, seq);
    }
    if (rc != ERR_INPUT)
        return rc;
    TRY(send_failure(r, d, k));
    finish_record(d);
    return OK;
}

static bool has_room(const struct replica *r, const struct prepared *d)
{
    if (r->params->n_beams > 1 || r->n_open == 0)
        return true; /* an empty engine takes every prompt, or tells what is wrong with it */
    return r->n_open < r->params->batch &&
           engine_has_room(r->group.engine, d->record[d->next].n_ids, r->params->max_new_tokens);
}

static int admit_waiting(struct replica *r)
{
    while (r->waiting && r->waiting->slot[0] >= 0 && has_room(r, r->waiting)) {
        struct prepared *d = r->waiting;
        const size_t k = d->next++;
        bool is_last;

        skip_done(d);
        is_last = d->next == d->sample->n_records;
        if (is_last)
            d->n_open++; /* it must outlive its last record until it is out of the list */
        d->n_todo--;
        r->n_waiting--;
        TRY(admit_record(r, d, k));
        if (is_last) {
            wait_pop(r);
            finish_record(d);
        }
    }
    return OK;
}

static int free_places(const struct replica *r)
{
    return r->params->n_beams > 1 ? 1 : r->params->batch - r->n_open;
}

static int admit(struct replica *r)
{
    int n_free = free_places(r);

    while (r->n_waiting < (size_t)n_free) {
        struct item *i = queue_take(&r->desk, 1u << ITEM_PREPARED, 0);

        if (!i)
            break;
        wait_append(r, (struct prepared *)i);
    }
    if (n_free == 0 || r->n_waiting == 0)
        return OK;
    TRY(encode_waiting(r, n_free));
    return admit_waiting(r);
}

/* Answers of requests that have ended; of all, without their answers, when `drop`. */
static int clear_seats(struct replica *r, bool drop)
{
    for (int seq = 0; seq < r->params->batch; seq++) {
        struct seat *s = &r->seat[seq];
        int rc;

        if (!s->prepared || (!drop && !engine_ended(r->group.engine, seq)))
            continue;
        rc = group_leave(&r->group, seq);
        if (rc != OK && rc != ERR_INPUT)
            return rc;
        if (!drop)
            TRY(rc == OK ? send_answer(r, s->prepared, s->k, &r->group.answer[0])
                         : send_failure(r, s->prepared, s->k));
        finish_record(s->prepared);
        *s = (struct seat){0};
        r->n_open--;
    }
    return OK;
}

/* ---- orders ---- */

static int obey(struct replica *r, struct letter *l)
{
    if (l->item.kind == LETTER_ALL_DEALT)
        r->all_dealt = true;
    if (l->item.kind == LETTER_DRAIN && !r->draining) {
        r->draining = true;
        r->drain_until_us = clock_us() + l->value;
        wait_drop_all(r);
    }
    if (l->item.kind == LETTER_LEAVE) {
        r->leaving = true;
        r->rc = (int)l->value;
        r->end = (enum coord_end)l->detail;
    }
    free(l);
    return OK;
}

static int obey_all(struct replica *r)
{
    struct item *i;

    while (!r->leaving && (i = queue_take(&r->desk, ORDERS, 0)))
        TRY(obey(r, (struct letter *)i));
    return OK;
}

static int drain(struct replica *r)
{
    if (r->n_open > 0 && clock_us() >= r->drain_until_us)
        TRY(clear_seats(r, true));
    if (r->n_open > 0 || r->told_drained)
        return OK;
    r->told_drained = true;
    return send(r, letter_create(LETTER_DRAINED, r->params->layout.replica, 0));
}

/* Nothing to do: waits for something, but the members hear from us in time. */
static int rest(struct replica *r)
{
    const unsigned kinds = r->draining ? ORDERS : (unsigned)QUEUE_ANY;
    const int64_t start = clock_us();
    struct item *i;

    comm_note_phase(r->group.comm, "idle");
    i = queue_take(&r->desk, kinds, coord_beat_us(r->params));
    if (!r->all_dealt && !r->draining)
        r->times.wait_us += clock_us() - start;
    if (!i)
        return group_idle(&r->group);
    if (i->kind == ITEM_PREPARED)
        wait_append(r, (struct prepared *)i);
    else
        return obey(r, (struct letter *)i);
    return OK;
}

/* ---- the loop ---- */

static int step(struct replica *r)
{
    TRY(obey_all(r));
    if (r->leaving)
        return OK;
    if (r->draining)
        TRY(drain(r));
    else
        TRY(admit(r));
    TRY(clear_seats(r, false)); /* a first token may have been the last */
    if (r->n_open == 0)
        return r->n_waiting > 0 && !r->draining ? OK : rest(r);
    TRY(group_advance(&r->group));
    return clear_seats(r, false);
}

/* What ends the run, from this rank: the coordinator hears of it and says to all when to leave. */
static int report_trouble(struct replica *r, int rc)
{
    struct letter *l = letter_create(LETTER_TROUBLE, r->params->layout.replica, 0);

    if (l)
        l->value = rc;
    send(r, l);
    while (!r->leaving && !queue_is_closed(&r->desk)) {
        struct item *i = queue_take(&r->desk, ORDERS, coord_beat_us(r->params));

        if (i)
            obey(r, (struct letter *)i);
        if (!i)
            TRY(group_idle(&r->group));
    }
    return rc;
}

int replica_lead(struct replica *r)
{
    int rc = OK, rc_end;

    while (rc == OK && !r->leaving)
        rc = step(r);
    if (rc != OK)
        rc = report_trouble(r, rc);
    else
        rc = r->rc;
    rc_end = group_end(&r->group, rc, r->end);
    return rc != OK ? rc : rc_end;
}

int replica_follow(const struct coord_params *p, const struct coord_parts *parts,
                   enum coord_end *end)
{
    struct group g;
    int rc = comm_agree(parts->group, group_init(&g, p, parts->group, parts->engine));

    if (rc == OK)
        rc = group_follow(&g, end);
    group_release(&g);
    return rc;
}

/* ---- life ---- */

static void free_any(struct item *i)
{
    if (i->kind == ITEM_PREPARED)
        prepared_free(i);
    else
        letter_free(i);
}

void replica_deliver(struct replica *r, struct letter *l)
{
    const bool went = l->item.kind == LETTER_WORK ? queue_put(&r->work, &l->item)
                                                  : queue_put_urgent(&r->desk, &l->item);

    if (!went)
        free(l);
}

int replica_open(struct replica *r, const struct coord_params *p, const struct coord_parts *parts)
{
    *r = (struct replica){.params = p, .parts = parts};
    r->waiting_end = &r->waiting;
    r->to = &r->out;
    TRY(queue_init(&r->work, 0)); /* bounded by what the coordinator deals */
    TRY(queue_init(&r->desk, p->queue_bytes));
    TRY(queue_init(&r->out, 0)); /* bounded by what is dealt, too */
    r->seat = calloc((size_t)p->batch, sizeof *r->seat);
    r->slot_used = calloc((size_t)p->n_slots, sizeof *r->slot_used);
    if (!r->seat || !r->slot_used)
        return FAIL(ERR_NOMEM, "a replica of %d places", p->batch);
    return OK;
}

void replica_close(struct replica *r)
{
    queue_close(&r->work);
    queue_close(&r->desk);
    queue_close(&r->out);
    preparer_stop(&r->preparer);
    for (int i = 0; r->seat && i < r->params->batch; i++) {
        if (r->seat[i].prepared)
            finish_record(r->seat[i].prepared);
    }
    wait_drop_all(r);
    queue_release(&r->work, free_any);
    queue_release(&r->desk, free_any);
    queue_release(&r->out, free_any);
    group_release(&r->group);
    free(r->seat);
    free(r->slot_used);
    *r = (struct replica){0};
}
