// Filling a table of another library's functions.
//
// Danger: members of different function types are filled through untyped pointers, and one function stands
// where others are declared. Both are confined to this file, and rest on the C calling conventions of x86-64
// and AArch64, under which a function may be called with more arguments than it takes.
#pragma once

#include <cstddef>
#include <cstring>
#include <dlfcn.h>

namespace aliquot::limiter {

// A struct that has nothing but function pointers, in the order of `names`, and which of them the library
// has.
template <typename Table>
struct OpenLibrary {
  static constexpr std::size_t kEntries = sizeof(Table) / sizeof(void*);

  Table functions{};
  bool has[kEntries] = {};

  // `fallback` stands for what is missing. With a null handle, that is everything.
  template <typename Fallback>
  void fill(void* handle, const char* const (&names)[kEntries], Fallback* fallback) noexcept {
    for (std::size_t index = 0; index < kEntries; ++index) {
      void* found = handle != nullptr ? dlsym(handle, names[index]) : nullptr;
      has[index] = found != nullptr;
      put(index, found != nullptr ? found : reinterpret_cast<void*>(fallback));
    }
  }

 private:
  void put(std::size_t index, void* function) noexcept {
    static_assert(sizeof(void*) == sizeof(void (*)()));
    std::memcpy(reinterpret_cast<char*>(&functions) + index * sizeof function,
                static_cast<const void*>(&function), sizeof function);
  }
};

} // namespace aliquot::limiter
