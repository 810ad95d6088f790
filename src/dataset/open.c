/* Opening an input: its parameters are copied, its format found out, its reader chosen. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dataset_state.h"
#include "lines.h"
#include "status.h"
#include "template.h"

enum { DEFAULT_MAX_RECORD_BYTES = 256 << 20, MAX_PROMPTS_GIVEN = 1024, MAX_FRAMES = 1024 };

static int check_params(const struct dataset_params *p)
{
    if (!p->source || p->source[0] == '\0')
        return FAIL(ERR_USAGE, "no input is given");
    if (p->n_prompts > MAX_PROMPTS_GIVEN)
        return FAIL(ERR_USAGE, "%zu prompts; at most %d", p->n_prompts, MAX_PROMPTS_GIVEN);
    if (p->n_frames < 0 || p->n_frames > MAX_FRAMES)
        return FAIL(ERR_USAGE, "%d frames of a video; at most %d", p->n_frames, MAX_FRAMES);
    if (p->n_frames > 0 && p->sampling != DATASET_UNIFORM && !(p->sampling_step > 0))
        return FAIL(ERR_USAGE, "the sampling step of videos must be above 0");
    for (size_t k = 0; k < p->n_prompts; k++)
        TRY(template_check(p->prompt[k]));
    return OK;
}

static size_t max_record_bytes(const struct dataset_params *p)
{
    return p->max_record_bytes ? p->max_record_bytes : DEFAULT_MAX_RECORD_BYTES;
}

static int copy_text(char **out, const char *text)
{
    *out = strdup(text);
    return *out ? OK : FAIL(ERR_NOMEM, "data set");
}

/* Where relative names of pictures start. */
static int set_images_dir(struct dataset *d)
{
    struct stat st;

    if (d->params.images_dir)
        return OK;
    if (stat(d->source, &st) == 0 && S_ISDIR(st.st_mode))
        return copy_text(&d->params.images_dir, d->source);
    if (d->format == DATASET_FILES || strcmp(d->source, "-") == 0)
        return copy_text(&d->params.images_dir, "");
    d->params.images_dir = path_directory(d->source);
    return d->params.images_dir ? OK : FAIL(ERR_NOMEM, "data set");
}

static int copy_params(struct dataset *d, const struct dataset_params *p)
{
    const bool is_list = p->source[0] == '@';

    TRY(copy_text(&d->source, p->source + is_list));
    d->format = is_list && p->format == DATASET_AUTO ? DATASET_LIST : p->format;
    if (p->images_dir)
        TRY(copy_text(&d->params.images_dir, p->images_dir));
    d->params.source = d->source;
    d->params.max_record_bytes = max_record_bytes(p);
    d->params.has_prompts = p->n_prompts > 0;
    d->params.clip = (struct image_clip){.n_frames = p->n_frames,
                                         .sampling = (enum image_sampling)p->sampling,
                                         .step = p->sampling_step,
                                         .shortage = (enum image_short)p->shortage};
    d->limit = p->limit;
    d->prompt = calloc(p->n_prompts + 1, sizeof *d->prompt);
    if (!d->prompt)
        return FAIL(ERR_NOMEM, "data set");
    for (size_t k = 0; k < p->n_prompts; k++, d->n_prompts++)
        TRY(copy_text(&d->prompt[k], p->prompt[k]));
    return OK;
}

static int make_identity(struct dataset *d)
{
    const char *name = dataset_format_name(d);
    char text[DATASET_PATH_BYTES + 256];
    struct stat st;

    if (stat(d->source, &st) == 0 && S_ISREG(st.st_mode))
        snprintf(text, sizeof text, "format=%s source=%s bytes=%lld modified=%lld", name, d->source,
                 (long long)st.st_size, (long long)st.st_mtime);
    else
        snprintf(text, sizeof text, "format=%s source=%s", name, d->source);
    return copy_text(&d->identity, text);
}

/* The metadata of an imagefolder, or of that file itself. */
static int open_metadata(const struct dataset *d, struct lines **out)
{
    const size_t n = strlen(d->source);
    char path[DATASET_PATH_BYTES];
    struct stat st;

    if (n > 4 && strcmp(d->source + n - 4, ".csv") == 0)
        return FAIL(ERR_UNSUPPORTED, "%s: metadata is read from metadata.jsonl only", d->source);
    if (stat(d->source, &st) != 0 || !S_ISDIR(st.st_mode))
        return lines_open(out, d->source, d->params.max_record_bytes);
    if (snprintf(path, sizeof path, "%s/metadata.csv", d->source) >= (int)sizeof path)
        return FAIL(ERR_USAGE, "%s: the path is too long", d->source);
    if (stat(path, &st) == 0)
        return FAIL(ERR_UNSUPPORTED, "%s: metadata is read from metadata.jsonl only", path);
    snprintf(path, sizeof path, "%s/metadata.jsonl", d->source);
    return lines_open(out, path, d->params.max_record_bytes);
}

/* Standard input, FIFOs and the like: whoever opens the input only to see what it is must not take
 * the first bytes from whoever reads it. */
static bool is_read_once(const char *source)
{
    struct stat st;

    if (strcmp(source, "-") == 0)
        return true;
    return stat(source, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

/* Readers of lines; `lines` is open already when the format was found out from it. */
static int open_lines(struct dataset *d, struct lines *lines)
{
    const struct reader_params *p = &d->params;

    if (!lines && d->format == DATASET_FOLDER)
        TRY(open_metadata(d, &lines));
    else if (!lines)
        TRY(lines_open(&lines, d->source, p->max_record_bytes));
    d->may_join = !is_read_once(d->source);
    switch (d->format) {
    case DATASET_LIST:
        return reader_open_list(&d->reader, p, lines);
    case DATASET_OPENAI:
        return reader_open_openai(&d->reader, p, lines);
    case DATASET_FOLDER:
        return reader_open_folder(&d->reader, p, lines);
    default:
        return reader_open_manifest(&d->reader, p, lines);
    }
}

static int open_reader(struct dataset *d, struct lines *lines)
{
    switch (d->format) {
    case DATASET_MANIFEST:
    case DATASET_OPENAI:
    case DATASET_FOLDER:
    case DATASET_LIST:
        return open_lines(d, lines);
    case DATASET_FILES:
        if (!d->params.has_prompts)
            return FAIL(ERR_USAGE, "%s: pictures alone bring no prompt; give one", d->source);
        return reader_open_files(&d->reader, &d->params);
    case DATASET_COCO:
        d->may_join = true;
        return reader_open_coco(&d->reader, &d->params);
    case DATASET_TAR:
        return reader_open_tar(&d->reader, &d->params);
    case DATASET_H5:
        return reader_open_h5(&d->reader, &d->params);
    case DATASET_AUTO:
        break; /* detect_format has said what it is */
    }
    return FAIL(ERR_INTERNAL, "%s: no format", d->source);
}

int dataset_open_reader(struct dataset *d)
{
    struct lines *lines = NULL;
    int rc;

    if (d->reader)
        return OK;
    if (d->format == DATASET_AUTO)
        TRY(detect_format(&d->format, d->source, d->params.max_record_bytes, &lines));
    rc = set_images_dir(d);
    if (rc != OK)
        lines_close(lines);
    return rc == OK ? open_reader(d, lines) : rc;
}

int dataset_open(struct dataset **out, const struct dataset_params *p)
{
    struct dataset *d;
    int rc;

    TRY(check_params(p));
    d = calloc(1, sizeof *d);
    if (!d)
        return FAIL(ERR_NOMEM, "data set");
    TRY_GOTO(copy_params(d, p), close_d);
    if (!is_read_once(d->source))
        TRY_GOTO(dataset_open_reader(d), close_d);
    TRY_GOTO(make_identity(d), close_d);
    if (p->scratch_dir)
        TRY_GOTO(ids_open(&d->ids, p->scratch_dir), close_d);
    *out = d;
    return OK;
close_d:
    dataset_close(d);
    return rc;
}

void dataset_close(struct dataset *d)
{
    if (!d)
        return;
    if (d->reader)
        d->reader->ops->close(d->reader);
    ids_close(d->ids);
    for (size_t k = 0; k < d->n_prompts; k++)
        free(d->prompt[k]);
    free(d->prompt);
    draft_release(&d->draft[0]);
    draft_release(&d->draft[1]);
    free(d->record);
    free(d->params.images_dir);
    free(d->identity);
    free(d->source);
    free(d);
}

const char *dataset_identity(const struct dataset *d)
{
    return d->identity;
}

const char *dataset_format_name(const struct dataset *d)
{
    return d->reader ? d->reader->ops->format : "once";
}
