// `mig`: dividing cards.
#include <cstdio>

#include "native/simgpu/machine/mig.hpp"
#include "native/simgpu/machine/tool/commands.hpp"
#include "native/simgpu/machine/tool/json.hpp"

namespace aliquot::simgpu::machine::tool {
namespace {

int refuse(MigStatus status, const Machine& machine, std::uint32_t card) {
  switch (status) {
  case MigStatus::Ok:
    return 0;
  case MigStatus::NotSupported:
    return fail(std::string(machine.cards()[card].model->key) + " cards cannot be divided (MIG)");
  case MigStatus::Disabled:
    return fail("MIG mode is off on card " + std::to_string(card) + ": `aliquot simgpu mig on` first");
  case MigStatus::Invalid:
    return fail("no such profile, or not at that place; `aliquot simgpu mig profiles` lists them");
  case MigStatus::NoRoom:
    return fail("there is no room for it beside the instances that there are");
  case MigStatus::NotFound:
    return fail("there is no such instance; `aliquot simgpu mig list` lists them");
  case MigStatus::InUse:
    return fail("it is in use: processes, or instances within it, have to go first");
  }
  return 1;
}

void write_instance(JsonWriter& json, const Mig& mig, std::uint32_t card, const ComputeInstance& instance) {
  json.open_object();
  json.string("uuid", mig_uuid_text(instance.uuid));
  json.string("name", instance.name);
  json.number("card", card);
  json.number("gpu_instance", instance.gpu.id);
  json.number("compute_instance", instance.id);
  json.string("profile", instance.gpu.profile->name);
  json.number("start", instance.gpu.start);
  json.number("compute_slices", instance.slices);
  json.number("sm_count", instance.sm_count);
  const VramInfo vram = mig.vram(card, instance.gpu);
  json.number("vram_bytes", vram.total);
  json.number("vram_used_bytes", vram.used);
  json.number("utilisation_percent", mig.utilisation_percent(card, instance));
  json.number("busy_ns", mig.busy_ns(card, instance));
  json.close_object();
}

int list(const Arguments& arguments, Machine& machine, const std::vector<std::uint32_t>& cards) {
  const Mig& mig = machine.mig();
  JsonWriter json;
  json.open_array();
  for (const std::uint32_t card : cards) {
    json.open_object();
    json.number("card", card);
    json.boolean("mig", mig.enabled(card));
    json.open_array("gpu_instances");
    if (!arguments.json())
      std::printf("%2u  MIG %s\n", card, mig.enabled(card) ? "on" : "off");
    for (const GpuInstance& gpu : mig.gpu_instances(card)) {
      json.open_object();
      json.number("gpu_instance", gpu.id);
      json.string("profile", gpu.profile->name);
      json.number("start", gpu.start);
      json.close_object();
      if (!arguments.json())
        std::printf("    GPU instance %-2u %-12s at %u\n", gpu.id, std::string(gpu.profile->name).c_str(),
                    gpu.start);
    }
    json.close_array();
    json.open_array("devices");
    for (const ComputeInstance& instance : mig.compute_instances(card)) {
      write_instance(json, mig, card, instance);
      if (!arguments.json())
        std::printf("      MIG %-12s %u/%u  %3u SMs  %s\n", instance.name.c_str(), instance.gpu.id,
                    instance.id, instance.sm_count, mig_uuid_text(instance.uuid).c_str());
    }
    json.close_array();
    json.close_object();
  }
  json.close_array();
  if (arguments.json())
    std::puts(json.text().c_str());
  return 0;
}

int profiles(const Arguments& arguments, Machine& machine, std::uint32_t card) {
  JsonWriter json;
  json.open_array();
  for (const MigProfile& profile : machine.cards()[card].model->mig_profiles) {
    const std::uint32_t left = machine.mig().remaining(card, profile);
    json.open_object();
    json.string("name", profile.name);
    json.number("id", profile.id);
    json.number("instances", profile.instances);
    json.number("remaining", left);
    json.number("memory_bytes", profile.memory_bytes);
    json.number("sm_count", profile.sm_count);
    json.close_object();
    if (!arguments.json())
      std::printf("%-12s id %-2u  %u/%u free  %6.2f GiB  %3u SMs\n", std::string(profile.name).c_str(),
                  profile.id, left, profile.instances, static_cast<double>(profile.memory_bytes) / (1 << 30),
                  profile.sm_count);
  }
  json.close_array();
  if (arguments.json())
    std::puts(json.text().c_str());
  return machine.cards()[card].model->mig_profiles.empty() ? refuse(MigStatus::NotSupported, machine, card)
                                                           : 0;
}

// A GPU instance with one compute instance that fills it, as `nvidia-smi mig -cgi PROFILE -C` makes it.
int create(const Arguments& arguments, Machine& machine, std::uint32_t card) {
  const CardModel& model = *machine.cards()[card].model;
  if (model.mig_profiles.empty())
    return refuse(MigStatus::NotSupported, machine, card);
  for (std::size_t i = 1; i < arguments.words.size(); ++i) {
    const MigProfile* profile = find_mig_profile(model, arguments.words[i]);
    if (profile == nullptr)
      return refuse(MigStatus::Invalid, machine, card);
    const std::optional<std::uint64_t> start = arguments.number("--start", 0);
    if (!start)
      return 2;
    GpuInstance gpu;
    const auto place = static_cast<std::uint32_t>(*start);
    if (const int failed =
            refuse(machine.mig().create_gpu_instance(
                       card, *profile, arguments.has("--start") ? std::optional(place) : std::nullopt, gpu),
                   machine, card);
        failed != 0)
      return failed;
    ComputeInstance made;
    if (const int failed = refuse(
            machine.mig().create_compute_instance(card, gpu.id, profile->compute_slices, std::nullopt, made),
            machine, card);
        failed != 0)
      return failed;
    std::puts(mig_uuid_text(made.uuid).c_str());
  }
  return arguments.words.size() > 1 ? 0 : fail("mig create takes profiles, by name or id", 2);
}

// All of a card's instances, or the GPU instance --gpu-instance with what is in it.
int destroy(const Arguments& arguments, Machine& machine, std::uint32_t card) {
  const std::optional<std::uint64_t> only = arguments.number("--gpu-instance", kNoInstance);
  if (!only)
    return 2;
  if (!arguments.has("--all") && !arguments.has("--gpu-instance"))
    return fail("mig destroy takes --gpu-instance ID or --all", 2);
  bool found = false;
  for (const ComputeInstance& instance : machine.mig().compute_instances(card))
    if (*only == kNoInstance || instance.gpu.id == *only)
      if (const int failed = refuse(
              machine.mig().destroy_compute_instance(card, instance.gpu.id, instance.id), machine, card);
          failed != 0)
        return failed;
  for (const GpuInstance& gpu : machine.mig().gpu_instances(card)) {
    if (*only != kNoInstance && gpu.id != *only)
      continue;
    found = true;
    if (const int failed = refuse(machine.mig().destroy_gpu_instance(card, gpu.id), machine, card);
        failed != 0)
      return failed;
  }
  return found || arguments.has("--all") ? 0 : refuse(MigStatus::NotFound, machine, card);
}

} // namespace

int run_mig(const Arguments& arguments) {
  int status;
  const std::shared_ptr<Machine> machine = look(status);
  if (machine == nullptr)
    return status;
  const std::string what = arguments.words.empty() ? "list" : arguments.words[0];
  const auto cards = cards_of(arguments, *machine);
  const auto card = card_of(arguments, *machine);
  if (!cards || !card)
    return 2;
  if (what == "list")
    return list(arguments, *machine, *cards);
  if (what == "profiles")
    return profiles(arguments, *machine, *card);
  if (what == "create")
    return create(arguments, *machine, *card);
  if (what == "destroy")
    return destroy(arguments, *machine, *card);
  if (what != "on" && what != "off")
    return fail("mig takes on, off, list, profiles, create or destroy", 2);
  return refuse(machine->mig().set_mode(*card, what == "on"), *machine, *card);
}

} // namespace aliquot::simgpu::machine::tool
