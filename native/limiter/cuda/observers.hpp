// All observers, and what passes a call through them to the driver.
#pragma once

#include "native/limiter/cuda/observer.hpp"
#include "native/limiter/cuda/stream_observers.hpp"
#include "native/limiter/cuda/work_observers.hpp"

namespace aliquot::limiter {

template <typename Entry, StreamVariant Variant, typename Result, typename... Parameters>
struct Forwarder {
  Result (*function)(Parameters...);
  [[gnu::always_inline]] Result operator()(Parameters... arguments) const {
    if constexpr (Observer<Entry>::kObserves) {
      constexpr bool kPerThread = Variant != StreamVariant::none;
      return Observer<Entry>::template around<kPerThread>([&] { return function(arguments...); },
                                                          arguments...);
    } else {
      return function(arguments...);
    }
  }
};
template <typename Entry, StreamVariant Variant = StreamVariant::none, typename Result,
          typename... Parameters>
Forwarder<Entry, Variant, Result, Parameters...> forward(Result (*function)(Parameters...)) noexcept {
  return {function};
}

} // namespace aliquot::limiter
