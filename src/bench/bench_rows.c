/* Printing of bench's rows; see bench.h.
 *
 * A row becomes a list of fields once, and each form writes that list, so no form can miss one. */
#include "bench.h"

#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "build_info.h"
#include "json.h"
#include "status.h"
#include "topology.h"

enum { MAX_FIELDS = 48 };

struct field {
    const char *key;
    const char *text; /* NULL: a number */
    double number;    /* 0 with may_lack: null */
    bool may_lack;
};

static size_t fields_of(struct field *out, const struct bench_row *r, const char *cpu)
{
    const struct field fields[] = {
        {.key = "phase", .text = r->phase},
        {.key = "model", .text = r->model},
        {.key = "weights", .text = r->weights},
        {.key = "int4_group", .number = r->int4_group, .may_lack = true},
        {.key = "activations", .text = r->activations},
        {.key = "greedy", .text = r->greedy},
        {.key = "ranks", .number = r->ranks},
        {.key = "threads", .number = r->threads},
        {.key = "batch", .number = r->batch},
        {.key = "text_tokens", .number = r->text_tokens},
        {.key = "new_tokens", .number = r->new_tokens},
        {.key = "median", .number = r->rate.median},
        {.key = "unit", .text = r->unit},
        {.key = "min", .number = r->rate.min},
        {.key = "max", .number = r->rate.max},
        {.key = "ms", .number = r->ms.median},
        {.key = "n", .number = (double)r->rate.n},
        {.key = "discarded", .number = (double)r->rate.n_discarded},
        {.key = "steady", .number = r->rate.is_steady},
        {.key = "ceiling", .number = r->ceiling, .may_lack = true},
        {.key = "share_of_ceiling", .number = r->share, .may_lack = true},
        {.key = "read_gb_s", .number = r->read_gb_s, .may_lack = true},
        {.key = "read_spread", .number = r->read_spread, .may_lack = true},
        {.key = "gflop_s", .number = r->gflop_s, .may_lack = true},
        {.key = "gflop_spread", .number = r->flops_spread, .may_lack = true},
        {.key = "flops", .number = r->flops, .may_lack = true},
        {.key = "bytes", .number = r->bytes, .may_lack = true},
        {.key = "device", .text = r->device},
        {.key = "cpu", .text = cpu},
        {.key = "build", .text = build_version()},
    };

    _Static_assert(sizeof fields / sizeof fields[0] <= MAX_FIELDS, "fields");
    memcpy(out, fields, sizeof fields);
    return sizeof fields / sizeof fields[0];
}

/* ---- accounts ---- */

/* Calls item for every family that took time, the vision tower's first, then for the wall time. */
static void each_account(FILE *f, const struct bench_account *a, const char *separator,
                         void (*item)(FILE *f, const char *key, double ms, double wall_ms))
{
    const double *part[] = {a->vision_ms, a->text_ms};
    static const char *const tower[] = {"vision", "text"};

    for (int p = 0; p < 2; p++) {
        for (int i = 0; i < OPS_N_FAMILIES; i++) {
            char key[64];

            snprintf(key, sizeof key, "%s.%s", tower[p], ops_family_name((enum ops_family)i));
            if (part[p][i] > 0 || part[p][i] < 0) {
                item(f, key, part[p][i], a->wall_ms);
                fputs(separator, f);
            }
        }
    }
    item(f, "wall", a->wall_ms, a->wall_ms);
}

static void text_item(FILE *f, const char *key, double ms, double wall_ms)
{
    fprintf(f, "    %-22s %12.3f ms %6.1f %%\n", key, ms, wall_ms > 0 ? 100 * ms / wall_ms : 0.0);
}

static void json_item(FILE *f, const char *key, double ms, double wall_ms)
{
    (void)wall_ms;
    fprintf(f, "\"%s\":", key);
    json_write_real(f, ms);
}

static void csv_item(FILE *f, const char *key, double ms, double wall_ms)
{
    (void)wall_ms;
    fprintf(f, "%s=%.3f", key, ms);
}

/* ---- forms ---- */

/* Inputs as exact as can be are not worth a word in the table, nor are groups of 32. */
static const char *forms_of(const struct bench_row *r, char *room, size_t n_room)
{
    if (r->int4_group > 32) {
        snprintf(room, n_room, "%s:%d", r->weights, r->int4_group);
        return room;
    }
    if (strcmp(r->activations, "auto") == 0)
        return r->weights;
    snprintf(room, n_room, "%s/%s", r->weights, r->activations);
    return room;
}

static void print_text(FILE *f, const struct bench_row *r)
{
    char ceiling[64] = "-", forms[32];

    if (r->ceiling > 0)
        snprintf(ceiling, sizeof ceiling, "%.4g", r->ceiling);
    fprintf(f, "%-12s %-24s %-9s %-8s %5d %7d %5d %10.4g %10.4g %10.4g %-9s %10s ", r->phase,
            r->model, forms_of(r, forms, sizeof forms), r->greedy, r->ranks, r->threads, r->batch,
            r->rate.median, r->rate.min, r->rate.max, r->unit, ceiling);
    if (r->ceiling > 0)
        fprintf(f, "%5.1f %%", 100 * r->share);
    else
        fputs("      -", f);
    fprintf(f, " %4zu %4zu%s\n", r->rate.n, r->rate.n_discarded,
            r->rate.is_steady ? "" : "  no steady round: all are shown");
    if (r->account)
        each_account(f, r->account, "", text_item);
}

static void print_json(FILE *f, const struct bench_row *r, const struct field *field, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        fprintf(f, "%s\"%s\":", i ? "," : "{", field[i].key);
        if (field[i].text)
            json_write_string(f, field[i].text, strlen(field[i].text));
        else if (strcmp(field[i].key, "steady") == 0)
            fputs(field[i].number > 0 ? "true" : "false", f);
        else if (field[i].may_lack && field[i].number <= 0)
            fputs("null", f);
        else
            json_write_real(f, field[i].number);
    }
    if (r->account) {
        fputs(",\"account_ms\":{", f);
        each_account(f, r->account, ",", json_item);
        fputc('}', f);
    }
    fputs("}\n", f);
}

static void print_quoted(FILE *f, const char *text)
{
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', f);
        fputc(*text, f);
    }
    fputc('"', f);
}

static void print_csv(FILE *f, const struct bench_row *r, const struct field *field, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (field[i].text)
            print_quoted(f, field[i].text);
        else if (!field[i].may_lack || field[i].number > 0)
            fprintf(f, "%.10g", field[i].number);
        fputc(',', f);
    }
    if (r->account)
        each_account(f, r->account, ";", csv_item);
    fputc('\n', f);
}

void bench_rows_begin(FILE *f, enum bench_form form)
{
    const struct bench_row none = {.phase = "", .activations = "auto"};
    struct field field[MAX_FIELDS];
    char cpu[TOPOLOGY_NAME_BYTES], now[64];
    struct utsname machine;
    time_t t = time(NULL);
    struct tm utc;

    if (form == BENCH_CSV) {
        const size_t n = fields_of(field, &none, "");

        for (size_t i = 0; i < n; i++)
            fprintf(f, "%s,", field[i].key);
        fputs("account_ms\n", f);
    }
    if (form != BENCH_TEXT)
        return;
    gmtime_r(&t, &utc);
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &utc);
    uname(&machine);
    topology_cpu_name(cpu);
    fprintf(f, "# paligrid %s, %s\n# began %s on %s %s %s, %s\n", build_version(), build_flags(),
            now, machine.sysname, machine.release, machine.nodename, cpu);
    fprintf(f, "# %-10s %-24s %-9s %-8s %5s %7s %5s %10s %10s %10s %-9s %10s %7s %4s %4s\n",
            "phase", "model", "weights", "greedy", "ranks", "threads", "batch", "median", "min",
            "max", "unit", "ceiling", "share", "n", "drop");
}

int bench_rows_print(FILE *f, enum bench_form form, const struct bench_row *r)
{
    struct field field[MAX_FIELDS];
    char cpu[TOPOLOGY_NAME_BYTES];
    size_t n;

    topology_cpu_name(cpu);
    n = fields_of(field, r, cpu);
    if (form == BENCH_TEXT)
        print_text(f, r);
    else if (form == BENCH_JSON)
        print_json(f, r, field, n);
    else
        print_csv(f, r, field, n);
    if (fflush(f) != 0 || ferror(f))
        return FAIL(ERR_IO, "a row could not be written: %m");
    return OK;
}
