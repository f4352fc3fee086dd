"""Which cloud region this machine says it is in: from its environment and its DMI files, never the network.

It is a hint. A region variable alone proves nothing, since people set it at home to reach the cloud: it
counts only on a machine that is itself of that provider.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["detect_region"]

_DMI = Path("/sys/class/dmi/id")

# What the firmware of a virtual machine says; the Azure tag is the one that cloud-init goes by.
_FIRMWARE = (
    ("aws", "sys_vendor", "Amazon EC2"),
    ("gcp", "product_name", "Google Compute Engine"),
    ("azure", "chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
)
# What a provider's own container services set; there the firmware may be out of sight.
_SERVICES = (
    ("aws", "AWS_EXECUTION_ENV"),
    ("aws", "ECS_CONTAINER_METADATA_URI_V4"),
    ("azure", "WEBSITE_SITE_NAME"),
)
_REGIONS = {
    "aws": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "azure": ("REGION_NAME",),
    "gcp": ("CLOUD_ML_REGION", "GOOGLE_CLOUD_REGION"),
}
_REGION = re.compile(r"[a-z0-9-]+")


def detect_region(environ: Mapping[str, str] | None = None, dmi: Path = _DMI) -> str | None:
    """Return the cloud region of this machine, such as ``aws:eu-west-1``, or None when nothing says so.

    Args:
        environ: The environment variables; those of this process by default.
        dmi: The folder of the DMI files.
    """
    environ = os.environ if environ is None else environ
    provider = _provider(dmi) or next((name for name, variable in _SERVICES if environ.get(variable)), None)
    if provider is None:
        return None
    for variable in _REGIONS[provider]:
        # Azure's services spell it "West Europe".
        region = environ.get(variable, "").strip().casefold().replace(" ", "")
        if _REGION.fullmatch(region):
            return f"{provider}:{region}"
    return None


@functools.cache  # it is asked for by every cell without a zone, and the machine stays the same
def _provider(dmi: Path) -> str | None:
    for provider, file, expected in _FIRMWARE:
        try:
            found = (dmi / file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):  # no such file, not readable, or no text
            continue
        if found == expected:
            return provider
    return None
