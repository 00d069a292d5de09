"""The mixer ``random`` of DataFlex: random proportions, the baseline of every mixer."""
