"""`ringcast dashboard`: one page that shows what the replicas say, in a browser. It asks and never changes anything."""
