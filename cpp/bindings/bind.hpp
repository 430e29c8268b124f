#pragma once

#include <pybind11/pybind11.h>

void bind_components(pybind11::module_& module);
void bind_descent(pybind11::module_& module);
void bind_id_descent(pybind11::module_& module);
void bind_row_basis(pybind11::module_& module);
void bind_svm(pybind11::module_& module);
