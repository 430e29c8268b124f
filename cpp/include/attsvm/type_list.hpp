// Lists of types that are chosen by name: losses, heads, step rules. A name is looked up once; an index is kept.
#pragma once

#include <array>
#include <stdexcept>
#include <string>
#include <string_view>

#include "attsvm/pack.hpp"

namespace attsvm {

template <class First, class... Rest>
struct TypeList {
    static constexpr std::array<std::string_view, 1 + sizeof...(Rest)> names{First::name, Rest::name...};

    // The index of the type with this name; `what` is what the error calls it.
    static int find(std::string_view what, std::string_view name) {
        std::string known;
        for (std::size_t k = 0; k < names.size(); ++k) {
            if (names[k] == name) return static_cast<int>(k);
            known.append(k == 0 ? "" : ", ").append(names[k]);
        }
        throw std::invalid_argument(std::string(what) + ": expected one of " + known + ", got " + std::string(name));
    }

    template <class Type>
    static constexpr int index_of() {
        int k = 0;
        for (const std::string_view name : names) {
            if (name == Type::name) return k;
            ++k;
        }
        return -1;
    }

    // action(Type{}) for the type at this index
    template <class Action>
    ATTSVM_INLINE static constexpr auto visit(int index, Action&& action) {
        if constexpr (sizeof...(Rest) > 0)
            if (index > 0) return TypeList<Rest...>::visit(index - 1, action);
        return action(First{});
    }
};

}  // namespace attsvm
