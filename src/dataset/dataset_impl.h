/* The seam inside the data set room: readers, one per format, fill drafts; dataset.c makes samples
 * of them.
 *
 * A draft is one record of the input: its pictures, its own prompt if it has one, and its fields
 * for templates. Pointers in a draft are good until the reader's next call or the draft's reset. */
#ifndef DATASET_IMPL_H
#define DATASET_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataset.h"
#include "pool.h"

enum {
    DATASET_MAX_IMAGES = 4096,  /* of one record */
    DATASET_MAX_FIELDS = 1024,  /* of one record; each is compared with the others */
    DATASET_MAX_PROMPTS = 64,   /* of one sample that is put together from several records */
    DATASET_MAX_TEXT = 1 << 20, /* bytes of one prompt or id */
    DATASET_PATH_BYTES = 4096,
};

/* Where a record stands, for messages and for the table of ids: "FILE UNIT NUMBER". */
struct place {
    int file; /* index of the shard or list */
    int64_t number;
};

struct field {
    const char *name, *value;
};

struct draft {
    struct pool pool; /* owns what the pointers below point to */
    struct place place;
    const char *place_text;
    const char *id; /* NULL: the record's number */
    const char *image_id;
    const char *prompt, *suffix; /* the record's own; NULL: none */
    int64_t number;              /* question_id, or -1 */
    const char *why;             /* set: the record cannot be used, and this is the reason */
    struct dataset_image *image;
    size_t n_images, room_images;
    struct field *field;
    size_t n_fields, room_fields;
};

/* What readers need of the parameters; strings are owned by the data set. */
struct reader_params {
    const char *source;
    char *images_dir; /* never NULL */
    size_t max_record_bytes;
    bool has_prompts; /* given with the command: records need none of their own */
    struct image_clip clip;
};

struct reader;
struct reader_ops {
    const char *format, *unit; /* "manifest", "line" */
    /* Fills the reset draft, or sets *end. A failure ends the input; a record that is broken is
     * OK with d->why (draft_settle). place is set in any case. */
    int (*next)(struct reader *r, struct draft *d, bool *end);
    /* Name of file i as in place; lives as long as the reader. */
    const char *(*file_name)(const struct reader *r, int i);
    void (*close)(struct reader *r);
};
struct reader {
    const struct reader_ops *ops;
    const struct reader_params *params;
};

struct lines;

/* What the input is when nobody says. A file of lines is left open in *lines, unread. */
int detect_format(enum dataset_format *format, const char *source, size_t max_record_bytes,
                  struct lines **lines);

/* Openers. Those that take lines own it from then on, also on failure. */
int reader_open_manifest(struct reader **out, const struct reader_params *p, struct lines *lines);
int reader_open_openai(struct reader **out, const struct reader_params *p, struct lines *lines);
int reader_open_folder(struct reader **out, const struct reader_params *p, struct lines *lines);
int reader_open_list(struct reader **out, const struct reader_params *p, struct lines *lines);
int reader_open_files(struct reader **out, const struct reader_params *p);
int reader_open_coco(struct reader **out, const struct reader_params *p);
int reader_open_tar(struct reader **out, const struct reader_params *p);
int reader_open_h5(struct reader **out, const struct reader_params *p);

/* ---- drafts ---- */

void draft_reset(struct draft *d);
int draft_set_place(struct draft *d, const struct reader *r, int file, int64_t number);
void draft_release(struct draft *d);
/* rc of filling d: ERR_INPUT makes it a broken record, with the failure's text, and OK. */
int draft_settle(struct draft *d, int rc);
/* name and value are copied; a second value of one name replaces the first. */
int draft_add_field(struct draft *d, const char *name, const char *value, size_t n_value);
const char *draft_field(const struct draft *d, const char *name); /* NULL: none */
/* A picture as records name it: a path (relative ones below dir), file://, or data: with base64.
 * http and other schemes are ERR_INPUT. */
int draft_add_picture(struct draft *d, const char *dir, const char *reference);
/* An encoded picture that lies in the draft's pool; path, for messages, and name are copied. */
int draft_add_bytes(struct draft *d, const char *path, const char *name, const uint8_t *bytes,
                    size_t n_bytes);
int draft_add_image(struct draft *d, const struct dataset_image *image, const char *name);
/* A picture or video by its name in a list; adds the fields path, name and stem. */
int draft_add_file(struct draft *d, const struct reader_params *p, const char *name);
/* A video: a file, or a directory of frames, of which the chosen ones become pictures. */
int draft_add_video(struct draft *d, const struct reader_params *p, const char *reference);

/* ---- small helpers, in paths.c ---- */

/* dir/name, or name when it is absolute or dir is "". */
char *path_join(struct pool *pool, const char *dir, const char *name);
/* The directory part of a path in a new string (free); "" where there is none. */
char *path_directory(const char *path);
const char *path_base(const char *path);
/* By the end of the name, in any case of letters. */
bool path_is_picture(const char *name);
bool path_is_video(const char *name);
/* Names; `name` is there once all have been added. */
struct name_list {
    char *text; /* names, each with its NUL, in the order of arrival */
    size_t n, n_text, room;
    const char **name; /* [n], after name_list_index or name_list_sort */
};
int name_list_add(struct name_list *l, const char *name);
int name_list_index(struct name_list *l); /* in the order of arrival */
int name_list_sort(struct name_list *l);  /* as bytes */
void name_list_release(struct name_list *l);

#endif
