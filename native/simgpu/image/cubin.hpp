// The kernels that a cubin names, so that an image of machine code alone can say which it would have.
//
// Nothing of a cubin runs here, and nothing else of it is read. It is ELF (elf(5)): a kernel is a global
// function whose symbol carries STO_CUDA_ENTRY.
#pragma once

#include <string>
#include <vector>

#include "native/simgpu/image/compression/decompress.hpp"

namespace aliquot::simgpu::image {

// In the order of the symbol table; none where `cubin` is malformed.
std::vector<std::string> kernels_of_cubin(Bytes cubin);

} // namespace aliquot::simgpu::image
