"""The selector ``cluster_less``: LESS on representatives of clusters of embeddings."""
