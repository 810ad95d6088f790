/* Files of tests, whole: reading is the program's own, without a limit. */
#include "whole_file.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "file.h"
#include "status.h"

char *whole_file_read(const char *path, size_t *n_bytes)
{
    const int fd = file_open_read(path);
    char *bytes = NULL;
    size_t n = 0;

    if (fd < 0)
        fail_msg("cannot open %s", path);
    assert_int_equal(file_read_all(fd, path, SIZE_MAX - 1, ERR_INPUT, &bytes, &n), OK);
    if (n_bytes)
        *n_bytes = n;
    return bytes;
}

void whole_file_write(const char *path, const void *bytes, size_t n_bytes)
{
    FILE *f = fopen(path, "wb");

    if (!f)
        fail_msg("cannot write %s", path);
    assert_int_equal(fwrite(bytes, 1, n_bytes, f), n_bytes);
    assert_int_equal(fclose(f), 0);
}
