// What the commands of `aliquot-simgpu` share: their arguments, and how they fail.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "native/simgpu/machine/machine.hpp"

namespace aliquot::simgpu::machine::tool {

class Arguments {
 public:
  // False and a message on standard error where they do not make sense.
  bool parse(int argc, char** argv);

  std::vector<std::string> words; // those without a dash
  bool has(std::string_view flag) const { return options_.contains(std::string(flag)); }
  std::string text(std::string_view option) const;
  // The value of an option as a number; `usual` where it is not given. Empty and a message where it is none.
  std::optional<std::uint64_t> number(std::string_view option, std::uint64_t usual) const;
  bool json() const { return has("--json"); }

 private:
  std::map<std::string, std::string> options_;
};

int fail(const std::string& message, int status = 1);
// Opens the machine to look at it and to change it. Null, and `status` to exit with, where that fails.
std::shared_ptr<Machine> look(int& status);
// The card that --device (or --card) names. Empty and a message where there is none.
std::optional<std::uint32_t> card_of(const Arguments& arguments, const Machine& machine);
// The cards that --device names, or all.
std::optional<std::vector<std::uint32_t>> cards_of(const Arguments& arguments, const Machine& machine);

int run_mig(const Arguments& arguments);
int run_mps(const Arguments& arguments);
int run_timeslice(const Arguments& arguments);
int run_compute_mode(const Arguments& arguments);
int run_context_memory(const Arguments& arguments);
int run_fault(const Arguments& arguments);
int run_events(const Arguments& arguments);
int run_record(const Arguments& arguments);

} // namespace aliquot::simgpu::machine::tool
