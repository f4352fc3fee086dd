from __future__ import annotations

import pytest

from tests.unit.energy.sensors.nvml_stand_in import AMPERE, HOPPER, PASCAL, TURING, VOLTA
from titan_nb.energy.sensors.nvml_models import averages_a_second, sampling

ADA = 8


@pytest.mark.parametrize(
    ("architecture", "name", "duty", "known"),
    [
        (HOPPER, "NVIDIA H100 80GB HBM3", 0.25, True),
        (HOPPER, "NVIDIA GH200 480GB", 0.2, True),
        (AMPERE, "NVIDIA A100-SXM4-40GB", 0.25, True),
        (AMPERE, "NVIDIA A30", 0.25, True),
        (AMPERE, "NVIDIA GeForce RTX 3090", 1.0, True),
        (AMPERE, "NVIDIA RTX A3000", 0.25, False),
        (TURING, "Tesla T4", 1.0, True),
        (VOLTA, "Tesla V100-SXM2-16GB", 0.5, True),
        (PASCAL, "Tesla P100-PCIE-16GB", 0.5, True),
        (ADA, "NVIDIA L40S", 0.25, False),
        (10, "NVIDIA B200", 0.25, False),
        (None, "GPU 0", 0.25, False),
    ],
)
def test_the_part_of_the_time_that_is_seen(
    architecture: int | None, name: str, duty: float, known: bool
) -> None:
    model = sampling(architecture, name)
    assert model.duty == pytest.approx(duty)
    assert model.known is known


@pytest.mark.parametrize(
    ("architecture", "name", "averages"),
    [
        (HOPPER, "NVIDIA H100", True),
        (AMPERE, "NVIDIA RTX A3000", True),
        (AMPERE, "NVIDIA A100-SXM4-40GB", False),
        (TURING, "Tesla T4", False),
        (None, "GPU 0", True),
    ],
)
def test_the_power_usage_is_the_mean_of_a_second_where_nvml_documents_it(
    architecture: int | None, name: str, averages: bool
) -> None:
    assert averages_a_second(architecture, name) is averages
