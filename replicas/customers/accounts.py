"""Accounts and their sessions, as commands change them. Time is the slot's; nothing here reads a clock."""

from hmac import compare_digest
from typing import Final

from replicas.customers import commands as c
from replicas.customers.tables import AccountRow, CustomerTables, LoginRow, Meta, split_time_key, time_key
from ringcast.market.errors import NameTaken, SessionEnded, TooManyAttempts, WrongPassword
from ringcast.market.types import Party

SECOND_US: Final = 1_000_000
#: A session's last use is written so often at most.
USE_US: Final = 60 * SECOND_US
IDLE_MINUTES: Final = 30
#: Of what is written, so that a session lives for 30 idle minutes at least, and 31 at most.
IDLE_US: Final = IDLE_MINUTES * 60 * SECOND_US + USE_US
#: Open sessions of one account; the oldest one ends for the next.
SESSIONS_MAX: Final = 16
#: Wrong passwords in a row that cost nothing; each one more doubles the wait.
FREE_FAILURES: Final = 3
WAIT_US_MAX: Final = 900 * SECOND_US
#: Sessions that one look ends at most because they are idle.
ENDED_MAX: Final = 16

_PREFIXES: Final = {Party.SELLER: "s", Party.BUYER: "b"}


def wait_us(failures: int) -> int:
    """How long an account looks at no password after so many wrong ones in a row (docs/faults.md 61)."""
    beyond = failures - FREE_FAILURES
    return 0 if beyond < 0 else min(WAIT_US_MAX, SECOND_US << min(beyond, 32))


def is_open(login: LoginRow, now_us: int) -> bool:
    """Was it used in time?"""
    return now_us - login.used_us <= IDLE_US


class Accounts:
    """Accounts as one command meets them. Every refusal is raised before anything is changed, but for failures."""

    def __init__(self, tables: CustomerTables, meta: Meta) -> None:
        self._tables = tables
        self._meta = meta

    def create(self, command: c.CreateAccount) -> str:
        tables, meta = self._tables, self._meta
        party, name, salt, key = command
        if tables.account_named(party, name) is not None:
            raise NameTaken(role=party, name=ascii(name))
        meta.accounts += 1
        account = f"{_PREFIXES[Party(party)]}{meta.accounts}"
        tables.put_account(account, AccountRow(party, name, salt, key, meta.time_us, 0, 0, ()))
        tables.name_account(party, name, account)
        return account

    def login(self, command: c.Login) -> str:
        """A wrong password is counted: that is the one refusal that changes something."""
        tables, now_us = self._tables, self._meta.time_us
        party, name, key, session = command
        account = tables.account_named(party, name)
        row = None if account is None else tables.account(account)
        if account is None or row is None:
            raise WrongPassword(role=party)
        check_wait(row.locked_us, now_us)
        if not compare_digest(key, row.key):
            failures = row.failures + 1
            row = row._replace(failures=failures, locked_us=now_us + wait_us(failures))
            tables.put_account(account, row)
            raise WrongPassword(role=party)
        known = tables.login(session)
        if known is not None and known.account != account:
            raise WrongPassword(role=party)  # nobody draws 256 random bits twice: it is somebody else's session
        kept = (session, *(one for one in row.sessions if one != session))
        for one in kept[SESSIONS_MAX:]:
            self._close(one)
        tables.put_account(account, row._replace(failures=0, locked_us=0, sessions=kept[:SESSIONS_MAX]))
        self._use(session, LoginRow(account, party, now_us), known)
        return account

    def logout(self, command: c.Logout) -> None:
        self._end(command.session, self.session(command.session))

    def touch(self, command: c.Touch) -> None:
        self.session(command.session)

    def session(self, session: bytes, party: Party | None = None) -> LoginRow:
        """Whose session it is, and note its use. Raises SessionEnded."""
        login = self._tables.login(session)
        now_us = self._meta.time_us
        if login is None or not is_open(login, now_us) or (party is not None and login.party != party):
            raise SessionEnded(minutes=IDLE_MINUTES)
        if now_us - login.used_us >= USE_US:
            self._use(session, login._replace(used_us=now_us), login)
        return login

    def end_idle(self) -> None:
        """End those that were idle for too long, ENDED_MAX of them."""
        for key in self._tables.keys("idle", b"", limit=ENDED_MAX):
            _, session = split_time_key(key)
            login = self._tables.login(session)
            if login is not None and is_open(login, self._meta.time_us):
                return
            if login is not None:
                self._end(session, login)

    def set_back(self) -> None:
        """The ring's time was set back (D7): sessions that were used in the meantime were used now."""
        now_us = self._meta.time_us
        for key in self._tables.keys("idle", b"", time_key(now_us + 1, b"")):
            session = split_time_key(key)[1]
            login = self._tables.login(session)
            if login is not None:
                self._use(session, login._replace(used_us=now_us), login)

    def _use(self, session: bytes, login: LoginRow, before: LoginRow | None) -> None:
        tables = self._tables
        if before is not None:
            tables.delete("idle", time_key(before.used_us, session))
        tables.put_login(session, login)
        tables.mark("idle", time_key(login.used_us, session))

    def _end(self, session: bytes, login: LoginRow) -> None:
        account = self._tables.account(login.account)
        if account is not None:
            kept = tuple(one for one in account.sessions if one != session)
            self._tables.put_account(login.account, account._replace(sessions=kept))
        self._close(session)

    def _close(self, session: bytes) -> None:
        login = self._tables.login(session)
        if login is not None:
            self._tables.delete("idle", time_key(login.used_us, session))
            self._tables.delete("logins", session)


def check_wait(locked_us: int, now_us: int) -> None:
    """Raises TooManyAttempts while no password is looked at; what is later than that was set before a reset (D7)."""
    if now_us < locked_us <= now_us + WAIT_US_MAX:
        raise TooManyAttempts(seconds=-(-(locked_us - now_us) // SECOND_US))
