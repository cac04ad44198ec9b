"""The client of the product store, and what travels between it and a replica."""
