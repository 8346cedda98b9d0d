// The default stream of a call that came in through a `_ptds` or `_ptsz` symbol is the calling thread's.
//
// Where a function takes a stream, the generated variant passes CU_STREAM_PER_THREAD in place of the null
// stream. Where it takes none (a synchronous copy), the variant opens a scope, and the driver asks
// default_stream_is_per_thread().
#pragma once

#include <cstdint>

namespace aliquot::api {

inline constinit thread_local bool per_thread_default_scope = false;

inline bool default_stream_is_per_thread() noexcept {
  return per_thread_default_scope;
}

class PerThreadDefaultScope {
 public:
  PerThreadDefaultScope() noexcept : before_(per_thread_default_scope) { per_thread_default_scope = true; }
  ~PerThreadDefaultScope() { per_thread_default_scope = before_; }
  PerThreadDefaultScope(const PerThreadDefaultScope&) = delete;
  PerThreadDefaultScope& operator=(const PerThreadDefaultScope&) = delete;

 private:
  bool before_;
};

// CU_STREAM_PER_THREAD (cuda.h) for the null stream; any other handle as it is.
template <typename Stream>
Stream per_thread(Stream stream) noexcept {
  return stream != nullptr ? stream : reinterpret_cast<Stream>(std::uintptr_t{2});
}

} // namespace aliquot::api
