struct TanhHead : ReluHead {  // w' tanh(Ho)
    static constexpr std::string_view name = "tanh";

    template <class Real>
    static Real margin(const HeadArrays<Real>& head, Real y, Index d, const Real* o, Real* gradient, Real* active) {
        rows_dot(head.hidden, head.units, d, o, active);
        Real value(0.0);
        for (Index k = 0; k < head.units; ++k) {
            const Real z = active[k], slope = Real(2.0) / (exp(z) + exp(-z));  // 1 / cosh z
            value += head.vector[k] * lanewise(z, [](double x) { return std::tanh(x); });
            active[k] = y * head.vector[k] * slope * slope;
        }
        rows_combine(head.hidden, head.units, d, active, gradient);
        return y * value;
    }
};
