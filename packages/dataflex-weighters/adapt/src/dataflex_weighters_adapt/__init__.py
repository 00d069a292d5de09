"""The weighter ``adapt`` of DataFlex: samples count by how near they lie to the eval sets."""
