"""The selector ``random`` of DataFlex: uniform draws, the baseline of every selector."""
