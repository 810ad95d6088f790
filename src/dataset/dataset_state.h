/* The open data set, between open.c, which makes it, and dataset.c, which gives out its samples. */
#ifndef DATASET_STATE_H
#define DATASET_STATE_H

#include "dataset_impl.h"
#include "ids.h"

struct dataset {
    struct reader_params params;
    enum dataset_format format;
    struct reader *reader; /* NULL: what can be read once only is opened by the first record */
    struct ids *ids;       /* NULL: not compared */
    char *source, *identity;
    char **prompt; /* [n_prompts], owned */
    size_t n_prompts;
    int64_t limit;         /* < 0: none */
    int64_t n_given;       /* records given out */
    int64_t n_read;        /* records of the input */
    struct draft draft[2]; /* the one in work, and the one read ahead */
    int current;
    bool is_ahead, at_end, may_join;
    int failed; /* what ended the input early; told once all before it is given out */
    struct sample_record *record; /* [room_records], of the sample in work */
    size_t n_records, room_records;
};

/* Opens the reader, if that has not been done. */
int dataset_open_reader(struct dataset *d);

#endif
