// Descent by token id goes where descent on the tokens that the ids stand for goes.
#include <array>

#include "attsvm/id_descent.hpp"

#include "check.hpp"
#include "random_problem.hpp"

using attsvm::Buffer;
using attsvm::Index;
using attsvm::Loss;
using attsvm_test::rule_of;

namespace {

// Contexts over a vocabulary, the tokens they stand for, and what both engines say of them.
struct Corpus {
    Index n = 40, T = 6, K = 9, d;
    Buffer<double> E, X, Z, score;
    Buffer<std::int64_t> id, last, length;
    Buffer<std::uint8_t> right;

    Corpus(unsigned seed, Index dimension, bool orthonormal)
        : d(dimension), E(K * d), X(n * T * d), Z(n * d), score(n * T), id(n * T), last(n), length(n), right(n * T) {
        std::mt19937_64 bits(seed);
        if (orthonormal) {
            for (Index k = 0; k < K; ++k) E[k * d + (5 * k + 2) % d] = k % 2 == 0 ? 1.0 : -1.0;
        } else {
            attsvm_test::fill_normal(E, bits, 0.5);
        }
        std::uniform_int_distribution<std::int64_t> ids(0, K - 1), lengths(1, T);
        for (Index i = 0; i < n; ++i) {
            length[i] = lengths(bits);
            const std::int64_t label = ids(bits);
            for (Index t = 0; t < T; ++t) id[i * T + t] = ids(bits);
            id[i * T] = label;
            last[i] = id[i * T + length[i] - 1];
            for (Index t = 0; t < T; ++t) {
                right[i * T + t] = id[i * T + t] == label;
                score[i * T + t] = right[i * T + t];
                std::copy_n(E.data() + id[i * T + t] * d, d, X.data() + (i * T + t) * d);
            }
            std::copy_n(E.data() + last[i] * d, d, Z.data() + i * d);
        }
    }

    Buffer<double> gram() const {
        Buffer<double> G(K * K);
        for (Index j = 0; j < K; ++j)
            for (Index k = 0; k < K; ++k)
                for (Index c = 0; c < d; ++c) G[j * K + k] += E[j * d + c] * E[k * d + c];
        return G;
    }
};

struct Seen {
    std::vector<double> record;
    Buffer<double> log_weight;
};

auto recorder(std::vector<double>& into) {
    return [&into](std::size_t, const attsvm::Record<double>& at) {
        for (const double value : {at.loss, at.loss_gap, at.norm, at.log_grad_norm, at.max_attention})
            into.push_back(value);
    };
}

constexpr std::array<std::int64_t, 4> marks{0, 1, 20, 300};

Seen by_tokens(Corpus& corpus, attsvm::StepRule rule) {
    Buffer<double> V(corpus.d * corpus.d);
    const attsvm::Problem<double, double> problem{corpus.n,
                                                  corpus.T,
                                                  corpus.d,
                                                  corpus.d,
                                                  corpus.X.data(),
                                                  corpus.Z.data(),
                                                  {attsvm::HeadKind::of<attsvm::FixedHead>(), {corpus.score.data()}},
                                                  corpus.length.data()};
    double* const blocks[] = {V.data()};
    attsvm::Descent<double, double> descent(problem, Loss::of<attsvm::Log>(), rule, attsvm::Team(1),
                                            {{}, 0, blocks, 0.0}, {});
    Seen out{{}, Buffer<double>(corpus.n * corpus.T)};
    attsvm::Progress progress(nullptr, 1.0);
    descent.run({marks.back(), marks}, progress, true, recorder(out.record));
    Buffer<double> weight(corpus.n * corpus.T), top(corpus.n);
    descent.attention(weight.data(), out.log_weight.data(), top.data());
    return out;
}

Seen by_ids(Corpus& corpus, attsvm::StepRule rule, int threads, bool orthonormal) {
    const Index K = corpus.K;
    Buffer<std::int64_t> pair(corpus.n * corpus.T);
    for (Index k = 0; k < pair.size(); ++k) pair[k] = corpus.id[k] * K + corpus.last[k / corpus.T];
    attsvm::IdProblem problem{corpus.n, corpus.T, K * K, pair.data(), corpus.right.data(), corpus.length.data()};
    const Buffer<double> G = corpus.gram();
    if (!orthonormal) {
        problem.rows = problem.columns = K;
        problem.row_coordinates = problem.column_coordinates = corpus.d;
        problem.row_gram = problem.column_gram = G.data();
        problem.row = problem.column = corpus.E.data();
    }
    Buffer<double> A(K * K);
    attsvm::IdDescent descent(problem, rule, attsvm::Team(threads), A.data(), {});
    Seen out{{}, Buffer<double>(corpus.n * corpus.T)};
    attsvm::Progress progress(nullptr, 1.0);
    descent.run({marks.back(), marks}, progress, recorder(out.record));
    Buffer<double> weight(corpus.n * corpus.T);
    Buffer<std::int64_t> top(corpus.n);
    descent.attention(weight.data(), out.log_weight.data(), top.data());
    return out;
}

void ids_go_where_tokens_go(Index dimension, bool orthonormal) {
    Corpus corpus(7, dimension, orthonormal);
    for (attsvm::StepRule rule :
         {rule_of<attsvm::PlainGradient>(0.5, 0.1), rule_of<attsvm::NormalisedGradient>(0.02, 0.1)})
        for (const int momenta : {0, 1, 2}) {
            rule.momentum = momenta == 0 ? 0.0 : 0.6;
            rule.nesterov = momenta == 2;
            const Seen tokens = by_tokens(corpus, rule);
            const Seen ids = by_ids(corpus, rule, 1, orthonormal);
            CHECK(tokens.record.size() == 5 * marks.size() && ids.record.size() == tokens.record.size());
            for (std::size_t k = 0; k < ids.record.size(); ++k)
                CHECK(std::abs(ids.record[k] - tokens.record[k]) <= 1e-9 * std::max(1.0, std::abs(tokens.record[k])));
            for (Index i = 0; i < corpus.n; ++i)
                for (Index t = 0; t < corpus.T; ++t) {
                    const double got = ids.log_weight[i * corpus.T + t], right = tokens.log_weight[i * corpus.T + t];
                    CHECK(got == right || std::abs(got - right) <= 1e-8 * std::max(1.0, std::abs(right)));
                }
            for (const int threads : {2, 3}) {
                const Seen more = by_ids(corpus, rule, threads, orthonormal);
                CHECK(more.record == ids.record);
            }
        }
}

}  // namespace

int main() {
    ids_go_where_tokens_go(12, true);
    ids_go_where_tokens_go(12, false);
    ids_go_where_tokens_go(4, false);
    return attsvm_test::report();
}
