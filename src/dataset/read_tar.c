/* WebDataset shards: tar archives, plain or compressed by gzip or zstd, read once from front to back.
 *
 * A member's key is its path up to the first dot of its last part; the rest, in lower case, says what
 * it is. Members of one key that follow each other are a sample. Members without a dot, hidden ones
 * and __name__ are passed over, as the PyPI package does.
 *   a picture's ending    a picture, in the order of the members
 *   json                  an object: fields, prompt, suffix, image_id, question_id
 *   other short text      a field of that name: {txt}, {cls}, {prompt}
 * "txt" is the prompt where nothing else is, else the expected answer. The key is the id, behind the
 * shard's name where there are several. An archive that ends early or is damaged ends the input; the
 * sample in which that happens is not given out, as nobody knows what else belongs to it. */
#include <archive.h>
#include <archive_entry.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataset_impl.h"
#include "json_record.h"
#include "shards.h"
#include "status.h"
#include "utf8.h"

enum { BLOCK_BYTES = 1 << 18, MAX_SUFFIX_BYTES = 128, MAX_MEMBERS = 1000 };

struct tar {
    struct reader base; /* first member: of() casts back */
    struct name_list shard;
    size_t at;                   /* the shard in work, or the next when none is open */
    struct archive *archive;     /* NULL: none is open */
    struct archive_entry *entry; /* read, not yet used; NULL: none */
    int64_t n_in_shard;
    char *last_member; /* for messages; owned */
    int failed;        /* of the archive: there is no way on */
};

static struct tar *of(struct reader *r)
{
    return (struct tar *)r;
}

static const char *shard_name(const struct tar *t)
{
    return t->shard.name[t->at];
}

/* ---- the archive ---- */

static int fail_archive(const struct tar *t, const char *where)
{
    const char *why = t->archive ? archive_error_string(t->archive) : NULL;

    return FAIL(ERR_INPUT, "%s: %s %s: %s", shard_name(t), where,
                t->last_member ? t->last_member : "the first member", why ? why : "damaged");
}

static int open_shard(struct tar *t)
{
    t->archive = archive_read_new();
    if (!t->archive)
        return FAIL(ERR_NOMEM, "%s", shard_name(t));
    t->n_in_shard = 0;
    free(t->last_member);
    t->last_member = NULL;
    archive_read_support_filter_gzip(t->archive);
    archive_read_support_filter_zstd(t->archive);
    archive_read_support_format_tar(t->archive);
    if (archive_read_open_filename(t->archive, shard_name(t), BLOCK_BYTES) != ARCHIVE_OK)
        return fail_archive(t, "before");
    return OK;
}

static void close_shard(struct tar *t)
{
    if (t->archive)
        archive_read_free(t->archive);
    t->archive = NULL;
    t->entry = NULL;
}

/* The name as it stands in the archive, whatever the locale. */
static const char *member_name(struct archive_entry *e)
{
    const char *name = archive_entry_pathname_utf8(e);

    if (!name)
        name = archive_entry_pathname(e);
    return name ? name : "";
}

/* The next regular member; *end at the end of the shard. */
static int next_member(struct tar *t, bool *end)
{
    struct archive_entry *e;
    int code;

    do {
        code = archive_read_next_header(t->archive, &e);
        if (code == ARCHIVE_EOF) {
            *end = true;
            return OK;
        }
        if (code != ARCHIVE_OK && code != ARCHIVE_WARN)
            return fail_archive(t, "after");
        free(t->last_member);
        t->last_member = strdup(member_name(e));
        if (!t->last_member)
            return FAIL(ERR_NOMEM, "%s", shard_name(t));
    } while (archive_entry_filetype(e) != AE_IFREG || archive_entry_hardlink(e));
    t->entry = e;
    return OK;
}

/* ---- names of members ---- */

struct member {
    const char *key;    /* in the draft's pool */
    const char *suffix; /* lower case; NULL: it belongs to no sample */
};

/* __name__, or something in a folder of such a name. */
static bool is_about_the_archive(const char *path)
{
    const size_t n = strcspn(path, "/");

    return n >= 4 && memcmp(path, "__", 2) == 0 && memcmp(path + n - 2, "__", 2) == 0;
}

static int parse_name(struct draft *d, const char *path, struct member *m)
{
    const char *base = path_base(path), *dot = strchr(base, '.');
    char *suffix;

    *m = (struct member){NULL, NULL};
    if (!dot || dot == base || strlen(dot + 1) > MAX_SUFFIX_BYTES || is_about_the_archive(path))
        return OK;
    m->key = pool_text(&d->pool, path, (size_t)(dot - path));
    m->suffix = suffix = pool_text(&d->pool, dot + 1, strlen(dot + 1));
    if (!m->key || !suffix)
        return FAIL(ERR_NOMEM, "%s", path);
    for (; *suffix; suffix++)
        *suffix = (char)tolower((unsigned char)*suffix);
    return OK;
}

/* ---- one sample ---- */

struct tar_sample {
    struct draft *d;
    const char *key;   /* NULL: no member yet */
    const char *names; /* suffixes so far, for a message; "" */
    size_t n_bytes;
    int n_members;
};

/* The member's content with a NUL behind it. An archive that breaks off in it is `failed`. */
static int read_content(struct tar *t, struct tar_sample *s, char **out, size_t *n)
{
    const size_t limit = t->base.params->max_record_bytes;
    const int64_t size = archive_entry_size(t->entry);
    size_t done = 0;

    if (size < 0 || (uint64_t)size > limit - s->n_bytes)
        return FAIL(ERR_INPUT, "%s: with member %s more than %zu bytes", s->d->place_text,
                    t->last_member, limit);
    *n = (size_t)size;
    *out = pool_alloc(&s->d->pool, *n + 1);
    if (!*out)
        return FAIL(ERR_NOMEM, "%s: member %s", s->d->place_text, t->last_member);
    while (done < *n) {
        la_ssize_t got = archive_read_data(t->archive, *out + done, *n - done);
        if (got <= 0) {
            t->failed = fail_archive(t, "in member");
            return t->failed;
        }
        done += (size_t)got;
    }
    (*out)[*n] = '\0';
    s->n_bytes += *n;
    return OK;
}

static int add_json(struct draft *d, const char *text, size_t n)
{
    struct json_doc *doc;
    int rc;

    TRY(json_parse(&doc, text, n, d->place_text, ERR_INPUT));
    if (json_kind_of(json_root(doc)) == JSON_KIND_OBJECT) {
        rc = json_record_usual(d, json_root(doc), "caption");
        if (rc == OK)
            rc = json_record_fields(d, json_root(doc));
    } else {
        rc = FAIL(ERR_INPUT, "%s: its json is not an object", d->place_text);
    }
    json_free(doc);
    return rc;
}

/* A text file ends in a newline that nobody means. */
static int add_text(struct draft *d, const char *suffix, const char *text, size_t n)
{
    const size_t n_suffix = strlen(suffix);
    char *name = pool_text(&d->pool, suffix, n_suffix);

    if (!name)
        return FAIL(ERR_NOMEM, "%s", d->place_text);
    if (n_suffix > 4 && strcmp(name + n_suffix - 4, ".txt") == 0)
        name[n_suffix - 4] = '\0';
    if (strlen(text) != n || !utf8_is_valid(text, n))
        return OK; /* numbers of some training code */
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        n--;
    return draft_add_field(d, name, text, n);
}

static int add_member(struct tar *t, struct tar_sample *s, const char *suffix)
{
    const char *const last_dot = strrchr(suffix, '.');
    const char *const kind = last_dot ? last_dot + 1 : suffix;
    char as_file[MAX_SUFFIX_BYTES + 4], *content, *path;
    struct draft *d = s->d;
    size_t n;

    snprintf(as_file, sizeof as_file, "x.%s", kind);
    if (path_is_picture(as_file)) {
        TRY(read_content(t, s, &content, &n));
        path = pool_printf(&d->pool, "%s:%s", shard_name(t), t->last_member);
        return path ? draft_add_bytes(d, path, path_base(shard_name(t)) - shard_name(t) + path,
                                      (const uint8_t *)content, n)
                    : FAIL(ERR_NOMEM, "%s", d->place_text);
    }
    if (strcmp(suffix, "json") != 0 && archive_entry_size(t->entry) > DATASET_MAX_TEXT)
        return OK;
    TRY(read_content(t, s, &content, &n));
    return strcmp(suffix, "json") == 0 ? add_json(d, content, n) : add_text(d, suffix, content, n);
}

static int check_suffix(struct tar_sample *s, const char *suffix)
{
    const char *entry = pool_printf(&s->d->pool, " %s,", suffix);

    if (!entry)
        return FAIL(ERR_NOMEM, "%s", s->d->place_text);
    if (s->n_members++ == MAX_MEMBERS)
        return FAIL(ERR_INPUT, "%s: more than %d members", s->d->place_text, MAX_MEMBERS);
    if (strstr(s->names, entry))
        return FAIL(ERR_INPUT, "%s: two members \"%s.%s\"", s->d->place_text, s->key, suffix);
    s->names = pool_printf(&s->d->pool, "%s%s", s->names, entry);
    return s->names ? OK : FAIL(ERR_NOMEM, "%s", s->d->place_text);
}

static int start_sample(struct tar *t, struct tar_sample *s, const char *key)
{
    struct draft *d = s->d;
    const char *base = path_base(shard_name(t));

    s->key = key;
    d->id = t->shard.n == 1 ? key
                            : pool_printf(&d->pool, "%.*s/%s", (int)strcspn(base, "."), base, key);
    if (!d->id)
        return FAIL(ERR_NOMEM, "%s", shard_name(t));
    TRY(draft_set_place(d, &t->base, (int)t->at, ++t->n_in_shard));
    return draft_add_field(d, "key", key, strlen(key));
}

/* First of the fields that is there, NULL-terminated names. */
static const char *first_field(const struct draft *d, const char *const name[])
{
    const char *value = NULL;

    for (size_t i = 0; name[i] && !value; i++)
        value = draft_field(d, name[i]);
    return value;
}

static int finish_sample(struct tar_sample *s, bool has_prompts)
{
    static const char *const prompt[] = {"prefix", "prompt", "question", NULL};
    static const char *const suffix[] = {"suffix", "caption", NULL};
    struct draft *d = s->d;
    const char *txt = draft_field(d, "txt");

    if (d->why)
        return OK;
    if (d->n_images == 0)
        return draft_settle(d, FAIL(ERR_INPUT, "%s, %s: no picture among its members:%.200s",
                                    d->place_text, s->key, s->names));
    if (!d->prompt)
        d->prompt = first_field(d, prompt);
    if (!d->suffix)
        d->suffix = first_field(d, suffix);
    if (!d->prompt && !has_prompts)
        d->prompt = txt;
    else if (!d->suffix)
        d->suffix = txt;
    return OK;
}

/* Uses the entry that has been read. *other: it begins the next sample and stays. */
static int use_entry(struct tar *t, struct tar_sample *s, bool *other)
{
    struct member m;
    int rc;

    TRY(parse_name(s->d, t->last_member, &m));
    *other = m.suffix && s->key && strcmp(m.key, s->key) != 0;
    if (*other)
        return OK;
    if (m.suffix && !s->key)
        TRY(start_sample(t, s, m.key));
    rc = OK;
    if (m.suffix && !s->d->why) {
        rc = check_suffix(s, m.suffix);
        if (rc == OK)
            rc = add_member(t, s, m.suffix);
        if (t->failed == OK)
            rc = draft_settle(s->d, rc);
    }
    t->entry = NULL;
    return rc;
}

/* Reads members until the sample is complete or the shard ends. */
static int collect(struct tar *t, struct tar_sample *s)
{
    bool end = false, other = false;

    while (!other) {
        if (!t->entry)
            TRY(t->failed = next_member(t, &end));
        if (end) {
            close_shard(t);
            t->at++;
            return OK;
        }
        TRY(use_entry(t, s, &other));
    }
    return OK;
}

static int tar_next(struct reader *r, struct draft *d, bool *end)
{
    struct tar *t = of(r);
    struct tar_sample s = {.d = d, .names = ""};

    *end = false;
    while (!s.key && t->failed == OK) {
        if (!t->archive && t->at == t->shard.n) {
            *end = true;
            return OK;
        }
        if (!t->archive)
            TRY(t->failed = open_shard(t));
        TRY(collect(t, &s));
    }
    return s.key ? finish_sample(&s, r->params->has_prompts) : t->failed;
}

static const char *tar_file_name(const struct reader *r, int i)
{
    return ((const struct tar *)r)->shard.name[i];
}

static void tar_close(struct reader *r)
{
    struct tar *t = of(r);

    close_shard(t);
    name_list_release(&t->shard);
    free(t->last_member);
    free(t);
}

static const struct reader_ops tar_ops = {
    .format = "tar",
    .unit = "sample",
    .next = tar_next,
    .file_name = tar_file_name,
    .close = tar_close,
};

int reader_open_tar(struct reader **out, const struct reader_params *p)
{
    struct tar *t = calloc(1, sizeof *t);
    int rc;

    if (!t)
        return FAIL(ERR_NOMEM, "%s", p->source);
    t->base = (struct reader){&tar_ops, p};
    rc = shards_list(&t->shard, p->source);
    if (rc != OK)
        tar_close(&t->base);
    else
        *out = &t->base;
    return rc;
}

const char *dataset_libraries(void)
{
    return archive_version_string();
}
