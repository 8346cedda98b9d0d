// ptx-dump: parses PTX files, links them where there are several, and prints what came of it.
//
//   ptx-dump [--ptx | --quiet | --time] FILE...      "-" is standard input
//
// Prints JSON (or PTX with --ptx) and ends with 0; prints {"error", "line"} and ends with 1 where the text is
// no PTX. --quiet prints only errors; --time prints bytes and processor seconds of parsing. Development and
// tests only.
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "native/simgpu/ptx/tools/json.hpp"

namespace ptx = aliquot::simgpu::ptx;

namespace {

std::string read_all(const std::string& path) {
  if (path == "-")
    return {std::istreambuf_iterator<char>(std::cin), {}};
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

int complain(const std::string& file, const ptx::ParseError& error) {
  std::cout << "{\"error\":" << ptx::tools::quoted(error.message) << ",\"line\":" << error.position.line
            << ",\"file\":" << ptx::tools::quoted(file) << "}\n";
  return 1;
}

int run(const std::string& mode, const std::vector<std::string>& files) {
  std::vector<ptx::Module> modules;
  ptx::ParseError error;
  std::size_t bytes = 0;
  std::clock_t spent = 0; // of the processor: other programs on the machine do not count
  for (const std::string& file : files) {
    const std::string text = read_all(file);
    const std::clock_t start = std::clock();
    if (!ptx::parse(text, modules.emplace_back(), error))
      return complain(file, error);
    spent += std::clock() - start;
    bytes += text.size();
  }
  ptx::Module linked;
  if (modules.size() == 1)
    linked = std::move(modules.front());
  else if (!ptx::link(std::move(modules), linked, error))
    return complain("", error);
  if (mode == "--time")
    std::cout << "{\"bytes\":" << bytes << ",\"seconds\":" << static_cast<double>(spent) / CLOCKS_PER_SEC
              << "}\n";
  else if (mode != "--quiet")
    std::cout << (mode == "--ptx" ? ptx::tools::to_ptx(linked) : ptx::tools::to_json(linked)) << "\n";
  return 0;
}

} // namespace

int main(int count, char** arguments) {
  std::string mode;
  std::vector<std::string> files;
  for (int i = 1; i < count; ++i)
    (std::string_view(arguments[i]).starts_with("--") ? mode : files.emplace_back()) = arguments[i];
  if (files.empty()) {
    std::cerr << "usage: ptx-dump [--ptx | --quiet | --time] FILE...\n";
    return 2;
  }
  try {
    return run(mode, files);
  } catch (const std::exception& failure) {
    std::cerr << "ptx-dump: " << failure.what() << "\n";
    return 2;
  }
}
