// A slice's folder from the arbiter's side: its files, checked before they are believed, and its socket.
//
// The folder, `limits` and `grant` must belong to this user and be writable by nobody else; links are
// refused. `account` belongs to the tenant, and is only asked whose it is.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <sys/types.h>

#include "aliquot/slice_layout.hpp"
#include "native/limiter/arbiter/member.hpp"

namespace aliquot::limiter::arbiter {

// Identifies a file as long as somebody has it open.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileIdentity&) const = default;
};

class SliceFolder {
 public:
  // Null with a reason where it is no slice that this user may serve.
  static std::unique_ptr<SliceFolder> open(int home, const std::string& name, const char*& problem);
  ~SliceFolder();
  SliceFolder(const SliceFolder&) = delete;
  SliceFolder& operator=(const SliceFolder&) = delete;

  const std::string& name() const noexcept { return name_; }
  FileIdentity identity() const noexcept { return identity_; }
  bool removed() const noexcept; // from its home, which does not stop whoever runs on it

  layout::Grant& grant() noexcept { return *grant_; }
  std::uint64_t generation() const noexcept { return limits_->generation.load(std::memory_order_acquire); }
  unsigned device_count() const noexcept { return device_count_; }
  std::string card(unsigned device) const; // two slices share a card if this is the same
  Terms terms(unsigned device) const noexcept;
  bool may_connect(uid_t user) const noexcept;

  // Makes the socket; -1 where that fails.
  int listen() noexcept;
  void remove_socket() noexcept;

 private:
  SliceFolder() = default;
  bool map(const char*& problem) noexcept;

  std::string name_;
  FileIdentity identity_;
  int folder_ = -1;
  uid_t tenant_ = 0;
  unsigned device_count_ = 0;
  const layout::Limits* limits_ = nullptr;
  layout::Grant* grant_ = nullptr;
};

} // namespace aliquot::limiter::arbiter
