#include "native/limiter/arbiter/simulation/card.hpp"

#include <algorithm>

namespace aliquot::limiter::arbiter::simulation {

void Clock::at(std::uint64_t time, Action action) {
  events_.push({std::max(time, now_), count_++, std::move(action)});
}

void Clock::run_until(std::uint64_t end) {
  while (!events_.empty() && events_.top().time <= end) {
    // The action may add events, so the event has to leave the queue first; top() is const only for its
    // order.
    const Event event = std::move(const_cast<Event&>(events_.top()));
    events_.pop();
    now_ = event.time;
    event.action();
  }
  now_ = end;
}

void Card::submit(std::size_t slice, std::uint64_t process, std::uint64_t duration, Clock::Action ended) {
  queue_.push_back({slice, process, duration, std::move(ended)});
  if (!running_)
    start();
}

void Card::drop(std::uint64_t process) {
  const auto first = queue_.begin() + (running_ ? 1 : 0);
  queue_.erase(std::remove_if(first, queue_.end(),
                              [process](const Operation& each) { return each.process == process; }),
               queue_.end());
}

const Record& Card::record(std::size_t slice) {
  return of(slice);
}

void Card::start() {
  running_ = true;
  const Operation& next = queue_.front();
  const std::uint64_t change = next.process == last_process_ ? 0 : kSwitch;
  clock_.after(change + next.duration, [this] { finish(); });
}

void Card::finish() {
  const Operation done = std::move(queue_.front());
  queue_.pop_front();
  note(done.slice, clock_.now() - done.duration, clock_.now());
  last_process_ = done.process;
  running_ = false;
  if (!queue_.empty())
    start();
  done.ended();
}

Record& Card::of(std::size_t slice) {
  if (records_.size() <= slice)
    records_.resize(slice + 1);
  return records_[slice];
}

void Card::note(std::size_t slice, std::uint64_t begin, std::uint64_t end) {
  Record& record = of(slice);
  record.busy_ns += end - begin;
  record.disposed_ns += slice == last_slice_ ? end - last_end_ : end - begin;
  ++record.operations;
  busy_ns_ += end - begin;
  last_slice_ = slice;
  last_end_ = end;
  while (begin < end) {
    const std::size_t window = begin / kWindow;
    const std::uint64_t part = std::min(end, (window + 1) * kWindow) - begin;
    if (record.busy_by_window.size() <= window)
      record.busy_by_window.resize(window + 1);
    record.busy_by_window[window] += part;
    begin += part;
  }
}

} // namespace aliquot::limiter::arbiter::simulation
