// What calls on events do where an event is shared between processes (CU_EVENT_INTERPROCESS).
#pragma once

#include <vector>

#include "native/simgpu/driver/core/event.hpp"
#include "native/simgpu/driver/core/shared_event.hpp"
#include "native/simgpu/driver/entry.hpp"

namespace aliquot::simgpu::driver {

// Records at the end of `stream`, behind `waits_for`.
void submit_shared_record(const std::shared_ptr<SharedEvent>& event, const StreamPtr& stream,
                          std::vector<Dependency> waits_for);
// The stream goes on when the last recording is reached, in whatever process.
void submit_shared_wait(const std::shared_ptr<SharedEvent>& event, const StreamPtr& stream);
CUresult query_shared(const std::shared_ptr<SharedEvent>& event);
CUresult synchronize_shared(const std::shared_ptr<SharedEvent>& event, const ContextPtr& context);

} // namespace aliquot::simgpu::driver
