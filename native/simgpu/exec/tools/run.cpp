// exec-run: runs a kernel of a PTX file, for tests and measurements.
//
//   exec-run FILE.ptx KERNEL --grid X,Y,Z --block X,Y,Z [--shared BYTES] [--threads N] [--repeat N]
//            [--cooperative] [--budget-ms N] ARGUMENT...
//
// Arguments, in the order of the kernel's parameters:
//   u32:7  s32:-1  u64:7  s64:-1  f32:1.5  f64:1.5  hex:0011aabb     values
//   in:FILE      a buffer with the file's bytes            inout:FILE   the same, written back
//   out:FILE:N   a buffer of N zero bytes, written to FILE  zero:N       a buffer of N zero bytes
// Prints one JSON line: fault, message, seconds, cpu_seconds, lane_instructions, isa. --budget-ms stops and
// resumes the run every N milliseconds.
//
//   exec-run --refusals FILE.ptx...      prints every instruction that is not implemented, with its file
//   exec-run --list-forms                prints the forms of instructions and which are implemented
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <thread>

#include "native/simgpu/exec/exec.hpp"
#include "native/simgpu/exec/tools/forms.hpp"
#include "native/simgpu/ptx/ast.hpp"

namespace {

using namespace aliquot::simgpu;

struct Buffer {
  std::vector<char> bytes;
  std::string write_to;
  std::uint64_t address = 0;
};

// Buffers at made-up device addresses far from host memory, with gaps between them.
class Buffers final : public exec::Memory {
 public:
  std::uint64_t add(std::vector<char> bytes, std::string write_to) {
    auto buffer = std::make_unique<Buffer>();
    buffer->bytes = std::move(bytes);
    buffer->write_to = std::move(write_to);
    buffer->address = next_;
    next_ += (buffer->bytes.size() + 0x1FFFFF) & ~std::uint64_t{0xFFFFF};
    by_address_[buffer->address] = buffer.get();
    all.push_back(std::move(buffer));
    return all.back()->address;
  }

  exec::Range find(std::uint64_t address) const noexcept override {
    auto after = by_address_.upper_bound(address);
    if (after == by_address_.begin())
      return {};
    const Buffer& buffer = *std::prev(after)->second;
    std::uint64_t end = buffer.address + buffer.bytes.size();
    if (address >= end)
      return {};
    return {buffer.address, end,
            static_cast<std::int64_t>(reinterpret_cast<std::uint64_t>(buffer.bytes.data()) - buffer.address),
            true};
  }

  std::vector<std::unique_ptr<Buffer>> all;

 private:
  std::uint64_t next_ = 0x7f0000000000;
  std::map<std::uint64_t, Buffer*> by_address_;
};

struct Options {
  std::string file, kernel;
  exec::Dim3 grid, block;
  std::uint32_t shared = 0, threads = 1, repeat = 1, budget_ms = 0;
  bool cooperative = false;
  std::vector<std::string> arguments;
};

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "exec-run: %s\n", why.c_str());
  std::exit(2);
}

std::vector<char> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    fail("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// A number at `text`, which is moved behind it.
std::uint32_t number(const char*& text) {
  char* end = nullptr;
  const unsigned long value = std::strtoul(text, &end, 10);
  if (end == text)
    fail(std::string("not a number: ") + text);
  text = end;
  return static_cast<std::uint32_t>(value);
}

std::uint32_t whole_number(const char* text) {
  const char* at = text;
  const std::uint32_t value = number(at);
  if (*at != '\0')
    fail(std::string("not a number: ") + text);
  return value;
}

// "x[,y[,z]]"
exec::Dim3 dimensions(const char* text) {
  exec::Dim3 d;
  for (std::uint32_t* each : {&d.x, &d.y, &d.z}) {
    *each = number(text);
    if (*text++ != ',')
      break;
  }
  return d;
}

Options options_of(int count, char** words) {
  Options o;
  std::vector<std::string> plain;
  for (int i = 1; i < count; ++i) {
    std::string word = words[i];
    auto value = [&] { return ++i < count ? words[i] : (fail("no value for " + word), ""); };
    if (word == "--grid")
      o.grid = dimensions(value());
    else if (word == "--block")
      o.block = dimensions(value());
    else if (word == "--shared")
      o.shared = whole_number(value());
    else if (word == "--threads")
      o.threads = whole_number(value());
    else if (word == "--repeat")
      o.repeat = whole_number(value());
    else if (word == "--budget-ms")
      o.budget_ms = whole_number(value());
    else if (word == "--cooperative")
      o.cooperative = true;
    else
      plain.push_back(word);
  }
  if (plain.size() < 2)
    fail("usage: exec-run FILE.ptx KERNEL [options] ARGUMENT...");
  o.file = plain[0];
  o.kernel = plain[1];
  o.arguments.assign(plain.begin() + 2, plain.end());
  return o;
}

template <class T>
std::vector<char> bytes_of(T value) {
  std::vector<char> bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

std::vector<char> hexadecimal(const std::string& text) {
  std::vector<char> bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    bytes.push_back(static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

std::vector<char> argument(const std::string& word, Buffers& buffers) {
  std::size_t colon = word.find(':');
  std::string kind = word.substr(0, colon), rest = colon == std::string::npos ? "" : word.substr(colon + 1);
  if (kind == "u32" || kind == "s32")
    return bytes_of(static_cast<std::uint32_t>(std::strtoll(rest.c_str(), nullptr, 0)));
  if (kind == "u64" || kind == "s64")
    return bytes_of(static_cast<std::uint64_t>(std::strtoull(rest.c_str(), nullptr, 0)));
  if (kind == "f32")
    return bytes_of(std::strtof(rest.c_str(), nullptr));
  if (kind == "f64")
    return bytes_of(std::strtod(rest.c_str(), nullptr));
  if (kind == "hex")
    return hexadecimal(rest);
  if (kind == "in")
    return bytes_of(buffers.add(read_file(rest), ""));
  if (kind == "inout")
    return bytes_of(buffers.add(read_file(rest), rest));
  if (kind == "zero")
    return bytes_of(buffers.add(std::vector<char>(std::strtoull(rest.c_str(), nullptr, 0)), ""));
  if (kind == "out") {
    std::size_t last = rest.rfind(':');
    return bytes_of(buffers.add(std::vector<char>(std::strtoull(rest.c_str() + last + 1, nullptr, 0)),
                                rest.substr(0, last)));
  }
  fail("what is " + word + "?");
}

exec::Launch make_launch(const Options& o, std::shared_ptr<const exec::Program> program, Buffers& buffers) {
  exec::Launch launch;
  launch.program = program;
  launch.kernel = ~std::size_t{0};
  for (std::size_t i = 0; i < program->kernels().size(); ++i)
    if (program->kernels()[i].name == o.kernel)
      launch.kernel = i;
  if (launch.kernel == ~std::size_t{0})
    fail("no kernel " + o.kernel);
  const exec::KernelInfo& info = program->kernels()[launch.kernel];
  if (o.arguments.size() != info.parameters.size())
    fail("the kernel wants " + std::to_string(info.parameters.size()) + " arguments");
  launch.grid = o.grid;
  launch.block = o.block;
  launch.dynamic_shared_bytes = o.shared;
  launch.cooperative = o.cooperative;
  launch.sm_count = 4;
  launch.parameters.resize(info.parameter_bytes);
  for (std::size_t i = 0; i < o.arguments.size(); ++i) {
    std::vector<char> bytes = argument(o.arguments[i], buffers);
    std::memcpy(launch.parameters.data() + info.parameters[i].offset, bytes.data(),
                std::min<std::size_t>(bytes.size(), info.parameters[i].size));
  }
  launch.print = [](std::string_view text) { std::fwrite(text.data(), 1, text.size(), stderr); };
  return launch;
}

exec::Fault run_grid(const Options& o, const exec::Launch& launch, const Buffers& buffers,
                     std::uint64_t& lanes) {
  exec::Fault fault;
  std::unique_ptr<exec::Grid> grid = exec::make_grid(launch, fault);
  if (!grid)
    return fault;
  std::vector<std::unique_ptr<exec::Worker>> workers;
  for (std::uint32_t i = 0; i < o.threads; ++i)
    workers.push_back(exec::make_worker());
  for (bool again = true; again;) {
    std::atomic<bool> stop{false}, yielded{false};
    std::vector<std::thread> threads;
    for (auto& worker : workers)
      threads.emplace_back([&] {
        if (grid->run(*worker, buffers, stop) == exec::Progress::Yielded)
          yielded = true;
      });
    if (o.budget_ms) {
      std::this_thread::sleep_for(std::chrono::milliseconds(o.budget_ms));
      stop = true;
    }
    for (std::thread& thread : threads)
      thread.join();
    again = yielded && grid->fault().kind == exec::FaultKind::None;
  }
  lanes += grid->lane_instructions();
  if (grid->fault().kind == exec::FaultKind::None && !grid->complete())
    fail("the grid ended incomplete");
  return grid->fault();
}

std::string escaped(const std::string& text) {
  std::string out;
  for (char c : text)
    out += c == '"' || c == '\\' ? std::string("\\") + c : c == '\n' ? "\\n" : std::string(1, c);
  return out;
}

int list_refusals(int count, char** words) {
  int found = 0;
  for (int i = 2; i < count; ++i) {
    std::vector<char> text = read_file(words[i]);
    ptx::Module module;
    ptx::ParseError error;
    if (!ptx::parse({text.data(), text.size()}, module, error)) {
      std::printf("%s: line %u: %s\n", words[i], error.position.line, error.message.c_str());
      ++found;
      continue;
    }
    for (const std::string& refusal : exec::refusals(module)) {
      std::printf("%s: %s\n", words[i], refusal.c_str());
      ++found;
    }
  }
  return found ? 1 : 0;
}

} // namespace

int main(int count, char** words) {
  if (count == 2 && std::string(words[1]) == "--list-forms")
    return exec::list_forms();
  if (count > 2 && std::string(words[1]) == "--refusals")
    return list_refusals(count, words);
  Options o = options_of(count, words);
  std::vector<char> text = read_file(o.file);
  ptx::Module module;
  ptx::ParseError error;
  auto started = std::chrono::steady_clock::now();
  auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  };
  if (!ptx::parse({text.data(), text.size()}, module, error))
    fail("line " + std::to_string(error.position.line) + ": " + error.message);
  double parsed = seconds();
  Buffers buffers;
  std::vector<std::uint64_t> addresses;
  for (const exec::GlobalInfo& global : exec::globals_of(module))
    addresses.push_back(buffers.add(std::vector<char>(global.size), ""));
  exec::CompileResult compiled = exec::compile(module, addresses);
  if (!compiled.program) {
    std::printf("{\"unsupported\": %s, \"message\": \"%s\"}\n", compiled.unsupported ? "true" : "false",
                escaped(compiled.message).c_str());
    return 3;
  }
  double decoded = seconds() - parsed;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    std::vector<std::uint8_t> initial = compiled.program->initial_bytes(i);
    std::copy(initial.begin(), initial.end(), buffers.all[i]->bytes.begin());
  }
  exec::Launch launch = make_launch(o, compiled.program, buffers);
  std::uint64_t lanes = 0;
  exec::Fault fault;
  started = std::chrono::steady_clock::now();
  std::clock_t cpu = std::clock();
  for (std::uint32_t i = 0; i < o.repeat && fault.kind == exec::FaultKind::None; ++i)
    fault = run_grid(o, launch, buffers, lanes);
  double took = seconds(), busy = static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC;
  for (auto& buffer : buffers.all)
    if (!buffer->write_to.empty())
      std::ofstream(buffer->write_to, std::ios::binary)
          .write(buffer->bytes.data(), static_cast<std::streamsize>(buffer->bytes.size()));
  const exec::KernelInfo& info = compiled.program->kernels()[launch.kernel];
  std::printf("{\"fault\": %d, \"address\": %llu, \"message\": \"%s\", \"seconds\": %.9f, \"cpu_seconds\": "
              "%.6f, \"parse_seconds\": %.6f, "
              "\"decode_seconds\": %.6f, \"lane_instructions\": %llu, \"isa\": \"%s\", \"registers\": %u, "
              "\"shared\": %u, \"local\": %u, \"thread\": [%u, %u, %u], \"block\": [%u, %u, %u]}\n",
              static_cast<int>(fault.kind), static_cast<unsigned long long>(fault.address),
              escaped(fault.message).c_str(), took, busy, parsed, decoded,
              static_cast<unsigned long long>(lanes), std::string(exec::isa()).c_str(), info.registers,
              info.static_shared_bytes, info.local_bytes, fault.thread[0], fault.thread[1], fault.thread[2],
              fault.block[0], fault.block[1], fault.block[2]);
  return 0;
}
