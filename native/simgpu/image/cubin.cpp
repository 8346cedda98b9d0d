// Names of kernels in a cubin; see cubin.hpp.
#include "native/simgpu/image/cubin.hpp"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "native/simgpu/image/elf.hpp"

namespace aliquot::simgpu::image {
namespace {

constexpr std::uint8_t kEntryPoint = 0x10; // STO_CUDA_ENTRY in st_other
constexpr std::size_t kMostKernels = 65536;

// The `index`-th T of `bytes`, which need not be aligned. False where it does not lie inside.
template <typename T>
bool element(Bytes bytes, std::size_t index, T& out) {
  if (index >= bytes.size() / sizeof(T))
    return false;
  std::memcpy(&out, bytes.data() + index * sizeof(T), sizeof(T));
  return true;
}

// Empty where the section does not lie inside of the file.
Bytes contents(Bytes file, const Elf64_Shdr& section) {
  if (section.sh_offset > file.size() || section.sh_size > file.size() - section.sh_offset)
    return {};
  return file.subspan(section.sh_offset, section.sh_size);
}

Bytes section_headers(Bytes file) {
  Elf64_Ehdr header;
  std::uint32_t magic = 0;
  if (!element(file, 0, header) || !element(file, 0, magic) || magic != kElfMagic)
    return {};
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_shentsize != sizeof(Elf64_Shdr))
    return {};
  const std::uint64_t bytes = std::uint64_t{header.e_shnum} * sizeof(Elf64_Shdr);
  if (header.e_shoff > file.size() || bytes > file.size() - header.e_shoff)
    return {};
  return file.subspan(header.e_shoff, bytes);
}

bool is_kernel(const Elf64_Sym& symbol) {
  return ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && symbol.st_shndx != SHN_UNDEF &&
         (symbol.st_other & kEntryPoint) != 0;
}

std::string name_at(Bytes strings, std::size_t at) {
  if (at >= strings.size())
    return {};
  const Bytes rest = strings.subspan(at);
  return {rest.begin(), std::find(rest.begin(), rest.end(), 0)};
}

void add_kernels(Bytes symbols, Bytes strings, std::vector<std::string>& names) {
  Elf64_Sym symbol;
  for (std::size_t i = 0; names.size() < kMostKernels && element(symbols, i, symbol); ++i)
    if (is_kernel(symbol))
      if (std::string name = name_at(strings, symbol.st_name); !name.empty())
        names.push_back(std::move(name));
}

} // namespace

std::vector<std::string> kernels_of_cubin(Bytes cubin) {
  std::vector<std::string> names;
  const Bytes sections = section_headers(cubin);
  Elf64_Shdr section, strings;
  for (std::size_t i = 0; element(sections, i, section); ++i)
    if (section.sh_type == SHT_SYMTAB && element(sections, section.sh_link, strings))
      add_kernels(contents(cubin, section), contents(cubin, strings), names);
  return names;
}

} // namespace aliquot::simgpu::image
