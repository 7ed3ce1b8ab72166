/* The pixels of an RGB image go in; those of the same image at another size come out, with the bytes that Pillow 13 gives.

   Its numbers (libImaging/Resample.c): a filter that reaches two pixels to each side (cubic, a = -0.5), as many times
   wider as the image shrinks; weights in whole 2^-22; each direction rounded to 8 bits; across first, unless the height
   shrinks by more than twice what the width does.

   Both directions are one loop: for the other one the image is turned, so that what is added up lies side by side. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { COLOURS = 3, BITS = 22, REACH = 2, SIDE_BY_SIDE = 32, TURNED = 16 };

/* One line of the new image is a weighted sum of `count` lines of the old one, from `first`. */
typedef struct {
    int first, count;
    int32_t *weights;
} blend;

static double cubic(double x) {
    x = x < 0 ? -x : x;
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * -0.5;
    return 0;
}

/* Of line `to`; `shares` and the blend's weights have room for all lines. */
static void weigh(blend *of, int lines, int to, double scale, double *shares) {
    double wider = scale > 1 ? scale : 1, narrow = 1 / wider, centre = (to + 0.5) * scale, sum = 0;
    int first = (int)(centre - REACH * wider + 0.5), last = (int)(centre + REACH * wider + 0.5);
    of->first = first > 0 ? first : 0;
    of->count = (last < lines ? last : lines) - of->first;
    for (int i = 0; i < of->count; i++) sum += shares[i] = cubic((i + of->first - centre + 0.5) * narrow);
    for (int i = 0; i < of->count; i++) {
        double weight = shares[i] / sum * (1 << BITS);
        of->weights[i] = (int32_t)(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
}

/* `n` bytes of a new line; with n known, the compiler keeps the sums in registers. */
static inline __attribute__((always_inline)) void add_up(const uint8_t *in, int64_t length, const blend *of, int n,
                                                         uint8_t *out) {
    int32_t sums[SIDE_BY_SIDE];
    for (int i = 0; i < n; i++) sums[i] = 1 << (BITS - 1);
    for (int line = 0; line < of->count; line++)
        for (int i = 0; i < n; i++) sums[i] += in[line * length + i] * of->weights[line];
    for (int i = 0; i < n; i++) {
        int32_t sum = sums[i] >> BITS;
        out[i] = sum < 0 ? 0 : sum > 255 ? 255 : sum;
    }
}

/* `lines` of `length` bytes to `to` lines. Where the last bytes do not fill a block, one that overlaps is made again. */
static int down(const uint8_t *in, int lines, int64_t length, uint8_t *out, int to) {
    double *shares = malloc(lines * (sizeof(double) + sizeof(int32_t)));
    if (!shares) return -1;
    blend of = {.weights = (int32_t *)(shares + lines)};
    for (int line = 0; line < to; line++, out += length) {
        weigh(&of, lines, line, (double)lines / to, shares);
        const uint8_t *from = in + of.first * length;
        if (length < SIDE_BY_SIDE) add_up(from, length, &of, length, out);
        else
            for (int64_t at = 0; at < length; at += SIDE_BY_SIDE) {
                int64_t block = at + SIDE_BY_SIDE <= length ? at : length - SIDE_BY_SIDE;
                add_up(from + block, length, &of, SIDE_BY_SIDE, out + block);
            }
    }
    free(shares);
    return 0;
}

/* Pixels [rows][columns] to [columns][rows], some rows at a time: they and what is written stay in the cache. */
static void turn(const uint8_t *in, int64_t rows, int64_t columns, uint8_t *out) {
    for (int64_t from = 0; from < rows; from += TURNED)
        for (int64_t column = 0; column < columns; column++)
            for (int64_t row = from; row < from + TURNED && row < rows; row++)
                memcpy(out + COLOURS * (column * rows + row), in + COLOURS * (row * columns + column), COLOURS);
}

/* Pixels [rows][columns] to [rows][width]. */
static int across(const uint8_t *in, int rows, int columns, uint8_t *out, int width) {
    int64_t line = (int64_t)COLOURS * rows;
    uint8_t *before = malloc(line * columns), *after = malloc(line * width);
    int failed = !before || !after;
    if (!failed) {
        turn(in, rows, columns, before);
        failed = down(before, columns, line, after, width);
        turn(after, width, rows, out);
    }
    free(before);
    free(after);
    return failed;
}

/* Pixels [rows][columns] to [height][width]; gives 0, or something else where memory is short. */
int resize(const uint8_t *in, int rows, int columns, uint8_t *out, int height, int width) {
    int down_first = rows > height && rows - height > 2 * (columns - width);
    int64_t line = (int64_t)COLOURS * (down_first ? columns : width);
    uint8_t *between = malloc(line * (down_first ? height : rows));
    int failed = !between;
    if (!failed && down_first)
        failed = down(in, rows, line, between, height) || across(between, height, columns, out, width);
    else if (!failed)
        failed = across(in, rows, columns, between, width) || down(between, rows, line, out, height);
    free(between);
    return failed;
}
