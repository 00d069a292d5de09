"""The weighter and the selector ``rho`` of DataFlex: samples count by how far the model lags behind a reference."""
