// Memory of the core's own, aligned to a cache line so that results do not depend on where it lies.
#pragma once

#include <algorithm>
#include <memory>
#include <new>

#include "attsvm/pack.hpp"

namespace attsvm {

template <class T>
class Buffer {
   public:
    Buffer() = default;
    explicit Buffer(Index count) : Buffer(not_filled(count)) { std::fill(data_.get(), data_.get() + count, T{}); }
    // For a caller that writes all of it.
    static Buffer not_filled(Index count) {
        Buffer buffer;
        buffer.size_ = count;
        if (count != 0) buffer.data_.reset(allocate(count));
        return buffer;
    }

    T* data() { return data_.get(); }
    const T* data() const { return data_.get(); }
    Index size() const { return size_; }
    T& operator[](Index k) { return data_.get()[k]; }
    const T& operator[](Index k) const { return data_.get()[k]; }

   private:
    static constexpr std::align_val_t alignment{64};
    struct Free {
        void operator()(T* p) const { ::operator delete(static_cast<void*>(p), alignment); }
    };
    static T* allocate(Index count) {
        return static_cast<T*>(::operator new(static_cast<std::size_t>(count) * sizeof(T), alignment));
    }

    Index size_ = 0;
    std::unique_ptr<T[], Free> data_;
};

}  // namespace attsvm
