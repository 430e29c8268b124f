// The nuclear-norm SVM by a first-order method: primal-dual hybrid gradient with singular value thresholding.
//
//     W⁺ = threshold(W + τ A*(λ), τ),   λ⁺ = (λ + σ (b - A(2 W⁺ - W)))₊,   τ σ |A|² <= 1
//
// The step is taken twice over and drawn back towards the start of the epoch (Halpern's iteration); an epoch starts
// anew from its latest point when the steps have become short. (Chambolle, Pock, "A first-order primal-dual algorithm
// for convex problems with applications to imaging", Journal of Mathematical Imaging and Vision 40, 2011; Lu, Yang,
// "Restarted Halpern PDHG for linear programming", 2024.) The active constraints and the rank of W settle long before
// their numbers do, which is what the method is for.
#pragma once

#include "attsvm/nuclear_face.hpp"

namespace attsvm::nuclear {

class Thresholding {
   public:
    // `constraints` must outlive it.
    explicit Thresholding(const Constraints& constraints);

    void step();
    // Multiplications of one step, more or less; those of an eigenvalue decomposition count for several.
    double work_of_step() const;
    // The latest W, and λ scaled into the dual.
    Candidate candidate() const;
    std::vector<Index> active() const;
    Index rank() const { return value_.size(); }
    Face face(const Candidate& latest) const;

   private:
    struct Point {
        Matrix W;
        Vector dual;
    };

    void start_epoch();
    // next_.W = U (Σ - τ)₊ V' of U Σ V'
    void threshold(const Matrix& full, double tau);

    const Constraints& constraints_;
    double operator_norm_;
    double weight_ = 1.0;  // sqrt(σ / τ)
    Point now_, start_, next_;
    Matrix left_, right_;  // singular vectors of the latest W
    Vector value_;         // and its singular values
    double first_move_ = 0.0, last_move_ = 0.0, in_epoch_ = 0.0, steps_ = 0.0;
};

}  // namespace attsvm::nuclear
