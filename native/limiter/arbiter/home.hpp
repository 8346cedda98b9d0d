// The folder in which the slices lie: checked, locked by one arbiter, watched for slices that come and go.
#pragma once

#include <string>
#include <vector>

#include "native/limiter/arbiter/poller.hpp"
#include "native/limiter/arbiter/slice_folder.hpp"

namespace aliquot::limiter::arbiter {

class Home {
 public:
  static constexpr char kLock[] = ".arbiter.lock";
  static constexpr char kStatus[] = ".arbiter";

  // Null is success; otherwise why it cannot be used.
  const char* open(const std::string& path);
  int folder() const noexcept { return folder_.number(); }

  bool lock() noexcept; // false where another arbiter has it
  // The socket that answers with the status. -1 where that fails.
  int listen() noexcept;
  int connect() const noexcept; // to the one of whoever has the lock
  void remove_status() noexcept;

  int watch() noexcept; // a descriptor that can be read when slices came or went; -1 where there is none

  struct Entry {
    std::string name;
    FileIdentity identity;
  };
  std::vector<Entry> slices() const; // by their names only: what is in them is not checked

 private:
  std::string path_;
  Descriptor folder_;
  Descriptor lock_;
};

} // namespace aliquot::limiter::arbiter
