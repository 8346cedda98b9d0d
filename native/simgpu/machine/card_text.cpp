#include "native/simgpu/machine/card_text.hpp"

#include <cstdio>

namespace aliquot::simgpu::machine {

std::string uuid_text(const Card& card) {
  const std::uint8_t* u = card.uuid;
  char text[48];
  std::snprintf(text, sizeof text, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14],
                u[15]);
  return text;
}

std::string bus_id_text(const Card& card) {
  char text[32];
  std::snprintf(text, sizeof text, "%08X:%02X:%02X.0", card.pci_domain, card.pci_bus, card.pci_device);
  return text;
}

} // namespace aliquot::simgpu::machine
