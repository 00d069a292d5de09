"""The mixer ``loss`` of DataFlex: more of the domains whose training loss is high."""
