"""`ringcast demo`: publishers, subscribers, a kill, and the comparison of all orders."""
