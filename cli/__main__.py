"""The command's front door: says in one line what is missing when only the client was installed."""

_OURS = frozenset({"broker", "cli", "replicas", "ringcast", "sequencer", "store"})


def main() -> None:
    """Run `ringcast`; exit 1 with one line when the server extra is not installed."""
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


if __name__ == "__main__":
    main()
