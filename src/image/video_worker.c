/* The video worker: asks ffprobe how many frames there are, and ffmpeg for those that are wanted.
 *
 * Frames are counted by decoding them, since containers lie: what ffprobe has counted is what
 * ffmpeg's filter numbers. ffmpeg writes the chosen frames as PPM pictures, upright, each with its
 * size; they are resized here as pictures are. Only containers that hold their own data may be
 * opened (MP4, Matroska, AVI, MPEG, Ogg, GIF), and only this one file. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "helper_impl.h"
#include "status.h"
#include "video_program.h"

#define CONTAINERS "mov,matroska,avi,mpeg,mpegts,mpegvideo,ogg,gif,flv,asf,h264,hevc,ivf"

enum { PROBE_BYTES = 1024, HEADER_BYTES = 64, FILTER_BYTES = 32 * HELPER_MAX_FRAMES };

/* ---- how many frames ---- */

struct probe {
    char text[PROBE_BYTES];
    size_t n;
};

static int take_probe(void *context, const uint8_t *bytes, size_t n, char *why)
{
    struct probe *p = context;

    if (n >= sizeof p->text - p->n) {
        snprintf(why, IMAGE_WHY_BYTES, "ffprobe says too much about it");
        return ERR_INPUT;
    }
    memcpy(p->text + p->n, bytes, n);
    p->n += n;
    return OK;
}

/* The text behind "key=" at the start of a line, or NULL. */
static const char *value_of(const char *text, const char *key)
{
    const size_t n = strlen(key);

    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n) == 0 && line[n] == '=')
            return line + n + 1;
    }
    return NULL;
}

struct video {
    int64_t n_frames;
    double fps;
    char codec[8];
};

static int parse_probe(const struct probe *p, struct video *v, char *why)
{
    const char *count = value_of(p->text, "nb_read_frames"), *rate, *codec;
    double over = 0, under = 0;

    rate = value_of(p->text, "avg_frame_rate");
    codec = value_of(p->text, "codec_name");
    if (!codec) {
        snprintf(why, IMAGE_WHY_BYTES, "there is no video stream in it");
        return ERR_INPUT;
    }
    v->n_frames = count ? strtoll(count, NULL, 10) : 0;
    if (v->n_frames < 1) {
        snprintf(why, IMAGE_WHY_BYTES, "not one frame of it can be decoded");
        return ERR_INPUT;
    }
    if (rate && sscanf(rate, "%lf/%lf", &over, &under) == 2 && under > 0)
        v->fps = over / under;
    snprintf(v->codec, sizeof v->codec, "%.*s", (int)strcspn(codec, "\n"), codec);
    return OK;
}

static int count_frames(const char *url, const struct image_limits *limits, struct video *v,
                        char *why)
{
    const char *const argument[] = {"ffprobe",
                                    "-v",
                                    "error",
                                    "-protocol_whitelist",
                                    "file",
                                    "-format_whitelist",
                                    CONTAINERS,
                                    "-select_streams",
                                    "v:0",
                                    "-count_frames",
                                    "-show_entries",
                                    "stream=codec_name,avg_frame_rate,nb_read_frames",
                                    "-of",
                                    "default=noprint_wrappers=1",
                                    url,
                                    NULL};
    struct probe p = {.n = 0};
    const struct video_program program = {
        .argument = argument, .limits = limits, .take = take_probe, .context = &p};

    TRY(video_program_run(&program, why));
    return parse_probe(&p, v, why);
}

/* ---- the frames ---- */

struct frames {
    const struct helper_video_request *request;
    const struct image_limits *limits;
    int64_t *place;  /* [clip.n_frames] wanted, in the order of the result */
    int64_t *wanted; /* [n_wanted] the same, ascending, each once */
    int n_wanted, n_done;
    uint8_t *result;
    char header[HEADER_BYTES];
    size_t n_header;
    uint8_t *rgb; /* the frame in work */
    size_t n_rgb, n_frame;
    int width, height; /* of it; 0 while the header is incomplete */
    int first_width, first_height;
};

static int refuse(char *why, const char *text)
{
    snprintf(why, IMAGE_WHY_BYTES, "%s", text);
    return ERR_INPUT;
}

/* "P6 WIDTH HEIGHT 255" and one blank; true once it is complete. */
static int parse_header(struct frames *f, char *why)
{
    int blanks = 0, width, height, depth;

    for (size_t i = 0; i < f->n_header; i++)
        blanks += f->header[i] == ' ' || f->header[i] == '\n';
    if (blanks < 4)
        return f->n_header < sizeof f->header - 1 ? OK : refuse(why, "ffmpeg gave no picture");
    f->header[f->n_header] = '\0';
    if (sscanf(f->header, "P6 %d %d %d", &width, &height, &depth) != 3 || depth != 255 ||
        width < 1 || height < 1)
        return refuse(why, "ffmpeg gave no picture");
    if ((size_t)width > f->limits->max_pixels / (size_t)height)
        return refuse(why, "its frames have more pixels than the limit");
    f->n_frame = 3 * (size_t)width * (size_t)height;
    free(f->rgb);
    f->rgb = malloc(f->n_frame);
    if (!f->rgb)
        return refuse(why, "its frames need more memory than there is");
    f->width = width;
    f->height = height;
    f->n_rgb = 0;
    return OK;
}

/* Resizes the complete frame into every place that wants it. */
static int finish_frame(struct frames *f, char *why)
{
    const struct helper_video_request *q = f->request;
    const size_t n_out = 3 * (size_t)q->out_px * (size_t)q->out_px;
    const uint8_t *first = NULL;

    if (f->n_done == f->n_wanted)
        return refuse(why, "ffmpeg gave more frames than were asked for");
    for (int i = 0; i < q->clip.n_frames; i++) {
        uint8_t *to = f->result + (size_t)i * n_out;
        if (f->place[i] != f->wanted[f->n_done])
            continue;
        if (first) {
            memcpy(to, first, n_out);
            continue;
        }
        if (image_resize_bicubic(f->rgb, f->width, f->height, q->out_px,
                                 (enum image_pass_order)q->passes, to) != OK)
            return refuse(why, "resizing its frames needs more memory than there is");
        first = to;
    }
    if (f->n_done++ == 0) {
        f->first_width = f->width;
        f->first_height = f->height;
    }
    f->n_header = 0;
    f->width = f->height = 0;
    return OK;
}

static int take_frames(void *context, const uint8_t *bytes, size_t n, char *why)
{
    struct frames *f = context;

    while (n > 0) {
        size_t part;
        if (f->width == 0) {
            f->header[f->n_header++] = (char)*bytes++;
            n--;
            TRY(parse_header(f, why));
            continue;
        }
        part = n < f->n_frame - f->n_rgb ? n : f->n_frame - f->n_rgb;
        memcpy(f->rgb + f->n_rgb, bytes, part);
        f->n_rgb += part;
        bytes += part;
        n -= part;
        if (f->n_rgb == f->n_frame)
            TRY(finish_frame(f, why));
    }
    return OK;
}

static int ascending(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void sort_wanted(struct frames *f, int n)
{
    memcpy(f->wanted, f->place, (size_t)n * sizeof *f->place);
    qsort(f->wanted, (size_t)n, sizeof *f->wanted, ascending);
    f->n_wanted = 0;
    for (int i = 0; i < n; i++) {
        if (i == 0 || f->wanted[i] != f->wanted[i - 1])
            f->wanted[f->n_wanted++] = f->wanted[i];
    }
}

/* select=eq(n\,3)+eq(n\,9) */
static void write_filter(const struct frames *f, char filter[FILTER_BYTES])
{
    size_t n = (size_t)snprintf(filter, FILTER_BYTES, "select=");

    for (int i = 0; i < f->n_wanted; i++)
        n += (size_t)snprintf(filter + n, FILTER_BYTES - n, "%seq(n\\,%" PRId64 ")", i ? "+" : "",
                              f->wanted[i]);
}

/* ffmpeg 5.1 has -fps_mode for what was -vsync before and is no more after. */
static int run_ffmpeg(struct frames *f, const char *url, const char *filter, const char *sync,
                      char *why)
{
    char count[16];
    const char *const argument[] = {"ffmpeg",
                                    "-v",
                                    "error",
                                    "-nostdin",
                                    "-protocol_whitelist",
                                    "file",
                                    "-format_whitelist",
                                    CONTAINERS,
                                    "-threads",
                                    "2",
                                    "-i",
                                    url,
                                    "-map",
                                    "0:v:0",
                                    "-vf",
                                    filter,
                                    sync,
                                    "passthrough",
                                    "-frames:v",
                                    count,
                                    "-c:v",
                                    "ppm",
                                    "-f",
                                    "image2pipe",
                                    "-",
                                    NULL};
    const struct video_program program = {
        .argument = argument, .limits = f->limits, .take = take_frames, .context = f};

    snprintf(count, sizeof count, "%d", f->n_wanted);
    return video_program_run(&program, why);
}

static int read_frames(struct frames *f, const char *url, char *why)
{
    char filter[FILTER_BYTES];
    int rc;

    write_filter(f, filter);
    rc = run_ffmpeg(f, url, filter, "-fps_mode", why);
    if (rc == ERR_INPUT && strstr(why, "fps_mode"))
        rc = run_ffmpeg(f, url, filter, "-vsync", why);
    if (rc == OK && f->n_done < f->n_wanted) {
        snprintf(why, IMAGE_WHY_BYTES, "only %d of %d chosen frames could be decoded", f->n_done,
                 f->n_wanted);
        rc = ERR_INPUT;
    }
    return rc;
}

/* ---- the request ---- */

static int serve(struct frames *f, const struct helper_video_request *q, struct helper_reply *reply)
{
    struct video v = {.fps = 0};
    char url[HELPER_PATH_BYTES + 8];

    snprintf(url, sizeof url, "file:%s", q->path);
    TRY(count_frames(url, f->limits, &v, reply->why));
    if (q->clip.sampling == IMAGE_FPS && !(v.fps > 0))
        return refuse(reply->why, "it does not say how many frames a second it has");
    image_clip_choose(&q->clip, v.n_frames, v.fps, f->place);
    sort_wanted(f, q->clip.n_frames);
    TRY(read_frames(f, url, reply->why));
    reply->width_px = f->first_width;
    reply->height_px = f->first_height;
    memcpy(reply->format, v.codec, sizeof reply->format);
    return OK;
}

_Noreturn void video_worker_main(int request_fd, const struct image_limits *limits, pid_t parent)
{
    struct helper_reply reply = {.magic = HELPER_MAGIC, .filtered = 1};
    struct helper_video_request q;
    struct frames f = {.request = &q, .limits = limits};
    int memory_fd = -1;
    size_t n_frames, n_bytes;
    void *mapping;

    helper_die_with(parent);
    prctl(PR_SET_NAME, "paligrid-video");
    if (helper_receive(request_fd, &q, sizeof q, &memory_fd) != 1 || memory_fd < 0 ||
        q.magic != HELPER_MAGIC)
        _exit(0);
    n_frames = (size_t)q.clip.n_frames;
    n_bytes = 3 * (size_t)q.out_px * (size_t)q.out_px * n_frames;
    f.place = calloc(2 * n_frames, sizeof *f.place);
    mapping = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
    if (!f.place || mapping == MAP_FAILED) {
        reply.rc = ERR_NOMEM;
        snprintf(reply.why, sizeof reply.why, "its frames need more memory than there is");
    } else {
        f.wanted = f.place + n_frames;
        f.result = mapping;
        reply.rc = serve(&f, &q, &reply);
    }
    helper_send(request_fd, &reply, sizeof reply, -1);
    _exit(0);
}
