// Device printf and assert: the calls that compilers make into the device runtime.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "native/simgpu/exec/block_state.hpp"

namespace aliquot::simgpu::exec {
namespace {

constexpr std::size_t kMostText = 4096; // of a format or a %s
constexpr int kMostWidth = 1024;        // of one field: "%999999999d" is a way to take the host's memory

// Reads arguments as the caller laid them out: each at its natural alignment, integers of 4 or 8 bytes.
class Arguments {
 public:
  Arguments(Context* context, std::uint64_t at) : context_(context), at_(at) {}

  template <class T>
  T next() {
    T value{};
    at_ = (at_ + sizeof(T) - 1) / sizeof(T) * sizeof(T);
    read_device(context_, at_, &value, sizeof value);
    at_ += sizeof(T);
    return value;
  }

 private:
  Context* context_;
  std::uint64_t at_;
};

// One conversion: "%-*.3lld" split into flags, width, precision, length and letter.
struct Conversion {
  std::string flags;
  int width = -1, precision = -1;
  bool is_long = false; // l, ll, j, z, t: 8 bytes
  int narrow = 0;       // h, hh
  char letter = 0;
};

const char* read_number(const char* at, int& number) {
  number = 0;
  for (; *at >= '0' && *at <= '9'; ++at)
    number = std::min(number * 10 + (*at - '0'), kMostWidth);
  return at;
}

const char* read_field(const char* at, int& number, Arguments& arguments) {
  if (*at != '*')
    return read_number(at, number);
  number = std::clamp(arguments.next<std::int32_t>(), -kMostWidth, kMostWidth);
  return at + 1;
}

const char* read_conversion(const char* at, Conversion& c, Arguments& arguments) {
  while (*at && std::strchr("-+ #0", *at))
    c.flags += *at++;
  if (c.flags.size() > 8)
    c.flags.resize(8);
  if (*at == '*' || (*at >= '0' && *at <= '9'))
    at = read_field(at, c.width, arguments);
  if (c.width < -1) {
    c.flags += '-';
    c.width = -c.width;
  }
  if (*at == '.')
    at = read_field(at + 1, c.precision, arguments);
  for (; *at && std::strchr("lhjztL", *at); ++at) {
    c.is_long |= *at != 'h' && *at != 'L';
    c.narrow += *at == 'h';
  }
  c.letter = *at;
  return *at ? at + 1 : at;
}

template <class T>
void append(std::string& out, const Conversion& c, const char* length, T value) {
  char format[32];
  char text[kMostWidth + 512];
  std::snprintf(format, sizeof format, "%%%s%s%s%s%c", c.flags.c_str(), c.width >= 0 ? "*" : "",
                c.precision >= 0 ? ".*" : "", length, c.letter);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  if (c.width >= 0 && c.precision >= 0)
    std::snprintf(text, sizeof text, format, c.width, c.precision, value);
  else if (c.width >= 0 || c.precision >= 0)
    std::snprintf(text, sizeof text, format, c.width >= 0 ? c.width : c.precision, value);
  else
    std::snprintf(text, sizeof text, format, value);
#pragma GCC diagnostic pop
  out += text;
}

void append_integer(std::string& out, const Conversion& c, Arguments& arguments) {
  bool is_signed = c.letter == 'd' || c.letter == 'i';
  long long value =
      c.is_long ? static_cast<long long>(arguments.next<std::int64_t>()) : arguments.next<std::int32_t>();
  if (!c.is_long && c.narrow == 1)
    value = is_signed ? static_cast<long long>(static_cast<std::int16_t>(value))
                      : static_cast<std::uint16_t>(value);
  else if (!c.is_long && c.narrow >= 2)
    value = is_signed ? static_cast<long long>(static_cast<std::int8_t>(value))
                      : static_cast<std::uint8_t>(value);
  else if (!c.is_long && !is_signed)
    value = static_cast<std::uint32_t>(value);
  append(out, c, "ll", value);
}

void append_conversion(std::string& out, const Conversion& c, Context* context, Arguments& arguments) {
  switch (c.letter) {
  case 'd':
  case 'i':
  case 'u':
  case 'o':
  case 'x':
  case 'X':
    append_integer(out, c, arguments);
    break;
  case 'e':
  case 'E':
  case 'f':
  case 'F':
  case 'g':
  case 'G':
  case 'a':
  case 'A':
    append(out, c, "", arguments.next<double>());
    break;
  case 'c':
    append(out, c, "", static_cast<int>(arguments.next<std::int32_t>()));
    break;
  case 'p':
    append(out, c, "", reinterpret_cast<void*>(arguments.next<std::uint64_t>()));
    break;
  case 's': {
    std::uint64_t at = arguments.next<std::uint64_t>();
    std::string text = at ? read_device_string(context, at, kMostText) : "(null)";
    if (c.precision >= 0 && text.size() > static_cast<std::size_t>(c.precision))
      text.resize(static_cast<std::size_t>(c.precision));
    std::size_t width = c.width > 0 ? static_cast<std::size_t>(c.width) : 0;
    std::string pad(width > text.size() ? width - text.size() : 0, ' ');
    out += c.flags.find('-') != std::string::npos ? text + pad : pad + text;
    break;
  }
  default:
    break; // what printf does not know either
  }
}

} // namespace

std::string format_printf(Context* context, std::uint64_t format_address, std::uint64_t argument_address) {
  std::string format = read_device_string(context, format_address, kMostText);
  Arguments arguments(context, argument_address);
  std::string out;
  for (const char* at = format.c_str(); *at;) {
    if (*at != '%') {
      out += *at++;
    } else if (at[1] == '%') {
      out += '%';
      at += 2;
    } else {
      Conversion conversion;
      at = read_conversion(at + 1, conversion, arguments);
      append_conversion(out, conversion, context, arguments);
    }
  }
  return out;
}

namespace runtime {
namespace {

std::uint64_t argument_of(const char* rows, const FrameSlot& slot, std::uint32_t lane) {
  std::uint32_t low = 0, high = 0;
  std::memcpy(&low, rows + slot.offset + lane * 4, 4);
  if (slot.bytes >= 256)
    std::memcpy(&high, rows + slot.offset + 128 + lane * 4, 4);
  return std::uint64_t{high} << 32 | low;
}

void print_lanes(Context* context, const CallSite& site, char* rows, std::uint32_t mask) {
  for (std::uint32_t left = mask; left; left &= left - 1) {
    std::uint32_t lane = static_cast<std::uint32_t>(__builtin_ctz(left));
    std::string text = format_printf(context, argument_of(rows, site.arguments[0], lane),
                                     argument_of(rows, site.arguments[1], lane));
    if (context->block->launch->print)
      context->block->launch->print(text);
    if (!site.results.empty()) { // vprintf gives the number of arguments; programs only look for success
      std::uint32_t one = 1;
      std::memcpy(rows + site.results[0].offset + lane * 4, &one, 4);
    }
  }
}

// "file:line: function: block: [x,y,z], thread: [x,y,z] Assertion `...` failed."
void report_assert(Context* context, const Op* op, const CallSite& site, char* rows, std::uint32_t mask) {
  std::uint32_t lane = static_cast<std::uint32_t>(__builtin_ctz(mask));
  auto text = [&](std::size_t i) {
    return i < site.arguments.size()
               ? read_device_string(context, argument_of(rows, site.arguments[i], lane), 1024)
               : std::string();
  };
  std::uint64_t line = site.arguments.size() > 2 ? argument_of(rows, site.arguments[2], lane) : 0;
  raise(context, op, Why::Assert, mask, 0);
  Fault& fault = context->block->fault;
  std::string message = text(1) + ":" + std::to_string(static_cast<std::uint32_t>(line)) + ": " + text(3) +
                        ": block: [" + std::to_string(fault.block[0]) + "," + std::to_string(fault.block[1]) +
                        "," + std::to_string(fault.block[2]) + "], thread: [" +
                        std::to_string(fault.thread[0]) + "," + std::to_string(fault.thread[1]) + "," +
                        std::to_string(fault.thread[2]) + "] Assertion `" + text(0) + "` failed.\n";
  if (context->block->launch->print)
    context->block->launch->print(message);
}

} // namespace

void system_call(Context* context, const Op* op, char* rows, std::uint32_t mask) {
  const CallSite& site = *static_cast<const CallSite*>(op->pointer);
  if (site.system == SystemFunction::AssertFail) {
    report_assert(context, op, site, rows, mask);
    context->op = nullptr;
    return;
  }
  if (site.system == SystemFunction::Free && !free_lanes(context, op, site, rows, mask)) {
    context->op = nullptr;
    return;
  }
  if (site.system == SystemFunction::Malloc)
    malloc_lanes(context, site, rows, mask);
  if (site.system == SystemFunction::Vprintf && site.arguments.size() >= 2)
    print_lanes(context, site, rows, mask);
  context->op = op + 1;
  context->rows = rows;
  context->mask = mask;
}

} // namespace runtime
} // namespace aliquot::simgpu::exec
