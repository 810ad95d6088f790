/* paligrid status: what the ranks of this host are doing, and how far a run over a data set is.
 *
 * Reads what others keep anyway: the records of ranks (comm.h), and in an output directory LOCK,
 * the journal's segments and metrics.prom. No port, no signal, no message to the job. Ranks of
 * other hosts are seen on those hosts. */
#include "commands.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "json.h"
#include "machine.h"
#include "status.h"
#include "watch_dir.h"

enum { MAX_RANKS = 4096, MAX_LOCK_BYTES = 1 << 16, MAX_METRICS_BYTES = 1 << 20, TEXT_BYTES = 160 };

struct holder {             /* of the output directory */
    bool is_there, is_here; /* here: on this host, so its ranks can be seen */
    bool is_gone;           /* here, and its process has ended */
    char host[TEXT_BYTES], start[TEXT_BYTES];
    int pid;
};

struct journal_size {
    int n_segments;
    int64_t n_lines, n_bytes;
    double age_s; /* since it grew */
};

struct view {
    const char *dir; /* NULL: all jobs of this host */
    struct holder holder;
    struct journal_size journal;
    bool is_complete;
    char *metrics;           /* text of metrics.prom, or NULL */
    struct comm_where *rank; /* [n_ranks] */
    size_t n_ranks;
};

/* ---- reading ---- */

static void copy_text(char out[TEXT_BYTES], const struct json *object, const char *key)
{
    const struct json *v = json_get(object, key);

    snprintf(out, TEXT_BYTES, "%s", v ? json_text(v) : "");
}

/* An empty LOCK is nobody's. */
static int read_holder(struct holder *h, const char *dir)
{
    char path[4096], here[MACHINE_HOST_BYTES];
    struct json_doc *doc;
    const struct json *pid;
    struct stat st;

    snprintf(path, sizeof path, "%.4000s/LOCK", dir);
    if (stat(path, &st) != 0 || st.st_size == 0)
        return OK;
    TRY(json_parse_file(&doc, path, MAX_LOCK_BYTES, ERR_INPUT));
    h->is_there = true;
    copy_text(h->host, json_root(doc), "host");
    copy_text(h->start, json_root(doc), "start");
    pid = json_get(json_root(doc), "pid");
    h->pid = pid ? (int)json_int(pid) : 0;
    json_free(doc);
    machine_host(here);
    h->is_here = strcmp(here, h->host) == 0;
    h->is_gone = h->is_here && kill(h->pid, 0) != 0 && errno == ESRCH;
    return OK;
}

static void count_segment(struct journal_size *j, const char *path)
{
    enum { BLOCK_BYTES = 1 << 16 };
    FILE *f = fopen(path, "rb");
    char block[BLOCK_BYTES];
    struct stat st;
    size_t n;

    if (!f)
        return;
    if (fstat(fileno(f), &st) == 0) {
        const double age_s = difftime(time(NULL), st.st_mtime);

        j->age_s = j->n_segments == 0 || age_s < j->age_s ? age_s : j->age_s;
        j->n_bytes += st.st_size;
    }
    j->n_segments++;
    while ((n = fread(block, 1, sizeof block, f)) > 0) {
        for (const char *p = block; (p = memchr(p, '\n', n - (size_t)(p - block))); p++)
            j->n_lines++;
    }
    fclose(f);
}

static void read_journal(struct journal_size *j, const char *dir)
{
    char path[4400];
    struct dirent *e;
    DIR *d;

    snprintf(path, sizeof path, "%.4000s/journal", dir);
    d = opendir(path);
    while (d && (e = readdir(d))) {
        const size_t n = strlen(e->d_name);

        if (n < 6 || strcmp(e->d_name + n - 6, ".jsonl") != 0)
            continue;
        snprintf(path, sizeof path, "%.4000s/journal/%.255s", dir, e->d_name);
        count_segment(j, path);
    }
    if (d)
        closedir(d);
}

static void read_metrics(struct view *v)
{
    char path[4096];
    FILE *f;

    snprintf(path, sizeof path, "%.4000s/metrics.prom", v->dir);
    f = fopen(path, "r");
    if (!f)
        return;
    v->metrics = calloc(1, MAX_METRICS_BYTES);
    if (v->metrics && fread(v->metrics, 1, MAX_METRICS_BYTES - 1, f) == 0)
        v->metrics[0] = '\0';
    fclose(f);
}

static bool has_ended(const struct comm_where *w)
{
    return w->state == 'X' || w->state == 'Z'; /* a zombie has, too */
}

static bool is_held(const struct view *v)
{
    return v->holder.is_there && !v->holder.is_gone;
}

/* The holder's job only, and of that all ranks of this host. */
static void keep_job(struct view *v)
{
    uint64_t job = 0;
    bool known = false;
    size_t n = 0;

    for (size_t i = 0; i < v->n_ranks; i++) {
        if (v->holder.is_here && v->rank[i].pid == v->holder.pid && !has_ended(&v->rank[i])) {
            job = v->rank[i].job;
            known = true;
        }
    }
    for (size_t i = 0; i < v->n_ranks; i++) {
        if (known && v->rank[i].job == job)
            v->rank[n++] = v->rank[i];
    }
    v->n_ranks = n;
}

static int view_read(struct view *v, const char *dir)
{
    char path[4096];
    struct stat st;

    *v = (struct view){.dir = dir, .rank = calloc(MAX_RANKS, sizeof *v->rank)};
    if (!v->rank)
        return FAIL(ERR_NOMEM, "a list of ranks");
    v->n_ranks = watch_dir() ? comm_where_list(watch_dir(), v->rank, MAX_RANKS) : 0;
    if (!dir)
        return OK;
    if (stat(dir, &st) != 0)
        return FAIL(ERR_IO, "%s: %s", dir, strerror(errno));
    TRY(read_holder(&v->holder, dir));
    read_journal(&v->journal, dir);
    read_metrics(v);
    snprintf(path, sizeof path, "%.4000s/_SUCCESS", dir);
    v->is_complete = access(path, F_OK) == 0;
    if (!v->holder.is_there && !v->is_complete && v->journal.n_segments == 0)
        return FAIL(ERR_INPUT, "%s: not the output directory of a run", dir);
    keep_job(v);
    return OK;
}

static void view_release(struct view *v)
{
    free(v->rank);
    free(v->metrics);
}

/* ---- text ---- */

static void print_ranks(FILE *f, const struct view *v)
{
    fprintf(f, "%-18s %5s %-12s %8s %-13s %-10s %-20s %8s  %s\n", "job", "rank", "host", "pid",
            "state", "phase", "where", "for s", "last exchange");
    for (size_t i = 0; i < v->n_ranks; i++) {
        const struct comm_where *w = &v->rank[i];
        char where[64] = "-";

        if (w->place[0] && w->number >= 0)
            snprintf(where, sizeof where, "%s %d", w->place, w->number);
        else if (w->place[0])
            snprintf(where, sizeof where, "%s", w->place);
        fprintf(
            f, "%016llx   %2d/%-3d %-12s %7d %-13s %-10s %-20s %8.1f  %s number %llu, %llu bytes, ",
            (unsigned long long)w->job, w->rank, w->n_ranks, w->host, w->pid,
            comm_state_name(w->state), w->phase, where, w->place_s, w->call,
            (unsigned long long)w->call_number, (unsigned long long)w->call_bytes);
        fprintf(f, w->is_in_call ? "in it for %.1f s\n" : "begun %.1f s ago\n", w->call_s);
    }
}

/* Lines of "name value"; comments and labels' quotes stay as they are. */
static void print_metrics(FILE *f, char *text)
{
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        if (*line && *line != '#')
            fprintf(f, "  %s\n", strncmp(line, "paligrid_", 9) == 0 ? line + 9 : line);
    }
}

static void print_text(FILE *f, const struct view *v)
{
    if (v->dir && v->holder.is_gone)
        fprintf(f,
                "%s: was held by pid %d on this host, which has ended; the same command resumes\n",
                v->dir, v->holder.pid);
    else if (v->dir && v->holder.is_there)
        fprintf(f, "%s: held by pid %d on %s since %s%s\n", v->dir, v->holder.pid, v->holder.host,
                v->holder.start, v->holder.is_here ? "" : " (its ranks are seen on their hosts)");
    else if (v->dir)
        fprintf(f, "%s: %s\n", v->dir,
                v->is_complete ? "complete" : "no run holds it; the same command resumes");
    if (v->journal.n_segments > 0)
        fprintf(f, "journal: %lld lines in %d segments, %lld bytes, last grown %.0f s ago\n",
                (long long)v->journal.n_lines, v->journal.n_segments, (long long)v->journal.n_bytes,
                v->journal.age_s);
    if (v->metrics)
        print_metrics(f, v->metrics);
    if (v->n_ranks > 0)
        print_ranks(f, v);
    else if (!v->dir)
        fputs("no job on this host\n", f);
}

/* ---- JSON ---- */

static void print_key(FILE *f, const char *key, const char *text)
{
    json_member_string(f, key, text, strlen(text));
}

static void print_json_rank(FILE *f, const struct comm_where *w)
{
    fprintf(f, "{\"job\":\"%016llx\",\"rank\":%d,\"ranks\":%d,\"pid\":%d",
            (unsigned long long)w->job, w->rank, w->n_ranks, w->pid);
    print_key(f, "host", w->host);
    print_key(f, "state", comm_state_name(w->state));
    print_key(f, "phase", w->phase);
    print_key(f, "place", w->place);
    fprintf(f, ",\"number\":%d,\"seconds\":%.3f", w->number, w->place_s);
    print_key(f, "exchange", w->call);
    fprintf(f,
            ",\"exchange_number\":%llu,\"exchange_bytes\":%llu,\"exchange_seconds\":%.3f,"
            "\"in_exchange\":%s,\"age_seconds\":%.3f}",
            (unsigned long long)w->call_number, (unsigned long long)w->call_bytes, w->call_s,
            w->is_in_call ? "true" : "false", w->age_s);
}

static void print_json_metrics(FILE *f, char *text)
{
    const char *comma = "";

    fputs(",\"metrics\":{", f);
    for (char *line = text, *next; line && *line; line = next) {
        char *value, *end;
        double number;

        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        value = strrchr(line, ' ');
        if (*line == '#' || !value)
            continue;
        *value++ = '\0';
        number = strtod(value, &end);
        if (end == value)
            continue;
        fputs(comma, f);
        json_write_string(f, line, strlen(line));
        fputc(':', f);
        json_write_real(f, number);
        comma = ",";
    }
    fputc('}', f);
}

static void print_json(FILE *f, const struct view *v)
{
    fputs("{\"ranks\":[", f);
    for (size_t i = 0; i < v->n_ranks; i++) {
        fputs(i ? "," : "", f);
        print_json_rank(f, &v->rank[i]);
    }
    fputc(']', f);
    if (v->dir) {
        print_key(f, "output_path", v->dir);
        fprintf(f, ",\"running\":%s,\"complete\":%s", is_held(v) ? "true" : "false",
                v->is_complete ? "true" : "false");
        print_key(f, "host", v->holder.host);
        fprintf(f, ",\"pid\":%d,\"journal\":{\"segments\":%d,\"lines\":%lld,\"bytes\":%lld}",
                v->holder.pid, v->journal.n_segments, (long long)v->journal.n_lines,
                (long long)v->journal.n_bytes);
    }
    if (v->metrics)
        print_json_metrics(f, v->metrics);
    fputs("}\n", f);
}

/* ---- the command ---- */

static bool any_is_alive(const struct view *v)
{
    for (size_t i = 0; i < v->n_ranks; i++) {
        if (!has_ended(&v->rank[i]))
            return true;
    }
    return false;
}

static int show(const struct options *o, FILE *f, bool *goes_on)
{
    struct view v;
    int rc = view_read(&v, o->status_dir);

    if (rc == OK && o->json)
        print_json(f, &v);
    else if (rc == OK)
        print_text(f, &v);
    *goes_on = rc == OK && (v.dir ? is_held(&v) : any_is_alive(&v));
    view_release(&v);
    if (rc == OK && fflush(f) != 0)
        rc = FAIL(ERR_IO, "the output could not be written: %m");
    return rc;
}

int cmd_status(const struct options *o, FILE *f)
{
    const time_t whole = (time_t)o->status_every_s;
    const struct timespec pause = {whole, (long)((o->status_every_s - (double)whole) * 1e9)};
    bool goes_on = true;

    TRY(show(o, f, &goes_on));
    while (goes_on && o->status_every_s > 0) {
        nanosleep(&pause, NULL);
        if (!o->json)
            fputc('\n', f);
        TRY(show(o, f, &goes_on));
    }
    return OK;
}
