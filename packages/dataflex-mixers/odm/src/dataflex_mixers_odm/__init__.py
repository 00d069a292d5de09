"""The mixer ``odm`` of DataFlex: online data mixing, by smoothed losses and an exploration that fades."""
