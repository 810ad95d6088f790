/* One PNG of all pictures with what the model said about them.
 *
 *   paligrid run --json ... | contact_sheet OUT.png [COLUMNS]
 *
 * Reads the JSON lines that `paligrid run --json` prints and uses "image", "prompt", "text",
 * "boxes" (label, xyxy in pixels of the original), "width", "height"; a row with "error" shows
 * that. Lines of one image share a tile: the picture, padded to a square so that the program's
 * own resize keeps its proportions, its boxes in colour, and below it prompts and answers.
 * Pictures are decoded in this process: they are the user's own, as at any other viewer. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contact_sheet_font.h"
#include "image.h"
#include "json.h"
#include "status.h"

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_image_write.h>

enum {
    TILE_PX = 336,
    GAP_PX = 20,
    DOT_PX = 2,                               /* a dot of a letter */
    LETTER_PX = (GLYPH_COLUMNS + 1) * DOT_PX, /* advance */
    LINE_PX = (GLYPH_ROWS + MARK_ROWS + 1) * DOT_PX,
    LABEL_PX = LINE_PX + DOT_PX,
    LINE_CHARS = TILE_PX / LETTER_PX,
    BOX_PX = 3,
    MAX_ANSWERS = 4096,
    MAX_COLUMNS = 32
};

struct colour {
    uint8_t r, g, b;
};

static const struct colour paper = {250, 250, 247}, ink = {25, 25, 25}, faint = {110, 115, 130},
                           alarm = {190, 20, 20}, white = {255, 255, 255};
/* Distinct also for most colour-blind readers (after Okabe and Ito). */
static const struct colour box_colour[] = {{213, 94, 0},    {0, 114, 178}, {0, 158, 115},
                                           {204, 121, 167}, {120, 80, 0},  {86, 60, 180}};

struct canvas {
    int width, height;
    uint8_t *rgb; /* [height, width, 3] */
};

/* ---- drawing ---- */

static void fill(const struct canvas *c, int x, int y, int w, int h, struct colour colour)
{
    for (int j = y < 0 ? 0 : y; j < y + h && j < c->height; j++) {
        for (int i = x < 0 ? 0 : x; i < x + w && i < c->width; i++)
            memcpy(c->rgb + 3 * ((size_t)j * (size_t)c->width + (size_t)i), &colour, 3);
    }
}

static void draw_rows(const struct canvas *c, const uint8_t *row, int n_rows, int x, int y,
                      struct colour colour)
{
    for (int j = 0; j < n_rows; j++) {
        for (int i = 0; i < GLYPH_COLUMNS; i++) {
            if (row[j] >> (GLYPH_COLUMNS - 1 - i) & 1)
                fill(c, x + i * DOT_PX, y + j * DOT_PX, DOT_PX, DOT_PX, colour);
        }
    }
}

/* A letter whose cell's top left corner is (x, y); the upper MARK_ROWS are for accents. */
static void draw_letter(const struct canvas *c, uint32_t code, int x, int y, struct colour colour)
{
    char letter = code >= ' ' && code <= '~' ? (char)code : '?', mark = ' ';
    int is_small, skip;

    if (code >= 0xc0 && code <= 0xff) {
        letter = latin1_letter[code - 0xc0];
        mark = latin1_mark[code - 0xc0];
    }
    is_small = letter >= 'a' && letter <= 'z';      /* its mark stands two rows lower, */
    skip = is_small && mark != ' ' ? MARK_ROWS : 0; /* where an i loses its dot */
    draw_rows(c, font_glyph[letter - ' '] + skip, GLYPH_ROWS - skip, x,
              y + (MARK_ROWS + skip) * DOT_PX, colour);
    for (size_t k = 0; k < sizeof font_mark / sizeof font_mark[0]; k++) {
        if (font_mark[k].name == mark)
            draw_rows(c, font_mark[k].row, MARK_ROWS, x, y + (is_small ? MARK_ROWS : 0) * DOT_PX,
                      colour);
    }
}

/* Next code point of valid UTF-8 (the JSON reader checks it). */
static uint32_t next_code(const char **text)
{
    const uint8_t *p = (const uint8_t *)*text;
    int n_more = *p < 0x80 ? 0 : *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : 3;
    uint32_t code = n_more == 0 ? *p : *p & (0x3f >> n_more);

    for (p++; n_more > 0; n_more--)
        code = code << 6 | (*p++ & 0x3f);
    *text = (const char *)p;
    return code;
}

static int count_letters(const char *text, const char *end)
{
    int n = 0;

    for (; text < end; n++)
        next_code(&text);
    return n;
}

static void draw_span(const struct canvas *c, const char *text, const char *end, int x, int y,
                      struct colour colour)
{
    for (; text < end; x += LETTER_PX)
        draw_letter(c, next_code(&text), x, y, colour);
}

/* End of the longest start of text that fits a line, at a space where there is one. */
static const char *line_end(const char *text)
{
    const char *p = text, *space = NULL;

    for (int n = 0; *p && n < LINE_CHARS; n++) {
        if (*p == '\n')
            return p;
        if (*p == ' ')
            space = p;
        next_code(&p);
    }
    return !*p || *p == ' ' || *p == '\n' || !space ? p : space;
}

/* Draws wrapped text unless c is NULL; returns its height. */
static int draw_text(const struct canvas *c, const char *text, int x, int y, struct colour colour)
{
    int top = y;

    while (*text) {
        const char *end = line_end(text);
        if (c)
            draw_span(c, text, end, x, y, colour);
        y += LINE_PX;
        text = *end == ' ' || *end == '\n' ? end + 1 : end;
    }
    return y - top;
}

static void draw_frame(const struct canvas *c, const int at[4], struct colour colour)
{
    int w = at[2] - at[0], h = at[3] - at[1];

    fill(c, at[0], at[1], w, BOX_PX, colour);
    fill(c, at[0], at[3] - BOX_PX, w, BOX_PX, colour);
    fill(c, at[0], at[1], BOX_PX, h, colour);
    fill(c, at[2] - BOX_PX, at[1], BOX_PX, h, colour);
}

/* ---- answers ---- */

struct answers {
    struct json_doc *doc[MAX_ANSWERS]; /* owned */
    int n;
};

static const struct json *root(const struct answers *a, int i)
{
    return json_root(a->doc[i]);
}

static const char *text_of(const struct json *object, const char *key)
{
    const struct json *v = json_get(object, key);

    return v && json_kind_of(v) == JSON_KIND_STRING ? json_text(v) : NULL;
}

/* Rows without "image" (several pictures in one prompt) have no tile. */
static int read_answers(FILE *f, struct answers *a)
{
    char *line = NULL, name[32];
    size_t room = 0;
    ssize_t n;
    int rc = OK, number = 0;

    while (rc == OK && (n = getline(&line, &room, f)) > 0) {
        struct json_doc *doc;
        snprintf(name, sizeof name, "line %d", ++number);
        if (line[strspn(line, " \t\r\n")] == '\0')
            continue;
        if (a->n == MAX_ANSWERS) {
            rc = FAIL(ERR_INPUT, "more than %d answers", MAX_ANSWERS);
            break;
        }
        rc = json_parse(&doc, line, (size_t)n, name, ERR_INPUT);
        if (rc != OK)
            break;
        if (json_kind_of(json_root(doc)) == JSON_KIND_OBJECT && text_of(json_root(doc), "image"))
            a->doc[a->n++] = doc;
        else
            json_free(doc);
    }
    free(line);
    if (rc == OK && a->n == 0)
        rc = FAIL(ERR_INPUT, "no answers about single images on standard input");
    return rc;
}

/* The text without <locNNNN> and <segNNN>, which the boxes show; owned. */
static char *readable(const char *text)
{
    char *out = malloc(strlen(text) + 1), *to = out;

    while (out && *text) {
        const char *end = text[0] == '<' ? strchr(text, '>') : NULL;
        if (end && (strncmp(text, "<loc", 4) == 0 || strncmp(text, "<seg", 4) == 0)) {
            text = end + 1;
            while (to == out && *text == ' ')
                text++;
        } else {
            *to++ = *text++;
        }
    }
    if (out)
        *to = '\0';
    return out;
}

static int draw_answer(const struct canvas *c, const struct json *answer, int x, int y)
{
    const char *prompt = text_of(answer, "prompt"), *text = text_of(answer, "text");
    const char *error = text_of(answer, "error");
    char *shown = readable(text ? text : "");
    int top = y;

    y += draw_text(c, prompt && *prompt ? prompt : "(no prompt)", x, y, faint);
    if (error)
        y += draw_text(c, error, x, y, alarm);
    else
        y += draw_text(c, shown && *shown ? shown : "(nothing)", x, y, ink);
    free(shown);
    return y - top + LINE_PX / 3;
}

/* ---- tiles ---- */

struct tile {
    int first; /* the answer that names the image; the others follow by name */
    int height;
};

static const char *image_of(const struct answers *a, int i)
{
    return text_of(root(a, i), "image");
}

static bool is_same_image(const struct answers *a, int i, int k)
{
    return strcmp(image_of(a, i), image_of(a, k)) == 0;
}

static int read_picture(const char *path, struct image *img)
{
    struct image_limits limits = image_limits_default();
    char why[IMAGE_WHY_BYTES] = "it cannot be read";
    FILE *f = fopen(path, "rb");
    uint8_t *bytes = NULL;
    long n = -1;
    int rc = ERR_INPUT;

    if (f && fseek(f, 0, SEEK_END) == 0)
        n = ftell(f);
    if (n > 0 && (size_t)n <= limits.max_file_bytes)
        bytes = malloc((size_t)n);
    if (bytes) {
        rewind(f);
        if (fread(bytes, 1, (size_t)n, f) == (size_t)n)
            rc = image_decode(bytes, (size_t)n, &limits, IMAGE_EXIF_APPLY, img, why);
    }
    free(bytes);
    if (f)
        fclose(f);
    return rc == OK ? OK : FAIL(rc, "%s: %s", path, why);
}

/* The picture in the middle of a square of its longer side, resized to the tile. */
static int square_picture(const struct image *img, uint8_t *tile)
{
    int side = img->width_px > img->height_px ? img->width_px : img->height_px;
    int left = (side - img->width_px) / 2, top = (side - img->height_px) / 2, rc;
    struct canvas square = {side, side, malloc(3 * (size_t)side * (size_t)side)};
    size_t n_row = 3 * (size_t)img->width_px;

    if (!square.rgb)
        return FAIL(ERR_NOMEM, "a picture of %d x %d pixels", side, side);
    fill(&square, 0, 0, side, side, paper);
    for (int y = 0; y < img->height_px; y++)
        memcpy(square.rgb + 3 * ((size_t)(top + y) * (size_t)side + (size_t)left),
               img->rgb + (size_t)y * n_row, n_row);
    rc = image_resize_bicubic(square.rgb, side, side, TILE_PX, IMAGE_PASSES_PILLOW13, tile);
    free(square.rgb);
    return rc == OK ? OK : FAIL(rc, "resizing a picture");
}

static void draw_label(const struct canvas *c, const char *label, int x, int y,
                       struct colour colour)
{
    const char *end = label + strlen(label);

    fill(c, x, y, count_letters(label, end) * LETTER_PX + 2 * DOT_PX, LABEL_PX, colour);
    draw_span(c, label, end, x + 2 * DOT_PX, y + DOT_PX / 2, white);
}

/* Pixels of the original to pixels of the sheet. */
struct placement {
    int x, y;
    double scale, left, top;
};

static void draw_box(const struct canvas *c, const struct json *box, struct placement p,
                     struct colour colour)
{
    const struct json *xyxy = json_get(box, "xyxy");
    const char *label = text_of(box, "label");
    int at[4];

    if (!xyxy || json_kind_of(xyxy) != JSON_KIND_ARRAY || json_len(xyxy) != 4)
        return;
    for (size_t k = 0; k < 4; k++) {
        double v = json_number(json_at(xyxy, k)) + (k % 2 ? p.top : p.left);
        double side = TILE_PX / p.scale;
        v = v > 0 ? v : 0; /* also for NaN */
        v = (v < side ? v : side) * p.scale;
        at[k] = (int)(v + 0.5) + (k % 2 ? p.y : p.x);
    }
    draw_frame(c, at, colour);
    if (label && *label)
        draw_label(c, label, at[0], at[1] - LABEL_PX >= p.y ? at[1] - LABEL_PX : at[1], colour);
}

/* Boxes of all answers of the tile; each gets its own colour. */
static void draw_boxes(const struct canvas *c, const struct answers *a, int first,
                       struct placement p)
{
    size_t n_drawn = 0;

    for (int i = first; i < a->n; i++) {
        const struct json *boxes = json_get(root(a, i), "boxes");
        if (!is_same_image(a, i, first) || !boxes || json_kind_of(boxes) != JSON_KIND_ARRAY)
            continue;
        for (size_t k = 0; k < json_len(boxes); k++, n_drawn++)
            draw_box(c, json_at(boxes, k), p,
                     box_colour[n_drawn % (sizeof box_colour / sizeof box_colour[0])]);
    }
}

static int draw_picture(const struct canvas *c, const struct answers *a, int first, int x, int y)
{
    uint8_t *tile = malloc(3 * TILE_PX * TILE_PX);
    struct image img = {0};
    int rc, side;

    if (!tile)
        return FAIL(ERR_NOMEM, "a tile");
    rc = read_picture(image_of(a, first), &img);
    if (rc != OK) { /* the answers are still worth showing */
        fill(c, x, y, TILE_PX, TILE_PX, faint);
        draw_text(c, "(the picture cannot be read)", x, y, white);
        free(tile);
        return OK;
    }
    rc = square_picture(&img, tile);
    if (rc == OK) {
        side = img.width_px > img.height_px ? img.width_px : img.height_px;
        for (int j = 0; j < TILE_PX; j++)
            memcpy(c->rgb + 3 * ((size_t)(y + j) * (size_t)c->width + (size_t)x),
                   tile + 3 * (size_t)j * TILE_PX, 3 * TILE_PX);
        draw_boxes(c, a, first,
                   (struct placement){x, y, (double)TILE_PX / side, (side - img.width_px) / 2,
                                      (side - img.height_px) / 2});
    }
    image_release(&img);
    free(tile);
    return rc;
}

/* File name and answers below the picture; c may be NULL to measure. Returns the height. */
static int draw_caption(const struct canvas *c, const struct answers *a, int first, int x, int y)
{
    const char *path = image_of(a, first), *slash = strrchr(path, '/');
    int top = y;

    y += draw_text(c, slash ? slash + 1 : path, x, y, ink) + LINE_PX / 3;
    for (int i = first; i < a->n; i++) {
        if (is_same_image(a, i, first))
            y += draw_answer(c, root(a, i), x, y);
    }
    return y - top;
}

static int list_tiles(const struct answers *a, struct tile *tile)
{
    int n = 0;

    for (int i = 0; i < a->n; i++) {
        int k = 0;
        while (k < n && !is_same_image(a, tile[k].first, i))
            k++;
        if (k == n)
            tile[n++] = (struct tile){i, TILE_PX + GAP_PX / 2 + draw_caption(NULL, a, i, 0, 0)};
    }
    return n;
}

static int row_height(const struct tile *tile, int n_tiles, int first, int columns)
{
    int height = 0;

    for (int k = first; k < n_tiles && k < first + columns; k++)
        height = tile[k].height > height ? tile[k].height : height;
    return height + GAP_PX;
}

static int draw_sheet(const struct answers *a, const struct tile *tile, int n_tiles, int columns,
                      struct canvas *c)
{
    int y = GAP_PX;

    c->width = GAP_PX + columns * (TILE_PX + GAP_PX);
    c->height = GAP_PX;
    for (int k = 0; k < n_tiles; k += columns)
        c->height += row_height(tile, n_tiles, k, columns);
    c->rgb = malloc(3 * (size_t)c->width * (size_t)c->height);
    if (!c->rgb)
        return FAIL(ERR_NOMEM, "a sheet of %d x %d pixels", c->width, c->height);
    fill(c, 0, 0, c->width, c->height, paper);
    for (int k = 0; k < n_tiles; k++) {
        int x = GAP_PX + k % columns * (TILE_PX + GAP_PX);
        TRY(draw_picture(c, a, tile[k].first, x, y));
        draw_caption(c, a, tile[k].first, x, y + TILE_PX + GAP_PX / 2);
        if (k % columns == columns - 1)
            y += row_height(tile, n_tiles, k - columns + 1, columns);
    }
    return OK;
}

static int make_sheet(const char *path, int columns, struct answers *a)
{
    struct tile *tile;
    struct canvas c = {0};
    int n_tiles, rc;

    TRY(read_answers(stdin, a));
    tile = calloc((size_t)a->n, sizeof *tile);
    if (!tile)
        return FAIL(ERR_NOMEM, "%d tiles", a->n);
    n_tiles = list_tiles(a, tile);
    columns = columns < n_tiles ? columns : n_tiles;
    rc = draw_sheet(a, tile, n_tiles, columns, &c);
    if (rc == OK && !stbi_write_png(path, c.width, c.height, 3, c.rgb, 0))
        rc = FAIL(ERR_IO, "%s: it cannot be written", path);
    free(c.rgb);
    free(tile);
    return rc;
}

int main(int argc, char **argv)
{
    struct answers *answers;
    int columns = argc > 2 ? atoi(argv[2]) : 4, rc;

    log_init(LOG_INFO);
    if (argc < 2 || argc > 3 || argv[1][0] == '-' || columns < 1 || columns > MAX_COLUMNS) {
        fprintf(stderr, "usage: paligrid run --json ... | contact_sheet OUT.png [COLUMNS]\n");
        return status_exit_code(ERR_USAGE);
    }
    answers = calloc(1, sizeof *answers);
    rc = answers ? make_sheet(argv[1], columns, answers) : FAIL(ERR_NOMEM, "answers");
    for (int i = 0; answers && i < answers->n; i++)
        json_free(answers->doc[i]);
    free(answers);
    return status_exit_code(rc);
}
