// Memory without an address (CUmemGenericAllocationHandle): created, then mapped at reserved addresses, here
// or in other processes.
//
// It lies in a file: several addresses may show it. What is never exported shares one file per card, so that
// thousands of small handles take one descriptor; what is exported gets a file of its own.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/backing_file.hpp"
#include "native/simgpu/driver/core/device.hpp"
#include "native/simgpu/driver/core/shared_handle.hpp"
#include "native/simgpu/machine/machine.hpp"

namespace aliquot::simgpu::driver {

// One large sparse file that is given out in pieces.
class Arena {
 public:
  explicit Arena(std::uint64_t bytes) : bytes_(bytes) {}
  // Zeros; empty where there is no room, or no file.
  FileView take(std::uint64_t bytes);
  void give_back(const FileView& view, std::uint64_t bytes) noexcept;

 private:
  const std::uint64_t bytes_;
  std::mutex mutex_; // guards the rest
  std::shared_ptr<BackingFile> file_;
  std::map<std::uint64_t, std::uint64_t> free_; // offset -> bytes
};

// What a process pays for. Given back when the last who needs it is gone.
class Charge {
 public:
  // Null where the card, or the host behind it, has no room.
  static std::shared_ptr<Charge> make(const std::shared_ptr<machine::Machine>& machine, std::uint32_t card,
                                      std::uint64_t bytes);
  Charge(std::shared_ptr<machine::Machine> machine, std::uint32_t card, std::uint64_t bytes) noexcept
      : machine_(std::move(machine)), card_(card), bytes_(bytes) {}
  ~Charge() { machine_->release(card_, bytes_); }
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;

 private:
  const std::shared_ptr<machine::Machine> machine_;
  const std::uint32_t card_;
  const std::uint64_t bytes_;
};

class PhysicalMemory {
 public:
  // `device` is null for memory of the host. Null and `error` where it cannot be had.
  static std::shared_ptr<PhysicalMemory> make(Device* device, std::uint64_t bytes,
                                              const CUmemAllocationProp& properties, CUresult& error);
  // From a descriptor that export_fd gave, in this process or another.
  static std::shared_ptr<PhysicalMemory> import_fd(int fd, CUresult& error);
  ~PhysicalMemory();
  PhysicalMemory(const PhysicalMemory&) = delete;
  PhysicalMemory& operator=(const PhysicalMemory&) = delete;

  bool on_host() const noexcept { return device == nullptr; }
  // -1 where the host gives no descriptor. The bytes must lie in a file of their own.
  int export_fd(std::shared_ptr<PhysicalMemory> self);
  bool in_arena() const noexcept { return arena_ != nullptr; }
  // The bytes were copied to a file of their own: from now on they lie there.
  void move_to(FileView view) noexcept;

  Device* const device;
  const std::uint64_t bytes;
  const CUmemAllocationProp properties;
  FileView view;
  void* handle = nullptr;
  unsigned references = 1, mappings = 0; // guarded by VirtualMemory

  PhysicalMemory(Device* device_, std::uint64_t bytes_, const CUmemAllocationProp& properties_) noexcept;

 private:
  std::shared_ptr<Arena> arena_; // in which `view` lies, if it does
  std::shared_ptr<Charge> charge_;
  const std::uint64_t key_; // what other processes know it by
  SharedImport imported_;   // empty where this process made it
};

} // namespace aliquot::simgpu::driver
