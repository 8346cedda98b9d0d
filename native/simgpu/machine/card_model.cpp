// Looks models up in the generated table.
#include "native/simgpu/machine/card_model.hpp"

#include <cstddef>

namespace aliquot::simgpu::machine {
namespace {

struct Alias {
  std::string_view alias;
  std::size_t index;
};

#include "aliquot/card_models.inc"

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool same(std::string_view key, std::string_view text) {
  if (key.size() != text.size())
    return false;
  for (std::size_t i = 0; i < key.size(); ++i)
    if (key[i] != lower(text[i]))
      return false;
  return true;
}

} // namespace

std::span<const CardModel> card_models() noexcept {
  return kCardModels;
}

const CardModel* find_card_model(std::string_view key) noexcept {
  for (const CardModel& model : kCardModels)
    if (same(model.key, key))
      return &model;
  for (const Alias& entry : kAliases)
    if (same(entry.alias, key))
      return &kCardModels[entry.index];
  return nullptr;
}

} // namespace aliquot::simgpu::machine
