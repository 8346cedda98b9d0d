// image-dump: what image::read makes of files, as JSON. Development and tests only.
//
//   image-dump [--sm N] [--unknown] [--wrapper] [--pack] FILE...
//
// --unknown reads as cuModuleLoadData does, with no length (the file is followed by zeros). --wrapper puts a
// version 1 wrapper around a container, or a version 2 one around several. --pack writes the linked image of
// PTX files to standard output. "-" is standard input, where the files follow each other: u32 length, bytes.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <memory>
#include <string>

#include "native/simgpu/image/image.hpp"

namespace image = aliquot::simgpu::image;

namespace {

struct Options {
  std::uint32_t sm = 80;
  bool unknown = false, pack = false, wrapper = false;
  std::vector<std::string> files;
};

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> read_stream() {
  std::vector<std::string> images;
  for (std::uint32_t length = 0; std::cin.read(reinterpret_cast<char*>(&length), sizeof length);) {
    std::string& bytes = images.emplace_back(length, '\0');
    std::cin.read(bytes.data(), length);
  }
  return images;
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    char escaped[8];
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = byte >= 0x20 && byte < 0x7F && c != '"' && c != '\\';
    std::snprintf(escaped, sizeof escaped, plain ? "%c" : "\\u%04x", byte);
    result += escaped;
  }
  return result + "\"";
}

void print(image::Status status, const image::Contents& contents) {
  constexpr const char* kNames[] = {"ok", "invalid", "no_ptx", "unsupported"};
  std::cout << "{\"status\":\"" << kNames[static_cast<int>(status)]
            << "\",\"message\":" << quoted(contents.message) << ",\"cubins\":[";
  for (std::size_t i = 0; i < contents.cubin_sms.size(); ++i)
    std::cout << (i == 0 ? "" : ",") << contents.cubin_sms[i];
  std::cout << "],\"cubin_kernels\":[";
  for (std::size_t i = 0; i < contents.cubin_kernels.size(); ++i)
    std::cout << (i == 0 ? "" : ",") << quoted(contents.cubin_kernels[i]);
  std::cout << "],\"ptx\":[";
  for (std::size_t i = 0; i < contents.ptx.size(); ++i)
    std::cout << (i == 0 ? "" : ",") << "{\"sm\":" << contents.ptx[i].sm
              << ",\"text\":" << quoted(contents.ptx[i].text) << "}";
  std::cout << "]}\n";
}

// An exact copy on the heap, so that a sanitizer sees a read past it.
void show(const Options& options, const std::string& bytes) {
  const std::size_t slack = options.unknown ? 64 : 0;
  const std::unique_ptr<char[]> copy(new char[bytes.size() + slack]());
  std::memcpy(copy.get(), bytes.data(), bytes.size());
  image::Contents contents;
  const std::size_t known = options.unknown ? std::numeric_limits<std::size_t>::max() : bytes.size();
  print(image::read(copy.get(), known, options.sm, contents), contents);
}

void show_wrapped(const Options& options, const std::vector<std::string>& containers) {
  struct {
    std::uint32_t magic = 0x466243B1, version = 1;
    const void* data = nullptr;
    const void* list = nullptr;
  } wrapper;
  std::vector<const void*> list;
  for (const std::string& container : containers)
    list.push_back(container.data());
  list.push_back(nullptr);
  wrapper.data = list[0];
  if (containers.size() > 1) {
    wrapper.version = 2;
    wrapper.list = list.data();
  }
  image::Contents contents;
  print(image::read(&wrapper, std::numeric_limits<std::size_t>::max(), options.sm, contents), contents);
}

Options options_of(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string_view word = arguments[i];
    if (word == "--sm" && i + 1 < count)
      options.sm = static_cast<std::uint32_t>(std::stoul(arguments[++i]));
    else if (word == "--unknown")
      options.unknown = true;
    else if (word == "--pack")
      options.pack = true;
    else if (word == "--wrapper")
      options.wrapper = true;
    else
      options.files.emplace_back(word);
  }
  return options;
}

void run(const Options& options) {
  std::vector<std::string> inputs;
  for (const std::string& file : options.files) {
    if (file == "-")
      inputs = read_stream();
    else
      inputs.push_back(read_file(file));
  }
  if (options.pack) {
    const std::vector<std::uint8_t> bytes = image::pack_linked(inputs, options.sm);
    std::cout.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  } else if (options.wrapper) {
    show_wrapped(options, inputs);
  } else {
    for (const std::string& input : inputs)
      show(options, input);
  }
}

} // namespace

int main(int count, char** arguments) {
  const Options options = options_of(count, arguments);
  if (options.files.empty() && !options.pack) {
    std::cerr << "usage: image-dump [--sm N] [--unknown] [--wrapper] [--pack] FILE...\n";
    return 2;
  }
  try {
    run(options);
    return 0;
  } catch (const std::exception& failure) {
    std::cerr << "image-dump: " << failure.what() << "\n";
    return 2;
  }
}
