/* Good and evil picture files for tests; see picture_files.h. */
#include "picture_files.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A test without its files cannot go on, and no cmocka is needed to say so. */
static void need(int ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    abort();
}

char *scratch_create(void)
{
    const char *tmp = getenv("TMPDIR");
    char *path = malloc(256);

    need(path != NULL, "memory");
    snprintf(path, 256, "%s/paligrid-test-XXXXXX", tmp ? tmp : "/tmp");
    need(mkdtemp(path) != NULL, path);
    return path;
}

void scratch_remove(char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    char path[600];

    while (dir && (entry = readdir(dir)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] != '.' && unlink(path) != 0)
            rmdir(path);
    }
    if (dir)
        closedir(dir);
    rmdir(folder);
    free(folder);
}

void scratch_write(const char *folder, const char *name, const void *p, size_t n, char path[256])
{
    FILE *f;

    snprintf(path, 256, "%s/%s", folder, name);
    f = fopen(path, "wb");
    need(f != NULL, path);
    need(fwrite(p, 1, n, f) == n, path);
    need(fclose(f) == 0, path);
}

struct bytes bytes_of_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct bytes b;
    long n;

    need(f != NULL, path);
    need(fseek(f, 0, SEEK_END) == 0, path);
    n = ftell(f);
    rewind(f);
    b = (struct bytes){malloc((size_t)n), (size_t)n};
    need(b.p != NULL && fread(b.p, 1, b.n, f) == b.n, path);
    fclose(f);
    return b;
}

/* Grows by bytes and by bits, lowest bit first. */
struct bit_writer {
    struct bytes to;
    size_t room;
    uint32_t bits;
    int n_bits;
};

static void put_byte(struct bit_writer *w, int byte)
{
    if (w->to.n == w->room) {
        w->room = 2 * w->room + 1024;
        w->to.p = realloc(w->to.p, w->room);
        need(w->to.p != NULL, "memory");
    }
    w->to.p[w->to.n++] = (uint8_t)byte;
}

static void put_bytes(struct bit_writer *w, const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        put_byte(w, ((const uint8_t *)p)[i]);
}

static void put_bits(struct bit_writer *w, uint32_t value, int n)
{
    w->bits |= value << w->n_bits;
    for (w->n_bits += n; w->n_bits >= 8; w->n_bits -= 8) {
        put_byte(w, (int)(w->bits & 255));
        w->bits >>= 8;
    }
}

static void put_be32(struct bit_writer *w, uint32_t v)
{
    const uint8_t p[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

    put_bytes(w, p, 4);
}

/* The LZW codes of n zeros: each code is the next one to be defined, a string one longer. */
static struct bytes lzw_of_zeros(size_t n)
{
    enum { CLEAR = 4, END = 5, FIRST = 6 };
    struct bit_writer w = {{0}, 0, 0, 0};
    size_t done = 0;

    while (done < n) {
        int n_bits = 3;
        put_bits(&w, CLEAR, n_bits);
        put_bits(&w, 0, n_bits);
        done += 1;
        for (int code = FIRST; code < 4096 && done < n; code++) {
            put_bits(&w, (uint32_t)code, n_bits);
            done += (size_t)(code - FIRST + 2);
            if (code + 1 == 1 << n_bits && n_bits < 12)
                n_bits++;
        }
        /* The last table is full here, or the picture is. */
        if (done < n)
            continue;
        put_bits(&w, END, n_bits);
    }
    put_bits(&w, 0, 7);
    return w.to;
}

struct bytes gif_bomb(int width, int height)
{
    const uint8_t size[4] = {(uint8_t)width, (uint8_t)(width >> 8), (uint8_t)height,
                             (uint8_t)(height >> 8)};
    struct bytes codes = lzw_of_zeros((size_t)width * (size_t)height);
    struct bit_writer w = {{0}, 0, 0, 0};

    put_bytes(&w, "GIF89a", 6);
    put_bytes(&w, size, 4);
    put_bytes(&w, "\x80\0\0\x10\x20\x30\xff\xff\xff,\0\0\0\0", 14); /* two colours, a picture */
    put_bytes(&w, size, 4);
    put_bytes(&w, "\0\2", 2);
    for (size_t i = 0; i < codes.n; i += 255) {
        size_t n = codes.n - i < 255 ? codes.n - i : 255;
        put_byte(&w, (int)n);
        put_bytes(&w, codes.p + i, n);
    }
    put_bytes(&w, "\0;", 2);
    free(codes.p);
    return w.to;
}

static void put_chunk(struct bit_writer *w, const char *type, struct bytes data)
{
    uint32_t crc = 0xffffffff;
    size_t from = w->to.n + 4;

    put_be32(w, (uint32_t)data.n);
    put_bytes(w, type, 4);
    put_bytes(w, data.p, data.n);
    for (size_t i = from; i < w->to.n; i++) {
        crc ^= w->to.p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    put_be32(w, ~crc);
}

/* Fixed Huffman codes go highest bit first. */
static void put_code(struct bit_writer *w, uint32_t code, int n)
{
    while (n-- > 0)
        put_bits(w, code >> n & 1, 1);
}

struct bytes png_bomb(int side_px, size_t n_unpacked)
{
    uint8_t low = (uint8_t)side_px, high = (uint8_t)(side_px >> 8);
    uint8_t ihdr[] = {0, 0, high, low, 0, 0, high, low, 8, 0, 0, 0, 0};
    struct bit_writer z = {{0}, 0, 0, 0}, file = {{0}, 0, 0, 0};

    put_bytes(&z, "\x78\x01", 2);
    put_bits(&z, 3, 3);    /* last block, fixed codes */
    put_code(&z, 0x30, 8); /* literal 0 */
    for (size_t done = 1; done < n_unpacked; done += 258) {
        put_code(&z, 0xc5, 8); /* length 258 */
        put_code(&z, 0, 5);    /* distance 1 */
    }
    put_code(&z, 0, 7); /* end of block */
    put_bits(&z, 0, 7);
    put_be32(&z, 0); /* Adler-32, which nobody gets to */
    put_bytes(&file, "\x89PNG\r\n\x1a\n", 8);
    put_chunk(&file, "IHDR", (struct bytes){ihdr, sizeof ihdr});
    put_chunk(&file, "IDAT", z.to);
    put_chunk(&file, "IEND", (struct bytes){NULL, 0});
    free(z.to.p);
    return file.to;
}
