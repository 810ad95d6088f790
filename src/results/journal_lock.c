/* The lock of an output directory; see journal_lock.h.
 *
 * LOCK holds one JSON object, padded with spaces to a fixed length so that it is replaced by one
 * write: host, boot (the kernel's, so that containers of one machine know each other), pid, job,
 * start, token (random, says whose it is) and beat. Empty: nobody's.
 *
 *   kernel lock got,     same boot                  the holder is gone: written over
 *   kernel lock refused, same boot and host         alive: refused; pid gone (a child of it
 *                                                   still has the file): replaced
 *   anything else                                   the beat decides: moves: refused, stands
 *                                                   still for stale_s: replaced
 *
 * Replacing is a rename, so a holder that wakes up later writes into a file that is no longer
 * LOCK, and finds another's token when it looks: it must stop (fencing). Even if two processes do
 * run for a moment, each writes a segment of its own, and nothing is lost. */
#define _GNU_SOURCE /* F_OFD_SETLK */
#include "journal_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "digest.h"
#include "status.h"

enum { TEXT_BYTES = 1024, NAME_BYTES = 128, TOKEN_BYTES = 17, ALIVE_US = 1000000, TRIES = 100 };
#define HEIR_S 0.5

struct holder { /* what a LOCK says */
    char host[NAME_BYTES], boot[NAME_BYTES], job[NAME_BYTES], token[TOKEN_BYTES];
    long long pid;
};

struct lock {
    char dir[RESULTS_MAX_PATH], path[RESULTS_MAX_PATH];
    struct holder self;
    char start[32];
    struct moments moments;
    int fd;
    bool *held; /* while taking it: set instead of a message; or NULL */
    int64_t beat, last_beat_us;
};

/* What is seen of LOCK at one moment. */
struct sight {
    char text[TEXT_BYTES + 1]; /* "": free */
    bool known;                /* text could be understood */
    struct holder holder;
};

enum kernel_lock { LOCK_GOT, LOCK_REFUSED, LOCK_NO_SUCH_THING };

/* ---- who we are ---- */

/* Plain ASCII without quotes, so that a text's length is bounded. */
static void copy_name(char out[NAME_BYTES], const char *s)
{
    size_t n = 0;

    for (; s[n] && n < NAME_BYTES - 1; n++)
        out[n] = s[n] < ' ' || s[n] > '~' || s[n] == '"' || s[n] == '\\' ? '?' : s[n];
    out[n] = '\0';
}

static void read_boot(char out[NAME_BYTES])
{
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

    out[0] = '\0';
    if (!f)
        return;
    if (!fgets(out, NAME_BYTES, f))
        out[0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    fclose(f);
}

static void make_token(char out[TOKEN_BYTES])
{
    struct {
        int64_t pid, us;
        struct timespec now;
        uint8_t random[16];
    } seed = {.pid = getpid(), .us = clock_us()};

    clock_gettime(CLOCK_REALTIME, &seed.now);
    if (getrandom(seed.random, sizeof seed.random, GRND_NONBLOCK) < 0)
        seed.random[0] = 1; /* pid and times must do */
    snprintf(out, TOKEN_BYTES, "%016llx", (unsigned long long)digest_checksum(&seed, sizeof seed));
}

static void describe_self(struct lock *l, const char *job)
{
    char host[NAME_BYTES] = "";
    time_t now = time(NULL);
    struct tm utc;

    if (gethostname(host, sizeof host - 1) != 0)
        strcpy(host, "unknown");
    copy_name(l->self.host, host);
    read_boot(l->self.boot);
    copy_name(l->self.job, job ? job : "");
    make_token(l->self.token);
    l->self.pid = getpid();
    gmtime_r(&now, &utc);
    strftime(l->start, sizeof l->start, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

/* ---- the text ---- */

static int write_text(struct lock *l, int fd)
{
    char padded[TEXT_BYTES], *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    if (!f)
        return FAIL(ERR_NOMEM, "%s", l->path);
    fputs("{\"host\":", f);
    json_write_string(f, l->self.host, strlen(l->self.host));
    json_member_string(f, "boot", l->self.boot, strlen(l->self.boot));
    json_member_string(f, "job", l->self.job, strlen(l->self.job));
    json_member_string(f, "start", l->start, strlen(l->start));
    json_member_string(f, "token", l->self.token, strlen(l->self.token));
    fprintf(f, ",\"pid\":%lld,\"beat\":%lld}", l->self.pid, (long long)l->beat);
    if (fclose(f) != 0) {
        free(text);
        return FAIL(ERR_NOMEM, "%s", l->path);
    }
    ASSERT(n < TEXT_BYTES);
    memset(padded, ' ', sizeof padded);
    memcpy(padded, text, n);
    free(text);
    padded[TEXT_BYTES - 1] = '\n';
    if (pwrite(fd, padded, TEXT_BYTES, 0) != TEXT_BYTES || fsync(fd) != 0)
        return FAIL(ERR_IO, "%s: cannot be written: %m", l->path);
    return OK;
}

static bool copy_member(const struct json *o, const char *key, char *out, size_t n_out)
{
    const struct json *v = json_get(o, key);

    if (!v || json_kind_of(v) != JSON_KIND_STRING)
        return false;
    snprintf(out, n_out, "%s", json_text(v));
    return true;
}

/* Without a message: a text that cannot be understood is a holder that is not known. */
static bool understand(struct sight *s, const char *path)
{
    const char *end = memchr(s->text, '}', strlen(s->text));
    struct json_doc *doc;
    const struct json *o;
    bool known;

    if (s->text[0] != '{' || !end || json_parse(&doc, s->text, strlen(s->text), path, ERR_IO) != OK)
        return false;
    o = json_root(doc);
    known = copy_member(o, "host", s->holder.host, NAME_BYTES) &&
            copy_member(o, "boot", s->holder.boot, NAME_BYTES) &&
            copy_member(o, "job", s->holder.job, NAME_BYTES) &&
            copy_member(o, "token", s->holder.token, TOKEN_BYTES) && json_get(o, "pid") != NULL &&
            json_kind_of(json_get(o, "pid")) == JSON_KIND_INT;
    if (known)
        s->holder.pid = json_int(json_get(o, "pid"));
    json_free(doc);
    return known;
}

/* Reads LOCK by its name: what is there now, not what we once opened. A missing file is free. */
static int look(const char *path, struct sight *s)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    *s = (struct sight){0};
    if (fd < 0 && errno == ENOENT)
        return OK;
    if (fd < 0)
        return FAIL(ERR_IO, "%s: cannot be read: %m", path);
    n = pread(fd, s->text, TEXT_BYTES, 0);
    close(fd);
    if (n < 0)
        return FAIL(ERR_IO, "%s: cannot be read: %m", path);
    s->text[n] = '\0';
    s->known = understand(s, path);
    return OK;
}

static void name_holder(const struct sight *s, char *out, size_t n_out)
{
    const struct holder *h = &s->holder;

    if (s->known)
        snprintf(out, n_out, "host %.64s, pid %lld%s%.64s", h->host, h->pid,
                 h->job[0] ? ", job " : "", h->job);
    else
        snprintf(out, n_out, "%s", s->text[0] ? "somebody unknown" : "nobody");
}

/* ---- taking ---- */

static enum kernel_lock kernel_lock(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_OFD_SETLK, &whole) == 0)
        return LOCK_GOT;
    return errno == EAGAIN || errno == EACCES ? LOCK_REFUSED : LOCK_NO_SUCH_THING;
}

static int refuse(const struct lock *l, const struct sight *s)
{
    char who[2 * NAME_BYTES + 64];

    if (l->held) {
        *l->held = true;
        return ERR_IO;
    }
    name_holder(s, who, sizeof who);
    return FAIL(ERR_IO, "%s: in use by %s", l->dir, who);
}

static void tell_take_over(const struct lock *l, const struct sight *s, const char *why)
{
    char who[2 * NAME_BYTES + 64];

    name_holder(s, who, sizeof who);
    log_root(LOG_WARN, "results", "%s: lock of %s taken over: %s", l->dir, who, why);
}

/* Waits for a sign of life. OK: there was none for stale_s. *changed: the text is another one. */
static int watch(const struct lock *l, const struct sight *first, double stale_s, bool *changed)
{
    const int64_t begin_us = clock_us(), stale_us = (int64_t)(stale_s * 1e6);
    const int64_t pause_us = stale_us / 20 < 250000 ? stale_us / 20 : 250000;
    const struct timespec pause = {pause_us / 1000000, (pause_us % 1000000) * 1000};
    char who[2 * NAME_BYTES + 64];
    struct sight now;

    name_holder(first, who, sizeof who);
    log_root(LOG_INFO, "results", "%s: locked by %s; waiting up to %g s for a sign of life", l->dir,
             who, stale_s);
    *changed = false;
    while (clock_us() - begin_us < stale_us) {
        nanosleep(&pause, NULL);
        TRY(look(l->path, &now));
        *changed = strcmp(now.text, first->text) != 0;
        if (*changed)
            break;
    }
    return OK;
}

/* Puts a file of ours in LOCK's place, if LOCK still says what it said. */
static int replace(struct lock *l, const struct sight *seen)
{
    char tmp[RESULTS_MAX_PATH + 32];
    struct sight now;
    int fd, rc;

    snprintf(tmp, sizeof tmp, "%s.%s.tmp", l->path, l->self.token);
    fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return FAIL(ERR_IO, "%s: cannot be made: %m", tmp);
    kernel_lock(fd);
    TRY_GOTO(write_text(l, fd), drop);
    TRY_GOTO(look(l->path, &now), drop);
    if (strcmp(now.text, seen->text) != 0) {
        rc = refuse(l, &now); /* somebody was faster */
        goto drop;
    }
    if (rename(tmp, l->path) != 0) {
        rc = FAIL(ERR_IO, "%s: cannot be replaced: %m", l->path);
        goto drop;
    }
    close(l->fd);
    l->fd = fd;
    return results_sync_dir(l->dir);
drop:
    close(fd);
    unlink(tmp);
    return rc;
}

/* LOCK is open in l->fd and was not free. *again: it changed hands meanwhile, look anew. */
static int take_over(struct lock *l, enum kernel_lock got, const struct sight *s, double stale_s,
                     bool *again)
{
    const bool same_boot = s->known && l->self.boot[0] && strcmp(s->holder.boot, l->self.boot) == 0;
    const bool same_host = same_boot && strcmp(s->holder.host, l->self.host) == 0;
    const bool pid_gone = same_host && kill((pid_t)s->holder.pid, 0) != 0 && errno == ESRCH;
    const char *why = pid_gone ? "its process is gone" : "no sign of life";
    struct sight now;
    bool changed;

    *again = false;
    if (got == LOCK_GOT && same_boot) {
        tell_take_over(l, s, "its process is gone");
        return write_text(l, l->fd);
    }
    if (got == LOCK_REFUSED && same_host && !pid_gone)
        return refuse(l, s);
    /* Of a process that is gone a child may have the file, or another heir is just taking it. */
    TRY(watch(l, s, pid_gone && stale_s > HEIR_S ? HEIR_S : stale_s, &changed));
    if (!changed) {
        tell_take_over(l, s, why);
        return replace(l, s);
    }
    TRY(look(l->path, &now));
    *again = now.text[0] == '\0';
    return *again ? OK : refuse(l, &now);
}

/* Is what we opened what the name stands for? Somebody may have replaced it in between. */
static bool is_current(const struct lock *l)
{
    struct stat ours, named;

    return fstat(l->fd, &ours) == 0 && stat(l->path, &named) == 0 && ours.st_ino == named.st_ino &&
           ours.st_dev == named.st_dev;
}

/* A free lock. Half a text would be a holder whom nobody knows, to be waited for. */
static int claim(struct lock *l)
{
    const int rc = write_text(l, l->fd);

    if (rc != OK && ftruncate(l->fd, 0) != 0)
        log_root(LOG_WARN, "results", "%s: cannot be emptied: %m", l->path);
    return rc;
}

static int try_once(struct lock *l, double stale_s, bool *took_over, bool *again)
{
    enum kernel_lock got;
    struct sight s;

    *again = false;
    l->fd = open(l->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (l->fd < 0)
        return FAIL(ERR_IO, "%s: cannot be opened: %m", l->path);
    got = kernel_lock(l->fd);
    TRY(look(l->path, &s));
    if (!is_current(l)) {
        *again = true;
        return OK;
    }
    if (s.text[0] == '\0' && got == LOCK_REFUSED) { /* its holder is just about to write */
        nanosleep(&(struct timespec){0, 20000000}, NULL);
        *again = true;
        return OK;
    }
    if (s.text[0] == '\0')
        return claim(l);
    *took_over = true;
    return take_over(l, got, &s, stale_s, again);
}

int lock_take(struct lock **out, const struct lock_params *p, bool *took_over)
{
    struct lock *l = calloc(1, sizeof *l);
    bool again = true, taken = false;
    int rc;

    if (!l)
        return FAIL(ERR_NOMEM, "%s: lock", p->dir);
    l->fd = -1;
    l->moments = p->moments;
    l->held = p->held;
    TRY_GOTO(results_path(l->dir, p->dir, ""), free_l);
    l->dir[strlen(l->dir) - 1] = '\0';
    TRY_GOTO(results_path(l->path, p->dir, "LOCK"), free_l);
    describe_self(l, p->job);
    for (int i = 0; again && i < TRIES; i++) {
        if (l->fd >= 0)
            close(l->fd);
        taken = false;
        TRY_GOTO(try_once(l, p->stale_s, &taken, &again), free_l);
        again = again || !is_current(l);
    }
    if (again) {
        rc = FAIL(ERR_IO, "%s: changes hands again and again", l->path);
        goto free_l;
    }
    l->last_beat_us = clock_us();
    l->held = NULL;
    *took_over = taken;
    *out = l;
    moments_tell(&l->moments, "lock_taken", NULL);
    return OK;
free_l:
    if (l->fd >= 0)
        close(l->fd);
    free(l);
    return rc;
}

/* ---- holding ---- */

int lock_check(const struct lock *l)
{
    char who[2 * NAME_BYTES + 64];
    struct sight now;

    TRY(look(l->path, &now));
    if (now.known && strcmp(now.holder.token, l->self.token) == 0)
        return OK;
    name_holder(&now, who, sizeof who);
    return FAIL(ERR_IO, "%s: the lock was taken over by %s; this process must not write", l->dir,
                who);
}

int lock_beat(struct lock *l)
{
    TRY(lock_check(l));
    l->beat++;
    TRY(write_text(l, l->fd));
    l->last_beat_us = clock_us();
    return OK;
}

int lock_keep_alive(struct lock *l)
{
    return clock_us() - l->last_beat_us < ALIVE_US ? OK : lock_beat(l);
}

void lock_release(struct lock *l)
{
    struct sight now;

    if (!l)
        return;
    if (look(l->path, &now) == OK && now.known && strcmp(now.holder.token, l->self.token) == 0 &&
        ftruncate(l->fd, 0) != 0)
        log_root(LOG_WARN, "results", "%s: cannot be emptied: %m", l->path);
    close(l->fd);
    free(l);
}
