// A slice whose files say anything: opening, reserving, reading and burying must end, and stay within their
// bounds.
//
// The input is laid over the account, and over the limits, from an offset that it names itself.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

#include "native/common/fuzz/fuzz.hpp"
#include "native/limiter/region/ledger.hpp"
#include "native/limiter/region/process_identity.hpp"
#include "native/limiter/region/slice_view.hpp"

namespace limiter = aliquot::limiter;
namespace layout = aliquot::limiter::layout;
using aliquot::fuzz::require;

namespace {

constexpr std::uint64_t kLimit = std::uint64_t{1} << 30u;

// The two files, mapped writable here, whatever the code under test may do with them.
class Files {
 public:
  Files() {
    char folder[] = "/tmp/aliquot-fuzz-XXXXXX";
    require(mkdtemp(folder) != nullptr, "a folder for the slice");
    folder_ = folder;
    limits_ = static_cast<layout::Limits*>(map(limits_path(), sizeof(layout::Limits)));
    account_ = static_cast<layout::Account*>(map(account_path(), sizeof(layout::Account)));
    restore();
  }
  ~Files() {
    unlink(limits_path().c_str());
    unlink(account_path().c_str());
    rmdir(folder_.c_str());
  }
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;

  void restore() {
    std::memset(static_cast<void*>(limits_), 0, sizeof *limits_);
    std::memset(static_cast<void*>(account_), 0, sizeof *account_);
    head(*limits_, layout::kLimitsMagic);
    head(*account_, layout::kAccountMagic);
    limits_->device_count = 1;
    limits_->devices[0].vram_bytes.store(kLimit);
  }

  const char* folder() const { return folder_.c_str(); }
  layout::Limits& limits() { return *limits_; }
  layout::Account& account() { return *account_; }

 private:
  std::string limits_path() const { return folder_ + "/limits"; }
  std::string account_path() const { return folder_ + "/account"; }

  template <typename File>
  static void head(File& file, const char* magic) {
    std::memcpy(file.magic, magic, sizeof file.magic);
    file.version = layout::kVersion;
    file.size = sizeof(File);
  }

  static void* map(const std::string& path, std::size_t size) {
    const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    require(descriptor >= 0 && ftruncate(descriptor, static_cast<off_t>(size)) == 0, "a file of the slice");
    void* mapping = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    require(mapping != MAP_FAILED, "a mapping of it");
    return mapping;
  }

  std::string folder_;
  layout::Limits* limits_ = nullptr;
  layout::Account* account_ = nullptr;
};

template <typename File>
void lay_over(File& file, std::uint32_t offset, const std::uint8_t* data, std::size_t size) {
  const std::size_t at = offset % sizeof(File);
  std::memcpy(reinterpret_cast<char*>(&file) + at, data, std::min(size, sizeof(File) - at));
}

void check_figures(const limiter::SliceRegion& region, limiter::Ledger& ledger) {
  require(region.device_count() <= layout::kMaxDevices, "the number of devices is bounded");
  for (unsigned device = 0; device <= layout::kMaxDevices; ++device) {
    const limiter::VramUse use = ledger.use(device);
    require(use.limit <= limiter::kMaxBytes && use.free() <= use.limit, "free memory is a part of the limit");
    require(limiter::vram_use(region, device).used <= limiter::kMaxBytes * layout::kMaxProcesses,
            "use is bounded");
  }
}

void check_ledger(const limiter::SliceRegion& region, limiter::Ledger& ledger, std::uint64_t bytes) {
  check_figures(region, ledger);
  const bool given = ledger.reserve(0, bytes);
  require(!given || bytes <= region.vram_limit(0), "nothing larger than the limit is given");
  if (given)
    ledger.release(0, bytes);
  ledger.release(0, UINT64_MAX);
  check_figures(region, ledger);
}

} // namespace

namespace aliquot::fuzz {

std::vector<std::string_view> words() {
  return {layout::kLimitsMagic, layout::kAccountMagic,
          std::string_view("\xff\xff\xff\xff\xff\xff\xff\xff", 8),
          std::string_view("\x01\x00\x00\x00\x00\x00\x00\x00", 8)};
}

std::vector<std::string_view> seeds() {
  return {std::string_view("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00", 12),
          std::string_view("\x00\x05\x00\x00\x10\x00\x00\x00\xff\xff\x00\x00\x01", 13)};
}

} // namespace aliquot::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Files files;
  std::uint32_t offsets[2] = {};
  std::uint64_t bytes = 0;
  if (size < sizeof offsets + sizeof bytes)
    return 0;
  std::memcpy(offsets, data, sizeof offsets);
  std::memcpy(&bytes, data + sizeof offsets, sizeof bytes);
  const std::uint8_t* rest = data + sizeof offsets + sizeof bytes;
  const std::size_t length = size - sizeof offsets - sizeof bytes;

  const char* problem = nullptr;
  static limiter::SliceRegion* region =
      limiter::SliceRegion::open(files.folder(), limiter::SliceRegion::Access::Account, problem);
  static limiter::Ledger* ledger = region != nullptr ? limiter::Ledger::attach(*region) : nullptr;
  require(ledger != nullptr, "a good slice can be joined");

  lay_over(files.account(), offsets[0], rest, length);
  lay_over(files.limits(), offsets[1], rest, length);
  check_ledger(*region, *ledger, bytes);
  const limiter::SliceRegion* again =
      limiter::SliceRegion::open(files.folder(), limiter::SliceRegion::Access::Look, problem);
  require(again != nullptr || problem != nullptr, "a slice that cannot be used is explained");
  limiter::SliceRegion::close(again);
  files.restore();
  return 0;
}
