#include "native/simgpu/machine/controls.hpp"

#include <ctime>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <utility>

#include "native/simgpu/machine/machine_files.hpp"

namespace aliquot::simgpu::machine {

// Named so that a reset of the machine removes it too.
std::unique_ptr<Controls> Controls::open(const std::string& home, const std::string& setting,
                                         std::string& message) {
  std::string path = machine_path(home, setting) + ".controls";
  Mapping mapping = open_region(path, {kControlMagic, sizeof(ControlRegion)}, setting, true, message);
  if (!mapping)
    return nullptr;
  return std::unique_ptr<Controls>(new Controls(std::move(mapping), std::move(path)));
}

// Each time through a descriptor of its own: a lock belongs to the open file, which threads and forked
// children would share.
int Controls::take_lock() const noexcept {
  const int file = ::open(path_.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  constexpr timespec kPause{0, 1'000'000};
  for (int attempt = 0; file >= 0 && attempt < 200; ++attempt) {
    if (::flock(file, LOCK_EX | LOCK_NB) == 0)
      return file;
    ::nanosleep(&kPause, nullptr);
  }
  if (file >= 0)
    ::close(file);
  return -1;
}

void Controls::drop_lock(int lock) noexcept {
  ::close(lock);
}

} // namespace aliquot::simgpu::machine
