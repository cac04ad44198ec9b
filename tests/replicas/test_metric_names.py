"""docs/operations.md lists every metric that a replica exports, and none that it does not."""

import re
from pathlib import Path

from tests.project.sources import ROOT
from tests.replicas.alone import ROLES, metric_names

_PARTS = re.compile(r"_(bucket|sum|count)$")


async def test_the_documents_list_what_is_exported(tmp_path: Path) -> None:
    exported: set[str] = set()
    for role in ROLES:
        exported |= {name for name in await metric_names(role, tmp_path / role) if name.startswith("ringcast_")}
    exported = {_PARTS.sub("", name) for name in exported}
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    section = text.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`(ringcast_\w+)", section))
    assert listed == exported
