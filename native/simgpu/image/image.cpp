// What an image is, and where its containers lie; see image.hpp.
#include "native/simgpu/image/image.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "native/simgpu/image/elf.hpp"
#include "native/simgpu/image/fatbin.hpp"

namespace aliquot::simgpu::image {
namespace {

constexpr std::uint32_t kWrapperMagic = 0x466243B1;
constexpr std::size_t kWrapperBytes = 24;
constexpr std::size_t kMostContainers = 65536; // in the list of a wrapper

// The memory that may be read: all of the address space where the caller could not say.
class Reach {
 public:
  Reach(const void* image, std::size_t known_bytes)
      : begin_(reinterpret_cast<std::uintptr_t>(image)), bytes_(known_bytes) {}

  bool known() const { return bytes_ != std::numeric_limits<std::size_t>::max(); }
  bool holds(std::uintptr_t at, std::size_t bytes) const {
    if (at == 0)
      return false;
    if (!known())
      return bytes <= std::numeric_limits<std::uintptr_t>::max() - at;
    return at >= begin_ && at - begin_ <= bytes_ && bytes <= bytes_ - (at - begin_);
  }
  // Bytes from `at` to the end, at most `cap`.
  std::size_t from(std::uintptr_t at, std::size_t cap) const {
    const std::size_t end = known() ? bytes_ - (at - begin_) : std::numeric_limits<std::size_t>::max() - at;
    return std::min(end, cap);
  }

 private:
  std::uintptr_t begin_;
  std::size_t bytes_;
};

template <typename T>
T load(std::uintptr_t at) {
  T value;
  std::memcpy(&value, reinterpret_cast<const void*>(at), sizeof value);
  return value;
}

Status invalid(Contents& out, const char* what) {
  out.message = what;
  return Status::Invalid;
}

Status container_at(std::uintptr_t at, const Reach& reach, std::uint32_t sm, Contents& out) {
  if (!reach.holds(at, kContainerHeader))
    return invalid(out, "malformed fat binary: its container lies outside the image");
  const auto* header = reinterpret_cast<const std::uint8_t*>(at);
  const std::uint64_t bytes = container_bytes(header);
  if (bytes == 0)
    return invalid(out, "malformed fat binary: no container where one should be");
  if (!reach.holds(at, bytes))
    return invalid(out, "malformed fat binary: the image ends before its container does");
  out.fat_binary = true;
  return read_container({header, bytes}, sm, out);
}

// Version 2 lists the containers of objects that are to be linked when they are loaded: what each one offers
// belongs together.
Status container_list(std::uintptr_t list, const Reach& reach, std::uint32_t sm, Contents& out) {
  Status result = Status::NoPtx;
  for (std::size_t i = 0; i < kMostContainers; ++i, list += sizeof(std::uint64_t)) {
    if (!reach.holds(list, sizeof(std::uint64_t)))
      return invalid(out, "malformed fat binary: its list of containers lies outside the image");
    const auto at = load<std::uint64_t>(list);
    if (at == 0)
      return result;
    const Status status = container_at(at, reach, sm, out);
    if (status == Status::Ok)
      result = Status::Ok;
    else if (status != Status::NoPtx)
      return status;
  }
  return invalid(out, "malformed fat binary: its list of containers has no end");
}

Status wrapper(std::uintptr_t at, const Reach& reach, std::uint32_t sm, Contents& out) {
  if (!reach.holds(at, kWrapperBytes) || at % alignof(std::uint64_t) != 0)
    return invalid(out, "malformed fat binary: truncated or misaligned wrapper");
  const auto version = load<std::uint32_t>(at + 4);
  const auto list = load<std::uint64_t>(at + 16);
  if (version == 2 && list != 0)
    return container_list(list, reach, sm, out);
  if (version != 1 && version != 2)
    return invalid(out, "fat binary of an unknown version");
  return container_at(load<std::uint64_t>(at + 8), reach, sm, out);
}

Status bare_text(std::uintptr_t at, const Reach& reach, Contents& out) {
  const char* begin = reinterpret_cast<const char*>(at);
  const std::size_t room = reach.from(at, kLargestText + 1);
  const std::size_t length = strnlen(begin, room);
  if (length > kLargestText)
    return invalid(out, "the image is no fat binary, and as text it does not end within 256 MiB");
  const std::string_view text(begin, length);
  if (text.find(".version") == std::string_view::npos)
    return invalid(out, "the image is neither PTX text, a fat binary, nor a cubin");
  out.ptx.push_back({std::string(text), 0});
  return Status::Ok;
}

// Reads no further than it must: a text may be shorter than a magic number.
bool starts_with(std::uintptr_t at, const Reach& reach, std::uint32_t magic) {
  for (std::size_t i = 0; i < sizeof magic; ++i)
    if (!reach.holds(at + i, 1) || load<std::uint8_t>(at + i) != (magic >> 8 * i & 0xFF))
      return false;
  return true;
}

Status dispatch(std::uintptr_t at, const Reach& reach, std::uint32_t sm, Contents& out) {
  if (starts_with(at, reach, kWrapperMagic))
    return wrapper(at, reach, sm, out);
  if (starts_with(at, reach, kContainerMagic))
    return container_at(at, reach, sm, out);
  if (!starts_with(at, reach, kElfMagic))
    return bare_text(at, reach, out);
  if (reach.holds(at, kElfHeader))
    out.cubin_sms.push_back(elf_sm(reinterpret_cast<const std::uint8_t*>(at)));
  return Status::NoPtx;
}

std::string no_ptx_message(const Contents& contents) {
  std::vector<std::uint32_t> sms = contents.cubin_sms;
  std::sort(sms.begin(), sms.end());
  sms.erase(std::unique(sms.begin(), sms.end()), sms.end());
  std::string list;
  for (const std::uint32_t sm : sms)
    list += (list.empty() ? " for sm_" : ", sm_") + (sm == 0 ? std::string("?") : std::to_string(sm));
  return "the image holds no PTX, only machine code" + list +
         ", and a simulated card runs PTX: compile for a virtual architecture (nvcc -gencode "
         "arch=compute_80,code=compute_80; NVRTC --gpu-architecture=compute_80; CUPY_COMPILE_WITH_PTX=1)";
}

} // namespace

Status read(const void* image, std::size_t known_bytes, std::uint32_t sm, Contents& out) {
  out = {};
  if (image == nullptr)
    return invalid(out, "no image");
  Status status = Status::Invalid;
  try {
    status = dispatch(reinterpret_cast<std::uintptr_t>(image), Reach(image, known_bytes), sm, out);
    if (status == Status::NoPtx)
      out.message = no_ptx_message(out);
  } catch (const std::exception&) {
    out.message = "not enough host memory to read the image";
    status = Status::Invalid;
  }
  if (status != Status::Ok)
    out.ptx.clear();
  return status;
}

} // namespace aliquot::simgpu::image
