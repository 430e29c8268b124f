// The samples of mini-batches: all of them in a new random order, batch after batch, again and again.
#pragma once

#include <numeric>
#include <random>
#include <span>

#include "attsvm/buffer.hpp"

namespace attsvm {

class Shuffle {
   public:
    Shuffle(Index samples, Index batch, std::uint64_t seed)
        : order_(samples), batch_(batch), next_(samples), bits_(seed) {
        std::iota(order_.data(), order_.data() + samples, Index{0});
    }

    // The next batch; the last one of an order may be smaller. Valid until the next call.
    std::span<const Index> next() {
        if (next_ == order_.size()) {
            for (Index k = order_.size() - 1; k > 0; --k) std::swap(order_[k], order_[below(k + 1)]);
            next_ = 0;
        }
        const Index first = next_;
        next_ = std::min(first + batch_, order_.size());
        return {order_.data() + first, static_cast<std::size_t>(next_ - first)};
    }

   private:
    // Uniform on [0, count): the standard library's distributions are not the same everywhere.
    Index below(Index count) {
        const auto many = static_cast<std::uint64_t>(count);
        const std::uint64_t fair = -many % many;  // 2^64 modulo count: below it the remainders are not fair
        std::uint64_t drawn = bits_();
        while (drawn < fair) drawn = bits_();
        return static_cast<Index>(drawn % many);
    }

    Buffer<Index> order_;
    Index batch_, next_;
    std::mt19937_64 bits_;
};

}  // namespace attsvm
