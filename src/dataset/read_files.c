/* Pictures by their names: one file, a directory with all below it, or a glob.
 *
 * A directory is walked depth first, entries sorted as bytes, hidden ones left out, links to
 * directories followed unless they lead back up. Only the names of the directories that are open at
 * the moment are in memory. A name without a picture's or a video's ending is passed over there and
 * counted; a file that is named itself, or by a glob, is always taken. */
#include <dirent.h>
#include <glob.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dataset_impl.h"
#include "status.h"

enum { MAX_DEPTH = 64 };

struct level { /* one open directory */
    char *dir; /* path below the source, "" at the top */
    struct name_list names;
    size_t at;
    dev_t device;
    ino_t inode;
};

struct files {
    struct reader base; /* first member: of() casts back */
    struct level level[MAX_DEPTH];
    int depth;
    bool is_tree; /* else level[0] is a list of paths */
    int64_t number, n_passed_over;
};

static struct files *of(struct reader *r)
{
    return (struct files *)r;
}

static void pop(struct files *f)
{
    struct level *l = &f->level[--f->depth];

    free(l->dir);
    name_list_release(&l->names);
}

static bool is_above(const struct files *f, const struct stat *st)
{
    for (int i = 0; i < f->depth; i++) {
        if (f->level[i].device == st->st_dev && f->level[i].inode == st->st_ino)
            return true;
    }
    return false;
}

static int list_names(struct name_list *names, const char *path)
{
    const struct dirent *e;
    DIR *dir = opendir(path);
    int rc = OK;

    if (!dir)
        return FAIL(ERR_INPUT, "%s: %m", path);
    while (rc == OK && (e = readdir(dir)) != NULL) {
        if (e->d_name[0] != '.')
            rc = name_list_add(names, e->d_name);
    }
    closedir(dir);
    return rc == OK ? name_list_sort(names) : rc;
}

/* Opens a directory; `dir` is below the source, `path` leads there. */
static int push(struct files *f, const char *dir, const char *path, const struct stat *st)
{
    struct level *l = &f->level[f->depth];
    int rc;

    if (f->depth == MAX_DEPTH)
        return FAIL(ERR_INPUT, "%s: more than %d directories deep", path, MAX_DEPTH);
    *l = (struct level){.dir = strdup(dir), .device = st->st_dev, .inode = st->st_ino};
    f->depth++;
    rc = l->dir ? list_names(&l->names, path) : FAIL(ERR_NOMEM, "%s", path);
    if (rc != OK)
        pop(f);
    return rc;
}

/* ---- records ---- */

static int fill(struct files *f, struct draft *d, const char *name)
{
    d->id = pool_text(&d->pool, name, strlen(name));
    if (!d->id)
        return FAIL(ERR_NOMEM, "%s", name);
    return draft_settle(d, draft_add_file(d, f->base.params, name));
}

/* Goes into a directory; one that cannot be listed is a record that failed. */
static int enter(struct files *f, struct draft *d, const char *below, const char *path,
                 const struct stat *st, bool *taken)
{
    int rc;

    if (is_above(f, st))
        return OK;
    rc = push(f, below, path, st);
    if (rc != ERR_INPUT)
        return rc;
    *taken = true;
    d->id = below;
    return draft_settle(d, rc);
}

/* One entry of the innermost directory; *taken when it made a record. */
static int visit(struct files *f, struct draft *d, const char *name, bool *taken)
{
    const struct reader_params *p = f->base.params;
    bool wanted = path_is_picture(name) || (p->clip.n_frames > 0 && path_is_video(name));
    const char *below, *path;
    struct stat st;

    draft_reset(d); /* the names passed over must not pile up in it */
    TRY(draft_set_place(d, &f->base, 0, f->number + 1));
    below = path_join(&d->pool, f->level[f->depth - 1].dir, name);
    path = below ? path_join(&d->pool, p->images_dir, below) : NULL;
    if (!path)
        return FAIL(ERR_NOMEM, "%s", name);
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return enter(f, d, below, path, &st, taken);
    if (!wanted) {
        f->n_passed_over++;
        return OK;
    }
    *taken = true;
    return fill(f, d, below);
}

static int files_next(struct reader *r, struct draft *d, bool *end)
{
    struct files *f = of(r);
    bool taken = false;

    TRY(draft_set_place(d, r, 0, f->number + 1));
    while (!taken && f->depth > 0) {
        struct level *l = &f->level[f->depth - 1];
        if (l->at == l->names.n) {
            pop(f);
        } else if (f->is_tree) {
            TRY(visit(f, d, l->names.name[l->at++], &taken));
        } else {
            taken = true;
            TRY(fill(f, d, l->names.name[l->at++]));
        }
    }
    f->number++;
    *end = !taken;
    if (*end && f->number == 1)
        return FAIL(ERR_INPUT, "%s: holds no pictures (%" PRId64 " other files)", r->params->source,
                    f->n_passed_over);
    if (*end && f->n_passed_over > 0) {
        log_rank(LOG_INFO, "dataset", "%s: %" PRId64 " files without a picture's ending",
                 r->params->source, f->n_passed_over);
        f->n_passed_over = 0;
    }
    return OK;
}

static const char *files_file_name(const struct reader *r, int i)
{
    (void)i;
    return r->params->source;
}

static void files_close(struct reader *r)
{
    struct files *f = of(r);

    while (f->depth > 0)
        pop(f);
    free(f);
}

static const struct reader_ops files_ops = {
    .format = "files",
    .unit = "picture",
    .next = files_next,
    .file_name = files_file_name,
    .close = files_close,
};

/* ---- opening ---- */

static int add_glob(struct name_list *names, const char *pattern)
{
    glob_t found;
    int code = glob(pattern, GLOB_NOSORT, NULL, &found), rc = OK;

    if (code == GLOB_NOMATCH)
        return FAIL(ERR_INPUT, "%s: no such file, and nothing has a name like that", pattern);
    if (code != 0)
        return FAIL(code == GLOB_NOSPACE ? ERR_NOMEM : ERR_INPUT, "%s: cannot be listed", pattern);
    for (size_t i = 0; rc == OK && i < found.gl_pathc; i++)
        rc = name_list_add(names, found.gl_pathv[i]);
    globfree(&found);
    return rc;
}

static int open_list(struct files *f, const char *source, bool is_file)
{
    struct level *l = &f->level[0];

    *l = (struct level){.dir = strdup("")};
    f->depth = 1;
    if (!l->dir)
        return FAIL(ERR_NOMEM, "%s", source);
    TRY(is_file ? name_list_add(&l->names, source) : add_glob(&l->names, source));
    return name_list_sort(&l->names);
}

int reader_open_files(struct reader **out, const struct reader_params *p)
{
    struct files *f = calloc(1, sizeof *f);
    struct stat st;
    bool is_there;
    int rc;

    if (!f)
        return FAIL(ERR_NOMEM, "%s", p->source);
    f->base = (struct reader){&files_ops, p};
    is_there = stat(p->source, &st) == 0;
    f->is_tree = is_there && S_ISDIR(st.st_mode);
    rc = f->is_tree ? push(f, "", p->source, &st) : open_list(f, p->source, is_there);
    if (rc != OK)
        files_close(&f->base);
    else
        *out = &f->base;
    return rc;
}
