struct Sigmoid : LossDefaults {  // 1 / (1 + e^m)
    static constexpr std::string_view name = "sigmoid";
    static constexpr double largest_score = 300.0;

    template <class Real>
    static Real value(Real m) {
        return Real(1.0) / (Real(1.0) + exp(m));
    }
    template <class Real>
    static Real slope(Real m) {
        return -value(m) * value(-m);
    }
    template <class Real>
    static Real curvature(Real m) {
        return slope(m) * (value(m) - value(-m));
    }
    template <class Real>
    static Real log_slope(Real m) {
        const Real size = larger(m, -m), of_size = log1p(exp(-size));
        return -(size + of_size + of_size);
    }
    template <class Real>
    static Real scaled_excess(Real b, Real x, Real s) {
        return scaled_expm1(x, s) / ((Real(1.0) + exp(b)) * (Real(1.0) + exp(s * x - b)));
    }
};
