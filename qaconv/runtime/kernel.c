/* Match pairs of feature maps. No table of cosines is written: both maxima are taken where the products end, in registers
   or the first cache.

   S locations, C channels, P panels of LANES query locations. Products go by steps of 32 bits: a float of one channel,
   the int8 codes of four, or two bfloat16. A gallery map lies in memory as S x words of 32 bits, floats or codes; a query is
   packed as P x steps x LANES, its last panel filled up with copies of its last location, which change no maximum and
   have weight 0.

   Where the processor multiplies tiles (AMX), a float is split into two bfloat16, high + low: 16 of its 24 bits. The three products
   that matter make one sum over 3 C: a gallery location is (high of each channel, then high and low of each), a query
   location (high of each, then low and high of each). The instruction adds up even and odd places of a tile apart and then
   both: as the second part begins with a tile of its own, a pair has one cosine whichever of the two asks.
   Built by kernel.py with -march=native; a processor without these instructions takes numpy's products. */
#include <float.h>
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 12 }; /* 2 x ROWS sums, 2 panels and a broadcast fit the 32 registers */
#define MAX(a, b) _mm512_max_ps(a, b)
#elif defined(__AVX2__) && defined(__FMA__)
enum { LANES = 8, ROWS = 6 }; /* the same for 16 registers */
#define MAX(a, b) _mm256_max_ps(a, b)
#else
#error "needs AVX2 and FMA, or AVX-512"
#endif
enum { SIDE = 16, KEPT = 4 }; /* rows and steps of an AMX tile; gallery maps that a thread keeps in its cache */

#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 12")

typedef float vec __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * LANES), may_alias));

int lanes(void) { return LANES; }
int side(void) { return SIDE; }
int kept(void) { return KEPT; }
int least_locations(int amx) { return amx ? SIDE : ROWS; }

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
    const float *maps;    /* gallery [G][S][words], queries [Q][P][steps][LANES] */
    const float *weights; /* [P * LANES] */
    const float *scales;  /* of int8: gallery [G][S], queries [Q][P * LANES] */
    const ints *offsets;  /* of int8 without AMX, queries alone: -128 times the sum of codes [Q][P] */
} side_of;

typedef struct {
    side_of gallery, queries;
    int64_t query_count, gallery_count;
    int32_t int8, amx, locations, words, steps;
    float bias;
} block;

/* One product widens both sides' maxima. Each side's own scale cannot change its maximum: it is left to the end. */
INLINE void widen(int int8, vec product, float gallery_scale, vec query_scale, vec *of_gallery, vec *of_query) {
    vec for_query = product, for_gallery = product;
    if (int8) {
        for_query = TO_FLOAT((ints)product) * gallery_scale;
        for_gallery = TO_FLOAT((ints)product) * query_scale;
    }
    *of_query = MAX(*of_query, for_query);
    *of_gallery = MAX(*of_gallery, for_gallery);
}

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
        UNROLLED for (int r = 0; r < ROWS; r++)
            widen(int8, int8 ? (vec)integers[p][r] : floats[p][r], int8 ? gallery_scales[r] : 0,
                  int8 ? query_scales[p] : (vec){0}, of_gallery + r, &best);
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

#if defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__) && defined(__AVX512BF16__) &&              \
    defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel must be asked for the tiles' registers, once a process: arch_prctl's ARCH_REQ_XCOMP_PERM, XTILEDATA. */
int has_amx(void) { return !syscall(SYS_arch_prctl, 0x1023, 18); }

static void begin_amx(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    for (int i = 0; i < 8; i++) shape.row_bytes[i] = 4 * SIDE, shape.rows[i] = SIDE;
    _tile_loadconfig(&shape);
}

static void end_amx(void) { _tile_release(); }

/* `rows` times SIDE gallery locations against one or two panels; `products` is room for two columns of 2 SIDE. */
INLINE void amx_tile(int int8, int rows, int panels, const float *gallery, const float *gallery_scales,
                     const vec *query, const vec *query_scales, int steps, vec *of_gallery, vec *of_query,
                     vec *products) {
#define ADD(sum, of_gallery, of_query)                                                                                 \
    do {                                                                                                               \
        if (int8) _tile_dpbssd(sum, of_gallery, of_query);                                                             \
        else _tile_dpbf16ps(sum, of_gallery, of_query);                                                                \
    } while (0)
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int step = 0; step < steps; step += SIDE) {
        _tile_loadd(4, gallery + step, 4 * steps);
        _tile_loadd(6, query + step, 4 * LANES);
        ADD(0, 4, 6);
        if (panels == 2) {
            _tile_loadd(7, query + steps + step, 4 * LANES);
            ADD(1, 4, 7);
        }
        if (rows == 2) {
            _tile_loadd(5, gallery + SIDE * steps + step, 4 * steps);
            ADD(2, 5, 6);
            if (panels == 2) ADD(3, 5, 7);
        }
    }
    _tile_stored(0, products, 4 * LANES);
    _tile_stored(1, products + 2 * SIDE, 4 * LANES);
    _tile_stored(2, products + SIDE, 4 * LANES);
    _tile_stored(3, products + 3 * SIDE, 4 * LANES);

    vec first = of_query[0], second = panels == 2 ? of_query[1] : first;
    vec first_scales = int8 ? query_scales[0] : first, second_scales = int8 && panels == 2 ? query_scales[1] : first;
    for (int r = 0; r < rows * SIDE; r++) {
        vec best = of_gallery[r];
        float scale = int8 ? gallery_scales[r] : 0;
        widen(int8, products[r], scale, first_scales, &best, &first);
        if (panels == 2) widen(int8, products[2 * SIDE + r], scale, second_scales, &best, &second);
        of_gallery[r] = best;
    }
    of_query[0] = first;
    if (panels == 2) of_query[1] = second;
}

typedef void amx_function(const float *, const float *, const vec *, const vec *, int, vec *, vec *, vec *);
#define AMX(name, int8, rows, panels)                                                                                  \
    static __attribute__((noinline)) void name(const float *gallery, const float *gallery_scales, const vec *query,    \
                                               const vec *query_scales, int steps, vec *of_gallery, vec *of_query,     \
                                               vec *products) {                                                        \
        amx_tile(int8, rows, panels, gallery, gallery_scales, query, query_scales, steps, of_gallery, of_query,        \
                 products);                                                                                            \
    }
AMX(amx_float_11, 0, 1, 1)
AMX(amx_float_12, 0, 1, 2)
AMX(amx_float_21, 0, 2, 1)
AMX(amx_float_22, 0, 2, 2)
AMX(amx_int8_11, 1, 1, 1)
AMX(amx_int8_12, 1, 1, 2)
AMX(amx_int8_21, 1, 2, 1)
AMX(amx_int8_22, 1, 2, 2)
static amx_function *const AMX_TILES[2][2][2] = {{{amx_float_11, amx_float_12}, {amx_float_21, amx_float_22}},
                                                 {{amx_int8_11, amx_int8_12}, {amx_int8_21, amx_int8_22}}};

/* Floats [channels] to bfloat16: the high part of each, filled up to whole tiles, then both of each, likewise: low and
   high of a query's, else high and low. */
INLINE void split(const float *floats, int channels, int steps, int of_query, uint16_t *parts) {
    uint16_t *both = parts + 2 * SIDE * ((channels + 2 * SIDE - 1) / (2 * SIDE));
    memset(parts, 0, 4 * steps);
    for (int c = 0; c < channels; c += 16) {
        __mmask16 some = channels - c < 16 ? (1 << (channels - c)) - 1 : 0xffff;
        __m512 whole = _mm512_maskz_loadu_ps(some, floats + c);
        __m256i high = (__m256i)_mm512_cvtneps_pbh(whole);
        __m512i wide = _mm512_cvtepu16_epi32(high);
        __m512 rest = whole - (__m512)_mm512_slli_epi32(wide, 16);
        __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(rest));
        _mm256_mask_storeu_epi16(parts + c, some, high);
        __m512i first = of_query ? low : wide, second = of_query ? wide : low;
        _mm512_mask_storeu_epi32(both + 2 * c, some, _mm512_or_si512(first, _mm512_slli_epi32(second, 16)));
    }
}
#else
int has_amx(void) { return 0; }
static void begin_amx(void) {}
static void end_amx(void) {}
typedef void amx_function(const float *, const float *, const vec *, const vec *, int, vec *, vec *, vec *);
static amx_function *const AMX_TILES[2][2][2];
static void split(const float *floats, int channels, int steps, int of_query, uint16_t *parts) {}
#endif

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

/* A gallery map as it is multiplied, S x steps; in `room` unless it is that already. */
static const float *made_ready(const block *of, int64_t g, float *room) {
    int count = of->locations * of->words;
    const float *map = of->gallery.maps + g * count;
    if (of->amx && !of->int8) {
        for (int s = 0; s < of->locations; s++)
            split(map + s * of->words, of->words, of->steps, 0, (uint16_t *)(room + s * of->steps));
    } else if (of->amx && of->words != of->steps) {
        memset(room, 0, 4 * of->locations * of->steps);
        for (int s = 0; s < of->locations; s++) memcpy(room + s * of->steps, map + s * of->words, 4 * of->words);
    } else if (of->int8 && !of->amx) { /* once a map: in the inner loop it would take the multiplication's ports */
        for (int i = 0; i < count; i++) ((int32_t *)room)[i] = ((const int32_t *)map)[i] ^ (int32_t)0x80808080;
    } else {
        return map;
    }
    return room;
}

/* Queries first..last of [Q][S][words], packed as they are multiplied; `scratch` holds `steps` words. */
void pack(const float *maps, int64_t first, int64_t last, int locations, int words, int steps, int splits, float *packed,
          float *scratch) {
    int panels = (locations + LANES - 1) / LANES;
    memset(scratch, 0, 4 * steps);
    for (int64_t panel = first * panels; panel < last * panels; panel++)
        for (int lane = 0; lane < LANES; lane++) {
            int place = panel % panels * LANES + lane;
            int64_t s = panel / panels * locations + (place < locations ? place : locations - 1);
            if (splits) split(maps + s * words, words, steps, 1, (uint16_t *)scratch);
            else memcpy(scratch, maps + s * words, 4 * words);
            for (int step = 0; step < steps; step++) packed[(panel * steps + step) * LANES + lane] = scratch[step];
        }
}

/* Of one query and a gallery map that was made ready. */
static float logit(const block *of, int64_t q, int64_t g, const float *map, vec *scratch) {
    int locations = of->locations, steps = of->steps, panels = (locations + LANES - 1) / LANES, int8 = of->int8;
    vec *products = scratch, *of_gallery = products + 4 * SIDE, *of_query = of_gallery + locations;
    const vec *packed = (const vec *)of->queries.maps + q * panels * steps;
    const float *map_scales = int8 ? of->gallery.scales + g * locations : 0;
    const vec *query_scales = int8 ? (const vec *)of->queries.scales + q * panels : 0;
    const ints *offsets = int8 && !of->amx ? of->queries.offsets + q * panels : 0;
    for (int i = 0; i < locations + panels; i++) of_gallery[i] = -FLT_MAX - (vec){0};

    for (int next = 0, height; next < locations; next += height) {
        height = !of->amx ? ROWS : next + SIDE < locations && locations >= 2 * SIDE ? 2 * SIDE : SIDE;
        int row = next + height <= locations ? next : locations - height; /* the last rows may come twice */
        for (int p = 0; p < panels; p += 2) {
            int two = p + 1 < panels;
            if (of->amx)
                AMX_TILES[int8][height > SIDE][two](map + row * steps, map_scales + row, packed + p * steps,
                                                    query_scales + p, steps, of_gallery + row, of_query + p, products);
            else
                TILES[int8][two](map + row * steps, map_scales + row, packed + p * steps, query_scales + p,
                                 offsets + p, steps, of_gallery + row, of_query + p);
        }
    }

    float *answers = (float *)(of_query + panels);
    for (int s = 0; s < panels * LANES; s++) {
        float answer = s < locations ? largest(of_gallery[s]) : 0;
        answers[s] = int8 && s < locations ? answer * map_scales[s] : answer;
    }
    if (int8)
        for (int p = 0; p < panels; p++) of_query[p] *= query_scales[p];
    return weighted_sum((const vec *)answers, (const vec *)of->gallery.weights, panels) +
           weighted_sum(of_query, (const vec *)of->queries.weights, panels) + of->bias;
}

/* All queries against gallery maps first..last: logits [Q][G]. At least `least_locations`; `scratch`, here and below, holds
   4 SIDE + S + 2 P vectors and KEPT maps made ready, and is aligned to a vector. */
void match_table(const block *of, int64_t first, int64_t last, vec *scratch, float *logits) {
    int panels = (of->locations + LANES - 1) / LANES;
    float *room = (float *)(scratch + 4 * SIDE + of->locations + 2 * panels);
    const float *ready[KEPT];
    if (of->amx) begin_amx();
    for (int64_t start = first; start < last; start += KEPT) {
        int count = last - start < KEPT ? last - start : KEPT;
        for (int i = 0; i < count; i++) ready[i] = made_ready(of, start + i, room + i * of->locations * of->steps);
        for (int64_t q = 0; q < of->query_count; q++)
            for (int i = 0; i < count; i++)
                logits[q * of->gallery_count + start + i] = logit(of, q, start + i, ready[i], scratch);
    }
    if (of->amx) end_amx();
}

/* Of the pairs first..last: logits[i] of query_index[i] and gallery_index[i]. */
void match_pairs(const block *of, int64_t first, int64_t last, vec *scratch, float *logits, const int64_t *query_index,
                 const int64_t *gallery_index) {
    int panels = (of->locations + LANES - 1) / LANES, count = of->locations * of->words;
    float *room = (float *)(scratch + 4 * SIDE + of->locations + 2 * panels);
    if (of->amx) begin_amx();
    for (int64_t pair = first; pair < last; pair++) {
        int64_t g = gallery_index[pair];
        if (pair + 1 < last) { /* pairs lie far apart: the next one is fetched meanwhile */
            const float *next_map = of->gallery.maps + gallery_index[pair + 1] * count;
            for (int i = 0; i < count; i += 16) __builtin_prefetch(next_map + i);
        }
        logits[pair] = logit(of, query_index[pair], g, made_ready(of, g, room), scratch);
    }
    if (of->amx) end_amx();
}
