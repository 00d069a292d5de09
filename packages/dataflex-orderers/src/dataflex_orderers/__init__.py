"""The orderers of DataFlex: shuffle, sorting, folding, zigzag, segment, stair and saw.

params      what each takes
patterns    each as a function from a number of places to ranks
orderers    each as a class
plugin      what is handed to DataFlex
"""
