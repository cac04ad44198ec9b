"""Exactly once: what a request that comes again gets, and when its session has ended."""

import pytest

from ringcast import errors
from ringcast.product_store.operations import ChangeQuantity, Put, decode_outcome, encode_operation
from ringcast.product_store.types import Stock
from ringcast.product_store.wire import WINDOW, Operate
from store.products.sessions import ENDED_MAX, IDLE_US, USE_US
from tests.products.store import CLIENT, Store, new_client, opened

LAMP = Put("lamp", "ann", "Desk lamp", "home", (), "new", 1_999, 5)
MORE = (encode_operation(ChangeQuantity("lamp", "ann", 1)),)


@pytest.fixture
def lamp(store: Store) -> Store:
    store.do(LAMP)
    return store


def left(store: Store) -> int:
    with store.view() as view:
        found = view.stock("lamp")
    assert isinstance(found, Stock)
    return found.left


def more(store: Store, client: bytes, sequence: int, acknowledged: int = 0, opened: int | None = None) -> int:
    """One unit more, as this request; how many there are then."""
    opened = store.applied if opened is None else opened
    (outcome,) = store.request(Operate(client, sequence, acknowledged, opened, MORE))
    return int(decode_outcome(outcome))


def test_a_request_that_comes_again_gets_its_first_answer(lamp: Store) -> None:
    client, other = new_client(), new_client()
    assert more(lamp, client, 1) == 6
    assert more(lamp, other, 1) == 7
    assert [more(lamp, client, 1), more(lamp, client, 1)] == [6, 6]
    assert left(lamp) == 7


def test_a_refusal_is_remembered_too(lamp: Store) -> None:
    client = new_client()
    less = (encode_operation(ChangeQuantity("lamp", "ann", -6)),)
    for _ in range(2):
        (outcome,) = lamp.request(Operate(client, 1, 0, 0, less))
        with pytest.raises(errors.OutOfStock, match="6 units of item 'lamp' were asked for and 5 are left"):
            decode_outcome(outcome)
        lamp.do(ChangeQuantity("lamp", "ann", 10))


def test_requests_may_come_in_any_order_within_the_window(lamp: Store) -> None:
    client = new_client()
    assert [more(lamp, client, sequence) for sequence in (3, 1, WINDOW, 3)] == [6, 7, 8, 6]
    with pytest.raises(errors.TooLarge, match="unanswered requests"):
        more(lamp, client, WINDOW + 1)
    assert more(lamp, client, WINDOW + 1, acknowledged=1) == 9
    assert left(lamp) == 9


def test_what_was_acknowledged_is_forgotten_and_not_applied_again(lamp: Store) -> None:
    client = new_client()
    for sequence in range(1, 6):
        more(lamp, client, sequence, acknowledged=sequence - 1)
    assert _outcomes(lamp, client) == 1
    with pytest.raises(errors.AlreadyApplied):
        more(lamp, client, 4)
    assert left(lamp) == 10
    assert more(lamp, client, 2**62, acknowledged=2**62 - 1) == 11
    assert more(lamp, client, 2**62 + 1, acknowledged=2**63 - 1) == 12
    assert _outcomes(lamp, client) == 1


def test_another_request_under_the_same_number_is_refused(lamp: Store) -> None:
    client = new_client()
    more(lamp, client, 1)
    with pytest.raises(errors.IdReused):
        lamp.request(Operate(client, 1, 0, 0, MORE * 2))
    assert left(lamp) == 6


def test_an_idle_session_ends_and_its_requests_are_not_applied_again(lamp: Store) -> None:
    client, lively = new_client(), new_client()
    began = lamp.applied
    more(lamp, client, 1, opened=began)
    for sequence in range(1, 3):
        lamp.now_us += IDLE_US // 2 + USE_US
        more(lamp, lively, sequence, opened=began)
    assert _sessions(lamp) == [lively]
    with pytest.raises(errors.SessionExpired):
        more(lamp, client, 1, opened=began)
    assert left(lamp) == 8
    assert more(lamp, lively, 1, opened=began) == 7
    assert more(lamp, client, 1) == 9


def test_a_session_of_the_future_is_refused(lamp: Store) -> None:
    with pytest.raises(errors.SessionExpired):
        more(lamp, new_client(), 1, opened=lamp.applied + 2)


def test_the_least_recently_used_session_makes_room(tmp_path_factory: pytest.TempPathFactory) -> None:
    with opened(tmp_path_factory.mktemp("few"), sessions_max=3) as store:
        store.do(LAMP)
        clients = [CLIENT, *(new_client() for _ in range(3))]
        began = store.applied
        for number, client in enumerate(clients[1:]):
            store.now_us += 2 * USE_US
            more(store, clients[1], number + 10, opened=began)
            more(store, client, 1, opened=began)
        assert sorted(_sessions(store)) == sorted(clients[1:])
        store.now_us += USE_US
        late = new_client()
        with pytest.raises(errors.SessionExpired):
            more(store, CLIENT, 1, opened=0)
        more(store, late, 1)
        assert sorted(_sessions(store)) == sorted([clients[1], clients[3], late])
        units = left(store)
        with pytest.raises(errors.SessionExpired):
            more(store, clients[2], 1, opened=began)
        assert (left(store), _outcomes(store, clients[2])) == (units, 0)


def test_many_idle_sessions_end_a_few_at_a_time(lamp: Store) -> None:
    for _ in range(3 * ENDED_MAX):
        more(lamp, new_client(), 1)
    lamp.now_us += IDLE_US + 1
    lively = new_client()
    for ended in range(1, 4):
        more(lamp, lively, ended)
        assert len(_sessions(lamp)) == 3 * ENDED_MAX + 2 - ended * ENDED_MAX
    more(lamp, lively, 4)
    assert _sessions(lamp) == [lively]


def _sessions(store: Store) -> list[bytes]:
    with store.environment.begin() as transaction:
        clients = [bytes(key) for key, _ in transaction.cursor(store.databases["sessions"])]
        used = [bytes(key)[8:] for key, _ in transaction.cursor(store.databases["used"])]
    assert sorted(clients) == sorted(used)
    with store.view() as view:
        assert view.meta.sessions == len(clients)
    return clients


def _outcomes(store: Store, client: bytes) -> int:
    with store.environment.begin() as transaction:
        return sum(bytes(key).startswith(client) for key, _ in transaction.cursor(store.databases["outcomes"]))
