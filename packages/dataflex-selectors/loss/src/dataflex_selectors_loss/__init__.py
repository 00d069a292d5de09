"""The selector ``loss`` of DataFlex: samples are preferred by their loss under the current model."""
