/* paligrid simulate: what the coordinator of a batch costs, without a model.
 *
 * starved is the share of the replicas' time that they waited for the coordinator. */
#include "commands.h"

#include <errno.h>
#include <sys/stat.h>

#include "coord.h"
#include "status.h"

int cmd_simulate(const struct options *o, FILE *f)
{
    const struct coord_simulation s = {
        .n_replicas = o->replicas,
        .batch = o->batch,
        .n_records = (int64_t)o->simulate_records,
        .service_us = (int64_t)(o->simulate_ms * 1e3),
    };
    struct coord_simulated r;

    if (mkdir(o->output_path, 0777) != 0 && errno != EEXIST)
        return FAIL(ERR_IO, "%s cannot be made: %m", o->output_path);
    TRY(coord_simulate(&s, o->output_path, &r));
    fprintf(f,
            "records=%lld replicas=%d batch=%d service_ms=%.3f wall_s=%.3f ideal_s=%.3f "
            "records_per_s=%.0f starved=%.3f%% coordinator_s=%.3f us_per_record=%.2f sync_s=%.3f "
            "peak_anonymous_mib=%.2f\n",
            (long long)s.n_records, s.n_replicas, s.batch, o->simulate_ms, r.wall_s, r.ideal_s,
            r.records_per_s, 100 * r.starved_share, r.busy_s, 1e6 * r.busy_s / (double)s.n_records,
            r.sync_s, (double)r.peak_anonymous_bytes / 1048576.0);
    return OK;
}
