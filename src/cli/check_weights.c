/* Lists of digests; see check_weights.h.
 *
 * A line is 64 hexadecimal digits, two characters ("  " or " *"), and a name below the folder;
 * names that lead out of it are refused. Names are written in the order of strcmp, so that equal
 * folders give equal lists. */
#include "check_weights.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sha256.h"
#include "status.h"

enum { PATH_BYTES = 4096, LINE_BYTES = 4096, MAX_FILES = 4096 };
static const char list_name[] = "SHA256SUMS";

struct names {
    char **item; /* owned, sorted */
    size_t n;
};

struct place {
    char folder[PATH_BYTES], list[PATH_BYTES];
    const char *only; /* the one file, when the model is one; else NULL */
};

static int place_of(struct place *p, const char *model, const char *index)
{
    const char *slash = strrchr(model, '/');
    struct stat st;

    *p = (struct place){0};
    if (stat(model, &st) != 0)
        return FAIL(ERR_MODEL, "%s: %s", model, strerror(errno));
    if (S_ISDIR(st.st_mode)) {
        snprintf(p->folder, sizeof p->folder, "%s", model);
    } else {
        snprintf(p->folder, sizeof p->folder, "%.*s", slash ? (int)(slash - model) : 1,
                 slash ? model : ".");
        p->only = slash ? slash + 1 : model;
    }
    if (index)
        snprintf(p->list, sizeof p->list, "%s", index);
    else
        snprintf(p->list, sizeof p->list, "%.4000s/%s", p->folder, list_name);
    return OK;
}

/* ---- the folder ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_release(struct names *n)
{
    for (size_t i = 0; i < n->n; i++)
        free(n->item[i]);
    free(n->item);
}

/* Regular files; hidden ones and lists are not part of a checkpoint. */
static bool is_part(const struct place *p, const char *name)
{
    char path[PATH_BYTES];
    struct stat st;

    if (name[0] == '.' || strncmp(name, list_name, sizeof list_name - 1) == 0)
        return false;
    if (p->only)
        return strcmp(name, p->only) == 0;
    snprintf(path, sizeof path, "%.3800s/%.255s", p->folder, name);
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static int names_read(struct names *out, const struct place *p)
{
    DIR *d = opendir(p->folder);
    struct dirent *e;
    int rc = OK;

    *out = (struct names){.item = calloc(MAX_FILES, sizeof *out->item)};
    if (!d)
        rc = FAIL(ERR_IO, "%s: %s", p->folder, strerror(errno));
    while (rc == OK && (e = readdir(d))) {
        if (!is_part(p, e->d_name))
            continue;
        if (out->n == MAX_FILES)
            rc = FAIL(ERR_MODEL, "%s: more than %d files", p->folder, MAX_FILES);
        else if (!out->item || !(out->item[out->n] = strdup(e->d_name)))
            rc = FAIL(ERR_NOMEM, "names of %s", p->folder);
        else
            out->n++;
    }
    if (d)
        closedir(d);
    if (rc == OK)
        qsort(out->item, out->n, sizeof *out->item, by_name);
    return rc;
}

/* ---- comparing ---- */

static int bad_line(const struct place *p, int line, const char *what)
{
    return FAIL(ERR_MODEL, "%s line %d: %s", p->list, line, what);
}

/* hex and name point into the line. */
static int parse_line(const struct place *p, char *text, int line, char **hex, char **name)
{
    size_t n = 0;

    text[strcspn(text, "\r\n")] = '\0';
    while (isxdigit((unsigned char)text[n])) {
        text[n] = (char)tolower((unsigned char)text[n]);
        n++;
    }
    if (n != SHA256_HEX_BYTES - 1 || text[n] != ' ' || (text[n + 1] != ' ' && text[n + 1] != '*') ||
        !text[n + 2])
        return bad_line(p, line, "not 64 hexadecimal digits, two characters and a name");
    text[n] = '\0';
    *hex = text;
    *name = text + n + 2;
    if (strncmp(*name, "./", 2) == 0)
        *name += 2;
    if (**name == '/' || strstr(*name, ".."))
        return bad_line(p, line, "a name outside of the folder");
    return OK;
}

static int compare_file(struct check_weights *out, const struct place *p, const char *hex,
                        const char *name)
{
    char path[PATH_BYTES], found[SHA256_HEX_BYTES];
    int64_t n_bytes = 0;
    int rc;

    snprintf(path, sizeof path, "%.2000s/%.2000s", p->folder, name);
    rc = sha256_of_file(path, found, &n_bytes);
    if (rc != OK)
        return rc == ERR_IO ? ERR_MODEL : rc; /* the checkpoint lacks what its list names */
    out->n_files++;
    out->n_bytes += n_bytes;
    if (strcmp(hex, found) != 0)
        return FAIL(ERR_MODEL, "%s: SHA-256 is %.16s..., the list says %.16s...", path, found, hex);
    return OK;
}

/* A name that the list has becomes empty. */
static void tick_off(struct names *names, const char *name)
{
    for (size_t i = 0; i < names->n; i++) {
        if (strcmp(names->item[i], name) == 0)
            names->item[i][0] = '\0';
    }
}

static void count_unlisted(struct check_weights *out, const struct names *names)
{
    for (size_t i = 0; i < names->n; i++) {
        if (!names->item[i][0])
            continue;
        if (out->n_unlisted++ == 0)
            snprintf(out->unlisted, sizeof out->unlisted, "%.250s", names->item[i]);
    }
}

static int compare_all(struct check_weights *out, const struct place *p, struct names *names,
                       FILE *f)
{
    char text[LINE_BYTES], *hex = NULL, *name = NULL;

    for (int line = 1; fgets(text, sizeof text, f); line++) {
        if (text[0] == '#' || text[0] == '\n')
            continue;
        TRY(parse_line(p, text, line, &hex, &name));
        out->n_listed++;
        if (p->only && strcmp(name, p->only) != 0)
            continue;
        TRY(compare_file(out, p, hex, name));
        tick_off(names, name);
    }
    count_unlisted(out, names);
    if (out->n_files == 0)
        return FAIL(ERR_MODEL, "%s: names nothing of %s", p->list, p->only ? p->only : p->folder);
    return OK;
}

bool check_weights_has_index(const char *model, const char *index)
{
    struct place p;

    return index || (place_of(&p, model, index) == OK && access(p.list, F_OK) == 0);
}

int check_weights(struct check_weights *out, const char *model, const char *index)
{
    struct names names = {0};
    struct place p;
    FILE *f = NULL;
    int rc;

    *out = (struct check_weights){0};
    TRY(place_of(&p, model, index));
    TRY_GOTO(names_read(&names, &p), done);
    f = fopen(p.list, "r");
    rc = f ? compare_all(out, &p, &names, f) : FAIL(ERR_IO, "%s: %s", p.list, strerror(errno));
done:
    if (f)
        fclose(f);
    names_release(&names);
    return rc;
}

/* ---- writing ---- */

static int write_lines(struct check_weights *out, const struct place *p, const struct names *names,
                       FILE *f)
{
    for (size_t i = 0; i < names->n; i++) {
        char path[PATH_BYTES], hex[SHA256_HEX_BYTES];
        int64_t n_bytes = 0;

        snprintf(path, sizeof path, "%.2000s/%.255s", p->folder, names->item[i]);
        TRY(sha256_of_file(path, hex, &n_bytes));
        fprintf(f, "%s  %s\n", hex, names->item[i]);
        out->n_files++;
        out->n_bytes += n_bytes;
    }
    out->n_listed = out->n_files;
    return OK;
}

int check_weights_write(struct check_weights *out, const char *model, const char *index)
{
    struct names names = {0};
    char temporary[PATH_BYTES];
    struct place p;
    FILE *f = NULL;
    int rc;

    *out = (struct check_weights){0};
    TRY(place_of(&p, model, index));
    snprintf(temporary, sizeof temporary, "%.4080s.tmp", p.list);
    TRY_GOTO(names_read(&names, &p), done);
    f = fopen(temporary, "w");
    rc = f ? write_lines(out, &p, &names, f) : FAIL(ERR_IO, "%s: %s", temporary, strerror(errno));
    if (rc == OK && (fflush(f) != 0 || fsync(fileno(f)) != 0 || rename(temporary, p.list) != 0))
        rc = FAIL(ERR_IO, "%s: %s", p.list, strerror(errno));
    if (f && rc != OK)
        unlink(temporary);
done:
    if (f)
        fclose(f);
    names_release(&names);
    return rc;
}
