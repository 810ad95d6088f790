/* Progress; see progress.h.
 *
 * On a terminal one line is written over and over, on anything else a line of key=value from time
 * to time. The time left is told once the size of the input is known, that is when it has been read
 * to its end or was limited. Metrics are written to a temporary file and renamed, so that a reader
 * never sees half of them; they have no time stamps, as the text-file collector wants it. */
#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "status.h"

enum { BAR_WIDTH = 24, BAR_US = 500000, METRICS_US = 10000000 };

static int64_t done_now(const struct progress *p)
{
    return p->n_answered + p->n_failed;
}

static double seconds_since(int64_t us)
{
    return (double)(clock_us() - us) / 1e6;
}

double progress_images_per_s(const struct progress *p)
{
    const double s = seconds_since(p->start_us);

    return s > 0 ? (double)done_now(p) / s : 0;
}

/* -1: not known. */
static int64_t total(const struct progress *p)
{
    const int64_t limit = p->params->dataset.limit;

    if (p->is_total)
        return p->n_read - p->n_elsewhere;
    return limit >= 0 && p->params->n_shards == 0 ? limit : -1;
}

static void time_left(const struct progress *p, char out[32])
{
    const double rate = progress_images_per_s(p);
    const int64_t left = total(p) - p->n_resumed - done_now(p);
    double s;

    snprintf(out, 32, "?");
    if (total(p) < 0 || rate <= 0)
        return;
    s = (double)left / rate;
    if (s < 120)
        snprintf(out, 32, "%.0fs", s);
    else if (s < 7200)
        snprintf(out, 32, "%.0fm", s / 60);
    else
        snprintf(out, 32, "%.1fh", s / 3600);
}

static void show_bar(struct progress *p)
{
    const int64_t all = total(p), done = p->n_resumed + done_now(p);
    char bar[BAR_WIDTH + 1], left[32];
    int full = all > 0 ? (int)(BAR_WIDTH * done / all) : 0;

    full = full > BAR_WIDTH ? BAR_WIDTH : full;
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', (size_t)full);
    bar[BAR_WIDTH] = '\0';
    time_left(p, left);
    fprintf(stderr, "\r[%s] %" PRId64, bar, done);
    if (all >= 0)
        fprintf(stderr, "/%" PRId64, all);
    fprintf(stderr, "  %.2f/s  left %s  failed %" PRId64 "   ", progress_images_per_s(p), left,
            p->n_failed);
    fflush(stderr);
    p->bar_open = true;
}

static void show_line(const struct progress *p, double interval_s)
{
    char left[32];

    time_left(p, left);
    log_root(LOG_INFO, "coord",
             "progress: done=%" PRId64 " total=%" PRId64 " failed=%" PRId64 " open=%" PRId64
             " rate=%.2f rate_now=%.2f tokens_per_s=%.1f wait_share=%.4f left=%s",
             p->n_resumed + done_now(p), total(p), p->n_failed, p->n_open, progress_images_per_s(p),
             interval_s > 0 ? (double)(done_now(p) - p->n_done_then) / interval_s : 0,
             (double)p->n_tokens / (seconds_since(p->start_us) + 1e-9), p->wait_share, left);
}

/* ---- metrics ---- */

static void metric(FILE *f, const char *name, const char *type, const char *help, double value)
{
    fprintf(f, "# HELP paligrid_%s %s\n# TYPE paligrid_%s %s\npaligrid_%s %.17g\n", name, help,
            name, type, name, value);
}

static void write_all(FILE *f, const struct progress *p)
{
    metric(f, "records_done_total", "counter", "Records answered in this start.",
           (double)p->n_answered);
    metric(f, "records_failed_total", "counter", "Records that could not be answered.",
           (double)p->n_failed);
    metric(f, "records_resumed", "gauge", "Records done by earlier starts.", (double)p->n_resumed);
    metric(f, "records_open", "gauge", "Records at replicas.", (double)p->n_open);
    metric(f, "records_read_total", "counter", "Records of the input read so far.",
           (double)p->n_read);
    metric(f, "tokens_total", "counter", "Tokens of the answers.", (double)p->n_tokens);
    metric(f, "elapsed_seconds", "gauge", "Since this start.", seconds_since(p->start_us));
    metric(f, "input_wait_ratio", "gauge", "Share of the compute time spent waiting for input.",
           p->wait_share);
    metric(f, "journal_syncs_total", "counter", "Batches of results made durable.",
           (double)p->n_syncs);
    metric(f, "journal_sync_seconds_total", "counter", "Time that took.", (double)p->sync_us / 1e6);
}

/* A run goes on without its metrics; that they could not be written is told once. */
static void write_metrics(struct progress *p)
{
    const char *path = p->params->metrics_path;
    char *temporary;
    FILE *f;
    bool good;

    if (!path)
        return;
    temporary = malloc(strlen(path) + sizeof ".tmp");
    if (!temporary)
        return;
    sprintf(temporary, "%s.tmp", path);
    f = fopen(temporary, "w");
    if (f)
        write_all(f, p);
    good = f && !ferror(f);
    if (f && fclose(f) != 0)
        good = false;
    if (!good || rename(temporary, path) != 0) {
        if (p->written_us == 0)
            log_root(LOG_WARN, "coord", "%s cannot be written: %m", path);
        remove(temporary);
    }
    p->written_us = clock_us();
    free(temporary);
}

/* ---- from outside ---- */

void progress_start(struct progress *p, const struct coord_params *params)
{
    *p = (struct progress){.params = params, .start_us = clock_us()};
    p->shown_us = p->start_us;
}

void progress_tick(struct progress *p)
{
    const int64_t now = clock_us();
    const double shown_s = (double)(now - p->shown_us) / 1e6;

    if (p->params->progress_bar ? now - p->shown_us >= BAR_US
                                : p->params->progress_s > 0 && shown_s >= p->params->progress_s) {
        if (p->params->progress_bar)
            show_bar(p);
        else
            show_line(p, shown_s);
        p->shown_us = now;
        p->n_done_then = done_now(p);
    }
    if (now - p->written_us >= METRICS_US || p->written_us == 0)
        write_metrics(p);
}

void progress_end(struct progress *p)
{
    if (p->params->progress_bar) {
        show_bar(p);
        fputc('\n', stderr);
    }
    show_line(p, (double)(clock_us() - p->shown_us) / 1e6);
    write_metrics(p);
}
