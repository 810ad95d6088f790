/* Names of files: joining, kinds by their ending, sorted lists. See dataset_impl.h.
 *
 * Endings only choose what a directory or an archive offers as a picture; what a file is, the
 * decoders find out from its bytes. Kinds that are not decoded (TIFF, HEIC, ...) are listed, too:
 * they become failed records with a name instead of being passed over in silence. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "dataset_impl.h"
#include "status.h"

char *path_join(struct pool *pool, const char *dir, const char *name)
{
    size_t n = strlen(dir);

    if (n == 0 || name[0] == '/')
        return pool_text(pool, name, strlen(name));
    return pool_printf(pool, dir[n - 1] == '/' ? "%s%s" : "%s/%s", dir, name);
}

char *path_directory(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return strdup("");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static bool ends_in_one_of(const char *name, const char *const ending[], size_t n)
{
    const char *dot = strrchr(path_base(name), '.');

    for (size_t i = 0; dot && i < n; i++) {
        if (strcasecmp(dot + 1, ending[i]) == 0)
            return true;
    }
    return false;
}

bool path_is_picture(const char *name)
{
    static const char *const ending[] = {
        "jpg", "jpeg", "jpe", "jfif", "png",  "webp", "gif",  "bmp", "dib", "pnm", "ppm",
        "pgm", "pbm",  "tif", "tiff", "avif", "heic", "heif", "jxl", "jp2", "tga",
    };

    return ends_in_one_of(name, ending, sizeof ending / sizeof ending[0]);
}

bool path_is_video(const char *name)
{
    static const char *const ending[] = {"mp4", "m4v", "mov",  "mkv", "webm",
                                         "avi", "mpg", "mpeg", "ts",  "ogv"};

    return ends_in_one_of(name, ending, sizeof ending / sizeof ending[0]);
}

/* ---- lists ---- */

static int grow(char **text, size_t *room, size_t needed)
{
    size_t more = *room ? 2 * *room : 4096;
    char *larger;

    if (needed <= *room)
        return OK;
    if (more < needed)
        more = needed;
    larger = realloc(*text, more);
    if (!larger)
        return FAIL(ERR_NOMEM, "a list of names of %zu bytes", needed);
    *text = larger;
    *room = more;
    return OK;
}

int name_list_add(struct name_list *l, const char *name)
{
    size_t n = strlen(name) + 1;

    TRY(grow(&l->text, &l->room, l->n_text + n));
    memcpy(l->text + l->n_text, name, n);
    l->n_text += n;
    l->n++;
    return OK;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int name_list_index(struct name_list *l)
{
    const char *text = l->text;

    free(l->name);
    l->name = calloc(l->n + 1, sizeof *l->name);
    if (!l->name)
        return FAIL(ERR_NOMEM, "a list of %zu names", l->n);
    for (size_t i = 0; i < l->n; i++) {
        l->name[i] = text;
        text += strlen(text) + 1;
    }
    return OK;
}

int name_list_sort(struct name_list *l)
{
    TRY(name_list_index(l));
    qsort(l->name, l->n, sizeof *l->name, by_bytes);
    return OK;
}

void name_list_release(struct name_list *l)
{
    free(l->text);
    free(l->name);
    *l = (struct name_list){0};
}
