"""Slices of one machine's cards: made, read, changed and removed.

A slice is a folder of shared memory. Its file `limits` states what a program and its children may use of a
card, in `account` their processes account for what they use, and in `grant` the arbiter of the machine lends
them the card. The limiter inside those processes obeys it;
this package is the other side. It starts no program and loads no driver: `aliquot.mechanisms.limiter` gives
the environment that puts a program on a slice.

    with Slice.create(vram_bytes=2 * 2**30, device="GPU-...", driver=Path(".../libcuda.so.1")) as made:
        ...                                    # run programs on it
        made.usage().vram_used_bytes           # live, over all of its processes
        made.set_vram_limit(3 * 2**30)         # in force with the next allocation
        made.set_compute(percent(30))          # guaranteed from now on; in force within 200 ms
                                               # leaving the block removes it

Signatures:

    Slice.create(*, vram_bytes, device=0, compute=UNSTATED, compute_limit=UNSTATED, qos=None, driver=None,
                 nvml=None, name="", home=None, tenant_uid=None, allow_unlisted=False, fixed=False)
    Slice.create_on(limits, *, ...)            # several devices; the rest as for create
    Slice.open(path)      Slice.all(home=None)
    made.path   made.name   made.limits()   made.qos()   made.usage()   made.arbiter()   made.standing()
    made.tenant_uid   made.fixed
    made.remove()
    made.set_vram_limit(vram_bytes, *, index=0)   made.set_compute(request, limit=UNSTATED, *, index=0)
    made.set_qos(level)   made.change(limit, qos=None, *, index=0)

Compute is in millionths of a card (`aliquot.model.Ppm`, `percent`); levels of service are those of
`aliquot.catalog.qos_levels`, or a `QosLevel` of one's own.

`homes()` lists the folders with slices that this user may see: the person's own, and the machine's.

Errors are `aliquot.errors.InvalidValueError` and those of `aliquot.limits.errors`, each with a stable code.
"""

from aliquot.limits.errors import SliceAccessError, SliceDamagedError, SliceExistsError, SliceNotFoundError
from aliquot.limits.homes import default_home, homes, people_homes
from aliquot.limits.slices import Slice
from aliquot.limits.standing import Member, Standing
from aliquot.limits.usage import Arbiter, DeviceLimit, DeviceUsage, ProcessUsage, SliceUsage, Work

__all__ = [
    "Arbiter",
    "DeviceLimit",
    "DeviceUsage",
    "Member",
    "ProcessUsage",
    "Slice",
    "SliceAccessError",
    "SliceDamagedError",
    "SliceExistsError",
    "SliceNotFoundError",
    "SliceUsage",
    "Standing",
    "Work",
    "default_home",
    "homes",
    "people_homes",
]
