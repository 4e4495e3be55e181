"""A convolution forward and backward in torch, its numbers checked: what the trainer does, as small as it gets."""

from __future__ import annotations

import importlib
import json
import resource


def main() -> None:
    # By name: no file of the daemon's side imports torch, and this one is only ever run by itself.
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    convolution = torch.nn.Conv2d(1, 1, 3, bias=False)
    torch.nn.init.ones_(convolution.weight)
    made = convolution(torch.ones(1, 1, 4, 4))
    made.sum().backward()
    # Nine ones under every window; every weight has touched four windows.
    exact = bool((made == 9).all()) and bool((convolution.weight.grad == 4).all())
    # Wide enough for the vector instructions of the library behind it, which are the ones that may be missing.
    wide = torch.nn.Sequential(torch.nn.Conv2d(16, 32, 3), torch.nn.BatchNorm2d(32), torch.nn.ReLU())
    wide(torch.randn(8, 16, 16, 16)).square().mean().backward()
    finite = all(bool(torch.isfinite(weight.grad).all()) for weight in wide.parameters())
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"version": str(torch.__version__), "right": exact and finite, "peak_mib": peak_mib}))


if __name__ == "__main__":
    main()
