#include "native/simgpu/driver/core/thread_state.hpp"

#include <pthread.h>

#include <new>

namespace aliquot::simgpu::driver {
namespace {

thread_local ThreadState* current = nullptr;

void destroy(void* state) {
  delete static_cast<ThreadState*>(state);
  current = nullptr;
}

pthread_key_t key() {
  static const pthread_key_t made = [] {
    pthread_key_t fresh;
    if (pthread_key_create(&fresh, destroy) != 0)
      throw std::bad_alloc();
    return fresh;
  }();
  return made;
}

} // namespace

ThreadState& this_thread() {
  if (current != nullptr)
    return *current;
  auto state = std::make_unique<ThreadState>();
  if (pthread_setspecific(key(), state.get()) != 0)
    throw std::bad_alloc();
  current = state.release();
  return *current;
}

exec::Worker* worker_of_this_thread() noexcept try {
  ThreadState& state = this_thread();
  if (!state.worker)
    state.worker = exec::make_worker();
  return state.worker.get();
} catch (...) {
  return nullptr;
}

} // namespace aliquot::simgpu::driver
