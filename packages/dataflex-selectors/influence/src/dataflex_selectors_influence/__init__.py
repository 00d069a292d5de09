"""The selector ``influence`` of DataFlex."""
