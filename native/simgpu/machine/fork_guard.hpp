// Tells a forked child from the process that opened the machine: a child has no slot, and its parent's is not
// its own. Costs one load, where getpid would be a system call.
#pragma once

#include <cstdint>
#include <sys/mman.h>
#include <unistd.h>

namespace aliquot::simgpu::machine {

class ForkGuard {
 public:
  ForkGuard() noexcept : pid_(::getpid()) {
    void* page = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
      return;
    constexpr int kWipeOnFork = 18; // MADV_WIPEONFORK, Linux 4.14; unknown to older C libraries
    if (::madvise(page, kPage, kWipeOnFork) != 0) {
      ::munmap(page, kPage);
      return;
    }
    mark_ = static_cast<volatile std::uint8_t*>(page);
    *mark_ = 1;
  }
  ~ForkGuard() {
    if (mark_ != nullptr)
      ::munmap(const_cast<std::uint8_t*>(mark_), kPage);
  }
  ForkGuard(const ForkGuard&) = delete;
  ForkGuard& operator=(const ForkGuard&) = delete;

  bool same_process() const noexcept { return mark_ != nullptr ? *mark_ == 1 : ::getpid() == pid_; }

 private:
  static constexpr std::size_t kPage = 4096;
  volatile std::uint8_t* mark_ = nullptr;
  pid_t pid_;
};

} // namespace aliquot::simgpu::machine
