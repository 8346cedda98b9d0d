// The entry point: text in, module or error out, nothing thrown.
#include <new>

#include "native/simgpu/ptx/parser.hpp"

namespace aliquot::simgpu::ptx {

bool parse(std::string_view text, Module& module, ParseError& error, const ParseLimits& limits) {
  try {
    module = {};
    Parser(text, module, limits).run();
    return true;
  } catch (const Failure& failure) {
    error = {{failure.line}, failure.what()};
  } catch (const std::exception&) { // bad_alloc, length_error: the module asks for more than the host has
    error = {{0}, "not enough host memory to parse this module"};
  }
  module = {};
  return false;
}

} // namespace aliquot::simgpu::ptx
