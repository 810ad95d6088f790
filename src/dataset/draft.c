/* Drafts: a record's pictures, fields and texts in one pool; see dataset_impl.h.
 *
 * Counts are bounded by the length of the record they came from and by DATASET_MAX_IMAGES. */
#include "dataset_impl.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base64.h"
#include "image.h"
#include "status.h"

void draft_reset(struct draft *d)
{
    struct pool pool = d->pool;

    pool_reset(&pool);
    *d = (struct draft){.pool = pool, .number = -1, .place_text = ""};
}

void draft_release(struct draft *d)
{
    pool_release(&d->pool);
    *d = (struct draft){0};
}

int draft_set_place(struct draft *d, const struct reader *r, int file, int64_t number)
{
    const char *text =
        pool_printf(&d->pool, "%s %s %" PRId64, r->ops->file_name(r, file), r->ops->unit, number);

    if (!text)
        return FAIL(ERR_NOMEM, "%s", r->params->source);
    d->place = (struct place){file, number};
    d->place_text = text;
    return OK;
}

int draft_settle(struct draft *d, int rc)
{
    const char *why = log_last_error();

    if (rc != ERR_INPUT)
        return rc;
    d->why = pool_text(&d->pool, why, strlen(why));
    return d->why ? OK : FAIL(ERR_NOMEM, "%s", d->place_text);
}

/* A larger copy of an array of the pool; the old one stays there until the reset. */
static void *grown(struct draft *d, const void *old, size_t n, size_t *room, size_t elem_bytes)
{
    size_t more = *room ? 2 * *room : 8;
    void *copy = pool_alloc(&d->pool, more * elem_bytes);

    if (!copy)
        return NULL;
    if (n > 0)
        memcpy(copy, old, n * elem_bytes);
    *room = more;
    return copy;
}

int draft_add_field(struct draft *d, const char *name, const char *value, size_t n_value)
{
    struct field *f = NULL;

    for (size_t i = 0; i < d->n_fields; i++) {
        if (strcmp(d->field[i].name, name) == 0)
            f = &d->field[i];
    }
    if (!f && d->n_fields == DATASET_MAX_FIELDS)
        return FAIL(ERR_INPUT, "%s: more than %d fields", d->place_text, DATASET_MAX_FIELDS);
    if (!f && d->n_fields == d->room_fields) {
        struct field *more = grown(d, d->field, d->n_fields, &d->room_fields, sizeof *more);
        if (!more)
            return FAIL(ERR_NOMEM, "%s: fields", d->place_text);
        d->field = more;
    }
    if (!f) {
        f = &d->field[d->n_fields++];
        f->name = pool_text(&d->pool, name, strlen(name));
    }
    f->value = pool_text(&d->pool, value, n_value);
    return f->name && f->value ? OK : FAIL(ERR_NOMEM, "%s: fields", d->place_text);
}

const char *draft_field(const struct draft *d, const char *name)
{
    for (size_t i = 0; i < d->n_fields; i++) {
        if (strcmp(d->field[i].name, name) == 0)
            return d->field[i].value;
    }
    return NULL;
}

int draft_add_image(struct draft *d, const struct dataset_image *image, const char *name)
{
    struct dataset_image *images;

    if (d->n_images == DATASET_MAX_IMAGES)
        return FAIL(ERR_INPUT, "%s: more than %d pictures", d->place_text, DATASET_MAX_IMAGES);
    if (d->n_images == d->room_images) {
        images = grown(d, d->image, d->n_images, &d->room_images, sizeof *images);
        if (!images)
            return FAIL(ERR_NOMEM, "%s: pictures", d->place_text);
        d->image = images;
    }
    d->image[d->n_images] = *image;
    d->image[d->n_images].name = pool_text(&d->pool, name, strlen(name));
    return d->image[d->n_images++].name ? OK : FAIL(ERR_NOMEM, "%s: pictures", d->place_text);
}

int draft_add_bytes(struct draft *d, const char *path, const char *name, const uint8_t *bytes,
                    size_t n_bytes)
{
    struct dataset_image image = {.kind = DATASET_IMAGE_BYTES, .bytes = bytes, .n_bytes = n_bytes};

    if (n_bytes == 0)
        return FAIL(ERR_INPUT, "%s: %s: the picture is empty", d->place_text, name);
    image.path = pool_text(&d->pool, path, strlen(path));
    return image.path ? draft_add_image(d, &image, name)
                      : FAIL(ERR_NOMEM, "%s: pictures", d->place_text);
}

static int add_path(struct draft *d, const char *dir, const char *path, const char *name)
{
    struct dataset_image image = {.kind = DATASET_IMAGE_FILE};

    if (path[0] == '\0')
        return FAIL(ERR_INPUT, "%s: a picture without a name", d->place_text);
    image.path = path_join(&d->pool, dir, path);
    return image.path ? draft_add_image(d, &image, name)
                      : FAIL(ERR_NOMEM, "%s: pictures", d->place_text);
}

/* data:image/jpeg;base64,... The type is not believed: decoders look at the bytes. */
static int add_data_url(struct draft *d, const char *url)
{
    const char *comma = strchr(url, ',');
    size_t n_text = comma ? strlen(comma + 1) : 0, n_bytes = 0;
    uint8_t *bytes;
    char name[64];

    if (!comma || comma - url < 7 || strncasecmp(comma - 7, ";base64", 7) != 0)
        return FAIL(ERR_INPUT, "%s: a data: URL that is not base64", d->place_text);
    bytes = pool_alloc(&d->pool, base64_room(n_text));
    if (!bytes)
        return FAIL(ERR_NOMEM, "%s: a picture of %zu bytes", d->place_text, n_text);
    if (!base64_decode(bytes, &n_bytes, comma + 1, n_text))
        return FAIL(ERR_INPUT, "%s: the picture is not valid base64", d->place_text);
    snprintf(name, sizeof name, "data: of %zu bytes", n_bytes);
    return draft_add_bytes(d, name, name, bytes, n_bytes);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* file:///abs/path or file://localhost/abs/path, with %20 and the like. */
static int add_file_url(struct draft *d, const char *url)
{
    const char *from = url + strlen("file://");
    char *path, *to;

    if (strncmp(from, "localhost/", 10) == 0)
        from += strlen("localhost");
    if (from[0] != '/')
        return FAIL(ERR_INPUT, "%s: %.200s: a file of another host", d->place_text, url);
    path = to = pool_text(&d->pool, from, strlen(from));
    if (!path)
        return FAIL(ERR_NOMEM, "%s: pictures", d->place_text);
    for (; *from; from++) {
        int high = from[0] == '%' ? hex_digit(from[1]) : -1;
        int low = high >= 0 ? hex_digit(from[2]) : -1;
        if (low < 0) {
            *to++ = *from;
            continue;
        }
        if (high == 0 && low == 0)
            return FAIL(ERR_INPUT, "%s: %.200s: a name with a 0 byte", d->place_text, url);
        *to++ = (char)(high * 16 + low);
        from += 2;
    }
    *to = '\0';
    return add_path(d, "", path, url);
}

static bool has_scheme(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");

    return n > 1 && strncmp(s + n, "://", 3) == 0;
}

int draft_add_picture(struct draft *d, const char *dir, const char *reference)
{
    if (strncmp(reference, "data:", 5) == 0)
        return add_data_url(d, reference);
    if (strncmp(reference, "file://", 7) == 0)
        return add_file_url(d, reference);
    if (has_scheme(reference))
        return FAIL(ERR_INPUT, "%s: %.200s: pictures are not fetched from the network",
                    d->place_text, reference);
    return add_path(d, dir, reference, reference);
}

/* ---- videos ---- */

static int list_frames(struct name_list *list, const char *dir)
{
    const struct dirent *e;
    DIR *open_dir = opendir(dir);
    int rc = OK;

    if (!open_dir)
        return FAIL(ERR_INPUT, "%s: %m", dir);
    while (rc == OK && (e = readdir(open_dir)) != NULL) {
        if (e->d_name[0] != '.' && path_is_picture(e->d_name))
            rc = name_list_add(list, e->d_name);
    }
    closedir(open_dir);
    return rc == OK ? name_list_sort(list) : rc;
}

static int add_frames(struct draft *d, const struct image_clip *clip, const char *dir,
                      const char *reference, const struct name_list *list)
{
    int64_t *frame;

    if (list->n == 0)
        return FAIL(ERR_INPUT, "%s: %s: no pictures in this directory of frames", d->place_text,
                    dir);
    if (clip->sampling == IMAGE_FPS)
        return FAIL(ERR_INPUT,
                    "%s: %s: a directory of frames has no frame rate; sample it by uniform or "
                    "stride",
                    d->place_text, dir);
    frame = pool_alloc(&d->pool, (size_t)clip->n_frames * sizeof *frame);
    if (!frame)
        return FAIL(ERR_NOMEM, "%s: frames", d->place_text);
    image_clip_choose(clip, (int64_t)list->n, 0, frame);
    for (int i = 0; i < clip->n_frames; i++) {
        const char *file = list->name[frame[i]];
        char *path = path_join(&d->pool, dir, file), *name = path_join(&d->pool, reference, file);
        if (!path || !name)
            return FAIL(ERR_NOMEM, "%s: frames", d->place_text);
        TRY(add_path(d, "", path, name));
    }
    return OK;
}

int draft_add_video(struct draft *d, const struct reader_params *p, const char *reference)
{
    struct dataset_image image = {.kind = DATASET_IMAGE_VIDEO};
    struct name_list list = {0};
    struct stat st;
    int rc;

    if (p->clip.n_frames < 1)
        return FAIL(ERR_INPUT, "%s: %s: a video, but no number of frames is given", d->place_text,
                    reference);
    if (has_scheme(reference) || reference[0] == '\0')
        return FAIL(ERR_INPUT, "%s: %.200s: not a path of a video", d->place_text, reference);
    image.path = path_join(&d->pool, p->images_dir, reference);
    if (!image.path)
        return FAIL(ERR_NOMEM, "%s: a video", d->place_text);
    if (stat(image.path, &st) != 0 || !S_ISDIR(st.st_mode))
        return draft_add_image(d, &image,
                               reference); /* what else may be wrong is told by its reader */
    rc = list_frames(&list, image.path);
    if (rc == OK)
        rc = add_frames(d, &p->clip, image.path, reference, &list);
    name_list_release(&list);
    return rc;
}

int draft_add_file(struct draft *d, const struct reader_params *p, const char *name)
{
    const char *base = path_base(name), *dot = strrchr(base, '.');
    size_t n_stem = dot && dot > base ? (size_t)(dot - base) : strlen(base);

    TRY(draft_add_field(d, "path", name, strlen(name)));
    TRY(draft_add_field(d, "name", base, strlen(base)));
    TRY(draft_add_field(d, "stem", base, n_stem));
    if (p->clip.n_frames > 0 && path_is_video(name))
        return draft_add_video(d, p, name);
    return draft_add_picture(d, p->images_dir, name);
}
