"""The selector ``margin`` of DataFlex: pairs of answers by how far the model tells them apart."""
