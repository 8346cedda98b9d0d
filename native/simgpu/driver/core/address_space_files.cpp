// Blocks of the address space that show a file: what other processes, or other addresses, see too.
#include <sys/mman.h>

#include <algorithm>
#include <iterator>

#include "native/simgpu/driver/core/address_space.hpp"

namespace aliquot::simgpu::driver {
namespace {

constexpr std::size_t kPage = 4096;

// A child of fork must not have VRAM, and a core dump must not hold it.
void keep_to_this_process(void* at, std::uint64_t bytes) noexcept {
  madvise(at, bytes, MADV_DONTFORK);
  madvise(at, bytes, MADV_DONTDUMP);
}

} // namespace

bool AddressSpace::show(std::uint64_t address, std::uint64_t bytes, const FileView& view) noexcept {
  void* const at = bytes_at(address);
  if (view.offset % kPage != 0 || view.offset > view.file->bytes() ||
      bytes > view.file->bytes() - view.offset)
    return false;
  // In place of what is there, in one step: a kernel that races with this reads old or new, and never faults.
  if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, view.file->fd(),
           static_cast<off_t>(view.offset)) == MAP_FAILED)
    return false;
  keep_to_this_process(at, bytes);
  return true;
}

bool AddressSpace::map_file(std::uint64_t address, std::uint64_t bytes, const FileView& view) {
  if (!show(address, bytes, view))
    return false;
  const std::lock_guard guard(files_mutex_);
  forget_files(address, bytes);
  remember_file(address, bytes, view);
  return true;
}

void AddressSpace::unmap_file(std::uint64_t address, std::uint64_t bytes) noexcept {
  void* const at = bytes_at(address);
  if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
           0) == MAP_FAILED)
    return; // too many mappings: it goes on showing the file, which is remembered
  keep_to_this_process(at, bytes);
  const std::lock_guard guard(files_mutex_);
  try {
    forget_files(address, bytes);
  } catch (...) { // no memory to split an entry: the file lives longer than it is shown
  }
}

FileView AddressSpace::file_of(std::uint64_t address) const {
  const std::lock_guard guard(files_mutex_);
  auto at = files_.upper_bound(address);
  if (at == files_.begin())
    return {};
  --at;
  if (address - at->first >= at->second.bytes)
    return {};
  return {at->second.view.file, at->second.view.offset + (address - at->first)};
}

FileView AddressSpace::export_blocks(std::uint64_t address, std::uint64_t bytes) {
  const FileView there = file_of(address);
  if (const FileView last = file_of(address + bytes - kBlockBytes);
      there && last.file == there.file && last.offset == there.offset + bytes - kBlockBytes)
    return there;
  const FileView view{BackingFile::make(bytes), 0};
  if (!view)
    return {};
  void* const target =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, view.file->fd(), 0);
  if (target == MAP_FAILED)
    return {};
  copy_touched(static_cast<std::uint8_t*>(target), bytes_at(address), bytes);
  munmap(target, bytes);
  return map_file(address, bytes, view) ? view : FileView{};
}

// The lock of the files is held. Entries that reach beyond the range keep the rest.
void AddressSpace::forget_files(std::uint64_t address, std::uint64_t bytes) {
  const std::uint64_t end = address + bytes;
  auto at = files_.upper_bound(address);
  if (at != files_.begin() && std::prev(at)->first + std::prev(at)->second.bytes > address)
    --at;
  while (at != files_.end() && at->first < end) {
    const std::uint64_t begin = at->first;
    const MappedFile old = at->second;
    if (begin + old.bytes > end)
      files_.insert_or_assign(
          end, MappedFile{begin + old.bytes - end, {old.view.file, old.view.offset + (end - begin)}});
    if (begin < address) {
      at->second.bytes = address - begin;
      ++at;
    } else {
      at = files_.erase(at);
    }
  }
}

void AddressSpace::remember_file(std::uint64_t address, std::uint64_t bytes, const FileView& view) {
  files_.insert_or_assign(address, MappedFile{bytes, view});
  any_file_.store(true, std::memory_order_release);
}

// Whole runs stop showing their file, which others may still use; a part of a block is emptied for all who
// see it. False where no file is shown.
bool AddressSpace::discard_in_file(std::uint64_t address, std::uint64_t bytes) noexcept {
  if (!any_file_.load(std::memory_order_acquire))
    return false;
  if (address % kBlockBytes == 0 && bytes % kBlockBytes == 0) {
    bool shown = false;
    {
      const std::lock_guard guard(files_mutex_);
      const auto next = files_.upper_bound(address);
      shown = (next != files_.end() && next->first < address + bytes) ||
              (next != files_.begin() && std::prev(next)->first + std::prev(next)->second.bytes > address);
    }
    if (shown)
      unmap_file(address, bytes);
    return shown;
  }
  const FileView view = file_of(address);
  if (view)
    view.file->discard(view.offset, bytes);
  return view.file != nullptr;
}

} // namespace aliquot::simgpu::driver
