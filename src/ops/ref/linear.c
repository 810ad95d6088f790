/* Column-parallel linear layers: y = act(x . W^T + bias), and Gemma's gated pair.
 *
 * Tiles of DOT_TOK tokens by DOT_ROWS weight rows, tokens outermost: the tile of x stays in cache
 * while the weights stream past once per tile. */
#include "ref_impl.h"

#include "dot.h"
#include "lanes.h"
#include "status.h"

static struct dot_x tile_of(const float *x, size_t tok, size_t n_tok, size_t n_in)
{
    const size_t left = n_tok - tok;

    return (struct dot_x){x + tok * n_in, n_in, left < DOT_TOK ? left : DOT_TOK};
}

LANES_CLONES static void add_bias_act(float dots[][DOT_ROWS], const float *bias, enum ops_act act,
                                      size_t n)
{
    for (size_t t = 0; t < n; t++)
        for (size_t r = 0; r < DOT_ROWS; r++)
            dots[t][r] += bias[r];
    if (act == OPS_ACT_GELU_TANH)
        for (size_t t = 0; t < n; t++)
            for (size_t r = 0; r < DOT_ROWS; r++)
                dots[t][r] = lane_gelu_tanh(dots[t][r]);
}

LANES_CLONES static void gate(float dots[][DOT_ROWS], float up[][DOT_ROWS], size_t n)
{
    for (size_t t = 0; t < n; t++)
        for (size_t r = 0; r < DOT_ROWS; r++)
            dots[t][r] = lane_gelu_tanh(dots[t][r]) * up[t][r];
}

static void store(float *y, size_t stride, float dots[][DOT_ROWS], size_t n_tok, size_t n_rows)
{
    for (size_t t = 0; t < n_tok; t++)
        for (size_t r = 0; r < n_rows; r++)
            y[t * stride + r] = dots[t][r];
}

int ref_linear(struct device *d, float *y, const float *x, const struct tensor *w,
               const struct tensor *bias, enum ops_act act, size_t n_tok)
{
    const size_t n_out = w->dim[0], n_in = w->dim[1];
    dot_fn *const dot = ops_inputs_are_int8(d, w) ? dot_tile_int8 : dot_tile;
    float dots[DOT_TOK][DOT_ROWS];

    for (size_t t = 0; t < n_tok; t += DOT_TOK) {
        const struct dot_x tile = tile_of(x, t, n_tok, n_in);

        for (size_t row = 0; row < n_out; row += DOT_ROWS) {
            const struct dot_w rows = dot_w_of(w, row, 0);
            float b[DOT_ROWS] = {0};

            if (bias)
                lanes_widen(b, bias->data, bias->dtype, row, rows.n);
            dot(dots, &tile, &rows, n_in);
            if (bias || act != OPS_ACT_NONE)
                add_bias_act(dots, b, act, tile.n);
            store(y + t * n_out + row, n_out, dots, tile.n, rows.n);
        }
    }
    return OK;
}

int ref_linear_geglu(struct device *d, float *y, const float *x, const struct tensor *w_gate,
                     const struct tensor *w_up, size_t n_tok)
{
    const size_t n_out = w_gate->dim[0], n_in = w_gate->dim[1];
    dot_fn *const dot = ops_inputs_are_int8(d, w_gate) ? dot_tile_int8 : dot_tile;
    float dots[DOT_TOK][DOT_ROWS], up[DOT_TOK][DOT_ROWS];

    for (size_t t = 0; t < n_tok; t += DOT_TOK) {
        const struct dot_x tile = tile_of(x, t, n_tok, n_in);

        for (size_t row = 0; row < n_out; row += DOT_ROWS) {
            const struct dot_w gate_rows = dot_w_of(w_gate, row, 0),
                               up_rows = dot_w_of(w_up, row, 0);

            dot(dots, &tile, &gate_rows, n_in);
            dot(up, &tile, &up_rows, n_in);
            gate(dots, up, tile.n);
            store(y + t * n_out + row, n_out, dots, tile.n, gate_rows.n);
        }
    }
    return OK;
}
