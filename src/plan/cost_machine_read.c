/* A machine's rates from a file: rows of bench, or key = value lines.
 *
 * From rows. One rank's rows give the rates, each from the part of the account it rules:
 *     E  norms and fixed point to f32;  R  a decode step's bytes over its time;
 *     F  operations of vision and prefill over what is left of their time after R and E.
 * Rows "comm" and "comm_tile" give latency and bandwidth for their number of ranks. What one
 * sequence cannot show, the arithmetic rate of steps of many, comes from a decode row of a larger
 * batch, or keeps its ratio to F.
 *
 * Keys: name, units, tflop_s, step_tflop_s, element_g_s, read_gb_s, link_latency_us, link_gb_s,
 * load_gb_s, and as often as needed `exchange = RANKS LATENCY_US GB_S`. */
#include "plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "status.h"
#include "weights.h"

enum { MAX_BYTES = 4 << 20, MAX_ROWS = 4096 };

struct reader {
    struct cost_machine machine;
    const char *path;
    int line;
    bool has_exchange; /* the file's own: the defaults are gone */
    /* rows of one rank, until all have been seen */
    struct model_config cfg;
    struct cost_weights weights;
    double text_tokens, new_tokens, prefill_s, row_s, apart_s, step_s;
    double batch, batch_step_s; /* of the largest batch, 0: none */
    bool has_prefill, has_step;
};

static bool put_exchange(struct cost_machine *m, struct cost_exchange e)
{
    int i = 0;

    while (i < m->n_node && m->node[i].ranks < e.ranks)
        i++;
    if (i == m->n_node || m->node[i].ranks != e.ranks) {
        if (m->n_node == COST_MAX_EXCHANGES)
            return false;
        memmove(&m->node[i + 1], &m->node[i], (size_t)(m->n_node - i) * sizeof *m->node);
        m->n_node++;
    }
    m->node[i] = e;
    return true;
}

static int add_exchange(struct reader *r, struct cost_exchange e)
{
    if (!r->has_exchange)
        r->machine.n_node = 0;
    r->has_exchange = true;
    if (e.ranks < 2 || e.ranks > 1 << 20 || !(e.latency_s >= 0) || !(e.bytes_s > 0))
        return FAIL(ERR_USAGE, "%s line %d: an exchange needs two ranks at least, and a rate",
                    r->path, r->line);
    if (!put_exchange(&r->machine, e))
        return FAIL(ERR_USAGE, "%s line %d: more than %d exchanges", r->path, r->line,
                    COST_MAX_EXCHANGES);
    return OK;
}

/* ---- key = value ---- */

struct rate_key {
    const char *key;
    size_t offset;
    double scale;
};
#define RATE(key, member, scale)                            \
    {                                                       \
        key, offsetof(struct cost_machine, member), (scale) \
    }
static const struct rate_key rate_keys[] = {
    RATE("tflop_s", flops, 1e12),         RATE("step_tflop_s", step_flops, 1e12),
    RATE("element_g_s", elements, 1e9),   RATE("read_gb_s", read, 1e9),
    RATE("link_gb_s", link_bytes_s, 1e9), RATE("link_latency_us", link_latency_s, 1e-6),
    RATE("load_gb_s", load_bytes_s, 1e9),
};
enum { N_RATE_KEYS = sizeof rate_keys / sizeof rate_keys[0] };

static int set_rate(struct reader *r, const char *key, const char *value)
{
    char *end;
    const double v = strtod(value, &end);

    if (end == value || *end || !(v > 0) || v > 1e9)
        return FAIL(ERR_USAGE, "%s line %d: %s: '%.40s' is not a number above 0", r->path, r->line,
                    key, value);
    if (strcmp(key, "units") == 0) {
        r->machine.units = v < 1 ? 1 : v > 65536 ? 65536 : (int)v;
        return OK;
    }
    for (int i = 0; i < N_RATE_KEYS; i++) {
        if (strcmp(key, rate_keys[i].key) == 0) {
            *(double *)((char *)&r->machine + rate_keys[i].offset) = v * rate_keys[i].scale;
            return OK;
        }
    }
    return FAIL(ERR_USAGE, "%s line %d: unknown key '%.40s'", r->path, r->line, key);
}

static char *trimmed(char *s)
{
    char *end = s + strlen(s);

    while (end > s && strchr(" \t\r\"", end[-1]))
        *--end = '\0';
    return s + strspn(s, " \t\"");
}

static int read_pair(struct reader *r, char *line)
{
    char *equals = strchr(line, '='), *key, *value;

    line[strcspn(line, "#")] = '\0';
    key = trimmed(line);
    if (!*key)
        return OK;
    if (!equals || !*equals)
        return FAIL(ERR_USAGE, "%s line %d: neither key = value nor a row of bench", r->path,
                    r->line);
    *equals = '\0';
    key = trimmed(line);
    value = trimmed(equals + 1);
    if (strcmp(key, "name") == 0) {
        snprintf(r->machine.name, sizeof r->machine.name, "%s", value);
        return OK;
    }
    if (strcmp(key, "exchange") == 0) {
        struct cost_exchange e = {0};
        char rest;

        if (sscanf(value, "%d %lf %lf %c", &e.ranks, &e.latency_s, &e.bytes_s, &rest) != 3)
            return FAIL(ERR_USAGE, "%s line %d: exchange = RANKS LATENCY_US GB_S", r->path,
                        r->line);
        e.latency_s *= 1e-6;
        e.bytes_s *= 1e9;
        return add_exchange(r, e);
    }
    return set_rate(r, key, value);
}

/* ---- rows of bench ---- */

static double number_of(const struct json *row, const char *key)
{
    const struct json *v = json_get(row, key);

    return v ? json_number(v) : 0;
}

static int find_model(struct reader *r, const struct json *row)
{
    const struct json *model = json_get(row, "model"), *form = json_get(row, "weights");
    const char *held = form ? json_text(form) : "";
    struct weights *w;

    TRY(weights_open(&w, &r->cfg, model ? json_text(model) : ""));
    r->weights.vision_bytes = (double)dtype_bytes(weights_dtype(w));
    weights_close(w);
    r->weights.text_bytes = strcmp(held, "int8") == 0   ? 1
                            : strcmp(held, "int4") == 0 ? 0.625
                            : strcmp(held, "f32") == 0  ? 4
                                                        : 2;
    return OK;
}

static void take_account(struct reader *r, const struct json *account)
{
    struct json_iter it = {0};
    const struct json *ms;
    const char *key;

    r->row_s = r->apart_s = 0;
    while (json_each(account, &it, &key, &ms)) {
        const char *family = strchr(key, '.') ? strchr(key, '.') + 1 : key;

        if (strcmp(family, "norm") == 0 || strcmp(family, "fixed_finish") == 0)
            r->row_s += json_number(ms) / 1e3;
        if (strcmp(family, "logits") == 0 || strcmp(family, "exchange") == 0)
            r->apart_s += json_number(ms) / 1e3;
        if (strcmp(family, "wall") == 0)
            r->prefill_s = json_number(ms) / 1e3;
    }
    r->has_prefill = r->row_s > 0 && r->prefill_s > r->row_s + r->apart_s;
}

/* The small and the large all-reduce of one rank count come one after the other. */
static int take_comm(struct reader *r, const struct json *row, const char *phase)
{
    const int ranks = (int)number_of(row, "ranks");
    const double seconds = number_of(row, "ms") / 1e3, bytes = number_of(row, "bytes");
    struct cost_exchange *e = NULL;

    if (ranks < 2 || !(seconds > 0) || !(bytes > 0))
        return OK;
    if (strcmp(phase, "comm") == 0)
        return add_exchange(r, (struct cost_exchange){ranks, seconds, 1e12});
    for (int i = 0; i < r->machine.n_node; i++) {
        if (r->machine.node[i].ranks == ranks)
            e = &r->machine.node[i];
    }
    if (e && r->has_exchange && seconds > e->latency_s)
        e->bytes_s = bytes / (seconds - e->latency_s);
    return OK;
}

static int read_row(struct reader *r, const struct json *row)
{
    const struct json *phase_of = json_get(row, "phase"), *account = json_get(row, "account_ms"),
                      *cpu = json_get(row, "cpu");
    const struct json *greedy = json_get(row, "greedy");
    const char *phase = phase_of ? json_text(phase_of) : "";

    if (greedy && strcmp(json_text(greedy), "full") != 0)
        return OK; /* what is read there is not what a step is taken to read */
    if (strncmp(phase, "comm", 4) == 0)
        return take_comm(r, row, phase);
    if (strcmp(phase, "load") == 0 && number_of(row, "median") > 0)
        r->machine.load_bytes_s = number_of(row, "median") * 1e9;
    if (number_of(row, "ranks") > 1)
        return OK;
    if (strcmp(phase, "decode") == 0 && number_of(row, "batch") > 1) {
        if (number_of(row, "batch") > r->batch) {
            r->batch = number_of(row, "batch");
            r->batch_step_s = r->batch * number_of(row, "ms") / 1e3; /* ms are a token's */
        }
        return OK;
    }
    if (number_of(row, "batch") > 1)
        return OK;
    if (strcmp(phase, "decode") == 0 && number_of(row, "bytes") > 0) {
        r->new_tokens = number_of(row, "new_tokens");
        r->step_s = number_of(row, "ms") / 1e3;
        r->has_step = r->step_s > 0;
    }
    if (strcmp(phase, "prefill") != 0 || !account)
        return OK;
    TRY(find_model(r, row));
    r->text_tokens = number_of(row, "text_tokens");
    r->machine.units = (int)number_of(row, "threads") > 0 ? (int)number_of(row, "threads") : 1;
    snprintf(r->machine.name, sizeof r->machine.name, "%.100s, measured",
             cpu ? json_text(cpu) : "CPU");
    take_account(r, account);
    return OK;
}

static int read_row_line(struct reader *r, const char *line)
{
    struct json_doc *doc;
    char name[512];
    int rc;

    snprintf(name, sizeof name, "%.400s line %d", r->path, r->line);
    TRY(json_parse(&doc, line, strlen(line), name, ERR_USAGE));
    rc = read_row(r, json_root(doc));
    json_free(doc);
    return rc;
}

/* A step of many sequences that takes longer than its bytes is arithmetic. */
static void fit_steps(struct reader *r, const struct tp_plan *whole, double n_tok)
{
    struct cost_machine *m = &r->machine;
    struct cost_work w;
    double left;

    if (r->batch < 2)
        return;
    w = cost_of_step(&r->cfg, whole, &r->weights, r->batch, n_tok + r->new_tokens / 2);
    left = r->batch_step_s - w.elements / m->elements;
    if (left > w.bytes / m->read)
        m->step_flops = w.step_flops / left;
}

static int fit(struct reader *r)
{
    struct cost_machine *m = &r->machine;
    const double n_tok = r->cfg.vision.n_patches + r->text_tokens,
                 step_ratio = m->step_flops / m->flops;
    struct tp_plan whole;
    struct cost_work work, step, prompt;
    double elements, left;

    if (!r->has_prefill || !r->has_step)
        return FAIL(ERR_USAGE,
                    "%s: no rates: it needs rows of one rank, phases prefill and decode, made with "
                    "`paligrid bench --account -o json`",
                    r->path);
    TRY(tp_plan_make(&whole, &r->cfg, 1, 0));
    step = cost_of_step(&r->cfg, &whole, &r->weights, 1, n_tok + r->new_tokens / 2);
    work = cost_of_image(&r->cfg, &whole, &r->weights);
    prompt = cost_of_prompt(&r->cfg, &whole, &r->weights, n_tok);
    cost_add(&work, &prompt, 1);
    elements = cost_row_elements(&r->cfg, n_tok);
    m->elements = elements / r->row_s;
    m->read = step.bytes / (r->step_s - step.elements / m->elements);
    work.bytes -=
        r->weights.text_bytes * r->cfg.text.d_model * r->cfg.text.n_vocab; /* logits are apart */
    left = r->prefill_s - r->row_s - r->apart_s - work.bytes / m->read -
           (work.elements - elements) / m->elements;
    if (!(left > 0) || !(m->read > 0))
        return FAIL(ERR_USAGE, "%s: the accounts leave no time for arithmetic; measure again",
                    r->path);
    m->flops = work.flops / left;
    m->step_flops = step_ratio * m->flops;
    fit_steps(r, &whole, n_tok);
    return OK;
}

/* ---- the file ---- */

static int read_lines(struct reader *r, char *text)
{
    bool is_rows = false;
    char *next = NULL;

    for (char *line = text; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        r->line++;
        if (r->line > MAX_ROWS)
            return FAIL(ERR_USAGE, "%s: more than %d lines", r->path, MAX_ROWS);
        if (line[strspn(line, " \t")] == '{') {
            is_rows = true;
            TRY(read_row_line(r, line));
        } else {
            TRY(read_pair(r, line));
        }
    }
    return is_rows ? fit(r) : OK;
}

int cost_machine_read(struct cost_machine *m, const char *path)
{
    struct reader r = {.machine = *m, .path = path};
    char *text = calloc(1, MAX_BYTES + 1);
    FILE *f = text ? fopen(path, "r") : NULL;
    size_t n;
    int rc;

    if (!text)
        return FAIL(ERR_NOMEM, "%s", path);
    if (!f) {
        free(text);
        return FAIL(ERR_USAGE, "%s: %s", path, strerror(errno));
    }
    n = fread(text, 1, MAX_BYTES + 1, f);
    rc = ferror(f)       ? FAIL(ERR_IO, "%s: %s", path, strerror(errno))
         : n > MAX_BYTES ? FAIL(ERR_USAGE, "%s: longer than %d bytes", path, MAX_BYTES)
                         : OK;
    fclose(f);
    text[n <= MAX_BYTES ? n : 0] = '\0';
    if (rc == OK && !r.machine.name[0])
        snprintf(r.machine.name, sizeof r.machine.name, "%.100s", path);
    if (rc == OK)
        rc = read_lines(&r, text);
    free(text);
    if (rc == OK)
        *m = r.machine;
    return rc;
}

void cost_machine_print(FILE *f, const struct cost_machine *m)
{
    fprintf(f, "name = %s\nunits = %d\n", m->name, m->units);
    for (int i = 0; i < N_RATE_KEYS; i++)
        fprintf(f, "%s = %.4g\n", rate_keys[i].key,
                *(const double *)((const char *)m + rate_keys[i].offset) / rate_keys[i].scale);
    for (int i = 0; i < m->n_node; i++)
        fprintf(f, "exchange = %d %.3g %.4g\n", m->node[i].ranks, m->node[i].latency_s * 1e6,
                m->node[i].bytes_s / 1e9);
}
