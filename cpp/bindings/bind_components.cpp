// The core's lists of losses, heads, geometries, step rules and parameterisations: Python takes its names, and what is
// known of each, from here.
#include <functional>

#include "arrays.hpp"
#include "attsvm/heads.hpp"
#include "attsvm/parameterisation.hpp"
#include "bind.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using attsvm::BlockRate;
using attsvm::Geometry;
using attsvm::Loss;
using attsvm::StepRule;

namespace {

using Numbers = py::array_t<double, py::array::c_style | py::array::forcecast>;

Array<double> like(const Numbers& array) {
    return Array<double>(std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim()));
}

// Lambdas without captures become pointers, so that pybind11's templates are those of few types of functions.

// function(the loss's struct, m) of every margin m
template <class Function>
auto of_margins(Function) {
    return +[](const Loss& loss, const Numbers& m) {
        using OfMargin = double (*)(double);
        const OfMargin function =
            loss.visit([]<class Kind>(Kind) -> OfMargin { return [](double at) { return Function{}(Kind{}, at); }; });
        Array<double> result = like(m);
        std::transform(m.data(), m.data() + m.size(), result.mutable_data(), function);
        return result;
    };
}

// Three arrays from function(k) of every entry.
py::tuple second_order(const Numbers& shape, const std::function<attsvm::SecondOrder(py::ssize_t)>& function) {
    Array<double> value = like(shape), rate = like(shape), bend = like(shape);
    for (py::ssize_t k = 0; k < shape.size(); ++k) {
        const attsvm::SecondOrder at = function(k);
        value.mutable_data()[k] = at.value;
        rate.mutable_data()[k] = at.rate;
        bend.mutable_data()[k] = at.bend;
    }
    return py::make_tuple(value, rate, bend);
}

// A constant of the struct of a loss, or of a rule.
template <class Constant>
auto constant(Constant) {
    return +[](const Loss& loss) { return loss.visit(Constant{}); };
}
template <class Constant>
auto of_rule(Constant) {
    return +[](const StepRule& rule) { return attsvm::StepRules::visit(rule.kind, Constant{}); };
}

void bind_losses(py::module_& module) {
    py::class_<Loss>(module, "Loss")
        .def_property_readonly("margins", constant([]<class L>(L) {
                                   return L::margins == attsvm::MarginKind::real        ? "real"
                                          : L::margins == attsvm::MarginKind::attention ? "attention"
                                                                                        : "log_probability";
                               }))
        .def_property_readonly("infimum", constant([]<class L>(L) { return L::infimum; }))
        .def_property_readonly("largest_score", constant([]<class L>(L) { return L::largest_score; }))
        .def_property_readonly("positive", constant([]<class L>(L) { return L::positive; }))
        .def_property_readonly("has_excess", constant([]<class L>(L) { return L::has_excess; }))
        .def("value", of_margins([]<class L>(L, double m) { return L::value(m); }))
        .def("slope", of_margins([]<class L>(L, double m) { return L::slope(m); }))
        .def("curvature", of_margins([]<class L>(L, double m) { return L::curvature(m); }))
        .def("log_slope", of_margins([]<class L>(L, double m) { return L::log_slope(m); }))
        .def("log_value",
             [](const Loss& loss, const Numbers& m) {
                 return loss.visit(
                     [&]<class L>(L) { return second_order(m, [&](auto k) { return L::log_value(m.data()[k]); }); });
             })
        .def(
            "log_excess",
            [](const Loss& loss, const Numbers& best, const Numbers& log_shortfall, const Numbers& log_share) {
                if (best.size() != log_shortfall.size() || log_share.size() != best.size())
                    throw std::invalid_argument("log_excess: expected arrays of one shape");
                return loss.visit([&]<class L>(L) {
                    return second_order(best, [&](auto k) {
                        return L::log_excess(best.data()[k], log_shortfall.data()[k], log_share.data()[k]);
                    });
                });
            },
            "best"_a, "log_shortfall"_a, "log_share"_a);
    py::dict losses;
    for (const std::string_view name : attsvm::Losses::names) losses[py::str(name)] = Loss(name);
    module.attr("losses") = losses;
}

// What is known of a geometry.
template <class Constant>
auto of_geometry(Constant) {
    return +[](const Geometry& geometry) { return attsvm::Geometries::visit(geometry.kind, Constant{}); };
}
// A function of the core on copies of the matrices of a stack: what it returns, and what it leaves.
using OfMatrix = double (*)(const Geometry&, double*, attsvm::Index, attsvm::Index);
std::pair<Array<double>, Array<double>> on_copies(OfMatrix function, const Geometry& geometry,
                                                  const Numbers& matrices) {
    const auto axes = matrices.ndim();
    if (axes < 2) throw std::invalid_argument("matrix: need two axes or more");
    const auto rows = matrices.shape(axes - 2), columns = matrices.shape(axes - 1);
    if (rows == 0 || columns == 0) throw std::invalid_argument("matrix: need rows and columns");
    Array<double> found(std::vector<py::ssize_t>(matrices.shape(), matrices.shape() + axes - 2)), left = like(matrices);
    std::copy_n(matrices.data(), matrices.size(), left.mutable_data());
    for (py::ssize_t k = 0; k < found.size(); ++k)
        found.mutable_data()[k] = function(geometry, left.mutable_data() + k * rows * columns, rows, columns);
    return {found, left};
}

void bind_geometries(py::module_& module) {
    py::class_<Geometry>(module, "Geometry")
        .def(py::init(&attsvm::geometry_named), "name"_a, "p"_a = 2.0)
        .def_readonly("p", &Geometry::p)
        .def_readwrite("newton_schulz", &Geometry::newton_schulz)
        .def_property_readonly("name", of_geometry([]<class N>(N) { return N::name; }))
        .def_property_readonly("by_coordinate", of_geometry([]<class N>(N) { return N::by_coordinate; }))
        .def_property_readonly("has_mirror", of_geometry([]<class N>(N) { return N::has_mirror; }))
        .def(
            "norm", +[](const Geometry& of, const Numbers& M) { return on_copies(attsvm::norm_of, of, M).first; },
            "matrices"_a)
        .def(
            "dual_norm",
            +[](const Geometry& of, const Numbers& M) { return on_copies(attsvm::steepest_direction, of, M).first; },
            "matrices"_a)
        .def(
            "direction",
            +[](const Geometry& of, const Numbers& M) { return on_copies(attsvm::steepest_direction, of, M).second; },
            "matrices"_a);
}

void bind_step_rules(py::module_& module) {
    py::class_<BlockRate>(module, "BlockRate")
        .def(py::init<double, double, Geometry>(), "rate"_a, "decay"_a, "geometry"_a = Geometry{})
        .def_readwrite("rate", &BlockRate::rate)
        .def_readwrite("decay", &BlockRate::decay)
        .def_readwrite("geometry", &BlockRate::geometry);
    py::class_<StepRule>(module, "StepRule")
        .def(py::init(&StepRule::named), "kind"_a)
        .def("copy", [](const StepRule& rule) { return rule; })
        .def_property_readonly("description", of_rule([]<class R>(R) { return R::description; }))
        .def_property_readonly("by_coordinate", &StepRule::by_coordinate)
        .def_property_readonly("moves_along_gradients", &StepRule::moves_along_gradients)
        .def_property_readonly("mirrors", &StepRule::mirrors)
        .def_property_readonly("flows", &StepRule::flows)
        .def_property_readonly("needs_infimum", of_rule([]<class R>(R) { return R::needs_infimum; }))
        .def_property_readonly("takes_momentum", of_rule([]<class R>(R) { return R::update.empty(); }))
        .def_property_readonly("takes_average", of_rule([]<class R>(R) { return R::takes_average; }))
        .def_property_readonly("takes_norm", of_rule([]<class R>(R) { return R::takes_norm; }))
        .def_property(
            "blocks", [](const StepRule& rule) { return rule.blocks; },
            [](StepRule& rule, const std::vector<BlockRate>& rates) {
                if (rates.size() > rule.blocks.size()) throw std::invalid_argument("blocks: too many of them");
                std::copy(rates.begin(), rates.end(), rule.blocks.begin());
            })
        .def_readwrite("head", &StepRule::head)
        .def_readwrite("polyak_factor", &StepRule::polyak_factor)
        .def_readwrite("largest_step", &StepRule::largest_step)
        .def_readwrite("ridge", &StepRule::ridge)
        .def_readwrite("weight_decay", &StepRule::weight_decay)
        .def_readwrite("average", &StepRule::average)
        .def_readwrite("average_seen", &StepRule::average_seen)
        .def_readwrite("momentum", &StepRule::momentum)
        .def_readwrite("nesterov", &StepRule::nesterov)
        .def_readwrite("adam_beta", &StepRule::adam_beta)
        .def_readwrite("adam_second_beta", &StepRule::adam_second_beta)
        .def_readwrite("adam_epsilon", &StepRule::adam_epsilon)
        .def_readwrite("flow_tolerance", &StepRule::flow_tolerance)
        .def_readwrite("batch", &StepRule::batch)
        .def_readwrite("seed", &StepRule::seed);
}

template <class Constant>
auto of_parameter(Constant) {
    return +[](const attsvm::ParameterKind& kind) { return kind.visit(Constant{}); };
}

void bind_parameterisations(py::module_& module) {
    using attsvm::Axis;
    using attsvm::BlockShape;
    using attsvm::MatrixForm;
    using attsvm::ParameterKind;
    using attsvm::QuerySource;
    const auto letter = [](Axis axis) {
        return axis == Axis::one ? "1" : axis == Axis::query_dimension ? "e" : axis == Axis::dimension ? "d" : "m";
    };
    py::class_<BlockShape>(module, "BlockShape")
        .def_property_readonly("name", [](const BlockShape& shape) { return shape.name; })
        .def_property_readonly(
            "axes",
            [letter](const BlockShape& shape) { return py::make_tuple(letter(shape.rows), letter(shape.columns)); })
        .def_readonly("transposed", &BlockShape::transposed);
    py::class_<ParameterKind>(module, "Parameterisation")
        .def_property_readonly("name", of_parameter([]<class P>(P) { return P::name; }))
        .def_property_readonly("blocks",
                               [](const ParameterKind& kind) {
                                   return std::vector<BlockShape>(kind.blocks().begin(), kind.blocks().end());
                               })
        .def_property_readonly(
            "queries", of_parameter([]<class P>(P) {
                return P::queries == QuerySource::data ? "data" : P::queries == QuerySource::one ? "one" : "prompt";
            }))
        .def_property_readonly(
            "form", of_parameter([]<class P>(P) {
                return P::form == MatrixForm::block ? "block" : P::form == MatrixForm::product ? "product" : "other";
            }))
        .def_property_readonly("bilinear", of_parameter([]<class P>(P) { return P::bilinear; }))
        .def_property_readonly("diagonal", of_parameter([]<class P>(P) { return P::diagonal; }))
        .def_property_readonly("reducible", of_parameter([]<class P>(P) { return P::reducible; }));
    py::dict parameterisations;
    for (const std::string_view name : attsvm::Parameterisations::names)
        parameterisations[py::str(name)] = ParameterKind(name);
    module.attr("parameterisations") = parameterisations;
}

template <class Names>
py::tuple tuple_of(const Names& names) {
    py::list list;
    for (const std::string_view name : names) list.append(py::str(name));
    return py::tuple(list);
}

}  // namespace

void bind_components(py::module_& module) {
    bind_losses(module);
    bind_geometries(module);
    bind_step_rules(module);
    bind_parameterisations(module);
    module.attr("heads") = tuple_of(attsvm::Heads::names);
    module.attr("geometries") = tuple_of(attsvm::Geometries::names);
    module.attr("step_rules") = tuple_of(attsvm::StepRules::names);
}
