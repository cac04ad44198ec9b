"""The bus replica: the asyncio shell around the protocol core, its disk, its links and its state machines."""
