"""The rules under which titan computes, whatever the user's cell has turned on."""

from __future__ import annotations

import torch

from titan_nb.chat.device import own_rules, resolve


def test_modes_of_the_user_do_not_reach_inside_and_come_back_after() -> None:
    host = resolve("cpu")
    half, weight = torch.bfloat16, torch.ones(2, 2, requires_grad=True)
    with torch.autocast("cpu", dtype=half), torch.inference_mode():
        with own_rules(host):
            inside = weight @ weight
            assert not torch.is_inference_mode_enabled()
        assert torch.is_inference_mode_enabled()
        assert (weight @ weight).dtype == half
    assert inside.dtype == torch.float32
    assert not inside.requires_grad
    assert not inside.is_inference()
    with own_rules(host):
        assert not (weight @ weight).requires_grad
    assert (weight @ weight).requires_grad
