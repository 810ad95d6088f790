/* One line of the journal: a JSON object whose last member is the checksum of the bytes before.
 *
 *   {"index":7,"id":"cat","config":"<16 hex>","input":"<32 hex>",...,"crc":"<16 hex>"}
 *
 * Quotes inside JSON strings are escaped, so ,"crc":" marks an end of a line wherever it stands: a
 * line whose newline was damaged is still found. NUL bytes in an answer become U+FFFD, since
 * JSON readers (ours, too) refuse them; the token ids keep them. Numbers are written so that they
 * read back exactly. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "results_impl.h"
#include "status.h"

enum { HEX64 = 16, SEAL_BYTES = 8 + HEX64 + 2 }; /* ,"crc":" hex "} */
#define SEAL ",\"crc\":\""
#define HEADER "{\"journal\":"

/* ---- checksums ---- */

static bool parse_hex(const char *s, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        const char c = s[i];
        const int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

        if (v < 0)
            return false;
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | v : v << 4);
    }
    return true;
}

static bool parse_hex64(const char *s, uint64_t *out)
{
    uint8_t byte[8];
    uint64_t v = 0;

    if (!parse_hex(s, HEX64, byte))
        return false;
    for (int i = 0; i < 8; i++)
        v = v << 8 | byte[i];
    *out = v;
    return true;
}

bool line_is_sealed(const char *text, size_t n_bytes)
{
    const char *seal;
    uint64_t crc;

    if (n_bytes < SEAL_BYTES)
        return false;
    seal = text + n_bytes - SEAL_BYTES;
    return memcmp(seal, SEAL, sizeof SEAL - 1) == 0 &&
           memcmp(seal + SEAL_BYTES - 2, "\"}", 2) == 0 &&
           parse_hex64(seal + sizeof SEAL - 1, &crc) &&
           crc == digest_checksum(text, n_bytes - SEAL_BYTES);
}

size_t line_sealed_prefix(const char *text, size_t n_bytes)
{
    const size_t n_mark = sizeof SEAL - 1;

    for (const char *p = text; n_bytes - (size_t)(p - text) >= SEAL_BYTES; p++) {
        p = memchr(p, ',', n_bytes - (size_t)(p - text) - SEAL_BYTES + 1);
        if (!p)
            return 0;
        if (memcmp(p, SEAL, n_mark) == 0)
            return (size_t)(p - text) + SEAL_BYTES;
    }
    return 0;
}

/* Closes the stream, and returns its text with checksum and newline. */
static int seal(FILE *f, char **text, size_t *n)
{
    char tail[SEAL_BYTES + 2];
    const bool bad = fflush(f) != 0 || ferror(f);

    if (!bad) {
        snprintf(tail, sizeof tail, SEAL "%016llx\"}\n",
                 (unsigned long long)digest_checksum(*text, *n));
        fwrite(tail, 1, SEAL_BYTES + 1, f);
    }
    if (fclose(f) != 0 || bad) {
        free(*text);
        return FAIL(ERR_NOMEM, "a line of the journal");
    }
    return OK;
}

/* ---- writing ---- */

static void put_text(FILE *f, const char *key, const char *s)
{
    if (s)
        json_member_string(f, key, s, strlen(s));
}

/* As json_write_string, with U+FFFD for NUL. */
static int put_answer(FILE *f, const char *text, size_t n)
{
    char *copy;

    if (n == 0 || !memchr(text, '\0', n)) {
        json_member_string(f, "text", text, n);
        return OK;
    }
    copy = malloc(n);
    if (!copy)
        return FAIL(ERR_NOMEM, "an answer of %zu bytes", n);
    for (size_t i = 0; i < n; i++)
        copy[i] = text[i] ? text[i] : (char)0xff; /* not UTF-8, hence replaced */
    json_member_string(f, "text", copy, n);
    free(copy);
    return OK;
}

/* The words of results.h. errno's texts stand in our messages, in English: nobody sets a locale. */
static const char *class_of(int rc, const char *why)
{
    if (rc == ERR_INPUT || rc == ERR_IO) {
        if (strstr(why, "No such file or directory"))
            return "missing";
        if (strstr(why, "Permission denied") || strstr(why, "Operation not permitted"))
            return "denied";
    }
    switch (rc) {
    case ERR_INPUT:
        return "input";
    case ERR_UNSUPPORTED:
        return "unsupported";
    case ERR_IO:
        return "io";
    case ERR_NOMEM:
        return "memory";
    case ERR_RANGE:
        return "range";
    case ERR_TIMEOUT:
        return "timeout";
    default:
        return "internal";
    }
}

int line_check_class(const char *word)
{
    static const char *const words[] = {"missing", "denied", "input",   "unsupported", "io",
                                        "memory",  "range",  "timeout", "internal"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(words[i], word) == 0)
            return OK;
    }
    return FAIL(ERR_USAGE,
                "no failure is of class \"%.80s\"; there are missing, denied, input, unsupported, "
                "io, memory, range, timeout, internal",
                word);
}

static int put_good(FILE *f, const struct result *r)
{
    TRY(put_answer(f, r->text, r->n_text));
    fputs(",\"token_ids\":[", f);
    for (size_t i = 0; i < r->n_tokens; i++) {
        ASSERT(r->tokens[i] >= 0);
        fprintf(f, "%s%d", i ? "," : "", (int)r->tokens[i]);
    }
    fprintf(f, "],\"finish\":\"%s\"", r->finish == RESULT_EOS ? "eos" : "length");
    json_member_real(f, "logprob", r->logprob);
    return OK;
}

static void put_bad(FILE *f, const struct result *r)
{
    const char *why = r->why ? r->why : "";

    put_text(f, "code", status_name(r->rc));
    put_text(f, "class", class_of(r->rc, why));
    put_text(f, "why", why);
}

static void put_run(FILE *f, const struct result *r)
{
    fprintf(f, ",\"width\":%d,\"height\":%d,\"n_images\":%d,\"n_prompt_tokens\":%d", r->width_px,
            r->height_px, r->n_images, r->n_prompt_tokens);
    fprintf(f, ",\"wait_us\":%lld,\"decode_us\":%lld,\"vision_us\":%lld,\"prefill_us\":%lld",
            (long long)r->wait_us, (long long)r->decode_us, (long long)r->vision_us,
            (long long)r->prefill_us);
    fprintf(f, ",\"generate_us\":%lld,\"replica\":%d,\"attempt\":%d", (long long)r->generate_us,
            r->replica, r->attempt);
}

static int put_record(FILE *f, const struct result *r, uint64_t config)
{
    char input[33];

    digest_hex(r->input, input);
    fprintf(f, "{\"index\":%lld,\"id\":", (long long)r->index);
    json_write_string(f, r->id, strlen(r->id));
    fprintf(f, ",\"config\":\"%016llx\",\"input\":\"%s\",\"status\":\"%s\"",
            (unsigned long long)config, input, r->rc == OK ? "ok" : "failed");
    put_text(f, "image", r->image);
    put_text(f, "image_id", r->image_id);
    fprintf(f, ",\"number\":%lld", (long long)r->number);
    put_text(f, "prompt", r->prompt);
    put_text(f, "suffix", r->suffix);
    put_run(f, r);
    if (r->rc == OK)
        return put_good(f, r);
    put_bad(f, r);
    return OK;
}

int line_make(char **out, size_t *n_bytes, const struct result *r, uint64_t config)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    int rc;

    ASSERT(r->index >= 0 && r->index < RESULTS_MAX_INDEX && r->id && r->prompt);
    ASSERT(r->width_px >= 0 && r->height_px >= 0 && r->n_images >= 0 && r->n_prompt_tokens >= 0);
    if (!f)
        return FAIL(ERR_NOMEM, "a line of the journal");
    rc = put_record(f, r, config);
    if (rc != OK) {
        fclose(f);
        free(text);
        return rc;
    }
    TRY(seal(f, &text, &n));
    if (n > LINE_MAX_BYTES) {
        free(text);
        return FAIL(ERR_RANGE, "record %s: %zu bytes in the journal, at most %d", r->id, n,
                    LINE_MAX_BYTES);
    }
    *out = text;
    *n_bytes = n;
    return OK;
}

int line_make_header(char **out, size_t *n_bytes, int segment, const struct settings *s)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    if (!f)
        return FAIL(ERR_NOMEM, "a line of the journal");
    fprintf(f, HEADER "\"paligrid\",\"version\":1,\"segment\":%d,\"settings\":", segment);
    settings_write(f, s);
    TRY(seal(f, &text, &n));
    *out = text;
    *n_bytes = n;
    return OK;
}

/* ---- reading ---- */

/* Members are taken one by one; the first that is missing or wrong is remembered. */
struct taker {
    const struct json *object;
    const char *wrong; /* NULL: none so far */
};

static const struct json *take(struct taker *t, const char *key, enum json_kind kind, bool optional)
{
    const struct json *v = json_get(t->object, key);

    if (v && json_kind_of(v) == kind)
        return v;
    if ((v || !optional) && !t->wrong)
        t->wrong = key;
    return NULL;
}

static const char *take_text(struct taker *t, const char *key)
{
    const struct json *v = take(t, key, JSON_KIND_STRING, false);

    return v ? json_text(v) : "";
}

static const char *take_text_or_null(struct taker *t, const char *key)
{
    const struct json *v = take(t, key, JSON_KIND_STRING, true);

    return v ? json_text(v) : NULL;
}

static int64_t take_int(struct taker *t, const char *key, int64_t min, int64_t max)
{
    const struct json *v = take(t, key, JSON_KIND_INT, false);

    if (v && json_int(v) >= min && json_int(v) <= max)
        return json_int(v);
    if (v && !t->wrong)
        t->wrong = key;
    return min;
}

static void take_digests(struct taker *t, struct line *l)
{
    const char *config = take_text(t, "config"), *input = take_text(t, "input");

    if (!t->wrong && (strlen(config) != HEX64 || !parse_hex64(config, &l->config)))
        t->wrong = "config";
    if (!t->wrong && (strlen(input) != 32 || !parse_hex(input, 32, l->r.input.byte)))
        t->wrong = "input";
}

static int take_tokens(struct taker *t, struct line *l)
{
    const struct json *ids = take(t, "token_ids", JSON_KIND_ARRAY, false);
    const size_t n = ids ? json_len(ids) : 0;

    if (n > l->cap_tokens) {
        int32_t *grown = realloc(l->token, n * sizeof *grown);

        if (!grown)
            return FAIL(ERR_NOMEM, "%zu token ids", n);
        l->token = grown;
        l->cap_tokens = n;
    }
    for (size_t i = 0; i < n; i++) {
        const struct json *v = json_at(ids, i);

        if (json_kind_of(v) != JSON_KIND_INT || json_int(v) < 0 || json_int(v) > INT32_MAX) {
            t->wrong = t->wrong ? t->wrong : "token_ids";
            return OK;
        }
        l->token[i] = (int32_t)json_int(v);
    }
    l->r.tokens = l->token;
    l->r.n_tokens = n;
    return OK;
}

static int take_good(struct taker *t, struct line *l)
{
    const char *finish = take_text(t, "finish");
    const struct json *logprob = json_get(t->object, "logprob");

    l->r.text = take_text(t, "text");
    l->r.n_text = strlen(l->r.text);
    l->r.finish = strcmp(finish, "eos") == 0 ? RESULT_EOS : RESULT_LENGTH;
    if (!t->wrong && l->r.finish == RESULT_LENGTH && strcmp(finish, "length") != 0)
        t->wrong = "finish";
    if (!logprob && !t->wrong)
        t->wrong = "logprob";
    if (!t->wrong)
        l->r.logprob = json_kind_of(logprob) == JSON_KIND_NULL ? (double)NAN : json_number(logprob);
    return take_tokens(t, l);
}

static void take_bad(struct taker *t, struct line *l)
{
    const char *code = take_text(t, "code");

    l->r.text = "";
    l->r.why = take_text(t, "why");
    l->class = take_text(t, "class");
    l->r.rc = ERR_INTERNAL;
    while (l->r.rc < OK && strcmp(status_name(l->r.rc), code) != 0)
        l->r.rc++;
    if (l->r.rc == OK && !t->wrong)
        t->wrong = "code";
}

static void take_run(struct taker *t, struct result *r)
{
    r->width_px = (int)take_int(t, "width", 0, INT32_MAX);
    r->height_px = (int)take_int(t, "height", 0, INT32_MAX);
    r->n_images = (int)take_int(t, "n_images", 0, INT32_MAX);
    r->n_prompt_tokens = (int)take_int(t, "n_prompt_tokens", 0, INT32_MAX);
    r->wait_us = take_int(t, "wait_us", INT64_MIN, INT64_MAX);
    r->decode_us = take_int(t, "decode_us", INT64_MIN, INT64_MAX);
    r->vision_us = take_int(t, "vision_us", INT64_MIN, INT64_MAX);
    r->prefill_us = take_int(t, "prefill_us", INT64_MIN, INT64_MAX);
    r->generate_us = take_int(t, "generate_us", INT64_MIN, INT64_MAX);
    r->replica = (int)take_int(t, "replica", INT32_MIN, INT32_MAX);
    r->attempt = (int)take_int(t, "attempt", INT32_MIN, INT32_MAX);
}

static int take_record(struct taker *t, struct line *l)
{
    const char *status = take_text(t, "status");

    l->r = (struct result){0};
    l->class = "";
    l->r.index = take_int(t, "index", 0, RESULTS_MAX_INDEX - 1);
    l->r.id = take_text(t, "id");
    take_digests(t, l);
    l->r.image = take_text_or_null(t, "image");
    l->r.image_id = take_text_or_null(t, "image_id");
    l->r.number = take_int(t, "number", INT64_MIN, INT64_MAX);
    l->r.prompt = take_text(t, "prompt");
    l->r.suffix = take_text_or_null(t, "suffix");
    take_run(t, &l->r);
    if (strcmp(status, "ok") == 0)
        return take_good(t, l);
    if (strcmp(status, "failed") != 0 && !t->wrong)
        t->wrong = "status";
    take_bad(t, l);
    return OK;
}

static int parse_object(struct json_doc **out, const char *text, size_t n_bytes, const char *name)
{
    struct json_doc *doc;

    TRY(json_parse(&doc, text, n_bytes, name, ERR_INPUT));
    if (json_kind_of(json_root(doc)) != JSON_KIND_OBJECT) {
        json_free(doc);
        return FAIL(ERR_INPUT, "%s: not an object", name);
    }
    *out = doc;
    return OK;
}

int line_read(struct line *out, const char *text, size_t n_bytes, const char *name)
{
    struct taker t = {0};

    json_free(out->doc);
    out->doc = NULL;
    TRY(parse_object(&out->doc, text, n_bytes, name));
    t.object = json_root(out->doc);
    TRY(take_record(&t, out));
    if (t.wrong)
        return FAIL(ERR_INPUT, "%s: member %s is missing or wrong", name, t.wrong);
    return OK;
}

bool line_is_header(const char *text, size_t n_bytes)
{
    return n_bytes >= sizeof HEADER - 1 && memcmp(text, HEADER, sizeof HEADER - 1) == 0;
}

int line_read_header(struct settings *out, const char *text, size_t n_bytes, const char *name)
{
    struct json_doc *doc;
    struct taker t = {0};
    int rc;

    TRY(parse_object(&doc, text, n_bytes, name));
    t.object = json_root(doc);
    take_int(&t, "version", 1, 1);
    rc = t.wrong ? FAIL(ERR_UNSUPPORTED, "%s: a journal of another version", name)
                 : settings_read(out, json_get(t.object, "settings"), name);
    json_free(doc);
    return rc;
}

void line_release(struct line *l)
{
    json_free(l->doc);
    free(l->token);
    *l = (struct line){0};
}
