"""The mixer ``aioli`` of DataFlex: short turns that are nearly of one domain, and which losses they lowered."""
