#include <optional>

#include "arrays.hpp"
#include "attsvm/row_basis.hpp"
#include "bind.hpp"
#include "interpreter.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using attsvm::Index;

namespace {

// Of B sets of rows (B, count, dimension), dimension >= count: coordinates (B, count, count), and bases as the rows
// where there is memory for them.
Array<double> find_coordinates(const Array<double>& rows, int threads, double* to_bases) {
    const Index sets = rows.shape(0), count = rows.shape(1), dimension = rows.shape(2);
    auto coordinates = make_array<double>({sets, count, count});
    const double* const from = rows.data();
    double* const to_coordinates = coordinates.mutable_data();
    without_gil(std::nullopt, static_cast<double>(sets), [&](attsvm::Progress& progress) {
        const attsvm::ThreadPlan plan(threads, sets, static_cast<double>(count * dimension),
                                      static_cast<double>(count));
        const attsvm::Team team(plan.within);
        attsvm::parallel_for_each(attsvm::Team(plan.across), sets, progress, [&](Index k, bool calling_thread) {
            attsvm::Progress* const asked = calling_thread ? &progress : nullptr;
            const attsvm::RowBasis basis(team, from + k * count * dimension, count, dimension, asked);
            std::copy_n(basis.coordinates().data(), count * count, to_coordinates + k * count * count);
            if (to_bases != nullptr)
                std::copy_n(basis.vectors(team, asked).data(), count * dimension, to_bases + k * count * dimension);
            progress.advance(1.0, calling_thread);
        });
    });
    return coordinates;
}

void expect_rows(const Array<double>& rows) {
    if (rows.ndim() != 3) throw std::invalid_argument("rows: need three axes");
    const Index count = rows.shape(1), dimension = rows.shape(2);
    if (count < 1 || count > dimension) throw std::invalid_argument("rows: need 1..dimension of them");
}

Array<double> row_coordinates(const Array<double>& rows, int threads) {
    expect_rows(rows);
    return find_coordinates(rows, threads, nullptr);
}

py::tuple row_bases(const Array<double>& rows, int threads) {
    expect_rows(rows);
    auto bases = make_array<double>({rows.shape(0), rows.shape(1), rows.shape(2)});
    const auto coordinates = find_coordinates(rows, threads, bases.mutable_data());
    return py::make_tuple(coordinates, bases);
}

}  // namespace

void bind_row_basis(py::module_& module) {
    module.def("row_coordinates", &row_coordinates, py::kw_only(), "rows"_a, "threads"_a);
    module.def("row_bases", &row_bases, py::kw_only(), "rows"_a, "threads"_a);
}
