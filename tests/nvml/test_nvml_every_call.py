"""Every function of nvidia-ml-py that asks something is called, as the module lists them, not as we do.

An answer or an NVMLError of the kinds that `nvml.h` documents for questions; never a crash, and never an
error of another kind that the client does not make itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Nvml = Callable[..., Any]

# Arguments by the names that nvidia-ml-py gives them; a function with another name is called without.
CALL_ALL = """
import inspect, re
values = dict(index=0, link=0, sensor=0, type=0, counter=0, counterType=0, errorType=0, locationType=0,
              clockType=0, clockId=0, pstate=0, fan=0, profile=0, profileId=0, scope=0,
              nodeSetSize=1, cpuSetSize=1,
              cpuNumber=0,
              level=30, p2pIndex=0, pid=1, timeStamp=0, sampling_type=0, object=1, infoRomObject=1, mode=0,
              apiType=0, capability=0, eventTypes=0, memoryClockMHz=2619, sensorIndex=0, thresholdType=0,
              perfPolicyType=0, which=0, sourceFilter=0, cause=0, version=2, engProfile=0, domain=0)
def arguments(call, device):
    found = []
    for parameter in inspect.signature(call).parameters.values():
        if parameter.default is not parameter.empty: continue
        if parameter.name.rstrip('12') in ('handle', 'device'): found.append(device)
        elif parameter.name in values: found.append(values[parameter.name])
        else: found.append(None)
    return found
asking = re.compile(r'nvml(Device(Get|Is|On|Query)|SystemGet|UnitGet|Get|GpuInstanceGet|ComputeInstanceGet|'
                    r'GpmQuery)')
result = {}
for name, call in sorted(vars(n).items()):
    if not inspect.isfunction(call) or not asking.match(name): continue
    answers = []
    for card in range(n.nvmlDeviceGetCount()):
        try:
            call(*arguments(call, n.nvmlDeviceGetHandleByIndex(card)))
            answers.append('value')
        except n.NVMLError as error: answers.append(error.value)
        except Exception as error: answers.append('client: ' + type(error).__name__)
    result[name] = answers
"""
ERRORS = {1, 2, 3, 4, 6, 7, 25, 26, 999}


@pytest.fixture
def answers(nvml: Nvml) -> dict[str, list[Any]]:
    return nvml(CALL_ALL)


def test_every_asking_call_answers(answers: dict[str, list[Any]]) -> None:
    assert len(answers) > 200
    odd = {
        name: [each for each in given if isinstance(each, int) and each not in ERRORS]
        for name, given in answers.items()
    }
    assert {name: errors for name, errors in odd.items() if errors} == {}
    answered = {name for name, given in answers.items() if "value" in given}
    assert len(answered) > 120


def test_bare_metal_without_vgpu(answers: dict[str, list[Any]]) -> None:
    """What a host without vGPU says of it."""
    of_vgpu = {name: given for name, given in answers.items() if "Vgpu" in name and "value" in given}
    assert of_vgpu == {}


def test_nothing_answers_before_it_is_initialised(nvml: Nvml) -> None:
    given = nvml(
        "L = ctypes.CDLL('libnvidia-ml.so.1')\n"
        "names = ['nvmlDeviceGetCount_v2', 'nvmlDeviceGetPowerUsage', 'nvmlDeviceGetSupportedVgpus',\n"
        "         'nvmlEventSetCreate', 'nvmlUnitGetCount', 'nvmlDeviceGetMigMode', 'nvmlGpmSampleAlloc']\n"
        "result = [getattr(L, name)(*[ctypes.c_void_p(None)] * 5) for name in names]",
        initialise=False,
    )
    assert given == [1] * 7
