/* stats.json: totals over the records, and what the caller knows about the run.
 *
 * Times are sums over the records' lines in the journal: unlike all other files this one says how
 * the results were made. */
#include <string.h>

#include "pack_impl.h"
#include "status.h"

static void count_class(struct pack_stats *st, const char *name)
{
    size_t i = 0;

    while (i < STATS_CLASSES - 1 && st->class[i].n > 0 && strcmp(st->class[i].name, name) != 0)
        i++;
    if (st->class[i].n++ == 0)
        snprintf(st->class[i].name, sizeof st->class[i].name, "%s",
                 i == STATS_CLASSES - 1 ? "other" : name);
}

void pack_stats_add(struct pack_stats *st, const struct pack_record *rec)
{
    const struct result *r = rec->r;

    st->wait_us += r->wait_us;
    st->decode_us += r->decode_us;
    st->vision_us += r->vision_us;
    st->prefill_us += r->prefill_us;
    st->generate_us += r->generate_us;
    if (r->rc != OK) {
        st->n_errors++;
        count_class(st, rec->class);
        return;
    }
    st->n_results++;
    st->n_tokens += (int64_t)r->n_tokens;
    st->n_length += r->finish == RESULT_LENGTH;
    st->n_boxes += (int64_t)rec->n_boxes;
    st->n_malformed += (int64_t)rec->n_malformed;
}

static void put_seconds(FILE *f, const struct pack_stats *st)
{
    fprintf(f,
            ",\"seconds\":{\"wait\":%.3f,\"decode\":%.3f,\"vision\":%.3f,\"prefill\":%.3f,"
            "\"generate\":%.3f}",
            (double)st->wait_us / 1e6, (double)st->decode_us / 1e6, (double)st->vision_us / 1e6,
            (double)st->prefill_us / 1e6, (double)st->generate_us / 1e6);
}

int pack_stats_write(const struct pack_stats *st, const struct pack *p, int64_t n_missing)
{
    struct results_file file;

    TRY(results_file_create(&file, p->dir, "stats.json", p->moments));
    fprintf(file.f, "{\"results\":%lld", (long long)st->n_results);
    json_member_int(file.f, "errors", st->n_errors);
    if (n_missing >= 0)
        json_member_int(file.f, "missing", n_missing);
    json_member_int(file.f, "tokens", st->n_tokens);
    json_member_int(file.f, "cut_at_max_tokens", st->n_length);
    json_member_int(file.f, "boxes", st->n_boxes);
    json_member_int(file.f, "malformed_boxes", st->n_malformed);
    put_seconds(file.f, st);
    fputs(",\"error_classes\":{", file.f);
    for (size_t i = 0; i < STATS_CLASSES && st->class[i].n > 0; i++) {
        fputs(i ? "," : "", file.f);
        json_write_string(file.f, st->class[i].name, strlen(st->class[i].name));
        fprintf(file.f, ":%lld", (long long)st->class[i].n);
    }
    fprintf(file.f, "},\"run\":%s}\n", p->params->stats_json);
    return results_file_commit(&file);
}
