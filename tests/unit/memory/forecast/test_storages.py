from __future__ import annotations

import torch

from titan_nb.memory.forecast.storages import Storages


def test_views_count_once_and_a_resize_anew() -> None:
    storages = Storages()
    storages.start({"cpu": 100})
    tensor = torch.zeros(256)
    storages.hold(tensor.untyped_storage(), "cpu")
    view = tensor[:3]
    storages.hold(view.untyped_storage(), "cpu")
    assert storages.now_bytes == {"cpu": 1124}
    tensor.untyped_storage().resize_(2048)
    storages.hold(tensor.untyped_storage(), "cpu")
    assert storages.now_bytes == {"cpu": 2148}
    del tensor
    assert storages.now_bytes == {"cpu": 2148}, "the view is alive"
    del view
    assert storages.now_bytes == {"cpu": 100}
    assert storages.peak_bytes == {"cpu": 2148}


def test_an_accelerator_allocates_whole_blocks() -> None:
    storages = Storages()
    tensors = [torch.zeros(1), torch.zeros(129)]
    for tensor in tensors:
        storages.hold(tensor.untyped_storage(), "cuda:0")
    assert storages.now_bytes == {"cuda:0": 512 + 1024}


def test_what_was_there_before_is_followed_but_not_added() -> None:
    storages = Storages()
    tensor = torch.zeros(256)
    assert storages.follow(tensor.untyped_storage(), "cpu") == 1024
    assert storages.follow(tensor[1:].untyped_storage(), "cpu") == 0
    storages.start({"cpu": 1024})
    storages.hold(tensor.untyped_storage(), "cpu")
    assert storages.now_bytes == storages.peak_bytes == {"cpu": 1024}
    del tensor
    assert storages.now_bytes == {"cpu": 0}


def test_what_stands_for_another_counts_as_nothing_and_keeps_it() -> None:
    storages = Storages()
    real, fake = torch.zeros(256), torch.zeros(256)
    storages.start({"cpu": storages.follow(real.untyped_storage(), "cpu")})
    storages.link(fake.untyped_storage(), real.untyped_storage())
    storages.link(fake.untyped_storage(), real.untyped_storage())
    storages.hold(fake.untyped_storage(), "cpu")
    del real
    assert storages.now_bytes == {"cpu": 1024}
    del fake
    assert storages.now_bytes == {"cpu": 0}
