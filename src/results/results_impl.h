/* Inside of the results room: settings, lines, and files that appear whole. */
#ifndef RESULTS_IMPL_H
#define RESULTS_IMPL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "json.h"
#include "results.h"

enum {
    RESULTS_MAX_PATH = 4096,
    LINE_MAX_BYTES = 64 << 20,    /* of the journal */
    SETTINGS_MAX_BYTES = 4 << 20, /* of run.json */
};
#define RESULTS_MAX_INDEX ((int64_t)1 << 36)

/* ---- named moments, for campaigns that kill there ---- */

struct moments {
    void (*call)(void *context, const char *name);
    void *context;
};
/* `file` may be NULL; else the name is "NAME FILE". */
void moments_tell(const struct moments *m, const char *name, const char *file);

/* ---- settings (results_settings.c) ---- */

/* Owned copies, sorted by key, valid UTF-8. Zeroed: none. */
struct settings {
    struct journal_setting *item;
    size_t n;
};
int settings_copy(struct settings *out, const struct journal_setting *item, size_t n);
/* From an object of texts; anything else is ERR_INPUT with `name`. */
int settings_read(struct settings *out, const struct json *object, const char *name);
void settings_release(struct settings *s);
void settings_write(FILE *f, const struct settings *s); /* a JSON object */
int settings_digest(const struct settings *s, uint64_t *out);
const char *settings_find(const struct settings *s, const char *key); /* or NULL */
/* ERR_MISMATCH names each that differs; `name` says where `was` stands. */
int settings_compare(const struct settings *was, const struct settings *is, const char *name);

/* ---- lines of the journal (journal_line.c) ---- */

/* A record as read back; r's pointers and `class` lie in the line's own memory. Start zeroed;
 * line_read reuses the memory, line_release frees it. */
struct line {
    struct result r;
    const char *class; /* of a failure: a word, see results.h */
    uint64_t config;   /* digest of the settings it was made with */
    struct json_doc *doc;
    int32_t *token;
    size_t cap_tokens;
};
/* New strings that end in a newline; the caller frees them. */
int line_make(char **out, size_t *n_bytes, const struct result *r, uint64_t config);
int line_check_class(const char *word); /* ERR_USAGE names the classes there are */
int line_make_header(char **out, size_t *n_bytes, int segment, const struct settings *s);
/* Does text end in a checksum that is right? The newline is not part of text. */
bool line_is_sealed(const char *text, size_t n_bytes);
/* Length of the first piece that ends as sealed lines do; 0: there is none. */
size_t line_sealed_prefix(const char *text, size_t n_bytes);
bool line_is_header(const char *text, size_t n_bytes);
int line_read(struct line *out, const char *text, size_t n_bytes, const char *name);
int line_read_header(struct settings *out, const char *text, size_t n_bytes, const char *name);
void line_release(struct line *l);

/* ---- files that appear whole (results_file.c) ---- */

/* DIR/NAME.tmp until it is committed: fsync, rename, fsync of DIR. */
struct results_file {
    FILE *f;
    char path[RESULTS_MAX_PATH], tmp_path[RESULTS_MAX_PATH + 8];
    const char *name;
    const struct moments *moments;
};
int results_path(char out[RESULTS_MAX_PATH], const char *dir, const char *name);
int results_file_create(struct results_file *out, const char *dir, const char *name,
                        const struct moments *m);
int results_file_commit(struct results_file *file); /* closes it in any case */
void results_file_discard(struct results_file *file);
int results_sync_dir(const char *dir);
/* With its parents, each durable; fine when it is there. */
int results_make_dirs(const char *path);
/* Writes all of it; the errno of a failure is kept. false: failed. */
bool results_write_all(int fd, const char *bytes, size_t n_bytes);
/* Removes what an earlier start left unfinished under dir. */
void results_remove_stale(const char *dir);

#endif
