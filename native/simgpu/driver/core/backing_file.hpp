// Memory with a name: a file without a place in any file system, which several mappings, and other processes,
// can show. Sealed at its size, so that nobody can make a mapping of it fault.
//
// Knows nothing of device addresses and accounting.
#pragma once

#include <cstdint>
#include <memory>

namespace aliquot::simgpu::driver {

class BackingFile {
 public:
  // Zeros; nothing of it takes memory before it is touched. Null where the host gives no file.
  static std::shared_ptr<BackingFile> make(std::uint64_t bytes) noexcept;
  // A file that another process (or this one) made. Takes a descriptor of its own; null where `fd` is not
  // such a file, and could therefore shrink.
  static std::shared_ptr<BackingFile> adopt(int fd) noexcept;
  ~BackingFile();
  BackingFile(const BackingFile&) = delete;
  BackingFile& operator=(const BackingFile&) = delete;

  int fd() const noexcept { return fd_; }
  std::uint64_t bytes() const noexcept { return bytes_; }
  // Back to the host; zeros from then on, for everybody.
  void discard(std::uint64_t offset, std::uint64_t bytes) noexcept;

  BackingFile(int fd, std::uint64_t bytes) noexcept : fd_(fd), bytes_(bytes) {}

 private:
  const int fd_;
  const std::uint64_t bytes_;
};

// A place in a file; empty where there is none.
struct FileView {
  std::shared_ptr<BackingFile> file;
  std::uint64_t offset = 0;
  explicit operator bool() const noexcept { return file != nullptr; }
};

// What `from` holds, to where there are zeros; pages of zeros stay holes. False where the host has no
// addresses.
bool copy_file(const FileView& from, const FileView& to, std::uint64_t bytes) noexcept;
// The same for memory.
void copy_touched(std::uint8_t* to, const std::uint8_t* from, std::uint64_t bytes) noexcept;

} // namespace aliquot::simgpu::driver
