/* The steps of joining; see comm_device_impl.h.
 *
 * A step that can fail on one rank ends in an exchange of the outcome over host memory, which has
 * its own deadline: nobody waits inside the transport for a rank that has given up. */
#include "comm_device.h"

#include <string.h>

#include "comm_device_impl.h"
#include "status.h"

/* What rank 0 tells: its outcome, and the name. */
struct invitation {
    int32_t rc;
    unsigned char name[COMM_DEVICE_NAME_BYTES];
};

int comm_device_await(const struct comm_device_transport *t, int64_t timeout_us, const char *what)
{
    const int64_t start = t->now_us(t->ctx);

    for (;;) {
        switch (t->progress(t->ctx)) {
        case COMM_DEVICE_DONE:
            return OK;
        case COMM_DEVICE_BROKEN:
            t->abort(t->ctx);
            return FAIL(ERR_COMM, "GPUs: %s failed", what);
        case COMM_DEVICE_BUSY:
            break;
        }
        if (t->now_us(t->ctx) - start > timeout_us) {
            t->abort(t->ctx);
            return FAIL(ERR_TIMEOUT, "GPUs: no end of %s within %.1f s", what,
                        (double)timeout_us * 1e-6);
        }
        t->nap(t->ctx);
    }
}

static int share_name(const struct comm_device_transport *t, struct comm *c,
                      struct invitation *invitation)
{
    memset(invitation, 0, sizeof *invitation);
    if (comm_rank(c) == 0)
        invitation->rc = t->make_name(t->ctx, invitation->name);
    TRY(comm_bcast(c, invitation, sizeof *invitation, 0));
    return invitation->rc;
}

int comm_device_join(const struct comm_device_transport *t, struct comm *c, int64_t timeout_us,
                     enum comm_device_state *state)
{
    struct invitation invitation;
    int rc, all;

    *state = COMM_DEVICE_FAILED;
    TRY(share_name(t, c, &invitation));
    *state = COMM_DEVICE_NAMED;
    rc = t->begin_join(t->ctx, invitation.name, comm_size(c), comm_rank(c));
    if (rc == OK) {
        *state = COMM_DEVICE_JOINING;
        rc = comm_device_await(t, timeout_us, "coming together");
        *state = rc == OK ? COMM_DEVICE_JOINED : COMM_DEVICE_FAILED;
    }
    all = comm_agree(c, rc);
    if (all != OK && *state == COMM_DEVICE_JOINED)
        t->abort(t->ctx);
    *state = all == OK ? COMM_DEVICE_READY : COMM_DEVICE_FAILED;
    return all;
}
