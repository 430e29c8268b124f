#include "attsvm/geometries.hpp"

namespace attsvm {
namespace {

// function(one of `Geometries`, the matrix as a block)
template <class Function>
double with_block(const Geometry& geometry, double* M, Index rows, Index columns, Function function) {
    const Team team(1);
    Buffer<double> of_row(rows);
    const MatrixBlock<double> block{team, rows, columns, M, of_row.data(), false, norm(M, rows * columns)};
    return Geometries::visit(geometry.kind, [&]<class Norm>(Norm of) { return function(of, block); });
}

}  // namespace

double norm_of(const Geometry& geometry, double* M, Index rows, Index columns) {
    return with_block(geometry, M, rows, columns,
                      [&]<class Norm>(Norm, const auto& block) { return Norm::norm(block, geometry.p); });
}

double steepest_direction(const Geometry& geometry, double* M, Index rows, Index columns) {
    return with_block(geometry, M, rows, columns, [&]<class Norm>(Norm, const auto& block) {
        const Steepest<double> found = Norm::direct(block, geometry);
        for (Index k = 0; k < block.size(); ++k) M[k] = Norm::entry(M[k]) / found.length;
        return found.dual_norm;
    });
}

}  // namespace attsvm
