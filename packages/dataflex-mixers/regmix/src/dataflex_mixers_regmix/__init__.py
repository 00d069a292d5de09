"""RegMix for DataFlex (Liu et al. 2025, arXiv 2407.01492), with the law and the caps of Olmix (arXiv 2602.12237).

draws        mixtures of the small runs
law          loss as a function of the mixture, fitted with SciPy; pure
search       validation on left-out runs, and the mixture where the law is lowest
settings     what is looked for; table: runs.csv; answer_files: weights.json and a plot
"""
