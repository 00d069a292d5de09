"""The selectors ``lexical`` and ``dsir``: rows whose words are those of the eval set."""
