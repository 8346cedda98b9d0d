// What begins every call on a memory pool.
#pragma once

#include "native/simgpu/driver/entry.hpp"

namespace aliquot::simgpu::driver {

using PoolPtr = std::shared_ptr<Pool>;

// body(Driver&, const PoolPtr&); INVALID_VALUE where the handle is none.
template <class Body>
CUresult with_pool(CUmemoryPool handle, Body body) {
  return with_driver([&](Driver& driver) {
    const PoolPtr pool = driver.pools.find(handle);
    return pool ? body(driver, pool) : CUDA_ERROR_INVALID_VALUE;
  });
}

} // namespace aliquot::simgpu::driver
