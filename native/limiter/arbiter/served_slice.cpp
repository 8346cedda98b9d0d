#include "native/limiter/arbiter/served_slice.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "native/limiter/arbiter/monotonic.hpp"

namespace aliquot::limiter::arbiter {
namespace {

constexpr unsigned kMessagesAtATime = 16; // of one process, before others are heard
// In a tick of 100 ms. An honest process says a few for each turn of 2 ms; it is muted for the rest of the
// tick beyond them, and its own socket fills.
constexpr unsigned kMessagesOfProcess = 2'000;
constexpr unsigned kMessagesOfSlice = 8'000;
constexpr unsigned kAcceptedAtATime = 16;

} // namespace

Connection::~Connection() {
  if (admitted_)
    slice_.crowd_.leave(user_);
}

void Connection::ready(std::uint32_t events) {
  if (gone_)
    return;
  for (unsigned i = 0; i < kMessagesAtATime; ++i) {
    if (messages_ >= kMessagesOfProcess || !slice_.may_speak(user_)) {
      if ((events & (EPOLLHUP | EPOLLERR)) != 0)
        hang_up();
      else if (!muted_)
        slice_.poller_.mute(socket(), *this);
      muted_ = true;
      return;
    }
    if (!read_one())
      return;
  }
}

void Connection::allow_more(Poller& poller) noexcept {
  messages_ = 0;
  if (muted_ && !gone_)
    poller.unmute(socket(), *this);
  muted_ = false;
}

// False when there is nothing more for now.
bool Connection::read_one() {
  alignas(compute::Message) char bytes[sizeof(compute::Message) + 1];
  const ssize_t got = ::recv(socket(), bytes, sizeof bytes, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR))
    return false;
  ++messages_;
  if (got != static_cast<ssize_t>(sizeof(compute::Message)) ||
      !take(*reinterpret_cast<const compute::Message*>(bytes))) {
    hang_up();
    return false;
  }
  return true;
}

bool Connection::take(const compute::Message& message) {
  if (!greeted_) {
    greeted_ = message.kind == compute::MessageKind::Hello && message.value == layout::kVersion;
    return greeted_;
  }
  const bool known = message.kind > compute::MessageKind::Hello && message.kind <= compute::MessageKind::Idle;
  if (!known || message.device >= slice_.places_.size())
    return false;
  slice_.tell(user_, process_, message);
  return true;
}

bool Connection::admit(pid_t pid) {
  admitted_ = slice_.crowd_.admit(user_);
  if (!admitted_ || !slice_.poller_.add(socket(), *this))
    return false;
#ifdef SYS_pidfd_open
  if (pid > 0) // 0: it lives in a pid namespace of which we see nothing
    process_descriptor_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (process_descriptor_.valid())
    slice_.poller_.add(process_descriptor_.number(), end_);
#endif
  return true;
}

void Connection::hang_up() {
  if (gone_)
    return;
  gone_ = true;
  slice_.poller_.remove(socket());
  if (process_descriptor_.valid())
    slice_.poller_.remove(process_descriptor_.number());
  slice_.leave_cards(process_);
}

ServedSlice::ServedSlice(std::unique_ptr<SliceFolder> folder, Cards& cards, Crowd& crowd, Poller& poller,
                         std::uint64_t now)
    : folder_(std::move(folder)), cards_(cards), crowd_(crowd), poller_(poller),
      generation_(folder_->generation()) {
  for (unsigned device = 0; device < folder_->device_count(); ++device) {
    SharedCard& card = cards_.at(folder_->card(device));
    places_.push_back(
        {&card, card.join(folder_->terms(device), folder_->grant().devices[device], folder_->name(), now)});
  }
}

ServedSlice::~ServedSlice() {
  for (const Place& place : places_)
    place.card->leave(place.member, now_ns());
}

bool ServedSlice::start(std::uint64_t now) {
  listener_.reset(folder_->listen());
  if (!listener_.valid() || !poller_.add(listener_.number(), *this))
    return false;
  layout::Grant& grant = folder_->grant();
  grant.epoch.fetch_add(1);
  grant.alive_ns.store(now);
  return true;
}

void ServedSlice::ready(std::uint32_t) {
  for (unsigned i = 0; i < kAcceptedAtATime && listener_.valid(); ++i) {
    const int socket = ::accept4(listener_.number(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (socket >= 0) {
      accept_one(socket);
      continue;
    }
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) { // no descriptor is left, for one
      poller_.mute(listener_.number(), *this);
      listener_muted_ = true;
    }
    return;
  }
}

void ServedSlice::accept_one(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  const bool welcome = ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
                       folder_->may_connect(peer.uid) && connections_.size() < layout::kMaxProcesses;
  Connection& connection = connections_.emplace_back(*this, socket, peer.uid, ++last_process_);
  if (!welcome || !connection.admit(peer.pid))
    connections_.pop_back();
}

bool ServedSlice::may_speak(uid_t user) const noexcept {
  return messages_ < kMessagesOfSlice && crowd_.may_speak(user);
}

void ServedSlice::tell(uid_t user, ProcessId process, const compute::Message& message) {
  ++messages_;
  crowd_.heard(user);
  const Place& place = places_[message.device];
  place.card->tell(place.member, process, message, now_ns());
}

void ServedSlice::leave_cards(ProcessId process) {
  for (const Place& place : places_)
    place.card->hang_up(place.member, process, now_ns());
}

void ServedSlice::tick(std::uint64_t now) {
  folder_->grant().alive_ns.store(now, std::memory_order_release);
  messages_ = 0;
  for (Connection& connection : connections_)
    connection.allow_more(poller_);
  if (listener_muted_)
    poller_.unmute(listener_.number(), *this);
  listener_muted_ = false;
  const std::uint64_t generation = folder_->generation();
  if (generation == generation_)
    return;
  generation_ = generation;
  for (unsigned device = 0; device < places_.size(); ++device)
    places_[device].card->change(places_[device].member, folder_->terms(device), now);
}

void ServedSlice::retire_gone() {
  connections_.remove_if([](const Connection& each) { return each.gone(); });
}

void ServedSlice::stop_listening() {
  if (listener_.valid())
    poller_.remove(listener_.number());
  listener_.reset();
  listener_muted_ = false;
}

void ServedSlice::say_good_bye() {
  folder_->remove_socket();
  folder_->grant().alive_ns.store(0);
}

} // namespace aliquot::limiter::arbiter
