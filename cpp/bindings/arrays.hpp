// NumPy arrays as the core's views. Shapes and values are checked in Python; here only what memory safety needs.
#pragma once

#include <pybind11/numpy.h>

#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "attsvm/pack.hpp"

template <class T>
using Array = pybind11::array_t<T, pybind11::array::c_style>;

template <class T>
void expect_shape(const char* name, const Array<T>& array, std::initializer_list<attsvm::Index> shape) {
    const bool same = array.ndim() == static_cast<attsvm::Index>(shape.size()) &&
                      std::equal(shape.begin(), shape.end(), array.shape());
    if (!same) throw std::invalid_argument(std::string(name) + ": has another shape than the problem needs");
}

template <class T>
Array<T> make_array(std::initializer_list<attsvm::Index> shape) {
    return Array<T>(std::vector<pybind11::ssize_t>(shape));
}

template <class T>
std::span<const T> view(const Array<T>& array) {
    return {array.data(), static_cast<std::size_t>(array.size())};
}
