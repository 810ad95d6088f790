/* The program: answers what needs no ranks, starts them otherwise, and turns codes into exit
 * status.
 *
 * The order matters. Options are read before MPI, so --help works on a login node; the image
 * helper is forked before MPI, since a process that MPI has touched should not be; ranks compare
 * build and options before anything else crosses between them. */

#include "alone.h"
#include "commands.h"
#include "identity.h"
#include "status.h"
#include "watch_dir.h"

static void abort_job(void)
{
    comm_abort(NULL, status_exit_code(ERR_INTERNAL));
}

static int check_same_start(struct comm *c, const struct options *o)
{
    static const char *const what[] = {"build", "options"};
    struct digest d[2] = {identity_of_build()};
    int rc = options_digest(o, &d[1]); /* without memory: an empty digest, which differs */

    rc = rc == OK ? comm_check_same(c, what, d, 2) : comm_agree(c, rc);
    if (rc == ERR_MISMATCH && o->rc != OK && comm_rank(c) != 0)
        log_rank(LOG_ERROR, "cli", "this rank: %s", o->error);
    return rc;
}

/* What was wrong before ranks were known is told now: options by rank 0, a missing helper by its
 * own log. */
static int check_start(const struct options *o, const struct command_call *command,
                       const struct command_start *s)
{
    const bool needed = (command->needs & COMMAND_NEEDS_HELPERS) ||
                        (comm_rank(s->comm) == 0 && (command->needs & COMMAND_NEEDS_HELPER));

    TRY(check_same_start(s->comm, o));
    if (o->rc != OK)
        return comm_rank(s->comm) == 0 ? FAIL(o->rc, "%s", o->error) : o->rc;
    return comm_agree(s->comm, needed && !s->helper ? ERR_INTERNAL : OK);
}

/* Before MPI, and hence before it is known which ranks need one. */
static struct image_helper *start_helper(const struct options *o, const struct command_call *call)
{
    struct image_limits limits = image_limits_default();
    struct image_helper *helper = NULL;

    limits.max_pixels = (size_t)o->max_pixels;
    if (o->rc == OK && (call->needs & (COMMAND_NEEDS_HELPER | COMMAND_NEEDS_HELPERS)))
        image_helper_start(&helper, &limits);
    return helper;
}

static int on_ranks(const struct options *o, const struct command_call *command)
{
    struct command_start s = {.helper = start_helper(o, command)};
    struct comm_params params = {.timeout_s = o->comm_timeout_s,
                                 .transport = (enum comm_transport)o->comm,
                                 .threads = command->needs & COMMAND_NEEDS_THREADS,
                                 .watch_dir = watch_dir()};
    int rc = comm_create_world(&s.comm, &params);

    if (rc != OK) {
        image_helper_stop(s.helper);
        return status_exit_code(rc);
    }
    log_set_abort(abort_job);
    if (comm_rank(s.comm) != 0 && !(command->needs & COMMAND_NEEDS_HELPERS)) {
        image_helper_stop(s.helper);
        s.helper = NULL;
    }
    rc = check_start(o, command, &s);
    rc = rc == OK ? command->on_ranks(o, &s) : rc;
    image_helper_stop(s.helper);
    if (rc == ERR_COMM || rc == ERR_TIMEOUT)
        comm_abort(s.comm, status_exit_code(rc));
    comm_destroy(s.comm);
    return rc == OK ? s.exit_status : status_exit_code(rc);
}

int main(int argc, char **argv)
{
    const struct command_call *command;
    struct options o;
    int exit_status = 0;

    log_init(LOG_INFO);
    options_parse(&o, argc, argv);
    log_init((enum log_level)o.log_level);
    log_set_format((enum log_format)o.log_format);
    command = command_find(o.command);
    if (!alone_answer(&o, command, &exit_status))
        exit_status = on_ranks(&o, command);
    options_release(&o);
    return exit_status;
}
