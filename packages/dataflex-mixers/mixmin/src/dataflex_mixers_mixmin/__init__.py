"""MixMin for DataFlex (Thudi et al. 2025, arXiv 2502.10510).

solve          the mixture of models that gives a target the highest probability; pure
plan, project  ``dataflex mixmin``: models -> log-probabilities -> weights.json -> final
"""
