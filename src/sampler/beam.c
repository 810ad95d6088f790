/* Beam search bookkeeping with the rules of transformers' generate (see beam.h).
 *
 * A step ranks (sum, parent beam, token) over all live beams into `best`, walks that list once,
 * and files each entry as a result, as a live beam, or nowhere. Two sets of live sequences take
 * turns because several children may share a parent; results are one sorted array whose last
 * entry gives up its token buffer when it is pushed out. All token buffers are one block.
 *
 * Invariant: results are sorted by score, and among equals the older one stands first, so a new
 * one must be better to enter a full list. Cost: O(n_live * K * K) compares at worst for
 * K = n_candidates; the lists come sorted, so an insertion rarely moves far. */
#include "beam.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sizes.h"
#include "status.h"

struct sequence {
    int32_t *tokens; /* [max_new_tokens] */
    size_t n_tokens;
    float logprob;
    float score; /* of a result */
};

struct candidate {
    float sum;
    int parent;
    int32_t token;
};

struct beam {
    int n_beams;
    size_t max_new_tokens;
    int n_eos;
    int32_t *eos; /* [n_eos] */
    float length_penalty;

    int n_live, n_results;
    size_t n_steps;
    struct sequence *live, *next, *results; /* [n_beams] each; live and next swap */
    size_t n_candidates;
    struct candidate *best; /* [n_candidates] */
    int32_t *block;         /* every sequence's tokens */
};

size_t beam_n_candidates(int n_beams, int n_eos)
{
    const size_t per_beam = n_eos > 1 ? (size_t)n_eos + 1 : 2;

    return per_beam * (size_t)n_beams;
}

static int allocate(struct beam *b)
{
    const size_t n = (size_t)b->n_beams;
    size_t n_tokens;
    int32_t *tokens;

    TRY(size_mul(&n_tokens, 3 * n, b->max_new_tokens, "tokens of all beams"));
    b->live = calloc(n, sizeof *b->live);
    b->next = calloc(n, sizeof *b->next);
    b->results = calloc(n, sizeof *b->results);
    b->eos = calloc((size_t)b->n_eos + 1, sizeof *b->eos); /* + 1: calloc(0) may return NULL */
    b->best = calloc(b->n_candidates, sizeof *b->best);
    b->block = calloc(n_tokens, sizeof *b->block);
    if (!b->live || !b->next || !b->results || !b->eos || !b->best || !b->block)
        return FAIL(ERR_NOMEM, "beam search with %d beams of %zu tokens", b->n_beams,
                    b->max_new_tokens);
    tokens = b->block;
    for (size_t i = 0; i < n; i++) {
        b->live[i].tokens = tokens;
        b->next[i].tokens = tokens + b->max_new_tokens;
        b->results[i].tokens = tokens + 2 * b->max_new_tokens;
        tokens += 3 * b->max_new_tokens;
    }
    return OK;
}

int beam_create(struct beam **out, int n_beams, int max_new_tokens, int n_eos, const int32_t *eos,
                float length_penalty)
{
    struct beam *b;
    int rc;

    if (n_beams < 1 || max_new_tokens < 1 || n_eos < 0 || !isfinite(length_penalty))
        return FAIL(ERR_USAGE,
                    "beam search: %d beams, %d new tokens, %d EOS ids, length penalty %g", n_beams,
                    max_new_tokens, n_eos, (double)length_penalty);
    b = calloc(1, sizeof *b);
    if (!b)
        return FAIL(ERR_NOMEM, "beam search");
    b->n_beams = n_beams;
    b->max_new_tokens = (size_t)max_new_tokens;
    b->n_eos = n_eos;
    b->length_penalty = length_penalty;
    b->n_candidates = beam_n_candidates(n_beams, n_eos);
    b->n_live = 1;
    TRY_GOTO(allocate(b), destroy_b);
    if (n_eos > 0)
        memcpy(b->eos, eos, (size_t)n_eos * sizeof *eos);
    *out = b;
    return OK;
destroy_b:
    beam_destroy(b);
    return rc;
}

void beam_destroy(struct beam *b)
{
    if (!b)
        return;
    free(b->block);
    free(b->best);
    free(b->eos);
    free(b->results);
    free(b->next);
    free(b->live);
    free(b);
}

int beam_n_live(const struct beam *b)
{
    return b->n_live;
}

int beam_n_results(const struct beam *b)
{
    return b->n_results;
}

struct beam_result beam_result(const struct beam *b, int i)
{
    const struct sequence *s = &b->results[i];

    ASSERT(i >= 0 && i < b->n_results);
    return (struct beam_result){s->tokens, s->n_tokens, s->logprob, s->score};
}

static bool is_eos(const struct beam *b, int32_t token)
{
    for (int i = 0; i < b->n_eos; i++)
        if (b->eos[i] == token)
            return true;
    return false;
}

static bool ranks_before(const struct candidate *a, const struct candidate *b)
{
    if (a->sum != b->sum)
        return a->sum > b->sum;
    if (a->parent != b->parent)
        return a->parent < b->parent;
    return a->token < b->token;
}

/* Files c into the first n entries of b->best, which stay sorted; returns how many there are. */
static size_t insert_candidate(struct beam *b, size_t n, const struct candidate *c)
{
    size_t place = n;

    if (n == b->n_candidates && !ranks_before(c, &b->best[--place]))
        return n;
    for (; place > 0 && ranks_before(c, &b->best[place - 1]); place--)
        b->best[place] = b->best[place - 1];
    b->best[place] = *c;
    return n < b->n_candidates ? n + 1 : n;
}

/* The n_candidates best continuations of all live beams, best first, into b->best. */
static int rank_candidates(struct beam *b, const float *logprob, const int32_t *token,
                           size_t *n_best)
{
    const size_t n_all = (size_t)b->n_live * b->n_candidates;
    size_t n = 0;

    for (size_t i = 0; i < n_all; i++) {
        const int parent = (int)(i / b->n_candidates);
        const struct candidate c = {b->live[parent].logprob + logprob[i], parent, token[i]};

        if (isnan(c.sum))
            return FAIL(ERR_INTERNAL, "beam %d: the log-probability of token %d is not a number",
                        parent, c.token);
        if (c.sum > -INFINITY)
            n = insert_candidate(b, n, &c);
    }
    *n_best = n;
    return OK;
}

static void sequence_extend(struct sequence *child, const struct sequence *parent,
                            const struct candidate *c)
{
    memcpy(child->tokens, parent->tokens, parent->n_tokens * sizeof *child->tokens);
    child->tokens[parent->n_tokens] = c->token;
    child->n_tokens = parent->n_tokens + 1;
    child->logprob = c->sum;
}

/* The quotient is f32 by f32: transformers divides a float tensor. */
static float length_score(const struct beam *b, float sum, size_t n_tokens)
{
    return sum / (float)pow((double)n_tokens, (double)b->length_penalty);
}

static void add_result(struct beam *b, const struct candidate *c)
{
    const struct sequence *parent = &b->live[c->parent];
    const float score = length_score(b, c->sum, parent->n_tokens + 1);
    struct sequence entry;
    int place = b->n_results;

    if (place == b->n_beams) {
        if (score <= b->results[place - 1].score)
            return;
        place--;
    } else {
        b->n_results++;
    }
    entry = b->results[place];
    for (; place > 0 && score > b->results[place - 1].score; place--)
        b->results[place] = b->results[place - 1];
    sequence_extend(&entry, parent, c);
    entry.score = score;
    b->results[place] = entry;
}

static bool is_done(const struct beam *b)
{
    if (b->n_steps == b->max_new_tokens || b->n_live == 0)
        return true;
    if (b->n_results < b->n_beams)
        return false;
    return length_score(b, b->live[0].logprob, b->n_steps) <= b->results[b->n_beams - 1].score;
}

int beam_step(struct beam *b, const float *logprob, const int32_t *token, int32_t *parent,
              int32_t *next, bool *done)
{
    struct sequence *swap = b->live;
    size_t n_best = 0;
    int n_next = 0;
    bool last;

    ASSERT(b->n_steps < b->max_new_tokens && b->n_live > 0);
    TRY(rank_candidates(b, logprob, token, &n_best));
    last = ++b->n_steps == b->max_new_tokens;
    for (size_t i = 0; i < n_best; i++) {
        const struct candidate *c = &b->best[i];

        if (last || is_eos(b, c->token)) {
            if (i < (size_t)b->n_beams)
                add_result(b, c);
        } else if (n_next < b->n_beams) {
            sequence_extend(&b->next[n_next], &b->live[c->parent], c);
            parent[n_next] = c->parent;
            next[n_next] = c->token;
            n_next++;
        }
    }
    b->live = b->next;
    b->next = swap;
    b->n_live = n_next;
    *done = is_done(b);
    return OK;
}
