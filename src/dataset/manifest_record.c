/* The native manifest: one JSON object a line, with the keys of big_vision's JSON lines.
 *
 *   {"id"?, "image" | "images": [..] | "video", "prefix"?, "suffix"?, ...}
 *
 * "prompt" and "question" are other names of "prefix". "image_id" and "question_id" are handed on to
 * the results. Every member that is text, number or truth value is a field for prompt templates. */
#include "json_record.h"

#include <string.h>

#include "status.h"

static int add_list(struct draft *d, const char *dir, const struct json *list)
{
    for (size_t i = 0; i < json_len(list); i++) {
        const struct json *v = json_at(list, i);
        if (json_kind_of(v) != JSON_KIND_STRING)
            return FAIL(ERR_INPUT, "%s: \"images\"[%zu] is not a text", d->place_text, i);
        TRY(draft_add_picture(d, dir, json_text(v)));
    }
    return json_len(list) > 0 ? OK : FAIL(ERR_INPUT, "%s: \"images\" is empty", d->place_text);
}

static int add_pictures(const struct reader_params *p, struct draft *d, const struct json *object)
{
    const struct json *images = json_get(object, "images");
    const char *image, *video;

    TRY(json_record_text(d, object, "video", &video));
    if (images && json_kind_of(images) == JSON_KIND_NULL)
        images = NULL;
    image = json_get(object, "image") && json_kind_of(json_get(object, "image")) == JSON_KIND_STRING
                ? json_text(json_get(object, "image"))
                : NULL;
    if (!image)
        TRY(json_record_text(d, object, "image", &image)); /* tells what else it is */
    if (!!images + !!image + !!video != 1)
        return FAIL(ERR_INPUT, "%s: needs one of \"image\", \"images\" and \"video\"",
                    d->place_text);
    if (video)
        return draft_add_video(d, p, video);
    if (image)
        return draft_add_picture(d, p->images_dir, image);
    if (json_kind_of(images) != JSON_KIND_ARRAY)
        return FAIL(ERR_INPUT, "%s: \"images\" is not a list", d->place_text);
    return add_list(d, p->images_dir, images);
}

int manifest_fill(const struct reader_params *p, struct draft *d, const struct json *object)
{
    TRY(json_record_id(d, object, "id", &d->id));
    TRY(json_record_usual(d, object, NULL));
    TRY(json_record_fields(d, object));
    return add_pictures(p, d, object);
}
