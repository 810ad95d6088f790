/* Every input format as one stream of samples.
 *
 * A sample is what is seen together: one or several images (or the frames of a video) and the
 * prompts asked about them. Each prompt is a record, the unit of work and of result; records are
 * numbered from 0 in input order, and that number (`index`), not the id, is a record's place.
 * The order and the numbering are a pure function of the input and of the parameters.
 *
 * A record that cannot be understood is a sample, too, with rc and the reason: it costs itself
 * only. What makes the rest of the input unreadable (the file vanishes, the archive is broken) is
 * an error of dataset_next. Memory does not grow with the number of records, but for the names in
 * one directory, which are sorted, and the `images` list of a VQA file. No picture is decoded here.
 *
 * Records that follow each other and name the same picture files become one sample, so that these
 * are encoded once; not from standard input, where nobody waits for the next line. */
#ifndef DATASET_H
#define DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "digest.h"
#include "image.h"

struct dataset;

enum dataset_format {
    DATASET_AUTO,     /* by what the path is and holds; ERR_USAGE names the choices when in doubt */
    DATASET_MANIFEST, /* JSON lines: id?, image | images | video, prefix?, suffix?, other fields */
    DATASET_FILES,    /* a picture, a directory (recursive, sorted by name), or a glob */
    DATASET_LIST,     /* @FILE or - : one path a line, or path<TAB>prompt; paths below images_dir */
    DATASET_OPENAI,   /* JSON lines of the OpenAI batch API */
    DATASET_FOLDER,   /* a Hugging Face imagefolder with metadata.jsonl (or .csv: refused by name) */
    DATASET_COCO,     /* COCO captions, detection, or VQA questions; pictures in images_dir */
    DATASET_TAR,      /* WebDataset shards: tar, plain, gz or zstd; brace ranges */
    DATASET_H5,       /* HDF5: raw [N, H, W, 3] u8, or offsets and encoded bytes */
};

/* Which frames of a video: see image_clip_choose. */
enum dataset_sampling {
    DATASET_UNIFORM = IMAGE_UNIFORM,
    DATASET_STRIDE = IMAGE_STRIDE,
    DATASET_FPS = IMAGE_FPS,
};
enum dataset_short { /* a clip of too few frames */
    DATASET_SHORT_TILE = IMAGE_SHORT_TILE,
    DATASET_SHORT_REPEAT = IMAGE_SHORT_REPEAT,
};

struct dataset_params {
    const char *source; /* path, glob, @list, "-", shards-{0000..0009}.tar */
    enum dataset_format format;
    const char *images_dir; /* NULL: beside the file that names the pictures; of stdin: the cwd */
    /* Prompts for every image, or templates: {field} stands for a field of the record, {{ and }} for
     * a brace. n_prompts 0: each record brings its own (prefix, question, messages). */
    const char *const *prompt;
    size_t n_prompts;
    int n_frames; /* of a video */
    enum dataset_sampling sampling;
    double sampling_step; /* STRIDE: every so many frames; FPS: frames a second */
    enum dataset_short shortage;
    int64_t limit; /* records; < 0: all */
    size_t max_record_bytes; /* one line, one tar member; 0: 256 MiB */
    /* Directory for the file-backed table of ids seen (removed from the name space at once).
     * NULL: ids are not compared. Two records with one id are an error that names both places. */
    const char *scratch_dir;
};

enum dataset_image_kind {
    DATASET_IMAGE_FILE,  /* path */
    DATASET_IMAGE_BYTES, /* an encoded picture in memory; path is its name in messages */
    DATASET_IMAGE_RAW,   /* width_px * height_px * 3 bytes of RGB; path as above */
    DATASET_IMAGE_VIDEO, /* path of a video file; gives n_frames pictures. Alone in its sample */
};
struct dataset_image {
    enum dataset_image_kind kind;
    const char *path;
    const char *name; /* as the input writes it, for results: moving the folder does not change it */
    const uint8_t *bytes;
    size_t n_bytes;
    int width_px, height_px; /* RAW */
};

struct sample_record { /* one prompt of the sample */
    const char *id;     /* unique in the input; "ID#k" for the k-th of several prompts */
    const char *prompt; /* as the tokenizer gets it */
    const char *suffix; /* the expected answer if the input has one, else NULL */
    int64_t number;     /* COCO question_id, or -1 */
    /* Of all that reaches a result: id, prompt, suffix, number, image_id, and what names the images: the
     * path as the input writes it, or the bytes. Moving input and pictures together changes nothing. */
    struct digest digest;
};

/* One block of memory; every pointer points into it. */
struct sample {
    int64_t index;         /* of record[0]; record[k] is index + k */
    const char *place;     /* "captions.jsonl line 17", for messages */
    const char *image_id;  /* COCO image id or the like, in text; NULL: none */
    int rc;                /* OK, or ERR_INPUT: n_images is 0 and `why` says what is wrong */
    const char *why;
    size_t n_images, n_records; /* n_records >= 1 always */
    struct dataset_image *image;
    struct sample_record *record;
    int n_frames; /* of a VIDEO image, with the way to choose them */
    enum dataset_sampling sampling;
    double sampling_step;
    enum dataset_short shortage;
};

int dataset_open(struct dataset **out, const struct dataset_params *p);
void dataset_close(struct dataset *d); /* NULL is fine */
/* The next sample (owned by the caller: sample_free), or *out = NULL at the end. May wait for a
 * slow input; a FIFO or terminal given as "-" has no deadline. */
int dataset_next(struct dataset *d, struct sample **out);
void sample_free(struct sample *s);
/* What the input is, as far as it can be told without reading it all: key and text for the run's
 * configuration (format, source, size and modification time of a single file). */
const char *dataset_identity(const struct dataset *d);
/* "manifest", ...; "once" before the first sample of what can be read once only (stdin, a FIFO):
 * opening it takes nothing from it. */
const char *dataset_format_name(const struct dataset *d);
/* How a VIDEO image of this sample is to be cut, for image_load_video. */
struct image_clip sample_clip(const struct sample *s);

/* A sample as one run of bytes, for sending to another rank of the same build, and back.
 * sample_read checks every length: ERR_COMM when the bytes are no sample. */
size_t sample_wire_bytes(const struct sample *s);
void sample_write(const struct sample *s, void *wire); /* sample_wire_bytes(s) bytes */
int sample_read(struct sample **out, const void *wire, size_t n_bytes);

const char *dataset_libraries(void); /* "libarchive 3.6.2", for info */

#endif
