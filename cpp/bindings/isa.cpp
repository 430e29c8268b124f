// The instruction-set levels of the core that this processor can run, best first. Compiled for the baseline alone, and
// without pybind11, whose headers take longer than all the rest.
#include <Python.h>

#include "attsvm/isa_levels.hpp"

namespace {

PyObject* supported(PyObject*, PyObject*) {
    const auto levels = attsvm::supported_isa_levels();
    PyObject* const list = PyList_New(static_cast<Py_ssize_t>(levels.size()));
    if (list == nullptr) return nullptr;
    for (std::size_t k = 0; k < levels.size(); ++k) {
        PyObject* const name = PyUnicode_FromStringAndSize(levels[k].data(), static_cast<Py_ssize_t>(levels[k].size()));
        if (name == nullptr || PyList_SetItem(list, static_cast<Py_ssize_t>(k), name) != 0) {
            Py_DECREF(list);
            return nullptr;
        }
    }
    return list;
}

PyObject* in_main_interpreter(PyObject*, PyObject*) {
    return PyBool_FromLong(PyInterpreterState_Get() == PyInterpreterState_Main());
}

PyMethodDef methods[] = {
    {"supported", supported, METH_NOARGS, "Return the names of the levels, best first."},
    {"in_main_interpreter", in_main_interpreter, METH_NOARGS, "Return whether this is no subinterpreter."},
    {nullptr, nullptr, 0, nullptr}};
PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "_isa",
                          "The instruction-set levels that this processor has.",
                          0,
                          methods,
                          nullptr,
                          nullptr,
                          nullptr,
                          nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__isa() { return PyModule_Create(&definition); }
