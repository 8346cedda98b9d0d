// The card setting: which models, how many of each.
//
// "h100:2,t4:4": models of the catalogue in the order of their device indices, separated by commas or spaces,
// with a count (1 if left out).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "native/simgpu/machine/card_model.hpp"

namespace aliquot::simgpu::machine {

inline constexpr std::string_view kDefaultSetting = "h100";

// False with a message for people that says what is wrong and what would be right.
bool parse_setting(std::string_view text, std::vector<const CardModel*>& cards, std::string& message);

// One spelling per meaning: "h100:2,t4:1".
std::string canonical_setting(const std::vector<const CardModel*>& cards);

// ALIQUOT_SIMGPU, else what is stored in the home, else the default.
std::string wanted_setting(const std::string& home);
bool setting_is_overridden();

// The wanted setting in canonical form; empty if it does not parse.
std::string current_setting(const std::string& home);

bool store_setting(const std::string& home, const std::string& setting, std::string& message);

} // namespace aliquot::simgpu::machine
