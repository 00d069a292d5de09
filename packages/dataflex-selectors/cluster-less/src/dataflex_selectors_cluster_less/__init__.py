"""The selector ``cluster-less`` of DataFlex."""
