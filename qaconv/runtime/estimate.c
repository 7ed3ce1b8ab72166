/* Inner products of one query with many short vectors of 8 bits. A product of 16 and 8 bits has 23, so that a sum of up
   to 512 of them fits into 32. */
#include <stdint.h>

void estimate(const int8_t *vectors, const float *scales, const int16_t *query, int64_t first, int64_t last,
              int64_t length, float *estimates) {
    for (int64_t row = first; row < last; row++) {
        const int8_t *vector = vectors + row * length;
        int32_t sum = 0;
        for (int64_t i = 0; i < length; i++)
            sum += (int32_t)query[i] * vector[i];
        estimates[row] = (float)sum * scales[row];
    }
}
