// The thread that watches for this process: when a turn opens or ends, when work has ended, and whether the
// arbiter lives. Started with the first work, gone in a forked child; it never keeps a process from ending.
#pragma once

namespace aliquot::limiter::compute {

class Gate;

void start_watcher(Gate& gate) noexcept;

} // namespace aliquot::limiter::compute
