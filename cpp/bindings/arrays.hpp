// NumPy arrays as the core's views. Shapes and values are checked in Python; here only what memory safety needs.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "attsvm/pack.hpp"

// A C-contiguous array of this type, or none yet. An argument is taken as it is: another array is a TypeError, and none
// is converted.
template <class T>
struct Array : pybind11::array_t<T, pybind11::array::c_style> {
    using Base = pybind11::array_t<T, pybind11::array::c_style>;
    using Base::Base;
    Array() : Base(pybind11::handle(), typename Base::stolen_t{}) {}
};
using Tokens = std::variant<Array<double>, Array<float>>;

inline void expect_shape(const char* name, const pybind11::array& array, std::initializer_list<attsvm::Index> shape) {
    const bool same = array.ndim() == static_cast<attsvm::Index>(shape.size()) &&
                      std::equal(shape.begin(), shape.end(), array.shape());
    if (!same) throw std::invalid_argument(std::string(name) + ": has another shape than the problem needs");
}

inline const pybind11::array& any_type(const Tokens& tokens) {
    return std::visit([](const auto& array) -> const pybind11::array& { return array; }, tokens);
}

template <class T>
Array<T> make_array(std::initializer_list<attsvm::Index> shape) {
    return Array<T>(std::vector<pybind11::ssize_t>(shape));
}

// Arrays that the core fills, by name. Not of "name"_a = array: each number of them would be another template.
class Results {
   public:
    // Makes an array, and returns its memory.
    template <class T = double>
    T* make(const char* name, std::initializer_list<attsvm::Index> shape) {
        auto array = make_array<T>(shape);
        add(name, array);
        return array.mutable_data();
    }
    void add(const char* name, const pybind11::object& value) { by_name_[name] = value; }
    const pybind11::dict& by_name() const { return by_name_; }

   private:
    pybind11::dict by_name_;
};

template <class T>
std::span<const T> view(const Array<T>& array) {
    return {array.data(), static_cast<std::size_t>(array.size())};
}
