/* Pairs of feature maps go in; their logits come out. No table of cosines is written: both maxima are taken in registers.

   S locations, C channels, P panels of LANES query locations. A step is 32 bits: a float of one channel, or the int8
   codes of four. A gallery map is S x steps, as it lies in memory; a query is packed as P x steps x LANES, its
   last panel filled up with copies of its last location, which change no maximum and have weight 0.
   Built by qaconv/matching/compiled.py with -march=native; a processor without these instructions takes torch's tiles. */
#include <float.h>
#include <immintrin.h>
#include <stdint.h>

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 12 }; /* 2 x ROWS sums, 2 panels and a broadcast fit the 32 registers */
#define MAX(a, b) _mm512_max_ps(a, b)
#elif defined(__AVX2__) && defined(__FMA__)
enum { LANES = 8, ROWS = 6 }; /* the same for 16 registers */
#define MAX(a, b) _mm256_max_ps(a, b)
#else
#error "needs AVX2 and FMA, or AVX-512"
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 12")

typedef float vec __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * LANES), may_alias));

int lanes(void) { return LANES; }
int least_locations(void) { return ROWS; }

#if defined(__AVX512VNNI__)
int multiplies_int8(void) { return 1; }
/* The instruction takes unsigned times signed: the gallery's codes are raised by 128, and `offsets` take it back. */
#define DOT4(sum, query, gallery) (ints)_mm512_dpbusd_epi32((__m512i)(sum), (__m512i)(gallery), (__m512i)(query))
#define TO_FLOAT(x) _mm512_cvtepi32_ps((__m512i)(x))
#else
int multiplies_int8(void) { return 0; }
#define DOT4(sum, query, gallery) ((void)(gallery), (sum))
#define TO_FLOAT(x) ((vec)(x))
#endif

typedef struct {
    const float *maps;    /* gallery [G][S][steps], queries [Q][P][steps][LANES] */
    const float *weights; /* [P * LANES] */
    const float *scales;  /* of int8: gallery [G][S], queries [Q][P * LANES] */
    const ints *offsets;  /* of int8, queries alone: -128 times the sum of codes [Q][P] */
} side;

/* ROWS gallery locations against one or two panels of query locations; widens both sides' maxima. */
INLINE void tile(int int8, int panels, const float *gallery, const float *gallery_scales, const vec *query,
                 const vec *query_scales, const ints *offsets, int steps, vec *of_gallery, vec *of_query) {
    vec floats[2][ROWS];
    ints integers[2][ROWS];
    UNROLLED for (int r = 0; r < ROWS; r++) {
        floats[0][r] = floats[1][r] = (vec){0};
        integers[0][r] = int8 ? offsets[0] : (ints){0};
        integers[1][r] = int8 && panels == 2 ? offsets[1] : (ints){0};
    }
    for (int step = 0; step < steps; step++) {
        vec first = query[step], second = panels == 2 ? query[steps + step] : first;
        UNROLLED for (int r = 0; r < ROWS; r++) {
            vec one = gallery[r * steps + step] - (vec){0};
            if (int8) {
                ints codes = (ints)one;
                integers[0][r] = DOT4(integers[0][r], first, codes);
                if (panels == 2) integers[1][r] = DOT4(integers[1][r], second, codes);
            } else {
                floats[0][r] += first * one;
                if (panels == 2) floats[1][r] += second * one;
            }
        }
    }
    UNROLLED for (int p = 0; p < panels; p++) {
        vec best = of_query[p];
        UNROLLED for (int r = 0; r < ROWS; r++) {
            vec for_query = floats[p][r], for_gallery = for_query;
            if (int8) { /* each side's own scale cannot change its maximum: it is left to the end */
                for_query = TO_FLOAT(integers[p][r]) * gallery_scales[r];
                for_gallery = TO_FLOAT(integers[p][r]) * query_scales[p];
            }
            best = MAX(best, for_query);
            of_gallery[r] = MAX(of_gallery[r], for_gallery);
        }
        of_query[p] = best;
    }
}

typedef void tile_function(const float *, const float *, const vec *, const vec *, const ints *, int, vec *, vec *);
#define TILE(name, int8, panels)                                                                                       \
    static __attribute__((noinline)) void name(const float *gallery, const float *gallery_scales, const vec *query,    \
                                               const vec *query_scales, const ints *offsets, int steps,                \
                                               vec *of_gallery, vec *of_query) {                                       \
        tile(int8, panels, gallery, gallery_scales, query, query_scales, offsets, steps, of_gallery, of_query);        \
    }
TILE(float_one, 0, 1)
TILE(float_two, 0, 2)
TILE(int8_one, 1, 1)
TILE(int8_two, 1, 2)
static tile_function *const TILES[2][2] = {{float_one, float_two}, {int8_one, int8_two}};

INLINE float largest(vec x) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps(x);
#else
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
#endif
}

/* The same steps for either side, so that two maps have one logit to the last bit, whichever of them asks. */
static __attribute__((noinline)) float weighted_sum(const vec *answers, const vec *weights, int panels) {
    vec total = {0};
    for (int p = 0; p < panels; p++) total += answers[p] * weights[p];
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += total[lane];
    return sum;
}

/* logits[i] of the pairs first..last; pair i is query_index[i] and gallery_index[i], or without those the table's
   entry i / galleries and i % galleries. At least ROWS locations; scratch holds S + 2 P vectors
   and, of int8, a map; aligned to a vector. */
void match(int int8, const side *gallery, const side *queries, float bias, const int64_t *query_index,
           const int64_t *gallery_index, int64_t galleries, int64_t first, int64_t last, int locations, int steps,
           void *scratch, float *logits) {
    int panels = (locations + LANES - 1) / LANES;
    vec *of_gallery = scratch, *of_query = of_gallery + locations;
    int32_t *raised = (int32_t *)(of_query + 2 * panels);
    for (int64_t pair = first; pair < last; pair++) {
        int64_t q = query_index ? query_index[pair] : pair / galleries;
        int64_t g = gallery_index ? gallery_index[pair] : pair % galleries;
        const float *map = gallery->maps + g * locations * steps;
        if (gallery_index && pair + 1 < last) { /* chosen pairs lie far apart: the next one is fetched meanwhile */
            const float *next_map = gallery->maps + gallery_index[pair + 1] * locations * steps;
            for (int i = 0; i < locations * steps; i += 16) __builtin_prefetch(next_map + i);
        }
        if (int8) { /* once a pair: in the inner loop it would take the multiplication's ports */
            const int32_t *codes = (const int32_t *)map;
            for (int i = 0; i < locations * steps; i++) raised[i] = codes[i] ^ (int32_t)0x80808080;
            map = (const float *)raised;
        }
        const vec *packed = (const vec *)queries->maps + q * panels * steps;
        const float *map_scales = int8 ? gallery->scales + g * locations : 0;
        const vec *query_scales = int8 ? (const vec *)queries->scales + q * panels : 0;
        const ints *offsets = int8 ? queries->offsets + q * panels : 0;
        for (int i = 0; i < locations + panels; i++) of_gallery[i] = -FLT_MAX - (vec){0};

        for (int p = 0; p < panels; p += 2)
            for (int next = 0; next < locations; next += ROWS) {
                int row = next + ROWS <= locations ? next : locations - ROWS; /* the last rows may come twice */
                TILES[int8][p + 1 < panels](map + row * steps, map_scales + row, packed + p * steps, query_scales + p,
                                            offsets + p, steps, of_gallery + row, of_query + p);
            }

        float *answers = (float *)(of_query + panels);
        for (int s = 0; s < panels * LANES; s++) {
            float answer = s < locations ? largest(of_gallery[s]) : 0;
            answers[s] = int8 && s < locations ? answer * map_scales[s] : answer;
        }
        if (int8)
            for (int p = 0; p < panels; p++) of_query[p] *= query_scales[p];
        logits[pair] = weighted_sum((const vec *)answers, (const vec *)gallery->weights, panels) +
                       weighted_sum(of_query, (const vec *)queries->weights, panels) + bias;
    }
}
