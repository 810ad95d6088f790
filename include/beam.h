/* Bookkeeping of one beam search: which sequences live on, which are finished, when to stop.
 *
 * The rules are those of transformers' generate(num_beams=B, early_stopping=False). Of all
 * continuations of all live beams the best max(2, 1 + n_eos) * B are looked at; one that ends
 * (an EOS id, or max_new_tokens reached) is a result only when it is among the best B of them,
 * the best B others live on. The score of a result is its sum of log-probabilities divided by
 * (its number of tokens, EOS included) ^ length_penalty. The search is over when B results exist
 * and the best live sum / length ^ length_penalty is not above the worst of them.
 *
 * Sums are f32, as there. Ties: the lower beam, then the lower token id. Pure: knows neither
 * model nor ranks, and allocates nothing after beam_create. */
#ifndef BEAM_H
#define BEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many continuations of each live beam a step is given. */
size_t beam_n_candidates(int n_beams, int n_eos);

struct beam;
/* eos is copied. ERR_USAGE for counts below 1 (n_eos: below 0) or a length_penalty that is not
 * finite; ERR_NOMEM. */
int beam_create(struct beam **out, int n_beams, int max_new_tokens, int n_eos, const int32_t *eos,
                float length_penalty);
void beam_destroy(struct beam *b); /* NULL is fine */

/* 1 before the first step, then n_beams; fewer only where fewer continuations exist. */
int beam_n_live(const struct beam *b);

/* One step. logprob, token: [n_live, n_candidates], the best continuations of each live beam, best
 * first; -inf marks one that does not exist (a vocabulary smaller than n_candidates). On success
 * parent[i], next[i] say which live beam the new live beam i continues and by which token:
 * [n_beams] places, of which beam_n_live() are written. With *done the search is over, nothing
 * needs to be computed for them, and beam_step must not be called again. NaN is ERR_INTERNAL. */
int beam_step(struct beam *b, const float *logprob, const int32_t *token, int32_t *parent,
              int32_t *next, bool *done);

/* A finished sequence; tokens is borrowed until the next step. */
struct beam_result {
    const int32_t *tokens;
    size_t n_tokens;
    float logprob; /* sum over the tokens */
    float score;
};
/* n_beams when done, unless too few continuations existed. */
int beam_n_results(const struct beam *b);
/* Best first: 0 <= i < beam_n_results. */
struct beam_result beam_result(const struct beam *b, int i);

#endif
