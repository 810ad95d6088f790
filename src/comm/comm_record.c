/* Records of what ranks do; see comm_record.h.
 *
 * A file DIR/paligrid.JOB.RANK, mapped. Its blocks are reserved before it is mapped, since a store
 * into a full file system would end the process. Files of processes that are gone are removed by
 * whoever starts next and may (names and owner tell them apart from anything else). */
#include "comm_record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "comm_mpi_impl.h"
#include "status.h"

static const char record_magic[8] = "pgwhere1";

enum { PATH_BYTES = 512, DIR_BYTES = 400 };
static const char record_prefix[] = "paligrid.";

static void path_of(char out[PATH_BYTES], const char *dir, uint64_t job, int rank)
{
    snprintf(out, PATH_BYTES, "%s/%s%016" PRIx64 ".%d", dir, record_prefix, job, rank);
}

struct comm_watch {
    struct comm_record *record; /* mapped; NULL: the folder took no file */
    char dir[DIR_BYTES];
};

/* ---- writing ---- */

static void put_text(struct record_text *to, const char *text)
{
    uint64_t word[RECORD_WORDS] = {0};
    const size_t n = strlen(text);

    memcpy(word, text, n < sizeof word - 1 ? n : sizeof word - 1);
    for (int i = 0; i < RECORD_WORDS; i++)
        atomic_store_explicit(&to->word[i], word[i], memory_order_relaxed);
}

/* The letter of /proc/PID/stat, which stands behind the last ')'. */
static char state_of(int pid)
{
    char path[64], text[512];
    const char *end;
    FILE *f;
    size_t n;

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    f = fopen(path, "r");
    if (!f)
        return kill(pid, 0) == 0 || errno != ESRCH ? '?' : 'X';
    n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    end = strrchr(text, ')');
    return end && end[1] == ' ' ? end[2] : '?';
}

/* A zombie has ended, though its parent does not ask. */
static bool has_ended(int pid)
{
    const char state = state_of(pid);

    return state == 'X' || state == 'Z';
}

static bool read_record(struct comm_record *out, const char *path)
{
    FILE *f = fopen(path, "rb");
    const bool whole = f && fread(out, sizeof *out, 1, f) == 1;

    if (f)
        fclose(f);
    out->host[RECORD_HOST_BYTES - 1] = '\0';
    return whole && memcmp(out->magic, record_magic, sizeof out->magic) == 0 && out->pid > 0;
}

/* Files of processes that are gone. On a folder that hosts share, only this host's. */
static void sweep(const char *dir, const char *host)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d && (e = readdir(d))) {
        struct comm_record r;
        char path[PATH_BYTES];

        if (strncmp(e->d_name, record_prefix, sizeof record_prefix - 1) != 0)
            continue;
        snprintf(path, sizeof path, "%.240s/%.255s", dir, e->d_name);
        if (read_record(&r, path) && strcmp(r.host, host) == 0 && has_ended(r.pid))
            unlink(path);
    }
    if (d)
        closedir(d);
}

static struct comm_record *map_file(const char *path)
{
    const int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    void *p = MAP_FAILED;

    if (fd < 0)
        return NULL;
    if (posix_fallocate(fd, 0, sizeof(struct comm_record)) == 0)
        p = mmap(NULL, sizeof(struct comm_record), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        unlink(path);
    return p == MAP_FAILED ? NULL : p;
}

/* Its text is complete before the magic is: a reader believes what follows that. */
static void fill(struct comm_record *r, const struct comm *world, uint64_t job, const char *host)
{
    r->job = job;
    r->pid = (int32_t)getpid();
    r->rank = world->rank;
    r->n_ranks = world->size;
    memcpy(r->host, host, RECORD_HOST_BYTES);
    r->start_us = clock_us();
    put_text(&r->phase, "starting");
    atomic_store_explicit(&r->number, -1, memory_order_relaxed);
    atomic_store_explicit(&r->note_us, r->start_us, memory_order_relaxed);
    memcpy(r->magic, record_magic, sizeof r->magic);
}

/* A number that no other job has: of host, process and time. */
static uint64_t new_job(const char *host)
{
    struct timespec now;
    struct digest d;
    uint64_t job;
    const int pid = (int)getpid();

    clock_gettime(CLOCK_REALTIME, &now);
    d = digest_chain(digest_of(host, strlen(host)), &pid, sizeof pid);
    d = digest_chain(d, &now, sizeof now);
    memcpy(&job, d.byte, sizeof job);
    return job;
}

static void open_file(struct comm_watch *w, const struct comm *world, uint64_t job,
                      const char *host)
{
    char path[PATH_BYTES];

    sweep(w->dir, host);
    path_of(path, w->dir, job, world->rank);
    w->record = map_file(path);
    if (w->record)
        fill(w->record, world, job, host);
    else
        log_rank(LOG_DEBUG, "comm", "no record of this rank in %s: %m", path);
}

int watch_open(struct comm_watch **out, struct comm_mpi *m, const char *dir)
{
    char host[RECORD_HOST_BYTES] = "";
    struct comm_watch *w = NULL;
    uint64_t job;

    *out = NULL;
    gethostname(host, sizeof host - 1);
    job = new_job(host);
    if (m->base.size > 1)
        TRY(mpi_bcast(&m->base, &job, sizeof job, 0));
    if (!dir || strlen(dir) >= DIR_BYTES)
        return OK;
    w = calloc(1, sizeof *w);
    if (!w)
        return OK;
    snprintf(w->dir, sizeof w->dir, "%s", dir);
    open_file(w, &m->base, job, host);
    *out = w;
    return OK;
}

void watch_close(struct comm_watch *w)
{
    char path[PATH_BYTES];

    if (!w)
        return;
    if (w->record) {
        path_of(path, w->dir, w->record->job, w->record->rank);
        unlink(path);
        munmap(w->record, sizeof *w->record);
    }
    free(w);
}

void watch_call(struct comm_watch *w, const struct comm *c)
{
    struct comm_record *r = w ? w->record : NULL;

    if (!r)
        return;
    atomic_store_explicit(&r->call, comm_call_id(c), memory_order_relaxed);
    atomic_store_explicit(&r->call_bytes, c->call_bytes, memory_order_relaxed);
    atomic_store_explicit(&r->call_us, clock_us(), memory_order_relaxed);
    atomic_store_explicit(&r->is_in_call, 1, memory_order_relaxed);
}

void watch_call_ended(struct comm_watch *w)
{
    if (w && w->record)
        atomic_store_explicit(&w->record->is_in_call, 0, memory_order_relaxed);
}

void comm_note_place(struct comm *c, const char *place, int number)
{
    struct comm_record *r = c->watch ? c->watch->record : NULL;

    if (!r)
        return;
    put_text(&r->place, place);
    atomic_store_explicit(&r->number, number, memory_order_relaxed);
    atomic_store_explicit(&r->note_us, clock_us(), memory_order_relaxed);
}

void comm_note_phase(struct comm *c, const char *phase)
{
    if (!c->watch || !c->watch->record)
        return;
    put_text(&c->watch->record->phase, phase);
    comm_note_place(c, "", -1);
}

/* ---- reading ---- */

static void get_text(char out[COMM_NOTE_BYTES], struct record_text *from)
{
    for (int i = 0; i < RECORD_WORDS; i++) {
        const uint64_t word = atomic_load_explicit(&from->word[i], memory_order_relaxed);

        memcpy(out + (size_t)i * sizeof word, &word, sizeof word);
    }
    out[COMM_NOTE_BYTES - 1] = '\0';
}

const char *comm_state_name(char state)
{
    switch (state) {
    case 'R':
        return "running";
    case 'S':
        return "waiting";
    case 'D':
        return "in the kernel";
    case 'T':
    case 't':
        return "stopped";
    case 'Z':
    case 'X':
        return "dead";
    default:
        return "unknown";
    }
}

static void where_of(struct comm_where *out, struct comm_record *r)
{
    const int64_t now = clock_us();
    const uint64_t call = atomic_load_explicit(&r->call, memory_order_relaxed);
    struct comm_where w = {.job = r->job, .pid = r->pid, .rank = r->rank, .n_ranks = r->n_ranks};

    snprintf(w.host, sizeof w.host, "%s", r->host);
    get_text(w.phase, &r->phase);
    get_text(w.place, &r->place);
    w.number = (int)atomic_load_explicit(&r->number, memory_order_relaxed);
    w.place_s = (double)(now - atomic_load_explicit(&r->note_us, memory_order_relaxed)) / 1e6;
    w.age_s = (double)(now - r->start_us) / 1e6;
    w.call = comm_kind_name((enum comm_kind)(call & ((1u << COMM_KIND_BITS) - 1)));
    w.call_number = call >> COMM_KIND_BITS;
    w.call_bytes = atomic_load_explicit(&r->call_bytes, memory_order_relaxed);
    w.is_in_call = atomic_load_explicit(&r->is_in_call, memory_order_relaxed) != 0;
    w.call_s = (double)(now - atomic_load_explicit(&r->call_us, memory_order_relaxed)) / 1e6;
    w.state = state_of(r->pid);
    *out = w;
}

static int world_rank_of(const struct comm_mpi *m, int rank)
{
    int of_world = MPI_UNDEFINED;
    MPI_Group group, world;

    MPI_Comm_group(m->handle, &group);
    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_translate_ranks(group, 1, &rank, world, &of_world);
    MPI_Group_free(&group);
    MPI_Group_free(&world);
    return of_world;
}

void watch_tell(const struct comm_mpi *m, int rank, char out[WATCH_TELL_BYTES])
{
    const struct comm_watch *own = m->base.watch;
    char path[PATH_BYTES], number[16] = "";
    struct comm_record r;
    struct comm_where w;

    out[0] = '\0';
    if (!own || !own->record)
        return;
    path_of(path, own->dir, own->record->job, world_rank_of(m, rank));
    if (!read_record(&r, path))
        return;
    where_of(&w, &r);
    if (w.number >= 0)
        snprintf(number, sizeof number, " %d", w.number);
    snprintf(out, WATCH_TELL_BYTES, " [pid %d is %s; %s%s%s%s for %.1f s]", w.pid,
             comm_state_name(w.state), w.phase, w.place[0] ? ", " : "", w.place, number, w.place_s);
}

static void keep_by_rank(struct comm_where *out, size_t n, const struct comm_where *w)
{
    size_t i = n;

    for (; i > 0 &&
           (out[i - 1].job > w->job || (out[i - 1].job == w->job && out[i - 1].rank > w->rank));
         i--)
        out[i] = out[i - 1];
    out[i] = *w;
}

size_t comm_where_list(const char *dir, struct comm_where *out, size_t cap)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    size_t n = 0;

    while (d && n < cap && (e = readdir(d))) {
        struct comm_record r;
        struct comm_where w;
        char path[PATH_BYTES];

        snprintf(path, sizeof path, "%.240s/%.255s", dir, e->d_name);
        if (strncmp(e->d_name, record_prefix, sizeof record_prefix - 1) != 0 ||
            !read_record(&r, path))
            continue;
        where_of(&w, &r);
        keep_by_rank(out, n++, &w);
    }
    if (d)
        closedir(d);
    return n;
}
