/* Resize an RGB image, to the same bytes as Pillow 13.

   Pillow's rules (libImaging/Resample.c): the filter is cubic (a = -0.5) and reaches two pixels to each side, or more in
   proportion where the image shrinks; weights are whole multiples of 2^-22; each direction is rounded to 8 bits; the width
   is resized first, unless the height shrinks by more than twice as many pixels as the width.

   Both directions use one loop over lines. For the width the image is transposed before and after, so that the bytes of
   a sum are next to each other. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { COLOURS = 3, BITS = 22, REACH = 2, BLOCK = 32, TRANSPOSED_ROWS = 16 };

/* One line of the new image is a weighted sum of `count` lines of the old one, from `first`. */
typedef struct {
    int first, count;
    int32_t *weights;
} filter;

static double cubic(double x) {
    x = x < 0 ? -x : x;
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * -0.5;
    return 0;
}

/* Set the taps of a new line; `shares` and the taps' weights have room for all old lines. */
static void set_taps(filter *taps, int lines, int line, double scale, double *shares) {
    double wider = scale > 1 ? scale : 1, narrow = 1 / wider, centre = (line + 0.5) * scale, sum = 0;
    int first = (int)(centre - REACH * wider + 0.5), last = (int)(centre + REACH * wider + 0.5);
    taps->first = first > 0 ? first : 0;
    taps->count = (last < lines ? last : lines) - taps->first;
    for (int i = 0; i < taps->count; i++) sum += shares[i] = cubic((i + taps->first - centre + 0.5) * narrow);
    for (int i = 0; i < taps->count; i++) {
        double weight = shares[i] / sum * (1 << BITS);
        taps->weights[i] = (int32_t)(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
}

/* Sum `n` bytes of a new line. With a constant n the compiler keeps the sums in registers. */
static inline __attribute__((always_inline)) void weighted_sum(const uint8_t *in, int64_t length, const filter *taps,
                                                               int n, uint8_t *out) {
    int32_t sums[BLOCK];
    for (int i = 0; i < n; i++) sums[i] = 1 << (BITS - 1);
    for (int line = 0; line < taps->count; line++)
        for (int i = 0; i < n; i++) sums[i] += in[line * length + i] * taps->weights[line];
    for (int i = 0; i < n; i++) {
        int32_t sum = sums[i] >> BITS;
        out[i] = sum < 0 ? 0 : sum > 255 ? 255 : sum;
    }
}

/* Resize `lines` of `length` bytes to `new_lines`. If the last bytes do not fill a block, a block that overlaps the one
   before is computed. */
static int resize_lines(const uint8_t *in, int lines, int64_t length, uint8_t *out, int new_lines) {
    double *shares = malloc(lines * (sizeof(double) + sizeof(int32_t)));
    if (!shares) return -1;
    filter taps = {.weights = (int32_t *)(shares + lines)};
    for (int line = 0; line < new_lines; line++, out += length) {
        set_taps(&taps, lines, line, (double)lines / new_lines, shares);
        const uint8_t *from = in + taps.first * length;
        if (length < BLOCK) weighted_sum(from, length, &taps, length, out);
        else
            for (int64_t start = 0; start < length; start += BLOCK) {
                int64_t block = start + BLOCK <= length ? start : length - BLOCK;
                weighted_sum(from + block, length, &taps, BLOCK, out + block);
            }
    }
    free(shares);
    return 0;
}

/* Transpose pixels [rows][columns] to [columns][rows], some rows at a time, so that both sides stay in the cache. */
static void transpose(const uint8_t *in, int64_t rows, int64_t columns, uint8_t *out) {
    for (int64_t from = 0; from < rows; from += TRANSPOSED_ROWS)
        for (int64_t column = 0; column < columns; column++)
            for (int64_t row = from; row < from + TRANSPOSED_ROWS && row < rows; row++)
                memcpy(out + COLOURS * (column * rows + row), in + COLOURS * (row * columns + column), COLOURS);
}

/* Resize pixels [rows][columns] to [rows][width]. */
static int resize_columns(const uint8_t *in, int rows, int columns, uint8_t *out, int width) {
    int64_t line = (int64_t)COLOURS * rows;
    uint8_t *before = malloc(line * columns), *after = malloc(line * width);
    int failed = !before || !after;
    if (!failed) {
        transpose(in, rows, columns, before);
        failed = resize_lines(before, columns, line, after, width);
        transpose(after, width, rows, out);
    }
    free(before);
    free(after);
    return failed;
}

/* Resize pixels [rows][columns] to [height][width]. Return 0, or another number if there is too little memory. */
int resize(const uint8_t *in, int rows, int columns, uint8_t *out, int height, int width) {
    int down_first = rows > height && rows - height > 2 * (columns - width);
    int64_t line = (int64_t)COLOURS * (down_first ? columns : width);
    uint8_t *between = malloc(line * (down_first ? height : rows));
    int failed = !between;
    if (!failed && down_first)
        failed = resize_lines(in, rows, line, between, height) || resize_columns(between, height, columns, out, width);
    else if (!failed)
        failed = resize_columns(in, rows, columns, between, width) || resize_lines(between, rows, line, out, height);
    free(between);
    return failed;
}
