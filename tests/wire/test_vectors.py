"""docs/wire.md shows what the encoder makes, and nothing else."""

import re
from pathlib import Path

import pytest

from ringcast import wire
from ringcast.bus import feed
from ringcast.bus.batch import unpack
from ringcast.bus.cursors import COMMIT, decode_operation
from ringcast.bus.request import decode_batch_headers
from tests.wire.vectors import CLUSTER, INFO, MESSAGES, PACKED, RING, VECTORS

PAGE = (Path(__file__).parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")
SHOWN = {name: bytes.fromhex(body) for name, body in re.findall(r"```vector ([^\n]+)\n([0-9a-f\n]+)```", PAGE)}


def test_the_page_shows_every_vector_and_no_other() -> None:
    assert SHOWN == VECTORS


@pytest.mark.parametrize("name", MESSAGES)
def test_the_page_decodes_to_the_message(name: str) -> None:
    payloads = {"publish": 1, "fetched": 1}.get(name, 0)
    assert wire.decode(SHOWN[name], payloads) == (CLUSTER, RING, MESSAGES[name])


def test_the_feed_of_the_page_decodes() -> None:
    batch = feed.decode([SHOWN["feed frame 0"], SHOWN["feed frame 1"], SHOWN["packed batch"]])
    assert batch == feed.FeedBatch(CLUSTER, RING, INFO, PACKED)
    control = feed.decode([SHOWN["control frame 0"], SHOWN["control frame 1"]])
    assert control == feed.Control(CLUSTER, RING, 43, 41, {"orders.eu": 42})


def test_the_rest_of_the_page_decodes() -> None:
    assert [payload for payload, _ in unpack(SHOWN["packed batch"], 2)] == [b"one", b"three"]
    assert decode_operation(SHOWN["cursor operation"]) == (COMMIT, "billing", "orders.>", 43)
    assert decode_batch_headers(SHOWN["batch headers of a request"])[0].digest == SHOWN["digest of the packed batch"]


def test_the_page_names_every_type_with_its_fields_in_order() -> None:
    for name, message in MESSAGES.items():
        row = next(line for line in PAGE.splitlines() if f"| {name.upper()} |" in line)
        number, _, _, fields = (cell.strip() for cell in row.split("|")[1:5])
        assert wire.encode(CLUSTER, RING, message)[8] == int(number)
        places = [re.search(rf"\b{field}\b", fields) for field in type(message)._fields]
        found = [place.start() for place in places if place]
        assert len(found) == len(places), (fields, type(message)._fields)
        assert found == sorted(found)
