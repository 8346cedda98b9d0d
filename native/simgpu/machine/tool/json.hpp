// Writes JSON: strings are escaped, and nothing else is needed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace aliquot::simgpu::machine {

class JsonWriter {
 public:
  void open_object(std::string_view key = {}) { open(key, '{'); }
  void close_object() { close('}'); }
  void open_array(std::string_view key = {}) { open(key, '['); }
  void close_array() { close(']'); }
  void string(std::string_view key, std::string_view value);
  void number(std::string_view key, std::uint64_t value);
  void boolean(std::string_view key, bool value);

  const std::string& text() const noexcept { return text_; }

 private:
  void open(std::string_view key, char bracket);
  void close(char bracket);
  void begin(std::string_view key);
  void quote(std::string_view value);

  std::string text_;
  bool first_ = true;
};

} // namespace aliquot::simgpu::machine
