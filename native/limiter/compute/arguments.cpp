#include "native/limiter/compute/arguments.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "native/limiter/compute/driver_call.hpp"

namespace aliquot::limiter::compute {
namespace {

constexpr std::size_t kMostParameters = 64, kMostBytes = 512; // what is behind them tells no more
constexpr std::size_t kMostLayouts = 65'536;
constexpr std::uint64_t kLeastAddress = std::uint64_t{1} << 32u; // no device memory lies below
constexpr int kKeptBits = 4; // two numbers that differ by less than a sixteenth may be the same

// Numbers near each other become one: their kernels take nearly as long.
std::uint64_t rounded(std::uint64_t value) noexcept {
  if (value >= kLeastAddress)
    return 0;
  const int dropped = std::max(0, static_cast<int>(std::bit_width(value)) - kKeptBits);
  return value >> dropped << dropped;
}

class Digest {
 public:
  void add(const void* bytes, std::size_t size) noexcept {
    const auto* at = static_cast<const unsigned char*>(bytes);
    for (std::size_t done = 0; done < size; done += sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, at + done, std::min(size - done, sizeof word));
      sum_ = std::rotl((sum_ ^ rounded(word)) * kMix1, 29);
      any_ = any_ || word < kLeastAddress;
    }
  }
  std::uint64_t value() const noexcept { return any_ ? sum_ | 1u : 0; }

 private:
  std::uint64_t sum_ = kMix2;
  bool any_ = false;
};

struct Packed {
  const unsigned char* bytes = nullptr;
  std::size_t size = 0;
};

// The other way to give parameters: one buffer, named in a list of pairs.
Packed packed(void** extra) noexcept {
  Packed found;
  for (; extra != nullptr && *extra != CU_LAUNCH_PARAM_END; extra += 2) {
    if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER)
      found.bytes = static_cast<const unsigned char*>(extra[1]);
    else if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE && extra[1] != nullptr)
      found.size = *static_cast<const std::size_t*>(extra[1]);
    else
      return {};
  }
  return found.bytes != nullptr ? found : Packed{};
}

} // namespace

// A kernel may stand where a function is expected. May throw std::bad_alloc.
ArgumentTable::Layout ArgumentTable::ask_driver(CUfunction function) {
  const DriverCall call;
  Layout layout;
  std::size_t offset = 0, size = 0, bytes = 0;
  const auto ask = [&](auto call, auto handle) {
    while (layout.size() < kMostParameters && bytes <= kMostBytes &&
           call(handle, layout.size(), &offset, &size) == CUDA_SUCCESS) {
      layout.push_back({static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(size)});
      bytes += size;
    }
  };
  ask(driver().cuFuncGetParamInfo, function);
  if (layout.empty())
    ask(driver().cuKernelGetParamInfo, reinterpret_cast<CUkernel>(function));
  return layout;
}

// May throw std::bad_alloc.
const ArgumentTable::Layout& ArgumentTable::layout_of(CUfunction function) {
  if (const auto found = layouts_.find(function); found != layouts_.end())
    return found->second;
  if (layouts_.size() >= kMostLayouts)
    layouts_.clear();
  return layouts_.emplace(function, ask_driver(function)).first->second;
}

std::uint64_t ArgumentTable::digest(const Arguments& arguments) noexcept {
  const std::lock_guard lock(mutex_);
  Digest digest;
  try {
    const Layout& layout = layout_of(arguments.function);
    const Packed buffer = arguments.parameters == nullptr ? packed(arguments.extra) : Packed{};
    for (std::size_t index = 0; index < layout.size(); ++index) {
      const Parameter& parameter = layout[index];
      if (arguments.parameters != nullptr && arguments.parameters[index] != nullptr)
        digest.add(arguments.parameters[index], std::min<std::size_t>(parameter.size, kMostBytes));
      else if (std::size_t{parameter.offset} + parameter.size <= buffer.size)
        digest.add(buffer.bytes + parameter.offset, std::min<std::size_t>(parameter.size, kMostBytes));
    }
  } catch (const std::bad_alloc&) {
    return 0;
  }
  return digest.value();
}

void ArgumentTable::forget_all() noexcept {
  const std::lock_guard lock(mutex_);
  layouts_.clear();
}

} // namespace aliquot::limiter::compute
