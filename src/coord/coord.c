/* A run over a data set, from the first letter to the last; see coord.h.
 *
 * Rank 0 is coordinator (a thread) and leads replica 0 (the caller's thread); other leaders have a
 * carrier; members and ranks without work only follow. Every rank comes to the same agreements at
 * the same places, whatever it is. */
#include "coord.h"

#include "clock.h"
#include "coordinator.h"
#include "status.h"

struct run {
    const struct coord_params *params;
    const struct coord_parts *parts;
    struct comm_mail *mail;
    struct coordinator coordinator; /* rank 0 */
    struct replica replica;         /* leaders */
    struct carrier carrier;         /* leaders but rank 0 */
    bool is_root, is_leader, has_coordinator, has_replica;
};

static int check(const struct coord_params *p)
{
    if (p->batch < 1 || p->max_new_tokens < 1 || p->n_beams < 1 || p->max_prompt_tokens < 1 ||
        p->max_images < 1 || p->max_images > p->n_slots || p->max_images > GROUP_MAX_IMAGES)
        return FAIL(ERR_USAGE,
                    "batch %d, new tokens %d, beams %d, prompts of %d tokens and %d pictures "
                    "(at most %d)",
                    p->batch, p->max_new_tokens, p->n_beams, p->max_prompt_tokens, p->max_images,
                    GROUP_MAX_IMAGES);
    return OK;
}

static int open_coordinator(struct run *r)
{
    struct coordinator *c = &r->coordinator;

    r->has_coordinator = true;
    TRY(coordinator_open(c, r->params, r->params->layout.replicas));
    c->journal = r->parts->journal;
    c->stop = r->parts->stop;
    c->mail = comm_size(r->parts->world) > 1 ? r->mail : NULL;
    for (int i = 0; i < c->n_stations; i++)
        c->station[i].rank = i * r->params->layout.tp;
    c->station[0].local = &r->replica;
    return OK;
}

static int open_leader(struct run *r)
{
    struct replica *p = &r->replica;

    r->has_replica = true;
    TRY(replica_open(p, r->params, r->parts));
    p->preparer = (struct preparer){
        .params = r->params,
        .cfg = engine_config(r->parts->engine),
        .tokenizer = r->parts->tokenizer,
        .helper = r->parts->helper,
        .work = &p->work,
        .desk = &p->desk,
        .replica = r->params->layout.replica,
    };
    if (r->is_root) {
        TRY(open_coordinator(r));
        p->to = &r->coordinator.in;
    }
    p->preparer.out = p->to;
    return OK;
}

static int start_threads(struct run *r)
{
    if (!r->is_leader)
        return OK;
    TRY(preparer_start(&r->replica.preparer));
    if (r->is_root)
        return coordinator_start(&r->coordinator);
    r->carrier = (struct carrier){
        .params = r->params, .parts = r->parts, .mail = r->mail, .replica = &r->replica};
    return carrier_start(&r->carrier);
}

/* The leader's part: buffers are agreed on with the members, then it leads. */
static int lead(struct run *r)
{
    struct replica *p = &r->replica;

    TRY(comm_agree(r->parts->group,
                   group_init(&p->group, r->params, r->parts->group, r->parts->engine)));
    return replica_lead(p);
}

static int work(struct run *r, enum coord_end *end)
{
    int rc, rc_other = OK;

    if (r->params->layout.replica < 0)
        return carrier_wait(r->params, r->mail, end);
    if (!r->is_leader)
        return replica_follow(r->params, r->parts, end);
    rc = lead(r);
    *end = r->replica.end;
    if (r->is_root)
        rc_other = coordinator_join(&r->coordinator);
    else
        rc_other = carrier_stop(&r->carrier);
    return rc != OK ? rc : rc_other;
}

static void summarise(const struct run *r, struct coord_summary *s)
{
    const struct progress *p = &r->coordinator.progress;

    s->n_records = p->is_total ? p->n_read : -1;
    s->n_answered = p->n_answered;
    s->n_failed = p->n_failed;
    s->n_resumed = p->n_resumed;
    s->wall_s = (double)(clock_us() - p->start_us) / 1e6;
    s->images_per_s = progress_images_per_s(p);
    s->input_wait_share = gather_wait_share(&r->coordinator);
    s->end = r->coordinator.end;
}

static void close_run(struct run *r)
{
    /* The replica's boxes are closed before the coordinator's, to which its threads may write. */
    if (r->has_coordinator)
        queue_close(&r->coordinator.in);
    if (r->has_replica)
        replica_close(&r->replica);
    if (r->has_coordinator)
        coordinator_close(&r->coordinator);
}

int coord_run(const struct coord_params *p, const struct coord_parts *parts,
              struct coord_summary *summary)
{
    struct run r = {.params = p, .parts = parts};
    struct coord_summary s = {.end = COORD_STOPPED};
    int rc;

    r.is_root = comm_rank(parts->world) == 0;
    r.is_leader = p->layout.replica >= 0 && p->layout.tp_rank == 0;
    TRY(comm_agree(parts->world, check(p)));
    TRY(comm_mail_create(parts->world, &r.mail));
    rc = comm_agree(parts->world, r.is_leader ? open_leader(&r) : OK);
    if (rc == OK)
        rc = comm_agree(parts->world, start_threads(&r));
    if (rc == OK)
        rc = work(&r, &s.end);
    /* Without communication there is nothing to agree about: the caller aborts. It must not go on
     * while threads use this run; those that nobody waited for end with the job. */
    if (rc == ERR_COMM || rc == ERR_TIMEOUT) {
        if (r.coordinator.running || r.carrier.running)
            comm_abort(parts->world, status_exit_code(rc));
        close_run(&r);
        return rc;
    }
    rc = comm_agree(parts->world, rc);
    if (r.is_root)
        summarise(&r, &s);
    close_run(&r);
    comm_mail_destroy(r.mail);
    if (rc == OK)
        *summary = s;
    return rc;
}
