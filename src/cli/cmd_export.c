/* paligrid export: the result files of a batch, made again from its journal.
 *
 * Also of a batch that was stopped early: what is missing is counted, and there is no _SUCCESS. */
#include "commands.h"

#include <inttypes.h>

#include "results.h"
#include "status.h"

int cmd_export(const struct options *o, FILE *f)
{
    struct pack_params p = {.n_records = -1, .categories = o->categories, .exports = RESULTS_H5};
    struct pack_report report;

    if (o->exports)
        TRY(results_exports_parse(o->exports, &p.exports));
    TRY(results_pack_dir(o->output_path, &p, &report));
    fprintf(f, "%s: %" PRId64 " results, %" PRId64 " errors\n", o->output_path, report.n_results,
            report.n_errors);
    return OK;
}
