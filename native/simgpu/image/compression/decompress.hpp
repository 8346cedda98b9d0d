// Undoes the two compressions that fat binaries use: LZ4 raw blocks and Zstandard frames.
//
// Written here rather than linked: images are hostile input inside other people's processes, the injected
// libraries may need nothing newer than GLIBC_2.17, and a build needs no compression library. Every read is
// checked against the input and every write against the size that the caller allows. Decoding only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace aliquot::simgpu::image {

using Bytes = std::span<const std::uint8_t>;

// Decodes `in` to exactly `size` bytes. False where it is malformed or gives more or fewer.
bool decompress_lz4(Bytes in, std::size_t size, std::string& out);

// Decodes all frames of `in` to exactly `size` bytes. Dictionaries are not supported; the content checksum,
// where a frame has one, is verified.
bool decompress_zstd(Bytes in, std::size_t size, std::string& out);

} // namespace aliquot::simgpu::image
