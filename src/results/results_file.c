/* Files that are all there or not there: written as NAME.tmp, fsynced, renamed, and the directory
 * fsynced. A start that finds a .tmp of its own names removes it: nobody can be writing it, as the
 * lock is held. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "results_impl.h"
#include "status.h"

void moments_tell(const struct moments *m, const char *name, const char *file)
{
    char text[128];

    if (!m->call)
        return;
    snprintf(text, sizeof text, "%s%s%s", name, file ? " " : "", file ? file : "");
    m->call(m->context, text);
}

int results_path(char out[RESULTS_MAX_PATH], const char *dir, const char *name)
{
    const int n = snprintf(out, RESULTS_MAX_PATH, "%s/%s", dir, name);

    if (n < 0 || n >= RESULTS_MAX_PATH)
        return FAIL(ERR_USAGE, "%.100s...: the output directory's name is too long", dir);
    return OK;
}

int results_file_create(struct results_file *out, const char *dir, const char *name,
                        const struct moments *m)
{
    TRY(results_path(out->path, dir, name));
    snprintf(out->tmp_path, sizeof out->tmp_path, "%s.tmp", out->path);
    out->name = name;
    out->moments = m;
    out->f = fopen(out->tmp_path, "wbe");
    if (!out->f)
        return FAIL(ERR_IO, "%s: cannot be made: %m", out->tmp_path);
    return OK;
}

int results_sync_dir(const char *dir)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = OK;

    if (fd < 0)
        return FAIL(ERR_IO, "%s: cannot be opened: %m", dir);
    /* Some file systems have nothing to do here and say EINVAL. */
    if (fsync(fd) != 0 && errno != EINVAL)
        rc = FAIL(ERR_IO, "%s: cannot be written out: %m", dir);
    close(fd);
    return rc;
}

/* One directory; its parents are there. */
static int make_dir(const char *path)
{
    char parent[RESULTS_MAX_PATH];
    struct stat st;
    char *slash;

    if (mkdir(path, 0777) != 0)
        return errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode)
                   ? OK
                   : FAIL(ERR_IO, "%s: cannot be made: %m", path);
    snprintf(parent, sizeof parent, "%s", path);
    slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent] = '\0';
    return results_sync_dir(slash ? parent : ".");
}

int results_make_dirs(const char *path)
{
    char part[RESULTS_MAX_PATH];
    struct stat st;

    for (size_t i = 1; path[i]; i++) {
        if (path[i] != '/' || path[i - 1] == '/')
            continue;
        snprintf(part, sizeof part, "%.*s", (int)i, path);
        if (stat(part, &st) != 0)
            TRY(make_dir(part));
    }
    return make_dir(path);
}

static int put_into_place(struct results_file *file)
{
    char dir[RESULTS_MAX_PATH];

    moments_tell(file->moments, "before_rename", file->name);
    if (rename(file->tmp_path, file->path) != 0)
        return FAIL(ERR_IO, "%s: cannot be put into place: %m", file->path);
    snprintf(dir, sizeof dir, "%s", file->path);
    *strrchr(dir, '/') = '\0';
    TRY(results_sync_dir(dir));
    moments_tell(file->moments, "after_rename", file->name);
    return OK;
}

int results_file_commit(struct results_file *file)
{
    int rc = OK;

    if (fflush(file->f) != 0 || ferror(file->f) || fsync(fileno(file->f)) != 0)
        rc = FAIL(ERR_IO, "%s: cannot be written: %m", file->tmp_path);
    if (fclose(file->f) != 0 && rc == OK)
        rc = FAIL(ERR_IO, "%s: cannot be written: %m", file->tmp_path);
    file->f = NULL;
    if (rc == OK)
        rc = put_into_place(file);
    if (rc != OK)
        unlink(file->tmp_path);
    return rc;
}

void results_file_discard(struct results_file *file)
{
    if (!file->f)
        return;
    fclose(file->f);
    file->f = NULL;
    unlink(file->tmp_path);
}

bool results_write_all(int fd, const char *bytes, size_t n_bytes)
{
    while (n_bytes > 0) {
        const ssize_t n = write(fd, bytes, n_bytes);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        n_bytes -= (size_t)n;
    }
    return true;
}

static bool is_ours(const char *name)
{
    static const char *const file[] = {
        "run.json.tmp",        "results.jsonl.tmp",      "errors.jsonl.tmp",
        "results.h5.tmp",      "coco_captions.json.tmp", "coco_detections.json.tmp",
        "categories.json.tmp", "vqa.json.tmp",           "openai.jsonl.tmp",
        "metadata.jsonl.tmp",  "stats.json.tmp",         "_SUCCESS.tmp",
        "_DONE.tmp",
    };
    const size_t n = strlen(name);

    for (size_t i = 0; i < sizeof file / sizeof file[0]; i++) {
        if (strcmp(name, file[i]) == 0)
            return true;
    }
    return strncmp(name, "LOCK.", 5) == 0 && n > 4 && strcmp(name + n - 4, ".tmp") == 0;
}

void results_remove_stale(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d && (e = readdir(d)) != NULL) {
        if (is_ours(e->d_name) && unlinkat(dirfd(d), e->d_name, 0) == 0)
            log_root(LOG_INFO, "results", "%s/%s: unfinished, removed", dir, e->d_name);
    }
    if (d)
        closedir(d);
}
