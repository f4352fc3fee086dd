from __future__ import annotations

import pynvml
import pytest

from tests.unit.energy.sensors.nvml_stand_in import Nvml, error
from titan_nb.energy.sensors.nvml_session import NvmlSession, text, trouble
from titan_nb.errors import SensorError


def test_all_who_join_share_one_start_and_the_last_gives_it_back() -> None:
    nvml = Nvml()
    first, second = NvmlSession.join(nvml), NvmlSession.join(nvml)
    assert first is second
    first.hold()
    assert nvml.started == 1
    for _ in range(2):
        first.leave()
        assert nvml.started == 1
    first.leave()
    assert nvml.started == 0
    again = NvmlSession.join(nvml)
    assert again is not first
    again.leave()


def test_two_bindings_have_two_sessions() -> None:
    one, two = Nvml(), Nvml()
    sessions = NvmlSession.join(one), NvmlSession.join(two)
    assert sessions[0] is not sessions[1]
    for session in sessions:
        session.leave()
    assert (one.started, two.started) == (0, 0)


def test_a_start_that_fails_leaves_nothing_behind() -> None:
    nvml = Nvml()
    nvml.fail["nvmlInit"] = error(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    with pytest.raises(SensorError) as caught:
        NvmlSession.join(nvml)
    assert "restart the machine" in caught.value.remedy
    nvml.fail.clear()
    session = NvmlSession.join(nvml)
    assert nvml.started == 1
    session.leave()
    assert nvml.started == 0


def test_a_restart_that_fails_is_made_good_by_the_next() -> None:
    nvml = Nvml()
    session = NvmlSession.join(nvml)
    nvml.fail["nvmlInit"] = error(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    with pytest.raises(SensorError, match="modprobe"):
        session.restart()
    assert session.generation == 0
    nvml.fail.clear()
    session.restart()
    assert (session.generation, nvml.started) == (1, 1)
    session.leave()
    assert nvml.started == 0


def test_a_shutdown_that_fails_hinders_nothing() -> None:
    nvml = Nvml()
    session = NvmlSession.join(nvml)
    nvml.fail["nvmlShutdown"] = error(pynvml.NVML_ERROR_UNINITIALIZED)
    session.restart()
    assert nvml.started == 2
    session.leave()


@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [
        (pynvml.NVML_ERROR_NO_PERMISSION, "NoPermission", "/dev/nvidiactl"),
        (pynvml.NVML_ERROR_GPU_IS_LOST, "GpuIsLost", "restart the machine"),
        (pynvml.NVML_ERROR_FUNCTION_NOT_FOUND, "FunctionNotFound", "update the NVIDIA driver"),
        (pynvml.NVML_ERROR_NOT_SUPPORTED, "NotSupported", ""),
    ],
)
def test_an_error_says_what_failed_and_what_to_do(code: int, kind: str, remedy: str) -> None:
    made = trouble("GPU 0 cannot be read", error(code))
    assert made.kind == kind
    assert remedy in made.remedy
    assert bool(made.remedy) == bool(remedy)
    assert str(made).startswith("GPU 0 cannot be read: ")


def test_bytes_of_old_bindings_are_text() -> None:
    assert text(b"NVIDIA A100") == text("NVIDIA A100") == "NVIDIA A100"
