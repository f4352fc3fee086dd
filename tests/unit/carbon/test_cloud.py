from __future__ import annotations

from pathlib import Path

import pytest

from titan_nb.carbon import tables
from titan_nb.carbon.cloud import detect_region

AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
FIRMWARE = {
    "aws": ("sys_vendor", "Amazon EC2\n"),
    "gcp": ("product_name", "Google Compute Engine\n"),
    "azure": ("chassis_asset_tag", AZURE_TAG + "\n"),
}


def machine(folder: Path, provider: str) -> Path:
    file, text = FIRMWARE[provider]
    (folder / file).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("provider", "environ", "region"),
    [
        ("aws", {"AWS_REGION": "eu-west-1"}, "aws:eu-west-1"),
        ("aws", {"AWS_DEFAULT_REGION": "us-east-1"}, "aws:us-east-1"),
        ("aws", {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"}, "aws:eu-west-1"),
        ("gcp", {"CLOUD_ML_REGION": "europe-west4"}, "gcp:europe-west4"),
        ("gcp", {"GOOGLE_CLOUD_REGION": "us-west1"}, "gcp:us-west1"),
        ("azure", {"REGION_NAME": "West Europe"}, "azure:westeurope"),
    ],
)
def test_firmware_and_a_variable_together_name_the_region(
    tmp_path: Path, provider: str, environ: dict[str, str], region: str
) -> None:
    assert detect_region(environ, machine(tmp_path, provider)) == region
    assert tables.find(region) is not None


@pytest.mark.parametrize(
    ("environ", "region"),
    [
        ({"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE", "AWS_REGION": "eu-north-1"}, "aws:eu-north-1"),
        ({"ECS_CONTAINER_METADATA_URI_V4": "http://x", "AWS_REGION": "sa-east-1"}, "aws:sa-east-1"),
        ({"WEBSITE_SITE_NAME": "site", "REGION_NAME": "North Europe"}, "azure:northeurope"),
    ],
)
def test_a_providers_own_service_counts_without_firmware(
    tmp_path: Path, environ: dict[str, str], region: str
) -> None:
    assert detect_region(environ, tmp_path) == region


@pytest.mark.parametrize("vendor", [None, "LENOVO\n"])
def test_a_region_variable_at_home_says_nothing(tmp_path: Path, vendor: str | None) -> None:
    if vendor is not None:
        (tmp_path / "sys_vendor").write_text(vendor)
    home = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1", "REGION_NAME": "West Europe"}
    assert detect_region(home, tmp_path) is None


def test_the_variable_of_another_provider_says_nothing(tmp_path: Path) -> None:
    assert detect_region({"AWS_REGION": "eu-west-1"}, machine(tmp_path, "gcp")) is None


@pytest.mark.parametrize("value", ["", "  ", "eu-west-1; rm", "../x", "ÄÖ"])
def test_what_is_no_region_is_passed_over(tmp_path: Path, value: str) -> None:
    assert detect_region({"AWS_REGION": value}, machine(tmp_path, "aws")) is None


def test_firmware_that_is_no_text_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "sys_vendor").write_bytes(b"\xff\xfe")
    assert detect_region({"AWS_REGION": "eu-west-1"}, tmp_path) is None


def test_by_default_the_process_itself_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_EXECUTION_ENV", "made up")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert detect_region(dmi=tmp_path) == "aws:eu-west-1"
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    assert detect_region(dmi=tmp_path) is None
