"""The benchmarks: `python -m benchmarks --data-dir DIR [--json FILE] [parts...]`, from the root of the repository."""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import torch
from platformdirs import user_cache_path

from aebench.execution.devices import cores
from benchmarks import (
    concurrent,
    evaluation,
    freed_memory,
    images_at_once,
    optimizer,
    precision,
    products,
    profile,
    pythae,
    scaling,
    shared_speed,
    start_up,
    training,
    whole_run,
    worker_start,
)

PARTS = {
    "start_up": start_up,
    "worker_start": worker_start,
    "training": training,
    "profile": profile,
    "shared_speed": shared_speed,
    "products": products,
    "optimizer": optimizer,
    "freed_memory": freed_memory,
    "concurrent": concurrent,
    "scaling": scaling,
    "evaluation": evaluation,
    "images_at_once": images_at_once,
    "whole_run": whole_run,
}

ON_DEMAND = {"precision": precision, "pythae": pythae}  # the one takes more than an hour, the other needs an extra


def main() -> None:
    """Run the chosen parts, print their results, and write them to the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", help=f"which of {', '.join(PARTS | ON_DEMAND)}; by default {', '.join(PARTS)}"
    )
    parser.add_argument("--data-dir", type=Path, default=user_cache_path("aebench", appauthor=False), help="MNIST")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeats", type=int, default=3, help="number of measurements of each case")
    parser.add_argument(
        "--epochs",
        type=int,
        default=60,
        help="of `whole_run`, `precision` and `pythae`, and on CUDA of `concurrent`",
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS | ON_DEMAND):
        parser.error(f"no part named {', '.join(sorted(unknown))}")

    results: dict[str, object] = {"machine": machine(options.device)}
    print(", ".join(f"{key}: {value}" for key, value in machine(options.device).items()), flush=True)
    for name in options.parts or PARTS:
        part = (PARTS | ON_DEMAND)[name]
        print(f"\n{(part.__doc__ or name).splitlines()[0]}", flush=True)
        results[name] = part.measure(options)
        if options.json:
            options.json.write_text(json.dumps(results, indent=2))


def machine(device: str) -> dict[str, object]:
    """The device, the number of cores, and the versions of PyTorch and Python."""
    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    return {"device": name, "cores": cores(), "torch": torch.__version__, "python": platform.python_version()}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
