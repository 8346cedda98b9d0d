"""In a slice: NVML shows one card, with the slice's memory."""

import sys

import pynvml

limit = int(sys.argv[1])
pynvml.nvmlInit()
count = pynvml.nvmlDeviceGetCount()
memory = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0))
total, used = int(memory.total), int(memory.used)
if count != 1 or total != limit or used > limit:
    sys.exit(f"NVML shows {count} cards, the first with {used} of {total} bytes in use; the limit is {limit}")
print(f"one card with {total >> 20} MiB")
