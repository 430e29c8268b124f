struct SignUpdate {
    static constexpr std::string_view name = "sign";
    static constexpr int means = 0;

    template <class Real>
    static void apply(const BlockStep<Real>& at, Index k, Index end) {
        for (; k < end; ++k) {
            const Real slope = at.scale * at.gradient[k];
            const Real up = select(slope > Real(0.0), Real(1.0), Real(0.0));
            at.value[k] -= at.rate * select(Real(0.0) > slope, Real(-1.0), up);
        }
    }
};

struct SignGradient : NormalisedGradient {
    static constexpr std::string_view name = "sign", description = "steps by signs", update = "sign";
    static constexpr bool by_coordinate = true;
};
