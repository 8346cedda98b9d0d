// `aliquot-arbiter`: lends the cards of a home's slices in turns. README.md of ../compute says how.
//
// Status 0: it served, or another one does; 1: the home cannot be used, or nobody serves it (--status); 2:
// not understood.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "native/common/log.hpp"
#include "native/limiter/arbiter/home.hpp"
#include "native/limiter/arbiter/server.hpp"

namespace {

using namespace aliquot::limiter::arbiter;
using aliquot::common::log_line;
using aliquot::common::LogLevel;

constexpr const char* kUsage =
    "usage: aliquot-arbiter --home DIR [--people] [--linger SECONDS]   lend the cards of its slices in "
    "turns\n"
    "       aliquot-arbiter --home DIR --status   what the one that serves DIR does, as JSON\n"
    "--people: DIR has a folder for each person, by uid, and the slices in these\n";

struct Arguments {
  std::string home;
  double linger_s = 10;
  bool status = false;
  Home::Kind kind = Home::Kind::Own;
};

bool parse(int count, char** given, Arguments& arguments) {
  for (int i = 1; i < count; ++i) {
    const bool more = i + 1 < count;
    if (std::strcmp(given[i], "--home") == 0 && more) {
      arguments.home = given[++i];
    } else if (std::strcmp(given[i], "--linger") == 0 && more) {
      char* end = nullptr;
      arguments.linger_s = std::strtod(given[++i], &end);
      if (*end != '\0' || !(arguments.linger_s >= 0 && arguments.linger_s < 1e9))
        return false;
    } else if (std::strcmp(given[i], "--people") == 0) {
      arguments.kind = Home::Kind::People;
    } else if (std::strcmp(given[i], "--status") == 0) {
      arguments.status = true;
    } else {
      return false;
    }
  }
  return !arguments.home.empty();
}

int show_status(const Home& home) {
  const Descriptor connection(home.connect());
  if (!connection.valid()) {
    log_line(LogLevel::Error, "no arbiter serves these slices");
    return 1;
  }
  char text[4096];
  ssize_t got = 0;
  while ((got = ::read(connection.number(), text, sizeof text)) > 0)
    std::fwrite(text, 1, static_cast<std::size_t>(got), stdout);
  return 0;
}

// True when the home is ours. One that is about to end still has the lock, but its socket is gone.
bool take_over(Home& home) {
  constexpr int kAttempts = 100;
  for (int i = 0; i < kAttempts; ++i) {
    if (home.lock())
      return true;
    if (const Descriptor other(home.connect()); other.valid())
      return false;
    ::usleep(10'000);
  }
  return false;
}

// What helps to answer at once, as far as this user may have it. Returns how many descriptors it may have.
std::uint64_t hurry() {
  ::prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  ::setpriority(PRIO_PROCESS, 0, -10);
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  return files.rlim_cur;
}

} // namespace

int main(int count, char** given) {
  Arguments arguments;
  if (!parse(count, given, arguments)) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  Home home;
  if (const char* problem = home.open(arguments.home, arguments.kind)) {
    log_line(LogLevel::Error, "the arbiter cannot use %s: %s", arguments.home.c_str(), problem);
    return 1;
  }
  if (arguments.status)
    return show_status(home);
  if (!take_over(home)) {
    log_line(LogLevel::Info, "another arbiter serves %s already", arguments.home.c_str());
    return 0;
  }
  const std::uint64_t descriptors = hurry();
  Server server(home, static_cast<std::uint64_t>(arguments.linger_s * 1e9), descriptors);
  if (!server.start())
    return 1;
  server.run();
  return 0;
}
