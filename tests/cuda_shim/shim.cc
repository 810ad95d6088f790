// Threads of a block as fibers of one thread; see cuda_runtime.h.
#include <cuda_runtime.h>
#include <ptx.cuh>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "switch.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace
{

enum { LANES = 32, MAX_THREADS = 1024, SHARED_BYTES = 232448, STACK_BYTES = 64 << 10 };

enum state { RUNNING, AT_WARP, AT_BLOCK, ENDED };

struct copy {
    void *to;
    const void *from;
    int n_bytes;
};

struct thread {
    struct fiber *fiber = nullptr;
    enum state state = ENDED;
    uint64_t phase = 0; // of its warp, when it began to wait
    std::vector<struct copy> open;
    std::vector<std::vector<struct copy>> groups; // committed, oldest first
};

struct warp {
    void *mine[LANES];
    unsigned n_arrived = 0;
    uint64_t phase = 0;
};

struct machine {
    struct thread thread[MAX_THREADS];
    struct warp warp[MAX_THREADS / LANES];
    struct fiber_main main;
    unsigned current = 0, n_threads = 0;
    const std::function<void()> *body = nullptr;
    alignas(128) unsigned char shared[SHARED_BYTES];
};

struct machine *machine_of(void)
{
    static struct machine *m = new struct machine;

    return m;
}

void set_index(struct machine *m, unsigned i)
{
    m->current = i;
    threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
}

void wait_as(enum state s)
{
    struct machine *m = machine_of();
    const unsigned me = m->current;

    m->thread[me].state = s;
    m->thread[me].phase = m->warp[me / LANES].phase;
    fiber_leave(m->thread[me].fiber, &m->main);
    set_index(m, me);
}

void thread_main(void *)
{
    for (;;) { // a fiber is used again by every block
        struct machine *m = machine_of();

        (*m->body)();
        shim_copy_wait(0);
        wait_as(ENDED);
    }
}

bool can_run(const struct machine *m, unsigned i)
{
    const struct thread *t = &m->thread[i];

    return t->state == RUNNING || (t->state == AT_WARP && t->phase != m->warp[i / LANES].phase);
}

// One warp until all its lanes wait for the block or have ended.
bool run_warp(struct machine *m, unsigned w, bool falling)
{
    const unsigned first = w * LANES;
    const unsigned n = min(m->n_threads - first, (unsigned)LANES);
    bool any = false;

    for (bool moved = true; moved;) {
        moved = false;
        for (unsigned j = 0; j < n; j++) {
            const unsigned i = first + (falling ? n - 1 - j : j);

            if (!can_run(m, i))
                continue;
            m->thread[i].state = RUNNING;
            set_index(m, i);
            fiber_enter(m->thread[i].fiber, &m->main);
            any = moved = true;
        }
    }
    return any;
}

void run_block(struct machine *m, bool falling)
{
    const unsigned n_warps = (m->n_threads + LANES - 1) / LANES;

    for (unsigned i = 0; i < m->n_threads; i++)
        m->thread[i].state = RUNNING;
    for (;;) {
        unsigned n_ended = 0, n_block = 0;

        for (unsigned w = 0; w < n_warps; w++)
            run_warp(m, falling ? n_warps - 1 - w : w, falling);
        for (unsigned i = 0; i < m->n_threads; i++) {
            n_ended += m->thread[i].state == ENDED;
            n_block += m->thread[i].state == AT_BLOCK;
        }
        if (n_ended == m->n_threads)
            return;
        if (n_ended + n_block < m->n_threads)
            shim_fail("lanes of a warp wait for lanes that do not come");
        for (unsigned i = 0; i < m->n_threads; i++)
            if (m->thread[i].state == AT_BLOCK)
                m->thread[i].state = RUNNING;
    }
}

void copy_group(const std::vector<struct copy> &group)
{
    for (const struct copy &c : group) {
        std::memcpy(c.to, c.from, (size_t)c.n_bytes);
        std::memset((char *)c.to + c.n_bytes, 0, (size_t)(16 - c.n_bytes));
    }
}

void load_matrices(void *const lane[LANES], bool transposed)
{
    for (int l = 0; l < LANES; l++)
        for (int i = 0; i < 4; i++) {
            uint16_t pair[2];

            for (int e = 0; e < 2; e++) {
                const int row = transposed ? l % 4 * 2 + e : l / 4;
                const int col = transposed ? l / 4 : l % 4 * 2 + e;
                const void *p = ((const struct shim_ldmatrix *)lane[8 * i + row])->row;

                if ((uintptr_t)p % 16 != 0)
                    shim_fail("a matrix row is not aligned");
                pair[e] = ((const uint16_t *)p)[col];
            }
            ((struct shim_ldmatrix *)lane[l])->r[i] = (uint32_t)pair[1] << 16 | pair[0];
        }
}

float half_of(uint32_t word, int i)
{
    return shim_bits<float>(i ? word & 0xffff0000u : word << 16);
}

} // namespace

void shim_fail(const char *what)
{
    std::fprintf(stderr, "cuda shim: block (%u, %u, %u), thread %u: %s\n", blockIdx.x, blockIdx.y,
                 blockIdx.z, threadIdx.x, what);
    std::abort();
}

void shim_launch(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &body)
{
    struct machine *m = machine_of();
    unsigned n_blocks = 0;

    shim_finish_copies();
    m->n_threads = block.x * block.y * block.z;
    if (m->n_threads == 0 || m->n_threads > MAX_THREADS || shared_bytes > SHARED_BYTES ||
        grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535)
        shim_fail("this launch would be refused");
    m->body = &body;
    blockDim = block;
    gridDim = grid;
    for (unsigned i = 0; i < m->n_threads; i++)
        if (!m->thread[i].fiber)
            m->thread[i].fiber = fiber_create(STACK_BYTES, thread_main, nullptr);
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = {x, y, z};
                std::memset(m->shared, 0xff, shared_bytes);
                run_block(m, n_blocks++ % 2 == 1);
            }
}

unsigned char *shim_dynamic_shared(void)
{
    return machine_of()->shared;
}

void __syncthreads(void)
{
    wait_as(AT_BLOCK);
}

void shim_collect(void *mine, void (*act)(void *const lane[LANES]))
{
    struct machine *m = machine_of();
    struct warp *w = &m->warp[m->current / LANES];

    w->mine[m->current % LANES] = mine;
    if (++w->n_arrived < LANES) {
        wait_as(AT_WARP);
        return;
    }
    act(w->mine);
    w->n_arrived = 0;
    w->phase++;
}

void __syncwarp(unsigned mask)
{
    (void)mask;
    shim_collect(nullptr, [](void *const *) {});
}

namespace
{
struct exchange {
    void *value;
    size_t n_bytes;
    int distance;
};
} // namespace

void shim_exchange(void *value, size_t n_bytes, int distance)
{
    struct exchange mine = {value, n_bytes, distance};

    shim_collect(&mine, [](void *const lane[LANES]) {
        unsigned char all[LANES][16];

        for (int l = 0; l < LANES; l++) {
            const struct exchange *e = (const struct exchange *)lane[l];

            std::memcpy(all[l], e->value, e->n_bytes);
        }
        for (int l = 0; l < LANES; l++) {
            const struct exchange *e = (const struct exchange *)lane[l];

            std::memcpy(e->value, all[l ^ e->distance], e->n_bytes);
        }
    });
}

// ---- background copies ----

void shim_copy_async(void *to, const void *from, int n_bytes)
{
    struct machine *m = machine_of();

    if ((uintptr_t)to % 16 != 0 || (uintptr_t)from % 16 != 0 || n_bytes < 0 || n_bytes > 16)
        shim_fail("a background copy is not aligned");
    m->thread[m->current].open.push_back({to, from, n_bytes});
}

void shim_copy_commit(void)
{
    struct machine *m = machine_of();
    struct thread *t = &m->thread[m->current];

    t->groups.push_back(std::move(t->open));
    t->open.clear();
}

void shim_copy_wait(int n_groups)
{
    struct machine *m = machine_of();
    struct thread *t = &m->thread[m->current];

    while ((int)t->groups.size() > n_groups) {
        copy_group(t->groups.front());
        t->groups.erase(t->groups.begin());
    }
}

// ---- matrices ----

void shim_ldmatrix_x4(void *const lane[LANES])
{
    load_matrices(lane, false);
}

void shim_ldmatrix_x4_trans(void *const lane[LANES])
{
    load_matrices(lane, true);
}

void shim_mma_bf16(void *const lane[LANES])
{
    float a[16][16], b[16][8];

    for (int l = 0; l < LANES; l++) {
        const struct shim_mma *m = (const struct shim_mma *)lane[l];
        const int group = l / 4, pair = l % 4;

        for (int i = 0; i < 4; i++)
            for (int e = 0; e < 2; e++)
                a[group + i % 2 * 8][2 * pair + e + i / 2 * 8] = half_of(m->a[i], e);
        for (int i = 0; i < 2; i++)
            for (int e = 0; e < 2; e++)
                b[2 * pair + e + i * 8][group] = half_of(m->b[i], e);
    }
    for (int l = 0; l < LANES; l++) {
        const struct shim_mma *m = (const struct shim_mma *)lane[l];

        for (int i = 0; i < 4; i++) {
            const int row = l / 4 + i / 2 * 8, col = l % 4 * 2 + i % 2;
            double sum = (double)m->d[i];

            for (int k = 0; k < 16; k++)
                sum += (double)a[row][k] * (double)b[k][col];
            m->d[i] = (float)sum;
        }
    }
}

float shim_f32_from_f16(uint16_t h)
{
    const float magnitude = shim_bits<float>((uint32_t)(h & 0x7fffu) << 13) * 0x1p112f;
    const uint32_t special = (h & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;

    return shim_bits<float>(shim_bits<uint32_t>(magnitude) | special |
                            (uint32_t)(h & 0x8000u) << 16);
}

uint16_t shim_bf16_from_f32(float x)
{
    const uint32_t u = shim_bits<uint32_t>(x);

    if (x != x)
        return 0x7fff;
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}
