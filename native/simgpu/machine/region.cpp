#include "native/simgpu/machine/region.hpp"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "native/simgpu/machine/home.hpp"

namespace aliquot::simgpu::machine {
namespace {

class File {
 public:
  explicit File(int fd) noexcept : fd_(fd) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ >= 0)
      ::close(fd_);
  }
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_;
};

void read_boot_id(char (&boot_id)[40]) noexcept {
  std::memset(boot_id, 0, sizeof boot_id);
  const File file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  if (file) [[maybe_unused]]
    const ssize_t got = ::read(file.get(), boot_id, 36);
}

// What tells this host from others, and outlives a boot.
std::uint64_t host_seed() noexcept {
  char text[256] = {};
  const File file(::open("/etc/machine-id", O_RDONLY | O_CLOEXEC));
  if (!file || ::read(file.get(), text, 32) <= 0)
    ::gethostname(text, sizeof text - 1);
  return stable_hash(text);
}

Header fresh_header(const RegionKind& kind, const std::string& setting) noexcept {
  Header header{};
  header.magic = kind.magic;
  header.version = kind.magic == kHostMagic ? kHostLayoutVersion : kLayoutVersion;
  header.header_bytes = sizeof(Header);
  header.region_bytes = kind.bytes;
  header.max_cards = kMaxCards;
  header.max_processes = kMaxProcesses;
  read_boot_id(header.boot_id);
  std::snprintf(header.setting, sizeof header.setting, "%s", setting.c_str());
  header.uuid_seed = host_seed();
  return header;
}

std::string folder_of(const std::string& path) {
  return path.substr(0, path.rfind('/'));
}

enum class Verdict : std::uint8_t { Good, Missing, Stale, Bad };

Verdict bad(std::string& message, const std::string& path, const std::string& why) {
  message = "the simulated machine's state " + path + " cannot be used: " + why +
            " (`aliquot simgpu reset` starts afresh)";
  return Verdict::Bad;
}

Verdict check_header(const std::string& path, const Header& found, const Header& wanted,
                     std::string& message) {
  if (found.magic != wanted.magic)
    return bad(message, path, "it is not one");
  if (found.version != wanted.version)
    return bad(message, path,
               "it has layout version " + std::to_string(found.version) + ", this library knows " +
                   std::to_string(wanted.version));
  if (std::memcmp(found.boot_id, wanted.boot_id, sizeof found.boot_id) != 0)
    return Verdict::Stale;
  // Everything after the boot id and before it must be as this version writes it.
  if (found.header_bytes != wanted.header_bytes || found.region_bytes != wanted.region_bytes ||
      found.max_cards != wanted.max_cards || found.max_processes != wanted.max_processes ||
      std::memcmp(found.setting, wanted.setting, sizeof found.setting) != 0)
    return bad(message, path, "its header is damaged");
  return Verdict::Good;
}

Verdict examine(const std::string& path, const File& file, const Header& wanted, std::string& message) {
  if (!file)
    return errno == ENOENT ? Verdict::Missing : bad(message, path, std::strerror(errno));
  struct stat info;
  if (::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode))
    return bad(message, path, "it is not a plain file");
  if (!is_trusted(folder_of(path), info))
    return bad(message, path, "it belongs to another user");
  Header found;
  if (::pread(file.get(), &found, sizeof found, 0) != static_cast<ssize_t>(sizeof found))
    return bad(message, path, "it is cut short");
  const Verdict verdict = check_header(path, found, wanted, message);
  if (verdict == Verdict::Good && static_cast<std::uint64_t>(info.st_size) != wanted.region_bytes)
    return bad(message, path, "it is cut short");
  return verdict;
}

// Writes a complete region under another name, and gives it its own in one step. With `replace` an old one
// goes; otherwise somebody else's new one stays, and is as good.
bool make_region(const std::string& path, const Header& header, bool replace, std::string& message) {
  static std::atomic<unsigned> serial{0};
  const std::string fresh = path + "." + std::to_string(::getpid()) + "." + std::to_string(serial++);
  bool made = false;
  {
    const File file(::open(fresh.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    made = file && share_file(folder_of(path), file.get()) &&
           ::ftruncate(file.get(), static_cast<off_t>(header.region_bytes)) == 0 &&
           ::pwrite(file.get(), &header, sizeof header, 0) == static_cast<ssize_t>(sizeof header);
  }
  if (made && replace)
    made = ::rename(fresh.c_str(), path.c_str()) == 0;
  else if (made)
    made = ::link(fresh.c_str(), path.c_str()) == 0 || errno == EEXIST;
  if (!made)
    message = "cannot make the simulated machine's state " + path + ": " + std::strerror(errno);
  ::unlink(fresh.c_str());
  return made;
}

// A region of an earlier boot is replaced once, by whoever holds the lock first. The lock goes with its
// holder.
bool replace_stale(const std::string& path, const Header& wanted, std::string& message) {
  const File lock(::open((path + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (lock)
    share_file(folder_of(path), lock.get()); // its maker's to do; others may not
  if (!lock || ::flock(lock.get(), LOCK_EX) != 0) {
    message = "cannot lock " + path + ".lock: " + std::strerror(errno);
    return false;
  }
  const File again(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (examine(path, again, wanted, message) != Verdict::Stale)
    return true; // done already, or the caller will see what is wrong
  return make_region(path, wanted, true, message);
}

Mapping map_file(const std::string& path, const File& file, std::size_t bytes, std::string& message) {
  void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file.get(), 0);
  if (base != MAP_FAILED)
    return {base, bytes};
  message = "cannot map the simulated machine's state " + path + ": " + std::strerror(errno);
  return {};
}

} // namespace

Mapping::Mapping(Mapping&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(size_, other.size_);
  return *this;
}

Mapping::~Mapping() {
  if (base_ != nullptr)
    ::munmap(base_, size_);
}

Mapping open_region(const std::string& path, const RegionKind& kind, const std::string& setting, bool create,
                    std::string& message) {
  if (setting.size() >= sizeof(Header::setting)) {
    message = "the card setting is too long";
    return {};
  }
  const Header wanted = fresh_header(kind, setting);
  for (int attempt = 0; attempt < 3; ++attempt) {
    const File file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    switch (examine(path, file, wanted, message)) {
    case Verdict::Good:
      return map_file(path, file, kind.bytes, message);
    case Verdict::Bad:
      return {};
    case Verdict::Missing:
      if (!create) {
        message = "there is no simulated machine at " + path;
        return {};
      }
      if (!make_region(path, wanted, false, message))
        return {};
      break;
    case Verdict::Stale:
      if (!replace_stale(path, wanted, message))
        return {};
      break;
    }
  }
  if (message.empty())
    message = "the simulated machine's state " + path + " keeps vanishing";
  return {};
}

} // namespace aliquot::simgpu::machine
