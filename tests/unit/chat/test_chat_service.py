"""The service: one device chosen once, components of each chat, and the same results on a GPU."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest
import torch

from tests.fakes.accelerator import install, uninstall
from titan_nb.chat import process_embeddings
from titan_nb.chat import service as service_module
from titan_nb.chat.service import EmbeddingService, create_service
from titan_nb.errors import ChatError, SettingsError


@pytest.fixture
def fake_gpu() -> Iterator[None]:
    gc.collect()
    install(256 << 20)
    held = torch.ones(1, device="fakegpu")
    yield
    del held
    gc.collect()
    uninstall()


def table(count: int = 60, dimension: int = 24, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed))
    return rows * torch.linspace(3, 0.3, dimension)


def test_what_it_says_of_its_work() -> None:
    service = EmbeddingService("cpu")
    done = service.process(table())
    assert torch.equal(done.embeddings, process_embeddings(table()))
    assert (done.codes, done.scales, done.bits, done.explained_variance) == (None, None, None, None)
    assert (done.dimensions, done.device) == (24, "cpu")
    assert done.seconds > 0
    with pytest.raises(ChatError, match="there are no codes"):
        done.dequantize()


@pytest.mark.parametrize("bits", [8, 4, 1])
def test_codes_and_what_they_stand_for(bits: int) -> None:
    options = {"quantization": True, "quantization_bits": bits, "dimension_reduction": 9}
    done = EmbeddingService("cpu").process(table(), options, "a")
    assert done.bits == bits
    assert done.codes is not None
    assert done.codes.shape == (60, {8: 9, 4: 5, 1: 2}[bits])
    assert torch.equal(done.dequantize(), done.embeddings)
    assert done.dimensions == 9


def test_a_chat_keeps_its_components() -> None:
    service = EmbeddingService("cpu")
    first = service.process(table(), {"dimension_reduction": 6}, "a")
    assert 0 < first.explained_variance < 1  # type: ignore[operator]
    again = service.process(table()[:2], {"dimension_reduction": 6}, "a")
    torch.testing.assert_close(again.embeddings, first.embeddings[:2])
    assert again.explained_variance == first.explained_variance
    fewer = service.process(table(), {"dimension_reduction": 2}, "a")
    assert fewer.explained_variance < first.explained_variance  # type: ignore[operator]
    expected = first.embeddings[:, :2] / first.embeddings[:, :2].norm(dim=1, keepdim=True)
    torch.testing.assert_close(fewer.embeddings, expected)
    # Neither the same chat without a reduction, nor another chat, nor a call without one.
    assert service.process(table(), None, "a").dimensions == 24
    other = service.process(table(seed=7), {"dimension_reduction": 6}, "b")
    assert torch.equal(
        other.embeddings, service.process(table(seed=7), {"dimension_reduction": 6}).embeddings
    )


def test_what_does_not_fit_the_components_of_a_chat_is_refused() -> None:
    service = EmbeddingService("cpu")
    with pytest.raises(ChatError, match="there are 3 rows to fit it to"):
        service.process(table(3), {"dimension_reduction": 6}, "a")
    service.process(table(), {"dimension_reduction": 6}, "a")
    with pytest.raises(ChatError, match="is 7, and chat 'a' has 6 principal components"):
        service.process(table(), {"dimension_reduction": 7}, "a")
    with pytest.raises(ChatError, match=r"the rows have 25 numbers, .* belong to rows of 24"):
        service.process(table(dimension=25), {"dimension_reduction": 6}, "a")
    service.forget("a")
    service.forget("never seen")
    assert service.process(table(), {"dimension_reduction": 7}, "a").dimensions == 7
    with pytest.raises(ChatError, match="chat_id is ''"):
        service.process(table(), {"dimension_reduction": 7}, "")


def test_two_first_calls_share_their_components() -> None:
    service = EmbeddingService("cpu")
    done: dict[int, torch.Tensor] = {}

    def work(number: int) -> None:
        service.process(table(seed=number), {"dimension_reduction": 3}, "a")
        done[number] = service.process(table(), {"dimension_reduction": 3}, "a").embeddings

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(done) == 4
    assert all(torch.equal(done[number], done[0]) for number in done)


def test_the_device_is_chosen_once(fake_gpu: None) -> None:
    service = create_service()
    assert service.device == "fakegpu:0"
    assert create_service("cpu").device == "cpu"
    assert create_service("cpu").process(table()).device == "cpu"
    assert service.process(table()).embeddings.device.type == "fakegpu"
    assert create_service("cpu").process(table().to("fakegpu")).device == "fakegpu:0"
    assert service.process(table(), {"device": "cpu"}).device == "cpu"


def test_without_a_gpu_in_use_it_is_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    from titan_nb.chat import process

    monkeypatch.setattr(process, "accelerator", lambda: None)
    assert create_service().device == "cpu"
    with pytest.raises(SettingsError, match="device 'nowhere' cannot be used here"):
        create_service("nowhere")


@pytest.mark.parametrize("reduction", [None, 5])
@pytest.mark.parametrize("bits", [None, 8, 4, 1])
def test_a_gpu_gives_what_the_host_gives(reduction: int | None, bits: int | None, fake_gpu: None) -> None:
    options = {"dimension_reduction": reduction, "quantization": bits is not None, "quantization_bits": bits}
    there = create_service().process(table(), options, "a")
    here = create_service("cpu").process(table(), options, "a")
    assert there.device == "fakegpu:0"
    plain = {"dimension_reduction": reduction}
    unit = create_service("cpu").process(table(), plain, "a").embeddings
    torch.testing.assert_close(
        create_service().process(table(), plain, "a").embeddings.cpu(), unit, atol=1e-6, rtol=0
    )
    assert there.explained_variance == here.explained_variance or there.explained_variance == pytest.approx(
        here.explained_variance, abs=1e-9
    )
    # A number that lies on the border between two codes may get either: one step apart.
    step = 0.0 if here.scales is None else here.scales * (2 if bits == 1 else 1)
    assert ((there.embeddings.cpu() - here.embeddings).abs() <= step + 1e-6).all()
    assert (there.embeddings.cpu() != here.embeddings).float().mean() < (0.02 if bits else 1.0)


def test_its_time_includes_the_work_of_the_gpu(monkeypatch: pytest.MonkeyPatch, fake_gpu: None) -> None:
    waited: list[object] = []
    monkeypatch.setattr(torch.fakegpu, "synchronize", waited.append, raising=False)
    create_service().process(table())
    assert waited == [torch.device("fakegpu", 0)]
    monkeypatch.delattr(torch.fakegpu, "synchronize", raising=False)
    service_module._wait_for(torch.device("fakegpu", 0))
    service_module._wait_for(torch.device("cpu"))
