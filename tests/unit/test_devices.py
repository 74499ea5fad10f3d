"""What `auto` chooses."""

import pytest
import torch

from aebench.execution.devices import choose_precision


@pytest.mark.parametrize(
    ("instructions", "device", "expected"),
    [
        ({"avx512_bf16": True}, "cpu", "bf16"),
        ({"amx_bf16": True}, "cpu", "bf16"),
        ({"avx512_f": True, "avx512_bf16": False}, "cpu", "fp32"),
        ({"avx512_bf16": True}, "cuda", "fp32"),
    ],
)
def test_auto_takes_bf16_where_a_cpu_has_it(monkeypatch, instructions, device, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)
    assert choose_precision("auto", torch.device(device)) == expected


def test_auto_is_fp32_where_pytorch_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", torch.device("cpu")) == "fp32"


@pytest.mark.parametrize("wish", ["fp32", "bf16"])
def test_a_wish_is_a_wish(wish):
    assert choose_precision(wish, torch.device("cpu")) == wish
