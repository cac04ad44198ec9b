"""The command's front door: says in one line what is missing when only the client was installed."""

import os
import sys

from replicas import supervisor

_OURS = frozenset({"broker", "cli", "replicas", "ringcast", "sequencer", "store"})


def main() -> None:
    """Run `ringcast`; exit 1 with one line when the server extra is not installed.

    A role runs under a supervisor, which forks here: what is imported below is the worker's alone.
    """
    if supervisor.is_wanted(sys.argv[1:], os.environ):
        supervisor.supervise(_list_worker)
    try:
        from cli.app import main as run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing in _OURS:
            raise
        raise SystemExit(
            f"ringcast: the command needs {missing!r}, which is not installed; "
            "get it with: pip install 'ringcast[server]'"
        ) from None
    run()


def _list_worker() -> None:
    from replicas.local.registry import list_worker

    list_worker()


if __name__ == "__main__":
    main()
