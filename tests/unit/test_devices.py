"""The precision that `auto` chooses."""

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
def test_auto_is_bf16_on_a_cpu_with_bf16_instructions(monkeypatch, instructions, device, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)
    assert choose_precision("auto", torch.device(device)) == expected


def test_auto_is_fp32_if_pytorch_does_not_report_capabilities(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", torch.device("cpu")) == "fp32"


@pytest.mark.parametrize("requested", ["fp32", "bf16"])
def test_an_explicit_precision_is_used(requested):
    assert choose_precision(requested, torch.device("cpu")) == requested
