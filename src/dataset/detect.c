/* What an input is, when --format does not say.
 *
 *   {a..b} in the name                 tar shards
 *   -, a FIFO, a regular file          by its first bytes: HDF5 and tar (plain, gzip, zstd) by their
 *                                      magic; "{" by the keys of the first line (one object: lines;
 *                                      the keys of COCO: COCO); a picture's magic: that file. Plain text is
 *                                      a list from standard input, and in doubt elsewhere
 *   directory                          imagefolder when it has metadata.jsonl; else shards when it
 *                                      has *.tar; else the pictures in it
 *   glob                               shards when all names end like tar, else pictures */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dataset_impl.h"
#include "lines.h"
#include "status.h"

static bool starts(const char *bytes, size_t n, const char *magic, size_t n_magic)
{
    return n >= n_magic && memcmp(bytes, magic, n_magic) == 0;
}

static bool is_tar(const char *bytes, size_t n)
{
    return starts(bytes, n, "\x1f\x8b", 2) || starts(bytes, n, "\x28\xb5\x2f\xfd", 4) ||
           (n >= 262 && memcmp(bytes + 257, "ustar", 5) == 0);
}

static bool is_picture(const char *bytes, size_t n)
{
    return starts(bytes, n, "\xff\xd8\xff", 3) || starts(bytes, n, "\x89PNG\r\n", 6) ||
           starts(bytes, n, "GIF8", 4) || starts(bytes, n, "RIFF", 4) ||
           starts(bytes, n, "BM", 2) ||
           (n > 2 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6' &&
            strchr(" \t\r\n#", bytes[2]));
}

/* Is "key" a member in these first bytes? Only a guess, as deep as it goes. */
static bool has_key(const char *bytes, size_t n, const char *key)
{
    const size_t n_key = strlen(key);

    for (size_t i = 0; i + n_key <= n; i++) {
        if (memcmp(bytes + i, key, n_key) != 0)
            continue;
        for (i += n_key; i < n && strchr(" \t\r\n", bytes[i]); i++)
            ;
        if (i < n && bytes[i] == ':')
            return true;
    }
    return false;
}

/* Is "key" there, and a list of objects? In a manifest "images" is a list of texts. */
static bool lists_objects(const char *bytes, size_t n, const char *key)
{
    const size_t n_key = strlen(key);

    for (size_t i = 0; i + n_key <= n; i++) {
        size_t at = i + n_key;

        if (memcmp(bytes + i, key, n_key) != 0)
            continue;
        while (at < n && bytes[at] != '\0' && strchr(" \t\r\n:[", bytes[at]))
            at++;
        if (at < n && bytes[at] == '{')
            return true;
    }
    return false;
}

static enum dataset_format of_json(const char *bytes, size_t n)
{
    const char *newline = memchr(bytes, '\n', n);
    const size_t n_line = newline ? (size_t)(newline - bytes) : n;
    const bool is_coco = has_key(bytes, n, "\"images\"") || has_key(bytes, n, "\"questions\"") ||
                         has_key(bytes, n, "\"info\"") || has_key(bytes, n, "\"annotations\"");

    if (has_key(bytes, n_line, "\"custom_id\""))
        return DATASET_OPENAI;
    if (has_key(bytes, n_line, "\"file_name\"") && !is_coco)
        return DATASET_FOLDER;
    if (has_key(bytes, n_line, "\"image\"") || has_key(bytes, n_line, "\"video\"") ||
        has_key(bytes, n_line, "\"prefix\"") || has_key(bytes, n_line, "\"prompt\""))
        return DATASET_MANIFEST;
    if (newline && has_key(bytes, n_line, "\"images\"") && !lists_objects(bytes, n, "\"images\""))
        return DATASET_MANIFEST;
    return is_coco ? DATASET_COCO : DATASET_MANIFEST;
}

/* The first bytes, without a byte order mark and white space. */
static void skip_blank(const char **bytes, size_t *n)
{
    if (starts(*bytes, *n, "\xEF\xBB\xBF", 3)) {
        *bytes += 3;
        *n -= 3;
    }
    while (*n > 0 && **bytes != '\0' && strchr(" \t\r\n", **bytes)) {
        ++*bytes;
        --*n;
    }
}

static int fail_in_doubt(const char *source)
{
    return FAIL(
        ERR_USAGE,
        "%s: what kind of input is this? Choose by --format: manifest, list, openai, folder, "
        "coco, tar, h5, files",
        source);
}

static int of_bytes(enum dataset_format *format, const char *source, const char *bytes, size_t n,
                    bool is_stdin)
{
    if (starts(bytes, n, "\x89HDF\r\n\x1a\n", 8))
        *format = DATASET_H5;
    else if (is_tar(bytes, n))
        *format = DATASET_TAR;
    else if (is_picture(bytes, n))
        *format = DATASET_FILES;
    else {
        skip_blank(&bytes, &n);
        if (n == 0)
            return FAIL(ERR_INPUT, "%s: is empty", source);
        if (*bytes == '{')
            *format = of_json(bytes, n);
        else if (is_stdin)
            *format = DATASET_LIST;
        else
            return fail_in_doubt(source);
    }
    return OK;
}

static bool has_lines(enum dataset_format format)
{
    return format == DATASET_MANIFEST || format == DATASET_OPENAI || format == DATASET_LIST ||
           format == DATASET_FOLDER;
}

static int of_file(enum dataset_format *format, const char *source, size_t max_record_bytes,
                   struct lines **lines)
{
    const char *bytes;
    size_t n;
    int rc;

    TRY(lines_open(lines, source, max_record_bytes));
    rc = lines_peek(*lines, &bytes, &n);
    if (rc == OK)
        rc = of_bytes(format, source, bytes, n, lines_is_stdin(*lines));
    if (rc == OK && !has_lines(*format) && lines_is_stdin(*lines))
        rc = FAIL(ERR_USAGE, "stdin: only lists and JSON lines are read from standard input");
    if (rc != OK || !has_lines(*format)) {
        lines_close(*lines);
        *lines = NULL;
    }
    return rc;
}

static bool ends_like_tar(const char *name)
{
    static const char *const ending[] = {".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"};
    size_t n = strlen(name);

    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++) {
        size_t n_ending = strlen(ending[i]);
        if (n > n_ending && strcmp(name + n - n_ending, ending[i]) == 0)
            return true;
    }
    return false;
}

static bool matches(const char *dir, const char *pattern, bool all_are_tar)
{
    char path[DATASET_PATH_BYTES];
    glob_t found;
    bool yes;

    if (snprintf(path, sizeof path, "%s%s%s", dir, *dir ? "/" : "", pattern) >= (int)sizeof path ||
        glob(path, GLOB_NOSORT, NULL, &found) != 0)
        return false;
    yes = found.gl_pathc > 0;
    for (size_t i = 0; all_are_tar && i < found.gl_pathc; i++)
        yes = yes && ends_like_tar(found.gl_pathv[i]);
    globfree(&found);
    return yes;
}

static enum dataset_format of_directory(const char *source)
{
    if (matches(source, "metadata.jsonl", false) || matches(source, "metadata.csv", false))
        return DATASET_FOLDER;
    return matches(source, "*.tar", false) || matches(source, "*.tar.gz", false) ||
                   matches(source, "*.tar.zst", false)
               ? DATASET_TAR
               : DATASET_FILES;
}

int detect_format(enum dataset_format *format, const char *source, size_t max_record_bytes,
                  struct lines **lines)
{
    struct stat st;

    *lines = NULL;
    if (strcmp(source, "-") == 0)
        return of_file(format, source, max_record_bytes, lines);
    if (stat(source, &st) == 0 && S_ISDIR(st.st_mode)) {
        *format = of_directory(source);
        return OK;
    }
    if (stat(source, &st) == 0)
        return of_file(format, source, max_record_bytes, lines);
    if (strstr(source, "..}"))
        return FAIL(ERR_USAGE, "%s: a range needs two ends, as in {0000..0009}", source);
    if (strchr(source, '{') && strstr(source, ".."))
        *format = DATASET_TAR;
    else
        *format = matches("", source, true) ? DATASET_TAR : DATASET_FILES;
    return OK;
}
