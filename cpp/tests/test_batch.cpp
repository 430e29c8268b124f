// A batch gives every problem what it gets alone, whichever engine runs it, and the same bits on any number of threads.
#include "attsvm/batch.hpp"

#include <utility>

#include "check.hpp"
#include "random_problem.hpp"

using attsvm::Buffer;
using attsvm::Index;
using attsvm::Loss;

namespace {

// Memory of a batch of problems, and of what a run of it gives.
struct OwnedBatch {
    Index B, n, T, d, e, inner;
    Buffer<double> X, Z, score, first, second, outside, reference, reference_outside;
    Buffer<std::int64_t> length;

    attsvm::Batch<double> view(Index from, Index count) const {
        attsvm::Batch<double> batch{};
        batch.problems = count;
        batch.sequences = n;
        batch.samples = n;
        batch.tokens = T;
        batch.dimension = d;
        batch.query_dimension = e;
        batch.parameter = attsvm::ParameterKind(inner == 0 ? "W" : "KQ");
        batch.inner = inner;
        batch.references = 1;
        batch.X = X.data() + from * n * T * d;
        batch.Z = Z.data() + from * n * e;
        batch.head = {attsvm::HeadKind::of<attsvm::FixedHead>(), {score.data() + from * n * T}};
        batch.length = length.data() + from * n;
        batch.outside = outside.data() + from;
        batch.reference = reference.data() + from * e * d;
        batch.reference_outside = reference_outside.data() + from * 2;
        return batch;
    }
};

// Parameters are V where `inner` is 0, and otherwise K' and Q.
OwnedBatch random_batch(Index B, Index n, Index T, Index d, Index e, Index inner) {
    const Index rows = inner == 0 ? e : inner;
    OwnedBatch batch{B,
                     n,
                     T,
                     d,
                     e,
                     inner,
                     Buffer<double>(B * n * T * d),
                     Buffer<double>(B * n * e),
                     Buffer<double>(B * n * T),
                     Buffer<double>(B * rows * d),
                     Buffer<double>(B * e * inner),
                     Buffer<double>(B),
                     Buffer<double>(B * e * d),
                     Buffer<double>(B * 2),
                     Buffer<std::int64_t>(B * n)};
    std::mt19937_64 bits(99);
    attsvm_test::fill_normal(batch.first, bits, 0.3);
    attsvm_test::fill_normal(batch.second, bits, 0.3);
    for (Index b = 0; b < B; ++b) {
        const auto one = attsvm_test::random_problem(static_cast<unsigned>(100 + b), n, T, d, e, true);
        const auto put = [b](const auto& from, auto& to) {
            std::copy(from.data(), from.data() + from.size(), to.data() + b * from.size());
        };
        put(one.X, batch.X);
        put(one.Z, batch.Z);
        put(one.score, batch.score);
        put(one.reference, batch.reference);
        put(one.length, batch.length);
        // Part of W and of the reference lies outside the spans, along each other but for a little.
        batch.outside[b] = 0.5;
        for (Index k = 0; k < e * d; ++k) batch.reference[b * e * d + k] *= 0.8;
        batch.reference_outside[2 * b] = 0.48;
        batch.reference_outside[2 * b + 1] = 0.36;
    }
    return batch;
}

struct Results {
    Buffer<double> first, second, weight, log_weight, history, largest_score;
    Buffer<std::int64_t> selected;
};

Results run(const OwnedBatch& batch, Index first, Index count, int threads) {
    const Index size = batch.first.size() / batch.B, second_size = batch.second.size() / batch.B;
    const std::vector<std::int64_t> record{0, 7, 150};
    const auto recorded = static_cast<Index>(record.size());
    Results out{Buffer<double>(count * size),
                Buffer<double>(count * second_size),
                Buffer<double>(count * batch.n * batch.T),
                Buffer<double>(count * batch.n * batch.T),
                Buffer<double>(6 * count * recorded),
                Buffer<double>(count),
                Buffer<std::int64_t>(count * batch.n)};
    std::copy_n(batch.first.data() + first * size, count * size, out.first.data());
    std::copy_n(batch.second.data() + first * second_size, count * second_size, out.second.data());
    double* const h = out.history.data();
    const Index each = count * recorded;
    attsvm::Progress progress(nullptr, 1.0);
    attsvm::BatchResult result{};
    result.blocks = {out.first.data(), out.second.data()};
    result.weight = out.weight.data();
    result.log_weight = out.log_weight.data();
    result.selected = out.selected.data();
    result.loss = h;
    result.loss_gap = h + each;
    result.norm = h + 2 * each;
    result.log_grad_norm = h + 3 * each;
    result.max_attention = h + 4 * each;
    result.cosine_gap = h + 5 * each;
    result.largest_score = out.largest_score.data();
    attsvm::descend(batch.view(first, count), Loss::of<attsvm::Logistic>(), attsvm::StepRule{},
                    attsvm::Schedule{150, record}, threads, progress, result);
    return out;
}

bool same(const Buffer<double>& a, const Buffer<double>& b) {
    return std::equal(a.data(), a.data() + a.size(), b.data());
}

void every_problem_runs_as_alone(Index B, Index n, Index T, Index d, Index e, Index inner) {
    const OwnedBatch batch = random_batch(B, n, T, d, e, inner);
    const Results together = run(batch, 0, B, 2);
    for (Index b = 0; b < B; ++b) {
        const Results alone = run(batch, b, 1, 1);
        for (const auto& [all, one] : {std::pair{&together.first, &alone.first}, {&together.second, &alone.second}}) {
            const double size = attsvm::norm(one->data(), one->size());
            for (Index k = 0; k < one->size(); ++k)
                CHECK(std::abs((*all)[b * one->size() + k] - (*one)[k]) <= (inner == 0 ? 1e-13 : 1e-12) * size);
        }
        for (Index i = 0; i < n; ++i) CHECK(together.selected[b * n + i] == alone.selected[i]);
        for (Index k = 0; k < n * T; ++k) CHECK(std::abs(together.weight[b * n * T + k] - alone.weight[k]) <= 1e-12);
        for (Index quantity = 0; quantity < 6; ++quantity)
            for (Index r = 0; r < 3; ++r) {
                const double got = together.history[(quantity * B + b) * 3 + r];
                const double right = alone.history[quantity * 3 + r];
                CHECK(std::abs(got - right) <= 1e-11 * std::max(1.0, std::abs(right)));
            }
    }
    for (const int threads : {1, 3}) {
        const Results again = run(batch, 0, B, threads);
        CHECK(same(again.first, together.first));
        CHECK(same(again.second, together.second));
        CHECK(same(again.history, together.history));
    }
}

}  // namespace

int main() {
    CHECK(random_batch(19, 6, 8, 10, 10, 0).view(0, 19).runs_in_packs());
    CHECK(!random_batch(2, 40, 30, 20, 20, 0).view(0, 2).runs_in_packs());
    every_problem_runs_as_alone(19, 6, 8, 10, 10, 0);   // packs, the last one not full
    every_problem_runs_as_alone(9, 3, 5, 7, 1, 0);      // packs, logits X p
    every_problem_runs_as_alone(2, 40, 30, 20, 20, 0);  // one problem at a time
    every_problem_runs_as_alone(11, 6, 8, 10, 10, 10);  // packs, W = K Q'
    every_problem_runs_as_alone(10, 4, 5, 6, 7, 3);     // packs, W = K Q' of low rank
    every_problem_runs_as_alone(2, 40, 30, 20, 20, 5);  // one problem at a time, W = K Q'
    return attsvm_test::report();
}
