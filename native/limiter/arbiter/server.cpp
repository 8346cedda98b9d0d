#include "native/limiter/arbiter/server.hpp"

#include <algorithm>
#include <csignal>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "native/common/log.hpp"
#include "native/limiter/arbiter/monotonic.hpp"
#include "native/limiter/arbiter/status.hpp"

namespace aliquot::limiter::arbiter {
namespace {

using common::log_line;
using common::LogLevel;

constexpr std::uint64_t kTick = 100 * kMillisecond;
constexpr std::uint64_t kScan = 2'000 * kMillisecond; // should the watch have missed something

} // namespace

Server::Server(Home& home, std::uint64_t linger_ns, std::uint64_t descriptors)
    : home_(home), linger_ns_(linger_ns), crowd_(Crowd::connections_of_a_user(descriptors)) {}

bool Server::listen_to(int descriptor, std::function<void()> answer, const char* what) {
  listeners_.emplace_back(descriptor, std::move(answer));
  if (descriptor >= 0 && poller_.add(descriptor, listeners_.back()))
    return true;
  log_line(LogLevel::Error, "the arbiter cannot make %s: errno %d", what, errno);
  return false;
}

bool Server::start() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int each : {SIGTERM, SIGINT, SIGHUP})
    sigaddset(&signals, each);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  timer_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  signals_ = ::signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
  status_ = home_.listen();
  watch_ = home_.watch();
  began_ = needed_at_ = now_ns();
  return poller_.valid() &&
         listen_to(
             timer_, [this] { drain_timer(); }, "a timer") &&
         listen_to(
             signals_, [this] { ended_ = true; }, "a descriptor for signals") &&
         listen_to(
             status_, [this] { answer_status(); }, "its socket in the home") &&
         listen_to(watch_, [this] { drain_watch(); }, "a watch on the home");
}

void Server::run() {
  while (!ended_) {
    const std::uint64_t now = now_ns();
    cards_.advance(now);
    if (now >= next_tick_)
      tick(now);
    if (changed_ || now >= next_scan_)
      scan(now);
    if (nobody_needs_it(now))
      break;
    arm();
    poller_.wait();
    for (ServedSlice& slice : slices_)
      slice.retire_gone();
  }
  say_good_bye();
}

void Server::drain_timer() {
  std::uint64_t expirations = 0;
  if (::read(timer_, &expirations, sizeof expirations) > 0)
    armed_ = 0;
}

void Server::drain_watch() {
  alignas(inotify_event) char events[4096];
  while (::read(watch_, events, sizeof events) > 0) {
  }
  changed_ = true;
}

void Server::arm() {
  const std::uint64_t next = std::min({next_tick_, next_scan_, cards_.next_call()});
  if (next == armed_)
    return;
  armed_ = next;
  itimerspec when{};
  when.it_value.tv_sec = static_cast<time_t>(next / 1'000'000'000u);
  when.it_value.tv_nsec = static_cast<long>(next % 1'000'000'000u);
  ::timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr);
}

void Server::tick(std::uint64_t now) {
  next_tick_ = now + kTick;
  crowd_.tick();
  for (ServedSlice& slice : slices_)
    slice.tick(now);
  cards_.advance_all(now); // so that what has been held and waited for shows
}

void Server::scan(std::uint64_t now) {
  changed_ = false;
  next_scan_ = now + kScan;
  const std::vector<Home::Entry> there = home_.slices();
  let_go(there);
  for (const Home::Entry& entry : there) {
    if (!has(entry.identity))
      adopt(entry, now);
  }
}

bool Server::has(FileIdentity identity) const noexcept {
  return std::any_of(slices_.begin(), slices_.end(),
                     [&](const ServedSlice& each) { return each.folder().identity() == identity; });
}

void Server::adopt(const Home::Entry& entry, std::uint64_t now) {
  const char* problem = "it can have no socket";
  std::unique_ptr<SliceFolder> folder = SliceFolder::open(home_.folder(), entry.name, problem);
  if (folder != nullptr) {
    slices_.emplace_back(std::move(folder), cards_, crowd_, poller_, now);
    if (slices_.back().start(now)) {
      log_line(LogLevel::Info, "the arbiter serves the slice %s", entry.name.c_str());
      return;
    }
    slices_.pop_back();
    cards_.drop_empty();
  }
  const std::pair<FileIdentity, std::string> refusal{entry.identity, problem};
  if (std::find(refused_.begin(), refused_.end(), refusal) != refused_.end())
    return;
  refused_.push_back(refusal);
  log_line(LogLevel::Warning, "the arbiter does not serve the slice %s: %s", entry.name.c_str(), problem);
}

// A slice that was removed is served until the last process on it ends.
void Server::let_go(const std::vector<Home::Entry>& there) {
  const auto is_there = [&](FileIdentity identity) {
    return std::any_of(there.begin(), there.end(),
                       [&](const auto& each) { return each.identity == identity; });
  };
  std::erase_if(refused_, [&](const auto& each) { return !is_there(each.first); });
  for (auto slice = slices_.begin(); slice != slices_.end();) {
    const bool gone = !is_there(slice->folder().identity());
    if (gone)
      slice->stop_listening();
    slice = gone && !slice->in_use() ? slices_.erase(slice) : std::next(slice);
  }
  cards_.drop_empty();
}

// Whoever comes after the last look finds no socket that answers, and waits for the lock.
bool Server::nobody_needs_it(std::uint64_t now) {
  if (!slices_.empty()) {
    needed_at_ = now;
    return false;
  }
  if (now - needed_at_ < linger_ns_)
    return false;
  home_.remove_status();
  scan(now);
  if (slices_.empty())
    return true;
  needed_at_ = now;
  status_ = home_.listen();
  listen_to(status_, [this] { answer_status(); }, "its socket in the home");
  return false;
}

void Server::answer_status() {
  const Descriptor connection(::accept4(status_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!connection.valid())
    return;
  cards_.advance_all(now_ns());
  const std::string text = status_text(began_, slices_.size(), cards_, now_ns());
  const int room = static_cast<int>(text.size()) + 4096;
  ::setsockopt(connection.number(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  if (::send(connection.number(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
    log_line(LogLevel::Debug, "the arbiter's status was not read");
}

void Server::say_good_bye() {
  for (ServedSlice& slice : slices_)
    slice.say_good_bye();
  cards_.wake_all();
  home_.remove_status();
}

} // namespace aliquot::limiter::arbiter
