#include "native/limiter/compute/device_gate.hpp"

#include <algorithm>
#include <new>
#include <utility>

#include "native/limiter/compute/device_terms.hpp"
#include "native/limiter/compute/driver_call.hpp"
#include "native/limiter/compute/futex.hpp"
#include "native/limiter/compute/gate.hpp"

namespace aliquot::limiter::compute {
namespace {

constexpr std::uint64_t kArbiterSilence = 500'000'000; // after which it is taken to be gone
constexpr std::uint64_t kUnwatched = 1'000'000; // ns of work between markers while nobody else wants the card
constexpr std::uint64_t kLeastMark = 20'000;    // ns; a marker costs about one
constexpr std::uint64_t kMostUnseen = 100'000;  // between markers while others wait: prices are only guesses
constexpr std::uint64_t kMostAtPace = 20'000'000; // in flight without an arbiter
constexpr std::uint64_t kBetweenWants = 100'000'000;
constexpr std::uint64_t kIdleWindow = 50'000; // where the grant says none
constexpr std::uint64_t kUnheard = 5'000'000; // after which a turn that we gave up is ours again
// Work that does not end may be waiting for what is held back behind it: then one more is let through.
constexpr std::uint64_t kEscape = 30'000'000, kEscapeUnknown = 1'000'000'000;
constexpr std::uint64_t kLonerLooks = 1'000'000; // so long after the end that it expects, at the latest
// Work that is so much longer than the bound is waited for to its end: the doubt about its price is more.
constexpr std::uint64_t kForeseen = 10;
constexpr std::uint64_t kSparely = 16;       // one in so many is measured where latency counts
constexpr std::uint64_t kVagueLook = 50'000; // ns

const layout::DeviceGrant kNoGrant{};

// How much may be admitted between two markers while others want the card.
std::uint64_t marked_each(std::uint64_t in_flight_ns) noexcept {
  return std::clamp(in_flight_ns == kNoEnd ? 0 : in_flight_ns / 4, kLeastMark, kMostUnseen);
}

// An event in front of work that has to begin at once delays it: most of it is not measured.
bool is_spared(const Quote& quote, std::uint64_t finished) noexcept {
  return quote.known && finished / std::max<std::uint64_t>(quote.price, 1) % kSparely != 0;
}

} // namespace

void DeviceGate::start(Gate& gate, unsigned device) noexcept {
  gate_ = &gate;
  device_ = device;
  SliceRegion& region = gate.limiter().region();
  grant_ = region.grant() != nullptr ? &region.grant()->devices[device] : &kNoGrant;
  limit_ = &region.limits().devices[device];
  published_ = &region.account().processes[&gate.slot() - region.account().processes].work[device];
  siblings_.start(region.account(), gate.slot().owner.load(), device);
}

namespace {

// The part of the card that holds without an arbiter; 0: all of it.
std::uint64_t own_rate(const layout::DeviceLimit& limit, const layout::DeviceGrant& grant,
                       bool had_arbiter) noexcept {
  std::uint64_t rate = layout::kWholeCardPpm;
  if (const std::uint64_t ceiling = limit.compute_limit_ppm.load(std::memory_order_relaxed); ceiling != 0)
    rate = std::min<std::uint64_t>(rate, ceiling);
  const std::uint64_t share = grant.share_ppm.load(std::memory_order_relaxed);
  if (had_arbiter && share != 0)
    rate = std::min<std::uint64_t>(rate, share);
  return rate == layout::kWholeCardPpm ? 0 : rate;
}

} // namespace

Mode DeviceGate::mode(std::uint64_t now) const noexcept {
  const layout::Grant* grant = gate_->limiter().region().grant();
  const bool ever = grant != nullptr && grant->epoch.load(std::memory_order_relaxed) != 0;
  const std::uint64_t alive = ever ? grant->alive_ns.load(std::memory_order_relaxed) : 0;
  if (alive != 0 && (now < alive || now - alive < kArbiterSilence) && gate_->link.connected())
    return Mode::Turns;
  return own_rate(*limit_, *grant_, ever) != 0 ? Mode::Paced : Mode::Free;
}

DeviceGate::Terms DeviceGate::read_grant(std::uint64_t now) noexcept {
  Terms terms;
  terms.mode = mode(now);
  terms.turn = grant_->turn.load(std::memory_order_acquire);
  terms.begins_ns = grant_->begins_ns.load(std::memory_order_relaxed);
  terms.ends_ns = grant_->ends_ns.load(std::memory_order_acquire);
  terms.flags = grant_->flags.load(std::memory_order_acquire);
  terms.in_flight_ns = grant_->in_flight_ns.load(std::memory_order_relaxed);
  const std::uint64_t window = grant_->idle_window_ns.load(std::memory_order_relaxed);
  terms.idle_window_ns = window != 0 ? window : kIdleWindow;
  terms.rate_ppm = terms.mode == Mode::Paced ? own_rate(*limit_, *grant_, grant_ != &kNoGrant) : 0;
  if (const std::uint32_t link = gate_->link.generation(); link != link_generation_) {
    link_generation_ = link; // another arbiter may count turns anew, and knows of no wish of ours
    admitted_turn_ = full_turn_ = released_turn_ = ended_turn_ = turn_seen_ = open_turn_ = late_turn_ = 0;
    wanted_turn_ = ~std::uint64_t{0};
    counted_in_ = wants_ = false;
  }
  if (terms.turn != turn_seen_) {
    turn_seen_ = terms.turn;
    turn_seen_at_ = now;
    if ((terms.turn & 1u) != 0) {
      open_turn_ = terms.turn;
      counted_in_ = counted_in_ || wants_;
      wants_ = false;
    }
  }
  return terms;
}

Lane* DeviceGate::find_lane(const ThreadState& thread, CUcontext context, CUstream stream,
                            bool waits) noexcept {
  const std::lock_guard lock(mutex_);
  used_.store(true, std::memory_order_relaxed);
  try {
    return &lanes_.find(&thread, context, stream, waits);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

Verdict DeviceGate::admit(ThreadState& thread, const Work& work, const Quote& quote, Lane& lane,
                          std::uint64_t now, Pending& pending) noexcept {
  std::unique_lock lock(mutex_);
  const bool owed = counted_in_;
  const Terms terms = read_grant(now);
  if (terms.mode == Mode::Free)
    return {Verdict::Kind::Pass, 0};
  take_back(thread);
  poll(now, terms.mode == Mode::Turns && terms.careful());
  Verdict verdict = terms.mode == Mode::Turns ? admit_in_turn(terms, thread, quote, now)
                                              : admit_at_pace(terms, thread, quote, now);
  if (verdict.kind != Verdict::Kind::Pass && verdict.kind != Verdict::Kind::AwaitTime && may_escape(now))
    verdict.kind = Verdict::Kind::Pass;
  if (verdict.kind == Verdict::Kind::Pass)
    pass(terms, work, quote, lane, now, pending);
  publish_locked();
  const bool rings = std::exchange(rings_, false) || (counted_in_ && !owed);
  lock.unlock();
  if (rings)
    gate_->ring();
  return verdict;
}

// The rules of README.md, in its order.
Verdict DeviceGate::admit_in_turn(const Terms& terms, ThreadState& thread, const Quote& quote,
                                  std::uint64_t now) noexcept {
  const bool released = released_turn_ == terms.turn && now - released_at_ < kUnheard;
  if (!terms.always() && (!terms.open(now) || released || full_turn_ == terms.turn))
    return closed(terms, now);
  if (const std::uint64_t early = terms.always() ? 0 : terms.too_early(now, lead_); early != 0)
    return {Verdict::Kind::AwaitWork, now + early};
  if (!terms.careful()) {
    count_in(terms);
    lend(terms, thread, kUnwatched);
    return {Verdict::Kind::Pass, 0};
  }
  const std::uint64_t flying = left_in_flight(now);
  const bool foreseen = terms.in_flight_ns == kNoEnd || in_flight() / kForeseen <= terms.in_flight_ns;
  const bool alone = terms.in_flight_ns == 0 || !quote.known || unknown_ || !foreseen;
  const bool yields = now < loner_until_; // or whoever has to go alone would never find room
  if (flying != 0 && alone)
    loner_until_ = drain_at(now) + kLonerLooks;
  if (flying != 0 && (alone || yields || flying >= terms.in_flight_ns))
    return {Verdict::Kind::AwaitWork,
            look_at(alone ? drain_at(now) : drain_at(now) - terms.in_flight_ns, now)};
  if (alone)
    loner_until_ = 0;
  const bool ends = !terms.always() && terms.ends_ns != kNoEnd;
  if (ends && admitted_turn_ == terms.turn && now + flying + quote.price / 2 > terms.ends_ns) {
    full_turn_ = terms.turn;
    rings_ = true;
    return closed(terms, now);
  }
  count_in(terms);
  const std::uint64_t taken = flying + quote.price + lent_to_others(thread);
  std::uint64_t room = alone || terms.in_flight_ns == kNoEnd ? kUnwatched : terms.in_flight_ns;
  room = room > taken && !alone ? room - taken : 0;
  if (ends) {
    const std::uint64_t fits = terms.ends_ns - std::min(now, terms.ends_ns);
    room = fits > taken ? std::min(room, fits - taken) : 0;
  }
  lend(terms, thread, std::min(room, marked_each(terms.in_flight_ns)));
  return {Verdict::Kind::Pass, 0};
}

// Whoever did not ask for the turn says that he takes part in it.
void DeviceGate::count_in(const Terms& terms) noexcept {
  if (!counted_in_)
    counted_in_ = gate_->link.send(MessageKind::Began, device_, terms.turn, 0);
  late_turn_ = 0; // what still runs is this turn's now
}

Verdict DeviceGate::closed(const Terms& terms, std::uint64_t now) noexcept {
  const bool again = now - wanted_at_ >= kBetweenWants;
  if ((wanted_turn_ != terms.turn || again) && gate_->link.send(MessageKind::Want, device_, terms.turn, 0)) {
    wanted_turn_ = terms.turn;
    wanted_at_ = now;
    wants_ = true;
  }
  return {Verdict::Kind::AwaitTurn, terms.turn};
}

Verdict DeviceGate::admit_at_pace(const Terms& terms, ThreadState& thread, const Quote& quote,
                                  std::uint64_t now) noexcept {
  const std::uint64_t rate = std::max<std::uint64_t>(terms.rate_ppm / siblings_.active(now), 1);
  pace_.refill(now, rate);
  if (pace_.left() <= 0)
    return {Verdict::Kind::AwaitTime, now + pace_.wait(rate)};
  const bool alone = !quote.known || unknown_;
  const auto is_too_much = [&] {
    const std::uint64_t flying = in_flight();
    return flying != 0 && (alone || flying + quote.price > kMostAtPace);
  };
  if (is_too_much()) {
    poll(now, true);
    if (is_too_much())
      return {Verdict::Kind::AwaitWork, drain_at(now)};
  }
  const auto left = static_cast<std::uint64_t>(pace_.left());
  const std::uint64_t credit = left > quote.price ? std::min(left - quote.price, kUnwatched) : 0;
  pace_.take(static_cast<std::int64_t>(quote.price + credit));
  lend(terms, thread, credit);
  thread.leases[device_].paced = true;
  return {Verdict::Kind::Pass, 0};
}

// What the thread did not use of its lease.
void DeviceGate::take_back(ThreadState& thread) noexcept {
  Lease& lease = thread.leases[device_];
  const std::uint64_t left = lease.credit.exchange(0, std::memory_order_relaxed);
  if (lease.paced)
    pace_.take(-static_cast<std::int64_t>(left));
  lease.paced = false;
}

void DeviceGate::lend(const Terms& terms, ThreadState& thread, std::uint64_t credit) const noexcept {
  Lease& lease = thread.leases[device_];
  lease.grant = grant_;
  lease.turn = terms.turn;
  lease.ends_ns = terms.ends_ns;
  lease.flags = terms.flags;
  lease.epoch = something_captures() ? 0 : gate_->epoch();
  if (thread.uses_unnamed && terms.mode == Mode::Turns && terms.careful())
    credit = 0; // each needs its marker
  const double worth_ns =
      terms.mode == Mode::Turns ? static_cast<double>(credit) / correction_ : static_cast<double>(credit);
  const auto worth = static_cast<std::uint64_t>(worth_ns);
  lease.credit.store(worth, std::memory_order_relaxed);
}

std::uint64_t DeviceGate::lent_to_others(const ThreadState& thread) const noexcept {
  std::uint64_t sum = 0;
  const std::uint32_t epoch = gate_->epoch();
  gate_->for_each_thread([&](const ThreadState& other) {
    const Lease& lease = other.leases[device_];
    if (&other != &thread && lease.epoch == epoch)
      sum += lease.credit.load(std::memory_order_relaxed);
  });
  return sum;
}

void DeviceGate::pass(const Terms& terms, const Work& work, const Quote& quote, Lane& lane, std::uint64_t now,
                      Pending& pending) noexcept {
  if (lanes_.in_flight() == 0) {
    cold_at_ = polled_at_ = now;
    cold_begins_ = terms.always() ? 0 : terms.begins_ns;
    progress_at_ = now + lead_;
    unknown_ = vague_ = false;
  }
  unknown_ = unknown_ || !quote.known;
  vague_ = vague_ || quote.vague;
  admitted_turn_ = terms.turn;
  lane.calling.store(true, std::memory_order_relaxed);
  lane.admitted.fetch_add(quote.price, std::memory_order_release);
  const bool careful = terms.mode == Mode::Turns && terms.careful();
  const std::uint64_t unmarked = lane.admitted.load(std::memory_order_relaxed) - lane.marked;
  const std::uint64_t step = careful ? marked_each(terms.in_flight_ns) : kUnwatched / 2;
  const bool nobody_can_ask = careful && lane.is_unnamed();
  pending = {};
  pending.lane = &lane;
  pending.price = quote.price;
  pending.device = device_;
  pending.context = lane.context;
  pending.turn = terms.turn;
  pending.cold = lanes_.in_flight() == quote.price;
  if (work.waits) {
    pending.measure = quote.measure && lanes_.in_flight() == quote.price;
    pending.began_at = now;
    return;
  }
  const bool may = lanes_.events.supported() && !something_captures() && lanes_.may_mark(lane);
  pending.measure = may && quote.measure && !(terms.always() && is_spared(quote, lanes_.finished()));
  pending.mark = may && (pending.measure || !quote.known || nobody_can_ask || unmarked >= step ||
                         (careful && terms.in_flight_ns == 0));
}

void DeviceGate::begin_measuring(Pending& pending) noexcept {
  if (!pending.measure || pending.lane->waits)
    return;
  const DriverCall call;
  {
    const std::lock_guard lock(mutex_);
    pending.begin = lanes_.events.take(pending.context);
    if (!lanes_.events.supported())
      gate_->prices.give_up();
  }
  if (pending.begin == nullptr || driver().cuEventRecord(pending.begin, pending.lane->stream) == CUDA_SUCCESS)
    return;
  const std::lock_guard lock(mutex_);
  lanes_.events.give_back(pending.context, pending.begin);
  pending.begin = nullptr;
}

void DeviceGate::settle(const Work& work, Pending& pending, bool succeeded) noexcept {
  Lane& lane = *pending.lane;
  if (!succeeded)
    lane.take_back(pending.price);
  if (lane.waits) {
    if (succeeded && pending.measure)
      gate_->prices.learn(work.key, now_ns() - pending.began_at, false);
    const std::lock_guard lock(mutex_);
    lane.drain();
    poll(now_ns(), false);
    return publish_locked();
  }
  const bool timed = pending.begin != nullptr;
  if (succeeded && pending.mark) {
    const DriverCall call;
    Marker marker;
    marker.begin = pending.begin;
    marker.sum = lane.admitted.load(std::memory_order_relaxed);
    marker.key = work.key;
    marker.price = pending.price;
    marker.turn = pending.turn;
    marker.cold = pending.cold;
    std::unique_lock lock(mutex_);
    marker.end = lanes_.events.take(pending.context);
    marker.escapes = escapes_;
    lock.unlock();
    marker.after = marker.recorded = now_ns();
    const bool recorded =
        marker.end != nullptr && driver().cuEventRecord(marker.end, lane.stream) == CUDA_SUCCESS;
    lock.lock();
    try {
      if (recorded) {
        lane.markers.push_back(marker);
        lane.marked = marker.sum;
        return;
      }
    } catch (const std::bad_alloc&) {
      // Its stream will be asked instead.
    }
    lanes_.events.give_back(pending.context, marker.end);
    lanes_.events.give_back(pending.context, pending.begin);
    return;
  }
  if (timed) {
    const std::lock_guard lock(mutex_);
    lanes_.events.give_back(pending.context, pending.begin);
  }
}

bool DeviceGate::may_escape(std::uint64_t now) noexcept {
  const std::uint64_t flying = in_flight();
  if (flying == 0)
    return false;
  const std::uint64_t patience = unknown_ ? kEscapeUnknown : kEscape + 4 * flying;
  if (now - std::min(now, later(progress_at_, escaped_at_)) < patience)
    return false;
  ++escapes_;
  escaped_at_ = now;
  return true;
}

std::uint64_t DeviceGate::in_flight() const noexcept {
  return static_cast<std::uint64_t>(static_cast<double>(lanes_.in_flight()) * correction_);
}

// Without what has run of it since the last end, as far as that is known.
std::uint64_t DeviceGate::left_in_flight(std::uint64_t now) const noexcept {
  const std::uint64_t flying = in_flight(), run = now - std::min(now, progress_at_);
  return flying > run ? flying - run : (flying + 7) / 8;
}

std::uint64_t DeviceGate::drain_at(std::uint64_t now) const noexcept {
  const std::uint64_t expected = progress_at_ + in_flight();
  return expected > now ? expected : now + later(kLeastLook, (now - expected) / 4);
}

// Work that may end at any moment is looked at again and again.
std::uint64_t DeviceGate::look_at(std::uint64_t expected, std::uint64_t now) const noexcept {
  return vague_ ? std::min(expected, now + kVagueLook) : expected;
}

void DeviceGate::drained(const ThreadState& thread, CUcontext context, CUstream stream) noexcept {
  const std::lock_guard lock(mutex_);
  if (lanes_.in_flight() == 0)
    return;
  lanes_.drained(&thread, context, stream);
  poll(now_ns(), true); // what other threads put there
  publish_locked();
}

void DeviceGate::forget_thread(const ThreadState& thread) noexcept {
  const std::lock_guard lock(mutex_);
  lanes_.forget_thread(&thread);
}

void DeviceGate::close_stream(CUcontext context, CUstream stream) noexcept {
  const DriverCall call;
  const std::lock_guard lock(mutex_);
  lanes_.close_stream(context, stream);
}

void DeviceGate::publish() noexcept {
  const std::lock_guard lock(mutex_);
  publish_locked();
}

void DeviceGate::publish_locked() noexcept {
  published_->held_back_ns.store(held_back_.load(std::memory_order_relaxed), std::memory_order_relaxed);
  published_->gpu_ns.store(static_cast<std::uint64_t>(gpu_ns_), std::memory_order_relaxed);
  published_->last_end_ns.store(last_end_, std::memory_order_relaxed);
  const std::uint64_t finished = lanes_.finished();
  published_->admitted_ns.store(finished + lanes_.in_flight());
  published_->finished_ns.store(finished);
}

} // namespace aliquot::limiter::compute
