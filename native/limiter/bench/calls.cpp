// Times batches of driver calls.
//
//   limiter-bench-calls
//
// Reads lines, answers each with one: "WALL_NS CPU_NS" of the whole batch on this thread, or "ok".
//   launch N       cuLaunchKernel
//   info N         cuMemGetInfo
//   copy N         cuMemcpyHtoD of 4 bytes
//   live N SIZE    from now on N allocations of SIZE bytes are held
//   pair N SIZE    N times cuMemAlloc and cuMemFree together: without live allocations of the same block;
//   with
//                  some, a randomly chosen one is freed and another made in its place
//   who            answers the file of the library whose cuMemAlloc it calls
//   tail N SIZE    N single allocations of SIZE bytes, each freed: answers the 99th percentile of
//   cuMemAlloc's
//                  own time, twice
#include <algorithm>
#include <cinttypes>
#include <csignal>
#include <cstring>
#include <memory>
#include <sstream>
#include <string>
#include <sys/prctl.h>
#include <vector>

#include "native/limiter/bench/driver.hpp"

namespace aliquot::limiter::bench {
namespace {

constexpr std::size_t kMaxLive = std::size_t{1} << 20u;

class Calls {
 public:
  Calls() noexcept {
    void* library = open_driver();
    find(library, "cuLaunchKernel", launch_);
    find(library, "cuMemGetInfo_v2", info_);
    find(library, "cuMemcpyHtoD_v2", copy_);
    find(library, "cuMemAlloc_v2", allocate_);
    find(library, "cuMemFree_v2", free_);
    check(allocate_(&target_, 4096), "cuMemAlloc");
  }

  void launch(std::uint64_t count) noexcept {
    // A driver that returns at once looks into no function, so any address stands for one.
    const auto function = reinterpret_cast<CUfunction>(&target_);
    for (; count > 0; --count)
      failed_ |= launch_(function, 1, 1, 1, 32, 1, 1, 0, nullptr, nullptr, nullptr);
  }

  void info(std::uint64_t count) noexcept {
    for (std::size_t free, total; count > 0; --count)
      failed_ |= info_(&free, &total);
  }

  void copy(std::uint64_t count) noexcept {
    for (; count > 0; --count)
      failed_ |= copy_(target_, &count, 4);
  }

  void live(std::size_t count, std::size_t size) noexcept {
    for (; live_count_ > count; --live_count_)
      failed_ |= free_(live_[live_count_ - 1]);
    for (; live_count_ < count && live_count_ < kMaxLive; ++live_count_)
      failed_ |= allocate_(&live_[live_count_], size);
  }

  void pair(std::uint64_t count, std::size_t size) noexcept {
    for (; count > 0; --count) {
      CUdeviceptr& place = live_count_ == 0 ? spare_ : live_[random() % live_count_];
      if (place != 0)
        failed_ |= free_(place);
      failed_ |= allocate_(&place, size);
    }
  }

  std::int64_t tail(std::size_t count, std::size_t size) {
    std::vector<std::int64_t> times(std::max<std::size_t>(count, 1));
    for (std::int64_t& time : times) {
      const std::int64_t begin = clock_ns(CLOCK_MONOTONIC);
      failed_ |= allocate_(&spare_, size);
      time = clock_ns(CLOCK_MONOTONIC) - begin;
      failed_ |= free_(spare_);
    }
    spare_ = 0;
    const auto place = times.begin() + static_cast<std::ptrdiff_t>(times.size() * 99 / 100);
    std::nth_element(times.begin(), place, times.end());
    return *place;
  }

  // The library whose functions are called, as the loader knows it.
  [[nodiscard]] const char* who() const noexcept {
    Dl_info found{};
    const void* address = reinterpret_cast<const void*>(allocate_);
    return dladdr(address, &found) != 0 && found.dli_fname != nullptr ? found.dli_fname : "unknown";
  }

  [[nodiscard]] int failed() const noexcept { return failed_; }

 private:
  std::uint64_t random() noexcept { // xorshift64 (Marsaglia 2003)
    seed_ ^= seed_ << 13u;
    seed_ ^= seed_ >> 7u;
    seed_ ^= seed_ << 17u;
    return seed_;
  }

  decltype(&::cuLaunchKernel) launch_ = nullptr;
  decltype(&::cuMemGetInfo_v2) info_ = nullptr;
  decltype(&::cuMemcpyHtoD_v2) copy_ = nullptr;
  decltype(&::cuMemAlloc_v2) allocate_ = nullptr;
  decltype(&::cuMemFree_v2) free_ = nullptr;
  std::unique_ptr<CUdeviceptr[]> live_ = std::make_unique<CUdeviceptr[]>(kMaxLive);
  std::size_t live_count_ = 0;
  CUdeviceptr target_ = 0, spare_ = 0;
  std::uint64_t seed_ = 88172645463325252;
  int failed_ = 0;
};

bool act(Calls& calls, const char* command, std::uint64_t count, std::uint64_t size) noexcept {
  if (std::strcmp(command, "launch") == 0)
    calls.launch(count);
  else if (std::strcmp(command, "info") == 0)
    calls.info(count);
  else if (std::strcmp(command, "copy") == 0)
    calls.copy(count);
  else if (std::strcmp(command, "pair") == 0)
    calls.pair(count, size);
  else if (std::strcmp(command, "live") == 0)
    calls.live(count, size);
  else
    return false;
  return true;
}

int serve() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  Calls calls;
  std::printf("ready\n");
  std::fflush(stdout);
  char line[128];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    std::uint64_t count = 0, size = 0;
    std::string name;
    std::istringstream words(line);
    if (words >> name && name == "who") {
      std::printf("%s\n", calls.who());
      std::fflush(stdout);
      continue;
    }
    if (!(words >> count))
      give_up("cannot be read", 0);
    words >> size; // 0 where there is none
    const char* const command = name.c_str();
    if (name == "tail") {
      const std::int64_t found = calls.tail(count, size);
      if (calls.failed() != 0)
        give_up(command, calls.failed());
      std::printf("%" PRId64 " %" PRId64 "\n", found, found);
      std::fflush(stdout);
      continue;
    }
    const std::int64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID), wall = clock_ns(CLOCK_MONOTONIC);
    if (!act(calls, command, count, size))
      give_up(command, 0);
    const std::int64_t wall_took = clock_ns(CLOCK_MONOTONIC) - wall;
    const std::int64_t cpu_took = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    if (calls.failed() != 0)
      give_up(command, calls.failed());
    std::printf("%" PRId64 " %" PRId64 "\n", wall_took, cpu_took);
    std::fflush(stdout);
  }
  return 0;
}

} // namespace
} // namespace aliquot::limiter::bench

int main() {
  return aliquot::limiter::bench::serve();
}
