#include "native/limiter/cuda/visible_cards.hpp"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <sched.h>
#include <string_view>
#include <unistd.h>

namespace aliquot::limiter {
namespace {

constexpr std::string_view kVariable = "CUDA_VISIBLE_DEVICES=";
constexpr int kNone = -1;

struct CardName {
  char text[kCardNameLength + 1] = {};
};

CardName name_of(const layout::DeviceLimit& card) noexcept {
  CardName name;
  if (card.known_by != layout::kKnownByUuid) {
    std::snprintf(name.text, sizeof name.text, "%u", card.physical_index);
    return name;
  }
  int length = std::snprintf(name.text, sizeof name.text, "GPU-");
  for (unsigned i = 0; i < sizeof card.uuid; ++i) {
    const char* dash = i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "";
    length += std::snprintf(name.text + length, sizeof name.text - static_cast<std::size_t>(length), "%s%02x",
                            dash, card.uuid[i]);
  }
  return name;
}

std::string_view trimmed(std::string_view text) noexcept {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos)
    return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

int by_index(std::string_view entry, std::size_t count) noexcept {
  std::size_t index = 0;
  for (const char digit : entry) {
    if (digit < '0' || digit > '9' || index >= count)
      return kNone;
    index = index * 10 + static_cast<std::size_t>(digit - '0');
  }
  return !entry.empty() && index < count ? static_cast<int>(index) : kNone;
}

int by_uuid(std::string_view entry, std::span<const layout::DeviceLimit> cards) noexcept {
  int found = kNone;
  for (std::size_t i = 0; i < cards.size(); ++i) {
    if (!std::string_view(name_of(cards[i]).text).starts_with(entry))
      continue;
    if (found != kNone)
      return kNone; // ambiguous
    found = static_cast<int>(i);
  }
  return found;
}

class Definition {
 public:
  explicit Definition(VisibleCards& to) noexcept : to_(to.definition) { append(kVariable); }

  void add(const layout::DeviceLimit& card) noexcept { add(name_of(card).text); }
  void add(std::string_view name) noexcept {
    if (named_++ > 0)
      append(",");
    append(name);
  }
  bool is_full() const noexcept { return named_ == VisibleCards::kMostNamed; }
  bool is_empty() const noexcept { return named_ == 0; }

 private:
  void append(std::string_view text) noexcept {
    std::memcpy(to_, text.data(), text.size());
    to_ += text.size();
    *to_ = '\0';
  }

  char* to_;
  std::size_t named_ = 0;
};

void add_asked(Definition& to, std::string_view asked, std::span<const layout::DeviceLimit> cards) noexcept {
  while (!to.is_full()) {
    const auto comma = asked.find(',');
    const std::string_view entry = trimmed(asked.substr(0, comma));
    const int card = entry.starts_with("GPU-") ? by_uuid(entry, cards) : by_index(entry, cards.size());
    if (card == kNone)
      return;
    to.add(cards[static_cast<std::size_t>(card)]);
    if (comma == std::string_view::npos)
      return;
    asked.remove_prefix(comma + 1);
  }
}

bool is_variable(const char* definition) noexcept {
  return std::strncmp(definition, kVariable.data(), kVariable.size()) == 0;
}

// A copy of the environment with that definition in it; null where there is no memory. It is never freed:
// another thread may be reading it.
char** environment_with(const char* definition) noexcept {
  std::size_t count = 0;
  while (environ != nullptr && environ[count] != nullptr)
    ++count;
  char* kept = strdup(definition);
  auto** made = static_cast<char**>(std::malloc((count + 2) * sizeof(char*)));
  if (kept == nullptr || made == nullptr)
    return nullptr;
  made[0] = kept;
  std::size_t length = 1;
  for (std::size_t i = 0; i < count && environ[i] != nullptr; ++i)
    if (!is_variable(environ[i]))
      made[length++] = environ[i];
  made[length] = nullptr;
  return made;
}

// Of one process: a child whose parent held it when it forked takes it over.
class ProcessLock {
 public:
  void lock() noexcept {
    const pid_t self = getpid();
    for (pid_t holder = 0; !holder_.compare_exchange_weak(holder, self, std::memory_order_acquire);)
      if (holder == self) {
        holder = 0;
        sched_yield();
      } // otherwise there is none, or it is the parent's: the next round takes it from there
  }
  void unlock() noexcept { holder_.store(0, std::memory_order_release); }

 private:
  std::atomic<pid_t> holder_{0};
};

// The two environments, and how many are in need of the driver's: several threads may call cuInit, and a
// driver may call it itself.
class Exchange {
 public:
  void enter(std::span<const layout::DeviceLimit> cards) noexcept {
    const std::scoped_lock held(lock_);
    if (process_ != getpid())
      start_anew();
    if (users_++ == 0 || environ != ours_)
      install(cards);
  }

  void leave() noexcept {
    const std::scoped_lock held(lock_);
    users_ -= users_ > 0 ? 1 : 0;
    if (users_ == 0)
      restore();
  }

 private:
  // In a child, which has none of the threads that were in need.
  void start_anew() noexcept {
    restore();
    users_ = 0;
    process_ = getpid();
  }

  void install(std::span<const layout::DeviceLimit> cards) noexcept {
    const char* asked = std::getenv("CUDA_VISIBLE_DEVICES");
    const VisibleCards wanted = visible_to_driver(asked, cards);
    if (asked != nullptr && std::strcmp(asked, wanted.definition + kVariable.size()) == 0)
      return;
    char** made = environment_with(wanted.definition);
    if (made == nullptr)
      return;
    before_ = environ;
    ours_ = made;
    environ = made;
  }

  // Whoever changed the environment meanwhile changed a copy of ours, and keeps it.
  void restore() noexcept {
    if (ours_ != nullptr && environ == ours_)
      environ = before_;
    ours_ = nullptr;
  }

  ProcessLock lock_;
  pid_t process_ = 0;
  unsigned users_ = 0;
  char** before_ = nullptr;
  char** ours_ = nullptr;
};

constinit Exchange exchange;

} // namespace

VisibleCards visible_to_driver(const char* asked, std::span<const layout::DeviceLimit> cards) noexcept {
  VisibleCards made;
  Definition definition(made);
  if (asked != nullptr)
    add_asked(definition, asked, cards);
  else
    for (const layout::DeviceLimit& card : cards)
      definition.add(card);
  if (definition.is_empty())
    definition.add("-1");
  return made;
}

EnvironmentForDriver::EnvironmentForDriver(std::span<const layout::DeviceLimit> cards) noexcept {
  exchange.enter(cards);
}

EnvironmentForDriver::~EnvironmentForDriver() {
  exchange.leave();
}

} // namespace aliquot::limiter
