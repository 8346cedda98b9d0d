// A slice that is served: its socket, the processes connected to it, and its places on the cards.
//
// What a tenant can do is bounded here, and for all slices of a user in `Crowd`: connections, messages at a
// time and messages a tick. Whoever sends what is no message is hung up on.
#pragma once

#include <cstdint>
#include <list>
#include <memory>

#include "native/limiter/arbiter/cards.hpp"
#include "native/limiter/arbiter/crowd.hpp"
#include "native/limiter/arbiter/poller.hpp"
#include "native/limiter/arbiter/slice_folder.hpp"
#include "native/limiter/compute/message.hpp"

namespace aliquot::limiter::arbiter {

class ServedSlice;

class Connection final : public Source {
 public:
  Connection(ServedSlice& slice, int socket, uid_t user, ProcessId process)
      : slice_(slice), socket_(socket), user_(user), process_(process), end_(*this) {}
  ~Connection() override;
  void ready(std::uint32_t events) override;
  bool admit(pid_t pid); // false where there is no room for it

  int socket() const noexcept { return socket_.number(); }
  ProcessId process() const noexcept { return process_; }
  bool gone() const noexcept { return gone_; }
  void allow_more(Poller& poller) noexcept;

 private:
  // A child that was made with a bare clone() keeps the socket open; so the process itself is watched, too.
  class ProcessEnd final : public Source {
   public:
    explicit ProcessEnd(Connection& connection) : connection_(connection) {}
    void ready(std::uint32_t) override { connection_.hang_up(); }

   private:
    Connection& connection_;
  };

  bool read_one();
  bool take(const compute::Message& message);
  void hang_up();

  ServedSlice& slice_;
  Descriptor socket_;
  uid_t user_;
  ProcessId process_;
  ProcessEnd end_;
  Descriptor process_descriptor_;
  bool greeted_ = false;
  bool gone_ = false;
  bool admitted_ = false; // counted among its user's
  bool muted_ = false;
  unsigned messages_ = 0; // in this tick
};

class ServedSlice final : public Source {
 public:
  ServedSlice(std::unique_ptr<SliceFolder> folder, Cards& cards, Crowd& crowd, Poller& poller,
              std::uint64_t now);
  ~ServedSlice() override;
  ServedSlice(const ServedSlice&) = delete;
  ServedSlice& operator=(const ServedSlice&) = delete;

  bool start(std::uint64_t now); // false where it can have no socket
  void ready(std::uint32_t events) override;

  const SliceFolder& folder() const noexcept { return *folder_; }
  bool in_use() const noexcept { return !connections_.empty(); }
  // Signs of life, changed limits, and room for more messages.
  void tick(std::uint64_t now);
  void retire_gone();    // after all sources have answered
  void stop_listening(); // it was removed: who is connected goes on
  void say_good_bye();

 private:
  friend class Connection;
  struct Place {
    SharedCard* card;
    MemberId member;
  };

  void accept_one(int socket);
  bool may_speak(uid_t user) const noexcept;
  void tell(uid_t user, ProcessId process, const compute::Message& message);
  void leave_cards(ProcessId process);

  std::unique_ptr<SliceFolder> folder_;
  Cards& cards_;
  Crowd& crowd_;
  Poller& poller_;
  Descriptor listener_;
  bool listener_muted_ = false;
  std::vector<Place> places_;
  std::list<Connection> connections_;
  ProcessId last_process_ = 0;
  std::uint64_t generation_ = 0;
  unsigned messages_ = 0; // in this tick
};

} // namespace aliquot::limiter::arbiter
