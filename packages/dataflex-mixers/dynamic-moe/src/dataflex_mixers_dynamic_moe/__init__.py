"""The mixer ``dynamic_moe`` of DataFlex: more of the domains whose tokens go to other experts."""
