// Finding and opening the library that one of ours stands in front of. Our own carries the same name, so the
// loader cannot be asked for it by name: it would hand back ours.
#pragma once

namespace aliquot::limiter {

// Opens `stated` where the slice states a path, and otherwise the first library called `name` where the
// loader would look (LD_LIBRARY_PATH, the loader's cache, the usual folders) that is not ours. `own_symbol`
// is any address within ours. Null where there is none; nothing is printed then, since a machine without a
// GPU is no fault.
void* open_real_library(const char* name, const char* stated, const void* own_symbol) noexcept;

} // namespace aliquot::limiter
