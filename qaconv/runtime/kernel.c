/* Match pairs of feature maps. No table of cosines is written to memory: both maxima are taken in registers or in the
   first cache.

   S locations, C channels, P panels of LANES query locations. A step of a product takes 32 bits: a float of one channel,
   the int8 codes of four, or two bfloat16. A gallery map is stored as S x words of 32 bits, floats or codes. A query is
   packed as P x steps x LANES. Its last panel is filled with copies of its last location, which change no maximum and
   have weight 0.

   With AMX, a float is split into two bfloat16, high + low: 16 of its 24 bits. Three of the four products form one sum over
   3 C: a gallery location is (high of each channel, then high and low of each), a query location (high of each, then low
   and high of each). The instruction sums even and odd places of a tile separately and then adds both. The second part
   begins with a new tile, so a pair has the same cosine when query and gallery are exchanged.
   kernel.py builds this file with -march=native. On a processor without these instructions numpy's products are used. */
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
enum { SIDE = 16, KEPT = 4 }; /* rows and steps of an AMX tile; gallery maps that a thread keeps in the cache */

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
/* The instruction multiplies unsigned by signed: 128 is added to the gallery's codes, and `offsets` subtract it again. */
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
    const float *scales;  /* int8 only: gallery [G][S], queries [Q][P * LANES] */
    const ints *offsets;  /* queries in int8 without AMX: -128 times the sum of codes [Q][P] */
} operand;

typedef struct {
    operand gallery, queries;
    int64_t query_count, gallery_count;
    int32_t int8, amx, locations, words, steps;
    float bias;
} block;

/* Update both maxima with one product. A side's own scale does not change which product is its largest, so it is applied at
   the end. */
INLINE void widen(int int8, vec product, float gallery_scale, vec query_scale, vec *of_gallery, vec *of_query) {
    vec for_query = product, for_gallery = product;
    if (int8) {
        for_query = TO_FLOAT((ints)product) * gallery_scale;
        for_gallery = TO_FLOAT((ints)product) * query_scale;
    }
    *of_query = MAX(*of_query, for_query);
    *of_gallery = MAX(*of_gallery, for_gallery);
}

/* Match ROWS gallery locations with one or two panels of query locations, and update both maxima. */
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

/* A process must ask Linux for the tile registers once: arch_prctl's ARCH_REQ_XCOMP_PERM, XTILEDATA. */
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

/* Match `rows` times SIDE gallery locations with one or two panels; `products` has room for two columns of 2 SIDE. */
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

/* Split floats [channels] into bfloat16: the high part of each, then both parts of each, low before high for a query and
   high before low for a gallery map. Either half is filled with zeros to whole tiles. */
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

/* Both sides use the same steps, so exchanging query and gallery does not change the last bit of a logit. */
static __attribute__((noinline)) float weighted_sum(const vec *answers, const vec *weights, int panels) {
    vec total = {0};
    for (int p = 0; p < panels; p++) total += answers[p] * weights[p];
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += total[lane];
    return sum;
}

/* Return a gallery map in the layout of the products, S x steps: in `room`, or the map itself if it has that layout. */
static const float *prepare_map(const block *task, int64_t g, float *room) {
    int count = task->locations * task->words;
    const float *map = task->gallery.maps + g * count;
    if (task->amx && !task->int8) {
        for (int s = 0; s < task->locations; s++)
            split(map + s * task->words, task->words, task->steps, 0, (uint16_t *)(room + s * task->steps));
    } else if (task->amx && task->words != task->steps) {
        memset(room, 0, 4 * task->locations * task->steps);
        for (int s = 0; s < task->locations; s++) memcpy(room + s * task->steps, map + s * task->words, 4 * task->words);
    } else if (task->int8 && !task->amx) { /* once a map: in the inner loop it would compete with the products */
        for (int i = 0; i < count; i++) ((int32_t *)room)[i] = ((const int32_t *)map)[i] ^ (int32_t)0x80808080;
    } else {
        return map;
    }
    return room;
}

/* Pack the queries first..last of [Q][S][words] in the layout of the products; `scratch` holds `steps` words. */
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

/* Return the logit of a query and a prepared gallery map. */
static float logit(const block *task, int64_t q, int64_t g, const float *map, vec *scratch) {
    int locations = task->locations, steps = task->steps, panels = (locations + LANES - 1) / LANES, int8 = task->int8;
    vec *products = scratch, *of_gallery = products + 4 * SIDE, *of_query = of_gallery + locations;
    const vec *packed = (const vec *)task->queries.maps + q * panels * steps;
    const float *map_scales = int8 ? task->gallery.scales + g * locations : 0;
    const vec *query_scales = int8 ? (const vec *)task->queries.scales + q * panels : 0;
    const ints *offsets = int8 && !task->amx ? task->queries.offsets + q * panels : 0;
    for (int i = 0; i < locations + panels; i++) of_gallery[i] = -FLT_MAX - (vec){0};

    for (int next = 0, height; next < locations; next += height) {
        height = !task->amx ? ROWS : next + SIDE < locations && locations >= 2 * SIDE ? 2 * SIDE : SIDE;
        int row = next + height <= locations ? next : locations - height; /* the last rows may be matched twice */
        for (int p = 0; p < panels; p += 2) {
            int two = p + 1 < panels;
            if (task->amx)
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
    return weighted_sum((const vec *)answers, (const vec *)task->gallery.weights, panels) +
           weighted_sum(of_query, (const vec *)task->queries.weights, panels) + task->bias;
}

/* Match all queries with the gallery maps first..last: logits [Q][G]. S is at least `least_locations`. `scratch`, also of
   match_pairs, holds 4 SIDE + S + 2 P vectors and KEPT prepared maps, and is aligned to a vector. */
void match_table(const block *task, int64_t first, int64_t last, vec *scratch, float *logits) {
    int panels = (task->locations + LANES - 1) / LANES;
    float *room = (float *)(scratch + 4 * SIDE + task->locations + 2 * panels);
    const float *ready[KEPT];
    if (task->amx) begin_amx();
    for (int64_t start = first; start < last; start += KEPT) {
        int count = last - start < KEPT ? last - start : KEPT;
        for (int i = 0; i < count; i++) ready[i] = prepare_map(task, start + i, room + i * task->locations * task->steps);
        for (int64_t q = 0; q < task->query_count; q++)
            for (int i = 0; i < count; i++)
                logits[q * task->gallery_count + start + i] = logit(task, q, start + i, ready[i], scratch);
    }
    if (task->amx) end_amx();
}

/* Match the pairs first..last: logits[i] is that of query_index[i] and gallery_index[i]. */
void match_pairs(const block *task, int64_t first, int64_t last, vec *scratch, float *logits, const int64_t *query_index,
                 const int64_t *gallery_index) {
    int panels = (task->locations + LANES - 1) / LANES, count = task->locations * task->words;
    float *room = (float *)(scratch + 4 * SIDE + task->locations + 2 * panels);
    if (task->amx) begin_amx();
    for (int64_t pair = first; pair < last; pair++) {
        int64_t g = gallery_index[pair];
        if (pair + 1 < last) { /* the next map is far away in memory: fetch it early */
            const float *next_map = task->gallery.maps + gallery_index[pair + 1] * count;
            for (int i = 0; i < count; i += 16) __builtin_prefetch(next_map + i);
        }
        logits[pair] = logit(task, query_index[pair], g, prepare_map(task, g, room), scratch);
    }
    if (task->amx) end_amx();
}
