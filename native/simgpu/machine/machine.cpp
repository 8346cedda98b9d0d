// Opens the machine of this environment.
#include "native/simgpu/machine/machine.hpp"

#include <new>
#include <unistd.h>

#include "native/common/log.hpp"
#include "native/simgpu/machine/home.hpp"
#include "native/simgpu/machine/machine_files.hpp"
#include "native/simgpu/machine/setting.hpp"
#include "native/simgpu/machine/shared_machine.hpp"

namespace aliquot::simgpu::machine {
namespace {

// The account over all homes of a user lies in his default home. Without it each home still has its own.
Mapping open_host_region() {
  const std::string home = "/dev/shm/aliquot-simgpu-" + std::to_string(::geteuid());
  std::string message;
  Mapping mapping;
  if (prepare_home(home, message))
    mapping = open_region(home + "/host-account", {kHostMagic, sizeof(HostRegion)}, "", true, message);
  if (!mapping)
    common::log_line(common::LogLevel::Info, "no account of host memory over all simulated machines: %s",
                     message.c_str());
  return mapping;
}

std::shared_ptr<Machine> open_machine(bool attach, Status& status, std::string& message) {
  const std::string home = home_path();
  status = Status::Unavailable;
  if (!prepare_home(home, message))
    return nullptr;
  std::vector<const CardModel*> models;
  if (!parse_setting(wanted_setting(home), models, message)) {
    message = "simulated card setting: " + message;
    status = Status::BadSetting;
    return nullptr;
  }
  const std::string setting = canonical_setting(models);
  Mapping region = open_region(machine_path(home, setting), {kMachineMagic, sizeof(MachineRegion)}, setting,
                               true, message);
  if (!region)
    return nullptr;
  auto machine =
      std::make_shared<SharedMachine>(std::move(region), open_host_region(), home, setting, models);
  if (attach && !machine->attach()) {
    status = Status::TooManyProcesses;
    message = "all " + std::to_string(kMaxProcesses) + " process slots of the simulated machine are taken";
    return nullptr;
  }
  status = Status::Ok;
  return machine;
}

} // namespace

std::shared_ptr<Machine> Machine::open(bool attach, Status& status, std::string& message) {
  try {
    return open_machine(attach, status, message);
  } catch (const std::bad_alloc&) {
    status = Status::Unavailable;
    return nullptr;
  }
}

} // namespace aliquot::simgpu::machine
