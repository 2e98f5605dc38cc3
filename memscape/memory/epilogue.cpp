// What happens to one tile of products while it is still in the cache: candidates, energy, and the proof of both.
//
// A tile holds s = x.p for centred, rounded queries x and patterns p. Their squared distance is n_x + n_p - 2 s, and the
// distance of the vectors before rounding differs from its root by at most r_x + r_p, the norms of what rounding took
// away. A pattern is a candidate while its lower bound is under the k-th smallest upper bound so far; all others enter
// the sums of the energy, twice: as computed, and at the largest they could be. Vectors are GCC and Clang extensions, so
// one source serves every processor. Built and called by epilogue.py.
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

// The running state of a block of queries: one entry a row, `capacity` a row in the arrays of candidates.
struct Rows {
    int64_t n, capacity, k, threads;
    float beta, gap, spill;          // inverse squared distance or 0; relative error of a sum, of a stored product
    float negligible;                // nats: terms so far under the largest are left out of the sums
    const float *norm, *residue;     // n_x and r_x
    const int64_t *group, *self;     // may be null
    float* reach;                    // k-th smallest upper bound of a distance; infinite at first
    float* level;                    // smallest n_p - 2 s that entered the sums; infinite at first
    double *sum, *ceiling;           // of t = exp(-beta (near - level)), of the largest t could be
    int32_t* count;                  // candidates
    uint8_t* spilled;                // more candidates than capacity
    int64_t* place;                  // their patterns
    float *near, *error;             // their n_p - 2 s, and the bound of its error
    float *lower, *upper;            // bounds of their distance
};

// One tile of patterns against those queries.
struct Tile {
    int64_t n, origin;               // patterns in the tile, index of its first
    float longest, lost;             // largest n_p and r_p
    const void* product;             // s, row-major, n a row
    const float *norm, *residue;     // n_p and r_p
    const float* floor;              // (1 - gap) n_p - r_p^2
    const int64_t* group;            // may be null
};

namespace {

constexpr int WIDE = 16, BLOCK = 64;
typedef float Floats __attribute__((vector_size(4 * WIDE)));
typedef int32_t Ints __attribute__((vector_size(4 * WIDE)));
typedef uint16_t Halves __attribute__((vector_size(2 * WIDE)));
constexpr float INF = std::numeric_limits<float>::infinity();
constexpr float CLEAR = 80.0f;       // nats: a term that could be larger than exp(80) leaves the energy unproven
constexpr float TIE = 1e-6f;

inline void store(float* p, Floats v) { std::memcpy(p, &v, sizeof v); }
inline Floats load(const float* p) { Floats v; std::memcpy(&v, p, sizeof v); return v; }
inline Floats load(const uint16_t* p) {
    Halves h; std::memcpy(&h, p, sizeof h);
    const Ints bits = __builtin_convertvector(h, Ints) << 16;
    Floats v; std::memcpy(&v, &bits, sizeof v);
    return v;
}
inline Floats magnitude(Floats v) { return v < 0.0f ? -v : v; }
inline float total(Floats v) { float t = 0; for (int l = 0; l < WIDE; ++l) t += v[l]; return t; }
inline float least(Floats v) { float t = v[0]; for (int l = 1; l < WIDE; ++l) t = std::min(t, v[l]); return t; }
// Whether any is not above t.
inline bool any(Floats v, float t) {
#ifdef __AVX512F__
    return _mm512_cmp_ps_mask(__m512(v), _mm512_set1_ps(t), _CMP_NGT_UQ);
#else
    return !(least(v) > t);
#endif
}
inline float widened(float v) { return v; }
inline float widened(uint16_t v) { const uint32_t bits = uint32_t(v) << 16; float f; std::memcpy(&f, &bits, 4); return f; }

// exp(y) to 3e-7 relative, held between 2^-126 and 2^126.
inline Floats exponential(Floats y) {
    Floats t = y * 1.4426950408889634f;
    t = t < -126.0f ? Floats{} - 126.0f : t;
    t = t > 126.0f ? Floats{} + 126.0f : t;
    const Floats whole = (t + 12582912.0f) - 12582912.0f;  // rounds to the nearest integer
    const Floats f = t - whole;
    Floats e = Floats{} + 1.5403530e-4f;
    e = e * f + 1.3333558e-3f; e = e * f + 9.6181291e-3f; e = e * f + 5.5504109e-2f;
    e = e * f + 2.4022651e-1f; e = e * f + 6.9314718e-1f; e = e * f + 1.0f;
    Ints bits; std::memcpy(&bits, &e, sizeof bits);
    bits += __builtin_convertvector(whole, Ints) << 23;
    std::memcpy(&e, &bits, sizeof e);
    return e;
}

// Share n rows among threads: PyTorch's own, where GNU OpenMP has them. They spin for a while after each product, and
// others beside them would have half of a core each.
template <class Work> void share(int64_t n, int64_t threads, Work work) {
    using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
    static const auto parallel = reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    const int64_t step = std::max<int64_t>(1, n / (8 * threads));
    std::atomic<int64_t> next{0};
    const auto take = [&] {
        for (int64_t from; (from = next.fetch_add(step)) < n;) work(from, std::min(n, from + step));
    };
    if (parallel) return parallel([](void* t) { (*static_cast<decltype(take)*>(t))(); }, (void*)&take, threads, 0);
    std::vector<std::thread> others;
    for (int64_t t = 1; t < threads; ++t) others.emplace_back(take);
    take();
    for (auto& other : others) other.join();
}

// Lower the level of a row's sums to `low`, if it lies under it.
void sink(const Rows& rows, int64_t q, float low) {
    const float level = rows.level[q];
    if (!(low < level)) return;
    if (!std::isinf(level)) {
        const double scale = std::exp(-double(rows.beta) * (double(level) - low));
        rows.sum[q] *= scale;
        if (!std::isinf(rows.ceiling[q])) rows.ceiling[q] *= scale;
    }
    rows.level[q] = low;
}

// Drop the candidates that cannot be among the k nearest; they enter the sums instead.
void compact(const Rows& rows, int64_t q) {
    const int64_t base = q * rows.capacity, n = rows.count[q];
    if (n >= rows.k) {
        std::vector<float> upper(rows.upper + base, rows.upper + base + n);
        std::nth_element(upper.begin(), upper.begin() + rows.k - 1, upper.end());
        rows.reach[q] = std::min(rows.reach[q], upper[rows.k - 1] * (1 + TIE));
    }
    const auto leaves = [&](int64_t c) { return rows.lower[c] > rows.reach[q]; };
    if (rows.beta > 0)
        for (int64_t c = base; c < base + n; ++c)
            if (leaves(c)) sink(rows, q, rows.near[c]);
    int64_t kept = base;
    for (int64_t c = base; c < base + n; ++c) {
        if (!leaves(c)) {
            rows.place[kept] = rows.place[c]; rows.near[kept] = rows.near[c]; rows.error[kept] = rows.error[c];
            rows.lower[kept] = rows.lower[c]; rows.upper[kept] = rows.upper[c];
            ++kept;
        } else if (rows.beta > 0) {
            const double y = double(rows.beta) * (double(rows.near[c]) - rows.level[q]);
            const double most = double(rows.beta) * rows.error[c] - y;
            rows.sum[q] += std::exp(-y);
            rows.ceiling[q] += most < CLEAR ? std::exp(most) : INF;
        }
    }
    rows.count[q] = int32_t(kept - base);
}

// One row of a tile, a block of patterns at a time. A distance is above T if, with T' = T + r_x,
// n_p - 2 s - slack - r_p (r_p + 2 T') > T'^2 - n_x, where slack = gap (n_x + n_p) + spill |s|; almost every block is
// dismissed by that test for T = reach and for T = horizon, where the energy's terms become negligible.
template <class Stored> void scan_row(const Rows& rows, const Tile& tile, int64_t q) {
    const Stored* product = static_cast<const Stored*>(tile.product) + q * tile.n;
    const float n_x = rows.norm[q], r_x = rows.residue[q], beta = rows.beta, beyond = -(1 - rows.gap) * n_x;
    const int64_t own = rows.self ? rows.self[q] - tile.origin : -1;
    const auto hearing = [&] { return std::sqrt(std::max(0.0f, rows.level[q] + n_x) + rows.negligible / beta) + r_x; };
    float reach = rows.reach[q] + r_x, horizon = beta > 0 ? hearing() : 0.0f;
    Floats sums{};
    int waiting = 0;  // blocks in the sums that the row has not taken yet: to add up lanes costs as much as a block
    // A term errs by e = slack + r (r + 2 D), D^2 = d^2 + slack, r = r_x + r_p. It counts only while d^2 - e is within
    // T^2, the hearing, and then (D - r)^2 <= T^2 + 2 slack + 2 r^2: no e is larger than that of the worst pattern there.
    const auto settle = [&] {
        const double sum = waiting ? total(sums) : 0;
        sums = Floats{};
        waiting = 0;
        if (!(sum > 0)) return;  // nothing, or only what may not be met
        const double slack = (rows.gap + rows.spill / 2) * (double(n_x) + tile.longest);
        const double r = r_x + tile.lost, T = hearing();
        const double most = beta * (slack + r * (3 * r + 2 * std::sqrt(T * T + 2 * slack + 2 * r * r)));
        rows.sum[q] += sum;
        rows.ceiling[q] += most < CLEAR ? sum * std::exp(most) : INF;
    };
    for (int64_t start = 0; start < tile.n; start += BLOCK) {
        const int64_t n = std::min<int64_t>(BLOCK, tile.n - start);
        bool candidates = true, audible = beta > 0, loud[BLOCK / WIDE];
        std::fill(loud, loud + BLOCK / WIDE, audible);
        if (n == BLOCK && reach < INF && horizon < INF) {
            candidates = audible = false;
            const float in_reach = reach * reach + beyond, in_hearing = horizon * horizon + beyond;
            for (int l = 0; l < BLOCK; l += WIDE) {
                const Floats s = load(product + start + l), r = load(tile.residue + start + l);
                const Floats low = load(tile.floor + start + l) - 2.0f * s - rows.spill * magnitude(s);
                candidates |= any(low - 2 * reach * r, in_reach);
                if (beta > 0) audible |= loud[l / WIDE] = any(low - 2 * horizon * r, in_hearing);
            }
            if (!candidates && !audible) continue;
        }
        float s[BLOCK], near[BLOCK], ends[3][BLOCK];
        const float *norm = tile.norm + start, *residue = tile.residue + start, *floor = tile.floor + start;
        if (n < BLOCK) {  // the end of a tile is filled up, infinitely far
            const auto filled = [n](const float* given, float* end, float rest) {
                std::fill(std::copy(given, given + n, end), end + BLOCK, rest);
                return end;
            };
            norm = filled(norm, ends[0], INF), residue = filled(residue, ends[1], 0), floor = filled(floor, ends[2], 0);
            for (int64_t l = 0; l < BLOCK; ++l) s[l] = l < n ? widened(product[start + l]) : 0.0f;
        } else {
            for (int l = 0; l < BLOCK; l += WIDE) store(s + l, load(product + start + l));
        }
        for (int l = 0; l < BLOCK; l += WIDE) store(near + l, load(norm + l) - 2.0f * load(s + l));
        if (rows.group)
            for (int64_t l = 0; l < n; ++l) near[l] = tile.group[start + l] == rows.group[q] ? INF : near[l];
        if (own >= start && own < start + n) near[own - start] = INF;

        for (int64_t l = 0; candidates && l < n; ++l) {
            const float bound = floor[l] - 2.0f * s[l] - rows.spill * std::fabs(s[l]) - 2 * reach * residue[l];
            if (near[l] == INF || bound > reach * reach + beyond) continue;
            const double d2 = double(n_x) + near[l], r = double(r_x) + residue[l];
            const double slack = rows.gap * (double(n_x) + norm[l]) + rows.spill * std::fabs(s[l]);
            const double lower = std::sqrt(std::max(0.0, d2 - slack)) - r;
            if (lower > rows.reach[q]) continue;
            if (rows.count[q] == rows.capacity) {
                settle();
                compact(rows, q);
                if (lower > rows.reach[q]) continue;
                if (rows.count[q] == rows.capacity) { rows.spilled[q] = 1; continue; }
            }
            const double upper = std::sqrt(std::max(0.0, d2 + slack)) + r;
            const int64_t c = q * rows.capacity + rows.count[q]++;
            rows.place[c] = tile.origin + start + l;
            rows.near[c] = near[l];
            rows.error[c] = float(upper * upper - d2);
            rows.lower[c] = float(lower);
            rows.upper[c] = float(upper);
            near[l] = INF;
        }
        reach = rows.reach[q] + r_x;
        if (!audible) continue;

        Floats smallest = Floats{} + INF;
        for (int l = 0; l < BLOCK; l += WIDE) smallest = load(near + l) < smallest ? load(near + l) : smallest;
        if (any(smallest, rows.level[q])) {
            settle();
            sink(rows, q, least(smallest));
            horizon = hearing();
        }
        const float level = rows.level[q];
        for (int l = 0; l < BLOCK; l += WIDE) {
            if (!loud[l / WIDE]) continue;
            const Floats d = load(near + l);
            sums += d == INF ? Floats{} : exponential(beta * (level - d));
        }
        if (++waiting == 8) settle();
    }
    settle();
}

// Centre one row and round it to bfloat16: what is kept, its squared norm, and at most how far it moved.
template <class Stored>
void round_row(const Stored* row, const float* centre, int64_t d, uint16_t* kept, float* norm, float* residue) {
    float squares[WIDE] = {}, losses[WIDE] = {};
    const auto one = [&](int64_t i, int l) {
        const float away = widened(row[i]) - centre[i];
        uint32_t bits; std::memcpy(&bits, &away, 4);
        bits += 0x7fff + ((bits >> 16) & 1);  // to the nearest, halves to even
        kept[i] = uint16_t(bits >> 16);
        const float stays = widened(kept[i]), lost = away - stays;
        squares[l] += stays * stays;
        losses[l] += lost * lost;
    };
    int64_t i = 0;
    for (; i + WIDE <= d; i += WIDE)
        for (int l = 0; l < WIDE; ++l) one(i + l, l);
    for (; i < d; ++i) one(i, 0);
    *norm = total(load(squares));
    const float lost = std::sqrt(total(load(losses)));
    *residue = lost + 1.01f * 0x1p-24f * (std::sqrt(*norm) + lost);
}

double squared(const float* x, const float* p, int64_t d) {
    double lanes[8] = {}, t = 0;
    int64_t i = 0;
    for (; i + 8 <= d; i += 8)
        for (int l = 0; l < 8; ++l) { const double a = double(x[i + l]) - p[i + l]; lanes[l] += a * a; }
    for (; i < d; ++i) { const double a = double(x[i]) - p[i]; t += a * a; }
    for (double lane : lanes) t += lane;
    return t;
}

double squared(const float* x, const uint16_t* p, int64_t d) {
    double t = 0;
    for (int64_t i = 0; i < d; i += BLOCK) {
        float wide[BLOCK];
        const int64_t n = std::min<int64_t>(BLOCK, d - i);
        for (int64_t l = 0; l < n; ++l) wide[l] = widened(p[i + l]);
        t += squared(x + i, wide, n);
    }
    return t;
}

}  // namespace

extern "C" {

// Centre vectors and round them to bfloat16; `few` says that they are bfloat16 already.
void round_rows(const void* vectors, const float* centre, int64_t n, int64_t d, int few, int64_t threads,
                uint16_t* kept, float* norm, float* residue) {
    share(n, threads, [=](int64_t from, int64_t to) {
        for (int64_t q = from; q < to; ++q)
            few ? round_row(static_cast<const uint16_t*>(vectors) + q * d, centre, d, kept + q * d, norm + q, residue + q)
                : round_row(static_cast<const float*>(vectors) + q * d, centre, d, kept + q * d, norm + q, residue + q);
    });
}

// Take one tile into the running state of all rows; `few` says that products are stored as bfloat16.
void scan(const Rows* rows, const Tile* tile, int few) {
    share(rows->n, rows->threads, [=](int64_t from, int64_t to) {
        for (int64_t q = from; q < to; ++q)
            few ? scan_row<uint16_t>(*rows, *tile, q) : scan_row<float>(*rows, *tile, q);
    });
}

// Keep the candidates that can still be among the k nearest and write their squared distances, in float64 (unless
// `patterns` is null).
void rescore(const Rows* rows, const float* queries, const void* patterns, int64_t d, int few, double* distance) {
    share(rows->n, rows->threads, [=](int64_t from, int64_t to) {
        for (int64_t q = from; q < to; ++q) {
            compact(*rows, q);
            if (!patterns) continue;
            for (int64_t c = q * rows->capacity; c < q * rows->capacity + rows->count[q]; ++c) {
                const int64_t at = rows->place[c] * d;
                distance[c] = few ? squared(queries + q * d, static_cast<const uint16_t*>(patterns) + at, d)
                                  : squared(queries + q * d, static_cast<const float*>(patterns) + at, d);
            }
        }
    });
}

}
