"""The mixer ``ado`` of DataFlex: adaptive data optimization, by a power law of each domain's training losses."""
