// An orthonormal basis of the span of some rows that are longer than they are many, and their coordinates in it.
#pragma once

#include <memory>

#include "attsvm/buffer.hpp"
#include "attsvm/threads.hpp"

namespace attsvm {

// rows = C B with C (count × count) lower triangular and B (count × dimension) of orthonormal rows: the QR
// factorisation of the transpose, piece by piece and then of the pieces' triangles together. Rows are
// scaled by powers of two before, so that no square of an entry leaves the range of numbers.
class RowBasis {
   public:
    // `progress`, of the calling thread, is asked between pieces; when it is stopped, the rest is left out.
    RowBasis(const Team& team, const double* rows, Index count, Index dimension, Progress* progress = nullptr);
    RowBasis(RowBasis&&) noexcept;
    RowBasis& operator=(RowBasis&&) noexcept;
    ~RowBasis();

    const Buffer<double>& coordinates() const { return coordinates_; }
    Buffer<double> vectors(const Team& team, Progress* progress = nullptr) const;

   private:
    struct Factors;

    // task(piece, first, size) for every piece of the dimension
    template <class Task>
    void each_piece(const Team& team, Progress* progress, Task task) const;

    Index count_, dimension_, length_;
    std::unique_ptr<Factors> factors_;
    Buffer<double> coordinates_;
};

}  // namespace attsvm
