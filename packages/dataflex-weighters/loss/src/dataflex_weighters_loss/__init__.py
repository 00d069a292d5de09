"""The weighter ``loss`` of DataFlex: samples count by their own training loss."""
