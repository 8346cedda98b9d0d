#include "native/simgpu/driver/graph/user_object.hpp"

#include <climits>

#include "native/simgpu/driver/entry.hpp"

namespace aliquot::simgpu::driver {

bool UserObject::retain(std::uint64_t count) {
  const std::lock_guard guard(mutex_);
  if (count_ == 0)
    return false;
  count_ += count;
  callers_ += count;
  return true;
}

bool UserObject::release(std::uint64_t count) {
  bool last = false;
  {
    const std::lock_guard guard(mutex_);
    if (callers_ < count)
      return false;
    callers_ -= count;
    last = drop_locked(count);
  }
  if (last)
    finish();
  return true;
}

bool UserObject::retain_for_graph(std::uint64_t count, bool move) {
  const std::lock_guard guard(mutex_);
  if (count_ == 0 || (move && callers_ < count))
    return false;
  if (move)
    callers_ -= count;
  else
    count_ += count;
  return true;
}

void UserObject::release_of_graph(std::uint64_t count) {
  bool last = false;
  {
    const std::lock_guard guard(mutex_);
    last = drop_locked(count);
  }
  if (last)
    finish();
}

bool UserObject::drop_locked(std::uint64_t count) {
  count_ -= count;
  return count_ == 0;
}

void UserObject::finish() {
  Driver::instance().user_objects.erase(handle);
  Executor::instance().post_host_task([destroy = destroy_, data = data_] { destroy(data); });
}

ObjectReferences::~ObjectReferences() {
  for (const auto& [object, count] : held_)
    try {
      object->release_of_graph(count);
    } catch (...) { // no memory to post the destructor: the client's resource is never given back
    }
}

void ObjectReferences::add(const ObjectReferences& other) {
  for (const auto& [object, count] : other.held_)
    if (object->retain_for_graph(count, false))
      held_[object] += count;
}

bool ObjectReferences::retain(const std::shared_ptr<UserObject>& object, unsigned count, bool move) {
  std::uint64_t& held = held_[object];
  if (object->retain_for_graph(count, move))
    held += count;
  else if (held == 0) {
    held_.erase(object);
    return false;
  } else {
    return false;
  }
  return true;
}

bool ObjectReferences::release(const std::shared_ptr<UserObject>& object, unsigned count) {
  const auto at = held_.find(object);
  if (at == held_.end() || at->second < count)
    return false;
  at->second -= count;
  if (at->second == 0)
    held_.erase(at);
  object->release_of_graph(count);
  return true;
}

} // namespace aliquot::simgpu::driver

using namespace aliquot::simgpu::driver;

namespace {

bool is_count(unsigned count) noexcept {
  return count != 0 && count <= INT_MAX;
}

template <class Body>
CUresult with_object(CUuserObject handle, unsigned count, Body body) {
  return with_driver([&](Driver& driver) {
    const auto object = driver.user_objects.find(handle);
    return object && is_count(count) && body(*object) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuUserObjectCreate(CUuserObject* out, void* data, CUhostFn destroy,
                                           unsigned int count, unsigned int flags) {
  return with_driver([&](Driver& driver) {
    if (out == nullptr || destroy == nullptr || !is_count(count) ||
        flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC)
      return CUDA_ERROR_INVALID_VALUE;
    const auto object = std::make_shared<UserObject>(data, destroy, count);
    object->handle = driver.user_objects.insert(object);
    *out = static_cast<CUuserObject>(object->handle);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuUserObjectRetain(CUuserObject object, unsigned int count) {
  return with_object(object, count, [=](UserObject& each) { return each.retain(count); });
}

ALIQUOT_EXPORT CUresult cuUserObjectRelease(CUuserObject object, unsigned int count) {
  return with_object(object, count, [=](UserObject& each) { return each.release(count); });
}

} // extern "C"
