#include "native/simgpu/machine/tool/json.hpp"

#include <cstdio>

namespace aliquot::simgpu::machine {

void JsonWriter::string(std::string_view key, std::string_view value) {
  begin(key);
  quote(value);
}

void JsonWriter::number(std::string_view key, std::uint64_t value) {
  begin(key);
  text_ += std::to_string(value);
}

void JsonWriter::boolean(std::string_view key, bool value) {
  begin(key);
  text_ += value ? "true" : "false";
}

void JsonWriter::open(std::string_view key, char bracket) {
  begin(key);
  text_ += bracket;
  first_ = true;
}

void JsonWriter::close(char bracket) {
  text_ += bracket;
  first_ = false;
}

void JsonWriter::begin(std::string_view key) {
  if (!first_)
    text_ += ", ";
  first_ = false;
  if (key.empty())
    return;
  quote(key);
  text_ += ": ";
}

void JsonWriter::quote(std::string_view value) {
  text_ += '"';
  for (const char c : value) {
    const auto code = static_cast<unsigned char>(c);
    // Names of programs may be any bytes: what is not ASCII is written as if it were Latin-1, which always is
    // JSON.
    if (code < 0x20 || code >= 0x7f || c == '"' || c == '\\') {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", code);
      text_ += escaped;
    } else {
      text_ += c;
    }
  }
  text_ += '"';
}

} // namespace aliquot::simgpu::machine
