#include "native/limiter/arbiter/poller.hpp"

#include <sys/epoll.h>
#include <unistd.h>

namespace aliquot::limiter::arbiter {

void Descriptor::reset(int number) noexcept {
  if (number_ >= 0)
    ::close(number_);
  number_ = number;
}

Poller::Poller() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

bool Poller::add(int descriptor, Source& source) noexcept {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = &source;
  return ::epoll_ctl(epoll_.number(), EPOLL_CTL_ADD, descriptor, &event) == 0;
}

void Poller::change(int descriptor, Source& source, bool heard) noexcept {
  epoll_event event{};
  event.events = heard ? std::uint32_t{EPOLLIN} : 0;
  event.data.ptr = &source;
  ::epoll_ctl(epoll_.number(), EPOLL_CTL_MOD, descriptor, &event);
}

void Poller::remove(int descriptor) noexcept {
  ::epoll_ctl(epoll_.number(), EPOLL_CTL_DEL, descriptor, nullptr);
}

void Poller::wait() {
  constexpr int kMost = 64;
  epoll_event events[kMost];
  const int count = ::epoll_wait(epoll_.number(), events, kMost, -1);
  for (int i = 0; i < count; ++i)
    static_cast<Source*>(events[i].data.ptr)->ready(events[i].events);
}

} // namespace aliquot::limiter::arbiter
