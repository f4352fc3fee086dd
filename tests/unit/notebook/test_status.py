from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from titan_nb.energy import Finding
from titan_nb.notebook.verbs import status

RAPL = "sudo chmod -R a+r /sys/class/powercap/intel-rapl*"
FINDINGS = [
    Finding("CPU package", "RAPL counter", False, "this user may not read energy_uj", RAPL),
    Finding(
        "CPU of this process",
        "model",
        True,
        "model: CPU time x rated power per hardware thread (eco2ai); 57 chips match 'AMD EPYC': 1.56 to 11 W",
        grade="modelled",
    ),
    Finding(
        "NVIDIA H100", "NVML energy counter", True, "NVML energy counter of NVIDIA H100", grade="measured"
    ),
    Finding("AMD GPU", "", False, "the search did not answer within 5 s"),
]
FIRST = ["CPU package", "not measured", "RAPL counter: this user may not read energy_uj", RAPL]


def shown(findings: list[Finding]) -> dict[str, Any]:
    published: list[dict[str, Any]] = []
    session: Any = SimpleNamespace(
        tracker=SimpleNamespace(meter=SimpleNamespace(status=lambda: findings)),
        presenter=SimpleNamespace(publish=published.append),
    )
    status(session, None)
    (bundle,) = published
    return bundle


def test_the_text_says_grade_means_reason_and_command_of_each_device() -> None:
    assert shown(FINDINGS)["text/plain"].splitlines() == [
        "What titan can measure here",
        "",
        "CPU package: not measured",
        "    RAPL counter: this user may not read energy_uj",
        f"    to improve: {RAPL}",
        "",
        "CPU of this process: modelled",
        "    CPU time x rated power per hardware thread (eco2ai)",
        "    57 chips match 'AMD EPYC': 1.56 to 11 W",
        "",
        "NVIDIA H100: measured",
        "    NVML energy counter of NVIDIA H100",
        "",
        "AMD GPU: not measured",
        "    the search did not answer within 5 s",
    ]


def test_the_page_and_the_data_say_the_same() -> None:
    bundle = shown(FINDINGS)
    rows = bundle["application/vnd.titan.table+json"]["rows"]
    assert rows[0] == FIRST
    assert rows[2][1] == "measured"
    for word in ("modelled", RAPL, "the search did not answer"):
        assert word in bundle["text/html"]


def test_where_nothing_can_be_improved_there_is_no_column_for_it() -> None:
    bundle = shown(FINDINGS[1:])
    assert bundle["application/vnd.titan.table+json"]["columns"] == ["device", "grade", "how, or why not"]
    assert "to improve" not in bundle["text/html"] + bundle["text/plain"]


def test_a_long_reason_is_wrapped_and_a_long_command_is_not() -> None:
    remedy = "docker run " + "--option " * 20 + "image"
    text = shown([Finding("CPU package", "RAPL counter", False, "hidden " * 20, remedy)])["text/plain"]
    *reason, command = text.splitlines()[3:]
    assert command == f"    to improve: {remedy}"
    assert len(reason) == 2
    assert max(map(len, reason)) <= 96
