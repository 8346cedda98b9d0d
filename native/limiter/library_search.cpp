#include "native/limiter/library_search.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "native/common/log.hpp"

namespace aliquot::limiter {
namespace {

constexpr std::size_t kPathBytes = 4096;
constexpr const char* kFolders[] = {"/usr/local/nvidia/lib64",
                                    "/usr/lib/wsl/lib",
#if defined(__x86_64__)
                                    "/usr/lib/x86_64-linux-gnu",
                                    "/lib/x86_64-linux-gnu",
#elif defined(__aarch64__)
                                    "/usr/lib/aarch64-linux-gnu",
                                    "/lib/aarch64-linux-gnu",
#endif
                                    "/usr/lib64",
                                    "/lib64",
                                    "/usr/lib",
                                    "/lib"};

// The file behind a path: links and bind mounts of our own library are told by it.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileIdentity&) const = default;
};

bool identify(const char* path, FileIdentity& identity) noexcept {
  struct stat status{};
  if (::stat(path, &status) != 0 || !S_ISREG(status.st_mode))
    return false;
  identity = {status.st_dev, status.st_ino};
  return true;
}

class Search {
 public:
  Search(const char* name, const void* own_symbol) noexcept : name_(name) {
    Dl_info info{};
    if (dladdr(own_symbol, &info) != 0 && info.dli_fname != nullptr)
      knows_own_ = identify(info.dli_fname, own_);
  }

  // Opened, unless it is not there, is ours, or is made for another kind of machine.
  void* try_path(const char* path) const noexcept {
    FileIdentity found;
    if (!identify(path, found) || (knows_own_ && found == own_))
      return nullptr;
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
  }

  void* try_folder(const char* folder, std::size_t length) const noexcept {
    char path[kPathBytes];
    if (length == 0)
      return nullptr; // an empty entry means the current folder, which no driver lies in
    const int written = std::snprintf(path, sizeof path, "%.*s/%s", static_cast<int>(length), folder, name_);
    return written > 0 && written < static_cast<int>(sizeof path) ? try_path(path) : nullptr;
  }

  void* in_list(const char* folders) const noexcept {
    while (folders != nullptr && *folders != '\0') {
      const std::size_t length = std::strcspn(folders, ":;");
      if (void* handle = try_folder(folders, length))
        return handle;
      folders += length + (folders[length] != '\0');
    }
    return nullptr;
  }

  void* in_usual_folders() const noexcept {
    for (const char* folder : kFolders) {
      if (void* handle = try_folder(folder, std::strlen(folder)))
        return handle;
    }
    return nullptr;
  }

  void* in_loader_cache() const noexcept;

 private:
  void* in_cache_image(const char* image, std::size_t size) const noexcept;

  const char* name_;
  FileIdentity own_;
  bool knows_own_ = false;
};

// /etc/ld.so.cache in the format of glibc since 2.2 (elf/cache.c: struct cache_file_new): a head, entries,
// and the strings that the entries point to by their offset from the head.
struct CacheHead {
  char magic[20];
  std::uint32_t entries;
  std::uint32_t string_bytes;
  std::uint32_t unused[5];
};
struct CacheEntry {
  std::int32_t flags;
  std::uint32_t name, path;
  std::uint32_t os_version;
  std::uint64_t hardware;
};
constexpr char kCacheMagic[] = "glibc-ld.so.cache1.1";

// A string that ends within the image; null otherwise.
const char* text_at(const char* image, std::size_t size, std::uint32_t offset) noexcept {
  if (offset >= size || std::memchr(image + offset, '\0', size - offset) == nullptr)
    return nullptr;
  return image + offset;
}

void* Search::in_cache_image(const char* image, std::size_t size) const noexcept {
  CacheHead head;
  if (size < sizeof head)
    return nullptr;
  std::memcpy(&head, image, sizeof head);
  if (std::memcmp(head.magic, kCacheMagic, sizeof head.magic) != 0)
    return nullptr;
  for (std::size_t i = 0; i < head.entries && sizeof head + (i + 1) * sizeof(CacheEntry) <= size; ++i) {
    CacheEntry entry;
    std::memcpy(&entry, image + sizeof head + i * sizeof entry, sizeof entry);
    const char* name = text_at(image, size, entry.name);
    const char* path = text_at(image, size, entry.path);
    if (name == nullptr || path == nullptr || std::strcmp(name, name_) != 0)
      continue;
    if (void* handle = try_path(path))
      return handle;
  }
  return nullptr;
}

void* Search::in_loader_cache() const noexcept {
  const int descriptor = ::open("/etc/ld.so.cache", O_RDONLY | O_CLOEXEC);
  if (descriptor < 0)
    return nullptr;
  struct stat status{};
  void* image = MAP_FAILED;
  if (::fstat(descriptor, &status) == 0 && status.st_size > 0) {
    image = ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0);
  }
  ::close(descriptor);
  if (image == MAP_FAILED)
    return nullptr;
  void* handle = in_cache_image(static_cast<const char*>(image), static_cast<std::size_t>(status.st_size));
  ::munmap(image, static_cast<std::size_t>(status.st_size));
  return handle;
}

} // namespace

void* open_real_library(const char* name, const char* stated, const void* own_symbol) noexcept {
  const Search search(name, own_symbol);
  if (stated != nullptr) {
    void* handle = search.try_path(stated);
    if (handle == nullptr) {
      const char* reason = dlerror();
      common::log_line(common::LogLevel::Error, "%s cannot be used: %s", stated,
                       reason != nullptr ? reason : "it is not there, or is the limiter itself");
    }
    return handle;
  }
  if (void* handle = search.in_list(std::getenv("LD_LIBRARY_PATH")))
    return handle;
  if (void* handle = search.in_loader_cache())
    return handle;
  return search.in_usual_folders();
}

} // namespace aliquot::limiter
