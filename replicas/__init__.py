"""State machines, and the processes that host them."""
