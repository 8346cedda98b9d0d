// Fuzzes the image reader: wrappers, containers, entries, LZ4 and Zstandard.
//
// Holds for every input: no text larger than its bound, a message with every refusal, nothing left in `ptx`
// after one, the same answer twice, and what was read packs and reads back.
#include <cstring>
#include <memory>

#include "native/common/fuzz/fuzz.hpp"
#include "native/simgpu/image/fatbin.hpp"
#include "native/simgpu/image/image.hpp"

namespace {

namespace image = aliquot::simgpu::image;
using aliquot::fuzz::require;

// A wrapper holds addresses. Inputs hold offsets from their own start there, so that some point inside.
void relocate(std::uint8_t* data, std::size_t size, std::size_t at) {
  std::uint64_t offset = 0;
  if (at + sizeof offset > size)
    return;
  std::memcpy(&offset, data + at, sizeof offset);
  if (offset == 0)
    return;
  offset += reinterpret_cast<std::uintptr_t>(data);
  std::memcpy(data + at, &offset, sizeof offset);
}

void relocate_wrapper(std::uint8_t* data, std::size_t size) {
  constexpr std::uint8_t kMagic[] = {0xB1, 0x43, 0x62, 0x46};
  if (size < 24 || std::memcmp(data, kMagic, sizeof kMagic) != 0)
    return;
  std::uint64_t list = 0;
  std::memcpy(&list, data + 16, sizeof list);
  for (std::size_t i = 0; i < 8 && list < size; ++i)
    relocate(data, size, list + 8 * i);
  relocate(data, size, 8);
  relocate(data, size, 16);
}

void check_pack(const image::Contents& contents) {
  std::vector<std::string> texts;
  for (const image::PtxText& ptx : contents.ptx)
    texts.push_back(ptx.text);
  const std::vector<std::uint8_t> packed = image::pack_linked(texts, 80);
  image::Contents again;
  require(image::read(packed.data(), packed.size(), 80, again) == image::Status::Ok, "a packed image reads");
  require(again.ptx.size() == texts.size(), "a packed image holds every text");
  for (std::size_t i = 0; i < texts.size(); ++i)
    require(again.ptx[i].text == texts[i], "a packed text is the same");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0)
    return 0;
  const std::unique_ptr<std::uint8_t[]> copy(new std::uint8_t[size]);
  std::memcpy(copy.get(), data, size);
  relocate_wrapper(copy.get(), size);
  image::Contents contents, again;
  const image::Status status = image::read(copy.get(), size, 80, contents);
  require(image::read(copy.get(), size, 80, again) == status, "the same image gives the same answer");
  for (const image::PtxText& ptx : contents.ptx)
    require(ptx.text.size() <= image::kLargestText, "a text is bounded");
  require((status == image::Status::Ok) == contents.message.empty(),
          "a message with every refusal, and only then");
  require((status == image::Status::Ok) == !contents.ptx.empty(), "text where there is some, and only then");
  if (status == image::Status::Ok)
    check_pack(contents);
  return 0;
}

std::vector<std::string_view> aliquot::fuzz::words() {
  using namespace std::string_view_literals;
  return {"\xB1\x43\x62\x46\x01\0\0\0"sv,
          "\xB1\x43\x62\x46\x02\0\0\0"sv,
          "\x50\xED\x55\xBA\x01\0\x10\0"sv,
          "\x01\0\x01\x01\x40\0\0\0"sv,
          "\x02\0\x01\x01\x40\0\0\0"sv,
          "\x28\xB5\x2F\xFD"sv,
          "\x11\x20\0\0\0\0\0\0"sv,
          "\x11\x80\0\0\0\0\0\0"sv,
          "\x7F"
          "ELF"sv,
          ".version 8.0\n"sv,
          "\0\0\0\0\0\0\0\0"sv,
          "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"sv};
}

std::vector<std::string_view> aliquot::fuzz::seeds() {
  static const std::vector<std::uint8_t> packed =
      image::pack_linked({".version 8.0\n.target sm_80\n", ".version 7.0\n.target sm_70\n"}, 80);
  return {".version 8.0\n.target sm_80\n", {reinterpret_cast<const char*>(packed.data()), packed.size()}};
}
