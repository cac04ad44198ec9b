"""The marketplace's interface replicas, sellers and buyers: stateless, in front of both databases."""
