/* A checkpoint folder's three JSON files: config.json, and the two that may be missing.
 *
 * generation_config.json knows better when to stop. preprocessor_config.json must ask for what
 * the image room does: bicubic to image_size square, v / 255, mean and deviation 0.5; a
 * folder that wants anything else would be answered wrongly, so it is refused. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "config_impl.h"
#include "status.h"

const char *const config_file_names[CONFIG_N_FILES] = {
    "config.json", "generation_config.json", "preprocessor_config.json"};

enum { MAX_FILE_BYTES = 1 << 20, MAX_PATH_BYTES = 4096, PIL_BICUBIC = 3 };

static int path_join(char out[MAX_PATH_BYTES], const char *dir, const char *file)
{
    int n = snprintf(out, MAX_PATH_BYTES, "%s/%s", dir, file);

    if (n < 0 || n >= MAX_PATH_BYTES)
        return FAIL(ERR_MODEL, "%s: the path is too long", dir);
    return OK;
}

/* *doc is NULL when there is no such file. */
static int parse_if_there(struct json_doc **doc, const char *path)
{
    *doc = NULL;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return OK;
    TRY(json_parse_file(doc, path, MAX_FILE_BYTES, ERR_MODEL));
    if (json_kind_of(json_root(*doc)) == JSON_KIND_OBJECT)
        return OK;
    json_free(*doc);
    *doc = NULL;
    return FAIL(ERR_MODEL, "%s: not a JSON object", path);
}

/* image_mean, image_std: one number for all channels, or a list of three. */
static int check_half(const struct json *root, const char *key, const char *path)
{
    const struct json *v = json_get(root, key);
    bool is_list;

    if (!v || json_kind_of(v) == JSON_KIND_NULL)
        return OK;
    is_list = json_kind_of(v) == JSON_KIND_ARRAY;
    if (is_list && json_len(v) != 3)
        return FAIL(ERR_UNSUPPORTED, "%s: %s has %zu channels, not 3", path, key, json_len(v));
    for (size_t i = 0; i < (is_list ? 3 : 1); i++) {
        double x = json_number(is_list ? json_at(v, i) : v);

        if (x != 0.5)
            return FAIL(ERR_UNSUPPORTED, "%s: %s is %g, only 0.5 is supported", path, key, x);
    }
    return OK;
}

/* The named step must not be switched off (`expected` true) or on (false). */
static int check_switch(const struct json_doc *doc, const char *key, bool expected,
                        const char *path)
{
    bool value = expected;

    TRY(json_get_bool(doc, json_root(doc), key, &value));
    if (value != expected)
        return FAIL(ERR_UNSUPPORTED, "%s: %s is %s", path, key, value ? "true" : "false");
    return OK;
}

/* size: {"height": n, "width": n}, or in old files the number itself. */
static int check_size(const struct json_doc *doc, int image_px, const char *path)
{
    const struct json *root = json_root(doc);
    const struct json *size = json_get(root, "size");
    int height = image_px, width = image_px;

    if (size && json_kind_of(size) == JSON_KIND_INT) {
        TRY(json_get_int(doc, root, "size", 1, 1 << 20, &height));
        width = height;
    } else {
        TRY(json_get_int(doc, root, "size.height", 1, 1 << 20, &height));
        TRY(json_get_int(doc, root, "size.width", 1, 1 << 20, &width));
    }
    if (height != image_px || width != image_px)
        return FAIL(ERR_MODEL, "%s: size is %d x %d, but config.json's image_size %d", path, width,
                    height, image_px);
    return OK;
}

static int check_preprocessor(const struct model_config *c, const struct json_doc *doc,
                              const char *path)
{
    const struct json *root = json_root(doc);
    float factor = 1.0f / 255.0f;
    int resample = PIL_BICUBIC;

    TRY(check_size(doc, c->vision.image_px, path));
    TRY(check_switch(doc, "do_resize", true, path));
    TRY(check_switch(doc, "do_rescale", true, path));
    TRY(check_switch(doc, "do_normalize", true, path));
    TRY(check_switch(doc, "do_center_crop", false, path));
    TRY(check_half(root, "image_mean", path));
    TRY(check_half(root, "image_std", path));
    TRY(json_get_int(doc, root, "resample", 0, 100, &resample));
    if (resample != PIL_BICUBIC)
        return FAIL(ERR_UNSUPPORTED, "%s: resample is %d, only 3 (bicubic) is supported", path,
                    resample);
    TRY(json_get_real(doc, root, "rescale_factor", 0, 1, &factor));
    if (fabs((double)factor - 1.0 / 255.0) > 1e-8)
        return FAIL(ERR_UNSUPPORTED, "%s: rescale_factor is %g, only 1/255 is supported", path,
                    (double)factor);
    return OK;
}

/* doc[i] is NULL for a file that is not there. dir and the file's name stand in the messages. */
static int from_docs(struct model_config *out, struct json_doc *const doc[CONFIG_N_FILES],
                     const char *dir)
{
    char path[MAX_PATH_BYTES];
    struct model_config c;

    TRY(path_join(path, dir, config_file_names[CONFIG_FILE_MODEL]));
    TRY(config_from_json(&c, doc[CONFIG_FILE_MODEL], path));
    TRY(path_join(path, dir, config_file_names[CONFIG_FILE_GENERATION]));
    if (doc[CONFIG_FILE_GENERATION])
        TRY(config_read_eos(&c, json_root(doc[CONFIG_FILE_GENERATION]), path));
    TRY(config_is_valid(&c, path));
    TRY(path_join(path, dir, config_file_names[CONFIG_FILE_PREPROCESSOR]));
    if (doc[CONFIG_FILE_PREPROCESSOR])
        TRY(check_preprocessor(&c, doc[CONFIG_FILE_PREPROCESSOR], path));
    *out = c;
    return OK;
}

static void free_docs(struct json_doc *doc[CONFIG_N_FILES])
{
    for (int i = 0; i < CONFIG_N_FILES; i++)
        json_free(doc[i]);
}

int config_read_dir(struct model_config *out, const char *dir)
{
    struct json_doc *doc[CONFIG_N_FILES] = {NULL};
    char path[MAX_PATH_BYTES];
    int rc;

    TRY(path_join(path, dir, config_file_names[CONFIG_FILE_MODEL]));
    TRY(json_parse_file(&doc[CONFIG_FILE_MODEL], path, MAX_FILE_BYTES, ERR_MODEL));
    for (int i = CONFIG_FILE_MODEL + 1; i < CONFIG_N_FILES; i++) {
        TRY_GOTO(path_join(path, dir, config_file_names[i]), free_docs);
        TRY_GOTO(parse_if_there(&doc[i], path), free_docs);
    }
    rc = from_docs(out, doc, dir);
free_docs:
    free_docs(doc);
    return rc;
}

int config_read_texts(struct model_config *out, const struct config_text text[CONFIG_N_FILES],
                      const char *name)
{
    struct json_doc *doc[CONFIG_N_FILES] = {NULL};
    char path[MAX_PATH_BYTES];
    int rc;

    if (!text[CONFIG_FILE_MODEL].text)
        return FAIL(ERR_MODEL, "%s: holds no %s", name, config_file_names[CONFIG_FILE_MODEL]);
    for (int i = 0; i < CONFIG_N_FILES; i++) {
        if (!text[i].text)
            continue;
        TRY_GOTO(path_join(path, name, config_file_names[i]), free_docs);
        TRY_GOTO(json_parse(&doc[i], text[i].text, text[i].n_bytes, path, ERR_MODEL), free_docs);
        if (json_kind_of(json_root(doc[i])) != JSON_KIND_OBJECT) {
            rc = FAIL(ERR_MODEL, "%s: not a JSON object", path);
            goto free_docs;
        }
    }
    rc = from_docs(out, doc, name);
free_docs:
    free_docs(doc);
    return rc;
}
