"""The mixer ``schedule`` of DataFlex: proportions that move along a schedule of steps."""
