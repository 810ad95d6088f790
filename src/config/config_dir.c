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

static int read_generation(struct model_config *c, const char *path)
{
    struct json_doc *doc;
    int rc = OK;

    TRY(parse_if_there(&doc, path));
    if (doc)
        rc = config_read_eos(c, json_root(doc), path);
    json_free(doc);
    return rc;
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

int config_read_dir(struct model_config *out, const char *dir)
{
    char path[MAX_PATH_BYTES];
    struct json_doc *doc;
    struct model_config c;
    int rc;

    TRY(path_join(path, dir, "config.json"));
    TRY(json_parse_file(&doc, path, MAX_FILE_BYTES, ERR_MODEL));
    rc = config_from_json(&c, doc, path);
    json_free(doc);
    TRY(rc);

    TRY(path_join(path, dir, "generation_config.json"));
    TRY(read_generation(&c, path));
    TRY(config_is_valid(&c, path));

    TRY(path_join(path, dir, "preprocessor_config.json"));
    TRY(parse_if_there(&doc, path));
    rc = doc ? check_preprocessor(&c, doc, path) : OK;
    json_free(doc);
    TRY(rc);
    *out = c;
    return OK;
}
