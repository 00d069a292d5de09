"""The selector ``nice`` of DataFlex: LESS that aims at a reward."""
