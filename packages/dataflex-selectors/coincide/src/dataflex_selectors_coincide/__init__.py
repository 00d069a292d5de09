"""The selector ``coincide``: some rows of every cluster, more of clusters that are like others and diverse."""
