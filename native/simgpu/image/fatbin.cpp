// Fat-binary containers; see fatbin.hpp.
#include "native/simgpu/image/fatbin.hpp"

#include <algorithm>
#include <cstring>

#include "native/simgpu/image/cubin.hpp"

namespace aliquot::simgpu::image {
namespace {

constexpr std::uint16_t kKindPtx = 1, kKindElf = 2;
constexpr std::size_t kShortEntryHeader = 48; // up to and with the flags
constexpr std::size_t kEntryHeader = 64;
constexpr std::uint64_t kFlag64Bit = 0x1, kFlagLz4 = 0x2000, kFlagZstd = 0x8000;
// Marks the entries that pack_linked wrote. nvcc leaves the upper half of the flags clear.
constexpr std::uint64_t kFlagLinked = 0x4151'0000'0000'0000;
constexpr std::size_t kLinkedRegisters = 48; // where they say how many registers; zero in nvcc's

template <typename T>
T load(const std::uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <typename T>
void put(std::vector<std::uint8_t>& bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

constexpr std::size_t kMostTexts = 4096, kMostCubinsNamed = 256;

struct Entry {
  std::uint16_t kind = 0;
  std::uint32_t sm = 0;
  std::uint64_t flags = 0;
  std::uint64_t compressed = 0, uncompressed = 0;
  std::uint32_t max_registers = 0; // of linked ones
  Bytes payload;
};

Status invalid(Contents& out, const char* what) {
  out.message = std::string("malformed fat binary: ") + what;
  return Status::Invalid;
}

bool is_linked(const Entry& entry) {
  return entry.flags >> 32 == kFlagLinked >> 32;
}

// Splits the container. False where an entry does not lie inside it.
bool split(Bytes container, std::vector<Entry>& entries) {
  for (Bytes rest = container.subspan(kContainerHeader); !rest.empty();) {
    if (rest.size() < kShortEntryHeader)
      return false;
    const auto header = load<std::uint32_t>(rest.data() + 4);
    const auto payload = load<std::uint64_t>(rest.data() + 8);
    if (header < kShortEntryHeader || header > rest.size() || payload > rest.size() - header)
      return false;
    Entry entry;
    entry.kind = load<std::uint16_t>(rest.data());
    entry.compressed = load<std::uint32_t>(rest.data() + 16);
    entry.sm = load<std::uint32_t>(rest.data() + 28);
    entry.flags = load<std::uint64_t>(rest.data() + 40);
    entry.uncompressed = header >= kEntryHeader ? load<std::uint64_t>(rest.data() + 56) : 0;
    if (is_linked(entry) && header >= kEntryHeader)
      entry.max_registers = load<std::uint32_t>(rest.data() + kLinkedRegisters);
    entry.payload = rest.subspan(header, payload);
    entries.push_back(entry);
    rest = rest.subspan(header + payload);
  }
  return true;
}

void cut_at_nul(std::string& text) {
  text.resize(std::min(text.size(), text.find('\0')));
}

// A list may name one container again and again: what all texts take together has a bound too.
bool within_total(std::uint64_t bytes, const Contents& out) {
  for (const PtxText& ptx : out.ptx)
    bytes += ptx.text.size();
  return bytes <= 2 * kLargestText && out.ptx.size() < kMostTexts;
}

bool is_compressed(const Entry& entry) {
  return (entry.flags & (kFlagLz4 | kFlagZstd)) != 0;
}

// The payload of a compressed entry.
Status expand(const Entry& entry, std::string& text, Contents& out) {
  const bool lz4 = (entry.flags & kFlagLz4) != 0, zstd = (entry.flags & kFlagZstd) != 0;
  const std::uint64_t stored = entry.compressed != 0 ? entry.compressed : entry.payload.size();
  if (lz4 && zstd)
    return invalid(out, "an entry is compressed in two ways");
  if (stored > entry.payload.size())
    return invalid(out, "compressed bytes go past their entry");
  if (entry.uncompressed > kLargestText)
    return invalid(out, "an entry says that it expands past 256 MiB");
  const Bytes in = entry.payload.first(stored);
  if (!(lz4 ? decompress_lz4 : decompress_zstd)(in, entry.uncompressed, text))
    return invalid(out, lz4 ? "an LZ4 entry does not decompress" : "a Zstandard entry does not decompress");
  return Status::Ok;
}

Status extract(const Entry& entry, Contents& out) {
  const bool compressed = is_compressed(entry);
  if (!within_total(compressed ? std::min(entry.uncompressed, kLargestText) : entry.payload.size(), out))
    return invalid(out, "its texts take more than 512 MiB together");
  PtxText& made = out.ptx.emplace_back();
  made.sm = entry.sm;
  made.max_registers = entry.max_registers;
  if (compressed) {
    const Status status = expand(entry, made.text, out);
    cut_at_nul(made.text);
    return status;
  }
  made.text.assign(reinterpret_cast<const char*>(entry.payload.data()), entry.payload.size());
  cut_at_nul(made.text);
  // A flag that we do not know may stand for a compression that we do not know.
  if (is_linked(entry) || made.text.find(".version") != std::string::npos)
    return Status::Ok;
  out.message = "a PTX entry of the fat binary is stored in an unknown way";
  return Status::Unsupported;
}

// The newest that the card would take, else the oldest of the newer ones.
const Entry* choose(const std::vector<Entry>& entries, std::uint16_t kind, std::uint32_t sm) {
  const Entry *best = nullptr, *newer = nullptr;
  for (const Entry& entry : entries) {
    if (entry.kind != kind)
      continue;
    if (entry.sm <= sm)
      best = best && best->sm >= entry.sm ? best : &entry;
    else
      newer = newer && newer->sm <= entry.sm ? newer : &entry;
  }
  return best ? best : newer;
}

// A cubin that cannot be read names no kernels: none of them could run in any case.
void name_kernels(const Entry& cubin, Contents& out) {
  std::string file;
  Contents unheard;
  if (is_compressed(cubin) && expand(cubin, file, unheard) != Status::Ok)
    return;
  const Bytes bytes = is_compressed(cubin)
                          ? Bytes(reinterpret_cast<const std::uint8_t*>(file.data()), file.size())
                          : cubin.payload;
  for (std::string& name : kernels_of_cubin(bytes))
    out.cubin_kernels.push_back(std::move(name));
}

} // namespace

std::uint64_t container_bytes(const std::uint8_t* header) noexcept {
  const auto size = load<std::uint64_t>(header + 8);
  const bool known = load<std::uint32_t>(header) == kContainerMagic && load<std::uint16_t>(header + 4) == 1 &&
                     load<std::uint16_t>(header + 6) == kContainerHeader;
  return known && size <= kLargestContainer ? size + kContainerHeader : 0;
}

Status read_container(Bytes container, std::uint32_t sm, Contents& out) {
  std::vector<Entry> entries;
  if (!split(container, entries))
    return invalid(out, "an entry goes past the end of its container");
  for (const Entry& entry : entries)
    if (entry.kind == kKindElf && out.cubin_sms.size() < kMostCubinsNamed)
      out.cubin_sms.push_back(entry.sm);
  const Entry* chosen = choose(entries, kKindPtx, sm);
  if (!chosen) {
    if (const Entry* cubin = choose(entries, kKindElf, sm))
      name_kernels(*cubin, out);
    return Status::NoPtx;
  }
  if (!is_linked(*chosen))
    return extract(*chosen, out);
  for (const Entry& entry : entries) {
    if (entry.kind != kKindPtx || !is_linked(entry))
      continue;
    if (const Status status = extract(entry, out); status != Status::Ok)
      return status;
  }
  return Status::Ok;
}

std::vector<std::uint8_t> pack_linked(const std::vector<std::string>& ptx_texts, std::uint32_t sm,
                                      std::uint32_t max_registers) {
  std::vector<std::uint8_t> bytes(kContainerHeader);
  for (const std::string& text : ptx_texts) {
    const std::size_t start = bytes.size();
    const std::size_t padded = (text.size() + 1 + 7) / 8 * 8; // ends in NUL, next entry aligned
    bytes.resize(start + kEntryHeader + padded);
    put<std::uint16_t>(bytes, start, kKindPtx);
    put<std::uint16_t>(bytes, start + 2, 0x101);
    put<std::uint32_t>(bytes, start + 4, kEntryHeader);
    put<std::uint64_t>(bytes, start + 8, padded);
    put<std::uint32_t>(bytes, start + 28, sm);
    put<std::uint64_t>(bytes, start + 40, kFlagLinked | kFlag64Bit);
    put<std::uint32_t>(bytes, start + kLinkedRegisters, max_registers);
    std::copy(text.begin(), text.end(), bytes.begin() + static_cast<std::ptrdiff_t>(start + kEntryHeader));
  }
  put<std::uint32_t>(bytes, 0, kContainerMagic);
  put<std::uint16_t>(bytes, 4, 1);
  put<std::uint16_t>(bytes, 6, kContainerHeader);
  put<std::uint64_t>(bytes, 8, bytes.size() - kContainerHeader);
  return bytes;
}

} // namespace aliquot::simgpu::image
