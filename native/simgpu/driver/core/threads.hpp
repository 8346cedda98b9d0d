// Threads of the driver's own. None is started before there is work for it.
#pragma once

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>

#include <memory>
#include <new>
#include <utility>

#include "native/common/log.hpp"

namespace aliquot::simgpu::driver {

// A detached thread that takes no signals: those are the host program's.
template <class Body>
bool start_thread(const char* name, Body body) noexcept {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  auto* heap_body = new (std::nothrow) Body(std::move(body));
  pthread_t thread;
  const auto entry = [](void* argument) -> void* {
    const std::unique_ptr<Body> own(static_cast<Body*>(argument));
    (*own)();
    return nullptr;
  };
  const bool started = heap_body != nullptr && pthread_create(&thread, nullptr, entry, heap_body) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!started) {
    delete heap_body;
    common::log_line(common::LogLevel::Error, "cannot start the %s thread", name);
    return false;
  }
  pthread_detach(thread);
  return true;
}

inline void name_this_thread(const char* name) noexcept {
  prctl(PR_SET_NAME, name, 0, 0, 0);
}

} // namespace aliquot::simgpu::driver
