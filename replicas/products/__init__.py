"""The product store's replica: the process around a Raft node (replicas/raft) and its tables (store/products)."""
