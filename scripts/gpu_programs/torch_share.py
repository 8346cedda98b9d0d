"""In a slice: PyTorch computes, sees the slice's memory, and meets its own error at the limit."""

import sys

import torch  # pyright: ignore[reportMissingImports]

limit = int(sys.argv[1])
free, total = torch.cuda.mem_get_info()
if total != limit:
    sys.exit(f"PyTorch sees {total} bytes, and the limit is {limit}")
left = torch.randn(512, 512, device="cuda", dtype=torch.float64)
right = torch.randn(512, 512, device="cuda", dtype=torch.float64)
if not torch.allclose((left @ right).cpu(), left.cpu() @ right.cpu()):
    sys.exit("a matrix product is wrong")
try:
    torch.empty(limit, dtype=torch.uint8, device="cuda")
    sys.exit("memory of the whole limit was given on top of what is held")
except torch.cuda.OutOfMemoryError:
    pass
again = torch.ones(1 << 20, device="cuda").sum().item()
if again != 1 << 20:
    sys.exit("after the refusal the card computes wrongly")
print(f"sees {total >> 20} MiB, computes, is refused cleanly and goes on")
