#include <stddef.h>
#include <omp.h>

/* Sum of x, `passes` times over, each thread its own share: what reading x costs at the least. */
double read_array(const double *x, ptrdiff_t size, int passes, int threads)
{
    double total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
    {
        const ptrdiff_t share = size / omp_get_num_threads();
        const double *mine = x + share * omp_get_thread_num();
        for (int pass = 0; pass < passes; ++pass) {
            double sum = 0;
#pragma omp simd reduction(+ : sum)
            for (ptrdiff_t i = 0; i < share; ++i)
                sum += mine[i];
            total += sum;
        }
    }
    return total;
}
