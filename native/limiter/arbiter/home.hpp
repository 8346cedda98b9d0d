// The folder in which the slices lie: checked, locked by one arbiter, watched for slices that come and go.
//
// A home of several people has a folder for each, by uid, and the slices in these (../README.md, "Several
// people on one machine").
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

  enum class Kind : std::uint8_t { Own, People };

  // Null is success; otherwise why it cannot be used.
  const char* open(const std::string& path, Kind kind);
  int folder() const noexcept { return folder_.number(); }

  bool lock() noexcept; // false where another arbiter has it
  // The socket that answers with the status. -1 where that fails.
  int listen() noexcept;
  int connect() const noexcept; // to the one of whoever has the lock
  void remove_status() noexcept;

  int watch() noexcept; // a descriptor that can be read when slices came or went; -1 where there is none

  struct Entry {
    std::string name; // from the home: UID/NAME in one of several people
    FileIdentity identity;
  };
  std::vector<Entry> slices(); // by their names only: what is in them is not checked

 private:
  void watch_folder(int folder) noexcept;
  std::vector<Entry> slices_of_people();

  Kind kind_ = Kind::Own;
  Descriptor folder_;
  int watcher_ = -1; // whoever called watch() closes it
  Descriptor lock_;
};

} // namespace aliquot::limiter::arbiter
